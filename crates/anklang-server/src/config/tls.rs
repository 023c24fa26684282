//! The section `server.tls`.

use std::path::PathBuf;
use std::time::Duration;

use super::Reader;

/// TLS on the server's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file of the certificate, with its chain.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
    /// PEM file of the authorities of callers' certificates; without it callers show none.
    pub client_ca: Option<PathBuf>,
    /// Whether callers must show one.
    pub require_client_certificate: bool,
    /// How often to look at the files.
    pub reload: Duration,
}

impl Reader {
    /// `Some(None)` for plain text.
    pub(super) fn tls(&mut self) -> Option<Option<TlsConfig>> {
        let path = |key: &str| format!("server.tls.{key}");
        let certificate = self.file(&path("certificate"));
        let key = self.file(&path("key"));
        let client_ca = self.file(&path("client_ca"));
        let require = self.flag(&path("require_client_certificate"));
        let reload = self.whole(&path("reload_seconds"), 1..=86_400);
        let (certificate, key, client_ca, require) = (certificate?, key?, client_ca?, require?);
        let mut fits = true;
        for (wrong, field, why) in [
            (
                certificate.is_some() != key.is_some(),
                "certificate",
                "and key must both be given, or neither",
            ),
            (
                client_ca.is_some() && certificate.is_none(),
                "client_ca",
                "is of no use without a certificate",
            ),
            (
                require && client_ca.is_none(),
                "require_client_certificate",
                "is of no use without client_ca",
            ),
        ] {
            if wrong {
                self.violations.add(path(field), why);
                fits = false;
            }
        }
        let reload = Duration::from_secs(reload?);
        fits.then(|| {
            certificate.zip(key).map(|(certificate, key)| TlsConfig {
                certificate,
                key,
                client_ca,
                require_client_certificate: require,
                reload,
            })
        })
    }

    /// A file, or none when it is empty.
    pub(super) fn file(&mut self, path: &str) -> Option<Option<PathBuf>> {
        let text = self.text(path)?;
        Some((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}
