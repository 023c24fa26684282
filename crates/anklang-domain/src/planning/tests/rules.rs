use std::collections::BTreeMap;

use chrono::Datelike;
use proptest::prelude::*;

use super::model::rule_dates;
use super::*;
use crate::planning::rule::Rule;

fn rule(text: &str) -> Recurrence {
    Recurrence::new(Shape::Rule(text.into())).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn first(text: &str, start: &str, count: usize) -> Vec<String> {
    let dates = rule(text).dates(day(start), range(start, "2100-12-31"));
    dates.iter().take(count).map(ToString::to_string).collect()
}

/// The examples of RFC 5545, section 3.8.5.3, that are about days.
#[test]
fn examples_of_the_rfc() {
    for (text, start, expected) in [
        (
            "FREQ=DAILY;INTERVAL=10",
            "1997-09-02",
            "1997-09-02 1997-09-12 1997-09-22",
        ),
        (
            "FREQ=DAILY;BYMONTH=1",
            "1998-01-30",
            "1998-01-30 1998-01-31 1999-01-01",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
            "1997-09-02",
            "1997-09-02 1997-09-16 1997-09-30",
        ),
        (
            "FREQ=WEEKLY;WKST=SU;BYDAY=TU,TH",
            "1997-09-02",
            "1997-09-02 1997-09-04 1997-09-09",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=MO",
            "1997-08-05",
            "1997-08-05 1997-08-10 1997-08-19 1997-08-24",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU",
            "1997-08-05",
            "1997-08-05 1997-08-17 1997-08-19 1997-08-31",
        ),
        (
            "FREQ=MONTHLY;BYDAY=1FR",
            "1997-09-05",
            "1997-09-05 1997-10-03 1997-11-07",
        ),
        (
            "FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU",
            "1997-09-07",
            "1997-09-07 1997-09-28 1997-11-02 1997-11-30",
        ),
        (
            "FREQ=MONTHLY;BYDAY=-2MO",
            "1997-09-22",
            "1997-09-22 1997-10-20 1997-11-17",
        ),
        (
            "FREQ=MONTHLY;BYMONTHDAY=-3",
            "1997-09-28",
            "1997-09-28 1997-10-29 1997-11-28",
        ),
        (
            "FREQ=MONTHLY;BYMONTHDAY=1,-1",
            "1997-09-30",
            "1997-09-30 1997-10-01 1997-10-31",
        ),
        (
            "FREQ=YEARLY;BYDAY=20MO",
            "1997-05-19",
            "1997-05-19 1998-05-18 1999-05-17",
        ),
        (
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
            "1997-05-12",
            "1997-05-12 1998-05-11 1999-05-17",
        ),
        (
            "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
            "1997-03-13",
            "1997-03-13 1997-03-20 1997-03-27 1998-03-05",
        ),
        (
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
            "1997-09-02",
            "1998-02-13 1998-03-13 1998-11-13",
        ),
        (
            "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
            "1997-09-13",
            "1997-09-13 1997-10-11",
        ),
        (
            "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
            "1996-11-05",
            "1996-11-05 2000-11-07 2004-11-02",
        ),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
            "1997-09-29",
            "1997-09-29 1997-10-30 1997-11-27 1997-12-30",
        ),
        (
            "FREQ=MONTHLY;BYMONTHDAY=15,30",
            "2007-01-15",
            "2007-01-15 2007-01-30 2007-02-15 2007-03-15",
        ),
        (
            "FREQ=YEARLY;INTERVAL=3;BYYEARDAY=1,100,200",
            "1997-01-01",
            "1997-01-01 1997-04-10 1997-07-19 2000-01-01",
        ),
    ] {
        let expected: Vec<&str> = expected.split(' ').collect();
        assert_eq!(first(text, start, expected.len()), expected, "{text}");
        let written = format!("rrule:{}", text.to_lowercase());
        assert_eq!(
            first(&written, start, expected.len()),
            expected,
            "{written}"
        );
    }
}

/// Where the crate alone would go wrong.
#[test]
fn pitfalls() {
    // The set of the first week begins with the week, not with the start.
    assert_eq!(
        first("FREQ=WEEKLY;BYDAY=TU,TH;BYSETPOS=1", "2026-01-07", 2),
        ["2026-01-13", "2026-01-20"]
    );
    // The day of the week is that of the start.
    assert_eq!(
        first("FREQ=YEARLY;BYWEEKNO=20", "2026-01-07", 2),
        ["2026-05-13", "2027-05-19"]
    );
    assert_eq!(
        first("FREQ=YEARLY", "2024-02-29", 2),
        ["2024-02-29", "2028-02-29"]
    );
    assert_eq!(
        first("FREQ=MONTHLY", "2026-01-31", 3),
        ["2026-01-31", "2026-03-31", "2026-05-31"]
    );
    assert_eq!(
        first("FREQ=MONTHLY;BYDAY=1MO", "2026-01-01", 1),
        ["2026-01-05"]
    );
}

/// Every week of seventy years is the one of ISO 8601.
#[test]
fn weeks_have_the_numbers_of_iso_8601() {
    let all: Vec<NaiveDate> = day("1990-01-01")
        .iter_days()
        .take_while(|date| *date < day("2060-01-01"))
        .collect();
    // The 28th of December is in the last week of its year.
    let last_week = |year| {
        let day = NaiveDate::from_ymd_opt(year, 12, 28).unwrap();
        (year, day.iso_week().week())
    };
    let weeks_of_year: BTreeMap<i32, u32> = (1899..=2200).map(last_week).collect();
    for number in (1..=53).chain(-53..=-1) {
        let expected = all.iter().filter(|day| {
            let week = day.iso_week();
            let from_end = weeks_of_year[&week.year()] + 1 - week.week();
            number == i64::from(week.week()) || -number == i64::from(from_end)
        });
        let expected: Vec<NaiveDate> = expected.copied().collect();
        let rule = rule(&format!(
            "FREQ=YEARLY;BYWEEKNO={number};BYDAY=MO,TU,WE,TH,FR,SA,SU"
        ));
        let found = rule.dates(day("1990-01-01"), range("1990-01-01", "2059-12-31"));
        assert_eq!(found, expected, "{number}");
    }
}

#[test]
fn what_is_no_rule_is_refused() {
    for (text, says) in [
        ("", "RFC 5545"),
        ("every Tuesday", "RFC 5545"),
        ("BYDAY=TU", "must have FREQ"),
        ("FREQ=HOURLY", "at most one contact a day"),
        ("FREQ=SECONDLY;BYDAY=TU", "at most one contact a day"),
        ("FREQ=WEEKLY;COUNT=10", "validity"),
        ("FREQ=WEEKLY;UNTIL=20261231", "validity"),
        ("FREQ=DAILY;BYHOUR=9", "entry"),
        ("FREQ=DAILY;BYEASTER=1", "BYEASTER"),
        ("FREQ=DAILY;FREQ=DAILY", "twice"),
        ("FREQ=DAILY;INTERVAL=0", "1 to 1000"),
        ("FREQ=DAILY;INTERVAL=-1", "1 to 1000"),
        ("FREQ=DAILY;INTERVAL=1001", "1 to 1000"),
        ("FREQ=DAILY;INTERVAL=99999", "1 to 1000"),
        ("FREQ=WEEKLY;WKST=XX", "WKST"),
        ("FREQ=WEEKLY;BYDAY=XYMO", "MO to SU"),
        ("FREQ=WEEKLY;BYDAY=éa", "MO to SU"),
        ("FREQ=WEEKLY;BYDAY=é", "MO to SU"),
        ("FREQ=WEEKLY;BYDAY=", "MO to SU"),
        ("FREQ=WEEKLY;BYDAY=2TU", "MONTHLY or YEARLY"),
        ("FREQ=MONTHLY;BYDAY=MO,2TU", "either a number"),
        ("FREQ=MONTHLY;BYDAY=6MO", "1 to 5"),
        ("FREQ=MONTHLY;BYDAY=0MO", "1 to 5"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "WEEKLY"),
        ("FREQ=MONTHLY;BYMONTHDAY=32", "1 to 31"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "1 to 31"),
        ("FREQ=MONTHLY;BYMONTHDAY=999", "whole numbers"),
        ("FREQ=YEARLY;BYMONTH=13", "1 to 12"),
        ("FREQ=YEARLY;BYMONTH=0", "1 to 12"),
        ("FREQ=MONTHLY;BYYEARDAY=1", "YEARLY"),
        ("FREQ=MONTHLY;BYWEEKNO=1", "YEARLY"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "BYWEEKNO"),
        ("FREQ=YEARLY;BYWEEKNO=54", "-1 to -53"),
        ("FREQ=YEARLY;BYWEEKNO=20;INTERVAL=2", "INTERVAL"),
        ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;BYSETPOS=1", "BYSETPOS"),
        ("FREQ=YEARLY;BYWEEKNO=20;BYMONTH=1", "a date at all"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "a date at all"),
        ("FREQ=DAILY;BYMONTH=4;BYMONTHDAY=31", "a date at all"),
    ] {
        let error = Recurrence::new(Shape::Rule(text.into())).expect_err(text);
        assert!(error.contains(says), "{text}: {error}");
    }
    let long = format!("FREQ=WEEKLY;BYDAY={}MO", "MO,".repeat(200));
    assert!(Recurrence::new(Shape::Rule(long)).is_err());
    let weekdays = Weekdays::ANY;
    assert!(Recurrence::new(Shape::Weekly { every: 0, weekdays }).is_err());
    for days in [vec![], vec![0], vec![32], vec![-32]] {
        assert!(Recurrence::new(Shape::MonthlyByDay { every: 1, days }).is_err());
    }
    for nth in [0, 6, -5] {
        let on = vec![NthWeekday {
            nth,
            weekday: chrono::Weekday::Mon,
        }];
        assert!(Recurrence::new(Shape::MonthlyByWeekday { every: 1, on }).is_err());
    }
}

#[test]
fn recurrences_are_stored_as_json() {
    for (json, rrule) in [
        (
            r#"{"weekly":{"every":2,"weekdays":["tue","thu"]}}"#,
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH",
        ),
        (
            r#"{"monthly_by_weekday":{"every":1,"on":[{"nth":2,"weekday":"tue"},{"nth":-1,"weekday":"fri"}]}}"#,
            "FREQ=MONTHLY;BYDAY=2TU,-1FR",
        ),
        (
            r#"{"monthly_by_day":{"every":3,"days":[1,-1]}}"#,
            "FREQ=MONTHLY;INTERVAL=3;BYMONTHDAY=1,-1",
        ),
        (
            r#"{"rule":"FREQ=YEARLY;WKST=SU;BYDAY=1MO;BYMONTH=2"}"#,
            "FREQ=YEARLY;WKST=SU;BYDAY=1MO;BYMONTH=2",
        ),
    ] {
        let recurrence: Recurrence = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&recurrence).unwrap(), json);
        assert_eq!(recurrence.rrule(), rrule);
        let again = rule(&recurrence.rrule());
        let (start, all) = (day("2026-01-07"), range("2026-01-07", "2030-12-31"));
        assert_eq!(again.dates(start, all), recurrence.dates(start, all));
    }
    for json in [
        r#"{"weekly":{"every":2,"weekdays":[]}}"#,
        r#"{"weekly":{"every":0,"weekdays":["mon"]}}"#,
        r#"{"monthly_by_day":{"every":1,"days":[0]}}"#,
        r#"{"rule":"FREQ=HOURLY"}"#,
        r#"{"hourly":{}}"#,
    ] {
        assert!(serde_json::from_str::<Recurrence>(json).is_err(), "{json}");
    }
}

fn some<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Vec<T>> {
    prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(value, 1..4)].boxed()
}

fn signed(most: i16) -> impl Strategy<Value = i16> + Clone {
    (1..=most, any::<bool>()).prop_map(|(n, back)| if back { -n } else { n })
}

fn words<T: ToString>(name: &str, values: &[T]) -> String {
    let words: Vec<String> = values.iter().map(ToString::to_string).collect();
    match words.is_empty() {
        true => String::new(),
        false => format!(";{name}={}", words.join(",")),
    }
}

prop_compose! {
    /// Rules that RFC 5545 allows.
    fn any_rule()(
        freq in prop::sample::select(vec!["DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
        interval in 1..4u16, wkst in prop::sample::select(vec!["MO", "SU", "WE"]),
        weekdays in some(prop::sample::select(vec!["MO", "TU", "WE", "TH", "FR", "SA", "SU"])),
        nth in signed(5), numbered: bool,
        months in some(1..=12u8), month_days in some(signed(31)), year_days in some(signed(366)),
        weeks in some(signed(53)), set in some(signed(3)),
    ) -> String {
        let yearly = freq == "YEARLY";
        let weeks = if yearly { weeks } else { vec![] };
        let numbered = numbered && weeks.is_empty() && (yearly || freq == "MONTHLY") && nth >= -4;
        let weekdays: Vec<String> = weekdays.iter()
            .map(|day| if numbered { format!("{nth}{day}") } else { (*day).to_owned() })
            .collect();
        // To which year a week belongs that lies in two is not said.
        let (interval, set) = if weeks.is_empty() { (interval, set) } else { (1, vec![]) };
        let month_days = if freq == "WEEKLY" { vec![] } else { month_days };
        let year_days = if yearly { year_days } else { vec![] };
        let none = weekdays.is_empty() && months.is_empty() && month_days.is_empty()
            && year_days.is_empty() && weeks.is_empty();
        let set = if none { vec![] } else { set };
        format!("FREQ={freq};INTERVAL={interval};WKST={wkst}{}{}{}{}{}{}",
            words("BYDAY", &weekdays), words("BYMONTH", &months), words("BYMONTHDAY", &month_days),
            words("BYYEARDAY", &year_days), words("BYWEEKNO", &weeks), words("BYSETPOS", &set))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// What the crate makes of a rule is what the RFC says, day by day, for all ranges.
    #[test]
    fn dates_are_those_of_a_naive_model(
        text in any_rule(), start in 0..20_000u64, skip in 0..1_000u64, length in 0..3_000u64,
    ) {
        let parsed = Rule::parse(&text).unwrap();
        let start = day("1990-01-01") + chrono::Days::new(start);
        let first = start + chrono::Days::new(skip);
        let last = first + chrono::Days::new(length);
        let expected = rule_dates(&parsed, start, first, last);
        match Recurrence::new(Shape::Rule(text.clone())) {
            Ok(recurrence) => {
                let range = DateRange::new(first, Some(last)).unwrap();
                prop_assert_eq!(recurrence.dates(start, range), expected, "{} from {}", text, start);
            }
            Err(error) => {
                prop_assert_eq!(&error, "must have a date at all", "{}", text);
                prop_assert!(expected.is_empty(), "{} from {}: {:?}", text, start, expected);
            }
        }
    }

    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,40}", key in "(FREQ|BYDAY|INTERVAL|WKST)", value in "\\PC{0,6}") {
        let _ = Recurrence::new(Shape::Rule(text));
        let _ = Recurrence::new(Shape::Rule(format!("FREQ=WEEKLY;{key}={value}")));
    }
}
