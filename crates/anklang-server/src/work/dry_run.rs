//! The dry run of a launch: its audience is found and decided as the launch would, and counted.
//!
//! Two steps, each a transaction with the checkpoint: the audience, and what it comes to.

use anklang_domain::approval as rule;
use anklang_domain::offer::OpenOffers;
use anklang_domain::window::start_of_day;
use anklang_domain::{CampaignId, OperationId, forecast};
use anklang_store::approval::Together;
use anklang_store::launch::{self as steps, AudienceOf};
use anklang_store::operation::{self, End, Leased};
use anklang_store::tenant::{self, Tenant};
use anklang_store::{Conn, StoreError, approval, channel_account, channel_route, dry_run};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::launch::{Plan, criteria_do_not_hold, keep_lease, progress};
use super::operations::Interrupted;
use super::{App, moves};
use crate::accounts::Settings;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "DryRunLaunch";

/// Letters that one thread makes in a second: two made 105 for a launch (`tests/load/RESULTS.md`).
const LETTERS_PER_SECOND: i64 = 50;

/// What the worker needs to know; stored with the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DryRun {
    /// The launch; its phase is the dry run's id.
    pub launch: Plan,
    /// The account of the outbound; empty with a route.
    pub account: String,
    /// The route of the outbound.
    #[serde(default)]
    pub route: Option<String>,
    /// The campaign, unless it is a new one.
    #[serde(default)]
    pub campaign: Option<Uuid>,
    /// Who has asked for it, as callers are named.
    #[serde(default)]
    pub by: String,
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
    /// It would wait for an approval.
    #[serde(default)]
    pub needs_approval: bool,
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
    let mut tx = app.store.begin(tenant.id).await?;
    let (now, _) = tenant::clock(&mut tx, tenant.id).await?;
    let launched = launched_at(plan.launch.today, tenant.time_zone, now);
    let finding = steps::freeze(&mut tx, tenant, &freeze, launched);
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
    let id = held.operation.id();
    let mut tx = app.store.begin_work(tenant.id).await?;
    let through = through(app, &mut tx, tenant, plan).await?;
    let counting = outcome(app, &mut tx, tenant, plan, id, &through);
    let outcome = keep_lease(app, held, counting).await?;
    let total = outcome.candidates;
    operation::advance(&mut tx, held, progress("finished", total, total, 0)).await?;
    let response = serde_json::to_value(outcome)
        .map_err(|e| Interrupted::Other(format!("the outcome: {e}")))?;
    operation::finish(&mut tx, held, End::Succeeded(response)).await?;
    tx.commit().await?;
    Ok(())
}

/// The accounts through which it would go, each with its part of the messages.
async fn through(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    plan: &DryRun,
) -> Result<Vec<(Settings, f64)>, Interrupted> {
    // People call, and are not known.
    if plan.launch.calls {
        return Ok(Vec::new());
    }
    accounts(app, conn, tenant, &plan.account, plan.route.as_deref()).await
}

/// An account, or those of a route, each with its part of the messages.
async fn accounts(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    account: &str,
    route: Option<&str>,
) -> Result<Vec<(Settings, f64)>, Interrupted> {
    let gone = |what: String| Interrupted::Hopeless {
        reason: "PRECONDITION",
        message: format!("{what} is not there any more"),
    };
    let mut parts = vec![(account.to_owned(), 1.0)];
    if let Some(id) = route {
        let route = channel_route::get(conn, tenant.id, id).await?;
        let route = route.ok_or_else(|| gone(format!("the route {id}")))?;
        let split = moves::split(app, conn, tenant.id, &route).await?;
        let split = split.ok_or_else(|| gone(format!("an account of the route {id}")))?;
        parts = split
            .parts()
            .map(|(a, part)| (a.to_owned(), part))
            .collect();
    }
    let mut through = Vec::new();
    for (id, part) in parts {
        let own = channel_account::get(conn, tenant.id, &id).await?;
        let configured = || Some(app.accounts.configured_for(tenant, &id)?.settings.clone());
        let settings = own.map(|own| Settings::own(&own)).or_else(configured);
        let settings = settings.ok_or_else(|| gone(format!("the account {id}")))?;
        through.push((settings, part));
    }
    Ok(through)
}

/// What so many messages cost through an account or a route; `None` when that is not known.
pub async fn message_cost(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    (account, route): (&str, Option<&str>),
    messages: i64,
) -> Option<(Decimal, String)> {
    let through = accounts(app, conn, tenant, account, route).await.ok()?;
    let counts = counts(messages, &through);
    let costs = through.iter().zip(counts).map(|((account, _), count)| {
        let cost = account.cost.as_ref();
        cost.map(|(each, currency)| (*each * Decimal::from(count), currency.clone()))
    });
    sum(costs.collect())
}

/// How many of the messages go through each account.
fn counts(messages: i64, through: &[(Settings, f64)]) -> Vec<i64> {
    let mut left = messages;
    let counts = through.iter().enumerate().map(|(i, (_, part))| {
        let count = match i + 1 == through.len() {
            true => left,
            false => part_of(messages, *part).min(left),
        };
        left -= count;
        count
    });
    counts.collect()
}

/// What sending would come to.
#[derive(Default)]
struct Sending {
    before: i64,
    start: Option<DateTime<Utc>>,
    /// None as soon as one account's is not known.
    end: Option<DateTime<Utc>>,
    per_minute: f64,
    cost: Option<(Decimal, String)>,
}

/// How long a launch makes its letters, before it queues any message, with so many threads.
fn making(letters: i64, threads: usize) -> TimeDelta {
    let threads = i64::try_from(threads).unwrap_or(1).max(1);
    TimeDelta::seconds(letters / (LETTERS_PER_SECOND * threads))
}

/// Adds the parts of all accounts up: each sends its own at its own pace, when it is `now` and messages are
/// `queued`.
async fn sending(
    conn: &mut Conn,
    tenant: &Tenant,
    (now, queued): (DateTime<Utc>, DateTime<Utc>),
    members: i64,
    through: &[(Settings, f64)],
) -> Result<Sending, StoreError> {
    let mut all = Sending::default();
    let (mut ends, mut costs) = (Vec::new(), Vec::new());
    for ((account, _), count) in through.iter().zip(counts(members, through)) {
        let backlog = dry_run::backlog(conn, tenant.id, &account.id).await?;
        let interval = interval(conn, tenant, account).await?;
        let zone = tenant.time_zone;
        let end = |start, count, each| forecast::end(start, count, each, account.window, zone);
        // What waits already goes first, from now on.
        let free = interval.and_then(|each| end(now, backlog, each));
        let start = free.map_or(queued, |free| free.max(queued));
        if count > 0 {
            ends.push(interval.and_then(|each| end(start, count, each)));
        }
        let first = forecast::first(start, account.window, zone);
        all.start = all.start.into_iter().chain([first]).min();
        all.before += backlog;
        all.per_minute += interval.map_or(0.0, |i| 60.0 / i.as_seconds_f64());
        let cost = account.cost.as_ref();
        costs.push(cost.map(|(each, c)| (*each * Decimal::from(count), c.clone())));
    }
    let ends: Option<Vec<_>> = ends.into_iter().collect();
    all.end = ends.and_then(|ends| ends.into_iter().max());
    all.cost = sum(costs);
    Ok(all)
}

/// Time between two messages of an account.
async fn interval(
    conn: &mut Conn,
    tenant: &Tenant,
    account: &Settings,
) -> Result<Option<TimeDelta>, StoreError> {
    if let Some(rate) = &account.rate {
        return Ok(Some(rate.interval()));
    }
    let most = dry_run::busiest_minute(conn, tenant.id, &account.id).await?;
    let most = i32::try_from(most).unwrap_or(i32::MAX);
    Ok(TimeDelta::minutes(1).checked_div(most))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "an estimate of a part"
)]
fn part_of(members: i64, part: f64) -> i64 {
    (members as f64 * part).round() as i64
}

/// The sum of costs in one currency; none when one is not known, or is in another.
fn sum(costs: Vec<Option<(Decimal, String)>>) -> Option<(Decimal, String)> {
    let costs: Option<Vec<_>> = costs.into_iter().collect();
    let (amounts, currencies): (Vec<Decimal>, Vec<String>) = costs?.into_iter().unzip();
    let currency = currencies.first()?.clone();
    let one = currencies.iter().all(|c| *c == currency);
    one.then(|| (amounts.into_iter().sum(), currency))
}

async fn outcome(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    plan: &DryRun,
    id: OperationId,
    through: &[(Settings, f64)],
) -> Result<Outcome, StoreError> {
    let size = steps::audience_size(conn, tenant.id, AudienceOf::DryRun(id)).await?;
    let left_out = dry_run::left_out(conn, tenant.id, id).await?;
    let offers = dry_run::offers(conn, tenant.id, id).await?;
    let (now, _) = tenant::clock(conn, tenant.id).await?;
    let launched = launched_at(plan.launch.today, tenant.time_zone, now);
    let documents = match plan.launch.document_template.is_empty() {
        true => 0,
        false => size.members,
    };
    let queued = launched + making(documents, app.config.render_threads);
    let sending = sending(conn, tenant, (now, queued), size.members, through).await?;
    let supersedes = plan.launch.open_offers == OpenOffers::Supersede;
    let policy = approval::policy_for(conn, tenant.id, &plan.by).await?;
    let together = Together {
        by: &plan.by,
        campaign: plan.campaign.map(CampaignId),
        but: None,
    };
    let hours = policy.window_hours;
    let before = approval::without_approval(conn, tenant.id, together, hours).await?;
    Ok(Outcome {
        as_of: plan.launch.today,
        candidates: size.candidates,
        members: size.members,
        left_out: left_out.into_iter().map(|l| (l.exclusion, l.n)).collect(),
        annual_amount: (offers.amount, offers.currency),
        superseded: if supersedes { offers.open } else { 0 },
        documents,
        cost: sending.cost,
        messages_before: sending.before,
        send_start: sending.start.unwrap_or(launched),
        send_end: sending.end,
        messages_per_minute: sending.per_minute,
        needs_approval: rule::is_needed(size.members, before, policy.members_over),
    })
}

/// When a launch on that day begins: now if it is today, else with the day.
fn launched_at(day: NaiveDate, zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
    start_of_day(day, zone).max(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_begins_with_its_day_or_now() {
        let day = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).expect("a day");
        let now = "2026-01-01T12:00:00Z".parse().expect("a time");
        let at = |day| launched_at(day, chrono_tz::Europe::Berlin, now).to_rfc3339();
        assert_eq!(at(day(2035, 7, 1)), "2035-06-30T22:00:00+00:00");
        assert_eq!(at(day(2026, 1, 1)), "2026-01-01T12:00:00+00:00");
    }

    #[test]
    fn a_million_letters_take_hours() {
        assert_eq!(making(1_000_000, 4), TimeDelta::seconds(5_000));
        assert_eq!(making(49, 1), TimeDelta::zero());
    }
}
