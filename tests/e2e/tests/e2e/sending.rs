//! How messages share an account, and what becomes of them when it rests, is slow or is gone.

use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Reply};
use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, MessageState};
use anklang_testkit::{Client, Options, TestServer};

use crate::mailing::{
    SLIP, TENANT, attempts, balanced, figures, launch, ledger, make_due, tenant, until,
    until_figures, until_over,
};

async fn held(client: &Client) -> bool {
    let request = channels::GetChannelAccountRequest {
        name: "channelAccounts/mail".into(),
    };
    let account = client.channels().get_channel_account(request).await;
    account.unwrap().into_inner().hold_until_time.is_some()
}

async fn sent(client: &Client, campaign: &str) -> i64 {
    let figures = figures(client, campaign).await.and_then(|f| f.messages);
    figures.map_or(0, |messages| messages.sent)
}

#[tokio::test]
async fn a_large_phase_does_not_hold_up_those_after_it() {
    let mut server = TestServer::start_with(Options {
        account: "rate = '10/second'\nburst = 2".into(),
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 100).await;
    let first = launch(&client, SLIP).await;
    let second = launch(&client, SLIP).await;
    let config = server.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("enabled = false", "enabled = true")).unwrap();
    server.restart().await.unwrap();

    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until("mails of the second", async || {
        sent(&client, &second).await >= 10
    })
    .await;
    let of_first = sent(&client, &first).await;
    assert!((1..60).contains(&of_first), "{of_first}");
}

#[tokio::test]
async fn a_server_that_wants_nothing_for_now_is_left_alone() {
    let server = TestServer::start_with(Options {
        account: "batch = 4\ncalls = 1".into(),
        mail: "connections = 1".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let busy = Fault::RejectRecipient(Reply::new(421, "4.7.0 too many mails of you"));
    server
        .sink
        .set_faults(Faults::none().with_times(Matching::All, busy, 1));
    let client = tenant(&server, 12).await;
    let campaign = launch(&client, SLIP).await;
    until("a hold", async || held(&client).await).await;
    until_figures(&client, &campaign, |m| m.sending == 0).await;

    // Of those that were handed over together with the one none is tried behind it, and no others are handed over.
    let books = balanced(&server, &client, &campaign, 12).await;
    assert_eq!(server.sink.count(), 0);
    let handed_over: Vec<_> = books
        .ledger
        .values()
        .filter(|m| m.attempt_count > 0)
        .collect();
    assert_eq!(handed_over.len(), 4, "{handed_over:?}");
    for message in handed_over {
        assert_eq!(message.state(), MessageState::Queued);
        assert_eq!(attempts(message, AttemptOutcome::Throttled), 1);
        assert_eq!(message.detail, "the channel asked to slow down");
    }

    let sql = "UPDATE account_pace SET held_until = now()";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(sql).await.unwrap();
    make_due(&server).await;
    until_figures(&client, &campaign, |m| m.sent == 12).await;
}

#[tokio::test]
async fn a_mail_that_is_always_answered_so_does_not_stop_the_others() {
    let server = TestServer::start().await.unwrap();
    let busy = Fault::RejectRecipient(Reply::new(421, "4.7.0 not you"));
    let one = Matching::Recipient(crate::mailing::address(1));
    server.sink.set_faults(Faults::none().with(one, busy));
    let client = tenant(&server, 4).await;
    let campaign = launch(&client, SLIP).await;
    let database = server.database.connect().await.unwrap();
    for _ in 0..4 {
        until("a hold", async || held(&client).await).await;
        until_figures(&client, &campaign, |m| m.sending == 0).await;
        make_due(&server).await;
        let sql = "UPDATE account_pace SET held_until = NULL";
        database.batch_execute(sql).await.unwrap();
    }
    until("its own fault", async || {
        let ledger = ledger(&client, &campaign).await;
        let message = &ledger[&crate::mailing::address(1)];
        attempts(message, AttemptOutcome::Transient) == 1
    })
    .await;
    assert!(!held(&client).await);
    until_figures(&client, &campaign, |m| m.sent == 3).await;
}

#[tokio::test]
async fn mails_that_a_slow_server_leaves_no_time_for_come_again() {
    let server = TestServer::start_with(Options {
        mail: "begin_within_seconds = 1\nconnections = 1".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let slow = Fault::Slow(Duration::from_millis(600));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    let client = tenant(&server, 8).await;
    let campaign = launch(&client, SLIP).await;
    until("mails that were not begun", async || {
        let ledger = ledger(&client, &campaign).await;
        let mut details = ledger.values().flat_map(|m| &m.attempts);
        details.any(|a| a.detail == "the mail server is slow")
    })
    .await;
    server.sink.set_faults(Faults::none());
    until_over(&client, &campaign).await;
    let books = balanced(&server, &client, &campaign, 8).await;
    assert!((0..8).all(|customer| books.arrivals(customer) == 1));
    let late = books.ledger.values();
    let late = late.filter(|m| attempts(m, AttemptOutcome::Throttled) > 0);
    assert!(late.count() > 0);
}

#[tokio::test]
async fn messages_of_an_account_that_is_gone_are_told_and_held() {
    let mut server = TestServer::start_with(Options {
        ambiguous: "resend",
        account: "batch = 4\ncalls = 1".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let silent = Fault::HangAfterDot(Duration::from_secs(60));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, silent));
    let client = tenant(&server, 10).await;
    let campaign = launch(&client, SLIP).await;
    until("mails that are handed over", async || {
        server.sink.count() >= 4
    })
    .await;
    server.kill();
    // Long ago for others that may know the account.
    let database = server.database.connect().await.unwrap();
    let sql = "UPDATE message SET lease_until = lease_until - interval '1 hour'
               WHERE state = 'sending'";
    database.batch_execute(sql).await.unwrap();
    let config = server.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("channel_accounts.mail", "channel_accounts.post"),
    )
    .unwrap();
    server.restart().await.unwrap();

    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until_figures(&client, &campaign, |m| {
        (m.sending, m.ambiguous, m.queued) == (0, 4, 6)
    })
    .await;
    let log = server.log();
    let told = log
        .lines()
        .find(|line| line.contains("an account that is not configured here"))
        .unwrap();
    assert!(told.contains("mail") && told.contains("10"), "{told}");
    assert!(log.contains("rescued messages of accounts that are not configured"));
}
