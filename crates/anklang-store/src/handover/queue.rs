//! The queue of deliveries: claims, outcomes, rescue, purge.
//!
//! A delivery moves `pending → delivering` by [`claim`], which counts its attempt up and gives it a
//! lease, and leaves `delivering` by [`complete`] of the same attempt. When the lease runs out,
//! [`rescue`] makes it pending again; it may then arrive twice, which receivers tell by its id.
//!
//! Of the events of an offer or an order, only the first that is neither delivered nor dead is claimed:
//! a receiver never sees them in another order, unless it has one replayed.

use std::time::Duration;

use anklang_domain::handover::Next;
use anklang_domain::{TenantId, WebhookId};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::delivery::{EVENT, Event};
use crate::message::seconds;
use crate::{Result, Store};

/// A webhook with deliveries that are due.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Due {
    /// Its tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Its tenant's slug.
    #[diesel(sql_type = Text)]
    pub tenant_slug: String,
    /// The webhook.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Whether its last delivery failed.
    #[diesel(sql_type = Bool)]
    pub failing: bool,
}

impl Due {
    /// Its tenant.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_id)
    }

    /// The webhook.
    pub fn webhook(&self) -> WebhookId {
        WebhookId(self.id)
    }
}

/// How many webhooks are worked on at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// So many more.
    pub free: i64,
    /// So many of one tenant, those that are busy included; of those that fail half as many, at least
    /// one.
    pub of_tenant: i64,
    /// So many that fail, those that are busy included.
    pub failing: i64,
}

/// Webhooks of all tenants with deliveries that are due, without `busy` ones, as far as there are
/// places for them. Tenants take turns; else in no order, so that none is always the last.
pub async fn due(store: &Store, busy: &[Uuid], places: Places) -> Result<Vec<Due>> {
    let mut tx = store.begin_worker().await?;
    let due = diesel::sql_query(
        "WITH busy AS MATERIALIZED (
             SELECT tenant_id, count(*) AS n, count(failing_since) AS failing
             FROM webhook WHERE id = ANY($1) GROUP BY tenant_id),
         due AS (
             SELECT w.tenant_id, w.id, w.failing_since IS NOT NULL AS failing,
                    row_number() OVER (PARTITION BY w.tenant_id
                        ORDER BY w.failing_since IS NOT NULL, random())
                    + coalesce((SELECT n FROM busy b WHERE b.tenant_id = w.tenant_id), 0) AS turn,
                    row_number() OVER (PARTITION BY w.tenant_id, w.failing_since IS NOT NULL
                        ORDER BY random())
                    + coalesce((SELECT failing FROM busy b WHERE b.tenant_id = w.tenant_id), 0)
                    AS of_kind_in_tenant
             FROM webhook w
             WHERE NOT w.paused AND w.deleted_at IS NULL
               AND (w.held_until IS NULL OR w.held_until <= now()) AND w.id <> ALL($1)
               AND EXISTS (SELECT FROM handover_delivery d
                   WHERE d.tenant_id = w.tenant_id AND d.webhook_id = w.id AND d.state = 'pending'
                     AND d.next_attempt_at <= now())),
         ranked AS (
             SELECT *, row_number() OVER (PARTITION BY failing ORDER BY turn, random())
                    + coalesce((SELECT sum(failing) FROM busy), 0) AS of_kind
             FROM due
             -- Failing ones have places of their own: else healthy ones that are always busy would
             -- keep one that has recovered from ever being tried.
             WHERE CASE WHEN failing THEN of_kind_in_tenant <= greatest($3 / 2, 1)
                        ELSE turn <= $3 END)
         SELECT r.tenant_id, t.slug AS tenant_slug, r.id, r.failing
         FROM ranked r JOIN tenant t ON t.id = r.tenant_id
         WHERE NOT r.failing OR r.of_kind <= $4
         ORDER BY r.turn, random() LIMIT $2",
    )
    .bind::<Array<SqlUuid>, _>(busy)
    .bind::<BigInt, _>(places.free)
    .bind::<BigInt, _>(places.of_tenant)
    .bind::<BigInt, _>(places.failing)
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(due)
}

/// A delivery in the hands of a sender.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Claimed {
    /// The event.
    #[diesel(embed)]
    pub event: Event,
    /// Number of this attempt, from 1.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// Attempts before it that failed.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
}

/// A secret as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct SealedSecret {
    /// Its id, which it is sealed with.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The secret, sealed.
    #[diesel(sql_type = Bytea)]
    pub sealed: Vec<u8>,
}

/// Deliveries to one webhook, claimed together, and what they need.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Where to.
    pub url: String,
    /// The valid secrets, newest first.
    pub secrets: Vec<SealedSecret>,
    /// The deliveries, in the order of their events.
    pub deliveries: Vec<Claimed>,
}

/// Claims up to `limit` due deliveries of a webhook for `lease_for`; none when it was paused or
/// deleted meanwhile.
pub async fn claim(store: &Store, due: &Due, limit: i64, lease_for: Duration) -> Result<Batch> {
    #[derive(QueryableByName)]
    struct Url {
        #[diesel(sql_type = Text)]
        url: String,
    }
    let mut tx = store.begin_work(due.tenant()).await?;
    let found: Option<Url> = diesel::sql_query(
        "SELECT url FROM webhook
         WHERE tenant_id = $1 AND id = $2 AND NOT paused AND deleted_at IS NULL",
    )
    .bind::<SqlUuid, _>(due.tenant_id)
    .bind::<SqlUuid, _>(due.id)
    .get_result(&mut tx)
    .await
    .optional()?;
    let Some(Url { url }) = found else {
        return Ok(Batch::default());
    };
    let secrets = diesel::sql_query(
        "SELECT id, sealed FROM webhook_secret
         WHERE tenant_id = $1 AND webhook_id = $2 AND (expires_at IS NULL OR expires_at > now())
         ORDER BY id DESC",
    )
    .bind::<SqlUuid, _>(due.tenant_id)
    .bind::<SqlUuid, _>(due.id)
    .load(&mut tx)
    .await?;
    let deliveries = diesel::sql_query(format!(
        "WITH due AS (
             SELECT d.event_id FROM handover_delivery d
             WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.state = 'pending'
               AND d.next_attempt_at <= now()
               AND NOT EXISTS (SELECT FROM handover_delivery before
                   WHERE before.tenant_id = $1 AND before.webhook_id = $2
                     AND before.offer_id = d.offer_id AND before.seq < d.seq
                     AND before.state IN ('pending', 'delivering'))
               AND NOT EXISTS (SELECT FROM handover_delivery before
                   WHERE before.tenant_id = $1 AND before.webhook_id = $2
                     AND before.order_id = d.order_id AND before.seq < d.seq
                     AND before.state IN ('pending', 'delivering'))
             ORDER BY d.next_attempt_at, d.seq LIMIT $3 FOR UPDATE OF d SKIP LOCKED),
         moved AS (
             UPDATE handover_delivery d SET state = 'delivering', attempt = d.attempt + 1,
                 lease_until = now() + make_interval(secs => $4)
             FROM due
             WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.event_id = due.event_id
             RETURNING d.event_id, d.attempt, d.failures)
         SELECT {EVENT}, moved.attempt, moved.failures
         FROM moved JOIN handover_event e ON e.tenant_id = $1 AND e.id = moved.event_id
         ORDER BY e.seq"
    ))
    .bind::<SqlUuid, _>(due.tenant_id)
    .bind::<SqlUuid, _>(due.id)
    .bind::<BigInt, _>(limit)
    .bind::<Double, _>(lease_for.as_secs_f64())
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(Batch {
        url,
        secrets,
        deliveries,
    })
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The event.
    pub event_id: Uuid,
    /// The attempt.
    pub attempt: i32,
    /// What becomes of the delivery.
    pub next: Next,
    /// Whether it counts as a failure of the receiver.
    pub failed: bool,
    /// Status of the response.
    pub status: Option<i32>,
    /// In words, why it failed; printable.
    pub detail: String,
    /// The receiver asked to be left alone for so long.
    pub hold_for: Option<TimeDelta>,
}

/// Records what attempts came to, and how the webhook is doing. Only what is still under the same
/// attempt moves; returns how many did.
pub async fn complete(store: &Store, due: &Due, ended: &[Ended]) -> Result<usize> {
    let state = |e: &Ended| match e.next {
        Next::Delivered => "delivered",
        Next::Dead => "dead",
        Next::Pending { .. } => "pending",
    };
    let wait = |e: &Ended| match e.next {
        Next::Pending { wait } => Some(seconds(wait)),
        _ => None,
    };
    let taken = ended.iter().any(|e| e.next == Next::Delivered);
    let failed = ended.iter().any(|e| e.failed);
    let hold_for = ended.iter().filter_map(|e| e.hold_for).max().map(seconds);
    let mut tx = store.begin(due.tenant()).await?;
    let moved = diesel::sql_query(
        "WITH ended AS (
             SELECT * FROM unnest($3::uuid[], $4::int[], $5::text[], $6::float8[], $7::bool[],
                                  $8::int[], $9::text[])
                 AS e (event_id, attempt, state, wait, failed, status, detail))
         UPDATE handover_delivery d SET state = e.state, failures = d.failures + e.failed::int,
             next_attempt_at = coalesce(now() + make_interval(secs => e.wait), d.next_attempt_at),
             lease_until = NULL, response_status = e.status, detail = e.detail,
             ended_at = CASE WHEN e.state <> 'pending' THEN now() END
         FROM ended e
         WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.event_id = e.event_id
           AND d.attempt = e.attempt AND d.state = 'delivering'",
    )
    .bind::<SqlUuid, _>(due.tenant_id)
    .bind::<SqlUuid, _>(due.id)
    .bind::<Array<SqlUuid>, _>(ended.iter().map(|e| e.event_id).collect::<Vec<_>>())
    .bind::<Array<Integer>, _>(ended.iter().map(|e| e.attempt).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ended.iter().map(state).collect::<Vec<_>>())
    .bind::<Array<Nullable<Double>>, _>(ended.iter().map(wait).collect::<Vec<_>>())
    .bind::<Array<Bool>, _>(ended.iter().map(|e| e.failed).collect::<Vec<_>>())
    .bind::<Array<Nullable<Integer>>, _>(ended.iter().map(|e| e.status).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(ended.iter().map(|e| &e.detail[..]).collect::<Vec<_>>())
    .execute(&mut tx)
    .await?;
    // Written only when it changes: all deliveries of a webhook meet in this row.
    diesel::sql_query(
        "WITH asked AS (SELECT now() + make_interval(secs => $5) AS hold)
         UPDATE webhook SET
             failing_since = CASE WHEN $3 THEN NULL WHEN $4 THEN coalesce(failing_since, now())
                                  ELSE failing_since END,
             held_until = greatest(held_until, asked.hold)
         FROM asked
         WHERE tenant_id = $1 AND id = $2
           AND (($3 AND failing_since IS NOT NULL) OR (NOT $3 AND $4 AND failing_since IS NULL)
                OR asked.hold > coalesce(held_until, '-infinity'))",
    )
    .bind::<SqlUuid, _>(due.tenant_id)
    .bind::<SqlUuid, _>(due.id)
    .bind::<Bool, _>(taken)
    .bind::<Bool, _>(failed)
    .bind::<Nullable<Double>, _>(hold_for)
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(moved)
}

/// Takes back deliveries of all tenants whose lease has run out. Returns how many.
pub async fn rescue(store: &Store) -> Result<usize> {
    let mut tx = store.begin_worker().await?;
    let rows = diesel::sql_query(
        "WITH lost AS (
             SELECT tenant_id, webhook_id, event_id FROM handover_delivery
             WHERE state = 'delivering' AND lease_until < now()
             LIMIT 10000 FOR UPDATE SKIP LOCKED)
         UPDATE handover_delivery d SET state = 'pending', lease_until = NULL,
             next_attempt_at = now(), detail = 'the sender was interrupted'
         FROM lost
         WHERE d.tenant_id = lost.tenant_id AND d.webhook_id = lost.webhook_id
           AND d.event_id = lost.event_id",
    )
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows)
}

/// Removes what is not needed any more, at most `limit` rows of each: deliveries that were taken before
/// `before`, and those of deleted webhooks, with the events of which no delivery is left; webhooks
/// deleted before then. Returns how many rows; fewer than `limit` means that it is done.
///
/// What is kept is not looked at, however much it is: dead deliveries and their events.
pub async fn purge(
    store: &Store,
    tenant: TenantId,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<usize> {
    let mut rows = 0;
    for over in [
        "SELECT webhook_id, event_id FROM handover_delivery
         WHERE tenant_id = $1 AND state = 'delivered' AND ended_at < $2
         LIMIT $3 FOR UPDATE SKIP LOCKED",
        "SELECT d.webhook_id, d.event_id FROM webhook w
         JOIN handover_delivery d ON d.tenant_id = $1 AND d.webhook_id = w.id
         WHERE w.tenant_id = $1 AND w.deleted_at IS NOT NULL AND $2 IS NOT NULL
         LIMIT $3 FOR UPDATE OF d SKIP LOCKED",
    ] {
        rows += purge_deliveries(store, tenant, over, before, limit).await?;
    }
    let mut tx = store.begin(tenant).await?;
    rows += diesel::sql_query(
        "DELETE FROM webhook WHERE tenant_id = $1 AND id IN (
             SELECT w.id FROM webhook w
             WHERE w.tenant_id = $1 AND w.deleted_at < $2
               AND NOT EXISTS (SELECT FROM handover_delivery d
                   WHERE d.tenant_id = $1 AND d.webhook_id = w.id)
             LIMIT $3 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows)
}

/// Removes the deliveries that a query gives, and events whose last ones they were. Returns how many
/// deliveries.
async fn purge_deliveries(
    store: &Store,
    tenant: TenantId,
    over: &str,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<usize> {
    #[derive(QueryableByName)]
    struct Gone {
        #[diesel(sql_type = SqlUuid)]
        event_id: Uuid,
    }
    let mut tx = store.begin(tenant).await?;
    let gone: Vec<Gone> = diesel::sql_query(format!(
        "DELETE FROM handover_delivery WHERE tenant_id = $1 AND (webhook_id, event_id) IN ({over})
         RETURNING event_id"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .load(&mut tx)
    .await?;
    let events: Vec<Uuid> = gone.iter().map(|g| g.event_id).collect();
    // Two servers may remove the last two deliveries of an event at once, and neither sees what the
    // other has removed before it is committed: they take turns, and the second one looks anew.
    for statement in [
        "SELECT FROM handover_event WHERE tenant_id = $1 AND id = ANY($2) ORDER BY id FOR UPDATE",
        "DELETE FROM handover_event e WHERE e.tenant_id = $1 AND e.id = ANY($2)
           AND NOT EXISTS (SELECT FROM handover_delivery d
               WHERE d.tenant_id = $1 AND d.event_id = e.id)",
    ] {
        diesel::sql_query(statement)
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<Array<SqlUuid>, _>(&events)
            .execute(&mut tx)
            .await?;
    }
    tx.commit().await?;
    Ok(gone.len())
}
