//! The configuration of an account at a HylaFAX server.

use std::path::PathBuf;
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::config::{PasswordOptions, invalid, is_loopback};
use crate::document::{ConvertOptions, Converter};
use crate::number::DialRules;
use crate::tiff::Resolution;

/// An account at a HylaFAX server (hfaxd).
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HylafaxConfig {
    /// Name or address of the server.
    #[schemars(length(min = 1, max = 255))]
    host: String,
    /// Port of the client protocol.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1))]
    port: u16,
    /// Allow a server on another machine. The protocol has no encryption: faxes and password are
    /// readable on the way.
    #[serde(default)]
    allow_plaintext: bool,
    /// User name. Only jobs of this user are looked at.
    #[schemars(length(min = 1, max = 60), regex(pattern = r"^[!-~]+$"))]
    username: String,
    /// Password, if the server asks for one. At most one of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    password: Option<SecretString>,
    /// Environment variable with the password.
    password_env: Option<String>,
    /// File with the password; a line break at its end does not count.
    password_file: Option<PathBuf>,
    /// Administrator's password, where jobs of this user need it. At most one of the three ways.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    admin_password: Option<SecretString>,
    /// Environment variable with the administrator's password.
    admin_password_env: Option<String>,
    /// File with the administrator's password.
    admin_password_file: Option<PathBuf>,
    /// Most connections for submitting at the same time.
    #[serde(default = "default_connections")]
    #[schemars(range(min = 1, max = 16))]
    connections: u32,
    /// Patience with each step of the dialogue, in seconds.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 1, max = 600))]
    timeout_seconds: u32,
    /// No fax of a batch is begun later than so many seconds after the batch came; the others come
    /// again.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 1, max = 600))]
    begin_within_seconds: u32,
    /// How numbers are dialled.
    #[serde(default)]
    dial: DialRules,
    /// How documents are made ready.
    #[serde(default)]
    convert: ConvertOptions,
    /// Lines per inch of documents that are drawn here.
    #[serde(default)]
    resolution: Resolution,
    /// Most pages of a fax.
    #[serde(default = "default_max_pages")]
    #[schemars(range(min = 1, max = 500))]
    max_pages: u32,
    /// Modem or class of modems; by default any.
    #[schemars(length(min = 1, max = 60), regex(pattern = r"^[!-~]+$"))]
    modem: Option<String>,
    /// Our own number or name, as the other side shows it (TSI): up to 20 of + 0–9 A–Z and space. By
    /// default the number of the message's sender. The server must be told to use it (UseJobTSI).
    #[schemars(length(max = 20), regex(pattern = r"^[+0-9A-Za-z .-]*$"))]
    sender_id: Option<String>,
    /// How often the server dials before it gives up.
    #[serde(default = "default_max_dials")]
    #[schemars(range(min = 1, max = 100))]
    max_dials: u32,
    /// How often the server tries to send the pages, once somebody answered, before it gives up.
    #[serde(default = "default_max_tries")]
    #[schemars(range(min = 1, max = 100))]
    max_tries: u32,
    /// How long the server tries at all, in minutes.
    #[serde(default = "default_give_up")]
    #[schemars(range(min = 1, max = 10_080))]
    give_up_after_minutes: u32,
    /// Where the server mails to when a job is done; by default it mails to nobody.
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^[!-~]+$"))]
    notify_address: Option<String>,
    /// How often finished jobs are looked at, in seconds.
    #[serde(default = "default_poll")]
    #[schemars(range(min = 1, max = 600))]
    poll_seconds: u32,
    /// Jobs that finished so many hours ago are still told of after a restart.
    #[serde(default = "default_report")]
    #[schemars(range(min = 1, max = 720))]
    report_hours: u32,
    /// How long the server keeps finished jobs at least, in minutes (`faxqclean -j`). Only a
    /// message that is younger, and that no job carries, was certainly never submitted.
    #[serde(default = "default_kept")]
    #[schemars(range(min = 1, max = 43_200))]
    done_kept_minutes: u32,
    /// For so many seconds after opening, and after a submission broke off, a message that no job
    /// carries counts as unknown: the server may still be reading what it was sent.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    unsure_seconds: u32,
}

fn default_port() -> u16 {
    4559
}

fn default_connections() -> u32 {
    2
}

fn default_seconds() -> u32 {
    60
}

fn default_max_pages() -> u32 {
    20
}

fn default_max_dials() -> u32 {
    6
}

fn default_max_tries() -> u32 {
    3
}

fn default_give_up() -> u32 {
    180
}

fn default_poll() -> u32 {
    15
}

fn default_report() -> u32 {
    24
}

/// What faxqclean does when it is not told otherwise.
fn default_kept() -> u32 {
    15
}

/// A checked configuration with its secrets read.
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) username: String,
    pub(crate) password: Option<SecretString>,
    pub(crate) admin_password: Option<SecretString>,
    pub(crate) connections: usize,
    pub(crate) patience: Duration,
    pub(crate) begin_within: Duration,
    pub(crate) dial: DialRules,
    pub(crate) modem: Option<String>,
    pub(crate) sender_id: Option<String>,
    pub(crate) max_dials: u32,
    pub(crate) max_tries: u32,
    pub(crate) give_up_after_minutes: u32,
    pub(crate) notify_address: Option<String>,
    pub(crate) poll: Duration,
    pub(crate) report: Duration,
    pub(crate) done_kept: Duration,
    pub(crate) unsure: Duration,
}

impl HylafaxConfig {
    /// Checks what a JSON Schema cannot say, and reads the files.
    pub(crate) async fn resolve(self) -> Result<(Settings, Converter), OpenError> {
        if !self.allow_plaintext && !is_loopback(&self.host) {
            return Err(invalid(
                "host: the protocol of HylaFAX has no encryption; set allow_plaintext to send \
                 faxes and password readable over the network",
            ));
        }
        self.dial.check()?;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let minutes = |minutes: u32| Duration::from_secs(u64::from(minutes) * 60);
        let password = PasswordOptions {
            value: self.password.as_ref(),
            env: self.password_env.as_deref(),
            file: self.password_file.as_ref(),
        };
        let admin_password = PasswordOptions {
            value: self.admin_password.as_ref(),
            env: self.admin_password_env.as_deref(),
            file: self.admin_password_file.as_ref(),
        };
        let settings = Settings {
            password: password.named("password").read().await?,
            admin_password: admin_password.named("admin_password").read().await?,
            host: self.host,
            port: self.port,
            username: self.username,
            connections: self.connections.clamp(1, 16) as usize,
            patience: seconds(self.timeout_seconds.max(1)),
            begin_within: seconds(self.begin_within_seconds.max(1)),
            dial: self.dial,
            modem: self.modem,
            sender_id: self.sender_id,
            max_dials: self.max_dials,
            max_tries: self.max_tries,
            give_up_after_minutes: self.give_up_after_minutes,
            notify_address: self.notify_address,
            poll: seconds(self.poll_seconds.max(1)),
            report: minutes(self.report_hours.saturating_mul(60)),
            done_kept: minutes(self.done_kept_minutes),
            unsure: seconds(self.unsure_seconds),
        };
        let converter = Converter::new(self.convert, self.resolution, self.max_pages);
        Ok((settings, converter))
    }
}
