//! The work list as a stream: what is on it, then what changes.
//!
//! # Guarantees
//! A client misses nothing. It gets a list, or what has changed since its token, as a snapshot of the
//! database shows it, and from the tenant's [`Feed`] all that the snapshot does not. Its token is a
//! snapshot of which it has everything. Whoever is too slow is sent away, and goes on with the token.
//!
//! # Trade-offs
//! Whether a contact has left a filter follows from whether the client has it. A stream remembers so many
//! ids ([`REMEMBERED`]); beyond, it tells of every contact outside of the filter that it is.

mod wish;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::Conn;
use anklang_store::planning::work::resource;
use anklang_store::planning::work::watch::{self, Change, Moment, Snapshot, View};
use anklang_store::tenant::Tenant;
use chrono::TimeDelta;
use futures::stream::{self, BoxStream, StreamExt};
use pb::WorkListChangeKind as Kind;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use uuid::Uuid;

use super::super::{ApiError, ApiResult, caller};
use super::feed::{Batch, Batches};
use super::{WorkListApi, wire};
use wish::{Since, Tokens, Wish};

/// The longest silence of a stream.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Changes of a response: with the longest notes they fit into what clients take.
const TOLD_AT_ONCE: usize = 100;
/// Contacts of a list that a stream remembers.
const REMEMBERED: usize = 10_000;
/// Changes of a tenant that a client can have missed.
const MAX_MISSED: usize = 20_000;
/// Of these, contacts that its filter takes.
const MAX_MISSED_INSIDE: usize = 1_000;
/// A token is good for so long. Contacts that are gone are known for two days.
const TOKEN_AGE: TimeDelta = TimeDelta::hours(24);

pub(super) type Responses = BoxStream<'static, Result<pb::WatchWorkListResponse, Status>>;

impl WorkListApi {
    pub(super) async fn watch(
        &self,
        request: Request<pb::WatchWorkListRequest>,
    ) -> ApiResult<Responses> {
        let tenant = caller(&self.app.store, &request).await?;
        let wish = Wish::read(&self.app.keys, &tenant, &request.into_inner())?;
        // Before the snapshot, so that nothing is between them.
        let batches = self.feed.subscribe(tenant.id).await?;
        let mut tx = self.app.store.begin_snapshot(tenant.id).await?;
        let now = watch::moment(&mut tx).await?;
        let mut watcher = Watcher {
            view: wish.view,
            tokens: wish.tokens,
            known: Known::default(),
            pending: VecDeque::new(),
            batches: Some(batches),
            seen: now,
            told_at: Instant::now(),
            stopping: self.app.stopping.clone(),
        };
        match wish.since {
            None => watcher.list(&mut tx, &tenant).await?,
            Some(since) => watcher.catch_up(&mut tx, &tenant, &since).await?,
        }
        tx.commit().await?;
        let responses = stream::unfold(watcher, |mut watcher| async {
            let next = watcher.next().await?;
            Some((next.map_err(Status::from), watcher))
        });
        Ok(responses.boxed())
    }
}

fn expired(why: &str) -> ApiError {
    ApiError::Precondition {
        reason: ErrorReason::ResumeTokenExpired,
        resource: "resume_token".into(),
        description: format!("{why}; watch without it"),
    }
}

/// Which contacts a client has.
#[derive(Default)]
struct Known {
    ids: HashSet<Uuid>,
    /// There are more.
    is_full: bool,
}

impl Known {
    /// False when the client has it already, as far as is known.
    fn add(&mut self, id: Uuid) -> bool {
        if self.ids.len() >= REMEMBERED && !self.ids.contains(&id) {
            self.is_full = true;
            return true;
        }
        self.ids.insert(id)
    }

    /// True when the client has, or may have had, it.
    fn remove(&mut self, id: Uuid) -> bool {
        self.ids.remove(&id) || self.is_full
    }
}

/// One stream.
struct Watcher {
    view: View,
    tokens: Tokens,
    known: Known,
    /// What is told before anything else.
    pending: VecDeque<pb::WatchWorkListResponse>,
    /// `None` when nothing comes any more.
    batches: Option<Batches>,
    /// Of this the client has everything, together with what is pending.
    seen: Moment,
    told_at: Instant,
    stopping: CancellationToken,
}

impl Watcher {
    /// Tells what is on the list.
    async fn list(&mut self, tx: &mut Conn, tenant: &Tenant) -> ApiResult<()> {
        let page = self.view.first(tx, tenant.id).await?;
        let mut changes = Vec::with_capacity(page.rows.len());
        for contact in page.rows {
            self.known.add(contact.id);
            changes.push(told(Kind::Listed, wire::contact(contact)));
        }
        self.begin(changes, page.next.is_some());
        Ok(())
    }

    /// Tells what a client has missed.
    async fn catch_up(&mut self, tx: &mut Conn, tenant: &Tenant, since: &Since) -> ApiResult<()> {
        if since.history != self.seen.history {
            return Err(expired("the database is another one since"));
        }
        if self.seen.at - since.at > TOKEN_AGE {
            return Err(expired("it is older than 24 hours"));
        }
        let snapshot: Snapshot = since.snapshot.parse()?;
        let limit = i64::try_from(MAX_MISSED + 1).unwrap_or(i64::MAX);
        let missed = watch::changed(tx, tenant.id, &snapshot, None, limit).await?;
        if missed.len() > MAX_MISSED {
            return Err(expired("too much has changed since"));
        }
        let there = missed.iter().filter(|c| !c.is_gone).map(|c| c.id);
        let inside = self.view.among(tx, tenant.id, there.collect()).await?;
        if inside.next.is_some() {
            return Err(expired("too much has changed since"));
        }
        let ids: HashSet<Uuid> = inside.rows.iter().map(|c| c.id).collect();
        // What else the client has is not known.
        self.known.ids.extend(&ids);
        self.known.is_full = true;
        let outside = |change: &&Change| !ids.contains(&change.id);
        let mut changes: Vec<pb::WorkListChange> = missed
            .iter()
            .filter(outside)
            .map(|c| removed(c.id))
            .collect();
        let inside = inside.rows.into_iter();
        changes.extend(inside.map(|c| told(Kind::Changed, wire::contact(c))));
        self.begin(changes, false);
        Ok(())
    }

    fn begin(&mut self, changes: Vec<pb::WorkListChange>, more: bool) {
        self.tell(changes, true);
        if self.pending.is_empty() {
            self.pending.push_back(pb::WatchWorkListResponse {
                resume_token: self.tokens.seal(&self.seen),
                ..Default::default()
            });
        }
        if let Some(last) = self.pending.back_mut() {
            last.caught_up = true;
            last.more = more;
        }
    }

    /// Tells changes, with the token of `seen` behind the last one if that `is_all`.
    fn tell(&mut self, changes: Vec<pb::WorkListChange>, is_all: bool) {
        let mut left = changes.len();
        let mut changes = changes.into_iter();
        while left > 0 {
            let part: Vec<_> = changes.by_ref().take(TOLD_AT_ONCE).collect();
            left -= part.len();
            let resume_token = match is_all && left == 0 {
                true => self.tokens.seal(&self.seen),
                false => String::new(),
            };
            self.pending.push_back(pb::WatchWorkListResponse {
                changes: part,
                resume_token,
                ..Default::default()
            });
        }
    }

    /// Takes from a batch what the client does not have.
    fn take(&mut self, batch: &Batch) {
        let mut changes = Vec::new();
        for changed in &batch.contacts {
            let id = changed.contact.id;
            if self.seen.snapshot.has_seen(changed.transaction) {
                continue;
            }
            let kind = match self.view.takes(&changed.contact) {
                true if self.known.add(id) => Kind::Added,
                true => Kind::Changed,
                false if self.known.remove(id) => Kind::Removed,
                false => continue,
            };
            changes.push(told(kind, changed.wire.clone()));
        }
        for (transaction, id) in &batch.gone {
            if !self.seen.snapshot.has_seen(*transaction) && self.known.remove(*id) {
                changes.push(removed(*id));
            }
        }
        // At the beginning the feed may be behind the list.
        let until = batch.until.as_ref();
        let until = until.filter(|until| until.snapshot.includes(&self.seen.snapshot));
        if let Some(until) = until {
            self.seen = until.clone();
        }
        self.tell(changes, until.is_some());
    }

    /// What is told next; `None` at the end.
    async fn next(&mut self) -> Option<ApiResult<pb::WatchWorkListResponse>> {
        loop {
            if let Some(response) = self.pending.pop_front() {
                self.told_at = Instant::now();
                return Some(Ok(response));
            }
            // Ended, unless put back below.
            let mut batches = self.batches.take()?;
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return Some(Err(away("the server stops"))),
                received = batches.recv() => match received {
                    Ok(batch) => self.take(&batch),
                    Err(RecvError::Lagged(_)) => {
                        return Some(Err(away("more has changed than the client has taken")));
                    }
                    Err(RecvError::Closed) => {
                        return Some(Err(away("the server stops, or has lost the database")));
                    }
                },
                () = tokio::time::sleep_until(self.told_at + HEARTBEAT) => {
                    self.pending.push_back(pb::WatchWorkListResponse {
                        resume_token: self.tokens.seal(&self.seen),
                        ..Default::default()
                    });
                }
            }
            self.batches = Some(batches);
        }
    }
}

fn away(why: &str) -> ApiError {
    ApiError::Unavailable(format!("{why}; watch again with the last resume_token"))
}

fn told(kind: Kind, contact: pb::PlannedContact) -> pb::WorkListChange {
    pb::WorkListChange {
        kind: kind.into(),
        name: contact.name.clone(),
        planned_contact: Some(contact),
    }
}

fn removed(id: Uuid) -> pb::WorkListChange {
    pb::WorkListChange {
        kind: Kind::Removed.into(),
        name: resource(id),
        planned_contact: None,
    }
}
