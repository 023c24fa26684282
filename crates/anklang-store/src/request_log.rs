//! Calls that carry a `request_id`: done once, answered as often as asked.

use anklang_domain::TenantId;
use chrono::TimeDelta;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Bytea, Double, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures::future::try_join;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::message::seconds;
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// A call as its repetition is recognised.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller's id.
    pub id: Uuid,
    /// Full name of the request's message.
    pub method: &'a str,
    /// The encoded request.
    pub body: &'a [u8],
}

/// What is known about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is new: do it, then [`record`] the response in the same transaction.
    New,
    /// It was done: its encoded response.
    Done(Vec<u8>),
    /// It was done, and its response was erased with a person's data.
    Erased,
    /// Another request came with that id.
    Reused,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    method: String,
    #[diesel(sql_type = Bytea)]
    body_hash: Vec<u8>,
    #[diesel(sql_type = Bytea)]
    response: Vec<u8>,
    #[diesel(sql_type = Bool)]
    erased: bool,
}

/// Looks a call up. Calls with one id take turns: the second waits until the first has committed.
pub async fn lookup(mut conn: &Conn, tenant: TenantId, request: Request<'_>) -> Result<Known> {
    // Sent together, done one after the other: the second sees what was committed while the first waited.
    let turn = diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended($1::text || $2::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(request.id)
    .fixed()
    .execute(&mut conn);
    let rows = diesel::sql_query(
        "SELECT method, body_hash, response, erased FROM request_log
         WHERE tenant_id = $1 AND request_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(request.id)
    .fixed()
    .load::<Row>(&mut conn);
    let (_, rows) = try_join(turn, rows).await?;
    Ok(match rows.into_iter().next() {
        None => Known::New,
        Some(row) if row.method == request.method && row.body_hash == hash(request.body) => {
            match row.erased {
                true => Known::Erased,
                false => Known::Done(row.response),
            }
        }
        Some(_) => Known::Reused,
    })
}

/// Keeps the response of a call that `lookup` found new.
pub async fn record(
    mut conn: &Conn,
    tenant: TenantId,
    request: Request<'_>,
    response: &[u8],
) -> Result<()> {
    let rows = diesel::sql_query(
        "INSERT INTO request_log (tenant_id, request_id, method, body_hash, response)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(request.id)
    .bind::<Text, _>(request.method)
    .bind::<Bytea, _>(hash(request.body))
    .bind::<Bytea, _>(response)
    .fixed()
    .execute(&mut conn)
    .await?;
    match rows {
        1 => Ok(()),
        n => Err(StoreError::Stored(format!("{n} rows of a request logged"))),
    }
}

/// Replaces the response of a call that was recorded before it was over.
pub async fn complete(conn: &mut Conn, tenant: TenantId, id: Uuid, response: &[u8]) -> Result<()> {
    diesel::sql_query(
        "UPDATE request_log SET response = $3 WHERE tenant_id = $1 AND request_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Bytea, _>(response)
    .fixed()
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets at most `limit` calls of such an age by the database's clock, the oldest first; gives how many. Whoever
/// repeats one of them afterwards does it anew.
pub async fn purge(conn: &mut Conn, tenant: TenantId, age: TimeDelta, limit: i64) -> Result<i64> {
    let rows = diesel::sql_query(
        "DELETE FROM request_log WHERE tenant_id = $1 AND request_id IN (
             SELECT request_id FROM request_log
             WHERE tenant_id = $1 AND created_at < now() - make_interval(secs => $2)
             ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Double, _>(seconds(age))
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

fn hash(body: &[u8]) -> Vec<u8> {
    Sha256::digest(body).to_vec()
}
