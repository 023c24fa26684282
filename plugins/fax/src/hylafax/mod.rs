//! An account at a HylaFAX server: documents are made ready, submitted, asked for and watched.

pub(crate) mod config;
mod job;
mod pool;
mod reply;
mod session;
mod submit;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant as Moment, SystemTime};

use anklang_plugin_sdk::{
    Content, HealthReply, Host, Level, LookupResult, Message, OpenError, Outcome, Reason,
    health_reply::Status, lookup_result, outcome::Kind,
};
use futures::{StreamExt, stream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::config::{HylafaxConfig, Settings};
use self::job::Listed;
use self::pool::Pool;
use self::session::{Fault, Session};
use self::submit::{Fax, before, submit};
use self::watch::Told;
use crate::document::Converter;
use crate::{late, number};

/// One account.
pub(crate) struct Hylafax {
    settings: Arc<Settings>,
    converter: Converter,
    pool: Pool,
    told: Arc<Told>,
    watching: JoinHandle<()>,
    host: Host,
    /// Since when nothing broke off in the middle of a submission.
    calm_since: Mutex<Moment>,
}

impl Drop for Hylafax {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Hylafax {
    pub(crate) async fn open(config: HylafaxConfig, host: Host) -> Result<Self, OpenError> {
        let (settings, converter) = config.resolve().await?;
        let (settings, told) = (Arc::new(settings), Arc::new(Told::default()));
        let watching = watch::watch(Arc::clone(&settings), Arc::clone(&told), host.clone());
        Ok(Self {
            pool: Pool::new(settings.connections),
            watching: tokio::spawn(watching),
            settings,
            converter,
            told,
            host,
            calm_since: Mutex::new(Moment::now()),
        })
    }

    /// One outcome for each message; as many at once as there are connections.
    pub(crate) async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let deadline = Instant::now() + self.settings.begin_within;
        // What no fax could be sent for now, such as a wrong password, is found out once.
        let down: Mutex<Option<Outcome>> = Mutex::new(None);
        stream::iter(batch)
            .map(|message| self.send_one(message, deadline, &down))
            .buffered(self.settings.connections)
            .collect()
            .await
    }

    async fn send_one(
        &self,
        message: Message,
        deadline: Instant,
        down: &Mutex<Option<Outcome>>,
    ) -> Outcome {
        let down = || down.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = down().clone() {
            return outcome;
        }
        if Instant::now() >= deadline {
            return late();
        }
        let fax = match self.prepare(message).await {
            Ok(fax) => fax,
            Err(refused) => return refused,
        };
        let leased = tokio::time::timeout_at(deadline, self.pool.lease(&self.settings)).await;
        let mut lease = match leased {
            Ok(Ok(lease)) => lease,
            Ok(Err(fault)) => {
                let outcome = before(&fault, "connection", true);
                self.warn("no connection to the fax server", &fault);
                *down() = Some(outcome.clone());
                return outcome;
            }
            // All connections are busy with other batches.
            Err(_) => return late(),
        };
        let doubt = Doubt::new(&self.calm_since);
        let submitted = submit(&mut lease.session, &self.settings, &fax).await;
        doubt.settled(&submitted.outcome);
        if submitted.usable {
            self.pool.give_back(lease).await;
        } else {
            // It removes the job if it was not submitted.
            lease.session.quit().await;
        }
        submitted.outcome
    }

    /// Makes a fax of a message; an error is its outcome.
    async fn prepare(&self, message: Message) -> Result<Fax, Outcome> {
        let content = |code: &str, detail: &str| Outcome::permanent(Reason::Content, code, detail);
        if !job::is_message_id(&message.message_id) {
            return Err(content("MESSAGE_ID_INVALID", "message_id is not a UUID"));
        }
        let recipient = message.recipient.unwrap_or_default();
        let dial = self.settings.dial.dial(&recipient.address)?;
        let Some(Content::Document(document)) = message.content else {
            return Err(content("NOT_A_DOCUMENT", "the message has no document"));
        };
        let file = document
            .document
            .ok_or_else(|| content("NOT_A_DOCUMENT", "the message has no document"))?;
        let sender = message.sender.unwrap_or_default();
        let own = number::e164(&sender.address).map(|digits| format!("+{digits}"));
        Ok(Fax {
            message_id: message.message_id,
            dial,
            number: recipient.address.trim().to_owned(),
            sender_name: sender.name,
            sender_id: own,
            subject: document.subject,
            pages: self.converter.pages(&file).await?,
        })
    }

    /// Looks for the jobs that carry these messages.
    pub(crate) async fn lookup(&self, message_ids: Vec<String>) -> Vec<LookupResult> {
        // Asked before the lists are: what breaks off meanwhile counts.
        let sure = self.calm_since().elapsed() >= self.settings.unsure;
        let found = match self.jobs().await {
            Ok(jobs) => jobs,
            Err(fault) => {
                self.warn("jobs cannot be looked for", &fault);
                let detail = format!("the fax server cannot be asked: {}", fault.detail());
                let unknown = outcome(Outcome::ambiguous(detail));
                return vec![unknown; message_ids.len()];
            }
        };
        let now = SystemTime::now();
        let result = |id: &String| {
            let jobs = found.iter().filter(|job| job.message_id == *id);
            // Sent twice by a person's decision, the newest tells.
            match jobs.max_by_key(|job| (job.state != 'T', job.at)) {
                Some(job) => outcome(standing(job, now)),
                None if sure && self.is_kept(id, now) => LookupResult {
                    kind: Some(lookup_result::Kind::NotFound(Default::default())),
                },
                None => outcome(Outcome::ambiguous(
                    "no job carries the message; it may never have been submitted, or be done and removed",
                )),
            }
        };
        message_ids.iter().map(result).collect()
    }

    /// All jobs of ours, waiting ones first: one that finishes meanwhile is in both lists, or in
    /// the second.
    async fn jobs(&self) -> Result<Vec<Listed>, Fault> {
        let mut session = Session::open(&self.settings).await?;
        let mut jobs = job::list(&mut session, "sendq", &self.settings.username).await?;
        jobs.extend(job::list(&mut session, "doneq", &self.settings.username).await?);
        session.quit().await;
        Ok(jobs)
    }

    /// Whether a job of this message would still be in the lists: it cannot be older than the
    /// message.
    fn is_kept(&self, message_id: &str, now: SystemTime) -> bool {
        let age = job::made_at(message_id).and_then(|made| now.duration_since(made).ok());
        age.is_some_and(|age| age < self.settings.done_kept)
    }

    pub(crate) async fn health(&self) -> HealthReply {
        let (status, detail) = match Session::open(&self.settings).await {
            Ok(session) => {
                session.quit().await;
                match self.converter.probe().await {
                    Ok(()) => (Status::Serving, "connected".to_owned()),
                    Err(why) => (Status::NotServing, why),
                }
            }
            Err(fault) => (Status::NotServing, fault.detail()),
        };
        HealthReply {
            status: status.into(),
            detail,
        }
    }

    pub(crate) fn acknowledge(&self, event_ids: &[u64]) {
        self.told.acknowledge(event_ids);
    }

    pub(crate) async fn shut_down(&self) {
        self.watching.abort();
        self.pool.shut_down().await;
    }

    fn calm_since(&self) -> Moment {
        *self
            .calm_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, what: &'static str, fault: &Fault) {
        self.host
            .log(Level::Warn, what, &[("reason", fault.detail())]);
    }
}

/// A submission that goes on. If it ends in doubt, or is given up in the middle, nobody can say for
/// a while that a job is not there.
struct Doubt<'a> {
    calm_since: &'a Mutex<Moment>,
    settled: bool,
}

impl<'a> Doubt<'a> {
    fn new(calm_since: &'a Mutex<Moment>) -> Self {
        Self {
            calm_since,
            settled: false,
        }
    }

    fn settled(mut self, outcome: &Outcome) {
        self.settled = !matches!(outcome.kind, Some(Kind::Ambiguous(_)));
    }
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            let mut calm_since = self
                .calm_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *calm_since = Moment::now();
        }
    }
}

/// What a job that is there says of the submission of its message.
fn standing(job: &Listed, now: SystemTime) -> Outcome {
    match job.state {
        // hfaxd has written it, but the scheduler does not have it: it goes when its connection
        // ends, or is taken this moment.
        'T' => Outcome::ambiguous(format!("job {} is there, but suspended", job.id)),
        _ => submit::accepted(job.id, job.pages, job.at.min(now)),
    }
}

fn outcome(outcome: Outcome) -> LookupResult {
    LookupResult {
        kind: Some(lookup_result::Kind::Outcome(outcome)),
    }
}
