//! What the passing of time asks for: offers expire, interrupted single offers get their document,
//! what was handed over long ago is removed, and calls of long ago are forgotten.

use std::time::Duration;

use anklang_store::StoreError;
use anklang_store::offer;
use anklang_store::request_log;
use anklang_store::tenant::{self, Tenant};
use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{App, handover, launch};

/// How often to look.
const EVERY: Duration = Duration::from_secs(60);
/// Offers that expire in one transaction.
const OFFERS_PER_CHUNK: i64 = 5_000;
/// Interrupted offers that are finished in one round.
const INTERRUPTED_PER_ROUND: i64 = 100;

/// So long a `request_id` is known; `docs/api.md` tells callers.
const REQUESTS_KNOWN_FOR: TimeDelta = TimeDelta::days(7);
/// Calls that are forgotten in one transaction.
const REQUESTS_PER_CHUNK: i64 = 5_000;

/// Looks at all tenants again and again until told to stop. Several servers may do so at once.
pub async fn run(app: App, stop: CancellationToken) {
    loop {
        if let Err(error) = round(&app, &stop).await {
            tracing::warn!(%error, "sweep");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    for tenant in tenant::all(&app.store).await? {
        if stop.is_cancelled() {
            break;
        }
        // What fails for one tenant is no matter of the others.
        let steps = [
            ("offers expire", expire(app, &tenant, stop).await),
            ("interrupted offers", finish_interrupted(app, &tenant).await),
            ("old deliveries", handover::purge(app, &tenant, stop).await),
            ("old requests", forget_requests(app, &tenant, stop).await),
        ];
        for (step, result) in steps {
            if let Err(error) = result {
                tracing::warn!(tenant = tenant.slug, step, %error, "sweep");
            }
        }
    }
    Ok(())
}

async fn expire(app: &App, tenant: &Tenant, stop: &CancellationToken) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let mut tx = app.store.begin_work(tenant.id).await?;
        let today = tenant.day(Utc::now());
        let expired = offer::expire(&mut tx, tenant.id, today, OFFERS_PER_CHUNK).await?;
        tx.commit().await?;
        if expired == 0 {
            return Ok(());
        }
        tracing::info!(tenant = tenant.slug, expired, "offers expired");
    }
    Ok(())
}

async fn forget_requests(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let before = Utc::now() - REQUESTS_KNOWN_FOR;
    while !stop.is_cancelled() {
        let mut tx = app.store.begin_work(tenant.id).await?;
        let forgotten = request_log::purge(&mut tx, tenant.id, before, REQUESTS_PER_CHUNK).await?;
        tx.commit().await?;
        if forgotten < REQUESTS_PER_CHUNK {
            return Ok(());
        }
    }
    Ok(())
}

async fn finish_interrupted(app: &App, tenant: &Tenant) -> Result<(), StoreError> {
    let mut tx = app.store.begin(tenant.id).await?;
    let offers = offer::interrupted(&mut tx, tenant.id, INTERRUPTED_PER_ROUND).await?;
    tx.commit().await?;
    for id in offers {
        match launch::finish_single(app, tenant, id.0).await {
            Ok(Ok(())) => tracing::info!(offer = %id, "interrupted offer has its document"),
            Ok(Err(reason)) => tracing::warn!(offer = %id, reason, "offer without document"),
            Err(error) => tracing::warn!(offer = %id, %error, "offer without document"),
        }
    }
    Ok(())
}
