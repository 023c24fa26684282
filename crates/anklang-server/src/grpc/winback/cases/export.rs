//! Cases as a file. A page is read when the client took the one before, each in a transaction of its own:
//! memory is bounded by a page, however many cases there are.

use anklang_domain::Violations;
use anklang_domain::winback::Tile;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::Store;
use anklang_store::tenant::Tenant;
use anklang_store::winback::case;
use chrono::{NaiveDate, Utc};
use futures::stream::{self, BoxStream};
use tonic::{Request, Status};

use super::sheet::Sheet;
use super::{WinbackCasesApi, read};
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, caller, parts};

/// The parts of an export.
pub type Responses = BoxStream<'static, Result<pb::ExportWinbackCasesResponse, Status>>;

/// An export under way: what is left of it.
struct Export {
    store: Store,
    tenant: Tenant,
    tile: Option<Tile>,
    today: NaiveDate,
    listing: Listing,
    sheet: Sheet,
    /// The headings are still to come.
    begins: bool,
}

impl WinbackCasesApi {
    /// Exports from the beginning or from a cursor on.
    pub(super) async fn export(
        &self,
        request: Request<pb::ExportWinbackCasesRequest>,
    ) -> ApiResult<Responses> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let tile = read::tile(&mut violations, request.tile);
        let sheet = Sheet::read(&request, &mut violations);
        let (keys, of) = (&self.app.keys, &case::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let export = Export {
            store: self.app.store.clone(),
            today: tenant.day(Utc::now()),
            tenant,
            tile,
            listing,
            sheet,
            begins: request.cursor.is_empty(),
        };
        let cases = stream::try_unfold(Some(export), |export| async {
            match export {
                Some(export) => export.next().await.map_err(Status::from),
                None => Ok(None),
            }
        });
        Ok(parts::until_stopped(&self.app, cases))
    }
}

impl Export {
    /// The next part and what is left after it. The first has the headings and is never left out.
    async fn next(mut self) -> ApiResult<Option<(pb::ExportWinbackCasesResponse, Option<Self>)>> {
        let (tenant, list) = (self.tenant.id, &self.listing.list);
        let tx = self.store.begin_read(tenant).await?;
        let page = case::list(&tx, tenant, self.tile, self.today, list).await?;
        tx.commit().await?;
        if page.rows.is_empty() && !self.begins {
            return Ok(None);
        }
        let csv = self.sheet.lines(self.begins, &page.rows);
        let csv = csv.map_err(|e| ApiError::Internal(e.to_string()))?;
        let part = pb::ExportWinbackCasesResponse {
            csv: csv.into(),
            cursor: self.listing.token(page.next.clone()),
        };
        self.begins = false;
        let more = page.next.is_some_and(|key| self.listing.list.after(key));
        Ok(Some((part, more.then_some(self))))
    }
}
