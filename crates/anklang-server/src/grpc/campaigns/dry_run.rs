//! Dry runs of launches: read and checked as launches are, then an operation that makes nothing.

use anklang_domain::{OperationId, Violations, name};
use anklang_proto::anklang::campaigns::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::call::Call;
use anklang_store::dry_run::{self, Candidate, NewDryRun};
use anklang_store::operation::{self, NewOperation, Operation};
use anklang_store::tenant;
use tonic::{Request, Response, Status};

use super::launch::check_templates;
use super::launch::read::read_launch;
use super::{CampaignsApi, LONGEST_VALIDITY};
use crate::grpc::audience::exclusion;
use crate::grpc::listing::Listing;
use crate::grpc::operations::OperationsApi;
use crate::grpc::{ApiError, ApiResult, Change, caller, reply, wire};
use crate::work::dry_run::{DryRun, KIND, Outcome};

#[tonic::async_trait]
impl pb::dry_run_service_server::DryRunService for CampaignsApi {
    async fn dry_run_launch(
        &self,
        request: Request<pb::DryRunLaunchRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.dry_run(request).await)
    }

    async fn list_dry_run_candidates(
        &self,
        request: Request<pb::ListDryRunCandidatesRequest>,
    ) -> Result<Response<pb::ListDryRunCandidatesResponse>, Status> {
        reply(self.dry_run_candidates(request).await)
    }
}

impl CampaignsApi {
    async fn dry_run(
        &self,
        request: Request<pb::DryRunLaunchRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let Some(launch) = &request.launch else {
            violations.add("launch", "is required");
            return Err(violations.into());
        };
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(before) = change.before(&mut tx).await? {
            return Ok(before);
        }

        let (_, today) = tenant::clock(&mut tx, tenant.id).await?;
        let planned = launch.schedule.as_ref();
        let planned = planned.and_then(|s| s.planned_start_date.as_ref());
        let as_of = match (&request.as_of_date, planned) {
            (Some(date), _) => violations.check("as_of_date", wire::naive_date(date)),
            // A wrong planned start is reported below.
            (None, Some(date)) => wire::naive_date(date).ok().map(|day| day.max(today)),
            (None, None) => None,
        };
        let as_of = as_of.unwrap_or(today);
        if !(today..=today + LONGEST_VALIDITY).contains(&as_of) {
            violations.add(
                "as_of_date",
                format!("must be from {today} to two years ahead"),
            );
        }
        let mut found = Violations::new();
        for (field, text) in [("request_id", &launch.request_id), ("etag", &launch.etag)] {
            if !text.is_empty() {
                found.add(field, "must be empty: the launch itself is not asked for");
            }
        }
        let wanted = read_launch(launch, as_of, &mut found);
        let resolved = self
            .resolve(&mut tx, &tenant, &wanted, as_of, &mut found)
            .await?;
        violations.extend_under("launch.", found);
        violations.finish(())?;
        let resolved = resolved
            .ok_or_else(|| ApiError::Internal("a launch without faults or values".into()))?;
        check_templates(&mut tx, &tenant, &wanted, &resolved).await?;

        let id = OperationId::new();
        let plan = DryRun {
            launch: resolved.plan(&wanted, id.0, as_of),
            account: resolved.through.account.clone(),
            route: resolved.through.route.clone(),
            campaign: resolved.existing_campaign().map(|id| id.0),
            by: Call::current_caller(),
        };
        let new = NewOperation {
            id,
            kind: KIND,
            resource: name::format(&[("operations", &id.to_string())]),
            request: serde_json::to_value(plan).map_err(|e| ApiError::Internal(e.to_string()))?,
        };
        let operation = operation::create(&mut tx, tenant.id, new).await?;
        let new = NewDryRun {
            operation: id,
            as_of,
            product_version: anklang_domain::ProductVersionId(resolved.product_version),
            audience: resolved.audience(&wanted),
        };
        dry_run::create(&mut tx, tenant.id, new).await?;
        let operations = OperationsApi {
            app: self.app.clone(),
        };
        let mut operation = operations.wire(operation).await?;
        if !change.finish(tx, &operation).await? {
            // Nobody could find it.
            operation.name.clear();
            return Ok(operation);
        }
        self.app.wake.operations.notify_waiters();
        Ok(operation)
    }

    async fn dry_run_candidates(
        &self,
        request: Request<pb::ListDryRunCandidatesRequest>,
    ) -> ApiResult<pb::ListDryRunCandidatesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("parent", name::parse_uuid(&request.parent, "operations"));
        let (key, of) = (&self.app.keys, &dry_run::CANDIDATES);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let id = OperationId(id.unwrap_or_default());

        let mut tx = self.app.store.begin(tenant.id).await?;
        if !dry_run::exists(&mut tx, tenant.id, id).await? {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = dry_run::candidates(&mut tx, tenant.id, id, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListDryRunCandidatesResponse {
            candidates: page.rows.into_iter().map(candidate_to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }
}

fn candidate_to_wire(c: Candidate) -> pb::DryRunCandidate {
    pb::DryRunCandidate {
        customer: name::format(&[("customers", &c.customer_number)]),
        contract: name::format(&[("contracts", &c.contract_number)]),
        exclusion_reason: c.exclusion.map_or(0, |word| exclusion(&word).into()),
        address: c.address.unwrap_or_default(),
        annual_amount: c.amount.map(|amount| wire::money(amount, &c.currency)),
    }
}

/// What a dry run that is over came to.
pub fn response(operation: &Operation) -> ApiResult<pb::DryRunLaunchResponse> {
    let stored = operation.response.clone().unwrap_or_default();
    let o: Outcome = serde_json::from_value(stored)
        .map_err(|e| ApiError::Internal(format!("the stored outcome: {e}")))?;
    Ok(pb::DryRunLaunchResponse {
        as_of_date: Some(wire::date(o.as_of)),
        candidates: o.candidates,
        members: o.members,
        exclusions: o
            .left_out
            .iter()
            .map(|(word, count)| pb::ExclusionFigure {
                reason: exclusion(word).into(),
                count: *count,
            })
            .collect(),
        annual_amounts: vec![wire::money(o.annual_amount.0, &o.annual_amount.1)],
        superseded_offers: o.superseded,
        documents: o.documents,
        message_cost: o
            .cost
            .map(|(amount, currency)| wire::money(amount, &currency)),
        messages_before: o.messages_before,
        send_start_time: Some(wire::timestamp(o.send_start)),
        send_end_time: o.send_end.map(wire::timestamp),
        messages_per_minute: o.messages_per_minute,
        needs_approval: o.needs_approval,
    })
}
