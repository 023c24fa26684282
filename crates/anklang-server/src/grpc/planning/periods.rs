//! Inactive periods of customers.

use anklang_domain::master::InactivePeriodRow;
use anklang_domain::{Violations, master::planning as text, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::customer;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::period::{self, Period};
use tonic::Request;

use super::{PlanningApi, parent};
use crate::grpc::form::{self, Form, Names};
use crate::grpc::listing::Listing;
use crate::grpc::{ApiError, ApiResult, Change, caller, tagged, wire};

const COLLECTIONS: [&str; 2] = ["customers", "inactivePeriods"];

/// Columns and their names in the message.
const NAMES: Names = &[("customer_number", "name"), ("id", "name")];

impl PlanningApi {
    pub(super) async fn get_period(
        &self,
        request: Request<pb::GetInactivePeriodRequest>,
    ) -> ApiResult<pb::InactivePeriod> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let [customer, id] = form::ids("name", &request.name, COLLECTIONS)?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| period::get(conn, tenant.id, &customer, &id))
            .await?;
        found.map(to_wire).ok_or(ApiError::NotFound(request.name))
    }

    pub(super) async fn list_periods(
        &self,
        request: Request<pb::ListInactivePeriodsRequest>,
    ) -> ApiResult<pb::ListInactivePeriodsResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let number = parent(&request.parent, "customers", &mut violations);
        let (keys, of) = (&self.app.keys, &period::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let tx = self.app.store.begin(tenant.id).await?;
        if let Some(number) = &number
            && customer::get(&tx, tenant.id, number).await?.is_none()
        {
            return Err(ApiError::NotFound(request.parent));
        }
        let page = period::list(&tx, tenant.id, number, &listing.list).await?;
        tx.commit().await?;
        Ok(pb::ListInactivePeriodsResponse {
            next_page_token: listing.token(page.next),
            inactive_periods: page.rows.into_iter().map(to_wire).collect(),
        })
    }

    pub(super) async fn update_period(
        &self,
        request: Request<pb::UpdateInactivePeriodRequest>,
    ) -> ApiResult<pb::InactivePeriod> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .inactive_period
            .ok_or_else(|| ApiError::field("inactive_period", "is required"))?;
        let key = name::parse(&wanted.name, COLLECTIONS);
        let key = violations.check("inactive_period.name", key);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some([customer, id]) = &key
            && change.looks()
        {
            hold(&mut tx, tenant.id, Held::Customer(customer)).await?;
            let current = period::get(&tx, tenant.id, customer, id).await?;
            let called = wanted.name.clone();
            let current = current.map(to_wire);
            wanted = change.settle(&called, current, wanted, request.allow_missing)?;
        }
        let row = key.and_then(|key| read(&key, &wanted, &mut violations));
        let row = form::complete(violations, row)?;
        let saved = period::replace(&mut tx, tenant.id, row, request.allow_missing).await;
        let saved = saved.map_err(|e| {
            form::store_error(e, |f| form::stored_path("inactive_period.", NAMES, &[], f))
        })?;
        let response = to_wire(saved);
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn delete_period(
        &self,
        request: Request<pb::DeleteInactivePeriodRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let key = violations.check("name", name::parse(&request.name, COLLECTIONS));
        let [customer, id] = form::complete(violations, key)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        hold(&mut tx, tenant.id, Held::Customer(&customer)).await?;
        if let Some(current) = period::get(&tx, tenant.id, &customer, &id).await? {
            change.check(&request.name, &to_wire(current))?;
        }
        period::delete(&mut tx, tenant.id, &customer, &id).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

fn read(
    [customer, id]: &[String; 2],
    wanted: &pb::InactivePeriod,
    violations: &mut Violations,
) -> Option<InactivePeriodRow> {
    let day_type = match wanted.day_type() {
        pb::DayType::Unspecified => "",
        pb::DayType::Contact => "contact",
        pb::DayType::Delivery => "delivery",
    };
    Form::new("inactive_period.", NAMES, violations)
        .text("customer_number", customer)
        .text("id", id)
        .text("day_type", day_type)
        .text("weekdays", wanted.weekdays.join(","))
        .date("first_date", wanted.first_date.as_ref())
        .date("last_date", wanted.last_date.as_ref())
        .text("reason", &wanted.reason)
        .parse()
}

fn to_wire(period: Period) -> pb::InactivePeriod {
    let day_type = match &period.day_type[..] {
        "delivery" => pb::DayType::Delivery,
        _ => pb::DayType::Contact,
    };
    tagged(pb::InactivePeriod {
        name: period::resource(&period.customer_number, &period.id),
        day_type: day_type.into(),
        weekdays: text::weekday_names(&period.weekdays),
        first_date: Some(wire::date(period.first_day)),
        last_date: Some(wire::date(period.last_day)),
        reason: period.reason,
        create_time: Some(wire::timestamp(period.created_at)),
        update_time: Some(wire::timestamp(period.updated_at)),
        etag: String::new(),
    })
}
