//! When sending would end: so many messages, one each interval, within the sending hours.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::window::Window;

/// Nobody plans further ahead.
const HORIZON: TimeDelta = TimeDelta::days(5 * 366);

/// When the first message can go out: at `start`, or when the hours begin.
pub fn first(start: DateTime<Utc>, window: Option<Window>, zone: Tz) -> DateTime<Utc> {
    window
        .and_then(|window| window.opens(start, zone))
        .unwrap_or(start)
}

/// When the place after the last of `count` messages is due: they go out from `start` on, one each
/// `interval`, only while the window is open in `zone`. `None` when that takes more than five years.
pub fn end(
    start: DateTime<Utc>,
    count: i64,
    interval: TimeDelta,
    window: Option<Window>,
    zone: Tz,
) -> Option<DateTime<Utc>> {
    let micros = interval.num_microseconds()?.max(1);
    let mut left = count.max(0);
    let mut now = start;
    while left > 0 {
        now = first(now, window, zone);
        if now - start > HORIZON {
            return None;
        }
        let needed = TimeDelta::microseconds(left.checked_mul(micros)?);
        let closes = window.and_then(|window| window.closes(now, zone));
        match closes {
            Some(closes)
                if now
                    .checked_add_signed(needed)
                    .is_none_or(|end| end > closes) =>
            {
                let open = (closes - now).num_microseconds()?;
                // The last one begins before it closes.
                left -= (open + micros - 1) / micros;
                now = closes;
            }
            _ => {
                now = now.checked_add_signed(needed)?;
                left = 0;
            }
        }
    }
    (now - start <= HORIZON).then_some(now)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn office() -> Option<Window> {
        let days = ["mon", "tue", "wed", "thu", "fri"].map(str::to_owned);
        Window::parse("08:00-20:00", &days).unwrap()
    }

    #[test]
    fn a_million_at_a_hundred_a_minute_take_fourteen_working_days() {
        let zone = chrono_tz::Europe::Berlin;
        // Saturday: begins on Monday at 8. 72,000 a day: 13 days, and 64,000 on the fourteenth.
        let start = utc("2026-11-21T09:00:00Z");
        let minute = TimeDelta::milliseconds(600);
        assert_eq!(first(start, office(), zone), utc("2026-11-23T07:00:00Z"));
        assert_eq!(
            end(start, 1_000_000, minute, office(), zone),
            Some(utc("2026-12-10T07:00:00Z") + minute * 64_000)
        );
        assert_eq!(
            end(start, 1_000_000, minute, None, zone),
            Some(start + minute * 1_000_000)
        );
        assert_eq!(end(start, 0, minute, office(), zone), Some(start));
        assert_eq!(end(start, i64::MAX, minute, None, zone), None);
        assert_eq!(end(start, 100_000_000, minute, office(), zone), None);
    }

    proptest! {
        /// As going from message to message does.
        #[test]
        fn it_ends_when_one_after_the_other_does(
            count in 0..400i64, seconds in 1..5_000i64, from in 0..23u32, hours in 1..24u32,
            start in 1_790_000_000i64..1_800_000_000,
        ) {
            let zone = chrono_tz::Europe::Berlin;
            let hours = format!("{from:02}:00-{:02}:00", (from + hours).min(24));
            let window = Window::parse(&hours, &[]).unwrap();
            let start = DateTime::from_timestamp(start, 0).unwrap();
            let interval = TimeDelta::seconds(seconds);
            let mut next = start;
            for _ in 0..count {
                next = first(next, window, zone) + interval;
                // A place that is due after it closes is due when it opens.
                if let Some(window) = window {
                    let began = next - interval;
                    let closes = window.closes(began, zone).unwrap();
                    next = if next > closes { closes } else { next };
                }
            }
            prop_assert_eq!(end(start, count, interval, window, zone), Some(next));
        }
    }
}
