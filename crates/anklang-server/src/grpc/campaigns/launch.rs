//! The launch of a campaign, or of a further phase of one: what is asked for is read, looked up and
//! written down; the work itself is an operation.

pub(super) mod read;
mod resolve;

use anklang_domain::channel::{Carries, carries};
use anklang_domain::phase::Reaction;
use anklang_domain::planning::Calls;
use anklang_domain::schedule::Stage;
use anklang_domain::{CampaignId, OperationId, Violations};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::google::longrunning as lro;
use anklang_store::campaign::{self, NewAudience, NewOutbound, NewPhase};
use anklang_store::hold::{Held, hold};
use anklang_store::operation::{self, NewOperation, Operation};
use anklang_store::tenant::{self, Tenant};
use anklang_store::{Conn, phase, template};
use chrono::NaiveDate;
use tonic::Request;
use uuid::Uuid;

use self::read::{CampaignTarget, Wanted, read_launch};
use super::schedule::{self, Placed};
use super::{CampaignsApi, campaign_to_wire, phase_resource};
use crate::content::{
    FALLBACK_LANGUAGE, OFFER_LETTER, OFFER_MAIL, OFFER_TEXT, Sees, sees, shipped_message,
};
use crate::grpc::operations::OperationsApi;
use crate::grpc::{ApiError, ApiResult, Change, caller};
use crate::work::launch::{self, Plan};

/// An account or a route that there is, of some channel; or people who call.
pub(super) struct Through {
    channel: String,
    /// Empty with a route and calls.
    pub(super) account: String,
    pub(super) route: Option<String>,
    /// With the code of the contact plan.
    calls: Option<(Calls, Option<String>)>,
}

/// What is wanted, with what it names looked up: nothing is wrong any more.
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

    /// The campaign, unless it is a new one.
    pub(super) fn existing_campaign(&self) -> Option<CampaignId> {
        match self.campaign {
            CampaignTarget::Existing(id) => Some(*id),
            CampaignTarget::New { .. } => None,
        }
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
            leave_out_terminated: wanted.leave_out_terminated,
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
        let (_, today) = tenant::clock(&mut tx, tenant.id).await?;
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
            leave_out_terminated: wanted.leave_out_terminated,
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
