//! From a launch by phone to the statement: who is called, what came of it, and that it adds up.

use std::collections::BTreeMap;

use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::handover::v1 as webhooks;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::orders::v1 as orders;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_proto::anklang::reach::v1 as reach;
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Client, TestServer};
use pb::{ExclusionReason, PhaseState};
use planning::{ClaimNextContactRequest, OutcomeClass, PlannedContactSource, PlannedContactState};
use prost::Message;

use super::{
    accept, by_phone, call, callable, contact, contact_figures, contacts, launch, number, rules,
};
use crate::campaigns::ask;
use crate::hold::Hold;
use crate::mailing::{TENANT, import};
use crate::phases::phase;
use crate::refused;
use crate::work_list::{self, asks, next, record, says};

async fn reach_of(client: &Client, campaign: &str) -> reach::ReachFigures {
    let request = reach::GetReachRequest {
        campaign: campaign.into(),
    };
    let statement = client.reach().get_reach(request).await.unwrap();
    let figures = statement.into_inner().total.unwrap();
    let sum = |counts: Vec<i64>| counts.into_iter().sum::<i64>();
    let excluded = sum(figures.excluded.iter().map(|e| e.count).collect());
    assert_eq!(figures.candidates, excluded + figures.members);
    let contacts = sum(figures.contacts.iter().map(|c| c.count).collect());
    let messages = sum(figures.messages.iter().map(|m| m.count).collect());
    let without = figures.without_message;
    assert_eq!(
        figures.members,
        messages + contacts + without,
        "{figures:?}"
    );
    figures
}

/// Members by state and reason of their contact.
async fn fates(client: &Client, campaign: &str) -> Vec<(PlannedContactState, String, i64)> {
    let figures = reach_of(client, campaign).await;
    let contacts = figures.contacts.into_iter();
    contacts.map(|c| (c.state(), c.reason, c.count)).collect()
}

fn spec() -> pb::PhoneSpec {
    pb::PhoneSpec {
        responsible: "roles/callcenter".into(),
        priority: 7,
        skills: vec!["energy".into()],
        valid_days: 3,
        note: "Neuer Tarif".into(),
        ..Default::default()
    }
}

/// Who asks as the call centre does.
fn agent(worker: &str) -> ClaimNextContactRequest {
    ClaimNextContactRequest {
        roles: vec!["roles/callcenter".into()],
        skills: vec!["energy".into()],
        ..asks(worker)
    }
}

/// Six customers: 0 with a phone, 1 with a mobile phone alone, 2 without number, 3 with a number that is
/// blocked as a mobile one, 4 without consent, 5 whose first number is blocked.
async fn six(server: &TestServer) -> Client {
    let client = crate::mailing::tenant(server, 6).await;
    let points = format!(
        "customer_number,channel,address,position\n0000,phone,{},1\n0001,mobile,+491715550001,1\n\
         0003,phone,{},1\n0004,phone,{},1\n0005,phone,{},1\n0005,phone,+4964199999,2\n",
        number(0),
        number(3),
        number(4),
        number(5)
    );
    import(&client, ImportEntity::ContactPoints, points).await;
    let mut consents = "customer_number,channel,purpose,state,recorded_at\n".to_owned();
    for i in [0, 1, 2, 3, 5] {
        consents += &format!("{i:04},phone,marketing,granted,2025-05-01T10:00:00Z\n");
    }
    import(&client, ImportEntity::Consents, consents).await;
    let blocked = format!(
        "channel,address\nmobile,{}\nphone,{}\n",
        number(3),
        number(5)
    );
    import(&client, ImportEntity::Suppressions, blocked).await;
    client
}

#[tokio::test]
async fn from_a_launch_by_phone_to_the_statement() {
    let server = TestServer::start().await.unwrap();
    let client = six(&server).await;
    let (campaign, phase) = launch(&client, by_phone(spec())).await;
    let outbound = &phase.outbounds[0];
    assert_eq!(
        (&outbound.channel[..], &outbound.phone),
        ("phone", &Some(spec()))
    );
    assert_eq!(
        (
            &outbound.channel_account[..],
            &outbound.message_template[..]
        ),
        ("", "")
    );

    let out: BTreeMap<_, _> = reach_of(&client, &campaign)
        .await
        .excluded
        .iter()
        .map(|e| (e.reason(), e.count))
        .collect();
    let expected = [
        (ExclusionReason::NoAddress, 1),
        (ExclusionReason::Suppressed, 1),
        (ExclusionReason::NoConsent, 1),
    ];
    assert_eq!(out, expected.into());
    let planned = contacts(&client, &phase.name).await;
    let phones: Vec<(usize, &str)> = planned.iter().map(|(i, c)| (*i, &c.phone[..])).collect();
    let own = number(0);
    assert_eq!(
        phones,
        [(0, &own[..]), (1, "+491715550001"), (5, "+4964199999")]
    );
    for (i, c) in &planned {
        assert_eq!(c.state(), PlannedContactState::Open);
        assert_eq!(c.source(), PlannedContactSource::Campaign);
        assert_eq!((&c.phase, &c.operation), (&phase.name, &phase.operation));
        assert_eq!(c.contract, format!("contracts/V{i:04}"));
        assert!(c.offer.starts_with("offers/"), "{c:?}");
        assert_eq!(
            (&c.responsible[..], c.priority, &c.note[..]),
            ("roles/callcenter", 7, "Neuer Tarif")
        );
        assert_eq!(c.skills, ["energy"]);
        // The third day begins 48 hours, more or less one of the clock, before the end.
        let days = c.expire_time.unwrap().seconds - c.window_start_time.unwrap().seconds;
        assert!((71 * 3_600..=73 * 3_600).contains(&days), "{c:?}");
    }

    // Nobody else gets them.
    assert_eq!(next(&client, asks("zoe")).await, None);
    let first = next(&client, agent("anna")).await.unwrap();
    let claimed = work_list::contact(&first);
    assert_eq!(claimed.state(), PlannedContactState::Claimed);
    // On the phone the customer accepts: whoever is at it stays at it.
    accept(&client, &claimed.offer).await;
    let done = record(&client, says(&first, OutcomeClass::Done))
        .await
        .unwrap();
    assert_eq!(
        done.planned_contact.unwrap().state(),
        PlannedContactState::Done
    );
    for class in [OutcomeClass::NotReached, OutcomeClass::Cancelled] {
        let claimed = next(&client, agent("anna")).await.unwrap();
        record(&client, says(&claimed, class)).await.unwrap();
    }
    assert_eq!(next(&client, agent("anna")).await, None);

    let f = contact_figures(&client, &campaign).await;
    assert_eq!((f.planned, f.done, f.waiting, f.cancelled), (3, 1, 1, 1));
    assert_eq!((f.reached, f.not_reached, f.orders_taken), (1, 2, 0));
    assert_eq!(
        fates(&client, &campaign).await,
        [
            (PlannedContactState::Cancelled, "cancelled".into(), 1),
            (PlannedContactState::Done, "done".into(), 1),
            (PlannedContactState::Waiting, "not_reached".into(), 1),
        ]
    );
    one_by_one(&client, &campaign, &phase.name).await;
}

/// The same in the export, on the days of the infoboard, and for a customer.
async fn one_by_one(client: &Client, campaign: &str, phase: &str) {
    let request = reach::ExportReachRequest {
        campaign: campaign.into(),
        cursor: String::new(),
    };
    let mut stream = client
        .reach()
        .export_reach(request)
        .await
        .unwrap()
        .into_inner();
    let mut csv = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        csv.extend(part.csv);
    }
    let mut reader = csv::Reader::from_reader(&csv[..]);
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let mut states: Vec<&str> = rows.iter().map(|row| &row["state"][..]).collect();
    states.sort_unstable();
    let called = ["contact_cancelled", "contact_done", "contact_waiting"];
    assert_eq!(states, [&called[..], &["excluded"; 3]].concat());
    let planned = contacts(client, phase).await;
    for row in rows.iter().filter(|row| row["state"] != "excluded") {
        let named = planned.values().find(|c| c.name == row["planned_contact"]);
        let named = named.unwrap_or_else(|| panic!("{row:?}"));
        assert_eq!((&row["channel"][..], &row["attempts"][..]), ("phone", "1"));
        assert_eq!(row["customer"], named.customer);
        assert_eq!(row["address_hash"].len(), 64);
        assert_eq!((&row["message"][..], &row["send_time"][..]), ("", ""));
    }

    let request = pb::GetInfoboardRequest {
        name: campaign.into(),
    };
    let board = client.campaigns().get_infoboard(request).await.unwrap();
    let days = board.into_inner().days;
    let calls = |of: fn(&pb::DayFigures) -> i64| days.iter().map(of).sum::<i64>();
    assert_eq!(
        (calls(|d| d.calls_made), calls(|d| d.calls_reached)),
        (3, 1)
    );

    let waiting = planned
        .values()
        .find(|c| c.state() == PlannedContactState::Waiting);
    let waiting = waiting.unwrap();
    let request = reach::ExplainCustomerRequest {
        customer: waiting.customer.clone(),
        campaign: campaign.into(),
    };
    let explained = client.reach().explain_customer(request).await.unwrap();
    let [candidacy] = &explained.into_inner().candidacies[..] else {
        panic!("one candidacy");
    };
    assert_eq!(candidacy.planned_contact, waiting.name);
    assert_eq!(
        candidacy.planned_contact_state(),
        PlannedContactState::Waiting
    );
    assert_eq!(candidacy.planned_contact_reason, "not_reached");
    assert_eq!(candidacy.next_attempt_time, waiting.next_contact_time);
    assert_eq!(
        (&candidacy.message[..], &candidacy.message_reason[..]),
        ("", "")
    );
}

/// The number of the launch counts as long as the customer has it.
#[tokio::test]
async fn who_has_another_number_by_now_is_called_by_that() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 3).await;
    let (_, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    let new = "+491715550007";
    let sql = format!(
        "UPDATE contact_point SET address = '{new}' WHERE address = '{}';
         DELETE FROM contact_point WHERE address = '{}'",
        number(1),
        number(2)
    );
    crate::phases::run_sql(&server, &sql).await;
    let own = number(0);
    for (customer, expected) in [(0, &own[..]), (1, new), (2, "")] {
        let now = contact(&client, &planned[&customer].name).await;
        assert_eq!(now.phone, expected);
    }
    // And so is looked up whether it is blocked.
    let blocked = format!("channel,address\nphone,{new}\nphone,{}\n", number(2));
    import(&client, ImportEntity::Suppressions, blocked).await;
    let status = work_list::claim(&client, &planned[&1].name, "anna").await;
    let (_, why) = refused::precondition(&status.unwrap_err(), "PRECONDITION");
    assert!(why.contains("blocked"), "{why}");
    let claimed = work_list::claim(&client, &planned[&2].name, "anna").await;
    claimed.unwrap();
}

/// Contacts with an order count as such, until the ERP rejects it.
#[tokio::test]
async fn orders_of_a_campaign_are_counted_and_told() {
    let server = TestServer::start_with(anklang_testkit::Options {
        config: crate::handover::QUICK.into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = callable(&server, 2).await;
    let (campaign, phase) = launch(&client, by_phone(pb::PhoneSpec::default())).await;
    let planned = contacts(&client, &phase.name).await;
    let receiver = Receiver::start().await;
    let request = webhooks::CreateWebhookRequest {
        webhook: Some(webhooks::Webhook {
            display_name: "ERP".into(),
            url: receiver.url("/erp"),
            event_types: vec!["anklang.order.taken.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    client.webhooks().create_webhook(request).await.unwrap();
    let mut made = Vec::new();
    for customer in [0, 1] {
        let claimed = work_list::claim(&client, &planned[&customer].name, "anna")
            .await
            .unwrap();
        made.push(work_list::order(&client, &claimed).await);
    }
    assert_eq!(contact_figures(&client, &campaign).await.orders_taken, 2);
    let reject = orders::AcknowledgeOrderRequest {
        name: made[1].name.clone(),
        state: orders::OrderState::Rejected.into(),
        reject_reason: "leer".into(),
        ..Default::default()
    };
    client.orders().acknowledge_order(reject).await.unwrap();
    assert_eq!(contact_figures(&client, &campaign).await.orders_taken, 1);
    crate::mailing::until("both are told", async || receiver.calls().len() == 2).await;
    let data = receiver.calls()[0].event()["data"].clone();
    assert_eq!(data["campaign"], campaign);
    assert_eq!(data["phase"], 1);
    let is_told = |c: &planning::PlannedContact| data["offer"] == c.offer.replace("offers/", "");
    assert!(planned.values().any(is_told), "{data}");
}

#[tokio::test]
async fn contacts_go_by_the_rules_and_hours_of_a_plan() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 2).await;
    let plan = rules(&client).await;
    let spec = pb::PhoneSpec {
        contact_plan: plan.clone(),
        earliest_time: "00:00".into(),
        latest_time: "23:58".into(),
        ..Default::default()
    };
    let (campaign, phase) = launch(&client, by_phone(spec)).await;
    let planned = contacts(&client, &phase.name).await;
    for c in planned.values() {
        assert_eq!(
            (&c.contact_plan, &c.responsible[..]),
            (&plan, "roles/callcenter")
        );
        let (from, to) = (c.window_start_time.unwrap(), c.window_end_time.unwrap());
        let minutes = (to.seconds - from.seconds) / 60;
        assert!([1_379, 1_439, 1_499].contains(&minutes), "{c:?}");
    }
    // One attempt is all that the plan permits.
    let called = call(&client, &planned[&0].name, OutcomeClass::NotReached).await;
    assert_eq!(called.state(), PlannedContactState::GivenUp);
    let called = call(&client, &planned[&1].name, OutcomeClass::Busy).await;
    assert_eq!(called.state(), PlannedContactState::Waiting);
    let f = contact_figures(&client, &campaign).await;
    assert_eq!((f.given_up, f.waiting, f.not_reached), (1, 1, 2));

    let request = planning::DeleteContactPlanRequest {
        name: plan,
        ..Default::default()
    };
    let status = client.plans().delete_contact_plan(request).await;
    let (_, why) = refused::precondition(&status.unwrap_err(), "PRECONDITION");
    assert!(why.contains("1 outbounds"), "{why}");
}

#[tokio::test]
async fn all_that_is_wrong_with_calls_is_told_at_once() {
    let server = TestServer::start().await.unwrap();
    let client = callable(&server, 1).await;
    let mut request = by_phone(pb::PhoneSpec {
        contact_plan: "contactPlans/NONE".into(),
        responsible: "teams/a".into(),
        earliest_time: "9".into(),
        latest_time: "24:00".into(),
        priority: 1_001,
        skills: vec![String::new()],
        valid_days: 367,
        note: "x".repeat(2_001),
    });
    let outbound = request.outbound.as_mut().unwrap();
    outbound.channel_account = "channelAccounts/mail".into();
    outbound.channel_route = "channelRoutes/r".into();
    outbound.message_template = "offer_mail".into();
    let fields = [
        "outbound.channel_account",
        "outbound.channel_route",
        "outbound.message_template",
        "outbound.phone.contact_plan",
        "outbound.phone.responsible",
        "outbound.phone.earliest_time",
        "outbound.phone.latest_time",
        "outbound.phone.priority",
        "outbound.phone.skills[0]",
        "outbound.phone.valid_days",
        "outbound.phone.note",
    ];
    refused::names(&ask(&client, request).await.unwrap_err(), &fields);

    let spec = pb::PhoneSpec {
        earliest_time: "10:00".into(),
        latest_time: "09:59".into(),
        ..Default::default()
    };
    let status = ask(&client, by_phone(spec)).await.unwrap_err();
    refused::names(&status, &["outbound.phone.latest_time"]);
    // Attempts are those of calls.
    let (_, mailed) = launch(&client, super::by_mail()).await;
    let mut request = super::after(super::by_mail(), &mailed.name, pb::ReactionKind::NotReached);
    request.reaction.as_mut().unwrap().min_attempts = 1;
    let status = ask(&client, request.clone()).await.unwrap_err();
    refused::names(&status, &["reaction.min_attempts"]);
    request.reaction.as_mut().unwrap().kind = pb::ReactionKind::Accepted.into();
    let status = ask(&client, request).await.unwrap_err();
    refused::names(&status, &["reaction.min_attempts"]);
}

#[tokio::test]
async fn a_dry_run_by_phone_plans_nothing() {
    let server = TestServer::start().await.unwrap();
    let client = six(&server).await;
    let request = pb::DryRunLaunchRequest {
        launch: Some(by_phone(spec())),
        ..Default::default()
    };
    let operation = client.dry_runs().dry_run_launch(request).await.unwrap();
    let over = client.finished(operation.get_ref()).await.unwrap();
    let Some(anklang_proto::google::longrunning::operation::Result::Response(any)) = over.result
    else {
        panic!("the dry run did not succeed: {over:?}");
    };
    let outcome = pb::DryRunLaunchResponse::decode(&any.value[..]).unwrap();
    assert_eq!((outcome.candidates, outcome.members), (6, 3));
    assert_eq!((outcome.message_cost, outcome.send_end_time), (None, None));
    assert_eq!(outcome.messages_per_minute, 0.0);
    let none = server
        .database
        .one("SELECT count(*) FROM planned_contact")
        .await;
    assert_eq!(none.unwrap(), "0");
}

/// The server is killed while the second chunk of contacts is written.
#[tokio::test]
async fn a_launch_by_phone_survives_a_kill_and_plans_nobody_twice() {
    const MEMBERS: usize = 5_020;
    let mut server = TestServer::start_with(anklang_testkit::Options {
        lease_seconds: 1,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = callable(&server, MEMBERS).await;
    let hold = Hold::inserts(&server, "planned_contact", "NEW.member_seq = 5010").await;
    let operation = ask(&client, by_phone(pb::PhoneSpec::default()))
        .await
        .unwrap();
    hold.reached().await;
    let count = "SELECT count(*) FROM planned_contact";
    assert_eq!(server.database.one(count).await.unwrap(), "5000");
    server.restart().await.unwrap();
    hold.release().await;
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    let over = crate::mailing::over(&client, &operation.name).await;
    let response = crate::mailing::launched(&over);
    assert_eq!(response.members, 5_020);
    let members = "SELECT count(*) || ' ' || count(DISTINCT (outbound_id, member_seq)) || ' '
                       || count(DISTINCT offer_id) FROM planned_contact WHERE state = 'open'";
    assert_eq!(
        server.database.one(members).await.unwrap(),
        "5020 5020 5020"
    );
    let attempts = "SELECT attempt > 1 FROM operation WHERE kind = 'LaunchCampaign'";
    assert_eq!(server.database.one(attempts).await.unwrap(), "t");
    let campaign = response.campaign.unwrap().name;
    let f = contact_figures(&client, &campaign).await;
    assert_eq!((f.planned, f.open), (5_020, 5_020));
    let active = phase(&client, &response.phase.unwrap().name).await;
    assert_eq!(active.state(), PhaseState::Active);
}

/// What nobody got to in its days is given up, and a customer cannot ask for a call after them.
#[tokio::test]
async fn contacts_end_with_their_days() {
    let mut server = TestServer::start().await.unwrap();
    let client = callable(&server, 3).await;
    let spec = pb::PhoneSpec {
        valid_days: 2,
        ..Default::default()
    };
    let (campaign, phase) = launch(&client, by_phone(spec)).await;
    let planned = contacts(&client, &phase.name).await;
    let claimed = work_list::claim(&client, &planned[&0].name, "anna")
        .await
        .unwrap();
    let mut later = says(&claimed, OutcomeClass::CallLater);
    later.call_later_time = planned[&0].expire_time;
    let status = record(&client, later.clone()).await.unwrap_err();
    refused::names(&status, &["call_later_time"]);
    later.call_later_time.as_mut().unwrap().seconds -= 60;
    record(&client, later).await.unwrap();
    call(&client, &planned[&1].name, OutcomeClass::NotReached).await;

    let sql = "UPDATE planned_contact SET ends_at = now()";
    crate::phases::run_sql(&server, sql).await;
    assert_eq!(next(&client, asks("anna")).await, None);
    let status = work_list::claim(&client, &planned[&2].name, "anna")
        .await
        .unwrap_err();
    let (_, why) = refused::precondition(&status, "PRECONDITION");
    assert!(why.contains("its last day is over"), "{why}");

    // A server looks when it starts.
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    crate::mailing::until("all are given up", async || {
        contact_figures(&client, &campaign).await.given_up == 3
    })
    .await;
    let reasons: Vec<String> = fates(&client, &campaign)
        .await
        .into_iter()
        .map(|f| f.1)
        .collect();
    assert_eq!(reasons, ["its days are over", "nobody called in its days"]);
    let given_up = contact(&client, &planned[&2].name).await;
    assert_eq!(
        (given_up.attempt_count, given_up.next_contact_time),
        (0, None)
    );
    let told = "SELECT count(*) FROM customer_event WHERE kind = 'contact.given_up'";
    assert_eq!(server.database.one(told).await.unwrap(), "3");
}
