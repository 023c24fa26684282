//! Telegram: the Bot API (<https://core.telegram.org/bots/api>).
//!
//! Messages to people go to their chat id, a number that a bot learns when they write to it; public
//! posts go to the configured channel. What people write comes in by the webhook or by asking
//! (`getUpdates`, [`updates`]).
//!
//! | answer | outcome |
//! |---|---|
//! | 429 | throttled, account, `parameters.retry_after` |
//! | 400 chat not found, 403 | permanent: of a person recipient, of the channel config |
//! | 400 not enough rights | permanent, config |
//! | 401, 404 (the token) | transient `CONFIG` |
//! | any other 400 | permanent, content |
//! | connected, no answer; 500, 502, 504 | **ambiguous**: the Bot API knows no idempotency |

mod updates;

use std::sync::Arc;
use std::time::Duration;

use anklang_plugin_sdk::{CallbackReply, CallbackRequest, Host, OpenError, Outcome, Reason};
use futures::FutureExt;
use futures::future::BoxFuture;
use ring::hmac;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::{
    Network, Outgoing, To, accepted, account_rests, address_invalid, answer, beforehand, by_status,
    config, content, header, mendable, no_public_posts, too_long, unanswered, unasked,
};
use crate::config::{Connection, Secret, Serves, base_url, invalid, read_optional};
use crate::events::{Events, Open, Task};
use crate::http::{Call, Http, Reply};

/// Most characters of a message.
const MOST: usize = 4096;

/// How what people write comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Inbound {
    /// Not at all.
    #[default]
    None,
    /// Telegram calls us.
    Webhook,
    /// We ask. Of one server alone: Telegram refuses a second.
    Poll,
}

/// A Telegram bot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the Bot API.
    #[serde(default = "default_base_url")]
    base_url: String,
    /// Token of the bot: `number:letters`.
    bot_token: Secret,
    /// The channel for public posts, of which the bot is an administrator: `@name` or `-100…`.
    #[schemars(regex(pattern = r"^(@[A-Za-z][A-Za-z0-9_]{3,31}|-?[0-9]{1,19})$"))]
    channel: Option<String>,
    /// How what people write comes in.
    #[serde(default)]
    inbound: Inbound,
    /// The `secret_token` that was given to `setWebhook`. Required with `inbound = "webhook"`.
    webhook_secret: Option<Secret>,
    /// What the account is used for.
    #[serde(default)]
    pub(crate) serves: Serves,
    /// How Telegram is called.
    #[serde(default)]
    pub(crate) connection: Connection,
}

fn default_base_url() -> String {
    "https://api.telegram.org".to_owned()
}

/// The Bot API, for our bot.
struct Api {
    http: Http,
    token: SecretString,
}

impl Api {
    fn method(&self, name: &str) -> Call {
        Call::post(&[&format!("bot{}", self.token.expose_secret()), name])
    }

    /// The number of the bot: the part of its token that is no secret.
    fn bot(&self) -> &str {
        let token = self.token.expose_secret();
        token.split_once(':').map_or("", |(number, _)| number)
    }
}

/// See the module's documentation.
pub(crate) struct Telegram {
    api: Arc<Api>,
    channel: Option<String>,
    webhook: Option<SecretString>,
    open: Arc<Open>,
    _polling: Option<Task>,
}

impl Telegram {
    pub(crate) async fn open(
        config: &Config,
        host: Host,
    ) -> Result<(Self, Vec<SecretString>), OpenError> {
        let token = config.bot_token.read("bot_token").await?;
        let (number, rest) = token.expose_secret().split_once(':').unwrap_or_default();
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) || rest.is_empty() {
            return Err(invalid("bot_token: must be number:letters"));
        }
        let secret = read_optional(config.webhook_secret.as_ref(), "webhook_secret").await?;
        let webhook = match (config.inbound, secret) {
            (Inbound::Webhook, None) => {
                return Err(invalid("webhook_secret: is required for the webhook"));
            }
            (Inbound::Webhook, secret) => secret,
            (Inbound::None | Inbound::Poll, None) => None,
            (Inbound::None | Inbound::Poll, Some(_)) => {
                return Err(invalid(
                    "webhook_secret: is for inbound = \"webhook\" alone",
                ));
            }
        };
        let api = Arc::new(Api {
            http: Http::open(base_url(&config.base_url)?, &config.connection)?,
            token: token.clone(),
        });
        let events = Events::new(host);
        let polls = config.inbound == Inbound::Poll;
        let mut secrets = vec![token];
        secrets.extend(webhook.clone());
        let network = Self {
            channel: config.channel.clone(),
            webhook,
            open: Arc::clone(&events.open),
            _polling: polls.then(|| updates::start(Arc::clone(&api), events)),
            api,
        };
        Ok((network, secrets))
    }

    async fn deliver(&self, message: &Outgoing) -> Result<Outcome, Outcome> {
        let length = message.text.chars().count();
        if length > MOST {
            return Err(too_long(length, MOST));
        }
        let (chat, to_blame) = match &message.to {
            To::Public => {
                let channel = self.channel.as_deref().ok_or_else(no_public_posts)?;
                let chat = channel
                    .parse()
                    .map_or_else(|_| json!(channel), |id: i64| json!(id));
                (chat, Reason::Config)
            }
            To::Person(address) => match address.parse::<i64>() {
                Ok(id) if id != 0 => (json!(id), Reason::Recipient),
                _ => return Err(address_invalid("a Telegram chat id: a number")),
            },
        };
        let call = self.api.method("sendMessage");
        let call = call.json(&json!({ "chat_id": chat, "text": message.text }));
        let reply = self.api.http.call(call).await.map_err(unanswered)?;
        let body = reply.json();
        let sent = &body["result"];
        match (&body["ok"], &sent["message_id"], &sent["chat"]["id"]) {
            (Value::Bool(true), Value::Number(id), Value::Number(chat)) => {
                Ok(accepted(format!("{chat}:{id}"), ""))
            }
            _ => Err(refused(&reply, to_blame)),
        }
    }
}

/// The outcome of a refusal; `to_blame` is who cannot be written to.
fn refused(reply: &Reply, to_blame: Reason) -> Outcome {
    let body = reply.json();
    let said = body["description"].as_str().unwrap_or_default();
    let is_refusal = body["ok"] == false;
    let code = body["error_code"].as_u64().filter(|_| is_refusal);
    let lower = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match code {
        Some(429) => {
            let seconds = body["parameters"]["retry_after"].as_u64();
            account_rests(seconds.map(Duration::from_secs))
        }
        Some(401 | 404) => mendable(format!("bot_token: {said}")),
        Some(400)
            if says(&[
                "not enough rights",
                "administrator rights",
                "chat_write_forbidden",
            ]) =>
        {
            config("400", said)
        }
        Some(400)
            if says(&[
                "chat not found",
                "user not found",
                "peer_id_invalid",
                "upgraded",
                "deactivated",
            ]) =>
        {
            Outcome::permanent(to_blame, "400", said)
        }
        Some(403) => Outcome::permanent(to_blame, "403", said),
        Some(code @ 400..500) => content(code.to_string(), said),
        _ => by_status(reply, said),
    }
}

impl Network for Telegram {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome> {
        async move { self.deliver(message).await.unwrap_or_else(|failed| failed) }.boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>> {
        async move {
            let reply = self.api.http.call_safely(&self.api.method("getMe")).await;
            let reply = reply.map_err(unasked)?;
            let body = reply.json();
            match body["result"]["username"].as_str() {
                Some(name) if body["ok"] == true => Ok(format!("Telegram: @{name}")),
                _ => Err(beforehand(refused(&reply, Reason::Config))),
            }
        }
        .boxed()
    }

    fn callback(&self, request: &CallbackRequest) -> CallbackReply {
        let Some(secret) = &self.webhook else {
            return answer(404);
        };
        if request.method != "POST" {
            return answer(405);
        }
        let given = header(request, "x-telegram-bot-api-secret-token").unwrap_or_default();
        if !same(secret.expose_secret(), given) {
            return answer(401);
        }
        let Ok(update) = serde_json::from_slice::<Value>(&request.body) else {
            return answer(400);
        };
        CallbackReply {
            inbound: updates::inbound(&update, self.api.bot())
                .into_iter()
                .collect(),
            ..answer(200)
        }
    }

    fn acknowledge(&self, event_ids: &[u64]) {
        self.open.acknowledge(event_ids);
    }
}

/// Compares in a time that does not tell how much is right.
fn same(secret: &str, given: &str) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let expected = hmac::sign(&key, secret.as_bytes());
    hmac::verify(&key, given.as_bytes(), expected.as_ref()).is_ok()
}
