//! Campaigns over every channel that ships, against what stands at the other end: a short message
//! centre, HylaFAX, the Bot API of Telegram, Mailjet.

use std::net::SocketAddr;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{Message, MessageState};
use anklang_proto::anklang::reach::v1 as reach;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_testkit::{Client, Options, TestServer, violations};
use serde_json::json;

use crate::hylafax::{Hylafax, PASSWORD, USER, cannot_run, tiff_pages};
use crate::mailing::{self, SLIP, import, ledger, over, tenant, until};
use crate::mailjet_fake::{API_KEY, Fake, SECRET_KEY};
use crate::peers;
use crate::smsc::Smsc;

/// A server with one more account.
async fn server(account: String) -> TestServer {
    let options = Options {
        config: account,
        ..Default::default()
    };
    TestServer::start_with(options).await.unwrap()
}

/// Gives the first customers an address on a channel, and their consent.
async fn reachable(client: &Client, contact: &str, channel: &str, addresses: &[&str]) {
    let rows = |row: &dyn Fn(usize, &str) -> String| {
        let rows = addresses.iter().enumerate().map(|(i, a)| row(i, a));
        rows.collect::<String>()
    };
    let points = rows(&|i, address| format!("{i:04},{contact},{address}\n"));
    let points = format!("customer_number,channel,address\n{points}");
    import(client, ImportEntity::ContactPoints, points).await;
    let consents =
        rows(&|i, _| format!("{i:04},{channel},marketing,granted,2025-05-01T10:00:00Z\n"));
    let consents = format!("customer_number,channel,purpose,state,recorded_at\n{consents}");
    import(client, ImportEntity::Consents, consents).await;
}

fn request(
    account: &str,
    document: bool,
) -> anklang_proto::anklang::campaigns::v1::LaunchCampaignRequest {
    let mut request = mailing::request(if document { SLIP } else { "" });
    let outbound = request.outbound.as_mut().unwrap();
    outbound.channel_account = format!("channelAccounts/{account}");
    outbound.without_document = !document;
    request
}

/// Launches, and waits until all messages are in a state.
async fn launch(
    client: &Client,
    account: &str,
    document: bool,
    state: MessageState,
) -> Vec<Message> {
    let request = request(account, document);
    let operation = client.campaigns().launch_campaign(request).await;
    let operation = operation.unwrap().into_inner();
    let launched = mailing::launched(&over(client, &operation.name).await);
    let campaign = launched.campaign.unwrap().name;
    until("what became of all messages", async || {
        let messages = ledger(client, &campaign).await;
        messages.values().all(|m| m.state() == state)
    })
    .await;
    ledger(client, &campaign).await.into_values().collect()
}

#[tokio::test]
async fn texts_reach_phones_and_stop_is_heard() {
    let Some(smsc) = Smsc::start() else { return };
    let server = server(format!(
        "[channel_accounts.sms]\nplugin = 'sms'\n[channel_accounts.sms.config]\ntype = 'smpp'\n\
         host = '127.0.0.1'\nport = {}\ntls = 'none'\nsystem_id = 'anklang'\npassword = 's3cret'\n\
         sender = 'Stadtwerke'",
        smsc.port()
    ))
    .await;
    let client = tenant(&server, 3).await;
    let numbers = ["+491711234501", "+491711234502", "+491711234503"];
    reachable(&client, "mobile", "sms", &numbers).await;
    // By receipts of the centre.
    let messages = launch(&client, "sms", false, MessageState::Delivered).await;
    assert_eq!(messages.len(), 3);
    assert!(messages.iter().all(|m| !m.provider_message_id.is_empty()));
    let mut told: Vec<(String, String)> = smsc.told("submit").await.iter().map(said).collect();
    told.sort();
    assert_eq!(told.len(), 3, "each once");
    for ((number, text), to) in told.iter().zip(numbers) {
        assert_eq!(number.trim_start_matches('+'), to.trim_start_matches('+'));
        assert!(text.starts_with("Stadtwerke: Unser Angebot A-"), "{text}");
    }

    // One has enough: the centre sends back what follows the word.
    tell(&client, "ECHO STOP").await;
    let mut request = request("sms", false);
    request.outbound.as_mut().unwrap().message_template = "order".into();
    client.campaigns().launch_campaign(request).await.unwrap();
    until("no more to any number that said STOP", async || {
        let mut blocked = 0;
        for customer in 0..3 {
            let request = reach::ExplainCustomerRequest {
                customer: format!("customers/{customer:04}"),
                ..Default::default()
            };
            let explained = client.reach().explain_customer(request).await.unwrap();
            let addresses = explained.into_inner().addresses;
            blocked += usize::from(
                addresses
                    .iter()
                    .any(|a| a.channel == "mobile" && a.suppressed),
            );
        }
        blocked == 3
    })
    .await;
}

fn said(submit: &serde_json::Value) -> (String, String) {
    let text = |key: &str| submit[key].as_str().unwrap_or_default().to_owned();
    (text("to"), text("text"))
}

/// What the template "order" says from now on.
async fn tell(client: &Client, text: &str) {
    crate::probe::tell_channel(client, text).await;
}

#[tokio::test]
async fn letters_go_out_as_faxes() {
    if let Some(why) = cannot_run() {
        eprintln!("skipped: {why}");
        return;
    }
    let hylafax = Hylafax::start();
    let server = server(format!(
        "[channel_accounts.fax]\nplugin = 'fax'\n[channel_accounts.fax.config]\ntype = 'hylafax'\n\
         host = '127.0.0.1'\nport = {}\nusername = '{USER}'\npassword = '{PASSWORD}'\npoll_seconds = 1\n\
         [channel_accounts.fax.config.dial]\nown_country = '49'\ninternational_prefix = '00'",
        hylafax.port()
    ))
    .await;
    let client = tenant(&server, 2).await;
    reachable(&client, "fax", "fax", &["+49 561 9960", "+49 561 9961"]).await;
    let refused = client
        .campaigns()
        .launch_campaign(request("fax", false))
        .await;
    let violations = violations(&refused.unwrap_err());
    assert_eq!(violations[0].0, "outbound.without_document");

    let messages = launch(&client, "fax", true, MessageState::Sent).await;
    let mut numbers: Vec<String> = messages
        .iter()
        .map(|m| {
            hylafax.says(
                m.provider_message_id.split(':').next_back().unwrap(),
                "number",
            )
        })
        .collect();
    numbers.sort();
    assert_eq!(numbers, ["05619960", "05619961"]);
    let documents = hylafax.files("docq", "doc");
    assert_eq!(documents.len(), 2);
    for document in documents {
        assert!(!tiff_pages(&document).is_empty());
    }
}

#[tokio::test]
async fn chats_get_the_text() {
    let Some(telegram) = peers::telegram() else {
        return;
    };
    let server = server(format!(
        "[channel_accounts.bot]\nplugin = 'social'\n[channel_accounts.bot.config]\n\
         network = 'telegram'\nbase_url = 'http://{telegram}'\nbot_token = '7:campaign'"
    ))
    .await;
    let client = tenant(&server, 2).await;
    reachable(&client, "social", "social", &["42", "43"]).await;
    launch(&client, "bot", false, MessageState::Sent).await;
    let history = history(telegram).await;
    let mut chats: Vec<i64> = Vec::new();
    for update in history["result"].as_array().unwrap() {
        let text = update["message"]["text"].as_str().unwrap();
        assert!(text.starts_with("Stadtwerke: Unser Angebot A-"), "{text}");
        chats.push(update["message"]["chat_id"].as_i64().unwrap());
    }
    chats.sort_unstable();
    assert_eq!(chats, [42, 43], "each once");
}

/// What the bot has said.
async fn history(telegram: SocketAddr) -> serde_json::Value {
    let body = json!({"token": "7:campaign"}).to_string();
    let header = "content-type: application/json\r\n";
    let (status, answer) =
        crate::probe::http(telegram, "POST", "/getUpdatesHistory", header, &body).await;
    assert_eq!(status, 200, "{answer}");
    let begin = answer.find('{').unwrap();
    let end = answer.rfind('}').unwrap();
    serde_json::from_str(&answer[begin..=end]).unwrap()
}

#[tokio::test]
async fn mailjet_fills_its_own_template() {
    let mailjet = Fake::start().await;
    let server = server(format!(
        "[channel_accounts.mj]\nplugin = 'mail'\n[channel_accounts.mj.config]\ntype = 'mailjet'\n\
         api_key = '{API_KEY}'\nsecret_key = '{SECRET_KEY}'\nbase_url = '{}'",
        mailjet.url()
    ))
    .await;
    let client = tenant(&server, 2).await;
    let content = |id: &str, variables: &[(&str, &str)]| templates::MessageContent {
        provider_template: Some(templates::ProviderTemplate {
            id: id.into(),
            variables: variables
                .iter()
                .map(|(n, t)| ((*n).into(), (*t).into()))
                .collect(),
        }),
        ..Default::default()
    };
    let save = async |message: templates::MessageContent| {
        let request = templates::UpdateTemplateRequest {
            template: Some(templates::Template {
                name: "brands/sw/templates/order.de".into(),
                content: Some(templates::template::Content::Message(message)),
                ..Default::default()
            }),
            allow_missing: true,
            ..Default::default()
        };
        client.templates().update_template(request).await
    };
    let mut wrong = content(
        "",
        &[("name", "{{ kunde.name }}"), ("zahl", "{{ 1 | geld }}")],
    );
    wrong.text_body = "doppelt".into();
    let refused = violations(&save(wrong).await.unwrap_err());
    let fields: Vec<&str> = refused.iter().map(|v| &v.0[..]).collect();
    assert_eq!(fields.len(), 4, "{refused:?}");
    for field in [
        "template.message.text_body",
        "template.message.provider_template.id",
        "template.message.provider_template.variables",
    ] {
        assert!(fields.contains(&field), "{refused:?}");
    }

    let variables = [
        ("name", "{{ customer.last_name }}"),
        ("angebot", "{{ offer.number }}"),
    ];
    let saved = save(content("4711", &variables))
        .await
        .unwrap()
        .into_inner();
    // The same again is no new version.
    let again = save(content("4711", &variables))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((saved.version, &again), (1, &saved));
    let preview = templates::PreviewTemplateRequest {
        name: saved.name.clone(),
        ..Default::default()
    };
    let preview = client.templates().preview_template(preview).await;
    let shown = preview.unwrap().into_inner().message.unwrap();
    let shown = shown.provider_template.unwrap();
    assert_eq!(
        (&shown.id[..], &shown.variables["name"][..]),
        ("4711", "Müller")
    );
    // One part of it alone.
    let masked = templates::UpdateTemplateRequest {
        template: Some(templates::Template {
            name: saved.name.clone(),
            content: Some(templates::template::Content::Message(content("0815", &[]))),
            etag: saved.etag.clone(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["message.provider_template.id".into()],
        }),
        validate_only: true,
        ..Default::default()
    };
    let masked = client.templates().update_template(masked).await.unwrap();
    let Some(templates::template::Content::Message(masked)) = masked.into_inner().content else {
        panic!("a message");
    };
    let masked = masked.provider_template.unwrap();
    assert_eq!((&masked.id[..], masked.variables.len()), ("0815", 2));

    let mut request = request("mj", false);
    request.outbound.as_mut().unwrap().message_template = "order".into();
    let operation = client
        .campaigns()
        .launch_campaign(request)
        .await
        .unwrap()
        .into_inner();
    let launched = mailing::launched(&over(&client, &operation.name).await);
    let campaign = launched.campaign.unwrap().name;
    until("all sent", async || {
        let messages = ledger(&client, &campaign).await;
        messages.values().all(|m| m.state() == MessageState::Sent)
    })
    .await;
    let taken = mailjet.taken();
    assert_eq!(taken.len(), 2);
    for mail in taken {
        assert_eq!(mail["TemplateID"], 4711, "{mail}");
        assert_eq!(mail["Variables"]["name"], "Muster", "{mail}");
        let number = mail["Variables"]["angebot"].as_str().unwrap();
        assert!(number.starts_with("A-"), "{mail}");
    }
}
