//! Mailing cases, one or many, and what a mailing brought.

use anklang_domain::winback::{Actor, MOST_CONTROL_PERCENT, MailTemplate, RevenueGroup, recovered};
use anklang_domain::{SelectionId, Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Money;
use anklang_store::approval::Together;
use anklang_store::call::Call;
use anklang_store::operation::Operation;
use anklang_store::tenant::{self, Tenant};
use anklang_store::units::{self, Subject};
use anklang_store::winback::mail::{self, Order, Queued, Refusal};
use anklang_store::winback::mailing::{self, Ended, Mailing, NewMailing, Revenue, Wanted};
use anklang_store::winback::{self, settings};
use chrono::{Days, NaiveDate, Utc};
use lro::operation::Result as Outcome;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use tonic::{Request, Response, Status};

use super::cases::deeds::{check_seen, seen};
use super::cases::read::{self, open_tile, tile_to_wire};
use super::read_template;
use crate::grpc::listing::Listing;
use crate::grpc::operations::{OperationsApi, any};
use crate::grpc::work_list::read::person;
use crate::grpc::{
    ApiError, ApiResult, Change, caller, caller_in_units, check_worker, form, reply, wire,
};
use crate::work::{App, mailing as work};

/// Confidence unless somebody says otherwise.
const CONFIDENCE: f64 = 0.95;

/// The service.
pub struct WinbackMailsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::winback_mail_service_server::WinbackMailService for WinbackMailsApi {
    async fn mail_winback_case(
        &self,
        request: Request<pb::MailWinbackCaseRequest>,
    ) -> Result<Response<pb::MailWinbackCaseResponse>, Status> {
        reply(self.mail(request).await)
    }

    async fn mail_winback_cases(
        &self,
        request: Request<pb::MailWinbackCasesRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.mail_all(request).await)
    }

    async fn list_winback_mailings(
        &self,
        request: Request<pb::ListWinbackMailingsRequest>,
    ) -> Result<Response<pb::ListWinbackMailingsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn report_winback_mailing(
        &self,
        request: Request<pb::ReportWinbackMailingRequest>,
    ) -> Result<Response<pb::ReportWinbackMailingResponse>, Status> {
        reply(self.report(request).await)
    }
}

impl WinbackMailsApi {
    async fn mail(
        &self,
        request: Request<pb::MailWinbackCaseRequest>,
    ) -> ApiResult<pb::MailWinbackCaseResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let case = read::case(&mut violations, "name", &request.name);
        let template = read_template(request.template(), &mut violations);
        let worker = person(&mut violations, "worker", &request.worker, &["users"]);
        let claim = read::claim(&mut violations, &request.claim);
        let complete = case.zip(template).zip(worker).zip(claim);
        let (((case, template), worker), claim) = form::complete(violations, complete)?;
        let mut tx = store.begin(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Case(case)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        check_seen(&mut tx, tenant, case, &change).await?;
        let order = Order {
            template,
            actor: Actor::Person(&worker),
            mailing: None,
            claim,
        };
        let mut answers = mail::queue(&mut tx, tenant, &order, &[case]).await?;
        let answer = answers.remove(&case);
        let queued = answer.ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
        let queued = queued.map_err(|refusal| refused(&request.name, &refusal))?;
        let etag = match change.is_trial() {
            true => None,
            false => Some(seen(&mut tx, tenant, case).await?.etag),
        };
        let response = to_wire(queued, etag);
        if change.finish(tx, &response).await? {
            self.app.wake.messages.notify_waiters();
        }
        Ok(response)
    }

    async fn mail_all(
        &self,
        request: Request<pb::MailWinbackCasesRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let template = read_template(request.template(), &mut violations);
        let list = work::filter(&request.filter, &mut violations);
        let tile = open_tile(&mut violations, request.tile);
        let selection = selection_id(&request.selection, &mut violations);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let settings = settings::get(&tx, tenant.id).await?.settings;
        let least = settings.control_percent;
        let percent = request.control_percent.unwrap_or(least);
        if !(least..=MOST_CONTROL_PERCENT).contains(&percent) {
            let why = format!("must be {least} to {MOST_CONTROL_PERCENT} percent");
            violations.add("control_percent", why);
        }
        let (now, today) = tenant::clock(&mut tx, tenant.id).await?;
        let selection = match selection {
            Some(id) => {
                let found = winback::selected(&mut tx, &tenant, id, now).await?;
                violations.check("selection", found)
            }
            None => None,
        };
        let template = form::complete(violations, template)?;
        if change.is_trial() {
            let prepared = match selection {
                Some((saved, prepared)) => Some(prepared.with_ticks_of(&mut tx, saved.id).await?),
                None => None,
            };
            let wanted = Wanted {
                template,
                tile,
                selection: prepared.as_ref(),
                list: &list,
                today,
            };
            let foreseen = mailing::foresee(&mut tx, tenant.id, wanted).await?;
            let response = trial(&foreseen, percent);
            let by = Call::current_caller();
            let of = Together {
                by: &by,
                campaign: None,
                but: None,
            };
            let refusal = work::too_many(&mut tx, tenant.id, response.mailed_count, of).await?;
            tx.rollback().await?;
            if let Some(description) = refusal {
                return Err(ApiError::Precondition {
                    reason: ErrorReason::Precondition,
                    resource: "approvalPolicy".into(),
                    description,
                });
            }
            return Ok(foretold(&response));
        }
        let new = NewMailing {
            template,
            filter: &request.filter,
            tile,
            selection: selection.as_ref().map(|(saved, _)| saved),
            control_percent: percent,
            settings: &settings,
        };
        let operation = work::ask(&mut tx, tenant.id, &new);
        let operation = operation.await?;
        let operations = OperationsApi {
            app: self.app.clone(),
        };
        let operation = operations.wire(operation).await?;
        change.finish(tx, &operation).await?;
        self.app.wake.operations.notify_waiters();
        Ok(operation)
    }

    async fn list(
        &self,
        request: Request<pb::ListWinbackMailingsRequest>,
    ) -> ApiResult<pb::ListWinbackMailingsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &mailing::MAILINGS);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| mailing::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListWinbackMailingsResponse {
            next_page_token: listing.token(page.next),
            winback_mailings: page.rows.into_iter().map(mailing_to_wire).collect(),
        })
    }

    async fn report(
        &self,
        request: Request<pb::ReportWinbackMailingRequest>,
    ) -> ApiResult<pb::ReportWinbackMailingResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("name", name::parse_uuid(&request.name, "winbackMailings"));
        let confidence = match request.confidence {
            0.0 => CONFIDENCE,
            given => given,
        };
        if !(confidence > 0.5 && confidence < 1.0) {
            violations.add("confidence", "must be above 0.5 and below 1");
        }
        let id = form::complete(violations, id)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let found = mailing::get(&tx, tenant.id, id).await?;
        let mailing = found.ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
        let first = mailing.drawn_on.ok_or_else(|| ApiError::Precondition {
            reason: ErrorReason::Precondition,
            resource: request.name,
            description: "its control group is not drawn yet".into(),
        })?;
        let days = Days::new(u64::try_from(mailing.window_days).unwrap_or(0));
        let last = first.checked_add_days(days).unwrap_or(first);
        let groups = mailing::revenue(&mut tx, tenant.id, &mailing, first, last).await?;
        let ended = mailing::ended(&mut tx, tenant.id, id).await?;
        tx.commit().await?;
        Ok(report(
            &tenant,
            &mailing,
            [first, last],
            &groups,
            &ended,
            confidence,
        ))
    }
}

/// The saved selection of a request; none when it names none.
fn selection_id(given: &str, violations: &mut Violations) -> Option<SelectionId> {
    match given {
        "" => None,
        text => {
            let id = violations.check("selection", name::parse_uuid(text, "selections"));
            id.map(SelectionId)
        }
    }
}

fn mailing_to_wire(mailing: Mailing) -> pb::WinbackMailing {
    let template = match mailing.template() {
        MailTemplate::Standard => pb::WinbackTemplate::Standard,
        MailTemplate::Voucher => pb::WinbackTemplate::Voucher,
    };
    pb::WinbackMailing {
        name: mailing::resource(mailing.id),
        template: template.into(),
        tile: mailing.tile().map_or(0, |tile| tile_to_wire(tile).into()),
        selection: (mailing.selection_id)
            .map(|id| name::format(&[("selections", &id.to_string())]))
            .unwrap_or_default(),
        selection_version: mailing.selection_version.unwrap_or_default(),
        filter: mailing.filter,
        control_percent: mailing.control_percent,
        window_days: mailing.window_days,
        draw_date: mailing.drawn_on.map(wire::date),
        create_time: Some(wire::timestamp(mailing.created_at)),
        end_time: mailing.done_at.map(wire::timestamp),
    }
}

/// The refusal of a single case.
fn refused(case: &str, refusal: &Refusal) -> ApiError {
    let (resource, description) = refusal.explain();
    let reason = match refusal {
        Refusal::Act(_) => ErrorReason::IllegalTransition,
        _ => ErrorReason::Precondition,
    };
    ApiError::Precondition {
        reason,
        resource: resource.unwrap_or_else(|| case.to_owned()),
        description,
    }
}

/// A trial has no etag, and shows neither a message that nobody can find nor a code that is not given out.
fn to_wire(queued: Queued, etag: Option<String>) -> pb::MailWinbackCaseResponse {
    let brand = name::format(&[("brands", &queued.brand_code)]);
    let Some(etag) = etag else {
        return pb::MailWinbackCaseResponse {
            brand,
            ..Default::default()
        };
    };
    pb::MailWinbackCaseResponse {
        message: name::format(&[("messages", &queued.message.to_string())]),
        brand,
        voucher_code: queued.voucher.unwrap_or_default(),
        etag,
    }
}

/// What a mailing of these cases would come to, in the mean.
fn trial(foreseen: &[Ended], percent: f64) -> pb::MailWinbackCasesResponse {
    let found = count(foreseen, "mailed");
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a mean"
    )]
    let control = (found as f64 * percent / 100.0).round() as i64;
    pb::MailWinbackCasesResponse {
        mailed_count: found - control,
        control_count: control,
        ..counted(foreseen)
    }
}

/// An operation that nobody has begun, with its response.
fn foretold(response: &pb::MailWinbackCasesResponse) -> lro::Operation {
    lro::Operation {
        done: true,
        result: Some(Outcome::Response(any(response))),
        ..Default::default()
    }
}

/// What a mailing that is over did, as its last chunk has counted it.
pub fn mailed(operation: &Operation) -> ApiResult<pb::MailWinbackCasesResponse> {
    let stored = operation.response.clone().unwrap_or_default();
    let ended: Vec<Ended> = serde_json::from_value(stored)
        .map_err(|e| ApiError::Internal(format!("how a mailing ended: {e}")))?;
    Ok(pb::MailWinbackCasesResponse {
        mailing: mailing::resource(operation.id),
        ..counted(&ended)
    })
}

fn counted(ended: &[Ended]) -> pb::MailWinbackCasesResponse {
    let refusals = refusals(ended);
    pb::MailWinbackCasesResponse {
        mailing: String::new(),
        mailed_count: count(ended, "mailed"),
        control_count: count(ended, "control"),
        refused_count: refusals.iter().map(|refusal| refusal.count).sum(),
        refusals,
    }
}

fn count(ended: &[Ended], way: &str) -> i64 {
    ended.iter().find(|e| e.way == way).map_or(0, |e| e.n)
}

fn refusals(ended: &[Ended]) -> Vec<pb::WinbackRefusalCount> {
    let refused = ended
        .iter()
        .filter(|e| !["mailed", "control"].contains(&&e.way[..]));
    let wired = refused.map(|e| {
        let word = format!("WINBACK_REFUSAL_{}", e.way.to_ascii_uppercase());
        pb::WinbackRefusalCount {
            refusal: pb::WinbackRefusal::from_str_name(&word)
                .unwrap_or_default()
                .into(),
            count: e.n,
        }
    });
    wired.collect()
}

/// Both groups, what the difference is, and what that means.
fn report(
    tenant: &Tenant,
    mailing: &Mailing,
    [first, last]: [NaiveDate; 2],
    groups: &[Revenue],
    ended: &[Ended],
    confidence: f64,
) -> pb::ReportWinbackMailingResponse {
    let money = |amount: f64| euros(amount, &mailing.currency);
    let of = |control| groups.iter().find(|group| group.control == control);
    let (contacted, control) = (of(false), of(true));
    let none = RevenueGroup::of([]);
    let group = |found: Option<&Revenue>| found.map_or(none, Revenue::group);
    let compared = recovered(&group(contacted), &group(control), confidence);
    let explanation = match &compared {
        Ok(recovered) => recovered.to_string(),
        Err(error) => error.to_string(),
    };
    let recovered = compared.ok();
    pb::ReportWinbackMailingResponse {
        first_date: Some(wire::date(first)),
        last_date: Some(wire::date(last)),
        is_complete: tenant.day(Utc::now()) > last,
        contacted: Some(group_to_wire(contacted, mailing)),
        control: Some(group_to_wire(control, mailing)),
        control_mailed_count: control.map_or(0, |group| group.mailed),
        naive_revenue: Some(wire::money(
            contacted.map_or(Decimal::ZERO, |group| group.revenue),
            &mailing.currency,
        )),
        recovered_revenue: recovered.map(|r| money(r.recovered)),
        recovered_low: recovered.map(|r| money(r.interval.0)),
        recovered_high: recovered.map(|r| money(r.interval.1)),
        confidence,
        is_proven: recovered.is_some_and(|r| r.is_proven()),
        explanation,
        mailed_count: count(ended, "mailed"),
        refusals: refusals(ended),
    }
}

/// An estimate as money, to the cent.
fn euros(amount: f64, currency: &str) -> Money {
    let amount = Decimal::from_f64(amount).unwrap_or_default().round_dp(2);
    wire::money(amount, currency)
}

fn group_to_wire(group: Option<&Revenue>, mailing: &Mailing) -> pb::WinbackRevenueGroup {
    pb::WinbackRevenueGroup {
        customer_count: group.map_or(0, |g| g.customers),
        buyer_count: group.map_or(0, |g| g.buyers),
        revenue: Some(wire::money(
            group.map_or(Decimal::ZERO, |g| g.revenue),
            &mailing.currency,
        )),
        mean: group.map_or(0.0, |g| g.mean),
        variance: group.map_or(0.0, |g| g.variance),
    }
}
