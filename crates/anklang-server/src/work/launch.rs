//! The launch of a campaign's phase, in four steps: audience, offers, documents, and messages or, by phone,
//! planned contacts. One that needs an approval keeps its offers as drafts and waits before anything goes out: two
//! more steps, approval and opening.
//!
//! The checkpoint is the operation's (step, done). Each chunk's rows and the checkpoint move in one
//! transaction; documents are put into the store before the transaction that records them, under
//! their hash, so that putting them again after a crash changes nothing. Until they are recorded they are on the list
//! of files to be deleted.

mod waiting;

use std::sync::Arc;

use anklang_domain::approval as rule;
use anklang_domain::offer::OpenOffers;
use anklang_domain::{PhaseId, ProductVersionId, TenantId};
use anklang_store::launch::{self as steps, AudienceOf, Freeze};
use anklang_store::offer::{self, Content, ContentOf, NewDocument, Source, Terms};
use anklang_store::operation::{self, End, Leased, Operation, Progress};
use anklang_store::planning::calls;
use anklang_store::privacy::file;
use anklang_store::tenant::{self, Tenant};
use anklang_store::{Conn, StoreError, approval, channel_route};
use chrono::{NaiveDate, TimeDelta};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::operations::Interrupted;
use super::{App, bundle, moves};
use crate::content::{self, Newest};
use crate::documents::DocumentError;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "LaunchCampaign";

/// Step of an operation whose phase waits for its turn.
pub const PLANNED: &str = "planned";

/// Step of an operation whose phase waits for an approval.
const APPROVAL: &str = "approval";

/// Step that opens what was approved.
const OPENING: &str = "opening";

/// Candidates whose offers or messages are made in one transaction.
const ROWS_PER_CHUNK: i64 = 5_000;
/// Documents that are made and recorded together.
const DOCUMENTS_PER_CHUNK: i64 = 200;

/// Documents that are put at the same time for each thread that renders.
const PUTS_PER_THREAD: usize = 4;

/// What the worker needs to know; stored with the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The phase.
    pub phase: Uuid,
    /// The version that is offered.
    pub product_version: Uuid,
    /// The channel of the outbound.
    pub channel: String,
    /// Purpose for which consent is needed.
    pub purpose: String,
    /// Key of the document template; empty when no document goes along.
    pub document_template: String,
    /// The launch's day, in the tenant's time zone. A planned phase gets it, and the last day
    /// anew, when it starts.
    pub today: NaiveDate,
    /// Last day on which the offers can be accepted.
    pub valid_until: NaiveDate,
    /// What happens with contracts that have an open offer.
    #[serde(default)]
    pub open_offers: OpenOffers,
    /// One offer for each household.
    #[serde(default)]
    pub one_per_household: bool,
    /// Without contracts that end within so many days.
    #[serde(default)]
    pub ending_within_days: Option<u16>,
    /// Without contracts to which notice was given.
    #[serde(default)]
    pub leave_out_terminated: bool,
    /// Members are called: there are planned contacts instead of messages.
    #[serde(default)]
    pub calls: bool,
}

impl Plan {
    /// The last step.
    fn last_step(&self) -> &'static str {
        if self.calls { "contacts" } else { "messages" }
    }

    /// What freezing the audience needs to know.
    pub(super) fn freeze(&self, of: AudienceOf) -> Freeze<'_> {
        let days = self.ending_within_days;
        Freeze {
            of,
            product_version: ProductVersionId(self.product_version),
            channel: &self.channel,
            purpose: &self.purpose,
            today: self.today,
            open_offers: self.open_offers,
            one_per_household: self.one_per_household,
            ending_by: days.map(|days| self.today + TimeDelta::days(days.into())),
            leave_out_terminated: self.leave_out_terminated,
        }
    }
}

/// Stored criteria can become wrong when the fields of attributes change: no other try helps.
pub(super) fn criteria_do_not_hold(error: StoreError) -> Interrupted {
    match error {
        StoreError::Invalid(violations) => Interrupted::Hopeless {
            reason: "INVALID_ARGUMENT",
            message: format!("the criteria do not hold any more: {violations}"),
        },
        other => other.into(),
    }
}

/// The phase that an operation launches, if it is a launch.
pub fn phase_of(operation: &Operation) -> Option<PhaseId> {
    let plan: Plan = serde_json::from_value(operation.request.clone()).ok()?;
    (operation.kind == KIND).then_some(PhaseId(plan.phase))
}

/// One launch under way.
struct Launch<'a> {
    app: &'a App,
    held: &'a mut Leased,
    stop: &'a CancellationToken,
    tenant: Tenant,
    plan: Plan,
}

/// Runs a launch from its checkpoint to its end.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    let plan: Plan = serde_json::from_value(held.operation.request.clone()).map_err(|e| {
        Interrupted::Hopeless {
            reason: "INTERNAL",
            message: format!("the stored request: {e}"),
        }
    })?;
    let tenant = anklang_store::tenant::by_id(&app.store, held.operation.tenant())
        .await?
        .ok_or(StoreError::Missing("the tenant".into()))?;
    let mut launch = Launch {
        app,
        held,
        stop,
        tenant,
        plan,
    };
    loop {
        launch.check()?;
        let _measured = meters::chunk(&launch.held.operation);
        match &launch.held.operation.step.clone()[..] {
            "" | PLANNED | "audience" => launch.freeze().await?,
            "offers" => launch.make_offers().await?,
            "documents" => launch.make_documents().await?,
            APPROVAL => launch.await_approval().await?,
            OPENING => launch.open_offers().await?,
            "messages" | "contacts" => launch.reach_out().await?,
            "finished" => return Ok(()),
            step => {
                return Err(Interrupted::Hopeless {
                    reason: "INTERNAL",
                    message: format!("the step {step} is not known to this version"),
                });
            }
        }
        // Behind work of its own, so that launches which let each other go first get on.
        let within_a_step = launch.held.operation.done > 0;
        if within_a_step && operation::stand_back(&app.store, launch.held).await? {
            return Err(Interrupted::StoodBack);
        }
    }
}

impl Launch<'_> {
    fn phase(&self) -> PhaseId {
        PhaseId(self.plan.phase)
    }

    /// Between two chunks: somebody may want it to stop.
    fn check(&self) -> Result<(), Interrupted> {
        if self.held.operation.cancel_requested {
            return Err(Interrupted::Cancelled);
        }
        if self.stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        Ok(())
    }

    async fn advance(&mut self, conn: &mut Conn, to: Progress<'_>) -> Result<(), StoreError> {
        operation::advance(conn, self.held, to).await
    }

    /// A phase that has waited may start later than its offers allow.
    async fn check_terms(&self, conn: &mut Conn) -> Result<(), Interrupted> {
        let Plan {
            today, valid_until, ..
        } = self.plan;
        let hopeless = |message: String| {
            Err(Interrupted::Hopeless {
                reason: "PRECONDITION",
                message,
            })
        };
        if valid_until < today {
            return hopeless(format!(
                "its offers were to be valid until {valid_until}, and it started on {today}"
            ));
        }
        let version = ProductVersionId(self.plan.product_version);
        if steps::target_is_over(conn, self.tenant.id, version, today).await? {
            return hopeless(format!(
                "the product version is not valid any more on {today}"
            ));
        }
        Ok(())
    }

    /// Step 1: one statement decides for every candidate whether it is a member, or why not.
    async fn freeze(&mut self) -> Result<(), Interrupted> {
        // Only once: it counts as progress, and the waits between tries grow without.
        if self.held.operation.step != "audience" {
            let mut tx = self.app.store.begin_work(self.tenant.id).await?;
            self.check_terms(&mut tx).await?;
            self.advance(&mut tx, progress("audience", 0, 0, 0)).await?;
            tx.commit().await?;
        }

        let freeze = self.plan.freeze(AudienceOf::Phase(self.phase()));
        // One statement over perhaps a million contracts takes longer than a lease.
        let (store, tenant) = (self.app.store.clone(), self.tenant.clone());
        let mut tx = store.begin(tenant.id).await?;
        let (now, _) = tenant::clock(&mut tx, tenant.id).await?;
        let freezing = steps::freeze(&mut tx, &tenant, &freeze, now);
        let size = keep_lease(self.app, self.held, freezing)
            .await
            .map_err(criteria_do_not_hold)?;
        let counting = approval::before_it(&mut tx, tenant.id, self.phase());
        let counted = keep_lease(self.app, self.held, counting).await?;
        if let Some((limit, before)) = counted
            && rule::is_needed(size.members, before, Some(limit))
        {
            let requiring = approval::require(&mut tx, tenant.id, self.phase(), limit);
            keep_lease(self.app, self.held, requiring).await?;
        }
        self.advance(&mut tx, progress("offers", 0, size.candidates, 0))
            .await?;
        tx.commit().await?;
        self.gather_statistics(size.candidates).await;
        Ok(())
    }

    /// Better plans for the steps that follow; they work without.
    async fn gather_statistics(&self, candidates: i64) {
        if let Err(error) = steps::gather_statistics(&self.app.store, candidates).await {
            tracing::warn!(%error, "gathering statistics");
        }
    }

    /// Step 2: an offer for each member, a draft if it gets a document.
    async fn make_offers(&mut self) -> Result<(), Interrupted> {
        let (done, total) = (self.held.operation.done, self.held.operation.total);
        let until = (done + ROWS_PER_CHUNK).min(total);
        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        let source = Source::Members {
            phase: self.phase(),
            after: done,
            until,
        };
        let document_template = self.plan.document_template.clone();
        let needs_approval = approval::is_required(&mut tx, self.tenant.id, self.phase()).await?;
        let terms = Terms {
            product_version: ProductVersionId(self.plan.product_version),
            offer_date: self.plan.today,
            valid_until: self.plan.valid_until,
            document_template: &document_template,
            open_offers: self.plan.open_offers,
            stay_drafts: needs_approval,
        };
        // Launches of a tenant make offers in turn, so that it may take longer than a lease.
        let making = offer::make(&mut tx, self.tenant.id, &source, &terms);
        keep_lease(self.app, self.held, making).await?;
        let next = match until < total {
            true => "offers",
            false if !document_template.is_empty() => "documents",
            false if needs_approval => APPROVAL,
            false => self.plan.last_step(),
        };
        let done = if until < total { until } else { 0 };
        self.advance(&mut tx, progress(next, done, total, 0))
            .await?;
        tx.commit().await?;
        if until == total {
            self.gather_statistics(total).await;
        }
        Ok(())
    }

    /// Step 3: a document for each draft, then the offer is open, unless it needs an approval.
    async fn make_documents(&mut self) -> Result<(), Interrupted> {
        let (done, failed) = (self.held.operation.done, self.held.operation.failed);
        let total = self.held.operation.total;
        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        let of = ContentOf::Drafts {
            phase: self.phase(),
            after: done,
            limit: DOCUMENTS_PER_CHUNK,
        };
        let drafts = offer::content(&mut tx, self.tenant.id, of).await?;
        let needs_approval = approval::is_required(&mut tx, self.tenant.id, self.phase()).await?;
        let Some(last) = drafts.last().and_then(|d| d.member_seq) else {
            let next = match needs_approval {
                true => APPROVAL,
                false => self.plan.last_step(),
            };
            self.advance(&mut tx, progress(next, 0, total, failed))
                .await?;
            tx.commit().await?;
            return Ok(());
        };
        let newest = newest_of(&mut tx, &self.tenant, &drafts).await?;
        tx.commit().await?;

        let making = make_documents(self.app, self.tenant.id, newest, drafts);
        let (made, errors) = keep_lease(self.app, self.held, making).await?;

        let mut tx = self.app.store.begin_work(self.tenant.id).await?;
        match needs_approval {
            true => offer::keep_documents(&mut tx, self.tenant.id, &made).await?,
            false => offer::open_with_documents(&mut tx, self.tenant.id, &made).await?,
        }
        let failed = failed + i64::try_from(errors.len()).unwrap_or(0);
        self.advance(&mut tx, progress("documents", last, total, failed))
            .await?;
        operation::note_errors(&mut tx, self.held, &errors).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Messages for the members of a chunk.
    async fn queue_messages(
        &self,
        conn: &mut Conn,
        after: i64,
        until: i64,
    ) -> Result<(), Interrupted> {
        let (tenant, phase) = (self.tenant.id, self.phase());
        let split = match channel_route::of_phase(conn, tenant, phase).await? {
            Some(route) => moves::split(self.app, conn, tenant, &route).await?,
            None => None,
        };
        let split = split.as_ref();
        let queueing = steps::queue_messages(conn, tenant, phase, after, until, split);
        keep_lease(self.app, self.held, queueing).await?;
        Ok(())
    }

    /// Planned contacts with the members of a chunk.
    async fn plan_contacts(
        &self,
        conn: &mut Conn,
        after: i64,
        until: i64,
    ) -> Result<(), Interrupted> {
        let part = calls::Part {
            phase: self.phase(),
            after,
            until,
            launched: self.plan.today,
            last_day: self.plan.valid_until,
        };
        let planning = calls::plan_contacts(conn, &self.tenant, part);
        keep_lease(self.app, self.held, planning).await?;
        Ok(())
    }

    /// Step 4: a message or contact for each member; with the last of them the phase is active.
    async fn reach_out(&mut self) -> Result<(), Interrupted> {
        let (done, total) = (self.held.operation.done, self.held.operation.total);
        let failed = self.held.operation.failed;
        let until = (done + ROWS_PER_CHUNK).min(total);
        let mut tx = self.go_on().await?;
        let (tenant, phase) = (self.tenant.id, self.phase());
        let withdrawing = offer::withdraw_late(&mut tx, tenant, phase, done, until);
        keep_lease(self.app, self.held, withdrawing).await?;
        if self.plan.calls {
            self.plan_contacts(&mut tx, done, until).await?;
        } else {
            self.queue_messages(&mut tx, done, until).await?;
        }
        if until < total {
            let step = self.plan.last_step();
            self.advance(&mut tx, progress(step, until, total, failed))
                .await?;
            tx.commit().await?;
        } else {
            let size =
                steps::audience_size(&mut tx, self.tenant.id, AudienceOf::Phase(self.phase()))
                    .await?;
            if !steps::activate(&mut tx, self.tenant.id, self.phase()).await? {
                tx.rollback().await?;
                // It was cancelled, or its approval has become void just now; if there is another one by
                // then, this part is done once more.
                self.go_on().await?.rollback().await?;
                return Ok(());
            }
            self.advance(&mut tx, progress("finished", total, total, failed))
                .await?;
            let bundle = match self.plan.document_template.is_empty() {
                true => None,
                false => bundle::of_phase(&mut tx, self.tenant.id, self.phase()).await?,
            };
            let response = serde_json::json!({
                "phase": self.plan.phase, "candidates": size.candidates, "members": size.members,
                "failed_documents": failed, "bundle_operation": bundle,
            });
            operation::finish(&mut tx, self.held, End::Succeeded(response)).await?;
            tx.commit().await?;
            self.gather_statistics(total).await;
        }
        self.app.wake.messages.notify_waiters();
        self.app.wake.operations.notify_waiters();
        Ok(())
    }
}

pub(super) fn progress(step: &str, done: i64, total: i64, failed: i64) -> Progress<'_> {
    Progress {
        step,
        done,
        total,
        failed,
    }
}

/// Does work that may take longer than a lease, and keeps the lease meanwhile.
pub(super) async fn keep_lease<T, E: From<StoreError>>(
    app: &App,
    held: &Leased,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::select! {
        result = work => result,
        lost = heartbeats(app, held) => Err(lost.into()),
    }
}

/// Prolongs the lease until it is lost. Any other error is no reason to give up the work: the
/// fence in its transaction decides.
async fn heartbeats(app: &App, held: &Leased) -> StoreError {
    loop {
        tokio::time::sleep(app.config.operation_lease / 3).await;
        match heartbeat(app, held).await {
            Ok(()) => {}
            Err(lost @ StoreError::LeaseLost) => return lost,
            Err(error) => tracing::warn!(%error, "prolonging the lease of an operation"),
        }
    }
}

async fn heartbeat(app: &App, held: &Leased) -> Result<(), StoreError> {
    let mut tx = app.store.begin_work(held.operation.tenant()).await?;
    operation::heartbeat(&mut tx, held).await?;
    tx.commit().await
}

async fn newest_of(
    conn: &mut Conn,
    tenant: &Tenant,
    contents: &[Content],
) -> Result<Newest, StoreError> {
    let mut brands: Vec<Uuid> = contents.iter().map(|c| c.brand_id).collect();
    brands.sort_unstable();
    brands.dedup();
    let key = contents.first().map_or("", |c| &c.document_template[..]);
    Newest::load(conn, tenant.id, &brands, key).await
}

/// Renders on all cores, then puts into the store. A document that cannot be made is an error in words and no reason
/// to stop; a store that does not answer is.
async fn make_documents(
    app: &App,
    tenant: TenantId,
    newest: Newest,
    contents: Vec<Content>,
) -> Result<(Vec<NewDocument>, Vec<String>), Interrupted> {
    let newest = Arc::new(newest);
    let results: Vec<Result<Rendered, String>> = stream::iter(contents)
        .map(|content| render_document(app, Arc::clone(&newest), content))
        .buffer_unordered(app.config.render_threads)
        .collect()
        .await;
    let (mut rendered, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(document) => rendered.push(document),
            Err(error) => errors.push(error),
        }
    }
    Ok((put_documents(app, tenant, rendered).await?, errors))
}

/// Puts documents into the store, listed until they are recorded: of what is not, because the server dies or somebody
/// withdraws the offer, the sweep and erasures know.
async fn put_documents(
    app: &App,
    tenant: TenantId,
    rendered: Vec<Rendered>,
) -> Result<Vec<NewDocument>, Interrupted> {
    let documents: Vec<&NewDocument> = rendered.iter().map(|r| &r.document).collect();
    let mut tx = app.store.begin_work(tenant).await?;
    file::add_letters(&mut tx, tenant, &documents).await?;
    tx.commit().await?;
    stream::iter(rendered)
        .map(|Rendered { document, bytes }| async move {
            let put = app.documents.put(&document.sha256, bytes).await;
            put.map_err(store_trouble)?;
            Ok::<_, Interrupted>(document)
        })
        .buffer_unordered(app.config.render_threads * PUTS_PER_THREAD)
        .try_collect()
        .await
}

/// What callers see of an error of the document store; the log has the rest.
pub(super) fn store_trouble(error: DocumentError) -> Interrupted {
    tracing::warn!(%error, "document store");
    Interrupted::Other("the document store does not answer; trying again".into())
}

/// A document that is not in the store yet.
struct Rendered {
    document: NewDocument,
    bytes: Vec<u8>,
}

/// Renders the document of one offer, for no longer than letters may take.
async fn render_document(
    app: &App,
    newest: Arc<Newest>,
    content: Content,
) -> Result<Rendered, String> {
    let offer_id = content.offer_id;
    let data = content::offer_data(&content).map_err(|e| e.to_string())?;
    let number = data.offer.number.clone();
    let (id, _) = newest.pick(content.brand_id, &content.language);
    let templates = app.templates.clone();
    let rendering = app.templates.render(&id, move || {
        let template = templates
            .document(&newest, &content)
            .map_err(|e| e.to_string())?;
        template
            .render(&data)
            .map_err(|e| format!("offer {}: {e}", data.offer.number))
    });
    let pdf = rendering
        .await
        .unwrap_or_else(|unrendered| Err(format!("offer {number}: {unrendered}")))?;
    let document = NewDocument {
        offer_id,
        sha256: pdf.sha256,
        size_bytes: i64::try_from(pdf.bytes.len()).unwrap_or(i64::MAX),
        pages: i32::try_from(pdf.pages).unwrap_or(i32::MAX),
        standard: pdf.standard.as_str(),
        template_language: id.language,
        template_version: id.version,
    };
    Ok(Rendered {
        document,
        bytes: pdf.bytes,
    })
}

/// Makes the document of a single offer that is still a draft, and opens it. When none can be made
/// of its data the offer is withdrawn, and the reason returned; when the store does not answer it
/// waits.
pub async fn finish_single(
    app: &App,
    tenant: &Tenant,
    offer_id: Uuid,
) -> Result<Result<(), String>, Interrupted> {
    let mut tx = app.store.begin_work(tenant.id).await?;
    let mut contents = offer::content(&mut tx, tenant.id, ContentOf::Offers(&[offer_id])).await?;
    let newest = newest_of(&mut tx, tenant, &contents).await?;
    tx.commit().await?;
    let Some(content) = contents.pop() else {
        return Err(StoreError::Missing(format!("offer {offer_id}")).into());
    };
    let made = match render_document(app, Arc::new(newest), content).await {
        Ok(rendered) => put_documents(app, tenant.id, vec![rendered]).await.map(Ok),
        Err(error) => Ok(Err(error)),
    };
    let mut tx = app.store.begin_work(tenant.id).await?;
    let result = match made {
        Ok(Ok(documents)) => {
            offer::open_with_documents(&mut tx, tenant.id, &documents).await?;
            Ok(Ok(()))
        }
        Ok(Err(error)) => {
            let reason = without_document(&error);
            offer::withdraw_draft(&mut tx, tenant.id, offer_id, &reason).await?;
            Ok(Err(reason))
        }
        Err(interrupted) => {
            offer::postpone_document(&mut tx, tenant.id, offer_id).await?;
            Err(interrupted)
        }
    };
    tx.commit().await?;
    result
}

/// Why an offer is withdrawn that has no document; at most 1,000 characters, as of other reasons.
fn without_document(error: &str) -> String {
    let reason = format!("its document could not be made: {error}");
    reason.chars().take(1_000).collect()
}
