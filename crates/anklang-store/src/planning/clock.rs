//! What the clocks of a time zone do on one day, in a form that SQL can reckon with.

use chrono::{DateTime, NaiveDate, NaiveTime, Offset, TimeDelta, Utc};
use chrono_tz::Tz;

use anklang_domain::planning::instant;

/// The clock of a day. Zones put clocks forward or back at most once within a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Seconds that it is ahead of UTC until the jump.
    pub offset: i32,
    /// When it is put forward or back on that day, if it is.
    pub jump: Option<DateTime<Utc>>,
    /// Seconds that it is ahead from then on.
    pub later: i32,
}

impl Clock {
    /// The clock of a zone on a day.
    pub fn of(day: NaiveDate, zone: Tz) -> Clock {
        let begin = instant(day, NaiveTime::MIN, zone) - TimeDelta::seconds(1);
        let next = day.succ_opt().unwrap_or(day);
        // That moment included: clocks may leave out the last hour of the day.
        let end = instant(next, NaiveTime::MIN, zone);
        let ahead = |time: DateTime<Utc>| {
            let local = time.with_timezone(&zone);
            local.offset().fix().local_minus_utc()
        };
        let (offset, later) = (ahead(begin), ahead(end));
        if offset == later {
            return Clock {
                offset,
                jump: None,
                later,
            };
        }
        let (mut before, mut after) = (0, (end - begin).num_seconds());
        while after - before > 1 {
            let middle = i64::midpoint(before, after);
            if ahead(begin + TimeDelta::seconds(middle)) == offset {
                before = middle;
            } else {
                after = middle;
            }
        }
        Clock {
            offset,
            jump: Some(begin + TimeDelta::seconds(after)),
            later,
        }
    }

    /// When it shows a time of its day: as `planning::instant`, and as the statement of a generation
    /// reckons.
    pub fn instant(&self, day: NaiveDate, time: NaiveTime) -> DateTime<Utc> {
        let local = day.and_time(time).and_utc();
        let first = local - TimeDelta::seconds(self.offset.into());
        match self.jump {
            Some(jump) if first >= jump => jump.max(local - TimeDelta::seconds(self.later.into())),
            _ => first,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::TZ_VARIANTS;

    use super::*;

    /// Every day of a year with all its jumps, and those around the day that Samoa left out.
    #[test]
    fn it_shows_what_the_rules_say() {
        let date = |y, m, d| NaiveDate::from_ymd_opt(y, m, d).expect("a date");
        let samoa = (chrono_tz::Pacific::Apia, date(2011, 12, 20), 20);
        let all = TZ_VARIANTS
            .iter()
            .map(|zone| (*zone, date(2026, 1, 1), 365));
        let mut jumps = 0;
        for (zone, first, days) in all.chain([samoa]) {
            for day in first.iter_days().take(days) {
                let clock = Clock::of(day, zone);
                jumps += usize::from(clock.jump.is_some());
                let step = if clock.jump.is_some() { 7 } else { 713 };
                for minute in (0..1_440).step_by(step) {
                    let time = NaiveTime::MIN + TimeDelta::minutes(minute);
                    assert_eq!(
                        clock.instant(day, time),
                        instant(day, time, zone),
                        "{day} {time} {zone}"
                    );
                }
            }
        }
        assert!(jumps > 200, "{jumps}");
    }
}
