//! Who waits for which call, and where events go: completions find the call that waits for them,
//! events their instance.
//!
//! One board for each plugin. What arrives is copied and handed over; nothing here blocks or calls
//! the plugin.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{DeliveryEvent, InboundEvent, LogEvent, MetricEvent, SpanEvent};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

use crate::table::Callbacks;

/// Ids of calls and instances are unique within the process, whatever the plugin.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Largest delivery or inbound event in bytes, as many are kept until somebody takes them.
pub(crate) const LARGEST_EVENT: usize = 1 << 20;
/// Largest log line, span or measurement in bytes.
pub(crate) const LARGEST_TELEMETRY: usize = 64 << 10;

/// A fresh id for a call or an instance.
pub(crate) fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Relaxed)
}

/// What happened to messages, or came in. Never lost: a plugin repeats it until it is taken.
#[derive(Debug, Clone, PartialEq)]
pub enum PluginEvent {
    /// What became of a message.
    Delivery(DeliveryEvent),
    /// Somebody wrote to us.
    Inbound(InboundEvent),
}

impl PluginEvent {
    /// Reads one; the status says what is wrong with it.
    pub(crate) fn read(kind: u32, message: &[u8]) -> Result<Self, AnkStatus> {
        if message.len() > LARGEST_EVENT {
            return Err(ANK_INVALID);
        }
        let read = match kind {
            ANK_EV_DELIVERY => DeliveryEvent::decode(message).map(Self::Delivery),
            ANK_EV_INBOUND => InboundEvent::decode(message).map(Self::Inbound),
            _ => return Err(ANK_UNSUPPORTED),
        };
        read.map_err(|_| ANK_INVALID)
    }
}

/// What a plugin tells of its work. May be dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Telemetry {
    /// A line for the log.
    Log(LogEvent),
    /// A finished span.
    Span(SpanEvent),
    /// A measurement.
    Metric(MetricEvent),
}

impl Telemetry {
    /// Reads it; the status says what is wrong with it.
    pub(crate) fn read(kind: u32, message: &[u8]) -> Result<Self, AnkStatus> {
        if message.len() > LARGEST_TELEMETRY {
            return Err(ANK_INVALID);
        }
        let read = match kind {
            ANK_EV_LOG => LogEvent::decode(message).map(Self::Log),
            ANK_EV_SPAN => SpanEvent::decode(message).map(Self::Span),
            ANK_EV_METRIC => MetricEvent::decode(message).map(Self::Metric),
            _ => return Err(ANK_UNSUPPORTED),
        };
        read.map_err(|_| ANK_INVALID)
    }
}

/// Whether events of this kind must not be lost.
pub(crate) fn must_arrive(kind: u32) -> bool {
    matches!(kind, ANK_EV_DELIVERY | ANK_EV_INBOUND)
}

/// The events of one instance. Both receivers end when the instance is closed.
#[derive(Debug)]
pub struct Events {
    /// While nobody takes these, the plugin is told to wait.
    pub deliveries: mpsc::Receiver<PluginEvent>,
    /// While nobody takes these, new ones are dropped.
    pub telemetry: mpsc::Receiver<Telemetry>,
}

/// Where the events of an instance go.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    pub(crate) deliveries: mpsc::Sender<PluginEvent>,
    pub(crate) telemetry: mpsc::Sender<Telemetry>,
}

/// How often a plugin broke a rule, or was too late, since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Completions of calls that nobody made, or that were complete before.
    pub stray_completions: u64,
    /// Completions of calls that the host had given up.
    pub late_completions: u64,
    /// Logs, spans and metrics that were dropped because nobody took them.
    pub dropped_telemetry: u64,
    /// Events that could not be read, or belong to no instance.
    pub refused_events: u64,
}

/// [`Counters`] that count.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) stray: AtomicU64,
    pub(crate) late: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counts {
    pub(crate) fn now(&self) -> Counters {
        Counters {
            stray_completions: self.stray.load(Relaxed),
            late_completions: self.late.load(Relaxed),
            dropped_telemetry: self.dropped.load(Relaxed),
            refused_events: self.refused.load(Relaxed),
        }
    }
}

/// How a call ended, by what the plugin said.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) status: AnkStatus,
    pub(crate) reply: Vec<u8>,
}

impl Completion {
    /// The reason that goes with a status other than OK.
    pub(crate) fn reason(&self) -> String {
        let text = String::from_utf8_lossy(&self.reply);
        match self.status {
            ANK_INTERNAL => format!("the plugin failed: {text}"),
            status => format!("status {status}: {text}"),
        }
    }
}

/// What became of a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The plugin completed it.
    Completed(Completion),
    /// The plugin did not take it.
    NotTaken(AnkStatus),
    /// It never got to the plugin.
    Unsent(String),
    /// The plugin may have it, and will never answer.
    Lost(String),
}

enum Waiting {
    /// Somebody waits.
    For(oneshot::Sender<Answer>),
    /// Nobody waits any more.
    GivenUp,
    /// Nobody ever waited.
    Unattended,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Switchboard {
    calls: Mutex<HashMap<u64, (u64, Waiting)>>,
    hubs: Mutex<HashMap<u64, Hub>>,
    pub(crate) counts: Counts,
}

impl Switchboard {
    /// Announces a call, before it is made: its completion may be faster than its return.
    pub(crate) fn expect(self: &Arc<Self>, inst_id: u64) -> Expected {
        let (call_id, (sender, receiver)) = (next_id(), oneshot::channel());
        let waiting = (inst_id, Waiting::For(sender));
        self.calls().insert(call_id, waiting);
        Expected {
            board: Arc::clone(self),
            call_id,
            receiver,
        }
    }

    /// Announces a call whose completion interests nobody.
    pub(crate) fn expect_unattended(&self, inst_id: u64) -> u64 {
        let call_id = next_id();
        self.calls().insert(call_id, (inst_id, Waiting::Unattended));
        call_id
    }

    /// Takes an announcement back: the call was not accepted.
    pub(crate) fn forget(&self, call_id: u64) {
        self.calls().remove(&call_id);
    }

    /// Whether a call is not over yet.
    pub(crate) fn is_open(&self, call_id: u64) -> bool {
        self.calls().contains_key(&call_id)
    }

    /// Calls of an instance that are not over yet.
    pub(crate) fn open_calls(&self, inst_id: u64) -> usize {
        let calls = self.calls();
        calls.values().filter(|(of, _)| *of == inst_id).count()
    }

    /// Tells who waits that a call was not made after all.
    pub(crate) fn not_made(&self, call_id: u64, answer: Answer) {
        let waiting = self.calls().remove(&call_id);
        if let Some((_, Waiting::For(sender))) = waiting {
            let _ = sender.send(answer);
        }
    }

    /// Opens the way for events of an instance in this process.
    pub(crate) fn connect(&self, inst_id: u64, hub: Hub) {
        self.hubs().insert(inst_id, hub);
    }

    /// Ends the events of an instance and every call that still waits for it.
    pub(crate) fn disconnect(&self, inst_id: u64, reason: &str) {
        self.hubs().remove(&inst_id);
        let lost: Vec<_> = {
            let mut calls = self.calls();
            let of_it = calls.extract_if(|_, (instance, _)| *instance == inst_id);
            of_it.collect()
        };
        for (_, (_, waiting)) in lost {
            if let Waiting::For(sender) = waiting {
                let _ = sender.send(Answer::Lost(reason.to_owned()));
            }
        }
    }

    /// Counts telemetry that nobody took.
    pub(crate) fn dropped_telemetry(&self) {
        self.counts.dropped.fetch_add(1, Relaxed);
    }

    fn deliver(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus {
        let sender = self.hubs().get(&inst_id).map(|h| h.deliveries.clone());
        offer(sender, || PluginEvent::read(kind, message))
    }

    fn tell(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus {
        let sender = self.hubs().get(&inst_id).map(|h| h.telemetry.clone());
        let status = offer(sender, || Telemetry::read(kind, message));
        if status == ANK_BUSY {
            self.dropped_telemetry();
        }
        status
    }

    // No code that can panic runs under these locks.
    fn calls(&self) -> MutexGuard<'_, HashMap<u64, (u64, Waiting)>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hubs(&self) -> MutexGuard<'_, HashMap<u64, Hub>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callbacks for Switchboard {
    fn completed(&self, call_id: u64, status: AnkStatus, reply: &[u8]) {
        let waiting = self.calls().remove(&call_id);
        let count = |which: &AtomicU64| {
            which.fetch_add(1, Relaxed);
        };
        match waiting {
            Some((_, Waiting::For(sender))) => {
                let reply = reply.to_vec();
                let answer = Answer::Completed(Completion { status, reply });
                if sender.send(answer).is_err() {
                    count(&self.counts.late);
                }
            }
            Some((_, Waiting::GivenUp)) => count(&self.counts.late),
            Some((_, Waiting::Unattended)) => {}
            None => count(&self.counts.stray),
        }
    }

    fn happened(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus {
        let status = match must_arrive(kind) {
            true => self.deliver(inst_id, kind, message),
            false => self.tell(inst_id, kind, message),
        };
        if !matches!(status, ANK_OK | ANK_BUSY) {
            self.counts.refused.fetch_add(1, Relaxed);
        }
        status
    }
}

/// Reads and hands over without waiting.
fn offer<E>(
    sender: Option<mpsc::Sender<E>>,
    read: impl FnOnce() -> Result<E, AnkStatus>,
) -> AnkStatus {
    let Some(sender) = sender else {
        return ANK_CLOSED;
    };
    let event = match read() {
        Ok(event) => event,
        Err(status) => return status,
    };
    match sender.try_send(event) {
        Ok(()) => ANK_OK,
        Err(mpsc::error::TrySendError::Full(_)) => ANK_BUSY,
        Err(mpsc::error::TrySendError::Closed(_)) => ANK_CLOSED,
    }
}

/// A call that waits for its completion. Dropping it gives the call up: its completion will be
/// counted and dropped.
pub(crate) struct Expected {
    board: Arc<Switchboard>,
    pub(crate) call_id: u64,
    receiver: oneshot::Receiver<Answer>,
}

impl Expected {
    /// Waits for what becomes of it.
    pub(crate) async fn answer(&mut self) -> Answer {
        let lost = |_| Answer::Lost("the instance was closed".to_owned());
        (&mut self.receiver).await.unwrap_or_else(lost)
    }

    /// From here on a completion is late.
    pub(crate) fn give_up(&mut self) {
        if let Some((_, waiting)) = self.board.calls().get_mut(&self.call_id) {
            *waiting = Waiting::GivenUp;
        }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.give_up();
    }
}
