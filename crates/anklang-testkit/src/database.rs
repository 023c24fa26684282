//! One PostgreSQL for the process, one database for each test.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use anklang_local::cluster::{Cluster, Options};
use anklang_store::{Store, migrate};
use anyhow::{Context, Result};
use tokio::sync::OnceCell;

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
        let cluster = cluster().await?;
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&cluster.url("postgres")).await?;
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}"))
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
    // Kept until the machine clears its temporary files; tests run in containers mostly, and a
    // killed run cannot clean up anyhow. `Cluster` removes nothing itself.
    let folder = tempfile::Builder::new().prefix("anklang-test-").tempdir()?.keep();
    // As root, PostgreSQL runs as another user, who must get in.
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
    let mut options = Options::test(folder.join("postgresql"));
    options.max_connections = 400;
    let cluster = Cluster::start(options).await?;
    cluster.ensure_database(TEMPLATE).await?;
    let store = Store::new(&cluster.url(TEMPLATE), 2)?;
    migrate::up(&store).await?;
    Ok(cluster)
}

async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
