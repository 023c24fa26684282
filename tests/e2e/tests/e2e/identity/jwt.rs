//! Tokens of issuers: which are taken, and which are not, whatever they try.

use std::time::Duration;

use anklang_testkit::receiver::Receiver;
use chrono::Utc;
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use super::issuer::Issuer;
use super::keys::{Key, base64, hs256, unsigned};
use super::{brand, guarded, list, nobody, update};

/// The same claims, with others; `null` takes one away.
fn but(claims: &Value, others: Value) -> Value {
    let mut claims = claims.clone();
    let fields = claims.as_object_mut().unwrap();
    for (name, value) in others.as_object().unwrap() {
        match value {
            Value::Null => fields.remove(name),
            value => fields.insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// A token that says to be signed another way than usual; RSA's are.
fn as_alg(key: &Key, alg: &str, claims: &Value) -> String {
    key.sign_as(&but(&key.header(), json!({"alg": alg})), claims)
}

/// So many seconds from now.
fn at(seconds: i64) -> Value {
    json!(Utc::now().timestamp() + seconds)
}

/// With so long a claim that nobody asks for.
fn padded(claims: &Value, characters: usize) -> Value {
    but(claims, json!({"padding": "x".repeat(characters)}))
}

#[tokio::test]
async fn tokens_of_whom_is_trusted_are_taken() {
    let keys = [
        Key::ed25519("ed"),
        Key::p256("p256"),
        Key::p384("p384"),
        Key::rsa("rsa"),
        Key::rsa("any-rsa").of_its_type_alone(),
        Key::p256("any-p256").of_its_type_alone(),
        Key::ed25519("any-ed").of_its_type_alone(),
    ];
    let issuer = Issuer::publishing(&keys.each_ref()).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    let claims = issuer.claims(&["auditor"]);
    let [ed, p256, p384, rsa, any_rsa, any_p256, any_ed] = &keys;
    let with = |others: Value| ed.sign(&but(&claims, others));
    let mut taken = vec![
        ("Ed25519", ed.sign(&claims)),
        ("P-256", p256.sign(&claims)),
        ("P-384", p384.sign(&claims)),
        ("RSA", rsa.sign(&claims)),
        ("P-256 by its type", as_alg(any_p256, "ES256", &claims)),
        ("Ed25519 by its type", as_alg(any_ed, "EdDSA", &claims)),
        (
            "several audiences",
            with(json!({"aud": ["other", "anklang"]})),
        ),
        (
            "a tenant as text",
            with(json!({"anklang_tenants": "linden"})),
        ),
        ("a role as text", with(json!({"anklang_roles": "auditor"}))),
        ("just over", with(json!({"exp": at(-30)}))),
        ("almost valid", with(json!({"nbf": at(30)}))),
        ("long valid", with(json!({"nbf": at(-3_600)}))),
        ("long", ed.sign(&padded(&claims, 5 << 10))),
        ("long name", with(json!({"sub": "ü".repeat(255)}))),
    ];
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        taken.push((alg, as_alg(any_rsa, alg, &claims)));
    }
    for (what, token) in &taken {
        let listed = list(&raw.bearing(token), Some("linden")).await;
        let listed = listed.unwrap_or_else(|status| panic!("{what}: {status:?}"));
        assert_eq!(listed, ["linden"], "{what}");
    }
    assert_eq!(issuer.asked_for_keys(), 1, "keys are remembered");
}

#[tokio::test]
async fn a_token_that_was_good_is_refused_once_it_is_over() {
    let key = Key::p256("p256");
    let issuer = Issuer::publishing(&[&key]).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "leeway_seconds = 0")).await;
    let until = Utc::now().timestamp() + 10;
    let short = key.sign(&but(&issuer.claims(&["auditor"]), json!({"exp": until})));
    let other = key.sign(&but(
        &issuer.claims(&["auditor"]),
        json!({"anklang_tenants": ["other"]}),
    ));
    for _ in 0..3 {
        let listed = list(&raw.bearing(&short), Some("linden")).await;
        assert_eq!(listed.unwrap(), ["linden"]);
        // What is known of one token says nothing of another.
        let refused = list(&raw.bearing(&other), Some("linden")).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    }
    while Utc::now().timestamp() <= until {
        sleep(Duration::from_millis(100)).await;
    }
    let refused = list(&raw.bearing(&short), Some("linden"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(refused.message(), "the token has expired");
}

#[tokio::test]
async fn tokens_that_are_not_as_they_should_be_are_not() {
    let (ed, rsa, p256) = (Key::ed25519("ed"), Key::rsa("rsa"), Key::p256("p256"));
    let secret = b"shared by all who can read this";
    let issuer = Issuer::publishing(&[]).await;
    let shared = json!({"kty": "oct", "kid": "shared", "k": base64(secret), "alg": "HS256"});
    issuer.publishes_all(vec![
        ed.jwk.clone(),
        rsa.jwk.clone(),
        p256.jwk.clone(),
        shared,
    ]);
    let (server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    let claims = issuer.claims(&["central"]);
    let with = |others: Value| ed.sign(&but(&claims, others));
    let good = ed.sign(&claims);
    list(&raw.bearing(&good), Some("linden")).await.unwrap();

    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts: {good}");
    };
    let other = base64(but(&claims, json!({"anklang_tenants": ["other"]})).to_string());
    // Somebody else's key, which the token itself names, or brings along.
    let (foreign, elsewhere) = (Key::ed25519("ed"), Receiver::start().await);
    let brings = json!({"jwk": foreign.jwk, "jku": elsewhere.url("/keys"), "kid": "foreign"});
    let brought = foreign.sign_as(&but(&foreign.header(), brings), &claims);
    let x = ed.jwk["x"].as_str().unwrap();
    let n = rsa.jwk["n"].as_str().unwrap();

    let refused = [
        ("over", with(json!({"exp": at(-120)}))),
        ("never over", with(json!({"exp": null}))),
        ("over some day", with(json!({"exp": "tomorrow"}))),
        ("not valid yet", with(json!({"nbf": at(120)}))),
        (
            "of another issuer",
            with(json!({"iss": "https://idp.example"})),
        ),
        (
            "of almost the same issuer",
            with(json!({"iss": format!("{}/", issuer.url())})),
        ),
        ("of no issuer", with(json!({"iss": null}))),
        ("for somebody else", with(json!({"aud": "other"}))),
        (
            "for several others",
            with(json!({"aud": ["other", "anklang.example"]})),
        ),
        ("for nobody", with(json!({"aud": null}))),
        ("for an empty list", with(json!({"aud": []}))),
        ("too long", ed.sign(&padded(&claims, 7 << 10))),
        ("without a signature", format!("{head}.{body}.")),
        ("cut off", format!("{head}.{body}")),
        ("with more behind it", format!("{good}.{signature}")),
        ("with other claims", format!("{head}.{other}.{signature}")),
        (
            "of alg none",
            unsigned(&json!({"alg": "none", "kid": "ed"}), &claims),
        ),
        (
            "of alg None",
            unsigned(&json!({"alg": "None", "kid": "ed"}), &claims),
        ),
        ("signed, of alg none", as_alg(&ed, "none", &claims)),
        ("without alg", ed.sign_as(&json!({"kid": "ed"}), &claims)),
        ("of another alg of RSA's", as_alg(&rsa, "RS384", &claims)),
        ("of RSA's PSS", as_alg(&rsa, "PS256", &claims)),
        ("of another key's alg", as_alg(&ed, "ES256", &claims)),
        ("of another curve's alg", as_alg(&p256, "ES384", &claims)),
        ("by another key of the same name", foreign.sign(&claims)),
        ("by a key it brings along", brought),
        (
            "by a published secret",
            hs256(secret, &json!("shared"), &claims),
        ),
        (
            "by the public key's text as secret",
            hs256(x.as_bytes(), &json!("ed"), &claims),
        ),
        (
            "by RSA's public key as secret",
            hs256(n.as_bytes(), &json!("rsa"), &claims),
        ),
        (
            "by the whole public key as secret",
            hs256(rsa.jwk.to_string().as_bytes(), &json!("rsa"), &claims),
        ),
        ("with claims that are none", ed.sign(&json!("central"))),
        (
            "with a header that is none",
            ed.sign_as(&json!("EdDSA"), &claims),
        ),
    ];
    for (what, token) in &refused {
        let listed = list(&raw.bearing(token), Some("linden")).await;
        let status = listed.expect_err(what);
        nobody(&status, token);
    }
    assert!(elsewhere.calls().is_empty(), "{:?}", elsewhere.calls());
    list(&raw.bearing(&good), Some("linden")).await.unwrap();
    // What callers sent is not for those who read logs.
    let log = server.log();
    let told = refused.iter().find(|(_, token)| log.contains(&token[..]));
    assert_eq!(told, None, "{log}");
    assert!(!log.contains(signature) && !log.contains(body), "{log}");
}

#[tokio::test]
async fn tokens_that_do_not_say_whose_they_are_are_nobodys() {
    let key = Key::ed25519("k");
    let issuer = Issuer::publishing(&[&key]).await;
    let (_server, raw) = guarded("", &issuer.trusted("idp", "")).await;
    for subject in [
        json!(null),
        json!(""),
        json!(4711),
        json!(["4711"]),
        json!("47\u{0}11"),
        json!("4711\n"),
        json!("x".repeat(256)),
    ] {
        let token = key.sign(&but(&issuer.claims(&["central"]), json!({"sub": &subject})));
        let caller = raw.bearing(&token);
        let refused = list(&caller, Some("linden")).await.unwrap_err();
        nobody(&refused, &token);
        let told = match subject.is_number() || subject.is_array() {
            true => "malformed",
            false => "claim sub",
        };
        assert!(refused.message().contains(told), "{refused:?}");
        let refused = update(&caller, Some("linden"), &brand("new")).await;
        nobody(&refused.unwrap_err(), &token);
    }
}

#[tokio::test]
async fn what_one_issuer_signs_is_no_word_of_another() {
    let (key, other) = (Key::ed25519("k"), Key::ed25519("k"));
    let first = Issuer::publishing(&[&key]).await;
    let second = Issuer::publishing(&[&other]).await;
    let trusts = [first.trusted("first", ""), second.trusted("second", "")];
    let (_server, raw) = guarded("", &trusts.concat()).await;
    let call = async |token: &str| list(&raw.bearing(token), Some("linden")).await;
    let (of_first, of_second) = (first.claims(&["central"]), second.claims(&["central"]));
    for token in [key.sign(&of_first), other.sign(&of_second)] {
        assert_eq!(call(&token).await.unwrap(), ["linden"]);
    }
    for token in [key.sign(&of_second), other.sign(&of_first)] {
        nobody(&call(&token).await.unwrap_err(), &token);
    }
}
