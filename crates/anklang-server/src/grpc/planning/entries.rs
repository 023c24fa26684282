//! Entries of contact plans.

use anklang_domain::master::PlanEntryRow;
use anklang_domain::master::planning::{time_of_day, time_text as text_of_time};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::entry::{self, Entry, EntryKey};
use anklang_store::planning::plan;
use tonic::Request;

use super::{PlanningApi, parent, time_text};
use crate::grpc::form::{self, Form, Names};
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, Change, caller, tagged, wire};

/// The most skills that are looked at; how many there may be, the entry's row says.
const MAX_SKILLS_GIVEN: usize = 100;

/// Columns and their names in the message.
const NAMES: Names = &[
    ("plan_code", "name"),
    ("customer_number", "customer"),
    ("valid_from", "valid_from_date"),
    ("valid_to", "valid_to_date"),
    ("country", "phone"),
];

/// Reads the name of an entry.
fn key_of(resource: &str) -> Result<EntryKey, String> {
    let [plan, id] =
        name::parse(resource, ["contactPlans", "entries"]).map_err(|e| e.to_string())?;
    let form = || {
        "must have the form contactPlans/{plan}/entries/{HHMM}-{customer number}, e.g. \
         contactPlans/NORTH/entries/0930-4711"
            .to_owned()
    };
    let (time, customer) = id.split_once('-').ok_or_else(form)?;
    let (hour, minute) = time.split_at_checked(2).ok_or_else(form)?;
    let time = time_of_day(&format!("{hour}:{minute}")).map_err(|_| form())?;
    let is_number = !customer.is_empty() && customer.trim() == customer;
    is_number
        .then(|| EntryKey {
            plan: plan.trim().to_owned(),
            customer: customer.to_owned(),
            time,
        })
        .ok_or_else(form)
}

impl PlanningApi {
    pub(super) async fn get_entry(
        &self,
        request: Request<pb::GetPlanEntryRequest>,
    ) -> ApiResult<pb::PlanEntry> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let key = key_of(&request.name).map_err(|reason| ApiError::field("name", reason))?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| entry::get(conn, tenant.id, &key))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    pub(super) async fn list_entries(
        &self,
        request: Request<pb::ListPlanEntriesRequest>,
    ) -> ApiResult<pb::ListPlanEntriesResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let code = parent(&request.parent, "contactPlans", &mut violations);
        let (keys, of) = (&self.app.keys, &entry::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let tx = self.app.store.begin(tenant.id).await?;
        if let Some(code) = &code
            && plan::get(&tx, tenant.id, code).await?.is_none()
        {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = entry::list(&tx, tenant.id, code, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListPlanEntriesResponse {
            next_page_token: listing.token(page.next),
            plan_entries: page.rows.into_iter().map(to_wire).collect(),
        })
    }

    pub(super) async fn update_entry(
        &self,
        request: Request<pb::UpdatePlanEntryRequest>,
    ) -> ApiResult<pb::PlanEntry> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .plan_entry
            .ok_or_else(|| ApiError::field("plan_entry", "is required"))?;
        let key = violations.check("plan_entry.name", key_of(&wanted.name));
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(key) = &key {
            hold(&mut tx, tenant.id, Held::ContactPlan(&key.plan)).await?;
            if change.looks() {
                let current = entry::get(&tx, tenant.id, key).await?.map(to_wire);
                let called = wanted.name.clone();
                wanted = change.settle(&called, current, wanted, request.allow_missing)?;
            }
        }
        let read = key.and_then(|key| {
            let row = read(&key, &wanted, &mut violations)?;
            Some((key, row))
        });
        let (key, row) = form::complete(violations, read)?;
        let missing = request.allow_missing;
        let saved = entry::replace(&mut tx, tenant.id, &key, row, missing).await;
        let saved = saved.map_err(|e| {
            form::store_error(e, |f| form::stored_path("plan_entry.", NAMES, &[], f))
        })?;
        let response = to_wire(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn delete_entry(
        &self,
        request: Request<pb::DeletePlanEntryRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let key = violations.check("name", key_of(&request.name));
        let key = form::complete(violations, key)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        hold(&mut tx, tenant.id, Held::ContactPlan(&key.plan)).await?;
        if let Some(current) = entry::get(&tx, tenant.id, &key).await? {
            change.check(&request.name, &to_wire(current))?;
        }
        entry::delete(&mut tx, tenant.id, &key).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

fn read(
    key: &EntryKey,
    wanted: &pb::PlanEntry,
    violations: &mut Violations,
) -> Option<PlanEntryRow> {
    let customer = name::format(&[("customers", &key.customer)]);
    let time = text_of_time(key.time);
    let at = |field: &str| format!("plan_entry.{field}");
    for (field, given, right) in [
        ("customer", &wanted.customer, &customer),
        ("contact_time", &wanted.contact_time, &time),
    ] {
        if !given.is_empty() && given != right {
            violations.add(
                at(field),
                format!("must be empty or that of the name, {right}"),
            );
        }
    }
    let given = wanted.skills.iter();
    form::at_most(violations, &at("skills"), given.len(), MAX_SKILLS_GIVEN);
    for (i, skill) in given.take(MAX_SKILLS_GIVEN).enumerate() {
        if skill.trim().is_empty() || skill.contains(',') {
            violations.add(
                at(&format!("skills[{i}]")),
                "must not be empty or have commas",
            );
        }
    }
    Form::new("plan_entry.", NAMES, violations)
        .text("plan_code", &key.plan)
        .text("customer_number", &key.customer)
        .text("contact_time", time)
        .text("contact_person", &wanted.contact_person)
        .text("phone", &wanted.phone)
        .text("earliest_time", &wanted.earliest_time)
        .text("latest_time", &wanted.latest_time)
        .text("priority", wanted.priority.to_string())
        .text("skills", wanted.skills.join(","))
        .date("valid_from", wanted.valid_from_date.as_ref())
        .date("valid_to", wanted.valid_to_date.as_ref())
        .parse()
}

fn to_wire(entry: Entry) -> pb::PlanEntry {
    tagged(pb::PlanEntry {
        name: entry.key().resource(),
        customer: name::format(&[("customers", &entry.customer_number)]),
        contact_time: time_text(Some(entry.contact_time)),
        contact_person: entry.contact_person,
        phone: entry.phone,
        earliest_time: time_text(entry.earliest),
        latest_time: time_text(entry.latest),
        priority: entry.priority,
        skills: entry.skills,
        valid_from_date: entry.valid_from.map(wire::date),
        valid_to_date: entry.valid_to.map(wire::date),
        create_time: Some(wire::timestamp(entry.created_at)),
        update_time: Some(wire::timestamp(entry.updated_at)),
        etag: String::new(),
    })
}
