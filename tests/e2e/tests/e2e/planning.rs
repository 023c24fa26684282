//! Contact plans: their rules as a client sees them, in the contacts that are generated.

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, TestServer, violations};
use chrono::NaiveDate;
use prost::Message;
use tonic::{Code, Status};

use pb::GenerationChange as Change;
use pb::GenerationReason as Reason;

/// A date as 2026-12-31.
pub fn date(text: &str) -> Option<Date> {
    let date: NaiveDate = text.parse().unwrap();
    let [year, month, day] = [0, 1, 2].map(|i| text.split('-').nth(i).unwrap().parse().unwrap());
    assert_eq!(
        NaiveDate::from_ymd_opt(year, month as u32, day as u32),
        Some(date)
    );
    Some(Date { year, month, day })
}

/// A date as it is written.
pub fn written(date: Option<Date>) -> String {
    date.map_or_else(String::new, |d| {
        format!("{:04}-{:02}-{:02}", d.year, d.month, d.day)
    })
}

/// A tenant with so many customers, numbered from 1.
pub async fn with_customers(server: &TestServer, count: usize) -> Client {
    let client = server.client("acme").await.unwrap();
    let mut csv = "number,kind,last_name,customer_group\n".to_owned();
    for number in 1..=count {
        let group = if number % 2 == 0 { "even" } else { "odd" };
        csv += &format!("{number},person,Kunde {number},{group}\n");
    }
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    client
}

/// A weekly plan from a day on.
pub fn weekly(code: &str, weekdays: &[&str], from: &str, to: &str) -> pb::ContactPlan {
    pb::ContactPlan {
        code: code.into(),
        display_name: format!("Plan {code}"),
        recurrence: Some(pb::Recurrence {
            rule: Some(pb::recurrence::Rule::Weekly(pb::WeeklyRecurrence {
                weekdays: weekdays.iter().map(|day| (*day).into()).collect(),
                every_weeks: 1,
            })),
        }),
        valid_from_date: date(from),
        valid_to_date: date(to),
        time_zone: "Europe/Berlin".into(),
        ..Default::default()
    }
}

/// Saves a plan.
pub async fn put_plan(client: &Client, plan: pb::ContactPlan) -> Result<pb::ContactPlan, Status> {
    let request = pb::UpdateContactPlanRequest {
        contact_plan: Some(plan),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.plans().update_contact_plan(request).await?;
    Ok(saved.into_inner())
}

/// Saves a workday calendar of Monday to Friday.
pub async fn put_calendar(client: &Client, id: &str, region: &str, free: &[&str]) -> String {
    let days = free.iter().map(|day| pb::OwnDay {
        date: date(day),
        workday: false,
        display_name: "frei".into(),
    });
    let calendar = pb::WorkdayCalendar {
        name: format!("workdayCalendars/{id}"),
        display_name: id.into(),
        region: region.into(),
        workdays: ["mon", "tue", "wed", "thu", "fri"].map(Into::into).into(),
        own_days: days.collect(),
        ..Default::default()
    };
    let request = pb::UpdateWorkdayCalendarRequest {
        workday_calendar: Some(calendar),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.plans().update_workday_calendar(request).await;
    saved.unwrap().into_inner().name
}

/// Saves an entry, e.g. `NORTH/entries/0930-1`.
pub async fn put_entry(client: &Client, name: &str) -> Result<pb::PlanEntry, Status> {
    save_entry(
        client,
        pb::PlanEntry {
            name: format!("contactPlans/{name}"),
            ..Default::default()
        },
    )
    .await
}

/// Saves an entry.
pub async fn save_entry(client: &Client, entry: pb::PlanEntry) -> Result<pb::PlanEntry, Status> {
    let request = pb::UpdatePlanEntryRequest {
        plan_entry: Some(entry),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.plans().update_plan_entry(request).await?;
    Ok(saved.into_inner())
}

/// Saves an exception, e.g. of `NORTH/exceptions/2026-12-24`.
pub async fn put_exception(
    client: &Client,
    name: &str,
    exception: pb::PlanException,
) -> Result<pb::PlanException, Status> {
    let request = pb::UpdatePlanExceptionRequest {
        plan_exception: Some(pb::PlanException {
            name: format!("contactPlans/{name}"),
            ..exception
        }),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.plans().update_plan_exception(request).await?;
    Ok(saved.into_inner())
}

/// Saves an inactive period of a customer.
pub async fn put_period(
    client: &Client,
    customer: u32,
    day_type: pb::DayType,
    first: &str,
    last: &str,
) -> pb::InactivePeriod {
    let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
    put_period_of(client, &customer.to_string(), day_type, first, last).await
}

/// Saves an inactive period of the customer with that number.
pub async fn put_period_of(
    client: &Client,
    customer: &str,
    day_type: pb::DayType,
    first: NaiveDate,
    last: NaiveDate,
) -> pb::InactivePeriod {
    let period = pb::InactivePeriod {
        name: format!(
            "customers/{customer}/inactivePeriods/{}",
            day_type.as_str_name()
        ),
        day_type: day_type.into(),
        first_date: date(&first.to_string()),
        last_date: date(&last.to_string()),
        ..Default::default()
    };
    let request = pb::UpdateInactivePeriodRequest {
        inactive_period: Some(period),
        allow_missing: true,
        ..Default::default()
    };
    let saved = client.plans().update_inactive_period(request).await;
    saved.unwrap().into_inner()
}

/// What is generated for a range.
pub fn range(first: &str, last: &str) -> pb::GeneratePlannedContactsRequest {
    pb::GeneratePlannedContactsRequest {
        first_date: date(first),
        last_date: date(last),
        ..Default::default()
    }
}

/// What a generation that is done tells.
pub fn told(operation: &lro::Operation) -> pb::GeneratePlannedContactsResponse {
    assert!(operation.done, "{operation:?}");
    match operation.result.as_ref().unwrap() {
        lro::operation::Result::Response(any) => {
            pb::GeneratePlannedContactsResponse::decode(&any.value[..]).unwrap()
        }
        error => panic!("{error:?}"),
    }
}

/// Generates, after finding out what that would do, which is the same.
pub async fn generate(
    client: &Client,
    request: pb::GeneratePlannedContactsRequest,
) -> pb::GeneratePlannedContactsResponse {
    let trial = pb::GeneratePlannedContactsRequest {
        validate_only: true,
        ..request.clone()
    };
    let mut service = client.planned_contacts();
    let preview = service.generate_planned_contacts(trial).await;
    let preview = preview.unwrap().into_inner();
    assert_eq!(preview.name, "");
    let operation = service.generate_planned_contacts(request).await;
    let operation = operation.unwrap().into_inner();
    let done = told(&client.finished(&operation).await.unwrap());
    assert_eq!(told(&preview), done);
    done
}

/// How many contacts a reason is about.
pub fn count(
    response: &pb::GeneratePlannedContactsResponse,
    change: Change,
    reason: Reason,
) -> i64 {
    let figures = response.figures.iter();
    let of = figures.filter(|f| f.change() == change && f.reason() == reason);
    of.map(|f| f.count).sum()
}

/// All planned contacts that a filter finds, by date and customer.
pub async fn contacts(client: &Client, filter: &str) -> Vec<pb::PlannedContact> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let request = pb::ListPlannedContactsRequest {
            page_size: 1_000,
            page_token: token,
            filter: filter.into(),
            ..Default::default()
        };
        let listed = client
            .planned_contacts()
            .list_planned_contacts(request)
            .await;
        let listed = listed.unwrap().into_inner();
        all.extend(listed.planned_contacts);
        token = listed.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    all.sort_by_key(|c| (written(c.contact_date), c.customer.clone()));
    all
}

fn dates(contacts: &[pb::PlannedContact]) -> Vec<String> {
    contacts.iter().map(|c| written(c.contact_date)).collect()
}

#[tokio::test]
async fn tuesdays_and_thursdays_of_a_year_in_bavaria() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let calendar = put_calendar(&client, "bayern", "DE-BY", &[]).await;
    let mut plan = weekly("SUED", &["tue", "thu"], "2026-01-01", "2026-12-31");
    plan.workday_calendar = calendar;
    plan.delivery_weekdays = vec!["fri".into()];
    put_plan(&client, plan).await.unwrap();
    put_entry(&client, "SUED/entries/0930-1").await.unwrap();

    // Labour Day is no workday; Epiphany is a contact date on which there is no contact anyway.
    let to = |day| pb::PlanException {
        contact_date: date(day),
        ..Default::default()
    };
    let refused = put_exception(&client, "SUED/exceptions/2026-04-30", to("2026-05-01")).await;
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let [(field, reason)] = &violations(&status)[..] else {
        panic!("{status:?}");
    };
    assert_eq!(field, "plan_exception.contact_date");
    assert!(
        reason.contains("2026-05-04, 2026-05-05, 2026-05-06"),
        "the next workdays are named: {reason}"
    );
    let wrong = put_exception(&client, "SUED/exceptions/2026-05-04", to("2026-05-08")).await;
    let found = violations(&wrong.unwrap_err());
    assert_eq!(found[0].0, "plan_exception.name");
    assert!(found[0].1.contains("2026-05-05"), "{found:?}");

    let done = generate(&client, range("2026-01-01", "2026-12-31")).await;
    assert_eq!((done.added_count, done.left_out_count), (101, 4));
    assert_eq!(count(&done, Change::LeftOut, Reason::NoWorkday), 4);
    let made = contacts(&client, "").await;
    let made_dates = dates(&made);
    for holiday in ["2026-01-01", "2026-01-06", "2026-05-14", "2026-06-04"] {
        assert!(!made_dates.contains(&holiday.to_owned()), "{holiday}");
    }
    assert_eq!(made_dates[..3], ["2026-01-08", "2026-01-13", "2026-01-15"]);
    // The Friday after is Labour Day.
    let last = made
        .iter()
        .find(|c| written(c.contact_date) == "2026-04-30");
    let last = last.unwrap();
    assert_eq!(written(last.delivery_date), "2026-05-08");
    assert_eq!(last.delivery_moved(), pb::DeliveryMoved::NoWorkday);
    let first = &made[0];
    assert_eq!(written(first.delivery_date), "2026-01-09");
    assert_eq!(first.delivery_moved(), pb::DeliveryMoved::Unspecified);
    assert_eq!(first.plan_entry, "contactPlans/SUED/entries/0930-1");
    // 09:30 in Berlin.
    assert_eq!(
        first.contact_time.unwrap().seconds % 86_400,
        8 * 3_600 + 1_800
    );
}

#[tokio::test]
async fn tuesdays_of_spring_1999_without_march() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 2).await;
    let mut plan = weekly("DI", &["tue"], "1999-02-01", "1999-04-30");
    plan.delivery_weekdays = vec!["thu".into()];
    put_plan(&client, plan).await.unwrap();
    for customer in [1, 2] {
        put_entry(&client, &format!("DI/entries/1000-{customer}"))
            .await
            .unwrap();
    }
    let (contact, delivery) = (pb::DayType::Contact, pb::DayType::Delivery);
    put_period(&client, 1, contact, "1999-03-01", "1999-03-31").await;
    put_period(&client, 2, delivery, "1999-03-01", "1999-03-31").await;
    let done = generate(&client, range("1999-02-01", "1999-04-30")).await;
    assert_eq!(done.added_count, 8 + 13);
    assert_eq!(count(&done, Change::LeftOut, Reason::Inactive), 5);

    let of_first = contacts(&client, "customer = \"customers/1\"").await;
    let expected = [
        "1999-02-02",
        "1999-02-09",
        "1999-02-16",
        "1999-02-23",
        "1999-04-06",
        "1999-04-13",
        "1999-04-20",
        "1999-04-27",
    ];
    assert_eq!(dates(&of_first), expected);
    // Without deliveries in March those of its contacts wait for the first of April.
    let of_second = contacts(&client, "customer = \"customers/2\"").await;
    let deliveries: Vec<(String, pb::DeliveryMoved)> = of_second
        .iter()
        .map(|c| (written(c.delivery_date), c.delivery_moved()))
        .collect();
    assert_eq!(
        deliveries[3],
        ("1999-02-25".into(), pb::DeliveryMoved::Unspecified)
    );
    for moved in &deliveries[4..8] {
        assert_eq!(*moved, ("1999-04-01".into(), pb::DeliveryMoved::Inactive));
    }
    assert_eq!(
        deliveries[8],
        ("1999-04-01".into(), pb::DeliveryMoved::Unspecified)
    );
}

#[tokio::test]
async fn exceptions_move_contacts_and_deliveries_or_hand_them_to_another_plan() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let mut plan = weekly("A", &["tue"], "2027-01-01", "2027-12-31");
    plan.delivery_weekdays = vec!["wed".into(), "fri".into()];
    put_plan(&client, plan).await.unwrap();
    let mut other = weekly("B", &["mon"], "2027-01-01", "2027-12-31");
    other.responsible = "users/bea".into();
    put_plan(&client, other).await.unwrap();
    put_entry(&client, "A/entries/0800-1").await.unwrap();
    let done = generate(&client, range("2027-03-01", "2027-03-31")).await;
    assert_eq!(done.added_count, 5);

    let exceptions = [
        (
            "02",
            pb::PlanException {
                skip: true,
                ..Default::default()
            },
        ),
        (
            "09",
            pb::PlanException {
                contact_date: date("2027-03-10"),
                ..Default::default()
            },
        ),
        (
            "16",
            pb::PlanException {
                delivery_date: date("2027-03-19"),
                ..Default::default()
            },
        ),
        (
            "23",
            pb::PlanException {
                other_contact_plan: "contactPlans/B".into(),
                ..Default::default()
            },
        ),
    ];
    for (day, exception) in exceptions {
        let name = format!("A/exceptions/2027-03-{day}");
        put_exception(&client, &name, exception).await.unwrap();
    }
    let done = generate(&client, range("2027-03-01", "2027-03-31")).await;
    for (change, reason, expected) in [
        (Change::Removed, Reason::Exception, 1),
        (Change::Changed, Reason::Date, 1),
        (Change::Changed, Reason::DeliveryDate, 2),
        (Change::Unchanged, Reason::Unspecified, 1),
    ] {
        assert_eq!(
            count(&done, change, reason),
            expected,
            "{change:?} {done:?}"
        );
    }
    let made = contacts(&client, "").await;
    let shown: Vec<_> = made
        .iter()
        .map(|c| {
            (
                written(c.contact_date),
                written(c.delivery_date),
                &c.contact_plan[..],
            )
        })
        .collect();
    let a = "contactPlans/A";
    let expected = [
        ("2027-03-10".into(), "2027-03-12".into(), a),
        ("2027-03-16".into(), "2027-03-19".into(), a),
        ("2027-03-23".into(), String::new(), "contactPlans/B"),
        ("2027-03-30".into(), "2027-03-31".into(), a),
    ];
    assert_eq!(shown, expected);
    assert_eq!(made[2].responsible, "users/bea");
    assert_eq!(made[1].delivery_moved(), pb::DeliveryMoved::Exception);
}

#[tokio::test]
async fn clocks_that_are_put_forward_and_back() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    put_plan(&client, weekly("SO", &["sun"], "2026-01-01", "2026-12-31"))
        .await
        .unwrap();
    put_entry(&client, "SO/entries/0230-1").await.unwrap();
    generate(&client, range("2026-01-01", "2026-12-31")).await;
    let at = |text: &str| {
        text.parse::<chrono::DateTime<chrono::Utc>>()
            .unwrap()
            .timestamp()
    };
    let made = contacts(&client, "").await;
    for (day, expected) in [
        ("2026-03-22", "2026-03-22T01:30:00Z"),
        // 02:30 is left out: the moment at which the clock jumps.
        ("2026-03-29", "2026-03-29T01:00:00Z"),
        ("2026-04-05", "2026-04-05T00:30:00Z"),
        // 02:30 comes twice: the first.
        ("2026-10-25", "2026-10-25T00:30:00Z"),
    ] {
        let contact = made
            .iter()
            .find(|c| written(c.contact_date) == day)
            .unwrap();
        assert_eq!(contact.contact_time.unwrap().seconds, at(expected), "{day}");
        let end = contact.window_end_time.unwrap().seconds;
        let start = contact.window_start_time.unwrap().seconds;
        let hours = match day {
            "2026-03-29" => 23,
            "2026-10-25" => 25,
            _ => 24,
        };
        assert_eq!(end - start, hours * 3_600, "{day}");
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_told_at_once() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let fields = |status: Status| -> Vec<String> {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        violations(&status)
            .into_iter()
            .map(|(field, _)| field)
            .collect()
    };
    let plan = pb::ContactPlan {
        responsible: "bea".into(),
        recurrence: Some(pb::Recurrence {
            rule: Some(pb::recurrence::Rule::Rrule("FREQ=HOURLY".into())),
        }),
        delivery_weekdays: vec!["Freitag".into()],
        workday_calendar: "workdayCalendars/nowhere".into(),
        time_zone: "Mitteleuropa".into(),
        earliest_time: "18:00".into(),
        latest_time: "9 Uhr".into(),
        ..weekly("", &[], "2026-05-01", "2026-04-30")
    };
    let wrong = put_plan(&client, plan).await.unwrap_err();
    let expected = [
        "code",
        "responsible",
        "recurrence",
        "valid_to_date",
        "latest_time",
        "delivery_weekdays",
        "workday_calendar",
        "time_zone",
    ];
    assert_eq!(
        fields(wrong),
        expected.map(|field| format!("contact_plan.{field}"))
    );

    let mut plan = weekly("A", &["mon"], "2026-01-01", "2026-06-30");
    plan.earliest_time = "08:00".into();
    put_plan(&client, plan.clone()).await.unwrap();
    let entry = pb::PlanEntry {
        name: "contactPlans/A/entries/0730-9".into(),
        customer: "customers/1".into(),
        phone: "nebenan".into(),
        priority: 2_000,
        valid_from_date: date("2026-06-01"),
        valid_to_date: date("2026-05-01"),
        ..Default::default()
    };
    let wrong = save_entry(&client, entry).await.unwrap_err();
    let mut told = fields(wrong);
    told.sort();
    let expected = ["customer", "phone", "priority", "valid_to_date"];
    assert_eq!(told, expected.map(|field| format!("plan_entry.{field}")));
    // What only the database knows.
    let entry = pb::PlanEntry {
        name: "contactPlans/A/entries/0730-9".into(),
        valid_from_date: date("2025-12-31"),
        valid_to_date: date("2026-07-01"),
        ..Default::default()
    };
    let wrong = save_entry(&client, entry).await.unwrap_err();
    let mut told = fields(wrong);
    told.sort();
    let expected = [
        "contact_time",
        "customer",
        "valid_from_date",
        "valid_to_date",
    ];
    assert_eq!(told, expected.map(|field| format!("plan_entry.{field}")));

    // A plan's validity does not leave its entries behind.
    let entry = pb::PlanEntry {
        name: "contactPlans/A/entries/0800-1".into(),
        valid_to_date: date("2026-06-30"),
        ..Default::default()
    };
    save_entry(&client, entry).await.unwrap();
    plan.valid_to_date = date("2026-05-31");
    let wrong = put_plan(&client, plan).await.unwrap_err();
    assert_eq!(fields(wrong), ["contact_plan.valid_to_date"]);

    let request = pb::GeneratePlannedContactsRequest {
        contact_plans: vec!["contactPlans/B".into()],
        customers: vec!["customers/2".into(), "kunde".into()],
        responsibles: vec!["bea".into()],
        delete_until_date: date("2026-03-01"),
        ..range("2026-03-01", "2027-03-31")
    };
    let wrong = client
        .planned_contacts()
        .generate_planned_contacts(request)
        .await;
    let mut told = fields(wrong.unwrap_err());
    told.sort();
    let expected = [
        "contact_plans",
        "customers",
        "customers[1]",
        "delete_until_date",
        "last_date",
        "responsibles[0]",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_is_used_is_not_deleted_and_nothing_is_overwritten_unseen() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let calendar = put_calendar(&client, "firma", "", &[]).await;
    let mut plan = weekly("A", &["mon"], "2026-01-01", "2026-12-31");
    plan.workday_calendar.clone_from(&calendar);
    let plan = put_plan(&client, plan).await.unwrap();
    let entry = put_entry(&client, "A/entries/0800-1").await.unwrap();
    assert_eq!(
        (&entry.customer[..], &entry.contact_time[..]),
        ("customers/1", "08:00")
    );
    generate(&client, range("2026-01-01", "2026-01-31")).await;

    let delete = pb::DeleteWorkdayCalendarRequest {
        name: calendar,
        ..Default::default()
    };
    let refused = client
        .plans()
        .delete_workday_calendar(delete)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let delete = pb::DeleteContactPlanRequest {
        name: plan.name.clone(),
        ..Default::default()
    };
    let refused = client
        .plans()
        .delete_contact_plan(delete.clone())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let renamed = |etag: &str| pb::UpdateContactPlanRequest {
        contact_plan: Some(pb::ContactPlan {
            name: plan.name.clone(),
            display_name: "Montags".into(),
            etag: etag.into(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["display_name".into()],
        }),
        ..Default::default()
    };
    let saved = client
        .plans()
        .update_contact_plan(renamed(&plan.etag))
        .await;
    let saved = saved.unwrap().into_inner();
    assert_eq!(
        (&saved.display_name[..], &saved.recurrence),
        ("Montags", &plan.recurrence)
    );
    let stale = client
        .plans()
        .update_contact_plan(renamed(&plan.etag))
        .await;
    assert_eq!(stale.unwrap_err().code(), Code::Aborted);

    // Deleted with its contacts, of which nobody was at any.
    let gone = pb::DeletePlanEntryRequest {
        name: entry.name,
        ..Default::default()
    };
    client.plans().delete_plan_entry(gone).await.unwrap();
    assert_eq!(contacts(&client, "").await, []);
    client.plans().delete_contact_plan(delete).await.unwrap();
}

#[tokio::test]
async fn roles_that_take_over_have_names_that_people_can_ask_for() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let plan = |role: &str| {
        let rule = pb::RetryRule {
            first_minutes: 30,
            max_attempts: 1,
            then: Some(pb::retry_rule::Then::EscalateTo(format!("roles/{role}"))),
            ..Default::default()
        };
        pb::ContactPlan {
            outcome_rules: Some(pb::OutcomeRules {
                not_reached: Some(rule),
                ..Default::default()
            }),
            ..weekly("A", &["mon"], "2027-01-01", "2027-12-31")
        }
    };
    let saved = put_plan(&client, plan(&"x".repeat(64))).await;
    assert!(saved.is_ok(), "{saved:?}");
    for role in [&"x".repeat(65)[..], "%20chef", "a%0Ab"] {
        let status = put_plan(&client, plan(role)).await.unwrap_err();
        let fields: Vec<String> = violations(&status).into_iter().map(|v| v.0).collect();
        assert_eq!(
            fields,
            ["contact_plan.outcome_rules.not_reached.escalate_to"],
            "{role}"
        );
    }
}
