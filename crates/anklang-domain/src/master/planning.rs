//! Entries of contact plans, and inactive periods of customers.

use chrono::{NaiveDate, NaiveTime};

use super::fields::MAX_NAME;
use super::{Entity, Fields, Key, Row, contact, key_of};
use crate::Violations;

/// The most skills of an entry.
const MAX_SKILLS: usize = 16;
/// Longest skill in characters.
const MAX_SKILL: usize = 64;
/// The highest priority; the lowest is as far below 0.
pub const MAX_PRIORITY: i32 = 1_000;
/// Names of weekdays, Monday first.
pub const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Reads a time of the day as 09:30.
///
/// # Errors
/// What it must be, for people.
pub fn time_of_day(text: &str) -> Result<NaiveTime, &'static str> {
    let is_form = text.len() == 5
        && text.bytes().enumerate().all(|(i, b)| {
            if i == 2 {
                b == b':'
            } else {
                b.is_ascii_digit()
            }
        });
    is_form
        .then(|| NaiveTime::parse_from_str(text, "%H:%M").ok())
        .flatten()
        .ok_or("must be a time of the day, written 09:30, from 00:00 to 23:59")
}

/// Writes a time of the day as [`time_of_day`] reads it.
pub fn time_text(time: NaiveTime) -> String {
    time.format("%H:%M").to_string()
}

/// Reads names of weekdays as numbers, 1 for Monday; in order, each once.
///
/// # Errors
/// What they must be, for people.
pub fn weekdays<'t>(names: impl IntoIterator<Item = &'t str>) -> Result<Vec<i16>, &'static str> {
    let mut days = Vec::new();
    for name in names {
        let found = (1..).zip(WEEKDAYS).find(|(_, day)| *day == name);
        let (day, _) = found.ok_or("must be some of mon, tue, wed, thu, fri, sat, sun")?;
        days.push(day);
    }
    days.sort_unstable();
    days.dedup();
    Ok(days)
}

/// Names of weekdays by their numbers; others are left out.
pub fn weekday_names(days: &[i16]) -> Vec<String> {
    let name = |day: &i16| WEEKDAYS.get(usize::try_from(day - 1).ok()?);
    days.iter().filter_map(name).map(|n| (*n).into()).collect()
}

/// A customer in a contact plan as it comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct PlanEntryRow {
    pub plan_code: String,
    pub customer_number: String,
    /// As 09:30, and so are the others.
    pub contact_time: String,
    pub contact_person: String,
    pub phone: String,
    pub earliest_time: String,
    pub latest_time: String,
    pub priority: i32,
    /// With commas between them.
    pub skills: String,
    pub valid_from: Option<NaiveDate>,
    pub valid_to: Option<NaiveDate>,
}

impl Row for PlanEntryRow {
    const ENTITY: Entity = Entity::PlanEntries;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let (from, contact, to) = (
            time(&mut f, "earliest_time"),
            time(&mut f, "contact_time"),
            time(&mut f, "latest_time"),
        );
        if f.raw("contact_time").is_empty() {
            f.refuse("contact_time", "is required: a time of the day as 09:30");
        }
        if from.zip(contact).is_some_and(|(from, at)| from > at) {
            f.refuse("earliest_time", "must not be after the contact time");
        }
        if contact.zip(to).is_some_and(|(at, to)| to < at) {
            f.refuse("latest_time", "must not be before the contact time");
        }
        let text = |time: Option<NaiveTime>| time.map_or_else(String::new, time_text);
        let (valid_from, valid_to) = period(&mut f, ["valid_from", "valid_to"]);
        let row = PlanEntryRow {
            plan_code: f.number("plan_code"),
            customer_number: f.number("customer_number"),
            contact_time: text(contact),
            contact_person: f.text("contact_person", MAX_NAME),
            phone: phone(&mut f),
            earliest_time: text(from),
            latest_time: text(to),
            priority: priority(&mut f),
            skills: skills(&mut f),
            valid_from,
            valid_to,
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.plan_code, &self.customer_number, &self.contact_time])
    }
}

/// Days on which a customer is not contacted, or gets no delivery, as they come in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "fields are named as the columns, which are documented"
)]
pub struct InactivePeriodRow {
    pub customer_number: String,
    pub id: String,
    pub day_type: &'static str,
    /// Numbers from 1 for Monday with commas between them.
    pub weekdays: String,
    pub first_date: NaiveDate,
    pub last_date: NaiveDate,
    pub reason: String,
}

impl Row for InactivePeriodRow {
    const ENTITY: Entity = Entity::InactivePeriods;

    fn parse<'v>(get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Self, Violations> {
        let mut f = Fields::new(get);
        let names = f.raw("weekdays").split(',').map(str::trim);
        let days = weekdays(names.filter(|name| !name.is_empty())).unwrap_or_else(|reason| {
            f.refuse("weekdays", reason);
            Vec::new()
        });
        let days: Vec<String> = days.iter().map(i16::to_string).collect();
        for field in ["first_date", "last_date"] {
            if f.raw(field).is_empty() {
                f.refuse(field, "is required: a date as 2026-12-31");
            }
        }
        let (first, last) = period(&mut f, ["first_date", "last_date"]);
        let row = InactivePeriodRow {
            customer_number: f.number("customer_number"),
            id: f.number("id"),
            day_type: f.word("day_type", &["contact", "delivery"]),
            weekdays: days.join(","),
            first_date: first.unwrap_or_default(),
            last_date: last.unwrap_or_default(),
            reason: f.text("reason", MAX_NAME),
        };
        f.finish(row)
    }

    fn key(&self) -> Key {
        key_of(&[&self.customer_number, &self.id])
    }
}

fn time(f: &mut Fields<'_, '_>, field: &str) -> Option<NaiveTime> {
    match f.raw(field) {
        "" => None,
        text => time_of_day(text).map_err(|e| f.refuse(field, e)).ok(),
    }
}

fn period(f: &mut Fields<'_, '_>, [from, to]: [&str; 2]) -> (Option<NaiveDate>, Option<NaiveDate>) {
    let (first, last) = (f.date(from), f.date(to));
    if first.zip(last).is_some_and(|(first, last)| last < first) {
        f.refuse(to, format!("must not be before {from}"));
    }
    (first, last)
}

fn phone(f: &mut Fields<'_, '_>) -> String {
    let country = match f.raw("country") {
        "" => "DE",
        country => country,
    };
    match f.raw("phone") {
        "" => String::new(),
        number => contact::phone(number, country).unwrap_or_else(|error| {
            f.refuse("phone", error.to_string());
            String::new()
        }),
    }
}

fn priority(f: &mut Fields<'_, '_>) -> i32 {
    match f.raw("priority") {
        "" => 0,
        text => match text.parse() {
            Ok(number) if (-MAX_PRIORITY..=MAX_PRIORITY).contains(&number) => number,
            _ => {
                let reason =
                    format!("must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}");
                f.refuse("priority", reason);
                0
            }
        },
    }
}

fn skills(f: &mut Fields<'_, '_>) -> String {
    let mut all: Vec<&str> = f.raw("skills").split(',').map(str::trim).collect();
    all.retain(|skill| !skill.is_empty());
    all.sort_unstable();
    all.dedup();
    if all.len() > MAX_SKILLS || all.iter().any(|s| s.chars().count() > MAX_SKILL) {
        let reason =
            format!("must be at most {MAX_SKILLS}, each of at most {MAX_SKILL} characters");
        f.refuse("skills", reason);
    }
    if all.iter().any(|skill| skill.chars().any(char::is_control)) {
        f.refuse(
            "skills",
            "must not contain line breaks or control characters",
        );
    }
    all.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &'static str)]) -> Result<PlanEntryRow, Vec<String>> {
        let get = |column: &str| fields.iter().find(|(c, _)| *c == column).map(|(_, v)| *v);
        PlanEntryRow::parse(&get).map_err(|violations| {
            let all = violations.into_vec().into_iter();
            all.map(|v| v.field).collect()
        })
    }

    #[test]
    fn an_entry_has_one_form() {
        let row = entry(&[
            ("plan_code", " NORD "),
            ("customer_number", "4711"),
            ("contact_time", "09:30"),
            ("phone", "0641 / 123456"),
            ("skills", "french, sales,french"),
            ("latest_time", "12:00"),
        ]);
        let row = row.expect("nothing is wrong");
        assert_eq!(
            (&row.plan_code[..], &row.phone[..], &row.skills[..]),
            ("NORD", "+49641123456", "french,sales")
        );
        assert_eq!((row.priority, &row.latest_time[..]), (0, "12:00"));
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let wrong = entry(&[
            ("customer_number", "4711"),
            ("contact_time", "9:30"),
            ("earliest_time", "25:00"),
            ("phone", "extension"),
            ("priority", "1001"),
            ("valid_from", "2026-05-01"),
            ("valid_to", "2026-04-30"),
        ]);
        let mut wrong = wrong.expect_err("much is wrong");
        wrong.sort_unstable();
        assert_eq!(
            wrong,
            [
                "contact_time",
                "earliest_time",
                "phone",
                "plan_code",
                "priority",
                "valid_to"
            ]
        );
        let times = entry(&[
            ("plan_code", "A"),
            ("customer_number", "1"),
            ("contact_time", "09:30"),
            ("earliest_time", "09:31"),
            ("latest_time", "09:29"),
        ]);
        assert_eq!(
            times,
            Err(vec!["earliest_time".into(), "latest_time".into()])
        );
    }

    #[test]
    fn weekdays_are_numbers_and_names() {
        assert_eq!(weekdays(["thu", "tue", "thu"]), Ok(vec![2, 4]));
        assert_eq!(weekday_names(&[2, 4]), ["tue", "thu"]);
        assert!(weekdays(["Tue"]).is_err());
    }
}
