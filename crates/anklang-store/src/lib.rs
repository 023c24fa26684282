//! PostgreSQL: rows, queries, migrations. The only place that knows SQL.
//!
//! One module per domain noun. A function that takes `&mut Conn` runs inside of its caller's
//! transaction; one that takes `&Store` opens its own. Every statement names its tenant; row-level
//! security under a role that owns nothing is the net below (see [`Store::begin`]).

pub mod analysis;
pub mod approval;
pub mod attribute;
pub mod audit;
pub mod brand;
pub mod budget;
pub mod bundle;
pub mod call;
pub mod campaign;
pub mod channel_account;
pub mod channel_route;
pub mod contract;
pub mod customer;
pub mod document;
pub mod dry_run;
pub mod error;
pub mod handover;
pub mod hold;
pub mod import;
pub mod inbound;
pub mod infoboard;
pub mod launch;
pub mod listing;
pub mod login;
pub mod message;
pub mod migrate;
pub mod offer;
pub mod operation;
pub mod order;
pub mod org_unit;
pub mod pace;
pub mod phase;
pub mod planning;
pub mod privacy;
pub mod product;
pub mod reach;
pub mod report;
pub mod request_log;
pub mod selection;
pub mod suppression;
pub mod telemetry;
pub mod template;
pub mod tenant;
pub mod units;
pub mod unsubscribe;
pub mod winback;

mod begin;
mod connections;
mod pool;
mod read;
mod replica;
mod share;
mod sql;
mod tx;
mod words;

pub use error::StoreError;
pub use login::{CertificateFault, ClientCertificate, Login, Pooler};
pub use pool::Store;
pub use read::Read;
pub use replica::{Reads, ReplicaConfig};
pub use tx::{Conn, Tx};

/// What a store function gives.
pub type Result<T> = std::result::Result<T, StoreError>;
