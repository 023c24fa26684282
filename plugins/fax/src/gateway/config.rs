//! The configuration of an account at a gateway that makes faxes of mails.

use std::path::PathBuf;
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use lettre::Address;
use lettre::message::Mailbox;
use lettre::message::header::HeaderName;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::config::{PasswordOptions, invalid, is_loopback, read};
use crate::number::DialRules;

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

/// A gateway that takes mails to `number@gateway` with the document attached.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Name or address of the mail server that takes the mails: the gateway's, or one's own.
    #[schemars(length(min = 1, max = 255))]
    host: String,
    /// Port; by default 587, 465 with implicit TLS, 25 without TLS.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    tls: Protection,
    /// Allow `tls = "none"` to other machines. Faxes, PIN and password are readable on the way.
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
    /// PEM file of a further authority to trust.
    ca_file: Option<PathBuf>,
    /// How this machine introduces itself: its name, or an address in brackets.
    #[schemars(regex(pattern = r"^[A-Za-z0-9.\-]+$"))]
    helo_name: Option<String>,
    /// Patience with each step of the dialogue, in seconds; body and its answer are one step.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 1, max = 600))]
    timeout_seconds: u32,
    /// No fax of a batch is begun later than so many seconds after the batch came; the others come
    /// again.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 1, max = 600))]
    begin_within_seconds: u32,
    /// The address that the gateway knows the account by.
    #[schemars(length(min = 3, max = 254))]
    from: String,
    /// Where mails go; `{number}` becomes what `dial` makes of the number.
    #[schemars(length(min = 10, max = 254), regex(pattern = r"\{number\}"))]
    to: String,
    /// The subject: `{subject}` becomes the document's, `{pin}` the PIN.
    #[serde(default = "default_subject")]
    #[schemars(length(max = 300))]
    subject: String,
    /// What the gateway asks for in the subject or in a header. At most one of the three ways to
    /// give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pin: Option<SecretString>,
    /// Environment variable with the PIN.
    pin_env: Option<String>,
    /// File with the PIN; a line break at its end does not count.
    pin_file: Option<PathBuf>,
    /// Name of the header line that carries the PIN.
    #[schemars(regex(pattern = r"^[Xx]-[A-Za-z0-9-]{1,60}$"))]
    pin_header: Option<String>,
    /// The text of the mail; some gateways make a cover of it.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    text: String,
    /// How `{number}` is written.
    #[serde(default)]
    dial: DialRules,
    /// Most pages of a fax.
    #[serde(default = "default_max_pages")]
    #[schemars(range(min = 1, max = 500))]
    max_pages: u32,
}

fn default_seconds() -> u32 {
    60
}

fn default_subject() -> String {
    "{subject}".to_owned()
}

fn default_max_pages() -> u32 {
    20
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
    pub(crate) client_id: ClientId,
    pub(crate) patience: Duration,
    pub(crate) begin_within: Duration,
    pub(crate) from: Mailbox,
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) pin: Option<SecretString>,
    pub(crate) pin_header: Option<HeaderName>,
    pub(crate) text: String,
    pub(crate) dial: DialRules,
    pub(crate) max_pages: u32,
}

impl GatewayConfig {
    /// Checks what a JSON Schema cannot say, and reads the files.
    pub(crate) async fn resolve(self) -> Result<Settings, OpenError> {
        if self.tls == Protection::None && !self.allow_plaintext && !is_loopback(&self.host) {
            return Err(invalid(
                "tls: \"none\" is for this machine alone; set allow_plaintext to send faxes \
                 readable over the network",
            ));
        }
        self.dial.check()?;
        let (security, default_port) = match self.tls {
            Protection::None => (Security::None, 25),
            Protection::StartTls => (Security::StartTls(self.tls_parameters().await?), 587),
            Protection::Implicit => (Security::Implicit(self.tls_parameters().await?), 465),
        };
        let from: Address = self
            .from
            .parse()
            .map_err(|e| invalid(format!("from: {e}")))?;
        // The same form for every number.
        let example = self.to.replace("{number}", "495611234567");
        let address: Result<Address, _> = example.parse();
        address.map_err(|e| invalid(format!("to: {e}")))?;
        let pin = self.pin().await?;
        let pin_header = self.pin_header.as_ref().map(|name| {
            HeaderName::new_from_ascii(name.clone())
                .map_err(|_| invalid("pin_header: is not the name of a header"))
        });
        let pin_header = pin_header.transpose()?;
        Ok(Settings {
            credentials: self.credentials().await?,
            port: self.port.unwrap_or(default_port),
            client_id: self
                .helo_name
                .map_or_else(ClientId::default, ClientId::Domain),
            patience: Duration::from_secs(self.timeout_seconds.max(1).into()),
            begin_within: Duration::from_secs(self.begin_within_seconds.max(1).into()),
            host: self.host,
            security,
            from: Mailbox::new(None, from),
            to: self.to,
            subject: self.subject,
            pin,
            pin_header,
            text: self.text,
            dial: self.dial,
            max_pages: self.max_pages,
        })
    }

    async fn pin(&self) -> Result<Option<SecretString>, OpenError> {
        let options = PasswordOptions {
            value: self.pin.as_ref(),
            env: self.pin_env.as_deref(),
            file: self.pin_file.as_ref(),
        };
        let pin = options.named("pin").read().await?;
        let used = self.pin_header.is_some() || self.subject.contains("{pin}");
        match (&pin, used) {
            (Some(_), false) => Err(invalid(
                "pin: goes nowhere; name pin_header, or write {pin} into the subject",
            )),
            (None, true) => Err(invalid("pin: is asked for by pin_header or subject")),
            (Some(pin), true) if pin.expose_secret().chars().any(char::is_control) => {
                Err(invalid("pin: has more than one line"))
            }
            _ => Ok(pin),
        }
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
        let options = PasswordOptions {
            value: self.password.as_ref(),
            env: self.password_env.as_deref(),
            file: self.password_file.as_ref(),
        };
        match (&self.username, options.named("password").read().await?) {
            (Some(user), Some(password)) => Ok(Some(Credentials::new(
                user.clone(),
                password.expose_secret().to_owned(),
            ))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(invalid("username: needs a password")),
            (None, Some(_)) => Err(invalid("password: needs a username")),
        }
    }
}
