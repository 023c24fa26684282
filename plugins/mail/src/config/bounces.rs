//! The mailbox in which bounces, complaints and answers arrive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::smtp::Protection;
use super::{Problems, Secret, is_loopback, tls_client};
use crate::tags::Tagged;

/// A mailbox to read by IMAP. It, or the folder, is for Anklang alone: all that is in it is
/// read and moved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BouncesConfig {
    /// Name or address of the IMAP server.
    #[schemars(length(min = 1, max = 255))]
    pub(super) host: String,
    /// Port; by default 993, 143 unless TLS is implicit.
    #[schemars(range(min = 1))]
    pub(super) port: Option<u16>,
    /// How the connection is protected.
    #[serde(default = "implicit")]
    pub(super) tls: Protection,
    /// Allow `tls = "none"` to other machines. Mails and password are readable on the way.
    #[serde(default)]
    pub(super) allow_plaintext: bool,
    /// User name.
    #[schemars(length(min = 1))]
    pub(super) username: String,
    /// Password. One of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub(super) password: Option<SecretString>,
    /// Environment variable with the password.
    pub(super) password_env: Option<String>,
    /// File with the password; a line break at its end does not count.
    pub(super) password_file: Option<PathBuf>,
    /// Folder to read.
    #[serde(default = "inbox")]
    #[schemars(regex(pattern = r"^[ -~]+$"))]
    pub(super) folder: String,
    /// Folder to which mails are moved once their events are committed; made if missing.
    #[serde(default = "done_folder")]
    #[schemars(regex(pattern = r"^[ -~]+$"))]
    pub(super) done_folder: String,
    /// Folder for mails that could not be read or belong to no message; made if missing.
    #[serde(default = "aside_folder")]
    #[schemars(regex(pattern = r"^[ -~]+$"))]
    pub(super) aside_folder: String,
    /// Longest time between two looks, in seconds. A server with IDLE tells at once.
    #[serde(default = "poll_seconds")]
    #[schemars(range(min = 1, max = 1500))]
    pub(super) poll_seconds: u32,
    /// Patience with each answer of the server, in seconds.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 600))]
    pub(super) timeout_seconds: u32,
    /// PEM file of a further authority to trust.
    pub(super) ca_file: Option<PathBuf>,
    /// Address for withdrawing consent by mail, with `{id}` in the place of the message's id:
    /// `abmelden+{id}@example.org`. It must end up in this mailbox; it is added to the mails'
    /// List-Unsubscribe.
    #[schemars(length(min = 1, max = 254))]
    pub(super) unsubscribe: Option<String>,
}

fn implicit() -> Protection {
    Protection::Implicit
}

fn inbox() -> String {
    "INBOX".to_owned()
}

fn done_folder() -> String {
    "Anklang-Done".to_owned()
}

fn aside_folder() -> String {
    "Anklang-Aside".to_owned()
}

fn poll_seconds() -> u32 {
    60
}

fn timeout_seconds() -> u32 {
    30
}

/// A checked configuration.
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With whom TLS is spoken, and whether only after STARTTLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) username: String,
    pub(crate) password: SecretString,
    pub(crate) folder: String,
    pub(crate) done_folder: String,
    pub(crate) aside_folder: String,
    pub(crate) poll: Duration,
    pub(crate) timeout: Duration,
    pub(crate) unsubscribe: Option<Tagged>,
}

/// How TLS begins.
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
    pub(crate) starttls: bool,
}

impl BouncesConfig {
    pub(super) async fn resolve(self, problems: &mut Problems) -> Option<Settings> {
        if self.tls == Protection::None && !self.allow_plaintext && !is_loopback(&self.host) {
            let reason = "\"none\" is for this machine alone; set allow_plaintext to send mails \
                          and password readable over the network";
            problems.add("bounces.tls", reason);
        }
        let secret = Secret {
            option: "bounces.password",
            value: &self.password,
            env: &self.password_env,
            file: &self.password_file,
        };
        if !secret.is_given() {
            problems.add("bounces.password", "is required");
        }
        let password = secret.read(problems).await;
        let folders = [&self.folder, &self.done_folder, &self.aside_folder];
        if folders[1..].contains(&folders[0]) {
            let reason = "done_folder and aside_folder are other folders than the one to read";
            problems.add("bounces.folder", reason);
        }
        let unsubscribe = self.unsubscribe.as_deref().and_then(|text| {
            Tagged::parse(text)
                .inspect_err(|reason| problems.add("bounces.unsubscribe", reason))
                .ok()
        });
        let tls = match self.tls {
            Protection::None => None,
            Protection::StartTls | Protection::Implicit => Some(self.tls(problems).await?),
        };
        let default_port = if self.tls == Protection::Implicit {
            993
        } else {
            143
        };
        Some(Settings {
            port: self.port.unwrap_or(default_port),
            tls,
            username: self.username,
            password: password?.into(),
            folder: self.folder,
            done_folder: self.done_folder,
            aside_folder: self.aside_folder,
            poll: Duration::from_secs(self.poll_seconds.max(1).into()),
            timeout: Duration::from_secs(self.timeout_seconds.max(1).into()),
            unsubscribe,
            host: self.host,
        })
    }

    async fn tls(&self, problems: &mut Problems) -> Option<Tls> {
        let config = tls_client("bounces.ca_file", self.ca_file.as_deref(), problems).await?;
        let Ok(name) = ServerName::try_from(self.host.clone()) else {
            problems.add("bounces.host", "is neither a name nor an address");
            return None;
        };
        Some(Tls {
            config,
            name,
            starttls: self.tls == Protection::StartTls,
        })
    }
}
