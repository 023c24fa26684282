//! A small OIDC issuer: it publishes keys, as it is told, and counts who asks for them.

use std::sync::Arc;
use std::time::Duration;

use anklang_testkit::receiver::{Call, Receiver, Reply};
use chrono::Utc;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::keys::Key;
use crate::tls::certificates::Signed;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// A running issuer.
pub struct Issuer {
    receiver: Receiver,
    scheme: &'static str,
    url: String,
}

impl Issuer {
    /// One that publishes these keys.
    pub async fn publishing(keys: &[&Key]) -> Self {
        Self::of(Receiver::answering(published("http", jwks(keys))).await)
    }

    /// One that answers everything so.
    pub async fn answering(reply: Reply) -> Self {
        Self::of(Receiver::answering(move |_| reply.clone()).await)
    }

    fn of(receiver: Receiver) -> Self {
        Self {
            url: receiver.url(""),
            scheme: "http",
            receiver,
        }
    }

    /// One that publishes these keys by https, under this certificate for `localhost`.
    pub async fn by_tls(keys: &[&Key], signed: &Signed) -> Self {
        let receiver = Receiver::answering(published("https", jwks(keys))).await;
        let chain = vec![CertificateDer::from(signed.der.clone())];
        let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let inside = receiver.url("").replace("http://", "");
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, inside) = (acceptor.clone(), inside.clone());
                tokio::spawn(async move {
                    // Who does not trust it hangs up.
                    let Ok(mut outer) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut inner = TcpStream::connect(inside).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        Self {
            receiver,
            scheme: "https",
            url: format!("https://localhost:{port}"),
        }
    }

    /// Publishes these keys from now on.
    pub fn publishes(&self, keys: &[&Key]) {
        let published = published(self.scheme, jwks(keys));
        self.receiver.now_answers(published);
    }

    /// Publishes these keys from now on, and takes its time for it.
    pub fn publishes_after(&self, after: Duration, keys: &[&Key]) {
        let mut usual = published(self.scheme, jwks(keys));
        self.receiver.now_answers(move |call| Reply {
            after,
            ..usual(call)
        });
    }

    /// Publishes these from now on, whatever they are.
    pub fn publishes_all(&self, keys: Vec<Value>) {
        self.receiver.now_answers(published(self.scheme, keys));
    }

    /// Answers everything so from now on.
    pub fn answers(&self, reply: Reply) {
        self.receiver.now_answers(move |_| reply.clone());
    }

    /// Says of itself what is not so, and publishes these keys.
    pub fn calls_itself(&self, name: &str, keys: &[&Key]) {
        let (name, mut usual) = (name.to_owned(), published("http", jwks(keys)));
        self.receiver.now_answers(move |call| match &call.path[..] {
            DISCOVERY => {
                let keys = format!("http://{}{KEYS}", call.header("host"));
                found(&json!({"issuer": name, "jwks_uri": keys}))
            }
            _ => usual(call),
        });
    }

    /// What its tokens say where they come from.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        format!("{}{KEYS}", self.url)
    }

    /// How often somebody has asked for its keys.
    pub fn asked_for_keys(&self) -> usize {
        self.asked(KEYS)
    }

    /// How often somebody has asked where they are.
    pub fn asked_where(&self) -> usize {
        self.asked(DISCOVERY)
    }

    fn asked(&self, path: &str) -> usize {
        let calls = self.receiver.calls();
        calls.iter().filter(|call| call.path == path).count()
    }

    /// Settings of a server that trusts it, with more lines.
    pub fn trusted(&self, id: &str, more: &str) -> String {
        format!(
            "[auth.issuers.{id}]\nissuer = \"{}\"\naudience = \"anklang\"\n{more}\n",
            self.url()
        )
    }

    /// Claims as they should be: of anna for `linden`, for an hour.
    pub fn claims(&self, roles: &[&str]) -> Value {
        let now = Utc::now().timestamp();
        json!({
            "iss": self.url(), "aud": "anklang", "sub": "4711", "iat": now, "exp": now + 3_600,
            "anklang_tenants": ["linden"], "anklang_roles": roles, "preferred_username": "anna",
        })
    }
}

fn jwks(keys: &[&Key]) -> Vec<Value> {
    keys.iter().map(|key| key.jwk.clone()).collect()
}

/// What it answers when all is well.
fn published(
    scheme: &'static str,
    keys: Vec<Value>,
) -> impl FnMut(&Call) -> Reply + Send + 'static {
    move |call: &Call| {
        let own = format!("{scheme}://{}", call.header("host"));
        match &call.path[..] {
            DISCOVERY => found(&json!({"issuer": own, "jwks_uri": format!("{own}{KEYS}")})),
            KEYS => found(&json!({"keys": keys})),
            _ => 404.into(),
        }
    }
}

fn found(body: &Value) -> Reply {
    Reply {
        status: 200,
        headers: vec![("content-type", "application/json".into())],
        body: body.to_string().into_bytes(),
        ..Default::default()
    }
}
