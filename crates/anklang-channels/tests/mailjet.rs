//! Accounts of Mailjet in the mail plugin, loaded as a library, against Mailjet as it is
//! documented.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/mailjet_fake.rs"]
mod mailjet_fake;

use std::path::PathBuf;
use std::sync::OnceLock;

use anklang_channels::proto::{
    Attachment, CallbackRequest, Header, LookupRequest, LookupResult, MailContent, Message,
    Outcome, Party, ProviderTemplate, SendRequest, delivery_event, health_reply, lookup_result,
    message, outcome,
};
use anklang_channels::{Instance, Isolation, OpenError, Plugin};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kinds::kinds;
use mailjet_fake::{API_KEY, Fake, SECRET_KEY};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

fn plugin() -> Plugin {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let library = BUILT.get_or_init(|| cargo::cdylib("anklang-plugin-mail"));
    Plugin::load_with(library, None, hosting::hosting(Isolation::Process)).unwrap()
}

fn config(url: &str) -> Value {
    json!({
        "type": "mailjet", "api_key": API_KEY, "secret_key": SECRET_KEY, "base_url": url,
        "timeout_seconds": 60, "track_opens": false,
        "webhook": { "username": "mailjet", "password": "hook" },
    })
}

/// An account that loses its patience with `hang`, but not with a machine that is slow.
fn impatient(url: &str) -> Value {
    let mut config = config(url);
    config["timeout_seconds"] = 5.into();
    config
}

async fn open(config: &Value) -> Instance {
    plugin().open(config).await.unwrap()
}

fn mail(local: &str) -> Message {
    let party = |address: String, name: &str| {
        Some(Party {
            address,
            name: name.to_owned(),
        })
    };
    Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: party(format!("{local}@example.org"), "Erika Müßig"),
        sender: party("angebote@stadtwerk.example".to_owned(), "Stadtwerk"),
        reply_to: "service@stadtwerk.example".to_owned(),
        content: Some(message::Content::Mail(MailContent {
            subject: "Ihr Angebot für 2027".to_owned(),
            text: "Guten Tag".to_owned(),
            html: "<p>Guten Tag</p>".to_owned(),
            attachments: vec![Attachment {
                filename: "Angebot.pdf".to_owned(),
                media_type: "application/pdf".to_owned(),
                content: vec![0x25; 500],
            }],
            headers: vec![Header {
                name: "List-Unsubscribe".to_owned(),
                value: "<https://anklang.example/u>".to_owned(),
            }],
            ..MailContent::default()
        })),
    }
}

async fn send(instance: &Instance, messages: Vec<Message>) -> Vec<Outcome> {
    let request = SendRequest {
        messages,
        traceparent: String::new(),
    };
    instance.send(request).await.unwrap()
}

async fn send_to(instance: &Instance, local: &str) -> Outcome {
    send(instance, vec![mail(local)]).await.remove(0)
}

/// Kind, reason and code.
fn failure(outcome: &Outcome) -> (&'static str, String) {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Permanent(p) => (p.reason().as_str_name(), p.code.clone()),
        outcome::Kind::Transient(t) => ("TRANSIENT", t.code.clone()),
        outcome::Kind::Throttled(t) => {
            let seconds = t.retry_after.as_ref().map_or(0, |after| after.seconds);
            ("THROTTLED", format!("{} {seconds}", t.scope))
        }
        outcome::Kind::Ambiguous(_) => ("AMBIGUOUS", String::new()),
        outcome::Kind::Accepted(_) => ("ACCEPTED", String::new()),
    }
}

async fn look_up(instance: &Instance, ids: &[&str]) -> Vec<LookupResult> {
    let request = LookupRequest {
        message_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        traceparent: String::new(),
    };
    instance.lookup(request).await.unwrap()
}

#[tokio::test]
async fn a_batch_goes_out_in_calls_of_fifty() {
    let fake = Fake::start().await;
    let instance = open(&config(fake.url())).await;
    let batch: Vec<_> = (0..100).map(|_| mail("erika")).collect();
    let ids: Vec<_> = batch.iter().map(|m| m.message_id.clone()).collect();
    let outcomes = send(&instance, batch).await;
    assert_eq!(fake.calls(), [50, 50]);
    for (id, outcome) in ids.iter().zip(&outcomes) {
        match &outcome.kind {
            Some(outcome::Kind::Accepted(a)) => {
                assert_eq!(a.provider_message_id, format!("mj-{id}"));
            }
            other => panic!("{other:?}"),
        }
    }
    let taken = fake.taken();
    assert_eq!(taken.len(), 100);
    let message = taken.iter().find(|m| m["CustomID"] == ids[0][..]).unwrap();
    assert_eq!(message["HTMLPart"], "<p>Guten Tag</p>");
    assert_eq!(message["ReplyTo"]["Email"], "service@stadtwerk.example");
    assert_eq!(message["TrackOpens"], "disabled");
    assert_eq!(
        message["Headers"]["List-Unsubscribe"],
        "<https://anklang.example/u>"
    );
    let file = message["Attachments"][0]["Base64Content"].as_str().unwrap();
    assert_eq!(BASE64.decode(file).unwrap(), vec![0x25; 500]);
}

#[tokio::test]
async fn templates_of_mailjet_are_filled_with_variables() {
    let fake = Fake::start().await;
    let instance = open(&config(fake.url())).await;
    let with = |id: &str, variables: &str| {
        let mut message = mail("erika");
        let Some(message::Content::Mail(content)) = &mut message.content else {
            panic!("no mail");
        };
        content.provider_template = Some(ProviderTemplate {
            id: id.to_owned(),
            variables_json: variables.to_owned(),
        });
        message
    };
    let variables = "{\"vorname\":\"Erika\",\"letzte_bestellung_tage\":238}";
    let outcomes = send(&instance, vec![with("1234", variables), with("x", "{}")]).await;
    assert_eq!(kinds(&outcomes), ["accepted", "permanent"]);
    let expected = ("REASON_CONFIG", "TEMPLATE_ID_INVALID".to_owned());
    assert_eq!(failure(&outcomes[1]), expected);
    let taken = fake.taken();
    assert_eq!((taken.len(), &taken[0]["TemplateID"]), (1, &json!(1234)));
    assert_eq!(taken[0]["Variables"]["vorname"], "Erika");
    assert!(taken[0].get("TextPart").is_none());
}

#[tokio::test]
async fn each_message_has_its_own_answer() {
    let fake = Fake::start().await;
    let instance = open(&config(fake.url())).await;
    let locals = ["erika", "mj0013", "send0008", "send0010", "mj0006", "erika"];
    let outcomes = send(&instance, locals.map(mail).to_vec()).await;
    let expected = [
        ("ACCEPTED", ""),
        ("REASON_RECIPIENT", "mj-0013"),
        ("TRANSIENT", "CONFIG"),
        ("REASON_CONFIG", "send-0010"),
        ("REASON_CONTENT", "mj-0006"),
        ("ACCEPTED", ""),
    ];
    for (outcome, (kind, code)) in outcomes.iter().zip(expected) {
        assert_eq!(failure(outcome), (kind, code.to_owned()));
    }
    assert_eq!(fake.taken().len(), 2);
}

#[tokio::test]
async fn a_call_that_is_refused_as_a_whole_is_made_for_each_message() {
    let fake = Fake::start().await;
    let instance = open(&config(fake.url())).await;
    let outcomes = send(&instance, ["erika", "poison", "erika"].map(mail).to_vec()).await;
    assert_eq!(kinds(&outcomes), ["accepted", "permanent", "accepted"]);
    assert_eq!(
        failure(&outcomes[1]),
        ("REASON_CONTENT", "mj-0002".to_owned())
    );
    assert_eq!((fake.calls(), fake.taken().len()), (vec![1, 1, 1, 3], 2));
}

#[tokio::test]
async fn failures_of_calls_are_told_apart() {
    let fake = Fake::start().await;
    let mut config = config(fake.url());
    let instance = open(&config).await;
    let expected = [
        ("http429", ("THROTTLED", "account 17")),
        ("http403", ("TRANSIENT", "CONFIG")),
        ("http404", ("TRANSIENT", "CONFIG")),
        ("http500", ("AMBIGUOUS", "")),
        ("http503", ("AMBIGUOUS", "")),
        ("nonsense", ("AMBIGUOUS", "")),
    ];
    for (local, (kind, code)) in expected {
        let outcome = send_to(&instance, local).await;
        assert_eq!(
            failure(&outcome),
            (kind, code.to_owned()),
            "{local}: {outcome:?}"
        );
    }
    config["secret_key"] = "wrong".into();
    let stranger = open(&config).await;
    let outcome = send_to(&stranger, "erika").await;
    assert_eq!(failure(&outcome), ("TRANSIENT", "CONFIG".to_owned()));
    let health = stranger.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
}

#[tokio::test]
async fn only_what_was_begun_to_be_sent_is_doubtful() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let instance = open(&config(&url)).await;
    // The connection ends after the request was read.
    let reading = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 200];
        stream.read_exact(&mut bytes).await.unwrap();
    });
    assert_eq!(failure(&send_to(&instance, "erika").await).0, "AMBIGUOUS");
    reading.await.unwrap();
    // Now nobody listens.
    let outcome = send_to(&instance, "erika").await;
    assert_eq!(failure(&outcome), ("TRANSIENT", "CONNECT".to_owned()));
}

#[tokio::test]
async fn doubtful_messages_can_be_asked_for() {
    let fake = Fake::start().await;
    let instance = open(&impatient(fake.url())).await;
    let (taken, lost) = (mail("hang"), mail("http500"));
    let ids = [taken.message_id.clone(), lost.message_id.clone()];
    for message in [taken, lost] {
        assert_eq!(kinds(&send(&instance, vec![message]).await), ["ambiguous"]);
    }
    let results = look_up(&instance, &[&ids[0], &ids[1]]).await;
    match &results[0].kind {
        Some(lookup_result::Kind::Outcome(found)) => match &found.kind {
            Some(outcome::Kind::Accepted(a)) => {
                assert_eq!(a.provider_message_id, format!("mj-{}", ids[0]));
                assert_eq!(
                    a.accepted_at.as_ref().map(|at| at.seconds),
                    Some(1_795_341_600)
                );
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    // Mailjet may not show yet what it took just now.
    match &results[1].kind {
        Some(lookup_result::Kind::Outcome(unknown)) => assert_eq!(failure(unknown).0, "AMBIGUOUS"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_sandbox_sends_nothing() {
    let fake = Fake::start().await;
    let mut config = config(fake.url());
    config["sandbox"] = true.into();
    let instance = open(&config).await;
    assert_eq!(failure(&send_to(&instance, "erika").await).0, "ACCEPTED");
    assert_eq!((fake.sandboxed(), fake.taken().len()), (1, 0));
}

#[tokio::test]
async fn events_come_by_the_webhook() {
    let instance = open(&config("http://127.0.0.1:9")).await;
    let id = uuid::Uuid::now_v7().to_string();
    let body = json!([
        { "event": "sent", "time": 1_433_333_949, "MessageID": 19_421_777_835_146_490_u64,
          "Message_GUID": "g", "email": "api@mailjet.com", "CustomID": id, "Payload": "",
          "smtp_reply": "sent (250 2.0.0 OK)" },
        { "event": "bounce", "time": 1_430_812_195, "MessageID": 1, "Message_GUID": "g",
          "email": "bounce@mailjet.com", "CustomID": id, "Payload": "", "blocked": false,
          "hard_bounce": true, "error_related_to": "recipient", "error": "user unknown",
          "comment": "Host not found" },
    ]);
    let request = |credentials: &str| CallbackRequest {
        method: "POST".to_owned(),
        uri: "/callbacks/mailjet".to_owned(),
        headers: vec![Header {
            name: "Authorization".to_owned(),
            value: format!("Basic {}", BASE64.encode(credentials)),
        }],
        body: body.to_string().into_bytes(),
    };
    let stranger = instance.callback(request("mailjet:wrong")).await.unwrap();
    assert_eq!((stranger.http_status, stranger.deliveries.len()), (401, 0));
    let reply = instance.callback(request("mailjet:hook")).await.unwrap();
    assert_eq!(reply.http_status, 200);
    let states: Vec<_> = reply
        .deliveries
        .iter()
        .map(|d| (d.state(), &d.code[..]))
        .collect();
    let bounced = (delivery_event::State::Bounced, "5.1.1");
    assert_eq!(states, [(delivery_event::State::Delivered, ""), bounced]);
    assert!(
        reply
            .deliveries
            .iter()
            .all(|d| d.message_id == id && d.event_id == 0)
    );
}

#[tokio::test]
async fn configurations_are_checked_by_their_type() {
    let plugin = plugin();
    let wrong = json!({
        "type": "mailjet", "host": "h", "timeout_seconds": 0, "sandbox": "yes",
        "webhook": { "user": "x" },
    });
    let Err(violations) = plugin.check_config(&wrong) else {
        panic!("accepted");
    };
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    let expected = [
        "/api_key",
        "/host",
        "/sandbox",
        "/timeout_seconds",
        "/webhook/user",
    ];
    assert_eq!(paths, expected);
    let Err(violations) = plugin.check_config(&json!({ "type": "fax", "host": "h" })) else {
        panic!("accepted");
    };
    assert!(
        violations.iter().all(|v| v.path == "/type"),
        "{violations:?}"
    );
    let unfit = json!({
        "type": "mailjet", "api_key": "k", "base_url": "http://mailjet.example",
        "webhook": { "username": "u" },
    });
    let Err(OpenError::Refused(reason)) = plugin.open(&unfit).await else {
        panic!("accepted");
    };
    for option in [
        "secret_key: ",
        "base_url: ",
        "webhook: ",
        "webhook.username: ",
    ] {
        assert!(reason.contains(option), "{reason}");
    }
    let secret = json!({
        "type": "mailjet", "api_key": "k", "secret_key": "geheim",
        "webhook": { "token": "geheim", "username": "u", "password": "geheim" },
    });
    let shown = plugin.redacted(&secret);
    assert!(!shown.to_string().contains("geheim"), "{shown}");
    assert_eq!(shown["webhook"]["username"], "u");
}
