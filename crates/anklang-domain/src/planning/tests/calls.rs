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
    let times = calls(None).times(day(24), offers_end, &mondays_to_fridays(), Berlin);
    assert_eq!(times.date, day(26));
    assert_eq!(times.from, at("2026-10-26T08:00:00Z"));
    assert_eq!(times.to, at("2026-10-26T16:31:00Z"));
    assert_eq!(times.ends_at, at("2026-10-31T23:00:00Z"));

    let any = Calendar::new(Weekdays::ANY, None, []);
    let times = calls(None).times(day(24), offers_end, &any, Berlin);
    assert_eq!(
        (times.date, times.from),
        (day(24), at("2026-10-24T07:00:00Z"))
    );
    let all_day = Calls {
        earliest: None,
        latest: None,
        ..calls(None)
    };
    let times = all_day.times(day(25), offers_end, &any, Berlin);
    // This day has 25 hours.
    assert_eq!(times.from, at("2026-10-24T22:00:00Z"));
    assert_eq!(times.to, at("2026-10-25T23:00:00Z"));
}

#[test]
fn they_end_with_their_days_or_the_offers() {
    let any = Calendar::new(Weekdays::ANY, None, []);
    let ends = |days, offers: u32| {
        let times = calls(days).times(day(20), end_of(day(offers), Berlin), &any, Berlin);
        times.ends_at
    };
    assert_eq!(ends(Some(1), 30), end_of(day(20), Berlin));
    assert_eq!(ends(Some(3), 30), end_of(day(22), Berlin));
    assert_eq!(ends(Some(3), 21), end_of(day(21), Berlin));
    assert_eq!(ends(None, 30), end_of(day(30), Berlin));
}
