//! Static tokens: those of the configuration.

use anklang_testkit::{TestServer, program};
use chrono::{TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest, Sha256};
use tonic::Code;

use super::{brand, denied, guarded, knows, list, new_token, nobody, update};
use crate::raw::{self, Raw};
use crate::refused;
use crate::utility::until;

#[tokio::test]
async fn without_a_token_nothing_is_answered() {
    let (_server, raw) = guarded("", "").await;
    let mut looked_at = 0;
    for method in raw::methods() {
        let path = raw::path(&method);
        for tenant in [None, Some("linden"), Some("nobody")] {
            let result = raw.call(tenant, &path, &json!({})).await;
            nobody(&result.expect_err(&path), "");
        }
        looked_at += 1;
    }
    assert!(looked_at > 100, "{looked_at}");
}

#[tokio::test]
async fn a_token_is_known_by_its_hash_and_by_nothing_else() {
    let token = new_token();
    let (server, raw) = guarded("", &knows("erp", &token, &["linden"], &["service"])).await;
    let linden = Some("linden");
    assert_eq!(
        list(&raw.bearing(&token), linden).await.unwrap(),
        ["linden"]
    );
    // The scheme is written in upper or lower case (RFC 9110).
    for scheme in ["bearer", "BEARER"] {
        let caller = raw.authorized(&format!("{scheme} {token}"));
        assert_eq!(list(&caller, linden).await.unwrap(), ["linden"], "{scheme}");
    }

    let hash = hex::encode(Sha256::digest(&token));
    let (secret, last) = token.split_at(token.len() - 1);
    let other = if last == "A" { "B" } else { "A" };
    let own = token.trim_start_matches("anklang_");
    for wrong in [
        String::new(),
        "Bearer".into(),
        "Bearer ".into(),
        "Bearer garbage".into(),
        "Bearer a.b.c".into(),
        "Bearer ..".into(),
        format!("Bearer {}", "a".repeat(9 << 10)),
        "Basic bGluZGVuOmdlaGVpbQ==".into(),
        token.clone(),
        format!("Basic {token}"),
        format!("Bearer {hash}"),
        format!("Bearer anklang_{hash}"),
        format!("Bearer {own}"),
        format!("Bearer {secret}"),
        format!("Bearer {secret}{other}"),
        format!("Bearer {token}="),
        format!("Bearer {}", token.to_lowercase()),
        format!("Bearer {token} {token}"),
        format!("Bearer {}", new_token()),
    ] {
        let refused = list(&raw.authorized(&wrong), linden).await;
        let status = refused.expect_err(&wrong);
        nobody(&status, wrong.trim_start_matches("Bearer "));
    }
    // Neither those that are known nor others are for those who read logs.
    for text in [&token[..], &hash, own, "bGluZGVuOmdlaGVpbQ=="] {
        assert!(!server.log().contains(text), "{text} in {}", server.log());
    }
}

#[tokio::test]
async fn a_token_ends() {
    // What is to be built is built before time runs.
    program();
    let (old, soon, later) = (new_token(), new_token(), new_token());
    let ends = |id: &str, token: &str, seconds: i64| {
        let time = Utc::now() + TimeDelta::seconds(seconds);
        let known = knows(id, token, &["linden"], &["auditor"]);
        format!("{known}expires = \"{}\"\n", time.to_rfc3339())
    };
    let trusts = [
        ends("old", &old, -60),
        ends("soon", &soon, 30),
        ends("later", &later, 3_600),
    ];
    let (_server, raw) = guarded("", &trusts.concat()).await;
    nobody(&list(&raw.bearing(&old), None).await.unwrap_err(), &old);
    let soon = raw.bearing(&soon);
    assert_eq!(list(&soon, None).await.unwrap(), ["linden"]);
    until("the token ends", async || list(&soon, None).await.is_err()).await;
    nobody(&list(&soon, None).await.unwrap_err(), "");
    assert_eq!(list(&raw.bearing(&later), None).await.unwrap(), ["linden"]);
}

#[tokio::test]
async fn a_token_is_for_its_tenants() {
    let (one, two, all) = (new_token(), new_token(), new_token());
    let trusts = [
        knows("one", &one, &["linden"], &["service"]),
        knows("two", &two, &["linden", "other"], &["service"]),
        knows("all", &all, &["*"], &["service"]),
    ];
    let (server, raw) = guarded("", &trusts.concat()).await;
    server.client("third").await.unwrap();
    let [one, two, all] = [one, two, all].map(|token| raw.bearing(&token));

    // Whose token is for one tenant need not name it, and sees and changes that one's things.
    for tenant in [None, Some("linden")] {
        assert_eq!(list(&one, tenant).await.unwrap(), ["linden"]);
    }
    update(&one, None, &brand("new")).await.unwrap();
    assert_eq!(list(&two, Some("linden")).await.unwrap(), ["linden", "new"]);
    assert_eq!(list(&two, Some("other")).await.unwrap(), ["other"]);
    assert_eq!(list(&all, Some("other")).await.unwrap(), ["other"]);

    // Others must.
    for several in [&two, &all] {
        let status = list(several, None).await.unwrap_err();
        refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
    }

    // Which other tenants there are is told to nobody who may not see them.
    for caller in [&one, &two] {
        let mut told = Vec::new();
        for tenant in ["third", "nobody", "Linden"] {
            let status = list(caller, Some(tenant)).await.unwrap_err();
            denied(&status);
            told.push((status.message().to_owned(), status.details().to_vec()));
        }
        told.dedup();
        assert_eq!(told.len(), 1, "{told:?}");
    }
    let status = update(&one, Some("other"), &brand("stolen")).await;
    denied(&status.unwrap_err());
    assert_eq!(list(&two, Some("other")).await.unwrap(), ["other"]);
    // Who may see all of them hears that there is none.
    let status = list(&all, Some("nobody")).await.unwrap_err();
    refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
}

#[tokio::test]
async fn who_authenticates_nobody_asks_for_no_token() {
    let server = TestServer::start().await.unwrap();
    server.client("linden").await.unwrap();
    let raw = Raw::connect(server.addr).await;
    for caller in [
        raw.clone(),
        raw.bearing("garbage"),
        raw.authorized("Basic x"),
    ] {
        update(&caller, Some("linden"), &brand("linden"))
            .await
            .unwrap();
        assert_eq!(list(&caller, Some("linden")).await.unwrap(), ["linden"]);
        let status = list(&caller, None).await.unwrap_err();
        refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
    }
}
