//! Contact planning: plans, entries, exceptions, inactive periods, workday calendars, and the planned
//! contacts that are generated from them. A file for each; here is what they share.

pub mod calendars;
pub mod contacts;
pub mod entries;
pub mod exceptions;
pub mod generate;
pub mod periods;
pub mod plans;
pub mod recurrence;

use anklang_domain::master::planning as text;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anklang_proto::google::r#type::Date;
use chrono::{NaiveDate, NaiveTime};
use tonic::{Request, Response, Status};

use super::{reply, wire};
use crate::work::App;

/// The services.
pub struct PlanningApi {
    /// What they work with.
    pub app: App,
}

#[tonic::async_trait]
impl pb::contact_plan_service_server::ContactPlanService for PlanningApi {
    async fn get_contact_plan(
        &self,
        request: Request<pb::GetContactPlanRequest>,
    ) -> Result<Response<pb::ContactPlan>, Status> {
        reply(self.get_plan(request).await)
    }

    async fn list_contact_plans(
        &self,
        request: Request<pb::ListContactPlansRequest>,
    ) -> Result<Response<pb::ListContactPlansResponse>, Status> {
        reply(self.list_plans(request).await)
    }

    async fn update_contact_plan(
        &self,
        request: Request<pb::UpdateContactPlanRequest>,
    ) -> Result<Response<pb::ContactPlan>, Status> {
        reply(self.update_plan(request).await)
    }

    async fn delete_contact_plan(
        &self,
        request: Request<pb::DeleteContactPlanRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete_plan(request).await)
    }

    async fn get_plan_entry(
        &self,
        request: Request<pb::GetPlanEntryRequest>,
    ) -> Result<Response<pb::PlanEntry>, Status> {
        reply(self.get_entry(request).await)
    }

    async fn list_plan_entries(
        &self,
        request: Request<pb::ListPlanEntriesRequest>,
    ) -> Result<Response<pb::ListPlanEntriesResponse>, Status> {
        reply(self.list_entries(request).await)
    }

    async fn update_plan_entry(
        &self,
        request: Request<pb::UpdatePlanEntryRequest>,
    ) -> Result<Response<pb::PlanEntry>, Status> {
        reply(self.update_entry(request).await)
    }

    async fn delete_plan_entry(
        &self,
        request: Request<pb::DeletePlanEntryRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete_entry(request).await)
    }

    async fn get_plan_exception(
        &self,
        request: Request<pb::GetPlanExceptionRequest>,
    ) -> Result<Response<pb::PlanException>, Status> {
        reply(self.get_exception(request).await)
    }

    async fn list_plan_exceptions(
        &self,
        request: Request<pb::ListPlanExceptionsRequest>,
    ) -> Result<Response<pb::ListPlanExceptionsResponse>, Status> {
        reply(self.list_exceptions(request).await)
    }

    async fn update_plan_exception(
        &self,
        request: Request<pb::UpdatePlanExceptionRequest>,
    ) -> Result<Response<pb::PlanException>, Status> {
        reply(self.update_exception(request).await)
    }

    async fn delete_plan_exception(
        &self,
        request: Request<pb::DeletePlanExceptionRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete_exception(request).await)
    }

    async fn get_inactive_period(
        &self,
        request: Request<pb::GetInactivePeriodRequest>,
    ) -> Result<Response<pb::InactivePeriod>, Status> {
        reply(self.get_period(request).await)
    }

    async fn list_inactive_periods(
        &self,
        request: Request<pb::ListInactivePeriodsRequest>,
    ) -> Result<Response<pb::ListInactivePeriodsResponse>, Status> {
        reply(self.list_periods(request).await)
    }

    async fn update_inactive_period(
        &self,
        request: Request<pb::UpdateInactivePeriodRequest>,
    ) -> Result<Response<pb::InactivePeriod>, Status> {
        reply(self.update_period(request).await)
    }

    async fn delete_inactive_period(
        &self,
        request: Request<pb::DeleteInactivePeriodRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete_period(request).await)
    }

    async fn get_workday_calendar(
        &self,
        request: Request<pb::GetWorkdayCalendarRequest>,
    ) -> Result<Response<pb::WorkdayCalendar>, Status> {
        reply(self.get_calendar(request).await)
    }

    async fn list_workday_calendars(
        &self,
        request: Request<pb::ListWorkdayCalendarsRequest>,
    ) -> Result<Response<pb::ListWorkdayCalendarsResponse>, Status> {
        reply(self.list_calendars(request).await)
    }

    async fn update_workday_calendar(
        &self,
        request: Request<pb::UpdateWorkdayCalendarRequest>,
    ) -> Result<Response<pb::WorkdayCalendar>, Status> {
        reply(self.update_calendar(request).await)
    }

    async fn delete_workday_calendar(
        &self,
        request: Request<pb::DeleteWorkdayCalendarRequest>,
    ) -> Result<Response<()>, Status> {
        reply(self.delete_calendar(request).await)
    }
}

#[tonic::async_trait]
impl pb::planned_contact_service_server::PlannedContactService for PlanningApi {
    async fn get_planned_contact(
        &self,
        request: Request<pb::GetPlannedContactRequest>,
    ) -> Result<Response<pb::PlannedContact>, Status> {
        reply(self.get_contact(request).await)
    }

    async fn list_planned_contacts(
        &self,
        request: Request<pb::ListPlannedContactsRequest>,
    ) -> Result<Response<pb::ListPlannedContactsResponse>, Status> {
        reply(self.list_contacts(request).await)
    }

    async fn generate_planned_contacts(
        &self,
        request: Request<pb::GeneratePlannedContactsRequest>,
    ) -> Result<Response<lro::Operation>, Status> {
        reply(self.generate(request).await)
    }
}

/// The id in `contactPlans/{id}`, or `None` for `contactPlans/-`; likewise for other collections.
fn parent(name_of: &str, collection: &str, violations: &mut Violations) -> Option<String> {
    let [id] = violations.check("parent", name::parse(name_of, [collection]))?;
    (id != "-").then_some(id)
}

/// A date that must be there.
fn required_date(field: &str, date: Option<&Date>, violations: &mut Violations) -> NaiveDate {
    if date.is_none() {
        violations.add(field, "is required");
    }
    optional_date(field, date, violations).unwrap_or_default()
}

/// A date that need not be there.
fn optional_date(
    field: &str,
    date: Option<&Date>,
    violations: &mut Violations,
) -> Option<NaiveDate> {
    violations.check(field, wire::naive_date(date?))
}

/// A time of the day; none when empty.
pub(in crate::grpc) fn time_of(
    field: &str,
    time: &str,
    violations: &mut Violations,
) -> Option<NaiveTime> {
    match time.trim() {
        "" => None,
        time => violations.check(field, text::time_of_day(time)),
    }
}

/// A time of the day on the wire; empty for none.
pub(in crate::grpc) fn time_text(time: Option<NaiveTime>) -> String {
    time.map_or_else(String::new, text::time_text)
}

/// Numbers of weekdays.
fn weekdays(field: &str, names: &[String], violations: &mut Violations) -> Vec<i16> {
    let days = text::weekdays(names.iter().map(String::as_str));
    violations.check(field, days).unwrap_or_default()
}

/// The longest id of a person or role, in characters.
pub const LONGEST_PERSON: usize = 64;

/// Whether a person or role can have this id.
pub fn is_person(id: &str) -> bool {
    (1..=LONGEST_PERSON).contains(&id.chars().count())
        && id.trim() == id
        && !id.chars().any(char::is_control)
}

/// Who makes contacts: `users/…` or `roles/…`, as names are written, or empty.
pub(in crate::grpc) fn responsible(
    field: &str,
    given: &str,
    violations: &mut Violations,
) -> String {
    let read = |collection| {
        let [id] = name::parse(given, [collection]).ok()?;
        is_person(&id).then(|| name::format(&[(collection, &id)]))
    };
    if given.is_empty() {
        return String::new();
    }
    read("users").or_else(|| read("roles")).unwrap_or_else(|| {
        violations.add(
            field,
            "must be users/{user} or roles/{role}, each of 1 to 64 characters",
        );
        String::new()
    })
}
