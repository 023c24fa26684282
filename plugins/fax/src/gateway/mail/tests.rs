use anklang_plugin_sdk::{Content, Party};
use mail_parser::{MessageParser, MimeHeaders};

use super::*;
use crate::gateway::config::GatewayConfig;
use crate::tiff::tests::file as tiff_file;

async fn settings(more: serde_json::Value) -> Settings {
    let mut config = serde_json::json!({
        "host": "localhost",
        "tls": "none",
        "from": "fax@stadtwerk.example",
        "to": "{number}@fax.example.org",
        "dial": { "international_prefix": "00" },
    });
    let more = more.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(more);
    let config: GatewayConfig = serde_json::from_value(config).unwrap();
    match config.resolve().await {
        Ok(settings) => settings,
        Err(error) => panic!("{error:?}"),
    }
}

/// A PDF with so many empty pages.
fn pdf(pages: usize) -> Vec<u8> {
    let mut objects = vec!["<< /Type /Catalog /Pages 2 0 R >>".to_owned()];
    let kids: Vec<_> = (0..pages).map(|page| format!("{} 0 R", page + 3)).collect();
    objects.push(format!(
        "<< /Type /Pages /Kids [{}] /Count {pages} >>",
        kids.join(" ")
    ));
    let page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>";
    objects.extend(vec![page.to_owned(); pages]);
    let (mut file, mut offsets) = ("%PDF-1.4\n".to_owned(), Vec::new());
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let xref = file.len();
    file += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for offset in offsets {
        file += &format!("{offset:010} 00000 n \n");
    }
    let size = objects.len() + 1;
    file += &format!("trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{xref}\n%%EOF\n");
    file.into_bytes()
}

fn message(media_type: &str, content: Vec<u8>) -> Message {
    Message {
        message_id: "0199a3b2-7c00-7000-8000-000000000001".to_owned(),
        attempt: 1,
        recipient: Some(Party {
            address: "+495611234567".to_owned(),
            name: "Erika".to_owned(),
        }),
        content: Some(Content::Document(anklang_document(media_type, content))),
        ..Message::default()
    }
}

fn anklang_document(media_type: &str, content: Vec<u8>) -> anklang_plugin_sdk::DocumentContent {
    anklang_plugin_sdk::DocumentContent {
        document: Some(Attachment {
            filename: "Angebot Erika Müßig.pdf".to_owned(),
            media_type: media_type.to_owned(),
            content,
        }),
        subject: "Ihr Angebot {pin}\r\nBcc: x@example.org".to_owned(),
    }
}

fn code(refused: &Outcome) -> String {
    match &refused.kind {
        Some(anklang_plugin_sdk::outcome::Kind::Permanent(permanent)) => permanent.code.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_mail_carries_the_document_and_the_pin() {
    let more = serde_json::json!({ "pin": "4711", "pin_header": "X-Fax-PIN", "subject": "{pin} {subject}" });
    let settings = settings(more).await;
    let document = pdf(2);
    let mail = build(&settings, message("application/pdf", document.clone())).unwrap();
    assert_eq!(mail.pages, 2);
    let to: Vec<_> = mail.envelope.to().iter().map(ToString::to_string).collect();
    assert_eq!(to, ["00495611234567@fax.example.org"]);
    let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
    assert_eq!(
        parsed.message_id(),
        Some("0199a3b2-7c00-7000-8000-000000000001@stadtwerk.example")
    );
    // What the document says is neither a mark nor a header line.
    assert_eq!(
        parsed.subject(),
        Some("4711 Ihr Angebot {pin}  Bcc: x@example.org")
    );
    assert!(parsed.bcc().is_none());
    let headers = String::from_utf8_lossy(&mail.bytes);
    assert!(headers.contains("X-Fax-PIN: 4711\r\n"), "{headers}");
    assert_eq!(parsed.attachment_count(), 1);
    let file = parsed.attachment(0).unwrap();
    assert_eq!(file.attachment_name(), Some("fax.pdf"));
    assert_eq!(file.contents(), document);
    assert!(mail.bytes.is_ascii());
}

#[tokio::test]
async fn a_tiff_goes_as_one() {
    let settings = settings(serde_json::json!({})).await;
    let mail = build(&settings, message("image/tiff", tiff_file(&[196; 3]))).unwrap();
    assert_eq!(mail.pages, 3);
    let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
    assert_eq!(
        parsed.attachment(0).unwrap().attachment_name(),
        Some("fax.tif")
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused() {
    let settings = settings(serde_json::json!({ "max_pages": 2 })).await;
    for (media_type, content, expected) in [
        ("application/pdf", pdf(0), "UNREADABLE"),
        ("application/pdf", pdf(3), "TOO_MANY_PAGES"),
        (
            "application/pdf",
            b"%PDF-1.4\nnothing".to_vec(),
            "UNREADABLE",
        ),
        ("image/tiff", tiff_file(&[196; 3]), "TOO_MANY_PAGES"),
        ("text/plain", b"Guten Tag".to_vec(), "MEDIA_TYPE_INVALID"),
    ] {
        let refused = build(&settings, message(media_type, content)).unwrap_err();
        assert_eq!(code(&refused), expected);
    }
    let mut elsewhere = message("application/pdf", pdf(1));
    elsewhere.recipient.as_mut().unwrap().address = "erika@example.org".to_owned();
    assert_eq!(
        code(&build(&settings, elsewhere).unwrap_err()),
        "ADDRESS_INVALID"
    );
    let mut nothing = message("application/pdf", pdf(1));
    nothing.content = None;
    assert_eq!(
        code(&build(&settings, nothing).unwrap_err()),
        "NOT_A_DOCUMENT"
    );
}

#[tokio::test]
async fn configurations_that_cannot_work_are_refused() {
    for (more, option) in [
        (serde_json::json!({ "pin": "4711" }), "pin: "),
        (serde_json::json!({ "pin_header": "X-PIN" }), "pin: "),
        (
            serde_json::json!({ "pin": "1\r\n2", "pin_header": "X-PIN" }),
            "pin: ",
        ),
        (serde_json::json!({ "to": "{number}" }), "to: "),
        (serde_json::json!({ "from": "nobody" }), "from: "),
        (serde_json::json!({ "host": "fax.example.org" }), "tls: "),
        (serde_json::json!({ "username": "u" }), "username: "),
    ] {
        let mut config = serde_json::json!({
            "host": "localhost", "tls": "none", "from": "fax@stadtwerk.example",
            "to": "{number}@fax.example.org",
        });
        config
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let config: GatewayConfig = serde_json::from_value(config).unwrap();
        match config.resolve().await {
            Err(anklang_plugin_sdk::OpenError::Invalid(reason)) => {
                assert!(reason.starts_with(option), "{reason}");
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{option} was accepted"),
        }
    }
}
