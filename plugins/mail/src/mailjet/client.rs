//! HTTP calls of the API: hyper and rustls, which the program has anyhow.
//!
//! Whether a call that failed may have had an effect is decided by whether any of its body was
//! taken to be sent: before that, Mailjet cannot have got a message.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::config::MailjetSettings;

/// The most bytes of an answer that are read.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;
/// Connections that rested for longer are not used again: the other side may just end them.
const REST: Duration = Duration::from_secs(20);

/// See the module's documentation.
pub(super) struct Client {
    pooled: Pooled<HttpsConnector<HttpConnector>, Told>,
    base_url: String,
    authorization: HeaderValue,
    patience: Duration,
}

/// What the API said.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Seconds to wait, if it said so.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing of the body was sent.
    Before(String),
    /// Some of the body may have been sent.
    After(String),
}

impl Client {
    pub(super) fn new(settings: &MailjetSettings) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(settings.timeout));
        let tls = (*settings.tls).clone();
        let pooled = Pooled::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REST)
            .build(HttpsConnector::from((http, tls)));
        let keys = format!(
            "{}:{}",
            settings.api_key,
            settings.secret_key.expose_secret()
        );
        let mut authorization = HeaderValue::try_from(format!("Basic {}", BASE64.encode(keys)))
            .expect("base64 is ASCII");
        authorization.set_sensitive(true);
        Self {
            pooled,
            base_url: settings.base_url.clone(),
            authorization,
            patience: settings.timeout,
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failed> {
        self.call(Method::GET, path, Vec::new()).await
    }

    pub(super) async fn post(&self, path: &str, json: Vec<u8>) -> Result<Answer, Failed> {
        self.call(Method::POST, path, json).await
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Failed> {
        let begun = Arc::new(AtomicBool::new(false));
        let body = Told {
            bytes: Full::new(body.into()),
            begun: Arc::clone(&begun),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_url))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("anklang/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|e| Failed::Before(format!("no request: {e}")))?;
        let failed = |reason: String| match begun.load(Ordering::Acquire) {
            true => Failed::After(reason),
            false => Failed::Before(reason),
        };
        match timeout(self.patience, self.exchange(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(reason)) => Err(failed(reason)),
            Err(_) => Err(failed(format!("no answer within {:?}", self.patience))),
        }
    }

    async fn exchange(&self, request: Request<Told>) -> Result<Answer, String> {
        let response = self
            .pooled
            .request(request)
            .await
            .map_err(|e| described(&e))?;
        let (head, body) = response.into_parts();
        let retry_after = head
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let body = Limited::new(body, LONGEST_ANSWER).collect().await;
        Ok(Answer {
            status: head.status.as_u16(),
            retry_after,
            body: body
                .map_err(|e| format!("the answer broke off: {e}"))?
                .to_bytes(),
        })
    }
}

/// An error with its causes.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A body that tells when it is begun to be sent.
struct Told {
    bytes: Full<Bytes>,
    begun: Arc<AtomicBool>,
}

impl Body for Told {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.begun.store(true, Ordering::Release);
        Pin::new(&mut self.bytes).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.bytes.size_hint()
    }
}
