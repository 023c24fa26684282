//! A public key of an issuer: what it may have signed.

use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

/// A key of an issuer.
#[derive(Debug)]
pub struct Key {
    id: Option<String>,
    /// What it may have signed with.
    algorithms: Vec<Algorithm>,
    /// The key as it is published.
    parameters: AlgorithmParameters,
    /// The key itself.
    pub key: DecodingKey,
}

impl Key {
    /// Reads a key; those that sign nothing, or in a way that is not checked here, are none.
    pub fn read(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = match (&common.public_key_use, &common.key_operations) {
            (Some(PublicKeyUse::Signature), _) | (None, None) => true,
            (None, Some(deeds)) => deeds.contains(&KeyOperations::Verify),
            (Some(_), _) => false,
        };
        let algorithms = algorithms(&jwk.algorithm, common);
        if !signs || algorithms.is_empty() {
            return None;
        }
        Some(Key {
            id: common.key_id.clone(),
            algorithms,
            parameters: jwk.algorithm.clone(),
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }

    /// Whether a token of this head may be signed by it; one that names no key may be by any.
    pub fn fits(&self, id: Option<&str>, algorithm: Algorithm) -> bool {
        self.is(id) && self.algorithms.contains(&algorithm)
    }

    /// Whether the other one is the same key, under the same name and for the same.
    pub fn is_same(&self, other: &Key) -> bool {
        self.id == other.id
            && self.algorithms == other.algorithms
            && self.parameters == other.parameters
    }

    /// Whether the token names it, or none.
    pub fn is(&self, id: Option<&str>) -> bool {
        id.is_none() || self.id.as_deref() == id
    }
}

/// What a key may sign with: what it says, if its kind can do that, else all that its kind can do.
fn algorithms(kind: &AlgorithmParameters, common: &CommonParameters) -> Vec<Algorithm> {
    let mut algorithms = match kind {
        AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        // A secret that somebody published is none.
        _ => Vec::new(),
    };
    if let Some(said) = common.key_algorithm {
        let said = Algorithm::try_from(said);
        algorithms.retain(|algorithm| said.as_ref() == Ok(algorithm));
    }
    algorithms
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(jwk: serde_json::Value) -> Option<Key> {
        Key::read(&serde_json::from_value(jwk).ok()?)
    }

    #[test]
    fn keys_sign_with_what_they_are_made_for() {
        let algorithms = |jwk| read(jwk).map_or_else(Vec::new, |key| key.algorithms);
        let rsa = json!({"kty": "RSA", "n": "sXch", "e": "AQAB"});
        let with = |more: serde_json::Value| {
            let mut jwk = rsa.clone();
            let map = jwk.as_object_mut().expect("an object");
            map.extend(more.as_object().expect("an object").clone());
            algorithms(jwk)
        };
        assert_eq!(with(json!({})).len(), 6);
        assert_eq!(
            with(json!({"use": "sig", "alg": "PS384"})),
            [Algorithm::PS384]
        );
        assert_eq!(
            with(json!({"key_ops": ["verify"], "alg": "RS256"})).len(),
            1
        );
        for not in [
            json!({"use": "enc"}),
            json!({"key_ops": ["encrypt"]}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES256"}),
            json!({"alg": "RSA-OAEP"}),
            json!({"alg": "none"}),
        ] {
            assert!(with(not.clone()).is_empty(), "{not}");
        }
        let curve = |kty: &str, crv: &str| {
            let jwk = json!({"kty": kty, "crv": crv, "x": "AAAA", "y": "AAAA"});
            algorithms(jwk)
        };
        assert_eq!(curve("EC", "P-256"), [Algorithm::ES256]);
        assert_eq!(curve("EC", "P-384"), [Algorithm::ES384]);
        assert_eq!(curve("OKP", "Ed25519"), [Algorithm::EdDSA]);
        for (kty, crv) in [("EC", "P-521"), ("EC", "secp256k1"), ("OKP", "X25519")] {
            assert!(curve(kty, crv).is_empty(), "{crv}");
        }
        assert!(algorithms(json!({"kty": "oct", "k": "c2VjcmV0"})).is_empty());
    }

    #[test]
    fn a_key_that_is_published_again_is_the_same() {
        let of = |kid: &str, x: &str| {
            let key = json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": x});
            read(key).expect("a key")
        };
        let key = of("a", "AAAA");
        assert!(key.is_same(&of("a", "AAAA")));
        assert!(!key.is_same(&of("b", "AAAA")) && !key.is_same(&of("a", "AAAB")));
    }

    #[test]
    fn a_token_finds_its_key_by_id_and_algorithm() {
        let key = json!({"kid": "a", "kty": "OKP", "crv": "Ed25519", "x": "AAAA"});
        let key = read(key).expect("a key");
        assert!(key.fits(Some("a"), Algorithm::EdDSA) && key.fits(None, Algorithm::EdDSA));
        assert!(!key.fits(Some("b"), Algorithm::EdDSA));
        assert!(!key.fits(Some("a"), Algorithm::ES256) && !key.fits(None, Algorithm::HS256));
    }
}
