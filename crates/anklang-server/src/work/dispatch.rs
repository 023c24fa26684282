//! Sends messages: claims batches, makes their content, hands them to the channel, records what
//! came of it. One task for each account, with a bounded number of calls at the same time.
//!
//! A few messages at a time are marked in the ledger just before they are handed over, and their
//! outcomes recorded before the next few. So a crash before that mark costs nothing, and after it
//! just those few are ambiguous, which the account's policy decides on.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anklang_channels::CallError;
use anklang_channels::proto::{self, outcome::Kind};
use anklang_domain::message::{Outcome, after_attempt};
use anklang_domain::unsubscribe::seal;
use anklang_domain::{MessageId, TenantId};
use anklang_render::model::OfferData;
use anklang_store::message::{self, Batch, Claimed, Ended, Terms};
use anklang_store::offer::{self, Content, ContentOf};
use anklang_store::{Conn, StoreError};
use anklang_store::{pace, unsubscribe};
use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use super::App;
use crate::accounts::Account;
use crate::content::{self, ContentError, Newest};
use crate::telemetry::{meters, spans};

/// Waits between tries to record outcomes: from the first, doubling, to the longest.
const FIRST_RECORD_WAIT: Duration = Duration::from_millis(50);
const LONGEST_RECORD_WAIT: Duration = Duration::from_secs(5);
/// So many tries, about ten minutes; then the lease has run out anyhow, or the database refuses.
const RECORD_TRIES: u32 = 120;

/// So many messages of a call are handed over together. After a crash nobody knows of at most
/// these; the rest of the batch was not handed over.
const IN_DOUBT: usize = 8;

/// The leases that this process works on.
#[derive(Clone, Default)]
struct Leases(Arc<Mutex<HashSet<Uuid>>>);

impl Leases {
    fn set(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a lease until the guard is dropped, also by a panic: else nobody would rescue it.
    fn hold(&self, lease: Uuid) -> HeldLease {
        self.set().insert(lease);
        HeldLease {
            leases: self.clone(),
            lease,
        }
    }
}

struct HeldLease {
    leases: Leases,
    lease: Uuid,
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.set().remove(&self.lease);
    }
}

/// Sends an account's messages until told to stop; then waits for the calls under way.
pub async fn run(app: App, account: Arc<Account>, stop: CancellationToken) {
    let calls = Arc::new(Semaphore::new(account.calls));
    let (tasks, leases) = (TaskTracker::new(), Leases::default());
    while !stop.is_cancelled() {
        let round = rescue_and_send(&app, &account, &calls, &tasks, &leases, &stop);
        let Round { found, again_in } = match round.await {
            Ok(round) => round,
            Err(error) => {
                tracing::warn!(account = account.id, %error, "dispatch");
                Round::default()
            }
        };
        if !found {
            let poll = app.config.dispatch_poll;
            tokio::select! {
                () = stop.cancelled() => {}
                () = app.wake.messages.notified() => {}
                () = tokio::time::sleep(again_in.map_or(poll, |wait| wait.min(poll))) => {}
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// What came of looking for due messages.
#[derive(Debug, Default)]
struct Round {
    /// There were some.
    found: bool,
    /// The soonest that a rate allows one more.
    again_in: Option<Duration>,
}

/// One round over all tenants with due messages.
async fn rescue_and_send(
    app: &App,
    account: &Arc<Account>,
    calls: &Arc<Semaphore>,
    tasks: &TaskTracker,
    leases: &Leases,
    stop: &CancellationToken,
) -> Result<Round, StoreError> {
    let ours: Vec<Uuid> = leases.set().iter().copied().collect();
    let (requeued, unknown) =
        message::rescue(&app.store, &account.id, account.policy, &ours).await?;
    if requeued + unknown > 0 {
        tracing::warn!(account = account.id, requeued, unknown, "rescued messages");
        meters::rescued(&account.id, unknown);
    }
    let mut round = Round::default();
    let terms = Terms {
        limit: account.batch,
        lease_for: lease(app),
        rate: account.rate.as_ref(),
        window: account.window.as_ref(),
    };
    for tenant in message::due_tenants(&app.store, &account.id).await? {
        // First the place, then the claim: nothing is claimed that would have to wait.
        let place = tokio::select! {
            () = stop.cancelled() => return Ok(round),
            place = Arc::clone(calls).acquire_owned() => place.expect("never closed"),
        };
        let claimed = message::claim(&app.store, tenant, &account.id, &terms).await;
        let batch = match claimed {
            Ok(batch) => batch,
            // The tenants after this one must not wait for it.
            Err(error) => {
                tracing::warn!(account = account.id, %tenant, %error, "claiming messages");
                continue;
            }
        };
        round.found |= batch.barred > 0;
        let again_in = batch.again_in.and_then(|wait| wait.to_std().ok());
        round.again_in = round.again_in.into_iter().chain(again_in).min();
        if batch.messages.is_empty() {
            continue;
        }
        round.found = true;
        let held = leases.hold(batch.lease);
        let (app, account) = (app.clone(), Arc::clone(account));
        tasks.spawn(async move {
            let span = spans::batch(&account, &batch.messages);
            send(&app, &account, batch).instrument(span).await;
            drop((held, place));
        });
    }
    Ok(round)
}

fn lease(app: &App) -> TimeDelta {
    TimeDelta::from_std(app.config.dispatch_lease).unwrap_or(TimeDelta::seconds(60))
}

/// Sends a batch while keeping its lease. What cannot be recorded now is left to the lease.
async fn send(app: &App, account: &Account, batch: Batch) {
    // Side by side: a database that hangs while the lease is prolonged must not hold up the rest.
    let result = tokio::select! {
        result = hand_over(app, account, &batch) => result,
        never = keep_lease(app, account, &batch) => match never {},
    };
    if let Err(error) = result {
        tracing::warn!(account = account.id, %error, "sending a batch; left to its lease");
    }
}

async fn keep_lease(app: &App, account: &Account, batch: &Batch) -> Infallible {
    loop {
        tokio::time::sleep(app.config.dispatch_lease / 3).await;
        if let Err(error) = message::prolong(&app.store, batch, lease(app)).await {
            tracing::warn!(account = account.id, %error, "prolonging a lease");
        }
    }
}

async fn hand_over(app: &App, account: &Account, batch: &Batch) -> Result<(), StoreError> {
    let (mut ready, unready) = make_content(app, account, batch).await?;
    record(app, account, batch, unready).await?;
    while !ready.is_empty() {
        let rest = ready.split_off(ready.len().min(IN_DOUBT));
        let mut ended = hand_over_some(app, account, batch, ready).await?;
        ready = rest;
        if hold_account(app, account, batch, &ended).await {
            let rest = ready.drain(..).map(|(claimed, _)| claimed);
            ended.extend(rest.map(|c| (c, Outcome::NotSubmitted, "the account is held".into())));
        }
        record(app, account, batch, ended).await?;
    }
    Ok(())
}

/// Holds the account for the batch's tenant when its channel asked for it; says whether it did.
async fn hold_account(app: &App, account: &Account, batch: &Batch, ended: &Unready) -> bool {
    let asked = ended.iter().filter_map(|(_, outcome, _)| match outcome {
        Outcome::Throttled {
            retry_after,
            whole_account: true,
        } => Some(*retry_after),
        _ => None,
    });
    let Some(span) = asked.max() else {
        return false;
    };
    let reason = "the channel asked to slow down";
    if let Err(error) = pace::hold(&app.store, batch.tenant, &account.id, span, reason).await {
        tracing::warn!(account = account.id, %error, "holding the account");
    }
    true
}

/// Marks some messages as handed over and hands them over; gives their outcomes. Those whose
/// sending hours ended since they were claimed are not.
async fn hand_over_some(
    app: &App,
    account: &Account,
    batch: &Batch,
    ready: Ready,
) -> Result<Unready, StoreError> {
    let now = Utc::now();
    let (mut ended, mut in_time): (Unready, Ready) = (Vec::new(), Vec::new());
    for (claimed, made) in ready {
        match opens_again(account, &claimed, now) {
            // Not before they begin again: else it would be claimed at once, and be late again.
            Some(opens) => {
                let outcome = Outcome::Throttled {
                    retry_after: opens - now,
                    whole_account: false,
                };
                ended.push((claimed, outcome, "the sending hours are over".into()));
            }
            None => in_time.push((claimed, made)),
        }
    }
    let ready = in_time;
    let ids: Vec<Uuid> = ready.iter().map(|(claimed, _)| claimed.id).collect();
    let ours = message::mark_submitted(&app.store, batch, &ids, lease(app)).await?;
    let ready: Vec<(Claimed, proto::Message)> = ready
        .into_iter()
        .filter(|(claimed, _)| ours.contains(&claimed.id))
        .collect();
    if !ready.is_empty() {
        let (claimed, messages): (Vec<Claimed>, Vec<proto::Message>) = ready.into_iter().unzip();
        let span = spans::hand_over(account, messages.len());
        let request = proto::SendRequest {
            messages,
            traceparent: spans::traceparent(&span),
        };
        let outcomes = match account.instance.send(request).instrument(span).await {
            Ok(outcomes) => outcomes.into_iter().map(read_outcome).collect(),
            Err(refused) => not_submitted(&refused, claimed.len()),
        };
        ended.extend(
            claimed
                .into_iter()
                .zip(outcomes)
                .map(|(claimed, (outcome, detail))| (claimed, outcome, detail)),
        );
    }
    Ok(ended)
}

/// When the sending hours begin again where the recipient is, if they are over there.
fn opens_again(account: &Account, claimed: &Claimed, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let zone: Tz = claimed.time_zone.parse().ok()?;
    account.window.as_ref()?.opens(now, zone)
}

async fn record(
    app: &App,
    account: &Account,
    batch: &Batch,
    ended: Vec<(Claimed, Outcome, String)>,
) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let ended: Vec<Ended> = ended
        .into_iter()
        .map(|(claimed, outcome, detail)| Ended {
            id: claimed.id,
            attempt: claimed.attempt,
            next: after_attempt(
                &outcome,
                claimed.failures,
                account.policy,
                jitter(claimed.id),
            ),
            outcome,
            detail,
        })
        .collect();
    let moved = complete(app, batch, &ended).await?;
    meters::messages(&account.id, ended.iter().map(|e| &e.next));
    if moved < ended.len() {
        tracing::warn!(
            account = account.id,
            lost = ended.len() - moved,
            "outcomes of messages whose lease was lost"
        );
    }
    Ok(())
}

/// Records outcomes, patiently: what is sent and not recorded would be in doubt, and perhaps be
/// sent again. Recording twice changes nothing; when the lease is lost meanwhile, it is in vain.
async fn complete(app: &App, batch: &Batch, ended: &[Ended]) -> Result<usize, StoreError> {
    let mut wait = FIRST_RECORD_WAIT;
    let mut tries = 1;
    loop {
        match message::complete(&app.store, batch, ended).await {
            Err(error) if tries < RECORD_TRIES => {
                tracing::warn!(%error, tries, "recording outcomes; trying again");
            }
            result => return result,
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_RECORD_WAIT);
        tries += 1;
    }
}

/// A number in 0..1 out of a message's id: its last bytes are random.
fn jitter(id: Uuid) -> f64 {
    f64::from(u16::from_be_bytes([id.as_bytes()[14], id.as_bytes()[15]])) / 65_536.0
}

/// The plugin took nothing: all of it can be sent again without doubt.
fn not_submitted(refused: &CallError, messages: usize) -> Vec<(Outcome, String)> {
    let outcome = match refused {
        CallError::Busy => Outcome::Throttled {
            retry_after: TimeDelta::seconds(1),
            whole_account: false,
        },
        _ => Outcome::Transient,
    };
    vec![(outcome, refused.to_string()); messages]
}

fn read_outcome(outcome: proto::Outcome) -> (Outcome, String) {
    // "550 5.1.1" and "5.1.1 User unknown" overlap.
    let words = |code: String, detail: String| match code.rsplit_once(' ') {
        _ if code.is_empty() || detail.starts_with(&code) => detail,
        Some((first, last)) if detail.starts_with(last) => format!("{first} {detail}"),
        _ => format!("{code} {detail}"),
    };
    match outcome.kind {
        Some(Kind::Accepted(a)) => (
            Outcome::Accepted {
                provider_message_id: a.provider_message_id,
            },
            a.detail,
        ),
        Some(Kind::Permanent(p)) => (Outcome::Permanent, words(p.code, p.detail)),
        Some(Kind::Transient(t)) => (Outcome::Transient, words(t.code, t.detail)),
        Some(Kind::Throttled(t)) => {
            let wait = t.retry_after.map_or(1, |d| d.seconds.clamp(1, 86_400));
            (
                Outcome::Throttled {
                    retry_after: TimeDelta::seconds(wait),
                    whole_account: t.scope == "account",
                },
                t.scope,
            )
        }
        Some(Kind::Ambiguous(a)) => (Outcome::Ambiguous, a.detail),
        None => (Outcome::Ambiguous, "the plugin gave no outcome".into()),
    }
}

type Ready = Vec<(Claimed, proto::Message)>;
type Unready = Vec<(Claimed, Outcome, String)>;

/// Makes the content of a batch. What has none for good has failed; what has none for now waits.
async fn make_content(
    app: &App,
    account: &Account,
    batch: &Batch,
) -> Result<(Ready, Unready), StoreError> {
    let offers: Vec<Uuid> = batch.messages.iter().map(|m| m.offer_id).collect();
    let mut tx = app.store.begin_work(batch.tenant).await?;
    let contents = offer::content(&mut tx, batch.tenant, ContentOf::Offers(&offers)).await?;
    let mut brands: Vec<Uuid> = contents.iter().map(|c| c.brand_id).collect();
    brands.sort_unstable();
    brands.dedup();
    let mut newest: HashMap<String, Newest> = HashMap::new();
    for message in &batch.messages {
        let key = &message.message_template;
        if !newest.contains_key(key) {
            let loaded = Newest::load(&mut tx, batch.tenant, &brands, key).await?;
            newest.insert(key.clone(), loaded);
        }
    }
    let links = Links::load(app, &mut tx, batch.tenant).await?;
    tx.commit().await?;

    let contents: HashMap<Uuid, Content> = contents.into_iter().map(|c| (c.offer_id, c)).collect();
    let mut making: FuturesUnordered<_> = batch
        .messages
        .iter()
        .map(|claimed| {
            let newest = &newest[&claimed.message_template];
            let content = contents.get(&claimed.offer_id);
            let url = links.url(claimed.id);
            async move {
                (
                    claimed,
                    make_one(app, account, claimed, newest, content, url).await,
                )
            }
        })
        .collect();
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    while let Some((claimed, made)) = making.next().await {
        match made {
            Ok(message) => ready.push((claimed.clone(), message)),
            Err((outcome, detail)) => unready.push((claimed.clone(), outcome, detail)),
        }
    }
    Ok((ready, unready))
}

async fn make_one(
    app: &App,
    account: &Account,
    claimed: &Claimed,
    newest: &Newest,
    content: Option<&Content>,
    unsubscribe_url: String,
) -> Result<proto::Message, (Outcome, String)> {
    let permanent = |error: &dyn std::fmt::Display| (Outcome::Permanent, error.to_string());
    let content = content.ok_or_else(|| permanent(&"the offer is gone"))?;
    let mut data = content::offer_data(content).map_err(|e| permanent(&e))?;
    data.unsubscribe_url = unsubscribe_url;
    let template = app
        .templates
        .message(newest, content)
        .map_err(|e| match e {
            // A person can mend a template; the message waits for it.
            ContentError::NoTemplate(_) | ContentError::Template(_) => {
                (Outcome::Transient, e.to_string())
            }
            ContentError::Data(_) => permanent(&e),
        })?;
    let rendered = template.render(&data).map_err(|e| permanent(&e))?;
    let mut attachments = Vec::new();
    if let Some(sha256) = &content.sha256 {
        let pdf = app
            .documents
            .get(sha256)
            .await
            .map_err(|e| (Outcome::Transient, e.to_string()))?;
        attachments.push(proto::Attachment {
            filename: format!("Angebot-{}.pdf", data.offer.number),
            media_type: "application/pdf".into(),
            content: pdf.to_vec(),
        });
    }
    let brand = |key: &str| {
        content.model["brand"][key]
            .as_str()
            .unwrap_or("")
            .to_owned()
    };
    Ok(proto::Message {
        message_id: claimed.id.to_string(),
        attempt: u32::try_from(claimed.attempt).unwrap_or(0),
        recipient: Some(proto::Party {
            address: claimed.address.clone(),
            name: data.customer.display_name.clone(),
        }),
        sender: Some(sender(&brand, &data)),
        reply_to: brand("reply_to"),
        content: Some(if account.channel() == "mail" {
            proto::message::Content::Mail(proto::MailContent {
                subject: rendered.subject,
                text: rendered.text,
                html: rendered.html,
                attachments,
                headers: unsubscribe_headers(&data.unsubscribe_url),
            })
        } else {
            proto::message::Content::Text(proto::TextContent {
                text: rendered.text,
            })
        }),
    })
}

fn sender(brand: &impl Fn(&str) -> String, data: &OfferData) -> proto::Party {
    let name = brand("sender_name");
    proto::Party {
        address: brand("sender_email"),
        name: if name.is_empty() {
            data.brand.name.clone()
        } else {
            name
        },
    }
}

/// Makes the links by which recipients withdraw consent.
struct Links<'a> {
    base: &'a str,
    tenant: TenantId,
    key: Vec<u8>,
}

impl<'a> Links<'a> {
    async fn load(app: &'a App, conn: &mut Conn, tenant: TenantId) -> Result<Self, StoreError> {
        let base = &app.config.public_url;
        let key = if base.is_empty() {
            None
        } else {
            unsubscribe::key(conn, tenant).await?
        };
        Ok(Links {
            base,
            tenant,
            key: key.unwrap_or_default(),
        })
    }

    /// The link of a message; empty when the server has no public address.
    fn url(&self, message: Uuid) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let token = seal(&self.key, self.tenant, MessageId(message));
        format!("{}{}{token}", self.base, crate::public::PATH)
    }
}

/// What tells a mail program how to withdraw consent with one click (RFC 2369, RFC 8058).
fn unsubscribe_headers(url: &str) -> Vec<proto::Header> {
    if url.is_empty() {
        return Vec::new();
    }
    let header = |name: &str, value: String| proto::Header {
        name: name.into(),
        value,
    };
    vec![
        header("List-Unsubscribe", format!("<{url}>")),
        header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click".into()),
    ]
}
