//! The dry run of a launch: its audience is found and decided as the launch would, and counted.
//!
//! Two steps, each a transaction with the checkpoint: the audience, and what it comes to.

use anklang_domain::offer::OpenOffers;
use anklang_domain::window::start_of_day;
use anklang_domain::{OperationId, forecast};
use anklang_store::launch::{self as steps, AudienceOf};
use anklang_store::operation::{self, End, Leased};
use anklang_store::tenant::Tenant;
use anklang_store::{StoreError, dry_run};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::App;
use super::launch::{Plan, criteria_do_not_hold, keep_lease, progress};
use super::operations::Interrupted;
use crate::accounts::Account;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "DryRunLaunch";

/// What the worker needs to know; stored with the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DryRun {
    /// The launch; its phase is the dry run's id.
    pub launch: Plan,
    /// The account of the outbound.
    pub account: String,
}

/// What came out; stored with the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// The day of the launch.
    pub as_of: NaiveDate,
    /// What the selection finds.
    pub candidates: i64,
    /// Who would get an offer.
    pub members: i64,
    /// Words of reasons, and how many would be left out for each.
    pub left_out: Vec<(String, i64)>,
    /// Sum of the annual amounts, and its currency.
    pub annual_amount: (Decimal, String),
    /// Open offers that would be withdrawn.
    pub superseded: i64,
    /// Documents that would be made.
    pub documents: i64,
    /// Cost of all messages, and its currency.
    pub cost: Option<(Decimal, String)>,
    /// Messages that would go first.
    pub messages_before: i64,
    /// When sending would begin.
    pub send_start: DateTime<Utc>,
    /// When it would end.
    pub send_end: Option<DateTime<Utc>>,
    /// The pace of that.
    pub messages_per_minute: f64,
}

/// Runs a dry run from its checkpoint to its end.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let plan: DryRun = serde_json::from_value(held.operation.request.clone()).map_err(|e| {
        Interrupted::Hopeless {
            reason: "INTERNAL",
            message: format!("the stored request: {e}"),
        }
    })?;
    let tenant = anklang_store::tenant::by_id(&app.store, held.operation.tenant())
        .await?
        .ok_or(StoreError::Missing("the tenant".into()))?;
    loop {
        if held.operation.cancel_requested {
            return Err(Interrupted::Cancelled);
        }
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&held.operation);
        match &held.operation.step[..] {
            "figures" => return figures(app, held, &tenant, &plan).await,
            _ => find_audience(app, held, &tenant, &plan).await?,
        }
    }
}

async fn find_audience(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    plan: &DryRun,
) -> Result<(), Interrupted> {
    if held.operation.step != "audience" {
        let mut tx = app.store.begin_work(tenant.id).await?;
        operation::advance(&mut tx, held, progress("audience", 0, 0, 0)).await?;
        tx.commit().await?;
    }
    let of = AudienceOf::DryRun(held.operation.id());
    let freeze = plan.launch.freeze(of);
    let now = launched_at(plan.launch.today, tenant.time_zone);
    let mut tx = app.store.begin(tenant.id).await?;
    let finding = steps::freeze(&mut tx, tenant, &freeze, now);
    let size = keep_lease(app, held, finding)
        .await
        .map_err(criteria_do_not_hold)?;
    let next = progress("figures", 0, size.candidates, 0);
    operation::advance(&mut tx, held, next).await?;
    tx.commit().await?;
    Ok(())
}

async fn figures(
    app: &App,
    held: &mut Leased,
    tenant: &Tenant,
    plan: &DryRun,
) -> Result<(), Interrupted> {
    let account = app.accounts.get(tenant, &plan.account);
    let Some(account) = account else {
        return Err(Interrupted::Hopeless {
            reason: "PRECONDITION",
            message: format!("the account {} is not configured any more", plan.account),
        });
    };
    let id = held.operation.id();
    let mut tx = app.store.begin_work(tenant.id).await?;
    let counting = outcome(&mut tx, tenant, plan, id, account);
    let outcome = keep_lease(app, held, counting).await?;
    let total = outcome.candidates;
    operation::advance(&mut tx, held, progress("finished", total, total, 0)).await?;
    let response = serde_json::to_value(outcome)
        .map_err(|e| Interrupted::Other(format!("the outcome: {e}")))?;
    operation::finish(&mut tx, held, End::Succeeded(response)).await?;
    tx.commit().await?;
    Ok(())
}

async fn outcome(
    conn: &mut anklang_store::Conn,
    tenant: &Tenant,
    plan: &DryRun,
    id: OperationId,
    account: &Account,
) -> Result<Outcome, StoreError> {
    let size = steps::audience_size(conn, tenant.id, AudienceOf::DryRun(id)).await?;
    let left_out = dry_run::left_out(conn, tenant.id, id).await?;
    let offers = dry_run::offers(conn, tenant.id, id).await?;
    let backlog = dry_run::backlog(conn, tenant.id, &account.id).await?;
    let interval = match &account.rate {
        Some(rate) => Some(rate.interval()),
        None => {
            let most = dry_run::busiest_minute(conn, tenant.id, &account.id).await?;
            let most = i32::try_from(most).unwrap_or(i32::MAX);
            TimeDelta::minutes(1).checked_div(most)
        }
    };
    let launched = launched_at(plan.launch.today, tenant.time_zone);
    let end =
        |start, count, each| forecast::end(start, count, each, account.window, tenant.time_zone);
    // What waits already goes first, from now on.
    let free = interval.and_then(|each| end(Utc::now(), backlog, each));
    let start = free.map_or(launched, |free| free.max(launched));
    let send_end = interval
        .filter(|_| size.members > 0)
        .and_then(|each| end(start, size.members, each));
    let supersedes = plan.launch.open_offers == OpenOffers::Supersede;
    let members = Decimal::from(size.members);
    Ok(Outcome {
        as_of: plan.launch.today,
        candidates: size.candidates,
        members: size.members,
        left_out: left_out.into_iter().map(|l| (l.exclusion, l.n)).collect(),
        annual_amount: (offers.amount, offers.currency),
        superseded: if supersedes { offers.open } else { 0 },
        documents: if plan.launch.document_template.is_empty() {
            0
        } else {
            size.members
        },
        cost: account
            .cost
            .as_ref()
            .map(|(each, c)| (*each * members, c.clone())),
        messages_before: backlog,
        send_start: forecast::first(start, account.window, tenant.time_zone),
        send_end,
        messages_per_minute: interval.map_or(0.0, |i| 60.0 / i.as_seconds_f64()),
    })
}

/// When a launch on that day begins: now if it is today, else with the day.
fn launched_at(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    start_of_day(day, zone).max(Utc::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_begins_with_its_day_or_now() {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).expect("a day");
        let at = |day, zone| launched_at(day, zone).to_rfc3339();
        let berlin = chrono_tz::Europe::Berlin;
        assert_eq!(at(day(2035, 7, 1), berlin), "2035-06-30T22:00:00+00:00");
        assert!(launched_at(day(2026, 1, 1), berlin) <= Utc::now());
    }
}
