//! The configuration of an account at a short message centre.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anklang_plugin_sdk::OpenError;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::address::Source;
use crate::config::{SecretSource, client_tls, invalid, is_loopback};

/// How the connection is protected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protection {
    /// Not at all: only to this machine, unless `allow_plaintext` is set.
    None,
    /// TLS from the first byte.
    #[default]
    Implicit,
}

/// How the account is bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Binding {
    /// One session for both directions.
    #[default]
    Transceiver,
    /// A session for sending, another for receipts and what comes in.
    Separate,
    /// A session for sending alone: neither receipts nor what comes in.
    Transmitter,
}

/// How a text that needs several segments is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LongMessages {
    /// As several messages, each with a user data header.
    #[default]
    Udh,
    /// As several messages with the optional parameters sar_*; the centre writes the headers.
    Sar,
    /// As one message with the optional parameter message_payload; the centre divides it.
    Payload,
}

/// How centres write the ids of messages that write them differently in receipts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MessageIds {
    /// The same in both.
    #[default]
    Same,
    /// Hexadecimal when the message is taken, decimal in receipts.
    HexInResponses,
    /// Decimal when the message is taken, hexadecimal in receipts.
    HexInReceipts,
}

/// What the centre means by data coding 0 in what comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DefaultAlphabet {
    /// The GSM 7-bit alphabet, an octet for each septet.
    #[default]
    Gsm7,
    /// ISO 8859-1.
    Latin1,
}

/// An account at a short message centre.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmppConfig {
    /// Name or address of the centre.
    #[schemars(length(min = 1, max = 255))]
    host: String,
    /// Port; by default 3550, 2775 without TLS.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// How the connection is protected.
    #[serde(default)]
    tls: Protection,
    /// Allow `tls = "none"` to other machines. Messages and password are readable on the way.
    #[serde(default)]
    allow_plaintext: bool,
    /// PEM file of a further authority to trust.
    ca_file: Option<PathBuf>,
    /// Name of the account.
    #[schemars(length(min = 1, max = 15))]
    system_id: String,
    /// Password, at most 8 characters. One of the three ways to give it.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    password: Option<SecretString>,
    /// Environment variable with the password.
    password_env: Option<String>,
    /// File with the password; a line break at its end does not count.
    password_file: Option<PathBuf>,
    /// Type of this system, if the centre wants one.
    #[serde(default)]
    #[schemars(length(max = 12))]
    system_type: String,
    /// Addresses that this account serves, if the centre wants them.
    #[serde(default)]
    #[schemars(length(max = 40))]
    address_range: String,
    /// Type of service, if the centre wants one.
    #[serde(default)]
    #[schemars(length(max = 5))]
    service_type: String,
    /// How the account is bound.
    #[serde(default)]
    bind: Binding,
    /// Most messages that wait for the centre's answer at the same time.
    #[serde(default = "default_window")]
    #[schemars(range(min = 1, max = 1_000))]
    window: u32,
    /// Patience with each answer of the centre, in seconds.
    #[serde(default = "default_response_timeout_seconds")]
    #[schemars(range(min = 1, max = 600))]
    response_timeout_seconds: u32,
    /// Seconds without a word from the centre after which it is asked whether it is there.
    #[serde(default = "default_enquire_link_seconds")]
    #[schemars(range(min = 1, max = 3_600))]
    enquire_link_seconds: u32,
    /// No message of a batch is begun later than so many seconds after the batch came; the others
    /// come again.
    #[serde(default = "default_begin_within_seconds")]
    #[schemars(range(min = 1, max = 600))]
    begin_within_seconds: u32,
    /// How long the account rests when the centre says that it is too fast, in seconds.
    #[serde(default = "default_throttled_seconds")]
    #[schemars(range(min = 1, max = 300))]
    throttled_seconds: u32,
    /// Sender of messages without one: a number (`+49…`), a short code or up to 11 characters.
    sender: Option<String>,
    /// Type of number of all senders, if the centre wants another than what follows from them.
    source_ton: Option<u8>,
    /// Numbering plan of all senders, if the centre wants another than what follows from them.
    source_npi: Option<u8>,
    /// Most segments of a message; longer ones are refused.
    #[serde(default = "default_max_segments")]
    #[schemars(range(min = 1, max = 255))]
    max_segments: u32,
    /// How a text that needs several segments is sent.
    #[serde(default)]
    long_messages: LongMessages,
    /// Write similar characters where that saves a text from UCS-2: `"` for `“`, `e` for `ě`.
    #[serde(default)]
    transliterate: bool,
    /// Ask for delivery receipts.
    #[serde(default = "default_receipts")]
    receipts: bool,
    /// How long the centre tries to deliver a message, in minutes; by default as long as it likes.
    #[schemars(range(min = 1, max = 525_600))]
    validity_minutes: Option<u32>,
    /// How the centre writes the ids of messages.
    #[serde(default)]
    message_ids: MessageIds,
    /// What the centre means by data coding 0 in what comes in.
    #[serde(default)]
    default_alphabet: DefaultAlphabet,
    /// Minutes that the centre's clock in receipts is ahead of UTC.
    #[serde(default)]
    #[schemars(range(min = -720, max = 840))]
    receipt_utc_offset_minutes: i32,
}

fn default_window() -> u32 {
    10
}

fn default_response_timeout_seconds() -> u32 {
    30
}

fn default_enquire_link_seconds() -> u32 {
    30
}

fn default_begin_within_seconds() -> u32 {
    60
}

fn default_throttled_seconds() -> u32 {
    5
}

fn default_max_segments() -> u32 {
    6
}

fn default_receipts() -> bool {
    true
}

/// A checked configuration with its secrets and certificates read.
pub(crate) struct Settings {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    pub(crate) system_id: String,
    pub(crate) password: SecretString,
    pub(crate) system_type: String,
    pub(crate) address_range: String,
    pub(crate) service_type: String,
    pub(crate) binding: Binding,
    pub(crate) window: usize,
    pub(crate) response_timeout: Duration,
    pub(crate) enquire_link: Duration,
    pub(crate) begin_within: Duration,
    pub(crate) throttled: Duration,
    pub(crate) sender: Option<String>,
    pub(crate) source_ton: Option<u8>,
    pub(crate) source_npi: Option<u8>,
    pub(crate) max_segments: usize,
    pub(crate) long_messages: LongMessages,
    pub(crate) transliterate: bool,
    pub(crate) receipts: bool,
    pub(crate) validity_minutes: Option<u32>,
    pub(crate) message_ids: MessageIds,
    pub(crate) default_alphabet: DefaultAlphabet,
    pub(crate) receipt_utc_offset: i32,
}

impl SmppConfig {
    /// Checks what a JSON Schema cannot say, and reads the files.
    pub(crate) async fn resolve(self) -> Result<Settings, OpenError> {
        self.check()?;
        let source = SecretSource {
            option: "password",
            value: &self.password,
            env: &self.password_env,
            file: &self.password_file,
        };
        let password = source.required().await?;
        let text = password.expose_secret();
        if text.len() > 8 || !is_printable(text) {
            return Err(invalid("password: has at most 8 characters, all ASCII"));
        }
        let (tls, default_port) = match self.tls {
            Protection::None => (None, 2775),
            Protection::Implicit => {
                let name = ServerName::try_from(self.host.clone())
                    .map_err(|_| invalid("host: is no name that a certificate can carry"))?;
                let config = client_tls(self.ca_file.as_deref()).await?;
                (Some((Arc::new(config), name)), 3550)
            }
        };
        let seconds = |value: u32| Duration::from_secs(value.max(1).into());
        Ok(Settings {
            port: self.port.unwrap_or(default_port),
            tls,
            password,
            window: self.window.max(1) as usize,
            response_timeout: seconds(self.response_timeout_seconds),
            enquire_link: seconds(self.enquire_link_seconds),
            begin_within: seconds(self.begin_within_seconds),
            throttled: seconds(self.throttled_seconds),
            max_segments: self.max_segments.clamp(1, 255) as usize,
            host: self.host,
            system_id: self.system_id,
            system_type: self.system_type,
            address_range: self.address_range,
            service_type: self.service_type,
            binding: self.bind,
            sender: self.sender,
            source_ton: self.source_ton,
            source_npi: self.source_npi,
            long_messages: self.long_messages,
            transliterate: self.transliterate,
            receipts: self.receipts,
            validity_minutes: self.validity_minutes,
            message_ids: self.message_ids,
            default_alphabet: self.default_alphabet,
            receipt_utc_offset: self.receipt_utc_offset_minutes,
        })
    }

    fn check(&self) -> Result<(), OpenError> {
        if self.tls == Protection::None && !self.allow_plaintext && !is_loopback(&self.host) {
            return Err(invalid(
                "tls: \"none\" is for this machine alone; set allow_plaintext to send messages and \
                 password readable over the network",
            ));
        }
        for (option, text) in [
            ("system_id", &self.system_id),
            ("system_type", &self.system_type),
            ("address_range", &self.address_range),
            ("service_type", &self.service_type),
        ] {
            if !is_printable(text) {
                return Err(invalid(format!("{option}: is ASCII")));
            }
        }
        if let Some(sender) = &self.sender
            && Source::read(sender).is_none()
        {
            return Err(invalid(
                "sender: is a number (+49…), a short code or up to 11 letters and digits",
            ));
        }
        Ok(())
    }
}

fn is_printable(text: &str) -> bool {
    text.bytes()
        .all(|octet| octet == b' ' || octet.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: &str) -> SmppConfig {
        let json = format!(
            r#"{{"host": "smsc.example.org", "system_id": "u", "password": "p" {change}}}"#
        );
        serde_json::from_str(&json).expect("a configuration")
    }

    async fn refused(change: &str) -> String {
        match config(change).resolve().await {
            Err(OpenError::Invalid(reason)) => reason,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[tokio::test]
    async fn what_cannot_work_is_refused() {
        for (change, option) in [
            (r#", "tls": "none""#, "tls: "),
            (r#", "password_env": "X""#, "give one of password, "),
            (r#", "sender": "Stadtwerke Lindenau""#, "sender: "),
            (r#", "system_type": "ä""#, "system_type: "),
            (r#", "ca_file": "/nowhere.pem""#, "ca_file: "),
        ] {
            let reason = refused(change).await;
            assert!(reason.starts_with(option), "{reason}");
        }
        let mut long = config("");
        long.password = Some(SecretString::from("123456789"));
        assert!(matches!(long.resolve().await, Err(OpenError::Invalid(_))));
        let mut none = config("");
        none.password = None;
        assert!(matches!(none.resolve().await, Err(OpenError::Invalid(_))));
    }

    #[tokio::test]
    async fn ports_follow_from_the_protection() {
        let tls = config("")
            .resolve()
            .await
            .map(|s| (s.port, s.tls.is_some()));
        assert_eq!(tls.ok(), Some((3550, true)));
        let plain = config(r#", "tls": "none", "allow_plaintext": true"#);
        let plain = plain.resolve().await.map(|s| (s.port, s.tls.is_some()));
        assert_eq!(plain.ok(), Some((2775, false)));
    }
}
