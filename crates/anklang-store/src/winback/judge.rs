//! Judging customers: the domain says who is a case and what is at stake; what differs from the cases that
//! there are is written, chunk by chunk of customers.
//!
//! # Guarantees
//! - A customer has one case that is not closed, by a unique index. Chunks of one tenant's detections take
//!   turns ([`begin_chunk`]); cases are locked before they are compared, so that nothing that people do
//!   meanwhile is overwritten: a detection writes only why a case is one.
//! - What is right already is not written, and neither is anything older than what a case was seen as last.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use anklang_domain::winback::{
    BgNbd, CustomerSums, Decline, Finding, GammaGamma, LostGroups, Settings, YEAR_WEEKS, detect,
    outlook,
};
use anklang_domain::{OperationId, SelectionId, TenantId, Violations};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Date, Integer, Jsonb, Nullable, Numeric, Text, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::Serialize;
use uuid::Uuid;

use super::detection::{Model, Tally};
use super::figures::{Figures, Look, orders};
use super::{CLOSED, money, selected};
use crate::selection::{Prepared, Statement};
use crate::tenant::Tenant;
use crate::{Conn, Result, StoreError};

/// What customers are judged by.
#[derive(Debug, Clone)]
pub struct Judge {
    settings: Settings,
    periods: anklang_domain::winback::Periods,
    season: anklang_domain::winback::SeasonIndex,
    often: Option<BgNbd>,
    value: Option<GammaGamma>,
    as_of: NaiveDate,
}

/// What the models say of a customer, as far as there are some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct View {
    /// Probability that the customer has not left.
    pub alive: Option<f64>,
    /// Purchases to expect in the next 52 weeks, as things stand.
    pub purchases: Option<f64>,
    /// What one is worth.
    pub order_value: Option<f64>,
    /// Revenue at stake in the next 52 weeks.
    pub at_stake: Option<Decimal>,
}

/// A customer to be judged.
#[derive(Debug, Clone, QueryableByName)]
pub struct Candidate {
    /// Orders, as they were summed.
    #[diesel(embed)]
    pub figures: Figures,
    /// Customer group.
    #[diesel(sql_type = Text)]
    pub customer_group: String,
    /// The place of the first exclusion that finds the customer.
    #[diesel(sql_type = Nullable<Integer>)]
    pub excluded: Option<i32>,
}

impl Judge {
    /// A judge by these settings and models.
    ///
    /// # Errors
    /// `Stored` when the day is too far off for periods.
    pub fn new(settings: &Settings, model: &Model, as_of: NaiveDate) -> Result<Judge> {
        let periods = settings.detection.comparison.periods(as_of);
        Ok(Judge {
            settings: settings.clone(),
            periods: periods.map_err(|e| StoreError::Stored(format!("{as_of} {e}")))?,
            season: model.season(),
            often: model.often(),
            value: model.value(),
            as_of,
        })
    }

    /// What a detection looks at.
    pub fn look<'a>(&'a self, tenant: &'a Tenant) -> Look<'a> {
        Look {
            tenant,
            as_of: self.as_of,
            periods: self.periods,
            currency: &self.settings.currency,
        }
    }

    /// The name of the exclusion at a place.
    fn exclusion(&self, place: Option<i32>) -> Option<&str> {
        let place = usize::try_from(place?).ok()?;
        let found = self.settings.detection.exclusions.get(place);
        found.map(|exclusion| &exclusion.name[..])
    }

    /// Says whether a customer drifts away.
    pub fn finding(&self, candidate: &Candidate) -> Finding {
        let figures = &candidate.figures;
        let sums = CustomerSums {
            group: &candidate.customer_group,
            excluded: self.exclusion(candidate.excluded),
            ordered: Some((figures.first_order, figures.last_order)),
            orders: u32::try_from(figures.orders).unwrap_or(u32::MAX),
            revenue: figures.revenue,
            then: figures.revenue_then,
            now: figures.revenue_now,
        };
        self.finding_of(&sums)
    }

    /// As `finding`, of sums.
    pub(super) fn finding_of(&self, sums: &CustomerSums<'_>) -> Finding {
        detect(&self.settings.detection, &self.periods, &self.season, sums)
    }

    /// What the models say of a customer.
    pub fn view(&self, figures: &Figures) -> View {
        let purchases = figures.purchases(self.as_of);
        let Some((often, purchases)) = self.often.as_ref().zip(purchases) else {
            return View::default();
        };
        let number = |value: f64| value.is_finite().then_some(value);
        let Some(value) = &self.value else {
            return View {
                alive: number(often.alive(purchases)),
                purchases: number(often.expected(purchases, YEAR_WEEKS)),
                ..View::default()
            };
        };
        let seen = outlook(often, value, purchases, figures.mean_repeat);
        let at_stake = Decimal::try_from(seen.at_stake).ok().map(amount);
        View {
            alive: number(seen.alive),
            purchases: number(seen.purchases),
            order_value: number(seen.order_value),
            at_stake,
        }
    }

    /// Judges customers: counts who is no case, and gives the others.
    pub fn judge(&self, candidates: &[Candidate], tally: &mut Tally) -> Vec<Found> {
        let mut found = Vec::new();
        for candidate in candidates {
            tally.customers += 1;
            match self.finding(candidate) {
                Finding::NoCase(reasons) => {
                    for reason in reasons {
                        tally.count(reason.word(), reason.exclusion(), 1);
                    }
                }
                Finding::Case(decline) => {
                    let view = self.view(&candidate.figures);
                    let currency = &self.settings.currency;
                    let customer = candidate.figures.customer_id;
                    found.push(Found::new(customer, &decline, view, currency));
                }
            }
        }
        found
    }
}

/// An amount as columns hold it.
fn amount(amount: Decimal) -> Decimal {
    // 9999999999999999.99
    let most = Decimal::from_parts(2_808_348_671, 232_830_643, 0, false, 2);
    amount
        .round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
        .clamp(-most, most)
}

/// Somebody who is a case, as the columns of one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Found {
    /// The customer.
    pub customer_id: Uuid,
    /// Numbers of the drop, see [`Decline`].
    pub revenue_then: Decimal,
    /// Revenue of the later period.
    pub revenue_now: Decimal,
    /// Days of the earlier period on which the customer was one.
    pub known_days: u32,
    /// By how much the season changes what is to be expected.
    pub season: Decimal,
    /// What was to be expected.
    pub expected: Decimal,
    /// What came.
    pub actual: Decimal,
    /// What is missing.
    pub drop_amount: Decimal,
    /// The same in percent.
    pub drop_percent: Decimal,
    /// The day of the last order.
    pub last_order: NaiveDate,
    /// Share of product groups lost.
    pub lost_share: f64,
    /// Those groups, the greatest loss first.
    pub lost_groups: Vec<String>,
    /// What the models say.
    #[serde(flatten)]
    pub view: View,
    /// The currency.
    pub currency: String,
}

impl Found {
    fn new(customer: Uuid, decline: &Decline, view: View, currency: &str) -> Found {
        Found {
            customer_id: customer,
            revenue_then: amount(decline.then),
            revenue_now: amount(decline.now),
            known_days: decline.known_days,
            season: decline.season,
            expected: amount(decline.expected),
            actual: amount(decline.actual),
            drop_amount: amount(decline.drop),
            drop_percent: amount(decline.drop_percent),
            last_order: decline.last_order,
            lost_share: 0.0,
            lost_groups: Vec::new(),
            view,
            currency: currency.to_owned(),
        }
    }
}

/// Columns of a case that say why it is one.
const COLUMNS: &str = "revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
    drop_percent, last_order, lost_share, lost_groups, alive, purchases, order_value, at_stake, currency";

/// Rows of [`Found`] from JSON.
const FOUND: &str = "AS f (customer_id uuid, revenue_then numeric, revenue_now numeric,
    known_days integer, season numeric, expected numeric, actual numeric, drop_amount numeric,
    drop_percent numeric, last_order date, lost_share float8, lost_groups text[], alive float8,
    purchases float8, order_value float8, at_stake numeric, currency text)";

fn columns_of(alias: &str) -> String {
    let columns: Vec<String> = COLUMNS
        .split(',')
        .map(|column| format!("{alias}.{}", column.trim()))
        .collect();
    columns.join(", ")
}

/// The settings' exclusions, ready to be asked.
///
/// # Errors
/// `Invalid` with each selection that is gone, is none of customers, or does not hold any more.
pub async fn exclusions(
    conn: &mut Conn,
    tenant: &Tenant,
    settings: &Settings,
    at: DateTime<Utc>,
) -> Result<Vec<Prepared>> {
    let (mut prepared, mut violations) = (Vec::new(), Violations::new());
    for (i, exclusion) in settings.detection.exclusions.iter().enumerate() {
        let found = selected(conn, tenant, SelectionId(exclusion.selection), at).await?;
        let ready = found.map(|(_, prepared)| prepared);
        prepared.extend(violations.check(format!("exclusions[{i}].selection"), ready));
    }
    Ok(violations.finish(prepared)?)
}

/// For a row `subject` of customers the place of the first exclusion that finds it.
pub(super) fn excluded(exclusions: &[Prepared]) -> Statement {
    if exclusions.is_empty() {
        return Statement::new("NULL::integer");
    }
    let cases = exclusions.iter().zip(0i32..);
    cases
        .fold(Statement::new("CASE"), |sql, (prepared, place)| {
            sql.sql(" WHEN ")
                .criteria(prepared)
                .sql(" THEN ")
                .bind::<Integer, _>(place)
        })
        .sql(" END")
}

/// The next customers of a detection behind one, by id, at most `limit`.
pub async fn candidates(
    conn: &mut Conn,
    tenant: TenantId,
    detection: OperationId,
    exclusions: &[Prepared],
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Candidate>> {
    let statement = Statement::new("SELECT f.*, subject.customer_group, ")
        .append(&excluded(exclusions))
        .sql(
            " AS excluded
             FROM (SELECT customer_id, first_order, last_order, orders, revenue, revenue_then,
                          revenue_now, repeats, mean_repeat
                   FROM winback_figure WHERE tenant_id = ",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .sql(" AND detection_id = ")
        .bind::<SqlUuid, _>(detection.0)
        .sql(" AND customer_id > ")
        .bind::<SqlUuid, _>(after.unwrap_or_default())
        .sql(" ORDER BY customer_id LIMIT ")
        .bind::<BigInt, _>(limit)
        .sql(") f JOIN customer subject ON subject.id = f.customer_id AND subject.tenant_id = ")
        .bind::<SqlUuid, _>(tenant.0)
        .sql(" ORDER BY f.customer_id");
    Ok(statement.load(conn).await?)
}

/// Finds which product groups the customers do not buy any more.
pub async fn lost_groups(
    conn: &mut Conn,
    look: &Look<'_>,
    customers: &[Uuid],
) -> Result<HashMap<Uuid, LostGroups>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let revenue = "sum(l.quantity * l.unit_price)";
        let period = |days: &str| {
            money(&format!(
                "coalesce({revenue} FILTER (WHERE o.day BETWEEN {days}), 0)"
            ))
        };
        let (then, now) = (period("$5 AND $6"), period("$7 AND $8"));
        let orders = orders("$3");
        format!(
            "SELECT o.customer_id, l.product_group, {then} AS revenue_then, {now} AS revenue_now
             FROM ({orders} AND customer_id = ANY($4)) o
             JOIN order_line l ON l.tenant_id = $1 AND l.order_id = o.id
             WHERE o.day BETWEEN $5 AND $6 OR o.day BETWEEN $7 AND $8
             GROUP BY o.customer_id, l.product_group"
        )
    });
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        customer_id: Uuid,
        #[diesel(sql_type = Text)]
        product_group: String,
        #[diesel(sql_type = Numeric)]
        revenue_then: Decimal,
        #[diesel(sql_type = Numeric)]
        revenue_now: Decimal,
    }
    let rows: Vec<Row> = diesel::sql_query(&*SQL)
        .bind::<SqlUuid, _>(look.tenant.id.0)
        .bind::<Text, _>(look.tenant.time_zone.name())
        .bind::<Text, _>(look.currency)
        .bind::<Array<SqlUuid>, _>(customers)
        .bind::<Date, _>(look.periods.then.first())
        .bind::<Date, _>(look.periods.then.last())
        .bind::<Date, _>(look.periods.now.first())
        .bind::<Date, _>(look.periods.now.last())
        .load(conn)
        .await?;
    type Groups = BTreeMap<String, Decimal>;
    let mut groups: HashMap<Uuid, (Groups, Groups)> = HashMap::new();
    for row in rows {
        let (then, now) = groups.entry(row.customer_id).or_default();
        then.insert(row.product_group.clone(), row.revenue_then);
        now.insert(row.product_group, row.revenue_now);
    }
    let of =
        |(customer, (then, now)): (Uuid, (Groups, Groups))| (customer, LostGroups::of(&then, &now));
    Ok(groups.into_iter().map(of).collect())
}

/// Adds to those found what they do not buy any more.
pub async fn add_lost_groups(conn: &mut Conn, look: &Look<'_>, found: &mut [Found]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let customers: Vec<Uuid> = found.iter().map(|one| one.customer_id).collect();
    let mut lost = lost_groups(conn, look, &customers).await?;
    for one in found {
        if let Some(groups) = lost.remove(&one.customer_id) {
            one.lost_share = groups.share();
            one.lost_groups = groups.lost.into_iter().map(|(name, _)| name).collect();
        }
    }
    Ok(())
}

/// Chunks of a tenant's detections take turns until the end of the transaction.
pub async fn begin_chunk(conn: &mut Conn, tenant: TenantId) -> Result<()> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('winback cases ' || $1::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    Ok(())
}

/// What becomes of those found, and is written.
#[derive(Debug, Clone, Copy)]
pub struct Verdicts<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// The detection.
    pub detection: OperationId,
    /// Its day.
    pub as_of: NaiveDate,
    /// So many days after a case was closed no other one is opened.
    pub rest_days: u32,
    /// Those found.
    pub found: &'a [Found],
}

impl Verdicts<'_> {
    /// Opens and refreshes cases, or with `is_trial` only counts what it would.
    pub async fn write(&self, conn: &mut Conn, is_trial: bool, tally: &mut Tally) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        if !is_trial {
            self.lock(conn).await?;
        }
        let verdicts = self.compare(conn).await?;
        let of = |verdict: &str| -> Vec<&Found> {
            let is_so = |one: &&Found| verdicts.get(&one.customer_id).is_some_and(|v| v == verdict);
            self.found.iter().filter(is_so).collect()
        };
        let (new, refreshed, seen) = (of("opened"), of("refreshed"), of("seen"));
        tally.rested += count(of("rested").len());
        tally.returned += count(of("returned").len());
        tally.refreshed += count(refreshed.len());
        tally.unchanged += count(seen.len() + of("unchanged").len());
        tally.opened += if is_trial {
            count(new.len())
        } else {
            self.refresh(conn, &refreshed).await?;
            self.see(conn, &seen).await?;
            self.open(conn, &new).await?
        };
        for one in self.found {
            if verdicts
                .get(&one.customer_id)
                .is_some_and(|v| v != "rested" && v != "returned")
            {
                tally.dropped += one.drop_amount;
                tally.at_stake += one.view.at_stake.unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Locks the open cases of those found. Whoever works on one is waited for.
    async fn lock(&self, conn: &mut Conn) -> Result<()> {
        let customers: Vec<Uuid> = self.found.iter().map(|one| one.customer_id).collect();
        diesel::sql_query(format!(
            "SELECT id FROM winback_case
             WHERE tenant_id = $1 AND customer_id = ANY($2) AND state NOT IN {CLOSED}
             ORDER BY id FOR UPDATE"
        ))
        .bind::<SqlUuid, _>(self.tenant.id.0)
        .bind::<Array<SqlUuid>, _>(customers)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// What becomes of each: `opened`, `refreshed`, `seen` (again, and nothing differs), `unchanged`,
    /// `rested`, or `returned`: without a case, and has bought since.
    async fn compare(&self, conn: &mut Conn) -> Result<HashMap<Uuid, String>> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = SqlUuid)]
            customer_id: Uuid,
            #[diesel(sql_type = Text)]
            verdict: String,
        }
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let (stored, wanted) = (columns_of("k"), columns_of("f"));
            let orders = orders("f.currency");
            format!(
                "SELECT f.customer_id,
                     CASE WHEN k.id IS NULL AND rest.holds THEN 'rested'
                          WHEN k.id IS NULL AND EXISTS (
                              SELECT FROM ({orders} AND customer_id = f.customer_id
                                  AND ordered_at >= $3::timestamp AT TIME ZONE $2) o
                              WHERE o.day > $3 AND 0 < (
                                  SELECT sum(l.quantity * l.unit_price) FROM order_line l
                                  WHERE l.tenant_id = $1 AND l.order_id = o.id)) THEN 'returned'
                          WHEN k.id IS NULL THEN 'opened'
                          WHEN seen.as_of > $3 THEN 'unchanged'
                          WHEN ROW({stored}) IS DISTINCT FROM ROW({wanted}) THEN 'refreshed'
                          WHEN seen.as_of = $3 THEN 'unchanged'
                          ELSE 'seen' END AS verdict
                 FROM jsonb_to_recordset($5) {FOUND}
                 LEFT JOIN winback_case k ON k.tenant_id = $1 AND k.customer_id = f.customer_id
                      AND k.state NOT IN {CLOSED}
                 LEFT JOIN winback_detection seen ON seen.tenant_id = $1 AND seen.id = k.seen_by
                 CROSS JOIN LATERAL (SELECT EXISTS (
                     SELECT FROM winback_case c
                     WHERE c.tenant_id = $1 AND c.customer_id = f.customer_id
                       AND c.closed_on > $3 - $4) AS holds) rest"
            )
        });
        let all: Vec<&Found> = self.found.iter().collect();
        let rows: Vec<Row> = diesel::sql_query(&*SQL)
            .bind::<SqlUuid, _>(self.tenant.id.0)
            .bind::<Text, _>(self.tenant.time_zone.name())
            .bind::<Date, _>(self.as_of)
            .bind::<Integer, _>(i32::try_from(self.rest_days).unwrap_or(i32::MAX))
            .bind::<Jsonb, _>(json(&all)?)
            .load(conn)
            .await?;
        let pairs = rows.into_iter().map(|row| (row.customer_id, row.verdict));
        Ok(pairs.collect())
    }

    async fn refresh(&self, conn: &mut Conn, found: &[&Found]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let wanted = columns_of("f");
            format!(
                "UPDATE winback_case k SET ({COLUMNS}) = ROW({wanted}), seen_by = $3,
                        updated_at = now()
                 FROM jsonb_to_recordset($2) {FOUND}
                 WHERE k.tenant_id = $1 AND k.customer_id = f.customer_id
                   AND k.state NOT IN {CLOSED}"
            )
        });
        diesel::sql_query(&*SQL)
            .bind::<SqlUuid, _>(self.tenant.id.0)
            .bind::<Jsonb, _>(json(found)?)
            .bind::<SqlUuid, _>(self.detection.0)
            .execute(conn)
            .await?;
        Ok(())
    }

    async fn see(&self, conn: &mut Conn, found: &[&Found]) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let customers: Vec<Uuid> = found.iter().map(|one| one.customer_id).collect();
        diesel::sql_query(format!(
            "UPDATE winback_case SET seen_by = $3
             WHERE tenant_id = $1 AND customer_id = ANY($2) AND state NOT IN {CLOSED}"
        ))
        .bind::<SqlUuid, _>(self.tenant.id.0)
        .bind::<Array<SqlUuid>, _>(customers)
        .bind::<SqlUuid, _>(self.detection.0)
        .execute(conn)
        .await?;
        Ok(())
    }

    /// Opens cases, each with its event; gives how many.
    async fn open(&self, conn: &mut Conn, found: &[&Found]) -> Result<i64> {
        if found.is_empty() {
            return Ok(0);
        }
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let wanted = columns_of("f");
            format!(
                "WITH opened AS (
                     INSERT INTO winback_case (tenant_id, id, customer_id, opened_on, opened_by,
                         seen_by, {COLUMNS})
                     SELECT $1, anklang_uuid7(), f.customer_id, $4, $3, $3, {wanted}
                     FROM jsonb_to_recordset($2) {FOUND}
                     ON CONFLICT (tenant_id, customer_id) WHERE state NOT IN {CLOSED} DO NOTHING
                     RETURNING id, state)
                 INSERT INTO winback_case_event (tenant_id, id, case_id, kind, to_state, detail)
                 SELECT $1, anklang_uuid7(), id, 'opened', state,
                        jsonb_build_object('detection', $3)
                 FROM opened"
            )
        });
        let rows = diesel::sql_query(&*SQL)
            .bind::<SqlUuid, _>(self.tenant.id.0)
            .bind::<Jsonb, _>(json(found)?)
            .bind::<SqlUuid, _>(self.detection.0)
            .bind::<Date, _>(self.as_of)
            .execute(conn)
            .await?;
        Ok(count(rows))
    }
}

fn json(found: &[&Found]) -> Result<serde_json::Value> {
    serde_json::to_value(found).map_err(|e| StoreError::Stored(format!("cases: {e}")))
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
