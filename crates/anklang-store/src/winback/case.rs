//! Winback cases as they stand, and what people do with them.
//!
//! # Guarantees
//! - A case is in one person's hands: [`claim::next`] locks it by a statement with
//!   `FOR UPDATE SKIP LOCKED`; who asks at the same time gets another one and waits for nobody. The fence of a
//!   claim is its id. A claim ends by the database's clock, without anybody taking it back.
//! - What is done with a case is decided by the domain's rule under the row's lock; the case, the line of its
//!   own history, that of the customer's and the event for webhooks are one statement.
//!
//! # Trade-offs
//! What is shown of the customer and the newest order is looked up when it is shown, and follows each
//! change of them. To order or filter a long list by the order's brand or group it is looked up for each
//! case.

pub mod act;
pub mod claim;
pub mod event;
mod next;
mod notice;
mod standing;
pub mod tiles;

use std::sync::LazyLock;

use anklang_domain::TenantId;
use anklang_domain::winback::Tile;
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, Bool, Date, Double, Integer, Nullable, Numeric, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

pub(super) use standing::hold_many;
pub use standing::{Standing, hold};

use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::planning::work::claim::CUSTOMER_NAME;
use crate::selection::{Statement, bound};
use crate::sql::Fix;
use crate::units::CLAIM_LEFT;
use crate::winback::mailing::LEFT_ALONE;
use crate::{Conn, Result, StoreError};

/// The most products of an order that are shown.
const MOST_PRODUCTS: i64 = 50;

/// A case.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
#[expect(
    missing_docs,
    reason = "fields are named as in the API, which documents them"
)]
pub struct Case {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub customer_number: String,
    #[diesel(sql_type = Text)]
    pub customer_name: String,
    #[diesel(sql_type = Text)]
    pub customer_group: String,
    #[diesel(sql_type = Text)]
    pub state: String,
    #[diesel(sql_type = Date)]
    pub opened_on: NaiveDate,
    #[diesel(sql_type = Nullable<Date>)]
    pub due_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub standard_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub voucher_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Date>)]
    pub contacted_on: Option<NaiveDate>,
    #[diesel(sql_type = Nullable<Text>)]
    pub no_interest: Option<String>,
    #[diesel(sql_type = Nullable<Date>)]
    pub closed_on: Option<NaiveDate>,
    /// Who has it now: a claim that ran out is none.
    #[diesel(sql_type = Nullable<Text>)]
    pub held_by: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub held_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = Numeric)]
    pub revenue_then: Decimal,
    #[diesel(sql_type = Numeric)]
    pub revenue_now: Decimal,
    #[diesel(sql_type = Integer)]
    pub known_days: i32,
    #[diesel(sql_type = Numeric)]
    pub season: Decimal,
    #[diesel(sql_type = Numeric)]
    pub expected: Decimal,
    #[diesel(sql_type = Numeric)]
    pub actual: Decimal,
    #[diesel(sql_type = Numeric)]
    pub drop_amount: Decimal,
    #[diesel(sql_type = Numeric)]
    pub drop_percent: Decimal,
    #[diesel(sql_type = Date)]
    pub last_order: NaiveDate,
    #[diesel(sql_type = Double)]
    pub lost_share: f64,
    #[diesel(sql_type = Array<Text>)]
    pub lost_groups: Vec<String>,
    #[diesel(sql_type = Nullable<Double>)]
    pub alive: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub purchases: Option<f64>,
    #[diesel(sql_type = Nullable<Double>)]
    pub order_value: Option<f64>,
    #[diesel(sql_type = Nullable<Numeric>)]
    pub at_stake: Option<Decimal>,
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// The newest order's number, brand and leading group.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_order_number: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    pub last_order_brand: Option<String>,
    #[diesel(sql_type = Text)]
    pub last_order_group: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub won_order: Option<String>,
    #[diesel(sql_type = Nullable<Bool>)]
    pub won_contacted: Option<bool>,
    #[diesel(sql_type = Nullable<Numeric>)]
    pub won_revenue: Option<Decimal>,
    #[diesel(sql_type = Nullable<Text>)]
    pub offer_number: Option<String>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Date>)]
    pub control_until: Option<NaiveDate>,
}

/// A product of an order.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Product {
    /// Its number.
    #[diesel(sql_type = Text)]
    pub number: String,
    /// Its name.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Its group.
    #[diesel(sql_type = Text)]
    pub product_group: String,
    /// What was paid for it.
    #[diesel(sql_type = Numeric)]
    pub revenue: Decimal,
}

/// The name of the case with that id.
pub fn resource(id: Uuid) -> String {
    anklang_domain::name::format(&[("winbackCases", &id.to_string())])
}

/// The newest order `o` of the customer of the case `k`, as [`newest_order!`] says.
const NEWEST: &str = newest_order!("k.customer_id");

/// The code of its brand.
pub(super) static BRAND: LazyLock<String> = LazyLock::new(|| {
    format!(
        "(SELECT b.code FROM brand b WHERE b.tenant_id = k.tenant_id
            AND b.id = (SELECT o.brand_id FROM {NEWEST}))"
    )
});

/// Cases `k` of the tenant `$1` with their customers. What is not plain is a query of its own, which runs
/// only where it is asked for: for each case only when a list is filtered or ordered by it. The leading
/// group is the domain's `leading_group`.
static SELECT: LazyLock<String> = LazyLock::new(|| {
    let brand = &*BRAND;
    format!(
        "SELECT k.id, k.customer_id, c.number AS customer_number, {CUSTOMER_NAME} AS customer_name,
                c.customer_group, k.state, k.opened_on, k.due_on, k.standard_on, k.voucher_on, k.contacted_on,
                k.no_interest, k.closed_on,
                CASE WHEN k.held_until > now() AND NOT {CLAIM_LEFT} THEN k.held_by END AS held_by,
                CASE WHEN k.held_until > now() AND NOT {CLAIM_LEFT} THEN k.held_until END AS held_until,
                k.revenue_then, k.revenue_now, k.known_days, k.season, k.expected, k.actual,
                k.drop_amount, k.drop_percent, k.last_order, k.lost_share, k.lost_groups, k.alive,
                k.purchases, k.order_value, k.at_stake, coalesce(k.at_stake, -1) AS stake_rank,
                k.currency,
                (SELECT o.number FROM {NEWEST}) AS last_order_number,
                {brand} AS last_order_brand,
                coalesce((SELECT l.product_group FROM order_line l
                    WHERE l.tenant_id = k.tenant_id AND l.order_id = (SELECT o.id FROM {NEWEST})
                      AND l.product_group <> ''
                    GROUP BY l.product_group HAVING sum(l.quantity * l.unit_price) > 0
                    ORDER BY sum(l.quantity * l.unit_price) DESC, l.product_group COLLATE \"C\"
                    LIMIT 1), '') AS last_order_group,
                (SELECT w.number FROM sales_order w
                 WHERE w.tenant_id = k.tenant_id AND w.id = k.won_order_id) AS won_order,
                k.won_contacted, k.won_revenue,
                (SELECT f.number FROM offer f
                 WHERE f.tenant_id = k.tenant_id AND f.id = k.offer_id) AS offer_number,
                k.created_at, k.updated_at,
                (SELECT max(x.drawn_on + x.window_days) FROM {LEFT_ALONE}
                   >= (now() AT TIME ZONE (SELECT time_zone FROM tenant WHERE id = $1))::date)
                    AS control_until
         FROM winback_case k
         JOIN customer c ON c.tenant_id = k.tenant_id AND c.id = k.customer_id
         WHERE k.tenant_id = $1"
    )
});

/// The case with that id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: Uuid) -> Result<Option<Case>> {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("{} AND k.id = $2", *SELECT));
    let found = diesel::sql_query(&SQL[..])
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .fixed()
        .get_result(&mut conn)
        .await;
    Ok(found.optional()?)
}

/// As [`get`], of one that must be there.
///
/// # Errors
/// `Missing` when there is none.
pub async fn found(conn: &mut Conn, tenant: TenantId, id: Uuid) -> Result<Case> {
    let case = get(conn, tenant, id).await?;
    case.ok_or_else(|| StoreError::Missing(resource(id)))
}

/// The products of the order with that number, those with the most revenue first.
pub async fn products(conn: &mut Conn, tenant: TenantId, order: &str) -> Result<Vec<Product>> {
    Ok(diesel::sql_query(
        "SELECT l.product_number AS number, max(l.product_name) AS name,
                max(l.product_group) AS product_group,
                round(sum(l.quantity * l.unit_price), 2) AS revenue
         FROM sales_order o
         JOIN order_line l ON l.tenant_id = o.tenant_id AND l.order_id = o.id
         WHERE o.tenant_id = $1 AND o.number = $2
         GROUP BY l.product_number, CASE l.product_number WHEN '' THEN l.line END
         ORDER BY sum(l.quantity * l.unit_price) DESC, l.product_number, min(l.line) LIMIT $3",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(order)
    .bind::<diesel::sql_types::BigInt, _>(MOST_PRODUCTS)
    .load(conn)
    .await?)
}

/// States, as filters know them.
pub(super) const STATE: Kind = Kind::Word(
    "WINBACK_CASE_STATE_",
    &[
        "declining",
        "reminder",
        "offer_requested",
        "mailed",
        "no_interest",
        "won_back",
    ],
);

/// What cases are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::resource(
            "customer",
            &[Part::new("customers", "customer_number", PartType::Text)],
        ),
        Field::column("customer_name", Kind::Text),
        Field::column("customer_group", Kind::Text),
        Field::column("state", STATE),
        Field::new("open_date", Kind::Date, "opened_on"),
        Field::nullable("due_date", Kind::Date, "due_on"),
        Field::nullable("standard_mail_date", Kind::Date, "standard_on"),
        Field::nullable("voucher_mail_date", Kind::Date, "voucher_on"),
        Field::nullable("contact_date", Kind::Date, "contacted_on"),
        Field::nullable(
            "no_interest_reason",
            Kind::Word(
                "NO_INTEREST_REASON_",
                &[
                    "price",
                    "competitor",
                    "quality",
                    "service",
                    "no_need",
                    "gone",
                    "no_contact",
                    "other",
                ],
            ),
            "no_interest",
        ),
        Field::nullable("close_date", Kind::Date, "closed_on"),
        Field::nullable("held_by", Kind::Text, "held_by"),
        Field::nullable("hold_expire_time", Kind::Time, "held_until"),
        Field::column("revenue_then", Kind::Number),
        Field::column("revenue_now", Kind::Number),
        Field::column("known_days", Kind::Number),
        Field::column("season", Kind::Number),
        Field::new("expected_revenue", Kind::Number, "expected"),
        Field::new("actual_revenue", Kind::Number, "actual"),
        Field::new("revenue_drop", Kind::Number, "drop_amount"),
        Field::column("drop_percent", Kind::Number),
        Field::new("last_order_date", Kind::Date, "last_order"),
        Field::new("lost_group_share", Kind::Number, "lost_share"),
        Field::nullable("alive", Kind::Number, "alive"),
        Field::nullable("expected_purchases", Kind::Number, "purchases"),
        Field::nullable("order_value", Kind::Number, "order_value"),
        Field::nullable("at_stake", Kind::Number, "at_stake"),
        Field::new("currency_code", Kind::Text, "currency"),
        Field::resource(
            "last_order",
            &[Part::new("orders", "last_order_number", PartType::Text)],
        ),
        Field::resource(
            "last_order_brand",
            &[Part::new("brands", "last_order_brand", PartType::Text)],
        ),
        Field::column("last_order_group", Kind::Text),
        Field::resource(
            "won_order",
            &[Part::new("orders", "won_order", PartType::Text)],
        ),
        Field::nullable("won_after_contact", Kind::Flag, "won_contacted"),
        Field::nullable("won_revenue", Kind::Number, "won_revenue"),
        Field::resource(
            "offer",
            &[Part::new("offers", "offer_number", PartType::Text)],
        ),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
        Field::nullable("control_until_date", Kind::Date, "control_until"),
    ],
    key: &[
        Sort::key("stake_rank", "::numeric", true),
        Sort::key("id", "::uuid", true),
    ],
};

/// What lies on a tile, as a condition on the case `k`; a reminder's goes by the day that is bound behind
/// it.
fn on_tile(tile: Tile) -> &'static str {
    match tile {
        Tile::Declining => " AND k.state = 'declining'",
        Tile::ReminderDue => " AND k.state = 'reminder' AND k.due_on <= ",
        Tile::OfferRequested => " AND k.state = 'offer_requested'",
        Tile::Mailed => " AND k.state = 'mailed'",
        Tile::NoInterest => " AND k.state = 'no_interest'",
        Tile::WonBack => " AND k.state = 'won_back'",
    }
}

/// The cases `k` of a tile as of today, or all, as a SELECT to which conditions can be added.
pub(super) fn cases(tenant: TenantId, tile: Option<Tile>, today: NaiveDate) -> Statement {
    let base = Statement::numbered(&SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    match tile {
        None => base,
        Some(Tile::ReminderDue) => base.sql(on_tile(Tile::ReminderDue)).bind::<Date, _>(today),
        Some(tile) => base.sql(on_tile(tile)),
    }
}

/// A page of the cases of a tile as of today, or of all; the most at stake first if not otherwise wanted.
pub async fn list(
    conn: &Conn,
    tenant: TenantId,
    tile: Option<Tile>,
    today: NaiveDate,
    list: &List,
) -> Result<Page<Case>> {
    let base = cases(tenant, tile, today);
    list.load_of_customers(conn, tenant, base).await
}
