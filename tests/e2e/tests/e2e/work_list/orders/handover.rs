//! What the ERP gets of orders, and what it says of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::handover::v1 as webhooks;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::orders::v1::{self as orders, OrderState};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_testkit::receiver::Receiver;
use anklang_testkit::{Client, Options, TestServer};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::super::{contact, desk};
use super::{
    ahead, apples, get, history, in_hand, kinds, line, listed, numbers, take, taken, wire,
};
use crate::hold::Hold;
use crate::refused;
use crate::utility::until;

/// A server that tries often, and never gives up as long as a test lasts.
async fn patient() -> TestServer {
    let config = crate::handover::QUICK.replace("attempts = 3", "attempts = 100");
    let options = Options {
        config,
        ..Default::default()
    };
    TestServer::start_with(options).await.unwrap()
}

async fn told_to(client: &Client, receiver: &Receiver) {
    let request = webhooks::CreateWebhookRequest {
        webhook: Some(webhooks::Webhook {
            display_name: "ERP".into(),
            url: receiver.url("/erp"),
            event_types: ["taken", "lines_added", "rejected"]
                .map(|kind| format!("anklang.order.{kind}.v1"))
                .into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.webhooks().create_webhook(request).await.unwrap();
}

async fn acknowledge(
    client: &Client,
    request: orders::AcknowledgeOrderRequest,
) -> Result<orders::Order, Status> {
    let order = client.orders().acknowledge_order(request).await;
    order.map(tonic::Response::into_inner)
}

fn accepts(name: &str, number: &str) -> orders::AcknowledgeOrderRequest {
    orders::AcknowledgeOrderRequest {
        name: name.into(),
        state: OrderState::Accepted.into(),
        number: number.into(),
        ..Default::default()
    }
}

async fn reject(client: &Client, name: &str, reason: &str) -> Result<orders::Order, Status> {
    let request = orders::AcknowledgeOrderRequest {
        name: name.into(),
        state: OrderState::Rejected.into(),
        reject_reason: reason.into(),
        ..Default::default()
    };
    acknowledge(client, request).await
}

fn dropped_lines(event: &customers::CustomerEvent) -> Option<&prost_types::Value> {
    event.details.as_ref().unwrap().fields.get("dropped_lines")
}

fn types(receiver: &Receiver) -> Vec<String> {
    let calls = receiver.calls();
    let of = |event: Value| event["type"].as_str().unwrap().to_owned();
    calls.iter().map(|call| of(call.event())).collect()
}

#[tokio::test]
async fn the_erp_gets_orders_with_all_lines_and_in_order() {
    let server = patient().await;
    let client = desk(&server).await;
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let receiver = Receiver::answering(move |_| match up.load(Ordering::SeqCst) {
        true => 204.into(),
        false => 503.into(),
    })
    .await;
    told_to(&client, &receiver).await;

    let day = ahead(3);
    let claimed = in_hand(&client, "K1", day).await;
    let mut request = apples(&claimed);
    let order = request.order.as_mut().unwrap();
    order.note = "Hintereingang".into();
    order.lines.push(line("815", "0.5", 399));
    let first = take(&client, request).await.unwrap().order.unwrap();
    until("a failed call", async || !receiver.calls().is_empty()).await;
    let again = in_hand(&client, "K1", day).await;
    let more = pb::TakeOrderRequest {
        add_to: first.name.clone(),
        ..apples(&again)
    };
    let longer = take(&client, more).await.unwrap().order.unwrap();
    let before = receiver.calls().len();
    until("another failed call", async || {
        receiver.calls().len() > before
    })
    .await;
    is_up.store(true, Ordering::SeqCst);
    let added = "anklang.order.lines_added.v1";
    until("the lines", async || {
        types(&receiver).iter().any(|t| t == added)
    })
    .await;

    // The order until it is taken, with the same id and body; only then the lines.
    let calls = receiver.calls();
    let (last, tries) = calls.split_last().unwrap();
    assert!(tries.len() >= 2);
    for call in tries {
        assert_eq!((call.id(), &call.body), (tries[0].id(), &tries[0].body));
    }
    let event = tries[0].event();
    assert_eq!(event["type"], "anklang.order.taken.v1");
    assert_eq!(event["subject"], first.name);
    let mut data = event["data"].clone();
    for time in ["order_time", "event_time"] {
        assert!(data[time].take().is_string(), "{time}");
    }
    assert_eq!(data["etag"].take(), json!(first.etag));
    let apples = |number: i32| {
        json!({"line": number, "product_number": "4711", "product_name": "",
               "product_group": "Obst", "quantity": "2.000", "unit_price": "12.5000"})
    };
    let pears = json!({"line": 2, "product_number": "815", "product_name": "",
                       "product_group": "Obst", "quantity": "0.500", "unit_price": "3.9900"});
    assert_eq!(
        data,
        json!({
            "order": first.number, "state": "taken", "customer": "K1", "brand": null,
            "delivery_date": day.to_string(), "departure": "", "order_type": "",
            "note": "Hintereingang", "currency": "EUR", "order_time": null, "event_time": null,
            "total": "27.00", "lines": [apples(1), pears], "added_lines": [1, 2],
            "planned_contact": contact(&claimed).name, "contact_plan": null, "campaign": null,
            "phase": null, "offer": null, "etag": null,
            "taken_by": "users/anna", "worker": "users/anna", "reject_reason": "",
        })
    );
    let event = last.event();
    assert_eq!(
        (&event["type"], &event["subject"]),
        (&json!(added), &json!(first.name))
    );
    assert_eq!(event["data"]["lines"], json!([apples(1), pears, apples(3)]));
    assert_eq!(event["data"]["added_lines"], json!([3]));
    assert_eq!(event["data"]["total"], "52.00");
    assert_eq!(event["data"]["planned_contact"], contact(&again).name);
    // The ERP has not seen the lines yet, and says so.
    let seen = |etag: &Value| orders::AcknowledgeOrderRequest {
        etag: etag.as_str().unwrap().into(),
        ..accepts(&first.name, "4711")
    };
    let tags = [tries[0].event(), last.event()].map(|event| event["data"]["etag"].clone());
    assert_eq!(tags[1], json!(longer.etag));
    refused::is(
        &acknowledge(&client, seen(&tags[0])).await.unwrap_err(),
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let accepted = acknowledge(&client, seen(&tags[1])).await.unwrap();
    assert_eq!(accepted.lines, longer.lines);
}

#[tokio::test]
async fn an_accepted_order_gets_the_erps_number_and_stays_the_same() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let day = ahead(3);
    let order = taken(&client, "K1", day).await;
    let stale = orders::AcknowledgeOrderRequest {
        etag: "stale".into(),
        ..accepts(&order.name, "4711")
    };
    refused::is(
        &acknowledge(&client, stale).await.unwrap_err(),
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let accepted = acknowledge(&client, accepts(&order.name, "4711"))
        .await
        .unwrap();
    assert_eq!(accepted.state(), OrderState::Accepted);
    assert_eq!(
        (&accepted.number[..], &accepted.name[..]),
        ("4711", "orders/4711")
    );
    assert_eq!(accepted.taken_number, order.number);
    assert!(accepted.acknowledge_time.is_some());
    assert_eq!(accepted.lines, order.lines);
    // By its old name as well, and said again by either.
    assert_eq!(get(&client, &order.name).await.unwrap(), accepted);
    for again in [
        accepts(&order.name, "4711"),
        accepts(&order.name, ""),
        accepts("orders/4711", "4711"),
    ] {
        assert_eq!(acknowledge(&client, again).await.unwrap(), accepted);
    }
    let (subject, _) = refused::precondition(
        &acknowledge(&client, accepts(&order.name, "815"))
            .await
            .unwrap_err(),
        "ILLEGAL_TRANSITION",
    );
    assert_eq!(subject, "orders/4711");
    refused::precondition(
        &reject(&client, &order.name, "leer").await.unwrap_err(),
        "ILLEGAL_TRANSITION",
    );
    assert_eq!(
        kinds(&client, "K1").await,
        ["contact.order_taken", "order.accepted", "order.taken"]
    );
    // Nothing is added any more.
    let claimed = in_hand(&client, "K1", day).await;
    let more = pb::TakeOrderRequest {
        add_to: accepted.name.clone(),
        ..apples(&claimed)
    };
    refused::precondition(&take(&client, more).await.unwrap_err(), "PRECONDITION");

    // What the ERP sends of it later is the same order, and what is known of it stays.
    for (entity, csv) in [
        (
            ImportEntity::Orders,
            "number,customer_number,ordered_at,currency\n4711,K1,2026-01-01T10:00:00Z,EUR\n",
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,product_number,quantity,unit_price\n4711,1,4711,3,12.50\n",
        ),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!((sums.errors.len(), sums.created), (0, 0));
    }
    let now = get(&client, "orders/4711").await.unwrap();
    assert_eq!(now.lines[0].quantity, "3");
    let update = orders::UpdateOrderRequest {
        order: Some(orders::Order {
            number: "4711".into(),
            customer: "customers/K1".into(),
            order_time: now.order_time,
            currency_code: "EUR".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let now = client
        .orders()
        .update_order(update)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(now.lines, []);
    assert_eq!(now.delivery_date, wire(day));
    assert_eq!(
        (now.state(), &now.taken_number),
        (OrderState::Accepted, &order.number)
    );
    assert_eq!(
        (&now.taken_by, &now.planned_contact),
        (&order.taken_by, &order.planned_contact)
    );
    assert_eq!(listed(&client, "").await.len(), 1);
}

/// The number under which an order was taken stays that order's when the ERP has given it another one.
#[tokio::test]
async fn a_renamed_order_is_not_made_again_under_its_old_number() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let order = taken(&client, "K1", ahead(3)).await;
    acknowledge(&client, accepts(&order.name, "E-77"))
        .await
        .unwrap();
    for (entity, csv, field) in [
        (
            ImportEntity::Orders,
            "number,customer_number,ordered_at,currency\nB-00000001,K1,2026-01-01T10:00:00Z,EUR\n",
            "number",
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,product_number,quantity,unit_price\nB-00000001,1,4711,3,12.50\n",
            "order_number",
        ),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        let errors: Vec<_> = (sums.errors.iter())
            .map(|e| (&e.field[..], &e.reason[..]))
            .collect();
        assert_eq!(errors, [(field, "is now E-77")]);
    }
    let update = |named: &str| orders::UpdateOrderRequest {
        order: Some(orders::Order {
            name: named.into(),
            number: order.number.clone(),
            customer: "customers/K1".into(),
            order_time: order.order_time,
            currency_code: "EUR".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    for named in ["", &order.name[..]] {
        let updated = client.orders().update_order(update(named)).await.unwrap();
        let updated = updated.into_inner();
        assert_eq!((&updated.number[..], &updated.lines), ("E-77", &vec![]));
    }
    let status = client.orders().update_order(update("orders/815")).await;
    refused::names(&status.unwrap_err(), &["order.name"]);
    let mut masked = update("");
    masked.order.as_mut().unwrap().delivery_date = wire(ahead(5));
    masked.update_mask = Some(prost_types::FieldMask {
        paths: vec!["delivery_date".into()],
    });
    let updated = client.orders().update_order(masked).await.unwrap();
    let updated = updated.into_inner();
    assert_eq!(
        (&updated.number[..], updated.delivery_date),
        ("E-77", wire(ahead(5)))
    );
    // No other order gets that number from the ERP.
    let other = taken(&client, "K1", ahead(3)).await;
    let status = acknowledge(&client, accepts(&other.name, &order.number)).await;
    refused::names(&status.unwrap_err(), &["number"]);
    assert_eq!(numbers(&listed(&client, "").await), ["B-00000002", "E-77"]);
}

#[tokio::test]
async fn an_order_that_the_erp_sent_before_it_said_so_is_the_same() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let order = taken(&client, "K1", ahead(3)).await;
    let other = taken(&client, "K1", ahead(3)).await;
    for (entity, csv) in [
        (
            ImportEntity::Orders,
            "number,customer_number,ordered_at,currency\n\
             4711,K1,2026-01-01T10:00:00Z,EUR\n815,K2,2026-01-01T10:00:00Z,EUR\n",
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,product_number,quantity,unit_price\n4711,10,4711,3,12.50\n",
        ),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, []);
    }
    for foreign in ["815", &other.number] {
        let status = acknowledge(&client, accepts(&order.name, foreign)).await;
        refused::names(&status.unwrap_err(), &["number"]);
    }
    let one = acknowledge(&client, accepts(&order.name, "4711"))
        .await
        .unwrap();
    assert_eq!(
        (&one.number[..], &one.taken_number),
        ("4711", &order.number)
    );
    let lines: Vec<_> = one
        .lines
        .iter()
        .map(|l| (l.line, &l.quantity[..]))
        .collect();
    assert_eq!(lines, [(10, "3")]);
    // What was taken and is not among that is told.
    let told = history(&client, "K1").await;
    let accepted = told.iter().find(|e| e.kind == "order.accepted").unwrap();
    let dropped = format!("{:?}", dropped_lines(accepted).unwrap());
    assert!(
        dropped.contains("4711") && dropped.contains("2.000"),
        "{dropped}"
    );
    assert_eq!(one.delivery_date, order.delivery_date);
    assert_eq!(one.planned_contact, order.planned_contact);
    assert_eq!(
        numbers(&listed(&client, "customer = \"customers/K1\"").await),
        ["4711", &other.number]
    );
}

/// What the ERP has sent of an order without its lines takes none away.
#[tokio::test]
async fn an_order_without_lines_leaves_those_that_were_taken() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let order = taken(&client, "K1", ahead(3)).await;
    let csv = "number,customer_number,ordered_at,currency\n4711,K1,2026-01-01T10:00:00Z,EUR\n";
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    let one = acknowledge(&client, accepts(&order.name, "4711"))
        .await
        .unwrap();
    assert_eq!((&one.number[..], &one.lines), ("4711", &order.lines));
    let told = history(&client, "K1").await;
    let accepted = told.iter().find(|e| e.kind == "order.accepted").unwrap();
    assert_eq!(dropped_lines(accepted), None);
    assert_eq!(listed(&client, "").await.len(), 1);
}

/// An import brings the order at the very moment in which it is acknowledged.
#[tokio::test]
async fn an_import_in_the_way_of_an_acknowledgement_is_told_to_try_again() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let order = taken(&client, "K1", ahead(3)).await;
    let hold = Hold::inserts(&server, "sales_order", "NEW.number = '9999'").await;
    let importing = {
        let client = client.clone();
        tokio::spawn(async move {
            let csv = "number,customer_number,ordered_at,currency\n\
                       4711,K1,2026-01-01T10:00:00Z,EUR\n9999,K1,2026-01-01T10:00:00Z,EUR\n";
            client.import(ImportEntity::Orders, csv).await.unwrap()
        })
    };
    hold.reached().await;
    let acknowledging = {
        let (client, request) = (client.clone(), accepts(&order.name, "4711"));
        tokio::spawn(async move { acknowledge(&client, request).await })
    };
    let waits = "SELECT count(*) FROM pg_stat_activity
                 WHERE wait_event_type = 'Lock' AND wait_event = 'transactionid'
                   AND datname = current_database()";
    until("the acknowledgement waits for the import", async || {
        server.database.one(waits).await.unwrap() == "1"
    })
    .await;
    hold.release().await;
    assert_eq!(importing.await.unwrap().errors, []);
    let status = acknowledging.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let one = acknowledge(&client, accepts(&order.name, "4711"))
        .await
        .unwrap();
    assert_eq!(one.lines, order.lines);
    assert_eq!(numbers(&listed(&client, "").await), ["4711", "9999"]);
}

#[tokio::test]
async fn a_rejected_order_is_told_to_whoever_took_it() {
    let server = patient().await;
    let client = desk(&server).await;
    let receiver = Receiver::start().await;
    told_to(&client, &receiver).await;
    let day = ahead(3);
    let order = taken(&client, "K1", day).await;
    let rejected = reject(&client, &order.name, "ausverkauft").await.unwrap();
    assert_eq!(rejected.state(), OrderState::Rejected);
    assert_eq!(rejected.reject_reason, "ausverkauft");
    // Final; the first reason stays.
    assert_eq!(
        reject(&client, &order.name, "egal").await.unwrap(),
        rejected
    );
    refused::precondition(
        &acknowledge(&client, accepts(&order.name, ""))
            .await
            .unwrap_err(),
        "ILLEGAL_TRANSITION",
    );
    until("both events", async || types(&receiver).len() == 2).await;
    let event = receiver.calls()[1].event();
    assert_eq!(event["type"], "anklang.order.rejected.v1");
    assert_eq!(event["subject"], order.name);
    let data = &event["data"];
    assert_eq!(
        (
            &data["reject_reason"],
            &data["taken_by"],
            &data["planned_contact"]
        ),
        (
            &json!("ausverkauft"),
            &json!("users/anna"),
            &json!(order.planned_contact)
        )
    );
    let told = history(&client, "K1").await;
    assert_eq!(
        (&told[0].kind[..], &told[0].resource),
        ("order.rejected", &order.name)
    );
    let mine = "state = REJECTED AND taken_by = \"users/anna\"";
    assert_eq!(numbers(&listed(&client, mine).await), [order.number]);
    // It does not stand in the way of another one.
    let claimed = in_hand(&client, "K1", day).await;
    take(&client, apples(&claimed)).await.unwrap();
}

#[tokio::test]
async fn acknowledgements_are_checked() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let csv = "number,customer_number,ordered_at,currency\nE1,K1,2026-01-01T10:00:00Z,EUR\n";
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    refused::precondition(
        &acknowledge(&client, accepts("orders/E1", ""))
            .await
            .unwrap_err(),
        "ILLEGAL_TRANSITION",
    );
    refused::not_found(
        &acknowledge(&client, accepts("orders/X", ""))
            .await
            .unwrap_err(),
    );
    let bad = |state: OrderState, number: &str, reason: &str| orders::AcknowledgeOrderRequest {
        name: "order/E1".into(),
        state: state.into(),
        number: number.into(),
        reject_reason: reason.into(),
        ..Default::default()
    };
    let long = "x".repeat(65);
    for (request, fields) in [
        (
            bad(OrderState::Taken, &long, ""),
            &["name", "state", "number"][..],
        ),
        (
            bad(OrderState::Accepted, "", "leer"),
            &["name", "reject_reason"],
        ),
        (
            bad(OrderState::Rejected, "1", ""),
            &["name", "number", "reject_reason"],
        ),
    ] {
        refused::names(&acknowledge(&client, request).await.unwrap_err(), fields);
    }
}

/// Orders can be found by how far they are in selections as well.
#[tokio::test]
async fn selections_know_how_far_an_order_is() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let rejected = taken(&client, "K1", ahead(3)).await;
    taken(&client, "K2", ahead(3)).await;
    reject(&client, &rejected.name, "leer").await.unwrap();
    let count = async |criteria: serde_json::Value| {
        let raw = crate::raw::Raw::connect(server.addr).await;
        let method = "anklang.selections.v1.SelectionService/PreviewSelection";
        let request = json!({
            "criteria": {"subject": "SUBJECT_CUSTOMER", "criteria": criteria},
        });
        let preview = raw.call(Some("linden"), method, &request).await.unwrap();
        preview["count"].as_str().unwrap_or("0").to_owned()
    };
    let some = |criteria: serde_json::Value| {
        json!({"related": {"relation": "orders", "quantifier": "QUANTIFIER_ANY",
                           "criteria": criteria}})
    };
    let state = |word: &str| {
        json!({"compare": {"field": "state", "operator": "OPERATOR_EQUAL",
                           "values": [{"text": word}]}})
    };
    assert_eq!(count(some(state("rejected"))).await, "1");
    assert_eq!(count(some(json!({"not": state("rejected")}))).await, "1");
}
