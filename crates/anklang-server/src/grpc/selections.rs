//! Selections: saved criteria, previews, and what criteria can use.

pub(super) mod criteria;
mod exclusions;
mod members;
mod preset_use;
mod source;
mod ticks;
mod versions;

use std::collections::BTreeSet;
use std::time::Duration;

use std::sync::Arc;

use anklang_domain::{SelectionId, Violations, name};
use anklang_proto::anklang::selections::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::selection::registry::{Entity, FieldType};
use anklang_store::selection::{
    self, ATTRIBUTE_PREFIX, Attributes, Prepared, Preview, Sample, Selection,
};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, Store, StoreError};
use chrono::Utc;
use tonic::{Request, Response, Status};

pub use criteria::{
    criteria_to_proto, prepare, prepare_ad_hoc, subject_from_proto, subject_to_proto,
};

pub use preset_use::prepare_preset;

use exclusions::Exclusions;
use source::Source;

use super::error::Denied;
use super::form;
use super::listing::Listing;
use super::org_units::{check_known, name_of, optional_code};
use super::{ApiError, ApiResult, Change, caller, caller_in_units, reply, tagged, wire};
use crate::seal::Keys;

/// The most characters of a selection's name.
const MAX_NAME: usize = 200;
/// The most characters of a selection's description.
const MAX_DESCRIPTION: usize = 2_000;
/// The most examples of a preview.
const MAX_SAMPLE: i32 = 100;
/// How long the database may work on a preview, or on a page of members.
const PREVIEW_TIMEOUT: Duration = Duration::from_secs(30);

/// The service.
pub struct SelectionsApi {
    store: Store,
    keys: Arc<Keys>,
}

impl SelectionsApi {
    /// The service on a database; `keys` seal its page tokens.
    pub fn new(store: Store, keys: Arc<Keys>) -> Self {
        SelectionsApi { store, keys }
    }
}

#[tonic::async_trait]
impl pb::selection_service_server::SelectionService for SelectionsApi {
    async fn create_selection(
        &self,
        request: Request<pb::CreateSelectionRequest>,
    ) -> Result<Response<pb::Selection>, Status> {
        reply(self.create(request).await)
    }

    async fn get_selection(
        &self,
        request: Request<pb::GetSelectionRequest>,
    ) -> Result<Response<pb::Selection>, Status> {
        reply(self.get(request).await)
    }

    async fn list_selections(
        &self,
        request: Request<pb::ListSelectionsRequest>,
    ) -> Result<Response<pb::ListSelectionsResponse>, Status> {
        reply(self.list(request).await)
    }

    async fn update_selection(
        &self,
        request: Request<pb::UpdateSelectionRequest>,
    ) -> Result<Response<pb::Selection>, Status> {
        reply(self.update(request).await)
    }

    async fn copy_selection(
        &self,
        request: Request<pb::CopySelectionRequest>,
    ) -> Result<Response<pb::Selection>, Status> {
        reply(self.copy(request).await)
    }

    async fn share_selection(
        &self,
        request: Request<pb::ShareSelectionRequest>,
    ) -> Result<Response<pb::Selection>, Status> {
        reply(self.share(request).await)
    }

    async fn list_selection_versions(
        &self,
        request: Request<pb::ListSelectionVersionsRequest>,
    ) -> Result<Response<pb::ListSelectionVersionsResponse>, Status> {
        reply(self.list_versions(request).await)
    }

    async fn get_selection_version(
        &self,
        request: Request<pb::GetSelectionVersionRequest>,
    ) -> Result<Response<pb::SelectionVersion>, Status> {
        reply(self.get_version(request).await)
    }

    async fn restore_selection_version(
        &self,
        request: Request<pb::RestoreSelectionVersionRequest>,
    ) -> Result<Response<pb::Selection>, Status> {
        reply(self.restore(request).await)
    }

    async fn update_selection_ticks(
        &self,
        request: Request<pb::UpdateSelectionTicksRequest>,
    ) -> Result<Response<pb::SelectionTicks>, Status> {
        reply(self.update_ticks(request).await)
    }

    async fn list_selection_ticks(
        &self,
        request: Request<pb::ListSelectionTicksRequest>,
    ) -> Result<Response<pb::ListSelectionTicksResponse>, Status> {
        reply(self.list_ticks(request).await)
    }

    async fn list_selection_members(
        &self,
        request: Request<pb::ListSelectionMembersRequest>,
    ) -> Result<Response<pb::ListSelectionMembersResponse>, Status> {
        reply(self.list_members(request).await)
    }

    async fn explain_selection(
        &self,
        request: Request<pb::ExplainSelectionRequest>,
    ) -> Result<Response<pb::ExplainSelectionResponse>, Status> {
        reply(self.explain(request).await)
    }

    async fn delete_selection(
        &self,
        request: Request<pb::DeleteSelectionRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete(request).await)
    }

    async fn preview_selection(
        &self,
        request: Request<pb::PreviewSelectionRequest>,
    ) -> Result<Response<pb::PreviewSelectionResponse>, Status> {
        reply(self.preview(request).await)
    }

    async fn list_selection_fields(
        &self,
        request: Request<pb::ListSelectionFieldsRequest>,
    ) -> Result<Response<pb::ListSelectionFieldsResponse>, Status> {
        reply(self.list_fields(request).await)
    }
}

impl SelectionsApi {
    async fn create(
        &self,
        request: Request<pb::CreateSelectionRequest>,
    ) -> ApiResult<pb::Selection> {
        let tenant = caller(&self.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let prepared = read(
            &mut tx,
            &tenant,
            request.selection.as_ref(),
            request.preset.as_ref(),
            &mut violations,
        )
        .await?;
        let unit = optional_code("org_unit", &request.org_unit, &mut violations);
        check_known(
            &mut tx,
            tenant.id,
            "org_unit",
            unit.as_slice(),
            &mut violations,
        )
        .await?;
        let (wanted, prepared) = whole(request.selection.as_ref(), prepared, violations)?;
        let saved = selection::create(
            &mut tx,
            &wanted.display_name,
            &wanted.description,
            &prepared,
            unit.as_deref(),
        )
        .await?;
        let response = to_wire(&saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn get(&self, request: Request<pb::GetSelectionRequest>) -> ApiResult<pb::Selection> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let id = selection_id(&request.into_inner().name, "name")?;
        let found = store
            .read(tenant.id)
            .ask(|conn| selection::get(conn, tenant.id, id))
            .await?;
        Ok(to_wire(&found))
    }

    async fn list(
        &self,
        request: Request<pb::ListSelectionsRequest>,
    ) -> ApiResult<pb::ListSelectionsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        let of = &selection::LISTABLE;
        let listing = Listing::read(&self.keys, &caller, of, &request, &mut violations);
        let unit = optional_code("visible_to", &request.visible_to, &mut violations);
        let mut tx = store.begin(tenant.id).await?;
        check_known(
            &mut tx,
            tenant.id,
            "visible_to",
            unit.as_slice(),
            &mut violations,
        )
        .await?;
        violations.finish(())?;
        let page = selection::list(&tx, tenant.id, unit.as_deref(), &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListSelectionsResponse {
            selections: page.rows.iter().map(to_wire).collect(),
            next_page_token: listing.token(page.next),
        })
    }

    async fn update(
        &self,
        request: Request<pb::UpdateSelectionRequest>,
    ) -> ApiResult<pb::Selection> {
        let tenant = caller(&self.store, &request).await?;
        let exclusions = Exclusions::of(&request)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let (mut wanted, preset) = (request.selection, request.preset);
        let id = wanted.as_ref().and_then(|s| {
            violations.check("selection.name", name::parse_uuid(&s.name, "selections"))
        });
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(id) = id {
            exclusions.check(&mut tx, &tenant, SelectionId(id)).await?;
        }
        if let Some((id, given)) = id.filter(|_| change.looks()).zip(wanted.as_mut()) {
            let current = held(&mut tx, &tenant, SelectionId(id)).await?;
            let of_preset = preset
                .as_ref()
                .map(|_| (given.subject, given.criteria.clone()));
            *given = change.settle(&given.name, Some(current), given.clone(), false)?;
            if let Some(of_preset) = of_preset {
                (given.subject, given.criteria) = of_preset;
            }
        }
        let prepared = read(
            &mut tx,
            &tenant,
            wanted.as_ref(),
            preset.as_ref(),
            &mut violations,
        )
        .await?;
        let (wanted, prepared) = whole(wanted.as_ref(), prepared, violations)?;
        let id = id.ok_or_else(|| ApiError::field("selection.name", "is required"))?;
        let saved = selection::update(
            &mut tx,
            SelectionId(id),
            &wanted.display_name,
            &wanted.description,
            &prepared,
        )
        .await
        .map_err(|error| match error {
            StoreError::Invalid(found) => {
                let mut violations = Violations::new();
                violations.extend_under("selection.", found);
                ApiError::Invalid(violations)
            }
            other => other.into(),
        })?;
        let response = to_wire(&saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    async fn delete(&self, request: Request<pb::DeleteSelectionRequest>) -> ApiResult<()> {
        let tenant = caller(&self.store, &request).await?;
        let exclusions = Exclusions::of(&request)?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse_uuid(&request.name, "selections"));
        let id = SelectionId(form::complete(violations, id)?);
        let mut tx = self.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        exclusions.check(&mut tx, &tenant, id).await?;
        if change.looks() {
            change.check(&request.name, &held(&mut tx, &tenant, id).await?)?;
        }
        selection::delete(&mut tx, tenant.id, id).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }

    async fn preview(
        &self,
        request: Request<pb::PreviewSelectionRequest>,
    ) -> ApiResult<pb::PreviewSelectionResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let request = request.into_inner();
        let mut violations = Violations::new();
        if !(0..=MAX_SAMPLE).contains(&request.sample_size) {
            violations.add("sample_size", format!("must be between 0 and {MAX_SAMPLE}"));
        }
        let mode = pb::PreviewMode::try_from(request.mode);
        if mode.is_err() {
            violations.add("mode", "is no PreviewMode");
        }
        let estimates = mode == Ok(pb::PreviewMode::Estimate);
        if estimates && request.sample_size != 0 {
            violations.add("sample_size", "must be 0 with PREVIEW_MODE_ESTIMATE");
        }
        let mut tx = store.begin_read(tenant.id).await?;
        if estimates && tx.is_bound() {
            // It goes by statistics of all customers.
            return Err(Denied::Bound("PREVIEW_MODE_ESTIMATE").into());
        }
        let source = request.source.as_ref().map(Source::from);
        let found = source::prepared(&mut tx, tenant, source, &mut violations).await?;
        let subject = found.as_ref().map(|(prepared, _)| prepared.subject());
        let mut numbers = Vec::new();
        for (field, names) in [("include", &request.include), ("exclude", &request.exclude)] {
            let Some(subject) = subject else { continue };
            let read = ticks::numbers(field, names, subject, &mut violations);
            if read.len() == names.len() {
                selection::unknown(&mut tx, tenant.id, subject, &read, field, &mut violations)
                    .await?;
            }
            numbers.push(read);
        }
        violations.finish(())?;
        let (mut prepared, saved) = found.ok_or_else(unexplained)?;
        if let Some(id) = saved {
            prepared = prepared.with_ticks_of(&mut tx, id).await?;
        }
        let exclude = numbers.pop().unwrap_or_default();
        let include = numbers.pop().unwrap_or_default();
        let prepared = prepared.with_numbers(include, exclude);
        let response = if estimates {
            let estimate = selection::estimate(&mut tx, &prepared).await?;
            pb::PreviewSelectionResponse {
                estimated_count: estimate.rows,
                estimated_cost: estimate.cost,
                ..Default::default()
            }
        } else {
            let size = request.sample_size.into();
            let preview = selection::preview(&mut tx, &prepared, size, PREVIEW_TIMEOUT).await?;
            preview_to_wire(preview)
        };
        tx.commit().await?;
        Ok(response)
    }

    async fn list_fields(
        &self,
        request: Request<pb::ListSelectionFieldsRequest>,
    ) -> ApiResult<pb::ListSelectionFieldsResponse> {
        let caller = caller_in_units(&self.store, &request).await?;
        let (tenant, store) = (&caller.tenant, &caller.store);
        let mut violations = Violations::new();
        let subject = subject_from_proto(request.into_inner().subject, "subject", &mut violations);
        violations.finish(())?;
        let root = Entity::from(subject.ok_or_else(unexplained)?);
        let attributes = store
            .read(tenant.id)
            .ask(|conn| Attributes::load(conn, tenant.id))
            .await?;
        Ok(pb::ListSelectionFieldsResponse {
            fields: fields(root, &attributes),
            relations: relations(root, &attributes),
        })
    }
}

/// For what cannot be: a value that is missing although nothing was wrong with it.
fn unexplained() -> ApiError {
    ApiError::Internal("a request without faults and without values".into())
}

/// A selection that does not change until the end of the transaction.
async fn held(conn: &mut Conn, tenant: &Tenant, id: SelectionId) -> ApiResult<pb::Selection> {
    hold(conn, tenant.id, Held::Selection(id)).await?;
    Ok(to_wire(&selection::get(conn, tenant.id, id).await?))
}

fn selection_id(text: &str, field: &str) -> ApiResult<SelectionId> {
    let mut violations = Violations::new();
    let id = violations.check(field, name::parse_uuid(text, "selections"));
    violations.finish(())?;
    Ok(SelectionId(id.ok_or_else(unexplained)?))
}

/// Checks a selection to be saved.
async fn read(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: Option<&pb::Selection>,
    preset: Option<&pb::PresetUse>,
    violations: &mut Violations,
) -> ApiResult<Option<Prepared>> {
    let Some(wanted) = wanted else {
        violations.add("selection", "is required");
        return Ok(None);
    };
    check_display_name(&wanted.display_name, "selection.display_name", violations);
    check_description(&wanted.description, "selection.description", violations);
    if let Some(used) = preset {
        for (field, is_there) in [
            ("selection.criteria", wanted.criteria.is_some()),
            ("selection.subject", wanted.subject != 0),
        ] {
            if is_there {
                violations.add(field, "must be empty when a preset is given");
            }
        }
        let now = Utc::now();
        return prepare_preset(conn, tenant, used, "preset", now, violations).await;
    }
    let subject = subject_from_proto(wanted.subject, "selection.subject", violations);
    let criteria = wanted.criteria.as_ref();
    let path = "selection.criteria";
    prepare(
        conn,
        tenant,
        subject,
        criteria,
        path,
        Utc::now(),
        violations,
    )
    .await
}

/// Checks what people call something.
pub(super) fn check_display_name(text: &str, field: &str, violations: &mut Violations) {
    if !(1..=MAX_NAME).contains(&text.chars().count()) || text.trim().is_empty() {
        violations.add(field, format!("must have 1 to {MAX_NAME} characters"));
    }
    if text.chars().any(char::is_control) {
        violations.add(field, "must not hold control characters");
    }
}

/// Checks what something is for.
pub(super) fn check_description(text: &str, field: &str, violations: &mut Violations) {
    if text.chars().count() > MAX_DESCRIPTION {
        violations.add(
            field,
            format!("must have at most {MAX_DESCRIPTION} characters"),
        );
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        violations.add(
            field,
            "must not hold control characters other than line feeds",
        );
    }
}

/// The parts of a selection to be saved, if nothing is wrong.
fn whole(
    wanted: Option<&pb::Selection>,
    prepared: Option<Prepared>,
    violations: Violations,
) -> ApiResult<(&pb::Selection, Prepared)> {
    violations.finish(())?;
    wanted.zip(prepared).ok_or_else(unexplained)
}

/// A saved selection, prepared for today, without its ticks.
async fn prepare_saved(conn: &mut Conn, tenant: &Tenant, saved: &Selection) -> ApiResult<Prepared> {
    selection::prepare(conn, tenant, saved.subject, &saved.criteria, Utc::now())
        .await
        .map_err(|error| match error {
            // Right when they were saved, so nothing is wrong with this request.
            StoreError::Invalid(violations) => ApiError::Store(StoreError::Refused {
                resource: name::format(&[("selections", &saved.id.to_string())]),
                reason: format!("does not hold any more: {violations}"),
            }),
            other => other.into(),
        })
}

fn to_wire(selection: &Selection) -> pb::Selection {
    tagged(pb::Selection {
        name: name::format(&[("selections", &selection.id.to_string())]),
        display_name: selection.name.clone(),
        description: selection.description.clone(),
        subject: subject_to_proto(selection.subject).into(),
        criteria: Some(criteria_to_proto(&selection.criteria)),
        version: selection.version,
        org_unit: name_of(selection.org_unit.as_deref()),
        shared_with: selection
            .shared_with
            .iter()
            .map(|c| name_of(Some(c)))
            .collect(),
        create_time: Some(wire::timestamp(selection.created_at)),
        update_time: Some(wire::timestamp(selection.updated_at)),
        etag: String::new(),
    })
}

fn preview_to_wire(preview: Preview) -> pb::PreviewSelectionResponse {
    let row = |sample: Sample| pb::PreviewRow {
        customer: name::format(&[("customers", &sample.customer)]),
        contract: sample.contract.map_or_else(String::new, |number| {
            name::format(&[("contracts", &number)])
        }),
        display_name: sample.name,
        place: sample.place,
    };
    pb::PreviewSelectionResponse {
        count: preview.count,
        customers: preview.customers,
        sample: preview.sample.into_iter().map(row).collect(),
        ..Default::default()
    }
}

fn fields(entity: Entity, attributes: &Attributes) -> Vec<pb::SelectionField> {
    let operators = |all: &[anklang_domain::selection::Operator]| {
        all.iter()
            .map(|o| criteria::operator_to_proto(*o).into())
            .collect()
    };
    let known = entity.fields().iter().map(|field| pb::SelectionField {
        field: field.name.to_owned(),
        r#type: field_type(field.ty).into(),
        operators: operators(field.operators()),
        description: field.description.to_owned(),
    });
    let imported = attributes.of(entity).map(|(key, ty)| pb::SelectionField {
        field: format!("{ATTRIBUTE_PREFIX}{key}"),
        r#type: field_type(ty).into(),
        operators: operators(ty.operators()),
        description: "Imported attribute.".to_owned(),
    });
    known.chain(imported).collect()
}

/// All relations that can be reached, the nearest first, each name once: one name leads to one
/// entity wherever it starts.
fn relations(root: Entity, attributes: &Attributes) -> Vec<pb::SelectionRelation> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    let mut entities = vec![root];
    let mut next = 0;
    while let Some(entity) = entities.get(next).copied() {
        next += 1;
        for relation in entity.relations() {
            if !entities.contains(&relation.to) {
                entities.push(relation.to);
            }
            if names.insert(relation.name) {
                found.push(pb::SelectionRelation {
                    relation: relation.name.to_owned(),
                    description: relation.description.to_owned(),
                    fields: fields(relation.to, attributes),
                    relations: relation.to.relations().map(|r| r.name.to_owned()).collect(),
                });
            }
        }
    }
    found
}

fn field_type(ty: FieldType) -> pb::FieldType {
    match ty {
        FieldType::Text => pb::FieldType::Text,
        FieldType::Number => pb::FieldType::Number,
        FieldType::Flag => pb::FieldType::Flag,
        FieldType::Date => pb::FieldType::Date,
        FieldType::Time => pb::FieldType::Time,
    }
}

#[cfg(test)]
mod tests {
    use anklang_domain::selection::Subject;

    use super::*;

    #[test]
    fn every_relation_is_listed_once_and_leads_on_to_listed_ones() {
        for subject in [Subject::Customer, Subject::Contract] {
            let listed = relations(subject.into(), &Attributes::default());
            let names: BTreeSet<&str> = listed.iter().map(|r| &*r.relation).collect();
            assert_eq!(names.len(), listed.len());
            for relation in &listed {
                assert!(!relation.fields.is_empty(), "{}", relation.relation);
                assert!(relation.relations.iter().all(|r| names.contains(&**r)));
            }
            let direct = Entity::from(subject).relations().count();
            let first: Vec<&str> = listed.iter().take(direct).map(|r| &*r.relation).collect();
            assert!(
                Entity::from(subject)
                    .relations()
                    .all(|r| first.contains(&r.name))
            );
        }
    }
}
