//! Several offers for one contract are alternatives, on whatever channel: who accepts one gets no other.

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::offers::v1 as pb;
use anklang_testkit::{Client, TestServer};
use campaigns::ReactionKind;
use pb::OfferState;
use tonic::{Code, Status};

use crate::campaigns::{ask, get_operation};
use crate::desk::held;
use crate::followups::{audience, follow_up};
use crate::hold::Hold;
use crate::phases::{resume, run_sql};
use crate::refused;
use crate::utility::{
    Case, FEW, Utility, figures, launch, launched, offers_of, until, until_sent, with_utility,
};

const REASON: &str = "another offer was accepted";

async fn accept(client: &Client, name: &str) -> Result<pb::Offer, Status> {
    accept_as_seen(client, name, "").await
}

async fn accept_as_seen(client: &Client, name: &str, etag: &str) -> Result<pb::Offer, Status> {
    let request = pb::AcceptOfferRequest {
        name: name.into(),
        source: "web".into(),
        etag: etag.into(),
        ..Default::default()
    };
    let answer = client.offers().accept_offer(request).await;
    answer.map(tonic::Response::into_inner)
}

async fn get(client: &Client, name: &str) -> pb::Offer {
    let request = pb::GetOfferRequest { name: name.into() };
    let found = client.offers().get_offer(request).await;
    found.unwrap().into_inner()
}

/// The offer was withdrawn because of another one, and takes no answer any more.
async fn gave_way(client: &Client, name: &str) {
    let offer = get(client, name).await;
    assert_eq!(offer.state(), OfferState::Withdrawn);
    assert_eq!(offer.withdraw_reason, REASON);
    let status = accept(client, name).await.unwrap_err();
    refused::precondition(&status, "ILLEGAL_TRANSITION");
}

/// How many transactions wait for rows that others hold, with a statement that names this.
async fn waiting(server: &TestServer, named: &str) -> usize {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
         AND wait_event_type = 'Lock' AND wait_event IN ('transactionid', 'tuple')
         AND query LIKE '%{named}%' AND pid <> pg_backend_pid()"
    );
    let found = server.database.one(&sql).await.unwrap();
    found.parse().unwrap()
}

/// How many react so to a phase.
async fn reacting(client: &Client, utility: &Utility, phase: &str, kind: ReactionKind) -> usize {
    let (campaign, _) = phase.split_once("/phases/").unwrap();
    let request = follow_up(utility, campaign, phase, kind, 0, &[]);
    let made = launch(client, request).await.phase.unwrap();
    let (members, out) = audience(client, &made.name).await;
    assert_eq!(out, []);
    members.len()
}

#[tokio::test]
async fn who_accepts_an_offer_gets_no_reminder_of_it() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let (campaign, phase) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(&client, &campaign, 4).await;
    let mailed = offers_of(&client, &campaign).await;
    let (reminder, reminding) = held(&server, &client, utility.launch()).await;
    let reminders = offers_of(&client, &reminder).await;
    let mut contracts: Vec<&String> = mailed.keys().collect();
    contracts.sort();

    // The first offer, while the mail with the second waits.
    accept(&client, &mailed[contracts[0]].name).await.unwrap();
    gave_way(&client, &reminders[contracts[0]].name).await;
    let messages = figures(&client, &reminder).await.messages.unwrap();
    assert_eq!((messages.queued, messages.cancelled), (3, 1));
    resume(&client, &reminding).await.unwrap();
    until_sent(&client, &reminder, 3).await;
    assert_eq!(server.sink.count(), 7);

    // The second one, of which the mail has gone out as that with the first.
    accept(&client, &reminders[contracts[1]].name)
        .await
        .unwrap();
    gave_way(&client, &mailed[contracts[1]].name).await;
    let offers = figures(&client, &campaign).await.offers.unwrap();
    assert_eq!(
        (offers.accepted, offers.withdrawn, offers.outstanding),
        (1, 1, 2)
    );
    let told = "SELECT string_agg(details->>'reason', ',') FROM customer_event
                WHERE kind = 'offer.withdrawn'";
    let told = server.database.one(told).await.unwrap();
    assert_eq!(told, format!("{REASON},{REASON}"));

    // Two have answered neither.
    run_sql(&server, "DROP TRIGGER hold ON document").await;
    let found = reacting(&client, &utility, &phase, ReactionKind::NoAnswer).await;
    assert_eq!(found, 2);
}

/// What came of the earlier phase's offer is as it was, and all the same nobody asks again who has accepted the
/// one that was made later.
#[tokio::test]
async fn who_accepts_a_later_offer_is_not_asked_about_the_earlier_one() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let first = launch(&client, utility.launch()).await;
    let (campaign, phase) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(&client, &campaign, 4).await;
    let over = format!(
        "UPDATE offer SET state = 'expired', valid_until = '{}'::date - 1",
        utility.today
    );
    run_sql(&server, &over).await;
    let second = launch(&client, utility.launch()).await;
    let later = offers_of(&client, &second.campaign.unwrap().name).await;
    accept(&client, &later.values().next().unwrap().name)
        .await
        .unwrap();

    for kind in [ReactionKind::Expired, ReactionKind::NoAnswer] {
        assert_eq!(reacting(&client, &utility, &phase, kind).await, 3);
    }
    run_sql(
        &server,
        &format!(
            "UPDATE message SET state = 'bounced' WHERE phase_id IN (
                 SELECT id FROM phase WHERE 'campaigns/' || campaign_id = '{campaign}' AND number = 1)"
        ),
    )
    .await;
    let found = reacting(&client, &utility, &phase, ReactionKind::NotReached).await;
    assert_eq!(found, 3);
}

/// Accepted while a launch makes its offers, and does not yet have one to be withdrawn.
#[tokio::test]
async fn an_offer_that_is_late_gives_way_as_well() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let campaign = launch(&client, utility.launch()).await.campaign.unwrap();
    until_sent(&client, &campaign.name, 4).await;
    let mailed = offers_of(&client, &campaign.name).await;
    let one = mailed.values().next().unwrap();

    // The audience is frozen, and nothing done for the offers.
    let hold = Hold::inserts(&server, "number_range", "true").await;
    let operation = ask(&client, utility.launch()).await.unwrap();
    hold.reached().await;
    accept(&client, &one.name).await.unwrap();
    hold.release().await;
    let over = launched(&client.finished(&operation).await.unwrap());
    let later = over.campaign.unwrap().name;
    until_sent(&client, &later, 3).await;
    let reminders = offers_of(&client, &later).await;
    gave_way(&client, &reminders[&one.contract].name).await;
    let messages = figures(&client, &later).await.messages.unwrap();
    assert_eq!((messages.sent, messages.cancelled), (3, 1));
    // What is launched after that is a new matter.
    run_sql(&server, "DROP TRIGGER hold ON number_range").await;
    let new = launch(&client, utility.launch()).await;
    until_sent(&client, &new.campaign.unwrap().name, 4).await;
}

/// A launch whose audience is frozen does not get past an acceptance that finds no offer of it yet, and is not
/// written either.
#[tokio::test]
async fn a_launch_waits_for_who_is_just_accepting() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let campaign = launch(&client, utility.launch()).await.campaign.unwrap();
    until_sent(&client, &campaign.name, 4).await;
    let mailed = offers_of(&client, &campaign.name).await;
    let one = mailed.values().next().unwrap();

    let numbers = server.database.connect().await.unwrap();
    let take = "BEGIN; SELECT 1 FROM number_range FOR UPDATE";
    numbers.batch_execute(take).await.unwrap();
    let operation = ask(&client, utility.launch()).await.unwrap();
    until("the launch waits for numbers", async || {
        waiting(&server, "number_range").await > 0
    })
    .await;
    // All is done but this, and to commit.
    let accepting = "NEW.method LIKE '%/AcceptOffer'";
    let hold = Hold::inserts(&server, "audit_entry", accepting).await;
    let (other, name) = (client.clone(), one.name.clone());
    let accepted = tokio::spawn(async move { accept(&other, &name).await });
    hold.reached().await;
    numbers.batch_execute("COMMIT").await.unwrap();
    until("the launch waits for the answer, or is over", async || {
        let known = get_operation(&client, &operation.name).await.unwrap();
        known.done || waiting(&server, "audience_member").await > 0
    })
    .await;
    hold.release().await;
    accepted.await.unwrap().unwrap();
    let over = launched(&client.finished(&operation).await.unwrap());
    let later = over.campaign.unwrap().name;
    until_sent(&client, &later, 3).await;
    let reminders = offers_of(&client, &later).await;
    gave_way(&client, &reminders[&one.contract].name).await;
}

/// Accepted while a launch makes its offers, of which a server that does not look at this has sent the first.
#[tokio::test]
async fn whoever_goes_on_with_a_launch_lets_late_offers_give_way() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let campaign = launch(&client, utility.launch()).await.campaign.unwrap();
    until_sent(&client, &campaign.name, 4).await;
    let mailed = offers_of(&client, &campaign.name).await;
    let last = mailed.keys().max().unwrap();

    let hold = Hold::inserts(&server, "message", "true").await;
    let operation = ask(&client, utility.launch()).await.unwrap();
    hold.reached().await;
    server.kill();
    hold.release().await;
    let sql = format!(
        "DROP TRIGGER hold ON message;
         UPDATE operation SET done = 1 WHERE step = 'messages';
         UPDATE offer SET state = 'accepted', answer_source = 'web', answered_at = now()
         WHERE 'offers/' || number = '{}'",
        mailed[last].name
    );
    run_sql(&server, &sql).await;

    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    let over = launched(&client.finished(&operation).await.unwrap());
    let later = over.campaign.unwrap().name;
    until_sent(&client, &later, 2).await;
    let reminders = offers_of(&client, &later).await;
    gave_way(&client, &reminders[last].name).await;
    let messages = figures(&client, &later).await.messages.unwrap();
    assert_eq!((messages.sent, messages.cancelled), (2, 1));
}

/// Also when both say what they have seen: one gets it, the other hears that it has changed.
#[tokio::test]
async fn those_who_accept_alternatives_take_turns() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let contract = utility.first(Case::Plain);
    let mut offers = Vec::new();
    for _ in 0..2 {
        let request = utility.switch(contract);
        let made = client.offers().create_offer(request).await.unwrap();
        offers.push(made.into_inner());
    }
    let held = server.database.connect().await.unwrap();
    let first = format!(
        "BEGIN; SELECT 1 FROM offer WHERE 'offers/' || number = '{}' FOR UPDATE",
        offers[0].name
    );
    held.batch_execute(&first).await.unwrap();
    let mut answers = Vec::new();
    for (before, offer) in offers.into_iter().enumerate() {
        let client = client.clone();
        answers.push(tokio::spawn(async move {
            accept_as_seen(&client, &offer.name, &offer.etag).await
        }));
        until("the answer waits", async || {
            waiting(&server, "").await > before
        })
        .await;
    }
    held.batch_execute("COMMIT").await.unwrap();
    let second = answers.pop().unwrap().await.unwrap();
    let first = answers.pop().unwrap().await.unwrap();
    assert_eq!(first.unwrap().state(), OfferState::Accepted);
    refused::is(&second.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");
}
