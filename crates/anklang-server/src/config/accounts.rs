//! `[channel_accounts.*]`: accounts of the operator's.

use std::collections::BTreeMap;

use anklang_channels::{Hosting, Isolation, ProcessOptions};
use anklang_domain::account as limits;
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::rate::Rate;
use anklang_domain::window::Window;
use figment::value::Value;
use rust_decimal::Decimal;

use super::Reader;
use crate::accounts::TENANTS;

/// Settings of a channel account.
#[derive(Clone)]
pub struct AccountConfig {
    /// Id of the plugin.
    pub plugin: String,
    /// SHA-256 that its file must have.
    pub pin: Option<[u8; 32]>,
    /// Where it runs, and what it may use.
    pub hosting: Hosting,
    /// What becomes of ambiguous messages; the plugin's default when `None`.
    pub ambiguous: Option<AmbiguousPolicy>,
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
    /// Slugs of the tenants that may use it; all when empty.
    pub tenants: Vec<String>,
    /// The plugin's own settings, secrets included.
    pub config: serde_json::Value,
}

impl std::fmt::Debug for AccountConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `config` may hold secrets.
        write!(f, "AccountConfig({})", self.plugin)
    }
}

impl Reader {
    fn rate(&mut self, path: &dyn Fn(&str) -> String) -> Option<Rate> {
        let text = self.optional(&path("rate"), Self::text).unwrap_or_default();
        let burst = self
            .optional(&path("burst"), |r, k| r.whole(k, 0..=1_000_000))
            .and_then(|burst| u32::try_from(burst).ok());
        let fields = [path("rate"), path("burst")];
        limits::rate(&text, burst.unwrap_or(0), fields, &mut self.violations)
    }

    fn cost(&mut self, path: &str) -> Option<(Decimal, String)> {
        let text = self.optional(path, Self::text).unwrap_or_default();
        if text.is_empty() {
            return None;
        }
        let (amount, currency) = text.split_once(' ').unwrap_or((&text, ""));
        // What is no amount is refused like one that is too high.
        let amount = amount.parse().unwrap_or(Decimal::MAX);
        let cost = limits::cost(amount, currency.trim());
        self.violations.check(path.to_owned(), cost)
    }

    fn window(&mut self, path: &dyn Fn(&str) -> String) -> Option<Window> {
        let hours = self
            .optional(&path("hours"), Self::text)
            .unwrap_or_default();
        let days = self.words(&path("days"));
        let fields = [path("hours"), path("days")];
        limits::window(&hours, &days, fields, &mut self.violations)
    }

    pub(super) fn accounts(&mut self) -> Option<BTreeMap<String, AccountConfig>> {
        let ids: Vec<String> = match self.dict.get("channel_accounts") {
            Some(Value::Dict(_, accounts)) => accounts.keys().cloned().collect(),
            Some(_) => {
                self.violations.add("channel_accounts", "must be a table");
                return None;
            }
            None => Vec::new(),
        };
        ids.into_iter()
            .map(|id| self.account(&id).map(|account| (id, account)))
            .collect()
    }

    fn account(&mut self, id: &str) -> Option<AccountConfig> {
        let path = |key: &str| format!("channel_accounts.{id}.{key}");
        if !limits::is_id(id) {
            self.violations.add(
                format!("channel_accounts.{id}"),
                "an id is 1 to 63 of a–z, 0–9 and hyphens",
            );
        }
        if id == TENANTS {
            self.violations.add(
                format!("channel_accounts.{id}"),
                "measurements call all accounts of tenants so; take another id",
            );
        }
        let plugin = self.text(&path("plugin"));
        if let Some(plugin) = &plugin
            && !limits::is_id(plugin)
        {
            self.violations.add(
                path("plugin"),
                "a plugin's id is 1 to 63 of a–z, 0–9 and hyphens",
            );
        }
        let pin = match &self
            .optional(&path("sha256"), Self::text)
            .unwrap_or_default()[..]
        {
            "" => None,
            text => {
                let mut bytes = [0; 32];
                let parsed = hex::decode_to_slice(text, &mut bytes)
                    .map(|()| bytes)
                    .map_err(|_| "must be 64 hexadecimal digits");
                self.violations.check(path("sha256"), parsed)
            }
        };
        let hosting = self.hosting(&path);
        let ambiguous = match &self
            .optional(&path("ambiguous"), Self::text)
            .unwrap_or_default()[..]
        {
            "" => None,
            word => {
                let policy = AmbiguousPolicy::by_word(word);
                self.violations.check(
                    path("ambiguous"),
                    policy.ok_or("must be \"resend\" or \"hold\""),
                )
            }
        };
        let batch = self.optional(&path("batch"), |r, k| r.whole(k, 1..=1_000));
        let calls = self.optional(&path("calls"), |r, k| r.whole(k, 1..=64));
        let rate = self.rate(&path);
        let window = self.window(&path);
        let cost = self.cost(&path("cost_per_message"));
        let tenants = self.words(&path("tenants"));
        let config = match self.take(&path("config")) {
            None => serde_json::json!({}),
            Some(value) => serde_json::to_value(value).unwrap_or_default(),
        };
        Some(AccountConfig {
            plugin: plugin?,
            pin,
            hosting,
            ambiguous,
            batch: i64::try_from(batch.unwrap_or(limits::USUAL_BATCH.unsigned_abs().into()))
                .ok()?,
            calls: usize::try_from(calls.unwrap_or(4)).ok()?,
            rate,
            window,
            cost,
            tenants,
            config,
        })
    }

    /// Where an account's plugin runs, and what it may use.
    fn hosting(&mut self, path: &dyn Fn(&str) -> String) -> Hosting {
        let isolation = self
            .optional(&path("isolation"), Self::text)
            .unwrap_or_default();
        let isolation = match &isolation[..] {
            "" | "process" => Isolation::Process,
            "none" => Isolation::None,
            _ => {
                self.violations
                    .add(path("isolation"), "must be \"process\" or \"none\"");
                Isolation::Process
            }
        };
        let process = self.take(&path("process")).map(|value| {
            serde_json::to_value(value).and_then(serde_json::from_value::<ProcessOptions>)
        });
        let process = process.and_then(|read| self.violations.check(path("process"), read));
        let process = process.unwrap_or_default();
        for violation in process.violations() {
            let at = violation.path.replace('/', ".");
            let field = format!("{}{at}", path("process"));
            self.violations.add(field, violation.reason);
        }
        Hosting {
            isolation,
            process,
            ..Hosting::default()
        }
    }
}
