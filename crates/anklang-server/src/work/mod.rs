//! Work in the background: operations, phases, and the sending of messages.
//!
//! All of it is claimed from the database under leases, so that any number of servers may run on
//! one database and any of them may die at any time.

pub mod accounts;
pub mod audit;
pub mod bundle;
pub mod dispatch;
pub mod dry_run;
pub mod handover;
pub mod launch;
pub mod lookups;
pub mod mailing;
pub mod moves;
pub mod operations;
pub mod phases;
pub mod planning;
pub mod privacy;
pub mod reports;
pub mod sweep;
pub mod winback;

use std::sync::Arc;

use anklang_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::auth::Auth;
use crate::config::Config;
use crate::content::Templates;
use crate::documents::Documents;
use crate::outside::Outside;
use crate::seal::Keys;
use crate::tls::Tls;

/// What handlers and workers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// Who may call.
    pub auth: Auth,
    /// The documents.
    pub documents: Documents,
    /// The channel accounts.
    pub accounts: Accounts,
    /// Compiled templates.
    pub templates: Templates,
    /// HTTP to addresses that tenants name.
    pub outside: Outside,
    /// What seals secrets and page tokens.
    pub keys: Arc<Keys>,
    /// What the port speaks TLS with; plain text when `None`.
    pub tls: Option<Tls>,
    /// The settings.
    pub config: Arc<Config>,
    /// Wakes whoever waits for work; looking anyhow is what finds it.
    pub wake: Arc<Wake>,
    /// Cancelled when the server stops.
    pub stopping: CancellationToken,
}

/// Wakers, one for each kind of work.
#[derive(Default)]
pub struct Wake {
    /// An operation was asked for or moved.
    pub operations: Notify,
    /// Messages were queued.
    pub messages: Notify,
    /// An event is to be handed over.
    pub handover: Notify,
    /// A phase was planned, or controlled.
    pub phases: Notify,
    /// An account of a tenant, or a route, was made or changed.
    pub accounts: Notify,
}
