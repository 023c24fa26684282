//! What the models need to know of a customer's orders.

use std::collections::BTreeMap;

use chrono::NaiveDate;

/// A customer's purchases up to a day, as the BG/NBD model sees them: how often, how lately, for how
/// long. Orders of one day are one purchase, days are whole, and the models' time is in weeks of
/// seven days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Purchases {
    repeats: u32,
    last: u32,
    age: u32,
}

/// The longest history, in days: 200 years.
const MOST_DAYS: u32 = 73_050;

impl Purchases {
    /// Purchases from their numbers: `repeats` is on how many days the customer bought after the day
    /// of the first purchase (x in the literature), `last` the days from the first to the last of
    /// them (t_x), `age` the days from the first purchase to the day of looking (T).
    ///
    /// # Errors
    /// What is wrong, for people: repeats without time for them, a last purchase in the future, more
    /// repeats than days, more than 200 years.
    pub fn new(repeats: u32, last: u32, age: u32) -> Result<Purchases, &'static str> {
        if age > MOST_DAYS {
            return Err("must be a history of at most 200 years");
        }
        if last > age {
            return Err("must have the last purchase before the day of looking");
        }
        if (repeats == 0) != (last == 0) {
            return Err("must have a last purchase after the first exactly when there are repeats");
        }
        if repeats > last {
            return Err("must have at most one purchase a day");
        }
        Ok(Purchases { repeats, last, age })
    }

    /// The purchases of the days on which a customer ordered, in any order, as of the end of a day;
    /// later ones are not looked at. `None` when there are none, or they lie further apart than 200
    /// years.
    pub fn of(days: impl IntoIterator<Item = NaiveDate>, as_of: NaiveDate) -> Option<Purchases> {
        let mut days: Vec<NaiveDate> = days.into_iter().filter(|day| *day <= as_of).collect();
        days.sort_unstable();
        days.dedup();
        let (first, last) = (*days.first()?, *days.last()?);
        let since_first = |day: NaiveDate| u32::try_from((day - first).num_days()).ok();
        let repeats = u32::try_from(days.len() - 1).ok()?;
        Purchases::new(repeats, since_first(last)?, since_first(as_of)?).ok()
    }

    /// Days with a purchase after the first (x).
    pub fn repeats(self) -> u32 {
        self.repeats
    }

    /// Weeks from the first to the last purchase (t_x).
    pub fn last_week(self) -> f64 {
        f64::from(self.last) / 7.0
    }

    /// Weeks from the first purchase to the day of looking (T).
    pub fn age_weeks(self) -> f64 {
        f64::from(self.age) / 7.0
    }
}

/// Customers whose purchases are the same, which the likelihood does not tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurchaseGroup {
    /// Their purchases.
    pub purchases: Purchases,
    /// How many they are.
    pub customers: u64,
}

/// Puts customers with the same purchases together; those who bought once are as many groups as there
/// are days.
pub fn group_purchases(purchases: impl IntoIterator<Item = Purchases>) -> Vec<PurchaseGroup> {
    let mut groups = BTreeMap::new();
    for purchases in purchases {
        *groups.entry(purchases).or_insert(0) += 1;
    }
    let group = |(purchases, customers)| PurchaseGroup {
        purchases,
        customers,
    };
    groups.into_iter().map(group).collect()
}
