//! Certificates that are exchanged while the server serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rcgen::{CertificateParams, date_time_ymd};
use tokio::task::JoinSet;
use tokio_rustls::rustls::version::TLS13;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::certificates::{Authority, Mount};
use super::{answers, ask, browser, endpoint, serving, shown};
use crate::prometheus::{metrics_of, scrape};
use crate::utility::until;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_disturbs_no_call() {
    let authority = Authority::new();
    let (first, second) = (authority.sign(), authority.sign());
    let mut mount = Mount::new(&first, "");
    let server = serving(&mount, "").await;
    let addr = server.addr;
    let mut page = browser(addr, &authority, &TLS13).await;
    ask(&mut page).await;

    // Calls over connections that last, and over ones that are made for each call.
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for i in 0..8 {
        let endpoint = endpoint(addr, &authority, None);
        let over = Arc::clone(&over);
        callers.spawn(async move {
            let lasting = endpoint.connect().await.unwrap();
            let mut calls = 0;
            while !over.load(Relaxed) {
                let channel = match i % 2 {
                    0 => lasting.clone(),
                    _ => endpoint.connect().await.unwrap(),
                };
                let request = HealthCheckRequest::default();
                HealthClient::new(channel).check(request).await.unwrap();
                calls += 1;
            }
            calls
        });
    }
    assert_eq!(shown(addr, &authority).await, first.der);
    mount.swap(&second.certificate, &second.key, "");
    until("new connections see the new certificate", async || {
        shown(addr, &authority).await == second.der
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    over.store(true, Relaxed);
    for calls in callers.join_all().await {
        assert!(calls > 10, "{calls} calls of one caller");
    }
    // The connection from before is there still.
    let answer = ask(&mut page).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn files_that_do_not_fit_change_nothing() {
    const KEPT: &str = "TLS goes on with the files as they were before";
    let authority = Authority::new();
    let (first, second) = (authority.sign(), authority.sign());
    let mut mount = Mount::new(&first, "");
    let server = serving(&mount, "").await;
    for (certificate, why) in [
        (
            &second.certificate[..],
            "is not the key of server.tls.certificate",
        ),
        ("", "has no certificate in PEM"),
    ] {
        mount.swap(certificate, &first.key, "");
        until(why, async || server.log().contains(why)).await;
        assert_eq!(shown(server.addr, &authority).await, first.der);
    }
    // Each is told once, however often the server looks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.log().matches(KEPT).count(), 2, "{}", server.log());

    mount.swap(&second.certificate, &second.key, "");
    until("new connections see the new certificate", async || {
        shown(server.addr, &authority).await == second.der
    })
    .await;
}

#[tokio::test]
async fn authorities_of_callers_are_exchanged_as_well() {
    let (authority, before, after) = (Authority::new(), Authority::new(), Authority::new());
    let signed = authority.sign();
    let mut mount = Mount::new(&signed, &before.pem);
    let more = format!(
        "client_ca = '{}'\nrequire_client_certificate = true",
        mount.file("ca.crt").display()
    );
    let server = serving(&mount, &more).await;
    let (old, new) = (before.sign(), after.sign());
    let old = || answers(endpoint(server.addr, &authority, Some(&old)));
    let new = || answers(endpoint(server.addr, &authority, Some(&new)));
    assert!(old().await && !new().await);
    mount.swap(&signed.certificate, &signed.key, &after.pem);
    until("callers of the new authority are let in", async || {
        new().await
    })
    .await;
    assert!(!old().await);
}

#[tokio::test]
async fn when_the_certificate_runs_out_is_told() {
    const WARNED: &str = "server.tls.certificate has run out";
    let authority = Authority::new();
    let until_year = |year| {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        authority.sign_as(params)
    };
    let (over, good) = (until_year(2020), until_year(2090));
    let mut mount = Mount::new(&over, "");
    let more = "[telemetry]\nprometheus_listen = '127.0.0.1:0'\n[log]\nformat = 'json'";
    let server = serving(&mount, more).await;
    assert!(server.log().contains(WARNED), "{}", server.log());
    let metrics = metrics_of(&server);
    let expires = async || {
        let name = "anklang_tls_certificate_expires_seconds";
        scrape(metrics).await.value(name, &[])
    };
    assert_eq!(expires().await, Some(1_577_836_800.0));
    mount.swap(&good.certificate, &good.key, "");
    until("the new date", async || {
        expires().await == Some(3_786_912_000.0)
    })
    .await;
    let log = server.log();
    assert_eq!(log.matches(WARNED).count(), 1, "{log}");
}
