//! Streams, which do not outlive their tokens; `certificates.rs` has those of certificates.

use std::time::Duration;

use anklang_proto::anklang::imports::v1::import_request::Part;
use anklang_proto::anklang::imports::v1::{ImportEntity, ImportHeader, ImportRequest};
use anklang_proto::anklang::planning::v1 as planning;
use anklang_testkit::{Client, TestServer};
use chrono::{SubsecRound, TimeDelta, Utc};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use super::issuer::Issuer;
use super::keys::Key;
use super::reloaded::File;
use super::{guarded, knows, list, new_token, nobody};
use crate::utility::until;

/// A stream that never ends of itself, and the connection that it is on.
pub struct Watched {
    stream: Streaming<planning::WatchWorkListResponse>,
    _client: Client,
}

/// Opens one, and reads its beginning.
async fn watch(server: &TestServer, token: &str) -> Watched {
    let client = Client::connect_as(server.addr, Some("linden"), Some(token));
    watch_as(client.await.unwrap()).await
}

/// The same over a connection that is there.
pub async fn watch_as(client: Client) -> Watched {
    let request = planning::WatchWorkListRequest::default();
    let stream = client.work_list().watch_work_list(request).await.unwrap();
    let mut stream = stream.into_inner();
    stream.message().await.unwrap().unwrap();
    Watched {
        stream,
        _client: client,
    }
}

/// Whether it has said nothing but good for a while.
pub async fn goes_on(watched: &mut Watched) {
    let until = Instant::now() + Duration::from_secs(2);
    while let Ok(said) = tokio::time::timeout_at(until, watched.stream.message()).await {
        said.unwrap().unwrap();
    }
}

/// Reads on to the end, which is no good one.
pub async fn end(watched: &mut Watched) -> Status {
    let end = timeout(Duration::from_secs(60), async {
        loop {
            match watched.stream.message().await {
                Ok(said) => said.expect("it has no good end"),
                Err(status) => return status,
            };
        }
    });
    end.await.expect("it ends")
}

/// The same, and the token or certificate is to blame for it.
pub async fn ends(watched: &mut Watched, why: &str) {
    let status = end(watched).await;
    nobody(&status, "");
    assert!(status.message().contains(why), "{status:?}");
}

#[tokio::test]
async fn a_stream_ends_when_its_jwt_expires() {
    let key = Key::ed25519("k");
    let issuer = Issuer::publishing(&[&key]).await;
    let (server, _) = guarded("", &issuer.trusted("idp", "leeway_seconds = 1")).await;
    let signed = |seconds: i64| {
        let mut claims = issuer.claims(&["auditor"]);
        let expires = Utc::now().timestamp() + seconds;
        claims["exp"] = json!(expires);
        (key.sign(&claims), expires)
    };
    let (short, expires) = signed(4);
    let mut ending = watch(&server, &short).await;
    let mut lasting = watch(&server, &signed(3_600).0).await;
    ends(&mut ending, "has expired").await;
    // Not before its time, the difference of clocks included.
    assert!(Utc::now().timestamp() > expires);
    goes_on(&mut lasting).await;
}

#[tokio::test]
async fn a_stream_ends_when_the_key_that_signed_its_jwt_is_withdrawn() {
    let (stolen, kept) = (Key::ed25519("2026"), Key::p256("2027"));
    let issuer = Issuer::publishing(&[&stolen, &kept]).await;
    let (server, _) = guarded("", &issuer.trusted("idp", "refresh_seconds = 1")).await;
    // They would not expire for an hour.
    let claims = issuer.claims(&["auditor"]);
    let mut forged = watch(&server, &stolen.sign(&claims)).await;
    let mut lasting = watch(&server, &kept.sign(&claims)).await;
    // Neither an issuer that is away nor keys that are published again withdraw one.
    let asked = issuer.asked_where();
    issuer.answers(503.into());
    until("it is away", async || issuer.asked_where() > asked + 1).await;
    let asked = issuer.asked_for_keys();
    issuer.publishes(&[&kept, &stolen]);
    until("it is back", async || issuer.asked_for_keys() > asked + 1).await;
    goes_on(&mut forged).await;
    issuer.publishes(&[&kept]);
    ends(&mut forged, "a key that its issuer does not have any more").await;
    goes_on(&mut lasting).await;
    // Another key under its name.
    issuer.publishes(&[&Key::p256("2027")]);
    ends(&mut lasting, "a key that its issuer does not have any more").await;
}

#[tokio::test]
async fn a_stream_ends_when_its_static_token_expires() {
    let (short, long) = (new_token(), new_token());
    let lasting = knows("long", &long, &["linden"], &["auditor"]);
    let file = File::new(&lasting);
    let (server, raw) = guarded(&file.followed(), "").await;
    // It lives from when the server is there.
    let at = (Utc::now() + TimeDelta::seconds(10)).trunc_subsecs(0);
    file.put(&format!(
        "{}expires = '{}'\n{lasting}",
        knows("short", &short, &["linden"], &["auditor"]),
        at.to_rfc3339(),
    ));
    let caller = raw.bearing(&short);
    until("the token is known", async || {
        list(&caller, None).await.is_ok()
    })
    .await;
    let (mut ending, mut lasting) = (watch(&server, &short).await, watch(&server, &long).await);
    ends(&mut ending, "has expired").await;
    assert!(Utc::now() >= at);
    goes_on(&mut lasting).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_taken_out_or_changed() {
    let (lost, less, kept) = (new_token(), new_token(), new_token());
    let of_kept = knows("kept", &kept, &["linden"], &["auditor"]);
    let of_less = |role: &str| knows("less", &less, &["linden"], &[role]);
    let of_lost = knows("lost", &lost, &["linden"], &["auditor"]);
    let file = File::new(&[&of_kept[..], &of_less("central"), &of_lost].concat());
    let (server, _) = guarded(&file.followed(), "").await;
    let mut kept_one = watch(&server, &kept).await;
    let mut less_one = watch(&server, &less).await;
    let mut lost_one = watch(&server, &lost).await;
    goes_on(&mut lost_one).await;
    file.put(&[&of_kept[..], &of_less("auditor")].concat());
    ends(&mut lost_one, "taken out or changed").await;
    ends(&mut less_one, "taken out or changed").await;
    goes_on(&mut kept_one).await;
    // With what it may do now, it may begin again.
    goes_on(&mut watch(&server, &less).await).await;
}

#[tokio::test]
async fn an_import_ends_with_its_token_and_what_was_told_stays() {
    const CSV: &str = "channel,address\nmail,a@b.de\n";
    let token = new_token();
    let file = File::new(&knows("erp", &token, &["linden"], &["service"]));
    let (server, _) = guarded(&file.followed(), "").await;
    let client = Client::connect_as(server.addr, Some("linden"), Some(&token));
    let client = client.await.unwrap();
    let (requests, mut receiver) = tokio::sync::mpsc::channel(8);
    let header = ImportHeader {
        entity: ImportEntity::Suppressions.into(),
        ..Default::default()
    };
    for part in [Part::Header(header), Part::Csv(CSV.into())] {
        let request = ImportRequest { part: Some(part) };
        requests.send(request).await.unwrap();
    }
    let stream = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    let responses = client.imports().import(stream).await.unwrap();
    let mut responses = responses.into_inner();
    let told = responses.message().await.unwrap().unwrap();
    assert_eq!((told.created, told.done), (1, false));
    file.put("");
    let status = loop {
        match responses.message().await {
            Ok(told) => assert!(!told.expect("it has no good end").done),
            Err(status) => break status,
        }
    };
    nobody(&status, "");
    let own = server.client("linden").await.unwrap();
    let again = own.import(ImportEntity::Suppressions, CSV).await.unwrap();
    assert_eq!((again.created, again.unchanged), (0, 1));
}
