//! What the section `auth` may say.

use super::*;
use crate::config::Config;

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn read(file: &str) -> Result<AuthConfig, Vec<String>> {
    match Config::read(Some(file), []) {
        Ok(config) => Ok(config.auth),
        Err(violations) => Err(violations.into_vec().into_iter().map(|v| v.field).collect()),
    }
}

#[test]
fn tokens_and_issuers_are_read() {
    let file = format!(
        "[auth]
        mode = 'token'
        [auth.tokens.crm]
        sha256 = '{HASH}'
        tenants = ['acme']
        roles = ['service', 'auditor']
        expires = '2027-01-31T01:00:00+01:00'
        [auth.tokens.ops]
        sha256 = '{}'
        roles = ['central']
        [auth.issuers.corporate]
        issuer = 'https://id.example.com/'
        audience = 'anklang'
        [auth.issuers.other]
        issuer = 'other'
        audience = 'anklang'
        jwks_url = 'http://127.0.0.1:8080/keys'
        roles_claim = 'realm_access.roles'
        role_names = {{ 'Vertrieb Zentrale' = 'central' }}
        leeway_seconds = 0
        refresh_seconds = 60",
        HASH.replace('e', "F"),
    );
    let auth = read(&file).expect("all is right");
    assert_eq!((auth.mode, auth.open_health), (AuthMode::Token, true));
    let [crm, ops] = &auth.tokens[..] else {
        panic!("{:?}", auth.tokens);
    };
    assert_eq!((&crm.id[..], crm.sha256[0]), ("crm", 0xe3));
    assert_eq!(crm.roles, [Role::Service, Role::Auditor]);
    let expires = crm.expires.map(|at| at.to_rfc3339());
    assert_eq!(expires.as_deref(), Some("2027-01-31T00:00:00+00:00"));
    assert!(ops.tenants.is_empty() && ops.expires.is_none());
    let [corporate, other] = &auth.issuers[..] else {
        panic!("{:?}", auth.issuers);
    };
    assert_eq!(corporate.issuer, "https://id.example.com/");
    assert_eq!((corporate.leeway_seconds, &corporate.jwks_url), (60, &None));
    assert_eq!(corporate.refresh.as_secs(), 300);
    let port = other.jwks_url.as_ref().and_then(Url::port);
    assert_eq!((port, other.refresh.as_secs()), (Some(8080), 60));
    assert_eq!(
        other.role_names.get("Vertrieb Zentrale"),
        Some(&Role::Central)
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let file = format!(
        "[auth]
        mode = 'token'
        open_reflection = 1
        [auth.tokens]
        flat = 'anklang_secret'
        [auth.tokens.A]
        sha256 = '{HASH}'
        roles = ['service']
        [auth.tokens.b]
        sha256 = '{HASH}'
        tenants = ['acme', 'Acme Energie']
        roles = ['service', 'agency', 'boss']
        expires = 'tomorrow'
        token = 'anklang_secret'
        [auth.tokens.c]
        sha256 = 'abc'
        [auth.issuers.x]
        issuer = 'https://id.example.com'
        audience = ''
        jwks_url = 'http://id.example.com/keys'
        tenant_claim = ''
        role_names = {{ boss = 'chef' }}
        tenants = 'acme'
        leeway_seconds = 601
        refresh_seconds = 0
        allow_http = 'no'
        [auth.issuers.y]
        issuer = 'id.example.com'"
    );
    let mut found = read(&file).expect_err("nothing is right here");
    found.sort();
    assert_eq!(
        found,
        [
            "auth.issuers.x.allow_http",
            "auth.issuers.x.audience",
            "auth.issuers.x.jwks_url",
            "auth.issuers.x.leeway_seconds",
            "auth.issuers.x.refresh_seconds",
            "auth.issuers.x.role_names.boss",
            "auth.issuers.x.tenant_claim",
            "auth.issuers.x.tenants",
            "auth.issuers.y.audience",
            "auth.issuers.y.issuer",
            "auth.open_reflection",
            "auth.tokens.A",
            "auth.tokens.b.expires",
            "auth.tokens.b.roles[1]",
            "auth.tokens.b.roles[2]",
            "auth.tokens.b.tenants[1]",
            "auth.tokens.b.token",
            "auth.tokens.c.roles",
            "auth.tokens.c.sha256",
            "auth.tokens.flat",
        ]
    );
}

#[test]
fn what_is_told_apart_must_differ() {
    let file = format!(
        "[auth.tokens.a]
        sha256 = '{HASH}'
        roles = ['service']
        [auth.tokens.b]
        sha256 = '{HASH}'
        roles = ['central']
        [auth.issuers.a]
        issuer = 'https://id.example.com'
        audience = 'a'
        [auth.issuers.b]
        issuer = 'https://id.example.com'
        audience = 'b'"
    );
    let found = read(&file).expect_err("twins");
    assert_eq!(found, ["auth.tokens.b.sha256", "auth.issuers.b.issuer"]);
    assert_eq!(
        read("auth.mode = 'token'").expect_err("nobody could call"),
        ["auth.mode"]
    );
}
