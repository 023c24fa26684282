//! What comes of contacts: when they are due again, and when they are over.

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::planning::v1::{self as pb, OutcomeClass, PlannedContactState};
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Client, Options, TestServer};
use chrono::{Datelike, Days, NaiveDate, TimeDelta, Utc, Weekday};
use serde_json::json;

use super::{
    asks, claim, contact, create, desk, due, next, next_customer, plan, record, rules, says, sql,
    time, timestamp,
};
use crate::refused;

/// Makes the contacts that wait due.
const WAITED: &str = "UPDATE planned_contact SET next_at = now() WHERE state = 'waiting'";

async fn of_plan(client: &Client, customer: &str, plan: &str) -> pb::PlannedContact {
    let contact = pb::NewPlannedContact {
        contact_plan: format!("contactPlans/{plan}"),
        ..due(customer)
    };
    create(client, contact).await
}

async fn attempts(client: &Client, name: &str) -> Vec<pb::ContactAttempt> {
    let request = pb::ListContactAttemptsRequest {
        parent: name.into(),
        ..Default::default()
    };
    let listed = client.work_list().list_contact_attempts(request).await;
    listed.unwrap().into_inner().contact_attempts
}

/// Lines about contacts in a customer's history, the newest first.
async fn history(client: &Client, customer: &str) -> Vec<String> {
    let request = customers::ListCustomerEventsRequest {
        parent: format!("customers/{customer}"),
        ..Default::default()
    };
    let listed = client
        .customers()
        .list_customer_events(request)
        .await
        .unwrap();
    let kinds = listed
        .into_inner()
        .customer_events
        .into_iter()
        .map(|e| e.kind);
    kinds.filter(|kind| kind.starts_with("contact.")).collect()
}

#[tokio::test]
async fn outcomes_lead_to_the_next_attempt_until_it_is_given_up() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    plan(&server, "NORD", "", &rules(45, 3, &json!("close"))).await;
    let made = of_plan(&client, "K1", "NORD").await;
    for attempt in 1..=3 {
        let claimed = next(&client, asks("anna")).await.unwrap();
        assert_eq!(contact(&claimed).name, made.name);
        let said = pb::RecordOutcomeRequest {
            note: format!("Versuch {attempt}"),
            talk_time: Some(prost_types::Duration {
                seconds: attempt,
                nanos: 0,
            }),
            ..says(&claimed, OutcomeClass::NotReached)
        };
        let before = Utc::now();
        let now = record(&client, said)
            .await
            .unwrap()
            .planned_contact
            .unwrap();
        assert_eq!(i64::from(now.attempt_count), attempt);
        assert_eq!(now.outcome_class(), OutcomeClass::NotReached);
        assert!(now.worked_on && now.claimed_by.is_empty());
        if attempt == 3 {
            assert_eq!(now.state(), PlannedContactState::GivenUp);
            assert_eq!(now.next_contact_time, None);
            break;
        }
        assert_eq!(now.state(), PlannedContactState::Waiting);
        let wait = time(now.next_contact_time.as_ref()) - before;
        let minutes = TimeDelta::minutes(45)..TimeDelta::minutes(47);
        assert!(minutes.contains(&wait), "{wait}");
        assert_eq!(next_customer(&client, asks("anna")).await, "-");
        sql(&server, WAITED).await;
    }
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let told = attempts(&client, &made.name).await;
    let numbers: Vec<_> = told.iter().map(|a| (a.attempt, &a.note[..])).collect();
    assert_eq!(
        numbers,
        [(1, "Versuch 1"), (2, "Versuch 2"), (3, "Versuch 3")]
    );
    assert!(told.iter().all(|a| a.worker == "users/anna"));
    assert_eq!(told[2].talk_time.unwrap().seconds, 3);
    assert_eq!(history(&client, "K1").await, ["contact.not_reached"; 3]);
}

#[tokio::test]
async fn what_is_final_stays_so() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for (class, state) in [
        (OutcomeClass::Done, PlannedContactState::Done),
        (OutcomeClass::OrderTaken, PlannedContactState::Done),
        (OutcomeClass::Cancelled, PlannedContactState::Cancelled),
    ] {
        create(&client, due("K1")).await;
        let claimed = next(&client, asks("anna")).await.unwrap();
        let said = pb::RecordOutcomeRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            ..says(&claimed, class)
        };
        let first = record(&client, said.clone()).await.unwrap();
        assert_eq!(first.planned_contact.as_ref().unwrap().state(), state);
        // The same again is answered the same, something else is refused.
        assert_eq!(record(&client, said).await.unwrap(), first);
        for other in [class, OutcomeClass::Busy] {
            let status = record(&client, says(&claimed, other)).await.unwrap_err();
            let (_, why) = refused::precondition(&status, "PRECONDITION");
            assert!(why.starts_with("it is over"), "{why}");
        }
        let name = &contact(&claimed).name;
        refused::precondition(
            &claim(&client, name, "bert").await.unwrap_err(),
            "PRECONDITION",
        );
        assert_eq!(attempts(&client, name).await.len(), 1);
    }
}

#[tokio::test]
async fn of_many_who_say_something_at_once_one_is_believed() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    create(&client, due("K1")).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    let classes = [
        OutcomeClass::Done,
        OutcomeClass::Busy,
        OutcomeClass::OrderTaken,
    ];
    let saying: Vec<_> = classes
        .iter()
        .cycle()
        .take(9)
        .map(|class| {
            let (client, said) = (client.clone(), says(&claimed, *class));
            tokio::spawn(async move { record(&client, said).await })
        })
        .collect();
    let mut believed = 0;
    for said in saying {
        match said.await.unwrap() {
            Ok(_) => believed += 1,
            Err(status) => drop(refused::precondition(&status, "PRECONDITION")),
        }
    }
    assert_eq!(believed, 1);
    assert_eq!(attempts(&client, &contact(&claimed).name).await.len(), 1);
    assert_eq!(history(&client, "K1").await.len(), 1);
}

/// The Sunday of the next spring on which clocks in Berlin leave out the hour from two to three.
fn clocks_go_forward() -> NaiveDate {
    let today = Utc::now().date_naive();
    let last_sunday = |year| {
        let day = NaiveDate::from_ymd_opt(year, 3, 31).unwrap();
        let after = u64::from(day.weekday().days_since(Weekday::Sun));
        day - Days::new(after)
    };
    let this = last_sunday(today.year());
    match this > today {
        true => this,
        false => last_sunday(today.year() + 1),
    }
}

#[tokio::test]
async fn customers_say_when_to_call_them() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let made = create(&client, due("K1")).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    let later = || says(&claimed, OutcomeClass::CallLater);
    let gap = format!("{}T02:30", clocks_go_forward());
    for (request, field) in [
        (
            pb::RecordOutcomeRequest {
                call_later_time: Some(timestamp(Utc::now() - TimeDelta::minutes(1))),
                ..later()
            },
            "call_later_time",
        ),
        (
            pb::RecordOutcomeRequest {
                call_later_time: Some(timestamp(Utc::now() + TimeDelta::days(400))),
                ..later()
            },
            "call_later_time",
        ),
        (
            pb::RecordOutcomeRequest {
                call_later_local_time: gap,
                ..later()
            },
            "call_later_local_time",
        ),
        (
            pb::RecordOutcomeRequest {
                call_later_time: Some(timestamp(Utc::now() + TimeDelta::hours(1))),
                ..says(&claimed, OutcomeClass::Busy)
            },
            "call_later_time",
        ),
        (
            pb::RecordOutcomeRequest {
                escalate_to: "roles/chef".into(),
                ..says(&claimed, OutcomeClass::Done)
            },
            "escalate_to",
        ),
        (
            pb::RecordOutcomeRequest {
                outcome_class: 0,
                outcome: "contactOutcomes/keiner".into(),
                ..later()
            },
            "outcome",
        ),
    ] {
        refused::names(&record(&client, request).await.unwrap_err(), &[field]);
    }

    // A time outside of the hours holds all the same.
    sql(
        &server,
        "UPDATE planned_contact SET window_from = now() - interval '3 hours',
             window_to = now() - interval '2 hours'",
    )
    .await;
    let wish = pb::RecordOutcomeRequest {
        call_later_time: Some(timestamp(Utc::now() + TimeDelta::minutes(10))),
        ..later()
    };
    let wanted = wish.call_later_time;
    let now = record(&client, wish)
        .await
        .unwrap()
        .planned_contact
        .unwrap();
    let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds;
    assert_eq!(seconds(now.next_contact_time), seconds(wanted));
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    sql(&server, WAITED).await;
    let again = next(&client, asks("bert")).await.unwrap();
    assert_eq!(contact(&again).name, made.name);
    assert_eq!(
        again.warnings,
        Vec::<i32>::new(),
        "it is as the customer wished"
    );
}

#[tokio::test]
async fn roles_take_over() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let chief = json!({"escalate": {"role": "chef"}});
    plan(&server, "NORD", "", &rules(30, 1, &chief)).await;
    of_plan(&client, "K1", "NORD").await;
    let chef = || pb::ClaimNextContactRequest {
        roles: vec!["roles/chef".into()],
        ..asks("clara")
    };
    let claimed = next(&client, asks("anna")).await.unwrap();
    let now = record(&client, says(&claimed, OutcomeClass::NotReached)).await;
    let now = now.unwrap().planned_contact.unwrap();
    assert_eq!(now.state(), PlannedContactState::Waiting);
    assert_eq!(now.responsible, "roles/chef");
    sql(&server, WAITED).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let claimed = next(&client, chef()).await.unwrap();
    let over = record(&client, says(&claimed, OutcomeClass::NotReached)).await;
    let over = over.unwrap().planned_contact.unwrap();
    assert_eq!(over.state(), PlannedContactState::GivenUp);
    let told = attempts(&client, &over.name).await;
    let roles: Vec<&str> = told.iter().map(|a| &a.escalated_to[..]).collect();
    assert_eq!(roles, ["roles/chef", ""]);

    // A person hands it over.
    create(&client, due("K2")).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    let said = pb::RecordOutcomeRequest {
        escalate_to: "roles/chef".into(),
        ..says(&claimed, OutcomeClass::CallLater)
    };
    let now = record(&client, said)
        .await
        .unwrap()
        .planned_contact
        .unwrap();
    assert_eq!(now.responsible, "roles/chef");
    sql(&server, WAITED).await;
    assert_eq!(next_customer(&client, chef()).await, "K2");
}

#[tokio::test]
async fn another_channel_is_told_to_the_tenants_systems() {
    let receiver = Receiver::start().await;
    let options = Options {
        config: crate::handover::QUICK.into(),
        ..Default::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let client = desk(&server).await;
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
    plan(
        &server,
        "NORD",
        "",
        &rules(30, 1, &json!({"channel": "sms"})),
    )
    .await;
    let made = of_plan(&client, "K1", "NORD").await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    let over = record(&client, says(&claimed, OutcomeClass::Busy))
        .await
        .unwrap();
    assert_eq!(
        over.planned_contact.unwrap().state(),
        PlannedContactState::GivenUp
    );
    crate::utility::until("the event", async || !receiver.calls().is_empty()).await;
    let event = receiver.calls()[0].event();
    assert_eq!(event["type"], "anklang.contact.follow_up.v1");
    assert_eq!(event["subject"], made.name);
    let data = &event["data"];
    assert_eq!(
        (&data["channel"], &data["customer"], &data["contact_plan"]),
        (&json!("sms"), &json!("K1"), &json!("NORD"))
    );
}

#[tokio::test]
async fn a_tenant_has_words_of_its_own() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let save = async |id: &str, class: OutcomeClass, etag: &str| {
        let request = pb::UpdateContactOutcomeRequest {
            contact_outcome: Some(pb::ContactOutcome {
                name: format!("contactOutcomes/{id}"),
                display_name: "Anrufbeantworter".into(),
                outcome_class: class.into(),
                etag: etag.into(),
                ..Default::default()
            }),
            allow_missing: true,
            ..Default::default()
        };
        let saved = client.work_list().update_contact_outcome(request).await;
        saved.map(tonic::Response::into_inner)
    };
    let first = save("band", OutcomeClass::Busy, "").await.unwrap();
    let second = save("band", OutcomeClass::NotReached, &first.etag)
        .await
        .unwrap();
    let stale = save("band", OutcomeClass::Done, &first.etag)
        .await
        .unwrap_err();
    refused::is(&stale, tonic::Code::Aborted, "ETAG_MISMATCH");
    let wrong = save("Band!", OutcomeClass::Unspecified, "")
        .await
        .unwrap_err();
    refused::names(
        &wrong,
        &["contact_outcome.name", "contact_outcome.outcome_class"],
    );
    create(&client, due("K1")).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    let said = pb::RecordOutcomeRequest {
        outcome: second.name.clone(),
        ..says(&claimed, OutcomeClass::Unspecified)
    };
    let now = record(&client, said)
        .await
        .unwrap()
        .planned_contact
        .unwrap();
    assert_eq!(now.outcome_class(), OutcomeClass::NotReached);
    assert_eq!(now.outcome, "contactOutcomes/band");

    // Deleted, it stays with what was recorded.
    let request = pb::DeleteContactOutcomeRequest {
        name: second.name.clone(),
        ..Default::default()
    };
    client
        .work_list()
        .delete_contact_outcome(request)
        .await
        .unwrap();
    let request = pb::GetContactOutcomeRequest { name: second.name };
    let gone = client.work_list().get_contact_outcome(request).await;
    refused::not_found(&gone.unwrap_err());
    assert_eq!(
        attempts(&client, &now.name).await[0].outcome,
        "contactOutcomes/band"
    );
}
