//! The connections for submitting: few, reused, replaced.
//!
//! Idle ones are kept for [`IDLE_LIMIT`]; hfaxd drops them after 15 minutes by itself. The first
//! command on one that was idle may find it dead; nothing was begun then, and a fresh one is opened.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::Settings;
use super::session::{Fault, Session};

const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// Jobs after which a connection is replaced: hfaxd keeps all of them in mind.
const JOBS_PER_CONNECTION: u32 = 50;

pub(crate) struct Pool {
    slots: Semaphore,
    /// With the time since when they rest, the most recent last.
    idle: Mutex<Vec<(Instant, Session)>>,
}

/// A connection and the right to have it.
pub(crate) struct Lease<'a> {
    pub(crate) session: Session,
    _slot: SemaphorePermit<'a>,
}

impl Pool {
    pub(crate) fn new(connections: usize) -> Self {
        Self {
            slots: Semaphore::new(connections),
            idle: Mutex::default(),
        }
    }

    /// Waits for a place and gives a connection on which no job is begun: what a job is not told, it
    /// inherits from the one before.
    pub(crate) async fn lease(&self, settings: &Settings) -> Result<Lease<'_>, Fault> {
        let slot = self.slots.acquire().await.expect("is never closed");
        while let Some(mut session) = self.rested() {
            if session.done("JOB default").await.is_ok() {
                return Ok(Lease {
                    session,
                    _slot: slot,
                });
            }
        }
        let session = Session::open(settings).await?;
        Ok(Lease {
            session,
            _slot: slot,
        })
    }

    /// Takes a connection back, whose last job was submitted.
    pub(crate) async fn give_back(&self, lease: Lease<'_>) {
        if lease.session.jobs >= JOBS_PER_CONNECTION {
            lease.session.quit().await;
        } else {
            self.idle().push((Instant::now(), lease.session));
        }
    }

    /// Says goodbye on every idle connection.
    pub(crate) async fn shut_down(&self) {
        let idle = std::mem::take(&mut *self.idle());
        join_all(idle.into_iter().map(|(_, session)| session.quit())).await;
    }

    fn rested(&self) -> Option<Session> {
        let mut idle = self.idle();
        idle.retain(|(since, _)| since.elapsed() < IDLE_LIMIT);
        idle.pop().map(|(_, session)| session)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Instant, Session)>> {
        // No code that can panic runs under the lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
