//! Keeps the tenants' accounts as they are stored: opens those that are new or have changed, closes
//! those that are gone, tries again what did not open; and wakes their senders.
//!
//! It looks again and again, and the revisions say what has changed: what a server does not hear of, it
//! sees. A changed account is opened anew and gets all further calls; the one before ends its batches,
//! of which the ledger hands it no more messages (`message::step`), and is then drained. Settings that
//! the plugin does not see leave it open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_channels::Instance;
use anklang_domain::TenantId;
use anklang_store::channel_account::{self, standing, watch};
use anklang_store::message::{self, Whose};
use anklang_store::telemetry::without_values;
use anklang_store::{StoreError, tenant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::App;
use super::dispatch::{self, Leases, RESCUE_EVERY};
use super::moves::PROBE_EVERY;
use super::{lookups, reports};
use crate::accounts::live::{Key, State};
use crate::accounts::{self, Account, secrets};
use crate::telemetry;

type Row = Arc<channel_account::Account>;

/// What an instance that is not used any more gets for what it still works on.
const DRAIN: Duration = Duration::from_secs(60);

/// A sender that runs.
struct Sender {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What keeps the accounts. Cheap to clone.
#[derive(Clone)]
struct Keeper {
    app: App,
    stop: CancellationToken,
    tasks: TaskTracker,
    leases: Leases,
    senders: Arc<Mutex<BTreeMap<Key, Sender>>>,
    /// What ends taking what an instance tells.
    listening: Arc<Mutex<BTreeMap<Key, CancellationToken>>>,
}

/// Keeps the accounts until told to stop; then waits for their senders.
pub async fn run(app: App, stop: CancellationToken) {
    let keeper = Keeper {
        app,
        stop: stop.clone(),
        tasks: TaskTracker::new(),
        leases: Leases::default(),
        senders: Arc::default(),
        listening: Arc::default(),
    };
    let mut rescued: Option<Instant> = None;
    while !stop.is_cancelled() {
        let sends = keeper.app.config.dispatch;
        if sends && rescued.is_none_or(|when| when.elapsed() >= RESCUE_EVERY) {
            keeper.rescue().await;
            rescued = Some(Instant::now());
        }
        if let Err(error) = keeper.look().await {
            tracing::warn!(%error, "looking for accounts of tenants");
        }
        let wake = &keeper.app.wake;
        tokio::select! {
            () = stop.cancelled() => {}
            () = wake.accounts.notified() => {}
            () = wake.messages.notified() => {}
            () = tokio::time::sleep(keeper.app.config.dispatch_poll) => {}
        }
    }
    keeper.tasks.close();
    keeper.tasks.wait().await;
}

impl Keeper {
    /// Takes back messages that lost their sender.
    async fn rescue(&self) {
        let ours = &self.leases.all();
        match message::rescue(&self.app.store, Whose::Own { ours }).await {
            Ok(found) if found.requeued + found.unknown > 0 => {
                let (requeued, unknown) = (found.requeued, found.unknown);
                tracing::warn!(requeued, unknown, "rescued messages of tenants' accounts");
                telemetry::meters::rescued(accounts::TENANTS, unknown);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "rescuing messages of tenants' accounts"),
        }
    }

    /// Looks once at all accounts.
    async fn look(&self) -> Result<(), StoreError> {
        let (store, live) = (&self.app.store, &self.app.accounts.live);
        let seen = watch::seen(store).await?;
        let known = live.revisions();
        let is: BTreeSet<Key> = seen.iter().map(|s| key(s.tenant_id, &s.id)).collect();
        for gone in known.keys().filter(|key| !is.contains(key)) {
            if let Some(before) = live.remove(gone) {
                self.retire(gone, before.state.account());
            }
        }
        let changed: Vec<(TenantId, &str)> = seen
            .iter()
            .filter(|s| known.get(&key(s.tenant_id, &s.id)) != Some(&s.revision))
            .map(|s| (TenantId(s.tenant_id), &s.id[..]))
            .collect();
        if !changed.is_empty() {
            for row in watch::load(store, &changed).await? {
                self.apply(Arc::new(row));
            }
        }
        for row in live.to_retry() {
            let failures = match live.state(row.tenant(), &row.id) {
                Some(State::Closed { failures, .. }) => failures,
                _ => 0,
            };
            live.set(Arc::clone(&row), State::Opening);
            self.open(row, failures);
        }
        for s in seen.iter().filter(|s| s.due) {
            let state = live.state(TenantId(s.tenant_id), &s.id);
            if let Some(account) = state.and_then(|state| state.account()) {
                account.due.notify_one();
            }
        }
        Ok(())
    }

    /// Takes a new or changed row over.
    fn apply(&self, row: Row) {
        let live = &self.app.accounts.live;
        let key = (row.tenant(), row.id.clone());
        let before = live.entry(key.0, &key.1);
        let open = before.as_ref().and_then(|before| before.state.account());
        let is_alike = before.is_some_and(|before| opens_alike(&before.row, &row));
        if let Some(open) = open.clone().filter(|_| is_alike) {
            let account = Arc::new(Account::own(&row, open.opened()));
            live.set(row, State::Open(Arc::clone(&account)));
            self.retire(&key, None);
            self.send(key, account);
            return;
        }
        live.set(Arc::clone(&row), State::Opening);
        self.retire(&key, open);
        self.open(row, 0);
    }

    /// Stops the sender of an account, lets it end what it has begun, and then drains the instance that
    /// nobody uses any more.
    fn retire(&self, key: &Key, unused: Option<Arc<Account>>) {
        let sender = self.senders().remove(key);
        if let Some(sender) = &sender {
            sender.stop.cancel();
        }
        let listening = match unused {
            Some(_) => lock(&self.listening).remove(key),
            None => None,
        };
        self.tasks.spawn(async move {
            if let Some(sender) = sender
                && let Err(error) = sender.task.await
            {
                let error = without_values(&error.to_string());
                tracing::error!(error, "the sender of an account");
            }
            if let Some(unused) = unused {
                drain(&unused.id, unused.instance.clone()).await;
            }
            if let Some(listening) = listening {
                listening.cancel();
            }
        });
    }

    /// Takes what a new instance tells, until it is drained.
    fn listen(&self, key: &Key, account: &Arc<Account>) {
        let stop = self.stop.child_token();
        let taking = reports::run(self.app.clone(), Arc::clone(account), stop.clone());
        self.tasks.spawn(taking);
        lock(&self.listening).insert(key.clone(), stop);
    }

    /// Opens an account in the background, after so many failures.
    fn open(&self, row: Row, failures: u32) {
        let this = self.clone();
        // Not waited for when the server stops: opening may take long, and begins nothing.
        tokio::spawn(async move {
            let opened = open(&this.app, &row).await;
            let state = match opened {
                Ok(account) => State::Open(Arc::new(account)),
                Err(reason) => State::closed(reason, failures + 1),
            };
            this.opened(row, state).await;
        });
    }

    async fn opened(&self, row: Row, state: State) {
        let key = (row.tenant(), row.id.clone());
        if let Err(unwanted) = self.app.accounts.live.settle(&row, state.clone()) {
            // It has changed since.
            if let Some(account) = unwanted.account() {
                drain(&account.id, account.instance.clone()).await;
            }
            return;
        }
        let noted = match state {
            State::Open(account) => {
                tracing::info!(account = row.id, tenant = %key.0, "opened an account");
                self.listen(&key, &account);
                self.send(key.clone(), account);
                standing::recovered(&self.app.store, key.0, &key.1).await
            }
            State::Closed { reason, .. } => {
                tracing::warn!(account = row.id, tenant = %key.0, reason, "an account does not open");
                standing::failing(&self.app.store, key.0, &key.1, &reason, PROBE_EVERY).await
            }
            State::Opening => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(account = key.1, %error, "noting how an account stands");
        }
    }

    /// Starts the sender of an account.
    fn send(&self, key: Key, account: Arc<Account>) {
        if !self.app.config.dispatch || self.stop.is_cancelled() {
            return;
        }
        let stop = self.stop.child_token();
        let (app, leases) = (self.app.clone(), self.leases.clone());
        let asking = lookups::run(app.clone(), Arc::clone(&account), stop.clone());
        self.tasks.spawn(asking);
        let sending = dispatch::run(app, account, leases, stop.clone());
        let task = self.tasks.spawn(sending);
        if let Some(before) = self.senders().insert(key, Sender { stop, task }) {
            before.stop.cancel();
        }
    }

    fn senders(&self) -> MutexGuard<'_, BTreeMap<Key, Sender>> {
        lock(&self.senders)
    }
}

// No code that can panic runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(tenant: uuid::Uuid, id: &str) -> Key {
    (TenantId(tenant), id.to_owned())
}

/// Whether the plugin sees the same of two revisions.
fn opens_alike(one: &channel_account::Account, other: &channel_account::Account) -> bool {
    let seen = |row: &channel_account::Account| {
        let settings = &row.settings;
        (
            row.plugin.clone(),
            settings.config.clone(),
            settings.secrets.clone(),
        )
    };
    // An account that was deleted and made again is another one.
    seen(one) == seen(other) && one.created_at == other.created_at
}

async fn drain(account: &str, instance: Instance) {
    if let Err(error) = instance.drain(DRAIN).await {
        tracing::warn!(account, %error, "draining an account that has changed");
    }
}

/// Opens an account.
///
/// # Errors
/// Why it does not open, for people, without its secrets.
async fn open(app: &App, row: &Row) -> Result<Account, String> {
    let plugin = app.accounts.plugins.get(&row.plugin).await;
    let plugin = plugin.map_err(|e| e.to_string())?;
    let owner = tenant::by_id(&app.store, row.tenant()).await;
    let owner = owner
        .map_err(|e| format!("its tenant: {e}"))?
        .ok_or("its tenant is gone")?;
    let sealed = row.settings.secrets.as_deref();
    let found = secrets::open(&app.keys, row.tenant(), &row.id, sealed);
    let found = found.map_err(|e| format!("what its secrets are sealed as {e}"))?;
    let rules = app.config.tenant_plugins.secrets.clone();
    let resolving = tokio::task::spawn_blocking(move || {
        let values = found.into_iter().map(|(path, secret)| {
            let value = rules.resolve(&owner.slug, &secret);
            let at = |e| format!("{}: {e}", secrets::dotted(&path));
            value.map_err(at).map(|value| (path.clone(), value))
        });
        values.collect::<Result<Vec<_>, String>>()
    });
    let values = resolving.await.map_err(|e| e.to_string())??;
    let mut config = row.settings.config.clone();
    for (path, value) in &values {
        secrets::put(&mut config, path, value.clone());
    }
    let opened = accounts::open(&plugin, &config, false)
        .await
        .map_err(|error| {
            let values: Vec<_> = values.into_iter().map(|(_, value)| value).collect();
            secrets::hide(error.to_string(), &values)
        });
    Ok(Account::own(row, opened?))
}
