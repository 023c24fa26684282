//! The delivery that follows a contact.

use chrono::{Datelike, NaiveDate};

use super::{Calendar, Day, Weekdays};

/// Delivery days come into question up to so many days after the contact, or from an exception's
/// delivery date on, that included.
pub const DELIVERY_DAYS: usize = 60;

/// The delivery of a contact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// The delivery days that come into question, ascending: the planned one, then those to which it
    /// moves for a customer who is inactive. Empty when the plan has no deliveries, or there is no
    /// delivery day in [`DELIVERY_DAYS`].
    pub candidates: Vec<NaiveDate>,
    /// The delivery weekdays before the planned one that are no workdays, ascending.
    pub skipped: Vec<SkippedDay>,
    /// Whether an exception names the planned one.
    pub by_exception: bool,
}

/// A day on which there would be a delivery if it were a workday.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedDay {
    /// The day.
    pub date: NaiveDate,
    /// The name of the holiday or of the weekday on which nobody works.
    pub why: String,
}

impl Delivery {
    /// The planned one, for customers who are active.
    pub fn date(&self) -> Option<NaiveDate> {
        self.candidates.first().copied()
    }
}

/// Whether goods are delivered on a day: one of the delivery weekdays, and a workday.
pub fn is_delivery_day(weekdays: Weekdays, calendar: &Calendar, date: NaiveDate) -> bool {
    weekdays.contains(date.weekday()) && calendar.is_workday(date)
}

/// The delivery of a contact: on the first delivery day after its date, never on the date itself. An
/// exception's delivery date goes first, if it is a delivery day after the contact; if not, it is where
/// the search begins.
pub fn deliveries(
    weekdays: Option<Weekdays>,
    calendar: &Calendar,
    contact: NaiveDate,
    exception: Option<NaiveDate>,
) -> Delivery {
    let Some(weekdays) = weekdays else {
        return Delivery::default();
    };
    let exception = exception.filter(|date| *date > contact);
    let mut delivery = Delivery::default();
    let Some(begin) = exception.or(contact.succ_opt()) else {
        return delivery;
    };
    let days = begin.iter_days().take(DELIVERY_DAYS);
    for date in days.filter(|date| weekdays.contains(date.weekday())) {
        match calendar.day(date) {
            Day::Workday => delivery.candidates.push(date),
            day if delivery.candidates.is_empty() => delivery.skipped.push(SkippedDay {
                date,
                why: day.to_string(),
            }),
            _ => {}
        }
    }
    delivery.by_exception = exception.is_some() && delivery.date() == exception;
    delivery
}
