//! Files of bundles that are made anew without the letters of somebody who is erased.

use anklang_domain::TenantId;
use diesel::sql_types::{BigInt, Bool, Bytea, Integer, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{File, INDEX};
use crate::{Conn, Result, document};

/// Marks the print files in which letters of a customer are, and the indexes of their bundles, to be made anew for an
/// erasure; before the places of the letters are forgotten.
pub(crate) async fn mark_for_remake(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    request: Uuid,
) -> Result<()> {
    diesel::sql_query(
        "WITH printed AS MATERIALIZED (
             SELECT DISTINCT ob.id AS outbound_id, d.print_file
             FROM offer o
             JOIN document d ON d.tenant_id = $1 AND d.offer_id = o.id AND d.print_file IS NOT NULL
             JOIN outbound ob ON ob.tenant_id = $1 AND ob.phase_id = o.phase_id
             WHERE o.tenant_id = $1 AND o.customer_id = $2)
         UPDATE bundle_file f SET remake_for = $3
         WHERE f.tenant_id = $1 AND (
             (f.outbound_id, f.number) IN (SELECT outbound_id, print_file FROM printed)
             OR f.number = 0 AND f.outbound_id IN (SELECT outbound_id FROM printed))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<SqlUuid, _>(request)
    .execute(conn)
    .await?;
    Ok(())
}

/// A file of a bundle that is to be made anew.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Stale {
    /// Its outbound.
    #[diesel(sql_type = SqlUuid)]
    pub outbound_id: Uuid,
    /// The operation that made the bundle, or is making it.
    #[diesel(sql_type = SqlUuid)]
    pub operation_id: Uuid,
    /// Its bundle is being made.
    #[diesel(sql_type = Bool)]
    pub is_making: bool,
    /// As it is.
    #[diesel(embed)]
    pub file: File,
}

/// SQL that is true of a bundle `b` that is being made.
pub(crate) const MAKING: &str = "(b.state = 'making' AND EXISTS (
    SELECT FROM operation q WHERE q.tenant_id = b.tenant_id AND q.id = b.operation_id
      AND q.state IN ('queued', 'running')))";

/// The next file that is to be made anew for an erasure: print files before the index of their bundle, and last those
/// of bundles that are being made.
pub async fn next_stale(conn: &mut Conn, tenant: TenantId, request: Uuid) -> Result<Option<Stale>> {
    Ok(diesel::sql_query(format!(
        "SELECT f.outbound_id, b.operation_id, {MAKING} AS is_making, f.number, f.path, f.sha256,
                f.size_bytes, f.letters, f.pages, f.standard, f.last_seq, f.created_at
         FROM bundle_file f
         JOIN bundle b ON b.tenant_id = f.tenant_id AND b.outbound_id = f.outbound_id
         WHERE f.tenant_id = $1 AND f.remake_for = $2
         ORDER BY is_making, f.outbound_id, f.number = 0, f.number LIMIT 1"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(request)
    .get_result(conn)
    .await
    .optional()?)
}

/// Puts a file that was made anew in the place of a stale one, whose bytes are to be deleted; without one the file
/// goes. The index is marked to be made anew as well. False when another erasure has marked it meanwhile, or somebody
/// has begun to make the rest of the bundle: then it is made once more.
pub async fn remake(
    conn: &mut Conn,
    tenant: TenantId,
    request: Uuid,
    stale: &Stale,
    made: Option<(&File, &[(Uuid, i32)])>,
) -> Result<bool> {
    // Whoever begins to make the rest waits, and then finds the files as they are.
    let same = diesel::sql_query(
        "SELECT 1 FROM bundle
         WHERE tenant_id = $1 AND outbound_id = $2 AND operation_id = $3 FOR SHARE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(stale.outbound_id)
    .bind::<SqlUuid, _>(stale.operation_id)
    .execute(conn)
    .await?;
    if same == 0 {
        return Ok(false);
    }
    let held = diesel::sql_query(
        "SELECT 1 FROM bundle_file
         WHERE tenant_id = $1 AND outbound_id = $2 AND number = $3 AND remake_for = $4 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(stale.outbound_id)
    .bind::<Integer, _>(stale.file.number)
    .bind::<SqlUuid, _>(request)
    .execute(conn)
    .await?;
    if held == 0 {
        return Ok(false);
    }
    if stale.file.number != INDEX {
        diesel::sql_query(
            "UPDATE bundle_file SET remake_for = $3
             WHERE tenant_id = $1 AND outbound_id = $2 AND number = 0 AND remake_for IS NULL",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(stale.outbound_id)
        .bind::<SqlUuid, _>(request)
        .execute(conn)
        .await?;
    }
    let Some((file, letters)) = made else {
        diesel::sql_query(
            "DELETE FROM bundle_file WHERE tenant_id = $1 AND outbound_id = $2 AND number = $3",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(stale.outbound_id)
        .bind::<Integer, _>(stale.file.number)
        .execute(conn)
        .await?;
        return Ok(true);
    };
    diesel::sql_query(
        "UPDATE bundle_file SET path = $4, sha256 = $5, size_bytes = $6, letters = $7, pages = $8,
                standard = $9, remake_for = NULL
         WHERE tenant_id = $1 AND outbound_id = $2 AND number = $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(stale.outbound_id)
    .bind::<Integer, _>(stale.file.number)
    .bind::<Text, _>(&file.path)
    .bind::<Bytea, _>(&file.sha256)
    .bind::<BigInt, _>(file.size_bytes)
    .bind::<BigInt, _>(file.letters)
    .bind::<BigInt, _>(file.pages)
    .bind::<Text, _>(&file.standard)
    .execute(conn)
    .await?;
    document::place(conn, tenant, file.number, letters).await?;
    Ok(true)
}
