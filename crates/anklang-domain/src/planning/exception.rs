//! Exceptions of a plan: what happens on one of its dates instead.

use chrono::{Datelike, Days, NaiveDate};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::calendar::SEARCH_DAYS;
use super::delivery::is_delivery_day;
use super::weekdays;
use super::{Calendar, DateOutcome, DateRange, Day, OnHoliday, Plan, plan_dates, under_plan};
use crate::Violations;

/// An exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The recurrence date of the plan that it is about, workday or not.
    pub on: NaiveDate,
    /// What happens instead.
    pub change: Change,
    /// Whether the contact is made also when the same customer has another one on its date.
    #[serde(default)]
    pub duplicates: bool,
}

/// What happens instead of a contact on the recurrence date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// A contact on another date.
    Contact {
        /// The date, a workday within the plan's validity.
        date: NaiveDate,
        /// The delivery date, a delivery day after the contact; `None`: the next delivery day.
        #[serde(default)]
        delivery: Option<NaiveDate>,
    },
    /// Another delivery date.
    Delivery {
        /// The date, a delivery day after the contact.
        date: NaiveDate,
    },
    /// A contact on the date, but under another plan.
    Plan {
        /// That plan.
        plan: Uuid,
    },
    /// No contact.
    Nothing,
    /// Nothing changes but that duplicates are permitted.
    AsPlanned,
}

/// How many days are named as what would be right.
const NAMED: usize = 3;

/// Checks an exception that somebody enters, all at once. `others` are the plan's other exceptions,
/// without the one that is being changed; `other_plan` is the plan that a [`Change::Plan`] names, with
/// its calendar. Violations are of the fields `date`, `contact_date`, `delivery_date` and `plan`.
pub fn check_exception(
    plan: &Plan,
    calendar: &Calendar,
    others: &[Exception],
    exception: &Exception,
    other_plan: Option<(&Plan, &Calendar)>,
) -> Violations {
    let mut violations = Violations::new();
    let on = exception.on;
    check_date(plan, calendar, on, &mut violations);
    if others.iter().any(|other| other.on == on) {
        violations.add("date", "has another exception already");
    }
    match &exception.change {
        Change::Contact { date, delivery } => {
            check_contact(plan, calendar, others, exception, *date, &mut violations);
            if let Some(delivery) = delivery {
                check_delivery(plan, calendar, *date, *delivery, &mut violations);
            }
        }
        Change::Delivery { date } => {
            let contact = match calendar.day(on) {
                Day::Workday => Some(on),
                day => beside(plan, calendar, on).or_else(|| {
                    let why = format!("has no contact to deliver after: it is no workday ({day})");
                    violations.add("date", why);
                    None
                }),
            };
            check_delivery(
                plan,
                calendar,
                contact.unwrap_or(on),
                *date,
                &mut violations,
            );
        }
        Change::Plan { .. } => {
            if let Some((other, calendar)) = other_plan
                && let DateOutcome::None(why) = under_plan(other, calendar, on)
            {
                violations.add("plan", format!("can have no contact on {on}: {why}"));
            }
        }
        Change::Nothing | Change::AsPlanned => {}
    }
    violations
}

/// Where the plan puts the contact of a date that is no workday.
fn beside(plan: &Plan, calendar: &Calendar, on: NaiveDate) -> Option<NaiveDate> {
    match plan.on_holiday {
        OnHoliday::Skip => None,
        OnHoliday::NextWorkday => calendar.workdays_after(on).next(),
        OnHoliday::PreviousWorkday => calendar.workday_before(on),
    }
}

fn check_date(plan: &Plan, calendar: &Calendar, on: NaiveDate, violations: &mut Violations) {
    if !plan.validity.contains(on) {
        let why = format!("must be within the plan's validity, {}", plan.validity);
        return violations.add("date", why);
    }
    let dates = |first, last| {
        let range = DateRange::new(first, Some(last)).ok();
        let range = range.and_then(|range| range.intersection(plan.validity));
        let dates = range.map(|range| plan.recurrence.dates(plan.validity.first(), range));
        dates.unwrap_or_default()
    };
    if !dates(on, on).is_empty() {
        return;
    }
    let around = Days::new(SEARCH_DAYS as u64);
    let (before, after) = (on.checked_sub_days(around), on.checked_add_days(around));
    let near = dates(
        before.unwrap_or(on).max(plan.validity.first()),
        after.unwrap_or(on).min(plan.validity.last()),
    );
    let moved_here = near
        .iter()
        .find(|date| !calendar.is_workday(**date) && beside(plan, calendar, **date) == Some(on));
    violations.add(
        "date",
        match moved_here {
            Some(date) => format!("is where the contact of {date} moves: name that date"),
            None => match list(near.into_iter().filter(|date| *date > on)) {
                Some(next) => format!("is no contact date of the plan; the next ones are {next}"),
                None => "is no contact date of the plan".into(),
            },
        },
    );
}

fn check_contact(
    plan: &Plan,
    calendar: &Calendar,
    others: &[Exception],
    exception: &Exception,
    date: NaiveDate,
    violations: &mut Violations,
) {
    const FIELD: &str = "contact_date";
    if date == exception.on {
        violations.add(FIELD, "must be another date than the plan's own");
    }
    if !plan.validity.contains(date) {
        let why = format!("must be within the plan's validity, {}", plan.validity);
        violations.add(FIELD, why);
    }
    let day = calendar.day(date);
    if day != Day::Workday {
        let next = calendar.workdays_after(date);
        let next = list(next.filter(|date| plan.validity.contains(*date)));
        let next = next.map(|next| format!("; the next workdays are {next}"));
        violations.add(
            FIELD,
            format!(
                "must be a workday, and is not ({day}){}",
                next.unwrap_or_default()
            ),
        );
    }
    let there = DateRange::new(date, Some(date)).map(|day| plan_dates(plan, others, calendar, day));
    let is_taken = there.is_ok_and(|there| {
        let mut contacts = there.iter().filter(|planned| planned.is_contact());
        contacts.any(|planned| planned.on != exception.on)
    });
    if is_taken && !exception.duplicates {
        violations.add(
            FIELD,
            "has a contact of the plan already; choose another date or permit duplicates",
        );
    }
}

fn check_delivery(
    plan: &Plan,
    calendar: &Calendar,
    contact: NaiveDate,
    date: NaiveDate,
    violations: &mut Violations,
) {
    const FIELD: &str = "delivery_date";
    let Some(weekdays) = plan.deliveries else {
        return violations.add(FIELD, "must be absent: the plan has no delivery days");
    };
    if date <= contact {
        violations.add(FIELD, format!("must be after the contact on {contact}"));
    }
    if is_delivery_day(weekdays, calendar, date) {
        return;
    }
    let day = match calendar.day(date) {
        Day::Workday => weekdays::name(date.weekday()).to_owned(),
        day => day.to_string(),
    };
    let next = date.max(contact).iter_days().skip(1).take(SEARCH_DAYS);
    let next = list(next.filter(|date| is_delivery_day(weekdays, calendar, *date)));
    let next = next.map(|next| format!("; the next ones are {next}"));
    violations.add(
        FIELD,
        format!(
            "must be a delivery day of the plan, and is not ({day}){}",
            next.unwrap_or_default()
        ),
    );
}

/// The first few days, for people; `None` when there are none.
fn list(days: impl Iterator<Item = NaiveDate>) -> Option<String> {
    let days: Vec<String> = days.take(NAMED).map(|day| day.to_string()).collect();
    (!days.is_empty()).then(|| days.join(", "))
}
