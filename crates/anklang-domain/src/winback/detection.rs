//! The rule: has a customer's revenue dropped?
//!
//! # The formula
//! ```text
//! expected = then · season        season = mean index of the later period's days
//!                                        / mean index of the earlier period's known days
//! actual   = now · known / days
//! drop     = expected − actual    in percent: of expected
//! ```
//!
//! *Known* days are those of the earlier period from the first order on. Somebody who was not a
//! customer for all of it is compared over that many days: their later revenue is scaled down, rather than
//! the earlier one up, which would make a great customer out of one great order. In percent both
//! are the same. The season on the other hand scales the earlier revenue, so that the drop is in money of
//! today.
//!
//! A drop is a case when it reaches the percentage **and** the amount. Nothing is divided for that: both
//! sides are multiplied out, so that the verdict is exact, and that of the same comparison over SQL's
//! `numeric`. Sums are rounded to two decimals, half away from zero, before
//! they are compared.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use rust_decimal::{Decimal, RoundingStrategy};

use super::season::SeasonIndex;
use super::settings::{DetectionSettings, MOST_MONEY, Periods};
use crate::planning::DateRange;

/// A customer as of a day: nothing later is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerSums<'a> {
    /// Customer group, may be empty.
    pub group: &'a str,
    /// The name of the first of the settings' exclusions that finds the customer.
    pub excluded: Option<&'a str>,
    /// The days of the first and of the last order; `None`: never bought.
    pub ordered: Option<(NaiveDate, NaiveDate)>,
    /// Orders, ever.
    pub orders: u32,
    /// Revenue, ever; below zero where more came back than was bought.
    pub revenue: Decimal,
    /// Revenue of the earlier period.
    pub then: Decimal,
    /// Revenue of the later period.
    pub now: Decimal,
}

/// What the rule says of a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Is drifting away.
    Case(Decline),
    /// Is not a case, for all these reasons; never empty.
    NoCase(Vec<NoCase>),
}

/// A drop in numbers. Amounts are rounded to two decimals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decline {
    /// Revenue of the earlier period.
    pub then: Decimal,
    /// Revenue of the later period.
    pub now: Decimal,
    /// Days of the earlier period on which the customer was one.
    pub known_days: u32,
    /// By how much the season changes what is to be expected: 1 for not at all; four decimals.
    pub season: Decimal,
    /// What was to be expected.
    pub expected: Decimal,
    /// What came, for as many days as were known.
    pub actual: Decimal,
    /// What is missing, above zero.
    pub drop: Decimal,
    /// The same in percent of what was expected; above 100 where more came back than was bought.
    pub drop_percent: Decimal,
    /// The day of the last order.
    pub last_order: NaiveDate,
}

/// Why a customer is not a case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCase {
    /// Is no customer yet.
    #[error("never bought")]
    NeverBought,
    /// Is in a group that does not count, or in none that does.
    #[error("customer group {0:?} does not count")]
    Group(String),
    /// Is excluded by the settings under this name.
    #[error("excluded: {0}")]
    Excluded(String),
    /// Has had too few orders.
    #[error("{orders} orders, of {least} needed")]
    FewOrders {
        /// Orders, ever.
        orders: u32,
        /// What the settings want.
        least: u32,
    },
    /// Has brought too little.
    #[error("revenue {revenue}, of {least} needed")]
    LittleRevenue {
        /// Revenue, ever.
        revenue: Decimal,
        /// What the settings want.
        least: Decimal,
    },
    /// Was a customer for too little of the earlier period.
    #[error("customer on {days} days of the earlier period, of {least} needed")]
    ShortlyKnown {
        /// Days.
        days: u32,
        /// What the settings want.
        least: u32,
    },
    /// Brought nothing in the earlier period that could have dropped.
    #[error("no revenue in the earlier period")]
    NothingThen,
    /// The drop is too small in percent, or there is none; below zero: the revenue has grown.
    #[error("drop of {percent} %, of {least} % needed")]
    SmallPercent {
        /// Drop in percent of what was to be expected, two decimals.
        percent: Decimal,
        /// What the settings want.
        least: Decimal,
    },
    /// The drop is too small in money, or there is none; below zero: the revenue has grown.
    #[error("drop of {drop}, of {least} needed")]
    SmallDrop {
        /// Drop, two decimals.
        drop: Decimal,
        /// What the settings want.
        least: Decimal,
    },
    /// A sum is beyond [`MOST_MONEY`] and not compared.
    #[error("a revenue is beyond {MOST_MONEY}")]
    TooMuch,
}

impl NoCase {
    /// The words of all of them, as they are stored.
    pub const WORDS: [&'static str; 10] = [
        "never_bought",
        "group",
        "excluded",
        "few_orders",
        "little_revenue",
        "shortly_known",
        "nothing_then",
        "small_percent",
        "small_drop",
        "too_much",
    ];

    /// The word of the kind of reason.
    pub fn word(&self) -> &'static str {
        Self::WORDS[match self {
            NoCase::NeverBought => 0,
            NoCase::Group(_) => 1,
            NoCase::Excluded(_) => 2,
            NoCase::FewOrders { .. } => 3,
            NoCase::LittleRevenue { .. } => 4,
            NoCase::ShortlyKnown { .. } => 5,
            NoCase::NothingThen => 6,
            NoCase::SmallPercent { .. } => 7,
            NoCase::SmallDrop { .. } => 8,
            NoCase::TooMuch => 9,
        }]
    }

    /// The name of the exclusion, where that is the reason; else empty.
    pub fn exclusion(&self) -> &str {
        match self {
            NoCase::Excluded(name) => name,
            _ => "",
        }
    }
}

/// Looks for a drop in one customer's revenue. `season` counts only when the settings' comparison has
/// it taken out; `periods` are those of that comparison.
pub fn detect(
    settings: &DetectionSettings,
    periods: &Periods,
    season: &SeasonIndex,
    customer: &CustomerSums<'_>,
) -> Finding {
    let mut reasons = Vec::new();
    let Some((first_order, last_order)) = customer.ordered.filter(|_| customer.orders > 0) else {
        return Finding::NoCase(vec![NoCase::NeverBought]);
    };
    who_counts(settings, customer, &mut reasons);
    let sums = [customer.then, customer.now, customer.revenue];
    if sums.iter().any(|sum| sum.abs() > MOST_MONEY) {
        reasons.push(NoCase::TooMuch);
        return Finding::NoCase(reasons);
    }
    let known = known(periods, first_order);
    let known_days = known.map_or(0, days);
    if known_days < settings.least_known_days {
        reasons.push(NoCase::ShortlyKnown {
            days: known_days,
            least: settings.least_known_days,
        });
    }
    let then = cents(customer.then);
    let Some(known) = known.filter(|_| then > Decimal::ZERO) else {
        reasons.push(NoCase::NothingThen);
        return Finding::NoCase(reasons);
    };
    let weight = |range| match settings.comparison.season() {
        true => season.weight(range),
        false => days(range).into(),
    };
    let drop = Compared {
        then,
        now: cents(customer.now),
        weight_then: weight(known),
        weight_now: weight(periods.now),
        known_days: known_days.into(),
        days: days(periods.now).into(),
    };
    drop.judge(settings, &mut reasons);
    if reasons.is_empty() {
        Finding::Case(drop.decline(known_days, last_order))
    } else {
        Finding::NoCase(reasons)
    }
}

fn who_counts(
    settings: &DetectionSettings,
    customer: &CustomerSums<'_>,
    reasons: &mut Vec<NoCase>,
) {
    let is_in = |groups: &[String]| groups.iter().any(|group| group == customer.group);
    let counts = settings.groups.is_empty() || is_in(&settings.groups);
    if !counts || is_in(&settings.excluded_groups) {
        reasons.push(NoCase::Group(customer.group.to_owned()));
    }
    if let Some(name) = customer.excluded {
        reasons.push(NoCase::Excluded(name.to_owned()));
    }
    if customer.orders < settings.least_orders {
        reasons.push(NoCase::FewOrders {
            orders: customer.orders,
            least: settings.least_orders,
        });
    }
    if cents(customer.revenue) < settings.least_revenue {
        reasons.push(NoCase::LittleRevenue {
            revenue: cents(customer.revenue),
            least: settings.least_revenue,
        });
    }
}

/// The days of the earlier period on which somebody was a customer.
fn known(periods: &Periods, first_order: NaiveDate) -> Option<DateRange> {
    let first = periods.then.first().max(first_order);
    DateRange::new(first, Some(periods.then.last())).ok()
}

fn days(range: DateRange) -> u32 {
    let days = (range.last() - range.first()).num_days() + 1;
    u32::try_from(days).expect("a range is at most 300 years long")
}

fn cents(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

/// The numbers of the comparison. With at most 10^13 in money of two decimals, weights of at most
/// 3,660 with four and 366 days, no product has more than 27 digits: a decimal holds 28.
struct Compared {
    then: Decimal,
    now: Decimal,
    weight_then: Decimal,
    weight_now: Decimal,
    known_days: Decimal,
    days: Decimal,
}

impl Compared {
    /// Expected less actual, in percent of expected and times `expected_scaled`.
    fn missing(&self) -> Decimal {
        self.expected_scaled() - self.now * self.weight_then
    }

    /// Expected times `weight_then · days / known_days`, which are above zero.
    fn expected_scaled(&self) -> Decimal {
        self.then * self.weight_now
    }

    fn judge(&self, settings: &DetectionSettings, reasons: &mut Vec<NoCase>) {
        let percent = settings.least_drop_percent;
        if self.missing() * Decimal::ONE_HUNDRED < self.expected_scaled() * percent {
            reasons.push(NoCase::SmallPercent {
                percent: self.percent(),
                least: percent,
            });
        }
        let least = settings.least_drop * self.weight_then * self.days;
        if self.missing() * self.known_days < least {
            reasons.push(NoCase::SmallDrop {
                drop: self.drop(),
                least: settings.least_drop,
            });
        }
    }

    fn percent(&self) -> Decimal {
        cents(self.missing() * Decimal::ONE_HUNDRED / self.expected_scaled())
    }

    fn drop(&self) -> Decimal {
        cents(self.missing() * self.known_days / (self.weight_then * self.days))
    }

    fn decline(&self, known_days: u32, last_order: NaiveDate) -> Decline {
        let season = self.weight_now * self.known_days / (self.weight_then * self.days);
        Decline {
            then: self.then,
            now: self.now,
            known_days,
            season: season.round_dp(4),
            expected: cents(self.then * season),
            actual: cents(self.now * self.known_days / self.days),
            drop: self.drop(),
            drop_percent: self.percent(),
            last_order,
        }
    }
}

/// Product groups that a customer bought in the earlier period and does not buy any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostGroups {
    /// Groups with revenue above zero in the earlier period.
    pub had: u32,
    /// Those of them without revenue above zero in the later one, the greatest loss first, with what they
    /// brought in the earlier period.
    pub lost: Vec<(String, Decimal)>,
}

impl LostGroups {
    /// The groups that are gone, from revenue by product group; lines without a group have the empty name.
    pub fn of(then: &BTreeMap<String, Decimal>, now: &BTreeMap<String, Decimal>) -> LostGroups {
        let positive = |amount: &Decimal| *amount > Decimal::ZERO;
        let had: Vec<_> = then.iter().filter(|(_, amount)| positive(amount)).collect();
        let mut lost: Vec<(String, Decimal)> = had
            .iter()
            .filter(|(group, _)| !now.get(*group).is_some_and(positive))
            .map(|(group, amount)| ((*group).clone(), **amount))
            .collect();
        lost.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        LostGroups {
            had: u32::try_from(had.len()).unwrap_or(u32::MAX),
            lost,
        }
    }

    /// The share of groups lost, 0 to 1; 0 when there were none.
    pub fn share(&self) -> f64 {
        self.lost.len() as f64 / f64::from(self.had.max(1))
    }
}
