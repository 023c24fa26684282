//! WhatsApp, against its documented contract:
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/reference/whatsapp-business-phone-number/message-api>,
//! errors by <https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes>,
//! webhooks by
//! <https://developers.facebook.com/documentation/business-messaging/whatsapp/webhooks/reference/messages>.

use anklang_channels::proto::{delivery_event::State, health_reply};
use ring::hmac;
use serde_json::{Value, json};

use super::contract::{header, json_body, members, no_body, same, split, text, uuid};
use super::fake::{Answer, Fake, Seen};
use super::kinds::kinds;
use super::{
    accepted, failure, open, open_impatient, request, send, send_all, text as message, wait,
};

pub const SECRET: &str = "app-secret";

/// What `appsecret_proof` must be, and what webhooks are signed with.
pub fn hmac_sha256(key: &str, data: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hex::encode(hmac::sign(&key, data))
}

/// The answer of the Graph API to what it does not do.
pub fn error(status: u16, code: i64, subcode: i64) -> Result<Answer, String> {
    Answer::json(
        status,
        json!({ "error": {
            "message": format!("(#{code}) Something is wrong with TOKEN"),
            "type": "OAuthException", "code": code, "error_subcode": subcode,
            "error_data": { "messaging_product": "whatsapp", "details": "Details." },
            "fbtrace_id": "Az8or2yhqkZfEZ-_4Qn_Bam",
        }}),
    )
}

/// Path and query of a call that proves who we are.
pub fn authenticated(seen: &Seen) -> Result<(String, Vec<(String, String)>), String> {
    header(seen, "authorization", "Bearer TOKEN")?;
    let (path, mut query) = split(&seen.target);
    let proof = ("appsecret_proof".to_owned(), hmac_sha256(SECRET, b"TOKEN"));
    let place = query.iter().position(|pair| *pair == proof);
    query.remove(place.ok_or("appsecret_proof is missing or wrong")?);
    Ok((path, query))
}

/// The errors that texts ask for: HTTP status and code.
fn asked_for(text: &str) -> Option<Result<Answer, String>> {
    match text {
        "cut" => return Some(Ok(Answer::Cut)),
        "hang" => return Some(Ok(Answer::Hang)),
        "page" => return Some(Ok(Answer::Text(502, "text/html", "<html>".to_owned()))),
        _ => {}
    }
    let (status, code) = text.strip_prefix("error ")?.split_once(' ')?;
    Some(error(status.parse().unwrap(), code.parse().unwrap(), 0))
}

fn contract(seen: &Seen) -> Result<Answer, String> {
    let (path, query) = authenticated(seen)?;
    match (&*seen.method, &*path) {
        ("GET", "/v23.0/1234567890") => {
            no_body(seen)?;
            let fields = "display_phone_number,verified_name".to_owned();
            same("query", query, vec![("fields".to_owned(), fields)])?;
            let number = json!({
                "display_phone_number": "+49 30 1234567", "verified_name": "Stadtwerk", "id": "1234567890"
            });
            Answer::json(200, number)
        }
        ("POST", "/v23.0/1234567890/messages") => {
            same("query", query, vec![])?;
            let body = json_body(seen)?;
            let kind = text(&body["type"])?;
            let common = [
                "messaging_product",
                "recipient_type",
                "to",
                "type",
                "biz_opaque_callback_data",
            ];
            members(&body, &[&common[..], &[kind]].concat())?;
            same(
                "messaging_product",
                text(&body["messaging_product"])?,
                "whatsapp",
            )?;
            same(
                "recipient_type",
                text(&body["recipient_type"])?,
                "individual",
            )?;
            uuid(text(&body["biz_opaque_callback_data"])?)?;
            let to = text(&body["to"])?;
            let digits = to.strip_prefix('+').ok_or("to has no +")?;
            same("to", digits.bytes().all(|b| b.is_ascii_digit()), true)?;
            let said = match kind {
                "text" => {
                    members(&body["text"], &["preview_url", "body"])?;
                    text(&body["text"]["body"])?
                }
                "template" => {
                    template(&body["template"])?;
                    ""
                }
                other => return Err(format!("type {other}")),
            };
            asked_for(said).unwrap_or_else(|| {
                Answer::json(200, json!({
                    "messaging_product": "whatsapp",
                    "contacts": [{ "input": to, "wa_id": digits }],
                    "messages": [{ "id": format!("wamid.{digits}"), "message_status": "accepted" }],
                }))
            })
        }
        _ => Err("there is no such call".to_owned()),
    }
}

fn template(template: &Value) -> Result<(), String> {
    members(template, &["name", "language", "components"])?;
    members(&template["language"], &["code"])?;
    let body = &template["components"][0];
    members(body, &["type", "parameters"])?;
    same("type", text(&body["type"])?, "body")?;
    for parameter in body["parameters"].as_array().ok_or("no parameters")? {
        members(parameter, &["type", "text"])?;
        let line = text(&parameter["text"])?;
        // "Param text cannot have new-line/tab characters or more than 4 consecutive spaces".
        same(
            "lines",
            line.contains(['\n', '\t']) || line.contains("     "),
            false,
        )?;
    }
    Ok(())
}

fn config(fake: &Fake) -> Value {
    json!({
        "network": "whatsapp", "phone_number_id": "1234567890", "access_token": "TOKEN",
        "graph": { "base_url": fake.url(), "app_secret": SECRET, "verify_token": "word" },
    })
}

#[tokio::test]
async fn texts_are_taken_and_carry_our_id() {
    let fake = Fake::start(contract).await;
    let whatsapp = open(&config(&fake)).await;
    let first = message(Some("+491701234567"), "Guten Tag \"Frau\" Müßig\n\\o/");
    let id = first.message_id.clone();
    let outcome = send(&whatsapp, first).await;
    assert_eq!(accepted(&outcome), "wamid.491701234567");
    let seen = fake.seen()[0].json();
    assert_eq!(seen["biz_opaque_callback_data"], id);
    assert_eq!(seen["text"]["body"], "Guten Tag \"Frau\" Müßig\n\\o/");
    let health = whatsapp.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert_eq!(health.detail, "WhatsApp: +49 30 1234567");
}

#[tokio::test]
async fn lines_fill_the_template_of_the_account() {
    let fake = Fake::start(contract).await;
    let mut config = config(&fake);
    config["template"] = json!({ "name": "angebot_neu", "language": "de" });
    let whatsapp = open(&config).await;
    let outcome = send(
        &whatsapp,
        message(Some("491701234567"), "Frau Müßig\n\nA-17\n"),
    )
    .await;
    assert_eq!(accepted(&outcome), "wamid.491701234567");
    assert_eq!(
        fake.seen()[0].json()["template"],
        json!({
            "name": "angebot_neu", "language": { "code": "de" },
            "components": [{ "type": "body", "parameters": [
                { "type": "text", "text": "Frau Müßig" }, { "type": "text", "text": "A-17" },
            ]}],
        })
    );
    let outcome = send(&whatsapp, message(Some("491701234567"), "a\tb")).await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TEMPLATE_VARIABLE"));
}

#[tokio::test]
async fn networks_that_never_answer_leave_doubt() {
    let fake = Fake::start(contract).await;
    let whatsapp = open_impatient(&config(&fake)).await;
    let outcome = send(&whatsapp, message(Some("+491701234567"), "hang")).await;
    assert_eq!(failure(&outcome), ("AMBIGUOUS", ""));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = Fake::start(contract).await;
    let whatsapp = open(&config(&fake)).await;
    for (asked, kind, code) in [
        (
            "error 400 131047",
            "REASON_CONFIG",
            "131047 OUTSIDE_24_HOURS",
        ),
        (
            "error 400 131026",
            "REASON_RECIPIENT",
            "131026 UNDELIVERABLE",
        ),
        ("error 400 131050", "REASON_RECIPIENT", "131050 OPTED_OUT"),
        ("error 400 131049", "REASON_RECIPIENT", "131049 KEPT_BACK"),
        ("error 400 131030", "REASON_RECIPIENT", "131030"),
        ("error 404 132001", "REASON_CONFIG", "132001"),
        ("error 403 131005", "REASON_CONFIG", "131005"),
        ("error 403 10", "REASON_CONFIG", "10"),
        ("error 400 131009", "REASON_CONTENT", "131009"),
        ("error 400 100", "REASON_CONTENT", "100"),
        ("error 429 130429", "THROTTLED", "account"),
        ("error 429 80007", "THROTTLED", "account"),
        ("error 400 4", "THROTTLED", "account"),
        ("error 400 131056", "THROTTLED", "recipient"),
        ("error 401 190", "TRANSIENT", "CONFIG"),
        ("error 400 131042", "TRANSIENT", "CONFIG"),
        ("error 503 2", "TRANSIENT", "2"),
        ("error 500 131000", "TRANSIENT", "131000"),
        ("error 500 131016", "TRANSIENT", "131016"),
        ("error 500 1", "AMBIGUOUS", ""),
        ("cut", "AMBIGUOUS", ""),
        ("page", "AMBIGUOUS", ""),
    ] {
        let outcome = send(&whatsapp, message(Some("+491701234567"), asked)).await;
        assert_eq!(failure(&outcome), (kind, code), "{asked}");
        assert!(!format!("{outcome:?}").contains("TOKEN"), "{outcome:?}");
    }
    let outcome = send(
        &whatsapp,
        message(Some("+491701234567"), "error 429 130429"),
    )
    .await;
    assert_eq!(wait(&outcome), 60);
}

#[tokio::test]
async fn a_stopped_account_tries_no_others_and_refuses_what_it_cannot_send() {
    let fake = Fake::start(contract).await;
    let mut config = config(&fake);
    config["connection"] = json!({ "at_once": 1 });
    let whatsapp = open(&config).await;
    let to = Some("+491701234567");
    let batch = vec![
        message(None, "an alle"),
        message(Some("erika"), "x"),
        message(to, " \n"),
        message(to, &"ü".repeat(4097)),
        message(to, "eins"),
        message(to, "error 401 190"),
        message(to, "zwei"),
        message(None, "an alle"),
    ];
    let outcomes = send_all(&whatsapp, batch).await;
    let found = outcomes
        .iter()
        .map(|o| match kinds(std::slice::from_ref(o))[0] {
            "accepted" => ("accepted", ""),
            _ => failure(o),
        });
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            ("REASON_CONFIG", "NO_PUBLIC_POSTS"),
            ("REASON_RECIPIENT", "ADDRESS_INVALID"),
            ("REASON_CONTENT", "EMPTY"),
            ("REASON_CONTENT", "TOO_LONG"),
            ("accepted", ""),
            ("TRANSIENT", "CONFIG"),
            ("TRANSIENT", "CONFIG"),
            ("TRANSIENT", "CONFIG"),
        ]
    );
    assert_eq!(fake.seen().len(), 2);
}

/// Of the reference of webhooks.
fn notification() -> String {
    let value = |number: &str, more: Value| {
        let mut value = json!({
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "49301234567", "phone_number_id": number },
        });
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({ "field": "messages", "value": value })
    };
    let status = |status: &str, more: Value| {
        let mut status = json!({
            "id": "wamid.1", "status": status, "timestamp": "1750000000", "recipient_id": "491701234567",
            "biz_opaque_callback_data": "our-id",
        });
        status
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        status
    };
    let failed = json!({ "errors": [{
        "code": 131026, "title": "Message undeliverable", "message": "Message undeliverable",
        "error_data": { "details": "Message Undeliverable." },
    }]});
    json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "102290129340398", "changes": [
            value("1234567890", json!({ "statuses": [
                status("sent", json!({})), status("delivered", json!({})), status("read", json!({})),
                status("failed", failed), status("failed", json!({ "errors": [{ "code": 131050 }] })),
            ]})),
            value("1234567890", json!({
                "contacts": [{ "profile": { "name": "Erika Müßig" }, "wa_id": "491701234567" }],
                "messages": [
                    { "from": "491701234567", "id": "wamid.2", "timestamp": "1750000001",
                      "type": "text", "text": { "body": "Ja, gern" } },
                    { "from": "491701234567", "id": "wamid.3", "timestamp": "1750000002",
                      "type": "interactive", "interactive": {
                        "type": "button_reply", "button_reply": { "id": "1", "title": "Annehmen" } } },
                    { "from": "491701234567", "id": "wamid.4", "timestamp": "1750000003",
                      "type": "image", "image": { "id": "5", "mime_type": "image/jpeg" } },
                ],
            })),
            value("999", json!({ "statuses": [status("read", json!({}))] })),
        ]}],
    })
    .to_string()
}

#[tokio::test]
async fn notifications_are_believed_when_they_are_signed() {
    let fake = Fake::start(contract).await;
    let whatsapp = open(&config(&fake)).await;
    let body = notification();
    let callback = async |method: &str, signature: &str, body: &str| {
        let headers = [("x-hub-signature-256", signature)];
        let headers = if signature.is_empty() {
            &[][..]
        } else {
            &headers[..]
        };
        whatsapp
            .callback(request(method, "/hook", headers, body))
            .await
            .unwrap()
    };
    let right = format!("sha256={}", hmac_sha256(SECRET, body.as_bytes()));
    let forged = format!("sha256={}", hmac_sha256("other", body.as_bytes()));
    for wrong in ["", "sha256=", "sha256=zz", &right[7..], &forged] {
        let reply = callback("POST", wrong, &body).await;
        assert_eq!(
            (reply.http_status, reply.deliveries.len()),
            (401, 0),
            "{wrong}"
        );
    }
    assert_eq!(callback("PUT", &right, &body).await.http_status, 405);
    let broken = format!("sha256={}", hmac_sha256(SECRET, b"{"));
    assert_eq!(callback("POST", &broken, "{").await.http_status, 400);

    let reply = callback("POST", &right, &body).await;
    assert_eq!(reply.http_status, 200);
    let states: Vec<_> = reply
        .deliveries
        .iter()
        .map(|d| (d.state(), &*d.code))
        .collect();
    assert_eq!(
        states,
        [
            (State::Delivered, ""),
            (State::Opened, ""),
            (State::Failed, "131026"),
            (State::Failed, "131050"),
            (State::Unsubscribed, "131050"),
        ]
    );
    let first = &reply.deliveries[0];
    assert_eq!(
        (&*first.message_id, &*first.provider_message_id),
        ("our-id", "wamid.1")
    );
    assert_eq!(first.occurred_at.unwrap().seconds, 1_750_000_000);
    assert_eq!(reply.deliveries[2].detail, "Message Undeliverable.");
    let texts: Vec<_> = reply.inbound.iter().map(|i| &*i.text).collect();
    assert_eq!(texts, ["Ja, gern", "Annehmen", ""]);
    let sender = reply.inbound[0].sender.as_ref().unwrap();
    assert_eq!(
        (&*sender.address, &*sender.name),
        ("+491701234567", "Erika Müßig")
    );
    assert_eq!(reply.inbound[0].provider_message_id, "wamid.2");
}

#[tokio::test]
async fn the_webhook_is_set_up_with_the_word() {
    let fake = Fake::start(contract).await;
    let whatsapp = open(&config(&fake)).await;
    let ask = async |query: &str| {
        let uri = format!("/hook?{query}");
        whatsapp
            .callback(request("GET", &uri, &[], ""))
            .await
            .unwrap()
    };
    let right = "hub.mode=subscribe&hub.challenge=1158%2B201444&hub.verify_token=word";
    let reply = ask(right).await;
    assert_eq!(
        (reply.http_status, &*reply.body),
        (200, &b"1158+201444"[..])
    );
    assert_eq!(reply.content_type, "text/plain");
    for wrong in [
        "",
        "hub.mode=subscribe&hub.challenge=1",
        &right.replace("word", "mot"),
    ] {
        let reply = ask(wrong).await;
        assert_eq!((reply.http_status, reply.body.len()), (401, 0), "{wrong}");
    }
    let mut mute = config(&fake);
    mute["graph"] = json!({ "base_url": fake.url() });
    let mute = open(&mute).await;
    for method in ["GET", "POST"] {
        let reply = mute
            .callback(request(method, "/hook", &[], "{}"))
            .await
            .unwrap();
        assert_eq!(reply.http_status, 404, "{method}");
    }
}
