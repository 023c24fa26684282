//! The SMS plugin, loaded as a library, against an HTTP gateway: a scripted one, and Kannel.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/http_peer.rs"]
mod http_peer;
#[path = "support/kannel.rs"]
mod kannel;
#[expect(dead_code, reason = "events come as callbacks here")]
#[path = "support/sms.rs"]
mod sms;
#[path = "support/smsc.rs"]
mod smsc;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anklang_channels::Instance;
use anklang_channels::proto::delivery_event::State;
use anklang_channels::proto::{CallbackReply, CallbackRequest, health_reply};
use http_peer::{HttpPeer, Then};
use kannel::Kannel;
use serde_json::{Value, json};
use sms::{accepted, one, open, send, shown, sms};
use smsc::{PATIENCE, Smsc};

const TOKEN: &str = "0123456789abcdef";
/// Nothing special happens to messages to this number.
const NUMBER: &str = "+491711234501";

fn config(url: &str) -> Value {
    json!({
        "type": "gateway", "url": url, "username": "anklang", "password": "s3cret",
        "timeout_seconds": 10, "callback_token": TOKEN,
    })
}

/// Answers by the last two digits of the recipient.
async fn gateway() -> HttpPeer {
    HttpPeer::start(async |request| {
        let all = format!("{}&{}", request.uri, String::from_utf8_lossy(&request.body));
        let to = all.split('&').find_map(|pair| pair.strip_prefix("to=%2B"));
        let say = |status, text: &str| Then::Say(status, "", text.to_owned());
        match to.map(|to| &to[to.len() - 2..]) {
            Some("03") => say(202, "3: Queued for later delivery"),
            Some("40") => say(400, "Empty receiver number not allowed, rejected"),
            Some("43") => say(403, "Authorization failed for sendsms"),
            Some("44") => say(403, "Not routable. Do not try again."),
            Some("50") => say(500, "Sending failed."),
            Some("53") => Then::Say(503, "Retry-After: 7\r\n", "Temporal failure".to_owned()),
            Some("66") => Then::Hang,
            Some("55") => Then::Close,
            _ => say(202, "0: Accepted for delivery"),
        }
    })
    .await
}

#[tokio::test]
async fn answers_are_told_apart() {
    let gateway = gateway().await;
    let instance = open(&config(&format!("http://127.0.0.1:{}/sms", gateway.port()))).await;
    let numbers = ["01", "03", "40", "43", "44", "50", "53", "66", "55"];
    let messages = numbers.map(|end| sms(&format!("+4917112345{end}"), "Hallo"));
    let outcomes = send(&instance, messages.to_vec()).await;
    let outcomes: Vec<_> = outcomes.iter().map(shown).collect();
    let (known, lost) = outcomes.split_at(8);
    assert_eq!(
        known,
        [
            "accepted 1",
            "accepted 1",
            "REASON_CONTENT 400",
            "transient CONFIG",
            "REASON_RECIPIENT 403",
            "transient 500",
            "throttled account",
            "ambiguous: no answer within 10s",
        ]
    );
    assert!(
        lost[0].starts_with("ambiguous: no answer to the request"),
        "{lost:?}"
    );
    // Nobody's number and text is in what is told and logged.
    assert!(
        !lost[0].contains("4917") && !lost[0].contains("Hallo"),
        "{lost:?}"
    );
    assert_eq!(gateway.seen().len(), numbers.len());
}

#[tokio::test]
async fn requests_say_all_that_the_gateway_needs() {
    let gateway = gateway().await;
    let url = format!("http://127.0.0.1:{}/sms", gateway.port());
    let mut config = config(&url);
    config["callback_url"] = "https://anklang.example/callbacks/sms".into();
    config["validity_minutes"] = 60.into();
    config["smsc"] = "centre".into();
    let expected = |id: &str| {
        format!(
            "username=anklang&password=s3cret&from=Stadtwerk&to=%2B491711234501&coding=0&smsc=centre&\
             validity=60&dlr-mask=19&dlr-url=https%3A%2F%2Fanklang.example%2Fcallbacks%2Fsms%3Ftoken%3D\
             {TOKEN}%26message%3D{id}%26status%3D%25d%26at%3D%25T%26reply%3D%25A&\
             text=Gr%C3%BC%C3%9Fe+%26+mehr&charset=UTF-8"
        )
    };
    for method in ["get", "post"] {
        config["method"] = method.into();
        let instance = open(&config).await;
        let message = sms(NUMBER, "Grüße & mehr");
        let id = message.message_id.clone();
        assert_eq!(
            shown(&send(&instance, vec![message]).await[0]),
            "accepted 1"
        );
        let request = gateway.seen().pop().unwrap();
        assert_eq!(request.method.to_ascii_lowercase(), method);
        match method {
            "get" => assert_eq!(request.uri, format!("/sms?{}", expected(&id))),
            _ => assert_eq!(String::from_utf8(request.body).unwrap(), expected(&id)),
        }
    }
}

#[tokio::test]
async fn without_a_gateway_everything_is_transient() {
    let gateway = gateway().await;
    let url = format!("http://127.0.0.1:{}/sms", gateway.port());
    let instance = open(&config(&url)).await;
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    drop(gateway);
    let begun = Instant::now();
    while shown(&one(&instance, NUMBER, "Hallo").await) != "transient CONNECT" {
        assert!(begun.elapsed() < PATIENCE);
    }
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
}

#[tokio::test]
async fn callbacks_need_the_token() {
    let instance = open(&config("http://127.0.0.1:1/")).await;
    let call = async |query: &str| {
        let request = CallbackRequest {
            method: "GET".to_owned(),
            uri: format!("/callbacks/sms?{query}"),
            ..CallbackRequest::default()
        };
        instance.callback(request).await.unwrap()
    };
    let reply = call("token=0123456789abcdeF&message=1&status=1").await;
    assert_eq!((reply.http_status, reply.deliveries.len()), (401, 0));
    let reply = call(&format!("token={TOKEN}&message=1&status=1")).await;
    assert_eq!((reply.http_status, reply.deliveries.len()), (200, 1));
}

/// A host that hands what comes to the instance, and keeps what it says.
async fn host(instance: &Arc<OnceLock<Instance>>) -> (HttpPeer, Arc<Mutex<Vec<CallbackReply>>>) {
    let said = Arc::new(Mutex::new(Vec::new()));
    let (instance, shared) = (Arc::clone(instance), Arc::clone(&said));
    let peer = HttpPeer::start(move |request| {
        let (instance, said) = (Arc::clone(&instance), Arc::clone(&shared));
        async move {
            let reply = instance.get().unwrap().callback(request).await.unwrap();
            let status = reply.http_status.try_into().unwrap();
            said.lock().unwrap().push(reply);
            Then::Say(status, "Content-Type: text/plain\r\n", String::new())
        }
    })
    .await;
    (peer, said)
}

async fn until<T>(
    said: &Mutex<Vec<CallbackReply>>,
    find: impl Fn(&CallbackReply) -> Option<T>,
) -> T {
    let begun = Instant::now();
    loop {
        let found = said.lock().unwrap().iter().find_map(&find);
        if let Some(found) = found {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{:?}", said.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn kannel_takes_messages_and_calls_back() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = Arc::new(OnceLock::new());
    let (peer, said) = host(&instance).await;
    let callback = format!("http://127.0.0.1:{}/callbacks/sms", peer.port());
    let calls = format!("{callback}?token={TOKEN}");
    let Some(kannel) = Kannel::start(smsc.port(), &calls).await else {
        return;
    };
    smsc.until("bind", 1).await;
    let mut config = config(&kannel.url());
    config["timeout_seconds"] = 60.into();
    config["callback_url"] = callback.into();

    assert!(instance.set(open(&config).await).is_ok());
    let instance = instance.get().unwrap();
    config["method"] = "headers".into();
    let posting = open(&config).await;
    for instance in [instance, &posting] {
        let before = smsc.told("submit").await.len();
        assert_eq!(
            shown(&one(instance, NUMBER, "Grüße [€]").await),
            "accepted 1"
        );
        let submit = smsc.until("submit", before + 1).await.remove(before);
        assert_eq!(
            (&submit["text"], &submit["to"]),
            (&json!("Grüße [€]"), &json!("491711234501"))
        );
        assert_eq!(
            (&submit["from"], &submit["to_ton"]),
            (&json!("Stadtwerk"), &json!(1))
        );
    }

    for (to, state) in [(NUMBER, State::Delivered), ("+491711234599", State::Failed)] {
        let message = sms(to, "Спасибо 🎉");
        let id = message.message_id.clone();
        let before = smsc.told("submit").await.len();
        assert_eq!(shown(&send(instance, vec![message]).await[0]), "accepted 1");
        let submit = smsc.until("submit", before + 1).await.remove(before);
        assert_eq!(
            (&submit["text"], &submit["data_coding"]),
            (&json!("Спасибо 🎉"), &json!(8))
        );
        let event = until(&said, |reply| {
            let ours = reply.deliveries.iter().find(|event| event.message_id == id);
            ours.cloned()
        });
        assert_eq!(event.await.state(), state);
    }
    let outcome = one(instance, NUMBER, &"a".repeat(400)).await;
    assert_eq!(accepted(&outcome).parts, 3);

    for (text, arrives) in [("ECHO", "Ja[ä€]"), ("ECHO UNICODE", "Спасибо 🎉")] {
        assert_eq!(shown(&one(instance, NUMBER, text).await), "accepted 1");
        let event = until(&said, |reply| {
            let same = reply.inbound.iter().find(|event| event.text == arrives);
            same.cloned()
        });
        let event = event.await;
        assert_eq!(event.sender.unwrap().address, NUMBER);
        assert!(!event.provider_message_id.is_empty());
    }

    let mut wrong = config.clone();
    wrong["password"] = "wrong".into();
    let refused = one(&open(&wrong).await, NUMBER, "Hallo").await;
    assert_eq!(shown(&refused), "transient CONFIG");
}
