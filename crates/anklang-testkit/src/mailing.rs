//! A tenant with customers of whom each gets one mail, and the books that must balance afterwards:
//! infoboard, ledger and what arrived.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use anklang_local::smtp::Received;
use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{
    self as messages, AttemptOutcome, Message, MessageState,
};
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::templates::v1::{self as templates, template::Content};
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use chrono::{Datelike, Days, Utc};
use prost::Message as _;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tonic::Status;

use crate::{Client, TestServer};

/// The tenant of these tests.
pub const TENANT: &str = "stadtwerke";

/// A document template that renders fast; numbers make each document different.
pub const SLIP: &str = "slip";

/// The mail address of a customer.
pub fn address(customer: usize) -> String {
    format!("kunde{customer:04}@post.example")
}

/// Random numbers from `ANKLANG_TEST_SEED`, else from the clock. The seed is printed, which shows
/// when the test fails.
pub fn seeded() -> ChaCha8Rng {
    let given = std::env::var("ANKLANG_TEST_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| Utc::now().timestamp_micros().unsigned_abs());
    eprintln!("ANKLANG_TEST_SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// A client of a tenant with so many customers, each with a contract, an address and consent.
pub async fn tenant(server: &TestServer, customers: usize) -> Client {
    let client = server.client(TENANT).await.unwrap();
    let rows = |header: &str, row: &dyn Fn(&mut String, usize)| {
        let mut csv = format!("{header}\n");
        (0..customers).for_each(|i| row(&mut csv, i));
        csv
    };
    let files = [
        (
            ImportEntity::Brands,
            "code,name,sender_email\nsw,Stadtwerke,info@sw.example\n".to_owned(),
        ),
        (
            ImportEntity::Products,
            "number,name,division,brand_code\nP,Strom,electricity,sw\n".to_owned(),
        ),
        (
            ImportEntity::ProductVersions,
            "product_number,code,name,valid_from,base_price_per_year,unit_price_per_kwh,currency\n\
             P,OLD,Alt,2020-01-01,120,0.34,EUR\nP,NEW,Neu,2020-01-01,110,0.31,EUR\n"
                .to_owned(),
        ),
        (
            ImportEntity::Customers,
            rows("number,kind,last_name", &|csv, i| {
                writeln!(csv, "{i:04},person,Muster").unwrap();
            }),
        ),
        (
            ImportEntity::ContactPoints,
            rows("customer_number,channel,address", &|csv, i| {
                writeln!(csv, "{i:04},mail,{}", address(i)).unwrap();
            }),
        ),
        (
            ImportEntity::Consents,
            rows(
                "customer_number,channel,purpose,state,recorded_at",
                &|csv, i| {
                    writeln!(csv, "{i:04},mail,marketing,granted,2025-05-01T10:00:00Z").unwrap();
                },
            ),
        ),
        (
            ImportEntity::Contracts,
            rows(
                "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
                 product_number,product_version_code",
                &|csv, i| writeln!(csv, "V{i:04},{i:04},sw,electricity,AU,3000,P,OLD").unwrap(),
            ),
        ),
    ];
    for (entity, csv) in files {
        import(&client, entity, csv).await;
    }
    let name = format!("brands/sw/templates/{SLIP}.de");
    let slip = Content::Document(templates::DocumentContent {
        typst_source: "Angebot #sys.inputs.offer.number".into(),
    });
    save_template(&client, &name, slip).await.unwrap();
    client
}

/// Imports a file that is right.
pub async fn import(client: &Client, entity: ImportEntity, csv: impl Into<Vec<u8>>) {
    let sums = client.import(entity, csv).await.unwrap();
    assert_eq!((sums.failed, sums.done), (0, true), "{sums:?}");
}

/// Saves a template: `brands/{brand}/templates/{key}.{language}`.
pub async fn save_template(
    client: &Client,
    name: &str,
    content: Content,
) -> Result<templates::Template, Status> {
    let request = templates::UpdateTemplateRequest {
        template: Some(templates::Template {
            name: name.into(),
            content: Some(content),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.templates().update_template(request).await?;
    Ok(saved.into_inner())
}

/// Saves a message template of a subject and a text.
pub async fn save_message(
    client: &Client,
    name: &str,
    subject: &str,
    text: &str,
) -> Result<templates::Template, Status> {
    let message = templates::MessageContent {
        subject: subject.into(),
        text_body: text.into(),
        ..Default::default()
    };
    save_template(client, name, Content::Message(message)).await
}

/// A launch to all customers.
pub fn request(document_template: &str) -> campaigns::LaunchCampaignRequest {
    use campaigns::launch_campaign_request::{Audience, CampaignTarget};
    let everybody = selections::Compare {
        field: "supply_status".into(),
        operator: selections::Operator::Equal.into(),
        values: vec![selections::Value {
            value: Some(selections::value::Value::Text("AU".into())),
        }],
    };
    let until = Utc::now().date_naive() + Days::new(30);
    campaigns::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::NewCampaign(campaigns::Campaign {
            display_name: "Wechsel".into(),
            ..Default::default()
        })),
        audience: Some(Audience::Criteria(selections::AdHocCriteria {
            subject: selections::Subject::Contract.into(),
            criteria: Some(selections::Criteria {
                node: Some(selections::criteria::Node::Compare(everybody)),
            }),
        })),
        target_product_version: "products/P/versions/NEW".into(),
        offer_valid_until_date: Some(Date {
            year: until.year(),
            month: until.month().try_into().unwrap(),
            day: until.day().try_into().unwrap(),
        }),
        outbound: Some(campaigns::OutboundSpec {
            channel_account: "channelAccounts/mail".into(),
            document_template: document_template.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Begins a launch.
pub async fn begin(client: &Client, document_template: &str) -> lro::Operation {
    let request = request(document_template);
    client
        .campaigns()
        .launch_campaign(request)
        .await
        .unwrap()
        .into_inner()
}

/// Launches to all customers, waits for the operation's end and gives the campaign's name.
pub async fn launch(client: &Client, document_template: &str) -> String {
    let operation = begin(client, document_template).await;
    launched(&over(client, &operation.name).await)
        .campaign
        .unwrap()
        .name
}

/// Waits until an operation is over, whatever becomes of single calls; for at most three minutes.
pub async fn over(client: &Client, name: &str) -> lro::Operation {
    for _ in 0..1_800 {
        let request = lro::GetOperationRequest { name: name.into() };
        match client.operations().get_operation(request).await {
            Ok(found) if found.get_ref().done => return found.into_inner(),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    panic!("not over within three minutes: {name}");
}

/// What a launch that succeeded has made.
pub fn launched(operation: &lro::Operation) -> campaigns::LaunchCampaignResponse {
    match &operation.result {
        Some(lro::operation::Result::Response(any)) => {
            campaigns::LaunchCampaignResponse::decode(&any.value[..]).unwrap()
        }
        other => panic!("the launch did not succeed: {other:?}"),
    }
}

/// The campaign's figures; `None` while the server does not answer.
pub async fn figures(client: &Client, campaign: &str) -> Option<campaigns::InfoboardFigures> {
    let request = campaigns::GetInfoboardRequest {
        name: campaign.into(),
    };
    let board = client.campaigns().get_infoboard(request).await.ok()?;
    board.into_inner().total
}

/// Waits until a campaign's message figures are as wanted.
pub async fn until_figures(
    client: &Client,
    campaign: &str,
    wanted: impl Fn(&campaigns::MessageFigures) -> bool,
) {
    until("the figures", async || {
        let figures = figures(client, campaign).await;
        figures.and_then(|f| f.messages).is_some_and(|m| wanted(&m))
    })
    .await;
}

/// Waits until nothing is due or under way.
pub async fn until_over(client: &Client, campaign: &str) {
    until_figures(client, campaign, |m| m.queued == 0 && m.sending == 0).await;
}

/// Waits until each message was tried and `waiting` of them wait for another attempt.
pub async fn until_tried(client: &Client, campaign: &str, waiting: usize) {
    until("an attempt each", async || {
        let ledger = ledger(client, campaign).await;
        let tried = |m: &Message| m.attempt_count > 0 && m.state() != MessageState::Sending;
        let queued = |m: &&Message| m.state() == MessageState::Queued;
        ledger.values().all(tried) && ledger.values().filter(queued).count() == waiting
    })
    .await;
}

/// Looks until something is so, for at most two minutes.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    for _ in 0..2_400 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within two minutes: {what}");
}

/// Lets messages that wait for another attempt be tried now.
pub async fn make_due(server: &TestServer) {
    let sql = "UPDATE message SET next_attempt_at = now() WHERE state = 'queued'";
    server
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(sql)
        .await
        .unwrap();
}

/// The ledger of a campaign, with all attempts, by address.
pub async fn ledger(client: &Client, campaign: &str) -> BTreeMap<String, Message> {
    let mut request = messages::ListMessagesRequest {
        page_size: 1_000,
        campaign: campaign.into(),
        ..Default::default()
    };
    let mut ledger = BTreeMap::new();
    loop {
        let page = client
            .messages()
            .list_messages(request.clone())
            .await
            .unwrap()
            .into_inner();
        for listed in page.messages {
            let name = listed.name.clone();
            let get = messages::GetMessageRequest { name };
            let message = client
                .messages()
                .get_message(get)
                .await
                .unwrap()
                .into_inner();
            let before = ledger.insert(message.address.clone(), message);
            assert_eq!(before, None, "two messages to one address");
        }
        if page.next_page_token.is_empty() {
            return ledger;
        }
        request.page_token = page.next_page_token;
    }
}

/// A campaign's books while nothing is under way.
pub struct Books {
    /// The ledger by address.
    pub ledger: BTreeMap<String, Message>,
    /// What arrived, by address.
    pub arrived: HashMap<String, Vec<Received>>,
}

impl Books {
    /// The message of a customer.
    pub fn message(&self, customer: usize) -> &Message {
        &self.ledger[&address(customer)]
    }

    /// How often a customer's mail arrived.
    pub fn arrivals(&self, customer: usize) -> usize {
        self.arrived.get(&address(customer)).map_or(0, Vec::len)
    }

    /// Addresses of messages in a state.
    pub fn in_state(&self, state: MessageState) -> Vec<&str> {
        let found = self.ledger.iter().filter(|(_, m)| m.state() == state);
        found.map(|(address, _)| &address[..]).collect()
    }
}

/// How often attempts of a message ended so.
pub fn attempts(message: &Message, outcome: AttemptOutcome) -> usize {
    message
        .attempts
        .iter()
        .filter(|a| a.outcome() == outcome)
        .count()
}

/// Balances the books: each of `members` has one message; the infoboard counts what the ledger
/// says; attempts are complete and fit the state; and what arrived lies between what the ledger
/// knows to have arrived and what it does not know.
pub async fn balanced(
    server: &TestServer,
    client: &Client,
    campaign: &str,
    members: usize,
) -> Books {
    let ledger = ledger(client, campaign).await;
    let figures = figures(client, campaign).await.unwrap();
    check_figures(&figures, &ledger, members);
    let mut arrived: HashMap<String, Vec<Received>> = HashMap::new();
    for mail in server.sink.received() {
        assert_eq!(mail.rcpt_to.len(), 1);
        arrived
            .entry(mail.rcpt_to[0].clone())
            .or_default()
            .push(mail);
    }
    for address in arrived.keys() {
        assert!(
            ledger.contains_key(address),
            "nobody wanted a mail to {address}"
        );
    }
    for (address, message) in &ledger {
        check_attempts(message);
        let id = message.name.strip_prefix("messages/").unwrap();
        let mails = arrived.get(address).map_or(&[][..], |mails| mails);
        for mail in mails {
            assert_eq!(
                mail.message_id.as_deref(),
                Some(&format!("<{id}@sw.example>")[..])
            );
        }
        let known = attempts(message, AttemptOutcome::Accepted);
        let unknown = attempts(message, AttemptOutcome::Ambiguous);
        assert!(
            (known..=known + unknown).contains(&mails.len()),
            "{} mails arrived of {message:?}",
            mails.len()
        );
    }
    Books { ledger, arrived }
}

fn check_figures(
    figures: &campaigns::InfoboardFigures,
    ledger: &BTreeMap<String, Message>,
    members: usize,
) {
    let wanted = i64::try_from(members).unwrap();
    assert_eq!(ledger.len(), members);
    assert_eq!(figures.audience.as_ref().unwrap().members, wanted);
    assert_eq!(figures.offers.as_ref().unwrap().made, wanted);
    let count = |state| {
        let found = ledger.values().filter(|m| m.state() == state);
        i64::try_from(found.count()).unwrap()
    };
    let counted = campaigns::MessageFigures {
        queued: count(MessageState::Queued),
        sending: count(MessageState::Sending),
        sent: count(MessageState::Sent),
        delivered: count(MessageState::Delivered),
        failed: count(MessageState::Failed),
        bounced: count(MessageState::Bounced),
        suppressed: count(MessageState::Suppressed),
        ambiguous: count(MessageState::Ambiguous),
        cancelled: count(MessageState::Cancelled),
        // Mails alone tell nothing of these.
        ..Default::default()
    };
    assert_eq!(figures.messages, Some(counted));
}

/// Attempts are numbered from 1 without gaps, all have ended, and the last one explains the state.
fn check_attempts(message: &Message) {
    use AttemptOutcome as Outcome;
    let numbers: Vec<i32> = message.attempts.iter().map(|a| a.attempt).collect();
    let all: Vec<i32> = (1..=message.attempt_count).collect();
    assert_eq!(numbers, all, "{message:?}");
    for attempt in &message.attempts {
        assert!(attempt.end_time.is_some(), "{message:?}");
        assert_ne!(attempt.outcome(), Outcome::Unspecified, "{message:?}");
    }
    let last = message.attempts.last().map(messages::Attempt::outcome);
    let fits = match message.state() {
        MessageState::Sent => last == Some(Outcome::Accepted),
        MessageState::Failed => last == Some(Outcome::Permanent),
        MessageState::Ambiguous => last == Some(Outcome::Ambiguous),
        MessageState::Queued | MessageState::Suppressed | MessageState::Cancelled => {
            !matches!(last, Some(Outcome::Accepted | Outcome::Permanent))
        }
        _ => false,
    };
    assert!(fits, "{message:?}");
    let accepted = attempts(message, Outcome::Accepted);
    assert_eq!(
        accepted,
        usize::from(message.state() == MessageState::Sent),
        "{message:?}"
    );
    assert_eq!(message.send_time.is_some(), accepted == 1, "{message:?}");
}

/// Looks behind the server's back: offers with gapless numbers, a document of its own for each, a
/// message for each, and no leases left.
pub async fn check_rows(server: &TestServer, members: usize) {
    let counted = server
        .database
        .one(
            "SELECT concat_ws(' ', (SELECT count(*) FROM audience_member WHERE exclusion IS NULL),
                 (SELECT count(*) FROM offer WHERE state <> 'draft'),
                 (SELECT count(DISTINCT (contract_id, member_seq)) FROM offer),
                 (SELECT count(DISTINCT sha256) FROM document),
                 (SELECT count(DISTINCT offer_id) FROM message),
                 (SELECT count(*) FROM message),
                 (SELECT count(*) FROM customer_event WHERE kind = 'offer.created'))",
        )
        .await
        .unwrap();
    assert_eq!(counted, vec![members.to_string(); 7].join(" "));
    let numbers = server
        .database
        .one(
            "SELECT concat_ws(' ', min(number), max(number), max(substr(number, 3)::bigint),
                 count(*), (SELECT next_value - 1 FROM number_range)) FROM offer",
        )
        .await
        .unwrap();
    assert_eq!(
        numbers,
        format!("A-00000001 A-{members:08} {members} {members} {members}")
    );
    let leases = "SELECT count(*) FROM message WHERE lease IS NOT NULL OR submitted_at IS NOT NULL";
    assert_eq!(server.database.one(leases).await.unwrap(), "0");
}
