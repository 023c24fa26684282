//! What there is about a person.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bytea, Jsonb, Text};
use diesel_async::RunQueryDsl;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;

use super::registry::{Table, Whose, tables};
use super::{Counts, Subject};
use crate::{Conn, Result};

/// A letter to the person, which lies in the document store.
#[derive(Debug, Clone, QueryableByName)]
pub struct Letter {
    /// Number of its offer.
    #[diesel(sql_type = Text)]
    pub offer_number: String,
    /// SHA-256 of its bytes.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// Its size.
    #[diesel(sql_type = BigInt)]
    pub size_bytes: i64,
}

/// The tables that exports hold rows of.
pub fn told() -> impl Iterator<Item = &'static Table> {
    tables().iter().filter(|table| rows_of(table).is_some())
}

/// The person's rows of a table, as objects of its columns, one after the other as the database gives them. All tables
/// are of one moment in a transaction of [`crate::Store::begin_snapshot`].
pub async fn rows<'a>(
    conn: &'a mut Conn,
    subject: &Subject,
    table: &Table,
) -> Result<BoxStream<'a, Result<Value>>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Jsonb)]
        row: Value,
    }
    let Some(rows) = rows_of(table) else {
        return Ok(futures::stream::empty().boxed());
    };
    let columns = table.told_columns().join(", ");
    let sql = format!("SELECT to_jsonb(r) AS row FROM (SELECT {columns} {rows}) r");
    let rows = subject.query(sql).load_stream::<Row>(conn).await?;
    Ok(rows.map(|row| -> Result<Value> { Ok(row?.row) }).boxed())
}

/// `FROM … WHERE …`: the rows `t` of a person that exports hold.
fn rows_of(table: &Table) -> Option<String> {
    let Whose::Person(whose) = table.whose else {
        return None;
    };
    let Table { name, telling, .. } = table;
    table
        .told
        .then(|| format!("FROM {name} t WHERE t.tenant_id = $1 AND {whose} AND {telling}"))
}

/// How many rows of each table an export would hold.
pub async fn count(conn: &mut Conn, subject: &Subject) -> Result<Counts> {
    let tables = told().filter_map(|table| Some((table.name, rows_of(table)?)));
    super::count(conn, subject, tables).await
}

/// The letters to a person that there are, by the number of their offer.
pub async fn letters(conn: &mut Conn, subject: &Subject) -> Result<Vec<Letter>> {
    Ok(subject
        .query(
            "SELECT o.number AS offer_number, d.sha256, d.size_bytes
             FROM offer o
             JOIN document d ON d.tenant_id = $1 AND d.offer_id = o.id AND d.erased_at IS NULL
             WHERE o.tenant_id = $1 AND o.customer_id = $2 ORDER BY o.number"
                .into(),
        )
        .load(conn)
        .await?)
}
