//! Empties the rows of a person.
//!
//! Statements are made of the [`registry`](super::registry), a table after the other; what is as it shall be is not
//! written, so that another time costs next to nothing.

use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::registry::{Table, Whose, tables};
use super::{Counts, Subject};
use crate::handover::event;
use crate::{Conn, Result, bundle};

/// How many rows of each table an erasure would empty or remove, without those that are searched.
pub async fn count(conn: &mut Conn, subject: &Subject) -> Result<Counts> {
    let tables = tables().iter();
    let tables = tables.filter_map(|table| Some((table.name, left(table)?)));
    super::count(conn, subject, tables).await
}

/// Empties or removes all rows of a person, and gives how many of each table. Files are listed to be deleted before
/// their keys are forgotten, print files to be made anew. Nothing of the person must be under way.
pub async fn rows(conn: &mut Conn, subject: &Subject, request: Uuid) -> Result<Counts> {
    super::file::list(conn, subject, request).await?;
    bundle::mark_for_remake(conn, subject.tenant, subject.id, request).await?;
    let mut counts = Counts::new();
    for table in tables() {
        let Some(rows) = left(table) else { continue };
        // By a statement of its own: what changes the rows finds them as they are.
        let lock = format!("SELECT 1 {rows} FOR UPDATE OF t");
        if subject.query(lock).execute(conn).await? == 0 {
            continue;
        }
        let done = subject.query(change(table, &rows)).execute(conn).await?;
        let n = i64::try_from(done).unwrap_or(i64::MAX);
        counts.insert(table.name.to_owned(), n);
    }
    Ok(counts)
}

/// `FROM … WHERE …`: the rows `t` of a person in which something is left to be erased.
fn left(table: &Table) -> Option<String> {
    let Whose::Person(whose) = table.whose else {
        return None;
    };
    let what = match (table.goes, differs(table)) {
        (true, _) => String::new(),
        (false, None) => return None,
        (false, Some(differs)) => format!(" AND ({differs})"),
    };
    let name = table.name;
    Some(format!(
        "FROM {name} t WHERE t.tenant_id = $1 AND {whose}{what}"
    ))
}

/// SQL that is true of a row `t` that is not erased yet.
fn differs(table: &Table) -> Option<String> {
    let columns: Vec<String> = table
        .erased
        .iter()
        .map(|(column, to)| format!("t.{column} IS DISTINCT FROM {}", to.sql(column)))
        .collect();
    (!columns.is_empty()).then(|| columns.join(" OR "))
}

/// What is done with the rows `FROM … WHERE …`.
fn change(table: &Table, rows: &str) -> String {
    if table.goes {
        return format!("DELETE {rows}");
    }
    let (name, set) = (table.name, set(table));
    let condition = rows
        .split_once(" WHERE ")
        .map_or("", |(_, condition)| condition);
    format!("UPDATE {name} t SET {set} WHERE {condition}")
}

fn set(table: &Table) -> String {
    let columns: Vec<String> = table
        .erased
        .iter()
        .map(|(column, to)| format!("{column} = {}", to.sql(column)))
        .collect();
    columns.join(", ")
}

/// Tells webhooks that a customer is erased.
pub async fn announce(conn: &mut Conn, subject: &Subject) -> Result<()> {
    event::customer_erased(conn, subject.tenant, &subject.number).await
}

/// Pieces of bytes that betray a person in the answers of calls: the name of the resource and addresses, as fields
/// of protobuf, whose length stands before them, so that `customers/47` is not found in `customers/4711`; and the
/// beginning of the names of what belongs to the customer.
pub async fn pieces(conn: &mut Conn, subject: &Subject) -> Result<Vec<Vec<u8>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let mut whole: Vec<Row> = subject
        .query(
            "SELECT DISTINCT address AS text FROM contact_point
             WHERE tenant_id = $1 AND customer_id = $2 AND length(address) > 3
             UNION SELECT address FROM message
             WHERE tenant_id = $1 AND customer_id = $2 AND notice IS NULL AND length(address) > 3
             UNION SELECT 'contracts/' || number FROM contract
             WHERE tenant_id = $1 AND customer_id = $2 AND number ~ '^[A-Za-z0-9._~-]+$'"
                .into(),
        )
        .load(conn)
        .await?;
    let name = subject.resource();
    let mut pieces = vec![format!("{name}/").into_bytes()];
    whole.push(Row { text: name });
    pieces.extend(whole.into_iter().filter_map(|row| field(&row.text)));
    Ok(pieces)
}

/// A text as protobuf writes it; `None` when its length takes more than a byte.
fn field(text: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(text.len()).ok().filter(|n| *n < 0x80)?;
    let mut bytes = vec![length];
    bytes.extend_from_slice(text.as_bytes());
    Some(bytes)
}

/// Where a search is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// The place of the table among those that are searched.
    table: usize,
    /// Behind this key.
    after: Uuid,
}

/// What was done at a place, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// The table.
    pub table: &'static str,
    /// Rows that quoted the person.
    pub erased: i64,
    /// The next place.
    pub next: Place,
}

/// Searches the next `limit` rows that may quote a person, and empties those that do; `None` when there are no more.
pub async fn search(
    conn: &mut Conn,
    subject: &Subject,
    pieces: &[Vec<u8>],
    at: Place,
    limit: i64,
) -> Result<Option<Searched>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<SqlUuid>)]
        last: Option<Uuid>,
        #[diesel(sql_type = BigInt)]
        erased: i64,
    }
    let mut searched = tables().iter().filter_map(|table| match table.whose {
        Whose::Searched { by, quotes } => Some((table, by, quotes)),
        _ => None,
    });
    let Some((table, by, quotes)) = searched.nth(at.table) else {
        return Ok(None);
    };
    let (name, set) = (table.name, set(table));
    let row: Row = diesel::sql_query(format!(
        "WITH page AS MATERIALIZED (
             SELECT t.{by} AS key FROM {name} t WHERE t.tenant_id = $1 AND t.{by} > $3
             ORDER BY t.{by} LIMIT $4),
         held AS MATERIALIZED (
             SELECT t.{by} AS key FROM {name} t
             WHERE t.tenant_id = $1 AND t.{by} IN (SELECT key FROM page) AND {quotes}
             ORDER BY t.{by} FOR UPDATE),
         erased AS (
             UPDATE {name} t SET {set}
             WHERE t.tenant_id = $1 AND t.{by} IN (SELECT key FROM held) RETURNING 1)
         SELECT (SELECT key FROM page ORDER BY key DESC LIMIT 1) AS last,
                (SELECT count(*) FROM erased) AS erased"
    ))
    .bind::<SqlUuid, _>(subject.tenant.0)
    .bind::<Array<Bytea>, _>(pieces)
    .bind::<SqlUuid, _>(at.after)
    .bind::<BigInt, _>(limit)
    .get_result(conn)
    .await?;
    let next = match row.last {
        Some(after) => Place { after, ..at },
        None => Place {
            table: at.table + 1,
            after: Uuid::nil(),
        },
    };
    Ok(Some(Searched {
        table: name,
        erased: row.erased,
        next,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        let field = field("customers/47").unwrap_or_default();
        assert_eq!(field, b"\x0ccustomers/47");
        let longer = b"\x0ecustomers/4711";
        assert!(!longer.windows(field.len()).any(|piece| piece == field));
        assert_eq!(super::field(&"x".repeat(128)), None);
    }

    #[test]
    fn rows_that_go_are_deleted_and_others_emptied() {
        let of = |name: &str| tables().iter().find(|table| table.name == name);
        for table in tables() {
            let Some(rows) = left(table) else { continue };
            let change = change(table, &rows);
            let verb = if table.goes { "DELETE FROM" } else { "UPDATE" };
            assert!(
                change.starts_with(&format!("{verb} {}", table.name)),
                "{change}"
            );
            assert!(change.contains("t.tenant_id = $1"), "{change}");
        }
        let consent = of("consent").and_then(left).unwrap_or_default();
        assert_eq!(
            consent,
            "FROM consent t WHERE t.tenant_id = $1 AND t.customer_id = $2"
        );
        // What only stays is not looked at.
        assert_eq!(of("winback_control").and_then(left), None);
        assert_eq!(of("brand").and_then(left), None);
    }
}
