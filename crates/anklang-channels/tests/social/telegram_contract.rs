//! Telegram, against its documented contract, for what the emulation does not do: errors
//! (<https://core.telegram.org/bots/api#making-requests>, `ResponseParameters`), offsets
//! (<https://core.telegram.org/bots/api#getupdates>) and the webhook
//! (<https://core.telegram.org/bots/api#setwebhook>).

use std::sync::Mutex;

use anklang_channels::proto::health_reply;
use serde_json::{Value, json};

use super::contract::{json_body, members, same, text};
use super::fake::{Answer, Fake, Seen};
use super::{
    accepted, failure, next_inbound, open, open_impatient, request, send, text as message, until,
    wait,
};

fn error(code: u16, description: &str, more: Value) -> Result<Answer, String> {
    let mut body = json!({ "ok": false, "error_code": code, "description": description });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    Answer::json(code, body)
}

/// What the method is called with.
fn method(seen: &Seen) -> Result<(&str, Value), String> {
    same("method", &*seen.method, "POST")?;
    let method = seen
        .target
        .strip_prefix("/bot7:SE-CRET/")
        .ok_or("wrong token or path")?;
    match method {
        "getMe" => Ok((method, Value::Null)),
        _ => Ok((method, json_body(seen)?)),
    }
}

fn contract(seen: &Seen) -> Result<Answer, String> {
    let (method, body) = method(seen)?;
    if method == "getMe" {
        let me = json!({ "id": 7, "is_bot": true, "first_name": "Stadtwerk", "username": "stadtwerk_bot" });
        return Answer::json(200, json!({ "ok": true, "result": me }));
    }
    same("method", method, "sendMessage")?;
    members(&body, &["chat_id", "text"])?;
    let (chat, said) = (&body["chat_id"], text(&body["text"])?);
    same("chat", chat.is_i64() || chat == "@stadtwerk", true)?;
    let none = json!({});
    match said {
        "cut" => Ok(Answer::Cut),
        "hang" => Ok(Answer::Hang),
        "429" => error(
            429,
            "Too Many Requests: retry after 35",
            json!({ "parameters": { "retry_after": 35 } }),
        ),
        "blocked" => error(403, "Forbidden: bot was blocked by the user", none),
        "not found" => error(400, "Bad Request: chat not found", none),
        "rights" => error(
            400,
            "Bad Request: not enough rights to send text messages to the chat",
            none,
        ),
        "moved" => error(
            400,
            "Bad Request: group chat was upgraded to a supergroup chat",
            json!({ "parameters": { "migrate_to_chat_id": -1001 } }),
        ),
        "long" => error(400, "Bad Request: message is too long", none),
        "401" => error(401, "Unauthorized", none),
        "404" => error(404, "Not Found", none),
        "500" => error(500, "Internal Server Error", none),
        "502" => error(502, "Bad Gateway", none),
        _ => {
            let id = chat.as_i64().unwrap_or(-1_001_234_567_890);
            let chat = json!({ "id": id, "type": "private" });
            let message =
                json!({ "message_id": 17, "date": 1_750_000_000, "chat": chat, "text": said });
            Answer::json(200, json!({ "ok": true, "result": message }))
        }
    }
}

fn config(fake: &Fake) -> Value {
    json!({
        "network": "telegram", "base_url": fake.url(), "bot_token": "7:SE-CRET", "channel": "@stadtwerk",
    })
}

#[tokio::test]
async fn channels_are_posted_to_and_people_written_to() {
    let fake = Fake::start(contract).await;
    let telegram = open(&config(&fake)).await;
    let posted = send(&telegram, message(None, "Neu")).await;
    assert_eq!(accepted(&posted), "-1001234567890:17");
    let sent = send(&telegram, message(Some("4711"), "Guten Tag \"Frau\" <b>")).await;
    assert_eq!(accepted(&sent), "4711:17");
    assert_eq!(
        fake.seen()[0].json(),
        json!({ "chat_id": "@stadtwerk", "text": "Neu" })
    );
    let second = json!({ "chat_id": 4711, "text": "Guten Tag \"Frau\" <b>" });
    assert_eq!(fake.seen()[1].json(), second);
    let health = telegram.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert_eq!(health.detail, "Telegram: @stadtwerk_bot");
}

#[tokio::test]
async fn networks_that_never_answer_leave_doubt() {
    let fake = Fake::start(contract).await;
    let telegram = open_impatient(&config(&fake)).await;
    let outcome = send(&telegram, message(Some("4711"), "hang")).await;
    assert_eq!(failure(&outcome), ("AMBIGUOUS", ""));
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let fake = Fake::start(contract).await;
    let telegram = open(&config(&fake)).await;
    for (asked, kind, code) in [
        ("blocked", "REASON_RECIPIENT", "403"),
        ("not found", "REASON_RECIPIENT", "400"),
        ("moved", "REASON_RECIPIENT", "400"),
        ("rights", "REASON_CONFIG", "400"),
        ("long", "REASON_CONTENT", "400"),
        ("401", "TRANSIENT", "CONFIG"),
        ("404", "TRANSIENT", "CONFIG"),
        ("500", "AMBIGUOUS", ""),
        ("502", "AMBIGUOUS", ""),
        ("cut", "AMBIGUOUS", ""),
    ] {
        let outcome = send(&telegram, message(Some("4711"), asked)).await;
        assert_eq!(failure(&outcome), (kind, code), "{asked}");
        assert!(!format!("{outcome:?}").contains("SE-CRET"));
    }
    // Of the channel it is the configuration that is wrong.
    for asked in ["blocked", "not found"] {
        let outcome = send(&telegram, message(None, asked)).await;
        assert_eq!(failure(&outcome).0, "REASON_CONFIG", "{asked}");
    }
    let outcome = send(&telegram, message(Some("4711"), "429")).await;
    assert_eq!(
        (failure(&outcome), wait(&outcome)),
        (("THROTTLED", "account"), 35)
    );
    for bad in ["erika", "@erika", "0", "1.5", "99999999999999999999"] {
        let outcome = send(&telegram, message(Some(bad), "x")).await;
        assert_eq!(
            failure(&outcome),
            ("REASON_RECIPIENT", "ADDRESS_INVALID"),
            "{bad}"
        );
    }
    let outcome = send(&telegram, message(Some("1"), &"ü".repeat(4097))).await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG"));
    let mut mute = config(&fake);
    mute.as_object_mut().unwrap().remove("channel");
    let outcome = send(&open(&mute).await, message(None, "x")).await;
    assert_eq!(failure(&outcome), ("REASON_CONFIG", "NO_PUBLIC_POSTS"));
}

#[tokio::test]
async fn nobody_there_is_no_doubt() {
    // Nobody listens there.
    let base = "http://127.0.0.1:1";
    let config = json!({ "network": "telegram", "base_url": base, "bot_token": "7:SE-CRET" });
    let telegram = open(&config).await;
    let outcome = send(&telegram, message(Some("4711"), "x")).await;
    assert_eq!(failure(&outcome), ("TRANSIENT", "CONNECT"));
    let health = telegram.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
    assert!(!health.detail.contains("SE-CRET"), "{}", health.detail);
}

fn update(id: i64, text: &str) -> Value {
    let chat = json!({ "id": 4711, "type": "private", "first_name": "Erika" });
    let from = json!({ "id": 4711, "is_bot": false, "first_name": "Erika", "last_name": "Müßig" });
    json!({ "update_id": id, "message": {
        "message_id": id + 1000, "date": 1_750_000_000, "chat": chat, "from": from, "text": text,
    }})
}

/// Telegram's list of updates: an offset confirms what is before it.
async fn updates(list: &'static Mutex<Vec<Value>>) -> Fake {
    Fake::start(move |seen: &Seen| {
        let (method, body) = method(seen)?;
        same("method", method, "getUpdates")?;
        let offset: &[&str] = if body["offset"].is_null() {
            &[]
        } else {
            &["offset"]
        };
        members(
            &body,
            &[&["limit", "timeout", "allowed_updates"][..], offset].concat(),
        )?;
        same("updates", &body["allowed_updates"], &json!(["message"]))?;
        let mut list = list.lock().unwrap();
        if let Some(offset) = body["offset"].as_i64() {
            list.retain(|update| update["update_id"].as_i64().unwrap() >= offset);
        }
        Answer::json(200, json!({ "ok": true, "result": *list }))
    })
    .await
}

#[tokio::test]
async fn updates_are_confirmed_when_they_are_acknowledged() {
    let list: &'static Mutex<Vec<Value>> = Box::leak(Box::default());
    list.lock()
        .unwrap()
        .extend([update(5, "eins"), update(6, "zwei")]);
    let fake = updates(list).await;
    let mut config = config(&fake);
    config["inbound"] = "poll".into();
    // Not acknowledged: it stays with Telegram, and comes again after a restart.
    let first = open(&config).await;
    let mut events = first.events().unwrap();
    let eins = next_inbound(&mut events).await;
    assert_eq!(
        (&*eins.text, &*eins.provider_message_id),
        ("eins", "4711:1005")
    );
    let sender = eins.sender.unwrap();
    assert_eq!((&*sender.address, &*sender.name), ("4711", "Erika Müßig"));
    let zwei = next_inbound(&mut events).await;
    first.acknowledge(vec![eins.event_id]).await.unwrap();
    assert!(zwei.event_id > eins.event_id && eins.event_id > 0);
    first.drain(super::PATIENCE).await.unwrap();
    assert_eq!(list.lock().unwrap().len(), 2);
    assert!(
        fake.seen()
            .iter()
            .all(|seen| seen.json()["offset"].is_null())
    );

    let second = open(&config).await;
    let mut events = second.events().unwrap();
    let ids = [
        next_inbound(&mut events).await,
        next_inbound(&mut events).await,
    ];
    let ids: Vec<u64> = ids.iter().map(|event| event.event_id).collect();
    second.acknowledge(ids).await.unwrap();
    until("confirmation", async || {
        list.lock().unwrap().is_empty().then_some(())
    })
    .await;
    list.lock().unwrap().push(update(7, "drei"));
    assert_eq!(next_inbound(&mut events).await.text, "drei");
}

#[tokio::test]
async fn the_webhook_knows_the_secret() {
    let fake = Fake::start(contract).await;
    let mut config = config(&fake);
    config["inbound"] = "webhook".into();
    config["webhook_secret"] = "Wort_1".into();
    let telegram = open(&config).await;
    let body = update(5, "Ja, gern").to_string();
    let callback = async |method: &str, secret: &str, body: &str| {
        let headers = [("x-telegram-bot-api-secret-token", secret)];
        telegram
            .callback(request(method, "/hook", &headers, body))
            .await
            .unwrap()
    };
    for (method, secret, body, expected) in [
        ("POST", "", &*body, 401),
        ("POST", "Wort_2", &body, 401),
        ("POST", "Wort_", &body, 401),
        ("GET", "Wort_1", &body, 405),
        ("POST", "Wort_1", "{", 400),
    ] {
        let reply = callback(method, secret, body).await;
        assert_eq!(
            (reply.http_status, reply.inbound.len()),
            (expected, 0),
            "{method} {secret}"
        );
    }
    let reply = callback("POST", "Wort_1", &body).await;
    assert_eq!(reply.http_status, 200);
    let event = &reply.inbound[0];
    assert_eq!((&*event.text, event.event_id), ("Ja, gern", 0));
    assert_eq!(event.recipient.as_ref().unwrap().address, "7");
    assert_eq!(event.received_at.unwrap().seconds, 1_750_000_000);
    // What is no message of a person is taken and means nothing.
    let edited = json!({ "update_id": 6, "edited_message": { "text": "x" } }).to_string();
    let reply = callback("POST", "Wort_1", &edited).await;
    assert_eq!((reply.http_status, reply.inbound.len()), (200, 0));
}
