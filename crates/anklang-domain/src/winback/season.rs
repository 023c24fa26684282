//! The season of a tenant: how its weeks differ in revenue, all customers together.
//!
//! Classical decomposition (Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed.,
//! section 3.4) over calendar weeks:
//!
//! 1. Revenue of each ISO week, from the first to the last; a week without orders has 0, one with more
//!    returns than sales as well.
//! 2. Trend: the centred mean over a year, 53 weeks of which the first and last count half, so that
//!    each week of the year has the same weight. It does not reach into the first and last
//!    26 weeks.
//! 3. Ratio of week to trend, then the median of the ratios of each ISO week number over the years: one
//!    odd year is not a season. Week 53 comes about every sixth year, too rarely for a median of
//!    its own: its ratios are not looked at, and it is the mean of weeks 52 and 1. A week that
//!    has no ratio, as its trend is 0, is 1.
//! 4. Smoothing over neighbours, ¼ ½ ¼ and around the turn of the year: Easter and the like move
//!    between weeks.
//! 5. Scaled to a mean of 1 over weeks 1 to 52, kept between 0.1 and 10, four decimals.
//!
//! All in decimals: the same on every machine, and to be recomputed in SQL.

use std::collections::BTreeMap;

use chrono::{Datelike, Days, NaiveDate, Weekday};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::planning::DateRange;

/// Weeks that a season needs: with fewer, some week of the year would have no trend.
pub const LEAST_WEEKS: usize = 104;

const HALF_YEAR: usize = 26;
const WEEKS: usize = 52;
/// Decimals of an index.
const DIGITS: u32 = 4;

/// For each ISO week how its days' revenue stands to that of a mean week, 0.1 to 10.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Decimal>", into = "Vec<Decimal>")]
pub struct SeasonIndex {
    /// Of weeks 1 to 53.
    weeks: Vec<Decimal>,
}

/// Why there is no season.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SeasonError {
    /// Too few weeks to tell season from trend.
    #[error("a season needs the revenue of {LEAST_WEEKS} weeks, and there are {0}")]
    TooShort(usize),
    /// Nothing was sold, or so rarely that most weeks have none.
    #[error("no week has revenue in most years")]
    NoRevenue,
}

impl SeasonIndex {
    /// No season: every week is 1.
    pub fn flat() -> SeasonIndex {
        SeasonIndex {
            weeks: vec![Decimal::ONE; WEEKS + 1],
        }
    }

    /// The season of a tenant from its revenue by week; the key is any day of the week. Give whole
    /// weeks only: one that has just begun looks like a slump. Weeks missing in between had no
    /// revenue.
    ///
    /// # Errors
    /// Fewer than [`LEAST_WEEKS`] weeks from the first to the last, or no revenue.
    pub fn of_revenue(
        revenue: impl IntoIterator<Item = (NaiveDate, Decimal)>,
    ) -> Result<SeasonIndex, SeasonError> {
        let series = series(revenue);
        if series.len() < LEAST_WEEKS {
            return Err(SeasonError::TooShort(series.len()));
        }
        let mut ratios = vec![Vec::new(); WEEKS];
        for (i, (monday, revenue)) in series.iter().enumerate() {
            let week = monday.iso_week().week0() as usize;
            let Some(trend) = trend(&series, i).filter(|trend| *trend > Decimal::ZERO) else {
                continue;
            };
            if let Some(ratios) = ratios.get_mut(week) {
                ratios.push(revenue / trend);
            }
        }
        if ratios.iter().all(Vec::is_empty) {
            return Err(SeasonError::NoRevenue);
        }
        let rough: Vec<Decimal> = ratios.into_iter().map(median).collect();
        if rough.iter().all(Decimal::is_zero) {
            return Err(SeasonError::NoRevenue);
        }
        Ok(Self::scaled(&smooth(&rough)))
    }

    fn scaled(weeks: &[Decimal]) -> SeasonIndex {
        let sum: Decimal = weeks.iter().sum();
        let (low, high) = (Decimal::new(1, 1), Decimal::TEN);
        let scaled = |index: &Decimal| {
            let scaled = index * Decimal::from(WEEKS) / sum;
            scaled.clamp(low, high).round_dp(DIGITS)
        };
        let mut weeks: Vec<Decimal> = weeks.iter().map(scaled).collect();
        weeks.push(((weeks[WEEKS - 1] + weeks[0]) / Decimal::TWO).round_dp(DIGITS));
        SeasonIndex { weeks }
    }

    /// The index of the week that a day is in.
    pub fn of_day(&self, day: NaiveDate) -> Decimal {
        self.weeks[day.iso_week().week0() as usize]
    }

    /// The indices of the days of a range, summed: the number of days when there is no season.
    pub fn weight(&self, range: DateRange) -> Decimal {
        let days = range.first().iter_days();
        days.take_while(|day| *day <= range.last())
            .map(|day| self.of_day(day))
            .sum()
    }
}

impl TryFrom<Vec<Decimal>> for SeasonIndex {
    type Error = &'static str;

    fn try_from(weeks: Vec<Decimal>) -> Result<Self, Self::Error> {
        let range = Decimal::new(1, 1)..=Decimal::TEN;
        let sound = |index: &Decimal| range.contains(index) && index.scale() <= DIGITS;
        if weeks.len() == WEEKS + 1 && weeks.iter().all(sound) {
            Ok(SeasonIndex { weeks })
        } else {
            Err("must be 53 indices of 0.1 to 10 with at most four decimals")
        }
    }
}

impl From<SeasonIndex> for Vec<Decimal> {
    fn from(index: SeasonIndex) -> Self {
        index.weeks
    }
}

/// All weeks from the first to the last with their revenue, by their Mondays.
fn series(revenue: impl IntoIterator<Item = (NaiveDate, Decimal)>) -> Vec<(NaiveDate, Decimal)> {
    let mut known: BTreeMap<NaiveDate, Decimal> = BTreeMap::new();
    for (day, amount) in revenue {
        let monday = day.week(Weekday::Mon).first_day();
        *known.entry(monday).or_default() += amount;
    }
    let (Some(first), Some(last)) = (known.keys().next(), known.keys().next_back()) else {
        return Vec::new();
    };
    let next = |monday: &NaiveDate| monday.checked_add_days(Days::new(7));
    std::iter::successors(Some(*first), next)
        .take_while(|monday| monday <= last)
        .map(|monday| {
            let amount = known.get(&monday).copied().unwrap_or_default();
            (monday, amount.max(Decimal::ZERO))
        })
        .collect()
}

/// The mean week of the year around a week.
fn trend(series: &[(NaiveDate, Decimal)], week: usize) -> Option<Decimal> {
    let first = week.checked_sub(HALF_YEAR)?;
    let year = series.get(first..=week + HALF_YEAR)?;
    let inner: Decimal = year[1..WEEKS].iter().map(|week| week.1).sum();
    let ends = (year[0].1 + year[WEEKS].1) / Decimal::TWO;
    Some((inner + ends) / Decimal::from(WEEKS))
}

fn median(mut ratios: Vec<Decimal>) -> Decimal {
    ratios.sort_unstable();
    match ratios.len() {
        0 => Decimal::ONE,
        n if n % 2 == 1 => ratios[n / 2],
        n => (ratios[n / 2 - 1] + ratios[n / 2]) / Decimal::TWO,
    }
}

fn smooth(rough: &[Decimal]) -> Vec<Decimal> {
    let n = rough.len();
    let around = |i: usize| {
        let sides = rough[(i + n - 1) % n] + rough[(i + 1) % n];
        (rough[i] * Decimal::TWO + sides) / Decimal::from(4)
    };
    (0..n).map(around).collect()
}
