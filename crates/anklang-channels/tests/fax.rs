//! The fax plugin, loaded as a library: against a scripted fax server, against HylaFAX, and as a
//! gateway by mail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/documents.rs"]
mod documents;
#[path = "support/hfaxd_peer.rs"]
mod hfaxd_peer;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/hylafax.rs"]
mod hylafax;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/smtp_peer.rs"]
#[expect(dead_code, reason = "the mail channel's tests use all of it")]
mod smtp_peer;

#[path = "fax/gateway.rs"]
mod gateway;
#[path = "fax/modems.rs"]
mod modems;
#[path = "fax/scripted.rs"]
mod scripted;
#[path = "fax/server.rs"]
mod server;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anklang_channels::proto::{
    Attachment, DeliveryEvent, DocumentContent, LookupRequest, LookupResult, Message, Outcome,
    Party, SendRequest, lookup_result, message, outcome,
};
use anklang_channels::{Events, Instance, Isolation, Plugin, PluginEvent};
use cargo::cdylib;
use kinds::kinds;

fn library() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib("anklang-plugin-fax"))
}

fn plugin() -> Plugin {
    Plugin::load_with(library(), None, hosting::hosting(Isolation::Process)).unwrap()
}

/// A fax to `number` of this document.
fn fax(number: &str, media_type: &str, content: Vec<u8>) -> Message {
    let party = |address: &str, name: &str| {
        Some(Party {
            address: address.to_owned(),
            name: name.to_owned(),
        })
    };
    Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: party(number, "Erika Müßig"),
        sender: party("+4956112345", "Stadtwerk \"Lindenau\""),
        reply_to: String::new(),
        content: Some(message::Content::Document(DocumentContent {
            document: Some(Attachment {
                filename: "Angebot.pdf".to_owned(),
                media_type: media_type.to_owned(),
                content,
            }),
            subject: "Ihr Angebot\r\nJKILL 1".to_owned(),
        })),
    }
}

fn tiff_fax(number: &str) -> Message {
    fax(number, "image/tiff", documents::tiff(2))
}

async fn send(instance: &Instance, messages: Vec<Message>) -> Vec<Outcome> {
    let request = SendRequest {
        messages,
        traceparent: String::new(),
    };
    instance.send(request).await.unwrap()
}

/// Provider's id and parts of an accepted fax.
fn accepted(outcome: &Outcome) -> (String, u32) {
    match &outcome.kind {
        Some(outcome::Kind::Accepted(accepted)) => {
            assert!(accepted.accepted_at.is_some());
            (accepted.provider_message_id.clone(), accepted.parts)
        }
        other => panic!("{other:?}"),
    }
}

/// Kind or reason, and code, of what was not accepted.
fn failure(outcome: &Outcome) -> (&'static str, String) {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Permanent(p) => (p.reason().as_str_name(), p.code.clone()),
        outcome::Kind::Transient(t) => ("TRANSIENT", t.code.clone()),
        outcome::Kind::Throttled(t) => ("THROTTLED", t.scope.clone()),
        outcome::Kind::Ambiguous(_) => ("AMBIGUOUS", String::new()),
        other => panic!("{other:?}"),
    }
}

async fn lookup(instance: &Instance, message_ids: &[&str]) -> Vec<LookupResult> {
    let request = LookupRequest {
        message_ids: message_ids.iter().map(|id| (*id).to_owned()).collect(),
        traceparent: String::new(),
    };
    instance.lookup(request).await.unwrap()
}

/// "not found", or the kind of the outcome.
fn found(result: &LookupResult) -> &'static str {
    match result.kind.as_ref().unwrap() {
        lookup_result::Kind::NotFound(_) => "not found",
        lookup_result::Kind::Outcome(outcome) => kinds(std::slice::from_ref(outcome))[0],
    }
}

/// The next event, which has to come.
async fn event(events: &mut Events) -> DeliveryEvent {
    match tokio::time::timeout(Duration::from_secs(120), events.deliveries.recv()).await {
        Ok(Some(PluginEvent::Delivery(event))) => event,
        other => panic!("{other:?}"),
    }
}

/// Waits for something that has to come.
async fn until(what: &str, mut come: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !come().await {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "not within two minutes: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
