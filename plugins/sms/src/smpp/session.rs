//! One connection to the centre: requests and their answers, what comes in, and its end.
//!
//! Over rusmpp's PDUs and not its client rusmppc, because that cannot say whether a message was
//! written when the connection ends, which makes the difference between *again* and *ambiguous*;
//! because it gives a connection up for one PDU that it cannot read; and because what comes in
//! queues up in it without bound.
//!
//! # Guarantees
//! - A request that was not written to the connection is [`Failure::NotSent`], and never will be
//!   written; one that was and has no answer is [`Failure::Unanswered`].
//! - At most as many messages wait for their answers as the window allows. What comes in does not
//!   count, so that the two directions never wait for each other.
//! - An answer that comes too late still tells the book of receipts the centre's id of the message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use rusmpp::CommandStatus;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::inbox::{Arrival, Inbox};
use super::parts::{Book, Ticket};
use super::pdu::{self, Answer, Incoming};

/// PDUs that wait to be written; beyond it, whoever writes waits.
const QUEUE: usize = 256;
/// PDUs that are written at once.
const AT_ONCE: usize = 64;
/// Requests without an answer that are kept in mind for an answer that comes late.
const MOST_LATE: usize = 4_096;
/// How long the centre may take to close after it took its leave.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It did not go out.
    NotSent(String),
    /// It went out, or may have.
    Unanswered(String),
}

/// The right to have a message wait for its answer.
pub(crate) type Place<'s> = SemaphorePermit<'s>;

type Settled = Result<Answer, Failure>;

struct Pending {
    /// Who waits; `None` if nobody does any more.
    waiter: Option<oneshot::Sender<Settled>>,
    written: bool,
    /// The message of which it is a segment.
    ticket: Option<Ticket>,
}

enum Outgoing {
    /// Is left out if nobody waits for its answer any more.
    Request(u32, Bytes),
    Other(Bytes),
}

/// See the module's documentation.
pub(crate) struct Session {
    outgoing: mpsc::Sender<Outgoing>,
    pending: Mutex<HashMap<u32, Pending>>,
    last_sequence: AtomicU32,
    /// Closed when no more messages are taken.
    window: Semaphore,
    book: Arc<Book>,
    begun: Instant,
    /// Milliseconds after `begun` at which the centre was last heard.
    heard: AtomicU64,
    closing: Notify,
}

/// What runs a session; to be polled until it ends, and then says why.
pub(crate) struct Driver<S> {
    session: Arc<Session>,
    stream: S,
    queue: mpsc::Receiver<Outgoing>,
    inbox: Inbox,
    enquire_link: Duration,
    response_timeout: Duration,
}

impl Session {
    pub(crate) fn new<S: Stream>(
        stream: S,
        window: usize,
        (enquire_link, response_timeout): (Duration, Duration),
        book: Arc<Book>,
        inbox: Inbox,
    ) -> (Arc<Self>, Driver<S>) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let session = Arc::new(Self {
            outgoing,
            pending: Mutex::default(),
            last_sequence: AtomicU32::new(0),
            window: Semaphore::new(window),
            book,
            begun: Instant::now(),
            heard: AtomicU64::new(0),
            closing: Notify::new(),
        });
        let driver = Driver {
            session: Arc::clone(&session),
            stream,
            queue,
            inbox,
            enquire_link,
            response_timeout,
        };
        (session, driver)
    }

    /// A place in the window, to be held until the answer is there. `None` if there is none until
    /// `deadline`.
    pub(crate) async fn place(&self, deadline: Instant) -> Result<Option<Place<'_>>, Failure> {
        match timeout_at(deadline, self.window.acquire()).await {
            Ok(Ok(place)) => Ok(Some(place)),
            Ok(Err(_)) => Err(Failure::NotSent("the session has ended".to_owned())),
            Err(_) => Ok(None),
        }
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn request(
        &self,
        frame: impl FnOnce(u32) -> Bytes,
        ticket: Option<Ticket>,
        patience: Duration,
    ) -> Settled {
        // 1 to 0x7FFFFFFF, then from the beginning.
        let sequence = self.last_sequence.fetch_add(1, Relaxed) % 0x7FFF_FFFF + 1;
        let (waiter, settled) = oneshot::channel();
        let pending = Pending {
            waiter: Some(waiter),
            written: false,
            ticket,
        };
        self.pending().insert(sequence, pending);
        let guard = GivenUp(self, sequence);
        let answered = async {
            let request = Outgoing::Request(sequence, frame(sequence));
            let gone = || Failure::NotSent("the session has ended".to_owned());
            self.outgoing.send(request).await.map_err(|_| gone())?;
            settled.await.unwrap_or_else(|_| Err(gone()))
        };
        match timeout(patience, answered).await {
            Ok(settled) => settled,
            Err(_) if guard.give_up() => Err(Failure::Unanswered(format!(
                "no answer within {patience:?}"
            ))),
            Err(_) => Err(Failure::NotSent(format!("not written within {patience:?}"))),
        }
    }

    /// Answers a request of the centre. If the session has ended, there is nobody to tell.
    pub(crate) async fn answer(&self, frame: Bytes) {
        let _ = self.outgoing.send(Outgoing::Other(frame)).await;
    }

    /// Takes no more messages, takes leave and ends the session.
    pub(crate) async fn unbind(&self, patience: Duration) {
        self.window.close();
        // The session ends whatever the centre says.
        let _ = self.request(pdu::unbind, None, patience).await;
        self.close();
    }

    /// Ends the session without leave.
    pub(crate) fn close(&self) {
        self.window.close();
        self.closing.notify_one();
    }

    /// Whether it takes messages.
    pub(crate) fn is_open(&self) -> bool {
        !self.window.is_closed()
    }

    fn settle(&self, sequence: u32, answer: Answer) {
        let Some(pending) = self.pending().remove(&sequence) else {
            return;
        };
        let mut answer = answer;
        if let Some(ticket) = pending.ticket
            && answer.status == CommandStatus::EsmeRok
        {
            // Here and not by who waits: the receipt may be the next thing to be read.
            answer.message_id = self.book.taken(ticket, &answer.message_id);
        }
        if let Some(waiter) = pending.waiter {
            // Whoever does not wait any more needs no answer.
            let _ = waiter.send(Ok(answer));
        }
    }

    /// Tells all who wait that there will be no answer.
    fn end(&self, why: &str) -> usize {
        self.window.close();
        let all = std::mem::take(&mut *self.pending());
        let mut unanswered = 0;
        for pending in all.into_values() {
            let Some(waiter) = pending.waiter else {
                continue;
            };
            unanswered += usize::from(pending.written);
            let failure = if pending.written {
                Failure::Unanswered(why.to_owned())
            } else {
                Failure::NotSent(why.to_owned())
            };
            let _ = waiter.send(Err(failure));
        }
        unanswered
    }

    fn hear(&self) {
        let since = self.begun.elapsed().as_millis();
        self.heard
            .store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }

    fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Relaxed));
        self.begun.elapsed().saturating_sub(heard)
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<u32, Pending>> {
        // No code that can panic runs under the lock.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a request up when nobody waits for it any more.
struct GivenUp<'s>(&'s Session, u32);

impl GivenUp<'_> {
    /// Says whether it was written. If not, it never will be.
    fn give_up(&self) -> bool {
        let mut all = self.0.pending();
        let Some(pending) = all.get_mut(&self.1) else {
            return true;
        };
        pending.waiter = None;
        if !pending.written {
            all.remove(&self.1);
            return false;
        }
        if all.len() > MOST_LATE {
            all.retain(|_, pending| pending.waiter.is_some());
        }
        true
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// How a session ended.
pub(crate) struct Ended {
    pub(crate) why: String,
    /// Requests that were written and have no answer.
    pub(crate) unanswered: usize,
}

impl<S: Stream> Driver<S> {
    /// Runs the session to its end.
    pub(crate) async fn run(self) -> Ended {
        let Self {
            session,
            stream,
            queue,
            inbox,
            enquire_link,
            response_timeout,
        } = self;
        // Also when this future is dropped, those who wait must hear of it.
        let end = OnDrop(&session);
        let (source, sink) = tokio::io::split(stream);
        let why = tokio::select! {
            why = read(&session, source, &inbox) => why,
            why = write(&session, sink, queue) => why,
            why = keep_alive(&session, enquire_link, response_timeout) => why,
            () = session.closing.notified() => "unbound".to_owned(),
        };
        let unanswered = session.end(&why);
        drop(end);
        Ended { why, unanswered }
    }
}

struct OnDrop<'s>(&'s Session);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.end("the session was given up");
    }
}

/// Reads until the connection ends; returns why it does.
async fn read<S: Stream>(session: &Arc<Session>, source: ReadHalf<S>, inbox: &Inbox) -> String {
    let mut frames = LengthDelimitedCodec::builder()
        .length_field_length(4)
        // The length is that of the whole, itself included, and the whole is read.
        .num_skip(0)
        .max_frame_length(pdu::LONGEST)
        .new_read(source);
    loop {
        let Some(incoming) = next(&mut frames).await else {
            return "the centre closed the connection".to_owned();
        };
        session.hear();
        match incoming {
            Err(why) => return why,
            Ok(Incoming::Answer(sequence, answer)) => session.settle(sequence, answer),
            Ok(Incoming::Deliver(sequence, deliver)) => {
                let arrival = Arrival::new(deliver, session, sequence);
                if let Some(arrival) = inbox.put(arrival) {
                    arrival.refuse().await;
                }
            }
            Ok(Incoming::EnquireLink(sequence)) => {
                session.answer(pdu::enquire_link_answer(sequence)).await;
            }
            Ok(Incoming::Unbind(sequence)) => {
                session.window.close();
                session.answer(pdu::unbind_answer(sequence)).await;
                // It closes when it has read that; answers may come until then.
                let rest = async { while let Some(Ok(_)) = frames.next().await {} };
                let _ = timeout(FAREWELL, rest).await;
                return "the centre took its leave".to_owned();
            }
            Ok(Incoming::Refused(sequence, status)) => {
                session.answer(pdu::nack(sequence, status)).await;
            }
            Ok(Incoming::Notice) => {}
        }
    }
}

async fn next<R: AsyncRead + Unpin>(
    frames: &mut FramedRead<R, LengthDelimitedCodec>,
) -> Option<Result<Incoming, String>> {
    Some(match frames.next().await? {
        Ok(frame) => pdu::read(&frame).ok_or_else(|| "not SMPP: a PDU without header".to_owned()),
        Err(error) => Err(error.to_string()),
    })
}

/// Writes what is asked for, several at once where there are; returns why it cannot any more.
async fn write<S: Stream>(
    session: &Session,
    mut sink: WriteHalf<S>,
    mut queue: mpsc::Receiver<Outgoing>,
) -> String {
    let (mut outgoing, mut octets) = (Vec::with_capacity(AT_ONCE), BytesMut::new());
    while queue.recv_many(&mut outgoing, AT_ONCE).await > 0 {
        {
            let mut pending = session.pending();
            for one in outgoing.drain(..) {
                match one {
                    Outgoing::Other(frame) => octets.extend_from_slice(&frame),
                    Outgoing::Request(sequence, frame) => {
                        if let Some(pending) = pending.get_mut(&sequence) {
                            pending.written = true;
                            octets.extend_from_slice(&frame);
                        }
                    }
                }
            }
        }
        let written = async {
            sink.write_all(&octets).await?;
            sink.flush().await
        };
        if let Err(error) = written.await {
            return error.to_string();
        }
        octets.clear();
    }
    "the session was given up".to_owned()
}

/// Asks whether the centre is there when it was silent for `interval`; returns when it is not.
async fn keep_alive(session: &Session, interval: Duration, patience: Duration) -> String {
    loop {
        let silence = session.silence();
        if silence < interval {
            sleep(interval - silence).await;
            continue;
        }
        let asked = session.request(pdu::enquire_link, None, patience).await;
        // Anything that it says proves that it is there.
        if asked.is_err() && session.silence() >= interval {
            return format!(
                "the centre does not answer, silent for {:?}",
                session.silence()
            );
        }
    }
}

#[cfg(test)]
mod tests;
