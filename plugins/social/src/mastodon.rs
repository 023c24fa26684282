//! Mastodon: statuses (<https://docs.joinmastodon.org/methods/statuses/>).
//!
//! A public post is a status; a message to a person is a status of the visibility `direct` that
//! mentions the person. The id of the message is the `Idempotency-Key`, which a server remembers for
//! an hour: so a request without an answer is made again, and only what is still open then is
//! ambiguous.
//!
//! A direct status reaches whoever it mentions. So texts that mention others are refused, and when
//! the server did not find the person, who then is not among the mentions of the answer, the status
//! has reached nobody: it is deleted, and the outcome is permanent.
//!
//! | answer | outcome |
//! |---|---|
//! | 422 | permanent, content |
//! | 401, 404 | transient `CONFIG` |
//! | 403, 410 | permanent, config |
//! | 429, and after `X-RateLimit-Remaining: 0` | throttled until `X-RateLimit-Reset` |

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{OpenError, Outcome};
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::common::{
    Network, Outgoing, REST, Rest, To, accepted, account_rests, address_invalid, beforehand,
    by_status, config, content, mendable, recipient, too_long, unanswered, unasked,
};
use crate::config::{Connection, Secret, Serves, base_url};
use crate::http::{Call, Http, Reply};
use crate::text::graphemes;

/// Most characters where the server does not say; all take so many.
const MOST: usize = 500;
/// What an address counts where the server does not say.
const PER_URL: usize = 23;

/// A user of a Mastodon server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Address of the server.
    base_url: String,
    /// Access token of the user; scopes `write:statuses` and `read:accounts`.
    access_token: Secret,
    /// Who sees public posts where.
    #[serde(default)]
    visibility: Visibility,
    /// What the account is used for.
    #[serde(default)]
    pub(crate) serves: Serves,
    /// How the server is called.
    #[serde(default)]
    pub(crate) connection: Connection,
}

/// Who sees public posts where.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Visibility {
    /// Everybody, in timelines as well.
    #[default]
    Public,
    /// Everybody who looks, but not in timelines.
    Unlisted,
}

/// What the server takes.
#[derive(Clone, Copy)]
struct Limits {
    most: usize,
    per_url: usize,
}

/// See the module's documentation.
pub(crate) struct Mastodon {
    http: Http,
    token: SecretString,
    visibility: Visibility,
    limits: OnceCell<Limits>,
    rest: Rest,
}

impl Mastodon {
    pub(crate) async fn open(config: &Config) -> Result<(Self, Vec<SecretString>), OpenError> {
        let token = config.access_token.read("access_token").await?;
        let network = Self {
            http: Http::open(base_url(&config.base_url)?, &config.connection)?,
            token: token.clone(),
            visibility: config.visibility,
            limits: OnceCell::new(),
            rest: Rest::default(),
        };
        Ok((network, vec![token]))
    }

    async fn deliver(&self, message: &Outgoing) -> Result<Outcome, Outcome> {
        let (status, visibility) = match &message.to {
            To::Public => (
                message.text.clone(),
                match self.visibility {
                    Visibility::Public => "public",
                    Visibility::Unlisted => "unlisted",
                },
            ),
            To::Person(address) => {
                let account = account(address)?;
                if mentions(&message.text) {
                    let detail = "a text that mentions others would reach them as well";
                    return Err(content("MENTIONS", detail));
                }
                (format!("@{account} {}", message.text), "direct")
            }
        };
        self.check_length(&message.text).await?;
        self.rest.check()?;
        let call = Call::post(&["api", "v1", "statuses"])
            .bearer(&self.token)
            .header("idempotency-key", &message.id)
            .json(&json!({ "status": status, "visibility": visibility }));
        let reply = self.http.call_safely(&call).await.map_err(unanswered)?;
        if let Some(wait) = exhausted(&reply) {
            self.rest.begin(wait);
        }
        let made = reply.json();
        let Some(id) = made["id"].as_str().filter(|_| reply.is_success()) else {
            return Err(refused(&reply));
        };
        let mentioned = made["mentions"].as_array().is_some_and(|m| !m.is_empty());
        if message.to != To::Public && !mentioned {
            self.delete(id).await;
            let detail = "the server did not find this account";
            return Err(recipient("ACCOUNT_NOT_FOUND", detail));
        }
        Ok(accepted(id, made["url"].as_str().unwrap_or_default()))
    }

    /// Deletes a status that reached nobody. It does no harm if that fails.
    async fn delete(&self, id: &str) {
        let call = Call::new(http::Method::DELETE, &["api", "v1", "statuses", id]);
        let _ = self.http.call_safely(&call.bearer(&self.token)).await;
    }

    /// Whether the server takes a text of this length; it is asked what it takes for texts that not
    /// all do.
    async fn check_length(&self, text: &str) -> Result<(), Outcome> {
        if graphemes(text, PER_URL) <= MOST {
            return Ok(());
        }
        let limits = self.limits.get_or_try_init(|| self.ask_limits()).await?;
        let length = graphemes(text, limits.per_url);
        match length <= limits.most {
            true => Ok(()),
            false => Err(too_long(length, limits.most)),
        }
    }

    async fn ask_limits(&self) -> Result<Limits, Outcome> {
        let call = Call::get(&["api", "v2", "instance"]);
        let reply = self.http.call_safely(&call).await.map_err(unasked)?;
        let told = &reply.json()["configuration"]["statuses"];
        let number = |name: &str, default| {
            let told = told[name].as_u64().and_then(|n| usize::try_from(n).ok());
            told.unwrap_or(default)
        };
        match reply.status {
            // Older servers and others do not have it.
            200 | 404 | 410 => Ok(Limits {
                most: number("max_characters", MOST),
                per_url: number("characters_reserved_per_url", PER_URL),
            }),
            _ => Err(beforehand(refused(&reply))),
        }
    }
}

/// The outcome of a refusal.
fn refused(reply: &Reply) -> Outcome {
    let body = reply.json();
    let said = body["error"].as_str().unwrap_or_default();
    let code = format!("HTTP {}", reply.status);
    match reply.status {
        429 => account_rests(reset(reply).or(reply.retry_after())),
        404 => mendable(format!("{code}: {said}; is base_url a Mastodon server?")),
        410 => config(code, said),
        422 => content(code, said),
        _ => by_status(reply, said),
    }
}

/// How long to rest after an answer that was the last one for now.
fn exhausted(reply: &Reply) -> Option<Duration> {
    let left = reply.header("x-ratelimit-remaining")?;
    (left.trim() == "0").then(|| reset(reply).unwrap_or(REST))
}

/// When the limit begins anew: a time in the form of RFC 3339.
fn reset(reply: &Reply) -> Option<Duration> {
    let at = DateTime::parse_from_rfc3339(reply.header("x-ratelimit-reset")?).ok()?;
    let at = SystemTime::from(at.with_timezone(&Utc));
    // A time that is over means that it may go on; our clocks may differ.
    Some(
        at.duration_since(SystemTime::now())
            .unwrap_or(Duration::from_secs(1)),
    )
}

/// The name of an account without the first `@`: `erika` or `erika@example.org`.
fn account(address: &str) -> Result<&str, Outcome> {
    let name = address.strip_prefix('@').unwrap_or(address);
    let (user, server) = match name.split_once('@') {
        Some((user, server)) => (user, Some(server)),
        None => (name, None),
    };
    let is_name = |text: &str, more: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        let ends = |c: char| c.is_alphanumeric() || c == '_';
        text.len() <= 255
            && text
                .chars()
                .all(|c| inner(c) || (!c.is_ascii() && c.is_alphanumeric()))
            && text.starts_with(ends)
            && text.ends_with(ends)
    };
    match is_name(user, "_.-") && user.is_ascii() && server.is_none_or(|s| is_name(s, ".-")) {
        true => Ok(name),
        false => Err(address_invalid("a Mastodon account: @erika@example.org")),
    }
}

/// Whether a text mentions anybody: an `@` that follows no word, `/`, `=`, `[` or `:`, and is
/// followed by a name. A little more than Mastodon itself takes for a mention.
fn mentions(text: &str) -> bool {
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let named = chars
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || *c == '_');
        if matches!(c, '@' | '＠')
            && named
            && !(before.is_alphanumeric() || "_/=[:".contains(before))
        {
            return true;
        }
        before = c;
    }
    false
}

impl Network for Mastodon {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome> {
        async move { self.deliver(message).await.unwrap_or_else(|failed| failed) }.boxed()
    }

    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>> {
        async move {
            let call = Call::get(&["api", "v1", "accounts", "verify_credentials"]);
            let reply = self.http.call_safely(&call.bearer(&self.token)).await;
            let reply = reply.map_err(unasked)?;
            let found: Value = reply.json();
            match found["acct"].as_str() {
                Some(name) if reply.is_success() => Ok(format!("Mastodon: @{name}")),
                _ => Err(beforehand(refused(&reply))),
            }
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_names_with_or_without_server() {
        for (address, expected) in [
            ("erika", "erika"),
            ("@erika", "erika"),
            ("@erika.m-1@social.example", "erika.m-1@social.example"),
            ("erika@müßig.example", "erika@müßig.example"),
        ] {
            assert_eq!(account(address).ok(), Some(expected));
        }
        for bad in [
            "", "@", "@@", "a b", "a@", "@a@b c", "a@b@c", "a\n@b", ".a", "a@b/c", "ä",
        ] {
            assert!(account(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mentions_of_others_are_found() {
        for text in ["@a", "Hallo @erika!", "(@a@b.c)", "a\n@b", "„@b", ".@a"] {
            assert!(mentions(text), "{text}");
        }
        for text in [
            "",
            "@",
            "@ a",
            "info@example.org",
            "https://a.de/@b",
            "5 @ 3",
            "@ü",
        ] {
            assert!(!mentions(text), "{text}");
        }
    }
}
