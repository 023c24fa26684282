//! The plugin contract of `plugins/include/anklang_plugin.h` in Rust, shared by host and SDK.
//!
//! The header is the authority: `tests/layout.rs` compiles it with the system's C compiler
//! and compares every size, offset and constant with the ones here. This crate has no
//! dependencies and no behaviour beyond reading borrowed bytes and sized tables.
//!
//! The rules that go with the types (who owns what, which thread may call, what each status
//! promises) are written in the header and not repeated here.
#![expect(
    unsafe_code,
    reason = "reads memory that the other side of a C interface lends"
)]

use std::ffi::c_void;

/// `"ANKLANG1"` in little-endian: the first thing a host checks of a manifest.
pub const ANK_MAGIC: u64 = 0x3147_4E41_4C4B_4E41;
/// Must be equal on both sides.
pub const ANK_ABI_MAJOR: u16 = 1;
/// The host's must be at least what the plugin requires.
pub const ANK_ABI_MINOR: u16 = 0;

/// Exported by every plugin: [`ManifestFn`].
pub const SYMBOL_MANIFEST: &str = "anklang_plugin_manifest";
/// Exported by every plugin: [`InitFn`].
pub const SYMBOL_INIT: &str = "anklang_plugin_init_v1";

/// Answer of every function of the interface; one of the `ANK_…` statuses.
pub type AnkStatus = i32;
/// Accepted; exactly one completion follows.
pub const ANK_OK: AnkStatus = 0;
/// Nothing was taken; try again later.
pub const ANK_BUSY: AnkStatus = 1;
/// Nothing was taken; the instance drains or is closed.
pub const ANK_CLOSED: AnkStatus = 2;
/// Nothing was taken; the argument is malformed.
pub const ANK_INVALID: AnkStatus = 3;
/// Nothing was taken; no such operation.
pub const ANK_UNSUPPORTED: AnkStatus = 4;
/// The plugin failed, a caught panic included; what it did is unknown.
pub const ANK_INTERNAL: AnkStatus = 5;

/// `SendRequest` → `SendReply`.
pub const ANK_OP_SEND: u32 = 1;
/// `LookupRequest` → `LookupReply`.
pub const ANK_OP_LOOKUP: u32 = 2;
/// `CancelRequest` → empty.
pub const ANK_OP_CANCEL: u32 = 3;
/// `CallbackRequest` → `CallbackReply`.
pub const ANK_OP_CALLBACK: u32 = 4;
/// Empty → `HealthReply`.
pub const ANK_OP_HEALTH: u32 = 5;
/// `AckEvents` → empty.
pub const ANK_OP_ACK_EVENTS: u32 = 6;

/// `DeliveryEvent`: must not be lost.
pub const ANK_EV_DELIVERY: u32 = 1;
/// `InboundEvent`: must not be lost.
pub const ANK_EV_INBOUND: u32 = 2;
/// `LogEvent`: may be dropped.
pub const ANK_EV_LOG: u32 = 3;
/// `SpanEvent`: may be dropped.
pub const ANK_EV_SPAN: u32 = 4;
/// `MetricEvent`: may be dropped.
pub const ANK_EV_METRIC: u32 = 5;

/// Bytes lent for the duration of one call.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AnkBytes {
    /// May be null when `len` is 0.
    pub ptr: *const u8,
    /// In bytes.
    pub len: usize,
}

impl AnkBytes {
    /// Lends `bytes`; the result must not outlive them.
    pub fn lend(bytes: &[u8]) -> Self {
        Self {
            ptr: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// Reads what the other side lent; `None` for a null pointer with a length.
    ///
    /// # Safety
    /// `ptr` must be readable for `len` bytes for as long as the returned slice is used.
    pub unsafe fn read<'a>(self) -> Option<&'a [u8]> {
        match (self.ptr.is_null(), self.len) {
            (_, 0) => Some(&[]),
            (true, _) => None,
            // SAFETY: non-null, and readable by the caller's promise.
            (false, len) => Some(unsafe { std::slice::from_raw_parts(self.ptr, len) }),
        }
    }
}

/// Opaque instance of a plugin.
#[repr(C)]
#[derive(Debug)]
pub struct AnkInst {
    _opaque: [u8; 0],
}

/// What a plugin says of itself.
#[repr(C)]
#[derive(Debug)]
pub struct AnkManifest {
    /// Size of the plugin's struct in bytes.
    pub size: u32,
    /// Must equal [`ANK_ABI_MAJOR`].
    pub abi_major: u16,
    /// Must not exceed [`ANK_ABI_MINOR`].
    pub abi_minor_required: u16,
    /// [`ANK_MAGIC`].
    pub magic: u64,
    /// `anklang.plugin.v1.Manifest`, valid for ever.
    pub manifest: AnkBytes,
}

// SAFETY: a manifest is immutable static data.
unsafe impl Sync for AnkManifest {}
// SAFETY: as above.
unsafe impl Send for AnkManifest {}

/// `ank_host.complete`.
pub type CompleteFn = unsafe extern "C" fn(*mut c_void, u64, AnkStatus, AnkBytes);
/// `ank_host.event`.
pub type EventFn = unsafe extern "C" fn(*mut c_void, u64, u32, AnkBytes) -> AnkStatus;

/// What the host offers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AnkHost {
    /// Size of the host's struct in bytes.
    pub size: u32,
    /// The host's major version.
    pub abi_major: u16,
    /// The host's minor version.
    pub abi_minor: u16,
    /// First argument of both functions.
    pub ctx: *mut c_void,
    /// Completes a call.
    pub complete: Option<CompleteFn>,
    /// Reports an event.
    pub event: Option<EventFn>,
}

// SAFETY: the contract makes the table immutable and its functions callable from any thread.
unsafe impl Send for AnkHost {}
// SAFETY: as above.
unsafe impl Sync for AnkHost {}

/// `ank_plugin.open`.
pub type OpenFn =
    unsafe extern "C" fn(*const AnkHost, u64, u64, AnkBytes, *mut *mut AnkInst) -> AnkStatus;
/// `ank_plugin.call`.
pub type CallFn = unsafe extern "C" fn(*mut AnkInst, u32, u64, AnkBytes) -> AnkStatus;
/// `ank_plugin.drain`.
pub type DrainFn = unsafe extern "C" fn(*mut AnkInst, u64, u64) -> AnkStatus;
/// `ank_plugin.close`.
pub type CloseFn = unsafe extern "C" fn(*mut AnkInst);

/// What the plugin offers.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct AnkPlugin {
    /// In: size of the host's struct; out: bytes filled in.
    pub size: u32,
    /// The plugin's major version.
    pub abi_major: u16,
    /// The plugin's minor version.
    pub abi_minor: u16,
    /// Opens an instance.
    pub open: Option<OpenFn>,
    /// Starts an operation.
    pub call: Option<CallFn>,
    /// Ends the operations.
    pub drain: Option<DrainFn>,
    /// Frees an instance.
    pub close: Option<CloseFn>,
}

/// Signature of [`SYMBOL_MANIFEST`].
pub type ManifestFn = unsafe extern "C" fn() -> *const AnkManifest;
/// Signature of [`SYMBOL_INIT`].
pub type InitFn = unsafe extern "C" fn(*const AnkHost, *mut AnkPlugin) -> AnkStatus;

/// A table that starts with its own size, of which all-zero bytes are a valid value.
///
/// # Safety
/// `#[repr(C)]`, first member `size: u32`, valid when all bytes are zero.
pub unsafe trait Sized32: Copy {}
// SAFETY: integers, raw pointers and optional function pointers alone; `size` leads.
unsafe impl Sized32 for AnkHost {}
// SAFETY: as above.
unsafe impl Sized32 for AnkPlugin {}

/// Copies a table of the other side, which may be shorter or longer than ours; members it
/// does not have are zero.
///
/// # Safety
/// `from` must be aligned and readable for the number of bytes its leading `size` says.
pub unsafe fn copy_in<T: Sized32>(from: *const T) -> T {
    // SAFETY: `size` is the first member, readable by the caller's promise.
    let theirs = unsafe { from.cast::<u32>().read() } as usize;
    let mut ours = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: at most the smaller of both sizes is copied; zero is valid by `Sized32`.
    unsafe {
        std::ptr::copy_nonoverlapping(
            from.cast::<u8>(),
            ours.as_mut_ptr().cast::<u8>(),
            theirs.min(size_of::<T>()),
        );
        ours.assume_init()
    }
}

/// Fills a table of the other side up to the smaller of both sizes and sets its `size` to
/// the bytes that were filled.
///
/// # Safety
/// `to` must be aligned and writable for the number of bytes its leading `size` says, which
/// must be at least 4.
pub unsafe fn copy_out<T: Sized32>(from: &T, to: *mut T) {
    // SAFETY: `size` is the first member, readable by the caller's promise.
    let theirs = unsafe { to.cast::<u32>().read() } as usize;
    let count = theirs.min(size_of::<T>());
    // SAFETY: at most the smaller of both sizes is written.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::from_ref(from).cast::<u8>(),
            to.cast::<u8>(),
            count,
        );
        to.cast::<u32>()
            .write(u32::try_from(count).expect("a table is far smaller than 4 GiB"));
    }
}
