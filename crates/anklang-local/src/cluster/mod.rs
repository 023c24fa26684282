//! A private PostgreSQL server, made from the system's own binaries.
//!
//! # Guarantees
//! - It never meets another PostgreSQL: no TCP port, only a Unix socket in a folder that
//!   nobody else may enter (mode 0700; that is why `trust` authentication is safe).
//! - One program at a time owns a data folder (`flock`); a second one gets an error.
//! - A server left behind by a killed program is found again: it is adopted if it runs with
//!   the very settings asked for, otherwise stopped in order and started anew.
//! - A half-made cluster (killed inside `initdb`) is never used: it is made beside its
//!   place and renamed.
//! - A folder that is neither empty nor ours is never touched.
//!
//! # Trade-offs
//! - As root the server refuses to run, so it runs as `postgres` (or `nobody`), which must
//!   be able to reach the data folder; `/root` and private home folders are refused.
//! - Dropping a [`Cluster`] blocks the thread until the server is down (usually 0.1 s);
//!   in async code prefer [`Cluster::stop`].
//!
//! # Layout of the data folder
//! `data/` the cluster, `postgres.log` the server's log, `anklang-cluster.lock` the lock and
//! at the same time the mark by which the folder is known as ours, `run/` the socket if the
//! path is short enough (else a folder under `/tmp`, whose name is a hash of the path).

mod account;
mod binaries;
mod folder;
mod pooler;
mod replication;
mod server;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

use account::Account;
use binaries::Binaries;
use folder::Folder;
use server::Server;

pub use pooler::Pooler;

/// The cluster's superuser. There is no password: the socket's folder is the protection.
const SUPERUSER: &str = "anklang";

/// How long a server may take until it answers; crash recovery after a hard stop is the
/// slow case.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// Pause between two attempts to connect. Short, as a server is up in some 50 ms.
const RETRY: Duration = Duration::from_millis(10);

/// What server to run, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder that holds the cluster and its log; made if missing. It must be new, empty or
    /// made by an earlier run, and be used for nothing else.
    pub data_dir: PathBuf,
    /// `true`: what is committed survives a power cut. `false`: much faster, and a crash of
    /// the machine (not of the server) may destroy the cluster.
    pub durable: bool,
    /// Connections the server accepts, 1–10,000.
    pub max_connections: u16,
    /// Memory for the server's page cache, in MiB.
    pub shared_buffers_mib: u32,
    /// `true`: the kernel stops the server when this process dies, however it dies (Linux
    /// with `setpriv`; elsewhere a warning is logged). Such a server is never adopted.
    pub die_with_parent: bool,
    /// Further server settings, name and value; they win over the ones made here.
    pub settings: Vec<(String, String)>,
    /// Where the server is that it follows, and of whose data it is made, as a connection string. Not for a
    /// folder that holds a cluster already.
    pub follows: Option<String>,
    /// In which language it speaks, e.g. `de`, where its catalogue is installed; else, and where the C library has no
    /// languages for the locale `C.UTF-8`, it speaks English.
    pub language: Option<String>,
}

impl Options {
    /// A cluster that keeps its data, and that a restarted program finds again.
    pub fn demo(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durable: true,
            max_connections: 100,
            shared_buffers_mib: 256,
            die_with_parent: false,
            settings: Vec::new(),
            follows: None,
            language: None,
        }
    }

    /// A fast throw-away cluster that cannot outlive the test run.
    pub fn test(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durable: false,
            max_connections: 300,
            shared_buffers_mib: 128,
            die_with_parent: true,
            settings: Vec::new(),
            follows: None,
            language: None,
        }
    }

    /// The same in another language.
    #[must_use]
    pub fn speaking(mut self, language: &str) -> Self {
        self.language = Some(language.to_owned());
        // Of the locale "C" alone there is no translation.
        let locale = ("lc_messages".to_owned(), "C.UTF-8".to_owned());
        self.settings.push(locale);
        self
    }
}

/// A running server. Dropping it stops the server, and so does [`Cluster::stop`].
#[derive(Debug)]
pub struct Cluster {
    // Declared before `folder`: the server is down before the lock is let go.
    server: Server,
    folder: Folder,
    adopted: bool,
}

impl Cluster {
    /// Makes the cluster if there is none, starts it and waits until it answers.
    ///
    /// # Errors
    /// No suitable PostgreSQL is installed; the folder is in use by another program, is not
    /// ours, or cannot be reached by the server's account; the server does not come up (the
    /// error shows the end of its log).
    pub async fn start(options: Options) -> Result<Self> {
        // Files, sub-processes and pid checks: all blocking, so off the async threads.
        let (folder, server) = tokio::task::spawn_blocking(move || open(&options))
            .await
            .context("preparing the database folder panicked")??;
        let adopted = server.is_adopted();
        let cluster = Self {
            server,
            folder,
            adopted,
        };
        cluster.wait_until_ready().await?;
        Ok(cluster)
    }

    /// Connection string (`key=value` form, as libpq and tokio-postgres read it) of the
    /// superuser for `database`, which need not exist yet.
    pub fn url(&self, database: &str) -> String {
        url(&self.folder, database)
    }

    /// Creates `database` if it does not exist; UTF-8, and sorted by code point.
    ///
    /// # Errors
    /// The name is empty, longer than 63 bytes or holds a NUL; the server refuses.
    pub async fn ensure_database(&self, database: &str) -> Result<()> {
        // PostgreSQL cuts longer names off silently: two names could become one database.
        if database.is_empty() || database.len() > 63 || database.contains('\0') {
            bail!("'{database}' is not a database name: 1 to 63 bytes are allowed");
        }
        let client = connect(&self.url("postgres")).await?;
        let known = client
            .query_opt(
                "SELECT 1 FROM pg_database WHERE datname = $1::text",
                &[&database],
            )
            .await?;
        if known.is_some() {
            return Ok(());
        }
        let statement = format!("CREATE DATABASE \"{}\"", database.replace('"', "\"\""));
        match client.batch_execute(&statement).await {
            // Somebody else was faster; both spellings of that race are known.
            Err(e)
                if [
                    Some(&SqlState::DUPLICATE_DATABASE),
                    Some(&SqlState::UNIQUE_VIOLATION),
                ]
                .contains(&e.code()) =>
            {
                Ok(())
            }
            other => other.with_context(|| format!("cannot create the database '{database}'")),
        }
    }

    /// The folder given in [`Options::data_dir`], absolute.
    pub fn data_dir(&self) -> &Path {
        &self.folder.root
    }

    /// The server's log file.
    pub fn log_file(&self) -> PathBuf {
        self.folder.log()
    }

    /// Process id of the server's first process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Whether the server was already running, left behind by a killed program.
    pub fn was_adopted(&self) -> bool {
        self.adopted
    }

    /// Stops the server in order: sessions are ended, everything is written.
    ///
    /// # Errors
    /// The server did not stop in order and had to be killed.
    pub async fn stop(self) -> Result<()> {
        tokio::task::spawn_blocking(move || {
            let Self {
                mut server, folder, ..
            } = self;
            let stopped = server.stop();
            drop(folder);
            stopped
        })
        .await
        .context("stopping the database server panicked")?
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let refused = match connect(&self.url("postgres")).await {
                Ok(_) => return Ok(()),
                Err(e) => e,
            };
            if !self.server.is_running() {
                bail!(
                    "the database server did not start. The end of {}:\n{}",
                    self.folder.log().display(),
                    self.folder.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "the database server does not answer after {} s ({refused:#}). The end of {}:\n{}",
                    START_DEADLINE.as_secs(),
                    self.folder.log().display(),
                    self.folder.log_tail()
                );
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

fn url(folder: &Folder, database: &str) -> String {
    let quote = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
    format!(
        "host='{}' port={} user={SUPERUSER} dbname='{}'",
        quote(&folder.socket.display().to_string()),
        folder::PORT,
        quote(database),
    )
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends by itself when the client is dropped; its error reaches the client's next call.
    tokio::spawn(connection);
    Ok(client)
}

/// Locks and prepares the folder, then adopts or starts the server. Blocking.
fn open(options: &Options) -> Result<(Folder, Server)> {
    let account = Account::choose(&options.data_dir)?;
    let folder = Folder::open(&options.data_dir, &account)?;
    let binaries = Binaries::find(folder.made_by()?)?;
    if !folder.is_initialised() {
        match &options.follows {
            None => initialise(&folder, &account, &binaries, options.durable)?,
            Some(primary) => replication::copy(&folder, &account, &binaries, primary)?,
        }
    }
    let arguments = arguments(&folder, options);
    let adoptable = !options.die_with_parent;
    if let Some(server) = Server::left_behind(&folder, &binaries, &arguments, adoptable)? {
        return Ok((folder, server));
    }
    let server = Server::spawn(&folder, &account, &binaries, &arguments, options)?;
    Ok((folder, server))
}

fn initialise(
    folder: &Folder,
    account: &Account,
    binaries: &Binaries,
    durable: bool,
) -> Result<()> {
    let fresh = folder.fresh_data()?;
    let mut command = account.command(&binaries.initdb);
    command
        .arg("-D")
        .arg(&fresh)
        .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"])
        // The same order and the same lower() on every machine, whatever its language.
        .args(["--locale=C.UTF-8", "--lc-messages=C"]);
    if !durable {
        command.arg("-N");
    }
    run(command)?;
    folder.adopt_fresh_data()
}

/// Runs a tool to its end.
///
/// # Errors
/// It cannot be run, or fails; the error says what it said.
fn run(mut command: Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let output = command
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The server's command line. It also tells whether a server found running is the one
/// asked for, so everything that matters has to be in here and nothing that varies.
fn arguments(folder: &Folder, options: &Options) -> Vec<OsString> {
    let switch = |on: bool| if on { "on" } else { "off" }.to_owned();
    let mut settings: Vec<(String, String)> = [
        ("listen_addresses", String::new()),
        (
            "unix_socket_directories",
            folder.socket.display().to_string(),
        ),
        ("unix_socket_permissions", "0700".to_owned()),
        ("port", folder::PORT.to_string()),
        ("max_connections", options.max_connections.to_string()),
        (
            "shared_buffers",
            format!("{}MB", options.shared_buffers_mib),
        ),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("max_wal_size", "2GB".to_owned()),
        // Nobody replicates from here; this spares writing what only replicas need.
        ("wal_level", "minimal".to_owned()),
        ("max_wal_senders", "0".to_owned()),
        ("fsync", switch(options.durable)),
        ("synchronous_commit", switch(options.durable)),
        ("full_page_writes", switch(options.durable)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    settings.extend(options.settings.iter().cloned());

    let mut arguments = vec!["-D".into(), folder.data().into_os_string()];
    for (name, value) in settings {
        arguments.push("-c".into());
        arguments.push(format!("{name}={value}").into());
    }
    arguments
}
