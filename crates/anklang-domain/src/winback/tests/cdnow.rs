//! The models on the orders of CDNOW, against what their authors publish.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::NaiveDate;

use crate::winback::*;

/// Each customer's revenue by day.
type Customers = BTreeMap<String, BTreeMap<NaiveDate, f64>>;

/// The 1/10 sample of the papers, or nothing when it is not there.
fn sample() -> Option<Customers> {
    // Beside the repository, also where that is checked out one folder deeper.
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let text = folders.find_map(|folder| {
        std::fs::read_to_string(folder.join("shared/data/cdnow/sample_orders.csv")).ok()
    });
    let Some(text) = text else {
        eprintln!("skipped: the CDNOW sample is not there");
        return None;
    };
    let mut customers = Customers::new();
    for line in text.lines().skip(1) {
        let [_, customer, day, _, amount] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("a line with five fields: {line}");
        };
        let days = customers.entry(customer.to_owned()).or_default();
        *days.entry(day.parse().unwrap()).or_default() += amount.parse::<f64>().unwrap();
    }
    Some(customers)
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn end_of_calibration() -> NaiveDate {
    day("1997-09-30")
}

fn purchases(customers: &Customers) -> Vec<Purchases> {
    let of = |days: &BTreeMap<NaiveDate, f64>| {
        Purchases::of(days.keys().copied(), end_of_calibration()).unwrap()
    };
    customers.values().map(of).collect()
}

fn spending(customers: &Customers) -> Vec<Spending> {
    let of = |days: &BTreeMap<NaiveDate, f64>| {
        let repeats: Vec<f64> = days
            .range(..=end_of_calibration())
            .skip(1)
            .map(|(_, amount)| *amount)
            .collect();
        Spending {
            repeats: u32::try_from(repeats.len()).unwrap(),
            mean: repeats.iter().sum::<f64>() / repeats.len().max(1) as f64,
            customers: 1,
        }
    };
    customers.values().map(of).collect()
}

fn printed<const N: usize>(values: [f64; N], digits: usize) -> [String; N] {
    values.map(|value| format!("{value:.digits$}"))
}

#[test]
fn bg_nbd_is_table_2_of_the_paper() {
    let Some(customers) = sample() else { return };
    let purchases = purchases(&customers);
    assert_eq!(purchases.len(), 2357);
    let again = purchases.iter().filter(|one| one.repeats() > 0);
    assert_eq!(again.count(), 946);
    let groups = group_purchases(purchases);
    let (model, fit) = BgNbd::fit(&groups).unwrap();
    assert_eq!(
        printed([model.r(), model.alpha(), model.a(), model.b()], 3),
        ["0.243", "4.414", "0.793", "2.426"]
    );
    assert_eq!(printed([fit.log_likelihood], 1), ["-9582.4"]);
    assert_eq!(fit.customers, 2357);
    assert!(fit.at_bounds.is_empty());
    assert!(fit.gradient_norm < 1e-6 && fit.iterations > 0, "{fit:?}");
    assert_eq!(model.log_likelihood(&groups), fit.log_likelihood);
    assert_eq!(BgNbd::fit(&groups).unwrap(), (model, fit), "once more");
}

#[test]
fn gamma_gamma_is_what_the_note_publishes() {
    let Some(customers) = sample() else { return };
    let (model, fit) = GammaGamma::fit(&spending(&customers)).unwrap();
    assert_eq!(
        printed([model.p(), model.q(), model.gamma()], 2),
        ["6.25", "3.74", "15.44"],
        "{fit:?}"
    );
    assert_eq!(fit.customers, 946);
}

/// Weeks 40 to 78, after the 39 of calibration.
#[test]
fn the_weeks_after_are_forecast() {
    let Some(customers) = sample() else { return };
    let purchases = purchases(&customers);
    let (model, _) = BgNbd::fit(&group_purchases(purchases.clone())).unwrap();
    // Cumulative repeats of the cohort up to the end of week 78.
    let last = day("1998-06-30");
    let (mut expected, mut actual) = (0.0, 0.0);
    let (mut conditional, mut after) = (Vec::new(), Vec::new());
    for (days, one) in customers.values().zip(&purchases) {
        let first = *days.keys().next().unwrap();
        expected += model.expected_of_new((last - first).num_days() as f64 / 7.0);
        actual += (days.range(..=last).count() - 1) as f64;
        let weeks = (last - end_of_calibration()).num_days() as f64 / 7.0;
        conditional.push(model.expected(*one, weeks));
        let later = days.keys().filter(|day| **day > end_of_calibration());
        after.push(later.count() as f64);
    }
    // Of weeks 1 to 78 the model misses 4 %.
    let missed = 100.0 * (expected / actual - 1.0);
    assert_eq!(printed([missed, actual], 0), ["-4", "4339"], "{expected}");
    // Of weeks 40 to 78 alone, customer by customer, it misses 12 %.
    // The same sum is 1653.4 by the formula of the paper with scipy's hyp2f1.
    let (total, bought): (f64, f64) = (conditional.iter().sum(), after.iter().sum());
    assert_eq!(printed([total], 0), ["1653"]);
    assert_eq!(printed([100.0 * (total / bought - 1.0)], 0), ["-12"]);
    let together = correlation(&conditional, &after);
    assert_eq!(printed([together], 3), ["0.626"]);
}

fn correlation(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        xy += (x - mx) * (y - my);
        xx += (x - mx).powi(2);
        yy += (y - my).powi(2);
    }
    xy / (xx * yy).sqrt()
}
