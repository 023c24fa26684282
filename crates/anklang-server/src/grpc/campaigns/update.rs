//! One phase, and what people call phases and campaigns.

use anklang_domain::{CampaignId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_store::campaign;
use anklang_store::hold::{Held, hold};
use tonic::Request;

use super::{CampaignsApi, campaign_to_wire, find, find_phase, phase_name, text_of};
use crate::grpc::{ApiError, ApiResult, Change, caller, form, wire};

/// The most characters of a name.
const MAX_NAME: usize = 200;

impl CampaignsApi {
    pub(super) async fn phase(
        &self,
        request: Request<pb::GetPhaseRequest>,
    ) -> ApiResult<pb::Phase> {
        let tenant = caller(&self.app.store, &request).await?;
        let mut violations = Violations::new();
        let ids = violations.check("name", phase_name(&request.into_inner().name));
        let (campaign, number) = form::complete(violations, ids)?;
        let phase = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| find_phase(conn, tenant.id, campaign, number))
            .await?;
        Ok(phase)
    }

    pub(super) async fn update(
        &self,
        request: Request<pb::UpdateCampaignRequest>,
    ) -> ApiResult<pb::Campaign> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let Some(mut wanted) = request.campaign else {
            return Err(ApiError::field("campaign", "is required"));
        };
        let called = std::mem::take(&mut wanted.name);
        let id = violations.check("campaign.name", name::parse_uuid(&called, "campaigns"));
        let id = id.map(CampaignId);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(id) = id.filter(|_| change.looks()) {
            hold(&mut tx, tenant.id, Held::Campaign(id)).await?;
            let current = campaign_to_wire(&find(&tx, tenant.id, id).await?);
            wanted = change.settle(&called, Some(current), wanted, false)?;
        }
        text_of(
            &mut violations,
            "campaign.display_name",
            &wanted.display_name,
            1,
            MAX_NAME,
        );
        let planned_start = wanted.planned_start_date.as_ref().and_then(|date| {
            violations.check("campaign.planned_start_date", wire::naive_date(date))
        });
        let id = form::complete(violations, id)?;
        let title = wanted.display_name.trim();
        let saved = campaign::update(&mut tx, tenant.id, id, title, planned_start).await?;
        let response = campaign_to_wire(&saved.ok_or(ApiError::NotFound(called))?);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    /// Gives a phase another name.
    pub(super) async fn rename(
        &self,
        request: Request<pb::UpdatePhaseRequest>,
    ) -> ApiResult<pb::Phase> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let Some(mut wanted) = request.phase else {
            return Err(ApiError::field("phase", "is required"));
        };
        let called = std::mem::take(&mut wanted.name);
        let ids = violations.check("phase.name", phase_name(&called));
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some((campaign, number)) = ids.filter(|_| change.looks()) {
            hold(&mut tx, tenant.id, Held::Phase(campaign, number)).await?;
            let current = find_phase(&tx, tenant.id, campaign, number).await?;
            wanted = change.settle(&called, Some(current), wanted, false)?;
        }
        text_of(
            &mut violations,
            "phase.display_name",
            &wanted.display_name,
            1,
            MAX_NAME,
        );
        let (campaign, number) = form::complete(violations, ids)?;
        let title = wanted.display_name.trim();
        campaign::rename_phase(&mut tx, tenant.id, campaign, number, title).await?;
        let response = find_phase(&tx, tenant.id, campaign, number).await?;
        change.finish(tx, &response).await?;
        Ok(response)
    }
}
