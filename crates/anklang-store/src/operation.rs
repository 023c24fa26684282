//! Operations: long work that survives crashes.
//!
//! A handler [`create`]s the row in its own transaction. A worker [`claim`]s it under a lease,
//! works in chunks, and ends each chunk's transaction with [`advance`], which fails when the
//! lease was lost: then the chunk rolls back and the new holder does it. `attempt` is the fence.

use std::sync::LazyLock;
use std::time::Duration;

use anklang_domain::{OperationId, TenantId};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

use crate::listing::{Field, Kind, List, Listable, Page, Sort};
use crate::selection::{Statement, bound};
use crate::{Conn, Result, Store, StoreError};

/// The longest wait between two tries.
const LONGEST_BACKOFF_SECONDS: i64 = 60;

/// An operation as it stands.
#[derive(Debug, Clone, QueryableByName)]
pub struct Operation {
    /// Its tenant.
    #[diesel(sql_type = SqlUuid)]
    pub tenant_id: Uuid,
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// What it does, e.g. "LaunchCampaign".
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// The resource it works on.
    #[diesel(sql_type = Text)]
    pub resource: String,
    /// What its worker needs.
    #[diesel(sql_type = Jsonb)]
    pub request: Value,
    /// queued, running, succeeded, failed or cancelled.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// The step it is in; empty before the first.
    #[diesel(sql_type = Text)]
    pub step: String,
    /// Items done in this step; also the checkpoint.
    #[diesel(sql_type = BigInt)]
    pub done: i64,
    /// Items of this step.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
    /// Items that failed in this step.
    #[diesel(sql_type = BigInt)]
    pub failed: i64,
    /// Items per second since the step began.
    #[diesel(sql_type = Double)]
    pub rate: f64,
    /// The last errors, newest first.
    #[diesel(sql_type = Array<Text>)]
    pub last_errors: Vec<String>,
    /// What it gave.
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub response: Option<Value>,
    /// Why it failed: a reason of the API's enum.
    #[diesel(sql_type = Nullable<Text>)]
    pub error_reason: Option<String>,
    /// Why it failed, in words.
    #[diesel(sql_type = Nullable<Text>)]
    pub error_message: Option<String>,
    /// Somebody wants it to stop.
    #[diesel(sql_type = Bool)]
    pub cancel_requested: bool,
    /// A worker has it, or had it and died; else it waits, also for its next try.
    #[diesel(sql_type = Bool)]
    pub is_held: bool,
    /// How often it was leased: the fence.
    #[diesel(sql_type = Integer)]
    pub attempt: i32,
    /// Failures since it last moved.
    #[diesel(sql_type = Integer)]
    pub failures: i32,
    /// The trace context in which it was asked for.
    #[diesel(sql_type = Nullable<Text>)]
    pub traceparent: Option<String>,
    /// When it was asked for.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// When it last moved.
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: DateTime<Utc>,
}

impl Operation {
    /// Its tenant.
    pub fn tenant(&self) -> TenantId {
        TenantId(self.tenant_id)
    }

    /// Its id.
    pub fn id(&self) -> OperationId {
        OperationId(self.id)
    }

    /// When this step will be done if it goes on as it did; `None` while it waits. The same until the operation
    /// moves.
    pub fn expected_end(&self) -> Option<DateTime<Utc>> {
        let rest = (self.total - self.done).max(0);
        self.is_held
            .then(|| expected_end(self.updated_at, rest, self.rate))
            .flatten()
    }

    /// True once it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "cancelled")
    }
}

/// When `rest` items are done at `rate` a second from `now` on; `None` when that cannot be said, or
/// is beyond a year.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn expected_end(now: DateTime<Utc>, rest: i64, rate: f64) -> Option<DateTime<Utc>> {
    const LONGEST: Duration = Duration::from_secs(366 * 86_400);
    if rest == 0 || rate <= 0.0 {
        return None;
    }
    let left = Duration::try_from_secs_f64(rest as f64 / rate).ok()?;
    (left <= LONGEST).then(|| now + left)
}

const COLUMNS: &str = "tenant_id, id, kind, resource, request, state, step, done, total, failed,
    coalesce(done / nullif(extract(epoch FROM updated_at - step_started_at), 0), 0)::float8 AS rate,
    last_errors, response, error_reason, error_message, cancel_requested,
    lease_until IS NOT NULL AS is_held, attempt, failures, traceparent, created_at, updated_at";

/// A new operation.
#[derive(Debug, Clone)]
pub struct NewOperation<'a> {
    /// Its id.
    pub id: OperationId,
    /// What it does.
    pub kind: &'a str,
    /// The resource it works on.
    pub resource: String,
    /// What its worker needs.
    pub request: Value,
}

/// Asks for work, in the caller's transaction.
pub async fn create(conn: &mut Conn, tenant: TenantId, new: NewOperation<'_>) -> Result<Operation> {
    Ok(diesel::sql_query(format!(
        "INSERT INTO operation (tenant_id, id, kind, resource, request) VALUES ($1, $2, $3, $4, $5)
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(new.id.0)
    .bind::<Text, _>(new.kind)
    .bind::<Text, _>(new.resource)
    .bind::<Jsonb, _>(new.request)
    .get_result(conn)
    .await?)
}

/// Says what an operation that was just created works on and needs, in the same transaction: for
/// resources that point to their operation.
pub async fn plan(
    conn: &mut Conn,
    tenant: TenantId,
    id: OperationId,
    resource: &str,
    request: Value,
) -> Result<Operation> {
    Ok(diesel::sql_query(format!(
        "UPDATE operation SET resource = $3, request = $4 WHERE tenant_id = $1 AND id = $2
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(resource)
    .bind::<Jsonb, _>(request)
    .get_result(conn)
    .await?)
}

/// Lets an operation that was just created wait in a step until somebody makes it due, in the same
/// transaction. Asking it to stop makes it due as well.
pub async fn wait(
    conn: &mut Conn,
    tenant: TenantId,
    id: OperationId,
    step: &str,
) -> Result<Operation> {
    Ok(diesel::sql_query(format!(
        "UPDATE operation SET step = $3, run_at = 'infinity' WHERE tenant_id = $1 AND id = $2
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .bind::<Text, _>(step)
    .get_result(conn)
    .await?)
}

/// One operation.
pub async fn get(mut conn: &Conn, tenant: TenantId, id: OperationId) -> Result<Option<Operation>> {
    Ok(diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM operation WHERE tenant_id = $1 AND id = $2"
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .get_result(&mut conn)
    .await
    .optional()?)
}

/// Operations of any tenants as they stand, by one statement: for whoever watches them on behalf of
/// their tenants. What does not exist is left out.
pub async fn standing(store: &Store, of: &[(TenantId, OperationId)]) -> Result<Vec<Operation>> {
    let (tenants, ids): (Vec<Uuid>, Vec<Uuid>) = of.iter().map(|(t, id)| (t.0, id.0)).unzip();
    let mut tx = store.begin_worker().await?;
    let found = diesel::sql_query(format!(
        "SELECT {COLUMNS} FROM operation
         WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))"
    ))
    .bind::<Array<SqlUuid>, _>(tenants)
    .bind::<Array<SqlUuid>, _>(ids)
    .load(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(found)
}

/// What operations are listed by.
pub static LISTABLE: Listable = Listable {
    fields: &[
        Field::column("kind", Kind::Text),
        Field::column("resource", Kind::Text),
        Field::new("phase", Kind::Text, "step"),
        Field::new("done", Kind::Flag, "is_over"),
        Field::column("failed", Kind::Number),
        Field::new("create_time", Kind::Time, "created_at"),
        Field::new("update_time", Kind::Time, "updated_at"),
    ],
    key: &[Sort::key("id", "::uuid", true)],
};

/// A page of operations, newest first if not otherwise wanted.
pub async fn list(conn: &Conn, tenant: TenantId, list: &List) -> Result<Page<Operation>> {
    static BASE: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {COLUMNS}, state IN ('succeeded', 'failed', 'cancelled') AS is_over
             FROM operation WHERE tenant_id = $1"
        )
    });
    let base = Statement::numbered(&BASE, &[bound::<SqlUuid, _>(tenant.0)]);
    list.load(conn, base).await
}

/// Asks an operation to stop: its worker does so before its next chunk. One that is over stays as
/// it is. Returns whether it exists.
pub async fn request_cancel(conn: &mut Conn, tenant: TenantId, id: OperationId) -> Result<bool> {
    let rows = diesel::sql_query(
        "UPDATE operation SET cancel_requested = true, run_at = least(run_at, now())
         WHERE tenant_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .execute(conn)
    .await?;
    Ok(rows == 1)
}

/// Forgets an operation that is over. One that still runs, or that a phase points to, stays, and
/// the call is refused.
pub async fn delete(conn: &mut Conn, tenant: TenantId, id: OperationId) -> Result<()> {
    let name = format!("operations/{id}");
    let operation = get(conn, tenant, id)
        .await?
        .ok_or_else(|| StoreError::Missing(name.clone()))?;
    let refuse = |reason: &str| StoreError::Refused {
        resource: name.clone(),
        reason: reason.into(),
    };
    if !operation.is_over() {
        return Err(refuse("it is not over; cancel it first"));
    }
    let rows = diesel::sql_query(
        "DELETE FROM operation o WHERE tenant_id = $1 AND id = $2 AND NOT EXISTS (
             SELECT FROM phase p WHERE p.tenant_id = $1 AND p.operation_id = o.id)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id.0)
    .execute(conn)
    .await?;
    if rows == 0 {
        return Err(refuse("a campaign's phase keeps it as its record"));
    }
    Ok(())
}

/// An operation in the hands of a worker.
#[derive(Debug, Clone)]
pub struct Leased {
    /// As it stood when it was claimed or last advanced.
    pub operation: Operation,
    lease: TimeDelta,
}

impl Leased {
    fn lease_seconds(&self) -> f64 {
        seconds(self.lease)
    }
}

/// Leases the operation that has waited longest, if one is due: new, or left by a worker whose
/// lease has run out, if it is of these kinds: others are for servers of a newer version. It is held
/// for `lease` from each sign of life.
pub async fn claim(store: &Store, kinds: &[&str], lease: TimeDelta) -> Result<Option<Leased>> {
    let mut tx = store.begin_worker().await?;
    let operation = diesel::sql_query(format!(
        "UPDATE operation SET state = 'running', attempt = attempt + 1,
                lease_until = now() + make_interval(secs => $1)
         WHERE (tenant_id, id) = (
             SELECT tenant_id, id FROM operation
             WHERE state IN ('queued', 'running') AND run_at <= now() AND kind = ANY($2)
               AND (lease_until IS NULL OR lease_until < now())
             ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING {COLUMNS}"
    ))
    .bind::<Double, _>(seconds(lease))
    .bind::<Array<Text>, _>(kinds)
    .get_result(&mut tx)
    .await
    .optional()?;
    tx.commit().await?;
    Ok(operation.map(|operation| Leased { operation, lease }))
}

/// Prolongs the lease between chunks. `LeaseLost` when somebody else has it.
pub async fn heartbeat(conn: &mut Conn, held: &Leased) -> Result<()> {
    let rows = diesel::sql_query(
        "UPDATE operation SET lease_until = now() + make_interval(secs => $4)
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .bind::<Double, _>(held.lease_seconds())
    .execute(conn)
    .await?;
    still_held(rows)
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The step.
    pub step: &'a str,
    /// Items done; the checkpoint.
    pub done: i64,
    /// Items in all.
    pub total: i64,
    /// Items that failed.
    pub failed: i64,
}

/// Moves the checkpoint, in the chunk's own transaction, and prolongs the lease. `LeaseLost` when
/// somebody else has the operation: the chunk must roll back.
pub async fn advance(conn: &mut Conn, held: &mut Leased, to: Progress<'_>) -> Result<()> {
    let moved: Option<Operation> = diesel::sql_query(format!(
        "UPDATE operation SET step = $4, done = $5, total = $6, failed = $7, failures = 0,
                step_started_at = CASE WHEN step = $4 THEN step_started_at ELSE now() END,
                lease_until = now() + make_interval(secs => $8), updated_at = clock_timestamp()
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'
         RETURNING {COLUMNS}"
    ))
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .bind::<Text, _>(to.step)
    .bind::<BigInt, _>(to.done)
    .bind::<BigInt, _>(to.total)
    .bind::<BigInt, _>(to.failed)
    .bind::<Double, _>(held.lease_seconds())
    .get_result(conn)
    .await
    .optional()?;
    held.operation = moved.ok_or(StoreError::LeaseLost)?;
    Ok(())
}

/// Notes errors of single items, newest first; the last ten stay.
pub async fn note_errors(conn: &mut Conn, held: &Leased, errors: &[String]) -> Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let rows = diesel::sql_query(
        "UPDATE operation SET last_errors = ($4 || last_errors)[1:10]
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .bind::<Array<Text>, _>(errors)
    .execute(conn)
    .await?;
    still_held(rows)
}

/// Says what an operation waits for, in the place of its errors; the first ten stay. Nothing is written when it is as
/// it was.
pub async fn note_waits(conn: &mut Conn, held: &Leased, waits: &[String]) -> Result<()> {
    let first = waits.get(..10).unwrap_or(waits);
    if held.operation.last_errors == first {
        return Ok(());
    }
    let rows = diesel::sql_query(
        "UPDATE operation SET last_errors = $4
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .bind::<Array<Text>, _>(first)
    .execute(conn)
    .await?;
    still_held(rows)
}

/// How an operation ends.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// With a response.
    Succeeded(Value),
    /// With a reason of the API's enum and a message.
    Failed {
        /// Reason of the API's enum.
        reason: String,
        /// In words.
        message: String,
    },
    /// As asked.
    Cancelled,
}

/// Ends an operation, in the transaction of its last chunk.
pub async fn finish(conn: &mut Conn, held: &Leased, end: End) -> Result<()> {
    let (state, response, reason, message) = match end {
        End::Succeeded(response) => ("succeeded", Some(response), None, None),
        End::Failed { reason, message } => ("failed", None, Some(reason), Some(message)),
        End::Cancelled => ("cancelled", None, None, None),
    };
    let rows = diesel::sql_query(
        "UPDATE operation SET state = $4, response = $5, error_reason = $6, error_message = $7,
                lease_until = NULL, updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .bind::<Text, _>(state)
    .bind::<Nullable<Jsonb>, _>(response)
    .bind::<Nullable<Text>, _>(reason)
    .bind::<Nullable<Text>, _>(message)
    .execute(conn)
    .await?;
    still_held(rows)
}

/// Gives an operation back after an error, to be taken up again later, and notes the error.
pub async fn retry_later(conn: &mut Conn, held: &Leased, error: &str) -> Result<()> {
    let wait = (1_i64 << held.operation.failures.clamp(0, 10)).min(LONGEST_BACKOFF_SECONDS);
    let rows = diesel::sql_query(
        "UPDATE operation SET failures = failures + 1, lease_until = NULL,
                run_at = now() + make_interval(secs => $4),
                last_errors = (ARRAY[$5] || last_errors)[1:10], updated_at = now()
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .bind::<Double, _>(seconds(TimeDelta::seconds(wait)))
    .bind::<Text, _>(error)
    .execute(conn)
    .await?;
    still_held(rows)
}

/// Gives an operation back untouched, to be taken up at once by whoever comes: the server stops.
pub async fn release(conn: &mut Conn, held: &Leased) -> Result<()> {
    let rows = diesel::sql_query(
        "UPDATE operation SET lease_until = NULL
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .execute(conn)
    .await?;
    still_held(rows)
}

/// Gives an operation back until somebody makes it due, in the transaction that says why: it waits for
/// people. Asking it to stop makes it due as well. Its worker leaves it alone afterwards.
pub async fn park(conn: &mut Conn, held: &Leased) -> Result<()> {
    let rows = diesel::sql_query(
        "UPDATE operation SET state = 'queued', lease_until = NULL, failures = 0, updated_at = now(),
                run_at = CASE WHEN cancel_requested THEN now() ELSE 'infinity' END
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running'",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .execute(conn)
    .await?;
    still_held(rows)
}

/// Lets others go first: when an operation of any tenant is due and nobody has it, this one goes to
/// the end of the queue, and its worker must [`release`] it. Says whether that is so.
pub async fn stand_back(store: &Store, held: &Leased) -> Result<bool> {
    let mut tx = store.begin_worker().await?;
    let rows = diesel::sql_query(
        "UPDATE operation SET run_at = now()
         WHERE tenant_id = $1 AND id = $2 AND attempt = $3 AND state = 'running' AND EXISTS (
             SELECT FROM operation o
             WHERE o.state IN ('queued', 'running') AND o.run_at <= now()
               AND (o.lease_until IS NULL OR o.lease_until < now()))",
    )
    .bind::<SqlUuid, _>(held.operation.tenant_id)
    .bind::<SqlUuid, _>(held.operation.id)
    .bind::<Integer, _>(held.operation.attempt)
    .execute(&mut tx)
    .await?;
    tx.commit().await?;
    Ok(rows == 1)
}

fn still_held(rows: usize) -> Result<()> {
    if rows == 1 {
        Ok(())
    } else {
        Err(StoreError::LeaseLost)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most some minutes")]
fn seconds(span: TimeDelta) -> f64 {
    span.num_milliseconds() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_expected_from_rest_and_rate() {
        let now = DateTime::UNIX_EPOCH;
        let at = |seconds| Some(now + TimeDelta::seconds(seconds));
        assert_eq!(expected_end(now, 100, 10.0), at(10));
        assert_eq!(expected_end(now, 1, 0.5), at(2));
        // Nothing left, no rate, and rates that would end after all of us.
        for (rest, rate) in [(0, 1.0), (1, 0.0), (1, -1.0), (i64::MAX, 1.0), (1, 1e-300)] {
            assert_eq!(expected_end(now, rest, rate), None, "{rest} at {rate}");
        }
    }
}
