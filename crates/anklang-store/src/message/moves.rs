//! Messages that move from one account to another while they wait: along their route, or to the account
//! that replaces theirs.
//!
//! Only what is queued and was certainly never handed over moves. What a sender has claimed is locked or
//! not queued any more, and so left alone; it moves later, should it come back to the queue.

use anklang_domain::TenantId;
use anklang_domain::route::Split;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::printable;
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// As `anklang_domain::route::place`: the last four bytes of the id of `m`.
pub(crate) const PLACE: &str = "('x' || substr(m.id::text, 29, 8))::bit(32)::bigint";

/// True unless some attempt of the message `m` may have reached somebody. One that a person has looked
/// at and sends again may have, too.
pub(crate) const NEVER_HANDED_OVER: &str = "(m.attempt = 0 OR NOT EXISTS (
    SELECT FROM message_attempt a WHERE a.tenant_id = m.tenant_id AND a.message_id = m.id
      AND a.outcome = 'ambiguous'))";

/// Messages of a route that wait for an account on which they should perhaps not.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Stranded {
    /// Their tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Their route.
    #[diesel(sql_type = Text)]
    pub route: String,
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
}

/// Where messages wait that go by a route, for an account that is not in it, or that is paused, deleted,
/// failing or held, however long. One jump in the index for each account for which something waits.
pub async fn stranded(store: &Store) -> Result<Vec<Stranded>> {
    let mut tx = store.begin_worker().await?;
    let found = diesel::sql_query(
        "WITH RECURSIVE waiting AS (
             SELECT t.tenant_id, (SELECT m.account FROM message m
                 WHERE m.tenant_id = t.tenant_id AND m.state = 'queued'
                 ORDER BY m.account LIMIT 1) AS account
             FROM (SELECT DISTINCT tenant_id FROM channel_route) t
             UNION ALL
             SELECT w.tenant_id, (SELECT m.account FROM message m
                 WHERE m.tenant_id = w.tenant_id AND m.state = 'queued' AND m.account > w.account
                 ORDER BY m.account LIMIT 1)
             FROM waiting w WHERE w.account IS NOT NULL)
         SELECT r.tenant_id, r.id AS route, w.account
         FROM waiting w JOIN channel_route r ON r.tenant_id = w.tenant_id
         WHERE w.account IS NOT NULL
           AND (w.account <> ALL(r.accounts)
             OR EXISTS (SELECT FROM channel_account a
                        WHERE a.tenant_id = w.tenant_id AND a.id = w.account
                          AND (a.paused OR a.deleted_at IS NOT NULL))
             OR NOT EXISTS (SELECT FROM channel_account a
                            WHERE a.tenant_id = w.tenant_id AND a.id = w.account)
             OR EXISTS (SELECT FROM account_pace p
                        WHERE p.tenant_id = w.tenant_id AND p.account = w.account
                          AND (p.failing_since IS NOT NULL OR p.held_until > now())))
           AND EXISTS (SELECT FROM outbound o JOIN LATERAL (
                   SELECT FROM message m WHERE m.tenant_id = o.tenant_id AND m.account = w.account
                     AND m.phase_id = o.phase_id AND m.outbound_id = o.id AND m.state = 'queued'
                   LIMIT 1) m ON true
               WHERE o.tenant_id = w.tenant_id AND o.route = r.id)",
    )
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(found)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

/// Moves messages that wait for `account` to others, at most `limit` of them; gives how many it moved.
/// They are due at once: their waits were for the account that they leave. With a route only those that
/// go by it.
pub async fn move_waiting(
    conn: &mut Conn,
    tenant: TenantId,
    account: &str,
    route: Option<&str>,
    split: &Split,
    reason: &str,
    limit: i64,
) -> Result<i64> {
    let waiting = match route {
        Some(_) => {
            "outbound o CROSS JOIN LATERAL (
                 SELECT m.id FROM message m
                 WHERE m.tenant_id = $1 AND m.account = $2 AND m.phase_id = o.phase_id
                   AND m.outbound_id = o.id AND m.state = 'queued' AND {NEVER}
                 LIMIT $4 FOR UPDATE SKIP LOCKED) d
             WHERE o.tenant_id = $1 AND o.route = $3 LIMIT $4"
        }
        None => {
            "(SELECT m.id FROM message m
              WHERE m.tenant_id = $1 AND m.account = $2 AND m.state = 'queued' AND {NEVER}
                AND $3::text IS NULL
              LIMIT $4 FOR UPDATE SKIP LOCKED) d"
        }
    };
    let waiting = waiting.replace("{NEVER}", NEVER_HANDED_OVER);
    let ranges = &split.ranges;
    let counted: Count = diesel::sql_query(format!(
        "WITH due AS MATERIALIZED (SELECT d.id FROM {waiting}),
         moved AS (
             UPDATE message m SET account = s.account, next_attempt_at = now(), detail = $5,
                    updated_at = now()
             FROM due, unnest($6::text[], $7::bigint[], $8::bigint[]) s (account, first, after)
             WHERE m.tenant_id = $1 AND m.id = due.id AND m.state = 'queued'
               AND {PLACE} % $9 >= s.first AND {PLACE} % $9 < s.after
             RETURNING m.id)
         SELECT count(*) AS n FROM moved"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(account)
    .bind::<Nullable<Text>, _>(route)
    .bind::<BigInt, _>(limit)
    .bind::<Text, _>(printable(reason))
    .bind::<Array<Text>, _>(ranges.iter().map(|r| &r.account[..]).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(ranges.iter().map(|r| r.from).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(ranges.iter().map(|r| r.until).collect::<Vec<_>>())
    .bind::<BigInt, _>(split.total)
    .fixed()
    .get_result(conn)
    .await?;
    Ok(counted.n)
}
