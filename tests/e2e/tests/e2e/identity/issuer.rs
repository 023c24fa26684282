//! A small OIDC issuer: it publishes keys, as it is told, and counts who asks for them.

use std::time::Duration;

use anklang_testkit::receiver::{Call, Receiver, Reply};
use chrono::Utc;
use serde_json::{Value, json};

use super::keys::Key;

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/keys";

/// A running issuer.
pub struct Issuer(Receiver);

impl Issuer {
    /// One that publishes these keys.
    pub async fn publishing(keys: &[&Key]) -> Self {
        Self(Receiver::answering(published(jwks(keys))).await)
    }

    /// One that answers everything so.
    pub async fn answering(reply: Reply) -> Self {
        Self(Receiver::answering(move |_| reply.clone()).await)
    }

    /// Publishes these keys from now on.
    pub fn publishes(&self, keys: &[&Key]) {
        self.0.now_answers(published(jwks(keys)));
    }

    /// Publishes these keys from now on, and takes its time for it.
    pub fn publishes_after(&self, after: Duration, keys: &[&Key]) {
        let mut usual = published(jwks(keys));
        self.0.now_answers(move |call| Reply {
            after,
            ..usual(call)
        });
    }

    /// Publishes these from now on, whatever they are.
    pub fn publishes_all(&self, keys: Vec<Value>) {
        self.0.now_answers(published(keys));
    }

    /// Answers everything so from now on.
    pub fn answers(&self, reply: Reply) {
        self.0.now_answers(move |_| reply.clone());
    }

    /// Says of itself what is not so, and publishes these keys.
    pub fn calls_itself(&self, name: &str, keys: &[&Key]) {
        let (name, mut usual) = (name.to_owned(), published(jwks(keys)));
        self.0.now_answers(move |call| match &call.path[..] {
            DISCOVERY => {
                let keys = format!("http://{}{KEYS}", call.header("host"));
                found(&json!({"issuer": name, "jwks_uri": keys}))
            }
            _ => usual(call),
        });
    }

    /// What its tokens say where they come from.
    pub fn url(&self) -> String {
        self.0.url("")
    }

    /// Where its keys are.
    pub fn keys_url(&self) -> String {
        self.0.url(KEYS)
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
        let calls = self.0.calls();
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
fn published(keys: Vec<Value>) -> impl FnMut(&Call) -> Reply + Send + 'static {
    move |call: &Call| {
        let own = format!("http://{}", call.header("host"));
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
