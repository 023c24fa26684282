//! The launch of a campaign, or of a further phase of one: what is asked for is read, looked up and
//! written down; the work itself is an operation.

use anklang_domain::channel::{Carries, PHONE, carries};
use anklang_domain::offer::OpenOffers;
use anklang_domain::phase::{CampaignState, MAX_AGE_DAYS, Reaction, ReactionKind};
use anklang_domain::planning::Calls;
use anklang_domain::schedule::Stage;
use anklang_domain::selection::{Compare, Criteria, Operator, Subject};
use anklang_domain::{CampaignId, OperationId, SelectionId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::selections::v1 as selections_pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::campaign::{self, NewAudience, NewOutbound, NewPhase};
use anklang_store::hold::{Held, hold};
use anklang_store::operation::{self, NewOperation, Operation};
use anklang_store::planning::calls;
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError, channel_account, channel_route, phase, selection, template};
use chrono::{NaiveDate, Utc};
use tonic::Request;
use uuid::Uuid;

use super::phone::{self, WantedCalls};
use super::schedule::{self, Placed, Schedule, WantedReaction};
use super::{CampaignsApi, campaign_to_wire, check_word, phase_resource, text_of, valid_until};
use crate::content::{
    FALLBACK_LANGUAGE, OFFER_LETTER, OFFER_MAIL, OFFER_TEXT, Sees, sees, shipped_message,
};
use crate::grpc::offers::read_policy;
use crate::grpc::operations::OperationsApi;
use crate::grpc::selections::{prepare_ad_hoc, prepare_preset};
use crate::grpc::{ApiError, ApiResult, Change, caller, wire};
use crate::work::launch::{self, Plan};

/// At most so many unticked contracts in a launch.
const MAX_DESELECTED: usize = 10_000;

/// What a launch asks for, as far as its words are right by themselves.
pub(super) struct Wanted {
    campaign: Option<CampaignTarget>,
    audience: Option<Audience>,
    product: Option<[String; 2]>,
    valid_until: Option<NaiveDate>,
    deselected: Vec<String>,
    through: Option<Wish>,
    /// As its channel has it when there is none.
    message_template: Option<String>,
    document_template: String,
    purpose: String,
    schedule: Schedule,
    reaction: Option<WantedReaction>,
    open_offers: OpenOffers,
    one_per_household: bool,
    ending_within_days: Option<u16>,
}

/// Through what a launch shall go, by its id; or by whom.
enum Wish {
    Account(String),
    Route(String),
    Calls(WantedCalls),
}

/// An account or a route that there is, of some channel; or people who call.
pub(super) struct Through {
    channel: String,
    /// Empty with a route and calls.
    pub(super) account: String,
    pub(super) route: Option<String>,
    /// With the code of the contact plan.
    calls: Option<(Calls, Option<String>)>,
}

pub(super) enum CampaignTarget {
    New {
        name: String,
        planned_start: Option<NaiveDate>,
    },
    Existing(CampaignId),
}

pub(super) enum Audience {
    /// Whoever has shown the reaction.
    All,
    AdHoc(selections_pb::AdHocCriteria),
    Saved(SelectionId),
    Preset(selections_pb::PresetUse),
}

/// The same with what it names looked up: nothing is wrong any more.
pub(super) struct Resolved<'a> {
    campaign: &'a CampaignTarget,
    pub(super) product_version: Uuid,
    valid_until: NaiveDate,
    criteria: serde_json::Value,
    selection: Option<(Uuid, i32)>,
    reaction: Option<Reaction>,
    placed: Placed,
    pub(super) through: Through,
}

impl Resolved<'_> {
    /// The key of the message template.
    fn message_template<'b>(&self, wanted: &'b Wanted) -> &'b str {
        if self.through.calls.is_some() {
            return "";
        }
        let usual = match carries(&self.through.channel) {
            Carries::Mails | Carries::Documents => OFFER_MAIL,
            Carries::Texts => OFFER_TEXT,
        };
        wanted.message_template.as_deref().unwrap_or(usual)
    }

    /// Last day of the offers; moves along with the first day of the phase.
    fn last_day(&self, wanted: &Wanted) -> NaiveDate {
        let start = self.placed.slot.start;
        schedule::moved_along(self.valid_until, wanted.schedule.start, start)
    }

    pub(super) fn audience<'b>(&'b self, wanted: &'b Wanted) -> NewAudience<'b> {
        NewAudience {
            selection: self.selection,
            criteria: self.criteria.clone(),
            deselected: &wanted.deselected,
            reaction: self.reaction.as_ref(),
        }
    }

    /// What a worker needs to know for launching `phase` as of `today`.
    pub(super) fn plan(&self, wanted: &Wanted, phase: Uuid, today: NaiveDate) -> Plan {
        Plan {
            phase,
            product_version: self.product_version,
            channel: self.through.channel.clone(),
            purpose: wanted.purpose.clone(),
            document_template: wanted.document_template.clone(),
            today,
            valid_until: self.last_day(wanted),
            open_offers: wanted.open_offers,
            one_per_household: wanted.one_per_household,
            ending_within_days: wanted.ending_within_days,
            calls: self.through.calls.is_some(),
        }
    }
}

impl CampaignsApi {
    /// Checks a launch and writes it down; the operation does it.
    pub(super) async fn launch(
        &self,
        request: Request<pb::LaunchCampaignRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);

        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(before) = change.before::<lro::Operation>(&mut tx).await? {
            return Ok(before);
        }
        let today = tenant.day(Utc::now());
        let wanted = read_launch(&request, today, &mut violations);
        let resolved = self
            .resolve(&mut tx, &tenant, &wanted, today, &mut violations)
            .await?;
        check_seen(&mut tx, &tenant, &wanted, &change, &mut violations).await?;
        violations.finish(())?;
        let resolved = resolved
            .ok_or_else(|| ApiError::Internal("a launch without faults or values".into()))?;
        check_templates(&mut tx, &tenant, &wanted, &resolved).await?;

        let operation = start(&mut tx, &tenant, &request, &wanted, &resolved, today).await?;
        let mut operation = OperationsApi {
            app: self.app.clone(),
        }
        .wire(operation)
        .await?;
        if !change.finish(tx, &operation).await? {
            // Nobody could find it.
            operation.name.clear();
            return Ok(operation);
        }
        self.app.wake.operations.notify_waiters();
        self.app.wake.phases.notify_waiters();
        Ok(operation)
    }

    /// Looks up all that a launch names, also when something else is wrong.
    pub(super) async fn resolve<'a>(
        &'a self,
        conn: &mut Conn,
        tenant: &Tenant,
        wanted: &'a Wanted,
        today: NaiveDate,
        violations: &mut Violations,
    ) -> ApiResult<Option<Resolved<'a>>> {
        let placed = resolve_place(conn, tenant, wanted, today, violations).await?;
        let reaction = resolve_reaction(conn, tenant, wanted, violations).await?;
        let audience = match &wanted.audience {
            Some(audience) => resolve_audience(conn, tenant, audience, violations).await?,
            None => None,
        };
        let target = match &wanted.product {
            Some([number, code]) => {
                let found = campaign::target(conn, tenant.id, number, code).await?;
                if found.is_none() {
                    violations.add("target_product_version", "does not exist");
                }
                found
            }
            None => None,
        };
        if target
            .as_ref()
            .and_then(|t| t.valid_to)
            .is_some_and(|to| to < today)
        {
            violations.add("target_product_version", "is not valid any more");
        }
        for number in campaign::unknown_contracts(conn, tenant.id, &wanted.deselected).await? {
            violations.add(
                "deselected_contracts",
                format!("contract {number} does not exist"),
            );
        }
        let through = match &wanted.through {
            Some(wish) => self.through(conn, tenant, wish, violations).await?,
            None => None,
        };
        let channel = through.as_ref().map_or("", |through| &through.channel);
        if carries(channel) == Carries::Documents && wanted.document_template.is_empty() {
            let reason = format!("the channel {channel} sends documents and nothing else");
            violations.add("outbound.without_document", reason);
        }
        let (
            Some(campaign),
            Some(valid_until),
            Some((criteria, selection)),
            Some(target),
            Some(through),
            Some(placed),
        ) = (
            &wanted.campaign,
            wanted.valid_until,
            audience,
            target,
            through,
            placed,
        )
        else {
            return Ok(None);
        };
        Ok(Some(Resolved {
            campaign,
            product_version: target.id,
            valid_until,
            criteria: serde_json::to_value(&criteria)
                .map_err(|e| ApiError::Internal(format!("criteria: {e}")))?,
            selection,
            reaction,
            placed,
            through,
        }))
    }

    /// Looks up through what a launch shall go; a tenant's own account or route, or the contact plan, then
    /// stays until the end of the transaction.
    async fn through(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        wish: &Wish,
        violations: &mut Violations,
    ) -> ApiResult<Option<Through>> {
        let (found, field) = match wish {
            Wish::Account(id) => {
                let own = channel_account::keep(conn, tenant.id, &[id]).await?.pop();
                let own = own.map(|own| own.channel);
                let configured = || self.app.accounts.configured_for(tenant, id);
                let channel = own.or_else(|| Some(configured()?.channel().to_owned()));
                let found = channel.map(|channel| Through {
                    channel,
                    account: id.clone(),
                    route: None,
                    calls: None,
                });
                (found, "outbound.channel_account")
            }
            Wish::Route(id) => {
                let route = channel_route::keep(conn, tenant.id, id).await?;
                let found = route.map(|route| Through {
                    channel: route.channel,
                    account: String::new(),
                    route: Some(route.id),
                    calls: None,
                });
                (found, "outbound.channel_route")
            }
            Wish::Calls(wanted) => {
                let calls = phone::resolve(conn, tenant, wanted, violations).await?;
                return Ok(Some(Through {
                    channel: PHONE.into(),
                    account: String::new(),
                    route: None,
                    calls: Some(calls),
                }));
            }
        };
        if found.is_none() {
            violations.add(field, "does not exist");
        }
        Ok(found)
    }
}

/// An account, a route, or how members are called.
fn read_through(spec: &pb::OutboundSpec, violations: &mut Violations) -> Option<Wish> {
    if let Some(calls) = &spec.phone {
        for (field, value) in [
            ("outbound.channel_account", &spec.channel_account),
            ("outbound.channel_route", &spec.channel_route),
            ("outbound.message_template", &spec.message_template),
        ] {
            if !value.is_empty() {
                violations.add(field, "must be empty by phone: nothing is sent");
            }
        }
        return Some(Wish::Calls(phone::read(calls, violations)));
    }
    if spec.channel_route.is_empty() {
        let account = name::parse(&spec.channel_account, ["channelAccounts"]);
        let account = violations.check("outbound.channel_account", account);
        return account.map(|[id]| Wish::Account(id));
    }
    let field = "outbound.channel_route";
    if !spec.channel_account.is_empty() {
        violations.add(field, "must be empty when channel_account is given");
    }
    let route = violations.check(field, name::parse(&spec.channel_route, ["channelRoutes"]));
    route.map(|[id]| Wish::Route(id))
}

/// Compares the campaign that gets a phase with what the caller has seen of it.
async fn check_seen(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    change: &Change,
    violations: &mut Violations,
) -> ApiResult<()> {
    match wanted.campaign {
        _ if !change.looks() => {}
        Some(CampaignTarget::Existing(id)) => {
            hold(conn, tenant.id, Held::Campaign(id)).await?;
            if let Some(current) = campaign::get(conn, tenant.id, id).await? {
                change.check(&format!("campaigns/{id}"), &campaign_to_wire(&current))?;
            }
        }
        Some(CampaignTarget::New { .. }) => {
            violations.add(
                "etag",
                "must be empty for a new campaign: there is none yet",
            );
        }
        None => {}
    }
    Ok(())
}

pub(super) fn read_launch(
    request: &pb::LaunchCampaignRequest,
    today: NaiveDate,
    violations: &mut Violations,
) -> Wanted {
    use pb::launch_campaign_request as wire_pb;
    let campaign = match &request.campaign_target {
        None => {
            violations.add("campaign_target", "is required: new_campaign or campaign");
            None
        }
        Some(wire_pb::CampaignTarget::Campaign(name)) => violations
            .check("campaign", name::parse_uuid(name, "campaigns"))
            .map(|id| CampaignTarget::Existing(CampaignId(id))),
        Some(wire_pb::CampaignTarget::NewCampaign(new)) => {
            text_of(
                violations,
                "new_campaign.display_name",
                &new.display_name,
                1,
                200,
            );
            let planned_start = new.planned_start_date.as_ref().and_then(|date| {
                violations.check("new_campaign.planned_start_date", wire::naive_date(date))
            });
            Some(CampaignTarget::New {
                name: new.display_name.trim().to_owned(),
                planned_start,
            })
        }
    };
    text_of(
        violations,
        "phase_display_name",
        &request.phase_display_name,
        0,
        200,
    );
    let audience = match &request.audience {
        None if request.reaction.is_some() => Some(Audience::All),
        None => {
            violations.add(
                "audience",
                "is required: selection, criteria, preset or reaction",
            );
            None
        }
        Some(wire_pb::Audience::Selection(name)) => violations
            .check("selection", name::parse_uuid(name, "selections"))
            .map(|id| Audience::Saved(SelectionId(id))),
        Some(wire_pb::Audience::Criteria(criteria)) => Some(Audience::AdHoc(criteria.clone())),
        Some(wire_pb::Audience::Preset(used)) => Some(Audience::Preset(used.clone())),
    };
    let product = violations.check(
        "target_product_version",
        name::parse(&request.target_product_version, ["products", "versions"]),
    );
    let until = &request.offer_valid_until_date;
    let valid_until = valid_until("offer_valid_until_date", until, today, violations);
    if request.deselected_contracts.len() > MAX_DESELECTED {
        violations.add(
            "deselected_contracts",
            format!("must be at most {MAX_DESELECTED}"),
        );
    }
    let deselected = request
        .deselected_contracts
        .iter()
        .take(MAX_DESELECTED)
        .enumerate()
        .filter_map(|(i, name)| {
            let field = format!("deselected_contracts[{i}]");
            violations
                .check(field, name::parse(name, ["contracts"]))
                .map(|[n]| n)
        })
        .collect();
    let spec = request.outbound.clone().unwrap_or_default();
    let through = read_through(&spec, violations);
    let mut word = |field: &str, text: &str, default: &str| {
        let text = if text.is_empty() { default } else { text };
        check_word(violations, field, text);
        text.to_owned()
    };
    let message_template = match &spec.message_template[..] {
        "" => None,
        key => Some(word("outbound.message_template", key, "")),
    };
    let document_template = if spec.without_document {
        String::new()
    } else {
        word(
            "outbound.document_template",
            &spec.document_template,
            OFFER_LETTER,
        )
    };
    let purpose = word("outbound.purpose", &spec.purpose, "marketing");
    if spec.without_document && !spec.document_template.is_empty() {
        let reason = "must be empty when no document shall go along";
        violations.add("outbound.document_template", reason);
    }
    let schedule = schedule::read(request.schedule.as_ref(), today, violations);
    if schedule.start.zip(valid_until).is_some_and(|(s, v)| s > v) {
        violations.add(
            "schedule.planned_start_date",
            "must not be after offer_valid_until_date",
        );
    }
    let reaction = request
        .reaction
        .as_ref()
        .and_then(|r| schedule::read_reaction(r, violations));
    if !(0..=MAX_AGE_DAYS).contains(&request.ending_within_days) {
        violations.add(
            "ending_within_days",
            format!("must be from 0 to {MAX_AGE_DAYS}"),
        );
    }
    Wanted {
        schedule,
        reaction,
        open_offers: read_policy("open_offers", request.open_offers, violations),
        one_per_household: request.one_per_household,
        ending_within_days: u16::try_from(request.ending_within_days)
            .ok()
            .filter(|days| *days > 0),
        campaign,
        audience,
        product,
        valid_until,
        deselected,
        through,
        message_template,
        document_template,
        purpose,
    }
}

/// The place of the phase in its campaign, which is locked until it is there.
async fn resolve_place(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    today: NaiveDate,
    violations: &mut Violations,
) -> ApiResult<Option<Placed>> {
    let Some(CampaignTarget::Existing(id)) = wanted.campaign else {
        let none = Vec::new();
        return Ok(schedule::place(
            &wanted.schedule,
            None,
            none,
            today,
            violations,
        ));
    };
    let Some(found) = campaign::lock(conn, tenant.id, id).await? else {
        violations.add("campaign", "does not exist");
        return Ok(None);
    };
    if found.state != CampaignState::Active.as_str() {
        return Err(ApiError::Precondition {
            reason: ErrorReason::IllegalTransition,
            resource: format!("campaigns/{id}"),
            description: format!("it is {}; only active ones get further phases", found.state),
        });
    }
    let slots = phase::slots(conn, tenant.id, id, tenant.time_zone.name()).await?;
    let placed = schedule::place(&wanted.schedule, Some(id), slots, today, violations);
    Ok(placed.map(|mut placed| {
        if found.paused {
            placed.slot.stage = Stage::Waiting;
        }
        placed
    }))
}

/// The reaction with the id of its phase.
async fn resolve_reaction(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    violations: &mut Violations,
) -> ApiResult<Option<Reaction>> {
    let Some(reaction) = &wanted.reaction else {
        return Ok(None);
    };
    let found = phase::id(conn, tenant.id, reaction.campaign, reaction.number).await?;
    match found {
        None => violations.add("reaction.phase", "does not exist"),
        Some(phase) if reaction.kind == ReactionKind::NotReached && reaction.min_attempts > 0 => {
            if !calls::is_by_phone(conn, tenant.id, phase).await? {
                let reason = "goes with a phase by phone alone";
                violations.add("reaction.min_attempts", reason);
            }
        }
        Some(_) => {}
    }
    Ok(found.map(|phase| Reaction {
        phase,
        kind: reaction.kind,
        min_age_days: reaction.min_age_days,
        reject_reasons: reaction.reject_reasons.clone(),
        min_attempts: reaction.min_attempts,
    }))
}

/// The criteria of a launch's audience and the selection that they are from, when they are right.
async fn resolve_audience(
    conn: &mut Conn,
    tenant: &Tenant,
    audience: &Audience,
    violations: &mut Violations,
) -> ApiResult<Option<(Criteria, Option<(Uuid, i32)>)>> {
    let now = Utc::now();
    let (subject, criteria, saved, field) = match audience {
        Audience::All => (Subject::Contract, any_contract(), None, "audience"),
        Audience::AdHoc(ad_hoc) => {
            match prepare_ad_hoc(conn, tenant, ad_hoc, "criteria", now, violations).await? {
                None => return Ok(None),
                Some(p) => (p.subject(), p.criteria().clone(), None, "criteria.subject"),
            }
        }
        Audience::Preset(used) => {
            match prepare_preset(conn, tenant, used, "preset", now, violations).await? {
                None => return Ok(None),
                Some(p) => (p.subject(), p.criteria().clone(), None, "preset"),
            }
        }
        Audience::Saved(id) => match selection::get(conn, tenant.id, *id).await {
            Err(StoreError::Missing(_)) => {
                violations.add("selection", "does not exist");
                return Ok(None);
            }
            found => {
                let s = found?;
                // Fields of attributes may have changed since it was saved.
                match selection::prepare(conn, tenant, s.subject, &s.criteria, now).await {
                    Err(StoreError::Invalid(found)) => violations.extend_under("selection.", found),
                    other => drop(other?),
                }
                (
                    s.subject,
                    s.criteria,
                    Some((s.id.0, s.version)),
                    "selection",
                )
            }
        },
    };
    if subject != Subject::Contract {
        violations.add(field, "must select contracts");
    }
    Ok(Some((criteria, saved)))
}

/// Every contract has a number.
fn any_contract() -> Criteria {
    Criteria::Compare(Compare {
        field: "number".into(),
        operator: Operator::IsSet,
        values: Vec::new(),
    })
}

/// Every brand needs the templates; those that ship are there for all.
pub(super) async fn check_templates(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &Wanted,
    resolved: &Resolved<'_>,
) -> ApiResult<()> {
    let message = resolved.message_template(wanted);
    let document = &wanted.document_template[..];
    if sees(message) != Sees::Offer {
        let reason = "is not one of offers: its key says what it sees";
        return Err(ApiError::field("outbound.message_template", reason));
    }
    for (key, kind, ships) in [
        (message, "message", shipped_message(message).is_some()),
        (document, "document", document == OFFER_LETTER),
    ] {
        if ships || key.is_empty() {
            continue;
        }
        let without =
            template::brands_without(conn, tenant.id, key, kind, FALLBACK_LANGUAGE).await?;
        if let Some(brand) = without.first() {
            return Err(ApiError::Precondition {
                reason: ErrorReason::Precondition,
                resource: format!("brands/{brand}/templates/{key}"),
                description: format!(
                    "brands without this {kind} template in {FALLBACK_LANGUAGE}: {}",
                    without.join(", ")
                ),
            });
        }
    }
    Ok(())
}

async fn start(
    conn: &mut Conn,
    tenant: &Tenant,
    request: &pb::LaunchCampaignRequest,
    wanted: &Wanted,
    resolved: &Resolved<'_>,
    today: NaiveDate,
) -> ApiResult<Operation> {
    let through = &resolved.through;
    let campaign = match resolved.campaign {
        CampaignTarget::New {
            name,
            planned_start,
        } => CampaignId(
            campaign::create(conn, tenant.id, name, *planned_start)
                .await?
                .id,
        ),
        CampaignTarget::Existing(id) => *id,
    };
    let Placed { slot, moved } = &resolved.placed;
    phase::set_dates(conn, tenant.id, campaign, moved).await?;
    let last_day = resolved.last_day(wanted);
    let operation_id = OperationId::new();
    let new = NewOperation {
        id: operation_id,
        kind: launch::KIND,
        resource: format!("campaigns/{campaign}"),
        request: serde_json::Value::Null,
    };
    operation::create(conn, tenant.id, new).await?;
    let phase = campaign::add_phase(
        conn,
        tenant.id,
        NewPhase {
            campaign,
            name: request.phase_display_name.trim(),
            product_version: anklang_domain::ProductVersionId(resolved.product_version),
            offer_valid_until: last_day,
            operation: operation_id,
            audience: resolved.audience(wanted),
            open_offers: wanted.open_offers,
            one_per_household: wanted.one_per_household,
            ending_within_days: wanted.ending_within_days.map(Into::into),
            slot: slot.clone(),
            outbound: NewOutbound {
                channel: &through.channel,
                account: &through.account,
                route: through.route.as_deref(),
                message_template: resolved.message_template(wanted),
                document_template: &wanted.document_template,
                purpose: &wanted.purpose,
                phone: through
                    .calls
                    .as_ref()
                    .map(|(calls, plan)| (calls, plan.as_deref())),
            },
        },
    )
    .await?;
    let plan = resolved.plan(wanted, phase.id, today);
    let resource = phase_resource(campaign, phase.number);
    let plan = serde_json::to_value(plan).map_err(|e| ApiError::Internal(e.to_string()))?;
    let planned = operation::plan(conn, tenant.id, operation_id, &resource, plan).await?;
    if slot.stage != Stage::Waiting {
        return Ok(planned);
    }
    Ok(operation::wait(conn, tenant.id, operation_id, launch::PLANNED).await?)
}
