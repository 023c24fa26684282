//! What changes in the planned contacts of a tenant, read once for all who watch on this server.
//!
//! A tenant has one poll while somebody watches. It looks what has changed since it looked last
//! ([`anklang_store::planning::work::watch`], which says why that misses nothing), reads the contacts in
//! batches and hands them to all watchers, who filter for themselves. A batch lies in memory until the slowest
//! of them has taken it, and no more than [`WAITING`] do: whoever is further behind is told so by the
//! channel, and goes on from its token with the newest states.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::StoreError;
use anklang_store::planning::contact::Contact;
use anklang_store::planning::work::watch::{self, Moment};
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

use super::wire;
use crate::grpc::{ApiError, ApiResult};
use crate::work::App;

/// How often the poll looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// So long the database may fail to answer before watchers are sent away.
const PATIENCE: Duration = Duration::from_secs(10);
/// The moment is told so often while nothing changes, so that tokens do not become old.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Contacts of a batch, at most.
const BATCH: usize = 500;
/// Batches that wait for slow clients.
const WAITING: usize = 64;
/// Watchers of a tenant on this server.
const MAX_WATCHERS: usize = 5_000;

/// Changes that belong together, or a part of them.
pub(super) struct Batch {
    /// Contacts as they are now.
    pub(super) contacts: Vec<Changed>,
    /// Contacts that are gone, with the transactions that deleted them.
    pub(super) gone: Vec<(u64, Uuid)>,
    /// With the last part: all that was committed before is told.
    pub(super) until: Option<Moment>,
}

/// A contact that has changed.
pub(super) struct Changed {
    /// The transaction that wrote it.
    pub(super) transaction: u64,
    /// For filters.
    pub(super) contact: Contact,
    /// For clients.
    pub(super) wire: pb::PlannedContact,
}

pub(super) type Batches = broadcast::Receiver<Arc<Batch>>;
type Sender = broadcast::Sender<Arc<Batch>>;

/// The polls of this server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Feed {
    app: App,
    tenants: Arc<Mutex<HashMap<TenantId, Sender>>>,
}

impl Feed {
    pub(super) fn new(app: App) -> Self {
        Feed {
            app,
            tenants: Arc::default(),
        }
    }

    /// All changes that a transaction begun from now on does not see, and perhaps some that it does.
    ///
    /// What is in none of the batches to come was there before the poll's last snapshot, which is
    /// older than the caller's next one; a poll that begins now begins at a moment before that.
    pub(super) async fn subscribe(&self, tenant: TenantId) -> ApiResult<Batches> {
        let now = watch::now(&self.app.store, tenant).await?;
        let mut tenants = self.tenants();
        if let Some(sender) = tenants.get(&tenant) {
            if sender.receiver_count() >= MAX_WATCHERS {
                let why = format!("{MAX_WATCHERS} watch on this server already");
                return Err(ApiError::Unavailable(why));
            }
            return Ok(sender.subscribe());
        }
        let (sender, batches) = broadcast::channel(WAITING);
        tenants.insert(tenant, sender);
        tokio::spawn(self.clone().poll(tenant, now));
        Ok(batches)
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<TenantId, Sender>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to tell. `None` when the poll may end: nobody watches, or `closing`; watchers then see that
    /// nothing comes any more.
    fn watchers(&self, tenant: TenantId, closing: bool) -> Option<Sender> {
        let mut tenants = self.tenants();
        let sender = tenants.get(&tenant)?;
        if closing || sender.receiver_count() == 0 {
            tenants.remove(&tenant);
            return None;
        }
        Some(sender.clone())
    }

    /// Looks until nobody watches, the server stops, or the database is silent for too long or is
    /// another one.
    async fn poll(self, tenant: TenantId, mut seen: Moment) {
        let stopping = &self.app.stopping;
        let (mut answered, mut told) = (Instant::now(), Instant::now());
        let mut is_another = false;
        loop {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let lost = answered.elapsed() > PATIENCE || is_another;
            let Some(sender) = self.watchers(tenant, lost || stopping.is_cancelled()) else {
                return;
            };
            let is_due = told.elapsed() > TELL_EVERY;
            match self.look(tenant, &seen, &sender, is_due).await {
                Ok(looked) => {
                    answered = Instant::now();
                    if looked.has_told {
                        told = answered;
                    }
                    is_another = looked.now.history != seen.history;
                    seen = looked.now;
                }
                Err(error) => tracing::warn!(%error, "looking at watched contacts"),
            }
        }
    }

    /// Tells what has changed since a moment; that nothing has, only if `is_due`.
    async fn look(
        &self,
        tenant: TenantId,
        since: &Moment,
        sender: &Sender,
        is_due: bool,
    ) -> Result<Looked, StoreError> {
        let mut tx = self.app.store.begin_snapshot(tenant).await?;
        let now = watch::moment(&mut tx).await?;
        let mut has_told = false;
        if now.history == since.history {
            let (mut after, mut is_last) = (None, false);
            while !is_last {
                let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
                let changes =
                    watch::changed(&mut tx, tenant, &since.snapshot, after.as_ref(), limit).await?;
                is_last = changes.len() < BATCH;
                if changes.is_empty() && after.is_none() && !is_due {
                    break;
                }
                let found = watch::contacts(&mut tx, tenant, &changes).await?;
                let gone = changes.iter().filter(|c| c.is_gone);
                let batch = Batch {
                    contacts: found.into_iter().map(changed).collect(),
                    gone: gone.map(|c| (c.transaction, c.id)).collect(),
                    until: is_last.then(|| now.clone()),
                };
                give_way(sender).await;
                // Who is gone meanwhile needs nothing.
                let _ = sender.send(Arc::new(batch));
                has_told = true;
                after = changes.last().copied();
            }
        }
        tx.commit().await?;
        Ok(Looked { now, has_told })
    }
}

/// Lets watchers who filter catch up when very much changes at once, for a moment: nobody waits for clients.
async fn give_way(sender: &Sender) {
    for _ in 0..10 {
        if sender.len() < WAITING / 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Looked {
    now: Moment,
    has_told: bool,
}

fn changed((transaction, contact): (u64, Contact)) -> Changed {
    Changed {
        transaction,
        wire: wire::contact(contact.clone()),
        contact,
    }
}
