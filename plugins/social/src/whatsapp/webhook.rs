//! What WhatsApp notifies us of: messages of people, and what became of ours
//! (<https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>).
//!
//! `sent` says no more than that the message was taken, which its outcome said already: it is no
//! event. One notification may be for several phone numbers of the app; the others' are left alone.

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    CallbackReply, DeliveryEvent, InboundEvent, Party, delivery_event::State,
};
use serde_json::Value;

use crate::common::answer;

/// "User has stopped receipt of marketing messages".
const OPTED_OUT: i64 = 131_050;

pub(super) fn translated(notification: &Value, phone_number_id: &str) -> CallbackReply {
    let mut reply = answer(200);
    for value in ours(notification, phone_number_id) {
        for status in list(&value["statuses"]) {
            reply.deliveries.extend(deliveries(status));
        }
        for message in list(&value["messages"]) {
            reply.inbound.extend(inbound(message, value));
        }
    }
    reply
}

/// The parts of a notification that are for this phone number.
fn ours<'n>(notification: &'n Value, id: &'n str) -> impl Iterator<Item = &'n Value> {
    let is_whatsapp = notification["object"] == "whatsapp_business_account";
    list(&notification["entry"])
        .flat_map(|entry| list(&entry["changes"]))
        .filter(move |change| is_whatsapp && change["field"] == "messages")
        .map(|change| &change["value"])
        .filter(move |value| value["metadata"]["phone_number_id"] == id)
}

fn deliveries(status: &Value) -> Vec<DeliveryEvent> {
    let error = &status["errors"][0];
    let code = error["code"].as_i64();
    let states: &[State] = match (text(&status["status"]), code) {
        ("delivered", _) => &[State::Delivered],
        ("read", _) => &[State::Opened],
        ("failed", Some(OPTED_OUT)) => &[State::Failed, State::Unsubscribed],
        ("failed", _) => &[State::Failed],
        _ => &[],
    };
    let details = text(&error["error_data"]["details"]);
    let event = |state: &State| DeliveryEvent {
        message_id: text(&status["biz_opaque_callback_data"]).to_owned(),
        provider_message_id: text(&status["id"]).to_owned(),
        state: (*state).into(),
        code: code.map(|code| code.to_string()).unwrap_or_default(),
        detail: match details {
            "" => text(&error["title"]).to_owned(),
            details => details.to_owned(),
        },
        occurred_at: Some(time(&status["timestamp"]).into()),
        ..DeliveryEvent::default()
    };
    states.iter().map(event).collect()
}

fn inbound(message: &Value, value: &Value) -> Option<InboundEvent> {
    let (from, id) = (message["from"].as_str()?, message["id"].as_str()?);
    let mut contacts = list(&value["contacts"]);
    let name = contacts
        .find(|contact| contact["wa_id"] == from)
        .map_or("", |contact| text(&contact["profile"]["name"]));
    let plus = |number: &str| match number.starts_with('+') {
        true => number.to_owned(),
        false => format!("+{number}"),
    };
    Some(InboundEvent {
        sender: Some(Party {
            address: plus(from),
            name: name.to_owned(),
        }),
        recipient: Some(Party {
            address: plus(text(&value["metadata"]["display_phone_number"])),
            name: String::new(),
        }),
        text: words(message).to_owned(),
        provider_message_id: id.to_owned(),
        received_at: Some(time(&message["timestamp"]).into()),
        ..InboundEvent::default()
    })
}

/// The words in a message, whatever its type; empty if it has none.
fn words(message: &Value) -> &str {
    match text(&message["type"]) {
        "text" => text(&message["text"]["body"]),
        "button" => text(&message["button"]["text"]),
        "reaction" => text(&message["reaction"]["emoji"]),
        "interactive" => {
            let answer = &message["interactive"];
            let chosen = ["button_reply", "list_reply"];
            chosen
                .iter()
                .map(|kind| text(&answer[kind]["title"]))
                .find(|t| !t.is_empty())
                .unwrap_or("")
        }
        kind => text(&message[kind]["caption"]),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Seconds since 1970, as text.
fn time(seconds: &Value) -> SystemTime {
    let seconds = Duration::from_secs(text(seconds).parse().unwrap_or_default());
    SystemTime::UNIX_EPOCH
        .checked_add(seconds)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
