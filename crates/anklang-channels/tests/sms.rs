//! The SMS plugin, loaded as a library, against a real short message centre.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/relay.rs"]
mod relay;
#[path = "support/sms.rs"]
mod sms;
#[path = "support/smsc.rs"]
mod smsc;
#[expect(dead_code, reason = "its certificate alone is of use here")]
#[path = "support/smtp_peer.rs"]
mod smtp_peer;

use std::time::{Duration, Instant};

use anklang_channels::proto::delivery_event::State;
use anklang_channels::proto::{CallbackRequest, Party, health_reply};
use anklang_channels::{Instance, OpenError, PluginEvent};
use relay::Relay;
use serde_json::{Value, json};
use sms::{accepted, delivery, inbound, next, one, open, plugin, send, shown, sms};
use smsc::{PATIENCE, Smsc};
use smtp_peer::certificate;

/// Nothing special happens to messages to this number.
const NUMBER: &str = "+491711234501";

fn config(port: u16) -> Value {
    json!({
        "type": "smpp", "host": "127.0.0.1", "port": port, "tls": "none",
        "system_id": "anklang", "password": "s3cret",
        "response_timeout_seconds": 60, "throttled_seconds": 1,
    })
}

/// The configuration with other values.
fn with(port: u16, changes: Value) -> Value {
    let mut config = config(port);
    let changes = changes.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(changes);
    config
}

/// Sends a text until it is taken: the account may rest, or its session be about to come back.
async fn until_taken(instance: &Instance, to: &str, text: &str) {
    let begun = Instant::now();
    loop {
        let outcome = shown(&one(instance, to, text).await);
        if outcome.starts_with("accepted") {
            return;
        }
        let comes_again = outcome == "throttled account" || outcome == "transient CONNECT";
        assert!(comes_again && begun.elapsed() < PATIENCE, "{outcome}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_message_arrives_and_its_receipt_is_answered_when_it_is_committed() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&config(smsc.port())).await;
    let mut events = instance.events().unwrap();
    let message = sms(NUMBER, "Grüße [€] aus Lindenau");
    let id = message.message_id.clone();
    let outcomes = send(&instance, vec![message]).await;
    let taken = accepted(&outcomes[0]);
    assert_eq!(
        (taken.provider_message_id.as_str(), taken.parts),
        ("m-4096", 1)
    );
    assert!(taken.accepted_at.is_some());

    let submit = smsc.until("submit", 1).await.remove(0);
    assert_eq!(submit["text"], "Grüße [€] aus Lindenau");
    assert_eq!(
        (&submit["from"], &submit["from_ton"]),
        (&json!("Stadtwerk"), &json!(5))
    );
    assert_eq!(
        (&submit["to"], &submit["to_ton"]),
        (&json!("491711234501"), &json!(1))
    );
    assert_eq!(
        (&submit["esm_class"], &submit["data_coding"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        (&submit["registered"], &submit["validity"]),
        (&json!(1), &json!(false))
    );

    let event = delivery(&mut events).await;
    assert_eq!(
        (event.state(), event.code.as_str()),
        (State::Delivered, "DELIVRD")
    );
    assert_eq!(
        (event.message_id, event.provider_message_id.as_str()),
        (id, "m-4096")
    );
    assert!(event.occurred_at.is_some() && event.event_id > 0);
    // The centre hears of nothing before the host has committed: it answers later requests first.
    until_taken(&instance, NUMBER, "zweite").await;
    assert_eq!(smsc.told("delivered").await, Vec::<Value>::new());
    instance
        .acknowledge(vec![event.event_id, 999])
        .await
        .unwrap();
    let told = smsc.until("delivered", 1).await;
    assert_eq!(
        (&told[0]["status"], &told[0]["receipt"]),
        (&json!(0), &json!(true))
    );

    instance.drain(Duration::from_secs(5)).await.unwrap();
    smsc.until("unbind", 1).await;
    smsc.until("closed", 1).await;
}

#[tokio::test]
async fn receipts_are_understood_however_the_centre_writes_them() {
    for receipts in ["text", "parameters", "hexadecimal"] {
        let Some(smsc) = Smsc::start_with(&json!({ "receipts": receipts })) else {
            return;
        };
        let mut config = config(smsc.port());
        if receipts == "hexadecimal" {
            config["message_ids"] = "hex_in_responses".into();
        }
        let instance = open(&config).await;
        let mut events = instance.events().unwrap();
        for (to, state, code) in [
            (NUMBER, State::Delivered, "DELIVRD"),
            ("+491711234599", State::Failed, "UNDELIV"),
        ] {
            let outcome = one(&instance, to, "Hallo").await;
            let event = delivery(&mut events).await;
            assert_eq!(event.state(), state, "{receipts}");
            assert!(event.code.starts_with(code), "{receipts}: {}", event.code);
            assert_eq!(
                event.provider_message_id,
                accepted(&outcome).provider_message_id
            );
        }
    }
}

#[tokio::test]
async fn a_long_text_is_one_message() {
    let Some(smsc) = Smsc::start() else { return };
    let long = "Ihr Angebot: €".repeat(30);
    for (how, submits) in [("udh", 3), ("sar", 3), ("payload", 1)] {
        let before = smsc.told("submit").await.len();
        let instance = open(&with(smsc.port(), json!({ "long_messages": how }))).await;
        let mut events = instance.events().unwrap();
        let outcome = one(&instance, NUMBER, &long).await;
        assert_eq!(accepted(&outcome).parts, 3, "{how}");
        let told = smsc
            .until("submit", before + submits)
            .await
            .split_off(before);
        let texts = told.iter().map(|submit| submit["text"].as_str().unwrap());
        assert_eq!(texts.collect::<String>(), long, "{how}");
        let references: Vec<_> = told
            .iter()
            .map(|submit| match how {
                "udh" => submit["udh"].as_str().unwrap()[..8].to_owned(),
                _ => submit["reference"].to_string(),
            })
            .collect();
        assert!(
            references
                .iter()
                .all(|reference| *reference == references[0])
        );
        assert_eq!(told[0]["payload"], how == "payload");
        // One event for all receipts, under the id of the first.
        let event = delivery(&mut events).await;
        assert_eq!(event.state(), State::Delivered);
        assert_eq!(
            event.provider_message_id,
            accepted(&outcome).provider_message_id
        );
        let answered = smsc.told("delivered").await.len();
        instance.acknowledge(vec![event.event_id]).await.unwrap();
        smsc.until("delivered", answered + 1).await;
        assert!(events.deliveries.try_recv().is_err(), "{how}");
        instance.drain(Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test]
async fn texts_that_are_too_long_or_no_use_are_refused_before_anything_is_sent() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&with(smsc.port(), json!({ "max_segments": 2 }))).await;
    let mut nobody = sms(NUMBER, "Hallo");
    nobody.recipient = None;
    let mut other = sms(NUMBER, "Hallo");
    other.sender = Some(Party {
        address: "Stadtwerke Lindenau".to_owned(),
        name: String::new(),
    });
    let messages = vec![
        sms(NUMBER, &"a".repeat(307)),
        sms(NUMBER, ""),
        sms("01711234501", "Hallo"),
        nobody,
        other,
        sms(NUMBER, &"a".repeat(306)),
    ];
    let outcomes = send(&instance, messages).await;
    let outcomes: Vec<_> = outcomes.iter().map(shown).collect();
    assert_eq!(
        outcomes,
        [
            "REASON_CONTENT TOO_LONG",
            "REASON_CONTENT EMPTY",
            "REASON_RECIPIENT ADDRESS_INVALID",
            "REASON_RECIPIENT ADDRESS_INVALID",
            "REASON_CONFIG SENDER_INVALID",
            "accepted 2",
        ]
    );
    assert_eq!(smsc.told("submit").await.len(), 2);
}

#[tokio::test]
async fn alphabets_are_chosen_by_the_text() {
    let Some(smsc) = Smsc::start() else { return };
    let plain = open(&config(smsc.port())).await;
    let similar = open(&with(smsc.port(), json!({ "transliterate": true }))).await;
    for (instance, coding, arrives) in [
        (&plain, 8, "„Schöne Grüße“ 🎉"),
        (&similar, 8, "„Schöne Grüße“ 🎉"),
    ] {
        let before = smsc.told("submit").await.len();
        assert_eq!(
            shown(&one(instance, NUMBER, "„Schöne Grüße“ 🎉").await),
            "accepted 1"
        );
        let submit = smsc.until("submit", before + 1).await.remove(before);
        assert_eq!(
            (&submit["text"], &submit["data_coding"]),
            (&json!(arrives), &json!(coding))
        );
    }
    let before = smsc.told("submit").await.len();
    one(&similar, NUMBER, "„Schöne Grüße“ – Ihr Café").await;
    let submit = smsc.until("submit", before + 1).await.remove(before);
    assert_eq!(submit["text"], "\"Schöne Grüße\" - Ihr Café");
    assert_eq!(submit["data_coding"], 0);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&config(smsc.port())).await;
    let refused = one(&instance, "+491711234511", "Hallo").await;
    assert_eq!(shown(&refused), "REASON_RECIPIENT ESME_RINVDSTADR");
    let impatient = open(&with(smsc.port(), json!({ "response_timeout_seconds": 5 }))).await;
    let silent = one(&impatient, "+491711234566", "Hallo").await;
    assert_eq!(shown(&silent), "ambiguous: no answer within 5s");
    assert_eq!(shown(&one(&instance, NUMBER, "Hallo").await), "accepted 1");
}

#[tokio::test]
async fn an_account_that_is_too_fast_rests() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&with(smsc.port(), json!({ "throttled_seconds": 300 }))).await;
    assert_eq!(
        shown(&one(&instance, "+491711234588", "Hallo").await),
        "throttled account"
    );
    // Nothing else goes out meanwhile.
    assert_eq!(
        shown(&one(&instance, NUMBER, "Hallo").await),
        "throttled account"
    );
    assert_eq!(smsc.told("submit").await.len(), 1);

    let instance = open(&config(smsc.port())).await;
    until_taken(&instance, "+491711234500", "Hallo").await;
    // Who is always too fast is to blame itself, and does not hold the others up; whose attempts never reached the
    // centre, as the account was resting, is not.
    let told = smsc.told("submit").await.len();
    let mut last = sms("+491711234588", "Hallo");
    let begun = Instant::now();
    let outcome = loop {
        last.attempt += 1;
        let outcome = shown(&send(&instance, vec![last.clone()]).await.remove(0));
        if outcome != "throttled account" {
            break outcome;
        }
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(outcome, "transient ESME_RTHROTTLED");
    assert_eq!(smsc.told("submit").await.len() - told, 5);
    assert!(last.attempt > 5, "it never rested");
    assert_eq!(shown(&one(&instance, NUMBER, "Hallo").await), "accepted 1");
}

#[tokio::test]
async fn a_text_that_has_begun_is_finished_or_ambiguous() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&config(smsc.port())).await;
    let long = "a".repeat(400);
    // The second segment is refused once because the queue is full: it goes out again.
    assert_eq!(
        shown(&one(&instance, "+491711234522", &long).await),
        "accepted 3"
    );
    assert_eq!(smsc.told("submit").await.len(), 4);
    // Refused for good, two thirds of nothing are left.
    let outcome = one(&instance, "+491711234577", &long).await;
    assert_eq!(
        shown(&outcome),
        "ambiguous: the first 1 segments were taken, then: ESME_RSUBMITFAIL"
    );
    assert_eq!(smsc.told("submit").await.len(), 6);
}

#[tokio::test]
async fn a_lost_connection_makes_what_was_sent_ambiguous_and_comes_back() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&config(smsc.port())).await;
    let dropped = one(&instance, "+491711234555", "Hallo").await;
    assert!(
        shown(&dropped).starts_with("ambiguous: "),
        "{}",
        shown(&dropped)
    );
    until_taken(&instance, NUMBER, "Hallo").await;
    assert_eq!(smsc.told("bind").await.len(), 2);
    // Never sent again by itself.
    let sent = smsc.told("submit").await;
    assert_eq!(sent.iter().filter(|s| s["to"] == "491711234555").count(), 1);
    // Ended after the answer: taken, and nothing is in doubt.
    let outcome = one(&instance, "+491711234544", "Hallo").await;
    assert_eq!(shown(&outcome), "accepted 1");
    until_taken(&instance, NUMBER, "Hallo").await;
}

#[tokio::test]
async fn receipts_that_were_not_committed_come_again_with_the_next_session() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&config(smsc.port())).await;
    let mut events = instance.events().unwrap();
    one(&instance, NUMBER, "Hallo").await;
    let first = delivery(&mut events).await;
    // The host is about to commit, and the connection ends.
    one(&instance, "+491711234555", "Hallo").await;
    let again = delivery(&mut events).await;
    assert_eq!(again.provider_message_id, first.provider_message_id);
    assert_ne!(again.event_id, first.event_id);
    // The old number is of no use any more, and does no harm.
    let both = vec![first.event_id, again.event_id];
    instance.acknowledge(both).await.unwrap();
    assert_eq!(smsc.until("delivered", 1).await.len(), 1);
}

#[tokio::test]
async fn answers_of_people_come_in() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&with(smsc.port(), json!({ "receipts": false }))).await;
    let mut events = instance.events().unwrap();
    for (text, arrives) in [
        ("ECHO", "Ja[ä€]"),
        ("ECHO UNICODE", "Спасибо 🎉"),
        ("ECHO LATIN", "Grüße"),
        ("ECHO LONG", "Erster, zweiter, dritter Teil"),
    ] {
        let answered = smsc.told("delivered").await.len();
        assert_eq!(shown(&one(&instance, NUMBER, text).await), "accepted 1");
        let event = inbound(&mut events).await;
        assert_eq!(event.text, arrives);
        assert_eq!(event.sender.unwrap().address, NUMBER);
        assert_eq!(event.recipient.unwrap().address, "Stadtwerk");
        instance.acknowledge(vec![event.event_id]).await.unwrap();
        let segments = if text == "ECHO LONG" { 3 } else { 1 };
        smsc.until("delivered", answered + segments).await;
    }
    assert_eq!(smsc.told("submit").await[0]["registered"], 0);
    // A segment whose others do not come is answered after a while, so that they can.
    let answered = smsc.told("delivered").await.len();
    one(&instance, NUMBER, "ECHO LONELY").await;
    smsc.until("delivered", answered + 1).await;
    assert!(events.deliveries.try_recv().is_err());
}

#[tokio::test]
async fn a_host_that_is_busy_loses_nothing() {
    let Some(smsc) = Smsc::start() else { return };
    let options = anklang_channels::InstanceOptions {
        event_capacity: 1,
        ..Default::default()
    };
    let instance = plugin()
        .open_with(&config(smsc.port()), options)
        .await
        .unwrap();
    let mut events = instance.events().unwrap();
    let messages = (0..50).map(|_| sms(NUMBER, "Hallo")).collect();
    let outcomes = send(&instance, messages).await;
    let mut ids: Vec<_> = outcomes
        .iter()
        .map(|outcome| accepted(outcome).provider_message_id.clone())
        .collect();
    let mut told = Vec::new();
    for _ in 0..50 {
        let event = delivery(&mut events).await;
        instance.acknowledge(vec![event.event_id]).await.unwrap();
        told.push(event.provider_message_id);
    }
    ids.sort();
    told.sort();
    assert_eq!(told, ids);
}

#[tokio::test]
async fn the_window_is_kept() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&with(
        smsc.port(),
        json!({ "window": 5, "receipts": false }),
    ))
    .await;
    let messages = (0..20).map(|_| sms("+491711234533", "Hallo")).collect();
    let outcomes = send(&instance, messages).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| shown(outcome) == "accepted 1")
    );
    let most = smsc.told("submit").await;
    let most = most
        .iter()
        .map(|submit| submit["outstanding"].as_u64().unwrap())
        .max();
    assert_eq!(most, Some(5));
}

#[tokio::test]
async fn messages_that_are_not_begun_in_time_come_again() {
    let Some(smsc) = Smsc::start() else { return };
    // No answer ever: the first one holds the only place for longer than the others wait.
    let changes = json!({ "window": 1, "begin_within_seconds": 1, "response_timeout_seconds": 10 });
    let instance = open(&with(smsc.port(), changes)).await;
    let messages = (0..2).map(|_| sms("+491711234566", "Hallo")).collect();
    let outcomes = send(&instance, messages).await;
    assert_eq!(shown(&outcomes[0]), "ambiguous: no answer within 10s");
    assert_eq!(shown(&outcomes[1]), "throttled the message centre is slow");
    assert_eq!(smsc.told("submit").await.len(), 1);
}

#[tokio::test]
async fn a_centre_that_falls_silent_is_given_up() {
    let Some(smsc) = Smsc::start() else { return };
    let relay = Relay::start(smsc.port(), None).await;
    let changes = json!({ "enquire_link_seconds": 1, "response_timeout_seconds": 5 });
    let instance = open(&with(relay.port(), changes)).await;
    assert_eq!(shown(&one(&instance, NUMBER, "Hallo").await), "accepted 1");
    smsc.until("enquire_link", 2).await;
    relay.fall_silent(true);
    let begun = Instant::now();
    while instance.health().await.unwrap().status() == health_reply::Status::Serving {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let outcome = shown(&one(&instance, NUMBER, "Hallo").await);
    assert_eq!(outcome, "transient CONNECT");
    relay.fall_silent(false);
    until_taken(&instance, NUMBER, "Hallo").await;
}

#[tokio::test]
async fn without_a_centre_everything_is_transient() {
    let Some(smsc) = Smsc::start() else { return };
    let port = smsc.port();
    drop(smsc);
    let instance = open(&config(port)).await;
    let messages = vec![sms(NUMBER, "Hallo"), sms("nobody", "Hallo")];
    let outcomes = send(&instance, messages).await;
    assert_eq!(shown(&outcomes[0]), "transient CONNECT");
    assert_eq!(shown(&outcomes[1]), "REASON_RECIPIENT ADDRESS_INVALID");
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
    instance.drain(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_wrong_password_burns_nobody() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&with(smsc.port(), json!({ "password": "wrong" }))).await;
    assert_eq!(
        shown(&one(&instance, NUMBER, "Hallo").await),
        "transient CONFIG"
    );
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
    assert!(
        health.detail.contains("ESME_RINVPASWD"),
        "{}",
        health.detail
    );
    assert!(!health.detail.contains("wrong"));
    // A centre that never answers the bind.
    let silent = Smsc::start_with(&json!({ "greeting": false })).unwrap();
    let instance = open(&with(
        silent.port(),
        json!({ "response_timeout_seconds": 2 }),
    ))
    .await;
    assert_eq!(
        shown(&one(&instance, NUMBER, "Hallo").await),
        "transient CONNECT"
    );
}

#[tokio::test]
async fn sending_and_receiving_can_have_a_session_each() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&with(
        smsc.port(),
        json!({ "bind": "separate", "system_type": "out" }),
    ))
    .await;
    let mut events = instance.events().unwrap();
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::Serving);
    one(&instance, NUMBER, "Hallo").await;
    assert_eq!(delivery(&mut events).await.state(), State::Delivered);
    let mut sorts: Vec<_> = smsc
        .told("bind")
        .await
        .iter()
        .map(|bind| (bind["sort"].to_string(), bind["system_type"].to_string()))
        .collect();
    sorts.sort();
    let expected = ["\"bind_receiver\"", "\"bind_transmitter\""];
    assert_eq!(
        sorts,
        expected.map(|sort| (sort.to_owned(), "\"out\"".to_owned()))
    );
    instance.drain(Duration::from_secs(5)).await.unwrap();
    smsc.until("unbind", 2).await;

    let instance = open(&with(smsc.port(), json!({ "bind": "transmitter" }))).await;
    assert_eq!(shown(&one(&instance, NUMBER, "Hallo").await), "accepted 1");
    assert_eq!(
        smsc.told("bind").await.last().unwrap()["sort"],
        "bind_transmitter"
    );
}

#[tokio::test]
async fn an_instance_that_is_dropped_leaves_no_session() {
    let Some(smsc) = Smsc::start() else { return };
    let instance = open(&config(smsc.port())).await;
    assert_eq!(shown(&one(&instance, NUMBER, "Hallo").await), "accepted 1");
    drop(instance);
    smsc.until("closed", 1).await;
}

#[tokio::test]
async fn tls_is_used_and_its_certificate_is_checked() {
    let Some(smsc) = Smsc::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    let (acceptor, pem) = certificate();
    std::fs::write(&authority, pem).unwrap();
    let relay = Relay::start(smsc.port(), Some(acceptor)).await;
    let changes = json!({ "host": "localhost", "tls": "implicit", "ca_file": authority });
    let trusting = open(&with(relay.port(), changes.clone())).await;
    let mut events = trusting.events().unwrap();
    assert_eq!(shown(&one(&trusting, NUMBER, "Hallo").await), "accepted 1");
    assert!(matches!(next(&mut events).await, PluginEvent::Delivery(_)));

    // The name must fit, and the authority be known.
    let mut other_name = changes.clone();
    other_name["host"] = "127.0.0.1".into();
    let mut unknown = changes;
    unknown.as_object_mut().unwrap().remove("ca_file");
    for refusing in [other_name, unknown] {
        let instance = open(&with(relay.port(), refusing)).await;
        assert_eq!(
            shown(&one(&instance, NUMBER, "Hallo").await),
            "transient CONFIG"
        );
    }
    assert_eq!(smsc.told("submit").await.len(), 1);
}

#[tokio::test]
async fn configurations_are_checked() {
    let plugin = plugin();
    assert_eq!(
        (
            plugin.manifest().channel.as_str(),
            plugin.manifest().id.as_str()
        ),
        ("sms", "sms")
    );
    for wrong in [
        json!({}),
        json!({ "type": "fax" }),
        json!({ "type": "smpp", "host": "h" }),
        with(1, json!({ "window": 0 })),
        with(1, json!({ "pasword": "x" })),
        json!({ "type": "gateway", "url": "https://h/", "system_id": "u", "username": "u" }),
    ] {
        assert!(plugin.check_config(&wrong).is_err(), "{wrong}");
    }
    let right = config(1);
    assert_eq!(plugin.check_config(&right), Ok(()));
    assert_eq!(plugin.redacted(&right)["password"], "********");
    assert_eq!(plugin.redacted(&right)["system_id"], "anklang");
    match plugin
        .open(&with(1, json!({ "host": "smsc.example.org" })))
        .await
    {
        Err(OpenError::Refused(reason)) => assert!(reason.starts_with("tls: "), "{reason}"),
        other => panic!("{other:?}"),
    }
    // Nobody calls an account at a message centre.
    let instance = plugin.open(&right).await.unwrap();
    let reply = instance.callback(CallbackRequest::default()).await.unwrap();
    assert_eq!(reply.http_status, 404);
}
