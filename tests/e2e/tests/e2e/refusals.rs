//! Input that nobody should send: too long, too much, at every field. It is refused with the field
//! and the reason, and the server stays.

use anklang_testkit::{TestServer, violations};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};
use tonic::Code;

use crate::changes::changes;
use crate::raw::{self, Raw};
use crate::world::populate;

/// Paths of the text fields that a request has set, or could set at its top: as keys of the JSON,
/// and as the API names them.
fn texts(message: &MessageDescriptor, request: &Value) -> Vec<(Vec<String>, String)> {
    let mut found = Vec::new();
    for field in message.fields() {
        let key = field.json_name().to_owned();
        // Another choice than that of the request.
        if is_ignored(&field) || field.containing_oneof().is_some() && request[&key].is_null() {
            continue;
        }
        match field.kind() {
            Kind::String if !field.is_list() && !field.is_map() => {
                found.push((vec![key], field.name().to_owned()));
            }
            Kind::Message(inner)
                if request[&key].is_object()
                    && !field.is_map()
                    && !inner.full_name().starts_with("google.") =>
            {
                for (keys, path) in texts(&inner, &request[&key]) {
                    let keys = [vec![key.clone()], keys].concat();
                    found.push((keys, format!("{}.{path}", field.name())));
                }
            }
            _ => {}
        }
    }
    found
}

/// What comes in fields that the server sets is not looked at; etags are looked at elsewhere.
fn is_ignored(field: &FieldDescriptor) -> bool {
    let behavior = field
        .parent_pool()
        .get_extension_by_name("google.api.field_behavior");
    let behavior = field
        .options()
        .get_extension(&behavior.unwrap())
        .into_owned();
    let output_only = prost_reflect::Value::EnumNumber(3);
    field.name() == "etag" || behavior.as_list().unwrap().contains(&output_only)
}

#[tokio::test]
async fn a_megabyte_in_a_field_is_refused() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let long = "x".repeat(1 << 20);
    let mut looked_at = 0;
    for (method, request) in changes(&world) {
        for (keys, path) in texts(&raw::input(method), &request) {
            // What is new is named by the server.
            if method.contains("/Create") && path.ends_with(".name") {
                continue;
            }
            let mut request = request.clone();
            request["validateOnly"] = json!(true);
            let mut at = &mut request;
            for key in &keys {
                at = &mut at[key];
            }
            *at = json!(long);
            let status = raw.call(Some("linden"), method, &request).await;
            let status = status.expect_err(&format!("{method} takes a megabyte as {path}"));
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{method}, {path}: {status:?}"
            );
            assert!(status.message().len() < 1_000, "{method}, {path}");
            let told = violations(&status);
            let known = |field: &str| path.starts_with(field) || field.starts_with(&path);
            let is_told = |(field, reason): &(String, String)| known(field) && !reason.is_empty();
            assert!(told.iter().any(is_told), "{method}, {path}: {told:?}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 150, "{looked_at}");
    let method = "anklang.brands.v1.BrandService/ListBrands";
    raw.call(Some("linden"), method, &json!({})).await.unwrap();
}

/// Also in what is looked up before all is checked, as it is for an etag.
#[tokio::test]
async fn what_the_database_cannot_hold_is_refused_wherever_it_stands() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let (mut looked_at, mut seen, mut faults) = (0, 0, Vec::new());
    for (method, request) in changes(&world) {
        let input = raw::input(method);
        // The resource that is written, if there is one with an etag.
        let tagged = input.fields().find(|field| {
            let has_etag = |kind: &Kind| match kind {
                Kind::Message(inner) => inner.get_field_by_name("etag").is_some(),
                _ => false,
            };
            request[field.json_name()].is_object() && has_etag(&field.kind())
        });
        for (keys, path) in texts(&input, &request) {
            // What is new is named by the server; what is old is told first.
            if method.contains("/Create") && path.ends_with(".name") || path.ends_with("etag") {
                continue;
            }
            let mut request = request.clone();
            request["validateOnly"] = json!(true);
            let mut at = &mut request;
            for key in &keys {
                at = &mut at[key];
            }
            *at = json!("\0");
            let status = raw.call(Some("linden"), method, &request).await;
            let code = status.err().map(|status| status.code());
            if code != Some(Code::InvalidArgument) {
                faults.push(format!("{method}, {path}: {code:?}"));
            }
            looked_at += 1;
            let Some(tagged) = &tagged else { continue };
            request[tagged.json_name()]["etag"] = json!("stale");
            let status = raw.call(Some("linden"), method, &request).await;
            let code = status
                .expect_err(&format!("{method} takes an old etag"))
                .code();
            let refused = [Code::InvalidArgument, Code::Aborted, Code::NotFound];
            assert!(refused.contains(&code), "{method}, {path}: {code}");
            seen += 1;
        }
    }
    assert_eq!(faults, Vec::<String>::new());
    assert!(looked_at > 150 && seen > 80, "{looked_at}, {seen}");
}

/// Where much is given: the method, where in its request, and the field that is told.
fn crowded() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    let many = |value: Value| Value::Array(vec![value; 100_000]);
    let values = json!({"compare": {
        "field": "number", "operator": "OPERATOR_IN", "values": many(json!({"text": "V"})),
    }});
    let nodes = json!({"any": {"criteria": many(json!({}))}});
    let point = json!({"channel": "mail", "address": "a@b.example"});
    let mask = json!(vec!["phone"; 100_000].join(","));
    vec![
        (
            "/LaunchCampaign",
            "/deselectedContracts",
            many(json!("contracts/V0001")),
            "deselected_contracts",
        ),
        (
            "/UpdateCustomer",
            "/customer/contactPoints",
            many(point),
            "customer.contact_points",
        ),
        (
            "/UpdateCustomer",
            "/customer/consents",
            many(json!({})),
            "customer.consents",
        ),
        (
            "/UpdateContract",
            "/contract/items",
            many(json!({"code": "a"})),
            "contract.items",
        ),
        (
            "/UpdateOrder",
            "/order/lines",
            many(json!({"line": 1})),
            "order.lines",
        ),
        ("/TakeOrder", "/order/lines", many(json!({})), "order.lines"),
        (
            "/UpdateWebhook",
            "/webhook/eventTypes",
            many(json!("offer.accepted")),
            "webhook.event_types",
        ),
        (
            "/UpdateContactBudget",
            "/contactBudget/exemptPurposes",
            many(json!("news")),
            "contact_budget.exempt_purposes",
        ),
        (
            "/UpdatePreset",
            "/preset/parameters",
            many(json!({})),
            "preset.parameters",
        ),
        (
            "/UpdateSelection",
            "/selection/criteria",
            values,
            "selection.criteria",
        ),
        (
            "/UpdateSelection",
            "/selection/criteria",
            nodes,
            "selection.criteria",
        ),
        (
            "/UpdateSelectionTicks",
            "/include",
            many(json!("contracts/none")),
            "include",
        ),
        ("/UpdateBrand", "/updateMask", mask, "update_mask"),
    ]
}

#[tokio::test]
async fn a_hundred_thousand_values_are_refused() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let changes = changes(&world);
    for (method, at, value, told) in crowded() {
        let found = changes.iter().find(|(m, _)| m.ends_with(method));
        let (method, mut request) = found.expect(method).clone();
        let (parent, key) = at.rsplit_once('/').unwrap();
        request.pointer_mut(parent).unwrap()[key] = value;
        let status = raw.call(Some("linden"), method, &request).await;
        let status = status.expect_err(method);
        assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status:?}");
        let found = violations(&status);
        assert!(
            found.iter().any(|(field, _)| field.starts_with(told)),
            "{method}: {found:?}"
        );
    }
    let states = json!({"states": vec!["OFFER_STATE_OPEN"; 100_000]});
    let method = "anklang.offers.v1.OfferService/ListOffers";
    let status = raw.call(Some("linden"), method, &states).await.unwrap_err();
    crate::refused::names(&status, &["states"]);
}
