//! A mail server that takes mails for others: SMTP submission over a small pool of connections,
//! and the mailbox in which answers arrive.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anklang_plugin_sdk::{
    HealthReply, Host, Level, Message, Outcome, health_reply::Status, outcome::Kind,
};
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use crate::bounces::Bounces;
use crate::config::Settings;
use crate::mime::{self, Mail, Make};
use crate::pool::{Pool, Worker};

/// When to come back with the mails that were not begun.
const RETRY_LATE: Duration = Duration::from_secs(5);

/// One opened relay account.
pub(crate) struct Relay {
    pool: Pool,
    make: Arc<Make>,
    bounces: Option<Bounces>,
    host: Host,
}

impl Relay {
    pub(crate) fn open(mut settings: Settings, host: Host) -> Self {
        let make = Make {
            return_path: settings.return_path.take(),
            unsubscribe: settings
                .bounces
                .as_ref()
                .and_then(|b| b.unsubscribe.clone()),
            signers: std::mem::take(&mut settings.signers),
        };
        let bounces = settings
            .bounces
            .take()
            .map(|bounces| Bounces::open(bounces, make.return_path.clone(), host.clone()));
        Self {
            pool: Pool::new(settings),
            make: Arc::new(make),
            bounces,
            host,
        }
    }

    pub(crate) async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let deadline = Instant::now() + self.pool.begin_within();
        let built = self.build(batch).await;
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(built.len());
        let mut mails = Vec::with_capacity(built.len());
        for (index, built) in built.into_iter().enumerate() {
            match built {
                Ok(mail) => {
                    mails.push((index, mail));
                    outcomes.push(None);
                }
                Err(refused) => outcomes.push(Some(refused)),
            }
        }
        let left = self.deliver(&mails, &mut outcomes, deadline).await;
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| left.clone()))
            .collect()
    }

    /// Encoding and signing compute for a while, and others use the same threads to wait.
    async fn build(&self, batch: Vec<Message>) -> Vec<Result<Mail, Outcome>> {
        let (count, make) = (batch.len(), Arc::clone(&self.make));
        let building = tokio::task::spawn_blocking(move || {
            let built = batch.iter().map(|message| mime::build(message, &make));
            built.collect()
        });
        building.await.unwrap_or_else(|_| {
            let failed = Outcome::transient("BUILD", "the mails could not be made");
            (0..count).map(|_| Err(failed.clone())).collect()
        })
    }

    pub(crate) async fn health(&self) -> HealthReply {
        let (status, mut detail) = match self.pool.probe().await {
            Ok(detail) => (Status::Serving, detail),
            Err(failed) => (Status::NotServing, described(&failed)),
        };
        if let Some(bounces) = &self.bounces {
            detail.push_str("; mailbox: ");
            detail.push_str(&bounces.state());
        }
        HealthReply {
            status: status.into(),
            detail,
        }
    }

    pub(crate) fn acknowledge(&self, event_ids: &[u64]) {
        if let Some(bounces) = &self.bounces {
            bounces.acknowledge(event_ids);
        }
    }

    pub(crate) async fn shut_down(&self) {
        if let Some(bounces) = &self.bounces {
            bounces.shut_down().await;
        }
        self.pool.shut_down().await;
    }

    /// Spreads the mails over as many connections as are free, and fills in their outcomes.
    /// Returns the outcome of those that were not begun: no connection could be had, the server
    /// wants nothing for now, or the deadline was over.
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
        let (next, rest) = (AtomicUsize::new(0), OnceLock::new());
        let workers = std::iter::once(first).chain(further);
        let done = workers.map(|worker| work(worker, mails, &next, &rest, deadline));
        let done = join_all(done).await;
        let mut left = rest.into_inner().unwrap_or(late);
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
/// is over, the connection is lost for good, or the server has asked one of them for a `rest`.
async fn work(
    mut worker: Worker<'_>,
    mails: &[(usize, Mail)],
    next: &AtomicUsize,
    rest: &OnceLock<Outcome>,
    deadline: Instant,
) -> (Vec<(usize, Outcome)>, Option<Outcome>) {
    let mut settled = Vec::new();
    let goes_on = || rest.get().is_none() && Instant::now() < deadline;
    while next.load(Ordering::Relaxed) < mails.len() && goes_on() {
        // A mail is only taken with a connection at hand: without one, others may have it.
        if let Err(failed) = worker.connect().await {
            return (settled, Some(failed));
        }
        let Some((index, mail)) = mails.get(next.fetch_add(1, Ordering::Relaxed)) else {
            break;
        };
        let outcome = worker.deliver(mail).await;
        if outcome.rests_account() {
            rest.get_or_init(|| outcome.clone());
        }
        settled.push((*index, outcome));
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
