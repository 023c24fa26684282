//! Values of callers, and the tests that operators make of them.
//!
//! Empty text is no value: tests that it would pass by its order exclude it. Text is compared by
//! code points (`~<~`), whatever the database's collation, which also fits the indexes on
//! postcodes. Times are compared with half-open ranges: a day has 23 to 25 hours.

use anklang_domain::selection::{Operator, Value};
use anklang_domain::window::start_of_day;
use chrono::{DateTime, Days, NaiveDate, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::registry::FieldType;
use super::tree::{Operand, Term, Test};

/// The days of a tenant, seen from a point in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    today: NaiveDate,
    zone: Tz,
}

/// First instant, and first instant after.
type Range = (DateTime<Utc>, DateTime<Utc>);

impl Calendar {
    pub fn new(as_of: DateTime<Utc>, zone: Tz) -> Self {
        Calendar {
            today: as_of.with_timezone(&zone).date_naive(),
            zone,
        }
    }

    fn date(self, value: &Value) -> Option<NaiveDate> {
        match value {
            Value::Date(date) => Some(*date),
            Value::DaysAgo(days) => self
                .today
                .checked_sub_signed(TimeDelta::days((*days).into())),
            _ => None,
        }
    }

    fn range(self, value: &Value) -> Option<Range> {
        if let Value::Time(time) = value {
            // The precision of the database.
            let time = time.trunc_subsecs(6);
            return Some((time, time + TimeDelta::microseconds(1)));
        }
        let day = self.date(value)?;
        Some((
            start_of_day(day, self.zone),
            start_of_day(day.checked_add_days(Days::new(1))?, self.zone),
        ))
    }
}

/// Values of one type.
#[derive(Debug)]
pub(super) enum Values {
    Text(Vec<String>),
    Number(Vec<Decimal>),
    Flag(Vec<bool>),
    Date(Vec<NaiveDate>),
    Time(Vec<Range>),
}

impl Values {
    /// Reads values of a field's type; else gives the index of every one that is not.
    pub fn read(ty: FieldType, values: &[Value], calendar: Calendar) -> Result<Self, Vec<usize>> {
        let text = |v: &Value| match v {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        let number = |v: &Value| match v {
            Value::Number(number) => Some(*number),
            _ => None,
        };
        let flag = |v: &Value| match v {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        };
        Ok(match ty {
            FieldType::Text => Values::Text(all(values, text)?),
            FieldType::Number => Values::Number(all(values, number)?),
            FieldType::Flag => Values::Flag(all(values, flag)?),
            FieldType::Date => Values::Date(all(values, |v| calendar.date(v))?),
            FieldType::Time => Values::Time(all(values, |v| calendar.range(v))?),
        })
    }

    /// True when a first and a second value leave nothing between them.
    pub fn is_reversed(&self) -> bool {
        match self {
            Values::Text(v) => matches!(&v[..], [from, to] if from > to),
            Values::Number(v) => matches!(v[..], [from, to] if from > to),
            Values::Flag(_) => false,
            Values::Date(v) => matches!(v[..], [from, to] if from > to),
            Values::Time(v) => matches!(v[..], [(from, _), (_, to)] if from >= to),
        }
    }

    /// The test of an operator; `None` when it does not take these values. IS_NOT_SET is the
    /// negated test of IS_SET.
    pub fn test(self, operator: Operator) -> Option<Test> {
        match self {
            Values::Text(values) => text_test(operator, values),
            Values::Number(values) => {
                ordered_test(operator, values, Operand::Number, Operand::Numbers)
            }
            Values::Date(values) => ordered_test(operator, values, Operand::Date, Operand::Dates),
            Values::Time(values) => time_test(operator, &values),
            Values::Flag(values) => flag_test(operator, &values),
        }
    }
}

fn all<T>(values: &[Value], read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, Vec<usize>> {
    let read: Vec<Option<T>> = values.iter().map(read).collect();
    let wrong: Vec<usize> = (0..read.len()).filter(|i| read[*i].is_none()).collect();
    if wrong.is_empty() {
        Ok(read.into_iter().flatten().collect())
    } else {
        Err(wrong)
    }
}

fn only(term: Term) -> Option<Test> {
    Some(Test::All(vec![term]))
}

/// The test that anything but NULL passes.
pub(super) fn is_set() -> Test {
    Test::All(vec![Term(" IS NOT NULL", Operand::Nothing)])
}

fn text_test(operator: Operator, values: Vec<String>) -> Option<Test> {
    let not_empty = || Term(" <> ''", Operand::Nothing);
    match operator {
        Operator::IsSet => return only(not_empty()),
        Operator::In => return only(Term(" = ANY", Operand::Texts(values))),
        Operator::NotIn => {
            return Some(Test::All(vec![
                Term(" <> ALL", Operand::Texts(values)),
                not_empty(),
            ]));
        }
        _ => {}
    }
    let mut values = values.into_iter();
    let value = values.next()?;
    let terms = match operator {
        Operator::Equal => vec![Term(" = ", Operand::Text(value))],
        Operator::NotEqual => vec![Term(" <> ", Operand::Text(value)), not_empty()],
        Operator::Less => vec![Term(" ~<~ ", Operand::Text(value)), not_empty()],
        Operator::LessOrEqual => vec![Term(" ~<=~ ", Operand::Text(value)), not_empty()],
        Operator::Greater => vec![Term(" ~>~ ", Operand::Text(value))],
        Operator::GreaterOrEqual => vec![Term(" ~>=~ ", Operand::Text(value))],
        Operator::Between => vec![
            Term(" ~>=~ ", Operand::Text(value)),
            Term(" ~<=~ ", Operand::Text(values.next()?)),
        ],
        Operator::StartsWith => starts_with(value),
        Operator::Contains => vec![like(format!("%{}%", escaped(&value)))],
        Operator::In | Operator::NotIn | Operator::IsSet | Operator::IsNotSet => return None,
    };
    Some(Test::All(terms))
}

/// Row-level security keeps ILIKE out of indexes, but not a range of text. So what has no upper
/// and lower case, as most postcodes, is looked for as the range of all text that begins so.
fn starts_with(prefix: String) -> Vec<Term> {
    let has_case = |c: char| !c.to_lowercase().eq([c]) || !c.to_uppercase().eq([c]);
    match after_all_with_prefix(&prefix) {
        Some(end) if !prefix.contains(has_case) => vec![
            Term(" ~>=~ ", Operand::Text(prefix)),
            Term(" ~<~ ", Operand::Text(end)),
        ],
        _ => vec![like(format!("{}%", escaped(&prefix)))],
    }
}

fn like(pattern: String) -> Term {
    Term(" ILIKE ", Operand::Text(pattern))
}

/// The least text that is greater than every text with the prefix: its last character counted
/// up by one.
fn after_all_with_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Text for a pattern of LIKE, in which it means itself.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '%' | '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn ordered_test<T>(
    operator: Operator,
    values: Vec<T>,
    one: fn(T) -> Operand,
    many: fn(Vec<T>) -> Operand,
) -> Option<Test> {
    match operator {
        Operator::IsSet => return Some(is_set()),
        Operator::In => return only(Term(" = ANY", many(values))),
        Operator::NotIn => return only(Term(" <> ALL", many(values))),
        _ => {}
    }
    let mut values = values.into_iter();
    let value = one(values.next()?);
    let terms = match operator {
        Operator::Equal => vec![Term(" = ", value)],
        Operator::NotEqual => vec![Term(" <> ", value)],
        Operator::Less => vec![Term(" < ", value)],
        Operator::LessOrEqual => vec![Term(" <= ", value)],
        Operator::Greater => vec![Term(" > ", value)],
        Operator::GreaterOrEqual => vec![Term(" >= ", value)],
        Operator::Between => vec![Term(" >= ", value), Term(" <= ", one(values.next()?))],
        _ => return None,
    };
    Some(Test::All(terms))
}

fn time_test(operator: Operator, values: &[Range]) -> Option<Test> {
    if operator == Operator::IsSet {
        return Some(is_set());
    }
    let from = |time| Term(" >= ", Operand::Time(time));
    let before = |time| Term(" < ", Operand::Time(time));
    let (start, end) = *values.first()?;
    match operator {
        Operator::Equal => Some(Test::All(vec![from(start), before(end)])),
        Operator::NotEqual => Some(Test::Either(before(start), from(end))),
        Operator::Less => only(before(start)),
        Operator::LessOrEqual => only(before(end)),
        Operator::Greater => only(from(end)),
        Operator::GreaterOrEqual => only(from(start)),
        Operator::Between => Some(Test::All(vec![from(start), before(values.get(1)?.1)])),
        _ => None,
    }
}

fn flag_test(operator: Operator, values: &[bool]) -> Option<Test> {
    match operator {
        Operator::IsSet => Some(is_set()),
        Operator::Equal => only(Term(" = ", Operand::Flag(*values.first()?))),
        Operator::NotEqual => only(Term(" <> ", Operand::Flag(*values.first()?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(as_of: &str, zone: Tz) -> Calendar {
        Calendar::new(as_of.parse().expect("a time"), zone)
    }

    fn day(text: &str) -> Value {
        Value::Date(text.parse().expect("a date"))
    }

    fn range(calendar: Calendar, value: &Value) -> (String, String) {
        let (from, to) = calendar.range(value).expect("a range");
        (from.to_rfc3339(), to.to_rfc3339())
    }

    #[test]
    fn days_are_those_of_the_tenant() {
        // Already the next day in Berlin.
        let berlin = calendar("2026-03-29T22:30:00Z", Tz::Europe__Berlin);
        assert_eq!(berlin.date(&Value::DaysAgo(0)), "2026-03-30".parse().ok());
        assert_eq!(berlin.date(&Value::DaysAgo(-2)), "2026-04-01".parse().ok());
        // A day of 23 hours.
        let expected = (
            "2026-03-28T23:00:00+00:00".into(),
            "2026-03-29T22:00:00+00:00".into(),
        );
        assert_eq!(range(berlin, &Value::DaysAgo(1)), expected);
        assert_eq!(range(berlin, &day("2026-03-29")), expected);
        // One of 25.
        let expected = (
            "2026-10-24T22:00:00+00:00".into(),
            "2026-10-25T23:00:00+00:00".into(),
        );
        assert_eq!(range(berlin, &day("2026-10-25")), expected);
    }

    #[test]
    fn days_begin_although_midnight_is_left_out() {
        // Chile leaves out the hour after midnight, Samoa left out 30 December 2011.
        let santiago = calendar("2026-01-01T00:00:00Z", Tz::America__Santiago);
        let expected = (
            "2026-09-06T04:00:00+00:00".into(),
            "2026-09-07T03:00:00+00:00".into(),
        );
        assert_eq!(range(santiago, &day("2026-09-06")), expected);
        let apia = calendar("2026-01-01T00:00:00Z", Tz::Pacific__Apia);
        let (from, to) = apia.range(&day("2011-12-30")).expect("a range");
        assert_eq!(from, to, "a day that never was holds nothing");
        let (from, to) = apia.range(&day("2011-12-29")).expect("a range");
        assert_eq!(to - from, TimeDelta::hours(24));
    }

    #[test]
    fn times_have_microseconds() {
        let utc = calendar("2026-01-01T00:00:00Z", Tz::UTC);
        let time = Value::Time("2026-01-01T00:00:00.123456789Z".parse().expect("a time"));
        let (from, to) = utc.range(&time).expect("a range");
        assert_eq!(from.to_rfc3339(), "2026-01-01T00:00:00.123456+00:00");
        assert_eq!(to - from, TimeDelta::microseconds(1));
    }

    #[test]
    fn wildcards_mean_themselves() {
        let test = |operator, text: &str| text_test(operator, vec![text.to_owned()]);
        let like = |pattern: &str| Some(Test::All(vec![like(pattern.to_owned())]));
        assert_eq!(test(Operator::Contains, r"100%_\"), like(r"%100\%\_\\%"));
        assert_eq!(test(Operator::StartsWith, "a%"), like(r"a\%%"));
        assert_eq!(
            test(Operator::StartsWith, "\u{10FFFF}"),
            like("\u{10FFFF}%")
        );
        for (prefix, end) in [
            ("359", "35:"),
            ("1%", "1&"),
            ("1\u{D7FF}", "1\u{E000}"),
            ("1\u{10FFFF}", "2"),
        ] {
            let range = vec![
                Term(" ~>=~ ", Operand::Text(prefix.into())),
                Term(" ~<~ ", Operand::Text(end.into())),
            ];
            assert_eq!(test(Operator::StartsWith, prefix), Some(Test::All(range)));
        }
    }
}
