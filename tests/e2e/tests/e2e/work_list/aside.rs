//! Contacts that must not be made now are put aside, and come back.

use std::collections::BTreeSet;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::planning::v1::{self as pb, OutcomeClass, PassedOver};
use anklang_testkit::{Client, TestServer};
use chrono::{TimeDelta, Utc};

use super::{
    LOOK_AGAIN, asks, claim, contact, create, desk, due, next, next_customer, plan, record, rules,
    says, sql, time, timestamp,
};

async fn get(client: &Client, name: &str) -> pb::PlannedContact {
    let request = pb::GetPlannedContactRequest { name: name.into() };
    let found = client.planned_contacts().get_planned_contact(request).await;
    found.unwrap().into_inner()
}

/// Until when a contact is passed over, in minutes from now.
fn minutes(contact: &pb::PlannedContact) -> i64 {
    (time(contact.passed_over_until_time.as_ref()) - Utc::now()).num_minutes()
}

async fn block(client: &Client, address: &str) -> customers::Suppression {
    let request = customers::CreateSuppressionRequest {
        suppression: Some(customers::Suppression {
            channel: "phone".into(),
            address: address.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = client.customers().create_suppression(request).await;
    made.unwrap().into_inner()
}

pub(super) async fn budget(client: &Client, max_contacts: i32) {
    let request = messages::UpdateContactBudgetRequest {
        contact_budget: Some(messages::ContactBudget {
            max_contacts,
            window_days: 7,
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut service = client.messages();
    service.update_contact_budget(request).await.unwrap();
}

#[tokio::test]
async fn who_must_not_be_called_is_looked_at_once_in_a_while() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    block(&client, "+49301234501").await;
    let blocked = create(&client, due("K1")).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let told = get(&client, &blocked.name).await;
    assert_eq!(told.passed_over(), PassedOver::NumberBlocked);
    assert!((55..=60).contains(&minutes(&told)), "{told:?}");
    assert_eq!(told.etag, blocked.etag, "nobody changed it");
    assert_eq!(told.next_contact_time, blocked.next_contact_time);
    let request = pb::ListPlannedContactsRequest {
        filter: "passed_over = NUMBER_BLOCKED".into(),
        ..Default::default()
    };
    let mut service = client.planned_contacts();
    let listed = service.list_planned_contacts(request).await.unwrap();
    let listed = listed.into_inner().planned_contacts;
    assert_eq!(listed, std::slice::from_ref(&told));

    // Not blocked any more, it comes back when it is looked at again.
    sql(&server, "DELETE FROM suppression").await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    sql(&server, LOOK_AGAIN).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    assert_eq!(contact(&claimed).name, blocked.name);
    let told = get(&client, &blocked.name).await;
    assert_eq!(told.passed_over(), PassedOver::Unspecified);
    assert_eq!(told.passed_over_until_time, None);
}

#[tokio::test]
async fn what_is_put_aside_is_in_the_audit_log_and_looking_again_is_not() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    block(&client, "+49301234501").await;
    create(&client, due("K1")).await;
    let noted = async || {
        let entries = crate::audit::list(&client, "method:ClaimNextContact").await;
        entries
            .into_iter()
            .map(|entry| entry.resources)
            .collect::<Vec<_>>()
    };
    let tried = pb::ClaimNextContactRequest {
        validate_only: true,
        ..asks("anna")
    };
    assert_eq!(next_customer(&client, tried).await, "-");
    assert_eq!(noted().await, [[""; 0]; 0]);
    for _ in 0..2 {
        assert_eq!(next_customer(&client, asks("anna")).await, "-");
        assert_eq!(noted().await, [["users/anna"]]);
    }
}

#[tokio::test]
async fn many_that_must_not_be_called_stand_in_nobodys_way() {
    const MANY: usize = 3_000;
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    block(&client, "+49301234501").await;
    let first = create(&client, due("K1")).await.name;
    let id = first.strip_prefix("plannedContacts/").unwrap();
    sql(
        &server,
        &format!(
            "INSERT INTO planned_contact (tenant_id, id, source, customer_id, plan_date, contact_date,
                 contact_at, window_from, window_to, next_at)
             SELECT tenant_id, gen_random_uuid(), source, customer_id, plan_date, contact_date,
                    contact_at, window_from, window_to, next_at
             FROM planned_contact CROSS JOIN generate_series(2, {MANY}) WHERE id = '{id}'"
        ),
    )
    .await;
    create(&client, due("K2")).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "K2");
    let aside = "SELECT count(*)::text FROM planned_contact
                 WHERE passed_over = 'number_blocked' AND not_before > now()";
    let aside = server.database.one(aside).await.unwrap();
    assert_eq!(aside, MANY.to_string());
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
}

#[tokio::test]
async fn a_time_that_the_customer_named_holds_for_an_hour() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let made = create(&client, due("K1")).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    sql(
        &server,
        "UPDATE planned_contact SET window_from = now() - interval '3 hours',
             window_to = now() - interval '2 hours'",
    )
    .await;
    let later = pb::RecordOutcomeRequest {
        call_later_time: Some(timestamp(Utc::now() + TimeDelta::minutes(10))),
        ..says(&claimed, OutcomeClass::CallLater)
    };
    record(&client, later).await.unwrap();
    // Nobody called in time: its hours hold again.
    let over = "UPDATE planned_contact SET next_at = now() - interval '61 minutes'";
    sql(&server, over).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let told = get(&client, &made.name).await;
    assert_eq!(told.passed_over(), PassedOver::OutsideWindow);
    let warned = claim(&client, &made.name, "anna").await.unwrap();
    let outside: i32 = pb::ContactWarning::OutsideWindow.into();
    assert_eq!(warned.warnings, [outside]);
    let request = pb::ReleaseContactRequest {
        name: made.name.clone(),
        claim: warned.claim,
        ..Default::default()
    };
    client.work_list().release_contact(request).await.unwrap();
    sql(
        &server,
        "UPDATE planned_contact SET next_at = now() - interval '30 minutes', not_before = NULL",
    )
    .await;
    let again = next(&client, asks("bert")).await.unwrap();
    assert_eq!(again.warnings, Vec::<i32>::new());
}

#[tokio::test]
async fn a_call_back_is_not_barred_by_the_call_that_asked_for_it() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    budget(&client, 1).await;
    let made = create(&client, due("K1")).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    let later = pb::RecordOutcomeRequest {
        call_later_time: Some(timestamp(Utc::now() + TimeDelta::minutes(10))),
        ..says(&claimed, OutcomeClass::CallLater)
    };
    record(&client, later).await.unwrap();
    // Another contact is barred by it, as somebody spoke to the customer.
    let other = create(&client, due("K1")).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let told = get(&client, &other.name).await;
    assert_eq!(told.passed_over(), PassedOver::BudgetUsedUp);
    assert!((55..=60).contains(&minutes(&told)), "{told:?}");
    sql(
        &server,
        "UPDATE planned_contact SET next_at = now() WHERE state = 'waiting'",
    )
    .await;
    let again = next(&client, asks("anna")).await.unwrap();
    assert_eq!(contact(&again).name, made.name);
    // Once it took place it is a contact like any other.
    record(&client, says(&again, OutcomeClass::Done))
        .await
        .unwrap();
    sql(&server, LOOK_AGAIN).await;
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
}

#[tokio::test]
async fn leftovers_wait_for_a_day_on_which_they_may_be_made() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    plan(
        &server,
        "FREI",
        "",
        &rules(60, 3, &serde_json::json!("close")),
    )
    .await;
    let today = Utc::now().date_naive();
    let days: Vec<_> = (-1..=2)
        .map(|n| today + TimeDelta::days(n))
        .map(|date| serde_json::json!({"date": date, "kind": "holiday", "name": "frei"}))
        .collect();
    let days = serde_json::to_string(&days).unwrap();
    sql(
        &server,
        &format!(
            "INSERT INTO workday_calendar (tenant_id, id, name, workdays, own_days)
             SELECT id, 'firma', 'Firma', '{{1,2,3,4,5,6,7}}', '{days}' FROM tenant;
             UPDATE contact_plan SET calendar_id = 'firma';
             INSERT INTO inactive_period (tenant_id, customer_id, id, day_type, first_day, last_day)
             SELECT tenant_id, id, 'ferien', 'contact', current_date - 1, current_date + 2
             FROM customer WHERE number = 'K2'"
        ),
    )
    .await;
    let of_plan = pb::NewPlannedContact {
        contact_plan: "contactPlans/FREI".into(),
        ..due("K1")
    };
    let names = [
        create(&client, of_plan).await.name,
        create(&client, due("K2")).await.name,
        create(&client, due("K3")).await.name,
    ];
    sql(
        &server,
        "UPDATE planned_contact SET contact_date = contact_date - 1, plan_date = plan_date - 1,
             contact_at = contact_at - interval '1 day', next_at = next_at - interval '1 day',
             window_from = window_from - interval '1 day',
             window_to = window_to - interval '1 day'",
    )
    .await;
    assert_eq!(next_customer(&client, asks("anna")).await, "K3");
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    for (name, why) in names
        .iter()
        .zip([PassedOver::NoWorkday, PassedOver::CustomerInactive])
    {
        let told = get(&client, name).await;
        assert_eq!(told.passed_over(), why);
        assert!((0..=25 * 60).contains(&minutes(&told)), "{told:?}");
    }
    // A day with work, and a customer who is back.
    sql(
        &server,
        "UPDATE workday_calendar SET own_days = '[]'; DELETE FROM inactive_period",
    )
    .await;
    sql(&server, LOOK_AGAIN).await;
    let mut got = BTreeSet::new();
    for _ in 0..2 {
        got.insert(next_customer(&client, asks("anna")).await);
    }
    assert_eq!(got, ["K1", "K2"].map(String::from).into());
}

#[tokio::test]
async fn who_moves_to_another_group_takes_the_contacts_along() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    create(&client, due("K5")).await;
    let of = |group: &str| pb::ClaimNextContactRequest {
        customer_groups: vec![group.into()],
        validate_only: true,
        ..asks("anna")
    };
    assert_eq!(next_customer(&client, of("Brot")).await, "K5");
    assert_eq!(next_customer(&client, of("Obst")).await, "-");
    let customers = "number,kind,last_name,customer_group\nK5,person,Kunde5,Obst\n";
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);
    assert_eq!(next_customer(&client, of("Brot")).await, "-");
    assert_eq!(next_customer(&client, of("Obst")).await, "K5");
}

#[tokio::test]
async fn what_was_given_back_stands_behind_the_others() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for customer in ["K1", "K2"] {
        create(&client, due(customer)).await;
    }
    let important = pb::NewPlannedContact {
        priority: 1,
        ..due("K3")
    };
    create(&client, important).await;
    let give_back = async |claimed: pb::ContactClaim| {
        let request = pb::ReleaseContactRequest {
            name: contact(&claimed).name.clone(),
            claim: claimed.claim,
            ..Default::default()
        };
        client.work_list().release_contact(request).await.unwrap();
    };
    // The only one of its priority.
    for _ in 0..2 {
        let first = next(&client, asks("anna")).await.unwrap();
        assert_eq!(contact(&first).customer, "customers/K3");
        give_back(first).await;
    }
    next(&client, asks("anna")).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..3 {
        let claimed = next(&client, asks("anna")).await.unwrap();
        order.push(contact(&claimed).customer.clone());
        give_back(claimed).await;
    }
    assert_eq!(order, ["customers/K1", "customers/K2", "customers/K1"]);
}

#[tokio::test]
async fn a_contact_without_a_number_is_told_so() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    sql(
        &server,
        "DELETE FROM contact_point WHERE address LIKE '%501'",
    )
    .await;
    let made = create(&client, due("K1")).await;
    let missing: i32 = pb::ContactWarning::NoNumber.into();
    let claimed = next(&client, asks("anna")).await.unwrap();
    assert_eq!(claimed.warnings, [missing]);
    let again = claim(&client, &made.name, "anna").await.unwrap();
    assert_eq!(again.warnings, [missing]);
    let with_number = pb::NewPlannedContact {
        phone: "+49301234599".into(),
        ..due("K1")
    };
    create(&client, with_number).await;
    let claimed = next(&client, asks("anna")).await.unwrap();
    assert_eq!(claimed.warnings, Vec::<i32>::new());
}

#[tokio::test]
async fn calls_of_a_campaign_need_consent_to_its_purpose() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for i in 1..=4 {
        create(&client, due(&format!("K{i}"))).await;
    }
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    K2,phone,call,granted,2026-01-01T00:00:00Z\n\
                    K3,phone,news,withdrawn,2026-01-01T00:00:00Z\n\
                    K4,phone,news,granted,2026-01-01T00:00:00Z\n\
                    K4,phone,call,withdrawn,2026-01-01T00:00:00Z\n";
    let sums = client.import(ImportEntity::Consents, consents).await;
    assert_eq!(sums.unwrap().errors, []);
    // An outbound for news, whatever its phase.
    sql(
        &server,
        "SET session_replication_role = replica;
         INSERT INTO outbound (tenant_id, id, phase_id, number, channel, account, message_template,
             document_template, purpose)
         SELECT id, gen_random_uuid(), gen_random_uuid(), 1, 'phone', '', '', '', 'news' FROM tenant;
         UPDATE planned_contact SET outbound_id = (SELECT id FROM outbound)",
    )
    .await;
    assert_eq!(next_customer(&client, asks("anna")).await, "K4");
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let why = "SELECT count(*)::text FROM planned_contact WHERE passed_over = 'no_consent'";
    assert_eq!(server.database.one(why).await.unwrap(), "3");
}
