//! Claims: who has a contact, and for how long.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::NaiveDate;
use diesel::sql_types::{Array, BigInt, Date, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::rules::{self, Warning};
use super::{PURPOSE, hold, refused, resource};
use crate::budget::{self, Budget};
use crate::planning::calls::HELD;
use crate::planning::contact::{self, Contact};
use crate::sql::Fix;
use crate::{Conn, Result, Store, StoreError};

/// Claims that are taken back in one transaction.
const BACK_AT_ONCE: i64 = 1_000;

/// Who asks for the next contact, and for which.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Whom contacts are of: the worker, their roles, and nobody (empty).
    pub responsibles: &'a [&'a str],
    /// What the worker can do.
    pub skills: &'a [&'a str],
    /// Codes of plans; all when empty.
    pub plans: &'a [String],
    /// Customer groups; all when empty.
    pub groups: &'a [&'a str],
    /// The first contact date.
    pub first_date: Option<NaiveDate>,
    /// Where contacts without a plan are: the tenant's time zone.
    pub time_zone: &'a str,
}

/// A claim to be made.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// `users/{user}`.
    pub worker: &'a str,
    /// How long it lasts.
    pub seconds: i32,
}

/// A contact in somebody's hands.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The fence.
    pub id: Uuid,
    /// The contact.
    pub contact: Contact,
    /// For people.
    pub customer_name: String,
    /// What is unusual about contacting the customer now.
    pub warnings: Vec<Warning>,
}

/// Why the customer of the contact `m` must not be called, or NULL; over [`looked_up`]. `$2` is the
/// budget's number of contacts, `$3` its days, `$4` the purposes that it leaves out.
fn barred(budgeted: bool) -> String {
    let used_up = match budgeted {
        true => "WHEN used.n >= $2 THEN 'the contact budget is used up'",
        false => "",
    };
    format!(
        "CASE WHEN m.ends_at <= now() THEN 'its last day is over'
              WHEN m.outbound_id = ANY({HELD}) THEN 'its campaign or phase is paused or cancelled'
              WHEN blocked.blocked THEN 'the phone number is blocked'
              WHEN consent.state = 'withdrawn' OR m.outbound_id IS NOT NULL AND consent.state IS NULL
              THEN 'the customer takes no calls: no consent'
              {used_up} END"
    )
}

/// What [`barred`] goes by, contact by contact by whole keys (fenced, see [`crate::launch`]). Calls of a
/// campaign need consent to its purpose; the others are part of a business that there is, and are made
/// until the customer objects.
fn looked_up(budgeted: bool) -> String {
    let contacts = budget::contacts(budget::CONTACT, "$3", "$4");
    let used = format!(
        "LEFT JOIN LATERAL ({contacts} AND coalesce(campaign.purpose, '{PURPOSE}') <> ALL($4)
             OFFSET 0) used ON true"
    );
    let used = if budgeted { &used[..] } else { "" };
    format!(
        "LEFT JOIN LATERAL (SELECT purpose FROM outbound
             WHERE tenant_id = $1 AND id = m.outbound_id OFFSET 0) campaign ON true
         LEFT JOIN LATERAL (SELECT phone FROM plan_entry
             WHERE tenant_id = $1 AND id = m.entry_id OFFSET 0) entry ON true
         LEFT JOIN LATERAL (
             SELECT bool_or(s.channel IS NOT NULL) AS blocked
             FROM (SELECT coalesce(nullif(m.details->>'phone', ''), nullif(entry.phone, ''),
                       (SELECT p.address FROM contact_point p
                        WHERE p.tenant_id = $1 AND p.customer_id = m.customer_id
                          AND p.channel IN ('phone', 'mobile')
                        ORDER BY p.channel DESC, p.position, p.address LIMIT 1)) AS phone
                   OFFSET 0) called
             CROSS JOIN (VALUES ('phone'), ('mobile')) kind (channel)
             LEFT JOIN suppression s ON s.tenant_id = $1 AND s.channel = kind.channel
                  AND s.address_hash = sha256(uuid_send($1) || convert_to(kind.channel, 'UTF8')
                      || '\\x00'::bytea || convert_to(called.phone, 'UTF8'))
             OFFSET 0) blocked ON true
         LEFT JOIN LATERAL (SELECT state FROM consent
             WHERE tenant_id = $1 AND customer_id = m.customer_id AND channel = 'phone'
               AND purpose = coalesce(campaign.purpose, '{PURPOSE}') OFFSET 0) consent ON true
         {used}"
    )
}

/// Hands out the next contact, if there is one: the most important, then the one due the longest.
pub async fn next(
    conn: &mut Conn,
    tenant: TenantId,
    wanted: &Wanted<'_>,
    terms: Terms<'_>,
) -> Result<Option<Claim>> {
    // What is not asked for costs nothing: a statement for each case.
    static SQL: [LazyLock<String>; 4] = [
        LazyLock::new(|| next_sql(false, false)),
        LazyLock::new(|| next_sql(false, true)),
        LazyLock::new(|| next_sql(true, false)),
        LazyLock::new(|| next_sql(true, true)),
    ];
    // Before any row is held.
    let budget = budget::lock(conn, tenant).await?;
    take_back(conn, tenant).await?;
    let case = 2 * usize::from(budget.is_some()) + usize::from(!wanted.groups.is_empty());
    // In the order of the index, and not further than to the first: the planner expects few contacts
    // and would rather gather and sort all that are due.
    diesel::sql_query(
        "SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
                set_config('jit', 'off', true)",
    )
    .fixed()
    .execute(conn)
    .await?;
    let claim = Uuid::now_v7();
    let claimed: Option<Claimed> = diesel::sql_query(&SQL[case][..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Nullable<Integer>, _>(budget.as_ref().map(|b| b.max_contacts))
        .bind::<Integer, _>(budget.as_ref().map_or(1, |b| b.window_days))
        .bind::<Array<Text>, _>(exempt(budget.as_ref()))
        .bind::<Array<Text>, _>(wanted.responsibles)
        .bind::<Array<Text>, _>(wanted.skills)
        .bind::<Array<Text>, _>(wanted.plans)
        .bind::<Array<Text>, _>(wanted.groups)
        .bind::<Nullable<Date>, _>(wanted.first_date)
        .bind::<SqlUuid, _>(claim)
        .bind::<Text, _>(terms.worker)
        .bind::<Integer, _>(terms.seconds)
        .bind::<Text, _>(wanted.time_zone)
        .fixed()
        .get_result(conn)
        .await
        .optional()?;
    match claimed {
        Some(claimed) => load(conn, tenant, claimed.id, claim).await.map(Some),
        None => Ok(None),
    }
}

fn exempt(budget: Option<&Budget>) -> &[String] {
    budget.map_or(&[], |b| &b.exempt_purposes)
}

#[derive(QueryableByName)]
struct Claimed {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// One jump in the index for each responsible and priority, then the first of them that can be had.
///
/// The contact date is today or before, and the clock of the plan shows a time inside of the hours,
/// whatever the day: a contact that nobody came to stays on the list.
fn next_sql(budgeted: bool, grouped: bool) -> String {
    let (looked_up, barred) = (looked_up(budgeted), barred(budgeted));
    let of_group = match grouped {
        true => {
            "JOIN LATERAL (SELECT customer_group FROM customer
                 WHERE tenant_id = $1 AND id = m.customer_id OFFSET 0) customer
                 ON customer.customer_group = ANY($8)"
        }
        false => "",
    };
    format!(
        "WITH RECURSIVE level AS (
             SELECT r.responsible,
                    (SELECT k.priority FROM planned_contact k
                     WHERE k.tenant_id = $1 AND k.responsible = r.responsible
                       AND k.state IN ('open', 'waiting')
                     ORDER BY k.priority DESC LIMIT 1) AS priority
             FROM unnest($5) r (responsible)
             UNION ALL
             SELECT l.responsible,
                    (SELECT k.priority FROM planned_contact k
                     WHERE k.tenant_id = $1 AND k.responsible = l.responsible
                       AND k.state IN ('open', 'waiting') AND k.priority < l.priority
                     ORDER BY k.priority DESC LIMIT 1)
             FROM level l WHERE l.priority IS NOT NULL),
         turn AS MATERIALIZED (
             SELECT l.responsible, l.priority, first.next_at
             FROM level l
             CROSS JOIN LATERAL (
                 SELECT k.next_at FROM planned_contact k
                 WHERE k.tenant_id = $1 AND k.responsible = l.responsible
                   AND k.priority = l.priority AND k.state IN ('open', 'waiting')
                   AND k.next_at <= now()
                 ORDER BY k.next_at LIMIT 1) first),
         due AS MATERIALIZED (
             -- No more is locked than is claimed.
             SELECT d.id
             FROM (SELECT * FROM turn ORDER BY priority DESC, next_at) turn
             CROSS JOIN LATERAL (
                 SELECT m.id
                 FROM planned_contact m
                 LEFT JOIN LATERAL (SELECT time_zone FROM contact_plan
                     WHERE tenant_id = $1 AND code = m.plan_code OFFSET 0) plan ON true
                 {of_group}
                 CROSS JOIN LATERAL (SELECT coalesce(nullif(plan.time_zone, ''), $13) AS name) zone
                 CROSS JOIN LATERAL (SELECT now() AT TIME ZONE zone.name AS time) clock
                 CROSS JOIN LATERAL (
                     SELECT clock.time - make_interval(days => clock.time::date - m.contact_date)
                            AS time) on_date
                 {looked_up}
                 WHERE m.tenant_id = $1 AND m.responsible = turn.responsible
                   AND m.priority = turn.priority AND m.state IN ('open', 'waiting')
                   AND m.next_at <= now() AND m.skills <@ $6
                   -- Passed over before anything is looked up: there may be very many.
                   AND (m.outbound_id IS NULL OR m.outbound_id <> ALL({HELD}))
                   AND (cardinality($7) = 0 OR m.plan_code = ANY($7))
                   AND ($9 IS NULL OR m.contact_date >= $9)
                   -- What was tried already waits for its own time.
                   AND (m.state = 'waiting' OR m.contact_date <= clock.time::date)
                   AND (m.any_time
                        OR on_date.time >= m.window_from AT TIME ZONE zone.name
                       AND on_date.time < m.window_to AT TIME ZONE zone.name)
                   AND {barred} IS NULL
                 ORDER BY m.next_at, m.id LIMIT 1 FOR UPDATE OF m SKIP LOCKED) d
             LIMIT 1)
         UPDATE planned_contact k
         SET state = 'claimed', claimed_by = $11, claim_id = $10,
             claim_until = now() + make_interval(secs => $12), updated_at = now()
         FROM due
         WHERE k.tenant_id = $1 AND k.id = due.id
         RETURNING k.id"
    )
}

/// Hands out this contact; to whoever has it already under another claim.
///
/// # Errors
/// `Missing`; `Refused` when it is over, in somebody else's hands, or the customer must not be called.
pub async fn this(conn: &mut Conn, tenant: TenantId, id: Uuid, terms: Terms<'_>) -> Result<Claim> {
    #[derive(QueryableByName)]
    struct Barred {
        #[diesel(sql_type = Nullable<Text>)]
        reason: Option<String>,
    }
    // Before any row is held.
    let budget = budget::lock(conn, tenant).await?;
    take_back(conn, tenant).await?;
    let standing = hold(conn, tenant, id).await?;
    // Who has it already, and lost what the claim is known by, gets another one.
    if standing.claimed_by.as_deref() != Some(terms.worker) {
        standing.must_be_free(id)?;
        let budgeted = budget.is_some();
        let (looked_up, reason) = (looked_up(budgeted), barred(budgeted));
        let barred: Barred = diesel::sql_query(format!(
            "SELECT {reason} AS reason FROM planned_contact m {looked_up}
             WHERE m.tenant_id = $1 AND m.id = $5"
        ))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Nullable<Integer>, _>(budget.as_ref().map(|b| b.max_contacts))
        .bind::<Integer, _>(budget.as_ref().map_or(1, |b| b.window_days))
        .bind::<Array<Text>, _>(exempt(budget.as_ref()))
        .bind::<SqlUuid, _>(id)
        .get_result(conn)
        .await?;
        if let Some(reason) = barred.reason {
            return Err(refused(id, reason));
        }
    }
    let claim = Uuid::now_v7();
    diesel::sql_query(
        "UPDATE planned_contact
         SET state = 'claimed', claimed_by = $3, claim_id = $4,
             claim_until = now() + make_interval(secs => $5), updated_at = now()
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(terms.worker)
    .bind::<SqlUuid, _>(claim)
    .bind::<Integer, _>(terms.seconds)
    .execute(conn)
    .await?;
    load(conn, tenant, id, claim).await
}

/// Prolongs a claim, from now on.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn extend(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    claim: Uuid,
    seconds: i32,
) -> Result<Claim> {
    hold(conn, tenant, id).await?.must_be_under(id, claim)?;
    diesel::sql_query(
        "UPDATE planned_contact
         SET claim_until = now() + make_interval(secs => $3), updated_at = now()
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Integer, _>(seconds)
    .execute(conn)
    .await?;
    load(conn, tenant, id, claim).await
}

/// What a contact becomes that goes back to the list, or is called off because that was to be done
/// meanwhile.
const FREE: &str = "state = CASE WHEN k.end_reason <> '' THEN 'cancelled'
                                 WHEN k.attempts = 0 THEN 'open' ELSE 'waiting' END,
    next_at = CASE k.end_reason WHEN '' THEN k.next_at END,
    claimed_by = NULL, claim_id = NULL, claim_until = NULL, updated_at = now()";

/// Gives a contact back.
///
/// # Errors
/// `Missing`; `Refused` when the claim is over.
pub async fn release(conn: &mut Conn, tenant: TenantId, id: Uuid, claim: Uuid) -> Result<Contact> {
    hold(conn, tenant, id).await?.must_be_under(id, claim)?;
    diesel::sql_query(format!(
        "UPDATE planned_contact k SET {FREE} WHERE k.tenant_id = $1 AND k.id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

/// Takes back contacts whose claims have run out; gives how many. Those that somebody holds at this
/// moment are left: their claim is being prolonged, or used.
pub async fn take_back(conn: &mut Conn, tenant: TenantId) -> Result<usize> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE planned_contact k SET {FREE}
             FROM (SELECT id FROM planned_contact
                   WHERE tenant_id = $1 AND state = 'claimed' AND claim_until <= now()
                   ORDER BY claim_until LIMIT $2 FOR UPDATE SKIP LOCKED) gone
             WHERE k.tenant_id = $1 AND k.id = gone.id"
        )
    });
    Ok(diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<BigInt, _>(BACK_AT_ONCE)
        .fixed()
        .execute(conn)
        .await?)
}

/// As [`take_back`], all of a tenant's, for those whose people have gone home.
pub async fn take_all_back(store: &Store, tenant: TenantId) -> Result<usize> {
    let mut all = 0;
    loop {
        let mut tx = store.begin_work(tenant).await?;
        let back = take_back(&mut tx, tenant).await?;
        tx.commit().await?;
        all += back;
        if i64::try_from(back).unwrap_or(0) < BACK_AT_ONCE {
            return Ok(all);
        }
    }
}

pub(super) async fn found(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Contact> {
    let contact = contact::get(conn, tenant, id).await?;
    contact.ok_or_else(|| StoreError::Missing(resource(id)))
}

/// A contact under a claim that was just made or prolonged.
async fn load(conn: &mut Conn, tenant: TenantId, id: Uuid, claim: Uuid) -> Result<Claim> {
    #[derive(QueryableByName)]
    struct Name {
        #[diesel(sql_type = Text)]
        name: String,
    }
    let standing = hold(conn, tenant, id).await?;
    let name: Name = diesel::sql_query(
        "SELECT coalesce(nullif(company_name, ''), concat_ws(' ', nullif(first_name, ''),
                nullif(last_name, ''))) AS name
         FROM customer WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(standing.customer_id)
    .fixed()
    .get_result(conn)
    .await?;
    Ok(Claim {
        id: claim,
        contact: found(conn, tenant, id).await?,
        customer_name: name.name,
        warnings: rules::warnings(&standing)?,
    })
}
