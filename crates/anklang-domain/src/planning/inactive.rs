//! Periods in which a customer is not contacted, or gets no deliveries.

use chrono::{Datelike, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};

use super::DateRange;
use super::weekdays;

/// What does not happen in an inactive period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DayType {
    /// Contacts.
    Contact,
    /// Deliveries.
    Delivery,
}

/// An inactive period of a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InactivePeriod {
    /// What does not happen.
    pub day_type: DayType,
    /// On this weekday alone; `None`: on any.
    pub weekday: Option<Weekday>,
    /// From – to, both included.
    pub days: DateRange,
}

impl InactivePeriod {
    /// Whether a day is inactive.
    pub fn holds(&self, day_type: DayType, day: NaiveDate) -> bool {
        let on_weekday = self.weekday.is_none_or(|weekday| weekday == day.weekday());
        self.day_type == day_type && on_weekday && self.days.contains(day)
    }
}

impl std::fmt::Display for InactivePeriod {
    /// As a sentence for people, e.g. `no contact 1999-03-01 to 1999-03-31`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.day_type {
            DayType::Contact => "no contact",
            DayType::Delivery => "no delivery",
        })?;
        if let Some(weekday) = self.weekday {
            write!(f, " on a {}", weekdays::name(weekday))?;
        }
        write!(f, " {}", self.days)
    }
}

/// What a plan's contact becomes for one customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerDate<'a> {
    /// There is none.
    NoContact {
        /// The first of the customer's periods that says so.
        because: &'a InactivePeriod,
    },
    /// There is one.
    Contact {
        /// When goods are delivered; `None` when no deliveries are planned, or all days that come
        /// into question are inactive.
        delivery: Option<NaiveDate>,
        /// Why that is not the plan's delivery date, if it is not.
        moved: Option<DeliveryMoved<'a>>,
    },
}

/// Why a delivery is later than the plan says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryMoved<'a> {
    /// The plan's delivery date.
    pub from: NaiveDate,
    /// The first of the customer's periods that holds on it.
    pub because: &'a InactivePeriod,
}

/// Checks a contact of a plan against one customer's inactive periods; `candidates` are the delivery
/// days that come into question ([`super::Delivery::candidates`]). Comes after the plan's exceptions: it
/// is the date to which these have moved the contact that counts.
pub fn for_customer<'a>(
    periods: &'a [InactivePeriod],
    date: NaiveDate,
    candidates: &[NaiveDate],
) -> CustomerDate<'a> {
    let inactive = |day_type, day| periods.iter().find(|period| period.holds(day_type, day));
    if let Some(because) = inactive(DayType::Contact, date) {
        return CustomerDate::NoContact { because };
    }
    let active = |day: &&NaiveDate| inactive(DayType::Delivery, **day).is_none();
    CustomerDate::Contact {
        delivery: candidates.iter().find(active).copied(),
        moved: candidates.first().and_then(|from| {
            let because = inactive(DayType::Delivery, *from)?;
            Some(DeliveryMoved {
                from: *from,
                because,
            })
        }),
    }
}
