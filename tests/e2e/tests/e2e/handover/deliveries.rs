//! What receivers get, when it fails, and when it is over.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::hold::Hold;
use crate::mailing;
use crate::receiver::{Call, Reply};
use crate::utility::{FEW, with_utility};

/// The whole of what a receiver relies on. Change it only by adding.
#[tokio::test]
async fn an_accepted_offer_arrives_once_and_signed() {
    let server = server().await;
    let (client, utility) = with_utility(&server, FEW).await;
    let receiver = Receiver::start().await;
    let hook = create(&client, webhook(receiver.url("/erp"), &[]))
        .await
        .unwrap();
    assert_eq!(hook.state(), WebhookState::Active);
    let contract = utility.first(Case::Plain);
    let offer = switch(&client, &utility).await;
    accept(&client, &offer.name).await.unwrap();
    // The same answer again is no news.
    let accepted = accept(&client, &offer.name).await.unwrap();
    until_in(&client, &hook.name, DeliveryState::Delivered, 1).await;

    let [call] = &receiver.calls()[..] else {
        panic!("one call: {:?}", receiver.calls());
    };
    assert_eq!(call.path, "/erp");
    assert_eq!(
        call.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(call.signed_by(&[&hook.secret]), [&hook.secret[..]]);
    let sent: i64 = call.header("webhook-timestamp").parse().unwrap();
    assert!((chrono::Utc::now().timestamp() - sent).abs() < 120);

    let mut event = call.event();
    let answered = accepted.answer_time.unwrap();
    let answered =
        chrono::DateTime::from_timestamp(answered.seconds, answered.nanos.unsigned_abs());
    let answered = answered
        .unwrap()
        .to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let sequence = event["sequence"].take();
    assert!(
        sequence.as_str().is_some_and(|s| s.len() == 20),
        "{sequence}"
    );
    let day = |days: i64| (utility.today + chrono::TimeDelta::days(days)).to_string();
    let price = async |column: &str| {
        let sql = format!("SELECT {column}::text FROM offer");
        server.database.one(&sql).await.unwrap()
    };
    let expected = json!({
        "specversion": "1.0",
        "id": call.id(),
        "source": "/anklang/tenants/linden",
        "type": ACCEPTED,
        "subject": "offers/A-00000001",
        "time": answered,
        "sequence": null,
        "datacontenttype": "application/json",
        "data": {
            "offer": "A-00000001", "state": "accepted",
            "customer": utility.customer_of(contract).number, "contract": contract.number,
            "campaign": null, "phase": null,
            "product": "S-OEKO", "product_version": "NEXT",
            "offer_date": day(0), "valid_until": day(14),
            "base_price_per_year": price("base_price_per_year").await,
            "unit_price_per_kwh": price("unit_price_per_kwh").await,
            "annual_quantity_kwh": price("annual_quantity_kwh").await,
            "annual_amount": price("annual_amount").await,
            "currency": "EUR",
            "answer_time": answered, "answer_source": "web", "reject_reason": "",
            "reject_reason_code": "", "withdraw_reason": "",
        },
    });
    assert_eq!(event, expected);
    assert_eq!(count(&server, "handover_event").await, "1");

    let listed = deliveries(&client, &hook.name, &[]).await;
    let found = delivery(&client, &listed[0].name).await;
    assert_eq!(found.event_json, call.body);
    assert_eq!(
        listed[0].name,
        format!("{}/deliveries/{}", hook.name, call.id())
    );
    assert_eq!(
        (
            found.attempt_count,
            found.failure_count,
            found.response_status
        ),
        (1, 0, 204)
    );
    assert_eq!(
        (&found.event_type[..], &found.subject[..]),
        (ACCEPTED, &offer.name[..])
    );
    assert_eq!(listed[0].event_json, "");
}

#[tokio::test]
async fn each_webhook_gets_what_it_asked_for() {
    let mut server = server().await;
    let (client, utility) = with_utility(&server, FEW).await;
    let receiver = Receiver::start().await;
    let before = switch(&client, &utility).await;
    reject(&client, &before.name).await;
    let all = create(&client, webhook(receiver.url("/all"), &[]))
        .await
        .unwrap();
    let no = create(&client, webhook(receiver.url("/no"), &[REJECTED, EXPIRED]))
        .await
        .unwrap();
    let (yes, rejected, expired) = (
        switch_nth(&client, &utility, 0).await.name,
        switch_nth(&client, &utility, 1).await.name,
        switch_nth(&client, &utility, 2).await.name,
    );
    accept(&client, &yes).await.unwrap();
    reject(&client, &rejected).await;
    let database = server.database.connect().await.unwrap();
    let over = format!(
        "UPDATE offer SET valid_until = '{}'::date - 1 WHERE state = 'open'",
        utility.today
    );
    database.batch_execute(&over).await.unwrap();
    // What is not recorded when the server dies comes twice.
    until_in(&client, &all.name, DeliveryState::Delivered, 2).await;
    until_in(&client, &no.name, DeliveryState::Delivered, 1).await;
    // It looks for what has expired when it starts.
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    until_in(&client, &no.name, DeliveryState::Delivered, 2).await;
    let test = send_test(&client, &no.name).await;
    assert_eq!(
        (&test.event_type[..], &test.subject[..]),
        (TEST, &no.name[..])
    );
    until("all calls", async || receiver.calls().len() >= 6).await;

    let is = |kind: &str, subject: &str| (kind.to_owned(), subject.to_owned());
    let set = |path: &str| told(&receiver, path).into_iter().collect::<BTreeSet<_>>();
    let wanted = [
        is(ACCEPTED, &yes),
        is(REJECTED, &rejected),
        is(EXPIRED, &expired),
    ];
    assert_eq!(set("/all"), BTreeSet::from(wanted));
    let wanted = [
        is(REJECTED, &rejected),
        is(EXPIRED, &expired),
        is(TEST, &no.name),
    ];
    assert_eq!(set("/no"), BTreeSet::from(wanted));
    let calls = receiver.calls();
    let of = |kind: &str| {
        calls
            .iter()
            .map(Call::event)
            .find(|e| e["type"] == kind)
            .unwrap()
    };
    assert_eq!(
        of(REJECTED)["data"]["reject_reason"],
        "bleibt \"lieber\"\nda"
    );
    assert_eq!(of(EXPIRED)["data"]["answer_time"], Value::Null);
    assert_eq!(of(TEST)["data"], json!({"webhook": no.name}));
    assert_eq!(
        calls.len(),
        6,
        "each once, and nothing from before there was a webhook"
    );
}

#[tokio::test]
async fn offers_of_a_cancelled_launch_are_told_to_be_withdrawn() {
    const MEMBERS: usize = 250;
    let server = server().await;
    let client = mailing::tenant(&server, MEMBERS).await;
    let receiver = Receiver::start().await;
    let hook = create(&client, webhook(receiver.url("/"), &[WITHDRAWN]))
        .await
        .unwrap();
    // The first chunk of documents is there, the second is not: drafts, which nobody has seen.
    let late = "CREATE FUNCTION late(offer_id uuid) RETURNS boolean LANGUAGE sql
                RETURN (SELECT member_seq > 200 FROM offer o WHERE o.id = $1)";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(late).await.unwrap();
    let hold = Hold::inserts(&server, "document", "late(NEW.offer_id)").await;
    let operation = mailing::begin(&client, mailing::SLIP).await;
    hold.reached().await;
    let cancel = anklang_proto::google::longrunning::CancelOperationRequest {
        name: operation.name.clone(),
    };
    client.operations().cancel_operation(cancel).await.unwrap();
    hold.release().await;
    mailing::over(&client, &operation.name).await;

    let seen: usize = count(&server, "document").await.parse().unwrap();
    assert!(seen >= 200, "{seen}");
    until_in(&client, &hook.name, DeliveryState::Delivered, seen).await;
    let subjects: BTreeSet<String> = told(&receiver, "/").into_iter().map(|(_, s)| s).collect();
    assert_eq!(subjects.len(), seen);
    let event = receiver.calls()[0].event();
    assert!(
        event["data"]["campaign"]
            .as_str()
            .unwrap()
            .starts_with("campaigns/"),
        "{event}"
    );
    assert_eq!(
        (&event["data"]["phase"], &event["data"]["state"]),
        (&json!(1), &json!("withdrawn"))
    );
    assert_eq!(count(&server, "handover_event").await, seen.to_string());
    // Drafts as well: the customers' histories say what became of them, and why.
    let told = "SELECT count(*) || ' ' || min(details ->> 'reason') FROM customer_event
                WHERE kind = 'offer.withdrawn'";
    assert_eq!(
        server.database.one(told).await.unwrap(),
        format!("{MEMBERS} the phase was cancelled")
    );
}

/// Offers for one contract are alternatives.
#[tokio::test]
async fn with_an_acceptance_it_is_told_what_was_withdrawn_for_it() {
    let server = server().await;
    let (client, utility) = with_utility(&server, FEW).await;
    let receiver = Receiver::start().await;
    let (one, other) = (
        switch(&client, &utility).await.name,
        switch(&client, &utility).await.name,
    );
    let elsewhere = switch_nth(&client, &utility, 1).await.name;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    accept(&client, &one).await.unwrap();
    reject(&client, &elsewhere).await;
    until_in(&client, &hook.name, DeliveryState::Delivered, 3).await;
    let is = |kind: &str, subject: String| (kind.to_owned(), subject);
    let told: BTreeSet<_> = told(&receiver, "/").into_iter().collect();
    let expected = [
        is(ACCEPTED, one),
        is(WITHDRAWN, other),
        is(REJECTED, elsewhere),
    ];
    assert_eq!(told, expected.into());
    let calls = receiver.calls();
    let mut events = calls.iter().map(Call::event);
    let withdrawn = events.find(|event| event["type"] == WITHDRAWN).unwrap();
    let reason = &withdrawn["data"]["withdraw_reason"];
    assert_eq!(reason, "another offer was accepted");
}

#[tokio::test]
async fn what_fails_is_tried_again_then_dead_then_replayed() {
    let server = server().await;
    let (client, utility) = with_utility(&server, FEW).await;
    let receiver = Receiver::answering(|_| 500.into()).await;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    // Nobody listens there.
    let gone = create(&client, webhook("http://127.0.0.1:1/".into(), &[]))
        .await
        .unwrap();
    for _ in 0..2 {
        let offer = switch(&client, &utility).await;
        accept(&client, &offer.name).await.unwrap();
    }
    for (hook, why, status) in [(&hook, "HTTP 500", 500), (&gone, "onnect", 0)] {
        until_in(&client, &hook.name, DeliveryState::Dead, 2).await;
        for dead in deliveries(&client, &hook.name, &[]).await {
            assert_eq!((dead.attempt_count, dead.failure_count), (3, 3), "{dead:?}");
            assert!(dead.detail.contains(why), "{dead:?}");
            assert!(
                dead.response_status == status && dead.end_time.is_some(),
                "{dead:?}"
            );
        }
        let failing = get(&client, &hook.name).await;
        assert_eq!(failing.state(), WebhookState::Failing);
        assert!(failing.failing_since_time.is_some());
    }
    let calls = receiver.calls();
    assert_eq!(calls.len(), 6);
    for call in &calls {
        let same = calls.iter().filter(|c| c.id() == call.id());
        assert!(same.clone().count() == 3 && same.clone().all(|c| c.body == call.body));
    }

    // One, then all: the same events again.
    receiver.now_answers(|_| 200.into());
    let first = deliveries(&client, &hook.name, &[]).await[0].name.clone();
    let replayed = replay(&client, &first).await.unwrap();
    assert_eq!(
        (replayed.state(), replayed.failure_count),
        (DeliveryState::Pending, 0)
    );
    until_in(&client, &hook.name, DeliveryState::Delivered, 1).await;
    assert_eq!(replay_dead(&client, &hook.name).await, 1);
    until_in(&client, &hook.name, DeliveryState::Delivered, 2).await;
    assert_eq!(replay_dead(&client, &hook.name).await, 0);
    let audited = "SELECT string_agg(written || ' ' || resources[1], ', ')
                   FROM audit_entry WHERE method LIKE '%/ReplayDeadDeliveries'";
    assert_eq!(
        server.database.one(audited).await.unwrap(),
        format!("1 {}", hook.name)
    );
    let ids: BTreeSet<String> = receiver.calls().iter().map(|c| c.id().to_owned()).collect();
    assert_eq!((receiver.calls().len(), ids.len()), (8, 2));
    let well = get(&client, &hook.name).await;
    assert_eq!(
        (well.state(), well.failing_since_time),
        (WebhookState::Active, None)
    );

    // What was delivered can be delivered again; the other webhook is another matter.
    replay(&client, &first).await.unwrap();
    until("the third delivery", async || receiver.calls().len() == 9).await;
    assert_eq!(
        deliveries(&client, &gone.name, &[DeliveryState::Dead])
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn a_receiver_that_asks_to_be_left_alone_is() {
    let server = server().await;
    let client = server.client("linden").await.unwrap();
    let receiver = Receiver::answering(|_| Reply {
        status: 503,
        headers: vec![("retry-after", "3600".into())],
        ..Default::default()
    })
    .await;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    let asked = chrono::Utc::now().timestamp() + 3_600;
    let first = send_test(&client, &hook.name).await;
    until("it was asked", async || {
        get(&client, &hook.name).await.held_until_time.is_some()
    })
    .await;
    let waits = delivery(&client, &first.name).await;
    assert_eq!(
        (waits.state(), waits.failure_count),
        (DeliveryState::Pending, 1)
    );
    assert!(waits.next_attempt_time.unwrap().seconds >= asked);
    let held = get(&client, &hook.name).await;
    assert!(held.held_until_time.unwrap().seconds >= asked);

    // For all events: another webhook's arrive, this one's wait.
    let other = create(&client, webhook(receiver.url("/other"), &[]))
        .await
        .unwrap();
    send_test(&client, &hook.name).await;
    send_test(&client, &other.name).await;
    until("the other is called", async || {
        !told(&receiver, "/other").is_empty()
    })
    .await;
    assert_eq!(told(&receiver, "/").len(), 1);
    // Another URL has not asked for anything.
    receiver.now_answers(|_| 200.into());
    let mut moved = held.clone();
    moved.url = receiver.url("/new");
    assert_eq!(update(&client, moved).await.unwrap().held_until_time, None);
    until("the new one is called", async || {
        told(&receiver, "/new").len() == 1
    })
    .await;
}

/// Of an offer, the next event waits until the one before was taken or given up.
#[tokio::test]
async fn events_of_an_offer_arrive_in_order() {
    let server = server().await;
    let (client, utility) = with_utility(&server, FEW).await;
    // Each second call fails, so that everything is tried again.
    let mut calls = 0;
    let receiver = Receiver::answering(move |_| {
        calls += 1;
        if calls % 2 == 1 { 500 } else { 200 }.into()
    })
    .await;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    let mut names = Vec::new();
    for place in 0..4 {
        names.push(switch_nth(&client, &utility, place).await.name);
    }
    let database = server.database.connect().await.unwrap();
    for _ in 0..3 {
        for name in &names {
            accept(&client, name).await.unwrap();
        }
        // Behind the server's back: an offer does not come back.
        database
            .batch_execute("UPDATE offer SET state = 'open'")
            .await
            .unwrap();
        for name in &names {
            reject(&client, name).await;
        }
        database
            .batch_execute("UPDATE offer SET state = 'open'")
            .await
            .unwrap();
    }
    until("all are over", async || {
        let under_way = [DeliveryState::Pending, DeliveryState::Delivering];
        deliveries(&client, &hook.name, &under_way).await.is_empty()
    })
    .await;
    for name in &names {
        let seen: Vec<String> = receiver
            .calls()
            .iter()
            .map(Call::event)
            .filter(|e| e["subject"] == name[..])
            .map(|e| e["sequence"].as_str().unwrap().to_owned())
            .collect();
        assert!(seen.is_sorted(), "{name}: {seen:?}");
        assert_eq!(
            seen.iter().collect::<BTreeSet<_>>().len(),
            6,
            "{name}: {seen:?}"
        );
    }
    assert_eq!(deliveries(&client, &hook.name, &[]).await.len(), 24);
}

#[tokio::test]
async fn dead_deliveries_outlast_those_that_were_taken() {
    let mut server = server().await;
    let client = server.client("linden").await.unwrap();
    let receiver = Receiver::answering(|call| match &call.path[..] {
        "/dead" => 500.into(),
        _ => 200.into(),
    })
    .await;
    let (dead, taken) = (
        create(&client, webhook(receiver.url("/dead"), &[]))
            .await
            .unwrap(),
        create(&client, webhook(receiver.url("/taken"), &[]))
            .await
            .unwrap(),
    );
    send_test(&client, &dead.name).await;
    send_test(&client, &taken.name).await;
    until_in(&client, &dead.name, DeliveryState::Dead, 1).await;
    until_in(&client, &taken.name, DeliveryState::Delivered, 1).await;
    // The first one's event was for both.
    let shared = format!(
        "INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq, state, ended_at)
         SELECT tenant_id, '{}', event_id, seq, 'delivered', now()
         FROM handover_delivery WHERE state = 'dead'",
        taken.name.strip_prefix("webhooks/").unwrap()
    );
    let ages = "UPDATE handover_delivery SET ended_at = ended_at - interval '31 days';
         UPDATE handover_event SET occurred_at = occurred_at - interval '31 days'";
    let database = server.database.connect().await.unwrap();
    database
        .batch_execute(&format!("{shared}; {ages}"))
        .await
        .unwrap();
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM handover_delivery),
        (SELECT count(*) FROM handover_event))";
    // It looks for what is over when it starts.
    server.restart().await.unwrap();
    until("only the dead one is left", async || {
        server.database.one(left).await.unwrap() == "1 1"
    })
    .await;

    receiver.now_answers(|_| 200.into());
    let client = Client::connect(server.addr, "linden").await.unwrap();
    assert_eq!(replay_dead(&client, &dead.name).await, 1);
    until_in(&client, &dead.name, DeliveryState::Delivered, 1).await;
    database.batch_execute(ages).await.unwrap();
    server.restart().await.unwrap();
    until("nothing is left", async || {
        server.database.one(left).await.unwrap() == "0 0"
    })
    .await;
}

/// Whatever was answered is told, also when the server is killed while it answers and delivers.
#[tokio::test]
async fn nothing_is_lost_when_the_server_is_killed() {
    use rand::RngExt;
    const OFFERS: usize = 60;
    let mut random = mailing::seeded();
    let config = QUICK
        .replace("timeout_seconds = 2", "timeout_seconds = 1")
        .replace("attempts = 3", "attempts = 50");
    let mut server = with_config(&config).await;
    let client = mailing::tenant(&server, OFFERS).await;
    let receiver = Receiver::answering(|_| Reply {
        status: 200,
        after: Duration::from_millis(100),
        ..Default::default()
    })
    .await;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    let campaign = mailing::launch(&client, mailing::SLIP).await;
    let offers = crate::utility::offers_of(&client, &campaign).await;
    let mut names: Vec<String> = offers.into_values().map(|o| o.name).collect();
    names.sort();
    for some in names.chunks(OFFERS / 4) {
        let client = Client::connect(server.addr, mailing::TENANT).await.unwrap();
        let answering = tokio::spawn({
            let some = some.to_vec();
            async move {
                for name in some {
                    // Killed in between: nobody knows whether it was answered.
                    if accept(&client, &name).await.is_err() {
                        break;
                    }
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(random.random_range(50..600))).await;
        server.restart().await.unwrap();
        answering.await.unwrap();
        let client = Client::connect(server.addr, mailing::TENANT).await.unwrap();
        for name in some {
            accept(&client, name).await.unwrap();
        }
    }
    let client = Client::connect(server.addr, mailing::TENANT).await.unwrap();
    // The leases of the killed ones have to run out first.
    until_in(&client, &hook.name, DeliveryState::Delivered, OFFERS).await;
    let told: BTreeSet<String> = told(&receiver, "/").into_iter().map(|(_, s)| s).collect();
    assert_eq!(told, names.into_iter().collect());
    let ids: BTreeSet<String> = receiver.calls().iter().map(|c| c.id().to_owned()).collect();
    assert_eq!(ids.len(), OFFERS, "what comes twice comes with the same id");
    assert_eq!(count(&server, "handover_event").await, OFFERS.to_string());
}

#[tokio::test]
async fn redirects_and_long_answers_lead_nowhere() {
    let server = server().await;
    let client = server.client("linden").await.unwrap();
    let receiver = Receiver::answering(|call| match &call.path[..] {
        "/moved" => Reply {
            status: 307,
            headers: vec![("location", "/secret".into())],
            ..Default::default()
        },
        _ => Reply {
            status: 200,
            body: vec![b'x'; 8 << 20],
            ..Default::default()
        },
    })
    .await;
    let moved = create(&client, webhook(receiver.url("/moved"), &[]))
        .await
        .unwrap();
    let long = create(&client, webhook(receiver.url("/long"), &[]))
        .await
        .unwrap();
    let (moved_test, long_test) = (
        send_test(&client, &moved.name).await,
        send_test(&client, &long.name).await,
    );
    until_in(&client, &moved.name, DeliveryState::Dead, 1).await;
    until_in(&client, &long.name, DeliveryState::Delivered, 1).await;
    let dead = delivery(&client, &moved_test.name).await;
    assert_eq!(dead.response_status, 307);
    assert!(
        dead.detail.contains("redirects are not followed"),
        "{dead:?}"
    );
    assert_eq!(delivery(&client, &long_test.name).await.attempt_count, 1);
    assert!(told(&receiver, "/secret").is_empty());
}
