//! Orders that customers place in a contact: taken, added to, told to the ERP, acknowledged.

mod handover;
mod refusals;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::orders::v1::{self as orders, OrderState};
use anklang_proto::anklang::planning::v1::{self as pb, OutcomeClass, PlannedContactState};
use anklang_proto::google::r#type::{Date, Money};
use anklang_testkit::{Client, TestServer};
use chrono::{Datelike, NaiveDate, TimeDelta, Utc};
use tonic::Status;

use super::{asks, claim, contact, create, desk, due, next, record, says, sql, timestamp};
use crate::planning::{put_period_of, put_plan, weekly, written};
use crate::refused;

/// So many days from today; three or more are ahead in every time zone.
fn ahead(days: i64) -> NaiveDate {
    Utc::now().date_naive() + TimeDelta::days(days)
}

fn wire(date: NaiveDate) -> Option<Date> {
    Some(Date {
        year: date.year(),
        month: date.month().try_into().unwrap(),
        day: date.day().try_into().unwrap(),
    })
}

fn line(product: &str, quantity: &str, cents: i64) -> pb::NewOrderLine {
    pb::NewOrderLine {
        product_number: product.into(),
        product_group: "Obst".into(),
        quantity: quantity.into(),
        unit_price: Some(Money {
            currency_code: "EUR".into(),
            units: cents / 100,
            nanos: i32::try_from(cents % 100).unwrap() * 10_000_000,
        }),
        ..Default::default()
    }
}

/// A contact with a customer in anna's hands, whose orders are delivered on that day.
async fn in_hand(client: &Client, customer: &str, delivery: NaiveDate) -> pb::ContactClaim {
    let new = pb::NewPlannedContact {
        delivery_date: wire(delivery),
        ..due(customer)
    };
    let made = create(client, new).await;
    claim(client, &made.name, "anna").await.unwrap()
}

/// Two crates of apples.
fn apples(claim: &pb::ContactClaim) -> pb::TakeOrderRequest {
    pb::TakeOrderRequest {
        name: contact(claim).name.clone(),
        claim: claim.claim.clone(),
        order: Some(pb::NewOrder {
            lines: vec![line("4711", "2", 1_250)],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Apples, to be delivered in three days.
pub(super) async fn some(client: &Client, claim: &pb::ContactClaim) -> orders::Order {
    let mut request = apples(claim);
    request.order.as_mut().unwrap().delivery_date = wire(ahead(3));
    take(client, request).await.unwrap().order.unwrap()
}

async fn take(
    client: &Client,
    request: pb::TakeOrderRequest,
) -> Result<pb::TakeOrderResponse, Status> {
    let taken = client.work_list().take_order(request).await;
    taken.map(tonic::Response::into_inner)
}

/// The order of a customer that was just taken.
async fn taken(client: &Client, customer: &str, delivery: NaiveDate) -> orders::Order {
    let claim = in_hand(client, customer, delivery).await;
    let request = pb::TakeOrderRequest {
        another: true,
        ..apples(&claim)
    };
    take(client, request).await.unwrap().order.unwrap()
}

async fn shown(client: &Client, contact: &str) -> pb::ListContactOrdersResponse {
    let request = pb::ListContactOrdersRequest {
        parent: contact.into(),
        ..Default::default()
    };
    let listed = client.work_list().list_contact_orders(request).await;
    listed.unwrap().into_inner()
}

fn numbers(orders: &[orders::Order]) -> Vec<&str> {
    orders.iter().map(|order| &order.number[..]).collect()
}

async fn listed(client: &Client, filter: &str) -> Vec<orders::Order> {
    let request = orders::ListOrdersRequest {
        filter: filter.into(),
        ..Default::default()
    };
    let listed = client.orders().list_orders(request).await;
    listed.unwrap().into_inner().orders
}

async fn get(client: &Client, name: &str) -> Result<orders::Order, Status> {
    let request = orders::GetOrderRequest { name: name.into() };
    let got = client.orders().get_order(request).await;
    got.map(tonic::Response::into_inner)
}

/// Lines in a customer's history, the newest first.
async fn history(client: &Client, customer: &str) -> Vec<customers::CustomerEvent> {
    let request = customers::ListCustomerEventsRequest {
        parent: format!("customers/{customer}"),
        ..Default::default()
    };
    let listed = client.customers().list_customer_events(request).await;
    listed.unwrap().into_inner().customer_events
}

async fn kinds(client: &Client, customer: &str) -> Vec<String> {
    let mut kinds: Vec<String> = history(client, customer)
        .await
        .into_iter()
        .map(|event| event.kind)
        .collect();
    kinds.sort_unstable();
    kinds
}

/// A contact in somebody's hands, its claim, and two orders that were taken in it: of the customer K0001.
pub(super) async fn populate(client: &Client) -> ((String, String), [String; 2]) {
    let made = create(
        client,
        pb::NewPlannedContact {
            delivery_date: wire(ahead(3)),
            ..due("K0001")
        },
    )
    .await;
    let request = pb::ClaimContactRequest {
        name: made.name.clone(),
        worker: "users/anna".into(),
        claim_seconds: 3_600,
        ..Default::default()
    };
    let claimed = client.work_list().claim_contact(request).await.unwrap();
    let claimed = claimed.into_inner();
    let mut orders = Vec::new();
    for _ in 0..2 {
        let request = pb::TakeOrderRequest {
            another: true,
            outcome_later: true,
            ..apples(&claimed)
        };
        let order = take(client, request).await.unwrap().order.unwrap();
        orders.push(order.name);
    }
    ((made.name, claimed.claim), orders.try_into().unwrap())
}

#[tokio::test]
async fn an_order_is_the_outcome_of_its_contact() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let day = ahead(3);
    let claimed = in_hand(&client, "K1", day).await;
    let name = &contact(&claimed).name;
    let before = shown(&client, name).await;
    assert_eq!(before.delivery_date, wire(day));
    assert_eq!(
        before.delivery_date_source(),
        pb::DeliveryDateSource::Contact
    );
    assert_eq!(before.orders, []);

    let mut request = apples(&claimed);
    request.note = "bestellt wie immer".into();
    request.talk_time = Some(prost_types::Duration {
        seconds: 90,
        nanos: 0,
    });
    let order = request.order.as_mut().unwrap();
    order.departure = "Tour 7".into();
    order.note = "Hintereingang".into();
    order.lines.push(line("815", "0.5", 399));
    // A trial says what would be, and takes no number.
    let trial = pb::TakeOrderRequest {
        validate_only: true,
        ..request.clone()
    };
    let tried = take(&client, trial).await.unwrap().order.unwrap();
    assert_eq!(listed(&client, "").await, []);
    let response = take(&client, request).await.unwrap();
    let order = response.order.unwrap();
    assert_eq!(
        (&tried.number, &order.number[..]),
        (&order.number, "B-00000001")
    );
    assert_eq!(order.state(), OrderState::Taken);
    assert_eq!(order.taken_number, order.number);
    assert_eq!(order.customer, "customers/K1");
    assert_eq!(order.delivery_date, wire(day));
    assert_eq!(
        (&order.departure[..], &order.note[..], &order.taken_by[..]),
        ("Tour 7", "Hintereingang", "users/anna")
    );
    assert_eq!(&order.planned_contact, name);
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|l| (l.line, &l.quantity[..]))
        .collect();
    assert_eq!(lines, [(1, "2"), (2, "0.5")]);
    // 2 × 12.50 + 0.5 × 3.99, rounded half away from zero.
    let total = order.total.as_ref().unwrap();
    assert_eq!((total.units, total.nanos), (27, 0));

    let over = response.planned_contact.unwrap();
    assert_eq!(over.state(), PlannedContactState::Done);
    assert_eq!(over.outcome_class(), OutcomeClass::OrderTaken);
    let request = pb::ListContactAttemptsRequest {
        parent: name.clone(),
        ..Default::default()
    };
    let attempts = client.work_list().list_contact_attempts(request).await;
    let attempts = attempts.unwrap().into_inner().contact_attempts;
    let [attempt] = &attempts[..] else {
        panic!("{attempts:?}");
    };
    assert_eq!(attempt.note, "bestellt wie immer");
    assert_eq!(attempt.talk_time.unwrap().seconds, 90);
    assert_eq!(get(&client, &order.name).await.unwrap(), order);
    assert_eq!(
        kinds(&client, "K1").await,
        ["contact.order_taken", "order.taken"]
    );
    assert_eq!(numbers(&shown(&client, name).await.orders), [order.number]);
}

#[tokio::test]
async fn an_order_for_the_same_delivery_is_added_to_or_another_one_made() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let day = ahead(3);
    // Of an earlier day, of another customer, and one that the ERP has sent.
    taken(&client, "K1", ahead(4)).await;
    let foreign = taken(&client, "K2", day).await;
    let csv = format!(
        "number,customer_number,ordered_at,currency,delivery_date\n\
         E1,K1,2026-01-01T10:00:00Z,EUR,{day}\n"
    );
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!(sums.errors, []);

    let claimed = in_hand(&client, "K1", day).await;
    let seen = shown(&client, &contact(&claimed).name).await;
    assert_eq!(numbers(&seen.orders), ["E1"]);
    assert_eq!(seen.orders[0].state(), OrderState::Unspecified);
    let status = take(&client, apples(&claimed)).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "ORDER_EXISTS");
    assert_eq!(subject, "orders/E1");
    assert!(why.contains("add_to") && why.contains("another"), "{why}");
    // To that of the ERP nothing is added.
    let add_to = |name: &str, claimed: &pb::ContactClaim| pb::TakeOrderRequest {
        add_to: name.into(),
        ..apples(claimed)
    };
    let status = take(&client, add_to("orders/E1", &claimed))
        .await
        .unwrap_err();
    let (subject, _) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "orders/E1");
    for bad in [&foreign.name[..], "orders/keine"] {
        let status = take(&client, add_to(bad, &claimed)).await.unwrap_err();
        refused::names(&status, &["add_to"]);
    }
    let another = pb::TakeOrderRequest {
        another: true,
        ..apples(&claimed)
    };
    let second = take(&client, another).await.unwrap().order.unwrap();

    let claimed = in_hand(&client, "K1", day).await;
    let status = take(&client, apples(&claimed)).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "ORDER_EXISTS");
    assert_eq!(subject, second.name, "it can be added to");
    assert!(why.contains("orders/E1"), "{why}");
    let mut more = add_to(&second.name, &claimed);
    more.add_to_etag = "old".into();
    refused::is(
        &take(&client, more.clone()).await.unwrap_err(),
        tonic::Code::Aborted,
        "ETAG_MISMATCH",
    );
    more.add_to_etag = second.etag;
    more.order.as_mut().unwrap().lines = vec![line("9", "3", 100)];
    let longer = take(&client, more).await.unwrap().order.unwrap();
    let lines: Vec<_> = longer
        .lines
        .iter()
        .map(|l| (l.line, &l.product_number[..]))
        .collect();
    assert_eq!(lines, [(1, "4711"), (2, "9")]);
    assert_eq!(longer.name, second.name);
    assert_eq!(numbers(&listed(&client, "state = TAKEN").await).len(), 3);
    let filter = format!("delivery_date = {day} AND customer = \"customers/K1\"");
    assert_eq!(
        numbers(&listed(&client, &filter).await),
        [&second.number[..], "E1"]
    );
    let lines_added = |kind: &String| kind == "order.lines_added";
    assert_eq!(
        kinds(&client, "K1")
            .await
            .into_iter()
            .filter(lines_added)
            .count(),
        1
    );
}

#[tokio::test]
async fn the_outcome_may_come_later() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let claimed = in_hand(&client, "K1", ahead(3)).await;
    let later = pb::TakeOrderRequest {
        outcome_later: true,
        another: true,
        ..apples(&claimed)
    };
    for _ in 0..2 {
        let response = take(&client, later.clone()).await.unwrap();
        let still = response.planned_contact.unwrap();
        assert_eq!(still.state(), PlannedContactState::Claimed);
        assert_eq!(still.attempt_count, 0);
    }
    let over = record(&client, says(&claimed, OutcomeClass::OrderTaken)).await;
    let over = over.unwrap().planned_contact.unwrap();
    assert_eq!(
        (over.state(), over.attempt_count),
        (PlannedContactState::Done, 1)
    );
    let filter = format!("planned_contact = \"{}\"", over.name);
    assert_eq!(
        numbers(&listed(&client, &filter).await),
        ["B-00000001", "B-00000002"]
    );
}

/// Lets claims run out.
const RUN_OUT: &str = "UPDATE planned_contact SET claim_until = now() WHERE state = 'claimed'";

/// Who has ordered is not called again when the client is lost before it says what came of the contact.
#[tokio::test]
async fn an_order_whose_outcome_never_came_ends_its_contact() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let mut claims = Vec::new();
    for customer in ["K1", "K2", "K3"] {
        claims.push(in_hand(&client, customer, ahead(3)).await);
    }
    for claimed in &claims[..2] {
        let later = pb::TakeOrderRequest {
            outcome_later: true,
            ..apples(claimed)
        };
        take(&client, later).await.unwrap();
    }
    // The first is given back, the claims of the others run out; in the third nothing was ordered.
    let release = pb::ReleaseContactRequest {
        name: contact(&claims[0]).name.clone(),
        claim: claims[0].claim.clone(),
        ..Default::default()
    };
    client.work_list().release_contact(release).await.unwrap();
    sql(&server, RUN_OUT).await;
    let mut left = Vec::new();
    while let Some(claimed) = next(&client, asks("bert")).await {
        left.push(contact(&claimed).customer.clone());
    }
    assert_eq!(left, ["customers/K3"]);
    for (claimed, customer) in claims[..2].iter().zip(["K1", "K2"]) {
        let name = &contact(claimed).name;
        let request = pb::GetPlannedContactRequest { name: name.clone() };
        let over = client.planned_contacts().get_planned_contact(request).await;
        let over = over.unwrap().into_inner();
        assert_eq!(
            (over.state(), over.outcome_class(), over.attempt_count),
            (PlannedContactState::Done, OutcomeClass::OrderTaken, 1)
        );
        assert!(over.worked_on);
        let request = pb::ListContactAttemptsRequest {
            parent: name.clone(),
            ..Default::default()
        };
        let attempts = client.work_list().list_contact_attempts(request).await;
        let attempts = attempts.unwrap().into_inner().contact_attempts;
        let of: Vec<_> = (attempts.iter())
            .map(|a| (a.outcome_class(), &a.worker[..]))
            .collect();
        assert_eq!(of, [(OutcomeClass::OrderTaken, "users/anna")]);
        assert_eq!(
            kinds(&client, customer).await,
            ["contact.order_taken", "order.taken"]
        );
    }
    // What is said under the claim that is over is not believed.
    let status = record(&client, says(&claims[1], OutcomeClass::NotReached)).await;
    refused::precondition(&status.unwrap_err(), "PRECONDITION");
}

/// A contact that was made by a plan stays when its entry goes, once something was ordered in it.
#[tokio::test]
async fn an_order_keeps_its_contact() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let claimed = in_hand(&client, "K1", ahead(3)).await;
    let later = pb::TakeOrderRequest {
        outcome_later: true,
        ..apples(&claimed)
    };
    let order = take(&client, later).await.unwrap().order.unwrap();
    sql(&server, RUN_OUT).await;
    assert_eq!(next(&client, asks("bert")).await, None);
    // As generations and deletions of entries find those that nobody was at.
    let untouched = "SELECT count(*) FROM planned_contact
                     WHERE state = 'open' AND attempts = 0 AND marks = '{}'";
    assert_eq!(server.database.one(untouched).await.unwrap(), "0");
    let now = get(&client, &order.name).await.unwrap();
    assert_eq!(now.planned_contact, contact(&claimed).name);
}

#[tokio::test]
async fn a_tenant_has_numbers_and_outcomes_of_its_own() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for (id, class) in [
        ("bestellt", OutcomeClass::OrderTaken),
        ("band", OutcomeClass::Busy),
    ] {
        let request = pb::UpdateContactOutcomeRequest {
            contact_outcome: Some(pb::ContactOutcome {
                name: format!("contactOutcomes/{id}"),
                display_name: id.into(),
                outcome_class: class.into(),
                ..Default::default()
            }),
            allow_missing: true,
            ..Default::default()
        };
        client
            .work_list()
            .update_contact_outcome(request)
            .await
            .unwrap();
    }
    let day = ahead(3);
    // The number that would be ours is the ERP's already.
    let csv = "number,customer_number,ordered_at,currency\n\
               B-00000001,K3,2026-01-01T10:00:00Z,EUR\n";
    let sums = client.import(ImportEntity::Orders, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    assert_eq!(taken(&client, "K2", day).await.number, "B-00000002");

    let claimed = in_hand(&client, "K1", day).await;
    let mut request = apples(&claimed);
    request.outcome = "contactOutcomes/bestellt".into();
    request.order.as_mut().unwrap().number = "ERP/1".into();
    let response = take(&client, request).await.unwrap();
    let order = response.order.unwrap();
    assert_eq!(
        (&order.number[..], &order.name[..]),
        ("ERP/1", "orders/ERP%2F1")
    );
    let over = response.planned_contact.unwrap();
    assert_eq!(over.outcome, "contactOutcomes/bestellt");
    let told = history(&client, "K1").await;
    assert!(
        told.iter().any(|e| e.resource == "orders/ERP%2F1"),
        "{told:?}"
    );

    // All that the database knows to be wrong is told at once.
    let claimed = in_hand(&client, "K4", day).await;
    let mut request = apples(&claimed);
    request.outcome = "contactOutcomes/band".into();
    let order = request.order.as_mut().unwrap();
    order.number = "ERP/1".into();
    order.brand = "brands/keine".into();
    order.delivery_date = wire(ahead(-3));
    let status = take(&client, request).await.unwrap_err();
    refused::names(
        &status,
        &[
            "order.brand",
            "order.delivery_date",
            "order.number",
            "outcome",
        ],
    );
}

#[tokio::test]
async fn the_delivery_date_is_the_contacts_or_the_plans() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    // Neither contact nor plan has one: it must be said.
    let made = create(&client, due("K1")).await;
    let seen = shown(&client, &made.name).await;
    assert_eq!(seen.delivery_date, None);
    assert_eq!(
        seen.delivery_date_source(),
        pb::DeliveryDateSource::Unspecified
    );
    let claimed = claim(&client, &made.name, "anna").await.unwrap();
    let status = take(&client, apples(&claimed)).await.unwrap_err();
    refused::names(&status, &["order.delivery_date"]);

    // By the plan: each day is one of deliveries, but for two on which the customer takes none.
    let mut daily = weekly("TAG", &["mon"], "2020-01-01", "2099-12-31");
    daily.delivery_weekdays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        .map(Into::into)
        .into();
    daily.departure = "Tour 9".into();
    daily.order_type = "TEL".into();
    put_plan(&client, daily).await.unwrap();
    let new = pb::NewPlannedContact {
        contact_plan: "contactPlans/TAG".into(),
        contact_time: Some(timestamp(Utc::now() + TimeDelta::days(5))),
        ..due("K1")
    };
    let made = create(&client, new).await;
    let date: NaiveDate = written(made.contact_date).parse().unwrap();
    let after = |days: i64| date + TimeDelta::days(days);
    put_period_of(&client, "K1", pb::DayType::Delivery, after(1), after(2)).await;
    let seen = shown(&client, &made.name).await;
    assert_eq!(seen.delivery_date, wire(after(3)));
    assert_eq!(seen.delivery_date_source(), pb::DeliveryDateSource::Plan);
    assert_eq!(
        (&seen.departure[..], &seen.order_type[..]),
        ("Tour 9", "TEL")
    );
    let claimed = claim(&client, &made.name, "anna").await.unwrap();
    let order = take(&client, apples(&claimed))
        .await
        .unwrap()
        .order
        .unwrap();
    assert_eq!(order.delivery_date, wire(after(3)));
    assert_eq!(
        (&order.departure[..], &order.order_type[..]),
        ("Tour 9", "TEL")
    );

    // Another date may be looked at.
    let request = pb::ListContactOrdersRequest {
        parent: made.name,
        delivery_date: wire(after(4)),
        ..Default::default()
    };
    let other = client.work_list().list_contact_orders(request).await;
    let other = other.unwrap().into_inner();
    assert_eq!(other.orders, []);
    assert_eq!(
        other.delivery_date_source(),
        pb::DeliveryDateSource::Request
    );
}
