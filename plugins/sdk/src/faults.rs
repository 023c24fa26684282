//! Ways to break the rules of the interface, which the SDK else keeps: for plugins that test hosts.

use anklang_plugin_abi::*;

use crate::host::RawHost;

tokio::task_local! {
    /// The call that a task works on.
    pub(crate) static CALL: (RawHost, u64);
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
