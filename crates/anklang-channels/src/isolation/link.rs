//! The host's end of a plugin's process: calls go out, answers and events come in, and what hangs
//! or talks nonsense is killed.
//!
//! A frame is written by whoever has it as far as the socket takes it, the rest by a task: so it
//! is known of each call whether the process can have it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::process::ChildStderr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::frame::{self, End, Garbage, HEADER, Header, Kind, LARGEST_REQUEST};
use super::spawn::{Process, described};
use crate::CallError;
use crate::board::{Answer, Counters, Hub, PluginEvent, Switchboard, Telemetry, must_arrive};
use crate::table::Callbacks;

/// Calls that may wait for a process that does not read; beyond it the plugin is busy.
const MOST_WAITING: usize = 128;
/// For reading what a process said before it ended, should something that it started keep the
/// socket open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// After a host was stopped for a while, what came meanwhile has to be read first.
const SECOND_CHANCE: Duration = Duration::from_secs(2);
/// A sign of life is asked for so often within the time after which a process counts as hanging.
const PINGS: u32 = 6;
/// The operation of [`ANK_OP_ACK_EVENTS`] as a frame's code.
const ACKNOWLEDGE: i32 = 6;

/// See the module's documentation.
pub(crate) struct Link {
    board: Arc<Switchboard>,
    inst_id: u64,
    /// The process.
    pub(crate) pid: u32,
    hang: Duration,
    write: OwnedWriteHalf,
    outgoing: Mutex<Outgoing>,
    more: Notify,
    kill: watch::Sender<Option<String>>,
    ended: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Outgoing {
    rest: VecDeque<Rest>,
    /// Why nothing goes out any more.
    ended: Option<String>,
}

/// What of a frame the socket did not take yet.
struct Rest {
    call_id: Option<u64>,
    bytes: Vec<u8>,
    written: usize,
}

/// What comes with a process.
pub(crate) struct Started {
    pub(crate) process: Process,
    pub(crate) socket: std::os::unix::net::UnixStream,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) plugin: String,
}

impl Link {
    /// Takes a process over. Must be called on a runtime.
    pub(crate) fn start(
        board: Arc<Switchboard>,
        inst_id: u64,
        started: Started,
        hub: Hub,
        hang: Duration,
    ) -> io::Result<Arc<Self>> {
        let Started {
            process,
            socket,
            stderr,
            plugin,
        } = started;
        socket.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(socket)?.into_split();
        let link = Arc::new(Self {
            board,
            inst_id,
            pid: process.id(),
            hang,
            write,
            outgoing: Mutex::default(),
            more: Notify::new(),
            kill: watch::Sender::new(None),
            ended: watch::Sender::new(None),
        });
        let granted = Arc::new(Mutex::new(VecDeque::new()));
        let incoming = Incoming {
            link: Arc::clone(&link),
            read: BufReader::with_capacity(64 << 10, read),
            telemetry: hub.telemetry,
            granted: Arc::clone(&granted),
            counted: Counters::default(),
        };
        let mut helpers = JoinSet::new();
        helpers.spawn(Arc::clone(&link).write_rest());
        helpers.spawn(grant(Arc::clone(&link), hub.deliveries, granted));
        if let Some(stderr) = stderr {
            helpers.spawn(listen(plugin, stderr));
        }
        tokio::spawn(run(Arc::clone(&link), process, incoming, helpers));
        Ok(link)
    }

    /// Makes a call. An error says that the process does not get it.
    pub(crate) fn call(&self, op: u32, call_id: u64, request: &[u8]) -> Result<(), CallError> {
        let code = i32::from_ne_bytes(op.to_ne_bytes());
        self.send(Kind::Call, code, call_id, request)
    }

    /// Sends what will be answered under this id.
    pub(crate) fn send(
        &self,
        kind: Kind,
        code: i32,
        call_id: u64,
        payload: &[u8],
    ) -> Result<(), CallError> {
        let len = payload.len();
        if len > LARGEST_REQUEST {
            let reason = format!("{len} bytes, more than {LARGEST_REQUEST}");
            return Err(CallError::Invalid(reason));
        }
        self.put(kind, code, Some(call_id), payload)
    }

    /// Says something that is not answered.
    pub(crate) fn tell(&self, kind: Kind, code: i32) {
        // An error says that it is too late for it.
        let _ = self.put(kind, code, None, &[]);
    }

    fn put(
        &self,
        kind: Kind,
        code: i32,
        call_id: Option<u64>,
        payload: &[u8],
    ) -> Result<(), CallError> {
        let header = Header {
            kind,
            code,
            id: call_id.unwrap_or_default(),
            len: payload.len(),
        };
        let (header, mut outgoing) = (header.encode(), self.outgoing());
        if let Some(reason) = &outgoing.ended {
            return Err(CallError::Down(reason.clone()));
        }
        if kind == Kind::Call && outgoing.rest.len() >= MOST_WAITING {
            return Err(CallError::Busy);
        }
        let written = match outgoing.rest.is_empty() {
            // An error is the process's end, which its reader finds out.
            true => self
                .write
                .try_write_vectored(&[IoSlice::new(&header), IoSlice::new(payload)])
                .unwrap_or(0),
            false => 0,
        };
        if written < HEADER + payload.len() {
            outgoing.rest.push_back(Rest {
                call_id,
                bytes: [&header, payload].concat(),
                written,
            });
            self.more.notify_one();
        }
        Ok(())
    }

    async fn write_rest(self: Arc<Self>) {
        loop {
            self.more.notified().await;
            while self.write.writable().await.is_ok() {
                let mut outgoing = self.outgoing();
                let Some(rest) = outgoing.rest.front_mut() else {
                    break;
                };
                match self.write.try_write(&rest.bytes[rest.written..]) {
                    Ok(count) => {
                        rest.written += count;
                        if rest.written == rest.bytes.len() {
                            outgoing.rest.pop_front();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        }
    }

    /// Ends the process for this reason.
    pub(crate) fn kill(&self, reason: &str) {
        self.kill.send_if_modified(|why| {
            let first = why.is_none();
            if first {
                *why = Some(reason.to_owned());
            }
            first
        });
    }

    /// Waits until the process is gone, and says why it is.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.subscribe();
        let found = ended.wait_for(Option::is_some).await;
        found.map_or_else(|_| String::new(), |why| why.clone().unwrap_or_default())
    }

    /// Why the process is gone, if it is.
    pub(crate) fn is_over(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Asks for signs of life until there is none: of the thread that takes calls, and of the
    /// plugin behind it while it has some.
    pub(crate) async fn watch(self: Arc<Self>) {
        let hang = self.hang;
        while self.is_over().is_none() {
            sleep(hang / PINGS).await;
            if !self.answers(Kind::Ping, 0).await {
                self.kill(&format!("it gave no sign of life within {hang:?}"));
            }
            // It is told that no events are committed, which costs nothing. Its health may depend
            // on others.
            let busy = self.board.open_calls(self.inst_id) > 0;
            if busy && !self.answers(Kind::Call, ACKNOWLEDGE).await {
                self.kill(&format!(
                    "it has calls, and does not answer within {hang:?}"
                ));
            }
        }
    }

    /// Whether something is answered in time, whatever the answer.
    async fn answers(&self, kind: Kind, code: i32) -> bool {
        let mut call = self.board.expect(self.inst_id);
        if self.put(kind, code, Some(call.call_id), &[]).is_err() {
            // The process is over, or has so many calls that it is busy.
            self.board.forget(call.call_id);
            return true;
        }
        timeout(self.hang, call.answer()).await.is_ok()
            || timeout(SECOND_CHANCE, call.answer()).await.is_ok()
    }

    /// A call was given up and the plugin asked to drop it: if it does not, it hangs.
    pub(crate) async fn suspect(self: Arc<Self>, call_id: u64) {
        sleep(self.hang).await;
        if self.board.is_open(call_id) {
            self.kill("a call took too long, and it does not give it up");
        }
    }

    fn end(&self, reason: &str) {
        let rest = {
            let mut outgoing = self.outgoing();
            outgoing.ended = Some(reason.to_owned());
            std::mem::take(&mut outgoing.rest)
        };
        for call_id in rest.into_iter().filter_map(|rest| rest.call_id) {
            let unsent = Answer::Unsent(reason.to_owned());
            self.board.not_made(call_id, unsent);
        }
        self.board.disconnect(self.inst_id, reason);
        self.ended.send_replace(Some(reason.to_owned()));
    }

    fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        // No code that can panic runs under the lock.
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as the process.
async fn run(link: Arc<Link>, mut process: Process, incoming: Incoming, helpers: JoinSet<()>) {
    let mut asked = link.kill.subscribe();
    let mut reading = std::pin::pin!(incoming.read_all());
    let mut why = None;
    let mut garbage = None;
    tokio::select! {
        said = &mut reading => garbage = Some(said),
        _ = process.exited() => {}
        asked = asked.wait_for(Option::is_some) => {
            why = asked.ok().and_then(|why| why.clone());
            process.kill();
        }
    }
    let garbage = match garbage {
        Some(said) => said,
        // What it said before its end is in the socket, and counts.
        None => timeout(LAST_WORDS, reading).await.unwrap_or(None),
    };
    drop(helpers);
    // It may be about to end by itself, which says more than a kill.
    let patience = match garbage {
        Some(_) => Duration::ZERO,
        None => LAST_WORDS,
    };
    if timeout(patience, process.exited()).await.is_err() {
        process.kill();
        why.get_or_insert_with(|| "it closed its connection".to_owned());
    }
    let ended = process.exited().await.map(described);
    let ended = ended.unwrap_or_else(|error| error.to_string());
    let garbage = garbage.map(|garbage| garbage.to_string());
    link.end(&garbage.or(why).unwrap_or(ended));
}

type Granted = Arc<Mutex<VecDeque<mpsc::OwnedPermit<PluginEvent>>>>;

fn granted(granted: &Granted) -> MutexGuard<'_, VecDeque<mpsc::OwnedPermit<PluginEvent>>> {
    granted.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets as many events come as there is room for.
async fn grant(link: Arc<Link>, room: mpsc::Sender<PluginEvent>, permits: Granted) {
    while let Ok(first) = room.clone().reserve_owned().await {
        let mut count = 1;
        granted(&permits).push_back(first);
        while let Ok(further) = room.clone().try_reserve_owned() {
            granted(&permits).push_back(further);
            count += 1;
        }
        link.tell(Kind::Credit, count);
    }
    link.tell(Kind::Credit, frame::NO_MORE_EVENTS);
}

/// What the process says.
struct Incoming {
    link: Arc<Link>,
    read: BufReader<OwnedReadHalf>,
    telemetry: mpsc::Sender<Telemetry>,
    granted: Granted,
    counted: Counters,
}

impl Incoming {
    /// Reads until the end of the stream, or until it makes no sense.
    async fn read_all(mut self) -> Option<Garbage> {
        loop {
            match self.read_one().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(garbage) => return Some(garbage),
            }
        }
    }

    /// `false` at the end.
    async fn read_one(&mut self) -> Result<bool, Garbage> {
        let mut header = [0; HEADER];
        if self.read.read_exact(&mut header).await.is_err() {
            return Ok(false);
        }
        let header = Header::decode(&header, End::Host)?;
        // Grows with what comes, not with what was promised.
        let mut payload = Vec::new();
        let limit = u64::try_from(header.len).expect("bounded");
        let mut bytes = (&mut self.read).take(limit);
        match bytes.read_to_end(&mut payload).await {
            Ok(read) if read == header.len => self.take(header, &payload).map(|()| true),
            _ => Ok(false),
        }
    }

    fn take(&mut self, header: Header, payload: &[u8]) -> Result<(), Garbage> {
        let board = &self.link.board;
        match header.kind {
            Kind::Completed => board.completed(header.id, header.code, payload),
            Kind::Refused => board.not_made(header.id, Answer::NotTaken(header.code)),
            Kind::Event => return self.happened(header.code, payload),
            Kind::Counters => return self.count(payload),
            other => return Err(Garbage(format!("{other:?} from the plugin"))),
        }
        Ok(())
    }

    fn happened(&self, code: i32, payload: &[u8]) -> Result<(), Garbage> {
        let unreadable = |status| Garbage(format!("an event of kind {code}: status {status}"));
        let kind = u32::from_ne_bytes(code.to_ne_bytes());
        if must_arrive(kind) {
            let event = PluginEvent::read(kind, payload).map_err(unreadable)?;
            let permit = granted(&self.granted).pop_front();
            let permit = permit.ok_or_else(|| Garbage("more events than allowed".to_owned()))?;
            permit.send(event);
        } else if self.telemetry.capacity() == 0 {
            self.link.board.dropped_telemetry();
        } else {
            let telemetry = Telemetry::read(kind, payload).map_err(unreadable)?;
            if self.telemetry.try_send(telemetry).is_err() {
                self.link.board.dropped_telemetry();
            }
        }
        Ok(())
    }

    /// The process sends sums; the board counts for all processes of a plugin.
    fn count(&mut self, payload: &[u8]) -> Result<(), Garbage> {
        let words: [u8; 24] = payload
            .try_into()
            .map_err(|_| Garbage(format!("counters of {} bytes", payload.len())))?;
        let word = |at: usize| {
            let eight = words[at * 8..][..8].try_into().expect("eight bytes");
            u64::from_le_bytes(eight)
        };
        let (board, before) = (&self.link.board, self.counted);
        let now = Counters {
            stray_completions: word(0),
            dropped_telemetry: word(1),
            refused_events: word(2),
            late_completions: 0,
        };
        let more = |now: u64, before: u64| now.saturating_sub(before);
        let counts = &board.counts;
        let stray = more(now.stray_completions, before.stray_completions);
        counts.stray.fetch_add(stray, Relaxed);
        let dropped = more(now.dropped_telemetry, before.dropped_telemetry);
        counts.dropped.fetch_add(dropped, Relaxed);
        let refused = more(now.refused_events, before.refused_events);
        counts.refused.fetch_add(refused, Relaxed);
        self.counted = now;
        Ok(())
    }
}

/// Passes on what a plugin writes to its standard error, for who debugs one: it may say anything,
/// so it is no log of ours. Slowly, so that one that never stops waits and we do not.
async fn listen(plugin: String, stderr: ChildStderr) {
    const PAUSE: Duration = Duration::from_millis(20);
    let Ok(mut stderr) = tokio::net::unix::pipe::Receiver::from_owned_fd(stderr.into()) else {
        return;
    };
    let mut bytes = [0; 2_000];
    while let Ok(count @ 1..) = stderr.read(&mut bytes).await {
        let text = String::from_utf8_lossy(&bytes[..count]);
        tracing::debug!(plugin, "standard error: {}", text.trim_end());
        sleep(PAUSE).await;
    }
}
