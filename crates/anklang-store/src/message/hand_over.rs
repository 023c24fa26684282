//! From hand-over to outcome: marks messages just before they are handed to their channel, and
//! records what came of those before.

use anklang_domain::message::{Next, Outcome};
use chrono::TimeDelta;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::claim::{Batch, IdRow, LOOKED_UP, REASON, may_send};
use super::{printable, seconds};
use crate::handover::event::ANNOUNCE_MESSAGES;
use crate::report::{TOLD_STATE, TOLD_WORDS};
use crate::sql::Fix;
use crate::{Conn, Result, Store};

/// How an attempt ended, and what becomes of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The message.
    pub id: Uuid,
    /// The attempt.
    pub attempt: i32,
    /// How it ended.
    pub outcome: Outcome,
    /// What becomes of the message.
    pub next: Next,
    /// What the channel said.
    pub detail: String,
}

/// What came of a [`step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// So many outcomes were recorded; the others had lost their lease, and were not taken.
    pub recorded: usize,
    /// These may be handed over now, and no others.
    pub ours: Vec<Uuid>,
}

/// Records outcomes, and marks the next messages as about to be handed to the channel, in one
/// transaction: so each group of a batch behind its first costs one. Doing it twice changes nothing.
///
/// Of outcomes only those still under the same lease and attempt move; but that a channel has taken a
/// message counts whenever it is told, unless the message is on its way again. Messages are marked that are
/// still this lease's, and their lease is prolonged. Between claim and hand-over of a batch's last
/// messages time goes by, so all is looked at once more: what must not be sent any more, or not
/// now, goes back to the queue, where the next claim says why.
pub async fn step(
    store: &Store,
    batch: &Batch,
    ended: &[Ended],
    next: &[Uuid],
    lease_for: TimeDelta,
) -> Result<Stepped> {
    let mut tx = store.begin_work(batch.tenant).await?;
    let (mut recorded, mut ours) = (0, Vec::new());
    if !ended.is_empty() {
        recorded = record(&mut tx, batch, ended).await?;
    }
    if !next.is_empty() {
        ours = mark(&mut tx, batch, next, lease_for).await?;
    }
    tx.commit().await?;
    Ok(Stepped { recorded, ours })
}

async fn mark(
    conn: &mut Conn,
    batch: &Batch,
    ids: &[Uuid],
    lease_for: TimeDelta,
) -> Result<Vec<Uuid>> {
    let may_send = may_send("$5", "$6");
    let rows: Vec<IdRow> = diesel::sql_query(format!(
        "WITH mine AS MATERIALIZED (
             SELECT m.id, m.customer_id, m.offer_id, m.winback_case_id, m.phase_id, m.channel,
                    m.purpose, m.address_hash, m.notice IS NOT NULL AS is_notice
             FROM message m
             WHERE m.tenant_id = $1 AND m.id = ANY($2) AND m.lease = $3 AND m.state = 'sending'
             ORDER BY m.id FOR UPDATE),
         looked AS MATERIALIZED (
             SELECT m.id, {REASON} IS NULL AND p.paused IS NOT TRUE AND {may_send} AS good
             FROM mine m {LOOKED_UP}),
         moved AS (
             UPDATE message m SET state = CASE WHEN l.good THEN 'sending' ELSE 'queued' END,
                 submitted_at = CASE WHEN l.good THEN now() END,
                 lease = CASE WHEN l.good THEN m.lease END,
                 lease_until = CASE WHEN l.good THEN now() + make_interval(secs => $4) END
             FROM looked l WHERE m.tenant_id = $1 AND m.id = l.id
             RETURNING m.id, m.attempt, m.state),
         noted AS (
             UPDATE message_attempt a SET ended_at = now(), outcome = 'not_submitted',
                 detail = 'barred, paused or resting before hand-over'
             FROM moved
             WHERE a.tenant_id = $1 AND a.message_id = moved.id AND a.attempt = moved.attempt
               AND moved.state = 'queued')
         SELECT id FROM moved WHERE state = 'sending'"
    ))
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Double, _>(seconds(lease_for))
    .bind::<Text, _>(&batch.account)
    .bind::<Nullable<BigInt>, _>(batch.revision)
    .fixed()
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|r| r.id).collect())
}

/// Holds messages that are recorded next: a report or a rescue may be moving them. What it tells is then seen by
/// the statement that records, which finds its rows as they are and need not check them again: under
/// row-level security PostgreSQL 15.18 crashes when a statement with that many parts does.
async fn hold(conn: &mut Conn, batch: &Batch, ended: &[Ended]) -> Result<()> {
    diesel::sql_query(
        "SELECT id FROM message
         WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
    )
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Array<SqlUuid>, _>(ended.iter().map(|e| e.id).collect::<Vec<_>>())
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

async fn record(conn: &mut Conn, batch: &Batch, ended: &[Ended]) -> Result<usize> {
    hold(conn, batch, ended).await?;
    let state = |e: &Ended| match e.next {
        Next::Sent => "sent",
        Next::Failed => "failed",
        Next::Ambiguous => "ambiguous",
        Next::Queued { .. } => "queued",
    };
    let provider = |e: &Ended| match &e.outcome {
        Outcome::Accepted {
            provider_message_id,
        } => printable(provider_message_id),
        _ => String::new(),
    };
    let wait = |e: &Ended| match e.next {
        Next::Queued { wait } => Some(seconds(wait)),
        _ => None,
    };
    Ok(diesel::sql_query(format!(
        "WITH ended AS (
             SELECT * FROM unnest($3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[],
                                  $8::float8[], $9::text[], $10::bool[])
                 AS e (id, attempt, state, outcome, provider, wait, detail, failure)),
         moved AS (
             UPDATE message m SET failures = m.failures + e.failure::int,
                 -- What was reported meanwhile counts over what the sending came to.
                 state = CASE WHEN m.told > 0 THEN {TOLD_STATE} ELSE e.state END,
                 detail = CASE WHEN m.told > 0 THEN coalesce({TOLD_WORDS}, '') ELSE e.detail END,
                 provider_message_id = CASE WHEN e.provider <> '' THEN e.provider ELSE m.provider_message_id END,
                 next_attempt_at = coalesce(now() + make_interval(secs => e.wait), m.next_attempt_at),
                 sent_at = CASE WHEN e.state = 'sent' OR m.told > 1 THEN now() END,
                 lookups = 0,
                 lease = NULL, lease_until = NULL, submitted_at = NULL, updated_at = now()
             FROM ended e
             WHERE m.tenant_id = $1 AND m.id = e.id
               AND ((m.attempt = e.attempt AND m.lease = $2 AND m.state = 'sending')
                    -- Given up by a rescue while this sender stood still, and taken all the same: it
                    -- is in doubt no more, and not sent again, whatever was decided meanwhile.
                    OR (e.state = 'sent' AND m.attempt >= e.attempt
                        AND m.state IN ('ambiguous', 'queued', 'failed', 'suppressed', 'cancelled')))
             RETURNING m.id, m.customer_id, m.campaign_id, m.state, m.told, e.attempt, e.outcome,
                       e.detail, m.notice),
         noted AS (
             UPDATE message_attempt a SET ended_at = now(), outcome = moved.outcome, detail = moved.detail
             FROM moved
             WHERE a.tenant_id = $1 AND a.message_id = moved.id AND a.attempt = moved.attempt),
         news AS (
             SELECT $1::uuid AS tenant_id, id AS message_id, state AS kind FROM moved WHERE told > 0),
         {ANNOUNCE_MESSAGES},
         told AS (
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
             SELECT $1, customer_id,
                    'message.' || CASE state WHEN 'queued' THEN 'delayed' ELSE state END,
                    'messages/' || id, campaign_id, jsonb_build_object('detail', detail)
             FROM moved WHERE notice IS NULL)
         SELECT 1 FROM moved"
    ))
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Array<SqlUuid>, _>(ended.iter().map(|e| e.id).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(ended.iter().map(|e| e.attempt).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ended.iter().map(state).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ended.iter().map(|e| e.outcome.as_str()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ended.iter().map(provider).collect::<Vec<_>>())
    .bind::<Array<Nullable<Double>>, _>(ended.iter().map(wait).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ended.iter().map(|e| printable(&e.detail)).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(ended.iter().map(|e| e.outcome.is_failure()).collect::<Vec<_>>())
    .fixed()
    .execute(conn)
    .await?)
}

/// Prolongs the lease of all of a batch that are still under way.
pub async fn prolong(store: &Store, batch: &Batch, lease_for: TimeDelta) -> Result<()> {
    let ids: Vec<Uuid> = batch.messages.iter().map(|m| m.id).collect();
    let mut tx = store.begin_work(batch.tenant).await?;
    diesel::sql_query(
        // What is locked is being marked or recorded, which prolongs or ends its lease.
        "WITH mine AS MATERIALIZED (
             SELECT id FROM message
             WHERE tenant_id = $1 AND id = ANY($2) AND lease = $3 AND state = 'sending'
             ORDER BY id FOR UPDATE SKIP LOCKED)
         UPDATE message m SET lease_until = now() + make_interval(secs => $4)
         FROM mine WHERE m.tenant_id = $1 AND m.id = mine.id",
    )
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Double, _>(seconds(lease_for))
    .fixed()
    .execute(&mut tx)
    .await?;
    tx.commit().await
}
