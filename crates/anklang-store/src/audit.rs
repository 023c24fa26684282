//! The audit log: who did what when to what. An entry is written in the transaction of the change that it tells of
//! ([`record`]), and sealed soon after ([`seal`]): numbered, and chained by hashes to those before it (the rule is
//! in `anklang_domain::audit`). Changes do not wait for the chain, and rows are never changed once they are sealed, nor
//! removed but by the retention ([`retire`]): the database's roles cannot, and a trigger refuses it.

mod retention;

use anklang_domain::TenantId;
use anklang_domain::audit::{BEGINNING, Entry, Head};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

pub use retention::{Retired, retire, tenants};

use crate::call::Call;
use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, Store, StoreError};

/// The most resources of an entry.
pub const MOST_RESOURCES: usize = 16;

/// What an entry says of a call that changes something.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Who did it, and what.
    pub call: Call,
    /// To what: at most [`MOST_RESOURCES`] names.
    pub resources: Vec<String>,
    /// The caller's id of the call.
    pub request_id: Option<Uuid>,
    /// SHA-256 of the request.
    pub request_hash: [u8; 32],
}

/// How many things came of a call, or of the part of it that an entry is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Things that were written.
    pub written: Option<i64>,
    /// Things that were refused.
    pub refused: Option<i64>,
}

impl Counts {
    /// So many things were written.
    pub fn written(things: usize) -> Self {
        Counts {
            written: i64::try_from(things).ok(),
            refused: None,
        }
    }
}

/// The database adds when that was, and in which trace.
const RECORD: &str = "INSERT INTO audit_entry
         (tenant_id, caller, method, resources, request_id, request_hash, written, refused)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// Writes an entry, in the transaction of what it tells of.
pub async fn record(mut conn: &Conn, tenant: TenantId, deed: &Deed, counts: Counts) -> Result<()> {
    diesel::sql_query(RECORD)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(&*deed.call.caller)
        .bind::<Text, _>(&*deed.call.method)
        .bind::<Array<Text>, _>(&deed.resources)
        .bind::<Nullable<SqlUuid>, _>(deed.request_id)
        .bind::<Bytea, _>(&deed.request_hash[..])
        .bind::<Nullable<BigInt>, _>(counts.written)
        .bind::<Nullable<BigInt>, _>(counts.refused)
        .fixed()
        .execute(&mut conn)
        .await?;
    Ok(())
}

/// As [`record`], in a transaction of an import.
pub(crate) async fn record_bulk(
    tx: &tokio_postgres::Transaction<'_>,
    tenant: TenantId,
    deed: &Deed,
    counts: Counts,
) -> Result<()> {
    let (caller, method) = (&*deed.call.caller, &*deed.call.method);
    let hash = &deed.request_hash[..];
    let values: [(&(dyn ToSql + Sync), Type); 8] = [
        (&tenant.0, Type::UUID),
        (&caller, Type::TEXT),
        (&method, Type::TEXT),
        (&deed.resources, Type::TEXT_ARRAY),
        (&deed.request_id, Type::UUID),
        (&hash, Type::BYTEA),
        (&counts.written, Type::INT8),
        (&counts.refused, Type::INT8),
    ];
    tx.execute_typed(RECORD, &values).await?;
    Ok(())
}

/// An entry, and what it is sealed as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// The entry.
    pub entry: Entry,
    /// Its place in the chain, when it is sealed.
    pub sealed: Option<Head>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    tenant_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Timestamptz)]
    at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    caller: String,
    #[diesel(sql_type = Text)]
    method: String,
    #[diesel(sql_type = Array<Text>)]
    resources: Vec<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    request_id: Option<Uuid>,
    #[diesel(sql_type = Bytea)]
    request_hash: Vec<u8>,
    #[diesel(sql_type = Nullable<Text>)]
    trace_id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    written: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    refused: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    seq: Option<i64>,
    #[diesel(sql_type = Nullable<Bytea>)]
    hash: Option<Vec<u8>>,
}

impl TryFrom<Row> for Audited {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let sealed = row.seq.zip(row.hash);
        Ok(Audited {
            sealed: sealed.map(|(seq, hash)| head(seq, hash)).transpose()?,
            entry: Entry {
                tenant: TenantId(row.tenant_id),
                id: row.id,
                at: row.at,
                caller: row.caller,
                method: row.method,
                resources: row.resources,
                request_id: row.request_id,
                request_hash: row.request_hash,
                trace_id: row.trace_id,
                written: row.written,
                refused: row.refused,
            },
        })
    }
}

fn head(seq: i64, hash: Vec<u8>) -> Result<Head> {
    let hash = hash
        .try_into()
        .map_err(|_| StoreError::Stored(format!("the hash of audit entry {seq}")))?;
    Ok(Head { seq, hash })
}

/// Columns of a [`Row`].
macro_rules! columns {
    () => {
        "tenant_id, id, at, caller, method, resources, request_id, request_hash, trace_id,
         written, refused, seq, hash"
    };
}

/// Entries as they are listed, without conditions; behind it comes where they are from.
macro_rules! listed {
    () => {
        concat!(
            "SELECT ",
            columns!(),
            ", coalesce(request_id::text, '') AS request, coalesce(trace_id, '') AS trace FROM "
        )
    };
}

/// What entries are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("create_time", Kind::Time, "at"),
        Field::column("caller", Kind::Text),
        Field::column("method", Kind::Text),
        Field::new("request_id", Kind::Text, "request"),
        Field::new("trace_id", Kind::Text, "trace"),
        Field::nullable("written_count", Kind::Number, "written"),
        Field::nullable("refused_count", Kind::Number, "refused"),
        Field::nullable("seq", Kind::Number, "seq"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of entries, sealed or not, newest first if not otherwise wanted; with a `resource` only those that name
/// it.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    resource: Option<&str>,
    list: &List,
) -> Result<Page<Audited>> {
    const ALL: &str = concat!(listed!(), "audit_entry WHERE tenant_id = $1");
    // By the id of the table that finds them, so that its key gives them in order and from a page's end on.
    const NAMING: &str = concat!(
        listed!(),
        "(SELECT x.entry_id AS id, e.tenant_id, e.at, e.caller, e.method, e.resources, e.request_id,
                 e.request_hash, e.trace_id, e.written, e.refused, e.seq, e.hash
          FROM audit_resource x
          JOIN audit_entry e ON e.tenant_id = x.tenant_id AND e.id = x.entry_id
          WHERE x.tenant_id = $1 AND x.resource_hash = anklang_resource_hash($2)
            AND $2 = ANY(e.resources)) named"
    );
    let of = bound::<SqlUuid, _>(tenant.0);
    let base = match resource {
        None => Statement::numbered(ALL, &[of]),
        Some(name) => Statement::numbered(NAMING, &[of, bound::<Text, _>(name.to_owned())]),
    };
    let page: Page<Row> = list.load(conn, base).await?;
    let rows = page.rows.into_iter().map(Audited::try_from);
    Ok(Page {
        rows: rows.collect::<Result<_>>()?,
        next: page.next,
    })
}

/// At most `limit` sealed entries behind a place in the chain, in its order.
pub async fn sealed(
    conn: &mut Conn,
    tenant: TenantId,
    after: i64,
    limit: i64,
) -> Result<Vec<Audited>> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM audit_entry WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
    );
    let rows: Vec<Row> = diesel::sql_query(SQL)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<BigInt, _>(after)
        .bind::<BigInt, _>(limit)
        .fixed()
        .load(conn)
        .await?;
    rows.into_iter().map(Audited::try_from).collect()
}

#[derive(QueryableByName)]
struct HeadRow {
    #[diesel(sql_type = BigInt)]
    seq: i64,
    #[diesel(sql_type = Bytea)]
    hash: Vec<u8>,
}

/// The newest entry of the chain.
pub async fn newest(conn: &mut Conn, tenant: TenantId) -> Result<Head> {
    let row: Option<HeadRow> = diesel::sql_query(
        "SELECT seq, hash FROM audit_entry
         WHERE tenant_id = $1 AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .fixed()
    .get_result(conn)
    .await
    .optional()?;
    row.map_or(Ok(BEGINNING), |row| head(row.seq, row.hash))
}

/// Entries that are not sealed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Unsealed {
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
    /// When the oldest was written.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub oldest: Option<DateTime<Utc>>,
}

/// What of a tenant's log is not sealed yet.
pub async fn waiting(conn: &mut Conn, tenant: TenantId) -> Result<Unsealed> {
    let waiting = diesel::sql_query(
        "SELECT count(*) AS count, min(at) AS oldest FROM audit_entry
         WHERE tenant_id = $1 AND seq IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .fixed()
    .get_result(conn)
    .await?;
    Ok(waiting)
}

#[derive(QueryableByName)]
struct TenantRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Tenants that have entries to be sealed.
pub async fn unsealed(store: &Store) -> Result<Vec<TenantId>> {
    let mut tx = store.begin_worker().await?;
    let rows: Vec<TenantRow> = diesel::sql_query(
        "SELECT t.id FROM tenant t WHERE EXISTS (
             SELECT FROM audit_entry e WHERE e.tenant_id = t.id AND e.seq IS NULL)",
    )
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows.into_iter().map(|row| TenantId(row.id)).collect())
}

#[derive(QueryableByName)]
struct Turn {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

/// Whether nobody else is at the chain of a tenant until the end of the transaction.
async fn take_turn(conn: &mut Conn, tenant: TenantId) -> Result<bool> {
    let turn: Turn = diesel::sql_query(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('audit' || $1::text, 0)) AS taken",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(conn)
    .await?;
    Ok(turn.taken)
}

/// Seals at most `limit` of a tenant's entries, those that began first; gives how many. None, when another server
/// is at it. What commits later is sealed later, whenever it began.
pub async fn seal(store: &Store, tenant: TenantId, limit: i64) -> Result<usize> {
    let mut tx = store.begin_worker().await?;
    if !take_turn(&mut tx, tenant).await? {
        tx.rollback().await?;
        return Ok(0);
    }
    // Read under the lock: who had it before has committed.
    let mut head = newest(&mut tx, tenant).await?;
    const NEXT: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM audit_entry WHERE tenant_id = $1 AND seq IS NULL ORDER BY id LIMIT $2 FOR UPDATE"
    );
    let rows: Vec<Row> = diesel::sql_query(NEXT)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<BigInt, _>(limit)
        .load(&mut tx)
        .await?;
    let (mut ids, mut seqs, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let Audited { entry, .. } = Audited::try_from(row)?;
        head = head.followed_by(&entry);
        ids.push(entry.id);
        seqs.push(head.seq);
        hashes.push(head.hash.to_vec());
    }
    let sealed = diesel::sql_query(
        "UPDATE audit_entry e SET seq = s.seq, hash = s.hash
         FROM unnest($2::uuid[], $3::bigint[], $4::bytea[]) AS s (id, seq, hash)
         WHERE e.tenant_id = $1 AND e.id = s.id AND e.seq IS NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<BigInt>, _>(&seqs)
    .bind::<Array<Bytea>, _>(&hashes)
    .execute(&mut tx)
    .await?;
    if sealed != ids.len() {
        let reason = format!("{sealed} of {} audit entries sealed", ids.len());
        return Err(StoreError::Stored(reason));
    }
    tx.commit().await?;
    Ok(sealed)
}
