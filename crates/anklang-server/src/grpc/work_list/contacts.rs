//! What people change of contacts.

use anklang_domain::master::contact::phone;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::contact;
use anklang_store::planning::work::change::{self, NewContact};
use anklang_store::planning::work::resource;
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use tonic::Request;
use uuid::Uuid;

use super::super::form::{self, Names};
use super::super::wire::date_time;
use super::super::{ApiError, ApiResult, Change, caller};
use super::{WorkListApi, read, wire};

/// Columns and their names in messages.
const NAMES: Names = &[("plan", "contact_plan"), ("contact_at", "contact_time")];
/// The most skills that a contact wants.
const MAX_SKILLS: usize = 16;
const MAX_PRIORITY: i32 = 1_000;
const LONGEST_NAME: usize = 200;
/// Where numbers without country code are.
const COUNTRY: &str = "DE";

impl WorkListApi {
    pub(super) async fn create(
        &self,
        request: Request<pb::CreatePlannedContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let given = request
            .planned_contact
            .as_ref()
            .ok_or_else(|| ApiError::field("planned_contact", "is required"))?;
        let wanted = Wanted::read(given, &mut violations);
        let wanted = form::complete(violations, wanted)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let new = wanted.contact(given);
        let made = change::create(&mut tx, tenant.id, &new, tenant.time_zone, Utc::now())
            .await
            .map_err(|e| at(e, "planned_contact."))?;
        let response = wire::contact(made);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn shift(
        &self,
        request: Request<pb::MovePlannedContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let time = time(
            "contact_time",
            request.contact_time.as_ref(),
            &mut violations,
        );
        let delivery = request.delivery_date.as_ref();
        let delivery = read::date(&mut violations, "delivery_date", delivery);
        let (id, time) = form::complete(violations, id.zip(time))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        seen(&mut tx, &tenant, id, &change).await?;
        let moved = change::shift(&mut tx, tenant.id, id, time, delivery)
            .await
            .map_err(|e| at(e, ""))?;
        let response = wire::contact(moved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn assign(
        &self,
        request: Request<pb::AssignPlannedContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let responsible = responsible("responsible", &request.responsible, &mut violations);
        let (id, responsible) = form::complete(violations, id.zip(responsible))?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        seen(&mut tx, &tenant, id, &change).await?;
        let assigned = change::assign(&mut tx, tenant.id, id, &responsible).await?;
        let response = wire::contact(assigned);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn pin(
        &self,
        request: Request<pb::PinPlannedContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        let id = form::complete(violations, id)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        seen(&mut tx, &tenant, id, &change).await?;
        let pinned = change::pin(&mut tx, tenant.id, id, request.pinned).await?;
        let response = wire::contact(pinned);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn cancel(
        &self,
        request: Request<pb::CancelPlannedContactRequest>,
    ) -> ApiResult<pb::PlannedContact> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = read::contact(&mut violations, "name", &request.name);
        read::text(&mut violations, "note", &request.note, read::LONGEST_NOTE);
        let id = form::complete(violations, id)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        seen(&mut tx, &tenant, id, &change).await?;
        let cancelled = change::cancel(&mut tx, tenant.id, id, request.note.trim()).await?;
        let response = wire::contact(cancelled);
        change.finish(tx, &response).await?;
        Ok(response)
    }
}

/// Compares a contact with what the caller has seen of it.
async fn seen(conn: &mut Conn, tenant: &Tenant, id: Uuid, change: &Change) -> ApiResult<()> {
    if !change.looks() {
        return Ok(());
    }
    hold(conn, tenant.id, Held::PlannedContact(id)).await?;
    let current = contact::get(conn, tenant.id, id).await?;
    let current = current.ok_or_else(|| ApiError::NotFound(resource(id)))?;
    change.check(&resource(id), &wire::contact(current))
}

fn at(error: StoreError, prefix: &str) -> ApiError {
    form::store_error(error, |field| form::stored_path(prefix, NAMES, &[], field))
}

fn time(
    field: &str,
    given: Option<&Timestamp>,
    violations: &mut Violations,
) -> Option<DateTime<Utc>> {
    let read = given.ok_or("is required").and_then(date_time);
    violations.check(field, read)
}

/// Who makes a contact; empty for anybody.
fn responsible(field: &str, given: &str, violations: &mut Violations) -> Option<String> {
    match given {
        "" => Some(String::new()),
        who => read::person(violations, field, who, &["users", "roles"]),
    }
}

/// What a person wants, as far as it is read into other values.
struct Wanted<'r> {
    customer: String,
    plan: String,
    contact_at: DateTime<Utc>,
    delivery_date: Option<chrono::NaiveDate>,
    responsible: String,
    skills: Vec<&'r str>,
    phone: String,
}

impl<'r> Wanted<'r> {
    fn read(given: &'r pb::NewPlannedContact, violations: &mut Violations) -> Option<Self> {
        let field = |name: &str| format!("planned_contact.{name}");
        let customer = name::parse(&given.customer, ["customers"]);
        let customer = violations.check(field("customer"), customer);
        let plan = match &given.contact_plan[..] {
            "" => Some(String::new()),
            plan => violations
                .check(field("contact_plan"), name::parse(plan, ["contactPlans"]))
                .map(|[code]| code),
        };
        let responsible = responsible(&field("responsible"), &given.responsible, violations);
        let contact_at = time(
            &field("contact_time"),
            given.contact_time.as_ref(),
            violations,
        );
        let delivery = given.delivery_date.as_ref();
        let delivery_date = read::date(violations, &field("delivery_date"), delivery);
        if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&given.priority) {
            violations.add(field("priority"), "must be -1,000 to 1,000");
        }
        let skills = read::skills(violations, &field("skills"), &given.skills, MAX_SKILLS);
        for (name, text, most) in [
            ("contact_person", &given.contact_person, LONGEST_NAME),
            ("note", &given.note, read::LONGEST_NOTE),
        ] {
            read::text(violations, &field(name), text, most);
        }
        let phone = match given.phone.trim() {
            "" => Some(String::new()),
            number => violations.check(field("phone"), phone(number, COUNTRY)),
        };
        let [customer] = customer?;
        Some(Wanted {
            customer,
            plan: plan?,
            contact_at: contact_at?,
            delivery_date,
            responsible: responsible?,
            skills,
            phone: phone?,
        })
    }

    fn contact(&'r self, given: &'r pb::NewPlannedContact) -> NewContact<'r> {
        NewContact {
            customer: &self.customer,
            plan: &self.plan,
            contact_at: self.contact_at,
            delivery_date: self.delivery_date,
            responsible: &self.responsible,
            priority: given.priority,
            skills: &self.skills,
            contact_person: given.contact_person.trim(),
            phone: &self.phone,
            note: given.note.trim(),
        }
    }
}
