//! An open configuration of a plugin: calls, events and the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::{
    AckEvents, CallbackReply, CallbackRequest, CancelRequest, HealthReply, LookupReply,
    LookupRequest, LookupResult, Outcome, SendReply, SendRequest, lookup_result,
};
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::board::{self, Completion, Events, Expected, Switchboard};
use crate::library::Table;
use crate::raw::{self, Raw};
use crate::{CallError, DrainError, OpenError, Plugin, log};

/// What a plugin gets beyond the deadline of a drain to say that it is done.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// The drain of an instance that was dropped without one.
const DROPPED_DRAIN: Duration = Duration::from_secs(5);

/// How patient the host is with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstanceOptions {
    /// For opening.
    pub open_deadline: Duration,
    /// For a call, from handing it over to its completion. After that its messages are
    /// ambiguous and the plugin is asked to give it up.
    pub call_deadline: Duration,
    /// Events of each of the two sorts that are kept until somebody takes them; at least 1.
    pub event_capacity: usize,
}

impl Default for InstanceOptions {
    /// One minute, five minutes, 1,024 events.
    fn default() -> Self {
        Self {
            open_deadline: Duration::from_secs(60),
            call_deadline: Duration::from_secs(300),
            event_capacity: 1024,
        }
    }
}

/// One open configuration. Cheap to clone; all clones are the same instance.
///
/// Dropping the last clone without a [`drain`](Instance::drain) drains in the background with
/// a deadline of five seconds.
#[derive(Debug, Clone)]
pub struct Instance {
    owner: Arc<Owner>,
}

/// Drains the instance when nobody has it any more.
struct Owner {
    core: Arc<Core>,
    runtime: Handle,
    events: Mutex<Option<Events>>,
}

struct Core {
    plugin: Plugin,
    board: &'static Switchboard,
    inst_id: u64,
    raw: Raw,
    draining: AtomicBool,
    options: InstanceOptions,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{} of {:?}", self.core.inst_id, self.core.plugin)
    }
}

pub(crate) async fn open(
    plugin: &Plugin,
    table: Table,
    config: Vec<u8>,
    options: InstanceOptions,
) -> Result<Instance, OpenError> {
    let (sender, receiver) = oneshot::channel();
    let plugin = plugin.clone();
    // On its own, so that an instance which opens after we gave up is dropped, and so drained.
    tokio::spawn(async move {
        let _ = sender.send(open_patiently(plugin, table, config, options).await);
    });
    match timeout(options.open_deadline, receiver).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(_)) => Err(OpenError::Failed("the runtime shuts down".to_owned())),
        Err(_) => Err(OpenError::Timeout(options.open_deadline)),
    }
}

async fn open_patiently(
    plugin: Plugin,
    table: Table,
    config: Vec<u8>,
    options: InstanceOptions,
) -> Result<Instance, OpenError> {
    let (board, inst_id) = (plugin.board(), board::next_id());
    let mut opening = board.expect(inst_id);
    let mut events = board.connect(inst_id, options.event_capacity.max(1));
    let pointer = raw::open(&table, board, inst_id, opening.call_id, &config);
    drop(config);
    let completion = match pointer {
        Ok(_) => opening.completion().await,
        Err(_) => None,
    };
    let pointer = match (pointer, completion) {
        (Ok(pointer), Some(Completion { status: ANK_OK, .. })) => pointer,
        (Ok(_), Some(completion)) => {
            board.disconnect(inst_id);
            let reason = String::from_utf8_lossy(&completion.reply).into_owned();
            return Err(match completion.status {
                ANK_INVALID => OpenError::Refused(reason),
                _ => OpenError::Failed(reason),
            });
        }
        (Ok(_), None) => unreachable!("nobody else disconnects an instance that is opening"),
        (Err(status), _) => {
            board.disconnect(inst_id);
            return Err(OpenError::Failed(format!("status {status}")));
        }
    };
    let (telemetry, out) = mpsc::channel(options.event_capacity.max(1));
    let told = std::mem::replace(&mut events.telemetry, out);
    tokio::spawn(log::forward(board, told, telemetry));
    Ok(Instance {
        owner: Arc::new(Owner {
            core: Arc::new(Core {
                plugin,
                board,
                inst_id,
                raw: Raw::new(table, pointer),
                draining: AtomicBool::new(false),
                options,
            }),
            runtime: Handle::current(),
            events: Mutex::new(Some(events)),
        }),
    })
}

impl Instance {
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
            Ok(reply) => SendReply::decode(&*reply).map_err(|e| format!("unreadable reply: {e}")),
            Err(CallError::Lost(reason)) => Err(reason),
            Err(not_taken) => return Err(not_taken),
        };
        Ok(match reply {
            Ok(reply) => matched(reply.outcomes, count),
            Err(reason) => vec![Outcome::ambiguous(reason); count],
        })
    }

    /// Asks what became of earlier messages: exactly one result per id, in order.
    pub async fn lookup(&self, request: LookupRequest) -> Result<Vec<LookupResult>, CallError> {
        let count = request.message_ids.len();
        self.check_batch(count)?;
        let reply: LookupReply = self.ask(ANK_OP_LOOKUP, &request).await?;
        let unknown = LookupResult {
            kind: Some(lookup_result::Kind::Outcome(Outcome::ambiguous(
                "the plugin did not say",
            ))),
        };
        let mut results = reply.results;
        if results.len() > count {
            results.clear();
        }
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
        self.ask(ANK_OP_CALLBACK, &request).await
    }

    /// Asks whether the channel can send.
    pub async fn health(&self) -> Result<HealthReply, CallError> {
        self.ask(ANK_OP_HEALTH, &()).await
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
        let core = &self.owner.core;
        let mut call = core.board.expect(core.inst_id);
        match core.raw.call(op, call.call_id, request) {
            ANK_OK => core.answer(&mut call).await,
            status => {
                core.board.forget(call.call_id);
                Err(match status {
                    ANK_BUSY => CallError::Busy,
                    ANK_CLOSED => CallError::Closed,
                    ANK_INVALID => CallError::Invalid("the plugin cannot read it".to_owned()),
                    ANK_UNSUPPORTED => CallError::Unsupported,
                    // It may have failed at any point.
                    status => CallError::Lost(format!("the plugin failed with status {status}")),
                })
            }
        }
    }

    /// Ends the instance: no more calls are taken, those in flight get until the deadline,
    /// then it is closed. Calls that are left complete as lost, their messages as ambiguous.
    pub async fn drain(self, deadline: Duration) -> Result<(), DrainError> {
        let core = Arc::clone(&self.owner.core);
        // On its own, so that dropping this future does not leave it half done.
        let drained = tokio::spawn(async move { core.drain(deadline).await });
        drained.await.unwrap_or(Err(DrainError::Unresponsive))
    }

    fn check_batch(&self, count: usize) -> Result<(), CallError> {
        let most = self.owner.core.plugin.manifest().max_batch;
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
        let reply = self.call(op, &request.encode_to_vec()).await?;
        R::decode(&*reply).map_err(|e| CallError::Lost(format!("unreadable reply: {e}")))
    }
}

/// One outcome per message.
fn matched(mut outcomes: Vec<Outcome>, count: usize) -> Vec<Outcome> {
    if outcomes.len() > count {
        // Which one is too many is unknown, so all of them are worth nothing.
        let reason = format!("{} outcomes for {count} messages", outcomes.len());
        return vec![Outcome::ambiguous(reason); count];
    }
    outcomes.resize(count, Outcome { kind: None });
    for outcome in &mut outcomes {
        if outcome.kind.is_none() {
            *outcome = Outcome::ambiguous("the plugin gave no outcome");
        }
    }
    outcomes
}

impl Core {
    /// Waits for the completion of an accepted call.
    async fn answer(&self, call: &mut Expected) -> Result<Vec<u8>, CallError> {
        let deadline = self.options.call_deadline;
        match timeout(deadline, call.completion()).await {
            Ok(Some(Completion {
                status: ANK_OK,
                reply,
            })) => Ok(reply),
            Ok(Some(failed)) => Err(CallError::Lost(failed.reason())),
            Ok(None) => Err(CallError::Lost("the instance was closed".to_owned())),
            Err(_) => {
                call.give_up();
                self.cancel(call.call_id);
                let reason = format!("no completion within {deadline:?}");
                Err(CallError::Lost(reason))
            }
        }
    }

    /// Asks the plugin to drop a call, which else would keep its place for ever.
    fn cancel(&self, call_id: u64) {
        let request = CancelRequest { call_id }.encode_to_vec();
        let cancel_id = self.board.expect_unattended(self.inst_id);
        if self.raw.call(ANK_OP_CANCEL, cancel_id, &request) != ANK_OK {
            self.board.forget(cancel_id);
        }
    }

    async fn drain(&self, deadline: Duration) -> Result<(), DrainError> {
        if self.draining.swap(true, Ordering::Relaxed) {
            return Err(DrainError::Drained);
        }
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.board.expect(self.inst_id);
        let completed = match self.raw.drain(call.call_id, deadline_ms) {
            ANK_OK => {
                let patience = deadline.saturating_add(DRAIN_GRACE);
                let completion = timeout(patience, call.completion()).await;
                matches!(completion, Ok(Some(_)))
            }
            _ => false,
        };
        if completed {
            self.raw.close();
        } else {
            // Closing could pull memory from under the calls that it still works on.
            self.raw.shut();
            tracing::error!(
                plugin = self.plugin.manifest().id,
                instance = self.inst_id,
                "the plugin did not complete its drain; the instance is abandoned"
            );
        }
        self.board.disconnect(self.inst_id);
        completed.then_some(()).ok_or(DrainError::Unresponsive)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.core.draining.load(Ordering::Relaxed) {
            let core = Arc::clone(&self.core);
            self.runtime
                .spawn(async move { core.drain(DROPPED_DRAIN).await });
        }
    }
}
