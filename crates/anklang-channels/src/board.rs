//! Where plugins call back: completions find the call that waits for them, events find their
//! instance.
//!
//! One board per loaded library, kept for ever, because the library is. What arrives is copied
//! and handed over; nothing here blocks, calls the plugin, or can panic into it.
#![expect(unsafe_code, reason = "is called by foreign code with borrowed memory")]

use std::collections::HashMap;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{DeliveryEvent, InboundEvent, LogEvent, MetricEvent, SpanEvent};
use prost::Message;
use tokio::sync::{mpsc, oneshot};

/// Ids of calls and instances are unique within the process, whatever the plugin.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

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

/// The events of one instance. Both receivers end when the instance is closed.
#[derive(Debug)]
pub struct Events {
    /// While nobody takes these, the plugin is told to wait.
    pub deliveries: mpsc::Receiver<PluginEvent>,
    /// While nobody takes these, new ones are dropped.
    pub telemetry: mpsc::Receiver<Telemetry>,
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

#[derive(Default)]
struct Atomics {
    stray: AtomicU64,
    late: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
}

/// How a call ended.
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

enum Waiting {
    /// Somebody waits.
    For(oneshot::Sender<Completion>),
    /// Nobody waits any more.
    GivenUp,
    /// Nobody ever waited.
    Unattended,
}

struct Sink {
    deliveries: mpsc::Sender<PluginEvent>,
    telemetry: mpsc::Sender<Telemetry>,
}

/// See the module's documentation.
pub(crate) struct Switchboard {
    table: AnkHost,
    calls: Mutex<HashMap<u64, (u64, Waiting)>>,
    sinks: Mutex<HashMap<u64, Sink>>,
    counters: Atomics,
}

impl Switchboard {
    /// A board that lives for ever.
    pub(crate) fn leak() -> &'static Self {
        let board: &'static mut Self = Box::leak(Box::new(Self {
            table: AnkHost {
                size: u32::try_from(size_of::<AnkHost>()).expect("far smaller than 4 GiB"),
                abi_major: ANK_ABI_MAJOR,
                abi_minor: ANK_ABI_MINOR,
                ctx: std::ptr::null_mut(),
                complete: Some(complete),
                event: Some(event),
            },
            calls: Mutex::default(),
            sinks: Mutex::default(),
            counters: Atomics::default(),
        }));
        board.table.ctx = std::ptr::from_mut(board).cast();
        board
    }

    pub(crate) fn table(&'static self) -> *const AnkHost {
        &raw const self.table
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            stray_completions: self.counters.stray.load(Relaxed),
            late_completions: self.counters.late.load(Relaxed),
            dropped_telemetry: self.counters.dropped.load(Relaxed),
            refused_events: self.counters.refused.load(Relaxed),
        }
    }

    /// Announces a call, before it is made: its completion may be faster than its return.
    pub(crate) fn expect(&'static self, inst_id: u64) -> Expected {
        let (call_id, (sender, receiver)) = (next_id(), oneshot::channel());
        let waiting = (inst_id, Waiting::For(sender));
        self.calls().insert(call_id, waiting);
        Expected {
            board: self,
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

    /// Opens the way for events of an instance.
    pub(crate) fn connect(&self, inst_id: u64, capacity: usize) -> Events {
        let (deliveries, deliveries_out) = mpsc::channel(capacity);
        let (telemetry, telemetry_out) = mpsc::channel(capacity);
        let sink = Sink {
            deliveries,
            telemetry,
        };
        self.sinks().insert(inst_id, sink);
        Events {
            deliveries: deliveries_out,
            telemetry: telemetry_out,
        }
    }

    /// Ends the events of an instance and every call that still waits for it.
    pub(crate) fn disconnect(&self, inst_id: u64) {
        self.sinks().remove(&inst_id);
        self.calls().retain(|_, (instance, _)| *instance != inst_id);
    }

    /// Counts telemetry that nobody took.
    pub(crate) fn dropped_telemetry(&self) {
        self.counters.dropped.fetch_add(1, Relaxed);
    }

    fn completed(&self, call_id: u64, completion: Completion) {
        let waiting = self.calls().remove(&call_id);
        match waiting {
            Some((_, Waiting::For(sender))) => {
                if sender.send(completion).is_err() {
                    self.counters.late.fetch_add(1, Relaxed);
                }
            }
            Some((_, Waiting::GivenUp)) => {
                self.counters.late.fetch_add(1, Relaxed);
            }
            Some((_, Waiting::Unattended)) => {}
            None => {
                self.counters.stray.fetch_add(1, Relaxed);
            }
        }
    }

    fn happened(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus {
        let status = match kind {
            ANK_EV_DELIVERY => self.deliver(inst_id, message, PluginEvent::Delivery),
            ANK_EV_INBOUND => self.deliver(inst_id, message, PluginEvent::Inbound),
            ANK_EV_LOG => self.tell(inst_id, message, Telemetry::Log),
            ANK_EV_SPAN => self.tell(inst_id, message, Telemetry::Span),
            ANK_EV_METRIC => self.tell(inst_id, message, Telemetry::Metric),
            _ => ANK_UNSUPPORTED,
        };
        if !matches!(status, ANK_OK | ANK_BUSY) {
            self.counters.refused.fetch_add(1, Relaxed);
        }
        status
    }

    fn deliver<M, F>(&self, inst_id: u64, message: &[u8], event: F) -> AnkStatus
    where
        M: Message + Default,
        F: FnOnce(M) -> PluginEvent,
    {
        let sender = self.sinks().get(&inst_id).map(|s| s.deliveries.clone());
        offer(sender, message, event)
    }

    fn tell<M, F>(&self, inst_id: u64, message: &[u8], event: F) -> AnkStatus
    where
        M: Message + Default,
        F: FnOnce(M) -> Telemetry,
    {
        let sender = self.sinks().get(&inst_id).map(|s| s.telemetry.clone());
        let status = offer(sender, message, event);
        if status == ANK_BUSY {
            self.dropped_telemetry();
        }
        status
    }

    // No code that can panic runs under these locks.
    fn calls(&self) -> MutexGuard<'_, HashMap<u64, (u64, Waiting)>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sinks(&self) -> MutexGuard<'_, HashMap<u64, Sink>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decodes and hands over without waiting.
fn offer<M: Message + Default, E>(
    sender: Option<mpsc::Sender<E>>,
    message: &[u8],
    event: impl FnOnce(M) -> E,
) -> AnkStatus {
    let Some(sender) = sender else {
        return ANK_CLOSED;
    };
    let Ok(message) = M::decode(message) else {
        return ANK_INVALID;
    };
    match sender.try_send(event(message)) {
        Ok(()) => ANK_OK,
        Err(mpsc::error::TrySendError::Full(_)) => ANK_BUSY,
        Err(mpsc::error::TrySendError::Closed(_)) => ANK_CLOSED,
    }
}

/// A call that waits for its completion. Dropping it gives the call up: its completion will be
/// counted and dropped.
pub(crate) struct Expected {
    board: &'static Switchboard,
    pub(crate) call_id: u64,
    receiver: oneshot::Receiver<Completion>,
}

impl Expected {
    /// Waits; `None` if the instance was disconnected before.
    pub(crate) async fn completion(&mut self) -> Option<Completion> {
        (&mut self.receiver).await.ok()
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

unsafe extern "C" fn complete(ctx: *mut c_void, call_id: u64, status: AnkStatus, reply: AnkBytes) {
    // SAFETY: the context of our table, which lives for ever and is only ever shared.
    let board = unsafe { &*ctx.cast::<Switchboard>() };
    // SAFETY: lent for the duration of this call, by contract.
    let reply = unsafe { reply.read() }.map(<[u8]>::to_vec);
    let completion = match reply {
        Some(reply) => Completion { status, reply },
        None => Completion {
            status: ANK_INTERNAL,
            reply: b"the reply has a length but no bytes".to_vec(),
        },
    };
    // A panic must not reach the plugin; the call then counts as lost.
    let _ = catch_unwind(AssertUnwindSafe(|| board.completed(call_id, completion)));
}

unsafe extern "C" fn event(
    ctx: *mut c_void,
    inst_id: u64,
    kind: u32,
    message: AnkBytes,
) -> AnkStatus {
    // SAFETY: the context of our table, which lives for ever and is only ever shared.
    let board = unsafe { &*ctx.cast::<Switchboard>() };
    // SAFETY: lent for the duration of this call, by contract.
    let Some(message) = (unsafe { message.read() }) else {
        return ANK_INVALID;
    };
    catch_unwind(AssertUnwindSafe(|| board.happened(inst_id, kind, message)))
        .unwrap_or(ANK_INTERNAL)
}
