//! The tenants' accounts as this server has them: opened, being opened, or not to be opened.
//!
//! Only `work/accounts.rs` changes them; whoever looks gets what there is at that moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_domain::TenantId;
use anklang_store::channel_account::Account as Row;
use tokio::sync::watch;

use super::Account;

/// Waits before an account is opened again: from the first, doubling, to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whose, and its id.
pub type Key = (TenantId, String);

/// How an account is here.
#[derive(Clone)]
pub enum State {
    /// It is being opened.
    Opening,
    /// It is open.
    Open(Arc<Account>),
    /// It did not open.
    Closed {
        /// Why.
        reason: String,
        /// How often, since its last change.
        failures: u32,
        /// When it is tried again.
        retry_at: Instant,
    },
}

impl State {
    /// As it did not open for so often.
    pub fn closed(reason: String, failures: u32) -> State {
        let wait = FIRST_WAIT * 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
        State::Closed {
            reason,
            failures,
            retry_at: Instant::now() + wait.min(LONGEST_WAIT),
        }
    }

    /// The account, when it is open.
    pub fn account(&self) -> Option<Arc<Account>> {
        match self {
            State::Open(account) => Some(Arc::clone(account)),
            State::Opening | State::Closed { .. } => None,
        }
    }
}

/// An account with the row that it is, or shall be, opened by.
#[derive(Clone)]
pub struct Entry {
    /// The row.
    pub row: Arc<Row>,
    /// How it is.
    pub state: State,
}

/// All of them. Cheap to clone.
#[derive(Clone)]
pub struct Live {
    entries: Arc<Mutex<BTreeMap<Key, Entry>>>,
    changed: Arc<watch::Sender<()>>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            entries: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Live {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        // No code that can panic runs under the lock.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of an account.
    pub fn entry(&self, tenant: TenantId, id: &str) -> Option<Entry> {
        self.entries().get(&(tenant, id.to_owned())).cloned()
    }

    /// How an account is; `None` when this server knows of none with that id.
    pub fn state(&self, tenant: TenantId, id: &str) -> Option<State> {
        self.entry(tenant, id).map(|entry| entry.state)
    }

    /// The keys and revisions of all.
    pub fn revisions(&self) -> BTreeMap<Key, i64> {
        let entries = self.entries();
        let revisions = entries.iter().map(|(k, e)| (k.clone(), e.row.revision));
        revisions.collect()
    }

    /// Those that are open.
    pub fn open(&self) -> Vec<Arc<Account>> {
        let entries = self.entries();
        entries.values().filter_map(|e| e.state.account()).collect()
    }

    /// Rows of those that are closed, and to be tried again by now.
    pub fn to_retry(&self) -> Vec<Arc<Row>> {
        let now = Instant::now();
        let due =
            |state: &State| matches!(state, State::Closed { retry_at, .. } if *retry_at <= now);
        let entries = self.entries();
        let closed = entries.values().filter(|e| due(&e.state));
        closed.map(|e| Arc::clone(&e.row)).collect()
    }

    /// Sets how an account is, by a row; gives what it was.
    pub fn set(&self, row: Arc<Row>, state: State) -> Option<Entry> {
        let key = (row.tenant(), row.id.clone());
        let before = self.entries().insert(key, Entry { row, state });
        self.changed.send_replace(());
        before
    }

    /// As [`Live::set`], if the account is still that of the same revision. Else the state is given back.
    pub fn settle(&self, row: &Row, state: State) -> Result<(), State> {
        match self.entries().get_mut(&(row.tenant(), row.id.clone())) {
            Some(entry) if entry.row.revision == row.revision => entry.state = state,
            _ => return Err(state),
        }
        self.changed.send_replace(());
        Ok(())
    }

    /// Forgets an account; gives what it was.
    pub fn remove(&self, key: &Key) -> Option<Entry> {
        let before = self.entries().remove(key);
        self.changed.send_replace(());
        before
    }

    /// Waits until this server has opened an account, or has not been able to, as of `revision` or later,
    /// for at most `deadline`; then gives how it is.
    pub async fn settled(
        &self,
        tenant: TenantId,
        id: &str,
        revision: i64,
        deadline: Duration,
    ) -> Option<State> {
        let mut changes = self.changed.subscribe();
        let settled = async {
            loop {
                let entry = self.entry(tenant, id);
                let is_settled =
                    |e: &Entry| e.row.revision >= revision && !matches!(e.state, State::Opening);
                if entry.as_ref().is_some_and(is_settled) || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Too late, it is what it is.
        let _ = tokio::time::timeout(deadline, settled).await;
        self.state(tenant, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let wait = |failures| match State::closed(String::new(), failures) {
            State::Closed { retry_at, .. } => retry_at.saturating_duration_since(Instant::now()),
            _ => Duration::ZERO,
        };
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1_000, 60)] {
            let (found, wanted) = (wait(failures), Duration::from_secs(seconds));
            assert!(found <= wanted && found > wanted - Duration::from_millis(900));
        }
    }
}
