//! The mail plugin, loaded as a library, against a scripted mail server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/smtp_peer.rs"]
mod smtp_peer;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anklang_channels::proto::{
    Attachment, MailContent, Message, Outcome, Party, SendRequest, health_reply, message, outcome,
};
use anklang_channels::{Instance, Isolation, OpenError, Plugin};
use cargo::cdylib;
use kinds::kinds;
use serde_json::{Value, json};
use smtp_peer::{Peer, Tls, certificate};

fn library() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib("anklang-plugin-mail"))
}

fn plugin() -> Plugin {
    Plugin::load_with(library(), None, hosting::hosting(Isolation::Process)).unwrap()
}

fn config(port: u16) -> Value {
    json!({ "host": "127.0.0.1", "port": port, "tls": "none", "connections": 1, "timeout_seconds": 1 })
}

async fn open(peer: &Peer) -> Instance {
    plugin().open(&config(peer.port())).await.unwrap()
}

/// A mail to `local`@example.org; the peer's behaviour depends on the local part.
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
        reply_to: String::new(),
        content: Some(message::Content::Mail(MailContent {
            subject: "Ihr Angebot".to_owned(),
            text: "Guten Tag\n.\n".to_owned(),
            html: "<p>Guten Tag</p>".to_owned(),
            attachments: vec![Attachment {
                filename: "Angebot.pdf".to_owned(),
                media_type: "application/pdf".to_owned(),
                content: vec![0x25; 50_000],
            }],
            ..MailContent::default()
        })),
    }
}

fn batch(locals: &[&str]) -> SendRequest {
    SendRequest {
        messages: locals.iter().map(|local| mail(local)).collect(),
        traceparent: String::new(),
    }
}

async fn send(instance: &Instance, locals: &[&str]) -> Vec<Outcome> {
    instance.send(batch(locals)).await.unwrap()
}

/// Kind, reason and code of a failed outcome.
fn failure(outcome: &Outcome) -> (&'static str, String) {
    match outcome.kind.as_ref().unwrap() {
        outcome::Kind::Permanent(p) => (p.reason().as_str_name(), p.code.clone()),
        outcome::Kind::Transient(t) => ("TRANSIENT", t.code.clone()),
        outcome::Kind::Ambiguous(_) => ("AMBIGUOUS", String::new()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_accepted_mail_carries_the_queue_id_and_its_own_id() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    let request = batch(&["erika"]);
    let id = request.messages[0].message_id.clone();
    let outcomes = instance.send(request).await.unwrap();
    match &outcomes[0].kind {
        Some(outcome::Kind::Accepted(accepted)) => {
            assert_eq!(accepted.provider_message_id, "Q1");
            assert_eq!(accepted.detail, "2.0.0 Ok: queued as Q1");
            assert!(accepted.accepted_at.is_some());
        }
        other => panic!("{other:?}"),
    }
    let mails = peer.mails();
    assert_eq!(mails.len(), 1);
    assert!(mails[0].contains(&format!("Message-ID: <{id}@stadtwerk.example>\r\n")));
    assert!(mails[0].contains("Subject: Ihr Angebot\r\n"));
    instance.drain(Duration::from_secs(2)).await.unwrap();
    assert_eq!(peer.quits(), 1, "a drain says goodbye");
}

#[tokio::test]
async fn refusals_are_told_apart_and_the_connection_goes_on() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    let locals = [
        "rcpt450", "rcpt550", "rcpt554", "rcpt530", "data554", "data452", "body554", "body451",
        "erika",
    ];
    let outcomes = send(&instance, &locals).await;
    let expected = [
        ("TRANSIENT", "450 4.2.1"),
        ("REASON_RECIPIENT", "550 5.1.1"),
        ("REASON_CONFIG", "554 5.7.1"),
        ("TRANSIENT", "CONFIG"),
        ("REASON_CONTENT", "554 5.6.0"),
        ("TRANSIENT", "452 4.3.1"),
        ("REASON_CONTENT", "554 5.6.0"),
        ("TRANSIENT", "451 4.3.0"),
    ];
    for (outcome, (reason, code)) in outcomes.iter().zip(expected) {
        assert_eq!(failure(outcome), (reason, code.to_owned()));
    }
    assert_eq!(kinds(&outcomes)[8], "accepted");
    assert_eq!((peer.connections(), peer.mails().len()), (1, 1));
}

#[tokio::test]
async fn a_server_that_refuses_the_sender_refuses_the_content() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    let mut request = batch(&["erika"]);
    request.messages[0].sender = Some(Party {
        address: "mail550@stadtwerk.example".to_owned(),
        name: String::new(),
    });
    let outcomes = instance.send(request).await.unwrap();
    assert_eq!(
        failure(&outcomes[0]),
        ("REASON_CONTENT", "550 5.1.8".to_owned())
    );
}

#[tokio::test]
async fn silence_before_the_body_is_transient_and_after_it_ambiguous() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    let locals = [
        "rcpthang",
        "rcptclose",
        "datahang",
        "bodyhang",
        "bodyclose",
        "midclose",
        "erika",
    ];
    let outcomes = send(&instance, &locals).await;
    let expected = [
        "transient",
        "transient",
        "transient",
        "ambiguous",
        "ambiguous",
        "ambiguous",
        "accepted",
    ];
    assert_eq!(kinds(&outcomes), expected);
    assert_eq!(failure(&outcomes[0]).1, "CONNECT");
    assert_eq!(peer.mails().len(), 1);
}

#[tokio::test]
async fn one_connection_serves_many_mails_and_batches() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    for _ in 0..3 {
        assert_eq!(
            kinds(&send(&instance, &["a", "b", "c"]).await),
            ["accepted"; 3]
        );
    }
    assert_eq!((peer.connections(), peer.mails().len()), (1, 9));
}

#[tokio::test]
async fn a_batch_is_spread_and_connections_are_replaced() {
    let peer = Peer::start().await;
    let mut config = config(peer.port());
    config["connections"] = 3.into();
    config["messages_per_connection"] = 2.into();
    let instance = plugin().open(&config).await.unwrap();
    // Each takes 200 ms.
    let outcomes = send(&instance, &["slow"; 12]).await;
    assert_eq!(kinds(&outcomes), ["accepted"; 12]);
    assert_eq!(peer.at_once(), 3);
    assert_eq!(peer.connections(), 6);
}

#[tokio::test]
async fn a_stale_connection_is_replaced_without_anybody_noticing() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    // The server closes after these: once silently, once with a 421 to the next command.
    for (local, connections) in [("last", 1), ("last421", 2), ("erika", 3)] {
        assert_eq!(kinds(&send(&instance, &[local]).await), ["accepted"]);
        assert_eq!(peer.connections(), connections);
    }
    // Rested for longer, it is asked first.
    assert_eq!(kinds(&send(&instance, &["last"]).await), ["accepted"]);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(kinds(&send(&instance, &["erika"]).await), ["accepted"]);
    assert_eq!((peer.connections(), peer.mails().len()), (4, 5));
}

#[tokio::test]
async fn without_a_server_everything_is_transient() {
    let peer = Peer::start().await;
    let port = peer.port();
    drop(peer);
    let instance = plugin().open(&config(port)).await.unwrap();
    let outcomes = send(&instance, &["a", "b"]).await;
    for outcome in &outcomes {
        assert_eq!(failure(outcome), ("TRANSIENT", "CONNECT".to_owned()));
    }
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
}

#[tokio::test]
async fn a_wrong_password_burns_nobody_and_is_tried_once_per_batch() {
    let peer = Peer::start().await;
    let mut config = config(peer.port());
    config["connections"] = 4.into();
    config["username"] = "u".into();
    config["password"] = "wrong".into();
    let instance = plugin().open(&config).await.unwrap();
    let outcomes = send(&instance, &["a", "b", "c", "d"]).await;
    for outcome in &outcomes {
        assert_eq!(failure(outcome), ("TRANSIENT", "CONFIG".to_owned()));
    }
    assert_eq!(peer.connections(), 1);

    config["password"] = "right".into();
    let instance = plugin().open(&config).await.unwrap();
    assert_eq!(kinds(&send(&instance, &["a"]).await), ["accepted"]);
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
}

#[tokio::test]
async fn starttls_is_never_given_up() {
    let peer = Peer::start().await;
    let mut config = config(peer.port());
    config.as_object_mut().unwrap().remove("tls");
    let instance = plugin().open(&config).await.unwrap();
    let outcomes = send(&instance, &["erika"]).await;
    assert_eq!(failure(&outcomes[0]), ("TRANSIENT", "CONFIG".to_owned()));
    assert!(peer.mails().is_empty());
}

#[tokio::test]
async fn tls_is_used_and_its_certificate_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    let (acceptor, pem) = certificate();
    std::fs::write(&authority, pem).unwrap();
    let ways = [
        ("implicit", Tls::Implicit(acceptor.clone())),
        ("starttls", Tls::Starttls(acceptor)),
    ];
    for (way, tls) in ways {
        let peer = Peer::start_with(tls).await;
        let mut config = config(peer.port());
        config["tls"] = way.into();
        config["host"] = "localhost".into();
        config["username"] = "u".into();
        config["password"] = "right".into();
        config["ca_file"] = authority.to_str().into();
        let trusting = plugin().open(&config).await.unwrap();
        let outcomes = send(&trusting, &["a", "b"]).await;
        assert_eq!(kinds(&outcomes), ["accepted"; 2], "{way}");

        // The name must fit, and the authority be known.
        config["host"] = "127.0.0.1".into();
        let other_name = plugin().open(&config).await.unwrap();
        config["host"] = "localhost".into();
        config.as_object_mut().unwrap().remove("ca_file");
        let unknown = plugin().open(&config).await.unwrap();
        for instance in [other_name, unknown] {
            let outcomes = send(&instance, &["a"]).await;
            let expected = ("TRANSIENT", "CONFIG".to_owned());
            assert_eq!(failure(&outcomes[0]), expected, "{way}: {outcomes:?}");
        }
        assert_eq!(peer.mails().len(), 2);
    }
}

#[tokio::test]
async fn unusable_messages_do_not_hold_up_the_others() {
    let peer = Peer::start().await;
    let instance = open(&peer).await;
    let mut request = batch(&["a", "b", "c"]);
    request.messages[1].recipient = None;
    let outcomes = instance.send(request).await.unwrap();
    assert_eq!(kinds(&outcomes), ["accepted", "permanent", "accepted"]);
    assert_eq!(
        failure(&outcomes[1]),
        ("REASON_RECIPIENT", "ADDRESS_INVALID".to_owned())
    );
}

#[tokio::test]
async fn configurations_are_checked() {
    let plugin = plugin();
    let wrong = json!({ "port": 0, "tls": "maybe", "connections": 0, "pasword": "x" });
    let Err(violations) = plugin.check_config(&wrong) else {
        panic!("accepted");
    };
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/connections", "/host", "/pasword", "/port", "/tls"]
    );
    let inside = json!({
        "type": "smtp", "host": "h", "notify": ["never"], "dkim": [{ "domain": "d" }],
        "bounces": { "username": "u", "folder": "Über", "passwort": "x" },
    });
    let Err(violations) = plugin.check_config(&inside) else {
        panic!("accepted");
    };
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    let expected = [
        "/bounces/folder",
        "/bounces/host",
        "/bounces/passwort",
        "/dkim/0/selector",
        "/notify/0",
    ];
    assert_eq!(paths, expected);
    let plain = json!({ "host": "mail.example.org", "tls": "none" });
    match plugin.open(&plain).await {
        Err(OpenError::Refused(reason)) => assert!(reason.starts_with("tls: "), "{reason}"),
        other => panic!("{other:?}"),
    }
    let secrets = json!({
        "host": "h", "password": "s", "dkim": [{ "key": "s" }], "bounces": { "password": "s" },
    });
    let hidden = json!({
        "host": "h", "password": "********", "dkim": [{ "key": "********" }],
        "bounces": { "password": "********" },
    });
    assert_eq!(plugin.redacted(&secrets), hidden);
}
