//! What people change of contacts: making, moving, pinning, calling off.

use anklang_proto::anklang::planning::v1::{self as pb, PlannedContactState};
use anklang_proto::google::r#type::Date;
use anklang_testkit::TestServer;
use chrono::{TimeDelta, Utc};
use serde_json::json;
use tonic::Code;

use super::{
    asks, create, desk, due, next, next_customer, plan, rules, sql, time, timestamp, try_create,
};
use crate::refused;

#[tokio::test]
async fn contacts_are_made_by_hand() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    plan(
        &server,
        "NORD",
        "roles/obst",
        &rules(30, 3, &json!("close")),
    )
    .await;
    let wanted = pb::NewPlannedContact {
        contact_plan: "contactPlans/NORD".into(),
        priority: 7,
        skills: vec!["wine".into(), "wine".into()],
        contact_person: "Frau Muster".into(),
        phone: "030 1234599".into(),
        note: "Hat nach Äpfeln gefragt".into(),
        ..due("K1")
    };
    let made = create(&client, wanted).await;
    assert_eq!(made.source(), pb::PlannedContactSource::Manual);
    assert_eq!(made.state(), PlannedContactState::Open);
    assert_eq!(made.contact_plan, "contactPlans/NORD");
    assert_eq!(made.responsible, "roles/obst", "as the plan says");
    assert_eq!((made.priority, made.skills.len()), (7, 1));
    assert_eq!(made.phone, "+49301234599");
    assert_eq!(made.contact_person, "Frau Muster");
    assert_eq!(made.note, "Hat nach Äpfeln gefragt");
    assert_eq!(made.plan_date, made.contact_date);
    let plain = create(&client, due("K2")).await;
    assert_eq!(plain.phone, "+49301234502", "the customer's own");
    let window = [&plain.window_start_time, &plain.window_end_time];
    let [from, to] = window.map(|time| super::time(time.as_ref()));
    assert!((23..=25).contains(&(to - from).num_hours()), "a whole day");

    let status = try_create(
        &client,
        pb::NewPlannedContact {
            customer: "K1".into(),
            contact_plan: "NORD".into(),
            responsible: "anna".into(),
            priority: 1_001,
            skills: vec![String::new()],
            contact_person: "x".repeat(201),
            phone: "call me".into(),
            note: "\u{7}".into(),
            delivery_date: Some(Date {
                year: 2026,
                month: 13,
                day: 1,
            }),
            contact_time: None,
        },
    )
    .await
    .unwrap_err();
    let fields = [
        "customer",
        "contact_plan",
        "responsible",
        "priority",
        "skills[0]",
        "contact_person",
        "phone",
        "note",
        "delivery_date",
        "contact_time",
    ];
    let fields = fields.map(|f| format!("planned_contact.{f}"));
    refused::names(&status, &fields.each_ref().map(|f| &f[..]));
    let status = try_create(
        &client,
        pb::NewPlannedContact {
            contact_plan: "contactPlans/KEINER".into(),
            contact_time: Some(timestamp(Utc::now() - TimeDelta::days(2))),
            delivery_date: Some(Date {
                year: 2000,
                month: 1,
                day: 1,
            }),
            ..due("NIEMAND")
        },
    )
    .await
    .unwrap_err();
    refused::names(
        &status,
        &[
            "planned_contact.customer",
            "planned_contact.contact_plan",
            "planned_contact.contact_time",
            "planned_contact.delivery_date",
        ],
    );
}

#[tokio::test]
async fn contacts_are_moved_pinned_and_called_off() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let made = create(&client, due("K1")).await;
    let moved_to = Utc::now() + TimeDelta::days(3);
    let moving = pb::MovePlannedContactRequest {
        name: made.name.clone(),
        contact_time: Some(timestamp(moved_to)),
        etag: made.etag.clone(),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let trial = pb::MovePlannedContactRequest {
        validate_only: true,
        ..moving.clone()
    };
    let tried = client.work_list().move_planned_contact(trial).await;
    assert!(tried.unwrap().into_inner().moved);
    let moved = client
        .work_list()
        .move_planned_contact(moving.clone())
        .await;
    let moved = moved.unwrap().into_inner();
    assert!(moved.moved && !made.moved);
    assert_eq!(moved.contact_time, Some(micros(timestamp(moved_to))));
    assert_eq!(moved.next_contact_time, moved.contact_time);
    assert_eq!(moved.plan_date, made.plan_date);
    assert_ne!(moved.contact_date, made.contact_date);
    let (at, from, to) = (
        time(moved.contact_time.as_ref()),
        time(moved.window_start_time.as_ref()),
        time(moved.window_end_time.as_ref()),
    );
    assert!((from..to).contains(&at), "the window goes along");
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let again = client
        .work_list()
        .move_planned_contact(moving.clone())
        .await;
    assert_eq!(again.unwrap().into_inner(), moved);
    let stale = pb::MovePlannedContactRequest {
        request_id: String::new(),
        ..moving
    };
    let stale = client.work_list().move_planned_contact(stale).await;
    refused::is(&stale.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");

    for pinned in [true, false] {
        let request = pb::PinPlannedContactRequest {
            name: made.name.clone(),
            pinned,
            ..Default::default()
        };
        let now = client.work_list().pin_planned_contact(request).await;
        assert_eq!(now.unwrap().into_inner().pinned, pinned);
    }

    let cancel = pb::CancelPlannedContactRequest {
        name: made.name.clone(),
        note: "Geschäft aufgegeben".into(),
        ..Default::default()
    };
    let off = client
        .work_list()
        .cancel_planned_contact(cancel.clone())
        .await;
    let off = off.unwrap().into_inner();
    assert_eq!(off.state(), PlannedContactState::Cancelled);
    assert_eq!(off.next_contact_time, None);
    let status = client.work_list().cancel_planned_contact(cancel).await;
    refused::precondition(&status.unwrap_err(), "PRECONDITION");
    let pin = pb::PinPlannedContactRequest {
        name: made.name,
        pinned: true,
        ..Default::default()
    };
    let status = client.work_list().pin_planned_contact(pin).await;
    refused::precondition(&status.unwrap_err(), "PRECONDITION");
}

#[tokio::test]
async fn somebody_else_becomes_responsible() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let made = create(&client, due("K1")).await;
    let to = |responsible: &str| pb::AssignPlannedContactRequest {
        name: made.name.clone(),
        responsible: responsible.into(),
        ..Default::default()
    };
    let bert = pb::AssignPlannedContactRequest {
        etag: made.etag.clone(),
        request_id: uuid::Uuid::now_v7().to_string(),
        ..to("users/bert@linden.example")
    };
    let mut service = client.work_list();
    let assigned = service.assign_planned_contact(bert.clone()).await;
    let assigned = assigned.unwrap().into_inner();
    assert_eq!(assigned.responsible, "users/bert%40linden.example");
    assert!(assigned.pinned && !made.pinned);
    let again = service.assign_planned_contact(bert.clone()).await;
    assert_eq!(again.unwrap().into_inner(), assigned);
    let stale = pb::AssignPlannedContactRequest {
        request_id: String::new(),
        ..bert
    };
    let stale = client.work_list().assign_planned_contact(stale).await;
    refused::is(&stale.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(next_customer(&client, asks("anna")).await, "-");
    let wrong = client.work_list().assign_planned_contact(to("chef")).await;
    refused::names(&wrong.unwrap_err(), &["responsible"]);

    // In somebody's hands it stays there; given to nobody it is anybody's.
    let mine = loop {
        // What was refused may still have it locked, and locked ones are passed over.
        if let Some(mine) = next(&client, asks("bert@linden.example")).await {
            break mine;
        }
    };
    let busy = client.work_list().assign_planned_contact(to("")).await;
    refused::precondition(&busy.unwrap_err(), "PRECONDITION");
    let request = pb::ReleaseContactRequest {
        name: made.name.clone(),
        claim: mine.claim,
        ..Default::default()
    };
    client.work_list().release_contact(request).await.unwrap();
    client
        .work_list()
        .assign_planned_contact(to(""))
        .await
        .unwrap();
    assert_eq!(next_customer(&client, asks("anna")).await, "K1");
}

/// As the database keeps it.
fn micros(time: prost_types::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        nanos: time.nanos / 1_000 * 1_000,
        ..time
    }
}

#[tokio::test]
async fn what_somebody_is_at_is_left_alone() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let made = create(&client, due("K1")).await;
    next(&client, asks("anna")).await.unwrap();
    let moving = pb::MovePlannedContactRequest {
        name: made.name.clone(),
        contact_time: Some(timestamp(Utc::now() + TimeDelta::days(1))),
        ..Default::default()
    };
    let status = client
        .work_list()
        .move_planned_contact(moving.clone())
        .await;
    let (_, why) = refused::precondition(&status.unwrap_err(), "PRECONDITION");
    assert!(why.contains("users/anna"), "{why}");
    let cancel = pb::CancelPlannedContactRequest {
        name: made.name,
        ..Default::default()
    };
    let status = client.work_list().cancel_planned_contact(cancel).await;
    refused::precondition(&status.unwrap_err(), "PRECONDITION");
    let wrong = pb::MovePlannedContactRequest {
        contact_time: Some(timestamp(Utc::now() + TimeDelta::days(400))),
        ..moving
    };
    sql(&server, "UPDATE planned_contact SET claim_until = now()").await;
    // Whoever asks, also for nothing, takes back what has run out.
    next(
        &client,
        pb::ClaimNextContactRequest {
            only_mine: true,
            ..asks("bert")
        },
    )
    .await;
    let status = client.work_list().move_planned_contact(wrong).await;
    refused::names(&status.unwrap_err(), &["contact_time"]);
}
