//! Messages that are due outside of their account's sending hours: they wait until these begin.

use anklang_domain::TenantId;
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;

use crate::sql::Fix;
use crate::{Conn, Result};

/// A time zone, and when the sending hours begin there.
pub(super) type ClosedZone = (&'static str, DateTime<Utc>);

/// What a message says that waits.
pub(super) const WAITS: &str = "waits for the sending hours";

/// As long as all that is due has to wait, ever more is looked at: up to so many at once …
const MOST_AT_ONCE: i64 = 10_000;
/// … and so many in one transaction.
const MOST: i64 = 30_000;

/// Moves due messages to the beginning of the sending hours where their recipients are. Gives how
/// many it moved, and how many of the next due ones, at most `limit`, need not wait.
///
/// When the hours begin in each time zone is the rule's to say (`domain/src/window.rs`); the database only
/// looks up who lives where. So it need not know all zones, and there is one rule.
pub(super) async fn wait_for_window(
    conn: &mut Conn,
    tenant: TenantId,
    account: &str,
    closed: &[ClosedZone],
    limit: i64,
) -> Result<(i64, i64)> {
    let (mut look_at, mut waiting) = (limit, 0);
    loop {
        let moved = move_waiting(conn, tenant, account, closed, look_at).await?;
        waiting += moved;
        if moved < look_at {
            return Ok((waiting, limit.min(look_at - moved)));
        }
        if waiting >= MOST {
            return Ok((waiting, 0));
        }
        look_at = (look_at * 10).min(MOST_AT_ONCE);
    }
}

async fn move_waiting(
    conn: &mut Conn,
    tenant: TenantId,
    account: &str,
    closed: &[ClosedZone],
    look_at: i64,
) -> Result<i64> {
    let (zones, opens): (Vec<&str>, Vec<DateTime<Utc>>) = closed.iter().copied().unzip();
    let moved = diesel::sql_query(format!(
        "WITH closed AS MATERIALIZED (
             SELECT * FROM unnest($4::text[], $5::timestamptz[]) AS c (zone, opens_at)),
         due AS MATERIALIZED (
             SELECT m.id, m.customer_id FROM message m
             WHERE m.tenant_id = $1 AND m.account = $2 AND m.state = 'queued'
               AND m.next_attempt_at <= now()
             ORDER BY m.next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED),
         waiting AS MATERIALIZED (
             SELECT m.id, c.opens_at FROM due m
             JOIN tenant t ON t.id = $1
             JOIN LATERAL (SELECT coalesce(nullif(time_zone, ''), t.time_zone) AS zone FROM customer
                           WHERE tenant_id = $1 AND id = m.customer_id OFFSET 0) cu ON true
             JOIN closed c ON c.zone = cu.zone)
         UPDATE message m SET next_attempt_at = w.opens_at, detail = '{WAITS}',
             updated_at = now()
         FROM waiting w WHERE m.tenant_id = $1 AND m.id = w.id"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<BigInt, _>(look_at)
    .bind::<Array<Text>, _>(zones)
    .bind::<Array<Timestamptz>, _>(opens)
    .fixed()
    .execute(conn)
    .await?;
    Ok(i64::try_from(moved).unwrap_or(i64::MAX))
}
