//! How to log in to the database, through a pooler or past it, and to its replica.

use std::sync::Arc;
use std::time::Duration;

use anklang_domain::Violations;
use anklang_store::{CertificateFault, ClientCertificate, Login, Pooler, ReplicaConfig, Store};

use super::{Config, Reader};
use crate::outside::system_roots;
use crate::reload::{self, Reload};
use crate::tls;

const CERTIFICATE: &str = "database.tls_certificate";
const KEY: &str = "database.tls_key";

/// What is of no use without TLS.
const NO_TLS: &str =
    "is of no use unless database.url has sslmode=require, verify-ca or verify-full";

/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate that the database is shown, whose files may change while the server runs.
#[derive(Debug, Clone)]
pub struct DatabaseCertificate(Arc<ClientCertificate>);

impl Reload for DatabaseCertificate {
    const WHAT: &'static str = "The certificate for the database";
    const FILES: &'static str = "database";

    fn every(&self) -> Duration {
        LOOK
    }

    async fn look(&mut self) -> Result<bool, Violations> {
        let shown = Arc::clone(&self.0);
        let reading = move || {
            let mut violations = Violations::new();
            let looked = shown
                .look()
                .map_err(|fault| refused(&mut violations, fault));
            violations.finish(looked.unwrap_or(false))
        };
        reload::read(Self::WHAT, reading).await
    }
}

/// Notes what is wrong with the certificate, or its key.
fn refused(violations: &mut Violations, fault: CertificateFault) {
    match fault {
        CertificateFault::Certificate(why) => violations.add(CERTIFICATE, why),
        CertificateFault::Key(why) => violations.add(KEY, why),
    }
}

/// What is logged in to.
pub(super) struct Logins {
    pub(super) main: Login,
    pub(super) direct: Option<Login>,
    pub(super) replica: Option<ReplicaConfig>,
    pub(super) certificate: Option<DatabaseCertificate>,
}

impl Config {
    /// Settings whose connections may go to other machines in plain text, though nobody has said so.
    pub fn maybe_plain(&self) -> impl Iterator<Item = &'static str> {
        let replica = self.replica.as_ref().map(|replica| &replica.login);
        let logins = [
            ("database.url", Some(&self.database)),
            ("database.direct_url", self.direct.as_ref()),
            ("database.replica_url", replica),
        ];
        let plain = logins
            .into_iter()
            .filter(|(_, login)| login.is_some_and(Login::maybe_plain));
        plain.map(|(setting, _)| setting)
    }

    /// The database, with at most so many connections; none is opened yet.
    pub fn store(&self, connections: usize) -> anklang_store::Result<Store> {
        let mut store = Store::open(self.database.clone(), connections)?;
        if let Some(direct) = &self.direct {
            store = store.with_direct(direct.clone());
        }
        if let Some(replica) = &self.replica {
            store = store.with_replica(replica.clone(), connections)?;
        }
        Ok(store)
    }
}

impl Reader {
    /// The URLs, and whom to trust there. What the system trusts is only looked up when it counts.
    pub(super) fn logins(&mut self, migrate: Option<bool>) -> Option<Logins> {
        let main = self.text("database.url");
        let main = main.and_then(|url| self.url("database.url", &url));
        let pooler = self.pooler();
        let direct = self.further("database.direct_url");
        let replica = self.further("database.replica_url");
        let max_lag = self.whole("database.replica_max_lag_seconds", 1..=3_600);
        let path = "database.tls_ca";
        let file = self.file(path);
        let shown = self.shown();
        let needs_session = (pooler, migrate) == (Some(Pooler::Transaction), Some(true));
        if needs_session && matches!(direct, Some(None)) {
            self.violations.add(
                "database.direct_url",
                "is needed for migrations when there is a pooler, unless database.migrate is false",
            );
        }
        let (main, direct, replica) = (main?, direct?, replica?);
        let (pooler, max_lag, file, shown) = (pooler?, max_lag?, file?, shown?);
        if shown.is_some() && !main.encrypts() {
            self.violations.add(CERTIFICATE, NO_TLS);
        }
        let authorities = match &file {
            Some(_) if !main.encrypts() => {
                self.violations.add(path, NO_TLS);
                return None;
            }
            Some(file) => Some(self.violations.check(path, tls::read_authorities(file))?),
            None => None,
        };
        let mut trusting = |login: Login| {
            let login = match &shown {
                Some(shown) if login.encrypts() => {
                    let showing = login.showing(Arc::clone(shown));
                    self.violations.check(CERTIFICATE, showing)?
                }
                _ => login,
            };
            let authorities = match &authorities {
                Some(authorities) if login.encrypts() => authorities.clone(),
                None if login.verifies() => system_roots(),
                _ => return Some(login),
            };
            self.violations.check(path, login.trusting(authorities))
        };
        let main = trusting(main)?.through(pooler);
        let direct = match direct {
            Some(direct) => Some(trusting(direct)?),
            None => None,
        };
        let replica = match replica {
            Some(replica) => Some(ReplicaConfig {
                login: trusting(replica)?.through(pooler),
                max_lag: Duration::from_secs(max_lag),
            }),
            None => None,
        };
        Some(Logins {
            main,
            direct,
            replica,
            certificate: shown.map(DatabaseCertificate),
        })
    }

    /// The certificate to show to the database, if there is one.
    fn shown(&mut self) -> Option<Option<Arc<ClientCertificate>>> {
        let (certificate, key) = (self.file(CERTIFICATE), self.file(KEY));
        match (certificate?, key?) {
            (None, None) => return Some(None),
            (Some(certificate), Some(key)) => match ClientCertificate::open(certificate, key) {
                Ok(shown) => return Some(Some(Arc::new(shown))),
                Err(fault) => refused(&mut self.violations, fault),
            },
            (_, _) => self
                .violations
                .add(CERTIFICATE, "and tls_key must both be given, or neither"),
        }
        None
    }

    fn url(&mut self, path: &str, url: &str) -> Option<Login> {
        let read = Login::read(url).map_err(|_| {
            "must be a URL of PostgreSQL or key=value pairs; its sslmode may be disable, prefer, require, \
             verify-ca or verify-full; sslrootcert, sslcert and sslkey are the settings tls_ca, \
             tls_certificate and tls_key"
        });
        self.violations.check(path, read)
    }

    /// A URL that may be empty.
    fn further(&mut self, path: &str) -> Option<Option<Login>> {
        let url = self.text(path)?;
        match url.is_empty() {
            true => Some(None),
            false => self.url(path, &url).map(Some),
        }
    }

    fn pooler(&mut self) -> Option<Pooler> {
        let path = "database.pooler";
        match &self.text(path)?[..] {
            "none" => Some(Pooler::None),
            "transaction" => Some(Pooler::Transaction),
            _ => {
                self.violations
                    .add(path, "must be \"none\" or \"transaction\"");
                None
            }
        }
    }
}
