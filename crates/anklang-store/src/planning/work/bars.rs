//! Whether a contact may be made now: SQL over a planned contact `m`, looked up by whole keys (fenced, see
//! [`crate::launch`]).

use std::sync::LazyLock;

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use super::PURPOSE;
use super::rules::{self, Closed, NAMED_TIME_MINUTES};
use crate::budget::{self, Budget};
use crate::planning::calls::HELD;
use crate::planning::contact::phone;
use crate::sql::Fix;
use crate::units::CLAIM_LEFT;
use crate::{Conn, Result};

/// So long a contact is put aside whose customer must not be called.
const ASIDE_MINUTES: u32 = 60;
/// The same, when that is because somebody has the customer on the phone.
const IN_HAND_MINUTES: u32 = 1;

/// What is known before contacts are looked at.
pub(super) struct Desk<'a> {
    pub(super) tenant: TenantId,
    /// The tenant's time zone: where contacts without a plan are.
    pub(super) zone: &'a str,
    pub(super) now: chrono::DateTime<chrono::Utc>,
    pub(super) budget: Option<Budget>,
    /// Plans without work today, once they were asked for.
    closed: Option<Closed>,
    /// Whether claims have run out.
    pub(super) silent: bool,
}

/// A [`Desk`] as the tenant `$1` has it.
pub(super) static DESK: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT now() AS now, b.max_contacts, b.window_days, b.exempt_purposes,
                EXISTS (SELECT FROM planned_contact WHERE tenant_id = $1 AND state = 'claimed'
                          AND claim_until <= now())
                OR EXISTS (SELECT FROM planned_contact k WHERE k.tenant_id = $1 AND k.state = 'claimed'
                             AND {CLAIM_LEFT}) AS silent
         FROM (VALUES (1)) always
         LEFT JOIN contact_budget b ON b.tenant_id = $1"
    )
});

/// What [`DESK`] gives.
#[derive(QueryableByName)]
pub(super) struct DeskRow {
    #[diesel(sql_type = Timestamptz)]
    now: chrono::DateTime<chrono::Utc>,
    #[diesel(sql_type = Bool)]
    silent: bool,
    #[diesel(sql_type = Nullable<Integer>)]
    max_contacts: Option<i32>,
    #[diesel(sql_type = Nullable<Integer>)]
    window_days: Option<i32>,
    #[diesel(sql_type = Nullable<Array<Text>>)]
    exempt_purposes: Option<Vec<String>>,
}

impl DeskRow {
    pub(super) fn of(self, tenant: TenantId, zone: &str) -> Desk<'_> {
        let limits = self.max_contacts.zip(self.window_days);
        let budget = limits.map(|(max_contacts, window_days)| Budget {
            max_contacts,
            window_days,
            exempt_purposes: self.exempt_purposes.unwrap_or_default(),
        });
        Desk {
            tenant,
            zone,
            now: self.now,
            budget,
            closed: None,
            silent: self.silent,
        }
    }
}

impl<'a> Desk<'a> {
    /// Reads the tenant's budget, and takes turns. So this comes before any row is held.
    pub(super) async fn open(conn: &mut Conn, tenant: TenantId, zone: &'a str) -> Result<Self> {
        let row: DeskRow = diesel::sql_query(&DESK[..])
            .bind::<SqlUuid, _>(tenant.0)
            .fixed()
            .get_result(conn)
            .await?;
        let desk = row.of(tenant, zone);
        desk.take_turn(conn).await?;
        Ok(desk)
    }

    /// Waits, where there is a budget, for who claimed under it before.
    pub(super) async fn take_turn(&self, conn: &mut Conn) -> Result<()> {
        match self.budget {
            Some(_) => budget::take_turn(conn, self.tenant).await,
            None => Ok(()),
        }
    }

    /// Finds out which plans have no work today.
    pub(super) async fn learn_closed(&mut self, conn: &mut Conn) -> Result<()> {
        if self.closed.is_none() {
            let closed = rules::closed(conn, self.tenant, self.zone, self.now).await?;
            self.closed = Some(closed);
        }
        Ok(())
    }

    pub(super) fn max_contacts(&self) -> Option<i32> {
        self.budget.as_ref().map(|b| b.max_contacts)
    }

    pub(super) fn window_days(&self) -> i32 {
        self.budget.as_ref().map_or(1, |b| b.window_days)
    }

    pub(super) fn exempt(&self) -> &[String] {
        self.budget.as_ref().map_or(&[], |b| &b.exempt_purposes)
    }

    pub(super) fn closed_calendars(&self) -> &[String] {
        self.closed.as_ref().map_or(&[], |c| &c.calendars)
    }

    pub(super) fn closed_zones(&self) -> &[String] {
        self.closed.as_ref().map_or(&[], |c| &c.zones)
    }
}

/// Binds what [`verdict`] goes by.
macro_rules! bind_desk {
    ($query:expr, $desk:expr) => {
        $query
            .bind::<Text, _>($desk.zone)
            .bind::<Nullable<Integer>, _>($desk.max_contacts())
            .bind::<Integer, _>($desk.window_days())
            .bind::<Array<Text>, _>($desk.exempt())
            .bind::<Array<Text>, _>($desk.closed_calendars())
            .bind::<Array<Text>, _>($desk.closed_zones())
    };
}
pub(super) use bind_desk;

/// Why the customer must not be called, as further cases of a `CASE`; over [`looked_up`]. `max` is the bind
/// of the budget's number of contacts; none without a budget.
pub(super) fn barred(max: Option<&str>) -> String {
    let used_up = max.map(|max| format!("WHEN used.n >= {max} THEN 'budget_used_up'"));
    format!(
        "WHEN blocked.blocked THEN 'number_blocked'
         WHEN consent.state = 'withdrawn' OR m.outbound_id IS NOT NULL AND consent.state IS NULL
         THEN 'no_consent'
         {}",
        used_up.unwrap_or_default()
    )
}

/// The same for people, and why a contact of a campaign is not made.
pub(super) fn why(barred: &str) -> &'static str {
    match barred {
        "ended" => "its last day is over",
        "held" => "its campaign or phase is paused or cancelled, or waits for an approval",
        "number_blocked" => "the phone number is blocked",
        "no_consent" => "the customer takes no calls: no consent",
        _ => "the contact budget is used up",
    }
}

/// What [`barred`] goes by. Calls of a campaign need consent to its purpose; the others are part of a
/// business that there is, and are made until the customer objects. `budget` are the binds of its days and of
/// the purposes that it leaves out.
pub(super) fn looked_up(budget: Option<(&str, &str)>) -> String {
    let used = budget.map(|(days, exempt)| {
        let contacts = budget::contacts_besides(budget::CONTACT, days, exempt);
        format!(
            "LEFT JOIN LATERAL ({contacts} AND coalesce(campaign.purpose, '{PURPOSE}') <> ALL({exempt})
                 OFFSET 0) used ON true"
        )
    });
    let phone = phone!("$1", "m", "entry.phone");
    format!(
        "LEFT JOIN LATERAL (SELECT purpose FROM outbound
             WHERE tenant_id = $1 AND id = m.outbound_id OFFSET 0) campaign ON true
         LEFT JOIN LATERAL (SELECT phone FROM plan_entry
             WHERE tenant_id = $1 AND id = m.entry_id OFFSET 0) entry ON true
         LEFT JOIN LATERAL (
             SELECT bool_or(s.channel IS NOT NULL) AS blocked
             FROM (SELECT {phone} AS phone OFFSET 0) called
             CROSS JOIN (VALUES ('phone'), ('mobile')) kind (channel)
             LEFT JOIN suppression s ON s.tenant_id = $1 AND s.channel = kind.channel
                  AND s.address_hash = sha256(uuid_send($1) || convert_to(kind.channel, 'UTF8')
                      || '\\x00'::bytea || convert_to(called.phone, 'UTF8'))
             OFFSET 0) blocked ON true
         LEFT JOIN LATERAL (SELECT state FROM consent
             WHERE tenant_id = $1 AND customer_id = m.customer_id AND channel = 'phone'
               AND purpose = coalesce(campaign.purpose, '{PURPOSE}') OFFSET 0) consent ON true
         {}",
        used.unwrap_or_default()
    )
}

/// `verdict`: why the contact is not made now (`reason`, or NULL), and until when not (`until`). The binds from
/// `$n` on are those of [`bind_desk`].
///
/// The clock of the plan shows a time inside of the hours, whatever the day: a contact that nobody came to
/// stays on the list. Only such leftovers are looked at for whether their plan works today and the customer is
/// not inactive; the others were planned for their day, or named by the customer.
pub(super) fn verdict(budgeted: bool, n: usize) -> String {
    let bind = |i: usize| format!("${}", n + i);
    let (zone, max, days, exempt) = (bind(0), bind(1), bind(2), bind(3));
    let (calendars, zones) = (bind(4), bind(5));
    let looked_up = looked_up(budgeted.then_some((&days, &exempt)));
    let barred = barred(budgeted.then_some(&max));
    let in_hand = match budgeted {
        true => {
            format!(
                "WHEN why.reason = 'budget_used_up' AND used.n - used.in_hand < {max}
                 THEN now() + interval '{IN_HAND_MINUTES} minutes'"
            )
        }
        false => String::new(),
    };
    format!(
        "LEFT JOIN LATERAL (SELECT time_zone, calendar_id FROM contact_plan
             WHERE tenant_id = $1 AND code = m.plan_code OFFSET 0) plan ON true
         CROSS JOIN LATERAL (SELECT coalesce(nullif(plan.time_zone, ''), {zone}) AS name) zone
         CROSS JOIN LATERAL (SELECT now() AT TIME ZONE zone.name AS time) clock
         CROSS JOIN LATERAL (
             SELECT clock.time::date AS day, m.contact_date < clock.time::date AS is_later,
                    (m.window_from AT TIME ZONE zone.name) + since.days AS opens,
                    (m.window_to AT TIME ZONE zone.name) + since.days AS closes,
                    m.any_time AND now() < m.next_at + interval '{NAMED_TIME_MINUTES} minutes' AS named
             FROM (SELECT make_interval(days => clock.time::date - m.contact_date) AS days) since) today
         {looked_up}
         CROSS JOIN LATERAL (
             SELECT CASE
                 WHEN m.ends_at <= now() THEN 'ended'
                 WHEN m.outbound_id = ANY({HELD}) THEN 'held'
                 -- What was tried already waits for its own time.
                 WHEN NOT today.named AND (m.state = 'open' AND m.contact_date > today.day
                      OR clock.time < today.opens OR clock.time >= today.closes)
                 THEN 'outside_window'
                 WHEN NOT today.named AND today.is_later AND EXISTS (
                     SELECT FROM unnest({calendars}, {zones}) c (calendar, zone)
                     WHERE c.calendar = plan.calendar_id AND c.zone = plan.time_zone)
                 THEN 'no_workday'
                 WHEN NOT today.named AND today.is_later AND EXISTS (
                     SELECT FROM inactive_period p
                     WHERE p.tenant_id = $1 AND p.customer_id = m.customer_id
                       AND p.day_type = 'contact' AND today.day BETWEEN p.first_day AND p.last_day
                       AND (p.weekdays = '{{}}'
                            OR extract(isodow FROM today.day)::smallint = ANY(p.weekdays)))
                 THEN 'customer_inactive'
                 {barred} END AS reason) why
         CROSS JOIN LATERAL (
             SELECT why.reason, CASE
                 WHEN why.reason = 'outside_window' THEN greatest(
                     (today.opens + CASE WHEN clock.time < today.opens THEN interval '0'
                                         ELSE interval '1 day' END) AT TIME ZONE zone.name,
                     -- Where clocks are put forward or back over its beginning.
                     now() + interval '1 minute')
                 WHEN why.reason IN ('no_workday', 'customer_inactive')
                 THEN (today.day + 1)::timestamp AT TIME ZONE zone.name
                 -- Until its campaign goes on: see `put_back`.
                 WHEN why.reason = 'held' THEN now() + interval '1 day'
                 {in_hand}
                 ELSE now() + interval '{ASIDE_MINUTES} minutes' END AS until) verdict"
    )
}
