//! The host's function table: what a plugin calls back, handed to safe code.
#![expect(unsafe_code, reason = "is called by foreign code with borrowed memory")]

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anklang_plugin_abi::*;

/// Who takes what a plugin calls back. Neither function may block or call the plugin.
pub(crate) trait Callbacks: Send + Sync + 'static {
    /// A call is over.
    fn completed(&self, call_id: u64, status: AnkStatus, reply: &[u8]);
    /// Something happened in an instance.
    fn happened(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus;
}

/// A table that lives for ever, as the library that gets it does.
pub(crate) fn host_table<C: Callbacks>(callbacks: Arc<C>) -> &'static AnkHost {
    Box::leak(Box::new(AnkHost {
        size: u32::try_from(size_of::<AnkHost>()).expect("far smaller than 4 GiB"),
        abi_major: ANK_ABI_MAJOR,
        abi_minor: ANK_ABI_MINOR,
        ctx: Arc::into_raw(callbacks).cast_mut().cast(),
        complete: Some(complete::<C>),
        event: Some(event::<C>),
    }))
}

unsafe extern "C" fn complete<C: Callbacks>(
    ctx: *mut c_void,
    call_id: u64,
    status: AnkStatus,
    reply: AnkBytes,
) {
    // SAFETY: the context of our table, which lives for ever and is only ever shared.
    let callbacks = unsafe { &*ctx.cast::<C>() };
    // SAFETY: lent for the duration of this call, by contract.
    let (status, reply) = match unsafe { reply.read() } {
        Some(reply) => (status, reply),
        None => (ANK_INTERNAL, &b"the reply has a length but no bytes"[..]),
    };
    // A panic must not reach the plugin; the call then counts as lost.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        callbacks.completed(call_id, status, reply);
    }));
}

unsafe extern "C" fn event<C: Callbacks>(
    ctx: *mut c_void,
    inst_id: u64,
    kind: u32,
    message: AnkBytes,
) -> AnkStatus {
    // SAFETY: the context of our table, which lives for ever and is only ever shared.
    let callbacks = unsafe { &*ctx.cast::<C>() };
    // SAFETY: lent for the duration of this call, by contract.
    let Some(message) = (unsafe { message.read() }) else {
        return ANK_INVALID;
    };
    catch_unwind(AssertUnwindSafe(|| {
        callbacks.happened(inst_id, kind, message)
    }))
    .unwrap_or(ANK_INTERNAL)
}
