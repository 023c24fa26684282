//! End-to-end: the real server, PostgreSQL, plugins and mail servers; what a client sees.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod campaigns;
mod collector;
mod crash;
mod faults;
mod handover;
mod hold;
mod imports;
mod interrupted;
mod lists;
mod mailing;
mod master_data;
mod offers;
mod raw;
mod receiver;
mod refused;
mod relays;
mod selections;
mod server;
mod story;
mod telemetry;
mod templates;
mod tenants;
mod utility;
