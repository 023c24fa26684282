//! WhatsApp: the Cloud API of the WhatsApp Business Platform
//! (<https://developers.facebook.com/documentation/business-messaging/whatsapp/>).
//!
//! A message is a text, which people get who wrote to us in the last 24 hours; or, where the account
//! has a template, that template with the lines of the text as its variables. It carries our message
//! id (`biz_opaque_callback_data`), which notifications of its delivery bring back ([`webhook`]).
//!
//! What the codes of errors mean is in [`refused`]; by
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>.

mod webhook;

use anklang_plugin_sdk::{CallbackReply, CallbackRequest, OpenError, Outcome, Reason};
use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{
    Network, Outgoing, REST, To, accepted, account_rests, address_invalid, by_status, content,
    mendable, no_public_posts, too_long, unanswered,
};
use crate::config::{Connection, Secret, Serves};
use crate::http::Reply;
use crate::meta::{Fault, Graph, GraphConfig};

/// Most characters of a text.
const MOST: usize = 4096;
/// Most characters of a template's variable.
const MOST_OF_VARIABLE: usize = 1024;

/// A phone number of the WhatsApp Business Platform.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Id of the phone number, which is not the number itself.
    #[schemars(regex(pattern = r"^[0-9]{1,32}$"))]
    phone_number_id: String,
    /// Access token of a system user.
    access_token: Secret,
    /// The template that messages are sent with; without it they are plain texts.
    template: Option<Template>,
    /// How the Graph API is called, and calls us.
    #[serde(default)]
    graph: GraphConfig,
    /// What the account is used for; it cannot post publicly.
    #[serde(default)]
    pub(crate) serves: Serves,
    /// How WhatsApp is called.
    #[serde(default)]
    pub(crate) connection: Connection,
}

/// A template that lies with WhatsApp. Each line of the text that is not blank fills the next
/// variable of its body.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    /// Its name.
    #[schemars(regex(pattern = r"^[a-z0-9_]{1,512}$"))]
    name: String,
    /// Its language: `de`, `en_US`.
    #[schemars(regex(pattern = r"^[a-z]{2,3}(_[A-Z]{2,3})?$"))]
    language: String,
}

/// See the module's documentation.
pub(crate) struct WhatsApp {
    graph: Graph,
    phone_number_id: String,
    template: Option<Template>,
}

impl WhatsApp {
    pub(crate) async fn open(config: &Config) -> Result<(Self, Vec<SecretString>), OpenError> {
        let graph = Graph::open(&config.graph, &config.access_token, &config.connection).await?;
        let secrets = graph.secrets();
        let network = Self {
            graph,
            phone_number_id: config.phone_number_id.clone(),
            template: config.template.clone(),
        };
        Ok((network, secrets))
    }

    async fn deliver(&self, message: &Outgoing) -> Result<Outcome, Outcome> {
        let To::Person(address) = &message.to else {
            return Err(no_public_posts());
        };
        let mut body = json!({
            "messaging_product": "whatsapp",
            "recipient_type": "individual",
            "to": phone(address)?,
            "biz_opaque_callback_data": message.id,
        });
        match &self.template {
            Some(template) => {
                body["type"] = "template".into();
                body["template"] = filled(template, &message.text)?;
            }
            None => {
                let length = message.text.chars().count();
                if length > MOST {
                    return Err(too_long(length, MOST));
                }
                body["type"] = "text".into();
                body["text"] = json!({ "preview_url": false, "body": message.text });
            }
        }
        let call = self.graph.post(&[&self.phone_number_id, "messages"]);
        let reply = self.graph.http.call(call.json(&body)).await;
        let reply = reply.map_err(unanswered)?;
        let answer = reply.json();
        match answer["messages"][0]["id"].as_str() {
            Some(id) if reply.is_success() => {
                let status = answer["messages"][0]["message_status"].as_str();
                Ok(accepted(id, status.unwrap_or_default()))
            }
            _ => Err(refused(&reply)),
        }
    }
}

/// A phone number with its `+`.
fn phone(address: &str) -> Result<String, Outcome> {
    let digits = address.strip_prefix('+').unwrap_or(address);
    match (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(format!("+{digits}")),
        false => Err(address_invalid("a phone number: +491701234567")),
    }
}

/// The template with the lines of a text as its variables.
fn filled(template: &Template, text: &str) -> Result<Value, Outcome> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let variables: Vec<Value> = lines
        .map(|line| {
            let length = line.chars().count();
            if length > MOST_OF_VARIABLE {
                return Err(too_long(length, MOST_OF_VARIABLE));
            }
            if line.contains('\t') || line.contains("     ") {
                let detail = "variables of templates have no tabs and at most four spaces in a row";
                return Err(content("TEMPLATE_VARIABLE", detail));
            }
            Ok(json!({ "type": "text", "text": line }))
        })
        .collect::<Result<_, _>>()?;
    Ok(json!({
        "name": template.name,
        "language": { "code": template.language },
        "components": [{ "type": "body", "parameters": variables }],
    }))
}

/// The outcome of a refusal.
fn refused(reply: &Reply) -> Outcome {
    let Some(fault) = Fault::of(reply) else {
        return by_status(reply, "");
    };
    match fault.code {
        // Throughput, and too many blocked or reported messages.
        80_007 | 130_429 | 131_048 | 133_016 => account_rests(None),
        // Too many from us to this one person.
        131_056 => Outcome::throttled(REST, "recipient"),
        131_047 => fault.permanent_as(Reason::Config, "OUTSIDE_24_HOURS"),
        131_026 => fault.permanent_as(Reason::Recipient, "UNDELIVERABLE"),
        131_050 => fault.permanent_as(Reason::Recipient, "OPTED_OUT"),
        131_049 => fault.permanent_as(Reason::Recipient, "KEPT_BACK"),
        // To ourselves, not on the list of a test number, an experiment, a country.
        131_021 | 131_030 | 130_472 | 130_497 => fault.permanent(Reason::Recipient),
        // Locked, unpaid, not registered: messages wait until it is mended.
        131_031 | 131_042 | 131_045 | 133_010 | 33 => mendable(fault.detail()),
        131_005 | 132_000..=132_999 => fault.permanent(Reason::Config),
        // "Failed to send", "unavailable", "maintenance": they say that nothing was taken.
        131_000 | 131_016 | 131_057 | 133_004 => Outcome::transient(fault.name(), fault.detail()),
        _ => fault.common(reply),
    }
}

impl Network for WhatsApp {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome> {
        async move { self.deliver(message).await.unwrap_or_else(|failed| failed) }.boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>> {
        async move {
            let fields = "display_phone_number,verified_name";
            let found = self.graph.fields(&self.phone_number_id, fields).await?;
            match found["display_phone_number"].as_str() {
                Some(number) => Ok(format!("WhatsApp: {number}")),
                None => Err(mendable("phone_number_id: this is no phone number")),
            }
        }
        .boxed()
    }

    fn callback(&self, request: &CallbackRequest) -> CallbackReply {
        match self.graph.notification(request) {
            Ok(notification) => webhook::translated(&notification, &self.phone_number_id),
            Err(reply) => reply,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fill_variables() {
        let template = Template {
            name: "angebot".to_owned(),
            language: "de".to_owned(),
        };
        let text = "Frau Müßig\n\n  Angebot A-17 \r\nhttps://example.org\n";
        let filled = filled(&template, text).expect("it fits");
        let texts: Vec<&str> = (0..3)
            .filter_map(|i| filled["components"][0]["parameters"][i]["text"].as_str())
            .collect();
        assert_eq!(texts, ["Frau Müßig", "Angebot A-17", "https://example.org"]);
        for bad in ["a\tb", "a     b", &"a".repeat(1025)] {
            assert!(super::filled(&template, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn phone_numbers_have_a_plus() {
        for good in ["+491701234567", "491701234567"] {
            assert_eq!(phone(good).ok().as_deref(), Some("+491701234567"));
        }
        for bad in ["", "+", "123456", "+49170123456789012", "+49 170", "@erika"] {
            assert!(phone(bad).is_err(), "{bad}");
        }
    }
}
