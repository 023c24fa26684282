//! A session with the IMAP server.
//!
//! The protocol is `async-imap`'s: it is cared for (Delta Chat lives on it), takes any stream, and
//! so the TLS that the program has, and brings a dozen small crates along. Two of its habits are
//! held here: it would buffer as much of an answer as the server sends, so the stream below it
//! ends when an answer is longer than [`LONGEST_ANSWER`]; and its errors quote what they cannot read,
//! which may be a mail, so that only [`told`] makes texts of them.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_imap::error::Error;
use async_imap::extensions::idle::IdleResponse;
use async_imap::{Authenticator, Client, Session};
use futures::TryStreamExt;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{BounceSettings, Tls};

/// What is read of a mail: reports, their headers and the text of answers come first.
pub(super) const LONGEST_MAIL: usize = 256 * 1024;
/// The most bytes that one command may be answered with.
const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// Longest text of a server that is passed on, in characters.
const LONGEST_DETAIL: usize = 200;

/// A mail as it lies in the folder.
pub(super) struct Raw {
    /// At most [`LONGEST_MAIL`] bytes of it.
    pub(super) bytes: Vec<u8>,
    /// When the server got it.
    pub(super) received: SystemTime,
}

/// Why something did not work.
#[derive(Debug)]
pub(super) struct Failure {
    /// In words that quote no mail.
    pub(super) reason: String,
    /// What the server answered could not be read.
    pub(super) unreadable: bool,
}

impl Failure {
    fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            unreadable: false,
        }
    }
}

/// Why a wait has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woke {
    /// The server has news, or it is time to look.
    News,
    /// Somebody notified.
    Notified,
}

/// An open folder.
pub(super) struct Imap {
    session: Session<Stream>,
    allowance: Arc<AtomicUsize>,
    patience: Duration,
    can_idle: bool,
    can_move: bool,
    can_expunge_one: bool,
}

impl Imap {
    /// Connects, secures, logs in.
    pub(super) async fn open(settings: &BounceSettings) -> Result<Self, Failure> {
        let patience = settings.timeout;
        let allowance = Arc::new(AtomicUsize::new(LONGEST_ANSWER));
        let connecting = connect(settings, &allowance);
        let client = timeout(patience, connecting).await.map_err(|_| late())??;
        let session = within(patience, login(client, settings)).await?;
        let mut imap = Self {
            session,
            allowance,
            patience,
            can_idle: false,
            can_move: false,
            can_expunge_one: false,
        };
        imap.begin();
        let offered = within(patience, imap.session.capabilities()).await?;
        imap.can_idle = offered.has_str("IDLE");
        imap.can_move = offered.has_str("MOVE");
        imap.can_expunge_one = offered.has_str("UIDPLUS");
        Ok(imap)
    }

    /// Opens the folder and says its UIDVALIDITY.
    pub(super) async fn select(&mut self, folder: &str) -> Result<Option<u32>, Failure> {
        self.begin();
        let selected = within(self.patience, self.session.select(folder)).await?;
        Ok(selected.uid_validity)
    }

    /// Makes a folder, if it is not there.
    pub(super) async fn create(&mut self, folder: &str) -> Result<(), Failure> {
        self.begin();
        match timeout(self.patience, self.session.create(folder)).await {
            // It exists; or it cannot be made, which shows when something is moved to it.
            Ok(Ok(()) | Err(Error::No(_))) => Ok(()),
            Ok(Err(error)) => Err(told(&error)),
            Err(_) => Err(late()),
        }
    }

    /// The mails in the folder.
    pub(super) async fn mails(&mut self) -> Result<Vec<u32>, Failure> {
        self.begin();
        let found = within(self.patience, self.session.uid_search("UNDELETED")).await?;
        Ok(found.into_iter().collect())
    }

    /// A mail; `None` if it is gone.
    pub(super) async fn mail(&mut self, uid: u32) -> Result<Option<Raw>, Failure> {
        self.begin();
        let wanted = format!("(UID INTERNALDATE BODY.PEEK[]<0.{LONGEST_MAIL}>)");
        let fetching = async {
            let answers = self.session.uid_fetch(uid.to_string(), wanted).await?;
            answers.try_collect::<Vec<_>>().await
        };
        let answers = within(self.patience, fetching).await?;
        let answer = answers.iter().find(|answer| answer.uid == Some(uid));
        Ok(answer.and_then(|answer| {
            let received = answer.internal_date().and_then(|date| {
                let seconds = u64::try_from(date.timestamp()).ok()?;
                UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
            });
            Some(Raw {
                bytes: answer.body()?.to_vec(),
                received: received.unwrap_or_else(SystemTime::now),
            })
        }))
    }

    /// Moves mails to another folder; those that are gone are no error.
    pub(super) async fn put_away(&mut self, uids: &[u32], folder: &str) -> Result<(), Failure> {
        let set: Vec<_> = uids.iter().map(ToString::to_string).collect();
        let set = set.join(",");
        self.begin();
        if self.can_move {
            return within(self.patience, self.session.uid_mv(&set, folder)).await;
        }
        within(self.patience, self.session.uid_copy(&set, folder)).await?;
        let deleting = async {
            let flags = "+FLAGS.SILENT (\\Deleted)";
            let answers = self.session.uid_store(&set, flags).await?;
            answers.try_collect::<Vec<_>>().await
        };
        within(self.patience, deleting).await?;
        if self.can_expunge_one {
            let expunging = async {
                let answers = self.session.uid_expunge(&set).await?;
                answers.try_collect::<Vec<_>>().await
            };
            within(self.patience, expunging).await?;
        }
        // Else they stay, marked: expunging all would take along what others have marked.
        Ok(())
    }

    /// Waits until the server has news, somebody notifies, or it is time to look.
    pub(super) async fn wait(
        mut self,
        poll: Duration,
        wake: &Notify,
    ) -> Result<(Self, Woke), Failure> {
        self.begin();
        if !self.can_idle {
            let woke = tokio::select! {
                () = wake.notified() => Woke::Notified,
                () = tokio::time::sleep(poll) => Woke::News,
            };
            return Ok((self, woke));
        }
        let mut idle = self.session.idle();
        within(self.patience, idle.init()).await?;
        let woke = {
            let (news, _interrupt) = idle.wait_with_timeout(poll);
            tokio::select! {
                () = wake.notified() => Woke::Notified,
                // A server that talks all the time without news must not keep us.
                () = tokio::time::sleep(poll) => Woke::News,
                news = news => match news.map_err(|e| told(&e))? {
                    IdleResponse::NewData(_) | IdleResponse::Timeout => Woke::News,
                    IdleResponse::ManualInterrupt => return Err(ended()),
                },
            }
        };
        self.session = within(self.patience, idle.done()).await?;
        Ok((self, woke))
    }

    /// Takes leave.
    pub(super) async fn logout(mut self) {
        self.begin();
        // The connection is closed whatever the server says.
        let _ = timeout(
            self.patience.min(Duration::from_secs(2)),
            self.session.logout(),
        )
        .await;
    }

    /// The next answer may be long again.
    fn begin(&self) {
        self.allowance.store(LONGEST_ANSWER, Ordering::Relaxed);
    }
}

async fn connect(
    settings: &BounceSettings,
    allowance: &Arc<AtomicUsize>,
) -> Result<Client<Stream>, Failure> {
    let server = (settings.host.as_str(), settings.port);
    let tcp = TcpStream::connect(server)
        .await
        .map_err(|e| Failure::because(e.to_string()))?;
    let bounded = |socket: Box<dyn Socket>| {
        Client::new(Stream {
            socket,
            allowance: Arc::clone(allowance),
        })
    };
    match &settings.tls {
        None => greeted(bounded(Box::new(tcp))).await,
        Some(tls) if !tls.starttls => greeted(bounded(secured(tls, Box::new(tcp)).await?)).await,
        Some(tls) => {
            let mut client = greeted(bounded(Box::new(tcp))).await?;
            let answer = client.run_command_and_check_ok("STARTTLS", None).await;
            answer.map_err(|e| match e {
                Error::No(_) | Error::Bad(_) => {
                    Failure::because("the server does not offer STARTTLS")
                }
                other => told(&other),
            })?;
            // What came before TLS and was not read yet is dropped with the client.
            let plain = client.into_inner().socket;
            Ok(bounded(secured(tls, plain).await?))
        }
    }
}

async fn secured(tls: &Tls, socket: Box<dyn Socket>) -> Result<Box<dyn Socket>, Failure> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(tls.name.clone(), socket).await;
    Ok(Box::new(
        stream.map_err(|e| Failure::because(format!("TLS: {e}")))?,
    ))
}

async fn greeted(mut client: Client<Stream>) -> Result<Client<Stream>, Failure> {
    match client.read_response().await {
        Ok(Some(_)) => Ok(client),
        Ok(None) => Err(ended()),
        Err(error) => Err(told(&error.into())),
    }
}

async fn login(
    client: Client<Stream>,
    settings: &BounceSettings,
) -> Result<Session<Stream>, Error> {
    let (user, password) = (&settings.username, settings.password.expose_secret());
    // LOGIN takes ASCII alone, but every server has it.
    let session = if user.is_ascii() && password.is_ascii() {
        client.login(user, password).await
    } else {
        client.authenticate("PLAIN", Plain { user, password }).await
    };
    session.map_err(|(error, _)| error)
}

/// SASL PLAIN (RFC 4616).
struct Plain<'a> {
    user: &'a str,
    password: &'a str,
}

impl Authenticator for Plain<'_> {
    type Response = String;

    fn process(&mut self, _challenge: &[u8]) -> String {
        format!("\0{}\0{}", self.user, self.password)
    }
}

/// Waits for the answer to a command.
async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(patience, work).await {
        Ok(result) => result.map_err(|error| told(&error)),
        Err(_) => Err(late()),
    }
}

/// What an error says without what it quotes.
fn told(error: &Error) -> Failure {
    let unreadable = |reason: &str| Failure {
        reason: reason.to_owned(),
        unreadable: true,
    };
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::Other => {
            unreadable("the server's answer cannot be read")
        }
        Error::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            unreadable("the server's answer is too long")
        }
        Error::Io(error) => Failure::because(error.kind().to_string()),
        Error::No(text) | Error::Bad(text) => {
            let text: String = text.chars().take(LONGEST_DETAIL).collect();
            Failure::because(format!("the server refuses: {text}"))
        }
        Error::ConnectionLost => ended(),
        _ => unreadable("the server's answer cannot be read"),
    }
}

fn late() -> Failure {
    Failure::because("the server did not answer in time")
}

fn ended() -> Failure {
    Failure::because("the server ended the connection")
}

/// Whatever bytes come through, encrypted or not.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug> Socket for S {}

/// A connection from which only so much is read.
#[derive(Debug)]
struct Stream {
    socket: Box<dyn Socket>,
    allowance: Arc<AtomicUsize>,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        let count = buffer.filled().len() - before;
        let left = self.allowance.load(Ordering::Relaxed);
        self.allowance
            .store(left.saturating_sub(count), Ordering::Relaxed);
        if count > left {
            return Poll::Ready(Err(io::ErrorKind::FileTooLarge.into()));
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
