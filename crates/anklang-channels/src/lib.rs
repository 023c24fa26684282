//! Finds out what a channel plugin is, loads it and calls it: the host's side of
//! `plugins/include/anklang_plugin.h`, and the only host crate with unsafe code.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use anklang_channels::{Plugin, proto::SendRequest};
//!
//! let plugin = Plugin::load("/usr/lib/anklang/libanklang_mail.so".as_ref(), None)?;
//! let config = serde_json::json!({ "host": "localhost", "port": 2525, "tls": "none" });
//! let mail = plugin.open(&config).await?;
//! let outcomes = mail.send(SendRequest::default()).await?;
//! mail.drain(std::time::Duration::from_secs(30)).await?;
//! # let _ = outcomes;
//! # Ok(()) }
//! ```
//!
//! # Guarantees
//! - The bytes that are hashed, compared with the pin and run are the same: the file is copied
//!   into a sealed memory file first, and that is what is loaded.
//! - A configuration is checked against the plugin's JSON Schema, all violations at once,
//!   before any code of the plugin sees it.
//! - [`Instance::send`] returns one outcome per message, whatever the plugin does: what is
//!   missing, unreadable, too late or lost in a panic is *ambiguous*. An error from it means
//!   that nothing was handed over.
//! - What a plugin calls back never blocks, never panics into it and never calls it again.
//!
//! # Trade-offs
//! The plugin runs in this process. It is trusted with its memory: a plugin that crashes takes
//! the process with it. A library is never unloaded, so each loaded version stays in memory
//! until the process ends.

mod board;
mod config;
mod error;
mod instance;
mod library;
mod log;
mod plugin;
mod raw;

pub use anklang_plugin_proto::v1 as proto;
pub use board::{Counters, Events, PluginEvent, Telemetry};
pub use config::{ConfigViolation, is_secret, marked};
pub use error::{CallError, DrainError, LoadError, OpenError};
pub use instance::{Instance, InstanceOptions};
pub use library::Sha256;
pub use plugin::Plugin;
