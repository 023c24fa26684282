//! Pausing, resuming and cancelling of phases and whole campaigns.

use std::time::{Duration, Instant};

use anklang_domain::phase::Control;
use anklang_domain::{CampaignId, PhaseId, TenantId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::hold::{Held, hold};
use anklang_store::phase::{self, Controlled};
use anklang_store::tenant::Tenant;

use super::{CampaignsApi, campaign_to_wire, find, find_phase, phase_name};
use crate::grpc::change::Mutation;
use crate::grpc::{ApiError, ApiResult, Change, form};
use crate::work::phases::{OFFERS_PER_CHUNK, wind_up};

/// So long a call takes back offers itself; the worker does the rest.
const WIND_UP_FOR: Duration = Duration::from_secs(2);

impl CampaignsApi {
    /// Does to a phase what was asked; repeated it changes nothing.
    pub(super) async fn control<R: Mutation>(
        &self,
        tenant: &Tenant,
        request: &R,
        name: &str,
        control: Control,
    ) -> ApiResult<pb::Phase> {
        let mut violations = Violations::new();
        let change = Change::read(tenant, request, &mut violations);
        let ids = violations.check("name", phase_name(name));
        let (campaign, number) = form::complete(violations, ids)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Phase(campaign, number)).await?;
            let current = find_phase(&tx, tenant.id, campaign, number).await?;
            change.check(name, &current)?;
        }
        let done = phase::control(&mut tx, tenant.id, campaign, number, control).await?;
        let cancelled = settled(done, name)?;
        let phase = find_phase(&tx, tenant.id, campaign, number).await?;
        if change.finish(tx, &phase).await? {
            self.wake_after(tenant.id, &cancelled).await;
        }
        Ok(phase)
    }

    /// Does to a campaign what was asked; repeated it changes nothing.
    pub(super) async fn control_all<R: Mutation>(
        &self,
        tenant: &Tenant,
        request: &R,
        name: &str,
        control: Control,
    ) -> ApiResult<pb::Campaign> {
        let mut violations = Violations::new();
        let change = Change::read(tenant, request, &mut violations);
        let id = violations.check("name", name::parse_uuid(name, "campaigns"));
        let id = CampaignId(form::complete(violations, id)?);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::Campaign(id)).await?;
            let current = find(&tx, tenant.id, id).await?;
            change.check(name, &campaign_to_wire(&current))?;
        }
        let done = phase::control_all(&mut tx, tenant.id, id, control).await?;
        let cancelled = settled(done, name)?;
        let campaign = find(&tx, tenant.id, id).await?;
        let response = campaign_to_wire(&campaign);
        if change.finish(tx, &response).await? {
            self.wake_after(tenant.id, &cancelled).await;
        }
        Ok(response)
    }

    /// Wakes whoever has something to do now, and takes back what can be taken back soon.
    pub(super) async fn wake_after(&self, tenant: TenantId, cancelled: &[PhaseId]) {
        self.app.wake.operations.notify_waiters();
        self.app.wake.messages.notify_waiters();
        let until = Instant::now() + WIND_UP_FOR;
        for phase in cancelled {
            while Instant::now() < until {
                match wind_up(&self.app, tenant, *phase, OFFERS_PER_CHUNK).await {
                    Ok(true) => break,
                    Ok(false) => {}
                    // It is cancelled all the same.
                    Err(error) => {
                        tracing::warn!(%phase, %error, "taking offers back; left to the worker");
                        break;
                    }
                }
            }
        }
        self.app.wake.phases.notify_waiters();
    }
}

/// What a control came to, as an error when it was refused.
pub(super) fn settled(controlled: Controlled, name: &str) -> ApiResult<Vec<PhaseId>> {
    match controlled {
        Controlled::Done(cancelled) => Ok(cancelled),
        Controlled::Missing => Err(ApiError::NotFound(name.to_owned())),
        Controlled::Refused(refused) => Err(ApiError::Precondition {
            reason: ErrorReason::IllegalTransition,
            resource: name.to_owned(),
            description: refused.to_string(),
        }),
    }
}
