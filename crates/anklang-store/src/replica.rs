//! A standby of the database, for what reads much: how old what it shows is at most, and whether that will do.
//!
//! Clocks of two machines say nothing about it, and neither does a standby alone: one that is cut off has replayed
//! all that it got. So it is measured against the primary: the end of the primary's log is noted with the moment
//! *before* it was asked for, by this process's clock. Once the standby has replayed the log up to such a mark, it
//! shows all that was committed until that moment, and perhaps more.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_domain::TenantId;

use crate::begin::SNAPSHOT;
use crate::connections::{Connections, Probe};
use crate::login::Login;
use crate::tx::Tx;
use crate::{Result, StoreError};

/// How often it is measured. Between two measurements what it shows counts as getting older.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The end of the primary's log, written to disk or not; nothing of a server that is a standby by now.
const END: &str = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END";

/// How far the log was replayed; nothing of a server that is a primary by now, and goes its own way.
const REPLAYED: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END";

/// A standby that may be used.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// How to log in to it. It must lead to one server, not to one of several.
    pub login: Login,
    /// What it shows may be so old.
    pub max_lag: Duration,
}

/// A place in the log of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Lsn(u64);

impl Lsn {
    /// As PostgreSQL writes it, e.g. `16/B374D848`.
    fn read(text: &str) -> Option<Lsn> {
        let (high, low) = text.split_once('/')?;
        let high = u64::from(u32::from_str_radix(high, 16).ok()?);
        let low = u64::from(u32::from_str_radix(low, 16).ok()?);
        Some(Lsn((high << 32) | low))
    }
}

/// Marks in the primary's log.
#[derive(Debug, Default)]
struct Marks(VecDeque<(Instant, Lsn)>);

impl Marks {
    /// Notes where the log ended at a moment or later, and forgets what is older than `max_lag`.
    fn note(&mut self, at: Instant, end: Lsn, max_lag: Duration) {
        // After a failover the log is another one, which may be shorter.
        if self.0.back().is_some_and(|(_, last)| *last > end) {
            self.0.clear();
        }
        self.0
            .retain(|(then, _)| at.duration_since(*then) <= max_lag);
        self.0.push_back((at, end));
    }

    /// Since when there may be something that one who has replayed so far does not show.
    fn as_of(&self, replayed: Lsn) -> Option<Instant> {
        let mut reached = self.0.iter().rev().filter(|(_, end)| *end <= replayed);
        reached.next().map(|(at, _)| *at)
    }
}

/// A standby.
pub(crate) struct Replica {
    connections: Connections,
    max_lag: Duration,
    /// It shows all that was committed before.
    as_of: Mutex<Option<Instant>>,
}

impl Replica {
    pub(crate) fn new(config: ReplicaConfig, connections: usize) -> Result<Replica> {
        Ok(Replica {
            connections: Connections::new(config.login, connections)?,
            max_lag: config.max_lag,
            as_of: Mutex::default(),
        })
    }

    fn as_of(&self) -> MutexGuard<'_, Option<Instant>> {
        self.as_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old what it shows is at most, if it can be said.
    pub(crate) fn lag(&self) -> Option<Duration> {
        self.as_of().map(|as_of| as_of.elapsed())
    }

    /// Whether what it shows now is no older than allowed.
    pub(crate) fn serves(&self) -> bool {
        self.lag().is_some_and(|lag| lag <= self.max_lag)
    }

    /// How its connections are used at this moment.
    pub(crate) fn status(&self) -> deadpool::Status {
        self.connections.status()
    }

    /// Begins a transaction of a tenant on it. After a failure nobody else tries until it was measured again; that
    /// calls have all the places that are theirs is none of its, and neither is that beginning took too long.
    pub(crate) async fn begin(
        &self,
        tenant: TenantId,
        settings: &str,
        is_bound: bool,
    ) -> Result<Tx> {
        let too_old = || StoreError::Pool("it got too old meanwhile".into());
        let place = self.connections.place(Some(tenant)).await?;
        // What the transaction shows is of this moment or later, however long it takes to begin.
        let as_of = *self.as_of();
        let serves = || as_of.is_some_and(|as_of| as_of.elapsed() <= self.max_lag);
        if !serves() {
            return Err(too_old());
        }
        let connections = &self.connections;
        let begun = connections.begin(SNAPSHOT, settings, is_bound, place).await;
        match begun {
            Ok(tx) if serves() => Ok(tx),
            Ok(_) => Err(too_old()),
            Err(error) => {
                *self.as_of() = None;
                Err(error)
            }
        }
    }

    /// Measures it again and again. The log says when it is left alone, and when it is used.
    pub(crate) async fn watch(&self, primary: &Login) {
        let (mut of_primary, mut own) = (None, None);
        let mut marks = Marks::default();
        let mut served = None;
        let mut ticks = tokio::time::interval(MEASURE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let at = Instant::now();
            if let Some(end) = place(&mut of_primary, primary, END).await {
                marks.note(at, end, self.max_lag);
            }
            let replayed = place(&mut own, self.connections.login(), REPLAYED).await;
            *self.as_of() = replayed.and_then(|replayed| marks.as_of(replayed));
            let serves = self.serves();
            if served == Some(serves) {
                continue;
            }
            served = Some(serves);
            let max_lag = self.max_lag.as_secs();
            match (serves, replayed) {
                (true, _) => tracing::info!("the replica is used for what reads much"),
                (false, Some(_)) => tracing::warn!(
                    "the replica is more than {max_lag} s behind: all is read from the primary"
                ),
                (false, None) => {
                    tracing::warn!(
                        "the replica does not answer as one: all is read from the primary"
                    );
                }
            }
        }
    }
}

/// Asks for a place in the log.
async fn place(kept: &mut Option<Probe>, login: &Login, sql: &str) -> Option<Lsn> {
    let place = Probe::ask(kept, login, sql).await;
    let place = place.as_deref().and_then(Lsn::read);
    if place.is_none() {
        // Another connection may lead to another server.
        *kept = None;
    }
    place
}

/// How many transactions of `Store::begin_read` there were.
#[derive(Debug, Default)]
pub struct Reads {
    replica: AtomicU64,
    primary: AtomicU64,
}

impl Reads {
    pub(crate) fn count(&self, on_replica: bool) {
        let counter = match on_replica {
            true => &self.replica,
            false => &self.primary,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// So many, by the server that they were on.
    pub fn by_server(&self) -> [(&'static str, u64); 2] {
        [
            ("replica", self.replica.load(Ordering::Relaxed)),
            ("primary", self.primary.load(Ordering::Relaxed)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_postgresql_writes_them() {
        assert_eq!(Lsn::read("16/B374D848"), Some(Lsn(0x16_B374_D848)));
        assert!(Lsn::read("0/FFFFFFFF") < Lsn::read("1/0"));
        for text in ["", "16", "16/", "x/1", "16/B374D8481"] {
            assert_eq!(Lsn::read(text), None, "{text}");
        }
    }

    #[test]
    fn what_it_shows_is_as_old_as_the_last_mark_that_was_replayed() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let max_lag = Duration::from_secs(5);
        let mut marks = Marks::default();
        assert_eq!(marks.as_of(Lsn(100)), None);
        for second in 0..4 {
            marks.note(at(second), Lsn(10 * second), max_lag);
        }
        assert_eq!(marks.as_of(Lsn(30)), Some(at(3)));
        assert_eq!(marks.as_of(Lsn(29)), Some(at(2)));
        // Nothing is written: what was replayed is all there is, and it is of now.
        marks.note(at(4), Lsn(30), max_lag);
        assert_eq!(marks.as_of(Lsn(30)), Some(at(4)));
        // It stands still, and has nothing new any more once it is too old.
        marks.note(at(7), Lsn(70), max_lag);
        assert_eq!(marks.as_of(Lsn(20)), Some(at(2)));
        marks.note(at(8), Lsn(80), max_lag);
        assert_eq!(marks.as_of(Lsn(20)), None);
        // Another primary, whose log is shorter: what was noted of the one before says nothing.
        marks.note(at(9), Lsn(60), max_lag);
        assert_eq!(marks.as_of(Lsn(59)), None);
        assert_eq!(marks.as_of(Lsn(80)), Some(at(9)));
    }
}
