//! Changes of what was approved, and what waits for another approval then.

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::products::v1 as products;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Client, TestServer};
use mail_parser::MessageParser;
use pb::{LaunchApprovalState as State, LaunchDecisionKind as Kind, PhaseState};
use serde_json::json;
use tonic::{Code, Status};

use super::{A_WHILE, House, approve, campaign_of, limit, look, read_and_approve, waiting};
use crate::corrections::{rename_campaign, rename_phase};
use crate::phases::{pause, resume, run_sql, until_state};
use crate::phone::{by_phone, callable, contacts};
use crate::refused;
use crate::utility::{FEW, TARGET, until, until_sent, with_utility};
use crate::work_list::claim;

/// A mail of a brand says something else from now on.
pub async fn save_mail(client: &Client, brand: &str, text: &str) {
    let message = templates::MessageContent {
        subject: "Angebot".into(),
        text_body: text.into(),
        ..Default::default()
    };
    let request = templates::UpdateTemplateRequest {
        template: Some(templates::Template {
            name: format!("brands/{brand}/templates/offer_mail.de"),
            content: Some(templates::template::Content::Message(message)),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    client.templates().update_template(request).await.unwrap();
}

/// How many of the mails that arrived say that.
fn mails_saying(server: &TestServer, text: &str) -> usize {
    let says = |data: &[u8]| {
        let mail = MessageParser::default().parse(data).unwrap();
        mail.body_text(0).unwrap().contains(text)
    };
    let mails = server.sink.received();
    mails.iter().filter(|mail| says(&mail.data)).count()
}

#[tokio::test]
async fn what_changes_has_to_be_approved_anew() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    // While it waits: the hash is another one.
    let seen = look(&ben, &phase).await.unwrap();
    save_mail(anna, "linden", "Fassung-Eins").await;
    let status = approve(&ben, &phase, &seen.hash).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    let again = look(&ben, &phase).await.unwrap();
    assert_ne!(again.hash, seen.hash);
    let own = &again.templates[0];
    assert_eq!(
        (&own.template[..], own.version),
        ("brands/linden/templates/offer_mail.de", 1)
    );
    // Held, so that it is approved and nothing is sent yet.
    pause(anna, &phase).await.unwrap();
    approve(&ben, &phase, &again.hash).await.unwrap();
    until_state(anna, &phase, PhaseState::Active).await;

    // Something that it is not made of changes nothing.
    run_sql(
        &house.server,
        "INSERT INTO template (tenant_id, brand_id, key, language, version, kind)
         SELECT tenant_id, id, 'other_mail', 'de', 1, 'message' FROM brand",
    )
    .await;
    assert_eq!(look(&ben, &phase).await.unwrap().state(), State::Approved);
    save_mail(anna, "linden", "Fassung-Zwei").await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.state(), State::Awaiting);
    assert_eq!(void.decisions[0].kind(), Kind::Voided);
    assert!(
        void.decisions[0].remark.contains("offer_mail.de"),
        "{void:?}"
    );
    resume(anna, &phase).await.unwrap();
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 0);
    let status = approve(&ben, &phase, &again.hash).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");

    approve(&ben, &phase, &void.hash).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
    assert_eq!(mails_saying(&house.server, "Fassung-Eins"), 0);
    assert_eq!(mails_saying(&house.server, "Fassung-Zwei"), 2);
    // When all is sent nothing waits any more, whatever changes.
    save_mail(anna, "linden", "Fassung-Drei").await;
    let over = crate::phases::phase(anna, &phase).await;
    assert_eq!(over.state(), PhaseState::Active);
    let over = look(&ben, &phase).await.unwrap();
    assert_eq!(over.state(), State::Approved);
    assert_eq!(over.decisions[0].kind(), Kind::Approved);
    // It shows what was approved.
    assert_eq!((&over.hash, &over.templates), (&void.hash, &void.templates));
}

#[tokio::test]
async fn prices_brands_and_dates_are_part_of_what_is_approved() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    pause(anna, &phase).await.unwrap();
    let version = products::GetProductVersionRequest {
        name: TARGET.into(),
    };
    let version = anna.products().get_product_version(version).await.unwrap();
    let mut dearer = version.into_inner();
    dearer.base_price_per_year.as_mut().unwrap().units += 1;
    dearer.etag.clear();
    let rounds = ["version", "brand", "phase"];
    for changed in rounds {
        let approved = read_and_approve(&ben, &phase).await;
        until_state(anna, &phase, PhaseState::Active).await;
        match changed {
            "version" => {
                let request = products::UpdateProductVersionRequest {
                    product_version: Some(dearer.clone()),
                    ..Default::default()
                };
                anna.products()
                    .update_product_version(request)
                    .await
                    .unwrap();
            }
            "brand" => {
                let sql = "UPDATE brand SET sender_name = 'Neu' WHERE code = 'nordlicht'";
                run_sql(&house.server, sql).await;
            }
            _ => {
                let request = pb::ReschedulePhaseRequest {
                    name: phase.clone(),
                    planned_end_date: utility.day(20),
                    ..Default::default()
                };
                anna.campaigns().reschedule_phase(request).await.unwrap();
            }
        }
        let void = look(&ben, &phase).await.unwrap();
        assert_eq!(void.state(), State::Awaiting, "{changed}");
        assert_ne!(void.hash, approved.hash, "{changed}");
        assert!(void.decisions[0].remark.contains(changed), "{void:?}");
        // The letters and their offers are made, and stay as they are.
        assert_eq!(void.annual_amount, approved.annual_amount);
    }
    // Each approval and each change is kept.
    let seen = look(&ben, &phase).await.unwrap();
    let kinds: Vec<Kind> = seen
        .decisions
        .iter()
        .map(pb::LaunchDecision::kind)
        .collect();
    assert_eq!(kinds, [[Kind::Voided, Kind::Approved]; 3].concat());
    read_and_approve(&ben, &phase).await;
    resume(anna, &phase).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
    assert_eq!(house.server.sink.count(), 4);
}

#[tokio::test]
async fn another_name_has_to_be_approved_anew() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    pause(anna, &phase).await.unwrap();
    for changed in ["campaign", "phase"] {
        let approved = read_and_approve(&ben, &phase).await;
        until_state(anna, &phase, PhaseState::Active).await;
        match changed {
            "campaign" => {
                rename_campaign(anna, campaign_of(&phase), "Neu").await;
            }
            _ => {
                rename_phase(anna, &phase, "Neu").await;
            }
        }
        let void = look(&ben, &phase).await.unwrap();
        assert_eq!(void.state(), State::Awaiting, "{changed}");
        assert_ne!(void.hash, approved.hash, "{changed}");
        assert!(void.decisions[0].remark.contains(changed), "{void:?}");
        // Who has changed it does not approve it.
        assert_eq!(void.changers, ["tokens/anna"], "{changed}");
        // The same name again is no change.
        rename_campaign(anna, campaign_of(&phase), "Neu").await;
        let again = look(&ben, &phase).await.unwrap();
        assert_eq!(again.decisions, void.decisions, "{changed}");
    }
    read_and_approve(&ben, &phase).await;
    let state = crate::phases::phase(anna, &phase).await.state();
    assert_eq!(state, PhaseState::Active);
    resume(anna, &phase).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
    // When all is sent nothing waits any more.
    rename_campaign(anna, campaign_of(&phase), "Zu spät").await;
    let over = look(&ben, &phase).await.unwrap();
    assert_eq!(over.state(), State::Approved);
}

#[tokio::test]
async fn an_approval_and_a_change_take_turns() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    let seen = look(&ben, &phase).await.unwrap();
    // A change under way that nobody can see yet.
    let changing = house.server.database.connect().await.unwrap();
    let change = "BEGIN; UPDATE brand SET sender_name = 'Neu' WHERE code = 'linden'";
    changing.batch_execute(change).await.unwrap();
    let approving = {
        let (ben, phase, hash) = (ben.clone(), phase.clone(), seen.hash.clone());
        tokio::spawn(async move { approve(&ben, &phase, &hash).await })
    };
    tokio::time::sleep(A_WHILE).await;
    assert!(!approving.is_finished(), "it waits for the change");
    changing.batch_execute("COMMIT").await.unwrap();
    let status = approving.await.unwrap().unwrap_err();
    refused::precondition(&status, "PRECONDITION");

    // Of two approvals one counts, and each customer gets one mail.
    let cleo = house.as_of(2, "linden").await;
    let hash = look(&ben, &phase).await.unwrap().hash;
    let (one, other) = tokio::join!(approve(&ben, &phase, &hash), approve(&cleo, &phase, &hash));
    let refusals: Vec<Status> = [one, other].into_iter().filter_map(Result::err).collect();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    refused::precondition(&refusals[0], "ILLEGAL_TRANSITION");
    until_sent(anna, campaign_of(&phase), 4).await;
    assert_eq!(house.server.sink.count(), 4);
    let decided = look(&ben, &phase).await.unwrap().decisions;
    assert_eq!(decided.len(), 1);
}

#[tokio::test]
async fn nobody_is_called_without_an_approval() {
    let house = House::open("").await;
    let anna = callable(&house.server, 2).await;
    let ben = house.as_of(1, crate::mailing::TENANT).await;
    limit(&anna, Some(1)).await.unwrap();
    let (_, phase) = waiting(&anna, by_phone(pb::PhoneSpec::default())).await;
    assert!(contacts(&anna, &phase).await.is_empty());
    read_and_approve(&ben, &phase).await;
    until_state(&anna, &phase, PhaseState::Active).await;
    let planned = contacts(&anna, &phase).await;
    assert_eq!(planned.len(), 2);
    run_sql(&house.server, "UPDATE brand SET phone = '+49 641 1'").await;
    let state = crate::phases::phase(&anna, &phase).await.state();
    assert_eq!(state, PhaseState::AwaitingApproval);
    let status = claim(&anna, &planned[&0].name, "anna").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    read_and_approve(&ben, &phase).await;
    until("it is handed out again", async || {
        claim(&anna, &planned[&1].name, "anna").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn webhooks_hear_of_what_waits() {
    let house = House::open(crate::handover::QUICK).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, utility) = with_utility(&house.server, FEW).await;
    limit(anna, Some(0)).await.unwrap();
    let receiver = Receiver::start().await;
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "Chat".into(),
            url: receiver.url("/freigabe"),
            event_types: vec!["anklang.launch.awaiting_approval.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    anna.webhooks().create_webhook(request).await.unwrap();
    let (_, phase) = waiting(anna, utility.launch()).await;
    until("the event", async || receiver.calls().len() == 1).await;
    let event = receiver.calls()[0].event();
    assert_eq!(event["type"], "anklang.launch.awaiting_approval.v1");
    assert_eq!(event["subject"], phase);
    let mut data = event["data"].clone();
    assert!(data["event_time"].take().is_string());
    assert_eq!(
        data,
        json!({
            "campaign": campaign_of(&phase), "phase": 1, "campaign_name": "Ökostrom für alle",
            "phase_name": "Phase 1", "launched_by": "tokens/anna", "members": 4, "reason": "",
            "event_time": null,
        })
    );
    pause(anna, &phase).await.unwrap();
    read_and_approve(&ben, &phase).await;
    until_state(anna, &phase, PhaseState::Active).await;
    run_sql(&house.server, "UPDATE brand SET sender_name = 'Neu'").await;
    until("the second event", async || receiver.calls().len() == 2).await;
    let event = receiver.calls()[1].event();
    let reason = event["data"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("the brand "), "{reason}");
}
