//! A mail server on loopback that delivers nothing and records everything.
//!
//! # Guarantees
//! - Speaks ESMTP with PIPELINING, SIZE, 8BITMIME, SMTPUTF8 and ENHANCEDSTATUSCODES.
//! - Records the exact bytes the client meant: dots are unstuffed, line ends kept.
//! - Only `CR LF . CR LF` ends a mail; one with a bare CR or LF in it is refused (550), so
//!   that a client that smuggles or mangles line ends is found out.
//! - A mail that got a 250 has been recorded before, and is in its file if there is a folder.
//! - With a folder, memory holds envelopes only, whatever the number and size of mails.
//! - [`Faults`] makes it behave badly in every way a sender has to survive.
//!
//! # Trade-offs
//! No TLS, no authentication, no delivery: a real mail server is the right peer for those.
//! Files are not synced to disk.
//!
//! # Why not a crate
//! `maik` and `mailtutan-lib` record mails but cannot misbehave; `mockforge-smtp` brings a
//! whole mocking framework along; `mailin-embedded` has handler hooks at fixed points only
//! and a thread per connection; `socket-server-mocker` plays a fixed script. None can hang
//! or hang up between the final dot and the reply, which is the case that decides whether a
//! mail is sent twice.

mod fault;
mod session;
mod wire;

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

pub use fault::{Fault, Faults, Matching, Reply, Rule};

/// Largest mail taken if nothing else is said: 32 MiB.
pub const DEFAULT_MAX_BYTES: usize = 32 << 20;

/// Connections the kernel queues while we are busy.
const BACKLOG: u32 = 1024;

/// How a sink is set up.
#[derive(Debug, Clone)]
pub struct SinkOptions {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where each mail goes as `00000001.eml` and so on (made if missing; files of earlier
    /// runs stay, numbering goes on after them). `None`: mails are kept in memory.
    pub folder: Option<PathBuf>,
    /// Largest mail taken, in bytes; announced to clients.
    pub max_bytes: usize,
    /// Misbehaviour from the start.
    pub faults: Faults,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            folder: None,
            max_bytes: DEFAULT_MAX_BYTES,
            faults: Faults::default(),
        }
    }
}

/// One recorded mail.
#[derive(Debug, Clone)]
pub struct Received {
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// Which connection brought it, counted from 1.
    pub connection: u64,
    /// Envelope sender; empty for bounces.
    pub mail_from: String,
    /// Envelope recipients that were accepted, in the client's order.
    pub rcpt_to: Vec<String>,
    /// The mail, header and body; empty if it is in a file.
    pub data: Vec<u8>,
    /// The `Message-ID` header with its angle brackets.
    pub message_id: Option<String>,
    /// Its file, if there is a folder.
    pub path: Option<PathBuf>,
}

/// A running sink. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Sink {
    addr: SocketAddr,
    shared: Arc<Shared>,
    refusals: mpsc::Sender<Refusal>,
    acceptor: JoinHandle<()>,
}

impl Sink {
    /// Starts listening.
    ///
    /// # Errors
    /// The address is taken; the folder cannot be made or read.
    pub async fn start(options: SinkOptions) -> Result<Self> {
        let next_file = match &options.folder {
            Some(folder) => prepare_folder(folder)?,
            None => 1,
        };
        let listener = listen(options.listen)
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            folder: options.folder,
            next_file: AtomicU64::new(next_file),
            max_bytes: options.max_bytes,
            faults: Mutex::new(options.faults),
            replaced: watch::Sender::new(0),
            received: Mutex::default(),
            count: watch::Sender::new(0),
            connections: AtomicU64::new(0),
            mails: AtomicU64::new(0),
        });
        let (refusals, requests) = mpsc::channel(1);
        let acceptor = tokio::spawn(accept(listener, addr, requests, Arc::clone(&shared)));
        Ok(Self {
            addr,
            shared,
            refusals,
            acceptor,
        })
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All mails so far, in the order in which they were recorded.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received().clone()
    }

    /// How many mails so far.
    pub fn count(&self) -> u64 {
        *self.shared.count.borrow()
    }

    /// How many connections clients have made so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Waits until at least `count` mails are there.
    ///
    /// # Errors
    /// Fewer came within `timeout`; the message says how many.
    pub async fn wait_for(&self, count: u64, timeout: Duration) -> Result<()> {
        let mut changes = self.shared.count.subscribe();
        let enough = changes.wait_for(|now| *now >= count);
        tokio::time::timeout(timeout, enough)
            .await
            .with_context(|| {
                format!(
                    "{} of {count} mails arrived within {timeout:?}",
                    self.count()
                )
            })?
            .context("the sink is gone")?;
        Ok(())
    }

    /// Replaces all faults, for mails from now on; counters of rules start again. Whatever waits
    /// because of a fault goes on.
    pub fn set_faults(&self, faults: Faults) {
        let mut now = self.shared.faults();
        *now = faults;
        self.shared.replaced.send_modify(|times| *times += 1);
    }

    /// Refuses new connections, as a server that is down does (the client sees "connection
    /// refused"), until [`Down::end`] or until the value is dropped; open ones stay. The port is
    /// kept meanwhile. Returns as soon as connections are refused.
    ///
    /// # Errors
    /// The sink has lost its port.
    pub async fn refuse_connections(&self) -> Result<Down> {
        let (done, refusing) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        self.refusals.send((done, ended)).await.context(GONE)?;
        refusing.await.context(GONE)?;
        Ok(Down { end })
    }

    /// Closes the port and all connections.
    pub async fn stop(mut self) {
        self.acceptor.abort();
        // Cancelled, as asked; nothing else can come of it.
        let _ = (&mut self.acceptor).await;
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

const GONE: &str = "the mail sink does not listen any more";

/// While it lives, a sink refuses connections.
#[derive(Debug)]
pub struct Down {
    end: oneshot::Sender<oneshot::Sender<()>>,
}

impl Down {
    /// Returns as soon as the sink listens again.
    ///
    /// # Errors
    /// The sink has lost its port.
    pub async fn end(self) -> Result<()> {
        let (up, listening) = oneshot::channel();
        // When the sink is gone, waiting says so.
        let _ = self.end.send(up);
        listening.await.context(GONE)
    }
}

/// Whom to tell that connections are refused; when to end that, and whom to tell then.
type Refusal = (oneshot::Sender<()>, oneshot::Receiver<oneshot::Sender<()>>);

/// What the connections share.
#[derive(Debug)]
struct Shared {
    folder: Option<PathBuf>,
    next_file: AtomicU64,
    max_bytes: usize,
    faults: Mutex<Faults>,
    /// How often the faults were replaced.
    replaced: watch::Sender<u64>,
    received: Mutex<Vec<Received>>,
    count: watch::Sender<u64>,
    connections: AtomicU64,
    /// `MAIL FROM` commands accepted, for rules that go by number.
    mails: AtomicU64,
}

impl Shared {
    // Neither is ever left half-changed, so a panic elsewhere does not matter.
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) -> MutexGuard<'_, Vec<Received>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a mail, into its file first.
    async fn record(&self, mut mail: Received) -> Result<()> {
        if let Some(folder) = &self.folder {
            let number = self.next_file.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{number:08}.eml"));
            let part = path.with_extension("part");
            // Whoever watches the folder never sees half a mail.
            tokio::fs::write(&part, std::mem::take(&mut mail.data)).await?;
            tokio::fs::rename(&part, &path).await?;
            mail.path = Some(path);
        }
        let count = {
            let mut received = self.received();
            received.push(mail);
            received.len() as u64
        };
        // Two recorders may come here in the wrong order: the count only grows.
        self.count.send_if_modified(|now| {
            let grows = count > *now;
            *now = count.max(*now);
            grows
        });
        Ok(())
    }
}

/// Makes the folder and tells the number of its first new file.
fn prepare_folder(folder: &Path) -> Result<u64> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut last = 0;
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last + 1)
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    hold(addr)?.listen(BACKLOG)
}

/// Takes the port without listening on it: connections are refused, and nobody else is
/// given the port.
fn hold(addr: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Accepts connections until aborted; all of them end with it.
async fn accept(
    mut listener: TcpListener,
    addr: SocketAddr,
    mut refusals: mpsc::Receiver<Refusal>,
    shared: Arc<Shared>,
) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            // Requests to refuse come first, else a busy client delays them.
            biased;
            Some(refusal) = refusals.recv() => {
                drop(listener);
                listener = match refuse(addr, refusal).await {
                    Ok(listener) => listener,
                    Err(e) => {
                        tracing::error!("the mail sink lost its port {addr}: {e}");
                        return;
                    }
                };
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => greet(stream, &mut sessions, &shared),
                // Out of file descriptors, or the client is gone already.
                Err(e) if e.kind() == ErrorKind::ConnectionAborted => {}
                Err(e) => {
                    tracing::warn!("the mail sink cannot accept: {e}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = sessions.join_next() => {}
        }
    }
}

/// Not listening until told; the old listener must be closed already.
async fn refuse(addr: SocketAddr, (begun, ended): Refusal) -> std::io::Result<TcpListener> {
    let held = hold(addr)?;
    // The one who asked may have stopped waiting, here and below.
    let _ = begun.send(());
    let up = ended.await;
    let listener = held.listen(BACKLOG)?;
    if let Ok(up) = up {
        let _ = up.send(());
    }
    Ok(listener)
}

fn greet(stream: TcpStream, sessions: &mut JoinSet<()>, shared: &Arc<Shared>) {
    let number = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
    let shared = Arc::clone(shared);
    sessions.spawn(async move {
        // Clients that hang up in the middle are the normal case here.
        if let Err(e) = session::serve(stream, number, &shared).await {
            tracing::debug!(connection = number, "mail connection ended: {e:#}");
        }
    });
}
