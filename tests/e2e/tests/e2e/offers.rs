//! Offers one by one: made, answered, expired.

use anklang_proto::anklang::offers::v1 as pb;
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, TestServer};
use pb::OfferState;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::refused;
use crate::story::{download, pdf_text};
use crate::utility::{Case, FEW, OVER, TARGET, Utility, german_money, money, until, with_utility};

async fn create(client: &Client, request: pb::CreateOfferRequest) -> Result<pb::Offer, Status> {
    client
        .offers()
        .create_offer(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn accept(client: &Client, name: &str) -> Result<pb::Offer, Status> {
    let request = pb::AcceptOfferRequest {
        name: name.into(),
        source: "web".into(),
        ..Default::default()
    };
    client
        .offers()
        .accept_offer(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn reject(client: &Client, name: &str) -> Result<pb::Offer, Status> {
    let request = pb::RejectOfferRequest {
        name: name.into(),
        source: "phone".into(),
        reason: "bleibt lieber".into(),
        reason_code: pb::RejectReason::Satisfied.into(),
        ..Default::default()
    };
    client
        .offers()
        .reject_offer(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn get(client: &Client, name: &str) -> pb::Offer {
    let request = pb::GetOfferRequest { name: name.into() };
    client
        .offers()
        .get_offer(request)
        .await
        .unwrap()
        .into_inner()
}

async fn list(client: &Client, states: &[OfferState]) -> Vec<pb::Offer> {
    let request = pb::ListOffersRequest {
        states: states.iter().map(|s| (*s).into()).collect(),
        ..Default::default()
    };
    client
        .offers()
        .list_offers(request)
        .await
        .unwrap()
        .into_inner()
        .offers
}

async fn switch(client: &Client, utility: &Utility) -> pb::Offer {
    create(client, utility.switch(utility.first(Case::Plain)))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_single_switch_follows_the_rules_of_campaigns() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let contract = utility.first(Case::Plain);
    let offer = create(&client, utility.switch(contract)).await.unwrap();
    assert_eq!((&offer.number[..], &offer.phase[..]), ("A-00000001", ""));
    assert_eq!(offer.state(), OfferState::Open);
    assert_eq!(offer.annual_amount, Some(money(contract.annual_cents())));
    assert_eq!(offer.valid_until_date, utility.day(14));
    let text = pdf_text(&download(&client, &offer.name).await);
    assert!(
        text.contains(&german_money(contract.annual_cents())),
        "{text}"
    );

    for (case, words) in [
        (Case::Ended, "ended"),
        (Case::OtherDivision, "division"),
        (Case::OnTarget, "already"),
        (Case::NoQuantity, "quantity"),
    ] {
        let contract = utility.first(case);
        let status = create(&client, utility.switch(contract)).await.unwrap_err();
        let (subject, description) = refused::precondition(&status, "PRECONDITION");
        assert_eq!(subject, contract.name());
        assert!(description.contains(words), "{description}");
    }
    let mut over = utility.switch(contract);
    over.product_version = OVER.into();
    refused::names(
        &create(&client, over).await.unwrap_err(),
        &["product_version"],
    );
    // Consent is for writing to people; whoever asks for an offer gets one.
    let asked = create(&client, utility.switch(utility.first(Case::NeverAsked))).await;
    // Refusals take no number.
    assert_eq!(asked.unwrap().number, "A-00000002");
}

#[tokio::test]
async fn wrong_fields_are_named_together() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let status = create(&client, Default::default()).await.unwrap_err();
    refused::names(
        &status,
        &["contract", "product_version", "valid_until_date"],
    );
    let wrong = pb::CreateOfferRequest {
        contract: "customers/K0001".into(),
        product_version: "products/S-OEKO".into(),
        valid_until_date: Some(Date {
            year: 2027,
            month: 2,
            day: 30,
        }),
        document_template: "Brief!".into(),
        request_id: "17".into(),
        open_offers: 99,
        ..Default::default()
    };
    refused::names(
        &create(&client, wrong).await.unwrap_err(),
        &[
            "contract",
            "product_version",
            "valid_until_date",
            "document_template",
            "request_id",
            "open_offers",
        ],
    );
    for days in [-1, 750] {
        let mut request = utility.switch(utility.first(Case::Plain));
        request.valid_until_date = utility.day(days);
        refused::names(
            &create(&client, request).await.unwrap_err(),
            &["valid_until_date"],
        );
    }
    let long = pb::RejectOfferRequest {
        name: "A-00000001".into(),
        source: "s".repeat(65),
        reason: "r".repeat(1_001),
        reason_code: 99,
        ..Default::default()
    };
    let status = client.offers().reject_offer(long).await.unwrap_err();
    refused::names(&status, &["name", "source", "reason", "reason_code"]);
    let long = pb::WithdrawOfferRequest {
        name: "A-00000001".into(),
        reason: "r".repeat(1_001),
        ..Default::default()
    };
    let status = client.offers().withdraw_offer(long).await.unwrap_err();
    refused::names(&status, &["name", "reason"]);
    let wrong = pb::ListOffersRequest {
        page_size: -1,
        page_token: "x".into(),
        campaign: "campaigns/1".into(),
        customer: "K0001".into(),
        states: vec![OfferState::Open.into(), 99],
        phase: "campaigns/1".into(),
        valid_until_max_date: Some(Date {
            year: 2027,
            month: 13,
            day: 1,
        }),
        reject_reason_codes: vec![99],
        contract: "V0001".into(),
        ..Default::default()
    };
    let status = client.offers().list_offers(wrong).await.unwrap_err();
    refused::names(
        &status,
        &[
            "page_size",
            "page_token",
            "campaign",
            "customer",
            "states[1]",
            "phase",
            "valid_until_max_date",
            "reject_reason_codes[0]",
            "contract",
        ],
    );
    assert_eq!(list(&client, &[]).await, []);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let unknown = "offers/A-00000099";
    refused::not_found(&accept(&client, unknown).await.unwrap_err());
    refused::not_found(&reject(&client, unknown).await.unwrap_err());
    let request = pb::GetOfferRequest {
        name: unknown.into(),
    };
    refused::not_found(&client.offers().get_offer(request).await.unwrap_err());
    let request = pb::DownloadOfferDocumentRequest {
        name: unknown.into(),
    };
    refused::not_found(
        &client
            .offers()
            .download_offer_document(request)
            .await
            .unwrap_err(),
    );

    let good = utility.switch(utility.first(Case::Plain));
    let mut request = good.clone();
    request.contract = "contracts/none".into();
    refused::not_found(&create(&client, request).await.unwrap_err());
    let mut request = good.clone();
    request.product_version = "products/S-OEKO/versions/NONE".into();
    refused::not_found(&create(&client, request).await.unwrap_err());
    let mut request = good;
    request.document_template = "none".into();
    let status = create(&client, request).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    assert_eq!(list(&client, &[]).await, []);
}

#[tokio::test]
async fn an_answer_stays() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let yes = switch(&client, &utility).await;
    let accepted = accept(&client, &yes.name).await.unwrap();
    assert_eq!(accepted.state(), OfferState::Accepted);
    let again = pb::AcceptOfferRequest {
        name: yes.name.clone(),
        source: "letter".into(),
        ..Default::default()
    };
    let again = client
        .offers()
        .accept_offer(again)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, accepted, "the first answer stays as it came");
    let status = reject(&client, &yes.name).await.unwrap_err();
    let (subject, description) = refused::precondition(&status, "ILLEGAL_TRANSITION");
    assert_eq!(subject, yes.name);
    assert!(description.contains("accepted"), "{description}");
    assert_eq!(get(&client, &yes.name).await, accepted);

    let no = switch(&client, &utility).await;
    let rejected = reject(&client, &no.name).await.unwrap();
    assert_eq!(rejected.reject_reason, "bleibt lieber");
    assert_eq!(rejected.reject_reason_code(), pb::RejectReason::Satisfied);
    assert_eq!(reject(&client, &no.name).await.unwrap(), rejected);
    let status = accept(&client, &no.name).await.unwrap_err();
    refused::precondition(&status, "ILLEGAL_TRANSITION");

    assert_eq!(list(&client, &[OfferState::Accepted]).await, [accepted]);
    assert_eq!(list(&client, &[OfferState::Rejected]).await, [rejected]);
    assert_eq!(list(&client, &[OfferState::Open]).await, []);
    // Each answer is told once.
    let told =
        "SELECT count(*) FROM customer_event WHERE kind IN ('offer.accepted', 'offer.rejected')";
    assert_eq!(server.database.one(told).await.unwrap(), "2");
}

#[tokio::test]
async fn an_expired_offer_takes_no_answer() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let answered = switch(&client, &utility).await;
    accept(&client, &answered.name).await.unwrap();
    let open = switch(&client, &utility).await;
    let expired = switch(&client, &utility).await;
    // A fortnight later: the open one is valid until today, the others until yesterday.
    let moved = format!(
        "UPDATE offer SET valid_until = '{}'::date - CASE number WHEN '{}' THEN 0 ELSE 1 END",
        utility.today, open.number
    );
    server
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(&moved)
        .await
        .unwrap();

    assert_eq!(
        get(&client, &expired.name).await.state(),
        OfferState::Expired
    );
    let listed = list(&client, &[OfferState::Expired]).await;
    let names: Vec<&str> = listed.iter().map(|o| &o.name[..]).collect();
    assert_eq!(names, [&expired.name[..]]);
    for status in [
        accept(&client, &expired.name).await.unwrap_err(),
        reject(&client, &expired.name).await.unwrap_err(),
    ] {
        let (subject, _) = refused::precondition(&status, "OFFER_EXPIRED");
        assert_eq!(subject, expired.name);
    }
    assert_eq!(
        get(&client, &answered.name).await.state(),
        OfferState::Accepted
    );
    let last_day = accept(&client, &open.name).await.unwrap();
    assert_eq!(last_day.state(), OfferState::Accepted);
}

/// What only reads as expired becomes so by itself: for selections, and in the history.
#[tokio::test]
async fn an_offer_expires_by_itself() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let expired = switch(&client, &utility).await;
    let open = switch(&client, &utility).await;
    let moved = format!(
        "UPDATE offer SET valid_until = '{}'::date - 1 WHERE number = '{}'",
        utility.today, expired.number
    );
    let database = server.database.connect().await.unwrap();
    database.batch_execute(&moved).await.unwrap();
    // It looks when it starts, and then every minute.
    server.restart().await.unwrap();
    let states = "SELECT string_agg(state, ',' ORDER BY number) FROM offer";
    until("the offer has expired", || async {
        server.database.one(states).await.unwrap() == "expired,open"
    })
    .await;
    let told = "SELECT resource FROM customer_event WHERE kind = 'offer.expired'";
    assert_eq!(server.database.one(told).await.unwrap(), expired.name);
    let client = Client::connect(server.addr, "linden").await.unwrap();
    assert_eq!(get(&client, &open.name).await.state(), OfferState::Open);
}

/// As many as expire together, and one more, leave another tenant waiting for those alone.
#[tokio::test]
async fn many_offers_of_one_tenant_keep_no_other_waiting() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    switch(&client, &utility).await;
    // By its name it comes later.
    let other = server.client("other").await.unwrap();
    let others = Utility::of(FEW);
    others.import(&other).await;
    switch(&other, &others).await;
    let many = format!(
        "UPDATE offer SET valid_until = '{}'::date - 1;
         INSERT INTO offer SELECT (jsonb_populate_record(o, jsonb_build_object(
             'id', gen_random_uuid(), 'number', 'B-' || n))).*
         FROM offer o JOIN tenant t ON t.id = o.tenant_id AND t.slug = 'linden',
              generate_series(1, 5000) n",
        utility.today
    );
    let database = server.database.connect().await.unwrap();
    database.batch_execute(&many).await.unwrap();
    server.restart().await.unwrap();
    let left = "SELECT count(*) FROM offer WHERE state = 'open'";
    until("all have expired", || async {
        server.database.one(left).await.unwrap() == "0"
    })
    .await;
    let in_turn = "SELECT (min(o.updated_at) FILTER (WHERE t.slug = 'other')
                           < max(o.updated_at) FILTER (WHERE t.slug = 'linden'))::text
                   FROM offer o JOIN tenant t ON t.id = o.tenant_id";
    assert_eq!(server.database.one(in_turn).await.unwrap(), "true");
}

/// Only the brand of the contract matters.
#[tokio::test]
async fn a_letter_of_the_contracts_own_brand_is_enough() {
    use anklang_proto::anklang::templates::v1 as templates;
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let source = templates::DocumentContent {
        typst_source: "Angebot #sys.inputs.offer.number".into(),
    };
    let template = templates::Template {
        name: "brands/linden/templates/gas_letter.de".into(),
        content: Some(templates::template::Content::Document(source)),
        ..Default::default()
    };
    let save = templates::UpdateTemplateRequest {
        template: Some(template),
        allow_missing: true,
        ..Default::default()
    };
    client.templates().update_template(save).await.unwrap();

    let (mut made, mut refused) = (0, 0);
    for contract in utility.members().values() {
        let mut request = utility.switch(contract);
        request.document_template = "gas_letter".into();
        match create(&client, request).await {
            Ok(offer) => {
                let template = offer.document.unwrap().template;
                assert_eq!(template, "brands/linden/templates/gas_letter.de");
                made += 1;
            }
            Err(status) => {
                let (_, why) = refused::precondition(&status, "PRECONDITION");
                assert!(why.contains("its brand"), "{why}");
                refused += 1;
            }
        }
    }
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
}

#[tokio::test]
async fn of_two_answers_at_once_one_wins() {
    const ROUNDS: usize = 20;
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    // Connections of their own, so that neither answer waits for the other on the way.
    let other = Client::connect(server.addr, "linden").await.unwrap();
    let mut wins = [0, 0];
    for _ in 0..ROUNDS {
        let offer = switch(&client, &utility).await;
        let (yes, no) = tokio::join!(accept(&client, &offer.name), reject(&other, &offer.name));
        let (winner, loser, state) = match (yes, no) {
            (Ok(winner), Err(loser)) => (winner, loser, OfferState::Accepted),
            (Err(loser), Ok(winner)) => (winner, loser, OfferState::Rejected),
            both => panic!("one must win: {both:?}"),
        };
        refused::precondition(&loser, "ILLEGAL_TRANSITION");
        assert_eq!(winner.state(), state);
        assert_eq!(get(&client, &offer.name).await, winner);
        wins[usize::from(state == OfferState::Rejected)] += 1;
    }
    let told = |kind: &str| format!("SELECT count(*) FROM customer_event WHERE kind = '{kind}'");
    for (kind, wins) in [("offer.accepted", wins[0]), ("offer.rejected", wins[1])] {
        assert_eq!(
            server.database.one(&told(kind)).await.unwrap(),
            wins.to_string()
        );
    }
}

#[tokio::test]
async fn a_repeated_request_makes_no_second_offer() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let mut request = utility.switch(utility.first(Case::Plain));
    request.request_id = Uuid::now_v7().to_string();
    let first = create(&client, request.clone()).await.unwrap();
    assert_eq!(create(&client, request.clone()).await.unwrap(), first);

    let mut other = request.clone();
    other.valid_until_date = utility.day(15);
    let status = create(&client, other).await.unwrap_err();
    refused::is(&status, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(list(&client, &[]).await, [first]);

    // All at once: one of them makes it, the others get it.
    request.request_id = Uuid::now_v7().to_string();
    let calls = (0..6).map(|_| {
        let (client, request) = (client.clone(), request.clone());
        tokio::spawn(async move { create(&client, request).await })
    });
    let mut made = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        made.push(call.await.unwrap().unwrap().name);
    }
    made.dedup();
    assert_eq!(made, ["offers/A-00000002"]);
    assert_eq!(list(&client, &[]).await.len(), 2);
}

#[tokio::test]
async fn numbers_have_no_gaps_when_many_ask_at_once() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let calls = (0..12).map(|i| {
        let (client, mut request) = (client.clone(), utility.switch(utility.first(Case::Plain)));
        if i % 3 == 0 {
            // Refused after it was begun.
            request.document_template = "none".into();
        }
        tokio::spawn(async move { create(&client, request).await })
    });
    let mut refusals = 0;
    for call in calls.collect::<Vec<_>>() {
        refusals += usize::from(call.await.unwrap().is_err());
    }
    assert_eq!(refusals, 4);
    let numbers: Vec<String> = list(&client, &[])
        .await
        .into_iter()
        .map(|o| o.number)
        .collect();
    let gapless: Vec<String> = (1..=8).map(|n| format!("A-{n:08}")).collect();
    assert_eq!(numbers, gapless);
    assert_eq!(
        TARGET,
        get(&client, "offers/A-00000008").await.product_version
    );
}
