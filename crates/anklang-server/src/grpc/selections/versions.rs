//! What selections were, and copies of them.

use anklang_domain::selection::Subject;
use anklang_domain::{SelectionId, Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::selection::{self, SelectionVersion};
use tonic::Request;
use uuid::Uuid;

use super::criteria::{criteria_to_proto, subject_to_proto};
use super::exclusions::Exclusions;
use super::{SelectionsApi, check_display_name, held, prepare_saved, to_wire};
use crate::grpc::listing::Listing;
use crate::grpc::org_units::{check_known, optional_code};
use crate::grpc::{ApiError, ApiResult, Change, caller, caller_in_units, form, wire};

/// The most org units that a selection is shared with.
const MAX_SHARED: usize = 100;

impl SelectionsApi {
    pub(super) async fn copy(
        &self,
        request: Request<pb::CopySelectionRequest>,
    ) -> ApiResult<pb::Selection> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let from = violations.check("name", name::parse_uuid(&request.name, "selections"));
        if !request.display_name.is_empty() {
            check_display_name(&request.display_name, "display_name", &mut violations);
        }
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let unit = optional_code("org_unit", &request.org_unit, &mut violations);
        check_known(
            &mut tx,
            tenant.id,
            "org_unit",
            unit.as_slice(),
            &mut violations,
        )
        .await?;
        let from = SelectionId(form::complete(violations, from)?);
        if change.looks() {
            change.check(&request.name, &held(&mut tx, &tenant, from).await?)?;
        }
        let from = selection::get(&tx, tenant.id, from).await?;
        let prepared = prepare_saved(&mut tx, &tenant, &from).await?;
        let name = match &*request.display_name {
            "" => &from.name,
            name => name,
        };
        let unit = unit.as_deref();
        let copied = selection::copy(&mut tx, &from, name, &prepared, unit).await?;
        let response = to_wire(&copied);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn share(
        &self,
        request: Request<pb::ShareSelectionRequest>,
    ) -> ApiResult<pb::Selection> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse_uuid(&request.name, "selections"));
        let unit = optional_code("org_unit", &request.org_unit, &mut violations);
        if request.shared_with.len() > MAX_SHARED {
            violations.add("shared_with", format!("must be at most {MAX_SHARED}"));
        }
        let named = request.shared_with.iter().take(MAX_SHARED).enumerate();
        let mut shared: Vec<String> = named
            .filter_map(|(i, text)| {
                let field = format!("shared_with[{i}]");
                violations
                    .check(field, name::parse(text, ["orgUnits"]))
                    .map(|[code]| code)
            })
            .collect();
        shared.sort_unstable();
        shared.dedup();
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        for (field, codes) in [("org_unit", unit.as_slice()), ("shared_with", &shared)] {
            check_known(&mut tx, tenant.id, field, codes, &mut violations).await?;
        }
        let id = SelectionId(form::complete(violations, id)?);
        if change.looks() {
            change.check(&request.name, &held(&mut tx, &tenant, id).await?)?;
        }
        let saved = selection::share(&mut tx, tenant.id, id, unit.as_deref(), &shared).await?;
        let response = to_wire(&saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn list_versions(
        &self,
        request: Request<pb::ListSelectionVersionsRequest>,
    ) -> ApiResult<pb::ListSelectionVersionsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let id = violations.check("parent", name::parse_uuid(&request.parent, "selections"));
        let of = &selection::VERSIONS;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        let id = SelectionId(form::complete(violations, id)?);
        let mut tx = store.begin(tenant.id).await?;
        let subject = selection::get(&tx, tenant.id, id).await?.subject;
        let page = selection::versions(&mut tx, tenant.id, id, &listing.list).await?;
        tx.commit().await?;
        let rows = page.rows.iter();
        Ok(pb::ListSelectionVersionsResponse {
            selection_versions: rows.map(|v| version_to_wire(id, subject, v)).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    pub(super) async fn get_version(
        &self,
        request: Request<pb::GetSelectionVersionRequest>,
    ) -> ApiResult<pb::SelectionVersion> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let (id, number) = version_name(&request.into_inner().name)?;
        let mut tx = store.begin(tenant.id).await?;
        let subject = selection::get(&tx, tenant.id, id).await?.subject;
        let version = selection::version(&mut tx, tenant.id, id, number).await?;
        tx.commit().await?;
        Ok(version_to_wire(id, subject, &version))
    }

    pub(super) async fn restore(
        &self,
        request: Request<pb::RestoreSelectionVersionRequest>,
    ) -> ApiResult<pb::Selection> {
        let tenant = caller(&self.store, &request).await?;
        let exclusions = Exclusions::of(&request)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        violations.finish(())?;
        let (id, number) = version_name(&request.name)?;
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        exclusions.check(&mut tx, &tenant, id).await?;
        if change.looks() {
            let name = name::format(&[("selections", &id.to_string())]);
            change.check(&name, &held(&mut tx, &tenant, id).await?)?;
        }
        let mut wanted = selection::get(&tx, tenant.id, id).await?;
        let version = selection::version(&mut tx, tenant.id, id, number).await?;
        wanted.criteria = version.criteria;
        let prepared = prepare_saved(&mut tx, &tenant, &wanted).await?;
        let (name, description) = (&version.name, &version.description);
        let saved = selection::update(&mut tx, id, name, description, &prepared).await?;
        let response = to_wire(&saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

fn version_name(text: &str) -> ApiResult<(SelectionId, i32)> {
    const FORM: &str = "must have the form selections/{uuid}/versions/{version}";
    let wrong = || ApiError::field("name", FORM);
    let [id, number] = name::parse(text, ["selections", "versions"]).map_err(|_| wrong())?;
    let id = Uuid::try_parse(&id).map_err(|_| wrong())?;
    Ok((SelectionId(id), number.parse().map_err(|_| wrong())?))
}

fn version_to_wire(
    id: SelectionId,
    subject: Subject,
    version: &SelectionVersion,
) -> pb::SelectionVersion {
    let number = version.version.to_string();
    pb::SelectionVersion {
        name: name::format(&[("selections", &id.to_string()), ("versions", &number)]),
        version: version.version,
        display_name: version.name.clone(),
        description: version.description.clone(),
        subject: subject_to_proto(subject).into(),
        criteria: Some(criteria_to_proto(&version.criteria)),
        create_time: Some(wire::timestamp(version.created_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_versions_have_a_number() {
        let id = "01930000-0000-7000-8000-000000000001";
        let read = version_name(&format!("selections/{id}/versions/2")).expect("a name");
        assert_eq!((read.0.to_string(), read.1), (id.to_owned(), 2));
        for wrong in [
            "",
            "selections/1/versions/1",
            &format!("selections/{id}/versions/x"),
        ] {
            assert!(version_name(wrong).is_err(), "{wrong}");
        }
    }
}
