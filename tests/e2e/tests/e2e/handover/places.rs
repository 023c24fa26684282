//! Who gets in whose way: slow and failing receivers, and the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::receiver::Reply;

#[tokio::test]
async fn a_slow_receiver_holds_up_nobody_else() {
    let config = QUICK.replace("timeout_seconds = 2", "timeout_seconds = 600\ncalls = 3");
    let server = with_config(&config).await;
    let client = server.client("linden").await.unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let slow = Receiver::answering(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        Reply {
            status: 200,
            after: Duration::from_secs(590),
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

/// A receiver that takes so long that nothing of it is over while a test lasts; counts what it was
/// asked.
async fn stuck() -> (Receiver, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&asked);
    let receiver = Receiver::answering(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        Reply {
            status: 200,
            after: Duration::from_secs(590),
            ..Default::default()
        }
    })
    .await;
    (receiver, asked)
}

/// Few places, and calls that take their time.
fn narrow() -> String {
    QUICK.replace("timeout_seconds = 2", "timeout_seconds = 600\nwebhooks = 8")
}

#[tokio::test]
async fn a_tenant_whose_receivers_do_not_answer_leaves_places_to_others() {
    let server = with_config(&narrow()).await;
    let client = server.client("linden").await.unwrap();
    let (receiver, asked) = stuck().await;
    for _ in 0..10 {
        let hook = create(&client, webhook(receiver.url("/"), &[]));
        send_test(&client, &hook.await.unwrap().name).await;
    }
    until("its share is busy", async || {
        asked.load(Ordering::Relaxed) == 2
    })
    .await;
    let other = server.client("nord").await.unwrap();
    let quick = Receiver::start().await;
    let hook = create(&other, webhook(quick.url("/"), &[])).await.unwrap();
    for _ in 0..20 {
        send_test(&other, &hook.name).await;
    }
    until_in(&other, &hook.name, DeliveryState::Delivered, 20).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2, "a fourth of the places");
}

#[tokio::test]
async fn webhooks_that_fail_leave_places_to_those_that_do_not() {
    const FAILING: usize = 6;
    let server = with_config(&narrow()).await;
    let (receiver, asked) = stuck().await;
    // Each of another tenant, and refused before it is left without an answer.
    let refusing = Receiver::answering(|_| 500.into()).await;
    for tenant in 0..FAILING {
        let client = server.client(&format!("tenant-{tenant}")).await.unwrap();
        let hook = create(&client, webhook(refusing.url("/"), &[])).await;
        let mut hook = hook.unwrap();
        send_test(&client, &hook.name).await;
        until_in(&client, &hook.name, DeliveryState::Dead, 1).await;
        hook.paused = true;
        update(&client, hook.clone()).await.unwrap();
        replay_dead(&client, &hook.name).await;
    }
    let moved = format!(
        "UPDATE webhook SET paused = false, url = '{}'",
        receiver.url("/")
    );
    let database = server.database.connect().await.unwrap();
    database.batch_execute(&moved).await.unwrap();
    until("their share is busy", async || {
        asked.load(Ordering::Relaxed) == 2
    })
    .await;
    let client = server.client("nord").await.unwrap();
    let quick = Receiver::start().await;
    let hook = create(&client, webhook(quick.url("/"), &[])).await.unwrap();
    for _ in 0..20 {
        send_test(&client, &hook.name).await;
    }
    until_in(&client, &hook.name, DeliveryState::Delivered, 20).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2, "a fourth of the places");
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other_event() {
    let server = with_config(&narrow().replace("webhooks", "calls = 2\nwebhooks")).await;
    let client = server.client("linden").await.unwrap();
    let mut calls = 0;
    let receiver = Receiver::answering(move |_| {
        calls += 1;
        Reply {
            status: 200,
            after: Duration::from_secs(if calls == 1 { 590 } else { 0 }),
            ..Default::default()
        }
    })
    .await;
    let hook = create(&client, webhook(receiver.url("/"), &[]))
        .await
        .unwrap();
    // Those that are due together, and those that come meanwhile.
    for delivered in [20, 30] {
        while deliveries(&client, &hook.name, &[]).await.len() <= delivered {
            send_test(&client, &hook.name).await;
        }
        until_in(&client, &hook.name, DeliveryState::Delivered, delivered).await;
    }
    until_in(&client, &hook.name, DeliveryState::Delivering, 1).await;
}
