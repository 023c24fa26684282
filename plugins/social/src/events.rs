//! What comes in by asking the network again and again: numbered events, which the host
//! acknowledges.
//!
//! A round asks, hands over what came, waits for the acknowledgement of all of it and only then
//! moves its position on. So there is never more than one answer's worth in memory, and what was
//! not acknowledged comes again after a restart.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anklang_plugin_sdk::{DeliveryEvent, Host, HostClosed, InboundEvent, Level};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// First pause after a failed round, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a round ended early.
pub(crate) enum Ended {
    /// The host takes no more events.
    Closed,
    /// This failed, in words without secrets and personal data.
    Failed(String),
}

impl From<HostClosed> for Ended {
    fn from(_: HostClosed) -> Self {
        Ended::Closed
    }
}

/// The events that wait for their acknowledgement.
pub(crate) struct Open {
    last: AtomicU64,
    ids: watch::Sender<BTreeSet<u64>>,
}

impl Default for Open {
    fn default() -> Self {
        Open {
            last: AtomicU64::new(anklang_plugin_sdk::events_from()),
            ids: watch::Sender::default(),
        }
    }
}

impl Open {
    /// A number for a new event.
    fn number(&self) -> u64 {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.ids.send_modify(|ids| {
            ids.insert(id);
        });
        id
    }

    /// The host has committed these. Unknown ones are left alone.
    pub(crate) fn acknowledge(&self, event_ids: &[u64]) {
        self.ids.send_modify(|ids| {
            for id in event_ids {
                ids.remove(id);
            }
        });
    }

    /// Waits until all are acknowledged.
    pub(crate) async fn settled(&self) {
        let mut ids = self.ids.subscribe();
        // The sender lives as long as we do.
        let _ = ids.wait_for(BTreeSet::is_empty).await;
    }
}

/// The way of events to the host.
#[derive(Clone)]
pub(crate) struct Events {
    host: Host,
    pub(crate) open: Arc<Open>,
}

impl Events {
    pub(crate) fn new(host: Host) -> Self {
        let open = Arc::default();
        Self { host, open }
    }

    pub(crate) async fn inbound(&self, mut event: InboundEvent) -> Result<(), HostClosed> {
        event.event_id = self.open.number();
        self.host.inbound(&event).await
    }

    pub(crate) async fn delivery(&self, mut event: DeliveryEvent) -> Result<(), HostClosed> {
        event.event_id = self.open.number();
        self.host.delivery(&event).await
    }

    pub(crate) fn warn(&self, message: &'static str, reason: String) {
        self.host.log(Level::Warn, message, &[("reason", reason)]);
    }
}

/// A task that ends when this is dropped.
pub(crate) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs rounds until the host is closed. Failures are followed by growing pauses, and logged when
/// they begin and end.
pub(crate) fn run<R, F>(events: Events, mut round: R) -> Task
where
    R: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<(), Ended>> + Send + 'static,
{
    Task(tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            match round().await {
                Ok(()) => {
                    if pause > FIRST_PAUSE {
                        let text = "what comes in is read again";
                        events.host.log(Level::Info, text, &[]);
                    }
                    pause = FIRST_PAUSE;
                }
                Err(Ended::Closed) => return,
                Err(Ended::Failed(reason)) => {
                    if pause == FIRST_PAUSE {
                        events.warn("what comes in cannot be read", reason);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_settled_when_all_are_acknowledged() {
        let open = Arc::new(Open::default());
        open.settled().await;
        let (first, second) = (open.number(), open.number());
        open.acknowledge(&[first, 4711]);
        let waiting = tokio::spawn({
            let open = Arc::clone(&open);
            async move { open.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        open.acknowledge(&[second]);
        waiting.await.expect("it ends");
    }
}
