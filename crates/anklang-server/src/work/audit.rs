//! Seals the entries of the audit log: numbers and chains those that are committed. And lets old ones go, where the
//! configuration says how long they are kept.
//!
//! A chunk of a tenant is one transaction, under a lock of the tenant's that others do not wait for, so that
//! any number of servers may do so at once, and a server that dies has sealed a chunk or not.

use std::time::{Duration, Instant};

use anklang_store::audit::Retired;
use anklang_store::{StoreError, audit};
use tokio_util::sync::CancellationToken;

use super::App;

/// How often to look.
const EVERY: Duration = Duration::from_secs(1);
/// Entries that are sealed in one transaction.
const PER_CHUNK: usize = 1_000;

/// How often to look for entries that are too old; a tenant's go once a day, unless there are more than go at once.
const RETIRE_EVERY: Duration = Duration::from_secs(3_600);
/// Entries that go in one transaction.
const GO_AT_ONCE: i32 = 20_000;

/// Looks again and again until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    let mut retire_next = Instant::now();
    while !stop.is_cancelled() {
        if let Some(days) = app.config.audit_keep_days
            && Instant::now() >= retire_next
        {
            // What was told goes when that is sealed, so it looks again soon.
            let wait = match retire(&app, days, &stop).await {
                Ok(true) => EVERY,
                Ok(false) => RETIRE_EVERY,
                Err(error) => {
                    tracing::warn!(%error, "removing old entries of the audit log");
                    RETIRE_EVERY
                }
            };
            retire_next = Instant::now() + wait;
        }
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

/// A chunk of each tenant's old entries. Says whether something was done, so that more may be to do.
async fn retire(app: &App, days: i32, stop: &CancellationToken) -> Result<bool, StoreError> {
    let mut did = false;
    for tenant in audit::tenants(&app.store).await? {
        if stop.is_cancelled() {
            break;
        }
        match audit::retire(&app.store, tenant, days, GO_AT_ONCE).await {
            Ok(retired) => {
                if retired.removed > 0 {
                    let removed = retired.removed;
                    tracing::info!(%tenant, removed, "old entries of the audit log are gone");
                }
                did |= retired != Retired::default();
            }
            Err(error) => {
                tracing::warn!(%tenant, %error, "removing old entries of the audit log");
            }
        }
    }
    Ok(did)
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
