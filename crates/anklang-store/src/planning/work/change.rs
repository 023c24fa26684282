//! What people change of contacts: making, moving, pinning and calling off.

use anklang_domain::planning::{EntryTimes, instant};
use anklang_domain::{TenantId, Violations};
use chrono::{DateTime, NaiveDate, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use diesel::sql_types::{
    Array, Bool, Date, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::claim::found;
use super::rules::{hours, zone};
use super::{Standing, hold, over};
use crate::planning::contact::Contact;
use crate::planning::plan;
use crate::{Conn, Result};

/// Contacts are planned at most so many days ahead.
pub const DAYS_AHEAD: i64 = 366;

/// A contact that a person wants.
#[derive(Debug, Clone)]
pub struct NewContact<'a> {
    /// The customer's number.
    pub customer: &'a str,
    /// Code of the plan by whose rules it goes; empty for none.
    pub plan: &'a str,
    /// When.
    pub contact_at: DateTime<Utc>,
    /// When a resulting order is delivered.
    pub delivery_date: Option<NaiveDate>,
    /// `users/…` or `roles/…`; empty: the plan's.
    pub responsible: &'a str,
    /// The more, the sooner.
    pub priority: i32,
    /// What is wanted of whoever makes it.
    pub skills: &'a [&'a str],
    /// Whom to ask for.
    pub contact_person: &'a str,
    /// E.164, or empty for the customer's own.
    pub phone: &'a str,
    /// For people.
    pub note: &'a str,
}

/// Adds a contact. `tenant_zone` is where it is without a plan.
///
/// # Errors
/// `Invalid` with violations at `customer`, `plan`, `contact_at` and `delivery_date`.
pub async fn create(
    conn: &mut Conn,
    tenant: TenantId,
    new: &NewContact<'_>,
    tenant_zone: Tz,
    now: DateTime<Utc>,
) -> Result<Contact> {
    #[derive(QueryableByName)]
    struct Id {
        #[diesel(sql_type = SqlUuid)]
        id: Uuid,
    }
    let mut violations = Violations::new();
    let customer: Option<Id> = diesel::sql_query(
        "SELECT id FROM customer WHERE tenant_id = $1 AND number = $2 AND erased_at IS NULL
         FOR KEY SHARE",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<Text, _>(new.customer)
    .get_result(conn)
    .await
    .optional()?;
    if customer.is_none() {
        violations.add("customer", "does not exist");
    }
    let plan = match new.plan {
        "" => None,
        code => plan::get(conn, tenant, code).await?,
    };
    if plan.is_none() && !new.plan.is_empty() {
        violations.add("plan", "does not exist");
    }
    let zone = match &plan {
        Some(plan) if !plan.time_zone.is_empty() => zone(&plan.time_zone)?,
        _ => tenant_zone,
    };
    let local = new.contact_at.with_timezone(&zone);
    let date = local.date_naive();
    check_date(date, zone, now, &mut violations);
    check_delivery(date, new.delivery_date, &mut violations);
    let at = local
        .time()
        .with_second(0)
        .and_then(|t| t.with_nanosecond(0));
    let (earliest, latest) = plan
        .as_ref()
        .map_or((None, None), |p| (p.earliest, p.latest));
    let times = EntryTimes::new(at.unwrap_or(local.time()), earliest, latest);
    let times = times.map_err(|broken| {
        for violation in broken.into_vec() {
            violations.add("contact_at", violation.reason);
        }
    });
    let (Some(customer), Ok(times)) = (customer, times) else {
        return Err(violations.into());
    };
    violations.finish(())?;
    let responsible = match (new.responsible, &plan) {
        ("", Some(plan)) => &plan.responsible,
        (given, _) => given,
    };
    let id = Uuid::now_v7();
    diesel::sql_query(
        "INSERT INTO planned_contact (tenant_id, id, source, plan_code, customer_id, plan_date,
             contact_date, contact_at, window_from, window_to, next_at, delivery_date, responsible,
             priority, skills, details)
         VALUES ($1, $2, 'manual', nullif($3, ''), $4, $5, $5, $6, least($7, $6), $8, $6, $9, $10,
             $11, $12, $13)",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(new.plan)
    .bind::<SqlUuid, _>(customer.id)
    .bind::<Date, _>(date)
    .bind::<Timestamptz, _>(new.contact_at)
    .bind::<Timestamptz, _>(instant(date, times.earliest(), zone))
    .bind::<Timestamptz, _>(end(&times, date, zone))
    .bind::<Nullable<Date>, _>(new.delivery_date)
    .bind::<Text, _>(responsible)
    .bind::<Integer, _>(new.priority)
    .bind::<Array<Text>, _>(new.skills)
    .bind::<Jsonb, _>(details(new))
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

fn details(new: &NewContact<'_>) -> serde_json::Value {
    serde_json::json!({
        "contact_person": new.contact_person, "phone": new.phone, "note": new.note,
    })
}

/// The first moment of a date that is too late.
fn end(times: &EntryTimes, date: NaiveDate, zone: Tz) -> DateTime<Utc> {
    instant(date, times.latest(), zone) + TimeDelta::minutes(1)
}

fn check_date(date: NaiveDate, zone: Tz, now: DateTime<Utc>, violations: &mut Violations) {
    let today = now.with_timezone(&zone).date_naive();
    if date < today {
        violations.add("contact_at", "must not be before today");
    } else if (date - today).num_days() > DAYS_AHEAD {
        violations.add(
            "contact_at",
            format!("must be at most {DAYS_AHEAD} days ahead"),
        );
    }
}

fn check_delivery(date: NaiveDate, delivery: Option<NaiveDate>, violations: &mut Violations) {
    if delivery.is_some_and(|delivery| delivery < date) {
        violations.add("delivery_date", "must not be before the contact date");
    }
}

/// Moves a contact: its hours go along to the other day, and are widened when the time is outside of
/// them. It leaves the day that it held of its plans.
///
/// # Errors
/// `Missing`; `Refused` when it is over or in somebody's hands; `Invalid` with violations at
/// `contact_at` and `delivery_date`.
pub async fn shift(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    contact_at: DateTime<Utc>,
    delivery_date: Option<NaiveDate>,
) -> Result<Contact> {
    let standing = hold(conn, tenant, id).await?;
    standing.must_be_free(id)?;
    let zone = zone(&standing.time_zone)?;
    let date = contact_at.with_timezone(&zone).date_naive();
    let mut violations = Violations::new();
    check_date(date, zone, standing.now, &mut violations);
    check_delivery(date, delivery_date, &mut violations);
    violations.finish(())?;
    let hours = hours(&standing.when())?;
    diesel::sql_query(format!(
        "UPDATE planned_contact
         SET contact_date = $3, contact_at = $4, next_at = $4, window_from = least($5, $4),
             window_to = greatest($6, $4 + interval '1 minute'),
             delivery_date = coalesce($7, delivery_date), any_time = false, holds_day = false,
             not_before = NULL, passed_over = '', marks = {}, updated_at = now()
         WHERE tenant_id = $1 AND id = $2",
        marked("moved")
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Date, _>(date)
    .bind::<Timestamptz, _>(contact_at)
    .bind::<Timestamptz, _>(instant(date, hours.earliest(), zone))
    .bind::<Timestamptz, _>(end(&hours, date, zone))
    .bind::<Nullable<Date>, _>(delivery_date)
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

/// The marks with one more.
fn marked(mark: &'static str) -> String {
    format!("CASE WHEN '{mark}' = ANY(marks) THEN marks ELSE marks || '{mark}'::text END")
}

/// Says whether a contact stays as it is.
///
/// # Errors
/// `Missing`; `Refused` when it is over.
pub async fn pin(conn: &mut Conn, tenant: TenantId, id: Uuid, pinned: bool) -> Result<Contact> {
    let standing = hold(conn, tenant, id).await?;
    if standing.is_over() {
        return Err(over(id, &standing.state));
    }
    diesel::sql_query(format!(
        "UPDATE planned_contact
         SET marks = CASE WHEN $3 THEN {} ELSE array_remove(marks, 'pinned') END,
             updated_at = CASE WHEN $3 = ('pinned' = ANY(marks)) THEN updated_at ELSE now() END
         WHERE tenant_id = $1 AND id = $2",
        marked("pinned")
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Bool, _>(pinned)
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

/// Makes somebody else responsible for a contact, or nobody, and pins it, so that no generation gives it
/// back to whom its plan says.
///
/// # Errors
/// `Missing`; `Refused` when it is over or in somebody's hands.
pub async fn assign(
    conn: &mut Conn,
    tenant: TenantId,
    id: Uuid,
    responsible: &str,
) -> Result<Contact> {
    hold(conn, tenant, id).await?.must_be_free(id)?;
    diesel::sql_query(format!(
        "UPDATE planned_contact SET responsible = $3, marks = {}, updated_at = now()
         WHERE tenant_id = $1 AND id = $2",
        marked("pinned")
    ))
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(responsible)
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}

/// Calls a contact off.
///
/// # Errors
/// `Missing`; `Refused` when it is over or in somebody's hands.
pub async fn cancel(conn: &mut Conn, tenant: TenantId, id: Uuid, note: &str) -> Result<Contact> {
    let standing: Standing = hold(conn, tenant, id).await?;
    standing.must_be_free(id)?;
    diesel::sql_query(
        "WITH cancelled AS (
             UPDATE planned_contact
             SET state = 'cancelled', outcome_class = 'cancelled', outcome = '', next_at = NULL,
                 any_time = false, not_before = NULL, passed_over = '', updated_at = now()
             WHERE tenant_id = $1 AND id = $2
             RETURNING id, customer_id, plan_code)
         INSERT INTO customer_event (tenant_id, customer_id, kind, resource, details)
         SELECT $1, customer_id, 'contact.cancelled', 'plannedContacts/' || id,
                jsonb_strip_nulls(jsonb_build_object('contact_plan', plan_code,
                                                     'note', nullif($3, ''), 'state', 'cancelled'))
         FROM cancelled",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(note)
    .execute(conn)
    .await?;
    found(conn, tenant, id).await
}
