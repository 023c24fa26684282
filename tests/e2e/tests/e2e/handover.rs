//! Hand-over: what a receiver of webhooks gets, how often and in which order, and what a tenant
//! sees of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anklang_proto::anklang::handover::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, Options, TestServer, violations};
use pb::{DeliveryState, WebhookState};
use serde_json::{Value, json};
use tonic::Status;
use uuid::Uuid;

use crate::hold::Hold;
use crate::mailing;
use crate::receiver::{Call, Receiver, Reply};
use crate::refused;
use crate::utility::{Case, FEW, Utility, until, with_utility};

const ACCEPTED: &str = "anklang.offer.accepted.v1";
const REJECTED: &str = "anklang.offer.rejected.v1";
const EXPIRED: &str = "anklang.offer.expired.v1";
const WITHDRAWN: &str = "anklang.offer.withdrawn.v1";
const TEST: &str = "anklang.webhook.test.v1";

/// Loopback is allowed, and giving up takes little time.
const QUICK: &str = "[handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
    poll_milliseconds = 50\nattempts = 3\nfirst_retry_milliseconds = 50\n\
    longest_retry_seconds = 1\ntimeout_seconds = 2\nfailing_after_seconds = 0\n";

async fn server() -> TestServer {
    with_config(QUICK).await
}

async fn with_config(config: &str) -> TestServer {
    TestServer::start_with(Options {
        config: config.into(),
        ..Default::default()
    })
    .await
    .unwrap()
}

fn webhook(url: String, types: &[&str]) -> pb::Webhook {
    pb::Webhook {
        display_name: "ERP".into(),
        url,
        event_types: types.iter().map(|t| (*t).to_owned()).collect(),
        ..Default::default()
    }
}

async fn create(client: &Client, webhook: pb::Webhook) -> Result<pb::Webhook, Status> {
    let request = pb::CreateWebhookRequest {
        webhook: Some(webhook),
        ..Default::default()
    };
    let made = client.webhooks().create_webhook(request).await;
    made.map(tonic::Response::into_inner)
}

async fn update(client: &Client, webhook: pb::Webhook) -> Result<pb::Webhook, Status> {
    let request = pb::UpdateWebhookRequest {
        webhook: Some(webhook),
        ..Default::default()
    };
    let changed = client.webhooks().update_webhook(request).await;
    changed.map(tonic::Response::into_inner)
}

async fn get(client: &Client, name: &str) -> pb::Webhook {
    let request = pb::GetWebhookRequest { name: name.into() };
    let found = client.webhooks().get_webhook(request).await;
    found.unwrap().into_inner()
}

async fn rotate(client: &Client, name: &str, overlap: i64) -> Result<pb::Webhook, Status> {
    let request = pb::RotateWebhookSecretRequest {
        name: name.into(),
        overlap: Some(prost_types::Duration {
            seconds: overlap,
            nanos: 0,
        }),
        ..Default::default()
    };
    let rotated = client.webhooks().rotate_webhook_secret(request).await;
    rotated.map(tonic::Response::into_inner)
}

async fn send_test(client: &Client, name: &str) -> pb::Delivery {
    let request = pb::SendTestEventRequest {
        name: name.into(),
        ..Default::default()
    };
    let queued = client.webhooks().send_test_event(request).await;
    queued.unwrap().into_inner()
}

async fn deliveries(client: &Client, parent: &str, states: &[DeliveryState]) -> Vec<pb::Delivery> {
    let request = pb::ListDeliveriesRequest {
        parent: parent.into(),
        page_size: 1_000,
        states: states.iter().map(|s| (*s).into()).collect(),
        ..Default::default()
    };
    let listed = client.deliveries().list_deliveries(request).await;
    listed.unwrap().into_inner().deliveries
}

async fn delivery(client: &Client, name: &str) -> pb::Delivery {
    let request = pb::GetDeliveryRequest { name: name.into() };
    let found = client.deliveries().get_delivery(request).await;
    found.unwrap().into_inner()
}

async fn replay(client: &Client, name: &str) -> Result<pb::Delivery, Status> {
    let request = pb::ReplayDeliveryRequest {
        name: name.into(),
        ..Default::default()
    };
    let replayed = client.deliveries().replay_delivery(request).await;
    replayed.map(tonic::Response::into_inner)
}

async fn replay_dead(client: &Client, parent: &str) -> i64 {
    let request = pb::ReplayDeadDeliveriesRequest {
        parent: parent.into(),
    };
    let replayed = client.deliveries().replay_dead_deliveries(request).await;
    replayed.unwrap().into_inner().replayed_count
}

async fn until_in(client: &Client, parent: &str, state: DeliveryState, count: usize) {
    until(&format!("{count} deliveries are {state:?}"), async || {
        deliveries(client, parent, &[state]).await.len() == count
    })
    .await;
}

async fn switch(client: &Client, utility: &Utility) -> offers::Offer {
    let request = utility.switch(utility.first(Case::Plain));
    let made = client.offers().create_offer(request).await;
    made.unwrap().into_inner()
}

async fn accept(client: &Client, name: &str) -> Result<offers::Offer, Status> {
    let request = offers::AcceptOfferRequest {
        name: name.into(),
        source: "web".into(),
        ..Default::default()
    };
    let accepted = client.offers().accept_offer(request).await;
    accepted.map(tonic::Response::into_inner)
}

async fn reject(client: &Client, name: &str) -> offers::Offer {
    let request = offers::RejectOfferRequest {
        name: name.into(),
        source: "phone".into(),
        reason: "bleibt \"lieber\"\nda".into(),
        ..Default::default()
    };
    let rejected = client.offers().reject_offer(request).await;
    rejected.unwrap().into_inner()
}

async fn count(server: &TestServer, table: &str) -> String {
    let sql = format!("SELECT count(*) FROM {table}");
    server.database.one(&sql).await.unwrap()
}

/// Types and subjects of the calls to a path, in the order in which they came.
fn told(receiver: &Receiver, path: &str) -> Vec<(String, String)> {
    let calls = receiver.calls().into_iter().filter(|c| c.path == path);
    calls
        .map(|call| {
            let event = call.event();
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            (text("type"), text("subject"))
        })
        .collect()
}

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
        switch(&client, &utility).await.name,
        switch(&client, &utility).await.name,
        switch(&client, &utility).await.name,
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
    for _ in 0..4 {
        names.push(switch(&client, &utility).await.name);
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
async fn a_slow_receiver_holds_up_nobody_else() {
    let config = QUICK.replace("timeout_seconds = 2", "timeout_seconds = 60\ncalls = 3");
    let server = with_config(&config).await;
    let client = server.client("linden").await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let slow = Receiver::answering(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        Reply {
            status: 200,
            after: Duration::from_secs(55),
            ..Default::default()
        }
    })
    .await;
    let quick = Receiver::start().await;
    let paused = pb::Webhook {
        paused: true,
        ..webhook(slow.url("/"), &[])
    };
    let mut hooks = [
        create(&client, paused).await.unwrap(),
        create(&client, webhook(quick.url("/"), &[])).await.unwrap(),
    ];
    for _ in 0..10 {
        send_test(&client, &hooks[0].name).await;
    }
    hooks[0].paused = false;
    update(&client, hooks[0].clone()).await.unwrap();
    until("the slow one is busy", async || {
        asked.load(Ordering::Relaxed) == 3
    })
    .await;
    for _ in 0..40 {
        send_test(&client, &hooks[1].name).await;
    }
    until_in(&client, &hooks[1].name, DeliveryState::Delivered, 40).await;
    assert_eq!(
        asked.load(Ordering::Relaxed),
        3,
        "no more than three calls at a time"
    );
    assert!(
        deliveries(&client, &hooks[0].name, &[DeliveryState::Delivered])
            .await
            .is_empty()
    );
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

#[tokio::test]
async fn addresses_inside_are_refused() {
    let mut server = server().await;
    let client = server.client("linden").await.unwrap();
    let receiver = Receiver::start().await;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    let by_name = receiver.url("/name").replace("127.0.0.1", "localhost");
    let named = create(&client, webhook(by_name, &[])).await.unwrap();
    // Only what is listed: the rest is as always.
    let status = create(&client, webhook("http://10.0.0.1/".into(), &[]))
        .await
        .unwrap_err();
    refused::names(&status, &["webhook.url"]);

    // The operator takes the permission back: it counts at each delivery, by address and by name.
    let file = server.config_file();
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        config.replace("allow_networks = ['127.0.0.0/8']", ""),
    )
    .unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    for hook in [&hook, &named] {
        let test = send_test(&client, &hook.name).await;
        until_in(&client, &hook.name, DeliveryState::Dead, 1).await;
        let dead = delivery(&client, &test.name).await;
        assert!(dead.detail.contains("the address"), "{dead:?}");
        assert_eq!(dead.response_status, 0);
    }
    assert_eq!(receiver.calls().len(), 0);

    for url in [
        "http://127.0.0.1/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://2130706433/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://[fd00::1]/",
        "http://192.168.1.1:8080/",
        "http://no-such-host.invalid/",
        "ftp://1.1.1.1/",
        "http://user@1.1.1.1/",
        "http://",
        "",
    ] {
        let status = create(&client, webhook(url.into(), &[]))
            .await
            .expect_err(url);
        refused::names(&status, &["webhook.url"]);
        let mut moved = hook.clone();
        moved.url = url.into();
        let status = update(&client, moved).await.expect_err(url);
        refused::names(&status, &["webhook.url"]);
    }
    assert_eq!(count(&server, "webhook").await, "2");
}

/// As it is shipped, http is not enough.
#[tokio::test]
async fn only_https_unless_allowed() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let status = create(&client, webhook("http://1.1.1.1/".into(), &[]))
        .await
        .unwrap_err();
    refused::names(&status, &["webhook.url"]);
    assert!(violations(&status)[0].1.contains("https"));
    assert!(server.log().contains("keys.sealing is empty"));
}

#[tokio::test]
async fn wrong_fields_are_named_together() {
    let server = server().await;
    let client = server.client("linden").await.unwrap();
    let wrong = pb::Webhook {
        name: "webhooks/17".into(),
        display_name: "x\u{7}".repeat(101),
        url: "hook".into(),
        event_types: vec![ACCEPTED.into(), "offer".into(), ACCEPTED.into()],
        ..Default::default()
    };
    let request = pb::CreateWebhookRequest {
        webhook: Some(wrong.clone()),
        request_id: "17".into(),
        ..Default::default()
    };
    let status = client.webhooks().create_webhook(request).await.unwrap_err();
    let fields = [
        "webhook.display_name",
        "webhook.display_name",
        "webhook.url",
        "webhook.event_types[1]",
        "webhook.event_types[2]",
    ];
    refused::names(&status, &[&fields[..], &["request_id"]].concat());
    let status = update(&client, wrong).await.unwrap_err();
    refused::names(&status, &[&fields[..], &["webhook.name"]].concat());
    let status = client
        .webhooks()
        .create_webhook(pb::CreateWebhookRequest::default())
        .await;
    refused::names(&status.unwrap_err(), &["webhook"]);

    let request = pb::RotateWebhookSecretRequest {
        name: "webhooks/x".into(),
        overlap: Some(prost_types::Duration {
            seconds: 7 * 86_400 + 1,
            nanos: 0,
        }),
        request_id: "x".into(),
        ..Default::default()
    };
    let status = client
        .webhooks()
        .rotate_webhook_secret(request)
        .await
        .unwrap_err();
    refused::names(&status, &["name", "overlap", "request_id"]);
    let request = pb::ListDeliveriesRequest {
        parent: "webhooks/-".into(),
        page_size: -1,
        page_token: "x".into(),
        states: vec![1, 9],
        offer: "A-1".into(),
        ..Default::default()
    };
    let status = client
        .deliveries()
        .list_deliveries(request)
        .await
        .unwrap_err();
    refused::names(
        &status,
        &["parent", "page_size", "page_token", "states[1]", "offer"],
    );
    for name in ["", "webhooks/1", "webhooks/1/deliveries/2"] {
        refused::names(&replay(&client, name).await.unwrap_err(), &["name"]);
    }
    let none = format!("webhooks/{}", Uuid::now_v7());
    let mut gone = webhook("http://127.0.0.1/".into(), &[]);
    gone.name = none.clone();
    refused::not_found(&update(&client, gone).await.unwrap_err());
    refused::not_found(&rotate(&client, &none, 0).await.unwrap_err());
}

#[tokio::test]
async fn secrets_rotate_and_are_shown_once() {
    let server = server().await;
    let client = server.client("linden").await.unwrap();
    let receiver = Receiver::start().await;
    let request = pb::CreateWebhookRequest {
        webhook: Some(webhook(receiver.url("/"), &[])),
        request_id: Uuid::now_v7().to_string(),
        ..Default::default()
    };
    let first = client
        .webhooks()
        .create_webhook(request.clone())
        .await
        .unwrap()
        .into_inner();
    let again = client
        .webhooks()
        .create_webhook(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((&again.name, &again.secret[..]), (&first.name, ""));
    assert_eq!(get(&client, &first.name).await.secret, "");
    assert_eq!(count(&server, "webhook").await, "1");

    let signers = async |calls: usize, secrets: &[&str]| {
        send_test(&client, &first.name).await;
        until("a call", async || receiver.calls().len() == calls).await;
        let call = receiver.calls().remove(calls - 1);
        let given = call.header("webhook-signature").split(' ').count();
        let found: Vec<String> = call
            .signed_by(secrets)
            .into_iter()
            .map(str::to_owned)
            .collect();
        assert_eq!(given, found.len(), "nobody else has signed");
        found
    };
    let second = rotate(&client, &first.name, 3_600).await.unwrap();
    assert_ne!(first.secret, second.secret);
    let all = [&first.secret[..], &second.secret];
    assert_eq!(signers(1, &all).await, all);
    let third = rotate(&client, &first.name, 0).await.unwrap();
    let all = [&first.secret[..], &second.secret, &third.secret];
    assert_eq!(signers(2, &all).await, [&third.secret[..]]);
    for _ in 0..4 {
        rotate(&client, &first.name, 3_600).await.unwrap();
    }
    let status = rotate(&client, &first.name, 3_600).await.unwrap_err();
    refused::precondition(&status, "PRECONDITION");

    // Nowhere in the database, neither as text nor as bytes.
    for table in [
        "webhook",
        "webhook_secret",
        "request_log",
        "handover_delivery",
    ] {
        let dump = format!("SELECT string_agg(t::text, '') FROM {table} t");
        let dump = server.database.one(&dump).await.unwrap();
        for secret in all {
            let text = secret.strip_prefix("whsec_").unwrap();
            use base64::Engine;
            let bytes = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
            for form in [text.to_owned(), hex::encode(text), hex::encode(bytes)] {
                assert!(!dump.contains(&form), "{table} shows a secret");
            }
        }
    }
}

/// The operator's key seals what is new, the database's still opens what is old; without its key
/// nothing is lost.
#[tokio::test]
async fn keys_are_changed_without_losing_secrets() {
    let mut server = server().await;
    let client = server.client("linden").await.unwrap();
    let receiver = Receiver::start().await;
    let old = create(&client, webhook(receiver.url("/old"), &[]))
        .await
        .unwrap();
    let file = server.config_file();
    let before = std::fs::read_to_string(&file).unwrap();
    let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    std::fs::write(
        &file,
        format!("{before}\n[keys]\nsealing = ['2026:{key}']\n"),
    )
    .unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    let new = create(&client, webhook(receiver.url("/new"), &[]))
        .await
        .unwrap();
    for hook in [&old, &new] {
        send_test(&client, &hook.name).await;
        until_in(&client, &hook.name, DeliveryState::Delivered, 1).await;
    }
    for call in receiver.calls() {
        let signer = if call.path == "/old" {
            &old.secret
        } else {
            &new.secret
        };
        assert_eq!(call.signed_by(&[&old.secret, &new.secret]), [&signer[..]]);
    }

    std::fs::write(&file, &before).unwrap();
    server.restart().await.unwrap();
    let client = Client::connect(server.addr, "linden").await.unwrap();
    let waits = send_test(&client, &new.name).await;
    until("it cannot be signed", async || {
        delivery(&client, &waits.name).await.detail.contains("2026")
    })
    .await;
    assert_eq!(delivery(&client, &waits.name).await.failure_count, 0);
    assert_eq!(told(&receiver, "/new").len(), 1);
}

#[tokio::test]
async fn a_paused_webhook_gets_its_events_later_and_a_deleted_one_never() {
    let mut server = server().await;
    let (client, utility) = with_utility(&server, FEW).await;
    let receiver = Receiver::start().await;
    let paused = pb::Webhook {
        paused: true,
        ..webhook(receiver.url("/paused"), &[])
    };
    let mut paused = create(&client, paused).await.unwrap();
    assert_eq!(paused.state(), WebhookState::Paused);
    let doomed = pb::Webhook {
        paused: true,
        ..webhook(receiver.url("/doomed"), &[])
    };
    let doomed = create(&client, doomed).await.unwrap();
    let other = create(&client, webhook(receiver.url("/other"), &[]))
        .await
        .unwrap();
    let offer = switch(&client, &utility).await;
    accept(&client, &offer.name).await.unwrap();
    until_in(&client, &other.name, DeliveryState::Delivered, 1).await;
    assert_eq!(receiver.calls().len(), 1);
    let waiting = deliveries(&client, &paused.name, &[DeliveryState::Pending]).await;
    assert_eq!((waiting.len(), waiting[0].attempt_count), (1, 0));

    let delete = pb::DeleteWebhookRequest {
        name: doomed.name.clone(),
        ..Default::default()
    };
    client
        .webhooks()
        .delete_webhook(delete.clone())
        .await
        .unwrap();
    refused::not_found(&client.webhooks().delete_webhook(delete).await.unwrap_err());
    refused::not_found(&rotate(&client, &doomed.name, 0).await.unwrap_err());
    let list = pb::ListDeliveriesRequest {
        parent: doomed.name.clone(),
        ..Default::default()
    };
    refused::not_found(&client.deliveries().list_deliveries(list).await.unwrap_err());
    paused.paused = false;
    assert_eq!(
        update(&client, paused.clone()).await.unwrap().state(),
        WebhookState::Active
    );
    until_in(&client, &paused.name, DeliveryState::Delivered, 1).await;
    let paths: BTreeSet<String> = receiver.calls().into_iter().map(|c| c.path).collect();
    assert_eq!(
        paths,
        BTreeSet::from(["/other".to_owned(), "/paused".to_owned()])
    );

    // By offer.
    let mut list = pb::ListDeliveriesRequest {
        parent: paused.name.clone(),
        offer: offer.name.clone(),
        ..Default::default()
    };
    let found = client
        .deliveries()
        .list_deliveries(list.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.deliveries.len(), 1);
    list.offer = "offers/A-00000099".into();
    let found = client
        .deliveries()
        .list_deliveries(list)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.deliveries, []);

    // A month later it looks for what is over, when it starts.
    let ages = "UPDATE handover_delivery SET ended_at = ended_at - interval '31 days';
         UPDATE handover_event SET occurred_at = occurred_at - interval '31 days';
         UPDATE webhook SET deleted_at = deleted_at - interval '31 days'";
    let database = server.database.connect().await.unwrap();
    database.batch_execute(ages).await.unwrap();
    server.restart().await.unwrap();
    let left = "SELECT concat_ws(' ', (SELECT count(*) FROM handover_delivery),
        (SELECT count(*) FROM handover_event), (SELECT count(*) FROM webhook))";
    until("it is removed", async || {
        server.database.one(left).await.unwrap() == "0 0 2"
    })
    .await;
}
