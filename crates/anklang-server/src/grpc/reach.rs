//! Statements that add up: what became of everyone whom a campaign meant.

mod export;

use std::collections::BTreeMap;

use anklang_domain::{CampaignId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as campaigns_pb;
use anklang_proto::anklang::planning::v1::PlannedContactState;
use anklang_proto::anklang::reach::v1 as pb;
use anklang_store::customer::CustomerDetails;
use anklang_store::reach::{self, Candidacy, Fate};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, budget, campaign, customer};
use chrono::Utc;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::audience::exclusion;
use super::campaigns::phase_resource;
use super::messages::state;
use super::planning::contacts;
use super::{ApiError, ApiResult, caller, reply, wire};
use crate::work::App;

/// The most candidacies of an explanation.
const MAX_CANDIDACIES: i64 = 1_000;

/// The service.
pub struct ReachApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::reach_service_server::ReachService for ReachApi {
    type ExportReachStream = BoxStream<'static, Result<pb::ExportReachResponse, Status>>;

    async fn get_reach(
        &self,
        request: Request<pb::GetReachRequest>,
    ) -> Result<Response<pb::Reach>, Status> {
        reply(self.get(request).await)
    }

    async fn export_reach(
        &self,
        request: Request<pb::ExportReachRequest>,
    ) -> Result<Response<Self::ExportReachStream>, Status> {
        reply(self.export(request).await)
    }

    async fn explain_customer(
        &self,
        request: Request<pb::ExplainCustomerRequest>,
    ) -> Result<Response<pb::CustomerExplanation>, Status> {
        reply(self.explain(request).await)
    }
}

/// The campaign of a request.
fn campaign_id(text: &str, violations: &mut Violations) -> Option<CampaignId> {
    violations
        .check("campaign", name::parse_uuid(text, "campaigns"))
        .map(CampaignId)
}

/// Refuses a campaign that is not there.
async fn must_exist(conn: &mut Conn, tenant: &Tenant, id: CampaignId) -> ApiResult<()> {
    match campaign::get(conn, tenant.id, id).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::NotFound(format!("campaigns/{id}"))),
    }
}

impl ReachApi {
    async fn get(&self, request: Request<pb::GetReachRequest>) -> ApiResult<pb::Reach> {
        let tenant = caller(&self.app.store, &request).await?;
        let mut violations = Violations::new();
        let id = campaign_id(&request.get_ref().campaign, &mut violations);
        violations.finish(())?;
        let id = id.unwrap_or(CampaignId(Uuid::nil()));

        let mut tx = self.app.store.begin_read_work(tenant.id).await?;
        must_exist(&mut tx, &tenant, id).await?;
        let phases = campaign::phases(&tx, tenant.id, id, None).await?;
        let now = Utc::now();
        let fates = reach::fates(&mut tx, tenant.id, id).await?;
        tx.commit().await?;
        Ok(pb::Reach {
            campaign: format!("campaigns/{id}"),
            total: Some(figures(fates.iter())),
            phases: phases
                .iter()
                .map(|p| pb::PhaseReach {
                    phase: phase_resource(id, p.number),
                    figures: Some(figures(fates.iter().filter(|f| f.phase_number == p.number))),
                })
                .collect(),
            as_of_time: Some(wire::timestamp(now)),
        })
    }

    async fn explain(
        &self,
        request: Request<pb::ExplainCustomerRequest>,
    ) -> ApiResult<pb::CustomerExplanation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let number = violations.check("customer", name::parse(&request.customer, ["customers"]));
        let campaign = match &request.campaign[..] {
            "" => None,
            text => campaign_id(text, &mut violations),
        };
        violations.finish(())?;
        let number = number.map(|[number]| number).unwrap_or_default();

        let mut tx = self.app.store.begin_read_work(tenant.id).await?;
        let CustomerDetails {
            customer, consents, ..
        } = customer::get(&tx, tenant.id, &number)
            .await?
            .ok_or(ApiError::NotFound(request.customer))?;
        let mut missed = Vec::new();
        if let Some(id) = campaign {
            must_exist(&mut tx, &tenant, id).await?;
            missed = reach::missed(&mut tx, tenant.id, customer.id, id).await?;
        }
        let candidacies =
            reach::candidacies(&mut tx, tenant.id, customer.id, campaign, MAX_CANDIDACIES).await?;
        let addresses = reach::addresses(&mut tx, tenant.id, customer.id).await?;
        let budget = match budget::get(&tx, tenant.id).await? {
            Some(budget) => pb::BudgetState {
                used: budget::used(&mut tx, tenant.id, customer.id, &budget).await?,
                max_contacts: budget.max_contacts,
                window_days: budget.window_days,
            },
            None => pb::BudgetState::default(),
        };
        tx.commit().await?;
        Ok(pb::CustomerExplanation {
            customer: name::format(&[("customers", &customer.number)]),
            candidacies: candidacies.into_iter().map(candidacy).collect(),
            phases_without: missed
                .iter()
                .zip(campaign.into_iter().cycle())
                .map(|(m, campaign)| phase_resource(campaign, m.phase_number))
                .collect(),
            consents: consents
                .into_iter()
                .map(|c| pb::ConsentState {
                    granted: c.state == "granted",
                    channel: c.channel,
                    purpose: c.purpose,
                    source: c.source,
                    record_time: Some(wire::timestamp(c.recorded_at)),
                })
                .collect(),
            addresses: addresses
                .into_iter()
                .map(|a| pb::AddressState {
                    channel: a.channel,
                    address: a.address,
                    suppressed: a.blocked,
                    reason: a.reason,
                })
                .collect(),
            budget: Some(budget),
            time_zone: match customer.time_zone.is_empty() {
                true => tenant.time_zone.name().to_owned(),
                false => customer.time_zone,
            },
        })
    }
}

fn candidacy(c: Candidacy) -> pb::Candidacy {
    let excluded = c.state == "excluded";
    pb::Candidacy {
        phase: phase_resource(CampaignId(c.campaign_id), c.phase_number),
        campaign_display_name: c.campaign_name,
        contract: name::format(&[("contracts", &c.contract_number)]),
        exclusion_reason: if excluded {
            exclusion(&c.reason).into()
        } else {
            0
        },
        offer: c
            .offer_number
            .map_or_else(String::new, |number| name::format(&[("offers", &number)])),
        message: c
            .message_id
            .map_or_else(String::new, |id| format!("messages/{id}")),
        message_state: state(&c.state).into(),
        message_reason: match c.message_id {
            Some(_) if !excluded => c.reason.clone(),
            _ => String::new(),
        },
        freeze_time: c.frozen_at.map(wire::timestamp),
        send_time: c.sent_at.map(wire::timestamp),
        next_attempt_time: c.next_attempt_at.map(wire::timestamp),
        planned_contact: c.contact_id.map(contacts::resource).unwrap_or_default(),
        planned_contact_state: contact_state(&c.state).unwrap_or_default(),
        planned_contact_reason: match c.contact_id {
            Some(_) if !excluded => c.reason,
            _ => String::new(),
        },
    }
}

/// The state of a planned contact, of the word of a fate; `None` when there is no contact.
fn contact_state(fate: &str) -> Option<i32> {
    let word = fate.strip_prefix("contact_")?;
    let prefix = "PLANNED_CONTACT_STATE_";
    Some(contacts::word::<PlannedContactState>(prefix, word))
}

/// Sums that add up, whatever is counted: members are what is not left out.
fn figures<'a>(fates: impl Iterator<Item = &'a Fate>) -> pb::ReachFigures {
    let mut sums: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for fate in fates {
        *sums.entry((&fate.state, &fate.reason)).or_default() += fate.n;
    }
    let mut figures = pb::ReachFigures::default();
    for ((fate, reason), count) in sums {
        figures.candidates += count;
        if fate == "excluded" {
            figures.excluded.push(campaigns_pb::ExclusionFigure {
                reason: exclusion(reason).into(),
                count,
            });
            continue;
        }
        figures.members += count;
        match fate {
            "no_message" => figures.without_message += count,
            fate if fate.starts_with("contact_") => figures.contacts.push(pb::ContactReach {
                state: contact_state(fate).unwrap_or_default(),
                reason: reason.to_owned(),
                count,
            }),
            fate => figures.messages.push(pb::MessageReach {
                state: state(fate).into(),
                reason: reason.to_owned(),
                count,
            }),
        }
    }
    figures
}
