//! The configuration of an account, and what is made of it when it is opened.
//!
//! An account is of one of two types, told by `type`; without one it is `smtp`. The JSON Schema
//! branches by `type`, so that every violation is told by its path, and no other type's options
//! are suggested. What a schema cannot say is checked by `resolve`, which tells all that is wrong
//! at once.

mod bounces;
mod mailjet;
mod smtp;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anklang_plugin_sdk::OpenError;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;

pub(crate) use bounces::{Settings as BounceSettings, Tls};
pub(crate) use mailjet::{Settings as MailjetSettings, WebhookSettings};
pub(crate) use smtp::{Notify, Security, Settings};

use mailjet::MailjetConfig;
use smtp::SmtpConfig;

/// An account, of whichever type.
#[derive(Debug)]
pub(crate) enum Config {
    /// A mail server that takes mails for others.
    Smtp(Box<SmtpConfig>),
    /// The Send API of Mailjet.
    Mailjet(Box<MailjetConfig>),
}

/// A checked configuration with its secrets and certificates read.
pub(crate) enum Resolved {
    Smtp(Box<Settings>),
    Mailjet(Box<MailjetSettings>),
}

impl Config {
    /// Checks what a JSON Schema cannot say, and reads the files.
    pub(crate) async fn resolve(self) -> Result<Resolved, OpenError> {
        let mut problems = Problems::default();
        let resolved = match self {
            Self::Smtp(config) => config
                .resolve(&mut problems)
                .await
                .map(|settings| Resolved::Smtp(Box::new(settings))),
            Self::Mailjet(config) => config
                .resolve(&mut problems)
                .await
                .map(|settings| Resolved::Mailjet(Box::new(settings))),
        };
        problems.end(resolved)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own tagged enumerations know no default tag.
        let value = Value::deserialize(deserializer)?;
        let read = match value.get("type").map(|kind| kind.as_str()) {
            None | Some(Some("smtp")) => serde_json::from_value(value).map(Self::Smtp),
            Some(Some("mailjet")) => serde_json::from_value(value).map(Self::Mailjet),
            Some(_) => return Err(D::Error::custom("type, expected \"smtp\" or \"mailjet\"")),
        };
        // What serde says of a value that does not fit may quote it: the schema has told the paths.
        read.map_err(|_| D::Error::custom("the options do not fit the account's type"))
    }
}

impl JsonSchema for Config {
    fn schema_name() -> Cow<'static, str> {
        "Config".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "type": {
                    "description": "Kind of account.",
                    "enum": ["smtp", "mailjet"],
                    "default": "smtp",
                }
            },
            "if": { "properties": { "type": { "const": "mailjet" } }, "required": ["type"] },
            "then": generator.subschema_for::<MailjetConfig>(),
            "else": generator.subschema_for::<SmtpConfig>(),
        })
    }
}

/// What is wrong with a configuration: all of it.
#[derive(Default)]
pub(crate) struct Problems {
    invalid: Vec<String>,
    failed: Option<String>,
}

impl Problems {
    /// The option cannot work as it is written.
    pub(crate) fn add(&mut self, option: impl fmt::Display, reason: impl fmt::Display) {
        self.invalid.push(format!("{option}: {reason}"));
    }

    /// Something else failed, and another attempt may succeed.
    fn fail(&mut self, reason: impl Into<String>) {
        self.failed.get_or_insert(reason.into());
    }

    fn end<T>(self, resolved: Option<T>) -> Result<T, OpenError> {
        if !self.invalid.is_empty() {
            return Err(OpenError::Invalid(self.invalid.join("; ")));
        }
        match (self.failed, resolved) {
            (None, Some(resolved)) => Ok(resolved),
            (failed, _) => Err(OpenError::Failed(failed.unwrap_or_default())),
        }
    }
}

/// The three ways to give a secret: itself, an environment variable, a file.
pub(crate) struct Secret<'a> {
    /// The option, as it is written in the configuration: `bounces.password`.
    pub(crate) option: &'a str,
    pub(crate) value: &'a Option<SecretString>,
    pub(crate) env: &'a Option<String>,
    pub(crate) file: &'a Option<PathBuf>,
}

impl Secret<'_> {
    pub(crate) fn is_given(&self) -> bool {
        self.value.is_some() || self.env.is_some() || self.file.is_some()
    }

    /// The secret, if there is one; a line break at the end of a file does not count.
    pub(crate) async fn read(&self, problems: &mut Problems) -> Option<String> {
        let option = self.option;
        match (self.value, self.env, self.file) {
            (None, None, None) => None,
            (Some(secret), None, None) => Some(secret.expose_secret().to_owned()),
            (None, Some(name), None) => {
                let found = std::env::var(name).ok();
                if found.is_none() {
                    let reason = format!("{name} is not set in the environment");
                    problems.add(format!("{option}_env"), reason);
                }
                found
            }
            (None, None, Some(path)) => {
                let name = format!("{option}_file");
                let bytes = read(&name, path, problems).await?;
                let Ok(text) = String::from_utf8(bytes) else {
                    problems.add(name, "is not UTF-8");
                    return None;
                };
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            _ => {
                let reason = format!("give one of {option}, {option}_env and {option}_file");
                problems.add(option, reason);
                None
            }
        }
    }
}

/// A client's side of TLS: the authorities of the system, and those of `ca_file`.
async fn tls_client(
    option: &str,
    ca_file: Option<&Path>,
    problems: &mut Problems,
) -> Option<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // A system without certificates, or with unreadable ones, still may use `ca_file`.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let pem = read(option, path, problems).await?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let added = match found {
            Ok(found) if !found.is_empty() => roots.add_parsable_certificates(found).0,
            _ => 0,
        };
        if added == 0 {
            problems.add(option, format!("{} is not PEM", path.display()));
            return None;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
        Ok(builder) => {
            let config = builder.with_root_certificates(roots).with_no_client_auth();
            Some(Arc::new(config))
        }
        Err(error) => {
            problems.fail(format!("TLS: {error}"));
            None
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn read(option: &str, path: &Path, problems: &mut Problems) -> Option<Vec<u8>> {
    match tokio::fs::read(path).await {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            problems.add(option, format!("{}: {error}", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn without_a_type_it_is_smtp() {
        let read = |value| serde_json::from_value::<Config>(value);
        let smtp = json!({ "host": "mail.example.org" });
        assert!(matches!(read(smtp), Ok(Config::Smtp(_))));
        let smtp = json!({ "type": "smtp", "host": "mail.example.org" });
        assert!(matches!(read(smtp), Ok(Config::Smtp(_))));
        let mailjet = json!({ "type": "mailjet", "api_key": "k", "secret_key": "s" });
        assert!(matches!(read(mailjet), Ok(Config::Mailjet(_))));
        assert!(read(json!({ "type": "fax", "host": "h" })).is_err());
        assert!(read(json!({ "type": 1, "host": "h" })).is_err());
    }

    #[test]
    fn what_does_not_fit_is_not_quoted() {
        let wrong = json!({ "type": "mailjet", "api_key": "k", "secret_key": ["geheim"] });
        let said = serde_json::from_value::<Config>(wrong)
            .map(|_| ())
            .map_err(|e| e.to_string());
        assert!(said.is_err_and(|said| !said.contains("geheim")));
    }
}
