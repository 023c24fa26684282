//! Moves phases on: completes those that have come to their end, starts those whose turn it is, and
//! takes back the offers of cancelled ones.
//!
//! Each step is a statement that takes only what is still in the state before, so that any number of
//! servers may do so at once, and a server that dies has done a step or not.

use std::time::Duration;

use anklang_domain::{PhaseId, TenantId};
use anklang_store::{StoreError, phase};
use tokio_util::sync::CancellationToken;

use super::App;

/// How often to look when nobody wakes the worker.
const EVERY: Duration = Duration::from_secs(1);
/// Rest between two chunks.
const BETWEEN_CHUNKS: Duration = Duration::from_millis(10);
/// Offers, and messages, that are taken back in one transaction.
pub const OFFERS_PER_CHUNK: i64 = 5_000;

/// Looks again and again until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = round(&app, &stop).await {
            tracing::warn!(%error, "moving phases on");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = app.wake.phases.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    // In this order: what completes now may let others start.
    let completed = phase::complete_due(&app.store).await?;
    let started = phase::start_due(&app.store).await?;
    if completed + started > 0 {
        tracing::info!(completed, started, "phases");
    }
    if started > 0 {
        app.wake.operations.notify_waiters();
    }
    let mut left = false;
    for (tenant, phase) in phase::winding_up(&app.store).await? {
        if stop.is_cancelled() {
            break;
        }
        // A chunk of each: neither the phases after it nor those to start wait for a large one.
        match wind_up(app, tenant, phase, OFFERS_PER_CHUNK).await {
            Ok(over) => left |= !over,
            Err(error) => tracing::warn!(%tenant, %phase, %error, "taking offers back"),
        }
    }
    if left {
        // Rows that somebody else has locked are skipped: no need to hurry back to them.
        tokio::time::sleep(BETWEEN_CHUNKS).await;
        app.wake.phases.notify_one();
    }
    Ok(())
}

/// Takes back some offers and messages of a cancelled phase; says whether none is left.
pub async fn wind_up(
    app: &App,
    tenant: TenantId,
    phase: PhaseId,
    limit: i64,
) -> Result<bool, StoreError> {
    let mut tx = app.store.begin_work(tenant).await?;
    let over = phase::wind_up(&mut tx, tenant, phase, limit).await?;
    tx.commit().await?;
    Ok(over)
}
