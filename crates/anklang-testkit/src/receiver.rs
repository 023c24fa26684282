//! A receiver of webhooks: a real HTTP server that records what it gets, answers as it is told, and
//! checks signatures by itself.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One call as it came.
#[derive(Debug, Clone)]
pub struct Call {
    /// Path of its URL.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Call {
    /// A header's value; empty without it.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The id of its event.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// Its event.
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Which of the secrets have signed it, as Standard Webhooks say: HMAC-SHA256 over
    /// `id.timestamp.body` under the base64 behind `whsec_`.
    pub fn signed_by<'a>(&self, secrets: &[&'a str]) -> Vec<&'a str> {
        let content = format!(
            "{}.{}.{}",
            self.id(),
            self.header("webhook-timestamp"),
            self.body
        );
        let given: Vec<&str> = self.header("webhook-signature").split(' ').collect();
        let of = |secret: &str| {
            let key = BASE64_STANDARD
                .decode(secret.strip_prefix("whsec_").unwrap())
                .unwrap();
            assert!((24..=64).contains(&key.len()), "{} bytes", key.len());
            format!(
                "v1,{}",
                BASE64_STANDARD.encode(hmac(&key, content.as_bytes()))
            )
        };
        let found = secrets
            .iter()
            .filter(|secret| given.contains(&&of(secret)[..]));
        found.copied().collect()
    }
}

/// RFC 2104, written down again so that the server is not checked by its own means.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |byte: u8| block.map(|b| b ^ byte);
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

/// How to answer a call.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// So much later.
    pub after: Duration,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Reply {
            status,
            ..Default::default()
        }
    }
}

type Answer = Box<dyn FnMut(&Call) -> Reply + Send>;

struct Shared {
    calls: Mutex<Vec<Call>>,
    answer: Mutex<Answer>,
}

/// A running receiver. It stops when it is dropped.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    serving: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Self {
        Self::answering(|_| 204.into()).await
    }

    /// One that answers so.
    pub async fn answering(answer: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            answer: Mutex::new(Box::new(answer)),
        });
        let router = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&shared));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Receiver {
            addr,
            shared,
            serving,
        }
    }

    /// Answers otherwise from now on.
    pub fn now_answers(&self, answer: impl FnMut(&Call) -> Reply + Send + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(answer);
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// All calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = Call {
        path: uri.path().to_owned(),
        headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let reply = (shared.answer.lock().unwrap())(&call);
    shared.calls.lock().unwrap().push(call);
    tokio::time::sleep(reply.after).await;
    let mut response = (StatusCode::from_u16(reply.status).unwrap(), reply.body).into_response();
    for (name, value) in reply.headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

#[test]
fn hmac_is_that_of_rfc_4231() {
    let code = hmac(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(
        hex::encode(code),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}
