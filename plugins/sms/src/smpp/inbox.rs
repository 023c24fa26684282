//! What comes in: receipts and messages become events of the host; the centre hears that they
//! arrived only when the host has committed them.
//!
//! Everything is bounded. What does not fit is refused for now (ESME_RX_T_APPN) and comes again;
//! what was not acknowledged when the session or this process ends comes again as well. So nothing
//! is lost, and something may be told twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{DeliveryEvent, Host, HostClosed, InboundEvent, Level, Party};
use rusmpp::CommandStatus;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, interval};

use super::config::Settings;
use super::parts::{Book, Meaning};
use super::pdu::{self, Deliver};
use super::reassembly::{Message, Reassembly};
use super::receipt::{Receipt, Sort, sort};
use super::session::Session;
use crate::address::shown;

/// Arrivals that wait to be looked at.
const QUEUE: usize = 1_024;
/// Events that wait for the host's acknowledgement.
const MOST_UNACKNOWLEDGED: usize = 10_000;
/// How often segments are looked after that wait for others.
const TICK: Duration = Duration::from_millis(500);

/// The right to answer a deliver_sm, which the centre waits for.
#[derive(Debug)]
pub(crate) struct Unanswered {
    session: Weak<Session>,
    sequence: u32,
}

impl Unanswered {
    async fn answer(self, status: CommandStatus) {
        // A session that has ended has nobody to tell: the centre will send it again.
        if let Some(session) = self.session.upgrade() {
            session
                .answer(pdu::deliver_answer(self.sequence, status))
                .await;
        }
    }
}

/// A deliver_sm.
#[derive(Debug)]
pub(crate) struct Arrival {
    deliver: Deliver,
    unanswered: Unanswered,
}

impl Arrival {
    pub(crate) fn new(deliver: Deliver, session: &Arc<Session>, sequence: u32) -> Self {
        Self {
            deliver,
            unanswered: Unanswered {
                session: Arc::downgrade(session),
                sequence,
            },
        }
    }

    /// Says that there is no room for it now.
    pub(crate) async fn refuse(self) {
        self.unanswered.answer(CommandStatus::EsmeRxTAppn).await;
    }
}

/// Where sessions put what arrives. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox(mpsc::Sender<Arrival>);

impl Inbox {
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Arrival>) {
        let (inbox, arrivals) = mpsc::channel(QUEUE);
        (Self(inbox), arrivals)
    }

    /// Never waits: gives the arrival back if there is no room.
    pub(crate) fn put(&self, arrival: Arrival) -> Option<Arrival> {
        self.0.try_send(arrival).err().map(TrySendError::into_inner)
    }
}

/// The events that the host has not acknowledged, by their numbers.
#[derive(Default)]
pub(crate) struct Unacknowledged(Mutex<State>);

struct State {
    last: u64,
    waiting: HashMap<u64, Vec<Unanswered>>,
}

impl Default for State {
    fn default() -> Self {
        State {
            last: anklang_plugin_sdk::events_from(),
            waiting: HashMap::new(),
        }
    }
}

impl Unacknowledged {
    /// Whether there is room for another event.
    fn has_room(&self) -> bool {
        let mut state = self.state();
        if state.waiting.len() >= MOST_UNACKNOWLEDGED {
            // Those of sessions that have ended only take up room.
            let gone = |one: &Unanswered| one.session.strong_count() == 0;
            state.waiting.retain(|_, all| !all.iter().all(gone));
        }
        state.waiting.len() < MOST_UNACKNOWLEDGED
    }

    /// The number of a new event, on whose acknowledgement these are answered; 0 if there are none.
    fn add(&self, unanswered: Vec<Unanswered>) -> u64 {
        if unanswered.is_empty() {
            return 0;
        }
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.waiting.insert(number, unanswered);
        number
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host has committed these events.
    pub(crate) async fn acknowledge(&self, numbers: Vec<u64>) {
        let all: Vec<_> = {
            let mut state = self.state();
            let taken = numbers.iter().filter_map(|n| state.waiting.remove(n));
            taken.flatten().collect()
        };
        for unanswered in all {
            unanswered.answer(CommandStatus::EsmeRok).await;
        }
    }
}

/// Turns arrivals into events.
pub(crate) struct Translator {
    arrivals: mpsc::Receiver<Arrival>,
    unacknowledged: Arc<Unacknowledged>,
    reassembly: Reassembly<Unanswered>,
    book: Arc<Book>,
    settings: Arc<Settings>,
    host: Host,
}

impl Translator {
    pub(crate) fn new(
        settings: Arc<Settings>,
        book: Arc<Book>,
        unacknowledged: Arc<Unacknowledged>,
        host: Host,
    ) -> (Inbox, Self) {
        let (inbox, arrivals) = Inbox::channel();
        let translator = Self {
            arrivals,
            unacknowledged,
            reassembly: Reassembly::new(settings.default_alphabet),
            book,
            settings,
            host,
        };
        (inbox, translator)
    }

    /// Works until the host takes no more, or nobody is left from whom something could arrive.
    pub(crate) async fn run(mut self) {
        let mut ticks = interval(TICK);
        loop {
            let done = tokio::select! {
                arrival = self.arrivals.recv() => match arrival {
                    Some(arrival) => self.translate(arrival).await,
                    None => return,
                },
                _ = ticks.tick() => self.look_after_segments().await,
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn translate(&mut self, arrival: Arrival) -> Result<(), HostClosed> {
        // Looked at before: of a long message, some segments may have been answered already.
        if !self.unacknowledged.has_room() {
            arrival.refuse().await;
            return Ok(());
        }
        let Arrival {
            deliver,
            unanswered,
        } = arrival;
        match sort(&deliver, self.settings.receipt_utc_offset) {
            Sort::Receipt(receipt) => self.receipt(receipt, unanswered).await,
            Sort::Unreadable => {
                let message = "a receipt of the centre has neither id nor state";
                self.host.log(Level::Warn, message, &[]);
                unanswered.answer(CommandStatus::EsmeRok).await;
                Ok(())
            }
            Sort::Message => {
                let done = self.reassembly.take(deliver, unanswered, Instant::now());
                self.inbound(done).await
            }
        }
    }

    async fn receipt(
        &mut self,
        receipt: Receipt,
        unanswered: Unanswered,
    ) -> Result<(), HostClosed> {
        let meaning = receipt
            .state
            .map(|state| (state, self.book.ended(&receipt.id, state)));
        let Some((
            state,
            Meaning::Tell {
                message_id,
                provider_message_id,
            },
        )) = meaning
        else {
            unanswered.answer(CommandStatus::EsmeRok).await;
            return Ok(());
        };
        let event = DeliveryEvent {
            event_id: self.unacknowledged.add(vec![unanswered]),
            message_id,
            provider_message_id,
            state: state.into(),
            code: receipt.code,
            detail: String::new(),
            occurred_at: Some(receipt.at.unwrap_or_else(SystemTime::now).into()),
        };
        self.host.delivery(&event).await
    }

    async fn inbound(&mut self, messages: Vec<Message<Unanswered>>) -> Result<(), HostClosed> {
        let party = |ton, address: &str| {
            Some(Party {
                address: shown(ton, address),
                name: String::new(),
            })
        };
        for message in messages {
            let event = InboundEvent {
                event_id: self.unacknowledged.add(message.unanswered),
                sender: party(message.source_ton, &message.source),
                recipient: party(message.destination_ton, &message.destination),
                text: message.text,
                received_at: Some(SystemTime::now().into()),
                ..InboundEvent::default()
            };
            self.host.inbound(&event).await?;
        }
        Ok(())
    }

    async fn look_after_segments(&mut self) -> Result<(), HostClosed> {
        let now = Instant::now();
        for unanswered in self.reassembly.held_too_long(now) {
            unanswered.answer(CommandStatus::EsmeRok).await;
        }
        let overdue = self.reassembly.overdue(now);
        self.inbound(overdue).await
    }
}
