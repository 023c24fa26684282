//! The mail channel: SMTP submission over a small pool of connections.
//!
//! Guarantees: every message gets the outcome that its SMTP dialogue proves, see [`smtp`]; a
//! resend carries the same `Message-ID`; nothing in a message becomes a header line or an SMTP
//! command of its own; the connection is never weaker than configured.
//!
//! Trade-offs: SMTP has no idempotency key and no way to ask what became of a message, so a
//! message that was handed over without an answer is ambiguous, and the suggested policy is to
//! send it again: mailboxes that deduplicate by `Message-ID` show it once, others twice.
//!
//! `README.md` beside this crate documents the configuration and the outcomes for operators.

mod config;
mod mime;
mod pool;
mod smtp;

use std::sync::atomic::{AtomicUsize, Ordering};

use anklang_plugin_sdk::{
    AmbiguousPolicy, Capability, Channel, HealthReply, Host, Level, Message, OpenError, Outcome,
    export_channel, health_reply::Status, outcome::Kind,
};
use futures::future::join_all;

use crate::config::Config;
use crate::mime::Mail;
use crate::pool::{Pool, Worker};

/// One opened relay account.
struct Relay {
    pool: Pool,
    host: Host,
}

impl Channel for Relay {
    type Config = Config;
    const ID: &'static str = "mail";
    const CHANNEL: &'static str = "email";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] = &[Capability::Attachments];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Resend;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        let settings = config.resolve().await?;
        Ok(Self {
            pool: Pool::new(settings),
            host,
        })
    }

    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
        let mut mails = Vec::with_capacity(batch.len());
        for (index, message) in batch.iter().enumerate() {
            match mime::build(message) {
                Ok(mail) => mails.push((index, mail)),
                Err(refused) => outcomes[index] = Some(refused),
            }
        }
        drop(batch);
        let no_connection = self.deliver(&mails, &mut outcomes).await;
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| no_connection.clone()))
            .collect()
    }

    async fn health(&self) -> HealthReply {
        let (status, detail) = match self.pool.probe().await {
            Ok(detail) => (Status::Serving, detail),
            Err(failed) => (Status::NotServing, described(&failed)),
        };
        HealthReply {
            status: status.into(),
            detail,
        }
    }

    async fn shut_down(&self) {
        self.pool.shut_down().await;
    }
}

impl Relay {
    /// Spreads the mails over as many connections as are free, and fills in their outcomes.
    /// Returns the outcome of those that are left because no connection could be had.
    async fn deliver(&self, mails: &[(usize, Mail)], outcomes: &mut [Option<Outcome>]) -> Outcome {
        let none = Outcome::transient("CONNECT", "no connection");
        if mails.is_empty() {
            return none;
        }
        // The first connection proves the account before the others try it as well: a wrong
        // password costs one failed login per batch and not one per connection.
        let first = match self.pool.worker().await {
            Ok(worker) => worker,
            Err(failed) => {
                self.warn(&failed);
                return failed;
            }
        };
        let further = self.pool.further_workers(mails.len() - 1);
        let next = AtomicUsize::new(0);
        let workers = std::iter::once(first).chain(further);
        let done = join_all(workers.map(|worker| work(worker, mails, &next))).await;
        let mut left = none;
        for (settled, failed) in done {
            for (index, outcome) in settled {
                outcomes[index] = Some(outcome);
            }
            if let Some(failed) = failed {
                self.warn(&failed);
                left = failed;
            }
        }
        left
    }

    fn warn(&self, failed: &Outcome) {
        self.host.log(
            Level::Warn,
            "no connection to the mail server",
            &[("reason", described(failed))],
        );
    }
}

/// Delivers mails, each worker the next one that nobody has, until there are none or the
/// connection is lost for good.
async fn work(
    mut worker: Worker<'_>,
    mails: &[(usize, Mail)],
    next: &AtomicUsize,
) -> (Vec<(usize, Outcome)>, Option<Outcome>) {
    let mut settled = Vec::new();
    while next.load(Ordering::Relaxed) < mails.len() {
        // A mail is only taken with a connection at hand: without one, others may have it.
        if let Err(failed) = worker.connect().await {
            return (settled, Some(failed));
        }
        let Some((index, mail)) = mails.get(next.fetch_add(1, Ordering::Relaxed)) else {
            break;
        };
        settled.push((*index, worker.deliver(mail).await));
    }
    worker.finish().await;
    (settled, None)
}

/// Code and detail of a failed connection, for people.
fn described(outcome: &Outcome) -> String {
    match &outcome.kind {
        Some(Kind::Transient(failed)) => format!("{}: {}", failed.code, failed.detail),
        other => format!("{other:?}"),
    }
}

export_channel!(Relay);
