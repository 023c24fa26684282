//! The social channel: public posts and messages to single people, by the public HTTP API of each
//! network.
//!
//! Guarantees: every message gets the outcome that the network's answer proves, see the modules of
//! the networks and [`common`]; where a network knows idempotency, the id of the message is the key;
//! nothing in a message becomes a part of a path, a header or a JSON structure of its own; secrets
//! are never logged and never part of an outcome; http is for this machine alone.
//!
//! Trade-offs: Telegram, WhatsApp, Facebook and X know no idempotency and cannot be asked what became
//! of a message, so one that was handed over without an answer is ambiguous, and the suggested policy
//! is to hold it.
//!
//! `README.md` beside this crate documents the configuration and the outcomes for operators.

mod common;
mod config;
mod events;
mod facebook;
mod http;
mod mastodon;
mod matrix;
mod meta;
mod telegram;
mod text;
mod whatsapp;
mod x;

use std::sync::OnceLock;
use std::time::Duration;

use anklang_plugin_sdk::{
    AmbiguousPolicy, CallbackReply, CallbackRequest, Capability, Channel, HealthReply, Host, Level,
    Message, OpenError, Outcome, export_channel, health_reply::Status, outcome::Kind,
};
use futures::{StreamExt, stream};
use secrecy::SecretString;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::common::{Network, Outgoing, concerns_account, scrub, scrubbed};
use crate::config::{Config, Connection, Serves};

/// When to come back with the messages that were not begun.
const RETRY_LATE: Duration = Duration::from_secs(5);

/// One opened account.
struct Account {
    network: Box<dyn Network>,
    secrets: Vec<SecretString>,
    serves: Serves,
    /// Messages that may be handed over at the same time, over all batches.
    slots: Semaphore,
    at_once: usize,
    begin_within: Duration,
    host: Host,
}

impl Channel for Account {
    type Config = Config;
    const ID: &'static str = "social";
    const CHANNEL: &'static str = "social";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Callback,
        Capability::PublicPost,
        Capability::Events,
    ];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Hold;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        type Opened = (Box<dyn Network>, Vec<SecretString>);
        fn boxed<N: Network + 'static>((network, secrets): (N, Vec<SecretString>)) -> Opened {
            (Box::new(network), secrets)
        }
        let (serves, connection) = config.common();
        let (network, secrets) = match &config {
            Config::Matrix(c) => boxed(matrix::Matrix::open(c, host.clone()).await?),
            Config::Mastodon(c) => boxed(mastodon::Mastodon::open(c).await?),
            Config::Telegram(c) => boxed(telegram::Telegram::open(c, host.clone()).await?),
            Config::WhatsApp(c) => boxed(whatsapp::WhatsApp::open(c).await?),
            Config::Facebook(c) => boxed(facebook::Facebook::open(c).await?),
            Config::X(c) => boxed(x::X::open(c).await?),
        };
        Ok(Self {
            network,
            secrets,
            serves,
            slots: Semaphore::new(connection.at_once()),
            at_once: connection.at_once(),
            begin_within: connection.begin_within(),
            host,
        })
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let deadline = Instant::now() + self.begin_within;
        // What stops the account: further messages get the same without a try.
        let stop = OnceLock::new();
        stream::iter(batch)
            .map(|message| self.send_one(message, deadline, &stop))
            .buffered(self.at_once)
            .collect()
            .await
    }

    async fn callback(&self, request: CallbackRequest) -> CallbackReply {
        let reply = self.network.callback(&request);
        if reply.http_status == 401 {
            let text = "a request that does not come from the network was refused";
            self.host.log(Level::Warn, text, &[]);
        }
        reply
    }

    async fn health(&self) -> HealthReply {
        let (status, detail) = match self.network.health().await {
            Ok(detail) => (Status::Serving, detail),
            Err(failed) => (Status::NotServing, described(&failed)),
        };
        HealthReply {
            status: status.into(),
            detail: scrubbed(&detail, &self.secrets, ""),
        }
    }

    async fn acknowledge(&self, event_ids: Vec<u64>) {
        self.network.acknowledge(&event_ids);
    }
}

impl Account {
    async fn send_one(
        &self,
        message: Message,
        deadline: Instant,
        stop: &OnceLock<Outcome>,
    ) -> Outcome {
        let message = match Outgoing::check(message, self.serves) {
            Ok(message) => message,
            Err(refused) => return refused,
        };
        let late = || Outcome::throttled(RETRY_LATE, "the network is slow");
        let Ok(slot) = timeout_at(deadline, self.slots.acquire()).await else {
            return late();
        };
        let _slot = slot.expect("is never closed");
        if let Some(stopped) = stop.get() {
            return stopped.clone();
        }
        if Instant::now() >= deadline {
            return late();
        }
        let mut outcome = self.network.send(&message).await;
        scrub(&mut outcome, &self.secrets, &message.text);
        if concerns_account(&outcome) && stop.set(outcome.clone()).is_ok() {
            let text = "the account cannot send at the moment";
            let fields = [("reason", described(&outcome))];
            self.host.log(Level::Warn, text, &fields);
        }
        outcome
    }
}

/// Code and detail of a failed outcome, for people.
fn described(outcome: &Outcome) -> String {
    match &outcome.kind {
        Some(Kind::Transient(failed)) => format!("{}: {}", failed.code, failed.detail),
        Some(Kind::Permanent(failed)) => format!("{}: {}", failed.code, failed.detail),
        Some(Kind::Throttled(_)) => "the network asks to wait".to_owned(),
        other => format!("{other:?}"),
    }
}

impl Config {
    /// What all networks have.
    fn common(&self) -> (Serves, &Connection) {
        match self {
            Config::Matrix(c) => (c.serves, &c.connection),
            Config::Mastodon(c) => (c.serves, &c.connection),
            Config::Telegram(c) => (c.serves, &c.connection),
            Config::WhatsApp(c) => (c.serves, &c.connection),
            Config::Facebook(c) => (c.serves, &c.connection),
            Config::X(c) => (c.serves, &c.connection),
        }
    }
}

export_channel!(Account);
