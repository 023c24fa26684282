//! Every list of the API, page by page.

use anklang_proto::anklang::selections::v1 as selections;
use anklang_testkit::TestServer;
use serde_json::{Value, json};

use crate::raw::{self, Raw};
use crate::refused;
use crate::utility::{Case, launch};
use crate::world::{World, populate};
use tonic::Code;

/// All methods that give pages, with what they need, and the field of their items.
fn lists(world: &World) -> Vec<(&'static str, Value, &'static str)> {
    let World {
        campaign,
        phase,
        outbound,
        customer,
        selection,
        webhook,
        dry_run,
        ..
    } = world;
    let mut lists = crate::work_list::lists(&world.work);
    lists.extend(crate::winback::desk::lists(&world.cases));
    lists.push((
        "anklang.privacy.v1.PrivacyService/ListPrivacyRequests",
        json!({}),
        "privacyRequests",
    ));
    lists.extend(vec![
        (
            "anklang.brands.v1.BrandService/ListBrands",
            json!({}),
            "brands",
        ),
        (
            "anklang.products.v1.ProductService/ListProducts",
            json!({}),
            "products",
        ),
        (
            "anklang.products.v1.ProductService/ListProductVersions",
            json!({"parent": "products/-"}),
            "productVersions",
        ),
        (
            "anklang.customers.v1.CustomerService/ListCustomers",
            json!({}),
            "customers",
        ),
        (
            "anklang.customers.v1.CustomerService/ListCustomerEvents",
            json!({"parent": customer}),
            "customerEvents",
        ),
        (
            "anklang.contracts.v1.ContractService/ListContracts",
            json!({}),
            "contracts",
        ),
        (
            "anklang.orders.v1.OrderService/ListOrders",
            json!({}),
            "orders",
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelections",
            json!({}),
            "selections",
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionVersions",
            json!({"parent": selection}),
            "selectionVersions",
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionTicks",
            json!({"parent": selection}),
            "selectionTicks",
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionMembers",
            json!({"selection": selection}),
            "selectionMembers",
        ),
        (
            "anklang.org.v1.OrgUnitService/ListOrgUnits",
            json!({}),
            "orgUnits",
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListContactPlans",
            json!({}),
            "contactPlans",
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListPlanEntries",
            json!({"parent": "contactPlans/-"}),
            "planEntries",
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListPlanExceptions",
            json!({"parent": "contactPlans/NORD"}),
            "planExceptions",
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListInactivePeriods",
            json!({"parent": "customers/K0001"}),
            "inactivePeriods",
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListWorkdayCalendars",
            json!({}),
            "workdayCalendars",
        ),
        (
            "anklang.winback.v1.WinbackService/ListWinbackDetections",
            json!({}),
            "winbackDetections",
        ),
        (
            "anklang.winback.v1.WinbackService/ListWinbackSettingsVersions",
            json!({}),
            "winbackSettingsVersions",
        ),
        (
            "anklang.planning.v1.PlannedContactService/ListPlannedContacts",
            json!({}),
            "plannedContacts",
        ),
        (
            "anklang.selections.v1.PresetService/ListPresets",
            json!({}),
            "presets",
        ),
        (
            "anklang.templates.v1.TemplateService/ListTemplates",
            json!({"parent": "brands/-"}),
            "templates",
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListCampaigns",
            json!({}),
            "campaigns",
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListPhases",
            json!({"parent": campaign}),
            "phases",
        ),
        (
            "anklang.campaigns.v1.CampaignService/ListAudienceMembers",
            json!({"parent": phase}),
            "audienceMembers",
        ),
        (
            "anklang.campaigns.v1.DryRunService/ListDryRunCandidates",
            json!({"parent": dry_run}),
            "candidates",
        ),
        (
            "anklang.offers.v1.OfferService/ListOffers",
            json!({}),
            "offers",
        ),
        (
            "anklang.documents.v1.DocumentService/ListDocuments",
            json!({"parent": outbound}),
            "documents",
        ),
        (
            "anklang.messages.v1.MessageService/ListMessages",
            json!({}),
            "messages",
        ),
        (
            "anklang.inbound.v1.InboundService/ListInboundMessages",
            json!({}),
            "inboundMessages",
        ),
        (
            "anklang.channels.v1.ChannelService/ListChannelAccounts",
            json!({}),
            "channelAccounts",
        ),
        (
            "anklang.channels.v1.ChannelService/ListChannelRoutes",
            json!({}),
            "channelRoutes",
        ),
        (
            "anklang.handover.v1.WebhookService/ListWebhooks",
            json!({}),
            "webhooks",
        ),
        (
            "anklang.handover.v1.DeliveryService/ListDeliveries",
            json!({"parent": webhook}),
            "deliveries",
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/ListVoucherPools",
            json!({"parent": "brands/-"}),
            "voucherPools",
        ),
        (
            "anklang.winback.v1.WinbackTemplateService/ListVouchers",
            json!({"parent": "brands/linden/voucherPools/sommer"}),
            "vouchers",
        ),
        (
            "anklang.winback.v1.WinbackMailService/ListWinbackMailings",
            json!({}),
            "winbackMailings",
        ),
        (
            "google.longrunning.Operations/ListOperations",
            json!({}),
            "operations",
        ),
        (
            "anklang.audit.v1.AuditService/ListAuditEntries",
            json!({}),
            "auditEntries",
        ),
    ]);
    lists
}

async fn another_phase(world: &World) {
    use anklang_proto::anklang::campaigns::v1::launch_campaign_request::CampaignTarget;
    let mut request = world.utility.launch();
    request.campaign_target = Some(CampaignTarget::Campaign(world.campaign.clone()));
    launch(&world.client, request).await;
}

/// Two versions and two ticks of the selection.
async fn work_on_selection(world: &World) {
    let name = format!("{}/versions/1", world.selection);
    let request = selections::RestoreSelectionVersionRequest {
        name,
        ..Default::default()
    };
    let client = || world.client.selections();
    client().restore_selection_version(request).await.unwrap();
    let request = selections::UpdateSelectionTicksRequest {
        name: world.selection.clone(),
        include: vec![world.contract.clone()],
        exclude: vec![world.utility.first(Case::Ended).name()],
        ..Default::default()
    };
    client().update_selection_ticks(request).await.unwrap();
}

fn with(request: &Value, size: i32, token: &str) -> Value {
    let mut request = request.clone();
    request["pageSize"] = size.into();
    request["pageToken"] = token.into();
    request
}

#[tokio::test]
async fn pages_are_the_list_in_parts() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    another_phase(&world).await;
    work_on_selection(&world).await;
    crate::audit::sealed(&server).await;
    let lists = lists(&world);
    let known: Vec<&str> = lists.iter().map(|(method, ..)| *method).collect();
    let paged = raw::methods().filter(|m| m.input().get_field_by_name("page_token").is_some());
    for method in paged {
        assert!(
            known.contains(&&raw::path(&method)[..]),
            "{} is not here",
            raw::path(&method)
        );
    }

    let mut foreign = String::new();
    for (method, request, field) in &lists {
        let call = async |size, token: &str| {
            raw.call(Some("linden"), method, &with(request, size, token))
                .await
        };
        let whole = call(1_000, "").await.unwrap();
        let all = whole[field].as_array().unwrap();
        assert!(all.len() >= 2, "{method}: too few to have pages: {whole}");
        assert_eq!(whole["nextPageToken"], Value::Null, "{method}");

        let (mut walked, mut token) = (Vec::new(), String::new());
        loop {
            let page = call(1, &token).await.unwrap();
            let items = page[field].as_array().unwrap();
            assert_eq!(items.len(), 1, "{method}");
            walked.extend(items.clone());
            match page["nextPageToken"].as_str() {
                None => break,
                Some(next) => next.clone_into(&mut token),
            }
            assert!(walked.len() <= all.len(), "{method} does not end");
        }
        assert_eq!(&walked, all, "{method}");

        for bad in ["x", &foreign, &format!("{token}A"), &token[1..]] {
            if !bad.is_empty() {
                refused::names(&call(1, bad).await.unwrap_err(), &["page_token"]);
            }
        }
        for size in [-1, 1_001] {
            refused::names(&call(size, "").await.unwrap_err(), &["page_size"]);
        }
        foreign = token;
    }
}

#[tokio::test]
async fn a_token_is_for_the_same_filters_alone() {
    let server = TestServer::start().await.unwrap();
    let world = populate(&server).await;
    let raw = Raw::connect(server.addr).await;
    let method = "anklang.offers.v1.OfferService/ListOffers";
    let call = |request: Value| {
        let raw = raw.clone();
        async move { raw.call(Some("linden"), method, &request).await }
    };
    let token = call(json!({"pageSize": 1})).await.unwrap()["nextPageToken"].clone();
    for filter in [
        json!({"pageToken": token, "customer": world.customer}),
        json!({"pageToken": token, "campaign": world.campaign}),
        json!({"pageToken": token, "states": ["OFFER_STATE_OPEN"]}),
        json!({"pageToken": token, "filter": "state = OPEN"}),
        json!({"pageToken": token, "orderBy": "number desc"}),
    ] {
        let status = call(filter).await.unwrap_err();
        refused::is(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
        refused::names(&status, &["page_token"]);
    }
    // The size may change from page to page.
    call(json!({"pageToken": token, "pageSize": 3}))
        .await
        .unwrap();
}
