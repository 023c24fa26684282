//! Detections: one look at all customers as of a day, its model and what it found. A detection has the id
//! of its operation and outlives it; its figures are forgotten when there are newer ones.

use anklang_domain::winback::{BgNbd, FitStatistics, GammaGamma, SeasonIndex};
use anklang_domain::{OperationId, TenantId};
use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{
    BigInt, Bool, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, StoreError};

/// What the models of a detection are, or why there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Customers who ever bought.
    pub customers: i64,
    /// The tenant's season.
    pub season: Part<SeasonIndex>,
    /// How often customers buy and how soon they leave.
    pub often: Part<Often>,
    /// What an order is worth.
    pub value: Part<Value>,
    /// Customers whose repeat purchases came to nothing or less, whom the value is not fitted on.
    pub left_out: i64,
}

/// A part of a model, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part<T> {
    /// It is known.
    Known(T),
    /// Why not; empty while it is not looked for yet.
    Missing(String),
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Part::Missing(String::new())
    }
}

impl<T> Part<T> {
    /// What a fit gave.
    pub fn of<F: Into<T>, E: std::fmt::Display>(result: std::result::Result<F, E>) -> Part<T> {
        match result {
            Ok(known) => Part::Known(known.into()),
            Err(error) => Part::Missing(error.to_string()),
        }
    }

    /// It, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Part::Known(known) => Some(known),
            Part::Missing(_) => None,
        }
    }

    /// Why it is not known; empty if it is.
    pub fn missing(&self) -> &str {
        match self {
            Part::Known(_) => "",
            Part::Missing(why) => why,
        }
    }
}

/// A fitted BG/NBD model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Often {
    /// Shape of how often customers buy.
    pub r: f64,
    /// Scale of that, in weeks.
    pub alpha: f64,
    /// First shape of how soon customers leave.
    pub a: f64,
    /// Second shape of that.
    pub b: f64,
    /// How well it fits.
    pub fit: Fit,
}

/// A fitted Gamma-Gamma model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// Shape of the values of one customer's orders.
    pub p: f64,
    /// Shape of how customers differ.
    pub q: f64,
    /// Scale of how customers differ, in money.
    pub gamma: f64,
    /// How well it fits.
    pub fit: Fit,
}

/// How well a model fits; see [`FitStatistics`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Customers whose data it was fitted on.
    pub customers: u64,
    /// Logarithm of the likelihood.
    pub log_likelihood: f64,
    /// Iterations of the search.
    pub iterations: u64,
    /// The gradient where it ended.
    pub gradient_norm: f64,
    /// Parameters that the data does not determine.
    pub at_bounds: Vec<String>,
}

impl From<FitStatistics> for Fit {
    fn from(fit: FitStatistics) -> Self {
        Fit {
            customers: fit.customers,
            log_likelihood: fit.log_likelihood,
            iterations: fit.iterations,
            gradient_norm: fit.gradient_norm,
            at_bounds: fit.at_bounds.into_iter().map(str::to_owned).collect(),
        }
    }
}

impl From<(BgNbd, FitStatistics)> for Often {
    fn from((model, fit): (BgNbd, FitStatistics)) -> Self {
        Often {
            r: model.r(),
            alpha: model.alpha(),
            a: model.a(),
            b: model.b(),
            fit: fit.into(),
        }
    }
}

impl From<(GammaGamma, FitStatistics)> for Value {
    fn from((model, fit): (GammaGamma, FitStatistics)) -> Self {
        Value {
            p: model.p(),
            q: model.q(),
            gamma: model.gamma(),
            fit: fit.into(),
        }
    }
}

impl Model {
    /// The tenant's season; flat when there is none.
    pub fn season(&self) -> SeasonIndex {
        let known = self.season.known().cloned();
        known.unwrap_or_else(SeasonIndex::flat)
    }

    /// How often customers buy and how soon they leave.
    pub fn often(&self) -> Option<BgNbd> {
        let of = |m: &Often| BgNbd::new(m.r, m.alpha, m.a, m.b);
        self.often.known().and_then(of)
    }

    /// What an order is worth.
    pub fn value(&self) -> Option<GammaGamma> {
        let of = |m: &Value| GammaGamma::new(m.p, m.q, m.gamma);
        self.value.known().and_then(of)
    }
}

/// What a detection found; until it is done, so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// The last customer who was looked at.
    pub after: Option<Uuid>,
    /// Customers who were looked at; once it is done with those who never bought.
    pub customers: i64,
    /// Cases that were opened.
    pub opened: i64,
    /// Open cases whose numbers differ from what they were.
    pub refreshed: i64,
    /// Open cases that stay as they are: nothing differs, or a later day was looked at before.
    pub unchanged: i64,
    /// Customers who would be a case, and had one that was closed too lately.
    pub rested: i64,
    /// Customers who would be a case, and have bought since the day that was looked at.
    #[serde(default)]
    pub returned: i64,
    /// What is missing of the expected revenue, of all cases found.
    pub dropped: Decimal,
    /// Revenue at stake of all cases found, as far as there is a model.
    pub at_stake: Decimal,
    /// Customers who are no case, by reason; one with several reasons counts for each.
    pub reasons: Vec<Reason>,
}

/// Customers who are no case for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// [`NoCase::word`](anklang_domain::winback::NoCase::word).
    pub reason: String,
    /// The name of the exclusion, where that is the reason; else empty.
    pub exclusion: String,
    /// How many.
    pub count: i64,
}

impl Tally {
    /// Counts customers for a reason.
    pub fn count(&mut self, reason: &str, exclusion: &str, count: i64) {
        let same = |r: &&mut Reason| r.reason == reason && r.exclusion == exclusion;
        match self.reasons.iter_mut().find(same) {
            Some(known) => known.count += count,
            None => self.reasons.push(Reason {
                reason: reason.to_owned(),
                exclusion: exclusion.to_owned(),
                count,
            }),
        }
    }
}

/// A detection.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Its id, also that of its operation.
    pub id: OperationId,
    /// The last day that is looked at.
    pub as_of: NaiveDate,
    /// The settings that it goes by.
    pub settings_version: i32,
    /// The currency of those.
    pub currency: String,
    /// Whether it only looks and opens nothing.
    pub is_trial: bool,
    /// The models, as far as they are known yet.
    pub model: Option<Model>,
    /// What it found so far.
    pub tally: Tally,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When it was done.
    pub done_at: Option<DateTime<Utc>>,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Date)]
    as_of: NaiveDate,
    #[diesel(sql_type = Integer)]
    settings_version: i32,
    #[diesel(sql_type = Text)]
    currency: String,
    #[diesel(sql_type = Bool)]
    is_trial: bool,
    #[diesel(sql_type = Nullable<Jsonb>)]
    model: Option<serde_json::Value>,
    #[diesel(sql_type = Nullable<Jsonb>)]
    result: Option<serde_json::Value>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    done_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Detection {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self> {
        let name = resource(row.id);
        let stored = |e: serde_json::Error| StoreError::Stored(format!("{name}: {e}"));
        let model = row.model.map(serde_json::from_value).transpose();
        let tally = row.result.map(serde_json::from_value).transpose();
        Ok(Detection {
            id: OperationId(row.id),
            as_of: row.as_of,
            settings_version: row.settings_version,
            currency: row.currency,
            is_trial: row.is_trial,
            model: model.map_err(stored)?,
            tally: tally.map_err(stored)?.unwrap_or_default(),
            created_at: row.created_at,
            done_at: row.done_at,
        })
    }
}

/// The name of the detection with that id.
pub fn resource(id: Uuid) -> String {
    format!("winbackDetections/{id}")
}

const SELECT: &str =
    "SELECT id, as_of, settings_version, is_trial, model, result, created_at, done_at,
        (SELECT s.settings ->> 'currency' FROM winback_settings s
         WHERE s.tenant_id = $1 AND s.version = settings_version) AS currency
    FROM winback_detection WHERE tenant_id = $1";

/// A new detection.
#[derive(Debug, Clone, Copy)]
pub struct NewDetection {
    /// Its id, and that of its operation.
    pub id: OperationId,
    /// The last day that is looked at.
    pub as_of: NaiveDate,
    /// The settings that it goes by.
    pub settings_version: i32,
    /// Whether it only looks and opens nothing.
    pub is_trial: bool,
}

/// Writes a detection down. False when there is one of that id already.
pub async fn create(conn: &mut Conn, tenant: TenantId, new: NewDetection) -> Result<bool> {
    let rows = diesel::sql_query(
        "INSERT INTO winback_detection (tenant_id, id, as_of, settings_version, is_trial)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant_id, id) DO NOTHING",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(new.id.0)
    .bind::<Date, _>(new.as_of)
    .bind::<Integer, _>(new.settings_version)
    .bind::<Bool, _>(new.is_trial)
    .execute(conn)
    .await?;
    Ok(rows == 1)
}

/// Whether there is a detection of that id.
pub async fn exists(conn: &mut Conn, tenant: TenantId, id: OperationId) -> Result<bool> {
    let rows =
        diesel::sql_query("SELECT 1 FROM winback_detection WHERE tenant_id = $1 AND id = $2")
            .bind::<SqlUuid, _>(tenant.0)
            .bind::<SqlUuid, _>(id.0)
            .execute(conn)
            .await?;
    Ok(rows == 1)
}

/// The detection of that id.
///
/// # Errors
/// `Missing` when there is none.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: OperationId) -> Result<Detection> {
    let row: Option<Row> = diesel::sql_query(format!("{SELECT} AND id = $2"))
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id.0)
        .get_result(&mut conn)
        .await
        .optional()?;
    row.ok_or_else(|| StoreError::Missing(resource(id.0)))?
        .try_into()
}

/// The detection that holds: the newest that is done and no trial.
pub async fn newest(conn: &mut Conn, tenant: TenantId) -> Result<Option<Detection>> {
    let row: Option<Row> = diesel::sql_query(format!(
        "{SELECT} AND done_at IS NOT NULL AND NOT is_trial ORDER BY done_at DESC LIMIT 1"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .get_result(conn)
    .await
    .optional()?;
    row.map(Detection::try_from).transpose()
}

/// What detections are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::new("as_of_date", Kind::Date, "as_of"),
        Field::column("settings_version", Kind::Number),
        Field::new("trial", Kind::Flag, "is_trial"),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::nullable("done_time", Kind::Time, "done_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of detections, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Detection>> {
    let base = Statement::numbered(SELECT, &[bound::<SqlUuid, _>(tenant.0)]);
    let page: Page<Row> = list.load(conn, base).await?;
    let rows: Result<Vec<Detection>> = page.rows.into_iter().map(Detection::try_from).collect();
    Ok(Page {
        rows: rows?,
        next: page.next,
    })
}

fn json<T: Serialize>(id: OperationId, value: &T) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| StoreError::Stored(format!("{}: {e}", resource(id.0))))
}

/// Writes down what a detection goes by.
pub async fn set_model(
    conn: &mut Conn,
    tenant: TenantId,
    id: OperationId,
    model: &Model,
) -> Result<()> {
    diesel::sql_query("UPDATE winback_detection SET model = $3 WHERE tenant_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<SqlUuid, _>(id.0)
        .bind::<Jsonb, _>(json(id, model)?)
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes down what a detection found so far, in the transaction of its chunk, and that it is done with it.
pub async fn set_tally(
    conn: &mut Conn,
    tenant: TenantId,
    id: OperationId,
    tally: &Tally,
    is_done: bool,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE winback_detection SET result = $3, done_at = CASE WHEN $4 THEN now() END
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Jsonb, _>(json(id, tally)?)
    .bind::<Bool, _>(is_done)
    .execute(conn)
    .await?;
    Ok(())
}

/// How many customers never bought, by the figures of a detection.
pub async fn never_bought(conn: &mut Conn, tenant: TenantId, id: OperationId) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let row: Row = diesel::sql_query(
        "SELECT (SELECT count(*) FROM customer WHERE tenant_id = $1 AND erased_at IS NULL)
              - (SELECT count(*) FROM winback_figure WHERE tenant_id = $1 AND detection_id = $2) AS n",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(conn)
    .await?;
    Ok(row.n)
}

/// Forgets figures of detections that are over, at most `limit`. Gives how many that were.
pub async fn forget_figures(conn: &mut Conn, tenant: TenantId, limit: i64) -> Result<usize> {
    // By their places: they are never changed, and the join with as many others is saved.
    Ok(diesel::sql_query(
        "WITH old AS (
             SELECT d.id FROM winback_detection d
             WHERE d.tenant_id = $1 AND NOT EXISTS (
                 SELECT FROM operation o WHERE o.tenant_id = $1 AND o.id = d.id
                   AND o.state IN ('queued', 'running')))
         DELETE FROM winback_figure
         WHERE tenant_id = $1 AND ctid = ANY (ARRAY(
             SELECT f.place FROM old
             CROSS JOIN LATERAL (
                 SELECT ctid AS place FROM winback_figure
                 WHERE tenant_id = $1 AND detection_id = old.id LIMIT $2) f
             LIMIT $2))",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?)
}

/// Forgets the operations of detections that were over before a time; the detections stay.
pub async fn forget_operations(
    conn: &mut Conn,
    tenant: TenantId,
    before: DateTime<Utc>,
) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM operation o USING winback_detection d
         WHERE d.tenant_id = $1 AND d.created_at < $2 AND o.tenant_id = $1 AND o.id = d.id
           AND o.state IN ('succeeded', 'failed', 'cancelled')",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Timestamptz, _>(before)
    .execute(conn)
    .await?;
    Ok(())
}
