//! Previews of templates: what they show, what is refused, and that nothing stays.

use anklang_proto::anklang::templates::v1 as pb;
use anklang_testkit::{Client, TestServer, violations};
use pb::preview_template_request::{Content, Data};
use tonic::{Code, Status};

use crate::refused;
use crate::story::pdf_text;
use crate::utility::{Case, FEW, TARGET, german_money, with_utility};

const MAIL: &str = "brands/linden/templates/offer_mail.de";
const LETTER: &str = "brands/linden/templates/offer_letter.de";

fn of(name: &str, content: Option<Content>, data: Option<Data>) -> pb::PreviewTemplateRequest {
    pb::PreviewTemplateRequest {
        name: name.into(),
        content,
        data,
        product_version: String::new(),
    }
}

fn mail(subject: &str, text: &str, html: &str) -> Option<Content> {
    Some(Content::Message(pb::MessageContent {
        subject: subject.into(),
        text_body: text.into(),
        html_body: html.into(),
        ..Default::default()
    }))
}

fn letter(source: &str) -> Option<Content> {
    Some(Content::Document(pb::DocumentContent {
        typst_source: source.into(),
    }))
}

async fn show(
    client: &Client,
    request: pb::PreviewTemplateRequest,
) -> Result<pb::PreviewTemplateResponse, Status> {
    let shown = client.templates().preview_template(request).await;
    shown.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn previews_show_a_tenants_data_and_make_up_the_rest() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let contract = utility.first(Case::Plain);
    let customer = utility.customer_of(contract);
    let everything = "{{ customer.salutation_line }} {{ customer.number }}, {{ contract.number }}, \
                      {{ brand.name }}: {{ offer.annual_amount|money(offer.currency) }}";
    let content = || {
        mail(
            "An {{ customer.display_name }}",
            everything,
            "<b>{{ brand.name }}</b>",
        )
    };

    // Made up, but for the brand.
    let shown = show(&client, of(MAIL, content(), None)).await.unwrap();
    let message = shown.message.unwrap();
    assert_eq!(message.subject, "An Dr. Eva-Maria Müller");
    assert!(
        message
            .text_body
            .starts_with("Sehr geehrte Frau Dr. Müller, 100042, V-200311-7")
    );
    assert!(message.html_body.contains("Lindenstrom"));
    assert!(shown.pdf.is_empty());

    let data = Data::Customer(format!("customers/{}", customer.number));
    let shown = show(&client, of(MAIL, content(), Some(data)))
        .await
        .unwrap();
    let text = shown.message.unwrap().text_body;
    let start = format!(
        "{} {}, V-200311-7",
        customer.salutation_line(),
        customer.number
    );
    assert!(text.starts_with(&start), "{text}");

    // A contract brings its quantity, a version its prices.
    let data = || Some(Data::Contract(contract.name()));
    let mut request = of(MAIL, content(), data());
    request.product_version = TARGET.into();
    let text = show(&client, request)
        .await
        .unwrap()
        .message
        .unwrap()
        .text_body
        .replace('\u{a0}', " ");
    assert!(text.contains(&contract.number), "{text}");
    assert!(
        text.ends_with(&german_money(contract.annual_cents())),
        "{text}"
    );

    // The shipped letter, with an offer.
    let offer = client
        .offers()
        .create_offer(utility.switch(contract))
        .await
        .unwrap();
    let offer = offer.into_inner();
    let shown = show(&client, of(LETTER, None, Some(Data::Offer(offer.name))))
        .await
        .unwrap();
    assert_eq!((shown.pages, &shown.standard[..]), (2, "PDF/A-2b"));
    assert_eq!((shown.message, shown.warnings.len()), (None, 0));
    let text = pdf_text(&shown.pdf);
    for part in [
        &offer.number,
        &customer.last_name,
        &german_money(contract.annual_cents()),
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }

    let odd = letter("#set text(font: \"Comic Sans MS\")\n#sys.inputs.customer.number");
    let shown = show(&client, of(LETTER, odd, data())).await.unwrap();
    assert_eq!(pdf_text(&shown.pdf), customer.number);
    assert!(
        shown.warnings[0].starts_with("line 1, column "),
        "{:?}",
        shown.warnings
    );

    // Nothing stays.
    let rows =
        "SELECT concat_ws(' ', (SELECT count(*) FROM template), (SELECT count(*) FROM offer),
                (SELECT count(*) FROM document), (SELECT count(*) FROM message))";
    assert_eq!(server.database.one(rows).await.unwrap(), "0 1 1 0");
    assert_eq!(server.sink.count(), 0);
}

#[tokio::test]
async fn all_faults_of_a_preview_are_told_with_their_places() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let broken = mail("{{ offer.numbr }}", "Gruß\n{{ nobody }}", "");
    let status = show(&client, of(MAIL, broken, None)).await.unwrap_err();
    refused::names(&status, &["message.subject", "message.text_body"]);
    assert!(
        violations(&status)[1].1.starts_with("line 2, column 4: "),
        "{status:?}"
    );
    let broken = letter("a\n#sys.inputs.offer.numbr\n");
    let status = show(&client, of(LETTER, broken, None)).await.unwrap_err();
    refused::names(&status, &["document.typst_source"]);
    assert!(
        violations(&status)[0].1.starts_with("line 2, column "),
        "{status:?}"
    );

    // Only with this data.
    let contract = utility.first(Case::Plain);
    let picky =
        letter("#assert(sys.inputs.contract.number != \"V0001\", message: \"not this one\")");
    let data = Some(Data::Contract(contract.name()));
    let status = show(&client, of(LETTER, picky, data)).await.unwrap_err();
    refused::names(&status, &["document.typst_source"]);
    assert!(
        violations(&status)[0].1.contains("not this one"),
        "{status:?}"
    );

    let many = letter("#for _ in range(300) { pagebreak() }");
    let status = show(&client, of(LETTER, many, None)).await.unwrap_err();
    assert!(
        violations(&status)[0].1.contains("more than 200 pages"),
        "{status:?}"
    );

    let mut wrong = of("brands/linden", None, Some(Data::Offer("offers".into())));
    wrong.product_version = TARGET.into();
    let status = show(&client, wrong).await.unwrap_err();
    refused::names(&status, &["name", "offer", "product_version"]);
    for (name, data) in [
        (MAIL, Some(Data::Customer("customers/nobody".into()))),
        (MAIL, Some(Data::Contract("contracts/none".into()))),
        (MAIL, Some(Data::Offer("offers/A-1".into()))),
        ("brands/none/templates/offer_mail.de", None),
        ("brands/linden/templates/other_mail.de", None),
    ] {
        refused::not_found(&show(&client, of(name, None, data)).await.unwrap_err());
    }
}

#[tokio::test]
async fn a_letter_without_end_is_given_up_and_keeps_nobody_waiting() {
    let server = TestServer::start().await.unwrap();
    let (client, _) = with_utility(&server, FEW).await;
    let endless = "#for i in range(50000) { for j in range(50000) { let x = i * j } }";
    let status = show(&client, of(LETTER, letter(endless), None))
        .await
        .unwrap_err();
    refused::is(&status, Code::InvalidArgument, "INVALID_ARGUMENT");
    let told = violations(&status);
    assert!(told[0].1.contains("longer than 20 seconds"), "{told:?}");
    let shown = show(&client, of(LETTER, letter("Guten Tag"), None))
        .await
        .unwrap();
    assert_eq!(pdf_text(&shown.pdf), "Guten Tag");
}
