//! The ledger of messages: claims, outcomes, rescue.
//!
//! A message moves `queued → sending` under a lease ([`claim`]), is marked just before it is handed
//! to its channel ([`mark_submitted`]), and leaves `sending` by [`complete`] of the same lease and
//! attempt. When the lease runs out, [`rescue`] takes over: not yet marked means that it was not
//! handed over, marked means that nobody knows.

mod resolve;
mod wait;

use std::sync::LazyLock;

use anklang_domain::message::{AmbiguousPolicy, MAX_FAILURES, Next, Outcome};
use anklang_domain::rate::Rate;
use anklang_domain::window::Window;
use anklang_domain::{CampaignId, MessageId, TenantId};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, Store, budget, pace};

pub use resolve::{Resolution, resolve};

/// A message in the hands of a sender.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Claimed {
    /// Its id: the idempotency key.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Number of this attempt, from 1.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// Attempts before it that failed for now or left doubt.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
    /// Where to.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// The offer that it carries.
    #[diesel(sql_type = SqlUuid)]
    pub offer_id: Uuid,
    /// Key of its template.
    #[diesel(sql_type = Text)]
    pub message_template: String,
    /// The recipient's time zone.
    #[diesel(sql_type = Text)]
    pub time_zone: String,
    /// The trace context in which it was queued.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
}

#[derive(QueryableByName)]
struct Moved {
    #[diesel(embed)]
    claimed: Claimed,
    #[diesel(sql_type = Text)]
    state: String,
}

/// Messages of one account, claimed together by one statement.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Their tenant.
    pub tenant: TenantId,
    /// Who may finish them.
    pub lease: Uuid,
    /// The messages.
    pub messages: Vec<Claimed>,
    /// So many more were due, but must not be sent any more, or wait for the sending hours.
    pub barred: usize,
    /// When the account's rate allows the next one, if it does not now.
    pub again_in: Option<TimeDelta>,
}

/// How to claim.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// At most so many.
    pub limit: i64,
    /// The lease.
    pub lease_for: TimeDelta,
    /// What the account may send.
    pub rate: Option<&'a Rate>,
    /// When the account may send.
    pub window: Option<&'a Window>,
}

#[derive(QueryableByName)]
struct TenantRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Tenants with messages due on an account that is not held for them.
pub async fn due_tenants(store: &Store, account: &str) -> Result<Vec<TenantId>> {
    let mut tx = store.begin_worker().await?;
    let rows: Vec<TenantRow> = diesel::sql_query(
        "SELECT t.id FROM tenant t WHERE EXISTS (
             SELECT FROM message m WHERE m.tenant_id = t.id AND m.account = $1
               AND m.state = 'queued' AND m.next_attempt_at <= now())
           AND NOT EXISTS (
             SELECT FROM account_pace p WHERE p.tenant_id = t.id AND p.account = $1
               AND p.held_until > now())",
    )
    .bind::<Text, _>(account)
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|r| TenantId(r.id)).collect())
}

const NOT_OPEN: &str = "the offer is not open any more";

/// Why the message `m` must not be sent any more, or NULL; over [`LOOKED_UP`].
const REASON: &str = "CASE
    WHEN o.state IS DISTINCT FROM 'open' OR p.state = 'cancelled'
         OR o.valid_until < (now() AT TIME ZONE t.time_zone)::date
    THEN 'the offer is not open any more'
    WHEN s.blocked THEN 'the address is blocked'
    WHEN c.state IS DISTINCT FROM 'granted' THEN 'no consent any more' END";

/// What a message's fate depends on, row by row by whole keys (fenced, see [`crate::launch`]).
/// Blocked are addresses of contact points: a text message's is a mobile number.
const LOOKED_UP: &str = "JOIN tenant t ON t.id = $1
    LEFT JOIN LATERAL (SELECT state, valid_until FROM offer
        WHERE tenant_id = $1 AND id = m.offer_id OFFSET 0) o ON true
    LEFT JOIN LATERAL (SELECT p.state, p.paused OR ca.paused AS paused FROM phase p
        JOIN campaign ca ON ca.tenant_id = p.tenant_id AND ca.id = p.campaign_id
        WHERE p.tenant_id = $1 AND p.id = m.phase_id OFFSET 0) p ON true
    LEFT JOIN LATERAL (SELECT true AS blocked FROM suppression
        WHERE tenant_id = $1 AND address_hash = m.address_hash
          AND channel = CASE m.channel WHEN 'sms' THEN 'mobile' ELSE m.channel END OFFSET 0) s ON true
    LEFT JOIN LATERAL (SELECT state FROM consent
        WHERE tenant_id = $1 AND customer_id = m.customer_id AND channel = m.channel
          AND purpose = m.purpose OFFSET 0) c ON true";

/// Claims due messages: as many as wanted, as the account's rate allows, and as need not wait for
/// the sending hours. Consent and blocked addresses are looked at again, and the contact budget:
/// who may not be contacted any more is `suppressed` here. A message whose offer was taken back
/// after it was queued is `cancelled` here. Those of paused phases and campaigns stay in the queue,
/// and are not walked over: it is read phase by phase, the one that has waited longest first.
pub async fn claim(
    store: &Store,
    tenant: TenantId,
    account: &str,
    terms: &Terms<'_>,
) -> Result<Batch> {
    let mut tx = store.begin_work(tenant).await?;
    let mut batch = Batch {
        tenant,
        lease: Uuid::now_v7(),
        messages: Vec::new(),
        barred: 0,
        again_in: None,
    };
    let (mut limit, mut waiting, mut paced) = (terms.limit, 0, None);
    if let Some(rate) = terms.rate {
        let pace = pace::lock(&mut tx, tenant, account).await?;
        let next = rate.next(pace.free_at, pace.now);
        batch.again_in = Some(next - pace.now).filter(|wait| *wait > TimeDelta::zero());
        limit = limit.min(rate.free(pace.free_at, pace.now).into());
        paced = Some((rate, pace));
    }
    if let Some(window) = terms.window.filter(|_| limit > 0) {
        (waiting, limit) = wait::wait_for_window(&mut tx, tenant, account, window, limit).await?;
    }
    if limit > 0 {
        let moved = move_due(&mut tx, &batch, account, limit, terms.lease_for).await?;
        let all = moved.len();
        let ours = moved.into_iter().filter(|m| m.state == "sending");
        batch.messages = ours.map(|m| m.claimed).collect();
        batch.messages.sort_by_key(|m| m.id);
        batch.barred = all - batch.messages.len();
    }
    if let Some((rate, pace)) = paced.filter(|_| !batch.messages.is_empty()) {
        let places = u32::try_from(batch.messages.len()).unwrap_or(u32::MAX);
        let free_at = rate.taken(pace.free_at, pace.now, places);
        pace::spend(&mut tx, tenant, account, free_at).await?;
    }
    tx.commit().await?;
    batch.barred += usize::try_from(waiting).unwrap_or(0);
    Ok(batch)
}

/// Decides on due messages, in one statement: sent now, or not any more.
async fn move_due(
    conn: &mut Conn,
    batch: &Batch,
    account: &str,
    limit: i64,
    lease_for: TimeDelta,
) -> Result<Vec<Moved>> {
    // Without a budget nothing is counted.
    let budget = budget::lock(conn, batch.tenant).await?;
    let contacts = budget::contacts(budget::CONTACT, "$7", "$8");
    let used_up = budget::USED_UP;
    Ok(diesel::sql_query(
        format!("WITH RECURSIVE waiting AS (
             -- Phases with queued messages: one jump in the index for each.
             (SELECT phase_id FROM message
              WHERE tenant_id = $1 AND account = $2 AND state = 'queued'
              ORDER BY phase_id LIMIT 1)
             UNION ALL
             SELECT (SELECT m.phase_id FROM message m
                     WHERE m.tenant_id = $1 AND m.account = $2 AND m.state = 'queued'
                       AND m.phase_id > w.phase_id ORDER BY m.phase_id LIMIT 1)
             FROM waiting w WHERE w.phase_id IS NOT NULL),
         turn AS MATERIALIZED (
             SELECT w.phase_id FROM waiting w
             JOIN phase p ON p.tenant_id = $1 AND p.id = w.phase_id AND NOT p.paused
             JOIN campaign c ON c.tenant_id = $1 AND c.id = p.campaign_id AND NOT c.paused
             CROSS JOIN LATERAL (
                 SELECT m.next_attempt_at FROM message m
                 WHERE m.tenant_id = $1 AND m.account = $2 AND m.phase_id = w.phase_id
                   AND m.state = 'queued' AND m.next_attempt_at <= now()
                 ORDER BY m.next_attempt_at LIMIT 1) first
             WHERE NOT EXISTS (SELECT FROM account_pace WHERE tenant_id = $1 AND account = $2
                                 AND held_until > now())
             ORDER BY first.next_attempt_at),
         due AS MATERIALIZED (
             -- Phase after phase until there are enough: no more is locked than is claimed.
             SELECT d.* FROM turn CROSS JOIN LATERAL (
                 SELECT m.id, m.customer_id, m.offer_id, m.phase_id, m.channel, m.purpose,
                        m.address_hash, m.next_attempt_at
                 FROM message m
                 WHERE m.tenant_id = $1 AND m.account = $2 AND m.phase_id = turn.phase_id
                   AND m.state = 'queued' AND m.next_attempt_at <= now()
                 ORDER BY m.next_attempt_at LIMIT $3 FOR UPDATE SKIP LOCKED) d
             LIMIT $3),
         looked AS MATERIALIZED (
             SELECT m.id, m.customer_id, m.next_attempt_at, {REASON} AS reason,
                    m.purpose <> ALL($8) AS counts
             FROM due m {LOOKED_UP}),
         barred AS MATERIALIZED (
             SELECT m.id, coalesce(m.reason, CASE WHEN m.counts AND used.n + row_number() OVER (
                        PARTITION BY m.customer_id, m.counts AND m.reason IS NULL
                        ORDER BY m.next_attempt_at, m.id) > $6 THEN '{used_up}' END) AS reason
             FROM looked m
             LEFT JOIN LATERAL ({contacts} AND $6 IS NOT NULL OFFSET 0) used ON true),
         moved AS (
             UPDATE message m SET
                 state = CASE WHEN b.reason IS NULL THEN 'sending'
                              WHEN b.reason = '{NOT_OPEN}' THEN 'cancelled'
                              ELSE 'suppressed' END,
                 attempt = m.attempt + CASE WHEN b.reason IS NULL THEN 1 ELSE 0 END,
                 detail = coalesce(b.reason, m.detail),
                 lease = CASE WHEN b.reason IS NULL THEN $4 END,
                 lease_until = CASE WHEN b.reason IS NULL THEN now() + make_interval(secs => $5) END,
                 submitted_at = NULL, updated_at = now()
             FROM barred b WHERE m.tenant_id = $1 AND m.id = b.id
             RETURNING m.id, m.attempt, m.failures, m.address, m.offer_id, m.outbound_id, m.state,
                       m.customer_id, m.campaign_id, m.detail, m.traceparent),
         noted AS (
             INSERT INTO message_attempt (tenant_id, message_id, attempt, started_at)
             SELECT $1, id, attempt, now() FROM moved WHERE state = 'sending'),
         told AS (
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
             SELECT $1, customer_id, 'message.suppressed', 'messages/' || id, campaign_id,
                    jsonb_build_object('detail', detail)
             FROM moved WHERE state = 'suppressed')
         SELECT moved.id, moved.attempt, moved.failures, moved.address, moved.offer_id,
                o.message_template, moved.traceparent, moved.state,
                coalesce(nullif(cu.time_zone, ''), t.time_zone) AS time_zone
         FROM moved JOIN outbound o ON o.tenant_id = $1 AND o.id = moved.outbound_id
         JOIN tenant t ON t.id = $1
         JOIN LATERAL (SELECT time_zone FROM customer
                       WHERE tenant_id = $1 AND id = moved.customer_id OFFSET 0) cu ON true"),
    )
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Text, _>(account)
    .bind::<BigInt, _>(limit)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Double, _>(seconds(lease_for))
    .bind::<Nullable<Integer>, _>(budget.as_ref().map(|b| b.max_contacts))
    .bind::<Integer, _>(budget.as_ref().map_or(1, |b| b.window_days))
    .bind::<Array<Text>, _>(budget.map_or_else(Vec::new, |b| b.exempt_purposes))
    .load(conn)
    .await?)
}

/// Marks messages as about to be handed to the channel, and prolongs the lease. Returns those that
/// are still this lease's: only they may be handed over. Between claim and hand-over of a batch's
/// last messages time goes by, so all is looked at once more: what must not be sent any more, or not
/// now, goes back to the queue, where the next claim says why.
pub async fn mark_submitted(
    store: &Store,
    batch: &Batch,
    ids: &[Uuid],
    lease_for: TimeDelta,
) -> Result<Vec<Uuid>> {
    let mut tx = store.begin_work(batch.tenant).await?;
    let rows: Vec<TenantRow> = diesel::sql_query(format!(
        "WITH mine AS MATERIALIZED (
             SELECT m.id, m.customer_id, m.offer_id, m.phase_id, m.channel, m.purpose,
                    m.address_hash
             FROM message m
             WHERE m.tenant_id = $1 AND m.id = ANY($2) AND m.lease = $3 AND m.state = 'sending'
             FOR UPDATE),
         looked AS MATERIALIZED (
             SELECT m.id, {REASON} IS NULL AND NOT p.paused AS good FROM mine m {LOOKED_UP}),
         moved AS (
             UPDATE message m SET state = CASE WHEN l.good THEN 'sending' ELSE 'queued' END,
                 submitted_at = CASE WHEN l.good THEN now() END,
                 lease = CASE WHEN l.good THEN m.lease END,
                 lease_until = CASE WHEN l.good THEN now() + make_interval(secs => $4) END
             FROM looked l WHERE m.tenant_id = $1 AND m.id = l.id
             RETURNING m.id, m.attempt, m.state),
         noted AS (
             UPDATE message_attempt a SET ended_at = now(), outcome = 'not_submitted',
                 detail = 'barred or paused before hand-over'
             FROM moved
             WHERE a.tenant_id = $1 AND a.message_id = moved.id AND a.attempt = moved.attempt
               AND moved.state = 'queued')
         SELECT id FROM moved WHERE state = 'sending'"
    ))
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Double, _>(seconds(lease_for))
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|r| r.id).collect())
}

/// Prolongs the lease of all of a batch that are still under way.
pub async fn prolong(store: &Store, batch: &Batch, lease_for: TimeDelta) -> Result<()> {
    let ids: Vec<Uuid> = batch.messages.iter().map(|m| m.id).collect();
    let mut tx = store.begin_work(batch.tenant).await?;
    diesel::sql_query(
        "UPDATE message SET lease_until = now() + make_interval(secs => $4)
         WHERE tenant_id = $1 AND id = ANY($2) AND lease = $3 AND state = 'sending'",
    )
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Double, _>(seconds(lease_for))
    .execute(&mut tx)
    .await?;
    tx.commit().await
}

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

/// The most characters of a channel's words that are kept.
const MAX_DETAIL: usize = 500;

/// Records outcomes. Only what is still under the same lease and attempt moves; returns how many
/// did.
pub async fn complete(store: &Store, batch: &Batch, ended: &[Ended]) -> Result<usize> {
    let mut tx = store.begin_work(batch.tenant).await?;
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
    let moved = diesel::sql_query(
        "WITH ended AS (
             SELECT * FROM unnest($3::uuid[], $4::int[], $5::text[], $6::text[], $7::text[],
                                  $8::float8[], $9::text[], $10::bool[])
                 AS e (id, attempt, state, outcome, provider, wait, detail, failure)),
         moved AS (
             UPDATE message m SET state = e.state, detail = e.detail, failures = m.failures + e.failure::int,
                 provider_message_id = CASE WHEN e.provider <> '' THEN e.provider ELSE m.provider_message_id END,
                 next_attempt_at = coalesce(now() + make_interval(secs => e.wait), m.next_attempt_at),
                 sent_at = CASE WHEN e.state = 'sent' THEN now() END,
                 lease = NULL, lease_until = NULL, submitted_at = NULL, updated_at = now()
             FROM ended e
             WHERE m.tenant_id = $1 AND m.id = e.id AND m.attempt = e.attempt AND m.lease = $2
               AND m.state = 'sending'
             RETURNING m.id, m.customer_id, m.campaign_id, m.state, e.attempt, e.outcome, e.detail),
         noted AS (
             UPDATE message_attempt a SET ended_at = now(), outcome = moved.outcome, detail = moved.detail
             FROM moved
             WHERE a.tenant_id = $1 AND a.message_id = moved.id AND a.attempt = moved.attempt)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
         SELECT $1, customer_id, 'message.' || CASE state WHEN 'queued' THEN 'delayed' ELSE state END,
                'messages/' || id, campaign_id, jsonb_build_object('detail', detail)
         FROM moved",
    )
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
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(moved)
}

/// What a channel says goes to a log line and a database that knows no NUL.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL)
        .collect()
}

/// Takes back messages of an account whose lease has run out. Those that were not handed over are
/// queued again; of those that may have been nobody knows, so the account's policy decides. Leases
/// that this process still works on (`ours`) are left: after an outage of the database they may have
/// run out, and be completed all the same. Returns how many of each.
pub async fn rescue(
    store: &Store,
    account: &str,
    policy: AmbiguousPolicy,
    ours: &[Uuid],
) -> Result<(usize, usize)> {
    #[derive(QueryableByName)]
    struct Rescued {
        #[diesel(sql_type = BigInt)]
        requeued: i64,
        #[diesel(sql_type = BigInt)]
        unknown: i64,
    }
    let mut tx = store.begin_worker().await?;
    let rescued: Rescued = diesel::sql_query(
        "WITH lost AS (
             SELECT tenant_id, id, submitted_at IS NOT NULL AS unknown FROM message
             WHERE account = $1 AND state = 'sending' AND lease_until < now()
               AND lease <> ALL($4)
             ORDER BY tenant_id, id LIMIT 10000 FOR UPDATE SKIP LOCKED),
         moved AS (
             UPDATE message m SET
                 state = CASE WHEN lost.unknown AND ($2 = 'hold' OR m.failures + 1 >= $3)
                              THEN 'ambiguous' ELSE 'queued' END,
                 failures = m.failures + lost.unknown::int,
                 detail = CASE WHEN lost.unknown
                     THEN 'the sender was interrupted after hand-over'
                     ELSE 'the sender was interrupted before hand-over' END,
                 next_attempt_at = now(), lease = NULL, lease_until = NULL, submitted_at = NULL,
                 updated_at = now()
             FROM lost WHERE m.tenant_id = lost.tenant_id AND m.id = lost.id
             RETURNING m.tenant_id, m.id, m.attempt, m.customer_id, m.campaign_id, m.state,
                       m.detail, lost.unknown),
         noted AS (
             UPDATE message_attempt a SET ended_at = now(), detail = moved.detail,
                 outcome = CASE WHEN moved.unknown THEN 'ambiguous' ELSE 'not_submitted' END
             FROM moved
             WHERE a.tenant_id = moved.tenant_id AND a.message_id = moved.id
               AND a.attempt = moved.attempt),
         told AS (
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
             SELECT tenant_id, customer_id, 'message.ambiguous', 'messages/' || id, campaign_id,
                    jsonb_build_object('detail', detail)
             FROM moved WHERE unknown)
         SELECT count(*) FILTER (WHERE NOT unknown) AS requeued,
                count(*) FILTER (WHERE unknown) AS unknown FROM moved",
    )
    .bind::<Text, _>(account)
    .bind::<Text, _>(match policy {
        AmbiguousPolicy::Resend => "resend",
        AmbiguousPolicy::Hold => "hold",
    })
    .bind::<Integer, _>(MAX_FAILURES)
    .bind::<Array<SqlUuid>, _>(ours)
    .get_result(&mut tx)
    .await?;
    tx.commit().await?;
    let count = |n| usize::try_from(n).unwrap_or(0);
    Ok((count(rescued.requeued), count(rescued.unknown)))
}

/// A message with the numbers of what it points to.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Message {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Offer number.
    #[diesel(sql_type = Text)]
    pub offer_number: String,
    /// Its campaign.
    #[diesel(sql_type = SqlUuid)]
    pub campaign_id: Uuid,
    /// Number of its phase.
    #[diesel(sql_type = Integer)]
    pub phase_number: i32,
    /// Number of its outbound.
    #[diesel(sql_type = Integer)]
    pub outbound_number: i32,
    /// The channel.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// The account.
    #[diesel(sql_type = Text)]
    pub account: String,
    /// Where to.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// Where it is.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Attempts begun.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// What was last said.
    #[diesel(sql_type = Text)]
    pub detail: String,
    /// The other side's id.
    #[diesel(sql_type = Text)]
    pub provider_message_id: String,
    /// Not sent before.
    #[diesel(sql_type = Timestamptz)]
    pub next_attempt_at: DateTime<Utc>,
    /// When it was queued.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When the other side took it.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub sent_at: Option<DateTime<Utc>>,
}

const SELECT: &str = "SELECT m.id, cu.number AS customer_number, o.number AS offer_number,
        m.campaign_id, p.number AS phase_number, ob.number AS outbound_number, m.channel,
        m.account, m.address, m.state, m.attempt, m.detail, m.provider_message_id,
        m.next_attempt_at, m.created_at, m.sent_at
    FROM message m
    JOIN customer cu ON cu.tenant_id = m.tenant_id AND cu.id = m.customer_id
    JOIN offer o ON o.tenant_id = m.tenant_id AND o.id = m.offer_id
    JOIN outbound ob ON ob.tenant_id = m.tenant_id AND ob.id = m.outbound_id
    JOIN phase p ON p.tenant_id = m.tenant_id AND p.id = m.phase_id
    WHERE m.tenant_id = $1";

/// One message.
pub async fn get(conn: &mut Conn, tenant: TenantId, id: MessageId) -> Result<Option<Message>> {
    Ok(diesel::sql_query(format!("{SELECT} AND m.id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id.0)
        .get_result(conn)
        .await
        .optional()?)
}

/// Which messages to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this campaign's.
    pub campaign: Option<CampaignId>,
    /// Only this customer's, by number.
    pub customer_number: Option<String>,
    /// Only in one of these states; all when empty.
    pub states: Vec<&'static str>,
}

/// What messages are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
        Field::resource(
            "campaign",
            &[Part::new("campaigns", "campaign_id", PartType::Uuid)],
        ),
        Field::column("channel", Kind::Text),
        Field::resource(
            "channel_account",
            &[Part::new("channelAccounts", "account", PartType::Text)],
        ),
        Field::column("address", Kind::Text),
        Field::column("state", Kind::Word("MESSAGE_STATE_", STATES)),
        Field::new("attempt_count", Kind::Number, "attempt"),
        Field::column("detail", Kind::Text),
        Field::column("provider_message_id", Kind::Text),
        Field::new("next_attempt_time", Kind::Time, "next_attempt_at"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::nullable("send_time", Kind::Time, "sent_at"),
    ],
    key: &[Sort::key("id", "::uuid", false)],
};

const STATES: &[&str] = &[
    "queued",
    "sending",
    "sent",
    "delivered",
    "failed",
    "bounced",
    "suppressed",
    "ambiguous",
    "cancelled",
];

/// A page of messages, oldest first if not otherwise wanted.
pub async fn list(
    conn: &mut Conn,
    tenant: TenantId,
    filter: &Filter,
    list: &List,
) -> Result<Page<Message>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{SELECT} AND ($2 IS NULL OR m.campaign_id = $2) AND ($3 IS NULL OR cu.number = $3)
             AND (cardinality($4) = 0 OR m.state = ANY($4))"
        )
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<SqlUuid>, _>(filter.campaign.map(|id| id.0)),
            bound::<Nullable<Text>, _>(filter.customer_number.clone()),
            bound::<Array<Text>, _>(filter.states.clone()),
        ],
    );
    list.load(conn, base).await
}

/// One try to send a message.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Attempt {
    /// From 1.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// When it began.
    #[diesel(sql_type = Timestamptz)]
    pub started_at: DateTime<Utc>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
    /// How it ended.
    #[diesel(sql_type = Nullable<Text>)]
    pub outcome: Option<String>,
    /// What the channel said.
    #[diesel(sql_type = Text)]
    pub detail: String,
}

/// A message's attempts, in order.
pub async fn attempts(conn: &mut Conn, tenant: TenantId, id: MessageId) -> Result<Vec<Attempt>> {
    Ok(diesel::sql_query(
        "SELECT attempt, started_at, ended_at, outcome, detail FROM message_attempt
         WHERE tenant_id = $1 AND message_id = $2 ORDER BY attempt",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .load(conn)
    .await?)
}

#[expect(clippy::cast_precision_loss, reason = "at most some minutes")]
pub(crate) fn seconds(span: TimeDelta) -> f64 {
    span.num_milliseconds() as f64 / 1_000.0
}
