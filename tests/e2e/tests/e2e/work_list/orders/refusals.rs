//! Orders that are not taken: what is wrong in itself, claims that are over, and who is second.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::orders::v1 as orders;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_testkit::TestServer;
use uuid::Uuid;

use super::super::{claim, contact, desk, sql};
use super::{ahead, apples, get, in_hand, kinds, line, listed, take, taken};
use crate::refused;

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let empty = pb::TakeOrderRequest::default();
    refused::names(
        &take(&client, empty).await.unwrap_err(),
        &["name", "claim", "order"],
    );
    let claimed = in_hand(&client, "K1", ahead(3)).await;
    let mut request = apples(&claimed);
    request.claim = "keiner".into();
    request.add_to_etag = "x".into();
    request.outcome_later = true;
    request.note = "kommt noch".into();
    request.outcome = "bestellt".into();
    let order = request.order.as_mut().unwrap();
    order.number = "x".repeat(65);
    order.brand = "linden".into();
    order.delivery_date = Some(Default::default());
    order.departure = "x".repeat(201);
    order.note = "x".repeat(2_001);
    let dollars = |mut line: pb::NewOrderLine| {
        line.unit_price.as_mut().unwrap().currency_code = "USD".into();
        line
    };
    let bare = pb::NewOrderLine {
        product_group: String::new(),
        ..line("", "zwei", 1)
    };
    let unpriced = pb::NewOrderLine {
        unit_price: None,
        ..line("1", "0", 1)
    };
    order.lines = vec![bare, dollars(line("2", "1", 1)), unpriced];
    refused::names(
        &take(&client, request).await.unwrap_err(),
        &[
            "claim",
            "add_to_etag",
            // Once for its form, once because it comes with the outcome.
            "outcome",
            "outcome",
            "note",
            "order.number",
            "order.brand",
            "order.delivery_date",
            "order.departure",
            "order.note",
            "order.lines[0].product_number",
            "order.lines[0].quantity",
            "order.lines[1].unit_price.currency_code",
            "order.lines[2].quantity",
            "order.lines[2].unit_price",
        ],
    );
    // What is added to an order leaves the rest of it as it is.
    let mut request = apples(&claimed);
    request.add_to = "orders/1".into();
    request.another = true;
    let order = request.order.as_mut().unwrap();
    order.number = "2".into();
    order.note = "neu".into();
    order.lines.clear();
    refused::names(
        &take(&client, request).await.unwrap_err(),
        &["another", "order.number", "order.note", "order.lines"],
    );
    assert_eq!(listed(&client, "").await, []);
}

#[tokio::test]
async fn a_claim_that_is_over_takes_no_order() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let before = in_hand(&client, "K1", ahead(3)).await;
    sql(&server, "UPDATE planned_contact SET claim_until = now()").await;
    let name = &contact(&before).name;
    let after = claim(&client, name, "bert").await.unwrap();
    let status = take(&client, apples(&before)).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(&subject, name);
    assert!(why.contains("claim is over"), "{why}");
    let order = take(&client, apples(&after)).await.unwrap().order.unwrap();
    assert_eq!(order.taken_by, "users/bert");
    // The contact is over.
    for claimed in [&before, &after] {
        let status = take(&client, apples(claimed)).await.unwrap_err();
        let (_, why) = refused::precondition(&status, "PRECONDITION");
        assert!(why.starts_with("it is over"), "{why}");
    }
    let gone = pb::TakeOrderRequest {
        name: format!("plannedContacts/{}", Uuid::now_v7()),
        ..apples(&after)
    };
    refused::not_found(&take(&client, gone).await.unwrap_err());
    assert_eq!(listed(&client, "").await.len(), 1);
}

/// What an import or an update says of another customer's order under its number is refused.
#[tokio::test]
async fn an_order_that_was_taken_stays_its_customers() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let order = taken(&client, "K1", ahead(3)).await;
    let csv = "number,customer_number,ordered_at,currency\n\
               B-00000001,K2,2026-01-01T10:00:00Z,EUR\nE1,K2,2026-01-01T10:00:00Z,EUR\n";
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!((sums.created, sums.failed), (1, 1));
    let [error] = &sums.errors[..] else {
        panic!("{sums:?}");
    };
    assert_eq!((error.line, &error.field[..]), (2, "number"));
    assert!(error.reason.contains("another customer"), "{error:?}");
    let update = |customer: &str| orders::UpdateOrderRequest {
        order: Some(orders::Order {
            number: order.number.clone(),
            customer: format!("customers/{customer}"),
            order_time: order.order_time,
            currency_code: "EUR".into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let status = client.orders().update_order(update("K2")).await;
    refused::names(&status.unwrap_err(), &["order.number"]);
    assert_eq!(get(&client, &order.name).await.unwrap(), order);
    // Its own customer's is the same order; one that came from the ERP may change its customer.
    let own = client.orders().update_order(update("K1")).await.unwrap();
    assert_eq!(own.into_inner().customer, "customers/K1");
    let csv = "number,customer_number,ordered_at,currency\nE1,K3,2026-01-01T10:00:00Z,EUR\n";
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!((sums.updated, sums.errors.len()), (1, 0));
}

/// However many numbers in a row other orders have, they are passed over.
#[tokio::test]
async fn a_long_row_of_numbers_that_others_have_is_passed_over() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let mut csv = "number,customer_number,ordered_at,currency\n".to_owned();
    for i in (1..=150).chain([152]) {
        csv += &format!("B-{i:08},K3,2026-01-01T10:00:00Z,EUR\n");
    }
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    for number in ["B-00000151", "B-00000153", "B-00000154"] {
        assert_eq!(taken(&client, "K1", ahead(3)).await.number, number);
    }
}

#[tokio::test]
async fn of_many_at_once_one_makes_the_order() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let day = ahead(3);
    // Two contacts with the same customer, each in several windows.
    let mut claims = Vec::new();
    for _ in 0..2 {
        claims.push(in_hand(&client, "K1", day).await);
    }
    let taking: Vec<_> = (0..8)
        .map(|i| {
            let (client, request) = (client.clone(), apples(&claims[i % 2]));
            tokio::spawn(async move { take(&client, request).await })
        })
        .collect();
    let mut made = Vec::new();
    for taken in taking {
        match taken.await.unwrap() {
            Ok(taken) => made.push(taken.order.unwrap().number),
            Err(status) => assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status:?}"),
        }
    }
    assert_eq!(made, ["B-00000001"]);
    assert_eq!(listed(&client, "").await.len(), 1);
    assert_eq!(
        kinds(&client, "K1").await,
        ["contact.order_taken", "order.taken"]
    );
    // Whoever was second still has the contact, and is told of the order.
    let mut exists = 0;
    for claimed in &claims {
        let status = take(&client, apples(claimed)).await.unwrap_err();
        if anklang_testkit::reason(&status) == "ORDER_EXISTS" {
            exists += 1;
        }
    }
    assert_eq!(exists, 1);
}

#[tokio::test]
async fn a_repeated_call_takes_one_order() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let claimed = in_hand(&client, "K1", ahead(3)).await;
    let request = pb::TakeOrderRequest {
        request_id: Uuid::now_v7().to_string(),
        ..apples(&claimed)
    };
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (client, request) = (client.clone(), request.clone());
            tokio::spawn(async move { take(&client, request).await })
        })
        .collect();
    let first = take(&client, request.clone()).await.unwrap();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), first);
    }
    assert_eq!(listed(&client, "").await.len(), 1);
    let order = first.order.unwrap();
    assert_eq!(get(&client, &order.name).await.unwrap(), order);
    let other = pb::TakeOrderRequest {
        another: true,
        ..request
    };
    refused::is(
        &take(&client, other).await.unwrap_err(),
        tonic::Code::InvalidArgument,
        "REQUEST_ID_REUSED",
    );
}
