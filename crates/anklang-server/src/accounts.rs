//! Channel accounts: those of the configuration file, opened when the server starts, and those of
//! tenants, which come, change and go while it runs (`work/accounts.rs`).

pub mod live;
pub mod plugins;
pub mod secrets;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anklang_channels::proto::{
    AmbiguousPolicy as PluginPolicy, Capability, LookupRequest, Manifest,
};
use anklang_channels::{
    CallError, Instance, InstanceOptions, OpenError, Plugin, Sha256, file_name,
};
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::rate::Rate;
use anklang_domain::window::Window;
use anklang_domain::{TenantId, Violations};
use anklang_store::channel_account as store;
use anklang_store::tenant::Tenant;
use futures::future::join_all;
use rust_decimal::Decimal;
use tokio::sync::Notify;

use crate::config::AccountConfig;
use crate::work::dispatch::Group;
use live::Live;
use plugins::Plugins;

/// A call may take long: the mail plugin waits for each of up to eight steps of a dialogue for at
/// most ten minutes. Giving a call up makes its messages ambiguous; its lease is kept meanwhile.
const OPTIONS: InstanceOptions = InstanceOptions {
    open_deadline: Duration::from_secs(60),
    call_deadline: Duration::from_secs(90 * 60),
    event_capacity: 1_024,
    retry_open: false,
};

/// One that does not say within this time whether it can look messages up is taken to be able to.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// What measurements call all accounts of tenants.
pub const TENANTS: &str = "tenants";

/// At most so often an account that fails is asked why.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What is decided about an account, by the configuration file or its tenant.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its id.
    pub id: String,
    /// Whose it is; none's when it is configured.
    pub tenant: Option<TenantId>,
    /// As of which change, when it is a tenant's.
    pub revision: Option<i64>,
    /// What becomes of ambiguous messages.
    pub policy: AmbiguousPolicy,
    /// Messages that are claimed together, and the most in one call.
    pub batch: i64,
    /// Calls at the same time.
    pub calls: usize,
    /// At most so many messages of each tenant.
    pub rate: Option<Rate>,
    /// When to send, in the recipient's time zone.
    pub window: Option<Window>,
    /// What a message costs, with its currency.
    pub cost: Option<(Decimal, String)>,
}

impl Settings {
    fn configured(id: &str, config: &AccountConfig, manifest: &Manifest) -> Self {
        Settings {
            id: id.to_owned(),
            tenant: None,
            revision: None,
            policy: config.ambiguous.unwrap_or(plugins_policy(manifest)),
            batch: config.batch,
            calls: config.calls,
            rate: config.rate.clone(),
            window: config.window,
            cost: config.cost.clone(),
        }
        .within(manifest)
    }

    /// Those of a tenant's account. They were checked when they were stored.
    pub fn own(row: &store::Account) -> Self {
        let s = &row.settings;
        let burst = u32::try_from(s.burst).ok().filter(|burst| *burst > 0);
        Settings {
            id: row.id.clone(),
            tenant: Some(row.tenant()),
            revision: Some(row.revision),
            policy: AmbiguousPolicy::by_word(&s.ambiguous).unwrap_or(AmbiguousPolicy::Hold),
            batch: s.batch.into(),
            calls: usize::try_from(s.calls).unwrap_or(1),
            rate: Rate::parse(&s.rate, burst).ok(),
            window: Window::parse(&s.hours, &s.days).ok().flatten(),
            cost: s.cost.zip(s.cost_currency.clone()),
        }
    }

    /// No more at once than the plugin takes.
    fn within(mut self, manifest: &Manifest) -> Self {
        let at_most = |limit: u32| usize::try_from(limit).ok().filter(|limit| *limit > 0);
        if let Some(limit) = at_most(manifest.max_calls_in_flight) {
            self.calls = self.calls.min(limit);
        }
        if manifest.max_batch > 0 {
            self.batch = self.batch.min(manifest.max_batch.into());
        }
        self
    }
}

/// What a plugin does with ambiguous messages when nobody says otherwise.
pub fn plugins_policy(manifest: &Manifest) -> AmbiguousPolicy {
    match manifest.ambiguous_policy() {
        PluginPolicy::Resend => AmbiguousPolicy::Resend,
        PluginPolicy::Hold | PluginPolicy::Unspecified => AmbiguousPolicy::Hold,
    }
}

/// An open channel account: its settings, and what was opened with them.
pub struct Account {
    /// What is decided about it.
    pub settings: Settings,
    /// The plugin that serves it.
    pub plugin: Plugin,
    /// The plugin, opened with the account's settings.
    pub instance: Instance,
    /// Whether the channel can be asked what became of messages, as far as is known.
    looks_up: Arc<AtomicBool>,
    /// Wakes the sender of a tenant's account: something is due.
    pub due: Notify,
    /// How many messages are handed over together.
    pub group: Group,
    tenants: Vec<String>,
    asked: Mutex<Option<Instant>>,
}

impl Deref for Account {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}

impl Account {
    fn new(settings: Settings, opened: Opened, tenants: Vec<String>) -> Self {
        let Opened {
            plugin,
            instance,
            looks_up,
        } = opened;
        Account {
            settings,
            plugin,
            instance,
            looks_up,
            due: Notify::new(),
            group: Group::default(),
            tenants,
            asked: Mutex::default(),
        }
    }

    /// A tenant's account that has been opened.
    pub fn own(row: &store::Account, opened: Opened) -> Self {
        let settings = Settings::own(row).within(opened.plugin.manifest());
        Account::new(settings, opened, Vec::new())
    }

    /// What was opened, for settings that the plugin does not see.
    pub fn opened(&self) -> Opened {
        Opened {
            plugin: self.plugin.clone(),
            instance: self.instance.clone(),
            looks_up: Arc::clone(&self.looks_up),
        }
    }

    /// Whether the tenant may use it.
    pub fn is_for(&self, tenant: &Tenant) -> bool {
        match self.tenant {
            Some(own) => own == tenant.id,
            None => self.tenants.is_empty() || self.tenants.contains(&tenant.slug),
        }
    }

    /// Whether its plugin says that it can do this.
    pub fn can(&self, capability: Capability) -> bool {
        let mut capabilities = self.plugin.manifest().capabilities();
        capabilities.any(|known| known == capability)
    }

    /// Whether the channel can be asked what became of messages. Of one that does not say yet it is taken
    /// to be so.
    pub fn looks_up(&self) -> bool {
        self.looks_up.load(Relaxed)
    }

    /// Notes that it has said that it cannot.
    pub fn cannot_look_up(&self) {
        self.looks_up.store(false, Relaxed);
    }

    /// What becomes of ambiguous messages at first: a channel that can be asked is asked before the
    /// policy counts (`work/lookups.rs`).
    pub fn policy_at_first(&self) -> AmbiguousPolicy {
        match self.looks_up() {
            true => AmbiguousPolicy::Hold,
            false => self.policy,
        }
    }

    /// The channel that it serves.
    pub fn channel(&self) -> &str {
        &self.plugin.manifest().channel
    }

    /// What measurements call it: few words, so those of tenants have one.
    pub fn label(&self) -> &str {
        match self.tenant {
            Some(_) => TENANTS,
            None => &self.id,
        }
    }

    /// Whether it is time to ask again why it fails.
    pub fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked.is_none_or(|when| when.elapsed() >= ASK_EVERY);
        if may {
            *asked = Some(Instant::now());
        }
        may
    }
}

/// A plugin, opened for an account.
pub struct Opened {
    /// The plugin.
    pub plugin: Plugin,
    /// What was opened.
    pub instance: Instance,
    /// Whether it can look messages up: its plugin may be able to with others alone.
    looks_up: Arc<AtomicBool>,
}

/// Opens a plugin for an account; with `retry_open`, one that fails is open all the same, down for now.
pub async fn open(
    plugin: &Plugin,
    config: &serde_json::Value,
    retry_open: bool,
) -> Result<Opened, OpenError> {
    let options = InstanceOptions {
        retry_open,
        ..OPTIONS
    };
    let instance = plugin.open_with(config, options).await?;
    let mut capabilities = plugin.manifest().capabilities();
    let looks_up = capabilities.any(|known| known == Capability::Lookup)
        && !matches!(
            tokio::time::timeout(ASKED_WITHIN, instance.lookup(LookupRequest::default())).await,
            Ok(Err(CallError::Unsupported))
        );
    Ok(Opened {
        plugin: plugin.clone(),
        instance,
        looks_up: Arc::new(AtomicBool::new(looks_up)),
    })
}

/// All accounts: those of the configuration file, and those of tenants as far as this server has opened
/// them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Accounts {
    configured: Arc<BTreeMap<String, Arc<Account>>>,
    /// The ids of the configuration file, also when this server opens none.
    ids: Arc<[String]>,
    /// Those of tenants.
    pub live: Live,
    /// The plugins that those of tenants can use.
    pub plugins: Plugins,
}

impl Accounts {
    /// Loads and opens all of the configuration file; every fault of every account is found before any
    /// is reported.
    pub async fn open(
        folder: &Path,
        configs: &BTreeMap<String, AccountConfig>,
    ) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let mut loaded = Vec::new();
        for (id, config) in configs {
            let path = folder.join(file_name(&config.plugin));
            let field = format!("channel_accounts.{id}.plugin");
            let (pin, hosting) = (config.pin.map(Sha256), config.hosting.clone());
            let plugin = Plugin::load_with(&path, pin, hosting);
            let Some(plugin) = violations.check(field, plugin) else {
                continue;
            };
            if let Err(found) = plugin.check_config(&config.config) {
                for violation in found {
                    let at = secrets::dotted(&violation.path);
                    let at = if at.is_empty() { at } else { format!(".{at}") };
                    violations.add(
                        format!("channel_accounts.{id}.config{at}"),
                        violation.reason,
                    );
                }
                continue;
            }
            loaded.push((id, config, plugin));
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        let mut configured = BTreeMap::new();
        // One that fails, or takes its time, does not keep the server from serving the others.
        let opening = loaded.into_iter().map(async |(id, config, plugin)| {
            (id, config, open(&plugin, &config.config, true).await)
        });
        for (id, config, opened) in join_all(opening).await {
            let Some(opened) = violations.check(format!("channel_accounts.{id}.config"), opened)
            else {
                continue;
            };
            let settings = Settings::configured(id, config, opened.plugin.manifest());
            let account = Account::new(settings, opened, config.tenants.clone());
            configured.insert(id.clone(), Arc::new(account));
        }
        violations.finish(Accounts {
            configured: Arc::new(configured),
            ids: configs.keys().cloned().collect(),
            live: Live::default(),
            plugins: Plugins::new(folder),
        })
    }

    /// Those of a server that opens none, and only knows which ones there are.
    pub fn unopened(folder: &Path, configs: &BTreeMap<String, AccountConfig>) -> Self {
        Accounts {
            ids: configs.keys().cloned().collect(),
            plugins: Plugins::new(folder),
            ..Accounts::default()
        }
    }

    /// The account with that id, if the tenant may use it and this server has it open. One of its own
    /// hides one of the configuration file.
    pub fn get(&self, tenant: &Tenant, id: &str) -> Option<Arc<Account>> {
        match self.live.state(tenant.id, id) {
            Some(state) => state.account(),
            None => self.configured_for(tenant, id),
        }
    }

    /// The account of the configuration file with that id, if the tenant may use it.
    pub fn configured_for(&self, tenant: &Tenant, id: &str) -> Option<Arc<Account>> {
        let found = self.configured.get(id);
        found.filter(|account| account.is_for(tenant)).cloned()
    }

    /// Those of the configuration file, by id.
    pub fn configured(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.configured.values()
    }

    /// The ids of those of the configuration file, whoever may use them.
    pub fn configured_ids(&self) -> Vec<String> {
        self.ids.to_vec()
    }

    /// All that are open.
    pub fn all(&self) -> impl Iterator<Item = Arc<Account>> {
        let configured: Vec<_> = self.configured.values().cloned().collect();
        configured.into_iter().chain(self.live.open())
    }

    /// Lets every plugin finish what it has begun, for at most `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        let draining = self.all().map(async |account| {
            if let Err(error) = account.instance.clone().drain(deadline).await {
                tracing::warn!(account = account.id, %error, "drain");
            }
        });
        join_all(draining).await;
    }
}
