//! Signatures of the mail plugin, verified by dkimpy: whatever we think of the standard, others
//! must think the same.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/smtp_peer.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod smtp_peer;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anklang_channels::proto::{
    Attachment, Header, MailContent, Message, Party, SendRequest, message,
};
use anklang_channels::{Isolation, OpenError, Plugin};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kinds::kinds;
use serde_json::{Value, json};
use smtp_peer::Peer;

/// The tests' Python, if it has dkimpy; with `CI=true` it must.
fn python() -> Option<PathBuf> {
    let venv = match std::env::var_os("ANKLANG_VENV") {
        Some(venv) => PathBuf::from(venv),
        None => Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/anklang/venv"),
    };
    let python = venv.join("bin/python");
    let found = Command::new(&python)
        .args(["-c", "import dkim, nacl"])
        .output();
    if found.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let reason = format!("{} has no dkimpy: scripts/setup test", python.display());
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{reason}"
    );
    eprintln!("skipped: {reason}");
    None
}

fn others(python: &Path, what: &str, asked: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/dkim_of_others.py");
    let mut child = Command::new(python)
        .arg(script)
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(asked.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn plugin() -> Plugin {
    Plugin::load_with(
        &cargo::cdylib("anklang-plugin-mail"),
        None,
        hosting::hosting(Isolation::Process),
    )
    .unwrap()
}

fn mail(sender: &str) -> Message {
    let party = |address: &str, name: &str| {
        Some(Party {
            address: address.to_owned(),
            name: name.to_owned(),
        })
    };
    let header = |name: &str, value: String| Header {
        name: name.to_owned(),
        value,
    };
    let link = format!("<https://anklang.example/u?t={}>", "x".repeat(200));
    Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: party("erika@example.org", "Erika Müßig"),
        sender: party(sender, "Stadtwerk Süd, Vertrieb"),
        reply_to: "service@stadtwerk.example".to_owned(),
        content: Some(message::Content::Mail(MailContent {
            subject: "Ihr Angebot für 2027  –  jetzt  ansehen".to_owned(),
            text: "Guten Tag\t \n\n  eingerückt   und  weit \n.\n..\n\n\n".to_owned(),
            html: format!("<p>Müßig {}</p>", "lang ".repeat(400)),
            attachments: vec![Attachment {
                filename: "Angebot.pdf".to_owned(),
                media_type: "application/pdf".to_owned(),
                content: (0..=255).cycle().take(20_000).collect(),
            }],
            headers: vec![
                header("List-Unsubscribe", link),
                header(
                    "List-Unsubscribe-Post",
                    "List-Unsubscribe=One-Click".to_owned(),
                ),
                header("X-Note", "unsigned".to_owned()),
            ],
            ..MailContent::default()
        })),
    }
}

/// Sends mails of these senders and returns them as they went over the wire.
async fn sent(dkim: Value, senders: &[&str]) -> Vec<String> {
    let peer = Peer::start().await;
    let config = json!({
        "host": "127.0.0.1", "port": peer.port(), "tls": "none", "connections": 1, "dkim": dkim,
    });
    let instance = plugin().open(&config).await.unwrap();
    let request = SendRequest {
        messages: senders.iter().map(|sender| mail(sender)).collect(),
        traceparent: String::new(),
    };
    let outcomes = instance.send(request).await.unwrap();
    assert_eq!(kinds(&outcomes), vec!["accepted"; senders.len()]);
    // The receiver takes away the dots that protect dots.
    let plain = |mail: String| mail.replace("\r\n..", "\r\n.");
    peer.mails().into_iter().map(plain).collect()
}

#[tokio::test]
async fn signatures_are_valid_for_others_and_cover_what_they_should() {
    let Some(python) = python() else { return };
    let keys = others(&python, "keys", &Value::Null);
    let dkim = json!([
        { "domain": "stadtwerk.example", "selector": "r1", "key": keys["pkcs8"] },
        { "domain": "stadtwerk.example", "selector": "r2", "key": keys["pkcs1"] },
        { "domain": "Stadtwerk.example", "selector": "e1", "key": keys["ed25519"] },
        { "domain": "andere.example", "selector": "x", "key": keys["ed25519"],
          "headers": ["Subject", "X-Note"] },
    ]);
    let records = json!({
        "r1._domainkey.stadtwerk.example": keys["rsa_record"],
        "r2._domainkey.stadtwerk.example": keys["rsa_record"],
        "e1._domainkey.stadtwerk.example": keys["ed25519_record"],
        "x._domainkey.andere.example": keys["ed25519_record"],
    });
    let senders = [
        "a@stadtwerk.example",
        "a@news.stadtwerk.example",
        "a@andere.example",
        "a@fremd.example",
    ];
    let mails = sent(dkim, &senders).await;
    let verify = |mail: &str| {
        let asked = json!({ "mail": BASE64.encode(mail), "records": records });
        let found = others(&python, "verify", &asked);
        found.as_array().unwrap().clone()
    };
    let rsa_and_curve = ["rsa-sha256", "rsa-sha256", "ed25519-sha256"];
    for mail in &mails[..2] {
        let found = verify(mail);
        let algorithms: Vec<_> = found
            .iter()
            .map(|f| f["algorithm"].as_str().unwrap())
            .collect();
        assert_eq!(algorithms, rsa_and_curve);
        for signature in found {
            assert_eq!(signature["valid"], true, "{signature}\n{mail}");
            let signed = signature["signed"].as_array().unwrap();
            let count = |name: &str| signed.iter().filter(|s| *s == name).count();
            for twice in [
                "from",
                "to",
                "subject",
                "reply-to",
                "date",
                "list-unsubscribe",
                "list-unsubscribe-post",
            ] {
                assert_eq!(count(twice), 2, "{twice}");
            }
            assert_eq!((count("cc"), count("x-note")), (1, 0));
        }
    }
    let own = verify(&mails[2]);
    assert_eq!(own.len(), 1);
    assert_eq!(own[0]["valid"], true);
    assert_eq!(
        own[0]["signed"],
        json!(["from", "from", "subject", "subject", "x-note", "x-note"])
    );
    assert!(verify(&mails[3]).is_empty(), "no key is for this domain");

    // What is changed on the way breaks them all; spaces at the ends of lines do not.
    let changes = [
        ("<p>", "<b>", false),
        ("Subject: ", "Subject: Re: ", false),
        (
            "List-Unsubscribe-Post: List",
            "List-Unsubscribe-Post: Fist",
            false,
        ),
        ("From: ", "Subject: Noch einer\r\nFrom: ", false),
        ("From: ", "Cc: noch@einer.example\r\nFrom: ", false),
        ("X-Note: unsigned", "X-Note: changed", true),
        ("Subject: ", "Subject:   ", true),
    ];
    for (from, to, valid) in changes {
        let changed = mails[0].replacen(from, to, 1);
        assert_ne!(changed, mails[0], "{from}");
        for signature in verify(&changed) {
            assert_eq!(signature["valid"], valid, "{from} to {to}: {signature}");
        }
    }
}

#[tokio::test]
async fn keys_that_cannot_sign_are_told_when_the_account_is_opened() {
    let Some(python) = python() else { return };
    let keys = others(&python, "keys", &Value::Null);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    std::fs::write(&file, keys["ed25519"].as_str().unwrap()).unwrap();
    let config = json!({
        "host": "127.0.0.1", "tls": "none", "dkim": [
            { "domain": "a.example", "selector": "a", "key": keys["small"] },
            { "domain": "a.example", "selector": "b", "key_file": "/nonexistent/key" },
            { "domain": "a.example", "selector": "c", "key_file": file },
            { "domain": "a.example", "selector": "d", "key": "geheim" },
        ],
    });
    let Err(OpenError::Refused(reason)) = plugin().open(&config).await else {
        panic!("accepted");
    };
    for option in ["dkim.0.key: ", "dkim.1.key_file: ", "dkim.3.key: "] {
        assert!(reason.contains(option), "{reason}");
    }
    assert!(
        !reason.contains("dkim.2") && !reason.contains("geheim"),
        "{reason}"
    );
    let shown = plugin().redacted(&config);
    assert_eq!(shown["dkim"][0]["key"], "********");
}
