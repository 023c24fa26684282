//! Configuration: the defaults of `anklang.toml`, the user's file over them, `ANKLANG_…` variables
//! over both. Every fault is found before any is reported.

mod accounts;
mod auth;
mod channels;
mod database;
mod documents;
mod handover;
mod limits;
mod plugins;
mod roles;
mod telemetry;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anklang_domain::Violations;
use anklang_store::{Login, ReplicaConfig};
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Num, Value};
use http::HeaderValue;

pub use accounts::AccountConfig;
pub use auth::{
    AuthConfig, AuthMode, CertificateConfig, CertificateName, IssuerConfig, TokenConfig, TokensFile,
};
pub use channels::ChannelsConfig;
pub use database::DatabaseCertificate;
pub use documents::{DocumentsConfig, S3Config, StoreConfig};
pub use handover::{DATABASE_KEY, HandoverConfig};
pub use limits::{AtOnce, ConnectionsConfig, LimitsConfig};
pub use plugins::{SecretRules, TenantPlugins};
pub use roles::Roles;
pub use telemetry::TelemetryConfig;
pub use tls::TlsConfig;

use crate::seal::SealingKey;

/// The documented file that holds every default.
pub const DEFAULTS: &str = include_str!("../../../anklang.toml");

/// Variables of the program that are no settings.
const OTHER_VARIABLES: [&str; 11] = [
    "CA",
    "CACHE",
    "CERTIFICATE",
    "CONFIG",
    "KEY",
    "PG_BIN",
    "SERVER",
    "SERVER_NAME",
    "TENANT",
    "TOKEN",
    "VENV",
];

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether it may be plain text where others than this machine can listen.
    pub plain_text: bool,
    /// TLS there; plain text when `None`.
    pub tls: Option<TlsConfig>,
    /// What this server does.
    pub roles: Roles,
    /// Connections of callers.
    pub incoming: ConnectionsConfig,
    /// What is taken of callers.
    pub limits: LimitsConfig,
    /// Origins whose pages may call.
    pub cors_origins: Vec<HeaderValue>,
    /// How long calls are still taken when it has been told to stop.
    pub drain: Duration,
    /// How long running work may take to end.
    pub shutdown_grace: Duration,
    /// Who may call.
    pub auth: AuthConfig,
    /// Where recipients reach this server, without a slash at its end; empty when they do not.
    pub public_url: String,
    /// How to log in to the database.
    pub database: Login,
    /// How to do so past a pooler, for migrations.
    pub direct: Option<Login>,
    /// A standby for what reads much.
    pub replica: Option<ReplicaConfig>,
    /// The certificate that all of these are shown, if they are.
    pub database_certificate: Option<DatabaseCertificate>,
    /// At most so many connections.
    pub connections: usize,
    /// Whether to migrate at the start.
    pub migrate: bool,
    /// Where documents lie, how long one may take, and how they are bundled.
    pub documents: DocumentsConfig,
    /// Threads that render.
    pub render_threads: usize,
    /// Folder of the plugins.
    pub plugins: PathBuf,
    /// What accounts of tenants may use.
    pub tenant_plugins: TenantPlugins,
    /// Operations at the same time.
    pub operation_workers: usize,
    /// Lease of an operation.
    pub operation_lease: Duration,
    /// Days for which contacts are generated each night; 0 for none.
    pub planning_horizon: u64,
    /// From which hour on, on the clock of the tenant; for winback as well.
    pub planning_hour: u32,
    /// For so many days entries of the audit log are kept; for ever if not set.
    pub audit_keep_days: Option<i32>,
    /// Whether to send messages; only a worker does.
    pub dispatch: bool,
    /// Lease of a message.
    pub dispatch_lease: Duration,
    /// How often to look for due messages.
    pub dispatch_poll: Duration,
    /// What comes back from channels.
    pub channels: ChannelsConfig,
    /// How events are handed over.
    pub handover: HandoverConfig,
    /// Keys that seal secrets; the first seals.
    pub sealing: Vec<SealingKey>,
    /// What to log.
    pub log_filter: String,
    /// Log as JSON.
    pub log_json: bool,
    /// Where traces and metrics go.
    pub telemetry: TelemetryConfig,
    /// Accounts by id.
    pub channel_accounts: BTreeMap<String, AccountConfig>,
}

impl Config {
    /// Reads the defaults, the file if one is given, and the process's variables.
    pub fn load(file: Option<&Path>) -> Result<Config, Violations> {
        let variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
            .collect();
        let text = file.map(|path| {
            std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
        });
        match text.transpose() {
            Ok(text) => Config::read(text.as_deref(), variables),
            Err(unreadable) => {
                let mut violations = Violations::new();
                violations.add("--config", unreadable);
                Err(violations)
            }
        }
    }

    /// Reads the defaults, the text of a file, and variables.
    pub fn read(
        file: Option<&str>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, Violations> {
        let mut violations = Violations::new();
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(text) = file {
            figment = figment.merge(Toml::string(text));
        }
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("ANKLANG_") else {
                continue;
            };
            if key.contains("__") {
                let key = key.to_lowercase().replace("__", ".");
                figment = figment.merge((key, parse_value(&value)));
            } else if !OTHER_VARIABLES.contains(&key) && !key.starts_with("TEST_") {
                violations.add(
                    name,
                    "is no variable of anklang; keys have a double underscore for each dot",
                );
            }
        }
        let dict = match figment.extract::<Dict>() {
            Ok(dict) => dict,
            Err(errors) => {
                for error in errors {
                    violations.add("configuration", error.to_string());
                }
                return Err(violations);
            }
        };
        let mut reader = Reader { dict, violations };
        let config = reader.config();
        reader.refuse_the_rest();
        let Reader { violations, .. } = reader;
        match config {
            Some(config) => violations.finish(config),
            None => Err(violations),
        }
    }
}

/// A variable's value as TOML would have it, else as text.
fn parse_value(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| Value::from(text))
}

/// A whole number; those of files have a sign, those of variables have none.
fn integer(number: Num) -> Option<i128> {
    let unsigned = || i128::try_from(number.to_u128()?).ok();
    number.to_i128().or_else(unsigned)
}

/// Takes known keys out of the settings; what stays is not known.
struct Reader {
    dict: Dict,
    violations: Violations,
}

impl Reader {
    fn config(&mut self) -> Option<Config> {
        let accounts = self.accounts();
        let listen = self.text("server.listen").and_then(|text| {
            let parsed = text
                .parse()
                .map_err(|_| "must be an address with a port, e.g. 127.0.0.1:50051");
            self.violations.check("server.listen", parsed)
        });
        let plain_text = self.flag("server.plain_text");
        let tls = self.tls();
        let roles = self.roles();
        let limits = self.limits();
        let cors_origins = self.cors_origins();
        let drain = self.whole("server.drain_seconds", 0..=600);
        let shutdown_grace = self.whole("server.shutdown_grace_seconds", 0..=3_600);
        let auth = self.auth(tls.as_ref());
        let public_url = self.public_url();
        let connections = self.whole("database.connections", 4..=1_000);
        let migrate = self.flag("database.migrate");
        let logins = self.logins(migrate);
        let documents = self.documents();
        let render_threads = self.whole("documents.threads", 0..=1_024);
        let plugins = self.text("plugins.folder");
        let tenant_plugins = self.tenant_plugins();
        let operation_workers = self.whole("operations.workers", 1..=64);
        let operation_lease = self.whole("operations.lease_seconds", 1..=3_600);
        let dispatch = self.flag("dispatch.enabled");
        let planning_horizon = self.whole("planning.horizon_days", 0..=366);
        let planning_hour = self.whole("planning.hour", 0..=23);
        let audit_keep_days = self.audit_keep_days();
        let dispatch_lease = self.whole("dispatch.lease_seconds", 1..=3_600);
        let dispatch_poll = self.whole("dispatch.poll_milliseconds", 10..=60_000);
        let channels = self.channels();
        let handover = self.handover();
        let sealing = self.sealing();
        let telemetry = self.telemetry();
        let log_filter = self.text("log.filter").and_then(|filter| {
            let parsed = tracing_subscriber::EnvFilter::try_new(&filter)
                .map_err(|e| format!("is no filter: {e}"));
            self.violations.check("log.filter", parsed).map(|_| filter)
        });
        let log_json = self
            .text("log.format")
            .and_then(|format| match &format[..] {
                "text" => Some(false),
                "json" => Some(true),
                _ => {
                    self.violations
                        .add("log.format", "must be \"text\" or \"json\"");
                    None
                }
            });
        let (incoming, limits) = limits?;
        let logins = logins?;
        Some(Config {
            listen: listen?,
            plain_text: plain_text?,
            tls: tls?,
            roles: roles?,
            incoming,
            limits,
            cors_origins,
            drain: Duration::from_secs(drain?),
            shutdown_grace: Duration::from_secs(shutdown_grace?),
            auth: auth?,
            public_url: public_url?,
            database: logins.main,
            direct: logins.direct,
            replica: logins.replica,
            database_certificate: logins.certificate,
            connections: usize::try_from(connections?).ok()?,
            migrate: migrate?,
            documents: documents?,
            render_threads: match usize::try_from(render_threads?).ok()? {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                n => n,
            },
            plugins: match &plugins?[..] {
                "" => beside_the_program(),
                folder => PathBuf::from(folder),
            },
            tenant_plugins: tenant_plugins?,
            operation_workers: usize::try_from(operation_workers?).ok()?,
            operation_lease: Duration::from_secs(operation_lease?),
            planning_horizon: planning_horizon?,
            planning_hour: u32::try_from(planning_hour?).ok()?,
            audit_keep_days: audit_keep_days?,
            dispatch: dispatch? && roles?.worker,
            dispatch_lease: Duration::from_secs(dispatch_lease?),
            dispatch_poll: Duration::from_millis(dispatch_poll?),
            channels: channels?,
            handover: handover?,
            sealing,
            log_filter: log_filter?,
            log_json: log_json?,
            telemetry: telemetry?,
            channel_accounts: accounts?,
        })
    }

    fn public_url(&mut self) -> Option<String> {
        let text = self.text("public.url")?;
        let parsed = match text.parse::<http::Uri>() {
            _ if text.is_empty() => Ok(String::new()),
            Ok(url)
                if url.query().is_none() && matches!(url.scheme_str(), Some("http" | "https")) =>
            {
                Ok(text.trim_end_matches('/').to_owned())
            }
            _ => Err("must begin with https:// and have no query, e.g. https://post.example.com"),
        };
        // Longer ones do not fit into a line of a mail's header.
        let parsed = parsed.and_then(|url| match url.len() {
            0..=500 => Ok(url),
            _ => Err("must have at most 500 characters"),
        });
        self.violations.check("public.url", parsed)
    }

    fn take(&mut self, path: &str) -> Option<Value> {
        fn within(dict: &mut Dict, path: &str) -> Option<Value> {
            match path.split_once('.') {
                None => dict.remove(path),
                Some((head, rest)) => match dict.get_mut(head)? {
                    Value::Dict(_, inner) => within(inner, rest),
                    _ => None,
                },
            }
        }
        within(&mut self.dict, path)
    }

    fn optional<T>(
        &mut self,
        path: &str,
        read: impl Fn(&mut Self, &str) -> Option<T>,
    ) -> Option<T> {
        let mut dict = &self.dict;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            match dict.get(key)? {
                Value::Dict(_, inner) => dict = inner,
                _ if keys.peek().is_none() => return read(self, path),
                _ => return None,
            }
        }
        None
    }

    fn text(&mut self, path: &str) -> Option<String> {
        match self.take(path) {
            Some(Value::String(_, text)) => Some(text),
            Some(Value::Num(_, n)) => {
                Some(integer(n).map_or_else(|| format!("{n:?}"), |n| n.to_string()))
            }
            Some(_) => {
                self.violations.add(path, "must be a text");
                None
            }
            None => {
                self.violations.add(path, "is missing");
                None
            }
        }
    }

    fn whole(&mut self, path: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let number = match self.take(path) {
            Some(Value::Num(_, n)) => integer(n).and_then(|n| u64::try_from(n).ok()),
            _ => None,
        };
        let found = number.filter(|n| range.contains(n));
        if found.is_none() {
            self.violations.add(
                path,
                format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            );
        }
        found
    }

    /// For how many days entries of the audit log are kept; nothing inside: for ever.
    fn audit_keep_days(&mut self) -> Option<Option<i32>> {
        let path = "audit.keep_days";
        let days = i32::try_from(self.whole(path, 0..=36_500)?).ok()?;
        let least = anklang_domain::audit::LEAST_DAYS;
        match u32::try_from(days).ok()? {
            0 => Some(None),
            given if given >= least => Some(Some(days)),
            _ => {
                let reason = format!("must be 0 (for ever), or at least {least}");
                self.violations.add(path, reason);
                None
            }
        }
    }

    /// A list of texts; empty when it is missing.
    fn words(&mut self, path: &str) -> Vec<String> {
        let values = match self.take(path) {
            None => return Vec::new(),
            Some(Value::Array(_, values)) => values,
            Some(_) => {
                self.violations.add(path, "must be a list of texts");
                return Vec::new();
            }
        };
        values
            .into_iter()
            .enumerate()
            .filter_map(|(i, value)| {
                let word = value.into_string();
                if word.is_none() {
                    self.violations
                        .add(format!("{path}[{i}]"), "must be a text");
                }
                word
            })
            .collect()
    }

    fn flag(&mut self, path: &str) -> Option<bool> {
        let found = match self.take(path) {
            Some(Value::Bool(_, flag)) => Some(flag),
            _ => None,
        };
        if found.is_none() {
            self.violations.add(path, "must be true or false");
        }
        found
    }

    fn refuse_the_rest(&mut self) {
        fn walk(dict: &Dict, path: &str, violations: &mut Violations) {
            for (key, value) in dict {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match value {
                    Value::Dict(_, inner) if !inner.is_empty() => walk(inner, &path, violations),
                    // An emptied table is a known one.
                    Value::Dict(..) if is_table(&path) => {}
                    _ => violations.add(path, "is no key of the configuration"),
                }
            }
        }
        fn is_table(path: &str) -> bool {
            let known = DEFAULTS
                .lines()
                .filter_map(|line| line.strip_prefix('[')?.strip_suffix(']'))
                .any(|table| table == path);
            let named = [
                "channel_accounts.",
                "auth.tokens.",
                "auth.issuers.",
                "auth.certificates.",
            ];
            known || named.iter().any(|table| path.starts_with(table))
        }
        walk(&self.dict, "", &mut self.violations);
    }
}

fn beside_the_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
