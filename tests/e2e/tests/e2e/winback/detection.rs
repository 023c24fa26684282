//! Settings, detections, explanations, and customers who come back by themselves.

use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Client, Options, TestServer};
use pb::WinbackReason as Reason;
use prost_types::FieldMask;
use tonic::Code;

use super::{as_of, detect, euros, monthly, orders, save_selection, set, told};
use crate::hold::Hold;
use crate::planning::{date, with_customers, written};
use crate::refused;
use crate::utility::until;

async fn settings(client: &Client) -> pb::WinbackSettings {
    let request = pb::GetWinbackSettingsRequest {};
    let found = client.winback().get_winback_settings(request).await;
    found.unwrap().into_inner()
}

async fn explain(client: &Client, customer: &str, day: &str) -> pb::WinbackExplanation {
    let request = pb::ExplainWinbackRequest {
        customer: format!("customers/{customer}"),
        as_of_date: date(day),
    };
    let explained = client.winback().explain_winback(request).await;
    explained.unwrap().into_inner()
}

fn figure(detection: &pb::WinbackDetection, reason: Reason) -> i64 {
    let figures = detection.reasons.iter().filter(|f| f.reason() == reason);
    figures.map(|f| f.count).sum()
}

/// Everything about all cases and their events.
const ROWS: &str = "SELECT coalesce((SELECT string_agg(k::text || k.xmin::text, ',' ORDER BY id)
    FROM winback_case k), '') || (SELECT count(*) FROM winback_case_event)";

/// Customers 1 to 6 of a shop, looked at on 30 June 2025: June against May. 1 has gone, 2 buys less, 3 as
/// ever, 4 never bought, 5 is new, 6 has ordered after that day alone.
async fn shop(server: &TestServer) -> Client {
    let client = with_customers(server, 6).await;
    orders(
        &client,
        &[
            ("A1", "1", "2025-02-03T10:00:00Z", "80", "Obst"),
            ("A2", "1", "2025-05-10T10:00:00Z", "100", "Obst"),
            ("A3", "1", "2025-05-12T10:00:00Z", "50", "Gemüse"),
            ("B0", "2", "2025-02-02T10:00:00Z", "60", "Obst"),
            ("B1", "2", "2025-05-05T10:00:00Z", "200", "Obst"),
            ("B2", "2", "2025-05-06T10:00:00Z", "40", "Brot"),
            // Late on 30 June in Berlin it is still that day.
            ("B3", "2", "2025-06-30T21:59:59Z", "90", "Obst"),
            ("C0", "3", "2025-02-01T10:00:00Z", "20", "Obst"),
            ("C1", "3", "2025-05-20T10:00:00Z", "70", "Obst"),
            ("C2", "3", "2025-06-20T10:00:00Z", "70", "Obst"),
            ("E1", "5", "2025-06-25T10:00:00Z", "500", "Obst"),
            ("F1", "6", "2025-06-30T22:00:00Z", "10", "Obst"),
        ],
    )
    .await;
    set(&client, monthly(), "users/bea").await.unwrap();
    client
}

#[tokio::test]
async fn settings_have_versions() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let defaults = settings(&client).await;
    assert_eq!((defaults.version, defaults.update_time), (0, None));
    assert_eq!(
        (&defaults.currency_code[..], defaults.reminder_days),
        ("EUR", 10)
    );
    let first = set(&client, monthly(), "users/bea").await.unwrap();
    assert_eq!((first.version, &first.changed_by[..]), (1, "users/bea"));
    assert_eq!(first.least_drop, euros(10));
    assert_eq!(settings(&client).await, first);
    // The same again is no new version, whoever says it.
    assert_eq!(set(&client, monthly(), "users/zoe").await.unwrap(), first);

    let mut update = pb::UpdateWinbackSettingsRequest {
        winback_settings: Some(pb::WinbackSettings {
            rest_days: 7,
            comparison: Some(pb::WinbackComparison {
                days: 60,
                ..Default::default()
            }),
            etag: first.etag.clone(),
            ..Default::default()
        }),
        user: "users/zoe".into(),
        update_mask: Some(FieldMask {
            paths: vec!["rest_days".into(), "comparison.days".into()],
        }),
        ..Default::default()
    };
    let service = || client.winback();
    let second = service().update_winback_settings(update.clone()).await;
    let second = second.unwrap().into_inner();
    let compared = second.comparison.unwrap();
    assert_eq!(
        (second.version, second.rest_days, compared.days),
        (2, 7, 60)
    );
    assert_eq!(compared.kind(), pb::WinbackComparisonKind::Preceding);
    assert_eq!(second.least_drop_percent, first.least_drop_percent);
    let stale = service().update_winback_settings(update.clone()).await;
    refused::is(&stale.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");
    update.winback_settings.as_mut().unwrap().etag.clear();
    update.update_mask.as_mut().unwrap().paths = vec!["version".into(), "changed_by".into()];
    let fixed = service().update_winback_settings(update).await.unwrap_err();
    refused::names(&fixed, &["update_mask", "update_mask"]);

    let request = pb::ListWinbackSettingsVersionsRequest::default();
    let listed = service().list_winback_settings_versions(request).await;
    let versions = listed.unwrap().into_inner().winback_settings_versions;
    let who: Vec<(i32, &str)> = versions
        .iter()
        .map(|v| (v.version, &v.changed_by[..]))
        .collect();
    assert_eq!(who, [(2, "users/zoe"), (1, "users/bea")]);
    let was = versions[1].winback_settings.clone().unwrap();
    assert_eq!(was.rest_days, 60);
    assert!(versions.iter().all(|v| v.create_time.is_some()));
}

#[tokio::test]
async fn all_that_is_wrong_with_settings_is_told() {
    let server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    let exclusion = |name: &str, selection: &str| pb::WinbackExclusion {
        display_name: name.into(),
        selection: selection.into(),
    };
    let mut wrong = monthly();
    wrong.name = "settings".into();
    wrong.currency_code = "Euro".into();
    wrong.customer_groups = vec!["A".into(), "A".into()];
    wrong.excluded_customer_groups = vec![String::new()];
    wrong.least_orders = -1;
    wrong.least_revenue = Some(anklang_proto::google::r#type::Money {
        currency_code: "CHF".into(),
        units: 1,
        nanos: 0,
    });
    wrong.exclusions = vec![
        exclusion("", "selections/1"),
        exclusion("Offen", "selections/01930000-0000-7000-8000-000000000001"),
    ];
    wrong.comparison = Some(pb::WinbackComparison {
        kind: pb::WinbackComparisonKind::YearBefore.into(),
        days: 365,
        season: true,
    });
    wrong.least_drop_percent = f64::NAN;
    wrong.least_drop = euros(-1);
    wrong.least_known_days = 0;
    wrong.reminder_days = 367;
    wrong.workday_calendar = "workdayCalendars/nichts".into();
    wrong.win_window_days = 0;
    wrong.rest_days = -1;
    wrong.control_percent = 51.0;
    wrong.customer_link = "https://shop.example/".into();
    wrong.product_link = "ftp://shop.example/{number}".into();
    wrong.order_link = "https://shop.example/{id}/{number}".into();
    wrong.offer_mail_to = "niemand".into();
    let status = set(&client, wrong, "bea").await.unwrap_err();
    let fields = [
        "name",
        "currency_code",
        "customer_groups[1]",
        "excluded_customer_groups[0]",
        "least_orders",
        "least_revenue",
        "exclusions[0].display_name",
        "exclusions[0].selection",
        "exclusions[1].selection",
        "comparison.days",
        "comparison.season",
        "least_drop_percent",
        "least_drop",
        "least_known_days",
        "reminder_days",
        "workday_calendar",
        "win_window_days",
        "rest_days",
        "control_percent",
        "customer_link",
        "product_link",
        "order_link",
        "offer_mail_to",
    ];
    let mut all: Vec<String> = fields.map(|f| format!("winback_settings.{f}")).into();
    all.push("user".into());
    let all: Vec<&str> = all.iter().map(|field| &field[..]).collect();
    refused::names(&status, &all);
    let empty = set(&client, pb::WinbackSettings::default(), "").await;
    let named = [
        "currency_code",
        "least_orders",
        "comparison",
        "least_drop_percent",
        "least_known_days",
        "reminder_days",
        "win_window_days",
    ]
    .map(|field| format!("winback_settings.{field}"));
    let named: Vec<&str> = named.iter().map(|field| &field[..]).collect();
    refused::names(&empty.unwrap_err(), &named);
    assert_eq!(settings(&client).await.version, 0);
}

#[tokio::test]
async fn who_drifts_away_gets_one_case() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let trial = pb::DetectWinbackRequest {
        trial: true,
        ..as_of("2025-06-30")
    };
    let empty = server.database.one(ROWS).await.unwrap();
    let tried = detect(&client, trial).await;
    assert_eq!((tried.opened_cases, tried.trial), (2, true));
    assert_eq!(server.database.one(ROWS).await.unwrap(), empty);

    let done = detect(&client, as_of("2025-06-30")).await;
    assert_eq!(done.settings_version, 1);
    assert_eq!((done.customers, done.opened_cases), (6, 2));
    assert_eq!(done.drop, tried.drop);
    assert_eq!(done.reasons, tried.reasons);
    // Customer 1 has lost 150 of 150, customer 2 has lost 150 of 240.
    assert_eq!(done.drop, euros(300));
    assert_eq!(figure(&done, Reason::NeverBought), 2);
    assert_eq!(figure(&done, Reason::SmallPercent), 1);
    assert_eq!(figure(&done, Reason::NothingThen), 1);
    let model = done.model.clone().unwrap();
    assert_eq!(model.customers, 4);
    assert!(model.season.is_empty() && !model.no_season.is_empty());
    assert!(model.frequency.is_some() || !model.no_frequency.is_empty());
    let cases = "SELECT string_agg(c.number || ' ' || k.drop_amount || ' ' || k.drop_percent || ' '
                     || k.last_order || ' ' || array_to_string(k.lost_groups, '+') || ' '
                     || round(k.lost_share::numeric, 2) || ' ' || e.kind, '; ' ORDER BY c.number)
                 FROM winback_case k JOIN customer c ON c.id = k.customer_id
                 JOIN winback_case_event e ON e.case_id = k.id";
    assert_eq!(
        server.database.one(cases).await.unwrap(),
        "1 150.00 100.00 2025-05-12 Obst+Gemüse 1.00 opened; \
         2 150.00 62.50 2025-06-30 Brot 0.50 opened"
    );

    // A second run changes nothing, not even a row's version; nor does one of a day before.
    let before = server.database.one(ROWS).await.unwrap();
    let again = detect(&client, as_of("2025-06-30")).await;
    assert_eq!((again.opened_cases, again.unchanged_cases), (0, 2));
    let older = detect(&client, as_of("2025-06-29")).await;
    assert_eq!((older.opened_cases, older.refreshed_cases), (0, 0));
    assert_eq!(server.database.one(ROWS).await.unwrap(), before);
    // A day later it is what it was, or a little else.
    let later = detect(&client, as_of("2025-07-01")).await;
    assert_eq!(later.opened_cases, 0);
    assert_eq!(later.refreshed_cases + later.unchanged_cases, 2);

    let request = pb::ListWinbackDetectionsRequest {
        filter: "trial = false".into(),
        order_by: "as_of_date desc".into(),
        ..Default::default()
    };
    let listed = client.winback().list_winback_detections(request).await;
    let listed = listed.unwrap().into_inner().winback_detections;
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[0], later);
    let request = pb::GetWinbackDetectionRequest {
        name: done.name.clone(),
    };
    let got = client.winback().get_winback_detection(request).await;
    assert_eq!(got.unwrap().into_inner(), done);
    // What detections went by is of no use when they are over.
    let mut server = server;
    server.restart().await.unwrap();
    let kept = "SELECT count(DISTINCT detection_id) FROM winback_figure";
    until("old figures are gone", async || {
        server.database.one(kept).await.unwrap() == "0"
    })
    .await;
}

#[tokio::test]
async fn one_customer_is_explained() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let gone = explain(&client, "1", "2025-06-30").await;
    assert!(gone.drifting && gone.reasons.is_empty() && !gone.has_open_case);
    let decline = gone.decline.clone().unwrap();
    assert_eq!((decline.drop, decline.drop_percent), (euros(150), 100.0));
    assert_eq!(decline.known_days, 30);
    assert_eq!((gone.orders, gone.revenue), (3, euros(230)));
    assert_eq!(
        (gone.revenue_then, gone.revenue_now),
        (euros(150), euros(0))
    );
    let days = [
        gone.then_first_date,
        gone.then_last_date,
        gone.now_first_date,
        gone.now_last_date,
        gone.last_order_date,
    ];
    assert_eq!(
        days.map(written),
        [
            "2025-05-02",
            "2025-05-31",
            "2025-06-01",
            "2025-06-30",
            "2025-05-12"
        ]
    );
    assert_eq!(gone.product_groups, 2);
    let lost: Vec<_> = gone
        .lost_groups
        .iter()
        .map(|g| &g.product_group[..])
        .collect();
    assert_eq!(lost, ["Obst", "Gemüse"]);
    assert_eq!(gone.view, None, "no detection, no model");

    let reasons = async |customer: &str| -> Vec<Reason> {
        let explained = explain(&client, customer, "2025-06-30").await;
        assert!(!explained.drifting && explained.decline.is_none());
        assert!(explained.reasons.iter().all(|r| !r.message.is_empty()));
        explained
            .reasons
            .iter()
            .map(pb::WinbackNoCase::reason)
            .collect()
    };
    assert_eq!(
        reasons("3").await,
        [Reason::SmallPercent, Reason::SmallDrop]
    );
    assert_eq!(reasons("4").await, [Reason::NeverBought]);
    assert_eq!(
        reasons("5").await,
        [Reason::ShortlyKnown, Reason::NothingThen]
    );
    assert_eq!(reasons("6").await, [Reason::NeverBought]);

    // With a detection there is a case, and a model's view if there is a model.
    let done = detect(&client, as_of("2025-06-30")).await;
    let gone = explain(&client, "1", "2025-06-30").await;
    assert!(gone.has_open_case);
    let model = done.model.unwrap();
    assert_eq!(gone.view.is_some(), model.frequency.is_some());
    if let Some(view) = gone.view {
        assert!(view.alive > 0.0 && view.alive <= 1.0);
        assert_eq!(view.at_stake.is_some(), model.value.is_some());
    }
    let refusal = async |customer: &str, day: &str| {
        let request = pb::ExplainWinbackRequest {
            customer: customer.into(),
            as_of_date: date(day),
        };
        client.winback().explain_winback(request).await.unwrap_err()
    };
    refused::not_found(&refusal("customers/99", "2025-06-30").await);
    let wrong = refusal("kunden/1", "2199-01-01").await;
    refused::names(&wrong, &["customer", "as_of_date"]);
    refused::names(&refusal("customers/1", "1900-01-10").await, &["as_of_date"]);
}

#[tokio::test]
async fn exclusions_and_rests_are_counted() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let selection = save_selection(&client, "2").await;
    let excluding = pb::WinbackSettings {
        exclusions: vec![pb::WinbackExclusion {
            display_name: "Offene Reklamation".into(),
            selection: selection.clone(),
        }],
        ..monthly()
    };
    set(&client, excluding, "").await.unwrap();
    let done = detect(&client, as_of("2025-06-30")).await;
    assert_eq!(done.opened_cases, 1);
    let excluded = done.reasons.iter().find(|f| f.reason() == Reason::Excluded);
    let excluded = excluded.unwrap();
    assert_eq!(
        (&excluded.exclusion[..], excluded.count),
        ("Offene Reklamation", 1)
    );
    let why = explain(&client, "2", "2025-06-30").await.reasons;
    assert_eq!(why[0].message, "excluded: Offene Reklamation");

    // Closed lately, a customer rests.
    let owner = server.database.connect().await.unwrap();
    let close = "UPDATE winback_case SET state = 'no_interest', no_interest = 'price',
                 closed_on = '2025-06-30'";
    assert_eq!(owner.execute(close, &[]).await.unwrap(), 1);
    let next = detect(&client, as_of("2025-07-01")).await;
    assert_eq!((next.opened_cases, next.resting_customers), (0, 1));
    assert_eq!(next.drop, euros(0));
    let rests = explain(&client, "1", "2025-07-01").await;
    assert!(rests.drifting && !rests.has_open_case);
    assert_eq!(written(rests.rests_until_date), "2025-08-28");

    // A selection that is gone stops detections, and says so.
    let request = selections::DeleteSelectionRequest {
        name: selection,
        ..Default::default()
    };
    client.selections().delete_selection(request).await.unwrap();
    let status = client.winback().detect_winback(as_of("2025-07-01")).await;
    refused::precondition(&status.unwrap_err(), "PRECONDITION");
}

#[tokio::test]
async fn detections_of_days_to_come_are_refused() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let refuse = async |day: &str| {
        let status = client.winback().detect_winback(as_of(day)).await;
        refused::names(&status.unwrap_err(), &["as_of_date"]);
    };
    refuse("2199-01-01").await;
    refuse("1900-01-30").await;
    // Without a day it is today; a trial of the call begins nothing.
    let checked = pb::DetectWinbackRequest {
        validate_only: true,
        ..Default::default()
    };
    let checked = client.winback().detect_winback(checked).await.unwrap();
    assert_eq!(checked.into_inner().name, "");
    let today = detect(&client, pb::DetectWinbackRequest::default()).await;
    let berlin = "SELECT (now() AT TIME ZONE 'Europe/Berlin')::date";
    assert_eq!(
        written(today.as_of_date),
        server.database.one(berlin).await.unwrap()
    );
    let count = "SELECT count(*) FROM winback_detection";
    assert_eq!(server.database.one(count).await.unwrap(), "1");
}

#[tokio::test]
async fn the_season_of_two_years_is_taken_out() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let half = pb::WinbackSettings {
        least_drop_percent: 50.0,
        ..monthly()
    };
    let mut seasonal = half.clone();
    seasonal.comparison.as_mut().unwrap().season = true;
    set(&client, seasonal, "").await.unwrap();
    let without = detect(&client, as_of("2025-06-30")).await;
    let model = without.model.unwrap();
    assert!(model.season.is_empty());
    assert!(model.no_season.contains("104 weeks"), "{}", model.no_season);
    assert_eq!(without.opened_cases, 2, "the comparison is made without");

    // Everybody else buys for 100 euros a week, and in June of each year for 40: June is no decline.
    let owner = server.database.connect().await.unwrap();
    let history = "WITH made AS (
                       INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency)
                       SELECT c.tenant_id, anklang_uuid7(), 'W' || week, c.id,
                              date '2021-01-04' + 7 * week + time '12:00', 'EUR'
                       FROM customer c, generate_series(0, 233) week WHERE c.number = '4'
                       RETURNING tenant_id, id, ordered_at)
                   INSERT INTO order_line (tenant_id, order_id, line, quantity, unit_price)
                   SELECT tenant_id, id, 1, 1, CASE extract(month FROM ordered_at) WHEN 6 THEN 40 ELSE 100 END
                   FROM made";
    owner.batch_execute(history).await.unwrap();
    let with = detect(&client, as_of("2025-06-29")).await;
    let season = with.model.unwrap().season;
    assert_eq!(season.len(), 53);
    // Week 24 is in June, week 10 is not.
    assert!(season[23] < 0.5 && season[9] > 0.9, "{season:?}");
    let explained = explain(&client, "4", "2025-06-29").await;
    assert!(!explained.drifting, "{explained:?}");
    set(&client, half, "").await.unwrap();
    let explained = explain(&client, "4", "2025-06-29").await;
    assert!(explained.drifting, "{explained:?}");
}

/// More customers than go into two chunks.
const MANY: usize = 20_500;

#[tokio::test]
async fn a_detection_whose_server_dies_goes_on() {
    let mut server = TestServer::start().await.unwrap();
    let client = with_customers(&server, 1).await;
    set(&client, monthly(), "").await.unwrap();
    let owner = server.database.connect().await.unwrap();
    let fill = format!(
        "INSERT INTO customer (tenant_id, id, number, kind)
         SELECT id, anklang_uuid7(), 'K' || n, 'person' FROM tenant, generate_series(1, {MANY}) n;
         WITH made AS (
             INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency)
             SELECT tenant_id, anklang_uuid7(), number || '-' || n, id,
                 '2025-05-02'::date + (length(number) * 3 + n * 5) % 29, 'EUR'
             FROM customer, generate_series(1, 2) n WHERE number LIKE 'K%'
             RETURNING tenant_id, id)
         INSERT INTO order_line (tenant_id, order_id, line, quantity, unit_price, product_group)
         SELECT tenant_id, id, 1, 1, 30, 'Obst' FROM made"
    );
    // Keys are looked at at the end of a statement.
    owner.batch_execute(&fill).await.unwrap();
    let sql = "SELECT count(*) FROM winback_figure";
    // First in the sums, where nothing is committed yet; then in the last chunk.
    let last = "SELECT max(customer_id::text) FROM sales_order";
    let last = server.database.one(last).await.unwrap();
    let held = format!("NEW.customer_id = '{last}'");
    let hold = Hold::inserts(&server, "winback_figure", &held).await;
    let request = as_of("2025-06-30");
    let operation = client.winback().detect_winback(request).await.unwrap();
    let operation = operation.into_inner();
    hold.reached().await;
    assert_eq!(server.database.one(sql).await.unwrap(), "0");
    server.kill();
    hold.release().await;
    owner
        .batch_execute("DROP TRIGGER hold ON winback_figure; DROP FUNCTION hold()")
        .await
        .unwrap();
    let hold = Hold::inserts(&server, "winback_case", &held).await;
    server.restart().await.unwrap();
    hold.reached().await;
    let cases = "SELECT count(*) FROM winback_case";
    let committed = server.database.one(cases).await.unwrap();
    assert_eq!(committed, "20000", "two chunks");
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();

    let client = Client::connect(server.addr, "acme").await.unwrap();
    let done = told(&client.finished(&operation).await.unwrap());
    assert_eq!(usize::try_from(done.opened_cases).unwrap(), MANY);
    assert_eq!(usize::try_from(done.customers).unwrap(), MANY + 1);
    assert_eq!(server.database.one(cases).await.unwrap(), MANY.to_string());
    // Figures are not looked at: those of a detection that is over are forgotten.
    let events = "SELECT count(*) FROM winback_case_event";
    assert_eq!(server.database.one(events).await.unwrap(), MANY.to_string());
    assert_eq!(done.drop, euros(i64::try_from(MANY).unwrap() * 60));
}

#[tokio::test]
async fn each_night_customers_are_looked_at_once() {
    let options = Options {
        config: "[planning]\nhour = 0\n".into(),
        ..Default::default()
    };
    let mut server = TestServer::start_with(options).await.unwrap();
    let client = shop(&server).await;
    let count = "SELECT count(*) FROM winback_detection";
    let nightly = pb::WinbackSettings {
        nightly: true,
        ..monthly()
    };
    set(&client, nightly, "").await.unwrap();
    // It looks when it starts, and each minute.
    server.restart().await.unwrap();
    let done = "SELECT count(*) FROM winback_detection WHERE done_at IS NOT NULL";
    until("a detection is done", async || {
        server.database.one(done).await.unwrap() == "1"
    })
    .await;
    let of_yesterday = "SELECT as_of = (created_at AT TIME ZONE 'Europe/Berlin')::date - 1
                        FROM winback_detection";
    assert_eq!(server.database.one(of_yesterday).await.unwrap(), "t");
    // Other servers look when they start, and ask for no second one.
    let _second = server.further().await.unwrap();
    server.restart().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let nights = "SELECT count(DISTINCT (created_at AT TIME ZONE 'Europe/Berlin')::date)
                  FROM winback_detection";
    assert_eq!(
        server.database.one(nights).await.unwrap(),
        server.database.one(count).await.unwrap()
    );
}

#[tokio::test]
async fn an_order_that_arrives_late_wins_back() {
    let mut server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    detect(&client, as_of("2025-06-30")).await;
    // Somebody has called customer 1, and holds the case of customer 2.
    let owner = server.database.connect().await.unwrap();
    let work = "UPDATE winback_case k SET state = 'offer_requested', contacted_on = '2025-07-05'
                FROM customer c WHERE c.id = k.customer_id AND c.number = '1';
                INSERT INTO winback_case_event (tenant_id, id, case_id, kind, to_state, created_at)
                SELECT tenant_id, anklang_uuid7(), id, 'offer_requested', state, '2025-07-05T10:00:00Z'
                FROM winback_case WHERE state = 'offer_requested';
                UPDATE winback_case k SET held_by = 'users/bea', held_until = now() + interval '1 hour',
                    claim_id = anklang_uuid7()
                FROM customer c WHERE c.id = k.customer_id AND c.number = '2'";
    owner.batch_execute(work).await.unwrap();
    // Without lines an order wins nobody back, nor does a return.
    let heads = "number,customer_number,ordered_at,currency\n\
                 A9,1,2025-10-03T21:00:00Z,EUR\nB8,2,2025-09-30T10:00:00Z,EUR\n";
    client.import(ImportEntity::Orders, heads).await.unwrap();
    orders(&client, &[("B9", "2", "2025-07-10T10:00:00Z", "-5", "")]).await;
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "acme").await.unwrap();
    let states = "SELECT string_agg(c.number || ' ' || k.state, '; ' ORDER BY c.number)
                  FROM winback_case k JOIN customer c ON c.id = k.customer_id";
    let lines = "order_number,line,quantity,unit_price\nA9,1,2,12.345\n";
    assert_eq!(
        server.database.one(states).await.unwrap(),
        "1 offer_requested; 2 declining"
    );
    client
        .import(ImportEntity::OrderLines, lines)
        .await
        .unwrap();
    server.restart().await.unwrap();
    until("customer 1 is won back", async || {
        server.database.one(states).await.unwrap() == "1 won_back; 2 declining"
    })
    .await;
    let won = "SELECT k.won_revenue || ' ' || k.won_contacted || ' ' || o.number || ' '
                   || (k.closed_on = (now() AT TIME ZONE 'Europe/Berlin')::date) || ' '
                   || e.from_state || ' ' || (e.detail ->> 'order')
               FROM winback_case k JOIN sales_order o ON o.id = k.won_order_id
               JOIN winback_case_event e ON e.case_id = k.id AND e.kind = 'won_back'";
    assert_eq!(
        server.database.one(won).await.unwrap(),
        "24.69 true A9 true offer_requested A9"
    );
    // A case that somebody holds closes as well, and whenever the order came.
    let client = Client::connect(server.addr, "acme").await.unwrap();
    let lines = "order_number,line,quantity,unit_price\nB8,1,1,99\n";
    client
        .import(ImportEntity::OrderLines, lines)
        .await
        .unwrap();
    server.restart().await.unwrap();
    until("customer 2 is won back", async || {
        server.database.one(states).await.unwrap() == "1 won_back; 2 won_back"
    })
    .await;
    let held =
        "SELECT count(*) FROM winback_case WHERE held_by IS NOT NULL OR won_contacted IS NULL";
    assert_eq!(server.database.one(held).await.unwrap(), "0");
    // Coming back does not make a customer a case again at once.
    let client = Client::connect(server.addr, "acme").await.unwrap();
    let again = detect(&client, as_of("2025-07-01")).await;
    assert_eq!((again.opened_cases, again.resting_customers), (0, 2));
}

#[tokio::test]
async fn a_cancelled_detection_leaves_no_figures() {
    let mut server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    detect(&client, as_of("2025-01-31")).await;
    let hold = Hold::inserts(&server, "winback_case", "true").await;
    let operation = client.winback().detect_winback(as_of("2025-06-30")).await;
    let operation = operation.unwrap().into_inner();
    hold.reached().await;
    let cancel = lro::CancelOperationRequest {
        name: operation.name.clone(),
    };
    client.operations().cancel_operation(cancel).await.unwrap();
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "acme").await.unwrap();
    let over = client.finished(&operation).await.unwrap();
    let result = over.result.unwrap();
    assert!(
        matches!(result, lro::operation::Result::Error(_)),
        "{result:?}"
    );
    server.restart().await.unwrap();
    let kept = "SELECT count(*) FROM winback_figure";
    until("its figures are gone", async || {
        server.database.one(kept).await.unwrap() == "0"
    })
    .await;
    // Another one finds what it would have found.
    let client = Client::connect(server.addr, "acme").await.unwrap();
    assert_eq!(detect(&client, as_of("2025-06-30")).await.opened_cases, 2);
}
