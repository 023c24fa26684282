//! An account at an HTTP gateway that takes messages as Kannel's `sendsms` does.
//!
//! | the gateway … | outcome |
//! |---|---|
//! | answers 2xx, with the code 0 or 3 where it has one | accepted |
//! | answers 2xx with another code | transient |
//! | answers 400, 413, 414, 415 or 422 | permanent, content |
//! | answers 401, 404, 405, 407 | transient `CONFIG` |
//! | answers 403 | transient `CONFIG`, or permanent if it says "not routable" |
//! | answers 429 or 503 | throttled, account |
//! | answers another 4xx or 5xx | transient |
//! | cannot be reached | transient `CONNECT` |
//! | **is silent after the request was begun, or its answer makes no sense** | **ambiguous** |
//!
//! Connections are not used again: on one that the gateway closes in the same moment, nobody could
//! say whether the message was taken.

mod callback;
pub(crate) mod config;

use std::error::Error as _;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{
    Busy, CallbackReply, CallbackRequest, HealthReply, Message, OpenError, Outcome, Reason,
    health_reply::Status,
};
use bytes::Bytes;
use futures::future::join_all;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::ExposeSecret;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use url::form_urlencoded::Serializer;

use self::config::{GatewayConfig, Method, Settings};
use crate::message::{Letter, accepted};
use crate::text::Alphabet;

/// Most bytes of an answer that are read.
const MAX_BODY: usize = 16 * 1024;
/// Longest text of the gateway that is passed on, in characters.
const LONGEST_DETAIL: usize = 200;
/// When to come back with messages that were not begun in time.
const RETRY_LATE: Duration = Duration::from_secs(5);
/// How long the account rests when the gateway wants that and does not say how long.
const ACCOUNT_RESTS: Duration = Duration::from_secs(10);
/// The longest rest that the gateway may ask for.
const LONGEST_REST: Duration = Duration::from_secs(300);
/// Patience of a health check.
const PROBE: Duration = Duration::from_secs(5);
/// Delivered, failed, rejected: the reports that end something.
const REPORTS: &str = "19";

/// See the module's documentation.
pub(crate) struct Gateway {
    settings: Settings,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    places: Semaphore,
    /// Messages that were told to come later.
    busy: Busy,
}

impl Gateway {
    pub(crate) async fn open(config: GatewayConfig) -> Result<Self, OpenError> {
        let settings = config.resolve().await?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(settings.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(settings.tls.clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self {
            places: Semaphore::new(settings.connections),
            busy: Busy::default(),
            settings,
            client,
        })
    }

    pub(crate) async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let deadline = Instant::now() + self.settings.begin_within;
        // The rest that the gateway asked for: further messages get the same without a try.
        let rest = &OnceLock::new();
        let all = batch.iter().map(|message| async move {
            let Settings {
                sender,
                transliterate,
                max_segments,
                ..
            } = &self.settings;
            let sender = sender.as_deref();
            let letter = match Letter::read(message, sender, *transliterate, *max_segments) {
                Ok(letter) => letter,
                Err(refused) => return refused,
            };
            let Ok(_place) = timeout_at(deadline, self.places.acquire()).await else {
                return Outcome::throttled(RETRY_LATE, "the gateway is slow");
            };
            if let Some(rest) = rest.get() {
                return Outcome::clone(rest);
            }
            let outcome = self.hand_over(&letter).await;
            if outcome.rests_account() {
                rest.get_or_init(|| outcome.clone());
            }
            outcome
        });
        join_all(all).await
    }

    async fn hand_over(&self, letter: &Letter<'_>) -> Outcome {
        let request = match self.request(letter) {
            Ok(request) => request,
            Err(error) => {
                let detail = format!("no request can be made: {error}");
                return Outcome::permanent(Reason::Config, "URL", detail);
            }
        };
        let patience = self.settings.timeout;
        let answered = timeout(patience, async {
            let response = self.client.request(request).await.map_err(|error| {
                let text = causes(&error);
                match error.is_connect() {
                    true => Outcome::transient("CONNECT", text),
                    false => Outcome::ambiguous(format!("no answer to the request: {text}")),
                }
            })?;
            let (head, body) = response.into_parts();
            // An answer whose body breaks off is one by its status alone.
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            Ok((head.status, head.headers, body))
        });
        match answered.await {
            Ok(Ok((status, headers, body))) => {
                let text = shortened(&String::from_utf8_lossy(&body));
                let told = asks_for_rest(status) && !self.busy.blames(letter.message_id);
                judged(status, &headers, &text, letter, told)
            }
            Ok(Err(outcome)) => outcome,
            Err(_) => Outcome::ambiguous(format!("no answer within {patience:?}")),
        }
    }

    fn request(&self, letter: &Letter<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
        let settings = &self.settings;
        let (parameters, text) = (self.parameters(letter), letter.text.as_text());
        let form = || {
            let mut form = Serializer::new(String::new());
            form.extend_pairs(&parameters)
                .append_pair("text", &text)
                .append_pair("charset", "UTF-8");
            form.finish()
        };
        let mut url = settings.url.clone();
        let request = match settings.method {
            Method::Get => {
                let query = match url.query() {
                    Some(query) if !query.is_empty() => format!("{query}&{}", form()),
                    _ => form(),
                };
                url.set_query(Some(&query));
                Request::get(url.as_str()).body(Full::default())
            }
            Method::Post => Request::post(url.as_str())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::from(form())),
            Method::Headers => {
                let plain =
                    Request::post(url.as_str()).header(CONTENT_TYPE, "text/plain; charset=UTF-8");
                let with_all = parameters.iter().fold(plain, |request, (name, value)| {
                    request.header(format!("x-kannel-{name}"), value)
                });
                with_all.body(Full::from(text))
            }
        };
        let mut request = request?;
        let agent = HeaderValue::from_static(concat!("anklang/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        Ok(request)
    }

    /// What the gateway has to know besides the text.
    fn parameters(&self, letter: &Letter<'_>) -> Vec<(&'static str, String)> {
        let settings = &self.settings;
        let coding = match letter.text.alphabet {
            Alphabet::Gsm7 => "0",
            Alphabet::Ucs2 => "2",
        };
        let mut parameters = vec![
            ("username", settings.username.clone()),
            ("password", settings.password.expose_secret().to_owned()),
            ("from", letter.source.shown()),
            ("to", format!("+{}", letter.destination)),
            ("coding", coding.to_owned()),
        ];
        if let Some(smsc) = &settings.smsc {
            parameters.push(("smsc", smsc.clone()));
        }
        if let Some(minutes) = settings.validity_minutes {
            parameters.push(("validity", minutes.to_string()));
        }
        if let (Some(url), Some(token)) = (&settings.callback_url, &settings.callback_token) {
            let report = callback::report_url(url, token, letter.message_id);
            parameters.push(("dlr-mask", REPORTS.to_owned()));
            parameters.push(("dlr-url", report));
        }
        parameters
    }

    pub(crate) fn callback(&self, request: &CallbackRequest) -> CallbackReply {
        callback::translated(&self.settings, request)
    }

    /// Whether the gateway can be reached; whether it would take messages, only a message can tell.
    pub(crate) async fn health(&self) -> HealthReply {
        let url = &self.settings.url;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let connecting = TcpStream::connect((host, url.port_or_known_default().unwrap_or(80)));
        let (status, detail) = match timeout(PROBE, connecting).await {
            Ok(Ok(_)) => (Status::Serving, "reachable".to_owned()),
            Ok(Err(error)) => (Status::NotServing, format!("CONNECT: {error}")),
            Err(_) => (
                Status::NotServing,
                format!("CONNECT: no answer within {PROBE:?}"),
            ),
        };
        HealthReply {
            status: status.into(),
            detail,
        }
    }
}

/// Whether the gateway wants nothing for now.
fn asks_for_rest(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503)
}

/// What the gateway's answer means, see the module's documentation: `rests` when it lets the account rest.
fn judged(
    status: StatusCode,
    headers: &HeaderMap,
    text: &str,
    letter: &Letter<'_>,
    rests: bool,
) -> Outcome {
    let code = status.as_u16();
    match code {
        200..300 => match code_of(text) {
            None | Some(0 | 3) => {
                let parts = u32::try_from(letter.text.segments.len()).unwrap_or(u32::MAX);
                accepted(String::new(), SystemTime::now(), parts)
            }
            Some(code) => Outcome::transient(code.to_string(), "refused by the gateway"),
        },
        400 | 413 | 414 | 415 | 422 => {
            Outcome::permanent(Reason::Content, code.to_string(), "refused by the gateway")
        }
        403 if text.to_ascii_lowercase().contains("not routable") => {
            Outcome::permanent(Reason::Recipient, "403", "not routable")
        }
        401 | 403 | 404 | 405 | 407 => {
            Outcome::transient("CONFIG", format!("the gateway answers {code}"))
        }
        _ if rests => {
            let asked = headers
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok());
            let seconds = asked.and_then(|value| value.trim().parse().ok());
            let rest = seconds.map_or(ACCOUNT_RESTS, Duration::from_secs);
            Outcome::throttled(rest.min(LONGEST_REST), "account")
        }
        400..600 => Outcome::transient(code.to_string(), "refused by the gateway"),
        _ => Outcome::ambiguous(format!("the gateway answers {code}")),
    }
}

/// The code at the beginning of the gateway's text: `0: Accepted for delivery`.
fn code_of(text: &str) -> Option<u32> {
    let (code, _) = text.split_once(':')?;
    code.trim().parse().ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_DETAIL).collect()
}

/// An error with its causes. The URL, in which recipient and text stand, is in none of them.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    shortened(&text)
}

#[cfg(test)]
mod tests {
    use anklang_plugin_sdk::outcome::Kind;

    use super::*;
    use crate::address::Source;
    use crate::text::segmented;

    fn judge(status: u16, text: &str, is_to_blame: bool) -> String {
        let letter = Letter {
            message_id: "ours",
            source: Source::read("80888").expect("a sender"),
            destination: "491711234567",
            text: segmented(&"a".repeat(161), false, 9).expect("sendable"),
        };
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("900"));
        let status = StatusCode::from_u16(status).expect("a status");
        match judged(
            status,
            &headers,
            text,
            &letter,
            asks_for_rest(status) && !is_to_blame,
        )
        .kind
        {
            Some(Kind::Accepted(accepted)) => format!("accepted {}", accepted.parts),
            Some(Kind::Permanent(p)) => format!("{} {}", p.reason().as_str_name(), p.code),
            Some(Kind::Transient(t)) => format!("transient {}", t.code),
            Some(Kind::Throttled(t)) => {
                format!(
                    "throttled {} {}",
                    t.scope,
                    t.retry_after.map_or(0, |d| d.seconds)
                )
            }
            Some(Kind::Ambiguous(_)) => "ambiguous".to_owned(),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn answers_of_the_gateway() {
        for (status, text, expected) in [
            (202, "0: Accepted for delivery", "accepted 2"),
            (202, "3: Queued for later delivery", "accepted 2"),
            (202, "Sent.", "accepted 2"),
            (200, "", "accepted 2"),
            (200, "4: Temporal failure", "transient 4"),
            (
                400,
                "Missing receiver number, rejected",
                "REASON_CONTENT 400",
            ),
            (403, "Authorization failed for sendsms", "transient CONFIG"),
            (
                403,
                "Not routable. Do not try again.",
                "REASON_RECIPIENT 403",
            ),
            (404, "", "transient CONFIG"),
            (429, "", "throttled account 300"),
            (
                503,
                "Temporal failure, try again later.",
                "throttled account 300",
            ),
            (500, "Sending failed.", "transient 500"),
            (302, "", "ambiguous"),
        ] {
            assert_eq!(judge(status, text, false), expected, "{status} {text}");
        }
        assert_eq!(judge(503, "", true), "transient 503");
    }
}
