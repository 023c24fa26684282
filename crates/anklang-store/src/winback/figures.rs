//! What a detection goes by: the sums of each customer who ever bought, by one statement over the order
//! history, and what the models are fitted on.
//!
//! Lines are summed by order, orders by customer and day, days by customer: three hash aggregates, no sort
//! of all lines. Of the first day only the revenue is looked for, as the least pair of day and revenue.
//! Where the season is taken out, the days are kept until the statement ends, so that the tenant's revenue
//! by week comes out of the same pass.

use std::sync::LazyLock;

use anklang_domain::winback::{Periods, PurchaseGroup, Purchases, Spending};
use anklang_domain::{OperationId, TenantId};
use chrono::{Days, NaiveDate};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Date, Double, Integer, Numeric, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::money;
use crate::tenant::Tenant;
use crate::{Conn, Result};

/// Customers that a model is fitted on, at most about so many: more of them would not change it, and all
/// are in memory.
pub const MOST_FITTED: i64 = 1_000_000;

/// What a detection looks at.
#[derive(Debug, Clone)]
pub struct Look<'a> {
    /// The tenant, with its time zone.
    pub tenant: &'a Tenant,
    /// The last day that is looked at.
    pub as_of: NaiveDate,
    /// The periods that are compared.
    pub periods: Periods,
    /// The currency whose orders count.
    pub currency: &'a str,
}

/// Orders that count in a currency, with their day; `$1` tenant, `$2` time zone.
pub(super) fn orders(currency: &str) -> String {
    format!(
        "SELECT id, customer_id, number, ordered_at, (ordered_at AT TIME ZONE $2)::date AS day
         FROM sales_order WHERE tenant_id = $1 AND currency = {currency} AND state <> 'rejected'"
    )
}

/// Customers and the days on which they ordered up to `$4`, in the currency `$3`; `only` takes some orders
/// `o`, `lines` joins what their lines come to.
fn days(only: &str, lines: &str) -> String {
    let orders = orders("$3");
    format!(
        "SELECT o.customer_id, o.day, count(*) AS orders, coalesce(sum(l.revenue), 0) AS revenue
         FROM ({orders} {only}) o {lines}
         WHERE o.day <= $4
         GROUP BY o.customer_id, o.day"
    )
}

/// The sums of a customer over rows of [`days`]; the earlier period is `$5` to `$6`, the later one
/// `$7` to `$8`. A day that comes to less than nothing is one of returns: it counts as revenue and is
/// no purchase. Customers who have nothing else are left out by [`BOUGHT`].
fn sums() -> String {
    let all = money("sum(revenue)");
    let then = money("coalesce(sum(revenue) FILTER (WHERE day BETWEEN $5 AND $6), 0)");
    let now = money("coalesce(sum(revenue) FILTER (WHERE day BETWEEN $7 AND $8), 0)");
    format!(
        "customer_id, min(day) FILTER (WHERE revenue >= 0) AS first_order,
         max(day) FILTER (WHERE revenue >= 0) AS last_order,
         (sum(orders) FILTER (WHERE revenue >= 0))::integer AS orders,
         {all} AS revenue, {then} AS revenue_then, {now} AS revenue_now,
         (count(*) FILTER (WHERE revenue >= 0) - 1)::integer AS repeats,
         coalesce((sum(revenue) - (min(ARRAY[(day - date '2000-01-01')::numeric, revenue])
                                       FILTER (WHERE revenue >= 0))[2])
                  / nullif(count(*) FILTER (WHERE revenue >= 0) - 1, 0), 0)::float8 AS mean_repeat"
    )
}

/// Who has bought at all.
const BOUGHT: &str = "HAVING bool_or(revenue >= 0)";

macro_rules! with_look {
    ($sql:expr, $look:expr) => {
        diesel::sql_query($sql)
            .bind::<SqlUuid, _>($look.tenant.id.0)
            .bind::<Text, _>($look.tenant.time_zone.name())
            .bind::<Text, _>($look.currency)
            .bind::<Date, _>($look.as_of)
            .bind::<Date, _>($look.periods.then.first())
            .bind::<Date, _>($look.periods.then.last())
            .bind::<Date, _>($look.periods.now.first())
            .bind::<Date, _>($look.periods.now.last())
    };
}

/// Revenue of a week.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Week {
    /// Its Monday.
    #[diesel(sql_type = Date)]
    pub week: NaiveDate,
    /// Revenue of all customers together.
    #[diesel(sql_type = Numeric)]
    pub revenue: Decimal,
}

/// What [`gather`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathered {
    /// Customers who ever bought.
    pub customers: i64,
    /// Revenue of whole weeks, in any order; none unless asked for.
    pub weeks: Vec<Week>,
}

/// The insert of the sums over rows `days`; of customers who are erased there are orders and nobody to win back.
fn insert(days: &str) -> String {
    let sums = sums();
    format!(
        "INSERT INTO winback_figure (tenant_id, detection_id, customer_id, first_order, last_order,
             orders, revenue, revenue_then, revenue_now, repeats, mean_repeat)
         SELECT $1, $9, {sums} FROM {days} days
         WHERE NOT EXISTS (SELECT FROM customer c
             WHERE c.tenant_id = $1 AND c.id = days.customer_id AND c.erased_at IS NOT NULL)
         GROUP BY customer_id {BOUGHT}"
    )
}

/// The days of all customers.
fn all_days() -> String {
    let lines = "LEFT JOIN (SELECT order_id, sum(quantity * unit_price) AS revenue FROM order_line
                 WHERE tenant_id = $1 GROUP BY order_id) l ON l.order_id = o.id";
    days("", lines)
}

/// Writes the sums of all customers who ever bought, for a detection that has none yet; gives the revenue
/// by week as well if that is wanted.
pub async fn gather(
    conn: &mut Conn,
    detection: OperationId,
    look: &Look<'_>,
    with_weeks: bool,
) -> Result<Gathered> {
    // Room for the hash aggregates; what goes beyond is spilled to disk. Of a tenant that is newer than the
    // statistics the planner expects next to nothing, and would look through all lines for each order.
    diesel::sql_query(
        "SELECT set_config('work_mem', '64MB', true), set_config('enable_nestloop', 'off', true)",
    )
    .execute(conn)
    .await?;
    if with_weeks {
        return gather_with_weeks(conn, detection, look).await;
    }
    static SQL: LazyLock<String> = LazyLock::new(|| insert(&format!("({})", all_days())));
    let rows = with_look!(&*SQL, look)
        .bind::<SqlUuid, _>(detection.0)
        .execute(conn)
        .await?;
    Ok(Gathered {
        customers: i64::try_from(rows).unwrap_or(i64::MAX),
        weeks: Vec::new(),
    })
}

async fn gather_with_weeks(
    conn: &mut Conn,
    detection: OperationId,
    look: &Look<'_>,
) -> Result<Gathered> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let (days, insert) = (all_days(), insert("days"));
        let revenue = money("sum(revenue)");
        format!(
            "WITH days AS MATERIALIZED ({days}),
             figures AS ({insert} RETURNING 1)
             SELECT day - (extract(isodow FROM day)::integer - 1) AS week, {revenue} AS revenue,
                    min(day) AS first_day, (SELECT count(*) FROM figures) AS customers
             FROM days GROUP BY 1"
        )
    });
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(embed)]
        week: Week,
        #[diesel(sql_type = Date)]
        first_day: NaiveDate,
        #[diesel(sql_type = BigInt)]
        customers: i64,
    }
    let rows: Vec<Row> = with_look!(&*SQL, look)
        .bind::<SqlUuid, _>(detection.0)
        .load(conn)
        .await?;
    let customers = rows.iter().map(|row| row.customers).max().unwrap_or(0);
    let first = rows.iter().map(|row| row.first_day).min();
    // The first week and the last one may not be whole.
    let is_whole = |week: &Week| {
        let sunday = week.week.checked_add_days(Days::new(6));
        first.is_some_and(|first| first <= week.week) && sunday.is_some_and(|s| s <= look.as_of)
    };
    let weeks = rows.into_iter().map(|row| row.week).filter(is_whole);
    Ok(Gathered {
        customers,
        weeks: weeks.collect(),
    })
}

/// The sums of a customer.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Figures {
    /// The customer.
    #[diesel(sql_type = SqlUuid)]
    pub customer_id: Uuid,
    /// Day of the first order.
    #[diesel(sql_type = Date)]
    pub first_order: NaiveDate,
    /// Day of the last order.
    #[diesel(sql_type = Date)]
    pub last_order: NaiveDate,
    /// Orders.
    #[diesel(sql_type = Integer)]
    pub orders: i32,
    /// Revenue, ever.
    #[diesel(sql_type = Numeric)]
    pub revenue: Decimal,
    /// Revenue of the earlier period.
    #[diesel(sql_type = Numeric)]
    pub revenue_then: Decimal,
    /// Revenue of the later period.
    #[diesel(sql_type = Numeric)]
    pub revenue_now: Decimal,
    /// Days with an order after the first one.
    #[diesel(sql_type = Integer)]
    pub repeats: i32,
    /// The mean revenue of those; 0 without any.
    #[diesel(sql_type = Double)]
    pub mean_repeat: f64,
}

impl Figures {
    /// The purchases as the models see them, as of a day; `None` for histories of more than 200 years.
    pub fn purchases(&self, as_of: NaiveDate) -> Option<Purchases> {
        let since = |day: NaiveDate| u32::try_from((day - self.first_order).num_days()).ok();
        let repeats = u32::try_from(self.repeats).ok()?;
        Purchases::new(repeats, since(self.last_order)?, since(as_of)?).ok()
    }
}

/// The sums of one customer as they are now; `None` when there are no orders that count.
pub(super) async fn of_one(
    conn: &mut Conn,
    customer: Uuid,
    look: &Look<'_>,
) -> Result<Option<Figures>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let lines =
            "LEFT JOIN LATERAL (SELECT sum(quantity * unit_price) AS revenue FROM order_line
                     WHERE tenant_id = $1 AND order_id = o.id) l ON true";
        let (days, sums) = (days("AND customer_id = $9", lines), sums());
        format!("SELECT {sums} FROM ({days}) days GROUP BY customer_id {BOUGHT}")
    });
    let found: Vec<Figures> = with_look!(&*SQL, look)
        .bind::<SqlUuid, _>(customer)
        .load(conn)
        .await?;
    Ok(found.into_iter().next())
}

/// Takes of so many customers about [`MOST_FITTED`], evenly and always the same: those for whom a hash is
/// below this share of 1,024.
fn share(customers: i64) -> i64 {
    (MOST_FITTED * 1_024 / customers.max(1)).clamp(1, 1_024)
}

const SAMPLED: &str = "tenant_id = $1 AND detection_id = $2
    AND (uuid_hash_extended(customer_id, 0) & 1023) < $3";

/// The purchases of a detection's customers, grouped.
pub async fn purchases(
    conn: &mut Conn,
    tenant: TenantId,
    detection: OperationId,
    as_of: NaiveDate,
    customers: i64,
) -> Result<Vec<PurchaseGroup>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        repeats: i32,
        #[diesel(sql_type = Integer)]
        last: i32,
        #[diesel(sql_type = Integer)]
        age: i32,
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let rows: Vec<Row> = diesel::sql_query(format!(
        "SELECT repeats, last_order - first_order AS last, $4 - first_order AS age, count(*) AS n
         FROM winback_figure WHERE {SAMPLED} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(detection.0)
    .bind::<BigInt, _>(share(customers))
    .bind::<Date, _>(as_of)
    .load(conn)
    .await?;
    let group = |row: Row| {
        let part = |n: i32| u32::try_from(n).ok();
        let purchases = Purchases::new(part(row.repeats)?, part(row.last)?, part(row.age)?).ok()?;
        Some(PurchaseGroup {
            purchases,
            customers: u64::try_from(row.n).ok()?,
        })
    };
    Ok(rows.into_iter().filter_map(group).collect())
}

/// What the customers of a detection who bought again spent, and how many of them spent nothing or less,
/// who are left out.
pub async fn spending(
    conn: &mut Conn,
    tenant: TenantId,
    detection: OperationId,
    customers: i64,
) -> Result<(Vec<Spending>, i64)> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Integer)]
        repeats: i32,
        #[diesel(sql_type = Double)]
        mean: f64,
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let rows: Vec<Row> = diesel::sql_query(format!(
        "SELECT repeats, greatest(mean_repeat, 0) AS mean, count(*) AS n
         FROM winback_figure WHERE {SAMPLED} AND repeats > 0 GROUP BY 1, 2 ORDER BY 1, 2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(detection.0)
    .bind::<BigInt, _>(share(customers))
    .load(conn)
    .await?;
    let (worth, nothing): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.mean > 0.0);
    let left_out = nothing.iter().map(|row| row.n).sum();
    let spending = worth.into_iter().map(|row| Spending {
        repeats: u32::try_from(row.repeats).unwrap_or(u32::MAX),
        mean: row.mean,
        customers: u64::try_from(row.n).unwrap_or(0),
    });
    Ok((spending.collect(), left_out))
}
