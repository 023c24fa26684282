//! Campaigns: launch, look, control.

mod approval;
mod control;
pub mod dry_run;
mod launch;
mod phone;
mod schedule;
mod update;

use anklang_domain::phase::{CampaignState, Control, PhaseState, Reaction};
use anklang_domain::{CampaignId, TenantId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::selections::v1 as selections_pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::Conn;
use anklang_store::campaign::{self, Campaign, Outbound, Phase};
use anklang_store::operation::Operation;
use chrono::{Months, NaiveDate, Utc};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::form;
use super::infoboard;
use super::listing::Listing;
use super::offers::{policy_to_wire, reject_reason_to_wire};
use super::selections::criteria_to_proto;
use super::{ApiError, ApiResult, caller, caller_in_units, reply, tagged, wire};
use crate::work::App;

/// Offers are valid for at most so long.
const LONGEST_VALIDITY: Months = Months::new(24);

/// The service.
pub struct CampaignsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::campaign_service_server::CampaignService for CampaignsApi {
    async fn launch_campaign(
        &self,
        request: Request<pb::LaunchCampaignRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.launch(request).await)
    }

    async fn pause_campaign(
        &self,
        request: Request<pb::PauseCampaignRequest>,
    ) -> Result<Response<pb::Campaign>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        reply(
            self.control_all(&tenant, &request, &request.name, Control::Pause)
                .await,
        )
    }

    async fn resume_campaign(
        &self,
        request: Request<pb::ResumeCampaignRequest>,
    ) -> Result<Response<pb::Campaign>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        reply(
            self.control_all(&tenant, &request, &request.name, Control::Resume)
                .await,
        )
    }

    async fn cancel_campaign(
        &self,
        request: Request<pb::CancelCampaignRequest>,
    ) -> Result<Response<pb::Campaign>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        reply(
            self.control_all(&tenant, &request, &request.name, Control::Cancel)
                .await,
        )
    }

    async fn pause_phase(
        &self,
        request: Request<pb::PausePhaseRequest>,
    ) -> Result<Response<pb::Phase>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        reply(
            self.control(&tenant, &request, &request.name, Control::Pause)
                .await,
        )
    }

    async fn resume_phase(
        &self,
        request: Request<pb::ResumePhaseRequest>,
    ) -> Result<Response<pb::Phase>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        reply(
            self.control(&tenant, &request, &request.name, Control::Resume)
                .await,
        )
    }

    async fn cancel_phase(
        &self,
        request: Request<pb::CancelPhaseRequest>,
    ) -> Result<Response<pb::Phase>, Status> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        reply(
            self.control(&tenant, &request, &request.name, Control::Cancel)
                .await,
        )
    }

    async fn reschedule_phase(
        &self,
        request: Request<pb::ReschedulePhaseRequest>,
    ) -> Result<Response<pb::Phase>, Status> {
        reply(self.reschedule(request).await)
    }

    async fn get_campaign(
        &self,
        request: Request<pb::GetCampaignRequest>,
    ) -> Result<Response<pb::Campaign>, Status> {
        reply(self.get(request).await)
    }

    async fn list_campaigns(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> Result<Response<pb::ListCampaignsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_campaign(
        &self,
        request: Request<pb::UpdateCampaignRequest>,
    ) -> Result<Response<pb::Campaign>, Status> {
        reply(self.update(request).await)
    }

    async fn get_phase(
        &self,
        request: Request<pb::GetPhaseRequest>,
    ) -> Result<Response<pb::Phase>, Status> {
        reply(self.phase(request).await)
    }

    async fn update_phase(
        &self,
        request: Request<pb::UpdatePhaseRequest>,
    ) -> Result<Response<pb::Phase>, Status> {
        reply(self.rename(request).await)
    }

    async fn list_phases(
        &self,
        request: Request<pb::ListPhasesRequest>,
    ) -> Result<Response<pb::ListPhasesResponse>, Status> {
        reply(self.phases(request).await)
    }

    async fn list_audience_members(
        &self,
        request: Request<pb::ListAudienceMembersRequest>,
    ) -> Result<Response<pb::ListAudienceMembersResponse>, Status> {
        reply(self.audience(request).await)
    }

    async fn get_infoboard(
        &self,
        request: Request<pb::GetInfoboardRequest>,
    ) -> Result<Response<pb::Infoboard>, Status> {
        reply(self.infoboard(request).await)
    }
}

impl CampaignsApi {
    async fn get(&self, request: Request<pb::GetCampaignRequest>) -> ApiResult<pb::Campaign> {
        let tenant = caller(&self.app.store, &request).await?;
        let id = campaign_id("name", &request.into_inner().name)?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| find(conn, tenant.id, id))
            .await?;
        Ok(campaign_to_wire(&found))
    }

    async fn list(
        &self,
        request: Request<pb::ListCampaignsRequest>,
    ) -> ApiResult<pb::ListCampaignsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (key, of) = (&self.app.keys, &campaign::LISTABLE);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| campaign::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListCampaignsResponse {
            campaigns: page.rows.iter().map(campaign_to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn phases(
        &self,
        request: Request<pb::ListPhasesRequest>,
    ) -> ApiResult<pb::ListPhasesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("parent", name::parse_uuid(&request.parent, "campaigns"));
        let (key, of) = (&self.app.keys, &campaign::PHASES);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        let id = CampaignId(form::complete(violations, id)?);
        let mut tx = self.app.store.begin(tenant.id).await?;
        find(&tx, tenant.id, id).await?;
        let page = campaign::list_phases(&mut tx, tenant.id, id, &listing.list).await?;
        // Phases name others, which need not be on the page.
        let all = campaign::phases(&tx, tenant.id, id, None).await?;
        let outbounds = campaign::outbounds(&tx, tenant.id, id).await?;
        tx.commit().await?;
        let phases: ApiResult<Vec<pb::Phase>> = page
            .rows
            .iter()
            .map(|phase| phase_to_wire(phase, &all, &outbounds))
            .collect();
        Ok(pb::ListPhasesResponse {
            phases: phases?,
            next_page_token: listing.token(page.next),
        })
    }

    async fn infoboard(
        &self,
        request: Request<pb::GetInfoboardRequest>,
    ) -> ApiResult<pb::Infoboard> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let id = campaign_id("name", &request.into_inner().name)?;
        let mut tx = store.begin_read(tenant.id).await?;
        find(&tx, tenant.id, id).await?;
        let board = infoboard::load(&mut tx, tenant, id, Utc::now()).await?;
        tx.commit().await?;
        Ok(board)
    }
}

/// Reads the last day of an offer's validity.
pub fn valid_until(
    field: &str,
    date: &Option<anklang_proto::google::r#type::Date>,
    today: NaiveDate,
    violations: &mut Violations,
) -> Option<NaiveDate> {
    let Some(date) = date else {
        violations.add(field, "is required");
        return None;
    };
    let day = violations.check(field, wire::naive_date(date))?;
    let latest = today.checked_add_months(LONGEST_VALIDITY).unwrap_or(today);
    if day < today || day > latest {
        violations.add(field, format!("must be from {today} to {latest}"));
    }
    Some(day)
}

pub(super) fn text_of(
    violations: &mut Violations,
    field: &str,
    text: &str,
    min: usize,
    max: usize,
) {
    let length = text.trim().chars().count();
    if !(min..=max).contains(&length) {
        violations.add(field, format!("must have {min} to {max} characters"));
    } else if text.chars().any(char::is_control) {
        violations.add(field, "must not have control characters");
    }
}

/// Keys of templates and purposes.
pub fn check_word(violations: &mut Violations, field: &str, text: &str) {
    let fits = (1..=64).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits {
        violations.add(field, "must be 1 to 64 of a–z, 0–9 and _, first a letter");
    }
}

/// The response of a launch that succeeded.
pub async fn launch_response(
    app: &App,
    operation: &Operation,
) -> ApiResult<pb::LaunchCampaignResponse> {
    let tenant = operation.tenant();
    let response = operation.response.clone().unwrap_or_default();
    let number = |key: &str| response[key].as_i64().unwrap_or(0);
    let (campaign, phase_number) =
        phase_name(&operation.resource).map_err(|e| ApiError::Internal(e.to_string()))?;
    let tx = app.store.begin(tenant).await?;
    let found = find(&tx, tenant, campaign).await?;
    let phases = load_phases(&tx, tenant, campaign).await?;
    tx.commit().await?;
    let name = phase_resource(campaign, phase_number);
    Ok(pb::LaunchCampaignResponse {
        campaign: Some(campaign_to_wire(&found)),
        phase: phases.into_iter().find(|p| p.name == name),
        candidates: number("candidates"),
        members: number("members"),
        excluded: number("candidates") - number("members"),
        failed_documents: number("failed_documents"),
        bundle_operation: response["bundle_operation"]
            .as_str()
            .map_or_else(String::new, |id| format!("operations/{id}")),
    })
}

fn campaign_id(field: &str, name: &str) -> ApiResult<CampaignId> {
    name::parse_uuid(name, "campaigns")
        .map(CampaignId)
        .map_err(|e| ApiError::field(field, e.to_string()))
}

pub(super) fn phase_name(name: &str) -> Result<(CampaignId, i32), &'static str> {
    const FORM: &str = "must have the form campaigns/{uuid}/phases/{number}";
    let [campaign, number] = name::parse(name, ["campaigns", "phases"]).map_err(|_| FORM)?;
    let campaign = Uuid::try_parse(&campaign).map_err(|_| FORM)?;
    Ok((CampaignId(campaign), number.parse().map_err(|_| FORM)?))
}

/// `campaigns/{uuid}/phases/{number}`.
pub fn phase_resource(campaign: CampaignId, number: i32) -> String {
    name::format(&[
        ("campaigns", &campaign.to_string()),
        ("phases", &number.to_string()),
    ])
}

async fn find(conn: &Conn, tenant: TenantId, id: CampaignId) -> ApiResult<Campaign> {
    campaign::get(conn, tenant, id)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("campaigns/{id}")))
}

fn campaign_to_wire(c: &Campaign) -> pb::Campaign {
    tagged(pb::Campaign {
        name: name::format(&[("campaigns", &c.id.to_string())]),
        display_name: c.name.clone(),
        planned_start_date: c.planned_start.map(wire::date),
        create_time: Some(wire::timestamp(c.created_at)),
        state: match CampaignState::parse(&c.state) {
            Some(CampaignState::Active) => pb::CampaignState::Active,
            Some(CampaignState::Cancelled) => pb::CampaignState::Cancelled,
            None => pb::CampaignState::Unspecified,
        }
        .into(),
        paused: c.paused,
        etag: String::new(),
    })
}

async fn load_phases(conn: &Conn, tenant: TenantId, id: CampaignId) -> ApiResult<Vec<pb::Phase>> {
    let phases = campaign::phases(conn, tenant, id, None).await?;
    let outbounds = campaign::outbounds(conn, tenant, id).await?;
    phases
        .iter()
        .map(|p| phase_to_wire(p, &phases, &outbounds))
        .collect()
}

async fn find_phase(
    conn: &Conn,
    tenant: TenantId,
    campaign: CampaignId,
    number: i32,
) -> ApiResult<pb::Phase> {
    let name = phase_resource(campaign, number);
    load_phases(conn, tenant, campaign)
        .await?
        .into_iter()
        .find(|p| p.name == name)
        .ok_or(ApiError::NotFound(name))
}

fn reaction_to_wire(p: &Phase) -> ApiResult<Option<pb::Reaction>> {
    let Some(stored) = &p.reaction else {
        return Ok(None);
    };
    let reaction: Reaction = serde_json::from_value(stored.clone())
        .map_err(|e| ApiError::Internal(format!("reaction of phase {}: {e}", p.id)))?;
    let earlier = p.reaction_campaign_id.zip(p.reaction_number);
    let kind = schedule::REACTIONS
        .iter()
        .find(|(_, kind)| *kind == reaction.kind);
    Ok(Some(pb::Reaction {
        phase: earlier.map_or_else(String::new, |(id, n)| phase_resource(CampaignId(id), n)),
        kind: kind.map_or(0, |(kind, _)| (*kind).into()),
        min_age_days: reaction.min_age_days,
        reject_reasons: reaction
            .reject_reasons
            .into_iter()
            .map(|r| reject_reason_to_wire(r).into())
            .collect(),
        min_attempts: reaction.min_attempts,
    }))
}

fn outbound_to_wire(phase: &str, o: &Outbound) -> ApiResult<pb::Outbound> {
    Ok(pb::Outbound {
        name: format!("{phase}/outbounds/{}", o.number),
        channel: o.channel.clone(),
        channel_account: match &o.account[..] {
            "" => String::new(),
            account => name::format(&[("channelAccounts", account)]),
        },
        message_template: o.message_template.clone(),
        document_template: o.document_template.clone(),
        purpose: o.purpose.clone(),
        phone: phone::to_wire(o)?,
        channel_route: o.route.as_ref().map_or_else(String::new, |route| {
            name::format(&[("channelRoutes", route)])
        }),
    })
}

fn phase_to_wire(p: &Phase, all: &[Phase], outbounds: &[Outbound]) -> ApiResult<pb::Phase> {
    let name = phase_resource(CampaignId(p.campaign_id), p.number);
    let criteria = serde_json::from_value(p.criteria.clone())
        .map_err(|e| ApiError::Internal(format!("criteria of {name}: {e}")))?;
    Ok(tagged(pb::Phase {
        display_name: p.name.clone(),
        target_product_version: name::format(&[
            ("products", &p.product_number),
            ("versions", &p.product_version_code),
        ]),
        state: match PhaseState::parse(&p.state) {
            Some(PhaseState::Planned) => pb::PhaseState::Planned,
            Some(PhaseState::Launching) => pb::PhaseState::Launching,
            Some(PhaseState::AwaitingApproval) => pb::PhaseState::AwaitingApproval,
            Some(PhaseState::Active) => pb::PhaseState::Active,
            Some(PhaseState::Completed) => pb::PhaseState::Completed,
            Some(PhaseState::Failed) => pb::PhaseState::Failed,
            Some(PhaseState::Cancelled) => pb::PhaseState::Cancelled,
            None => pb::PhaseState::Unspecified,
        }
        .into(),
        operation: format!("operations/{}", p.operation_id),
        selection: p
            .selection_id
            .map_or_else(String::new, |id| format!("selections/{id}")),
        selection_version: p.selection_version.unwrap_or(0),
        criteria: Some(selections_pb::AdHocCriteria {
            subject: selections_pb::Subject::Contract.into(),
            criteria: Some(criteria_to_proto(&criteria)),
        }),
        offer_valid_until_date: Some(wire::date(p.offer_valid_until)),
        outbounds: outbounds
            .iter()
            .filter(|o| o.phase_id == p.id)
            .map(|o| outbound_to_wire(&name, o))
            .collect::<ApiResult<_>>()?,
        create_time: Some(wire::timestamp(p.created_at)),
        paused: p.paused,
        planned_start_date: p.start_date.map(wire::date),
        planned_end_date: p.end_date.map(wire::date),
        predecessors: schedule::names(CampaignId(p.campaign_id), p.predecessors.iter().copied()),
        parallels: schedule::names(
            CampaignId(p.campaign_id),
            all.iter()
                .filter(|o| o.parallel_group == p.parallel_group && o.number != p.number)
                .map(|o| o.number),
        ),
        start_time: p.started_at.map(wire::timestamp),
        complete_time: p.completed_at.map(wire::timestamp),
        reaction: reaction_to_wire(p)?,
        open_offers: policy_to_wire(&p.open_offers).into(),
        one_per_household: p.one_per_household,
        ending_within_days: p.ending_within_days.unwrap_or(0),
        leave_out_terminated: p.leave_out_terminated,
        name,
        etag: String::new(),
    }))
}
