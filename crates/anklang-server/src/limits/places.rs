//! Places for calls that are under way at the same time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Length;
use super::untaken::Untaken;
use crate::config::AtOnce;

/// Those of a tenant, or of all. Cheap to clone.
#[derive(Clone)]
pub struct Places {
    pub(super) calls: Arc<Semaphore>,
    pub(super) streams: Arc<Semaphore>,
    /// Their answers.
    pub(super) untaken: Arc<Untaken>,
}

impl Places {
    /// So many, all of them free.
    pub(super) fn new(of: AtOnce, untaken: Arc<Untaken>) -> Self {
        Places {
            calls: Arc::new(Semaphore::new(of.calls)),
            streams: Arc::new(Semaphore::new(of.streams)),
            untaken,
        }
    }

    /// One of them, if there is one now.
    pub(super) fn take(&self, length: Length) -> Option<OwnedSemaphorePermit> {
        let places = match length {
            Length::Short => &self.calls,
            Length::Waiting | Length::Stream => &self.streams,
        };
        Arc::clone(places).try_acquire_owned().ok()
    }
}
