//! The mail channel: SMTP submission through a mail server, or the Send API of Mailjet.
//!
//! Guarantees: every message gets the outcome that its dialogue proves, see [`smtp`] and
//! [`mailjet`]; a resend carries the same `Message-ID`; nothing in a message becomes a header line
//! or a command of its own; a connection is never weaker than configured. What comes back is told
//! at least once: a mail in the mailbox is put away only when its event is acknowledged, see
//! [`bounces`].
//!
//! Trade-offs: neither SMTP nor Mailjet know an idempotency key, so a message that was handed over
//! without an answer is ambiguous, and the suggested policy is to send it again: mailboxes that
//! deduplicate by `Message-ID` show it once, others twice. Mailjet can be asked what became of it;
//! a mail server cannot. The manifest is the same for both types of accounts, so a mail server's
//! answer to a lookup is that it is still unknown.
//!
//! `README.md` beside this crate documents the configuration and the outcomes for operators.

mod bounces;
mod config;
mod dkim;
mod mailjet;
mod mime;
mod pool;
mod relay;
mod smtp;
mod tags;

use anklang_plugin_sdk::{
    AmbiguousPolicy, CallbackReply, CallbackRequest, Capability, Channel, HealthReply, Host,
    LookupResult, Message, OpenError, Outcome, export_channel, lookup_result,
};

use crate::config::{Config, Resolved};
use crate::mailjet::Mailjet;
use crate::relay::Relay;

/// One opened account.
enum Account {
    Relay(Box<Relay>),
    Mailjet(Box<Mailjet>),
}

impl Channel for Account {
    type Config = Config;
    const ID: &'static str = "mail";
    const CHANNEL: &'static str = "mail";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Attachments,
        Capability::Lookup,
        Capability::Callback,
        Capability::Events,
    ];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Resend;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        Ok(match config.resolve().await? {
            Resolved::Smtp(settings) => Self::Relay(Box::new(Relay::open(*settings, host))),
            Resolved::Mailjet(settings) => Self::Mailjet(Box::new(Mailjet::open(*settings, host))),
        })
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        match self {
            Self::Relay(relay) => relay.send(batch).await,
            Self::Mailjet(mailjet) => mailjet.send(batch).await,
        }
    }

    fn looks_up(&self) -> bool {
        matches!(self, Self::Mailjet(_))
    }

    async fn lookup(&self, message_ids: Vec<String>) -> Vec<LookupResult> {
        match self {
            Self::Relay(_) => {
                let unknown = Outcome::ambiguous("a mail server cannot be asked");
                let unknown = LookupResult {
                    kind: Some(lookup_result::Kind::Outcome(unknown)),
                };
                vec![unknown; message_ids.len()]
            }
            Self::Mailjet(mailjet) => mailjet.lookup(message_ids).await,
        }
    }

    fn is_called_back(&self) -> bool {
        matches!(self, Self::Mailjet(_))
    }

    async fn callback(&self, request: CallbackRequest) -> CallbackReply {
        match self {
            // Nobody has a reason to call.
            Self::Relay(_) => CallbackReply {
                http_status: 401,
                ..CallbackReply::default()
            },
            Self::Mailjet(mailjet) => mailjet.callback(&request),
        }
    }

    async fn health(&self) -> HealthReply {
        match self {
            Self::Relay(relay) => relay.health().await,
            Self::Mailjet(mailjet) => mailjet.health().await,
        }
    }

    async fn acknowledge(&self, event_ids: Vec<u64>) {
        if let Self::Relay(relay) = self {
            relay.acknowledge(&event_ids);
        }
    }

    async fn shut_down(&self) {
        if let Self::Relay(relay) = self {
            relay.shut_down().await;
        }
    }
}

export_channel!(Account);
