//! Claims, and what came of contacts.

use anklang_domain::planning::OutcomeClass;
use anklang_domain::{TenantId, Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::Tx;
use anklang_store::planning::contact;
use anklang_store::planning::work::claim::{self, Next, Terms, Wanted};
use anklang_store::planning::work::record::{self, Outcome, Report, Wish};
use anklang_store::planning::work::{attempt, resource};
use anklang_store::units::{self, Subject};
use chrono::NaiveDateTime;
use tonic::Request;

use super::super::listing::Listing;
use super::super::wire::date_time;
use super::super::{ApiError, ApiResult, Change, caller_in_units, check_worker, form};
use super::{WorkListApi, read, wire};

/// The most skills of a person.
const MAX_SKILLS: usize = 64;
const MAX_ROLES: usize = 32;
/// So often a claim looks behind 1,000 contacts that must not be made. Behind 10,000 there may be others: the
/// next claim comes to them.
const LOOKS: u32 = 10;
const MAX_PLANS: usize = 100;
pub(super) const MAX_GROUPS: usize = 100;
pub(super) const LONGEST_GROUP: usize = 200;
/// The longest talk, in seconds.
const LONGEST_TALK: i64 = 86_400;

/// What came next when the call was first made is told again to those who still see it.
async fn still_seen(
    tx: &mut Tx,
    tenant: TenantId,
    told: &pb::ClaimNextContactResponse,
) -> ApiResult<()> {
    let claim = told.contact_claim.as_ref();
    let Some(contact) = claim.and_then(|claim| claim.planned_contact.as_ref()) else {
        return Ok(());
    };
    let mut violations = Violations::new();
    let id = read::contact(&mut violations, "name", &contact.name);
    let id = form::complete(violations, id)?;
    units::enter(tx, tenant, Subject::Contact(id)).await?;
    Ok(())
}

impl WorkListApi {
    pub(super) async fn claim_next(
        &self,
        request: Request<pb::ClaimNextContactRequest>,
    ) -> ApiResult<pb::ClaimNextContactResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let worker = read::person(&mut violations, "worker", &request.worker, &["users"]);
        let roles = roles(&request.roles, &mut violations);
        let skills = read::skills(&mut violations, "skills", &request.skills, MAX_SKILLS);
        let plans = plans(&request.contact_plans, &mut violations);
        let groups = read::words(
            &mut violations,
            "customer_groups",
            &request.customer_groups,
            MAX_GROUPS,
            LONGEST_GROUP,
        );
        let first_date = read::date(&mut violations, "first_date", request.first_date.as_ref());
        let seconds = read::seconds(&mut violations, request.claim_seconds);
        let worker = form::complete(violations, worker)?;
        let mut responsibles = vec![&worker[..]];
        if !request.only_mine {
            responsibles.extend(roles.iter().map(String::as_str));
            responsibles.push("");
        }
        let wanted = Wanted {
            responsibles: &responsibles,
            skills: &skills,
            plans: &plans,
            groups: &groups,
            first_date,
            time_zone: tenant.time_zone.name(),
        };
        let terms = Terms {
            worker: &worker,
            seconds,
        };
        let mut tx = store.begin_in_order(tenant.id).await?;
        let mut response = pb::ClaimNextContactResponse::default();
        for looks in 0..=LOOKS {
            if let Some(done) = change.before(&mut tx).await? {
                still_seen(&mut tx, tenant.id, &done).await?;
                return Ok(done);
            }
            match claim::next(&mut tx, tenant.id, &wanted, terms).await? {
                Next::Claim(claim) => {
                    response.contact_claim = Some(wire::claim(*claim));
                    change.finish(tx, &response).await?;
                    return Ok(response);
                }
                Next::Nothing => break,
                Next::PutAside => change.note(&tx, &response).await?,
            }
            // What was put aside stays so, and others get their turn.
            if !change.is_trial() && looks < LOOKS {
                tx.commit().await?;
                tx = store.begin_in_order(tenant.id).await?;
            }
        }
        change.finish_noted(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn claim(
        &self,
        request: Request<pb::ClaimContactRequest>,
    ) -> ApiResult<pb::ContactClaim> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let worker = read::person(&mut violations, "worker", &request.worker, &["users"]);
        let seconds = read::seconds(&mut violations, request.claim_seconds);
        let (id, worker) = form::complete(violations, id.zip(worker))?;
        let terms = Terms {
            worker: &worker,
            seconds,
        };
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Contact(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let response = wire::claim(claim::this(&mut tx, tenant.id, id, terms).await?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn extend(
        &self,
        request: Request<pb::ExtendClaimRequest>,
    ) -> ApiResult<pb::ContactClaim> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let claim = read::claim(&mut violations, &request.claim);
        let seconds = read::seconds(&mut violations, request.claim_seconds);
        let (id, claim) = form::complete(violations, id.zip(claim))?;
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Contact(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let extended = claim::extend(&mut tx, tenant.id, id, claim, seconds).await?;
        let response = wire::claim(extended);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn release(
        &self,
        request: Request<pb::ReleaseContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let claim = read::claim(&mut violations, &request.claim);
        let (id, claim) = form::complete(violations, id.zip(claim))?;
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Contact(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let response = wire::contact(claim::release(&mut tx, tenant.id, id, claim).await?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn record(
        &self,
        request: Request<pb::RecordOutcomeRequest>,
    ) -> ApiResult<pb::RecordOutcomeResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let claim = read::claim(&mut violations, &request.claim);
        let said = Said::read(&request, &mut violations);
        let ((id, claim), said) = form::complete(violations, id.zip(claim).zip(said))?;
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Contact(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let report = said.report(&request);
        let recorded = record::record(&mut tx, tenant.id, id, claim, &report).await?;
        let response = pb::RecordOutcomeResponse {
            planned_contact: Some(wire::contact(recorded.contact)),
            warnings: wire::warnings(&recorded.warnings),
        };
        if change.finish(tx, &response).await? {
            self.app.wake.handover.notify_one();
            if recorded.message.is_some() {
                self.app.wake.messages.notify_waiters();
            }
        }
        Ok(response)
    }

    pub(super) async fn attempts(
        &self,
        request: Request<pb::ListContactAttemptsRequest>,
    ) -> ApiResult<pb::ListContactAttemptsResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = read::contact(&mut violations, "parent", &request.parent);
        let (keys, of) = (&self.app.keys, &attempt::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        let id = form::complete(violations, id)?;
        let tx = store.begin(tenant.id).await?;
        if contact::get(&tx, tenant.id, id).await?.is_none() {
            return Err(ApiError::NotFound(resource(id)));
        }
        let page = attempt::list(&tx, tenant.id, id, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListContactAttemptsResponse {
            next_page_token: listing.token(page.next),
            contact_attempts: page.rows.into_iter().map(wire::attempt).collect(),
        })
    }
}

fn roles(given: &[String], violations: &mut Violations) -> Vec<String> {
    form::at_most(violations, "roles", given.len(), MAX_ROLES);
    let mut roles = Vec::new();
    for (i, role) in given.iter().take(MAX_ROLES).enumerate() {
        roles.extend(read::person(
            violations,
            &format!("roles[{i}]"),
            role,
            &["roles"],
        ));
    }
    roles.sort_unstable();
    roles.dedup();
    roles
}

pub(super) fn plans(given: &[String], violations: &mut Violations) -> Vec<String> {
    form::at_most(violations, "contact_plans", given.len(), MAX_PLANS);
    let mut codes = Vec::new();
    for (i, plan) in given.iter().take(MAX_PLANS).enumerate() {
        let field = format!("contact_plans[{i}]");
        let parsed = violations.check(field, name::parse(plan, ["contactPlans"]));
        codes.extend(parsed.map(|[code]| code));
    }
    codes
}

/// What somebody says of an attempt, as far as it is not text.
struct Said {
    class: Option<OutcomeClass>,
    own: String,
    talk_seconds: i32,
    wish: Option<Wish>,
    escalate_to: String,
}

impl Said {
    fn read(request: &pb::RecordOutcomeRequest, violations: &mut Violations) -> Option<Said> {
        let class = read::class(violations, "outcome_class", request.outcome_class);
        let own = match &request.outcome[..] {
            "" => String::new(),
            name => violations
                .check("outcome", name::parse(name, ["contactOutcomes"]))
                .map_or_else(String::new, |[id]| id),
        };
        if (request.outcome_class == 0) == request.outcome.is_empty() {
            violations.add("outcome_class", "is required, or outcome; not both");
        }
        read::text(violations, "note", &request.note, read::LONGEST_NOTE);
        let escalate_to = match &request.escalate_to[..] {
            "" => Some(String::new()),
            role => read::person(violations, "escalate_to", role, &["roles"]),
        };
        Some(Said {
            class,
            own,
            talk_seconds: talk(request.talk_time.as_ref(), violations),
            wish: wish(request, violations),
            escalate_to: escalate_to?,
        })
    }

    fn report<'r>(&'r self, request: &'r pb::RecordOutcomeRequest) -> Report<'r> {
        Report {
            outcome: match self.class {
                Some(class) => Outcome::Class(class),
                None => Outcome::Own(&self.own),
            },
            note: request.note.trim(),
            talk_seconds: self.talk_seconds,
            wish: self.wish,
            escalate_to: &self.escalate_to,
        }
    }
}

pub(super) fn talk(time: Option<&prost_types::Duration>, violations: &mut Violations) -> i32 {
    let Some(time) = time else {
        return 0;
    };
    let fits =
        (0..=LONGEST_TALK).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
    if !fits {
        violations.add("talk_time", "must be 0 seconds to a day");
    }
    i32::try_from(time.seconds).unwrap_or(0)
}

fn wish(request: &pb::RecordOutcomeRequest, violations: &mut Violations) -> Option<Wish> {
    let (time, local) = (&request.call_later_time, &request.call_later_local_time[..]);
    match (time, local) {
        (None, "") => None,
        (Some(time), "") => violations
            .check("call_later_time", date_time(time))
            .map(Wish::At),
        (None, local) => {
            let read = NaiveDateTime::parse_from_str(local, "%Y-%m-%dT%H:%M");
            let form = "must be a date and a time, written 2026-11-23T14:30";
            violations
                .check("call_later_local_time", read.map_err(|_| form))
                .map(Wish::Local)
        }
        (Some(_), _) => {
            violations.add(
                "call_later_local_time",
                "must be empty next to call_later_time",
            );
            None
        }
    }
}
