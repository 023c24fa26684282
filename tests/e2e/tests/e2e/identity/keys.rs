//! Keys of an issuer and the tokens they sign: put together by hand, so that the server is not checked by
//! its own means.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use serde_json::{Value, json};

/// The key of RFC 7515, appendix A.2: ring makes none for RSA, and this one is everybody's.
const RSA: &str = include_str!("rfc7515.json");

type Sign = Box<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;

/// A pair of keys.
pub struct Key {
    /// The public one, as an issuer publishes it.
    pub jwk: Value,
    sign: Sign,
}

impl Key {
    pub fn ed25519(kid: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
        let jwk = json!({
            "kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key()), "alg": "EdDSA",
        });
        Self::of(kid, jwk, move |_, text| pair.sign(text).as_ref().to_vec())
    }

    pub fn p256(kid: &str) -> Self {
        Self::elliptic(kid, "P-256", "ES256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    pub fn p384(kid: &str) -> Self {
        Self::elliptic(kid, "P-384", "ES384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn elliptic(
        kid: &str,
        curve: &str,
        alg: &str,
        algorithm: &'static EcdsaSigningAlgorithm,
    ) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap();
        // 4, x, y.
        let point = &pair.public_key().as_ref()[1..];
        let (x, y) = point.split_at(point.len() / 2);
        let jwk = json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y), "alg": alg});
        Self::of(kid, jwk, move |_, text| {
            let signature = pair.sign(&SystemRandom::new(), text).unwrap();
            signature.as_ref().to_vec()
        })
    }

    pub fn rsa(kid: &str) -> Self {
        let parts: Value = serde_json::from_str(RSA).unwrap();
        let part = |name: &str| {
            let text = parts[name].as_str().unwrap();
            BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
        };
        let components = KeyPairComponents {
            public_key: PublicKeyComponents {
                n: part("n"),
                e: part("e"),
            },
            d: part("d"),
            p: part("p"),
            q: part("q"),
            dP: part("dp"),
            dQ: part("dq"),
            qInv: part("qi"),
        };
        let pair = RsaKeyPair::from_components(&components).unwrap();
        let jwk = json!({"kty": "RSA", "n": parts["n"], "e": parts["e"], "alg": "RS256"});
        Self::of(kid, jwk, move |alg, text| {
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(padding(alg), &SystemRandom::new(), text, &mut signature)
                .unwrap();
            signature
        })
    }

    fn of(
        kid: &str,
        mut jwk: Value,
        sign: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Self {
            jwk,
            sign: Box::new(sign),
        }
    }

    /// The same key, published without what it is for: its type must do.
    pub fn of_its_type_alone(mut self) -> Self {
        let jwk = self.jwk.as_object_mut().unwrap();
        jwk.remove("alg");
        jwk.remove("use");
        self
    }

    /// The usual header of its tokens.
    pub fn header(&self) -> Value {
        json!({"alg": self.jwk["alg"], "kid": self.jwk["kid"], "typ": "JWT"})
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    /// A token with another header than the usual one; of RSA's ways to sign it says which.
    pub fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let alg = header["alg"].as_str().unwrap_or_default();
        self.seal(alg, &header.to_string(), &claims.to_string())
    }

    fn seal(&self, alg: &str, header: &str, claims: &str) -> String {
        let text = format!("{}.{}", base64(header), base64(claims));
        let signature = base64((self.sign)(alg, text.as_bytes()));
        format!("{text}.{signature}")
    }
}

fn padding(alg: &str) -> &'static dyn RsaEncoding {
    match alg {
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

/// A token under a secret that both sides would have to share.
pub fn hs256(secret: &[u8], kid: &Value, claims: &Value) -> String {
    let text = unsigned(&json!({"alg": "HS256", "kid": kid, "typ": "JWT"}), claims);
    let text = text.trim_end_matches('.');
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", base64(code))
}

/// A token without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[test]
fn rs256_is_that_of_rfc_7515() {
    let claims =
        "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";
    let token = Key::rsa("a2").seal("RS256", r#"{"alg":"RS256"}"#, claims);
    assert_eq!(
        token,
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl\
         LmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7\
         AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO7\
         5vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6Bf\
         I7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77\
         Rw"
    );
}
