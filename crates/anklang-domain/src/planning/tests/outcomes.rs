use chrono::{DateTime, Days, TimeDelta, Utc};
use chrono_tz::{Europe::Berlin, TZ_VARIANTS};
use proptest::prelude::*;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn hours(earliest: &str, latest: &str) -> EntryTimes {
    EntryTimes::new(time(earliest), Some(time(earliest)), Some(time(latest))).unwrap()
}

fn rule(first: u32, percent: u32, longest: u32, attempts: u32) -> RetryRule {
    RetryRule::new(first, percent, longest, attempts, FollowUp::Close).unwrap()
}

fn next(rule: &RetryRule, attempts: u32, now: &str, wish: Option<&str>) -> Next {
    let (times, calendar) = (hours("08:00", "17:00"), calendar("DE-BY"));
    after_outcome(
        Some(rule),
        attempts,
        utc(now),
        wish.map(utc),
        &times,
        &calendar,
        Berlin,
    )
}

fn again(at: &str) -> Next {
    Next::Again {
        at: utc(at),
        outside: false,
    }
}

#[test]
fn final_outcomes_stay_final() {
    let rules = OutcomeRules::default();
    let classes = OutcomeClass::WORDS.map(|(class, word)| {
        assert_eq!(
            (class.as_str(), OutcomeClass::parse(word)),
            (word, Some(class))
        );
        assert_eq!(rules.of(class).is_none(), class.is_final());
        class
    });
    let (times, now) = (hours("08:00", "17:00"), utc("2026-06-02T08:00:00Z"));
    let wish = Some(utc("2026-06-03T08:00:00Z"));
    for class in classes {
        let next = after_outcome(rules.of(class), 1, now, wish, &times, &plain(), Berlin);
        assert_eq!(next == Next::Final, class.is_final(), "{class:?}");
    }
    assert_eq!(OutcomeClass::parse("reopened"), None);
}

#[test]
fn waits_are_fixed_or_grow_to_a_limit() {
    let minutes =
        |rule: &RetryRule| [1, 2, 3, 4, 5, 99].map(|attempts| rule.delay(attempts).num_minutes());
    assert_eq!(minutes(&rule(15, 100, 15, 9)), [15; 6]);
    assert_eq!(
        minutes(&rule(30, 200, 300, 9)),
        [30, 60, 120, 240, 300, 300]
    );
    assert_eq!(
        minutes(&rule(10, 150, 1_000, 9)),
        [10, 15, 22, 33, 49, 1_000]
    );
    assert_eq!(
        rule(129_600, 1_000, 129_600, 100).delay(u32::MAX),
        TimeDelta::days(90)
    );
}

#[test]
fn the_next_time_is_within_the_hours_of_a_workday() {
    let hour = rule(60, 100, 60, 5);
    // Wednesday, in summer.
    assert_eq!(
        next(&hour, 1, "2026-06-03T08:00:00Z", None),
        again("2026-06-03T09:00:00Z")
    );
    assert_eq!(
        next(&hour, 1, "2026-06-03T14:00:59Z", None),
        again("2026-06-03T15:00:59Z")
    );
    // After the latest time: over Corpus Christi to Friday.
    assert_eq!(
        next(&hour, 1, "2026-06-03T14:01:00Z", None),
        again("2026-06-05T06:00:00Z")
    );
    // Over the weekend.
    assert_eq!(
        next(&hour, 4, "2026-06-05T20:00:00Z", None),
        again("2026-06-08T06:00:00Z")
    );
    // Before the earliest time; also when it is the day after by then.
    assert_eq!(
        next(&hour, 1, "2026-06-08T04:00:00Z", None),
        again("2026-06-08T06:00:00Z")
    );
    assert_eq!(
        next(&hour, 1, "2026-06-08T21:30:00Z", None),
        again("2026-06-09T06:00:00Z")
    );
    // Over the beginning of daylight saving time, and a new year.
    assert_eq!(
        next(&hour, 1, "2026-03-27T20:00:00Z", None),
        again("2026-03-30T06:00:00Z")
    );
    assert_eq!(
        next(&hour, 1, "2026-12-31T17:00:00Z", None),
        again("2027-01-04T07:00:00Z")
    );
}

#[test]
fn what_follows_the_last_attempt() {
    for then in [
        FollowUp::Close,
        FollowUp::Channel(FollowUpChannel::Sms),
        FollowUp::Escalate {
            role: "Außendienst".into(),
        },
    ] {
        let rule = RetryRule::new(60, 100, 60, 3, then.clone()).unwrap();
        let now = "2026-06-03T08:00:00Z";
        assert_eq!(next(&rule, 2, now, None), again("2026-06-03T09:00:00Z"));
        assert_eq!(next(&rule, 3, now, None), Next::FollowUp(then.clone()));
        assert_eq!(next(&rule, 4, now, None), Next::FollowUp(then.clone()));
        let wish = Some("2026-06-03T10:00:00Z");
        assert_eq!(next(&rule, 3, now, wish), again("2026-06-03T10:00:00Z"));
        // Nobody works any more.
        let closed = day("2026-01-01").iter_days().take(400).map(|date| OwnDay {
            date,
            kind: OwnDayKind::Holiday,
            name: String::new(),
        });
        let closed = Calendar::new(Weekdays::ANY, None, closed);
        let next = after_outcome(
            Some(&rule),
            1,
            utc(now),
            None,
            &hours("08:00", "17:00"),
            &closed,
            Berlin,
        );
        assert_eq!(next, Next::FollowUp(then));
    }
}

#[test]
fn a_wish_holds_as_it_is() {
    let hour = rule(60, 100, 60, 5);
    let now = "2026-06-03T08:00:00Z";
    let wish = |at: &str| next(&hour, 1, now, Some(at));
    assert_eq!(wish("2026-06-03T08:05:00Z"), again("2026-06-03T08:05:00Z"));
    for outside in [
        "2026-06-03T18:00:00Z",
        "2026-06-04T10:00:00Z",
        "2026-06-06T10:00:00Z",
    ] {
        let at = utc(outside);
        assert_eq!(wish(outside), Next::Again { at, outside: true });
    }
    // One that is over is none.
    assert_eq!(wish(now), again("2026-06-03T09:00:00Z"));
    assert_eq!(wish("2026-06-01T08:00:00Z"), again("2026-06-03T09:00:00Z"));
}

#[test]
fn hours_that_clocks_leave_out_or_show_twice() {
    let rule = rule(1, 100, 1, 5);
    let every_day = Calendar::new(Weekdays::ANY, None, []);
    let after = |now: &str, times: &EntryTimes| {
        after_outcome(Some(&rule), 1, utc(now), None, times, &every_day, Berlin)
    };
    // There is no 02:15 to 02:45 on 29 March 2026.
    assert_eq!(
        after("2026-03-28T20:00:00Z", &hours("02:15", "02:45")),
        again("2026-03-30T00:15:00Z")
    );
    assert_eq!(
        after("2026-03-28T20:00:00Z", &hours("02:15", "03:45")),
        again("2026-03-29T01:00:00Z")
    );
    // And two of them on 25 October.
    assert_eq!(
        after("2026-10-24T20:00:00Z", &hours("02:15", "02:45")),
        again("2026-10-25T00:15:00Z")
    );
    assert_eq!(
        after("2026-10-25T00:50:00Z", &hours("02:15", "02:45")),
        again("2026-10-25T01:15:00Z")
    );
    assert_eq!(
        after("2026-10-25T01:50:00Z", &hours("02:15", "02:45")),
        again("2026-10-26T01:15:00Z")
    );
}

#[test]
fn rules_are_checked_and_stored_as_json() {
    let wrong = RetryRule::new(0, 99, 0, 0, FollowUp::Escalate { role: " ".into() }).unwrap_err();
    let fields: Vec<&str> = wrong
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "first_minutes",
            "factor_percent",
            "longest_minutes",
            "max_attempts",
            "then.role"
        ]
    );
    assert!(RetryRule::new(60, 100, 59, 1, FollowUp::Close).is_err());
    assert!(RetryRule::new(129_601, 100, 129_601, 1, FollowUp::Close).is_err());
    let rules = OutcomeRules {
        busy: RetryRule::new(5, 150, 60, 3, FollowUp::Channel(FollowUpChannel::Mail)).unwrap(),
        ..OutcomeRules::default()
    };
    let json = serde_json::to_value(&rules).unwrap();
    let busy = r#"{"first_minutes":5,"factor_percent":150,"longest_minutes":60,"max_attempts":3,"then":{"channel":"mail"}}"#;
    assert_eq!(
        json["busy"],
        serde_json::from_str::<serde_json::Value>(busy).unwrap()
    );
    assert_eq!(json["not_reached"]["then"], "close");
    assert_eq!(serde_json::from_value::<OutcomeRules>(json).unwrap(), rules);
    assert!(
        serde_json::from_str::<RetryRule>(
            &busy.replace("\"max_attempts\":3", "\"max_attempts\":0")
        )
        .is_err()
    );
}

proptest! {
    /// In any zone: not before the wait is over, within the hours of a workday, and no sooner moment
    /// would have been.
    #[test]
    fn the_next_time_is_the_first_that_is_allowed(
        zone in 0..TZ_VARIANTS.len(), second in 788_918_400i64..2_208_988_800,
        earliest in 0..1_440u32, length in 0..1_440u32, delay in 1..4_000u32,
        free in prop::collection::vec(0..12u64, 0..6), weekdays in prop_oneof![
            Just(Weekdays::ANY), Just(Weekdays::MONDAY_TO_FRIDAY)],
    ) {
        let zone = TZ_VARIANTS[zone];
        let now = DateTime::from_timestamp(second, 0).unwrap();
        let clock = |minute: u32| NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).unwrap();
        let latest = (earliest + length).min(1_439);
        let times = EntryTimes::new(clock(earliest), Some(clock(earliest)), Some(clock(latest))).unwrap();
        let today = now.with_timezone(&zone).date_naive();
        let calendar = Calendar::new(weekdays, None, free.into_iter().map(|after| OwnDay {
            date: today + Days::new(after), kind: OwnDayKind::Holiday, name: String::new(),
        }));
        let rule = rule(delay, 100, delay, 2);
        let Next::Again { at, outside: false } =
            after_outcome(Some(&rule), 1, now, None, &times, &calendar, zone)
        else {
            return Err(TestCaseError::fail("not again"));
        };
        let allowed = |moment: DateTime<Utc>| {
            let local = moment.with_timezone(&zone).naive_local();
            let minute = local.time().format("%H:%M").to_string();
            let (first, last) = (clock(earliest).format("%H:%M"), clock(latest).format("%H:%M"));
            calendar.is_workday(local.date()) && minute >= first.to_string() && minute <= last.to_string()
        };
        let ready = now + TimeDelta::minutes(delay.into());
        prop_assert!(at >= ready && allowed(at));
        let mut moment = ready;
        while moment < at {
            prop_assert!(!allowed(moment), "{} before {}", moment, at);
            moment += TimeDelta::minutes(1);
        }
    }
}
