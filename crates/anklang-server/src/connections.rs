//! Connections: how many, how fast they must begin, and how long they stay.
//!
//! # Guarantees
//! - More than there are places for do not take calls; those that are there go on. A few of them are told how the
//!   server is, so that probes do not find it dead because it has much to do; others are closed when they come.
//! - The process has files left for everything else (`OTHER_FILES`), also while many shake hands.
//! - Whoever connects and says nothing, or says it byte by byte, is sent away: by HTTP/1.1 the whole head of the first
//!   request is waited for only so long, by HTTP/2 the beginning of the connection. After that a connection may be
//!   idle, as clients keep theirs: by HTTP/1.1 for `IDLE`, until the head of the next request is there; by HTTP/2
//!   those whose other side is gone are found by pings.
//! - A connection that is old, or whose server stops, takes no more calls and ends with its last one (GOAWAY). When
//!   nobody waits for that any more, it ends at once, and its calls with it.
//! - A connection whose caller's certificate no authority accepts any more takes no more calls; those that are there
//!   have `LEAVE`, and then end with it.
//! - What was left in a connection by answers that are over ends it after a while: nothing else takes that back.
//! - Who asks for metrics, on their port, has a few connections of a short life, beside those of callers.

use std::fmt::Debug;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use axum::middleware::AddExtension;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;

use crate::config::ConnectionsConfig;
use crate::telemetry::meters;
use crate::tls::{Peer, Port};
use begun::until_begun;

/// So long a connection by HTTP/1.1 waits for the next request: longer than proxies usually keep theirs (60 s), so
/// that they do not call over one that is just being closed.
const IDLE: Duration = Duration::from_secs(75);

/// Files that the process keeps for all but callers: the database, plugins, webhooks, documents.
const OTHER_FILES: usize = 512;

/// The most TLS handshakes at the same time.
const HANDSHAKES: usize = 1_024;

/// The most connections beyond those that take calls, on which the server tells how it is.
const SPARE: usize = 256;

/// How long those take calls, and how long they last.
const SPARE_AGE: Duration = Duration::from_secs(1);
const SPARE_TIME: Duration = Duration::from_secs(5);

/// How long calls may go on over a connection whose certificate is withdrawn.
const LEAVE: Duration = Duration::from_secs(10);

/// The most connections for metrics.
const SCRAPERS: usize = 64;

/// How long those take requests, and how long they last: whoever scrapes more rarely connects anew.
const SCRAPER_AGE: Duration = Duration::from_secs(60);
const SCRAPER_TIME: Duration = Duration::from_secs(120);

/// The most of an answer that HTTP/2 keeps of each stream while the network does not take it.
const SEND_BUFFER: usize = 64 * 1_024;

/// What answers, and knows whom a connection is with.
type Calls = AddExtension<AddExtension<Router, ConnectInfo<Peer>>, Line>;

/// What answers, by whether there is a place.
pub struct Rooms {
    /// Calls.
    pub calls: Router,
    /// What comes over a connection that is one too many.
    pub full: Router,
}

/// Lets the process open as many files as it may let itself: what it begins with is often far less.
pub fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}

/// So many TLS handshakes at the same time, each an open file.
pub fn handshakes() -> usize {
    open_files().map_or(HANDSHAKES, |files| (files / 8).min(HANDSHAKES))
}

/// So many connections for metrics at the same time, each an open file.
pub fn scrapers() -> usize {
    open_files().map_or(SCRAPERS, scraping)
}

/// Serves whoever connects until `stop`, and then those who are there until their calls have ended. Dropped, it ends
/// them all. Handshakes and other ports have so many files besides.
pub async fn serve<L>(
    mut listener: L,
    rooms: Rooms,
    config: ConnectionsConfig,
    besides: usize,
    stop: CancellationToken,
) where
    L: Port<Addr: Debug>,
{
    let builder = builder(&config);
    let places = Arc::new(Semaphore::new(places(config.connections, besides)));
    let spare = Arc::new(Semaphore::new(open_files().map_or(SPARE, spare)));
    let open = TaskTracker::new();
    let left = CancellationToken::new();
    let _ends_with_this = left.clone().drop_guard();
    loop {
        let (io, addr) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let free = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_owned().ok();
        let (place, router, age, time) = if let Some(place) = free(&places) {
            (place, &rooms.calls, config.age.map(about), None)
        } else {
            tracing::debug!(?addr, "as many connections are open as may be");
            meters::connection_refused("full");
            let Some(place) = free(&spare) else {
                continue;
            };
            (place, &rooms.full, Some(SPARE_AGE), Some(SPARE_TIME))
        };
        let opened = Open::new(place);
        let line = Line::default();
        let peer = listener.peer(&io);
        let connection = Connection {
            builder: builder.clone(),
            calls: calls(router, &peer, &line),
            peer,
            line,
            begin: config.header_time,
            age,
            time,
            stop: stop.clone(),
        };
        let left = left.clone();
        open.spawn(async move {
            left.run_until_cancelled_owned(connection.drive(io)).await;
            drop(opened);
        });
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// Serves whoever asks for metrics, a few at the same time: others are closed when they come. Dropped, it ends them
/// all.
pub async fn serve_metrics(mut listener: TcpListener, router: Router, config: ConnectionsConfig) {
    // Without TLS nobody scrapes by HTTP/2.
    let builder = builder(&config).http1_only();
    let mut open = JoinSet::new();
    loop {
        let (io, addr) = Listener::accept(&mut listener).await;
        while open.try_join_next().is_some() {}
        if open.len() >= scrapers() {
            tracing::debug!(?addr, "as many connections for metrics are open as may be");
            continue;
        }
        let line = Line::default();
        let peer = listener.peer(&io);
        let connection = Connection {
            builder: builder.clone(),
            calls: calls(&router, &peer, &line),
            peer,
            line,
            begin: config.header_time,
            age: Some(SCRAPER_AGE),
            time: Some(SCRAPER_TIME),
            stop: CancellationToken::new(),
        };
        open.spawn(connection.drive(io));
    }
}

/// What answers over a connection.
fn calls(router: &Router, peer: &Peer, line: &Line) -> Calls {
    let calls = Extension(ConnectInfo(peer.clone())).layer(router.clone());
    Extension(line.clone()).layer(calls)
}

fn builder(config: &ConnectionsConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let header_bytes = usize::try_from(config.header_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        // It runs from the end of the request before.
        .header_read_timeout(config.header_time.max(IDLE))
        .max_buf_size(header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams)
        .max_header_list_size(config.header_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(config.ping)
        .keep_alive_timeout(config.pong);
    builder
}

/// As many as are wanted, and as the process may have files open for besides so many others.
fn places(wanted: usize, besides: usize) -> usize {
    let Some(files) = open_files() else {
        return wanted;
    };
    let fit = fitting(files, besides);
    if fit < wanted {
        tracing::warn!(
            connections = fit,
            files,
            "fewer than server.limits.connections: the process may not open more files"
        );
    }
    wanted.min(fit)
}

/// So many connections fit into so many files, of which handshakes and other ports have some.
fn fitting(files: usize, besides: usize) -> usize {
    let callers = files.saturating_sub(OTHER_FILES).max(files / 2);
    callers.saturating_sub(besides + spare(files)).max(1)
}

/// So many beyond those of so many files.
fn spare(files: usize) -> usize {
    (files / 16).clamp(1, SPARE)
}

/// So many for metrics of so many files.
fn scraping(files: usize) -> usize {
    (files / 16).clamp(1, SCRAPERS)
}

/// So many files the process may have open; `None` when there is no limit.
fn open_files() -> Option<usize> {
    let soft = getrlimit(Resource::Nofile).current?;
    usize::try_from(soft).ok()
}

/// That age and up to a tenth more: who came together does not come together again.
fn about(age: Duration) -> Duration {
    let by_chance = RandomState::new().hash_one(()) % 101;
    let by_chance = u32::try_from(by_chance).unwrap_or(0);
    age + age / 1_000 * by_chance
}

/// A connection that is open.
struct Open {
    _place: OwnedSemaphorePermit,
}

impl Open {
    fn new(place: OwnedSemaphorePermit) -> Self {
        meters::connections(1);
        Open { _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        meters::connections(-1);
    }
}

/// What one connection is served with.
struct Connection {
    builder: Builder<TokioExecutor>,
    calls: Calls,
    peer: Peer,
    line: Line,
    /// How long it may take to begin.
    begin: Duration,
    /// How long it is let be.
    age: Option<Duration>,
    /// When it ends, with its calls.
    time: Option<Duration>,
    stop: CancellationToken,
}

impl Connection {
    /// Answers what comes over it, until it ends.
    async fn drive<I>(self, io: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection {
            builder,
            calls,
            peer,
            line,
            begin,
            age,
            time,
            stop,
        } = self;
        let (told, begun) = oneshot::channel();
        let io = TokioIo::new(InspectReader::new(io, until_begun(told)));
        let calls = TowerToHyperService::new(calls);
        let mut connection = pin!(builder.serve_connection(io, calls));
        let mut is_late = pin!(async {
            if timeout(begin, begun).await.is_ok() {
                pending::<()>().await;
            }
        });
        let mut shall_end = pin!(async {
            tokio::select! {
                () = sleep(age.unwrap_or_default()), if age.is_some() => {}
                () = stop.cancelled() => {}
                () = line.closing() => {}
                () = peer.withdrawn() => {}
            }
        });
        let mut is_distrusted = pin!(async {
            peer.distrusted().await;
            sleep(LEAVE).await;
        });
        let mut is_overdue = pin!(line.overdue());
        let mut is_over = pin!(sleep(time.unwrap_or_default()));
        let mut ends = false;
        loop {
            tokio::select! {
                () = &mut is_over, if time.is_some() => return,
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection");
                    }
                    return;
                }
                () = &mut is_late => {
                    meters::connection_refused("late");
                    return;
                }
                () = &mut is_overdue => {
                    meters::connection_refused("untaken");
                    return;
                }
                () = &mut is_distrusted => {
                    tracing::debug!("a connection whose certificate no authority accepts any more ends");
                    return;
                }
                () = &mut shall_end, if !ends => {
                    ends = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

mod begun;
mod line;

pub use line::{Answer, Line};

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::Config;

    #[test]
    fn connections_get_a_tenth_older_at_most() {
        let hour = Duration::from_secs(3_600);
        for _ in 0..1_000 {
            let age = about(hour);
            assert!(age >= hour && age <= hour + hour / 10, "{age:?}");
        }
    }

    #[test]
    fn files_are_left_for_all_else_while_many_shake_hands() {
        for files in [64, 256, 1_024, 2_048, 1_048_576] {
            let besides = (files / 8).min(HANDSHAKES) + scraping(files);
            let callers = fitting(files, besides) + besides + spare(files);
            let left = files.saturating_sub(callers);
            assert!(left >= OTHER_FILES.min(files / 4), "{files}: {left}");
        }
        assert_eq!(fitting(1_024, 128 + 64), 1_024 - 512 - 128 - 64 - 64);
    }

    #[tokio::test]
    async fn calls_end_when_nobody_serves_them_any_more() {
        let config = Config::read(None, []).expect("the defaults are complete");
        let (begins, mut begun) = mpsc::unbounded_channel();
        let router = Router::new().fallback(move || async move {
            // Dropped with the call.
            let _ = begins.send(());
            pending::<()>().await;
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("a port");
        let rooms = Rooms {
            full: router.clone(),
            calls: router,
        };
        let serving = serve(
            listener,
            rooms,
            config.incoming,
            0,
            CancellationToken::new(),
        );
        let serving = tokio::spawn(serving);
        let mut client = TcpStream::connect(addr).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
        client.write_all(request).await.expect("it reads");
        begun.recv().await.expect("a call");
        serving.abort();
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(10), client.read_to_end(&mut said)).await;
        let _ = ended.expect("the connection ends");
        assert_eq!(said, b"");
    }
}
