//! Sends messages: claims batches, makes their content, hands them to the channel, records what
//! came of it. One task for each account, with a bounded number of calls at the same time: that of an
//! account of the configuration file looks itself for what is due, that of a tenant's account is woken
//! (`work/accounts.rs`), and ends when the account has changed.
//!
//! A few messages at a time (`group.rs` says how many) are marked in the ledger just before they are handed over, and
//! their outcomes recorded before the next few. So a crash before that mark costs nothing, and after it
//! just those few are ambiguous, which the account's policy decides on.

mod group;
mod leases;
mod make;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anklang_channels::CallError;
use anklang_channels::proto::{self, outcome::Kind};
use anklang_domain::message::{Outcome, after_attempt};
use anklang_store::message::{self, Batch, Claimed, Ended, Terms, Whose};
use anklang_store::{StoreError, pace};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

pub use group::Group;
pub(super) use leases::Leases;

use super::{App, moves};
use crate::accounts::Account;
use crate::telemetry::{meters, spans};

/// Waits between tries to record outcomes: from the first, doubling, to the longest.
const FIRST_RECORD_WAIT: Duration = Duration::from_millis(50);
const LONGEST_RECORD_WAIT: Duration = Duration::from_secs(5);
/// So many tries, about ten minutes; then the lease has run out anyhow, or the database refuses.
const RECORD_TRIES: u32 = 120;

/// How often messages are looked for that lost their sender, at most.
pub(super) const RESCUE_EVERY: Duration = Duration::from_millis(500);

/// A sender that is woken looks by itself only so often.
const LOOK_ANYHOW: Duration = Duration::from_secs(60);

/// Sends the messages of an account of the configuration file until told to stop; then waits for the
/// calls under way.
pub async fn configured(app: App, account: Arc<Account>, stop: CancellationToken) {
    run(app, account, Leases::default(), stop).await;
}

/// Sends an account's messages until told to stop; then waits for the calls under way.
pub(super) async fn run(app: App, account: Arc<Account>, leases: Leases, stop: CancellationToken) {
    let calls = Arc::new(Semaphore::new(account.calls));
    let tasks = TaskTracker::new();
    let is_own = account.tenant.is_some();
    let mut rescued: Option<Instant> = None;
    while !stop.is_cancelled() {
        // While there is much to send, not with each claim.
        if !is_own && rescued.is_none_or(|when| when.elapsed() >= RESCUE_EVERY) {
            rescue(&app, &account, &leases).await;
            rescued = Some(Instant::now());
        }
        let round = async {
            // What is claimed while the plugin is down would only come back.
            match account.instance.is_up() {
                true => send_due(&app, &account, &calls, &tasks, &leases, &stop).await,
                false => Ok(Round::default()),
            }
        };
        let Round { found, again_in } = match round.await {
            Ok(round) => round,
            Err(error) => {
                tracing::warn!(account = account.id, %error, "dispatch");
                Round::default()
            }
        };
        if !found {
            let poll = match is_own {
                true => LOOK_ANYHOW,
                false => app.config.dispatch_poll,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = account.due.notified(), if is_own => {}
                () = app.wake.messages.notified(), if !is_own => {}
                () = tokio::time::sleep(again_in.map_or(poll, |wait| wait.min(poll))) => {}
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// What came of looking for due messages.
#[derive(Debug, Default)]
struct Round {
    /// There were some.
    found: bool,
    /// The soonest that a rate allows one more.
    again_in: Option<Duration>,
}

/// Takes back what lost its sender.
async fn rescue(app: &App, account: &Account, leases: &Leases) {
    let whose = Whose::Account {
        id: &account.id,
        policy: account.policy_at_first(),
        ours: &leases.all(),
    };
    match message::rescue(&app.store, whose).await {
        Ok(found) if found.requeued + found.unknown > 0 => {
            let (requeued, unknown) = (found.requeued, found.unknown);
            tracing::warn!(account = account.id, requeued, unknown, "rescued messages");
            meters::rescued(account.label(), unknown);
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(account = account.id, %error, "rescuing messages"),
    }
}

/// One round over all tenants with due messages.
async fn send_due(
    app: &App,
    account: &Arc<Account>,
    calls: &Arc<Semaphore>,
    tasks: &TaskTracker,
    leases: &Leases,
    stop: &CancellationToken,
) -> Result<Round, StoreError> {
    let mut round = Round::default();
    let terms = Terms {
        limit: account.batch,
        lease_for: lease(app),
        rate: account.rate.as_ref(),
        window: account.window.as_ref(),
        revision: account.revision,
    };
    let tenants = match account.tenant {
        Some(own) => vec![own],
        None => message::due_tenants(&app.store, &account.id).await?,
    };
    for tenant in tenants {
        // First the place, then the claim: nothing is claimed that would have to wait.
        let place = tokio::select! {
            () = stop.cancelled() => return Ok(round),
            place = Arc::clone(calls).acquire_owned() => place.expect("never closed"),
        };
        let claimed = message::claim(&app.store, tenant, &account.id, &terms).await;
        let batch = match claimed {
            Ok(batch) => batch,
            // The tenants after this one must not wait for it.
            Err(error) => {
                tracing::warn!(account = account.id, %tenant, %error, "claiming messages");
                continue;
            }
        };
        round.found |= batch.barred > 0;
        let again_in = batch.again_in.and_then(|wait| wait.to_std().ok());
        round.again_in = round.again_in.into_iter().chain(again_in).min();
        if batch.messages.is_empty() {
            continue;
        }
        round.found = true;
        let held = leases.hold(batch.lease);
        let (app, account) = (app.clone(), Arc::clone(account));
        tasks.spawn(async move {
            let span = spans::batch(&account, &batch.messages);
            send(&app, &account, batch).instrument(span).await;
            drop((held, place));
        });
    }
    Ok(round)
}

fn lease(app: &App) -> TimeDelta {
    TimeDelta::from_std(app.config.dispatch_lease).unwrap_or(TimeDelta::seconds(60))
}

/// Sends a batch while keeping its lease. What cannot be recorded now is left to the lease.
async fn send(app: &App, account: &Arc<Account>, batch: Batch) {
    // Side by side: a database that hangs while the lease is prolonged must not hold up the rest.
    let result = tokio::select! {
        result = hand_over(app, account, &batch) => result,
        never = keep_lease(app, account, &batch) => match never {},
    };
    if let Err(error) = result {
        tracing::warn!(account = account.id, %error, "sending a batch; left to its lease");
    }
}

async fn keep_lease(app: &App, account: &Account, batch: &Batch) -> Infallible {
    loop {
        tokio::time::sleep(app.config.dispatch_lease / 3).await;
        if let Err(error) = message::prolong(&app.store, batch, lease(app)).await {
            tracing::warn!(account = account.id, %error, "prolonging a lease");
        }
    }
}

/// A message with its content.
struct Ready {
    claimed: Claimed,
    message: proto::Message,
}

/// A message whose attempt is over, and what the channel or we said.
struct Over {
    claimed: Claimed,
    outcome: Outcome,
    detail: String,
}

/// Hands a batch over, a few messages at a time: their outcomes and the mark of the next few are one
/// transaction.
async fn hand_over(app: &App, account: &Arc<Account>, batch: &Batch) -> Result<(), StoreError> {
    let (ready, mut over) = make::make_content(app, account, batch).await?;
    let mut ready = VecDeque::from(ready);
    loop {
        let next = next_group(account, &mut ready);
        let mut next = in_time(account, batch, next, &mut over);
        if over.is_empty() && next.is_empty() {
            return Ok(());
        }
        let ours = step(app, account, batch, std::mem::take(&mut over), &next).await?;
        next.retain(|ready| ours.contains(&ready.claimed.id));
        // Marking may have taken long: their sending hours are looked at again.
        let next = in_time(account, batch, next, &mut over);
        if next.is_empty() {
            continue;
        }
        over.extend(submit(account, next).await);
        look_after(app, account, batch, &over);
        if hold_account(app, account, batch, &over).await {
            over.extend(ready.drain(..).map(|Ready { claimed, .. }| Over {
                claimed,
                outcome: Outcome::NotSubmitted,
                detail: "the account is held".into(),
            }));
        }
    }
}

/// Takes the next few messages.
fn next_group(account: &Account, ready: &mut VecDeque<Ready>) -> Vec<Ready> {
    let (mut next, mut bytes) = (Vec::new(), 0);
    while account.group.takes(next.len(), bytes)
        && let Some(taken) = ready.pop_front()
    {
        bytes += taken.message.encoded_len();
        next.push(taken);
    }
    next
}

/// Those whose sending hours have not ended since they were claimed. The others are over.
fn in_time(account: &Account, batch: &Batch, next: Vec<Ready>, over: &mut Vec<Over>) -> Vec<Ready> {
    // Without sending hours it does not matter.
    let now = batch.clock.map_or_else(Utc::now, |clock| clock.now());
    let mut in_time = Vec::new();
    for ready in next {
        match opens_again(account, &ready.claimed, now) {
            // Not before they begin again: else it would be claimed at once, and be late again.
            Some(opens) => over.push(Over {
                claimed: ready.claimed,
                outcome: Outcome::Throttled {
                    retry_after: opens - now,
                    whole_account: false,
                },
                detail: "the sending hours are over".into(),
            }),
            None => in_time.push(ready),
        }
    }
    in_time
}

/// Holds the account for the batch's tenant when its channel asked for it; says whether it did.
async fn hold_account(app: &App, account: &Account, batch: &Batch, over: &[Over]) -> bool {
    let asked = over.iter().filter_map(|over| match over.outcome {
        Outcome::Throttled {
            retry_after,
            whole_account: true,
        } => Some(retry_after),
        _ => None,
    });
    let Some(span) = asked.max() else {
        return false;
    };
    let reason = "the channel asked to slow down";
    if let Err(error) = pace::hold(&app.store, batch.tenant, &account.id, span, reason).await {
        tracing::warn!(account = account.id, %error, "holding the account");
    }
    true
}

/// When nothing of a call went, the account is asked in the background whether it can send at all: routes
/// go by that.
fn look_after(app: &App, account: &Arc<Account>, batch: &Batch, over: &[Over]) {
    let failed = |over: &Over| matches!(over.outcome, Outcome::Transient);
    if !over.is_empty() && over.iter().all(failed) && account.may_ask() {
        let (app, account, tenant) = (app.clone(), Arc::clone(account), batch.tenant);
        tokio::spawn(async move { moves::ask(&app, &account, tenant).await });
    }
}

/// Hands messages that are marked over to the channel; gives their outcomes.
async fn submit(account: &Account, ready: Vec<Ready>) -> Vec<Over> {
    let (claimed, messages): (Vec<Claimed>, Vec<proto::Message>) =
        ready.into_iter().map(|r| (r.claimed, r.message)).unzip();
    let span = spans::hand_over(account, messages.len());
    let request = proto::SendRequest {
        messages,
        traceparent: spans::traceparent(&span),
    };
    let begun = Instant::now();
    let outcomes = match account.instance.send(request).instrument(span).await {
        Ok(outcomes) => {
            meters::handed_over(account.label(), begun);
            outcomes.into_iter().map(read_outcome).collect()
        }
        Err(refused) => not_submitted(&refused, claimed.len()),
    };
    let time = group::is_well(&outcomes).then(|| begun.elapsed());
    account.group.learn(claimed.len(), time);
    let over = claimed.into_iter().zip(outcomes);
    over.map(|(claimed, (outcome, detail))| Over {
        claimed,
        outcome,
        detail,
    })
    .collect()
}

/// When the sending hours begin again where the recipient is, if they are over there.
fn opens_again(account: &Account, claimed: &Claimed, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let zone: Tz = claimed.time_zone.parse().ok()?;
    account.window.as_ref()?.opens(now, zone)
}

/// Records what is over and marks the next messages; gives those that are still ours.
///
/// Patiently: what is sent and not recorded would be in doubt, and perhaps be sent again; so would what is marked, when
/// the answer to that is lost, and never handed over. When the lease is lost meanwhile, only what was taken counts.
async fn step(
    app: &App,
    account: &Account,
    batch: &Batch,
    over: Vec<Over>,
    next: &[Ready],
) -> Result<Vec<Uuid>, StoreError> {
    let ended = decide(account, over);
    let next: Vec<Uuid> = next.iter().map(|ready| ready.claimed.id).collect();
    let (mut wait, mut tries) = (FIRST_RECORD_WAIT, 1);
    let stepped = loop {
        match message::step(&app.store, batch, &ended, &next, lease(app)).await {
            // What no trying again helps, and hands nothing over, is left to the lease.
            Err(error) if tries < RECORD_TRIES && (!ended.is_empty() || error.is_transient()) => {
                tracing::warn!(%error, tries, "recording and marking messages; trying again");
            }
            result => break result?,
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RECORD_WAIT);
        tries += 1;
    };
    meters::messages(account.label(), ended.iter().map(|e| &e.next));
    if stepped.recorded < ended.len() {
        tracing::warn!(
            account = account.id,
            lost = ended.len() - stepped.recorded,
            "outcomes of messages whose lease was lost"
        );
    }
    Ok(stepped.ours)
}

/// What becomes of messages.
fn decide(account: &Account, over: Vec<Over>) -> Vec<Ended> {
    let decided = over.into_iter().map(|over| {
        let Over {
            claimed,
            outcome,
            detail,
        } = over;
        let (failures, jitter) = (claimed.failures, jitter(claimed.id));
        Ended {
            id: claimed.id,
            attempt: claimed.attempt,
            next: after_attempt(&outcome, failures, account.policy_at_first(), jitter),
            outcome,
            detail,
        }
    });
    decided.collect()
}

/// A number in 0..1 out of a message's id: its last bytes are random.
fn jitter(id: Uuid) -> f64 {
    f64::from(u16::from_be_bytes([id.as_bytes()[14], id.as_bytes()[15]])) / 65_536.0
}

/// The plugin took nothing: all of it can be sent again without doubt.
fn not_submitted(refused: &CallError, messages: usize) -> Vec<(Outcome, String)> {
    let outcome = match refused {
        CallError::Busy => Outcome::Throttled {
            retry_after: TimeDelta::seconds(1),
            whole_account: false,
        },
        // No fault of theirs. Nothing is claimed before the plugin is up again.
        CallError::Down(_) | CallError::Closed => Outcome::NotSubmitted,
        _ => Outcome::Transient,
    };
    vec![(outcome, refused.to_string()); messages]
}

pub(crate) fn read_outcome(outcome: proto::Outcome) -> (Outcome, String) {
    // "550 5.1.1" and "5.1.1 User unknown" overlap.
    let words = |code: String, detail: String| match code.rsplit_once(' ') {
        _ if code.is_empty() || detail.starts_with(&code) => detail,
        Some((first, last)) if detail.starts_with(last) => format!("{first} {detail}"),
        _ => format!("{code} {detail}"),
    };
    match outcome.kind {
        Some(Kind::Accepted(a)) => (
            Outcome::Accepted {
                provider_message_id: a.provider_message_id,
            },
            a.detail,
        ),
        Some(Kind::Permanent(p)) => (Outcome::Permanent, words(p.code, p.detail)),
        Some(Kind::Transient(t)) => (Outcome::Transient, words(t.code, t.detail)),
        Some(Kind::Throttled(t)) => {
            let wait = t.retry_after.map_or(1, |d| d.seconds.clamp(1, 86_400));
            (
                Outcome::Throttled {
                    retry_after: TimeDelta::seconds(wait),
                    whole_account: t.scope == "account",
                },
                match &t.scope[..] {
                    "account" => "the channel asked to slow down".into(),
                    _ => t.scope,
                },
            )
        }
        Some(Kind::Ambiguous(a)) => (Outcome::Ambiguous, a.detail),
        None => (Outcome::Ambiguous, "the plugin gave no outcome".into()),
    }
}
