//! Tests of planning as a whole, by theme.

mod calls;
mod customers;
mod dates;
mod exceptions;
mod holidays;
mod model;
mod outcomes;
mod properties;
mod rules;
mod times;

use chrono::{NaiveDate, NaiveTime};

use super::*;

fn day(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

fn days(texts: &[&str]) -> Vec<NaiveDate> {
    texts.iter().map(|text| day(text)).collect()
}

fn time(text: &str) -> NaiveTime {
    NaiveTime::parse_from_str(text, "%H:%M").expect("a time")
}

fn range(first: &str, last: &str) -> DateRange {
    DateRange::new(day(first), Some(day(last))).expect("a range")
}

fn weekdays(words: &[&str]) -> Weekdays {
    Weekdays::parse(words).expect("weekdays")
}

fn weekly(words: &[&str], validity: DateRange) -> Plan {
    let shape = Shape::Weekly {
        every: 1,
        weekdays: weekdays(words),
    };
    Plan {
        recurrence: Recurrence::new(shape).expect("a recurrence"),
        validity,
        on_holiday: OnHoliday::Skip,
        deliveries: None,
    }
}

fn calendar(region: &str) -> Calendar {
    let region = Region::parse(region).expect("a region");
    Calendar::new(Weekdays::MONDAY_TO_FRIDAY, Some(region), [])
}

/// Monday to Friday without holidays.
fn plain() -> Calendar {
    Calendar::new(Weekdays::MONDAY_TO_FRIDAY, None, [])
}

fn contacts(planned: &[PlannedDate]) -> Vec<NaiveDate> {
    let contacts = planned.iter().filter(|planned| planned.is_contact());
    contacts.map(|planned| planned.date).collect()
}

fn exception(on: &str, change: Change) -> Exception {
    Exception {
        on: day(on),
        change,
        duplicates: false,
    }
}
