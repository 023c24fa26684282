//! How to log in to the database.

use anklang_store::Login;

use super::Reader;
use crate::outside::system_roots;
use crate::tls;

impl Reader {
    /// Its URL, and whom to trust there. What the system trusts is only looked up when it counts.
    pub(super) fn login(&mut self) -> Option<Login> {
        let login = self.text("database.url").and_then(|text| {
            let read = Login::read(&text).map_err(|_| {
                "must be a URL of PostgreSQL or key=value pairs; its sslmode may be disable, prefer, require, \
                 verify-ca or verify-full"
            });
            self.violations.check("database.url", read)
        });
        let path = "database.tls_ca";
        let file = self.file(path);
        let (login, file) = (login?, file?);
        let authorities = match &file {
            Some(_) if !login.encrypts() => {
                self.violations.add(
                    path,
                    "is of no use unless database.url has sslmode=require, verify-ca or verify-full",
                );
                return None;
            }
            Some(file) => self.violations.check(path, tls::read_authorities(file))?,
            None if login.verifies() => system_roots(),
            None => return Some(login),
        };
        let login = login.trusting(authorities);
        self.violations.check(path, login)
    }
}
