//! Authorities, what they sign, and folders that hold it.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// An authority that signs certificates.
pub struct Authority {
    /// Its own certificate, in PEM.
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Signed {
    /// In PEM.
    pub certificate: String,
    /// In PEM.
    pub key: String,
    /// The certificate in DER, to know it again.
    pub der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for this machine.
    pub fn sign(&self) -> Signed {
        self.sign_for(&["localhost", "127.0.0.1"])
    }

    /// A certificate for these names.
    pub fn sign_for(&self, names: &[&str]) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.sign_as(CertificateParams::new(names).unwrap())
    }

    /// A certificate that says this.
    pub fn sign_as(&self, params: CertificateParams) -> Signed {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }
}

/// Files as Kubernetes mounts a Secret: below a link that is swapped, so that all of them change at once.
pub struct Mount {
    folder: TempDir,
    count: u32,
}

impl Mount {
    pub fn new(signed: &Signed, client_ca: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Mount { folder, count: 0 };
        mount.swap(&signed.certificate, &signed.key, client_ca);
        mount
    }

    /// Exchanges all files.
    pub fn swap(&mut self, certificate: &str, key: &str, client_ca: &str) {
        self.count += 1;
        let name = format!("version-{}", self.count);
        let folder = self.folder.path().join(&name);
        std::fs::create_dir(&folder).unwrap();
        for (file, text) in [
            ("tls.crt", certificate),
            ("tls.key", key),
            ("ca.crt", client_ca),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let next = self.folder.path().join("next");
        std::os::unix::fs::symlink(&name, &next).unwrap();
        std::fs::rename(&next, self.folder.path().join("data")).unwrap();
    }

    /// Writes another file beside them.
    pub fn beside(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Where a file is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    /// The server's settings, with more of them as TOML lines.
    pub fn settings(&self, more: &str) -> String {
        let [certificate, key] =
            ["tls.crt", "tls.key"].map(|name| self.file(name).display().to_string());
        format!(
            "[server.tls]\ncertificate = '{certificate}'\nkey = '{key}'\nreload_seconds = 1\n{more}\n"
        )
    }
}
