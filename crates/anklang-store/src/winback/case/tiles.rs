//! The six tiles: what lies on them, and how that has changed.
//!
//! One pass over the cases groups them by the tile that they lie on and the one that they lay on then; a
//! change is the difference of two sums over the same groups. Where a case lay then follows from the first
//! thing that moved it since: what did not move it in that time lies where it lay. So of the events only
//! those of that time are read.

use anklang_domain::TenantId;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Date, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;

use crate::{Conn, Result};

/// Cases that lie on the same tile and lay on the same tile.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Group {
    /// The state of the tile that they lie on; `waiting` for reminders that are not due.
    #[diesel(sql_type = Text)]
    pub tile: String,
    /// The one then; `None` when they were not there.
    #[diesel(sql_type = Nullable<Text>)]
    pub before: Option<String>,
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

/// All cases by tile now and then; sums in one currency.
pub async fn groups(
    conn: &mut Conn,
    tenant: TenantId,
    at: Moments,
    currency: &str,
) -> Result<Vec<Group>> {
    Ok(diesel::sql_query(
        "WITH moved AS (
             SELECT DISTINCT ON (case_id) case_id, from_state
             FROM winback_case_event
             WHERE tenant_id = $1 AND created_at > $3 AND kind <> 'opened' AND kind <> 'remark'
             ORDER BY case_id, created_at, id),
         before AS (
             SELECT m.case_id, m.from_state AS state,
                    -- The day of a reminder is that of the last one until then.
                    CASE m.from_state WHEN 'reminder' THEN
                        (SELECT (e.detail->>'due_date')::date FROM winback_case_event e
                         WHERE e.tenant_id = $1 AND e.case_id = m.case_id AND e.kind = 'reminder'
                           AND e.created_at <= $3
                         ORDER BY e.created_at DESC, e.id DESC LIMIT 1) END AS due_on
             FROM moved m)
         SELECT tile, before, count(*) AS count,
                coalesce(sum(at_stake) FILTER (WHERE currency = $5), 0) AS at_stake
         FROM (SELECT CASE WHEN k.state = 'reminder' AND k.due_on > $2 THEN 'waiting'
                           ELSE k.state END AS tile,
                      CASE WHEN k.created_at > $3 THEN NULL
                           WHEN coalesce(b.state, k.state) = 'reminder'
                            AND CASE WHEN b.case_id IS NULL THEN k.due_on ELSE b.due_on END > $4
                           THEN 'waiting'
                           ELSE coalesce(b.state, k.state) END AS before,
                      k.at_stake, k.currency
               FROM winback_case k
               LEFT JOIN before b ON b.case_id = k.id
               WHERE k.tenant_id = $1) placed
         GROUP BY tile, before",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Date, _>(at.today)
    .bind::<Timestamptz, _>(at.since)
    .bind::<Date, _>(at.since_day)
    .bind::<Text, _>(currency)
    .load(conn)
    .await?)
}
