//! Hours and call-backs in time zones other than the tenant's.

use anklang_proto::anklang::planning::v1::{self as pb, OutcomeClass, PassedOver};
use anklang_testkit::{Client, TestServer};
use chrono::{DateTime, NaiveTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use super::{
    asks, contact, create, desk, due, next, next_customer, plan, record, rules, says, sql, time,
    timestamp,
};

/// West and east of the tenant's, by whole and half hours, one with clocks that change by half an hour.
const ZONES: [Tz; 5] = [
    Tz::America__New_York,
    Tz::Asia__Kolkata,
    Tz::Australia__Lord_Howe,
    Tz::Pacific__Kiritimati,
    Tz::Pacific__Pago_Pago,
];

/// Whether the day of a zone ends or begins just now, so that a test may find itself on the next one.
fn is_midnight(zone: Tz) -> bool {
    let minute = Utc::now()
        .with_timezone(&zone)
        .time()
        .num_seconds_from_midnight()
        / 60;
    !(2..24 * 60 - 3).contains(&minute)
}

/// When clocks of a zone show a time, so many days after today's date.
fn on_clock(now: DateTime<Utc>, zone: Tz, days: i64, hour: u32) -> DateTime<Utc> {
    let date = now.with_timezone(&zone).date_naive() + TimeDelta::days(days);
    let local = date.and_hms_opt(hour, 0, 0).unwrap();
    local.and_local_timezone(zone).earliest().unwrap().to_utc()
}

/// A plan of a zone with these hours, and a contact of its for today, due now.
async fn contact_in(
    server: &TestServer,
    client: &Client,
    zone: Tz,
    customer: &str,
    (earliest, latest): (&str, &str),
) -> pb::PlannedContact {
    plan(
        server,
        customer,
        "",
        &rules(60, 3, &serde_json::json!("close")),
    )
    .await;
    let hours = format!(
        "UPDATE contact_plan SET time_zone = '{zone}', earliest = '{earliest}', latest = '{latest}'
         WHERE code = '{customer}'"
    );
    sql(server, &hours).await;
    let hour = earliest[..2].parse().unwrap();
    let contact = pb::NewPlannedContact {
        contact_plan: format!("contactPlans/{customer}"),
        contact_time: Some(timestamp(on_clock(Utc::now(), zone, 0, hour))),
        ..due(customer)
    };
    let made = create(client, contact).await;
    let due = format!(
        "UPDATE planned_contact SET next_at = now() - interval '1 minute'
         WHERE plan_code = '{customer}'"
    );
    sql(server, &due).await;
    made
}

#[tokio::test]
async fn hours_are_those_on_the_clock_of_the_plans_zone() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for (i, zone) in ZONES.into_iter().enumerate() {
        let customer = format!("K{}", i + 1);
        if is_midnight(zone) {
            continue;
        }
        // The half of the day that it is not.
        let before = Utc::now();
        let is_morning = before.with_timezone(&zone).time().hour() < 12;
        let hours = match is_morning {
            true => ("13:00", "23:59"),
            false => ("00:00", "10:59"),
        };
        let made = contact_in(&server, &client, zone, &customer, hours).await;
        assert_eq!(next_customer(&client, asks("anna")).await, "-", "{zone}");
        let request = pb::GetPlannedContactRequest { name: made.name };
        let told = client.planned_contacts().get_planned_contact(request).await;
        let told = told.unwrap().into_inner();
        assert_eq!(told.passed_over(), PassedOver::OutsideWindow, "{zone}");
        let opens = match is_morning {
            true => on_clock(before, zone, 0, 13),
            false => on_clock(before, zone, 1, 0),
        };
        assert_eq!(time(told.passed_over_until_time.as_ref()), opens, "{zone}");
    }
    for (i, zone) in ZONES.into_iter().take(4).enumerate() {
        let customer = format!("K{}", i + 6);
        if is_midnight(zone) {
            continue;
        }
        let hours = ("00:00", "23:59");
        let made = contact_in(&server, &client, zone, &customer, hours).await;
        let claimed = next(&client, asks("anna")).await.unwrap();
        assert_eq!(contact(&claimed).name, made.name, "{zone}");
        assert_eq!(claimed.warnings, Vec::<i32>::new(), "{zone}");
    }
}

#[tokio::test]
async fn customers_name_times_on_their_own_clock() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    for (i, zone) in ZONES.into_iter().enumerate() {
        let customer = format!("K{}", i + 1);
        if is_midnight(zone) {
            continue;
        }
        contact_in(&server, &client, zone, &customer, ("00:00", "23:59")).await;
        let claimed = next(&client, asks("anna")).await.unwrap();
        // On a day on which no clock changes.
        let date = Utc::now().with_timezone(&zone).date_naive() + TimeDelta::days(3);
        let wish = date.and_time(NaiveTime::from_hms_opt(10, 15, 0).unwrap());
        let later = pb::RecordOutcomeRequest {
            call_later_local_time: wish.format("%Y-%m-%dT%H:%M").to_string(),
            ..says(&claimed, OutcomeClass::CallLater)
        };
        let now = record(&client, later).await.unwrap();
        let now = now.planned_contact.unwrap();
        let named = wish.and_local_timezone(zone).earliest().unwrap();
        assert_eq!(time(now.next_contact_time.as_ref()), named, "{zone}");
        assert_eq!(next_customer(&client, asks("anna")).await, "-", "{zone}");
    }
}
