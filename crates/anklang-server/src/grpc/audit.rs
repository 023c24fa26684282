//! The audit log, to be read. What is written into it: `deed.rs`.

use anklang_domain::Violations;
use anklang_proto::anklang::audit::v1 as pb;
use anklang_store::audit::{self, Audited};
use anklang_store::tenant::Tenant;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::listing::Listing;
use super::{ApiResult, caller, parts, reply, wire};
use crate::work::App;

/// Entries of a response of an export: far below the limit of a message, also when they are long.
const ENTRIES: i64 = 250;

/// The parts of an export.
type Parts = BoxStream<'static, Result<pb::ExportAuditEntriesResponse, Status>>;

/// The service.
pub struct AuditApi {
    /// What it works with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::audit_service_server::AuditService for AuditApi {
    type ExportAuditEntriesStream = Parts;

    async fn list_audit_entries(
        &self,
        request: Request<pb::ListAuditEntriesRequest>,
    ) -> Result<Response<pb::ListAuditEntriesResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn export_audit_entries(
        &self,
        request: Request<pb::ExportAuditEntriesRequest>,
    ) -> Result<Response<Parts>, Status> {
        reply(self.export(request).await)
    }

    async fn get_audit_head(
        &self,
        request: Request<pb::GetAuditHeadRequest>,
    ) -> Result<Response<pb::AuditHead>, Status> {
        reply(self.head(request).await)
    }
}

impl AuditApi {
    async fn list(
        &self,
        request: Request<pb::ListAuditEntriesRequest>,
    ) -> ApiResult<pb::ListAuditEntriesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        if request.resource.contains('\0') {
            violations.add("resource", "must be text without NUL");
        }
        let (keys, of) = (&self.app.keys, &audit::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let resource = Some(&request.resource[..]).filter(|name| !name.is_empty());
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| audit::list(conn, tenant.id, resource, &listing.list))
            .await?;
        Ok(pb::ListAuditEntriesResponse {
            audit_entries: page.rows.into_iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    /// Exports from the beginning or from a cursor on. A page is read when the client took the one before,
    /// each in a transaction of its own.
    async fn export(&self, request: Request<pb::ExportAuditEntriesRequest>) -> ApiResult<Parts> {
        let tenant = caller(&self.app.store, &request).await?;
        let mut violations = Violations::new();
        let after = match &request.get_ref().cursor[..] {
            "" => Some(0),
            text => violations.check("cursor", read_cursor(text)),
        };
        violations.finish(())?;
        let app = self.app.clone();
        let entries = stream::try_unfold(after, move |after| {
            let (app, tenant) = (app.clone(), tenant.clone());
            async move {
                match after {
                    Some(after) => part(&app, &tenant, after).await.map_err(Status::from),
                    None => Ok(None),
                }
            }
        });
        Ok(parts::until_stopped(&self.app, entries))
    }

    async fn head(&self, request: Request<pb::GetAuditHeadRequest>) -> ApiResult<pb::AuditHead> {
        let tenant = caller(&self.app.store, &request).await?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        let head = audit::newest(&mut tx, tenant.id).await?;
        let waiting = audit::waiting(&mut tx, tenant.id).await?;
        tx.commit().await?;
        Ok(pb::AuditHead {
            seq: head.seq,
            hash: hex::encode(head.hash),
            unsealed_count: waiting.count,
            oldest_unsealed_time: waiting.oldest.map(wire::timestamp),
        })
    }
}

/// The next part of an export, and after which entry the one behind it begins, if there is one.
async fn part(
    app: &App,
    tenant: &Tenant,
    after: i64,
) -> ApiResult<Option<(pb::ExportAuditEntriesResponse, Option<i64>)>> {
    let mut tx = app.store.begin_read_work(tenant.id).await?;
    let entries = audit::sealed(&mut tx, tenant.id, after, ENTRIES).await?;
    tx.commit().await?;
    let Some(last) = entries.last().and_then(|last| last.sealed) else {
        return Ok(None);
    };
    // A page that is not full is the last one.
    let full = i64::try_from(entries.len()).unwrap_or(0) == ENTRIES;
    let part = pb::ExportAuditEntriesResponse {
        audit_entries: entries.into_iter().map(to_wire).collect(),
        cursor: last.seq.to_string(),
    };
    Ok(Some((part, full.then_some(last.seq))))
}

fn read_cursor(text: &str) -> Result<i64, &'static str> {
    text.parse::<i64>()
        .ok()
        .filter(|seq| *seq > 0)
        .ok_or("is no cursor of an export")
}

fn to_wire(audited: Audited) -> pb::AuditEntry {
    let Audited { entry, sealed } = audited;
    pb::AuditEntry {
        name: format!("auditEntries/{}", entry.id),
        tenant_uid: entry.tenant.0.to_string(),
        create_time: Some(wire::timestamp(entry.at)),
        caller: entry.caller,
        method: entry.method,
        resources: entry.resources,
        request_id: entry
            .request_id
            .map(|id| id.to_string())
            .unwrap_or_default(),
        request_sha256: hex::encode(entry.request_hash),
        trace_id: entry.trace_id.unwrap_or_default(),
        written_count: entry.written,
        refused_count: entry.refused,
        seq: sealed.map_or(0, |head| head.seq),
        hash: sealed
            .map(|head| hex::encode(head.hash))
            .unwrap_or_default(),
    }
}
