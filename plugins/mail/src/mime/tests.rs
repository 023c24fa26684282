use anklang_plugin_sdk::ProviderTemplate;
use anklang_plugin_sdk::outcome::Kind;
use mail_parser::{MessageParser, MimeHeaders};

use super::*;

const ID: &str = "0197a2b4-7c1e-7d00-8000-00000000abcd";

fn party(address: &str, name: &str) -> Option<Party> {
    Some(Party {
        address: address.to_owned(),
        name: name.to_owned(),
    })
}

fn message(content: MailContent) -> Message {
    Message {
        message_id: ID.to_owned(),
        attempt: 1,
        recipient: party("erika@example.org", "Erika Müßig"),
        sender: party("angebote@stadtwerk.example", "Stadtwerk Süd, Vertrieb"),
        reply_to: String::new(),
        content: Some(Content::Mail(content)),
    }
}

fn content() -> MailContent {
    MailContent {
        subject: "Ihr Angebot für 2027 – jetzt ansehen".to_owned(),
        text: "Guten Tag Frau Müßig,\n.\nein Punkt allein.\n".to_owned(),
        html: "<p>Guten Tag Frau <b>Müßig</b></p>".to_owned(),
        ..MailContent::default()
    }
}

fn bytes(message: &Message) -> Vec<u8> {
    build(message, &Make::default())
        .expect("can be built")
        .bytes
}

/// Reason and code of a refusal.
fn refusal(message: &Message) -> (Reason, String) {
    match build(message, &Make::default())
        .err()
        .and_then(|outcome| outcome.kind)
    {
        Some(Kind::Permanent(p)) => (p.reason(), p.code),
        other => panic!("{other:?}"),
    }
}

/// The mail's own header lines, unfolded.
fn header_lines(mail: &[u8]) -> Vec<String> {
    let text = String::from_utf8(mail.to_vec()).unwrap();
    let (headers, _) = text.split_once("\r\n\r\n").unwrap();
    let unfolded = headers.replace("\r\n ", " ").replace("\r\n\t", " ");
    unfolded.split("\r\n").map(str::to_owned).collect()
}

#[test]
fn text_and_html_are_alternatives_and_everything_reads_back() {
    let bytes = bytes(&message(content()));
    assert!(bytes.is_ascii());
    let mail = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(mail.subject(), Some("Ihr Angebot für 2027 – jetzt ansehen"));
    assert_eq!(
        mail.message_id(),
        Some(format!("{ID}@stadtwerk.example").as_str())
    );
    let from = mail.from().unwrap().first().unwrap();
    assert_eq!(from.name(), Some("Stadtwerk Süd, Vertrieb"));
    assert_eq!(from.address(), Some("angebote@stadtwerk.example"));
    let to = mail.to().unwrap().first().unwrap();
    assert_eq!(to.name(), Some("Erika Müßig"));
    assert_eq!(to.address(), Some("erika@example.org"));
    assert!(mail.date().is_some());
    let kind = mail.content_type().unwrap();
    assert_eq!(
        (kind.ctype(), kind.subtype()),
        ("multipart", Some("alternative"))
    );
    let text = mail.body_text(0).unwrap();
    assert_eq!(
        text.replace("\r\n", "\n").trim_end(),
        content().text.trim_end()
    );
    assert_eq!(mail.body_html(0).unwrap().trim_end(), content().html);
    assert_eq!(mail.attachment_count(), 0);
}

#[test]
fn attachments_arrive_byte_for_byte() {
    let pdf: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let list = "a\nb\r\nc\n".as_bytes().to_vec();
    let mut content = content();
    content.attachments = vec![
        Attachment {
            filename: "Angebot Müßig.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            content: pdf.clone(),
        },
        Attachment {
            filename: "liste.csv".to_owned(),
            media_type: "text/csv".to_owned(),
            content: list.clone(),
        },
    ];
    let bytes = bytes(&message(content));
    let mail = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(mail.content_type().unwrap().subtype(), Some("mixed"));
    let found: Vec<_> = mail.attachments().collect();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].attachment_name(), Some("Angebot Müßig.pdf"));
    assert_eq!(found[0].contents(), pdf);
    assert_eq!(found[1].contents(), list);
    assert!(mail.body_html(0).unwrap().contains("Müßig"));
}

#[test]
fn a_resend_keeps_its_id_and_one_body_stands_alone() {
    let mut again = message(content());
    again.attempt = 2;
    let (first, second) = (bytes(&message(content())), bytes(&again));
    let id = |mail: &[u8]| {
        let lines = header_lines(mail);
        lines
            .into_iter()
            .find(|l| l.starts_with("Message-ID:"))
            .unwrap()
    };
    assert_eq!(id(&first), id(&second));
    let plain = MailContent {
        html: String::new(),
        ..content()
    };
    let bytes = bytes(&message(plain));
    let mail = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(mail.content_type().unwrap().ctype(), "text");
}

#[test]
fn nothing_becomes_a_header_of_its_own() {
    let mut evil = message(MailContent {
        subject: "Hallo\r\nBcc: opfer@example.net\r\n\r\nInhalt".to_owned(),
        headers: vec![Header {
            name: "X-Note".to_owned(),
            value: "a\r\nX-Evil: 1\n\u{0}b\u{2028}".to_owned(),
        }],
        attachments: vec![Attachment {
            filename: "a\"\r\nX-Evil: 2\r\n.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            content: vec![1],
        }],
        ..content()
    });
    evil.recipient = party("erika@example.org", "Erika\r\nX-Evil: 3\r\n");
    evil.reply_to = "service@stadtwerk.example".to_owned();
    let bytes = bytes(&evil);
    for line in String::from_utf8(bytes.clone()).unwrap().lines() {
        assert!(
            !line.starts_with("X-Evil") && !line.starts_with("Bcc"),
            "{line}"
        );
    }
    let names: Vec<_> = header_lines(&bytes)
        .iter()
        .map(|line| line.split_once(':').unwrap().0.to_owned())
        .collect();
    let expected = [
        "Message-ID",
        "Subject",
        "From",
        "To",
        "Reply-To",
        "X-Note",
        "MIME-Version",
        "Date",
        "Content-Type",
    ];
    assert!(
        names.iter().all(|name| expected.contains(&name.as_str())),
        "{names:?}"
    );
    assert_eq!(names.len(), expected.len());
    let mail = MessageParser::default().parse(&bytes).unwrap();
    assert_eq!(
        mail.subject(),
        Some("Hallo  Bcc: opfer@example.net    Inhalt")
    );
}

#[test]
fn long_headers_survive() {
    let link = format!(
        "<https://anklang.example/abmelden?token={}>",
        "x".repeat(300)
    );
    let mut content = content();
    content.headers = vec![
        Header {
            name: "List-Unsubscribe".to_owned(),
            value: link.clone(),
        },
        Header {
            name: "List-Unsubscribe-Post".to_owned(),
            value: "List-Unsubscribe=One-Click".to_owned(),
        },
    ];
    let bytes = bytes(&message(content));
    assert!(bytes.split(|b| *b == b'\n').all(|line| line.len() <= 998));
    let lines = header_lines(&bytes);
    assert!(
        lines.contains(&format!("List-Unsubscribe: {link}")),
        "{lines:?}"
    );
    assert!(lines.contains(&"List-Unsubscribe-Post: List-Unsubscribe=One-Click".to_owned()));
}

#[test]
fn what_cannot_be_a_mail_is_refused() {
    let with_header = |name: &str, value: &str| {
        let header = Header {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        message(MailContent {
            headers: vec![header],
            ..content()
        })
    };
    for name in [
        "Bcc",
        "FROM",
        "Content-Type",
        "Resent-To",
        "DKIM-Signature",
        "message-id",
    ] {
        assert_eq!(
            refusal(&with_header(name, "x")).1,
            "HEADER_NOT_ALLOWED",
            "{name}"
        );
    }
    for name in ["", "X Y", "X:Y", "X\r\nY", "Ü"] {
        assert_eq!(
            refusal(&with_header(name, "x")).1,
            "HEADER_INVALID",
            "{name:?}"
        );
    }
    assert_eq!(
        refusal(&with_header("X", &"x".repeat(901))).1,
        "HEADER_TOO_LONG"
    );
    let empty = MailContent {
        text: String::new(),
        html: String::new(),
        ..content()
    };
    assert_eq!(refusal(&message(empty)).1, "EMPTY");
    for address in [
        "",
        "erika",
        "erika@",
        "@example.org",
        "e rika@example.org",
        "a@b\r\nDATA",
        "<a@b.example>",
        "a@b.example>\r\nRCPT TO:<c@d.example",
    ] {
        let mut unsendable = message(content());
        unsendable.recipient = party(address, "");
        assert_eq!(
            refusal(&unsendable),
            (Reason::Recipient, "ADDRESS_INVALID".to_owned()),
            "{address}"
        );
        unsendable.recipient = party("erika@example.org", "");
        unsendable.sender = party(address, "");
        assert_eq!(
            refusal(&unsendable),
            (Reason::Config, "SENDER_INVALID".to_owned()),
            "{address}"
        );
    }
    for id in ["", "a b", "a@b", "a>\r\nX: y"] {
        let mut unnamed = message(content());
        unnamed.message_id = id.to_owned();
        assert_eq!(refusal(&unnamed).1, "MESSAGE_ID_INVALID");
    }
    for media_type in ["", "pdf", "multipart/mixed; boundary=x", "Message/rfc822"] {
        let attachment = Attachment {
            filename: "a".to_owned(),
            media_type: media_type.to_owned(),
            content: Vec::new(),
        };
        let wrong = message(MailContent {
            attachments: vec![attachment],
            ..content()
        });
        assert_eq!(refusal(&wrong).1, "MEDIA_TYPE_INVALID", "{media_type}");
    }
    let mut text = message(content());
    text.content = None;
    assert_eq!(refusal(&text).1, "NOT_A_MAIL");
}

#[test]
fn international_domains_travel_in_ascii() {
    let mut international = message(content());
    international.recipient = party("erika@müller.example", "");
    let mail = build(&international, &Make::default()).expect("can be built");
    assert_eq!(
        mail.envelope.to()[0].to_string(),
        "erika@xn--mller-kva.example"
    );
    assert!(!mail.has_non_ascii_addresses());
}

fn make(return_path: &str, unsubscribe: &str) -> Make {
    Make {
        return_path: Tagged::parse_untagged(return_path).ok(),
        unsubscribe: Tagged::parse(unsubscribe).ok(),
        signers: Vec::new(),
    }
}

#[test]
fn bounces_go_to_the_return_path_with_the_id() {
    let make = make("bounces+{id}@stadtwerk.example", "");
    let mail = build(&message(content()), &make).unwrap();
    let from = mail.envelope.from().map(ToString::to_string);
    assert_eq!(from, Some(format!("bounces+{ID}@stadtwerk.example")));
    let lines = header_lines(&mail.bytes);
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("From: ") && l.contains("angebote@"))
    );
    let mut unfit = message(content());
    unfit.message_id = "x".repeat(60);
    let refused = build(&unfit, &make).err().and_then(|outcome| outcome.kind);
    assert!(matches!(refused, Some(Kind::Permanent(p)) if p.code == "MESSAGE_ID_INVALID"));
}

#[test]
fn consent_can_be_withdrawn_by_mail_as_well() {
    let make = make("", "abmelden+{id}@stadtwerk.example");
    let shown = |value: &str| {
        let header = Header {
            name: "List-Unsubscribe".to_owned(),
            value: value.to_owned(),
        };
        let content = MailContent {
            headers: vec![header],
            ..content()
        };
        let bytes = build(&message(content), &make).unwrap().bytes;
        let lines = header_lines(&bytes);
        lines.into_iter().find_map(|line| {
            let value = line.strip_prefix("List-Unsubscribe: ");
            value.map(str::to_owned)
        })
    };
    let link = "<https://anklang.example/u/1>";
    let both = format!("{link}, <mailto:abmelden+{ID}@stadtwerk.example?subject=unsubscribe>");
    assert_eq!(shown(link), Some(both));
    let own = "<mailto:liste@stadtwerk.example>";
    assert_eq!(shown(own).as_deref(), Some(own));
    let long = format!("<https://anklang.example/{}>", "x".repeat(860));
    assert_eq!(shown(&long), Some(long));
    // Mails that offer none are not made to offer one.
    let without = build(&message(content()), &make).unwrap().bytes;
    assert!(
        !header_lines(&without)
            .iter()
            .any(|l| l.starts_with("List-"))
    );
}

#[test]
fn templates_of_providers_are_for_accounts_that_have_such() {
    let content = MailContent {
        provider_template: Some(ProviderTemplate {
            id: "1".to_owned(),
            variables_json: "{}".to_owned(),
        }),
        ..content()
    };
    let expected = (Reason::Config, "NO_PROVIDER_TEMPLATES".to_owned());
    assert_eq!(refusal(&message(content)), expected);
}
