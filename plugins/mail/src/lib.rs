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
use std::time::Duration;

use anklang_plugin_sdk::{
    AmbiguousPolicy, Capability, Channel, HealthReply, Host, Level, Message, OpenError, Outcome,
    export_channel, health_reply::Status, outcome::Kind,
};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::mime::Mail;
use crate::pool::{Pool, Worker};

/// When to come back with the mails that were not begun.
const RETRY_LATE: Duration = Duration::from_secs(5);

/// One opened relay account.
struct Relay {
    pool: Pool,
    host: Host,
}

impl Channel for Relay {
    type Config = Config;
    const ID: &'static str = "mail";
    const CHANNEL: &'static str = "mail";
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
        let deadline = Instant::now() + self.pool.begin_within();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
        let mut mails = Vec::with_capacity(batch.len());
        for (index, message) in batch.iter().enumerate() {
            match mime::build(message) {
                Ok(mail) => mails.push((index, mail)),
                Err(refused) => outcomes[index] = Some(refused),
            }
        }
        drop(batch);
        let left = self.deliver(&mails, &mut outcomes, deadline).await;
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| left.clone()))
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
    /// Returns the outcome of those that were not begun: no connection could be had, or the
    /// deadline was over.
    async fn deliver(
        &self,
        mails: &[(usize, Mail)],
        outcomes: &mut [Option<Outcome>],
        deadline: Instant,
    ) -> Outcome {
        let late = Outcome::throttled(RETRY_LATE, "the mail server is slow");
        if mails.is_empty() {
            return late;
        }
        // The first connection proves the account before the others try it as well: a wrong
        // password costs one failed login per batch and not one per connection.
        let first = match timeout_at(deadline, self.pool.worker()).await {
            Ok(Ok(worker)) => worker,
            Ok(Err(failed)) => {
                self.warn(&failed);
                return failed;
            }
            // All connections are busy with other batches.
            Err(_) => return late,
        };
        let further = self.pool.further_workers(mails.len() - 1);
        let next = AtomicUsize::new(0);
        let workers = std::iter::once(first).chain(further);
        let done = join_all(workers.map(|worker| work(worker, mails, &next, deadline))).await;
        let mut left = late;
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

/// Delivers mails, each worker the next one that nobody has, until there are none, the deadline
/// is over or the connection is lost for good.
async fn work(
    mut worker: Worker<'_>,
    mails: &[(usize, Mail)],
    next: &AtomicUsize,
    deadline: Instant,
) -> (Vec<(usize, Outcome)>, Option<Outcome>) {
    let mut settled = Vec::new();
    while next.load(Ordering::Relaxed) < mails.len() && Instant::now() < deadline {
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
