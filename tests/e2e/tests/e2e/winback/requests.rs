//! Requests for offers: told to webhooks, mailed to those who make them, or made at once.

use anklang_proto::anklang::handover::v1 as webhooks;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::reach::v1 as reach;
use anklang_proto::anklang::winback::v1::{
    self as pb, WinbackCaseEventKind as Kind, WinbackCaseState as State,
};
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Options, TestServer};
use mail_parser::MessageParser;
use serde_json::json;

use super::cases::history_of;
use super::desk::{
    date, day, detail, events, get, open, request_offer, set, shop, sql, wants_offer,
};
use crate::mailing::{TENANT, address, save_message};
use crate::probe::{Probe, Settings};
use crate::refused;
use crate::utility::{Case, TARGET, Utility, until};

#[tokio::test]
async fn requests_for_offers_are_handed_on() {
    let options = Options {
        config: crate::handover::QUICK.into(),
        ..Default::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let client = shop(&server).await;
    set(
        &server,
        &json!({"offer_mail_to": "angebote@linden.example"}),
    )
    .await;
    let receiver = Receiver::start().await;
    let request = webhooks::CreateWebhookRequest {
        webhook: Some(webhooks::Webhook {
            display_name: "Postfach".into(),
            url: receiver.url("/angebote"),
            event_types: vec!["anklang.winback.offer_requested.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    client.webhooks().create_webhook(request).await.unwrap();
    let name = open(&server, "K2", &[]).await;
    let tried = pb::RequestWinbackOfferRequest {
        validate_only: true,
        ..wants_offer(&name, "anna")
    };
    let tried = request_offer(&client, tried).await.unwrap();
    assert_eq!(tried.state(), State::OfferRequested);
    assert_eq!(get(&client, &name).await.state(), State::Declining);

    let request = pb::RequestWinbackOfferRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        ..wants_offer(&name, "anna")
    };
    let asked = request_offer(&client, request.clone()).await.unwrap();
    assert_eq!(asked.state(), State::OfferRequested);
    assert_eq!(
        (asked.contact_date, &asked.offer[..]),
        (Some(date(day(0))), "")
    );
    // Repeated, it is one.
    assert_eq!(request_offer(&client, request).await.unwrap(), asked);
    until("the request", async || !receiver.calls().is_empty()).await;
    assert_eq!(receiver.calls().len(), 1);
    let event = receiver.calls()[0].event();
    assert_eq!(event["type"], "anklang.winback.offer_requested.v1");
    assert_eq!(event["subject"], name);
    let mut data = event["data"].clone();
    assert!(data["event_time"].take().is_string());
    assert_eq!(
        data,
        json!({
            "winback_case": name, "customer": "K2", "customer_name": "Karla Kunde2",
            "note": "20 % auf Äpfel", "mail_to": "angebote@linden.example", "worker": "users/anna",
            "offer": null, "message": null, "event_time": null,
        })
    );
    let [event] = &events(&client, &name).await[..] else {
        panic!("one event");
    };
    assert_eq!(
        (event.kind(), detail(event, "note")),
        (Kind::OfferRequested, "20 % auf Äpfel".into())
    );
    assert_eq!(
        history_of(&client, "K2").await[0].0,
        "winback.offer_requested"
    );

    let wrong = pb::RequestWinbackOfferRequest {
        note: " ".into(),
        contract: "contracts/1".into(),
        valid_until_date: Some(date(day(3))),
        ..wants_offer(&name, "anna")
    };
    let status = request_offer(&client, wrong).await.unwrap_err();
    refused::names(&status, &["note", "contract", "valid_until_date"]);
}

#[tokio::test]
async fn requests_for_offers_are_mailed_to_those_who_make_them() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let settings = json!({
        "offer_mail_to": "angebote@linden.example", "offer_mail_account": "mail",
        "links": {"customer": "https://shop.example/kunden/{number}", "product": "", "order": ""},
    });
    set(&server, &settings).await;
    let name = open(&server, "K2", &[]).await;
    let tried = pb::RequestWinbackOfferRequest {
        validate_only: true,
        ..wants_offer(&name, "anna")
    };
    request_offer(&client, tried).await.unwrap();
    let request = pb::RequestWinbackOfferRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        ..wants_offer(&name, "anna")
    };
    let asked = request_offer(&client, request.clone()).await.unwrap();
    assert_eq!(request_offer(&client, request).await.unwrap(), asked);
    let mail = detail(&events(&client, &name).await[0], "message");
    let message = async |name: &str| {
        let request = messages::GetMessageRequest { name: name.into() };
        let found = client.messages().get_message(request).await;
        found.unwrap().into_inner()
    };
    until("the mail", async || {
        message(&mail).await.state() == messages::MessageState::Sent
    })
    .await;
    let sent = message(&mail).await;
    assert_eq!((sent.notice, &sent.winback_case), (true, &name));
    assert_eq!(sent.address, "angebote@linden.example");

    let mails = server.sink.received();
    assert_eq!(mails.len(), 1, "once");
    assert_eq!(mails[0].rcpt_to, ["angebote@linden.example"]);
    let parsed = MessageParser::default().parse(&mails[0].data).unwrap();
    assert_eq!(
        parsed.subject().unwrap(),
        "Angebot anfordern: K2 Karla Kunde2"
    );
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!(from.address().unwrap(), "a@garten.example");
    assert!(parsed.header_raw("List-Unsubscribe").is_none());
    let text = parsed.body_text(0).unwrap();
    for part in [
        "K2 Karla Kunde2",
        "20 % auf Äpfel",
        "anna",
        "https://shop.example/kunden/K2",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // It is no contact of the customer.
    let told = "SELECT string_agg(kind, ' ') FROM customer_event
                WHERE kind LIKE 'message.%' OR kind LIKE 'winback.%'";
    let told = server.database.one(told).await.unwrap();
    assert_eq!(told, "winback.offer_requested");
}

#[tokio::test]
async fn what_comes_of_a_notice_does_not_touch_the_customer() {
    let probe = Probe::start(2, Settings::default()).await;
    super::mails::open_cases(&probe.server, TENANT, "").await;
    // The worst case: requests go to the customer's own address, and only one contact is left.
    let settings = format!(
        "INSERT INTO winback_settings (tenant_id, version, settings)
         SELECT tenant_id, version + 1, settings || '{}' FROM winback_settings
         ORDER BY version DESC LIMIT 1",
        json!({"offer_mail_to": address(0), "offer_mail_account": "probe"})
    );
    super::set(&probe.client, super::monthly(), "")
        .await
        .unwrap();
    sql(&probe.server, &settings).await;
    let budget = messages::UpdateContactBudgetRequest {
        contact_budget: Some(messages::ContactBudget {
            max_contacts: 1,
            window_days: 30,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut calls = probe.client.messages();
    calls.update_contact_budget(budget).await.unwrap();
    let name = "brands/sw/templates/winback_offer_request.de";
    save_message(&probe.client, name, "{{ customer.number }}", "fine")
        .await
        .unwrap();
    let name = super::mails::case_of(&probe.server, "0000").await;
    let mut sent = Vec::new();
    for _ in 0..2 {
        request_offer(&probe.client, wants_offer(&name, "anna"))
            .await
            .unwrap();
        sent.push(detail(&events(&probe.client, &name).await[0], "message"));
    }
    let state = async |name: &str| {
        let request = messages::GetMessageRequest { name: name.into() };
        let found = probe.client.messages().get_message(request).await;
        found.unwrap().into_inner().state()
    };
    for message in &sent {
        until("the notice", async || {
            state(message).await == messages::MessageState::Sent
        })
        .await;
    }
    let of = |i: usize| sent[i].replace("messages/", "");
    let reports = json!([
        {"message_id": of(0), "state": "bounced", "code": "550 5.1.1"},
        {"message_id": of(1), "state": "complained"},
    ]);
    probe.report(reports).await;
    assert_eq!(state(&sent[0]).await, messages::MessageState::Bounced);
    for (sql, wanted) in [
        ("SELECT count(*) FROM suppression", "0"),
        ("SELECT count(*) FROM consent WHERE state <> 'granted'", "0"),
        (
            "SELECT count(*) FROM customer_event WHERE kind LIKE 'message.%'",
            "0",
        ),
    ] {
        assert_eq!(probe.look(sql).await, wanted, "{sql}");
    }
    let request = reach::ExplainCustomerRequest {
        customer: "customers/0000".into(),
        ..Default::default()
    };
    let explained = probe.client.reach().explain_customer(request).await;
    assert_eq!(explained.unwrap().into_inner().budget.unwrap().used, 0);
}

#[tokio::test]
async fn an_offer_is_made_at_once() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let utility = Utility::of(&[(Case::Plain, 3), (Case::OnTarget, 1)]);
    utility.import(&client).await;
    super::desk::detected(&server).await;
    let plain = utility.first(Case::Plain);
    let owner =
        |contract: &crate::utility::Contract| utility.customers[contract.customer].number.clone();
    let name = open(&server, &owner(plain), &[]).await;
    let wants = |name: &str| pb::RequestWinbackOfferRequest {
        product_version: TARGET.into(),
        valid_until_date: utility.day(14),
        ..wants_offer(name, "anna")
    };
    // Of another customer, or a version that there is not.
    let others = utility
        .contracts
        .iter()
        .find(|c| c.customer != plain.customer);
    let foreign = pb::RequestWinbackOfferRequest {
        contract: others.unwrap().name(),
        ..wants(&name)
    };
    let status = request_offer(&client, foreign).await.unwrap_err();
    refused::names(&status, &["contract"]);
    let unknown = pb::RequestWinbackOfferRequest {
        product_version: "products/S-OEKO/versions/NONE".into(),
        ..wants(&name)
    };
    refused::not_found(&request_offer(&client, unknown).await.unwrap_err());

    let asked = request_offer(&client, wants(&name)).await.unwrap();
    assert_eq!(asked.state(), State::OfferRequested);
    let request = offers::GetOfferRequest {
        name: asked.offer.clone(),
    };
    let offer = client
        .offers()
        .get_offer(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(offer.state(), offers::OfferState::Open);
    assert_eq!(
        (&offer.contract, offer.valid_until_date),
        (&plain.name(), utility.day(14))
    );
    assert_eq!(offer.document, None);
    assert_eq!(
        detail(&events(&client, &name).await[0], "offer"),
        asked.offer
    );

    // It has one: the case stays as it is.
    let before = get(&client, &name).await;
    let status = request_offer(&client, wants(&name)).await.unwrap_err();
    let (subject, description) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, plain.name());
    assert!(description.contains("open offer"), "{description}");
    assert_eq!(get(&client, &name).await, before);

    let on_target = open(&server, &owner(utility.first(Case::OnTarget)), &[]).await;
    let status = request_offer(&client, wants(&on_target)).await.unwrap_err();
    let (subject, description) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, on_target);
    assert!(description.contains("no contract"), "{description}");
    assert_eq!(get(&client, &on_target).await.state(), State::Declining);

    // With two that fit somebody must say which.
    let give = format!(
        "UPDATE contract SET customer_id = (SELECT id FROM customer WHERE number = '{}')
         WHERE number = '{}'",
        owner(utility.first(Case::OnTarget)),
        others.unwrap().number
    );
    sql(&server, &give).await;
    let also = utility
        .contracts
        .iter()
        .rfind(|c| c.case == Case::Plain)
        .unwrap();
    sql(
        &server,
        &give.replace(&others.unwrap().number, &also.number),
    )
    .await;
    let status = request_offer(&client, wants(&on_target)).await.unwrap_err();
    refused::names(&status, &["contract"]);
    let which = pb::RequestWinbackOfferRequest {
        contract: also.name(),
        ..wants(&on_target)
    };
    let asked = request_offer(&client, which).await.unwrap();
    assert!(asked.offer.starts_with("offers/"), "{asked:?}");
}
