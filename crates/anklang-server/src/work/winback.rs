//! Detections: who drifts away, as an operation of three steps, and each night for tenants that want it;
//! and cases that customers close by buying again.
//!
//! - **sums**: one statement over the order history (`store::winback::figures`).
//! - **model**: season, BG/NBD and Gamma-Gamma are fitted, between two transactions; where there is no
//!   model, the rule goes on alone.
//! - **judge**: customers in chunks by id, each one transaction with its checkpoint, which is in the
//!   detection's row: the last customer that is done, and what was found so far.
//!
//! Killed in between, a step or chunk is done again; nothing of it was there.

use std::sync::Arc;

use anklang_domain::winback::{BgNbd, GammaGamma, SeasonIndex};
use anklang_domain::{OperationId, TenantId};
use anklang_store::operation::{self, End, Leased, NewOperation, Operation};
use anklang_store::selection::Prepared;
use anklang_store::tenant::{self, Tenant};
use anklang_store::winback::detection::{self, Detection, Model, NewDetection, Part, Tally};
use anklang_store::winback::judge::{self, Judge, Verdicts};
use anklang_store::winback::settings::{self, Settings};
use anklang_store::winback::{figures, lost, won_back};
use anklang_store::{Conn, StoreError};
use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::App;
use super::launch::{criteria_do_not_hold, keep_lease, progress};
use super::operations::Interrupted;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "DetectWinback";

/// Why a detection has no season although there may be one.
const NO_SEASON: &str = "the settings do not take it out";

/// Customers that are judged in one transaction.
const CUSTOMERS_PER_CHUNK: i64 = 10_000;
/// From so many customers on the statistics of their figures are gathered.
const MANY: i64 = 10_000;
/// Figures that are forgotten in one transaction.
const FIGURES_PER_CHUNK: i64 = 50_000;
/// Cases that are closed in one transaction.
const CASES_PER_CHUNK: i64 = 1_000;
/// So long the operations of detections are kept; the detections stay.
const OPERATIONS_KEPT: TimeDelta = TimeDelta::days(30);

/// A detection that is asked for; stored with its operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The last day that is looked at.
    pub as_of: NaiveDate,
    /// As of when exclusions hold.
    pub at: DateTime<Utc>,
    /// Whether it only looks and opens nothing.
    pub is_trial: bool,
}

impl Job {
    /// A detection as of a day, asked for now: exclusions hold as of the end of the day, or as of now when
    /// that is earlier.
    pub fn new(as_of: NaiveDate, is_trial: bool, tenant: &Tenant, now: DateTime<Utc>) -> Job {
        Job {
            as_of,
            at: end_of(as_of, tenant).min(now),
            is_trial,
        }
    }
}

/// The last second of a day.
pub fn end_of(day: NaiveDate, tenant: &Tenant) -> DateTime<Utc> {
    let next = day.succ_opt().unwrap_or(day);
    let midnight = chrono::NaiveTime::MIN;
    let begin = anklang_domain::planning::instant(next, midnight, tenant.time_zone);
    begin - TimeDelta::seconds(1)
}

/// Asks for a detection, in the caller's transaction. `None` when there is one with that id already; the
/// transaction must then be rolled back.
pub async fn ask(
    conn: &mut Conn,
    tenant: TenantId,
    id: OperationId,
    job: &Job,
) -> Result<Option<Operation>, StoreError> {
    let settings = settings::pinned(conn, tenant).await?;
    let new = NewDetection {
        id,
        as_of: job.as_of,
        settings_version: settings.version,
        is_trial: job.is_trial,
    };
    if !detection::create(conn, tenant, new).await? {
        return Ok(None);
    }
    let request =
        serde_json::to_value(job).map_err(|e| StoreError::Stored(format!("a detection: {e}")))?;
    let new = NewOperation {
        id,
        kind: KIND,
        resource: detection::resource(id.0),
        request,
    };
    Ok(Some(operation::create(conn, tenant, new).await?))
}

/// One detection under way.
struct Run<'a> {
    app: &'a App,
    held: &'a mut Leased,
    tenant: Tenant,
    job: Job,
    settings: Settings,
}

/// What is needed to judge, made once in a run.
struct Judging {
    judge: Arc<Judge>,
    exclusions: Vec<Prepared>,
}

/// Runs a detection from its checkpoint to its end.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let job: Job = serde_json::from_value(held.operation.request.clone()).map_err(|e| {
        Interrupted::Hopeless {
            reason: "INTERNAL",
            message: format!("the stored request: {e}"),
        }
    })?;
    let tenant = tenant::by_id(&app.store, held.operation.tenant())
        .await?
        .ok_or(StoreError::Missing("the tenant".into()))?;
    let mut tx = app.store.begin(tenant.id).await?;
    let detection = detection::get(&tx, tenant.id, held.operation.id()).await?;
    let version = detection.settings_version;
    let settings = settings::version(&mut tx, tenant.id, version)
        .await?
        .settings;
    tx.commit().await?;
    let mut run = Run {
        app,
        held,
        tenant,
        job,
        settings,
    };
    let mut judging = None;
    loop {
        if run.held.operation.cancel_requested {
            return Err(Interrupted::Cancelled);
        }
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&run.held.operation);
        match &run.held.operation.step[..] {
            "judge" => {
                let judging = match &judging {
                    Some(known) => known,
                    None => judging.insert(run.judging().await?),
                };
                if run.judge(judging).await? {
                    return Ok(());
                }
            }
            "model" => run.model().await?,
            _ => run.sums().await?,
        }
        if operation::stand_back(&run.app.store, run.held).await? {
            return Err(Interrupted::StoodBack);
        }
    }
}

impl Run<'_> {
    fn id(&self) -> OperationId {
        self.held.operation.id()
    }

    async fn detection(&self, conn: &mut Conn) -> Result<Detection, StoreError> {
        detection::get(conn, self.tenant.id, self.id()).await
    }

    /// Step 1: the sums of all customers, and the season, which comes out of them.
    async fn sums(&mut self) -> Result<(), Interrupted> {
        let judge = Judge::new(&self.settings, &Model::default(), self.job.as_of)?;
        let mut tx = self.app.store.begin(self.tenant.id).await?;
        let look = judge.look(&self.tenant);
        let seasonal = self.settings.detection.comparison.season();
        let gathering = figures::gather(&mut tx, self.id(), &look, seasonal);
        let gathered = keep_lease(self.app, self.held, gathering).await?;
        let weeks = gathered.weeks.into_iter();
        let season = match seasonal {
            true => Part::of(SeasonIndex::of_revenue(
                weeks.map(|week| (week.week, week.revenue)),
            )),
            false => Part::Missing(NO_SEASON.into()),
        };
        let model = Model {
            customers: gathered.customers,
            season,
            ..Model::default()
        };
        detection::set_model(&mut tx, self.tenant.id, self.id(), &model).await?;
        let next = progress("model", 0, gathered.customers, 0);
        operation::advance(&mut tx, self.held, next).await?;
        tx.commit().await?;
        if gathered.customers >= MANY
            && let Err(error) = self.app.store.analyze(&["winback_figure"]).await
        {
            // Better plans for what follows; it works without.
            tracing::warn!(%error, "gathering statistics");
        }
        Ok(())
    }

    /// Step 2: the models, fitted while no transaction is open.
    async fn model(&mut self) -> Result<(), Interrupted> {
        let (tenant, id) = (self.tenant.id, self.id());
        let mut tx = self.app.store.begin(tenant).await?;
        let model = self.detection(&mut tx).await?.model.unwrap_or_default();
        let (as_of, customers) = (self.job.as_of, model.customers);
        let reading = async {
            let purchases = figures::purchases(&mut tx, tenant, id, as_of, customers).await?;
            let spending = figures::spending(&mut tx, tenant, id, customers).await?;
            Ok::<_, StoreError>((purchases, spending))
        };
        let (purchases, (spending, left_out)) = keep_lease(self.app, self.held, reading).await?;
        tx.commit().await?;
        let fitting = async {
            let fit = move || (BgNbd::fit(&purchases), GammaGamma::fit(&spending));
            let fitted = tokio::task::spawn_blocking(fit).await;
            fitted.map_err(|e| StoreError::Stored(format!("the fit: {e}")))
        };
        let (often, value) = keep_lease(self.app, self.held, fitting).await?;
        let model = Model {
            often: Part::of(often),
            value: Part::of(value),
            left_out,
            ..model
        };
        let mut tx = self.app.store.begin(tenant).await?;
        detection::set_model(&mut tx, tenant, id, &model).await?;
        operation::advance(&mut tx, self.held, progress("judge", 0, customers, 0)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn judging(&self) -> Result<Judging, Interrupted> {
        let mut tx = self.app.store.begin(self.tenant.id).await?;
        let model = self.detection(&mut tx).await?.model.unwrap_or_default();
        let (settings, at) = (&self.settings, self.job.at);
        let exclusions = judge::exclusions(&mut tx, &self.tenant, settings, at).await;
        let exclusions = exclusions.map_err(criteria_do_not_hold)?;
        tx.commit().await?;
        Ok(Judging {
            judge: Arc::new(Judge::new(settings, &model, self.job.as_of)?),
            exclusions,
        })
    }

    /// Step 3: judges some customers; true when they were the last.
    async fn judge(&mut self, judging: &Judging) -> Result<bool, Interrupted> {
        let mut tx = self.app.store.begin(self.tenant.id).await?;
        let work = self.judge_chunk(&mut tx, judging);
        let (tally, seen) = keep_lease(self.app, self.held, work).await?;
        let is_done = seen < CUSTOMERS_PER_CHUNK;
        let (tenant, id) = (self.tenant.id, self.id());
        detection::set_tally(&mut tx, tenant, id, &tally, is_done).await?;
        let (done, total) = (self.held.operation.done + seen, self.held.operation.total);
        let next = progress("judge", done, total.max(done), 0);
        operation::advance(&mut tx, self.held, next).await?;
        if is_done {
            let response = serde_json::Value::Null;
            operation::finish(&mut tx, self.held, End::Succeeded(response)).await?;
        }
        tx.commit().await?;
        Ok(is_done)
    }

    /// What was found when some more customers are judged, and how many they were.
    async fn judge_chunk(
        &self,
        conn: &mut Conn,
        judging: &Judging,
    ) -> Result<(Tally, i64), StoreError> {
        let (tenant, id) = (self.tenant.id, self.id());
        let mut tally = self.detection(conn).await?.tally;
        let (after, limit) = (tally.after, CUSTOMERS_PER_CHUNK);
        let exclusions = &judging.exclusions;
        let candidates = judge::candidates(conn, tenant, id, exclusions, after, limit).await?;
        let seen = i64::try_from(candidates.len()).unwrap_or(limit);
        tally.after = candidates.last().map(|last| last.figures.customer_id);
        let judge = Arc::clone(&judging.judge);
        let judged = tokio::task::spawn_blocking(move || {
            let found = judge.judge(&candidates, &mut tally);
            (tally, found)
        });
        let judged = judged.await;
        let (mut tally, mut found) =
            judged.map_err(|e| StoreError::Stored(format!("judging: {e}")))?;
        let look = judging.judge.look(&self.tenant);
        judge::add_lost_groups(conn, &look, &mut found).await?;
        if !self.job.is_trial {
            judge::begin_chunk(conn, tenant).await?;
        }
        let verdicts = Verdicts {
            tenant: &self.tenant,
            detection: id,
            as_of: self.job.as_of,
            rest_days: self.settings.rest_days,
            found: &found,
        };
        verdicts.write(conn, self.job.is_trial, &mut tally).await?;
        if seen < limit {
            let never = detection::never_bought(conn, tenant, id).await?;
            tally.customers += never;
            if never > 0 {
                tally.count("never_bought", "", never);
            }
        }
        Ok((tally, seen))
    }
}

/// Asks for a detection as of the day before, once a night, whichever server comes first.
pub async fn nightly(app: &App, tenant: &Tenant, now: DateTime<Utc>) -> Result<(), StoreError> {
    let local = now.with_timezone(&tenant.time_zone);
    let night = local.date_naive();
    let Some(as_of) = night.pred_opt() else {
        return Ok(());
    };
    if local.hour() < app.config.planning_hour {
        return Ok(());
    }
    let id = id_of_night(tenant.id, night);
    let mut tx = app.store.begin(tenant.id).await?;
    let wanted = settings::get(&tx, tenant.id).await?.settings.nightly;
    if !wanted || detection::exists(&mut tx, tenant.id, id).await? {
        return Ok(());
    }
    detection::forget_operations(&mut tx, tenant.id, now - OPERATIONS_KEPT).await?;
    let job = Job::new(as_of, false, tenant, now);
    // Otherwise another server has asked meanwhile, and nothing of this is kept.
    if ask(&mut tx, tenant.id, id, &job).await?.is_some() {
        tx.commit().await?;
        app.wake.operations.notify_waiters();
    }
    Ok(())
}

/// The id of the detection of a night: the same on every server, and in the order of time.
fn id_of_night(tenant: TenantId, night: NaiveDate) -> OperationId {
    let hash = Sha256::new()
        .chain_update(b"winback ")
        .chain_update(tenant.0.as_bytes())
        .chain_update(night.to_string())
        .finalize();
    let mut rest = [0; 10];
    rest.copy_from_slice(&hash[..10]);
    let begin = night.and_time(chrono::NaiveTime::MIN).and_utc();
    let millis = u64::try_from(begin.timestamp_millis()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &rest);
    OperationId(id.into_uuid())
}

/// Forgets the figures of detections that hold no more.
pub async fn forget(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let mut tx = app.store.begin(tenant.id).await?;
        let gone = detection::forget_figures(&mut tx, tenant.id, FIGURES_PER_CHUNK).await?;
        tx.commit().await?;
        if i64::try_from(gone).unwrap_or(0) < FIGURES_PER_CHUNK {
            return Ok(());
        }
    }
    Ok(())
}

/// Undoes what mails that came to nothing have made of their cases.
pub async fn undo_lost(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let mut tx = app.store.begin(tenant.id).await?;
        let undone = lost::undo(&mut tx, tenant, CASES_PER_CHUNK).await?;
        tx.commit().await?;
        if i64::try_from(undone).unwrap_or(0) < CASES_PER_CHUNK {
            return Ok(());
        }
    }
    Ok(())
}

/// Closes the cases of customers who have bought again.
pub async fn win_back(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let mut tx = app.store.begin(tenant.id).await?;
        let settings = settings::get(&tx, tenant.id).await?.settings;
        let today = tenant.day(Utc::now());
        let closed = won_back::close(&mut tx, tenant, &settings, today, CASES_PER_CHUNK).await?;
        tx.commit().await?;
        if closed > 0 {
            tracing::info!(tenant = tenant.slug, closed, "customers won back");
        }
        if i64::try_from(closed).unwrap_or(0) < CASES_PER_CHUNK {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn nights_have_ids_of_their_own_in_the_order_of_time() {
        let tenant = TenantId(Uuid::from_u128(1));
        let day = |text: &str| text.parse::<NaiveDate>().expect("a date");
        let id = |tenant, text| id_of_night(tenant, day(text)).0;
        let first = id(tenant, "2026-11-22");
        assert_eq!(first, id(tenant, "2026-11-22"));
        assert!(first < id(tenant, "2026-11-23"));
        assert_ne!(first, id(TenantId(Uuid::from_u128(2)), "2026-11-22"));
        assert_eq!(first.get_version_num(), 7);
    }
}
