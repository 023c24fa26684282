//! Figures of contacts and attempts, by hand.

use anklang_proto::anklang::planning::v1::{self as pb, ContactDimension as By, OutcomeClass};
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, TestServer};
use prost_types::Duration;
use serde_json::json;

use super::{claim, create, desk, due, plan, record, rules, says, sql};
use crate::refused;

fn date(day: i32) -> Option<Date> {
    let (year, month) = (2026, 3);
    Some(Date { year, month, day })
}

fn march(group_by: &[By]) -> pb::AnalyseContactsRequest {
    pb::AnalyseContactsRequest {
        first_date: date(1),
        last_date: date(31),
        group_by: group_by.iter().map(|by| (*by).into()).collect(),
        ..Default::default()
    }
}

async fn analyse(
    client: &Client,
    request: pb::AnalyseContactsRequest,
) -> pb::AnalyseContactsResponse {
    let found = client.work_list().analyse_contacts(request).await;
    found.unwrap().into_inner()
}

#[expect(clippy::unnecessary_wraps, reason = "as in messages")]
fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// Makes contacts of March 2026, 10:00 to 12:00 in Berlin, of which these attempts were made: day and
/// hour in Berlin, worker, class, seconds of talk, seconds since the claim.
async fn contact(
    server: &TestServer,
    client: &Client,
    customer: &str,
    plan: &str,
    day: u32,
    state: &str,
    attempts: &[(&str, &str, &str, i32, i32)],
) {
    let new = pb::NewPlannedContact {
        contact_plan: plan.into(),
        ..due(customer)
    };
    let name = create(client, new).await.name;
    let id = name.trim_start_matches("plannedContacts/");
    let is_over = ["done", "given_up", "cancelled"].contains(&state);
    let next = if is_over { "NULL" } else { "next_at" };
    let class = attempts
        .last()
        .map_or("NULL".into(), |a| format!("'{}'", a.2));
    let mut rows = format!(
        "UPDATE planned_contact
         SET plan_date = '2026-03-{day}', contact_date = '2026-03-{day}', state = '{state}',
             contact_at = timestamp '2026-03-{day} 10:00' AT TIME ZONE 'Europe/Berlin',
             window_from = timestamp '2026-03-{day} 10:00' AT TIME ZONE 'Europe/Berlin',
             window_to = timestamp '2026-03-{day} 12:00' AT TIME ZONE 'Europe/Berlin',
             attempts = {}, outcome_class = {class}, next_at = {next}
         WHERE id = '{id}';",
        attempts.len()
    );
    for (i, (at, worker, class, talk, held)) in attempts.iter().enumerate() {
        rows += &format!(
            "INSERT INTO contact_attempt (tenant_id, contact_id, attempt, customer_id, worker, purpose,
                 recorded_at, talk_seconds, outcome_class, outside_window, claimed_at)
             SELECT tenant_id, id, {}, customer_id, 'users/{worker}', 'call', at, {talk}, '{class}',
                    false, at - interval '{held} seconds'
             FROM planned_contact,
                  (SELECT timestamp '2026-{at}' AT TIME ZONE 'Europe/Berlin' AS at) a
             WHERE id = '{id}';",
            i + 1
        );
    }
    sql(server, &rows).await;
}

/// Three contacts of the plan DI with people who buy fruit, one of them without a plan and with bread.
async fn histories(server: &TestServer) -> Client {
    let client = desk(server).await;
    plan(server, "DI", "", &rules(45, 5, &json!("close"))).await;
    let di = "contactPlans/DI";
    // Punctual, and an order at the second attempt.
    let attempts = [
        ("03-03 10:30", "anna", "busy", 0, 60),
        ("03-03 11:15", "bert", "order_taken", 300, 400),
    ];
    contact(server, &client, "K1", di, 3, "done", &attempts).await;
    // Half an hour late, on the day after; reached.
    let attempts = [("03-05 12:30", "anna", "done", 100, 130)];
    contact(server, &client, "K2", di, 4, "done", &attempts).await;
    // Too early, and never reached; the last attempt is in April.
    let attempts = [
        ("03-31 09:00", "anna", "not_reached", 0, 20),
        ("04-01 10:00", "anna", "not_reached", 0, 40),
    ];
    contact(server, &client, "K5", "", 31, "given_up", &attempts).await;
    // Nobody has called yet, and nobody will.
    contact(server, &client, "K3", di, 17, "open", &[]).await;
    contact(server, &client, "K3", di, 24, "cancelled", &[]).await;
    client
}

#[tokio::test]
async fn figures_are_those_of_what_happened() {
    let server = TestServer::start().await.unwrap();
    let client = histories(&server).await;
    let found = analyse(&client, march(&[])).await;
    let time = |class: OutcomeClass, attempt_count, talk, held| pb::OutcomeTime {
        outcome_class: class.into(),
        attempt_count,
        talk_time: seconds(talk),
        claimed_time: seconds(held),
        timed_attempt_count: attempt_count,
    };
    let day_and_half_hour = 86_400 + 1_800;
    let expected = pb::ContactFigures {
        planned_count: 5,
        open_count: 1,
        done_count: 2,
        given_up_count: 1,
        cancelled_count: 1,
        tried_count: 3,
        reached_count: 2,
        not_reached_count: 1,
        order_taken_count: 1,
        order_rate: 0.5,
        punctual_count: 1,
        late_count: 1,
        late_time: seconds(day_and_half_hour),
        average_late_time: seconds(day_and_half_hour),
        punctuality: 1.0 / 3.0,
        // Not the one of April.
        attempt_count: 4,
        talk_time: seconds(400),
        average_talk_time: seconds(100),
        times: vec![
            time(OutcomeClass::Done, 1, 100, 130),
            time(OutcomeClass::OrderTaken, 1, 300, 400),
            time(OutcomeClass::NotReached, 1, 0, 20),
            time(OutcomeClass::Busy, 1, 0, 60),
        ],
    };
    assert_eq!(found.total, Some(expected.clone()));
    let [all] = &found.groups[..] else {
        panic!("{found:?}");
    };
    assert_eq!(all.figures, Some(expected));
    // Nothing on other days, and nothing of others.
    let last_day = pb::AnalyseContactsRequest {
        first_date: date(31),
        ..march(&[])
    };
    let last_day = analyse(&client, last_day).await.total.unwrap();
    assert_eq!((last_day.planned_count, last_day.attempt_count), (1, 1));
    let other = server.client("other").await.unwrap();
    let nothing = analyse(&other, march(&[By::Day])).await;
    assert_eq!(nothing.groups, []);
    assert_eq!(nothing.total.unwrap().planned_count, 0);
}

#[tokio::test]
async fn groups_say_what_they_are_of() {
    let server = TestServer::start().await.unwrap();
    let client = histories(&server).await;
    let counts = async |request: pb::AnalyseContactsRequest,
                        key: fn(&pb::ContactGroup) -> String| {
        let found = analyse(&client, request).await;
        let line = |group: &pb::ContactGroup| {
            let f = group.figures.as_ref().unwrap();
            format!("{} {}/{}", key(group), f.planned_count, f.attempt_count)
        };
        let lines: Vec<String> = found.groups.iter().map(line).collect();
        lines.join(", ")
    };
    let found = counts(march(&[By::ContactPlan]), |g| g.contact_plan.clone()).await;
    assert_eq!(found, " 1/1, contactPlans/DI 4/3");
    let found = counts(march(&[By::Worker]), |g| g.worker.clone()).await;
    assert_eq!(found, " 2/0, users/anna 2/3, users/bert 1/1");
    let found = counts(march(&[By::CustomerGroup]), |g| g.customer_group.clone()).await;
    assert_eq!(found, "Brot 1/1, Obst 4/3");
    let found = counts(march(&[By::Day]), |g| g.day.unwrap().day.to_string()).await;
    assert_eq!(found, "3 1/2, 4 1/0, 5 0/1, 17 1/0, 24 1/0, 31 1/1");
    let found = counts(march(&[By::Week]), |g| g.week.unwrap().day.to_string()).await;
    assert_eq!(found, "2 2/3, 16 1/0, 23 1/0, 30 1/1");
    let found = counts(march(&[By::Month]), |g| g.month.unwrap().month.to_string()).await;
    assert_eq!(found, "3 5/4");
    let found = counts(march(&[By::Weekday]), |g| g.weekday.clone()).await;
    assert_eq!(found, "tue 4/3, wed 1/0, thu 0/1");
    let found = counts(march(&[By::Hour]), |g| g.hour.unwrap().to_string()).await;
    assert_eq!(found, "9 0/1, 10 5/1, 11 0/1, 12 0/1");
    let found = counts(march(&[By::OutcomeClass]), |g| {
        format!("{:?}", g.outcome_class())
    })
    .await;
    assert_eq!(
        found,
        "Unspecified 2/0, Busy 0/1, Done 1/1, NotReached 1/1, OrderTaken 1/1"
    );

    // Together, and bounded.
    let mut request = march(&[By::CustomerGroup, By::Weekday, By::Worker]);
    request.max_groups = 3;
    let key = |g: &pb::ContactGroup| format!("{} {} {}", g.customer_group, g.weekday, g.worker);
    let found = counts(request.clone(), key).await;
    assert_eq!(
        found,
        "Brot tue users/anna 1/1, Obst tue  2/0, Obst tue users/anna 0/1"
    );
    let found = analyse(&client, request).await;
    assert!(found.more);
    assert_eq!(found.total.unwrap().planned_count, 5);

    // Filters.
    let request = pb::AnalyseContactsRequest {
        contact_plans: vec!["contactPlans/DI".into(), "contactPlans/none".into()],
        customer_groups: vec!["Obst".into()],
        ..march(&[])
    };
    assert_eq!(counts(request, |_| String::new()).await, " 4/3");
    let nobodys = pb::AnalyseContactsRequest {
        responsibles: vec!["users/anna".into()],
        ..march(&[])
    };
    assert_eq!(counts(nobodys, |_| String::new()).await, "");
}

/// How long somebody has a contact is kept with the attempt.
#[tokio::test]
async fn the_time_between_claim_and_outcome_is_kept() {
    let server = TestServer::start().await.unwrap();
    let client = desk(&server).await;
    let name = create(&client, due("K1")).await.name;
    claim(&client, &name, "bert").await.unwrap();
    let ago = "UPDATE planned_contact SET claimed_at = now() - interval '1000 seconds'";
    sql(&server, ago).await;
    // Who takes over from him begins with a time of her own.
    sql(&server, "UPDATE planned_contact SET claim_until = now()").await;
    claim(&client, &name, "anna").await.unwrap();
    let ago = "UPDATE planned_contact SET claimed_at = claimed_at - interval '500 seconds'";
    sql(&server, ago).await;
    // Another screen of hers.
    let claimed = claim(&client, &name, "anna").await.unwrap();
    record(&client, says(&claimed, OutcomeClass::Done))
        .await
        .unwrap();
    let today = chrono::Utc::now()
        .with_timezone(&chrono_tz::Europe::Berlin)
        .date_naive();
    let wire = |date: chrono::NaiveDate| {
        use chrono::Datelike;
        let whole = |n: u32| i32::try_from(n).unwrap();
        Some(Date {
            year: date.year(),
            month: whole(date.month()),
            day: whole(date.day()),
        })
    };
    let request = pb::AnalyseContactsRequest {
        first_date: wire(today - chrono::Days::new(2)),
        last_date: wire(today + chrono::Days::new(2)),
        ..Default::default()
    };
    let total = analyse(&client, request).await.total.unwrap();
    let [done] = &total.times[..] else {
        panic!("{total:?}");
    };
    assert_eq!(
        (done.outcome_class(), done.timed_attempt_count),
        (OutcomeClass::Done, 1)
    );
    let held = done.claimed_time.unwrap().seconds;
    assert!((500..1_000).contains(&held), "{held}");
}

#[tokio::test]
async fn what_cannot_be_analysed_is_refused() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let call = async |request| {
        let refused = client.work_list().analyse_contacts(request).await;
        refused.unwrap_err()
    };
    let status = call(pb::AnalyseContactsRequest {
        group_by: vec![0, By::Day.into(), By::Day.into(), By::Hour.into()],
        contact_plans: vec!["plans/DI".into()],
        responsibles: vec!["anna".into()],
        customer_groups: vec![String::new()],
        campaigns: vec!["campaigns/1".into()],
        max_groups: 10_001,
        ..Default::default()
    })
    .await;
    refused::names(
        &status,
        &[
            "first_date",
            "last_date",
            "group_by",
            "group_by[0]",
            "group_by[2]",
            "contact_plans[0]",
            "responsibles[0]",
            "customer_groups[0]",
            "campaigns[0]",
            "max_groups",
        ],
    );
    let status = call(pb::AnalyseContactsRequest {
        first_date: date(2),
        last_date: date(1),
        ..Default::default()
    })
    .await;
    refused::names(&status, &["last_date"]);
}
