//! Single updates: the statements of the import over a few rows, which go as bound arrays, in the
//! caller's transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anklang_domain::{TenantId, Violations};
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Date, Integer, Nullable, Numeric, Text, Timestamptz,
    Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::load::{Column, Found, Get, Spec};
use super::{Load, Loaded, Numbered};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

#[derive(QueryableByName)]
struct Id {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// The id of a row by its number. `sql` selects the `id` by `$1`, the tenant, and `$2`; with `FOR
/// NO KEY UPDATE` it holds the row until the end of the transaction, so that replacements of it
/// take turns.
pub(crate) async fn id_of(
    mut conn: &Conn,
    tenant: TenantId,
    sql: &'static str,
    number: &str,
) -> Result<Option<Uuid>> {
    let row: Option<Id> = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(number)
        .fixed()
        .get_result(&mut conn)
        .await
        .optional()?;
    Ok(row.map(|row| row.id))
}

/// Writes one row; violations are named by its columns.
pub(crate) async fn one<R: Load>(conn: &mut Conn, tenant: TenantId, row: R) -> Result<()> {
    let rows = [Numbered {
        line: 0,
        offset: 0,
        row,
    }];
    refuse(load(conn, tenant, &rows).await?, |_, field| field)?;
    Ok(())
}

/// Writes the parts of something, e.g. `contact_points`; violations are named
/// `contact_points[2].address`. True when something changed.
pub(crate) async fn all<R: Load>(
    conn: &mut Conn,
    tenant: TenantId,
    parts: &str,
    rows: Vec<R>,
) -> Result<bool> {
    let mut first = HashMap::new();
    let mut violations = Violations::new();
    let mut numbered = Vec::with_capacity(rows.len());
    for (line, row) in (0..).zip(rows) {
        match first.entry(row.key()) {
            Entry::Vacant(free) => {
                free.insert(line);
            }
            Entry::Occupied(before) => violations.add(
                format!("{parts}[{line}]"),
                format!("repeats {parts}[{}]", before.get()),
            ),
        }
        numbered.push(Numbered {
            line,
            offset: 0,
            row,
        });
    }
    violations.finish(())?;
    if numbered.is_empty() {
        return Ok(false);
    }
    let loaded = load(conn, tenant, &numbered).await?;
    let changed = loaded.created + loaded.updated > 0;
    refuse(loaded, |line, field| format!("{parts}[{line}].{field}"))?;
    Ok(changed)
}

/// Turns faults into violations.
fn refuse(loaded: Loaded, path: impl Fn(i64, String) -> String) -> Result<()> {
    let mut violations = Violations::new();
    for fault in loaded.faults {
        violations.add(path(fault.line, fault.field), fault.reason);
    }
    violations.finish(()).map_err(StoreError::Invalid)
}

/// Writes rows whose keys differ.
async fn load<R: Load>(conn: &mut Conn, tenant: TenantId, rows: &[Numbered<R>]) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    for spec in R::specs() {
        let source = arrays(&spec);
        if let Some(first) = spec.preceding(&source) {
            let first = bound(&spec, first, tenant, rows);
            first.fixed().execute(conn).await?;
        }
        let statement = spec.sql(&source, "anklang_uuid7()", None);
        // Of so many texts as there are specs.
        let query = bound(&spec, statement, tenant, rows).fixed();
        let found: Vec<Found> = query.load(conn).await?;
        for found in found {
            loaded.add(&spec, found);
        }
    }
    Ok(loaded)
}

/// The rows as arrays from `$2` on.
fn arrays<R>(spec: &Spec<R>) -> String {
    let arrays: Vec<String> = (3..)
        .zip(&spec.sent)
        .map(|(i, column)| format!("${i}::{}[]", column.sql_type()))
        .collect();
    let names: Vec<&str> = spec.sent.iter().map(|c| c.name).collect();
    format!(
        "unnest($2::bigint[], {}) AS s (row_line, {})",
        arrays.join(", "),
        names.join(", ")
    )
}

type Boxed<'f> = BoxedSqlQuery<'f, Pg, SqlQuery>;

fn bound<'f, R>(
    spec: &Spec<R>,
    statement: String,
    tenant: TenantId,
    rows: &'f [Numbered<R>],
) -> Boxed<'f> {
    let lines: Vec<i64> = rows.iter().map(|r| r.line).collect();
    let mut query = diesel::sql_query(statement)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<BigInt>, _>(lines);
    for column in &spec.sent {
        query = bind(column, query, tenant, rows);
    }
    query
}

/// Binds the values of all rows as an array.
fn bind<'f, R>(
    column: &Column<R>,
    query: Boxed<'f>,
    tenant: TenantId,
    rows: &'f [Numbered<R>],
) -> Boxed<'f> {
    fn all<'f, R, T>(rows: &'f [Numbered<R>], get: impl Fn(&'f R) -> T) -> Vec<T> {
        rows.iter().map(|r| get(&r.row)).collect()
    }
    match column.get {
        Get::Text(get) => query.bind::<Array<Text>, _>(all(rows, get)),
        Get::TextOrNull(get) => query.bind::<Array<Nullable<Text>>, _>(all(rows, get)),
        Get::Int(get) => query.bind::<Array<Integer>, _>(all(rows, get)),
        Get::Flag(get) => query.bind::<Array<Nullable<Bool>>, _>(all(rows, get)),
        Get::Date(get) => query.bind::<Array<Nullable<Date>>, _>(all(rows, get)),
        Get::Time(get) => query.bind::<Array<Timestamptz>, _>(all(rows, get)),
        Get::Decimal(get) => query.bind::<Array<Nullable<Numeric>>, _>(all(rows, get)),
        Get::Bytes(get) => query.bind::<Array<Bytea>, _>(all(rows, move |row| get(tenant, row))),
    }
}
