//! Servers that are killed, stopped and cut off from their database, alone and two at a time:
//! nothing is lost, nothing is made twice, and what is sent twice says so.
//!
//! Moments are random; `ANKLANG_TEST_SEED` repeats them.

use std::collections::BTreeSet;
use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::messages::v1::{AttemptOutcome, ListMessagesRequest, MessageState};
use anklang_testkit::{Client, Options, TestServer};
use rand::RngExt;

use crate::mailing::{
    Books, SLIP, TENANT, address, attempts, balanced, begin, check_rows, figures, launched, over,
    seeded, tenant, until, until_figures, until_over,
};

async fn server(ambiguous: &'static str) -> TestServer {
    TestServer::start_with(Options {
        ambiguous,
        lease_seconds: 1,
        ..Default::default()
    })
    .await
    .unwrap()
}

/// A server whose mail server takes its time for each mail.
async fn slow_server(ambiguous: &'static str, milliseconds: u64) -> TestServer {
    let server = server(ambiguous).await;
    let slow = Fault::Slow(Duration::from_millis(milliseconds));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    server
}

async fn client(server: &TestServer) -> Client {
    Client::connect(server.addr, TENANT).await.unwrap()
}

/// How often the only launch was taken up.
async fn taken_up(server: &TestServer) -> u32 {
    let attempt = server
        .database
        .one("SELECT attempt FROM operation WHERE kind = 'LaunchCampaign'")
        .await
        .unwrap();
    attempt.parse().unwrap()
}

#[tokio::test]
async fn a_launch_survives_kills_at_any_moment() {
    const MEMBERS: usize = 300;
    let mut random = seeded();
    let mut server = server("resend").await;
    let first = tenant(&server, MEMBERS).await;
    // The letter that ships takes long enough to be interrupted.
    let operation = begin(&first, "").await;
    let over_now = "SELECT state NOT IN ('queued', 'running') FROM operation
                    WHERE kind = 'LaunchCampaign'";
    for round in 1..=6 {
        // Only a worker that has taken the launch up can be interrupted at it.
        until("a worker", async || {
            taken_up(&server).await >= round || server.database.one(over_now).await.unwrap() == "t"
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
        server.restart().await.unwrap();
    }
    let client = client(&server).await;
    let response = launched(&over(&client, &operation.name).await);
    assert_eq!(
        (response.candidates, response.members, response.excluded),
        (300, 300, 0)
    );
    assert!(
        taken_up(&server).await > 1,
        "no kill interrupted the launch"
    );

    let campaign = response.campaign.unwrap().name;
    until_over(&client, &campaign).await;
    check_rows(&server, MEMBERS).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    assert_eq!(books.in_state(MessageState::Sent).len(), MEMBERS);
    twice_only_in_doubt(&books);
}

/// Mails that arrived more than once are those with an attempt of which nobody knew.
fn twice_only_in_doubt(books: &Books) {
    for (address, mails) in &books.arrived {
        let doubts = attempts(&books.ledger[address], AttemptOutcome::Ambiguous);
        assert!(mails.len() <= 1 + doubts, "{:?}", books.ledger[address]);
    }
}

/// Kills the server again and again while it sends, then lets it finish.
async fn kill_while_sending(server: &mut TestServer, members: usize) -> (Client, String) {
    let mut random = seeded();
    let first = tenant(server, members).await;
    let operation = begin(&first, SLIP).await;
    let campaign = launched(&over(&first, &operation.name).await)
        .campaign
        .unwrap()
        .name;
    let waiting = "SELECT count(*) FROM message WHERE state IN ('queued', 'sending')";
    for _ in 0..5 {
        let before = server.sink.count();
        until("a mail", async || {
            server.sink.count() > before || server.database.one(waiting).await.unwrap() == "0"
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        server.restart().await.unwrap();
    }
    let client = client(server).await;
    until_over(&client, &campaign).await;
    (client, campaign)
}

#[tokio::test]
async fn held_mails_never_arrive_twice_though_the_server_is_killed() {
    const MEMBERS: usize = 400;
    let mut server = slow_server("hold", 10).await;
    let (client, campaign) = kill_while_sending(&mut server, MEMBERS).await;
    // Also those that the mail server was still busy with when the sender was killed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    assert!(books.arrived.values().all(|mails| mails.len() == 1));

    let held = ambiguous(&client, &campaign).await;
    assert!(
        !held.is_empty(),
        "no kill came between hand-over and answer"
    );
    let arrived: BTreeSet<String> = books.arrived.keys().cloned().collect();
    let everybody: BTreeSet<String> = (0..MEMBERS).map(address).collect();
    assert_eq!(&arrived | &held, everybody);
    let sent: BTreeSet<String> = books
        .in_state(MessageState::Sent)
        .into_iter()
        .map(str::to_owned)
        .collect();
    assert_eq!(&sent | &held, everybody);
    assert_eq!(&sent & &held, BTreeSet::new());
}

/// Addresses of the messages that wait for a person.
async fn ambiguous(client: &Client, campaign: &str) -> BTreeSet<String> {
    let request = ListMessagesRequest {
        page_size: 1_000,
        campaign: campaign.into(),
        states: vec![MessageState::Ambiguous.into()],
        ..Default::default()
    };
    let listed = client
        .messages()
        .list_messages(request)
        .await
        .unwrap()
        .into_inner();
    listed.messages.into_iter().map(|m| m.address).collect()
}

#[tokio::test]
async fn mails_that_may_be_resent_all_arrive_though_the_server_is_killed() {
    const MEMBERS: usize = 400;
    let mut server = slow_server("resend", 10).await;
    let (client, campaign) = kill_while_sending(&mut server, MEMBERS).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    assert_eq!(books.in_state(MessageState::Sent).len(), MEMBERS);
    assert_eq!(books.arrived.len(), MEMBERS);
    let doubts = books
        .ledger
        .values()
        .filter(|m| attempts(m, AttemptOutcome::Ambiguous) > 0);
    assert!(
        doubts.count() > 0,
        "no kill came between hand-over and answer"
    );
    twice_only_in_doubt(&books);
}

#[tokio::test]
async fn of_a_fast_mail_server_a_large_group_is_in_doubt_and_nothing_else() {
    const MEMBERS: usize = 1_000;
    let options = Options {
        ambiguous: "hold",
        lease_seconds: 1,
        account: "calls = 1".into(),
        ..Default::default()
    };
    let mut server = TestServer::start_with(options).await.unwrap();
    let first = tenant(&server, MEMBERS).await;
    let operation = begin(&first, SLIP).await;
    let group = "SELECT count(*) FROM message WHERE state = 'sending' AND submitted_at IS NOT NULL";
    let size = async || {
        let counted = server.database.one(group).await.unwrap();
        counted.parse::<usize>().unwrap()
    };
    let large = async { while size().await <= 8 {} };
    let seen = tokio::time::timeout(Duration::from_secs(120), large).await;
    seen.expect("no group was larger than eight");
    // The group that is being handed over stays where it is: its next mails get no answer.
    let silent = Fault::HangAfterDot(Duration::from_secs(600));
    let silent = Faults::none().with(Matching::All, silent);
    server.sink.set_faults(silent);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let in_hand = size().await;
    assert!((1..=64).contains(&in_hand), "{in_hand} were handed over");
    server.kill();
    server.sink.set_faults(Faults::none());
    server.restart().await.unwrap();

    let client = client(&server).await;
    let campaign = launched(&over(&client, &operation.name).await)
        .campaign
        .unwrap()
        .name;
    until_over(&client, &campaign).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    assert_eq!(ambiguous(&client, &campaign).await.len(), in_hand);
    assert_eq!(books.in_state(MessageState::Sent).len(), MEMBERS - in_hand);
    assert!(books.arrived.values().all(|mails| mails.len() == 1));
}

/// What was claimed is not yet marked as handed over when the database ends the connection which marks it.
#[tokio::test]
async fn a_mark_that_is_cut_off_is_made_again() {
    const MEMBERS: usize = 5;
    let mut server = TestServer::start_with(Options {
        ambiguous: "hold",
        no_dispatch: true,
        ..Default::default()
    })
    .await
    .unwrap();
    let first = tenant(&server, MEMBERS).await;
    let operation = begin(&first, SLIP).await;
    let campaign = launched(&over(&first, &operation.name).await)
        .campaign
        .unwrap()
        .name;
    // Contents wait for the brand, and the mark for the messages.
    let (mut contents, mut marks) = (
        server.database.connect().await.unwrap(),
        server.database.connect().await.unwrap(),
    );
    let before_content = contents.transaction().await.unwrap();
    let lock = "LOCK TABLE brand IN ACCESS EXCLUSIVE MODE";
    before_content.batch_execute(lock).await.unwrap();
    let config = server.config_file();
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("enabled = false", "enabled = true")).unwrap();
    server.restart().await.unwrap();
    let claimed = "SELECT count(*) FROM message WHERE state = 'sending'";
    until("a claim", async || {
        server.database.one(claimed).await.unwrap() == "5"
    })
    .await;
    let before_mark = marks.transaction().await.unwrap();
    let lock = "LOCK TABLE message IN ACCESS EXCLUSIVE MODE";
    before_mark.batch_execute(lock).await.unwrap();
    before_content.commit().await.unwrap();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'
                 AND query LIKE '%WITH mine AS MATERIALIZED%m.notice IS NOT NULL%'";
    until("a mark", async || {
        server.database.one(cut).await.unwrap() != "0"
    })
    .await;
    before_mark.commit().await.unwrap();

    let client = client(&server).await;
    until_figures(&client, &campaign, |m| m.sent == 5).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    for message in books.ledger.values() {
        assert_eq!(message.attempt_count, 1, "{message:?}");
        assert_eq!(attempts(message, AttemptOutcome::Accepted), 1);
    }
}

#[tokio::test]
async fn two_servers_share_the_work() {
    const MEMBERS: usize = 1_000;
    let server = server("resend").await;
    let client = tenant(&server, MEMBERS).await;
    let _second = server.further().await.unwrap();
    let operation = begin(&client, SLIP).await;
    let campaign = launched(&over(&client, &operation.name).await)
        .campaign
        .unwrap()
        .name;
    until_figures(&client, &campaign, |m| m.sent == 1_000).await;
    check_rows(&server, MEMBERS).await;
    let received = server.sink.received();
    let recipients: BTreeSet<&str> = received.iter().map(|mail| &mail.rcpt_to[0][..]).collect();
    assert_eq!((received.len(), recipients.len()), (MEMBERS, MEMBERS));
}

#[tokio::test]
async fn a_stopped_server_that_comes_back_changes_nothing_but_doubt() {
    const MEMBERS: usize = 300;
    let server = slow_server("hold", 20).await;
    let first = tenant(&server, MEMBERS).await;
    let operation = begin(&first, SLIP).await;
    let campaign = launched(&over(&first, &operation.name).await)
        .campaign
        .unwrap()
        .name;
    server
        .sink
        .wait_for(5, Duration::from_secs(120))
        .await
        .unwrap();
    server.signal("STOP").unwrap();

    // The other one sends what the first has not claimed, and rescues the rest.
    let second = server.further().await.unwrap();
    let client = Client::connect(second.addr, TENANT).await.unwrap();
    until_over(&client, &campaign).await;
    let before = balanced(&server, &client, &campaign, MEMBERS).await;
    let held = ambiguous(&client, &campaign).await;
    assert!(
        !held.is_empty(),
        "the first server had nothing in its hands"
    );

    // The first goes on where it was. That what it had in its hands was taken is believed, and nothing
    // else changes.
    server.signal("CONT").unwrap();
    server
        .sink
        .wait_for(300, Duration::from_secs(120))
        .await
        .unwrap();
    until("an end of the doubt", async || {
        ambiguous(&client, &campaign).await.is_empty()
    })
    .await;
    let after = balanced(&server, &client, &campaign, MEMBERS).await;
    for (address, message) in &after.ledger {
        if held.contains(address) {
            assert_eq!(message.state(), MessageState::Sent, "{message:?}");
            assert_eq!(attempts(message, AttemptOutcome::Accepted), 1);
        } else {
            assert_eq!(message, &before.ledger[address]);
        }
    }
    assert_eq!(after.arrived.len(), MEMBERS);
    assert!(after.arrived.values().all(|mails| mails.len() == 1));
}

#[tokio::test]
async fn lost_database_connections_cost_nothing() {
    const MEMBERS: usize = 300;
    let mut random = seeded();
    let server = TestServer::start_with(Options {
        ambiguous: "resend",
        ..Default::default()
    })
    .await
    .unwrap();
    let slow = Fault::Slow(Duration::from_millis(30));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    let client = tenant(&server, MEMBERS).await;
    let killer = server.database.connect().await.unwrap();
    let operation = begin(&client, SLIP).await;
    let mut killed = 0;
    while server.sink.count() < 200 {
        let one = "SELECT pg_terminate_backend(pid) FROM (
                       SELECT pid FROM pg_stat_activity WHERE datname = current_database()
                          AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS backends";
        killer.batch_execute(one).await.unwrap();
        killed += 1;
        assert!(killed < 400, "the work does not move on");
        // Ever rarer: on a slow machine nothing else would ever be done in between.
        let pause = random.random_range(50..250) * (1 + killed / 20);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    assert!(killed > 5, "it was all too fast");

    let campaign = launched(&over(&client, &operation.name).await)
        .campaign
        .unwrap()
        .name;
    until_over(&client, &campaign).await;
    check_rows(&server, MEMBERS).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    assert_eq!(books.in_state(MessageState::Sent).len(), MEMBERS);
    // The outcome of a mail that was handed over is recorded, later if need be.
    assert!(books.arrived.values().all(|mails| mails.len() == 1));
    assert!(figures(&client, &campaign).await.is_some());
}
