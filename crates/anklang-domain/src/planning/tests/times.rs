use chrono::{DateTime, Days, TimeDelta, TimeZone, Utc};
use chrono_tz::{Europe::Berlin, TZ_VARIANTS, Tz};
use proptest::prelude::*;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn hours(at: &str, earliest: &str, latest: &str) -> EntryTimes {
    EntryTimes::new(time(at), Some(time(earliest)), Some(time(latest))).unwrap()
}

#[test]
fn times_on_dates() {
    let at = |date: &str, at: &str| instant(day(date), time(at), Berlin);
    assert_eq!(at("2026-03-28", "09:30"), utc("2026-03-28T08:30:00Z"));
    assert_eq!(at("2026-03-30", "09:30"), utc("2026-03-30T07:30:00Z"));
    // Left out between 2 and 3.
    for left_out in ["02:00", "02:30", "02:59", "03:00"] {
        assert_eq!(
            at("2026-03-29", left_out),
            utc("2026-03-29T01:00:00Z"),
            "{left_out}"
        );
    }
    assert_eq!(at("2026-03-29", "01:59"), utc("2026-03-29T00:59:00Z"));
    assert_eq!(at("2026-03-29", "03:01"), utc("2026-03-29T01:01:00Z"));
    // Twice between 2 and 3: the first.
    assert_eq!(at("2026-10-25", "02:30"), utc("2026-10-25T00:30:00Z"));
    assert_eq!(at("2026-10-25", "01:59"), utc("2026-10-24T23:59:00Z"));
    assert_eq!(at("2026-10-25", "03:00"), utc("2026-10-25T02:00:00Z"));
    assert_eq!(at("2028-02-29", "12:00"), utc("2028-02-29T11:00:00Z"));
    assert_eq!(at("2026-12-31", "23:59"), utc("2026-12-31T22:59:00Z"));
    assert_eq!(at("2027-01-01", "00:00"), utc("2026-12-31T23:00:00Z"));
    // Half an hour, midnight, and a whole day.
    let lord_howe = instant(
        day("2026-10-04"),
        time("02:10"),
        chrono_tz::Australia::Lord_Howe,
    );
    assert_eq!(lord_howe, utc("2026-10-03T15:30:00Z"));
    let cairo = instant(day("2026-04-24"), time("00:30"), chrono_tz::Africa::Cairo);
    assert_eq!(cairo, utc("2026-04-23T22:00:00Z"));
    let apia = instant(day("2011-12-30"), time("10:00"), chrono_tz::Pacific::Apia);
    assert_eq!(apia, utc("2011-12-30T10:00:00Z"));
}

#[test]
fn who_names_a_time_that_is_left_out_is_told() {
    let named = |date: &str, at: &str| named_instant(day(date), time(at), Berlin);
    assert_eq!(
        named("2026-03-29", "02:30"),
        Err("does not exist on 2026-03-29 in Europe/Berlin, \
             where clocks are put forward over it to 03:00"
            .into())
    );
    assert_eq!(
        named("2026-03-29", "03:00"),
        Ok(utc("2026-03-29T01:00:00Z"))
    );
    assert_eq!(
        named("2026-10-25", "02:30"),
        Ok(utc("2026-10-25T00:30:00Z"))
    );
    assert_eq!(
        named("2026-03-28", "02:30"),
        Ok(utc("2026-03-28T01:30:00Z"))
    );
}

#[test]
fn a_moment_is_within_hours_by_the_clock_on_the_wall() {
    let times = hours("09:00", "08:00", "17:30");
    let within = |moment: &str| times.is_within(utc(moment), Berlin);
    assert!(!within("2026-03-27T06:59:59Z"));
    assert!(within("2026-03-27T07:00:00Z"));
    assert!(within("2026-03-27T16:30:59Z"));
    assert!(!within("2026-03-27T16:31:00Z"));
    assert!(within("2026-03-30T06:00:00Z"));
    assert!(!within("2026-03-30T16:00:00Z"));
    let night = hours("02:30", "02:15", "02:45");
    assert!(night.is_within(utc("2026-10-25T00:30:00Z"), Berlin));
    assert!(!night.is_within(utc("2026-10-25T01:00:00Z"), Berlin));
    assert!(night.is_within(utc("2026-10-25T01:30:00Z"), Berlin));
    assert_eq!(
        times.on(day("2026-03-27"), Berlin),
        utc("2026-03-27T08:00:00Z")
    );
}

#[test]
fn hours_of_entries_are_checked() {
    let new = |at: &str, earliest: Option<&str>, latest: Option<&str>| {
        EntryTimes::new(time(at), earliest.map(time), latest.map(time))
            .map_err(|violations| violations.to_string())
    };
    let all_day = new("23:59", None, None).unwrap();
    assert_eq!(
        (all_day.earliest(), all_day.latest()),
        (time("00:00"), time("23:59"))
    );
    assert!(all_day.is_within(utc("2026-03-27T22:59:59Z"), Berlin));
    assert!(new("08:00", Some("08:00"), Some("08:00")).is_ok());
    let error = new("07:59", Some("08:00"), Some("12:00")).unwrap_err();
    assert_eq!(
        error,
        "contact_time: must be within the hours 08:00 to 12:00"
    );
    let error = new("12:00", Some("18:00"), Some("08:00")).unwrap_err();
    assert_eq!(error, "latest_time: must not be before the earliest time");
    let seconds = NaiveTime::from_hms_opt(8, 0, 1).unwrap();
    let error = EntryTimes::new(seconds, Some(seconds), None).unwrap_err();
    assert_eq!(error.iter().count(), 2);
    let json = serde_json::to_string(&hours("09:00", "08:00", "17:30")).unwrap();
    assert_eq!(
        json,
        r#"{"at":"09:00:00","earliest":"08:00:00","latest":"17:30:00"}"#
    );
    assert_eq!(
        serde_json::from_str::<EntryTimes>(&json).unwrap(),
        hours("09:00", "08:00", "17:30")
    );
    assert!(serde_json::from_str::<EntryTimes>(&json.replace("09", "07")).is_err());
}

proptest! {
    /// Minute by minute: the first moment at which the clock shows the time or a later one, having
    /// shown an earlier one.
    #[test]
    fn a_time_is_when_clocks_come_to_it(
        zone in 0..TZ_VARIANTS.len(), date in 0..14_000u64, minute in 0..1_440i64,
    ) {
        let zone: Tz = TZ_VARIANTS[zone];
        let date = day("1995-01-01") + Days::new(date);
        let local = date.and_time(NaiveTime::MIN) + TimeDelta::minutes(minute);
        let found = instant(date, local.time(), zone);
        let shown = |moment: DateTime<Utc>| moment.with_timezone(&zone).naive_local();
        prop_assert!(shown(found) >= local);
        prop_assert!(shown(found - TimeDelta::seconds(1)) < local);
        let first = utc("1990-01-01T00:00:00Z").max(local.and_utc() - TimeDelta::hours(30));
        let mut moment = first;
        while moment < found {
            prop_assert!(shown(moment) < local, "{} at {}", local, moment);
            moment += TimeDelta::minutes(7);
        }
        let exists = zone.from_local_datetime(&local).earliest().is_some();
        prop_assert_eq!(named_instant(date, local.time(), zone).is_ok(), exists);
        prop_assert_eq!(shown(found) == local, exists);
    }
}
