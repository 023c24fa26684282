//! Hands events over: claims deliveries, posts them, records what came of it; and removes what is
//! over.
//!
//! A task takes one webhook for a turn and does a bounded number of calls at the same time, so that a
//! slow webhook holds up none but itself, and a slow call none but the next event of its offer: each
//! call that ends makes room for the next delivery, until nothing is due or the turn is over. While a
//! webhook fails, it gets one call a turn.
//!
//! The number of webhooks that are worked on at the same time is bounded, and in it those of one tenant
//! and those that fail: however many of them do not answer, the others keep their pace. Between claim
//! and record no transaction is open; a delivery whose record is lost is delivered again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_domain::handover::{Next, Outcome, after_attempt, retry_after};
use anklang_store::StoreError;
use anklang_store::handover::queue::{self, Batch, Claimed, Due, Ended, Places};
use anklang_store::tenant::Tenant;
use bytes::Bytes;
use chrono::Utc;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use super::App;
use crate::outside::{Answer, BODY_TIME, OutsideError};
use crate::telemetry::{meters, spans};
use crate::webhook::{self, Secret};

/// A tenant's webhooks, and those that fail, get at most one of so many places.
const SHARE: usize = 4;
/// A lease lasts so much longer than a call can take: time to record it.
const RECORD_TIME: Duration = Duration::from_secs(10);
/// Tries to record, the waits between them doubling from the first: six seconds in all.
const RECORD_TRIES: u32 = 7;
const FIRST_RECORD_WAIT: Duration = Duration::from_millis(100);
/// Rows that are removed in one transaction.
const PURGED_PER_CHUNK: i64 = 5_000;
/// The most characters of an error that are kept.
const MAX_DETAIL: usize = 300;

/// The webhooks that this process works on.
#[derive(Clone, Default)]
struct Busy(Arc<Mutex<HashSet<Uuid>>>);

impl Busy {
    fn set(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a webhook's place until it is dropped, also by a panic.
struct Place {
    busy: Busy,
    webhook: Uuid,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy.set().remove(&self.webhook);
    }
}

/// Hands over until told to stop; then waits for the calls under way.
pub async fn run(app: App, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(app.config.handover.webhooks));
    let (tasks, busy, ended) = (TaskTracker::new(), Busy::default(), Arc::new(Notify::new()));
    let mut rescued: Option<Instant> = None;
    while !stop.is_cancelled() {
        // Between polls, only finished batches come by here: leases do not run out so fast.
        if rescued.is_none_or(|at| at.elapsed() >= app.config.handover.poll) {
            rescue(&app).await;
            rescued = Some(Instant::now());
        }
        if let Err(error) = begin(&app, &places, &tasks, &busy, &ended, &stop).await {
            tracing::warn!(%error, "looking for deliveries");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = app.wake.handover.notified() => {}
            () = ended.notified() => {}
            () = tokio::time::sleep(app.config.handover.poll) => {}
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn rescue(app: &App) {
    match queue::rescue(&app.store).await {
        Ok(0) => {}
        Ok(rescued) => tracing::warn!(rescued, "rescued deliveries"),
        Err(error) => tracing::warn!(%error, "rescuing deliveries"),
    }
}

/// Begins a turn of each webhook that has something due, as far as there are places.
async fn begin(
    app: &App,
    places: &Arc<Semaphore>,
    tasks: &TaskTracker,
    busy: &Busy,
    ended: &Arc<Notify>,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let places_of = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let share = places_of((app.config.handover.webhooks / SHARE).max(1));
    let open = Places {
        free: places_of(places.available_permits()),
        of_tenant: share,
        failing: share,
    };
    if open.free == 0 {
        return Ok(());
    }
    let taken: Vec<Uuid> = busy.set().iter().copied().collect();
    for due in queue::due(&app.store, &taken, open).await? {
        let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
            break;
        };
        busy.set().insert(due.id);
        let place = Place {
            busy: busy.clone(),
            webhook: due.id,
            _permit: permit,
        };
        let (app, ended, stop) = (app.clone(), Arc::clone(ended), stop.clone());
        tasks.spawn(async move {
            let delivered = match deliver(&app, &due, &stop).await {
                Ok(delivered) => delivered,
                Err(error) => {
                    tracing::warn!(webhook = %due.id, %error, "deliveries are left to their lease");
                    0
                }
            };
            drop(place);
            // There may be more at once. After none, waiting for the next poll is enough.
            if delivered > 0 {
                ended.notify_one();
            }
        });
    }
    Ok(())
}

/// What the deliveries of a claim share.
struct Sending<'a> {
    app: &'a App,
    due: &'a Due,
    url: String,
    secrets: Result<Vec<Secret>, String>,
    stop: &'a CancellationToken,
    /// The receiver has asked to be left alone, in this turn.
    held: &'a AtomicBool,
}

/// Claims a webhook's deliveries, posts them and records what came of it, for a turn: as long as
/// something is due and it does not fail, for about as long as one call may take. Returns how many
/// were claimed.
async fn deliver(app: &App, due: &Due, stop: &CancellationToken) -> Result<usize, StoreError> {
    let settings = &app.config.handover;
    let held = AtomicBool::new(false);
    let (begun, mut failing, mut claimed) = (Instant::now(), due.failing, 0);
    let mut calls = FuturesUnordered::new();
    loop {
        let at_once = if failing { 1 } else { settings.calls };
        let goes_on = claimed == 0 || (!failing && begun.elapsed() < settings.timeout);
        let goes_on = goes_on && !stop.is_cancelled() && !held.load(Ordering::Relaxed);
        let free = at_once.saturating_sub(calls.len());
        if goes_on && free > 0 {
            match claim(app, due, stop, &held, free).await {
                Ok(more) => {
                    claimed += more.len();
                    calls.extend(more);
                }
                Err(error) if calls.is_empty() => return Err(error),
                // What is under way is worth waiting for.
                Err(error) => tracing::warn!(webhook = %due.id, %error, "claiming deliveries"),
            }
        }
        let first = tokio::select! {
            first = calls.next() => first,
            // Something may have become due meanwhile.
            () = tokio::time::sleep(settings.poll), if goes_on => continue,
        };
        let Some(first) = first else {
            return Ok(claimed);
        };
        let mut ended = vec![first];
        while let Some(Some(next)) = calls.next().now_or_never() {
            ended.push(next);
        }
        if let Err(error) = record(app, due, &ended).await {
            if calls.is_empty() {
                return Err(error);
            }
            // These come again when their leases run out; what is under way is worth waiting for.
            tracing::warn!(webhook = %due.id, %error, "recording deliveries");
            failing = true;
            continue;
        }
        let taken = ended.iter().any(|e| e.next == Next::Delivered);
        failing = !taken && (failing || ended.iter().any(|e| e.failed));
    }
}

/// Claims up to `limit` deliveries of a webhook; gives the attempts to deliver them.
async fn claim<'a>(
    app: &'a App,
    due: &'a Due,
    stop: &'a CancellationToken,
    held: &'a AtomicBool,
    limit: usize,
) -> Result<Vec<impl Future<Output = Ended> + use<'a>>, StoreError> {
    let settings = &app.config.handover;
    let lease = settings.timeout + BODY_TIME + RECORD_TIME;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let Batch {
        url,
        secrets,
        deliveries,
    } = queue::claim(&app.store, due, limit, lease).await?;
    let sending = Arc::new(Sending {
        app,
        due,
        url,
        secrets: open(app, due, &secrets),
        stop,
        held,
    });
    let attempt = |claimed: Claimed| {
        let sending = Arc::clone(&sending);
        async move { sending.attempt(claimed).await }
    };
    Ok(deliveries.into_iter().map(attempt).collect())
}

/// Opens the secrets; in words, why that is not possible.
fn open(app: &App, due: &Due, sealed: &[queue::SealedSecret]) -> Result<Vec<Secret>, String> {
    let opened: Result<Vec<Secret>, String> = sealed
        .iter()
        .map(|s| {
            Secret::open(&app.keys, due.tenant(), due.webhook(), s.id, &s.sealed)
                .map_err(|e| format!("its secret {e}"))
        })
        .collect();
    match opened {
        Ok(none) if none.is_empty() => Err("it has no valid secret".into()),
        other => other,
    }
}

impl Sending<'_> {
    /// Posts one delivery and decides what becomes of it.
    async fn attempt(&self, claimed: Claimed) -> Ended {
        let span = spans::delivery(self.due.id, &claimed.event, claimed.attempt);
        let posted = self.post(&claimed, spans::traceparent(&span));
        let (outcome, status, detail) = posted.instrument(span.clone()).await;
        spans::delivered(&span, &outcome, status);
        let hold_for = match outcome {
            Outcome::Failed { retry_after } => retry_after,
            _ => None,
        };
        if hold_for.is_some() {
            self.held.store(true, Ordering::Relaxed);
        }
        let policy = &self.app.config.handover.retry;
        let next = after_attempt(
            outcome,
            claimed.failures,
            policy,
            jitter(claimed.event.event_id),
        );
        meters::delivery(&outcome, &next);
        if next == Next::Dead {
            tracing::warn!(
                webhook = %self.due.id, event = %claimed.event.event_id, detail, "delivery given up"
            );
        }
        Ended {
            event_id: claimed.event.event_id,
            attempt: claimed.attempt,
            next,
            failed: matches!(outcome, Outcome::Failed { .. }),
            status: status.map(|s| i32::from(s.as_u16())),
            detail,
            hold_for,
        }
    }

    async fn post(
        &self,
        claimed: &Claimed,
        traceparent: String,
    ) -> (Outcome, Option<StatusCode>, String) {
        let not_sent = |why: &str| (Outcome::NotSent, None, printable(why));
        if self.stop.is_cancelled() {
            return not_sent("the server stopped");
        }
        if self.held.load(Ordering::Relaxed) {
            return not_sent("the receiver asked to be left alone");
        }
        let secrets = match &self.secrets {
            Ok(secrets) => secrets,
            Err(why) => {
                tracing::error!(webhook = %self.due.id, why, "nothing can be signed");
                return not_sent(why);
            }
        };
        let body = webhook::body(&self.due.tenant_slug, &claimed.event);
        let mut headers = headers(secrets, claimed.event.event_id, &body);
        // This server may trace nothing, and another that did have written the event.
        let traceparent = match traceparent.is_empty() {
            true => claimed.event.traceparent.as_deref().unwrap_or_default(),
            false => &traceparent,
        };
        if let Ok(value) = HeaderValue::try_from(traceparent)
            && !value.is_empty()
        {
            headers.insert("traceparent", value);
        }
        let answer = self
            .app
            .outside
            .post(&self.url, headers, Bytes::from(body))
            .await;
        judge(answer)
    }
}

fn headers(secrets: &[Secret], event: Uuid, body: &str) -> HeaderMap {
    let (id, now) = (event.to_string(), Utc::now().timestamp());
    let signatures = webhook::signatures(secrets, &id, now, body);
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(webhook::CONTENT_TYPE),
    );
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", now.to_string()),
        ("webhook-signature", signatures),
    ] {
        let value = HeaderValue::try_from(value).expect("digits, hyphens and base64");
        headers.insert(name, value);
    }
    headers
}

/// Only 2xx is a yes. Of the others, 429 and 503 may ask to wait.
fn judge(answer: Result<Answer, OutsideError>) -> (Outcome, Option<StatusCode>, String) {
    let answer = match answer {
        Ok(answer) if answer.status.is_success() => {
            return (Outcome::Taken, Some(answer.status), String::new());
        }
        Ok(answer) => answer,
        Err(error) => {
            let failed = Outcome::Failed { retry_after: None };
            return (failed, None, printable(&error.to_string()));
        }
    };
    let status = answer.status;
    let detail = if status.is_redirection() {
        format!("HTTP {status}: redirects are not followed")
    } else {
        format!("HTTP {status}")
    };
    let may_ask = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ]
    .contains(&status);
    let asked = answer.retry_after.filter(|_| may_ask);
    let failed = Outcome::Failed {
        retry_after: asked.and_then(|value| retry_after(&value, Utc::now())),
    };
    (failed, Some(status), printable(&detail))
}

/// A number in 0..1 out of an event's id: its last bytes are random.
fn jitter(id: Uuid) -> f64 {
    f64::from(u16::from_be_bytes([id.as_bytes()[14], id.as_bytes()[15]])) / 65_536.0
}

/// What comes from outside goes to a log line and a database that knows no NUL.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_DETAIL)
        .collect()
}

/// Records what attempts came to, for as long as the lease surely lasts. Recording twice changes
/// nothing; what cannot be recorded is delivered again when its lease has run out.
async fn record(app: &App, due: &Due, ended: &[Ended]) -> Result<(), StoreError> {
    let mut wait = FIRST_RECORD_WAIT;
    let mut tries = 1;
    let moved = loop {
        match queue::complete(&app.store, due, ended).await {
            Ok(moved) => break moved,
            Err(error) if tries >= RECORD_TRIES => return Err(error),
            Err(error) => tracing::warn!(%error, tries, "recording deliveries; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
        tries += 1;
    };
    if moved < ended.len() {
        let lost = ended.len() - moved;
        tracing::warn!(webhook = %due.id, lost, "outcomes of deliveries that were lost or deleted");
    }
    Ok(())
}

/// Removes what was delivered long ago, and what belongs to deleted webhooks.
pub async fn purge(app: &App, tenant: &Tenant, stop: &CancellationToken) -> Result<(), StoreError> {
    let before = Utc::now() - app.config.handover.retention;
    let chunk = usize::try_from(PURGED_PER_CHUNK).unwrap_or(usize::MAX);
    while !stop.is_cancelled() {
        let rows = queue::purge(&app.store, tenant.id, before, PURGED_PER_CHUNK).await?;
        if rows < chunk {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after: Option<&str>) -> (Outcome, String) {
        let (outcome, _, detail) = judge(Ok(Answer {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: retry_after.map(str::to_owned),
        }));
        (outcome, detail)
    }

    #[test]
    fn only_2xx_is_taken_and_only_429_and_503_may_ask_to_wait() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answered(status, None).0, Outcome::Taken, "{status}");
        }
        let wait = |seconds| Outcome::Failed {
            retry_after: Some(chrono::TimeDelta::seconds(seconds)),
        };
        let failed = Outcome::Failed { retry_after: None };
        for status in [429, 503] {
            assert_eq!(answered(status, Some("7")).0, wait(7));
            assert_eq!(answered(status, Some("soon")).0, failed);
            assert_eq!(answered(status, None).0, failed);
        }
        for status in [304, 400, 404, 410, 500, 502] {
            assert_eq!(answered(status, Some("7")).0, failed, "{status}");
        }
        let (outcome, detail) = answered(302, None);
        assert_eq!(outcome, failed);
        assert_eq!(detail, "HTTP 302 Found: redirects are not followed");
    }
}
