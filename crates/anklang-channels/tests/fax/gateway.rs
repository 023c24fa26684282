//! As a gateway by mail, against a scripted mail server that goes by the local part, here the number.

use anklang_channels::proto::health_reply;
use serde_json::{Value, json};

use super::*;
use crate::smtp_peer::Peer;

/// `to` begins with what the mail server is to do.
fn config(peer: &Peer, behaviour: &str) -> Value {
    json!({
        "type": "mail-gateway",
        "host": "127.0.0.1",
        "port": peer.port(),
        "tls": "none",
        "timeout_seconds": 1,
        "from": "fax@stadtwerk.example",
        "to": if behaviour.is_empty() {
            "{number}@fax.example.org".to_owned()
        } else {
            format!("{behaviour}@{{number}}.fax.example.org")
        },
        "subject": "{subject}",
        "pin": "4711",
        "pin_header": "X-Fax-PIN",
        "dial": { "international_prefix": "00" },
    })
}

fn pdf_fax() -> Message {
    fax("+495619960", "application/pdf", documents::pdf(3))
}

#[tokio::test]
async fn a_mail_to_the_number_carries_the_document() {
    let peer = Peer::start().await;
    let instance = plugin().open(&config(&peer, "")).await.unwrap();
    let batch = vec![pdf_fax(), tiff_fax("+43123456789")];
    let outcomes = send(&instance, batch).await;
    assert_eq!(accepted(&outcomes[0]), ("Q1".to_owned(), 3));
    assert_eq!(accepted(&outcomes[1]), ("Q1".to_owned(), 2));
    assert_eq!((peer.connections(), peer.quits()), (1, 1));
    let mails = peer.mails();
    for (mail, says) in [
        (&mails[0], "To: 00495619960@fax.example.org\r\n"),
        (&mails[0], "X-Fax-PIN: 4711\r\n"),
        (&mails[0], "filename=\"fax.pdf\""),
        (&mails[1], "To: 0043123456789@fax.example.org\r\n"),
        (&mails[1], "filename=\"fax.tif\""),
    ] {
        assert!(mail.contains(says), "{says}: {mail}");
    }
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    instance.drain(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn the_dialogue_proves_what_it_proves() {
    let peer = Peer::start().await;
    for (behaviour, expected) in [
        ("rcpt450", ("TRANSIENT", "450 4.2.1")),
        ("rcpt550", ("REASON_RECIPIENT", "550 5.1.1")),
        ("rcpt554", ("REASON_CONFIG", "554 5.7.1")),
        ("rcpt530", ("TRANSIENT", "CONFIG")),
        ("rcpthang", ("TRANSIENT", "CONNECT")),
        ("rcptclose", ("TRANSIENT", "CONNECT")),
        ("data554", ("REASON_CONTENT", "554 5.6.0")),
        ("body554", ("REASON_CONTENT", "554 5.6.0")),
        ("body451", ("TRANSIENT", "451 4.3.0")),
        ("bodyhang", ("AMBIGUOUS", "")),
        ("bodyclose", ("AMBIGUOUS", "")),
        ("midclose", ("AMBIGUOUS", "")),
    ] {
        let instance = plugin().open(&config(&peer, behaviour)).await.unwrap();
        let outcomes = send(&instance, vec![pdf_fax()]).await;
        let (kind, code) = failure(&outcomes[0]);
        assert_eq!((kind, &code[..]), expected, "{behaviour}");
    }
    assert!(peer.mails().is_empty());
}

#[tokio::test]
async fn without_a_server_nothing_is_lost_and_nobody_can_be_asked() {
    let peer = Peer::start().await;
    let config = config(&peer, "");
    drop(peer);
    let instance = plugin().open(&config).await.unwrap();
    let outcomes = send(&instance, vec![pdf_fax(), pdf_fax(), tiff_fax("0")]).await;
    assert_eq!(failure(&outcomes[0]), ("TRANSIENT", "CONNECT".to_owned()));
    assert_eq!(failure(&outcomes[1]), ("TRANSIENT", "CONNECT".to_owned()));
    assert_eq!(failure(&outcomes[2]).0, "REASON_RECIPIENT");
    let asked = anklang_channels::proto::LookupRequest {
        message_ids: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    let refused = instance.lookup(asked).await.unwrap_err();
    assert_eq!(refused, anklang_channels::CallError::Unsupported);
}
