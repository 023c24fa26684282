//! What the passing of time asks for: offers expire, interrupted single offers get their document,
//! what was handed over long ago is removed, messages of accounts that are gone are taken back,
//! contacts of campaigns are given up when their days are over, calls and contacts of long ago, old dry
//! runs, exports and reports that belong to nothing are forgotten, erasures looked after again, customers who
//! bought again close their winback cases; and each night the contacts of the next weeks are generated, and customers who drift away are
//! looked for.

use std::time::Duration;

use anklang_store::message::{self, Whose};
use anklang_store::planning::calls;
use anklang_store::planning::work::{claim, watch};
use anklang_store::report::{self, Purge};
use anklang_store::tenant::{self, Tenant};
use anklang_store::{StoreError, dry_run, offer, operation, request_log};
use chrono::{TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{App, handover, launch, planning, privacy, winback};

/// How often to look.
const EVERY: Duration = Duration::from_secs(60);
/// Dry runs are kept for so long.
const DRY_RUNS_KEPT: TimeDelta = TimeDelta::days(7);
/// Dry runs that are forgotten in one round.
const DRY_RUNS_PER_ROUND: i64 = 100;
/// Offers that expire in one transaction.
const OFFERS_PER_CHUNK: i64 = 5_000;
/// Contacts that are given up in one transaction.
const CONTACTS_PER_CHUNK: i64 = 5_000;
/// Messages of accounts that this server does not know are taken back when their leases have run out
/// so many lease times ago: another server that knows the account would have done so.
const GRACE_LEASES: u32 = 10;
/// Interrupted offers that are finished in one round.
const INTERRUPTED_PER_ROUND: i64 = 100;

/// So long a `request_id` is known; `docs/api.md` tells callers.
const REQUESTS_KNOWN_FOR: TimeDelta = TimeDelta::days(7);
/// Calls that are forgotten in one transaction.
const REQUESTS_PER_CHUNK: i64 = 5_000;
/// Reports that are forgotten in one transaction.
const REPORTS_PER_CHUNK: i64 = 5_000;
/// Contacts that are gone are forgotten in one transaction, at most.
const GONE_PER_CHUNK: i64 = 10_000;

/// Looks at all tenants again and again until told to stop. Several servers may do so at once. Offers expire beside
/// all else, which may take long.
pub async fn run(app: App, stop: CancellationToken) {
    if let Err(error) = tell_orphaned(&app).await {
        tracing::warn!(%error, "looking for messages of accounts that are not configured");
    }
    tokio::join!(expire_again(&app, &stop), sweep_again(&app, &stop));
}

async fn sweep_again(app: &App, stop: &CancellationToken) {
    loop {
        if let Err(error) = round(app, stop).await {
            tracing::warn!(%error, "sweep");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn expire_again(app: &App, stop: &CancellationToken) {
    loop {
        if let Err(error) = expire(app, stop).await {
            tracing::warn!(%error, "offers expire");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    let of_all = [
        (
            "messages of accounts that are gone",
            rescue_orphaned(app).await,
        ),
        ("old dry runs", forget_dry_runs(app, stop).await),
    ];
    for (step, result) in of_all {
        if let Err(error) = result {
            tracing::warn!(step, %error, "sweep");
        }
    }
    for tenant in tenant::all(&app.store).await? {
        if stop.is_cancelled() {
            break;
        }
        // What fails for one tenant is no matter of the others.
        let steps = [
            ("interrupted offers", finish_interrupted(app, &tenant).await),
            ("old deliveries", handover::purge(app, &tenant, stop).await),
            ("old requests", forget_requests(app, &tenant, stop).await),
            ("old reports", forget_reports(app, &tenant, stop).await),
            ("contacts of silent people", take_back(app, &tenant).await),
            (
                "contacts whose last day is over",
                give_up_ended(app, &tenant, stop).await,
            ),
            (
                "contacts that are gone",
                forget_gone(app, &tenant, stop).await,
            ),
            (
                "contacts",
                planning::nightly(app, &tenant, Utc::now()).await,
            ),
            (
                "winback mails that came to nothing",
                winback::undo_lost(app, &tenant, stop).await,
            ),
            (
                "customers won back",
                winback::win_back(app, &tenant, stop).await,
            ),
            (
                "old figures of customers",
                winback::forget(app, &tenant, stop).await,
            ),
            (
                "exports and erasures",
                privacy::tidy(app, &tenant, stop).await,
            ),
            (
                "customers who drift away",
                winback::nightly(app, &tenant, Utc::now()).await,
            ),
        ];
        for (step, result) in steps {
            if let Err(error) = result {
                tracing::warn!(tenant = tenant.slug, step, %error, "sweep");
            }
        }
    }
    Ok(())
}

/// Says for which accounts that are not configured here messages wait, and how many.
async fn tell_orphaned(app: &App) -> Result<(), StoreError> {
    for orphaned in message::orphaned(&app.store, &app.accounts.configured_ids()).await? {
        tracing::warn!(
            account = orphaned.account,
            messages = orphaned.messages,
            "messages wait for an account that is not configured here"
        );
    }
    Ok(())
}

/// Takes back messages that were being sent through an account which was taken out of the
/// configuration: nobody else would. Of what may have arrived nobody knows; a person decides.
async fn rescue_orphaned(app: &App) -> Result<(), StoreError> {
    let grace = app.config.dispatch_lease * GRACE_LEASES;
    let whose = Whose::NoneOf {
        accounts: &app.accounts.configured_ids(),
        grace: TimeDelta::from_std(grace).unwrap_or(TimeDelta::hours(1)),
    };
    let rescued = message::rescue(&app.store, whose).await?;
    if rescued.requeued + rescued.unknown > 0 {
        tracing::warn!(
            requeued = rescued.requeued,
            unknown = rescued.unknown,
            "rescued messages of accounts that are not configured"
        );
    }
    Ok(())
}

/// A chunk of each tenant in turn, as long as any is left: one with very many keeps no others waiting.
async fn expire(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    let mut tenants = tenant::all(&app.store).await?;
    while !tenants.is_empty() {
        let mut more = Vec::new();
        for tenant in tenants {
            if stop.is_cancelled() {
                return Ok(());
            }
            match expire_some(app, &tenant).await {
                Ok(0) => {}
                Ok(expired) => {
                    tracing::info!(tenant = tenant.slug, expired, "offers expired");
                    more.push(tenant);
                }
                // What fails for one tenant is no matter of the others.
                Err(error) => tracing::warn!(tenant = tenant.slug, %error, "offers expire"),
            }
        }
        tenants = more;
    }
    Ok(())
}

async fn expire_some(app: &App, tenant: &Tenant) -> Result<usize, StoreError> {
    let mut tx = app.store.begin_work(tenant.id).await?;
    let expired = offer::expire(&mut tx, tenant, OFFERS_PER_CHUNK).await?;
    tx.commit().await?;
    Ok(expired)
}

async fn forget_dry_runs(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    let before = Utc::now() - DRY_RUNS_KEPT;
    for (tenant, id) in dry_run::old(&app.store, before, DRY_RUNS_PER_ROUND).await? {
        if stop.is_cancelled() {
            break;
        }
        let mut tx = app.store.begin_work(tenant).await?;
        match operation::delete(&mut tx, tenant, id).await {
            // Another server was faster.
            Ok(()) | Err(StoreError::Missing(_)) => tx.commit().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn forget_requests(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let (age, limit) = (REQUESTS_KNOWN_FOR, REQUESTS_PER_CHUNK);
    while !stop.is_cancelled() {
        let mut tx = app.store.begin_work(tenant.id).await?;
        let forgotten = request_log::purge(&mut tx, tenant.id, age, limit).await?;
        tx.commit().await?;
        if forgotten < limit {
            return Ok(());
        }
    }
    Ok(())
}

/// Reports by ids of the provider's that never came to belong to a message.
async fn forget_reports(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let purge = Purge {
        age: app.config.channels.unmatched,
        limit: REPORTS_PER_CHUNK,
    };
    while !stop.is_cancelled() {
        let forgotten = report::purge_waiting(&app.store, tenant.id, purge).await?;
        if forgotten > 0 {
            tracing::info!(
                tenant = tenant.slug,
                forgotten,
                "reports that belong to no message"
            );
        }
        if i64::try_from(forgotten).unwrap_or(0) < REPORTS_PER_CHUNK {
            return Ok(());
        }
    }
    Ok(())
}

/// Contacts go back to the list when their people have fallen silent; who asks for the next one does
/// the same, so this is for when nobody asks.
async fn take_back(app: &App, tenant: &Tenant) -> Result<(), StoreError> {
    let back = claim::take_all_back(&app.store, tenant.id).await?;
    if back > 0 {
        tracing::info!(tenant = tenant.slug, back, "contacts are on the list again");
    }
    Ok(())
}

/// Customers of campaigns who were not reached in their days.
async fn give_up_ended(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let mut tx = app.store.begin_work(tenant.id).await?;
        let given_up = calls::give_up_ended(&mut tx, tenant.id, CONTACTS_PER_CHUNK).await?;
        tx.commit().await?;
        if given_up == 0 {
            return Ok(());
        }
        tracing::info!(tenant = tenant.slug, given_up, "contacts given up");
    }
    Ok(())
}

/// Who watches the work list needs to know of contacts that are gone for as long as tokens last.
async fn forget_gone(
    app: &App,
    tenant: &Tenant,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    while !stop.is_cancelled() {
        let mut tx = app.store.begin_work(tenant.id).await?;
        let forgotten = watch::forget(&mut tx, tenant.id, GONE_PER_CHUNK).await?;
        tx.commit().await?;
        if forgotten < GONE_PER_CHUNK {
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
            // Why is in the offer: a template may quote of the customer what it could not use.
            Ok(Err(_)) => {
                tracing::warn!(offer = %id, "offer withdrawn: its document cannot be made")
            }
            Err(error) => {
                // The same would stop the others; this one waits longer than they do.
                tracing::warn!(offer = %id, %error, "offer without document");
                break;
            }
        }
    }
    Ok(())
}
