//! Mails of winback cases: what they say, and who gets them.

use anklang_local::smtp::Received;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::templates::v1 as templates;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_testkit::{Client, Options, TestServer, violations};
use mail_parser::MessageParser;
use tonic::{Code, Status};
use winback::WinbackTemplate::{Standard, Voucher};

use super::vouchers::{POOL, pool, save_pool};
use crate::mailing::{TENANT, address, import, tenant, until};
use crate::mailjet_fake::{API_KEY, Fake, SECRET_KEY};
use crate::refused;

/// Opens a case for each customer whose number begins so, as detection does.
pub async fn open_cases(server: &TestServer, slug: &str, numbers: &str) {
    let sql = format!(
        "INSERT INTO winback_case (tenant_id, id, customer_id, opened_on, opened_by, seen_by,
             revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
             drop_percent, last_order, alive, purchases, order_value, at_stake, currency)
         SELECT c.tenant_id, anklang_uuid7(), c.id, current_date - 10, gen_random_uuid(),
             gen_random_uuid(), 100, 10, 90, 1, 100, 10, 90, 90, current_date - 100, 0.3, 2, 50, 250,
             'EUR'
         FROM customer c JOIN tenant t ON t.id = c.tenant_id
         WHERE t.slug = '{slug}' AND c.number LIKE '{numbers}%'"
    );
    execute(server, &sql).await;
}

pub async fn execute(server: &TestServer, sql: &str) {
    let database = server.database.connect().await.unwrap();
    database.batch_execute(sql).await.unwrap();
}

/// The share of the control group that the settings require.
pub async fn require_control(client: &Client, control_percent: f64) {
    let settings = winback::WinbackSettings {
        control_percent,
        ..super::monthly()
    };
    super::set(client, settings, "").await.unwrap();
}

/// The name of the newest case of a customer.
pub async fn case_of(server: &TestServer, number: &str) -> String {
    let sql = format!(
        "SELECT 'winbackCases/' || w.id FROM winback_case w
         JOIN customer c ON c.tenant_id = w.tenant_id AND c.id = w.customer_id
         WHERE c.number = '{number}' ORDER BY w.id DESC LIMIT 1"
    );
    server.database.one(&sql).await.unwrap()
}

/// Saves a winback template of a brand.
pub async fn save_template(
    client: &Client,
    brand: &str,
    template: winback::WinbackTemplate,
    message: templates::MessageContent,
) -> Result<templates::Template, Status> {
    let key = match template {
        Voucher => "winback_voucher",
        _ => "winback_standard",
    };
    let name = format!("brands/{brand}/templates/{key}.de");
    let content = templates::template::Content::Message(message);
    crate::mailing::save_template(client, &name, content).await
}

/// A message of our own.
pub fn content(subject: &str, text: &str, html: &str) -> templates::MessageContent {
    templates::MessageContent {
        subject: subject.into(),
        text_body: text.into(),
        html_body: html.into(),
        ..Default::default()
    }
}

/// How a brand sends.
pub async fn save_sender(client: &Client, brand: &str, account: &str, pool: &str) {
    let request = winback::UpdateWinbackSenderRequest {
        winback_sender: Some(winback::WinbackSender {
            name: format!("winbackSenders/{brand}"),
            channel_account: format!("channelAccounts/{account}"),
            purpose: "marketing".into(),
            sender_name: "Jörg von den Stadtwerken".into(),
            reply_to: "antwort@sw.example".into(),
            voucher_pool: pool.into(),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client
        .winback_templates()
        .update_winback_sender(request)
        .await;
    saved.unwrap();
}

/// A tenant with customers, each with a case, both templates, and so many vouchers.
pub async fn ready(server: &TestServer, customers: usize, codes: i32) -> Client {
    let client = tenant(server, customers).await;
    open_cases(server, TENANT, "").await;
    require_control(&client, 0.0).await;
    save_pool(&client, POOL, codes).await;
    save_sender(&client, "sw", "mail", POOL).await;
    let standard = content("Wir vermissen Sie", "Guten Tag {{ name }}", "");
    save_template(&client, "sw", Standard, standard)
        .await
        .unwrap();
    let voucher = content("Ein Gutschein", "Ihr Code: {{var:gutschein:\"\"}}", "");
    save_template(&client, "sw", Voucher, voucher)
        .await
        .unwrap();
    client
}

pub async fn mail(
    client: &Client,
    case: &str,
    template: winback::WinbackTemplate,
) -> Result<winback::MailWinbackCaseResponse, Status> {
    let request = winback::MailWinbackCaseRequest {
        name: case.into(),
        template: template.into(),
        worker: "users/anna".into(),
        ..Default::default()
    };
    let mailed = client.winback_mails().mail_winback_case(request).await?;
    Ok(mailed.into_inner())
}

pub async fn message(client: &Client, name: &str) -> messages::Message {
    let request = messages::GetMessageRequest { name: name.into() };
    let found = client.messages().get_message(request).await;
    found.unwrap().into_inner()
}

pub async fn until_state(client: &Client, name: &str, state: messages::MessageState) {
    until("the state of a message", async || {
        message(client, name).await.state() == state
    })
    .await;
}

fn mail_to(server: &TestServer, address: &str) -> Option<Received> {
    let mut mails = server.sink.received().into_iter();
    mails.find(|mail| mail.rcpt_to == [address])
}

/// What a customer has ordered; the last order late on the 8th of March, which is the 9th in Berlin.
async fn order(client: &Client, number: &str) {
    let orders = format!(
        "number,customer_number,ordered_at,currency,brand_code\n\
         A{number},{number},2025-12-24T10:00:00Z,EUR,sw\n\
         B{number},{number},2026-03-08T23:30:00Z,EUR,sw\n"
    );
    import(client, ImportEntity::Orders, orders).await;
    let lines = format!(
        "order_number,line,quantity,unit_price,product_group\n\
         A{number},1,9,99,Wein\nB{number},1,2,3.50,Obst & Gemüse\nB{number},2,1,5,Brot\n\
         B{number},3,1,4,Obst & Gemüse\n"
    );
    import(client, ImportEntity::OrderLines, lines).await;
}

#[tokio::test]
async fn a_mail_says_what_is_known_and_falls_back() {
    let server = TestServer::start().await.unwrap();
    let client = ready(&server, 2, 0).await;
    let customers = "number,kind,first_name,last_name,company_name,city,country,customer_group\n\
                     0000,person,Jürgen,Größe <b>,,Lindau (Bodensee),DE,Endkunde\n\
                     0001,company,,,Müller & Söhne GmbH,,AT,\n";
    import(&client, ImportEntity::Customers, customers).await;
    order(&client, "0000").await;
    let text = "{{var:name:\"?\"}}|{{var:vorname:\"Kunde\"}}|{{ nachname|default('-', true) }}|\
                {{var:firmenname:\"privat\"}}|{{var:ort:\"\"}}|{{var:land}}|{{var:email}}|\
                {{var:kundennummer}}|{{var:kundengruppe:”keine”}}|{{var:letzte_bestellung:\"nie\"}}|\
                {{var:letzte_bestellung_tage:\"0\"}}|{{var:letzte_warengruppe:\"nichts\"}}";
    let html = "<p>Liebe {{var:nachname:\"Leute &amp; Freunde\"}}, {{ letzte_warengruppe }}</p>";
    let standard = content("Schöne Grüße, {{var:vorname:\"Kunde\"}}!", text, html);
    save_template(&client, "sw", Standard, standard)
        .await
        .unwrap();

    let preview = winback::PreviewWinbackMailRequest {
        customer: "customers/0000".into(),
        template: Standard.into(),
        ..Default::default()
    };
    let shown = client
        .winback_templates()
        .preview_winback_mail(preview)
        .await;
    let shown = shown.unwrap().into_inner();
    assert_eq!((&shown.brand[..], shown.template_version), ("brands/sw", 2));
    assert_eq!(shown.subject, "Schöne Grüße, Jürgen!");
    assert_eq!(shown.values["letzte_bestellung"], "09.03.2026");
    assert!(
        !shown.values.contains_key("firmenname"),
        "empty ones are left out"
    );

    let first = mail(&client, &case_of(&server, "0000").await, Standard).await;
    let second = mail(&client, &case_of(&server, "0001").await, Standard).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.brand, "brands/sw");
    for queued in [&first, &second] {
        until_state(&client, &queued.message, messages::MessageState::Sent).await;
    }
    let found = message(&client, &first.message).await;
    assert_eq!((&found.offer[..], &found.outbound[..]), ("", ""));
    assert_eq!(found.winback_case, case_of(&server, "0000").await);

    let days = chrono::Utc::now()
        .with_timezone(&chrono_tz::Europe::Berlin)
        .date_naive()
        - "2026-03-09".parse::<chrono::NaiveDate>().unwrap();
    let mail = mail_to(&server, &address(0)).unwrap();
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.subject().unwrap(), "Schöne Grüße, Jürgen!");
    let from = parsed.from().unwrap().first().unwrap();
    assert_eq!(from.name().unwrap(), "Jörg von den Stadtwerken");
    assert_eq!(from.address().unwrap(), "info@sw.example");
    assert_eq!(
        parsed.body_text(0).unwrap().trim(),
        format!(
            "Jürgen Größe <b>|Jürgen|Größe <b>|privat|Lindau (Bodensee)|Deutschland|{}|0000|\
             Endkunde|09.03.2026|{}|Obst & Gemüse",
            address(0),
            days.num_days()
        )
    );
    let html = parsed.body_html(0).unwrap();
    assert!(
        html.contains("<p>Liebe Größe &lt;b&gt;, Obst &amp; Gemüse</p>"),
        "{html}"
    );
    let mail = mail_to(&server, &address(1)).unwrap();
    let parsed = MessageParser::default().parse(&mail.data).unwrap();
    assert_eq!(parsed.subject().unwrap(), "Schöne Grüße, Kunde!");
    assert_eq!(
        parsed.body_text(0).unwrap().trim(),
        format!(
            "?|Kunde|-|Müller & Söhne GmbH||Österreich|{}|0001|keine|nie|0|nichts",
            address(1)
        )
    );
    assert!(
        parsed
            .body_html(0)
            .unwrap()
            .contains("Liebe Leute &amp; Freunde, ")
    );
    let kinds =
        "SELECT string_agg(kind || ' ' || from_state || ' ' || to_state || ' ' || actor, ','
                                   ORDER BY id) FROM winback_case_event";
    let told = server.database.one(kinds).await.unwrap();
    let one = "mailed declining mailed users/anna";
    assert_eq!(told, format!("{one},{one}"));
}

#[tokio::test]
async fn templates_are_refused_with_all_that_is_wrong() {
    let server = TestServer::start().await.unwrap();
    let client = ready(&server, 1, 0).await;
    let wrong = content(
        "{{var:vornahme:\"x\"}}",
        "Guten Tag\n{{var:ort:x}} {{var:gutschein:\"\"}}",
        "{{var:land:\"\"}} {{ plz }} {% if %}",
    );
    let refused = save_template(&client, "sw", Standard, wrong).await;
    let told = violations(&refused.unwrap_err());
    let at = |field: &str, place: &str| {
        let field = format!("template.message.{field}");
        told.iter()
            .any(|(f, why)| *f == field && why.starts_with(place))
    };
    assert!(
        at("subject", "line 1, column 7: unknown variable `vornahme`"),
        "{told:?}"
    );
    assert!(at("text_body", "line 2, column 11: "), "{told:?}");
    assert!(
        at(
            "text_body",
            "line 2, column 21: unknown variable `gutschein`"
        ),
        "{told:?}"
    );
    assert!(at("html_body", "line 1, column "), "{told:?}");

    let without = content("Ein Gutschein", "ohne Code", "");
    let refused = save_template(&client, "sw", Voucher, without).await;
    let told = violations(&refused.unwrap_err());
    assert_eq!(told[0].0, "template.message.text_body");
    assert!(told[0].1.contains("{{var:gutschein:"), "{told:?}");
    let missing = content("", "", "");
    let refused = save_template(&client, "sw", Standard, missing).await;
    refused::names(
        &refused.unwrap_err(),
        &["template.message.subject", "template.message.text_body"],
    );

    let wrong = winback::UpdateWinbackSenderRequest {
        winback_sender: Some(winback::WinbackSender {
            name: "winbackSenders/sw".into(),
            channel_account: "channelAccounts/nirgends".into(),
            purpose: "Für alle".into(),
            sender_email: "niemand".into(),
            voucher_pool: "brands/sw/voucherPools/winter".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let refused = client
        .winback_templates()
        .update_winback_sender(wrong)
        .await;
    let fields = ["channel_account", "purpose", "sender_email", "voucher_pool"];
    let fields = fields.map(|field| format!("winback_sender.{field}"));
    refused::names(&refused.unwrap_err(), &fields.each_ref().map(|f| &f[..]));
}

#[tokio::test]
async fn who_may_not_be_mailed_is_not() {
    let server = TestServer::start().await.unwrap();
    let client = ready(&server, 9, 1).await;
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0001,mail,marketing,withdrawn,2026-05-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    let blocked = format!("channel,address\nmail,{}\n", address(2));
    import(&client, ImportEntity::Suppressions, blocked).await;
    execute(
        &server,
        "UPDATE winback_case w SET state = 'won_back', closed_on = current_date
         FROM customer c WHERE c.id = w.customer_id AND c.number = '0003';
         UPDATE winback_case w SET held_by = 'users/ben', claim_id = gen_random_uuid(),
                held_until = now() + interval '5 minutes'
         FROM customer c WHERE c.id = w.customer_id AND c.number = '0004';
         DELETE FROM contact_point p USING customer c
         WHERE c.id = p.customer_id AND c.number = '0005'",
    )
    .await;
    let case = async |number: &str| case_of(&server, number).await;
    for (number, reason, words) in [
        ("0001", "PRECONDITION", "not consented"),
        ("0002", "PRECONDITION", "blocked"),
        ("0003", "ILLEGAL_TRANSITION", "closed"),
        ("0004", "ILLEGAL_TRANSITION", "users/ben works on the case"),
        ("0005", "PRECONDITION", "no mail address"),
    ] {
        let name = case(number).await;
        let status = mail(&client, &name, Standard).await.unwrap_err();
        let (subject, description) = refused::precondition(&status, reason);
        assert_eq!(subject, name);
        assert!(description.contains(words), "{number}: {description}");
    }
    assert_eq!(
        server
            .database
            .one("SELECT count(*) FROM winback_mail")
            .await
            .unwrap(),
        "0"
    );

    // A template goes out once, and the pool has one code.
    let name = case("0006").await;
    let voucher = mail(&client, &name, Voucher).await.unwrap();
    assert!(voucher.voucher_code.starts_with("S-"), "{voucher:?}");
    let again = mail(&client, &name, Voucher).await.unwrap_err();
    refused::precondition(&again, "ILLEGAL_TRANSITION");
    mail(&client, &name, Standard).await.unwrap();
    let empty = mail(&client, &case("0007").await, Voucher)
        .await
        .unwrap_err();
    let (subject, description) = refused::precondition(&empty, "PRECONDITION");
    assert_eq!(subject, POOL);
    assert!(description.contains("no voucher is left"), "{description}");
    let counted = pool(&client).await;
    assert_eq!((counted.voucher_count, counted.left_count), (1, 0));
    let unknown = format!("winbackCases/{}", uuid::Uuid::now_v7());
    refused::not_found(&mail(&client, &unknown, Standard).await.unwrap_err());
    // A preview takes no code.
    let preview = winback::PreviewWinbackMailRequest {
        customer: "customers/0007".into(),
        template: Voucher.into(),
        ..Default::default()
    };
    let shown = client
        .winback_templates()
        .preview_winback_mail(preview)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.text_body, "Ihr Code: XXXX-XXXX");
    assert_eq!(pool(&client).await, counted);
}

#[tokio::test]
async fn a_mail_goes_by_claim_and_etag() {
    let server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 1, 1).await;
    let name = case_of(&server, "0000").await;
    let seen = super::desk::get(&client, &name).await;
    let lost = super::desk::claim(&client, &name, "anna").await.unwrap();
    let claim = super::desk::claim(&client, &name, "anna").await.unwrap();
    let request = winback::MailWinbackCaseRequest {
        name: name.clone(),
        template: Standard.into(),
        worker: "users/anna".into(),
        claim: lost.claim,
        etag: seen.etag.clone(),
        ..Default::default()
    };
    let mail = async |request: &winback::MailWinbackCaseRequest| {
        let mut calls = client.winback_mails();
        let mailed = calls.mail_winback_case(request.clone()).await;
        mailed.map(tonic::Response::into_inner)
    };
    let refused = mail(&request).await.unwrap_err();
    let (subject, description) = refused::precondition(&refused, "PRECONDITION");
    assert_eq!(subject, name);
    assert!(description.contains("claim is over"), "{description}");
    let wrong = winback::MailWinbackCaseRequest {
        claim: "1".into(),
        ..request.clone()
    };
    refused::names(&mail(&wrong).await.unwrap_err(), &["claim"]);
    let under = winback::MailWinbackCaseRequest {
        claim: claim.claim,
        ..request
    };
    let done = mail(&under).await.unwrap();
    assert_ne!(done.etag, seen.etag);
    assert_eq!(done.etag, super::desk::get(&client, &name).await.etag);
    // What it has seen is not so any more.
    let again = winback::MailWinbackCaseRequest {
        template: Voucher.into(),
        ..under
    };
    refused::is(
        &mail(&again).await.unwrap_err(),
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let now = winback::MailWinbackCaseRequest {
        etag: done.etag,
        ..again
    };
    mail(&now).await.unwrap();
}

#[tokio::test]
async fn what_changes_before_the_sending_counts() {
    let mut server = TestServer::start_with(Options {
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 4, 1).await;
    let mut queued = Vec::new();
    for number in ["0000", "0001", "0002"] {
        let case = case_of(&server, number).await;
        queued.push(mail(&client, &case, Standard).await.unwrap().message);
    }
    let voucher = mail(&client, &case_of(&server, "0003").await, Voucher).await;
    queued.push(voucher.unwrap().message);
    let consents = "customer_number,channel,purpose,state,recorded_at\n\
                    0000,mail,marketing,withdrawn,2026-05-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, consents).await;
    execute(
        &server,
        "UPDATE winback_case w SET state = 'won_back', closed_on = current_date
         FROM customer c WHERE c.id = w.customer_id AND c.number = '0001';
         UPDATE voucher_pool SET valid_until = current_date - 2",
    )
    .await;
    let config = server.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("enabled = false", "enabled = true")).unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until_state(&client, &queued[0], messages::MessageState::Suppressed).await;
    until_state(&client, &queued[1], messages::MessageState::Cancelled).await;
    until_state(&client, &queued[2], messages::MessageState::Sent).await;
    until_state(&client, &queued[3], messages::MessageState::Suppressed).await;
    let detail = message(&client, &queued[3]).await.detail;
    assert_eq!(detail, "the last day of the voucher is over");
    assert_eq!(server.sink.received().len(), 1);
}

#[tokio::test]
async fn an_account_that_a_sender_names_stays_or_is_replaced() {
    use anklang_proto::anklang::channels::v1 as channels;
    let server = TestServer::start().await.unwrap();
    let client = ready(&server, 1, 0).await;
    for id in ["eins", "zwei"] {
        crate::accounts::create(&client, id, "mail", crate::accounts::relay(&server.sink)).await;
    }
    save_sender(&client, "sw", "eins", POOL).await;
    let mut request = channels::DeleteChannelAccountRequest {
        name: "channelAccounts/eins".into(),
        ..Default::default()
    };
    let refused = client
        .channels()
        .delete_channel_account(request.clone())
        .await;
    let (_, description) = refused::precondition(&refused.unwrap_err(), "PRECONDITION");
    assert!(description.contains("winbackSenders/sw"), "{description}");
    request.replacement = "channelAccounts/zwei".into();
    let deleted = client.channels().delete_channel_account(request).await;
    deleted.unwrap();
    let sender = winback::GetWinbackSenderRequest {
        name: "winbackSenders/sw".into(),
    };
    let sender = client.winback_templates().get_winback_sender(sender).await;
    let sender = sender.unwrap().into_inner();
    assert_eq!(sender.channel_account, "channelAccounts/zwei");
    assert_eq!(sender.templates, [i32::from(Standard), i32::from(Voucher)]);
    let queued = mail(&client, &case_of(&server, "0000").await, Standard).await;
    let queued = queued.unwrap();
    until_state(&client, &queued.message, messages::MessageState::Sent).await;
}

#[tokio::test]
async fn the_link_withdraws_consent() {
    let server = TestServer::start_with(Options {
        config: "[public]\nurl = 'https://post.sw.example/'".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 1, 1).await;
    let standard = content("Hallo", "Abmelden: {{ unsubscribe_url }}", "");
    save_template(&client, "sw", Standard, standard)
        .await
        .unwrap();
    let case = case_of(&server, "0000").await;
    let queued = mail(&client, &case, Standard).await.unwrap();
    until_state(&client, &queued.message, messages::MessageState::Sent).await;
    let mail_of = mail_to(&server, &address(0)).unwrap();
    let parsed = MessageParser::default().parse(&mail_of.data).unwrap();
    let header = parsed.header_raw("List-Unsubscribe").unwrap().trim();
    let text = parsed.body_text(0).unwrap().trim().to_owned();
    let url = text.strip_prefix("Abmelden: ").unwrap();
    assert_eq!(header, format!("<{url}>"));
    let path = url.strip_prefix("https://post.sw.example").unwrap();
    let (status, page) = crate::unsubscribe::http(server.addr, "GET", path, "").await;
    assert!(status == 200 && page.contains("Stadtwerke"), "{page}");
    let one_click = "List-Unsubscribe=One-Click";
    let (status, _) = crate::unsubscribe::http(server.addr, "POST", path, one_click).await;
    assert_eq!(status, 200);
    let refused = mail(&client, &case, Voucher).await.unwrap_err();
    let (_, description) = refused::precondition(&refused, "PRECONDITION");
    assert!(description.contains("blocked"), "{description}");
}

#[tokio::test]
async fn mailjet_gets_the_values_as_variables() {
    let mailjet = Fake::start().await;
    let server = TestServer::start_with(Options {
        config: format!(
            "[channel_accounts.mj]\nplugin = 'mail'\n[channel_accounts.mj.config]\n\
             type = 'mailjet'\napi_key = '{API_KEY}'\nsecret_key = '{SECRET_KEY}'\n\
             base_url = '{}'",
            mailjet.url()
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = ready(&server, 1, 1).await;
    order(&client, "0000").await;
    save_sender(&client, "sw", "mj", POOL).await;
    let provider = templates::MessageContent {
        provider_template: Some(templates::ProviderTemplate {
            id: "4711".into(),
            variables: [(
                "anrede".to_owned(),
                "Hallo {{var:vorname:\"Kunde\"}}".to_owned(),
            )]
            .into(),
        }),
        ..Default::default()
    };
    save_template(&client, "sw", Voucher, provider)
        .await
        .unwrap();
    let queued = mail(&client, &case_of(&server, "0000").await, Voucher).await;
    let queued = queued.unwrap();
    until_state(&client, &queued.message, messages::MessageState::Sent).await;
    let taken = mailjet.taken();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0]["TemplateID"], 4711);
    let variables = &taken[0]["Variables"];
    assert_eq!(variables["anrede"], "Hallo Kunde");
    assert_eq!(variables["nachname"], "Muster");
    assert_eq!(variables["letzte_bestellung"], "09.03.2026");
    assert_eq!(variables["letzte_warengruppe"], "Obst & Gemüse");
    assert_eq!(variables["gutschein"], queued.voucher_code);
    assert!(variables.get("vorname").is_none(), "its own fallback holds");
}

/// What a tenant has of winback's mails: two of everything, and a case that got the voucher template.
pub async fn populate(
    server: &TestServer,
    client: &Client,
    slug: &str,
    brand: &str,
) -> [String; 2] {
    let pools = ["sommer", "winter"].map(|id| format!("brands/{brand}/voucherPools/{id}"));
    for name in &pools {
        save_pool(client, name, 3).await;
    }
    save_sender(client, brand, "mail", &pools[0]).await;
    let standard = content("Hallo", "Hallo {{ name }}", "");
    save_template(client, brand, Standard, standard)
        .await
        .unwrap();
    let voucher = content("Hallo", "{{ gutschein }}", "");
    save_template(client, brand, Voucher, voucher)
        .await
        .unwrap();
    let case = case_of(server, "W1").await;
    let queued = mail(client, &case, Voucher).await.unwrap();
    until_state(client, &queued.message, messages::MessageState::Sent).await;
    // Who is drifting away is for detection to find.
    let sql = format!(
        "INSERT INTO winback_mailing (tenant_id, id, template, control_percent, window_days, currency,
                                      drawn_on)
         SELECT id, gen_random_uuid(), 'standard', 10, 90, 'EUR', current_date
         FROM tenant, generate_series(1, 2) WHERE slug = '{slug}';
         INSERT INTO winback_mailing_member (tenant_id, mailing_id, case_id, customer_id)
         SELECT m.tenant_id, m.id, w.id, w.customer_id
         FROM winback_mailing m JOIN winback_case w USING (tenant_id);
         INSERT INTO winback_control (tenant_id, mailing_id, customer_id, case_id)
         SELECT tenant_id, mailing_id, customer_id, case_id FROM winback_mailing_member;"
    );
    execute(server, &sql).await;
    let mailing = server
        .database
        .one("SELECT 'winbackMailings/' || min(id::text) FROM winback_mailing")
        .await;
    [case, mailing.unwrap()]
}
