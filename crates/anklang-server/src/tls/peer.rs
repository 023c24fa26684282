//! Whom a connection is with: what the certificate says that a caller has shown.

use std::fmt::Write;
use std::future::pending;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::serve::{Listener, TapIo};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::Verifier;

/// The scheme of SPIFFE IDs, with what follows it.
const SPIFFE: &str = "spiffe://";

/// Who is at the other end of a connection. Read once for each connection, cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer(Option<Arc<Shown>>);

/// What was shown when the connection began.
#[derive(Debug)]
struct Shown {
    names: Names,
    /// The certificate, and those between it and its authority.
    chain: Vec<CertificateDer<'static>>,
    at: UnixTime,
    /// What checks certificates now.
    verifier: watch::Receiver<Verifier>,
    /// Once that does not accept it.
    withdrawn: CancellationToken,
}

/// What a certificate says about whose it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The SPIFFE ID.
    pub spiffe_id: Option<String>,
    /// The subject, as RFC 4514 writes it.
    pub subject: Option<String>,
    /// When the certificate runs out.
    pub until: Option<SystemTime>,
}

impl Peer {
    /// Who has shown these certificates, which were verified: rustls has refused what no authority of
    /// `server.tls.client_ca` has signed.
    pub(super) fn of(
        chain: Option<&[CertificateDer<'static>]>,
        verifier: &watch::Receiver<Verifier>,
    ) -> Self {
        let shown = chain.and_then(|chain| {
            let own = chain.first()?;
            Some(Arc::new(Shown {
                names: Names::read(own).unwrap_or_default(),
                chain: chain.to_vec(),
                at: UnixTime::now(),
                verifier: verifier.clone(),
                withdrawn: CancellationToken::new(),
            }))
        });
        Peer(shown)
    }

    /// Who has shown no certificate.
    pub fn without_certificate() -> Self {
        Peer(None)
    }

    /// What the certificate says that was shown and verified; `None` without one.
    pub fn names(&self) -> Option<&Names> {
        self.0.as_ref().map(|shown| &shown.names)
    }

    /// Waits until the authorities were exchanged for others that do not accept the certificate, and withdraws it.
    /// Whoever serves the connection waits for that.
    pub async fn distrusted(&self) {
        let Some(shown) = &self.0 else {
            return pending().await;
        };
        let mut verifier = shown.verifier.clone();
        while verifier.changed().await.is_ok() {
            let now = Arc::clone(&verifier.borrow());
            if !shown.is_accepted_by(&*now) {
                shown.withdrawn.cancel();
                return;
            }
        }
        // Nobody exchanges them any more.
        pending().await
    }

    /// Whether the certificate is withdrawn.
    pub fn is_withdrawn(&self) -> bool {
        let shown = self.0.as_ref();
        shown.is_some_and(|shown| shown.withdrawn.is_cancelled())
    }

    /// Waits until it is.
    pub async fn withdrawn(&self) {
        match &self.0 {
            Some(shown) => shown.withdrawn.cancelled().await,
            None => pending().await,
        }
    }

    #[cfg(test)]
    pub(crate) fn showing(names: Names) -> Self {
        let (_, verifier) = watch::channel(rustls::server::WebPkiClientVerifier::no_client_auth());
        Peer(Some(Arc::new(Shown {
            names,
            chain: Vec::new(),
            at: UnixTime::now(),
            verifier,
            withdrawn: CancellationToken::new(),
        })))
    }
}

impl Shown {
    /// Whether it would have been let in. When certificates run out is another matter.
    fn is_accepted_by(&self, verifier: &dyn ClientCertVerifier) -> bool {
        self.chain.split_first().is_some_and(|(own, between)| {
            let verified = verifier.verify_client_cert(own, between, self.at);
            verified.is_ok()
        })
    }
}

/// What takes connections, over which somebody may have shown a certificate.
pub trait Port: Listener {
    /// Whom one is with.
    fn peer(&self, io: &Self::Io) -> Peer;
}

/// In plain text nobody shows a certificate.
impl Port for TcpListener {
    fn peer(&self, _: &TcpStream) -> Peer {
        Peer::without_certificate()
    }
}

impl<F> Port for TapIo<TcpListener, F>
where
    F: FnMut(&mut TcpStream) + Send + 'static,
{
    fn peer(&self, _: &TcpStream) -> Peer {
        Peer::without_certificate()
    }
}

impl Names {
    /// Those of a certificate. `None` when it cannot be read, or is no good SVID and wants to be one.
    fn read(der: &[u8]) -> Option<Names> {
        let certificate = Certificate::from_der(der).ok()?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().ok()?;
        let names = names.iter().flat_map(|(_, names)| &names.0);
        let uris = names.filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(AsRef::<str>::as_ref(uri)),
            _ => None,
        });
        let uris: Vec<&str> = uris.collect();
        let spiffe_id = match &uris[..] {
            uris if !uris.iter().any(|uri| is_spiffe(uri)) => None,
            // An SVID has one URI and no other.
            [id] if is_spiffe_id(id) => Some((*id).to_owned()),
            _ => return None,
        };
        Some(Names {
            spiffe_id,
            subject: Some(print(&certificate.subject)?),
            until: Some(certificate.validity.not_after.to_system_time()),
        })
    }
}

fn is_spiffe(uri: &str) -> bool {
    let scheme = uri.get(..SPIFFE.len());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SPIFFE))
}

/// Whether that is a SPIFFE ID, as its specification writes it.
pub(crate) fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(SPIFFE) else {
        return false;
    };
    let of_domain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    let of_path = |b: u8| b.is_ascii_uppercase() || of_domain(b);
    let mut segments = rest.split('/');
    let domain = segments.next().unwrap_or_default();
    text.len() <= 2_048
        && (1..=255).contains(&domain.len())
        && domain.bytes().all(of_domain)
        && segments.all(|s| !matches!(s, "" | "." | "..") && s.bytes().all(of_path))
}

/// A subject as those of certificates are written, or `None` when it is none.
pub(crate) fn subject(text: &str) -> Option<String> {
    print(&Name::from_str(text).ok()?)
}

fn print(name: &Name) -> Option<String> {
    let mut text = String::new();
    // `to_string` would panic where a value cannot be written.
    write!(text, "{name}").ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType};

    use super::*;

    const IMPORTER: &str = "spiffe://example.org/ns/crm/sa/importer";

    fn read(uris: &[&str], subject: &[(DnType, DnValue)]) -> Option<Names> {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        for uri in uris {
            let uri = (*uri).try_into().expect("ASCII");
            params.subject_alt_names.push(SanType::URI(uri));
        }
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Names::read(certificate.der())
    }

    #[test]
    fn an_svid_has_one_uri() {
        let id = |uris: &[&str]| read(uris, &[]).map(|names| names.spiffe_id);
        assert_eq!(id(&[]), Some(None));
        assert_eq!(id(&[IMPORTER]), Some(Some(IMPORTER.into())));
        let other = "https://crm.example.org/";
        assert_eq!(id(&[other]), Some(None));
        assert_eq!(id(&[other, "urn:crm"]), Some(None));
        for wrong in [
            &[IMPORTER, "spiffe://example.org/ns/crm/sa/boss"][..],
            &[IMPORTER, IMPORTER],
            &[IMPORTER, other],
            &[other, IMPORTER],
            &["SPIFFE://example.org/a"],
            &["spiffe://example.org/a/../b"],
        ] {
            assert_eq!(id(wrong), None, "{wrong:?}");
        }
        assert_eq!(Names::read(b"no certificate"), None);
    }

    #[test]
    fn spiffe_ids_are_as_the_specification_writes_them() {
        for good in [IMPORTER, "spiffe://a", "spiffe://a-b_c.9/A/..."] {
            assert!(is_spiffe_id(good), "{good}");
        }
        for wrong in [
            "",
            "spiffe:",
            "spiffe://",
            "spiffe:///a",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/b/..",
            "spiffe://A/b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/%62",
            "spiffe://a/*",
            "spiffe://a/ü",
            "https://a/b",
        ] {
            assert!(!is_spiffe_id(wrong), "{wrong}");
        }
        assert!(!is_spiffe_id(&format!("spiffe://a/{}", "b".repeat(2_048))));
    }

    #[test]
    fn a_subject_is_written_in_one_way() {
        let utf8 = |text: &str| DnValue::Utf8String(text.to_owned());
        let printable = DnValue::PrintableString("Acme".try_into().expect("printable"));
        for (organization, name, written) in [
            (utf8("Acme"), utf8("importer"), "CN=importer,O=Acme"),
            (printable, utf8("importer"), "CN=importer,O=Acme"),
            (utf8("Acme, Inc."), utf8("a+b"), "CN=a\\+b,O=Acme\\, Inc."),
            (
                utf8("Acme"),
                utf8("boss,O=Other"),
                "CN=boss\\,O=Other,O=Acme",
            ),
            (utf8("Zähler"), utf8(" a "), "CN=\\ a\\ ,O=Zähler"),
        ] {
            let named = [
                (DnType::OrganizationName, organization),
                (DnType::CommonName, name),
            ];
            let read = read(&[], &named).and_then(|names| names.subject);
            assert_eq!(read.as_deref(), Some(written));
            assert_eq!(subject(written).as_deref(), Some(written));
        }
        let other = "cn=importer,O=Acme";
        assert_eq!(subject(other).as_deref(), Some("CN=importer,O=Acme"));
        for wrong in ["importer", "CN=importer, O=Acme", "CN=a\\xb", "colour=blue"] {
            assert_eq!(subject(wrong), None, "{wrong}");
        }
    }
}
