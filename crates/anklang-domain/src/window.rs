//! Sending hours: when messages may go out, by the clock on the recipient's wall.
//!
//! Daylight saving time moves that clock: hours are skipped and come twice. A window is open
//! whenever the clock shows a time inside of it, however often it does; where its beginning is
//! skipped it opens with the jump, and where all of it is skipped it does not open on that day.

use chrono::{
    DateTime, Datelike, Days, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, Offset,
    TimeDelta, TimeZone, Timelike, Utc, Weekday,
};
use chrono_tz::{TZ_VARIANTS, Tz};

const MINUTES_OF_DAY: u32 = 24 * 60;

/// Names of weekdays, Monday first.
pub(crate) const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of a day on some days of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Minute of the day from which on it is open.
    from: u32,
    /// Minute of the day from which on it is closed again; 1,440 is midnight.
    until: u32,
    /// Monday first.
    days: [bool; 7],
}

impl Window {
    /// Reads hours such as `08:00-20:00` (empty: the whole day; `24:00` is midnight) and weekdays
    /// `mon` … `sun` (none: all of them). `None` when that is always.
    ///
    /// # Errors
    /// What is wrong with the hours or the weekdays, for people.
    pub fn parse(hours: &str, weekdays: &[String]) -> Result<Option<Window>, &'static str> {
        const HOURS: &str = "must be hours of a day as in 08:00-20:00, the first before the second";
        let (from, until) = match hours {
            "" => (0, MINUTES_OF_DAY),
            text => {
                let (from, until) = text.split_once('-').ok_or(HOURS)?;
                let (from, until) = (minute(from), minute(until));
                from.zip(until)
                    .filter(|(from, until)| from < until)
                    .ok_or(HOURS)?
            }
        };
        let mut days = [weekdays.is_empty(); 7];
        for name in weekdays {
            let day = WEEKDAYS.iter().position(|day| day == name);
            days[day.ok_or("must be some of mon, tue, wed, thu, fri, sat, sun")?] = true;
        }
        let always = (from, until) == (0, MINUTES_OF_DAY) && days == [true; 7];
        Ok((!always).then_some(Window { from, until, days }))
    }

    /// The hours as they are read, e.g. `08:00-20:00`.
    pub fn hours(&self) -> String {
        let text = |minute: u32| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("{}-{}", text(self.from), text(self.until))
    }

    /// The weekdays as they are read, Monday first.
    pub fn weekdays(&self) -> Vec<&'static str> {
        let days = WEEKDAYS.iter().zip(self.days);
        days.filter_map(|(name, open)| open.then_some(*name))
            .collect()
    }

    /// When it opens next in a time zone; `None` when it is open at `now`.
    pub fn opens(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        if self.is_open(now, zone) {
            return None;
        }
        self.turns(now, zone, true)
            // Unreachable: a week has a day on which no hours are skipped.
            .or_else(|| now.checked_add_days(Days::new(1)))
    }

    /// When it closes next in a time zone, at `now` when it is closed; `None` when it stays open
    /// for more than a week.
    pub fn closes(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        if !self.is_open(now, zone) {
            return Some(now);
        }
        self.turns(now, zone, false)
    }

    /// The next moment after `now`, within nine days, at which it is open, or is not.
    fn turns(&self, now: DateTime<Utc>, zone: Tz, open: bool) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(&zone).date_naive();
        // From yesterday, for clocks that go back over midnight, to the same weekday next week.
        let first = today.pred_opt().unwrap_or(today);
        let days = (0..10).filter_map(|n| first.checked_add_days(Days::new(n)));
        days.flat_map(|day| {
            let bound = |minute| {
                let midnight = day.and_time(NaiveTime::MIN);
                changes(midnight + TimeDelta::minutes(i64::from(minute)), zone)
            };
            bound(self.from).into_iter().chain(bound(self.until))
        })
        .flatten()
        .filter(|time| *time > now && self.is_open(*time, zone) == open)
        .min()
    }

    /// When it opens next in each time zone where it is closed at `now`.
    pub fn closed_zones(&self, now: DateTime<Utc>) -> Vec<(&'static str, DateTime<Utc>)> {
        let zones = TZ_VARIANTS.iter();
        zones
            .filter_map(|zone| Some((zone.name(), self.opens(now, *zone)?)))
            .collect()
    }

    fn is_open(&self, time: DateTime<Utc>, zone: Tz) -> bool {
        let local = time.with_timezone(&zone).naive_local();
        let minute = local.hour() * 60 + local.minute();
        self.days[day_of_week(local.weekday())] && (self.from..self.until).contains(&minute)
    }
}

/// Longest time that clocks can leave out: Samoa once left out a day.
const LONGEST_GAP: TimeDelta = TimeDelta::hours(26);

/// The first instant of a day in a time zone; where clocks leave out midnight, the first one after.
pub fn start_of_day(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    let mut time = midnight;
    while time <= midnight + LONGEST_GAP {
        if let Some(start) = zone.from_local_datetime(&time).earliest() {
            return start.to_utc();
        }
        time += TimeDelta::minutes(1);
    }
    midnight.and_utc()
}

pub(crate) fn day_of_week(day: Weekday) -> usize {
    usize::try_from(day.num_days_from_monday()).unwrap_or(0)
}

fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let two = |digits: &str| {
        (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse::<u32>().ok())
            .flatten()
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    (minute < 60)
        .then_some(hour * 60 + minute)
        .filter(|all| *all <= MINUTES_OF_DAY)
}

/// When a clock comes to, or past, a local time: twice where it goes back over it, with the
/// moment when it goes back; at the jump where it skips it.
pub(crate) fn changes(local: NaiveDateTime, zone: Tz) -> [Option<DateTime<Utc>>; 3] {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => [Some(time.to_utc()), None, None],
        MappedLocalTime::Ambiguous(first, second) => {
            let (first, second) = (first.to_utc(), second.to_utc());
            [Some(first), Some(jump(first, second, zone)), Some(second)]
        }
        MappedLocalTime::None => {
            // The whole of any offset and more on both sides.
            let around = TimeDelta::hours(27);
            let utc = local.and_utc();
            [Some(jump(utc - around, utc + around, zone)), None, None]
        }
    }
}

/// The first second after `from`, up to `until`, at which another offset holds than at `from`.
fn jump(from: DateTime<Utc>, until: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    let offset = |time: DateTime<Utc>| time.with_timezone(&zone).offset().fix();
    let before = offset(from);
    let (mut before_it, mut after_it) = (0, (until - from).num_seconds());
    while after_it - before_it > 1 {
        let middle = i64::midpoint(before_it, after_it);
        if offset(from + TimeDelta::seconds(middle)) == before {
            before_it = middle;
        } else {
            after_it = middle;
        }
    }
    from + TimeDelta::seconds(after_it)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(hours: &str, weekdays: &[&str]) -> Window {
        let weekdays: Vec<String> = weekdays.iter().map(|d| (*d).to_owned()).collect();
        Window::parse(hours, &weekdays).unwrap().unwrap()
    }

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// It is open until it closes, and closed until it opens, all the while.
    fn check(window: &Window, now: DateTime<Utc>, zone: Tz) {
        let open = window.is_open(now, zone);
        let (opens, closes) = (window.opens(now, zone), window.closes(now, zone));
        assert_eq!((opens.is_none(), closes == Some(now)), (open, !open));
        let Some(turns) = (if open { closes } else { opens }) else {
            assert!(window.from == 0 && window.until == MINUTES_OF_DAY);
            return;
        };
        let context = format!("{window:?} {zone} from {now} to {turns}");
        assert!(
            turns > now && window.is_open(turns, zone) != open,
            "{context}"
        );
        let seconds = (turns - now).num_seconds();
        for ago in (0..seconds).step_by(599).chain([seconds - 1]) {
            let before = now + TimeDelta::seconds(ago);
            assert!(
                before >= turns || window.is_open(before, zone) == open,
                "turns at {before}: {context}"
            );
        }
    }

    proptest! {
        #[test]
        fn it_opens_at_the_first_moment_at_which_it_is_open(
            from in 0..MINUTES_OF_DAY, length in 1..=MINUTES_OF_DAY, days: [bool; 7],
            zone in 0..TZ_VARIANTS.len(), second in 1_577_836_800i64..2_082_758_400,
        ) {
            prop_assume!(days != [false; 7]);
            let window = Window { from, until: (from + length).min(MINUTES_OF_DAY), days };
            check(&window, DateTime::from_timestamp(second, 0).unwrap(), TZ_VARIANTS[zone]);
        }
    }

    /// Every jump of every zone in some years, with windows around it.
    #[test]
    fn it_opens_right_around_every_jump_of_every_zone() {
        let (mut jumps, begin) = (0, utc("2024-01-01T00:00:00Z"));
        for zone in TZ_VARIANTS {
            let offset = |day| {
                let time: DateTime<Utc> = begin + TimeDelta::days(day);
                time.with_timezone(&zone).offset().fix()
            };
            for day in (0..900).filter(|day| offset(*day) != offset(*day + 1)) {
                let from = begin + TimeDelta::days(day);
                let at = jump(from, from + TimeDelta::days(1), zone);
                jumps += 1;
                let local = at.with_timezone(&zone).naive_local();
                let minute = local.hour() * 60 + local.minute();
                for (before, length) in
                    [(0, 1), (30, 20), (30, 60), (60, 30), (61, 120), (150, 100)]
                {
                    let from = (minute + MINUTES_OF_DAY - before) % MINUTES_OF_DAY;
                    let until = (from + length).min(MINUTES_OF_DAY);
                    let window = Window {
                        from,
                        until,
                        days: [true; 7],
                    };
                    for minutes in [-170, -45, -1, 0, 1, 29, 61] {
                        check(&window, at + TimeDelta::minutes(minutes), zone);
                    }
                }
            }
        }
        assert!(jumps > 500, "{jumps}");
    }

    #[test]
    fn weekends_and_nights_are_waited_for() {
        let berlin = chrono_tz::Europe::Berlin;
        let office = window("08:00-20:00", &["mon", "tue", "wed", "thu", "fri"]);
        let opens = |text| office.opens(utc(text), berlin);
        assert_eq!(opens("2026-11-20T18:59:59Z"), None);
        // Friday 20:00 to Monday 08:00.
        assert_eq!(
            opens("2026-11-20T19:00:00Z"),
            Some(utc("2026-11-23T07:00:00Z"))
        );
        // Over the end of daylight saving time.
        assert_eq!(
            opens("2026-10-24T12:00:00Z"),
            Some(utc("2026-10-26T07:00:00Z"))
        );
    }

    #[test]
    fn hours_that_are_skipped_or_come_twice() {
        let berlin = chrono_tz::Europe::Berlin;
        // 02:00 to 03:00 is skipped on 29 March 2026, 02:00 to 03:00 comes twice on 25 October.
        let night = window("02:30-04:00", &[]);
        assert_eq!(
            night.opens(utc("2026-03-29T00:00:00Z"), berlin),
            Some(utc("2026-03-29T01:00:00Z"))
        );
        let skipped = window("02:15-02:45", &[]);
        assert_eq!(
            skipped.opens(utc("2026-03-29T00:00:00Z"), berlin),
            Some(utc("2026-03-30T00:15:00Z"))
        );
        let twice = |text| skipped.opens(utc(text), berlin);
        assert_eq!(
            twice("2026-10-25T00:00:00Z"),
            Some(utc("2026-10-25T00:15:00Z"))
        );
        assert_eq!(
            twice("2026-10-25T00:45:00Z"),
            Some(utc("2026-10-25T01:15:00Z"))
        );
    }

    #[test]
    fn what_is_no_window_is_refused() {
        for hours in [
            "8:00-20:00",
            "20:00-08:00",
            "08:00",
            "08:00-08:00",
            "08:60-09:00",
            "08:00-24:01",
            "+8:00-09:00",
        ] {
            assert!(Window::parse(hours, &[]).is_err(), "{hours}");
        }
        assert!(Window::parse("", &["Mon".into()]).is_err());
        assert_eq!(Window::parse("", &[]), Ok(None));
        assert_eq!(Window::parse("00:00-24:00", &[]), Ok(None));
        let sunday = window("", &["sun"]);
        assert_eq!(
            (sunday.hours(), sunday.weekdays()),
            ("00:00-24:00".into(), vec!["sun"])
        );
    }
}
