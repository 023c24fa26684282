//! What the configurations of all networks have in common.

use std::path::PathBuf;
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use crate::{facebook, mastodon, matrix, telegram, whatsapp, x};

/// An account of a network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "network", rename_all = "lowercase")]
pub(crate) enum Config {
    /// A user of a Matrix homeserver.
    Matrix(matrix::Config),
    /// A user of a Mastodon server, or of one with the same API.
    Mastodon(mastodon::Config),
    /// A Telegram bot.
    Telegram(telegram::Config),
    /// A phone number of the WhatsApp Business Platform (Cloud API).
    WhatsApp(whatsapp::Config),
    /// A Facebook page with its Messenger.
    Facebook(facebook::Config),
    /// A user of X.
    X(x::Config),
}

/// What an account is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Serves {
    /// All that its network can do.
    #[default]
    Both,
    /// Public posts alone.
    Posts,
    /// Messages to single people alone.
    Messages,
}

/// How the network is called.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Connection {
    /// Patience with each call, in seconds.
    #[schemars(range(min = 1, max = 90))]
    timeout_seconds: u32,
    /// Most messages that are handed over at the same time.
    #[schemars(range(min = 1, max = 64))]
    at_once: u32,
    /// No message of a batch is begun later than so many seconds after the batch came; the others
    /// come again.
    #[schemars(range(min = 1, max = 120))]
    begin_within_seconds: u32,
    /// PEM file of a further authority to trust.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            timeout_seconds: 30,
            at_once: 4,
            begin_within_seconds: 60,
            ca_file: None,
        }
    }
}

impl Connection {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.clamp(1, 90).into())
    }

    pub(crate) fn at_once(&self) -> usize {
        self.at_once.clamp(1, 64) as usize
    }

    pub(crate) fn begin_within(&self) -> Duration {
        Duration::from_secs(self.begin_within_seconds.clamp(1, 120).into())
    }
}

/// A secret: itself, or where it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(extend("writeOnly" = true))]
pub(crate) enum Secret {
    /// The secret itself.
    Plain(#[schemars(with = "String")] SecretString),
    /// In a variable of the environment.
    Env(InEnv),
    /// In a file.
    File(InFile),
}

/// A secret in a variable of the environment.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InEnv {
    /// The name of the variable.
    env: String,
}

/// A secret in a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InFile {
    /// The file; a line break at its end does not count.
    file: PathBuf,
}

impl Secret {
    /// The secret of this option, which must be one word of visible ASCII.
    pub(crate) async fn read(&self, option: &str) -> Result<SecretString, OpenError> {
        let wrong = |why: &dyn std::fmt::Display| invalid(format!("{option}: {why}"));
        let text = match self {
            Self::Plain(text) => text.expose_secret().to_owned(),
            Self::Env(InEnv { env }) => std::env::var(env)
                .map_err(|_| wrong(&format!("{env} is not set in the environment")))?,
            Self::File(InFile { file }) => tokio::fs::read_to_string(file)
                .await
                .map_err(|e| wrong(&format!("{}: {e}", file.display())))?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
        };
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(wrong(&"must be one word of visible ASCII characters"));
        }
        Ok(text.into())
    }
}

/// The secret of an option that may be missing.
pub(crate) async fn read_optional(
    secret: Option<&Secret>,
    option: &str,
) -> Result<Option<SecretString>, OpenError> {
    match secret {
        Some(secret) => secret.read(option).await.map(Some),
        None => Ok(None),
    }
}

/// Checks an address that calls begin with: https, or http to this machine alone. Returns it
/// without a slash at its end.
pub(crate) fn base_url(text: &str) -> Result<String, OpenError> {
    let wrong = |why: &str| Err(invalid(format!("base_url: {why}")));
    let Ok(url) = Url::parse(text) else {
        return wrong("must be an address such as https://example.org");
    };
    let here = match url.host() {
        None => return wrong("must have a host"),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if here => {}
        _ => return wrong("must be https; http is for this machine alone"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("must not have a user or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("must not have a query or fragment");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

pub(crate) fn invalid(reason: impl Into<String>) -> OpenError {
    OpenError::Invalid(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_this_machine_alone() {
        for good in [
            "https://matrix.example.org",
            "https://example.org:8448/base/",
            "http://127.0.0.1:8008",
            "http://[::1]:1/",
            "http://localhost:1",
        ] {
            let base = base_url(good).expect(good);
            assert!(!base.ends_with('/'), "{base}");
        }
        for bad in [
            "",
            "example.org",
            "http://example.org",
            "http://10.0.0.1",
            "http://127.0.0.1.example.org",
            "ftp://localhost",
            "https://user@example.org",
            "https://:secret@example.org",
            "https://example.org/?a=b",
            "https://example.org/#a",
        ] {
            match base_url(bad) {
                Err(OpenError::Invalid(reason)) => assert!(reason.starts_with("base_url: ")),
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn secrets_are_one_word() {
        let read = async |secret: Secret| secret.read("token").await;
        assert!(read(Secret::Plain("a:b-c".into())).await.is_ok());
        for bad in ["", "a b", "a\nb", "ä"] {
            assert!(read(Secret::Plain(bad.into())).await.is_err(), "{bad:?}");
        }
        let env = "NO_SUCH_VARIABLE".to_owned();
        let missing = read(Secret::Env(InEnv { env })).await;
        assert!(matches!(missing, Err(OpenError::Invalid(r)) if r.starts_with("token: NO_SUCH")));
        let file = "/nonexistent/secret".into();
        let missing = read(Secret::File(InFile { file })).await;
        assert!(matches!(missing, Err(OpenError::Invalid(r)) if r.starts_with("token: /nonex")));
    }
}
