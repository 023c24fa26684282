//! Ways to break the rules of the interface, which the SDK else keeps: for plugins that test hosts.

use std::time::SystemTime;

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{LogEvent, SpanEvent, log_event::Level};

use crate::Host;
use crate::host::{RawHost, owned};

tokio::task_local! {
    /// The call that a task works on.
    pub(crate) static CALL: (RawHost, u64);
    /// The trace of the caller who has something sent.
    pub(crate) static TRACE: String;
}

/// Reads memory that is not there: SIGSEGV.
pub fn segfault() -> ! {
    let nowhere = std::hint::black_box(std::ptr::without_provenance::<u8>(8));
    // SAFETY: there is none: this is what plugins must not do, and what it does to the process is
    // the purpose.
    let read = unsafe { nowhere.read_volatile() };
    panic!("there is memory at address 8: {read}");
}

/// Completes the call that the current task works on, though it goes on and is completed once more.
/// Nothing happens outside of a call.
pub fn complete_early(reply: &[u8]) {
    let _ = CALL.try_with(|(host, call_id)| host.complete(*call_id, ANK_OK, reply));
}

/// Logs a line in whatever words, as plugins without the SDK may.
pub fn say(host: &Host, level: Level, message: &str, fields: &[(&str, String)]) {
    host.line(&LogEvent {
        level: level.into(),
        message: message.to_owned(),
        fields: owned(fields),
        time: Some(SystemTime::now().into()),
        fixed: false,
    });
}

/// Tells of a span of whatever name and attributes, within the call that sends. Nothing happens outside of one.
pub fn trace(host: &Host, name: &str, attributes: &[(&str, String)]) {
    let Ok(traceparent) = TRACE.try_with(Clone::clone) else {
        return;
    };
    host.span(&SpanEvent {
        traceparent,
        name: name.to_owned(),
        started_at: Some(SystemTime::now().into()),
        ended_at: Some(SystemTime::now().into()),
        failed: false,
        attributes: owned(attributes),
    });
}
