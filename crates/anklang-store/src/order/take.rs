//! Orders that people take: a new one, or lines that are added to one. Order, lines, the line in the
//! customer's history and the event for the tenant's ERP are one statement.

use std::sync::LazyLock;

use anklang_domain::TenantId;
use chrono::NaiveDate;
use diesel::pg::Pg;
use diesel::query_builder::{BoxedSqlQuery, SqlQuery};
use diesel::sql_types::{
    Array, BigInt, Bool, Date, Integer, Nullable, Numeric, Text, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::resource;
use crate::handover::event::ANNOUNCE_ORDER;
use crate::{Conn, Result, StoreError};

/// The most lines of an order.
pub const MAX_LINES: usize = 1_000;
/// So often somebody else may be faster with the number that was free.
const TRIES: usize = 10;

/// A line that is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct NewLine {
    pub product_number: String,
    pub product_name: String,
    pub product_group: String,
    pub quantity: Decimal,
    pub unit_price: Decimal,
}

/// In which contact something is ordered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Occasion<'a> {
    pub(crate) contact: Uuid,
    /// `users/{user}`.
    pub(crate) worker: &'a str,
    pub(crate) lines: &'a [NewLine],
}

/// A new order, its references resolved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    /// Empty: one of ours.
    pub(crate) number: &'a str,
    pub(crate) customer: Uuid,
    pub(crate) brand: Option<Uuid>,
    pub(crate) currency: &'a str,
    pub(crate) delivery_date: NaiveDate,
    pub(crate) departure: &'a str,
    pub(crate) order_type: &'a str,
    pub(crate) note: &'a str,
}

/// What follows from `changed`, the order as it is now: lines, event and history. `$1` is the tenant,
/// `$2` the order, `$3` its name, `$4` to `$8` the lines, `$9` the contact, `$10` the worker, `$11` the
/// number of the last line before, `$12` the kind.
const LINES_AND_NEWS: &str = "
    added AS (
        INSERT INTO order_line (tenant_id, order_id, line, product_number, product_name,
            product_group, quantity, unit_price)
        SELECT $1, c.id, $11 + n.place::integer, n.product_number, n.product_name, n.product_group,
               n.quantity, n.unit_price
        FROM changed c
        CROSS JOIN unnest($4::text[], $5::text[], $6::text[], $7::numeric[], $8::numeric[])
            WITH ORDINALITY AS n (product_number, product_name, product_group, quantity,
                                  unit_price, place)
        RETURNING line, product_number, product_name, product_group, quantity, unit_price),
    told_lines AS (
        SELECT * FROM added
        UNION ALL
        SELECT line, product_number, product_name, product_group, quantity, unit_price
        FROM order_line WHERE tenant_id = $1 AND order_id = $2),
    news AS (
        SELECT $12::text AS kind, $3::text AS subject, $9::uuid AS contact_id, $10::text AS worker,
               (SELECT jsonb_agg(line ORDER BY line) FROM added) AS added_lines
        FROM changed)";

/// The line in the customer's history.
const HISTORY: &str = "
    INSERT INTO customer_event (tenant_id, customer_id, kind, resource, details)
    SELECT $1, c.customer_id, 'order.' || n.kind, n.subject,
           jsonb_build_object(
               'planned_contact', 'plannedContacts/' || n.contact_id, 'worker', n.worker,
               'delivery_date', c.delivery_date, 'lines', jsonb_array_length(n.added_lines),
               'currency', c.currency,
               'amount', (SELECT round(sum(quantity * unit_price), 2)::text FROM added))
    FROM changed c CROSS JOIN news n";

/// Makes a new order; gives its number. Who makes one without a number waits for whoever does the same.
///
/// # Errors
/// `Refused` when there is an order with that number.
pub(crate) async fn place(
    conn: &mut Conn,
    tenant: TenantId,
    head: &Head<'_>,
    occasion: &Occasion<'_>,
) -> Result<String> {
    if !head.number.is_empty() {
        return match insert(conn, tenant, head.number, head, occasion).await? {
            true => Ok(head.number.to_owned()),
            false => Err(taken(head.number)),
        };
    }
    let mut number = String::new();
    for _ in 0..TRIES {
        number = next_number(conn, tenant).await?;
        if insert(conn, tenant, &number, head, occasion).await? {
            return Ok(number);
        }
        pass_over(conn, tenant).await?;
    }
    Err(taken(&number))
}

/// Passes over the numbers that other orders have, from the next one of ours on, however many they are.
async fn pass_over(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "UPDATE number_range r SET next_value = coalesce((
             SELECT n.value
             FROM (SELECT generate_series(r.next_value, r.next_value + 999999999) AS value) n
             CROSS JOIN LATERAL (
                 SELECT r.prefix || lpad(n.value::text, greatest(8, length(n.value::text)), '0')
                     AS number) own
             LEFT JOIN LATERAL (SELECT true AS is_there FROM sales_order
                 WHERE tenant_id = (SELECT $1) AND number = own.number OFFSET 0) a ON true
             LEFT JOIN LATERAL (SELECT true AS is_there FROM sales_order
                 WHERE tenant_id = (SELECT $1) AND taken_number = own.number AND taken_number <> ''
                 OFFSET 0) b ON true
             WHERE a.is_there IS NULL AND b.is_there IS NULL LIMIT 1), r.next_value)
         WHERE r.tenant_id = $1 AND r.kind = 'order'",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    Ok(())
}

fn taken(number: &str) -> StoreError {
    StoreError::Refused {
        resource: resource(number),
        reason: "there is an order with this number".into(),
    }
}

/// The next number of ours: `B-00000001` and so on, gapless, as those of offers. Held until the end of the
/// transaction.
async fn next_number(conn: &mut Conn, tenant: TenantId) -> Result<String> {
    #[derive(QueryableByName)]
    struct Range {
        #[diesel(sql_type = Text)]
        prefix: String,
        #[diesel(sql_type = BigInt)]
        number: i64,
    }
    let range: Range = diesel::sql_query(
        "INSERT INTO number_range AS r (tenant_id, kind, prefix, next_value)
         VALUES ($1, 'order', 'B-', 2)
         ON CONFLICT (tenant_id, kind) DO UPDATE SET next_value = r.next_value + 1
         RETURNING prefix, next_value - 1 AS number",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(conn)
    .await?;
    Ok(format!("{}{:08}", range.prefix, range.number))
}

async fn insert(
    conn: &mut Conn,
    tenant: TenantId,
    number: &str,
    head: &Head<'_>,
    occasion: &Occasion<'_>,
) -> Result<bool> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH changed AS (
                 INSERT INTO sales_order (tenant_id, id, number, taken_number, state, customer_id,
                     brand_id, ordered_at, currency, delivery_date, departure, order_type, note,
                     contact_id, taken_by)
                 VALUES ($1, $2, $13, $13, 'taken', $14, $15, now(), $16, $17, $18, $19, $20, $9, $10)
                 ON CONFLICT DO NOTHING
                 RETURNING *),
             {LINES_AND_NEWS}, {ANNOUNCE_ORDER} {HISTORY}"
        )
    });
    let to = Addition {
        order: Uuid::now_v7(),
        name: &resource(number),
        last_line: 0,
        kind: "taken",
    };
    let made = bound(&SQL, tenant, &to, occasion)
        .bind::<Text, _>(number)
        .bind::<SqlUuid, _>(head.customer)
        .bind::<Nullable<SqlUuid>, _>(head.brand)
        .bind::<Text, _>(head.currency)
        .bind::<Date, _>(head.delivery_date)
        .bind::<Text, _>(head.departure)
        .bind::<Text, _>(head.order_type)
        .bind::<Text, _>(head.note)
        .execute(conn)
        .await?;
    Ok(made == 1)
}

/// What lines are added to.
struct Addition<'a> {
    order: Uuid,
    name: &'a str,
    last_line: i32,
    kind: &'static str,
}

/// The binds of [`LINES_AND_NEWS`].
fn bound<'f>(
    sql: &'static str,
    tenant: TenantId,
    to: &'f Addition<'f>,
    occasion: &'f Occasion<'f>,
) -> BoxedSqlQuery<'f, Pg, SqlQuery> {
    let texts = |get: fn(&NewLine) -> &str| occasion.lines.iter().map(get).collect::<Vec<_>>();
    let numbers = |get: fn(&NewLine) -> Decimal| occasion.lines.iter().map(get).collect::<Vec<_>>();
    diesel::sql_query(sql)
        .into_boxed::<Pg>()
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(to.order)
        .bind::<Text, _>(to.name)
        .bind::<Array<Text>, _>(texts(|line| &line.product_number))
        .bind::<Array<Text>, _>(texts(|line| &line.product_name))
        .bind::<Array<Text>, _>(texts(|line| &line.product_group))
        .bind::<Array<Numeric>, _>(numbers(|line| line.quantity))
        .bind::<Array<Numeric>, _>(numbers(|line| line.unit_price))
        .bind::<SqlUuid, _>(occasion.contact)
        .bind::<Text, _>(occasion.worker)
        .bind::<Integer, _>(to.last_line)
        .bind::<Text, _>(to.kind)
}

/// An order that lines may be added to, which nobody else changes until the end of the transaction.
#[derive(Debug, Clone, QueryableByName)]
pub(crate) struct Held {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = Text)]
    number: String,
    #[diesel(sql_type = SqlUuid)]
    pub(crate) customer_id: Uuid,
    #[diesel(sql_type = Nullable<Date>)]
    pub(crate) delivery_date: Option<NaiveDate>,
    #[diesel(sql_type = Text)]
    pub(crate) currency: String,
    #[diesel(sql_type = Text)]
    pub(crate) state: String,
}

/// Holds an order.
pub(crate) async fn hold(conn: &mut Conn, tenant: TenantId, number: &str) -> Result<Option<Held>> {
    Ok(diesel::sql_query(
        "SELECT id, number, customer_id, delivery_date, currency, state FROM sales_order
         WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(number)
    .get_result(conn)
    .await
    .optional()?)
}

/// How many lines an order has, and the number of the last one.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub(crate) struct Lines {
    #[diesel(sql_type = BigInt)]
    pub(crate) count: i64,
    #[diesel(sql_type = Integer)]
    pub(crate) last: i32,
}

/// The lines of an order that is held.
pub(crate) async fn lines(conn: &mut Conn, tenant: TenantId, order: Uuid) -> Result<Lines> {
    Ok(diesel::sql_query(
        "SELECT count(*) AS count, coalesce(max(line), 0) AS last FROM order_line
         WHERE tenant_id = $1 AND order_id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(order)
    .get_result(conn)
    .await?)
}

/// Adds lines to an order that is held, behind the last one.
pub(crate) async fn add(
    conn: &mut Conn,
    tenant: TenantId,
    order: &Held,
    last_line: i32,
    occasion: &Occasion<'_>,
) -> Result<()> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "WITH changed AS (
                 UPDATE sales_order SET updated_at = now() WHERE tenant_id = $1 AND id = $2
                 RETURNING *),
             {LINES_AND_NEWS}, {ANNOUNCE_ORDER} {HISTORY}"
        )
    });
    let to = Addition {
        order: order.id,
        name: &resource(&order.number),
        last_line,
        kind: "lines_added",
    };
    match bound(&SQL, tenant, &to, occasion).execute(conn).await? {
        1 => Ok(()),
        n => Err(StoreError::Stored(format!("{n} orders of one number"))),
    }
}

/// Orders of a customer with a delivery date that were not rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Numbers of the first few of them, those that can be added to first.
    pub numbers: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

/// The orders that stand in the way of another one; `None` when there are none.
pub(crate) async fn existing(
    conn: &mut Conn,
    tenant: TenantId,
    customer: Uuid,
    delivery: NaiveDate,
) -> Result<Option<Existing>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        number: String,
        #[diesel(sql_type = Bool)]
        more: bool,
    }
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT number, count(*) OVER () > 3 AS more FROM sales_order
         WHERE tenant_id = $1 AND customer_id = $2 AND delivery_date = $3 AND state <> 'rejected'
         ORDER BY state <> 'taken', number LIMIT 3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(customer)
    .bind::<Date, _>(delivery)
    .load(conn)
    .await?;
    let more = rows.iter().any(|row| row.more);
    let numbers: Vec<String> = rows.into_iter().map(|row| row.number).collect();
    Ok((!numbers.is_empty()).then_some(Existing { numbers, more }))
}
