//! What requests of the work list have in common.

use anklang_domain::planning::OutcomeClass;
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use anklang_proto::google::r#type::Date;
use chrono::{NaiveDate, TimeDelta};
use uuid::Uuid;

use super::super::planning::{LONGEST_PERSON, is_person};
use super::super::wire;

/// How long a claim lasts when nobody says.
const CLAIM_SECONDS: i32 = 300;
/// From the first day of an analysis to the last, at most.
const LONGEST_RANGE: TimeDelta = TimeDelta::days(366);
const DEFAULT_GROUPS: usize = 1_000;
const MOST_GROUPS: usize = 10_000;
/// The most people and roles.
const MOST_PEOPLE: usize = 100;
/// The longest name of a skill, in characters.
const LONGEST_WORD: usize = 64;
/// The longest note, in characters.
pub(in crate::grpc) const LONGEST_NOTE: usize = 2_000;

pub(super) fn contact(violations: &mut Violations, field: &str, name: &str) -> Option<Uuid> {
    violations.check(field, name::parse_uuid(name, "plannedContacts"))
}

pub(in crate::grpc) fn claim(violations: &mut Violations, text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text);
    violations.check("claim", id.map_err(|_| "must be the UUID of a claim"))
}

pub(in crate::grpc) fn seconds(violations: &mut Violations, given: i32) -> i32 {
    match given {
        0 => CLAIM_SECONDS,
        10..=3_600 => given,
        _ => {
            violations.add("claim_seconds", "must be 10 to 3,600, or 0");
            CLAIM_SECONDS
        }
    }
}

/// The name of a person or role in one of the collections, as it is kept: each id is written in one way.
pub(in crate::grpc) fn person(
    violations: &mut Violations,
    field: &str,
    given: &str,
    collections: &[&'static str],
) -> Option<String> {
    let known = collections
        .iter()
        .find_map(|c| name::parse(given, [*c]).ok().map(|[id]| (*c, id)));
    match known.filter(|(_, id)| is_person(id)) {
        Some((collection, id)) => Some(name::format(&[(collection, &id)])),
        None => {
            let forms: Vec<String> = collections
                .iter()
                .map(|c| format!("{c}/{{{}}}", c.trim_end_matches('s')))
                .collect();
            let forms = forms.join(" or ");
            violations.add(
                field,
                format!("must be {forms}, of 1 to {LONGEST_PERSON} characters"),
            );
            None
        }
    }
}

/// People and roles, at most 100, each as [`person`].
pub(in crate::grpc) fn people(
    violations: &mut Violations,
    field: &str,
    given: &[String],
    collections: &[&'static str],
) -> Vec<String> {
    super::super::form::at_most(violations, field, given.len(), MOST_PEOPLE);
    let mut found = Vec::new();
    for (i, who) in given.iter().take(MOST_PEOPLE).enumerate() {
        let field = format!("{field}[{i}]");
        found.extend(person(violations, &field, who, collections));
    }
    found
}

/// The days of an analysis, `first_date` and `last_date`.
pub(in crate::grpc) fn range(
    violations: &mut Violations,
    first: Option<&Date>,
    last: Option<&Date>,
) -> Option<(NaiveDate, NaiveDate)> {
    let mut required = |field: &str, given: Option<&Date>| {
        if given.is_none() {
            violations.add(field, "is required");
        }
        date(violations, field, given)
    };
    let (first, last) = (required("first_date", first), required("last_date", last));
    let range = first.zip(last);
    range.filter(|(first, last)| {
        let fits = first <= last && *last - *first <= LONGEST_RANGE;
        if !fits {
            violations.add("last_date", "must be 0 to 366 days after first_date");
        }
        fits
    })
}

/// What an analysis groups by, each once, at most so many.
pub(in crate::grpc) fn group_by<D: PartialEq>(
    violations: &mut Violations,
    given: &[i32],
    most: usize,
    dimension: impl Fn(i32) -> Option<D>,
) -> Vec<D> {
    super::super::form::at_most(violations, "group_by", given.len(), most);
    let mut read = Vec::new();
    for (i, value) in given.iter().take(most).enumerate() {
        match dimension(*value) {
            Some(dimension) if !read.contains(&dimension) => read.push(dimension),
            Some(_) => violations.add(format!("group_by[{i}]"), "is there already"),
            None => violations.add(format!("group_by[{i}]"), "is nothing to group by"),
        }
    }
    read
}

/// How many groups an analysis gives at most.
pub(in crate::grpc) fn max_groups(violations: &mut Violations, given: i32) -> usize {
    match usize::try_from(given) {
        Ok(0) => DEFAULT_GROUPS,
        Ok(wanted @ 1..=MOST_GROUPS) => wanted,
        _ => {
            violations.add("max_groups", "must be between 0 and 10,000");
            DEFAULT_GROUPS
        }
    }
}

/// Skills: words, at most so many.
pub(in crate::grpc) fn skills<'r>(
    violations: &mut Violations,
    field: &str,
    given: &'r [String],
    most: usize,
) -> Vec<&'r str> {
    words(violations, field, given, most, LONGEST_WORD)
}

/// Texts without blanks around them, each once.
pub(in crate::grpc) fn words<'r>(
    violations: &mut Violations,
    field: &str,
    given: &'r [String],
    most: usize,
    longest: usize,
) -> Vec<&'r str> {
    super::super::form::at_most(violations, field, given.len(), most);
    let mut words = Vec::new();
    for (i, word) in given.iter().take(most).enumerate() {
        let word = word.trim();
        let is_long = word.chars().count() > longest;
        if word.is_empty() || is_long || word.chars().any(char::is_control) {
            let rule =
                format!("must have 1 to {longest} characters, none of them a control character");
            violations.add(format!("{field}[{i}]"), rule);
        } else if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}

/// A text for people, which may be empty.
pub(in crate::grpc) fn text(violations: &mut Violations, field: &str, text: &str, most: usize) {
    if text.chars().count() > most {
        violations.add(field, format!("must have at most {most} characters"));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        violations.add(field, "must not have control characters");
    }
}

pub(super) fn date(
    violations: &mut Violations,
    field: &str,
    date: Option<&Date>,
) -> Option<NaiveDate> {
    violations.check(field, date.map(wire::naive_date).transpose())?
}

/// A class of outcomes; `None` for none, or one that there is not.
pub(super) fn class(violations: &mut Violations, field: &str, given: i32) -> Option<OutcomeClass> {
    match pb::OutcomeClass::try_from(given) {
        Ok(pb::OutcomeClass::Unspecified) => None,
        Ok(pb::OutcomeClass::Done) => Some(OutcomeClass::Done),
        Ok(pb::OutcomeClass::OrderTaken) => Some(OutcomeClass::OrderTaken),
        Ok(pb::OutcomeClass::NotReached) => Some(OutcomeClass::NotReached),
        Ok(pb::OutcomeClass::Busy) => Some(OutcomeClass::Busy),
        Ok(pb::OutcomeClass::CallLater) => Some(OutcomeClass::CallLater),
        Ok(pb::OutcomeClass::Cancelled) => Some(OutcomeClass::Cancelled),
        Err(_) => {
            violations.add(field, "is no class of outcomes");
            None
        }
    }
}
