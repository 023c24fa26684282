//! Facebook, against its documented contract:
//! <https://developers.facebook.com/docs/pages-api/posts>,
//! <https://developers.facebook.com/docs/messenger-platform/reference/send-api>,
//! errors by <https://developers.facebook.com/docs/messenger-platform/error-codes>, limits by
//! <https://developers.facebook.com/docs/graph-api/overview/rate-limiting>, webhooks by
//! <https://developers.facebook.com/docs/messenger-platform/reference/webhook-events>.

use anklang_channels::proto::{delivery_event::State, health_reply};
use serde_json::{Value, json};

use super::contract::{json_body, members, no_body, same, text};
use super::fake::{Answer, Fake, Seen};
use super::whatsapp::{SECRET, authenticated, error, hmac_sha256};
use super::{accepted, failure, open, request, send, text as message, wait};

/// What texts ask for: `error <status> <code> <subcode>`.
fn asked_for(text: &str) -> Option<Result<Answer, String>> {
    let usage = |minutes: u64| {
        json!({ "111": [{ "type": "messenger", "call_count": 100, "total_cputime": 25,
                          "total_time": 25, "estimated_time_to_regain_access": minutes }] })
    };
    match text {
        "cut" => return Some(Ok(Answer::Cut)),
        "usage" => {
            let header = ("x-business-use-case-usage", usage(7).to_string());
            let body = json!({ "error": { "message": "Limit", "code": 32 } });
            return Some(Ok(Answer::Json(400, vec![header], body)));
        }
        _ => {}
    }
    let mut numbers = text
        .strip_prefix("error ")?
        .split(' ')
        .map(|n| n.parse().unwrap());
    let mut number = || -> i64 { numbers.next().unwrap() };
    let (status, code, subcode) = (number(), number(), number());
    Some(error(u16::try_from(status).unwrap(), code, subcode))
}

fn contract(seen: &Seen) -> Result<Answer, String> {
    let (path, query) = authenticated(seen)?;
    match (&*seen.method, &*path) {
        ("GET", "/v23.0/555") => {
            no_body(seen)?;
            same(
                "query",
                query,
                vec![("fields".to_owned(), "id,name".to_owned())],
            )?;
            Answer::json(200, json!({ "id": "555", "name": "Stadtwerk" }))
        }
        ("POST", "/v23.0/555/feed") => {
            same("query", query, vec![])?;
            let body = json_body(seen)?;
            members(&body, &["message"])?;
            let said = text(&body["message"])?;
            asked_for(said).unwrap_or_else(|| Answer::json(200, json!({ "id": "555_1" })))
        }
        ("POST", "/v23.0/555/messages") => {
            same("query", query, vec![])?;
            let body = json_body(seen)?;
            let tagged = body["messaging_type"] == "MESSAGE_TAG";
            let tag: &[&str] = if tagged { &["tag"] } else { &[] };
            members(
                &body,
                &[&["recipient", "messaging_type", "message"][..], tag].concat(),
            )?;
            members(&body["recipient"], &["id"])?;
            members(&body["message"], &["text"])?;
            let (person, said) = (
                text(&body["recipient"]["id"])?,
                text(&body["message"]["text"])?,
            );
            // "Must be UTF-8 and has a 2000 character limit".
            same("too long", said.chars().count() > 2000, false)?;
            asked_for(said).unwrap_or_else(|| {
                Answer::json(
                    200,
                    json!({ "recipient_id": person, "message_id": "m_AG5Hz2U" }),
                )
            })
        }
        _ => Err("there is no such call".to_owned()),
    }
}

fn config(fake: &Fake) -> Value {
    json!({
        "network": "facebook", "page_id": "555", "access_token": "TOKEN",
        "graph": { "base_url": fake.url(), "app_secret": SECRET, "verify_token": "word" },
    })
}

#[tokio::test]
async fn pages_post_and_write_to_people() {
    let fake = Fake::start(contract).await;
    let facebook = open(&config(&fake)).await;
    let posted = send(&facebook, message(None, "Neu: Ökostrom \"Fix\"")).await;
    assert_eq!(accepted(&posted), "555_1");
    let sent = send(&facebook, message(Some("24007000000000001"), "Guten Tag")).await;
    assert_eq!(accepted(&sent), "m_AG5Hz2U");
    assert_eq!(
        fake.seen()[0].json(),
        json!({ "message": "Neu: Ökostrom \"Fix\"" })
    );
    assert_eq!(fake.seen()[1].json()["messaging_type"], "UPDATE");
    let health = facebook.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert_eq!(health.detail, "Facebook: Stadtwerk");

    let mut tagged = config(&fake);
    tagged["messaging_type"] = "MESSAGE_TAG".into();
    tagged["tag"] = "ACCOUNT_UPDATE".into();
    let outcome = send(
        &open(&tagged).await,
        message(Some("24007000000000001"), "x"),
    )
    .await;
    assert_eq!(accepted(&outcome), "m_AG5Hz2U");
    assert_eq!(fake.seen()[3].json()["tag"], "ACCOUNT_UPDATE");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = Fake::start(contract).await;
    let facebook = open(&config(&fake)).await;
    for (asked, kind, code) in [
        ("error 400 551 1545041", "REASON_RECIPIENT", "551/1545041"),
        ("error 400 100 2018001", "REASON_RECIPIENT", "100/2018001"),
        ("error 400 200 2018108", "REASON_RECIPIENT", "200/2018108"),
        (
            "error 400 10 2018278",
            "REASON_CONFIG",
            "10/2018278 OUTSIDE_24_HOURS",
        ),
        ("error 403 10 0", "REASON_CONFIG", "10"),
        ("error 403 230 0", "REASON_CONFIG", "230"),
        (
            "error 400 506 1455006",
            "REASON_CONTENT",
            "506/1455006 DUPLICATE",
        ),
        ("error 400 100 0", "REASON_CONTENT", "100"),
        ("error 400 4 0", "THROTTLED", "account"),
        ("error 400 17 2446079", "THROTTLED", "account"),
        ("error 400 32 0", "THROTTLED", "account"),
        ("error 400 613 1996", "THROTTLED", "account"),
        ("error 401 190 463", "TRANSIENT", "CONFIG"),
        ("error 400 368 0", "TRANSIENT", "CONFIG"),
        ("error 500 1200 0", "TRANSIENT", "1200"),
        ("error 500 2 0", "TRANSIENT", "2"),
        ("error 500 1 99", "AMBIGUOUS", ""),
        ("cut", "AMBIGUOUS", ""),
    ] {
        for to in [None, Some("24007000000000001")] {
            let outcome = send(&facebook, message(to, asked)).await;
            assert_eq!(failure(&outcome), (kind, code), "{asked}");
            assert!(!format!("{outcome:?}").contains("TOKEN"), "{outcome:?}");
        }
    }
    let outcome = send(&facebook, message(None, "usage")).await;
    assert_eq!(wait(&outcome), 7 * 60);
    let outcome = send(&facebook, message(Some("@erika"), "x")).await;
    assert_eq!(failure(&outcome), ("REASON_RECIPIENT", "ADDRESS_INVALID"));
    let outcome = send(&facebook, message(Some("1"), &"ü".repeat(2001))).await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG"));
}

#[tokio::test]
async fn notifications_bring_messages_and_deliveries() {
    let fake = Fake::start(contract).await;
    let facebook = open(&config(&fake)).await;
    let (person, page) = (json!({ "id": "24007" }), json!({ "id": "555" }));
    let event = |more: Value| {
        let mut event =
            json!({ "sender": person, "recipient": page, "timestamp": 1_750_000_000_123_u64 });
        event
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        event
    };
    let body = json!({ "object": "page", "entry": [
        { "id": "555", "time": 1, "messaging": [
            event(json!({ "message": { "mid": "m_1", "text": "Ja, gern" } })),
            event(json!({ "message": { "mid": "m_2", "text": "von uns", "is_echo": true } })),
            event(json!({ "postback": { "mid": "m_3", "title": "Annehmen", "payload": "A" } })),
            event(json!({ "delivery": { "mids": ["m_4", "m_5"], "watermark": 1_750_000_001_000_u64 } })),
            event(json!({ "read": { "watermark": 1_750_000_002_000_u64 } })),
        ]},
        { "id": "556", "time": 1, "messaging": [
            event(json!({ "message": { "mid": "m_6", "text": "andere Seite" } })),
        ]},
    ]})
    .to_string();
    let signature = format!("sha256={}", hmac_sha256(SECRET, body.as_bytes()));
    let headers = [("X-Hub-Signature-256", &*signature)];
    let reply = facebook
        .callback(request("POST", "/hook", &headers, &body))
        .await
        .unwrap();
    assert_eq!(reply.http_status, 200);
    let texts: Vec<_> = reply
        .inbound
        .iter()
        .map(|i| (&*i.provider_message_id, &*i.text))
        .collect();
    assert_eq!(texts, [("m_1", "Ja, gern"), ("m_3", "Annehmen")]);
    assert_eq!(reply.inbound[0].sender.as_ref().unwrap().address, "24007");
    assert_eq!(reply.inbound[0].received_at.unwrap().seconds, 1_750_000_000);
    let delivered = reply
        .deliveries
        .iter()
        .map(|d| (&*d.provider_message_id, d.state()));
    let delivered: Vec<_> = delivered.collect();
    assert_eq!(
        delivered,
        [("m_4", State::Delivered), ("m_5", State::Delivered)]
    );
    let forged = [("X-Hub-Signature-256", "sha256=00")];
    let reply = facebook
        .callback(request("POST", "/hook", &forged, &body))
        .await
        .unwrap();
    assert_eq!(reply.http_status, 401);
}
