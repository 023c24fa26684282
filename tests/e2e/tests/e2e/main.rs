//! End-to-end: the real server, PostgreSQL, plugins and mail servers; what a client sees.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod accounts;
mod alternatives;
mod ambiguous;
mod approvals;
mod audit;
mod budgets;
mod callbacks;
mod campaigns;
mod catalogue;
mod changes;
mod cli;
mod clocks;
mod collector;
mod conventions;
mod cookbook;
mod corrections;
mod crash;
mod databases;
mod desk;
mod documents;
mod dry_runs;
mod every_channel;
mod exposition;
mod faults;
mod filters;
mod followups;
mod garbage;
mod generations;
mod handover;
mod hold;
mod identity;
mod imports;
mod imports_at_once;
mod imports_resumed;
mod imports_streamed;
mod inbound;
mod interrupted;
mod limits;
mod lists;
mod master_data;
mod offers;
mod operations;
mod org_units;
mod pace;
mod phase_controls;
mod phases;
mod phone;
mod planning;
mod plugins;
mod presets;
mod previews;
mod privacy;
mod probe;
mod prometheus;
mod raw;
mod reach;
mod refusals;
mod refused;
mod relays;
mod replicas;
mod resolving;
mod roles;
mod routes;
mod rust_client;
mod s3;
mod selection_members;
mod selection_work;
mod selections;
mod sending;
mod sending_hours;
mod server;
mod story;
mod telemetry;
mod templates;
mod tenants;
mod tls;
mod unsubscribe;
mod upgrade;
mod utility;
mod winback;
mod work_list;
mod world;

// What stands at the other end of channels, as the plugins' own tests have it.
#[path = "../../../../crates/anklang-channels/tests/support/hylafax.rs"]
#[expect(dead_code, reason = "the plugins' tests use more of it")]
mod hylafax;
#[path = "../../../../crates/anklang-channels/tests/support/mailjet_fake.rs"]
#[expect(dead_code, reason = "the plugins' tests use more of it")]
mod mailjet_fake;
#[path = "../../../../crates/anklang-channels/tests/social/peers.rs"]
#[expect(dead_code, reason = "the plugins' tests use more of it")]
mod peers;
#[path = "../../../../crates/anklang-channels/tests/support/smsc.rs"]
mod smsc;

use anklang_testkit::{mailing, receiver};
