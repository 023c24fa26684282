//! The contact budget: at most so many contacts of a customer, whatever campaign, account or server.

use std::collections::BTreeMap;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{
    self as messages, ContactBudget, Message, MessageState,
};
use anklang_proto::anklang::reach::v1 as reach;
use anklang_testkit::{Client, Options, TestServer};
use campaigns::ExclusionReason;

use crate::mailing::{
    SLIP, address, figures, import, launch, launched, request, tenant, until_figures, until_over,
};
use crate::refused;

async fn set(client: &Client, budget: ContactBudget) -> Result<ContactBudget, tonic::Status> {
    let request = messages::UpdateContactBudgetRequest {
        contact_budget: Some(budget),
        ..Default::default()
    };
    let set = client.messages().update_contact_budget(request).await?;
    Ok(set.into_inner())
}

async fn at_most(client: &Client, max_contacts: i32) {
    let budget = ContactBudget {
        max_contacts,
        window_days: 7,
        exempt_purposes: vec!["service".into()],
        ..Default::default()
    };
    set(client, budget).await.unwrap();
}

async fn excluded(client: &Client, campaign: &str) -> BTreeMap<ExclusionReason, i64> {
    let audience = figures(client, campaign).await.unwrap().audience.unwrap();
    let excluded = audience.excluded.iter();
    excluded.map(|e| (e.reason(), e.count)).collect()
}

/// A second contract for a customer.
async fn second_contract(client: &Client, customer: usize) {
    let csv = format!(
        "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
         product_number,product_version_code\n\
         W{customer:04},{customer:04},sw,electricity,AU,3000,P,OLD\n"
    );
    import(client, ImportEntity::Contracts, csv).await;
}

async fn messages_of(client: &Client, customer: usize) -> Vec<Message> {
    let request = messages::ListMessagesRequest {
        customer: format!("customers/{customer:04}"),
        ..Default::default()
    };
    let listed = client.messages().list_messages(request).await.unwrap();
    listed.into_inner().messages
}

#[tokio::test]
async fn who_had_enough_is_left_out_with_the_reason() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 3).await;
    let first = launch(&client, SLIP).await;
    until_over(&client, &first).await;
    assert_eq!(excluded(&client, &first).await, BTreeMap::new());

    at_most(&client, 2).await;
    // Customer 2 would get two with this one.
    second_contract(&client, 2).await;
    let second = launch(&client, SLIP).await;
    until_over(&client, &second).await;
    let capped = |n| BTreeMap::from([(ExclusionReason::FrequencyCap, n)]);
    assert_eq!(excluded(&client, &second).await, capped(1));
    assert_eq!(messages_of(&client, 2).await.len(), 2);

    let third = launch(&client, SLIP).await;
    until_over(&client, &third).await;
    assert_eq!(excluded(&client, &third).await, capped(4));
    assert_eq!(server.sink.count(), 6);

    // Without a budget, or when their time is over, they are contacted again.
    let database = server.database.connect().await.unwrap();
    let sql = "UPDATE message SET sent_at = sent_at - interval '7 days' WHERE sent_at IS NOT NULL";
    database.batch_execute(sql).await.unwrap();
    at_most(&client, 1).await;
    let fourth = launch(&client, SLIP).await;
    until_over(&client, &fourth).await;
    assert_eq!(excluded(&client, &fourth).await, capped(1));
    set(&client, ContactBudget::default()).await.unwrap();
    let fifth = launch(&client, SLIP).await;
    until_over(&client, &fifth).await;
    assert_eq!(excluded(&client, &fifth).await, BTreeMap::new());
    assert_eq!(server.sink.count(), 6 + 3 + 4);
}

#[tokio::test]
async fn what_was_queued_before_the_budget_is_held_back_when_sent() {
    // Small batches over two accounts and two servers: claims of one customer's messages meet.
    let start = |no_dispatch| Options {
        account: "batch = 2".into(),
        no_dispatch,
        ..Default::default()
    };
    let mut server = TestServer::start_with(start(true)).await.unwrap();
    let second_account = format!(
        "\n[channel_accounts.second]\nplugin = 'mail'\nbatch = 2\n\
         [channel_accounts.second.config]\nhost = '127.0.0.1'\nport = {}\ntls = 'none'\n",
        server.sink.addr().port()
    );
    let config = std::fs::read_to_string(server.config_file()).unwrap() + &second_account;
    std::fs::write(server.config_file(), &config).unwrap();
    server.restart().await.unwrap();
    let client = tenant(&server, 6).await;
    second_contract(&client, 0).await;
    let mut campaigns = Vec::new();
    for account in ["mail", "second", "mail"] {
        let mut request = request(SLIP);
        request.outbound.as_mut().unwrap().channel_account = format!("channelAccounts/{account}");
        let operation = client.campaigns().launch_campaign(request).await.unwrap();
        let over = client.finished(operation.get_ref()).await.unwrap();
        campaigns.push(launched(&over).campaign.unwrap().name);
    }
    at_most(&client, 2).await;
    let config = config.replace("enabled = false", "enabled = true");
    std::fs::write(server.config_file(), config).unwrap();
    server.restart().await.unwrap();
    let further = server.further().await.unwrap();
    let client = server.client(crate::mailing::TENANT).await.unwrap();
    for campaign in &campaigns {
        until_over(&client, campaign).await;
    }
    drop(further);
    for customer in 0..6 {
        let messages = messages_of(&client, customer).await;
        let all = if customer == 0 { 6 } else { 3 };
        assert_eq!(messages.len(), all);
        let sent = messages.iter().filter(|m| m.state() == MessageState::Sent);
        assert_eq!(sent.count(), 2, "{messages:?}");
        let held = messages.iter().filter(|m| {
            m.state() == MessageState::Suppressed && m.detail == "the contact budget is used up"
        });
        assert_eq!(held.count(), all - 2, "{messages:?}");
    }
    assert_eq!(server.sink.count(), 12);
}

#[tokio::test]
async fn exempt_purposes_neither_count_nor_are_held_back() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 2).await;
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0000,mail,service,granted,2025-05-01T10:00:00Z\n\
                    0001,mail,service,granted,2025-05-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    at_most(&client, 1).await;
    let with_purpose = async |purpose: &str| {
        let mut request = request(SLIP);
        request.outbound.as_mut().unwrap().purpose = purpose.into();
        let operation = client.campaigns().launch_campaign(request).await.unwrap();
        let over = client.finished(operation.get_ref()).await.unwrap();
        let campaign = launched(&over).campaign.unwrap().name;
        until_over(&client, &campaign).await;
        figures(&client, &campaign)
            .await
            .unwrap()
            .messages
            .unwrap()
            .sent
    };
    assert_eq!(with_purpose("service").await, 2);
    assert_eq!(with_purpose("marketing").await, 2);
    assert_eq!(with_purpose("service").await, 2);
    assert_eq!(with_purpose("marketing").await, 0);
}

#[tokio::test]
async fn refused_mails_are_no_contacts() {
    use anklang_local::smtp::{Fault, Faults, Matching, Reply};
    let server = TestServer::start().await.unwrap();
    let refuse = Fault::RejectRecipient(Reply::new(550, "5.1.1 User unknown"));
    let faults = Faults::none().with_times(Matching::Recipient(address(0)), refuse, 1);
    server.sink.set_faults(faults);
    let client = tenant(&server, 2).await;
    at_most(&client, 1).await;
    let first = launch(&client, SLIP).await;
    until_figures(&client, &first, |m| (m.sent, m.failed) == (1, 1)).await;
    let second = launch(&client, SLIP).await;
    until_over(&client, &second).await;
    let addresses = reached(&client, &second).await;
    assert_eq!(addresses, [address(0)]);

    let request = reach::ExplainCustomerRequest {
        customer: "customers/0000".into(),
        ..Default::default()
    };
    let explained = client.reach().explain_customer(request).await.unwrap();
    let budget = explained.into_inner().budget.unwrap();
    assert_eq!(
        (budget.max_contacts, budget.window_days, budget.used),
        (1, 7, 1)
    );
}

/// The addresses that a campaign reached.
async fn reached(client: &Client, campaign: &str) -> Vec<String> {
    let ledger = crate::mailing::ledger(client, campaign).await;
    let sent = ledger
        .iter()
        .filter(|(_, m)| m.state() == MessageState::Sent);
    sent.map(|(address, _)| address.clone()).collect()
}

#[tokio::test]
async fn a_budget_that_is_none_is_refused() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 0).await;
    let get = async || {
        let request = messages::GetContactBudgetRequest {};
        let budget = client.messages().get_contact_budget(request).await;
        budget.unwrap().into_inner()
    };
    assert_eq!(
        (get().await.max_contacts, &get().await.name[..]),
        (0, "contactBudget")
    );
    let wrong = ContactBudget {
        name: "budget".into(),
        max_contacts: 1_001,
        window_days: 0,
        exempt_purposes: vec!["Service".into(), "ok".into()],
        ..Default::default()
    };
    let status = set(&client, wrong).await.unwrap_err();
    refused::is(&status, tonic::Code::InvalidArgument, "INVALID_ARGUMENT");
    let fields = anklang_testkit::violations(&status);
    for field in ["name", "max_contacts", "window_days", "exempt_purposes[0]"] {
        let field = format!("contact_budget.{field}");
        assert!(
            fields.iter().any(|(f, _)| *f == field),
            "{field} in {fields:?}"
        );
    }
    assert_eq!(fields.len(), 4);
    at_most(&client, 3).await;
    assert_eq!((get().await.max_contacts, get().await.window_days), (3, 7));
    assert_eq!(get().await.exempt_purposes, ["service"]);
}
