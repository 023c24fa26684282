//! A chunk of an import: one transaction, into which the rows go by binary `COPY`.
//!
//! The rows land in a temporary table that the transaction drops, and the statements of `load.rs`
//! read from it. It works as the role of the tenant, as all else does.

use std::collections::HashSet;
use std::error::Error;
use std::pin::pin;

use anklang_domain::TenantId;
use bytes::BytesMut;
use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use super::load::{Column, Found, Get, Spec};
use super::{Load, Loaded, Numbered};
use crate::Result;

/// The rows in the temporary table.
const ROWS: &str = "pg_temp.chunk AS s";
/// Its column with an id for what is made of the row: making ids is quicker here than there.
const NEW_ID: &str = "new_id";
/// Memory of the database for sorting and keeping a chunk, so that neither goes to a file.
const WORK_MEM: &str = "32MB";

/// Writes rows whose keys differ. `given` are the columns that may change what is there already.
pub(super) async fn load<R: Load>(
    tx: &Transaction<'_>,
    tenant: TenantId,
    rows: &[Numbered<R>],
    given: &HashSet<String>,
) -> Result<Loaded> {
    let specs = R::specs();
    copy(tx, tenant, &specs[0], rows).await?;
    let mut loaded = Loaded::default();
    for spec in &specs {
        // Typed: from `(SELECT $1)` the database would infer text.
        let tenant: [(&(dyn ToSql + Sync), Type); 1] = [(&tenant.0, Type::UUID)];
        if let Some(first) = spec.preceding(ROWS) {
            tx.execute_typed(&first, &tenant).await?;
        }
        let found = tx
            .query_typed(&spec.sql(ROWS, NEW_ID, Some(given)), &tenant)
            .await?;
        for row in found {
            let found = Found {
                what: row.try_get(0)?,
                number: row.try_get(1)?,
                reason: row.try_get(2)?,
            };
            loaded.add(spec, found);
        }
    }
    Ok(loaded)
}

/// Fills the temporary table.
async fn copy<R>(
    tx: &Transaction<'_>,
    tenant: TenantId,
    spec: &Spec<R>,
    rows: &[Numbered<R>],
) -> Result<()> {
    let columns: Vec<String> = spec
        .sent
        .iter()
        .map(|c| format!("{} {}", c.name, c.sql_type()))
        .collect();
    let table = format!(
        "SELECT set_config('work_mem', '{WORK_MEM}', true);
         CREATE TEMPORARY TABLE chunk (row_line bigint, {NEW_ID} uuid, {}) ON COMMIT DROP",
        columns.join(", ")
    );
    tx.batch_execute(&table).await?;
    let types: Vec<Type> = [Type::INT8, Type::UUID]
        .into_iter()
        .chain(spec.sent.iter().map(copied_type))
        .collect();
    let sink = tx
        .copy_in("COPY pg_temp.chunk FROM STDIN (FORMAT binary)")
        .await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    let mut values = Vec::with_capacity(types.len());
    for Numbered { line, row, .. } in rows {
        values.extend([Value::Line(*line), Value::Id(Uuid::now_v7())]);
        values.extend(spec.sent.iter().map(|c| value(c, tenant, row)));
        writer.as_mut().write_raw(values.drain(..)).await?;
    }
    writer.finish().await?;
    Ok(())
}

fn copied_type<R>(column: &Column<R>) -> Type {
    match column.get {
        Get::Text(_) | Get::TextOrNull(_) => Type::TEXT,
        Get::Int(_) => Type::INT4,
        Get::Flag(_) => Type::BOOL,
        Get::Date(_) => Type::DATE,
        Get::Time(_) => Type::TIMESTAMPTZ,
        Get::Decimal(_) => Type::NUMERIC,
        Get::Bytes(_) => Type::BYTEA,
    }
}

/// A value of a row.
#[derive(Debug)]
enum Value<'r> {
    Line(i64),
    Id(Uuid),
    Text(Option<&'r str>),
    Int(i32),
    Flag(Option<bool>),
    Date(Option<NaiveDate>),
    Time(DateTime<Utc>),
    Decimal(Option<Decimal>),
    Bytes(Vec<u8>),
}

fn value<'r, R>(column: &Column<R>, tenant: TenantId, row: &'r R) -> Value<'r> {
    match column.get {
        Get::Text(get) => Value::Text(Some(get(row))),
        Get::TextOrNull(get) => Value::Text(get(row)),
        Get::Int(get) => Value::Int(get(row)),
        Get::Flag(get) => Value::Flag(get(row)),
        Get::Date(get) => Value::Date(get(row)),
        Get::Time(get) => Value::Time(get(row)),
        Get::Decimal(get) => Value::Decimal(get(row)),
        Get::Bytes(get) => Value::Bytes(get(tenant, row)),
    }
}

impl ToSql for Value<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Value::Line(v) => v.to_sql(ty, out),
            Value::Id(v) => v.to_sql(ty, out),
            Value::Text(v) => v.to_sql(ty, out),
            Value::Int(v) => v.to_sql(ty, out),
            Value::Flag(v) => v.to_sql(ty, out),
            Value::Date(v) => v.to_sql(ty, out),
            Value::Time(v) => v.to_sql(ty, out),
            Value::Decimal(v) => v.to_sql(ty, out),
            Value::Bytes(v) => v.to_sql(ty, out),
        }
    }

    /// The types are those of the same columns, see [`copied_type`].
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
