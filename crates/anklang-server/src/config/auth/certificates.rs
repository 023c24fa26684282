//! The tables `auth.certificates`: whose certificates count.

use anklang_domain::access::Role;

use crate::auth::Tenants;
use crate::config::{Reader, TlsConfig};
use crate::tls::{is_spiffe_id, subject};

/// Who is known by a certificate.
#[derive(Debug, Clone)]
pub struct CertificateConfig {
    /// What it is called.
    pub id: String,
    /// What the certificate says.
    pub name: CertificateName,
    /// For whom its holder may act.
    pub tenants: Tenants,
    /// What its holder is.
    pub roles: Vec<Role>,
    /// The org units that its holder is bound to, when it is.
    pub org_units: Vec<String>,
    /// The user in whose name its holder works.
    pub worker: Option<String>,
}

/// What certificates say about whose they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// This SPIFFE ID.
    SpiffeId(String),
    /// A SPIFFE ID that begins with this, which ends in a slash.
    SpiffePrefix(String),
    /// This subject, as RFC 4514 writes it.
    Subject(String),
}

impl CertificateName {
    /// Its key in the settings.
    fn key(&self) -> &'static str {
        match self {
            CertificateName::SpiffeId(_) | CertificateName::SpiffePrefix(_) => "spiffe_id",
            CertificateName::Subject(_) => "subject",
        }
    }
}

impl Reader {
    /// `tls` is what `server.tls` was read as; of one that is wrong nothing more is told.
    pub(super) fn certificates(
        &mut self,
        ids: &[String],
        tls: Option<&Option<TlsConfig>>,
    ) -> Vec<CertificateConfig> {
        let verified =
            |tls: &Option<TlsConfig>| tls.as_ref().is_some_and(|t| t.client_ca.is_some());
        if !ids.is_empty() && !tls.is_none_or(verified) {
            self.violations.add(
                "auth.certificates",
                "needs server.tls.client_ca: without it callers show no certificates",
            );
        }
        let certificates = ids.iter().filter_map(|id| self.certificate(id));
        let certificates: Vec<CertificateConfig> = certificates.collect();
        for (i, one) in certificates.iter().enumerate() {
            if certificates.iter().take(i).any(|o| o.name == one.name) {
                let field = format!("auth.certificates.{}.{}", one.id, one.name.key());
                self.violations.add(field, "is that of another certificate");
            }
        }
        certificates
    }

    fn certificate(&mut self, id: &str) -> Option<CertificateConfig> {
        let path = |key: &str| format!("auth.certificates.{id}.{key}");
        let mut given = |key: &str| {
            let text = self.optional(&path(key), Self::text);
            text.filter(|text| !text.is_empty())
        };
        let (spiffe_id, subject, worker) = (given("spiffe_id"), given("subject"), given("worker"));
        let name = match (spiffe_id, subject) {
            (Some(id), None) => self.violations.check(path("spiffe_id"), spiffe_name(id)),
            (None, Some(text)) => self.violations.check(path("subject"), subject_name(text)),
            (both, _) => {
                let why = match both {
                    Some(_) => "has spiffe_id and subject: one of them is to be given",
                    None => "needs spiffe_id or subject",
                };
                self.violations.add(format!("auth.certificates.{id}"), why);
                None
            }
        };
        let tenants = self.tenants(&path("tenants"));
        let roles = self.role_list(&path("roles"));
        let org_units = self.org_units(&path("org_units"), &roles);
        Some(CertificateConfig {
            id: id.to_owned(),
            name: name?,
            tenants,
            roles,
            org_units,
            worker,
        })
    }
}

fn spiffe_name(text: String) -> Result<CertificateName, &'static str> {
    match text.strip_suffix("/*") {
        Some(above) if is_spiffe_id(above) => {
            Ok(CertificateName::SpiffePrefix(format!("{above}/")))
        }
        None if is_spiffe_id(&text) => Ok(CertificateName::SpiffeId(text)),
        _ => Err("must be a SPIFFE ID, e.g. spiffe://example.org/ns/crm/sa/importer, or end in /*"),
    }
}

/// Only as it is compared: what is written otherwise would never match, or another one than was meant.
fn subject_name(text: String) -> Result<CertificateName, String> {
    match subject(&text) {
        Some(written) if written == text => Ok(CertificateName::Subject(text)),
        Some(written) => Err(format!("must be written as {written}")),
        None => Err("must be as RFC 4514 writes it, e.g. CN=importer,O=Acme".into()),
    }
}
