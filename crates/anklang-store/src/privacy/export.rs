//! What there is about a person.

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bytea, Jsonb, Text};
use diesel_async::RunQueryDsl;
use serde_json::Value;

use super::registry::{Table, Whose, tables};
use super::{Counts, Subject};
use crate::{Conn, Result};

/// The person's rows of a table, as objects of its columns.
#[derive(Debug, Clone)]
pub struct Told {
    /// The table.
    pub table: &'static str,
    /// Its rows.
    pub rows: Vec<Value>,
}

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

/// All rows of a person, of one moment in a transaction of [`crate::Store::begin_snapshot`]. Tables without any are
/// left out.
pub async fn rows(conn: &mut Conn, subject: &Subject) -> Result<Vec<Told>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Jsonb)]
        row: Value,
    }
    let mut all = Vec::new();
    for table in tables().iter().filter(|table| table.told) {
        let Some(sql) = select(table) else { continue };
        let rows: Vec<Row> = subject.query(sql).load(conn).await?;
        if !rows.is_empty() {
            all.push(Told {
                table: table.name,
                rows: rows.into_iter().map(|row| row.row).collect(),
            });
        }
    }
    Ok(all)
}

fn select(table: &Table) -> Option<String> {
    let Whose::Person(whose) = table.whose else {
        return None;
    };
    Some(format!(
        "SELECT to_jsonb(r) AS row FROM (
             SELECT {} FROM {} t WHERE t.tenant_id = $1 AND {whose} AND {}) r",
        table.told_columns().join(", "),
        table.name,
        table.telling
    ))
}

/// How many rows of each table an export would hold.
pub async fn count(conn: &mut Conn, subject: &Subject) -> Result<Counts> {
    let told = rows(conn, subject).await?;
    let count = |told: Told| {
        let n = i64::try_from(told.rows.len()).unwrap_or(i64::MAX);
        (told.table.to_owned(), n)
    };
    Ok(told.into_iter().map(count).collect())
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
