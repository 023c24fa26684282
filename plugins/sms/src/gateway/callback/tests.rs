use anklang_plugin_sdk::Header;
use proptest::prelude::*;

use super::*;
use crate::gateway::config::GatewayConfig;

const TOKEN: &str = "0123456789abcdef";

fn settings(change: &str) -> Settings {
    let json = format!(
        r#"{{"username": "u", "password": "p", "url": "https://gateway.example.org/sms" {change}}}"#
    );
    let config: GatewayConfig = serde_json::from_str(&json).expect("a configuration");
    futures::executor::block_on(async { config.resolve().await.ok() }).expect("works")
}

fn with_token() -> Settings {
    settings(&format!(r#", "callback_token": "{TOKEN}""#))
}

fn get(query: &str) -> CallbackRequest {
    CallbackRequest {
        method: "GET".to_owned(),
        uri: format!("/callbacks/sms?{query}"),
        ..CallbackRequest::default()
    }
}

fn header(name: &str, value: &str) -> Header {
    Header {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn the_message_s_id_comes_back() {
    let url = report_url("https://a.example/cb", &TOKEN.into(), "0199-ab&c=%d");
    let expected =
        format!("https://a.example/cb?token={TOKEN}&message=0199-abcd&status=%d&at=%T&reply=%A");
    assert_eq!(url, expected);
    let query = url.split_once('?').expect("a query").1;
    let query = query
        .replace("%d", "2")
        .replace("%T", "1700000000")
        .replace("%A", "id%3A1+stat%3AUNDELIV+err%3A011+text%3AIhr+Angebot");
    let reply = translated(&with_token(), &get(&query));
    assert_eq!(reply.http_status, 200);
    let event = &reply.deliveries[0];
    assert_eq!(
        (event.message_id.as_str(), event.state()),
        ("0199-abcd", State::Failed)
    );
    assert_eq!((event.code.as_str(), event.event_id), ("UNDELIV 011", 0));
    assert_eq!(event.occurred_at.map(|at| at.seconds), Some(1_700_000_000));
}

#[test]
fn states_of_reports() {
    for (number, state) in [
        (1, Some(State::Delivered)),
        (2, Some(State::Failed)),
        (4, None),
        (8, None),
        (16, Some(State::Failed)),
    ] {
        let reply = translated(
            &with_token(),
            &get(&format!("token={TOKEN}&message=1&status={number}")),
        );
        assert_eq!(reply.http_status, 200);
        assert_eq!(reply.deliveries.first().map(|event| event.state()), state);
    }
}

#[test]
fn only_the_gateway_is_heard() {
    let report = "message=1&status=1";
    let by_header = |name: &str, value: &str| {
        let mut request = get(report);
        request.headers.push(header(name, value));
        request
    };
    let settings = with_token();
    let answer = |request: &CallbackRequest| translated(&settings, request).http_status;
    assert_eq!(answer(&get(&format!("{report}&token={TOKEN}"))), 200);
    assert_eq!(answer(&by_header("X-Anklang-Token", TOKEN)), 200);
    for wrong in [
        "",
        "0123456789abcdeg",
        "0123456789abcde",
        "0123456789abcdef0",
    ] {
        assert_eq!(
            answer(&get(&format!("{report}&token={wrong}"))),
            401,
            "{wrong}"
        );
        assert_eq!(answer(&by_header("x-anklang-token", wrong)), 401, "{wrong}");
    }
    assert_eq!(answer(&get(report)), 401);
    let mut put = get(&format!("{report}&token={TOKEN}"));
    put.method = "PUT".to_owned();
    assert_eq!(answer(&put), 405);
    let without = super::super::config::Settings {
        callback_token: None,
        ..with_token()
    };
    assert_eq!(
        translated(&without, &get(&format!("{report}&token="))).http_status,
        401
    );
}

#[test]
fn requests_without_sense_are_refused() {
    let settings = with_token();
    for query in [
        "",
        "status=1",
        "status=x&message=1",
        "status=1&message=a%20b",
        "from=&text=a",
        "from=1",
    ] {
        let reply = translated(&settings, &get(&format!("token={TOKEN}&{query}")));
        assert_eq!(reply.http_status, 400, "{query}");
        assert!(reply.deliveries.is_empty() && reply.inbound.is_empty());
    }
}

fn received(query: &str) -> InboundEvent {
    let reply = translated(&with_token(), &get(&format!("token={TOKEN}&{query}")));
    assert_eq!(reply.http_status, 200);
    reply.inbound[0].clone()
}

#[test]
fn messages_come_in() {
    let event = received(
        "from=%2B491711234567&to=80888&text=Ja+gerne%21+%C3%BC&charset=UTF-8&id=7&at=1700000000",
    );
    let address = |party: Option<Party>| party.map(|party| party.address);
    assert_eq!(address(event.sender).as_deref(), Some("+491711234567"));
    assert_eq!(address(event.recipient).as_deref(), Some("80888"));
    assert_eq!(
        (event.text.as_str(), event.provider_message_id.as_str()),
        ("Ja gerne! ü", "7")
    );
    assert_eq!(event.received_at.map(|at| at.seconds), Some(1_700_000_000));
    assert_eq!(
        received("from=1&text=%04%1F%D8%3C%DF%89&charset=UTF-16BE").text,
        "П🎉"
    );
    assert_eq!(received("from=1&text=G%FC&charset=ISO-8859-1").text, "Gü");
    assert_eq!(received("from=1&text=%01%02&charset=8-BIT").text, "");
    // What a sender writes cannot become a parameter of ours.
    assert_eq!(
        received("from=1&text=a%26status%3D1&text=b").text,
        "a&status=1"
    );
}

#[test]
fn forms_are_read_as_well() {
    let request = CallbackRequest {
        method: "POST".to_owned(),
        uri: format!("/callbacks/sms?token={TOKEN}"),
        headers: vec![header(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )],
        body: b"from=1&text=Stopp".to_vec(),
    };
    assert_eq!(translated(&with_token(), &request).inbound[0].text, "Stopp");
}

proptest! {
    #[test]
    fn nothing_that_comes_does_harm(uri in "\\PC{0,200}", body in prop::collection::vec(any::<u8>(), 0..200)) {
        let request = CallbackRequest {
            method: "POST".to_owned(),
            uri: format!("{uri}?token={TOKEN}&{uri}"),
            headers: vec![header("content-type", "application/x-www-form-urlencoded")],
            body,
        };
        translated(&with_token(), &request);
    }
}
