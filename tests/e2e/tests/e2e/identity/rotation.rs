//! Keys of an issuer that change, and an issuer that does not answer.

use std::time::{Duration, Instant};

use anklang_testkit::receiver::Reply;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::issuer::Issuer;
use super::keys::Key;
use super::{guarded, knows, list, new_token, nobody};
use crate::prometheus::{metrics_of, scrape};
use crate::raw::Raw;
use crate::refused;
use crate::utility::until;

/// So often an issuer is asked at most because of keys that nobody knows.
const PAUSE: u64 = 10;

/// Checks that nobody can say now whether the token is good, and says when to try again.
#[track_caller]
fn later(status: &Status) -> Duration {
    refused::is(status, Code::Unavailable, "UNAVAILABLE");
    let details = status.get_error_details();
    let told = details.retry_info().and_then(|info| info.retry_delay);
    told.unwrap_or_else(|| panic!("{status:?}"))
}

/// Calls with these tokens at the same time.
async fn together(raw: &Raw, tokens: Vec<String>) -> Vec<Result<Vec<String>, Status>> {
    let mut calls = JoinSet::new();
    for token in tokens {
        let caller = raw.bearing(&token);
        calls.spawn(async move { list(&caller, Some("linden")).await });
    }
    calls.join_all().await
}

#[tokio::test]
async fn keys_that_nobody_knows_are_asked_for_once() {
    let key = Key::ed25519("known");
    let issuer = Issuer::publishing(&[&key]).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    let claims = issuer.claims(&["auditor"]);
    list(&raw.bearing(&key.sign(&claims)), None).await.unwrap();
    let (before, since) = (issuer.asked_for_keys(), Instant::now());
    let mut told = 0;
    for round in 0..3 {
        // Each has another name.
        let sign = |i: usize| Key::ed25519(&format!("unknown-{round}-{i}")).sign(&claims);
        for refused in together(&raw, (0..20).map(sign).collect()).await {
            let status = refused.unwrap_err();
            // Who came before the issuer was asked is told; the others when it is asked again.
            if status.code() == Code::Unauthenticated {
                nobody(&status, "");
                told += 1;
            } else {
                assert!(later(&status) <= Duration::from_secs(PAUSE));
            }
        }
    }
    assert!(told > 0);
    let asked = issuer.asked_for_keys() - before;
    let most = 1 + usize::try_from(since.elapsed().as_secs() / PAUSE).unwrap();
    assert!((1..=most).contains(&asked), "{asked} times");
    // Nor are those kept waiting whose keys are known.
    list(&raw.bearing(&key.sign(&claims)), None).await.unwrap();
}

#[tokio::test]
async fn keys_change_while_calls_run() {
    let (old, new) = (Key::ed25519("2026"), Key::p256("2027"));
    let issuer = Issuer::publishing(&[&old]).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    let claims = issuer.claims(&["auditor"]);
    let (before, after) = (old.sign(&claims), new.sign(&claims));
    for result in together(&raw, vec![before.clone(); 20]).await {
        assert_eq!(result.unwrap(), ["linden"]);
    }
    assert_eq!(issuer.asked_for_keys(), 1);
    // From one moment on tokens are signed with the new one, and the old ones run on.
    issuer.publishes(&[&new, &old]);
    let mixed = [vec![before; 20], vec![after; 20]].concat();
    for result in together(&raw, mixed).await {
        assert_eq!(result.unwrap(), ["linden"]);
    }
    assert_eq!(issuer.asked_for_keys(), 2, "once for all of them");
}

#[tokio::test]
async fn a_stranger_does_not_make_a_new_key_a_wrong_one() {
    let (old, new) = (Key::ed25519("2026"), Key::p256("2027"));
    let issuer = Issuer::publishing(&[&old]).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    let claims = issuer.claims(&["auditor"]);
    let stranger = raw.bearing(&Key::ed25519("nobody's").sign(&claims));
    nobody(&list(&stranger, None).await.unwrap_err(), "");
    let asked = issuer.asked_for_keys();

    issuer.publishes(&[&old, &new]);
    let caller = raw.bearing(&new.sign(&claims));
    let wait = later(&list(&caller, None).await.unwrap_err());
    assert!(wait <= Duration::from_secs(PAUSE), "{wait:?}");
    assert_eq!(issuer.asked_for_keys(), asked, "not again so soon");
    tokio::time::sleep(wait).await;
    assert_eq!(list(&caller, None).await.unwrap(), ["linden"]);
    assert_eq!(issuer.asked_for_keys(), asked + 1);
}

#[tokio::test]
async fn a_stranger_who_makes_up_keys_seems_no_fault_of_the_servers() {
    let key = Key::ed25519("2026");
    let issuer = Issuer::publishing(&[&key]).await;
    let scraped = "[telemetry]\nprometheus_listen = '127.0.0.1:0'\n[log]\nformat = 'json'\n";
    let (server, raw) = guarded("", &(issuer.trusted("idp", "") + scraped)).await;
    let claims = issuer.claims(&["auditor"]);
    // The first has the issuer asked; the second comes before it is asked again.
    for (name, code) in [("a", Code::Unauthenticated), ("b", Code::Unavailable)] {
        let stranger = raw.bearing(&Key::ed25519(name).sign(&claims));
        assert_eq!(list(&stranger, None).await.unwrap_err().code(), code);
    }
    let metrics = metrics_of(&server);
    let calls = async |status: &str| {
        let labels = [
            ("rpc_method", "ListBrands"),
            ("rpc_grpc_status_code", status),
        ];
        let found = scrape(metrics).await;
        found.value("rpc_server_duration_milliseconds_count", &labels)
    };
    until("both are measured", async || calls("16").await == Some(2.0)).await;
    assert_eq!(calls("14").await, None);
}

#[tokio::test]
async fn who_hangs_up_does_not_keep_others_from_new_keys() {
    let (old, new) = (Key::ed25519("2026"), Key::ed25519("2027"));
    let issuer = Issuer::publishing(&[&old]).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    let claims = issuer.claims(&["auditor"]);
    list(&raw.bearing(&old.sign(&claims)), None).await.unwrap();
    issuer.publishes_after(Duration::from_millis(700), &[&old, &new]);
    let asked = issuer.asked_where();
    let caller = raw.bearing(&new.sign(&claims));
    let hasty = tokio::time::timeout(Duration::from_millis(300), list(&caller, None)).await;
    assert!(hasty.is_err(), "{hasty:?}");
    assert_eq!(issuer.asked_where(), asked + 1);
    list(&caller, None).await.unwrap();
}

#[tokio::test]
async fn keys_that_are_withdrawn_sign_no_more() {
    let (old, new) = (Key::ed25519("2026"), Key::p256("2027"));
    let issuer = Issuer::publishing(&[&old, &new]).await;
    let trusted = issuer.trusted("idp", "refresh_seconds = 1");
    let (_server, raw) = guarded("", &trusted).await;
    let claims = issuer.claims(&["auditor"]);
    let [old_one, new_one] = [&old, &new].map(|key| raw.bearing(&key.sign(&claims)));
    for caller in [&old_one, &new_one] {
        list(caller, None).await.unwrap();
    }
    issuer.publishes(&[&new]);
    until("the old key counts no more", async || {
        let Err(status) = list(&old_one, None).await else {
            return false;
        };
        nobody(&status, "");
        true
    })
    .await;
    list(&new_one, None).await.unwrap();

    // Another key under the name of one that was known.
    let same = Key::p256("2027");
    issuer.publishes(&[&same]);
    until("the new key counts no more", async || {
        list(&new_one, None).await.is_err()
    })
    .await;
    nobody(&list(&new_one, None).await.unwrap_err(), "");
    list(&raw.bearing(&same.sign(&claims)), None).await.unwrap();
}

/// What an issuer should not answer. `good` would do for all that it is asked.
fn broken(good: &Value) -> Vec<(&'static str, Reply)> {
    let mut large = good.clone();
    large["padding"] = json!("x".repeat(2 << 20));
    let says = |body: String| Reply {
        status: 200,
        body: body.into_bytes(),
        ..Default::default()
    };
    let moved = Reply {
        status: 302,
        headers: vec![("location", good["jwks_uri"].as_str().unwrap().to_owned())],
        body: good.to_string().into_bytes(),
        ..Default::default()
    };
    let mut without_keys = good.clone();
    without_keys["keys"] = json!([]);
    vec![
        ("away", 503.into()),
        ("not found", 404.into()),
        ("somewhere else", moved),
        ("a page", says("<html>Anmeldung</html>".into())),
        ("nothing", says(String::new())),
        ("too much", says(large.to_string())),
        ("no keys", says(without_keys.to_string())),
    ]
}

#[tokio::test]
async fn an_issuer_that_is_down_is_waited_for() {
    let key = Key::ed25519("k");
    let issuer = Issuer::answering(503.into()).await;
    // Nobody listens there, and nobody else can.
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = format!("http://{}", port.local_addr().unwrap());
    let known = new_token();
    let trusts = [
        issuer.trusted("idp", ""),
        format!("[auth.issuers.gone]\nissuer = \"{gone}\"\naudience = \"anklang\"\n"),
        knows("erp", &known, &["linden"], &["auditor"]),
    ];
    // It starts all the same.
    let (_server, raw) = guarded("", &trusts.concat()).await;
    let mut claims = issuer.claims(&["auditor"]);
    let caller = raw.bearing(&key.sign(&claims));
    let good = json!({
        "issuer": issuer.url(), "jwks_uri": issuer.keys_url(), "keys": [key.jwk],
    });
    for (what, reply) in broken(&good) {
        issuer.answers(reply);
        let asked = issuer.asked_where();
        until(&format!("it is asked, and says: {what}"), async || {
            let refused = list(&caller, None).await;
            later(&refused.expect_err(what));
            issuer.asked_where() > asked
        })
        .await;
        later(&list(&caller, None).await.expect_err(what));
    }

    // One that does not come to an end holds up those alone who ask for its word.
    issuer.answers(Reply {
        after: Duration::from_secs(120),
        ..Reply::from(200)
    });
    let asked = issuer.asked_where();
    let begun = Instant::now();
    until("it is asked, and says nothing", async || {
        let (refused, taken) = tokio::join!(list(&caller, None), async {
            let begun = Instant::now();
            let listed = list(&raw.bearing(&known), None).await.unwrap();
            (listed, begun.elapsed())
        });
        later(&refused.unwrap_err());
        assert_eq!(taken.0, ["linden"]);
        assert!(taken.1 < Duration::from_secs(4), "{:?}", taken.1);
        issuer.asked_where() > asked
    })
    .await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");

    claims["iss"] = json!(gone);
    let nowhere = raw.bearing(&key.sign(&claims));
    later(&list(&nowhere, None).await.unwrap_err());

    issuer.publishes(&[&key]);
    until("it is back", async || list(&caller, None).await.is_ok()).await;
    assert_eq!(list(&caller, None).await.unwrap(), ["linden"]);
}

#[tokio::test]
async fn keys_that_are_known_stay_good_while_their_issuer_is_down() {
    let (key, new) = (Key::ed25519("2026"), Key::ed25519("2027"));
    let issuer = Issuer::publishing(&[&key]).await;
    let trusted = issuer.trusted("idp", "refresh_seconds = 1");
    let (_server, raw) = guarded("", &trusted).await;
    let claims = issuer.claims(&["auditor"]);
    let caller = raw.bearing(&key.sign(&claims));
    list(&caller, None).await.unwrap();
    for reply in [Reply::from(503), Reply::from(200)] {
        issuer.answers(reply);
        let asked = issuer.asked_where();
        until("it was asked again", async || {
            issuer.asked_where() > asked + 1
        })
        .await;
        assert_eq!(list(&caller, None).await.unwrap(), ["linden"]);
    }
    // Of keys that are new nobody can tell.
    let newer = raw.bearing(&new.sign(&claims));
    later(&list(&newer, None).await.unwrap_err());
    issuer.publishes(&[&new, &key]);
    until("it is back", async || list(&newer, None).await.is_ok()).await;
    assert_eq!(list(&caller, None).await.unwrap(), ["linden"]);
}

#[tokio::test]
async fn keys_are_looked_for_where_the_issuer_or_the_settings_say() {
    let key = Key::ed25519("k");
    let (found, told) = (
        Issuer::publishing(&[&key]).await,
        Issuer::publishing(&[&key]).await,
    );
    let somebody = Issuer::publishing(&[&key]).await;
    somebody.calls_itself(&found.url(), &[&key]);
    let trusts = [
        found.trusted("found", ""),
        told.trusted("told", &format!("jwks_url = \"{}\"", told.keys_url())),
        somebody.trusted("somebody", ""),
    ];
    let (_server, raw) = guarded("", &trusts.concat()).await;
    let call = async |issuer: &Issuer| {
        let token = key.sign(&issuer.claims(&["auditor"]));
        list(&raw.bearing(&token), Some("linden")).await
    };
    assert_eq!(call(&found).await.unwrap(), ["linden"]);
    assert_eq!(call(&told).await.unwrap(), ["linden"]);
    assert_eq!((found.asked_where(), told.asked_where()), (1, 0));
    // Who says to be another one is not believed.
    later(&call(&somebody).await.unwrap_err());
    assert!(somebody.asked_where() > 0);
    assert_eq!(somebody.asked_for_keys(), 0);
}

#[tokio::test]
async fn metrics_tell_how_old_keys_are() {
    let key = Key::ed25519("k");
    let issuer = Issuer::publishing(&[&key]).await;
    let away = Issuer::answering(503.into()).await;
    let trusts = [
        issuer.trusted("idp", "refresh_seconds = 1"),
        away.trusted("away", "refresh_seconds = 1"),
        "[telemetry]\nprometheus_listen = '127.0.0.1:0'\n[log]\nformat = 'json'\n".to_owned(),
    ];
    let (server, _) = guarded("", &trusts.concat()).await;
    let metrics = metrics_of(&server);
    let age = async |issuer: &str| {
        let labels = [("issuer", issuer)];
        let found = scrape(metrics).await;
        found
            .value("anklang_issuer_keys_age_seconds", &labels)
            .unwrap()
    };
    until("keys that never came grow old", async || {
        age("away").await > 3.0
    })
    .await;
    until("those that come stay young", async || {
        age("idp").await < 2.0
    })
    .await;
    issuer.answers(503.into());
    until("they grow old", async || age("idp").await > 3.0).await;
    issuer.publishes(&[&key]);
    until("they are new again", async || age("idp").await < 2.0).await;
    assert!(age("away").await > 3.0);
}
