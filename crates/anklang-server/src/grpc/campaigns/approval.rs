//! Approvals: the policy, what a launch that waits has to send, yes and no.

mod view;

use std::sync::Arc;

use anklang_domain::approval::{
    ANYBODY, LONGEST_WINDOW_HOURS, Unfit, WINDOW_HOURS, may_approve, second_person,
};
use anklang_domain::phase::{Control, PhaseState};
use anklang_domain::{CampaignId, ProductVersionId, TenantId, Violations};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::approval::{self, Approval, Policy};
use anklang_store::call::Call;
use anklang_store::hold::{Held, hold};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, launch, phase};
use chrono::Utc;
use tonic::{Request, Response, Status};

use super::control::settled;
use super::{CampaignsApi, phase_name, text_of};
use crate::grpc::error::Denied;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, reply, tagged, wire};
use crate::work::bundle;
use view::View;

/// The one name of the policy.
const POLICY_NAME: &str = "approvalPolicy";
/// The longest remark or reason, in characters.
const LONGEST_REMARK: usize = 1_000;

#[tonic::async_trait]
impl pb::approval_service_server::ApprovalService for CampaignsApi {
    async fn get_approval_policy(
        &self,
        request: Request<pb::GetApprovalPolicyRequest>,
    ) -> Result<Response<pb::ApprovalPolicy>, Status> {
        reply(self.policy(request).await)
    }

    async fn update_approval_policy(
        &self,
        request: Request<pb::UpdateApprovalPolicyRequest>,
    ) -> Result<Response<pb::ApprovalPolicy>, Status> {
        reply(self.update_policy(request).await)
    }

    async fn get_launch_approval(
        &self,
        request: Request<pb::GetLaunchApprovalRequest>,
    ) -> Result<Response<pb::LaunchApproval>, Status> {
        reply(self.approval(request).await)
    }

    async fn approve_launch(
        &self,
        request: Request<pb::ApproveLaunchRequest>,
    ) -> Result<Response<pb::LaunchApproval>, Status> {
        reply(self.approve(request).await)
    }

    async fn refuse_launch(
        &self,
        request: Request<pb::RefuseLaunchRequest>,
    ) -> Result<Response<pb::LaunchApproval>, Status> {
        reply(self.refuse(request).await)
    }
}

impl CampaignsApi {
    async fn policy(
        &self,
        request: Request<pb::GetApprovalPolicyRequest>,
    ) -> ApiResult<pb::ApprovalPolicy> {
        let tenant = caller(&self.app.store, &request).await?;
        let (store, by) = (&self.app.store, who());
        store
            .read(tenant.id)
            .ask(|conn| policy_of(conn, tenant.id, &by))
            .await
    }

    async fn update_policy(
        &self,
        request: Request<pb::UpdateApprovalPolicyRequest>,
    ) -> ApiResult<pb::ApprovalPolicy> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let Some(mut wanted) = request.approval_policy else {
            return Err(ApiError::field("approval_policy", "is required"));
        };
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::ApprovalPolicy).await?;
            let current = policy_to_wire(approval::policy(&tx, tenant.id).await?);
            let called = std::mem::take(&mut wanted.name);
            wanted = change.settle(POLICY_NAME, Some(current), wanted, false)?;
            wanted.name = called;
        }
        if !["", POLICY_NAME].contains(&&wanted.name[..]) {
            let reason = format!("must be {POLICY_NAME}");
            violations.add("approval_policy.name", reason);
        }
        if wanted.members_over.is_some_and(|limit| limit < 0) {
            let reason = "must not be negative; unset asks for no approvals";
            violations.add("approval_policy.members_over", reason);
        }
        let window_hours = wanted.window_hours.unwrap_or(WINDOW_HOURS);
        if !(1..=LONGEST_WINDOW_HOURS).contains(&window_hours) {
            let reason = format!("must be 1 to {LONGEST_WINDOW_HOURS}");
            violations.add("approval_policy.window_hours", reason);
        }
        violations.finish(())?;
        let by = who();
        if wanted.members_over.is_some() && *by == *ANYBODY {
            return Err(precondition(POLICY_NAME, Unfit::Unknown.to_string()));
        }
        let wanted = (wanted.members_over, window_hours);
        approval::set_policy(&mut tx, tenant.id, wanted, &by).await?;
        let response = policy_of(&tx, tenant.id, &by).await?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn approval(
        &self,
        request: Request<pb::GetLaunchApprovalRequest>,
    ) -> ApiResult<pb::LaunchApproval> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().phase;
        let mut violations = Violations::new();
        let of = violations.check("phase", phase_name(&name));
        let of = form::complete(violations, of)?;
        let mut tx = self.app.store.begin_snapshot(tenant.id).await?;
        let found = find(&mut tx, &tenant, of, &name, false).await?;
        let view = View::load(&self.app, &mut tx, &tenant, of, found).await?;
        tx.commit().await?;
        Ok(view.wire)
    }

    async fn approve(
        &self,
        request: Request<pb::ApproveLaunchRequest>,
    ) -> ApiResult<pb::LaunchApproval> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let of = violations.check("phase", phase_name(&request.phase));
        let hash = violations.check("hash", read_hash(&request.hash));
        text_of(
            &mut violations,
            "remark",
            &request.remark,
            0,
            LONGEST_REMARK,
        );
        let (of, hash) = form::complete(violations, of.zip(hash))?;
        let name = &request.phase[..];

        let mut tx = self.app.store.begin_work(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        approval::lock(&mut tx, tenant.id).await?;
        let found = find(&mut tx, &tenant, of, name, true).await?;
        let view = View::load(&self.app, &mut tx, &tenant, of, found).await?;
        change.check(name, &view.wire)?;
        let by = who();
        let fit = may_approve(&by, &view.approval.launched_by, &view.approval.changed_by);
        may_decide(&view.approval, fit, name)?;
        let content = view.content.as_ref().filter(|now| now.hash == hash);
        let content = content.ok_or_else(|| {
            let reason = "it is not what this hash is of, or not any more: look at it again";
            precondition(name, reason)
        })?;
        let today = tenant.day(Utc::now());
        check_terms(&mut tx, &tenant, &view.approval, today, name).await?;
        let phase = view.approval.phase();
        if approval::is_in_hands(&mut tx, tenant.id, phase).await? {
            let reason = "senders are giving messages of it back; try again";
            return Err(ApiError::Unavailable(reason.into()));
        }
        let words = (&by[..], request.remark.trim());
        let active = approval::approve(&mut tx, tenant.id, phase, content, words, today).await?;
        if active && view.has_documents() {
            // Print files that were being made are not any more.
            bundle::of_phase(&mut tx, tenant.id, phase).await?;
        }
        let response = self.decided(&mut tx, &tenant, of, name).await?;
        if change.finish(tx, &response).await? {
            self.app.wake.operations.notify_waiters();
            self.app.wake.messages.notify_waiters();
            self.app.wake.phases.notify_waiters();
        }
        Ok(response)
    }

    async fn refuse(
        &self,
        request: Request<pb::RefuseLaunchRequest>,
    ) -> ApiResult<pb::LaunchApproval> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let of = violations.check("phase", phase_name(&request.phase));
        text_of(
            &mut violations,
            "reason",
            &request.reason,
            1,
            LONGEST_REMARK,
        );
        let of = form::complete(violations, of)?;
        let name = &request.phase[..];

        let mut tx = self.app.store.begin_work(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let found = find(&mut tx, &tenant, of, name, true).await?;
        let view = View::load(&self.app, &mut tx, &tenant, of, found).await?;
        change.check(name, &view.wire)?;
        let by = who();
        let fit = second_person(&by, &view.approval.launched_by);
        may_decide(&view.approval, fit, name)?;
        let (campaign, number) = of;
        let cancelled =
            phase::control(&mut tx, tenant.id, campaign, number, Control::Cancel).await?;
        let cancelled = settled(cancelled, name)?;
        let reason = request.reason.trim();
        approval::refuse(&mut tx, tenant.id, view.approval.phase(), &by, reason).await?;
        let response = self.decided(&mut tx, &tenant, of, name).await?;
        if change.finish(tx, &response).await? {
            self.wake_after(tenant.id, &cancelled).await;
        }
        Ok(response)
    }

    /// How it stands once it is decided.
    async fn decided(
        &self,
        conn: &mut Conn,
        tenant: &Tenant,
        of: (CampaignId, i32),
        name: &str,
    ) -> ApiResult<pb::LaunchApproval> {
        let found = find(conn, tenant, of, name, false).await?;
        Ok(View::load(&self.app, conn, tenant, of, found).await?.wire)
    }
}

/// Who makes the running call.
fn who() -> Arc<str> {
    Call::current().map_or_else(|| ANYBODY.into(), |call| call.caller)
}

fn precondition(resource: &str, description: impl Into<String>) -> ApiError {
    ApiError::Precondition {
        reason: ErrorReason::Precondition,
        resource: resource.to_owned(),
        description: description.into(),
    }
}

fn read_hash(text: &str) -> Result<[u8; 32], &'static str> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash)
        .map(|()| hash)
        .map_err(|_| "must be the 64 hexadecimal digits of a LaunchApproval's hash")
}

async fn find(
    conn: &mut Conn,
    tenant: &Tenant,
    (campaign, number): (CampaignId, i32),
    name: &str,
    lock: bool,
) -> ApiResult<Approval> {
    approval::find(conn, tenant.id, campaign, number, lock)
        .await?
        .ok_or_else(|| ApiError::NotFound(format!("an approval of {name}")))
}

/// Whether something is to be decided, and by this caller, as the domain says.
fn may_decide(of: &Approval, fit: Result<(), Unfit>, name: &str) -> ApiResult<()> {
    if of.state != PhaseState::AwaitingApproval.as_str() {
        return Err(ApiError::Precondition {
            reason: ErrorReason::IllegalTransition,
            resource: name.to_owned(),
            description: format!(
                "it is {}; only what is awaiting_approval can be approved or refused",
                of.state
            ),
        });
    }
    match fit {
        Ok(()) => Ok(()),
        Err(own @ (Unfit::Own | Unfit::OwnChange)) => Err(Denied::Own(own).into()),
        Err(unfit) => Err(precondition(name, unfit.to_string())),
    }
}

/// While it waited its offers, or what they offer, may have come to their end.
async fn check_terms(
    conn: &mut Conn,
    tenant: &Tenant,
    of: &Approval,
    today: chrono::NaiveDate,
    name: &str,
) -> ApiResult<()> {
    if of.valid_until < today {
        let reason = format!("its offers were to be valid until {}", of.valid_until);
        return Err(precondition(name, reason));
    }
    let version = ProductVersionId(of.product_version);
    if launch::target_is_over(conn, tenant.id, version, today).await? {
        return Err(precondition(
            name,
            "the product version is not valid any more",
        ));
    }
    Ok(())
}

/// The tenant's policy, with what counts for that caller. The etag is of the policy alone.
async fn policy_of(conn: &Conn, tenant: TenantId, by: &str) -> ApiResult<pb::ApprovalPolicy> {
    let policy = approval::policy(conn, tenant).await?;
    let own = approval::policy_for(conn, tenant, by).await?;
    let stricter = own.stricter_until.map(|until| pb::StricterApprovalPolicy {
        members_over: own.members_over.unwrap_or_default(),
        window_hours: own.window_hours,
        end_time: Some(wire::timestamp(until)),
    });
    Ok(pb::ApprovalPolicy {
        stricter,
        ..policy_to_wire(policy)
    })
}

fn policy_to_wire(policy: Policy) -> pb::ApprovalPolicy {
    tagged(pb::ApprovalPolicy {
        name: POLICY_NAME.into(),
        members_over: policy.members_over,
        window_hours: Some(policy.window_hours),
        updater: policy.updated_by,
        update_time: policy.updated_at.map(wire::timestamp),
        stricter: None,
        etag: String::new(),
    })
}
