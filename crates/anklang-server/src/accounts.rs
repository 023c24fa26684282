//! Channel accounts: the configured plugins, loaded and opened.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anklang_channels::proto::{AmbiguousPolicy as PluginPolicy, Capability, LookupRequest};
use anklang_channels::{CallError, Instance, InstanceOptions, Plugin, Sha256};
use anklang_domain::Violations;
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::rate::Rate;
use anklang_domain::window::Window;
use anklang_store::tenant::Tenant;
use rust_decimal::Decimal;

use crate::config::AccountConfig;

/// A call may take long: the mail plugin waits for each of up to eight steps of a dialogue for at
/// most ten minutes. Giving a call up makes its messages ambiguous; its lease is kept meanwhile.
const OPTIONS: InstanceOptions = InstanceOptions {
    open_deadline: Duration::from_secs(60),
    call_deadline: Duration::from_secs(90 * 60),
    event_capacity: 1_024,
};

/// An open channel account.
pub struct Account {
    /// Its id.
    pub id: String,
    /// The plugin that serves it.
    pub plugin: Plugin,
    /// The plugin, opened with the account's settings.
    pub instance: Instance,
    /// What becomes of ambiguous messages.
    pub policy: AmbiguousPolicy,
    /// Messages in one call.
    pub batch: i64,
    /// Calls at the same time.
    pub calls: usize,
    /// At most so many messages of each tenant.
    pub rate: Option<Rate>,
    /// When to send, in the recipient's time zone.
    pub window: Option<Window>,
    /// What a message costs, with its currency.
    pub cost: Option<(Decimal, String)>,
    /// Whether the channel can be asked what became of messages.
    pub looks_up: bool,
    tenants: Vec<String>,
}

impl Account {
    /// Whether the tenant may use it.
    pub fn is_for(&self, tenant: &Tenant) -> bool {
        self.tenants.is_empty() || self.tenants.contains(&tenant.slug)
    }

    /// Whether its plugin says that it can do this.
    pub fn can(&self, capability: Capability) -> bool {
        let mut capabilities = self.plugin.manifest().capabilities();
        capabilities.any(|known| known == capability)
    }

    /// What becomes of ambiguous messages at first: a channel that can be asked is asked before the
    /// policy counts (`work/lookups.rs`).
    pub fn policy_at_first(&self) -> AmbiguousPolicy {
        match self.looks_up {
            true => AmbiguousPolicy::Hold,
            false => self.policy,
        }
    }

    /// The channel that it serves.
    pub fn channel(&self) -> &str {
        &self.plugin.manifest().channel
    }
}

/// All accounts by id.
#[derive(Clone, Default)]
pub struct Accounts(BTreeMap<String, Arc<Account>>);

impl Accounts {
    /// Loads and opens all of them; every fault of every account is found before any is reported.
    pub async fn open(
        folder: &Path,
        configs: &BTreeMap<String, AccountConfig>,
    ) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let mut loaded = Vec::new();
        for (id, config) in configs {
            let path = folder.join(anklang_channels::file_name(&config.plugin));
            let field = format!("channel_accounts.{id}.plugin");
            let (pin, hosting) = (config.pin.map(Sha256), config.hosting.clone());
            let plugin = Plugin::load_with(&path, pin, hosting);
            let Some(plugin) = violations.check(field, plugin) else {
                continue;
            };
            if let Err(found) = plugin.check_config(&config.config) {
                for violation in found {
                    let at = violation.path.trim_start_matches('/').replace('/', ".");
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
        let mut accounts = BTreeMap::new();
        for (id, config, plugin) in loaded {
            let opened = plugin.open_with(&config.config, OPTIONS).await;
            let Some(instance) = violations.check(format!("channel_accounts.{id}.config"), opened)
            else {
                continue;
            };
            let account = account(id, config, plugin, instance).await;
            accounts.insert(id.clone(), Arc::new(account));
        }
        violations.finish(Accounts(accounts))
    }

    /// The account with that id, if the tenant may use it.
    pub fn get(&self, tenant: &Tenant, id: &str) -> Option<&Arc<Account>> {
        self.0.get(id).filter(|account| account.is_for(tenant))
    }

    /// All of them, by id.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.0.values()
    }

    /// Lets every plugin finish what it has begun, for at most `deadline`.
    pub async fn drain(&self, deadline: Duration) {
        for account in self.all() {
            if let Err(error) = account.instance.clone().drain(deadline).await {
                tracing::warn!(account = account.id, %error, "drain");
            }
        }
    }
}

/// Whether an account can look messages up: its plugin may be able to with others alone.
async fn looks_up(plugin: &Plugin, instance: &Instance) -> bool {
    let mut capabilities = plugin.manifest().capabilities();
    capabilities.any(|known| known == Capability::Lookup)
        && instance.lookup(LookupRequest::default()).await != Err(CallError::Unsupported)
}

async fn account(id: &str, config: &AccountConfig, plugin: Plugin, instance: Instance) -> Account {
    let manifest = plugin.manifest();
    let policy = config
        .ambiguous
        .unwrap_or(match manifest.ambiguous_policy() {
            PluginPolicy::Resend => AmbiguousPolicy::Resend,
            PluginPolicy::Hold | PluginPolicy::Unspecified => AmbiguousPolicy::Hold,
        });
    let at_most = |wish, limit: u32| if limit == 0 { wish } else { limit.min(wish) };
    let batch = at_most(u32::try_from(config.batch).unwrap_or(1), manifest.max_batch);
    let calls = at_most(
        u32::try_from(config.calls).unwrap_or(1),
        manifest.max_calls_in_flight,
    );
    Account {
        id: id.to_owned(),
        policy,
        batch: i64::from(batch),
        calls: usize::try_from(calls).unwrap_or(1),
        rate: config.rate.clone(),
        window: config.window,
        cost: config.cost.clone(),
        tenants: config.tenants.clone(),
        looks_up: looks_up(&plugin, &instance).await,
        plugin,
        instance,
    }
}
