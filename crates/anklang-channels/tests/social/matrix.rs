//! Matrix, against a real homeserver (Synapse).

use std::net::SocketAddr;

use anklang_channels::proto::{delivery_event::State, health_reply};
use anklang_channels::{Instance, PluginEvent};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::proxy::Proxy;
use super::{
    accepted, failure, next, next_inbound, open, peers, send, send_all, text as message, until,
};

/// One HTTP request in JSON, and its answer.
pub async fn http(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> (u16, Value) {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let body = body.to_string();
    let token = token
        .map(|token| format!("authorization: Bearer {token}\r\n"))
        .unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: {server}\r\ncontent-type: application/json\r\n\
         {token}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let (begin, end) = (
        body.find('{').unwrap_or(0),
        body.rfind('}').map_or(0, |end| end + 1),
    );
    (
        status,
        serde_json::from_str(&body[begin..end]).unwrap_or_default(),
    )
}

/// A user of the homeserver.
struct User {
    server: SocketAddr,
    id: String,
    token: String,
}

impl User {
    async fn new(server: SocketAddr, name: &str) -> Self {
        let auth = json!({ "type": "m.login.dummy" });
        let body = json!({ "username": name, "password": "pw", "auth": auth });
        let (status, user) = http(server, "POST", "/_matrix/client/v3/register", None, &body).await;
        assert_eq!(status, 200, "{user}");
        let text = |name: &str| user[name].as_str().unwrap().to_owned();
        let (id, token) = (text("user_id"), text("access_token"));
        Self { server, id, token }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let path = format!("/_matrix/client/v3/{path}");
        let (status, answer) = http(self.server, method, &path, Some(&self.token), &body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The rooms that the user is invited to.
    async fn invited(&self) -> Vec<String> {
        let news = self.call("GET", "sync", json!({})).await;
        let rooms = news["rooms"]["invite"].as_object();
        rooms
            .into_iter()
            .flatten()
            .map(|(room, _)| room.clone())
            .collect()
    }

    async fn join(&self, room: &str) {
        self.call("POST", &format!("join/{room}"), json!({})).await;
    }

    async fn say(&self, room: &str, id: &str, text: &str) {
        let path = format!("rooms/{room}/send/m.room.message/{id}");
        self.call("PUT", &path, json!({ "msgtype": "m.text", "body": text }))
            .await;
    }

    /// Event ids and texts of a room, oldest first.
    async fn texts(&self, room: &str) -> Vec<(String, String)> {
        let page = self
            .call(
                "GET",
                &format!("rooms/{room}/messages?dir=f&limit=100"),
                json!({}),
            )
            .await;
        let events = page["chunk"].as_array().unwrap().iter();
        let texts = events
            .filter(|event| event["type"] == "m.room.message")
            .map(|event| {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                (text(&event["event_id"]), text(&event["content"]["body"]))
            });
        texts.collect()
    }
}

/// Our user, opened through a proxy, and a person; names must differ from test to test.
async fn opened(name: &str, more: Value) -> Option<(Proxy, Instance, User, User)> {
    let server = peers::synapse()?;
    let us = User::new(server, &format!("{name}-us")).await;
    let person = User::new(server, &format!("{name}-erika")).await;
    let proxy = Proxy::to(server, "PUT").await;
    let matrix = open(&config(&proxy, &us, more)).await;
    Some((proxy, matrix, us, person))
}

fn config(proxy: &Proxy, us: &User, more: Value) -> Value {
    let mut config =
        json!({ "network": "matrix", "base_url": proxy.url(), "access_token": us.token });
    config
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    config
}

#[tokio::test]
async fn a_person_has_one_room_and_each_message_once() {
    let Some((proxy, matrix, us, erika)) = opened("once", json!({})).await else {
        return;
    };
    let health = matrix.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    assert_eq!(health.detail, format!("Matrix: {}", us.id));

    let to = Some(&*erika.id);
    let eins = message(to, "Guten Tag \"Frau\" Müßig\n\\o/");
    let first = accepted(&send(&matrix, eins.clone()).await).to_owned();
    let rooms = erika.invited().await;
    let [room] = &rooms[..] else {
        panic!("{rooms:?}")
    };
    erika.join(room).await;
    // The same message again, and others at the same time.
    assert_eq!(accepted(&send(&matrix, eins).await), first);
    let many: Vec<_> = (0..5).map(|n| message(to, &format!("Nr. {n}"))).collect();
    let many = send_all(&matrix, many).await;
    let mut expected: Vec<&str> = many.iter().map(accepted).collect();
    expected.push(&first);
    expected.sort_unstable();
    let found = erika.texts(room).await;
    assert_eq!(
        found[0],
        (first.clone(), "Guten Tag \"Frau\" Müßig\n\\o/".to_owned())
    );
    let mut found: Vec<&str> = found.iter().map(|(id, _)| &**id).collect();
    found.sort_unstable();
    assert_eq!(found, expected);

    // Another instance, as after a restart, finds the room again.
    let again = open(&config(&proxy, &us, json!({}))).await;
    accepted(&send(&again, message(to, "noch einmal")).await);
    assert_eq!(erika.texts(room).await.len(), 7);
    assert_eq!(erika.invited().await.len(), 0);
}

#[tokio::test]
async fn lost_answers_lose_and_double_nothing() {
    let Some((proxy, matrix, _, erika)) = opened("lost", json!({})).await else {
        return;
    };
    let to = Some(&*erika.id);
    accepted(&send(&matrix, message(to, "eins")).await);
    let room = erika.invited().await.remove(0);
    erika.join(&room).await;
    // One answer is swallowed: the plugin asks again and gets the same event.
    proxy.swallow(1);
    let zwei = accepted(&send(&matrix, message(to, "zwei")).await).to_owned();
    assert_eq!(proxy.left(), 0);
    // All answers are: nobody can say, and whoever sends it again does no harm.
    proxy.swallow(3);
    let drei = message(to, "drei");
    let outcome = send(&matrix, drei.clone()).await;
    assert_eq!((failure(&outcome), proxy.left()), (("AMBIGUOUS", ""), 0));
    let event = accepted(&send(&matrix, drei).await).to_owned();
    let texts = erika.texts(&room).await;
    let texts: Vec<_> = texts.iter().map(|(id, text)| (&**id, &**text)).collect();
    assert_eq!(
        (texts.len(), &texts[1..]),
        (3, &[(&*zwei, "zwei"), (&*event, "drei")][..])
    );
}

#[tokio::test]
async fn who_left_is_invited_again_and_others_are_refused() {
    let Some((_proxy, matrix, _, erika)) = opened("left", json!({})).await else {
        return;
    };
    let to = Some(&*erika.id);
    accepted(&send(&matrix, message(to, "eins")).await);
    let first = erika.invited().await.remove(0);
    erika.join(&first).await;
    erika
        .call("POST", &format!("rooms/{first}/leave"), json!({}))
        .await;
    accepted(&send(&matrix, message(to, "zwei")).await);
    let invited = erika.invited().await;
    assert!(invited.len() == 1 && invited[0] != first, "{invited:?}");
    for bad in [
        "erika",
        "@erika",
        "@er ika:anklang.test",
        "#erika:anklang.test",
    ] {
        let outcome = send(&matrix, message(Some(bad), "x")).await;
        assert_eq!(
            failure(&outcome),
            ("REASON_RECIPIENT", "ADDRESS_INVALID"),
            "{bad}"
        );
    }
    let outcome = send(&matrix, message(to, &"ü".repeat(30_001))).await;
    assert_eq!(failure(&outcome), ("REASON_CONTENT", "TOO_LONG"));
}

#[tokio::test]
async fn public_posts_go_into_the_room() {
    let Some(server) = peers::synapse() else {
        return;
    };
    let us = User::new(server, "public-us").await;
    let made = json!({ "preset": "public_chat", "room_alias_name": "neues" });
    let room = us.call("POST", "createRoom", made).await;
    let room = room["room_id"].as_str().unwrap();
    let proxy = Proxy::to(server, "PUT").await;
    for public in [room, "#neues:anklang.test"] {
        let matrix = open(&config(&proxy, &us, json!({ "public_room": public }))).await;
        accepted(&send(&matrix, message(None, "Neu: Ökostrom")).await);
    }
    assert_eq!(us.texts(room).await.len(), 2);
    let matrix = open(&config(&proxy, &us, json!({}))).await;
    let outcome = send(&matrix, message(None, "x")).await;
    assert_eq!(failure(&outcome), ("REASON_CONFIG", "NO_PUBLIC_POSTS"));
    // A room that there is not, and one that others own.
    let other = User::new(server, "public-other").await;
    let foreign = other
        .call("POST", "createRoom", json!({ "preset": "private_chat" }))
        .await;
    for (public, code) in [
        ("#nichts:anklang.test", "M_NOT_FOUND"),
        (foreign["room_id"].as_str().unwrap(), "M_FORBIDDEN"),
    ] {
        let matrix = open(&config(&proxy, &us, json!({ "public_room": public }))).await;
        let outcome = send(&matrix, message(None, "x")).await;
        assert_eq!(failure(&outcome), ("REASON_CONFIG", code), "{public}");
    }
    let stranger = json!({ "access_token": "wrong" });
    let matrix = open(&config(&proxy, &us, stranger)).await;
    let outcome = send(&matrix, message(Some("@a:b.c"), "x")).await;
    assert_eq!(failure(&outcome), ("TRANSIENT", "CONFIG"));
    let health = matrix.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
}

#[tokio::test]
async fn answers_and_receipts_come_in_and_again_until_acknowledged() {
    let inbound = json!({ "inbound": true });
    let Some((proxy, matrix, us, erika)) = opened("inbound", inbound.clone()).await else {
        return;
    };
    let mut events = matrix.events().unwrap();
    until_reading(&us).await;
    let sent = send(&matrix, message(Some(&erika.id), "Guten Tag")).await;
    let sent = accepted(&sent);
    let room = erika.invited().await.remove(0);
    erika.join(&room).await;
    erika
        .call(
            "POST",
            &format!("rooms/{room}/receipt/m.read/{sent}"),
            json!({}),
        )
        .await;
    let PluginEvent::Delivery(read) = next(&mut events).await else {
        panic!("a receipt first")
    };
    assert_eq!(
        (read.state(), &*read.provider_message_id),
        (State::Opened, sent)
    );
    assert!(read.event_id > 0 && read.occurred_at.is_some());
    matrix.acknowledge(vec![read.event_id]).await.unwrap();

    erika.say(&room, "1", "Ja, gern").await;
    let answer = next_inbound(&mut events).await;
    assert_eq!(
        (&*answer.text, &*answer.sender.unwrap().address),
        ("Ja, gern", &*erika.id)
    );
    assert_eq!(answer.recipient.unwrap().address, us.id);
    // While it waits for its acknowledgement, more is said than one answer tells.
    for n in 0..120 {
        erika
            .say(&room, &format!("n{n}"), &format!("Nr. {n}"))
            .await;
    }
    matrix.drain(super::PATIENCE).await.unwrap();

    // Not acknowledged: it comes again, and all that was said since, in order.
    let again = open(&config(&proxy, &us, inbound)).await;
    let mut events = again.events().unwrap();
    let repeated = next_inbound(&mut events).await;
    assert_eq!(repeated.provider_message_id, answer.provider_message_id);
    again.acknowledge(vec![repeated.event_id]).await.unwrap();
    for n in 0..120 {
        let event = next_inbound(&mut events).await;
        assert_eq!(event.text, format!("Nr. {n}"));
        again.acknowledge(vec![event.event_id]).await.unwrap();
    }
    erika.say(&room, "last", "Ende").await;
    assert_eq!(next_inbound(&mut events).await.text, "Ende");
}

/// Waits until the plugin has noted where it begins to read.
async fn until_reading(us: &User) {
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/anklang.sync",
        us.id
    );
    until("position", async || {
        let (status, _) = http(us.server, "GET", &path, Some(&us.token), &json!({})).await;
        (status == 200).then_some(())
    })
    .await;
}
