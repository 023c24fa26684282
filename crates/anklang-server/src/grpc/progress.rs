//! The progress of operations as a stream.
//!
//! All watchers of a server share one poll, which reads all watched operations by one statement and
//! puts what has moved into a slot for each operation; it runs while there are watchers. A watcher
//! reads its slot when its client has taken the response before, so that a slow client misses
//! states between and holds nothing up. The poll sees the database alone: it does not matter which
//! server works on an operation.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anklang_domain::{OperationId, TenantId};
use anklang_proto::anklang::operations::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::{StoreError, operation};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::operations::{OperationsApi, id, packed_metadata};
use super::{ApiError, ApiResult, caller, reply};
use crate::work::App;

/// How often the poll looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The longest silence of a stream.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// So long the database may fail to answer before watchers are sent away.
const PATIENCE: Duration = Duration::from_secs(10);

type Key = (TenantId, OperationId);

/// An operation as it stands; `None` when it was deleted.
type Seen = Option<Arc<lro::Operation>>;

/// The slots of watched operations, and whether the poll runs.
#[derive(Default)]
struct Board {
    slots: HashMap<Key, watch::Sender<Seen>>,
    polled: bool,
}

/// The service.
#[derive(Clone)]
pub struct ProgressApi {
    operations: Arc<OperationsApi>,
    board: Arc<Mutex<Board>>,
}

#[tonic::async_trait]
impl pb::operation_progress_service_server::OperationProgressService for ProgressApi {
    type WatchOperationStream = BoxStream<'static, Result<pb::WatchOperationResponse, Status>>;

    async fn watch_operation(
        &self,
        request: Request<pb::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        reply(self.watch(request).await)
    }
}

impl ProgressApi {
    /// The service with what it works with.
    pub fn new(app: App) -> Self {
        ProgressApi {
            operations: Arc::new(OperationsApi { app }),
            board: Arc::default(),
        }
    }

    fn app(&self) -> &App {
        &self.operations.app
    }

    async fn watch(
        &self,
        request: Request<pb::WatchOperationRequest>,
    ) -> ApiResult<BoxStream<'static, Result<pb::WatchOperationResponse, Status>>> {
        let tenant = caller(&self.app().store, &request).await?;
        let name = request.into_inner().name;
        let id = id(&name)?;
        let first = self.operations.find(tenant.id, id).await?;
        let done = first.done;
        let seen = (!done).then(|| self.subscribe((tenant.id, id), &first));
        let watcher = Watcher {
            name,
            first: Some(first),
            seen,
            stopping: self.app().stopping.clone(),
        };
        let responses = stream::unfold(watcher, |mut watcher| async {
            let next = watcher.next().await?;
            let response = next.map(|operation| pb::WatchOperationResponse {
                operation: Some(operation),
            });
            Some((response.map_err(Status::from), watcher))
        });
        Ok(responses.boxed())
    }

    /// A look at the operation's slot; the poll runs from now on.
    fn subscribe(&self, key: Key, first: &lro::Operation) -> watch::Receiver<Seen> {
        let mut board = self.board();
        let slot = board
            .slots
            .entry(key)
            .or_insert_with(|| watch::channel(Some(Arc::new(first.clone()))).0);
        let seen = slot.subscribe();
        if !board.polled {
            board.polled = true;
            tokio::spawn(poll(self.clone()));
        }
        seen
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is watched. `None` when the poll may end: nothing is, or `closing`; watchers then see
    /// that their slot is gone.
    fn watched(&self, closing: bool) -> Option<Vec<Key>> {
        let mut board = self.board();
        board
            .slots
            .retain(|_, slot| !closing && slot.receiver_count() > 0);
        board.polled = !board.slots.is_empty();
        board.polled.then(|| board.slots.keys().copied().collect())
    }

    /// Reads what is watched and fills the slots of what has moved.
    async fn look(&self, keys: &[Key]) -> Result<(), StoreError> {
        let found = operation::standing(&self.app().store, keys).await?;
        let mut found: HashMap<Key, _> = found
            .into_iter()
            .map(|o| ((o.tenant(), o.id()), o))
            .collect();
        for key in keys {
            let now = match found.remove(key) {
                None => None,
                Some(o) => {
                    let (done, metadata) = (o.is_over(), Some(packed_metadata(&o)));
                    let known = self.board().slots.get(key).and_then(|s| s.borrow().clone());
                    if known.is_some_and(|k| k.done == done && k.metadata == metadata) {
                        continue;
                    }
                    match self.operations.wire(o).await {
                        Ok(now) => Some(Arc::new(now)),
                        // Looked at again; the others do not wait for it.
                        Err(error) => {
                            tracing::warn!(operation = %key.1, %error, "a watched operation");
                            continue;
                        }
                    }
                }
            };
            let over = now.as_ref().is_none_or(|o| o.done);
            let mut board = self.board();
            if let Some(slot) = board.slots.get(key) {
                slot.send_replace(now);
            }
            if over {
                board.slots.remove(key);
            }
        }
        Ok(())
    }
}

/// Looks until nobody watches, the server stops, or the database has been silent for too long.
async fn poll(api: ProgressApi) {
    let mut answered = Instant::now();
    loop {
        tokio::select! {
            () = api.app().stopping.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let lost = answered.elapsed() > PATIENCE;
        let Some(keys) = api.watched(lost || api.app().stopping.is_cancelled()) else {
            return;
        };
        match api.look(&keys).await {
            Ok(()) => answered = Instant::now(),
            Err(error) => tracing::warn!(%error, "looking at watched operations"),
        }
    }
}

/// One stream.
struct Watcher {
    name: String,
    first: Option<lro::Operation>,
    /// `None` when nothing comes any more.
    seen: Option<watch::Receiver<Seen>>,
    stopping: CancellationToken,
}

impl Watcher {
    /// What is told next; `None` at the end.
    async fn next(&mut self) -> Option<ApiResult<lro::Operation>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        // Ended, unless put back below.
        let mut seen = self.seen.take()?;
        let is_gone = tokio::select! {
            biased;
            changed = seen.changed() => changed.is_err(),
            () = self.stopping.cancelled() => true,
            () = tokio::time::sleep(HEARTBEAT) => false,
        };
        if is_gone {
            let why = "the server stops, or has lost the database; watch again";
            return Some(Err(ApiError::Unavailable(why.into())));
        }
        let now = seen.borrow_and_update().clone();
        let Some(now) = now else {
            return Some(Err(ApiError::NotFound(self.name.clone())));
        };
        if !now.done {
            self.seen = Some(seen);
        }
        Some(Ok((*now).clone()))
    }
}
