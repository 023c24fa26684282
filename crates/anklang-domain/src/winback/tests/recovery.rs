//! Control groups and recovered revenue.

use proptest::prelude::*;
use uuid::Uuid;

use super::chance;
use crate::winback::*;

fn customer(i: u128) -> Uuid {
    Uuid::from_u128(i.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

#[test]
fn the_share_is_left_alone_and_always_the_same() {
    let group = ControlGroup::new(Uuid::from_u128(7), 10.0).unwrap();
    let wider = ControlGroup::new(Uuid::from_u128(7), 20.0).unwrap();
    let other = ControlGroup::new(Uuid::from_u128(8), 10.0).unwrap();
    let all: Vec<Uuid> = (0..20_000).map(customer).collect();
    let of = |group: &ControlGroup| all.iter().filter(|one| group.contains(**one)).count();
    // Four standard deviations are 170.
    assert!(of(&group).abs_diff(2_000) < 170, "{}", of(&group));
    assert!(of(&wider).abs_diff(4_000) < 227, "{}", of(&wider));
    assert!(
        all.iter()
            .all(|one| !group.contains(*one) || wider.contains(*one))
    );
    let both = all
        .iter()
        .filter(|one| group.contains(**one) && other.contains(**one));
    assert!(both.count().abs_diff(200) < 60, "seeds draw independently");
}

/// Pinned: another hash would draw running campaigns anew.
#[test]
fn lots_are_the_hash_of_the_documentation() {
    let half = ControlGroup::new(Uuid::from_u128(1), 50.0).unwrap();
    assert_eq!(half.threshold(), [0x80, 0, 0, 0, 0, 0, 0, 0]);
    let none = ControlGroup::new(Uuid::from_u128(1), 0.0).unwrap();
    assert_eq!(none.threshold(), [0; 8]);
    // SHA-256 of the two UUIDs, by sha256sum.
    let drawn: Vec<bool> = (0..16).map(|i| half.contains(Uuid::from_u128(i))).collect();
    let expected = DRAWN.map(|first| first < 0x80);
    assert_eq!(drawn, expected);
    assert!((0..100).all(|i| !none.contains(customer(i))));
    for bad in [-0.1, 50.1, f64::NAN, f64::INFINITY] {
        assert!(ControlGroup::new(Uuid::nil(), bad).is_err());
    }
}

/// First bytes of SHA-256(UUID 1 ‖ UUID i) for i of 0 to 15.
const DRAWN: [u8; 16] = [
    0x32, 0x9c, 0x78, 0x6, 0xa0, 0xc5, 0xc4, 0x92, 0xf5, 0x3, 0xac, 0x3c, 0x84, 0xa1, 0x73, 0xd,
];

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-3 * expected.abs()
}

/// Figures of scipy's `ttest_ind(equal_var=False)` and its `confidence_interval`.
#[test]
fn it_is_welchs_interval() {
    let contacted = RevenueGroup::of([0.0, 0.0, 120.0, 80.5, 0.0, 310.0, 45.0, 0.0]);
    let control = RevenueGroup::of([0.0, 60.0, 0.0, 0.0, 20.0]);
    let found = recovered(&contacted, &control, 0.95).unwrap();
    let [naive, difference, low, high, degrees] = SCIPY;
    assert!(near(found.naive, naive), "{found:?}");
    assert!(near(found.recovered, 8.0 * difference), "{found:?}");
    assert!(near(found.interval.0, 8.0 * low), "{found:?}");
    assert!(near(found.interval.1, 8.0 * high), "{found:?}");
    assert!(near(found.degrees, degrees), "{found:?}");
    assert!(!found.is_proven() && found.is_small());
    let text = found.to_string();
    assert!(
        text.contains("8 customers who were to be contacted bought for 555.50"),
        "{text}"
    );
    assert!(
        text.contains("95 % confidence") && text.contains("chance"),
        "{text}"
    );
}

/// naive, difference of means, its interval, degrees of freedom
const SCIPY: [f64; 5] = [555.5, 53.4375, -37.50431091, 144.37931091, 8.25880845];

#[test]
fn without_data_there_is_no_number() {
    let some = RevenueGroup::of([1.0, 2.0, 3.0]);
    let one = RevenueGroup::of([1.0]);
    assert_eq!(
        recovered(&some, &one, 0.95),
        Err(NoRecovered::TooFew {
            contacted: 3,
            control: 1
        })
    );
    let nothing = RevenueGroup::of([0.0; 50]);
    assert_eq!(
        recovered(&nothing, &nothing, 0.95),
        Err(NoRecovered::NoSpread)
    );
    for confidence in [0.5, 1.0, f64::NAN] {
        let found = recovered(&some, &some, confidence);
        assert_eq!(found, Err(NoRecovered::Unsound));
    }
    let odd = RevenueGroup {
        mean: f64::NAN,
        ..some
    };
    assert_eq!(recovered(&odd, &some, 0.9), Err(NoRecovered::Unsound));
    // One group alone may be without spread.
    assert!(recovered(&some, &nothing, 0.95).is_ok());
}

/// Drawn again and again with a contact that brings 5 a head, the interval has the truth in it as often
/// as it says; the naive number is off by all that is bought anyway.
#[test]
fn the_interval_holds_what_it_promises() {
    let mut unit = chance(42);
    let (mut covered, mut naive) = (0, 0.0);
    for _ in 0..600 {
        // One in five buys, for 50 to 150; with the contact one in four.
        let mut revenues = |share: f64, count: usize| {
            let mut revenue = || match unit() < share {
                true => 50.0 + 100.0 * unit(),
                false => 0.0,
            };
            RevenueGroup::of((0..count).map(|_| revenue()).collect::<Vec<_>>())
        };
        let (contacted, control) = (revenues(0.25, 900), revenues(0.20, 300));
        let found = recovered(&contacted, &control, 0.90).unwrap();
        let truth = 900.0 * 5.0;
        covered += i32::from(found.interval.0 <= truth && truth <= found.interval.1);
        naive += found.naive / 600.0;
    }
    // 540 expected, with a standard deviation of 7.3.
    assert!((510..=570).contains(&covered), "{covered}");
    assert!((naive / 22_500.0 - 1.0).abs() < 0.01, "{naive}");
}

proptest! {
    /// In another currency all numbers are that many times as great; with more confidence the interval
    /// is wider, and what was recovered lies in it.
    #[test]
    fn it_scales_and_nests(
        a in prop::collection::vec(0.0..1e4f64, 2..40), b in prop::collection::vec(0.0..1e4f64, 2..40),
        scale in 0.001..1e3f64,
    ) {
        let (contacted, control) = (RevenueGroup::of(a.clone()), RevenueGroup::of(b.clone()));
        prop_assume!(contacted.variance + control.variance > 1e-6);
        let one = recovered(&contacted, &control, 0.9).unwrap();
        let wide = recovered(&contacted, &control, 0.99).unwrap();
        prop_assert!(wide.interval.0 < one.interval.0 && one.interval.1 < wide.interval.1);
        prop_assert!(one.interval.0 <= one.recovered && one.recovered <= one.interval.1);
        let times = |all: Vec<f64>| RevenueGroup::of(all.into_iter().map(|x| x * scale));
        let other = recovered(&times(a), &times(b), 0.9).unwrap();
        let width = one.interval.1 - one.interval.0;
        let other_width = other.interval.1 - other.interval.0;
        prop_assert!((other_width / width / scale - 1.0).abs() < 1e-6);
        prop_assert!((other.recovered - one.recovered * scale).abs() <= 1e-6 * other_width);
    }
}
