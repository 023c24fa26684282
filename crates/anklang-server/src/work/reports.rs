//! What comes back from channels: commits it, then says so.
//!
//! A plugin with sessions tells by numbered events; they are committed many at a time and then
//! acknowledged, and only then does the plugin acknowledge its peer. Killed between, the peer tells
//! again, which changes nothing. Events wait in a bounded queue; when it is full the plugin waits, and
//! with it its peer: while the database is away nothing is acknowledged, and nothing lost. Requests of
//! providers ([`crate::callbacks`]) are committed by the same [`record`].

mod read;

use std::sync::Arc;
use std::time::Duration;

use anklang_channels::{CallError, Events, PluginEvent};
use anklang_domain::TenantId;
use anklang_store::report::{self, Source};
use anklang_store::tenant::{self, Tenant};
use anklang_store::{StoreError, inbound};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::accounts::Account;
use crate::telemetry::{meters, plugins, spans};

pub use read::{News, read};

/// Events that are committed together.
const BATCH: usize = 500;
/// Batches that are committed and not acknowledged, at most.
const UNACKNOWLEDGED: usize = 16;
/// Waiting reports that are tried again in one transaction.
const MATCHED_AT_ONCE: i64 = 500;
/// How often to look for waiting reports that are due.
const MATCH_EVERY: Duration = Duration::from_secs(1);
/// Waits between tries to commit or to acknowledge: from the first, doubling, to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Takes what an account tells, until told to stop.
pub async fn run(app: App, account: Arc<Account>, stop: CancellationToken) {
    let Some(events) = account.instance.events() else {
        tracing::error!(
            account = account.id,
            "its events are taken by somebody else"
        );
        return;
    };
    let Events {
        deliveries,
        telemetry,
    } = events;
    // To the end of the instance: what it tells of its drain is worth a line.
    tokio::spawn(plugins::forward(
        app.clone(),
        Arc::clone(&account),
        telemetry,
    ));
    // An acknowledgement that takes its time does not hold up the next commit.
    let (committed, acknowledged) = mpsc::channel(UNACKNOWLEDGED);
    tokio::join!(
        take(&app, &account, deliveries, committed, &stop),
        acknowledge(&account, acknowledged, &stop),
        match_waiting(&app, &account, &stop),
    );
}

/// Commits events, batch by batch, and passes their numbers on.
async fn take(
    app: &App,
    account: &Account,
    mut events: mpsc::Receiver<PluginEvent>,
    committed: mpsc::Sender<Vec<u64>>,
    stop: &CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        tokio::select! {
            () = stop.cancelled() => return,
            taken = events.recv_many(&mut batch, BATCH) => if taken == 0 {
                return;
            }
        }
        let (ids, news) = sort(app, account, &batch);
        if !commit(app, account, &news, stop).await {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            passed = committed.send(ids) => if passed.is_err() {
                return;
            }
        }
    }
}

/// The numbers of events, and what they say.
fn sort(app: &App, account: &Account, batch: &[PluginEvent]) -> (Vec<u64>, News) {
    let (mut ids, mut deliveries, mut inbound) = (Vec::new(), Vec::new(), Vec::new());
    for event in batch {
        match event {
            PluginEvent::Delivery(event) => {
                ids.push(event.event_id);
                deliveries.push(event);
            }
            PluginEvent::Inbound(event) => {
                ids.push(event.event_id);
                inbound.push(event);
            }
        }
    }
    ids.retain(|id| *id != 0);
    let words = &app.config.channels.stop_words;
    (ids, read(account, deliveries, inbound, words))
}

/// Commits for as long as it takes; false when told to stop before.
async fn commit(app: &App, account: &Account, news: &News, stop: &CancellationToken) -> bool {
    let mut wait = FIRST_WAIT;
    loop {
        let done = async {
            let tenants = tenants(app, account).await?;
            record(app, account, &tenants, &tenants, news).await
        };
        match done.await {
            Ok(()) => return true,
            Err(error) => {
                tracing::warn!(account = account.id, %error, "recording events; trying again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// The tenants that an account may be telling of.
pub async fn tenants(app: &App, account: &Account) -> Result<Vec<TenantId>, StoreError> {
    let all = tenant::all(&app.store).await?;
    let live = &app.accounts.live;
    // A tenant's own account of that id hides one of the configuration file.
    let theirs = all.iter().filter(|tenant| {
        let hidden = account.tenant.is_none() && live.state(tenant.id, &account.id).is_some();
        account.is_for(tenant) && !hidden
    });
    Ok(theirs.map(|tenant: &Tenant| tenant.id).collect())
}

/// Records what a channel told, in one transaction: of messages of `tenants`, and what came in for one
/// of `receivers`, who are some of them.
pub async fn record(
    app: &App,
    account: &Account,
    tenants: &[TenantId],
    receivers: &[TenantId],
    news: &News,
) -> Result<(), StoreError> {
    if news.is_empty() || tenants.is_empty() {
        return Ok(());
    }
    let source = Source {
        account: &account.id,
        channel: account.channel(),
        tenants,
    };
    let mut tx = source.begin(&app.store).await?;
    let applied = report::apply(&mut tx, source, &news.reports).await?;
    let receivers = Source {
        tenants: receivers,
        ..source
    };
    let received = inbound::receive(&mut tx, receivers, &news.inbound).await?;
    tx.commit().await?;
    meters::reports(
        account.label(),
        [
            ("new", applied.new),
            ("repeated", applied.repeated),
            ("waiting", applied.waiting),
            ("unknown", applied.unknown),
            ("inbound", received.new),
        ],
    );
    spans::reported(account, &applied.traces);
    if received.nobodys > 0 {
        tracing::warn!(
            account = account.id,
            messages = received.nobodys,
            "messages came in on an account of several tenants, and belong to none of them"
        );
    }
    if applied.new + received.new > 0 {
        app.wake.handover.notify_one();
    }
    Ok(())
}

/// Tells the plugin which events are committed. When it cannot be told, its peer will tell again.
async fn acknowledge(
    account: &Account,
    mut committed: mpsc::Receiver<Vec<u64>>,
    stop: &CancellationToken,
) {
    let mut batches = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            taken = committed.recv_many(&mut batches, UNACKNOWLEDGED) => if taken == 0 {
                return;
            }
        }
        let ids = std::mem::take(&mut batches).concat();
        if !ids.is_empty() {
            tell(account, ids, stop).await;
        }
    }
}

async fn tell(account: &Account, ids: Vec<u64>, stop: &CancellationToken) {
    let mut wait = FIRST_WAIT;
    loop {
        let told = tokio::select! {
            () = stop.cancelled() => return,
            told = account.instance.acknowledge(ids.clone()) => told,
        };
        match told {
            Ok(()) | Err(CallError::Closed) => return,
            Err(CallError::Busy) => {}
            Err(error) => {
                let (account, why) = (&account.id[..], error.kind());
                tracing::warn!(account, error = why, "acknowledging events");
                tracing::debug!(account, %error, "acknowledging events");
                return;
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Tries reports again that came before their messages were known by the provider's id.
async fn match_waiting(app: &App, account: &Account, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = match_due(app, account, stop).await {
            tracing::warn!(account = account.id, %error, "matching reports");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(MATCH_EVERY) => {}
        }
    }
}

async fn match_due(
    app: &App,
    account: &Account,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let due = report::due_tenants(&app.store, &account.id).await?;
    if due.is_empty() {
        return Ok(());
    }
    // Accounts of several tenants may have the same id.
    let theirs = tenants(app, account).await?;
    for tenant in due.into_iter().filter(|due| theirs.contains(due)) {
        while !stop.is_cancelled() {
            let (store, limit) = (&app.store, MATCHED_AT_ONCE);
            let (applied, due) =
                report::match_waiting(store, tenant, &account.id, account.channel(), limit).await?;
            spans::reported(account, &applied.traces);
            if applied.new > 0 {
                app.wake.handover.notify_one();
            }
            if due == 0 {
                break;
            }
        }
    }
    Ok(())
}
