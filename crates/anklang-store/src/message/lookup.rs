//! Ambiguous messages whose channel can be asked what became of them.
//!
//! The server asks by itself, with growing waits: a claim counts the lookup and puts the next one off,
//! so that nobody else asks meanwhile, and a crash costs one lookup. When all are used up, the
//! account's policy counts ([`give_up_lookups`]). People may ask at any time.

use anklang_domain::message::{MAX_FAILURES, Next};
use anklang_domain::{MessageId, TenantId};
use chrono::TimeDelta;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{printable, seconds};
use crate::audit::{self, Counts, Deed};
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// A message of which nobody knows whether it arrived.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Doubt {
    /// Its tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Its id: the idempotency key.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Its account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Its last attempt.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// Attempts that failed for now or left doubt.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
}

/// Of which tenants an account's messages are, as `$4`: of the one whose account it is; of a configured
/// account, of all that have no own one of that id.
const OF_TENANTS: &str = "CASE WHEN $4::uuid IS NOT NULL THEN m.tenant_id = $4
     ELSE NOT EXISTS (SELECT FROM channel_account a
                      WHERE a.tenant_id = m.tenant_id AND a.id = m.account) END";

/// Claims ambiguous messages of an account that are due to be looked up, at most `limit`; of the tenant
/// whose account it is, of a configured one of all tenants. `waits` are those before each lookup, at least one; a message has as many lookups.
pub async fn claim_lookups(
    store: &Store,
    account: &str,
    tenant: Option<TenantId>,
    waits: &[TimeDelta],
    limit: i64,
) -> Result<Vec<Doubt>> {
    let waits: Vec<f64> = waits.iter().map(|wait| seconds(*wait)).collect();
    let mut tx = store.begin_worker().await?;
    let claimed = diesel::sql_query(format!(
        "WITH due AS MATERIALIZED (
             SELECT m.tenant_id, m.id FROM message m
             WHERE m.account = $1 AND m.state = 'ambiguous'
               AND m.lookups < cardinality($2::float8[]) AND m.next_attempt_at <= now()
               AND m.updated_at <= now() - make_interval(secs => ($2::float8[])[1])
               AND {OF_TENANTS}
             ORDER BY m.tenant_id, m.next_attempt_at LIMIT $3 FOR UPDATE OF m SKIP LOCKED)
         UPDATE message m SET lookups = m.lookups + 1,
             next_attempt_at = now() + make_interval(
                 secs => coalesce(($2::float8[])[m.lookups + 2], ($2::float8[])[m.lookups + 1]))
         FROM due WHERE m.tenant_id = due.tenant_id AND m.id = due.id
         RETURNING m.tenant_id, m.id, m.account, m.attempt, m.failures"
    ))
    .bind::<Text, _>(account)
    .bind::<Array<Double>, _>(waits)
    .bind::<BigInt, _>(limit)
    .bind::<Nullable<SqlUuid>, _>(tenant.map(|tenant| tenant.0))
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(claimed)
}

/// Ambiguous messages among these.
pub async fn in_doubt(conn: &mut Conn, tenant: TenantId, ids: &[MessageId]) -> Result<Vec<Doubt>> {
    Ok(diesel::sql_query(
        "SELECT tenant_id, id, account, attempt, failures FROM message
         WHERE tenant_id = $1 AND id = ANY($2) AND state = 'ambiguous'
         ORDER BY account, id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(ids.iter().map(|id| id.0).collect::<Vec<_>>())
    .load(conn)
    .await?)
}

/// What a lookup says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Which message.
    pub doubt: Doubt,
    /// What becomes of it; not `Ambiguous`.
    pub next: Next,
    /// The provider's id of it, if it told.
    pub provider_message_id: String,
    /// What the channel said.
    pub detail: String,
}

/// Settles messages of a tenant of which their channel knew: those that are still ambiguous after the
/// same attempt; for a call, if it is one that asked. Gives how many.
pub async fn settle(
    store: &Store,
    tenant: TenantId,
    looked: &[Looked],
    deed: Option<&Deed>,
) -> Result<usize> {
    if looked.is_empty() {
        return Ok(0);
    }
    let state = |l: &Looked| match l.next {
        Next::Sent => "sent",
        Next::Failed => "failed",
        Next::Queued { .. } => "queued",
        Next::Ambiguous => "ambiguous",
    };
    let wait = |l: &Looked| match l.next {
        Next::Queued { wait } => Some(seconds(wait)),
        _ => None,
    };
    let mut tx = store.begin_work(tenant).await?;
    // Before: a report may be moving them (see `hand_over::hold`).
    diesel::sql_query(
        "SELECT id FROM message WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(looked.iter().map(|l| l.doubt.id).collect::<Vec<_>>())
    .fixed()
    .execute(&mut tx)
    .await?;
    let settled = diesel::sql_query(
        "WITH looked AS (
             SELECT * FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::float8[],
                                  $7::text[]) AS l (id, attempt, state, provider, wait, detail)),
         moved AS (
             UPDATE message m SET state = l.state, detail = l.detail, lookups = 0,
                 provider_message_id = CASE WHEN l.provider <> '' THEN l.provider
                                            ELSE m.provider_message_id END,
                 next_attempt_at = coalesce(now() + make_interval(secs => l.wait),
                                            m.next_attempt_at),
                 sent_at = CASE WHEN l.state = 'sent' THEN coalesce((
                         SELECT a.ended_at FROM message_attempt a
                         WHERE a.tenant_id = m.tenant_id AND a.message_id = m.id
                           AND a.attempt = m.attempt), now()) END,
                 updated_at = now()
             FROM looked l
             -- One that was queued again meanwhile, and not claimed yet, is not sent when it was taken.
             WHERE m.tenant_id = $1 AND m.id = l.id
               AND (m.state = 'ambiguous' OR (m.state = 'queued' AND l.state = 'sent'))
               AND m.attempt = l.attempt AND l.state <> 'ambiguous'
             RETURNING m.id, m.customer_id, m.campaign_id, m.state, m.detail, m.notice),
         told AS (
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'message.' || CASE state WHEN 'queued' THEN 'delayed' ELSE state END,
                'messages/' || id, campaign_id, jsonb_build_object('detail', detail)
         FROM moved WHERE notice IS NULL)
         SELECT 1 FROM moved",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(looked.iter().map(|l| l.doubt.id).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(looked.iter().map(|l| l.doubt.attempt).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(looked.iter().map(state).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(
        looked
            .iter()
            .map(|l| printable(&l.provider_message_id))
            .collect::<Vec<_>>(),
    )
    .bind::<Array<Nullable<Double>>, _>(looked.iter().map(wait).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(looked.iter().map(|l| printable(&l.detail)).collect::<Vec<_>>())
    .fixed()
    .execute(&mut tx)
    .await?;
    if let Some(deed) = deed.filter(|_| settled > 0) {
        audit::record(&tx, tenant, deed, Counts::written(settled)).await?;
    }
    tx.commit().await?;
    Ok(settled)
}

/// Queues ambiguous messages of an account again of which no lookup has told: the policy says so.
/// Those that were tried as often as any message is are left for a person. At most 10,000 at once;
/// gives how many.
pub async fn give_up_lookups(
    store: &Store,
    account: &str,
    tenant: Option<TenantId>,
    lookups: usize,
) -> Result<usize> {
    let mut tx = store.begin_worker().await?;
    let queued = diesel::sql_query(format!(
        "WITH lost AS MATERIALIZED (
             SELECT m.tenant_id, m.id FROM message m
             WHERE m.account = $1 AND m.state = 'ambiguous' AND m.lookups >= $2
               AND m.next_attempt_at <= now() AND m.failures < $3 AND {OF_TENANTS}
             ORDER BY m.tenant_id, m.id LIMIT 10000 FOR UPDATE OF m SKIP LOCKED),
         moved AS (
             UPDATE message m SET state = 'queued', lookups = 0, next_attempt_at = now(),
                 detail = 'its channel could not say; sent again', updated_at = now()
             FROM lost WHERE m.tenant_id = lost.tenant_id AND m.id = lost.id
             RETURNING m.tenant_id, m.id, m.customer_id, m.campaign_id, m.detail, m.notice),
         told AS (
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT tenant_id, customer_id, 'message.delayed', 'messages/' || id, campaign_id,
                jsonb_build_object('detail', detail)
         FROM moved WHERE notice IS NULL)
         SELECT 1 FROM moved"
    ))
    .bind::<Text, _>(account)
    .bind::<Integer, _>(i32::try_from(lookups).unwrap_or(i32::MAX))
    .bind::<Integer, _>(MAX_FAILURES)
    .bind::<Nullable<SqlUuid>, _>(tenant.map(|tenant| tenant.0))
    .fixed()
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(queued)
}
