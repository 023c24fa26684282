//! Requests: who asked for an export or an erasure, and what it came to.

use anklang_domain::{OperationId, TenantId};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{
    Array, BigInt, Bytea, Double, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Counts, Subject};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// A request.
#[derive(Debug, Clone, QueryableByName)]
pub struct Request {
    /// Its id, and its operation's.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// export or erasure.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// Customer number.
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    /// Of an erasure: why.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// Who asked.
    #[diesel(sql_type = Text)]
    pub requested_by: String,
    /// running, done, cancelled or failed.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// [`Counts`].
    #[diesel(sql_type = Jsonb)]
    pub counts: serde_json::Value,
    /// Where the file of an export lies.
    #[diesel(sql_type = Nullable<Text>)]
    pub path: Option<String>,
    /// SHA-256 of the file.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub sha256: Option<Vec<u8>>,
    /// Size of the file.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub size_bytes: Option<i64>,
    /// Until when the file can be downloaded.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was asked for.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it was over.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub done_at: Option<DateTime<Utc>>,
}

impl Request {
    /// Its counts.
    pub fn counts(&self) -> Result<Counts> {
        serde_json::from_value(self.counts.clone())
            .map_err(|e| StoreError::Stored(format!("counts of a request: {e}")))
    }
}

/// `privacyRequests/{uuid}`.
pub fn resource(id: Uuid) -> String {
    anklang_domain::name::format(&[("privacyRequests", &id.to_string())])
}

const SELECT: &str = "SELECT r.id, r.kind, c.number AS customer_number, r.reason, r.requested_by,
        r.state, r.counts, r.path, r.sha256, r.size_bytes, r.expires_at, r.created_at, r.done_at
    FROM privacy_request r
    JOIN customer c ON c.tenant_id = r.tenant_id AND c.id = r.customer_id
    WHERE r.tenant_id = $1";

/// A new request.
#[derive(Debug, Clone, Copy)]
pub struct NewRequest<'a> {
    /// Its id, and its operation's.
    pub id: OperationId,
    /// export or erasure.
    pub kind: &'a str,
    /// Of an erasure: why.
    pub reason: &'a str,
    /// Who asks.
    pub requested_by: &'a str,
}

/// Notes a request, in the transaction that asks for its operation.
pub async fn create(conn: &mut Conn, subject: &Subject, new: NewRequest<'_>) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO privacy_request (tenant_id, id, kind, customer_id, reason, requested_by)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind::<SqlUuid, _>(subject.tenant.0)
    .bind::<SqlUuid, _>(new.id.0)
    .bind::<Text, _>(new.kind)
    .bind::<SqlUuid, _>(subject.id)
    .bind::<Text, _>(new.reason)
    .bind::<Text, _>(new.requested_by)
    .execute(conn)
    .await?;
    Ok(())
}

/// One request.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: Uuid) -> Result<Option<Request>> {
    Ok(diesel::sql_query(format!("{SELECT} AND r.id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .get_result(&mut conn)
        .await
        .optional()?)
}

/// What requests are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column(
            "kind",
            Kind::Word("PRIVACY_REQUEST_KIND_", &["export", "erasure"]),
        ),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::column(
            "state",
            Kind::Word(
                "PRIVACY_REQUEST_STATE_",
                &["running", "done", "cancelled", "failed"],
            ),
        ),
        Field::column("requested_by", Kind::Text),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::nullable("done_time", Kind::Time, "done_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of requests, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Request>> {
    let base = Statement::numbered(SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    list.load(conn, base).await
}

/// Adds to what an erasure came to.
pub async fn add_counts(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    counts: &Counts,
) -> Result<()> {
    let (tables, numbers): (Vec<&str>, Vec<i64>) =
        counts.iter().map(|(table, n)| (&table[..], *n)).unzip();
    diesel::sql_query(
        "UPDATE privacy_request r SET counts = r.counts || (
             SELECT coalesce(jsonb_object_agg(u.name,
                        coalesce((r.counts ->> u.name)::bigint, 0) + u.n), '{}')
             FROM unnest($3::text[], $4::bigint[]) u (name, n))
         WHERE r.tenant_id = $1 AND r.id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Array<Text>, _>(tables)
    .bind::<Array<BigInt>, _>(numbers)
    .execute(conn)
    .await?;
    Ok(())
}

/// The file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it lies.
    pub path: String,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its size.
    pub size_bytes: i64,
    /// How long it can be downloaded.
    pub kept: TimeDelta,
}

/// Notes the file of an export.
pub async fn set_file(conn: &mut Conn, tenant: TenantId, id: Uuid, file: &File) -> Result<()> {
    diesel::sql_query(
        "UPDATE privacy_request SET path = $3, sha256 = $4, size_bytes = $5,
                expires_at = now() + make_interval(secs => $6)
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(&file.path)
    .bind::<Bytea, _>(&file.sha256[..])
    .bind::<BigInt, _>(file.size_bytes)
    .bind::<Double, _>(crate::message::seconds(file.kept))
    .execute(conn)
    .await?;
    Ok(())
}

/// Says where a request came to: done, cancelled or failed.
pub async fn end(conn: &mut Conn, tenant: TenantId, id: Uuid, state: &str) -> Result<()> {
    diesel::sql_query(
        "UPDATE privacy_request SET state = $3, done_at = clock_timestamp()
         WHERE tenant_id = $1 AND id = $2 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(state)
    .execute(conn)
    .await?;
    Ok(())
}

/// Says when an erasure that is done is to be done again: after the wait of its round, if there is one.
pub async fn put_off(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    waits: &[TimeDelta],
) -> Result<()> {
    diesel::sql_query(
        "UPDATE privacy_request SET again_at = now() + make_interval(secs => ($3::float8[])[rounds + 1])
         WHERE tenant_id = $1 AND id = $2 AND state = 'done'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Array<Double>, _>(waits.iter().copied().map(crate::message::seconds).collect::<Vec<_>>())
    .execute(conn)
    .await?;
    Ok(())
}

/// Begins the next round of erasures that are due, at most `limit`: for each the caller asks for an operation.
pub async fn begin_rounds(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<Vec<Uuid>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "WITH due AS MATERIALIZED (
             SELECT id FROM privacy_request
             WHERE tenant_id = $1 AND again_at <= now() ORDER BY again_at LIMIT $2
             FOR UPDATE SKIP LOCKED)
         UPDATE privacy_request SET again_at = NULL, rounds = rounds + 1
         WHERE tenant_id = $1 AND id IN (SELECT id FROM due) RETURNING id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Forgets where files of exports lie whose time is over, and lists them to be deleted; at most `limit`.
pub async fn expire(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<usize> {
    Ok(diesel::sql_query(
        "WITH over AS MATERIALIZED (
             SELECT id, path FROM privacy_request
             WHERE tenant_id = $1 AND path IS NOT NULL AND expires_at <= now()
             LIMIT $2 FOR UPDATE SKIP LOCKED),
         forgotten AS (
             UPDATE privacy_request SET path = NULL
             WHERE tenant_id = $1 AND id IN (SELECT id FROM over))
         INSERT INTO erased_file (tenant_id, request_id, path) SELECT $1, id, path FROM over",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}
