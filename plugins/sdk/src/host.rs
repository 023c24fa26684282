//! The host as the plugin sees it: a copied function table, and the safe handle for authors.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{
    DeliveryEvent, InboundEvent, LogEvent, MetricEvent, SpanEvent, log_event::Level,
};
use prost::Message as _;

/// First pause before an event is offered again, doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// A host that commits slowly is asked about once per second.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A number to count events up from, greater than those of any process before: what the host commits of a
/// process that has died it acknowledges to the next one, which must not take it for its own.
pub fn events_from() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_millis();
    // 20 bits are a million events within the first millisecond.
    u64::try_from(millis).unwrap_or(0) << 20
}

/// The host's function table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawHost {
    ctx: *mut std::ffi::c_void,
    complete: CompleteFn,
    event: EventFn,
}

// SAFETY: the contract lets any thread call the functions with the context.
unsafe impl Send for RawHost {}
// SAFETY: as above.
unsafe impl Sync for RawHost {}

impl RawHost {
    /// Copies the table; `None` if it is null or lacks a function.
    ///
    /// # Safety
    /// `table` is null or points to a host table whose `size` is set.
    pub(crate) unsafe fn copy(table: *const AnkHost) -> Option<Self> {
        if table.is_null() {
            return None;
        }
        // SAFETY: not null, the rest is the caller's promise.
        let table = unsafe { copy_in(table) };
        Some(Self {
            ctx: table.ctx,
            complete: table.complete?,
            event: table.event?,
        })
    }

    pub(crate) fn complete(&self, call_id: u64, status: AnkStatus, reply: &[u8]) {
        // SAFETY: function and context come from one table that is valid until the process
        // ends; the bytes live until the function returns.
        unsafe { (self.complete)(self.ctx, call_id, status, AnkBytes::lend(reply)) }
    }

    fn event(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus {
        // SAFETY: as in `complete`.
        unsafe { (self.event)(self.ctx, inst_id, kind, AnkBytes::lend(message)) }
    }
}

/// The host no longer takes events of this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostClosed;

impl fmt::Display for HostClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host takes no more events of this instance")
    }
}

impl std::error::Error for HostClosed {}

/// Reports events of one instance to the host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Host {
    pub(crate) raw: RawHost,
    pub(crate) inst_id: u64,
}

impl Host {
    /// Logs a line. It may get lost when the host is busy. The message is always the same; what differs
    /// goes into the fields, which the host writes at its level `debug` alone, as a reason in somebody's
    /// words may repeat an address. Neither may contain secrets.
    pub fn log(&self, level: Level, message: &'static str, fields: &[(&str, String)]) {
        self.line(&LogEvent {
            level: level.into(),
            message: message.into(),
            fields: owned(fields),
            time: Some(SystemTime::now().into()),
            fixed: true,
        });
    }

    pub(crate) fn line(&self, event: &LogEvent) {
        self.raw
            .event(self.inst_id, ANK_EV_LOG, &event.encode_to_vec());
    }

    /// Adds `value` (in `unit`, UCUM) to an instrument. It may get lost when the host is busy.
    pub fn metric(&self, name: &str, value: f64, unit: &str, attributes: &[(&str, String)]) {
        let event = MetricEvent {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            attributes: owned(attributes),
        };
        self.raw
            .event(self.inst_id, ANK_EV_METRIC, &event.encode_to_vec());
    }

    pub(crate) fn span(&self, event: &SpanEvent) {
        self.raw
            .event(self.inst_id, ANK_EV_SPAN, &event.encode_to_vec());
    }

    /// Hands over what became of a message, waiting for as long as the host is busy.
    pub async fn delivery(&self, event: &DeliveryEvent) -> Result<(), HostClosed> {
        self.deliver(ANK_EV_DELIVERY, event.encode_to_vec()).await
    }

    /// Hands over a message that came in, waiting for as long as the host is busy.
    pub async fn inbound(&self, event: &InboundEvent) -> Result<(), HostClosed> {
        self.deliver(ANK_EV_INBOUND, event.encode_to_vec()).await
    }

    async fn deliver(&self, kind: u32, message: Vec<u8>) -> Result<(), HostClosed> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.raw.event(self.inst_id, kind, &message) {
                ANK_OK => return Ok(()),
                ANK_BUSY => tokio::time::sleep(pause).await,
                _ => return Err(HostClosed),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

pub(crate) fn owned(fields: &[(&str, String)]) -> HashMap<String, String> {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}
