//! Connections and transactions.

use std::sync::Arc;
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_domain::access::Units;
use deadpool::managed;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl};
use futures::FutureExt;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::call::Call;
use crate::login::Login;
use crate::share::Share;
use crate::telemetry::{self, PoolUse};
use crate::tenant::Known;
use crate::tx::Tx;
use crate::units::{Bounds, UNBOUND};
use crate::{Result, StoreError};

/// How long a caller waits for a connection before it is told that there is none.
const WAIT_FOR_CONNECTION: Duration = Duration::from_secs(5);

/// How long the database may take to say that it is there.
pub(crate) const ANSWER: Duration = Duration::from_secs(2);

/// A connection is replaced after so long, and with it the plans that it keeps: they were made for
/// the tables as they were.
const CONNECTION_AGE: Duration = Duration::from_secs(120);

/// Connections for imports, besides the others: so many chunks are written at the same time. Each
/// keeps a core of the database busy.
const BULK_CONNECTIONS: usize = 4;

/// A transaction whose server sends nothing for so long is ended by the database. A server that is
/// stopped or cut off in the middle of one would else keep its locks, and with them the messages
/// and operations that others are to rescue. No transaction waits for anything but the database.
const LONGEST_IDLE: &str = "10s";

/// The longest `statement_timeout` that PostgreSQL knows, in milliseconds.
const LONGEST_STATEMENT: u128 = 2_147_483_647;

/// Makes a transaction that of a tenant, and of the role that owns nothing; with `bounds` that of the
/// role that sees the customers of these org units alone. In one message with BEGIN, which takes no
/// binds: a UUID, a trace context, bounds and a caller are hexadecimal digits and hyphens, the rest is ours.
fn as_tenant(tenant: TenantId, plans: &'static str, bounds: Option<&Bounds>) -> Result<String> {
    let traceparent = telemetry::traceparent().unwrap_or_default();
    let until = until_deadline()?;
    let caller = caller();
    let role = match bounds {
        None => format!("set_config('role', '{UNBOUND}', true)"),
        Some(bounds) => format!(
            "set_config('role', 'anklang_scoped', true), set_config('anklang.units', '{}', true)",
            bounds.as_str()
        ),
    };
    Ok(format!(
        "SELECT {role},
                set_config('anklang.tenant', '{}', true),
                set_config('idle_in_transaction_session_timeout', '{LONGEST_IDLE}', true),
                set_config('plan_cache_mode', '{plans}', true),
                set_config('anklang.traceparent', '{traceparent}', true){caller}{until}",
        tenant.0.hyphenated()
    ))
}

/// Another setting of a transaction: who makes the call, for triggers that note it (`anklang_caller()`). None where
/// there is no call.
fn caller() -> String {
    Call::current().map_or_else(String::new, |call| {
        let caller = hex::encode(call.caller.as_bytes());
        format!(", set_config('anklang.caller', '{caller}', true)")
    })
}

/// Another setting of a transaction: no statement goes on for longer than the time that is left to the call. None
/// where there is no call, or no deadline. A statement that is not the first may have begun later, and is ended
/// when its transaction is dropped.
fn until_deadline() -> Result<String> {
    let Some(left) = Call::time_left() else {
        return Ok(String::new());
    };
    if left.is_zero() {
        return Err(StoreError::Late);
    }
    // Not before the deadline, and never 0, which is none.
    let milliseconds = (left.as_millis() + 1).min(LONGEST_STATEMENT);
    Ok(format!(
        ", set_config('statement_timeout', '{milliseconds}', true)"
    ))
}

/// The database: a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: Pool<AsyncPgConnection>,
    bulk: managed::Pool<BulkManager>,
    /// For [`Store::is_alive`] alone, which says how the database is, and not how busy the others are.
    health: Arc<Mutex<Option<Probe>>>,
    login: Arc<Login>,
    share: Arc<Share>,
    tenants: Arc<Known>,
    bounds: Option<Arc<Bounds>>,
}

impl Store {
    /// As [`Store::open`], by a URL whose `sslmode` does not verify.
    pub fn new(url: &str, connections: usize) -> Result<Self> {
        Self::open(Login::read(url)?, connections)
    }

    /// A store on a database, with at most `connections` connections and a few more for imports; none is
    /// opened yet.
    pub fn open(login: Login, connections: usize) -> Result<Self> {
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
            .max_size(connections)
            .wait_timeout(Some(WAIT_FOR_CONNECTION))
            .create_timeout(Some(WAIT_FOR_CONNECTION))
            .recycle_timeout(Some(WAIT_FOR_CONNECTION))
            .pre_recycle(managed::Hook::sync_fn(|_, metrics| {
                if metrics.age() < CONNECTION_AGE {
                    return Ok(());
                }
                Err(managed::HookError::message("old"))
            }))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        let bulk = managed::Pool::builder(BulkManager(login.clone()))
            .max_size(BULK_CONNECTIONS)
            .create_timeout(Some(WAIT_FOR_CONNECTION))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        Ok(Self {
            pool,
            bulk,
            health: Arc::default(),
            login: Arc::new(login),
            share: Arc::new(Share::of(connections)),
            tenants: Arc::default(),
            bounds: None,
        })
    }

    /// This store for a caller who is bound to org units, if it is: its transactions see the customers of
    /// these units and of all below them as the tree stands, what hangs on these customers, and the
    /// tenant's common things; `units::enter` leads on to what is to be done with one that is seen.
    #[must_use]
    pub fn within(&self, units: &Units) -> Store {
        let bounds = match units {
            Units::All => None,
            Units::Only(codes) => Some(Arc::new(Bounds::new(codes))),
        };
        Store {
            bounds,
            ..self.clone()
        }
    }

    /// Refuses what is never done for a caller who is bound.
    fn must_be_unbound(&self) -> Result<()> {
        match self.bounds {
            None => Ok(()),
            Some(_) => Err(StoreError::Stored(
                "what sees all of a tenant, for a caller who does not".into(),
            )),
        }
    }

    /// Begins a transaction that sees this tenant only: the role `anklang_app`, which owns no
    /// table, under row-level security.
    pub async fn begin(&self, tenant: TenantId) -> Result<Tx> {
        self.begin_as(tenant, "auto").await
    }

    /// As [`Store::begin`], for statements over many rows by their keys: they are planned without
    /// looking at the values. Else the planner expects next to nothing of a tenant or a phase that
    /// is newer than the statistics, takes any index that begins with it for as good as the one of
    /// the whole key, and compares each row with each.
    pub async fn begin_work(&self, tenant: TenantId) -> Result<Tx> {
        self.begin_as(tenant, "force_generic_plan").await
    }

    /// As [`Store::begin`], to read alone: all its statements see the database as it was at one moment.
    pub async fn begin_snapshot(&self, tenant: TenantId) -> Result<Tx> {
        let (of, tenant) = (Some(tenant), self.as_tenant(tenant, "auto")?);
        let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {tenant}");
        self.begin_with(of, &sql).await
    }

    /// As [`Store::begin_work`], for statements that take the first few rows in the order of an index:
    /// the planner expects few rows and would rather gather and sort all there are.
    pub async fn begin_in_order(&self, tenant: TenantId) -> Result<Tx> {
        let (of, tenant) = (Some(tenant), self.as_tenant(tenant, "force_generic_plan")?);
        let sql = format!(
            "BEGIN; {tenant}, set_config('enable_sort', 'off', true),
                set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)"
        );
        self.begin_with(of, &sql).await
    }

    async fn begin_as(&self, tenant: TenantId, plans: &'static str) -> Result<Tx> {
        let (of, tenant) = (Some(tenant), self.as_tenant(tenant, plans)?);
        self.begin_with(of, &format!("BEGIN; {tenant}")).await
    }

    fn as_tenant(&self, tenant: TenantId, plans: &'static str) -> Result<String> {
        as_tenant(tenant, plans, self.bounds.as_deref())
    }

    /// Begins a transaction that sees all tenants: for claims of queues and nothing else.
    pub async fn begin_worker(&self) -> Result<Tx> {
        self.must_be_unbound()?;
        let until = until_deadline()?;
        let sql = format!(
            "BEGIN; SELECT set_config('role', 'anklang_worker', true),
                           set_config('idle_in_transaction_session_timeout', '{LONGEST_IDLE}', true)
                           {until}"
        );
        self.begin_with(None, &sql).await
    }

    /// Begins a transaction as whoever the URL logs in: for migrations and tenants.
    pub(crate) async fn begin_plain(&self) -> Result<Tx> {
        self.must_be_unbound()?;
        self.begin_with(None, "BEGIN").await
    }

    async fn begin_with(&self, tenant: Option<TenantId>, sql: &str) -> Result<Tx> {
        let place = self.share.place(tenant, WAIT_FOR_CONNECTION).await?;
        let mut conn = self
            .pool
            .get()
            .await
            .map_err(|e| StoreError::Pool(e.to_string()))?;
        match AnsiTransactionManager::begin_transaction_sql(&mut *conn, sql).await {
            Ok(()) => Ok(Tx::new(
                conn,
                Arc::clone(&self.login),
                self.bounds.is_some(),
                place,
            )),
            Err(error) => {
                // It may be inside of a transaction that failed: nobody else shall get it.
                drop(Object::take(conn));
                Err(error.into())
            }
        }
    }

    /// A connection for loads with COPY, which diesel does not know, logged in as whoever the URL
    /// names; see [`begin_bulk`]. There are few, and whoever wants one waits for it.
    pub(crate) async fn bulk(&self) -> Result<managed::Object<BulkManager>> {
        self.must_be_unbound()?;
        self.bulk.get().await.map_err(|error| match error {
            managed::PoolError::Backend(error) => StoreError::Bulk(error),
            other => StoreError::Pool(other.to_string()),
        })
    }

    /// Gathers the statistics of tables anew, so that plans fit what was loaded. Whoever is at it
    /// already is not waited for; one who does not own the tables only causes a warning there.
    pub async fn analyze(&self, tables: &[&'static str]) -> Result<()> {
        let mut tx = self.begin_plain().await?;
        let sql = format!("ANALYZE (SKIP_LOCKED) {}", tables.join(", "));
        diesel::sql_query(sql).execute(&mut tx).await?;
        tx.commit().await
    }

    /// How the pools are used at this moment.
    pub fn pools(&self) -> [PoolUse; 2] {
        [
            PoolUse::new("main", &self.pool.status()),
            PoolUse::new("bulk", &self.bulk.status()),
        ]
    }

    /// Tenants that were asked for lately.
    pub(crate) fn tenants(&self) -> &Known {
        &self.tenants
    }

    /// How it logs in.
    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// True when the database answers.
    pub async fn is_alive(&self) -> bool {
        let mut own = self.health.lock().await;
        let answer = async {
            let probe = match own.take().filter(|probe| !probe.client.is_closed()) {
                Some(probe) => probe,
                None => {
                    let (client, driver) = driven(&self.login).await?;
                    Probe { client, driver }
                }
            };
            probe.client.simple_query("SELECT 1").await?;
            Ok::<_, StoreError>(probe)
        };
        // A connection that does not answer in time is closed by being dropped.
        let answered = tokio::time::timeout(ANSWER, answer).await;
        *own = answered.ok().and_then(Result::ok);
        own.is_some()
    }
}

/// Begins a transaction as [`Store::begin`] does.
pub(crate) async fn begin_bulk(
    client: &mut tokio_postgres::Client,
    tenant: TenantId,
) -> Result<tokio_postgres::Transaction<'_>> {
    let tx = client.transaction().await?;
    tx.batch_execute(&as_tenant(tenant, "auto", None)?).await?;
    Ok(tx)
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

/// The connection of [`Store::is_alive`]. Dropped, it is closed, also while an answer is awaited; without
/// its client alone, its driver would go on to wait for that.
struct Probe {
    client: tokio_postgres::Client,
    driver: JoinHandle<()>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Opens connections for imports.
pub(crate) struct BulkManager(Login);

impl managed::Manager for BulkManager {
    type Type = tokio_postgres::Client;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> std::result::Result<Self::Type, Self::Error> {
        Ok(driven(&self.0).await?.0)
    }

    async fn recycle(
        &self,
        client: &mut Self::Type,
        _: &managed::Metrics,
    ) -> managed::RecycleResult<Self::Error> {
        if client.is_closed() {
            return Err(managed::RecycleError::message("closed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_transaction_has_the_time_that_is_left_to_its_call() {
        let within = |deadline| {
            let (caller, method) = ("tokens/crm".into(), "/a.v1.B/C".into());
            let call = Call {
                caller,
                method,
                deadline,
            };
            call.sync_scope(until_deadline)
        };
        let none = until_deadline().expect("no call, no deadline");
        assert_eq!(none, "");
        assert_eq!(within(None).expect("no deadline"), "");
        let now = Instant::now();
        let setting = within(Some(now + Duration::from_secs(5))).expect("time is left");
        let milliseconds: u64 = setting
            .trim_start_matches(", set_config('statement_timeout', '")
            .trim_end_matches("', true)")
            .parse()
            .expect("a number");
        assert!((1..=5_001).contains(&milliseconds), "{setting}");
        assert!(matches!(within(Some(now)), Err(StoreError::Late)));
    }

    #[test]
    fn a_transaction_knows_the_caller_whatever_it_is_called() {
        let tenant = TenantId(uuid::Uuid::nil());
        let unknown = as_tenant(tenant, "auto", None).expect("no deadline");
        assert!(!unknown.contains("anklang.caller"), "{unknown}");
        let call = Call {
            caller: "o'hara".into(),
            method: "/a.v1.B/C".into(),
            deadline: None,
        };
        let begun = call.sync_scope(|| as_tenant(tenant, "auto", None));
        let begun = begun.expect("no deadline");
        let setting = "set_config('anklang.caller', '6f2768617261', true)";
        assert!(begun.contains(setting), "{begun}");
    }

    #[test]
    fn only_who_is_bound_has_a_role_of_its_own() {
        let tenant = TenantId(uuid::Uuid::nil());
        let bounds = Bounds::new([&"north".to_owned()]);
        let bound = as_tenant(tenant, "auto", Some(&bounds)).expect("no deadline");
        assert!(bound.contains("'anklang_scoped'") && bound.contains(bounds.as_str()));
        assert!(!bound.contains("anklang_app"), "{bound}");
        let unbound = as_tenant(tenant, "auto", None).expect("no deadline");
        assert!(unbound.contains("'anklang_app'"), "{unbound}");
        assert!(!unbound.contains("anklang_scoped") && !unbound.contains("anklang.units"));
    }
}
