//! What happens on the dates of a plan.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::calendar::SEARCH_DAYS;
use super::delivery::{Delivery, deliveries};
use super::{Calendar, Change, Day, Exception, Recurrence, Weekdays};

/// The first day that planning knows.
pub const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1900, 1, 1).expect("there is this day");
/// The last day that planning knows.
pub const LAST_DAY: NaiveDate = NaiveDate::from_ymd_opt(2199, 12, 31).expect("there is this day");

/// Days from one to another, both included, within [`FIRST_DAY`] to [`LAST_DAY`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRange")]
pub struct DateRange {
    first: NaiveDate,
    last: NaiveDate,
}

#[derive(Deserialize)]
struct RawRange {
    first: NaiveDate,
    last: NaiveDate,
}

impl TryFrom<RawRange> for DateRange {
    type Error = &'static str;

    fn try_from(raw: RawRange) -> Result<Self, Self::Error> {
        DateRange::new(raw.first, Some(raw.last))
    }
}

impl DateRange {
    /// A range; without a last day up to [`LAST_DAY`].
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn new(first: NaiveDate, last: Option<NaiveDate>) -> Result<DateRange, &'static str> {
        let last = last.unwrap_or(LAST_DAY);
        if first < FIRST_DAY || last > LAST_DAY {
            return Err("must be days of the years 1900 to 2199");
        }
        if last < first {
            return Err("must not end before it begins");
        }
        Ok(DateRange { first, last })
    }

    /// All days of some years, as far as planning knows them.
    pub(super) fn years(first: i32, last: i32) -> DateRange {
        let first = NaiveDate::from_ymd_opt(first, 1, 1).map(|day| day.max(FIRST_DAY));
        let last = NaiveDate::from_ymd_opt(last, 12, 31).map(|day| day.min(LAST_DAY));
        DateRange {
            first: first.unwrap_or(FIRST_DAY),
            last: last.unwrap_or(LAST_DAY),
        }
    }

    /// The first day.
    pub fn first(self) -> NaiveDate {
        self.first
    }

    /// The last day.
    pub fn last(self) -> NaiveDate {
        self.last
    }

    /// Whether a day is among them.
    pub fn contains(self, day: NaiveDate) -> bool {
        (self.first..=self.last).contains(&day)
    }

    /// The days that are in both.
    pub fn intersection(self, other: DateRange) -> Option<DateRange> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(DateRange { first, last })
    }

    /// With so many days more at both ends.
    fn widened(self, days: u64) -> DateRange {
        let first = self.first.checked_sub_days(Days::new(days));
        let last = self.last.checked_add_days(Days::new(days));
        DateRange {
            first: first.unwrap_or(FIRST_DAY).max(FIRST_DAY),
            last: last.unwrap_or(LAST_DAY).min(LAST_DAY),
        }
    }
}

impl std::fmt::Display for DateRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.last {
            LAST_DAY => write!(f, "from {} on", self.first),
            last => write!(f, "{} to {last}", self.first),
        }
    }
}

/// What becomes of a recurrence date that is no workday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHoliday {
    /// There is no contact.
    #[default]
    Skip,
    /// The contact is on the next workday.
    NextWorkday,
    /// The contact is on the workday before.
    PreviousWorkday,
}

/// The rules of a contact plan, as far as they are about dates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How it repeats.
    pub recurrence: Recurrence,
    /// When it is valid. No contact of its is outside; deliveries may come after.
    pub validity: DateRange,
    /// What becomes of dates that are no workdays.
    #[serde(default)]
    pub on_holiday: OnHoliday,
    /// On which weekdays goods are delivered; `None`: no deliveries are planned.
    #[serde(default)]
    pub deliveries: Option<Weekdays>,
}

/// What happens with one recurrence date of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedDate {
    /// The recurrence date: what identifies it among the plan's, whatever moves the contact.
    /// Exceptions name it.
    pub on: NaiveDate,
    /// The date on which the contact is, or would be.
    pub date: NaiveDate,
    /// Whether the contact is made also when the same customer has another one on that date; from
    /// the exception. Of the contacts of a customer on one date that do not permit duplicates one
    /// is made, and all that do.
    pub duplicates: bool,
    /// What happens.
    pub outcome: DateOutcome,
}

/// What happens on a date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DateOutcome {
    /// A contact.
    Contact {
        /// Why it is not on the recurrence date, if it is not.
        moved: Option<Moved>,
        /// The delivery that follows.
        delivery: Delivery,
    },
    /// The contact is made under another plan: [`under_plan`] says how.
    OtherPlan {
        /// That plan.
        plan: Uuid,
    },
    /// None.
    None(NoContact),
}

/// Why a contact is on another date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// An exception says so.
    Exception,
    /// The recurrence date is no workday, for this reason: a holiday's or a weekday's name.
    NotWorkday(String),
}

/// Why there is no contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoContact {
    /// An exception says so.
    Exception,
    /// The date is no workday, for this reason: a holiday's or a weekday's name.
    NotWorkday(String),
    /// It would be outside of the plan's validity.
    OutsideValidity,
    /// The plan has another contact on that date.
    SameDate,
}

/// What happens with the recurrence dates of a plan whose contact is, or would be, on a date of the
/// range; ordered by that date. Of several exceptions for one date the first holds; those for
/// other dates than recurrence dates within the validity have no effect.
///
/// What was valid when somebody entered it may have become invalid: an exception's contact date that
/// is no workday any more gives no contact, one outside of the validity neither; from a delivery date
/// that is none any more on the next one is taken.
pub fn plan_dates(
    plan: &Plan,
    exceptions: &[Exception],
    calendar: &Calendar,
    range: DateRange,
) -> Vec<PlannedDate> {
    let mut of_date = BTreeMap::new();
    for exception in exceptions.iter().rev() {
        of_date.insert(exception.on, exception);
    }
    let mut dates: Vec<PlannedDate> = origins(plan, exceptions, range)
        .into_iter()
        .map(|on| planned(plan, of_date.get(&on).copied(), calendar, on))
        .filter(|planned| range.contains(planned.date))
        .collect();
    // What comes first is what is made if only one can be.
    dates.sort_by_key(|planned| {
        let moved_by_exception = planned.outcome.is_moved_by_exception();
        (
            planned.date,
            planned.duplicates,
            planned.on != planned.date,
            Reverse(moved_by_exception),
            planned.on,
        )
    });
    let mut taken = None;
    for planned in &mut dates {
        if !planned.is_contact() || planned.duplicates {
            continue;
        }
        if taken.replace(planned.date) == Some(planned.date) {
            planned.outcome = DateOutcome::None(NoContact::SameDate);
        }
    }
    dates
}

/// The recurrence dates whose contact can be in a range.
fn origins(plan: &Plan, exceptions: &[Exception], range: DateRange) -> Vec<NaiveDate> {
    // As far as a workday is looked for.
    let near = range
        .widened(SEARCH_DAYS as u64)
        .intersection(plan.validity);
    let dates = |range| plan.recurrence.dates(plan.validity.first(), range);
    let mut origins = near.map(dates).unwrap_or_default();
    let moved = exceptions.iter().filter(|exception| {
        let into = |date| range.contains(date);
        matches!(exception.change, Change::Contact { date, .. } if into(date))
            && plan.validity.contains(exception.on)
            && !near.is_some_and(|near| near.contains(exception.on))
    });
    let moved: Vec<NaiveDate> = moved.map(|exception| exception.on).collect();
    if let (Some(first), Some(last)) = (moved.iter().min(), moved.iter().max()) {
        let from_far = DateRange {
            first: *first,
            last: *last,
        };
        origins.extend(dates(from_far).into_iter().filter(|on| moved.contains(on)));
    }
    origins
}

fn planned(
    plan: &Plan,
    exception: Option<&Exception>,
    calendar: &Calendar,
    on: NaiveDate,
) -> PlannedDate {
    let (date, outcome) = match exception.map(|exception| &exception.change) {
        Some(Change::Nothing) => (on, DateOutcome::None(NoContact::Exception)),
        Some(Change::Plan { plan }) => (on, DateOutcome::OtherPlan { plan: *plan }),
        Some(Change::Contact { date, delivery }) => {
            let moved = (*date != on).then_some(Moved::Exception);
            (*date, contact(plan, calendar, *date, moved, *delivery))
        }
        Some(Change::Delivery { date }) => regular(plan, calendar, on, Some(*date)),
        Some(Change::AsPlanned) | None => regular(plan, calendar, on, None),
    };
    PlannedDate {
        on,
        date,
        duplicates: exception.is_some_and(|exception| exception.duplicates),
        outcome,
    }
}

/// A contact on its recurrence date, or on a workday beside.
fn regular(
    plan: &Plan,
    calendar: &Calendar,
    on: NaiveDate,
    delivery: Option<NaiveDate>,
) -> (NaiveDate, DateOutcome) {
    let day = calendar.day(on);
    let beside = match plan.on_holiday {
        _ if day == Day::Workday => return (on, contact(plan, calendar, on, None, delivery)),
        OnHoliday::Skip => None,
        OnHoliday::NextWorkday => calendar.workdays_after(on).next(),
        OnHoliday::PreviousWorkday => calendar.workday_before(on),
    };
    let why = day.to_string();
    match beside {
        None => (on, DateOutcome::None(NoContact::NotWorkday(why))),
        Some(date) => {
            let moved = Some(Moved::NotWorkday(why));
            (date, contact(plan, calendar, date, moved, delivery))
        }
    }
}

fn contact(
    plan: &Plan,
    calendar: &Calendar,
    date: NaiveDate,
    moved: Option<Moved>,
    delivery: Option<NaiveDate>,
) -> DateOutcome {
    let day = calendar.day(date);
    if !plan.validity.contains(date) {
        DateOutcome::None(NoContact::OutsideValidity)
    } else if day != Day::Workday {
        DateOutcome::None(NoContact::NotWorkday(day.to_string()))
    } else {
        let delivery = deliveries(plan.deliveries, calendar, date, delivery);
        DateOutcome::Contact { moved, delivery }
    }
}

/// What happens with a contact on a date that an exception hands to another plan: that plan's validity,
/// calendar and delivery days count; its weekdays and exceptions do not.
pub fn under_plan(other: &Plan, calendar: &Calendar, date: NaiveDate) -> DateOutcome {
    contact(other, calendar, date, None, None)
}

impl PlannedDate {
    /// Whether there is a contact under the plan itself.
    pub fn is_contact(&self) -> bool {
        matches!(self.outcome, DateOutcome::Contact { .. })
    }
}

impl DateOutcome {
    fn is_moved_by_exception(&self) -> bool {
        matches!(
            self,
            DateOutcome::Contact {
                moved: Some(Moved::Exception),
                ..
            }
        )
    }
}

impl std::fmt::Display for NoContact {
    /// The reason as a sentence for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoContact::Exception => f.write_str("an exception of the plan leaves it out"),
            NoContact::NotWorkday(why) => write!(f, "it is no workday ({why})"),
            NoContact::OutsideValidity => f.write_str("it is outside of the plan's validity"),
            NoContact::SameDate => f.write_str("the plan has another contact on that date"),
        }
    }
}

impl std::fmt::Display for Moved {
    /// The reason as a sentence for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Moved::Exception => f.write_str("an exception of the plan moves it"),
            Moved::NotWorkday(why) => write!(f, "its own date is no workday ({why})"),
        }
    }
}
