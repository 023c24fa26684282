//! Generating planned contacts again and again: no double, nothing lost, and the difference is told.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use pb::GenerationChange as Change;
use pb::GenerationReason as Reason;

use crate::hold::Hold;
use crate::planning::{
    contacts, count, date, generate, put_calendar, put_entry, put_plan, range, told, weekly,
    with_customers, written,
};
use crate::utility::until;

/// Added, changed, removed, kept, unchanged.
fn sums(response: &pb::GeneratePlannedContactsResponse) -> [i64; 5] {
    [
        response.added_count,
        response.changed_count,
        response.removed_count,
        response.kept_count,
        response.unchanged_count,
    ]
}

async fn execute(server: &TestServer, sql: &str) {
    let owner = server.database.connect().await.unwrap();
    assert_eq!(owner.execute(sql, &[]).await.unwrap(), 1, "{sql}");
}

/// Everything about all contacts.
const ROWS: &str = "SELECT coalesce(string_agg(k::text || xmin::text, ',' ORDER BY id), '') FROM planned_contact k";

#[tokio::test]
async fn a_second_run_changes_only_what_differs() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 3).await;
    let calendar = put_calendar(&client, "firma", "", &[]).await;
    let plan = |weekday| pb::ContactPlan {
        workday_calendar: calendar.clone(),
        ..weekly("A", &[weekday], "2027-01-01", "2027-12-31")
    };
    put_plan(&client, plan("tue")).await.unwrap();
    for customer in 1..=3 {
        put_entry(&client, &format!("A/entries/0900-{customer}"))
            .await
            .unwrap();
    }
    let march = || range("2027-03-01", "2027-03-28");
    assert_eq!(sums(&generate(&client, march()).await), [12, 0, 0, 0, 0]);
    let before = server.database.one(ROWS).await.unwrap();
    assert_eq!(sums(&generate(&client, march()).await), [0, 0, 0, 0, 12]);
    assert_eq!(
        server.database.one(ROWS).await.unwrap(),
        before,
        "no row was written again"
    );

    // A person calls one customer an hour later, and pins another contact, and has tried a third.
    let at = |customer: u32| {
        format!(
            "WHERE plan_date = '2027-03-02' AND customer_id =
             (SELECT id FROM customer WHERE number = '{customer}')"
        )
    };
    let moved = "UPDATE planned_contact SET contact_at = contact_at + interval '1 hour',
                 next_at = next_at + interval '1 hour', marks = '{moved}', holds_day = false ";
    execute(&server, &format!("{moved} {}", at(1))).await;
    execute(
        &server,
        &format!("UPDATE planned_contact SET marks = '{{pinned}}' {}", at(2)),
    )
    .await;
    let tried = "UPDATE planned_contact SET state = 'waiting', attempts = 1";
    execute(&server, &format!("{tried} {}", at(3))).await;
    let again = generate(&client, march()).await;
    assert_eq!(sums(&again), [0, 0, 0, 1, 11]);
    assert_eq!(count(&again, Change::Kept, Reason::Moved), 1);

    // Wednesdays instead: what nobody was at goes, the others stay.
    put_plan(&client, plan("wed")).await.unwrap();
    let wednesdays = generate(&client, march()).await;
    assert_eq!(sums(&wednesdays), [12, 0, 9, 3, 0]);
    for reason in [Reason::Moved, Reason::Pinned, Reason::WorkedOn] {
        assert_eq!(count(&wednesdays, Change::Kept, reason), 1, "{reason:?}");
    }
    assert_eq!(
        count(&wednesdays, Change::Removed, Reason::NoContactDate),
        9
    );
    let dates: Vec<String> = contacts(&client, "customer = \"customers/1\"")
        .await
        .iter()
        .map(|c| written(c.contact_date))
        .collect();
    let expected = [
        "2027-03-02",
        "2027-03-03",
        "2027-03-10",
        "2027-03-17",
        "2027-03-24",
    ];
    assert_eq!(dates, expected);
    assert_eq!(sums(&generate(&client, march()).await), [0, 0, 0, 3, 12]);

    // A day off.
    put_calendar(&client, "firma", "", &["2027-03-10"]).await;
    let holiday = generate(&client, march()).await;
    assert_eq!(sums(&holiday), [0, 0, 3, 3, 9]);
    assert_eq!(count(&holiday, Change::Removed, Reason::NoWorkday), 3);
    assert_eq!(contacts(&client, "").await.len(), 12);
    let sample = holiday
        .sample
        .iter()
        .find(|s| s.change() == Change::Removed);
    let sample = sample.unwrap();
    assert_eq!(
        (&sample.plan_entry[..], written(sample.plan_date)),
        ("contactPlans/A/entries/0900-1", "2027-03-10".into())
    );
}

#[tokio::test]
async fn plans_that_permit_no_duplicates_share_a_customers_day() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 2).await;
    let plan = |code, duplicates_permitted| pb::ContactPlan {
        duplicates_permitted,
        ..weekly(code, &["tue"], "2027-01-01", "2027-12-31")
    };
    for code in ["A", "B"] {
        put_plan(&client, plan(code, false)).await.unwrap();
    }
    for entry in [
        "A/entries/0900-1",
        "B/entries/0800-1",
        "B/entries/1500-1",
        "B/entries/0900-2",
    ] {
        put_entry(&client, entry).await.unwrap();
    }
    let of = |code: &str, mut request: pb::GeneratePlannedContactsRequest| {
        request.contact_plans = vec![format!("contactPlans/{code}")];
        request
    };
    // One week: B has both of its contacts with customer 1, and A gives way.
    let week = || range("2027-03-01", "2027-03-07");
    let first = generate(&client, of("B", week())).await;
    assert_eq!(sums(&first), [3, 0, 0, 0, 0]);
    let second = generate(&client, of("A", week())).await;
    assert_eq!(sums(&second), [0, 0, 0, 0, 0]);
    assert_eq!(count(&second, Change::LeftOut, Reason::Duplicate), 1);
    // All together: the first by code has the day.
    let both = generate(&client, week()).await;
    assert_eq!(sums(&both), [1, 0, 2, 0, 1]);
    assert_eq!(count(&both, Change::Removed, Reason::Duplicate), 2);
    assert_eq!(sums(&generate(&client, week()).await), [0, 0, 0, 0, 2]);

    // Unless people are at it.
    let pinned = "UPDATE planned_contact SET marks = '{pinned}' WHERE plan_code = 'A'";
    execute(&server, pinned).await;
    let mut urgent = pb::PlanEntry {
        name: "contactPlans/B/entries/0800-1".into(),
        priority: 10,
        ..Default::default()
    };
    crate::planning::save_entry(&client, urgent.clone())
        .await
        .unwrap();
    assert_eq!(sums(&generate(&client, week()).await), [0, 0, 0, 0, 2]);
    execute(
        &server,
        "UPDATE planned_contact SET marks = '{}' WHERE plan_code = 'A'",
    )
    .await;
    assert_eq!(sums(&generate(&client, week()).await), [2, 0, 1, 0, 1]);
    urgent.priority = 0;
    crate::planning::save_entry(&client, urgent).await.unwrap();

    // Who permits duplicates always gets its contact.
    put_plan(&client, plan("B", true)).await.unwrap();
    let permitted = generate(&client, week()).await;
    assert_eq!((permitted.added_count, permitted.removed_count), (1, 0));
    assert_eq!(contacts(&client, "").await.len(), 4);
}

#[tokio::test]
async fn a_date_that_permits_duplicates_takes_nothing_from_other_plans() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    for code in ["A", "B"] {
        let plan = weekly(code, &["tue"], "2027-01-01", "2027-12-31");
        put_plan(&client, plan).await.unwrap();
        put_entry(&client, &format!("{code}/entries/0900-1"))
            .await
            .unwrap();
    }
    let permitted = pb::PlanException {
        duplicates_permitted: true,
        ..Default::default()
    };
    crate::planning::put_exception(&client, "A/exceptions/2027-03-02", permitted)
        .await
        .unwrap();
    let week = || range("2027-03-01", "2027-03-07");
    assert_eq!(sums(&generate(&client, week()).await), [2, 0, 0, 0, 0]);
    let mut alone = week();
    alone.contact_plans = vec!["contactPlans/B".into()];
    assert_eq!(sums(&generate(&client, alone).await), [0, 0, 0, 0, 1]);
    let pinned = "UPDATE planned_contact SET marks = '{pinned}' WHERE plan_code = 'A'";
    execute(&server, pinned).await;
    assert_eq!(sums(&generate(&client, week()).await), [0, 0, 0, 0, 2]);
}

#[tokio::test]
async fn old_contacts_go_and_filters_hold_together() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 4).await;
    let mut plan = weekly("A", &["mon"], "2027-01-01", "2027-12-31");
    plan.responsible = "users/bea@linden.example".into();
    let saved = put_plan(&client, plan).await.unwrap();
    assert_eq!(
        saved.responsible, "users/bea%40linden.example",
        "as names are"
    );
    for customer in 1..=4 {
        put_entry(&client, &format!("A/entries/0900-{customer}"))
            .await
            .unwrap();
    }
    generate(&client, range("2027-02-01", "2027-02-28")).await;
    let worked = "UPDATE planned_contact SET state = 'done', next_at = NULL, attempts = 1,
                  outcome_class = 'done' WHERE plan_date = '2027-02-01' AND customer_id =
                  (SELECT id FROM customer WHERE number = '2')";
    execute(&server, worked).await;
    let request = pb::GeneratePlannedContactsRequest {
        customer_groups: vec!["even".into()],
        responsibles: vec!["users/bea@linden.example".into()],
        delete_until_date: date("2027-02-14"),
        ..range("2027-03-01", "2027-03-07")
    };
    let done = generate(&client, request).await;
    assert_eq!(sums(&done), [2, 0, 3, 0, 0]);
    assert_eq!(count(&done, Change::Removed, Reason::Old), 3);
    assert_eq!(contacts(&client, "state = DONE").await.len(), 1);
    assert_eq!(contacts(&client, "").await.len(), 16 + 2 - 3);
    let nobody = pb::GeneratePlannedContactsRequest {
        responsibles: vec!["roles/sales".into()],
        ..range("2027-03-01", "2027-03-07")
    };
    assert_eq!(sums(&generate(&client, nobody).await), [0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn what_people_do_between_comparing_and_writing_is_compared_again() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    for code in ["A", "B"] {
        let plan = weekly(code, &["tue"], "2027-01-01", "2027-12-31");
        put_plan(&client, plan).await.unwrap();
        put_entry(&client, &format!("{code}/entries/0900-1"))
            .await
            .unwrap();
    }
    let week = || range("2027-03-01", "2027-03-07");
    let mut of_b = week();
    of_b.contact_plans = vec!["contactPlans/B".into()];
    assert_eq!(sums(&generate(&client, of_b).await), [1, 0, 0, 0, 0]);
    // Together A has the day, unless somebody pins B's contact in that moment.
    let mut person = server.database.connect().await.unwrap();
    let pinning = person.transaction().await.unwrap();
    let pin = "UPDATE planned_contact SET marks = '{pinned}'";
    pinning.execute(pin, &[]).await.unwrap();
    let mut service = client.planned_contacts();
    let begun = service.generate_planned_contacts(week()).await.unwrap();
    let operation = begun.into_inner();
    until("the generation waits for the row", async || {
        let waiting = "SELECT count(*)::text FROM pg_locks l
                       JOIN pg_stat_activity a ON a.pid = l.pid
                       WHERE a.datname = current_database() AND NOT l.granted
                         AND l.locktype = 'transactionid'";
        server.database.one(waiting).await.unwrap() != "0"
    })
    .await;
    pinning.commit().await.unwrap();
    let done = told(&client.finished(&operation).await.unwrap());
    assert_eq!(sums(&done), [0, 0, 0, 0, 1]);
    assert_eq!(count(&done, Change::LeftOut, Reason::Duplicate), 1);
    let failed = format!(
        "SELECT coalesce(array_to_string(last_errors, '; '), '') FROM operation WHERE id = '{}'",
        operation.name.strip_prefix("operations/").unwrap()
    );
    assert_eq!(server.database.one(&failed).await.unwrap(), "");
}

/// More customers than go into a chunk of a year.
const MANY: usize = 2_500;

#[tokio::test]
async fn a_generation_whose_server_dies_goes_on() {
    let mut server = TestServer::start().await.unwrap();
    let client = with_customers(&server, MANY).await;
    put_plan(&client, weekly("A", &["mon"], "2027-01-01", "2027-12-31"))
        .await
        .unwrap();
    let mut csv = "plan_code,customer_number,contact_time,phone,skills,valid_to\n".to_owned();
    for number in 1..=MANY {
        csv += &format!("A,{number},09:30,0641 123456,\"french,sales\",2027-02-28\n");
    }
    csv += "A,1,9:30,,,\nB,1,09:30,,,\nA,0,10:00,,,2028-01-01\n";
    let sums = client.import(ImportEntity::PlanEntries, csv).await.unwrap();
    assert_eq!(
        (sums.created, sums.failed),
        (i64::try_from(MANY).unwrap(), 3)
    );
    let wrong: Vec<&str> = sums.errors.iter().map(|e| &e.field[..]).collect();
    assert_eq!(
        wrong,
        ["contact_time", "plan_code", "customer_number", "valid_to"]
    );

    let last = "SELECT max(customer_id::text) FROM plan_entry";
    let last = server.database.one(last).await.unwrap();
    let held = format!("NEW.customer_id = '{last}'");
    let hold = Hold::inserts(&server, "planned_contact", &held).await;
    let request = range("2027-01-01", "2027-12-31");
    let mut service = client.planned_contacts();
    let operation = service.generate_planned_contacts(request).await;
    let operation = operation.unwrap().into_inner();
    hold.reached().await;
    let committed = "SELECT count(*)::text FROM planned_contact";
    let committed: usize = server
        .database
        .one(committed)
        .await
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        (1..MANY * 8).contains(&committed),
        "{committed} of the chunks before"
    );
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();

    let client = Client::connect(server.addr, "acme").await.unwrap();
    let done = told(&client.finished(&operation).await.unwrap());
    // Mondays of January and February.
    assert_eq!(done.added_count, i64::try_from(MANY * 8).unwrap());
    assert_eq!(done.sample.len(), 1_000);
    let made = contacts(&client, "customer = \"customers/7\"").await;
    assert_eq!((made.len(), &made[0].phone[..]), (8, "+49641123456"));
    assert_eq!(made[0].skills, ["french", "sales"]);
    let again = generate(&client, range("2027-01-01", "2027-12-31")).await;
    assert_eq!(again.unchanged_count, done.added_count);
    assert_eq!((again.added_count, again.removed_count), (0, 0));
}

#[tokio::test]
async fn each_night_the_next_weeks_are_generated_once() {
    let options = || Options {
        config: "[planning]\nhorizon_days = 14\nhour = 0\n".into(),
        ..Default::default()
    };
    let mut server = TestServer::start_with(options()).await.unwrap();
    let client = with_customers(&server, 1).await;
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let mut plan = weekly("A", &days, "2020-01-01", "2020-12-31");
    plan.valid_to_date = None;
    put_plan(&client, plan).await.unwrap();
    put_entry(&client, "A/entries/0900-1").await.unwrap();
    // It looks when it starts, and each minute.
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "acme").await.unwrap();
    until("the contacts are there", async || {
        contacts(&client, "").await.len() >= 14
    })
    .await;
    // Another server of the same database asks for no second one.
    let second = server.further().await.unwrap();
    let other = Client::connect(second.addr, "acme").await.unwrap();
    let request = lro::ListOperationsRequest::default();
    let listed = other.operations().list_operations(request).await.unwrap();
    let nights = "SELECT count(DISTINCT night)::text FROM contact_generation";
    assert_eq!(
        server.database.one(nights).await.unwrap(),
        listed.into_inner().operations.len().to_string()
    );
}
