//! A channel that misbehaves on command, to prove what host and SDK make of it. It sends
//! nothing anywhere.
//!
//! The text of a message says what to do with it, or with its whole batch: see [`obey`],
//! [`break_down`] and [`Testing::send`]. The configuration says how opening goes: see [`Opening`].

mod peer;
mod talk;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    AmbiguousPolicy, CallbackReply, CallbackRequest, Capability, Channel, Content, DeliveryEvent,
    Host, Level, LookupResult, Message, OpenError, Outcome, Reason, WORKER_THREADS,
    delivery_event::State, export_channel, faults, lookup_result,
};

use crate::peer::{Delivery, Peer, Report};

/// How opening an instance goes.
#[derive(Debug, Default, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Opening {
    /// It works.
    #[default]
    Work,
    /// The configuration is refused.
    Refuse,
    /// It panics.
    Panic,
    /// It never ends.
    Hang,
    /// It takes 300 ms.
    Delay,
    /// It ends the process.
    Abort,
    /// It reads memory that is not there.
    Segfault,
    /// It works, but ends the process while there is a file `spoiled`.
    Spoil,
    /// It fails, and repeats the secret.
    Blab,
}

/// What the provider knows of the messages that it is asked about.
#[derive(Debug, Default, Clone, Copy, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Ids that begin with an even digit were accepted, and no others came.
    #[default]
    ByDigit,
    /// All were accepted.
    Accepted,
    /// None came.
    Never,
    /// It cannot say.
    Nothing,
}

/// Configuration of the test channel.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the account.
    pub account: String,
    /// Any number of retries, to have a range.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u8,
    /// A secret, to see that it never comes back.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
    /// An address, which the schema takes for any text but serde does not.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub listen: Option<std::net::SocketAddr>,
    /// How opening goes.
    #[serde(default)]
    pub opening: Opening,
    /// A file to which the id of each message is appended that is accepted, before it is: what a peer
    /// would have got.
    #[serde(default)]
    pub record: Option<std::path::PathBuf>,
    /// While there is this file, the text `spoil:<how>` does what `<how>` does, and opening may fail.
    #[serde(default)]
    pub spoiled: Option<std::path::PathBuf>,
    /// What the provider knows of messages.
    #[serde(default)]
    pub knows: Knowledge,
    /// Where the peer of the session remembers its events; without it there is no session.
    #[serde(default)]
    pub session: Option<PathBuf>,
}

/// The channel.
pub struct Testing {
    host: Host,
    account: String,
    record: Option<File>,
    spoiled: Option<PathBuf>,
    knows: Knowledge,
    peer: Option<Arc<Peer>>,
    token: String,
}

impl Channel for Testing {
    type Config = Config;
    const ID: &'static str = "testing";
    const CHANNEL: &'static str = "testing";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] =
        &[Capability::Lookup, Capability::Callback, Capability::Events];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Hold;
    const MAX_CALLS_IN_FLIGHT: u32 = 16;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        match config.opening {
            Opening::Work => {}
            Opening::Refuse => return Err(OpenError::Invalid("account: unknown".to_owned())),
            Opening::Panic => panic!("opening panics as told"),
            Opening::Hang => std::future::pending().await,
            Opening::Delay => tokio::time::sleep(Duration::from_millis(300)).await,
            Opening::Abort => std::process::abort(),
            Opening::Segfault => faults::segfault(),
            Opening::Spoil if config.spoiled.as_deref().is_some_and(Path::exists) => {
                std::process::abort()
            }
            Opening::Spoil => {}
            Opening::Blab => {
                let said = format!("nobody logs in with {}", config.token);
                return Err(OpenError::Failed(said));
            }
        }
        let record = config.record.map(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|error| OpenError::Invalid(format!("record: {error}")))
        });
        let peer = config.session.map(Peer::new).transpose();
        let peer = peer.map_err(|e| OpenError::Failed(format!("session: {e}")))?;
        let peer = peer.map(Arc::new);
        if let Some(peer) = peer.clone() {
            let host = host.clone();
            tokio::spawn(async move { peer.tell_again(&host).await });
        }
        Ok(Self {
            host,
            account: config.account,
            record: record.transpose()?,
            spoiled: config.spoiled,
            knows: config.knows,
            peer,
            token: config.token,
        })
    }

    /// `short` and `long` as the text of the first message give one outcome too few and one
    /// too many.
    async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let first = batch.first().map(|m| text(m).to_owned());
        let mut outcomes = Vec::with_capacity(batch.len() + 1);
        for message in &batch {
            outcomes.push(self.obey(message).await);
        }
        match first.as_deref() {
            Some("short") => drop(outcomes.pop()),
            Some("long") => outcomes.push(Outcome::transient("EXTRA", "one too many")),
            _ => {}
        }
        outcomes
    }

    /// As the configuration says.
    async fn lookup(&self, message_ids: Vec<String>) -> Vec<LookupResult> {
        let settle = |id: String| {
            let known = match self.knows {
                Knowledge::ByDigit => Some(id.starts_with(['0', '2', '4', '6', '8'])),
                Knowledge::Accepted => Some(true),
                Knowledge::Never => Some(false),
                Knowledge::Nothing => None,
            };
            let kind = match known {
                Some(true) => {
                    lookup_result::Kind::Outcome(Outcome::accepted(id, SystemTime::now(), ""))
                }
                Some(false) => lookup_result::Kind::NotFound(Default::default()),
                None => lookup_result::Kind::Outcome(Outcome::ambiguous("who knows")),
            };
            LookupResult { kind: Some(kind) }
        };
        message_ids.into_iter().map(settle).collect()
    }

    /// `GET` gives the query's `challenge` back. Others need the account as `x-token`; the body is a
    /// [`Report`] as JSON, or the id of a delivered message.
    async fn callback(&self, request: CallbackRequest) -> CallbackReply {
        if request.method == "GET" {
            let challenge = request.uri.split_once("challenge=").map_or("", |(_, c)| c);
            return CallbackReply {
                body: challenge.into(),
                ..Default::default()
            };
        }
        let authentic =
            |h: &anklang_plugin_sdk::Header| h.name == "x-token" && h.value == self.account;
        if !request.headers.iter().any(authentic) {
            return CallbackReply {
                http_status: 401,
                ..Default::default()
            };
        }
        match serde_json::from_slice::<Report>(&request.body) {
            Ok(report) => translate(report).await,
            Err(error) if request.body.starts_with(b"{") => CallbackReply {
                http_status: 400,
                body: error.to_string().into_bytes(),
                ..Default::default()
            },
            Err(_) => CallbackReply {
                http_status: 200,
                deliveries: vec![delivered(
                    String::from_utf8_lossy(&request.body).into_owned(),
                )],
                ..Default::default()
            },
        }
    }

    async fn acknowledge(&self, event_ids: Vec<u64>) {
        if let Some(peer) = &self.peer {
            peer.forget(event_ids).await;
        }
    }
}

impl Testing {
    async fn obey(&self, message: &Message) -> Outcome {
        let (command, argument) = text(message).split_once(':').unwrap_or((text(message), ""));
        let milliseconds = Duration::from_millis(argument.parse().unwrap_or(0));
        match command {
            "panic" => panic!("sending panics as told"),
            "hang" => std::future::pending().await,
            "delay" => tokio::time::sleep(milliseconds).await,
            // Holds a thread of the runtime, as a bad plugin would.
            "block" => std::thread::sleep(milliseconds),
            "log" => self.log(argument, message),
            "blab" => self.blab(argument, message),
            "wait" => self.wait().await,
            "report" | "report-by-provider" => self.report(command, argument, message).await,
            // Tells whether it got its secret, and not which it is.
            "match" => {
                let said = match self.token == argument {
                    true => "the token matches",
                    false => "the token differs",
                };
                return Outcome::accepted(&message.message_id, SystemTime::now(), said);
            }
            "deliver" => {
                let event = delivered(message.message_id.clone());
                if self.host.delivery(&event).await.is_err() {
                    return Outcome::transient("HOST_CLOSED", "");
                }
            }
            "permanent" => return Outcome::permanent(Reason::Recipient, "550", argument),
            "transient" => return Outcome::transient("450", argument),
            "throttled" => return Outcome::throttled(milliseconds, "account"),
            "ambiguous" => return Outcome::ambiguous(argument),
            "nothing" => return Outcome { kind: None },
            // Leaves a program behind whose process id is in this file.
            "orphan" => {
                let started = std::process::Command::new("sleep").arg("600").spawn();
                let pid = started.map_or(0, |child| child.id());
                let _ = std::fs::write(argument, pid.to_string());
                std::process::abort();
            }
            // Only while it is spoiled.
            "spoil" if self.spoiled.as_deref().is_some_and(Path::exists) => {
                self.break_down(argument);
            }
            command => self.break_down(command),
        }
        if let Some(mut record) = self.record.as_ref() {
            // One write of less than a page: whole or not at all.
            let line = format!("{}\n", message.message_id);
            if let Err(error) = record.write_all(line.as_bytes()) {
                return Outcome::transient("RECORD", error.to_string());
            }
        }
        Outcome::accepted(&message.message_id, SystemTime::now(), &self.account)
    }

    /// What no plugin should do to its process or its host; nothing by another name.
    fn break_down(&self, how: &str) {
        match how {
            "segfault" => faults::segfault(),
            "abort" => std::process::abort(),
            "stuck" => on_all_threads(|| {
                loop {
                    std::thread::park();
                }
            }),
            "spin" => on_all_threads(|| {
                loop {
                    std::hint::spin_loop();
                }
            }),
            "leak" => loop {
                // Written to, so that it is there.
                Vec::leak(vec![1_u8; 16 << 20]);
            },
            "flood" => {
                for _ in 0..20_000 {
                    let filler = [("filler", "x".repeat(200))];
                    self.host.log(Level::Info, "one of many", &filler);
                }
            }
            // One accepted message, then whatever the SDK says.
            "twice" => faults::complete_early(&[0x0a, 2, 0x0a, 0]),
            "garbage" => faults::complete_early(&[0xff; 7]),
            _ => {}
        }
    }
}

/// Holds all threads of the plugin's runtime for ever.
fn on_all_threads(hold: fn() -> !) -> ! {
    let runtime = tokio::runtime::Handle::current();
    for _ in 1..WORKER_THREADS {
        let runtime = runtime.clone();
        // From outside, so that another thread of the runtime gets it, not this one next.
        std::thread::spawn(move || runtime.spawn(async move { hold() }));
    }
    hold()
}

impl Testing {
    /// Has the session's peer report of a message before its outcome is told: by our id, or by its own.
    /// The outcome comes when there is no file `hold-outcomes`.
    async fn report(&self, command: &str, state: &str, message: &Message) {
        let Some(peer) = &self.peer else { return };
        let mut event = Delivery {
            state: state.to_owned(),
            ..Default::default()
        };
        let id = message.message_id.clone();
        match command {
            "report" => event.message_id = id,
            _ => event.provider_message_id = id,
        }
        let number = peer.remember(&event);
        peer.tell(&self.host, number, event).await;
        self.wait().await;
    }

    /// Waits while the session's peer has a file `hold-outcomes`.
    async fn wait(&self) {
        if let Some(peer) = &self.peer {
            peer::while_there(&peer.gate("hold-outcomes")).await;
        }
    }
}

async fn translate(report: Report) -> CallbackReply {
    if let Some(gate) = &report.after {
        peer::until_there(gate).await;
    }
    CallbackReply {
        http_status: report.status,
        body: report.answer.into_bytes(),
        deliveries: report.deliveries.into_iter().map(Into::into).collect(),
        inbound: report.inbound.into_iter().map(Into::into).collect(),
        ..Default::default()
    }
}

fn delivered(message_id: String) -> DeliveryEvent {
    DeliveryEvent {
        event_id: 1,
        message_id,
        state: State::Delivered.into(),
        occurred_at: None,
        ..Default::default()
    }
}

fn text(message: &Message) -> &str {
    match &message.content {
        Some(Content::Text(content)) => content.text.trim(),
        _ => "",
    }
}

export_channel!(Testing);
