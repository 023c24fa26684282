//! Work in the background: operations, and the sending of messages.
//!
//! All of it is claimed from the database under leases, so that any number of servers may run on
//! one database and any of them may die at any time.

pub mod dispatch;
pub mod launch;
pub mod operations;
pub mod sweep;

use std::sync::Arc;

use anklang_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::config::Config;
use crate::content::Templates;
use crate::documents::Documents;
use crate::grpc::page_token::PageKey;

/// What handlers and workers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub store: Store,
    /// The documents.
    pub documents: Documents,
    /// The channel accounts.
    pub accounts: Accounts,
    /// Compiled templates.
    pub templates: Templates,
    /// Seals page tokens.
    pub pages: PageKey,
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
}
