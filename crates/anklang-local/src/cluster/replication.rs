//! A server that follows another one: made of a copy of it, up to date by its log, ready to take its place.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::account::Account;
use super::binaries::Binaries;
use super::folder::Folder;
use super::{Cluster, Options, RETRY, connect};

/// What a standby calls itself, and the primary calls it.
const STANDBY: &str = "standby";

/// How long the standby may take until the primary waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Options {
    /// A fast throw-away cluster that others can follow. A commit waits for them after
    /// [`Cluster::wait_for_standby`].
    pub fn primary(data_dir: impl Into<PathBuf>) -> Self {
        let mut options = Self::test(data_dir);
        let settings = [
            ("wal_level", "replica"),
            ("max_wal_senders", "4"),
            ("synchronous_commit", "on"),
            // In its folder, so that nothing is left of one that was killed.
            ("dynamic_shared_memory_type", "mmap"),
        ];
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        options.settings = settings.map(owned).to_vec();
        options
    }

    /// A throw-away cluster that follows another one, of [`Options::primary`]: it can be read, and takes its place
    /// by [`Cluster::promote`].
    pub fn standby(data_dir: impl Into<PathBuf>, primary: &Cluster) -> Self {
        let follows = format!("{} application_name={STANDBY}", primary.url("postgres"));
        Self {
            follows: Some(follows),
            ..Self::primary(data_dir)
        }
    }
}

impl Cluster {
    /// From now on a commit waits until the standby has written it, too.
    ///
    /// # Errors
    /// No standby follows it.
    pub async fn wait_for_standby(&self) -> Result<()> {
        let client = connect(&self.url("postgres")).await?;
        let setting = format!("ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'");
        client.batch_execute(&setting).await?;
        client.batch_execute("SELECT pg_reload_conf()").await?;
        let deadline = Instant::now() + PATIENCE;
        let synchronous = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
        while client.query_opt(synchronous, &[]).await?.is_none() {
            if Instant::now() > deadline {
                bail!("no standby follows {}", self.data_dir().display());
            }
            tokio::time::sleep(RETRY).await;
        }
        Ok(())
    }

    /// Makes a standby a primary, and waits until it is one.
    ///
    /// # Errors
    /// It is none.
    pub async fn promote(&self) -> Result<()> {
        let client = connect(&self.url("postgres")).await?;
        let row = client.query_one("SELECT pg_promote()", &[]).await?;
        if !row.get::<_, bool>(0) {
            bail!("{} was not promoted", self.data_dir().display());
        }
        Ok(())
    }

    /// Kills the server (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// It is still there.
    pub async fn kill(self) -> Result<()> {
        tokio::task::spawn_blocking(move || {
            let mut cluster = self;
            cluster.server.kill()
        })
        .await
        .context("killing the database server panicked")?
    }
}

/// Makes the data folder of a standby. Blocking.
pub(super) fn copy(
    folder: &Folder,
    account: &Account,
    binaries: &Binaries,
    primary: &str,
) -> Result<()> {
    let fresh = folder.fresh_data()?;
    let mut command = account.command(binaries.postgres.with_file_name("pg_basebackup"));
    command.args(["-d", primary, "-D"]).arg(&fresh).args([
        "-R",
        "-X",
        "stream",
        "-c",
        "fast",
        "--no-sync",
    ]);
    super::run(command)?;
    folder.adopt_fresh_data()
}
