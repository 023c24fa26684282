//! The configuration of an account: which of the two sorts, and what both have in common.
//!
//! What a sort has for itself is in `hylafax/config.rs` and `gateway/config.rs`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anklang_plugin_sdk::OpenError;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::gateway::config::GatewayConfig;
use crate::hylafax::config::HylafaxConfig;

/// An account: a fax server of one's own, or a gateway that takes mails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Config {
    /// A HylaFAX server.
    Hylafax(HylafaxConfig),
    /// A gateway that makes faxes of mails.
    MailGateway(GatewayConfig),
}

/// A secret and the three ways to give it, of which at most one is used.
pub(crate) struct Secret<'a> {
    /// What the options are called: "password".
    pub(crate) name: &'a str,
    pub(crate) value: Option<&'a SecretString>,
    pub(crate) env: Option<&'a str>,
    pub(crate) file: Option<&'a Path>,
}

impl Secret<'_> {
    /// The secret; `None` if it is not given at all.
    pub(crate) async fn read(&self) -> Result<Option<SecretString>, OpenError> {
        let name = self.name;
        match (self.value, self.env, self.file) {
            (None, None, None) => Ok(None),
            (Some(value), None, None) => Ok(Some(value.expose_secret().into())),
            (None, Some(variable), None) => {
                let value = std::env::var(variable).map_err(|_| {
                    invalid(format!(
                        "{name}_env: {variable} is not set in the environment"
                    ))
                })?;
                Ok(Some(value.into()))
            }
            (None, None, Some(path)) => {
                let option = format!("{name}_file");
                let text = String::from_utf8(read(&option, path).await?)
                    .map_err(|_| invalid(format!("{option}: is not UTF-8")))?;
                Ok(Some(text.trim_end_matches(['\r', '\n']).into()))
            }
            _ => Err(invalid(format!(
                "give one of {name}, {name}_env and {name}_file"
            ))),
        }
    }
}

/// The password of a user, who has one if there is a user.
pub(crate) struct PasswordOptions<'a> {
    pub(crate) value: Option<&'a SecretString>,
    pub(crate) env: Option<&'a str>,
    pub(crate) file: Option<&'a PathBuf>,
}

impl<'a> PasswordOptions<'a> {
    /// Under the name of its options.
    pub(crate) fn named(self, name: &'a str) -> Secret<'a> {
        Secret {
            name,
            value: self.value,
            env: self.env,
            file: self.file.map(PathBuf::as_path),
        }
    }
}

/// Whether the host is this machine, to which plain text may go.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

pub(crate) async fn read(option: &str, path: &Path) -> Result<Vec<u8>, OpenError> {
    tokio::fs::read(path)
        .await
        .map_err(|e| invalid(format!("{option}: {}: {e}", path.display())))
}

pub(crate) fn invalid(reason: impl Into<String>) -> OpenError {
    OpenError::Invalid(reason.into())
}
