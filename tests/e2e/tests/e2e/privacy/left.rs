//! What is left when a person is erased: statements, print files, events.

use anklang_proto::anklang::documents::v1 as documents;
use anklang_proto::anklang::reach::v1 as reach;
use anklang_testkit::{Client, TestServer};
use serde_json::json;
use tonic::Code;

use super::marked::{CUSTOMER, MARK, Marked};
use crate::mailing::{TENANT, until};
use crate::raw::Raw;

/// A campaign's statement.
pub async fn reach(client: &Client, campaign: &str) -> reach::ReachFigures {
    let request = reach::GetReachRequest {
        campaign: campaign.into(),
    };
    let told = client.reach().get_reach(request).await.unwrap();
    told.into_inner().total.unwrap()
}

/// As documented at `ReachFigures`.
pub fn adds_up(figures: &reach::ReachFigures) {
    let excluded: i64 = figures.excluded.iter().map(|e| e.count).sum();
    assert_eq!(
        figures.candidates,
        excluded + figures.members,
        "{figures:?}"
    );
    let messages: i64 = figures.messages.iter().map(|m| m.count).sum();
    assert_eq!(
        figures.members,
        messages + figures.without_message,
        "{figures:?}"
    );
}

/// The print file was made anew without the letter, the index as well.
pub async fn printed(marked: &Marked) {
    let client = &marked.probe.client;
    let request = documents::GetBundleRequest {
        name: marked.bundle.name.clone(),
    };
    let bundle = client.documents().get_bundle(request).await.unwrap();
    let bundle = bundle.into_inner();
    assert_eq!((marked.bundle.letters, bundle.letters), (4, 3));
    assert_eq!(bundle.state(), documents::BundleState::Ready);
    let (before, after) = (&marked.bundle.print_files[0], &bundle.print_files[0]);
    assert_ne!(before.sha256, after.sha256);
    assert_eq!(after.letters, 3);
    // What is recorded is what lies there.
    crate::documents::download(client, &after.name).await;
    let index = bundle.index.unwrap();
    assert_eq!(index.letters, 3);
    let csv = crate::documents::download(client, &index.name).await;
    let csv = String::from_utf8(csv).unwrap();
    assert_eq!(csv.lines().count(), 4);
    assert!(!csv.contains(CUSTOMER), "{csv}");
}

/// The tenant's systems are told the number, and nothing else.
pub async fn told_to_webhooks(marked: &Marked) {
    let erased = || {
        let calls = marked.receiver.calls().into_iter();
        let mut events = calls.map(|call| call.event());
        events.find(|event| event["type"] == "anklang.customer.erased.v1")
    };
    until("the event", async || erased().is_some()).await;
    let event = erased().unwrap();
    assert_eq!(event["subject"], CUSTOMER);
    let data = event["data"].as_object().unwrap();
    let members: Vec<&str> = data.keys().map(|key| &key[..]).collect();
    assert_eq!(members, ["customer", "event_time"]);
    assert_eq!(data["customer"], "0000");
    // Before they were told more.
    let calls = marked.receiver.calls();
    assert!(calls.iter().any(|call| call.body.contains(MARK)));
}

pub fn is_not_logged(server: &TestServer) {
    let log = server.log();
    assert!(!log.is_empty());
    let found: Vec<&str> = log.lines().filter(|line| line.contains(MARK)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Nobody makes an offer or a call any more.
pub async fn cannot_be_contacted(server: &TestServer) {
    let raw = Raw::connect(server.addr).await;
    let contact = json!({"customer": CUSTOMER, "contactTime": chrono::Utc::now().to_rfc3339()});
    let offer = json!({
        "contract": "contracts/V0000", "productVersion": "products/P/versions/NEW",
        "validUntilDate": {"year": 2027, "month": 6, "day": 1},
    });
    for (method, request, code) in [
        (
            "anklang.planning.v1.WorkListService/CreatePlannedContact",
            json!({"plannedContact": contact}),
            Code::InvalidArgument,
        ),
        (
            "anklang.offers.v1.OfferService/CreateOffer",
            offer,
            Code::NotFound,
        ),
    ] {
        let status = raw.call(Some(TENANT), method, &request).await;
        let status = status.expect_err(method);
        assert_eq!(status.code(), code, "{method}: {status:?}");
    }
}
