//! What prepared criteria find now: counted exactly, with examples, or estimated.
//!
//! Without examples, it is the plain statement that counts. With examples, one statement keeps what it
//! finds and counts and sorts that. Counting and looking for examples apart is faster when much is found without effort (750,000 contracts, most of them found: 0.6 s
//! against 1.1 s), but slower when little is found with much (1.8 s against 0.5 s), because the
//! first by number are looked for in the order of the numbers. The latter is what takes long.

use std::time::{Duration, Instant};

use anklang_domain::selection::Subject;
use diesel::pg::Pg;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::row::NamedRow;
use diesel::sql_types::{BigInt, Json, Nullable, Text, Uuid as SqlUuid};
use diesel::{QueryableByName, deserialize};
use diesel_async::RunQueryDsl;

use super::{Prepared, Statement};
use crate::call::Call;
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// What criteria find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Customers or contracts, exactly.
    pub count: i64,
    /// Different customers among them.
    pub customers: i64,
    /// The first by number.
    pub sample: Vec<Sample>,
}

/// An example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Number of the customer.
    pub customer: String,
    /// Number of the contract, when contracts are selected.
    pub contract: Option<String>,
    /// Name of the person or company.
    pub name: String,
    /// Postcode and city, the site's for a contract.
    pub place: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    count: i64,
    #[diesel(sql_type = BigInt)]
    customers: i64,
    #[diesel(sql_type = Nullable<Text>)]
    customer: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    contract: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    name: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    place: Option<String>,
}

/// Counts, and gives the first `sample_size` by number if it is not 0, in one statement that reads
/// once.
///
/// Limits the statements of the transaction to `timeout` (milliseconds count) from here on.
///
/// # Errors
/// `Refused` when the database did not finish in that time; the transaction is over then.
pub async fn preview(
    conn: &mut Conn,
    prepared: &Prepared,
    sample_size: i64,
    timeout: Duration,
) -> Result<Preview> {
    let limit = Limit::begin(conn, timeout).await?;
    let statement = match sample_size {
        0 => counting(prepared),
        _ => counting_with_sample(prepared, sample_size),
    };
    let rows: std::result::Result<Vec<Row>, Error> = statement.load(conn).await;
    let rows = rows.map_err(|error| limit.explain(error.into()))?;
    let (count, customers) = rows[..].first().map_or((0, 0), |r| (r.count, r.customers));
    Ok(Preview {
        count,
        customers,
        sample: rows.into_iter().filter_map(Row::into_sample).collect(),
    })
}

/// How long what criteria find is looked for.
pub(super) struct Limit {
    timeout: Duration,
    started: Instant,
}

impl Limit {
    /// Limits the statements of the transaction from here on.
    pub(super) async fn begin(conn: &mut Conn, timeout: Duration) -> Result<Self> {
        // The call's own deadline may come before.
        let limit = Call::time_left().map_or(timeout, |left| left.min(timeout));
        diesel::sql_query("SELECT set_config('statement_timeout', $1, true)")
            .bind::<Text, _>(limit.as_millis().max(1).to_string())
            .fixed()
            .execute(conn)
            .await?;
        Ok(Limit {
            timeout,
            started: Instant::now(),
        })
    }

    /// An error of the statements, which may be that they took too long.
    pub(super) fn explain(&self, error: StoreError) -> StoreError {
        match error {
            // The only error of a statement that comes so late.
            StoreError::Query(Error::DatabaseError(DatabaseErrorKind::Unknown, _))
                if self.started.elapsed() >= self.timeout =>
            {
                StoreError::Refused {
                    resource: "criteria".to_owned(),
                    reason: format!(
                        "too expensive: not done within {} seconds; narrow them down",
                        self.timeout.as_secs()
                    ),
                }
            }
            other => other,
        }
    }
}

/// What the planner expects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// About so many customers or contracts.
    pub rows: i64,
    /// In the planner's units.
    pub cost: f64,
}

/// Asks the planner what finding would give and cost. Nothing is run.
pub async fn estimate(conn: &mut Conn, prepared: &Prepared) -> Result<Estimate> {
    let plans: Vec<Plan> = Statement::new(match prepared.subject {
        Subject::Customer => "EXPLAIN (FORMAT JSON) SELECT subject.id FROM customer subject WHERE ",
        Subject::Contract => "EXPLAIN (FORMAT JSON) SELECT subject.id FROM contract subject WHERE ",
    })
    .criteria(prepared)
    .load(conn)
    .await?;
    let plan = plans[..].first().map(|plan| &plan.0[0]["Plan"]);
    let number = |key: &str| plan.and_then(|plan| plan[key].as_f64());
    match (number("Plan Rows"), number("Total Cost")) {
        // The cast saturates.
        (Some(rows), Some(cost)) => Ok(Estimate {
            rows: rows as i64,
            cost,
        }),
        _ => Err(StoreError::Stored("a plan without rows and cost".into())),
    }
}

/// A plan as the database tells it.
struct Plan(serde_json::Value);

impl QueryableByName<Pg> for Plan {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        NamedRow::get::<Json, _>(row, "QUERY PLAN").map(Plan)
    }
}

/// Gives one row: the numbers.
fn counting(prepared: &Prepared) -> Statement {
    let numbers = match prepared.subject {
        Subject::Customer => Statement::new(
            "SELECT count(*) AS count, count(*) AS customers, NULL AS customer, NULL AS contract,
                    NULL AS name, NULL AS place
             FROM customer subject WHERE ",
        ),
        // Grouped, as count(DISTINCT …) would sort.
        Subject::Contract => Statement::new(
            "SELECT coalesce(sum(contracts), 0)::bigint AS count, count(*) AS customers,
                    NULL AS customer, NULL AS contract, NULL AS name, NULL AS place
             FROM (SELECT count(*) AS contracts FROM contract subject WHERE ",
        ),
    };
    let numbers = numbers.criteria(prepared);
    match prepared.subject {
        Subject::Customer => numbers,
        Subject::Contract => numbers.sql(" GROUP BY subject.customer_id) grouped"),
    }
}

/// Gives at least one row: the numbers, and an example if there is one.
fn counting_with_sample(prepared: &Prepared, sample_size: i64) -> Statement {
    let (found, figures_and_sample, joined) = match prepared.subject {
        Subject::Customer => OF_CUSTOMERS,
        Subject::Contract => OF_CONTRACTS,
    };
    Statement::new(found)
        .criteria(prepared)
        .sql(figures_and_sample)
        .bind::<BigInt, _>(sample_size)
        .sql(joined)
        .bind::<SqlUuid, _>(prepared.tenant.0)
        .sql(
            ")
             SELECT count, customers, customer, contract, name, place
             FROM figures LEFT JOIN sample ON TRUE ORDER BY number",
        )
}

const OF_CUSTOMERS: (&str, &str, &str) = (
    "WITH found AS MATERIALIZED (
         SELECT subject.id, subject.number FROM customer subject WHERE ",
    "), figures AS (
         SELECT count(*) AS count, count(*) AS customers FROM found
     ), sample AS (
         SELECT c.number, c.number AS customer, NULL::text AS contract,
                CASE c.kind WHEN 'company' THEN c.company_name
                     ELSE trim(c.first_name || ' ' || c.last_name) END AS name,
                trim(c.postal_code || ' ' || c.city) AS place
         FROM (SELECT id FROM found ORDER BY number LIMIT ",
    ") first JOIN customer c ON c.id = first.id WHERE c.tenant_id = ",
);

const OF_CONTRACTS: (&str, &str, &str) = (
    "WITH found AS MATERIALIZED (
         SELECT subject.id, subject.number, subject.customer_id FROM contract subject WHERE ",
    // Grouped, as count(DISTINCT …) would sort.
    "), figures AS (
         SELECT coalesce(sum(contracts), 0)::bigint AS count, count(*) AS customers
         FROM (SELECT count(*) AS contracts FROM found GROUP BY customer_id) grouped
     ), sample AS (
         SELECT k.number, c.number AS customer, k.number AS contract,
                CASE c.kind WHEN 'company' THEN c.company_name
                     ELSE trim(c.first_name || ' ' || c.last_name) END AS name,
                trim(k.site_postal_code || ' ' || k.site_city) AS place
         FROM (SELECT id FROM found ORDER BY number LIMIT ",
    ") first JOIN contract k ON k.id = first.id
         JOIN customer c ON c.tenant_id = k.tenant_id AND c.id = k.customer_id
         WHERE k.tenant_id = ",
);

impl Row {
    fn into_sample(self) -> Option<Sample> {
        Some(Sample {
            customer: self.customer?,
            contract: self.contract,
            name: self.name?,
            place: self.place?,
        })
    }
}
