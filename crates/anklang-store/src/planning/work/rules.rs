//! What the domain's rules need to know of a contact: its hours, its plan's rules and workdays.

use anklang_domain::TenantId;
use anklang_domain::planning::{Calendar, EntryTimes, OutcomeRules, Weekdays};
use chrono::{DateTime, NaiveTime, TimeDelta, Timelike, Utc};
use chrono_tz::Tz;

use super::Standing;
use crate::planning::{calendar, plan};
use crate::{Conn, Result, StoreError};

/// What is unusual about a contact, without being forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warning {
    /// Outside of the hours in which the customer may be contacted.
    OutsideWindow,
    /// Before the contact date.
    BeforeContactDate,
}

/// By which a contact goes on.
pub(super) struct Rules {
    pub(super) zone: Tz,
    pub(super) hours: EntryTimes,
    pub(super) calendar: Calendar,
    pub(super) outcomes: OutcomeRules,
}

/// The rules of a contact: those of its plan, else the defaults.
pub(super) async fn load(conn: &mut Conn, tenant: TenantId, contact: &Standing) -> Result<Rules> {
    let plan = match &contact.plan_code {
        Some(code) => plan::get(conn, tenant, code).await?,
        None => None,
    };
    let calendar = match plan.as_ref().and_then(|plan| plan.calendar_id.as_deref()) {
        Some(id) => calendar::get(conn, tenant, id).await?,
        None => None,
    };
    Ok(Rules {
        zone: zone(&contact.time_zone)?,
        hours: hours(contact)?,
        calendar: match calendar {
            Some(calendar) => calendar.rules()?,
            None => Calendar::new(Weekdays::ANY, None, []),
        },
        outcomes: match plan {
            Some(plan) => plan.outcome_rules()?,
            None => OutcomeRules::default(),
        },
    })
}

/// A time zone as it is kept.
pub(super) fn zone(name: &str) -> Result<Tz> {
    name.parse()
        .map_err(|e| StoreError::Stored(format!("a time zone: {e}")))
}

/// The hours in which the customer may be contacted, by the clock of the contact's zone.
pub(super) fn hours(contact: &Standing) -> Result<EntryTimes> {
    let zone = zone(&contact.time_zone)?;
    let date = contact.contact_date;
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
    let last = contact.window_to - TimeDelta::minutes(1);
    let (from, to) = (clock(contact.window_from), clock(last));
    let at = clock(contact.contact_at).clamp(from, to.max(from));
    EntryTimes::new(at, Some(from), Some(to.max(from)))
        .map_err(|e| StoreError::Stored(format!("the hours of a contact: {e}")))
}

const LAST_MINUTE: NaiveTime = NaiveTime::from_hms_opt(23, 59, 0).expect("there is this minute");

/// What is unusual about contacting the customer now. A time that the customer named is usual.
pub(super) fn warnings(contact: &Standing) -> Result<Vec<Warning>> {
    let zone = zone(&contact.time_zone)?;
    let mut warnings = Vec::new();
    if !contact.any_time && !hours(contact)?.is_within(contact.now, zone) {
        warnings.push(Warning::OutsideWindow);
    }
    if contact.now.with_timezone(&zone).date_naive() < contact.contact_date {
        warnings.push(Warning::BeforeContactDate);
    }
    Ok(warnings)
}
