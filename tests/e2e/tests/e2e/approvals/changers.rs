//! Who may approve what others, or they themselves, have changed, and which phases a change still concerns.

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::templates::v1::DocumentContent;
use anklang_proto::anklang::templates::v1::template::Content;
use anklang_testkit::Client;
use messages::{MessageResolution, MessageState};
use pb::{LaunchApprovalState as State, LaunchDecisionKind as Kind, PhaseState};
use tonic::{Code, Status};

use super::voids::save_mail;
use super::{A_WHILE, House, approve, campaign_of, look, read_and_approve, refuse, waiting};
use crate::campaigns::metadata;
use crate::mailing::save_template;
use crate::phases::{pause, planned, resume, run_sql, until_state};
use crate::refused;
use crate::utility::{until, until_sent};

fn is_denied(status: &Status, why: &str) {
    refused::is(status, Code::PermissionDenied, "PERMISSION_DENIED");
    assert!(status.message().contains(why), "{status:?}");
}

#[tokio::test]
async fn who_has_changed_what_goes_out_does_not_approve_it() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let cleo = house.as_of(2, "linden").await;
    let (_, phase) = waiting(anna, utility.launch()).await;
    pause(anna, &phase).await.unwrap();
    // Before anybody has approved it.
    assert!(look(&ben, &phase).await.unwrap().changers.is_empty());
    save_mail(&ben, "linden", "Von Ben").await;
    let seen = look(&ben, &phase).await.unwrap();
    assert_eq!(seen.changers, ["tokens/ben"]);
    let status = approve(&ben, &phase, &seen.hash).await.unwrap_err();
    is_denied(&status, "you have changed");
    let approved = approve(&cleo, &phase, &seen.hash).await.unwrap();
    assert!(approved.changers.is_empty());
    until_state(anna, &phase, PhaseState::Active).await;

    // After it: it says who it was, and that one does not approve it again.
    save_mail(&cleo, "linden", "Von Cleo").await;
    let void = look(&cleo, &phase).await.unwrap();
    let newest = &void.decisions[0];
    assert_eq!(
        (newest.kind(), &newest.decider[..]),
        (Kind::Voided, "tokens/cleo")
    );
    assert_eq!(void.changers, ["tokens/cleo"]);
    let status = approve(&cleo, &phase, &void.hash).await.unwrap_err();
    is_denied(&status, "you have changed");
    // Nor do two who have changed it one after the other.
    save_mail(&ben, "linden", "Wieder von Ben").await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.changers, ["tokens/cleo", "tokens/ben"]);
    assert_eq!(void.decisions.len(), 2, "what is void stays so");
    for changer in [&cleo, &ben] {
        let status = approve(changer, &phase, &void.hash).await.unwrap_err();
        is_denied(&status, "you have changed");
    }
    // They can refuse it.
    let refusal = refuse(&ben, &phase, "Zu spät").await.unwrap();
    assert_eq!(refusal.state(), State::Refused);
}

async fn save_letter(client: &Client, source: &str) {
    let letter = Content::Document(DocumentContent {
        typst_source: source.into(),
    });
    let name = "brands/linden/templates/offer_letter.de";
    save_template(client, name, letter).await.unwrap();
}

#[tokio::test]
async fn what_a_planned_phase_sends_is_not_approved_by_who_changes_it() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (campaign, operation) = planned(anna, &utility, 5).await;
    let phase = metadata(&operation).resource;
    let cleo = house.as_of(2, "linden").await;
    // The letters are made of it when its day comes.
    save_letter(&ben, "Angebot #sys.inputs.offer.number").await;
    let sql = "UPDATE phase SET start_date = start_date - 10";
    run_sql(&house.server, sql).await;
    until_state(anna, &phase, PhaseState::AwaitingApproval).await;
    let seen = look(&ben, &phase).await.unwrap();
    assert_eq!(seen.changers, ["tokens/ben"]);
    let status = approve(&ben, &phase, &seen.hash).await.unwrap_err();
    is_denied(&status, "you have changed");
    // They are made: another template changes none of them.
    save_letter(&cleo, "Neu: #sys.inputs.offer.number").await;
    let again = look(&cleo, &phase).await.unwrap();
    assert_eq!((&again.hash, again.changers), (&seen.hash, seen.changers));
    read_and_approve(&cleo, &phase).await;
    until_sent(anna, &campaign, 4).await;
}

#[tokio::test]
async fn contracts_that_come_to_another_brand_need_another_approval() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let (_, phase) = waiting(anna, utility.launch()).await;
    pause(anna, &phase).await.unwrap();
    read_and_approve(&ben, &phase).await;
    until_state(anna, &phase, PhaseState::Active).await;
    let sql = "INSERT INTO brand (tenant_id, id, code, name, sender_email)
        SELECT tenant_id, gen_random_uuid(), 'neu', 'Neu', 'post@neu.example' FROM brand LIMIT 1;
        UPDATE contract SET updated_at = now()";
    run_sql(&house.server, sql).await;
    assert_eq!(look(&ben, &phase).await.unwrap().state(), State::Approved);
    let sql = "UPDATE contract SET brand_id = (SELECT id FROM brand WHERE code = 'neu')";
    run_sql(&house.server, sql).await;
    let void = look(&ben, &phase).await.unwrap();
    assert_eq!(void.state(), State::Awaiting);
    assert_eq!(void.decisions.len(), 2, "once for all contracts: {void:?}");
    assert!(void.decisions[0].remark.contains("contract"), "{void:?}");
    // Nobody whom the server knows has done it.
    assert_eq!(void.decisions[0].decider, "");
    assert!(void.changers.is_empty());
    // From now on that brand's mail counts.
    save_mail(&ben, "neu", "Neue Marke").await;
    assert_eq!(look(&ben, &phase).await.unwrap().changers, ["tokens/ben"]);
    let cleo = house.as_of(2, "linden").await;
    read_and_approve(&cleo, &phase).await;
    resume(anna, &phase).await.unwrap();
    until_sent(anna, campaign_of(&phase), 4).await;
}

async fn in_doubt(client: &Client, campaign: &str) -> Vec<messages::Message> {
    let request = messages::ListMessagesRequest {
        filter: format!("campaign = {campaign} AND state = AMBIGUOUS"),
        ..Default::default()
    };
    let listed = client.messages().list_messages(request).await.unwrap();
    listed.into_inner().messages
}

#[tokio::test]
async fn a_message_in_doubt_of_a_completed_phase_waits_for_another_approval() {
    let (house, utility) = House::with_limit(0).await;
    let (anna, ben) = (&house.anna, house.ben().await);
    let closes = Fault::CloseAfterDot { keep: false };
    let faults = Faults::none().with(Matching::All, closes);
    house.server.sink.set_faults(faults);
    let (_, phase) = waiting(anna, utility.launch()).await;
    let campaign = campaign_of(&phase);
    read_and_approve(&ben, &phase).await;
    until("nobody knows", async || {
        in_doubt(anna, campaign).await.len() == 4
    })
    .await;
    house.server.sink.set_faults(Faults::none());
    let sql = "UPDATE phase SET state = 'completed', completed_at = now()";
    run_sql(&house.server, sql).await;

    save_mail(anna, "linden", "Neue Fassung").await;
    until_state(anna, &phase, PhaseState::AwaitingApproval).await;
    let message = in_doubt(anna, campaign).await.remove(0);
    let request = messages::ResolveMessageRequest {
        name: message.name,
        resolution: MessageResolution::Resend.into(),
        ..Default::default()
    };
    let again = anna.messages().resolve_message(request).await.unwrap();
    assert_eq!(again.into_inner().state(), MessageState::Queued);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(house.server.sink.count(), 0);
    read_and_approve(&ben, &phase).await;
    until("it is sent", async || house.server.sink.count() == 1).await;

    // One that is over by its days is left as it is.
    let sql = "UPDATE phase SET state = 'completed', offer_valid_until = current_date - 3";
    run_sql(&house.server, sql).await;
    let before = look(&ben, &phase).await.unwrap().decisions.len();
    save_mail(anna, "linden", "Noch eine").await;
    assert_eq!(in_doubt(anna, campaign).await.len(), 3);
    let after = look(&ben, &phase).await.unwrap();
    assert_eq!(after.state(), State::Approved);
    assert_eq!(after.decisions.len(), before);
}
