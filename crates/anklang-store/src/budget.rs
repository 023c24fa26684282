//! The contact budget: at most so many contacts of a customer within so many days, all channels and
//! campaigns together.
//!
//! It is looked at twice: when an audience is frozen, where what is queued or to be called for a campaign
//! counts as well, and when messages and contacts are claimed, which decides. Claims of a tenant with a budget take turns (`lock`), so
//! that two of them do not each give a customer its last contact.

use anklang_domain::{PhaseId, TenantId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::hold::{Held, hold};
use crate::launch::AudienceOf;
use crate::planning::work::PURPOSE;
use crate::sql::Fix;
use crate::{Conn, Result};

/// Why a message is not sent when its customer's budget is used up.
pub(crate) const USED_UP: &str = "the contact budget is used up";

/// A tenant's contact budget.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Budget {
    /// At most so many contacts, 1–1,000.
    #[diesel(sql_type = Integer)]
    pub max_contacts: i32,
    /// Within so many days back from now, 1–366.
    #[diesel(sql_type = Integer)]
    pub window_days: i32,
    /// Messages for these purposes neither count nor are held back.
    #[diesel(sql_type = Array<Text>)]
    pub exempt_purposes: Vec<String>,
}

const SELECT: &str =
    "SELECT max_contacts, window_days, exempt_purposes FROM contact_budget WHERE tenant_id = $1";

/// How many contacts the customer of `m` has had, `n`: messages that reached it, may have, or are on
/// their way; calls in which somebody spoke to it, or may do so just now (`in_hand`). `$1` is the tenant;
/// `{days}` and `{exempt}` are those of the budget.
pub(crate) fn contacts(states: &str, days: &str, exempt: &str) -> String {
    contacts_at("now()", states, days, exempt, "", "")
}

/// ` UNION ALL …`: calls of campaigns that are planned, as messages are that are queued. Those of plans
/// are not counted before they are made: they are planned for weeks ahead. Nor are those of the phase
/// `earlier`, whose calls asked for this one.
fn planned(exempt: &str, earlier: &str) -> String {
    format!(
        "UNION ALL
             SELECT false FROM planned_contact u
             JOIN outbound o ON o.tenant_id = u.tenant_id AND o.id = u.outbound_id
             WHERE u.tenant_id = $1 AND u.customer_id = m.customer_id
               AND u.state IN ('open', 'waiting') AND o.purpose <> ALL({exempt})
               AND o.phase_id IS DISTINCT FROM {earlier}"
    )
}

/// As [`contacts`] for the planned contact `m`, which the calls that asked for it do not bar.
pub(crate) fn contacts_besides(states: &str, days: &str, exempt: &str) -> String {
    let besides = "AND NOT (u.contact_id = m.id AND u.outcome_class = 'call_later')";
    contacts_at("now()", states, days, exempt, besides, "")
}

/// `besides` leaves attempts out, `more` adds contacts.
fn contacts_at(
    now: &str,
    states: &str,
    days: &str,
    exempt: &str,
    besides: &str,
    more: &str,
) -> String {
    format!(
        "SELECT count(*) AS n, count(*) FILTER (WHERE u.in_hand) AS in_hand FROM (
             SELECT false AS in_hand FROM message u
             WHERE u.tenant_id = $1 AND u.customer_id = m.customer_id AND u.state IN ({states})
               AND coalesce(u.sent_at, u.updated_at) > {now} - make_interval(days => {days})
               AND u.purpose <> ALL({exempt}) AND u.notice IS NULL
             UNION ALL
             SELECT false FROM contact_attempt u
             WHERE u.tenant_id = $1 AND u.customer_id = m.customer_id
               AND u.outcome_class IN ('done', 'order_taken', 'call_later')
               AND u.recorded_at > {now} - make_interval(days => {days})
               AND u.purpose <> ALL({exempt}) {besides}
             UNION ALL
             SELECT true FROM planned_contact u
             LEFT JOIN outbound o ON o.tenant_id = u.tenant_id AND o.id = u.outbound_id
             WHERE u.tenant_id = $1 AND u.customer_id = m.customer_id AND u.state = 'claimed'
               AND coalesce(o.purpose, '{PURPOSE}') <> ALL({exempt})
             {more}) u
         WHERE true"
    )
}

/// States of messages that reached the customer, may have, or are on their way.
pub(crate) const CONTACT: &str = "'sending', 'sent', 'delivered', 'bounced', 'ambiguous'";

/// The tenant's budget, if it has one.
pub async fn get(mut conn: &Conn, tenant: TenantId) -> Result<Option<Budget>> {
    let found = diesel::sql_query(SELECT)
        .bind::<SqlUuid, _>(tenant.0)
        .fixed()
        .get_result(&mut conn)
        .await;
    Ok(found.optional()?)
}

/// Sets the tenant's budget, or takes it away.
pub async fn set(conn: &mut Conn, tenant: TenantId, budget: Option<&Budget>) -> Result<()> {
    hold(conn, tenant, Held::ContactBudget).await?;
    let Some(budget) = budget else {
        diesel::sql_query("DELETE FROM contact_budget WHERE tenant_id = $1")
            .bind::<SqlUuid, _>(tenant.0)
            .execute(conn)
            .await?;
        return Ok(());
    };
    diesel::sql_query(
        "INSERT INTO contact_budget (tenant_id, max_contacts, window_days, exempt_purposes)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id) DO UPDATE
         SET max_contacts = excluded.max_contacts, window_days = excluded.window_days,
             exempt_purposes = excluded.exempt_purposes, updated_at = now()",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Integer, _>(budget.max_contacts)
    .bind::<Integer, _>(budget.window_days)
    .bind::<Array<Text>, _>(&budget.exempt_purposes)
    .execute(conn)
    .await?;
    Ok(())
}

/// The tenant's budget, if it has one; who claims under it then waits for who did before.
pub(crate) async fn lock(conn: &mut Conn, tenant: TenantId) -> Result<Option<Budget>> {
    let budget = get(conn, tenant).await?;
    if budget.is_some() {
        take_turn(conn, tenant).await?;
    }
    Ok(budget)
}

/// Waits for who claimed under the tenant's budget before.
pub(crate) async fn take_turn(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('contact budget ' || $1::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

/// Leaves out the members of a fresh audience whose customers' budget does not suffice, the first
/// contracts of a customer going first. Counts back from `now`. `earlier` is the phase to whose reactions
/// the audience belongs.
pub(crate) async fn exclude(
    conn: &mut Conn,
    tenant: TenantId,
    of: AudienceOf,
    purpose: &str,
    earlier: Option<PhaseId>,
    now: DateTime<Utc>,
) -> Result<()> {
    let Some(budget) = get(conn, tenant).await? else {
        return Ok(());
    };
    if budget.exempt_purposes.iter().any(|p| p == purpose) {
        return Ok(());
    }
    // By whole keys, see `Store::begin_work`; what comes before, the criteria, is planned by values.
    // The members are of this transaction, so that their places do not change.
    diesel::sql_query("SELECT set_config('plan_cache_mode', 'force_generic_plan', true)")
        .execute(conn)
        .await?;
    let (candidates, key) = (of.candidates(), of.key());
    let queued = format!("{CONTACT}, 'queued'");
    let contacts = contacts_at("$6", &queued, "$4", "$5", "", &planned("$5", "$7"));
    diesel::sql_query(format!(
        "UPDATE {candidates} a SET exclusion = 'frequency_cap'
         FROM (SELECT m.ctid AS place, used.n + row_number() OVER (PARTITION BY m.customer_id ORDER BY m.seq) AS nth
               FROM {candidates} m
               CROSS JOIN LATERAL ({contacts} OFFSET 0) used
               WHERE m.tenant_id = $1 AND m.{key} = $2 AND m.exclusion IS NULL) r
         WHERE a.tenant_id = $1 AND a.{key} = $2 AND a.ctid = r.place AND r.nth > $3"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(of.id())
    .bind::<Integer, _>(budget.max_contacts)
    .bind::<Integer, _>(budget.window_days)
    .bind::<Array<Text>, _>(&budget.exempt_purposes)
    .bind::<Timestamptz, _>(now)
    .bind::<Nullable<SqlUuid>, _>(earlier.map(|phase| phase.0))
    .execute(conn)
    .await?;
    Ok(())
}

/// How many contacts a customer has had within the budget's days, not counting exempt purposes.
pub async fn used(
    conn: &mut Conn,
    tenant: TenantId,
    customer: uuid::Uuid,
    budget: &Budget,
) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let contacts = contacts(CONTACT, "$3", "$4");
    let row: Row = diesel::sql_query(format!(
        "SELECT used.n FROM (SELECT $2::uuid AS customer_id) m CROSS JOIN LATERAL ({contacts}) used"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Integer, _>(budget.window_days)
    .bind::<Array<Text>, _>(&budget.exempt_purposes)
    .get_result(conn)
    .await?;
    Ok(row.n)
}
