//! The real server as a process of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anklang_local::smtp::{Sink, SinkOptions};
use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{Client, Database, Program, program};

/// How a test server differs from the usual one.
#[derive(Debug, Default)]
pub struct Options {
    /// More TOML for its configuration.
    pub config: String,
    /// The bearer token that its clients carry.
    pub token: Option<String>,
    /// The URL by which it logs in to its database; that of the owner when `None`.
    pub login: Option<String>,
    /// More settings of its database, as TOML lines.
    pub database_settings: String,
    /// More settings of its documents, as TOML lines.
    pub documents: String,
    /// More settings of its plugins, as TOML lines.
    pub plugins: String,
    /// What becomes of ambiguous mails: "", "resend" or "hold".
    pub ambiguous: &'static str,
    /// More settings of the account "mail", as TOML lines.
    pub account: String,
    /// Settings of the mail plugin besides host, port and TLS, as TOML lines.
    pub mail: String,
    /// Another mail server than the test's own sink, as TOML lines with host and port.
    pub relay: Option<String>,
    /// The sink, when it has to be there before the server.
    pub sink: Option<Sink>,
    /// Leases run out after so many seconds; 2 when 0, so that tests need not wait long.
    pub lease_seconds: u64,
    /// More settings of its operations, as TOML lines.
    pub operations: String,
    /// Sends nothing: messages stay queued.
    pub no_dispatch: bool,
    /// What the server does, e.g. ["api"]; everything when empty.
    pub roles: Vec<&'static str>,
    /// Connections to the database, besides those for imports; 8 when 0.
    pub connections: usize,
    /// Folder of the document store; one of its own when `None`.
    pub documents_folder: Option<PathBuf>,
    /// Runs the server by this program, with its arguments and the server's behind them. It must
    /// become the server (`exec`), as signals go to it.
    pub wrapper: Vec<String>,
    /// Another version of the server and its plugins than the one under test.
    pub program: Option<Program>,
}

/// A running server with its own database, folder and SMTP sink.
pub struct TestServer {
    /// Where it listens; changes with a restart.
    pub addr: SocketAddr,
    /// Its database.
    pub database: Database,
    /// The mail server that its account "mail" talks to.
    pub sink: Sink,
    folder: TempDir,
    documents: PathBuf,
    token: Option<String>,
    wrapper: Vec<String>,
    program: Program,
    process: Option<Process>,
}

/// One process of a server. Killed when it is dropped.
pub struct Process {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
}

impl Process {
    /// Starts one and waits until it listens.
    async fn start(
        wrapper: &[String],
        program: &Program,
        config: &Path,
        log: &Path,
    ) -> Result<Self> {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        let mut words = wrapper.iter().map(Into::into).collect::<Vec<PathBuf>>();
        words.push(program.anklang.clone());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(["serve", "--config"])
            .arg(config)
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()?;
        let stdout = child.stdout.take().context("piped")?;
        let mut process = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            child,
        };
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        })
        .await??;
        let Some(addr) = line.trim().strip_prefix("listening on ") else {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            bail!("the server did not start: {line}{log}");
        };
        process.addr = addr.parse()?;
        Ok(process)
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, e.g. "STOP".
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()?;
        anyhow::ensure!(status.success(), "kill -{name}");
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits until it has, for at most a minute.
    pub async fn terminate(mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        for _ in 0..600 {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("still there a minute after SIGTERM")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TestServer {
    /// Starts one as usual.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// Starts one that differs.
    pub async fn start_with(options: Options) -> Result<Self> {
        Self::start_on(Database::create().await?, options).await
    }

    /// Starts one on a database that is there already; it may still want its migrations.
    pub async fn start_on(database: Database, mut options: Options) -> Result<Self> {
        let sink = match options.sink.take() {
            Some(sink) => sink,
            None => Sink::start(SinkOptions::default()).await?,
        };
        let program = match options.program.take() {
            Some(other) => other,
            None => program().clone(),
        };
        let folder = tempfile::tempdir()?;
        let documents = match &options.documents_folder {
            Some(documents) => documents.clone(),
            None => folder.path().join("documents"),
        };
        std::fs::write(
            folder.path().join("anklang.toml"),
            config(&options, &program, &database, &sink, &documents),
        )?;
        let mut server = Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            database,
            sink,
            folder,
            documents,
            token: options.token,
            wrapper: options.wrapper,
            program,
            process: None,
        };
        server.spawn().await?;
        Ok(server)
    }

    async fn spawn(&mut self) -> Result<()> {
        let process = self.further().await?;
        self.addr = process.addr;
        self.process = Some(process);
        Ok(())
    }

    /// Starts a further process on another port, with the same configuration: the same database,
    /// documents and mail server. Its log goes to the same file.
    pub async fn further(&self) -> Result<Process> {
        self.run(&[], &self.program).await
    }

    /// Starts a further process of another version, else with the same configuration.
    pub async fn further_of(&self, program: &Program) -> Result<Process> {
        let plugins = format!("ANKLANG_PLUGINS__FOLDER={}", program.plugins.display());
        self.run(&["env".to_owned(), plugins], program).await
    }

    /// Starts a further process with other roles, else with the same configuration.
    pub async fn further_as(&self, roles: &[&str]) -> Result<Process> {
        self.further_with(&format!("ANKLANG_SERVER__ROLES={roles:?}"))
            .await
    }

    /// Starts a further process with a setting of its own, as a variable, else with the same configuration.
    pub async fn further_with(&self, setting: &str) -> Result<Process> {
        self.run(&["env".to_owned(), setting.to_owned()], &self.program)
            .await
    }

    async fn run(&self, first: &[String], program: &Program) -> Result<Process> {
        let wrapper = [first, &self.wrapper].concat();
        Process::start(&wrapper, program, &self.config_file(), &self.log_file()).await
    }

    /// The id of its process.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The ids of the processes of its plugins.
    pub fn plugin_processes(&self) -> Vec<u32> {
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours = |process: &u32| self.pid().is_some() && parent(*process) == self.pid();
        processes.filter(ours).collect()
    }

    /// Sends the process a signal by its name, e.g. "STOP".
    pub fn signal(&self, name: &str) -> Result<()> {
        self.process.as_ref().context("it runs")?.signal(name)
    }

    /// Kills the process without warning (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the process again, on another port, with the same database and folder.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.spawn().await
    }

    /// Asks the process to stop (SIGTERM) and waits until it has, for at most a minute.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let process = self.process.take().context("it runs")?;
        let ended = process.terminate().await;
        ended.with_context(|| self.log())
    }

    /// A client for a tenant, which is added when it is missing.
    pub async fn client(&self, tenant: &str) -> Result<Client> {
        self.add_tenant(tenant).await?;
        Client::connect_as(self.addr, Some(tenant), self.token.as_deref()).await
    }

    /// Adds a tenant when it is missing.
    pub async fn add_tenant(&self, tenant: &str) -> Result<()> {
        self.command(&self.program, &["tenant", tenant]).await?;
        Ok(())
    }

    /// Migrates its database by another version; gives what that prints.
    pub async fn migrate_with(&self, program: &Program) -> Result<String> {
        self.command(program, &["migrate"]).await
    }

    /// Runs a command of a version with its configuration.
    async fn command(&self, program: &Program, words: &[&str]) -> Result<String> {
        let config = self.config_file();
        let words = words.iter().map(OsStr::new);
        let words = words.chain([OsStr::new("--config"), config.as_os_str()]);
        program.run(words).await
    }

    /// The bearer token that its clients carry.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The folder of the document store.
    pub fn documents(&self) -> PathBuf {
        self.documents.clone()
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("anklang.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// The process that started another one, which must still be there.
fn parent(process: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // pid (name) state parent …, where the name may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    (state != "Z").then_some(parent)
}

fn config(
    options: &Options,
    program: &Program,
    database: &Database,
    sink: &Sink,
    documents: &Path,
) -> String {
    let lease = match options.lease_seconds {
        0 => 2,
        n => n,
    };
    let relay = options.relay.clone().unwrap_or_else(|| {
        let addr = sink.addr();
        format!(
            "host = \"{}\"\nport = {}\ntls = \"none\"",
            addr.ip(),
            addr.port()
        )
    });
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nshutdown_grace_seconds = 20\n{roles}\n\
         [database]\nurl = '''{url}'''\nconnections = {connections}\n{more_database}\n\
         [documents]\nfolder = '{folder}'\n{documents}\n\
         [plugins]\nfolder = '{plugins}'\n{more_plugins}\n\
         [operations]\nlease_seconds = {lease}\n{more_operations}\n\
         {planning}[dispatch]\nenabled = {dispatch}\nlease_seconds = {lease}\npoll_milliseconds = 100\n\
         [channel_accounts.mail]\nplugin = \"mail\"\nambiguous = \"{ambiguous}\"\n{account}\n\
         [channel_accounts.mail.config]\n{relay}\n{mail}\n\
         {more}\n",
        roles = match &options.roles[..] {
            [] => String::new(),
            roles => format!("roles = {roles:?}"),
        },
        url = options.login.as_ref().unwrap_or(&database.url),
        connections = match options.connections {
            0 => 8,
            n => n,
        },
        more_database = options.database_settings,
        folder = documents.display(),
        documents = options.documents,
        plugins = program.plugins.display(),
        more_plugins = options.plugins,
        ambiguous = options.ambiguous,
        account = options.account,
        dispatch = !options.no_dispatch,
        mail = options.mail,
        more_operations = options.operations,
        // Nothing happens at night that a test does not ask for.
        planning = match options.config.contains("[planning]") {
            true => "",
            false => "[planning]\nhorizon_days = 0\n",
        },
        more = options.config,
    )
}
