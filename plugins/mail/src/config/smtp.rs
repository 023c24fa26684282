//! The configuration of a relay account, and what is made of it when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bounces::{self, BouncesConfig};
use super::{Problems, Secret, is_loopback, read};
use crate::dkim::{DkimConfig, Signer};
use crate::tags::Tagged;

/// How the connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protection {
    /// Not at all: only to this machine, unless `allow_plaintext` is set.
    None,
    /// TLS is demanded after the greeting; a server without it is not used.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

/// A relay account.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmtpConfig {
    /// `smtp`.
    #[serde(rename = "type", default)]
    #[schemars(with = "serde_json::Value")]
    _type: IgnoredAny,
    /// Name or address of the mail server.
    #[schemars(length(min = 1, max = 255))]
    host: String,
    /// Port; by default 587, 465 with implicit TLS, 25 without TLS.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    tls: Protection,
    /// Allow `tls = "none"` to other machines. Mails and password are readable on the way.
    #[serde(default)]
    allow_plaintext: bool,
    /// User name; without it there is no login.
    #[schemars(length(min = 1))]
    username: Option<String>,
    /// Password. At most one of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    password: Option<SecretString>,
    /// Environment variable with the password.
    password_env: Option<String>,
    /// File with the password; a line break at its end does not count.
    password_file: Option<PathBuf>,
    /// Most connections at the same time.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1, max = 64))]
    connections: u32,
    /// Mails after which a connection is replaced.
    #[serde(default = "default_messages_per_connection")]
    #[schemars(range(min = 1, max = 10_000))]
    messages_per_connection: u32,
    /// Patience with each step of the dialogue, in seconds; body and its answer are one step.
    #[serde(default = "default_timeout_seconds")]
    #[schemars(range(min = 1, max = 600))]
    timeout_seconds: u32,
    /// No mail of a batch is begun later than so many seconds after the batch came; the others come
    /// again. A host loses patience with a call some day, and then has to doubt all of its mails.
    #[serde(default = "default_begin_within_seconds")]
    #[schemars(range(min = 1, max = 600))]
    begin_within_seconds: u32,
    /// PEM file of a further authority to trust.
    ca_file: Option<PathBuf>,
    /// How this machine introduces itself: its name, or an address in brackets.
    #[schemars(regex(pattern = r"^[A-Za-z0-9.\-]+$"))]
    helo_name: Option<String>,
    /// Keys with which mails are signed (DKIM): each mail by those of its sender's domain.
    #[serde(default)]
    #[schemars(length(max = 32))]
    dkim: Vec<DkimConfig>,
    /// Address to which bounces go, instead of the sender's: `bounces@example.org`, or with the
    /// message's id in the place of `{id}`: `bounces+{id}@example.org`.
    #[schemars(length(min = 1, max = 254))]
    return_path: Option<String>,
    /// Of what the server is asked to report, if it offers reports (RFC 3461).
    #[serde(default = "default_notify")]
    notify: Vec<Notify>,
    /// The mailbox in which bounces, complaints and answers arrive.
    // Not "this or null": its violations are told where they are.
    #[serde(default)]
    #[schemars(with = "BouncesConfig")]
    bounces: Option<BouncesConfig>,
}

/// Of what a server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Notify {
    /// It was delivered.
    Success,
    /// It could not be delivered.
    Failure,
    /// It is not delivered yet.
    Delay,
}

fn default_notify() -> Vec<Notify> {
    vec![Notify::Failure, Notify::Delay]
}

fn default_connections() -> u32 {
    4
}

fn default_messages_per_connection() -> u32 {
    100
}

fn default_timeout_seconds() -> u32 {
    60
}

fn default_begin_within_seconds() -> u32 {
    60
}

/// How to secure a connection.
pub(crate) enum Security {
    None,
    StartTls(TlsParameters),
    Implicit(TlsParameters),
}

/// A checked configuration with its secrets and certificates read.
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) security: Security,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) connections: usize,
    pub(crate) messages_per_connection: u32,
    pub(crate) timeout: Duration,
    pub(crate) begin_within: Duration,
    pub(crate) client_id: ClientId,
    pub(crate) notify: Vec<Notify>,
    pub(crate) signers: Vec<Signer>,
    pub(crate) return_path: Option<Tagged>,
    pub(crate) bounces: Option<bounces::Settings>,
}

impl SmtpConfig {
    pub(super) async fn resolve(mut self, problems: &mut Problems) -> Option<Settings> {
        if self.tls == Protection::None && !self.allow_plaintext && !is_loopback(&self.host) {
            let reason = "\"none\" is for this machine alone; set allow_plaintext to send mails \
                          and password readable over the network";
            problems.add("tls", reason);
        }
        let security = self.security(problems).await;
        let credentials = self.credentials(problems).await;
        let mut signers = Vec::new();
        for (index, key) in std::mem::take(&mut self.dkim).into_iter().enumerate() {
            signers.extend(key.resolve(index, problems).await);
        }
        let return_path = self.return_path.as_deref().and_then(|text| {
            Tagged::parse_untagged(text)
                .inspect_err(|reason| problems.add("return_path", reason))
                .ok()
        });
        let bounces = match self.bounces.take() {
            Some(bounces) => bounces.resolve(problems).await,
            None => None,
        };
        let default_port = match self.tls {
            Protection::None => 25,
            Protection::StartTls => 587,
            Protection::Implicit => 465,
        };
        Some(Settings {
            security: security?,
            credentials,
            port: self.port.unwrap_or(default_port),
            connections: self.connections.clamp(1, 64) as usize,
            messages_per_connection: self.messages_per_connection.max(1),
            timeout: Duration::from_secs(self.timeout_seconds.max(1).into()),
            begin_within: Duration::from_secs(self.begin_within_seconds.max(1).into()),
            client_id: self
                .helo_name
                .map_or_else(ClientId::default, ClientId::Domain),
            notify: self.notify,
            signers,
            return_path,
            bounces,
            host: self.host,
        })
    }

    async fn security(&self, problems: &mut Problems) -> Option<Security> {
        Some(match self.tls {
            Protection::None => Security::None,
            Protection::StartTls => Security::StartTls(self.tls_parameters(problems).await?),
            Protection::Implicit => Security::Implicit(self.tls_parameters(problems).await?),
        })
    }

    async fn tls_parameters(&self, problems: &mut Problems) -> Option<TlsParameters> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.ca_file {
            let pem = read("ca_file", path, problems).await?;
            let Ok(certificate) = Certificate::from_pem(&pem) else {
                problems.add("ca_file", format!("{} is not PEM", path.display()));
                return None;
            };
            builder = builder.add_root_certificate(certificate);
        }
        builder
            .build()
            .inspect_err(|error| problems.fail(format!("TLS: {error}")))
            .ok()
    }

    async fn credentials(&self, problems: &mut Problems) -> Option<Credentials> {
        let secret = Secret {
            option: "password",
            value: &self.password,
            env: &self.password_env,
            file: &self.password_file,
        };
        match &self.username {
            None if secret.is_given() => problems.add("password", "needs a username"),
            Some(_) if !secret.is_given() => problems.add("username", "needs a password"),
            _ => {}
        }
        let password = secret.read(problems).await?;
        let user = self.username.clone()?;
        Some(Credentials::new(user, password))
    }
}

#[cfg(test)]
mod tests {
    use anklang_plugin_sdk::OpenError;

    use super::*;

    fn config(host: &str) -> SmtpConfig {
        SmtpConfig {
            _type: IgnoredAny,
            host: host.to_owned(),
            port: None,
            tls: Protection::None,
            allow_plaintext: false,
            username: None,
            password: None,
            password_env: None,
            password_file: None,
            connections: 4,
            messages_per_connection: 100,
            begin_within_seconds: 60,
            timeout_seconds: 60,
            ca_file: None,
            helo_name: None,
            dkim: Vec::new(),
            return_path: None,
            notify: default_notify(),
            bounces: None,
        }
    }

    async fn resolved(config: SmtpConfig) -> Result<Settings, OpenError> {
        let mut problems = Problems::default();
        let settings = config.resolve(&mut problems).await;
        problems.end(settings)
    }

    async fn refused(config: SmtpConfig) -> String {
        match resolved(config).await {
            Err(OpenError::Invalid(reason)) => reason,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[tokio::test]
    async fn plaintext_is_for_this_machine() {
        assert!(
            refused(config("mail.example.org"))
                .await
                .starts_with("tls: ")
        );
        assert!(refused(config("10.0.0.1")).await.starts_with("tls: "));
        for host in ["localhost", "127.0.0.1", "127.8.9.1", "::1"] {
            assert_eq!(resolved(config(host)).await.ok().map(|s| s.port), Some(25));
        }
        let mut allowed = config("mail.example.org");
        allowed.allow_plaintext = true;
        assert!(resolved(allowed).await.is_ok());
    }

    #[tokio::test]
    async fn one_password_with_a_user() {
        let mut both = config("localhost");
        both.username = Some("u".to_owned());
        both.password = Some("geheim".into());
        both.password_env = Some("PATH".to_owned());
        assert!(!format!("{both:?}").contains("geheim"));
        assert!(refused(both).await.starts_with("password: give one of"));
        let mut nobody = config("localhost");
        nobody.password = Some("geheim".into());
        assert_eq!(refused(nobody).await, "password: needs a username");
        let mut missing = config("localhost");
        missing.username = Some("u".to_owned());
        missing.password_file = Some("/nonexistent/password".into());
        assert!(
            refused(missing)
                .await
                .starts_with("password_file: /nonexistent")
        );
    }

    #[tokio::test]
    async fn all_that_is_wrong_is_told_at_once() {
        let mut wrong = config("mail.example.org");
        wrong.username = Some("u".to_owned());
        wrong.return_path = Some("bounces".to_owned());
        wrong.bounces = serde_json::from_value(serde_json::json!({
            "host": "imap.example.org", "tls": "none", "username": "u", "folder": "Anklang-Done",
            "unsubscribe": "abmelden@example.org",
        }))
        .ok();
        wrong.dkim = serde_json::from_value(serde_json::json!([
            { "domain": "example.org", "selector": "a", "key": "kein PEM" },
            { "domain": "example.org", "selector": "b" },
        ]))
        .expect("fits the type");
        let said = refused(wrong).await;
        let options: Vec<_> = said
            .split("; ")
            .filter_map(|part| part.split_once(": "))
            .map(|(option, _)| option)
            .collect();
        let expected = [
            "tls",
            "username",
            "dkim.0.key",
            "dkim.1.key",
            "return_path",
            "bounces.tls",
            "bounces.password",
            "bounces.folder",
            "bounces.unsubscribe",
        ];
        assert_eq!(options.len(), expected.len(), "{said}");
        assert_eq!(options, expected);
    }
}
