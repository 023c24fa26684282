use anklang_plugin_sdk::outcome::Kind;
use anklang_plugin_sdk::{Attachment, Content, Header};
use serde_json::json;

use super::*;

const ID: &str = "0197a2b4-7c1e-7d00-8000-00000000abcd";
const STYLE: Style = Style {
    sandbox: false,
    track_opens: Some(false),
    track_clicks: None,
};

fn message(content: MailContent) -> Message {
    let party = |address: &str, name: &str| {
        Some(Party {
            address: address.to_owned(),
            name: name.to_owned(),
        })
    };
    Message {
        message_id: ID.to_owned(),
        attempt: 1,
        recipient: party("erika@müller.example", "Erika Müßig"),
        sender: party("angebote@stadtwerk.example", ""),
        reply_to: "service@stadtwerk.example".to_owned(),
        content: Some(Content::Mail(content)),
    }
}

fn content() -> MailContent {
    MailContent {
        subject: "Ihr Angebot".to_owned(),
        text: "Guten Tag".to_owned(),
        html: "<p>Guten Tag</p>".to_owned(),
        ..MailContent::default()
    }
}

fn template(id: &str, variables: &str) -> MailContent {
    MailContent {
        provider_template: Some(ProviderTemplate {
            id: id.to_owned(),
            variables_json: variables.to_owned(),
        }),
        ..content()
    }
}

fn json_of(content: MailContent) -> Value {
    let message = message(content);
    let letter = Letter::new(&message, &STYLE).ok().unwrap();
    serde_json::from_str(&letter.json()).unwrap()
}

fn code(content: MailContent) -> String {
    match Letter::new(&message(content), &STYLE).err().unwrap().kind {
        Some(Kind::Permanent(p)) => p.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_with_all_it_may_have() {
    let full = MailContent {
        attachments: vec![Attachment {
            filename: "Angebot.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            content: b"%PDF".to_vec(),
        }],
        headers: vec![Header {
            name: "List-Unsubscribe".to_owned(),
            value: "<https://anklang.example/u>".to_owned(),
        }],
        ..content()
    };
    let expected = json!({
        "From": { "Email": "angebote@stadtwerk.example" },
        "To": [{ "Email": "erika@xn--mller-kva.example", "Name": "Erika Müßig" }],
        "ReplyTo": { "Email": "service@stadtwerk.example" },
        "Subject": "Ihr Angebot",
        "TextPart": "Guten Tag",
        "HTMLPart": "<p>Guten Tag</p>",
        "Attachments": [{
            "ContentType": "application/pdf", "Filename": "Angebot.pdf", "Base64Content": "JVBERg==",
        }],
        "Headers": { "List-Unsubscribe": "<https://anklang.example/u>" },
        "TrackOpens": "disabled",
        "CustomID": ID,
    });
    assert_eq!(json_of(full), expected);
}

#[test]
fn a_template_stands_instead_of_text_and_html() {
    let made = json_of(template("1234567", "{\"vorname\":\"Erika\",\"tage\":238}"));
    assert_eq!(made["TemplateID"], 1_234_567);
    assert_eq!(made["TemplateLanguage"], true);
    assert_eq!(
        made["Variables"],
        json!({ "vorname": "Erika", "tage": 238 })
    );
    for absent in ["TextPart", "HTMLPart", "TrackOpens"] {
        assert!(made.get(absent).is_none(), "{absent}");
    }
    assert!(json_of(template("1", "")).get("Variables").is_none());
    for id in ["", "abc", "0", "-1", "1.5"] {
        assert_eq!(code(template(id, "{}")), "TEMPLATE_ID_INVALID", "{id}");
    }
    for variables in ["[]", "{", "\"x\"", "1"] {
        assert_eq!(
            code(template("1", variables)),
            "VARIABLES_INVALID",
            "{variables}"
        );
    }
}

#[test]
fn what_mailjet_would_refuse_is_not_sent() {
    let empty = MailContent {
        text: String::new(),
        html: String::new(),
        ..content()
    };
    assert_eq!(code(empty), "EMPTY");
    for name in [
        "List-Id",
        "X-MJ-CustomID",
        "x-mailjet-prio",
        "User-Agent",
        "Bcc",
        "Reply-To",
    ] {
        let header = Header {
            name: name.to_owned(),
            value: "x".to_owned(),
        };
        let content = MailContent {
            headers: vec![header],
            ..content()
        };
        assert_eq!(code(content), "HEADER_NOT_ALLOWED", "{name}");
    }
    let attachment = |filename: &str, bytes: usize| MailContent {
        attachments: vec![Attachment {
            filename: filename.to_owned(),
            media_type: "application/pdf".to_owned(),
            content: vec![0; bytes],
        }],
        ..content()
    };
    assert_eq!(code(attachment("a.pdf", ATTACHMENTS + 1)), "TOO_LARGE");
    assert_eq!(code(attachment("a.pdf", 0)), "ATTACHMENT_EMPTY");
    assert_eq!(code(attachment(" ", 1)), "ATTACHMENT_EMPTY");
}

#[test]
fn a_call_holds_its_messages() {
    let calls = [
        (false, "{\"Messages\":[1,2]}"),
        (true, "{\"Messages\":[1,2],\"SandboxMode\":true}"),
    ];
    for (sandbox, expected) in calls {
        assert_eq!(
            payload(["1", "2"].into_iter(), sandbox),
            expected.as_bytes()
        );
    }
}
