//! The HTTP client of all networks.
//!
//! Guarantees: an answer's body is read up to a limit; nothing lasts longer than the patience; no
//! redirect is followed and no proxy of the environment used; parts of paths and queries are
//! percent-encoded; a call that failed says whether the other side may have it.
//!
//! Trade-off: a connection rests for [`IDLE`] at most. Servers close resting connections, and a
//! request that meets such a close may or may not have been taken: for networks that know no
//! idempotency that would be a message in doubt, so connections are rather made anew.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use url::form_urlencoded;

use crate::config::{Connection, invalid};

/// The most bytes of an answer that are read.
const MAX_BODY: usize = 1024 * 1024;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 64 * 1024;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(3);
/// Pauses before a call is repeated whose repetition does no harm.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
const AGENT: HeaderValue = HeaderValue::from_static(concat!("anklang/", env!("CARGO_PKG_VERSION")));

/// What is encoded in one part of a path: all but what RFC 3986 allows there.
const PART: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Why there is no answer. The text is for people, and has no address or token in it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request was certainly not taken: there was no connection.
    NotSent(String),
    /// There was a connection, so nobody can say.
    Lost(String),
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// 200 to 299.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, or null if it is no JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header line as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After` in seconds; its other form, a date, is used by none of the networks.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// A request to be made. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Call {
    method: Method,
    /// Path and query, encoded.
    target: String,
    headers: HeaderMap,
    body: Bytes,
    /// Added to the patience of the account: how long the other side may hold the answer back.
    held: Duration,
    limit: usize,
}

impl Call {
    pub(crate) fn new(method: Method, parts: &[&str]) -> Self {
        let mut target = String::new();
        for part in parts {
            target.push('/');
            target.extend(utf8_percent_encode(part, PART));
        }
        Self {
            method,
            target,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            held: Duration::ZERO,
            limit: MAX_BODY,
        }
    }

    pub(crate) fn get(parts: &[&str]) -> Self {
        Self::new(Method::GET, parts)
    }

    pub(crate) fn post(parts: &[&str]) -> Self {
        Self::new(Method::POST, parts)
    }

    pub(crate) fn put(parts: &[&str]) -> Self {
        Self::new(Method::PUT, parts)
    }

    pub(crate) fn query(mut self, pairs: &[(&str, &str)]) -> Self {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        self.target.push('?');
        self.target.push_str(&query);
        self
    }

    /// The token must be visible ASCII, which configurations are checked for.
    pub(crate) fn bearer(self, token: &SecretString) -> Self {
        let value = format!("Bearer {}", token.expose_secret());
        self.secret_header(AUTHORIZATION, &value)
    }

    pub(crate) fn secret_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(crate) fn json(mut self, body: &impl Serialize) -> Self {
        let json = HeaderValue::from_static("application/json");
        self.headers.insert(CONTENT_TYPE, json);
        self.body = serde_json::to_vec(body)
            .expect("maps with text keys become JSON")
            .into();
        self
    }

    /// For calls that the other side answers when something happens, and at length.
    pub(crate) fn held(mut self, at_most: Duration, limit: usize) -> Self {
        self.held = at_most;
        self.limit = limit;
        self
    }
}

/// The client of one account. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    timeout: Duration,
}

impl Http {
    /// `base` is a checked address without a slash at its end.
    pub(crate) fn open(base: String, connection: &Connection) -> Result<Self, OpenError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| OpenError::Failed(format!("TLS: {e}")))?
            .with_root_certificates(roots(connection.ca_file.as_ref())?)
            .with_no_client_auth();
        let timeout = connection.timeout();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .build(HttpsConnector::from((http, tls)));
        Ok(Self {
            client,
            base,
            timeout,
        })
    }

    /// The address that calls begin with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Makes the call once.
    pub(crate) async fn call(&self, call: Call) -> Result<Reply, Failure> {
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = format!("{}{}", self.base, call.target)
            .parse()
            .map_err(|_| Failure::NotSent("the address is too long".to_owned()))?;
        *request.headers_mut() = call.headers;
        request.headers_mut().insert(USER_AGENT, AGENT);
        let connected = capture_connection(&mut request);
        let exchange = async {
            let response = self.client.request(request).await;
            let (head, body) = response.map_err(|e| causes(&e))?.into_parts();
            let body = Limited::new(body, call.limit).collect().await;
            Ok::<_, String>(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.map_err(|e| causes(&*e))?.to_bytes(),
            })
        };
        let patience = self.timeout + call.held;
        let text = match timeout(patience, exchange).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(text)) => text,
            Err(_) => format!("no answer within {patience:?}"),
        };
        let was_connected = connected.connection_metadata().is_some();
        Err(match was_connected {
            true => Failure::Lost(text),
            false => Failure::NotSent(text),
        })
    }

    /// Makes a call whose repetition does no harm, again if its fate is unknown: there was no
    /// answer, or one (500, 502, 504) that leaves it open.
    pub(crate) async fn call_safely(&self, call: &Call) -> Result<Reply, Failure> {
        let (mut in_doubt, mut pauses) = (false, PAUSES.iter());
        loop {
            let result = self.call(call.clone()).await;
            let open = match &result {
                Ok(reply) => matches!(reply.status, 500 | 502 | 504),
                Err(Failure::Lost(_)) => true,
                Err(Failure::NotSent(_)) => false,
            };
            match (result, pauses.next()) {
                (_, Some(pause)) if open => {
                    in_doubt = true;
                    sleep(*pause).await;
                }
                // What was lost once stays in doubt, though there be no connection any more.
                (Err(Failure::NotSent(text)), _) if in_doubt => return Err(Failure::Lost(text)),
                (result, _) => return result,
            }
        }
    }
}

/// The certificate authorities of this system, or those in the file that the variable
/// `SSL_CERT_FILE` names, and the one of the configuration.
fn roots(ca_file: Option<&PathBuf>) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let wrong = |why: &dyn std::fmt::Display| {
            invalid(format!("connection.ca_file: {}: {why}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|e| wrong(&e))?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let certificates = certificates.map_err(|_| wrong(&"is not PEM"))?;
        if certificates.is_empty() {
            return Err(wrong(&"holds no certificate"));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|e| wrong(&e))?;
        }
    }
    Ok(roots)
}

/// An error with what caused it, outermost first.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some repeat their cause in their own words.
        if !words.ends_with(&next) {
            words.push_str(": ");
            words.push_str(&next);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_path_stay_parts() {
        let call = Call::put(&["rooms", "!a/../b?c#d:e.org", "ä %"]);
        assert_eq!(call.target, "/rooms/!a%2F..%2Fb%3Fc%23d:e.org/%C3%A4%20%25");
        let call = Call::get(&["search"]).query(&[("q", "a&b=c ü"), ("n", "1")]);
        assert_eq!(call.target, "/search?q=a%26b%3Dc+%C3%BC&n=1");
    }
}
