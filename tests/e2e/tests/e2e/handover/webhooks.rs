//! Webhooks themselves: where they may lead, their secrets, pausing and deleting them.

use std::collections::BTreeSet;

use anklang_testkit::violations;
use uuid::Uuid;

use super::*;
use crate::refused;
use crate::utility::{FEW, with_utility};

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
    let unknown = format!(
        "INSERT INTO webhook (tenant_id, id, display_name, url)
         SELECT tenant_id, '{}', 'Gone', 'http://no-such-host.invalid/' FROM webhook LIMIT 1",
        Uuid::nil()
    );
    let database = server.database.connect().await.unwrap();
    database.batch_execute(&unknown).await.unwrap();
    let unknown = get(&client, &format!("webhooks/{}", Uuid::nil())).await;
    rotate(&client, &unknown.name, 0).await.unwrap();
    let mut details = Vec::new();
    for hook in [&hook, &named, &unknown] {
        let test = send_test(&client, &hook.name).await;
        until_in(&client, &hook.name, DeliveryState::Dead, 1).await;
        let dead = delivery(&client, &test.name).await;
        assert_eq!(dead.response_status, 0);
        details.push(dead.detail);
    }
    assert!(details[0].contains("this machine"), "{details:?}");
    // A name inside looks like one that is nowhere: else tenants could ask for names inside.
    assert_eq!(details[1], details[2]);
    let mut told = BTreeSet::new();
    for url in ["http://localhost/", "http://no-such-host.invalid/"] {
        let status = create(&client, webhook(url.into(), &[])).await.unwrap_err();
        told.insert(violations(&status));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(receiver.calls().len(), 0);
    // One whose host is gone can still be paused.
    let request = pb::UpdateWebhookRequest {
        webhook: Some(pb::Webhook {
            name: unknown.name.clone(),
            paused: true,
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["paused".into()],
        }),
        ..Default::default()
    };
    let paused = client.webhooks().update_webhook(request).await.unwrap();
    assert!(paused.into_inner().paused);

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
    assert_eq!(count(&server, "webhook").await, "3");
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
