//! The files of the section `server.tls`.

use std::path::Path;
use std::sync::Arc;

use anklang_domain::Violations;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{Error, ServerConfig};

use super::{Verifier, authorities, certificates};
use crate::config::TlsConfig;

const CERTIFICATE: &str = "server.tls.certificate";
const KEY: &str = "server.tls.key";
const CLIENT_CA: &str = "server.tls.client_ca";

/// What the files held.
#[derive(PartialEq, Eq)]
pub(super) struct Files {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) client_ca: Option<Vec<u8>>,
}

/// Reads a file; the error names it.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

impl Files {
    pub(super) fn read(settings: &TlsConfig) -> Result<Files, Violations> {
        let mut violations = Violations::new();
        let certificate = violations.check(CERTIFICATE, read(&settings.certificate));
        let key = violations.check(KEY, read(&settings.key));
        let client_ca = settings.client_ca.as_deref().map(read).transpose();
        let client_ca = violations.check(CLIENT_CA, client_ca);
        match (certificate, key, client_ca) {
            (Some(certificate), Some(key), Some(client_ca)) => Ok(Files {
                certificate,
                key,
                client_ca,
            }),
            _ => Err(violations),
        }
    }

    /// What they mean for TLS, and for callers' certificates, or all that is wrong with them.
    pub(super) fn server_config(
        &self,
        settings: &TlsConfig,
    ) -> Result<(ServerConfig, Verifier), Violations> {
        let mut violations = Violations::new();
        let chain = violations.check(CERTIFICATE, certificates(&self.certificate));
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| "has no key in PEM (PKCS#8, PKCS#1 or SEC1, without a passphrase)");
        let key = violations.check(KEY, key);
        let verifier = violations.check(CLIENT_CA, self.verifier(settings));
        let (Some(chain), Some(key), Some(verifier)) = (chain, key, verifier) else {
            return Err(violations);
        };
        let provider = Arc::new(ring::default_provider());
        let made = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(Arc::clone(&verifier))
                    .with_single_cert(chain, key)
            });
        let (field, reason) = match made {
            Ok(mut config) => {
                config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
                if self.client_ca.is_some() {
                    // Resumed, a session would bring a certificate that has run out since.
                    config.session_storage = Arc::new(NoServerSessionStorage {});
                }
                return Ok((config, verifier));
            }
            Err(Error::InvalidCertificate(error)) => (CERTIFICATE, format!("is none: {error}")),
            Err(Error::InconsistentKeys(_)) => (KEY, format!("is not the key of {CERTIFICATE}")),
            Err(error) => (KEY, error.to_string()),
        };
        violations.add(field, reason);
        Err(violations)
    }

    /// What is asked of callers' certificates. Whoever shows one shows a good one, required or not.
    fn verifier(&self, settings: &TlsConfig) -> Result<Verifier, String> {
        let Some(pem) = &self.client_ca else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let provider = Arc::new(ring::default_provider());
        let authorities = Arc::new(authorities(pem)?);
        let builder = WebPkiClientVerifier::builder_with_provider(authorities, provider);
        let builder = match settings.require_client_certificate {
            true => builder,
            false => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| error.to_string())
    }
}
