//! Nobody is in it: the story of a customer all of whose data hold a word, which is then looked for in whatever
//! left the server, in its log, and at its port for Prometheus. Also escaped.

use anklang_local::smtp::{Fault, Faults, Matching, Reply};
use anklang_proto::anklang::imports::v1::ImportEntity;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;
use tonic::Code;

use crate::collector::Collector;
use crate::mailing::{self, TENANT, until};
use crate::privacy::marked::{MARK, Marked, mark};
use crate::probe::http;
use crate::prometheus;
use crate::raw::Raw;
use crate::unsubscribe;

/// The customer's phone number and that of a contact, as all forms of them end.
const NUMBERS: [&str; 2] = ["301234501", "301234502"];

/// Whether bytes hold a word: in any case of letters, as hexadecimal digits, or inside of base64. Percent and JSON
/// leave it as it is.
fn holds(bytes: &[u8], word: &str) -> bool {
    let is_in = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let lower = bytes.to_ascii_lowercase();
    let (plain, digits) = (word.as_bytes(), hex::encode(word));
    is_in(&lower, plain)
        || is_in(&lower, digits.as_bytes())
        || (0..3).any(|before| {
            // The characters that depend on no neighbour.
            let text = format!("{}{word}", "x".repeat(before));
            let inside = (before * 8).div_ceil(6)..text.len() * 8 / 6;
            [STANDARD, URL_SAFE]
                .iter()
                .any(|code| is_in(bytes, code.encode(&text)[inside.clone()].as_bytes()))
        })
}

#[test]
fn words_are_found_however_they_are_written() {
    let name = "Zwetschgenkern-mail@post.example";
    let escaped: String = format!("{MARK}@").replace('@', "%40");
    for text in [
        format!("a {name}."),
        format!("?to={escaped}"),
        hex::encode(name.to_lowercase()),
        STANDARD.encode(name.to_lowercase()),
        STANDARD.encode(format!("a{}", name.to_lowercase())),
        URL_SAFE.encode(format!("to{}", name.to_lowercase())),
    ] {
        assert!(holds(text.as_bytes(), MARK), "{text}");
    }
    assert!(!holds(b"zwetschgen, kern", MARK));
}

fn settings(collector: &Collector, format: &str) -> String {
    let (url, base) = (collector.url(), unsubscribe::BASE);
    format!(
        "[channel_accounts.stubborn]\nplugin = 'testing'\n\
         [channel_accounts.stubborn.config]\naccount = 'stubborn'\nopening = 'blab'\ntoken = '{MARK}'\n\
         [telemetry]\nendpoint = '{url}'\nlogs = true\nexport_interval_seconds = 1\n\
         prometheus_listen = '127.0.0.1:0'\n\
         [log]\nformat = '{format}'\n[public]\nurl = '{base}/'\n"
    )
}

/// Mails that a mail server refuses, for now and for ever, in words that repeat the address; and a test.
async fn refused(marked: &Marked) {
    let client = &marked.probe.client;
    let refusal = |code, status: &str| {
        let text = format!("{status} <{}> is unknown here", mark("mail@post.example"));
        Fault::RejectRecipient(Reply::new(code, &text))
    };
    let to_marked = || Matching::Recipient(MARK.into());
    let faults = Faults::none()
        .with_times(to_marked(), refusal(450, "4.2.1"), 1)
        .with(to_marked(), refusal(550, "5.1.1"));
    marked.server().sink.set_faults(faults);
    let campaign = mailing::launch(client, "").await;
    mailing::until_tried(client, &campaign, 1).await;
    mailing::make_due(marked.server()).await;
    mailing::until_over(client, &campaign).await;
    let ledger = mailing::ledger(client, &campaign).await;
    let refused = &ledger[&mark("mail@post.example")];
    assert!(refused.detail.contains(MARK), "{refused:?}");
    let test = json!({
        "name": "channelAccounts/mail", "brand": "brands/sw",
        "recipient": mark("test@post.example"), "text": mark("test"),
    });
    let method = "channels.v1.ChannelService/TestChannelAccount";
    let answer = marked.call(method, test).await;
    assert!(answer.to_string().contains(MARK), "{answer}");
}

/// Rows that are refused, and requests that say the wrong thing at the wrong place.
async fn wrong(marked: &Marked) {
    let (client, addr) = (&marked.probe.client, marked.server().addr);
    for (entity, csv) in [
        (
            ImportEntity::Customers,
            format!("number,kind,last_name\n9000,{},x\n", mark("kind")),
        ),
        (
            ImportEntity::ContactPoints,
            format!(
                "customer_number,channel,address\n0000,mail,{} at home\n",
                mark("mail")
            ),
        ),
    ] {
        let sums = client.import(entity, csv).await.unwrap();
        assert_eq!(sums.failed, 1, "{sums:?}");
    }
    let raw = Raw::connect(addr).await;
    let get = "customers.v1.CustomerService/GetCustomer";
    let list = "messages.v1.MessageService/ListMessages";
    let accept = "offers.v1.OfferService/AcceptOffer";
    for (method, request) in [
        (get, json!({"name": format!("customers/{}", mark("name"))})),
        (get, json!({"name": mark("name")})),
        (
            list,
            json!({"filter": format!("state = \"{}\"", mark("filter"))}),
        ),
        (list, json!({"filter": mark("filter")})),
        (list, json!({"orderBy": mark("order")})),
        (list, json!({"pageToken": mark("token")})),
        (
            accept,
            json!({"name": format!("offers/{}", mark("offer")), "source": mark("source")}),
        ),
    ] {
        let method = format!("anklang.{method}");
        let status = raw.call(Some(TENANT), &method, &request).await;
        status.expect_err(&method);
    }
    let named = format!("user-agent: {MARK}\r\ntraceparent: {MARK}\r\nreferer: {MARK}\r\n");
    for path in [
        format!("/u/{}", mark("link")),
        format!("/channels/{TENANT}/probe/{}?a={MARK}", mark("path")),
        format!("/anklang.customers.v1.CustomerService/{}", mark("method")),
    ] {
        http(addr, "GET", &path, &named, "").await;
        http(addr, "POST", &path, &named, MARK).await;
    }
}

/// A database that quotes in an error what it was given.
async fn quoted(marked: &Marked) {
    let database = marked.server().database.connect().await.unwrap();
    let sql = "CREATE FUNCTION quote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   RAISE EXCEPTION 'invalid input syntax for type date: \"%\"', NEW.last_name
                       USING DETAIL = 'Failing row contains (' || NEW.last_name || ').',
                             ERRCODE = '22007';
               END $$;
               CREATE TRIGGER quote BEFORE UPDATE ON customer
                   FOR EACH ROW EXECUTE FUNCTION quote()";
    database.batch_execute(sql).await.unwrap();
    let request = json!({
        "customer": {"number": "0000", "lastName": mark("quoted")}, "updateMask": "lastName",
    });
    let raw = Raw::connect(marked.server().addr).await;
    let method = "anklang.customers.v1.CustomerService/UpdateCustomer";
    let status = raw.call(Some(TENANT), method, &request).await;
    let status = status.expect_err(method);
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    // The same by way of a bulk load.
    let row = format!("number,kind,last_name\n0000,person,{}\n", mark("again"));
    let loaded = marked
        .probe
        .client
        .import(ImportEntity::Customers, row)
        .await;
    loaded.expect_err("the trigger refuses it");
    let sql = "DROP TRIGGER quote ON customer; DROP FUNCTION quote()";
    database.batch_execute(sql).await.unwrap();
}

/// What comes back: a bounce in the provider's words, nonsense, and an objection by the link of a mail.
async fn back(marked: &Marked) {
    let ours = "SELECT m.id FROM message m JOIN customer c ON c.id = m.customer_id
                WHERE c.number = '0000' AND m.account = 'probe' LIMIT 1";
    let id = marked.probe.look(ours).await;
    let bounced = json!([{
        "message_id": id, "state": "bounced", "code": "550 5.1.1", "detail": mark("bounced"),
        "at": 1_790_000_000,
    }]);
    marked.probe.report(bounced).await;
    let nonsense = json!({ (mark("member")): mark("value") });
    assert_eq!(marked.probe.post(&nonsense).await.0, 400);
    let mails = marked.server().sink.received();
    let mail = mails
        .iter()
        .find(|mail| mail.rcpt_to == [mark("mail@post.example")]);
    let path = unsubscribe::path(&unsubscribe::link(mail.unwrap()));
    let answer = unsubscribe::http(marked.server().addr, "POST", &path, "").await;
    assert_eq!(answer.0, 200, "{}", answer.1);
}

async fn nobody_is_in_it(format: &str) {
    let collector = Collector::start().await;
    let text = "blab:{{ customer.last_name }}, {{ customer.street }}";
    let mut marked = Marked::start_with(&settings(&collector, format), text).await;
    refused(&marked).await;
    wrong(&marked).await;
    quoted(&marked).await;
    back(&marked).await;
    until("the last line", async || {
        let lines = collector.lines();
        lines
            .iter()
            .any(|line| line.text() == "consent withdrawn by link")
    })
    .await;
    let mut all = Vec::new();
    if format == "json" {
        let scraped = prometheus::text(prometheus::metrics_of(marked.server())).await;
        assert!(holds(scraped.as_bytes(), "launchcampaign"));
        all.push(("Prometheus", scraped.into_bytes()));
    }
    let ids = "SELECT string_agg(id::text, ' ') FROM message WHERE account = 'mail'";
    let messages = marked.probe.look(ids).await;
    let ids = "SELECT string_agg(id::text, ' ') FROM operation WHERE kind = 'LaunchCampaign'";
    let operations = marked.probe.look(ids).await;
    assert!(marked.probe.server.terminate().await.unwrap().success());

    for path in ["/v1/traces", "/v1/metrics", "/v1/logs"] {
        let bodies = collector.of(path).into_iter().map(|export| {
            assert!(!export.headers.contains_key("content-encoding"));
            export.body
        });
        all.push((path, bodies.collect::<Vec<_>>().concat()));
    }
    all.push(("the log", marked.server().log().into_bytes()));
    for (what, bytes) in &all {
        for word in [MARK].iter().chain(&NUMBERS) {
            assert!(
                !holds(bytes, word),
                "{word} in {what}: {}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
    // What may be there is, and is found: of all that was looked through, each told of this story.
    let of = |what: &str| &all.iter().find(|(name, _)| *name == what).unwrap().1[..];
    for (what, words) in [
        ("/v1/traces", &messages),
        ("/v1/traces", &operations),
        ("/v1/logs", &operations),
        ("the log", &operations),
    ] {
        for word in words.split(' ') {
            assert!(holds(of(what), word), "{word} is not in {what}");
        }
    }
    assert!(holds(of("/v1/metrics"), "launchcampaign"));
    // What stands for a span whose name is none.
    assert!(holds(of("/v1/traces"), "testing plugin"));
    for line in [
        "as told",
        "a plugin's line",
        "it did not open: the plugin failed to open",
        "a test was sent",
        "internal error",
        "invalid input syntax for type date",
        "consent withdrawn by link",
    ] {
        for what in ["/v1/logs", "the log"] {
            assert!(holds(of(what), line), "{line} is not in {what}");
        }
    }
}

#[tokio::test]
async fn nobody_is_in_traces_metrics_records_and_lines_of_json() {
    nobody_is_in_it("json").await;
}

#[tokio::test]
async fn nobody_is_in_lines_of_text() {
    nobody_is_in_it("text").await;
}
