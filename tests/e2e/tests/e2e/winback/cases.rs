//! Tiles, and what people do with cases.

use std::collections::BTreeMap;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1::{
    self as pb, NoInterestReason, WinbackCaseEventKind as Kind, WinbackCaseState as State,
    WinbackTile as Tile,
};
use anklang_testkit::{Client, TestServer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tonic::Code;

use super::desk::{
    cents, claim, close, closes, date, day, detail, events, get, id, open, open_in, remark, remind,
    reminds, request_offer, set, shop, sql, wants_offer,
};
use crate::refused;

async fn tiles(client: &Client) -> pb::WinbackTiles {
    let request = pb::GetWinbackTilesRequest {};
    let got = client.winback_cases().get_winback_tiles(request).await;
    got.unwrap().into_inner()
}

/// Count, sum in cents, and the changes of both, of the six tiles.
fn figures(tiles: &pb::WinbackTiles) -> Vec<(i64, i64, i64, i64)> {
    let order: Vec<Tile> = tiles.tiles.iter().map(|t| t.tile()).collect();
    let all = [
        Tile::Declining,
        Tile::ReminderDue,
        Tile::OfferRequested,
        Tile::Mailed,
        Tile::NoInterest,
        Tile::WonBack,
    ];
    assert_eq!(order, all);
    let of = |t: &pb::WinbackTileFigures| {
        let sum = cents(t.at_stake.as_ref()).unwrap();
        let change = cents(t.at_stake_change.as_ref()).unwrap();
        (t.count, sum, t.count_change, change)
    };
    tiles.tiles.iter().map(of).collect()
}

/// The numbers of the customers of a list, in its order.
pub async fn listed(client: &Client, tile: Tile, filter: &str, order_by: &str) -> String {
    let request = pb::ListWinbackCasesRequest {
        tile: tile.into(),
        filter: filter.into(),
        order_by: order_by.into(),
        ..Default::default()
    };
    let page = client.winback_cases().list_winback_cases(request).await;
    let cases = page.unwrap().into_inner().winback_cases;
    let numbers: Vec<String> = (cases.iter())
        .map(|case| case.customer.replace("customers/", ""))
        .collect();
    numbers.join(" ")
}

#[tokio::test]
async fn each_case_lies_on_its_tile() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    assert_eq!(figures(&tiles(&client).await), [(0, 0, 0, 0); 6]);
    for (customer, state) in [
        ("K1", "declining"),
        ("K2", "reminder"),
        ("K3", "offer_requested"),
        ("K4", "mailed"),
        ("K5", "no_interest"),
        ("K6", "won_back"),
    ] {
        open_in(&server, customer, state).await;
    }
    let waits = [("state", "'reminder'"), ("due_on", "current_date + 3")];
    let waiting = open(&server, "K7", &waits).await;
    open(&server, "K8", &[("at_stake", "NULL")]).await;
    let columns = [("at_stake", "7.25"), ("currency", "'CHF'")];
    open(&server, "K9", &columns).await;
    let all = tiles(&client).await;
    // Those without a model and in another currency count, and are in no sum.
    let one = (1, 10_000, 0, 0);
    assert_eq!(figures(&all), [(3, 10_000, 0, 0), one, one, one, one, one]);
    assert_eq!(all.waiting_count, 1);
    let week = all.as_of_time.unwrap().seconds - all.changes_since_time.unwrap().seconds;
    assert_eq!(week, 7 * 86_400);

    for (tile, customers) in [
        (Tile::Declining, "K1 K9 K8"),
        (Tile::ReminderDue, "K2"),
        (Tile::OfferRequested, "K3"),
        (Tile::Mailed, "K4"),
        (Tile::NoInterest, "K5"),
        (Tile::WonBack, "K6"),
    ] {
        assert_eq!(listed(&client, tile, "", "").await, customers, "{tile:?}");
    }
    let everything = listed(&client, Tile::Unspecified, "", "customer").await;
    assert_eq!(everything, "K1 K2 K3 K4 K5 K6 K7 K8 K9");
    assert_eq!(get(&client, &waiting).await.tile(), Tile::Unspecified);
    let request = pb::ListWinbackCasesRequest {
        tile: 7,
        page_size: -1,
        filter: "colour = red".into(),
        ..Default::default()
    };
    let status = client.winback_cases().list_winback_cases(request).await;
    refused::names(&status.unwrap_err(), &["tile", "page_size", "filter"]);
}

#[tokio::test]
async fn changes_are_those_of_seven_days() {
    /// Where a case has been, a step for each of these: hours ago, state, and of reminders the day.
    type Steps = Vec<(i64, usize, i64)>;
    const STATES: [&str; 6] = [
        "declining",
        "reminder",
        "offer_requested",
        "mailed",
        "no_interest",
        "won_back",
    ];
    const CASES: usize = 300;
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let mut customers = "number,kind,last_name\n".to_owned();
    for i in 0..CASES {
        customers += &format!("C{i:03},person,Kunde\n");
    }
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);

    // The tile of a case as of so many hours ago, of which the day is so many days ago.
    let tile_at = |steps: &Steps, hours: i64, days: i64| {
        let known = steps.iter().rev().find(|(at, ..)| *at > hours);
        known.and_then(|(_, state, due)| match state {
            1 if *due > -days => None,
            state => Some(*state),
        })
    };
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut wanted = [(0, 0, 0, 0); 6];
    let mut script = String::new();
    for i in 0..CASES {
        let mut steps: Steps = vec![(random.random_range(2..800), 0, 0)];
        while random.random_range(0..4) > 0 {
            let (before, state, _) = *steps.last().unwrap();
            if before < 3 || state > 3 {
                break;
            }
            let next = random.random_range(1..6);
            // Not within the hours around the moment that is looked at, nor around midnight.
            steps.push((
                random.random_range(1..before),
                next,
                random.random_range(-12..5),
            ));
        }
        steps.retain(|(at, ..)| !(166..=170).contains(at));
        if steps.is_empty() || steps[0].1 != 0 {
            continue;
        }
        let stake = random.random_range(0..100_000);
        let now = tile_at(&steps, 0, 0);
        let then = tile_at(&steps, 168, 7);
        if let Some(now) = now {
            wanted[now].0 += 1;
            wanted[now].1 += stake;
            wanted[now].2 += 1;
            wanted[now].3 += stake;
        }
        if let Some(then) = then {
            wanted[then].2 -= 1;
            wanted[then].3 -= stake;
        }
        script += &history(i, &steps, stake, &STATES);
    }
    sql(&server, &script).await;
    let found = figures(&tiles(&client).await);
    assert_eq!(found, wanted);
    assert!(
        wanted
            .iter()
            .all(|(count, _, change, _)| *count > 3 && *change != 0)
    );
}

/// A case with its events, in SQL.
fn history(i: usize, steps: &[(i64, usize, i64)], stake: i64, states: &[&str; 6]) -> String {
    let (_, state, due) = steps.last().unwrap();
    let state = states[*state];
    let berlin = "(now() AT TIME ZONE 'Europe/Berlin')::date";
    let due_on = match state {
        "reminder" => format!("{berlin} + {due}"),
        _ => "NULL".into(),
    };
    let is_final = ["no_interest", "won_back"].contains(&state);
    let closed = if is_final { "current_date" } else { "NULL" };
    let reason = if state == "no_interest" {
        "'price'"
    } else {
        "NULL"
    };
    let mut script = format!(
        "INSERT INTO winback_case (tenant_id, id, customer_id, state, opened_on, opened_by, seen_by,
             due_on, closed_on, no_interest, revenue_then, revenue_now, known_days, season, expected,
             actual, drop_amount, drop_percent, last_order, currency, at_stake, created_at)
         SELECT c.tenant_id, md5('{i}')::uuid, c.id, '{state}', '2026-01-01', c.id, c.id,
                {due_on}, {closed}, {reason}, 1, 1, 1, 1, 1, 1, 1, 1, '2026-01-01', 'EUR',
                {stake} / 100.0, now() - make_interval(hours => {opened})
         FROM customer c WHERE c.number = 'C{i:03}';\n",
        opened = steps[0].0,
    );
    let mut from = "";
    for (at, state, due) in steps {
        let (kind, to) = match states[*state] {
            "declining" => ("opened", "declining"),
            word => (word, word),
        };
        let detail = match to {
            "reminder" => format!("jsonb_build_object('due_date', {berlin} + {due})"),
            _ => "'{}'".into(),
        };
        // Remarks in between say nothing.
        script += &format!(
            "INSERT INTO winback_case_event (tenant_id, id, case_id, kind, from_state, to_state,
                 detail, created_at)
             SELECT tenant_id, anklang_uuid7(), id, e.kind, e.from_state, '{to}', {detail},
                    now() - make_interval(hours => {at}) + e.later
             FROM winback_case,
                  (VALUES ('{kind}', '{from}', interval '0'),
                          ('remark', '{to}', interval '1 minute')) e (kind, from_state, later)
             WHERE id = md5('{i}')::uuid;\n"
        );
        from = to;
    }
    script
}

#[tokio::test]
async fn a_case_shows_why_and_where_to_look() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(
        &server,
        "K3",
        &[
            ("alive", "0.125"),
            ("purchases", "1.5"),
            ("order_value", "19.999"),
            ("lost_share", "0.5"),
            ("lost_groups", "'{Wein}'"),
            ("season", "1.25"),
        ],
    )
    .await;
    let plain = get(&client, &name).await;
    assert_eq!((&plain.customer_link[..], &plain.order_link[..]), ("", ""));
    assert_eq!(plain.last_order_products[0].link, "");
    let links = json!({
        "customer": "https://shop.example/kunden/{number}",
        "product": "https://shop.example/p?nr={number}&x=1",
        "order": "https://shop.example/{number}/bestellung",
    });
    set(&server, &json!({"links": links})).await;
    let case = get(&client, &name).await;
    assert_eq!(case.customer_link, "https://shop.example/kunden/K3");
    assert_eq!(case.order_link, "https://shop.example/B3/bestellung");
    let products: Vec<(&str, &str, &str, Option<i64>)> = (case.last_order_products.iter())
        .map(|p| {
            let revenue = cents(p.revenue.as_ref());
            (
                &p.display_name[..],
                &p.product_group[..],
                &p.link[..],
                revenue,
            )
        })
        .collect();
    assert_eq!(
        products,
        [
            (
                "Birne",
                "Korb",
                "https://shop.example/p?nr=Q&x=1",
                Some(3_000)
            ),
            (
                "Apfel",
                "Obst",
                "https://shop.example/p?nr=P%2F3&x=1",
                Some(2_000)
            ),
        ]
    );
    assert_eq!(case.etag, plain.etag, "links are not the case");
    assert_eq!(
        (
            &case.last_order[..],
            &case.last_order_brand[..],
            &case.last_order_group[..]
        ),
        ("orders/B3", "brands/garten", "Korb")
    );
    assert_eq!(
        (&case.customer[..], &case.customer_name[..]),
        ("customers/K3", "Karla Kunde3")
    );
    assert_eq!(
        (case.alive, case.expected_purchases),
        (Some(0.125), Some(1.5))
    );
    assert_eq!(cents(case.order_value.as_ref()), Some(2_000));
    assert_eq!(
        (cents(case.at_stake.as_ref()), &case.season[..]),
        (Some(10_000), "1.25")
    );
    assert_eq!(
        (case.lost_group_share, &case.lost_groups[..]),
        (0.5, &["Wein".to_owned()][..])
    );
    assert_eq!(
        (case.state(), case.tile()),
        (State::Declining, Tile::Declining)
    );
    // What the ERP rejected, and a return, is not the last order.
    let orders = "number,customer_number,brand_code,ordered_at,currency\n\
        X3,K3,markt,2026-06-01T10:00:00Z,EUR\nY3,K3,markt,2026-05-01T10:00:00Z,EUR\n";
    client.import(ImportEntity::Orders, orders).await.unwrap();
    let lines = "order_number,line,quantity,unit_price\nX3,1,-1,5\n";
    client
        .import(ImportEntity::OrderLines, lines)
        .await
        .unwrap();
    sql(
        &server,
        "UPDATE sales_order SET state = 'rejected', taken_number = 'Y3' WHERE number = 'Y3'",
    )
    .await;
    assert_eq!(get(&client, &name).await.last_order, "orders/B3");

    let request = pb::GetWinbackCaseRequest {
        name: "winbackCases/00000000-0000-7000-8000-000000000009".into(),
    };
    let status = client.winback_cases().get_winback_case(request).await;
    refused::not_found(&status.unwrap_err());
}

/// The kinds of the customer's history, the oldest first, with who did it.
pub async fn history_of(client: &Client, customer: &str) -> Vec<(String, String)> {
    let request = customers::ListCustomerEventsRequest {
        parent: format!("customers/{customer}"),
        filter: "kind:winback".into(),
        order_by: "event_time".into(),
        ..Default::default()
    };
    let listed = client
        .customers()
        .list_customer_events(request)
        .await
        .unwrap();
    let events = listed.into_inner().customer_events;
    let worker = |event: &customers::CustomerEvent| {
        let worker = event.details.as_ref().and_then(|d| d.fields.get("worker"));
        match worker.and_then(|w| w.kind.clone()) {
            Some(prost_types::value::Kind::StringValue(worker)) => worker,
            other => panic!("{other:?}"),
        }
    };
    events.iter().map(|e| (e.kind.clone(), worker(e))).collect()
}

#[tokio::test]
async fn whoever_has_no_interest_is_done_with() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    let claimed = claim(&client, &name, "anna").await.unwrap();
    let request = pb::CloseWinbackCaseRequest {
        claim: claimed.claim.clone(),
        etag: get(&client, &name).await.etag,
        ..closes(&name, "anna")
    };
    let closed = close(&client, request.clone()).await.unwrap();
    assert_eq!(closed.state(), State::NoInterest);
    assert_eq!(closed.no_interest_reason(), NoInterestReason::Competitor);
    assert_eq!(
        (closed.close_date, &closed.held_by[..]),
        (Some(date(day(0))), "")
    );
    let [event] = &events(&client, &name).await[..] else {
        panic!("one event");
    };
    assert_eq!(
        (event.kind(), &event.actor[..]),
        (Kind::NoInterest, "users/anna")
    );
    assert_eq!(
        (event.from_state(), event.to_state()),
        (State::Declining, State::NoInterest)
    );
    assert_eq!(detail(event, "reason"), "competitor");
    assert_eq!(detail(event, "note"), "kauft jetzt woanders");
    let told = ("winback.no_interest".to_owned(), "users/anna".to_owned());
    assert_eq!(history_of(&client, "K1").await, [told]);

    // Again the same: nothing changes. Another reason, or anything else: it is closed.
    let again = close(&client, closes(&name, "ben")).await.unwrap();
    assert_eq!(again.etag, closed.etag);
    assert_eq!(events(&client, &name).await.len(), 1);
    let other = pb::CloseWinbackCaseRequest {
        reason: NoInterestReason::Price.into(),
        ..closes(&name, "ben")
    };
    let closed_for = [
        close(&client, other).await.unwrap_err(),
        remind(&client, reminds(&name, "ben")).await.unwrap_err(),
        request_offer(&client, wants_offer(&name, "ben"))
            .await
            .unwrap_err(),
        claim(&client, &name, "ben").await.unwrap_err(),
    ];
    for status in closed_for {
        let (subject, description) = refused::precondition(&status, "PRECONDITION");
        assert_eq!(
            (&subject, &description[..]),
            (&name, "the case is closed: no_interest")
        );
    }
    // But for a remark, which leaves all as it is.
    let remarked = remark(&client, &name, "ben", "rief noch einmal an")
        .await
        .unwrap();
    assert_eq!(remarked.etag, closed.etag);
    assert_eq!(remarked.close_date, closed.close_date);
    let newest = &events(&client, &name).await[0];
    assert_eq!(
        (newest.kind(), detail(newest, "text")),
        (Kind::Remark, "rief noch einmal an".into())
    );

    let stale = close(&client, request).await.unwrap_err();
    refused::is(&stale, Code::Aborted, "ETAG_MISMATCH");
    let wrong = pb::CloseWinbackCaseRequest {
        name: "x".into(),
        worker: "anna".into(),
        claim: "x".into(),
        reason: 0,
        note: "ä".repeat(4_001),
        request_id: "x".into(),
        ..Default::default()
    };
    let status = close(&client, wrong).await.unwrap_err();
    refused::names(
        &status,
        &["name", "worker", "claim", "reason", "note", "request_id"],
    );
}

#[tokio::test]
async fn reminders_come_back_when_they_are_due() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    let put_off = remind(&client, reminds(&name, "anna")).await.unwrap();
    assert_eq!(
        (put_off.state(), put_off.tile()),
        (State::Reminder, Tile::Unspecified)
    );
    assert_eq!(put_off.due_date, Some(date(day(10))));
    set(&server, &json!({"reminder_days": 3})).await;
    let put_off = remind(&client, reminds(&name, "anna")).await.unwrap();
    assert_eq!(put_off.due_date, Some(date(day(3))));
    let request = pb::RemindWinbackCaseRequest {
        days: 366,
        note: "im Urlaub".into(),
        ..reminds(&name, "anna")
    };
    let put_off = remind(&client, request).await.unwrap();
    assert_eq!(put_off.due_date, Some(date(day(366))));
    let on = |days: i64| pb::RemindWinbackCaseRequest {
        due_date: Some(date(day(days))),
        ..reminds(&name, "anna")
    };
    let put_off = remind(&client, on(1)).await.unwrap();
    assert_eq!(put_off.due_date, Some(date(day(1))));
    let newest = &events(&client, &name).await[..2];
    assert_eq!(detail(&newest[0], "due_date"), day(1).to_string());
    assert_eq!(detail(&newest[1], "note"), "im Urlaub");
    assert_eq!(newest[0].from_state(), State::Reminder);

    for days in [0, -1, 367] {
        let status = remind(&client, on(days)).await.unwrap_err();
        refused::names(&status, &["due_date"]);
    }
    for days in [-1, 367] {
        let request = pb::RemindWinbackCaseRequest {
            days,
            ..reminds(&name, "anna")
        };
        refused::names(&remind(&client, request).await.unwrap_err(), &["days"]);
    }
    let both = pb::RemindWinbackCaseRequest { days: 2, ..on(2) };
    refused::names(&remind(&client, both).await.unwrap_err(), &["due_date"]);
    assert_eq!(get(&client, &name).await, put_off);

    // Days that are counted end on a workday; a day that is named is kept.
    crate::planning::put_calendar(&client, "arbeit", "", &[]).await;
    set(&server, &json!({"calendar": "arbeit"})).await;
    let workday = |days: i64| {
        (days..).map(day).find(|day| {
            use chrono::Datelike;
            day.weekday().number_from_monday() < 6
        })
    };
    for days in 1..8 {
        let request = pb::RemindWinbackCaseRequest {
            days: i32::try_from(days).unwrap(),
            ..reminds(&name, "anna")
        };
        let put_off = remind(&client, request).await.unwrap();
        assert_eq!(put_off.due_date, workday(days).map(date));
        let named = remind(&client, on(days)).await.unwrap();
        assert_eq!(named.due_date, Some(date(day(days))));
    }
    let due = format!("UPDATE winback_case SET due_on = '{}'", day(0));
    sql(&server, &due).await;
    assert_eq!(get(&client, &name).await.tile(), Tile::ReminderDue);
}

#[tokio::test]
async fn the_history_of_a_case_is_filtered() {
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let name = open(&server, "K1", &[]).await;
    remark(&client, &name, "anna", "eins").await.unwrap();
    remind(&client, reminds(&name, "ben")).await.unwrap();
    remark(&client, &name, "anna", "zwei").await.unwrap();
    let kinds = async |filter: &str| -> BTreeMap<String, usize> {
        let request = pb::ListWinbackCaseEventsRequest {
            parent: name.clone(),
            filter: filter.into(),
            ..Default::default()
        };
        let listed = client
            .winback_cases()
            .list_winback_case_events(request)
            .await;
        let mut kinds = BTreeMap::new();
        for event in listed.unwrap().into_inner().winback_case_events {
            *kinds
                .entry(event.kind().as_str_name().to_owned())
                .or_default() += 1;
        }
        kinds
    };
    let of = |kind: &str| format!("WINBACK_CASE_EVENT_KIND_{kind}");
    assert_eq!(
        kinds("").await,
        BTreeMap::from([(of("REMARK"), 2), (of("REMINDER"), 1)])
    );
    assert_eq!(
        kinds("kind = REMARK").await,
        BTreeMap::from([(of("REMARK"), 2)])
    );
    assert_eq!(
        kinds("actor = \"users/ben\" AND to_state = REMINDER").await,
        BTreeMap::from([(of("REMINDER"), 1)])
    );
    for bad in ["", " \n", &"ä".repeat(4_001), "a\u{7}"] {
        refused::names(
            &remark(&client, &name, "anna", bad).await.unwrap_err(),
            &["text"],
        );
    }
    // With the customer all of it goes.
    sql(&server, "DELETE FROM customer WHERE number = 'K1'").await;
    let left = format!(
        "SELECT count(*) FROM winback_case_event WHERE case_id = '{}'",
        id(&name)
    );
    assert_eq!(server.database.one(&left).await.unwrap(), "0");
}
