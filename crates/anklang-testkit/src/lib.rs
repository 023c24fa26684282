//! For end-to-end tests: a database per test, the real server per test, clients, faults.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let server = anklang_testkit::TestServer::start().await?;
//! let client = server.client("acme").await?;
//! # let _ = client; Ok(()) }
//! ```
//!
//! All tests of a process share one PostgreSQL, which dies with the process. Each test has its own
//! database, made from a migrated template, its own server process on a free port, its own SMTP
//! sink and its own folder. Everything goes away when the [`TestServer`] is dropped.

mod client;
mod database;
pub mod mailing;
mod program;
pub mod receiver;
mod server;
mod violations;

pub use client::Client;
pub use database::{Database, database_url};
pub use program::{Program, program};
pub use server::{Options, Process, TestServer};
pub use violations::{reason, violations};
