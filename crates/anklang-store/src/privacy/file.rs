//! Files that are to be deleted from the document store.
//!
//! They are listed by the transaction that forgets where they lie, or before they are written, and taken off the list
//! once they are gone: whatever dies in between, none is left that nobody knows of.

use anklang_domain::TenantId;
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::Subject;
use crate::offer::NewDocument;
use crate::{Conn, Result, Store};

/// A file on the list.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Listed {
    /// Its place.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Of a document: its hash.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub sha256: Option<Vec<u8>>,
    /// Of another file: its path.
    #[diesel(sql_type = Nullable<Text>)]
    pub path: Option<String>,
}

/// Lists the letters to a person, also those that were never recorded, and exports of the person's data, which can be
/// downloaded no more.
pub(super) async fn list(conn: &mut Conn, subject: &Subject, request: Uuid) -> Result<()> {
    for sql in [
        "WITH held AS MATERIALIZED (
             SELECT f.id FROM erased_file f
             WHERE f.tenant_id = $1 AND f.offer_id IN (
                 SELECT id FROM offer WHERE tenant_id = $1 AND customer_id = $2)
             FOR UPDATE)
         UPDATE erased_file SET request_id = $4, offer_id = NULL
         WHERE tenant_id = $1 AND id IN (SELECT id FROM held)",
        "INSERT INTO erased_file (tenant_id, request_id, sha256)
         SELECT DISTINCT $1::uuid, $4::uuid, d.sha256 FROM offer o
         JOIN document d ON d.tenant_id = $1 AND d.offer_id = o.id AND d.erased_at IS NULL
         WHERE o.tenant_id = $1 AND o.customer_id = $2",
        "WITH held AS MATERIALIZED (
             SELECT id, path FROM privacy_request
             WHERE tenant_id = $1 AND customer_id = $2 AND path IS NOT NULL FOR UPDATE),
         gone AS (
             UPDATE privacy_request SET path = NULL, expires_at = now()
             WHERE tenant_id = $1 AND id IN (SELECT id FROM held))
         INSERT INTO erased_file (tenant_id, request_id, path)
         SELECT $1, $4, path FROM held",
    ] {
        let query = subject.query(sql.into()).bind::<SqlUuid, _>(request);
        query.execute(conn).await?;
    }
    Ok(())
}

/// Lists a file by its path; gives its place.
pub async fn add(conn: &mut Conn, tenant: TenantId, request: Uuid, path: &str) -> Result<Uuid> {
    let id = Uuid::now_v7();
    diesel::sql_query(
        "INSERT INTO erased_file (tenant_id, id, request_id, path) VALUES ($1, $2, $3, $4)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<SqlUuid, _>(request)
    .bind::<Text, _>(path)
    .execute(conn)
    .await?;
    Ok(id)
}

/// Lists letters of drafts that are about to be put into the store; `recorded` takes them off.
pub async fn add_letters(
    conn: &mut Conn,
    tenant: TenantId,
    letters: &[&NewDocument],
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO erased_file (tenant_id, offer_id, sha256)
         SELECT $1, l.offer_id, l.sha256 FROM unnest($2::uuid[], $3::bytea[]) AS l (offer_id, sha256)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(letters.iter().map(|l| l.offer_id).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(letters.iter().map(|l| &l.sha256[..]).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes letters of these offers off the list that are recorded now.
pub(crate) async fn recorded(conn: &mut Conn, tenant: TenantId, offers: &[Uuid]) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM erased_file f USING document d
         WHERE f.tenant_id = $1 AND f.offer_id = ANY($2) AND d.tenant_id = $1
           AND d.offer_id = f.offer_id AND d.sha256 = f.sha256 AND d.erased_at IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(offers)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a file off the list: it is gone, or to be kept.
pub async fn remove(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<()> {
    diesel::sql_query("DELETE FROM erased_file WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Files listed by a request, at most `limit`.
pub async fn of_request(
    conn: &mut Conn,
    tenant: TenantId,
    request: Uuid,
    limit: i64,
) -> Result<Vec<Listed>> {
    Ok(diesel::sql_query(
        "SELECT id, sha256, path FROM erased_file WHERE tenant_id = $1 AND request_id = $2
         ORDER BY id LIMIT $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(request)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Files listed by requests that are over, and letters that were not recorded and never will be, as their offers are
/// no drafts any more; at most `limit`. Whoever was putting them an hour ago has ended by now.
pub async fn left(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<Vec<Listed>> {
    Ok(diesel::sql_query(
        "SELECT f.id, f.sha256, f.path FROM erased_file f
         WHERE f.tenant_id = $1 AND (
             EXISTS (SELECT FROM privacy_request r
                     WHERE r.tenant_id = $1 AND r.id = f.request_id AND r.state <> 'running')
             OR f.offer_id IS NOT NULL AND f.created_at < now() - interval '1 hour'
                AND NOT EXISTS (SELECT FROM offer o WHERE o.tenant_id = $1 AND o.id = f.offer_id
                                AND o.state = 'draft'))
         ORDER BY f.id LIMIT $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Whether a document that is not erased has the same bytes, or one that is being put, other than the one listed at
/// this place: letters without anything of their own share a file, over all tenants.
pub async fn is_shared(store: &Store, sha256: &[u8], listed: Uuid) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        shared: bool,
    }
    let mut tx = store.begin_worker().await?;
    let row: Row = diesel::sql_query(
        "SELECT EXISTS (SELECT FROM tenant n CROSS JOIN LATERAL (
             SELECT FROM document
             WHERE tenant_id = n.id AND sha256 = $1 AND erased_at IS NULL LIMIT 1) d)
             OR EXISTS (SELECT FROM tenant n CROSS JOIN LATERAL (
             SELECT FROM erased_file
             WHERE tenant_id = n.id AND sha256 = $1 AND offer_id IS NOT NULL AND id <> $2
             LIMIT 1) f) AS shared",
    )
    .bind::<Bytea, _>(sha256)
    .bind::<SqlUuid, _>(listed)
    .get_result(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(row.shared)
}
