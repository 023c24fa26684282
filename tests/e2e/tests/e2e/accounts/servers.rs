//! Accounts on several servers, on ones that are killed, and when they do not open.

use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Sink, SinkOptions};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, MessageState};
use anklang_testkit::{Client, TestServer};
use serde_json::json;

use super::{
    configure, create, create_as, delete, get, launch_through, name, pause, relay, settings, sink,
    test, until_state,
};
use crate::mailing::{TENANT, address, attempts, ledger, tenant, until, until_over};
use crate::refused;

#[tokio::test]
async fn every_server_sees_a_change() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 4).await;
    let further = server.further().await.unwrap();
    let other = Client::connect(further.addr, TENANT).await.unwrap();
    let (first, second) = (sink().await, sink().await);
    create(&client, "relay", "mail", relay(&first)).await;
    for client in [&client, &other] {
        let told = test(client, "relay", "chef@sw.example", "").await.unwrap();
        assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    }
    assert_eq!(first.count(), 2);
    let campaign = launch_through(&other, "relay").await;
    until_over(&client, &campaign).await;
    assert_eq!(first.count(), 6);

    // Whichever sends: what is claimed from now on goes the new way.
    configure(&other, "relay", &relay(&second)).await;
    let campaign = launch_through(&client, "relay").await;
    until_over(&other, &campaign).await;
    for client in [&client, &other] {
        let told = test(client, "relay", "chef@sw.example", "").await.unwrap();
        assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    }
    assert_eq!((first.count(), second.count()), (6, 6));
    delete(&client, "relay", "").await.unwrap();
    for client in [&client, &other] {
        refused::not_found(&get(client, "relay").await.unwrap_err());
    }
}

#[tokio::test]
async fn an_account_that_does_not_open_holds_up_nothing_else() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 4).await;
    let relay_sink = sink().await;
    let refused_by_plugin = json!({"host": "mail.example.org", "tls": "none"});
    create(&client, "relay", "mail", refused_by_plugin).await;
    until_state(&client, "relay", pb::ChannelAccountState::Closed).await;
    let closed = get(&client, "relay").await.unwrap();
    assert!(
        closed.state_detail.contains("allow_plaintext"),
        "{closed:?}"
    );
    create(
        &client,
        "hangs",
        "testing",
        json!({"account": "x", "opening": "hang"}),
    )
    .await;
    let waiting = launch_through(&client, "relay").await;
    let other = launch_through(&client, "mail").await;
    until_over(&client, &other).await;
    let tried = ledger(&client, &waiting).await;
    assert!(tried.values().all(|m| m.attempt_count == 0), "{tried:?}");
    configure(&client, "relay", &relay(&relay_sink)).await;
    until_over(&client, &waiting).await;
    assert_eq!(relay_sink.count(), 4);
    until_state(&client, "relay", pb::ChannelAccountState::Open).await;
}

#[tokio::test]
async fn a_killed_server_leaves_what_the_accounts_policy_says() {
    let mut server = TestServer::start().await.unwrap();
    let client = tenant(&server, 3).await;
    let relay_sink = Sink::start(SinkOptions {
        // Longer than the test; the server is killed before.
        faults: Faults::none().with(
            Matching::Recipient(address(1)),
            Fault::HangAfterDot(Duration::from_secs(600)),
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    let account = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&relay_sink))),
        ambiguous_policy: pb::AmbiguousPolicy::Hold.into(),
        ..Default::default()
    };
    create_as(&client, "relay", account).await.unwrap();
    let campaign = launch_through(&client, "relay").await;
    let has = |customer| {
        let mails = relay_sink.received();
        mails.iter().any(|m| m.rcpt_to == [address(customer)])
    };
    until("the mail of which nobody will know", async || has(1)).await;
    server.kill();
    relay_sink.set_faults(Faults::none());
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until_over(&client, &campaign).await;
    let books = ledger(&client, &campaign).await;
    let doubtful = &books[&address(1)];
    assert_eq!(doubtful.state(), MessageState::Ambiguous, "{doubtful:?}");
    for message in books.values() {
        let known = attempts(message, AttemptOutcome::Accepted);
        let unknown = attempts(message, AttemptOutcome::Ambiguous);
        let mails = relay_sink.received();
        let mails = mails
            .iter()
            .filter(|m| m.rcpt_to == [message.address.clone()]);
        assert!(
            (known..=known + unknown).contains(&mails.count()),
            "{message:?}"
        );
    }
    // It may have been handed over: the account is needed until somebody decides.
    pause(&client, "relay", true).await;
    let status = delete(&client, "relay", &name("mail")).await.unwrap_err();
    let (_, words) = refused::precondition(&status, "PRECONDITION");
    assert!(words.contains("handed over"), "{words}");
}

#[tokio::test]
async fn a_test_is_sent_once() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let mut request = pb::TestChannelAccountRequest {
        name: name("mail"),
        recipient: "chef@sw.example".into(),
        subject: "Probe".into(),
        request_id: uuid::Uuid::now_v7().to_string(),
        validate_only: true,
        ..Default::default()
    };
    let test = async |request: &pb::TestChannelAccountRequest| {
        let told = client
            .channels()
            .test_channel_account(request.clone())
            .await;
        told.map(tonic::Response::into_inner)
    };
    let tried = test(&request).await.unwrap();
    assert_eq!(tried.outcome(), pb::TestOutcome::Unspecified);
    assert_eq!(server.sink.count(), 0);
    request.validate_only = false;
    let told = test(&request).await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted);
    assert_eq!(test(&request).await.unwrap(), told);
    assert_eq!(server.sink.count(), 1);
    // A blocked address gets none.
    let block = anklang_proto::anklang::customers::v1::CreateSuppressionRequest {
        suppression: Some(anklang_proto::anklang::customers::v1::Suppression {
            channel: "mail".into(),
            address: "chef@sw.example".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.customers().create_suppression(block).await.unwrap();
    request.request_id.clear();
    let status = test(&request).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    // A channel that refuses says why.
    let reply = anklang_local::smtp::Reply::new(550, "5.1.1 nobody of that name");
    let fault = Fault::RejectRecipient(reply);
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, fault));
    request.recipient = "niemand@sw.example".into();
    let told = test(&request).await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Permanent);
    assert!(told.detail.contains("nobody of that name"), "{told:?}");
}
