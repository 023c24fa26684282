//! Requests for the data of persons and for its erasure.

use anklang_domain::{TenantId, Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::privacy::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::audit;
use anklang_store::call::Call;
use anklang_store::operation::Operation;
use anklang_store::privacy::request::{self as rows, Request as Row};
use anklang_store::privacy::{self, Counts, Subject};
use anklang_store::{Conn, StoreError};
use bytes::Bytes;
use chrono::Utc;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::deed::Asked;
use super::documents::{failed, split};
use super::listing::Listing;
use super::operations::{OperationsApi, any};
use super::{ApiError, ApiResult, Change, caller, form, parts, reply, wire};
use crate::work::App;
use crate::work::privacy::{ask, erase, export, new_request, request_of};

/// The service.
pub struct PrivacyApi {
    /// What it works with.
    pub app: App,
}

type Parts = BoxStream<'static, Result<pb::DownloadPersonalDataResponse, Status>>;

#[tonic::async_trait]
impl pb::privacy_service_server::PrivacyService for PrivacyApi {
    type DownloadPersonalDataStream = Parts;

    async fn export_personal_data(
        &self,
        request: Request<pb::ExportPersonalDataRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.export(request).await)
    }

    async fn download_personal_data(
        &self,
        request: Request<pb::DownloadPersonalDataRequest>,
    ) -> Result<Response<Parts>, Status> {
        reply(self.download(request).await)
    }

    async fn erase_personal_data(
        &self,
        request: Request<pb::ErasePersonalDataRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.erase(request).await)
    }

    async fn get_privacy_request(
        &self,
        request: Request<pb::GetPrivacyRequestRequest>,
    ) -> Result<Response<pb::PrivacyRequest>, Status> {
        reply(self.get(request).await)
    }

    async fn list_privacy_requests(
        &self,
        request: Request<pb::ListPrivacyRequestsRequest>,
    ) -> Result<Response<pb::ListPrivacyRequestsResponse>, Status> {
        reply(self.list(request).await)
    }
}

impl PrivacyApi {
    async fn export(
        &self,
        request: Request<pb::ExportPersonalDataRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let customer = violations.check("customer", name::parse(&request.customer, ["customers"]));
        let [number] = form::complete(violations, customer)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let subject = find(&mut tx, tenant.id, &number).await?;
        if subject.erased_at.is_some() {
            return Err(ApiError::Precondition {
                reason: ErrorReason::Precondition,
                resource: subject.resource(),
                description: "it is erased".into(),
            });
        }
        if change.is_trial() {
            let counts = privacy::export::count(&mut tx, &subject).await?;
            return Ok(trial(&subject, "export", "", counts));
        }
        let who = requested_by();
        let new = new_request("export", "", &who);
        let operation = ask(&mut tx, &subject, export::KIND, new).await?;
        self.begun(change, tx, operation).await
    }

    async fn erase(
        &self,
        request: Request<pb::ErasePersonalDataRequest>,
    ) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let customer = violations.check("customer", name::parse(&request.customer, ["customers"]));
        let reason = violations.check("reason", reason_word(request.reason()));
        let ([number], reason) = form::complete(violations, customer.zip(reason))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let subject = find(&mut tx, tenant.id, &number).await?;
        if change.is_trial() {
            let counts = privacy::erase::count(&mut tx, &subject).await?;
            return Ok(trial(&subject, "erasure", reason, counts));
        }
        let who = requested_by();
        let new = new_request("erasure", reason, &who);
        let operation = ask(&mut tx, &subject, erase::KIND, new).await?;
        self.begun(change, tx, operation).await
    }

    /// Answers with an operation that was just asked for.
    async fn begun(
        &self,
        change: Change,
        tx: anklang_store::Tx,
        operation: Operation,
    ) -> ApiResult<lro::Operation> {
        let app = self.app.clone();
        let operation = OperationsApi { app }.wire(operation).await?;
        change.finish(tx, &operation).await?;
        self.app.wake.operations.notify_waiters();
        Ok(operation)
    }

    async fn get(
        &self,
        request: Request<pb::GetPrivacyRequestRequest>,
    ) -> ApiResult<pb::PrivacyRequest> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let row = self.row(tenant.id, &name).await?;
        to_wire(row)
    }

    async fn list(
        &self,
        request: Request<pb::ListPrivacyRequestsRequest>,
    ) -> ApiResult<pb::ListPrivacyRequestsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &rows::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| rows::list(conn, tenant.id, &listing.list))
            .await?;
        let requests: ApiResult<Vec<_>> = page.rows.into_iter().map(to_wire).collect();
        Ok(pb::ListPrivacyRequestsResponse {
            privacy_requests: requests?,
            next_page_token: listing.token(page.next),
        })
    }

    async fn row(&self, tenant: TenantId, name: &str) -> ApiResult<Row> {
        let id = name::parse_uuid(name, "privacyRequests")
            .map_err(|e| ApiError::field("name", e.to_string()))?;
        let row = self
            .app
            .store
            .read(tenant)
            .ask(|conn| rows::get(conn, tenant, id))
            .await?;
        row.ok_or_else(|| ApiError::NotFound(name.to_owned()))
    }

    async fn download(
        &self,
        request: Request<pb::DownloadPersonalDataRequest>,
    ) -> ApiResult<Parts> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let offset = u64::try_from(request.offset)
            .map_err(|_| ApiError::field("offset", "must not be negative"))?;
        let row = self.row(tenant.id, &request.name).await?;
        let file = File::of(&row).ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
        let deed = Asked::of(&request).answered(&pb::PrivacyRequest {
            name: rows::resource(row.id),
            customer: name::format(&[("customers", &row.customer_number)]),
            ..Default::default()
        })?;
        if offset > file.size {
            return Err(ApiError::field(
                "offset",
                format!("must be at most the size of the file, {}", file.size),
            ));
        }
        if offset == file.size {
            let empty = file.part(offset, Bytes::new(), true);
            return Ok(stream::iter([Ok(empty)]).boxed());
        }
        let bytes = self.app.documents.read(&file.path, offset).await;
        let bytes = bytes.map_err(|error| failed(&error))?;
        // Nobody gets a part whose call is not in the log.
        let tx = self.app.store.begin(tenant.id).await?;
        audit::record(&tx, tenant.id, &deed, audit::Counts::default()).await?;
        tx.commit().await?;
        let mut at = offset;
        let file = bytes.flat_map(move |bytes| {
            let parts: Vec<_> = match bytes {
                Err(error) => vec![Err(failed(&error).into())],
                Ok(bytes) => split(bytes)
                    .map(|data| {
                        let part = file.part(at, data, at == offset);
                        at += part.data.len() as u64;
                        Ok(part)
                    })
                    .collect(),
            };
            stream::iter(parts)
        });
        Ok(parts::until_stopped(&self.app, file))
    }
}

async fn find(conn: &mut Conn, tenant: TenantId, number: &str) -> ApiResult<Subject> {
    privacy::subject(conn, tenant, number)
        .await?
        .ok_or_else(|| ApiError::NotFound(name::format(&[("customers", number)])))
}

/// Who makes the running call.
fn requested_by() -> String {
    Call::current().map_or_else(String::new, |call| call.caller.as_ref().to_owned())
}

/// An operation that nobody can find, which says how much there is.
fn trial(subject: &Subject, kind: &str, reason: &str, counts: Counts) -> lro::Operation {
    let tried = pb::PrivacyRequest {
        kind: kind_to_wire(kind).into(),
        customer: subject.resource(),
        reason: reason_to_wire(reason).into(),
        requested_by: requested_by(),
        rows: counts,
        ..Default::default()
    };
    lro::Operation {
        done: true,
        result: Some(lro::operation::Result::Response(any(&tried))),
        ..Default::default()
    }
}

/// The request that an operation was for.
pub async fn response(app: &App, operation: &Operation) -> ApiResult<pb::PrivacyRequest> {
    let tenant = operation.tenant();
    let tx = app.store.begin(tenant).await?;
    let request = request_of(operation);
    let row = rows::get(&tx, tenant, request).await?;
    tx.commit().await?;
    let row = row.ok_or_else(|| StoreError::Missing(rows::resource(request)))?;
    to_wire(row)
}

/// The file of an export while it can be downloaded.
struct File {
    path: Path,
    size: u64,
    sha256: Vec<u8>,
}

impl File {
    fn of(row: &Row) -> Option<Self> {
        let expires = row.expires_at.filter(|at| *at > Utc::now());
        expires?;
        Some(File {
            path: Path::from(row.path.as_deref()?),
            size: row.size_bytes?.try_into().ok()?,
            sha256: row.sha256.clone()?,
        })
    }

    fn part(&self, offset: u64, data: Bytes, first: bool) -> pb::DownloadPersonalDataResponse {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        pb::DownloadPersonalDataResponse {
            data,
            offset: signed(offset),
            size_bytes: if first { signed(self.size) } else { 0 },
            sha256: match first {
                true => hex::encode(&self.sha256),
                false => String::new(),
            },
        }
    }
}

fn to_wire(row: Row) -> ApiResult<pb::PrivacyRequest> {
    let file = File::of(&row).map(|file| pb::PersonalDataFile {
        sha256: hex::encode(&file.sha256),
        size_bytes: i64::try_from(file.size).unwrap_or(i64::MAX),
        expire_time: row.expires_at.map(wire::timestamp),
    });
    Ok(pb::PrivacyRequest {
        name: rows::resource(row.id),
        kind: kind_to_wire(&row.kind).into(),
        customer: name::format(&[("customers", &row.customer_number)]),
        reason: reason_to_wire(&row.reason).into(),
        rows: row.counts()?,
        requested_by: row.requested_by,
        state: state_to_wire(&row.state).into(),
        operation: operation_name(row.id),
        file,
        create_time: Some(wire::timestamp(row.created_at)),
        done_time: row.done_at.map(wire::timestamp),
    })
}

fn operation_name(id: Uuid) -> String {
    format!("operations/{id}")
}

fn kind_to_wire(word: &str) -> pb::PrivacyRequestKind {
    match word {
        "export" => pb::PrivacyRequestKind::Export,
        "erasure" => pb::PrivacyRequestKind::Erasure,
        _ => pb::PrivacyRequestKind::Unspecified,
    }
}

fn state_to_wire(word: &str) -> pb::PrivacyRequestState {
    match word {
        "running" => pb::PrivacyRequestState::Running,
        "done" => pb::PrivacyRequestState::Done,
        "cancelled" => pb::PrivacyRequestState::Cancelled,
        "failed" => pb::PrivacyRequestState::Failed,
        _ => pb::PrivacyRequestState::Unspecified,
    }
}

/// Reasons and their words in the ledger.
const REASONS: [(pb::ErasureReason, &str); 5] = [
    (pb::ErasureReason::NotNeeded, "not_needed"),
    (pb::ErasureReason::ConsentWithdrawn, "consent_withdrawn"),
    (pb::ErasureReason::Objection, "objection"),
    (pb::ErasureReason::Unlawful, "unlawful"),
    (pb::ErasureReason::LegalDuty, "legal_duty"),
];

fn reason_word(reason: pb::ErasureReason) -> Result<&'static str, &'static str> {
    let found = REASONS.iter().find(|(known, _)| *known == reason);
    found.map(|(_, word)| *word).ok_or("is required")
}

fn reason_to_wire(word: &str) -> pb::ErasureReason {
    let found = REASONS.iter().find(|(_, known)| *known == word);
    found.map_or(pb::ErasureReason::Unspecified, |(reason, _)| *reason)
}
