//! When members of an outbound by phone are called.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc, Weekday};
use chrono_tz::Europe::Berlin;

use crate::planning::{Calendar, Calls, Weekdays, end_of};

fn day(d: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 10, d).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn clock(h: u32, m: u32) -> Option<NaiveTime> {
    NaiveTime::from_hms_opt(h, m, 0)
}

fn calls(valid_days: Option<u16>) -> Calls {
    Calls {
        responsible: String::new(),
        earliest: clock(9, 0),
        latest: clock(17, 30),
        priority: 0,
        skills: Vec::new(),
        valid_days,
        note: String::new(),
    }
}

fn mondays_to_fridays() -> Calendar {
    use Weekday::{Fri, Mon, Thu, Tue, Wed};
    Calendar::new(Weekdays::new([Mon, Tue, Wed, Thu, Fri]).unwrap(), None, [])
}

#[test]
fn calls_begin_on_a_workday_within_the_hours() {
    // A Saturday; clocks are put back on Sunday.
    let offers_end = end_of(day(31), Berlin);
    let times = calls(None).times(
        day(24),
        offers_end,
        &mondays_to_fridays(),
        Berlin,
        at("2026-10-24T06:00:00Z"),
    );
    assert_eq!(times.date, day(26));
    assert_eq!(times.from, at("2026-10-26T08:00:00Z"));
    assert_eq!(times.to, at("2026-10-26T16:31:00Z"));
    assert_eq!(times.ends_at, at("2026-10-31T23:00:00Z"));

    let any = Calendar::new(Weekdays::ANY, None, []);
    let times = calls(None).times(
        day(24),
        offers_end,
        &any,
        Berlin,
        at("2026-10-24T06:00:00Z"),
    );
    assert_eq!(
        (times.date, times.from),
        (day(24), at("2026-10-24T07:00:00Z"))
    );
    let all_day = Calls {
        earliest: None,
        latest: None,
        ..calls(None)
    };
    let times = all_day.times(
        day(25),
        offers_end,
        &any,
        Berlin,
        at("2026-10-25T06:00:00Z"),
    );
    // This day has 25 hours.
    assert_eq!(times.from, at("2026-10-24T22:00:00Z"));
    assert_eq!(times.to, at("2026-10-25T23:00:00Z"));
}

#[test]
fn they_end_with_their_days_or_the_offers() {
    let any = Calendar::new(Weekdays::ANY, None, []);
    let ends = |days, offers: u32| {
        let now = at("2026-10-20T06:00:00Z");
        let times = calls(days).times(day(20), end_of(day(offers), Berlin), &any, Berlin, now);
        times.ends_at
    };
    assert_eq!(ends(Some(1), 30), end_of(day(20), Berlin));
    assert_eq!(ends(Some(3), 30), end_of(day(22), Berlin));
    assert_eq!(ends(Some(3), 21), end_of(day(21), Berlin));
    assert_eq!(ends(None, 30), end_of(day(30), Berlin));
}

#[test]
fn their_days_are_counted_from_the_first_on_which_hours_are_left() {
    let offers_end = end_of(day(31), Berlin);
    let times = |launched, days, now: &str| {
        let week = mondays_to_fridays();
        let times = calls(Some(days)).times(day(launched), offers_end, &week, Berlin, at(now));
        (times.date, times.ends_at)
    };
    // Launched on a Saturday, for one day.
    assert_eq!(
        times(17, 1, "2026-10-17T06:00:00Z"),
        (day(19), end_of(day(19), Berlin))
    );
    // The last minute of the hours, and the first that is too late.
    assert_eq!(
        times(20, 1, "2026-10-20T15:30:59Z"),
        (day(20), end_of(day(20), Berlin))
    );
    assert_eq!(
        times(20, 2, "2026-10-20T15:31:00Z"),
        (day(21), end_of(day(22), Berlin))
    );
    // On a Friday evening Monday is the next; a launch that was held up for days begins then.
    assert_eq!(
        times(23, 1, "2026-10-23T20:00:00Z"),
        (day(26), end_of(day(26), Berlin))
    );
    assert_eq!(
        times(20, 1, "2026-10-22T06:00:00Z"),
        (day(22), end_of(day(22), Berlin))
    );
}
