//! Issuers whose certificates are signed by an authority of one's own.

use anklang_testkit::{Options, TestServer};
use tonic::Code;

use super::issuer::Issuer;
use super::keys::Key;
use super::list;
use crate::raw::Raw;
use crate::refused;
use crate::server::{USAGE, names, refused as not_started};
use crate::tls::certificates::{Authority, Mount};

#[tokio::test]
async fn an_issuer_may_have_an_authority_of_its_own_beside_those_of_the_system() {
    let (own, system, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let files = Mount::new(&own.sign(), "");
    let file =
        |name, authority: &Authority| files.beside(name, &authority.pem).display().to_string();
    let named = format!("tls_ca = '{}'", file("own.pem", &own));
    let key = Key::ed25519("k");
    let of = async |authority: &Authority| Issuer::by_tls(&[&key], &authority.sign()).await;
    let (private, public, strange) = (of(&own).await, of(&system).await, of(&stranger).await);
    let without = of(&own).await;
    let trusts = [
        private.trusted("private", &named),
        public.trusted("public", &named),
        strange.trusted("strange", &named),
        without.trusted("without", ""),
    ];
    let trusted = format!("SSL_CERT_FILE={}", file("system.pem", &system));
    let server = TestServer::start_with(Options {
        config: format!("[auth]\nmode = 'token'\n{}", trusts.concat()),
        wrapper: vec!["env".into(), trusted],
        ..Default::default()
    })
    .await
    .unwrap();
    server.add_tenant("linden").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    let call = async |issuer: &Issuer| {
        let token = key.sign(&issuer.claims(&["auditor"]));
        list(&raw.bearing(&token), Some("linden")).await
    };
    for issuer in [&private, &public] {
        call(issuer).await.unwrap();
        assert!(issuer.asked_for_keys() > 0);
    }
    // What is named for one issuer counts for that one alone.
    for issuer in [&strange, &without] {
        let status = call(issuer).await.unwrap_err();
        refused::is(&status, Code::Unavailable, "UNAVAILABLE");
        assert_eq!(issuer.asked_where(), 0);
    }
}

#[test]
fn authorities_that_are_none_are_told_at_the_start() {
    let files = Mount::new(&Authority::new().sign(), "");
    let empty = files.beside("empty.pem", "");
    let issuer = |id: &str, file: &str| {
        format!(
            "[auth.issuers.{id}]\nissuer = 'https://{id}.example'\naudience = 'anklang'\n\
             tls_ca = '{file}'\n"
        )
    };
    let config = format!(
        "[auth]\nmode = 'token'\n{}{}",
        issuer("gone", "/nonexistent.pem"),
        issuer("empty", &empty.display().to_string()),
    );
    let (code, said) = not_started(&config, &[]);
    assert_eq!(code, USAGE, "{said}");
    let faults = ["auth.issuers.gone.tls_ca: ", "auth.issuers.empty.tls_ca: "];
    names(&said, &faults);
    for why in ["/nonexistent.pem", "has no certificate in PEM"] {
        assert!(said.contains(why), "{why} in {said}");
    }
}
