//! What an author of a channel plugin sees: implement [`Channel`], name the type in
//! [`export_channel!`], build a `cdylib`.
//!
//! ```ignore
//! struct Mail { /* … */ }
//!
//! impl Channel for Mail {
//!     type Config = Config;
//!     const ID: &'static str = "mail";
//!     const CHANNEL: &'static str = "mail";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!
//!     async fn open(config: Config, host: Host) -> Result<Self, OpenError> { /* … */ }
//!     async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> { /* … */ }
//! }
//! export_channel!(Mail);
//! ```
//!
//! # What the SDK guarantees
//! - **No panic leaves the library**: every entry and every polled future is guarded. A panic
//!   completes its call with `ANK_INTERNAL`; the host then treats the messages as ambiguous.
//! - **Exactly one completion** per accepted call, also if its future panics, is dropped, is
//!   cancelled or outlives the drain.
//! - **Bounded calls in flight**: beyond [`Channel::MAX_CALLS_IN_FLIGHT`] the host is told
//!   `ANK_BUSY`.
//! - **An own tokio runtime** with [`WORKER_THREADS`] threads, shared by all instances of the
//!   library; the host's runtime cannot be used across a shared library.
//! - **Nothing dangles**: the pointer that the host holds is a number which is looked up, so a
//!   call after `close` is `ANK_CLOSED` and not undefined behaviour.
//!
//! # Trade-offs
//! A future that never yields holds one of the worker threads and cannot be stopped; its call
//! is completed at the drain deadline all the same. Put blocking work on
//! `tokio::task::spawn_blocking`.
#![expect(
    unsafe_code,
    reason = "the C interface ends here; authors see safe Rust"
)]

mod busy;
mod calls;
mod channel;
mod entry;
#[cfg(feature = "faults")]
pub mod faults;
mod host;
mod instance;

pub use anklang_plugin_proto::v1::{
    AmbiguousPolicy, Attachment, CallbackReply, CallbackRequest, Capability, DeliveryEvent,
    DocumentContent, Header, HealthReply, InboundEvent, LookupResult, MailContent, Message,
    NotFound, Outcome, Party, ProviderTemplate, TextContent, delivery_event, health_reply,
    log_event::Level, lookup_result, message::Content, outcome, permanent::Reason,
};
pub use busy::Busy;
pub use channel::{Channel, OpenError};
pub use entry::WORKER_THREADS;
pub use host::{Host, HostClosed, events_from};

/// What [`export_channel!`] expands to; not for authors.
#[doc(hidden)]
pub mod private {
    pub use crate::entry::{init, manifest};
    pub use anklang_plugin_abi::{AnkHost, AnkManifest, AnkPlugin, AnkStatus};
    pub use std::sync::OnceLock;
}

/// Exports the two functions of the plugin interface for a [`Channel`].
///
/// Use it once per library, whose crate type must be `cdylib`.
#[macro_export]
macro_rules! export_channel {
    ($channel:ty) => {
        /// The manifest of this plugin.
        #[unsafe(no_mangle)]
        pub extern "C" fn anklang_plugin_manifest() -> *const $crate::private::AnkManifest {
            static MANIFEST: $crate::private::OnceLock<$crate::private::AnkManifest> =
                $crate::private::OnceLock::new();
            $crate::private::manifest::<$channel>(&MANIFEST)
        }

        /// Fills in the table of this plugin.
        ///
        /// # Safety
        /// Both pointers are null or point to tables whose `size` is set.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn anklang_plugin_init_v1(
            host: *const $crate::private::AnkHost,
            out: *mut $crate::private::AnkPlugin,
        ) -> $crate::private::AnkStatus {
            // SAFETY: the caller's promise is handed on.
            unsafe { $crate::private::init::<$channel>(host, out) }
        }
    };
}
