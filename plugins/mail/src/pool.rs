//! The connections of one account: bounded, reused, replaced.
//!
//! A [`Worker`] is the right to hold one connection. Connections that no worker holds are idle,
//! for at most [`IDLE_LIMIT`]. Servers drop idle connections as they please, so one that rested
//! is asked before it is used, and the first command on a reused one may fail once.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_plugin_sdk::{Busy, Outcome};
use futures::future::join_all;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Settings;
use crate::mime::Mail;
use crate::smtp::{Connection, Verdict};

/// Idle connections older than this are not used again; many servers wait five minutes, some
/// only one.
const IDLE_LIMIT: Duration = Duration::from_secs(55);
/// A connection that rested for longer is asked whether it still lives: one that died silently
/// would otherwise cost the full timeout.
const ASK_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct Pool {
    settings: Settings,
    slots: Semaphore,
    busy: Busy,
    /// With the time since when they rest, the most recent last.
    idle: Mutex<Vec<(Instant, Connection)>>,
}

impl Pool {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            slots: Semaphore::new(settings.connections),
            settings,
            busy: Busy::default(),
            idle: Mutex::default(),
        }
    }

    /// How long after a batch came its last mails may be begun.
    pub(crate) fn begin_within(&self) -> Duration {
        self.settings.begin_within
    }

    /// Waits for a free place and connects.
    pub(crate) async fn worker(&self) -> Result<Worker<'_>, Outcome> {
        let slot = self.slots.acquire().await.expect("is never closed");
        let mut worker = Worker::new(self, slot);
        worker.connect().await?;
        Ok(worker)
    }

    /// Up to `count` further workers, as many as have a place right now; not yet connected.
    pub(crate) fn further_workers(&self, count: usize) -> Vec<Worker<'_>> {
        std::iter::from_fn(|| self.slots.try_acquire().ok())
            .take(count)
            .map(|slot| Worker::new(self, slot))
            .collect()
    }

    /// Whether the server takes us, in words.
    pub(crate) async fn probe(&self) -> Result<String, Outcome> {
        let Ok(slot) = self.slots.try_acquire() else {
            return Ok("all connections are in use".to_owned());
        };
        let mut worker = Worker::new(self, slot);
        worker.connect().await?;
        worker.finish().await;
        Ok("connected".to_owned())
    }

    /// Says goodbye on every idle connection.
    pub(crate) async fn shut_down(&self) {
        let idle = std::mem::take(&mut *self.idle());
        join_all(idle.into_iter().map(|(_, connection)| connection.quit())).await;
    }

    /// An idle connection that still lives.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle().pop()?;
            let rested = since.elapsed();
            let alive = rested < ASK_AFTER
                || (rested < IDLE_LIMIT && connection.answers(&self.settings).await);
            if alive {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Connection)>> {
        // No code that can panic runs under the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to hold one connection. A connection that it holds when it is dropped unfinished
/// is closed: nobody knows in which state it is.
pub(crate) struct Worker<'a> {
    pool: &'a Pool,
    _slot: SemaphorePermit<'a>,
    connection: Option<Connection>,
}

impl<'a> Worker<'a> {
    fn new(pool: &'a Pool, slot: SemaphorePermit<'a>) -> Self {
        Self {
            pool,
            _slot: slot,
            connection: None,
        }
    }

    /// Makes sure that there is a connection; an error is the outcome of what would have gone
    /// over it.
    pub(crate) async fn connect(&mut self) -> Result<(), Outcome> {
        if self.connection.is_none() {
            self.connection = Some(match self.pool.take_idle().await {
                Some(connection) => connection,
                None => Connection::open(&self.pool.settings).await?,
            });
        }
        Ok(())
    }

    /// Hands one mail over; [`connect`](Worker::connect) comes before each.
    pub(crate) async fn deliver(&mut self, mail: &Mail) -> Outcome {
        let Pool { settings, busy, .. } = self.pool;
        let connection = self.connection.take().expect("connected before");
        let verdict = match connection.deliver(settings, busy, mail).await {
            // Nothing was taken on the stale one: once more on a fresh one.
            Verdict::Stale => match Connection::open(settings).await {
                Ok(fresh) => fresh.deliver(settings, busy, mail).await,
                Err(failed) => return failed,
            },
            verdict => verdict,
        };
        match verdict {
            Verdict::Settled(outcome, connection) => {
                self.keep(connection).await;
                outcome
            }
            Verdict::Stale => Outcome::transient("CONNECT", "the connection was lost"),
        }
    }

    /// Gives the connection back for others.
    pub(crate) async fn finish(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle().push((Instant::now(), connection));
        }
    }

    async fn keep(&mut self, connection: Option<Connection>) {
        let most = self.pool.settings.messages_per_connection;
        match connection {
            Some(connection) if connection.delivered() >= most => connection.quit().await,
            connection => self.connection = connection,
        }
    }
}
