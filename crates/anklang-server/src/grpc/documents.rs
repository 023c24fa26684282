//! Documents of outbounds: lists, bundles and downloads.

use anklang_domain::{CampaignId, Violations, name};
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::anklang::documents::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_store::bundle::{self as rows, File, INDEX, Outbound};
use anklang_store::document::{self, Document};
use anklang_store::operation::{self, Operation};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, offer};
use bytes::Bytes;
use chrono::Utc;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::listing::Listing;
use super::offers::state_to_wire;
use super::operations::OperationsApi;
use super::templates::full_name;
use super::{ApiError, ApiResult, Change, caller, form, parts, reply, wire};
use crate::documents::{DocumentError, path};
use crate::work::App;
use crate::work::bundle::{INDEX_NAME, ask, file_name, pdf_name};

/// Bytes of a part of a file that is sent at once.
const PART: usize = 64 * 1024;

/// The service.
pub struct DocumentsApi {
    /// What it works with.
    pub app: App,
}

type Parts = BoxStream<'static, Result<pb::DownloadFileResponse, Status>>;

#[tonic::async_trait]
impl pb::document_service_server::DocumentService for DocumentsApi {
    type DownloadFileStream = Parts;

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn get_bundle(
        &self,
        request: Request<pb::GetBundleRequest>,
    ) -> Result<Response<pb::Bundle>, Status> {
        reply(self.get(request).await)
    }

    async fn make_bundle(
        &self,
        request: Request<pb::MakeBundleRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.make(request).await)
    }

    async fn download_file(
        &self,
        request: Request<pb::DownloadFileRequest>,
    ) -> Result<Response<Parts>, Status> {
        reply(self.download(request).await)
    }
}

/// The campaign and the numbers of phase and outbound.
type OutboundName = (CampaignId, i32, i32);

fn outbound_name(name: &str) -> Result<OutboundName, &'static str> {
    const FORM: &str = "must have the form campaigns/{uuid}/phases/{number}/outbounds/{number}";
    let [campaign, phase, outbound] =
        name::parse(name, ["campaigns", "phases", "outbounds"]).map_err(|_| FORM)?;
    let campaign = Uuid::try_parse(&campaign).map_err(|_| FORM)?;
    let number = |text: String| text.parse().map_err(|_| FORM);
    Ok((CampaignId(campaign), number(phase)?, number(outbound)?))
}

/// `campaigns/{uuid}/phases/{number}/outbounds/{number}`.
pub fn outbound_resource(outbound: &Outbound) -> String {
    name::format(&[
        ("campaigns", &outbound.campaign_id.to_string()),
        ("phases", &outbound.phase_number.to_string()),
        ("outbounds", &outbound.number.to_string()),
    ])
}

async fn find(conn: &mut Conn, tenant: &Tenant, of: OutboundName) -> ApiResult<Outbound> {
    let (campaign, phase, outbound) = of;
    rows::find(conn, tenant.id, campaign, phase, outbound)
        .await?
        .ok_or_else(|| {
            ApiError::NotFound(name::format(&[
                ("campaigns", &campaign.to_string()),
                ("phases", &phase.to_string()),
                ("outbounds", &outbound.to_string()),
            ]))
        })
}

/// The bundle that an operation made.
pub async fn made_bundle(app: &App, operation: &Operation) -> ApiResult<pb::Bundle> {
    let tenant = operation.tenant();
    let (campaign, phase, outbound) =
        outbound_name(&operation.resource).map_err(|e| ApiError::Internal(e.into()))?;
    let mut tx = app.store.begin(tenant).await?;
    let found = rows::find(&tx, tenant, campaign, phase, outbound).await?;
    let found = found.ok_or_else(|| ApiError::NotFound(operation.resource.clone()))?;
    let files = rows::files(&mut tx, tenant, found.id).await?;
    tx.commit().await?;
    bundle_to_wire(&found, &files).ok_or_else(|| ApiError::NotFound(operation.resource.clone()))
}

impl DocumentsApi {
    async fn list(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> ApiResult<pb::ListDocumentsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let parent = violations.check("parent", outbound_name(&request.parent));
        let (key, of) = (&self.app.keys, &document::LISTABLE);
        let listing = Listing::read(key, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let parent = parent.ok_or_else(|| ApiError::Internal("no parent, no violation".into()))?;
        let mut tx = self.app.store.begin_work(tenant.id).await?;
        let outbound = find(&mut tx, &tenant, parent).await?;
        let (phase, today) = (outbound.phase(), tenant.day(Utc::now()));
        let page = document::list(&tx, tenant.id, phase, today, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListDocumentsResponse {
            documents: page.rows.iter().map(document_to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn get(&self, request: Request<pb::GetBundleRequest>) -> ApiResult<pb::Bundle> {
        let tenant = caller(&self.app.store, &request).await?;
        let name = request.into_inner().name;
        let of = name
            .strip_suffix("/bundle")
            .and_then(|outbound| outbound_name(outbound).ok())
            .ok_or_else(|| {
                ApiError::field(
                    "name",
                    "must have the form campaigns/{uuid}/phases/{number}/outbounds/{number}/bundle",
                )
            })?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let outbound = find(&mut tx, &tenant, of).await?;
        let files = rows::files(&mut tx, tenant.id, outbound.id).await?;
        tx.commit().await?;
        bundle_to_wire(&outbound, &files).ok_or(ApiError::NotFound(name))
    }

    async fn make(&self, request: Request<pb::MakeBundleRequest>) -> ApiResult<lro::Operation> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let parent = request.parent;
        let of = violations.check("parent", outbound_name(&parent));
        let of = form::complete(violations, of)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let outbound = find(&mut tx, &tenant, of).await?;
        let refuse = |description: &str| ApiError::Precondition {
            reason: ErrorReason::Precondition,
            resource: parent.clone(),
            description: description.into(),
        };
        if outbound.document_template.is_empty() {
            return Err(refuse("it has no documents"));
        }
        let made = match outbound.state.as_deref() {
            Some("ready") => None,
            Some("making") if !outbound.is_wanted() => None,
            _ if !outbound.is_wanted() => {
                return Err(refuse(&format!("its phase is {}", outbound.phase_state)));
            }
            // Also one that its operation has left; one that is being made stays as it is.
            _ => ask(&mut tx, tenant.id, &outbound).await?,
        };
        let is_new = made.is_some();
        let operation = match made {
            Some(operation) => operation,
            None => {
                // Perhaps begun by another call just now.
                let outbound = find(&mut tx, &tenant, of).await?;
                let id = outbound.operation_id.unwrap_or_default();
                operation::get(&tx, tenant.id, anklang_domain::OperationId(id))
                    .await?
                    .ok_or_else(|| refuse("its bundle is ready"))?
            }
        };
        let app = self.app.clone();
        if !is_new {
            // Nothing was done, and its response may need a connection.
            tx.commit().await?;
            let operation = OperationsApi { app }.wire(operation).await?;
            let mut tx = self.app.store.begin(tenant.id).await?;
            if let Some(done) = change.before(&mut tx).await? {
                return Ok(done);
            }
            change.finish(tx, &operation).await?;
            return Ok(operation);
        }
        let mut operation = OperationsApi { app }.wire(operation).await?;
        if !change.finish(tx, &operation).await? {
            // Nobody could find it.
            operation.name.clear();
        }
        self.app.wake.operations.notify_waiters();
        Ok(operation)
    }

    async fn download(&self, request: Request<pb::DownloadFileRequest>) -> ApiResult<Parts> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let wanted = violations.check("name", Wanted::parse(&request.name));
        let offset = violations.check(
            "offset",
            u64::try_from(request.offset).map_err(|_| "must not be negative"),
        );
        violations.finish(())?;
        let (Some(wanted), Some(offset)) = (wanted, offset) else {
            return Err(ApiError::Internal("no name, no violation".into()));
        };
        let file = self
            .find_file(&tenant, &wanted)
            .await?
            .ok_or(ApiError::NotFound(request.name))?;
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

    async fn find_file(&self, tenant: &Tenant, wanted: &Wanted) -> ApiResult<Option<Found>> {
        let mut tx = self.app.store.begin(tenant.id).await?;
        let found = match wanted {
            Wanted::Document(number) => {
                let today = tenant.day(Utc::now());
                let offer = offer::get(&tx, tenant.id, number, today).await?;
                offer.and_then(|offer| {
                    let sha256 = offer.sha256?;
                    Some(Found {
                        path: path(&sha256),
                        size: offer.size_bytes?.try_into().ok()?,
                        sha256,
                    })
                })
            }
            Wanted::OfBundle(of, number) => {
                let outbound = find(&mut tx, tenant, *of).await?;
                let files = rows::files(&mut tx, tenant.id, outbound.id).await?;
                let file = files.into_iter().find(|f| f.number == *number);
                file.and_then(|file| {
                    Some(Found {
                        path: Path::from(file.path),
                        size: file.size_bytes.try_into().ok()?,
                        sha256: file.sha256,
                    })
                })
            }
        };
        tx.commit().await?;
        Ok(found)
    }
}

/// What a download names.
enum Wanted {
    /// The document of the offer with this number.
    Document(String),
    /// The file of a bundle with this number.
    OfBundle(OutboundName, i32),
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "must have the form offers/{offer}/document or \
            campaigns/{uuid}/phases/{number}/outbounds/{number}/printFiles/{number} or …/index";
        if let Some(offer) = text.strip_suffix("/document") {
            let [number] = name::parse(offer, ["offers"]).map_err(|_| FORM)?;
            return Ok(Self::Document(number));
        }
        if let Some(outbound) = text.strip_suffix("/index") {
            let of = outbound_name(outbound).map_err(|_| FORM)?;
            return Ok(Self::OfBundle(of, INDEX));
        }
        let (outbound, number) = text.split_once("/printFiles/").ok_or(FORM)?;
        let of = outbound_name(outbound).map_err(|_| FORM)?;
        let number: i32 = number.parse().map_err(|_| FORM)?;
        match number > INDEX {
            true => Ok(Self::OfBundle(of, number)),
            false => Err(FORM),
        }
    }
}

/// A file to download.
struct Found {
    path: Path,
    size: u64,
    sha256: Vec<u8>,
}

impl Found {
    fn part(&self, offset: u64, data: Bytes, first: bool) -> pb::DownloadFileResponse {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        pb::DownloadFileResponse {
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

/// A document in the parts of a download.
pub(super) fn split(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    (0..bytes.len())
        .step_by(PART)
        .map(move |from| bytes.slice(from..bytes.len().min(from + PART)))
}

/// What callers see of an error of the document store; the log has the rest.
pub(super) fn failed(error: &DocumentError) -> ApiError {
    match error {
        // The ledger says that it is there: not the caller's fault.
        DocumentError::Missing(_) => ApiError::Internal(error.to_string()),
        _ => {
            tracing::warn!(%error, "download");
            ApiError::Unavailable("the document store does not answer".into())
        }
    }
}

fn document_to_wire(d: &Document) -> pb::Document {
    let offer = name::format(&[("offers", &d.offer_number)]);
    pb::Document {
        name: format!("{offer}/document"),
        offer,
        contract: name::format(&[("contracts", &d.contract_number)]),
        customer: name::format(&[("customers", &d.customer_number)]),
        offer_state: state_to_wire(&d.offer_state).into(),
        file_name: pdf_name(&d.offer_number),
        sha256: hex::encode(&d.sha256),
        size_bytes: d.size_bytes,
        pages: d.pages,
        standard: d.standard.clone(),
        template: full_name(&d.brand_code, &d.document_template, &d.template_language),
        template_version: d.template_version,
        print_file: d.print_file.unwrap_or(0),
        print_page: d.print_page.unwrap_or(0),
        create_time: Some(wire::timestamp(d.created_at)),
    }
}

fn bundle_to_wire(outbound: &Outbound, files: &[File]) -> Option<pb::Bundle> {
    let state = match outbound.state.as_deref()? {
        "making" => pb::BundleState::Making,
        "ready" => pb::BundleState::Ready,
        "cancelled" => pb::BundleState::Cancelled,
        "failed" => pb::BundleState::Failed,
        _ => pb::BundleState::Unspecified,
    };
    let parent = outbound_resource(outbound);
    let prints = || files.iter().filter(|f| f.number != INDEX);
    Some(pb::Bundle {
        name: format!("{parent}/bundle"),
        state: state.into(),
        operation: format!("operations/{}", outbound.operation_id?),
        print_files: prints().map(|f| file_to_wire(&parent, f)).collect(),
        index: files
            .iter()
            .find(|f| f.number == INDEX)
            .map(|f| file_to_wire(&parent, f)),
        letters: prints().map(|f| f.letters).sum(),
        pages: prints().map(|f| f.pages).sum(),
        create_time: outbound.created_at.map(wire::timestamp),
        complete_time: outbound.completed_at.map(wire::timestamp),
    })
}

fn file_to_wire(parent: &str, f: &File) -> pb::BundleFile {
    let (name, file_name) = match f.number {
        INDEX => (format!("{parent}/index"), INDEX_NAME.to_owned()),
        number => (format!("{parent}/printFiles/{number}"), file_name(number)),
    };
    pb::BundleFile {
        name,
        file_name,
        sha256: hex::encode(&f.sha256),
        size_bytes: f.size_bytes,
        letters: f.letters,
        pages: f.pages,
        standard: f.standard.clone(),
        create_time: Some(wire::timestamp(f.created_at)),
    }
}
