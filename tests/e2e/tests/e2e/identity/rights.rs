//! Roles: which calls they allow, at every method there is.

use std::collections::BTreeSet;
use std::time::Duration;

use anklang_domain::access::{Permission, Role};
use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::Client;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;

use super::{brand, guarded, knows, lacking, list, needed, new_token, update};
use crate::raw;

/// Long for a call that has nothing to do.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_method_is_for_whose_role_allows_it() {
    let tokens = Role::ALL.map(|role| (role, new_token()));
    let known = |(role, token): &(Role, String)| {
        let bound = match role.is_bound() {
            true => "org_units = ['north']\n",
            false => "",
        };
        let role = role.as_str();
        knows(role, token, &["linden"], &[role]) + bound
    };
    let trusts: String = tokens.iter().map(known).collect();
    let (_server, raw) = guarded("", &trusts).await;
    for (role, token) in tokens {
        let (caller, mut refused) = (raw.bearing(&token), BTreeSet::new());
        for method in raw::methods() {
            let (path, permission) = (raw::path(&method), needed(&method));
            let allowed = role.allows(permission);
            // Whatever comes of it: that is after the caller was let in.
            let request = json!({});
            let call = caller.call(Some("linden"), &path, &request);
            let result = timeout(PATIENCE, call).await;
            let result = result.unwrap_or_else(|_| panic!("{path} as {role:?} takes too long"));
            if let Err(status) = &result {
                assert_ne!(status.code(), Code::Unauthenticated, "{path}: {status:?}");
            }
            let lacks = result.as_ref().err().and_then(lacking);
            let wanted = (!allowed).then(|| permission.as_str().to_owned());
            assert_eq!(lacks, wanted, "{path} as {role:?}: {result:?}");
            if !allowed {
                refused.insert(permission);
            }
        }
        let denies = |p: &Permission| !role.allows(*p);
        let all: BTreeSet<_> = Permission::ALL.iter().copied().filter(denies).collect();
        assert_eq!(refused, all, "each permission was asked for as {role:?}");
    }
}

#[tokio::test]
async fn what_is_refused_is_not_done() {
    let (auditor, clerk) = (new_token(), new_token());
    let trusts = [
        knows("auditor", &auditor, &["linden"], &["auditor"]),
        knows("clerk", &clerk, &["linden"], &["clerk"]),
    ];
    let (server, raw) = guarded("", &trusts.concat()).await;
    let own = server.client("linden").await.unwrap();
    let id = uuid::Uuid::now_v7().to_string();
    let mut request = brand("stolen");
    request["requestId"] = json!(id);
    for token in [&auditor, &clerk] {
        let caller = raw.bearing(token);
        let status = update(&caller, Some("linden"), &request).await.unwrap_err();
        assert_eq!(
            lacking(&status).as_deref(),
            Some("master.write"),
            "{status:?}"
        );
        assert_eq!(list(&caller, Some("linden")).await.unwrap(), ["linden"]);
        // What is wrong with a request is told to those alone who may make it.
        let status = update(&caller, Some("linden"), &json!({}))
            .await
            .unwrap_err();
        assert_eq!(
            lacking(&status).as_deref(),
            Some("master.write"),
            "{status:?}"
        );
    }
    // The id is free still.
    let new = brands::UpdateBrandRequest {
        brand: Some(brands::Brand {
            code: "new".into(),
            display_name: "New".into(),
            sender_email: "post@sw.example".into(),
            ..Default::default()
        }),
        allow_missing: true,
        request_id: id,
        ..Default::default()
    };
    own.brands().update_brand(new).await.unwrap();

    // Nor is anything taken of a stream.
    let csv = "code,name,sender_email\nstolen,Stolen,post@sw.example\n";
    for token in [&auditor, &clerk] {
        let client = Client::connect_as(server.addr, None, Some(token)).await;
        let refused = client.unwrap().import(ImportEntity::Brands, csv).await;
        let status = refused.unwrap_err();
        assert_eq!(
            lacking(&status).as_deref(),
            Some("master.write"),
            "{status:?}"
        );
    }
    let seen = list(&raw.bearing(&auditor), None).await.unwrap();
    assert_eq!(seen, ["linden", "new"]);
    let sums = own.import(ImportEntity::Brands, csv).await.unwrap();
    assert_eq!((sums.created, sums.failed), (1, 0));
}

#[tokio::test]
async fn roles_add_up() {
    let token = new_token();
    let both = knows("both", &token, &["*"], &["clerk", "auditor"]);
    let (_server, raw) = guarded("", &both).await;
    let caller = raw.bearing(&token);
    let call = async |method: &str| caller.call(Some("linden"), method, &json!({})).await;
    // A clerk does not see webhooks, an auditor does not answer offers.
    let webhooks = "anklang.handover.v1.WebhookService/ListWebhooks";
    assert_eq!(call(webhooks).await.unwrap(), json!({}));
    let status = call("anklang.offers.v1.OfferService/CreateOffer").await;
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    let status = call("anklang.handover.v1.WebhookService/CreateWebhook").await;
    let status = status.unwrap_err();
    assert_eq!(
        lacking(&status).as_deref(),
        Some("webhooks.write"),
        "{status:?}"
    );
}
