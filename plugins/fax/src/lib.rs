//! The fax channel: a HylaFAX server of one's own, or a gateway that makes faxes of mails.
//!
//! Guarantees: a fax is only *accepted* when the other side said so; what broke off in the middle of a
//! submission is *ambiguous* and never submitted again by this plugin; a job at HylaFAX carries the id of its message,
//! by which it is found after a crash; what became of finished jobs is told until the host has
//! committed it. Nothing in a message becomes a command, a header line or something that is dialled.
//!
//! Trade-offs: redialling is HylaFAX's business; what it gives up is final here. A gateway by mail tells
//! nothing after it took the mail.
//!
//! `README.md` beside this crate documents configuration, outcomes and limits for operators.

mod config;
mod document;
mod gateway;
mod hylafax;
mod number;
mod tiff;

use std::time::Duration;

use anklang_plugin_sdk::{
    AmbiguousPolicy, Capability, Channel, HealthReply, Host, LookupResult, Message, OpenError,
    Outcome, export_channel,
};

use crate::config::Config;
use crate::gateway::Gateway;
use crate::hylafax::Hylafax;

/// When to come back with faxes that were not begun.
const RETRY_LATE: Duration = Duration::from_secs(5);

/// One opened account.
enum Fax {
    Hylafax(Box<Hylafax>),
    Gateway(Gateway),
}

impl Channel for Fax {
    type Config = Config;
    const ID: &'static str = "fax";
    const CHANNEL: &'static str = "fax";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] = &[Capability::Lookup, Capability::Events];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Hold;
    // Documents are megabytes, and each takes a while.
    const MAX_BATCH: u32 = 20;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        Ok(match config {
            Config::Hylafax(config) => Self::Hylafax(Box::new(Hylafax::open(config, host).await?)),
            Config::MailGateway(config) => Self::Gateway(Gateway::open(config, host).await?),
        })
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        match self {
            Self::Hylafax(account) => account.send(batch).await,
            Self::Gateway(account) => account.send(batch).await,
        }
    }

    fn looks_up(&self) -> bool {
        matches!(self, Self::Hylafax(_))
    }

    async fn lookup(&self, message_ids: Vec<String>) -> Vec<LookupResult> {
        match self {
            Self::Hylafax(account) => account.lookup(message_ids).await,
            Self::Gateway(account) => account.lookup(&message_ids),
        }
    }

    async fn health(&self) -> HealthReply {
        match self {
            Self::Hylafax(account) => account.health().await,
            Self::Gateway(account) => account.health().await,
        }
    }

    async fn acknowledge(&self, event_ids: Vec<u64>) {
        match self {
            Self::Hylafax(account) => account.acknowledge(&event_ids),
            // It has no events.
            Self::Gateway(_) => {}
        }
    }

    async fn shut_down(&self) {
        match self {
            Self::Hylafax(account) => account.shut_down().await,
            // Its connections end with their batches.
            Self::Gateway(_) => {}
        }
    }
}

/// The outcome of a fax that was not begun in time.
fn late() -> Outcome {
    Outcome::throttled(RETRY_LATE, "the fax server is slow")
}

export_channel!(Fax);
