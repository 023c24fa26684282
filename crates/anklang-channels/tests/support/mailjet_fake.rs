//! Mailjet, as it is documented: whatever is not written there is refused, and makes the test fail.
//!
//! - Send API v3.1: <https://dev.mailjet.com/email/guides/send-api-v31/> and
//!   <https://github.com/mailjet/api-documentation/blob/master/guides/_send-api.md>: properties,
//!   limits, forbidden headers, errors.
//! - Messages by CustomID: <https://dev.mailjet.com/email/reference/messages/>.
//!
//! How it answers is said by the recipient's local part: `mj0013`, `http500`, `hang`, …

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const API_KEY: &str = "api-key";
pub const SECRET_KEY: &str = "secret-key";

#[derive(Default)]
struct Seen {
    /// The messages that were taken.
    taken: Vec<Value>,
    /// Messages of each call.
    calls: Vec<usize>,
    sandboxed: usize,
    /// What the documentation does not know.
    faults: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

pub struct Fake {
    url: String,
    seen: Shared,
    serving: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
        if !std::thread::panicking() {
            let faults = &self.seen.lock().unwrap().faults;
            assert!(faults.is_empty(), "not as documented: {faults:#?}");
        }
    }
}

impl Fake {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Shared::default();
        let routes = Router::new()
            .route("/v3.1/send", post(send))
            .route("/v3/REST/message", get(messages))
            .fallback(unknown)
            .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(Arc::clone(&seen));
        let serving = tokio::spawn(async move {
            axum::serve(listener, routes).await.unwrap();
        });
        Self { url, seen, serving }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn taken(&self) -> Vec<Value> {
        self.seen.lock().unwrap().taken.clone()
    }

    pub fn calls(&self) -> Vec<usize> {
        let mut calls = self.seen.lock().unwrap().calls.clone();
        calls.sort_unstable();
        calls
    }

    pub fn sandboxed(&self) -> usize {
        self.seen.lock().unwrap().sandboxed
    }
}

async fn unknown(State(seen): State<Shared>, request: axum::extract::Request) -> StatusCode {
    let fault = format!("{} {}", request.method(), request.uri());
    seen.lock().unwrap().faults.push(fault);
    StatusCode::NOT_FOUND
}

fn is_authorized(headers: &HeaderMap) -> bool {
    let expected = format!("Basic {}", BASE64.encode(format!("{API_KEY}:{SECRET_KEY}")));
    headers
        .get("authorization")
        .is_some_and(|value| value == &expected)
}

fn json_of(body: &Value) -> Response {
    ([("content-type", "application/json")], body.to_string()).into_response()
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let body = json!({
        "ErrorIdentifier": "06df1144-c6f3-4ca7-8885-7ec5d4344113", "ErrorCode": code,
        "ErrorMessage": message, "StatusCode": status,
    });
    (StatusCode::from_u16(status).unwrap(), json_of(&body)).into_response()
}

async fn send(State(seen): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    if !is_authorized(&headers) {
        return error(
            401,
            "mj-0015",
            "API key authentication/authorization failure.",
        );
    }
    let fault = |reason: String| seen.lock().unwrap().faults.push(reason);
    if headers
        .get("content-type")
        .is_none_or(|kind| kind != "application/json")
    {
        fault("Content-Type is not application/json".to_owned());
    }
    let Ok(Value::Object(call)) = serde_json::from_slice(&body) else {
        return error(400, "mj-0002", "Malformed JSON, please review the syntax.");
    };
    for name in call
        .keys()
        .filter(|name| !["Messages", "SandboxMode"].contains(&&name[..]))
    {
        fault(format!("unknown property {name}"));
    }
    let messages = call["Messages"].as_array().unwrap().clone();
    seen.lock().unwrap().calls.push(messages.len());
    if messages.is_empty() || messages.len() > 50 {
        fault(format!("{} messages", messages.len()));
    }
    let locals: Vec<_> = messages.iter().map(local).collect();
    let said = |local: &str| locals.iter().any(|found| found == local);
    if said("http429") {
        let limited = error(429, "mj-0429", "Too many requests");
        return ([("Retry-After", "17")], limited).into_response();
    }
    for status in [403, 404, 500, 503] {
        if said(&format!("http{status}")) {
            return StatusCode::from_u16(status).unwrap().into_response();
        }
    }
    if said("poison") {
        return error(400, "mj-0002", "Malformed JSON, please review the syntax.");
    }
    let sandbox = call.get("SandboxMode") == Some(&json!(true));
    let answers: Vec<Value> = messages.iter().map(|m| one(&seen, m, sandbox)).collect();
    if said("hang") {
        // Taken, and never answered.
        std::future::pending::<()>().await;
    }
    if said("nonsense") {
        return "<html>Bad gateway</html>".into_response();
    }
    let failed = answers.iter().any(|answer| answer["Status"] == "error");
    let status = if failed {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    };
    (status, json_of(&json!({ "Messages": answers }))).into_response()
}

fn local(message: &Value) -> String {
    let address = message["To"][0]["Email"].as_str().unwrap_or_default();
    address.split('@').next().unwrap_or_default().to_owned()
}

/// The answer of one message.
fn one(seen: &Shared, message: &Value, sandbox: bool) -> Value {
    let refused = |status: u16, code: &str, text: &str, related: &str| {
        json!({ "Status": "error", "Errors": [{
            "ErrorIdentifier": "88b5ca9f-5f1f-42e7-a45e-9ecbad0c285e", "ErrorCode": code,
            "StatusCode": status, "ErrorMessage": text, "ErrorRelatedTo": [related],
        }] })
    };
    if let Err(reason) = check(message) {
        seen.lock().unwrap().faults.push(reason.clone());
        return refused(400, "mj-0003", &reason, "");
    }
    match &local(message)[..] {
        "mj0013" => return refused(400, "mj-0013", "Invalid email address.", "To[0].Email"),
        "send0008" => return refused(403, "send-0008", "\"From\" is not authorized.", "From"),
        "send0010" => return refused(400, "send-0010", "Template not owned.", "TemplateID"),
        "mj0006" => return refused(400, "mj-0006", "Subject is too long.", "Subject"),
        _ => {}
    }
    let mut seen = seen.lock().unwrap();
    if sandbox {
        seen.sandboxed += 1;
    } else {
        seen.taken.push(message.clone());
    }
    let number = 70_650_219_165_027_410_u64 + u64::try_from(seen.taken.len()).unwrap();
    json!({
        "Status": "success",
        "CustomID": message["CustomID"],
        "To": [{
            "Email": message["To"][0]["Email"],
            "MessageUUID": uuid_of(message),
            "MessageID": number,
            "MessageHref": format!("https://api.mailjet.com/v3/REST/message/{number}"),
        }],
        "Cc": [],
        "Bcc": [],
    })
}

/// Mailjet's name for a message, here made of ours.
fn uuid_of(message: &Value) -> String {
    format!("mj-{}", message["CustomID"].as_str().unwrap())
}

async fn messages(
    State(seen): State<Shared>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    if !is_authorized(&headers) {
        return error(
            401,
            "mj-0015",
            "API key authentication/authorization failure.",
        );
    }
    let query = query.unwrap_or_default();
    let query: HashMap<&str, &str> = query.split('&').filter_map(|q| q.split_once('=')).collect();
    let mut seen = seen.lock().unwrap();
    for name in query
        .keys()
        .filter(|name| !["CustomID", "Limit"].contains(name))
    {
        seen.faults.push(format!("unknown filter {name}"));
    }
    let wanted = query.get("CustomID");
    let found: Vec<Value> = seen
        .taken
        .iter()
        .filter(|message| wanted.is_none_or(|id| message["CustomID"] == **id))
        .map(|message| {
            json!({
                "ArrivedAt": "2026-11-22T10:00:00Z", "AttachmentCount": 0, "AttemptCount": 0,
                "ID": 576_460_752_303_423_487_u64, "UUID": uuid_of(message), "Status": "sent",
            })
        })
        .collect();
    let body = json!({ "Count": found.len(), "Data": found, "Total": found.len() });
    json_of(&body)
}

/// What the documentation demands of a message.
fn check(message: &Value) -> Result<(), String> {
    let message = message.as_object().ok_or("a message is no object")?;
    for (name, value) in message {
        let fits = match &name[..] {
            "From" | "ReplyTo" => is_address(value),
            "To" => value
                .as_array()
                .is_some_and(|to| to.len() == 1 && is_address(&to[0])),
            "Subject" => value
                .as_str()
                .is_some_and(|text| text.chars().count() <= 255),
            "TextPart" | "HTMLPart" => value.as_str().is_some_and(|text| !text.is_empty()),
            "TemplateID" => value.is_u64(),
            "TemplateLanguage" => value.is_boolean(),
            "Variables" => value.is_object(),
            "Attachments" => value
                .as_array()
                .is_some_and(|all| all.iter().all(is_attachment)),
            "Headers" => value.as_object().is_some_and(|all| {
                all.iter()
                    .all(|(name, value)| may_be_set(name) && value.is_string())
            }),
            "TrackOpens" | "TrackClicks" => {
                let values = ["account_default", "disabled", "enabled"];
                let allowed = value.as_str().is_some_and(|value| values.contains(&value));
                allowed && message.contains_key("HTMLPart")
            }
            "CustomID" => value.as_str().is_some_and(|id| !id.is_empty()),
            _ => false,
        };
        if !fits {
            return Err(format!("{name} is unknown or has a wrong value: {value}"));
        }
    }
    let has = |name: &str| message.contains_key(name);
    let body = has("TextPart") || has("HTMLPart");
    match () {
        () if !has("To") || !has("CustomID") => Err("To or CustomID is missing".to_owned()),
        () if !has("From") => Err("From is missing".to_owned()),
        () if body == has("TemplateID") => Err("either a body or a template".to_owned()),
        () if has("Variables") && !has("TemplateLanguage") => {
            Err("variables without template language".to_owned())
        }
        () => Ok(()),
    }
}

fn is_address(value: &Value) -> bool {
    let email = value["Email"].as_str();
    let name = value
        .get("Name")
        .is_none_or(|name| name.as_str().is_some_and(|n| !n.is_empty()));
    let known = value
        .as_object()
        .is_some_and(|all| all.keys().all(|k| k == "Email" || k == "Name"));
    known && name && email.is_some_and(|email| email.contains('@') && email.is_ascii())
}

fn is_attachment(value: &Value) -> bool {
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
    let content = text("Base64Content").and_then(|content| BASE64.decode(content).ok());
    let count = value.as_object().map(serde_json::Map::len);
    count == Some(3)
        && text("ContentType").is_some()
        && text("Filename").is_some()
        && content.is_some()
}

/// The list of forbidden headers, and those that have a property of their own.
fn may_be_set(name: &str) -> bool {
    let forbidden = [
        "From",
        "Sender",
        "Subject",
        "To",
        "Cc",
        "Bcc",
        "Return-Path",
        "Delivered-To",
        "DKIM-Signature",
        "DomainKey-Status",
        "Received-SPF",
        "Authentication-Results",
        "Received",
        "X-Mailjet-Prio",
        "X-Mailjet-Debug",
        "User-Agent",
        "X-Mailer",
        "X-MJ-CustomID",
        "X-MJ-EventPayload",
        "X-MJ-Vars",
        "X-MJ-TemplateErrorDeliver",
        "X-MJ-TemplateErrorReporting",
        "X-MJ-TemplateLanguage",
        "X-Mailjet-TrackOpen",
        "X-Mailjet-TrackClick",
        "X-MJ-TemplateID",
        "X-MJ-WorkflowID",
        "X-Feedback-Id",
        "X-Mailjet-Segmentation",
        "List-Id",
        "X-MJ-MID",
        "X-MJ-ErrorMessage",
        "Date",
        "X-CSA-Complaints",
        "Message-Id",
        "X-Mailjet-Campaign",
        "X-MJ-StatisticsContactsListID",
        "Reply-To",
    ];
    !forbidden
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
}
