//! Events of the Event API: what became of messages, as Mailjet posts it. From
//! <https://dev.mailjet.com/email/guides/webhooks/>.
//!
//! Mailjet repeats a call that is not answered with 200 for a day, and tells the same event again
//! then. Events of messages that are not ours are told by Mailjet's name for them; an event of
//! a kind that nobody waits for is dropped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_plugin_sdk::delivery_event::State;
use anklang_plugin_sdk::{CallbackReply, CallbackRequest, DeliveryEvent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use subtle::ConstantTimeEq;

use super::answer::named;
use crate::config::WebhookSettings;
use crate::tags::is_id;

/// Longest text of an event that is passed on, in characters.
const LONGEST_DETAIL: usize = 500;

/// One event. Properties that a kind does not have are empty.
#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    time: u64,
    #[serde(rename = "MessageID", default)]
    message_id: Value,
    #[serde(rename = "Message_GUID", default)]
    guid: Option<String>,
    #[serde(rename = "CustomID", default)]
    custom_id: Option<String>,
    #[serde(default)]
    smtp_reply: Option<String>,
    #[serde(default)]
    hard_bounce: Value,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    comment: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    url: Option<String>,
}

/// Authenticates and translates a call.
pub(super) fn callback(
    request: &CallbackRequest,
    settings: Option<&WebhookSettings>,
) -> CallbackReply {
    let answer = |http_status, deliveries| CallbackReply {
        http_status,
        deliveries,
        ..Default::default()
    };
    if !settings.is_some_and(|settings| is_theirs(request, settings)) {
        return answer(401, Vec::new());
    }
    if request.method != "POST" {
        return answer(405, Vec::new());
    }
    match events(&request.body) {
        Some(events) => answer(
            200,
            events.into_iter().filter_map(Event::delivery).collect(),
        ),
        None => answer(400, Vec::new()),
    }
}

/// One event, or a list of them; `None` if it cannot be read.
fn events(body: &[u8]) -> Option<Vec<Event>> {
    match serde_json::from_slice(body).ok()? {
        Value::Array(events) => events
            .into_iter()
            .map(|event| serde_json::from_value(event).ok())
            .collect(),
        event => Some(vec![serde_json::from_value(event).ok()?]),
    }
}

fn is_theirs(request: &CallbackRequest, settings: &WebhookSettings) -> bool {
    // Both are looked at in any case: how long it takes tells nothing of either.
    let basic = shows(&settings.basic, credentials(request));
    let token = shows(&settings.token, token(request));
    basic & token & (settings.basic.is_some() | settings.token.is_some())
}

fn shows(wanted: &Option<SecretString>, given: Option<Vec<u8>>) -> bool {
    let Some(wanted) = wanted else { return true };
    let given = given.unwrap_or_default();
    wanted.expose_secret().as_bytes().ct_eq(&given).into()
}

/// User and password of the request.
fn credentials(request: &CallbackRequest) -> Option<Vec<u8>> {
    let mut lines = request.headers.iter();
    let line = lines.find(|line| line.name.eq_ignore_ascii_case("authorization"))?;
    let (scheme, value) = line.value.trim().split_once(' ')?;
    let basic = scheme.eq_ignore_ascii_case("basic");
    basic.then(|| BASE64.decode(value.trim()).ok()).flatten()
}

/// The token in the request's URL.
fn token(request: &CallbackRequest) -> Option<Vec<u8>> {
    let (_, query) = request.uri.split_once('?')?;
    let mut pairs = query.split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix("token="))?;
    Some(percent_decode_str(value).collect())
}

/// The enhanced status (RFC 3463) of what Mailjet calls a hard bounce, so that the host knows whether the
/// address is to blame; else Mailjet's words.
/// <https://dev.mailjet.com/email/guides/webhooks/#possible-values-for-errors>
fn status_of(error: &str) -> String {
    match error {
        "user unknown" => "5.1.1",
        "mailbox inactive" => "5.2.1",
        "invalid domain" | "no mail host" => "5.1.2",
        other => other,
    }
    .to_owned()
}

impl Event {
    fn delivery(self) -> Option<DeliveryEvent> {
        let text = |value: Option<String>| value.unwrap_or_default();
        let is_hard = match &self.hard_bounce {
            Value::Bool(hard) => *hard,
            Value::Number(number) => number.as_u64() == Some(1),
            Value::String(text) => text == "true" || text == "1",
            _ => false,
        };
        let (state, code, detail) = match &self.event[..] {
            "sent" => (State::Delivered, String::new(), text(self.smtp_reply)),
            "open" => (State::Opened, String::new(), String::new()),
            // The rest of a link may tell who it is.
            "click" => (
                State::Clicked,
                String::new(),
                without_query(&text(self.url)),
            ),
            "bounce" if is_hard => {
                let error = text(self.error);
                let (code, said) = (status_of(&error), text(self.comment));
                (
                    State::Bounced,
                    code,
                    format!("{error} {said}").trim().to_owned(),
                )
            }
            "bounce" | "blocked" => (State::Failed, text(self.error), text(self.comment)),
            "spam" => (State::Complained, text(self.source), String::new()),
            "unsub" => (State::Unsubscribed, String::new(), String::new()),
            _ => return None,
        };
        let message_id = text(self.custom_id);
        let ours = is_id(&message_id);
        let provider_message_id = named(&text(self.guid), &self.message_id);
        if !ours && provider_message_id.is_empty() {
            return None;
        }
        let at = UNIX_EPOCH.checked_add(Duration::from_secs(self.time));
        let at = at.filter(|_| self.time > 0).unwrap_or_else(SystemTime::now);
        Some(DeliveryEvent {
            event_id: 0,
            message_id: if ours { message_id } else { String::new() },
            provider_message_id,
            state: state.into(),
            code: code.chars().take(50).collect(),
            detail: detail.chars().take(LONGEST_DETAIL).collect(),
            // Clocks differ, and nothing happens in the future.
            occurred_at: Some(at.min(SystemTime::now()).into()),
        })
    }
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
