//! Data of persons: what there is about one, as an export, and its erasure.
//!
//! What each column says about a person is told in one place, [`registry`]; exports and erasures are made of it.
//! An erasure first withdraws what is still to happen ([`withdraw`]), waits until nothing is under way, and then
//! empties all rows in one transaction ([`erase`]), which also lists the files to be deleted ([`mod@file`]). All of it
//! can be done again, and is, some time later: bounces and the like come late. The request ([`request`]) stays as
//! proof.

pub mod erase;
pub mod export;
pub mod file;
pub mod registry;
pub mod request;
pub mod withdraw;

use std::collections::BTreeMap;

use anklang_domain::TenantId;
use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::{Conn, Result};

/// How many rows or files of each table.
pub type Counts = BTreeMap<String, i64>;

/// Whose data it is.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The tenant.
    pub tenant: TenantId,
    /// The customer.
    pub id: Uuid,
    /// The customer's number.
    pub number: String,
    /// Since when the data is forgotten, or being so.
    pub erased_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    number: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    erased_at: Option<DateTime<Utc>>,
}

impl Subject {
    /// `customers/{number}`.
    pub fn resource(&self) -> String {
        anklang_domain::name::format(&[("customers", &self.number)])
    }

    /// A statement over the person's rows: `$1` is the tenant, `$2` the customer's id, `$3` its number.
    fn query(&self, sql: String) -> BoxedSqlQuery<'static, Pg, SqlQuery> {
        diesel::sql_query(sql)
            .into_boxed::<Pg>()
            .bind::<SqlUuid, _>(self.tenant.0)
            .bind::<SqlUuid, _>(self.id)
            .bind::<Text, _>(self.number.clone())
    }
}

/// How many rows `FROM … WHERE …` of each table there are; tables without any are left out.
async fn count(
    conn: &mut Conn,
    subject: &Subject,
    tables: impl Iterator<Item = (&'static str, String)>,
) -> Result<Counts> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let mut counts = Counts::new();
    for (name, rows) in tables {
        let sql = format!("SELECT count(*) AS n {rows}");
        let Row { n } = subject.query(sql).get_result(conn).await?;
        if n > 0 {
            counts.insert(name.to_owned(), n);
        }
    }
    Ok(counts)
}

/// The customer with that number.
pub async fn subject(conn: &mut Conn, tenant: TenantId, number: &str) -> Result<Option<Subject>> {
    let row: Option<Row> = diesel::sql_query(
        "SELECT id, number, erased_at FROM customer WHERE tenant_id = $1 AND number = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(number)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| row.of(tenant)))
}

/// The customer of a request.
pub async fn subject_of(
    conn: &mut Conn,
    tenant: TenantId,
    request: Uuid,
) -> Result<Option<Subject>> {
    let row: Option<Row> = diesel::sql_query(
        "SELECT c.id, c.number, c.erased_at FROM privacy_request r
         JOIN customer c ON c.tenant_id = r.tenant_id AND c.id = r.customer_id
         WHERE r.tenant_id = $1 AND r.id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(request)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| row.of(tenant)))
}

/// The customer as it stands, whom nobody begins to erase until the end of the transaction.
pub async fn hold_subject(conn: &mut Conn, subject: &Subject) -> Result<Subject> {
    let row: Row = subject
        .query(
            "SELECT id, number, erased_at FROM customer WHERE tenant_id = $1 AND id = $2 FOR SHARE"
                .into(),
        )
        .get_result(conn)
        .await?;
    Ok(row.of(subject.tenant))
}

impl Row {
    fn of(self, tenant: TenantId) -> Subject {
        Subject {
            tenant,
            id: self.id,
            number: self.number,
            erased_at: self.erased_at,
        }
    }
}
