//! Bytes of answers that are in memory because nobody has taken them yet.
//!
//! They are counted until they are gone, also behind us: hyper and h2 hold what a client gives them no window for, for
//! as long as it answers pings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Bytes;

use crate::connections::Answer;

/// What an answer takes besides its bytes, and a piece of it that is left in the connection: a stream, a task, headers.
pub const BESIDE: usize = 8 * 1_024;

/// So much of a tenant, or of all.
pub struct Untaken {
    most: usize,
    bytes: AtomicUsize,
    /// That of all, where it is counted as well, as far as it is not more than may be: what one tenant has beyond
    /// that takes nothing from others.
    all: Option<Arc<Untaken>>,
}

impl Untaken {
    /// Nothing so far.
    pub fn new(most: usize, all: Option<&Arc<Untaken>>) -> Arc<Self> {
        Arc::new(Untaken {
            most,
            bytes: AtomicUsize::new(0),
            all: all.cloned(),
        })
    }

    /// Whether it is as much as it may be.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.most
    }

    /// Counts some until what it gives is dropped.
    pub fn count(self: &Arc<Self>, bytes: usize) -> Counted {
        self.add(bytes);
        Counted {
            by: Arc::clone(self),
            bytes,
        }
    }

    /// A copy for the connection that is counted until the last reference to it is gone.
    pub fn counted(self: &Arc<Self>, bytes: &[u8], of: &Arc<Answer>) -> Bytes {
        Bytes::from_owner(Piece {
            bytes: bytes.into(),
            _counted: self.count(bytes.len() + BESIDE),
            _of: Arc::clone(of),
        })
    }

    fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(all) = &self.all {
            all.add(self.within(before + bytes) - self.within(before));
        }
    }

    fn remove(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(all) = &self.all {
            all.remove(self.within(before) - self.within(before - bytes));
        }
    }

    fn within(&self, bytes: usize) -> usize {
        bytes.min(self.most)
    }
}

/// Bytes that are counted as long as this is there.
pub struct Counted {
    by: Arc<Untaken>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.by.remove(self.bytes);
    }
}

struct Piece {
    bytes: Box<[u8]>,
    _counted: Counted,
    _of: Arc<Answer>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
