//! What the domain's rules need to know of a contact: its hours, its plan's rules and workdays.

use std::collections::HashMap;

use anklang_domain::TenantId;
use anklang_domain::planning::{Calendar, EntryTimes, FollowUpMessage, OutcomeRules, Weekdays};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;
use diesel::QueryableByName;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures::future::try_join;

use super::Standing;
use crate::planning::{calendar, plan};
use crate::sql::Fix;
use crate::{Conn, Result, StoreError};

/// What is unusual about a contact, without being forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Outside of the hours in which the customer may be contacted.
    OutsideWindow,
    /// Before the contact date.
    BeforeContactDate,
    /// There is no phone number to call.
    NoNumber,
}

/// So long a time that the customer named holds, whatever the hours; then the hours do again.
pub(super) const NAMED_TIME_MINUTES: i64 = 60;

/// When a contact is to be made.
pub(super) struct When<'a> {
    /// The time zone that its clock is in.
    pub(super) zone: &'a str,
    pub(super) date: NaiveDate,
    pub(super) at: DateTime<Utc>,
    pub(super) from: DateTime<Utc>,
    /// The first moment that is too late.
    pub(super) to: DateTime<Utc>,
    /// The time that the customer named.
    pub(super) named: Option<DateTime<Utc>>,
    /// The time of the database.
    pub(super) now: DateTime<Utc>,
}

/// Calendars without work today, each with the zone of a plan that goes by it, as it is kept.
#[derive(Debug, Default)]
pub(super) struct Closed {
    pub(super) calendars: Vec<String>,
    pub(super) zones: Vec<String>,
}

/// Finds the calendars of plans that have no work today. `tenant_zone` is where plans are that do not say.
pub(super) async fn closed(
    conn: &mut Conn,
    tenant: TenantId,
    tenant_zone: &str,
    now: DateTime<Utc>,
) -> Result<Closed> {
    #[derive(QueryableByName)]
    struct Used {
        #[diesel(sql_type = Text)]
        calendar: String,
        #[diesel(sql_type = Text)]
        time_zone: String,
    }
    let used: Vec<Used> = diesel::sql_query(
        "SELECT DISTINCT calendar_id AS calendar, time_zone FROM contact_plan
         WHERE tenant_id = $1 AND calendar_id IS NOT NULL",
    )
    .bind::<SqlUuid, _>(tenant.0)
    .fixed()
    .load(conn)
    .await?;
    let mut closed = Closed::default();
    if used.is_empty() {
        return Ok(closed);
    }
    let ids: Vec<String> = used.iter().map(|u| u.calendar.clone()).collect();
    let mut calendars = HashMap::new();
    for row in calendar::by_ids(conn, tenant, &ids).await? {
        calendars.insert(row.id.clone(), row.rules()?);
    }
    for Used {
        calendar,
        time_zone,
    } in used
    {
        let zone = match &time_zone[..] {
            "" => zone(tenant_zone)?,
            name => zone(name)?,
        };
        let today = now.with_timezone(&zone).date_naive();
        if calendars
            .get(&calendar)
            .is_some_and(|c| !c.is_workday(today))
        {
            closed.calendars.push(calendar);
            closed.zones.push(time_zone);
        }
    }
    Ok(closed)
}

/// By which a contact goes on.
pub(super) struct Rules {
    pub(super) zone: Tz,
    pub(super) hours: EntryTimes,
    pub(super) calendar: Calendar,
    pub(super) outcomes: OutcomeRules,
    /// How the customer is written to who was not reached.
    pub(super) messages: Vec<FollowUpMessage>,
}

/// The rules of a contact: those of its plan, else the defaults.
pub(super) async fn load(conn: &Conn, tenant: TenantId, contact: &Standing) -> Result<Rules> {
    let (plan, calendar) = match &contact.plan_code {
        Some(code) => {
            let plan = plan::get(conn, tenant, code);
            try_join(plan, calendar::of_plan(conn, tenant, code)).await?
        }
        None => (None, None),
    };
    Ok(Rules {
        zone: zone(&contact.time_zone)?,
        hours: hours(&contact.when())?,
        calendar: match calendar {
            Some(calendar) => calendar.rules()?,
            None => Calendar::new(Weekdays::ANY, None, []),
        },
        outcomes: match &plan {
            Some(plan) => plan.outcome_rules()?,
            None => OutcomeRules::default(),
        },
        messages: match &plan {
            Some(plan) => plan.follow_up_messages()?,
            None => Vec::new(),
        },
    })
}

/// A time zone as it is kept.
pub(super) fn zone(name: &str) -> Result<Tz> {
    name.parse()
        .map_err(|e| StoreError::Stored(format!("a time zone: {e}")))
}

/// The hours in which the customer may be contacted, by the clock of the contact's zone.
pub(super) fn hours(when: &When<'_>) -> Result<EntryTimes> {
    let zone = zone(when.zone)?;
    let date = when.date;
    // To the minute, and within the day.
    let clock = |time: DateTime<Utc>| {
        let local = time.with_timezone(&zone);
        let time = match local.date_naive() {
            day if day < date => NaiveTime::MIN,
            day if day > date => LAST_MINUTE,
            _ => local.time(),
        };
        time.with_second(0)
            .and_then(|t| t.with_nanosecond(0))
            .unwrap_or(time)
    };
    // The window ends with the first minute that is too late, the hours with the last that is not.
    let last = when.to - TimeDelta::minutes(1);
    let (from, to) = (clock(when.from), clock(last));
    let at = clock(when.at).clamp(from, to.max(from));
    EntryTimes::new(at, Some(from), Some(to.max(from)))
        .map_err(|e| StoreError::Stored(format!("the hours of a contact: {e}")))
}

const LAST_MINUTE: NaiveTime = NaiveTime::from_hms_opt(23, 59, 0).expect("there is this minute");

/// What is unusual about contacting the customer now. A time that the customer named is usual.
pub(super) fn warnings(when: &When<'_>) -> Result<Vec<Warning>> {
    let zone = zone(when.zone)?;
    let mut warnings = Vec::new();
    let holds = TimeDelta::minutes(NAMED_TIME_MINUTES);
    let is_named = when.named.is_some_and(|named| when.now < named + holds);
    if !is_named && !hours(when)?.is_within(when.now, zone) {
        warnings.push(Warning::OutsideWindow);
    }
    if when.now.with_timezone(&zone).date_naive() < when.date {
        warnings.push(Warning::BeforeContactDate);
    }
    Ok(warnings)
}

/// As [`warnings`], for somebody who is about to call this number.
pub(super) fn warnings_of_call(when: &When<'_>, phone: &str) -> Result<Vec<Warning>> {
    let mut warnings = warnings(when)?;
    if phone.is_empty() {
        warnings.push(Warning::NoNumber);
    }
    Ok(warnings)
}
