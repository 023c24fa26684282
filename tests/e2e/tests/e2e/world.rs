//! A tenant that has two or more of everything, and calls that name what it has.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::documents::bundled;
use crate::utility::{
    Case, FEW, TARGET, Utility, criteria, launch, offers_of, until_sent, with_utility,
};

/// Names of what a tenant has: two or more of everything.
pub struct World {
    pub client: Client,
    pub utility: Utility,
    pub campaign: String,
    pub phase: String,
    pub outbound: String,
    pub operation: String,
    pub dry_run: String,
    pub selection: String,
    pub preset: String,
    pub customer: String,
    pub contract: String,
    pub offer: String,
    pub message: String,
    pub inbound: String,
    pub webhook: String,
    pub delivery: String,
    pub work: crate::work_list::Work,
    pub contact: String,
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
        ..Default::default()
    };
    client
        .messages()
        .update_contact_budget(update)
        .await
        .unwrap();
    for code in ["north", "south"] {
        let unit = anklang_proto::anklang::org::v1::OrgUnit {
            code: code.into(),
            display_name: code.into(),
            ..Default::default()
        };
        let update = anklang_proto::anklang::org::v1::UpdateOrgUnitRequest {
            org_unit: Some(unit),
            allow_missing: true,
            ..Default::default()
        };
        client.org_units().update_org_unit(update).await.unwrap();
    }
    save_channels(&client).await;
    let contact = save_plans(&client).await;
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
    let dry_run = anklang_proto::anklang::campaigns::v1::DryRunLaunchRequest {
        launch: Some(utility.launch()),
        ..Default::default()
    };
    let (dry_run, _) = crate::dry_runs::dry_run(&client, dry_run).await;
    launch(&client, utility.launch()).await;
    let launched = launch(&client, utility.launch()).await;
    bundled(&client, &launched).await;
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
        outbound: format!("{}/outbounds/1", phase.name),
        operation: phase.operation,
        dry_run,
        phase: phase.name,
        selection,
        preset: save_preset(&client).await,
        customer: offer.customer,
        contract: offer.contract,
        offer: offer.name,
        message: listed.messages[0].name.clone(),
        inbound: save_inbound(server).await,
        webhook,
        delivery,
        work: crate::work_list::populate(&client).await,
        contact,
        client,
        utility,
    }
}

/// Two messages that came in, of nobody's; a report of a message, and one that waits for its own.
async fn save_inbound(server: &TestServer) -> String {
    let reports = "
        INSERT INTO message_report (tenant_id, message_id, key, state, code, detail, occurred_at,
                                    campaign_id, phase_id)
        SELECT tenant_id, id, 'k', 'opened', '', '', now(), campaign_id, phase_id
        FROM message ORDER BY id LIMIT 1;
        INSERT INTO waiting_report (tenant_id, account, provider_message_id, key, state, code,
                                    detail, next_try_at)
        SELECT id, 'mail', 'x', 'k', 'opened', '', '', now() + interval '1 day'
        FROM tenant WHERE slug = 'linden'";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(reports).await.unwrap();
    let sql = "WITH made AS (
                   INSERT INTO inbound_message (tenant_id, account, channel, key, sender,
                       sender_name, recipient, address_hash, subject, body, provider_message_id,
                       asks_to_stop, received_at)
                   SELECT id, 'mail', 'mail', n::text::bytea, 'wer@post.example', '', '', '', '',
                       'Hallo', '', false, now()
                   FROM tenant CROSS JOIN generate_series(1, 2) n WHERE slug = 'linden'
                   RETURNING id)
               SELECT 'inboundMessages/' || min(id::text) FROM made";
    server.database.one(sql).await.unwrap()
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

/// Two of everything that belongs to contact plans; gives a planned contact.
async fn save_plans(client: &Client) -> String {
    use crate::planning as plans;
    use anklang_proto::anklang::planning::v1 as planning;
    for code in ["NORD", "SUED"] {
        let mut plan = plans::weekly(code, &["tue"], "2027-01-01", "2027-12-31");
        plan.workday_calendar = plans::put_calendar(client, &code.to_lowercase(), "", &[]).await;
        plans::put_plan(client, plan).await.unwrap();
    }
    for name in ["0900-K0001", "1000-K0001"] {
        let name = format!("NORD/entries/{name}");
        plans::put_entry(client, &name).await.unwrap();
    }
    for day in ["2027-03-02", "2027-03-09"] {
        let skip = planning::PlanException {
            skip: true,
            ..Default::default()
        };
        let name = format!("NORD/exceptions/{day}");
        plans::put_exception(client, &name, skip).await.unwrap();
    }
    for day_type in ["contact", "delivery"] {
        let csv = format!(
            "customer_number,id,day_type,first_date,last_date\n\
             K0001,{day_type},{day_type},2027-04-01,2027-04-02\n"
        );
        let sums = client.import(ImportEntity::InactivePeriods, csv).await;
        assert_eq!(sums.unwrap().errors, []);
    }
    plans::generate(client, plans::range("2027-03-15", "2027-03-31")).await;
    plans::contacts(client, "").await[0].name.clone()
}

/// Two accounts and two routes; an account that no route names.
async fn save_channels(client: &Client) {
    use anklang_proto::anklang::channels::v1 as channels;
    for id in ["probe", "spare"] {
        crate::accounts::create(client, id, "testing", json!({"account": id})).await;
    }
    for id in ["first", "second"] {
        let entry = channels::ChannelRouteEntry {
            channel_account: "channelAccounts/probe".into(),
            ..Default::default()
        };
        let request = channels::CreateChannelRouteRequest {
            channel_route_id: id.into(),
            channel_route: Some(channels::ChannelRoute {
                channel: "testing".into(),
                entries: vec![entry],
                ..Default::default()
            }),
            ..Default::default()
        };
        client
            .channels()
            .create_channel_route(request)
            .await
            .unwrap();
    }
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
        let request = handover::SendTestEventRequest {
            name: name.clone(),
            ..Default::default()
        };
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
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    client.templates().update_template(request).await.unwrap();
}

/// Calls that make an account and a route.
pub fn new_channels() -> [(&'static str, Value); 2] {
    [
        (
            "anklang.channels.v1.ChannelService/CreateChannelAccount",
            json!({"channelAccountId": "neu", "channelAccount": {
                "plugin": "testing", "config": {"account": "neu", "token": "geheim"},
            }}),
        ),
        (
            "anklang.channels.v1.ChannelService/CreateChannelRoute",
            json!({"channelRouteId": "neu", "channelRoute": {
                "channel": "testing", "entries": [{"channelAccount": "channelAccounts/probe"}],
            }}),
        ),
    ]
}

/// Calls that name something of a tenant, in an order in which the tenant itself can make them all.
pub fn named(w: &World) -> Vec<(&'static str, Value)> {
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
    let mut calls = crate::work_list::named(&w.work);
    calls.extend(vec![
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
            "anklang.selections.v1.SelectionService/ShareSelection",
            json!({"name": w.selection}),
        ),
        (
            "anklang.org.v1.OrgUnitService/GetOrgUnit",
            json!({"name": "orgUnits/south"}),
        ),
        (
            "anklang.org.v1.OrgUnitService/UpdateOrgUnit",
            json!({"orgUnit": {"code": "south", "displayName": "Süd"}}),
        ),
        (
            "anklang.org.v1.OrgUnitService/DeleteOrgUnit",
            json!({"name": "orgUnits/south"}),
        ),
        (
            "anklang.selections.v1.SelectionService/ListSelectionVersions",
            json!({"parent": w.selection}),
        ),
        (
            "anklang.planning.v1.PlannedContactService/GetPlannedContact",
            json!({"name": w.contact}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetContactPlan",
            json!({"name": "contactPlans/NORD"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdateContactPlan",
            json!({"contactPlan": {
                "code": "SUED", "displayName": "Neu", "validFromDate": {"year": 2027, "month": 1, "day": 1},
                "recurrence": {"weekly": {"weekdays": ["mon"]}},
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeleteContactPlan",
            json!({"name": "contactPlans/SUED"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetPlanEntry",
            json!({"name": "contactPlans/NORD/entries/0900-K0001"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListPlanEntries",
            json!({"parent": "contactPlans/NORD"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdatePlanEntry",
            json!({"planEntry": {"name": "contactPlans/NORD/entries/1000-K0001", "priority": 3}}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeletePlanEntry",
            json!({"name": "contactPlans/NORD/entries/1000-K0001"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetPlanException",
            json!({"name": "contactPlans/NORD/exceptions/2027-03-02"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListPlanExceptions",
            json!({"parent": "contactPlans/NORD"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdatePlanException",
            json!({"planException": {
                "name": "contactPlans/NORD/exceptions/2027-03-09", "duplicatesPermitted": true,
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeletePlanException",
            json!({"name": "contactPlans/NORD/exceptions/2027-03-09"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetInactivePeriod",
            json!({"name": "customers/K0001/inactivePeriods/contact"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/ListInactivePeriods",
            json!({"parent": "customers/K0001"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdateInactivePeriod",
            json!({"inactivePeriod": {
                "name": "customers/K0001/inactivePeriods/delivery", "dayType": "DAY_TYPE_DELIVERY",
                "firstDate": {"year": 2027, "month": 1, "day": 1},
                "lastDate": {"year": 2027, "month": 1, "day": 2},
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeleteInactivePeriod",
            json!({"name": "customers/K0001/inactivePeriods/delivery"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/GetWorkdayCalendar",
            json!({"name": "workdayCalendars/nord"}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/UpdateWorkdayCalendar",
            json!({"workdayCalendar": {
                "name": "workdayCalendars/sued", "displayName": "Neu", "workdays": ["mon"],
            }}),
        ),
        (
            "anklang.planning.v1.ContactPlanService/DeleteWorkdayCalendar",
            json!({"name": "workdayCalendars/sued"}),
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
            "anklang.templates.v1.TemplateService/PreviewTemplate",
            json!({"name": template, "message": content, "contract": w.contract}),
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
            "anklang.campaigns.v1.DryRunService/ListDryRunCandidates",
            json!({"parent": w.dry_run}),
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
            "anklang.documents.v1.DocumentService/ListDocuments",
            json!({"parent": w.outbound}),
        ),
        (
            "anklang.documents.v1.DocumentService/GetBundle",
            json!({"name": format!("{}/bundle", w.outbound)}),
        ),
        (
            "anklang.documents.v1.DocumentService/MakeBundle",
            json!({"parent": w.outbound}),
        ),
        (
            "anklang.documents.v1.DocumentService/DownloadFile",
            json!({"name": format!("{}/index", w.outbound)}),
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
            "anklang.inbound.v1.InboundService/GetInboundMessage",
            json!({"name": w.inbound}),
        ),
        (
            "anklang.messages.v1.MessageService/LookupMessages",
            json!({"names": [w.message]}),
        ),
        (
            "anklang.messages.v1.MessageService/BatchResolveMessages",
            json!({"names": [w.message], "resolution": "MESSAGE_RESOLUTION_CANCEL"}),
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
            "anklang.channels.v1.ChannelService/GetChannelAccount",
            json!({"name": "channelAccounts/probe"}),
        ),
        (
            "anklang.channels.v1.ChannelService/UpdateChannelAccount",
            json!({"channelAccount": {
                "name": "channelAccounts/probe", "plugin": "testing", "displayName": "Neu",
                "config": {"account": "neu"},
            }}),
        ),
        (
            "anklang.channels.v1.ChannelService/TestChannelAccount",
            json!({"name": "channelAccounts/probe", "recipient": "wer"}),
        ),
        (
            "anklang.channels.v1.ChannelService/GetChannelRoute",
            json!({"name": "channelRoutes/first"}),
        ),
        (
            "anklang.channels.v1.ChannelService/UpdateChannelRoute",
            json!({"channelRoute": {
                "name": "channelRoutes/first", "channel": "testing", "displayName": "Neu",
                "entries": [{"channelAccount": "channelAccounts/probe", "share": 3}],
            }}),
        ),
        (
            "anklang.channels.v1.ChannelService/DeleteChannelRoute",
            json!({"name": "channelRoutes/second"}),
        ),
        (
            "anklang.channels.v1.ChannelService/DeleteChannelAccount",
            json!({"name": "channelAccounts/spare"}),
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
    ]);
    calls
}
