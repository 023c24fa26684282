//! A PostgreSQL of a round's own, which may be stopped and started again.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anklang_local::cluster::{Cluster, Options};
use anklang_testkit::Database;
use tempfile::TempDir;

/// How long it may take to come up again: processes of one that was killed have to be gone first.
const PATIENCE: Duration = Duration::from_secs(120);
const DATABASE: &str = "chaos";

/// How to stop it.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Fast shutdown: sessions are ended, everything is written.
    Fast,
    /// Immediate shutdown (SIGQUIT): as after a crash.
    Quit,
    /// SIGKILL of the first process alone; the others find out.
    Kill,
}

/// A cluster. Its folder goes with it.
pub struct Own {
    cluster: Option<Cluster>,
    options: Options,
    _folder: TempDir,
}

impl Own {
    /// Starts one. What it has committed survives its processes.
    pub async fn start(max_connections: u16) -> Self {
        // So named, what a killed run leaves is removed by the next one (see the testkit).
        let prefix = format!("anklang-test-{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        // As root, PostgreSQL runs as another user, who must get in.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut options = Options::test(folder.path().join("postgresql"));
        options.max_connections = max_connections;
        options.shared_buffers_mib = 32;
        // Not synced, as the machine does not crash, but written before a commit is confirmed.
        options.settings = ["synchronous_commit", "full_page_writes"]
            .map(|name| (name.to_owned(), "on".to_owned()))
            .into();
        let cluster = Cluster::start(options.clone()).await.unwrap();
        cluster.ensure_database(DATABASE).await.unwrap();
        Own {
            cluster: Some(cluster),
            options,
            _folder: folder,
        }
    }

    /// Its database, without migrations.
    pub fn database(&self) -> Database {
        let cluster = self.cluster.as_ref().expect("it runs");
        Database {
            name: DATABASE.into(),
            url: cluster.url(DATABASE),
        }
    }

    /// Stops it, and starts it after a while.
    pub async fn restart(&mut self, stop: Stop, after: Duration) {
        let cluster = self.cluster.take().expect("it runs");
        match stop {
            Stop::Fast => cluster.stop().await.unwrap(),
            Stop::Quit => kill(cluster, "QUIT").await,
            Stop::Kill => kill(cluster, "KILL").await,
        }
        tokio::time::sleep(after).await;
        let begun = Instant::now();
        while self.cluster.is_none() {
            match Cluster::start(self.options.clone()).await {
                Ok(cluster) => self.cluster = Some(cluster),
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error:#}"),
            }
        }
    }
}

async fn kill(cluster: Cluster, signal: &str) {
    let killed = Command::new("kill")
        .args([format!("-{signal}"), cluster.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    // Waits for its end; that it did not stop in order is the purpose.
    let _ = cluster.stop().await;
}
