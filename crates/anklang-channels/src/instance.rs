//! An open configuration of a plugin: calls, events and the end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{
    AckEvents, CallbackReply, CallbackRequest, HealthReply, LookupReply, LookupRequest,
    LookupResult, Outcome, SendReply, SendRequest, lookup_result,
};
use prost::Message;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::board::{self, Events, Hub};
use crate::supervisor::{Shared, Spec};
use crate::{CallError, DrainError, OpenError, Plugin, log};

/// The drain of an instance that was dropped without one.
pub(crate) const DROPPED_DRAIN: Duration = Duration::from_secs(5);
/// A question about its health is worth waiting for so long.
const HEALTH: Duration = Duration::from_secs(30);

/// A callback brings at most so many events; providers put thousands of them into one request.
const MOST_EVENTS: usize = 100_000;

/// How patient the host is with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceOptions {
    /// For opening.
    pub open_deadline: Duration,
    /// For a call, from handing it over to its completion. After that its messages are
    /// ambiguous and the plugin is asked to give it up; a process that does not is killed.
    pub call_deadline: Duration,
    /// Events of each of the two sorts that are kept until somebody takes them; at least 1.
    pub event_capacity: usize,
    /// Whether an instance that fails to open is there all the same: down, and tried again, as one whose
    /// process failed later. What the plugin refuses is refused.
    pub retry_open: bool,
}

impl Default for InstanceOptions {
    /// One minute, five minutes, 1,024 events; what does not open is told.
    fn default() -> Self {
        Self {
            open_deadline: Duration::from_secs(60),
            call_deadline: Duration::from_secs(300),
            event_capacity: 1024,
            retry_open: false,
        }
    }
}

/// Whether an instance takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstanceState {
    /// It does.
    Up,
    /// Its process failed, and is started again in a while; the text says why and when.
    Down(String),
    /// It drains or is closed.
    Closed,
}

/// One open configuration. Cheap to clone; all clones are the same instance.
///
/// When the plugin's process fails, the instance stays: it is [`InstanceState::Down`] until
/// another process is open.
///
/// Dropping the last clone without a [`drain`](Instance::drain) drains in the background with
/// a deadline of five seconds.
#[derive(Debug, Clone)]
pub struct Instance {
    owner: Arc<Owner>,
}

/// Drains the instance when nobody has it any more.
struct Owner {
    shared: Arc<Shared>,
    runtime: Handle,
    events: Mutex<Option<Events>>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{} of {:?}", self.shared.number, self.shared.plugin())
    }
}

impl Instance {
    pub(crate) async fn open(
        plugin: &Plugin,
        config: Vec<u8>,
        options: InstanceOptions,
    ) -> Result<Self, OpenError> {
        let capacity = options.event_capacity.max(1);
        let (deliveries, deliveries_out) = mpsc::channel(capacity);
        let (told, telemetry) = mpsc::channel(capacity);
        let hub = Hub {
            deliveries,
            telemetry: told,
        };
        let spec = Arc::new(Spec {
            plugin: plugin.clone(),
            config,
        });
        let shared = Shared::open(spec, options, hub).await?;
        let (passed_on, telemetry_out) = mpsc::channel(capacity);
        let board = Arc::clone(plugin.board());
        tokio::spawn(log::forward(board, telemetry, passed_on));
        Ok(Instance {
            owner: Arc::new(Owner {
                shared,
                runtime: Handle::current(),
                events: Mutex::new(Some(Events {
                    deliveries: deliveries_out,
                    telemetry: telemetry_out,
                })),
            }),
        })
    }

    /// Sends a batch: exactly one outcome per message, in order, whatever the plugin does.
    ///
    /// An error means that nothing was handed over. Dropping the future does not stop the
    /// plugin: the messages may be sent, and nobody will know.
    pub async fn send(&self, request: SendRequest) -> Result<Vec<Outcome>, CallError> {
        let count = request.messages.len();
        self.check_batch(count)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        let reply = match self.call(ANK_OP_SEND, &request.encode_to_vec()).await {
            Ok(reply) => outcomes(&reply, count),
            Err(CallError::Lost(reason)) => Err(reason),
            Err(not_taken) => return Err(not_taken),
        };
        Ok(match reply {
            Ok(outcomes) => matched(outcomes, count),
            Err(reason) => vec![Outcome::ambiguous(reason); count],
        })
    }

    /// Asks what became of earlier messages: exactly one result per id, in order.
    pub async fn lookup(&self, request: LookupRequest) -> Result<Vec<LookupResult>, CallError> {
        let count = request.message_ids.len();
        self.check_batch(count)?;
        let reply = self.call(ANK_OP_LOOKUP, &request.encode_to_vec()).await?;
        let reply = match elements(&reply, &[1]) {
            None => return Err(unreadable()),
            Some(found) if found > count => LookupReply::default(),
            Some(_) => read(&reply)?,
        };
        let unknown = LookupResult {
            kind: Some(lookup_result::Kind::Outcome(Outcome::ambiguous(
                "the plugin did not say",
            ))),
        };
        let mut results = reply.results;
        results.resize(count, unknown.clone());
        for result in &mut results {
            result
                .kind
                .get_or_insert_with(|| unknown.kind.clone().expect("set above"));
        }
        Ok(results)
    }

    /// Has the plugin authenticate and translate an HTTP request of its provider.
    pub async fn callback(&self, request: CallbackRequest) -> Result<CallbackReply, CallError> {
        let reply = self.call(ANK_OP_CALLBACK, &request.encode_to_vec()).await?;
        match elements(&reply, &[2, 3]) {
            None => Err(unreadable()),
            Some(found) if found > MOST_EVENTS => {
                Err(CallError::Lost(format!("{found} events in one callback")))
            }
            Some(_) => read(&reply),
        }
    }

    /// Asks whether the channel can send; for at most half a minute.
    pub async fn health(&self) -> Result<HealthReply, CallError> {
        let deadline = HEALTH.min(self.owner.shared.options.call_deadline);
        let session = self.owner.shared.session()?;
        read(&session.call(ANK_OP_HEALTH, &[], deadline).await?)
    }

    /// Tells the plugin that these events are committed.
    pub async fn acknowledge(&self, event_ids: Vec<u64>) -> Result<(), CallError> {
        self.ask(ANK_OP_ACK_EVENTS, &AckEvents { event_ids }).await
    }

    /// The events of this instance; `None` but for the first time.
    pub fn events(&self) -> Option<Events> {
        let events = &self.owner.events;
        events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Any operation, as bytes. [`CallError::Lost`] alone means that it was handed over.
    pub async fn call(&self, op: u32, request: &[u8]) -> Result<Vec<u8>, CallError> {
        let shared = &self.owner.shared;
        let session = shared.session()?;
        let deadline = shared.options.call_deadline;
        session.call(op, request, deadline).await
    }

    /// Whether it takes calls at the moment.
    pub fn is_up(&self) -> bool {
        self.owner.shared.session().is_ok()
    }

    /// Whether it takes calls, and why not.
    pub fn state(&self) -> InstanceState {
        match self.owner.shared.session() {
            Ok(_) => InstanceState::Up,
            Err(CallError::Down(reason)) => InstanceState::Down(reason),
            Err(_) => InstanceState::Closed,
        }
    }

    /// What log lines call it.
    pub fn number(&self) -> u64 {
        self.owner.shared.number
    }

    /// How often the plugin failed, or did not open, and was tried again later.
    pub fn failures(&self) -> u64 {
        self.owner.shared.failures()
    }

    /// Whether the plugin failed too often, and is left alone for a while.
    pub fn is_left_alone(&self) -> bool {
        self.owner.shared.is_left_alone()
    }

    /// The id of the plugin's process, while it has one.
    pub fn process(&self) -> Option<u32> {
        let session = self.owner.shared.session().ok()?;
        session.process()
    }

    /// Goes on with another library or configuration: once that is open, it gets all further
    /// calls, and the one before gets until the deadline for those in flight. On an error all is
    /// as before.
    ///
    /// Events of both arrive in the same [`Events`]; those of the one before that are acknowledged
    /// later than that are not acknowledged to its peer, which repeats them.
    pub async fn replace(
        &self,
        plugin: &Plugin,
        config: &Value,
        deadline: Duration,
    ) -> Result<(), OpenError> {
        plugin.check_config(config).map_err(OpenError::Config)?;
        let spec = Arc::new(Spec {
            plugin: plugin.clone(),
            config: config.to_string().into_bytes(),
        });
        self.owner.shared.replace(spec, deadline).await
    }

    /// Ends the instance: no more calls are taken, those in flight get until the deadline,
    /// then it is closed. Calls that are left complete as lost, their messages as ambiguous.
    pub async fn drain(self, deadline: Duration) -> Result<(), DrainError> {
        let shared = Arc::clone(&self.owner.shared);
        // On its own, so that dropping this future does not leave it half done.
        let drained = tokio::spawn(async move { shared.drain(deadline).await });
        drained.await.unwrap_or(Err(DrainError::Unresponsive))
    }

    fn check_batch(&self, count: usize) -> Result<(), CallError> {
        let most = self.owner.shared.plugin().manifest().max_batch;
        if u32::try_from(count).is_ok_and(|count| count <= most) {
            return Ok(());
        }
        let reason = format!("{count} messages, but the plugin takes {most} at once");
        Err(CallError::Invalid(reason))
    }

    async fn ask<R: Message + Default>(
        &self,
        op: u32,
        request: &impl Message,
    ) -> Result<R, CallError> {
        read(&self.call(op, &request.encode_to_vec()).await?)
    }
}

fn unreadable() -> CallError {
    CallError::Lost("unreadable reply".to_owned())
}

fn read<R: Message + Default>(reply: &[u8]) -> Result<R, CallError> {
    R::decode(reply).map_err(|e| CallError::Lost(format!("unreadable reply: {e}")))
}

/// The outcomes of a reply, or why there are none. Which one is too many is unknown, so then all of them are
/// worth nothing.
fn outcomes(reply: &[u8], count: usize) -> Result<Vec<Outcome>, String> {
    match elements(reply, &[1]) {
        None => Err("unreadable reply".to_owned()),
        Some(found) if found > count => Err(format!("{found} outcomes for {count} messages")),
        Some(_) => SendReply::decode(reply)
            .map(|reply| reply.outcomes)
            .map_err(|e| format!("unreadable reply: {e}")),
    }
}

/// How many elements the lists of a reply have that are these fields; `None` when it cannot be read. Counted
/// before they are made: an empty one takes two bytes in a reply and a hundred in memory.
fn elements(mut reply: &[u8], lists: &[usize]) -> Option<usize> {
    let mut found = 0;
    while !reply.is_empty() {
        // A key is a number like a length; its last three bits say of what kind the value is.
        let key = prost::decode_length_delimiter(&mut reply).ok()?;
        let length = match key & 7 {
            0 => prost::decode_length_delimiter(&mut reply).map(|_| 0).ok()?,
            1 => 8,
            2 => prost::decode_length_delimiter(&mut reply).ok()?,
            5 => 4,
            _ => return None,
        };
        found += usize::from(lists.contains(&(key >> 3)));
        reply = reply.get(length..)?;
    }
    Some(found)
}

/// One outcome per message.
fn matched(mut outcomes: Vec<Outcome>, count: usize) -> Vec<Outcome> {
    outcomes.resize(count, Outcome { kind: None });
    for outcome in &mut outcomes {
        if outcome.kind.is_none() {
            *outcome = Outcome::ambiguous("the plugin gave no outcome");
        }
    }
    outcomes
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.shared.is_open() {
            let shared = Arc::clone(&self.shared);
            self.runtime
                .spawn(async move { shared.drain(DROPPED_DRAIN).await });
        }
    }
}

/// A fresh number for an instance.
pub(crate) fn number() -> u64 {
    board::next_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_as_they_would_be_read() {
        let reply = SendReply {
            outcomes: vec![Outcome::ambiguous("why"), Outcome { kind: None }],
        };
        let mut reply = reply.encode_to_vec();
        assert_eq!(elements(&reply, &[1]), Some(2));
        assert_eq!(outcomes(&reply, 2).map(|found| found.len()), Ok(2));
        assert_eq!(
            outcomes(&reply, 1),
            Err("2 outcomes for 1 messages".to_owned())
        );
        // Fields of later versions: a number, eight bytes, four bytes, a text.
        reply.extend([0x38, 0x96, 0x01, 0x41, 1, 2, 3, 4, 5, 6, 7, 8]);
        reply.extend([0x4d, 1, 2, 3, 4, 0x52, 2, b'a', b'b']);
        assert_eq!(elements(&reply, &[1]), Some(2));
        assert_eq!(outcomes(&reply, 2).map(|found| found.len()), Ok(2));
        // Millions of empty ones are not made, and neither is what breaks off.
        let many = [0x0a, 0].repeat(8 << 20);
        assert_eq!(elements(&many, &[1]), Some(8 << 20));
        assert!(outcomes(&many, 1_000).is_err());
        for torn in [&[0x0a][..], &[0x0a, 5, 0], &[0x0b], &[0xff; 11]] {
            assert_eq!(elements(torn, &[1]), None, "{torn:?}");
        }
        assert_eq!(elements(&[], &[1]), Some(0));
    }
}
