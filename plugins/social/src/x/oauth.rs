//! OAuth 1.0a (RFC 5849) with HMAC-SHA1, for requests whose parameters are all in the header.

use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::{hmac, rand};
use secrecy::{ExposeSecret, SecretString};

/// All but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The keys of an app and of its user.
pub(super) struct Keys {
    pub(super) consumer_key: SecretString,
    pub(super) consumer_secret: SecretString,
    pub(super) token: SecretString,
    pub(super) token_secret: SecretString,
}

impl Keys {
    /// The value of `Authorization` for a request at `now`, in seconds since 1970.
    pub(super) fn header(&self, method: &str, url: &str, now: u64) -> String {
        let random: rand::Random<[u8; 16]> =
            rand::generate(&rand::SystemRandom::new()).expect("Linux has random numbers");
        let nonce = hex::encode(random.expose());
        let now = now.to_string();
        let parameters = self.parameters(&nonce, &now);
        let signature = self.signature(method, url, &parameters);
        let mut line = "OAuth ".to_owned();
        for (name, value) in parameters {
            let _ = write!(line, "{name}=\"{}\", ", encoded(value));
        }
        let _ = write!(line, "oauth_signature=\"{}\"", encoded(&signature));
        line
    }

    fn parameters<'a>(&'a self, nonce: &'a str, now: &'a str) -> Vec<(&'a str, &'a str)> {
        vec![
            ("oauth_consumer_key", self.consumer_key.expose_secret()),
            ("oauth_nonce", nonce),
            ("oauth_signature_method", "HMAC-SHA1"),
            ("oauth_timestamp", now),
            ("oauth_token", self.token.expose_secret()),
            ("oauth_version", "1.0"),
        ]
    }

    fn signature(&self, method: &str, url: &str, parameters: &[(&str, &str)]) -> String {
        let mut pairs: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        pairs.sort();
        let base = format!("{method}&{}&{}", encoded(url), encoded(&pairs.join("&")));
        let key = format!(
            "{}&{}",
            encoded(self.consumer_secret.expose_secret()),
            encoded(self.token_secret.expose_secret())
        );
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
        BASE64_STANDARD.encode(hmac::sign(&key, base.as_bytes()))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of
    /// <https://docs.x.com/fundamentals/authentication/oauth-1-0a/creating-a-signature>.
    #[test]
    fn signatures_are_those_of_the_documentation() {
        let keys = Keys {
            consumer_key: "xvz1evFS4wEEPTGEFPHBog".into(),
            consumer_secret: "kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw".into(),
            token: "370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb".into(),
            token_secret: "LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE".into(),
        };
        let nonce = "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg";
        let mut parameters = keys.parameters(nonce, "1318622958");
        let status = "Hello Ladies + Gentlemen, a signed OAuth request!";
        parameters.extend([("status", status), ("include_entities", "true")]);
        let url = "https://api.x.com/1.1/statuses/update.json";
        assert_eq!(
            keys.signature("POST", url, &parameters),
            "Ls93hJiZbQ3akF3HF3x1Bz8/zU4="
        );
        let url = "https://api.twitter.com/1.1/statuses/update.json";
        assert_eq!(
            keys.signature("POST", url, &parameters),
            "hCtSmYh+iHYCEqBWrE7C7hYmtUk="
        );
    }

    #[test]
    fn headers_do_not_repeat_a_nonce() {
        let key = || SecretString::from("k");
        let keys = Keys {
            consumer_key: key(),
            consumer_secret: key(),
            token: key(),
            token_secret: key(),
        };
        let header = || keys.header("POST", "https://api.x.com/2/tweets", 1);
        let (first, second) = (header(), header());
        assert_ne!(first, second);
        assert!(first.starts_with("OAuth oauth_consumer_key=\"k\", oauth_nonce=\""));
    }
}
