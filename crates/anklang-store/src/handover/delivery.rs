//! Deliveries as callers see them: listed, and replayed.

use std::sync::LazyLock;

use anklang_domain::{EventId, TenantId, WebhookId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::audit::{self, Counts, Deed};
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, Store};

/// An event as receivers see it.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Event {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub event_id: Uuid,
    /// Its place in the order of events.
    #[diesel(sql_type = BigInt)]
    pub seq: i64,
    /// Its type.
    #[diesel(sql_type = Text)]
    pub event_type: String,
    /// What it is about.
    #[diesel(sql_type = Text)]
    pub subject: String,
    /// When it happened.
    #[diesel(sql_type = Timestamptz)]
    pub occurred_at: DateTime<Utc>,
    /// What is told.
    #[diesel(sql_type = Jsonb)]
    pub data: serde_json::Value,
    /// The trace context in which it happened.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
}

/// Columns of an [`Event`] out of `e`.
pub(super) const EVENT: &str = "e.id AS event_id, e.seq, e.type AS event_type, e.subject, e.occurred_at, e.data, e.traceparent";

/// An event on its way to a webhook.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Delivery {
    /// The event.
    #[diesel(embed)]
    pub event: Event,
    /// Where to.
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: Uuid,
    /// Where it is.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Attempts begun.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// Attempts that failed since the last replay.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
    /// Not tried before.
    #[diesel(sql_type = Timestamptz)]
    pub next_attempt_at: DateTime<Utc>,
    /// Status of the last response.
    #[diesel(sql_type = Nullable<Integer>)]
    pub response_status: Option<i32>,
    /// Why the last attempt failed.
    #[diesel(sql_type = Text)]
    pub detail: String,
    /// When it was delivered or given up.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub ended_at: Option<DateTime<Utc>>,
}

/// `$1` is the tenant, `$2` the webhook.
fn select(rest: &str) -> String {
    format!(
        "SELECT {EVENT}, d.webhook_id, d.state, d.attempt, d.failures, d.next_attempt_at,
                d.response_status, d.detail, d.ended_at
         FROM handover_delivery d
         JOIN handover_event e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
         JOIN webhook w ON w.tenant_id = d.tenant_id AND w.id = d.webhook_id
                       AND w.deleted_at IS NULL
         WHERE d.tenant_id = $1 AND d.webhook_id = $2 {rest}"
    )
}

/// One delivery.
pub async fn get(
    mut conn: &Conn,
    tenant: TenantId,
    webhook: WebhookId,
    event: EventId,
) -> Result<Option<Delivery>> {
    Ok(diesel::sql_query(select("AND d.event_id = $3"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(webhook.0)
        .bind::<SqlUuid, _>(event.0)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// Which deliveries to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only in one of these states; all when empty.
    pub states: Vec<&'static str>,
    /// Only of this offer, by number.
    pub offer_number: Option<String>,
}

/// What deliveries are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("event_type", Kind::Text),
        Field::column("subject", Kind::Text),
        Field::new("event_time", Kind::Time, "occurred_at"),
        Field::column(
            "state",
            Kind::Word(
                "DELIVERY_STATE_",
                &["pending", "delivering", "delivered", "dead"],
            ),
        ),
        Field::new("attempt_count", Kind::Number, "attempt"),
        Field::nullable("response_status", Kind::Number, "response_status"),
        Field::column("detail", Kind::Text),
        Field::nullable("end_time", Kind::Time, "ended_at"),
    ],
    key: &[Sort::key("seq", "::bigint", false)],
};

/// A page of a webhook's deliveries, in the order of the events if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    webhook: WebhookId,
    filter: &Filter,
    list: &List,
) -> Result<Page<Delivery>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        select(
            "AND (cardinality($3) = 0 OR d.state = ANY($3))
             AND ($4 IS NULL OR d.event_id IN (
                 SELECT oe.id FROM handover_event oe
                 JOIN offer o ON o.tenant_id = oe.tenant_id AND o.id = oe.offer_id
                 WHERE o.tenant_id = $1 AND o.number = $4))",
        )
    });
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<SqlUuid, _>(webhook.0),
            bound::<Array<Text>, _>(filter.states.clone()),
            bound::<Nullable<Text>, _>(filter.offer_number.clone()),
        ],
    );
    list.load(conn, base).await
}

/// Makes one delivery pending again, at once and with all attempts ahead. False when it is being
/// delivered, or is not there.
pub async fn replay(
    conn: &mut Conn,
    tenant: TenantId,
    webhook: WebhookId,
    event: EventId,
) -> Result<bool> {
    let rows = diesel::sql_query(
        "UPDATE handover_delivery SET state = 'pending', failures = 0, next_attempt_at = now(),
             ended_at = NULL
         WHERE tenant_id = $1 AND webhook_id = $2 AND event_id = $3 AND state <> 'delivering'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(webhook.0)
    .bind::<SqlUuid, _>(event.0)
    .execute(conn)
    .await?;
    Ok(rows > 0)
}

/// As [`replay`], for at most `limit` deliveries that were given up before `before`. Returns how
/// many.
pub async fn replay_dead(
    store: &Store,
    tenant: TenantId,
    webhook: WebhookId,
    before: DateTime<Utc>,
    limit: i64,
    deed: &Deed,
) -> Result<usize> {
    let mut tx = store.begin(tenant).await?;
    let rows = diesel::sql_query(
        "WITH dead AS (
             SELECT event_id FROM handover_delivery
             WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'dead' AND ended_at < $3
             ORDER BY ended_at LIMIT $4 FOR UPDATE)
         UPDATE handover_delivery d SET state = 'pending', failures = 0, next_attempt_at = now(),
             ended_at = NULL
         FROM dead WHERE d.tenant_id = $1 AND d.webhook_id = $2 AND d.event_id = dead.event_id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(webhook.0)
    .bind::<Timestamptz, _>(before)
    .bind::<BigInt, _>(limit)
    .execute(&mut tx)
    .await?;
    if rows > 0 {
        audit::record(&tx, tenant, deed, Counts::written(rows)).await?;
    }
    tx.commit().await?;
    Ok(rows)
}
