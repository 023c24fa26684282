//! An account at Mailjet: mails go out through the Send API v3.1, what becomes of them comes back
//! through its Event API.
//!
//! | Mailjet … | outcome |
//! |---|---|
//! | "success" for the message | accepted, with its `MessageUUID` |
//! | "error" for the message, status 400 | permanent, by what the error is related to |
//! | cannot be reached, or nothing of the body went out | transient `CONNECT` |
//! | 401, 403 | transient `CONFIG` |
//! | 429 | throttled, account, `Retry-After` |
//! | 400 for the call as a whole | each message alone; then permanent, content |
//! | another 4xx, or 3xx | transient `CONFIG` |
//! | 5xx, silence or nonsense after the body was begun | **ambiguous** |
//!
//! The API knows no idempotency key. Our id goes along as `CustomID`, by which events tell it and
//! [`lookup`](Mailjet::lookup) asks for it. Mailjet shows a message a moment after it took it, so one that
//! it does not show is certainly not there only after [`SETTLING`].

mod answer;
mod client;
mod letter;
mod recent;
mod webhook;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anklang_plugin_sdk::{
    CallbackReply, CallbackRequest, HealthReply, Host, Level, LookupResult, Message, NotFound,
    Outcome, health_reply::Status, lookup_result, outcome::Kind,
};
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use mail_parser::DateTime;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{MailjetSettings, WebhookSettings};
use answer::Verdict;
use client::{Answer, Client, Failed};
use letter::{Letter, Style};
use recent::Recent;

/// For how long after a hand-over Mailjet may not show a message that it took.
const SETTLING: Duration = Duration::from_secs(120);
/// Messages in one call.
const MESSAGES: usize = 50;
/// Bytes of one call's messages, beyond which another call is made. Attachments of one message may
/// have 15 MB, and in base64 they are a third longer.
const BYTES: usize = 16 * 1024 * 1024;
/// Lookups at the same time.
const LOOKUPS: usize = 8;
/// How long the account rests if Mailjet does not say.
const REST: Duration = Duration::from_secs(60);

/// One opened account.
pub(crate) struct Mailjet {
    client: Client,
    style: Style,
    webhook: Option<WebhookSettings>,
    /// Messages that were handed over in vain or nobody knows.
    doubtful: Recent,
    host: Host,
}

/// A message that is ready, and its place in the batch.
struct Ready {
    index: usize,
    id: String,
    /// The message as the API wants it.
    json: String,
}

impl Mailjet {
    pub(crate) fn open(settings: MailjetSettings, host: Host) -> Self {
        Self {
            client: Client::new(&settings),
            style: Style {
                sandbox: settings.sandbox,
                track_opens: settings.track_opens,
                track_clicks: settings.track_clicks,
            },
            webhook: settings.webhook,
            doubtful: Recent::new(SETTLING),
            host,
        }
    }

    pub(crate) async fn send(&self, batch: Vec<Message>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; batch.len()];
        let style = self.style;
        // Encoding computes for a while, and others use the same threads to wait.
        let building = tokio::task::spawn_blocking(move || {
            let built = batch.iter().enumerate().map(|(index, message)| {
                let letter = Letter::new(message, &style).map_err(|refused| (index, refused))?;
                Ok(Ready {
                    index,
                    id: message.message_id.clone(),
                    json: letter.json(),
                })
            });
            built.collect::<Vec<_>>()
        });
        let Ok(built) = building.await else {
            let failed = Outcome::transient("BUILD", "the messages could not be made");
            return vec![failed; outcomes.len()];
        };
        let mut ready = Vec::with_capacity(built.len());
        for built in built {
            match built {
                Ok(one) => ready.push(one),
                Err((index, refused)) => outcomes[index] = Some(refused),
            }
        }
        let calls = chunks(ready).into_iter().map(|chunk| self.call(chunk));
        for (index, outcome) in join_all(calls).await.into_iter().flatten() {
            outcomes[index] = Some(outcome);
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Outcome::ambiguous("it was not called")))
            .collect()
    }

    /// One call; if it is refused as a whole, one for each of its messages.
    async fn call(&self, chunk: Vec<Ready>) -> Vec<(usize, Outcome)> {
        match self.hand_over(&chunk).await {
            Verdict::Each(outcomes) => self.settled(&chunk, outcomes),
            Verdict::All(outcome) => {
                self.warn(&outcome);
                let outcomes = vec![outcome; chunk.len()];
                self.settled(&chunk, outcomes)
            }
            Verdict::Refused(outcome) if chunk.len() == 1 => self.settled(&chunk, vec![outcome]),
            Verdict::Refused(_) => {
                // Nothing was taken, and the fault may be one message's.
                let mut settled = Vec::with_capacity(chunk.len());
                for one in chunk {
                    let one = [one];
                    let outcome = match self.hand_over(&one).await {
                        Verdict::Each(outcomes) => outcomes,
                        Verdict::All(outcome) | Verdict::Refused(outcome) => vec![outcome],
                    };
                    settled.extend(self.settled(&one, outcome));
                }
                settled
            }
        }
    }

    async fn hand_over(&self, chunk: &[Ready]) -> Verdict {
        let body = letter::payload(chunk.iter().map(|one| &one.json[..]), self.style.sandbox);
        match self.client.post("/v3.1/send", body).await {
            Ok(answer) => answer::verdict(&answer, chunk.len(), REST),
            Err(Failed::Before(reason)) => Verdict::All(Outcome::transient("CONNECT", reason)),
            Err(Failed::After(reason)) => Verdict::All(Outcome::ambiguous(reason)),
        }
    }

    fn settled(&self, chunk: &[Ready], outcomes: Vec<Outcome>) -> Vec<(usize, Outcome)> {
        for (one, outcome) in chunk.iter().zip(&outcomes) {
            if matches!(outcome.kind, Some(Kind::Ambiguous(_))) {
                self.doubtful.note(&one.id);
            }
        }
        chunk.iter().map(|one| one.index).zip(outcomes).collect()
    }

    fn warn(&self, outcome: &Outcome) {
        let reason = match &outcome.kind {
            Some(Kind::Transient(failed)) => format!("{}: {}", failed.code, failed.detail),
            Some(Kind::Ambiguous(unknown)) => unknown.detail.clone(),
            _ => return,
        };
        self.host.log(
            Level::Warn,
            "a call of Mailjet failed",
            &[("reason", reason)],
        );
    }

    pub(crate) async fn lookup(&self, message_ids: Vec<String>) -> Vec<LookupResult> {
        stream::iter(message_ids)
            .map(|id| async move {
                let kind = match self.look_up(&id).await {
                    Some(outcome) => lookup_result::Kind::Outcome(outcome),
                    None => lookup_result::Kind::NotFound(NotFound {}),
                };
                LookupResult { kind: Some(kind) }
            })
            .buffered(LOOKUPS)
            .collect()
            .await
    }

    /// What became of a message; `None` if Mailjet certainly never got it.
    async fn look_up(&self, id: &str) -> Option<Outcome> {
        if let Err(refused) = crate::mime::checked_id(id) {
            return Some(refused);
        }
        let unknown = |reason: String| Some(Outcome::ambiguous(reason));
        let path = format!("/v3/REST/message?CustomID={id}");
        let answer = match self.client.get(&path).await {
            Ok(answer) => answer,
            Err(Failed::Before(reason) | Failed::After(reason)) => return unknown(reason),
        };
        if answer.status != 200 {
            return unknown(format!("the lookup was answered with {}", answer.status));
        }
        let Ok(found) = serde_json::from_slice::<Found>(&answer.body) else {
            return unknown("the answer to the lookup cannot be read".to_owned());
        };
        match found.data.first() {
            Some(taken) => Some(taken.outcome()),
            None if self.doubtful.is_recent(id) => {
                unknown("Mailjet does not show it yet".to_owned())
            }
            None => None,
        }
    }

    pub(crate) fn callback(&self, request: &CallbackRequest) -> CallbackReply {
        webhook::callback(request, self.webhook.as_ref())
    }

    /// Asks for nothing in particular: whether the keys are taken.
    pub(crate) async fn health(&self) -> HealthReply {
        let (status, detail) = match self.client.get("/v3/REST/message?Limit=1").await {
            Ok(Answer { status: 200, .. }) => (Status::Serving, "connected".to_owned()),
            Ok(Answer { status, .. }) => {
                (Status::NotServing, format!("Mailjet answers with {status}"))
            }
            Err(Failed::Before(reason) | Failed::After(reason)) => (Status::NotServing, reason),
        };
        HealthReply {
            status: status.into(),
            detail,
        }
    }
}

/// At most [`MESSAGES`] and [`BYTES`] for each call, in order.
fn chunks(ready: Vec<Ready>) -> Vec<Vec<Ready>> {
    let mut chunks: Vec<Vec<Ready>> = Vec::new();
    let mut bytes = 0;
    for one in ready {
        let size = one.json.len();
        match chunks.last_mut() {
            Some(last) if last.len() < MESSAGES && bytes + size <= BYTES => {
                bytes += size;
                last.push(one);
            }
            _ => {
                bytes = size;
                chunks.push(vec![one]);
            }
        }
    }
    chunks
}

/// Answer to a lookup.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    data: Vec<Taken>,
}

/// A message that Mailjet has.
#[derive(Deserialize)]
struct Taken {
    #[serde(rename = "ID", default)]
    id: Value,
    #[serde(rename = "UUID", default)]
    uuid: String,
    #[serde(rename = "ArrivedAt", default)]
    arrived_at: String,
    #[serde(rename = "Status", default)]
    status: Value,
}

impl Taken {
    fn outcome(&self) -> Outcome {
        let seconds = DateTime::parse_rfc3339(&self.arrived_at).map(|date| date.to_timestamp());
        let at = seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            .unwrap_or_else(SystemTime::now);
        let status = self.status.as_str().unwrap_or("unknown");
        Outcome::accepted(answer::named(&self.uuid, &self.id), at, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(index: usize, size: usize) -> Ready {
        Ready {
            index,
            id: index.to_string(),
            json: "x".repeat(size),
        }
    }

    #[test]
    fn calls_are_bounded_by_count_and_bytes() {
        let many = (0..120).map(|index| ready(index, 10)).collect();
        let sizes: Vec<_> = chunks(many).iter().map(Vec::len).collect();
        assert_eq!(sizes, [50, 50, 20]);
        let large = [1, BYTES - 1, 1, 2 * BYTES, 1];
        let large = large
            .iter()
            .enumerate()
            .map(|(index, size)| ready(index, *size));
        let places: Vec<Vec<_>> = chunks(large.collect())
            .iter()
            .map(|chunk| chunk.iter().map(|one| one.index).collect())
            .collect();
        assert_eq!(places, [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert!(chunks(Vec::new()).is_empty());
    }
}
