//! Working through contacts and cases, and counting customers, within org units.

use std::collections::BTreeSet;

use anklang_proto::anklang::imports::v1::ImportEntity;
use chrono::{Datelike, TimeDelta, Utc};
use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use super::{Tenant, call};
use crate::raw::Raw;
use crate::refused;
use crate::winback::desk;

pub(super) const NEXT_CONTACT: &str = "anklang.planning.v1.WorkListService/ClaimNextContact";
pub(super) const CLAIM_CONTACT: &str = "anklang.planning.v1.WorkListService/ClaimContact";
pub(super) const EXTEND_CLAIM: &str = "anklang.planning.v1.WorkListService/ExtendClaim";
const RELEASE_CONTACT: &str = "anklang.planning.v1.WorkListService/ReleaseContact";
pub(super) const RECORD_OUTCOME: &str = "anklang.planning.v1.WorkListService/RecordOutcome";
const TAKE_ORDER: &str = "anklang.planning.v1.WorkListService/TakeOrder";
const CREATE_CONTACT: &str = "anklang.planning.v1.WorkListService/CreatePlannedContact";
const GET_CONTACT: &str = "anklang.planning.v1.PlannedContactService/GetPlannedContact";
const GET_ORDER: &str = "anklang.orders.v1.OrderService/GetOrder";
pub(super) const NEXT_CASE: &str = "anklang.winback.v1.WinbackCaseService/NextWinbackCase";
const CLAIM_CASE: &str = "anklang.winback.v1.WinbackCaseService/ClaimWinbackCase";
const CLOSE_CASE: &str = "anklang.winback.v1.WinbackCaseService/CloseWinbackCase";
pub(super) const GET_CASE: &str = "anklang.winback.v1.WinbackCaseService/GetWinbackCase";
const PREVIEW: &str = "anklang.selections.v1.SelectionService/PreviewSelection";
const LIST_SELECTIONS: &str = "anklang.selections.v1.SelectionService/ListSelections";
const GET_SELECTION: &str = "anklang.selections.v1.SelectionService/GetSelection";
const CREATE_SELECTION: &str = "anklang.selections.v1.SelectionService/CreateSelection";
const SHARE_SELECTION: &str = "anklang.selections.v1.SelectionService/ShareSelection";

/// Customers K1 and K2 of kiel, H1 of husum, U1 and U2 of ulm, and O1 of none.
pub(super) async fn with_customers() -> Tenant {
    let tenant = Tenant::start().await;
    tenant.tree().await;
    let client = tenant.server.client("linden").await.unwrap();
    let csv = "number,kind,last_name,org_unit_code\nK1,person,A,kiel\nK2,person,B,kiel\nH1,person,C,husum\n\
               U1,person,D,ulm\nU2,person,E,ulm\nO1,person,F,\n";
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!((sums.created, sums.failed), (6, 0));
    tenant
}

impl Tenant {
    /// A contact with a customer, due now.
    pub(super) async fn contact(&self, customer: &str) -> String {
        let contact = json!({
            "customer": format!("customers/{customer}"), "contactTime": Utc::now().to_rfc3339(),
        });
        let request = json!({"plannedContact": contact});
        let made = call(&self.central(), CREATE_CONTACT, &request).await;
        made.unwrap()["name"].as_str().unwrap().to_owned()
    }
}

pub(super) fn anna() -> Value {
    json!({"worker": "users/anna"})
}

/// The customers of all contacts that somebody gets, one after the other.
async fn all_contacts(caller: &Raw) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let next = call(caller, NEXT_CONTACT, &anna()).await.unwrap();
        let customer = &next["contactClaim"]["plannedContact"]["customer"];
        match customer.as_str() {
            None => return all,
            Some(name) => all.push(name.replace("customers/", "")),
        }
    }
}

#[tokio::test]
async fn agencies_are_handed_out_their_own_contacts() {
    let tenant = with_customers().await;
    for customer in ["O1", "U1", "H1", "K1", "U2", "K2", "U1", "K1", "H1"] {
        tenant.contact(customer).await;
    }
    let (kiel, ulm) = (tenant.agency("kiel"), tenant.agency("ulm"));
    let (mut of_kiel, mut of_ulm) = tokio::join!(all_contacts(&kiel), all_contacts(&ulm));
    of_kiel.sort();
    of_ulm.sort();
    assert_eq!(of_kiel, ["K1", "K1", "K2"]);
    assert_eq!(of_ulm, ["U1", "U1", "U2"]);
    assert_eq!(all_contacts(&tenant.region("north")).await, ["H1", "H1"]);
    assert!(all_contacts(&tenant.region("south")).await.is_empty());
    assert_eq!(all_contacts(&tenant.central()).await, ["O1"]);
}

#[tokio::test]
async fn a_claim_of_another_agency_opens_nothing() {
    let tenant = with_customers().await;
    let (kiel, ulm) = (tenant.agency("kiel"), tenant.agency("ulm"));
    let contact = tenant.contact("U1").await;
    let mut request = json!({"name": contact, "worker": "users/anna"});
    let foreign = call(&kiel, CLAIM_CONTACT, &request).await;
    refused::not_found(&foreign.unwrap_err());
    let claim = call(&ulm, CLAIM_CONTACT, &request).await.unwrap();
    request = json!({"name": contact, "claim": claim["claim"]});
    let mut outcome = request.clone();
    outcome["outcomeClass"] = json!("OUTCOME_CLASS_DONE");
    let day = Utc::now().date_naive() + TimeDelta::days(3);
    let line = json!({"productNumber": "1", "quantity": "1",
                      "unitPrice": {"currencyCode": "EUR", "units": "1"}});
    let order = json!({"lines": [line], "deliveryDate": {
        "year": day.year(), "month": day.month(), "day": day.day()}});
    let mut takes = request.clone();
    takes["order"] = order.clone();
    for (method, request) in [
        (EXTEND_CLAIM, &request),
        (RECORD_OUTCOME, &outcome),
        (TAKE_ORDER, &takes),
        (RELEASE_CONTACT, &request),
    ] {
        let status = call(&kiel, method, request).await;
        refused::not_found(&status.expect_err(method));
    }
    let still = call(&ulm, GET_CONTACT, &json!({"name": contact})).await;
    assert_eq!(still.unwrap()["claimedBy"], json!("users/anna"));
    let taken = call(&ulm, TAKE_ORDER, &takes).await.unwrap();

    // An order of another agency's customer is none that could be added to.
    let order_name = taken["order"]["name"].clone();
    let status = call(&kiel, GET_ORDER, &json!({"name": order_name})).await;
    refused::not_found(&status.unwrap_err());
    let own = tenant.contact("K1").await;
    let request = json!({"name": own, "worker": "users/anna"});
    let claim = call(&kiel, CLAIM_CONTACT, &request).await.unwrap();
    let mut adds = json!({"name": own, "claim": claim["claim"], "order": {"lines": [line]}});
    adds["addTo"] = order_name.clone();
    let status = call(&kiel, TAKE_ORDER, &adds).await.unwrap_err();
    refused::names(&status, &["add_to"]);
    let same = json!({"name": order_name});
    let there = call(&tenant.region("south"), GET_ORDER, &same).await;
    assert_eq!(there.unwrap()["lines"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_claim_ends_when_the_customer_moves() {
    let tenant = with_customers().await;
    let (kiel, ulm) = (tenant.agency("kiel"), tenant.agency("ulm"));
    let contact = tenant.contact("K1").await;
    let request = json!({"name": contact, "worker": "users/anna", "claimSeconds": 3_600});
    let claim = call(&kiel, CLAIM_CONTACT, &request).await.unwrap();
    tenant.give("K1", "ulm").await;
    let under = json!({"name": contact, "claim": claim["claim"]});
    let mut outcome = under.clone();
    outcome["outcomeClass"] = json!("OUTCOME_CLASS_DONE");
    for (method, request) in [
        (EXTEND_CLAIM, &under),
        (RELEASE_CONTACT, &under),
        (RECORD_OUTCOME, &outcome),
    ] {
        let status = call(&kiel, method, request).await;
        refused::not_found(&status.expect_err(method));
    }
    // The others need not wait for an hour.
    let next = call(&ulm, NEXT_CONTACT, &anna()).await.unwrap();
    let next = &next["contactClaim"];
    assert_eq!(next["plannedContact"]["name"], json!(contact));
    // Back at the old unit, and that of the customer with it: the old claim opens nothing.
    let client = tenant.server.client("linden").await.unwrap();
    let csv = "number,kind,last_name,org_unit_code\nK1,person,A,kiel\n";
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!((sums.updated, sums.failed), (1, 0));
    let status = call(&kiel, RECORD_OUTCOME, &outcome).await.unwrap_err();
    refused::is(&status, Code::FailedPrecondition, "PRECONDITION");
    let claim = call(&kiel, CLAIM_CONTACT, &request).await.unwrap();
    outcome["claim"] = claim["claim"].clone();
    let done = call(&kiel, RECORD_OUTCOME, &outcome).await.unwrap();
    let state = &done["plannedContact"]["state"];
    assert_eq!(state, &json!("PLANNED_CONTACT_STATE_DONE"));

    // Who sees all of the tenant goes on.
    let contact = tenant.contact("K2").await;
    let request = json!({"name": contact, "worker": "users/berta"});
    let claim = call(&tenant.central(), CLAIM_CONTACT, &request).await;
    tenant.give("K2", "ulm").await;
    let status = call(
        &ulm,
        CLAIM_CONTACT,
        &json!({"name": contact, "worker": "users/anna"}),
    )
    .await;
    assert_eq!(status.unwrap_err().code(), Code::FailedPrecondition);
    let outcome = json!({"name": contact, "claim": claim.unwrap()["claim"],
                         "outcomeClass": "OUTCOME_CLASS_DONE"});
    call(&tenant.central(), RECORD_OUTCOME, &outcome)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_answer_is_given_again_to_whom_it_was_given() {
    let tenant = with_customers().await;
    tenant.contact("K1").await;
    let mut request = anna();
    request["requestId"] = json!(Uuid::now_v7().to_string());
    let kiel = tenant.agency("kiel");
    let first = call(&kiel, NEXT_CONTACT, &request).await.unwrap();
    assert!(first["contactClaim"].is_object(), "{first}");
    assert_eq!(call(&kiel, NEXT_CONTACT, &request).await.unwrap(), first);
    let claim = &first["contactClaim"];
    let mut longer = json!({"name": claim["plannedContact"]["name"], "claim": claim["claim"]});
    longer["requestId"] = json!(Uuid::now_v7().to_string());
    call(&kiel, EXTEND_CLAIM, &longer).await.unwrap();
    // As long as the customer is of the unit.
    tenant.give("K1", "ulm").await;
    for (method, request) in [(NEXT_CONTACT, &request), (EXTEND_CLAIM, &longer)] {
        let status = call(&kiel, method, request).await;
        refused::not_found(&status.expect_err(method));
    }
    tenant.give("K1", "kiel").await;
    assert_eq!(call(&kiel, NEXT_CONTACT, &request).await.unwrap(), first);
    for other in [
        tenant.agency("husum"),
        tenant.region("kiel"),
        tenant.central(),
    ] {
        let status = call(&other, NEXT_CONTACT, &request).await.unwrap_err();
        refused::is(&status, Code::InvalidArgument, "REQUEST_ID_REUSED");
    }
    // And the other way round.
    tenant.contact("O1").await;
    request["requestId"] = json!(Uuid::now_v7().to_string());
    let first = call(&tenant.central(), NEXT_CONTACT, &request)
        .await
        .unwrap();
    assert!(first["contactClaim"].is_object(), "{first}");
    let status = call(&kiel, NEXT_CONTACT, &request).await.unwrap_err();
    refused::is(&status, Code::InvalidArgument, "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn agencies_work_on_their_own_cases() {
    let tenant = Tenant::start().await;
    desk::shop(&tenant.server).await;
    tenant.tree().await;
    for (number, unit) in [("K1", "kiel"), ("K2", "ulm"), ("K3", "ulm")] {
        tenant.give(number, unit).await;
    }
    let mut cases = Vec::new();
    for number in ["K1", "K2", "K3", "K4"] {
        cases.push(desk::open(&tenant.server, number, &[]).await);
    }
    let (kiel, ulm) = (tenant.agency("kiel"), tenant.agency("ulm"));
    let foreign =
        json!({"name": cases[1], "worker": "users/anna", "reason": "NO_INTEREST_REASON_PRICE"});
    for method in [CLAIM_CASE, CLOSE_CASE] {
        let mut request = foreign.clone();
        if method == CLAIM_CASE {
            request.as_object_mut().unwrap().remove("reason");
        }
        let status = call(&kiel, method, &request).await;
        refused::not_found(&status.expect_err(method));
    }
    // Behind what there is not, nothing is looked for either.
    let mut behind = anna();
    behind["tile"] = json!("WINBACK_TILE_DECLINING");
    behind["after"] = json!(cases[1]);
    let status = call(&kiel, NEXT_CASE, &behind).await.unwrap_err();
    refused::not_found(&status);

    let next = async |caller: &Raw| {
        let claimed = call(caller, NEXT_CASE, &anna()).await.unwrap();
        let customer = claimed["winbackCaseClaim"]["winbackCase"]["customer"].as_str();
        customer.map(|name| name.replace("customers/", ""))
    };
    assert_eq!(next(&kiel).await.as_deref(), Some("K1"));
    assert_eq!(next(&kiel).await, None);
    let of_ulm: BTreeSet<_> = [next(&ulm).await, next(&ulm).await].into();
    assert_eq!(
        of_ulm,
        BTreeSet::from([Some("K2".into()), Some("K3".into())])
    );
    assert_eq!(next(&tenant.region("south")).await, None);
    assert_eq!(next(&tenant.central()).await.as_deref(), Some("K4"));

    // A claim ends when the customer moves: the others need not wait for it.
    tenant.give("K1", "ulm").await;
    assert_eq!(next(&ulm).await.as_deref(), Some("K1"));
    tenant.give("K1", "kiel").await;
    let own =
        json!({"name": cases[0], "worker": "users/anna", "reason": "NO_INTEREST_REASON_PRICE"});
    let closed = call(&kiel, CLOSE_CASE, &own).await.unwrap();
    assert_eq!(closed["state"], json!("WINBACK_CASE_STATE_NO_INTEREST"));
    let seen = call(
        &tenant.region("north"),
        GET_CASE,
        &json!({"name": cases[0]}),
    )
    .await;
    assert_eq!(seen.unwrap()["state"], closed["state"]);
}

#[tokio::test]
async fn selections_find_customers_of_the_units() {
    let tenant = with_customers().await;
    let (kiel, north) = (tenant.agency("kiel"), tenant.region("north"));
    let everybody = json!({"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}});
    let criteria = json!({"subject": "SUBJECT_CUSTOMER", "criteria": everybody});
    let found = async |caller: &Raw, criteria: &Value| {
        let request = json!({"criteria": criteria, "sampleSize": 10});
        let found = call(caller, PREVIEW, &request).await.unwrap();
        let shown = found["sample"].as_array().map_or(0, Vec::len);
        let count = found["count"].as_str().unwrap_or("0").to_owned();
        assert_eq!(shown.to_string(), count, "{found}");
        count
    };
    for (caller, count) in [
        (&kiel, "2"),
        (&north, "3"),
        (&tenant.agency("ulm"), "2"),
        (&tenant.region("central"), "5"),
        (&tenant.central(), "6"),
    ] {
        assert_eq!(found(caller, &criteria).await, count);
    }
    let at_ulm = json!({"compare": {
        "field": "org_unit", "operator": "OPERATOR_EQUAL", "values": [{"text": "orgUnits/ulm"}],
    }});
    let at_ulm = json!({"subject": "SUBJECT_CUSTOMER", "criteria": at_ulm});
    assert_eq!(found(&tenant.central(), &at_ulm).await, "2");
    assert_eq!(found(&kiel, &at_ulm).await, "0");
    // Estimates go by statistics of everybody; others' customers are none that could be ticked.
    let estimate = json!({"criteria": criteria, "mode": "PREVIEW_MODE_ESTIMATE"});
    let status = call(&kiel, PREVIEW, &estimate).await.unwrap_err();
    super::denied(&status);
    call(&tenant.central(), PREVIEW, &estimate).await.unwrap();
    let ticked = json!({"criteria": criteria, "include": ["customers/K1", "customers/U1"]});
    let status = call(&kiel, PREVIEW, &ticked).await.unwrap_err();
    refused::names(&status, &["include[1]"]);

    let save = async |name: &str, unit: &str| {
        let selection = json!({
            "displayName": name, "subject": "SUBJECT_CUSTOMER", "criteria": everybody,
        });
        let request = json!({"selection": selection, "orgUnit": unit});
        let saved = call(&tenant.central(), CREATE_SELECTION, &request).await;
        saved.unwrap()["name"].as_str().unwrap().to_owned()
    };
    save("all", "").await;
    let of_ulm = save("ulm", "orgUnits/ulm").await;
    save("kiel", "orgUnits/kiel").await;
    let seen = async |caller: &Raw| {
        let listed = call(caller, LIST_SELECTIONS, &json!({})).await.unwrap();
        let listed = listed["selections"].as_array().cloned().unwrap();
        let names = listed
            .iter()
            .map(|s| s["displayName"].as_str().unwrap().to_owned());
        names
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(&kiel).await, ["all", "kiel"]);
    assert_eq!(seen(&north).await, ["all", "kiel"]);
    assert_eq!(seen(&tenant.agency("ulm")).await, ["all", "ulm"]);
    let status = call(&kiel, GET_SELECTION, &json!({"name": of_ulm})).await;
    refused::not_found(&status.unwrap_err());
    // Shared with a region is shared with the agencies below it; each finds its own by it.
    let shares =
        json!({"name": of_ulm, "orgUnit": "orgUnits/ulm", "sharedWith": ["orgUnits/north"]});
    call(&tenant.central(), SHARE_SELECTION, &shares)
        .await
        .unwrap();
    assert_eq!(seen(&kiel).await, ["all", "kiel", "ulm"]);
    let by_it = call(&kiel, PREVIEW, &json!({"selection": of_ulm})).await;
    assert_eq!(by_it.unwrap()["count"], json!("2"));
}
