//! Replaces a customer with all that belongs to it.

use anklang_domain::TenantId;
use anklang_domain::master::{AttributeRow, ConsentRow, ContactPointRow, CustomerRow};
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::CustomerDetails;
use crate::attribute::{self, Owner};
use crate::{Conn, Result, StoreError, import};

/// A customer as it shall be.
#[derive(Debug, Clone)]
pub struct CustomerUpdate {
    /// The customer.
    pub customer: CustomerRow,
    /// All its contact points.
    pub contact_points: Vec<ContactPointRow>,
    /// All its consents; one that is older than the stored one leaves that as it is.
    pub consents: Vec<ConsentRow>,
    /// All its attributes.
    pub attributes: Vec<AttributeRow>,
}

const HOLD: &str = "SELECT id FROM customer WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE";

/// Replaces a customer, or adds it if it may be missing.
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    update: CustomerUpdate,
    allow_missing: bool,
) -> Result<CustomerDetails> {
    let number = update.customer.number.clone();
    let missing = || StoreError::Missing(anklang_domain::name::format(&[("customers", &number)]));
    if import::id_of(conn, tenant, HOLD, &number).await?.is_none() && !allow_missing {
        return Err(missing());
    }
    import::one(conn, tenant, update.customer).await?;
    let id = import::id_of(conn, tenant, HOLD, &number)
        .await?
        .ok_or_else(missing)?;

    let mut changed = keep_contact_points(conn, tenant, id, &update.contact_points).await?;
    changed |= keep_consents(conn, tenant, id, &update.consents).await?;
    changed |= attribute::keep(conn, tenant, Owner::Customer, id, &update.attributes).await?;
    changed |= import::all(conn, tenant, "contact_points", update.contact_points).await?;
    changed |= import::all(conn, tenant, "consents", update.consents).await?;
    changed |= import::all(conn, tenant, "attributes", update.attributes).await?;
    if changed {
        diesel::sql_query(
            "UPDATE customer SET updated_at = now() WHERE tenant_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .execute(conn)
        .await?;
    }
    let details = super::get(conn, tenant, &number)
        .await?
        .ok_or_else(missing)?;
    Ok(details)
}

/// Deletes the contact points that are not among `keep`; true when there were any. The rows are
/// locked in the order in which imports write them.
async fn keep_contact_points(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    keep: &[ContactPointRow],
) -> Result<bool> {
    let (channels, addresses): (Vec<&str>, Vec<&str>) =
        keep.iter().map(|r| (&*r.channel, &*r.address)).unzip();
    let deleted = diesel::sql_query(
        "WITH held AS MATERIALIZED (
             SELECT id FROM contact_point WHERE tenant_id = $1 AND customer_id = $2
             ORDER BY channel, address FOR UPDATE)
         DELETE FROM contact_point p
         WHERE tenant_id = $1 AND customer_id = $2 AND id IN (SELECT id FROM held)
             AND (channel, address) NOT IN (SELECT * FROM unnest($3::text[], $4::text[]))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Array<Text>, _>(channels)
    .bind::<Array<Text>, _>(addresses)
    .execute(conn)
    .await?;
    Ok(deleted > 0)
}

/// Deletes the granted consents that are not among `keep` and notes it in the history; true when
/// there were any. A withdrawal stays, whoever does not know of it: without it an old list could
/// grant again. The rows are locked in the order in which imports write them.
async fn keep_consents(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    keep: &[ConsentRow],
) -> Result<bool> {
    let (channels, purposes): (Vec<&str>, Vec<&str>) =
        keep.iter().map(|r| (&*r.channel, &*r.purpose)).unzip();
    let events = diesel::sql_query(
        "WITH held AS MATERIALIZED (
             SELECT channel, purpose FROM consent WHERE tenant_id = $1 AND customer_id = $2
             ORDER BY channel, purpose FOR UPDATE),
         gone AS (
             DELETE FROM consent
             WHERE tenant_id = $1 AND customer_id = $2
                 AND (channel, purpose) IN (SELECT channel, purpose FROM held)
                 AND (channel, purpose) NOT IN (SELECT * FROM unnest($3::text[], $4::text[]))
                 AND state <> 'withdrawn'
             RETURNING channel, purpose, state)
         INSERT INTO customer_event (tenant_id, customer_id, kind, details)
         SELECT $1, $2, 'consent.removed',
                jsonb_build_object('channel', channel, 'purpose', purpose, 'state', state)
         FROM gone ORDER BY channel, purpose",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Array<Text>, _>(channels)
    .bind::<Array<Text>, _>(purposes)
    .execute(conn)
    .await?;
    Ok(events > 0)
}
