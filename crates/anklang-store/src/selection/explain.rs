//! Why a customer or contract is found or not: every node of the criteria, in one statement.

use anklang_domain::TenantId;
use anklang_domain::selection::{Criteria, Subject};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{Attributes, Statement, check, compile, operand};
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// What a node of criteria came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Where it stands, from `criteria`.
    pub path: String,
    /// Rows that it was held against: 1, but below a relation the related rows.
    pub rows: i64,
    /// Those for which it holds.
    pub matching: i64,
    /// Of a relation: the related rows.
    pub related: i64,
    /// Of a relation: those that meet what they must.
    pub matching_related: i64,
}

/// What criteria came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Id of the customer or contract.
    pub id: Uuid,
    /// All nodes, one before those below it.
    pub nodes: Vec<Explained>,
}

impl Explanation {
    /// Whether the criteria as a whole hold.
    pub fn holds(&self) -> bool {
        self.nodes[..].first().is_some_and(|root| root.matching > 0)
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Array<BigInt>)]
    numbers: Vec<i64>,
}

/// Explains criteria for the customer or contract with that number; `None` when there is none.
///
/// # Errors
/// `Invalid` with everything that is wrong with the criteria, as from `prepare`.
pub async fn explain(
    conn: &mut Conn,
    tenant: &Tenant,
    subject: Subject,
    criteria: &Criteria,
    number: &str,
    as_of: DateTime<Utc>,
) -> Result<Option<Explanation>> {
    let attributes = Attributes::load(conn, tenant.id).await?;
    let calendar = operand::Calendar::new(as_of, tenant.time_zone);
    check::check(subject.into(), criteria, &attributes, calendar)?;
    let pieces = check::pieces(subject.into(), criteria, &attributes, calendar)?;
    let row: Option<Row> = statement(tenant.id, subject, &pieces, number)
        .get_result(conn)
        .await
        .optional()?;
    let Some(row) = row else {
        return Ok(None);
    };
    if row.numbers.len() != 4 * pieces.len() {
        return Err(StoreError::Stored(
            "an explanation of other criteria".into(),
        ));
    }
    let nodes = pieces.into_iter().zip(row.numbers.chunks_exact(4));
    let nodes = nodes.map(|(piece, numbers)| Explained {
        path: piece.path,
        rows: numbers[0],
        matching: numbers[1],
        related: numbers[2],
        matching_related: numbers[3],
    });
    Ok(Some(Explanation {
        id: row.id,
        nodes: nodes.collect(),
    }))
}

fn statement(
    tenant: TenantId,
    subject: Subject,
    pieces: &[check::Piece],
    number: &str,
) -> Statement {
    Statement::new("SELECT subject.id, ")
        .append(&compile::explanation(tenant, pieces))
        .sql(match subject {
            Subject::Customer => " AS numbers FROM customer subject WHERE subject.tenant_id = ",
            Subject::Contract => " AS numbers FROM contract subject WHERE subject.tenant_id = ",
        })
        .bind::<SqlUuid, _>(tenant.0)
        .sql(" AND subject.number = ")
        .bind::<Text, _>(number.to_owned())
}
