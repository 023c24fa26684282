//! What becomes of claims when customers move between org units.

use serde_json::{Value, json};
use tonic::Code;

use super::work::{
    CLAIM_CONTACT, EXTEND_CLAIM, GET_CASE, NEXT_CASE, NEXT_CONTACT, RECORD_OUTCOME, anna,
    with_customers,
};
use super::{Tenant, call};
use crate::raw::Raw;
use crate::refused;
use crate::winback::desk;

const LIST_CASES: &str = "anklang.winback.v1.WinbackCaseService/ListWinbackCases";

/// A claim for an hour.
async fn claimed(caller: &Raw, contact: &str) -> Value {
    let request = json!({"name": contact, "worker": "users/anna", "claimSeconds": 3_600});
    let claim = call(caller, CLAIM_CONTACT, &request).await.unwrap();
    json!({"name": contact, "claim": claim["claim"]})
}

fn done(under: &Value) -> Value {
    let mut outcome = under.clone();
    outcome["outcomeClass"] = json!("OUTCOME_CLASS_DONE");
    outcome
}

#[tokio::test]
async fn it_makes_no_difference_whether_claim_or_move_was_first() {
    let tenant = with_customers().await;
    let (kiel, ulm) = (tenant.agency("kiel"), tenant.agency("ulm"));
    let contact = tenant.contact("K1").await;
    // As an import whose rows are not committed yet.
    let import = tenant.server.database.connect().await.unwrap();
    let moves = "BEGIN; UPDATE customer SET org_unit_code = 'ulm' WHERE number = 'K1'";
    import.batch_execute(moves).await.unwrap();
    let under = claimed(&kiel, &contact).await;
    import.batch_execute("COMMIT").await.unwrap();
    let status = call(&kiel, RECORD_OUTCOME, &done(&under)).await;
    refused::not_found(&status.unwrap_err());
    let next = call(&ulm, NEXT_CONTACT, &anna()).await.unwrap();
    let next = &next["contactClaim"]["plannedContact"]["name"];
    assert_eq!(next, &json!(contact));
}

#[tokio::test]
async fn a_claim_that_ended_is_not_prolonged() {
    let tenant = with_customers().await;
    let contact = tenant.contact("K1").await;
    let under = claimed(&tenant.agency("kiel"), &contact).await;
    tenant.give("K1", "ulm").await;
    // Nor by who sees the customer.
    for (method, request) in [(EXTEND_CLAIM, &under), (RECORD_OUTCOME, &done(&under))] {
        let status = call(&tenant.central(), method, request).await;
        refused::is(
            &status.expect_err(method),
            Code::FailedPrecondition,
            "PRECONDITION",
        );
    }
    claimed(&tenant.agency("ulm"), &contact).await;
}

#[tokio::test]
async fn a_region_over_both_units_keeps_its_claim() {
    let tenant = with_customers().await;
    let (north, husum) = (tenant.region("north"), tenant.agency("husum"));
    let contact = tenant.contact("K1").await;
    let under = claimed(&north, &contact).await;
    tenant.give("K1", "husum").await;
    // Nobody calls the customer a second time.
    let next = call(&husum, NEXT_CONTACT, &anna()).await.unwrap();
    assert_eq!(next["contactClaim"], Value::Null);
    call(&north, EXTEND_CLAIM, &under).await.unwrap();
    let recorded = call(&north, RECORD_OUTCOME, &done(&under)).await.unwrap();
    let state = &recorded["plannedContact"]["state"];
    assert_eq!(state, &json!("PLANNED_CONTACT_STATE_DONE"));
}

#[tokio::test]
async fn a_case_is_held_as_long_as_its_customer_is_seen() {
    let tenant = Tenant::start().await;
    desk::shop(&tenant.server).await;
    tenant.tree().await;
    tenant.give("K1", "kiel").await;
    let case = desk::open(&tenant.server, "K1", &[]).await;
    let (north, central) = (tenant.region("north"), tenant.central());
    let name = json!({"name": case});
    let holder = async || {
        let shown = call(&central, GET_CASE, &name).await.unwrap();
        let held = json!({"filter": "held_by:*"});
        let listed = call(&central, LIST_CASES, &held).await.unwrap();
        let listed = listed["winbackCases"].as_array().map_or(0, Vec::len);
        assert_eq!(listed == 1, shown["heldBy"].is_string(), "{shown}");
        shown["heldBy"].clone()
    };
    let next = async |caller: &Raw| {
        let claim = call(caller, NEXT_CASE, &anna()).await.unwrap();
        claim["winbackCaseClaim"]["winbackCase"]["name"].clone()
    };
    assert_eq!(next(&north).await, json!(case));
    tenant.give("K1", "husum").await;
    assert_eq!(holder().await, json!("users/anna"));
    assert_eq!(next(&tenant.agency("husum")).await, Value::Null);
    tenant.give("K1", "ulm").await;
    assert_eq!(holder().await, Value::Null);
    assert_eq!(next(&tenant.agency("ulm")).await, json!(case));
    assert_eq!(holder().await, json!("users/anna"));
}
