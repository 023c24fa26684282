//! What a desk does with offers: takes them back, replaces them, numbers them, counts them; and
//! audiences with one offer for each contract or household.

use std::collections::BTreeSet;

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::offers::v1 as pb;
use anklang_proto::anklang::reach::v1 as reach;
use anklang_testkit::{Client, TestServer};
use campaigns::ExclusionReason;
use campaigns::launch_campaign_request::CampaignTarget;
use pb::{OfferState, OpenOfferPolicy};
use tonic::Status;

use crate::campaigns::{ask, metadata};
use crate::followups::audience;
use crate::hold::Hold;
use crate::phases::{pause, resume, run_sql};
use crate::refused;
use crate::utility::{
    Case, FEW, Utility, figures, launch, launched, money, offers_of, until, until_sent,
    with_utility,
};

async fn create(client: &Client, request: pb::CreateOfferRequest) -> Result<pb::Offer, Status> {
    let answer = client.offers().create_offer(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn withdraw(client: &Client, name: &str) -> Result<pb::Offer, Status> {
    let request = pb::WithdrawOfferRequest {
        name: name.into(),
        reason: "Preis war falsch".into(),
        ..Default::default()
    };
    let answer = client.offers().withdraw_offer(request).await;
    answer.map(tonic::Response::into_inner)
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

async fn list(client: &Client, request: pb::ListOffersRequest) -> Vec<pb::Offer> {
    let listed = client.offers().list_offers(request).await.unwrap();
    listed.into_inner().offers
}

/// A launched phase that is held, so that its messages wait; its campaign and name.
pub async fn held(
    server: &TestServer,
    client: &Client,
    request: campaigns::LaunchCampaignRequest,
) -> (String, String) {
    let hold = Hold::inserts(server, "document", "true").await;
    let operation = ask(client, request).await.unwrap();
    hold.reached().await;
    let name = metadata(&operation).resource;
    pause(client, &name).await.unwrap();
    hold.release().await;
    let launched = launched(&client.finished(&operation).await.unwrap());
    (launched.campaign.unwrap().name, name)
}

#[tokio::test]
async fn a_withdrawn_offer_is_taken_back_with_its_message() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, phase) = held(&server, &client, utility.launch()).await;
    let offers = offers_of(&client, &campaign).await;
    let mut names: Vec<&str> = offers.values().map(|o| &o.name[..]).collect();
    names.sort_unstable();

    let withdrawn = withdraw(&client, names[0]).await.unwrap();
    assert_eq!(withdrawn.state(), OfferState::Withdrawn);
    assert_eq!(withdrawn.withdraw_reason, "Preis war falsch");
    assert!(withdrawn.withdraw_time.is_some());
    assert_eq!(withdraw(&client, names[0]).await.unwrap(), withdrawn);
    let messages = figures(&client, &campaign).await.messages.unwrap();
    assert_eq!((messages.queued, messages.cancelled), (3, 1));
    let told = "SELECT resource || (details->>'reason') FROM customer_event WHERE kind = 'offer.withdrawn'";
    assert_eq!(
        server.database.one(told).await.unwrap(),
        format!("{}Preis war falsch", names[0])
    );

    let accept = |name: &str| pb::AcceptOfferRequest {
        name: name.into(),
        source: String::new(),
        ..Default::default()
    };
    let status = client.offers().accept_offer(accept(names[0])).await;
    refused::precondition(&status.unwrap_err(), "ILLEGAL_TRANSITION");
    client
        .offers()
        .accept_offer(accept(names[1]))
        .await
        .unwrap();
    let status = withdraw(&client, names[1]).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "ILLEGAL_TRANSITION");
    assert_eq!(subject, names[1]);
    assert!(why.contains("accepted"), "{why}");
    let sql = format!(
        "UPDATE offer SET valid_until = '{}'::date - 1 WHERE 'offers/' || number = '{}'",
        utility.today, names[2]
    );
    run_sql(&server, &sql).await;
    let status = withdraw(&client, names[2]).await.unwrap_err();
    refused::precondition(&status, "OFFER_EXPIRED");
    refused::not_found(&withdraw(&client, "offers/A-00000099").await.unwrap_err());

    resume(&client, &phase).await.unwrap();
    until_sent(&client, &campaign, 1).await;
    until("the others are cancelled", async || {
        figures(&client, &campaign)
            .await
            .messages
            .unwrap()
            .cancelled
            == 3
    })
    .await;
    assert_eq!(server.sink.count(), 1);
}

/// Answer and withdrawal at once: one of them wins.
#[tokio::test]
async fn of_answer_and_withdrawal_at_once_one_wins() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let other = Client::connect(server.addr, "linden").await.unwrap();
    for _ in 0..10 {
        let offer = create(&client, utility.switch(utility.first(Case::Plain)));
        let name = offer.await.unwrap().name;
        let accept = pb::AcceptOfferRequest {
            name: name.clone(),
            source: "web".into(),
            ..Default::default()
        };
        let mut offers = other.offers();
        let (back, yes) = tokio::join!(withdraw(&client, &name), offers.accept_offer(accept));
        let state = get(&client, &name).await.state();
        match (back, yes) {
            (Ok(_), Err(status)) => {
                refused::precondition(&status, "ILLEGAL_TRANSITION");
                assert_eq!(state, OfferState::Withdrawn);
            }
            (Err(status), Ok(_)) => {
                refused::precondition(&status, "ILLEGAL_TRANSITION");
                assert_eq!(state, OfferState::Accepted);
            }
            both => panic!("one must win: {both:?}"),
        }
    }
}

fn again(
    utility: &Utility,
    campaign: &str,
    policy: OpenOfferPolicy,
) -> campaigns::LaunchCampaignRequest {
    campaigns::LaunchCampaignRequest {
        campaign_target: Some(CampaignTarget::Campaign(campaign.into())),
        open_offers: policy.into(),
        ..utility.launch()
    }
}

#[tokio::test]
async fn an_open_offer_blocks_others_when_asked() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let campaign = launch(&client, utility.launch()).await.campaign.unwrap();
    let offers = offers_of(&client, &campaign.name).await;
    let free = offers.values().next().unwrap();
    let no = pb::RejectOfferRequest {
        name: free.name.clone(),
        ..Default::default()
    };
    client.offers().reject_offer(no).await.unwrap();

    let request = again(&utility, &campaign.name, OpenOfferPolicy::Block);
    let blocked = launch(&client, request).await;
    let phase = blocked.phase.unwrap();
    assert_eq!(phase.open_offers(), OpenOfferPolicy::Block);
    let (members, out) = audience(&client, &phase.name).await;
    assert_eq!(members, [free.contract.clone()].into());
    let open = i32::from(ExclusionReason::OpenOffer);
    let out: BTreeSet<String> = out
        .into_iter()
        .filter(|(_, r)| *r == open)
        .map(|(c, _)| c)
        .collect();
    let mut others: BTreeSet<String> = offers.keys().cloned().collect();
    others.remove(&free.contract);
    assert_eq!(out, others);

    let mut single = utility.switch(utility.first(Case::Plain));
    single.open_offers = OpenOfferPolicy::Block.into();
    let status = create(&client, single.clone()).await.unwrap_err();
    let (subject, why) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, single.contract);
    assert!(why.contains("open offer"), "{why}");
    single.open_offers = OpenOfferPolicy::Allow.into();
    create(&client, single.clone()).await.unwrap();
    let both = pb::ListOffersRequest {
        contract: single.contract,
        states: vec![OfferState::Open.into()],
        ..Default::default()
    };
    assert_eq!(list(&client, both).await.len(), 2);
}

/// Whoever comes second at the same time is left out as well: each contract has one open offer.
#[tokio::test]
async fn launches_at_once_do_not_get_past_each_other() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 12)]).await;
    let mut operations = Vec::new();
    for _ in 0..3 {
        let mut request = utility.launch();
        request.open_offers = OpenOfferPolicy::Block.into();
        operations.push(ask(&client, request).await.unwrap());
    }
    let mut members = 0;
    for operation in operations {
        let launched = launched(&client.finished(&operation).await.unwrap());
        assert_eq!(launched.candidates, 12);
        members += launched.members;
    }
    assert_eq!(members, 12);
    let open = "SELECT concat_ws(' ', count(*), count(DISTINCT contract_id)) FROM offer
                WHERE state = 'open'";
    assert_eq!(server.database.one(open).await.unwrap(), "12 12");
}

#[tokio::test]
async fn a_new_offer_takes_the_place_of_open_ones_when_asked() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let (campaign, _) = held(&server, &client, utility.launch()).await;
    let before = offers_of(&client, &campaign).await;
    let accepted = before.values().next().unwrap();
    let yes = pb::AcceptOfferRequest {
        name: accepted.name.clone(),
        source: "web".into(),
        ..Default::default()
    };
    client.offers().accept_offer(yes).await.unwrap();
    run_sql(&server, "DROP TRIGGER hold ON document").await;

    let request = again(&utility, &campaign, OpenOfferPolicy::Supersede);
    let phase = launch(&client, request).await.phase.unwrap().name;
    let listed = list(
        &client,
        pb::ListOffersRequest {
            phase,
            ..Default::default()
        },
    )
    .await;
    assert_eq!(listed.len(), 4);
    for newer in listed {
        let older = get(&client, &before[&newer.contract].name).await;
        if older.name == accepted.name {
            assert_eq!(older.state(), OfferState::Accepted);
            continue;
        }
        assert_eq!(older.state(), OfferState::Withdrawn);
        assert_eq!(older.superseded_by, newer.name);
        assert_eq!(older.withdraw_reason, "superseded");
        assert_eq!(newer.state(), OfferState::Open);
    }
    // What was queued about them is not sent; the accepted one's is not either.
    until_sent(&client, &campaign, 4).await;
    let messages = figures(&client, &campaign).await.messages.unwrap();
    assert_eq!((messages.cancelled, messages.queued), (3, 1));

    let mut single = utility.switch(utility.first(Case::Plain));
    single.open_offers = OpenOfferPolicy::Supersede.into();
    let newest = create(&client, single.clone()).await.unwrap();
    let open = pb::ListOffersRequest {
        contract: single.contract,
        states: vec![OfferState::Open.into()],
        ..Default::default()
    };
    assert_eq!(list(&client, open).await, [newest]);
}

async fn number_range(client: &Client) -> pb::OfferNumberRange {
    let request = pb::GetOfferNumberRangeRequest {};
    let answer = client.offers().get_offer_number_range(request).await;
    answer.unwrap().into_inner()
}

async fn renumber(client: &Client, prefix: &str, next_number: i64) -> Result<(), Status> {
    let range = pb::OfferNumberRange {
        prefix: prefix.into(),
        next_number,
        ..Default::default()
    };
    let request = pb::UpdateOfferNumberRangeRequest {
        offer_number_range: Some(range.clone()),
        ..Default::default()
    };
    let answer = client.offers().update_offer_number_range(request).await?;
    let answer = answer.into_inner();
    assert_eq!(number_range(client).await, answer);
    let etag = answer.etag.clone();
    assert_eq!(answer, pb::OfferNumberRange { etag, ..range });
    Ok(())
}

#[tokio::test]
async fn offers_are_numbered_as_the_tenant_wants() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let other = server.client("other").await.unwrap();
    let first = number_range(&client).await;
    assert_eq!((&first.prefix[..], first.next_number), ("A-", 1));
    renumber(&client, "2026/ANG-", 4_711).await.unwrap();
    let launched = launch(&client, utility.launch()).await;
    let campaign = launched.campaign.unwrap().name;
    let numbers: BTreeSet<String> = offers_of(&client, &campaign)
        .await
        .into_values()
        .map(|o| o.number)
        .collect();
    let expected: BTreeSet<String> = (4_711..4_715).map(|n| format!("2026/ANG-{n:08}")).collect();
    assert_eq!(numbers, expected);
    assert_eq!(number_range(&client).await.next_number, 4_715);

    let back = renumber(&client, "2026/ANG-", 4_714).await.unwrap_err();
    refused::names(&back, &["offer_number_range.next_number"]);
    let wrong = renumber(&client, "ang1", 0).await.unwrap_err();
    refused::names(
        &wrong,
        &[
            "offer_number_range.prefix",
            "offer_number_range.next_number",
        ],
    );
    renumber(&client, "", 4_715).await.unwrap();
    let single = create(&client, utility.switch(utility.first(Case::Plain)))
        .await
        .unwrap();
    assert_eq!(single.number, "00004715");
    assert_eq!(get(&client, &single.name).await, single);
    assert_eq!(number_range(&other).await.next_number, 1);
}

async fn cockpit(client: &Client, days: i32) -> pb::Cockpit {
    let request = pb::GetCockpitRequest {
        expiring_within_days: days,
    };
    client
        .offers()
        .get_cockpit(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn the_cockpit_counts_open_offers_and_lists_are_behind_it() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    assert_eq!(cockpit(&client, 7).await.rows, []);
    let far = pb::GetCockpitRequest {
        expiring_within_days: 366,
    };
    let status = client.offers().get_cockpit(far).await.unwrap_err();
    refused::names(&status, &["expiring_within_days"]);

    let launched = launch(&client, utility.launch()).await;
    let campaign = launched.campaign.unwrap().name;
    let offers = offers_of(&client, &campaign).await;
    // One for gas that expires soon, and one answered.
    let gas = utility.first(Case::OtherDivision);
    let mut request = utility.switch(gas);
    request.product_version = "products/G-BASIS/versions/CURRENT".into();
    run_sql(
        &server,
        "UPDATE contract SET product_version_id = NULL WHERE division = 'gas'",
    )
    .await;
    request.valid_until_date = utility.day(7);
    let gas_offer = create(&client, request).await.unwrap();
    let mut names: Vec<&pb::Offer> = offers.values().collect();
    names.sort_by_key(|o| &o.number);
    withdraw(&client, &names[1].name).await.unwrap();

    let board = cockpit(&client, 7).await;
    assert_eq!(board.expiring_until_date, utility.day(7));
    let [electricity, gas] = &board.rows[..] else {
        panic!("two divisions: {board:?}");
    };
    let open = utility.members();
    let cents: i128 = open
        .iter()
        .filter(|(name, _)| **name != names[1].contract)
        .map(|(_, c)| c.annual_cents())
        .sum();
    assert_eq!(electricity.division, "electricity");
    assert_eq!((electricity.count, electricity.expiring_count), (3, 0));
    assert_eq!(electricity.annual_amount, Some(money(cents)));
    assert_eq!(electricity.oldest, names[0].name);
    assert_eq!(electricity.oldest_create_time, names[0].create_time);
    assert_eq!(
        (&gas.division[..], gas.count, gas.expiring_count),
        ("gas", 1, 1)
    );
    assert_eq!(gas.annual_amount, gas_offer.annual_amount);
    assert_eq!(cockpit(&client, 6).await.rows[1].expiring_count, 0);

    let other = server.client("other").await.unwrap();
    assert_eq!(cockpit(&other, 7).await.rows, [], "each tenant has its own");

    let behind = |division: &str, until| pb::ListOffersRequest {
        states: vec![OfferState::Open.into()],
        division: division.into(),
        currency_code: "EUR".into(),
        valid_until_max_date: until,
        ..Default::default()
    };
    assert_eq!(list(&client, behind("electricity", None)).await.len(), 3);
    let soon = board.expiring_until_date;
    assert_eq!(list(&client, behind("electricity", soon)).await, []);
    let expiring = list(&client, behind("gas", soon)).await;
    assert_eq!(expiring.len(), 1);
    assert_eq!(expiring[0].name, gas_offer.name);
    let mut dollars = behind("gas", None);
    dollars.currency_code = "USD".into();
    assert_eq!(list(&client, dollars).await, []);
}

/// Two spellings of one house, a neighbour, a company in the same house, and people without street.
#[tokio::test]
async fn a_household_gets_one_offer_when_asked() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, 7), (Case::Company, 1)]).await;
    let addresses = [
        ("Große Mühlstraße", "12 a", "35390"),
        ("Grosse Muehlstr.", "12A", "35390"),
        ("Große Mühlstraße", "12", "35390"),
        ("Große Mühlstraße", "12a", "35394"),
        ("GROSSE MÜHLSTRASSE", "12 A", "35 390"),
        ("", "", ""),
        ("", "", ""),
        ("Große Mühlstraße", "12 a", "35390"),
    ];
    let mut csv =
        "number,kind,last_name,company_name,street,house_number,postal_code\r\n".to_owned();
    for (customer, (street, house, postcode)) in utility.customers.iter().zip(addresses) {
        let (number, last, company) =
            (&customer.number, &customer.last_name, customer.company_name);
        let kind = if company.is_empty() {
            "person"
        } else {
            "company"
        };
        csv += &format!("{number},{kind},{last},{company},{street},{house},{postcode}\r\n");
    }
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    // The first of them cannot be written to, so that the second is the household's.
    let sql = "UPDATE consent SET state = 'withdrawn' FROM customer c
               WHERE c.id = customer_id AND c.number = 'K0001'";
    run_sql(&server, sql).await;

    let mut request = utility.launch();
    request.one_per_household = true;
    let launched = launch(&client, request).await;
    let phase = launched.phase.unwrap();
    assert!(phase.one_per_household);
    assert_eq!((launched.candidates, launched.members), (8, 6));
    let (members, out) = audience(&client, &phase.name).await;
    let contract = |i: usize| utility.contracts[i].name();
    let expected: BTreeSet<String> = [1, 2, 3, 5, 6, 7].map(contract).into();
    assert_eq!(members, expected);
    let reasons = [
        ExclusionReason::NoConsent,
        ExclusionReason::DuplicateHousehold,
    ];
    let expected: Vec<(String, i32)> = [0, 4]
        .map(contract)
        .into_iter()
        .zip(reasons.map(i32::from))
        .collect();
    assert_eq!(out, expected);
    // Without being asked for it, nobody is left out for it.
    assert_eq!(launch(&client, utility.launch()).await.members, 7);
}

#[tokio::test]
async fn contracts_that_end_soon_are_left_out_when_asked() {
    let server = TestServer::start().await.unwrap();
    let cases = [(Case::Plain, 2), (Case::EndsLater, 1), (Case::Ended, 1)];
    let (client, utility) = with_utility(&server, &cases).await;
    let ending = utility.first(Case::EndsLater).name();
    for (days, members) in [(89, 3), (90, 2)] {
        let mut request = utility.launch();
        request.ending_within_days = days;
        let launched = launch(&client, request).await;
        assert_eq!(launched.members, members, "{days}");
        let phase = launched.phase.unwrap();
        assert_eq!(phase.ending_within_days, days);
        let (_, out) = audience(&client, &phase.name).await;
        let soon = (ending.clone(), ExclusionReason::ContractEnding.into());
        assert_eq!(out.contains(&soon), members == 2);
        let ended = i32::from(ExclusionReason::ContractEnded);
        assert_eq!(out.iter().filter(|(_, r)| *r == ended).count(), 1);
    }
}

/// Notice was given, and the contract goes on for a while.
#[tokio::test]
async fn terminated_contracts_are_left_out_when_asked() {
    let server = TestServer::start().await.unwrap();
    let cases = [(Case::Plain, 2), (Case::EndsLater, 1), (Case::Ended, 1)];
    let (client, utility) = with_utility(&server, &cases).await;
    let contract = utility.first(Case::EndsLater);
    let reason = ExclusionReason::ContractTerminated;
    let mut request = utility.launch();
    for (leave_out, members) in [(false, 3), (true, 2)] {
        request.leave_out_terminated = leave_out;
        let launched = launch(&client, request.clone()).await;
        assert_eq!(launched.members, members);
        let phase = launched.phase.unwrap();
        assert_eq!(phase.leave_out_terminated, leave_out);
        let (_, out) = audience(&client, &phase.name).await;
        let terminated = (contract.name(), reason.into());
        assert_eq!(out.contains(&terminated), leave_out);
        let why = reach::ExplainCustomerRequest {
            customer: format!("customers/{}", utility.customer_of(contract).number),
            campaign: launched.campaign.unwrap().name,
        };
        let why = client.reach().explain_customer(why).await.unwrap();
        let told = why.into_inner().candidacies[0].exclusion_reason();
        assert_eq!(told == reason, leave_out);
    }

    // Before the day of the notice, which is known, and from then on.
    let noted = format!(
        "UPDATE contract SET notice_date = '{}'::date + 10",
        utility.today
    );
    let noted = format!("{noted} WHERE number = '{}'", contract.number);
    run_sql(&server, &noted).await;
    for (days, left_out) in [(9, 0), (10, 1)] {
        let as_of = campaigns::DryRunLaunchRequest {
            launch: Some(request.clone()),
            as_of_date: utility.day(days),
            ..Default::default()
        };
        let (_, told) = crate::dry_runs::dry_run(&client, as_of).await;
        let found = told.exclusions.iter().find(|e| e.reason() == reason);
        assert_eq!(found.map_or(0, |e| e.count), left_out, "{days}");
    }
}
