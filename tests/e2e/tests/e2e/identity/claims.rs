//! What the claims of an issuer's tokens give: tenants and roles, by the names that the issuer has for them.

use serde_json::{Value, json};
use tonic::Code;

use super::issuer::Issuer;
use super::keys::Key;
use super::{brand, denied, guarded, lacking, list, update};
use crate::raw::Raw;
use crate::refused;

/// An issuer that is trusted with these settings, and how to call with claims added to the usual ones.
struct Trusted {
    raw: Raw,
    issuer: Issuer,
    key: Key,
    _server: anklang_testkit::TestServer,
}

impl Trusted {
    async fn with(settings: &str) -> Self {
        let key = Key::ed25519("k");
        let issuer = Issuer::publishing(&[&key]).await;
        let (server, raw) = guarded("", &issuer.trusted("idp", settings)).await;
        Self {
            raw,
            issuer,
            key,
            _server: server,
        }
    }

    /// A caller without roles and tenants but those of these claims.
    fn caller(&self, claims: Value) -> Raw {
        let mut all = self.issuer.claims(&[]);
        let fields = all.as_object_mut().unwrap();
        fields.retain(|name, _| !name.starts_with("anklang_"));
        fields.extend(claims.as_object().unwrap().clone());
        self.raw.bearing(&self.key.sign(&all))
    }
}

#[tokio::test]
async fn tenants_are_those_that_are_claimed() {
    let trusted = Trusted::with("").await;
    let of = |tenants: Value| {
        trusted.caller(json!({"anklang_tenants": tenants, "anklang_roles": ["service"]}))
    };
    // The one that is claimed is meant where none is named.
    for one in [json!("linden"), json!(["linden"])] {
        let caller = of(one);
        assert_eq!(list(&caller, None).await.unwrap(), ["linden"]);
        assert_eq!(list(&caller, Some("linden")).await.unwrap(), ["linden"]);
        for other in ["other", "nobody"] {
            denied(&list(&caller, Some(other)).await.unwrap_err());
        }
        let changed = update(&caller, Some("other"), &brand("stolen")).await;
        denied(&changed.unwrap_err());
    }
    let both = of(json!(["linden", "other"]));
    for tenant in ["linden", "other"] {
        assert_eq!(list(&both, Some(tenant)).await.unwrap(), [tenant]);
    }
    let status = list(&both, None).await.unwrap_err();
    refused::is(&status, Code::Unauthenticated, "TENANT_REQUIRED");
    denied(&list(&both, Some("nobody")).await.unwrap_err());

    // None are none, however they are written: only settings mean all by it.
    let without = trusted.caller(json!({"anklang_roles": ["central"]}));
    denied(&list(&without, Some("linden")).await.unwrap_err());
    for none in [
        json!([]),
        json!(null),
        json!(""),
        json!({"linden": true}),
        json!(true),
        json!("*"),
    ] {
        let status = list(&of(none.clone()), Some("linden")).await;
        denied(&status.expect_err(&none.to_string()));
        list(&of(none), None).await.unwrap_err();
    }
}

#[tokio::test]
async fn an_issuer_can_be_bound_to_tenants() {
    let trusted = Trusted::with("tenants = ['linden']").await;
    let of = |tenants: Value| {
        trusted.caller(json!({"anklang_tenants": tenants, "anklang_roles": ["central"]}))
    };
    let both = of(json!(["linden", "other"]));
    assert_eq!(list(&both, Some("linden")).await.unwrap(), ["linden"]);
    denied(&list(&both, Some("other")).await.unwrap_err());
    // One is left.
    assert_eq!(list(&both, None).await.unwrap(), ["linden"]);
    // What it is bound to is nothing that it gives.
    for caller in [of(json!(["other"])), of(json!([]))] {
        for tenant in ["linden", "other"] {
            denied(&list(&caller, Some(tenant)).await.unwrap_err());
        }
    }
}

#[tokio::test]
async fn roles_are_those_that_are_claimed() {
    let trusted = Trusted::with("").await;
    let of = |roles: Value| {
        trusted.caller(json!({"anklang_tenants": ["linden"], "anklang_roles": roles}))
    };
    let new = brand("linden");
    let auditor = of(json!(["auditor"]));
    assert_eq!(list(&auditor, None).await.unwrap(), ["linden"]);
    let status = update(&auditor, None, &new).await.unwrap_err();
    assert_eq!(lacking(&status).as_deref(), Some("master.write"));
    let several = of(json!(["offline_access", "auditor", "service", "region"]));
    update(&several, None, &new).await.unwrap();

    // Who is known and has no role may do nothing.
    for none in [
        json!([]),
        json!(null),
        json!(["king"]),
        json!(["Central"]),
        json!({"central": true}),
        json!(true),
    ] {
        let status = list(&of(none.clone()), None).await;
        let status = status.expect_err(&none.to_string());
        assert_eq!(
            lacking(&status).as_deref(),
            Some("master.read"),
            "{none}: {status:?}"
        );
    }
    let without = trusted.caller(json!({"anklang_tenants": ["linden"]}));
    let status = list(&without, None).await.unwrap_err();
    assert_eq!(lacking(&status).as_deref(), Some("master.read"));
}

#[tokio::test]
async fn claims_can_lie_deep_and_have_other_names() {
    let settings = "tenant_claim = 'organisation.units'\n\
                    roles_claim = 'realm_access.roles'\n\
                    role_names = { 'crm-chief' = 'central', 'crm-reader' = 'auditor' }";
    let trusted = Trusted::with(settings).await;
    let of = |roles: Value| {
        let units = json!({"units": ["linden"]});
        trusted.caller(json!({"organisation": units, "realm_access": {"roles": roles}}))
    };
    let new = brand("linden");
    update(&of(json!(["crm-chief"])), None, &new).await.unwrap();
    let reader = of(json!(["crm-reader", "uma_authorization"]));
    assert_eq!(list(&reader, None).await.unwrap(), ["linden"]);
    let status = update(&reader, None, &new).await.unwrap_err();
    assert_eq!(lacking(&status).as_deref(), Some("master.write"));
    // Our own names are none of theirs any more.
    for roles in [json!(["central"]), json!(["auditor"])] {
        let status = list(&of(roles), None).await.unwrap_err();
        assert_eq!(lacking(&status).as_deref(), Some("master.read"));
    }
    // Nor are the usual places looked at.
    let usual = json!({
        "organisation": {"units": ["linden"]}, "anklang_tenants": ["linden"],
        "anklang_roles": ["crm-chief"], "roles": ["crm-chief"],
    });
    let status = list(&trusted.caller(usual), None).await.unwrap_err();
    assert_eq!(lacking(&status).as_deref(), Some("master.read"));
    for path in [
        json!("x"),
        json!(["crm-chief"]),
        json!(null),
        json!({"roles": {"x": 1}}),
    ] {
        let claims = json!({"organisation": {"units": ["linden"]}, "realm_access": path});
        let status = list(&trusted.caller(claims), None).await.unwrap_err();
        assert_eq!(lacking(&status).as_deref(), Some("master.read"));
    }
}
