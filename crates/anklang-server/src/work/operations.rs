//! Takes up operations and runs them to their end, again and again if need be.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anklang_domain::phase::PhaseState;
use anklang_store::operation::{self, End, Leased};
use anklang_store::telemetry::without_values;
use anklang_store::winback::mailing as mailing_store;
use anklang_store::{StoreError, launch as launch_store};
use chrono::TimeDelta;
use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{App, bundle, dry_run, launch, mailing, planning, privacy, winback};
use crate::telemetry::{meters, spans};

/// How often to look for operations when nothing wakes the worker.
const POLL: Duration = Duration::from_secs(1);

/// The kinds of operations that this server can do.
pub const KINDS: [&str; 8] = [
    launch::KIND,
    dry_run::KIND,
    bundle::KIND,
    mailing::KIND,
    planning::KIND,
    winback::KIND,
    privacy::export::KIND,
    privacy::erase::KIND,
];

/// Why a run of an operation ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// The server stops: give it back.
    #[error("the server stops")]
    Stopping,
    /// Others have waited longer: give it back.
    #[error("others go first")]
    StoodBack,
    /// It waits for people, and was given back for that.
    #[error("it waits for an approval")]
    Waiting,
    /// Somebody asked for it.
    #[error("cancelled")]
    Cancelled,
    /// It can never succeed.
    #[error("{message}")]
    Hopeless {
        /// Reason of the API's enum.
        reason: &'static str,
        /// In words.
        message: String,
    },
    /// It may succeed another time.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It may succeed another time.
    #[error("{0}")]
    Other(String),
}

/// Runs operations one after the other until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    let lease = TimeDelta::from_std(app.config.operation_lease).unwrap_or(TimeDelta::seconds(30));
    while !stop.is_cancelled() {
        match operation::claim(&app.store, &KINDS, lease).await {
            Ok(Some(held)) => {
                let span = spans::operation(&held.operation);
                work_on(&app, held, &stop).instrument(span).await;
            }
            Ok(None) => wait(&app, &stop).await,
            Err(error) => {
                tracing::warn!(%error, "claiming operations");
                wait(&app, &stop).await;
            }
        }
    }
}

async fn wait(app: &App, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = app.wake.operations.notified() => {}
        () = tokio::time::sleep(POLL) => {}
    }
}

async fn work_on(app: &App, mut held: Leased, stop: &CancellationToken) {
    let (id, kind) = (held.operation.id, held.operation.kind.clone());
    tracing::info!(operation = %id, kind, attempt = held.operation.attempt, step = held.operation.step, "operation");
    let result = match &kind[..] {
        launch::KIND => guarded(launch::run(app, &mut held, stop)).await,
        mailing::KIND => guarded(mailing::run(app, &mut held, stop)).await,
        dry_run::KIND => guarded(dry_run::run(app, &mut held, stop)).await,
        bundle::KIND => guarded(bundle::run(app, &mut held, stop)).await,
        planning::KIND => guarded(planning::run(app, &mut held, stop)).await,
        winback::KIND => guarded(winback::run(app, &mut held, stop)).await,
        privacy::export::KIND => guarded(privacy::export::run(app, &mut held, stop)).await,
        privacy::erase::KIND => guarded(privacy::erase::run(app, &mut held, stop)).await,
        other => Err(Interrupted::Hopeless {
            reason: "INTERNAL",
            message: format!("operations of kind {other} are not known to this version"),
        }),
    };
    let Err(interrupted) = result else {
        tracing::info!(operation = %id, kind, "operation succeeded");
        run_ended(&kind, "succeeded", false);
        return;
    };
    if matches!(
        interrupted,
        Interrupted::Stopping | Interrupted::StoodBack | Interrupted::Waiting
    ) {
        tracing::info!(operation = %id, kind, %interrupted, "operation given back");
    } else {
        // The operation says more, perhaps with values of its request.
        let why = match &interrupted {
            Interrupted::Hopeless { reason, .. } => (*reason).to_owned(),
            other => without_values(&other.to_string()),
        };
        tracing::warn!(operation = %id, kind, interrupted = why, "operation interrupted");
    }
    let ended = match &interrupted {
        Interrupted::Stopping
        | Interrupted::StoodBack
        | Interrupted::Waiting
        | Interrupted::Store(StoreError::LeaseLost) => ("given_back", false),
        Interrupted::Cancelled => ("cancelled", false),
        Interrupted::Hopeless { .. } => ("failed", true),
        Interrupted::Store(_) | Interrupted::Other(_) => ("retried", true),
    };
    let settled = settle(app, &held, interrupted).await;
    if let Err(error) = &settled {
        // Its lease will run out, and somebody else will take it up.
        tracing::warn!(operation = %id, %error, "operation left to its lease");
    }
    let (outcome, failed) = match settled {
        Ok(()) => ended,
        Err(StoreError::LeaseLost) => ("given_back", false),
        Err(_) => ("retried", true),
    };
    run_ended(&kind, outcome, failed);
}

fn run_ended(kind: &str, outcome: &'static str, failed: bool) {
    spans::operation_ended(outcome, failed);
    meters::operation(kind, outcome);
}

/// A panic must not take the worker with it; the transaction under way rolls back.
async fn guarded(work: impl Future<Output = Result<(), Interrupted>>) -> Result<(), Interrupted> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Interrupted::Other("the work panicked; see the log".into())))
}

/// Gives an interrupted operation back, or ends it.
async fn settle(app: &App, held: &Leased, interrupted: Interrupted) -> Result<(), StoreError> {
    let tenant = held.operation.tenant();
    let mut tx = app.store.begin(tenant).await?;
    let end = match interrupted {
        Interrupted::Stopping | Interrupted::StoodBack => {
            operation::release(&mut tx, held).await?;
            return tx.commit().await;
        }
        Interrupted::Waiting | Interrupted::Store(StoreError::LeaseLost) => return Ok(()),
        Interrupted::Cancelled => End::Cancelled,
        Interrupted::Hopeless { reason, message } => End::Failed {
            reason: reason.into(),
            message,
        },
        // Never given up: an outage may last, and a person may cancel.
        Interrupted::Store(error) => {
            operation::retry_later(&mut tx, held, store_trouble(&error)).await?;
            return tx.commit().await;
        }
        Interrupted::Other(error) => {
            operation::retry_later(&mut tx, held, &error).await?;
            return tx.commit().await;
        }
    };
    if let Some(phase) = launch::phase_of(&held.operation) {
        let state = match end {
            End::Cancelled => PhaseState::Cancelled,
            _ => PhaseState::Failed,
        };
        launch_store::abandon(&mut tx, tenant, phase, state).await?;
    }
    bundle::ended(&mut tx, held, &end).await?;
    privacy::ended(&mut tx, held, &end).await?;
    if held.operation.kind == mailing::KIND {
        mailing_store::abandon(&mut tx, tenant, held.operation.id).await?;
    }
    operation::finish(&mut tx, held, end).await?;
    tx.commit().await?;
    app.wake.phases.notify_one();
    Ok(())
}

/// What callers see of an error of the database; the log has the rest.
fn store_trouble(error: &StoreError) -> &'static str {
    if error.is_transient() {
        "the database does not answer; trying again"
    } else {
        "internal error, see the log of the server; trying again"
    }
}
