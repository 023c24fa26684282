//! What a tenant counts as drifting away.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Violations;
use crate::planning::DateRange;

/// The greatest amount of money in settings and sums: up to here the comparisons of
/// [`detect`](super::detect) are exact.
pub const MOST_MONEY: Decimal = Decimal::from_parts(1_316_134_912, 2_328, 0, false, 0); // 10^13

/// Days from a period to the same one of the year before: 52 whole weeks, so that both have the same
/// weekdays and the comparison moves with the date day by day; a calendar year would put two dates onto
/// one around the 29th of February.
pub const SEASON_DAYS: u32 = 364;

const MOST_GROUPS: usize = 1_000;
/// The most exclusions.
pub const MOST_EXCLUSIONS: usize = 50;
const MOST_GROUP_LENGTH: usize = 64;
const MOST_NAME_LENGTH: usize = 100;

/// Who counts as drifting away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectionSettings {
    /// Customer groups that count; empty: all.
    pub groups: Vec<String>,
    /// Customer groups that do not count.
    pub excluded_groups: Vec<String>,
    /// Orders that a customer must have had, ever; 1 to 10,000.
    pub least_orders: u32,
    /// Revenue that a customer must have brought, ever; 0 or more.
    pub least_revenue: Decimal,
    /// Who does not count, e.g. customers with an open complaint.
    pub exclusions: Vec<Exclusion>,
    /// What is compared.
    pub comparison: Comparison,
    /// The drop that matters, in percent of what was to be expected: above 0 to 100.
    pub least_drop_percent: Decimal,
    /// The drop that matters in money as well: 0 or more.
    pub least_drop: Decimal,
    /// On how many days of the earlier period somebody must have been a customer: 1 to the days of a
    /// period. Fewer than in the whole period are made up for; but of a few days says none anything
    /// about a period.
    pub least_known_days: u32,
}

/// Customers who do not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// Shown as the reason, e.g. `Offene Reklamation`; 1 to 100 characters, each once.
    pub name: String,
    /// The saved selection that finds them.
    pub selection: Uuid,
}

/// The two periods that are compared. The later one ends with the day of looking, included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Comparison {
    /// The last days with as many before them.
    Preceding {
        /// Days of a period, 7 to 366.
        days: u32,
        /// Whether the tenant's season is taken out.
        season: bool,
    },
    /// The last days with the same ones [`SEASON_DAYS`] earlier, which have the same season.
    YearBefore {
        /// Days of a period, 7 to 364.
        days: u32,
    },
}

/// The periods as of a day; both are equally long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// The earlier one.
    pub then: DateRange,
    /// The later one.
    pub now: DateRange,
}

impl Comparison {
    /// Days of a period.
    pub fn days(self) -> u32 {
        match self {
            Comparison::Preceding { days, .. } | Comparison::YearBefore { days } => days,
        }
    }

    /// Whether the season is taken out.
    pub fn season(self) -> bool {
        matches!(self, Comparison::Preceding { season: true, .. })
    }

    /// The periods as of a day.
    ///
    /// # Errors
    /// A day for which one of them does not lie within the years 1900 to 2199, or no days.
    pub fn periods(self, as_of: NaiveDate) -> Result<Periods, &'static str> {
        const FAR: &str = "must be a day whose periods lie in the years 1900 to 2199";
        let back = match self {
            Comparison::Preceding { days, .. } => days,
            Comparison::YearBefore { .. } => SEASON_DAYS,
        };
        let period = |last: NaiveDate| {
            let days = self.days().checked_sub(1).ok_or("must be days")?;
            let first = last.checked_sub_days(Days::new(days.into())).ok_or(FAR)?;
            DateRange::new(first, Some(last)).map_err(|_| FAR)
        };
        let before = as_of.checked_sub_days(Days::new(back.into()));
        Ok(Periods {
            then: period(before.ok_or(FAR)?)?,
            now: period(as_of)?,
        })
    }
}

impl DetectionSettings {
    /// What is wrong, all at once, by the names of the fields.
    pub fn violations(&self) -> Violations {
        let mut violations = Violations::new();
        self.check_groups(&mut violations);
        self.check_exclusions(&mut violations);
        if !(1..=10_000).contains(&self.least_orders) {
            violations.add("least_orders", "must be 1 to 10,000");
        }
        check_money("least_revenue", self.least_revenue, &mut violations);
        check_money("least_drop", self.least_drop, &mut violations);
        let percent = self.least_drop_percent;
        if percent <= Decimal::ZERO || percent > Decimal::ONE_HUNDRED || percent.scale() > 2 {
            let why = "must be above 0 and at most 100, with at most two decimals";
            violations.add("least_drop_percent", why);
        }
        let most = match self.comparison {
            Comparison::Preceding { .. } => 366,
            Comparison::YearBefore { .. } => SEASON_DAYS,
        };
        let days = self.comparison.days();
        if !(7..=most).contains(&days) {
            violations.add("comparison.days", format!("must be 7 to {most}"));
        }
        if !(1..=days.max(1)).contains(&self.least_known_days) {
            let why = format!("must be 1 to the days of a period, {days}");
            violations.add("least_known_days", why);
        }
        violations
    }

    fn check_groups(&self, violations: &mut Violations) {
        let mut seen = BTreeSet::new();
        let lists = [
            ("groups", &self.groups),
            ("excluded_groups", &self.excluded_groups),
        ];
        for (field, groups) in lists {
            if groups.len() > MOST_GROUPS {
                violations.add(field, format!("must be at most {MOST_GROUPS}"));
            }
            for (i, group) in groups.iter().take(MOST_GROUPS).enumerate() {
                let field = format!("{field}[{i}]");
                if group.is_empty() || group.chars().count() > MOST_GROUP_LENGTH {
                    let why = format!("must have 1 to {MOST_GROUP_LENGTH} characters");
                    violations.add(field, why);
                } else if !seen.insert(group) {
                    violations.add(field, "is there already");
                }
            }
        }
    }

    fn check_exclusions(&self, violations: &mut Violations) {
        if self.exclusions.len() > MOST_EXCLUSIONS {
            violations.add("exclusions", format!("must be at most {MOST_EXCLUSIONS}"));
        }
        let mut seen = BTreeSet::new();
        for (i, exclusion) in self.exclusions.iter().take(MOST_EXCLUSIONS).enumerate() {
            let field = format!("exclusions[{i}].name");
            let length = exclusion.name.chars().count();
            if exclusion.name.trim().is_empty() || length > MOST_NAME_LENGTH {
                violations.add(
                    field,
                    format!("must have 1 to {MOST_NAME_LENGTH} characters"),
                );
            } else if !seen.insert(&exclusion.name) {
                violations.add(field, "is there already");
            }
        }
    }
}

fn check_money(field: &str, amount: Decimal, violations: &mut Violations) {
    if amount < Decimal::ZERO || amount > MOST_MONEY || amount.scale() > 2 {
        let why = "must be 0 to 10,000,000,000,000 with at most two decimals";
        violations.add(field, why);
    }
}
