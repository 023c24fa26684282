//! The link by which a recipient withdraws consent: in the header, in the mail, on the page.

use std::net::SocketAddr;

use anklang_local::smtp::Received;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::anklang::privacy::v1 as privacy;
use anklang_testkit::{Client, Options, TestServer};
use mail_parser::MessageParser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::handover::QUICK;
use crate::mailing::{
    SLIP, address, figures, import, launch, ledger, over, request, save_message, tenant, until_over,
};
use crate::phases::run_sql;
use crate::receiver::Receiver;
use crate::utility::until;

/// Where links of mails lead.
pub const BASE: &str = "https://post.sw.example/anklang";

async fn public() -> TestServer {
    TestServer::start_with(Options {
        config: format!("[public]\nurl = '{BASE}/'"),
        ..Default::default()
    })
    .await
    .unwrap()
}

/// Status and text of the answer to a request over HTTP/1.1, as a proxy makes it.
pub async fn http(addr: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: post.sw.example\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// The link of a mail's header, and that the header is as mail programs want it.
pub fn link(mail: &Received) -> String {
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    let header = |name: &str| parsed.header_raw(name).unwrap().trim().to_owned();
    assert_eq!(
        header("List-Unsubscribe-Post"),
        "List-Unsubscribe=One-Click"
    );
    let value = header("List-Unsubscribe");
    let url = value.strip_prefix('<').unwrap().strip_suffix('>').unwrap();
    for text in [parsed.body_text(0).unwrap(), parsed.body_html(0).unwrap()] {
        let text = text.replace("&#x2f;", "/");
        assert!(text.contains(url), "{url} in {text}");
    }
    url.to_owned()
}

pub fn path(link: &str) -> String {
    link.strip_prefix(BASE).unwrap().to_owned()
}

fn mail_to(server: &TestServer, customer: usize) -> Received {
    let mails = server.sink.received();
    let mine = mails.into_iter().find(|m| m.rcpt_to == [address(customer)]);
    mine.unwrap()
}

async fn customer(client: &Client, customer: usize) -> customers::Customer {
    let name = format!("customers/{customer:04}");
    let request = customers::GetCustomerRequest { name };
    client
        .customers()
        .get_customer(request)
        .await
        .unwrap()
        .into_inner()
}

async fn withdrawals(client: &Client, customer: usize) -> Vec<customers::CustomerEvent> {
    let request = customers::ListCustomerEventsRequest {
        parent: format!("customers/{customer:04}"),
        page_size: 100,
        ..Default::default()
    };
    let listed = client
        .customers()
        .list_customer_events(request)
        .await
        .unwrap()
        .into_inner();
    let kind = "consent.withdrawn";
    let events = listed.customer_events.into_iter();
    events.filter(|e| e.kind == kind).collect()
}

#[tokio::test]
async fn one_click_withdraws_consent_and_looking_does_not() {
    let server = public().await;
    let client = tenant(&server, 3).await;
    let campaign = launch(&client, SLIP).await;
    until_over(&client, &campaign).await;
    let link = link(&mail_to(&server, 1));
    let path = path(&link);
    let raw = String::from_utf8_lossy(path.as_bytes()).to_string();
    assert!(!raw.contains("kunde") && !raw.contains("0001"), "{raw}");

    // Scanners and previews look at links.
    for method in ["GET", "HEAD"] {
        let (status, page) = http(server.addr, method, &path, "").await;
        assert_eq!(status, 200);
        assert_eq!(method == "GET", page.contains("<form method=\"post\">"));
        assert!(page.contains("cache-control: no-store"), "{page}");
    }
    assert_eq!(withdrawals(&client, 1).await, []);

    // A mail program, and then the person as well.
    for _ in 0..3 {
        let (status, page) = http(server.addr, "POST", &path, "List-Unsubscribe=One-Click").await;
        assert_eq!(status, 200);
        assert!(page.contains("Sie sind abgemeldet") && page.contains("Stadtwerke"));
    }
    let (_, page) = http(server.addr, "GET", &path, "").await;
    assert!(page.contains("Sie sind abgemeldet"), "{page}");
    let consents = customer(&client, 1).await.consents;
    let [consent] = &consents[..] else {
        panic!("{consents:?}");
    };
    assert_eq!(consent.state(), customers::ConsentState::Withdrawn);
    assert_eq!(consent.source, "list-unsubscribe");
    let events = withdrawals(&client, 1).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].campaign, campaign);
    assert_eq!(withdrawals(&client, 2).await, []);

    // From now on they are left out, and only they.
    let again = launch(&client, SLIP).await;
    until_over(&client, &again).await;
    let addresses: Vec<String> = ledger(&client, &again).await.into_keys().collect();
    assert_eq!(addresses, [address(0), address(2)]);
}

/// The customer 0009 has the address of 0001 as well, and both consent (again).
async fn twins(client: &Client, consented: &str) {
    let twin = format!(
        "customer_number,channel,address\n0009,mail,{}\n",
        address(1)
    );
    let contract = "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
                    product_number,product_version_code\nV0009,0009,sw,electricity,AU,3000,P,OLD\n";
    let consents = ["0001", "0009"].map(|n| format!("{n},mail,marketing,granted,{consented}\n"));
    for (entity, csv) in [
        (
            ImportEntity::Customers,
            "number,kind,last_name\n0009,person,Muster\n".to_owned(),
        ),
        (ImportEntity::ContactPoints, twin),
        (ImportEntity::Contracts, contract.to_owned()),
        (
            ImportEntity::Consents,
            format!(
                "customer_number,channel,purpose,state,recorded_at\n{}",
                consents.concat()
            ),
        ),
    ] {
        import(client, entity, csv).await;
    }
}

/// As when a provider tells it: nobody writes to that address any more, whoever has it and whatever a file of
/// consents says later, and it is counted and told, once.
#[tokio::test]
async fn one_click_blocks_the_address() {
    let server = TestServer::start_with(Options {
        config: format!("[public]\nurl = '{BASE}'\n{QUICK}"),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 3).await;
    twins(&client, "2025-05-01T10:00:00Z").await;
    let receiver = Receiver::start().await;
    let webhook = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "CRM".into(),
            url: receiver.url("/"),
            event_types: vec!["anklang.message.unsubscribed.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    client.webhooks().create_webhook(webhook).await.unwrap();
    let campaign = launch(&client, SLIP).await;
    until_over(&client, &campaign).await;
    assert_eq!(server.sink.count(), 4);

    let path = path(&link(&mail_to(&server, 1)));
    for _ in 0..3 {
        let (status, _) = http(server.addr, "POST", &path, "List-Unsubscribe=One-Click").await;
        assert_eq!(status, 200);
    }
    let counted = figures(&client, &campaign).await.unwrap().messages;
    assert_eq!(counted.unwrap().unsubscribed, 1);
    until("it is told", async || !receiver.calls().is_empty()).await;
    let event = receiver.calls()[0].event();
    assert_eq!(event["data"]["report"], "unsubscribed");
    let told = "SELECT count(*) FROM handover_event";
    assert_eq!(server.database.one(told).await.unwrap(), "1");

    twins(&client, "2098-01-01T10:00:00Z").await;
    let again = launch(&client, SLIP).await;
    until_over(&client, &again).await;
    let addresses: Vec<String> = ledger(&client, &again).await.into_keys().collect();
    assert_eq!(addresses, [address(0), address(2)]);

    // Somebody has lifted it, and the recipient still means it.
    run_sql(&server, "DELETE FROM suppression").await;
    http(server.addr, "POST", &path, "").await;
    let blocked = "SELECT channel || ' ' || split_part(reason, '/', 1) FROM suppression";
    let blocked = server.database.one(blocked).await.unwrap();
    assert_eq!(blocked, "mail unsubscribed: messages");
    assert_eq!(server.database.one(told).await.unwrap(), "1");
}

#[tokio::test]
async fn who_is_erased_withdraws_nothing_more() {
    let server = public().await;
    let client = tenant(&server, 2).await;
    let campaign = launch(&client, SLIP).await;
    until_over(&client, &campaign).await;
    let path = path(&link(&mail_to(&server, 1)));
    let request = privacy::ErasePersonalDataRequest {
        customer: "customers/0001".into(),
        reason: privacy::ErasureReason::Objection.into(),
        ..Default::default()
    };
    let asked = client.privacy().erase_personal_data(request).await;
    over(&client, &asked.unwrap().into_inner().name).await;
    let of_them = async || {
        let sql = "SELECT (SELECT count(*) FROM consent k WHERE k.customer_id = c.id) || ' '
                       || (SELECT count(*) FROM customer_event e WHERE e.customer_id = c.id)
                   FROM customer c WHERE c.number = '0001'";
        server.database.one(sql).await.unwrap()
    };
    let before = of_them().await;
    assert!(before.starts_with("0 "), "{before}");
    let (status, page) = http(server.addr, "POST", &path, "List-Unsubscribe=One-Click").await;
    assert_eq!(status, 200);
    assert!(page.contains("Sie sind abgemeldet"), "{page}");
    assert_eq!(of_them().await, before);
}

#[tokio::test]
async fn what_waits_is_not_sent_after_a_withdrawal() {
    let mut server = TestServer::start_with(Options {
        config: format!("[public]\nurl = '{BASE}'"),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 1).await;
    let campaign = launch(&client, SLIP).await;
    until_over(&client, &campaign).await;
    let path = path(&link(&mail_to(&server, 0)));

    // Links outlive the process that made them.
    server.restart().await.unwrap();
    let client = server.client(crate::mailing::TENANT).await.unwrap();
    server
        .sink
        .set_faults(anklang_local::smtp::Faults::none().with(
            anklang_local::smtp::Matching::All,
            anklang_local::smtp::Fault::RejectRecipient(anklang_local::smtp::Reply::new(
                450,
                "4.2.0 later",
            )),
        ));
    let second = launch(&client, SLIP).await;
    crate::mailing::until_tried(&client, &second, 1).await;
    assert_eq!(http(server.addr, "POST", &path, "").await.0, 200);
    server.sink.set_faults(anklang_local::smtp::Faults::none());
    crate::mailing::make_due(&server).await;
    until_over(&client, &second).await;
    let ledger = ledger(&client, &second).await;
    assert_eq!(ledger[&address(0)].state(), MessageState::Suppressed);
    assert_eq!(server.sink.count(), 1);
}

#[tokio::test]
async fn links_that_were_not_made_here_do_nothing() {
    let server = public().await;
    let client = tenant(&server, 2).await;
    let campaign = launch(&client, SLIP).await;
    until_over(&client, &campaign).await;
    let good = path(&link(&mail_to(&server, 0)));
    let other = path(&link(&mail_to(&server, 1)));
    // The message of one with the signature of the other, cut, longer, of nobody.
    let mixed = format!("{}{}", &good[..good.len() - 22], &other[other.len() - 22..]);
    let bad = [
        mixed,
        good[..good.len() - 1].to_owned(),
        format!("{good}A"),
        "/u/x".to_owned(),
        format!("/u/{}", "A".repeat(64)),
        format!("/u/{}", "A".repeat(5_000)),
        "/u/%00".to_owned(),
    ];
    for path in &bad {
        for method in ["GET", "POST"] {
            let (status, page) = http(server.addr, method, path, "").await;
            assert_eq!(status, 404, "{path}: {page}");
        }
    }
    for number in [0, 1] {
        let consents = customer(&client, number).await.consents;
        assert_eq!(consents[0].state(), customers::ConsentState::Granted);
    }
    // Neither are paths of the API changed by it.
    assert_eq!(http(server.addr, "PUT", &good, "").await.0, 405);
}

#[tokio::test]
async fn without_a_public_address_mails_have_no_link() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let (name, text) = ("brands/sw/templates/plain.de", "[{{ unsubscribe_url }}]");
    save_message(&client, name, "Hallo", text).await.unwrap();
    let mut request = request(SLIP);
    request.outbound.as_mut().unwrap().message_template = "plain".into();
    let operation = client.campaigns().launch_campaign(request).await.unwrap();
    let campaign = crate::mailing::launched(&client.finished(operation.get_ref()).await.unwrap())
        .campaign
        .unwrap()
        .name;
    until_over(&client, &campaign).await;
    let mail = mail_to(&server, 0);
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.header_raw("List-Unsubscribe"), None);
    assert!(parsed.body_text(0).unwrap().contains("[]"));
}
