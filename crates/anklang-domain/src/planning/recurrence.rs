//! How a plan repeats: in words of people, or as a rule of RFC 5545.
//!
//! Stored as JSON in the form of [`Shape`], whose names never change:
//! `{"weekly": {"every": 2, "weekdays": ["tue", "thu"]}}`,
//! `{"monthly_by_weekday": {"every": 1, "on": [{"nth": -1, "weekday": "fri"}]}}`,
//! `{"monthly_by_day": {"every": 1, "days": [1, 15]}}`, `{"rule": "FREQ=DAILY;INTERVAL=3"}`.

use chrono::{NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

use super::DateRange;
use super::rule::{Frequency, MOST_EVERY, Rule};
use super::weekdays::{Weekdays, as_word};

/// A recurrence that makes sense: made by [`Recurrence::new`] alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub struct Recurrence {
    shape: Shape,
    rule: Rule,
}

/// A recurrence as people say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Shape {
    /// On weekdays of every n-th week. Weeks begin on Monday and are counted from the one in which the
    /// plan's first day of validity lies.
    Weekly {
        /// Every so many weeks, 1 to 1,000.
        every: u16,
        /// On these days.
        weekdays: Weekdays,
    },
    /// On the n-th weekdays of every n-th month, counted from the month of the first day of validity.
    MonthlyByWeekday {
        /// Every so many months, 1 to 1,000.
        every: u16,
        /// At least one, e.g. the second Tuesday. A fifth one that a month lacks is left out.
        on: Vec<NthWeekday>,
    },
    /// On days of every n-th month, counted from the month of the first day of validity.
    MonthlyByDay {
        /// Every so many months, 1 to 1,000.
        every: u16,
        /// At least one; 1 to 31, or -1 (the last day) to -31. A day that a month lacks is left out
        /// in that month.
        days: Vec<i8>,
    },
    /// An RRULE of RFC 5545, with or without `RRULE:` before it. It begins with the first day of
    /// validity and ends with the last: COUNT and UNTIL are refused, as are repetitions within a
    /// day, hours, minutes and seconds.
    Rule(String),
}

/// The n-th of a weekday in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NthWeekday {
    /// 1 (the first) to 5, or -1 (the last) to -4.
    pub nth: i8,
    /// The weekday.
    #[serde(with = "as_word")]
    pub weekday: Weekday,
}

impl Recurrence {
    /// Checks a shape.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn new(shape: Shape) -> Result<Recurrence, String> {
        let rule = match &shape {
            Shape::Weekly { every, weekdays } => Rule {
                by_day: weekdays.iter().map(|day| (None, day)).collect(),
                ..Rule::every(Frequency::Weekly, *every)
            },
            Shape::MonthlyByWeekday { on, .. }
                if on.is_empty() || !on.iter().all(|on| matches!(on.nth, 1..=5 | -4..=-1)) =>
            {
                return Err(
                    "must name weekdays of the month, the first (1) to the fifth, or the last (-1) to -4"
                        .into(),
                );
            }
            Shape::MonthlyByWeekday { every, on } => Rule {
                by_day: on
                    .iter()
                    .map(|on| (Some(i16::from(on.nth)), on.weekday))
                    .collect(),
                ..Rule::every(Frequency::Monthly, *every)
            },
            Shape::MonthlyByDay { days, .. }
                if days.is_empty() || !days.iter().all(|day| matches!(day, 1..=31 | -31..=-1)) =>
            {
                return Err("must name days of the month, 1 to 31, or -1 (the last) to -31".into());
            }
            Shape::MonthlyByDay { every, days } => Rule {
                by_month_day: days.clone(),
                ..Rule::every(Frequency::Monthly, *every)
            },
            Shape::Rule(text) => Rule::parse(text)?,
        };
        if !(1..=MOST_EVERY).contains(&rule.interval) {
            return Err(format!("must repeat every 1 to {MOST_EVERY}"));
        }
        rule.check()?;
        Ok(Recurrence { shape, rule })
    }

    /// The shape that it was made of.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// As an RRULE of RFC 5545 whose DTSTART is the plan's first day of validity.
    pub fn rrule(&self) -> String {
        self.rule.to_string()
    }

    /// The dates in a range, ascending, of a recurrence that begins on `start`. Takes time in
    /// proportion to the span from `start` to the end of the range.
    pub fn dates(&self, start: NaiveDate, range: DateRange) -> Vec<NaiveDate> {
        self.rule.dates(start, range)
    }
}

impl TryFrom<Shape> for Recurrence {
    type Error = String;

    fn try_from(shape: Shape) -> Result<Self, Self::Error> {
        Recurrence::new(shape)
    }
}

impl From<Recurrence> for Shape {
    fn from(recurrence: Recurrence) -> Self {
        recurrence.shape
    }
}
