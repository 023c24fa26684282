//! What the process has to say to its host. Saying it never waits: what the socket does not take
//! at once is kept, and written by a thread.
//!
//! What is kept is bounded: completions by the calls in flight, deliveries by the credit that the
//! host gave, and telemetry is not taken while much is kept.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::frame::{Kind, whole};

/// Frames that may be kept before telemetry is no longer taken.
const CROWDED: usize = 256;

/// See the module's documentation.
pub(crate) struct Outbox {
    socket: UnixStream,
    state: Mutex<State>,
    more: Condvar,
    /// What to say of the counters, when they changed.
    counters: Box<dyn Fn() -> Vec<u8> + Send + Sync>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Vec<u8>>,
    /// The thread is in the middle of a frame.
    writing: bool,
    counted: bool,
    /// The host does not read any more.
    broken: bool,
}

impl Outbox {
    /// One, and its thread.
    pub(crate) fn start(
        socket: UnixStream,
        counters: impl Fn() -> Vec<u8> + Send + Sync + 'static,
    ) -> std::io::Result<Arc<Self>> {
        let outbox = Arc::new(Self {
            socket,
            state: Mutex::default(),
            more: Condvar::new(),
            counters: Box::new(counters),
        });
        let writer = Arc::clone(&outbox);
        std::thread::Builder::new()
            .name("plugin-host".to_owned())
            .spawn(move || writer.write_kept())?;
        Ok(outbox)
    }

    /// Says something.
    pub(crate) fn push(&self, kind: Kind, code: i32, id: u64, payload: &[u8]) {
        self.put(whole(kind, code, id, payload), self.state());
    }

    /// Says something that may be left out; `false` if it was.
    pub(crate) fn offer(&self, kind: Kind, code: i32, payload: &[u8]) -> bool {
        let state = self.state();
        let takes = state.kept.len() < CROWDED;
        if takes {
            self.put(whole(kind, code, 0, payload), state);
        }
        takes
    }

    /// The counters changed: says so before long.
    pub(crate) fn counted(&self) {
        let mut state = self.state();
        if !state.counted {
            state.counted = true;
            self.more.notify_all();
        }
    }

    /// Waits until all is said, for at most so long.
    pub(crate) fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state();
        while !state.broken && (!state.kept.is_empty() || state.writing || state.counted) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.more.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn put(&self, mut frame: Vec<u8>, mut state: MutexGuard<'_, State>) {
        if state.broken {
            return;
        }
        if state.kept.is_empty() && !state.writing {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.socket, &frame, flags) {
                Ok(all) if all == frame.len() => return,
                Ok(some) => {
                    frame.drain(..some);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    state.broken = true;
                    return;
                }
            }
        }
        state.kept.push_back(frame);
        self.more.notify_all();
    }

    fn write_kept(&self) {
        let mut state = self.state();
        loop {
            if state.counted {
                state.counted = false;
                let counters = whole(Kind::Counters, 0, 0, &(self.counters)());
                state.kept.push_back(counters);
            }
            let Some(frame) = state.kept.pop_front() else {
                let waited = self.more.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            let written = self.write(&frame);
            state = self.state();
            state.writing = false;
            self.more.notify_all();
            if !written {
                state.broken = true;
                return;
            }
        }
    }

    fn write(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
