//! Winback cases: tiles, lists, exports, and what people do.

mod analysis;
mod claims;
pub(super) mod deeds;
mod export;
pub(super) mod read;
mod sheet;
mod tiles;
mod wire;

use anklang_domain::Violations;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::Conn;
use anklang_store::tenant::Tenant;
use anklang_store::winback::case::{self, Case, event};
use anklang_store::winback::settings;
use chrono::Utc;
use tonic::{Request, Response, Status};

use super::super::form;
use super::super::listing::Listing;
use super::super::{ApiError, ApiResult, caller_in_units, reply};
use crate::work::App;

/// The service.
pub struct WinbackCasesApi {
    /// What it works with.
    pub app: App,
}

macro_rules! calls {
    ($($method:ident: $handler:ident($request:ident) -> $response:ty),+ $(,)?) => {
        #[tonic::async_trait]
        impl pb::winback_case_service_server::WinbackCaseService for WinbackCasesApi {
            $(async fn $method(
                &self,
                request: Request<pb::$request>,
            ) -> Result<Response<$response>, Status> {
                reply(self.$handler(request).await)
            })+

            type ExportWinbackCasesStream = export::Responses;

            async fn export_winback_cases(
                &self,
                request: Request<pb::ExportWinbackCasesRequest>,
            ) -> Result<Response<Self::ExportWinbackCasesStream>, Status> {
                reply(self.export(request).await)
            }
        }
    };
}

calls! {
    get_winback_tiles: tiles(GetWinbackTilesRequest) -> pb::WinbackTiles,
    get_winback_case: get(GetWinbackCaseRequest) -> pb::WinbackCase,
    list_winback_cases: list(ListWinbackCasesRequest) -> pb::ListWinbackCasesResponse,
    list_winback_case_events: events(ListWinbackCaseEventsRequest) -> pb::ListWinbackCaseEventsResponse,
    analyse_winback: analyse(AnalyseWinbackRequest) -> pb::AnalyseWinbackResponse,
    next_winback_case: next(NextWinbackCaseRequest) -> pb::NextWinbackCaseResponse,
    claim_winback_case: claim(ClaimWinbackCaseRequest) -> pb::WinbackCaseClaim,
    extend_winback_case: extend(ExtendWinbackCaseRequest) -> pb::WinbackCaseClaim,
    release_winback_case: release(ReleaseWinbackCaseRequest) -> pb::WinbackCase,
    close_winback_case: close(CloseWinbackCaseRequest) -> pb::WinbackCase,
    request_winback_offer: request_offer(RequestWinbackOfferRequest) -> pb::WinbackCase,
    remind_winback_case: remind(RemindWinbackCaseRequest) -> pb::WinbackCase,
    add_winback_remark: remark(AddWinbackRemarkRequest) -> pb::WinbackCase,
}

/// A case with its links and the products of the newest order.
async fn in_full(conn: &mut Conn, tenant: &Tenant, row: Case) -> ApiResult<pb::WinbackCase> {
    let links = settings::get(conn, tenant.id).await?.settings.links;
    let products = match &row.last_order_number {
        Some(order) => case::products(conn, tenant.id, order).await?,
        None => Vec::new(),
    };
    let shown = wire::case(row, tenant.day(Utc::now()));
    Ok(wire::with_links(shown, &links, products))
}

impl WinbackCasesApi {
    async fn get(&self, request: Request<pb::GetWinbackCaseRequest>) -> ApiResult<pb::WinbackCase> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let mut violations = Violations::new();
        let id = read::case(&mut violations, "name", &request.get_ref().name);
        let id = form::complete(violations, id)?;
        let mut tx = store.begin_work(tenant.id).await?;
        let row = case::found(&mut tx, tenant.id, id).await?;
        let response = in_full(&mut tx, tenant, row).await?;
        tx.commit().await?;
        Ok(response)
    }

    async fn list(
        &self,
        request: Request<pb::ListWinbackCasesRequest>,
    ) -> ApiResult<pb::ListWinbackCasesResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let tile = read::tile(&mut violations, request.tile);
        let (keys, of) = (&self.app.keys, &case::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let today = tenant.day(Utc::now());
        let page = store
            .read(tenant.id)
            .ask(|conn| case::list(conn, tenant.id, tile, today, &listing.list))
            .await?;
        Ok(pb::ListWinbackCasesResponse {
            next_page_token: listing.token(page.next),
            winback_cases: (page.rows.into_iter())
                .map(|row| wire::case(row, today))
                .collect(),
        })
    }

    async fn events(
        &self,
        request: Request<pb::ListWinbackCaseEventsRequest>,
    ) -> ApiResult<pb::ListWinbackCaseEventsResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = read::case(&mut violations, "parent", &request.parent);
        let (keys, of) = (&self.app.keys, &event::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        let id = form::complete(violations, id)?;
        let tx = store.begin(tenant.id).await?;
        if case::get(&tx, tenant.id, id).await?.is_none() {
            return Err(ApiError::NotFound(case::resource(id)));
        }
        let page = event::list(&tx, tenant.id, id, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListWinbackCaseEventsResponse {
            next_page_token: listing.token(page.next),
            winback_case_events: page.rows.into_iter().map(wire::event).collect(),
        })
    }
}
