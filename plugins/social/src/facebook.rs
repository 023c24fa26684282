//! Facebook: posts of a page, and messages of the page's Messenger to single people
//! (<https://developers.facebook.com/docs/pages-api/posts>,
//! <https://developers.facebook.com/docs/messenger-platform/reference/send-api>).
//!
//! People are addressed by their page-scoped id (PSID), which a page learns when they write to it.
//!
//! What the codes of errors mean is in [`refused`]; by
//! <https://developers.facebook.com/docs/messenger-platform/error-codes>.

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    CallbackReply, CallbackRequest, DeliveryEvent, InboundEvent, OpenError, Outcome, Party, Reason,
    delivery_event::State,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{
    Network, Outgoing, To, accepted, address_invalid, answer, by_status, mendable, too_long,
    unanswered,
};
use crate::config::{Connection, Secret, Serves};
use crate::http::Reply;
use crate::meta::{Fault, Graph, GraphConfig};

/// Most characters of a post.
const MOST_OF_POST: usize = 63_206;
/// Most characters of a message.
const MOST_OF_MESSAGE: usize = 2_000;

/// A Facebook page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Id of the page.
    #[schemars(regex(pattern = r"^[0-9]{1,32}$"))]
    page_id: String,
    /// Access token of the page.
    access_token: Secret,
    /// What messages to people are by the rules of Messenger.
    #[serde(default)]
    messaging_type: MessagingType,
    /// The tag of messages of the type `MESSAGE_TAG`.
    tag: Option<Tag>,
    /// How the Graph API is called, and calls us.
    #[serde(default)]
    graph: GraphConfig,
    /// What the account is used for.
    #[serde(default)]
    pub(crate) serves: Serves,
    /// How Facebook is called.
    #[serde(default)]
    pub(crate) connection: Connection,
}

/// What messages are by the rules of Messenger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum MessagingType {
    /// An answer, within 24 hours.
    #[serde(rename = "RESPONSE")]
    Response,
    /// On our own behalf, within 24 hours of the person's last message.
    #[default]
    #[serde(rename = "UPDATE")]
    Update,
    /// For a purpose that is allowed outside of 24 hours.
    #[serde(rename = "MESSAGE_TAG")]
    MessageTag,
}

impl MessagingType {
    fn name(self) -> &'static str {
        match self {
            Self::Response => "RESPONSE",
            Self::Update => "UPDATE",
            Self::MessageTag => "MESSAGE_TAG",
        }
    }
}

/// Purposes that are allowed outside of 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Tag {
    /// A change of the person's account or application.
    #[serde(rename = "ACCOUNT_UPDATE")]
    AccountUpdate,
    /// A reminder or change of an event that the person registered for.
    #[serde(rename = "CONFIRMED_EVENT_UPDATE")]
    ConfirmedEventUpdate,
    /// An answer by a human agent, within seven days.
    #[serde(rename = "HUMAN_AGENT")]
    HumanAgent,
    /// A change of something that the person bought.
    #[serde(rename = "POST_PURCHASE_UPDATE")]
    PostPurchaseUpdate,
}

impl Tag {
    fn name(self) -> &'static str {
        match self {
            Self::AccountUpdate => "ACCOUNT_UPDATE",
            Self::ConfirmedEventUpdate => "CONFIRMED_EVENT_UPDATE",
            Self::HumanAgent => "HUMAN_AGENT",
            Self::PostPurchaseUpdate => "POST_PURCHASE_UPDATE",
        }
    }
}

/// See the module's documentation.
pub(crate) struct Facebook {
    graph: Graph,
    page_id: String,
    messaging_type: MessagingType,
    tag: Option<Tag>,
}

impl Facebook {
    pub(crate) async fn open(config: &Config) -> Result<(Self, Vec<SecretString>), OpenError> {
        let is_tagged = config.messaging_type == MessagingType::MessageTag;
        if is_tagged != config.tag.is_some() {
            let reason = "tag: goes with messaging_type = \"MESSAGE_TAG\"";
            return Err(crate::config::invalid(reason));
        }
        let graph = Graph::open(&config.graph, &config.access_token, &config.connection).await?;
        let secrets = graph.secrets();
        let network = Self {
            graph,
            page_id: config.page_id.clone(),
            messaging_type: config.messaging_type,
            tag: config.tag,
        };
        Ok((network, secrets))
    }

    async fn deliver(&self, message: &Outgoing) -> Result<Outcome, Outcome> {
        let length = message.text.chars().count();
        let (edge, id, most, body) = match &message.to {
            To::Public => {
                let body = json!({ "message": message.text });
                ("feed", "id", MOST_OF_POST, body)
            }
            To::Person(person) => {
                let is_id = (1..=32).contains(&person.len());
                if !is_id || !person.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(address_invalid("the page-scoped id of a person: a number"));
                }
                let mut body = json!({
                    "recipient": { "id": person },
                    "messaging_type": self.messaging_type.name(),
                    "message": { "text": message.text },
                });
                if let Some(tag) = self.tag {
                    body["tag"] = tag.name().into();
                }
                ("messages", "message_id", MOST_OF_MESSAGE, body)
            }
        };
        if length > most {
            return Err(too_long(length, most));
        }
        let call = self.graph.post(&[&self.page_id, edge]).json(&body);
        let reply = self.graph.http.call(call).await.map_err(unanswered)?;
        match reply.json()[id].as_str() {
            Some(id) if reply.is_success() => Ok(accepted(id, "")),
            _ => Err(refused(&reply)),
        }
    }
}

/// The outcome of a refusal.
fn refused(reply: &Reply) -> Outcome {
    let Some(fault) = Fault::of(reply) else {
        return by_status(reply, "");
    };
    match (fault.code, fault.subcode) {
        // Not available; no such person; receives nothing from us.
        (551, _) | (100, Some(2_018_001)) | (_, Some(2_018_108)) => {
            fault.permanent(Reason::Recipient)
        }
        // Outside of the allowed window.
        (10, Some(2_018_065 | 2_018_278)) => fault.permanent_as(Reason::Config, "OUTSIDE_24_HOURS"),
        (506, _) => fault.permanent_as(Reason::Content, "DUPLICATE"),
        // "Temporary send message failure. Please try again later."
        (1200, _) => Outcome::transient(fault.name(), fault.detail()),
        _ => fault.common(reply),
    }
}

impl Network for Facebook {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome> {
        async move { self.deliver(message).await.unwrap_or_else(|failed| failed) }.boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>> {
        async move {
            let found = self.graph.fields(&self.page_id, "id,name").await?;
            match found["name"].as_str() {
                Some(name) => Ok(format!("Facebook: {name}")),
                None => Err(mendable("page_id: this is no page")),
            }
        }
        .boxed()
    }

    fn callback(&self, request: &CallbackRequest) -> CallbackReply {
        let notification = match self.graph.notification(request) {
            Ok(notification) => notification,
            Err(reply) => return reply,
        };
        let mut reply = answer(200);
        let is_page = notification["object"] == "page";
        let entries = list(&notification["entry"]).filter(|entry| entry["id"] == self.page_id);
        for event in entries
            .flat_map(|entry| list(&entry["messaging"]))
            .filter(|_| is_page)
        {
            reply.deliveries.extend(deliveries(event));
            reply.inbound.extend(inbound(event));
        }
        reply
    }
}

/// Notifications of delivery name messages; those of reading name a time alone, and are no events.
fn deliveries(event: &Value) -> impl Iterator<Item = DeliveryEvent> {
    let delivered = &event["delivery"];
    let ids = list(&delivered["mids"]).filter_map(Value::as_str);
    ids.map(|id| DeliveryEvent {
        provider_message_id: id.to_owned(),
        state: State::Delivered.into(),
        occurred_at: Some(time(&delivered["watermark"]).into()),
        ..DeliveryEvent::default()
    })
}

/// A message of a person, or a button that was pressed.
fn inbound(event: &Value) -> Option<InboundEvent> {
    let (message, pressed) = (&event["message"], &event["postback"]);
    if message["is_echo"] == true {
        return None;
    }
    let id = message["mid"].as_str().or(pressed["mid"].as_str())?;
    let text = message["text"].as_str().or(pressed["title"].as_str());
    let party = |id: &Value| Party {
        address: id["id"].as_str().unwrap_or_default().to_owned(),
        name: String::new(),
    };
    Some(InboundEvent {
        sender: Some(party(&event["sender"])),
        recipient: Some(party(&event["recipient"])),
        text: text.unwrap_or_default().to_owned(),
        provider_message_id: id.to_owned(),
        received_at: Some(time(&event["timestamp"]).into()),
        ..InboundEvent::default()
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Milliseconds since 1970.
fn time(millis: &Value) -> SystemTime {
    let millis = Duration::from_millis(millis.as_u64().unwrap_or_default());
    SystemTime::UNIX_EPOCH
        .checked_add(millis)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}
