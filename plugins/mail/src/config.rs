//! The configuration of a relay account, and what is made of it when it is opened.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

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
pub(crate) struct Config {
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
}

impl Config {
    /// Checks what a JSON Schema cannot say, and reads the files.
    pub(crate) async fn resolve(self) -> Result<Settings, OpenError> {
        if self.tls == Protection::None && !self.allow_plaintext && !is_loopback(&self.host) {
            return Err(invalid(
                "tls: \"none\" is for this machine alone; set allow_plaintext to send mails and \
                 password readable over the network",
            ));
        }
        let security = match self.tls {
            Protection::None => Security::None,
            Protection::StartTls => Security::StartTls(self.tls_parameters().await?),
            Protection::Implicit => Security::Implicit(self.tls_parameters().await?),
        };
        let default_port = match self.tls {
            Protection::None => 25,
            Protection::StartTls => 587,
            Protection::Implicit => 465,
        };
        Ok(Settings {
            security,
            credentials: self.credentials().await?,
            port: self.port.unwrap_or(default_port),
            connections: self.connections.clamp(1, 64) as usize,
            messages_per_connection: self.messages_per_connection.max(1),
            timeout: Duration::from_secs(self.timeout_seconds.max(1).into()),
            begin_within: Duration::from_secs(self.begin_within_seconds.max(1).into()),
            client_id: self
                .helo_name
                .map_or_else(ClientId::default, ClientId::Domain),
            host: self.host,
        })
    }

    async fn tls_parameters(&self) -> Result<TlsParameters, OpenError> {
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Some(path) = &self.ca_file {
            let pem = read("ca_file", path).await?;
            let certificate = Certificate::from_pem(&pem)
                .map_err(|_| invalid(format!("ca_file: {} is not PEM", path.display())))?;
            builder = builder.add_root_certificate(certificate);
        }
        builder
            .build()
            .map_err(|e| OpenError::Failed(format!("TLS: {e}")))
    }

    async fn credentials(&self) -> Result<Option<Credentials>, OpenError> {
        let password = match (&self.password, &self.password_env, &self.password_file) {
            (None, None, None) => None,
            (Some(password), None, None) => Some(password.expose_secret().to_owned()),
            (None, Some(name), None) => Some(std::env::var(name).map_err(|_| {
                invalid(format!(
                    "password_env: {name} is not set in the environment"
                ))
            })?),
            (None, None, Some(path)) => {
                let bytes = read("password_file", path).await?;
                let text =
                    String::from_utf8(bytes).map_err(|_| invalid("password_file: is not UTF-8"))?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            _ => {
                return Err(invalid(
                    "give one of password, password_env and password_file",
                ));
            }
        };
        match (&self.username, password) {
            (Some(user), Some(password)) => Ok(Some(Credentials::new(user.clone(), password))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(invalid("username: needs a password")),
            (None, Some(_)) => Err(invalid("password: needs a username")),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn read(option: &str, path: &Path) -> Result<Vec<u8>, OpenError> {
    tokio::fs::read(path)
        .await
        .map_err(|e| invalid(format!("{option}: {}: {e}", path.display())))
}

fn invalid(reason: impl Into<String>) -> OpenError {
    OpenError::Invalid(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str) -> Config {
        Config {
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
        }
    }

    async fn refused(config: Config) -> String {
        match config.resolve().await {
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
            assert_eq!(config(host).resolve().await.ok().map(|s| s.port), Some(25));
        }
        let mut allowed = config("mail.example.org");
        allowed.allow_plaintext = true;
        assert!(allowed.resolve().await.is_ok());
    }

    #[tokio::test]
    async fn one_password_with_a_user() {
        let mut both = config("localhost");
        both.username = Some("u".to_owned());
        both.password = Some("geheim".into());
        both.password_env = Some("PATH".to_owned());
        assert!(!format!("{both:?}").contains("geheim"));
        assert!(refused(both).await.starts_with("give one of"));
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
}
