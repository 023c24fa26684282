//! X, against its documented contract: <https://docs.x.com/x-api/posts/create-post>,
//! <https://docs.x.com/x-api/direct-messages/create-dm-message-by-participant-id>,
//! <https://docs.x.com/x-api/users/get-user-by-username>, limits by
//! <https://docs.x.com/x-api/fundamentals/rate-limits>, errors by
//! <https://docs.x.com/x-api/fundamentals/response-codes-and-errors>, signatures by
//! <https://docs.x.com/fundamentals/authentication/oauth-1-0a/creating-a-signature>.

use std::time::{SystemTime, UNIX_EPOCH};

use anklang_channels::proto::health_reply;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use serde_json::{Value, json};

use super::contract::{json_body, members, no_body, same, text};
use super::fake::{Answer, Fake, Seen};
use super::{accepted, failure, open, send, text as message, wait};

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// RFC 3986, as the page on percent encoding has it.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Whether a request is signed by our keys, worked out from what the header says.
fn signed(seen: &Seen) -> Result<(), String> {
    let line = seen.header("authorization").ok_or("no Authorization")?;
    let line = line.strip_prefix("OAuth ").ok_or("not OAuth 1.0a")?;
    let mut pairs: Vec<(String, String)> = line
        .split(", ")
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or(pair)?;
            Ok((name.to_owned(), value.trim_matches('"').to_owned()))
        })
        .collect::<Result<_, &str>>()?;
    let place = pairs.iter().position(|(name, _)| name == "oauth_signature");
    let (_, signature) = pairs.remove(place.ok_or("no signature")?);
    pairs.sort();
    let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = [
        "oauth_consumer_key",
        "oauth_nonce",
        "oauth_signature_method",
        "oauth_timestamp",
        "oauth_token",
        "oauth_version",
    ];
    same("parameters", &*names, &wanted[..])?;
    same("key", &*pairs[0].1, "ck")?;
    same("method", &*pairs[2].1, "HMAC-SHA1")?;
    let age = now().abs_diff(pairs[3].1.parse().map_err(|_| "timestamp")?);
    same("too old", age > 300, false)?;
    same("token", &*pairs[4].1, "at")?;
    // None of the values has a character that is encoded.
    let all: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
    let url = format!("http://{}{}", seen.header("host").unwrap(), seen.target);
    let base = format!(
        "{}&{}&{}",
        seen.method,
        percent(&url),
        percent(&all.join("&"))
    );
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"c%2Fs&t%2Bs");
    let right = percent(&BASE64_STANDARD.encode(hmac::sign(&key, base.as_bytes())));
    same("signature", signature, right)
}

/// The answer in the form of RFC 7807 to what X does not do.
fn problem(status: u16, detail: &str) -> Result<Answer, String> {
    let problem =
        json!({ "title": "Problem", "detail": detail, "type": "about:blank", "status": status });
    Answer::json(status, problem)
}

fn limit(left: u64, reset: u64) -> Vec<(&'static str, String)> {
    vec![
        ("x-rate-limit-limit", "100".to_owned()),
        ("x-rate-limit-remaining", left.to_string()),
        ("x-rate-limit-reset", (now() + reset).to_string()),
    ]
}

fn asked_for(text: &str) -> Option<Result<Answer, String>> {
    let body =
        json!({ "title": "Too Many Requests", "detail": "Too Many Requests", "status": 429 });
    Some(match text {
        "cut" => Ok(Answer::Cut),
        "429" => Ok(Answer::Json(429, limit(0, 500), body)),
        "429 day" => {
            let mut lines = limit(99, 100);
            lines.push(("x-user-limit-24hour-remaining", "0".to_owned()));
            lines.push(("x-user-limit-24hour-reset", (now() + 5000).to_string()));
            Ok(Answer::Json(429, lines, body))
        }
        "duplicate" => problem(
            403,
            "You are not allowed to create a Tweet with duplicate content.",
        ),
        "forbidden" => problem(403, "You are not permitted to perform this action."),
        "closed" => problem(403, "You cannot send messages to this user."),
        other => problem(other.strip_prefix("status ")?.parse().unwrap(), "Words"),
    })
}

fn contract(seen: &Seen) -> Result<Answer, String> {
    signed(seen)?;
    actions(seen)
}

fn actions(seen: &Seen) -> Result<Answer, String> {
    let participant = seen.target.strip_prefix("/2/dm_conversations/with/");
    let participant = participant.and_then(|rest| rest.strip_suffix("/messages"));
    if let (Some(person), "POST") = (participant, &*seen.method) {
        same("participant", person, "2244994945")?;
        let body = json_body(seen)?;
        members(&body, &["text"])?;
        return asked_for(text(&body["text"])?).unwrap_or_else(|| {
            let data = json!({ "dm_conversation_id": "1-2", "dm_event_id": "1346889436626259968" });
            Answer::json(201, json!({ "data": data }))
        });
    }
    match (&*seen.method, &*seen.target) {
        ("POST", "/2/tweets") => {
            let body = json_body(seen)?;
            members(&body, &["text"])?;
            let said = text(&body["text"])?;
            asked_for(said).unwrap_or_else(|| {
                let data = json!({ "data": { "id": "1445880548472328192", "text": said } });
                let left = if said == "the last" { 0 } else { 50 };
                Ok(Answer::Json(201, limit(left, 600), data))
            })
        }
        ("GET", "/2/users/me") => {
            no_body(seen)?;
            let me = json!({ "id": "1", "name": "Stadtwerk", "username": "stadtwerk" });
            Answer::json(200, json!({ "data": me }))
        }
        ("GET", "/2/users/by/username/erika_m") => {
            no_body(seen)?;
            let user = json!({ "id": "2244994945", "name": "Erika", "username": "Erika_M" });
            Answer::json(200, json!({ "data": user }))
        }
        ("GET", "/2/users/by/username/nobody") => {
            let detail = "Could not find user with username: [nobody].";
            Answer::json(
                200,
                json!({ "errors": [{ "title": "Not Found Error", "detail": detail }] }),
            )
        }
        _ => Err("there is no such call".to_owned()),
    }
}

fn config(fake: &Fake) -> Value {
    json!({
        "network": "x", "base_url": fake.url(),
        "consumer_key": "ck", "consumer_secret": "c/s", "token": "at", "token_secret": "t+s",
    })
}

#[tokio::test]
async fn posts_and_messages_are_signed() {
    let fake = Fake::start(contract).await;
    let x = open(&config(&fake)).await;
    let posted = send(&x, message(None, "Neu: Ökostrom \"Fix\" & mehr")).await;
    assert_eq!(accepted(&posted), "1445880548472328192");
    assert_eq!(
        fake.seen()[0].json(),
        json!({ "text": "Neu: Ökostrom \"Fix\" & mehr" })
    );
    for to in ["@Erika_M", "@erika_m", "2244994945"] {
        let sent = send(&x, message(Some(to), "Guten Tag")).await;
        assert_eq!(accepted(&sent), "1346889436626259968", "{to}");
    }
    // The name is looked up once.
    assert_eq!(fake.seen().len(), 1 + 1 + 3);
    let health = x.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert_eq!(health.detail, "X: @stadtwerk");
}

#[tokio::test]
async fn a_bearer_token_does_as_well() {
    let fake = Fake::start(|seen: &Seen| {
        same(
            "token",
            seen.header("authorization"),
            Some("Bearer user-token"),
        )?;
        actions(seen)
    })
    .await;
    let config = json!({ "network": "x", "base_url": fake.url(), "bearer_token": "user-token" });
    accepted(&send(&open(&config).await, message(None, "Neu")).await);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = Fake::start(contract).await;
    let x = open(&config(&fake)).await;
    let person = Some("2244994945");
    for (to, asked, kind, code) in [
        (None, "duplicate", "REASON_CONTENT", "403 DUPLICATE"),
        (None, "forbidden", "REASON_CONFIG", "403"),
        (person, "forbidden", "REASON_CONFIG", "403"),
        (person, "closed", "REASON_RECIPIENT", "403"),
        (person, "status 404", "REASON_RECIPIENT", "404"),
        (None, "status 400", "REASON_CONTENT", "HTTP 400"),
        (None, "status 401", "TRANSIENT", "CONFIG"),
        (None, "status 402", "TRANSIENT", "CONFIG"),
        (None, "status 503", "TRANSIENT", "HTTP 503"),
        (None, "status 500", "AMBIGUOUS", ""),
        (person, "cut", "AMBIGUOUS", ""),
        (None, "cut", "AMBIGUOUS", ""),
    ] {
        let outcome = send(&x, message(to, asked)).await;
        assert_eq!(failure(&outcome), (kind, code), "{asked}");
    }
    let outcome = send(&x, message(Some("@nobody"), "x")).await;
    assert_eq!(failure(&outcome), ("REASON_RECIPIENT", "USER_NOT_FOUND"));
    for bad in [
        "erika",
        "@",
        "@erika müßig",
        "@a_name_that_is_too_long",
        "12345678901234567890",
    ] {
        let outcome = send(&x, message(Some(bad), "x")).await;
        assert_eq!(
            failure(&outcome),
            ("REASON_RECIPIENT", "ADDRESS_INVALID"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn limits_are_kept() {
    let fake = Fake::start(contract).await;
    for (asked, at_least, at_most) in [("429", 400, 500), ("429 day", 4900, 5000)] {
        let x = open(&config(&fake)).await;
        let outcome = send(&x, message(None, asked)).await;
        assert_eq!(failure(&outcome), ("THROTTLED", "account"));
        assert!(
            (at_least..=at_most).contains(&wait(&outcome)),
            "{outcome:?}"
        );
    }
    let x = open(&config(&fake)).await;
    accepted(&send(&x, message(None, "the last")).await);
    let before = fake.seen().len();
    assert_eq!(
        failure(&send(&x, message(None, "x")).await),
        ("THROTTLED", "account")
    );
    assert_eq!(fake.seen().len(), before);
    // Messages have a limit of their own.
    accepted(&send(&x, message(Some("2244994945"), "x")).await);
}

#[tokio::test]
async fn posts_weigh_280() {
    let fake = Fake::start(contract).await;
    let x = open(&config(&fake)).await;
    let long = "https://example.org/".to_owned() + &"a".repeat(300);
    for (text, fits) in [
        ("ü".repeat(280), true),
        ("ü".repeat(281), false),
        ("字".repeat(140), true),
        ("字".repeat(141), false),
        (format!("{} {long}", "ü".repeat(256)), true),
        (format!("{} {long}", "ü".repeat(257)), false),
    ] {
        let outcome = send(&x, message(None, &text)).await;
        match fits {
            true => assert!(!accepted(&outcome).is_empty()),
            false => assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG")),
        }
    }
}
