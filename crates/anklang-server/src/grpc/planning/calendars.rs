//! Workday calendars.

use anklang_domain::planning::{OwnDay, OwnDayKind, Region};
use anklang_domain::{Violations, master::planning as text, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::StoreError;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::calendar::{self, Calendar, NewCalendar};
use tonic::Request;

use super::{PlanningApi, required_date, weekdays};
use crate::grpc::campaigns::text_of;
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, Change, caller, form, tagged, wire};

/// The most days of the tenant's own.
const MAX_DAYS: usize = 1_000;
const COLLECTION: &str = "workdayCalendars";

impl PlanningApi {
    pub(super) async fn get_calendar(
        &self,
        request: Request<pb::GetWorkdayCalendarRequest>,
    ) -> ApiResult<pb::WorkdayCalendar> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let [id] = form::ids("name", &request.name, [COLLECTION])?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| calendar::get(conn, tenant.id, &id))
            .await?;
        Ok(to_wire(&found.ok_or(ApiError::NotFound(request.name))?)?)
    }

    pub(super) async fn list_calendars(
        &self,
        request: Request<pb::ListWorkdayCalendarsRequest>,
    ) -> ApiResult<pb::ListWorkdayCalendarsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &calendar::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| calendar::list(conn, tenant.id, &listing.list))
            .await?;
        let calendars: Result<Vec<_>, _> = page.rows.iter().map(to_wire).collect();
        Ok(pb::ListWorkdayCalendarsResponse {
            workday_calendars: calendars?,
            next_page_token: listing.token(page.next),
        })
    }

    pub(super) async fn update_calendar(
        &self,
        request: Request<pb::UpdateWorkdayCalendarRequest>,
    ) -> ApiResult<pb::WorkdayCalendar> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .workday_calendar
            .ok_or_else(|| ApiError::field("workday_calendar", "is required"))?;
        let id = name::parse(&wanted.name, [COLLECTION]);
        let id = violations.check("workday_calendar.name", id);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some([id]) = &id {
            hold(&mut tx, tenant.id, Held::WorkdayCalendar(id)).await?;
            if change.looks() {
                let current = calendar::get(&tx, tenant.id, id).await?;
                let current = current.as_ref().map(to_wire).transpose()?;
                let called = wanted.name.clone();
                wanted = change.settle(&called, current, wanted, request.allow_missing)?;
                wanted.name = called;
            }
        }
        let read = read(&wanted, &mut violations);
        if id.as_ref().is_some_and(|[id]| !is_id(id)) {
            let reason = "must end in 1 to 63 of a–z, 0–9 and hyphens";
            violations.add("workday_calendar.name", reason);
        }
        let ([id], (workdays, own_days)) = form::complete(violations, id.map(|id| (id, read)))?;
        let new = NewCalendar {
            id: &id,
            name: wanted.display_name.trim(),
            region: &wanted.region,
            workdays: &workdays,
            own_days: &own_days,
        };
        let saved = calendar::replace(&mut tx, tenant.id, &new, request.allow_missing).await?;
        let response = to_wire(&saved)?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn delete_calendar(
        &self,
        request: Request<pb::DeleteWorkdayCalendarRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let id = violations.check("name", name::parse(&request.name, [COLLECTION]));
        let [id] = form::complete(violations, id)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        hold(&mut tx, tenant.id, Held::WorkdayCalendar(&id)).await?;
        if let Some(current) = calendar::get(&tx, tenant.id, &id).await? {
            change.check(&request.name, &to_wire(&current)?)?;
        }
        calendar::delete(&mut tx, tenant.id, &id).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

fn is_id(id: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    id.len() <= 63 && id.bytes().all(good)
}

fn read(wanted: &pb::WorkdayCalendar, violations: &mut Violations) -> (Vec<i16>, Vec<OwnDay>) {
    let at = |field: &str| format!("workday_calendar.{field}");
    text_of(
        violations,
        &at("display_name"),
        &wanted.display_name,
        1,
        200,
    );
    if !wanted.region.is_empty() {
        violations.check(at("region"), Region::parse(&wanted.region));
    }
    let workdays = weekdays(&at("workdays"), &wanted.workdays, violations);
    if wanted.workdays.is_empty() {
        violations.add(at("workdays"), "is required: some of mon … sun");
    }
    form::at_most(violations, &at("own_days"), wanted.own_days.len(), MAX_DAYS);
    let mut days: Vec<OwnDay> = Vec::new();
    for (i, day) in wanted.own_days.iter().take(MAX_DAYS).enumerate() {
        let at = |field: &str| format!("workday_calendar.own_days[{i}].{field}");
        text_of(violations, &at("display_name"), &day.display_name, 0, 200);
        let date = required_date(&at("date"), day.date.as_ref(), violations);
        if day.date.is_some() && days.iter().any(|other| other.date == date) {
            violations.add(at("date"), format!("{date} is there already"));
        }
        days.push(OwnDay {
            date,
            kind: match day.workday {
                true => OwnDayKind::Workday,
                false => OwnDayKind::Holiday,
            },
            name: day.display_name.trim().to_owned(),
        });
    }
    days.sort_by_key(|day| day.date);
    (workdays, days)
}

fn to_wire(calendar: &Calendar) -> Result<pb::WorkdayCalendar, StoreError> {
    let days = calendar.days()?.into_iter().map(|day| pb::OwnDay {
        date: Some(wire::date(day.date)),
        workday: day.kind == OwnDayKind::Workday,
        display_name: day.name,
    });
    Ok(tagged(pb::WorkdayCalendar {
        name: calendar::resource(&calendar.id),
        display_name: calendar.name.clone(),
        region: calendar.region.clone(),
        workdays: text::weekday_names(&calendar.workdays),
        own_days: days.collect(),
        create_time: Some(wire::timestamp(calendar.created_at)),
        update_time: Some(wire::timestamp(calendar.updated_at)),
        etag: String::new(),
    }))
}
