//! BG/NBD: does a customer still buy, and how often will they?
//!
//! Source: P. S. Fader, B. G. S. Hardie, K. L. Lee, "Counting Your Customers" the Easy Way: An
//! Alternative to the Pareto/NBD Model, Marketing Science 24 (2005) 275–284; for overflow: the note
//! "Overcoming the BG/NBD Model's #NUM! Error Problem" of Fader & Hardie (2013).
//!
//! The story: while alive, a customer buys at random with a rate of their own, Gamma(r, α)
//! distributed over customers, in weeks; after each repeat purchase they leave for good with a probability
//! of their own, Beta(a, b) distributed. Both are independent.
//!
//! # Numbers
//! With (r)ₓ = r (r+1) … (r+x−1), the likelihood of a customer is
//!
//! ```text
//! (r)ₓ αʳ (b)ₓ / (a+b)ₓ · [ (α+T)^−(r+x) + δ(x>0) · a / (b+x−1) · (α+tₓ)^−(r+x) ]
//! ```
//!
//! which is the paper's with its Gamma functions divided out. All is summed in logarithms: the
//! products are running sums over x, so nothing cancels, and the bracket is a log-sum of two. The
//! derivatives are written out. One step costs two logarithms and an exponential for each group of
//! equal customers.
//!
//! # Trade-offs
//! Nobody leaves before their first repeat purchase: who bought once counts as alive for ever. That is
//! the model's; the rule finds those customers. Seasons are not in it either.

use super::expected;
use super::optimise::{FitStatistics, Parameter, maximise};
use super::purchases::{PurchaseGroup, Purchases};

/// Least and greatest r, a and b; for α, times the customers' mean age.
const LOW: f64 = 1e-4;
const HIGH: f64 = 1e4;

/// A BG/NBD model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BgNbd {
    r: f64,
    alpha: f64,
    a: f64,
    b: f64,
}

/// Why there is no model of some customers.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum FitError {
    /// No customers with what the model needs.
    #[error("there is nobody to fit the model on")]
    Nobody,
    /// Nobody came again, so that nothing says how often, and when people leave.
    #[error("nobody has bought again: {customers} customers bought once")]
    NoRepeats {
        /// Customers.
        customers: u64,
    },
    /// A value that no model can have: not a number, or not above zero.
    #[error("the mean order value must be a number above zero, and is {0}")]
    Value(f64),
    /// No greatest likelihood was found.
    #[error("the fit did not converge: gradient {gradient_norm:.1e} after {iterations} iterations")]
    NotConverged {
        /// The least gradient of the searches, as in [`FitStatistics::gradient_norm`].
        gradient_norm: f64,
        /// Iterations of that search.
        iterations: u64,
    },
}

impl BgNbd {
    /// A model with known parameters, e.g. from storage: `r` and `alpha` (in weeks) of how often
    /// customers buy, `a` and `b` of how soon they leave. `None` unless all are finite and above zero.
    pub fn new(r: f64, alpha: f64, a: f64, b: f64) -> Option<BgNbd> {
        let sound = |value: f64| value.is_finite() && value > 0.0;
        [r, alpha, a, b]
            .into_iter()
            .all(sound)
            .then_some(BgNbd { r, alpha, a, b })
    }

    /// Fits the model: the parameters under which what happened is likeliest.
    ///
    /// # Errors
    /// Nobody, nobody who bought again, or no convergence. A parameter that the data does not determine
    /// (e.g. when nobody seems to leave) is no error but in [`FitStatistics::at_bounds`].
    pub fn fit(groups: &[PurchaseGroup]) -> Result<(BgNbd, FitStatistics), FitError> {
        let customers = groups.iter().map(|group| group.customers).sum();
        if customers == 0 {
            return Err(FitError::Nobody);
        }
        let again = |group: &PurchaseGroup| group.customers > 0 && group.purchases.repeats() > 0;
        if !groups.iter().any(again) {
            return Err(FitError::NoRepeats { customers });
        }
        let weeks = |group: &PurchaseGroup| group.purchases.age_weeks() * group.customers as f64;
        let mean_age = groups.iter().map(weeks).sum::<f64>() / customers as f64;
        let parameter = |name, scale: f64, starts: [f64; 3]| Parameter {
            name,
            low: LOW * scale,
            high: HIGH * scale,
            starts: starts.map(|start| start * scale),
        };
        let parameters = [
            parameter("r", 1.0, [1.0, 0.1, 10.0]),
            parameter("alpha", mean_age, [0.5, 0.1, 5.0]),
            parameter("a", 1.0, [1.0, 0.1, 0.5]),
            parameter("b", 1.0, [2.0, 1.0, 20.0]),
        ];
        let most = groups.iter().map(|group| group.purchases.repeats()).max();
        let most = most.unwrap_or_default();
        let likelihood = |values: &[f64; 4]| likelihood(values, most, groups);
        let ([r, alpha, a, b], statistics) = maximise(&parameters, customers, &likelihood)
            .map_err(|error| FitError::NotConverged {
                gradient_norm: error.gradient_norm,
                iterations: error.iterations,
            })?;
        Ok((BgNbd { r, alpha, a, b }, statistics))
    }

    /// Shape of how often customers buy.
    pub fn r(&self) -> f64 {
        self.r
    }

    /// Scale of how often customers buy, in weeks; r/α purchases a week are the mean.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// First shape of how soon customers leave; after a purchase a/(a+b) do.
    pub fn a(&self) -> f64 {
        self.a
    }

    /// Second shape of how soon customers leave.
    pub fn b(&self) -> f64 {
        self.b
    }

    /// Logarithm of the likelihood of the customers' purchases under this model.
    pub fn log_likelihood(&self, groups: &[PurchaseGroup]) -> f64 {
        let most = groups.iter().map(|group| group.purchases.repeats()).max();
        likelihood(
            &[self.r, self.alpha, self.a, self.b],
            most.unwrap_or_default(),
            groups,
        )
        .0
    }

    /// Probability that the customer has not left, above 0 to 1. Who bought once is alive in this
    /// model, whenever that was.
    pub fn alive(&self, purchases: Purchases) -> f64 {
        if purchases.repeats() == 0 {
            return 1.0;
        }
        let x = f64::from(purchases.repeats());
        let silent = purchases.age_weeks() - purchases.last_week();
        let longer = (silent / (self.alpha + purchases.last_week())).ln_1p();
        let odds = (self.a / (self.b + x - 1.0)).ln() + (self.r + x) * longer;
        // Not 0 for what is only too small for a number.
        (1.0 / (1.0 + odds.exp())).max(f64::MIN_POSITIVE)
    }

    /// Purchases to expect in the next `weeks` (0 or more) of a customer as things stand: of one who
    /// may have left already. The paper's equation 10.
    pub fn expected(&self, purchases: Purchases, weeks: f64) -> f64 {
        self.alive(purchases) * self.expected_if_alive(purchases, weeks)
    }

    /// Purchases to expect in the next `weeks` (0 or more) of a customer who is known not to have left
    /// yet, and may leave in that time.
    pub fn expected_if_alive(&self, purchases: Purchases, weeks: f64) -> f64 {
        let x = f64::from(purchases.repeats());
        let rate = (self.r + x, self.alpha + purchases.age_weeks());
        expected::purchases(rate, (self.a, self.b + x), weeks)
    }

    /// Repeat purchases to expect of somebody in the `weeks` (0 or more) after their first one. The
    /// paper's equation 9.
    pub fn expected_of_new(&self, weeks: f64) -> f64 {
        expected::purchases((self.r, self.alpha), (self.a, self.b), weeks)
    }
}

/// What depends on the number of repeats alone.
struct OfRepeats {
    /// ln of (r)ₓ (b)ₓ / (a+b)ₓ.
    product: f64,
    /// Its derivatives by r, a, b.
    slopes: [f64; 3],
}

/// For 0 to `most` repeats.
fn of_repeats(r: f64, a: f64, b: f64, most: u32) -> Vec<OfRepeats> {
    let mut table = Vec::with_capacity(most as usize + 1);
    let (mut product, mut slopes) = (0.0, [0.0; 3]);
    for k in 0..=most {
        table.push(OfRepeats { product, slopes });
        let k = f64::from(k);
        product += (r + k).ln() + (b + k).ln() - (a + b + k).ln();
        slopes[0] += 1.0 / (r + k);
        slopes[1] -= 1.0 / (a + b + k);
        slopes[2] += 1.0 / (b + k) - 1.0 / (a + b + k);
    }
    table
}

/// The log-likelihood and its derivatives by r, α, a and b.
fn likelihood(
    &[r, alpha, a, b]: &[f64; 4],
    most: u32,
    groups: &[PurchaseGroup],
) -> (f64, [f64; 4]) {
    let table = of_repeats(r, a, b, most);
    let ln_alpha = alpha.ln();
    let (mut sum, mut slopes) = (0.0, [0.0; 4]);
    for group in groups {
        let of_x = &table[group.purchases.repeats() as usize];
        let x = f64::from(group.purchases.repeats());
        let customers = group.customers as f64;
        let until_now = alpha + group.purchases.age_weeks();
        let ln_now = until_now.ln();
        let mut value = of_x.product + r * ln_alpha - (r + x) * ln_now;
        let mut by_r = of_x.slopes[0] + ln_alpha - ln_now;
        let mut by_alpha = r / alpha - (r + x) / until_now;
        let mut by_a = of_x.slopes[1];
        let mut by_b = of_x.slopes[2];
        if group.purchases.repeats() > 0 {
            let until_last = alpha + group.purchases.last_week();
            let longer = ln_now - until_last.ln();
            // How much likelier it is that they left after the last purchase than that they did not.
            let odds = (a / (b + x - 1.0)).ln() + (r + x) * longer;
            let left = 1.0 / (1.0 + (-odds).exp());
            value += odds.max(0.0) + (-odds.abs()).exp().ln_1p();
            by_r += left * longer;
            by_alpha += left * (r + x) * (1.0 / until_now - 1.0 / until_last);
            by_a += left / a;
            by_b -= left / (b + x - 1.0);
        }
        sum += customers * value;
        for (slope, of_group) in slopes.iter_mut().zip([by_r, by_alpha, by_a, by_b]) {
            *slope += customers * of_group;
        }
    }
    (sum, slopes)
}
