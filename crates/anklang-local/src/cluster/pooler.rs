//! PgBouncer in transaction mode before a cluster: each transaction of a client may get another connection, and
//! prepared statements are looked after or not.
//!
//! Like the cluster it has no TCP port, only a socket in a folder that nobody else may enter.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;
use super::server::{Ended, run, setpriv_works};
use super::{Cluster, RETRY, SUPERUSER, connect, folder};

/// Only part of the socket's name.
const PORT: u16 = 6432;

/// Debian keeps it where a normal user's PATH does not lead.
const PLACES: [&str; 2] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"];

/// How long it may take until it answers, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// So many prepared statements one keeps that looks after them, for each connection.
const KEPT: u16 = 200;

/// A running pooler. Dropping it kills it.
#[derive(Debug)]
pub struct Pooler {
    pid: Pid,
    ended: Arc<Ended>,
    folder: PathBuf,
    database: String,
    connections: u16,
    statements: Option<u16>,
}

impl Pooler {
    /// Starts one before a database, with so many connections to it, and waits until it answers; it does not look
    /// after prepared statements. Its folder must be new or empty; the cluster's account must be able to reach it.
    ///
    /// # Errors
    /// PgBouncer is not installed or does not come up.
    pub async fn start(
        folder: impl Into<PathBuf>,
        cluster: &Cluster,
        database: &str,
        connections: u16,
    ) -> Result<Self> {
        let program = installed()?;
        let statements = knows_statements(program)?.then_some(0);
        let folder = folder.into();
        Self::of(program, folder, cluster, database, connections, statements).await
    }

    /// As [`Pooler::start`], but it looks after prepared statements. None where the one that is installed cannot, which
    /// is so before version 1.21.
    ///
    /// # Errors
    /// PgBouncer is not installed or does not come up.
    pub async fn start_keeping(
        folder: impl Into<PathBuf>,
        cluster: &Cluster,
        database: &str,
        connections: u16,
    ) -> Result<Option<Self>> {
        let program = installed()?;
        if !knows_statements(program)? {
            return Ok(None);
        }
        let (folder, statements) = (folder.into(), Some(KEPT));
        let pooler = Self::of(program, folder, cluster, database, connections, statements);
        pooler.await.map(Some)
    }

    async fn of(
        program: &Path,
        folder: PathBuf,
        cluster: &Cluster,
        database: &str,
        connections: u16,
        statements: Option<u16>,
    ) -> Result<Self> {
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the folder {}", folder.display()))?;
        let account = Account::choose(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        let settings = folder.join("pgbouncer.ini");
        let text = ini(&folder, cluster, database, connections, statements);
        fs::write(&settings, text)?;
        account.own(&settings)?;
        account.own(&folder)?;
        let mut command = if setpriv_works() {
            let mut command = account.command("setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        } else {
            account.command(program)
        };
        command.arg("--quiet").arg(&settings);
        let (pid, ended) =
            run(command).with_context(|| format!("cannot start {}", program.display()))?;
        let pooler = Self {
            pid,
            ended,
            folder,
            database: database.to_owned(),
            connections,
            statements,
        };
        pooler.wait_until_ready().await?;
        Ok(pooler)
    }

    /// Connection string of the superuser for the database.
    pub fn url(&self) -> String {
        format!(
            "host='{}' port={PORT} user={SUPERUSER} dbname='{}'",
            self.folder.display(),
            self.database
        )
    }

    /// Leads to another cluster from now on, as after a failover.
    ///
    /// # Errors
    /// Its settings cannot be written, or it is gone.
    pub fn lead_to(&self, cluster: &Cluster) -> Result<()> {
        let settings = ini(
            &self.folder,
            cluster,
            &self.database,
            self.connections,
            self.statements,
        );
        fs::write(self.folder.join("pgbouncer.ini"), settings)?;
        kill_process(self.pid, Signal::HUP).context("the pooler is gone")
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = connect(&self.url()).await {
            if self.ended.get() || Instant::now() > deadline {
                let log = fs::read_to_string(self.folder.join("pgbouncer.log"));
                let log = log.unwrap_or_default();
                bail!("PgBouncer did not start ({error:#}):\n{log}");
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if !self.ended.get() {
            let _ = kill_process(self.pid, Signal::KILL);
            self.ended.wait(PATIENCE);
        }
    }
}

/// The program.
fn installed() -> Result<&'static Path> {
    let program = PLACES.into_iter().map(Path::new).find(|path| path.exists());
    program.context("no PgBouncer is installed; `apt install pgbouncer`")
}

/// Whether it can look after prepared statements, and has to be told not to; one that cannot does not stand being told.
fn knows_statements(program: &Path) -> Result<bool> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = version(&text);
    let version = version.with_context(|| format!("{} tells no version", program.display()))?;
    Ok(version >= (1, 21))
}

/// From `PgBouncer 1.18.0` and what follows.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("PgBouncer ")?.split(['.', '\n']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn ini(
    folder: &Path,
    cluster: &Cluster,
    database: &str,
    connections: u16,
    statements: Option<u16>,
) -> String {
    let statements = match statements {
        Some(kept) => format!("max_prepared_statements = {kept}\n"),
        None => String::new(),
    };
    format!(
        "[databases]\n\
         {database} = host={socket} port={port} user={SUPERUSER}\n\
         [pgbouncer]\n\
         listen_addr =\n\
         listen_port = {PORT}\n\
         unix_socket_dir = {folder}\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = {connections}\n\
         max_client_conn = 500\n\
         server_login_retry = 1\n\
         query_wait_timeout = 10\n\
         {statements}logfile = {folder}/pgbouncer.log\n",
        socket = cluster.folder.socket.display(),
        port = folder::PORT,
        folder = folder.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn reads_versions() {
        assert_eq!(
            version("PgBouncer 1.18.0\nlibevent 2.1.12\n"),
            Some((1, 18))
        );
        assert_eq!(version("PgBouncer 1.24.1\n"), Some((1, 24)));
        assert!(Some((1, 9)) < version("PgBouncer 1.21\n"));
        assert_eq!(version("pg_bouncer"), None);
    }
}
