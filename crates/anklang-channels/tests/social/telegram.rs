//! Telegram, against the emulation of its Bot API (`telegram-test-api` of npm).

use std::net::SocketAddr;

use anklang_channels::proto::health_reply;
use serde_json::{Value, json};

use super::proxy::Proxy;
use super::{accepted, failure, next_inbound, open, peers, send, text as message};

/// Calls the emulation's side of the people.
async fn call(server: SocketAddr, path: &str, body: Value) -> Value {
    super::matrix::http(server, "POST", path, None, &body)
        .await
        .1
}

/// The texts that the bot has sent.
async fn sent(server: SocketAddr, token: &str) -> Vec<(i64, String)> {
    let all = call(server, "/getUpdatesHistory", json!({ "token": token })).await;
    let texts = all["result"].as_array().unwrap().iter().map(|update| {
        let message = &update["message"];
        (
            message["chat_id"].as_i64().unwrap(),
            message["text"].as_str().unwrap().to_owned(),
        )
    });
    texts.collect()
}

#[tokio::test]
async fn messages_arrive_and_a_lost_answer_sends_nothing_twice() {
    let Some(server) = peers::telegram() else {
        return;
    };
    let proxy = Proxy::to(server, "POST").await;
    let telegram = open(&json!({
        "network": "telegram", "base_url": proxy.url(), "bot_token": "1:first", "channel": "-1001",
    }))
    .await;
    let health = telegram.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert!(
        accepted(&send(&telegram, message(Some("42"), "Guten Tag ü")).await).starts_with("42:")
    );
    assert!(accepted(&send(&telegram, message(None, "Neu")).await).starts_with("-1001:"));
    proxy.swallow(1);
    let outcome = send(&telegram, message(Some("42"), "verschluckt")).await;
    assert_eq!((failure(&outcome), proxy.left()), (("AMBIGUOUS", ""), 0));
    assert_eq!(
        sent(server, "1:first").await,
        [
            (42, "Guten Tag ü".to_owned()),
            (-1001, "Neu".to_owned()),
            (42, "verschluckt".to_owned())
        ]
    );
}

#[tokio::test]
async fn answers_come_in() {
    let Some(server) = peers::telegram() else {
        return;
    };
    let telegram = open(&json!({
        "network": "telegram", "base_url": format!("http://{server}"), "bot_token": "2:second",
        "inbound": "poll",
    }))
    .await;
    let mut events = telegram.events().unwrap();
    for text in ["Ja, gern", "und noch etwas"] {
        let person = json!({ "id": 42, "first_name": "Erika", "is_bot": false });
        let chat = json!({ "id": 42, "type": "private", "first_name": "Erika" });
        let body = json!({
            "botToken": "2:second", "from": person, "chat": chat, "date": 1_750_000_000, "text": text,
        });
        call(server, "/sendMessage", body).await;
        let event = next_inbound(&mut events).await;
        assert_eq!(event.text, text);
        assert_eq!(event.sender.unwrap().address, "42");
        telegram.acknowledge(vec![event.event_id]).await.unwrap();
    }
}
