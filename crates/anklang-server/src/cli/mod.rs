//! The commands of the program.

pub mod audit;
pub mod client;
pub mod demo;
pub mod health;
pub mod import;
pub mod plugin;
pub mod server_args;
mod status;
pub mod token;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anklang_store::telemetry::without_values;
use anklang_store::{Store, migrate, tenant};
use anyhow::Context;
use chrono_tz::Tz;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Config, DEFAULTS};
use crate::serve::{self, Server, StartError};
use crate::telemetry::{self, Telemetry};

/// Wrong command line or configuration (EX_USAGE of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// What threads that compute get at the end: one with a letter without end cannot be stopped, and is left.
const LAST_THREADS: Duration = Duration::from_secs(5);

/// Anklang decides whom to contact, why, when, through which channel and with what offer, does it,
/// and proves what came of it.
#[derive(Parser)]
#[command(name = "anklang", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until SIGTERM or SIGINT.
    Serve {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Run the database migrations that have not run yet.
    Migrate {
        #[command(flatten)]
        config: ConfigArgs,
        /// Revert the last N migrations instead. Their data is lost.
        #[arg(long, value_name = "N")]
        down: Option<usize>,
        /// Tell which migrations have run and which have not, and run none.
        #[arg(long, conflicts_with = "down")]
        list: bool,
    },
    /// Add a tenant, or change its name and time zone.
    Tenant {
        #[command(flatten)]
        config: ConfigArgs,
        /// What callers name it by in the metadata key anklang-tenant: a–z, 0–9 and hyphens.
        slug: String,
        /// Its name.
        #[arg(long)]
        name: Option<String>,
        /// IANA time zone of its days.
        #[arg(long, default_value = "Europe/Berlin")]
        time_zone: Tz,
    },
    /// Ask a running server how it is.
    Health(health::HealthArgs),
    /// Import master data from CSV files through a running server.
    Import(import::ImportArgs),
    /// List and export the audit log of a running server, and check that nothing in it was changed.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print what makes a shell complete commands and arguments.
    Completions {
        /// The shell.
        shell: Shell,
    },
    // What calls a running server: campaigns, operations, offers …
    #[command(flatten)]
    Ask(client::Asked),
    /// Show the whole job on this machine: a private PostgreSQL, a made-up utility, a campaign.
    Demo(demo::DemoArgs),
    /// Verify channel plugins, list them, begin a new one.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Make tokens for callers.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Print every setting with its default and what it means.
    Config,
    /// The process of a plugin; only the server starts it.
    #[command(hide = true)]
    PluginHost,
}

#[derive(clap::Args)]
struct ConfigArgs {
    /// Configuration file (TOML); `anklang config` prints all settings.
    #[arg(long, value_name = "FILE", env = "ANKLANG_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors.
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if matches!(cli.command, Command::PluginHost) {
        // Before there are threads and open files.
        anklang_channels::plugin_host();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(run(cli.command));
            runtime.shutdown_timeout(LAST_THREADS);
            result
        }
        Err(error) => Err(error.into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!(
            "anklang: {}",
            client::text::clean_lines(&format!("{error:#}"))
        );
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config } => serve(config).await,
        Command::Migrate { config, down, list } => migrate(config, down, list).await,
        Command::Tenant {
            config,
            slug,
            name,
            time_zone,
        } => add_tenant(config, &slug, name.as_deref(), time_zone).await,
        Command::Health(args) => health::run(args).await,
        Command::Import(args) => import::run(args).await,
        Command::Audit(command) => audit::run(command).await,
        Command::Completions { shell } => completions(shell),
        Command::Ask(asked) => client::run(asked).await,
        Command::Demo(args) => demo::run(args).await,
        Command::Plugin(command) => plugin::run(command).await,
        Command::Token(command) => token::run(&command),
        Command::PluginHost => unreachable!("taken care of before"),
        Command::Config => {
            print!("{DEFAULTS}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "anklang", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads the settings, or reports all that is wrong with them.
fn load(args: &ConfigArgs) -> Result<Config, ExitCode> {
    Config::load(args.config.as_deref()).map_err(|violations| report(&violations))
}

fn report(violations: &anklang_domain::Violations) -> ExitCode {
    eprintln!("anklang: the configuration is wrong:");
    for violation in violations.iter() {
        eprintln!("  {}: {}", violation.field, violation.reason);
    }
    ExitCode::from(EXIT_USAGE)
}

/// Logs go to standard error.
pub fn log_to_stderr(filter: &str, json: bool) {
    telemetry::init_logs(filter, json, &Telemetry::default());
}

async fn serve(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = match load(&args) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let telemetry = match Telemetry::start(&config.telemetry, &config.incoming) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            log_to_stderr(&config.log_filter, config.log_json);
            return Err(logged("did not start", error));
        }
    };
    telemetry::init_logs(&config.log_filter, config.log_json, &telemetry);
    telemetry::log_panics();
    if let Some(addr) = telemetry.scraped() {
        tracing::info!(%addr, "metrics for Prometheus");
    }
    let grace = config.shutdown_grace;
    let ended = match start(config).await {
        Ok(server) => {
            // For scripts that chose port 0.
            println!("listening on {}", server.addr);
            let served = server.until(signalled()).await;
            served
                .map(|()| ExitCode::SUCCESS)
                .map_err(|error| logged("did not serve on", error))
        }
        Err(StartError::Config(violations)) => {
            let fields: Vec<&str> = violations.iter().map(|v| &v.field[..]).collect();
            let fields = fields.join(", ");
            tracing::error!(fields, "did not start: the configuration is wrong");
            Ok(report(&violations))
        }
        Err(StartError::Other(error)) => Err(logged("did not start", error)),
    };
    telemetry.shutdown(grace).await;
    ended
}

async fn start(config: Config) -> Result<Server, StartError> {
    let app = serve::open(config).await?;
    Ok(Server::start(app).await?)
}

/// Says in the log, as whoever watches reads nothing else, why a command fails.
fn logged(what: &'static str, error: anyhow::Error) -> anyhow::Error {
    let why = without_values(&format!("{error:#}"));
    tracing::error!(error = why, "{what}");
    error
}

/// Comes back on SIGTERM or SIGINT.
pub async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

fn store(config: &Config) -> anyhow::Result<Store> {
    Ok(config.store(4)?)
}

async fn migrate(args: ConfigArgs, down: Option<usize>, list: bool) -> anyhow::Result<ExitCode> {
    let config = match load(&args) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    // It tells when it has to wait for others.
    log_to_stderr(&config.log_filter, config.log_json);
    let migrated = migrations(&config, down, list).await;
    migrated.map_err(|error| logged("did not migrate", error))
}

async fn migrations(config: &Config, down: Option<usize>, list: bool) -> anyhow::Result<ExitCode> {
    let store = store(config)?;
    if list {
        for (version, state) in migrate::list(&store).await? {
            match state {
                migrate::State::Ran(at) => println!("ran {version} {at}"),
                migrate::State::Pending => println!("pending {version}"),
                migrate::State::Unknown(at) => println!("unknown {version} {at}"),
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut is_done = true;
    let mut tell = |verb: &str, version: &str| {
        // At once: a later one may fail.
        println!("{verb} {version}");
        is_done = false;
    };
    match down {
        None => migrate::up_telling(&store, |version| tell("ran", version)).await?,
        Some(count) => migrate::down(&store, count, |version| tell("reverted", version)).await?,
    }
    if is_done {
        println!("nothing to do");
    }
    Ok(ExitCode::SUCCESS)
}

async fn add_tenant(
    args: ConfigArgs,
    slug: &str,
    name: Option<&str>,
    time_zone: Tz,
) -> anyhow::Result<ExitCode> {
    let fits = (1..=63).contains(&slug.len())
        && !slug.starts_with('-')
        && slug
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        eprintln!(
            "anklang: a tenant's slug is 1 to 63 of a–z, 0–9 and hyphens, and does not begin with a hyphen"
        );
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let config = match load(&args) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let tenant = tenant::upsert(&store(&config)?, slug, name.unwrap_or(slug), time_zone)
        .await
        .context("adding the tenant")?;
    println!("{}\t{}\t{}", tenant.slug, tenant.name, tenant.time_zone);
    Ok(ExitCode::SUCCESS)
}

/// The folder of the program's own data: `$XDG_DATA_HOME/anklang`, for root `/var/lib/anklang`.
pub fn data_folder() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/anklang");
    }
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")))
        .unwrap_or_else(std::env::temp_dir)
        .join("anklang")
}

/// Whether the program runs as root: its own process belongs to user 0.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
