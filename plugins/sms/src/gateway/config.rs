//! The configuration of an account at an HTTP gateway.

use std::path::PathBuf;
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use http::HeaderName;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::address::Source;
use crate::config::{SecretSource, client_tls, invalid, is_loopback};

/// How messages are handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// Everything in the query of the URL, as all gateways of this sort take it.
    #[default]
    Get,
    /// As a form in the body, which logs of HTTP servers do not show. Kannel does not take it.
    Post,
    /// The text as the body, all else in headers (`X-Kannel-To` …), as Kannel takes it in a POST.
    Headers,
}

/// An account at an HTTP gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Where messages are handed over: `https://gateway.example.org/cgi-bin/sendsms`.
    #[schemars(length(min = 1, max = 2_000))]
    url: String,
    /// How messages are handed over.
    #[serde(default)]
    method: Method,
    /// Allow `http` to other machines. Messages and password are readable on the way.
    #[serde(default)]
    allow_plaintext: bool,
    /// PEM file of a further authority to trust.
    ca_file: Option<PathBuf>,
    /// Name of the account.
    #[schemars(length(min = 1, max = 100))]
    username: String,
    /// Password. One of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    password: Option<SecretString>,
    /// Environment variable with the password.
    password_env: Option<String>,
    /// File with the password; a line break at its end does not count.
    password_file: Option<PathBuf>,
    /// Which of the gateway's connections to use, if it has several.
    smsc: Option<String>,
    /// Sender of messages without one: a number (`+49…`), a short code or up to 11 characters.
    sender: Option<String>,
    /// Most segments of a message; longer ones are refused.
    #[serde(default = "default_max_segments")]
    #[schemars(range(min = 1, max = 255))]
    max_segments: u32,
    /// Write similar characters where that saves a text from UCS-2: `"` for `“`, `e` for `ě`.
    #[serde(default)]
    transliterate: bool,
    /// How long the gateway tries to deliver a message, in minutes; by default as long as it likes.
    #[schemars(range(min = 1, max = 525_600))]
    validity_minutes: Option<u32>,
    /// Most messages that are handed over at the same time.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1, max = 64))]
    connections: u32,
    /// Patience with the gateway's answer, in seconds.
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 1, max = 600))]
    timeout_seconds: u32,
    /// No message of a batch is begun later than so many seconds after the batch came; the others
    /// come again.
    #[serde(default = "default_begin_within_seconds")]
    #[schemars(range(min = 1, max = 600))]
    begin_within_seconds: u32,
    /// Where the gateway reaches the callbacks of this account. With it, delivery reports are asked
    /// for.
    #[schemars(length(min = 1, max = 1_000))]
    callback_url: Option<String>,
    /// What proves that a callback comes from the gateway: letters, digits, `-` and `_`, at least
    /// 16 of them. Without it all callbacks are refused. One of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    callback_token: Option<SecretString>,
    /// Environment variable with the token.
    callback_token_env: Option<String>,
    /// File with the token; a line break at its end does not count.
    callback_token_file: Option<PathBuf>,
    /// Header in which callbacks may carry the token, instead of `token` in the URL.
    #[serde(default = "default_callback_header")]
    callback_header: String,
}

fn default_max_segments() -> u32 {
    6
}

fn default_connections() -> u32 {
    8
}

fn default_timeout_seconds() -> u32 {
    30
}

fn default_begin_within_seconds() -> u32 {
    60
}

fn default_callback_header() -> String {
    "x-anklang-token".to_owned()
}

/// A checked configuration with its secrets and certificates read.
pub(crate) struct Settings {
    pub(crate) url: Url,
    pub(crate) method: Method,
    pub(crate) tls: rustls::ClientConfig,
    pub(crate) username: String,
    pub(crate) password: SecretString,
    pub(crate) smsc: Option<String>,
    pub(crate) sender: Option<String>,
    pub(crate) max_segments: usize,
    pub(crate) transliterate: bool,
    pub(crate) validity_minutes: Option<u32>,
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) begin_within: Duration,
    pub(crate) callback_url: Option<String>,
    pub(crate) callback_token: Option<SecretString>,
    pub(crate) callback_header: HeaderName,
}

impl GatewayConfig {
    /// Checks what a JSON Schema cannot say, and reads the files.
    pub(crate) async fn resolve(self) -> Result<Settings, OpenError> {
        let url = self.checked_url()?;
        let password = SecretSource {
            option: "password",
            value: &self.password,
            env: &self.password_env,
            file: &self.password_file,
        };
        let token = SecretSource {
            option: "callback_token",
            value: &self.callback_token,
            env: &self.callback_token_env,
            file: &self.callback_token_file,
        };
        let callback_token = token.read().await?;
        self.check_callbacks(callback_token.as_ref())?;
        if let Some(sender) = &self.sender
            && Source::read(sender).is_none()
        {
            return Err(invalid(
                "sender: is a number (+49…), a short code or up to 11 letters and digits",
            ));
        }
        let callback_header = HeaderName::try_from(&self.callback_header)
            .map_err(|_| invalid("callback_header: is no name of a header"))?;
        let seconds = |value: u32| Duration::from_secs(value.max(1).into());
        Ok(Settings {
            url,
            tls: client_tls(self.ca_file.as_deref()).await?,
            password: password.required().await?,
            callback_token,
            callback_header,
            timeout: seconds(self.timeout_seconds),
            begin_within: seconds(self.begin_within_seconds),
            max_segments: self.max_segments.clamp(1, 255) as usize,
            connections: self.connections.clamp(1, 64) as usize,
            method: self.method,
            username: self.username,
            smsc: self.smsc,
            sender: self.sender,
            transliterate: self.transliterate,
            validity_minutes: self.validity_minutes,
            callback_url: self.callback_url,
        })
    }

    fn checked_url(&self) -> Result<Url, OpenError> {
        let url = Url::parse(&self.url).map_err(|e| invalid(format!("url: {e}")))?;
        let host = url.host_str().unwrap_or_default();
        match url.scheme() {
            "https" => {}
            "http" if self.allow_plaintext || is_loopback(host) => {}
            "http" => {
                return Err(invalid(
                    "url: http is for this machine alone; set allow_plaintext to send messages and \
                     password readable over the network",
                ));
            }
            _ => return Err(invalid("url: begins with https:// or http://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("url: has no user and no password in it"));
        }
        Ok(url)
    }

    fn check_callbacks(&self, token: Option<&SecretString>) -> Result<(), OpenError> {
        if let Some(token) = token {
            let token = token.expose_secret();
            // It becomes part of a URL in which the gateway replaces what begins with `%`.
            let plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
            if token.len() < 16 || !token.bytes().all(plain) {
                let reason = "callback_token: is at least 16 letters, digits, - and _";
                return Err(invalid(reason));
            }
        }
        let Some(text) = &self.callback_url else {
            return Ok(());
        };
        if token.is_none() {
            return Err(invalid("callback_url: needs a callback_token"));
        }
        let url = Url::parse(text).map_err(|e| invalid(format!("callback_url: {e}")))?;
        let plain = !text.contains(['%', '#', '?']) && ["http", "https"].contains(&url.scheme());
        if !plain {
            let reason = "callback_url: is http or https, without query, fragment and `%`";
            return Err(invalid(reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refused(change: &str) -> String {
        let json = format!(
            r#"{{"username": "u", "password": "p", "url": "https://gateway.example.org/sms" {change}}}"#
        );
        // A later option of the same name would be refused: replace it.
        let json = match change.split_once("\"url\"") {
            Some(_) => format!(r#"{{"username": "u", "password": "p" {change}}}"#),
            None => json,
        };
        let config: GatewayConfig = serde_json::from_str(&json).expect("a configuration");
        match config.resolve().await {
            Err(OpenError::Invalid(reason)) => reason,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused() {
        for (change, option) in [
            (
                r#", "url": "http://gateway.example.org/""#,
                "url: http is for this machine",
            ),
            (r#", "url": "ftp://localhost/""#, "url: begins with"),
            (r#", "url": "https://u:p@localhost/""#, "url: has no user"),
            (r#", "callback_token": "short""#, "callback_token: "),
            (
                r#", "callback_token": "with%percent%signs""#,
                "callback_token: ",
            ),
            (
                r#", "callback_url": "https://a.example/""#,
                "callback_url: needs",
            ),
            (
                r#", "callback_url": "https://a.example/?a=%20", "callback_token": "0123456789abcdef""#,
                "callback_url: is http",
            ),
            (r#", "callback_header": "a b""#, "callback_header: "),
            (r#", "sender": "zu lang zu lang""#, "sender: "),
        ] {
            let reason = refused(change).await;
            assert!(reason.starts_with(option), "{reason}");
        }
    }
}
