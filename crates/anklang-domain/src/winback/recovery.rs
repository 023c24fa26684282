//! What winback brought: revenue recovered, against a control group.
//!
//! # Two numbers
//! The **naive** number is the revenue of those who bought after they were contacted. It is what
//! was sold, but not what winback brought: some of them would have bought anyway. It is never below zero
//! when nothing came back, grows with everyone who is contacted, and says nothing about the contact.
//!
//! The **recovered** revenue is the difference that the contact made:
//!
//! ```text
//! recovered = n · (m̄ − c̄)     n contacted customers with revenue m̄ each in the mean,
//!                              c̄ the mean of those in the control group
//! ```
//!
//! over **all** customers who were to be contacted (also those who bought nothing, and those whom the
//! mail did not reach: leaving them out would compare different people), in the same window for both.
//! Who could not have been contacted is in neither group: that is known before lots are drawn.
//! As lots decided who was contacted ([`ControlGroup`](super::ControlGroup)), the groups differ by nothing
//! but the contact and chance.
//!
//! Chance is what the interval is for: n · (m̄ − c̄ ± t · √(s²/n + s꜀²/n꜀)), with the quantile t of
//! Student's distribution at the degrees of freedom of Welch and Satterthwaite (B. L. Welch, The
//! generalization of "Student's" problem when several different population variances are involved,
//! Biometrika 34, 1947; F. E. Satterthwaite, An approximate distribution of estimates of variance
//! components, Biometrics Bulletin 2, 1946). The groups may differ in size and spread. It needs sums
//! alone, no row of a customer, and is the same each time, unlike a bootstrap. Revenues are skewed: with
//! fewer than about a hundred customers in the smaller group the interval is too narrow on the side of
//! the rare great order.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Below so many customers in a group the interval is to be taken with care.
pub const FEW_CUSTOMERS: u64 = 100;

/// The revenues of a group's customers in the window; who bought nothing counts with 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RevenueGroup {
    /// Customers.
    pub customers: u64,
    /// Their mean revenue.
    pub mean: f64,
    /// The variance of a sample of it (SQL's `var_samp`), 0 or more.
    pub variance: f64,
}

impl RevenueGroup {
    /// The group of these revenues.
    pub fn of(revenues: impl IntoIterator<Item = f64>) -> RevenueGroup {
        // Welford's way, which does not subtract great sums.
        let (mut customers, mut mean, mut squares) = (0u64, 0.0, 0.0);
        for revenue in revenues {
            customers += 1;
            let off = revenue - mean;
            mean += off / customers as f64;
            squares += off * (revenue - mean);
        }
        let variance = match customers {
            0 | 1 => 0.0,
            n => squares / (n - 1) as f64,
        };
        RevenueGroup {
            customers,
            mean,
            variance,
        }
    }

    fn is_sound(&self) -> bool {
        self.mean.is_finite() && self.variance.is_finite() && self.variance >= 0.0
    }

    /// Variance of the mean.
    fn of_mean(&self) -> f64 {
        self.variance / self.customers as f64
    }
}

/// What winback brought, in money.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recovered {
    /// Revenue of the contacted customers, whatever the reason.
    pub naive: f64,
    /// What the contact brought, as far as chance lets see; below zero: the others bought more.
    pub recovered: f64,
    /// The interval in which what it brought lies with the confidence asked for.
    pub interval: (f64, f64),
    /// Confidence, above 0.5 and below 1.
    pub confidence: f64,
    /// Degrees of freedom of Welch and Satterthwaite.
    pub degrees: f64,
    /// Contacted customers.
    pub contacted: u64,
    /// Customers in the control group.
    pub control: u64,
}

/// Why there is no such number.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoRecovered {
    /// A group is too small to have a spread.
    #[error(
        "both groups need two customers: {contacted} to be contacted, {control} in the control group"
    )]
    TooFew {
        /// Contacted customers.
        contacted: u64,
        /// Customers in the control group.
        control: u64,
    },
    /// Nobody's revenue differs from another's, mostly as nobody has bought yet: chance has no measure.
    #[error("all revenues of each group are the same: nothing measures chance")]
    NoSpread,
    /// A mean or variance is no number, or the confidence is not between 0.5 and 1.
    #[error("the means, variances or the confidence are out of range")]
    Unsound,
}

/// Compares contacted customers with the control group.
///
/// # Errors
/// Groups of fewer than two, without any spread, or numbers out of range.
pub fn recovered(
    contacted: &RevenueGroup,
    control: &RevenueGroup,
    confidence: f64,
) -> Result<Recovered, NoRecovered> {
    let in_range = confidence > 0.5 && confidence < 1.0;
    if !in_range || !contacted.is_sound() || !control.is_sound() {
        return Err(NoRecovered::Unsound);
    }
    if contacted.customers < 2 || control.customers < 2 {
        return Err(NoRecovered::TooFew {
            contacted: contacted.customers,
            control: control.customers,
        });
    }
    let (of_contacted, of_control) = (contacted.of_mean(), control.of_mean());
    let variance = of_contacted + of_control;
    if variance <= 0.0 {
        return Err(NoRecovered::NoSpread);
    }
    // Of shares, so that very small and very great variances do not leave the numbers.
    let part = |of_mean: f64, customers: u64| (of_mean / variance).powi(2) / (customers - 1) as f64;
    let degrees =
        1.0 / (part(of_contacted, contacted.customers) + part(of_control, control.customers));
    let student = StudentsT::new(0.0, 1.0, degrees).map_err(|_| NoRecovered::Unsound)?;
    let quantile = student.inverse_cdf(0.5 + confidence / 2.0);
    let n = contacted.customers as f64;
    let difference = contacted.mean - control.mean;
    let width = quantile * variance.sqrt();
    Ok(Recovered {
        naive: n * contacted.mean,
        recovered: n * difference,
        interval: (n * (difference - width), n * (difference + width)),
        confidence,
        degrees,
        contacted: contacted.customers,
        control: control.customers,
    })
}

impl Recovered {
    /// Whether the interval lies above zero: more than chance.
    pub fn is_proven(&self) -> bool {
        self.interval.0 > 0.0
    }

    /// Whether a group is so small that the interval is to be taken with care; see the module.
    pub fn is_small(&self) -> bool {
        self.contacted.min(self.control) < FEW_CUSTOMERS
    }
}

impl std::fmt::Display for Recovered {
    /// Both numbers and how they belong together, for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (low, high) = self.interval;
        write!(
            f,
            "{} customers who were to be contacted bought for {:.2}. Judging by {} customers of the same kind who \
             were left alone, they would have bought for {:.2} without it, so {:.2} of it is due to the \
             contact; with {:.0} % confidence between {low:.2} and {high:.2}.",
            self.contacted,
            self.naive,
            self.control,
            self.naive - self.recovered,
            self.recovered,
            self.confidence * 100.0,
        )?;
        if !self.is_proven() {
            f.write_str(" That may be chance.")?;
        }
        if self.is_small() {
            f.write_str(" The groups are small: one great order can change the picture.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use super::*;

    /// What the interval rests on, against scipy (1.17, `t.ppf`): good to
    /// four digits at least.
    #[test]
    fn quantiles_are_those_of_the_tables() {
        let cases = [
            (1.0, 0.975, 12.706204736174694),
            (2.0, 0.8, 1.0606601717798212),
            (4.0, 0.975, 2.7764451051977987),
            (8.258808449966097, 0.975, 2.293485987953306),
            (1e3, 0.995, 2.580754698065951),
            (2e6, 0.975, 1.9599651706763748),
        ];
        for (degrees, probability, expected) in cases {
            let student = StudentsT::new(0.0, 1.0, degrees).unwrap();
            let found = student.inverse_cdf(probability);
            assert!(
                (found - expected).abs() < 2e-5 * expected,
                "{degrees}: {found}"
            );
        }
    }
}
