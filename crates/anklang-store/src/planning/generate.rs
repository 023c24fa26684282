//! Generating planned contacts: what plans, entries and inactive periods want is compared with what
//! there is, chunk by chunk of customers, and only what differs is written.
//!
//! The dates of plans come from the rules of the domain, one [`PlanDay`] for each plan and recurrence
//! date. The rest is set-based: one statement joins them with the entries of a chunk, applies the
//! inactive periods as `planning::for_customer` does, settles which plan contacts a customer on a
//! date, and notes for each contact what becomes of it in a temporary table; three more write that.
//!
//! # Guarantees
//! - A contact is known by its entry and recurrence date, under a unique key. What is right already is
//!   not written.
//! - Contacts that people worked on, moved or pinned stay as they are. The rows that would change are
//!   locked and looked at again; if somebody was at one of them meanwhile, or an entry is gone, all of the
//!   chunk is compared again.
//! - Chunks of one tenant take turns ([`begin_chunk`]), so that two generations do not both give a
//!   customer's day away.

mod sql;

use anklang_domain::{OperationId, TenantId};
use chrono::{NaiveDate, NaiveTime};
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Jsonb, Nullable, Text, Time, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Count;
use crate::{Conn, Result, StoreError};

/// Changes that are told one by one, at most.
pub const SAMPLE: usize = 1_000;

/// Which entries a generation is about; filters that are empty take all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Codes of plans.
    pub plans: Vec<String>,
    /// Numbers of customers.
    pub customers: Vec<String>,
    /// Customer groups.
    pub groups: Vec<String>,
    /// Who makes the contacts.
    pub responsibles: Vec<String>,
}

/// One recurrence date of a plan, and what it means for all its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanDay {
    /// The plan that the entries are of.
    pub plan: String,
    /// The recurrence date.
    pub on: NaiveDate,
    /// The contact date.
    pub date: NaiveDate,
    /// Why there is no contact, a [`Change::reason`]; empty when there is one.
    pub without: &'static str,
    /// The plan that contacts are made under.
    pub under: String,
    /// Who makes them.
    pub responsible: String,
    /// Whether they are made only if no other such plan contacts the customer on that date.
    pub exclusive: bool,
    /// Delivery days that come into question, ascending.
    pub deliveries: Vec<NaiveDate>,
    /// Why the first of them is not the plan's usual one: a word of `delivery_moved`, or empty.
    pub delivery_moved: &'static str,
    /// The hours of entries that do not say: both included.
    pub hours: (NaiveTime, NaiveTime),
    /// The clock of that date.
    pub clock: super::clock::Clock,
}

/// What is generated.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// Codes of the plans that it is about.
    pub plans: &'a [String],
    /// Numbers of customers; all when empty.
    pub customers: &'a [String],
    /// Customer groups; all when empty.
    pub groups: &'a [String],
    /// The first contact date.
    pub first: NaiveDate,
    /// The last contact date.
    pub last: NaiveDate,
    /// Customers behind this one, in the order of ids.
    pub after: Uuid,
    /// Up to this one.
    pub until: Uuid,
}

/// What became of a contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, QueryableByName)]
pub struct Change {
    /// `added`, `changed`, `removed`, `kept`, `left_out` or `unchanged`.
    #[diesel(sql_type = Text)]
    pub change: String,
    /// Why: the lower-case name of the API's reason, or empty.
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// The entry's plan; null when the entry is gone.
    #[diesel(sql_type = Nullable<Text>)]
    pub plan: Option<String>,
    /// The entry's contact time.
    #[diesel(sql_type = Nullable<Time>)]
    pub time: Option<NaiveTime>,
    /// The customer's number.
    #[diesel(sql_type = Text)]
    pub customer: String,
    /// The recurrence date.
    #[diesel(sql_type = Date)]
    pub on: NaiveDate,
    /// The contact date.
    #[diesel(sql_type = Date)]
    pub date: NaiveDate,
    /// The delivery date.
    #[diesel(sql_type = Nullable<Date>)]
    pub delivery: Option<NaiveDate>,
}

/// How many contacts one reason is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, QueryableByName)]
pub struct Figure {
    /// As in [`Change`].
    #[diesel(sql_type = Text)]
    pub change: String,
    /// As in [`Change`].
    #[diesel(sql_type = Text)]
    pub reason: String,
    /// How many.
    #[diesel(sql_type = BigInt)]
    pub count: i64,
}

/// What was found, added up over chunks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// By change and reason.
    pub figures: Vec<Figure>,
    /// The first [`SAMPLE`] that are not unchanged.
    pub sample: Vec<Change>,
}

impl Found {
    /// So many old contacts, some of them told one by one.
    pub fn old(count: i64, sample: Vec<Change>) -> Found {
        let figures = vec![Figure {
            change: "removed".into(),
            reason: "old".into(),
            count,
        }];
        Found {
            figures: if count == 0 { Vec::new() } else { figures },
            sample,
        }
    }

    /// Adds what another chunk found.
    pub fn add(&mut self, other: Found) {
        for figure in other.figures {
            let same = |f: &&mut Figure| f.change == figure.change && f.reason == figure.reason;
            match self.figures.iter_mut().find(same) {
                Some(sum) => sum.count += figure.count,
                None => self.figures.push(figure),
            }
        }
        let room = SAMPLE.saturating_sub(self.sample.len());
        self.sample.extend(other.sample.into_iter().take(room));
    }

    /// How many there are of a change.
    pub fn count(&self, change: &str) -> i64 {
        let figures = self.figures.iter().filter(|f| f.change == change);
        figures.map(|f| f.count).sum()
    }
}

/// Chunks of a tenant's generations take turns until the end of the transaction. What people change
/// meanwhile is seen when the rows are locked, or by the next generation.
pub async fn begin_chunk(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('planned contacts ' || $1::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    Ok(())
}

#[derive(QueryableByName)]
struct Code {
    #[diesel(sql_type = Text)]
    code: String,
}

/// Codes of the plans of a scope, ordered.
pub async fn plans(conn: &mut Conn, tenant: TenantId, scope: &Scope) -> Result<Vec<String>> {
    let found: Vec<Code> = diesel::sql_query(
        "SELECT code FROM contact_plan
         WHERE tenant_id = $1 AND ($2 = '{}' OR code = ANY($2))
           AND ($3 = '{}' OR responsible = ANY($3))
         ORDER BY code",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(&scope.plans)
    .bind::<Array<Text>, _>(&scope.responsibles)
    .load(conn)
    .await?;
    Ok(found.into_iter().map(|row| row.code).collect())
}

/// Numbers among those given that are no customer's.
pub async fn unknown_customers(
    conn: &mut Conn,
    tenant: TenantId,
    numbers: &[String],
) -> Result<Vec<String>> {
    let found: Vec<Code> = diesel::sql_query(
        "SELECT n AS code FROM unnest($2) AS n WHERE NOT EXISTS (
             SELECT FROM customer WHERE tenant_id = $1 AND number = n)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<Text>, _>(numbers)
    .load(conn)
    .await?;
    Ok(found.into_iter().map(|row| row.code).collect())
}

/// Entries `e` of the chunk; binds are the tenant, plans, customers, groups, after and until.
const ENTRIES: &str = "FROM plan_entry e
    WHERE e.tenant_id = $1 AND e.plan_code = ANY($2)
      AND ($3 = '{}' OR e.customer_id IN (
          SELECT id FROM customer WHERE tenant_id = $1 AND number = ANY($3)))
      AND ($4 = '{}' OR EXISTS (
          SELECT FROM customer c
          WHERE c.tenant_id = $1 AND c.id = e.customer_id AND c.customer_group = ANY($4)
            AND c.id > $5 AND c.id <= $6))
      AND e.customer_id > $5 AND e.customer_id <= $6";

macro_rules! with_entries {
    ($sql:expr, $tenant:expr, $chunk:expr) => {
        diesel::sql_query($sql)
            .bind::<SqlUuid, _>($tenant.0)
            .bind::<Array<Text>, _>($chunk.plans)
            .bind::<Array<Text>, _>($chunk.customers)
            .bind::<Array<Text>, _>($chunk.groups)
            .bind::<SqlUuid, _>($chunk.after)
            .bind::<SqlUuid, _>($chunk.until)
    };
}

/// How many entries there are in a chunk.
pub async fn entries(conn: &mut Conn, tenant: TenantId, chunk: &Chunk<'_>) -> Result<i64> {
    let sql = format!("SELECT count(*) AS n {ENTRIES}");
    let count: Count = with_entries!(sql, tenant, chunk).get_result(conn).await?;
    Ok(count.n)
}

/// Codes of the plans that have entries in a chunk.
pub async fn plans_of(conn: &mut Conn, tenant: TenantId, chunk: &Chunk<'_>) -> Result<Vec<String>> {
    let sql = format!("SELECT DISTINCT e.plan_code AS code {ENTRIES} ORDER BY code");
    let found: Vec<Code> = with_entries!(sql, tenant, chunk).load(conn).await?;
    Ok(found.into_iter().map(|row| row.code).collect())
}

/// The customer with whom so many entries of a chunk are complete; `None` when it has not more.
pub async fn end_of(
    conn: &mut Conn,
    tenant: TenantId,
    chunk: &Chunk<'_>,
    entries: i64,
) -> Result<Option<Uuid>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        customer_id: Uuid,
    }
    let sql = format!("SELECT e.customer_id {ENTRIES} ORDER BY e.customer_id OFFSET $7 LIMIT 1");
    let found: Option<Row> = with_entries!(sql, tenant, chunk)
        .bind::<BigInt, _>(entries)
        .get_result(conn)
        .await
        .optional()?;
    Ok(found.map(|row| row.customer_id))
}

/// Finds out what becomes of each contact of a chunk, and writes it for an `operation`; without one
/// nothing is written. At most `sample` changes are told one by one.
pub async fn chunk(
    conn: &mut Conn,
    tenant: TenantId,
    chunk: &Chunk<'_>,
    days: &[PlanDay],
    operation: Option<OperationId>,
    sample: usize,
) -> Result<Found> {
    for attempt in 1..=COMPARISONS {
        for statement in [sql::TABLE, sql::SETTINGS] {
            diesel::sql_query(statement).execute(conn).await?;
        }
        compare(conn, tenant, chunk, days).await?;
        diesel::sql_query(sql::USUAL).execute(conn).await?;
        let Some(operation) = operation else {
            break;
        };
        let is_stale = hold(conn, tenant).await?;
        if is_stale && attempt < COMPARISONS {
            diesel::sql_query(DROP).execute(conn).await?;
            continue;
        }
        write(conn, tenant, operation, is_stale).await?;
        break;
    }
    let found = found(conn, tenant, sample).await?;
    diesel::sql_query(DROP).execute(conn).await?;
    Ok(found)
}

const DROP: &str = "DROP TABLE pg_temp.generation_diff";

/// So often a chunk is compared when people are at its contacts in between. What was held before still is, so
/// that another time only others can come in between.
const COMPARISONS: usize = 4;

/// Holds what is to be written; true when it is not as it was compared.
async fn hold(conn: &mut Conn, tenant: TenantId) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        is_stale: bool,
    }
    let row: Row = diesel::sql_query(sql::HOLD)
        .bind::<SqlUuid, _>(tenant.0)
        .get_result(conn)
        .await?;
    Ok(row.is_stale)
}

async fn compare(
    conn: &mut Conn,
    tenant: TenantId,
    chunk: &Chunk<'_>,
    days: &[PlanDay],
) -> Result<()> {
    let all = |get: fn(&PlanDay) -> &str| days.iter().map(get).collect::<Vec<&str>>();
    let deliveries: Vec<String> = days
        .iter()
        .map(|day| {
            let dates: Vec<String> = day.deliveries.iter().map(NaiveDate::to_string).collect();
            dates.join(",")
        })
        .collect();
    let sql = sql::compare(ENTRIES);
    with_entries!(sql, tenant, chunk)
        .bind::<Date, _>(chunk.first)
        .bind::<Date, _>(chunk.last)
        .bind::<Array<Text>, _>(all(|d| &d.plan))
        .bind::<Array<Date>, _>(days.iter().map(|d| d.on).collect::<Vec<_>>())
        .bind::<Array<Date>, _>(days.iter().map(|d| d.date).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(all(|d| d.without))
        .bind::<Array<Text>, _>(all(|d| &d.under))
        .bind::<Array<Text>, _>(all(|d| &d.responsible))
        .bind::<Array<Bool>, _>(days.iter().map(|d| d.exclusive).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(deliveries)
        .bind::<Array<Text>, _>(all(|d| d.delivery_moved))
        .bind::<Array<Time>, _>(days.iter().map(|d| d.hours.0).collect::<Vec<_>>())
        .bind::<Array<Time>, _>(days.iter().map(|d| d.hours.1).collect::<Vec<_>>())
        .bind::<Array<Integer>, _>(days.iter().map(|d| d.clock.offset).collect::<Vec<_>>())
        .bind::<Array<Nullable<Timestamptz>>, _>(
            days.iter().map(|d| d.clock.jump).collect::<Vec<_>>(),
        )
        .bind::<Array<Integer>, _>(days.iter().map(|d| d.clock.later).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

async fn write(
    conn: &mut Conn,
    tenant: TenantId,
    operation: OperationId,
    is_stale: bool,
) -> Result<()> {
    if is_stale {
        diesel::sql_query(sql::LOOK_AGAIN)
            .bind::<SqlUuid, _>(tenant.0)
            .execute(conn)
            .await?;
    }
    diesel::sql_query(sql::REMOVE)
        .bind::<SqlUuid, _>(tenant.0)
        .execute(conn)
        .await?;
    for statement in [sql::LET_GO, sql::UPDATE, sql::INSERT] {
        diesel::sql_query(statement)
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(operation.0)
            .execute(conn)
            .await?;
    }
    Ok(())
}

async fn found(conn: &mut Conn, tenant: TenantId, sample: usize) -> Result<Found> {
    let figures = diesel::sql_query(sql::FIGURES).load(conn).await?;
    let sample = i64::try_from(sample).unwrap_or(0);
    let sample = match sample {
        0 => Vec::new(),
        _ => {
            diesel::sql_query(sql::SAMPLE)
                .bind::<SqlUuid, _>(tenant.0)
                .bind::<BigInt, _>(sample)
                .load(conn)
                .await?
        }
    };
    Ok(Found { figures, sample })
}

/// Removes generated contacts of a scope up to a date that nobody was at: at most `limit`, the oldest
/// first.
pub async fn remove_old(
    conn: &mut Conn,
    tenant: TenantId,
    chunk: &Chunk<'_>,
    until: NaiveDate,
    limit: i64,
) -> Result<Vec<Change>> {
    old(conn, tenant, chunk, until, limit, sql::REMOVE_OLD).await
}

/// What [`remove_old`] would remove in all.
pub async fn find_old(
    conn: &mut Conn,
    tenant: TenantId,
    chunk: &Chunk<'_>,
    until: NaiveDate,
) -> Result<Found> {
    let count: Count = diesel::sql_query(sql::COUNT_OLD)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<Text>, _>(chunk.plans)
        .bind::<Array<Text>, _>(chunk.customers)
        .bind::<Array<Text>, _>(chunk.groups)
        .bind::<Date, _>(until)
        .get_result(conn)
        .await?;
    let limit = i64::try_from(SAMPLE).unwrap_or(i64::MAX);
    Ok(Found::old(
        count.n,
        old(conn, tenant, chunk, until, limit, sql::FIND_OLD).await?,
    ))
}

async fn old(
    conn: &mut Conn,
    tenant: TenantId,
    chunk: &Chunk<'_>,
    until: NaiveDate,
    limit: i64,
    sql: &'static str,
) -> Result<Vec<Change>> {
    Ok(diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Array<Text>, _>(chunk.plans)
        .bind::<Array<Text>, _>(chunk.customers)
        .bind::<Array<Text>, _>(chunk.groups)
        .bind::<Date, _>(until)
        .bind::<BigInt, _>(limit)
        .load(conn)
        .await?)
}

/// How far a generation is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last customer that is done.
    pub after: Option<Uuid>,
    /// What was found so far.
    pub found: Found,
}

/// Notes a new generation, in the transaction that makes its operation. False when there is one for
/// that night already.
pub async fn begin(
    conn: &mut Conn,
    tenant: TenantId,
    operation: OperationId,
    night: Option<NaiveDate>,
) -> Result<bool> {
    let rows = diesel::sql_query(
        "INSERT INTO contact_generation (tenant_id, operation_id, night) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(operation.0)
    .bind::<Nullable<Date>, _>(night)
    .execute(conn)
    .await?;
    Ok(rows == 1)
}

/// Whether a tenant has plans, and no generation for that night yet.
pub async fn wants_night(conn: &mut Conn, tenant: TenantId, night: NaiveDate) -> Result<bool> {
    let rows = diesel::sql_query(
        "SELECT 1 WHERE EXISTS (SELECT FROM contact_plan WHERE tenant_id = $1)
           AND NOT EXISTS (SELECT FROM contact_generation WHERE tenant_id = $1 AND night = $2)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Date, _>(night)
    .execute(conn)
    .await?;
    Ok(rows == 1)
}

/// Forgets the operations of nights before one, if they are over.
pub async fn forget_nights(conn: &mut Conn, tenant: TenantId, before: NaiveDate) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM operation o USING contact_generation g
         WHERE g.tenant_id = $1 AND g.night < $2 AND o.tenant_id = $1 AND o.id = g.operation_id
           AND o.state IN ('succeeded', 'failed', 'cancelled')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Date, _>(before)
    .execute(conn)
    .await?;
    Ok(())
}

/// How far a generation is.
///
/// # Errors
/// `Stored` when it is not there.
pub async fn standing(
    conn: &mut Conn,
    tenant: TenantId,
    operation: OperationId,
) -> Result<Standing> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<SqlUuid>)]
        after_customer: Option<Uuid>,
        #[diesel(sql_type = Jsonb)]
        figures: serde_json::Value,
        #[diesel(sql_type = Jsonb)]
        sample: serde_json::Value,
    }
    let stored = |what: String| StoreError::Stored(format!("operations/{operation}: {what}"));
    let row: Option<Row> = diesel::sql_query(
        "SELECT after_customer, figures, sample FROM contact_generation
         WHERE tenant_id = $1 AND operation_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(operation.0)
    .get_result(conn)
    .await
    .optional()?;
    let row = row.ok_or_else(|| stored("no generation".into()))?;
    Ok(Standing {
        after: row.after_customer,
        found: Found {
            figures: serde_json::from_value(row.figures).map_err(|e| stored(e.to_string()))?,
            sample: serde_json::from_value(row.sample).map_err(|e| stored(e.to_string()))?,
        },
    })
}

/// Writes down how far a generation is, in the transaction of its chunk.
pub async fn advance(
    conn: &mut Conn,
    tenant: TenantId,
    operation: OperationId,
    standing: &Standing,
) -> Result<()> {
    let json = |value: serde_json::Result<serde_json::Value>| {
        value.map_err(|e| StoreError::Stored(format!("operations/{operation}: {e}")))
    };
    diesel::sql_query(
        "UPDATE contact_generation SET after_customer = $3, figures = $4, sample = $5
         WHERE tenant_id = $1 AND operation_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(operation.0)
    .bind::<Nullable<SqlUuid>, _>(standing.after)
    .bind::<Jsonb, _>(json(serde_json::to_value(&standing.found.figures))?)
    .bind::<Jsonb, _>(json(serde_json::to_value(&standing.found.sample))?)
    .execute(conn)
    .await?;
    Ok(())
}
