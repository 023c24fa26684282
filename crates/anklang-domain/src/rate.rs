//! Rate limits by the generic cell rate algorithm: all there is to remember is one point in time.
//!
//! A limit of *n* a period hands out one place each period/n, and after a pause up to `burst` at
//! once. So within any span of time at most `burst` + span ÷ (period/n) places are taken.

use chrono::{DateTime, TimeDelta, Utc};

/// A limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    text: String,
    /// Between two places; a whole number of microseconds, as the database keeps time.
    interval: TimeDelta,
    burst: u32,
}

impl Rate {
    /// Reads e.g. `100/minute`: 1 to 1,000,000 a second, minute, hour or day, but at most one each
    /// microsecond. `burst` is at most so many at once, at least 1; `None` is what comes together
    /// in a second.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn parse(text: &str, burst: Option<u32>) -> Result<Rate, &'static str> {
        const FORM: &str = "must be 1 to 1000000 a second, minute, hour or day, as in 100/minute";
        let (count, period) = text.split_once('/').ok_or(FORM)?;
        let count: i32 = count.trim().parse().map_err(|_| FORM)?;
        let seconds = match period.trim() {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            _ => return Err(FORM),
        };
        if !(1..=1_000_000).contains(&count) {
            return Err(FORM);
        }
        let in_a_second = u32::try_from(count / seconds).unwrap_or(1).max(1);
        // Rounded up: rather a little slower than above the limit.
        let micros = i64::from(seconds) * 1_000_000;
        let interval = (micros + i64::from(count) - 1) / i64::from(count);
        Ok(Rate {
            text: format!("{count}/{}", period.trim()),
            interval: TimeDelta::microseconds(interval),
            burst: burst.unwrap_or(in_a_second).max(1),
        })
    }

    /// Time between two places.
    pub fn interval(&self) -> TimeDelta {
        self.interval
    }

    /// At most so many at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// So many places are free at `now`, 0 to `burst`, when the next would be due at `free_at`.
    pub fn free(&self, free_at: DateTime<Utc>, now: DateTime<Utc>) -> u32 {
        let span = now + self.interval * self.whole_burst() - free_at.max(now);
        let places = span.num_microseconds().unwrap_or(i64::MAX) / self.micros();
        u32::try_from(places.max(0))
            .unwrap_or(u32::MAX)
            .min(self.burst)
    }

    /// What becomes of `free_at` when so many places are taken at `now`.
    pub fn taken(&self, free_at: DateTime<Utc>, now: DateTime<Utc>, places: u32) -> DateTime<Utc> {
        free_at.max(now) + self.interval * i32::try_from(places).unwrap_or(i32::MAX)
    }

    /// When there is a place: at `now` or later.
    pub fn next(&self, free_at: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        let burst_but_one = self.whole_burst() - 1;
        now.max(free_at - self.interval * burst_but_one)
    }

    fn micros(&self) -> i64 {
        self.interval.num_microseconds().unwrap_or(i64::MAX).max(1)
    }

    fn whole_burst(&self) -> i32 {
        i32::try_from(self.burst).unwrap_or(i32::MAX)
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whoever asks as often as he likes gets in no span of time more than the limit; and what
        /// the limit promises is there when it says so.
        #[test]
        fn no_span_has_more_than_the_limit(
            count in 1..10_000i32, period in prop_oneof!["second", "minute", "hour", "day"],
            burst in prop_oneof![Just(None), (1..200u32).prop_map(Some)],
            asks in prop::collection::vec((0..100_000_000i64, 0..300u32), 1..80),
        ) {
            let rate = Rate::parse(&format!("{count}/{period}"), burst).unwrap();
            let mut now = DateTime::UNIX_EPOCH;
            let mut free_at = now;
            let mut taken: Vec<(DateTime<Utc>, u32)> = Vec::new();
            for (wait, wanted) in asks {
                now += TimeDelta::microseconds(wait);
                let places = rate.free(free_at, now).min(wanted);
                free_at = rate.taken(free_at, now, places);
                taken.push((now, places));
                let next = rate.next(free_at, now);
                prop_assert!(rate.free(free_at, next) > 0);
                let before = next - TimeDelta::microseconds(1);
                prop_assert!(next == now || rate.free(free_at, before) == 0);
            }
            for (i, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until, places) in &taken[i..] {
                    sum += i64::from(*places);
                    let span = (*until - *from).num_microseconds().unwrap();
                    prop_assert!(sum <= i64::from(rate.burst()) + span / rate.micros());
                }
            }
        }
    }

    #[test]
    fn a_pause_does_not_add_up_beyond_the_burst() {
        let rate = Rate::parse("60/minute", Some(5)).unwrap();
        let begin = DateTime::UNIX_EPOCH;
        let later = begin + TimeDelta::days(30);
        assert_eq!(rate.free(begin, later), 5);
        let free_at = rate.taken(begin, later, 5);
        assert_eq!(rate.free(free_at, later), 0);
        assert_eq!(rate.next(free_at, later), later + TimeDelta::seconds(1));
        assert_eq!(rate.free(free_at, later + TimeDelta::seconds(3)), 3);
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "100",
            "0/minute",
            "-1/minute",
            "1.5/minute",
            "100/fortnight",
            "1000001/second",
        ] {
            assert!(Rate::parse(text, None).is_err(), "{text}");
        }
        assert_eq!(Rate::parse("600/minute", None).unwrap().burst(), 10);
        assert_eq!(Rate::parse("1/day", None).unwrap().burst(), 1);
    }
}
