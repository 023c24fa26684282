//! Signatures of tokens, checked by ring: what `jsonwebtoken` needs in place of a backend of its own.
//!
//! Nothing is signed here, and what is signed with a shared secret (HS256 and the like) is good never: there
//! is no key for it.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::error::Unspecified;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // For making JWKs, which nobody does.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has `jsonwebtoken` use it, in this process and from now on.
pub fn install() {
    // That it is there already is fine.
    let _ = PROVIDER.install_default();
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(new_error(ErrorKind::UnsupportedAlgorithm))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if algorithm.family() != key.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(OfRing {
        algorithm: *algorithm,
        key: key.clone(),
    }))
}

struct OfRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl OfRing {
    fn check(&self, message: &[u8], signature: &[u8]) -> std::result::Result<(), Unspecified> {
        match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let parameters = rsa(self.algorithm).ok_or(Unspecified)?;
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            DecodingKeyKind::SecretOrDer(key) => {
                let algorithm = curve(self.algorithm).ok_or(Unspecified)?;
                UnparsedPublicKey::new(algorithm, key).verify(message, signature)
            }
        }
    }
}

impl Verifier<Vec<u8>> for OfRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.check(message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for OfRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn VerificationAlgorithm> {
    let known: &'static dyn VerificationAlgorithm = match algorithm {
        Algorithm::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &signature::ED25519,
        _ => return None,
    };
    Some(known)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use jsonwebtoken::crypto::verify;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    use super::*;

    /// What all of them have signed.
    const MESSAGE: &[u8] = b"header.claims";

    fn is_signed(signature: &str, key: &DecodingKey, algorithm: Algorithm) -> bool {
        install();
        verify(signature, MESSAGE, key, algorithm).expect("the key is for it")
    }

    /// One key and what it signed, made by another implementation (OpenSSL).
    const MODULUS: &str = "tnRbNv-gpucELWgVYpqePDCGO2FyVIrhoV2LBlgCQAj-VCsczLyhod08AZXPTzz-qFQPQa5BIVCWjop5oOXlAcdG3B\
     -wFgkkNyFGCO1tKWAM0wxgxbX5lDR2WPH_KuzGA6khoDfApfxnXZKdnbT9ovoUcWMw1Slepjm8B9f5nV9_S4_5jgpD\
     l_onP5mZF2T1_K8E9HgBlwJ357NmxlHgp_0ZSlA6XxF4wQt6p6gGK9NNk9JDNXZyX52KxJ7NiXgBkVEBoCNcWZ7QUY\
     ySrHy46_PdkkGGoTfq0h_3J_F9KvOYVxGCPV9H-orDmX7GbdD-7T6wvnd42zQQlfd0hs6bgQ";
    const RSA: [(Algorithm, &str); 6] = [
        (
            Algorithm::RS256,
            "aoFbJbaQ-NEajL50wXdjALD4MpFOunu-GGC7Vp5StCu4Ben-LllriI3f3TLhq42FNMVxhlhnjaS1NCbwv11_A-s26P\
             SybZGPYbikKVuWdW5CPJ7ArGkiIMMQXUb9wDKEqGWuUNHkR0Ls3er0ToUggJBZWP3DPs9f4bB8imutIeTnVKfzOT7Y\
             _atK75Zm3SpX8HlUjVXY6p096Tw0xntN40AxgA2IhV9xPd0uXBvyEtgZbcbk1E-vc1kbWOZ9XlxR2Hg1WSauNfBxeq\
             WAAprS_jNLv0EyLs4XPeJePJULtvUE5qth9NIvKcBDFPePCyawafVVYnqOILpIXLHB4cHRzw",
        ),
        (
            Algorithm::RS384,
            "aGRYxqhVC26Y38YyWu9_ZblFA1kFYOBapmnMRtxd4Km8hPqZHqGmnXmNKFeKh-tmFDWv-JKVRAt5hfTJMTuyRpNT8-\
             eoTIee_4wId4MAJZd2DoSh3JNortCAbXupnku7AgVJhPq5GTvniz2vbbaAvWTNa4_JHTmo0zYtNK1t12h9XTwSTb3k\
             ouqgWMsQWbiVrf1aRDCdV6YZlRJg2WSZf8crc3OKEPbfxNkOFpKAiPFoZfBhhLECd4eY3V2e3sdn-lMTJvVk9qchZT\
             S-qj0qVy-8ilfWM3zScXsHApz_IKa7Wvzkz8CfIGfYHnzMeZ0ntuv6eC-cFAMx5ZO2iyDuAQ",
        ),
        (
            Algorithm::RS512,
            "Qmc7mRF0NhXZLe_6f7b54g6ikRCehZxQ7Xms31GSe1MWKVV5m4nTNX2XKaRjAaSM1ohG2rsojOrmmDxYEXeoysvjOg\
             _Spj2ZWsEshB9hz5wUa4xmqifmP7lkZuSyFzum6nhMFqOSu9iax58A7r2LSsMFe-j8_rpOcAaqwAohuNdbN8vVFNlW\
             y2aSIYlXEOch5gtqMjRn2qSc3RmFNPGsnezsm0yJXfqY-P49du8GXq-Ulo2PmLe4Np8Gyz5UkQeWBcc-77iXtJkDKz\
             53tsFjDyfk9Vc47Eua6ogP2Y0nXbZ3kPQ6Re0cd_tOi_C2U5SwQzK9hq2no7Ftr5yzQrZQCg",
        ),
        (
            Algorithm::PS256,
            "Mmji27wu3YsHjLRBSVRMHla67LwU8L0uueXVhTtSdVEsQFM4rE1BTzR3SoX2VPlCOwd1Zk4bZaaSPPgr4f15Cx-dCh\
             iuKiKVsJbi11dIviM-Z30qv_0xMYEFW2mxyuuFYIdJlsDDLUQamOmnvOl7JfoBYD9oMsl_UhL5iYkJWWE3_4fxWSiP\
             LH8PGf4ciUbz3urwuWnaj0HOe0NP5iGOrmfPrG16uLbShi3eAIC-IxZfNZLIkiEff5UCYGy6xpDuAORPmIcbV173e2\
             hqkRS-akx8IiIj4EpDc98VPfAf35PbkE_G6Z2jIYIj_k938LbNgVO6fmYaZFTOycvNiGtZDQ",
        ),
        (
            Algorithm::PS384,
            "G4UFaG-a57y92kdnk98anD1-aTUZhtHEPFvIx5X4FeRAXFnq7zS5o9x43xKijexaNuJWJiRyatGJdGc17vPH2Vw-rm\
             J3hV9ZobRrhMHrNkmr7aMcinOF3F2Uu9Z2SWFb5HVi2pVxQ3YK2WEHa3UBNARkvzrZr9IHuA3Tf1iSpBs-HgC7EQHU\
             4vBLf3DiIEdtvFfGuv82AaxVdxNIb_uj2fso-J5be1iSbwemGeyzkTs-spJVdJiDQBMcjvvK8Dx-ukd05u5AXhCgBe\
             re2xps-BTtyt4yBjyBv-8zyhpcVoN4ha8QFmjCFoTfNXjiRh-ltRSzaVa5W1zfNqnKk9oaww",
        ),
        (
            Algorithm::PS512,
            "lSCXNLSFhabrqHFxRkNRxs3zrLO54eDBIusFhweJ3RecdDwFgguvHvIJ__rodd3hYVP06g3-Urx_mWqAh7IRlK-qGO\
             BnMMFcywr14BSTGvQ2F5QR622hrr-b-oe8olW6m70PtLetVI96Es88P_k16Wl68R1Wk_-AkssIG-ezefD1czGCfxrV\
             vZpn34Tfz1NfTM35I488Dsm49EGkrh_2iB4qZ7iuT_xkR-a7FWWzg0bj9380U72QDTe7w2CsK4YNDwg82xYwgyVOe9\
             L_8Z4CrYPakbRKRyYNaIAO9V_HSz7S-UtzxszyLH1fN7VV0rgkDnjpWKmSPLLmZlNm7cBbng",
        ),
    ];

    #[test]
    fn rsa_signs_in_each_of_its_ways() {
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").expect("base64");
        for (algorithm, signature) in RSA {
            for (other, _) in RSA {
                let fits = is_signed(signature, &key, other);
                assert_eq!(fits, other == algorithm, "{algorithm:?} as {other:?}");
            }
        }
    }

    #[test]
    fn curves_sign() {
        let p384 = DecodingKey::from_ec_components(
            "jOglPGDd6UKcmcgzzZjrWc2Zs1eq0zMxa1PT3zQRpht8HYqYeWQTGU2aYSb-f9ve",
            "b4C3JbZBl6jHO73Veu39GE7wIshdTaklBGPOM-fAT6hu57uaxWUNi2Nonrs1vFD0",
        );
        let p384 = p384.expect("base64");
        let signature = "rUkqZ3BXuaC6iGnnBFEZEnA-RHDl6WF6ySCteIxzeRTtxeZxms6k2fj5Q6MIah9wPHlFW7HnoB77YN9nEb8DZrj85A\
         xmKNK1QG2-AHS1DBy9oCQtDnOKH-QLkhYNBnsQ";
        assert!(is_signed(signature, &p384, Algorithm::ES384));
        assert!(!is_signed(signature, &p384, Algorithm::ES256));

        let random = SystemRandom::new();
        let how = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(how, &random).expect("a key");
        let p256 = EcdsaKeyPair::from_pkcs8(how, made.as_ref(), &random).expect("a key");
        let signature = p256.sign(&random, MESSAGE).expect("a signature");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
        let key = DecodingKey::from_ec_der(p256.public_key().as_ref());
        assert!(is_signed(&signature, &key, Algorithm::ES256));
        assert!(!is_signed(&signature, &p384, Algorithm::ES256));

        let made = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let ed25519 = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key");
        let signature = BASE64_URL_SAFE_NO_PAD.encode(ed25519.sign(MESSAGE));
        let key = DecodingKey::from_ed_der(ed25519.public_key().as_ref());
        assert!(is_signed(&signature, &key, Algorithm::EdDSA));
        let cut = signature.get(..84).expect("it has 86");
        assert!(!is_signed(cut, &key, Algorithm::EdDSA));
    }

    #[test]
    fn keys_are_not_used_for_what_they_are_not_for() {
        install();
        let rsa = DecodingKey::from_rsa_components(MODULUS, "AQAB").expect("base64");
        for algorithm in [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA] {
            verify("AAAA", MESSAGE, &rsa, algorithm).expect_err("another family");
        }
        // Whoever takes the public key for a shared secret.
        let secret = DecodingKey::from_secret(MODULUS.as_bytes());
        assert!(!is_signed("AAAA", &secret, Algorithm::HS256));
    }
}
