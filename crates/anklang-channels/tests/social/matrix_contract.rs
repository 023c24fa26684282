//! Matrix, against its documented contract, for the refusals of a homeserver that a test cannot bring
//! about in a real one: <https://spec.matrix.org/latest/client-server-api/#standard-error-response>,
//! <https://spec.matrix.org/latest/client-server-api/#rate-limiting>.

use serde_json::{Value, json};

use super::contract::{header, json_body, members, no_body, same, split, text, uuid};
use super::fake::{Answer, Fake, Seen};
use super::{accepted, failure, open, send, text as message, wait};

const ROOM: &str = "!a/b?c:e.org";

fn error(status: u16, code: &str, more: Value) -> Result<Answer, String> {
    let mut body = json!({ "errcode": code, "error": "Words" });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    Answer::json(status, body)
}

fn contract(seen: &Seen) -> Result<Answer, String> {
    header(seen, "authorization", "Bearer TOKEN")?;
    let path = seen
        .target
        .strip_prefix("/_matrix/client/v3/")
        .ok_or("not version 3")?;
    // The room's id is one part of the path, whatever is in it.
    let id = path.strip_prefix("rooms/!a%2Fb%3Fc:e.org/send/m.room.message/");
    if let (Some(id), "PUT") = (id, &*seen.method) {
        uuid(id)?;
        let body = json_body(seen)?;
        members(&body, &["msgtype", "body"])?;
        same("msgtype", text(&body["msgtype"])?, "m.text")?;
        let asked = text(&body["body"])?;
        return match asked.split_once(' ') {
            Some(("limit", "header")) => {
                let body = json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "Too many requests" });
                Ok(Answer::Json(
                    429,
                    vec![("retry-after", "17".to_owned())],
                    body,
                ))
            }
            Some(("limit", _)) => error(429, "M_LIMIT_EXCEEDED", json!({ "retry_after_ms": 4000 })),
            Some((status, code)) => error(status.parse().unwrap(), code, json!({})),
            None => Answer::json(200, json!({ "event_id": "$1" })),
        };
    }
    match (&*seen.method, split(path).0.as_str()) {
        ("GET", "account/whoami") => {
            no_body(seen)?;
            Answer::json(200, json!({ "user_id": "@us:e.org" }))
        }
        ("GET", "user/@us:e.org/account_data/m.direct") => {
            Answer::json(200, json!({ "@erika:e.org": [ROOM] }))
        }
        ("GET", "rooms/!a/b?c:e.org/state/m.room.member/@erika:e.org") => {
            Answer::json(200, json!({ "membership": "join" }))
        }
        _ => Err("there is no such call".to_owned()),
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = Fake::start(contract).await;
    let matrix = open(&json!({
        "network": "matrix", "base_url": fake.url(), "access_token": "TOKEN", "public_room": ROOM,
    }))
    .await;
    let erika = Some("@erika:e.org");
    assert_eq!(
        accepted(&send(&matrix, message(erika, "Hallo")).await),
        "$1"
    );
    for (asked, kind, code) in [
        ("401 M_UNKNOWN_TOKEN", "TRANSIENT", "CONFIG"),
        ("403 M_USER_LOCKED", "TRANSIENT", "CONFIG"),
        ("413 M_TOO_LARGE", "REASON_CONTENT", "M_TOO_LARGE"),
        ("400 M_BAD_JSON", "REASON_CONTENT", "M_BAD_JSON"),
        ("404 M_UNRECOGNIZED", "REASON_CONTENT", "HTTP 404"),
        ("503 M_UNKNOWN", "TRANSIENT", "HTTP 503"),
        ("500 M_UNKNOWN", "AMBIGUOUS", ""),
        ("502 M_UNKNOWN", "AMBIGUOUS", ""),
    ] {
        for to in [None, erika] {
            let outcome = send(&matrix, message(to, asked)).await;
            assert_eq!(failure(&outcome), (kind, code), "{asked}");
        }
    }
    let forbidden = "403 M_FORBIDDEN";
    let outcome = send(&matrix, message(erika, forbidden)).await;
    assert_eq!(failure(&outcome), ("REASON_RECIPIENT", "M_FORBIDDEN"));
    let outcome = send(&matrix, message(None, forbidden)).await;
    assert_eq!(failure(&outcome), ("REASON_CONFIG", "M_FORBIDDEN"));
    for (asked, seconds) in [("limit header", 17), ("limit body", 4)] {
        let outcome = send(&matrix, message(None, asked)).await;
        assert_eq!(
            (failure(&outcome), wait(&outcome)),
            (("THROTTLED", "account"), seconds)
        );
    }
}
