//! Hand-over: webhooks and their secrets here; the events in [`event`], deliveries as callers see
//! them in [`delivery`], their queue in [`queue`].

pub mod delivery;
pub mod event;
pub mod queue;

use anklang_domain::{TenantId, WebhookId};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A tenant has at most so many webhooks: each event is a row for each of them.
pub const MAX_WEBHOOKS: i64 = 32;
/// A webhook has at most so many valid secrets: each signs each delivery.
pub const MAX_SECRETS: i64 = 5;

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Webhook {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// For people.
    #[diesel(sql_type = Text)]
    pub display_name: String,
    /// Where to.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// Which events; all when empty.
    #[diesel(sql_type = Array<Text>)]
    pub event_types: Vec<String>,
    /// Whether events wait.
    #[diesel(sql_type = Bool)]
    pub paused: bool,
    /// Since when nothing was taken.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub failing_since: Option<DateTime<Utc>>,
    /// It asked to be left alone until then.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub held_until: Option<DateTime<Utc>>,
    /// When it was made.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was changed.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Webhook {
    /// Its typed id.
    pub fn webhook(&self) -> WebhookId {
        WebhookId(self.id)
    }
}

/// What its owner decides about a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// For people.
    pub display_name: String,
    /// Where to.
    pub url: String,
    /// Which events; all when empty.
    pub event_types: Vec<String>,
    /// Whether events wait.
    pub paused: bool,
}

const COLUMNS: &str = "id, display_name, url, event_types, paused, failing_since, held_until,
                       created_at, updated_at";

/// Adds a webhook. Refused when the tenant has [`MAX_WEBHOOKS`].
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    id: WebhookId,
    settings: &Settings,
) -> Result<Webhook> {
    // Two at once could both be the last: the tenant's webhooks take turns.
    diesel::sql_query("SELECT pg_advisory_xact_lock(hashtextextended('webhook' || $1::text, 0))")
        .bind::<SqlUuid, _>(tenant.0)
        .execute(conn)
        .await?;
    let made: Option<Webhook> = diesel::sql_query(format!(
        "INSERT INTO webhook (tenant_id, id, display_name, url, event_types, paused)
         SELECT $1, $2, $3, $4, $5, $6
         WHERE (SELECT count(*) FROM webhook WHERE tenant_id = $1 AND deleted_at IS NULL) < $7
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(&settings.display_name)
    .bind::<Text, _>(&settings.url)
    .bind::<Array<Text>, _>(&settings.event_types)
    .bind::<Bool, _>(settings.paused)
    .bind::<BigInt, _>(MAX_WEBHOOKS)
    .get_result(conn)
    .await
    .optional()?;
    made.ok_or_else(|| StoreError::Refused {
        resource: "webhooks".into(),
        reason: format!("a tenant has at most {MAX_WEBHOOKS}"),
    })
}

/// One webhook.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: WebhookId) -> Result<Option<Webhook>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM webhook WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// What webhooks are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("display_name", Kind::Text),
        Field::column("url", Kind::Text),
        Field::column("paused", Kind::Flag),
        Field::nullable("failing_since_time", Kind::Time, "failing_since"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::uuid", false)],
};

/// A page of webhooks, oldest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Webhook>> {
    let base = Statement::numbered(
        "SELECT id, display_name, url, event_types, paused, failing_since, held_until, created_at,
                updated_at
         FROM webhook WHERE tenant_id = $1 AND deleted_at IS NULL",
        &[bound::<SqlUuid, _>(tenant.0)],
    );
    list.load(conn, base).await
}

/// Replaces the settings. Another URL begins with a clean slate: it has not failed yet, nor asked to
/// be left alone.
pub async fn update(
    conn: &mut Conn,
    tenant: TenantId,
    id: WebhookId,
    settings: &Settings,
) -> Result<Option<Webhook>> {
    Ok(diesel::sql_query(format!(
        "UPDATE webhook SET display_name = $3, url = $4, event_types = $5, paused = $6,
             failing_since = CASE WHEN url = $4 THEN failing_since END,
             held_until = CASE WHEN url = $4 THEN held_until END, updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(&settings.display_name)
    .bind::<Text, _>(&settings.url)
    .bind::<Array<Text>, _>(&settings.event_types)
    .bind::<Bool, _>(settings.paused)
    .get_result(conn)
    .await
    .optional()?)
}

/// Marks a webhook as deleted: nobody sees it any more, and nothing is delivered. Its deliveries go
/// in chunks afterwards ([`queue::purge`]), however many they are. False when there is none.
pub async fn delete(conn: &mut Conn, tenant: TenantId, id: WebhookId) -> Result<bool> {
    let rows = diesel::sql_query(
        "WITH gone AS (
             UPDATE webhook SET deleted_at = now()
             WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
             RETURNING id),
         secrets AS (
             DELETE FROM webhook_secret s USING gone
             WHERE s.tenant_id = $1 AND s.webhook_id = gone.id)
         SELECT id FROM gone",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .execute(conn)
    .await?;
    Ok(rows > 0)
}

/// Adds a secret, sealed. Those before end at `until`, or earlier if they were to. Refused when there
/// would be more than [`MAX_SECRETS`] valid ones. The webhook's row is locked, so that rotations
/// take turns.
pub async fn add_secret(
    conn: &mut Conn,
    tenant: TenantId,
    webhook: WebhookId,
    secret: Uuid,
    sealed: &[u8],
    until: DateTime<Utc>,
) -> Result<()> {
    #[derive(QueryableByName)]
    struct Valid {
        #[diesel(sql_type = BigInt)]
        valid: i64,
    }
    diesel::sql_query(
        "WITH held AS MATERIALIZED (
             SELECT id FROM webhook WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE)
         UPDATE webhook_secret s SET expires_at = least(s.expires_at, $3) FROM held
         WHERE s.tenant_id = $1 AND s.webhook_id = held.id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(webhook.0)
    .bind::<Timestamptz, _>(until)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "DELETE FROM webhook_secret
         WHERE tenant_id = $1 AND webhook_id = $2 AND expires_at <= now()",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(webhook.0)
    .execute(conn)
    .await?;
    let Valid { valid } = diesel::sql_query(
        "WITH added AS (
             INSERT INTO webhook_secret (tenant_id, webhook_id, id, sealed) VALUES ($1, $2, $3, $4)
             RETURNING 1)
         SELECT (SELECT count(*) FROM added) + (SELECT count(*) FROM webhook_secret
             WHERE tenant_id = $1 AND webhook_id = $2) AS valid",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(webhook.0)
    .bind::<SqlUuid, _>(secret)
    .bind::<Bytea, _>(sealed)
    .get_result(conn)
    .await?;
    if valid > MAX_SECRETS {
        return Err(StoreError::Refused {
            resource: format!("webhooks/{webhook}"),
            reason: format!(
                "has {MAX_SECRETS} valid secrets; wait until one ends, or rotate without overlap"
            ),
        });
    }
    Ok(())
}

/// The key of the installation that seals secrets when the operator has set none.
pub async fn server_key(store: &crate::Store) -> Result<Vec<u8>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bytea)]
        key: Vec<u8>,
    }
    let mut tx = store.begin_worker().await?;
    let row: Row = diesel::sql_query("SELECT key FROM server_key WHERE id = 'database'")
        .get_result(&mut tx)
        .await?;
    tx.commit().await?;
    Ok(row.key)
}
