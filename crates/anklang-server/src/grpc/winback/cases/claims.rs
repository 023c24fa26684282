//! Who has which case.

use anklang_domain::winback::Tile;
use anklang_domain::{TenantId, Violations, name};
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::tenant::Tenant;
use anklang_store::units::{self, Subject};
use anklang_store::winback::case::claim::{self, Claim, Terms, Wanted};
use anklang_store::{Conn, Tx};
use tonic::Request;

use super::{WinbackCasesApi, in_full, read, wire};
use crate::grpc::work_list::read::{claim as claim_of, seconds, words};
use crate::grpc::{ApiResult, Change, caller_in_units, check_worker, form};

pub(super) const MAX_GROUPS: usize = 100;
pub(super) const LONGEST_GROUP: usize = 200;
const MAX_BRANDS: usize = 100;

/// A claim as it is told.
async fn told(conn: &mut Conn, tenant: &Tenant, claim: Claim) -> ApiResult<pb::WinbackCaseClaim> {
    let shown = in_full(conn, tenant, claim.case.clone()).await?;
    Ok(wire::claim(&claim, shown))
}

/// What came next when the call was first made is told again to those who still see it.
async fn still_seen(
    tx: &mut Tx,
    tenant: TenantId,
    told: &pb::NextWinbackCaseResponse,
) -> ApiResult<()> {
    let claim = told.winback_case_claim.as_ref();
    let Some(case) = claim.and_then(|claim| claim.winback_case.as_ref()) else {
        return Ok(());
    };
    let mut violations = Violations::new();
    let id = read::case(&mut violations, "name", &case.name);
    let id = form::complete(violations, id)?;
    units::enter(tx, tenant, Subject::Case(id)).await?;
    Ok(())
}

impl WinbackCasesApi {
    pub(super) async fn next(
        &self,
        request: Request<pb::NextWinbackCaseRequest>,
    ) -> ApiResult<pb::NextWinbackCaseResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let worker = read::worker(&mut violations, &request.worker);
        let tiles = tiles(&request, &mut violations);
        let groups = words(
            &mut violations,
            "customer_groups",
            &request.customer_groups,
            MAX_GROUPS,
            LONGEST_GROUP,
        );
        let brands = brands(&request.brands, &mut violations);
        let after = match &request.after[..] {
            "" => None,
            text => read::case(&mut violations, "after", text),
        };
        let seconds = seconds(&mut violations, request.claim_seconds);
        let worker = form::complete(violations, worker)?;
        let wanted = Wanted {
            tiles: &tiles,
            groups: &groups,
            brands: &brands,
            after,
            control: request.include_control,
        };
        let terms = Terms {
            worker: &worker,
            seconds,
        };
        let mut tx = store.begin_in_order(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            still_seen(&mut tx, tenant.id, &done).await?;
            return Ok(done);
        }
        let mut response = pb::NextWinbackCaseResponse::default();
        match claim::next(&mut tx, tenant.id, &wanted, terms).await? {
            Some(claim) => {
                response.winback_case_claim = Some(told(&mut tx, tenant, claim).await?);
                change.finish(tx, &response).await?;
            }
            None => {
                change.finish_noted(tx, &response).await?;
            }
        }
        Ok(response)
    }

    pub(super) async fn claim(
        &self,
        request: Request<pb::ClaimWinbackCaseRequest>,
    ) -> ApiResult<pb::WinbackCaseClaim> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        check_worker(&request, &request.get_ref().worker)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::case(&mut violations, "name", &request.name);
        let worker = read::worker(&mut violations, &request.worker);
        let seconds = seconds(&mut violations, request.claim_seconds);
        let (id, worker) = form::complete(violations, id.zip(worker))?;
        let terms = Terms {
            worker: &worker,
            seconds,
        };
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Case(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let claimed = claim::this(&mut tx, tenant.id, id, terms).await?;
        let response = told(&mut tx, tenant, claimed).await?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn extend(
        &self,
        request: Request<pb::ExtendWinbackCaseRequest>,
    ) -> ApiResult<pb::WinbackCaseClaim> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::case(&mut violations, "name", &request.name);
        let claim = claim_of(&mut violations, &request.claim);
        let seconds = seconds(&mut violations, request.claim_seconds);
        let (id, claim) = form::complete(violations, id.zip(claim))?;
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Case(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let extended = claim::extend(&mut tx, tenant.id, id, claim, seconds).await?;
        let response = told(&mut tx, tenant, extended).await?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn release(
        &self,
        request: Request<pb::ReleaseWinbackCaseRequest>,
    ) -> ApiResult<pb::WinbackCase> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&caller, &request, &mut violations);
        let id = read::case(&mut violations, "name", &request.name);
        let claim = claim_of(&mut violations, &request.claim);
        let (id, claim) = form::complete(violations, id.zip(claim))?;
        let mut tx = store.begin_work(tenant.id).await?;
        units::enter(&mut tx, tenant.id, Subject::Case(id)).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let released = claim::release(&mut tx, tenant.id, id, claim).await?;
        let response = in_full(&mut tx, tenant, released).await?;
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

/// The tiles from which a case is wanted, in their order.
fn tiles(request: &pb::NextWinbackCaseRequest, violations: &mut Violations) -> Vec<Tile> {
    if request.tile == 0 {
        if !request.after.is_empty() {
            violations.add("after", "goes with a tile");
        }
        return vec![Tile::ReminderDue, Tile::Declining];
    }
    let tile = read::open_tile(violations, request.tile);
    tile.into_iter().collect()
}

pub(super) fn brands(given: &[String], violations: &mut Violations) -> Vec<String> {
    form::at_most(violations, "brands", given.len(), MAX_BRANDS);
    let mut codes = Vec::new();
    for (i, brand) in given.iter().take(MAX_BRANDS).enumerate() {
        let parsed = violations.check(format!("brands[{i}]"), name::parse(brand, ["brands"]));
        codes.extend(parsed.map(|[code]| code));
    }
    codes
}
