//! What WhatsApp and Facebook have in common: the Graph API of Meta
//! (<https://developers.facebook.com/docs/graph-api/guides/error-handling>) and its webhooks
//! (<https://developers.facebook.com/docs/graph-api/webhooks/getting-started>).

use std::time::Duration;

use anklang_plugin_sdk::{CallbackReply, CallbackRequest, OpenError, Outcome, Reason};
use ring::hmac;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::common::{
    account_rests, answer, beforehand, by_status, content, header, mendable, unasked,
};
use crate::config::{Connection, Secret, base_url, read_optional};
use crate::http::{Call, Http, Reply};

/// The longest challenge that is answered.
const LONGEST_CHALLENGE: usize = 256;

/// How the Graph API is called, and calls us.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphConfig {
    /// Address of the Graph API.
    #[serde(default = "default_base_url")]
    base_url: String,
    /// Version of the Graph API: `v23.0`.
    #[serde(default = "default_version")]
    #[schemars(regex(pattern = r"^v[0-9]{1,3}\.[0-9]$"))]
    version: String,
    /// The secret of the app: proves our calls (`appsecret_proof`) and those of the webhook, which
    /// is not answered without.
    app_secret: Option<Secret>,
    /// The word that the webhook is set up with.
    verify_token: Option<Secret>,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self {
            base_url: default_base_url(),
            version: default_version(),
            app_secret: None,
            verify_token: None,
        }
    }
}

fn default_base_url() -> String {
    "https://graph.facebook.com".to_owned()
}

fn default_version() -> String {
    "v23.0".to_owned()
}

/// The Graph API, for one account.
pub(crate) struct Graph {
    pub(crate) http: Http,
    version: String,
    token: SecretString,
    app_secret: Option<SecretString>,
    verify_token: Option<SecretString>,
}

impl Graph {
    pub(crate) async fn open(
        config: &GraphConfig,
        access_token: &Secret,
        connection: &Connection,
    ) -> Result<Self, OpenError> {
        let (secret, verify) = (config.app_secret.as_ref(), config.verify_token.as_ref());
        Ok(Self {
            http: Http::open(base_url(&config.base_url)?, connection)?,
            version: config.version.clone(),
            token: access_token.read("access_token").await?,
            app_secret: read_optional(secret, "graph.app_secret").await?,
            verify_token: read_optional(verify, "graph.verify_token").await?,
        })
    }

    /// What must never be told.
    pub(crate) fn secrets(&self) -> Vec<SecretString> {
        let others = [&self.app_secret, &self.verify_token];
        let others = others.into_iter().flatten().cloned();
        std::iter::once(self.token.clone()).chain(others).collect()
    }

    /// A POST, with the token and, where the app has a secret, its proof.
    pub(crate) fn post(&self, parts: &[&str]) -> Call {
        let call = Call::post(&[&[&*self.version][..], parts].concat()).bearer(&self.token);
        match self.proof() {
            Some(proof) => call.query(&[("appsecret_proof", &proof)]),
            None => call,
        }
    }

    /// Asks for fields of an object.
    pub(crate) async fn fields(&self, id: &str, fields: &str) -> Result<Value, Outcome> {
        let call = Call::get(&[&self.version, id]).bearer(&self.token);
        let proof = self.proof();
        let mut query = vec![("fields", fields)];
        query.extend(proof.as_deref().map(|proof| ("appsecret_proof", proof)));
        let reply = self.http.call_safely(&call.query(&query)).await;
        let reply = reply.map_err(unasked)?;
        match reply.is_success() {
            true => Ok(reply.json()),
            false => Err(beforehand(match Fault::of(&reply) {
                Some(fault) => mendable(fault.detail()),
                None => by_status(&reply, ""),
            })),
        }
    }

    /// HMAC-SHA256 of the token under the app's secret, in hexadecimal digits.
    fn proof(&self) -> Option<String> {
        let secret = self.app_secret.as_ref()?.expose_secret();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let tag = hmac::sign(&key, self.token.expose_secret().as_bytes());
        Some(hex::encode(tag))
    }

    /// The notification in a request that is signed by the app's secret; else what to answer.
    pub(crate) fn notification(&self, request: &CallbackRequest) -> Result<Value, CallbackReply> {
        if request.method == "GET" {
            return Err(self.set_up(request));
        }
        let Some(secret) = &self.app_secret else {
            return Err(answer(404));
        };
        if request.method != "POST" {
            return Err(answer(405));
        }
        let signature = header(request, "x-hub-signature-256").unwrap_or_default();
        let signature = signature.strip_prefix("sha256=").unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        let tag = hex::decode(signature).unwrap_or_default();
        hmac::verify(&key, &request.body, &tag).map_err(|_| answer(401))?;
        serde_json::from_slice(&request.body).map_err(|_| answer(400))
    }

    /// Answers the question by which a webhook is set up.
    fn set_up(&self, request: &CallbackRequest) -> CallbackReply {
        let Some(token) = &self.verify_token else {
            return answer(404);
        };
        let query = request.uri.split_once('?').map_or("", |(_, query)| query);
        let value = |name: &str| {
            let mut pairs = form_urlencoded::parse(query.as_bytes());
            let found = pairs.find(|(key, _)| key == name);
            found
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default()
        };
        let challenge = value("hub.challenge");
        let is_ours = value("hub.mode") == "subscribe"
            && value("hub.verify_token") == token.expose_secret()
            && challenge.len() <= LONGEST_CHALLENGE;
        if !is_ours {
            return answer(401);
        }
        CallbackReply {
            body: challenge.into_bytes(),
            content_type: "text/plain".to_owned(),
            ..answer(200)
        }
    }
}

/// An error of the Graph API.
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) code: i64,
    pub(crate) subcode: Option<i64>,
    message: String,
}

impl Fault {
    /// The error in an answer; `None` if it holds none.
    pub(crate) fn of(reply: &Reply) -> Option<Self> {
        let body = reply.json();
        let error = &body["error"];
        let details = error["error_data"]["details"].as_str();
        Some(Self {
            status: reply.status,
            code: error["code"].as_i64()?,
            subcode: error["error_subcode"].as_i64().filter(|code| *code != 0),
            message: match (error["message"].as_str().unwrap_or_default(), details) {
                (message, Some(details)) => format!("{message}: {details}"),
                (message, None) => message.to_owned(),
            },
        })
    }

    /// `190/463`, or `190` without a subcode.
    pub(crate) fn name(&self) -> String {
        match self.subcode {
            Some(subcode) => format!("{}/{subcode}", self.code),
            None => self.code.to_string(),
        }
    }

    pub(crate) fn detail(&self) -> String {
        format!("{} {}", self.name(), self.message)
    }

    pub(crate) fn permanent(&self, reason: Reason) -> Outcome {
        Outcome::permanent(reason, self.name(), &*self.message)
    }

    /// With a word to the code that says what to do about it.
    pub(crate) fn permanent_as(&self, reason: Reason, word: &str) -> Outcome {
        let code = format!("{} {word}", self.name());
        Outcome::permanent(reason, code, &*self.message)
    }

    /// What the codes mean that all of the Graph API has.
    pub(crate) fn common(&self, reply: &Reply) -> Outcome {
        match self.code {
            // The token.
            0 | 102 | 190 | 463 | 467 => mendable(self.detail()),
            // Limits of app, account, page.
            4 | 17 | 32 | 341 | 613 | 80_000..=80_014 => account_rests(regains_access(reply)),
            // The account is blocked for a while, for breaking a policy.
            368 => mendable(self.detail()),
            // Permissions.
            3 | 10 | 200..=299 => self.permanent(Reason::Config),
            // "Temporary due to downtime": it says that it did nothing.
            2 => Outcome::transient(self.name(), &*self.message),
            // "Possibly a temporary issue": it does not know itself.
            _ if self.status >= 500 => Outcome::ambiguous(self.detail()),
            _ => content(self.name(), &*self.message),
        }
    }
}

/// When an account may go on, by the header that comes with answers near limits; it tells minutes
/// (<https://developers.facebook.com/docs/graph-api/overview/rate-limiting>).
fn regains_access(reply: &Reply) -> Option<Duration> {
    let usage = reply.header("x-business-use-case-usage")?;
    let usage: Value = serde_json::from_str(usage).ok()?;
    let accounts = usage.as_object()?.values();
    let limits = accounts.filter_map(Value::as_array).flatten();
    let minutes = limits.filter_map(|limit| limit["estimated_time_to_regain_access"].as_u64());
    minutes
        .max()
        .filter(|m| *m > 0)
        .map(|m| Duration::from_secs(m.saturating_mul(60)))
}
