//! A brand's own templates: versions, and what is refused.

use anklang_proto::anklang::offers::v1::OfferState;
use anklang_proto::anklang::templates::v1 as pb;
use anklang_testkit::{Client, TestServer, violations};
use mail_parser::MessageParser;
use tonic::Status;

use crate::refused;
use crate::story::{download, pdf_text};
use crate::utility::{FEW, german_money, launch, offers_of, until_sent, with_utility};

const MAIL: &str = "brands/linden/templates/offer_mail.de";
const LETTER: &str = "brands/linden/templates/offer_letter.de";

fn mail(name: &str, subject: &str, text: &str, html: &str) -> pb::UpdateTemplateRequest {
    with(
        name,
        pb::template::Content::Message(pb::MessageContent {
            subject: subject.into(),
            text_body: text.into(),
            html_body: html.into(),
            ..Default::default()
        }),
    )
}

fn letter(name: &str, source: &str) -> pb::UpdateTemplateRequest {
    with(
        name,
        pb::template::Content::Document(pb::DocumentContent {
            typst_source: source.into(),
        }),
    )
}

fn with(name: &str, content: pb::template::Content) -> pb::UpdateTemplateRequest {
    pb::UpdateTemplateRequest {
        template: Some(pb::Template {
            name: name.into(),
            content: Some(content),
            ..Default::default()
        }),
        allow_missing: true,
        ..Default::default()
    }
}

async fn save(client: &Client, request: pb::UpdateTemplateRequest) -> Result<pb::Template, Status> {
    client
        .templates()
        .update_template(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn get(client: &Client, name: &str) -> Result<pb::Template, Status> {
    let request = pb::GetTemplateRequest { name: name.into() };
    client
        .templates()
        .get_template(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn mails_can_go_without_documents() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.launch();
    request.outbound.as_mut().unwrap().without_document = true;
    let campaign = launch(&client, request).await.campaign.unwrap().name;
    until_sent(&client, &campaign, utility.members().len()).await;
    for offer in offers_of(&client, &campaign).await.into_values() {
        assert_eq!(offer.document, None);
        assert_eq!(offer.state(), OfferState::Open);
    }
    for mail in server.sink.received() {
        let mail = MessageParser::default().parse(&mail.data).unwrap();
        assert_eq!(mail.attachment_count(), 0);
        let text = mail.body_text(0).unwrap();
        assert!(text.contains("genügt eine kurze Antwort"), "{text}");
        assert!(!text.contains("angehängt"), "{text}");
    }
    assert_eq!(std::fs::read_dir(server.documents()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_brands_own_templates_are_used_at_the_next_launch() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let before = launch(&client, utility.launch())
        .await
        .campaign
        .unwrap()
        .name;
    until_sent(&client, &before, utility.members().len()).await;
    let own = mail(
        MAIL,
        "Neu: {{ offer.number }}",
        "Eigener Text für {{ customer.last_name }}{% if campaign %} in {{ campaign.name }}{% endif %}",
        "<p>{{ offer.annual_amount|money(offer.currency) }}</p>",
    );
    assert_eq!(save(&client, own).await.unwrap().version, 1);
    let source = "#import \"/anklang/de.typ\": money\n\
                  Eigener Brief #sys.inputs.offer.number über #money(sys.inputs.offer.annual_amount)";
    assert_eq!(
        save(&client, letter(LETTER, source)).await.unwrap().version,
        1
    );

    let after = launch(&client, utility.launch())
        .await
        .campaign
        .unwrap()
        .name;
    until_sent(&client, &after, utility.members().len()).await;
    let offers = offers_of(&client, &after).await;
    let mails = server.sink.received().split_off(utility.members().len());
    for (name, contract) in utility.members() {
        let offer = &offers[&name];
        let text = pdf_text(&download(&client, &offer.name).await);
        let mail = mails
            .iter()
            .find(|m| m.rcpt_to[0] == utility.customer_of(contract).mail);
        let mail = MessageParser::default()
            .parse(&mail.unwrap().data)
            .unwrap()
            .into_owned();
        let subject = mail.subject().unwrap().to_owned();
        let document = offer.document.as_ref().unwrap();
        let amount = german_money(contract.annual_cents());
        if contract.brand.code == "linden" {
            assert_eq!(
                text,
                format!("Eigener Brief {} über {amount}", offer.number)
            );
            assert_eq!(
                (&document.template[..], document.template_version),
                (LETTER, 1)
            );
            assert_eq!(subject, format!("Neu: {}", offer.number));
            let body = mail.body_text(0).unwrap();
            let last_name = &utility.customer_of(contract).last_name;
            let wanted = format!("Eigener Text für {last_name} in Ökostrom für alle");
            assert_eq!(body.trim_end(), wanted);
        } else {
            assert!(text.contains("Unser Angebot gilt bis zum"), "{text}");
            assert_eq!(document.template_version, 0);
            assert!(subject.starts_with("Ihr Angebot "), "{subject}");
        }
    }
    // What was made before keeps what it was made with.
    for offer in offers_of(&client, &before).await.into_values() {
        assert_eq!(offer.document.unwrap().template_version, 0);
    }
}

#[tokio::test]
async fn versions_count_changes() {
    let server = TestServer::start().await.unwrap();
    let (client, _) = with_utility(&server, FEW).await;
    let shipped = get(&client, MAIL).await.unwrap();
    assert_eq!((&shipped.name[..], shipped.version), (MAIL, 0));
    let Some(pb::template::Content::Message(content)) = &shipped.content else {
        panic!("a message: {shipped:?}");
    };
    assert!(content.subject.contains("{{ offer.number }}"));
    let shipped = get(&client, LETTER).await.unwrap();
    assert_eq!(shipped.version, 0);
    assert!(matches!(
        shipped.content,
        Some(pb::template::Content::Document(_))
    ));

    let first = save(&client, mail(MAIL, "Eins", "a", "")).await.unwrap();
    assert_eq!(first.version, 1);
    assert_eq!(
        save(&client, mail(MAIL, "Eins", "a", "")).await.unwrap(),
        first
    );
    assert_eq!(
        save(&client, mail(MAIL, "Zwei", "a", ""))
            .await
            .unwrap()
            .version,
        2
    );
    let third = save(&client, mail(MAIL, "Eins", "a", "")).await.unwrap();
    assert_eq!((third.version, &third.content), (3, &first.content));
    assert_eq!(get(&client, MAIL).await.unwrap(), third);
    let listed = pb::ListTemplatesRequest {
        parent: "brands/-".into(),
        ..Default::default()
    };
    let listed = client
        .templates()
        .list_templates(listed)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.templates, [third], "the newest versions alone");

    // A message stays one.
    let status = save(&client, letter(MAIL, "Brief")).await.unwrap_err();
    let (subject, _) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, MAIL);
}

#[tokio::test]
async fn templates_need_a_brand_and_a_good_name() {
    let server = TestServer::start().await.unwrap();
    let (client, _) = with_utility(&server, FEW).await;
    let good = |name: &str| mail(name, "Eins", "a", "");
    let unknown = "brands/none/templates/offer_mail.de";
    refused::not_found(&get(&client, unknown).await.unwrap_err());
    refused::not_found(&save(&client, good(unknown)).await.unwrap_err());
    let other = "brands/linden/templates/spring_mail.de";
    refused::not_found(&get(&client, other).await.unwrap_err());
    let mut request = good(other);
    request.allow_missing = false;
    refused::not_found(&save(&client, request).await.unwrap_err());
    // The shipped one is there and can be changed.
    let mut request = good(MAIL);
    request.allow_missing = false;
    assert_eq!(save(&client, request).await.unwrap().version, 1);

    for name in [
        "",
        "brands/linden",
        "brands/linden/templates/offer_mail",
        "brands/linden/templates/Offer.de",
        "brands/linden/templates/9.de",
        "brands/linden/templates/mail._",
    ] {
        refused::names(
            &save(&client, good(name)).await.unwrap_err(),
            &["template.name"],
        );
        refused::names(&get(&client, name).await.unwrap_err(), &["name"]);
    }
    let nothing = pb::UpdateTemplateRequest {
        template: Some(pb::Template::default()),
        allow_missing: true,
        ..Default::default()
    };
    let status = save(&client, nothing).await.unwrap_err();
    refused::names(&status, &["template.name", "template.content"]);
    let nothing = pb::UpdateTemplateRequest::default();
    refused::names(&save(&client, nothing).await.unwrap_err(), &["template"]);
    let empty = mail(MAIL, "", "", "");
    let status = save(&client, empty).await.unwrap_err();
    refused::names(
        &status,
        &["template.message.subject", "template.message.text_body"],
    );
}

/// Checks fields and places of all faults, in order.
#[track_caller]
fn faults(status: &Status, wanted: &[(&str, &str)]) {
    let found = violations(status);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for ((field, reason), (wanted, place)) in found.iter().zip(wanted) {
        assert_eq!(field, wanted, "{found:#?}");
        assert!(reason.starts_with(place), "{place} in {found:#?}");
    }
}

#[tokio::test]
async fn a_mail_that_does_not_compile_is_refused() {
    let server = TestServer::start().await.unwrap();
    let (client, _) = with_utility(&server, FEW).await;
    let broken = mail(
        MAIL,
        "Angebot {{ offer.numbr }}",
        "Gruß,\n{{ customer.firstname }} {{ weather }}\n",
        "<p>\n  {% if offer %}\n</p>",
    );
    let status = save(&client, broken).await.unwrap_err();
    faults(
        &status,
        &[
            (
                "template.message.subject",
                "line 1, column 12: unknown variable `offer.numbr`",
            ),
            (
                "template.message.text_body",
                "line 2, column 4: unknown variable `customer.firstname`",
            ),
            (
                "template.message.text_body",
                "line 2, column 29: unknown variable `weather`",
            ),
            (
                "template.message.html_body",
                "line 2, column 17: syntax error",
            ),
        ],
    );
    let filter = mail(MAIL, "x", "{{ offer.number|shout }}{% include 'x' %}", "");
    faults(
        &save(&client, filter).await.unwrap_err(),
        &[
            (
                "template.message.text_body",
                "line 1, column 17: unknown filter `shout`",
            ),
            ("template.message.text_body", "line 1, column 28: `include`"),
        ],
    );
    assert_eq!(
        get(&client, MAIL).await.unwrap().version,
        0,
        "nothing was saved"
    );
}

#[tokio::test]
async fn a_letter_that_does_not_compile_is_refused() {
    let server = TestServer::start().await.unwrap();
    let (client, _) = with_utility(&server, FEW).await;
    let field = "template.document.typst_source";
    for (source, places) in [
        (
            "Gut\n#let x = \nGrüße #(1 +",
            &[
                "line 2, column 9: ",
                "line 3, column 8: ",
                "line 3, column 12: ",
            ][..],
        ),
        ("Guten Tag\n#sys.inputs.offer.numbr", &["line 2, column "]),
        ("#read(\"/etc/passwd\")", &["line 1, column "]),
        (
            "#import \"@preview/cetz:0.3.1\": canvas",
            &["line 1, column "],
        ),
    ] {
        let status = save(&client, letter(LETTER, source)).await.unwrap_err();
        let wanted: Vec<_> = places.iter().map(|place| (field, *place)).collect();
        faults(&status, &wanted);
    }
    let long = letter(LETTER, &"a".repeat(500_001));
    refused::names(&save(&client, long).await.unwrap_err(), &[field]);
    assert_eq!(
        get(&client, LETTER).await.unwrap().version,
        0,
        "nothing was saved"
    );
}
