//! Offers: made one by one, answered one by one, and their documents.

use anklang_domain::offer::{Answer, AnswerError, OfferState, OpenOffers, RejectReason};
use anklang_domain::{CampaignId, OfferId, ProductVersionId, Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::offers::v1 as pb;
use anklang_store::offer::{self, AnswerResult, Filter, GivenAnswer, Offer, Source, Terms};
use anklang_store::tenant::Tenant;
use anklang_store::units::{self, Subject};
use anklang_store::{Conn, campaign, template};
use chrono::Utc;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};

use super::campaigns::{check_word, phase_name, phase_resource, valid_until};
use super::documents;
use super::form;
use super::listing::Listing;
use super::templates::full_name;
use super::{ApiError, ApiResult, Caller, Change, caller, caller_in_units, reply, tagged, wire};
use crate::content::{FALLBACK_LANGUAGE, OFFER_LETTER};
use crate::work::App;
use crate::work::launch::finish_single;

/// The service.
pub struct OffersApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::offer_service_server::OfferService for OffersApi {
    async fn create_offer(
        &self,
        request: Request<pb::CreateOfferRequest>,
    ) -> Result<Response<pb::Offer>, Status> {
        reply(self.create(request).await)
    }

    async fn get_offer(
        &self,
        request: Request<pb::GetOfferRequest>,
    ) -> Result<Response<pb::Offer>, Status> {
        reply(self.get(request).await)
    }

    async fn list_offers(
        &self,
        request: Request<pb::ListOffersRequest>,
    ) -> Result<Response<pb::ListOffersResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn accept_offer(
        &self,
        request: Request<pb::AcceptOfferRequest>,
    ) -> Result<Response<pb::Offer>, Status> {
        let result = async {
            let caller = caller_in_units(&self.app.store, &request).await?;
            let request = request.into_inner();
            let mut violations = Violations::new();
            let change = Change::read(&caller, &request, &mut violations);
            let given = GivenAnswer {
                answer: Answer::Accept,
                source: &request.source,
                reason: "",
                reject_reason: None,
            };
            self.answer(&caller, &request.name, given, &change, violations)
                .await
        };
        reply(result.await)
    }

    async fn reject_offer(
        &self,
        request: Request<pb::RejectOfferRequest>,
    ) -> Result<Response<pb::Offer>, Status> {
        let result = async {
            let caller = caller_in_units(&self.app.store, &request).await?;
            let request = request.into_inner();
            let mut violations = Violations::new();
            let change = Change::read(&caller, &request, &mut violations);
            let code = violations.check("reason_code", read_reject_reason(request.reason_code));
            let given = GivenAnswer {
                answer: Answer::Reject,
                source: &request.source,
                reason: &request.reason,
                reject_reason: code.flatten(),
            };
            self.answer(&caller, &request.name, given, &change, violations)
                .await
        };
        reply(result.await)
    }

    async fn withdraw_offer(
        &self,
        request: Request<pb::WithdrawOfferRequest>,
    ) -> Result<Response<pb::Offer>, Status> {
        reply(self.withdraw(request).await)
    }

    async fn get_cockpit(
        &self,
        request: Request<pb::GetCockpitRequest>,
    ) -> Result<Response<pb::Cockpit>, Status> {
        reply(self.cockpit(request).await)
    }

    async fn get_offer_number_range(
        &self,
        request: Request<pb::GetOfferNumberRangeRequest>,
    ) -> Result<Response<pb::OfferNumberRange>, Status> {
        reply(self.number_range(request).await)
    }

    async fn update_offer_number_range(
        &self,
        request: Request<pb::UpdateOfferNumberRangeRequest>,
    ) -> Result<Response<pb::OfferNumberRange>, Status> {
        reply(self.set_number_range(request).await)
    }

    type DownloadOfferDocumentStream =
        BoxStream<'static, Result<pb::DownloadOfferDocumentResponse, Status>>;

    async fn download_offer_document(
        &self,
        request: Request<pb::DownloadOfferDocumentRequest>,
    ) -> Result<Response<Self::DownloadOfferDocumentStream>, Status> {
        reply(self.download(request).await)
    }
}

impl OffersApi {
    async fn create(&self, request: Request<pb::CreateOfferRequest>) -> ApiResult<pb::Offer> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let today = tenant.day(Utc::now());
        let contract = violations
            .check("contract", name::parse(&request.contract, ["contracts"]))
            .map(|[number]| number);
        let version = violations.check(
            "product_version",
            name::parse(&request.product_version, ["products", "versions"]),
        );
        let until = valid_until(
            "valid_until_date",
            &request.valid_until_date,
            today,
            &mut violations,
        );
        let template = match &request.document_template[..] {
            "" => OFFER_LETTER,
            key => key,
        };
        check_word(&mut violations, "document_template", template);
        let open_offers = read_policy("open_offers", request.open_offers, &mut violations);
        violations.finish(())?;
        let (Some(contract), Some([product, code]), Some(until)) = (contract, version, until)
        else {
            return Err(ApiError::Internal(
                "a request without faults or values".into(),
            ));
        };

        let mut tx = self.app.store.begin(tenant.id).await?;
        // Perhaps interrupted before its document was made: that is done below.
        if let Some(before) = change.before::<pb::Offer>(&mut tx).await? {
            let made = self.load(&mut tx, &tenant, &before.name).await?;
            tx.commit().await?;
            return self.with_document(&tenant, &made.number, made.id).await;
        }
        let target = campaign::target(&mut tx, tenant.id, &product, &code)
            .await?
            .ok_or_else(|| ApiError::NotFound(request.product_version.clone()))?;
        if target.valid_to.is_some_and(|to| to < today) {
            return Err(ApiError::field("product_version", "is not valid any more"));
        }
        let terms = Terms {
            product_version: ProductVersionId(target.id),
            offer_date: today,
            valid_until: until,
            document_template: template,
            open_offers,
            stay_drafts: false,
        };
        let made = make(&mut tx, &tenant, &contract, &terms).await?;
        let response = to_wire(&made);
        if !change.finish(tx, &response).await? {
            return Ok(response);
        }
        self.with_document(&tenant, &made.number, made.id).await
    }

    /// The offer, open with its document.
    async fn with_document(
        &self,
        tenant: &Tenant,
        number: &str,
        id: uuid::Uuid,
    ) -> ApiResult<pb::Offer> {
        let name = name::format(&[("offers", number)]);
        let mut tx = self.app.store.begin(tenant.id).await?;
        let offer = self.load(&mut tx, tenant, &name).await?;
        tx.commit().await?;
        let withdrawn = |reason: &str| ApiError::Precondition {
            reason: ErrorReason::Precondition,
            resource: name.clone(),
            description: format!("it was withdrawn: {reason}"),
        };
        if offer.state != OfferState::Draft.as_str() {
            // The same call again fails the same way.
            let never_open = offer.sha256.is_none() && !offer.document_template.is_empty();
            if never_open && offer.state == OfferState::Withdrawn.as_str() {
                return Err(withdrawn(&offer.withdraw_reason));
            }
            return Ok(to_wire(&offer));
        }
        finish_single(&self.app, tenant, id)
            .await
            .map_err(|error| {
                tracing::warn!(offer = name, %error, "offer without document");
                let what = "the document store or the database does not answer";
                ApiError::Unavailable(format!("{name} waits for its document: {what}"))
            })?
            .map_err(|reason| withdrawn(&reason))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let offer = self.load(&mut tx, tenant, &name).await?;
        tx.commit().await?;
        Ok(to_wire(&offer))
    }

    async fn load(&self, conn: &mut Conn, tenant: &Tenant, name: &str) -> ApiResult<Offer> {
        let [number] =
            name::parse(name, ["offers"]).map_err(|e| ApiError::field("name", e.to_string()))?;
        offer::get(conn, tenant.id, &number, tenant.day(Utc::now()))
            .await?
            .ok_or_else(|| ApiError::NotFound(name.to_owned()))
    }

    async fn get(&self, request: Request<pb::GetOfferRequest>) -> ApiResult<pb::Offer> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let mut tx = store.begin(tenant.id).await?;
        let offer = self
            .load(&mut tx, tenant, &request.into_inner().name)
            .await?;
        tx.commit().await?;
        Ok(to_wire(&offer))
    }

    async fn list(
        &self,
        request: Request<pb::ListOffersRequest>,
    ) -> ApiResult<pb::ListOffersResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let filter = read_filter(&request, &mut violations);
        let (key, of) = (&self.app.keys, &offer::LISTABLE);
        let listing = Listing::read(key, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let tx = store.begin(tenant.id).await?;
        let today = tenant.day(Utc::now());
        let page = offer::list(&tx, tenant.id, &filter, today, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListOffersResponse {
            offers: page.rows.iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn answer(
        &self,
        caller: &Caller,
        name: &str,
        given: GivenAnswer<'_>,
        change: &Change,
        mut violations: Violations,
    ) -> ApiResult<pb::Offer> {
        let number = violations.check("name", name::parse(name, ["offers"]));
        for (field, text, max) in [
            ("source", given.source, 64),
            ("reason", given.reason, 1_000),
        ] {
            check_remark(&mut violations, field, text, max);
        }
        violations.finish(())?;
        let [number] = number.unwrap_or_default();
        let (tenant, store) = (&caller.tenant, &caller.store);
        let mut tx = store.begin(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Offer(&number)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let accepting = given.answer == Answer::Accept;
        check_seen(&mut tx, tenant, &number, accepting, change).await?;
        let answered = offer::answer(&mut tx, tenant, &number, &given).await?;
        let offer = answered_or_refused(answered, name)?;
        change.finish(tx, &offer).await?;
        self.app.wake.handover.notify_one();
        Ok(offer)
    }

    async fn withdraw(&self, request: Request<pb::WithdrawOfferRequest>) -> ApiResult<pb::Offer> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let number = violations.check("name", name::parse(&request.name, ["offers"]));
        check_remark(&mut violations, "reason", &request.reason, 1_000);
        violations.finish(())?;
        let [number] = number.unwrap_or_default();
        let mut tx = store.begin(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Offer(&number)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        check_seen(&mut tx, tenant, &number, false, &change).await?;
        let withdrawn = offer::withdraw(&mut tx, tenant, &number, &request.reason).await?;
        let offer = answered_or_refused(withdrawn, &request.name)?;
        change.finish(tx, &offer).await?;
        self.app.wake.handover.notify_one();
        Ok(offer)
    }

    async fn download(
        &self,
        request: Request<pb::DownloadOfferDocumentRequest>,
    ) -> ApiResult<BoxStream<'static, Result<pb::DownloadOfferDocumentResponse, Status>>> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let name = request.into_inner().name;
        let mut tx = store.begin(tenant.id).await?;
        let offer = self.load(&mut tx, tenant, &name).await?;
        tx.commit().await?;
        let sha256 = offer
            .sha256
            .ok_or_else(|| ApiError::NotFound(format!("the document of {name}")))?;
        let bytes = self.app.documents.get(&sha256).await;
        let bytes = bytes.map_err(|e| documents::failed(&e))?;
        let document = documents::split(bytes);
        let document = document.map(|data| Ok(pb::DownloadOfferDocumentResponse { data }));
        let document = futures::stream::iter(document);
        Ok(document.boxed())
    }
}

/// Compares an offer with what the caller has seen of it: held as for what follows, and as it stands by the database's
/// clock.
async fn check_seen(
    conn: &mut Conn,
    tenant: &Tenant,
    number: &str,
    accepting: bool,
    change: &Change,
) -> ApiResult<()> {
    if !change.looks() {
        return Ok(());
    }
    let name = name::format(&[("offers", number)]);
    let found = match offer::hold(conn, tenant.id, number, accepting).await? {
        Some(now) => offer::get(conn, tenant.id, number, tenant.day(now)).await?,
        None => None,
    };
    let current = found.ok_or_else(|| ApiError::NotFound(name.clone()))?;
    change.check(&name, &to_wire(&current))
}

fn answered_or_refused(result: AnswerResult, name: &str) -> ApiResult<pb::Offer> {
    match result {
        AnswerResult::Answered(offer) => Ok(to_wire(&offer)),
        AnswerResult::Missing => Err(ApiError::NotFound(name.to_owned())),
        AnswerResult::Refused(refused) => Err(ApiError::Precondition {
            reason: match refused {
                AnswerError::Illegal(_) => ErrorReason::IllegalTransition,
                AnswerError::Expired(_) => ErrorReason::OfferExpired,
            },
            resource: name.to_owned(),
            description: refused.to_string(),
        }),
    }
}

fn check_remark(violations: &mut Violations, field: &str, text: &str, max: usize) {
    if text.chars().count() > max {
        violations.add(field, format!("must have at most {max} characters"));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        violations.add(field, "must not have control characters");
    }
}

/// Makes an offer for one contract, by the same rules as a campaign: a draft, or open at once when it gets
/// no document.
pub(super) async fn make(
    conn: &mut Conn,
    tenant: &Tenant,
    contract: &str,
    terms: &Terms<'_>,
) -> ApiResult<Offer> {
    let resource = name::format(&[("contracts", contract)]);
    let found = offer::candidate(
        conn,
        tenant.id,
        contract,
        terms.product_version,
        terms.offer_date,
    )
    .await?
    .ok_or_else(|| ApiError::NotFound(resource.clone()))?;
    let refuse = |description: &str| ApiError::Precondition {
        reason: ErrorReason::Precondition,
        resource: resource.clone(),
        description: description.into(),
    };
    match found.exclusion.as_deref() {
        None => {}
        Some("contract_ended") => return Err(refuse("the contract is terminated or has ended")),
        Some("other_division") => {
            return Err(refuse("the product version is of another division"));
        }
        Some("already_on_target") => return Err(refuse("the contract has this version already")),
        Some("no_quantity") => {
            return Err(refuse("the contract's annual quantity is not known"));
        }
        Some(other) => return Err(refuse(other)),
    }
    if !["", OFFER_LETTER].contains(&terms.document_template) {
        let (key, language) = (terms.document_template, FALLBACK_LANGUAGE);
        let without = template::brands_without(conn, tenant.id, key, "document", language).await?;
        if without.contains(&found.brand_code) {
            return Err(refuse("its brand has no such document template"));
        }
    }
    let id = OfferId::new();
    let source = Source::Contract {
        contract: found.contract(),
        offer: id,
    };
    if offer::make(conn, tenant.id, &source, terms).await? == 0 {
        return Err(refuse("the contract has an open offer"));
    }
    let number = offer::number(conn, tenant.id, id)
        .await?
        .ok_or_else(|| ApiError::Internal("an offer just made".into()))?;
    offer::get(conn, tenant.id, &number, terms.offer_date)
        .await?
        .ok_or_else(|| ApiError::Internal("an offer just made".into()))
}

fn read_filter(request: &pb::ListOffersRequest, violations: &mut Violations) -> Filter {
    let mut filter = Filter::default();
    if !request.campaign.is_empty() {
        filter.campaign = violations
            .check("campaign", name::parse_uuid(&request.campaign, "campaigns"))
            .map(CampaignId);
    }
    if !request.customer.is_empty() {
        filter.customer_number = violations
            .check("customer", name::parse(&request.customer, ["customers"]))
            .map(|[number]| number);
    }
    form::at_most(violations, "states", request.states.len(), STATES.len());
    for (i, wanted) in request.states.iter().take(STATES.len()).enumerate() {
        let found = pb::OfferState::try_from(*wanted)
            .ok()
            .and_then(|wanted| STATES.iter().find(|(wire, _)| *wire == wanted));
        match found {
            Some((_, state)) => filter.states.push(*state),
            None => violations.add(format!("states[{i}]"), "is no state of an offer"),
        }
    }
    read_more_filters(request, &mut filter, violations);
    filter
}

fn read_more_filters(
    request: &pb::ListOffersRequest,
    filter: &mut Filter,
    violations: &mut Violations,
) {
    if !request.phase.is_empty() {
        filter.phase = violations.check("phase", phase_name(&request.phase));
    }
    if !request.contract.is_empty() {
        filter.contract_number = violations
            .check("contract", name::parse(&request.contract, ["contracts"]))
            .map(|[number]| number);
    }
    let given = |text: &String| (!text.is_empty()).then(|| text.clone());
    filter.division = given(&request.division);
    filter.currency = given(&request.currency_code);
    filter.valid_until_max = request
        .valid_until_max_date
        .as_ref()
        .and_then(|day| violations.check("valid_until_max_date", wire::naive_date(day)));
    // Each of them, and none.
    let (codes, most) = (&request.reject_reason_codes, REJECT_REASONS.len() + 1);
    form::at_most(violations, "reject_reason_codes", codes.len(), most);
    for (i, code) in codes.iter().take(most).enumerate() {
        let field = format!("reject_reason_codes[{i}]");
        let read = violations.check(field, read_reject_reason(*code));
        filter.reject_reasons.extend(read);
    }
}

const REJECT_REASONS: [(pb::RejectReason, RejectReason); 8] = [
    (pb::RejectReason::Price, RejectReason::Price),
    (pb::RejectReason::Term, RejectReason::Term),
    (pb::RejectReason::Service, RejectReason::Service),
    (pb::RejectReason::Competitor, RejectReason::Competitor),
    (pb::RejectReason::Satisfied, RejectReason::Satisfied),
    (pb::RejectReason::Moving, RejectReason::Moving),
    (pb::RejectReason::NotInterested, RejectReason::NotInterested),
    (pb::RejectReason::Other, RejectReason::Other),
];

/// A reason of rejection; none when not told.
pub(super) fn read_reject_reason(code: i32) -> Result<Option<RejectReason>, &'static str> {
    match pb::RejectReason::try_from(code) {
        Err(_) => Err("is no reason of rejection"),
        Ok(wanted) => Ok(REJECT_REASONS
            .iter()
            .find(|(wire, _)| *wire == wanted)
            .map(|(_, reason)| *reason)),
    }
}

/// A reason of rejection on the wire.
pub(super) fn reject_reason_to_wire(reason: Option<RejectReason>) -> pb::RejectReason {
    REJECT_REASONS
        .iter()
        .find(|(_, r)| Some(*r) == reason)
        .map_or(pb::RejectReason::Unspecified, |(wire, _)| *wire)
}

/// What happens with open offers.
pub(super) fn read_policy(field: &str, wanted: i32, violations: &mut Violations) -> OpenOffers {
    match pb::OpenOfferPolicy::try_from(wanted) {
        Ok(pb::OpenOfferPolicy::Unspecified | pb::OpenOfferPolicy::Allow) => OpenOffers::Allow,
        Ok(pb::OpenOfferPolicy::Block) => OpenOffers::Block,
        Ok(pb::OpenOfferPolicy::Supersede) => OpenOffers::Supersede,
        Err(_) => {
            violations.add(field, "is no policy for open offers");
            OpenOffers::Allow
        }
    }
}

/// A policy, as the store has it, on the wire.
pub(super) fn policy_to_wire(word: &str) -> pb::OpenOfferPolicy {
    match OpenOffers::parse(word) {
        Some(OpenOffers::Allow) => pb::OpenOfferPolicy::Allow,
        Some(OpenOffers::Block) => pb::OpenOfferPolicy::Block,
        Some(OpenOffers::Supersede) => pb::OpenOfferPolicy::Supersede,
        None => pb::OpenOfferPolicy::Unspecified,
    }
}

const STATES: [(pb::OfferState, OfferState); 6] = [
    (pb::OfferState::Draft, OfferState::Draft),
    (pb::OfferState::Open, OfferState::Open),
    (pb::OfferState::Accepted, OfferState::Accepted),
    (pb::OfferState::Rejected, OfferState::Rejected),
    (pb::OfferState::Expired, OfferState::Expired),
    (pb::OfferState::Withdrawn, OfferState::Withdrawn),
];

/// A state of the ledger.
pub fn state_to_wire(word: &str) -> pb::OfferState {
    OfferState::parse(word)
        .and_then(|state| STATES.iter().find(|(_, s)| *s == state))
        .map_or(pb::OfferState::Unspecified, |(wire, _)| *wire)
}

fn to_wire(o: &Offer) -> pb::Offer {
    let state = state_to_wire(&o.state);
    tagged(pb::Offer {
        name: name::format(&[("offers", &o.number)]),
        number: o.number.clone(),
        customer: name::format(&[("customers", &o.customer_number)]),
        contract: name::format(&[("contracts", &o.contract_number)]),
        product_version: name::format(&[
            ("products", &o.product_number),
            ("versions", &o.product_version_code),
        ]),
        phase: o
            .campaign_id
            .zip(o.phase_number)
            .map_or_else(String::new, |(id, n)| phase_resource(CampaignId(id), n)),
        state: state.into(),
        base_price_per_year: Some(wire::money(o.base_price_per_year, &o.currency)),
        unit_price_per_kwh: Some(wire::money(o.unit_price_per_kwh, &o.currency)),
        annual_quantity_kwh: o.annual_quantity_kwh.normalize().to_string(),
        annual_amount: Some(wire::money(o.annual_amount, &o.currency)),
        offer_date: Some(wire::date(o.offer_date)),
        valid_until_date: Some(wire::date(o.valid_until)),
        answer_time: o.answered_at.map(wire::timestamp),
        answer_source: o.answer_source.clone(),
        reject_reason: o.reject_reason.clone(),
        document: o.sha256.as_ref().map(|sha256| pb::Document {
            sha256: hex::encode(sha256),
            size_bytes: o.size_bytes.unwrap_or(0),
            pages: o.pages.unwrap_or(0),
            template: full_name(
                &o.brand_code,
                &o.document_template,
                o.template_language.as_deref().unwrap_or(""),
            ),
            template_version: o.template_version.unwrap_or(0),
            standard: o.standard.clone().unwrap_or_default(),
        }),
        create_time: Some(wire::timestamp(o.created_at)),
        reject_reason_code: reject_reason_to_wire(RejectReason::parse(&o.reject_reason_code))
            .into(),
        withdraw_time: o.withdrawn_at.map(wire::timestamp),
        withdraw_reason: o.withdraw_reason.clone(),
        superseded_by: o
            .superseded_by
            .as_ref()
            .map_or_else(String::new, |number| name::format(&[("offers", number)])),
        etag: String::new(),
    })
}
