//! Gamma-Gamma: what will an order be worth?
//!
//! Source: P. S. Fader, B. G. S. Hardie, The Gamma-Gamma Model of Monetary Value (2013),
//! brucehardie.com/notes/025; the model is of Fader, Hardie & Lee, RFM and CLV (2005).
//!
//! The story: the values of a customer's orders are Gamma(p, ν) distributed, and ν is
//! Gamma(q, γ) over customers. What an order is worth has nothing to do with how often somebody buys:
//! where it has, the value at stake of frequent buyers is off.
//!
//! The data is, for each customer who bought again, the mean value z̄ of x repeat purchases (those of
//! [`Purchases`](super::Purchases): orders of one day are one). The log-likelihood of a customer:
//!
//! ```text
//! lnΓ(px+q) − lnΓ(px) − lnΓ(q) + q ln γ + (px−1) ln z̄ + px ln x − (px+q) ln(γ+xz̄)
//! ```

use statrs::function::gamma::{digamma, ln_gamma};

use super::bgnbd::FitError;
use super::optimise::{FitStatistics, Parameter, maximise};

/// Bounds of p; those of γ are times the mean order value.
const LOW: f64 = 1e-4;
const HIGH: f64 = 1e4;
/// Least q: below 1 the mean of all customers is infinite.
const LOWEST_Q: f64 = 1.01;

/// A Gamma-Gamma model, in the unit of money that it was fitted in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaGamma {
    p: f64,
    q: f64,
    gamma: f64,
}

/// The repeat purchases of some customers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spending {
    /// On how many days they bought again, above 0.
    pub repeats: u32,
    /// What such a day's orders came to in the mean, above zero.
    pub mean: f64,
    /// How many customers have both numbers.
    pub customers: u64,
}

impl GammaGamma {
    /// A model with known parameters, e.g. from storage. `None` unless all are finite, `p` and `gamma`
    /// above zero, and `q` above one, without which there is no mean.
    pub fn new(p: f64, q: f64, gamma: f64) -> Option<GammaGamma> {
        let finite = [p, q, gamma].into_iter().all(f64::is_finite);
        (finite && p > 0.0 && q > 1.0 && gamma > 0.0).then_some(GammaGamma { p, q, gamma })
    }

    /// Fits the model. Customers who did not buy again are no data and left out; so must be those whose
    /// repeat purchases came to nothing or less, by the caller, who may count them.
    ///
    /// # Errors
    /// Nobody who bought again, a mean that is no number above zero, or no convergence, e.g.
    /// when all orders are worth the same. A parameter that the data does not determine is no error
    /// but in [`FitStatistics::at_bounds`].
    pub fn fit(spending: &[Spending]) -> Result<(GammaGamma, FitStatistics), FitError> {
        let again = |one: &&Spending| one.customers > 0 && one.repeats > 0;
        let spending: Vec<Spending> = spending.iter().filter(again).copied().collect();
        if let Some(bad) = spending.iter().find(|one| !one.is_sound()) {
            return Err(FitError::Value(bad.mean));
        }
        let customers: u64 = spending.iter().map(|one| one.customers).sum();
        if customers == 0 {
            return Err(FitError::Nobody);
        }
        let value = |one: &Spending| one.mean * one.customers as f64 / customers as f64;
        let mean: f64 = spending.iter().map(value).sum();
        let data = Data::new(&spending);
        let parameter = |name, low, scale: f64, starts: [f64; 3]| Parameter {
            name,
            low: low * scale,
            high: HIGH * scale,
            starts: starts.map(|start| start * scale),
        };
        let parameters = [
            parameter("p", LOW, 1.0, [2.0, 0.5, 20.0]),
            parameter("q", LOWEST_Q, 1.0, [3.0, 1.5, 20.0]),
            parameter("gamma", LOW, mean, [1.0, 0.2, 5.0]),
        ];
        let likelihood = |values: &[f64; 3]| data.likelihood(values);
        let ([p, q, gamma], statistics) =
            maximise(&parameters, customers, &likelihood).map_err(|error| {
                FitError::NotConverged {
                    gradient_norm: error.gradient_norm,
                    iterations: error.iterations,
                }
            })?;
        Ok((GammaGamma { p, q, gamma }, statistics))
    }

    /// Shape of the values of one customer's orders.
    pub fn p(&self) -> f64 {
        self.p
    }

    /// Shape of how customers differ.
    pub fn q(&self) -> f64 {
        self.q
    }

    /// Scale of how customers differ, in money.
    pub fn gamma(&self) -> f64 {
        self.gamma
    }

    /// What an order is worth in the mean of all customers.
    pub fn mean(&self) -> f64 {
        self.order_value(0, 0.0)
    }

    /// What the next order of a customer is worth, above zero: between the mean of all customers and
    /// `mean`, that of their own `repeats` repeat purchases, and nearer to it the more they are.
    /// Without repeats, and for a mean that is no number above zero, it is the mean of all.
    pub fn order_value(&self, repeats: u32, mean: f64) -> f64 {
        let sound = repeats > 0 && mean.is_finite() && mean > 0.0;
        let (x, total) = if sound {
            (f64::from(repeats), f64::from(repeats) * mean)
        } else {
            (0.0, 0.0)
        };
        self.p * (self.gamma + total) / (self.p * x + self.q - 1.0)
    }
}

impl Spending {
    fn is_sound(&self) -> bool {
        self.mean.is_finite() && self.mean > 0.0
    }
}

/// The customers in the order of their repeats, so that the Gamma functions, which depend on these
/// alone, are computed once for all with as many.
struct Data {
    spending: Vec<Spending>,
    ln_means: Vec<f64>,
}

impl Data {
    fn new(spending: &[Spending]) -> Data {
        let mut spending = spending.to_vec();
        spending.sort_by(|a, b| a.repeats.cmp(&b.repeats).then(a.mean.total_cmp(&b.mean)));
        let ln_means = spending.iter().map(|one| one.mean.ln()).collect();
        Data { spending, ln_means }
    }

    /// The log-likelihood and its derivatives by p, q and γ.
    fn likelihood(&self, &[p, q, gamma]: &[f64; 3]) -> (f64, [f64; 3]) {
        let (ln_gamma_q, digamma_q, ln_scale) = (ln_gamma(q), digamma(q), gamma.ln());
        let (mut sum, mut slopes) = (0.0, [0.0; 3]);
        let mut done = 0;
        while let Some(first) = self.spending.get(done) {
            let repeats = first.repeats;
            let count = self.spending[done..].partition_point(|one| one.repeats == repeats);
            let x = f64::from(repeats);
            let (px, all) = (p * x, p * x + q);
            let constant = ln_gamma(all) - ln_gamma(px) - ln_gamma_q + q * ln_scale + px * x.ln();
            let digamma_all = digamma(all);
            let by_p = digamma_all - digamma(px) + x.ln();
            let by_q = digamma_all - digamma_q + ln_scale;
            for i in done..done + count {
                let (one, ln_mean) = (self.spending[i], self.ln_means[i]);
                let customers = one.customers as f64;
                let total = gamma + x * one.mean;
                let ln_total = total.ln();
                sum += customers * (constant + (px - 1.0) * ln_mean - all * ln_total);
                slopes[0] += customers * x * (by_p + ln_mean - ln_total);
                slopes[1] += customers * (by_q - ln_total);
                slopes[2] += customers * (q / gamma - all / total);
            }
            done += count;
        }
        (sum, slopes)
    }
}
