//! What is at stake when a customer drifts away.
//!
//! # The formula
//! ```text
//! revenue at stake = (1 − P(alive)) · E[purchases in 52 weeks | alive] · E[value of a purchase]
//! ```
//!
//! P(alive) and the expected purchases are BG/NBD's (Fader, Hardie & Lee 2005), the value is
//! Gamma-Gamma's (Fader & Hardie 2013); that the two are multiplied rests on that model's
//! assumption that value and frequency have nothing to do with each other.
//!
//! With E\[purchases\] = P(alive) · E\[purchases | alive\] (the expectation as things stand), it is the
//! difference of two expectations: what a customer brings in a year **if still a customer**, less
//! what they bring **as things stand**. That is what is lost in the mean of all such customers when nothing
//! is done, and the most that winning them back for certain would add. The alternatives say
//! something else: the expected revenue itself is greatest for those who are in no danger; and the
//! revenue of the last year, or the drop against it, counts those in full who would have
//! stopped buying anyway. A customer may leave within the 52 weeks also after coming back; that is in the
//! expectation.
//!
//! It is near zero for those certainly alive, and for those certainly gone who bought little; for
//! customers with one purchase it is zero, as BG/NBD takes them for alive. It is revenue, not margin, and
//! not discounted.

use super::bgnbd::BgNbd;
use super::gamma_gamma::GammaGamma;
use super::purchases::Purchases;

/// Weeks of the next 12 months.
pub const YEAR_WEEKS: f64 = 52.0;

/// What the models say of a customer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Probability that the customer has not left, above 0 to 1.
    pub alive: f64,
    /// Purchases to expect in the next [`YEAR_WEEKS`] as things stand.
    pub purchases: f64,
    /// Purchases to expect in the next [`YEAR_WEEKS`] if the customer has not left; not less.
    pub purchases_if_alive: f64,
    /// What one is worth, in the money that the model was fitted in.
    pub order_value: f64,
    /// Revenue to expect in the next [`YEAR_WEEKS`] as things stand.
    pub revenue: f64,
    /// Revenue at stake in the next [`YEAR_WEEKS`], 0 or more; see the module.
    pub at_stake: f64,
}

/// What the models say of a customer with these purchases, whose repeat purchases came to
/// `mean_repeat` each in the mean (anything when there are none).
pub fn outlook(
    often: &BgNbd,
    value: &GammaGamma,
    purchases: Purchases,
    mean_repeat: f64,
) -> Outlook {
    let alive = often.alive(purchases);
    let purchases_if_alive = often.expected_if_alive(purchases, YEAR_WEEKS);
    let order_value = value.order_value(purchases.repeats(), mean_repeat);
    let expected = alive * purchases_if_alive;
    Outlook {
        alive,
        purchases: expected,
        purchases_if_alive,
        order_value,
        revenue: expected * order_value,
        at_stake: (1.0 - alive) * purchases_if_alive * order_value,
    }
}
