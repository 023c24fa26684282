//! Mailings: many cases at once, with a control group, and what that brought.
//!
//! Who is in it and who is left alone is one statement, before anything is queued. It refuses who cannot be
//! mailed, and draws lots of the others only. A tenant's mailings take turns at it, so that each sees who
//! is left alone for the others. Then the members are decided on chunk by chunk: a chunk's mails, its refusals and the checkpoint are one transaction, and
//! what is not decided is what is left.

use anklang_domain::TenantId;
use anklang_domain::selection::{Criteria, Subject};
use anklang_domain::winback::{ControlGroup, MailTemplate, RevenueGroup, Tile};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Bytea, Date, Double, Integer, Jsonb, Nullable, Numeric, Text, Timestamptz,
    Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mail::{self, Refusal};
use super::settings::Settings;
use super::template;
use crate::call::Call;
use crate::listing::{Field, Kind, List, Listable, Page, Part, PartType, Sort};
use crate::selection::{self, Prepared, Selection, Statement, bound};
use crate::tenant::{self, Tenant};
use crate::{Conn, Result, StoreError};

/// A mailing.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Mailing {
    /// Its id, also its operation's.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// standard or voucher.
    #[diesel(sql_type = Text)]
    pub template: String,
    /// Which cases: those that the filter takes,
    #[diesel(sql_type = Text)]
    pub filter: String,
    /// and lie on this tile,
    #[diesel(sql_type = Nullable<Text>)]
    pub tile: Option<String>,
    /// and whose customers this selection finds,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub selection_id: Option<Uuid>,
    /// as it was then.
    #[diesel(sql_type = Nullable<Integer>)]
    pub selection_version: Option<i32>,
    /// Share of the control group.
    #[diesel(sql_type = Double)]
    pub control_percent: f64,
    /// What it brought is looked for on so many days after the first one.
    #[diesel(sql_type = Integer)]
    pub window_days: i32,
    /// The currency in which revenue counts.
    #[diesel(sql_type = Text)]
    pub currency: String,
    /// The day on which the control group was drawn: the first one that counts.
    #[diesel(sql_type = Nullable<Date>)]
    pub drawn_on: Option<NaiveDate>,
    /// Who has asked for it, as callers are named.
    #[diesel(sql_type = Text)]
    pub launched_by: String,
    /// When it was asked for.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When all were decided on.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub done_at: Option<DateTime<Utc>>,
}

impl Mailing {
    /// Its template.
    pub fn template(&self) -> MailTemplate {
        match &self.template[..] {
            "voucher" => MailTemplate::Voucher,
            _ => MailTemplate::Standard,
        }
    }

    /// Its tile.
    pub fn tile(&self) -> Option<Tile> {
        self.tile.as_deref().and_then(Tile::parse)
    }
}

/// The name of a mailing.
pub fn resource(id: Uuid) -> String {
    anklang_domain::name::format(&[("winbackMailings", &id.to_string())])
}

/// A mailing that is asked for.
#[derive(Debug, Clone)]
pub struct NewMailing<'a> {
    /// Its template.
    pub template: MailTemplate,
    /// Which cases: those that the filter takes,
    pub filter: &'a str,
    /// and lie on this tile,
    pub tile: Option<Tile>,
    /// and whose customers this selection finds, as it is now.
    pub selection: Option<&'a Selection>,
    /// Share of the control group.
    pub control_percent: f64,
    /// The settings that hold.
    pub settings: &'a Settings,
}

/// Writes a mailing down, with its selection as that is now, and notes whose call it is.
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    new: &NewMailing<'_>,
) -> Result<()> {
    let window = i32::try_from(new.settings.win_window_days).unwrap_or(i32::MAX);
    let criteria = new.selection.map(|s| serde_json::to_value(&s.criteria));
    let criteria = criteria
        .transpose()
        .map_err(|e| StoreError::Stored(format!("criteria: {e}")))?;
    diesel::sql_query(
        "WITH ticked AS MATERIALIZED (
             SELECT c.number, t.tick FROM selection_tick t
             JOIN customer c ON c.tenant_id = t.tenant_id AND c.id = t.customer_id
             WHERE t.tenant_id = $1 AND t.selection_id = $9)
         INSERT INTO winback_mailing (tenant_id, id, template, filter, control_percent, window_days,
             currency, tile, selection_id, selection_version, criteria, launched_by, included, excluded)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                ARRAY(SELECT number FROM ticked WHERE tick = 'included'),
                ARRAY(SELECT number FROM ticked WHERE tick = 'excluded')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(template::word(new.template))
    .bind::<Text, _>(new.filter)
    .bind::<Double, _>(new.control_percent)
    .bind::<Integer, _>(window)
    .bind::<Text, _>(&new.settings.currency)
    .bind::<Nullable<Text>, _>(new.tile.map(Tile::as_str))
    .bind::<Nullable<SqlUuid>, _>(new.selection.map(|s| s.id.0))
    .bind::<Nullable<Integer>, _>(new.selection.map(|s| s.version))
    .bind::<Nullable<Jsonb>, _>(criteria)
    .bind::<Text, _>(Call::current_caller())
    .execute(conn)
    .await?;
    Ok(())
}

/// What the selection of a mailing finds, as it was when the mailing was asked for, and as of a point in
/// time; `None` when the mailing has none.
///
/// # Errors
/// `Invalid` when its criteria do not hold any more.
pub async fn selection(
    conn: &mut Conn,
    tenant: &Tenant,
    mailing: Uuid,
    at: DateTime<Utc>,
) -> Result<Option<Prepared>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Nullable<Jsonb>)]
        criteria: Option<serde_json::Value>,
        #[diesel(sql_type = Array<Text>)]
        included: Vec<String>,
        #[diesel(sql_type = Array<Text>)]
        excluded: Vec<String>,
    }
    let row: Row = diesel::sql_query(
        "SELECT criteria, included, excluded FROM winback_mailing WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.id.0)
    .bind::<SqlUuid, _>(mailing)
    .get_result(conn)
    .await?;
    let Some(criteria) = row.criteria else {
        return Ok(None);
    };
    let criteria: Criteria = serde_json::from_value(criteria)
        .map_err(|e| StoreError::Stored(format!("criteria: {e}")))?;
    let prepared = selection::prepare(conn, tenant, Subject::Customer, &criteria, at).await?;
    Ok(Some(prepared.with_numbers(row.included, row.excluded)))
}

/// The mailing with that id.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: Uuid) -> Result<Option<Mailing>> {
    Ok(diesel::sql_query(format!("{SELECT} AND id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id)
        .get_result(&mut conn)
        .await
        .optional()?)
}

const SELECT: &str =
    "SELECT id, template, filter, tile, selection_id, selection_version, control_percent,
        window_days, currency, drawn_on, launched_by, created_at, done_at
    FROM winback_mailing WHERE tenant_id = $1";

/// What mailings are listed by.
pub static MAILINGS: Listable = Listable {
    fields: &[
        Field::column(
            "template",
            Kind::Word("WINBACK_TEMPLATE_", &["standard", "voucher"]),
        ),
        Field::nullable(
            "tile",
            Kind::Word(
                "WINBACK_TILE_",
                &[
                    "declining",
                    "reminder_due",
                    "offer_requested",
                    "mailed",
                    "no_interest",
                    "won_back",
                ],
            ),
            "tile",
        ),
        Field::resource(
            "selection",
            &[Part::new("selections", "selection_id", PartType::Uuid)],
        ),
        Field::column("control_percent", Kind::Number),
        Field::column("window_days", Kind::Number),
        Field::nullable("draw_date", Kind::Date, "drawn_on"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::nullable("end_time", Kind::Time, "done_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of mailings, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Mailing>> {
    let base = Statement::numbered(SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    list.load(conn, base).await
}

/// Which cases a mailing is about.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The template: those that did not get it.
    pub template: MailTemplate,
    /// Those on this tile.
    pub tile: Option<Tile>,
    /// Those of customers whom it finds.
    pub selection: Option<&'a Prepared>,
    /// Those that the filter takes, which is one of [`super::case::LISTABLE`].
    pub list: &'a List,
    /// As of this day.
    pub today: NaiveDate,
}

/// Mailings `x` whose control group the customer of the case `k` is in; behind it comes as of which day.
pub(super) const LEFT_ALONE: &str = "winback_control n
    JOIN winback_mailing x ON x.tenant_id = n.tenant_id AND x.id = n.mailing_id
    WHERE n.tenant_id = k.tenant_id AND n.customer_id = k.customer_id
      AND x.drawn_on + x.window_days";

impl Wanted<'_> {
    /// Something of these cases `r`: open, without this template, of nobody who is left alone for another
    /// mailing, and on whom no other one that runs has yet to decide: it would mail who is left alone for
    /// this one.
    fn cases(&self, tenant: TenantId, selected: &'static str) -> Statement {
        let got = match self.template {
            MailTemplate::Standard => "k.standard_on",
            MailTemplate::Voucher => "k.voucher_on",
        };
        let mut base = super::case::cases(tenant, self.tile, self.today)
            .sql(" AND k.state NOT IN ('no_interest', 'won_back') AND ")
            .sql(got)
            .sql(
                " IS NULL AND NOT EXISTS (
                      SELECT FROM winback_mailing_member m
                      JOIN operation p ON p.tenant_id = m.tenant_id AND p.id = m.mailing_id
                           AND p.state IN ('queued', 'running')
                      WHERE m.tenant_id = k.tenant_id AND m.customer_id = k.customer_id
                        AND NOT m.is_decided)
                  AND NOT EXISTS (SELECT FROM ",
            )
            .sql(LEFT_ALONE)
            .sql(" >= ")
            .bind::<Date, _>(self.today)
            .sql(")");
        if let Some(prepared) = self.selection {
            base = base
                .sql(
                    " AND EXISTS (SELECT FROM customer subject
                          WHERE subject.tenant_id = k.tenant_id AND subject.id = k.customer_id AND ",
                )
                .criteria(prepared)
                .sql(")");
        }
        self.list.matching(selected, base, i64::MAX)
    }

    /// The beginning of a statement about these cases, as `asked`, with the word of the refusal for which they
    /// cannot be mailed.
    fn asked(&self, tenant: TenantId) -> Statement {
        let found = Statement::new("IN (SELECT id FROM found)");
        Statement::new("WITH found AS MATERIALIZED (")
            .append(&self.cases(tenant, "r.id"))
            .sql("), asked AS MATERIALIZED (SELECT case_id, customer_id, refusal FROM (")
            .append(&mail::reach(tenant, self.template, &found))
            .sql(") r)")
    }
}

/// Lets the draws of a tenant's mailings take turns until the end of the transaction; gives the moment at
/// which it is this one's, and its day.
pub async fn begin_draw(conn: &mut Conn, tenant: TenantId) -> Result<(DateTime<Utc>, NaiveDate)> {
    diesel::sql_query(
        "SELECT pg_advisory_xact_lock(hashtextextended('winback draws ' || $1::text, 0))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .execute(conn)
    .await?;
    tenant::clock(conn, tenant).await
}

/// What would become of the cases of a mailing: `mailed` are all who could be, those who are left alone
/// among them.
pub async fn foresee(conn: &mut Conn, tenant: TenantId, wanted: Wanted<'_>) -> Result<Vec<Ended>> {
    let statement = wanted.asked(tenant).sql(
        " SELECT coalesce(refusal, 'mailed') AS way, count(*) AS n FROM asked GROUP BY 1 ORDER BY 1",
    );
    Ok(statement.load(conn).await?)
}

/// How many members were drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, QueryableByName)]
pub struct Drawn {
    /// All, but for those who are left alone.
    #[diesel(sql_type = BigInt)]
    pub members: i64,
    /// Those of them who cannot be mailed.
    #[diesel(sql_type = BigInt)]
    pub refused: i64,
}

/// Draws who is mailed and who is left alone, by the lots of [`ControlGroup`], which is the same by
/// whatever server and however often. Who cannot be mailed is refused, and in no group. After
/// [`begin_draw`].
pub async fn draw(
    conn: &mut Conn,
    tenant: TenantId,
    mailing: &Mailing,
    wanted: Wanted<'_>,
    control: &ControlGroup,
) -> Result<Drawn> {
    let drawn: Drawn = wanted
        .asked(tenant)
        .sql(
            ", lots AS MATERIALIZED (
             SELECT case_id, customer_id, refusal, refusal IS NULL AND substr(sha256(uuid_send(",
        )
        .bind::<SqlUuid, _>(mailing.id)
        .sql(") || uuid_send(customer_id)), 1, 8) < ")
        .bind::<Bytea, _>(control.threshold().to_vec())
        .sql(
            " AS alone FROM asked), alone AS (
             INSERT INTO winback_control (tenant_id, mailing_id, customer_id, case_id)
             SELECT ",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .sql(", ")
        .bind::<SqlUuid, _>(mailing.id)
        .sql(
            ", customer_id, case_id FROM lots WHERE alone),
         members AS (
             INSERT INTO winback_mailing_member (tenant_id, mailing_id, case_id, customer_id,
                                                 is_decided, is_drawn, refusal)
             SELECT ",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .sql(", ")
        .bind::<SqlUuid, _>(mailing.id)
        .sql(
            ", case_id, customer_id, refusal IS NOT NULL, refusal IS NULL, refusal
             FROM lots WHERE NOT alone RETURNING refusal)
         SELECT count(*) AS members, count(refusal) AS refused FROM members",
        )
        .get_result(conn)
        .await?;
    diesel::sql_query(
        "UPDATE winback_mailing SET drawn_on = $3, drawn_at = clock_timestamp()
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(mailing.id)
    .bind::<Date, _>(wanted.today)
    .execute(conn)
    .await?;
    Ok(drawn)
}

/// The next cases behind `after` that are not decided, at most `limit`, locked.
pub async fn next(
    conn: &mut Conn,
    tenant: TenantId,
    mailing: Uuid,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Uuid>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = SqlUuid)]
        case_id: Uuid,
    }
    // Behind the last one: the index still has those that were decided just now.
    let rows: Vec<Row> = diesel::sql_query(
        "SELECT case_id FROM winback_mailing_member
         WHERE tenant_id = $1 AND mailing_id = $2 AND NOT is_decided AND case_id > $4
         ORDER BY case_id LIMIT $3 FOR UPDATE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(mailing)
    .bind::<BigInt, _>(limit)
    .bind::<SqlUuid, _>(after.unwrap_or(Uuid::nil()))
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.case_id).collect())
}

/// Notes what was decided of cases that [`next`] gave.
pub async fn decided(
    conn: &mut Conn,
    tenant: TenantId,
    mailing: Uuid,
    cases: &[(Uuid, Option<&Refusal>)],
) -> Result<()> {
    diesel::sql_query(
        "UPDATE winback_mailing_member m SET is_decided = true, refusal = d.refusal
         FROM unnest($3::uuid[], $4::text[]) AS d (case_id, refusal)
         WHERE m.tenant_id = $1 AND m.mailing_id = $2 AND m.case_id = d.case_id",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(mailing)
    .bind::<Array<SqlUuid>, _>(cases.iter().map(|(case, _)| *case).collect::<Vec<_>>())
    .bind::<Array<Nullable<Text>>, _>(
        cases
            .iter()
            .map(|(_, refusal)| refusal.map(Refusal::as_str))
            .collect::<Vec<_>>(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends a mailing.
pub async fn finish(conn: &mut Conn, tenant: TenantId, mailing: Uuid) -> Result<()> {
    diesel::sql_query(
        "UPDATE winback_mailing SET done_at = now() WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(mailing)
    .execute(conn)
    .await?;
    Ok(())
}

/// How many cases ended in a way: `mailed`, `control`, or the word of a refusal; those not decided are
/// left out.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName, Serialize, Deserialize)]
pub struct Ended {
    /// The way.
    #[diesel(sql_type = Text)]
    pub way: String,
    /// So many.
    #[diesel(sql_type = BigInt)]
    pub n: i64,
}

/// How the cases of a mailing ended.
pub async fn ended(conn: &mut Conn, tenant: TenantId, mailing: Uuid) -> Result<Vec<Ended>> {
    Ok(diesel::sql_query(
        "SELECT coalesce(refusal, 'mailed') AS way, count(*) AS n FROM winback_mailing_member
         WHERE tenant_id = $1 AND mailing_id = $2 AND is_decided GROUP BY 1
         UNION ALL
         SELECT 'control', count(*) FROM winback_control WHERE tenant_id = $1 AND mailing_id = $2
         ORDER BY 1",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(mailing)
    .load(conn)
    .await?)
}

/// What the customers of a group bought on the days that count.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
pub struct Revenue {
    /// Whether it is the control group.
    #[diesel(sql_type = Bool)]
    pub control: bool,
    /// Customers.
    #[diesel(sql_type = BigInt)]
    pub customers: i64,
    /// Those who bought.
    #[diesel(sql_type = BigInt)]
    pub buyers: i64,
    /// Revenue in all.
    #[diesel(sql_type = Numeric)]
    pub revenue: Decimal,
    /// Its mean.
    #[diesel(sql_type = Double)]
    pub mean: f64,
    /// The variance of a sample of it; 0 of a single customer.
    #[diesel(sql_type = Double)]
    pub variance: f64,
    /// Of the control group: those who were contacted all the same, from the draw until the last day.
    #[diesel(sql_type = BigInt)]
    pub mailed: i64,
}

impl Revenue {
    /// As the comparison takes it.
    pub fn group(&self) -> RevenueGroup {
        RevenueGroup {
            customers: u64::try_from(self.customers).unwrap_or(0),
            mean: self.mean,
            variance: self.variance,
        }
    }
}

/// Lets those of the control group go on whose others no mailing will decide on any more, as it was cancelled:
/// those behind the last case that was decided.
pub async fn abandon(conn: &mut Conn, tenant: TenantId, mailing: Uuid) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM winback_control WHERE tenant_id = $1 AND mailing_id = $2
           AND case_id > coalesce((
               SELECT case_id FROM winback_mailing_member
               WHERE tenant_id = $1 AND mailing_id = $2 AND is_drawn AND is_decided
               ORDER BY case_id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(mailing)
    .execute(conn)
    .await?;
    Ok(())
}

/// Of a mailing that is not done both groups end with the last case on which was decided: chunks go by
/// `case_id`, so who comes before it has nothing to do with the lots.
const REVENUE: &str = "WITH mailing AS MATERIALIZED (
             SELECT x.drawn_at, t.time_zone, CASE
                    WHEN x.done_at IS NULL THEN (
                        SELECT case_id FROM winback_mailing_member
                        WHERE tenant_id = $1 AND mailing_id = $2 AND is_drawn AND is_decided
                        ORDER BY case_id DESC LIMIT 1)
                    ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff' END AS last_case
             FROM winback_mailing x JOIN tenant t ON t.id = x.tenant_id
             WHERE x.tenant_id = $1 AND x.id = $2),
         people AS (
             SELECT customer_id, false AS control FROM winback_mailing_member
             WHERE tenant_id = $1 AND mailing_id = $2 AND is_drawn
               AND case_id <= (SELECT last_case FROM mailing)
             UNION ALL
             SELECT customer_id, true FROM winback_control
             WHERE tenant_id = $1 AND mailing_id = $2
               AND case_id <= (SELECT last_case FROM mailing)),
         bought AS (
             SELECT p.control, p.customer_id, coalesce(sum(l.amount), 0) AS revenue,
                    count(o.id) AS orders
             FROM people p
             CROSS JOIN mailing t
             LEFT JOIN sales_order o ON o.tenant_id = $1 AND o.customer_id = p.customer_id
                  AND o.state <> 'rejected' AND o.currency = $5
                  AND o.ordered_at >= ($3::timestamp AT TIME ZONE t.time_zone)
                  AND o.ordered_at < (($4 + 1)::timestamp AT TIME ZONE t.time_zone)
             LEFT JOIN LATERAL (
                 SELECT sum(quantity * unit_price) AS amount FROM order_line
                 WHERE tenant_id = $1 AND order_id = o.id) l ON true
             GROUP BY 1, 2)
         SELECT control, count(*) AS customers, count(*) FILTER (WHERE orders > 0) AS buyers,
                round(sum(revenue), 2) AS revenue, avg(revenue)::float8 AS mean,
                coalesce(var_samp(revenue), 0)::float8 AS variance,
                count(*) FILTER (WHERE control AND EXISTS (
                    SELECT FROM winback_case k
                    JOIN winback_case_event e ON e.tenant_id = $1 AND e.case_id = k.id
                         AND e.kind IN ('mailed', 'offer_requested')
                         AND NOT EXISTS (SELECT FROM winback_mail u WHERE u.tenant_id = $1 AND u.undone
                             AND u.message_id = substr(e.detail->>'message', 10)::uuid)
                    JOIN mailing t ON e.created_at >= t.drawn_at
                         AND e.created_at < (($4 + 1)::timestamp AT TIME ZONE t.time_zone)
                    WHERE k.tenant_id = $1 AND k.customer_id = bought.customer_id)) AS mailed
         FROM bought GROUP BY 1 ORDER BY 1";

/// What both groups of a mailing bought from a day to a day in the tenant's time zone, those to be mailed
/// first.
pub async fn revenue(
    conn: &mut Conn,
    tenant: TenantId,
    mailing: &Mailing,
    first: NaiveDate,
    last: NaiveDate,
) -> Result<Vec<Revenue>> {
    Ok(diesel::sql_query(REVENUE)
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(mailing.id)
        .bind::<Date, _>(first)
        .bind::<Date, _>(last)
        .bind::<Text, _>(&mailing.currency)
        .load(conn)
        .await?)
}
