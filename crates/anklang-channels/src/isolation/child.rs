//! The process of a plugin: loads the library and does what the host's frames say.
//!
//! One thread reads frames and calls the plugin, which has to return promptly: while it does not,
//! the host gets no sign of life and kills the process in the end.
#![expect(
    unsafe_code,
    reason = "leaves the process without running foreign destructors"
)]

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anklang_plugin_abi::*;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::frame::{self, End, INIT_FAILED, INSTANCE, Kind, LARGEST_REPLY};
use super::outbox::Outbox;
use crate::board::{Counters, Counts, PluginEvent, Telemetry, must_arrive};
use crate::hosting::ProcessOptions;
use crate::library::{self, Loaded};
use crate::raw::{self, Raw};
use crate::table::{Callbacks, host_table};
use crate::verify::sizes;

/// What does not count as memory of the plugin, but as addresses: code, and what allocators and
/// language runtimes reserve without using it.
const ADDRESSES: u64 = 8 << 30;
/// For saying the last words.
const FLUSH: Duration = Duration::from_secs(1);
/// Something is wrong between host and process (EX_SOFTWARE of sysexits.h).
const EXIT_SOFTWARE: i32 = 70;

/// The program of a plugin's process. Has to be called before anything else, by a process that
/// the host started; anywhere else it says so and ends with code 70.
pub fn plugin_host() -> ! {
    let code = match serve() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("plugin-host: {error}: only the server starts this, for its plugins");
            EXIT_SOFTWARE
        }
    };
    // SAFETY: takes a number and does not return. Destructors of the library could hang or crash,
    // so they are left out; nothing of ours is left to be written.
    unsafe { libc::_exit(code) }
}

fn serve() -> io::Result<()> {
    let (socket, library) = inherited()?;
    let mut input = BufReader::with_capacity(64 << 10, socket.try_clone()?);
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let out = Outbox::start(socket, move || encode(counted.now()))?;
    let back = Arc::new(Back {
        out,
        counts,
        waiting: Mutex::default(),
        credit: AtomicI64::new(0),
        closed: AtomicBool::new(false),
    });
    let mut hosted = Hosted {
        host: host_table(Arc::clone(&back)),
        back,
        library: Some(library),
        loaded: None,
        instance: None,
    };
    while let Some((header, payload)) = frame::read(&mut input, End::Process)? {
        if header.kind == Kind::Close {
            hosted.close();
            break;
        }
        hosted.take(header, &payload)?;
    }
    hosted.back.out.flush(FLUSH);
    Ok(())
}

/// Takes over the two files that the host left, as 3 and 4, and closes everything else.
fn inherited() -> io::Result<(UnixStream, OwnedFd)> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    // Not a process that the host made: standard input is no socket then.
    let host = rustix::net::sockopt::socket_peercred(&stdin)?.pid;
    close_from(3)?;
    let socket = rustix::io::fcntl_dupfd_cloexec(&stdin, 3)?;
    let library = rustix::io::fcntl_dupfd_cloexec(&stdout, 4)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before that.
    if rustix::process::getppid() != Some(host) {
        return Err(io::Error::other("the server is gone"));
    }
    // The host decides when it ends, also when everything gets a signal.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: sets what ignores the signal; no handler runs.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    Ok((UnixStream::from(socket), library))
}

/// Closes what was left open by mistake.
fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: nothing here owns a file yet: this is the first code of the process.
    let closed = unsafe { libc::close_range(first, u32::MAX, 0) };
    match closed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn limit(options: &ProcessOptions) -> io::Result<()> {
    let memory = options.memory_mib.saturating_mul(1 << 20);
    let cpu = (options.cpu_seconds > 0).then_some(options.cpu_seconds);
    let limits = [
        // Private memory that can be written, which is what allocations are made of …
        (Resource::Data, Some(memory)),
        // … and everything else.
        (Resource::As, Some(memory.saturating_add(ADDRESSES))),
        (Resource::Nofile, Some(options.open_files)),
        (Resource::Core, Some(0)),
        (Resource::Cpu, cpu),
    ];
    for (resource, limit) in limits {
        let allowed = rustix::process::getrlimit(resource).maximum;
        // Less may be allowed anyhow.
        let least = [limit, allowed].into_iter().flatten().min();
        let both = Rlimit {
            current: least,
            maximum: least,
        };
        setrlimit(resource, both)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// The plugin, as far as it is.
struct Hosted {
    host: &'static AnkHost,
    back: Arc<Back>,
    library: Option<OwnedFd>,
    loaded: Option<Loaded>,
    instance: Option<Raw>,
}

impl Hosted {
    fn take(&mut self, header: frame::Header, payload: &[u8]) -> io::Result<()> {
        let id = header.id;
        match header.kind {
            Kind::Load => self.load(id, payload)?,
            Kind::Open => self.open(id, payload),
            Kind::Check => self.check(id, header.code),
            Kind::Ping => self.back.out.push(Kind::Completed, ANK_OK, id, &[]),
            Kind::Credit => self.back.credit(header.code),
            Kind::Call => {
                let op = u32::from_ne_bytes(header.code.to_ne_bytes());
                self.make(id, |instance| instance.call(op, id, payload));
            }
            Kind::Drain => {
                let deadline = payload.try_into().map_or(0, u64::from_le_bytes);
                self.make(id, |instance| instance.drain(id, deadline));
            }
            Kind::Close | Kind::Refused | Kind::Completed | Kind::Event | Kind::Counters => {
                return Err(frame::Garbage(format!("{:?} from the server", header.kind)).into());
            }
        }
        Ok(())
    }

    fn load(&mut self, id: u64, options: &[u8]) -> io::Result<()> {
        let options = serde_json::from_slice(options)?;
        limit(&options)?;
        let library = self.library.take();
        let library = library.ok_or_else(|| io::Error::other("loaded already"))?;
        match library::load(library) {
            Ok(loaded) => {
                let manifest = loaded.manifest;
                self.back.out.push(Kind::Completed, ANK_OK, id, manifest);
                self.loaded = Some(loaded);
            }
            Err(unusable) => {
                let reason = serde_json::to_vec(&unusable)?;
                self.back
                    .out
                    .push(Kind::Completed, ANK_INVALID, id, &reason);
            }
        }
        Ok(())
    }

    fn open(&mut self, id: u64, config: &[u8]) {
        let Some(loaded) = &self.loaded else {
            return self.back.out.push(Kind::Refused, ANK_CLOSED, id, &[]);
        };
        let table = match loaded.init(self.host) {
            Ok(table) => table,
            Err(reason) => {
                let reason = reason.as_bytes();
                return self.back.out.push(Kind::Completed, INIT_FAILED, id, reason);
            }
        };
        self.back.waiting().insert(id);
        match raw::open(&table, self.host, INSTANCE, id, config) {
            Ok(pointer) => self.instance = Some(Raw::new(table, pointer)),
            Err(status) => self.back.refused(id, status),
        }
    }

    fn check(&self, id: u64, which: i32) {
        let found = match &self.loaded {
            Some(loaded) => sizes::check(loaded.init_fn(), self.host, which),
            None => Err("nothing is loaded".to_owned()),
        };
        let (status, said) = match found {
            Ok(()) => (ANK_OK, String::new()),
            Err(reason) => (ANK_INVALID, reason),
        };
        self.back
            .out
            .push(Kind::Completed, status, id, said.as_bytes());
    }

    fn make(&self, id: u64, call: impl FnOnce(&Raw) -> AnkStatus) {
        let Some(instance) = &self.instance else {
            return self.back.out.push(Kind::Refused, ANK_CLOSED, id, &[]);
        };
        self.back.waiting().insert(id);
        match call(instance) {
            ANK_OK => {}
            status => self.back.refused(id, status),
        }
    }

    fn close(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.close();
        }
    }
}

/// What the plugin calls back, on its way to the host.
struct Back {
    out: Arc<Outbox>,
    counts: Arc<Counts>,
    /// Calls that are not complete.
    waiting: Mutex<HashSet<u64>>,
    /// So many events may still be sent.
    credit: AtomicI64,
    /// Nobody takes events any more.
    closed: AtomicBool,
}

impl Back {
    fn waiting(&self) -> MutexGuard<'_, HashSet<u64>> {
        // No code that can panic runs under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, id: u64, status: AnkStatus) {
        self.waiting().remove(&id);
        self.out.push(Kind::Refused, status, id, &[]);
    }

    fn credit(&self, more: i32) {
        if more == frame::NO_MORE_EVENTS {
            self.closed.store(true, Relaxed);
        } else {
            self.credit.fetch_add(more.into(), Relaxed);
        }
    }

    fn deliver(&self, kind: u32, message: &[u8]) -> AnkStatus {
        if let Err(status) = PluginEvent::read(kind, message) {
            return status;
        }
        if self.closed.load(Relaxed) {
            return ANK_CLOSED;
        }
        let spend = |credit: i64| (credit > 0).then(|| credit - 1);
        if self.credit.fetch_update(Relaxed, Relaxed, spend).is_err() {
            return ANK_BUSY;
        }
        self.out.push(Kind::Event, code(kind), 0, message);
        ANK_OK
    }

    fn tell(&self, kind: u32, message: &[u8]) -> AnkStatus {
        if let Err(status) = Telemetry::read(kind, message) {
            return status;
        }
        if self.out.offer(Kind::Event, code(kind), message) {
            return ANK_OK;
        }
        self.counts.dropped.fetch_add(1, Relaxed);
        self.out.counted();
        ANK_BUSY
    }
}

impl Callbacks for Back {
    fn completed(&self, call_id: u64, status: AnkStatus, reply: &[u8]) {
        if !self.waiting().remove(&call_id) {
            self.counts.stray.fetch_add(1, Relaxed);
            return self.out.counted();
        }
        if reply.len() <= LARGEST_REPLY {
            return self.out.push(Kind::Completed, status, call_id, reply);
        }
        let reason = format!(
            "a reply of {} bytes, more than {LARGEST_REPLY}",
            reply.len()
        );
        self.out
            .push(Kind::Completed, ANK_INTERNAL, call_id, reason.as_bytes());
    }

    fn happened(&self, inst_id: u64, kind: u32, message: &[u8]) -> AnkStatus {
        let status = match must_arrive(kind) {
            _ if inst_id != INSTANCE => ANK_CLOSED,
            true => self.deliver(kind, message),
            false => self.tell(kind, message),
        };
        if !matches!(status, ANK_OK | ANK_BUSY) {
            self.counts.refused.fetch_add(1, Relaxed);
            self.out.counted();
        }
        status
    }
}

/// A kind of event as a frame's code.
fn code(kind: u32) -> i32 {
    i32::from_ne_bytes(kind.to_ne_bytes())
}

/// The counters as the host reads them.
fn encode(counters: Counters) -> Vec<u8> {
    [
        counters.stray_completions,
        counters.dropped_telemetry,
        counters.refused_events,
    ]
    .map(u64::to_le_bytes)
    .concat()
}
