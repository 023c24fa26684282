//! Contact plans.

use anklang_domain::planning::{DateRange, FollowUpChannel, FollowUpMessage, OnHoliday};
use anklang_domain::{Violations, master::planning as text, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_store::hold::{Held, hold};
use anklang_store::planning::calendar;
use anklang_store::planning::plan::{self, NewPlan, Plan};
use anklang_store::tenant::Tenant;
use anklang_store::{Conn, StoreError, template};
use tonic::Request;

use super::{
    PlanningApi, optional_date, recurrence, required_date, responsible, time_of, time_text,
    weekdays,
};
use crate::content::{CONTACT_MISSED, FALLBACK_LANGUAGE, Sees, sees, shipped_message};
use crate::grpc::campaigns::{check_word, text_of};
use crate::grpc::channels::account_of;
use crate::grpc::form::{self, Names};
use crate::grpc::listing::Listing;
use crate::grpc::selections::check_description;
use crate::grpc::{ApiError, ApiResult, Change, caller, tagged, wire};
use crate::planning::holiday_word;
use crate::work::App;

const COLLECTION: &str = "contactPlans";

/// Columns and their names in the message.
const NAMES: Names = &[
    ("valid_from", "valid_from_date"),
    ("valid_to", "valid_to_date"),
    ("earliest", "earliest_time"),
    ("latest", "latest_time"),
];

impl PlanningApi {
    pub(super) async fn get_plan(
        &self,
        request: Request<pb::GetContactPlanRequest>,
    ) -> ApiResult<pb::ContactPlan> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let [code] = form::ids("name", &request.name, [COLLECTION])?;
        let found = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| plan::get(conn, tenant.id, &code))
            .await?;
        let found = found.ok_or(ApiError::NotFound(request.name))?;
        Ok(to_wire(&found)?)
    }

    pub(super) async fn list_plans(
        &self,
        request: Request<pb::ListContactPlansRequest>,
    ) -> ApiResult<pb::ListContactPlansResponse> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let (keys, of) = (&self.app.keys, &plan::LISTABLE);
        let listing = Listing::read(keys, &tenant, of, &request, &mut violations);
        violations.finish(())?;
        let page = self
            .app
            .store
            .read(tenant.id)
            .ask(|conn| plan::list(conn, tenant.id, &listing.list))
            .await?;
        let plans: Result<Vec<_>, _> = page.rows.iter().map(to_wire).collect();
        Ok(pb::ListContactPlansResponse {
            contact_plans: plans?,
            next_page_token: listing.token(page.next),
        })
    }

    pub(super) async fn update_plan(
        &self,
        request: Request<pb::UpdateContactPlanRequest>,
    ) -> ApiResult<pb::ContactPlan> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let mut wanted = request
            .contact_plan
            .ok_or_else(|| ApiError::field("contact_plan", "is required"))?;
        let known = form::identify(&mut wanted.code, &wanted.name, COLLECTION);
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        if let Some(code) = &known {
            hold(&mut tx, tenant.id, Held::ContactPlan(code)).await?;
        }
        if let Some(code) = known.filter(|_| change.looks()) {
            let current = plan::get(&tx, tenant.id, &code).await?;
            let current = current.as_ref().map(to_wire).transpose()?;
            let called = std::mem::take(&mut wanted.name);
            let name = plan::resource(&code);
            wanted = change.settle(&name, current, wanted, request.allow_missing)?;
            wanted.name = called;
        }
        let new = read(&self.app, &mut tx, &tenant, &wanted, &mut violations).await?;
        let new = form::complete(violations, new)?;
        let saved = plan::replace(&mut tx, tenant.id, &new, request.allow_missing).await;
        let saved = saved.map_err(|e| {
            form::store_error(e, |f| form::stored_path("contact_plan.", NAMES, &[], f))
        })?;
        let response = to_wire(&saved)?;
        change.finish(tx, &response).await?;
        Ok(response)
    }

    pub(super) async fn delete_plan(
        &self,
        request: Request<pb::DeleteContactPlanRequest>,
    ) -> ApiResult<()> {
        let tenant = caller(&self.app.store, &request).await?;
        let request = request.into_inner();
        let mut violations = Violations::new();
        let change = Change::read(&tenant, &request, &mut violations);
        let code = violations.check("name", name::parse(&request.name, [COLLECTION]));
        let [code] = form::complete(violations, code)?;
        let mut tx = self.app.store.begin(tenant.id).await?;
        if let Some(done) = change.before(&mut tx).await? {
            return Ok(done);
        }
        hold(&mut tx, tenant.id, Held::ContactPlan(&code)).await?;
        if let Some(current) = plan::get(&tx, tenant.id, &code).await? {
            change.check(&request.name, &to_wire(&current)?)?;
        }
        plan::delete(&mut tx, tenant.id, &code).await?;
        change.finish(tx, &()).await?;
        Ok(())
    }
}

/// Reads and checks a plan; `None` only when something is wrong. Its calendar and its accounts then stay until
/// the end of the transaction.
async fn read(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &pb::ContactPlan,
    violations: &mut Violations,
) -> ApiResult<Option<NewPlan>> {
    let at = |field: &str| format!("contact_plan.{field}");
    let key = [(COLLECTION, &wanted.code[..])];
    form::check_name(violations, &at("name"), &wanted.name, &key);
    for (field, value, min, max) in [
        ("code", &wanted.code, 1, 64),
        ("display_name", &wanted.display_name, 1, 200),
        ("departure", &wanted.departure, 0, 64),
        ("order_type", &wanted.order_type, 0, 64),
    ] {
        text_of(violations, &at(field), value, min, max);
    }
    check_description(&wanted.description, &at("description"), violations);
    let responsible = responsible(&at("responsible"), &wanted.responsible, violations);
    let rule = recurrence::read(&at("recurrence"), wanted.recurrence.as_ref(), violations);
    let from = wanted.valid_from_date.as_ref();
    let valid_from = required_date(&at("valid_from_date"), from, violations);
    let to = wanted.valid_to_date.as_ref();
    let valid_to = optional_date(&at("valid_to_date"), to, violations);
    if from.is_some() && to.is_some() == valid_to.is_some() {
        let range = DateRange::new(valid_from, valid_to);
        violations.check(at("valid_to_date"), range);
    }
    let (earliest, latest) = hours(wanted, violations);
    let outcome_rules = recurrence::read_rules(
        &at("outcome_rules"),
        wanted.outcome_rules.as_ref(),
        violations,
    );
    let days = weekdays(
        &at("delivery_weekdays"),
        &wanted.delivery_weekdays,
        violations,
    );
    let calendar_id = calendar_of(conn, tenant, wanted, violations).await?;
    let time_zone = time_zone(wanted, violations);
    let follow_up_messages = follow_up_messages(app, conn, tenant, wanted, violations).await?;
    let Some(recurrence) = rule else {
        return Ok(None);
    };
    Ok(Some(NewPlan {
        code: wanted.code.clone(),
        name: wanted.display_name.trim().to_owned(),
        description: wanted.description.trim().to_owned(),
        responsible,
        recurrence,
        delivery_weekdays: days,
        departure: wanted.departure.trim().to_owned(),
        order_type: wanted.order_type.trim().to_owned(),
        valid_from,
        valid_to,
        calendar_id,
        time_zone,
        holiday_rule: holiday_word(match wanted.holiday_rule() {
            pb::HolidayRule::Unspecified | pb::HolidayRule::Skip => OnHoliday::Skip,
            pb::HolidayRule::NextWorkday => OnHoliday::NextWorkday,
            pb::HolidayRule::PreviousWorkday => OnHoliday::PreviousWorkday,
        }),
        duplicates: wanted.duplicates_permitted,
        earliest,
        latest,
        outcome_rules,
        follow_up_messages,
    }))
}

/// Reads how customers are written to; what is wrong is left out.
async fn follow_up_messages(
    app: &App,
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &pb::ContactPlan,
    violations: &mut Violations,
) -> ApiResult<Vec<FollowUpMessage>> {
    const FIELD: &str = "contact_plan.follow_up_messages";
    // No more than channels; those beyond are told.
    form::at_most(violations, FIELD, wanted.follow_up_messages.len(), 2);
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    for (i, given) in wanted.follow_up_messages.iter().enumerate().take(2) {
        let at = |field: &str| format!("{FIELD}[{i}].{field}");
        let channel = match given.channel() {
            pb::FollowUpChannel::Sms => Some(FollowUpChannel::Sms),
            pb::FollowUpChannel::Mail => Some(FollowUpChannel::Mail),
            pb::FollowUpChannel::Unspecified => None,
        };
        match channel {
            None => violations.add(at("channel"), "must be SMS or MAIL"),
            Some(channel) if seen.contains(&channel) => {
                violations.add(at("channel"), "must be another one in each message");
            }
            Some(channel) => seen.push(channel),
        }
        let account = match channel {
            None => None,
            Some(channel) => {
                let field = at("account");
                let account = (&field[..], &given.account[..]);
                account_of(app, conn, tenant, channel.as_str(), account, violations).await?
            }
        };
        check_word(violations, &at("purpose"), &given.purpose);
        let template = match &given.template[..] {
            "" => CONTACT_MISSED,
            key => key,
        };
        if sees(template) != Sees::Contact {
            let rule = format!("must be {CONTACT_MISSED} or begin with {CONTACT_MISSED}_");
            violations.add(at("template"), rule);
        }
        let brand = name::parse(&given.brand, ["brands"]);
        let brand = violations.check(at("brand"), brand).map(|[brand]| brand);
        if let Some(code) = &brand {
            if !template::brand_exists(conn, tenant.id, code).await? {
                violations.add(at("brand"), "does not exist");
            } else if sees(template) == Sees::Contact && shipped_message(template).is_none() {
                let found = template::get(conn, tenant.id, code, template, FALLBACK_LANGUAGE);
                if found.await?.is_none() {
                    violations.add(at("template"), "the brand has none of this key in German");
                }
            }
        }
        if let Some(((channel, account), brand)) = channel.zip(account).zip(brand) {
            all.push(FollowUpMessage {
                channel,
                account,
                brand,
                template: template.to_owned(),
                purpose: given.purpose.clone(),
            });
        }
    }
    Ok(all)
}

fn message_to_wire(message: FollowUpMessage) -> pb::FollowUpMessage {
    pb::FollowUpMessage {
        channel: match message.channel {
            FollowUpChannel::Sms => pb::FollowUpChannel::Sms,
            FollowUpChannel::Mail => pb::FollowUpChannel::Mail,
        }
        .into(),
        account: name::format(&[("channelAccounts", &message.account)]),
        brand: name::format(&[("brands", &message.brand)]),
        template: message.template,
        purpose: message.purpose,
    }
}

fn hours(
    wanted: &pb::ContactPlan,
    violations: &mut Violations,
) -> (Option<chrono::NaiveTime>, Option<chrono::NaiveTime>) {
    let (earliest, latest) = (&wanted.earliest_time, &wanted.latest_time);
    let earliest = time_of("contact_plan.earliest_time", earliest, violations);
    let latest = time_of("contact_plan.latest_time", latest, violations);
    if earliest.zip(latest).is_some_and(|(from, to)| to < from) {
        violations.add(
            "contact_plan.latest_time",
            "must not be before the earliest time",
        );
    }
    (earliest, latest)
}

fn time_zone(wanted: &pb::ContactPlan, violations: &mut Violations) -> String {
    let zone = wanted.time_zone.trim();
    if !zone.is_empty() && zone.parse::<chrono_tz::Tz>().is_err() {
        violations.add(
            "contact_plan.time_zone",
            "must be a time zone of the IANA, e.g. Europe/Berlin",
        );
    }
    zone.to_owned()
}

async fn calendar_of(
    conn: &mut Conn,
    tenant: &Tenant,
    wanted: &pb::ContactPlan,
    violations: &mut Violations,
) -> ApiResult<Option<String>> {
    const FIELD: &str = "contact_plan.workday_calendar";
    if wanted.workday_calendar.is_empty() {
        return Ok(None);
    }
    let id = name::parse(&wanted.workday_calendar, ["workdayCalendars"]);
    let Some([id]) = violations.check(FIELD, id) else {
        return Ok(None);
    };
    hold(conn, tenant.id, Held::WorkdayCalendar(&id)).await?;
    if calendar::get(conn, tenant.id, &id).await?.is_none() {
        violations.add(FIELD, "does not exist");
    }
    Ok(Some(id))
}

fn to_wire(plan: &Plan) -> Result<pb::ContactPlan, StoreError> {
    let rule = match &plan.holiday_rule[..] {
        "next_workday" => pb::HolidayRule::NextWorkday,
        "previous_workday" => pb::HolidayRule::PreviousWorkday,
        _ => pb::HolidayRule::Skip,
    };
    let calendar = plan.calendar_id.as_deref();
    let messages = plan.follow_up_messages()?.into_iter();
    Ok(tagged(pb::ContactPlan {
        name: plan::resource(&plan.code),
        code: plan.code.clone(),
        display_name: plan.name.clone(),
        description: plan.description.clone(),
        responsible: plan.responsible.clone(),
        recurrence: Some(recurrence::to_wire(&plan.recurrence()?)),
        delivery_weekdays: text::weekday_names(&plan.delivery_weekdays),
        departure: plan.departure.clone(),
        order_type: plan.order_type.clone(),
        valid_from_date: Some(wire::date(plan.valid_from)),
        valid_to_date: plan.valid_to.map(wire::date),
        workday_calendar: calendar.map(calendar::resource).unwrap_or_default(),
        time_zone: plan.time_zone.clone(),
        holiday_rule: rule.into(),
        duplicates_permitted: plan.duplicates,
        earliest_time: time_text(plan.earliest),
        latest_time: time_text(plan.latest),
        outcome_rules: Some(recurrence::rules_to_wire(&plan.outcome_rules()?)),
        follow_up_messages: messages.map(message_to_wire).collect(),
        create_time: Some(wire::timestamp(plan.created_at)),
        update_time: Some(wire::timestamp(plan.updated_at)),
        etag: String::new(),
    }))
}
