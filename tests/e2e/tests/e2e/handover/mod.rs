//! Hand-over: what a receiver of webhooks gets, how often and in which order, and what a tenant
//! sees of it.

mod deliveries;
mod places;
mod webhooks;

use anklang_proto::anklang::handover::v1 as pb;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, Options, TestServer};
use pb::{DeliveryState, WebhookState};
use tonic::Status;

use crate::receiver::Receiver;
use crate::utility::{Case, Utility, until};

const ACCEPTED: &str = "anklang.offer.accepted.v1";
const REJECTED: &str = "anklang.offer.rejected.v1";
const EXPIRED: &str = "anklang.offer.expired.v1";
const WITHDRAWN: &str = "anklang.offer.withdrawn.v1";
const TEST: &str = "anklang.webhook.test.v1";

/// Loopback is allowed, and giving up takes little time.
pub const QUICK: &str = "[handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
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
    switch_nth(client, utility, 0).await
}

/// An offer for the contract at that place.
async fn switch_nth(client: &Client, utility: &Utility, place: usize) -> offers::Offer {
    let mut plain = utility.contracts.iter().filter(|c| c.case == Case::Plain);
    let request = utility.switch(plain.nth(place).unwrap());
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
