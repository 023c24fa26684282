//! How fast an account sends: rates over all servers and restarts, and channels that want to be left
//! alone.

use std::time::Duration;

use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, Message, MessageState};
use anklang_testkit::{Client, Options, TestServer};
use chrono::{DateTime, TimeDelta, Utc};

use crate::mailing::{
    SLIP, begin, import, launched, ledger, over, request, tenant, until, until_over,
};
use crate::probe::tell_channel;

fn time(time: Option<prost_types::Timestamp>) -> DateTime<Utc> {
    let time = time.unwrap();
    let nanos = u32::try_from(time.nanos).unwrap();
    DateTime::from_timestamp(time.seconds, nanos).unwrap()
}

/// The attempts of all messages by their beginning.
async fn attempts(client: &Client, campaign: &str) -> Vec<DateTime<Utc>> {
    let ledger = ledger(client, campaign).await;
    let attempts = ledger.values().flat_map(|m| &m.attempts);
    let mut times: Vec<_> = attempts.map(|a| time(a.start_time)).collect();
    times.sort();
    times
}

/// In no span are there more than `burst` and one each `interval`.
fn assert_paced(times: &[DateTime<Utc>], burst: i64, interval: TimeDelta) {
    for (i, from) in times.iter().enumerate() {
        for (j, until) in times.iter().enumerate().skip(i) {
            let count = i64::try_from(j - i + 1).unwrap();
            let span = *until - *from;
            let allowed = burst + span.num_milliseconds() / interval.num_milliseconds();
            assert!(
                count <= allowed,
                "{count} from {from} to {until}, {allowed} allowed"
            );
        }
    }
}

#[tokio::test]
async fn two_servers_and_a_restart_stay_below_one_rate() {
    let mut server = TestServer::start_with(Options {
        account: "rate = '120/minute'\nburst = 4".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 24).await;
    let further = server.further().await.unwrap();
    let operation = begin(&client, SLIP).await;
    let launched = launched(&over(&client, &operation.name).await);
    let campaign = launched.campaign.unwrap().name;
    server
        .sink
        .wait_for(8, Duration::from_secs(120))
        .await
        .unwrap();
    // What was taken is not forgotten.
    server.restart().await.unwrap();
    let client = server.client(crate::mailing::TENANT).await.unwrap();
    server
        .sink
        .wait_for(24, Duration::from_secs(120))
        .await
        .unwrap();
    until_over(&client, &campaign).await;
    drop(further);

    let times = attempts(&client, &campaign).await;
    assert!(times.len() >= 24);
    assert_paced(&times, 4, TimeDelta::milliseconds(500));
    let whole = *times.last().unwrap() - times[0];
    // 24 less 4 at once, at two a second.
    assert!(whole >= TimeDelta::seconds(10), "{whole}");

    let request = channels::GetChannelAccountRequest {
        name: "channelAccounts/mail".into(),
    };
    let account = client
        .channels()
        .get_channel_account(request)
        .await
        .unwrap();
    let account = account.into_inner();
    assert_eq!((&account.rate[..], account.burst), ("120/minute", 4));
    assert_eq!(account.hold_until_time, None);
}

async fn account(client: &Client) -> channels::ChannelAccount {
    let request = channels::GetChannelAccountRequest {
        name: "channelAccounts/probe".into(),
    };
    let account = client.channels().get_channel_account(request).await;
    account.unwrap().into_inner()
}

fn throttled(message: &Message) -> usize {
    let attempts = message.attempts.iter();
    attempts
        .filter(|a| a.outcome() == AttemptOutcome::Throttled)
        .count()
}

#[tokio::test]
async fn a_channel_that_is_full_holds_the_whole_account() {
    let server = TestServer::start_with(Options {
        config: "[channel_accounts.probe]\nplugin = 'testing'\nbatch = 1\ncalls = 1\n\
                 [channel_accounts.probe.config]\naccount = 'probe'"
            .into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let client = tenant(&server, 5).await;
    let rows = |row: &dyn Fn(usize) -> String| (0..5).map(row).collect::<String>();
    let points = rows(&|i| format!("{i:04},testing,probe{i}\n"));
    let points = format!("customer_number,channel,address\n{points}");
    import(&client, ImportEntity::ContactPoints, points).await;
    let consents = rows(&|i| format!("{i:04},testing,marketing,granted,2025-05-01T10:00:00Z\n"));
    let consents = format!("customer_number,channel,purpose,state,recorded_at\n{consents}");
    import(&client, ImportEntity::Consents, consents).await;
    tell_channel(&client, "throttled:30000").await;

    let mut request = request("");
    let outbound = request.outbound.as_mut().unwrap();
    outbound.channel_account = "channelAccounts/probe".into();
    outbound.message_template = "order".into();
    outbound.without_document = true;
    let operation = client.campaigns().launch_campaign(request).await.unwrap();
    let launched = launched(&over(&client, &operation.get_ref().name).await);
    let campaign = launched.campaign.unwrap().name;
    until("a hold", async || {
        account(&client).await.hold_until_time.is_some()
    })
    .await;
    let held = account(&client).await;
    assert_eq!(held.hold_reason, "the channel asked to slow down");
    let until_then = time(held.hold_until_time) - Utc::now();
    assert!(until_then <= TimeDelta::seconds(30), "{until_then}");

    // Only one was tried; for the others the account is held as well, also for another server.
    let further = server.further().await.unwrap();
    let other = Client::connect(further.addr, crate::mailing::TENANT)
        .await
        .unwrap();
    tell_channel(&client, "fine").await;
    let tried = ledger(&other, &campaign).await;
    assert_eq!(tried.values().map(throttled).sum::<usize>(), 1, "{tried:?}");
    assert_eq!(tried.values().map(|m| m.attempt_count).sum::<i32>(), 1);

    // When the hold is over all go.
    let sql = "UPDATE account_pace SET held_until = now();
               UPDATE message SET next_attempt_at = now() WHERE state = 'queued'";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(sql).await.unwrap();
    until_over(&client, &campaign).await;
    let sent = ledger(&client, &campaign).await;
    assert!(
        sent.values().all(|m| m.state() == MessageState::Sent),
        "{sent:?}"
    );
    assert_eq!(account(&client).await.hold_until_time, None);
}
