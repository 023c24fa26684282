//! Connections and transactions.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anklang_domain::TenantId;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager};

use crate::{Result, StoreError};

/// A connection inside of a transaction.
pub type Conn = AsyncPgConnection;

/// How long a caller waits for a connection before it is told that there is none.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(5);

/// A transaction whose server sends nothing for so long is ended by the database. A server that is
/// stopped or cut off in the middle of one would else keep its locks, and with them the messages
/// and operations that others are to rescue. No transaction waits for anything but the database.
const LONGEST_IDLE: &str = "10s";

/// The database: a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool<AsyncPgConnection>,
    url: String,
}

impl Store {
    /// A store on a database by its URL (`postgres://…` or `key=value` pairs), with at most
    /// `connections` connections; none is opened yet.
    pub fn new(url: &str, connections: usize) -> Result<Self> {
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
        let pool = Pool::builder(manager)
            .max_size(connections)
            .wait_timeout(Some(WAIT_FOR_CONNECTION))
            .create_timeout(Some(WAIT_FOR_CONNECTION))
            .recycle_timeout(Some(WAIT_FOR_CONNECTION))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        Ok(Self {
            pool,
            url: url.to_owned(),
        })
    }

    /// Begins a transaction that sees this tenant only: the role `anklang_app`, which owns no
    /// table, under row-level security.
    pub async fn begin(&self, tenant: TenantId) -> Result<Tx> {
        let mut tx = self.begin_plain().await?;
        diesel::sql_query(
            "SELECT set_config('role', 'anklang_app', true),
                    set_config('anklang.tenant', $1::text, true),
                    set_config('idle_in_transaction_session_timeout', $2, true)",
        )
        .bind::<SqlUuid, _>(tenant.0)
        .bind::<Text, _>(LONGEST_IDLE)
        .execute(&mut tx)
        .await?;
        Ok(tx)
    }

    /// Begins a transaction that sees all tenants: for claims of queues and nothing else.
    pub async fn begin_worker(&self) -> Result<Tx> {
        let mut tx = self.begin_plain().await?;
        diesel::sql_query(
            "SELECT set_config('role', 'anklang_worker', true),
                    set_config('idle_in_transaction_session_timeout', $1, true)",
        )
        .bind::<Text, _>(LONGEST_IDLE)
        .execute(&mut tx)
        .await?;
        Ok(tx)
    }

    /// Begins a transaction as whoever the URL logs in: for migrations and tenants.
    pub(crate) async fn begin_plain(&self) -> Result<Tx> {
        let mut conn = self
            .pool
            .get()
            .await
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        AnsiTransactionManager::begin_transaction(&mut *conn).await?;
        Ok(Tx { conn: Some(conn) })
    }

    /// A connection of its own for loads with COPY, logged in as whoever the URL names: no tenant,
    /// no row-level security. Tests fill databases with it; the server does not use it.
    pub async fn bulk_client(&self) -> Result<tokio_postgres::Client> {
        let (client, connection) =
            tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "bulk connection ended");
            }
        });
        Ok(client)
    }

    /// The URL that it was made with.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// True when the database answers.
    pub async fn is_alive(&self) -> bool {
        let Ok(mut tx) = self.begin_plain().await else {
            return false;
        };
        diesel::sql_query("SELECT 1").execute(&mut tx).await.is_ok()
    }
}

/// A transaction. Dropped without [`Tx::commit`] it is rolled back, at once and in the
/// background.
pub struct Tx {
    conn: Option<Object<AsyncPgConnection>>,
}

impl Tx {
    /// Commits. On an error nothing of the transaction is there, unless the connection broke
    /// while the commit was under way.
    pub async fn commit(mut self) -> Result<()> {
        if let Some(mut conn) = self.conn.take() {
            AnsiTransactionManager::commit_transaction(&mut *conn).await?;
        }
        Ok(())
    }
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("held until commit or drop")
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("held until commit or drop")
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(mut conn) = self.conn.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Not left to the pool: it would roll back when the connection is next taken, and
            // the locks would be held until then.
            runtime.spawn(async move {
                if let Err(error) = AnsiTransactionManager::rollback_transaction(&mut *conn).await {
                    tracing::debug!(%error, "rollback");
                }
            });
        }
    }
}
