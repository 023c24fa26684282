//! Seals the entries of the audit log: numbers and chains those that are committed.
//!
//! A chunk of a tenant is one transaction, under a lock of the tenant's that others do not wait for, so that
//! any number of servers may do so at once, and a server that dies has sealed a chunk or not.

use std::time::Duration;

use anklang_store::{StoreError, audit};
use tokio_util::sync::CancellationToken;

use super::App;

/// How often to look.
const EVERY: Duration = Duration::from_secs(1);
/// Entries that are sealed in one transaction.
const PER_CHUNK: usize = 1_000;

/// Looks again and again until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match round(&app, &stop).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "sealing the audit log"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// A chunk of each tenant: none waits for another's backlog. Says whether more is left.
async fn round(app: &App, stop: &CancellationToken) -> Result<bool, StoreError> {
    let limit = i64::try_from(PER_CHUNK).unwrap_or(i64::MAX);
    let mut left = false;
    for tenant in audit::unsealed(&app.store).await? {
        if stop.is_cancelled() {
            break;
        }
        match audit::seal(&app.store, tenant, limit).await {
            Ok(sealed) => left |= sealed == PER_CHUNK,
            // What fails for one tenant is no matter of the others.
            Err(error) => tracing::warn!(%tenant, %error, "sealing the audit log"),
        }
    }
    Ok(left)
}
