//! What the domain's rules need to know of a contact: its hours, its plan's rules and workdays.

use anklang_domain::TenantId;
use anklang_domain::planning::{
    Calendar, EntryTimes, FollowUp, OutcomeClass, RetryRule, Weekdays,
};
use chrono::{DateTime, NaiveTime, Timelike, Utc};
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
    given: Vec<plan::OutcomeRule>,
}

/// What contacts without a rule of their plan go by: minutes until the next attempt, and attempts.
const DEFAULTS: [(OutcomeClass, u32, u32); 3] = [
    (OutcomeClass::NotReached, 120, 3),
    (OutcomeClass::Busy, 15, 3),
    (OutcomeClass::CallLater, 60, 3),
];

impl Rules {
    /// The rule for an outcome; `None` when it is final.
    pub(super) fn of(&self, class: OutcomeClass) -> Result<Option<RetryRule>> {
        let default = DEFAULTS.iter().find(|(known, ..)| *known == class);
        let Some((_, minutes, attempts)) = default.copied() else {
            return Ok(None);
        };
        let given = self.given.iter().find(|rule| rule.class == class.as_str());
        let (minutes, attempts) = match given {
            None => (minutes, attempts),
            Some(rule) => (number(rule.retry_minutes)?, number(rule.max_attempts)?),
        };
        RetryRule::new(minutes, 100, minutes, attempts, FollowUp::Close)
            .map(Some)
            .map_err(|e| StoreError::Stored(format!("an outcome rule: {e}")))
    }
}

fn number(stored: i32) -> Result<u32> {
    u32::try_from(stored).map_err(|e| StoreError::Stored(format!("an outcome rule: {e}")))
}

/// The rules of a contact.
pub(super) async fn load(
    conn: &mut Conn,
    tenant: TenantId,
    contact: &Standing,
) -> Result<Rules> {
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
            Some(calendar) => calendar.rule()?,
            None => Calendar::new(Weekdays::ANY, None, []),
        },
        given: match plan {
            Some(plan) => plan.outcome_rules()?,
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
pub(super) fn hours(contact: &Standing) -> Result<EntryTimes> {
    let zone = zone(&contact.time_zone)?;
    let date = contact.contact_date;
    // To the minute, and within the day: a window may end with it.
    let clock = |time: DateTime<Utc>| {
        let local = time.with_timezone(&zone);
        let time = match local.date_naive() {
            day if day < date => NaiveTime::MIN,
            day if day > date => LAST_MINUTE,
            _ => local.time(),
        };
        time.with_second(0).and_then(|t| t.with_nanosecond(0)).unwrap_or(time)
    };
    let (from, to) = (clock(contact.window_from), clock(contact.window_to));
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
