//! What is paused or cancelled, and offers that are answered or taken back, hold for calls as well.

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_testkit::TestServer;
use offers::OpenOfferPolicy;
use pb::PhaseState;
use planning::{OutcomeClass, PlannedContactState};

use super::{accept, by_mail, by_phone, callable, contact_figures, contacts, fate, launch};
use crate::mailing::until;
use crate::phases::{answer_all, cancel_campaign, pause, reject, resume, until_state};
use crate::refused;
use crate::work_list::{self, asks, claim, next, record, says};

const CANCELLED: PlannedContactState = PlannedContactState::Cancelled;
const CLAIMED: PlannedContactState = PlannedContactState::Claimed;

#[tokio::test]
async fn an_offer_that_is_not_open_any_more_calls_its_contact_off() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 6).await;
    let (campaign, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    let over = |reason: &str| (CANCELLED, reason.to_owned());

    accept(&client, &planned[&0].offer).await;
    let told = over("the offer was accepted");
    assert_eq!(fate(&client, &planned[&0].name).await, told);
    let withdraw = offers::WithdrawOfferRequest {
        name: planned[&1].offer.clone(),
        ..Default::default()
    };
    client.offers().withdraw_offer(withdraw).await.unwrap();
    let told = over("the offer was withdrawn");
    assert_eq!(fate(&client, &planned[&1].name).await, told);
    let status = claim(&client, &planned[&1].name, "anna").await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");

    // Whoever is at it stays at it, and then it is over.
    let two = claim(&client, &planned[&2].name, "anna").await.unwrap();
    reject(&client, &planned[&2].offer).await;
    let held = (CLAIMED, "the offer was rejected".to_owned());
    assert_eq!(fate(&client, &planned[&2].name).await, held);
    let release = planning::ReleaseContactRequest {
        name: planned[&2].name.clone(),
        claim: two.claim,
        ..Default::default()
    };
    let released = client.work_list().release_contact(release).await.unwrap();
    assert_eq!(released.into_inner().state(), CANCELLED);
    let three = claim(&client, &planned[&3].name, "anna").await.unwrap();
    accept(&client, &planned[&3].offer).await;
    let again = says(&three, OutcomeClass::CallLater);
    let recorded = record(&client, again).await.unwrap();
    let recorded = recorded.planned_contact.unwrap();
    assert_eq!((recorded.state(), recorded.attempt_count), (CANCELLED, 1));
    assert_eq!(recorded.end_reason, "the offer was accepted");
    // What was said last counts.
    let four = claim(&client, &planned[&4].name, "anna").await.unwrap();
    accept(&client, &planned[&4].offer).await;
    let recorded = record(&client, says(&four, OutcomeClass::Done)).await;
    let recorded = recorded.unwrap().planned_contact.unwrap();
    assert_eq!(
        (recorded.state(), &recorded.end_reason[..]),
        (PlannedContactState::Done, "")
    );

    let superseding = pb::LaunchCampaignRequest {
        open_offers: OpenOfferPolicy::Supersede.into(),
        ..by_mail()
    };
    launch(&client, superseding).await;
    let told = over("the offer was superseded");
    assert_eq!(fate(&client, &planned[&5].name).await, told);
    assert_eq!(next(&client, asks("anna")).await, None);
    let f = contact_figures(&client, &campaign).await;
    assert_eq!((f.planned, f.cancelled, f.done), (6, 5, 1));
    // Nobody is to be called, and every offer has its answer.
    until_state(&client, &phase.name, PhaseState::Completed).await;
}

#[tokio::test]
async fn a_phase_by_phone_is_complete_when_nobody_is_to_be_called() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 2).await;
    let (_, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    let claimed = claim(&client, &planned[&0].name, "anna").await.unwrap();
    answer_all(&client, &phase.name).await;
    assert_eq!(fate(&client, &planned[&1].name).await.0, CANCELLED);
    // Somebody is still at one; a phase that comes later is complete first.
    let (_, other) = launch(&client, by_mail()).await;
    answer_all(&client, &other.name).await;
    until_state(&client, &other.name, PhaseState::Completed).await;
    let active = crate::phases::phase(&client, &phase.name).await;
    assert_eq!(active.state(), PhaseState::Active);
    record(&client, says(&claimed, OutcomeClass::Done))
        .await
        .unwrap();
    until_state(&client, &phase.name, PhaseState::Completed).await;
}

#[tokio::test]
async fn what_is_paused_is_not_handed_out_and_what_is_cancelled_is_called_off() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 3).await;
    let (campaign, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    let barred = async |customer: usize| {
        let status = claim(&client, &planned[&customer].name, "anna").await;
        let (_, why) = refused::precondition(&status.unwrap_err(), "PRECONDITION");
        assert!(why.contains("paused or cancelled"), "{why}");
    };
    pause(&client, &phase.name).await.unwrap();
    assert_eq!(next(&client, asks("anna")).await, None);
    barred(0).await;
    resume(&client, &phase.name).await.unwrap();
    let first = next(&client, asks("anna")).await.unwrap();

    // A call under way goes on while the campaign is paused.
    let pausing = pb::PauseCampaignRequest {
        name: campaign.clone(),
        ..Default::default()
    };
    client.campaigns().pause_campaign(pausing).await.unwrap();
    assert_eq!(next(&client, asks("bert")).await, None);
    let waits = record(&client, says(&first, OutcomeClass::Busy))
        .await
        .unwrap();
    assert_eq!(
        waits.planned_contact.unwrap().state(),
        PlannedContactState::Waiting
    );
    let resuming = pb::ResumeCampaignRequest {
        name: campaign.clone(),
        ..Default::default()
    };
    client.campaigns().resume_campaign(resuming).await.unwrap();
    let second = next(&client, asks("anna")).await.unwrap();

    cancel_campaign(&client, &campaign).await.unwrap();
    assert_eq!(next(&client, asks("bert")).await, None);
    until("what nobody is at is called off", async || {
        contact_figures(&client, &campaign).await.cancelled == 2
    })
    .await;
    let at = &work_list::contact(&second).name;
    until("the one that somebody is at will be", async || {
        fate(&client, at).await == (CLAIMED, "the phase was cancelled".into())
    })
    .await;
    let recorded = record(&client, says(&second, OutcomeClass::NotReached)).await;
    let recorded = recorded.unwrap().planned_contact.unwrap();
    assert_eq!((recorded.state(), recorded.attempt_count), (CANCELLED, 1));
    assert_eq!(contact_figures(&client, &campaign).await.cancelled, 3);
    // For good: a claim of it is refused as of any that is over.
    let status = claim(&client, at, "bert").await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
}

/// A claim that runs out does not bring a contact back whose offer was answered.
#[tokio::test]
async fn a_silent_worker_leaves_nothing_behind() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 2).await;
    let (_, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    for customer in [0, 1] {
        claim(&client, &planned[&customer].name, "anna")
            .await
            .unwrap();
    }
    accept(&client, &planned[&0].offer).await;
    let sql = "UPDATE planned_contact SET claim_until = now() - interval '1 second'";
    crate::phases::run_sql(&server, sql).await;
    let back = next(&client, asks("bert")).await.unwrap();
    assert_eq!(work_list::contact(&back).name, planned[&1].name);
    let told = (CANCELLED, "the offer was accepted".to_owned());
    assert_eq!(fate(&client, &planned[&0].name).await, told);
    let done = record(&client, says(&back, OutcomeClass::Done)).await;
    assert_eq!(done.unwrap().planned_contact.unwrap().attempt_count, 1);
}
