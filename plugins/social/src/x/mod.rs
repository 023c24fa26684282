//! X: the API, version 2 (<https://docs.x.com/x-api/posts/create-post>,
//! <https://docs.x.com/x-api/direct-messages/create-dm-message-by-participant-id>).
//!
//! | answer | outcome |
//! |---|---|
//! | 429, and after `x-rate-limit-remaining: 0` | throttled until `x-rate-limit-reset` |
//! | 403 duplicate content | permanent, content, `403 DUPLICATE` |
//! | 403 to a direct message that the person does not allow | permanent, recipient |
//! | any other 403 | permanent, config |
//! | 401, 402 | transient `CONFIG` |
//! | any other 4xx | permanent, content |
//! | 503 ("overloaded") | transient |
//! | connected, no answer; any other 5xx | **ambiguous**: the API knows no idempotency |

mod oauth;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_plugin_sdk::{OpenError, Outcome};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::common::{
    Network, Outgoing, REST, Rest, To, accepted, account_rests, address_invalid, beforehand,
    by_status, config, content, mendable, recipient, too_long, unanswered, unasked,
};
use crate::config::{Connection, Secret, Serves, base_url, invalid, read_optional};
use crate::http::{Call, Http, Reply};
use crate::text::weighted;
use oauth::Keys;

/// The greatest weighted length of a post.
const MOST_OF_POST: usize = 280;
/// Most characters of a direct message.
const MOST_OF_MESSAGE: usize = 10_000;
/// Most names whose ids are remembered; then all are forgotten and looked up again.
const MOST_NAMES: usize = 10_000;

/// A user of X: with OAuth 1.0a (all four of `consumer_key` to `token_secret`) or with an OAuth 2.0
/// user token (`bearer_token`).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the API.
    #[serde(default = "default_base_url")]
    base_url: String,
    /// Key of the app (OAuth 1.0a).
    consumer_key: Option<Secret>,
    /// Secret of the app's key (OAuth 1.0a).
    consumer_secret: Option<Secret>,
    /// Access token of the user (OAuth 1.0a).
    token: Option<Secret>,
    /// Secret of the user's access token (OAuth 1.0a).
    token_secret: Option<Secret>,
    /// Access token of the user (OAuth 2.0); scopes `tweet.write`, `dm.write`, `tweet.read`,
    /// `users.read`. It is used as it is and not renewed.
    bearer_token: Option<Secret>,
    /// What the account is used for.
    #[serde(default)]
    pub(crate) serves: Serves,
    /// How X is called.
    #[serde(default)]
    pub(crate) connection: Connection,
}

fn default_base_url() -> String {
    "https://api.x.com".to_owned()
}

/// How we prove who we are.
enum Login {
    OAuth1(Keys),
    Bearer(SecretString),
}

/// See the module's documentation.
pub(crate) struct X {
    http: Http,
    login: Login,
    ids: Mutex<HashMap<String, String>>,
    /// Posts and messages have limits of their own.
    posts_rest: Rest,
    messages_rest: Rest,
}

impl X {
    pub(crate) async fn open(config: &Config) -> Result<(Self, Vec<SecretString>), OpenError> {
        let read =
            async |secret: &Option<Secret>, option| read_optional(secret.as_ref(), option).await;
        let bearer = read(&config.bearer_token, "bearer_token").await?;
        let keys = [
            read(&config.consumer_key, "consumer_key").await?,
            read(&config.consumer_secret, "consumer_secret").await?,
            read(&config.token, "token").await?,
            read(&config.token_secret, "token_secret").await?,
        ];
        let secrets = keys.iter().chain([&bearer]).flatten().cloned().collect();
        let login = match (bearer, keys) {
            (Some(bearer), [None, None, None, None]) => Login::Bearer(bearer),
            (
                None,
                [
                    Some(consumer_key),
                    Some(consumer_secret),
                    Some(token),
                    Some(token_secret),
                ],
            ) => Login::OAuth1(Keys {
                consumer_key,
                consumer_secret,
                token,
                token_secret,
            }),
            _ => {
                return Err(invalid(
                    "give bearer_token, or all of consumer_key, consumer_secret, token and \
                     token_secret",
                ));
            }
        };
        let network = Self {
            http: Http::open(base_url(&config.base_url)?, &config.connection)?,
            login,
            ids: Mutex::default(),
            posts_rest: Rest::default(),
            messages_rest: Rest::default(),
        };
        Ok((network, secrets))
    }

    /// The call with a proof of who we are. Bodies in JSON are not part of signatures.
    fn signed(&self, method: &str, parts: &[&str], call: Call) -> Call {
        match &self.login {
            Login::Bearer(token) => call.bearer(token),
            Login::OAuth1(keys) => {
                // The parts are words of ours, ids and names, in which nothing is encoded.
                let url = format!("{}/{}", self.http.base(), parts.join("/"));
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let line = keys.header(method, &url, now.unwrap_or_default().as_secs());
                call.secret_header(AUTHORIZATION, &line)
            }
        }
    }

    async fn deliver(&self, message: &Outgoing) -> Result<Outcome, Outcome> {
        match &message.to {
            To::Public => {
                let length = weighted(&message.text);
                if length > MOST_OF_POST {
                    return Err(too_long(length, MOST_OF_POST));
                }
                self.post(&["2", "tweets"], "id", message, &self.posts_rest)
                    .await
            }
            To::Person(address) => {
                let length = message.text.chars().count();
                if length > MOST_OF_MESSAGE {
                    return Err(too_long(length, MOST_OF_MESSAGE));
                }
                let id = self.id_of(address).await?;
                let parts = ["2", "dm_conversations", "with", &id, "messages"];
                self.post(&parts, "dm_event_id", message, &self.messages_rest)
                    .await
            }
        }
    }

    async fn post(
        &self,
        parts: &[&str],
        id: &str,
        message: &Outgoing,
        rest: &Rest,
    ) -> Result<Outcome, Outcome> {
        rest.check()?;
        let call = Call::post(parts).json(&json!({ "text": message.text }));
        let call = self.signed("POST", parts, call);
        let reply = self.http.call(call).await.map_err(unanswered)?;
        if let Some(wait) = exhausted(&reply) {
            rest.begin(wait);
        }
        match reply.json()["data"][id].as_str() {
            Some(id) if reply.is_success() => Ok(accepted(id, "")),
            _ => Err(refused(&reply, message.to != To::Public)),
        }
    }

    /// The id of a user, who is given by id or by name.
    async fn id_of(&self, address: &str) -> Result<String, Outcome> {
        let is_id = (1..=19).contains(&address.len());
        if is_id && address.bytes().all(|b| b.is_ascii_digit()) {
            return Ok(address.to_owned());
        }
        let name = address.strip_prefix('@').unwrap_or_default();
        let is_name = (1..=15).contains(&name.len());
        if !is_name || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(address_invalid("a user of X: @name or a number"));
        }
        let name = name.to_ascii_lowercase();
        if let Some(id) = self.ids().get(&name) {
            return Ok(id.clone());
        }
        let parts = ["2", "users", "by", "username", &name];
        let call = self.signed("GET", &parts, Call::get(&parts));
        let reply = self.http.call_safely(&call).await.map_err(unasked)?;
        let found = reply.json();
        let id = match found["data"]["id"].as_str() {
            Some(id) if reply.is_success() && id.bytes().all(|b| b.is_ascii_digit()) => id,
            // An unknown name is an answer of 200 without data, or 404.
            _ if matches!(reply.status, 200 | 404) => {
                let detail = "there is no user of this name";
                return Err(recipient("USER_NOT_FOUND", detail));
            }
            _ => return Err(beforehand(refused(&reply, false))),
        };
        let mut ids = self.ids();
        if ids.len() >= MOST_NAMES {
            ids.clear();
        }
        ids.insert(name, id.to_owned());
        Ok(id.to_owned())
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashMap<String, String>> {
        // No code that can panic runs under the lock.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcome of a refusal.
fn refused(reply: &Reply, to_person: bool) -> Outcome {
    let body = reply.json();
    let first = &body["errors"][0];
    let said = [
        &body["detail"],
        &first["detail"],
        &first["message"],
        &body["title"],
    ];
    let said = said
        .iter()
        .find_map(|said| said.as_str())
        .unwrap_or_default();
    let lower = said.to_ascii_lowercase();
    match reply.status {
        429 => account_rests(reset(reply).or(reply.retry_after())),
        402 => mendable(format!("HTTP 402: {said}")),
        403 if lower.contains("duplicate content") => content("403 DUPLICATE", said),
        // "You cannot send messages to this user", "… does not allow …", "… not following you".
        403 if to_person
            && ["this user", "participant", "recipient", "following"]
                .iter()
                .any(|w| lower.contains(w)) =>
        {
            recipient("403", said)
        }
        403 => config("403", said),
        404 if to_person => recipient("404", said),
        _ => by_status(reply, said),
    }
}

/// How long to rest after an answer that was the last one for now.
fn exhausted(reply: &Reply) -> Option<Duration> {
    let is_last = |name| reply.header(name).is_some_and(|left| left.trim() == "0");
    let last = is_last("x-rate-limit-remaining") || is_last("x-user-limit-24hour-remaining");
    last.then(|| reset(reply).unwrap_or(REST))
}

/// When the limits that are used up begin anew: seconds since 1970.
fn reset(reply: &Reply) -> Option<Duration> {
    let limits = ["x-rate-limit", "x-user-limit-24hour", "x-app-limit-24hour"];
    let used_up = limits.iter().filter(|limit| {
        let left = reply.header(&format!("{limit}-remaining"));
        left.is_none_or(|left| left.trim() == "0")
    });
    let at = used_up.filter_map(|limit| {
        let reset = reply.header(&format!("{limit}-reset"))?;
        reset.trim().parse::<u64>().ok()
    });
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at.max()?))?;
    // A time that is over means that it may go on; our clocks may differ.
    Some(
        at.duration_since(SystemTime::now())
            .unwrap_or(Duration::from_secs(1)),
    )
}

impl Network for X {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome> {
        async move { self.deliver(message).await.unwrap_or_else(|failed| failed) }.boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>> {
        async move {
            let parts = ["2", "users", "me"];
            let call = self.signed("GET", &parts, Call::get(&parts));
            let reply = self.http.call_safely(&call).await.map_err(unasked)?;
            match reply.json()["data"]["username"].as_str() {
                Some(name) if reply.is_success() => Ok(format!("X: @{name}")),
                _ => Err(beforehand(refused(&reply, false))),
            }
        }
        .boxed()
    }
}
