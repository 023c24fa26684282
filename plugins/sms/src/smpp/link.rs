//! Keeps a session bound: connects, binds, and does so again when it has ended.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anklang_plugin_sdk::{Host, Level, Outcome};
use rand::RngExt;
use rusmpp::CommandStatus;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::config::Settings;
use super::inbox::Inbox;
use super::parts::Book;
use super::pdu::{self, Role, status_name};
use super::session::{Driver, Ended, Failure, Session, Stream};
use super::status::{Refusal, refusal};

/// Pause before the first attempt after a session has ended.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Doubled after each failed attempt, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A session that lived so long was a good one: the pauses begin anew.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Why there is no session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Down {
    /// `CONFIG` if an operator has to mend it, `CONNECT` otherwise.
    code: &'static str,
    detail: String,
}

impl Down {
    fn connect(error: impl fmt::Display) -> Self {
        Self {
            code: "CONNECT",
            detail: error.to_string(),
        }
    }

    /// The outcome of what would have gone through the session.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::transient(self.code, self.detail.clone())
    }
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

#[derive(Clone)]
enum State {
    /// An attempt is being made.
    Connecting,
    Bound(Arc<Session>),
    /// The last attempt failed; another one follows.
    Down(Down),
}

/// See the module's documentation. Dropping it ends the session without leave.
pub(crate) struct Link {
    state: watch::Receiver<State>,
    keeper: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
        if let State::Bound(session) = &*self.state.borrow() {
            session.close();
        }
    }
}

impl Link {
    /// Begins to connect, and returns at once.
    pub(crate) fn open(
        settings: Arc<Settings>,
        role: Role,
        book: Arc<Book>,
        inbox: Inbox,
        host: Host,
    ) -> Self {
        let (state_in, state) = watch::channel(State::Connecting);
        let keeper = Keeper {
            settings,
            role,
            book,
            inbox,
            host,
            state: state_in,
        };
        Self {
            state,
            keeper: tokio::spawn(keeper.keep()),
        }
    }

    /// The session, waiting for an attempt that is being made until `deadline`.
    pub(crate) async fn session(&self, deadline: Instant) -> Result<Arc<Session>, Down> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| match state {
            State::Connecting => false,
            // It has ended, and the keeper is about to notice.
            State::Bound(session) => session.is_open(),
            State::Down(_) => true,
        });
        let settled = tokio::time::timeout_at(deadline, settled).await;
        match settled.map(|settled| settled.map(|state| state.clone())) {
            Ok(Ok(State::Bound(session))) => Ok(session),
            Ok(Ok(State::Down(down))) => Err(down),
            Ok(Ok(State::Connecting) | Err(_)) => Err(Down::connect("the account is closed")),
            Err(_) => Err(Down::connect("no session in time")),
        }
    }

    /// Takes leave of the centre for good.
    pub(crate) async fn close(&self, patience: Duration) {
        self.keeper.abort();
        let bound = match &*self.state.borrow() {
            State::Bound(session) => Some(Arc::clone(session)),
            _ => None,
        };
        if let Some(session) = bound {
            session.unbind(patience).await;
        }
    }
}

struct Keeper {
    settings: Arc<Settings>,
    role: Role,
    book: Arc<Book>,
    inbox: Inbox,
    host: Host,
    state: watch::Sender<State>,
}

/// A session that is bound, and what runs it. The task goes on when the keeper is stopped, so that
/// the session can take leave.
struct Bound {
    session: Arc<Session>,
    driver: JoinHandle<Ended>,
}

impl Keeper {
    async fn keep(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.bound().await {
                Ok(bound) => {
                    let begun = Instant::now();
                    self.log(Level::Info, "bound to the message centre", &[]);
                    self.state.send_replace(State::Bound(bound.session));
                    self.ended(bound.driver.await);
                    if begun.elapsed() >= GOOD_SESSION {
                        pause = FIRST_PAUSE;
                    }
                    // What is sent meanwhile waits for the next attempt, which comes soon.
                    if pause == FIRST_PAUSE {
                        self.state.send_replace(State::Connecting);
                    }
                }
                Err(down) => {
                    let reason = down.to_string();
                    let message = "no session with the message centre";
                    self.log(Level::Warn, message, &[("reason", reason)]);
                    self.state.send_replace(State::Down(down));
                }
            }
            // Not all servers at the same moment.
            let spread = rand::rng().random_range(0.8..1.2);
            sleep(pause.mul_f64(spread)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn ended(&self, ended: Result<Ended, tokio::task::JoinError>) {
        let (why, unanswered) = match ended {
            Ok(ended) => (ended.why, ended.unanswered),
            Err(error) => (error.to_string(), 0),
        };
        let fields = [
            ("reason", why.clone()),
            ("unanswered", unanswered.to_string()),
        ];
        self.log(
            Level::Warn,
            "the session with the message centre ended",
            &fields,
        );
        self.state.send_replace(State::Down(Down::connect(why)));
    }

    /// Connects, secures, binds.
    async fn bound(&self) -> Result<Bound, Down> {
        let Settings {
            host,
            port,
            tls,
            response_timeout: patience,
            ..
        } = &*self.settings;
        let silent = |_| Down::connect(format!("no answer within {patience:?}"));
        let connecting = TcpStream::connect((host.as_str(), *port));
        let stream = timeout(*patience, connecting).await.map_err(silent)?;
        let stream = stream.map_err(Down::connect)?;
        // Whether small segments go out at once matters for speed alone.
        let _ = stream.set_nodelay(true);
        let Some((config, name)) = tls else {
            return self.bind(stream).await;
        };
        let securing = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream);
        let secured = timeout(*patience, securing).await.map_err(silent)?;
        let secured = secured.map_err(|error| Down {
            // rustls reports what it refuses, certificates above all, as invalid data.
            code: match error.kind() {
                io::ErrorKind::InvalidData => "CONFIG",
                _ => "CONNECT",
            },
            detail: error.to_string(),
        })?;
        self.bind(secured).await
    }

    async fn bind<S: Stream>(&self, stream: S) -> Result<Bound, Down> {
        let settings = &self.settings;
        let patience = settings.response_timeout;
        let (session, driver): (_, Driver<S>) = Session::new(
            stream,
            settings.window,
            (settings.enquire_link, patience),
            Arc::clone(&self.book),
            self.inbox.clone(),
        );
        let driver = Abort(Some(tokio::spawn(driver.run())));
        let bind = |sequence| pdu::bind(settings, self.role, sequence);
        let answer = session.request(bind, None, patience).await;
        let answer = answer.map_err(|failure| match failure {
            Failure::NotSent(why) | Failure::Unanswered(why) => Down::connect(why),
        })?;
        if answer.status != CommandStatus::EsmeRok {
            // A wrong password is the operator's, whatever the centre calls it.
            let code = match refusal(answer.status) {
                Refusal::Account | Refusal::ForGood(_) => "CONFIG",
                Refusal::TooFast | Refusal::ForNow => "CONNECT",
            };
            let name = status_name(answer.status);
            let detail = format!("the centre answers {name} to the bind");
            return Err(Down { code, detail });
        }
        Ok(Bound {
            session,
            driver: driver.keep(),
        })
    }

    fn log(&self, level: Level, message: &'static str, fields: &[(&str, String)]) {
        let role = ("role", format!("{:?}", self.role).to_lowercase());
        let fields: Vec<_> = std::iter::once(role)
            .chain(fields.iter().cloned())
            .collect();
        self.host.log(level, message, &fields);
    }
}

/// Stops a task unless it is kept.
struct Abort(Option<JoinHandle<Ended>>);

impl Abort {
    fn keep(mut self) -> JoinHandle<Ended> {
        self.0.take().expect("is taken once, here")
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}
