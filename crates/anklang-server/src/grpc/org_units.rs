//! Org units.

use std::sync::Arc;

use anklang_domain::{Violations, name};
use anklang_proto::anklang::org::v1 as pb;
use anklang_store::org_unit::{self, OrgUnit};
use anklang_store::{Conn, Store, StoreError};
use tonic::{Request, Response, Status};

use super::listing::Listing;
use super::{ApiError, ApiResult, Change, caller, caller_in_units, form, reply, tagged, wire};
use crate::seal::Keys;

/// The service.
pub struct OrgUnitsApi {
    store: Store,
    keys: Arc<Keys>,
}

impl OrgUnitsApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        OrgUnitsApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::org_unit_service_server::OrgUnitService for OrgUnitsApi {
    async fn get_org_unit(
        &self,
        request: Request<pb::GetOrgUnitRequest>,
    ) -> Result<Response<pb::OrgUnit>, Status> {
        reply(self.get(request).await)
    }

    async fn list_org_units(
        &self,
        request: Request<pb::ListOrgUnitsRequest>,
    ) -> Result<Response<pb::ListOrgUnitsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_org_unit(
        &self,
        request: Request<pb::UpdateOrgUnitRequest>,
    ) -> Result<Response<pb::OrgUnit>, Status> {
        reply(self.update(request).await)
    }

    async fn delete_org_unit(
        &self,
        request: Request<pb::DeleteOrgUnitRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete(request).await)
    }
}

impl OrgUnitsApi {
    async fn get(&self, request: Request<pb::GetOrgUnitRequest>) -> ApiResult<pb::OrgUnit> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let [code] = form::ids("name", &request.name, ["orgUnits"])?;
        let found = store
            .read(tenant.id)
            .ask(|conn| org_unit::get(conn, tenant.id, &code))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    async fn list(
        &self,
        request: Request<pb::ListOrgUnitsRequest>,
    ) -> ApiResult<pb::ListOrgUnitsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &org_unit::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| org_unit::list(conn, tenant.id, &listing.list))
            .await?;
        Ok(pb::ListOrgUnitsResponse {
            next_page_token: listing.token(page.next),
            org_units: page.rows.into_iter().map(to_wire).collect(),
        })
    }

    async fn update(&self, request: Request<pb::UpdateOrgUnitRequest>) -> ApiResult<pb::OrgUnit> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .org_unit
            .ok_or_else(|| ApiError::field("org_unit", "is required"))?;
        let known = form::identify(&mut wanted.code, &wanted.name, "orgUnits");
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(code) = known.filter(|_| change.looks()) {
            org_unit::lock(&mut tx, tenant.id).await?;
            let current = org_unit::get(&tx, tenant.id, &code).await?.map(to_wire);
            let called = std::mem::take(&mut wanted.name);
            let name = name_of(Some(&code));
            wanted = change.settle(&name, current, wanted, request.allow_missing)?;
            wanted.name = called;
        }
        let key = [("orgUnits", &wanted.code[..])];
        form::check_name(&mut violations, "org_unit.name", &wanted.name, &key);
        let at = |field: &str| format!("org_unit.{field}");
        super::campaigns::text_of(&mut violations, &at("code"), &wanted.code, 1, 64);
        let name = &wanted.display_name;
        super::campaigns::text_of(&mut violations, &at("display_name"), name, 1, 200);
        let parent = optional_code(&at("parent"), &wanted.parent, &mut violations);
        violations.finish(())?;
        let (code, name) = (&wanted.code[..], name.trim());
        let missing = request.allow_missing;
        let parent = parent.as_deref();
        let saved = org_unit::replace(&mut tx, tenant.id, code, name, parent, missing)
            .await
            .map_err(|error| match error {
                StoreError::Invalid(found) => {
                    let mut violations = Violations::new();
                    violations.extend_under("org_unit.", found);
                    ApiError::Invalid(violations)
                }
                other => other.into(),
            })?;
        let response = to_wire(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn delete(&self, request: Request<pb::DeleteOrgUnitRequest>) -> ApiResult<()> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let code = violations.check("name", name::parse(&request.name, ["orgUnits"]));
        let [code] = form::complete(violations, code)?;
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            org_unit::lock(&mut tx, tenant.id).await?;
            if let Some(current) = org_unit::get(&tx, tenant.id, &code).await? {
                change.check(&request.name, &to_wire(current))?;
            }
        }
        org_unit::delete(&mut tx, tenant.id, &code).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

/// The code of an org unit that may be left out.
pub fn optional_code(field: &str, text: &str, violations: &mut Violations) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    violations
        .check(field, name::parse(text, ["orgUnits"]))
        .map(|[code]| code)
}

/// The name of an org unit; empty for none.
pub fn name_of(code: Option<&str>) -> String {
    code.map_or_else(String::new, |code| name::format(&[("orgUnits", code)]))
}

/// Says which of the org units do not exist; the others stay until the end of the transaction.
pub async fn check_known(
    conn: &mut Conn,
    tenant: anklang_domain::TenantId,
    field: &str,
    codes: &[String],
    violations: &mut Violations,
) -> ApiResult<()> {
    for code in org_unit::hold(conn, tenant, codes).await? {
        violations.add(field, format!("{} does not exist", name_of(Some(&code))));
    }
    Ok(())
}

fn to_wire(unit: OrgUnit) -> pb::OrgUnit {
    tagged(pb::OrgUnit {
        name: name_of(Some(&unit.code)),
        code: unit.code,
        display_name: unit.name,
        parent: name_of(unit.parent_code.as_deref()),
        create_time: Some(wire::timestamp(unit.created_at)),
        update_time: Some(wire::timestamp(unit.updated_at)),
        etag: String::new(),
    })
}
