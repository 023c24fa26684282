//! The work list: who gets which contact, for how long, and what comes of it.

mod analysis;
mod aside;
mod changes;
mod claims;
mod messages;
mod orders;
mod outcomes;
mod watch;
mod zones;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::orders::v1::Order;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_testkit::{Client, TestServer};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Status;

/// A tenant with customers K1 to K9, of whom K1 to K4 are of the group `Obst`, each with a phone number.
async fn desk(server: &TestServer) -> Client {
    let client = server.client("linden").await.unwrap();
    let mut customers = "number,kind,last_name,customer_group\n".to_owned();
    let mut points = "customer_number,channel,address\n".to_owned();
    for i in 1..=9 {
        let group = if i <= 4 { "Obst" } else { "Brot" };
        customers += &format!("K{i},person,Kunde{i},{group}\n");
        points += &format!("K{i},phone,+4930123450{i}\n");
    }
    for (entity, csv) in [
        (ImportEntity::Customers, customers),
        (ImportEntity::ContactPoints, points),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, []);
    }
    client
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap(),
    }
}

fn time(timestamp: Option<&Timestamp>) -> DateTime<Utc> {
    let timestamp = timestamp.unwrap();
    let nanos = u32::try_from(timestamp.nanos).unwrap();
    DateTime::from_timestamp(timestamp.seconds, nanos).unwrap()
}

/// A contact with a customer, due now.
fn due(customer: &str) -> pb::NewPlannedContact {
    pb::NewPlannedContact {
        customer: format!("customers/{customer}"),
        contact_time: Some(timestamp(Utc::now())),
        ..Default::default()
    }
}

async fn create(client: &Client, contact: pb::NewPlannedContact) -> pb::PlannedContact {
    try_create(client, contact).await.unwrap()
}

async fn try_create(
    client: &Client,
    contact: pb::NewPlannedContact,
) -> Result<pb::PlannedContact, Status> {
    let request = pb::CreatePlannedContactRequest {
        planned_contact: Some(contact),
        ..Default::default()
    };
    let made = client.work_list().create_planned_contact(request).await;
    made.map(tonic::Response::into_inner)
}

pub fn asks(worker: &str) -> pb::ClaimNextContactRequest {
    pb::ClaimNextContactRequest {
        worker: format!("users/{worker}"),
        ..Default::default()
    }
}

pub async fn next(
    client: &Client,
    request: pb::ClaimNextContactRequest,
) -> Option<pb::ContactClaim> {
    let answer = client.work_list().claim_next_contact(request).await;
    answer.unwrap().into_inner().contact_claim
}

/// The customer of the next contact, without prefix; "-" for none.
async fn next_customer(client: &Client, request: pb::ClaimNextContactRequest) -> String {
    match next(client, request).await {
        None => "-".into(),
        Some(claim) => contact(&claim).customer.replace("customers/", ""),
    }
}

pub fn contact(claim: &pb::ContactClaim) -> &pb::PlannedContact {
    claim.planned_contact.as_ref().unwrap()
}

pub async fn claim(client: &Client, name: &str, worker: &str) -> Result<pb::ContactClaim, Status> {
    let request = pb::ClaimContactRequest {
        name: name.into(),
        worker: format!("users/{worker}"),
        ..Default::default()
    };
    let claimed = client.work_list().claim_contact(request).await;
    claimed.map(tonic::Response::into_inner)
}

/// What is said of a contact under a claim.
pub fn says(claim: &pb::ContactClaim, class: pb::OutcomeClass) -> pb::RecordOutcomeRequest {
    pb::RecordOutcomeRequest {
        name: contact(claim).name.clone(),
        claim: claim.claim.clone(),
        outcome_class: class.into(),
        ..Default::default()
    }
}

pub async fn record(
    client: &Client,
    request: pb::RecordOutcomeRequest,
) -> Result<pb::RecordOutcomeResponse, Status> {
    let recorded = client.work_list().record_outcome(request).await;
    recorded.map(tonic::Response::into_inner)
}

/// An order that is taken under a claim, which ends the contact.
pub async fn order(client: &Client, claim: &pb::ContactClaim) -> Order {
    orders::some(client, claim).await
}

/// Brings back what was put aside, as if its time had come.
const LOOK_AGAIN: &str = "UPDATE planned_contact SET not_before = NULL";

/// Changes contacts behind the server's back.
async fn sql(server: &TestServer, sql: &str) {
    let database = server.database.connect().await.unwrap();
    database.batch_execute(sql).await.unwrap();
}

/// A contact plan as it is kept, in the tenant's time zone.
async fn plan(server: &TestServer, code: &str, responsible: &str, rules: &Value) {
    let sql = format!(
        "INSERT INTO contact_plan (tenant_id, code, name, responsible, recurrence, valid_from,
             time_zone, holiday_rule, outcome_rules)
         SELECT id, '{code}', '{code}', '{responsible}', '{{}}', '2020-01-01', '', 'skip',
                '{rules}'
         FROM tenant WHERE slug = 'linden'"
    );
    self::sql(server, &sql).await;
}

/// After `minutes` again, at most so often, then what is given; the same for all outcomes.
fn rules(minutes: u32, attempts: u32, then: &Value) -> Value {
    let rule = json!({
        "first_minutes": minutes, "factor_percent": 100, "longest_minutes": minutes,
        "max_attempts": attempts, "then": then,
    });
    json!({"not_reached": rule, "busy": rule, "call_later": rule})
}

/// What a tenant has on its work list: two or more of everything.
pub struct Work {
    /// With two attempts.
    tried: String,
    /// Claimed contacts, with their claims.
    claimed: Vec<(String, String)>,
    /// Nobody is at these.
    free: Vec<String>,
    /// In somebody's hands with its claim, with two orders.
    ordered: (String, String),
    orders: [String; 2],
}

/// Fills the work list of the tenant `linden`, which has a customer K0001.
pub async fn populate(client: &Client) -> Work {
    for (id, class) in [("band", 3), ("bestellt", 2)] {
        let request = pb::UpdateContactOutcomeRequest {
            contact_outcome: Some(pb::ContactOutcome {
                name: format!("contactOutcomes/{id}"),
                display_name: id.into(),
                outcome_class: class,
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
    let tried = create(client, due("K0001")).await.name;
    for class in [pb::OutcomeClass::Busy, pb::OutcomeClass::NotReached] {
        let claimed = claim(client, &tried, "anna").await.unwrap();
        record(client, says(&claimed, class)).await.unwrap();
    }
    let (mut claimed, mut free) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let name = create(client, due("K0001")).await.name;
        let claim = claim(client, &name, "anna").await.unwrap();
        claimed.push((name, claim.claim));
    }
    for _ in 0..5 {
        free.push(create(client, due("K0001")).await.name);
    }
    let (ordered, orders) = orders::populate(client).await;
    Work {
        tried,
        claimed,
        free,
        ordered,
        orders,
    }
}

/// Calls that make something.
pub fn makes() -> Vec<(&'static str, Value)> {
    let contact = json!({
        "customer": "customers/K0001", "contactTime": Utc::now().to_rfc3339(),
        "responsible": "users/zoe", "note": "neu",
    });
    vec![
        (
            "anklang.planning.v1.WorkListService/CreatePlannedContact",
            json!({"plannedContact": contact}),
        ),
        (
            "anklang.planning.v1.WorkListService/ClaimNextContact",
            json!({"worker": "users/zoe", "onlyMine": true}),
        ),
    ]
}

/// Calls that name something, in an order in which they can all be made.
pub fn named(w: &Work) -> Vec<(&'static str, Value)> {
    let outcome = json!({
        "name": "contactOutcomes/band", "displayName": "Anrufbeantworter",
        "outcomeClass": "OUTCOME_CLASS_NOT_REACHED",
    });
    let under = |i: usize| json!({"name": w.claimed[i].0, "claim": w.claimed[i].1});
    let mut record = under(0);
    record["outcome"] = json!("contactOutcomes/band");
    let order = json!({"lines": [{"productNumber": "1", "quantity": "1",
        "unitPrice": {"currencyCode": "EUR", "units": "1"}}]});
    let tomorrow = (Utc::now() + chrono::TimeDelta::days(1)).to_rfc3339();
    vec![
        (
            "anklang.planning.v1.WorkListService/ListContactAttempts",
            json!({"parent": w.tried}),
        ),
        (
            "anklang.planning.v1.WorkListService/ListContactOrders",
            json!({"parent": w.ordered.0}),
        ),
        (
            "anklang.planning.v1.WorkListService/TakeOrder",
            json!({
                "name": w.ordered.0, "claim": w.ordered.1, "addTo": w.orders[0], "order": order,
                "outcomeLater": true,
            }),
        ),
        (
            "anklang.orders.v1.OrderService/AcknowledgeOrder",
            json!({"name": w.orders[1], "state": "ORDER_STATE_ACCEPTED", "number": "4711"}),
        ),
        ("anklang.planning.v1.WorkListService/ExtendClaim", under(2)),
        ("anklang.planning.v1.WorkListService/RecordOutcome", record),
        (
            "anklang.planning.v1.WorkListService/ReleaseContact",
            under(1),
        ),
        (
            "anklang.planning.v1.WorkListService/ClaimContact",
            json!({"name": w.free[0], "worker": "users/bert"}),
        ),
        (
            "anklang.planning.v1.WorkListService/MovePlannedContact",
            json!({"name": w.free[1], "contactTime": tomorrow}),
        ),
        (
            "anklang.planning.v1.WorkListService/AssignPlannedContact",
            json!({"name": w.free[2], "responsible": "roles/obst"}),
        ),
        (
            "anklang.planning.v1.WorkListService/PinPlannedContact",
            json!({"name": w.free[2], "pinned": true}),
        ),
        (
            "anklang.planning.v1.WorkListService/CancelPlannedContact",
            json!({"name": w.free[3]}),
        ),
        (
            "anklang.planning.v1.WorkListService/GetContactOutcome",
            json!({"name": "contactOutcomes/band"}),
        ),
        (
            "anklang.planning.v1.WorkListService/UpdateContactOutcome",
            json!({"contactOutcome": outcome}),
        ),
        (
            "anklang.planning.v1.WorkListService/DeleteContactOutcome",
            json!({"name": "contactOutcomes/bestellt"}),
        ),
    ]
}

/// Lists with pages, and the field of their items.
pub fn lists(w: &Work) -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "anklang.planning.v1.WorkListService/ListContactAttempts",
            json!({"parent": w.tried}),
            "contactAttempts",
        ),
        (
            "anklang.planning.v1.WorkListService/ListContactOrders",
            json!({"parent": w.ordered.0}),
            "orders",
        ),
        (
            "anklang.planning.v1.WorkListService/ListContactOutcomes",
            json!({}),
            "contactOutcomes",
        ),
    ]
}
