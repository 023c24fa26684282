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
//! - A plugin runs in a process of its own unless it is configured otherwise ([`Hosting`]): one
//!   that crashes, hangs, leaks or talks nonsense costs its process, which is started again, ever
//!   later, and left alone for a while when it fails too often. Its manifest is read that way too.
//! - A configuration is checked against the plugin's JSON Schema, all violations at once,
//!   before any code of the plugin sees it.
//! - [`Instance::send`] returns one outcome per message, whatever the plugin does: what is
//!   missing, unreadable, too late or lost in a panic or a crash is *ambiguous*. An error from it
//!   means that nothing was handed over.
//! - What a plugin calls back never blocks, never panics into it and never calls it again.
//!
//! # Trade-offs
//! A process of its own costs two copies and two switches of context for each call, little beside
//! a batch of messages, and memory. A plugin in this process is trusted with its memory; its
//! library is never unloaded, so each loaded version stays until the process ends.

mod board;
mod config;
mod discover;
mod error;
mod hosting;
mod instance;
mod isolation;
mod library;
mod log;
mod plugin;
mod raw;
mod session;
mod supervisor;
mod table;
pub mod verify;

pub use anklang_plugin_proto::v1 as proto;
pub use board::{Counters, Events, PluginEvent, Telemetry};
pub use config::{ConfigViolation, hide, is_secret, marked};
pub use discover::{Found, discover, file_name};
pub use error::{CallError, DrainError, LoadError, OpenError};
pub use hosting::{HostProgram, Hosting, Isolation, ProcessOptions};
pub use instance::{Instance, InstanceOptions, InstanceState};
pub use isolation::child::plugin_host;
pub use library::Sha256;
pub use plugin::Plugin;
