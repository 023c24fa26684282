//! Phases of a campaign: in sequence and in parallel, planned, paused, cancelled, rescheduled.

use std::time::Duration;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, TestServer};
use pb::launch_campaign_request::CampaignTarget;
use pb::phase_schedule::Position;
use pb::{OverlapPolicy, PhaseOrder, PhaseState};
use tonic::{Code, Status};

use crate::campaigns::{ask, metadata, phases};
use crate::refused;
use crate::utility::{
    FEW, Utility, figures, launch, launched, offers_of, until, until_sent, with_utility,
};

/// A launch of a further phase.
pub fn further(
    utility: &Utility,
    campaign: &str,
    schedule: pb::PhaseSchedule,
) -> pb::LaunchCampaignRequest {
    pb::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign.into())),
        schedule: Some(schedule),
        ..utility.launch()
    }
}

pub fn after_previous() -> pb::PhaseSchedule {
    pb::PhaseSchedule {
        position: Some(Position::Order(PhaseOrder::AfterPrevious.into())),
        ..Default::default()
    }
}

/// A new campaign whose first phase waits until some day.
pub async fn planned(client: &Client, utility: &Utility, days: i64) -> (String, lro::Operation) {
    let mut request = utility.launch();
    request.schedule = Some(pb::PhaseSchedule {
        planned_start_date: utility.day(days),
        ..Default::default()
    });
    let operation = ask(client, request).await.unwrap();
    let phase = metadata(&operation).resource;
    let campaign = phase.split("/phases/").next().unwrap().to_owned();
    (campaign, operation)
}

pub async fn phase(client: &Client, name: &str) -> pb::Phase {
    let campaign = name.split("/phases/").next().unwrap();
    let all = phases(client, campaign).await;
    all.into_iter().find(|p| p.name == name).unwrap()
}

pub async fn until_state(client: &Client, name: &str, state: PhaseState) -> pb::Phase {
    until(&format!("{name} is {state:?}"), async || {
        phase(client, name).await.state() == state
    })
    .await;
    phase(client, name).await
}

pub async fn reject(client: &Client, offer: &str) {
    let request = offers::RejectOfferRequest {
        name: offer.into(),
        ..Default::default()
    };
    client.offers().reject_offer(request).await.unwrap();
}

/// Rejects all open offers of a phase.
pub async fn answer_all(client: &Client, phase: &str) {
    let request = offers::ListOffersRequest {
        phase: phase.into(),
        states: vec![offers::OfferState::Open.into()],
        ..Default::default()
    };
    let listed = client.offers().list_offers(request).await.unwrap();
    for offer in listed.into_inner().offers {
        reject(client, &offer.name).await;
    }
}

pub async fn pause(client: &Client, name: &str) -> Result<pb::Phase, Status> {
    let request = pb::PausePhaseRequest {
        name: name.into(),
        ..Default::default()
    };
    let answer = client.campaigns().pause_phase(request).await;
    answer.map(tonic::Response::into_inner)
}

pub async fn resume(client: &Client, name: &str) -> Result<pb::Phase, Status> {
    let request = pb::ResumePhaseRequest {
        name: name.into(),
        ..Default::default()
    };
    let answer = client.campaigns().resume_phase(request).await;
    answer.map(tonic::Response::into_inner)
}

pub async fn cancel(client: &Client, name: &str) -> Result<pb::Phase, Status> {
    let request = pb::CancelPhaseRequest {
        name: name.into(),
        ..Default::default()
    };
    let answer = client.campaigns().cancel_phase(request).await;
    answer.map(tonic::Response::into_inner)
}

pub async fn cancel_campaign(client: &Client, name: &str) -> Result<pb::Campaign, Status> {
    let request = pb::CancelCampaignRequest {
        name: name.into(),
        ..Default::default()
    };
    let answer = client.campaigns().cancel_campaign(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn reschedule(
    client: &Client,
    request: pb::ReschedulePhaseRequest,
) -> Result<pb::Phase, Status> {
    let answer = client.campaigns().reschedule_phase(request).await;
    answer.map(tonic::Response::into_inner)
}

pub async fn run_sql(server: &TestServer, sql: &str) {
    let connection = server.database.connect().await.unwrap();
    connection.batch_execute(sql).await.unwrap();
}

type Time = (i64, i32);

fn times(phase: &pb::Phase) -> (Time, Option<Time>) {
    let time = |t: &Option<prost_types::Timestamp>| t.as_ref().map(|t| (t.seconds, t.nanos));
    (time(&phase.start_time).unwrap(), time(&phase.complete_time))
}

#[tokio::test]
async fn phases_wait_for_those_before_them() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let campaign = first.campaign.unwrap().name;
    let names: Vec<String> = (1..=4).map(|n| format!("{campaign}/phases/{n}")).collect();

    // 2 after 1; 3 parallel with 2; 4 after 2, and so after 3 as well.
    let mut operations = Vec::new();
    for position in [
        Position::Order(PhaseOrder::AfterPrevious.into()),
        Position::ParallelWith(names[1].clone()),
        Position::After(pb::PhaseNames {
            phases: vec![names[1].clone()],
        }),
    ] {
        let schedule = pb::PhaseSchedule {
            position: Some(position),
            ..Default::default()
        };
        let operation = ask(&client, further(&utility, &campaign, schedule)).await;
        operations.push(operation.unwrap());
    }
    let listed = phases(&client, &campaign).await;
    let states: Vec<PhaseState> = listed.iter().map(pb::Phase::state).collect();
    assert_eq!(states[1..], [PhaseState::Planned; 3]);
    assert_eq!(listed[1].predecessors, names[..1]);
    assert_eq!(listed[1].parallels, names[2..3]);
    assert_eq!(listed[2].predecessors, names[..1]);
    assert_eq!(listed[2].parallels, names[1..2]);
    assert_eq!(listed[3].predecessors, names[1..2]);
    assert_eq!(metadata(&operations[2]).phase, "planned");

    until_sent(&client, &campaign, 4).await;
    answer_all(&client, &names[0]).await;
    for operation in &operations[..2] {
        assert!(client.finished(operation).await.unwrap().done);
    }
    answer_all(&client, &names[1]).await;
    until_state(&client, &names[1], PhaseState::Completed).await;
    answer_all(&client, &names[2]).await;
    let last = launched(&client.finished(&operations[2]).await.unwrap());
    assert_eq!(last.members, 4);

    let all = phases(&client, &campaign).await;
    let [one, two, three, four] = [0, 1, 2, 3].map(|i| times(&all[i]));
    assert!(one.1.unwrap() <= two.0 && one.1.unwrap() <= three.0);
    assert!(two.1.unwrap() <= four.0 && three.1.unwrap() <= four.0);
    until_sent(&client, &campaign, 16).await;
    assert_eq!(server.sink.count(), 16);
}

/// Two servers, one of them killed: the phase starts as of the day on which it starts, once.
#[tokio::test]
async fn a_planned_phase_starts_once_on_its_day() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, operation) = planned(&client, &utility, 3).await;
    let name = format!("{campaign}/phases/1");
    let waiting = phase(&client, &name).await;
    assert_eq!(waiting.state(), PhaseState::Planned);
    assert_eq!(waiting.planned_start_date, utility.day(3));
    assert_eq!(waiting.start_time, None);
    assert_eq!(metadata(&operation).phase, "planned");
    assert_eq!(figures(&client, &campaign).await.offers.unwrap().made, 0);

    server.kill();
    let sql = format!(
        "UPDATE phase SET start_date = '{today}'::date - 1;
         UPDATE operation SET request = request || '{{\"today\": \"2020-01-01\"}}'",
        today = utility.today
    );
    run_sql(&server, &sql).await;
    let (first, second) = (
        server.further().await.unwrap(),
        server.further().await.unwrap(),
    );
    let begun = "SELECT state <> 'planned' FROM phase";
    until("one of them has started it", async || {
        server.database.one(begun).await.unwrap() == "t"
    })
    .await;
    drop(first);
    let client = Client::connect(second.addr, "linden").await.unwrap();
    let response = launched(&client.finished(&operation).await.unwrap());
    assert_eq!((response.members, response.failed_documents), (4, 0));
    until_sent(&client, &campaign, 4).await;
    let offers = offers_of(&client, &campaign).await;
    assert_eq!(offers.len(), 4);
    assert!(offers.values().all(|o| o.offer_date == utility.day(0)));
    let made = "SELECT concat_ws(' ', (SELECT count(*) FROM offer), (SELECT count(*) FROM message),
                    (SELECT count(*) FROM operation WHERE kind = 'LaunchCampaign'), (SELECT next_value - 1 FROM number_range))";
    assert_eq!(server.database.one(made).await.unwrap(), "4 4 1 4");
}

#[tokio::test]
async fn a_phase_that_starts_too_late_fails_and_keeps_others_waiting() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, operation) = planned(&client, &utility, 3).await;
    let next = ask(&client, further(&utility, &campaign, after_previous())).await;
    let next = next.unwrap();
    let sql = format!(
        "UPDATE phase SET start_date = '{0}', offer_valid_until = '{0}'::date - 1 WHERE number = 1",
        utility.today
    );
    run_sql(&server, &sql).await;
    let ended = client.finished(&operation).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = &ended.result else {
        panic!("it failed: {ended:?}");
    };
    assert_eq!(error.code, i32::from(Code::FailedPrecondition));
    assert!(error.message.contains("valid until"), "{}", error.message);
    let listed = phases(&client, &campaign).await;
    assert_eq!(listed[0].state(), PhaseState::Failed);
    assert_eq!(listed[1].state(), PhaseState::Planned);
    let status = pause(&client, &listed[0].name).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "ILLEGAL_TRANSITION");
    assert_eq!(subject, listed[0].name);
    assert_eq!(
        why,
        "it is failed; only what is planned, launching, awaiting_approval, active can be paused"
    );
    // A person decides that the others need not wait for it.
    cancel(&client, &listed[0].name).await.unwrap();
    assert_eq!(launched(&client.finished(&next).await.unwrap()).members, 4);
    let cancelled = phase(&client, &listed[0].name).await;
    let begun = phase(&client, &listed[1].name).await;
    assert_eq!(cancelled.state(), PhaseState::Cancelled);
    assert!(begun.start_time.is_some());
}

#[tokio::test]
async fn a_phase_that_starts_after_its_planned_end_is_not_over_at_once() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, operation) = planned(&client, &utility, 3).await;
    let next = ask(&client, further(&utility, &campaign, after_previous())).await;
    let next = metadata(&next.unwrap()).resource;
    // It was to last ten days, and to be over five days ago.
    let sql = format!(
        "UPDATE phase SET start_date = '{0}'::date - 15, end_date = '{0}'::date - 5 WHERE number = 1",
        utility.today
    );
    run_sql(&server, &sql).await;
    let members = launched(&client.finished(&operation).await.unwrap()).members;
    until_sent(&client, &campaign, usize::try_from(members).unwrap()).await;
    // Both are looked at again and again.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let listed = phases(&client, &campaign).await;
    assert_eq!(listed[0].state(), PhaseState::Active);
    assert_eq!(listed[0].planned_end_date, utility.day(-5));
    assert_eq!(phase(&client, &next).await.state(), PhaseState::Planned);
}

#[tokio::test]
async fn overlapping_phases_are_shifted_or_clipped_as_asked() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    let dates = |start: i64, end: i64, overlap: OverlapPolicy| pb::PhaseSchedule {
        planned_start_date: utility.day(start),
        planned_end_date: utility.day(end),
        position: (start > 10).then_some(Position::Order(PhaseOrder::AfterPrevious.into())),
        overlap: overlap.into(),
    };
    request.schedule = Some(dates(10, 20, OverlapPolicy::Unspecified));
    let operation = ask(&client, request).await.unwrap();
    let first = metadata(&operation).resource;
    let campaign = first.split("/phases/").next().unwrap().to_owned();
    let add = async |schedule: pb::PhaseSchedule| {
        ask(&client, further(&utility, &campaign, schedule)).await
    };
    let shown = async || -> Vec<_> {
        let listed = phases(&client, &campaign).await;
        let days = listed.into_iter().map(|p| {
            [
                p.planned_start_date,
                p.planned_end_date,
                p.offer_valid_until_date,
            ]
        });
        days.collect()
    };
    let expected =
        |days: &[[i64; 3]]| -> Vec<_> { days.iter().map(|d| d.map(|d| utility.day(d))).collect() };

    let refused = add(dates(15, 25, OverlapPolicy::Unspecified)).await;
    refused::names(&refused.unwrap_err(), &["schedule.overlap"]);
    add(dates(15, 25, OverlapPolicy::Shift)).await.unwrap();
    assert_eq!(shown().await, expected(&[[10, 20, 30], [21, 31, 36]]));
    add(dates(28, 29, OverlapPolicy::Clip)).await.unwrap();
    assert_eq!(
        shown().await,
        expected(&[[10, 20, 30], [21, 27, 36], [28, 29, 30]])
    );
    // The first gets longer: what comes after it moves, and what comes after that.
    let longer = |end: i64, overlap: OverlapPolicy| pb::ReschedulePhaseRequest {
        name: first.clone(),
        planned_start_date: utility.day(10),
        planned_end_date: utility.day(end),
        overlap: overlap.into(),
        ..Default::default()
    };
    let refused = reschedule(&client, longer(22, OverlapPolicy::Unspecified)).await;
    refused::names(&refused.unwrap_err(), &["overlap"]);
    let moved = reschedule(&client, longer(22, OverlapPolicy::Shift)).await;
    assert_eq!(moved.unwrap().planned_end_date, utility.day(22));
    assert_eq!(
        shown().await,
        expected(&[[10, 22, 30], [23, 29, 38], [30, 31, 32]])
    );
    let again = reschedule(&client, longer(22, OverlapPolicy::Shift)).await;
    assert_eq!(again.unwrap().planned_end_date, utility.day(22));
    assert_eq!(
        shown().await,
        expected(&[[10, 22, 30], [23, 29, 38], [30, 31, 32]])
    );
    // Clipped, nothing would be left of it.
    let third = format!("{campaign}/phases/3");
    let request = pb::ReschedulePhaseRequest {
        name: third,
        planned_start_date: utility.day(23),
        planned_end_date: utility.day(31),
        overlap: OverlapPolicy::Clip.into(),
        ..Default::default()
    };
    refused::names(
        &reschedule(&client, request).await.unwrap_err(),
        &["overlap"],
    );
}

#[tokio::test]
async fn faults_of_a_schedule_are_named() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.offer_valid_until_date = utility.day(5);
    request.ending_within_days = -1;
    request.open_offers = 9;
    request.schedule = Some(pb::PhaseSchedule {
        planned_start_date: utility.day(6),
        planned_end_date: utility.day(-1),
        position: Some(Position::Order(PhaseOrder::AfterPrevious.into())),
        overlap: 7,
    });
    request.reaction = Some(pb::Reaction {
        phase: "campaigns/1/phases/1".into(),
        kind: 0,
        min_age_days: 4_000,
        reject_reasons: vec![99, 1],
        min_attempts: 101,
    });
    refused::names(
        &ask(&client, request).await.unwrap_err(),
        &[
            "schedule.planned_start_date",
            "schedule.planned_end_date",
            "schedule.planned_end_date",
            "schedule.order",
            "schedule.overlap",
            "ending_within_days",
            "open_offers",
            "reaction.phase",
            "reaction.kind",
            "reaction.min_age_days",
            "reaction.reject_reasons[0]",
            "reaction.reject_reasons",
            "reaction.min_attempts",
        ],
    );
    // Phases of others are no places.
    let (campaign, _) = planned(&client, &utility, 3).await;
    let (other, _) = planned(&client, &utility, 3).await;
    let beside = pb::PhaseSchedule {
        position: Some(Position::ParallelWith(format!("{other}/phases/1"))),
        ..Default::default()
    };
    let behind = pb::PhaseSchedule {
        position: Some(Position::After(pb::PhaseNames {
            phases: vec![format!("{campaign}/phases/2")],
        })),
        ..Default::default()
    };
    for (schedule, field) in [
        (beside, "schedule.parallel_with"),
        (behind, "schedule.after.phases[0]"),
    ] {
        let request = further(&utility, &campaign, schedule);
        refused::names(&ask(&client, request).await.unwrap_err(), &[field]);
    }
    let unknown = format!("{campaign}/phases/2");
    refused::not_found(&pause(&client, &unknown).await.unwrap_err());
    refused::names(&cancel(&client, "phases/1").await.unwrap_err(), &["name"]);
    assert_eq!(phases(&client, &campaign).await.len(), 1);
}

/// Offers without an answer keep a phase from being complete until its last planned day is over.
#[tokio::test]
async fn a_phase_ends_with_its_last_planned_day() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.schedule = Some(pb::PhaseSchedule {
        planned_end_date: utility.day(2),
        ..Default::default()
    });
    let first = launch(&client, request).await;
    let (campaign, name) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(&client, &campaign, 4).await;
    assert_eq!(phase(&client, &name).await.state(), PhaseState::Active);
    let longer = pb::ReschedulePhaseRequest {
        name: name.clone(),
        planned_start_date: utility.day(1),
        ..Default::default()
    };
    let status = reschedule(&client, longer).await.unwrap_err();
    refused::names(&status, &["planned_start_date"]);
    let sql = format!(
        "UPDATE phase SET end_date = '{}'::date - 1, started_at = started_at - interval '2 days'",
        utility.today
    );
    run_sql(&server, &sql).await;
    until_state(&client, &name, PhaseState::Completed).await;
    // Who comes late is still welcome.
    for offer in offers_of(&client, &campaign).await.into_values() {
        reject(&client, &offer.name).await;
    }
    let status = reschedule(
        &client,
        pb::ReschedulePhaseRequest {
            name,
            ..Default::default()
        },
    );
    refused::precondition(&status.await.unwrap_err(), "ILLEGAL_TRANSITION");
}
