//! The calls in flight of one instance: bounded, and each completed exactly once.
//!
//! Whoever takes a call's id out of the map has the right, and the duty, to complete it: the
//! task itself, its guard when it panics or is dropped, a cancellation, or the drain. So two of
//! them can never both complete it, and the last of them always does.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anklang_plugin_abi::*;
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::entry::panic_text;
use crate::host::RawHost;

/// See the module's documentation.
pub(crate) struct Calls {
    host: RawHost,
    limit: usize,
    state: Mutex<State>,
    /// Calls whose completion has not yet been handed over in full.
    undelivered: watch::Sender<usize>,
}

struct State {
    accepting: bool,
    in_flight: HashMap<u64, AbortHandle>,
}

impl Calls {
    pub(crate) fn new(host: RawHost, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            host,
            limit,
            state: Mutex::new(State {
                accepting: true,
                in_flight: HashMap::new(),
            }),
            undelivered: watch::Sender::new(0),
        })
    }

    /// Accepts a call and runs it on `runtime`, or says why not.
    pub(crate) fn start(
        self: &Arc<Self>,
        runtime: &Handle,
        call_id: u64,
        work: impl Future<Output = Vec<u8>> + Send + 'static,
    ) -> AnkStatus {
        let mut state = self.state();
        if !state.accepting {
            return ANK_CLOSED;
        }
        if state.in_flight.contains_key(&call_id) {
            return ANK_INVALID;
        }
        if state.in_flight.len() >= self.limit {
            return ANK_BUSY;
        }
        self.undelivered.send_modify(|count| *count += 1);
        let guard = Guard {
            calls: Arc::clone(self),
            call_id,
        };
        #[cfg(feature = "faults")]
        let work = crate::faults::CALL.scope((self.host, call_id), work);
        // The lock is held until the id is in the map: the task waits for it.
        let task = runtime.spawn(async move {
            let guard = guard;
            match AssertUnwindSafe(work).catch_unwind().await {
                Ok(reply) => guard.calls.finish(call_id, ANK_OK, &reply),
                Err(panic) => {
                    let text = panic_text(panic);
                    guard.calls.finish(call_id, ANK_INTERNAL, text.as_bytes());
                }
            }
        });
        state.in_flight.insert(call_id, task.abort_handle());
        ANK_OK
    }

    /// Gives a call up; an unknown one is left alone.
    pub(crate) fn cancel(&self, call_id: u64) {
        let task = self.state().in_flight.get(&call_id).cloned();
        if let Some(task) = task {
            self.finish(call_id, ANK_INTERNAL, b"cancelled by the host");
            task.abort();
        }
    }

    /// Accepts no more calls; `false` if that was so before.
    pub(crate) fn close(&self) -> bool {
        std::mem::replace(&mut self.state().accepting, false)
    }

    /// Waits until every call is completed, at most `patience`.
    pub(crate) async fn wait(&self, patience: Duration) {
        let mut undelivered = self.undelivered.subscribe();
        let done = undelivered.wait_for(|count| *count == 0);
        // Either way the caller goes on to `abandon`, which finds what is left.
        let _ = tokio::time::timeout(patience, done).await;
    }

    /// Completes what is left as failed, and stops it.
    pub(crate) async fn abandon(&self) {
        let left: Vec<_> = self.state().in_flight.clone().into_iter().collect();
        for (call_id, task) in left {
            self.finish(call_id, ANK_INTERNAL, b"not finished when the drain ended");
            task.abort();
        }
        // A task may just be handing over its own completion, which takes no time.
        let mut undelivered = self.undelivered.subscribe();
        let _ = undelivered.wait_for(|count| *count == 0).await;
    }

    fn finish(&self, call_id: u64, status: AnkStatus, reply: &[u8]) {
        // The place in the bound is free before the host hears of it, so that its next call
        // is not turned away.
        let ours = self.state().in_flight.remove(&call_id).is_some();
        if ours {
            self.host.complete(call_id, status, reply);
            self.undelivered.send_modify(|count| *count -= 1);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Completes its call when the task ends in any other way than by itself.
struct Guard {
    calls: Arc<Calls>,
    call_id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.calls
            .finish(self.call_id, ANK_INTERNAL, b"the call was dropped");
    }
}
