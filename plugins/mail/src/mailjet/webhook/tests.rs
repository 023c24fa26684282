use anklang_plugin_sdk::Header;
use serde_json::json;

use super::*;

const ID: &str = "0197a2b4-7c1e-7d00-8000-00000000abcd";

fn settings(basic: Option<&str>, token: Option<&str>) -> WebhookSettings {
    WebhookSettings {
        basic: basic.map(|text| text.into()),
        token: token.map(|text| text.into()),
    }
}

fn request(uri: &str, credentials: Option<&str>, body: &Value) -> CallbackRequest {
    let header = credentials.map(|text| Header {
        name: "AUTHORIZATION".to_owned(),
        value: format!("basic {}", BASE64.encode(text)),
    });
    CallbackRequest {
        method: "POST".to_owned(),
        uri: uri.to_owned(),
        headers: header.into_iter().collect(),
        body: body.to_string().into_bytes(),
    }
}

#[test]
fn what_is_configured_is_demanded() {
    let body = json!([]);
    let basic = settings(Some("anklang:geheim"), None);
    let token = settings(None, Some("ge&heim"));
    let both = settings(Some("anklang:geheim"), Some("t"));
    let cases = [
        (&basic, "/hook", Some("anklang:geheim"), 200),
        (&basic, "/hook", Some("anklang:geheim "), 401),
        (&basic, "/hook", Some("anklang:"), 401),
        (&basic, "/hook", None, 401),
        (&token, "/hook?a=b&token=ge%26heim", None, 200),
        (&token, "/hook?token=ge&heim", None, 401),
        (&token, "/hook?token=", None, 401),
        (&token, "/hook", None, 401),
        (&both, "/hook?token=t", Some("anklang:geheim"), 200),
        (&both, "/hook?token=t", None, 401),
        (&both, "/hook", Some("anklang:geheim"), 401),
    ];
    for (settings, uri, credentials, status) in cases {
        let request = request(uri, credentials, &body);
        let reply = callback(&request, Some(settings));
        assert_eq!(reply.http_status, status, "{uri} {credentials:?}");
    }
    let anybody = request("/hook", Some("anklang:geheim"), &body);
    assert_eq!(callback(&anybody, None).http_status, 401);
    assert_eq!(
        callback(&anybody, Some(&settings(None, None))).http_status,
        401
    );
}

fn deliveries(body: &Value) -> Vec<DeliveryEvent> {
    let settings = settings(None, Some("t"));
    let reply = callback(&request("/?token=t", None, body), Some(&settings));
    assert_eq!(reply.http_status, 200);
    reply.deliveries
}

/// As documented; properties of one kind go along with all.
fn event(kind: &str, more: &Value) -> Value {
    let mut event = json!({
        "event": kind, "time": 1_433_333_949, "MessageID": 19_421_777_835_146_490_u64,
        "Message_GUID": "1ab23cd4-e567-8901-2345-6789f0gh1i2j", "email": "api@mailjet.com",
        "mj_campaign_id": 7257, "mj_contact_id": 4, "customcampaign": "", "CustomID": ID,
        "Payload": "",
    });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

#[test]
fn events_become_states() {
    let hard = json!({ "blocked": false, "hard_bounce": true, "error_related_to": "recipient",
        "error": "user unknown", "comment": "Host not found" });
    let soft = json!({ "blocked": false, "hard_bounce": false, "error": "quota exceeded" });
    let events = json!([
        event("sent", &json!({ "smtp_reply": "sent (250 2.0.0 OK)" })),
        event(
            "open",
            &json!({ "ip": "127.0.0.1", "geo": "US", "agent": "Mozilla/5.0" })
        ),
        event(
            "click",
            &json!({ "url": "https://stadtwerk.example/a?kunde=4711#x" })
        ),
        event("bounce", &hard),
        event("bounce", &soft),
        event(
            "blocked",
            &json!({ "error_related_to": "recipient", "error": "preblocked" })
        ),
        event("spam", &json!({ "source": "JMRPP" })),
        event("unsub", &json!({ "mj_list_id": 1 })),
        event("parse", &json!({})),
    ]);
    let found = deliveries(&events);
    let said: Vec<_> = found
        .iter()
        .map(|e| (e.state(), &e.code[..], &e.detail[..]))
        .collect();
    let expected = [
        (State::Delivered, "", "sent (250 2.0.0 OK)"),
        (State::Opened, "", ""),
        (State::Clicked, "", "https://stadtwerk.example/a"),
        (State::Bounced, "5.1.1", "user unknown Host not found"),
        (State::Failed, "quota exceeded", ""),
        (State::Failed, "preblocked", ""),
        (State::Complained, "JMRPP", ""),
        (State::Unsubscribed, "", ""),
    ];
    assert_eq!(said, expected);
    for event in &found {
        assert_eq!(event.message_id, ID);
        assert_eq!(
            event.provider_message_id,
            "1ab23cd4-e567-8901-2345-6789f0gh1i2j"
        );
        assert_eq!(event.event_id, 0);
        assert_eq!(
            event.occurred_at.as_ref().map(|at| at.seconds),
            Some(1_433_333_949)
        );
    }
}

#[test]
fn one_event_comes_without_a_list() {
    assert_eq!(deliveries(&event("sent", &json!({}))).len(), 1);
}

#[test]
fn events_of_others_are_told_by_mailjets_name() {
    let foreign = deliveries(&event("sent", &json!({ "CustomID": "helloworld" })));
    assert_eq!(foreign[0].message_id, "");
    assert!(!foreign[0].provider_message_id.is_empty());
    let old = json!({ "CustomID": ID, "Message_GUID": null });
    let old = deliveries(&event("sent", &old));
    assert_eq!(old[0].provider_message_id, "19421777835146490");
    let nobody = json!({ "CustomID": "", "Message_GUID": "", "MessageID": null });
    assert!(deliveries(&event("sent", &nobody)).is_empty());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let settings = settings(None, Some("t"));
    let mut request = request("/?token=t", None, &Value::Null);
    for body in ["", "{", "[{\"event\":1}]", "4711", "[[]]", "{\"time\":1}"] {
        request.body = body.as_bytes().to_vec();
        let reply = callback(&request, Some(&settings));
        assert_eq!(
            (reply.http_status, reply.deliveries.len()),
            (400, 0),
            "{body}"
        );
    }
    request.method = "GET".to_owned();
    assert_eq!(callback(&request, Some(&settings)).http_status, 405);
}
