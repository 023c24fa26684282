//! Accounts from their making to their end, and what goes through them meanwhile.

use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::anklang::messages::v1::MessageState;
use anklang_proto::google::r#type::Money;
use anklang_testkit::TestServer;
use serde_json::json;
use tonic::Code;

use super::{
    create, create_as, delete, get, launch_through, name, pause, relay, settings, sink, test,
    until_gone, until_state, update,
};
use crate::mailing::{SLIP, ledger, request, tenant, until_figures, until_over};
use crate::refused;
use crate::utility::{FEW, launch, with_utility};

#[tokio::test]
async fn an_account_is_made_used_and_taken_away() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 5).await;
    let relay_sink = sink().await;
    let made = create(&client, "relay", "mail", relay(&relay_sink)).await;
    assert_eq!(
        (&made.name[..], &made.channel[..], &made.display_name[..]),
        ("channelAccounts/relay", "mail", "relay")
    );
    assert_eq!((made.batch, made.calls, made.read_only), (64, 4, false));
    assert_eq!(made.ambiguous_policy(), pb::AmbiguousPolicy::Resend);
    until_state(&client, "relay", pb::ChannelAccountState::Open).await;
    let open = get(&client, "relay").await.unwrap();
    assert_eq!(open.etag, made.etag, "how it is, is no part of it");
    assert_eq!(open.plugin_sha256.len(), 64);

    let told = test(&client, "relay", "chef@sw.example", "Hallo")
        .await
        .unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    let mails = relay_sink.received();
    assert_eq!(mails[0].rcpt_to, ["chef@sw.example"]);
    assert_eq!(mails[0].mail_from, "info@sw.example");
    let sql = "SELECT (SELECT count(*) FROM message)
                    + (SELECT count(*) FROM customer_event WHERE kind LIKE 'message.%')";
    let before = server.database.one(sql).await.unwrap();
    assert_eq!(before, "0", "a test is no message");

    let campaign = launch_through(&client, "relay").await;
    until_over(&client, &campaign).await;
    let ledger_before = ledger(&client, &campaign).await;
    for message in ledger_before.values() {
        assert_eq!(message.state(), MessageState::Sent);
        assert_eq!(message.channel_account, "channelAccounts/relay");
        assert_eq!(message.attempts[0].channel_account, "channelAccounts/relay");
    }
    assert_eq!((relay_sink.count(), server.sink.count()), (6, 0));

    delete(&client, "relay", "").await.unwrap();
    refused::not_found(&get(&client, "relay").await.unwrap_err());
    assert_eq!(ledger(&client, &campaign).await, ledger_before);
    let mut again = request(SLIP);
    again.outbound.as_mut().unwrap().channel_account = name("relay");
    let status = client.campaigns().launch_campaign(again).await.unwrap_err();
    refused::names(&status, &["outbound.channel_account"]);
}

#[tokio::test]
async fn what_the_operator_has_configured_stays_as_it_is() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let shown = get(&client, "mail").await.unwrap();
    assert!(shown.read_only && shown.config.is_none());
    let account = pb::ChannelAccount {
        paused: true,
        ..Default::default()
    };
    let status = update(&client, "mail", account, &["paused"])
        .await
        .unwrap_err();
    let (subject, words) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "channelAccounts/mail");
    assert!(words.contains("operator"), "{words}");
    let status = delete(&client, "mail", "").await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");
    let account = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&server.sink))),
        ..Default::default()
    };
    let status = create_as(&client, "mail", account.clone())
        .await
        .unwrap_err();
    refused::is(&status, Code::AlreadyExists, "ALREADY_EXISTS");
    create_as(&client, "own", account.clone()).await.unwrap();
    let status = create_as(&client, "own", account).await.unwrap_err();
    refused::is(&status, Code::AlreadyExists, "ALREADY_EXISTS");

    let list = async |filter: &str| {
        let request = pb::ListChannelAccountsRequest {
            filter: filter.into(),
            ..Default::default()
        };
        let listed = client.channels().list_channel_accounts(request).await;
        let accounts = listed.unwrap().into_inner().channel_accounts;
        accounts.into_iter().map(|a| a.name).collect::<Vec<_>>()
    };
    assert_eq!(list("").await, [name("mail"), name("own")]);
    assert_eq!(list("read_only = true").await, [name("mail")]);
    assert_eq!(list("NOT create_time:* OR id = none").await, [name("mail")]);
    assert_eq!(
        list("plugin = mail AND paused = false AND id = own").await,
        [name("own")]
    );
    // It can be tried all the same.
    let told = test(&client, "mail", "chef@sw.example", "").await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    assert_eq!(server.sink.count(), 1);
}

#[tokio::test]
async fn a_paused_account_sends_nothing_and_goes_on_when_resumed() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let relay_sink = sink().await;
    create(&client, "relay", "mail", relay(&relay_sink)).await;
    until_state(&client, "relay", pb::ChannelAccountState::Open).await;
    pause(&client, "relay", true).await;
    until_state(&client, "relay", pb::ChannelAccountState::Paused).await;
    let waiting = launch_through(&client, "relay").await;
    // All that comes later has gone, and it has not.
    let other = launch_through(&client, "mail").await;
    until_over(&client, &other).await;
    assert_eq!((server.sink.count(), relay_sink.count()), (6, 0));
    let tried = ledger(&client, &waiting).await;
    assert!(tried.values().all(|m| m.attempt_count == 0), "{tried:?}");
    // A test goes: that is how one finds out whether to resume.
    let told = test(&client, "relay", "chef@sw.example", "").await.unwrap();
    assert_eq!(told.outcome(), pb::TestOutcome::Accepted, "{told:?}");
    pause(&client, "relay", false).await;
    until_over(&client, &waiting).await;
    assert_eq!(relay_sink.count(), 7);
}

#[tokio::test]
async fn limits_hold_and_change_without_opening_anew() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let relay_sink = sink().await;
    let account = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&relay_sink))),
        rate: "2/day".into(),
        burst: 2,
        sending_days: ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
            .map(str::to_owned)
            .into(),
        cost_per_message: Some(Money {
            currency_code: "EUR".into(),
            units: 0,
            nanos: 15_000_000,
        }),
        ambiguous_policy: pb::AmbiguousPolicy::Hold.into(),
        ..Default::default()
    };
    let made = create_as(&client, "relay", account).await.unwrap();
    assert_eq!((&made.rate[..], made.burst), ("2/day", 2));
    assert_eq!(made.cost_per_message.as_ref().unwrap().nanos, 15_000_000);
    assert_eq!(made.ambiguous_policy(), pb::AmbiguousPolicy::Hold);
    let campaign = launch_through(&client, "relay").await;
    until_figures(&client, &campaign, |m| m.sent == 2).await;
    // Others go meanwhile, and of this no more.
    let other = launch_through(&client, "mail").await;
    until_over(&client, &other).await;
    assert_eq!(relay_sink.count(), 2);
    let account = pb::ChannelAccount {
        rate: "1000/second".into(),
        burst: 10,
        ..Default::default()
    };
    let changed = update(&client, "relay", account, &["rate", "burst"])
        .await
        .unwrap();
    assert_eq!((&changed.rate[..], changed.burst), ("1000/second", 10));
    // What the slow rate has spent is due in the future; a person may reset it.
    let database = server.database.connect().await.unwrap();
    let sql = "UPDATE account_pace SET free_at = now()";
    database.batch_execute(sql).await.unwrap();
    until_over(&client, &campaign).await;
    assert_eq!(relay_sink.count(), 6);
}

#[tokio::test]
async fn what_waits_for_a_deleted_account_goes_to_its_replacement() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let (first, second) = (sink().await, sink().await);
    create(&client, "first", "mail", relay(&first)).await;
    create(&client, "second", "mail", relay(&second)).await;
    create(&client, "text", "testing", json!({"account": "x"})).await;
    pause(&client, "first", true).await;
    let campaign = launch_through(&client, "first").await;
    let status = delete(&client, "first", "").await.unwrap_err();
    let (subject, words) = refused::precondition(&status, "PRECONDITION");
    assert_eq!(subject, "channelAccounts/first");
    assert!(words.contains("6 messages"), "{words}");
    for wrong in [
        "channelAccounts/none",
        "channelAccounts/text",
        "channelAccounts/first",
    ] {
        let status = delete(&client, "first", wrong).await.unwrap_err();
        refused::names(&status, &["replacement"]);
    }
    delete(&client, "first", &name("second")).await.unwrap();
    refused::not_found(&get(&client, "first").await.unwrap_err());
    until_over(&client, &campaign).await;
    assert_eq!((first.count(), second.count()), (0, 6));
    let moved = ledger(&client, &campaign).await;
    for message in moved.values() {
        assert_eq!(message.channel_account, name("second"));
        assert_eq!(message.attempts[0].channel_account, name("second"));
    }
    until_gone(&server, "first").await;
    // Its name is free again.
    create(&client, "first", "mail", relay(&first)).await;
}

#[tokio::test]
async fn accounts_of_the_same_name_are_each_their_tenants() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 5).await;
    let (linden, utility) = with_utility(&server, FEW).await;
    let (ours, theirs) = (sink().await, sink().await);
    create(&client, "relay", "mail", relay(&ours)).await;
    create(&linden, "relay", "mail", relay(&theirs)).await;
    // One pauses its own, and not the other's.
    pause(&linden, "relay", true).await;
    let campaign = launch_through(&client, "relay").await;
    let mut request = utility.launch();
    request.outbound.as_mut().unwrap().channel_account = name("relay");
    let launched = launch(&linden, request).await;
    until_over(&client, &campaign).await;
    assert_eq!((ours.count(), theirs.count()), (5, 0));
    pause(&linden, "relay", false).await;
    let wanted = utility.members().len();
    let theirs_campaign = launched.campaign.unwrap().name;
    until_figures(&linden, &theirs_campaign, |m| {
        usize::try_from(m.sent).unwrap() == wanted
    })
    .await;
    assert_eq!(ours.count(), 5);
    assert_eq!(theirs.count(), u64::try_from(wanted).unwrap());
    let alien = |mail: &anklang_local::smtp::Received| mail.mail_from == "info@sw.example";
    assert!(ours.received().iter().all(alien) && !theirs.received().iter().any(alien));
}
