//! A customer of whom there is everything, each thing with a word by which it is found again.

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::documents::v1 as documents;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_testkit::TestServer;
use chrono::Datelike;
use serde_json::{Value, json};

use crate::mailing::{self, SLIP, TENANT, import, launched, over, until, until_over};
use crate::probe::{Probe, Settings};
use crate::raw::Raw;
use crate::receiver::Receiver;
use crate::utility::{Case, Utility};
use crate::winback::mails::{case_of, open_cases};

/// The word in all that is said of the customer; lower case, as addresses are.
pub const MARK: &str = "zwetschgenkern";
/// The customer.
pub const CUSTOMER: &str = "customers/0000";

/// A server with that customer, three others, and another tenant.
pub struct Marked {
    pub probe: Probe,
    pub receiver: Receiver,
    /// The mailing with letters.
    pub mailing: campaigns::LaunchCampaignResponse,
    /// What it made for the printer.
    pub bundle: documents::Bundle,
    /// An offer of it that the customer accepted, with a letter.
    pub accepted: String,
    /// A planned contact that nobody is at.
    pub planned: String,
    /// The customer's winback case.
    pub case: String,
    /// What an export must hold.
    pub told: Vec<String>,
}

/// The mark of a thing.
pub fn mark(what: &str) -> String {
    format!("{MARK}-{what}")
}

const LOOPBACK: &str = "[handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
                        poll_milliseconds = 100";

impl Marked {
    pub async fn start() -> Self {
        Self::start_with("", "fine").await
    }

    /// One with more settings, whose channel is told this text.
    pub async fn start_with(config: &str, text: &str) -> Self {
        let settings = Settings {
            config: format!("{LOOPBACK}\n{config}"),
            ..Default::default()
        };
        let probe = Probe::start(4, settings).await;
        let other = probe.server.client("other").await.unwrap();
        Utility::of(&[(Case::Plain, 2)]).import(&other).await;
        let receiver = Receiver::start().await;
        let webhook = json!({"displayName": "ERP", "url": receiver.url("/")});
        call(
            &probe.server,
            "handover.v1.WebhookService/CreateWebhook",
            json!({"webhook": webhook}),
        )
        .await;
        describe(&probe).await;

        let operation = mailing::begin(&probe.client, SLIP).await;
        let mailing = launched(&over(&probe.client, &operation.name).await);
        let campaign = mailing.campaign.as_ref().unwrap().name.clone();
        let bundle = crate::documents::bundled(&probe.client, &mailing).await;
        until_over(&probe.client, &campaign).await;
        let accepted = offer(&probe.server, &campaign).await;
        let answer = json!({"name": accepted, "source": mark("web")});
        call(&probe.server, "offers.v1.OfferService/AcceptOffer", answer).await;

        let texts = probe.launch_until(text, MessageState::Sent).await;
        let rejected = offer(&probe.server, &texts).await;
        let answer = json!({"name": rejected, "reason": mark("reason")});
        call(&probe.server, "offers.v1.OfferService/RejectOffer", answer).await;

        let planned = work(&probe.server).await;
        open_cases(&probe.server, TENANT, "0000").await;
        let case = case_of(&probe.server, "0000").await;
        let remark = json!({"name": case, "worker": "users/anna", "text": mark("remark")});
        let method = "winback.v1.WinbackCaseService/AddWinbackRemark";
        call(&probe.server, method, remark).await;
        answer_back(&probe).await;
        until("the webhook's calls", async || {
            let calls = receiver.calls();
            calls.iter().any(|call| call.body.contains(&mark("reason")))
        })
        .await;
        Marked {
            probe,
            receiver,
            mailing,
            bundle,
            accepted,
            planned,
            case,
            told: told(),
        }
    }

    pub fn server(&self) -> &TestServer {
        &self.probe.server
    }

    pub async fn call(&self, method: &str, request: Value) -> Value {
        call(self.server(), method, request).await
    }

    /// The campaign of the mailing with letters.
    pub fn campaign(&self) -> &str {
        &self.mailing.campaign.as_ref().unwrap().name
    }
}

/// Calls a method of `anklang.`, which must succeed.
pub async fn call(server: &TestServer, method: &str, request: Value) -> Value {
    let raw = Raw::connect(server.addr).await;
    let method = format!("anklang.{method}");
    let answer = raw.call(Some(TENANT), &method, &request).await;
    answer.unwrap_or_else(|status| panic!("{method}: {status:?}"))
}

fn told() -> Vec<String> {
    let things = [
        "first", "last", "title", "street", "mail", "testing", "evidence", "source", "segment",
        "meter", "site", "away", "web", "reason", "note", "person", "said", "order", "remark",
        "subject", "text", "chat", "words", "blocked",
    ];
    things.iter().map(|thing| mark(thing)).collect()
}

/// Names, addresses, consents, contract, orders, attributes.
async fn describe(probe: &Probe) {
    let consent = |channel: &str| {
        json!({
            "channel": channel, "purpose": "marketing", "state": "CONSENT_STATE_GRANTED",
            "recordTime": "2025-06-01T10:00:00Z", "source": mark("source"),
            "evidence": mark("evidence"),
        })
    };
    let customer = json!({
        "number": "0000", "kind": "CUSTOMER_KIND_PERSON", "title": mark("title"),
        "firstName": mark("first"), "lastName": mark("last"), "street": mark("street"),
        "houseNumber": "1", "postalCode": "12345", "city": mark("city"),
        "contactPoints": [
            {"channel": "mail", "address": mark("mail@post.example")},
            {"channel": "testing", "address": mark("testing")},
            {"channel": "phone", "address": "+49301234501"},
        ],
        "consents": [consent("mail"), consent("testing"), consent("phone")],
    });
    let request = json!({"customer": customer, "requestId": uuid::Uuid::now_v7().to_string()});
    let method = "customers.v1.CustomerService/UpdateCustomer";
    call(&probe.server, method, request).await;
    for (entity, csv) in [
        (
            ImportEntity::Attributes,
            format!(
                "entity,number,key,type,value\ncustomer,0000,segment,text,{}\n\
                 contract,V0000,meter,text,{}\n",
                mark("segment"),
                mark("meter")
            ),
        ),
        (
            ImportEntity::ContractItems,
            format!("contract_number,code,name\nV0000,z,{}\n", mark("item")),
        ),
        (
            ImportEntity::Contracts,
            format!(
                "number,customer_number,brand_code,division,site_street\n\
                 V0000,0000,sw,electricity,{}\n",
                mark("site")
            ),
        ),
        (
            ImportEntity::Orders,
            "number,customer_number,ordered_at,currency\nO1,0000,2025-05-01T10:00:00Z,EUR\n".into(),
        ),
        (
            ImportEntity::OrderLines,
            "order_number,line,product_name,quantity,unit_price\nO1,1,Birnen,2,9.90\n".into(),
        ),
        (
            ImportEntity::InactivePeriods,
            format!(
                "customer_number,id,day_type,first_date,last_date,reason\n\
                 0000,u,contact,2027-04-01,2027-04-02,{}\n",
                mark("away")
            ),
        ),
    ] {
        import(&probe.client, entity, csv).await;
    }
}

/// The customer's offer of a campaign.
async fn offer(server: &TestServer, campaign: &str) -> String {
    let request = json!({"customer": CUSTOMER, "campaign": campaign});
    let listed = call(server, "offers.v1.OfferService/ListOffers", request).await;
    listed["offers"][0]["name"].as_str().unwrap().to_owned()
}

/// A contact that was made, one with an order, and one that is open, whose name it gives.
async fn work(server: &TestServer) -> String {
    let list = "planning.v1.WorkListService";
    let mut names = Vec::new();
    for _ in 0..3 {
        let contact = json!({
            "customer": CUSTOMER, "contactTime": chrono::Utc::now().to_rfc3339(),
            "contactPerson": mark("person"), "phone": "+49301234502", "note": mark("note"),
        });
        let request = json!({"plannedContact": contact});
        let made = call(server, &format!("{list}/CreatePlannedContact"), request).await;
        names.push(made["name"].as_str().unwrap().to_owned());
    }
    let claim = async |name: &str| {
        let request = json!({"name": name, "worker": "users/anna"});
        let claimed = call(server, &format!("{list}/ClaimContact"), request).await;
        claimed["claim"].clone()
    };
    let outcome = json!({
        "name": names[0], "claim": claim(&names[0]).await, "outcomeClass": "OUTCOME_CLASS_DONE",
        "note": mark("said"),
    });
    call(server, &format!("{list}/RecordOutcome"), outcome).await;
    let day = chrono::Utc::now().date_naive() + chrono::Days::new(3);
    let day = json!({"year": day.year(), "month": day.month(), "day": day.day()});
    let line = json!({"productNumber": "4711", "quantity": "2",
                      "unitPrice": {"currencyCode": "EUR", "units": "3"}});
    let order = json!({
        "name": names[1], "claim": claim(&names[1]).await, "order": {
            "note": mark("order"), "lines": [line],
            "deliveryDate": day,
        },
    });
    call(server, &format!("{list}/TakeOrder"), order).await;
    names.remove(2)
}

/// What came back: an answer, a channel's words, an address that is blocked, an error that quotes.
async fn answer_back(probe: &Probe) {
    let inbound = json!([{
        "from": mark("testing"), "to": "us", "subject": mark("subject"), "text": mark("text"),
        "id": mark("chat"),
    }]);
    let (status, answer) = probe.post(&json!({"inbound": inbound})).await;
    assert_eq!(status, 200, "{answer}");
    let words = mark("words");
    let sql = format!(
        "UPDATE message_attempt SET detail = '250 {words}' WHERE message_id IN (
             SELECT m.id FROM message m JOIN customer c ON c.id = m.customer_id
             WHERE c.number = '0000');
         UPDATE operation o SET last_errors = ARRAY['offer ' || f.number || ': {words}', 'other']
         FROM offer f JOIN phase p ON p.id = f.phase_id JOIN customer c ON c.id = f.customer_id
         WHERE o.id = p.operation_id AND c.number = '0000'"
    );
    let database = probe.server.database.connect().await.unwrap();
    database.batch_execute(&sql).await.unwrap();
    let blocked = json!({
        "channel": "testing", "address": mark("testing"), "reason": mark("blocked"),
    });
    let method = "customers.v1.CustomerService/CreateSuppression";
    call(&probe.server, method, json!({"suppression": blocked})).await;
}
