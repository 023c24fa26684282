//! A server's clock that is wrong: what cannot be undone goes by the database's.

use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::messages::v1 as messages;
use anklang_proto::anklang::offers::v1 as pb;
use anklang_testkit::{Client, TestServer};
use campaigns::{ExclusionReason, ReactionKind};
use chrono::{Timelike, Utc};
use pb::OfferState;
use uuid::Uuid;

use crate::dry_runs::dry_run;
use crate::followups::follow_up;
use crate::phases::run_sql;
use crate::utility::{Case, FEW, launch, until, until_sent, with_utility};

/// From the server's next start on its clock is so much ahead of the database's, which is put back.
pub async fn put_back_the_database(server: &TestServer, interval: &str) {
    let sql = format!(
        "CREATE SCHEMA shifted;
         CREATE FUNCTION shifted.now() RETURNS timestamptz LANGUAGE sql STABLE
             AS $$ SELECT pg_catalog.now() - interval '{interval}' $$;
         CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
             AS $$ SELECT pg_catalog.clock_timestamp() - interval '{interval}' $$;
         GRANT USAGE ON SCHEMA shifted TO PUBLIC;
         DO $$ BEGIN
             EXECUTE format('ALTER DATABASE %I SET search_path = shifted, pg_catalog, public',
                            current_database());
         END $$"
    );
    run_sql(server, &sql).await;
}

#[tokio::test]
async fn offers_end_and_calls_are_forgotten_by_the_databases_clock() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let plain = utility.contracts.iter().filter(|c| c.case == Case::Plain);
    let (mut names, mut calls) = (Vec::new(), Vec::new());
    for contract in plain.take(3) {
        let id = Uuid::now_v7().to_string();
        let request = pb::CreateOfferRequest {
            request_id: id.clone(),
            ..utility.switch(contract)
        };
        let made = client.offers().create_offer(request).await.unwrap();
        names.push(made.into_inner().name);
        calls.push(id);
    }
    // By the database's clock two end tomorrow, and their calls were just made. The third is over, and its call is
    // forgotten.
    let (over, known) = (&names[2], calls.join("', '"));
    let sql = format!(
        "UPDATE offer SET valid_until = '{}'::date
             - CASE 'offers/' || number WHEN '{over}' THEN 11 ELSE 9 END;
         UPDATE request_log SET created_at = created_at - interval '10 days'
             * CASE request_id WHEN '{}' THEN 2 ELSE 1 END
         WHERE request_id IN ('{known}')",
        utility.today, calls[2]
    );
    server.kill();
    run_sql(&server, &sql).await;
    put_back_the_database(&server, "10 days").await;
    server.restart().await.unwrap();

    let states = "SELECT string_agg(state, ',' ORDER BY number) FROM offer";
    until("one has expired", async || {
        server.database.one(states).await.unwrap() == "open,open,expired"
    })
    .await;
    let left = format!("SELECT count(*) FROM request_log WHERE request_id IN ('{known}')");
    until("one call is forgotten", async || {
        server.database.one(&left).await.unwrap() == "2"
    })
    .await;
    let client = Client::connect(server.addr, "linden").await.unwrap();
    let accept = pb::AcceptOfferRequest {
        name: names[0].clone(),
        source: "web".into(),
        ..Default::default()
    };
    let accepted = client.offers().accept_offer(accept).await.unwrap();
    assert_eq!(accepted.into_inner().state(), OfferState::Accepted);
    let withdraw = pb::WithdrawOfferRequest {
        name: names[1].clone(),
        ..Default::default()
    };
    let withdrawn = client.offers().withdraw_offer(withdraw).await.unwrap();
    assert_eq!(withdrawn.into_inner().state(), OfferState::Withdrawn);
}

/// An offer reads as expired there, and so has another etag than the caller was given.
#[tokio::test]
async fn offers_are_answered_as_others_have_seen_them() {
    // Where the day does not end soon, and where it is a later day already.
    let west = match Utc::now().hour() {
        0..11 => "Etc/GMT+12",
        _ => "Etc/GMT+10",
    };
    let east = "Etc/GMT-14";
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let plain = utility.contracts.iter().filter(|c| c.case == Case::Plain);
    let mut names = Vec::new();
    for contract in plain.take(3) {
        let request = utility.switch(contract);
        let made = client.offers().create_offer(request).await.unwrap();
        names.push(made.into_inner().name);
    }
    server.kill();
    let last_day = format!(
        "UPDATE tenant SET time_zone = '{west}';
         UPDATE offer SET valid_until = (now() AT TIME ZONE '{west}')::date"
    );
    run_sql(&server, &last_day).await;
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    let mut seen = Vec::new();
    for name in &names {
        let offer = get(&client, name).await;
        assert_eq!(offer.state(), OfferState::Open);
        seen.push(offer.etag);
    }
    server.kill();
    let later = format!("UPDATE tenant SET time_zone = '{east}'");
    run_sql(&server, &later).await;
    put_back_the_database(&server, "2 days").await;
    server.restart().await.unwrap();

    let client = Client::connect(server.addr, "linden").await.unwrap();
    assert_eq!(get(&client, &names[0]).await.state(), OfferState::Expired);
    let accept = pb::AcceptOfferRequest {
        name: names[0].clone(),
        etag: seen[0].clone(),
        ..Default::default()
    };
    let accepted = client.offers().accept_offer(accept).await.unwrap();
    assert_eq!(accepted.into_inner().state(), OfferState::Accepted);
    let reject = pb::RejectOfferRequest {
        name: names[1].clone(),
        etag: seen[1].clone(),
        ..Default::default()
    };
    let rejected = client.offers().reject_offer(reject).await.unwrap();
    assert_eq!(rejected.into_inner().state(), OfferState::Rejected);
    let withdraw = pb::WithdrawOfferRequest {
        name: names[2].clone(),
        etag: seen[2].clone(),
        ..Default::default()
    };
    let withdrawn = client.offers().withdraw_offer(withdraw).await.unwrap();
    assert_eq!(withdrawn.into_inner().state(), OfferState::Withdrawn);
}

async fn get(client: &Client, name: &str) -> pb::Offer {
    let request = pb::GetOfferRequest { name: name.into() };
    let found = client.offers().get_offer(request).await;
    found.unwrap().into_inner()
}

/// How long ago somebody was written to decides who is reminded, and whose contact budget is used up.
#[tokio::test]
async fn audiences_are_frozen_by_the_databases_clock() {
    let mut server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let budget = messages::UpdateContactBudgetRequest {
        contact_budget: Some(messages::ContactBudget {
            max_contacts: 1,
            window_days: 1,
            ..Default::default()
        }),
        ..Default::default()
    };
    client
        .messages()
        .update_contact_budget(budget)
        .await
        .unwrap();
    let first = launch(&client, utility.launch()).await;
    let (campaign, phase) = (first.campaign.unwrap().name, first.phase.unwrap().name);
    until_sent(&client, &campaign, 4).await;
    server.kill();
    // By the server's clock two days ago and three; by the database's half a day and one and a half.
    let earlier = "UPDATE message SET sent_at = sent_at
                       - make_interval(days => 2 + (member_seq % 2)::integer)";
    run_sql(&server, earlier).await;
    put_back_the_database(&server, "36 hours").await;
    // A default goes by the clock as it was when the column was made.
    let due = "ALTER TABLE operation
               ALTER run_at SET DEFAULT pg_catalog.now() - interval '36 hours'";
    run_sql(&server, due).await;
    server.restart().await.unwrap();

    let client = Client::connect(server.addr, "linden").await.unwrap();
    let dry = |launch| campaigns::DryRunLaunchRequest {
        launch: Some(launch),
        ..Default::default()
    };
    let (_, all) = dry_run(&client, dry(utility.launch())).await;
    let capped = all.exclusions.iter();
    let mut capped = capped.filter(|e| e.reason() == ExclusionReason::FrequencyCap);
    assert_eq!((all.members, capped.next().map(|e| e.count)), (2, Some(2)));
    let begins = all.send_start_time.unwrap().seconds;
    assert!(Utc::now().timestamp() - begins > 35 * 3_600, "{begins}");

    let silent = follow_up(&utility, &campaign, &phase, ReactionKind::NoAnswer, 1, &[]);
    let (_, foreseen) = dry_run(&client, dry(silent.clone())).await;
    assert_eq!((foreseen.candidates, foreseen.members), (2, 2));
    let reminded = launch(&client, silent).await;
    assert_eq!((reminded.candidates, reminded.members), (2, 2));
}
