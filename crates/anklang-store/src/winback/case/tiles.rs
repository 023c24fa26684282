//! The six tiles: what lies on them, and how that has changed.
//!
//! One pass counts the cases as they lie now, those that are new apart. What lay elsewhere then follows from the
//! first thing that moved it since, and what nothing moved lies where it lay, but for reminders that have
//! become due. So of the events only those of that time are read, and only what they moved is looked up.

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Date, Integer, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;

use crate::sql::without_jit;
use crate::{Conn, Result};

/// Cases that are alike.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Group {
    /// The state of the tile that they lie on, or lay on; `waiting` for reminders that are not due.
    #[diesel(sql_type = Text)]
    pub tile: String,
    /// Whether they are on it now; else they have left it, or have come to it, since then.
    #[diesel(sql_type = Bool)]
    pub is_there: bool,
    /// How often they count as a change: 1 for what has come, −1 for what has left.
    #[diesel(sql_type = Integer)]
    pub change: i32,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// What is at stake of those in the currency, now.
    #[diesel(sql_type = Numeric)]
    pub at_stake: Decimal,
}

/// The moments that are compared, with the tenant's days of them.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// Now.
    pub today: NaiveDate,
    /// Then.
    pub since: DateTime<Utc>,
    /// Its day.
    pub since_day: NaiveDate,
}

/// All cases by tile, and what has changed; sums in one currency.
pub async fn groups(
    conn: &mut Conn,
    tenant: TenantId,
    at: Moments,
    currency: &str,
) -> Result<Vec<Group>> {
    without_jit(conn).await?;
    Ok(diesel::sql_query(
        "WITH moved AS MATERIALIZED (
             SELECT DISTINCT ON (case_id) case_id, from_state
             FROM winback_case_event
             WHERE tenant_id = $1 AND created_at > $3 AND kind <> 'opened' AND kind <> 'remark'
             ORDER BY case_id, created_at, id),
         -- What was there then, with its tile and where it was.
         placed AS (
             SELECT k.state, k.due_on, m.from_state AS state_then,
                    -- The day of a reminder is that of the last one until then.
                    CASE m.from_state WHEN 'reminder' THEN
                        (SELECT (e.detail->>'due_date')::date FROM winback_case_event e
                         WHERE e.tenant_id = $1 AND e.case_id = m.case_id
                           AND e.kind IN ('reminder', 'moved') AND e.detail ? 'due_date'
                           AND e.created_at <= $3
                         ORDER BY e.created_at DESC, e.id DESC LIMIT 1) END AS due_then,
                    k.at_stake, k.currency
             FROM moved m
             JOIN winback_case k ON k.tenant_id = $1 AND k.id = m.case_id
                  -- As an array: looked up by the whole key, whatever the planner expects.
                  AND k.id = ANY(ARRAY(SELECT case_id FROM moved))
             WHERE k.created_at <= $3
             UNION ALL
             SELECT k.state, k.due_on, k.state, k.due_on, k.at_stake, k.currency
             FROM winback_case k
             WHERE k.tenant_id = $1 AND k.state = 'reminder' AND k.due_on > $4 AND k.due_on <= $2
               AND k.created_at <= $3
               AND NOT EXISTS (SELECT FROM moved m WHERE m.case_id = k.id)),
         alike AS (
             SELECT state, due_on > $2 AS waits, true AS is_there,
                    CASE WHEN created_at > $3 THEN 1 ELSE 0 END AS change,
                    count(*) AS n, sum(at_stake) FILTER (WHERE currency = $5) AS at_stake
             FROM winback_case WHERE tenant_id = $1
             GROUP BY 1, 2, 4
             UNION ALL
             SELECT state, due_on > $2, false, 1, count(*),
                    sum(at_stake) FILTER (WHERE currency = $5)
             FROM placed GROUP BY 1, 2
             UNION ALL
             SELECT state_then, due_then > $4, false, -1, count(*),
                    sum(at_stake) FILTER (WHERE currency = $5)
             FROM placed GROUP BY 1, 2)
         SELECT CASE WHEN state = 'reminder' AND waits THEN 'waiting' ELSE state END AS tile,
                is_there, change, n AS count, coalesce(at_stake, 0) AS at_stake
         FROM alike",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Date, _>(at.today)
    .bind::<Timestamptz, _>(at.since)
    .bind::<Date, _>(at.since_day)
    .bind::<Text, _>(currency)
    .load(conn)
    .await?)
}
