//! Tenants cannot see each other: at every method of the API, and in the database itself.

use std::collections::BTreeSet;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_testkit::{Client, TestServer};
use serde_json::{Value, json};
use tonic::Code;

use crate::raw::{self, Raw};
use crate::refused;
use crate::utility::{
    Case, FEW, TARGET, Utility, criteria, launch, offers_of, until_sent, with_utility,
};

/// Names of what a tenant has: two or more of everything.
pub struct World {
    pub client: Client,
    pub utility: Utility,
    pub campaign: String,
    pub phase: String,
    pub operation: String,
    pub selection: String,
    pub preset: String,
    pub customer: String,
    pub contract: String,
    pub offer: String,
    pub message: String,
    pub webhook: String,
    pub delivery: String,
}

/// Fills the tenant `linden`.
pub async fn populate(server: &TestServer) -> World {
    let (client, utility) = with_utility(server, FEW).await;
    let more = [
        (
            ImportEntity::Orders,
            "number,customer_number,ordered_at,currency\n\
            O1,K0001,2025-05-01T10:00:00Z,EUR\nO2,K0001,2025-06-01T10:00:00Z,EUR\n",
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,quantity,unit_price\nO1,1,2,9.90\n",
        ),
        (
            ImportEntity::ContractItems,
            "contract_number,code\nV0001,meter\n",
        ),
        (
            ImportEntity::Attributes,
            "entity,number,key,type,value\n\
            customer,K0001,segment,text,gold\ncontract,V0001,solar,flag,true\n",
        ),
        (
            ImportEntity::Suppressions,
            "channel,address\nmail,niemand@post.example\n",
        ),
    ];
    for (entity, csv) in more {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.errors, [], "{entity:?}");
    }
    let budget = anklang_proto::anklang::messages::v1::ContactBudget {
        max_contacts: 1_000,
        window_days: 1,
        ..Default::default()
    };
    let update = anklang_proto::anklang::messages::v1::UpdateContactBudgetRequest {
        contact_budget: Some(budget),
    };
    client
        .messages()
        .update_contact_budget(update)
        .await
        .unwrap();
    let selection = save_selection(&client).await;
    save_selection(&client).await;
    save_webhook(&client).await;
    let (webhook, delivery) = save_webhook(&client).await;
    let ticked = selections::UpdateSelectionTicksRequest {
        name: save_selection(&client).await,
        exclude: vec![utility.first(Case::Ended).name()],
        ..Default::default()
    };
    client
        .selections()
        .update_selection_ticks(ticked)
        .await
        .unwrap();
    for key in ["spring_mail", "summer_mail"] {
        save_template(&client, key).await;
    }
    launch(&client, utility.launch()).await;
    let launched = launch(&client, utility.launch()).await;
    let (campaign, phase) = (launched.campaign.unwrap().name, launched.phase.unwrap());
    until_sent(&client, &campaign, utility.members().len()).await;
    let plain = utility.first(Case::Plain);
    let offer = offers_of(&client, &campaign).await[&plain.name()].clone();
    let request = anklang_proto::anklang::messages::v1::ListMessagesRequest {
        campaign: campaign.clone(),
        ..Default::default()
    };
    let listed = client
        .messages()
        .list_messages(request)
        .await
        .unwrap()
        .into_inner();
    World {
        campaign,
        operation: phase.operation,
        phase: phase.name,
        selection,
        preset: save_preset(&client).await,
        customer: offer.customer,
        contract: offer.contract,
        offer: offer.name,
        message: listed.messages[0].name.clone(),
        webhook,
        delivery,
        client,
        utility,
    }
}

async fn save_selection(client: &Client) -> String {
    let request = selections::CreateSelectionRequest {
        selection: Some(selections::Selection {
            display_name: "Konten".into(),
            subject: selections::Subject::Contract.into(),
            criteria: Some(criteria()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let saved = client.selections().create_selection(request).await.unwrap();
    saved.into_inner().name
}

/// A webhook that waits, with two deliveries.
async fn save_webhook(client: &Client) -> (String, String) {
    use anklang_proto::anklang::handover::v1 as handover;
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "ERP".into(),
            url: WEBHOOK.into(),
            paused: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = client.webhooks().create_webhook(request).await.unwrap();
    let name = made.into_inner().name;
    let mut delivery = String::new();
    for _ in 0..2 {
        let request = handover::SendTestEventRequest { name: name.clone() };
        let queued = client.webhooks().send_test_event(request).await.unwrap();
        delivery = queued.into_inner().name;
    }
    (name, delivery)
}

/// An address that may be called, and never is: the webhooks wait.
const WEBHOOK: &str = "https://1.1.1.1/hook";

async fn save_preset(client: &Client) -> String {
    let request = selections::CreatePresetRequest {
        preset_id: "konten".into(),
        preset: Some(selections::Preset {
            display_name: "Konten".into(),
            subject: selections::Subject::Contract.into(),
            criteria: Some(criteria()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let saved = client.presets().create_preset(request).await.unwrap();
    saved.into_inner().name
}

async fn save_template(client: &Client, key: &str) {
    let request = templates::UpdateTemplateRequest {
        template: Some(templates::Template {
            name: format!("brands/linden/templates/{key}.de"),
            content: Some(templates::template::Content::Message(
                templates::MessageContent {
                    subject: "Hallo".into(),
                    text_body: "Hallo {{ customer.last_name }}".into(),
                    html_body: String::new(),
                },
            )),
            ..Default::default()
        }),
        allow_missing: true,
    };
    client.templates().update_template(request).await.unwrap();
}

/// Calls that name something of a tenant, in an order in which the tenant itself can make them all.
fn named(w: &World) -> Vec<(&'static str, Value)> {
    let date = |days: i64| {
        let day = w.utility.day(days).unwrap();
        json!({"year": day.year, "month": day.month, "day": day.day})
    };
    let money = json!({"currencyCode": "EUR", "units": "1"});
    let criteria = json!({"compare": {"field": "number", "operator": "OPERATOR_IS_SET"}});
    let address = json!({"channel": "mail", "address": "niemand@post.example"});
    let customer = json!({"number": "K0001", "kind": "CUSTOMER_KIND_PERSON", "lastName": "Neu"});
    let contract = json!({
        "number": "V0001", "customer": w.customer, "brand": "brands/linden", "division": "gas",
    });
    let order = json!({
        "number": "O1", "customer": w.customer, "orderTime": "2025-05-01T10:00:00Z",
        "currencyCode": "EUR",
    });
    let product = json!({
        "number": "S-BASIS", "displayName": "Neu", "division": "electricity",
        "brand": "brands/linden",
    });
    let version = json!({
        "name": TARGET, "code": "NEXT", "displayName": "Neu", "validFrom": date(1),
        "basePricePerYear": money, "unitPricePerKwh": money,
    });
    let brand = json!({"code": "linden", "displayName": "Neu", "senderEmail": "a@b.example"});
    let template = "brands/linden/templates/spring_mail.de";
    let content = json!({"subject": "Neu", "textBody": "Neu"});
    vec![
        (
            "anklang.brands.v1.BrandService/GetBrand",
            json!({"name": "brands/linden"}),
        ),
        (
            "anklang.brands.v1.BrandService/UpdateBrand",
            json!({"brand": brand}),
        ),
        (
            "anklang.products.v1.ProductService/GetProduct",
            json!({"name": "products/S-BASIS"}),
        ),
        (
            "anklang.products.v1.ProductService/UpdateProduct",
            json!({"product": product}),
        ),
        (
            "anklang.products.v1.ProductService/GetProductVersion",
            json!({"name": TARGET}),
        ),
        (
            "anklang.products.v1.ProductService/ListProductVersions",
            json!({"parent": "products/S-OEKO"}),
        ),
        (
            "anklang.products.v1.ProductService/UpdateProductVersion",
            json!({"productVersion": version}),
        ),
        (
            "anklang.customers.v1.CustomerService/GetCustomer",
            json!({"name": w.customer}),
        ),
        (
            "anklang.customers.v1.CustomerService/ListCustomerEvents",
            json!({"parent": w.customer}),
        ),
        (
            "anklang.customers.v1.CustomerService/GetSuppression",
            address.clone(),
        ),
        (
            "anklang.contracts.v1.ContractService/GetContract",
            json!({"name": w.contract}),
        ),
        (
            "anklang.orders.v1.OrderService/GetOrder",
            json!({"name": "orders/O1"}),
        ),
        (
            "anklang.orders.v1.OrderService/UpdateOrder",
            json!({"order": order}),
        ),
        (
            "anklang.selections.v1.SelectionService/GetSelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/PreviewSelection",
            json!({"selection": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/CopySelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionVersions",
            json!({"parent": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/GetSelectionVersion",
            json!({"name": format!("{}/versions/1", w.selection)}),
        ),
        (
            "anklang.selections.v1.SelectionService/RestoreSelectionVersion",
            json!({"name": format!("{}/versions/1", w.selection)}),
        ),
        (
            "anklang.selections.v1.SelectionService/UpdateSelectionTicks",
            json!({"name": w.selection, "exclude": [w.contract]}),
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionTicks",
            json!({"parent": w.selection}),
        ),
        (
            "anklang.selections.v1.SelectionService/ExplainSelection",
            json!({"selection": w.selection, "member": w.contract}),
        ),
        (
            "anklang.selections.v1.PresetService/GetPreset",
            json!({"name": w.preset}),
        ),
        (
            "anklang.selections.v1.PresetService/UpdatePreset",
            json!({"preset": {
                "name": w.preset, "displayName": "Neu", "subject": "SUBJECT_CONTRACT",
                "criteria": criteria,
            }}),
        ),
        (
            "anklang.selections.v1.PresetService/DeletePreset",
            json!({"name": w.preset}),
        ),
        (
            "anklang.selections.v1.SelectionService/UpdateSelection",
            json!({"selection": {
                "name": w.selection, "displayName": "Neu", "subject": "SUBJECT_CONTRACT",
                "criteria": criteria,
            }}),
        ),
        (
            "anklang.templates.v1.TemplateService/GetTemplate",
            json!({"name": template}),
        ),
        (
            "anklang.templates.v1.TemplateService/UpdateTemplate",
            json!({"template": {"name": template, "message": content}, "allowMissing": true}),
        ),
        (
            "anklang.templates.v1.TemplateService/ListTemplates",
            json!({"parent": "brands/linden"}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/GetCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListPhases",
            json!({"parent": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListAudienceMembers",
            json!({"parent": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/GetInfoboard",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/PauseCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ResumeCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/PausePhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ResumePhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/ReschedulePhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/CancelPhase",
            json!({"name": w.phase}),
        ),
        (
            "anklang.campaigns.v1.CampaignService/CancelCampaign",
            json!({"name": w.campaign}),
        ),
        (
            "anklang.offers.v1.OfferService/CreateOffer",
            json!({"contract": w.contract, "productVersion": TARGET, "validUntilDate": date(3)}),
        ),
        (
            "anklang.offers.v1.OfferService/GetOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/DownloadOfferDocument",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/AcceptOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/RejectOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.offers.v1.OfferService/WithdrawOffer",
            json!({"name": w.offer}),
        ),
        (
            "anklang.messages.v1.MessageService/GetMessage",
            json!({"name": w.message}),
        ),
        (
            "anklang.handover.v1.WebhookService/GetWebhook",
            json!({"name": w.webhook}),
        ),
        (
            "anklang.handover.v1.WebhookService/UpdateWebhook",
            json!({"webhook": {
                "name": w.webhook, "displayName": "Neu", "url": WEBHOOK, "paused": true,
            }}),
        ),
        (
            "anklang.handover.v1.WebhookService/RotateWebhookSecret",
            json!({"name": w.webhook}),
        ),
        (
            "anklang.handover.v1.WebhookService/SendTestEvent",
            json!({"name": w.webhook}),
        ),
        (
            "anklang.handover.v1.DeliveryService/ListDeliveries",
            json!({"parent": w.webhook}),
        ),
        (
            "anklang.handover.v1.DeliveryService/GetDelivery",
            json!({"name": w.delivery}),
        ),
        (
            "anklang.handover.v1.DeliveryService/ReplayDelivery",
            json!({"name": w.delivery}),
        ),
        (
            "anklang.handover.v1.DeliveryService/ReplayDeadDeliveries",
            json!({"parent": w.webhook}),
        ),
        (
            "anklang.messages.v1.MessageService/ResolveMessage",
            json!({"name": w.message, "resolution": "MESSAGE_RESOLUTION_RESEND"}),
        ),
        (
            "anklang.reach.v1.ReachService/GetReach",
            json!({"campaign": w.campaign}),
        ),
        (
            "anklang.reach.v1.ReachService/ExportReach",
            json!({"campaign": w.campaign}),
        ),
        (
            "anklang.reach.v1.ReachService/ExplainCustomer",
            json!({"customer": w.customer, "campaign": w.campaign}),
        ),
        (
            "anklang.operations.v1.OperationProgressService/WatchOperation",
            json!({"name": w.operation}),
        ),
        (
            "google.longrunning.Operations/GetOperation",
            json!({"name": w.operation}),
        ),
        (
            "google.longrunning.Operations/WaitOperation",
            json!({"name": w.operation, "timeout": "0s"}),
        ),
        (
            "google.longrunning.Operations/CancelOperation",
            json!({"name": w.operation}),
        ),
        (
            "google.longrunning.Operations/DeleteOperation",
            json!({"name": w.operation}),
        ),
        // Last: these change what the others name.
        (
            "anklang.customers.v1.CustomerService/UpdateCustomer",
            json!({"customer": customer}),
        ),
        (
            "anklang.contracts.v1.ContractService/UpdateContract",
            json!({"contract": contract}),
        ),
        (
            "anklang.customers.v1.CustomerService/DeleteSuppression",
            address,
        ),
        (
            "anklang.selections.v1.SelectionService/DeleteSelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.handover.v1.WebhookService/DeleteWebhook",
            json!({"name": w.webhook}),
        ),
    ]
}

/// Lists without a parent.
const LISTS: [&str; 11] = [
    "anklang.brands.v1.BrandService/ListBrands",
    "anklang.products.v1.ProductService/ListProducts",
    "anklang.customers.v1.CustomerService/ListCustomers",
    "anklang.contracts.v1.ContractService/ListContracts",
    "anklang.orders.v1.OrderService/ListOrders",
    "anklang.selections.v1.SelectionService/ListSelections",
    "anklang.campaigns.v1.CampaignService/ListCampaigns",
    "anklang.offers.v1.OfferService/ListOffers",
    "anklang.messages.v1.MessageService/ListMessages",
    "anklang.handover.v1.WebhookService/ListWebhooks",
    "google.longrunning.Operations/ListOperations",
];

/// Methods that name nothing of a tenant, or that have a test of their own here.
const OTHERS: [&str; 15] = [
    "anklang.campaigns.v1.CampaignService/LaunchCampaign",
    "anklang.channels.v1.ChannelService/GetChannelAccount",
    "anklang.channels.v1.ChannelService/ListChannelAccounts",
    "anklang.customers.v1.CustomerService/CreateSuppression",
    "anklang.handover.v1.WebhookService/CreateWebhook",
    "anklang.imports.v1.ImportService/Import",
    "anklang.offers.v1.OfferService/GetCockpit",
    "anklang.offers.v1.OfferService/GetOfferNumberRange",
    "anklang.offers.v1.OfferService/UpdateOfferNumberRange",
    "anklang.selections.v1.PresetService/CreatePreset",
    // Every tenant begins with one.
    "anklang.selections.v1.PresetService/ListPresets",
    "anklang.messages.v1.MessageService/GetContactBudget",
    "anklang.messages.v1.MessageService/UpdateContactBudget",
    "anklang.selections.v1.SelectionService/CreateSelection",
    "anklang.selections.v1.SelectionService/ListSelectionFields",
];

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    server.client("other").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let calls = named(&world);

    let mut known: BTreeSet<&str> = calls.iter().map(|(method, _)| *method).collect();
    known.extend(LISTS);
    known.extend(OTHERS);
    let all: Vec<String> = raw::methods().map(|m| raw::path(&m)).collect();
    assert_eq!(
        known,
        all.iter().map(|m| &m[..]).collect(),
        "every method is looked at"
    );

    for (method, request) in &calls {
        match raw.call(Some("other"), method, request).await {
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{method}: {status:?}"),
            Ok(response) => panic!("{method}: {response}"),
        }
    }
    for method in LISTS {
        let listed = raw.call(Some("other"), method, &json!({})).await.unwrap();
        assert_eq!(listed, json!({}), "{method}");
    }
    // The same calls find something for whom it belongs to.
    for method in LISTS {
        let listed = raw.call(Some("linden"), method, &json!({})).await.unwrap();
        assert_ne!(listed, json!({}), "{method}");
    }
    for (method, request) in &calls {
        if let Err(status) = raw.call(Some("linden"), method, request).await {
            // Answered already; kept as a record.
            assert_eq!(
                status.code(),
                Code::FailedPrecondition,
                "{method}: {status:?}"
            );
        }
    }
}

#[tokio::test]
async fn another_tenants_things_cannot_be_pointed_to() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let other = server.client("other").await.unwrap();

    let mut request = world.utility.launch();
    request.audience = Some(
        anklang_proto::anklang::campaigns::v1::launch_campaign_request::Audience::Selection(
            world.selection.clone(),
        ),
    );
    request.campaign_target = Some(
        anklang_proto::anklang::campaigns::v1::launch_campaign_request::CampaignTarget::Campaign(
            world.campaign.clone(),
        ),
    );
    request.deselected_contracts = vec![world.contract.clone()];
    let status = other
        .campaigns()
        .launch_campaign(request)
        .await
        .unwrap_err();
    refused::names(
        &status,
        &[
            "campaign",
            "selection",
            "deselected_contracts",
            "target_product_version",
        ],
    );

    let csv = "number,customer_number,brand_code,division\nX1,K0001,linden,gas\n";
    let sums = other.import(ImportEntity::Contracts, csv).await.unwrap();
    assert_eq!((sums.created, sums.failed), (0, 1));
    let fields: BTreeSet<&str> = sums.errors.iter().map(|e| &e.field[..]).collect();
    assert_eq!(fields, BTreeSet::from(["customer_number", "brand_code"]));

    // What a tenant has imported is no field of another's selections.
    let fields = async |client: &Client| {
        let request = selections::ListSelectionFieldsRequest {
            subject: selections::Subject::Contract.into(),
        };
        let listed = client
            .selections()
            .list_selection_fields(request)
            .await
            .unwrap();
        let mut fields = listed.into_inner().fields.into_iter();
        fields.any(|f| f.field == "attributes.solar")
    };
    assert!(fields(&world.client).await);
    assert!(!fields(&other).await);

    // A blocked address is blocked for one tenant alone.
    let request = json!({"channel": "mail", "address": "niemand@post.example"});
    let raw = Raw::connect(server.addr).await;
    let method = "anklang.customers.v1.CustomerService/GetSuppression";
    raw.call(Some("linden"), method, &request).await.unwrap();
    refused::not_found(&raw.call(Some("other"), method, &request).await.unwrap_err());
}

#[tokio::test]
async fn every_call_names_its_tenant() {
    let server = TestServer::start().await.unwrap();
    server.client("linden").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let mut looked_at = 0;
    for method in raw::methods().filter(|m| !m.is_client_streaming()) {
        for tenant in [None, Some("nobody"), Some("Linden"), Some("")] {
            let result = raw.call(tenant, &raw::path(&method), &json!({})).await;
            let status = result.expect_err(&raw::path(&method));
            refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
        }
        looked_at += 1;
    }
    assert!(looked_at > 40, "{looked_at}");
    let nobody = Client::connect(server.addr, "nobody").await.unwrap();
    let status = nobody
        .import(ImportEntity::Brands, "code,name,sender_email\n")
        .await
        .unwrap_err();
    refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
}

/// Tables with a tenant's rows.
async fn tenant_tables(database: &tokio_postgres::Client) -> Vec<String> {
    let rows = database
        .query(
            "SELECT table_name::text FROM information_schema.columns
             WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_database_shows_a_tenant_its_own_rows() {
    let server = TestServer::start().await.unwrap();
    populate(&server).await;
    let other = server.client("other").await.unwrap();
    Utility::of(&[(Case::Plain, 2)]).import(&other).await;
    let mut database = server.database.connect().await.unwrap();

    let tables = tenant_tables(&database).await;
    let mut with_rows = 0;
    for table in &tables {
        let own: i64 = database
            .query_one(
                &format!(
                    "SELECT count(*) FROM {table} JOIN tenant t ON t.id = tenant_id
                          WHERE t.slug = 'other'"
                ),
                &[],
            )
            .await
            .unwrap()
            .get(0);
        let all: i64 = database
            .query_one(&format!("SELECT count(*) FROM {table}"), &[])
            .await
            .unwrap()
            .get(0);
        assert!(
            all > own || ["account_pace", "request_log"].contains(&&table[..]),
            "{table} has nothing of the first tenant"
        );

        let seen = async |database: &mut tokio_postgres::Client, tenant: &str| {
            let tx = database.transaction().await.unwrap();
            tx.batch_execute(&format!(
                "SELECT set_config('role', 'anklang_app', true),
                        set_config('anklang.tenant', ({tenant})::text, true)"
            ))
            .await
            .unwrap();
            let row = tx
                .query_one(&format!("SELECT count(*) FROM {table}"), &[])
                .await
                .unwrap();
            row.get::<_, i64>(0)
        };
        let id = "SELECT id FROM tenant WHERE slug = 'other'";
        assert_eq!(seen(&mut database, id).await, own, "{table}");
        assert_eq!(
            seen(&mut database, "''").await,
            0,
            "{table} without a tenant"
        );
        with_rows += usize::from(own > 0);
    }
    assert!(
        tables.len() > 20 && with_rows >= 7,
        "{with_rows} of {}",
        tables.len()
    );

    // Nor can it write rows of another.
    let tx = database.transaction().await.unwrap();
    tx.batch_execute(
        "SELECT set_config('role', 'anklang_app', true), set_config('anklang.tenant',
            (SELECT id FROM tenant WHERE slug = 'other')::text, true)",
    )
    .await
    .unwrap();
    let stolen = tx
        .execute("UPDATE customer SET city = 'x' WHERE number LIKE 'K%'", &[])
        .await;
    assert_eq!(stolen.unwrap(), 2);
    let given = tx
        .execute(
            "UPDATE customer SET tenant_id = (SELECT id FROM tenant WHERE slug = 'linden')",
            &[],
        )
        .await
        .unwrap_err();
    let given = given.as_db_error().unwrap();
    assert!(given.message().contains("row-level security"), "{given}");
}

#[tokio::test]
async fn every_table_is_secured_and_led_by_its_tenant() {
    let server = TestServer::start().await.unwrap();
    let database = server.database.connect().await.unwrap();
    let tables = tenant_tables(&database).await;
    assert!(tables.len() > 20, "{tables:?}");
    for table in &tables {
        let row = database
            .query_one(
                "SELECT c.relrowsecurity, pg_get_userbyid(c.relowner)::text,
                        (SELECT array_agg(r.rolname::text || ': ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '')
                                          ORDER BY r.rolname)
                         FROM pg_policy p, pg_roles r
                         WHERE p.polrelid = c.oid AND r.oid = ANY(p.polroles))
                 FROM pg_class c WHERE c.oid = $1::text::regclass",
                &[table],
            )
            .await
            .unwrap();
        assert!(row.get::<_, bool>(0), "{table} has no row-level security");
        let owner: String = row.get(1);
        assert!(!owner.starts_with("anklang_"), "{table} belongs to {owner}");
        let policies: Vec<String> = row.get::<_, Option<_>>(2).unwrap_or_default();
        let [app, worker] = &policies[..] else {
            panic!("two policies on {table}: {policies:?}");
        };
        assert!(
            app.starts_with("anklang_app: (tenant_id = ") && app.contains("anklang_tenant()"),
            "{app}"
        );
        assert_eq!(worker, "anklang_worker: true", "{table}");
    }
    let others = database
        .query(
            "SELECT i.indexrelid::regclass::text FROM pg_index i
             JOIN pg_attribute t ON t.attrelid = i.indrelid AND t.attname = 'tenant_id'
             WHERE i.indrelid::regclass::text = ANY($1) AND i.indkey[0] <> t.attnum",
            &[&tables],
        )
        .await
        .unwrap();
    let others: Vec<String> = others.iter().map(|row| row.get(0)).collect();
    assert!(others.is_empty(), "not led by the tenant: {others:?}");
    let bypass = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'anklang_%'
                  AND (rolbypassrls OR rolsuper OR rolcanlogin)";
    assert_eq!(server.database.one(bypass).await.unwrap(), "0");
}
