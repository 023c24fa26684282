//! Dry runs: what a launch would do, and that nothing is done.

use std::collections::BTreeMap;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::offers::v1::OpenOfferPolicy;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Money;
use anklang_testkit::{Client, Options, TestServer};
use chrono::{DateTime, Utc};
use chrono_tz::Europe::Berlin;
use pb::ExclusionReason;
use prost::Message;
use tonic::{Code, Status};

use crate::campaigns::cancel;
use crate::hold::Hold;
use crate::refused;
use crate::utility::{
    ACCOUNT, Case, EVERY_CASE, FEW, Utility, figures, launch, offers_of, until_sent, with_utility,
};

fn of(launch: pb::LaunchCampaignRequest) -> pb::DryRunLaunchRequest {
    pb::DryRunLaunchRequest {
        launch: Some(launch),
        ..Default::default()
    }
}

async fn ask(client: &Client, request: pb::DryRunLaunchRequest) -> Result<lro::Operation, Status> {
    let answer = client.dry_runs().dry_run_launch(request).await?;
    Ok(answer.into_inner())
}

fn outcome(operation: &lro::Operation) -> pb::DryRunLaunchResponse {
    let Some(lro::operation::Result::Response(any)) = &operation.result else {
        panic!("the dry run did not succeed: {operation:?}");
    };
    assert!(any.type_url.ends_with("DryRunLaunchResponse"));
    pb::DryRunLaunchResponse::decode(&any.value[..]).unwrap()
}

/// Runs it dry, until it is over.
pub async fn dry_run(
    client: &Client,
    request: pb::DryRunLaunchRequest,
) -> (String, pb::DryRunLaunchResponse) {
    let operation = ask(client, request).await.unwrap();
    let over = client.finished(&operation).await.unwrap();
    (operation.name, outcome(&over))
}

async fn candidates(client: &Client, name: &str) -> Result<Vec<pb::DryRunCandidate>, Status> {
    let request = pb::ListDryRunCandidatesRequest {
        parent: name.into(),
        page_size: 1_000,
        ..Default::default()
    };
    let listed = client.dry_runs().list_dry_run_candidates(request).await?;
    Ok(listed.into_inner().candidates)
}

fn left_out(figures: &[pb::ExclusionFigure]) -> BTreeMap<ExclusionReason, i64> {
    figures.iter().map(|f| (f.reason(), f.count)).collect()
}

fn time(time: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let time = time.unwrap();
    DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).unwrap()).unwrap()
}

/// Everything that a launch makes.
async fn made(server: &TestServer) -> String {
    let count = |table| format!("(SELECT count(*) FROM {table})");
    let tables = [
        "campaign",
        "phase",
        "audience",
        "audience_member",
        "offer",
        "document",
        "message",
        "customer_event",
        "handover_event",
        "number_range",
    ];
    let counts = tables.map(count).join(", ");
    let sql = format!("SELECT concat_ws(' ', {counts})");
    server.database.one(&sql).await.unwrap()
}

#[tokio::test]
async fn it_says_what_the_launch_then_does() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, EVERY_CASE).await;
    let before = made(&server).await;
    let (name, told) = dry_run(&client, of(utility.launch())).await;
    assert_eq!(made(&server).await, before, "nothing is made");
    let listed = candidates(&client, &name).await.unwrap();

    // Only now it is done.
    let done = launch(&client, utility.launch()).await;
    let campaign = done.campaign.unwrap().name;
    assert_eq!(
        (told.candidates, told.members),
        (done.candidates, done.members)
    );
    assert_eq!(told.documents, done.members);
    let board = figures(&client, &campaign).await.audience.unwrap();
    assert_eq!(left_out(&told.exclusions), left_out(&board.excluded));
    let offers = offers_of(&client, &campaign).await;
    let amount = |m: &Option<Money>| {
        let m = m.as_ref().unwrap();
        assert_eq!(m.currency_code, "EUR");
        i128::from(m.units) * 1_000_000_000 + i128::from(m.nanos)
    };
    let sum: i128 = offers.values().map(|o| amount(&o.annual_amount)).sum();
    let all = told.annual_amounts.first().cloned();
    assert_eq!((told.annual_amounts.len(), amount(&all)), (1, sum));
    // One by one.
    assert_eq!(i64::try_from(listed.len()).unwrap(), told.candidates);
    let excluded = utility.excluded();
    for candidate in &listed {
        let offer = offers.get(&candidate.contract);
        assert_eq!(
            candidate.annual_amount,
            offer.and_then(|o| o.annual_amount.clone()),
            "{candidate:?}"
        );
        assert_eq!(
            candidate.address.is_empty(),
            offer.is_none(),
            "{candidate:?}"
        );
        let reason = excluded.get(&candidate.contract).copied();
        assert_eq!(candidate.exclusion_reason(), reason.unwrap_or_default());
    }
    let request = pb::ListDryRunCandidatesRequest {
        parent: name,
        filter: "exclusion_reason = NO_CONSENT".into(),
        ..Default::default()
    };
    let filtered = client.dry_runs().list_dry_run_candidates(request).await;
    let filtered = filtered.unwrap().into_inner().candidates;
    let wanted: Vec<_> = listed
        .iter()
        .filter(|c| c.exclusion_reason() == ExclusionReason::NoConsent)
        .collect();
    assert!(filtered.iter().eq(wanted) && !filtered.is_empty());
}

/// Contracts end and offers expire by then; what was planned is looked at as of its day.
#[tokio::test]
async fn as_of_a_later_day() {
    let server = TestServer::start().await.unwrap();
    let cases = [(Case::Plain, 2), (Case::EndsLater, 1)];
    let (client, utility) = with_utility(&server, &cases).await;
    let first = launch(&client, utility.launch())
        .await
        .campaign
        .unwrap()
        .name;
    until_sent(&client, &first, 3).await;

    let mut blocked = utility.launch();
    blocked.open_offers = OpenOfferPolicy::Block.into();
    let (_, today) = dry_run(&client, of(blocked.clone())).await;
    let open = BTreeMap::from([(ExclusionReason::OpenOffer, 3)]);
    assert_eq!((today.members, left_out(&today.exclusions)), (0, open));
    assert_eq!((today.send_end_time, today.superseded_offers), (None, 0));
    let mut instead = utility.launch();
    instead.open_offers = OpenOfferPolicy::Supersede.into();
    let (_, superseding) = dry_run(&client, of(instead)).await;
    assert_eq!((superseding.members, superseding.superseded_offers), (3, 3));

    // The offers of the first are valid for 30 days; the one contract ends after 90.
    let mut later = blocked;
    later.offer_valid_until_date = utility.day(120);
    for (days, members, ended) in [(30, 0, 0), (31, 3, 0), (89, 3, 0), (90, 2, 1)] {
        let request = pb::DryRunLaunchRequest {
            as_of_date: utility.day(days),
            ..of(later.clone())
        };
        let (_, told) = dry_run(&client, request).await;
        let reasons = left_out(&told.exclusions);
        let found = reasons.get(&ExclusionReason::ContractEnded).copied();
        assert_eq!(
            (told.members, found.unwrap_or(0)),
            (members, ended),
            "{days}"
        );
        assert_eq!(told.as_of_date, utility.day(days));
        let begins = time(told.send_start_time)
            .with_timezone(&Berlin)
            .naive_local();
        assert_eq!(
            begins.to_string(),
            format!("{} 00:00:00", utility.today + chrono::TimeDelta::days(days))
        );
    }
    later.schedule = Some(pb::PhaseSchedule {
        planned_start_date: utility.day(90),
        ..Default::default()
    });
    let (_, planned) = dry_run(&client, of(later)).await;
    assert_eq!((planned.as_of_date, planned.members), (utility.day(90), 2));
}

/// Cost, and when the last message goes out.
#[tokio::test]
async fn what_it_costs_and_how_long_it_takes() {
    let server = TestServer::start_with(Options {
        account: "rate = '2/hour'\ndays = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun']\n\
                  cost_per_message = '0.0150 EUR'"
            .into(),
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let get = channels::GetChannelAccountRequest {
        name: ACCOUNT.into(),
    };
    let account = client.channels().get_channel_account(get).await.unwrap();
    let each = account.into_inner().cost_per_message.unwrap();
    assert_eq!((each.units, each.nanos), (0, 15_000_000));
    let (_, told) = dry_run(&client, of(utility.launch())).await;
    let cost = told.message_cost.clone().unwrap();
    assert_eq!(
        (cost.units, cost.nanos, &cost.currency_code[..]),
        (0, 60_000_000, "EUR")
    );
    assert_eq!(
        (told.messages_before, told.messages_per_minute),
        (0, 2.0 / 60.0)
    );
    let takes = |told: &pb::DryRunLaunchResponse| {
        let span = time(told.send_end_time) - time(told.send_start_time);
        span.num_minutes()
    };
    assert_eq!(takes(&told), 120);

    // What waits goes first.
    launch(&client, utility.launch()).await;
    let mut again = utility.launch();
    again.open_offers = OpenOfferPolicy::Allow.into();
    let (_, told) = dry_run(&client, of(again)).await;
    assert_eq!((told.messages_before, takes(&told)), (4, 120));
    let waits = time(told.send_start_time) - Utc::now();
    assert!((100..=120).contains(&waits.num_minutes()), "{waits}");
}

/// Nothing is sent before all letters are made, 50 a second by a thread.
#[tokio::test]
async fn letters_take_their_time() {
    let server = TestServer::start_with(Options {
        documents: "threads = 1".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 100)]).await;
    let mut request = pb::DryRunLaunchRequest {
        as_of_date: utility.day(1),
        ..of(utility.launch())
    };
    for (without_document, documents, begins) in [(false, 100, "00:00:02"), (true, 0, "00:00:00")] {
        let outbound = request.launch.as_mut().unwrap().outbound.as_mut();
        outbound.unwrap().without_document = without_document;
        let (_, told) = dry_run(&client, request.clone()).await;
        let start = time(told.send_start_time).with_timezone(&Berlin);
        assert_eq!(
            (told.documents, &start.time().to_string()[..]),
            (documents, begins)
        );
    }
}

#[tokio::test]
async fn every_fault_of_a_dry_run_is_named() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let status = ask(&client, Default::default()).await.unwrap_err();
    refused::names(&status, &["launch"]);
    let mut launch = utility.launch();
    launch.target_product_version = "products/none/versions/none".into();
    launch.offer_valid_until_date = utility.day(-1);
    let wrong = pb::DryRunLaunchRequest {
        as_of_date: utility.day(-1),
        request_id: "1".into(),
        ..of(launch)
    };
    let status = ask(&client, wrong).await.unwrap_err();
    refused::names(
        &status,
        &["as_of_date", "request_id", "launch.target_product_version"],
    );
    let far = pb::DryRunLaunchRequest {
        as_of_date: utility.day(800),
        ..of(utility.launch())
    };
    // The offers would have to be valid until a day that is over by then.
    let status = ask(&client, far).await.unwrap_err();
    refused::names(&status, &["as_of_date", "launch.offer_valid_until_date"]);
    for (name, code) in [
        ("operations/x", Code::InvalidArgument),
        (
            "operations/0190d0a0-0000-7000-8000-000000000000",
            Code::NotFound,
        ),
    ] {
        let status = candidates(&client, name).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    // A launch is no dry run.
    let launched = launch_operation(&client, &utility).await;
    let status = candidates(&client, &launched).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

async fn launch_operation(client: &Client, utility: &Utility) -> String {
    launch(client, utility.launch())
        .await
        .phase
        .unwrap()
        .operation
}

/// Killed while it looks, taken up by the next server; asked for once, done once, then forgotten.
#[tokio::test]
async fn a_killed_server_begins_its_dry_run_again() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "dry_run_candidate", "true").await;
    let request = pb::DryRunLaunchRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        ..of(utility.launch())
    };
    let operation = ask(&client, request.clone()).await.unwrap();
    hold.reached().await;
    server.restart().await.unwrap();
    hold.release().await;
    let client = server.client("linden").await.unwrap();
    let over = client.finished(&operation).await.unwrap();
    assert_eq!(outcome(&over).members, 4);
    let listed = candidates(&client, &operation.name).await.unwrap();
    assert_eq!(listed.iter().filter(|c| c.exclusion_reason == 0).count(), 4);
    let again = ask(&client, request).await.unwrap();
    assert_eq!(again.name, operation.name);

    let delete = lro::DeleteOperationRequest {
        name: operation.name.clone(),
    };
    client.operations().delete_operation(delete).await.unwrap();
    let status = candidates(&client, &operation.name).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let rows = "SELECT count(*) FROM dry_run_candidate";
    assert_eq!(server.database.one(rows).await.unwrap(), "0");
}

#[tokio::test]
async fn a_cancelled_dry_run_leaves_nothing_behind() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "dry_run_candidate", "true").await;
    let operation = ask(&client, of(utility.launch())).await.unwrap();
    hold.reached().await;
    cancel(&client, &operation.name).await.unwrap();
    hold.release().await;
    let over = client.finished(&operation).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = over.result else {
        panic!("{over:?}");
    };
    assert_eq!(error.code, i32::from(Code::Cancelled));
    // A dry run is no launch: none was cancelled.
    assert_eq!(
        server
            .database
            .one("SELECT count(*) FROM phase")
            .await
            .unwrap(),
        "0"
    );
}
