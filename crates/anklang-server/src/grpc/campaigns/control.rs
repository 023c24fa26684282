//! Pausing, resuming and cancelling of phases and whole campaigns.

use std::time::{Duration, Instant};

use anklang_domain::phase::Control;
use anklang_domain::{PhaseId, TenantId};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::phase::{self, Controlled};
use anklang_store::tenant::Tenant;

use super::{CampaignsApi, campaign_id, campaign_to_wire, find, find_phase, phase_name};
use crate::grpc::{ApiError, ApiResult};
use crate::work::phases::{OFFERS_PER_CHUNK, wind_up};

/// So long a call takes back offers itself; the worker does the rest.
const WIND_UP_FOR: Duration = Duration::from_secs(2);

impl CampaignsApi {
    /// Does to a phase what was asked; repeated it changes nothing.
    pub(super) async fn control(
        &self,
        tenant: &Tenant,
        name: &str,
        control: Control,
    ) -> ApiResult<pb::Phase> {
        let (campaign, number) = phase_name(name).map_err(|e| ApiError::field("name", e))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let done = phase::control(&mut tx, tenant.id, campaign, number, control).await?;
        let cancelled = settled(done, name)?;
        let phase = find_phase(&mut tx, tenant.id, campaign, number).await?;
        tx.commit().await?;
        self.wake_after(tenant.id, &cancelled).await;
        Ok(phase)
    }

    /// Does to a campaign what was asked; repeated it changes nothing.
    pub(super) async fn control_all(
        &self,
        tenant: &Tenant,
        name: &str,
        control: Control,
    ) -> ApiResult<pb::Campaign> {
        let id = campaign_id("name", name)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let done = phase::control_all(&mut tx, tenant.id, id, control).await?;
        let cancelled = settled(done, name)?;
        let campaign = find(&mut tx, tenant.id, id).await?;
        tx.commit().await?;
        self.wake_after(tenant.id, &cancelled).await;
        Ok(campaign_to_wire(&campaign))
    }

    /// Wakes whoever has something to do now, and takes back what can be taken back soon.
    async fn wake_after(&self, tenant: TenantId, cancelled: &[PhaseId]) {
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
