//! Generates planned contacts, customer by customer in chunks.
//!
//! An operation of its own. First old contacts go, if that is asked for; then chunks of customers are
//! compared and written (`anklang_store::planning::generate`). Each chunk is one transaction with its
//! checkpoint: the last customer that is done, and what was found so far. Killed in between, the chunk
//! is done again.
//!
//! Plans are read when a run begins. What changes while it runs may be seen in part, and is made up for
//! by the next generation.

use std::collections::{HashMap, HashSet};

use anklang_domain::planning::DateRange;
use anklang_domain::{OperationId, TenantId};
use anklang_store::operation::{self, End, Leased};
use anklang_store::planning::generate::{self, Chunk, Found, PlanDay, SAMPLE, Scope, Standing};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::App;
use super::launch::{keep_lease, progress};
use super::operations::Interrupted;
use crate::planning::Plans;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "GeneratePlannedContacts";

/// Old contacts that are removed in one transaction.
const OLD_PER_CHUNK: i64 = 10_000;
/// Entries and dates that are compared in one transaction, about.
const SLOTS_PER_CHUNK: i64 = 100_000;
/// Dates of plans that are kept in memory while a generation runs.
const MOST_DAYS: usize = 300_000;

/// What is generated; stored with the operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which entries.
    pub scope: Scope,
    /// The first contact date.
    pub first: NaiveDate,
    /// The last contact date.
    pub last: NaiveDate,
    /// Up to when old contacts are removed.
    pub delete_until: Option<NaiveDate>,
}

impl Job {
    /// Entries of a chunk: fewer for longer ranges, as each has more dates.
    fn entries_per_chunk(&self) -> i64 {
        let days = (self.last - self.first).num_days() + 1;
        // Plans have one to three dates a week.
        (SLOTS_PER_CHUNK * 4 / days.max(1)).clamp(500, 20_000)
    }

    fn all<'a>(&'a self, plans: &'a [String], after: Uuid) -> Chunk<'a> {
        Chunk {
            plans,
            customers: &self.scope.customers,
            groups: &self.scope.groups,
            first: self.first,
            last: self.last,
            after,
            until: Uuid::max(),
        }
    }

    fn range(&self) -> Result<DateRange, StoreError> {
        DateRange::new(self.first, Some(self.last))
            .map_err(|e| StoreError::Stored(format!("the dates {e}")))
    }
}

/// A generation under way: its plans, and their dates as far as they were needed.
pub struct Generation {
    tenant: Tenant,
    job: Job,
    plans: Vec<String>,
    dates: HashMap<String, Vec<PlanDay>>,
}

impl Generation {
    /// Finds the plans that a job is about.
    pub async fn begin(conn: &mut Conn, tenant: Tenant, job: Job) -> Result<Self, StoreError> {
        let plans = generate::plans(conn, tenant.id, &job.scope).await?;
        Ok(Generation {
            tenant,
            job,
            plans,
            dates: HashMap::new(),
        })
    }

    /// How many entries it is about.
    pub async fn size(&self, conn: &mut Conn) -> Result<i64, StoreError> {
        let all = self.job.all(&self.plans, Uuid::nil());
        generate::entries(conn, self.tenant.id, &all).await
    }

    /// Compares the customers behind one, and writes for an operation. Gives what it found, how many
    /// entries that were, and the last customer, if there are more behind it.
    pub async fn chunk(
        &mut self,
        conn: &mut Conn,
        after: Uuid,
        operation: Option<OperationId>,
        sample: usize,
    ) -> Result<(Found, i64, Option<Uuid>), StoreError> {
        let tenant = self.tenant.id;
        if operation.is_some() {
            generate::begin_chunk(conn, tenant).await?;
        }
        let job = self.job.clone();
        let codes = self.plans.clone();
        let mut chunk = job.all(&codes, after);
        let end = generate::end_of(conn, tenant, &chunk, job.entries_per_chunk()).await?;
        chunk.until = end.unwrap_or(Uuid::max());
        let plans = generate::plans_of(conn, tenant, &chunk).await?;
        self.learn(conn, &plans).await?;
        let days: Vec<PlanDay> = plans
            .iter()
            .filter_map(|plan| self.dates.get(plan))
            .flatten()
            .cloned()
            .collect();
        let found = generate::chunk(conn, tenant, &chunk, &days, operation, sample).await?;
        let entries = generate::entries(conn, tenant, &chunk).await?;
        Ok((found, entries, end))
    }

    /// Finds the dates of plans that are not known yet.
    async fn learn(&mut self, conn: &mut Conn, plans: &[String]) -> Result<(), StoreError> {
        if self.dates.values().map(Vec::len).sum::<usize>() > MOST_DAYS {
            let needed: HashSet<&String> = plans.iter().collect();
            self.dates.retain(|plan, _| needed.contains(plan));
        }
        let is_new = |plan: &&String| !self.dates.contains_key(*plan);
        let new: Vec<String> = plans.iter().filter(is_new).cloned().collect();
        let range = self.job.range()?;
        let loaded = Plans::load(conn, self.tenant.id, &new).await?;
        for plan in new {
            let days = loaded.days(&self.tenant, &plan, range);
            self.dates.insert(plan, days);
        }
        Ok(())
    }

    /// What all of it would do, without doing it.
    pub async fn preview(mut self, conn: &mut Conn) -> Result<Found, StoreError> {
        let mut all = Found::default();
        if let Some(until) = self.job.delete_until {
            let old = self.job.all(&self.plans, Uuid::nil());
            all.add(generate::find_old(conn, self.tenant.id, &old, until).await?);
        }
        let mut after = Some(Uuid::nil());
        while let Some(customer) = after {
            let room = SAMPLE - all.sample.len();
            let (found, _, end) = self.chunk(conn, customer, None, room).await?;
            all.add(found);
            after = end;
        }
        Ok(all)
    }
}

/// Runs a generation from its checkpoint to its end.
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
    let tenant = anklang_store::tenant::by_id(&app.store, held.operation.tenant())
        .await?
        .ok_or(StoreError::Missing("the tenant".into()))?;
    let mut tx = app.store.begin(tenant.id).await?;
    let mut generation = Generation::begin(&mut tx, tenant, job).await?;
    tx.commit().await?;
    loop {
        if held.operation.cancel_requested {
            return Err(Interrupted::Cancelled);
        }
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&held.operation);
        match &held.operation.step[..] {
            "generate" => {
                if generate_chunk(app, held, &mut generation).await? {
                    return Ok(());
                }
            }
            _ => remove_old(app, held, &generation).await?,
        }
        if operation::stand_back(&app.store, held).await? {
            return Err(Interrupted::StoodBack);
        }
    }
}

/// Removes some old contacts, or goes on to generate when none are left.
async fn remove_old(
    app: &App,
    held: &mut Leased,
    generation: &Generation,
) -> Result<(), Interrupted> {
    let (tenant, id) = (generation.tenant.id, held.operation.id());
    let mut tx = app.store.begin(tenant).await?;
    let all = generation.job.all(&generation.plans, Uuid::nil());
    let removed = match generation.job.delete_until {
        None => Vec::new(),
        Some(until) => {
            let work = generate::remove_old(&mut tx, tenant, &all, until, OLD_PER_CHUNK);
            keep_lease(app, held, work).await?
        }
    };
    let count = i64::try_from(removed.len()).unwrap_or(i64::MAX);
    let mut standing = generate::standing(&mut tx, tenant, id).await?;
    standing.found.add(Found::old(count, removed));
    generate::advance(&mut tx, tenant, id, &standing).await?;
    let next = match count {
        0 => progress("generate", 0, generation.size(&mut tx).await?, 0),
        _ => progress("remove_old", held.operation.done + count, 0, 0),
    };
    operation::advance(&mut tx, held, next).await?;
    tx.commit().await?;
    Ok(())
}

/// Generates for some customers; true when they were the last.
async fn generate_chunk(
    app: &App,
    held: &mut Leased,
    generation: &mut Generation,
) -> Result<bool, Interrupted> {
    let (tenant, id) = (generation.tenant.id, held.operation.id());
    let mut tx = app.store.begin(tenant).await?;
    let mut standing = generate::standing(&mut tx, tenant, id).await?;
    let room = SAMPLE.saturating_sub(standing.found.sample.len());
    let after = standing.after.unwrap_or_default();
    let work = generation.chunk(&mut tx, after, Some(id), room);
    let (found, entries, end) = keep_lease(app, held, work).await?;
    standing.found.add(found);
    standing.after = end;
    generate::advance(&mut tx, tenant, id, &standing).await?;
    let (done, total) = (held.operation.done + entries, held.operation.total);
    operation::advance(
        &mut tx,
        held,
        progress("generate", done, total.max(done), 0),
    )
    .await?;
    if end.is_none() {
        finish(&mut tx, held, &standing).await?;
    }
    tx.commit().await?;
    Ok(end.is_none())
}

async fn finish(conn: &mut Conn, held: &Leased, standing: &Standing) -> Result<(), Interrupted> {
    let response = serde_json::to_value(&standing.found)
        .map_err(|e| Interrupted::Other(format!("what was found: {e}")))?;
    operation::finish(conn, held, End::Succeeded(response)).await?;
    Ok(())
}

/// So long the operations of nights are kept.
const NIGHTS_KEPT: TimeDelta = TimeDelta::days(30);

/// Asks for the contacts of the next weeks once a night, whichever server comes first.
pub async fn nightly(app: &App, tenant: &Tenant, now: DateTime<Utc>) -> Result<(), StoreError> {
    let local = now.with_timezone(&tenant.time_zone);
    let (first, horizon) = (local.date_naive(), app.config.planning_horizon);
    if horizon == 0 || local.hour() < app.config.planning_hour {
        return Ok(());
    }
    let Some(last) = first.checked_add_days(Days::new(horizon - 1)) else {
        return Ok(());
    };
    let mut tx = app.store.begin(tenant.id).await?;
    if !generate::wants_night(&mut tx, tenant.id, first).await? {
        return Ok(());
    }
    generate::forget_nights(&mut tx, tenant.id, first - NIGHTS_KEPT).await?;
    let job = Job {
        scope: Scope::default(),
        first,
        last,
        delete_until: None,
    };
    // Otherwise another server has asked meanwhile, and nothing of this is kept.
    if ask(&mut tx, tenant.id, &job, Some(first)).await?.is_some() {
        tx.commit().await?;
        app.wake.operations.notify_waiters();
    }
    Ok(())
}

/// Asks for a generation, in the caller's transaction. `None` when there is one for that night already;
/// the transaction must then be rolled back.
pub async fn ask(
    conn: &mut Conn,
    tenant: TenantId,
    job: &Job,
    night: Option<NaiveDate>,
) -> Result<Option<operation::Operation>, StoreError> {
    let id = OperationId::new();
    let request =
        serde_json::to_value(job).map_err(|e| StoreError::Stored(format!("a generation: {e}")))?;
    let new = operation::NewOperation {
        id,
        kind: KIND,
        resource: "plannedContacts".into(),
        request,
    };
    let operation = operation::create(conn, tenant, new).await?;
    let is_new = generate::begin(conn, tenant, id, night).await?;
    Ok(is_new.then_some(operation))
}
