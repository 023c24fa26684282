//! The configuration of an account, and what is made of it when it is opened.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anklang_plugin_sdk::OpenError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::gateway::config::GatewayConfig;
use crate::smpp::config::SmppConfig;

/// An account for short messages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Config {
    /// A session with a short message centre, SMPP 3.4.
    Smpp(Box<SmppConfig>),
    /// A gateway that takes messages by HTTP, as Kannel's sendsms does.
    Gateway(Box<GatewayConfig>),
}

pub(crate) fn invalid(reason: impl Into<String>) -> OpenError {
    OpenError::Invalid(reason.into())
}

/// The three ways to give a secret.
pub(crate) struct SecretSource<'c> {
    /// Name of the option that holds the secret itself; the others end in `_env` and `_file`.
    pub(crate) option: &'static str,
    pub(crate) value: &'c Option<SecretString>,
    pub(crate) env: &'c Option<String>,
    pub(crate) file: &'c Option<PathBuf>,
}

impl SecretSource<'_> {
    /// The secret; `None` if it is not given.
    pub(crate) async fn read(self) -> Result<Option<SecretString>, OpenError> {
        let option = self.option;
        let secret = match (self.value, self.env, self.file) {
            (None, None, None) => return Ok(None),
            (Some(secret), None, None) => secret.expose_secret().to_owned(),
            (None, Some(name), None) => std::env::var(name).map_err(|_| {
                invalid(format!(
                    "{option}_env: {name} is not set in the environment"
                ))
            })?,
            (None, None, Some(path)) => {
                let bytes = read(&format!("{option}_file"), path).await?;
                let text = String::from_utf8(bytes)
                    .map_err(|_| invalid(format!("{option}_file: is not UTF-8")))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            _ => {
                let reason = format!("give one of {option}, {option}_env and {option}_file");
                return Err(invalid(reason));
            }
        };
        Ok(Some(SecretString::from(secret)))
    }

    /// The secret, which must be given.
    pub(crate) async fn required(self) -> Result<SecretString, OpenError> {
        let option = self.option;
        let missing = || {
            invalid(format!(
                "{option}: is required, or {option}_env or {option}_file"
            ))
        };
        self.read().await?.ok_or_else(missing)
    }
}

/// Whether `host` is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
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

/// TLS that trusts this system's authorities, and those of `ca_file`.
pub(crate) async fn client_tls(ca_file: Option<&Path>) -> Result<ClientConfig, OpenError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let not_pem = || invalid(format!("ca_file: {} is not PEM", path.display()));
        let pem = read("ca_file", path).await?;
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|_| not_pem())?;
            roots.add(certificate).map_err(|_| not_pem())?;
        }
        if roots.len() == before {
            return Err(not_pem());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| OpenError::Failed(format!("TLS: {e}")))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
