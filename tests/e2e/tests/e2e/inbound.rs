//! What people send: kept once, known by customer and message; and those who ask for no more.

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::inbound::v1::{self as pb, InboundMessage};
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_testkit::Client;
use serde_json::{Value, json};
use tonic::Code;

use crate::mailing::{self, until};
use crate::probe::{self, Probe, Settings, address};
use crate::receiver::Receiver;
use crate::refused;

async fn list(client: &Client, filter: &str) -> Vec<InboundMessage> {
    let request = pb::ListInboundMessagesRequest {
        page_size: 1_000,
        filter: filter.into(),
        order_by: "create_time".into(),
        ..Default::default()
    };
    let listed = client.inbound().list_inbound_messages(request).await;
    listed.unwrap().into_inner().inbound_messages
}

async fn comes(probe: &Probe, messages: Value) {
    let (status, answer) = probe.post(&json!({"inbound": messages})).await;
    assert_eq!(status, 200, "{answer}");
}

async fn consent(client: &Client, customer: usize) -> customers::Consent {
    let request = customers::GetCustomerRequest {
        name: format!("customers/{customer:04}"),
    };
    let found = client.customers().get_customer(request).await.unwrap();
    let consents = found.into_inner().consents;
    consents
        .into_iter()
        .find(|c| c.channel == "testing")
        .unwrap()
}

#[tokio::test]
async fn answers_are_kept_once_and_known_by_customer_and_message() {
    let receiver = Receiver::start().await;
    let settings = Settings {
        config: "[handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
                 poll_milliseconds = 100"
            .into(),
        ..Default::default()
    };
    let probe = Probe::start(3, settings).await;
    let webhook = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "CRM".into(),
            url: receiver.url("/"),
            event_types: vec!["anklang.inbound.received.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    probe
        .client
        .webhooks()
        .create_webhook(webhook)
        .await
        .unwrap();
    let campaign = probe.launch_until("fine", MessageState::Sent).await;
    let id = probe.id(&campaign, 1).await;
    let all = json!([
        // By the address; by the message that it answers, from another address; of nobody.
        {"from": address(0), "to": "us", "text": "Gern!\nWann?", "subject": "Re: Auftrag", "id": "a"},
        {"from": "elsewhere", "to": "us", "text": "Nein danke", "in_reply_to": id, "id": "b"},
        {"from": "stranger", "to": "us", "text": "Hallo"},
    ]);
    for _ in 0..2 {
        comes(&probe, all.clone()).await;
    }
    let found = list(&probe.client, "").await;
    let texts: Vec<&str> = found.iter().map(|m| &m.text[..]).collect();
    let mut sorted = texts.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["Gern!\nWann?", "Hallo", "Nein danke"]);
    let of = |text: &str| found.iter().find(|m| m.text.starts_with(text)).unwrap();
    let first = of("Gern");
    assert_eq!(first.customer, "customers/0000");
    assert_eq!(
        (&first.subject[..], &first.recipient[..]),
        ("Re: Auftrag", "us")
    );
    assert_eq!(first.channel_account, "channelAccounts/probe");
    assert_eq!((&first.in_reply_to[..], first.stop), ("", false));
    let answer = of("Nein");
    assert_eq!(answer.customer, "customers/0001");
    assert_eq!(answer.in_reply_to, format!("messages/{id}"));
    assert_eq!(of("Hallo").customer, "");
    assert_eq!(probe.history(0).await, ["inbound.received", "message.sent"]);
    let told = probe::history(&probe.client, 1).await;
    let told = told.iter().find(|e| e.kind == "inbound.received").unwrap();
    assert_eq!((&told.resource, &told.campaign), (&answer.name, &campaign));

    // Found by all that they are listed by.
    for (filter, n) in [
        ("customer = \"customers/0001\"", 1),
        (&format!("in_reply_to = \"messages/{id}\"")[..], 1),
        ("channel_account = \"channelAccounts/probe\"", 3),
        ("sender = \"stranger\" AND stop = false", 1),
        ("text:\"danke\"", 1),
        ("receive_time < \"2020-01-01T00:00:00Z\"", 0),
    ] {
        assert_eq!(list(&probe.client, filter).await.len(), n, "{filter}");
    }
    let get = pb::GetInboundMessageRequest {
        name: first.name.clone(),
    };
    let got = probe
        .client
        .inbound()
        .get_inbound_message(get)
        .await
        .unwrap();
    assert_eq!(got.get_ref(), first);
    let other = probe.server.client("other").await.unwrap();
    assert_eq!(list(&other, "").await, []);
    let get = pb::GetInboundMessageRequest {
        name: first.name.clone(),
    };
    let status = other.inbound().get_inbound_message(get).await.unwrap_err();
    refused::is(&status, Code::NotFound, "NOT_FOUND");

    until("the webhook's calls", async || receiver.calls().len() == 3).await;
    let events: Vec<Value> = receiver.calls().iter().map(|call| call.event()).collect();
    let event = events.iter().find(|e| e["subject"] == answer.name).unwrap();
    assert_eq!(event["type"], "anklang.inbound.received.v1");
    let data = &event["data"];
    assert_eq!(
        (&data["customer"], &data["stop"]),
        (&json!("0001"), &json!(false))
    );
    assert_eq!(data["in_reply_to"], format!("messages/{id}"));
    assert_eq!(data["campaign"], campaign);
    // What people write stays here.
    assert!(!event.to_string().contains("danke"), "{event}");
}

#[tokio::test]
async fn who_asks_for_no_more_gets_no_more() {
    let probe = Probe::start(4, Settings::default()).await;
    let campaign = probe.launch_until("fine", MessageState::Sent).await;
    let id = probe.id(&campaign, 2).await;
    let all = json!([
        {"from": address(0), "text": " stopp! ", "id": "a"},
        {"from": address(1), "text": "Stopp die Post bis morgen, bitte", "id": "b"},
        {"from": "elsewhere", "text": "ABMELDEN", "in_reply_to": id, "id": "c"},
        {"from": "stranger", "text": "STOP", "id": "d"},
    ]);
    for _ in 0..3 {
        comes(&probe, all.clone()).await;
    }
    let stops = list(&probe.client, "stop = true").await;
    assert_eq!(stops.len(), 3, "{stops:?}");
    for (customer, granted) in [(0, false), (1, true), (2, false), (3, true)] {
        let consent = consent(&probe.client, customer).await;
        let is_granted = consent.state() == customers::ConsentState::Granted;
        assert_eq!(is_granted, granted, "{customer}");
        if !granted {
            assert_eq!(consent.source, "inbound");
        }
    }
    // Once, however often it came.
    let withdrawn = ["consent.withdrawn", "inbound.received", "message.sent"];
    assert_eq!(probe.history(0).await, withdrawn);
    let blocked = "SELECT string_agg(split_part(reason, ':', 1), ',') FROM suppression";
    let reasons = probe.look(blocked).await;
    assert_eq!(reasons, ["asked to stop"; 3].join(","));

    let again = probe.launch_until("fine", MessageState::Sent).await;
    let reached: Vec<String> = mailing::ledger(&probe.client, &again)
        .await
        .into_keys()
        .collect();
    assert_eq!(reached, [1, 3].map(address));

    // Who asks again to be written to, and then again for no more.
    let csv = "customer_number,channel,purpose,state,recorded_at\n\
               0000,testing,marketing,granted,2027-01-01T10:00:00Z\n";
    let entity = anklang_proto::anklang::imports::v1::ImportEntity::Consents;
    mailing::import(&probe.client, entity, csv).await;
    assert_eq!(
        consent(&probe.client, 0).await.state(),
        customers::ConsentState::Granted
    );
    comes(
        &probe,
        json!([{"from": address(0), "text": "STOP", "id": "e"}]),
    )
    .await;
    assert_eq!(
        consent(&probe.client, 0).await.state(),
        customers::ConsentState::Withdrawn
    );
}

#[tokio::test]
async fn words_that_stop_are_the_operators() {
    let settings = Settings {
        channels: "stop_words = ['genug jetzt']",
        ..Default::default()
    };
    let probe = Probe::start(2, settings).await;
    let all = json!([
        {"from": address(0), "text": "STOP", "id": "a"},
        {"from": address(1), "text": "Genug,  jetzt!", "id": "b"},
        {"from": address(1), "text": "GENUG\nJETZT!!", "id": "c"},
    ]);
    comes(&probe, all).await;
    let stops = list(&probe.client, "stop = true").await;
    let ids: Vec<&str> = stops.iter().map(|m| &m.provider_message_id[..]).collect();
    assert_eq!(ids, ["c"]);
}
