//! The whole job as its users see it: import, selection, preview, launch, mails with letters,
//! answers, infoboard, history. Through the kit's mail server, and through two foreign ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write as _;
use std::process::{Command, Stdio};

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_testkit::{Client, TestServer};
use mail_parser::{MessageParser, MimeHeaders, PartType};
use sha2::{Digest, Sha256};

use crate::relays::{self, Mail};
use crate::utility::{
    Case, Contract, EVERY_CASE, Fate, Reason, TARGET, Utility, criteria, german_money, infoboard,
    launch, money, offers_of, target_prices, until_sent, with_utility,
};

/// A campaign whose mails are out.
struct Story {
    client: Client,
    utility: Utility,
    /// The selection that was saved.
    selection: String,
    launched: campaigns::LaunchCampaignResponse,
    /// By contract.
    offers: HashMap<String, offers::Offer>,
}

impl Story {
    async fn begin(server: &TestServer) -> Self {
        let (client, utility) = with_utility(server, EVERY_CASE).await;
        let selection = save_selection(&client).await;
        let mut request = utility.launch();
        request.audience = Some(campaigns::launch_campaign_request::Audience::Selection(
            selection.clone(),
        ));
        let launched = launch(&client, request).await;
        let campaign = launched.campaign.as_ref().unwrap().name.clone();
        let offers = offers_of(&client, &campaign).await;
        until_sent(&client, &campaign, utility.members().len()).await;
        Story {
            client,
            utility,
            selection,
            launched,
            offers,
        }
    }

    fn campaign(&self) -> &campaigns::Campaign {
        self.launched.campaign.as_ref().unwrap()
    }

    fn phase(&self) -> &campaigns::Phase {
        self.launched.phase.as_ref().unwrap()
    }
}

async fn save_selection(client: &Client) -> String {
    let request = selections::CreateSelectionRequest {
        selection: Some(selections::Selection {
            display_name: "Belieferte Konten um Gießen".into(),
            subject: selections::Subject::Contract.into(),
            criteria: Some(criteria()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let saved = client.selections().create_selection(request).await.unwrap();
    saved.into_inner().name
}

#[tokio::test]
async fn from_import_to_answers() {
    let server = TestServer::start().await.unwrap();
    told_by(&server).await;
}

/// The whole story on a server that has nothing yet.
pub async fn told_by(server: &TestServer) {
    let story = Story::begin(server).await;
    preview_counts(&story).await;
    audience_adds_up(&story).await;
    phase_says_what_it_was_made_of(&story);
    offers_are_right(&story);
    let documents = documents_are_right(&story).await;
    messages_are_recorded(&story).await;
    let received = server.sink.received().into_iter();
    let received: Vec<Mail> = received
        .map(|mail| Mail {
            recipients: mail.rcpt_to,
            bytes: mail.data,
        })
        .collect();
    mails_are_right(&story, &documents, &received);
    answers_are_counted(&story).await;
}

#[tokio::test]
async fn mails_go_through_the_smtp_sink_of_postfix() {
    let Some(relay) = relays::postfix_sink() else {
        return;
    };
    through(relay).await;
}

#[tokio::test]
async fn mails_go_through_aiosmtpd_with_starttls_and_login() {
    let Some(relay) = relays::aiosmtpd() else {
        return;
    };
    through(relay).await;
}

async fn through(relay: relays::Relay) {
    let options = anklang_testkit::Options {
        relay: Some(relay.settings()),
        ..Default::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let story = Story::begin(&server).await;
    let documents = documents_are_right(&story).await;
    mails_are_right(&story, &documents, &relay.mails());
    assert_eq!(server.sink.count(), 0, "mails went elsewhere");
}

async fn preview_counts(story: &Story) {
    let request = selections::PreviewSelectionRequest {
        source: Some(selections::preview_selection_request::Source::Selection(
            story.selection.clone(),
        )),
        sample_size: 7,
        ..Default::default()
    };
    let preview = story
        .client
        .selections()
        .preview_selection(request)
        .await
        .unwrap();
    let preview = preview.into_inner();
    let utility = &story.utility;
    let found = utility
        .contracts
        .iter()
        .filter(|c| c.case.fate() != Fate::NotFound);
    let found: Vec<&Contract> = found.collect();
    assert_eq!(preview.count, found.len() as i64);
    let different: BTreeSet<usize> = found.iter().map(|c| c.customer).collect();
    assert_eq!(preview.customers, different.len() as i64);
    assert_eq!(preview.sample.len(), 7);
    for row in &preview.sample {
        let contract = found.iter().find(|c| c.name() == row.contract).unwrap();
        let customer = utility.customer_of(contract);
        let plain = customer.display_name().replace(customer.title, "");
        assert_eq!(row.display_name, plain.trim_start());
        assert_eq!(row.place, format!("{} Gießen", contract.postal_code));
    }
}

async fn audience_adds_up(story: &Story) {
    let (members, excluded) = (story.utility.members(), story.utility.excluded());
    let launched = &story.launched;
    assert_eq!(launched.candidates, (members.len() + excluded.len()) as i64);
    assert_eq!(launched.members, members.len() as i64);
    assert_eq!(launched.excluded, excluded.len() as i64);

    let mut listed = BTreeMap::new();
    for member in candidates(story, Default::default(), Default::default()).await {
        assert!(!member.customer.is_empty());
        assert_eq!(
            member.offer.is_empty(),
            member.exclusion_reason() != Reason::Unspecified
        );
        listed.insert(member.contract.clone(), member.exclusion_reason());
    }
    let mut expected = excluded.clone();
    expected.extend(
        members
            .keys()
            .map(|name| (name.clone(), Reason::Unspecified)),
    );
    assert_eq!(listed, expected);

    let side = candidates(story, campaigns::AudienceSide::Members, Default::default()).await;
    assert_eq!(side.len(), members.len());
    let side = candidates(story, campaigns::AudienceSide::Excluded, Default::default()).await;
    assert_eq!(side.len(), excluded.len());
    for reason in excluded.values() {
        let found = candidates(story, Default::default(), *reason).await;
        let expected = excluded.values().filter(|r| *r == reason).count();
        assert_eq!(found.len(), expected, "{reason:?}");
        assert!(found.iter().all(|m| m.exclusion_reason() == *reason));
    }
}

async fn candidates(
    story: &Story,
    side: campaigns::AudienceSide,
    reason: Reason,
) -> Vec<campaigns::AudienceMember> {
    let request = campaigns::ListAudienceMembersRequest {
        parent: story.phase().name.clone(),
        page_size: 1_000,
        side: side.into(),
        exclusion_reason: reason.into(),
        ..Default::default()
    };
    let listed = story
        .client
        .campaigns()
        .list_audience_members(request)
        .await
        .unwrap();
    listed.into_inner().audience_members
}

fn phase_says_what_it_was_made_of(story: &Story) {
    let phase = story.phase();
    assert_eq!(phase.name, format!("{}/phases/1", story.campaign().name));
    assert_eq!(phase.display_name, "Phase 1");
    assert_eq!(phase.state(), campaigns::PhaseState::Active);
    assert_eq!(phase.target_product_version, TARGET);
    assert_eq!(
        (&phase.selection, phase.selection_version),
        (&story.selection, 1)
    );
    assert_eq!(phase.offer_valid_until_date, story.utility.day(30));
    assert_eq!(phase.criteria.as_ref().unwrap().criteria, Some(criteria()));
    assert_eq!(story.campaign().planned_start_date, story.utility.day(1));
    let [outbound] = &phase.outbounds[..] else {
        panic!("one outbound: {:?}", phase.outbounds);
    };
    assert_eq!(outbound.name, format!("{}/outbounds/1", phase.name));
    assert_eq!(
        (&outbound.channel[..], &outbound.purpose[..]),
        ("mail", "marketing")
    );
}

fn offers_are_right(story: &Story) {
    let members = story.utility.members();
    let numbers: BTreeSet<String> = story.offers.values().map(|o| o.number.clone()).collect();
    let gapless: BTreeSet<String> = (1..=members.len()).map(|n| format!("A-{n:08}")).collect();
    assert_eq!(numbers, gapless);
    let [base, unit] = target_prices();
    for (name, contract) in &members {
        let offer = &story.offers[name];
        let customer = story.utility.customer_of(contract);
        assert_eq!(offer.name, format!("offers/{}", offer.number));
        assert_eq!(
            offer.customer,
            format!("customers/{}", crate::utility::escaped(&customer.number))
        );
        assert_eq!(offer.product_version, TARGET);
        assert_eq!(offer.phase, story.phase().name);
        assert_eq!(offer.state(), offers::OfferState::Open);
        assert_eq!(offer.base_price_per_year, Some(base.clone()));
        assert_eq!(offer.unit_price_per_kwh, Some(unit.clone()));
        assert_eq!(offer.annual_quantity_kwh, contract.quantity_text());
        assert_eq!(
            offer.annual_amount,
            Some(money(contract.annual_cents())),
            "{name}"
        );
        assert_eq!(offer.offer_date, story.utility.day(0));
        assert_eq!(offer.valid_until_date, story.utility.day(30));
        assert_eq!(offer.answer_time, None);
    }
    // 119.40 + 0.289125 × 1,000 = 408.525: half a cent goes up.
    let half = story.utility.first(Case::Idn);
    assert_eq!(
        story.offers[&half.name()].annual_amount,
        Some(money(40_853))
    );
}

/// Downloads every document; gives them by contract.
async fn documents_are_right(story: &Story) -> BTreeMap<String, Vec<u8>> {
    let mut documents = BTreeMap::new();
    for (name, contract) in &story.utility.members() {
        let offer = &story.offers[name];
        let bytes = download(&story.client, &offer.name).await;
        let document = offer.document.as_ref().unwrap();
        assert_eq!(hex::encode(Sha256::digest(&bytes)), document.sha256);
        assert_eq!(bytes.len() as i64, document.size_bytes);
        assert_eq!(document.pages, 2);
        let template = format!("brands/{}/templates/offer_letter.de", contract.brand.code);
        assert_eq!(
            (&document.template, document.template_version),
            (&template, 0)
        );
        assert!(bytes.starts_with(b"%PDF"));
        letter_is_right(story, contract, offer, &pdf_text(&bytes));
        documents.insert(name.clone(), bytes);
    }
    let different: BTreeSet<&Vec<u8>> = documents.values().collect();
    assert_eq!(
        different.len(),
        documents.len(),
        "no two letters are the same"
    );
    documents
}

fn letter_is_right(story: &Story, contract: &Contract, offer: &offers::Offer, text: &str) {
    let customer = story.utility.customer_of(contract);
    let has = |wanted: &str| assert!(text.contains(wanted), "{wanted:?} in {text:?}");
    has(&customer.display_name());
    has(&customer.salutation_line());
    has(&format!("{} {}", customer.street, customer.house_number));
    has(&format!("{} {}", customer.postal_code, customer.city));
    has(&offer.number);
    has(&customer.number);
    has(&contract.number);
    has(contract.brand.legal_name);
    has("Lindenstrom Ökö \"Fix\"");
    has("119,40 € pro Jahr");
    // What is printed is what is charged.
    has("28,9125 ct pro kWh");
    has(&german_money(contract.annual_cents()));
    has(&story.utility.today.format("%d.%m.%Y").to_string());
    let until = story.utility.today + chrono::TimeDelta::days(30);
    has(&until.format("%d.%m.%Y").to_string());
    // An address inside of the country has no line for it.
    assert!(!text.contains(" DE "), "{text}");
}

/// The document of an offer, from all parts of the stream.
pub async fn download(client: &Client, offer: &str) -> Vec<u8> {
    let request = offers::DownloadOfferDocumentRequest { name: offer.into() };
    let stream = client
        .offers()
        .download_offer_document(request)
        .await
        .unwrap();
    let (mut stream, mut bytes) = (stream.into_inner(), Vec::new());
    while let Some(part) = stream.message().await.unwrap() {
        assert!((1..=64 * 1024).contains(&part.data.len()));
        bytes.extend(part.data);
    }
    bytes
}

/// The text of a PDF, with one space between its words.
pub fn pdf_text(pdf: &[u8]) -> String {
    let mut child = Command::new("pdftotext")
        .args(["-layout", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("pdftotext runs; install the package poppler-utils");
    let mut stdin = child.stdin.take().unwrap();
    let bytes = pdf.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "pdftotext: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}

async fn messages_are_recorded(story: &Story) {
    let request = messages::ListMessagesRequest {
        page_size: 1_000,
        campaign: story.campaign().name.clone(),
        ..Default::default()
    };
    let mut client = story.client.messages();
    let listed = client
        .list_messages(request)
        .await
        .unwrap()
        .into_inner()
        .messages;
    assert_eq!(listed.len(), story.offers.len());
    for message in &listed {
        let offer = story
            .offers
            .values()
            .find(|o| o.name == message.offer)
            .unwrap();
        let contract = story.utility.members()[&offer.contract];
        assert_eq!(message.customer, offer.customer);
        assert_eq!(message.address, story.utility.customer_of(contract).mail);
        assert_eq!(message.state(), messages::MessageState::Sent);
        assert_eq!(message.attempt_count, 1);
        assert_eq!(
            message.outbound,
            format!("{}/outbounds/1", story.phase().name)
        );
        assert!(message.send_time.is_some());
    }
    let request = messages::GetMessageRequest {
        name: listed[0].name.clone(),
    };
    let message = client.get_message(request).await.unwrap().into_inner();
    let [attempt] = &message.attempts[..] else {
        panic!("one attempt: {message:?}");
    };
    assert_eq!(attempt.outcome(), messages::AttemptOutcome::Accepted);
    assert!(attempt.end_time.is_some());
}

/// Every member has exactly one mail, with its own letter.
fn mails_are_right(story: &Story, documents: &BTreeMap<String, Vec<u8>>, received: &[Mail]) {
    let members = story.utility.members();
    assert_eq!(received.len(), members.len());
    let mut answered = BTreeSet::new();
    for mail in received {
        let parsed = MessageParser::default().parse(&mail.bytes).unwrap();
        let subject = parsed.subject().unwrap();
        let offer = story
            .offers
            .values()
            .find(|o| subject == format!("Ihr Angebot {}: Lindenstrom Ökö \"Fix\"", o.number));
        let offer = offer.unwrap_or_else(|| panic!("of no offer: {subject}"));
        assert!(answered.insert(offer.number.clone()), "twice: {subject}");
        let contract = members[&offer.contract];
        mail_is_right(story, contract, mail, &parsed);

        let [attached] = &parsed.attachments().collect::<Vec<_>>()[..] else {
            panic!("one attachment");
        };
        let file = format!("Angebot-{}.pdf", offer.number);
        assert_eq!(attached.attachment_name(), Some(&file[..]));
        assert!(attached.is_content_type("application", "pdf"));
        assert!(
            attached.contents() == documents[&offer.contract],
            "{file} differs"
        );
    }
}

fn mail_is_right(
    story: &Story,
    contract: &Contract,
    mail: &Mail,
    parsed: &mail_parser::Message<'_>,
) {
    let customer = story.utility.customer_of(contract);
    assert_eq!(mail.recipients, std::slice::from_ref(&customer.mail));
    let to = parsed.to().unwrap().first().unwrap();
    assert_eq!(to.address(), Some(&customer.mail[..]));
    assert_eq!(to.name(), Some(&customer.display_name()[..]));
    let from = parsed.from().unwrap().first().unwrap();
    let (name, address) = contract.brand.from;
    assert_eq!((from.name(), from.address()), (Some(name), Some(address)));
    let reply_to = parsed.reply_to().and_then(|to| to.first()?.address());
    assert_eq!(reply_to, contract.brand.reply_to);

    let texts: Vec<_> = parsed.text_bodies().collect();
    let htmls: Vec<_> = parsed.html_bodies().collect();
    let ([text], [html]) = (&texts[..], &htmls[..]) else {
        panic!("{} texts, {} htmls", texts.len(), htmls.len());
    };
    let (PartType::Text(text), PartType::Html(html)) = (&text.body, &html.body) else {
        panic!("no text or no html");
    };
    let amount = german_money(contract.annual_cents());
    let plain = |text: &str| text.replace(['\u{a0}', '\u{202f}'], " ");
    for wanted in [&amount[..], "119,40 € pro Jahr", "28,9125 ct pro kWh"] {
        assert!(plain(text).contains(wanted), "{wanted} in {text}");
        assert!(plain(html).contains(wanted), "{wanted} in {html}");
    }
    assert!(text.starts_with(&customer.salutation_line()), "{text}");
    assert!(html.contains("Lindenstrom Ökö &quot;Fix&quot;"), "{html}");
    assert!(text.contains(contract.brand.legal_name) && html.contains(contract.brand.legal_name));
}

async fn answers_are_counted(story: &Story) {
    let mut client = story.client.offers();
    let mut names: Vec<&str> = story.offers.values().map(|o| &o.name[..]).collect();
    names.sort_unstable();
    let single = &story.offers[&story.utility.first(Case::Company).name()];
    names.retain(|name| *name != single.name);
    let (accepted, rest) = names.split_at(5);
    let rejected = &rest[..3];
    for name in accepted.iter().copied().chain([&single.name[..]]) {
        let offer = client
            .accept_offer(accept(name))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(offer.state(), offers::OfferState::Accepted);
        assert_eq!(offer.answer_source, "phone");
        assert!(offer.answer_time.is_some());
    }
    for name in rejected {
        let request = offers::RejectOfferRequest {
            name: (*name).into(),
            source: "letter".into(),
            reason: "zu teuer".into(),
            ..Default::default()
        };
        let offer = client.reject_offer(request).await.unwrap().into_inner();
        assert_eq!(offer.state(), offers::OfferState::Rejected);
        assert_eq!(offer.reject_reason, "zu teuer");
    }
    infoboard_adds_up(story, 6, 3).await;
    history_tells_it(story, single).await;
}

fn accept(name: &str) -> offers::AcceptOfferRequest {
    offers::AcceptOfferRequest {
        name: name.into(),
        source: "phone".into(),
        ..Default::default()
    }
}

async fn infoboard_adds_up(story: &Story, accepted: i64, rejected: i64) {
    let members = story.utility.members().len() as i64;
    let mut expected: BTreeMap<Reason, i64> = BTreeMap::new();
    for reason in story.utility.excluded().into_values() {
        *expected.entry(reason).or_default() += 1;
    }
    let board = infoboard(&story.client, &story.campaign().name).await;
    let [phase] = &board.phases[..] else {
        panic!("one phase: {board:?}");
    };
    assert_eq!(phase.phase, story.phase().name);
    assert_eq!(phase.figures, board.total, "one phase is all");
    let total = board.total.unwrap();
    assert_eq!(
        total.offers,
        Some(campaigns::OfferFigures {
            made: members,
            outstanding: members - accepted - rejected,
            accepted,
            rejected,
            ..Default::default()
        })
    );
    let sent = campaigns::MessageFigures {
        sent: members,
        ..Default::default()
    };
    assert_eq!(total.messages, Some(sent));
    let audience = total.audience.unwrap();
    let excluded = audience.excluded.iter().map(|e| (e.reason(), e.count));
    assert_eq!(excluded.collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(audience.members, members);
    assert_eq!(
        audience.candidates,
        members + expected.values().sum::<i64>()
    );
    let today = campaigns::DayFigures {
        date: story.utility.day(0),
        offers_made: members,
        messages_sent: members,
        offers_accepted: accepted,
        offers_rejected: rejected,
        ..Default::default()
    };
    assert_eq!(board.days, [today]);
}

async fn history_tells_it(story: &Story, offer: &offers::Offer) {
    let request = customers::ListCustomerEventsRequest {
        parent: offer.customer.clone(),
        page_size: 100,
        ..Default::default()
    };
    let listed = story
        .client
        .customers()
        .list_customer_events(request)
        .await
        .unwrap();
    let mut events = listed.into_inner().customer_events;
    events.reverse();
    events.retain(|e| e.kind.starts_with("offer.") || e.kind.starts_with("message."));
    let kinds: Vec<&str> = events.iter().map(|e| &e.kind[..]).collect();
    assert_eq!(kinds, ["offer.created", "message.sent", "offer.accepted"]);
    for event in &events {
        assert_eq!(event.campaign, story.campaign().name);
        assert!(event.event_time.is_some());
    }
    assert_eq!(events[0].resource, offer.name);
    assert!(events[1].resource.starts_with("messages/"));
    assert_eq!(events[2].resource, offer.name);
}
