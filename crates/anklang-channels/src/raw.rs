//! An instance of a plugin behind a gate: after `close` the plugin is never called again.
#![expect(unsafe_code, reason = "calls the plugin's functions")]

use std::sync::{PoisonError, RwLock};

use anklang_plugin_abi::*;

use crate::library::Table;

/// What a plugin gave us for an instance. Only passed back, never dereferenced.
#[derive(Clone, Copy)]
pub(crate) struct Pointer(*mut AnkInst);

// SAFETY: by contract the functions may be called with it from any thread.
unsafe impl Send for Pointer {}
// SAFETY: as above.
unsafe impl Sync for Pointer {}

/// Starts to open an instance; it exists once `call_id` is completed with OK.
pub(crate) fn open(
    table: &Table,
    host: &'static AnkHost,
    inst_id: u64,
    call_id: u64,
    config: &[u8],
) -> Result<Pointer, AnkStatus> {
    let mut out = std::ptr::null_mut();
    let config = AnkBytes::lend(config);
    // SAFETY: the host's table lives for ever; `config` and `out` until the function returns.
    let status = unsafe { (table.open)(host, inst_id, call_id, config, &raw mut out) };
    match status {
        ANK_OK => Ok(Pointer(out)),
        status => Err(status),
    }
}

/// An open instance.
pub(crate) struct Raw {
    table: Table,
    pointer: Pointer,
    /// Open; held for reading during each call, so that none is running during `close`.
    open: RwLock<bool>,
}

impl Raw {
    pub(crate) fn new(table: Table, pointer: Pointer) -> Self {
        Self {
            table,
            pointer,
            open: RwLock::new(true),
        }
    }

    pub(crate) fn call(&self, op: u32, call_id: u64, request: &[u8]) -> AnkStatus {
        self.if_open(|| {
            let request = AnkBytes::lend(request);
            // SAFETY: the instance is open, the request lives until the function returns.
            unsafe { (self.table.call)(self.pointer.0, op, call_id, request) }
        })
    }

    pub(crate) fn drain(&self, call_id: u64, deadline_ms: u64) -> AnkStatus {
        // SAFETY: the instance is open.
        self.if_open(|| unsafe { (self.table.drain)(self.pointer.0, call_id, deadline_ms) })
    }

    /// Frees the instance; only once its drain is completed.
    pub(crate) fn close(&self) {
        if self.shut() {
            // SAFETY: drained, no call is running, and the gate lets no further one through.
            unsafe { (self.table.close)(self.pointer.0) }
        }
    }

    /// Lets no further call through; `true` if it did so far.
    pub(crate) fn shut(&self) -> bool {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *open, false)
    }

    fn if_open(&self, call: impl FnOnce() -> AnkStatus) -> AnkStatus {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        if *open { call() } else { ANK_CLOSED }
    }
}
