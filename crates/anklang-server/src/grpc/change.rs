//! What all calls share that change something: done once (`request_id`), on what the caller has
//! seen (`etag`), of that only what is named (`update_mask`), or as a trial (`validate_only`).
//!
//! A handler reads its request with [`Change::read`], for callers bound to org units asks whether they see what it
//! is about (`units::enter`), looks with [`Change::before`] whether the call was done before, lets [`Change::settle`] or [`Change::check`] compare with what there is, does its
//! work in the same transaction, and gives that and the response to [`Change::finish`]: it commits, with
//! what the audit log says of it, or rolls back after a trial. A new request is one more line at
//! [`Mutation`].

use anklang_domain::{TenantId, Violations};
use anklang_proto::anklang as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::audit::{self, Counts};
use anklang_store::request_log::{self, Known};
use anklang_store::{Conn, Tx};
use futures::future::try_join;
use prost::{Message, Name};
use prost_types::FieldMask;
use uuid::Uuid;

use super::deed::Asked;
use super::etag::Tagged;
use super::mask::Mask;
use super::{ApiError, ApiResult, Whose};

/// A request that changes something.
pub trait Mutation: Message + Name {
    /// `request_id`.
    fn request_id(&self) -> &str;
    /// `validate_only`.
    fn validate_only(&self) -> bool;
    /// `etag`, in an update that of the resource; empty where there is none.
    fn etag(&self) -> &str;
    /// `update_mask`, and the full name of the message that it is about.
    fn update_mask(&self) -> Option<(&FieldMask, String)>;
}

macro_rules! mutations {
    (
        makes { $($makes:path),+ $(,)? }
        changes { $($changes:path),+ $(,)? }
        updates { $($updates:path => $field:ident: $resource:path),+ $(,)? }
    ) => {
        $(mutations!(one $makes, |_r| "", |_r| None);)+
        $(mutations!(one $changes, |r| &r.etag, |_r| None);)+
        $(mutations!(
            one $updates,
            |r| r.$field.as_ref().map_or("", |resource| &resource.etag),
            |r| r.update_mask.as_ref().map(|mask| (mask, <$resource>::full_name()))
        );)+

        /// The full names of all of them.
        #[cfg(test)]
        pub(super) fn mutations() -> Vec<String> {
            vec![
                $(<$makes>::full_name(),)+
                $(<$changes>::full_name(),)+
                $(<$updates>::full_name(),)+
            ]
        }
    };
    (one $request:path, |$etagged:ident| $etag:expr, |$masked:ident| $mask:expr) => {
        impl Mutation for $request {
            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn validate_only(&self) -> bool {
                self.validate_only
            }

            fn etag(&self) -> &str {
                let $etagged = self;
                $etag
            }

            fn update_mask(&self) -> Option<(&FieldMask, String)> {
                let $masked = self;
                $mask
            }
        }
    };
}

mutations! {
    makes {
        pb::campaigns::v1::DryRunLaunchRequest,
        pb::channels::v1::CreateChannelAccountRequest,
        pb::channels::v1::CreateChannelRouteRequest,
        pb::channels::v1::TestChannelAccountRequest,
        pb::customers::v1::CreateSuppressionRequest,
        pb::documents::v1::MakeBundleRequest,
        pb::handover::v1::CreateWebhookRequest,
        pb::handover::v1::SendTestEventRequest,
        pb::messages::v1::BatchResolveMessagesRequest,
        pb::offers::v1::CreateOfferRequest,
        pb::planning::v1::ClaimContactRequest,
        pb::planning::v1::ClaimNextContactRequest,
        pb::planning::v1::CreatePlannedContactRequest,
        pb::planning::v1::ExtendClaimRequest,
        pb::planning::v1::RecordOutcomeRequest,
        pb::planning::v1::ReleaseContactRequest,
        pb::planning::v1::TakeOrderRequest,
        pb::planning::v1::GeneratePlannedContactsRequest,
        pb::privacy::v1::ErasePersonalDataRequest,
        pb::privacy::v1::ExportPersonalDataRequest,
        pb::selections::v1::CreatePresetRequest,
        pb::selections::v1::CreateSelectionRequest,
        pb::winback::v1::DetectWinbackRequest,
        pb::winback::v1::ClaimWinbackCaseRequest,
        pb::winback::v1::ExtendWinbackCaseRequest,
        pb::winback::v1::NextWinbackCaseRequest,
        pb::winback::v1::ReleaseWinbackCaseRequest,
        pb::winback::v1::GenerateVouchersRequest,
        pb::winback::v1::MailWinbackCasesRequest,
    }
    changes {
        pb::campaigns::v1::ApproveLaunchRequest,
        pb::campaigns::v1::CancelCampaignRequest,
        pb::campaigns::v1::CancelPhaseRequest,
        pb::campaigns::v1::LaunchCampaignRequest,
        pb::campaigns::v1::PauseCampaignRequest,
        pb::campaigns::v1::PausePhaseRequest,
        pb::campaigns::v1::RefuseLaunchRequest,
        pb::campaigns::v1::ReschedulePhaseRequest,
        pb::campaigns::v1::ResumeCampaignRequest,
        pb::campaigns::v1::ResumePhaseRequest,
        pb::channels::v1::DeleteChannelAccountRequest,
        pb::channels::v1::DeleteChannelRouteRequest,
        pb::customers::v1::DeleteSuppressionRequest,
        pb::handover::v1::DeleteWebhookRequest,
        pb::handover::v1::ReplayDeliveryRequest,
        pb::handover::v1::RotateWebhookSecretRequest,
        pb::messages::v1::ResolveMessageRequest,
        pb::offers::v1::AcceptOfferRequest,
        pb::offers::v1::RejectOfferRequest,
        pb::offers::v1::WithdrawOfferRequest,
        pb::orders::v1::AcknowledgeOrderRequest,
        pb::org::v1::DeleteOrgUnitRequest,
        pb::planning::v1::AssignPlannedContactRequest,
        pb::planning::v1::CancelPlannedContactRequest,
        pb::planning::v1::DeleteContactOutcomeRequest,
        pb::planning::v1::MovePlannedContactRequest,
        pb::planning::v1::PinPlannedContactRequest,
        pb::planning::v1::DeleteContactPlanRequest,
        pb::planning::v1::DeleteInactivePeriodRequest,
        pb::planning::v1::DeletePlanEntryRequest,
        pb::planning::v1::DeletePlanExceptionRequest,
        pb::planning::v1::DeleteWorkdayCalendarRequest,
        pb::selections::v1::CopySelectionRequest,
        pb::selections::v1::DeletePresetRequest,
        pb::selections::v1::DeleteSelectionRequest,
        pb::selections::v1::RestoreSelectionVersionRequest,
        pb::selections::v1::ShareSelectionRequest,
        pb::selections::v1::UpdateSelectionTicksRequest,
        pb::winback::v1::AddWinbackRemarkRequest,
        pb::winback::v1::CloseWinbackCaseRequest,
        pb::winback::v1::MailWinbackCaseRequest,
        pb::winback::v1::RemindWinbackCaseRequest,
        pb::winback::v1::RequestWinbackOfferRequest,
    }
    updates {
        pb::brands::v1::UpdateBrandRequest => brand: pb::brands::v1::Brand,
        pb::campaigns::v1::UpdateApprovalPolicyRequest => approval_policy: pb::campaigns::v1::ApprovalPolicy,
        pb::campaigns::v1::UpdateCampaignRequest => campaign: pb::campaigns::v1::Campaign,
        pb::campaigns::v1::UpdatePhaseRequest => phase: pb::campaigns::v1::Phase,
        pb::channels::v1::UpdateChannelAccountRequest => channel_account: pb::channels::v1::ChannelAccount,
        pb::channels::v1::UpdateChannelRouteRequest => channel_route: pb::channels::v1::ChannelRoute,
        pb::contracts::v1::UpdateContractRequest => contract: pb::contracts::v1::Contract,
        pb::customers::v1::UpdateCustomerRequest => customer: pb::customers::v1::Customer,
        pb::handover::v1::UpdateWebhookRequest => webhook: pb::handover::v1::Webhook,
        pb::messages::v1::UpdateContactBudgetRequest => contact_budget: pb::messages::v1::ContactBudget,
        pb::offers::v1::UpdateOfferNumberRangeRequest => offer_number_range: pb::offers::v1::OfferNumberRange,
        pb::orders::v1::UpdateOrderRequest => order: pb::orders::v1::Order,
        pb::org::v1::UpdateOrgUnitRequest => org_unit: pb::org::v1::OrgUnit,
        pb::planning::v1::UpdateContactOutcomeRequest => contact_outcome: pb::planning::v1::ContactOutcome,
        pb::planning::v1::UpdateContactPlanRequest => contact_plan: pb::planning::v1::ContactPlan,
        pb::planning::v1::UpdateInactivePeriodRequest => inactive_period: pb::planning::v1::InactivePeriod,
        pb::planning::v1::UpdatePlanEntryRequest => plan_entry: pb::planning::v1::PlanEntry,
        pb::planning::v1::UpdatePlanExceptionRequest => plan_exception: pb::planning::v1::PlanException,
        pb::planning::v1::UpdateWorkdayCalendarRequest => workday_calendar: pb::planning::v1::WorkdayCalendar,
        pb::products::v1::UpdateProductRequest => product: pb::products::v1::Product,
        pb::products::v1::UpdateProductVersionRequest => product_version: pb::products::v1::ProductVersion,
        pb::selections::v1::UpdatePresetRequest => preset: pb::selections::v1::Preset,
        pb::selections::v1::UpdateSelectionRequest => selection: pb::selections::v1::Selection,
        pb::templates::v1::UpdateTemplateRequest => template: pb::templates::v1::Template,
        pb::winback::v1::UpdateWinbackSettingsRequest => winback_settings: pb::winback::v1::WinbackSettings,
        pb::winback::v1::UpdateVoucherPoolRequest => voucher_pool: pb::winback::v1::VoucherPool,
        pb::winback::v1::UpdateWinbackSenderRequest => winback_sender: pb::winback::v1::WinbackSender,
    }
}

/// A call that changes something, as far as all such calls are alike.
pub struct Change {
    tenant: TenantId,
    request: Option<Once>,
    /// `None` for a trial.
    asked: Option<Asked>,
    etag: String,
    mask: Option<Mask>,
}

/// How the repetition of a call is recognised.
struct Once {
    id: Uuid,
    method: String,
    body: Vec<u8>,
}

impl Once {
    fn as_logged(&self) -> request_log::Request<'_> {
        request_log::Request {
            id: self.id,
            method: &self.method,
            body: &self.body,
        }
    }
}

impl Change {
    /// Reads what a request says of all this; violations are at `request_id` and `update_mask`. What one
    /// who is bound to org units has called is not answered to anybody else: to them its id is used.
    pub fn read<'w, R: Mutation>(
        whose: impl Into<Whose<'w>>,
        request: &R,
        violations: &mut Violations,
    ) -> Self {
        let whose = whose.into();
        let id = match request.request_id() {
            "" => None,
            text => violations.check(
                "request_id",
                Uuid::try_parse(text).map_err(|_| "must be a UUID"),
            ),
        };
        // A trial leaves nothing behind, and is not answered from what was.
        let id = id.filter(|_| !request.validate_only());
        let mask = request
            .update_mask()
            .and_then(|(mask, of)| Mask::read(mask, &of, violations));
        let asked = (!request.validate_only()).then(|| Asked::of(request).with_id(id));
        Change {
            tenant: whose.tenant,
            asked,
            request: id.map(|id| Once {
                id,
                method: R::full_name(),
                body: [whose.prefix(), request.encode_to_vec()].concat(),
            }),
            etag: request.etag().to_owned(),
            mask,
        }
    }

    /// The response that was given before, if it was. Calls with one id take turns until the end of
    /// the transaction.
    pub async fn before<R: Message + Default>(&self, conn: &mut Conn) -> ApiResult<Option<R>> {
        let Some(once) = &self.request else {
            return Ok(None);
        };
        match request_log::lookup(conn, self.tenant, once.as_logged()).await? {
            Known::New => Ok(None),
            Known::Reused => Err(ApiError::RequestIdReused),
            Known::Erased => Err(ApiError::Precondition {
                reason: ErrorReason::Precondition,
                resource: "request_id".into(),
                description: "the call was done, and its answer erased with a customer's data"
                    .into(),
            }),
            Known::Done(bytes) => R::decode(&bytes[..])
                .map(Some)
                .map_err(|e| ApiError::Internal(format!("recorded response: {e}"))),
        }
    }

    /// True when nothing is to be done.
    pub fn is_trial(&self) -> bool {
        self.asked.is_none()
    }

    /// Keeps the response in place of the one that was kept when the call began: for calls whose work is
    /// done between two transactions. The audit log has the call since the first.
    pub async fn complete<R: Message>(&self, mut tx: Tx, response: &R) -> ApiResult<()> {
        if let Some(once) = &self.request {
            let response = response.encode_to_vec();
            request_log::complete(&mut tx, self.tenant, once.id, &response).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Whether the call depends on how the resource stands: it must then be held, read, and given to
    /// [`Change::check`] or [`Change::settle`].
    pub fn looks(&self) -> bool {
        !self.etag.is_empty() || self.mask.is_some()
    }

    /// Compares what there is with what the caller has seen. The resource must be held.
    pub fn check<R: Tagged>(&self, name: &str, current: &R) -> ApiResult<()> {
        if self.etag.is_empty() || self.etag == current.etag() {
            return Ok(());
        }
        Err(ApiError::Stale(name.to_owned()))
    }

    /// What an update makes of what there is: all that is given, or only the named fields.
    ///
    /// # Errors
    /// `NotFound` when there is nothing and may not be; `Stale` when it is not what the caller has
    /// seen.
    pub fn settle<R>(
        &self,
        name: &str,
        current: Option<R>,
        given: R,
        allow_missing: bool,
    ) -> ApiResult<R>
    where
        R: Tagged + Message + Name + Default,
    {
        let Some(current) = current else {
            return match (allow_missing, self.etag.is_empty()) {
                (false, _) => Err(ApiError::NotFound(name.to_owned())),
                (true, true) => Ok(given),
                (true, false) => Err(ApiError::Stale(name.to_owned())),
            };
        };
        self.check(name, &current)?;
        match &self.mask {
            None => Ok(given),
            Some(mask) => mask
                .merge(&current, &given)
                .map_err(|e| ApiError::Internal(format!("{name}: {e}"))),
        }
    }

    /// Keeps the response for repetitions, writes to the audit log and commits, or rolls back after a
    /// trial. True when something was done.
    pub async fn finish<R: Message + Name>(&self, tx: Tx, response: &R) -> ApiResult<bool> {
        // Sent together.
        try_join(self.note(&tx, response), self.keep(&tx, response)).await?;
        self.end(tx).await
    }

    /// As [`Change::finish`], of a call that has noted itself what it has changed, or has changed nothing.
    pub async fn finish_noted<R: Message>(&self, tx: Tx, response: &R) -> ApiResult<bool> {
        self.keep(&tx, response).await?;
        self.end(tx).await
    }

    /// Keeps the response for repetitions; that of a trial is not.
    async fn keep<R: Message>(&self, conn: &Conn, response: &R) -> ApiResult<()> {
        if let Some(once) = &self.request {
            let response = response.encode_to_vec();
            request_log::record(conn, self.tenant, once.as_logged(), &response).await?;
        }
        Ok(())
    }

    async fn end(&self, tx: Tx) -> ApiResult<bool> {
        if self.is_trial() {
            tx.rollback().await?;
            return Ok(false);
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Writes to the audit log, unless it is a trial: of a call that goes on after the transaction, with what is
    /// known of its response.
    pub async fn note<R: Message + Name>(&self, conn: &Conn, response: &R) -> ApiResult<()> {
        if let Some(asked) = &self.asked {
            let deed = asked.answered(response)?;
            audit::record(conn, self.tenant, &deed, Counts::default()).await?;
        }
        Ok(())
    }
}
