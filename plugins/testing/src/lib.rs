//! A channel that misbehaves on command, to prove what host and SDK make of it. It sends
//! nothing anywhere.
//!
//! The text of a message says what to do with it, or with its whole batch: see [`obey`] and
//! [`Testing::send`]. The configuration says how opening goes: see [`Opening`].

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    AmbiguousPolicy, CallbackReply, CallbackRequest, Capability, Channel, Content, DeliveryEvent,
    Host, Level, LookupResult, Message, OpenError, Outcome, Reason, delivery_event::State,
    export_channel, lookup_result,
};

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
}

/// The channel.
pub struct Testing {
    host: Host,
    account: String,
    token: String,
}

impl Channel for Testing {
    type Config = Config;
    const ID: &'static str = "testing";
    const CHANNEL: &'static str = "testing";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const CAPABILITIES: &'static [Capability] = &[Capability::Lookup, Capability::Callback];
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Hold;
    const MAX_CALLS_IN_FLIGHT: u32 = 16;

    async fn open(config: Config, host: Host) -> Result<Self, OpenError> {
        match config.opening {
            Opening::Work => {}
            Opening::Refuse => return Err(OpenError::Invalid("account: unknown".to_owned())),
            Opening::Panic => panic!("opening panics as told"),
            Opening::Hang => std::future::pending().await,
            Opening::Delay => tokio::time::sleep(Duration::from_millis(300)).await,
        }
        Ok(Self {
            host,
            account: config.account,
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

    /// Knows the ids that begin with an even digit as accepted, and no others.
    async fn lookup(&self, message_ids: Vec<String>) -> Vec<LookupResult> {
        let known = |id: &String| id.starts_with(['0', '2', '4', '6', '8']);
        let settle = |id: String| LookupResult {
            kind: Some(if known(&id) {
                lookup_result::Kind::Outcome(Outcome::accepted(id, SystemTime::now(), ""))
            } else {
                lookup_result::Kind::NotFound(Default::default())
            }),
        };
        message_ids.into_iter().map(settle).collect()
    }

    /// The body is the id of a delivered message; requests need the account as `x-token`.
    async fn callback(&self, request: CallbackRequest) -> CallbackReply {
        let authentic =
            |h: &anklang_plugin_sdk::Header| h.name == "x-token" && h.value == self.account;
        if !request.headers.iter().any(authentic) {
            return CallbackReply {
                http_status: 401,
                ..Default::default()
            };
        }
        CallbackReply {
            http_status: 200,
            deliveries: vec![delivered(
                String::from_utf8_lossy(&request.body).into_owned(),
            )],
            inbound: Vec::new(),
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
            "log" => self
                .host
                .log(Level::Warn, argument, &[("account", self.account.clone())]),
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
            _ => {}
        }
        Outcome::accepted(&message.message_id, SystemTime::now(), &self.account)
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
        Some(Content::Text(content)) => &content.text,
        _ => "",
    }
}

export_channel!(Testing);
