//! Orders: the sales history, and orders that people take under planned contacts ([`take`]), which the
//! tenant's ERP acknowledges ([`acknowledge`]).

pub mod acknowledge;
pub mod take;

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::master::{OrderLineRow, OrderRow};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, Date, Integer, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use crate::customer::{CUSTOMER, grouped};
use crate::import::{self, Load, Reference, Spec, date, decimal, int, text, time};
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::product::BRAND;
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Order {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub number: String,
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub brand_code: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub ordered_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub currency: String,
    #[diesel(sql_type = Nullable<Date>)]
    pub delivery_date: Option<NaiveDate>,
    #[diesel(sql_type = Text)]
    pub departure: String,
    #[diesel(sql_type = Text)]
    pub order_type: String,
    #[diesel(sql_type = Text)]
    pub note: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub contact_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    pub taken_by: String,
    #[diesel(sql_type = Text)]
    pub taken_number: String,
    /// Empty when it was not taken here.
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = Text)]
    pub reject_reason: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub acknowledged_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct OrderLine {
    #[diesel(sql_type = SqlUuid)]
    order_id: Uuid,
    #[diesel(sql_type = Integer)]
    pub line: i32,
    #[diesel(sql_type = Text)]
    pub product_number: String,
    #[diesel(sql_type = Text)]
    pub product_name: String,
    #[diesel(sql_type = Text)]
    pub product_group: String,
    #[diesel(sql_type = Numeric)]
    pub quantity: Decimal,
    #[diesel(sql_type = Numeric)]
    pub unit_price: Decimal,
}

/// An order with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderDetails {
    /// The order.
    pub order: Order,
    /// By line number.
    pub lines: Vec<OrderLine>,
}

impl OrderDetails {
    /// Sum of quantity × unit price, rounded to two decimals, half away from zero.
    pub fn total(&self) -> Decimal {
        let sum: Decimal = self.lines.iter().map(|l| l.quantity * l.unit_price).sum();
        sum.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
    }
}

/// An order as it shall be.
#[derive(Debug, Clone)]
pub struct OrderUpdate {
    /// The order.
    pub order: OrderRow,
    /// All its lines.
    pub lines: Vec<OrderLineRow>,
}

/// An order that was taken here stays its customer's.
const FOREIGN: Reference = Reference {
    field: "number",
    join: "LEFT JOIN LATERAL (SELECT customer_id FROM sales_order
           WHERE tenant_id = (SELECT $1) AND number = s.number AND state <> '' OFFSET 0) taken ON true",
    good: "taken.customer_id IS NULL OR c.id IS NULL OR taken.customer_id = c.id",
    reason: "'is that of an order that was taken here from another customer'",
};
/// The number under which an order was taken stays that order's, when it has another one by now.
const RENAMED: Reference = Reference {
    field: "number",
    join: "LEFT JOIN LATERAL (SELECT number FROM sales_order
           WHERE tenant_id = (SELECT $1) AND taken_number = s.number AND taken_number <> ''
             AND number <> s.number OFFSET 0) renamed ON true",
    good: "renamed.number IS NULL",
    reason: "'is now ' || renamed.number",
};

impl Load for OrderRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("sales_order")
            .with_id()
            .stamped()
            .key(text("number", |r| &r.number))
            .send(text("customer_number", |r| &r.customer_number))
            .reference(CUSTOMER)
            .reference(FOREIGN)
            .reference(RENAMED)
            // One that was taken since these were looked up.
            .guard("(t.state = '' OR t.customer_id = excluded.customer_id)")
            .value_from("customer_id", "c.id", &["customer_number"])
            .send(text("brand_code", |r| &r.brand_code))
            .reference(Reference {
                good: "s.brand_code = '' OR b.id IS NOT NULL",
                ..BRAND
            })
            .value_from("brand_id", "b.id", &["brand_code"])
            .value(time("ordered_at", |r| r.ordered_at))
            .value(text("currency", |r| &r.currency))
            .value(date("delivery_date", |r| r.delivery_date));
        vec![spec]
    }
}

impl Load for OrderLineRow {
    fn specs() -> Vec<Spec<Self>> {
        let spec = Spec::<Self>::new("order_line")
            .send(text("order_number", |r| &r.order_number))
            .reference(Reference {
                field: "order_number",
                join: "LEFT JOIN LATERAL (SELECT id FROM sales_order
                   WHERE tenant_id = (SELECT $1) AND number = s.order_number OFFSET 0) o ON true",
                good: "o.id IS NOT NULL",
                reason: "coalesce((SELECT 'is now ' || n.number FROM sales_order n
                         WHERE n.tenant_id = (SELECT $1) AND n.taken_number = s.order_number
                           AND n.taken_number <> ''), 'there is no order with this number')",
            })
            .key_from("order_id", "o.id")
            .key(int("line", |r| r.line))
            .value(text("product_number", |r| &r.product_number))
            .value(text("product_name", |r| &r.product_name))
            .value(text("product_group", |r| &r.product_group))
            .value(decimal("quantity", |r| Some(r.quantity)))
            .value(decimal("unit_price", |r| Some(r.unit_price)));
        vec![spec]
    }
}

const ORDER: &str =
    "SELECT o.id, o.number, o.customer_id, c.number AS customer_number, b.code AS brand_code,
            o.ordered_at, o.currency, o.delivery_date, o.departure, o.order_type, o.note,
            o.contact_id, o.taken_by, o.taken_number, o.state, o.reject_reason, o.acknowledged_at,
            o.created_at, o.updated_at
     FROM sales_order o
     JOIN customer c ON c.tenant_id = o.tenant_id AND c.id = o.customer_id
     LEFT JOIN brand b ON b.tenant_id = o.tenant_id AND b.id = o.brand_id
     WHERE o.tenant_id = $1";

/// The order with that number.
pub async fn get(mut conn: &Conn, tenant: TenantId, number: &str) -> Result<Option<OrderDetails>> {
    let orders: Vec<Order> = diesel::sql_query(format!("{ORDER} AND o.number = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(number)
        .fixed()
        .load(&mut conn)
        .await?;
    Ok(with_lines(conn, tenant, orders).await?.pop())
}

/// The name of the order with that number.
pub fn resource(number: &str) -> String {
    anklang_domain::name::format(&[("orders", number)])
}

/// The order with that number, or else the one that was taken under it and has another one now.
pub async fn find(mut conn: &Conn, tenant: TenantId, number: &str) -> Result<Option<OrderDetails>> {
    if let Some(order) = get(conn, tenant, number).await? {
        return Ok(Some(order));
    }
    let orders: Vec<Order> = diesel::sql_query(format!(
        "{ORDER} AND o.taken_number = $2 AND o.taken_number <> ''"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(number)
    .fixed()
    .load(&mut conn)
    .await?;
    Ok(with_lines(conn, tenant, orders).await?.pop())
}

/// The number that the order has now which was taken under `number`; that itself if there is none.
pub async fn number_now(conn: &mut Conn, tenant: TenantId, number: &str) -> Result<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        number: String,
    }
    let found: Option<Row> = diesel::sql_query(
        "SELECT number FROM sales_order
         WHERE tenant_id = $1 AND taken_number = $2 AND taken_number <> ''",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(number)
    .fixed()
    .get_result(conn)
    .await
    .optional()?;
    Ok(found.map_or_else(|| number.to_owned(), |row| row.number))
}

/// What orders are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("number", Kind::Text),
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::resource(
            "brand",
            &[Part::new("brands", "brand_code", PartType::Text)],
        ),
        Field::new("order_time", Kind::Time, "ordered_at"),
        Field::nullable("delivery_date", Kind::Date, "delivery_date"),
        Field::column(
            "state",
            Kind::Word("ORDER_STATE_", &["taken", "accepted", "rejected"]),
        ),
        Field::column("taken_number", Kind::Text),
        Field::column("taken_by", Kind::Text),
        Field::resource(
            "planned_contact",
            &[Part::new("plannedContacts", "contact_id", PartType::Uuid)],
        ),
        Field::nullable("acknowledge_time", Kind::Time, "acknowledged_at"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("number", "::text", false)],
};

/// A page of orders of one customer (by number) or of all, by number if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    customer: Option<String>,
    list: &List,
) -> Result<Page<OrderDetails>> {
    static BASE: LazyLock<String> =
        LazyLock::new(|| format!("{ORDER} AND ($2 IS NULL OR c.number = $2)"));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Nullable<Text>, _>(customer),
        ],
    );
    let page: Page<Order> = list.load_of_customers(conn, tenant, base).await?;
    Ok(Page {
        rows: with_lines(conn, tenant, page.rows).await?,
        next: page.next,
    })
}

/// A page of a customer's orders with that delivery date; none without one.
pub async fn of_delivery(
    conn: &mut Conn,
    tenant: TenantId,
    customer: &str,
    delivery: Option<NaiveDate>,
    list: &List,
) -> Result<Page<OrderDetails>> {
    static BASE: LazyLock<String> =
        LazyLock::new(|| format!("{ORDER} AND c.number = $2 AND o.delivery_date = $3"));
    let base = Statement::numbered(
        &BASE,
        &[
            bound::<SqlUuid, _>(tenant.0),
            bound::<Text, _>(customer.to_owned()),
            bound::<Nullable<Date>, _>(delivery),
        ],
    );
    let page: Page<Order> = list.load(conn, base).await?;
    Ok(Page {
        rows: with_lines(conn, tenant, page.rows).await?,
        next: page.next,
    })
}

async fn with_lines(
    mut conn: &Conn,
    tenant: TenantId,
    orders: Vec<Order>,
) -> Result<Vec<OrderDetails>> {
    let ids: Vec<Uuid> = orders.iter().map(|o| o.id).collect();
    let lines: Vec<OrderLine> = diesel::sql_query(
        "SELECT order_id, line, product_number, product_name, product_group, quantity, unit_price
         FROM order_line WHERE tenant_id = $1 AND order_id = ANY($2) ORDER BY order_id, line",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Array<SqlUuid>, _>(&ids)
    .load(&mut conn)
    .await?;
    let mut lines = grouped(lines, |line| line.order_id);
    Ok(orders
        .into_iter()
        .map(|order| OrderDetails {
            lines: lines.remove(&order.id).unwrap_or_default(),
            order,
        })
        .collect())
}

const HOLD: &str =
    "SELECT id FROM sales_order WHERE tenant_id = $1 AND number = $2 FOR NO KEY UPDATE";

/// Replaces an order, or adds it if it may be missing. Without a delivery date it keeps the one that it
/// has; what else is known of an order that was taken here stays as well. One that has another number by
/// now than the one under which it was taken is named by that, see [`number_now`].
pub async fn replace(
    conn: &mut Conn,
    tenant: TenantId,
    mut update: OrderUpdate,
    allow_missing: bool,
) -> Result<OrderDetails> {
    let number = update.order.number.clone();
    let missing = || StoreError::Missing(resource(&number));
    if import::id_of(conn, tenant, HOLD, &number).await?.is_none() && !allow_missing {
        return Err(missing());
    }
    if update.order.delivery_date.is_none() {
        let before = get(conn, tenant, &number).await?;
        update.order.delivery_date = before.and_then(|before| before.order.delivery_date);
    }
    import::one(conn, tenant, update.order).await?;
    let id = import::id_of(conn, tenant, HOLD, &number)
        .await?
        .ok_or_else(missing)?;

    let mut changed = keep_lines(conn, tenant, id, &update.lines).await?;
    changed |= import::all(conn, tenant, "lines", update.lines).await?;
    if changed {
        diesel::sql_query(
            "UPDATE sales_order SET updated_at = now() WHERE tenant_id = $1 AND id = $2",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .execute(conn)
        .await?;
    }
    let details = get(conn, tenant, &number).await?.ok_or_else(missing)?;
    Ok(details)
}

/// Deletes the lines that are not among `keep`; true when there were any. The rows are locked in
/// the order in which imports write them.
async fn keep_lines(
    conn: &mut Conn,
    tenant: TenantId,
    order: Uuid,
    keep: &[OrderLineRow],
) -> Result<bool> {
    let lines: Vec<i32> = keep.iter().map(|r| r.line).collect();
    let deleted = diesel::sql_query(
        "WITH held AS MATERIALIZED (
             SELECT line FROM order_line WHERE tenant_id = $1 AND order_id = $2
             ORDER BY line FOR UPDATE)
         DELETE FROM order_line
         WHERE tenant_id = $1 AND order_id = $2
             AND line IN (SELECT line FROM held) AND line <> ALL ($3)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(order)
    .bind::<Array<Integer>, _>(lines)
    .execute(conn)
    .await?;
    Ok(deleted > 0)
}
