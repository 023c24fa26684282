//! What people do to phases and campaigns: pause, resume, cancel.

use std::collections::BTreeSet;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::TestServer;
use pb::PhaseState;
use tonic::Code;

use crate::campaigns::{ask, get_operation, metadata, phases};
use crate::hold::Hold;
use crate::phases::{
    after_previous, answer_all, cancel, cancel_campaign, further, pause, phase, planned, reject,
    resume, run_sql, until_state,
};
use crate::refused;
use crate::utility::{
    FEW, figures, infoboard, launch, launched, offers_of, until, until_sent, with_utility,
};

/// Held while it is launched: all is made, nothing goes out, though others send.
#[tokio::test]
async fn a_paused_phase_sends_nothing_until_it_is_resumed() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "document", "true").await;
    let operation = ask(&client, utility.launch()).await.unwrap();
    hold.reached().await;
    let name = metadata(&operation).resource;
    let paused = pause(&client, &name).await.unwrap();
    assert_eq!(
        (paused.state(), paused.paused),
        (PhaseState::Launching, true)
    );
    assert_eq!(
        pause(&client, &name).await.unwrap(),
        paused,
        "twice is once"
    );
    hold.release().await;
    let campaign = launched(&client.finished(&operation).await.unwrap())
        .campaign
        .unwrap()
        .name;
    let active = phase(&client, &name).await;
    assert_eq!((active.state(), active.paused), (PhaseState::Active, true));

    // Younger messages of another campaign overtake them.
    let other = launch(&client, utility.launch())
        .await
        .campaign
        .unwrap()
        .name;
    until_sent(&client, &other, 4).await;
    assert_eq!(
        figures(&client, &campaign).await.messages.unwrap().queued,
        4
    );
    assert_eq!(server.sink.count(), 4);
    // Its offers can be answered all the same.
    let offers = offers_of(&client, &campaign).await;
    let answered = offers.values().next().unwrap();
    reject(&client, &answered.name).await;

    assert!(!resume(&client, &name).await.unwrap().paused);
    until("the others are sent", async || {
        let messages = figures(&client, &campaign).await.messages.unwrap();
        (messages.sent, messages.cancelled) == (3, 1)
    })
    .await;
    answer_all(&client, &name).await;
    until_state(&client, &name, PhaseState::Completed).await;
    let status = resume(&client, &name).await.unwrap_err();
    let (_, why) = refused::precondition(&status, "ILLEGAL_TRANSITION");
    assert!(why.starts_with("it is completed"), "{why}");
}

/// A campaign is held as a whole: what waits for it stays where it is, queue and plan.
#[tokio::test]
async fn a_paused_campaign_neither_sends_nor_starts() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, operation) = planned(&client, &utility, 3).await;
    let request = pb::PauseCampaignRequest {
        name: campaign.clone(),
        ..Default::default()
    };
    let paused = client.campaigns().pause_campaign(request).await.unwrap();
    assert!(paused.into_inner().paused);
    // Its day comes; and a phase without a schedule is added, which waits as well.
    let sql = format!("UPDATE phase SET start_date = '{}'", utility.today);
    run_sql(&server, &sql).await;
    let added = further(&utility, &campaign, Default::default());
    let added = ask(&client, added).await.unwrap();
    let (other, started) = planned(&client, &utility, 3).await;
    let sql = format!("UPDATE phase SET start_date = '{}'", utility.today);
    run_sql(&server, &sql).await;
    // What was planned after it has started and sent: the worker went by.
    client.finished(&started).await.unwrap();
    until_sent(&client, &other, 4).await;
    for number in [1, 2] {
        let held = phase(&client, &format!("{campaign}/phases/{number}")).await;
        assert_eq!(held.state(), PhaseState::Planned);
    }
    assert_eq!(
        figures(&client, &campaign).await.messages.unwrap(),
        Default::default()
    );

    let request = pb::ResumeCampaignRequest {
        name: campaign.clone(),
        ..Default::default()
    };
    let resumed = client.campaigns().resume_campaign(request).await.unwrap();
    assert!(!resumed.into_inner().paused);
    client.finished(&operation).await.unwrap();
    client.finished(&added).await.unwrap();
    until_sent(&client, &campaign, 8).await;
}

#[tokio::test]
async fn a_cancelled_phase_takes_everything_back() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "document", "true").await;
    let operation = ask(&client, utility.launch()).await.unwrap();
    hold.reached().await;
    let name = metadata(&operation).resource;
    pause(&client, &name).await.unwrap();
    hold.release().await;
    let campaign = launched(&client.finished(&operation).await.unwrap())
        .campaign
        .unwrap()
        .name;
    let next = ask(&client, further(&utility, &campaign, after_previous())).await;
    let offers = offers_of(&client, &campaign).await;
    let mut offers = offers.values();
    reject(&client, &offers.next().unwrap().name).await;

    let cancelled = cancel(&client, &name).await.unwrap();
    assert_eq!(cancelled.state(), PhaseState::Cancelled);
    assert!(!cancelled.paused);
    let again = cancel(&client, &name).await.unwrap();
    assert_eq!(again.state(), PhaseState::Cancelled);
    let board = infoboard(&client, &campaign).await;
    let figures = board.phases[0].figures.clone().unwrap();
    let made = figures.offers.unwrap();
    assert_eq!((made.made, made.withdrawn, made.rejected), (4, 3, 1));
    assert_eq!(figures.messages.unwrap().cancelled, 4);
    let open = offers.next().unwrap();
    let answer = offers::AcceptOfferRequest {
        name: open.name.clone(),
        source: String::new(),
        ..Default::default()
    };
    let status = client.offers().accept_offer(answer).await.unwrap_err();
    refused::precondition(&status, "ILLEGAL_TRANSITION");
    let get = offers::GetOfferRequest {
        name: open.name.clone(),
    };
    let taken_back = client.offers().get_offer(get).await.unwrap().into_inner();
    assert_eq!(taken_back.withdraw_reason, "the phase was cancelled");
    assert!(taken_back.withdraw_time.is_some());
    let told = "SELECT count(*) FROM customer_event WHERE kind = 'offer.withdrawn'";
    assert_eq!(server.database.one(told).await.unwrap(), "3");
    let status = pause(&client, &name).await.unwrap_err();
    refused::precondition(&status, "ILLEGAL_TRANSITION");

    // Nobody waits for a cancelled phase.
    let next = launched(&client.finished(&next.unwrap()).await.unwrap());
    let second = next.phase.unwrap().name;
    assert_eq!(next.members, 4);
    until_sent(&client, &campaign, 4).await;
    assert_eq!(server.sink.count(), 4);
    answer_all(&client, &second).await;
    until_state(&client, &second, PhaseState::Completed).await;
}

/// It holds at once, though an offer is in use elsewhere and cannot be written yet; and when the
/// server dies before the rest is written, it is written afterwards.
#[tokio::test]
async fn what_was_cancelled_is_so_before_all_is_written() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let (campaign, name) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(&client, &campaign, 4).await;
    let locked = server.database.connect().await.unwrap();
    let lock = "BEGIN; SELECT FROM offer WHERE number = 'A-00000001' FOR UPDATE";
    locked.batch_execute(lock).await.unwrap();
    cancel(&client, &name).await.unwrap();
    let states = "SELECT string_agg(state, ' ' ORDER BY number) FROM offer";
    assert_eq!(
        server.database.one(states).await.unwrap(),
        "open withdrawn withdrawn withdrawn"
    );
    assert_eq!(
        figures(&client, &campaign).await.offers.unwrap().withdrawn,
        4
    );
    let get = offers::GetOfferRequest {
        name: "offers/A-00000001".into(),
    };
    let read = client.offers().get_offer(get).await.unwrap().into_inner();
    assert_eq!(read.state(), offers::OfferState::Withdrawn);
    server.kill();
    locked.batch_execute("ROLLBACK").await.unwrap();
    server.restart().await.unwrap();
    until("the last one is written", async || {
        server.database.one(states).await.unwrap() == ["withdrawn"; 4].join(" ")
    })
    .await;
    let left = "SELECT count(*) FROM phase WHERE winding_up";
    until("nothing is left to do", async || {
        server.database.one(left).await.unwrap() == "0"
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_campaign_takes_all_its_phases_along() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let campaign = first.campaign.unwrap().name;
    until_sent(&client, &campaign, 4).await;
    let waiting = ask(&client, further(&utility, &campaign, after_previous())).await;
    let waiting = waiting.unwrap();

    let cancelled = cancel_campaign(&client, &campaign).await.unwrap();
    assert_eq!(cancelled.state(), pb::CampaignState::Cancelled);
    assert_eq!(
        cancel_campaign(&client, &campaign).await.unwrap(),
        cancelled
    );
    let ended = client.finished(&waiting).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = &ended.result else {
        panic!("cancelled: {ended:?}");
    };
    assert_eq!(error.code, i32::from(Code::Cancelled));
    let states: BTreeSet<i32> = phases(&client, &campaign)
        .await
        .iter()
        .map(|p| p.state)
        .collect();
    assert_eq!(states, [PhaseState::Cancelled.into()].into());
    let offers = figures(&client, &campaign).await.offers.unwrap();
    assert_eq!((offers.made, offers.withdrawn), (4, 4));

    let status = ask(&client, further(&utility, &campaign, Default::default())).await;
    let (subject, _) = refused::precondition(&status.unwrap_err(), "ILLEGAL_TRANSITION");
    assert_eq!(subject, campaign);
    let request = pb::ResumeCampaignRequest {
        name: campaign.clone(),
        ..Default::default()
    };
    let status = client
        .campaigns()
        .resume_campaign(request)
        .await
        .unwrap_err();
    let (_, why) = refused::precondition(&status, "ILLEGAL_TRANSITION");
    assert_eq!(why, "it is cancelled; only what is active can be resumed");
}

/// A planned operation is cancelled like any other.
#[tokio::test]
async fn a_launch_that_waits_can_be_cancelled_by_its_operation() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, operation) = planned(&client, &utility, 3).await;
    crate::campaigns::cancel(&client, &operation.name)
        .await
        .unwrap();
    assert!(client.finished(&operation).await.unwrap().done);
    let name = format!("{campaign}/phases/1");
    until_state(&client, &name, PhaseState::Cancelled).await;
    let over = get_operation(&client, &operation.name).await.unwrap();
    assert_eq!(metadata(&over).phase, "planned");
}
