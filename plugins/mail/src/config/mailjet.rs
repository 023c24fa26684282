//! An account at Mailjet.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Problems, Secret, is_loopback, tls_client};

/// An account at Mailjet, used through its Send API v3.1.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MailjetConfig {
    /// `mailjet`.
    #[serde(rename = "type")]
    #[schemars(with = "serde_json::Value")]
    _type: IgnoredAny,
    /// The account's API key.
    #[schemars(length(min = 1))]
    api_key: String,
    /// The secret key that belongs to it. One of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    secret_key: Option<SecretString>,
    /// Environment variable with the secret key.
    secret_key_env: Option<String>,
    /// File with the secret key; a line break at its end does not count.
    secret_key_file: Option<PathBuf>,
    /// Where the API is; `https`, but to this machine.
    #[serde(default = "base_url")]
    base_url: String,
    /// Have mails checked, but not sent.
    #[serde(default)]
    sandbox: bool,
    /// Whether opening is tracked; without it as the account says. Mails with HTML alone.
    track_opens: Option<bool>,
    /// Whether links are tracked; without it as the account says. Mails with HTML alone.
    track_clicks: Option<bool>,
    /// Patience with a call, in seconds.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 280))]
    timeout_seconds: u32,
    /// PEM file of a further authority to trust.
    ca_file: Option<PathBuf>,
    /// How Mailjet's events prove where they come from; without it all are refused.
    // Not "this or null": its violations are told where they are.
    #[serde(default)]
    #[schemars(with = "WebhookConfig")]
    webhook: Option<WebhookConfig>,
}

/// What is written into the URL that Mailjet calls: user and password, a token, or both; what is
/// given is demanded.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebhookConfig {
    /// User name: `https://user:password@…`.
    #[schemars(length(min = 1))]
    username: Option<String>,
    /// Password. At most one of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    password: Option<SecretString>,
    /// Environment variable with the password.
    password_env: Option<String>,
    /// File with the password; a line break at its end does not count.
    password_file: Option<PathBuf>,
    /// Token: `…?token=…`. At most one of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    token: Option<SecretString>,
    /// Environment variable with the token.
    token_env: Option<String>,
    /// File with the token; a line break at its end does not count.
    token_file: Option<PathBuf>,
}

fn base_url() -> String {
    "https://api.mailjet.com".to_owned()
}

fn timeout_seconds() -> u32 {
    60
}

/// A checked configuration.
pub(crate) struct Settings {
    pub(crate) api_key: String,
    pub(crate) secret_key: SecretString,
    /// Without a slash at its end.
    pub(crate) base_url: String,
    pub(crate) sandbox: bool,
    pub(crate) track_opens: Option<bool>,
    pub(crate) track_clicks: Option<bool>,
    pub(crate) timeout: Duration,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) webhook: Option<WebhookSettings>,
}

/// What a request of Mailjet must show; at least one of both.
pub(crate) struct WebhookSettings {
    /// `user:password`.
    pub(crate) basic: Option<SecretString>,
    pub(crate) token: Option<SecretString>,
}

impl MailjetConfig {
    pub(super) async fn resolve(self, problems: &mut Problems) -> Option<Settings> {
        let secret = Secret {
            option: "secret_key",
            value: &self.secret_key,
            env: &self.secret_key_env,
            file: &self.secret_key_file,
        };
        if !secret.is_given() {
            problems.add("secret_key", "is required");
        }
        let secret_key = secret.read(problems).await;
        if self.api_key.contains(':') || !self.api_key.bytes().all(|b| b.is_ascii_graphic()) {
            problems.add("api_key", "is no API key");
        }
        let base_url = self.base_url.trim_end_matches('/').to_owned();
        if let Err(reason) = check_url(&base_url) {
            problems.add("base_url", reason);
        }
        let webhook = match self.webhook {
            None => None,
            Some(webhook) => webhook.resolve(problems).await,
        };
        let tls = tls_client("ca_file", self.ca_file.as_deref(), problems).await;
        Some(Settings {
            api_key: self.api_key,
            secret_key: secret_key?.into(),
            base_url,
            sandbox: self.sandbox,
            track_opens: self.track_opens,
            track_clicks: self.track_clicks,
            timeout: Duration::from_secs(self.timeout_seconds.max(1).into()),
            tls: tls?,
            webhook,
        })
    }
}

fn check_url(text: &str) -> Result<(), &'static str> {
    let url: Uri = text.parse().map_err(|_| "is no URL")?;
    let (Some(scheme), Some(host)) = (url.scheme_str(), url.host()) else {
        return Err("is no URL with a host");
    };
    if url.query().is_some() || !matches!(url.path(), "" | "/") {
        return Err("has a path or a query");
    }
    match scheme {
        "https" => Ok(()),
        "http" if is_loopback(host) => Ok(()),
        _ => Err("is not https"),
    }
}

impl WebhookConfig {
    async fn resolve(self, problems: &mut Problems) -> Option<WebhookSettings> {
        let password = Secret {
            option: "webhook.password",
            value: &self.password,
            env: &self.password_env,
            file: &self.password_file,
        };
        let token = Secret {
            option: "webhook.token",
            value: &self.token,
            env: &self.token_env,
            file: &self.token_file,
        };
        if !password.is_given() && !token.is_given() {
            problems.add("webhook", "needs a password or a token");
        }
        match &self.username {
            Some(_) if !password.is_given() => {
                problems.add("webhook.username", "needs a password");
            }
            Some(name) if name.contains(':') => {
                problems.add("webhook.username", "has a colon");
            }
            None if password.is_given() => {
                problems.add("webhook.password", "needs a username");
            }
            _ => {}
        }
        let (given, token_given) = (password.is_given(), token.is_given());
        let password = password.read(problems).await;
        let token = token.read(problems).await;
        for (option, given, value) in [
            ("webhook.password", given, &password),
            ("webhook.token", token_given, &token),
        ] {
            if given && value.as_ref().is_some_and(String::is_empty) {
                problems.add(option, "is empty");
            }
        }
        let basic = self
            .username
            .zip(password)
            .map(|(user, password)| format!("{user}:{password}").into());
        Some(WebhookSettings {
            basic,
            token: token.map(SecretString::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_reached_by_https() {
        for good in [
            "https://api.mailjet.com",
            "http://127.0.0.1:80",
            "http://localhost:8025",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "http://api.mailjet.com",
            "https://api.mailjet.com/v3.1",
            "https://api.mailjet.com?x=1",
            "ftp://127.0.0.1",
            "api.mailjet.com",
            "",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
    }
}
