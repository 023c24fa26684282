//! Configuration: the defaults of `anklang.toml`, the user's file over them, `ANKLANG_…` variables
//! over both. Every fault is found before any is reported.

mod channels;
mod documents;
mod handover;
mod plugins;
mod telemetry;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anklang_channels::{Hosting, Isolation, ProcessOptions};
use anklang_domain::Violations;
use anklang_domain::account as limits;
use anklang_domain::message::AmbiguousPolicy;
use anklang_domain::rate::Rate;
use anklang_domain::window::Window;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use rust_decimal::Decimal;
use secrecy::SecretString;

pub use channels::ChannelsConfig;
pub use documents::{DocumentsConfig, S3Config, StoreConfig};
pub use handover::{DATABASE_KEY, HandoverConfig};
pub use plugins::{SecretRules, TenantPlugins};
pub use telemetry::TelemetryConfig;

use crate::seal::SealingKey;

/// The documented file that holds every default.
pub const DEFAULTS: &str = include_str!("../../../anklang.toml");

/// Variables of the program that are no settings.
const OTHER_VARIABLES: [&str; 6] = ["CACHE", "CONFIG", "PG_BIN", "SERVER", "TENANT", "VENV"];

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How long running work may take to end.
    pub shutdown_grace: Duration,
    /// Where recipients reach this server, without a slash at its end; empty when they do not.
    pub public_url: String,
    /// URL of the database, with its password.
    pub database_url: SecretString,
    /// At most so many connections.
    pub connections: usize,
    /// Whether to migrate at the start.
    pub migrate: bool,
    /// Where documents lie, and how they are bundled.
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
    /// From which hour on, on the clock of the tenant.
    pub planning_hour: u32,
    /// Whether to send messages.
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

/// Settings of a channel account.
#[derive(Clone)]
pub struct AccountConfig {
    /// Id of the plugin.
    pub plugin: String,
    /// SHA-256 that its file must have.
    pub pin: Option<[u8; 32]>,
    /// Where it runs, and what it may use.
    pub hosting: Hosting,
    /// What becomes of ambiguous messages; the plugin's default when `None`.
    pub ambiguous: Option<AmbiguousPolicy>,
    /// Messages in one call.
    pub batch: i64,
    /// Calls at the same time.
    pub calls: usize,
    /// At most so many messages of each tenant.
    pub rate: Option<Rate>,
    /// When to send, in the recipient's time zone.
    pub window: Option<Window>,
    /// What a message costs, with its currency.
    pub cost: Option<(Decimal, String)>,
    /// Slugs of the tenants that may use it; all when empty.
    pub tenants: Vec<String>,
    /// The plugin's own settings, secrets included.
    pub config: serde_json::Value,
}

impl std::fmt::Debug for AccountConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // `config` may hold secrets.
        write!(f, "AccountConfig({})", self.plugin)
    }
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
        let shutdown_grace = self.whole("server.shutdown_grace_seconds", 0..=3_600);
        let public_url = self.public_url();
        let database_url = self.text("database.url").and_then(|text| {
            let parsed = text
                .parse::<tokio_postgres::Config>()
                .map(|_| SecretString::from(text))
                .map_err(|_| "must be a URL of PostgreSQL or key=value pairs");
            self.violations.check("database.url", parsed)
        });
        let connections = self.whole("database.connections", 4..=1_000);
        let migrate = self.flag("database.migrate");
        let documents = self.documents();
        let render_threads = self.whole("documents.threads", 0..=1_024);
        let plugins = self.text("plugins.folder");
        let tenant_plugins = self.tenant_plugins();
        let operation_workers = self.whole("operations.workers", 1..=64);
        let operation_lease = self.whole("operations.lease_seconds", 1..=3_600);
        let dispatch = self.flag("dispatch.enabled");
        let planning_horizon = self.whole("planning.horizon_days", 0..=366);
        let planning_hour = self.whole("planning.hour", 0..=23);
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
        Some(Config {
            listen: listen?,
            shutdown_grace: Duration::from_secs(shutdown_grace?),
            public_url: public_url?,
            database_url: database_url?,
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
            dispatch: dispatch?,
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

    fn rate(&mut self, path: &dyn Fn(&str) -> String) -> Option<Rate> {
        let text = self.optional(&path("rate"), Self::text).unwrap_or_default();
        let burst = self
            .optional(&path("burst"), |r, k| r.whole(k, 0..=1_000_000))
            .and_then(|burst| u32::try_from(burst).ok());
        let fields = [path("rate"), path("burst")];
        limits::rate(&text, burst.unwrap_or(0), fields, &mut self.violations)
    }

    fn cost(&mut self, path: &str) -> Option<(Decimal, String)> {
        let text = self.optional(path, Self::text).unwrap_or_default();
        if text.is_empty() {
            return None;
        }
        let (amount, currency) = text.split_once(' ').unwrap_or((&text, ""));
        // What is no amount is refused like one that is too high.
        let amount = amount.parse().unwrap_or(Decimal::MAX);
        let cost = limits::cost(amount, currency.trim());
        self.violations.check(path.to_owned(), cost)
    }

    fn window(&mut self, path: &dyn Fn(&str) -> String) -> Option<Window> {
        let hours = self
            .optional(&path("hours"), Self::text)
            .unwrap_or_default();
        let days = self.words(&path("days"));
        let fields = [path("hours"), path("days")];
        limits::window(&hours, &days, fields, &mut self.violations)
    }

    fn accounts(&mut self) -> Option<BTreeMap<String, AccountConfig>> {
        let ids: Vec<String> = match self.dict.get("channel_accounts") {
            Some(Value::Dict(_, accounts)) => accounts.keys().cloned().collect(),
            Some(_) => {
                self.violations.add("channel_accounts", "must be a table");
                return None;
            }
            None => Vec::new(),
        };
        ids.into_iter()
            .map(|id| self.account(&id).map(|account| (id, account)))
            .collect()
    }

    fn account(&mut self, id: &str) -> Option<AccountConfig> {
        let path = |key: &str| format!("channel_accounts.{id}.{key}");
        if !limits::is_id(id) {
            self.violations.add(
                format!("channel_accounts.{id}"),
                "an id is 1 to 63 of a–z, 0–9 and hyphens",
            );
        }
        let plugin = self.text(&path("plugin"));
        if let Some(plugin) = &plugin
            && !limits::is_id(plugin)
        {
            self.violations.add(
                path("plugin"),
                "a plugin's id is 1 to 63 of a–z, 0–9 and hyphens",
            );
        }
        let pin = match &self
            .optional(&path("sha256"), Self::text)
            .unwrap_or_default()[..]
        {
            "" => None,
            text => {
                let mut bytes = [0; 32];
                let parsed = hex::decode_to_slice(text, &mut bytes)
                    .map(|()| bytes)
                    .map_err(|_| "must be 64 hexadecimal digits");
                self.violations.check(path("sha256"), parsed)
            }
        };
        let hosting = self.hosting(&path);
        let ambiguous = match &self
            .optional(&path("ambiguous"), Self::text)
            .unwrap_or_default()[..]
        {
            "" => None,
            word => {
                let policy = AmbiguousPolicy::by_word(word);
                self.violations.check(
                    path("ambiguous"),
                    policy.ok_or("must be \"resend\" or \"hold\""),
                )
            }
        };
        let batch = self.optional(&path("batch"), |r, k| r.whole(k, 1..=1_000));
        let calls = self.optional(&path("calls"), |r, k| r.whole(k, 1..=64));
        let rate = self.rate(&path);
        let window = self.window(&path);
        let cost = self.cost(&path("cost_per_message"));
        let tenants = self.words(&path("tenants"));
        let config = match self.take(&path("config")) {
            None => serde_json::json!({}),
            Some(value) => serde_json::to_value(value).unwrap_or_default(),
        };
        Some(AccountConfig {
            plugin: plugin?,
            pin,
            hosting,
            ambiguous,
            batch: i64::try_from(batch.unwrap_or(50)).ok()?,
            calls: usize::try_from(calls.unwrap_or(4)).ok()?,
            rate,
            window,
            cost,
            tenants,
            config,
        })
    }

    /// Where an account's plugin runs, and what it may use.
    fn hosting(&mut self, path: &dyn Fn(&str) -> String) -> Hosting {
        let isolation = self
            .optional(&path("isolation"), Self::text)
            .unwrap_or_default();
        let isolation = match &isolation[..] {
            "" | "process" => Isolation::Process,
            "none" => Isolation::None,
            _ => {
                self.violations
                    .add(path("isolation"), "must be \"process\" or \"none\"");
                Isolation::Process
            }
        };
        let process = self.take(&path("process")).map(|value| {
            serde_json::to_value(value).and_then(serde_json::from_value::<ProcessOptions>)
        });
        let process = process.and_then(|read| self.violations.check(path("process"), read));
        let process = process.unwrap_or_default();
        for violation in process.violations() {
            let at = violation.path.replace('/', ".");
            let field = format!("{}{at}", path("process"));
            self.violations.add(field, violation.reason);
        }
        Hosting {
            isolation,
            process,
            ..Hosting::default()
        }
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
            Some(Value::Num(_, n)) => Some(
                n.to_i128()
                    .map_or_else(|| format!("{n:?}"), |n| n.to_string()),
            ),
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
            Some(Value::Num(_, n)) => n.to_i128().and_then(|n| u64::try_from(n).ok()),
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
            known || path.starts_with("channel_accounts.")
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
mod tests {
    use super::*;

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<(String, String)>> {
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::read(Some(file), variables).map_err(|v| {
            v.into_vec()
                .into_iter()
                .map(|v| (v.field, v.reason))
                .collect()
        })
    }

    #[test]
    fn the_documented_file_holds_every_default() {
        let config = Config::read(None, []).expect("the defaults are complete");
        assert_eq!(config.listen.port(), 50051);
        assert!(config.channel_accounts.is_empty());
    }

    #[test]
    fn files_and_variables_override_defaults() {
        let file = "
            [server]
            listen = '[::1]:1'
            [channel_accounts.relay]
            plugin = 'mail'
            [channel_accounts.relay.config]
            host = 'localhost'";
        let config = read(
            file,
            &[
                ("ANKLANG_SERVER__LISTEN", "127.0.0.1:2"),
                ("ANKLANG_CHANNEL_ACCOUNTS__RELAY__CONFIG__PORT", "25"),
                ("ANKLANG_CHANNEL_ACCOUNTS__RELAY__AMBIGUOUS", "hold"),
                ("ANKLANG_CONFIG", "elsewhere.toml"),
                ("HOME", "/nowhere"),
            ],
        )
        .expect("a good configuration");
        assert_eq!(config.listen.port(), 2);
        let relay = &config.channel_accounts["relay"];
        assert_eq!(
            relay.config,
            serde_json::json!({"host": "localhost", "port": 25})
        );
        assert_eq!(relay.ambiguous, Some(AmbiguousPolicy::Hold));
        assert_eq!((relay.batch, relay.calls), (50, 4));
    }

    #[test]
    fn all_faults_are_reported_at_once() {
        let file = "
            colour = 'blue'
            [server]
            listen = 'here'
            port = 1
            [database]
            connections = 0
            migrate = 'maybe'
            [handover]
            attempts = 0
            allow_networks = ['10.0.0.0/8', 'inside']
            [keys]
            sealing = ['a', 'b:AAAA']
            [plugins]
            secret_env_prefix = 'ANKLANG_'
            secret_folder = 'secrets'
            for_tenants = ['Mail']
            [log]
            format = 'xml'
            [documents]
            store = 's3'
            letters_per_print_file = 0
            [documents.s3]
            endpoint = 'minio:9000'
            prefix = '/a//b'
            access_key_id = 'only this'
            [telemetry]
            endpoint = 'localhost:4317'
            sampling_ratio = 2
            headers = ['authorization']
            [channels]
            lookups = 0
            stop_words = ['STOP', '?!']
            [channel_accounts.Relay]
            ambiguous = 'perhaps'
            tenants = 'acme'
            sha256 = 'abc'
            retries = 3
            rate = 'fast'
            isolation = 'thread'
            process = { memory_mib = 1 }
            hours = '20:00-08:00'
            days = ['Montag']
            [public]
            url = 'post.example.com'";
        let found = read(
            file,
            &[("ANKLANG_LISTEN", "x"), ("ANKLANG_SERVER__COLOUR", "red")],
        )
        .expect_err("nothing is right here");
        let fields: Vec<&str> = found.iter().map(|(field, _)| &field[..]).collect();
        for field in [
            "ANKLANG_LISTEN",
            "colour",
            "server.listen",
            "server.port",
            "server.colour",
            "database.connections",
            "database.migrate",
            "handover.attempts",
            "handover.allow_networks[1]",
            "documents.letters_per_print_file",
            "documents.s3.endpoint",
            "documents.s3.bucket",
            "documents.s3.prefix",
            "documents.s3.access_key_id",
            "keys.sealing[0]",
            "keys.sealing[1]",
            "plugins.secret_env_prefix",
            "plugins.secret_folder",
            "plugins.for_tenants[0]",
            "log.format",
            "channels.lookups",
            "channels.stop_words[1]",
            "telemetry.endpoint",
            "telemetry.sampling_ratio",
            "telemetry.headers[0]",
            "channel_accounts.Relay",
            "channel_accounts.Relay.plugin",
            "channel_accounts.Relay.ambiguous",
            "channel_accounts.Relay.tenants",
            "channel_accounts.Relay.sha256",
            "channel_accounts.Relay.retries",
            "channel_accounts.Relay.rate",
            "channel_accounts.Relay.isolation",
            "channel_accounts.Relay.process.memory_mib",
            "channel_accounts.Relay.hours",
            "channel_accounts.Relay.days",
            "public.url",
        ] {
            assert!(fields.contains(&field), "{field} in {fields:?}");
        }
        assert_eq!(fields.len(), 37, "{found:?}");
    }
}
