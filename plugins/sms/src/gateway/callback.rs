//! Callbacks of the gateway: delivery reports, and messages that somebody sent.
//!
//! Both are requests whose parameters stand in the query or, as a form, in the body. The message's id
//! travels in the URL that goes along with the message, and comes back with the report; so it does
//! not matter what the gateway calls the message. Every request has to carry the account's token,
//! which is compared in the same time whatever is wrong with it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    CallbackReply, CallbackRequest, DeliveryEvent, InboundEvent, Party, delivery_event::State,
};
use percent_encoding::percent_decode;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::config::Settings;
use crate::text::{from_latin1, from_ucs2};

/// Longest id of a message: a UUID has 36 characters.
const LONGEST_ID: usize = 64;
/// Most characters of an address that comes in.
const LONGEST_ADDRESS: usize = 64;

/// What the gateway calls for the report of a message. What begins with `%` it replaces: %d is what
/// happened, %T when, %A what the message centre said.
pub(super) fn report_url(url: &str, token: &SecretString, message_id: &str) -> String {
    // Ids are UUIDs; what could be read as another parameter or escape does not go out.
    let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
    let id: String = message_id.chars().filter(plain).take(LONGEST_ID).collect();
    let token = token.expose_secret();
    format!("{url}?token={token}&message={id}&status=%d&at=%T&reply=%A")
}

/// Checks a request and says what it means.
pub(super) fn translated(settings: &Settings, request: &CallbackRequest) -> CallbackReply {
    if !["GET", "POST"].contains(&request.method.as_str()) {
        return status(405);
    }
    let parameters = parameters(request);
    if !is_authentic(settings, request, &parameters) {
        return status(401);
    }
    if parameters.contains_key("status") {
        return report(&parameters);
    }
    if parameters.contains_key("from") {
        return inbound(&parameters);
    }
    status(400)
}

fn status(http_status: u32) -> CallbackReply {
    CallbackReply {
        http_status,
        ..CallbackReply::default()
    }
}

type Parameters = HashMap<String, Vec<u8>>;

/// The parameters of query and form, decoded to bytes: a text may be UTF-16.
fn parameters(request: &CallbackRequest) -> Parameters {
    let query = request.uri.split_once('?').map_or("", |(_, query)| query);
    let is_form = request.headers.iter().any(|header| {
        let value = header.value.to_ascii_lowercase();
        header.name.eq_ignore_ascii_case("content-type")
            && value.starts_with("application/x-www-form-urlencoded")
    });
    let form: &[u8] = if is_form { &request.body } else { b"" };
    let pairs = query.as_bytes().split(|octet| *octet == b'&');
    let pairs = pairs.chain(form.split(|octet| *octet == b'&'));
    let mut parameters = Parameters::new();
    for pair in pairs.filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|octet| *octet == b'=');
        let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
        let value = value.strip_prefix(b"=").unwrap_or_default();
        let name = String::from_utf8_lossy(&decoded(name)).into_owned();
        // The first counts: it is ours, what a sender writes comes behind.
        parameters.entry(name).or_insert_with(|| decoded(value));
    }
    parameters
}

fn decoded(octets: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = octets
        .iter()
        .map(|o| if *o == b'+' { b' ' } else { *o })
        .collect();
    percent_decode(&spaced).collect()
}

fn is_authentic(settings: &Settings, request: &CallbackRequest, parameters: &Parameters) -> bool {
    let Some(token) = &settings.callback_token else {
        return false;
    };
    let token = token.expose_secret().as_bytes();
    let header = request
        .headers
        .iter()
        .find(|header| {
            header
                .name
                .eq_ignore_ascii_case(settings.callback_header.as_str())
        })
        .map(|header| header.value.as_bytes());
    let given = header.or(parameters.get("token").map(Vec::as_slice));
    given.is_some_and(|given| bool::from(given.ct_eq(token)))
}

fn text<'p>(parameters: &'p Parameters, name: &str) -> std::borrow::Cow<'p, str> {
    parameters
        .get(name)
        .map(|value| String::from_utf8_lossy(value))
        .unwrap_or_default()
}

fn time(parameters: &Parameters, name: &str) -> SystemTime {
    let now = SystemTime::now();
    let seconds = text(parameters, name).trim().parse().ok();
    let at = seconds.and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)));
    at.filter(|at| *at <= now && *at > SystemTime::UNIX_EPOCH)
        .unwrap_or(now)
}

/// A delivery report: 1 delivered, 2 failed, 16 rejected; 4 and 8 say that it is on its way.
fn report(parameters: &Parameters) -> CallbackReply {
    let message_id = text(parameters, "message");
    let is_id = |id: &str| {
        (1..=LONGEST_ID).contains(&id.len())
            && id
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
    };
    let Ok(status_code) = text(parameters, "status").trim().parse::<u32>() else {
        return status(400);
    };
    if !is_id(&message_id) {
        return status(400);
    }
    let (state, code) = match status_code {
        1 => (State::Delivered, "DELIVERED"),
        2 => (State::Failed, "FAILED"),
        16 => (State::Failed, "REJECTED"),
        _ => return status(200),
    };
    CallbackReply {
        http_status: 200,
        deliveries: vec![DeliveryEvent {
            message_id: message_id.into_owned(),
            state: state.into(),
            code: reported(&text(parameters, "reply")).unwrap_or_else(|| code.to_owned()),
            occurred_at: Some(time(parameters, "at").into()),
            ..DeliveryEvent::default()
        }],
        ..CallbackReply::default()
    }
}

/// State and error of the message centre, as in `stat:UNDELIV err:011`. Only these: the rest of its
/// reply can hold the text of the message.
fn reported(reply: &str) -> Option<String> {
    let word = |key: &str| {
        let words = reply.split_whitespace();
        let value = words.filter_map(|word| word.strip_prefix(key)).next()?;
        let plain = value.bytes().all(|octet| octet.is_ascii_alphanumeric());
        (plain && (1..=16).contains(&value.len())).then_some(value)
    };
    let state = word("stat:")?;
    let error = word("err:").filter(|error| error.bytes().any(|octet| octet != b'0'));
    Some(error.map_or(state.to_owned(), |error| format!("{state} {error}")))
}

/// A message that somebody sent: `from`, `to`, `text`, and where the gateway knows them `charset`,
/// `id` and `at`.
fn inbound(parameters: &Parameters) -> CallbackReply {
    let party = |name: &str| {
        let address: String = text(parameters, name)
            .trim()
            .chars()
            .take(LONGEST_ADDRESS)
            .collect();
        Party {
            address,
            name: String::new(),
        }
    };
    let (sender, recipient) = (party("from"), party("to"));
    let Some(octets) = parameters
        .get("text")
        .filter(|_| !sender.address.is_empty())
    else {
        return status(400);
    };
    let charset = text(parameters, "charset").to_ascii_uppercase();
    let text_of = match charset.as_str() {
        "UTF-16BE" | "UTF16-BE" | "UCS-2" | "UCS2" => from_ucs2(octets),
        "ISO-8859-1" | "LATIN1" => from_latin1(octets),
        // Binary: what it means is nobody's to know.
        "8-BIT" | "BINARY" => String::new(),
        _ => String::from_utf8_lossy(octets).into_owned(),
    };
    CallbackReply {
        http_status: 200,
        inbound: vec![InboundEvent {
            sender: Some(sender),
            recipient: Some(recipient),
            text: text_of,
            provider_message_id: text(parameters, "id").chars().take(LONGEST_ID).collect(),
            received_at: Some(time(parameters, "at").into()),
            ..InboundEvent::default()
        }],
        ..CallbackReply::default()
    }
}

#[cfg(test)]
mod tests;
