//! A tenant that has two or more of everything, and calls that name what it has.

mod calls;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_testkit::{Client, TestServer};
use serde_json::json;

use crate::documents::bundled;
use crate::mailing::save_message;
use crate::utility::{Case, FEW, Utility, criteria, launch, offers_of, until_sent, with_utility};

pub use calls::{named, new_channels};

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
    pub detection: String,
    pub cases: crate::winback::desk::Cases,
    /// A winback case that got no standard template, and a mailing.
    pub winback: [String; 2],
    /// A request for the customer's data.
    pub export: String,
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
    save_approvals(server).await;
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
        detection: crate::winback::populate(&client).await,
        cases: crate::winback::desk::populate(server).await,
        contact,
        winback: crate::winback::mails::populate(server, &client, "linden", "linden").await,
        export: crate::privacy::populate(&client, "customers/K0001").await,
        client,
        utility,
    }
}

/// A policy that asks for no approvals, and phases that were approved all the same.
async fn save_approvals(server: &TestServer) {
    let approvals = r#"
        INSERT INTO approval_policy (tenant_id, updated_by)
        SELECT id, 'tokens/anna' FROM tenant WHERE slug = 'linden';
        INSERT INTO launch_approval (tenant_id, phase_id, members_over, brands)
        SELECT tenant_id, id, 0, '{}' FROM phase;
        INSERT INTO launch_decision (tenant_id, phase_id, kind, decided_by, hash, content)
        SELECT tenant_id, phase_id, 'approved', 'tokens/ben', sha256(''), '{
            "candidates": 9, "members": 4, "excluded": {}, "documents": 4, "failed_documents": 0,
            "route_accounts": [], "templates": [], "follow_up_templates": [],
            "shipped_template": null, "product_name": "Strom", "version_name": "Neu",
            "annual_amount": "1", "prices": {"base_price_per_year": "1",
            "unit_price_per_kwh": "1", "currency": "EUR", "valid_from": "2026-01-01",
            "valid_to": null}}' FROM launch_approval"#;
    let database = server.database.connect().await.unwrap();
    database.batch_execute(approvals).await.unwrap();
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
    for name in ["0900-K0001", "1000-K0001", "1100-K0001"] {
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
    // Contacts that are gone leave rows, too.
    let gone = planning::DeletePlanEntryRequest {
        name: "contactPlans/NORD/entries/1100-K0001".into(),
        ..Default::default()
    };
    client.plans().delete_plan_entry(gone).await.unwrap();
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
    let name = format!("brands/linden/templates/{key}.de");
    let text = "Hallo {{ customer.last_name }}";
    save_message(client, &name, "Hallo", text).await.unwrap();
}
