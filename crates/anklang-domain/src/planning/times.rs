//! The hours of a plan entry, on dates and in time zones whose clocks are put forward and back.
//!
//! A time that clocks leave out on a date stands for the moment at which they jump; of one that comes
//! twice the first is meant. Whether a moment is within hours is what the clock on the wall says.

use chrono::{DateTime, MappedLocalTime, NaiveDate, NaiveTime, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::Violations;
use crate::window::changes;

/// When a customer of a plan is to be called, by the clock of the plan's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct EntryTimes {
    at: NaiveTime,
    earliest: NaiveTime,
    latest: NaiveTime,
}

#[derive(Deserialize)]
struct Raw {
    at: NaiveTime,
    earliest: NaiveTime,
    latest: NaiveTime,
}

/// The last minute of a day.
const LAST_MINUTE: NaiveTime = NaiveTime::from_hms_opt(23, 59, 0).expect("there is this minute");

impl EntryTimes {
    /// The contact time, and the earliest and latest one, both included; without them the whole day. To
    /// the minute.
    ///
    /// # Errors
    /// All that is wrong, for the fields `contact_time`, `earliest_time` and `latest_time`.
    pub fn new(
        at: NaiveTime,
        earliest: Option<NaiveTime>,
        latest: Option<NaiveTime>,
    ) -> Result<EntryTimes, Violations> {
        let mut violations = Violations::new();
        let fields = [
            ("contact_time", Some(at)),
            ("earliest_time", earliest),
            ("latest_time", latest),
        ];
        for (field, time) in fields {
            if time.is_some_and(|time| time.second() != 0 || time.nanosecond() != 0) {
                violations.add(field, "must be a time of day to the minute");
            }
        }
        let earliest = earliest.unwrap_or(NaiveTime::MIN);
        let latest = latest.unwrap_or(LAST_MINUTE);
        if latest < earliest {
            violations.add("latest_time", "must not be before the earliest time");
        } else if !(earliest..=latest).contains(&at) {
            let hours = format!("{} to {}", earliest.format("%H:%M"), latest.format("%H:%M"));
            violations.add("contact_time", format!("must be within the hours {hours}"));
        }
        violations.finish(EntryTimes {
            at,
            earliest,
            latest,
        })
    }

    /// The contact time.
    pub fn at(&self) -> NaiveTime {
        self.at
    }

    /// The earliest time.
    pub fn earliest(&self) -> NaiveTime {
        self.earliest
    }

    /// The latest time; all of its minute is within the hours.
    pub fn latest(&self) -> NaiveTime {
        self.latest
    }

    /// When to call on a date.
    pub fn on(&self, date: NaiveDate, zone: Tz) -> DateTime<Utc> {
        instant(date, self.at, zone)
    }

    /// Whether a moment is within the hours: if not, whoever calls is warned.
    pub fn is_within(&self, moment: DateTime<Utc>, zone: Tz) -> bool {
        self.is_after_earliest(moment, zone) && !self.is_after_latest(moment, zone)
    }

    /// Whether the clock shows the earliest time or a later one.
    pub(super) fn is_after_earliest(&self, moment: DateTime<Utc>, zone: Tz) -> bool {
        moment.with_timezone(&zone).time() >= self.earliest
    }

    /// Whether the clock shows a later minute than the latest.
    pub(super) fn is_after_latest(&self, moment: DateTime<Utc>, zone: Tz) -> bool {
        let time = moment.with_timezone(&zone).time();
        (time.hour(), time.minute()) > (self.latest.hour(), self.latest.minute())
    }
}

impl TryFrom<Raw> for EntryTimes {
    type Error = Violations;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        EntryTimes::new(raw.at, Some(raw.earliest), Some(raw.latest))
    }
}

/// The moment at which clocks of a zone show a time on a date; the first one if they do so twice, and
/// the end of the gap if they leave it out.
pub fn instant(date: NaiveDate, time: NaiveTime, zone: Tz) -> DateTime<Utc> {
    let local = date.and_time(time);
    let [first, ..] = changes(local, zone);
    // Always there: a clock comes to, or past, each time.
    first.unwrap_or_else(|| local.and_utc())
}

/// As [`instant`], for a time that a person names.
///
/// # Errors
/// When clocks leave the time out on that date, for people.
pub fn named_instant(date: NaiveDate, time: NaiveTime, zone: Tz) -> Result<DateTime<Utc>, String> {
    let end = instant(date, time, zone);
    match zone.from_local_datetime(&date.and_time(time)) {
        MappedLocalTime::None => Err(format!(
            "does not exist on {date} in {zone}, where clocks are put forward over it to {}",
            end.with_timezone(&zone).format("%H:%M")
        )),
        _ => Ok(end),
    }
}
