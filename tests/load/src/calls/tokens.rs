//! Tokens to call with, and the settings by which a server knows them.

use anklang_testkit::receiver::{Receiver, Reply};
use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::Utc;
use ring::digest::{SHA256, digest};
use ring::rand::{SystemRandom, generate};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use crate::data::TENANT;

/// A token, and who knows it.
pub struct Trusted {
    /// What callers show.
    pub token: String,
    /// Settings of the server, as TOML.
    pub config: String,
}

/// A static token.
pub fn fixed() -> Result<Trusted> {
    let random = generate::<[u8; 32]>(&SystemRandom::new()).map_err(|_| anyhow!("random bytes"))?;
    let token = format!("anklang_{}", base64(random.expose()));
    let hash = hex::encode(digest(&SHA256, token.as_bytes()));
    let config = format!(
        "[auth]\nmode = \"token\"\n[auth.tokens.load]\nsha256 = \"{hash}\"\ntenants = [\"{TENANT}\"]\n\
         roles = [\"service\"]\n"
    );
    Ok(Trusted { token, config })
}

/// A JWT for a day, signed by ECDSA over P-256 (ES256), and the issuer that publishes its key.
pub async fn issued() -> Result<(Trusted, Receiver)> {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| anyhow!("a key"))?;
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random)
        .map_err(|_| anyhow!("the key"))?;
    // 4, x, y.
    let point = pair.public_key().as_ref().get(1..).context("a point")?;
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y),
        "alg": "ES256", "kid": "load", "use": "sig",
    });
    let keys = Reply {
        status: 200,
        headers: vec![("content-type", "application/json".into())],
        body: json!({ "keys": [jwk] }).to_string().into_bytes(),
        ..Default::default()
    };
    let issuer = Receiver::answering(move |_| keys.clone()).await;
    let (name, now) = (issuer.url(""), Utc::now().timestamp());
    let head = json!({"alg": "ES256", "kid": "load", "typ": "JWT"});
    let claims = json!({
        "iss": name, "aud": "anklang", "sub": "load", "iat": now, "exp": now + 86_400,
        "anklang_tenants": [TENANT], "anklang_roles": ["service"],
    });
    let text = format!(
        "{}.{}",
        base64(head.to_string()),
        base64(claims.to_string())
    );
    let signature = pair
        .sign(&random, text.as_bytes())
        .map_err(|_| anyhow!("a signature"))?;
    let config = format!(
        "[auth]\nmode = \"token\"\n[auth.issuers.load]\nissuer = \"{name}\"\naudience = \"anklang\"\n\
         jwks_url = \"{}\"\n",
        issuer.url("/keys")
    );
    let token = format!("{text}.{}", base64(signature));
    Ok((Trusted { token, config }, issuer))
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
