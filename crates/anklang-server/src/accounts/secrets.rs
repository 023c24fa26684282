//! Secrets in the settings of tenants' accounts: taken out before the rest is stored, sealed together,
//! and put back when the account is opened.
//!
//! A secret is its value, or says where the server finds it: `{"env": "NAME"}`, `{"file": "/path"}`. Only
//! below what the operator has set aside for the tenant, so that no tenant reads the server's secrets or
//! another's. Of files that counts where they really are, links followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use anklang_channels::hide;
use anklang_channels::{is_secret, marked};
use anklang_domain::TenantId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::SecretRules;
use crate::seal::{Keys, SealError};

/// The most bytes of a file with a secret.
const MAX_FILE: u64 = 65_536;

/// A secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// Itself.
    Value(Value),
    /// A variable of the server's process.
    Env(String),
    /// A file that the server can read; a line break at its end does not count.
    File(PathBuf),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Secrets by the JSON pointers at which they belong.
pub type Secrets = BTreeMap<String, Secret>;

impl Secret {
    fn read(value: Value) -> Secret {
        let reference = match &value {
            Value::Object(members) if members.len() == 1 => members.iter().next(),
            _ => None,
        };
        match reference {
            Some((kind, Value::String(name))) if kind == "env" => Secret::Env(name.clone()),
            Some((kind, Value::String(path))) if kind == "file" => Secret::File(path.into()),
            _ => Secret::Value(value),
        }
    }
}

/// What came out of settings that were given.
#[derive(Debug, Default)]
pub struct Taken {
    /// The secrets.
    pub secrets: Secrets,
    /// Where `null` was given: there shall be none any more.
    pub removed: BTreeSet<String>,
}

/// Takes the secrets out of settings. Out of a list one leaves `null` behind, so that the others keep
/// their places; `null` there is no removal.
pub fn take(schema: &Value, config: &mut Value) -> Taken {
    let mut taken = Taken::default();
    for path in marked(schema, config, is_secret) {
        let Some((parent, name)) = path.rsplit_once('/') else {
            continue;
        };
        let (value, in_list) = match config.pointer_mut(parent) {
            Some(Value::Object(members)) => (members.remove(&unescaped(name)), false),
            Some(Value::Array(items)) => {
                let item = name.parse::<usize>().ok().and_then(|i| items.get_mut(i));
                (item.map(Value::take), true)
            }
            _ => (None, false),
        };
        match value {
            None => {}
            Some(Value::Null) if in_list => {}
            Some(Value::Null) => drop(taken.removed.insert(path)),
            Some(value) => drop(taken.secrets.insert(path, Secret::read(value))),
        }
    }
    taken
}

/// Puts a value where it belongs; says whether there is such a place.
pub fn put(config: &mut Value, path: &str, value: Value) -> bool {
    let Some((parent, name)) = path.rsplit_once('/') else {
        return false;
    };
    match config.pointer_mut(parent) {
        Some(Value::Object(members)) => {
            members.insert(unescaped(name), value);
            true
        }
        Some(Value::Array(items)) => {
            let item = name.parse::<usize>().ok().and_then(|i| items.get_mut(i));
            item.map(|item| *item = value).is_some()
        }
        _ => false,
    }
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

/// A JSON pointer as people and violations write it: `oauth.client_secret`.
pub fn dotted(path: &str) -> String {
    let parts = path.trim_start_matches('/').split('/').map(unescaped);
    parts.collect::<Vec<_>>().join(".")
}

/// Names of settings by which plugins read the server's own variables and files: by their endings, or
/// marked as `x-operator` in the schema.
pub fn is_operators(name: &str, schema: &Value) -> bool {
    let endings = ["_env", "_file", "_folder"];
    schema["x-operator"] == true || endings.iter().any(|ending| name.ends_with(ending))
}

impl SecretRules {
    /// Whether a tenant may name such a secret, by its words alone.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn check(&self, tenant: &str, secret: &Secret) -> Result<(), String> {
        match secret {
            Secret::Value(_) => Ok(()),
            Secret::Env(_) if self.env_prefix.is_empty() => {
                Err("variables of the server are not allowed here".into())
            }
            Secret::Env(name) => {
                let prefix = self.prefix(tenant);
                let fits = name.strip_prefix(&prefix).is_some_and(|rest| {
                    let known = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
                    rest.starts_with(|c: char| c.is_ascii_alphanumeric())
                        && !rest.contains("__")
                        && rest.bytes().all(known)
                });
                let form = || format!("must be {prefix} and a name of letters, digits and _");
                fits.then_some(()).ok_or_else(form)
            }
            Secret::File(path) => {
                let own = self.own_folder(tenant)?;
                let fits = path.starts_with(&own)
                    && path.components().all(|part| part.as_os_str() != "..");
                let form = || format!("must be a file below {}", own.display());
                fits.then_some(()).ok_or_else(form)
            }
        }
    }

    /// The value of a secret, as of now. Blocks for as long as it takes to read a file.
    ///
    /// # Errors
    /// What is wrong, for people; never with the value.
    pub fn resolve(&self, tenant: &str, secret: &Secret) -> Result<Value, String> {
        self.check(tenant, secret)?;
        match secret {
            Secret::Value(value) => Ok(value.clone()),
            Secret::Env(name) => std::env::var(name)
                .map(Value::from)
                .map_err(|_| format!("the variable {name} is not set")),
            Secret::File(path) => self.read_file(tenant, path),
        }
    }

    fn read_file(&self, tenant: &str, path: &Path) -> Result<Value, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let real = path.canonicalize().map_err(|e| wrong(&e))?;
        let own = self.own_folder(tenant)?;
        let own = own.canonicalize().map_err(|e| wrong(&e))?;
        if !real.starts_with(&own) {
            return Err(wrong(&"leads out of the tenant's folder"));
        }
        let file = std::fs::metadata(&real).map_err(|e| wrong(&e))?;
        if !file.is_file() || file.len() > MAX_FILE {
            return Err(wrong(&"is no file of at most 64 KiB"));
        }
        let text = std::fs::read_to_string(&real).map_err(|e| wrong(&e))?;
        Ok(Value::from(text.trim_end_matches(['\r', '\n'])))
    }

    /// The tenant's names go on with no further `__`: what begins with this is no other tenant's.
    fn prefix(&self, tenant: &str) -> String {
        let slug = tenant.to_ascii_uppercase().replace('-', "_");
        format!("{}{slug}__", self.env_prefix)
    }

    fn own_folder(&self, tenant: &str) -> Result<PathBuf, String> {
        let folder = self.folder.as_ref().map(|folder| folder.join(tenant));
        folder.ok_or_else(|| "files of the server are not allowed here".into())
    }
}

/// Seals secrets for an account; `None` when there are none.
pub fn seal(
    keys: &Keys,
    tenant: TenantId,
    account: &str,
    secrets: &Secrets,
) -> Result<Option<Vec<u8>>, SealError> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let plain = serde_json::to_vec(secrets).map_err(|_| SealError::Broken)?;
    keys.seal(context(tenant, account).as_bytes(), &plain)
        .map(Some)
}

/// The secrets of an account.
pub fn open(
    keys: &Keys,
    tenant: TenantId,
    account: &str,
    sealed: Option<&[u8]>,
) -> Result<Secrets, SealError> {
    let Some(sealed) = sealed else {
        return Ok(Secrets::new());
    };
    let plain = keys.open(context(tenant, account).as_bytes(), sealed)?;
    serde_json::from_slice(&plain).map_err(|_| SealError::Broken)
}

fn context(tenant: TenantId, account: &str) -> String {
    format!("channel_account/{tenant}/{account}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"properties": {
            "host": {"type": "string"},
            "password": {"writeOnly": true},
            "oauth": {"properties": {"id": {}, "secret/key": {"writeOnly": true}}},
            "tokens": {"items": {"writeOnly": true}},
            "ca_file": {}, "dsn": {"x-operator": true},
        }})
    }

    #[test]
    fn secrets_are_taken_out_and_put_back() {
        let given = json!({
            "host": "h", "password": "geheim", "tokens": ["a", "b"],
            "oauth": {"id": 1, "secret/key": {"env": "X"}},
        });
        let mut config = given.clone();
        let taken = take(&schema(), &mut config);
        assert_eq!(
            config,
            json!({"host": "h", "oauth": {"id": 1}, "tokens": [null, null]})
        );
        let paths: Vec<String> = taken.secrets.keys().map(|p| dotted(p)).collect();
        assert_eq!(
            paths,
            ["oauth.secret/key", "password", "tokens.0", "tokens.1"]
        );
        assert_eq!(taken.secrets["/oauth/secret~1key"], Secret::Env("X".into()));
        for (path, secret) in &taken.secrets {
            let value = match secret {
                Secret::Value(value) => value.clone(),
                Secret::Env(name) => json!({ "env": name }),
                Secret::File(path) => json!({ "file": path }),
            };
            assert!(put(&mut config, path, value), "{path}");
        }
        assert_eq!(config, given);
        assert!(!put(&mut config, "/gone/key", json!(1)));

        let mut removed = json!({"password": null, "tokens": [null]});
        let taken = take(&schema(), &mut removed);
        assert_eq!(taken.removed.into_iter().collect::<Vec<_>>(), ["/password"]);
        assert!(taken.secrets.is_empty());
        assert_eq!(removed, json!({"tokens": [null]}));
    }

    #[test]
    fn settings_that_read_the_server_are_the_operators() {
        let config = json!({"host": "h", "ca_file": "/x", "dsn": "y", "password": "z"});
        let found = marked(&schema(), &config, is_operators);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["/ca_file", "/dsn"]);
    }

    #[test]
    fn a_tenant_names_what_is_set_aside_for_it() {
        let none = SecretRules::default();
        let env = |name: &str| Secret::Env(name.into());
        let file = |path: &str| Secret::File(path.into());
        assert!(none.check("acme", &env("PATH")).is_err());
        assert!(none.check("acme", &file("/etc/passwd")).is_err());
        assert!(none.check("acme", &Secret::Value(json!(1))).is_ok());
        let rules = SecretRules {
            env_prefix: "T_".into(),
            folder: Some("/secrets".into()),
        };
        for (name, fits) in [
            ("T_ACME__SMTP", true),
            ("T_ACME__", false),
            ("T_ACME__B__SMTP", false),
            ("T_ACME_B__SMTP", false),
            ("T_ACME___SMTP", false),
            ("T_OTHER__SMTP", false),
            ("PATH", false),
        ] {
            assert_eq!(rules.check("acme", &env(name)).is_ok(), fits, "{name}");
        }
        assert!(rules.check("acme-b", &env("T_ACME_B__SMTP")).is_ok());
        for (path, fits) in [
            ("/secrets/acme/smtp", true),
            ("/secrets/acme/../other/smtp", false),
            ("/secrets/acme-b/smtp", false),
            ("/secrets/other/smtp", false),
            ("/etc/passwd", false),
            ("acme/smtp", false),
        ] {
            assert_eq!(rules.check("acme", &file(path)).is_ok(), fits, "{path}");
        }
    }

    #[test]
    fn links_do_not_lead_out_of_a_tenants_folder() {
        let root = std::env::temp_dir().join(format!("anklang-{}", uuid::Uuid::now_v7()));
        let own = root.join("acme");
        std::fs::create_dir_all(&own).expect("a folder");
        std::fs::write(own.join("smtp"), "geheim\n").expect("a file");
        std::fs::write(root.join("server"), "not theirs").expect("a file");
        std::os::unix::fs::symlink(root.join("server"), own.join("link")).expect("a link");
        let rules = SecretRules {
            env_prefix: String::new(),
            folder: Some(root.clone()),
        };
        let read = |name: &str| rules.resolve("acme", &Secret::File(own.join(name)));
        assert_eq!(read("smtp"), Ok(json!("geheim")));
        assert!(read("link").is_err_and(|why| !why.contains("not theirs")));
        assert!(read("none").is_err());
        std::fs::remove_dir_all(&root).expect("it was there");
    }

    #[test]
    fn sealed_secrets_open_for_their_account_alone() {
        let key = crate::seal::SealingKey {
            id: "a".into(),
            key: [7; 32],
        };
        let (keys, tenant) = (Keys::new(&[key]), TenantId::new());
        let secrets = Secrets::from([("/password".into(), Secret::Value(json!("geheim")))]);
        let sealed = seal(&keys, tenant, "relay", &secrets).expect("a key");
        let sealed = sealed.expect("there are some");
        let text = String::from_utf8_lossy(&sealed);
        assert!(!text.contains("geheim") && !text.contains("password"));
        let opened = |tenant, account: &str| open(&keys, tenant, account, Some(&sealed));
        assert!(opened(tenant, "relay").is_ok_and(|found| found == secrets));
        assert_eq!(opened(tenant, "other").err(), Some(SealError::Broken));
        assert!(opened(TenantId::new(), "relay").is_err());
        assert_eq!(seal(&keys, tenant, "relay", &Secrets::new()), Ok(None));
        let told = hide("no login with geheim".into(), &[json!(["geheim", 3])]);
        assert_eq!(told, "no login with ********");
    }
}
