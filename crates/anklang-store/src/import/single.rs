//! Single updates over the write path of the import.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anklang_domain::{TenantId, Violations};
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Load, Loaded, Numbered};
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
    conn: &mut Conn,
    tenant: TenantId,
    sql: &'static str,
    number: &str,
) -> Result<Option<Uuid>> {
    let row: Option<Id> = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(number)
        .get_result(conn)
        .await
        .optional()?;
    Ok(row.map(|row| row.id))
}

/// Writes one row; violations are named by its columns.
pub(crate) async fn one<R: Load>(conn: &mut Conn, tenant: TenantId, row: R) -> Result<()> {
    let rows = [Numbered { line: 0, row }];
    refuse(R::load(conn, tenant, &rows, None).await?, |_, field| field)?;
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
        numbered.push(Numbered { line, row });
    }
    violations.finish(())?;
    if numbered.is_empty() {
        return Ok(false);
    }
    let loaded = R::load(conn, tenant, &numbered, None).await?;
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
