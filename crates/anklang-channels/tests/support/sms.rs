//! Short messages, and what comes of them.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anklang_channels::proto::{
    Accepted, DeliveryEvent, InboundEvent, Message, Outcome, Party, SendRequest, TextContent,
    message, outcome,
};
use anklang_channels::{Events, Instance, Isolation, Plugin, PluginEvent};
use serde_json::Value;

use crate::cargo::cdylib;

fn library() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib("anklang-plugin-sms"))
}

pub fn plugin() -> Plugin {
    Plugin::load_with(library(), None, crate::hosting::hosting(Isolation::Process)).unwrap()
}

pub async fn open(config: &Value) -> Instance {
    plugin().open(config).await.unwrap()
}

/// A text to a number.
pub fn sms(to: &str, text: &str) -> Message {
    let party = |address: &str| {
        Some(Party {
            address: address.to_owned(),
            name: String::new(),
        })
    };
    Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: party(to),
        sender: party("Stadtwerk"),
        content: Some(message::Content::Text(TextContent {
            text: text.to_owned(),
        })),
        ..Message::default()
    }
}

pub async fn send(instance: &Instance, messages: Vec<Message>) -> Vec<Outcome> {
    let request = SendRequest {
        messages,
        traceparent: String::new(),
    };
    instance.send(request).await.unwrap()
}

/// Sends one text.
pub async fn one(instance: &Instance, to: &str, text: &str) -> Outcome {
    send(instance, vec![sms(to, text)]).await.remove(0)
}

/// Kind, and reason, code or scope, of an outcome.
pub fn shown(outcome: &Outcome) -> String {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Accepted(accepted) => format!("accepted {}", accepted.parts),
        outcome::Kind::Permanent(p) => format!("{} {}", p.reason().as_str_name(), p.code),
        outcome::Kind::Transient(t) => format!("transient {}", t.code),
        outcome::Kind::Throttled(t) => format!("throttled {}", t.scope),
        outcome::Kind::Ambiguous(a) => format!("ambiguous: {}", a.detail),
    }
}

pub fn accepted(outcome: &Outcome) -> &Accepted {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Accepted(accepted) => accepted,
        other => panic!("{other:?}"),
    }
}

/// The next event.
pub async fn next(events: &mut Events) -> PluginEvent {
    let coming = events.deliveries.recv();
    let come = tokio::time::timeout(Duration::from_secs(120), coming).await;
    come.expect("an event comes").expect("the instance lives")
}

pub async fn delivery(events: &mut Events) -> DeliveryEvent {
    match next(events).await {
        PluginEvent::Delivery(event) => event,
        other => panic!("{other:?}"),
    }
}

pub async fn inbound(events: &mut Events) -> InboundEvent {
    match next(events).await {
        PluginEvent::Inbound(event) => event,
        other => panic!("{other:?}"),
    }
}
