//! Connections: pools of them, for diesel and for COPY, and when one is not given out again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_domain::TenantId;
use deadpool::managed;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection};
use futures::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::login::Login;
use crate::read::Asking;
use crate::share::{Place, Share};
use crate::tx::Tx;
use crate::{Result, StoreError};

/// How long a caller waits for a connection before it is told that there is none, and then for its transaction to
/// begin, for which nothing but a pooler has to be waited.
pub(crate) const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(5);

/// How long the database may take to say that it is there.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// A connection is replaced after so long, and with it the plans that it keeps: they were made for
/// the tables as they were.
const CONNECTION_AGE: Duration = Duration::from_secs(120);

/// Connections for imports, besides the others: so many chunks are written at the same time. Each
/// keeps a core of the database busy.
const BULK_CONNECTIONS: usize = 4;

/// As long as a server that can only be read is all that there is, connections are not opened anew more often.
const SUSPECT_AGAIN: Duration = Duration::from_secs(1);

/// When a write was last refused because its server can only be read. A name, an address or a pooler may lead
/// elsewhere since a failover: what was opened before is closed.
static READ_ONLY: Refusals = Refusals(Mutex::new(None));

/// Notes that a server has refused to write.
pub(crate) fn refused_to_write() {
    READ_ONLY.note();
}

/// Whether a connection may lead to such a server.
fn is_suspect(metrics: &managed::Metrics) -> bool {
    READ_ONLY.came_after(metrics.created)
}

/// When something was last refused.
struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self) {
        let mut last = self.last();
        if last.is_none_or(|last| last.elapsed() >= SUSPECT_AGAIN) {
            *last = Some(Instant::now());
        }
    }

    fn came_after(&self, moment: Instant) -> bool {
        self.last().is_some_and(|last| moment <= last)
    }
}

/// Connections to one database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    pool: Pool<AsyncPgConnection>,
    login: Arc<Login>,
    share: Arc<Share>,
}

impl Connections {
    /// At most so many; none is opened yet.
    pub(crate) fn new(login: Login, most: usize) -> Result<Self> {
        // A connection that was closed is not given out again; a query to find out about others
        // would cost each transaction a round trip.
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        let own = login.clone();
        config.custom_setup = Box::new(move |_| {
            let login = own.clone();
            async move { login.establish().await }.boxed()
        });
        // Where it leads is up to the login.
        let manager =
            AsyncDieselConnectionManager::<AsyncPgConnection>::new_with_config("", config);
        let pool = Pool::builder(manager)
            .max_size(most)
            .wait_timeout(Some(WAIT_FOR_CONNECTION))
            .create_timeout(Some(WAIT_FOR_CONNECTION))
            .recycle_timeout(Some(WAIT_FOR_CONNECTION))
            .pre_recycle(managed::Hook::sync_fn(|_, metrics| {
                if metrics.age() >= CONNECTION_AGE {
                    return Err(managed::HookError::message("old"));
                }
                if is_suspect(metrics) {
                    return Err(managed::HookError::message("its server may be read-only"));
                }
                Ok(())
            }))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        Ok(Connections {
            pool,
            login: Arc::new(login),
            share: Arc::new(Share::of(most)),
        })
    }

    /// How it logs in.
    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// How they are used at this moment.
    pub(crate) fn status(&self) -> deadpool::Status {
        self.pool.status()
    }

    /// A place among them, which a call's transaction needs: of this tenant, or of none.
    pub(crate) async fn place(&self, tenant: Option<TenantId>) -> Result<Option<Place>> {
        self.share.place(tenant, WAIT_FOR_CONNECTION).await
    }

    /// Begins a transaction: `how` is BEGIN and its kind, `settings` a statement that follows in the same message. It
    /// keeps its `place`.
    pub(crate) async fn begin(
        &self,
        how: &str,
        settings: &str,
        is_bound: bool,
        place: Option<Place>,
    ) -> Result<Tx> {
        let (conn, sql) = self.beginning(how, settings).await?;
        let conn = timeout(WAIT_FOR_CONNECTION, Beginning(Some(conn)).run(&sql))
            .await
            .map_err(|_| StoreError::Pool("no transaction begins".into()))??;
        Ok(Tx::new(conn, Arc::clone(&self.login), is_bound, place))
    }

    /// What begins a read, which does so when it asks, and what it asks on; the same for the rest.
    pub(crate) async fn asking(
        &self,
        how: &str,
        settings: &str,
        place: Option<Place>,
    ) -> Result<(String, Asking)> {
        let (conn, sql) = self.beginning(how, settings).await?;
        Ok((sql, Asking::new(conn, Arc::clone(&self.login), place)))
    }

    /// A connection, and what begins a transaction on it.
    async fn beginning(
        &self,
        how: &str,
        settings: &str,
    ) -> Result<(Object<AsyncPgConnection>, String)> {
        let conn = self.pool.get().await;
        let conn = conn.map_err(|e| StoreError::Pool(e.to_string()))?;
        Ok((conn, format!("{how}; {}{settings}", self.login.prologue())))
    }
}

/// A connection that is to begin a transaction. When that fails, or nobody waits for it any more, it is closed: it may
/// be inside of a transaction that failed, or get into one yet, which would keep a pooler's connection from others.
struct Beginning(Option<Object<AsyncPgConnection>>);

impl Beginning {
    async fn run(mut self, sql: &str) -> Result<Object<AsyncPgConnection>> {
        if let Some(conn) = &mut self.0 {
            AnsiTransactionManager::begin_transaction_sql(&mut **conn, sql).await?;
        }
        self.0
            .take()
            .ok_or_else(|| StoreError::Pool("no connection".into()))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            drop(Object::take(conn));
        }
    }
}

/// Connections for imports; see [`Store::bulk`](crate::Store).
pub(crate) type Bulk = managed::Pool<BulkManager>;

/// A few connections for imports; none is opened yet.
pub(crate) fn bulk(login: Login) -> Result<Bulk> {
    managed::Pool::builder(BulkManager(login))
        .max_size(BULK_CONNECTIONS)
        .create_timeout(Some(WAIT_FOR_CONNECTION))
        .runtime(deadpool::Runtime::Tokio1)
        .build()
        .map_err(|e| StoreError::Pool(e.to_string()))
}

/// Opens connections for imports.
pub(crate) struct BulkManager(Login);

impl managed::Manager for BulkManager {
    type Type = BulkConnection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> std::result::Result<Self::Type, Self::Error> {
        Ok(BulkConnection {
            client: driven(&self.0).await?.0,
            prologue: self.0.prologue(),
        })
    }

    async fn recycle(
        &self,
        conn: &mut Self::Type,
        metrics: &managed::Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        if conn.client.is_closed() || is_suspect(metrics) {
            return Err(managed::RecycleError::message("closed"));
        }
        Ok(())
    }
}

/// A connection for imports.
pub(crate) struct BulkConnection {
    client: tokio_postgres::Client,
    prologue: &'static str,
}

impl BulkConnection {
    /// Begins a transaction as `settings` say.
    pub(crate) async fn begin(
        &mut self,
        settings: &str,
    ) -> std::result::Result<tokio_postgres::Transaction<'_>, tokio_postgres::Error> {
        let tx = self.client.transaction().await?;
        tx.batch_execute(&format!("{}{settings}", self.prologue))
            .await?;
        Ok(tx)
    }
}

/// A connection that is driven in the background, and what drives it.
async fn driven(
    login: &Login,
) -> std::result::Result<(tokio_postgres::Client, JoinHandle<()>), tokio_postgres::Error> {
    let (client, connection) = login.connect().await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(%error, "a connection ended");
        }
    });
    Ok((client, driver))
}

/// A connection that one who watches a server keeps for himself. Dropped, it is closed, also while an answer is
/// awaited; without its client alone, its driver would go on to wait for that.
pub(crate) struct Probe {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
}

impl Probe {
    /// Asks for the one value of a query without parameters, by the connection in `kept` if it is still open; else by
    /// a new one, which may take as long as for anybody, as hosts that are gone come first. What then takes longer than
    /// [`ANSWER`] has no answer, and neither has a closed connection: `kept` is then empty.
    pub(crate) async fn ask(kept: &mut Option<Probe>, login: &Login, sql: &str) -> Option<String> {
        let probe = match kept.take().filter(|probe| !probe.client.is_closed()) {
            Some(probe) => probe,
            None => {
                let opened = timeout(WAIT_FOR_CONNECTION, driven(login)).await;
                let (client, driver) = opened.ok()?.ok()?;
                Probe { client, driver }
            }
        };
        // A connection that does not answer in time is closed by being dropped.
        let answer = timeout(ANSWER, probe.client.simple_query(sql)).await;
        let answer = answer.ok()?.ok()?;
        *kept = Some(probe);
        answer.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_opened_before_a_write_was_refused_is_not_given_out_again() {
        let refusals = Refusals(Mutex::default());
        let before = Instant::now();
        assert!(!refusals.came_after(before));
        refusals.note();
        assert!(refusals.came_after(before));
        let after = Instant::now() + Duration::from_millis(1);
        assert!(!refusals.came_after(after));
        // As long as there is no other server: what was just opened may stay for a moment.
        refusals.note();
        assert!(!refusals.came_after(after));
    }
}
