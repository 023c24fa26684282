//! TLS on the server's port. Guarantees:
//!
//! - A certificate, its key and the authorities of callers are exchanged together, and only when they fit;
//!   connections that are there go on, new ones get the new certificate (see [`Reload`]). Those of callers whose
//!   certificate the new authorities do not accept end soon ([`Peer::distrusted`]).
//! - A caller who is slow or silent keeps no other one waiting (see [`TlsListener`]).
//! - Who is known by a certificate ([`Peer`]) has shown it for this connection, it was good then, has not run out
//!   since, and an authority that signs callers' certificates now accepts it.

mod files;
mod listener;
mod peer;

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anklang_domain::Violations;
use axum::serve::Listener;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_cert::Certificate;
use x509_cert::der::Decode;

pub use listener::TlsListener;
pub use peer::{Names, Peer, Port};
pub(crate) use peer::{is_spiffe_id, subject};

use crate::config::{Config, TlsConfig};
use crate::reload::{self, Reload};
use crate::telemetry::meters;
use files::Files;

/// What checks callers' certificates.
type Verifier = Arc<dyn ClientCertVerifier>;

/// What the port speaks TLS with. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    settings: Arc<TlsConfig>,
    files: Arc<Files>,
    current: watch::Sender<Arc<ServerConfig>>,
    /// What `current` checks callers' certificates with, exchanged after it and only with the authorities.
    verifier: watch::Sender<Verifier>,
}

impl Tls {
    /// Reads the files, or tells all that is wrong with them. `None` is plain text, which somebody must
    /// have asked for when others than this machine can listen.
    pub fn open(config: &Config) -> Result<Option<Tls>, Violations> {
        let Some(settings) = &config.tls else {
            let mut violations = Violations::new();
            if !config.plain_text && !config.listen.ip().to_canonical().is_loopback() {
                violations.add(
                    "server.plain_text",
                    format!(
                        "must be true to serve without TLS on {}, which is not loopback; or give \
                         server.tls.certificate",
                        config.listen
                    ),
                );
            }
            return violations.finish(None);
        };
        let files = Files::read(settings)?;
        let (current, verifier) = files.server_config(settings)?;
        tell_end(&files.certificate);
        Ok(Some(Tls {
            settings: Arc::new(settings.clone()),
            files: Arc::new(files),
            current: watch::Sender::new(Arc::new(current)),
            verifier: watch::Sender::new(verifier),
        }))
    }

    /// Speaks TLS with whoever connects; a handshake may take so long, and so many are under way at the same time.
    pub fn listen<L>(&self, listener: L, patience: Duration, at_once: usize) -> TlsListener<L>
    where
        L: Listener<Addr: Debug + 'static>,
    {
        let (current, verifier) = (self.current.subscribe(), self.verifier.subscribe());
        TlsListener::new(listener, current, verifier, patience, at_once)
    }
}

impl Reload for Tls {
    const WHAT: &'static str = "TLS";
    const FILES: &'static str = "tls";

    fn every(&self) -> Duration {
        self.settings.reload
    }

    async fn look(&mut self) -> Result<bool, Violations> {
        let (settings, before) = (Arc::clone(&self.settings), Arc::clone(&self.files));
        let looked = reload::read(Self::WHAT, move || {
            let files = Files::read(&settings)?;
            if files == *before {
                return Ok(None);
            }
            let current = files.server_config(&settings)?;
            Ok(Some((files, current)))
        });
        let Some((files, (current, verifier))) = looked.await? else {
            return Ok(false);
        };
        tell_end(&files.certificate);
        let are_others = files.client_ca != self.files.client_ca;
        self.files = Arc::new(files);
        self.current.send_replace(Arc::new(current));
        if are_others {
            self.verifier.send_replace(verifier);
        }
        Ok(true)
    }
}

/// Tells when the server's own certificate runs out: callers refuse it then, and nobody here would notice.
fn tell_end(pem: &[u8]) {
    let Some(end) = end(pem) else {
        return;
    };
    meters::certificate_expires(end);
    if end <= SystemTime::now() {
        tracing::warn!(
            "server.tls.certificate has run out: callers who check it refuse the server"
        );
    }
}

/// When the first certificate of a PEM file runs out.
fn end(pem: &[u8]) -> Option<SystemTime> {
    let chain = certificates(pem).ok()?;
    let own = Certificate::from_der(chain.first()?).ok()?;
    Some(own.tbs_certificate.validity.not_after.to_system_time())
}

/// The certificates of a PEM file.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("has no certificate in PEM".into()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("is not in PEM: {error}")),
    }
}

/// The authorities of a PEM file.
fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in certificates(pem)? {
        authorities
            .add(certificate)
            .map_err(|error| format!("has a certificate that is none: {error}"))?;
    }
    Ok(authorities)
}

/// Reads the authorities of a PEM file.
pub(crate) fn read_authorities(path: &Path) -> Result<RootCertStore, String> {
    authorities(&files::read(path)?)
}

#[cfg(test)]
mod tests;
