//! A certificate to show to the database.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, SignatureScheme};

/// Which of the two files is at fault, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// The one of the certificate.
    #[error("the certificate: {0}")]
    Certificate(String),
    /// The one of its key.
    #[error("the key: {0}")]
    Key(String),
}

/// A certificate in PEM with its chain, and its key. When its files are others and fit, [`ClientCertificate::look`] has
/// new connections shown what is in them; until then it is what was before.
pub struct ClientCertificate {
    certificate: PathBuf,
    key: PathBuf,
    /// What was read and good last.
    files: Mutex<Files>,
    shown: RwLock<Arc<CertifiedKey>>,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Files {
    fn read(certificate: &Path, key: &Path) -> Result<Files, CertificateFault> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Files {
            certificate: read(certificate).map_err(CertificateFault::Certificate)?,
            key: read(key).map_err(CertificateFault::Key)?,
        })
    }

    /// What they mean for TLS.
    fn shown(&self) -> Result<Arc<CertifiedKey>, CertificateFault> {
        use CertificateFault::{Certificate, Key};
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| Certificate(format!("is not in PEM: {error}")))?;
        if chain.is_empty() {
            return Err(Certificate("has no certificate in PEM".into()));
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            Key("has no key in PEM (PKCS#8, PKCS#1 or SEC1, without a passphrase)".into())
        })?;
        match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
            Ok(shown) => Ok(Arc::new(shown)),
            Err(Error::InvalidCertificate(error)) => Err(Certificate(format!("is none: {error}"))),
            Err(Error::InconsistentKeys(_)) => Err(Key("is not the key of the certificate".into())),
            Err(error) => Err(Key(error.to_string())),
        }
    }
}

impl ClientCertificate {
    /// Reads the files, or tells what is wrong with them.
    pub fn open(certificate: PathBuf, key: PathBuf) -> Result<Self, CertificateFault> {
        let files = Files::read(&certificate, &key)?;
        let shown = files.shown()?;
        Ok(ClientCertificate {
            certificate,
            key,
            files: Mutex::new(files),
            shown: RwLock::new(shown),
        })
    }

    /// Reads the files again, and goes on with what is new and fits. Whether there was anything. Blocks for as long as
    /// reading takes.
    pub fn look(&self) -> Result<bool, CertificateFault> {
        let files = Files::read(&self.certificate, &self.key)?;
        let mut last = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files == *last {
            return Ok(false);
        }
        let shown = files.shown()?;
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = shown;
        *last = files;
        Ok(true)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("ClientCertificate")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // In the middle of a handshake: nothing is read here.
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
