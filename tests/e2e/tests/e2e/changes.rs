//! Calls that change something: done once, guarded by etags, of named fields alone, or as a trial;
//! at every method that does so. What masks and etags mean: `fields`.

mod fields;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{TestServer, reason, violations};
use prost::Message;
use prost_reflect::{DynamicMessage, Kind};
use serde_json::{Value, json};
use tonic::Code;

use crate::raw::{self, Raw};
use crate::refused;
use crate::utility::{Case, until};
use crate::world::{World, named, new_channels, populate};

/// All calls with a `request_id`, in an order in which a tenant can make them all.
pub fn changes(world: &World) -> Vec<(&'static str, Value)> {
    let criteria = json!({"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}});
    let selection = json!({
        "displayName": "Alle", "subject": "SUBJECT_CONTRACT", "criteria": criteria,
    });
    let webhook = json!({"displayName": "CRM", "url": "https://1.1.1.1/crm", "paused": true});
    let mut calls = vec![
        (
            "anklang.customers.v1.CustomerService/CreateSuppression",
            json!({"suppression": {"channel": "mail", "address": "weg@post.example"}}),
        ),
        (
            "anklang.selections.v1.SelectionService/CreateSelection",
            json!({"selection": selection}),
        ),
        (
            "anklang.selections.v1.PresetService/CreatePreset",
            json!({"presetId": "alle", "preset": selection}),
        ),
        (
            "anklang.handover.v1.WebhookService/CreateWebhook",
            json!({"webhook": webhook}),
        ),
        (
            "anklang.messages.v1.MessageService/UpdateContactBudget",
            json!({"contactBudget": {"maxContacts": 900, "windowDays": 2}}),
        ),
        (
            "anklang.campaigns.v1.ApprovalService/UpdateApprovalPolicy",
            json!({"approvalPolicy": {}}),
        ),
        (
            "anklang.offers.v1.OfferService/UpdateOfferNumberRange",
            json!({"offerNumberRange": {"prefix": "B-", "nextNumber": "500"}}),
        ),
        (
            "anklang.campaigns.v1.DryRunService/DryRunLaunch",
            json!({"launch": launch_of(world)}),
        ),
        (LAUNCH, launch_of(world)),
        (LAUNCH, launch_by_phone(world)),
    ];
    calls.extend(new_channels());
    calls.extend(crate::work_list::makes());
    calls.extend(crate::winback::makes());
    calls.extend(crate::winback::desk::makes());
    calls.extend(named(world));
    calls.retain(|(method, _)| has(method, "request_id"));
    calls
}

const LAUNCH: &str = "anklang.campaigns.v1.CampaignService/LaunchCampaign";

/// A further phase of the world's campaign, some days from now.
pub fn launch_of(world: &World) -> Value {
    let request = world.utility.launch().encode_to_vec();
    let message = DynamicMessage::decode(raw::input(LAUNCH), &request[..]).unwrap();
    let mut request = serde_json::to_value(&message).unwrap();
    let fields = request.as_object_mut().unwrap();
    fields.remove("newCampaign");
    fields.insert("campaign".into(), json!(world.campaign));
    let day = world.utility.day(2).unwrap();
    let date = json!({"year": day.year, "month": day.month, "day": day.day});
    fields.insert("schedule".into(), json!({"plannedStartDate": date}));
    request
}

/// The same, made by people.
pub fn launch_by_phone(world: &World) -> Value {
    let phone = json!({
        "contactPlan": "contactPlans/NORD", "responsible": "roles/callcenter",
        "earliestTime": "09:00", "latestTime": "17:00", "note": "Neuer Tarif",
    });
    with(
        &launch_of(world),
        "outbound",
        json!({"phone": phone, "withoutDocument": true}),
    )
}

fn has(method: &str, field: &str) -> bool {
    raw::input(method).get_field_by_name(field).is_some()
}

fn with(request: &Value, field: &str, value: Value) -> Value {
    let mut request = request.clone();
    request[field] = value;
    request
}

/// The request with that etag: its own, or its resource's. `None` when it takes none.
fn with_etag(method: &str, request: &Value, etag: &str) -> Option<Value> {
    if has(method, "etag") {
        return Some(with(request, "etag", json!(etag)));
    }
    let resource = raw::input(method)
        .fields()
        .find(|field| match field.kind() {
            Kind::Message(message) => message.get_field_by_name("etag").is_some(),
            _ => false,
        })?;
    if !has(method, "update_mask") {
        return None;
    }
    let mut request = request.clone();
    request[resource.json_name()]["etag"] = json!(etag);
    Some(request)
}

/// All that is stored, by table.
pub async fn stored(server: &TestServer) -> Vec<(String, String)> {
    let database = server.database.connect().await.unwrap();
    let tables = database
        .query(
            "SELECT table_name::text FROM information_schema.columns
             WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    let mut all = Vec::new();
    for table in tables {
        let table: String = table.get(0);
        // What is in the audit log is sealed a little later, and else stays.
        let row = match &table[..] {
            "audit_entry" => "to_jsonb(t) - 'seq' - 'hash'",
            _ => "t",
        };
        let sql = format!(
            "SELECT coalesce(string_agg(({row})::text, '\n' ORDER BY ({row})::text), '') FROM {table} t"
        );
        let rows = database.query_one(&sql, &[]).await.unwrap().get(0);
        all.push((table, rows));
    }
    all
}

pub async fn is_as_before(server: &TestServer, before: &[(String, String)]) {
    for (before, after) in before.iter().zip(stored(server).await) {
        assert_eq!(before.1, after.1, "{} has changed", after.0);
    }
}

fn new_id() -> Value {
    json!(uuid::Uuid::now_v7().to_string())
}

#[tokio::test]
async fn a_trial_leaves_nothing_behind() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let before = stored(&server).await;
    let (mut tried, id) = (0, new_id());
    for (method, request) in changes(&world) {
        let trial = with(
            &with(&request, "validateOnly", json!(true)),
            "requestId",
            id.clone(),
        );
        match raw.call(Some("linden"), method, &trial).await {
            Ok(response) => {
                if method == LAUNCH {
                    assert_eq!(response.get("name"), None, "no operation: {response}");
                    assert!(response.get("metadata").is_some(), "{response}");
                }
                tried += 1;
            }
            // Sent already.
            Err(status) => assert_eq!(
                status.code(),
                Code::FailedPrecondition,
                "{method}: {status:?}"
            ),
        }
        is_as_before(&server, &before).await;
    }
    assert!(tried >= 35, "{tried}");

    // The id is free still, and what is wrong is found by a trial as well.
    let method = "anklang.brands.v1.BrandService/UpdateBrand";
    let brand = json!({"brand": {"code": "linden", "displayName": "", "senderEmail": "x"}});
    let trial = with(&brand, "validateOnly", json!(true));
    let found = raw.call(Some("linden"), method, &trial).await.unwrap_err();
    let done = raw.call(Some("linden"), method, &brand).await.unwrap_err();
    refused::names(&found, &["brand.display_name", "brand.sender_email"]);
    assert_eq!(violations(&found), violations(&done));
    let brand =
        json!({"brand": {"code": "linden", "displayName": "Neu", "senderEmail": "a@b.example"}});
    let brand = with(&brand, "requestId", id);
    let done = raw.call(Some("linden"), method, &brand).await.unwrap();
    // Done before or not: a trial is made anew.
    let trial = with(&brand, "validateOnly", json!(true));
    let tried = raw.call(Some("linden"), method, &trial).await.unwrap();
    assert_eq!(tried["etag"], done["etag"], "it would change nothing");
}

#[tokio::test]
async fn what_has_changed_since_is_left_alone() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let before = stored(&server).await;
    let mut refusals = 0;
    for (method, request) in changes(&world) {
        let Some(stale) = with_etag(method, &request, "stale") else {
            continue;
        };
        let status = raw
            .call(Some("linden"), method, &stale)
            .await
            .expect_err(method);
        refused::is(&status, Code::Aborted, "ETAG_MISMATCH");
        refusals += 1;
    }
    assert!(refusals >= 32, "{refusals}");
    is_as_before(&server, &before).await;
}

#[tokio::test]
async fn a_repeated_call_is_answered_as_the_first_time() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let other = server.client("other").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let (mut repeated, mut ids) = (0, Vec::new());
    for (method, request) in changes(&world) {
        let id = new_id();
        let request = with(&request, "requestId", id.clone());
        let mut first = match raw.call(Some("linden"), method, &request).await {
            Ok(first) => first,
            // Answered or sent already.
            Err(status) => {
                assert_eq!(
                    status.code(),
                    Code::FailedPrecondition,
                    "{method}: {status:?}"
                );
                continue;
            }
        };
        let again = raw.call(Some("linden"), method, &request).await;
        // Shown once.
        if let Some(fields) = first.as_object_mut() {
            fields.remove("secret");
        }
        assert_eq!(again.expect(method), first, "{method}");
        let another = json!({"presetId": "x", "requestId": id});
        let method = "anklang.selections.v1.PresetService/CreatePreset";
        let status = raw
            .call(Some("linden"), method, &another)
            .await
            .unwrap_err();
        refused::is(&status, Code::InvalidArgument, "REQUEST_ID_REUSED");
        assert_eq!(violations(&status)[0].0, "request_id");
        repeated += 1;
        ids.push(id);
    }
    assert!(repeated >= 32, "{repeated}");

    // To another tenant these ids are new.
    for id in ids {
        let request = customers::CreateSuppressionRequest {
            suppression: Some(customers::Suppression {
                channel: "mail".into(),
                address: "x@post.example".into(),
                ..Default::default()
            }),
            request_id: id.as_str().unwrap().into(),
            ..Default::default()
        };
        other.customers().create_suppression(request).await.unwrap();
    }
}

#[tokio::test]
async fn calls_of_long_ago_are_forgotten() {
    let mut server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let mut request = customers::CreateSuppressionRequest {
        suppression: Some(customers::Suppression {
            channel: "mail".into(),
            address: "x@post.example".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    for id in [uuid::Uuid::nil(), uuid::Uuid::max()] {
        request.request_id = id.to_string();
        client
            .customers()
            .create_suppression(request.clone())
            .await
            .unwrap();
    }
    let owner = server.database.connect().await.unwrap();
    let older = "UPDATE request_log SET created_at = now() - interval '169 hours'
                 WHERE request_id = '00000000-0000-0000-0000-000000000000'";
    assert_eq!(owner.execute(older, &[]).await.unwrap(), 1);
    // It looks when it starts, and every minute.
    server.restart().await.unwrap();
    until("the old one is gone", async || {
        server
            .database
            .one("SELECT count(*) FROM request_log")
            .await
            .unwrap()
            == "1"
    })
    .await;
    let left = "SELECT request_id FROM request_log";
    assert_eq!(
        server.database.one(left).await.unwrap(),
        uuid::Uuid::max().to_string()
    );
}

#[tokio::test]
async fn trials_say_what_would_be() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let mut request = world.utility.switch(world.utility.first(Case::Plain));
    request.validate_only = true;
    let tried = world
        .client
        .offers()
        .create_offer(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(tried.state(), offers::OfferState::Draft);
    request.validate_only = false;
    let made = world
        .client
        .offers()
        .create_offer(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (&tried.number, &tried.annual_amount),
        (&made.number, &made.annual_amount)
    );
    // Conflicts are found.
    let raw = Raw::connect(server.addr).await;
    let taken = json!({"presetId": "konten", "validateOnly": true, "preset": {
        "displayName": "Konten", "subject": "SUBJECT_CONTRACT",
        "criteria": {"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}},
    }});
    let method = "anklang.selections.v1.PresetService/CreatePreset";
    let status = raw.call(Some("linden"), method, &taken).await.unwrap_err();
    assert_eq!(
        (status.code(), &reason(&status)[..]),
        (Code::AlreadyExists, "ALREADY_EXISTS")
    );
}
