//! Blocked addresses, under their hashes.

use anklang_domain::TenantId;
use anklang_domain::master::SuppressionRow;
use anklang_domain::master::contact::address_hash;
use chrono::{DateTime, Utc};
use diesel::sql_types::{Bytea, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;

use crate::import::{Load, Spec, bytes, text};
use crate::{Conn, Result};

/// A blocked address.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Suppression {
    /// The channel.
    #[diesel(sql_type = Text)]
    pub channel: String,
    /// Why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// Since when.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

impl Load for SuppressionRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("suppression")
            .key(text("channel", |r| &r.channel))
            .key(bytes("address_hash", |tenant, r| {
                address_hash(tenant, &r.channel, &r.address).to_vec()
            }))
            .value(text("reason", |r| &r.reason));
        vec![spec]
    }
}

/// Blocks an address; a blocked one stays as it is.
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    row: &SuppressionRow,
) -> Result<Suppression> {
    let hash = address_hash(tenant, &row.channel, &row.address);
    diesel::sql_query(
        "INSERT INTO suppression (tenant_id, channel, address_hash, reason)
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(&row.channel)
    .bind::<Bytea, _>(&hash[..])
    .bind::<Text, _>(&row.reason)
    .execute(conn)
    .await?;
    let stored = find(conn, tenant, &row.channel, &hash).await?;
    stored.ok_or_else(|| crate::StoreError::Stored("a suppression went while it was made".into()))
}

/// The block of an address, which must be normalised.
pub async fn get(
    conn: &Conn,
    tenant: TenantId,
    channel: &str,
    address: &str,
) -> Result<Option<Suppression>> {
    find(
        conn,
        tenant,
        channel,
        &address_hash(tenant, channel, address),
    )
    .await
}

async fn find(
    mut conn: &Conn,
    tenant: TenantId,
    channel: &str,
    hash: &[u8],
) -> Result<Option<Suppression>> {
    let found = diesel::sql_query(
        "SELECT channel, reason, created_at FROM suppression
         WHERE tenant_id = $1 AND channel = $2 AND address_hash = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(channel)
    .bind::<Bytea, _>(hash)
    .get_result(&mut conn)
    .await
    .optional()?;
    Ok(found)
}

/// Lifts the block of an address, which must be normalised; false when it was not blocked.
pub async fn delete(
    conn: &mut Conn,
    tenant: TenantId,
    channel: &str,
    address: &str,
) -> Result<bool> {
    let rows = diesel::sql_query(
        "DELETE FROM suppression WHERE tenant_id = $1 AND channel = $2 AND address_hash = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(channel)
    .bind::<Bytea, _>(address_hash(tenant, channel, address).to_vec())
    .execute(conn)
    .await?;
    Ok(rows > 0)
}
