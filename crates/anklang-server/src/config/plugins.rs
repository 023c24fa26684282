//! What of the section `plugins` is about accounts of tenants.

use std::path::PathBuf;

use anklang_domain::account::is_id;

use super::Reader;

/// What accounts of tenants may use.
#[derive(Debug, Clone, Default)]
pub struct TenantPlugins {
    /// Ids of plugins; all when empty.
    pub only: Vec<String>,
    /// Secrets that lie with the server.
    pub secrets: SecretRules,
}

/// Which variables and files accounts of tenants may name as secrets.
#[derive(Debug, Clone, Default)]
pub struct SecretRules {
    /// What names of variables begin with; none may be named when empty.
    pub env_prefix: String,
    /// Absolute path of the folder in which each tenant has one; no file may be named when `None`.
    pub folder: Option<PathBuf>,
}

impl Reader {
    pub(super) fn tenant_plugins(&mut self) -> Option<TenantPlugins> {
        let path = "plugins.for_tenants";
        let only = self.words(path);
        for (i, _) in only.iter().enumerate().filter(|(_, id)| !is_id(id)) {
            let reason = "a plugin's id is 1 to 63 of a–z, 0–9 and hyphens";
            self.violations.add(format!("{path}[{i}]"), reason);
        }
        let prefix = self.text("plugins.secret_env_prefix");
        let named = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
        let fits = |p: &String| p.bytes().all(named) && !p.starts_with("ANKLANG_");
        if prefix.as_ref().is_some_and(|prefix| !fits(prefix)) {
            let reason = "must be capitals, digits and underscores, and not begin with ANKLANG_";
            self.violations.add("plugins.secret_env_prefix", reason);
        }
        let folder = self.text("plugins.secret_folder").map(PathBuf::from);
        let named = folder.filter(|folder| !folder.as_os_str().is_empty());
        if named.as_ref().is_some_and(|folder| !folder.is_absolute()) {
            self.violations
                .add("plugins.secret_folder", "must be an absolute path");
        }
        Some(TenantPlugins {
            only,
            secrets: SecretRules {
                env_prefix: prefix?,
                folder: named,
            },
        })
    }
}
