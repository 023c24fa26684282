//! google.longrunning.Operations.

use std::time::Duration;

use anklang_domain::{OperationId, Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::operations::v1::OperationMetadata;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::rpc;
use anklang_store::audit::{self, Counts};
use anklang_store::call::Call;
use anklang_store::operation::{self, Operation};
use prost::Message;
use prost_types::Any;
use tonic::{Code, Request, Response, Status};

use super::deed::Asked;
use super::listing::Listing;
use super::{ApiError, ApiResult, caller, reply, wire};
use crate::work::{App, bundle, dry_run, mailing, planning, privacy, winback};

/// How often a waiting call looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest that a call waits; the caller asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// So long before its deadline a call answers, rather than to be ended.
const BEFORE_DEADLINE: Duration = Duration::from_secs(1);

/// The service.
pub struct OperationsApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl lro::operations_server::Operations for OperationsApi {
    async fn list_operations(
        &self,
        request: Request<lro::ListOperationsRequest>,
    ) -> Result<Response<lro::ListOperationsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn get_operation(
        &self,
        request: Request<lro::GetOperationRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.get(request).await)
    }

    async fn delete_operation(
        &self,
        request: Request<lro::DeleteOperationRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete(request).await)
    }

    async fn cancel_operation(
        &self,
        request: Request<lro::CancelOperationRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.cancel(request).await)
    }

    async fn wait_operation(
        &self,
        request: Request<lro::WaitOperationRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.wait(request).await)
    }
}

pub(super) fn id(name: &str) -> ApiResult<OperationId> {
    name::parse_uuid(name, "operations")
        .map(OperationId)
        .map_err(|e| ApiError::field("name", e.to_string()))
}

impl OperationsApi {
    async fn list(
        &self,
        request: Request<lro::ListOperationsRequest>,
    ) -> ApiResult<lro::ListOperationsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        if !matches!(&request.name[..], "" | "operations") {
            violations.add("name", "must be empty or \"operations\"");
        }
        let (key, of) = (&self.app.keys, &operation::LISTABLE);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| operation::list(conn, tenant.id, &listing.list))
            .await?;
        let mut operations = Vec::with_capacity(page.rows.len());
        for row in page.rows {
            operations.push(self.wire(row).await?);
        }
        Ok(lro::ListOperationsResponse {
            operations,
            next_page_token: listing.token(page.next),
            ..Default::default()
        })
    }

    async fn get(&self, request: Request<lro::GetOperationRequest>) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let id = id(&request.into_inner().name)?;
        self.find(tenant.id, id).await
    }

    pub(super) async fn find(
        &self,
        tenant: anklang_domain::TenantId,
        id: OperationId,
    ) -> ApiResult<lro::Operation> {
        let found = self
            .app
            .store
            .read(tenant)
            .ask(|conn| operation::get(conn, tenant, id))
            .await?;
        let found = found.ok_or_else(|| ApiError::NotFound(format!("operations/{id}")))?;
        self.wire(found).await
    }

    async fn delete(&self, request: Request<lro::DeleteOperationRequest>) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let id = id(&request.name)?;
        let deed = Asked::of(&request).deed()?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        operation::delete(&mut tx, tenant.id, id).await?;
        audit::record(&tx, tenant.id, &deed, Counts::default()).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn cancel(&self, request: Request<lro::CancelOperationRequest>) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let id = id(&request.name)?;
        let deed = Asked::of(&request).deed()?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if !operation::request_cancel(&mut tx, tenant.id, id).await? {
            return Err(ApiError::NotFound(format!("operations/{id}")));
        }
        audit::record(&tx, tenant.id, &deed, Counts::default()).await?;
        tx.commit().await?;
        self.app.wake.operations.notify_waiters();
        Ok(())
    }

    async fn wait(&self, request: Request<lro::WaitOperationRequest>) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let id = id(&request.name)?;
        let wish = request.timeout.map_or(Ok(LONGEST_WAIT), Duration::try_from);
        let wish = wish.map_err(|_| ApiError::field("timeout", "must not be negative"))?;
        let left = Call::time_left().unwrap_or(Duration::MAX);
        let left = left.saturating_sub(BEFORE_DEADLINE);
        let deadline = tokio::time::Instant::now() + wish.min(LONGEST_WAIT).min(left);
        loop {
            let found = self.find(tenant.id, id).await?;
            // A server that stops answers as after the timeout: the caller asks another one.
            let stopping = self.app.stopping.is_cancelled();
            if found.done || stopping || tokio::time::Instant::now() >= deadline {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// An operation on the wire, with its response loaded anew.
    pub async fn wire(&self, o: Operation) -> ApiResult<lro::Operation> {
        use lro::operation::Result as Outcome;
        let result = match &o.state[..] {
            "succeeded" => Some(Outcome::Response(match &o.kind[..] {
                bundle::KIND => any(&super::documents::made_bundle(&self.app, &o).await?),
                dry_run::KIND => any(&super::campaigns::dry_run::response(&o)?),
                mailing::KIND => any(&super::winback::mails::mailed(&o)?),
                planning::KIND => any(&super::planning::generate::response(&o)?),
                winback::KIND => any(&super::winback::detection::response(&self.app, &o).await?),
                privacy::export::KIND | privacy::erase::KIND => {
                    any(&super::privacy::response(&self.app, &o).await?)
                }
                _ => any(&super::campaigns::launch_response(&self.app, &o).await?),
            })),
            "failed" => Some(Outcome::Error(error(&o))),
            "cancelled" => Some(Outcome::Error(rpc::Status {
                code: Code::Cancelled.into(),
                message: "cancelled".into(),
                details: vec![reason(ErrorReason::Cancelled.as_str_name())],
            })),
            _ => None,
        };
        Ok(lro::Operation {
            name: format!("operations/{}", o.id),
            metadata: Some(packed_metadata(&o)),
            done: o.is_over(),
            result,
        })
    }
}

/// How far an operation is, as it goes over the wire.
pub(super) fn packed_metadata(o: &Operation) -> Any {
    any(&metadata(o))
}

fn metadata(o: &Operation) -> OperationMetadata {
    OperationMetadata {
        kind: o.kind.clone(),
        resource: o.resource.clone(),
        phase: o.step.clone(),
        done: o.done,
        total: o.total,
        failed: o.failed,
        rate_per_second: o.rate,
        last_errors: o.last_errors.clone(),
        create_time: Some(wire::timestamp(o.created_at)),
        update_time: Some(wire::timestamp(o.updated_at)),
        restarts: (o.attempt - 1).max(0),
        eta: o.expected_end().map(wire::timestamp),
    }
}

fn error(o: &Operation) -> rpc::Status {
    let reason_word = o.error_reason.as_deref().unwrap_or("INTERNAL");
    let code = match reason_word {
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "PRECONDITION" => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    rpc::Status {
        code: code.into(),
        message: o.error_message.clone().unwrap_or_default(),
        details: vec![reason(reason_word)],
    }
}

fn reason(word: &str) -> Any {
    any(&rpc::ErrorInfo {
        reason: word.trim_start_matches("ERROR_REASON_").to_owned(),
        domain: "anklang".into(),
        ..Default::default()
    })
}

/// A message with its type's URL.
pub(super) fn any<M: Message + prost::Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}
