//! One PostgreSQL for the process, one database for each test.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anklang_local::cluster::{Cluster, Options};
use anklang_store::{Store, migrate};
use anyhow::{Context, Result};
use tokio::sync::OnceCell;

use crate::Program;

/// How the names of the clusters' folders begin.
const FOLDER: &str = "anklang-test-";
const TEMPLATE: &str = "anklang_template";

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

/// A database of its own, with all migrations run. It is left to the cluster, which is thrown away.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// Its URL, for its owner.
    pub url: String,
}

impl Database {
    /// Makes one.
    pub async fn create() -> Result<Self> {
        Self::made_from(TEMPLATE).await
    }

    /// Makes one without any migrations, for a server that migrates it.
    pub async fn create_empty() -> Result<Self> {
        Self::made_from("template0").await
    }

    async fn made_from(template: &str) -> Result<Self> {
        let cluster = cluster().await?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&cluster.url("postgres")).await?;
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"))
            .await?;
        let url = cluster.url(&name);
        Ok(Self { name, url })
    }

    /// A connection as the owner, who sees all tenants: for looking behind the server's back.
    pub async fn connect(&self) -> Result<tokio_postgres::Client> {
        connect(&self.url).await
    }

    /// The first column of the first row of a query, as text.
    pub async fn one(&self, sql: &str) -> Result<String> {
        let row = self.connect().await?.simple_query(sql).await?;
        row.into_iter()
            .find_map(|m| match m {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .with_context(|| format!("no row: {sql}"))
    }
}

/// The URL of a fresh migrated database, for tests of the store alone.
pub async fn database_url() -> Result<String> {
    Ok(Database::create().await?.url)
}

async fn cluster() -> Result<&'static Cluster> {
    CLUSTER
        .get_or_try_init(|| async {
            // On a runtime of its own: it outlives the test that comes first, and migrations need
            // one with several threads, which most tests do not.
            tokio::task::spawn_blocking(|| {
                let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new()?));
                runtime.block_on(start())
            })
            .await?
        })
        .await
}

async fn start() -> Result<Cluster> {
    // A static is never dropped, and a killed run cannot clean up: each run removes what the runs
    // before it have left.
    remove_leftovers()?;
    let prefix = format!("{FOLDER}{}-", std::process::id());
    let folder = tempfile::Builder::new().prefix(&prefix).tempdir()?.keep();
    // As root, PostgreSQL runs as another user, who must get in.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    let mut options = Options::test(folder.join("postgresql"));
    options.max_connections = 400;
    let cluster = Cluster::start(options).await?;
    cluster.ensure_database(TEMPLATE).await?;
    let store = Store::new(&cluster.url(TEMPLATE), 2)?;
    migrate::up(&store).await?;
    if let Some(later) = std::env::var_os("ANKLANG_TEST_MIGRATE_WITH") {
        migrate_with(Path::new(&later), &cluster.url(TEMPLATE), &folder).await?;
    }
    Ok(cluster)
}

/// Migrates on by another program, that of a later version: the tests of this one then run on its schema
/// (scripts/upgrade).
async fn migrate_with(program: &Path, url: &str, folder: &Path) -> Result<()> {
    let config = folder.join("migrate.toml");
    std::fs::write(&config, format!("[database]\nurl = '''{url}'''\n"))?;
    let program = Program {
        anklang: program.to_path_buf(),
        plugins: folder.to_path_buf(),
    };
    let words = [
        OsStr::new("migrate"),
        OsStr::new("--config"),
        config.as_os_str(),
    ];
    let said = program.run(words).await?;
    eprintln!("migrated by {}: {said}", program.anklang.display());
    Ok(())
}

/// Removes the folders of test processes that are gone: `anklang-test-<process>-<random>`.
fn remove_leftovers() -> Result<()> {
    for entry in std::fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER)?.split_once('-'))
            .and_then(|(process, _)| process.parse::<u32>().ok());
        if process.is_some_and(|id| !std::path::Path::new(&format!("/proc/{id}")).exists()) {
            // Another run may remove it at the same time, or it may be another user's.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
