//! The SMS channel: a session with a short message centre (SMPP 3.4), or an HTTP gateway.
//!
//! Guarantees: every message gets the outcome that its dialogue proves; nothing is sent twice by
//! this plugin; segments are counted before anything is sent; what comes in is acknowledged to the
//! other side only when the host has committed it.
//!
//! Trade-offs: neither SMPP nor gateways have an idempotency key or a way to ask what became of a
//! message without their id of it. So a message without an answer is ambiguous, and the suggested
//! policy is to hold it for a person: a repeated SMS costs money and annoys.
//!
//! `README.md` beside this crate documents the configuration and the outcomes for operators.

mod address;
mod config;
mod gateway;
mod message;
mod smpp;
mod text;

use anklang_plugin_sdk::{
    AmbiguousPolicy, CallbackReply, CallbackRequest, Capability, Channel, HealthReply, Host,
    Message, OpenError, Outcome, export_channel,
};

use crate::config::Config;
use crate::gateway::Gateway;

/// One opened account.
enum Sms {
    Smpp(Box<smpp::Account>),
    Gateway(Box<Gateway>),
}

impl Channel for Sms {
    type Config = Config;
    const ID: &'static str = "sms";
    const CHANNEL: &'static str = "sms";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] = &[Capability::Callback, Capability::Events];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Hold;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        Ok(match config {
            Config::Smpp(config) => Self::Smpp(Box::new(smpp::Account::open(*config, host).await?)),
            Config::Gateway(config) => Self::Gateway(Box::new(Gateway::open(*config).await?)),
        })
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        match self {
            Self::Smpp(account) => account.send(batch).await,
            Self::Gateway(gateway) => gateway.send(batch).await,
        }
    }

    async fn callback(&self, request: CallbackRequest) -> CallbackReply {
        match self {
            // A message centre calls nobody.
            Self::Smpp(_) => CallbackReply {
                http_status: 404,
                ..CallbackReply::default()
            },
            Self::Gateway(gateway) => gateway.callback(&request),
        }
    }

    async fn health(&self) -> HealthReply {
        match self {
            Self::Smpp(account) => account.health().await,
            Self::Gateway(gateway) => gateway.health().await,
        }
    }

    async fn acknowledge(&self, event_ids: Vec<u64>) {
        if let Self::Smpp(account) = self {
            account.acknowledge(event_ids).await;
        }
    }

    async fn shut_down(&self) {
        if let Self::Smpp(account) = self {
            account.shut_down().await;
        }
    }
}

export_channel!(Sms);
