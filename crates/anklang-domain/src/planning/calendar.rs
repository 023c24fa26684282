//! Workday calendars: on which days a plan's company works.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

use super::holidays::{PublicHolidays, Region};
use super::weekdays::{self, Weekdays};
use super::{DateRange, LAST_DAY};

/// At most so many days on or back a workday is looked for.
pub const SEARCH_DAYS: usize = 60;

/// Which days are workdays. A day of the tenant's own goes first; then a holiday of the region, or a
/// weekend's day that the region has made a workday; then the weekday.
#[derive(Debug, Clone)]
pub struct Calendar {
    weekdays: Weekdays,
    public: Option<PublicHolidays>,
    own: BTreeMap<NaiveDate, OwnDay>,
}

/// A day of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDay {
    /// The day.
    pub date: NaiveDate,
    /// What it is, whatever the region says.
    pub kind: OwnDayKind,
    /// Shown to people, e.g. `Betriebsausflug`; may be empty.
    #[serde(default)]
    pub name: String,
}

/// What a tenant's own day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnDayKind {
    /// Nobody works.
    Holiday,
    /// People work, also on a Sunday or a public holiday.
    Workday,
}

/// What a day is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day<'a> {
    /// People work.
    Workday,
    /// A holiday, the region's or the tenant's own; its name in the region's language, or empty.
    Holiday(&'a str),
    /// A weekday on which nobody works.
    Free(Weekday),
}

impl Calendar {
    /// A calendar of weekdays that are workdays ([`Weekdays::MONDAY_TO_FRIDAY`] for most), the
    /// holidays of a region, and the tenant's own days; of several for a date the last one holds.
    pub fn new(
        weekdays: Weekdays,
        region: Option<Region>,
        own: impl IntoIterator<Item = OwnDay>,
    ) -> Calendar {
        Calendar {
            weekdays,
            public: region.map(Region::holidays),
            own: own.into_iter().map(|day| (day.date, day)).collect(),
        }
    }

    /// What a day is.
    pub fn day(&self, date: NaiveDate) -> Day<'_> {
        if let Some(own) = self.own.get(&date) {
            return match own.kind {
                OwnDayKind::Holiday => Day::Holiday(&own.name),
                OwnDayKind::Workday => Day::Workday,
            };
        }
        if let Some(public) = &self.public {
            if let Some(name) = public.name(date) {
                return Day::Holiday(name);
            }
            if public.is_workday(date) {
                return Day::Workday;
            }
        }
        if self.weekdays.contains(date.weekday()) {
            Day::Workday
        } else {
            Day::Free(date.weekday())
        }
    }

    /// Whether people work.
    pub fn is_workday(&self, date: NaiveDate) -> bool {
        self.day(date) == Day::Workday
    }

    /// The workdays of the [`SEARCH_DAYS`] after a day, ascending.
    pub fn workdays_after(&self, date: NaiveDate) -> impl Iterator<Item = NaiveDate> {
        let days = date.iter_days().skip(1).take(SEARCH_DAYS);
        days.filter(|day| self.is_workday(*day))
    }

    /// The last workday of the [`SEARCH_DAYS`] before a day.
    pub fn workday_before(&self, date: NaiveDate) -> Option<NaiveDate> {
        let mut days = std::iter::successors(date.pred_opt(), NaiveDate::pred_opt);
        days.by_ref()
            .take(SEARCH_DAYS)
            .find(|day| self.is_workday(*day))
    }

    /// The days of a range for which the region's holidays are not known, so that they look like
    /// workdays: for a warning. Those before what is known, and those after.
    pub fn unknown(&self, range: DateRange) -> [Option<DateRange>; 2] {
        let Some(public) = &self.public else {
            return [None, None];
        };
        let known = public.known();
        let before = DateRange::new(range.first(), known.first().pred_opt());
        let after = known.last().succ_opt().unwrap_or(LAST_DAY);
        [
            before.ok().and_then(|days| days.intersection(range)),
            DateRange::new(after, None)
                .ok()
                .and_then(|days| days.intersection(range)),
        ]
    }
}

impl std::fmt::Display for Day<'_> {
    /// The reason in a sentence: the holiday's name or the weekday's.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Day::Workday => "workday",
            Day::Holiday("") => "holiday",
            Day::Holiday(name) => name,
            Day::Free(weekday) => weekdays::name(*weekday),
        })
    }
}
