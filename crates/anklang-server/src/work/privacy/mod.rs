//! Data of persons: exports and erasures, and what is looked after later.
//!
//! Nothing of the person is in their operations: the request says whose data it is, by the number.

pub mod erase;
pub mod export;

use anklang_domain::{OperationId, TenantId};
use anklang_store::operation::{self, End, Leased, NewOperation, Operation};
use anklang_store::privacy::file::{self, Listed};
use anklang_store::privacy::request::{self, NewRequest};
use anklang_store::privacy::{self, Subject};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::TimeDelta;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::App;
use super::launch::store_trouble;
use super::operations::Interrupted;
use crate::documents;

/// When an erasure is done again: reports of what was sent before, and the like, come late.
const AGAIN: [TimeDelta; 4] = [
    TimeDelta::hours(1),
    TimeDelta::days(1),
    TimeDelta::days(7),
    TimeDelta::days(30),
];
/// Files that are deleted, and exports that are forgotten, in one turn.
const FILES_PER_TURN: i64 = 100;
/// Erasures that are asked for again in one turn.
const ROUNDS_PER_TURN: i64 = 1_000;

/// Asks for an export or an erasure, in the caller's transaction.
pub async fn ask(
    conn: &mut Conn,
    subject: &Subject,
    operation: &'static str,
    new: NewRequest<'_>,
) -> Result<Operation, StoreError> {
    request::create(conn, subject, new).await?;
    begin(conn, subject.tenant, new.id, operation, new.id.0).await
}

/// Asks for an operation for a request.
async fn begin(
    conn: &mut Conn,
    tenant: TenantId,
    id: OperationId,
    kind: &str,
    request: Uuid,
) -> Result<Operation, StoreError> {
    let new = NewOperation {
        id,
        kind,
        resource: request::resource(request),
        request: serde_json::json!(Plan { request }),
    };
    operation::create(conn, tenant, new).await
}

/// What the worker needs to know; stored with the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    /// The request. Its first operation has the same id, those of later rounds have others.
    request: Uuid,
}

/// The request that an operation is for.
pub fn request_of(operation: &Operation) -> Uuid {
    let plan = serde_json::from_value(operation.request.clone());
    plan.map_or(operation.id, |plan: Plan| plan.request)
}

/// A new request by somebody.
pub fn new_request<'a>(kind: &'a str, reason: &'a str, requested_by: &'a str) -> NewRequest<'a> {
    NewRequest {
        id: OperationId::new(),
        kind,
        reason,
        requested_by,
    }
}

/// Writes down that a request's operation ended before its end.
pub async fn ended(conn: &mut Conn, held: &Leased, end: &End) -> Result<(), StoreError> {
    if ![export::KIND, erase::KIND].contains(&&held.operation.kind[..]) {
        return Ok(());
    }
    let state = match end {
        End::Succeeded(_) => "done",
        End::Cancelled => "cancelled",
        End::Failed { .. } => "failed",
    };
    let (tenant, id) = (held.operation.tenant(), request_of(&held.operation));
    request::end(conn, tenant, id, state).await
}

/// Whose data an operation is about.
async fn subject_of(app: &App, held: &Leased) -> Result<Subject, Interrupted> {
    let tenant = held.operation.tenant();
    let mut tx = app.store.begin(tenant).await?;
    let found = privacy::subject_of(&mut tx, tenant, request_of(&held.operation)).await?;
    tx.commit().await?;
    found.ok_or_else(|| Interrupted::Hopeless {
        reason: "INTERNAL",
        message: "the request is not there any more".into(),
    })
}

/// Deletes a file and takes it off the list. Bytes that are another document's as well stay.
async fn delete(app: &App, tenant: TenantId, listed: &Listed) -> Result<(), Interrupted> {
    let path = match (&listed.sha256, &listed.path) {
        (Some(sha256), _) => {
            let shared = file::is_shared(&app.store, sha256, listed.id).await?;
            (!shared).then(|| documents::path(sha256))
        }
        (None, path) => path.as_deref().map(Path::from),
    };
    if let Some(path) = path {
        let deleted = app.documents.delete(&path).await;
        deleted.map_err(store_trouble)?;
    }
    let mut tx = app.store.begin(tenant).await?;
    file::remove(&mut tx, tenant, listed.id).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes files of exports whose time is over and what requests have left, and asks for erasures again that are due.
pub async fn tidy(app: &App, tenant: &Tenant, stop: &CancellationToken) -> Result<(), StoreError> {
    let mut tx = app.store.begin_work(tenant.id).await?;
    let due = request::begin_rounds(&mut tx, tenant.id, ROUNDS_PER_TURN).await?;
    for id in &due {
        begin(&mut tx, tenant.id, OperationId::new(), erase::KIND, *id).await?;
    }
    tx.commit().await?;
    if !due.is_empty() {
        app.wake.operations.notify_waiters();
    }
    let mut tx = app.store.begin_work(tenant.id).await?;
    request::expire(&mut tx, tenant.id, FILES_PER_TURN).await?;
    let left = file::left(&mut tx, tenant.id, FILES_PER_TURN).await?;
    tx.commit().await?;
    for listed in left {
        if stop.is_cancelled() {
            return Ok(());
        }
        match delete(app, tenant.id, &listed).await {
            Ok(()) => {}
            Err(Interrupted::Store(error)) => return Err(error),
            // The document store: another time.
            Err(_) => break,
        }
    }
    Ok(())
}
