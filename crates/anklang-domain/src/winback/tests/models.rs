//! The models where there is no literature to compare with: bounds, odd data, much data.

use proptest::prelude::*;

use super::chance;
use crate::winback::*;

fn paper() -> BgNbd {
    BgNbd::new(0.243, 4.414, 0.793, 2.426).unwrap()
}

fn group(repeats: u32, last: u32, age: u32, customers: u64) -> PurchaseGroup {
    PurchaseGroup {
        purchases: Purchases::new(repeats, last, age).unwrap(),
        customers,
    }
}

#[test]
fn orders_of_a_day_are_one_purchase_and_later_ones_are_not_seen() {
    let day = |text: &str| text.parse::<chrono::NaiveDate>().unwrap();
    let days = ["2026-03-08", "2026-03-01", "2026-03-08", "2026-04-01"].map(day);
    let seen = Purchases::of(days, day("2026-03-22")).unwrap();
    assert_eq!(seen, Purchases::new(1, 7, 21).unwrap());
    assert_eq!((seen.last_week(), seen.age_weeks()), (1.0, 3.0));
    assert_eq!(Purchases::of(days, day("2026-02-28")), None);
    assert_eq!(
        Purchases::of(days, day("2026-03-01")),
        Purchases::new(0, 0, 0).ok()
    );
    for (repeats, last, age) in [(0, 3, 9), (2, 0, 9), (1, 10, 9), (5, 4, 9), (1, 1, 80_000)] {
        assert!(Purchases::new(repeats, last, age).is_err());
    }
}

#[test]
fn what_cannot_be_fitted_says_why() {
    assert_eq!(BgNbd::fit(&[]), Err(FitError::Nobody));
    assert_eq!(BgNbd::fit(&[group(1, 7, 70, 0)]), Err(FitError::Nobody));
    assert_eq!(
        BgNbd::fit(&[group(0, 0, 70, 5), group(0, 0, 0, 2)]),
        Err(FitError::NoRepeats { customers: 7 })
    );
    let once = |repeats, mean| Spending {
        repeats,
        mean,
        customers: 1,
    };
    assert_eq!(GammaGamma::fit(&[]), Err(FitError::Nobody));
    assert_eq!(GammaGamma::fit(&[once(0, 5.0)]), Err(FitError::Nobody));
    assert_eq!(
        GammaGamma::fit(&[once(1, 5.0), once(1, -3.0)]),
        Err(FitError::Value(-3.0))
    );
    assert!(matches!(
        GammaGamma::fit(&[once(1, f64::NAN)]),
        Err(FitError::Value(_))
    ));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(BgNbd::new(1.0, bad, 1.0, 1.0), None);
        assert_eq!(GammaGamma::new(bad, 2.0, 1.0), None);
    }
    assert_eq!(GammaGamma::new(1.0, 1.0, 1.0), None, "no mean");
}

/// Data that leaves parameters open gives finite predictions or an error.
#[test]
fn degenerate_data_gives_finite_predictions_or_an_error() {
    let alike = [group(3, 60, 70, 1_000)];
    let nobody_leaves = [group(10, 70, 70, 500), group(5, 70, 70, 500)];
    let one = [group(1, 1, 1, 1)];
    for groups in [&alike[..], &nobody_leaves, &one] {
        match BgNbd::fit(groups) {
            Ok((model, fit)) => {
                assert!(fit.gradient_norm < 1e-6, "{model:?}, {fit:?}");
                for group in groups {
                    let expected = model.expected(group.purchases, 52.0);
                    assert!(expected.is_finite() && expected >= 0.0, "{model:?}");
                }
            }
            Err(error) => assert!(matches!(error, FitError::NotConverged { .. })),
        }
    }
    let same = [Spending {
        repeats: 4,
        mean: 25.0,
        customers: 300,
    }];
    if let Ok((model, fit)) = GammaGamma::fit(&same) {
        let value = model.order_value(4, 25.0);
        assert!((value - 25.0).abs() < 1.0, "{model:?}, {fit:?}");
    }
}

/// Very many purchases overflow where the likelihood is not in logarithms.
#[test]
fn busy_customers_are_no_numbers_too_great() {
    let model = paper();
    let busy = Purchases::new(20_000, 30_000, 30_030).unwrap();
    let groups = [PurchaseGroup {
        purchases: busy,
        customers: 3,
    }];
    assert!(model.log_likelihood(&groups).is_finite());
    assert!((0.0..=1.0).contains(&model.alive(busy)));
    let gone = Purchases::new(20_000, 30_000, 60_000).unwrap();
    assert!(model.alive(gone) > 0.0 && model.alive(gone) < 1e-300);
    let expected = model.expected_if_alive(busy, 52.0);
    let most = 20_000.243 / (4.414 + 30_030.0 / 7.0) * 52.0;
    assert!(expected > 0.95 * most && expected < most, "{expected}");
}

/// By hand: P(alive) = 1 / (1 + a/(b+x−1) · ((α+T)/(α+tₓ))^(r+x)).
#[test]
fn known_customers_of_the_paper() {
    let model = paper();
    let customer = Purchases::new(2, 213, 272).unwrap(); // tₓ = 30.43, T = 38.86
    assert!((model.alive(customer) - 0.7266).abs() < 1e-3);
    // The paper's example of equation 10: E = 1.226 in 39 weeks.
    let expected = model.expected(customer, 39.0);
    assert!((expected - 1.226).abs() < 1e-3, "{expected}");
    let value = GammaGamma::new(6.25, 3.74, 15.44).unwrap();
    // Fader & Hardie (2013): the mean of all is pγ/(q−1).
    assert!((value.mean() - 35.2).abs() < 0.1);
    let of_two = value.order_value(2, 22.35);
    assert!((of_two - 6.25 * (15.44 + 44.70) / (12.5 + 2.74)).abs() < 1e-9);
    let outlook = outlook(&model, &value, customer, 22.35);
    assert!((outlook.purchases - model.expected(customer, YEAR_WEEKS)).abs() < 1e-12);
    let lost = (outlook.purchases_if_alive - outlook.purchases) * of_two;
    assert!((outlook.at_stake - lost).abs() < 1e-9 && lost > 0.0);
    let once = Purchases::new(0, 0, 300).unwrap();
    assert_eq!(model.alive(once), 1.0);
    assert_eq!(
        super::super::outlook(&model, &value, once, f64::NAN).at_stake,
        0.0
    );
}

/// The derivatives by hand are those of the likelihood: a fit from scaled time or money is the scaled
/// fit, which a wrong derivative does not reach.
#[test]
fn a_fit_in_another_currency_is_the_same() {
    let spending = |scale: f64| -> Vec<Spending> {
        (1..200u32)
            .map(|i| Spending {
                repeats: 1 + i % 7,
                mean: scale * (5.0 + f64::from(i * i % 97) + f64::from(i % 13)),
                customers: u64::from(1 + i % 3),
            })
            .collect()
    };
    let (one, fit) = GammaGamma::fit(&spending(1.0)).unwrap();
    let (other, _) = GammaGamma::fit(&spending(0.01)).unwrap();
    assert!(
        (one.p() / other.p() - 1.0).abs() < 1e-4,
        "{one:?} {other:?}"
    );
    assert!((one.q() / other.q() - 1.0).abs() < 1e-4);
    assert!((one.gamma() / other.gamma() / 100.0 - 1.0).abs() < 1e-4);
    assert!(fit.gradient_norm < 1e-6);
}

/// A customer by chance as the model tells it; `unit` gives numbers of 0 to 1.
fn customer(model: &BgNbd, weeks: f64, unit: &mut impl FnMut() -> f64) -> Purchases {
    // Gamma and Beta with the shapes of the test are sums of exponentials.
    let mut exponential = || -(1.0 - unit()).ln();
    let rate = exponential() / model.alpha();
    let (a, b) = (exponential(), exponential() + exponential() + exponential());
    let leave = a / (a + b);
    let mut days = Vec::new();
    let mut week = exponential() / rate;
    while week < weeks {
        days.push((week * 7.0) as u32);
        if exponential() < -(1.0 - leave).ln() {
            break;
        }
        week += exponential() / rate;
    }
    days.retain(|day| *day > 0);
    days.dedup();
    let last = days.last().copied().unwrap_or_default();
    Purchases::new(
        u32::try_from(days.len()).unwrap(),
        last,
        (weeks * 7.0) as u32,
    )
    .unwrap()
}

#[test]
fn the_fit_finds_what_made_the_data() {
    let truth = BgNbd::new(1.0, 8.0, 1.0, 3.0).unwrap();
    let mut unit = chance(2026);
    let groups = group_purchases((0..30_000).map(|i| {
        let weeks = 30.0 + f64::from(i % 53);
        customer(&truth, weeks, &mut unit)
    }));
    let (model, fit) = BgNbd::fit(&groups).unwrap();
    assert!(fit.log_likelihood >= truth.log_likelihood(&groups));
    let leave = |model: &BgNbd| model.a() / (model.a() + model.b());
    for (found, made, within) in [
        (model.r(), 1.0, 0.1),
        (model.alpha(), 8.0, 0.1),
        (leave(&model), leave(&truth), 0.1),
        // These two hang together, and the data says little of each.
        (model.a(), 1.0, 0.4),
        (model.b(), 3.0, 0.4),
    ] {
        assert!((found / made - 1.0).abs() < within, "{model:?}");
    }
}

fn any_model() -> impl Strategy<Value = BgNbd> {
    let log = -3.0..3.0f64;
    (log.clone(), log.clone(), log.clone(), log).prop_map(|(r, alpha, a, b)| {
        let [r, alpha, a, b] = [r, alpha, a, b].map(|log| 10f64.powf(log));
        BgNbd::new(r, alpha, a, b).unwrap()
    })
}

fn any_purchases() -> impl Strategy<Value = Purchases> {
    (0..3_000u32)
        .prop_flat_map(|age| (0..=age, Just(age)))
        .prop_flat_map(|(last, age)| (u32::from(last > 0)..=last, Just(last), Just(age)))
        .prop_map(|(repeats, last, age)| Purchases::new(repeats, last, age).unwrap())
}

proptest! {
    /// All numbers are such, in their ranges, and a longer silence makes nobody likelier alive.
    #[test]
    fn predictions_are_in_range(model in any_model(), purchases in any_purchases(), weeks in 0.0..500.0f64) {
        let alive = model.alive(purchases);
        prop_assert!(alive > 0.0 && alive <= 1.0);
        let [x, last, age] = [
            purchases.repeats(),
            (purchases.last_week() * 7.0).round() as u32,
            (purchases.age_weeks() * 7.0).round() as u32,
        ];
        let later = Purchases::new(x, last, age + 30).unwrap();
        prop_assert!(model.alive(later) <= alive);
        let value = GammaGamma::new(6.25, 3.74, 15.44).unwrap();
        let outlook = outlook(&model, &value, purchases, weeks);
        prop_assert!(outlook.at_stake.is_finite() && outlook.at_stake >= 0.0);
        prop_assert!(outlook.purchases <= outlook.purchases_if_alive);
        prop_assert!(outlook.order_value > 0.0);
        prop_assert!(model.expected(purchases, weeks).is_finite());
    }

    /// The value lies between the customer's own and that of all.
    #[test]
    fn order_values_are_drawn_to_the_mean(
        p in 0.01..100.0f64, q in 1.01..100.0f64, gamma in 0.01..1e4f64,
        repeats in 1..1_000u32, mean in 0.01..1e5f64,
    ) {
        let model = GammaGamma::new(p, q, gamma).unwrap();
        let value = model.order_value(repeats, mean);
        let (low, high) = (mean.min(model.mean()), mean.max(model.mean()));
        prop_assert!(value >= low * (1.0 - 1e-12) && value <= high * (1.0 + 1e-12));
        prop_assert!(model.order_value(repeats + 1, mean).sub_abs(mean) <= value.sub_abs(mean) * (1.0 + 1e-9));
    }
}

trait Distance {
    fn sub_abs(self, other: f64) -> f64;
}

impl Distance for f64 {
    fn sub_abs(self, other: f64) -> f64 {
        (self - other).abs()
    }
}
