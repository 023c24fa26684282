//! One open instance of one copy of a plugin, in this process or in one of its own: the calls are
//! the same, what can go wrong is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::CancelRequest;
use prost::Message;
use tokio::time::timeout;

use crate::board::{self, Answer, Completion, Expected, Hub, Switchboard};
use crate::isolation::frame::{INIT_FAILED, Kind};
use crate::isolation::link::{Link, Started};
use crate::isolation::spawn;
use crate::plugin::Place;
use crate::raw::{self, Raw};
use crate::{CallError, InstanceOptions, OpenError, Plugin};

/// What a plugin gets beyond the deadline of a drain to say that it is done.
const DRAIN_GRACE: Duration = Duration::from_secs(2);
/// For closing, and for its process to end by itself.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// See the module's documentation.
pub(crate) struct Session {
    board: Arc<Switchboard>,
    inst_id: u64,
    options: InstanceOptions,
    how: How,
}

enum How {
    Here(Raw),
    Process(Arc<Link>),
}

impl Session {
    /// Opens one, with a configuration that is checked already.
    pub(crate) async fn open(
        plugin: &Plugin,
        config: &[u8],
        options: InstanceOptions,
        hub: Hub,
    ) -> Result<Self, OpenError> {
        let (board, inst_id) = (Arc::clone(plugin.board()), board::next_id());
        let how = match plugin.place() {
            Place::Here(here) => {
                let table = here.table().map_err(OpenError::Init)?;
                board.connect(inst_id, hub);
                let opened = open_here(&board, inst_id, table, here.host, config).await;
                How::Here(opened.inspect_err(|_| board.disconnect(inst_id, "it did not open"))?)
            }
            Place::Process => {
                let opening = open_process(plugin, &board, inst_id, config, hub);
                let timed = timeout(options.open_deadline, opening).await;
                How::Process(timed.map_err(|_| OpenError::Timeout(options.open_deadline))??)
            }
        };
        Ok(Self {
            board,
            inst_id,
            options,
            how,
        })
    }

    /// Calls the plugin and waits for its answer. [`CallError::Lost`] alone means that it may
    /// have the call.
    pub(crate) async fn call(
        &self,
        op: u32,
        request: &[u8],
        deadline: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let mut call = self.board.expect(self.inst_id);
        let made = match &self.how {
            How::Here(raw) => match raw.call(op, call.call_id, request) {
                ANK_OK => Ok(()),
                status => Err(not_taken(status)),
            },
            How::Process(link) => link.call(op, call.call_id, request),
        };
        if let Err(refused) = made {
            self.board.forget(call.call_id);
            return Err(refused);
        }
        match timeout(deadline, call.answer()).await {
            Ok(answer) => read_answer(answer),
            Err(_) => {
                call.give_up();
                self.cancel(call.call_id);
                if let How::Process(link) = &self.how
                    && deadline >= self.options.call_deadline
                {
                    tokio::spawn(Arc::clone(link).suspect(call.call_id));
                }
                let reason = format!("no completion within {deadline:?}");
                Err(CallError::Lost(reason))
            }
        }
    }

    /// Asks the plugin to drop a call, which else would keep its place for ever.
    fn cancel(&self, call_id: u64) {
        let request = CancelRequest { call_id }.encode_to_vec();
        let cancel_id = self.board.expect_unattended(self.inst_id);
        let taken = match &self.how {
            How::Here(raw) => raw.call(ANK_OP_CANCEL, cancel_id, &request) == ANK_OK,
            How::Process(link) => link.call(ANK_OP_CANCEL, cancel_id, &request).is_ok(),
        };
        if !taken {
            self.board.forget(cancel_id);
        }
    }

    /// Lets the calls in flight end until the deadline and closes. `false` if the plugin did not
    /// say that it is done; then it is left as it is and never called again, or killed.
    pub(crate) async fn drain(&self, deadline: Duration) -> bool {
        let answer = self.finish(deadline).await;
        let completed = matches!(answer, Some(Answer::Completed(_)));
        self.close(completed).await;
        self.board
            .disconnect(self.inst_id, "the instance was closed");
        completed
    }

    /// Drains without closing; `None` if the plugin says nothing.
    pub(crate) async fn finish(&self, deadline: Duration) -> Option<Answer> {
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let mut call = self.board.expect(self.inst_id);
        let refused = match &self.how {
            How::Here(raw) => match raw.drain(call.call_id, deadline_ms) {
                ANK_OK => None,
                status => Some(Answer::NotTaken(status)),
            },
            How::Process(link) => {
                let deadline = deadline_ms.to_le_bytes();
                let sent = link.send(Kind::Drain, 0, call.call_id, &deadline);
                sent.err().map(|error| Answer::Unsent(error.to_string()))
            }
        };
        if refused.is_some() {
            self.board.forget(call.call_id);
            return refused;
        }
        let patience = deadline.saturating_add(DRAIN_GRACE);
        timeout(patience, call.answer()).await.ok()
    }

    /// Calls that the plugin has and has not completed, once all that were made got there.
    pub(crate) async fn in_flight(&self) -> Option<usize> {
        if let How::Process(link) = &self.how {
            let mut ping = self.board.expect(self.inst_id);
            link.send(Kind::Ping, 0, ping.call_id, &[]).ok()?;
            let answered = timeout(self.options.call_deadline, ping.answer()).await;
            answered.ok()?;
        }
        Some(self.board.open_calls(self.inst_id))
    }

    /// Closes what was drained, or gives it up.
    pub(crate) async fn close(&self, drained: bool) {
        match &self.how {
            How::Here(raw) if drained => raw.close(),
            // Closing could pull memory from under the calls that it still works on.
            How::Here(raw) => {
                raw.shut();
            }
            How::Process(link) => {
                let until = Instant::now() + CLOSE_GRACE;
                if drained {
                    link.tell(Kind::Close, 0);
                    let left = until.saturating_duration_since(Instant::now());
                    if timeout(left, link.ended()).await.is_ok() {
                        return;
                    }
                }
                link.kill("it did not end with its drain");
                link.ended().await;
            }
        }
    }

    /// Waits for the end of the plugin's process, and says how it came. One in this process ends
    /// with it.
    pub(crate) async fn ended(&self) -> String {
        match &self.how {
            How::Here(_) => std::future::pending().await,
            How::Process(link) => link.ended().await,
        }
    }

    /// Why it has ended, if it has.
    pub(crate) fn is_over(&self) -> Option<String> {
        match &self.how {
            How::Here(_) => None,
            How::Process(link) => link.is_over(),
        }
    }

    /// Whether it may end by itself.
    pub(crate) fn may_end(&self) -> bool {
        matches!(self.how, How::Process(_))
    }

    /// Its process, if it has one.
    pub(crate) fn process(&self) -> Option<u32> {
        match &self.how {
            How::Here(_) => None,
            How::Process(link) => Some(link.pid),
        }
    }
}

fn not_taken(status: AnkStatus) -> CallError {
    match status {
        ANK_BUSY => CallError::Busy,
        ANK_CLOSED => CallError::Closed,
        ANK_INVALID => CallError::Invalid("the plugin cannot read it".to_owned()),
        ANK_UNSUPPORTED => CallError::Unsupported,
        // It may have failed at any point.
        status => CallError::Lost(format!("the plugin failed with status {status}")),
    }
}

fn read_answer(answer: Answer) -> Result<Vec<u8>, CallError> {
    match answer {
        Answer::Completed(Completion {
            status: ANK_OK,
            reply,
        }) => Ok(reply),
        Answer::Completed(failed) => Err(CallError::Lost(failed.reason())),
        Answer::NotTaken(status) => Err(not_taken(status)),
        Answer::Unsent(reason) => Err(CallError::Down(reason)),
        Answer::Lost(reason) => Err(CallError::Lost(reason)),
    }
}

/// Waits for an instance to be there.
async fn opened(opening: &mut Expected) -> Result<(), OpenError> {
    match opening.answer().await {
        Answer::Completed(Completion { status: ANK_OK, .. }) => Ok(()),
        Answer::Completed(failed) => {
            let reason = String::from_utf8_lossy(&failed.reply).into_owned();
            Err(match failed.status {
                ANK_INVALID => OpenError::Refused(reason),
                INIT_FAILED => OpenError::Init(reason),
                _ => OpenError::Failed(reason),
            })
        }
        Answer::NotTaken(status) => Err(OpenError::Failed(format!("status {status}"))),
        Answer::Unsent(reason) | Answer::Lost(reason) => Err(OpenError::Failed(reason)),
    }
}

async fn open_here(
    board: &Arc<Switchboard>,
    inst_id: u64,
    table: crate::library::Table,
    host: &'static AnkHost,
    config: &[u8],
) -> Result<Raw, OpenError> {
    let mut opening = board.expect(inst_id);
    let call_id = opening.call_id;
    match raw::open(&table, host, inst_id, call_id, config) {
        Ok(pointer) => opened(&mut opening)
            .await
            .map(|()| Raw::new(table, pointer)),
        Err(status) => {
            board.forget(call_id);
            Err(OpenError::Failed(format!("status {status}")))
        }
    }
}

async fn open_process(
    plugin: &Plugin,
    board: &Arc<Switchboard>,
    inst_id: u64,
    config: &[u8],
    hub: Hub,
) -> Result<Arc<Link>, OpenError> {
    let link = start_process(plugin, board, inst_id, hub)?;
    // Given up or failed, the process goes.
    let guard = KillOnDrop(Some(Arc::clone(&link)));
    load(plugin, board, inst_id, &link).await?;
    ask(board, inst_id, &link, (Kind::Open, 0), config).await?;
    guard.keep();
    tokio::spawn(Arc::clone(&link).watch());
    Ok(link)
}

/// Runs a check of the conformance suite in a process made for it.
pub(crate) async fn check_in_process(
    plugin: &Plugin,
    which: i32,
    hub: Hub,
    patience: Duration,
) -> Result<(), OpenError> {
    let (board, inst_id) = (plugin.board(), board::next_id());
    let link = start_process(plugin, board, inst_id, hub)?;
    let _guard = KillOnDrop(Some(Arc::clone(&link)));
    let checked = async {
        load(plugin, board, inst_id, &link).await?;
        ask(board, inst_id, &link, (Kind::Check, which), &[]).await
    };
    let checked = timeout(patience, checked).await;
    checked.unwrap_or(Err(OpenError::Timeout(patience)))
}

fn start_process(
    plugin: &Plugin,
    board: &Arc<Switchboard>,
    inst_id: u64,
    hub: Hub,
) -> Result<Arc<Link>, OpenError> {
    let hosting = plugin.hosting();
    let failed = |error: std::io::Error| OpenError::Failed(error.to_string());
    let (process, socket, stderr) =
        spawn::start(&hosting.program, plugin.image(), &hosting.process).map_err(failed)?;
    let started = Started {
        process,
        socket,
        stderr,
        plugin: plugin.manifest().id.clone(),
    };
    let hang = hosting.process.hang();
    Link::start(Arc::clone(board), inst_id, started, hub, hang).map_err(failed)
}

async fn load(
    plugin: &Plugin,
    board: &Arc<Switchboard>,
    inst_id: u64,
    link: &Link,
) -> Result<(), OpenError> {
    let limits = serde_json::to_vec(&plugin.hosting().process).expect("plain values");
    ask(board, inst_id, link, (Kind::Load, 0), &limits).await
}

/// Asks a process for something of which only success or failure is of interest.
async fn ask(
    board: &Arc<Switchboard>,
    inst_id: u64,
    link: &Link,
    (kind, code): (Kind, i32),
    payload: &[u8],
) -> Result<(), OpenError> {
    let mut call = board.expect(inst_id);
    if let Err(error) = link.send(kind, code, call.call_id, payload) {
        board.forget(call.call_id);
        return Err(OpenError::Failed(error.to_string()));
    }
    opened(&mut call).await
}

/// Kills the process of a link unless it is kept.
struct KillOnDrop(Option<Arc<Link>>);

impl KillOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(link) = self.0.take() {
            link.kill("it did not open");
        }
    }
}
