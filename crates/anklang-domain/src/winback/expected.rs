//! Purchases to expect of somebody who is alive under BG/NBD, for all inputs.
//!
//! A customer whose rate is Gamma(m, β) and whose probability to leave after a purchase is Beta(a, c)
//! makes in t weeks, if they never left, N purchases: negative binomial with w = t/(β+t). The
//! (j+1)th of them happens if N > j and the customer stayed j times, so that
//!
//! ```text
//! E = Σ_{j≥0} P(N > j) · (c)ⱼ/(a+c)ⱼ
//!   = (a+c−1)/(a−1) · [1 − (1−w)ᵐ ₂F₁(m, c; a+c−1; w)]        (Fader, Hardie & Lee 2005)
//! ```
//!
//! The second line is the usual one. It is 0/0 at a = 1, the difference of two numbers that are nearly
//! the same around it, and its series needs ever more terms as w comes near 1, i.e. for long spans
//! and new customers. The sum above has none but positive terms and no such place; where it would be
//! long, the same expectation is integrated over the probability to leave, after a change of variables
//! (logit, then sinh) for which the trapezoidal rule converges exponentially (Trefethen & Weideman, SIAM
//! Review 56, 2014) whatever the shape of the Beta distribution. Tests hold them to eight digits against each other.

/// Beyond these the sum is long: it has about m·w/(1−w) terms and a tail of ln(1e-16)/ln(w).
const LONGEST_W: f64 = 0.9;
/// Beyond this the first probability comes near the least number there is.
const LONGEST_EXPONENT: f64 = 300.0;

/// Purchases to expect in `weeks` of a customer with the rate Gamma(`rate.0`, `rate.1`) and the
/// probability to leave Beta(`leave.0`, `leave.1`).
pub(super) fn purchases(rate: (f64, f64), leave: (f64, f64), weeks: f64) -> f64 {
    if weeks <= 0.0 {
        return 0.0;
    }
    let w = weeks / (rate.1 + weeks);
    let exponent = -rate.0 * (-w).ln_1p();
    if w <= LONGEST_W && exponent <= LONGEST_EXPONENT {
        by_sum(rate.0, w, leave)
    } else {
        by_integral(rate.0, weeks / rate.1, leave)
    }
}

/// The sum of the module's documentation.
fn by_sum(m: f64, w: f64, (a, c): (f64, f64)) -> f64 {
    let ln_none = m * (-w).ln_1p();
    let mut exactly = ln_none.exp();
    let mut more = -ln_none.exp_m1();
    let mut stayed = 1.0;
    let mut sum = 0.0;
    let mut j = 0.0;
    while more > 0.0 {
        let term = more * stayed;
        sum += term;
        // Once they fall, terms fall at least this fast: what is left is less than a geometric series.
        let ratio = w.max(w * (m + j) / (j + 1.0));
        if ratio < 1.0 && term * ratio <= sum * (1.0 - ratio) * 1e-14 {
            break;
        }
        stayed *= (c + j) / (a + c + j);
        exactly *= w * (m + j) / (j + 1.0);
        more -= exactly;
        j += 1.0;
    }
    sum
}

/// Finest step of the integral, as a power of two.
const FINEST: u32 = 12;

/// The expectation of (1 − (1+pz)^−m)/p over p, with z = t/β.
fn by_integral(m: f64, z: f64, leave: (f64, f64)) -> f64 {
    let integral = Integral::new(m, z, leave);
    let mut step = 0.5;
    let mut sums = integral.sums(step, 0.0);
    for _ in 0..FINEST {
        let before = sums.0 / sums.1;
        // Only the places between those of before.
        let between = integral.sums(step, step / 2.0);
        sums = (sums.0 + between.0, sums.1 + between.1);
        step /= 2.0;
        if (sums.0 / sums.1 - before).abs() <= before.abs() * 1e-11 {
            break;
        }
    }
    sums.0 / sums.1
}

/// The integrand over s, where logit p = middle + width · sinh s: around the middle of the
/// distribution, in its own width, and with ends that fall off faster than any exponential.
struct Integral {
    m: f64,
    z: f64,
    a: f64,
    c: f64,
    middle: f64,
    width: f64,
    greatest: f64,
}

impl Integral {
    fn new(m: f64, z: f64, (a, c): (f64, f64)) -> Integral {
        let middle = (a / c).ln();
        let greatest = a * ln_logistic(middle) + c * ln_logistic(-middle);
        let width = ((a + c) / (a * c)).sqrt();
        Integral {
            m,
            z,
            a,
            c,
            middle,
            width,
            greatest,
        }
    }

    /// Sums of weight times function, and of weights, at `offset` and all multiples of `step` from
    /// there, until weights vanish.
    fn sums(&self, step: f64, offset: f64) -> (f64, f64) {
        let mut sums = (0.0, 0.0);
        for (first, step) in [(offset, step), (offset - step, -step)] {
            let mut s = first;
            loop {
                let (weight, function) = self.at(s);
                sums.0 += weight * function;
                sums.1 += weight;
                if weight < 1e-18 && s.abs() > 1.0 {
                    break;
                }
                s += step;
            }
        }
        sums
    }

    fn at(&self, s: f64) -> (f64, f64) {
        let y = self.middle + self.width * s.sinh();
        let (ln_p, ln_q) = (ln_logistic(y), ln_logistic(-y));
        let weight = (self.a * ln_p + self.c * ln_q - self.greatest).exp() * s.cosh();
        let p = ln_p.exp();
        let at_zero = self.m * self.z;
        let function = if p * self.z < 1e-300 {
            at_zero
        } else {
            -(-self.m * (p * self.z).ln_1p()).exp_m1() / p
        };
        (weight, function)
    }
}

/// ln of 1/(1+e^−y).
fn ln_logistic(y: f64) -> f64 {
    y.min(0.0) - (-y.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of the formula with ₂F₁ in 50 digits (mpmath 1.3): m, β, a, c, t, E.
    const KNOWN: &[[f64; 6]] = &[
        [0.243, 4.414, 0.793, 2.426, 39.0, 1.19672319332082],
        [
            2.243,
            43.271142857142856,
            0.793,
            4.426,
            39.0,
            1.68749401388714,
        ],
        [0.243, 4.414, 0.793, 2.426, 520.0, 4.97461786184966],
        [30.5, 42.414, 0.793, 32.4, 52.0, 26.8969699768715],
        [0.243, 0.01, 0.793, 2.426, 52.0, 19.4777740552873],
        [500.25, 60.0, 1.7, 502.0, 104.0, 362.128050520721],
        [2000.0, 10.0, 0.5, 3000.0, 520.0, 29830.1708761947],
        [5.0, 20.0, 1.0001, 4.0, 52.0, 5.84559854425986],
        [0.0005, 0.001, 0.002, 0.01, 800.0, 325.057298984245],
        [3.0, 4.0, 25.0, 900.0, 52.0, 22.1690966869939],
        [1.0, 0.0001, 5.0, 10000.0, 10.0, 2421.44568642813],
        [7.5, 12.0, 0.001, 3.0, 300.0, 186.856698973545],
    ];

    #[test]
    fn it_is_the_formula_of_the_paper() {
        for &[m, beta, a, c, weeks, expected] in KNOWN {
            let found = purchases((m, beta), (a, c), weeks);
            assert!(
                (found / expected - 1.0).abs() < 1e-9,
                "{m} {beta} {a} {c} {weeks}: {found} and not {expected}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        /// The two ways meet.
        #[test]
        fn sum_and_integral_agree(
            m in -4.0..2.0f64, z in -4.0..0.9f64, a in -3.0..3.0f64, c in -3.0..3.0f64,
        ) {
            let [m, z, a, c] = [m, z, a, c].map(|log| 10f64.powf(log));
            let w = z / (1.0 + z);
            let (sum, integral) = (by_sum(m, w, (a, c)), by_integral(m, z, (a, c)));
            prop_assert!((sum / integral - 1.0).abs() < 1e-8, "{} and {}", sum, integral);
        }

        /// Between none and what somebody who never leaves buys; more in more time.
        #[test]
        fn it_is_bounded_and_grows(
            m in -4.0..4.0f64, beta in -4.0..4.0f64, a in -4.0..4.0f64, c in -4.0..4.0f64,
            weeks in 0.0..1000.0f64,
        ) {
            let [m, beta, a, c] = [m, beta, a, c].map(|log| 10f64.powf(log));
            let found = purchases((m, beta), (a, c), weeks);
            prop_assert!(found.is_finite() && found >= 0.0);
            prop_assert!(found <= m / beta * weeks * (1.0 + 1e-9));
            let later = purchases((m, beta), (a, c), weeks + 1.0);
            prop_assert!(later >= found * (1.0 - 1e-9), "{} after {}", later, found);
        }
    }
}
