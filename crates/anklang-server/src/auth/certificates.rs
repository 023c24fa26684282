//! Callers who are known by their certificates, those of the settings.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::ConnectInfo;

use super::validity::{Credential, DISTRUSTED, Validity};
use super::{Known, Principal};
use crate::config::{CertificateConfig, CertificateName};
use crate::grpc::error::ApiError;
use crate::tls::{Names, Peer};

type ByName = HashMap<String, Arc<Principal>>;

/// Who is who, by what certificates say.
#[derive(Default)]
pub struct Certificates {
    spiffe_ids: ByName,
    /// By what a SPIFFE ID begins with, slash included: the longest first.
    prefixes: Vec<(String, Arc<Principal>)>,
    subjects: ByName,
}

impl Certificates {
    /// Those of the settings.
    pub fn new(certificates: &[CertificateConfig]) -> Self {
        let mut known = Certificates::default();
        for certificate in certificates {
            let name = format!("certificates/{}", certificate.id);
            let tenants = certificate.tenants.clone();
            let worker = certificate.worker.clone();
            let units = certificate.org_units.iter().cloned().collect();
            let principal = Principal::new(name, &certificate.roles, tenants, worker, units);
            let principal = Arc::new(principal);
            match certificate.name.clone() {
                CertificateName::SpiffeId(id) => {
                    known.spiffe_ids.insert(id, principal);
                }
                CertificateName::SpiffePrefix(prefix) => known.prefixes.push((prefix, principal)),
                CertificateName::Subject(subject) => {
                    known.subjects.insert(subject, principal);
                }
            }
        }
        known
            .prefixes
            .sort_by_key(|(prefix, _)| Reverse(prefix.len()));
        known
    }

    /// Who calls over a connection, without a token, and until when. A connection may outlast its certificate.
    pub fn principal(
        &self,
        connection: Option<&ConnectInfo<Peer>>,
        now: SystemTime,
    ) -> Result<Known, ApiError> {
        let found = connection.and_then(|ConnectInfo(peer)| {
            let names = peer.names()?;
            Some((peer, names.until, self.find(names)))
        });
        let why = match found {
            Some((_, Some(until), Some(_))) if until <= now => {
                "the caller's certificate has expired"
            }
            Some((peer, _, Some(_))) if peer.is_withdrawn() => DISTRUSTED,
            Some((peer, until, Some(principal))) => {
                let credential = Some(Credential::Certificate(peer.clone()));
                return Ok((principal, Validity { until, credential }));
            }
            Some((_, _, None)) => {
                "the caller's certificate is mapped to nobody, and the metadata key authorization is \
                 missing"
            }
            None => "the metadata key authorization is missing: it must be Bearer and a token",
        };
        Err(ApiError::Unauthenticated(why.to_owned()))
    }

    /// Whose certificate says that. A SPIFFE ID counts before the subject.
    fn find(&self, names: &Names) -> Option<Arc<Principal>> {
        let by_id = names.spiffe_id.as_ref().and_then(|id| {
            let exact = self.spiffe_ids.get(id).cloned();
            exact.or_else(|| self.below(id))
        });
        by_id.or_else(|| self.subjects.get(names.subject.as_ref()?).cloned())
    }

    /// Who has a SPIFFE ID below one of the settings: those are many, each somebody of its own.
    fn below(&self, id: &str) -> Option<Arc<Principal>> {
        let mut prefixes = self.prefixes.iter();
        let (rest, of_all) = prefixes.find_map(|(prefix, principal)| {
            let rest = id.strip_prefix(&prefix[..])?;
            Some((rest, principal))
        })?;
        Some(Arc::new(Principal {
            name: format!("{}/{rest}", of_all.name).into(),
            ..(**of_all).clone()
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anklang_domain::access::Role;

    use super::super::Tenants;
    use super::*;

    #[test]
    fn a_certificate_is_found_by_what_fits_best() {
        let config = |id: &str, name| CertificateConfig {
            id: id.into(),
            name,
            tenants: Tenants::All,
            roles: vec![Role::Service],
            org_units: Vec::new(),
            worker: None,
        };
        let spiffe = |path: &str| format!("spiffe://example.org/{path}");
        let known = Certificates::new(&[
            config("all", CertificateName::SpiffePrefix(spiffe(""))),
            config("crm", CertificateName::SpiffePrefix(spiffe("ns/crm/"))),
            config("ns", CertificateName::SpiffePrefix(spiffe("ns/"))),
            config(
                "importer",
                CertificateName::SpiffeId(spiffe("ns/crm/importer")),
            ),
            config(
                "subject",
                CertificateName::Subject("CN=importer,O=Acme".into()),
            ),
        ]);
        let find = |spiffe_id: Option<&str>, subject: &str| {
            let names = Names {
                spiffe_id: spiffe_id.map(str::to_owned),
                subject: Some(subject.into()),
                until: None,
            };
            known
                .find(&names)
                .map(|principal| principal.name.to_string())
        };
        for (path, id) in [
            ("ns/crm/importer", "importer"),
            ("ns/crm/importer2", "crm/importer2"),
            ("ns/crm/importer/a", "crm/importer/a"),
            ("ns/crm", "ns/crm"),
            ("ns/crm2/importer", "ns/crm2/importer"),
            ("ns", "all/ns"),
        ] {
            // Its subject is another's, which does not count then.
            let found = find(Some(&spiffe(path)), "CN=importer,O=Acme");
            assert_eq!(found, Some(format!("certificates/{id}")), "{path}");
        }
        let acme = "CN=importer,O=Acme";
        for spiffe_id in [None, Some("spiffe://example.com/a")] {
            let found = find(spiffe_id, acme);
            assert_eq!(found.as_deref(), Some("certificates/subject"));
        }
        for (spiffe_id, subject) in [
            (Some("spiffe://example.org"), "CN=other"),
            (Some("spiffe://example.organ/ns/crm"), ""),
            (None, "O=Acme,CN=importer"),
            (None, "CN=Importer,O=Acme"),
            (None, "CN=importer"),
            (None, ""),
        ] {
            assert_eq!(find(spiffe_id, subject), None, "{spiffe_id:?} {subject}");
        }
    }

    #[test]
    fn a_certificate_counts_until_it_runs_out() {
        let subject = || "CN=importer,O=Acme".to_owned();
        let known = Certificates::new(&[CertificateConfig {
            id: "importer".into(),
            name: CertificateName::Subject(subject()),
            tenants: Tenants::All,
            roles: vec![Role::Service],
            org_units: Vec::new(),
            worker: None,
        }]);
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let connection = ConnectInfo(Peer::showing(Names {
            subject: Some(subject()),
            until: Some(until),
            ..Names::default()
        }));
        let at = |now| known.principal(Some(&connection), now);
        let (_, validity) = at(until - Duration::from_secs(1)).expect("it is good");
        assert_eq!(validity.until, Some(until));
        let refused = at(until).err().expect("it is over").to_string();
        assert!(refused.contains("certificate has expired"), "{refused}");
    }

    #[test]
    fn nothing_shown_is_told_from_what_is_mapped_to_nobody() {
        let known = Certificates::default();
        let refused = |connection: Option<&ConnectInfo<Peer>>| {
            let found = known.principal(connection, SystemTime::now());
            found.err().expect("nobody").to_string()
        };
        assert!(refused(None).contains("it must be Bearer and a token"));
        let without = ConnectInfo(Peer::without_certificate());
        assert!(refused(Some(&without)).contains("it must be Bearer and a token"));
        let unknown = ConnectInfo(Peer::showing(Names::default()));
        assert!(refused(Some(&unknown)).contains("mapped to nobody"));
    }
}
