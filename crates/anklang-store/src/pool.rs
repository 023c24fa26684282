//! The database, and how transactions of it begin.

use std::sync::Arc;
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_domain::access::Units;
use deadpool::managed;
use diesel_async::RunQueryDsl;
use tokio::sync::Mutex;

use crate::begin::{SNAPSHOT, as_tenant, as_worker};
use crate::call::Call;
use crate::connections::{self, Bulk, BulkConnection, BulkManager, Connections, Probe};
use crate::login::Login;
use crate::read::{Asking, Read};
use crate::replica::{Reads, Replica, ReplicaConfig};
use crate::telemetry::PoolUse;
use crate::tenant::Known;
use crate::tx::Tx;
use crate::units::Bounds;
use crate::{Result, StoreError, words};

/// Pause before the database is asked for its words again.
const LEARN_AGAIN: Duration = Duration::from_secs(60);

/// The database: a pool of connections. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    main: Connections,
    bulk: Bulk,
    /// For [`Store::is_alive`] alone, which says how the database is, and not how busy the others are.
    health: Arc<Mutex<Option<Probe>>>,
    /// Past a pooler, for what needs a session of its own.
    direct: Option<Arc<Login>>,
    replica: Option<Arc<Replica>>,
    reads: Arc<Reads>,
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
        let login = login.writing();
        Ok(Self {
            bulk: connections::bulk(login.clone())?,
            main: Connections::new(login, connections)?,
            health: Arc::default(),
            direct: None,
            replica: None,
            reads: Arc::default(),
            tenants: Arc::default(),
            bounds: None,
        })
    }

    /// Has migrations go past the pooler that the other connections lead through.
    #[must_use]
    pub fn with_direct(self, login: Login) -> Self {
        Store {
            direct: Some(Arc::new(login.writing())),
            ..self
        }
    }

    /// Has [`Store::begin_read`] use a standby, as soon as [`Store::watch_replica`] has found it good; with at most
    /// `connections` connections.
    pub fn with_replica(self, config: ReplicaConfig, connections: usize) -> Result<Self> {
        Ok(Store {
            replica: Some(Arc::new(Replica::new(config, connections)?)),
            ..self
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

    /// A transaction as [`Store::begin`] gives one, to ask a single question and no more: it costs one round trip
    /// instead of three. Nothing may be changed or locked in it: that would be refused as by a server that can only be
    /// read, and taken for a failover.
    pub fn read(&self, tenant: TenantId) -> Read<'_> {
        Read::new(self, tenant)
    }

    /// What begins a read's transaction, and what it is asked on.
    pub(crate) async fn asking(&self, tenant: TenantId) -> Result<(String, Asking)> {
        let settings = self.as_tenant(tenant, "auto")?;
        let place = self.main.place(Some(tenant)).await?;
        self.main.asking("BEGIN READ ONLY", &settings, place).await
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
        let settings = self.as_tenant(tenant, "auto")?;
        self.begin_with(Some(tenant), SNAPSHOT, &settings).await
    }

    /// As [`Store::begin_snapshot`], for what reads much and need not be of this moment: from the replica, when
    /// there is one, what it shows is no older than allowed, and the call does not ask for better. It must be fit
    /// for a standby: no locks of rows, no temporary tables.
    pub async fn begin_read(&self, tenant: TenantId) -> Result<Tx> {
        self.begin_reading(tenant, "auto").await
    }

    /// As [`Store::begin_read`], planned as [`Store::begin_work`] has it.
    pub async fn begin_read_work(&self, tenant: TenantId) -> Result<Tx> {
        self.begin_reading(tenant, "force_generic_plan").await
    }

    async fn begin_reading(&self, tenant: TenantId, plans: &'static str) -> Result<Tx> {
        let settings = self.as_tenant(tenant, plans)?;
        if Call::wants_fresh() {
            return self.begin_with(Some(tenant), SNAPSHOT, &settings).await;
        }
        let replica = self.replica.as_ref().filter(|replica| replica.serves());
        if let Some(replica) = replica {
            let is_bound = self.bounds.is_some();
            match replica.begin(tenant, &settings, is_bound).await {
                Ok(tx) => {
                    self.reads.count(true);
                    return Ok(tx);
                }
                Err(error) => tracing::debug!(%error, "the replica begins nothing"),
            }
        }
        self.reads.count(false);
        self.begin_with(Some(tenant), SNAPSHOT, &settings).await
    }

    /// As [`Store::begin_work`], for statements that take the first few rows in the order of an index:
    /// the planner expects few rows and would rather gather and sort all there are.
    pub async fn begin_in_order(&self, tenant: TenantId) -> Result<Tx> {
        let as_tenant = self.as_tenant(tenant, "force_generic_plan")?;
        let settings = format!(
            "{as_tenant}, set_config('enable_sort', 'off', true),
                set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)"
        );
        self.begin_with(Some(tenant), "BEGIN", &settings).await
    }

    async fn begin_as(&self, tenant: TenantId, plans: &'static str) -> Result<Tx> {
        let settings = self.as_tenant(tenant, plans)?;
        self.begin_with(Some(tenant), "BEGIN", &settings).await
    }

    fn as_tenant(&self, tenant: TenantId, plans: &'static str) -> Result<String> {
        as_tenant(tenant, plans, self.bounds.as_deref())
    }

    /// Begins a transaction that sees all tenants: for claims of queues and nothing else.
    pub async fn begin_worker(&self) -> Result<Tx> {
        self.must_be_unbound()?;
        self.begin_with(None, "BEGIN", &as_worker()?).await
    }

    /// Begins a transaction as whoever the URL logs in, who may own nothing: to look at migrations, and for statistics.
    pub(crate) async fn begin_plain(&self) -> Result<Tx> {
        self.must_be_unbound()?;
        self.begin_with(None, "BEGIN", "").await
    }

    async fn begin_with(&self, tenant: Option<TenantId>, how: &str, settings: &str) -> Result<Tx> {
        let place = self.main.place(tenant).await?;
        let is_bound = self.bounds.is_some();
        self.main.begin(how, settings, is_bound, place).await
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
    pub fn pools(&self) -> Vec<PoolUse> {
        let replica = self.replica.as_ref();
        [
            Some(PoolUse::new("main", &self.main.status())),
            Some(PoolUse::new("bulk", &self.bulk.status())),
            replica.map(|replica| PoolUse::new("replica", &replica.status())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Looks after the replica, for as long as this is awaited; over at once when there is none.
    pub async fn watch_replica(&self) {
        if let Some(replica) = &self.replica {
            replica.watch(self.main.login()).await;
        }
    }

    /// Learns what the database says when it goes down, for [`StoreError::is_transient`]; over when it is known, and
    /// gives whether it is not in English.
    pub async fn learn_words(&self) -> bool {
        let login = self.direct.as_deref().unwrap_or_else(|| self.main.login());
        loop {
            match words::learn(login).await {
                Ok(learned) => return learned,
                Err(error) => {
                    tracing::warn!(%error, "it is not known how the database says that it goes down");
                }
            }
            tokio::time::sleep(LEARN_AGAIN).await;
        }
    }

    /// How old what the replica shows is at most, if there is one and it can be said.
    pub fn replica_lag(&self) -> Option<Duration> {
        self.replica.as_ref().and_then(|replica| replica.lag())
    }

    /// How many transactions of [`Store::begin_read`] there were.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Tenants that were asked for lately.
    pub(crate) fn tenants(&self) -> &Known {
        &self.tenants
    }

    /// How to open a session that stays on one server.
    ///
    /// # Errors
    /// There is a pooler in between, and no way past it.
    pub(crate) fn session(&self) -> Result<&Login> {
        let login = self.main.login();
        match &self.direct {
            Some(direct) => Ok(direct),
            None if login.keeps_server() => Ok(login),
            None => Err(StoreError::Pool(
                "migrations need a session of their own, past the pooler: set database.direct_url"
                    .into(),
            )),
        }
    }

    /// True when the database answers, and is no standby.
    pub async fn is_alive(&self) -> bool {
        let mut own = self.health.lock().await;
        let answer = Probe::ask(&mut own, self.main.login(), "SELECT pg_is_in_recovery()").await;
        if answer.as_deref() != Some("f") {
            // Another connection may lead to another server.
            *own = None;
        }
        own.is_some()
    }
}

/// Begins a transaction as [`Store::begin`] does.
pub(crate) async fn begin_bulk(
    conn: &mut BulkConnection,
    tenant: TenantId,
) -> Result<tokio_postgres::Transaction<'_>> {
    let settings = as_tenant(tenant, "auto", None)?;
    Ok(conn.begin(&settings).await?)
}
