//! Mastodon, against its documented contract: <https://docs.joinmastodon.org/methods/statuses/>,
//! <https://docs.joinmastodon.org/api/rate-limits/>, <https://docs.joinmastodon.org/methods/instance/#v2>.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anklang_channels::proto::health_reply;
use serde_json::{Value, json};

use super::contract::{header, json_body, members, no_body, same, text, uuid};
use super::fake::{Answer, Fake, Seen};
use super::{accepted, failure, open, open_impatient, send, text as message, wait};

/// What a server keeps: the statuses by key, as it answers a known key with the same status; and how
/// many answers get lost.
#[derive(Default)]
struct Server {
    by_key: Mutex<HashMap<String, Value>>,
    lost: Mutex<usize>,
}

/// A time in so many seconds, as it stands in headers.
fn at(seconds: u64) -> String {
    let time: chrono::DateTime<chrono::Utc> =
        (SystemTime::now() + Duration::from_secs(seconds)).into();
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

fn limit(left: &str, seconds: u64) -> Vec<(&'static str, String)> {
    vec![
        ("x-ratelimit-limit", "300".to_owned()),
        ("x-ratelimit-remaining", left.to_owned()),
        ("x-ratelimit-reset", at(seconds)),
    ]
}

impl Server {
    fn contract(&self, seen: &Seen) -> Result<Answer, String> {
        if seen.target == "/api/v2/instance" {
            no_body(seen)?;
            let statuses = json!({ "max_characters": 1000, "characters_reserved_per_url": 30 });
            return Answer::json(200, json!({ "configuration": { "statuses": statuses } }));
        }
        header(seen, "authorization", "Bearer TOKEN")?;
        match (&*seen.method, &*seen.target) {
            ("GET", "/api/v1/accounts/verify_credentials") => {
                no_body(seen)?;
                Answer::json(
                    200,
                    json!({ "id": "1", "username": "stadtwerk", "acct": "stadtwerk" }),
                )
            }
            ("DELETE", path) if path.starts_with("/api/v1/statuses/") => {
                no_body(seen)?;
                Answer::json(200, json!({ "id": "1" }))
            }
            ("POST", "/api/v1/statuses") => self.status(seen),
            _ => Err("there is no such call".to_owned()),
        }
    }

    fn status(&self, seen: &Seen) -> Result<Answer, String> {
        let body = json_body(seen)?;
        members(&body, &["status", "visibility"])?;
        let key = seen.header("idempotency-key").ok_or("no Idempotency-Key")?;
        uuid(key)?;
        let (status, visibility) = (text(&body["status"])?, text(&body["visibility"])?);
        same(
            "visibility",
            ["public", "unlisted", "direct"].contains(&visibility),
            true,
        )?;
        let said = status.rsplit(' ').next().unwrap();
        let error = |status: u16, error: &str| Answer::json(status, json!({ "error": error }));
        match said {
            "hang" => return Ok(Answer::Hang),
            "401" => return error(401, "The access token is invalid"),
            "403" => return error(403, "This action is not allowed"),
            "404" => return error(404, "Record not found"),
            "410" => return error(410, "Gone"),
            "422" => {
                return error(
                    422,
                    "Validation failed: Text character limit of 500 exceeded",
                );
            }
            "500" => return error(500, "Internal server error"),
            "503" => return error(503, "There was a temporary problem serving your request"),
            "429" => {
                return Ok(Answer::Json(
                    429,
                    limit("0", 90),
                    json!({ "error": "Too many requests" }),
                ));
            }
            _ => {}
        }
        let mut by_key = self.by_key.lock().unwrap();
        let id = by_key.len() + 1;
        let mentions = match status.strip_prefix('@') {
            Some(rest) if visibility == "direct" && !rest.starts_with("nobody") => {
                json!([{ "acct": rest.split(' ').next().unwrap() }])
            }
            _ => json!([]),
        };
        let made = json!({ "id": id.to_string(), "url": format!("https://a.de/{id}"), "mentions": mentions });
        let made = by_key.entry(key.to_owned()).or_insert(made).clone();
        let mut lost = self.lost.lock().unwrap();
        if *lost > 0 {
            *lost -= 1;
            return Ok(Answer::Cut);
        }
        let left = if said == "last" { "0" } else { "7" };
        Ok(Answer::Json(200, limit(left, 120), made))
    }
}

async fn fake() -> (Fake, &'static Server) {
    let server: &'static Server = Box::leak(Box::default());
    (Fake::start(move |seen| server.contract(seen)).await, server)
}

fn config(fake: &Fake) -> Value {
    json!({
        "network": "mastodon", "base_url": fake.url(), "access_token": "TOKEN",
    })
}

#[tokio::test]
async fn posts_are_public_and_messages_direct() {
    let (fake, _) = fake().await;
    let mastodon = open(&config(&fake)).await;
    let posted = send(&mastodon, message(None, "Neu: @hannover \"Fix\"")).await;
    assert_eq!(accepted(&posted), "1");
    let sent = send(
        &mastodon,
        message(Some("@erika@social.example"), "Guten Tag"),
    )
    .await;
    assert_eq!(accepted(&sent), "2");
    let seen = fake.seen();
    assert_eq!(
        seen[0].json(),
        json!({ "status": "Neu: @hannover \"Fix\"", "visibility": "public" })
    );
    assert_eq!(
        seen[1].json(),
        json!({ "status": "@erika@social.example Guten Tag", "visibility": "direct" })
    );
    let health = mastodon.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert_eq!(health.detail, "Mastodon: @stadtwerk");
    let mut quiet = config(&fake);
    quiet["visibility"] = "unlisted".into();
    accepted(&send(&open(&quiet).await, message(None, "x")).await);
    assert_eq!(fake.seen().last().unwrap().json()["visibility"], "unlisted");
}

#[tokio::test]
async fn direct_messages_reach_whom_they_are_for_and_nobody_else() {
    let (fake, _) = fake().await;
    let mastodon = open(&config(&fake)).await;
    let outcome = send(
        &mastodon,
        message(Some("erika"), "Ihr @nachbar hat es auch"),
    )
    .await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "MENTIONS"));
    for bad in ["erika müßig", "@", "erika@", "a@b@c"] {
        let outcome = send(&mastodon, message(Some(bad), "x")).await;
        assert_eq!(
            failure(&outcome),
            ("REASON_RECIPIENT", "ADDRESS_INVALID"),
            "{bad}"
        );
    }
    assert_eq!(fake.seen().len(), 0);
    let outcome = send(&mastodon, message(Some("@nobody@gone.example"), "x")).await;
    assert_eq!(failure(&outcome), ("REASON_RECIPIENT", "ACCOUNT_NOT_FOUND"));
    let last = fake.seen().pop().unwrap();
    assert_eq!(
        (&*last.method, &*last.target),
        ("DELETE", "/api/v1/statuses/1")
    );
}

#[tokio::test]
async fn lost_answers_lose_and_double_nothing() {
    let (fake, server) = fake().await;
    let mastodon = open(&config(&fake)).await;
    *server.lost.lock().unwrap() = 2;
    let outcome = send(&mastodon, message(None, "eins")).await;
    assert_eq!(accepted(&outcome), "1");
    assert_eq!(fake.seen().len(), 3);
    *server.lost.lock().unwrap() = 3;
    let second = message(None, "zwei");
    let outcome = send(&mastodon, second.clone()).await;
    assert_eq!(failure(&outcome), ("AMBIGUOUS", ""));
    // Whoever sends it again gets the status that is there.
    assert_eq!(accepted(&send(&mastodon, second).await), "2");
    assert_eq!(server.by_key.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn networks_that_never_answer_leave_doubt() {
    let (fake, _) = fake().await;
    let mastodon = open_impatient(&config(&fake)).await;
    let outcome = send(&mastodon, message(None, "hang")).await;
    assert_eq!(failure(&outcome), ("AMBIGUOUS", ""));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let (fake, _) = fake().await;
    let mastodon = open(&config(&fake)).await;
    for (asked, kind, code) in [
        ("401", "TRANSIENT", "CONFIG"),
        ("403", "REASON_CONFIG", "HTTP 403"),
        ("404", "TRANSIENT", "CONFIG"),
        ("410", "REASON_CONFIG", "HTTP 410"),
        ("422", "REASON_CONTENT", "HTTP 422"),
        ("500", "AMBIGUOUS", ""),
        ("503", "TRANSIENT", "HTTP 503"),
    ] {
        let outcome = send(&mastodon, message(None, asked)).await;
        assert_eq!(failure(&outcome), (kind, code), "{asked}");
    }
    let outcome = send(&mastodon, message(None, "429")).await;
    assert_eq!(failure(&outcome), ("THROTTLED", "account"));
    // The limit begins anew 90 seconds after the answer.
    assert!((60..=90).contains(&wait(&outcome)), "{outcome:?}");
}

#[tokio::test]
async fn the_last_one_for_now_is_followed_by_a_rest() {
    let (fake, _) = fake().await;
    let mastodon = open(&config(&fake)).await;
    accepted(&send(&mastodon, message(None, "the last")).await);
    let outcome = send(&mastodon, message(None, "x")).await;
    assert_eq!(failure(&outcome), ("THROTTLED", "account"));
    assert!((60..=120).contains(&wait(&outcome)), "{outcome:?}");
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn servers_are_asked_how_much_they_take() {
    let (fake, _) = fake().await;
    let mastodon = open(&config(&fake)).await;
    accepted(&send(&mastodon, message(None, &"ü".repeat(1000))).await);
    let outcome = send(&mastodon, message(None, &"ü".repeat(1001))).await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG"));
    // An address counts 30 on this server.
    let long = format!(
        "{} https://example.org/{}",
        "ü".repeat(969),
        "a".repeat(500)
    );
    accepted(&send(&mastodon, message(None, &long)).await);
    let outcome = send(&mastodon, message(None, &format!("ü{long}"))).await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG"));
    let asked = fake
        .seen()
        .into_iter()
        .filter(|seen| seen.target == "/api/v2/instance");
    assert_eq!(asked.count(), 1);
    // Others that speak the API have no such answer: 500 then.
    let older = Fake::start(|seen: &Seen| match &*seen.target {
        "/api/v2/instance" => Answer::json(404, json!({ "error": "Not found" })),
        other => Err(other.to_owned()),
    })
    .await;
    let outcome = send(
        &open(&config(&older)).await,
        message(None, &"ü".repeat(501)),
    )
    .await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG"));
}
