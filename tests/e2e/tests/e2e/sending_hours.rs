//! Sending hours: in the time zone of each recipient, and what is outside of them waits.

use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{Message, MessageState};
use anklang_testkit::{Client, TestServer};
use chrono::{DateTime, Datelike, Days, NaiveDate, Timelike, Utc};
use chrono_tz::Tz;

use crate::clocks::put_back_the_database;
use crate::mailing::{
    SLIP, TENANT, address, begin, import, launched, ledger, make_due, over, tenant, until,
};

/// The zone of fixed offset where it is about that hour now.
fn zone_where_it_is(hour: i32) -> Tz {
    let utc = i32::try_from(Utc::now().hour()).unwrap();
    let mut offset = hour - utc;
    if offset < -12 {
        offset += 24;
    }
    // The sign of these names is the other way round.
    let name = match offset {
        0 => "Etc/GMT".to_owned(),
        offset => format!("Etc/GMT{:+}", -offset),
    };
    name.parse().unwrap()
}

/// A server whose account "mail" has further settings.
async fn with_account(settings: &str) -> TestServer {
    let options = anklang_testkit::Options {
        account: settings.into(),
        ..Default::default()
    };
    TestServer::start_with(options).await.unwrap()
}

async fn live_in(client: &Client, zones: &[(usize, &str)]) {
    let mut csv = "number,kind,last_name,time_zone\n".to_owned();
    for (customer, zone) in zones {
        csv += &format!("{customer:04},person,Muster,{zone}\n");
    }
    import(client, ImportEntity::Customers, csv).await;
}

async fn launch(client: &Client) -> String {
    let operation = begin(client, SLIP).await;
    let launched = launched(&over(client, &operation.name).await);
    launched.campaign.unwrap().name
}

async fn until_message(
    client: &Client,
    campaign: &str,
    customer: usize,
    wanted: impl Fn(&Message) -> bool,
) {
    until("the message", async || {
        wanted(&ledger(client, campaign).await[&address(customer)])
    })
    .await;
}

fn next_attempt(message: &Message) -> DateTime<Utc> {
    let time = message.next_attempt_time.unwrap();
    DateTime::from_timestamp(time.seconds, 0).unwrap()
}

fn waits(message: &Message) -> bool {
    message.state() == MessageState::Queued && message.detail == "waits for the sending hours"
}

/// A day at an hour in a zone without changes.
fn at(day: NaiveDate, hour: u32, zone: Tz) -> DateTime<Utc> {
    let local = day.and_hms_opt(hour, 0, 0).unwrap();
    local.and_local_timezone(zone).unwrap().to_utc()
}

#[tokio::test]
async fn each_recipient_is_written_to_in_the_own_daytime() {
    let server = with_account("hours = '06:00-18:00'").await;
    let client = tenant(&server, 4).await;
    let (noon, night) = (zone_where_it_is(12), zone_where_it_is(0));
    live_in(
        &client,
        &[
            (0, noon.name()),
            (1, night.name()),
            (2, noon.name()),
            (3, night.name()),
        ],
    )
    .await;
    let campaign = launch(&client).await;
    for customer in [0, 2] {
        until_message(&client, &campaign, customer, |m| {
            m.state() == MessageState::Sent
        })
        .await;
    }
    for customer in [1, 3] {
        until_message(&client, &campaign, customer, waits).await;
    }
    // The next 06:00 there, to the second.
    let message = ledger(&client, &campaign).await[&address(1)].clone();
    let there = Utc::now().with_timezone(&night);
    let day = there.date_naive();
    let day = if there.hour() >= 18 {
        day + Days::new(1)
    } else {
        day
    };
    assert_eq!(next_attempt(&message), at(day, 6, night));
    assert_eq!(message.attempts, []);
    assert_eq!(server.sink.count(), 2);

    // One moves to where it is day; both are looked at again before their time.
    live_in(&client, &[(3, noon.name())]).await;
    make_due(&server).await;
    until_message(&client, &campaign, 3, |m| m.state() == MessageState::Sent).await;
    until_message(&client, &campaign, 1, waits).await;
    assert_eq!(server.sink.count(), 3);
}

/// Whatever the server's own clock says.
#[tokio::test]
async fn hours_are_those_of_the_databases_clock() {
    let mut server = with_account("hours = '00:00-06:00'").await;
    let client = tenant(&server, 1).await;
    live_in(&client, &[(0, zone_where_it_is(12).name())]).await;
    let campaign = launch(&client).await;
    until_message(&client, &campaign, 0, waits).await;
    // Now it is about midnight there.
    put_back_the_database(&server, "12 hours").await;
    server.restart().await.unwrap();
    make_due(&server).await;
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until_message(&client, &campaign, 0, |m| m.state() == MessageState::Sent).await;
}

#[tokio::test]
async fn days_without_sending_are_waited_out() {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    // Noon, so that the day does not end while the test runs.
    let zone = zone_where_it_is(12);
    let today = Utc::now().with_timezone(&zone).date_naive();
    let in_two_days = today + Days::new(2);
    let day = NAMES[usize::try_from(in_two_days.weekday().num_days_from_monday()).unwrap()];
    let server = with_account(&format!("hours = '09:00-24:00'\ndays = ['{day}']")).await;
    let client = tenant(&server, 1).await;
    live_in(&client, &[(0, zone.name())]).await;
    let campaign = launch(&client).await;
    until_message(&client, &campaign, 0, waits).await;
    let message = ledger(&client, &campaign).await[&address(0)].clone();
    assert_eq!(next_attempt(&message), at(in_two_days, 9, zone));

    let request = channels::GetChannelAccountRequest {
        name: "channelAccounts/mail".into(),
    };
    let account = client
        .channels()
        .get_channel_account(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(account.sending_hours, "09:00-24:00");
    assert_eq!(account.sending_days, [day]);
}

#[tokio::test]
async fn who_has_no_time_zone_lives_in_the_tenants() {
    let night = zone_where_it_is(0);
    let server = with_account("hours = '06:00-18:00'").await;
    let client = tenant(&server, 2).await;
    let database = server.database.connect().await.unwrap();
    let sql = format!("UPDATE tenant SET time_zone = '{}'", night.name());
    database.batch_execute(&sql).await.unwrap();
    live_in(&client, &[(1, zone_where_it_is(12).name())]).await;
    let campaign = launch(&client).await;
    until_message(&client, &campaign, 0, waits).await;
    until_message(&client, &campaign, 1, |m| m.state() == MessageState::Sent).await;
}

#[tokio::test]
async fn time_zones_that_do_not_exist_are_refused() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 1).await;
    let customer = customers::Customer {
        name: "customers/0000".into(),
        time_zone: "Europe/Giessen".into(),
        ..Default::default()
    };
    let request = customers::UpdateCustomerRequest {
        customer: Some(customer),
        ..Default::default()
    };
    let status = client
        .customers()
        .update_customer(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    let csv = "number,kind,last_name,time_zone\n0000,person,Muster,Mars/Olympus\n";
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!((sums.failed, sums.errors.len()), (1, 1), "{sums:?}");
    assert_eq!(sums.errors[0].field, "time_zone");
}
