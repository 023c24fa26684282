//! Gauges of the plugins' processes, as this server has them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry::KeyValue;

use super::meters::meter;
use crate::accounts::{Account, Accounts};

const STATES: [&str; 3] = ["up", "down", "left_alone"];

/// Measures the instances of accounts from now on.
pub(super) fn register(accounts: &Accounts) {
    let open = accounts.clone();
    meter()
        .u64_observable_gauge("anklang.plugin.instances")
        .with_description("Open accounts by how their plugin is")
        .with_unit("{instance}")
        .with_callback(move |observer| {
            for ((account, state), count) in count(&open) {
                let state = KeyValue::new("state", state);
                observer.observe(count, &[KeyValue::new("account", account), state]);
            }
        })
        .build();
    let (open, failures) = (accounts.clone(), Mutex::new(Failures::default()));
    meter()
        .u64_observable_counter("anklang.plugin.failures")
        .with_description("How often plugins failed or did not open, and were tried again")
        .with_unit("{failure}")
        .with_callback(move |observer| {
            let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.look(open.all());
            for (account, count) in &failures.by_account {
                observer.observe(*count, &[KeyValue::new("account", account.clone())]);
            }
        })
        .build();
}

/// So many accounts by label and state: each state of each label, so that nothing that ends is left out.
fn count(accounts: &Accounts) -> BTreeMap<(String, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for account in accounts.all() {
        let label = account.label();
        for state in STATES {
            counts.entry((label.to_owned(), state)).or_default();
        }
        *counts
            .entry((label.to_owned(), state(&account)))
            .or_default() += 1;
    }
    counts
}

fn state(account: &Account) -> &'static str {
    match (account.instance.is_up(), account.instance.is_left_alone()) {
        (true, _) => "up",
        (false, true) => "left_alone",
        (false, false) => "down",
    }
}

/// Failures by label. Tenants' accounts come and go, and a counter must not count down with them.
#[derive(Default)]
struct Failures {
    by_account: BTreeMap<String, u64>,
    /// What was counted of an instance, by its number.
    seen: HashMap<u64, u64>,
}

impl Failures {
    fn look(&mut self, accounts: impl Iterator<Item = Arc<Account>>) {
        let mut seen = HashMap::new();
        for account in accounts {
            let (number, now) = (account.instance.number(), account.instance.failures());
            let before = self.seen.get(&number).copied().unwrap_or_default();
            let sum = self.by_account.entry(account.label().to_owned());
            *sum.or_default() += now.saturating_sub(before);
            seen.insert(number, now);
        }
        self.seen = seen;
    }
}
