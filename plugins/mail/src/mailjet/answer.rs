//! What an answer of the Send API v3.1 says of each message. From
//! <https://dev.mailjet.com/email/guides/send-api-v31/#send-api-errors>.

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::{Outcome, Reason};
use serde::Deserialize;
use serde_json::Value;

use super::client::Answer;

/// Longest text of Mailjet that is passed on, in characters.
const LONGEST_DETAIL: usize = 500;

/// What became of a call.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Of its messages, one by one.
    Each(Vec<Outcome>),
    /// The same of all its messages.
    All(Outcome),
    /// It was refused as a whole and nothing was taken; this is the outcome if it had one message.
    Refused(Outcome),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Reply {
    messages: Vec<Answered>,
    error_code: String,
    error_message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answered {
    status: String,
    to: Vec<Taken>,
    errors: Vec<Fault>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Taken {
    #[serde(rename = "MessageUUID")]
    uuid: String,
    #[serde(rename = "MessageID")]
    id: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Fault {
    error_code: String,
    status_code: u16,
    error_message: String,
    error_related_to: Vec<String>,
}

/// What an answer says of a call with so many messages.
pub(super) fn verdict(answer: &Answer, count: usize, rest: Duration) -> Verdict {
    let reply: Option<Reply> = serde_json::from_slice(&answer.body).ok();
    if let Some(reply) = &reply
        && reply.messages.len() == count
        && answer.status < 500
    {
        let each = reply.messages.iter().map(|one| one.outcome(rest));
        return Verdict::Each(each.collect());
    }
    let reply = reply.unwrap_or_default();
    let said = match &reply.error_code[..] {
        "" => format!("HTTP {}", answer.status),
        code => shortened(&format!("{code} {}", reply.error_message)),
    };
    match answer.status {
        // Taken, and nobody knows of which messages.
        200..=299 => Verdict::All(Outcome::ambiguous("the answer cannot be read")),
        400 | 413 | 422 if reply.messages.is_empty() => {
            let code = match &reply.error_code[..] {
                "" => answer.status.to_string(),
                code => shortened(code),
            };
            Verdict::Refused(Outcome::permanent(Reason::Content, code, said))
        }
        429 => {
            let rest = answer.retry_after.unwrap_or(rest);
            Verdict::All(Outcome::throttled(rest, "account"))
        }
        300..=499 if reply.messages.is_empty() => Verdict::All(Outcome::transient("CONFIG", said)),
        _ => Verdict::All(Outcome::ambiguous(said)),
    }
}

impl Answered {
    fn outcome(&self, rest: Duration) -> Outcome {
        if self.status.eq_ignore_ascii_case("success") {
            let name = self.to.first().map(|taken| named(&taken.uuid, &taken.id));
            return Outcome::accepted(name.unwrap_or_default(), SystemTime::now(), "success");
        }
        let Some(fault) = self.errors.first() else {
            return Outcome::ambiguous("neither success nor an error was told");
        };
        let (code, detail) = (shortened(&fault.error_code), fault.detail());
        match fault.status_code {
            401 | 403 => Outcome::transient("CONFIG", format!("{code} {detail}")),
            429 => Outcome::throttled(rest, "account"),
            500.. => Outcome::ambiguous(format!("{code} {detail}")),
            _ => Outcome::permanent(fault.reason(), code, detail),
        }
    }
}

impl Fault {
    /// What is to be corrected.
    fn reason(&self) -> Reason {
        let related = self.error_related_to.first().map_or("", String::as_str);
        let property = related.split(['[', '.']).next().unwrap_or_default();
        match property.to_ascii_lowercase().as_str() {
            "to" => Reason::Recipient,
            "from" | "sender" | "replyto" | "templateid" => Reason::Config,
            _ => Reason::Content,
        }
    }

    fn detail(&self) -> String {
        let related = self.error_related_to.join(", ");
        shortened(&format!("{} ({related})", self.error_message))
    }
}

/// Mailjet's name for a message: the UUID that events tell as well, else the number.
pub(super) fn named(uuid: &str, id: &Value) -> String {
    match (uuid, id) {
        ("", Value::Number(id)) => id.to_string(),
        ("", Value::String(id)) => id.clone(),
        (uuid, _) => uuid.to_owned(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use anklang_plugin_sdk::outcome::Kind;
    use serde_json::json;

    use super::*;

    const REST: Duration = Duration::from_secs(60);

    fn verdict_of(status: u16, body: &Value, count: usize) -> Verdict {
        let answer = Answer {
            status,
            retry_after: None,
            body: body.to_string().into(),
        };
        verdict(&answer, count, REST)
    }

    fn fault(status: u16, code: &str, related: &str) -> Value {
        json!({ "Status": "error", "Errors": [{
            "ErrorIdentifier": "88b5ca9f", "ErrorCode": code, "StatusCode": status,
            "ErrorMessage": "No.", "ErrorRelatedTo": [related],
        }] })
    }

    #[test]
    fn messages_are_told_apart() {
        let body = json!({ "Messages": [
            { "Status": "success", "CustomID": "a", "To": [{
                "Email": "a@example.org", "MessageUUID": "u-1", "MessageID": 70650219165027410_u64,
            }] },
            fault(400, "mj-0013", "To[0].Email"),
            fault(400, "mj-0013", "From.Email"),
            fault(400, "send-0010", "TemplateID"),
            fault(400, "send-0003", "HTMLPart"),
            fault(403, "send-0008", "From"),
            { "Status": "error" },
        ] });
        let Verdict::Each(outcomes) = verdict_of(400, &body, 7) else {
            panic!("not told apart");
        };
        let said: Vec<_> = outcomes
            .into_iter()
            .map(|outcome| match outcome.kind {
                Some(Kind::Accepted(a)) => a.provider_message_id,
                Some(Kind::Permanent(p)) => format!("{} {}", p.reason().as_str_name(), p.code),
                Some(Kind::Transient(t)) => t.code,
                Some(Kind::Ambiguous(_)) => "ambiguous".to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            "u-1",
            "REASON_RECIPIENT mj-0013",
            "REASON_CONFIG mj-0013",
            "REASON_CONFIG send-0010",
            "REASON_CONTENT send-0003",
            "CONFIG",
            "ambiguous",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn an_answer_of_other_length_says_nothing() {
        let body = json!({ "Messages": [{ "Status": "success" }] });
        for status in [200, 400, 500] {
            let verdict = verdict_of(status, &body, 2);
            let all =
                matches!(&verdict, Verdict::All(o) if matches!(o.kind, Some(Kind::Ambiguous(_))));
            assert!(all, "{status}: {verdict:?}");
        }
        let verdict = verdict_of(502, &body, 1);
        assert!(matches!(verdict, Verdict::All(o) if matches!(o.kind, Some(Kind::Ambiguous(_)))));
    }
}
