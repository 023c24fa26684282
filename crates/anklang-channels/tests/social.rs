//! The social plugin, loaded as a library: against a real Matrix homeserver (Synapse), against the
//! Telegram emulation of npm, and against fakes that know the documented contracts of the others and
//! refuse everything else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "social/contract.rs"]
mod contract;
#[path = "social/facebook.rs"]
mod facebook;
#[path = "social/fake.rs"]
mod fake;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "social/mastodon.rs"]
mod mastodon;
#[path = "social/matrix.rs"]
mod matrix;
#[path = "social/matrix_contract.rs"]
mod matrix_contract;
#[path = "social/peers.rs"]
mod peers;
#[path = "social/proxy.rs"]
mod proxy;
#[path = "social/settings.rs"]
mod settings;
#[path = "social/telegram.rs"]
mod telegram;
#[path = "social/telegram_contract.rs"]
mod telegram_contract;
#[path = "social/whatsapp.rs"]
mod whatsapp;
#[path = "social/x.rs"]
mod x;

use std::sync::OnceLock;
use std::time::Duration;

use anklang_channels::proto::{
    CallbackRequest, Header, InboundEvent, Message, Outcome, Party, SendRequest, TextContent,
    message, outcome,
};
use anklang_channels::{Events, Instance, Isolation, Plugin, PluginEvent};
use serde_json::Value;

/// How long something may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The plugin, built and loaded once.
fn plugin() -> &'static Plugin {
    static LOADED: OnceLock<Plugin> = OnceLock::new();
    LOADED.get_or_init(|| {
        Plugin::load_with(
            &cargo::cdylib("anklang-plugin-social"),
            None,
            hosting::hosting(Isolation::Process),
        )
        .unwrap()
    })
}

async fn open(config: &Value) -> Instance {
    plugin().open(config).await.unwrap()
}

/// An instance that waits for three seconds only: for networks that never answer.
async fn open_impatient(config: &Value) -> Instance {
    let mut config = config.clone();
    config["connection"] = serde_json::json!({ "timeout_seconds": 3 });
    open(&config).await
}

/// A text to a person, or to all.
fn text(to: Option<&str>, text: &str) -> Message {
    Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: to.map(|address| Party {
            address: address.to_owned(),
            name: "Erika Müßig".to_owned(),
        }),
        content: Some(message::Content::Text(TextContent {
            text: text.to_owned(),
        })),
        ..Message::default()
    }
}

async fn send_all(instance: &Instance, messages: Vec<Message>) -> Vec<Outcome> {
    let traceparent = String::new();
    let request = SendRequest {
        messages,
        traceparent,
    };
    instance.send(request).await.unwrap()
}

async fn send(instance: &Instance, message: Message) -> Outcome {
    send_all(instance, vec![message]).await.remove(0)
}

/// The network's id of an accepted message.
fn accepted(outcome: &Outcome) -> &str {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Accepted(accepted) => {
            assert!(accepted.accepted_at.is_some());
            &accepted.provider_message_id
        }
        other => panic!("{other:?}"),
    }
}

/// Kind or reason, and code, of a message that was not accepted.
fn failure(outcome: &Outcome) -> (&'static str, &str) {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Permanent(p) => (p.reason().as_str_name(), &p.code),
        outcome::Kind::Transient(t) => ("TRANSIENT", &t.code),
        outcome::Kind::Throttled(t) => ("THROTTLED", &t.scope),
        outcome::Kind::Ambiguous(_) => ("AMBIGUOUS", ""),
        outcome::Kind::Accepted(a) => panic!("{a:?}"),
    }
}

/// For how many seconds a message is throttled, rounded.
fn wait(outcome: &Outcome) -> i64 {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Throttled(throttled) => {
            let wait = throttled.retry_after.as_ref().unwrap();
            wait.seconds + i64::from(wait.nanos >= 500_000_000)
        }
        other => panic!("{other:?}"),
    }
}

/// A request of a network, as the host hands it on.
fn request(method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> CallbackRequest {
    let header = |(name, value): &(&str, &str)| Header {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    CallbackRequest {
        method: method.to_owned(),
        uri: uri.to_owned(),
        headers: headers.iter().map(header).collect(),
        body: body.as_bytes().to_vec(),
    }
}

/// The next event.
async fn next(events: &mut Events) -> PluginEvent {
    let event = tokio::time::timeout(PATIENCE, events.deliveries.recv()).await;
    event.expect("an event in time").unwrap()
}

/// The next event, which is a message that came in.
async fn next_inbound(events: &mut Events) -> InboundEvent {
    match next(events).await {
        PluginEvent::Inbound(event) => event,
        other => panic!("{other:?}"),
    }
}

/// Waits until something is there.
async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "no {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
