//! Gauges of what waits, looked up once for each export and not for each gauge, and of the pools.
//!
//! Each server reports what all servers of the database have before them: take the maximum over
//! instances, not the sum. When the database does not answer, nothing is reported rather than what
//! was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anklang_store::Store;
use anklang_store::telemetry::{Waiting, backlog};
use opentelemetry::KeyValue;
use opentelemetry::metrics::AsyncInstrument;
use tokio_util::sync::CancellationToken;

use super::instances;
use super::meters::{self, meter};
use crate::accounts::TENANTS;
use crate::work::App;
use crate::work::operations::KINDS;

/// Count and age by (what, of, state). A row that was once there stays with zeros: that nothing
/// waits any more is news.
type Rows = BTreeMap<(String, String, String), (i64, f64)>;

/// So long a look may take: for a connection, and for the statement.
const LONGEST_LOOK: Duration = Duration::from_secs(15);

/// What was found last, and until when that is news: the database may also never answer.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<Option<(Instant, Rows)>>>);

impl Latest {
    fn set(&self, found: Option<(Instant, Rows)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn rows(&self) -> Rows {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some((until, rows)) if Instant::now() < *until => rows.clone(),
            _ => Rows::new(),
        }
    }
}

/// Keeps the gauges up to date until told to stop; at once over when nobody wants metrics.
pub async fn run(app: App, stop: CancellationToken) {
    let config = &app.config.telemetry;
    if !super::is_measured(config) {
        return;
    }
    let latest = Latest::default();
    register(&latest);
    register_pools(app.store.clone());
    register_replica(app.store.clone());
    instances::register(&app.accounts);
    let ids = app.accounts.configured_ids();
    meters::begin(ids.iter().map(|id| &id[..]).chain([TENANTS]), &KINDS);
    // Twice per export, so that what is exported is not older than half of the interval.
    let every = config.interval / 2;
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = known(&app);
    loop {
        tokio::select! {
            // What waits goes on changing while the server drains.
            () = stop.cancelled() => return latest.set(None),
            _ = ticks.tick() => {}
        }
        match backlog(&app.store, &ids).await {
            Ok(rows) => {
                known.values_mut().for_each(|row| *row = (0, 0.0));
                known.extend(rows.into_iter().map(keyed));
                latest.set(Some((Instant::now() + every + LONGEST_LOOK, known.clone())));
            }
            Err(error) => {
                tracing::warn!(%error, "measuring what waits");
                latest.set(None);
            }
        }
    }
}

fn keyed(row: Waiting) -> ((String, String, String), (i64, f64)) {
    ((row.what, row.of, row.state), (row.count, row.oldest))
}

/// The rows of the configured accounts and of all kinds of operations, so that they are reported from the
/// beginning.
fn known(app: &App) -> Rows {
    let of = |what: &'static str, id: &str, state: &'static str| {
        ((what.to_owned(), id.to_owned(), state.to_owned()), (0, 0.0))
    };
    let ids = app.accounts.configured_ids();
    let accounts = ids.iter().flat_map(|id| {
        let messages = ["due", "held_back", "waiting", "sending"];
        let messages = messages.map(|state| of("messages", id, state));
        let standing = ["held", "failing"].map(|state| of("accounts", id, state));
        messages.into_iter().chain(standing)
    });
    let tenants = ["held", "failing", "paused"].map(|state| of("accounts", TENANTS, state));
    let operations = KINDS
        .iter()
        .flat_map(|kind| ["queued", "running"].map(|state| of("operations", kind, state)));
    accounts.chain(tenants).chain(operations).collect()
}

fn register(latest: &Latest) {
    for (name, unit, what, of, description) in [
        (
            "anklang.messages",
            "{message}",
            "messages",
            "account",
            "Messages that are not over",
        ),
        (
            "anklang.accounts",
            "{account}",
            "accounts",
            "account",
            "Accounts, for each tenant, that are held by their channel, cannot send, or are paused",
        ),
        (
            "anklang.operations",
            "{operation}",
            "operations",
            "kind",
            "Operations that are not over",
        ),
        (
            "anklang.handover.deliveries",
            "{delivery}",
            "deliveries",
            "",
            "Deliveries of events that are not over, and dead ones",
        ),
    ] {
        let latest = latest.clone();
        meter()
            .i64_observable_gauge(name)
            .with_description(description)
            .with_unit(unit)
            .with_callback(move |observer| {
                for ((_, key, state), (count, _)) in of_kind(&latest, what) {
                    let mut attributes = vec![KeyValue::new("state", state)];
                    attributes.extend((!of.is_empty()).then(|| KeyValue::new(of, key)));
                    observer.observe(count, &attributes);
                }
            })
            .build();
    }
    for (name, what, of, states, description) in [
        (
            "anklang.messages.oldest_due_age",
            "messages",
            "account",
            &["due"][..],
            "Since when the oldest due message could have been sent",
        ),
        (
            "anklang.operations.oldest_pending_age",
            "operations",
            "kind",
            &["queued", "running"],
            "Since when the oldest operation that nobody holds could have been taken up",
        ),
        (
            "anklang.handover.oldest_pending_age",
            "deliveries",
            "",
            &["pending"],
            "Since when the oldest due delivery could have been made, of webhooks that take any",
        ),
        (
            "anklang.audit.unsealed.age",
            "audit",
            "",
            &["unsealed"],
            "Since when the oldest entry of the audit log waits to be sealed",
        ),
    ] {
        let latest = latest.clone();
        meter()
            .f64_observable_gauge(name)
            .with_description(description)
            .with_unit("s")
            .with_callback(move |observer| oldest(&latest, what, of, states, observer))
            .build();
    }
}

fn of_kind(latest: &Latest, what: &str) -> Rows {
    let rows = latest.rows().into_iter();
    rows.filter(|(key, _)| key.0 == what).collect()
}

/// The highest age of each account or kind.
fn oldest(
    latest: &Latest,
    what: &str,
    of: &'static str,
    states: &[&str],
    observer: &dyn AsyncInstrument<f64>,
) {
    let mut ages: BTreeMap<String, f64> = BTreeMap::new();
    for ((_, key, state), (_, age)) in of_kind(latest, what) {
        if states.contains(&&state[..]) {
            let highest = ages.entry(key).or_default();
            *highest = highest.max(age);
        }
    }
    for (key, age) in ages {
        let attribute = (!of.is_empty()).then(|| KeyValue::new(of, key));
        observer.observe(age, attribute.as_slice());
    }
}

/// From where what reads much was read, and how old what a replica shows is at most.
fn register_replica(store: Store) {
    let reads = store.clone();
    meter()
        .u64_observable_counter("anklang.replica.reads")
        .with_description(
            "Transactions of calls that a replica may answer and that do not ask for the newest state, by where they \
             were read",
        )
        .with_unit("{transaction}")
        .with_callback(move |observer| {
            for (server, n) in reads.reads().by_server() {
                observer.observe(n, &[KeyValue::new("server", server)]);
            }
        })
        .build();
    meter()
        .f64_observable_gauge("anklang.replica.lag")
        .with_description("How old what the replica shows is at most")
        .with_unit("s")
        .with_callback(move |observer| {
            if let Some(lag) = store.replica_lag() {
                observer.observe(lag.as_secs_f64(), &[]);
            }
        })
        .build();
}

fn register_pools(store: Store) {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let pool = |name: &'static str| KeyValue::new("db.client.connection.pool.name", name);
    let (used, waiting) = (store.clone(), store.clone());
    meter()
        .i64_observable_gauge("db.client.connection.count")
        .with_description("Open connections to the database")
        .with_unit("{connection}")
        .with_callback(move |observer| {
            for p in used.pools() {
                for (state, n) in [("used", p.used), ("idle", p.idle)] {
                    let state = KeyValue::new("db.client.connection.state", state);
                    observer.observe(count(n), &[pool(p.name), state]);
                }
            }
        })
        .build();
    meter()
        .i64_observable_gauge("db.client.connection.pending_requests")
        .with_description("Who waits for a connection to the database")
        .with_unit("{request}")
        .with_callback(move |observer| {
            for p in waiting.pools() {
                observer.observe(count(p.waiting), &[pool(p.name)]);
            }
        })
        .build();
    meter()
        .i64_observable_gauge("db.client.connection.max")
        .with_description("The most connections to the database")
        .with_unit("{connection}")
        .with_callback(move |observer| {
            for p in store.pools() {
                observer.observe(count(p.max), &[pool(p.name)]);
            }
        })
        .build();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_news_any_more_is_not_reported() {
        let due = ["messages", "mail", "due"].map(str::to_owned).into();
        let rows = Rows::from([(due, (3, 1.5))]);
        let latest = Latest::default();
        assert!(of_kind(&latest, "messages").is_empty());
        let now = Instant::now();
        latest.set(Some((now + Duration::from_secs(600), rows.clone())));
        assert_eq!(of_kind(&latest, "messages"), rows);
        assert!(of_kind(&latest, "operations").is_empty());
        latest.set(Some((now, rows)));
        assert!(of_kind(&latest, "messages").is_empty());
    }
}
