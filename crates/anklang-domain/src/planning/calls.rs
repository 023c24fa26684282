//! How and when the members of a campaign's outbound by phone are called.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{Calendar, instant};

/// How they are called. Stored as JSON with these names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// `users/…` or `roles/…`; empty for anybody.
    pub responsible: String,
    /// From when on customers may be called; from the beginning of the day if not set.
    pub earliest: Option<NaiveTime>,
    /// Until when, that minute included and not before `earliest`; until the end of the day if not set.
    pub latest: Option<NaiveTime>,
    /// What is more important comes first, -1,000 to 1,000.
    pub priority: i32,
    /// What whoever calls must be able to do.
    pub skills: Vec<String>,
    /// For so many days, the first day of calls being the first, from 1; without, as long as there are
    /// offers.
    pub valid_days: Option<u16>,
    /// For people.
    pub note: String,
}

/// When they are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimes {
    /// The first day.
    pub date: NaiveDate,
    /// When the first day's hours begin.
    pub from: DateTime<Utc>,
    /// The first moment of that day that is too late.
    pub to: DateTime<Utc>,
    /// From when on nobody is called any more.
    pub ends_at: DateTime<Utc>,
}

impl Calls {
    /// The times of calls of a launch on the day `launched`, in `zone`, when it is `now`. `offers_end` is the
    /// moment at which the offers have expired. The first day is a workday of `calendar` of whose hours some
    /// are left; the offers may have expired before that.
    pub fn times(
        &self,
        launched: NaiveDate,
        offers_end: DateTime<Utc>,
        calendar: &Calendar,
        zone: Tz,
        now: DateTime<Utc>,
    ) -> CallTimes {
        let date = Some(launched)
            .filter(|day| calendar.is_workday(*day))
            .into_iter()
            .chain(calendar.workdays_after(launched))
            .find(|day| now < self.too_late(*day, zone))
            .unwrap_or(launched);
        let from = instant(date, self.earliest.unwrap_or(NaiveTime::MIN), zone);
        let to = self.too_late(date, zone);
        let last = self
            .valid_days
            .and_then(|days| date.checked_add_days(Days::new(u64::from(days.max(1)) - 1)));
        let ends_at = last.map_or(offers_end, |last| end_of(last, zone).min(offers_end));
        CallTimes {
            date,
            from,
            to: to.max(from),
            ends_at,
        }
    }

    /// The first moment of a day that is too late.
    fn too_late(&self, day: NaiveDate, zone: Tz) -> DateTime<Utc> {
        match self.latest {
            Some(latest) => instant(day, latest, zone) + TimeDelta::minutes(1),
            None => end_of(day, zone),
        }
    }
}

/// The moment at which a day is over.
pub fn end_of(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    instant(day.succ_opt().unwrap_or(day), NaiveTime::MIN, zone)
}
