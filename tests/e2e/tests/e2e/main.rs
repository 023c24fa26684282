//! End-to-end: the real server, PostgreSQL, plugins and mail servers; what a client sees.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod imports;
mod master_data;
mod selections;
