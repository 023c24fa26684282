//! Who gets which contact, and for how long.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::planning::v1::{self as pb, OutcomeClass, PlannedContactState};
use anklang_testkit::{Client, TestServer};
use tonic::Code;

use super::{
    LOOK_AGAIN, aside, asks, claim, contact, create, desk, due, next, next_customer, plan, record,
    rules, says, sql,
};
use crate::refused;

const WORKERS: usize = 200;
const CONTACTS: usize = 10_000;

/// Takes contacts until there is none.
async fn works(client: Client, worker: String, taken: Arc<Mutex<Vec<String>>>) {
    loop {
        let request = pb::ClaimNextContactRequest {
            claim_seconds: 3_600,
            ..asks(&worker)
        };
        match client.work_list().claim_next_contact(request).await {
            Ok(answer) => match answer.into_inner().contact_claim {
                Some(claim) => {
                    let name = contact(&claim).name.clone();
                    taken.lock().unwrap().push(name);
                }
                None => return,
            },
            // A slow machine has no connection left for a while.
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_people_get_each_contact_once() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let make = format!(
        "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date,
             contact_at, window_from, window_to, next_at, priority)
         SELECT c.tenant_id, gen_random_uuid(), 'manual', c.id, d.day, d.day, d.from_, d.from_,
                d.from_ + interval '1 day', now(), n % 7
         FROM customer c
         CROSS JOIN (SELECT (now() AT TIME ZONE 'Europe/Berlin')::date AS day,
                            date_trunc('day', now() AT TIME ZONE 'Europe/Berlin')
                            AT TIME ZONE 'Europe/Berlin' AS from_) d
         CROSS JOIN generate_series(1, {CONTACTS}) n
         WHERE c.number = 'K1'"
    );
    sql(&server, &make).await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let working: Vec<_> = (0..WORKERS)
        .map(|i| {
            let (client, taken) = (client.clone(), Arc::clone(&taken));
            tokio::spawn(works(client, format!("agent{i}"), taken))
        })
        .collect();
    for worker in working {
        worker.await.unwrap();
    }
    let taken = taken.lock().unwrap();
    let each: BTreeSet<&String> = taken.iter().collect();
    assert_eq!((taken.len(), each.len()), (CONTACTS, CONTACTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_people_call_each_customer_once_when_that_is_the_budget() {
    const CUSTOMERS: usize = 300;
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    aside::budget(&client, 1).await;
    let mut customers = "number,kind,last_name\n".to_owned();
    for i in 1..=CUSTOMERS {
        customers += &format!("B{i},person,Kunde{i}\n");
    }
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);
    // Three each, the second and third of all behind the first of all.
    let make = "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date,
             contact_date, contact_at, window_from, window_to, next_at)
         SELECT c.tenant_id, gen_random_uuid(), 'manual', c.id, d.day, d.day, d.midnight, d.midnight,
                d.midnight + interval '1 day', now() - make_interval(mins => 9 - n)
         FROM customer c
         CROSS JOIN (SELECT (now() AT TIME ZONE 'Europe/Berlin')::date AS day,
                            date_trunc('day', now() AT TIME ZONE 'Europe/Berlin')
                            AT TIME ZONE 'Europe/Berlin' AS midnight) d
         CROSS JOIN generate_series(1, 3) n
         WHERE c.number LIKE 'B%'";
    sql(&server, make).await;
    let taken = Arc::new(Mutex::new(Vec::new()));
    let working: Vec<_> = (0..WORKERS)
        .map(|i| {
            let (client, taken) = (client.clone(), Arc::clone(&taken));
            tokio::spawn(works(client, format!("agent{i}"), taken))
        })
        .collect();
    for worker in working {
        worker.await.unwrap();
    }
    assert_eq!(taken.lock().unwrap().len(), CUSTOMERS);
    let called = "SELECT count(*) || ' ' || count(DISTINCT customer_id) FROM planned_contact
                  WHERE state = 'claimed'";
    let called = server.database.one(called).await.unwrap();
    assert_eq!(called, format!("{CUSTOMERS} {CUSTOMERS}"));
}

/// The next contact, also when the server takes it back from its person at this very moment.
async fn next_soon(client: &Client, worker: &str) -> pb::ContactClaim {
    for _ in 0..50 {
        if let Some(claim) = next(client, asks(worker)).await {
            return claim;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no contact for {worker}");
}

#[tokio::test]
async fn a_contact_of_somebody_silent_is_handed_out_again() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    create(&client, due("K1")).await;
    let first = next(&client, asks("anna")).await.unwrap();
    assert_eq!(contact(&first).state(), PlannedContactState::Claimed);
    assert_eq!(contact(&first).claimed_by, "users/anna");
    assert_eq!(first.customer_name, "Kunde1");
    assert_eq!(first.warnings, Vec::<i32>::new());
    assert_eq!(next(&client, asks("bert")).await, None);
    let status = claim(&client, &contact(&first).name, "bert")
        .await
        .unwrap_err();
    let (subject, _) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, contact(&first).name);

    // Prolonged, it is still hers.
    let request = pb::ExtendClaimRequest {
        name: contact(&first).name.clone(),
        claim: first.claim.clone(),
        claim_seconds: 3_600,
        ..Default::default()
    };
    let extended = client.work_list().extend_claim(request.clone()).await;
    let extended = extended.unwrap().into_inner();
    let until = |claim: &pb::ContactClaim| contact(claim).claim_expire_time.unwrap().seconds;
    assert!(until(&extended) > until(&first) + 3_000, "{extended:?}");
    assert_eq!(next(&client, asks("bert")).await, None);

    // Whose screen is gone gets another claim to what she has, and the one before opens nothing.
    let second_screen = claim(&client, &contact(&first).name, "anna").await.unwrap();
    let late = record(&client, says(&first, OutcomeClass::Done)).await;
    refused::precondition(&late.unwrap_err(), "PRECONDITION");
    assert_ne!(second_screen.claim, first.claim);

    // Silent for too long.
    sql(&server, "UPDATE planned_contact SET claim_until = now()").await;
    let second = next_soon(&client, "bert").await;
    assert_eq!(contact(&second).name, contact(&first).name);
    assert_ne!(second.claim, first.claim);
    let late = record(&client, says(&first, OutcomeClass::Done)).await;
    refused::precondition(&late.unwrap_err(), "PRECONDITION");
    let late = client.work_list().extend_claim(request).await;
    refused::precondition(&late.unwrap_err(), "PRECONDITION");
    let done = record(&client, says(&second, OutcomeClass::Done))
        .await
        .unwrap();
    assert_eq!(done.planned_contact.unwrap().attempt_count, 1);

    // Given back, it is anybody's.
    create(&client, due("K2")).await;
    let third = next(&client, asks("anna")).await.unwrap();
    let request = pb::ReleaseContactRequest {
        name: contact(&third).name.clone(),
        claim: third.claim.clone(),
        ..Default::default()
    };
    let free = client.work_list().release_contact(request.clone()).await;
    assert_eq!(
        free.unwrap().into_inner().state(),
        PlannedContactState::Open
    );
    let again = client.work_list().release_contact(request).await;
    refused::precondition(&again.unwrap_err(), "PRECONDITION");
    assert_eq!(next_customer(&client, asks("bert")).await, "K2");
}

#[tokio::test]
async fn nobody_needs_to_ask_for_silent_people_to_lose_their_contacts() {
    let mut server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    create(&client, due("K1")).await;
    next(&client, asks("anna")).await.unwrap();
    sql(&server, "UPDATE planned_contact SET claim_until = now()").await;
    // It looks when it starts, and every minute.
    server.restart().await.unwrap();
    crate::utility::until("it is open again", async || {
        let state = "SELECT state FROM planned_contact";
        server.database.one(state).await.unwrap() == "open"
    })
    .await;
}

#[tokio::test]
async fn the_most_important_comes_first_then_who_has_waited() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for (customer, priority, responsible) in [
        ("K1", 0, ""),
        ("K2", 5, "roles/obst"),
        ("K3", -3, "users/anna"),
        ("K4", 5, ""),
        ("K5", 900, "users/bert"),
        ("K6", 0, "users/anna"),
    ] {
        let contact = pb::NewPlannedContact {
            priority,
            responsible: responsible.into(),
            ..due(customer)
        };
        create(&client, contact).await;
    }
    let anna = || pb::ClaimNextContactRequest {
        roles: vec!["roles/obst".into(), "roles/brot".into()],
        ..asks("anna")
    };
    let mut order = Vec::new();
    for _ in 0..6 {
        order.push(next_customer(&client, anna()).await);
    }
    assert_eq!(order, ["K2", "K4", "K1", "K6", "K3", "-"]);
    assert_eq!(next_customer(&client, asks("bert")).await, "K5");

    // Only one's own.
    create(&client, due("K7")).await;
    let own = pb::NewPlannedContact {
        responsible: "users/anna".into(),
        ..due("K8")
    };
    create(&client, own).await;
    for wanted in ["K8", "-"] {
        let request = pb::ClaimNextContactRequest {
            only_mine: true,
            ..anna()
        };
        assert_eq!(next_customer(&client, request).await, wanted);
    }
}

#[tokio::test]
async fn filters_and_skills_choose() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let close = rules(60, 3, &serde_json::json!("close"));
    plan(&server, "NORD", "", &close).await;
    let of_plan = pb::NewPlannedContact {
        contact_plan: "contactPlans/NORD".into(),
        skills: vec!["french".into(), "wine".into()],
        ..due("K1")
    };
    create(&client, of_plan).await;
    create(&client, due("K5")).await;
    let with = |skills: &[&str], plans: &[&str], groups: &[&str]| {
        let own = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        pb::ClaimNextContactRequest {
            skills: own(skills),
            contact_plans: own(plans),
            customer_groups: own(groups),
            validate_only: true,
            ..asks("anna")
        }
    };
    let both = ["wine", "french", "cheese"];
    for (request, wanted) in [
        (with(&[], &[], &[]), "K5"),
        (with(&["french"], &[], &[]), "K5"),
        (with(&both, &[], &[]), "K1"),
        (with(&both, &["contactPlans/NORD"], &[]), "K1"),
        (with(&both, &["contactPlans/SUED"], &[]), "-"),
        (with(&[], &["contactPlans/NORD"], &[]), "-"),
        (with(&both, &[], &["Brot"]), "K5"),
        (with(&both, &[], &["Obst", "Fisch"]), "K1"),
        (with(&[], &[], &["Obst"]), "-"),
    ] {
        let said = format!("{request:?}");
        assert_eq!(next_customer(&client, request).await, wanted, "{said}");
    }
    // Of a later date only.
    let request = pb::ClaimNextContactRequest {
        first_date: Some(anklang_proto::google::r#type::Date {
            year: 2999,
            month: 1,
            day: 1,
        }),
        ..asks("anna")
    };
    assert_eq!(next_customer(&client, request).await, "-");
}

#[tokio::test]
async fn contacts_wait_for_their_time_and_their_hours() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let later = pb::NewPlannedContact {
        contact_time: Some(super::timestamp(
            chrono::Utc::now() + chrono::TimeDelta::hours(30),
        )),
        ..due("K1")
    };
    let later = create(&client, later).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    // Taken by name it is told that it is early.
    let early = claim(&client, &later.name, "anna").await.unwrap();
    assert!(
        early
            .warnings
            .contains(&pb::ContactWarning::BeforeContactDate.into()),
        "{early:?}"
    );

    // Its hours are over for today.
    let closed = create(&client, due("K2")).await;
    sql(
        &server,
        "UPDATE planned_contact SET window_from = now() - interval '3 hours',
             window_to = now() - interval '2 hours' WHERE state = 'open'",
    )
    .await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let warned = claim(&client, &closed.name, "anna").await.unwrap();
    let outside: i32 = pb::ContactWarning::OutsideWindow.into();
    assert_eq!(warned.warnings, [outside]);
    let recorded = record(&client, says(&warned, OutcomeClass::Done))
        .await
        .unwrap();
    assert_eq!(recorded.warnings, [outside]);
    let attempts = pb::ListContactAttemptsRequest {
        parent: closed.name,
        ..Default::default()
    };
    let attempts = client.work_list().list_contact_attempts(attempts).await;
    assert!(attempts.unwrap().into_inner().contact_attempts[0].outside_window);

    // Nobody came to it yesterday: it is on the list today, at the same hours.
    create(&client, due("K3")).await;
    sql(
        &server,
        "UPDATE planned_contact SET contact_date = contact_date - 1, plan_date = plan_date - 1,
             contact_at = contact_at - interval '1 day', next_at = next_at - interval '1 day',
             window_from = window_from - interval '1 day',
             window_to = window_to - interval '1 day' WHERE state = 'open'",
    )
    .await;
    assert_eq!(next_customer(&client, asks("anna")).await, "K3");
}

#[tokio::test]
async fn who_must_not_be_called_is_passed_over() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let mut names = Vec::new();
    for customer in ["K1", "K2", "K3", "K4"] {
        names.push(create(&client, due(customer)).await.name);
    }
    // K1's number is blocked, K2 wants no calls, K3 is called under another number that is blocked.
    for address in ["+49301234501", "+49301234599"] {
        let request = customers::CreateSuppressionRequest {
            suppression: Some(customers::Suppression {
                channel: "phone".into(),
                address: address.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        client
            .customers()
            .create_suppression(request)
            .await
            .unwrap();
    }
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    K2,phone,call,withdrawn,2026-01-01T00:00:00Z\n\
                    K4,phone,news,withdrawn,2026-01-01T00:00:00Z\n";
    let sums = client
        .import(ImportEntity::Consents, consents)
        .await
        .unwrap();
    assert_eq!(sums.errors, []);
    sql(
        &server,
        "UPDATE planned_contact SET details = details || '{\"phone\": \"+49301234599\"}'
         WHERE customer_id = (SELECT id FROM customer WHERE number = 'K3')",
    )
    .await;
    assert_eq!(next_customer(&client, asks("anna")).await, "K4");
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    for name in &names[..3] {
        let status = claim(&client, name, "anna").await.unwrap_err();
        refused::precondition(&status, "PRECONDITION");
    }
}

#[tokio::test]
async fn calls_count_in_the_contact_budget() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let set = async |max_contacts, exempt: &[&str]| {
        let request = messages::UpdateContactBudgetRequest {
            contact_budget: Some(messages::ContactBudget {
                max_contacts,
                window_days: 7,
                exempt_purposes: exempt.iter().map(|p| (*p).to_owned()).collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        client
            .messages()
            .update_contact_budget(request)
            .await
            .unwrap();
    };
    set(1, &[]).await;
    let second = create(&client, due("K1")).await;
    create(&client, due("K1")).await;
    create(&client, due("K2")).await;
    // While K1 is being called, and after K1 was reached, nobody else calls.
    let first = next(&client, asks("anna")).await.unwrap();
    assert_eq!(contact(&first).customer, "customers/K1");
    assert_eq!(contact(&first).name, second.name);
    let other = next(&client, asks("bert")).await.unwrap();
    assert_eq!(contact(&other).customer, "customers/K2");
    assert_eq!(next_customer(&client, asks("cleo")).await, "-");
    // Nobody answered: it is no contact.
    record(&client, says(&first, OutcomeClass::NotReached))
        .await
        .unwrap();
    sql(&server, LOOK_AGAIN).await;
    let again = next(&client, asks("cleo")).await.unwrap();
    assert_eq!(contact(&again).customer, "customers/K1");
    record(&client, says(&again, OutcomeClass::Done))
        .await
        .unwrap();
    create(&client, due("K1")).await;
    assert_eq!(next_customer(&client, asks("cleo")).await, "-");
    set(1, &["call"]).await;
    sql(&server, LOOK_AGAIN).await;
    assert_eq!(next_customer(&client, asks("cleo")).await, "K1");
}

#[tokio::test]
async fn wrong_requests_are_told_all_at_once() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let request = pb::ClaimNextContactRequest {
        worker: "anna".into(),
        skills: vec!["ok".into(), String::new()],
        roles: vec!["users/anna".into()],
        contact_plans: vec!["plans/x".into()],
        customer_groups: vec!["x".repeat(201)],
        first_date: Some(anklang_proto::google::r#type::Date {
            year: 2026,
            month: 2,
            day: 30,
        }),
        claim_seconds: 9,
        request_id: "x".into(),
        ..Default::default()
    };
    let status = client
        .work_list()
        .claim_next_contact(request)
        .await
        .unwrap_err();
    refused::names(
        &status,
        &[
            "worker",
            "skills[1]",
            "roles[0]",
            "contact_plans[0]",
            "customer_groups[0]",
            "first_date",
            "claim_seconds",
            "request_id",
        ],
    );
    let request = pb::RecordOutcomeRequest {
        name: "contacts/1".into(),
        claim: "mine".into(),
        outcome_class: 99,
        outcome: "outcomes/x".into(),
        note: "x".repeat(2_001),
        talk_time: Some(prost_types::Duration {
            seconds: -1,
            nanos: 0,
        }),
        call_later_local_time: "tomorrow".into(),
        escalate_to: "users/anna".into(),
        ..Default::default()
    };
    let status = client
        .work_list()
        .record_outcome(request)
        .await
        .unwrap_err();
    refused::names(
        &status,
        &[
            "name",
            "claim",
            "outcome_class",
            "outcome_class",
            "outcome",
            "note",
            "talk_time",
            "call_later_local_time",
            "escalate_to",
        ],
    );
    let missing = format!("plannedContacts/{}", uuid::Uuid::nil());
    refused::not_found(&claim(&client, &missing, "anna").await.unwrap_err());
}
