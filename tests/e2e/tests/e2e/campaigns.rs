//! Launches: what is refused, what a repeated call does, further phases, and how they are stopped.

use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Reply, Sink, SinkOptions};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, Options, TestServer};
use pb::launch_campaign_request::{Audience, CampaignTarget};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::hold::Hold;
use crate::refused;
use crate::utility::{
    Case, FEW, OVER, Utility, compare, criteria, figures, infoboard, launch, launched, offers_of,
    until, until_sent, with_utility,
};

type Request = pb::LaunchCampaignRequest;

pub async fn ask(client: &Client, request: Request) -> Result<lro::Operation, Status> {
    client
        .campaigns()
        .launch_campaign(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn campaigns(client: &Client) -> Vec<pb::Campaign> {
    let listed = client
        .campaigns()
        .list_campaigns(pb::ListCampaignsRequest::default())
        .await;
    listed.unwrap().into_inner().campaigns
}

/// Launches; documents are bundled by operations of their own.
async fn operations(client: &Client) -> Vec<lro::Operation> {
    let request = lro::ListOperationsRequest {
        filter: "kind = LaunchCampaign".into(),
        ..Default::default()
    };
    let listed = client.operations().list_operations(request).await;
    listed.unwrap().into_inner().operations
}

pub async fn get_operation(client: &Client, name: &str) -> Result<lro::Operation, Status> {
    let request = lro::GetOperationRequest { name: name.into() };
    client
        .operations()
        .get_operation(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn delete_operation(client: &Client, name: &str) -> Result<(), Status> {
    let request = lro::DeleteOperationRequest { name: name.into() };
    client
        .operations()
        .delete_operation(request)
        .await
        .map(tonic::Response::into_inner)
}

pub async fn cancel(client: &Client, name: &str) -> Result<(), Status> {
    let request = lro::CancelOperationRequest { name: name.into() };
    client
        .operations()
        .cancel_operation(request)
        .await
        .map(tonic::Response::into_inner)
}

pub async fn phases(client: &Client, campaign: &str) -> Vec<pb::Phase> {
    let request = pb::ListPhasesRequest {
        parent: campaign.into(),
        ..Default::default()
    };
    client
        .campaigns()
        .list_phases(request)
        .await
        .unwrap()
        .into_inner()
        .phases
}

fn outbound(request: &mut Request) -> &mut pb::OutboundSpec {
    request.outbound.as_mut().unwrap()
}

#[tokio::test]
async fn every_fault_of_a_launch_is_named() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    refused::names(
        &ask(&client, Request::default()).await.unwrap_err(),
        &[
            "campaign_target",
            "audience",
            "target_product_version",
            "offer_valid_until_date",
            "outbound.channel_account",
        ],
    );
    // Well-formed, but nothing of it exists or fits.
    let request = Request {
        campaign_target: Some(CampaignTarget::NewCampaign(pb::Campaign {
            display_name: " ".into(),
            planned_start_date: Some(Date {
                year: 2027,
                month: 2,
                day: 30,
            }),
            ..Default::default()
        })),
        phase_display_name: "p".repeat(201),
        audience: Some(Audience::Selection(format!(
            "selections/{}",
            Uuid::now_v7()
        ))),
        deselected_contracts: vec!["contracts/none".into(), "contracts/nowhere".into()],
        target_product_version: "products/S-OEKO/versions/NONE".into(),
        offer_valid_until_date: utility.day(-1),
        outbound: Some(pb::OutboundSpec {
            channel_account: "channelAccounts/none".into(),
            message_template: "Mail!".into(),
            document_template: "_x".into(),
            purpose: "9".into(),
            ..Default::default()
        }),
        request_id: "once".into(),
        ..Default::default()
    };
    refused::names(
        &ask(&client, request).await.unwrap_err(),
        &[
            "new_campaign.display_name",
            "new_campaign.planned_start_date",
            "phase_display_name",
            "selection",
            "deselected_contracts",
            "deselected_contracts",
            "target_product_version",
            "offer_valid_until_date",
            "outbound.channel_account",
            "outbound.message_template",
            "outbound.document_template",
            "outbound.purpose",
            "request_id",
        ],
    );
    assert_eq!(campaigns(&client).await, []);
    assert_eq!(operations(&client).await, []);
}

#[tokio::test]
async fn each_fault_of_a_launch_is_found() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let ad_hoc = |subject: selections::Subject, criteria| {
        Some(Audience::Criteria(selections::AdHocCriteria {
            subject: subject.into(),
            criteria,
        }))
    };
    let of_customers = save_selection_of_customers(&client).await;
    let unknown_field = compare("shoe_size", selections::Operator::IsSet, []);
    type Change<'a> = (&'a str, Box<dyn FnOnce(&mut Request) + 'a>);
    let changes: Vec<Change<'_>> = vec![
        (
            "outbound.document_template",
            Box::new(|r| {
                outbound(r).document_template = "offer_letter".into();
                outbound(r).without_document = true;
            }),
        ),
        (
            "selection",
            Box::new(|r| r.audience = Some(Audience::Selection(of_customers))),
        ),
        (
            "selection",
            Box::new(|r| r.audience = Some(Audience::Selection("selections/1".into()))),
        ),
        (
            "criteria.subject",
            Box::new(|r| {
                r.audience = ad_hoc(
                    selections::Subject::Customer,
                    Some(compare("city", selections::Operator::IsSet, [])),
                );
            }),
        ),
        (
            "criteria.criteria",
            Box::new(|r| r.audience = ad_hoc(selections::Subject::Contract, None)),
        ),
        (
            "criteria.criteria.compare.field",
            Box::new(|r| {
                r.audience = ad_hoc(selections::Subject::Contract, Some(unknown_field));
            }),
        ),
        (
            "campaign",
            Box::new(|r| {
                let unknown = format!("campaigns/{}", Uuid::now_v7());
                r.campaign_target = Some(CampaignTarget::Campaign(unknown));
            }),
        ),
        (
            "campaign",
            Box::new(|r| {
                r.campaign_target = Some(CampaignTarget::Campaign("campaigns/Sommer".into()));
            }),
        ),
        (
            "target_product_version",
            Box::new(|r| r.target_product_version = OVER.into()),
        ),
        (
            "target_product_version",
            Box::new(|r| r.target_product_version = "S-OEKO".into()),
        ),
        (
            "offer_valid_until_date",
            Box::new(|r| r.offer_valid_until_date = utility.day(750)),
        ),
        (
            "offer_valid_until_date",
            Box::new(|r| {
                r.offer_valid_until_date = Some(Date {
                    year: 2027,
                    month: 0,
                    day: 0,
                });
            }),
        ),
        (
            "deselected_contracts[1]",
            Box::new(|r| {
                r.deselected_contracts = vec![utility.first(Case::Plain).name(), "V0001".into()];
            }),
        ),
        (
            "deselected_contracts",
            Box::new(|r| {
                r.deselected_contracts = vec![utility.first(Case::Plain).name(); 10_001];
            }),
        ),
        (
            "outbound.channel_account",
            Box::new(|r| outbound(r).channel_account = "mail".into()),
        ),
    ];
    for (field, change) in changes {
        let mut request = utility.launch();
        change(&mut request);
        refused::names(&ask(&client, request).await.unwrap_err(), &[field]);
    }
    assert_eq!(campaigns(&client).await, []);
    assert_eq!(operations(&client).await, []);
}

async fn save_selection_of_customers(client: &Client) -> String {
    let request = selections::CreateSelectionRequest {
        selection: Some(selections::Selection {
            display_name: "Kunden in Gießen".into(),
            subject: selections::Subject::Customer.into(),
            criteria: Some(compare("city", selections::Operator::IsSet, [])),
            ..Default::default()
        }),
        ..Default::default()
    };
    let saved = client.selections().create_selection(request).await.unwrap();
    saved.into_inner().name
}

#[tokio::test]
async fn a_brand_without_the_template_cannot_send() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    outbound(&mut request).message_template = "spring_mail".into();
    let status = ask(&client, request).await.unwrap_err();
    let (subject, description) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "brands/linden/templates/spring_mail");
    assert!(description.contains("linden, nordlicht"), "{description}");
    let mut request = utility.launch();
    outbound(&mut request).document_template = "spring_letter".into();
    let status = ask(&client, request).await.unwrap_err();
    let (subject, _) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "brands/linden/templates/spring_letter");
    assert_eq!(campaigns(&client).await, []);
}

/// An account of others is not there: not in the list, not by its name, not for a launch.
#[tokio::test]
async fn an_account_serves_only_its_tenants() {
    use anklang_proto::anklang::channels::v1 as channels;
    let config = "[channel_accounts.other]\nplugin = \"mail\"\ntenants = [\"somebody\"]\n\
                  [channel_accounts.other.config]\nhost = \"127.0.0.1\"\nport = 9\ntls = \"none\"";
    let server = TestServer::start_with(Options {
        config: config.into(),
        ..Options::default()
    })
    .await
    .unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let somebody = server.client("somebody").await.unwrap();
    let mut seen = Vec::new();
    for client in [&client, &somebody] {
        let list = channels::ListChannelAccountsRequest::default();
        let listed = client.channels().list_channel_accounts(list).await.unwrap();
        let accounts = listed.into_inner().channel_accounts;
        seen.push(accounts.into_iter().map(|a| a.name).collect::<Vec<_>>());
    }
    assert_eq!(seen[0], ["channelAccounts/mail"]);
    assert_eq!(seen[1], ["channelAccounts/mail", "channelAccounts/other"]);
    let get = channels::GetChannelAccountRequest {
        name: "channelAccounts/other".into(),
    };
    let status = client
        .channels()
        .get_channel_account(get)
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let mut request = utility.launch();
    outbound(&mut request).channel_account = "channelAccounts/other".into();
    let status = ask(&client, request).await.unwrap_err();
    let found = anklang_testkit::violations(&status);
    assert_eq!(
        found,
        [("outbound.channel_account".into(), "does not exist".into())]
    );
}

#[tokio::test]
async fn a_repeated_launch_launches_once() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.request_id = Uuid::now_v7().to_string();
    let calls = (0..6).map(|_| {
        let (client, request) = (client.clone(), request.clone());
        tokio::spawn(async move { ask(&client, request).await })
    });
    let mut names = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        names.push(call.await.unwrap().unwrap().name);
    }
    names.dedup();
    let [name] = &names[..] else {
        panic!("one operation: {names:?}");
    };
    let launched = launched(
        &client
            .finished(&get_operation(&client, name).await.unwrap())
            .await
            .unwrap(),
    );
    assert_eq!(
        ask(&client, request.clone()).await.unwrap().name,
        *name,
        "also afterwards"
    );

    let mut other = request.clone();
    other.phase_display_name = "Andere".into();
    let status = ask(&client, other).await.unwrap_err();
    refused::is(&status, Code::InvalidArgument, "REQUEST_ID_REUSED");
    let mut offer = utility.switch(utility.first(Case::Plain));
    offer.request_id = request.request_id;
    let status = client.offers().create_offer(offer).await.unwrap_err();
    refused::is(&status, Code::InvalidArgument, "REQUEST_ID_REUSED");

    assert_eq!(campaigns(&client).await, [launched.campaign.unwrap()]);
    assert_eq!(operations(&client).await.len(), 1);
    let members = utility.members().len();
    assert_eq!(
        server
            .database
            .one("SELECT count(*) FROM offer")
            .await
            .unwrap(),
        members.to_string()
    );
}

#[tokio::test]
async fn a_campaign_gets_further_phases() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let campaign = first.campaign.unwrap().name;
    let accepted = offers_of(&client, &campaign).await;
    let accepted = &accepted[&utility.first(Case::Plain).name()];
    let answer = offers::AcceptOfferRequest {
        name: accepted.name.clone(),
        source: "web".into(),
        ..Default::default()
    };
    client.offers().accept_offer(answer).await.unwrap();

    let mut request = utility.launch();
    request.campaign_target = Some(CampaignTarget::Campaign(campaign.clone()));
    request.phase_display_name = "Erinnerung".into();
    request.deselected_contracts = vec![accepted.contract.clone()];
    let second = launch(&client, request).await.phase.unwrap();
    assert_eq!(second.name, format!("{campaign}/phases/2"));
    let listed = phases(&client, &campaign).await;
    assert_eq!(listed, [first.phase.unwrap(), second.clone()]);
    assert_eq!(campaigns(&client).await.len(), 1);

    let members = utility.members().len() as i64;
    let board = infoboard(&client, &campaign).await;
    let made: Vec<i64> = board
        .phases
        .iter()
        .map(|p| p.figures.as_ref().unwrap().offers.unwrap().made)
        .collect();
    assert_eq!(made, [members, members - 1]);
    let offers = board.total.unwrap().offers.unwrap();
    assert_eq!((offers.made, offers.accepted), (2 * members - 1, 1));
    let wanted = usize::try_from(2 * members - 1).unwrap();
    until_sent(&client, &campaign, wanted).await;
    assert_eq!(server.sink.count(), wanted as u64);
}

#[tokio::test]
async fn operations_can_be_looked_at_and_kept() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let begun = ask(&client, utility.launch()).await.unwrap();
    assert!(!begun.done);
    let ended = client.finished(&begun).await.unwrap();
    let response = launched(&ended);
    assert_eq!(get_operation(&client, &begun.name).await.unwrap(), ended);
    assert_eq!(operations(&client).await, std::slice::from_ref(&ended));
    assert_eq!(response.phase.as_ref().unwrap().operation, begun.name);
    let metadata = metadata(&ended);
    assert_eq!(metadata.kind, "LaunchCampaign");
    assert_eq!(metadata.resource, response.phase.unwrap().name);
    assert_eq!((&metadata.phase[..], metadata.failed), ("finished", 0));
    assert_eq!((metadata.done, metadata.restarts), (metadata.total, 0));

    // A phase keeps its operation as its record; what is over is not cancelled.
    let status = delete_operation(&client, &begun.name).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    cancel(&client, &begun.name).await.unwrap();
    assert_eq!(
        get_operation(&client, &begun.name).await.unwrap().result,
        ended.result
    );

    let unknown = format!("operations/{}", Uuid::now_v7());
    refused::not_found(&get_operation(&client, &unknown).await.unwrap_err());
    refused::not_found(&delete_operation(&client, &unknown).await.unwrap_err());
    refused::not_found(&cancel(&client, &unknown).await.unwrap_err());
    let wait = lro::WaitOperationRequest {
        name: unknown,
        timeout: None,
    };
    refused::not_found(&client.operations().wait_operation(wait).await.unwrap_err());
    refused::names(
        &get_operation(&client, "operations/1").await.unwrap_err(),
        &["name"],
    );
}

pub fn metadata(
    operation: &lro::Operation,
) -> anklang_proto::anklang::operations::v1::OperationMetadata {
    use prost::Message;
    let any = operation.metadata.as_ref().unwrap();
    assert!(
        any.type_url
            .ends_with("/anklang.operations.v1.OperationMetadata"),
        "{any:?}"
    );
    Message::decode(&any.value[..]).unwrap()
}

#[tokio::test]
async fn a_cancelled_launch_takes_its_offers_back() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let hold = Hold::inserts(&server, "document", "true").await;
    let operation = ask(&client, utility.launch()).await.unwrap();
    hold.reached().await;

    let running = get_operation(&client, &operation.name).await.unwrap();
    assert!(!running.done);
    assert_eq!(metadata(&running).phase, "documents");
    let status = delete_operation(&client, &operation.name)
        .await
        .unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    cancel(&client, &operation.name).await.unwrap();
    hold.release().await;

    let ended = client.finished(&operation).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = &ended.result else {
        panic!("cancelled: {ended:?}");
    };
    assert_eq!(error.code, i32::from(Code::Cancelled));
    let campaign = campaigns(&client).await.remove(0).name;
    assert_eq!(
        phases(&client, &campaign).await[0].state(),
        pb::PhaseState::Cancelled
    );
    let members = utility.members().len();
    let total = figures(&client, &campaign).await;
    let offers = total.offers.unwrap();
    assert_eq!(
        (offers.made, offers.withdrawn),
        (members as i64, members as i64)
    );
    assert_eq!(total.messages, Some(Default::default()), "none was queued");
    for offer in offers_of(&client, &campaign).await.into_values() {
        assert_eq!(offer.state(), offers::OfferState::Withdrawn);
        let answer = offers::AcceptOfferRequest {
            name: offer.name,
            source: String::new(),
            ..Default::default()
        };
        let status = client.offers().accept_offer(answer).await.unwrap_err();
        refused::precondition(&status, "ILLEGAL_TRANSITION");
    }
    assert_eq!(server.sink.count(), 0);
}

/// Messages are queued in chunks of 5,000 candidates, so that some are out when the launch is
/// cancelled: two are being sent, the others wait, the rest is not there yet.
#[tokio::test]
async fn a_cancelled_launch_cancels_what_is_not_sent_yet() {
    // They are held until the test lets them go.
    let wait = Duration::from_secs(600);
    let slow = Sink::start(SinkOptions {
        faults: Faults::none()
            .with(Matching::Mail(1), Fault::Slow(wait))
            .with(Matching::Mail(2), Fault::HangBeforeData(wait)),
        ..Default::default()
    })
    .await
    .unwrap();
    let server = TestServer::start_with(Options {
        config: format!(
            "[channel_accounts.slow]\nplugin = \"mail\"\nbatch = 1\ncalls = 2\n\
             [channel_accounts.slow.config]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
             timeout_seconds = 600",
            slow.addr().port()
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 6)]).await;
    crowd(&server, &utility).await;
    let hold = Hold::inserts(&server, "message", "NEW.member_seq > 5000").await;

    let mut request = utility.launch();
    outbound(&mut request).channel_account = "channelAccounts/slow".into();
    let operation = ask(&client, request).await.unwrap();
    hold.reached().await;
    let campaign = campaigns(&client).await.remove(0).name;
    until("two messages are under way", async || {
        figures(&client, &campaign).await.messages.unwrap().sending == 2
    })
    .await;
    cancel(&client, &operation.name).await.unwrap();
    hold.release().await;
    assert!(client.finished(&operation).await.unwrap().done);

    // The phase is wound up after the operation.
    until("what is not sent yet is cancelled", async || {
        let messages = figures(&client, &campaign).await.messages.unwrap();
        (messages.sending, messages.queued, messages.cancelled) == (2, 0, 5)
    })
    .await;
    let total = figures(&client, &campaign).await;
    let offers = total.offers.unwrap();
    assert_eq!((offers.made, offers.withdrawn), (8, 8));
    assert_eq!(total.audience.unwrap().members, 8);
    // What was handed over before is told as it was: one was taken, one is to be sent again later.
    let later = Fault::RejectMail(Reply::new(451, "4.3.0 later"));
    slow.set_faults(Faults::none().with(Matching::Mail(2), later));
    let told = async |wanted: [i64; 3]| {
        let told = figures(&client, &campaign).await.messages.unwrap();
        [told.sent, told.queued, told.cancelled] == wanted
    };
    until("the messages under way are told", || told([1, 1, 5])).await;
    // When its time has come, it is not: its offer is withdrawn.
    let soon = "UPDATE message SET next_attempt_at = now() WHERE state = 'queued'";
    server
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(soon)
        .await
        .unwrap();
    until("the last message is cancelled", || told([1, 0, 6])).await;
    assert_eq!(slow.count(), 1);
}

/// Three chunks of candidates: 6 members in the first, 1 in the second, 1 in the third, and
/// contracts without quantity between them.
async fn crowd(server: &TestServer, utility: &Utility) {
    let template = &utility.first(Case::Plain).number;
    let sql = format!(
        "INSERT INTO contract (tenant_id, id, number, customer_id, brand_id, division, supply_status,
             site_postal_code, annual_quantity_kwh, product_version_id)
         SELECT tenant_id, gen_random_uuid(), 'W' || lpad(n::text, 5, '0'), customer_id, brand_id,
             division, supply_status, site_postal_code, CASE WHEN n % 5000 = 0 THEN 1000 END,
             product_version_id
         FROM contract, generate_series(1, 10500) n WHERE number = '{template}'"
    );
    server
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(&sql)
        .await
        .unwrap();
}

#[tokio::test]
async fn criteria_are_frozen_with_the_launch() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let phase = first.phase.unwrap();
    assert_eq!(phase.selection, "");
    assert_eq!(phase.criteria.as_ref().unwrap().criteria, Some(criteria()));
    let request = pb::ListAudienceMembersRequest {
        parent: phase.name.clone(),
        ..Default::default()
    };
    let before = client
        .campaigns()
        .list_audience_members(request.clone())
        .await
        .unwrap();
    // Whoever changes afterwards is in the audience as it was.
    let changed = "UPDATE contract SET supply_status = 'XX'";
    server
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(changed)
        .await
        .unwrap();
    let after = client
        .campaigns()
        .list_audience_members(request)
        .await
        .unwrap();
    assert_eq!(before.get_ref(), after.get_ref());
    assert_eq!(before.get_ref().audience_members.len(), 9);
}
