//! What people do with cases.

use anklang_domain::offer::OpenOffers;
use anklang_domain::winback::{Action, MOST_REMINDER_DAYS, Remind};
use anklang_domain::{OfferId, ProductVersionId, Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::offer::{self, Terms};
use anklang_store::tenant::Tenant;
use anklang_store::units::{self, Subject};
use anklang_store::winback::case::act::{self, Deed};
use anklang_store::winback::case::{self, Case};
use anklang_store::{Conn, campaign};
use chrono::{NaiveDate, Utc};
use tonic::Request;
use uuid::Uuid;

use super::{WinbackCasesApi, in_full, read, wire};
use crate::grpc::campaigns::valid_until;
use crate::grpc::offers::make;
use crate::grpc::wire::naive_date;
use crate::grpc::{ApiError, ApiResult, Caller, Change, caller_in_units, check_worker, form};

/// What all such requests have.
struct Doer {
    case: Uuid,
    worker: String,
    claim: Option<Uuid>,
}

impl Doer {
    fn read(name: &str, worker: &str, claim: &str, violations: &mut Violations) -> Option<Doer> {
        let case = read::case(violations, "name", name);
        let worker = read::worker(violations, worker);
        let claim = read::claim(violations, claim);
        let ((case, worker), claim) = case.zip(worker).zip(claim)?;
        Some(Doer {
            case,
            worker,
            claim,
        })
    }

    fn deed<'a>(&'a self, action: &'a Action, note: &'a str) -> Deed<'a> {
        Deed {
            worker: &self.worker,
            claim: self.claim,
            action,
            note,
        }
    }
}

/// Compares the case with what the caller has seen of it.
pub(in crate::grpc::winback) async fn check_seen(
    conn: &mut Conn,
    tenant: &Tenant,
    id: Uuid,
    change: &Change,
) -> ApiResult<()> {
    if !change.looks() {
        return Ok(());
    }
    hold(conn, tenant.id, Held::WinbackCase(id)).await?;
    change.check(&case::resource(id), &seen(conn, tenant, id).await?)
}

/// The case as its etag covers it.
pub(in crate::grpc::winback) async fn seen(
    conn: &mut Conn,
    tenant: &Tenant,
    id: Uuid,
) -> ApiResult<pb::WinbackCase> {
    let current = case::found(conn, tenant.id, id).await?;
    Ok(wire::case(current, tenant.day(Utc::now())))
}

impl WinbackCasesApi {
    pub(super) async fn close(
        &self,
        request: Request<pb::CloseWinbackCaseRequest>,
    ) -> ApiResult<pb::WinbackCase> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let (name, worker, claim) = (&request.name, &request.worker, &request.claim);
        let doer = Doer::read(name, worker, claim, &mut violations);
        let reason = read::reason(&mut violations, request.reason);
        read::note(&mut violations, &request.note);
        let (doer, reason) = form::complete(violations, doer.zip(reason))?;
        let action = Action::NoInterest(reason);
        self.done(
            &caller,
            &change,
            doer.case,
            &doer.deed(&action, request.note.trim()),
        )
        .await
    }

    pub(super) async fn remind(
        &self,
        request: Request<pb::RemindWinbackCaseRequest>,
    ) -> ApiResult<pb::WinbackCase> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let (name, worker, claim) = (&request.name, &request.worker, &request.claim);
        let doer = Doer::read(name, worker, claim, &mut violations);
        let remind = remind(&request, &mut violations);
        read::note(&mut violations, &request.note);
        let (doer, remind) = form::complete(violations, doer.zip(remind))?;
        let action = Action::Remind(remind);
        self.done(
            &caller,
            &change,
            doer.case,
            &doer.deed(&action, request.note.trim()),
        )
        .await
    }

    pub(super) async fn remark(
        &self,
        request: Request<pb::AddWinbackRemarkRequest>,
    ) -> ApiResult<pb::WinbackCase> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let doer = Doer::read(&request.name, &request.worker, "", &mut violations);
        read::text(&mut violations, "text", &request.text);
        let doer = form::complete(violations, doer)?;
        let text = request.text.trim().to_owned();
        let action = Action::Remark { text };
        self.done(&caller, &change, doer.case, &doer.deed(&action, ""))
            .await
    }

    /// Does something that concerns the case alone.
    async fn done(
        &self,
        caller: &Caller,
        change: &Change,
        id: Uuid,
        deed: &Deed<'_>,
    ) -> ApiResult<pb::WinbackCase> {
        let (tenant, store) = (&caller.tenant, &caller.store);
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Case(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        check_seen(&mut tx, tenant, id, change).await?;
        let decided = act::decide(&mut tx, tenant.id, id, deed).await?;
        act::write(&mut tx, tenant.id, &decided, deed, None).await?;
        let row = case::found(&mut tx, tenant.id, id).await?;
        let response = in_full(&mut tx, tenant, row).await?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn request_offer(
        &self,
        request: Request<pb::RequestWinbackOfferRequest>,
    ) -> ApiResult<pb::WinbackCase> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let (name, worker, claim) = (&request.name, &request.worker, &request.claim);
        let doer = Doer::read(name, worker, claim, &mut violations);
        read::text(&mut violations, "note", &request.note);
        let today = tenant.day(Utc::now());
        let wanted = WantedOffer::read(&request, today, &mut violations);
        let (doer, wanted) = form::complete(violations, doer.zip(wanted))?;
        let note = request.note.trim().to_owned();
        let action = Action::RequestOffer { note };
        let deed = doer.deed(&action, "");

        let mut tx = store.begin(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Case(doer.case)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        check_seen(&mut tx, tenant, doer.case, &change).await?;
        let decided = act::decide(&mut tx, tenant.id, doer.case, &deed).await?;
        let made = match &wanted {
            Some(wanted) => {
                let row = case::found(&mut tx, tenant.id, doer.case).await?;
                Some(wanted.make(&mut tx, tenant, &row).await?)
            }
            None => None,
        };
        let offer = made.as_ref().map(|(id, number)| (*id, &number[..]));
        let mail = act::write(&mut tx, tenant.id, &decided, &deed, offer).await?;
        let row = case::found(&mut tx, tenant.id, doer.case).await?;
        let response = in_full(&mut tx, tenant, row).await?;
        if change.finish(tx, &response).await? {
            self.app.wake.handover.notify_one();
            if mail.is_some() {
                self.app.wake.messages.notify_waiters();
            }
        }
        Ok(response)
    }
}

fn remind(request: &pb::RemindWinbackCaseRequest, violations: &mut Violations) -> Option<Remind> {
    match (request.days, &request.due_date) {
        (0, None) => Some(Remind::Default),
        (0, Some(day)) => violations
            .check("due_date", naive_date(day))
            .map(Remind::On),
        (days, None) => {
            let known = u32::try_from(days).ok();
            let known = known.filter(|days| (1..=MOST_REMINDER_DAYS).contains(days));
            let rule = format!("must be 1 to {MOST_REMINDER_DAYS}, or 0");
            violations
                .check("days", known.ok_or(rule))
                .map(Remind::InDays)
        }
        (_, Some(_)) => {
            violations.add("due_date", "must be empty next to days");
            None
        }
    }
}

/// An offer that is made at once.
struct WantedOffer {
    product: String,
    version: String,
    /// Number of the contract; empty: the customer's only one.
    contract: String,
    today: NaiveDate,
    valid_until: NaiveDate,
}

impl WantedOffer {
    /// What a request wants. The outer `None` is one that is wrong.
    fn read(
        request: &pb::RequestWinbackOfferRequest,
        today: NaiveDate,
        violations: &mut Violations,
    ) -> Option<Option<WantedOffer>> {
        if request.product_version.is_empty() {
            for (field, given) in [
                ("contract", !request.contract.is_empty()),
                ("valid_until_date", request.valid_until_date.is_some()),
            ] {
                if given {
                    violations.add(field, "goes with product_version");
                }
            }
            return Some(None);
        }
        let version = violations.check(
            "product_version",
            name::parse(&request.product_version, ["products", "versions"]),
        );
        let contract = match &request.contract[..] {
            "" => Some([String::new()]),
            text => violations.check("contract", name::parse(text, ["contracts"])),
        };
        let given = &request.valid_until_date;
        let until = valid_until("valid_until_date", given, today, violations);
        let (([product, version], [contract]), valid_until) = version.zip(contract).zip(until)?;
        Some(Some(WantedOffer {
            product,
            version,
            contract,
            today,
            valid_until,
        }))
    }

    /// Makes the offer: open, as it gets no document. A contract with an open offer gets no other one.
    async fn make(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        case: &Case,
    ) -> ApiResult<(OfferId, String)> {
        let (product, version) = (&self.product, &self.version);
        let target = campaign::target(conn, tenant.id, product, version)
            .await?
            .ok_or_else(|| {
                ApiError::NotFound(name::format(&[
                    ("products", product),
                    ("versions", version),
                ]))
            })?;
        if target.valid_to.is_some_and(|to| to < self.today) {
            return Err(ApiError::field("product_version", "is not valid any more"));
        }
        let terms = Terms {
            product_version: ProductVersionId(target.id),
            offer_date: self.today,
            valid_until: self.valid_until,
            document_template: "",
            open_offers: OpenOffers::Block,
            stay_drafts: false,
        };
        let contract = self.contract_of(conn, tenant, case, &terms).await?;
        let made = make(conn, tenant, &contract, &terms).await?;
        Ok((OfferId(made.id), made.number))
    }

    /// The contract that the offer is made for: one of the customer's.
    async fn contract_of(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        case: &Case,
        terms: &Terms<'_>,
    ) -> ApiResult<String> {
        let customer = &case.customer_number;
        let version = terms.product_version;
        let own = offer::contracts(conn, tenant.id, customer, version, self.today).await?;
        if !self.contract.is_empty() {
            return match own.iter().any(|known| known.number == self.contract) {
                true => Ok(self.contract.clone()),
                false => Err(ApiError::field("contract", "is none of the customer's")),
            };
        }
        let mut fitting = own.into_iter().filter(|contract| contract.can_be_offered);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only.number),
            (Some(_), Some(_)) => Err(ApiError::field(
                "contract",
                "is required: the customer has several contracts that can be offered this version",
            )),
            (None, _) => Err(ApiError::Precondition {
                reason: ErrorReason::Precondition,
                resource: case::resource(case.id),
                description: "the customer has no contract that can be offered this version".into(),
            }),
        }
    }
}
