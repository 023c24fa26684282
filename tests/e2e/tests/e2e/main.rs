//! End-to-end: the real server, PostgreSQL, plugins and mail servers; what a client sees.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod budgets;
mod campaigns;
mod collector;
mod crash;
mod desk;
mod documents;
mod dry_runs;
mod faults;
mod filters;
mod followups;
mod handover;
mod hold;
mod imports;
mod imports_resumed;
mod interrupted;
mod lists;
mod master_data;
mod offers;
mod org_units;
mod pace;
mod phases;
mod presets;
mod previews;
mod raw;
mod reach;
mod refused;
mod relays;
mod resolving;
mod s3;
mod selection_work;
mod selections;
mod sending;
mod sending_hours;
mod server;
mod story;
mod telemetry;
mod templates;
mod tenants;
mod unsubscribe;
mod utility;

use anklang_testkit::{mailing, receiver};
