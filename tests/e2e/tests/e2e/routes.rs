//! Routes: how messages are shared out among accounts, and how accounts stand in for each other.

use anklang_domain::route::{Entry, split};
use anklang_local::smtp::{Fault, Faults, Matching, Sink};
use anklang_proto::anklang::channels::v1 as pb;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, Message, MessageState};
use anklang_testkit::{Client, TestServer};
use prost_types::FieldMask;
use serde_json::json;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::accounts::{
    configure, create, create_as, launch_request, name, pause, relay, settings, sink,
};
use crate::mailing::{
    SLIP, address, attempts, ledger, make_due, request, tenant, until, until_figures, until_over,
};
use crate::refused;

fn entry(id: &str, priority: i32, share: i32) -> pb::ChannelRouteEntry {
    pb::ChannelRouteEntry {
        channel_account: name(id),
        priority,
        share,
    }
}

fn route(entries: Vec<pb::ChannelRouteEntry>) -> pb::ChannelRoute {
    pb::ChannelRoute {
        channel: "mail".into(),
        entries,
        failover_after: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        ..Default::default()
    }
}

async fn save(client: &Client, route: pb::ChannelRoute) -> Result<pb::ChannelRoute, Status> {
    let request = pb::CreateChannelRouteRequest {
        channel_route_id: "main".into(),
        channel_route: Some(route),
        ..Default::default()
    };
    let made = client.channels().create_channel_route(request).await?;
    Ok(made.into_inner())
}

fn by_route() -> anklang_proto::anklang::campaigns::v1::LaunchCampaignRequest {
    let mut request = request(SLIP);
    let outbound = request.outbound.as_mut().unwrap();
    outbound.channel_account.clear();
    outbound.channel_route = "channelRoutes/main".into();
    request
}

/// Two accounts on two mail servers.
async fn two(client: &Client) -> [Sink; 2] {
    let sinks = [sink().await, sink().await];
    create(client, "first", "mail", relay(&sinks[0])).await;
    create(client, "second", "mail", relay(&sinks[1])).await;
    sinks
}

fn account_of(message: &Message) -> &str {
    message
        .channel_account
        .strip_prefix("channelAccounts/")
        .unwrap()
}

/// Each mail arrived once, at the account that the ledger names, also for its last attempt.
fn assert_once(books: &std::collections::BTreeMap<String, Message>, sinks: &[Sink; 2]) {
    for message in books.values() {
        assert_eq!(message.state(), MessageState::Sent, "{message:?}");
        let last = message.attempts.last().unwrap();
        assert_eq!(last.channel_account, message.channel_account);
        let count = |sink: &Sink| {
            let mails = sink.received();
            let to = |m: &&anklang_local::smtp::Received| m.rcpt_to == [message.address.clone()];
            mails.iter().filter(to).count()
        };
        let arrived = match account_of(message) {
            "first" => [1, 0],
            _ => [0, 1],
        };
        assert_eq!([count(&sinks[0]), count(&sinks[1])], arrived, "{message:?}");
    }
}

#[tokio::test]
async fn messages_are_shared_out_by_share() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 40).await;
    let sinks = two(&client).await;
    let third = sink().await;
    create(&client, "third", "mail", relay(&third)).await;
    let entries = vec![
        entry("first", 1, 3),
        entry("second", 1, 1),
        entry("third", 2, 9),
    ];
    save(&client, route(entries)).await.unwrap();
    let campaign = launch_request(&client, by_route()).await;
    until_over(&client, &campaign).await;
    let books = ledger(&client, &campaign).await;
    assert_once(&books, &sinks);
    assert_eq!(third.count(), 0, "the second priority has nothing to do");
    // The rule says which goes where, by the id alone.
    let of = |account: &str, share| Entry {
        account: account.into(),
        priority: 1,
        share,
    };
    let rule = split(&[of("first", 3), of("second", 1)], |_| true).unwrap();
    for message in books.values() {
        let id: Uuid = message.name["messages/".len()..].parse().unwrap();
        assert_eq!(account_of(message), rule.account(id));
    }
    // Of 40, chance does not give all to one.
    assert!(sinks[0].count() > 0 && sinks[1].count() > 0);
}

#[tokio::test]
async fn what_waits_for_a_paused_account_goes_to_the_next() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 8).await;
    let sinks = [sink().await, sink().await];
    let slow = pb::ChannelAccount {
        plugin: "mail".into(),
        config: Some(settings(&relay(&sinks[0]))),
        rate: "1/day".into(),
        ..Default::default()
    };
    create_as(&client, "first", slow).await.unwrap();
    create(&client, "second", "mail", relay(&sinks[1])).await;
    save(
        &client,
        route(vec![entry("first", 1, 1), entry("second", 2, 1)]),
    )
    .await
    .unwrap();
    let campaign = launch_request(&client, by_route()).await;
    until_figures(&client, &campaign, |m| m.sent == 1).await;
    let waiting = ledger(&client, &campaign).await;
    assert!(waiting.values().all(|m| account_of(m) == "first"));
    pause(&client, "first", true).await;
    until_over(&client, &campaign).await;
    let books = ledger(&client, &campaign).await;
    assert_once(&books, &sinks);
    assert_eq!((sinks[0].count(), sinks[1].count()), (1, 7));

    // What is launched now goes to the second at once; resumed, the first has its turn again.
    let campaign = launch_request(&client, by_route()).await;
    until_over(&client, &campaign).await;
    assert_eq!((sinks[0].count(), sinks[1].count()), (1, 15));
    let reset = "UPDATE account_pace SET free_at = now()";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(reset).await.unwrap();
    pause(&client, "first", false).await;
    let campaign = launch_request(&client, by_route()).await;
    until_figures(&client, &campaign, |m| m.sent == 1).await;
    assert_eq!(sinks[0].count(), 2);
}

#[tokio::test]
async fn what_waits_for_an_account_that_cannot_send_goes_to_the_next() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 8).await;
    let sinks = two(&client).await;
    let down = sinks[0].refuse_connections().await.unwrap();
    save(
        &client,
        route(vec![entry("first", 1, 1), entry("second", 2, 1)]),
    )
    .await
    .unwrap();
    let campaign = launch_request(&client, by_route()).await;
    until_over(&client, &campaign).await;
    let books = ledger(&client, &campaign).await;
    assert_once(&books, &sinks);
    assert_eq!(sinks[1].count(), 8);
    for message in books.values() {
        let first = &message.attempts[0];
        assert_eq!(first.channel_account, name("first"), "{message:?}");
        assert_eq!(first.outcome(), AttemptOutcome::Transient);
    }
    // It is asked until it can send again, and then it does.
    down.end().await.unwrap();
    let failing = "SELECT count(*) FROM account_pace WHERE failing_since IS NOT NULL";
    until("the first has recovered", async || {
        server.database.one(failing).await.unwrap() == "0"
    })
    .await;
    let campaign = launch_request(&client, by_route()).await;
    until_over(&client, &campaign).await;
    assert_eq!((sinks[0].count(), sinks[1].count()), (8, 8));

    // One that does not even open counts as well.
    let wrong = json!({"host": "mail.example.org", "tls": "none"});
    configure(&client, "first", &wrong).await;
    let campaign = launch_request(&client, by_route()).await;
    until_over(&client, &campaign).await;
    assert_eq!((sinks[0].count(), sinks[1].count()), (8, 16));
}

#[tokio::test]
async fn what_waits_for_a_held_account_goes_to_the_next() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 8).await;
    let sinks = two(&client).await;
    // What a channel says that wants to be left alone for a day, and has for an hour.
    let held = "INSERT INTO account_pace (tenant_id, account, held_until, held_since)
                SELECT id, 'first', now() + interval '1 day', now() - interval '1 hour'
                FROM tenant WHERE slug = 'stadtwerke'";
    let database = server.database.connect().await.unwrap();
    save(
        &client,
        route(vec![entry("first", 1, 1), entry("second", 2, 1)]),
    )
    .await
    .unwrap();
    pause(&client, "first", true).await;
    pause(&client, "second", true).await;
    let campaign = launch_request(&client, by_route()).await;
    let waiting = ledger(&client, &campaign).await;
    assert!(
        waiting.values().all(|m| account_of(m) == "first"),
        "when none can send, they wait where they belong"
    );
    database.batch_execute(held).await.unwrap();
    pause(&client, "first", false).await;
    pause(&client, "second", false).await;
    until_over(&client, &campaign).await;
    assert_once(&ledger(&client, &campaign).await, &sinks);
    assert_eq!(sinks[1].count(), 8);
}

#[tokio::test]
async fn what_may_have_been_handed_over_never_moves() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 5).await;
    let sinks = two(&client).await;
    // Taken, and nobody is told; the others are put off.
    let reply = anklang_local::smtp::Reply::new(451, "4.3.0 later");
    let mut faults = Faults::none().with(
        Matching::Recipient(address(2)),
        Fault::CloseAfterDot { keep: true },
    );
    for other in [0, 1, 3, 4] {
        let later = Fault::RejectRecipient(reply.clone());
        faults = faults.with(Matching::Recipient(address(other)), later);
    }
    sinks[0].set_faults(faults);
    save(
        &client,
        route(vec![entry("first", 1, 1), entry("second", 2, 1)]),
    )
    .await
    .unwrap();
    let campaign = launch_request(&client, by_route()).await;
    let doubtful = async || ledger(&client, &campaign).await[&address(2)].clone();
    until("the doubt", async || {
        attempts(&doubtful().await, AttemptOutcome::Ambiguous) == 1
    })
    .await;
    pause(&client, "first", true).await;
    until_figures(&client, &campaign, |m| m.sent == 4).await;
    let waits = doubtful().await;
    assert_eq!(waits.state(), MessageState::Queued, "the policy of mails");
    assert_eq!(account_of(&waits), "first");
    sinks[0].set_faults(Faults::none());
    pause(&client, "first", false).await;
    make_due(&server).await;
    until_over(&client, &campaign).await;
    let sent = doubtful().await;
    assert_eq!(
        (sent.state(), account_of(&sent)),
        (MessageState::Sent, "first")
    );
    assert_eq!((sinks[0].count(), sinks[1].count()), (2, 4));
    let mails = sinks[0].received();
    assert_eq!(mails[0].message_id, mails[1].message_id, "the same mail");
}

#[tokio::test]
async fn a_route_that_changes_takes_what_waits_along() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 6).await;
    let sinks = two(&client).await;
    save(&client, route(vec![entry("first", 1, 1)]))
        .await
        .unwrap();
    pause(&client, "first", true).await;
    let campaign = launch_request(&client, by_route()).await;
    let delete = pb::DeleteChannelRouteRequest {
        name: "channelRoutes/main".into(),
        ..Default::default()
    };
    let refusal = client.channels().delete_channel_route(delete.clone()).await;
    let (_, words) = refused::precondition(&refusal.unwrap_err(), "PRECONDITION");
    assert!(words.contains("6 messages"), "{words}");
    let status = client
        .channels()
        .delete_channel_account(pb::DeleteChannelAccountRequest {
            name: name("first"),
            replacement: name("second"),
            ..Default::default()
        })
        .await
        .unwrap_err();
    let (_, words) = refused::precondition(&status, "PRECONDITION");
    assert!(words.contains("channelRoutes/main"), "{words}");

    let update = pb::UpdateChannelRouteRequest {
        channel_route: Some(pb::ChannelRoute {
            name: "channelRoutes/main".into(),
            entries: vec![entry("second", 1, 1)],
            ..Default::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["entries".into()],
        }),
        ..Default::default()
    };
    let updated = client.channels().update_channel_route(update).await;
    assert_eq!(updated.unwrap().get_ref().entries, [entry("second", 1, 1)]);
    until_over(&client, &campaign).await;
    assert_once(&ledger(&client, &campaign).await, &sinks);
    assert_eq!(sinks[1].count(), 6);
    client
        .channels()
        .delete_channel_route(delete)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_killed_server_moves_on_where_it_stopped() {
    let mut server = TestServer::start().await.unwrap();
    let client = tenant(&server, 8).await;
    let sinks = two(&client).await;
    save(
        &client,
        route(vec![entry("first", 1, 1), entry("second", 2, 1)]),
    )
    .await
    .unwrap();
    pause(&client, "first", true).await;
    pause(&client, "second", true).await;
    let campaign = launch_request(&client, by_route()).await;
    server.kill();
    let resumed = "UPDATE channel_account SET paused = false, revision = revision + 1
                   WHERE id = 'second'";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(resumed).await.unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, crate::mailing::TENANT)
        .await
        .unwrap();
    until_over(&client, &campaign).await;
    assert_once(&ledger(&client, &campaign).await, &sinks);
    assert_eq!(sinks[1].count(), 8);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_route_is_told() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    create(&client, "text", "testing", json!({"account": "x"})).await;
    let wrong = pb::ChannelRoute {
        display_name: "x".repeat(201),
        failover_after: Some(prost_types::Duration {
            seconds: 0,
            nanos: 5,
        }),
        ..route(vec![
            entry("text", 1, 1),
            entry("none", 101, 1),
            entry("mail", 1, 1_001),
            entry("mail", -1, 1),
            pb::ChannelRouteEntry::default(),
        ])
    };
    let status = save(&client, wrong).await.unwrap_err();
    let at = |field: &str| format!("channel_route.{field}");
    let fields = [
        "display_name",
        "failover_after",
        "entries[0].channel_account",
        "entries[1].channel_account",
        "entries[1].priority",
        "entries[2].share",
        "entries[3].channel_account",
        "entries[3].priority",
        "entries[4].channel_account",
    ]
    .map(at);
    refused::names(&status, &fields.each_ref().map(String::as_str));
    let status = save(&client, route(Vec::new())).await.unwrap_err();
    refused::names(&status, &["channel_route.entries"]);
    // The operator's accounts can be in it.
    let made = save(&client, route(vec![entry("mail", 0, 0)]))
        .await
        .unwrap();
    assert_eq!(made.entries, [entry("mail", 1, 1)]);
    let again = save(&client, route(vec![entry("mail", 0, 0)])).await;
    refused::is(&again.unwrap_err(), Code::AlreadyExists, "ALREADY_EXISTS");

    let mut both = by_route();
    both.outbound.as_mut().unwrap().channel_account = name("mail");
    let status = client.campaigns().launch_campaign(both).await.unwrap_err();
    refused::names(&status, &["outbound.channel_route"]);
    let mut unknown = by_route();
    unknown.outbound.as_mut().unwrap().channel_route = "channelRoutes/none".into();
    let status = client.campaigns().launch_campaign(unknown).await;
    refused::names(&status.unwrap_err(), &["outbound.channel_route"]);
    let campaign = launch_request(&client, by_route()).await;
    until_over(&client, &campaign).await;
    assert_eq!(server.sink.count(), 1);
}
