//! The tables `auth.tokens`, in the settings and in a file beside them: tokens that are known themselves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anklang_domain::Violations;
use anklang_domain::access::Role;
use chrono::{DateTime, Utc};
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::Dict;

use crate::auth::Tenants;
use crate::config::Reader;

const FILE: &str = "auth.tokens_file";

/// A token that is known itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// What it is called.
    pub id: String,
    /// Its SHA-256.
    pub sha256: [u8; 32],
    /// For whom it may act.
    pub tenants: Tenants,
    /// What it is.
    pub roles: Vec<Role>,
    /// The org units that it is bound to, when it is.
    pub org_units: Vec<String>,
    /// From when on it does not count any more.
    pub expires: Option<DateTime<Utc>>,
}

/// A file with tokens, which may change while the server runs.
#[derive(Debug, Clone)]
pub struct TokensFile {
    /// Where it is.
    pub path: PathBuf,
    /// How often to look at it.
    pub reload: Duration,
    /// What it held last.
    pub tokens: Vec<TokenConfig>,
}

impl TokensFile {
    /// The tokens of a file, or all that is wrong with it. Those that the settings hold may not be among them.
    pub fn read(path: &Path, settings: &[TokenConfig]) -> Result<Vec<TokenConfig>, Violations> {
        let mut violations = Violations::new();
        let Some(dict) = violations.check(FILE, tables(path)) else {
            return Err(violations);
        };
        let mut reader = Reader {
            dict,
            violations: Violations::new(),
        };
        let ids = reader.ids("tokens");
        let tokens = reader.tokens(&ids);
        reader.check_tokens(settings, &tokens);
        reader.refuse_the_rest();
        violations.extend_under(&format!("{FILE}: "), reader.violations);
        violations.finish(tokens)
    }
}

fn tables(path: &Path) -> Result<Dict, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Figment::from(Toml::string(&text))
        .extract()
        .map_err(|error| {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            format!("is not TOML: {first}")
        })
}

impl Reader {
    /// Tokens by their ids.
    pub(super) fn tokens(&mut self, ids: &[String]) -> Vec<TokenConfig> {
        ids.iter().filter_map(|id| self.token(id)).collect()
    }

    /// The file, if there is one, with what it holds now; `settings` hold tokens as well.
    pub(super) fn tokens_file(
        &mut self,
        path: Option<PathBuf>,
        settings: &[TokenConfig],
    ) -> Option<Option<TokensFile>> {
        let reload = self.whole("auth.reload_seconds", 1..=86_400);
        let Some(path) = path else {
            return Some(None);
        };
        let tokens = match TokensFile::read(&path, settings) {
            Ok(tokens) => tokens,
            Err(found) => {
                self.violations.extend_under("", found);
                return None;
            }
        };
        Some(Some(TokensFile {
            path,
            reload: Duration::from_secs(reload?),
            tokens,
        }))
    }

    /// Refuses what is one of the tokens before, or of `others`, by its hash or by its id.
    pub(super) fn check_tokens(&mut self, others: &[TokenConfig], tokens: &[TokenConfig]) {
        for (i, token) in tokens.iter().enumerate() {
            let mut before = others.iter().chain(tokens.iter().take(i));
            if before.any(|other| other.sha256 == token.sha256) {
                let field = format!("auth.tokens.{}.sha256", token.id);
                self.violations.add(field, "is that of another token");
            }
            if others.iter().any(|other| other.id == token.id) {
                let field = format!("auth.tokens.{}", token.id);
                self.violations.add(field, "is in the settings as well");
            }
        }
    }

    fn token(&mut self, id: &str) -> Option<TokenConfig> {
        let path = |key: &str| format!("auth.tokens.{id}.{key}");
        let sha256 = self.text(&path("sha256")).and_then(|text| {
            let mut bytes = [0; 32];
            let parsed = hex::decode_to_slice(text, &mut bytes)
                .map(|()| bytes)
                .map_err(|_| "must be 64 hexadecimal digits, as `anklang token new` prints them");
            self.violations.check(path("sha256"), parsed)
        });
        let tenants = self.tenants(&path("tenants"));
        let roles = self.role_list(&path("roles"));
        let org_units = self.org_units(&path("org_units"), &roles);
        let expires = self
            .optional(&path("expires"), Self::text)
            .unwrap_or_default();
        let expires = match &expires[..] {
            "" => Some(None),
            text => {
                let parsed = DateTime::parse_from_rfc3339(text)
                    .map(|at| Some(at.to_utc()))
                    .map_err(|_| "must be a time of RFC 3339, e.g. 2027-01-31T00:00:00Z");
                self.violations.check(path("expires"), parsed)
            }
        };
        Some(TokenConfig {
            id: id.to_owned(),
            sha256: sha256?,
            tenants,
            roles,
            org_units,
            expires: expires?,
        })
    }
}
