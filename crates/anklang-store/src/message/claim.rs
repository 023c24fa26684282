//! Claims of due messages.

use anklang_domain::TenantId;
use anklang_domain::rate::Rate;
use anklang_domain::window::Window;
use chrono::{DateTime, TimeDelta, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::clock::Clock;
use super::seconds;
use super::wait::{self, ClosedZone, WAITS};
use crate::sql::Fix;
use crate::{Conn, Result, Store, budget, pace};

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
    #[diesel(sql_type = Nullable<SqlUuid>)]
    offer_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    planned_contact_id: Option<Uuid>,
    #[diesel(sql_type = Bool)]
    is_notice: bool,
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

/// What a message belongs to, and so what it is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BelongsTo {
    /// The offer that it carries.
    Offer(Uuid),
    /// A winback case.
    WinbackCase,
    /// A planned contact whose customer was not reached.
    PlannedContact,
    /// A winback case, but it goes to people of the tenant.
    Notice,
}

impl Claimed {
    /// What it belongs to.
    pub fn belongs_to(&self) -> BelongsTo {
        match (self.offer_id, self.planned_contact_id) {
            _ if self.is_notice => BelongsTo::Notice,
            (Some(offer), _) => BelongsTo::Offer(offer),
            (None, Some(_)) => BelongsTo::PlannedContact,
            (None, None) => BelongsTo::WinbackCase,
        }
    }
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
    /// Their account.
    pub account: String,
    /// As in [`Terms`].
    pub revision: Option<i64>,
    /// By which the account's sending hours go, if it has any and places were free.
    pub clock: Option<Clock>,
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
    /// The revision of the tenant's own account that the sender has opened; `None` for one of the
    /// configuration file.
    pub revision: Option<i64>,
}

#[derive(QueryableByName)]
pub(super) struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    pub(super) id: Uuid,
}

/// Tenants with messages due on an account of the configuration file that is not held for them. A
/// tenant's own account of that id is another one.
pub async fn due_tenants(store: &Store, account: &str) -> Result<Vec<TenantId>> {
    let mut tx = store.begin_worker().await?;
    let rows: Vec<IdRow> = diesel::sql_query(
        "SELECT t.id FROM tenant t WHERE EXISTS (
             SELECT FROM message m WHERE m.tenant_id = t.id AND m.account = $1
               AND m.state = 'queued' AND m.next_attempt_at <= now())
           AND NOT EXISTS (
             SELECT FROM account_pace p WHERE p.tenant_id = t.id AND p.account = $1
               AND p.held_until > now())
           AND NOT EXISTS (
             SELECT FROM channel_account a WHERE a.tenant_id = t.id AND a.id = $1)",
    )
    .bind::<Text, _>(account)
    .fixed()
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|r| TenantId(r.id)).collect())
}

/// Whether a sender that has opened a revision of an account may hand its messages over: the newest
/// one of a tenant's account that is not paused, or, without a revision, one of the configuration
/// file; and its channel has not asked to be left alone meanwhile.
pub(super) fn may_send(account: &str, revision: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM account_pace r
                     WHERE r.tenant_id = $1 AND r.account = {account} AND r.held_until > now())
         AND CASE WHEN {revision}::bigint IS NULL
              THEN NOT EXISTS (SELECT FROM channel_account a
                               WHERE a.tenant_id = $1 AND a.id = {account})
              ELSE EXISTS (SELECT FROM channel_account a
                           WHERE a.tenant_id = $1 AND a.id = {account} AND NOT a.paused
                             AND a.revision = {revision} AND a.deleted_at IS NULL) END"
    )
}

/// Reasons for which a message is cancelled, and not suppressed.
const OVER: &str =
    "'the offer is not open any more', 'the phase was given up', 'the case is closed'";

/// Where the recipient of the message `m` lives, as `z.time_zone`.
const ZONE: &str =
    "JOIN LATERAL (SELECT coalesce(nullif(cu.time_zone, ''), t.time_zone) AS time_zone
        FROM customer cu WHERE cu.tenant_id = $1 AND cu.id = m.customer_id OFFSET 0) z ON true";

/// Why the message `m` must not be sent any more, or NULL; over [`LOOKED_UP`]. A notice always may.
pub(super) const REASON: &str = "CASE
    WHEN m.is_notice THEN NULL
    WHEN m.offer_id IS NOT NULL AND (o.state IS DISTINCT FROM 'open'
         OR p.state IN ('cancelled', 'failed')
         OR o.valid_until < (now() AT TIME ZONE t.time_zone)::date)
    THEN 'the offer is not open any more'
    WHEN p.state IN ('cancelled', 'failed') THEN 'the phase was given up'
    WHEN w.state IN ('no_interest', 'won_back') THEN 'the case is closed'
    WHEN v.valid_until < (now() AT TIME ZONE t.time_zone)::date THEN 'the last day of the voucher is over'
    WHEN s.blocked THEN 'the address is blocked'
    WHEN c.state IS DISTINCT FROM 'granted' THEN 'no consent any more' END";

/// What a message's fate depends on, row by row by whole keys (fenced, see [`crate::launch`]).
/// Blocked are addresses of contact points: a text message's is a mobile number.
pub(super) const LOOKED_UP: &str = "JOIN tenant t ON t.id = $1
    LEFT JOIN LATERAL (SELECT state, valid_until FROM offer
        WHERE tenant_id = $1 AND id = m.offer_id OFFSET 0) o ON true
    LEFT JOIN LATERAL (SELECT p.state, p.paused OR ca.paused OR p.unapproved AS paused FROM phase p
        JOIN campaign ca ON ca.tenant_id = p.tenant_id AND ca.id = p.campaign_id
        WHERE p.tenant_id = $1 AND p.id = m.phase_id OFFSET 0) p ON true
    LEFT JOIN LATERAL (SELECT state FROM winback_case
        WHERE tenant_id = $1 AND id = m.winback_case_id OFFSET 0) w ON true
    -- Of a message of no case nothing is read.
    LEFT JOIN LATERAL (SELECT valid_until FROM voucher_pool
        WHERE m.winback_case_id IS NOT NULL AND tenant_id = $1 AND id = (
            SELECT pool_id FROM voucher WHERE tenant_id = $1 AND id = (
                SELECT voucher_id FROM winback_mail WHERE tenant_id = $1 AND message_id = m.id))
        OFFSET 0) v ON true
    LEFT JOIN LATERAL (SELECT true AS blocked FROM suppression
        WHERE tenant_id = $1 AND address_hash = m.address_hash
          AND channel = CASE m.channel WHEN 'sms' THEN 'mobile' ELSE m.channel END OFFSET 0) s ON true
    LEFT JOIN LATERAL (SELECT state FROM consent
        WHERE tenant_id = $1 AND customer_id = m.customer_id AND channel = m.channel
          AND purpose = m.purpose OFFSET 0) c ON true";

/// Claims due messages: as many as wanted, as the account's rate allows, and as need not wait for
/// the sending hours; none when the account is paused, or the sender has not opened it as it is now. Consent and blocked addresses are looked at again, and the contact budget:
/// who may not be contacted any more is `suppressed` here. A message whose offer was taken back, or
/// whose winback case was closed, after it was queued is `cancelled` here. Those of paused phases and campaigns, and
/// of phases that need an approval and have none, stay in the queue, and are not walked over: it is read phase by phase. All phases with due messages get equal
/// shares, so that a large one does not hold up those that begin after it. A winback mailing counts as a
/// phase, and so do all messages together that are queued one by one.
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
        account: account.to_owned(),
        revision: terms.revision,
        clock: None,
    };
    let (mut limit, mut waiting, mut paced) = (terms.limit, 0, None);
    let mut began = None;
    if let Some(rate) = terms.rate {
        let pace = pace::lock(&mut tx, tenant, account).await?;
        let next = rate.next(pace.free_at, pace.now);
        batch.again_in = Some(next - pace.now).filter(|wait| *wait > TimeDelta::zero());
        limit = limit.min(rate.free(pace.free_at, pace.now).into());
        began = Some(pace.now);
        paced = Some((rate, pace));
    }
    let mut closed = Vec::new();
    if let Some(window) = terms.window.filter(|_| limit > 0) {
        let clock = batch.clock.insert(Clock::read(&mut tx, began).await?);
        closed = window.closed_zones(clock.now());
        (waiting, limit) = wait::wait_for_window(&mut tx, tenant, account, &closed, limit).await?;
    }
    if limit > 0 {
        let moved = move_due(&mut tx, &batch, limit, terms.lease_for, &closed, began).await?;
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

/// Decides on due messages, in one statement: sent now, or not any more. Attempts begin when the
/// account's rate let them: what the ledger shows keeps to it.
async fn move_due(
    conn: &mut Conn,
    batch: &Batch,
    limit: i64,
    lease_for: TimeDelta,
    closed: &[ClosedZone],
    began: Option<DateTime<Utc>>,
) -> Result<Vec<Moved>> {
    let (zones, opens): (Vec<&str>, Vec<DateTime<Utc>>) = closed.iter().copied().unzip();
    // Without a budget nothing is counted.
    let budget = budget::lock(conn, batch.tenant).await?;
    let contacts = budget::contacts(budget::CONTACT, "$7", "$8");
    let used_up = budget::USED_UP;
    let may_send = may_send("$2", "$11");
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
             -- In changing order: when there are more phases than places, all come to their turn.
             SELECT w.phase_id, due.n, row_number() OVER (ORDER BY random()) AS place
             FROM waiting w
             LEFT JOIN phase p ON p.tenant_id = $1 AND p.id = w.phase_id
             LEFT JOIN campaign c ON c.tenant_id = $1 AND c.id = p.campaign_id
             CROSS JOIN LATERAL (
                 SELECT count(*) AS n FROM (
                     SELECT FROM message m
                     WHERE m.tenant_id = $1 AND m.account = $2 AND m.phase_id = w.phase_id
                       AND m.state = 'queued' AND m.next_attempt_at <= now()
                     ORDER BY m.next_attempt_at LIMIT $3) first) due
             WHERE due.n > 0 AND p.paused IS NOT TRUE AND c.paused IS NOT TRUE
               AND p.unapproved IS NOT TRUE
               AND {may_send}
             ORDER BY place LIMIT $3),
         fair AS MATERIALIZED (
             -- Each phase has an equal share; what some do not use up goes to the others in turn.
             SELECT phase_id, place, n - share AS spare, share,
                    $3 - sum(share) OVER () AS unused
             FROM (SELECT turn.*, least(n, greatest($3 / count(*) OVER (), 1)) AS share FROM turn) s),
         shares AS MATERIALIZED (
             SELECT phase_id, place, share + greatest(least(spare, unused -
                        (sum(spare) OVER (ORDER BY place) - spare)), 0)::bigint AS most
             FROM fair),
         due AS MATERIALIZED (
             -- No more is locked than is claimed.
             SELECT d.* FROM (SELECT * FROM shares ORDER BY place) shares CROSS JOIN LATERAL (
                 SELECT m.id, m.customer_id, m.offer_id, m.winback_case_id, m.phase_id, m.channel,
                        m.purpose, m.address_hash, m.next_attempt_at, m.notice IS NOT NULL AS is_notice
                 FROM message m
                 WHERE m.tenant_id = $1 AND m.account = $2 AND m.phase_id = shares.phase_id
                   AND m.state = 'queued' AND m.next_attempt_at <= now()
                 ORDER BY m.next_attempt_at LIMIT shares.most FOR UPDATE SKIP LOCKED) d
             LIMIT $3),
         looked AS MATERIALIZED (
             SELECT m.id, m.customer_id, m.next_attempt_at, {REASON} AS reason,
                    m.purpose <> ALL($8) AND NOT m.is_notice AS counts, closed.opens_at
             FROM due m {LOOKED_UP}
             {ZONE}
             LEFT JOIN unnest($9::text[], $10::timestamptz[]) AS closed (zone, opens_at)
                 ON closed.zone = z.time_zone),
         barred AS MATERIALIZED (
             SELECT m.id, m.opens_at,
                    coalesce(m.reason, CASE WHEN m.counts AND m.opens_at IS NULL
                        AND used.n + row_number() OVER (
                            PARTITION BY m.customer_id, m.counts AND m.reason IS NULL
                                AND m.opens_at IS NULL
                            ORDER BY m.next_attempt_at, m.id) > $6 THEN '{used_up}' END) AS reason
             FROM looked m
             LEFT JOIN LATERAL ({contacts} AND $6 IS NOT NULL OFFSET 0) used ON true),
         moved AS (
             UPDATE message m SET
                 state = CASE WHEN b.fate = 'now' THEN 'sending'
                              WHEN b.fate = 'later' THEN 'queued'
                              WHEN b.reason IN ({OVER}) THEN 'cancelled'
                              ELSE 'suppressed' END,
                 attempt = m.attempt + CASE WHEN b.fate = 'now' THEN 1 ELSE 0 END,
                 detail = CASE b.fate WHEN 'now' THEN m.detail WHEN 'later' THEN '{WAITS}'
                              ELSE b.reason END,
                 next_attempt_at = CASE WHEN b.fate = 'later' THEN b.opens_at
                                        ELSE m.next_attempt_at END,
                 lease = CASE WHEN b.fate = 'now' THEN $4 END,
                 lease_until = CASE WHEN b.fate = 'now' THEN now() + make_interval(secs => $5) END,
                 submitted_at = NULL, updated_at = now()
             FROM (SELECT *, CASE WHEN reason IS NOT NULL THEN 'never'
                                  WHEN opens_at IS NOT NULL THEN 'later' ELSE 'now' END AS fate
                   FROM barred) b
             WHERE m.tenant_id = $1 AND m.id = b.id
             RETURNING m.id, m.attempt, m.failures, m.address, m.offer_id, m.outbound_id, m.state,
                       m.customer_id, m.campaign_id, m.detail, m.traceparent, m.planned_contact_id,
                       m.notice IS NOT NULL AS is_notice, m.template),
         noted AS (
             INSERT INTO message_attempt (tenant_id, message_id, attempt, started_at, account)
             SELECT $1, id, attempt, coalesce($12, now()), $2 FROM moved WHERE state = 'sending'),
         told AS (
             INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id, details)
             SELECT $1, customer_id, 'message.suppressed', 'messages/' || id, campaign_id,
                    jsonb_build_object('detail', detail)
             FROM moved WHERE state = 'suppressed')
         SELECT m.id, m.attempt, m.failures, m.address, m.offer_id, m.planned_contact_id,
                m.is_notice,
                coalesce(o.message_template, m.template, 'winback_' || w.template)
                    AS message_template,
                m.traceparent, m.state, z.time_zone
         FROM moved m
         LEFT JOIN outbound o ON o.tenant_id = $1 AND o.id = m.outbound_id
         LEFT JOIN winback_mail w ON w.tenant_id = $1 AND w.message_id = m.id
         JOIN tenant t ON t.id = $1
         {ZONE}"),
    )
    .bind::<SqlUuid, _>(batch.tenant.0)
    .bind::<Text, _>(&batch.account)
    .bind::<BigInt, _>(limit)
    .bind::<SqlUuid, _>(batch.lease)
    .bind::<Double, _>(seconds(lease_for))
    .bind::<Nullable<Integer>, _>(budget.as_ref().map(|b| b.max_contacts))
    .bind::<Integer, _>(budget.as_ref().map_or(1, |b| b.window_days))
    .bind::<Array<Text>, _>(budget.map_or_else(Vec::new, |b| b.exempt_purposes))
    .bind::<Array<Text>, _>(zones)
    .bind::<Array<Timestamptz>, _>(opens)
    .bind::<Nullable<BigInt>, _>(batch.revision)
    .bind::<Nullable<Timestamptz>, _>(began)
    .fixed()
    .load(conn)
    .await?)
}
