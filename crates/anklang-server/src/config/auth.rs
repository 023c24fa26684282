//! The section `auth`: who may call.

mod certificates;
mod tokens;

use std::collections::BTreeMap;
use std::time::Duration;

use anklang_domain::access::{Role, Units};
use anklang_domain::account::is_id;
use figment::value::Value;
use rustls::RootCertStore;
use url::Url;

use super::{Reader, TlsConfig};
use crate::auth::{Tenants, may_fetch};
use crate::tls;

pub use certificates::{CertificateConfig, CertificateName};
pub use tokens::{TokenConfig, TokensFile};

/// What names of callers begin with that no issuer has vouched for.
const RESERVED: [&str; 2] = ["tokens", "certificates"];

/// Who may call.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// How callers are known.
    pub mode: AuthMode,
    /// Whether they may not be known where others than this machine can call.
    pub anybody: bool,
    /// Whether `grpc.health.v1` answers without a token.
    pub open_health: bool,
    /// Whether reflection answers without a token.
    pub open_reflection: bool,
    /// Tokens that are known themselves.
    pub tokens: Vec<TokenConfig>,
    /// A file with more of them.
    pub tokens_file: Option<TokensFile>,
    /// Who makes tokens that are trusted.
    pub issuers: Vec<IssuerConfig>,
    /// Whose certificates count.
    pub certificates: Vec<CertificateConfig>,
}

/// How callers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// They are not: whoever reaches the port may do everything.
    None,
    /// By a token with each call, or by the certificate of their connection.
    Token,
}

/// Who makes tokens that are trusted.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// What it is called here.
    pub id: String,
    /// What it calls itself.
    pub issuer: String,
    /// What it calls this server.
    pub audience: String,
    /// Where its keys are; found by discovery when `None`.
    pub jwks_url: Option<Url>,
    /// Who may have signed its certificate, besides the authorities of the system.
    pub authorities: Option<RootCertStore>,
    /// The claim that names tenants.
    pub tenant_claim: String,
    /// The claim that names roles.
    pub roles_claim: String,
    /// The claim that names the user, as workers are named.
    pub worker_claim: String,
    /// The claim that names org units, for those who are bound to them.
    pub org_unit_claim: String,
    /// Its names of roles; they are ours when empty.
    pub role_names: BTreeMap<String, Role>,
    /// Tenants of which its tokens may speak.
    pub tenants: Tenants,
    /// How far its clock and ours may be apart.
    pub leeway_seconds: u64,
    /// How often its keys are fetched.
    pub refresh: Duration,
    /// Whether its keys may come by http from other machines.
    pub allow_http: bool,
}

impl Reader {
    /// `tls` is what `server.tls` was read as.
    pub(super) fn auth(&mut self, tls: Option<&Option<TlsConfig>>) -> Option<AuthConfig> {
        let mode = self.text("auth.mode").and_then(|mode| {
            let known = match &mode[..] {
                "none" => Ok(AuthMode::None),
                "token" => Ok(AuthMode::Token),
                _ => Err("must be \"none\" or \"token\""),
            };
            self.violations.check("auth.mode", known)
        });
        let anybody = self.flag("auth.anybody");
        let open_health = self.flag("auth.open_health");
        let open_reflection = self.flag("auth.open_reflection");
        let token_ids = self.ids("tokens");
        let issuer_ids = self.ids("issuers");
        let certificate_ids = self.ids("certificates");
        let file = self.file("auth.tokens_file");
        let known = [&token_ids, &issuer_ids, &certificate_ids];
        let knows = known.iter().any(|ids| !ids.is_empty()) || !matches!(file, Some(None));
        if mode == Some(AuthMode::Token) && !knows {
            self.violations.add(
                "auth.mode",
                "\"token\" needs one of auth.tokens, auth.tokens_file, auth.issuers or \
                 auth.certificates: nobody could call",
            );
        }
        if mode == Some(AuthMode::None) && knows {
            let forgotten = "must be \"token\" where tokens, issuers or certificates are configured: with \
                             \"none\" nobody is asked for them";
            self.violations.add("auth.mode", forgotten);
        }
        let tokens = self.tokens(&token_ids);
        self.check_tokens(&[], &tokens);
        let tokens_file = self.tokens_file(file.flatten(), &tokens);
        let issuers = issuer_ids.iter().filter_map(|id| self.issuer(id));
        let issuers: Vec<IssuerConfig> = issuers.collect();
        let certificates = self.certificates(&certificate_ids, tls);
        for (i, issuer) in issuers.iter().enumerate() {
            if issuers.iter().take(i).any(|o| o.issuer == issuer.issuer) {
                let field = format!("auth.issuers.{}.issuer", issuer.id);
                self.violations.add(field, "is configured already");
            }
        }
        Some(AuthConfig {
            mode: mode?,
            anybody: anybody?,
            open_health: open_health?,
            open_reflection: open_reflection?,
            tokens,
            tokens_file: tokens_file?,
            issuers,
            certificates,
        })
    }

    /// The ids of the tables below `auth.<section>`.
    fn ids(&mut self, section: &str) -> Vec<String> {
        let path = format!("auth.{section}");
        let table = match self.dict.get("auth") {
            Some(Value::Dict(_, auth)) => auth.get(section),
            _ => None,
        };
        let entries: Vec<(String, bool)> = match table {
            None => return Vec::new(),
            Some(Value::Dict(_, entries)) => entries
                .iter()
                .map(|(id, entry)| (id.clone(), matches!(entry, Value::Dict(..))))
                .collect(),
            Some(_) => {
                self.take(&path);
                self.violations.add(path, "must be a table");
                return Vec::new();
            }
        };
        let mut ids = Vec::new();
        for (id, is_table) in entries {
            let path = format!("{path}.{id}");
            if !is_table {
                self.take(&path);
                self.violations.add(path, "must be a table");
                continue;
            }
            if !is_id(&id) {
                self.violations
                    .add(path, "an id is 1 to 63 of a–z, 0–9 and hyphens");
            } else if section == "issuers" && RESERVED.contains(&&id[..]) {
                let why = "must be another id: callers who are known otherwise are called that";
                self.violations.add(path, why);
            }
            ids.push(id);
        }
        ids
    }

    fn issuer(&mut self, id: &str) -> Option<IssuerConfig> {
        let path = |key: &str| format!("auth.issuers.{id}.{key}");
        let allow_http = self.optional(&path("allow_http"), Self::flag);
        let allow_http = allow_http.unwrap_or_default();
        let issuer = self.text(&path("issuer"));
        let audience = self.text(&path("audience"));
        if audience.as_deref() == Some("") {
            self.violations.add(path("audience"), "must not be empty");
        }
        let jwks_url = self
            .optional(&path("jwks_url"), Self::text)
            .filter(|url| !url.is_empty());
        // Where keys are fetched from is what is trusted.
        let fetched = match (&jwks_url, &issuer) {
            (Some(url), _) => Some((path("jwks_url"), url.as_str())),
            (None, Some(issuer)) => Some((path("issuer"), issuer.as_str())),
            (None, None) => None,
        };
        let fetched = fetched.and_then(|(field, url)| {
            let parsed = Url::parse(url).ok();
            let parsed = parsed.filter(|url| may_fetch(url, allow_http));
            let why = "must be a URL with https; http is for this machine, or with allow_http";
            self.violations.check(field, parsed.ok_or(why))
        });
        if jwks_url.is_some() && issuer.as_deref() == Some("") {
            self.violations.add(path("issuer"), "must not be empty");
        }
        let authorities = match self.optional(&path("tls_ca"), Self::file).flatten() {
            Some(file) => {
                let read = tls::read_authorities(&file);
                self.violations.check(path("tls_ca"), read)
            }
            None => None,
        };
        let mut claim = |key: &str, default: &str| {
            let found = self.optional(&path(key), Self::text);
            if found.as_deref() == Some("") {
                self.violations.add(path(key), "must not be empty");
            }
            found.unwrap_or_else(|| default.to_owned())
        };
        let tenant_claim = claim("tenant_claim", "anklang_tenants");
        let roles_claim = claim("roles_claim", "anklang_roles");
        let worker_claim = claim("worker_claim", "preferred_username");
        let org_unit_claim = claim("org_unit_claim", "anklang_org_units");
        let role_names = self.role_names(&path("role_names"));
        // Its tokens name theirs.
        let tenants = self.optional(&path("tenants"), |r, k| Some(r.tenants(k)));
        let tenants = tenants.unwrap_or(Tenants::All);
        let leeway = self.optional(&path("leeway_seconds"), |r, k| r.whole(k, 0..=600));
        let refresh = self.optional(&path("refresh_seconds"), |r, k| r.whole(k, 1..=86_400));
        Some(IssuerConfig {
            id: id.to_owned(),
            issuer: issuer?,
            audience: audience?,
            jwks_url: jwks_url.and(fetched),
            authorities,
            tenant_claim,
            roles_claim,
            worker_claim,
            org_unit_claim,
            role_names,
            tenants,
            leeway_seconds: leeway.unwrap_or(60),
            refresh: Duration::from_secs(refresh.unwrap_or(300)),
            allow_http,
        })
    }

    fn role_names(&mut self, path: &str) -> BTreeMap<String, Role> {
        let names = match self.take(path) {
            None => return BTreeMap::new(),
            Some(Value::Dict(_, names)) => names,
            Some(_) => {
                let what = "must be a table of names, each with the role that it is";
                self.violations.add(path, what);
                return BTreeMap::new();
            }
        };
        let read = names.into_iter().filter_map(|(name, role)| {
            let role = role.as_str().unwrap_or_default();
            let role = self
                .violations
                .check(format!("{path}.{name}"), Role::parse(role));
            Some((name, role?))
        });
        read.collect()
    }

    /// Roles, at least one.
    fn role_list(&mut self, path: &str) -> Vec<Role> {
        let roles = self.words(path);
        if roles.is_empty() {
            self.violations
                .add(path, "must be a list of at least one role");
        }
        let roles = roles.iter().enumerate().filter_map(|(i, role)| {
            let field = format!("{path}[{i}]");
            self.violations.check(field, Role::parse(role))
        });
        roles.collect()
    }

    /// Codes of org units: at least one for those whose roles are all bound to them, none for others.
    fn org_units(&mut self, path: &str, roles: &[Role]) -> Vec<String> {
        let codes = self.words(path);
        for (i, code) in codes.iter().enumerate() {
            if !Units::is_code(code) {
                let what = "must be the code of an org unit: 1 to 64 characters of one line";
                self.violations.add(format!("{path}[{i}]"), what);
            }
        }
        let is_bound = !roles.is_empty() && roles.iter().all(|role| role.is_bound());
        if is_bound && codes.is_empty() {
            let what = "is required for the roles region and agency: at least one org unit";
            self.violations.add(path, what);
        }
        if !is_bound && !roles.is_empty() && !codes.is_empty() {
            let what =
                "goes with the roles region and agency alone: any other gives the whole tenant";
            self.violations.add(path, what);
        }
        codes
    }

    /// Slugs of tenants, or "*" alone: whoever forgets to name them must not get all.
    fn tenants(&mut self, path: &str) -> Tenants {
        let slugs = self.words(path);
        if let [all] = &slugs[..]
            && all == "*"
        {
            return Tenants::All;
        }
        // What is no list of texts is told already.
        if slugs.is_empty() && !self.violations.iter().any(|v| v.field == path) {
            let what = "must be a list of at least one tenant's slug; [\"*\"] is all of them";
            self.violations.add(path, what);
        }
        for (i, slug) in slugs.iter().enumerate() {
            if !is_id(slug) {
                let what = match &slug[..] {
                    "*" => "must stand alone: it is all tenants",
                    // It would never match.
                    _ => "must be the slug of a tenant: 1 to 63 of a–z, 0–9 and hyphens",
                };
                self.violations.add(format!("{path}[{i}]"), what);
            }
        }
        Tenants::Only(slugs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
