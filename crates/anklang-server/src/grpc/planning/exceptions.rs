//! Exceptions of contact plans.

use anklang_domain::planning::{Change as Instead, check_exception};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::Conn;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::exception::{self, Exception, NewException};
use anklang_store::planning::plan;
use anklang_store::tenant::Tenant;
use chrono::NaiveDate;
use tonic::Request;

use super::{PlanningApi, optional_date, parent};
use crate::grpc::campaigns::text_of;
use crate::grpc::form;
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, Change, caller, tagged, wire};
use crate::planning::{self, exception_of, plan_id};

/// Reads the name of an exception: its plan's code and its date.
fn key_of(resource: &str) -> Result<(String, NaiveDate), String> {
    let [plan, date] =
        name::parse(resource, ["contactPlans", "exceptions"]).map_err(|e| e.to_string())?;
    let read = (date.len() == 10)
        .then(|| NaiveDate::parse_from_str(&date, "%Y-%m-%d").ok())
        .flatten();
    let date = read.ok_or("must end in a date, as in contactPlans/NORTH/exceptions/2026-12-24")?;
    Ok((plan, date))
}

impl PlanningApi {
    pub(super) async fn get_exception(
        &self,
        request: Request<pb::GetPlanExceptionRequest>,
    ) -> ApiResult<pb::PlanException> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let (plan, date) =
            key_of(&request.name).map_err(|reason| ApiError::field("name", reason))?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| exception::get(conn, tenant.id, &plan, date))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    pub(super) async fn list_exceptions(
        &self,
        request: Request<pb::ListPlanExceptionsRequest>,
    ) -> ApiResult<pb::ListPlanExceptionsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let code = parent(&request.parent, "contactPlans", &mut violations);
        let (keys, of) = (&self.app.keys, &exception::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let tx = self.app.store.begin(tenant.id).await?;
        if let Some(code) = &code
            && plan::get(&tx, tenant.id, code).await?.is_none()
        {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = exception::list(&tx, tenant.id, code, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListPlanExceptionsResponse {
            next_page_token: listing.token(page.next),
            plan_exceptions: page.rows.into_iter().map(to_wire).collect(),
        })
    }

    pub(super) async fn update_exception(
        &self,
        request: Request<pb::UpdatePlanExceptionRequest>,
    ) -> ApiResult<pb::PlanException> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .plan_exception
            .ok_or_else(|| ApiError::field("plan_exception", "is required"))?;
        let key = violations.check("plan_exception.name", key_of(&wanted.name));
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        let new = match key {
            None => None,
            Some((code, date)) => {
                hold(&mut tx, tenant.id, Held::ContactPlan(&code)).await?;
                if change.looks() {
                    let current = exception::get(&tx, tenant.id, &code, date).await?;
                    let (called, current) = (wanted.name.clone(), current.map(to_wire));
                    wanted = change.settle(&called, current, wanted, request.allow_missing)?;
                }
                let new = read(code, date, &wanted, &mut violations);
                check(&mut tx, &tenant, &new, &mut violations).await?;
                Some(new)
            }
        };
        let new = form::complete(violations, new)?;
        let saved = exception::replace(&mut tx, tenant.id, &new, request.allow_missing).await?;
        let response = to_wire(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn delete_exception(
        &self,
        request: Request<pb::DeletePlanExceptionRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let key = violations.check("name", key_of(&request.name));
        let (plan, date) = form::complete(violations, key)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        hold(&mut tx, tenant.id, Held::ContactPlan(&plan)).await?;
        if let Some(current) = exception::get(&tx, tenant.id, &plan, date).await? {
            change.check(&request.name, &to_wire(current))?;
        }
        exception::delete(&mut tx, tenant.id, &plan, date).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

fn at(field: &str) -> String {
    format!("plan_exception.{field}")
}

/// Reads what is wanted, as far as it is right in itself.
fn read(
    plan_code: String,
    plan_date: NaiveDate,
    wanted: &pb::PlanException,
    violations: &mut Violations,
) -> NewException {
    text_of(violations, &at("reason"), &wanted.reason, 0, 200);
    let contact_date = wanted.contact_date.as_ref();
    let contact_date = optional_date(&at("contact_date"), contact_date, violations);
    let delivery_date = wanted.delivery_date.as_ref();
    let delivery_date = optional_date(&at("delivery_date"), delivery_date, violations);
    let other = (!wanted.other_contact_plan.is_empty())
        .then(|| name::parse(&wanted.other_contact_plan, ["contactPlans"]));
    let other = other.and_then(|other| violations.check(at("other_contact_plan"), other));
    let has_dates = wanted.contact_date.is_some() || wanted.delivery_date.is_some();
    let has_other = !wanted.other_contact_plan.is_empty();
    if has_other && has_dates {
        violations.add(
            at("other_contact_plan"),
            "goes with neither a contact date nor a delivery date",
        );
    }
    let says_more = has_dates || has_other || wanted.duplicates_permitted;
    if wanted.skip == says_more {
        let reason = match says_more {
            true => "must not be set along with what happens instead",
            false => "must be set when nothing happens instead",
        };
        violations.add(at("skip"), reason);
    }
    NewException {
        plan_code,
        plan_date,
        contact_date,
        delivery_date,
        other_plan_code: other.map(|[code]| code),
        duplicates: wanted.duplicates_permitted,
        reason: wanted.reason.trim().to_owned(),
    }
}

/// Checks an exception against its plan, the other plan and their calendars.
async fn check(
    conn: &mut Conn,
    tenant: &Tenant,
    new: &NewException,
    violations: &mut Violations,
) -> ApiResult<()> {
    let codes: Vec<String> = std::iter::once(&new.plan_code)
        .chain(&new.other_plan_code)
        .cloned()
        .collect();
    let plans = planning::load(conn, tenant.id, &codes).await?;
    let Some(own) = plans.get(&new.plan_code) else {
        return Err(ApiError::NotFound(plan::resource(&new.plan_code)));
    };
    let other = new.other_plan_code.as_ref();
    let named = other.and_then(|code| plans.get(code));
    match other {
        Some(code) if *code == new.plan_code => {
            violations.add(at("other_contact_plan"), "must be another plan");
        }
        Some(_) if named.is_none() => violations.add(at("other_contact_plan"), "does not exist"),
        _ => {}
    }
    let others = exception::of_plans(conn, tenant.id, &codes[..1]).await?;
    let others: Vec<_> = others
        .iter()
        .filter(|other| other.plan_date != new.plan_date)
        .map(exception_of)
        .collect();
    let change = match (new.contact_date, new.delivery_date, other) {
        (_, _, Some(code)) => Instead::Plan {
            plan: plan_id(code),
        },
        (Some(date), delivery, None) => Instead::Contact { date, delivery },
        (None, Some(date), None) => Instead::Delivery { date },
        (None, None, None) if new.duplicates => Instead::AsPlanned,
        (None, None, None) => Instead::Nothing,
    };
    let wanted = anklang_domain::planning::Exception {
        on: new.plan_date,
        change,
        duplicates: new.duplicates,
    };
    let named = named.map(|other| (&other.rules, &*other.calendar));
    let found = check_exception(&own.rules, &own.calendar, &others, &wanted, named);
    for violation in found.into_vec() {
        let field = match &violation.field[..] {
            "date" => "name",
            "plan" => "other_contact_plan",
            field => field,
        };
        violations.add(at(field), violation.reason);
    }
    Ok(())
}

fn to_wire(exception: Exception) -> pb::PlanException {
    let other = exception.other_plan_code.as_deref();
    tagged(pb::PlanException {
        name: exception.resource(),
        skip: exception.is_skip(),
        contact_date: exception.contact_date.map(wire::date),
        delivery_date: exception.delivery_date.map(wire::date),
        other_contact_plan: other.map(plan::resource).unwrap_or_default(),
        duplicates_permitted: exception.duplicates,
        create_time: Some(wire::timestamp(exception.created_at)),
        update_time: Some(wire::timestamp(exception.updated_at)),
        reason: exception.reason,
        etag: String::new(),
    })
}
