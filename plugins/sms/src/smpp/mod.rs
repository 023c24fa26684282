//! An account at a short message centre: SMPP 3.4 over one or two sessions that are kept bound.
//!
//! What becomes of a message:
//!
//! | the centre … | outcome |
//! |---|---|
//! | took all its segments | accepted, with the id of the first |
//! | refused the first one | by its status, see [`status`] |
//! | took some and refused another | **ambiguous**: something is on its way |
//! | was silent, or gone, after a segment was written | **ambiguous** |
//! | was gone before anything was written | transient `CONNECT` |
//!
//! Segments of a text go one after the other, so that a refusal of the first costs none of the
//! others; texts go side by side, as many as the window allows. When the centre says that it is too
//! fast, the account rests for a moment; a text of which a segment was taken goes on after it, because
//! it could not be sent again.

pub(crate) mod config;
mod inbox;
mod link;
mod parts;
mod pdu;
mod reassembly;
mod receipt;
mod session;
mod status;

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    Busy, HealthReply, Host, Message, OpenError, Outcome, health_reply::Status,
};
use bytes::Bytes;
use futures::future::join_all;
use rusmpp::CommandStatus;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::config::{Binding, LongMessages, Settings, SmppConfig};
use self::inbox::{Translator, Unacknowledged};
use self::link::Link;
use self::parts::{Book, Ticket};
use self::pdu::{Part, Role, Submission};
use self::session::{Failure, Session};
use self::status::{Refusal, refusal};
use crate::message::{Letter, accepted};

/// When to come back with messages that were not begun in time.
const RETRY_LATE: Duration = Duration::from_secs(5);
/// How often a segment of a text is tried again that has begun, when the centre says that it is too
/// fast.
const AGAIN: u32 = 5;
/// How long the centre has to answer our leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Account {
    settings: Arc<Settings>,
    sending: Link,
    /// If it is another one than for sending.
    receiving: Option<Link>,
    book: Arc<Book>,
    unacknowledged: Arc<Unacknowledged>,
    translator: JoinHandle<()>,
    /// Of the next text of several segments.
    reference: AtomicU8,
    /// Until when the account rests because it was too fast.
    rests_until: Mutex<Instant>,
    /// Messages that were too fast.
    busy: Busy,
}

/// The outcome of a text whose segment has no answer.
fn not_taken(failure: Failure, taken: usize, partly: impl Fn(String) -> Outcome) -> Outcome {
    match failure {
        Failure::NotSent(why) if taken == 0 => Outcome::transient("CONNECT", why),
        Failure::NotSent(why) | Failure::Unanswered(why) => partly(why),
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.translator.abort();
    }
}

impl Account {
    pub(crate) async fn open(config: SmppConfig, host: Host) -> Result<Self, OpenError> {
        let settings = Arc::new(config.resolve().await?);
        let book = Arc::new(Book::new(settings.message_ids));
        let unacknowledged = Arc::new(Unacknowledged::default());
        let (inbox, translator) = Translator::new(
            Arc::clone(&settings),
            Arc::clone(&book),
            Arc::clone(&unacknowledged),
            host.clone(),
        );
        let link = |role| {
            let (settings, book) = (Arc::clone(&settings), Arc::clone(&book));
            Link::open(settings, role, book, inbox.clone(), host.clone())
        };
        let (sending, receiving) = match settings.binding {
            Binding::Transceiver => (link(Role::Transceiver), None),
            Binding::Transmitter => (link(Role::Transmitter), None),
            Binding::Separate => (link(Role::Transmitter), Some(link(Role::Receiver))),
        };
        Ok(Self {
            settings,
            sending,
            receiving,
            book,
            unacknowledged,
            translator: tokio::spawn(translator.run()),
            reference: AtomicU8::new(rand::random()),
            rests_until: Mutex::new(Instant::now()),
            busy: Busy::default(),
        })
    }

    pub(crate) async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let deadline = Instant::now() + self.settings.begin_within;
        let session = match self.sending.session(deadline).await {
            Ok(session) => session,
            // What can be refused without a session is refused all the same.
            Err(down) => {
                let outcome = |message| self.letter(message).map_or_else(|o| o, |_| down.outcome());
                return batch.iter().map(outcome).collect();
            }
        };
        let session = &*session;
        let all = batch.iter().map(|message| async move {
            match self.letter(message) {
                Ok(letter) => self.deliver(session, letter, deadline).await,
                Err(refused) => refused,
            }
        });
        join_all(all).await
    }

    fn letter<'m>(&self, message: &'m Message) -> Result<Letter<'m>, Outcome> {
        let Settings {
            sender,
            transliterate,
            max_segments,
            ..
        } = &*self.settings;
        Letter::read(message, sender.as_deref(), *transliterate, *max_segments)
    }

    async fn deliver(&self, session: &Session, letter: Letter<'_>, begin_by: Instant) -> Outcome {
        let count = letter.text.segments.len();
        let whole;
        let frames: Vec<_> = if self.settings.long_messages == LongMessages::Payload && count > 1 {
            whole = letter.text.segments.concat();
            vec![(None, &whole[..])]
        } else {
            // All of them are numbers of one octet: `segmented` sees to it.
            let total = u8::try_from(count).unwrap_or(u8::MAX);
            let reference = (total > 1).then(|| self.reference.fetch_add(1, Relaxed));
            let part = |number| {
                reference.map(|reference| Part {
                    reference,
                    total,
                    number,
                })
            };
            let numbered = (1_u8..).zip(&letter.text.segments);
            numbered
                .map(|(number, octets)| (part(number), &octets[..]))
                .collect()
        };
        let ticket = self.book.open(letter.message_id, frames.len());
        for (taken, (part, octets)) in frames.iter().enumerate() {
            let how = match part {
                None if count > 1 => LongMessages::Payload,
                None => LongMessages::Udh,
                Some(_) => self.settings.long_messages,
            };
            let submission = Submission {
                source: &letter.source,
                destination: letter.destination,
                alphabet: letter.text.alphabet,
                octets,
                part: *part,
                how,
            };
            // A text that has begun is not left half done because others took long.
            let begin_by = match taken {
                0 => begin_by,
                _ => Instant::now() + self.settings.begin_within,
            };
            let frame = |sequence| submission.frame(&self.settings, sequence);
            let submitted = self.submit(session, frame, ticket, letter.message_id, taken, begin_by);
            if let Err(outcome) = submitted.await {
                return outcome;
            }
        }
        let parts = u32::try_from(count).unwrap_or(u32::MAX);
        accepted(self.book.first_id(ticket), SystemTime::now(), parts)
    }

    /// Hands one segment over, of which `taken` others came before. An error is the outcome of the
    /// whole text.
    async fn submit(
        &self,
        session: &Session,
        frame: impl Fn(u32) -> Bytes,
        ticket: Ticket,
        message_id: &str,
        taken: usize,
        begin_by: Instant,
    ) -> Result<(), Outcome> {
        let patience = self.settings.response_timeout;
        let partly = |why: String| {
            let detail = format!("the first {taken} segments were taken, then: {why}");
            Outcome::ambiguous(if taken > 0 { detail } else { why })
        };
        let mut again = 0;
        loop {
            let place = match session.place(begin_by).await {
                Ok(Some(place)) => place,
                Ok(None) if taken == 0 => {
                    return Err(Outcome::throttled(RETRY_LATE, "the message centre is slow"));
                }
                Ok(None) => return Err(partly("the centre is slow".to_owned())),
                Err(failure) => return Err(not_taken(failure, taken, partly)),
            };
            if let Some(left) = self.rests() {
                if taken == 0 {
                    return Err(Outcome::throttled(left, "account"));
                }
                drop(place);
                sleep(left).await;
                continue;
            }
            let answer = match session.request(&frame, Some(ticket), patience).await {
                Ok(answer) if answer.status == CommandStatus::EsmeRok => return Ok(()),
                Ok(answer) => answer,
                Err(failure) => return Err(not_taken(failure, taken, partly)),
            };
            drop(place);
            let too_fast = !answer.is_nack && refusal(answer.status) == Refusal::TooFast;
            let is_to_blame = too_fast && taken == 0 && self.busy.blames(message_id);
            if too_fast && !is_to_blame {
                self.rest();
            }
            if taken == 0 {
                return Err(status::outcome(
                    &answer,
                    is_to_blame,
                    self.settings.throttled,
                ));
            }
            again += 1;
            if !too_fast || again > AGAIN {
                return Err(partly(pdu::status_name(answer.status)));
            }
        }
    }

    /// How long the account still rests.
    fn rests(&self) -> Option<Duration> {
        let until = *self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn rest(&self) {
        let mut until = self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *until = Instant::now() + self.settings.throttled;
    }

    pub(crate) async fn acknowledge(&self, event_ids: Vec<u64>) {
        self.unacknowledged.acknowledge(event_ids).await;
    }

    pub(crate) async fn health(&self) -> HealthReply {
        let deadline = Instant::now() + self.settings.response_timeout;
        for link in std::iter::once(&self.sending).chain(&self.receiving) {
            if let Err(down) = link.session(deadline).await {
                return HealthReply {
                    status: Status::NotServing.into(),
                    detail: down.to_string(),
                };
            }
        }
        HealthReply {
            status: Status::Serving.into(),
            detail: "bound".to_owned(),
        }
    }

    pub(crate) async fn shut_down(&self) {
        let links = std::iter::once(&self.sending).chain(&self.receiving);
        join_all(links.map(|link| link.close(FAREWELL))).await;
    }
}
