//! Offers of launches that were never approved: nobody outside hears of them, whatever becomes of them.

use anklang_proto::anklang::campaigns::v1::PhaseState;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::receiver::Receiver;
use tonic::Code;

use super::{A_WHILE, House, campaign_of, limit, read_and_approve, waiting};
use crate::campaigns::{ask, metadata};
use crate::phases::until_state;
use crate::utility::{FEW, Utility, figures, offers_of, until, until_sent, with_utility};

/// A house in which every launch waits, and a receiver of withdrawals.
async fn told_of_withdrawals() -> (House, Utility, Receiver) {
    let house = House::open(crate::handover::QUICK).await;
    let (_, utility) = with_utility(&house.server, FEW).await;
    limit(&house.anna, Some(0)).await.unwrap();
    let receiver = Receiver::start().await;
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "ERP".into(),
            url: receiver.url("/angebote"),
            event_types: vec!["anklang.offer.withdrawn.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    house.anna.webhooks().create_webhook(request).await.unwrap();
    (house, utility, receiver)
}

async fn withdraw(house: &House, offer: &str) {
    let request = offers::WithdrawOfferRequest {
        name: offer.into(),
        reason: "Doppelt".into(),
        ..Default::default()
    };
    let withdrawn = house.anna.offers().withdraw_offer(request).await.unwrap();
    assert_eq!(
        withdrawn.into_inner().state(),
        offers::OfferState::Withdrawn
    );
}

#[tokio::test]
async fn an_offer_that_is_withdrawn_before_the_approval_is_no_news() {
    let (house, utility, receiver) = told_of_withdrawals().await;
    let (_, phase) = waiting(&house.anna, utility.launch()).await;
    let campaign = campaign_of(&phase);
    let names: Vec<String> = offers_of(&house.anna, campaign)
        .await
        .into_values()
        .map(|offer| offer.name)
        .collect();
    withdraw(&house, &names[0]).await;
    read_and_approve(&house.ben().await, &phase).await;
    until_sent(&house.anna, campaign, 3).await;
    withdraw(&house, &names[1]).await;
    until("the event", async || !receiver.calls().is_empty()).await;
    tokio::time::sleep(A_WHILE).await;
    let told = receiver.calls();
    assert_eq!(told.len(), 1, "of the one that was open");
    assert_eq!(told[0].event()["subject"], names[1]);
}

#[tokio::test]
async fn a_launch_that_is_cancelled_while_it_comes_to_wait_opens_nothing() {
    let (house, utility, receiver) = told_of_withdrawals().await;
    let (anna, database) = (&house.anna, &house.server.database);
    // Its documents are not written before the phase is in other hands.
    let held = database.connect().await.unwrap();
    let sql = "BEGIN; LOCK TABLE document IN SHARE MODE";
    held.batch_execute(sql).await.unwrap();
    let operation = ask(anna, utility.launch()).await.unwrap();
    let phase = metadata(&operation).resource;
    until("its audience is frozen", async || {
        let sql = "SELECT count(*) FROM launch_approval";
        database.one(sql).await.unwrap() == "1"
    })
    .await;
    let cancelling = database.connect().await.unwrap();
    let sql = "BEGIN; UPDATE phase SET state = 'cancelled', winding_up = true";
    cancelling.batch_execute(sql).await.unwrap();
    held.batch_execute("COMMIT").await.unwrap();
    until("the launch waits for its phase", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND wait_event_type = 'Lock' AND query LIKE '%FROM phase%FOR NO KEY UPDATE%'
                   AND pid <> pg_backend_pid()";
        database.one(sql).await.unwrap() != "0"
    })
    .await;
    cancelling.batch_execute("COMMIT").await.unwrap();

    let ended = anna.finished(&operation).await.unwrap();
    let Some(lro::operation::Result::Error(error)) = &ended.result else {
        panic!("cancelled: {ended:?}");
    };
    assert_eq!(error.code, i32::from(Code::Cancelled));
    until_state(anna, &phase, PhaseState::Cancelled).await;
    until("the offers are withdrawn", async || {
        let offers = figures(anna, campaign_of(&phase)).await.offers.unwrap();
        (offers.made, offers.withdrawn) == (4, 4)
    })
    .await;
    tokio::time::sleep(A_WHILE).await;
    assert!(receiver.calls().is_empty(), "they were never open");
    assert_eq!(house.server.sink.count(), 0);
}
