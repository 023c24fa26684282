//! The tenant's own outcomes.

use anklang_domain::{Violations, account, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::work::outcome::{self, ContactOutcome};
use tonic::Request;

use super::super::listing::Listing;
use super::super::wire::timestamp;
use super::super::{ApiError, ApiResult, Change, caller, caller_in_units, form, tagged};
use super::{WorkListApi, read, wire};

const LONGEST_NAME: usize = 200;

impl WorkListApi {
    pub(super) async fn outcome(
        &self,
        request: Request<pb::GetContactOutcomeRequest>,
    ) -> ApiResult<pb::ContactOutcome> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let name = request.into_inner().name;
        let [id] = form::ids("name", &name, ["contactOutcomes"])?;
        let found = store
            .read(tenant.id)
            .ask(|conn| outcome::get(conn, tenant.id, &id))
            .await?;
        to_wire(found.ok_or(ApiError::NotFound(name))?)
    }

    pub(super) async fn outcomes(
        &self,
        request: Request<pb::ListContactOutcomesRequest>,
    ) -> ApiResult<pb::ListContactOutcomesResponse> {
        let caller = caller_in_units(&self.app.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &outcome::LISTABLE);
        let listing = Listing::read(keys, &caller, of, &request, &mut violations);
        violations.finish(())?;
        let page = store
            .read(tenant.id)
            .ask(|conn| outcome::list(conn, tenant.id, &listing.list))
            .await?;
        let outcomes: ApiResult<Vec<_>> = page.rows.into_iter().map(to_wire).collect();
        Ok(pb::ListContactOutcomesResponse {
            next_page_token: listing.token(page.next),
            contact_outcomes: outcomes?,
        })
    }

    pub(super) async fn update_outcome(
        &self,
        request: Request<pb::UpdateContactOutcomeRequest>,
    ) -> ApiResult<pb::ContactOutcome> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut given = request
            .contact_outcome
            .ok_or_else(|| ApiError::field("contact_outcome", "is required"))?;
        let id = name::parse(&given.name, ["contactOutcomes"]);
        let id = violations.check("contact_outcome.name", id).map(|[id]| id);
        if id.as_deref().is_some_and(|id| !account::is_id(id)) {
            let form = "must end in 1 to 63 of a–z, 0–9 and hyphens";
            violations.add("contact_outcome.name", form);
        }
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks()
            && let Some(id) = &id
        {
            hold(&mut tx, tenant.id, Held::ContactOutcome(id)).await?;
            let current = outcome::get(&tx, tenant.id, id).await?;
            let current = current.map(to_wire).transpose()?;
            given = change.settle(
                &outcome::resource(id),
                current,
                given,
                request.allow_missing,
            )?;
        }
        let display_name = given.display_name.trim();
        let at = "contact_outcome.display_name";
        read::text(&mut violations, at, display_name, LONGEST_NAME);
        if display_name.is_empty() {
            violations.add(at, "is required");
        }
        let at = "contact_outcome.outcome_class";
        let class = read::class(&mut violations, at, given.outcome_class);
        if given.outcome_class == 0 {
            violations.add(at, "is required");
        }
        let (id, class) = form::complete(violations, id.zip(class))?;
        let missing = request.allow_missing;
        let saved = outcome::replace(&mut tx, tenant.id, &id, display_name, class, missing).await?;
        let response = to_wire(saved)?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn delete_outcome(
        &self,
        request: Request<pb::DeleteContactOutcomeRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse(&request.name, ["contactOutcomes"]));
        let [id] = form::complete(violations, id)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if change.looks() {
            hold(&mut tx, tenant.id, Held::ContactOutcome(&id)).await?;
            let current = outcome::get(&tx, tenant.id, &id).await?;
            let current = current.ok_or_else(|| ApiError::NotFound(request.name.clone()))?;
            change.check(&request.name, &to_wire(current)?)?;
        }
        outcome::delete(&mut tx, tenant.id, &id).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

fn to_wire(row: ContactOutcome) -> ApiResult<pb::ContactOutcome> {
    Ok(tagged(pb::ContactOutcome {
        name: outcome::resource(&row.id),
        outcome_class: wire::class_of(row.class()?),
        display_name: row.name,
        create_time: Some(timestamp(row.created_at)),
        update_time: Some(timestamp(row.updated_at)),
        etag: String::new(),
    }))
}
