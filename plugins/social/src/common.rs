//! What all networks do the same way: what a message must be, and what answers mean that say no
//! more than their HTTP status.
//!
//! | answer | outcome |
//! |---|---|
//! | no connection | transient `CONNECT` |
//! | connected, no answer | **ambiguous** |
//! | 2xx that cannot be read | **ambiguous** |
//! | 3xx, 401 | transient `CONFIG` |
//! | 403 | permanent, config |
//! | 408, 425, 429 | throttled |
//! | any other 4xx | permanent, content |
//! | 503 | transient: it says that it takes nothing |
//! | any other 5xx | **ambiguous** |
//!
//! Networks say more in their bodies; what they say goes first.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anklang_plugin_sdk::{
    CallbackReply, CallbackRequest, Content, Message, Outcome, Reason, outcome::Kind,
};
use futures::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use crate::config::Serves;
use crate::http::{Failure, Reply};

/// When to come back where the network does not say.
pub(crate) const REST: Duration = Duration::from_secs(60);
/// The longest rest that is believed: two days, as limits are by the day at most.
const LONGEST_REST: Duration = Duration::from_secs(2 * 24 * 3600);
/// Longest text of a network that is passed on, in characters.
const LONGEST_DETAIL: usize = 500;

/// One account of a network.
pub(crate) trait Network: Send + Sync {
    /// Hands one message over.
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Outcome>;

    /// Asks the network who we are. An error is the outcome of what would be sent.
    fn health(&self) -> BoxFuture<'_, Result<String, Outcome>>;

    /// Authenticates and translates a request of the network.
    fn callback(&self, _request: &CallbackRequest) -> CallbackReply {
        answer(404)
    }

    /// These events are committed.
    fn acknowledge(&self, _event_ids: &[u64]) {}
}

/// To whom a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    /// To all: posted in the name of the account.
    Public,
    /// To one person, by an address that is not checked yet.
    Person(String),
}

/// A message that can be handed over.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// A UUID: the same for each attempt.
    pub(crate) id: String,
    pub(crate) to: To,
    /// Not blank.
    pub(crate) text: String,
}

impl Outgoing {
    /// The message, or the outcome of one that this account cannot send.
    pub(crate) fn check(message: Message, serves: Serves) -> Result<Self, Outcome> {
        let id = message.message_id;
        let is_id = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !is_id {
            let detail = "the message id is no UUID";
            return Err(content("MESSAGE_ID_INVALID", detail));
        }
        let Some(Content::Text(text)) = message.content else {
            let detail = "social networks take texts alone";
            return Err(content("CONTENT_UNSUPPORTED", detail));
        };
        if text.text.trim().is_empty() {
            return Err(content("EMPTY", "there is no text"));
        }
        let address = message.recipient.map(|party| party.address);
        let to = match address {
            Some(address) if !address.is_empty() => To::Person(address),
            _ => To::Public,
        };
        match (&to, serves) {
            (To::Public, Serves::Messages) => return Err(no_public_posts()),
            (To::Person(_), Serves::Posts) => {
                let detail = "the account is for public posts alone";
                return Err(config("NO_DIRECT_MESSAGES", detail));
            }
            _ => {}
        }
        let text = text.text;
        Ok(Self { id, to, text })
    }
}

/// The account cannot post publicly.
pub(crate) fn no_public_posts() -> Outcome {
    let detail = "the account cannot post publicly, or is not configured to";
    config("NO_PUBLIC_POSTS", detail)
}

/// The address is none of this network.
pub(crate) fn address_invalid(form: &str) -> Outcome {
    recipient("ADDRESS_INVALID", format!("the address is not {form}"))
}

/// The text has more than the network takes.
pub(crate) fn too_long(length: usize, most: usize) -> Outcome {
    let detail = format!("the text counts {length} characters, {most} are possible");
    content("TOO_LONG", detail)
}

pub(crate) fn recipient(code: impl Into<String>, detail: impl Into<String>) -> Outcome {
    Outcome::permanent(Reason::Recipient, code, detail)
}

pub(crate) fn content(code: impl Into<String>, detail: impl Into<String>) -> Outcome {
    Outcome::permanent(Reason::Content, code, detail)
}

pub(crate) fn config(code: impl Into<String>, detail: impl Into<String>) -> Outcome {
    Outcome::permanent(Reason::Config, code, detail)
}

/// An operator can mend it; until then messages wait.
pub(crate) fn mendable(detail: impl Into<String>) -> Outcome {
    Outcome::transient("CONFIG", detail)
}

/// The account rests.
pub(crate) fn account_rests(wait: Option<Duration>) -> Outcome {
    Outcome::throttled(wait.unwrap_or(REST).min(LONGEST_REST), "account")
}

pub(crate) fn accepted(id: impl Into<String>, detail: impl Into<String>) -> Outcome {
    Outcome::accepted(id, SystemTime::now(), detail)
}

/// There is no answer to what would have sent the message.
pub(crate) fn unanswered(failure: Failure) -> Outcome {
    match failure {
        Failure::NotSent(text) => Outcome::transient("CONNECT", text),
        Failure::Lost(text) => Outcome::ambiguous(format!("no answer: {text}")),
    }
}

/// There is no answer to a question that comes before the message: nothing was handed over.
pub(crate) fn unasked(failure: Failure) -> Outcome {
    let (Failure::NotSent(text) | Failure::Lost(text)) = failure;
    Outcome::transient("CONNECT", text)
}

/// The outcome of an answer by its status alone; `said` are the network's words.
pub(crate) fn by_status(reply: &Reply, said: &str) -> Outcome {
    let code = format!("HTTP {}", reply.status);
    let said = match said {
        "" => code.clone(),
        said => format!("{code}: {said}"),
    };
    match reply.status {
        200..300 => Outcome::ambiguous(format!("{said}, in a form that is not known")),
        300..400 => mendable(format!(
            "{said}; redirects are not followed: correct base_url"
        )),
        401 => mendable(said),
        403 => config(code, said),
        408 | 425 | 429 => account_rests(reply.retry_after()),
        503 => Outcome::transient(code, said),
        400..500 => content(code, said),
        _ => Outcome::ambiguous(said),
    }
}

/// An answer to what comes before the message is never ambiguous: nothing was handed over.
pub(crate) fn beforehand(outcome: Outcome) -> Outcome {
    match outcome.kind {
        Some(Kind::Ambiguous(ambiguous)) => Outcome::transient("UNAVAILABLE", ambiguous.detail),
        kind => Outcome { kind },
    }
}

/// Whether an outcome says something of the account, so that others need not be tried.
pub(crate) fn concerns_account(outcome: &Outcome) -> bool {
    let failed = |code: &str| matches!(code, "CONFIG" | "CONNECT");
    outcome.rests_account()
        || matches!(&outcome.kind, Some(Kind::Transient(transient)) if failed(&transient.code))
}

/// Removes from what a network said our secrets and the text of the message, which some repeat,
/// and shortens it.
pub(crate) fn scrub(outcome: &mut Outcome, secrets: &[SecretString], text: &str) {
    let clean = |said: &mut String| *said = scrubbed(said, secrets, text);
    match &mut outcome.kind {
        Some(Kind::Accepted(accepted)) => clean(&mut accepted.detail),
        Some(Kind::Permanent(permanent)) => clean(&mut permanent.detail),
        Some(Kind::Transient(transient)) => clean(&mut transient.detail),
        Some(Kind::Ambiguous(ambiguous)) => clean(&mut ambiguous.detail),
        Some(Kind::Throttled(_)) | None => {}
    }
}

pub(crate) fn scrubbed(said: &str, secrets: &[SecretString], text: &str) -> String {
    let mut clean = said.to_owned();
    for secret in secrets {
        clean = clean.replace(secret.expose_secret(), "********");
    }
    if text.chars().count() > 3 {
        clean = clean.replace(text, "…");
    }
    clean.chars().take(LONGEST_DETAIL).collect()
}

/// An answer to a request of a network.
pub(crate) fn answer(http_status: u32) -> CallbackReply {
    CallbackReply {
        http_status,
        ..CallbackReply::default()
    }
}

/// The value of the first header line of this name, in lower case.
pub(crate) fn header<'r>(request: &'r CallbackRequest, name: &str) -> Option<&'r str> {
    let mut headers = request.headers.iter();
    let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value.as_str())
}

/// A rest that the network asked for before it refused anything.
#[derive(Default)]
pub(crate) struct Rest(Mutex<Option<Instant>>);

impl Rest {
    /// The outcome of what would be sent during the rest.
    pub(crate) fn check(&self) -> Result<(), Outcome> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = until.and_then(|until| until.checked_duration_since(Instant::now()));
        match left {
            Some(left) if !left.is_zero() => Err(account_rests(Some(left))),
            _ => Ok(()),
        }
    }

    pub(crate) fn begin(&self, wait: Duration) {
        let until = Instant::now() + wait.min(LONGEST_REST);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16) -> Reply {
        Reply {
            status,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn what_may_have_been_taken_is_ambiguous_and_nothing_else() {
        for status in 100..600 {
            let ambiguous = matches!(by_status(&reply(status), "").kind, Some(Kind::Ambiguous(_)));
            let expected = status < 300 || (status >= 500 && status != 503);
            assert_eq!(ambiguous, expected, "{status}");
        }
    }

    #[test]
    fn secrets_and_texts_are_not_passed_on() {
        let said = "Malformed access token EAAB for \"Guten Tag, Frau Müßig\"";
        let mut outcome = mendable(said);
        scrub(&mut outcome, &["EAAB".into()], "Guten Tag, Frau Müßig");
        let Some(Kind::Transient(transient)) = outcome.kind else {
            panic!("{outcome:?}");
        };
        assert_eq!(
            transient.detail,
            "Malformed access token ******** for \"…\""
        );
        assert_eq!(scrubbed(&"x".repeat(900), &[], "").len(), LONGEST_DETAIL);
    }

    #[test]
    fn a_rest_ends() {
        let rest = Rest::default();
        assert!(rest.check().is_ok());
        rest.begin(Duration::from_secs(3600));
        assert!(rest.check().is_err());
        rest.begin(Duration::ZERO);
        assert!(rest.check().is_ok());
    }
}
