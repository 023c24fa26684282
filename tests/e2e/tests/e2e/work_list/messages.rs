//! Messages to customers whom people did not reach: what they say, who gets none, and what counts them.

use anklang_local::smtp::Received;
use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{self as messages, MessageState};
use anklang_proto::anklang::planning::v1::{self as pb, OutcomeClass, PlannedContactState};
use anklang_proto::anklang::templates::v1 as templates;
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Client, Options, TestServer};
use chrono::{TimeDelta, Utc};
use mail_parser::MessageParser;
use serde_json::json;

use super::{claim, create, record, says, timestamp};
use crate::mailing::{TENANT, address, import, save_message, tenant, until};
use crate::planning::{put_plan, weekly};
use crate::refused;
use crate::smsc::Smsc;

const BASE: &str = "https://post.sw.example";

async fn serving(config: &str) -> TestServer {
    let options = Options {
        config: config.to_owned(),
        ..Default::default()
    };
    TestServer::start_with(options).await.unwrap()
}

fn message(channel: pb::FollowUpChannel, account: &str) -> pb::FollowUpMessage {
    pb::FollowUpMessage {
        channel: channel.into(),
        account: format!("channelAccounts/{account}"),
        brand: "brands/sw".into(),
        purpose: "marketing".into(),
        ..Default::default()
    }
}

fn by_mail() -> pb::FollowUpMessage {
    message(pb::FollowUpChannel::Mail, "mail")
}

/// The plan NORD, by which somebody not reached so often is written to.
fn plan(
    attempts: i32,
    channel: pb::FollowUpChannel,
    messages: Vec<pb::FollowUpMessage>,
) -> pb::ContactPlan {
    let rule = pb::RetryRule {
        first_minutes: 30,
        max_attempts: attempts,
        then: Some(pb::retry_rule::Then::FollowUpChannel(channel.into())),
        ..Default::default()
    };
    pb::ContactPlan {
        display_name: "Wochenbestellung".into(),
        responsible: "users/anna".into(),
        outcome_rules: Some(pb::OutcomeRules {
            not_reached: Some(rule),
            ..Default::default()
        }),
        follow_up_messages: messages,
        ..weekly("NORD", &["mon"], "2026-01-05", "2030-12-31")
    }
}

async fn of_plan(client: &Client, customer: usize, in_days: i64) -> String {
    let contact = pb::NewPlannedContact {
        customer: format!("customers/{customer:04}"),
        contact_plan: "contactPlans/NORD".into(),
        contact_time: Some(timestamp(Utc::now() + TimeDelta::days(in_days))),
        contact_person: "Frau Schneider".into(),
        ..Default::default()
    };
    create(client, contact).await.name
}

/// Says of a contact once more that nobody was reached.
async fn missed(client: &Client, contact: &str) -> PlannedContactState {
    let claimed = claim(client, contact, "anna").await.unwrap();
    let now = record(client, says(&claimed, OutcomeClass::NotReached)).await;
    now.unwrap().planned_contact.unwrap().state()
}

/// The messages of a contact.
async fn of(client: &Client, contact: &str) -> Vec<messages::Message> {
    let request = messages::ListMessagesRequest {
        filter: format!("planned_contact = \"{contact}\""),
        ..Default::default()
    };
    let listed = client.messages().list_messages(request).await;
    listed.unwrap().into_inner().messages
}

/// The only message of a contact, once it is in this state.
async fn in_state(client: &Client, contact: &str, state: MessageState) -> messages::Message {
    until("the state of a message", async || {
        let all = of(client, contact).await;
        all.len() == 1 && all[0].state() == state
    })
    .await;
    of(client, contact).await.remove(0)
}

fn mails_to(server: &TestServer, address: &str) -> Vec<Received> {
    let mails = server.sink.received().into_iter();
    mails.filter(|mail| mail.rcpt_to == [address]).collect()
}

/// What the newest line about contacts in a customer's history says of this.
async fn told(server: &TestServer, customer: usize, key: &str) -> String {
    let sql = format!(
        "SELECT coalesce(e.details->>'{key}', '') FROM customer_event e
         JOIN customer c ON c.tenant_id = e.tenant_id AND c.id = e.customer_id
         WHERE c.number = '{customer:04}' AND e.kind = 'contact.not_reached'
         ORDER BY e.id DESC LIMIT 1"
    );
    server.database.one(&sql).await.unwrap()
}

async fn save_template(client: &Client, key: &str, text: &str) -> Result<(), tonic::Status> {
    let name = format!("brands/sw/templates/{key}.de");
    let subject = "Schade, {{ customer.display_name }}";
    save_message(client, &name, subject, text).await.map(drop)
}

#[tokio::test]
async fn whom_people_do_not_reach_is_written_to() {
    let server = serving(&format!("[public]\nurl = '{BASE}/'")).await;
    let client = tenant(&server, 1).await;
    let text = "{{ customer.last_name }}|{{ contact.person }}|{{ contact.plan }}|\
                {{ contact.responsible }}|{{ contact.next_date|date }}|{{ brand.name }}|\
                {{ unsubscribe_url }}";
    save_template(&client, "contact_missed_mail", text)
        .await
        .unwrap();
    let messages = vec![pb::FollowUpMessage {
        template: "contact_missed_mail".into(),
        ..by_mail()
    }];
    let wanted = plan(3, pb::FollowUpChannel::Mail, messages.clone());
    let saved = put_plan(&client, wanted).await.unwrap();
    assert_eq!(saved.follow_up_messages, messages);

    let contact = of_plan(&client, 0, 0).await;
    let later = of_plan(&client, 0, 7).await;
    for _ in 0..2 {
        assert_eq!(
            missed(&client, &contact).await,
            PlannedContactState::Waiting
        );
        assert_eq!(of(&client, &contact).await, []);
    }
    assert_eq!(
        missed(&client, &contact).await,
        PlannedContactState::GivenUp
    );
    let sent = in_state(&client, &contact, MessageState::Sent).await;
    assert_eq!(
        (
            &sent.planned_contact,
            &sent.offer[..],
            &sent.winback_case[..]
        ),
        (&contact, "", "")
    );
    assert_eq!((&sent.channel[..], sent.notice), ("mail", false));
    assert_eq!(told(&server, 0, "message").await, sent.name);

    let [mail] = &mails_to(&server, &address(0))[..] else {
        panic!("one mail");
    };
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.subject().unwrap(), "Schade, Muster");
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!(from.address().unwrap(), "info@sw.example");
    let next = (Utc::now() + TimeDelta::days(7)).with_timezone(&chrono_tz::Europe::Berlin);
    let header = parsed.header_raw("List-Unsubscribe").unwrap().trim();
    let url = header.trim_matches(['<', '>']);
    assert_eq!(
        parsed.body_text(0).unwrap().trim(),
        format!(
            "Muster|Frau Schneider|Wochenbestellung|anna|{}|Stadtwerke|{url}",
            next.format("%d.%m.%Y")
        )
    );

    // The link withdraws what the next message would need, and blocks the address.
    let path = url.strip_prefix(BASE).unwrap();
    let body = "List-Unsubscribe=One-Click";
    let (status, _) = crate::unsubscribe::http(server.addr, "POST", path, body).await;
    assert_eq!(status, 200);
    for _ in 0..3 {
        missed(&client, &later).await;
    }
    assert_eq!(of(&client, &later).await, []);
    assert_eq!(told(&server, 0, "refused").await, "suppressed");

    let request = customers::ListCustomerEventsRequest {
        parent: "customers/0000".into(),
        filter: "kind = \"message.sent\"".into(),
        ..Default::default()
    };
    let events = client.customers().list_customer_events(request).await;
    let events = events.unwrap().into_inner().customer_events;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].resource, sent.name);
}

#[tokio::test]
async fn who_cannot_be_written_to_is_told() {
    let receiver = Receiver::start().await;
    let server = serving(crate::handover::QUICK).await;
    let client = tenant(&server, 4).await;
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "CRM".into(),
            url: receiver.url("/crm"),
            event_types: vec!["anklang.contact.follow_up.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    client.webhooks().create_webhook(request).await.unwrap();
    let wanted = plan(1, pb::FollowUpChannel::Mail, vec![by_mail()]);
    put_plan(&client, wanted).await.unwrap();
    let sql = "DELETE FROM consent WHERE customer_id = (SELECT id FROM customer WHERE number = '0000');
               DELETE FROM contact_point WHERE customer_id = (SELECT id FROM customer WHERE number = '0001');
               INSERT INTO suppression (tenant_id, channel, address_hash, reason)
               SELECT p.tenant_id, 'mail', p.address_hash, 'Test' FROM contact_point p
               JOIN customer c ON c.id = p.customer_id WHERE c.number = '0002'";
    super::sql(&server, sql).await;
    for (customer, why) in ["no_consent", "no_address", "suppressed", ""]
        .iter()
        .enumerate()
    {
        let contact = of_plan(&client, customer, 0).await;
        assert_eq!(
            missed(&client, &contact).await,
            PlannedContactState::GivenUp
        );
        assert_eq!(told(&server, customer, "refused").await, *why);
        until("the event", async || receiver.calls().len() > customer).await;
        let event = receiver.calls()[customer].event();
        assert_eq!(event["subject"], contact);
        let data = &event["data"];
        assert_eq!(data["channel"], "mail");
        match *why {
            "" => {
                let sent = in_state(&client, &contact, MessageState::Sent).await;
                assert_eq!(
                    (&data["message"], &data["refused"]),
                    (&json!(sent.name), &json!(null))
                );
            }
            why => {
                assert_eq!(
                    (&data["message"], &data["refused"]),
                    (&json!(null), &json!(why))
                );
                assert_eq!(of(&client, &contact).await, []);
            }
        }
    }
    assert_eq!(server.sink.count(), 1);
    let shipped = mails_to(&server, &address(3)).remove(0);
    let parsed = MessageParser::default().parse(&shipped.data).unwrap();
    assert_eq!(
        parsed.subject().unwrap(),
        "Wir haben Sie leider nicht erreicht"
    );
    let text = parsed.body_text(0).unwrap();
    assert!(
        text.contains("wir haben Sie telefonisch leider nicht erreicht."),
        "{text}"
    );
}

#[tokio::test]
async fn a_plan_is_refused_with_all_that_is_wrong() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let at = |i: usize, field: &str| format!("contact_plan.follow_up_messages[{i}].{field}");
    let wrong = vec![
        pb::FollowUpMessage {
            brand: "brands/keine".into(),
            template: "offer_mail".into(),
            purpose: "ein Zweck".into(),
            ..message(pb::FollowUpChannel::Sms, "mail")
        },
        pb::FollowUpMessage {
            template: "contact_missed_sms".into(),
            ..message(pb::FollowUpChannel::Sms, "keines")
        },
        by_mail(),
    ];
    let refusal = put_plan(&client, plan(1, pb::FollowUpChannel::Sms, wrong)).await;
    let fields = [
        "contact_plan.follow_up_messages".to_owned(),
        at(0, "account"),
        at(0, "purpose"),
        at(0, "template"),
        at(0, "brand"),
        at(1, "channel"),
        at(1, "account"),
        at(1, "template"),
    ];
    refused::names(&refusal.unwrap_err(), &fields.each_ref().map(|f| &f[..]));

    // Templates of contacts know contacts, and nothing else.
    let status = save_template(
        &client,
        "contact_missed",
        "{{ offer.number }} {{ contact.plan }}",
    );
    refused::names(&status.await.unwrap_err(), &["template.message.text_body"]);
    let preview = templates::PreviewTemplateRequest {
        name: "brands/sw/templates/contact_missed.de".into(),
        data: Some(templates::preview_template_request::Data::Customer(
            "customers/0000".into(),
        )),
        ..Default::default()
    };
    let shown = client.templates().preview_template(preview).await;
    let shown = shown.unwrap().into_inner().message.unwrap();
    assert!(shown.text_body.contains("Muster") && shown.text_body.contains("01.12.2026"));
}

#[tokio::test]
async fn messages_count_in_the_contact_budget() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let wanted = plan(1, pb::FollowUpChannel::Mail, vec![by_mail()]);
    put_plan(&client, wanted).await.unwrap();
    let first = of_plan(&client, 0, 0).await;
    let first = claim(&client, &first, "anna").await.unwrap();
    let now = record(&client, says(&first, OutcomeClass::NotReached)).await;
    let contact = now.unwrap().planned_contact.unwrap().name;
    in_state(&client, &contact, MessageState::Sent).await;
    // Under the budget nobody would get the second contact any more.
    let second = of_plan(&client, 0, 0).await;
    let second = claim(&client, &second, "ben").await.unwrap();
    let request = messages::UpdateContactBudgetRequest {
        contact_budget: Some(messages::ContactBudget {
            max_contacts: 1,
            window_days: 30,
            ..Default::default()
        }),
        ..Default::default()
    };
    client
        .messages()
        .update_contact_budget(request)
        .await
        .unwrap();
    let now = record(&client, says(&second, OutcomeClass::NotReached)).await;
    let contact = now.unwrap().planned_contact.unwrap().name;
    let over = in_state(&client, &contact, MessageState::Suppressed).await;
    assert_eq!(over.detail, "the contact budget is used up");
    assert_eq!(server.sink.count(), 1);
}

#[tokio::test]
async fn a_message_outlives_the_server_and_is_sent_once() {
    let mut server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 1).await;
    let wanted = plan(1, pb::FollowUpChannel::Mail, vec![by_mail()]);
    put_plan(&client, wanted).await.unwrap();
    let contact = of_plan(&client, 0, 0).await;
    let claimed = claim(&client, &contact, "anna").await.unwrap();
    let said = pb::RecordOutcomeRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        ..says(&claimed, OutcomeClass::NotReached)
    };
    let tried = pb::RecordOutcomeRequest {
        validate_only: true,
        request_id: String::new(),
        ..said.clone()
    };
    record(&client, tried).await.unwrap();
    assert_eq!(of(&client, &contact).await, []);
    let answer = record(&client, said.clone()).await.unwrap();
    server.kill();
    let config = server.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("enabled = false", "enabled = true")).unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    assert_eq!(record(&client, said).await.unwrap(), answer);
    in_state(&client, &contact, MessageState::Sent).await;
    assert_eq!(mails_to(&server, &address(0)).len(), 1);
    assert_eq!(server.sink.count(), 1);
}

#[tokio::test]
async fn an_account_that_a_plan_names_stays_or_is_replaced() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    for id in ["eins", "zwei"] {
        crate::accounts::create(&client, id, "mail", crate::accounts::relay(&server.sink)).await;
    }
    let messages = vec![message(pb::FollowUpChannel::Mail, "eins")];
    let saved = put_plan(&client, plan(1, pb::FollowUpChannel::Mail, messages)).await;
    let saved = saved.unwrap();
    let mut request = channels::DeleteChannelAccountRequest {
        name: "channelAccounts/eins".into(),
        ..Default::default()
    };
    let mut calls = client.channels();
    let refusal = calls.delete_channel_account(request.clone()).await;
    let (_, description) = refused::precondition(&refusal.unwrap_err(), "PRECONDITION");
    assert!(description.contains("contactPlans/NORD"), "{description}");
    request.replacement = "channelAccounts/zwei".into();
    calls.delete_channel_account(request).await.unwrap();
    let request = pb::GetContactPlanRequest { name: saved.name };
    let now = client.plans().get_contact_plan(request).await;
    let now = now.unwrap().into_inner().follow_up_messages;
    let wanted = pb::FollowUpMessage {
        template: "contact_missed".into(),
        ..message(pb::FollowUpChannel::Mail, "zwei")
    };
    assert_eq!(now, [wanted]);
    let contact = of_plan(&client, 0, 0).await;
    missed(&client, &contact).await;
    let sent = in_state(&client, &contact, MessageState::Sent).await;
    assert_eq!(sent.channel_account, "channelAccounts/zwei");
}

#[tokio::test]
async fn phones_get_the_text() {
    let Some(smsc) = Smsc::start() else { return };
    let server = serving(&format!(
        "[channel_accounts.sms]\nplugin = 'sms'\n[channel_accounts.sms.config]\ntype = 'smpp'\n\
         host = '127.0.0.1'\nport = {}\ntls = 'none'\nsystem_id = 'anklang'\npassword = 's3cret'\n\
         sender = 'Stadtwerke'",
        smsc.port()
    ))
    .await;
    let client = tenant(&server, 1).await;
    let points = "customer_number,channel,address\n0000,mobile,+491711234501\n";
    import(&client, ImportEntity::ContactPoints, points).await;
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0000,sms,marketing,granted,2025-05-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    let messages = vec![message(pb::FollowUpChannel::Sms, "sms"), by_mail()];
    put_plan(&client, plan(1, pb::FollowUpChannel::Sms, messages))
        .await
        .unwrap();
    let contact = of_plan(&client, 0, 0).await;
    missed(&client, &contact).await;
    let sent = in_state(&client, &contact, MessageState::Delivered).await;
    assert_eq!(
        (&sent.channel[..], &sent.address[..]),
        ("sms", "+491711234501")
    );
    let submits = smsc.told("submit").await;
    assert!(!submits.is_empty());
    let text: String = submits
        .iter()
        .map(|submit| submit["text"].as_str().unwrap_or_default())
        .collect();
    assert!(
        text.contains("wir haben Sie telefonisch leider nicht erreicht"),
        "{text}"
    );
    assert_eq!(server.sink.count(), 0);
}
