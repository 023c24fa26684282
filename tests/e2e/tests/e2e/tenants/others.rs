//! Methods beside those of [`crate::world::named`] and the lists: whatever they point to must be the caller's own, and
//! what they find by themselves is.

use std::collections::BTreeSet;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_testkit::{TestServer, violations};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::calls::{looking, pointing, setting};
use crate::raw::{self, Raw};
use crate::refused;
use crate::winback::{as_of, detect, save_selection};
use crate::world::populate;

/// What `linden` has of all that.
async fn of_linden(raw: &Raw) -> Vec<Value> {
    let mut all = Vec::new();
    for (method, request) in [
        (
            "anklang.campaigns.v1.ApprovalService/GetApprovalPolicy",
            json!({}),
        ),
        (
            "anklang.channels.v1.ChannelService/GetChannelAccount",
            json!({"name": "channelAccounts/probe"}),
        ),
        (
            "anklang.customers.v1.CustomerService/GetSuppression",
            json!({"channel": "mail", "address": "niemand@post.example"}),
        ),
        ("anklang.handover.v1.WebhookService/ListWebhooks", json!({})),
        (
            "anklang.messages.v1.MessageService/GetContactBudget",
            json!({}),
        ),
        (
            "anklang.offers.v1.OfferService/GetOfferNumberRange",
            json!({}),
        ),
        (
            "anklang.selections.v1.PresetService/GetPreset",
            json!({"name": "presets/konten"}),
        ),
        (
            "anklang.winback.v1.WinbackService/GetWinbackSettings",
            json!({}),
        ),
    ] {
        all.push(raw.call(Some("linden"), method, &request).await.unwrap());
    }
    all
}

/// The fields of which a refusal says that what they name is not there.
fn missing(status: &Status) -> BTreeSet<String> {
    let told = violations(status).into_iter();
    told.filter(|(_, reason)| reason.contains("does not exist"))
        .map(|(field, _)| field)
        .collect()
}

#[tokio::test]
async fn another_tenants_things_cannot_be_pointed_to() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let other = server.client("other").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let customers = save_selection(&world.client, "K0001").await;
    for (method, mut request, fields) in pointing(&world, &customers) {
        let answer = raw.call(Some("other"), method, &request).await;
        let status = answer.expect_err(method);
        let fields: BTreeSet<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        if fields.is_empty() {
            refused::not_found(&status);
        } else {
            refused::is(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
            assert_eq!(missing(&status), fields, "{method}: {status:?}");
        }
        // For whom it belongs to it is there.
        request["validateOnly"] = json!(true);
        if let Err(status) = raw.call(Some("linden"), method, &request).await {
            let is_missing = match fields.is_empty() {
                true => status.code() == Code::NotFound,
                false => !missing(&status).is_disjoint(&fields),
            };
            assert!(!is_missing, "{method}: {status:?}");
        }
    }

    let csv = "number,customer_number,brand_code,division\nX1,K0001,linden,gas\n";
    let sums = other.import(ImportEntity::Contracts, csv).await.unwrap();
    assert_eq!((sums.created, sums.failed), (0, 1));
    let fields: BTreeSet<&str> = sums.errors.iter().map(|e| &e.field[..]).collect();
    assert_eq!(fields, BTreeSet::from(["customer_number", "brand_code"]));
}

#[tokio::test]
async fn whoever_looks_finds_nothing_of_another_tenant() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let other = server.client("other").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    crate::audit::sealed(&server).await;
    let call = async |tenant: &'static str, method: &str, request: &Value| {
        let answer = raw.call(Some(tenant), method, request).await;
        answer.unwrap_or_else(|status| panic!("{tenant}, {method}: {status:?}"))
    };
    for look in looking(&world) {
        let method = look.method;
        let mut narrowed = look.request.clone();
        let naming = look.naming.as_object().unwrap().clone();
        narrowed.as_object_mut().unwrap().extend(naming);
        for request in [&look.request, &narrowed] {
            let answer = call("other", method, request).await;
            assert!(!(look.finds)(&answer), "{method}: {answer}");
        }
        // The same finds something for whom it belongs to.
        let mut request = look.request;
        if raw::input(method)
            .get_field_by_name("validate_only")
            .is_some()
        {
            request["validateOnly"] = json!(true);
        }
        let answer = call("linden", method, &request).await;
        assert!((look.finds)(&answer), "{method}: {answer}");
    }

    // What somebody sets and makes is their own, whatever others have under the same id.
    let before = of_linden(&raw).await;
    for (method, request) in setting() {
        call("other", method, &request).await;
    }
    assert_eq!(of_linden(&raw).await, before);

    // In the other tenant a detection of that day finds one.
    let trial = winback::DetectWinbackRequest {
        trial: true,
        ..as_of("2025-06-10")
    };
    let found = detect(&other, trial).await;
    assert_eq!((found.customers, found.opened_cases), (0, 0));
}
