//! The rule: settings, periods, reasons, and what must not change a verdict.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use proptest::prelude::*;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::planning::DateRange;
use crate::winback::*;

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn d(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn settings() -> DetectionSettings {
    DetectionSettings {
        groups: vec![],
        excluded_groups: vec!["Händler".into()],
        least_orders: 2,
        least_revenue: d("100"),
        exclusions: vec![],
        comparison: Comparison::Preceding {
            days: 90,
            season: false,
        },
        least_drop_percent: d("30"),
        least_drop: d("50"),
        least_known_days: 30,
    }
}

/// As of 27 September: now is from 30 June on, then from 1 April to 29 June.
fn as_of() -> NaiveDate {
    day("2026-09-27")
}

fn customer() -> CustomerSums<'static> {
    CustomerSums {
        group: "Endkunde",
        excluded: None,
        ordered: Some((day("2024-01-10"), day("2026-07-02"))),
        orders: 9,
        revenue: d("2500"),
        then: d("400"),
        now: d("120"),
    }
}

fn look(settings: &DetectionSettings, customer: &CustomerSums<'_>) -> Finding {
    let periods = settings.comparison.periods(as_of()).unwrap();
    detect(settings, &periods, &SeasonIndex::flat(), customer)
}

fn reasons(finding: Finding) -> Vec<NoCase> {
    match finding {
        Finding::NoCase(reasons) => reasons,
        Finding::Case(decline) => panic!("no case and not {decline:?}"),
    }
}

fn case(finding: Finding) -> Decline {
    match finding {
        Finding::Case(decline) => decline,
        Finding::NoCase(reasons) => panic!("a case and not {reasons:?}"),
    }
}

#[test]
fn everything_wrong_with_settings_is_told_at_once() {
    assert!(settings().violations().is_empty());
    let exclusion = |name: &str| Exclusion {
        name: name.into(),
        selection: Uuid::from_u128(1),
    };
    let wrong = DetectionSettings {
        groups: vec!["A".into(), String::new(), "A".into()],
        excluded_groups: vec!["A".into()],
        least_orders: 0,
        least_revenue: d("-0.01"),
        exclusions: vec![
            exclusion("Reklamation"),
            exclusion(" "),
            exclusion("Reklamation"),
        ],
        comparison: Comparison::YearBefore { days: 365 },
        least_drop_percent: d("100.01"),
        least_drop: d("1.005"),
        least_known_days: 366,
    };
    let fields: Vec<_> = wrong
        .violations()
        .into_vec()
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(
        fields,
        [
            "groups[1]",
            "groups[2]",
            "excluded_groups[0]",
            "exclusions[1].name",
            "exclusions[2].name",
            "least_orders",
            "least_revenue",
            "least_drop",
            "least_drop_percent",
            "comparison.days",
            "least_known_days",
        ]
    );
    assert_eq!(MOST_MONEY, d("10000000000000"));
    let text = serde_json::to_string(&settings()).unwrap();
    assert_eq!(
        serde_json::from_str::<DetectionSettings>(&text).unwrap(),
        settings()
    );
}

#[test]
fn periods_end_with_the_day() {
    let range = |first, last| DateRange::new(day(first), Some(day(last))).unwrap();
    let preceding = settings().comparison.periods(as_of()).unwrap();
    assert_eq!(preceding.now, range("2026-06-30", "2026-09-27"));
    assert_eq!(preceding.then, range("2026-04-01", "2026-06-29"));
    let year = Comparison::YearBefore { days: 28 };
    let season = year.periods(as_of()).unwrap();
    assert_eq!(season.now, range("2026-08-31", "2026-09-27"));
    assert_eq!(season.then, range("2025-09-01", "2025-09-28"));
    assert!(year.periods(day("1900-06-01")).is_err());
    assert!(year.periods(NaiveDate::MIN).is_err());
}

#[test]
fn a_drop_is_a_case_with_its_numbers() {
    let found = case(look(&settings(), &customer()));
    assert_eq!(
        found,
        Decline {
            then: d("400"),
            now: d("120"),
            known_days: 90,
            season: d("1"),
            expected: d("400"),
            actual: d("120"),
            drop: d("280"),
            drop_percent: d("70"),
            last_order: day("2026-07-02"),
        }
    );
}

/// Exactly as much as wanted is enough, a cent less is not.
#[test]
fn thresholds_are_included() {
    let at = |now: &str| {
        let now = CustomerSums {
            now: d(now),
            ..customer()
        };
        look(&settings(), &now)
    };
    assert_eq!(case(at("280")).drop_percent, d("30"));
    assert_eq!(
        reasons(at("280.01")),
        [NoCase::SmallPercent {
            percent: d("30"),
            least: d("30")
        }]
    );
    let money = DetectionSettings {
        least_drop: d("280.01"),
        ..settings()
    };
    assert_eq!(
        reasons(look(&money, &customer())),
        [NoCase::SmallDrop {
            drop: d("280"),
            least: d("280.01")
        }]
    );
    // More than before, and both reasons are told.
    let grown = reasons(at("500"));
    assert_eq!(grown.len(), 2);
    assert_eq!(grown[0].to_string(), "drop of -25 %, of 30 % needed");
    // More came back than was bought.
    assert_eq!(case(at("-100")).drop_percent, d("125"));
}

#[test]
fn who_does_not_count_is_told_every_reason() {
    let small = CustomerSums {
        group: "Händler",
        excluded: Some("Offene Reklamation"),
        orders: 1,
        revenue: d("20"),
        then: d("0"),
        ..customer()
    };
    let texts: Vec<String> = reasons(look(&settings(), &small))
        .iter()
        .map(NoCase::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "customer group \"Händler\" does not count",
            "excluded: Offene Reklamation",
            "1 orders, of 2 needed",
            "revenue 20, of 100 needed",
            "no revenue in the earlier period",
        ]
    );
    let only = DetectionSettings {
        groups: vec!["VIP".into()],
        ..settings()
    };
    assert_eq!(
        reasons(look(&only, &customer())),
        [NoCase::Group("Endkunde".into())]
    );
    let rich = CustomerSums {
        then: d("10000000000000.01"),
        ..customer()
    };
    assert_eq!(reasons(look(&settings(), &rich)), [NoCase::TooMuch]);
}

/// Who came during the earlier period is compared over the days since.
#[test]
fn young_customers_are_compared_over_their_days() {
    let since = |first: &str| CustomerSums {
        ordered: Some((day(first), day("2026-07-02"))),
        ..customer()
    };
    // 45 of 90 days: 120 in 90 days are 60 in 45.
    let half = case(look(&settings(), &since("2026-05-16")));
    assert_eq!(
        (half.known_days, half.expected, half.actual, half.drop),
        (45, d("400"), d("60"), d("340"))
    );
    assert_eq!(half.drop_percent, d("85"));
    // The 30th day counts, the 29th does not.
    assert_eq!(case(look(&settings(), &since("2026-05-31"))).known_days, 30);
    assert_eq!(
        reasons(look(&settings(), &since("2026-06-01"))),
        [NoCase::ShortlyKnown {
            days: 29,
            least: 30
        }]
    );
    let new = CustomerSums {
        then: d("0"),
        ..since("2026-07-01")
    };
    assert_eq!(
        reasons(look(&settings(), &new)),
        [
            NoCase::ShortlyKnown { days: 0, least: 30 },
            NoCase::NothingThen
        ]
    );
}

/// A year of 52 weeks whose last eight bring three times as much.
fn christmas() -> SeasonIndex {
    let first = day("2022-01-03");
    let weeks = (0..208u64).map(|i| {
        let monday = first.checked_add_days(Days::new(7 * i)).unwrap();
        let late = i % 52 >= 44;
        (monday, Decimal::from(if late { 3_000 } else { 1_000 }))
    });
    SeasonIndex::of_revenue(weeks).unwrap()
}

#[test]
fn the_season_is_taken_out() {
    let season = christmas();
    let settings = DetectionSettings {
        comparison: Comparison::Preceding {
            days: 28,
            season: true,
        },
        least_known_days: 28,
        ..settings()
    };
    let at = |as_of: &str, comparison: Comparison, then: &str, now: &str| {
        let settings = DetectionSettings {
            comparison,
            ..settings.clone()
        };
        let periods = comparison.periods(day(as_of)).unwrap();
        let sums = CustomerSums {
            then: d(then),
            now: d(now),
            ..customer()
        };
        detect(&settings, &periods, &season, &sums)
    };
    // Four weeks of February against four of January: nothing to take out.
    let found = case(at("2026-03-01", settings.comparison, "400", "100"));
    assert!((found.season - Decimal::ONE).abs() < d("0.03"), "{found:?}");
    // January against December: a third is all there is to expect.
    let after = |comparison| at("2026-01-25", comparison, "600", "210");
    assert!(matches!(after(settings.comparison), Finding::NoCase(_)));
    let unadjusted = Comparison::Preceding {
        days: 28,
        season: false,
    };
    assert_eq!(case(after(unadjusted)).drop_percent, d("65"));
    // November against October with a little more is a case: twice as much was to be expected.
    let found = case(at("2025-11-30", settings.comparison, "100", "110"));
    assert!(
        found.season > d("2.5") && found.expected > d("250"),
        "{found:?}"
    );
}

#[test]
fn a_season_is_found_under_a_trend() {
    let season = christmas();
    let index = |text| season.of_day(day(text));
    // Of 52 weeks with 8 threefold the mean is 68/52.
    let (low, high) = (d("52") / d("68"), d("156") / d("68"));
    assert!(
        (index("2026-06-10") - low).abs() < d("0.02"),
        "{}",
        index("2026-06-10")
    );
    assert!(
        (index("2025-12-03") - high).abs() < d("0.05"),
        "{}",
        index("2025-12-03")
    );
    // The same with revenue that grows by a percent each week and with one odd week.
    let first = day("2021-01-04");
    let mut level = 1000.0;
    let weeks: Vec<_> = (0..260u64)
        .map(|i| {
            level *= 1.01;
            let monday = first.checked_add_days(Days::new(7 * i)).unwrap();
            let late = monday >= day("2021-11-08") && (i + 8) % 52 < 8;
            let odd = if i == 130 { 9.0 } else { 1.0 };
            let amount = level * if late { 3.0 } else { 1.0 } * odd;
            (monday, Decimal::try_from(amount).unwrap().round_dp(2))
        })
        .collect();
    let trended = SeasonIndex::of_revenue(weeks.clone()).unwrap();
    assert!(trended.of_day(day("2026-06-10")) < d("1"));
    assert!(trended.of_day(day("2026-12-09")) > d("1.8"));
    // Order and repeats of weeks do not matter, halves add up.
    let halves = weeks.iter().rev().flat_map(|(monday, amount)| {
        let sunday = monday.checked_add_days(Days::new(6)).unwrap();
        [(*monday, amount / d("2")), (sunday, amount / d("2"))]
    });
    assert_eq!(SeasonIndex::of_revenue(halves), Ok(trended));
}

#[test]
fn weeks_that_are_missing_or_rare_do_no_harm() {
    let first = day("2024-01-01");
    let weeks = |count: u64| {
        (0..count).map(move |i| {
            let monday = first.checked_add_days(Days::new(7 * i)).unwrap();
            (monday, Decimal::ONE_HUNDRED)
        })
    };
    assert_eq!(
        SeasonIndex::of_revenue(weeks(103)),
        Err(SeasonError::TooShort(103))
    );
    assert_eq!(SeasonIndex::of_revenue([]), Err(SeasonError::TooShort(0)));
    assert_eq!(SeasonIndex::of_revenue(weeks(104)), Ok(SeasonIndex::flat()));
    let nothing = weeks(104).map(|(monday, _)| (monday, Decimal::ZERO));
    assert_eq!(
        SeasonIndex::of_revenue(nothing),
        Err(SeasonError::NoRevenue)
    );
    // A week without orders each year is a low week, and so is one with nothing but returns.
    let closed = |returns: bool| {
        let weeks = weeks(208)
            .enumerate()
            .filter_map(move |(i, (monday, amount))| {
                let is_closed = i % 52 == 30;
                let amount = if is_closed { -amount } else { amount };
                (!is_closed || returns).then_some((monday, amount))
            });
        SeasonIndex::of_revenue(weeks).unwrap()
    };
    assert_eq!(closed(false), closed(true));
    let low = closed(false).of_day(day("2024-07-31"));
    assert!(low > d("0.4") && low < d("0.6"), "{low}");
    // Week 53 of 2026 is between its neighbours.
    let season = christmas();
    let of = |text| season.of_day(day(text));
    let mean = (of("2026-12-23") + of("2026-01-01")) / d("2");
    assert_eq!(of("2026-12-31"), mean.round_dp(4));
    let stored = serde_json::to_string(&season).unwrap();
    assert_eq!(
        serde_json::from_str::<SeasonIndex>(&stored).unwrap(),
        season
    );
    assert!(serde_json::from_str::<SeasonIndex>(r#"["1","1"]"#).is_err());
}

#[test]
fn lost_groups_are_those_without_revenue_now() {
    let of = |groups: &[(&str, &str)]| -> BTreeMap<String, Decimal> {
        let group = |(name, amount): &(&str, &str)| ((*name).to_owned(), d(amount));
        groups.iter().map(group).collect()
    };
    let then = of(&[
        ("Obst", "50"),
        ("Gemüse", "80"),
        ("Wein", "0"),
        ("Brot", "50"),
    ]);
    let now = of(&[("Obst", "5"), ("Brot", "-5"), ("Öl", "9")]);
    let lost = LostGroups::of(&then, &now);
    assert_eq!(lost.had, 3);
    assert_eq!(
        lost.lost,
        [("Gemüse".to_owned(), d("80")), ("Brot".to_owned(), d("50"))]
    );
    assert!((lost.share() - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!(LostGroups::of(&now, &now).lost.len(), 0);
    assert_eq!(LostGroups::of(&of(&[]), &now).share(), 0.0);
}

/// Orders as days after the first of 2024 and cents.
type Orders = Vec<(u64, i64)>;

fn on(days: u64) -> NaiveDate {
    day("2024-01-01").checked_add_days(Days::new(days)).unwrap()
}

/// What the rule is asked, by hand from the orders.
fn sums(orders: &Orders, comparison: Comparison, as_of: NaiveDate) -> CustomerSums<'static> {
    let periods = comparison.periods(as_of).unwrap();
    let known: Vec<_> = orders
        .iter()
        .map(|(days, cents)| (on(*days), Decimal::new(*cents, 2)))
        .filter(|(day, _)| *day <= as_of)
        .collect();
    let within = |range: DateRange| {
        let those = known.iter().filter(|(day, _)| range.contains(*day));
        those.map(|(_, amount)| *amount).sum()
    };
    let days = || known.iter().map(|(day, _)| *day);
    CustomerSums {
        group: "",
        excluded: None,
        ordered: days().min().zip(days().max()),
        orders: u32::try_from(known.len()).unwrap(),
        revenue: known.iter().map(|(_, amount)| *amount).sum(),
        then: within(periods.then),
        now: within(periods.now),
    }
}

fn any_orders() -> impl Strategy<Value = Orders> {
    prop::collection::vec((0..800u64, 1..50_000i64), 0..15)
}

fn any_settings() -> impl Strategy<Value = DetectionSettings> {
    let comparison = prop_oneof![
        (7..366u32, any::<bool>())
            .prop_map(|(days, season)| Comparison::Preceding { days, season }),
        (7..=364u32).prop_map(|days| Comparison::YearBefore { days }),
    ];
    let numbers = (1..4u32, 0..50_000i64, 1..=10_000i64, 0..20_000i64);
    (comparison, numbers, 1..8u32).prop_map(
        |(comparison, (orders, revenue, percent, drop), part)| DetectionSettings {
            groups: vec![],
            excluded_groups: vec![],
            least_orders: orders,
            least_revenue: Decimal::new(revenue, 2),
            exclusions: vec![],
            comparison,
            least_drop_percent: Decimal::new(percent, 2),
            least_drop: Decimal::new(drop, 2),
            least_known_days: (comparison.days() / part).max(1),
        },
    )
}

fn finding(
    settings: &DetectionSettings,
    season: &SeasonIndex,
    orders: &Orders,
    as_of: NaiveDate,
) -> Finding {
    let periods = settings.comparison.periods(as_of).unwrap();
    let sums = sums(orders, settings.comparison, as_of);
    detect(settings, &periods, season, &sums)
}

fn kinds(finding: &Finding) -> Vec<std::mem::Discriminant<NoCase>> {
    match finding {
        Finding::Case(_) => vec![],
        Finding::NoCase(reasons) => reasons.iter().map(std::mem::discriminant).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn who_never_bought_is_never_a_case(settings in any_settings(), as_of in 0..1_000u64) {
        prop_assert!(settings.violations().is_empty());
        let found = finding(&settings, &christmas(), &vec![], on(as_of));
        prop_assert_eq!(found, Finding::NoCase(vec![NoCase::NeverBought]));
    }

    /// In a currency with a hundredth of the value, nothing changes but amounts.
    #[test]
    fn the_currency_does_not_matter(
        settings in any_settings(), orders in any_orders(), as_of in 300..900u64, factor in 2..1_000i64,
    ) {
        let season = christmas();
        let one = finding(&settings, &season, &orders, on(as_of));
        let times = Decimal::from(factor);
        let greater = DetectionSettings {
            least_revenue: settings.least_revenue * times,
            least_drop: settings.least_drop * times,
            ..settings
        };
        let orders = orders.iter().map(|(day, cents)| (*day, cents * factor)).collect();
        let other = finding(&greater, &season, &orders, on(as_of));
        prop_assert_eq!(kinds(&one), kinds(&other));
        if let (Finding::Case(one), Finding::Case(other)) = (one, other) {
            prop_assert_eq!(one.drop_percent, other.drop_percent);
            prop_assert_eq!((one.known_days, one.season), (other.known_days, other.season));
            prop_assert!((one.drop * times - other.drop).abs() <= times);
        }
    }

    /// Without an order that enters or leaves a period nothing changes with the date, as long as no
    /// season does and the customer is old enough.
    #[test]
    fn a_day_later_only_orders_at_the_edges_count(
        settings in any_settings(), orders in any_orders(), as_of in 800..1_200u64,
    ) {
        let settings = match settings.comparison {
            Comparison::Preceding { days, .. } => DetectionSettings {
                comparison: Comparison::Preceding { days, season: false },
                ..settings
            },
            Comparison::YearBefore { .. } => settings,
        };
        let periods = settings.comparison.periods(on(as_of)).unwrap();
        let next = settings.comparison.periods(on(as_of + 1)).unwrap();
        let edges = [
            periods.then.first(), next.then.last(), periods.now.first(), next.now.last(),
        ];
        prop_assume!(orders.iter().all(|(day, _)| !edges.contains(&on(*day))));
        prop_assume!(orders.iter().any(|(day, _)| on(*day) <= periods.then.first()));
        let flat = SeasonIndex::flat();
        prop_assert_eq!(
            finding(&settings, &flat, &orders, on(as_of)),
            finding(&settings, &flat, &orders, on(as_of + 1))
        );
    }

    /// Buying more now makes nobody a case.
    #[test]
    fn another_order_now_is_no_reason(
        settings in any_settings(), orders in any_orders(), as_of in 300..900u64, cents in 1..9_000i64,
    ) {
        let season = christmas();
        // Not by reaching the orders and the revenue that are needed.
        let settings = DetectionSettings { least_orders: 1, least_revenue: Decimal::ZERO, ..settings };
        let before = finding(&settings, &season, &orders, on(as_of));
        let mut more = orders.clone();
        more.push((as_of, cents));
        let after = finding(&settings, &season, &more, on(as_of));
        prop_assert!(matches!(before, Finding::Case(_)) || matches!(after, Finding::NoCase(_)));
    }

    /// The verdict without division is that of the formula, but for what lies within rounding.
    #[test]
    fn the_verdict_is_that_of_the_formula(
        settings in any_settings(), orders in any_orders(), as_of in 300..900u64,
    ) {
        let season = christmas();
        let periods = settings.comparison.periods(on(as_of)).unwrap();
        let sums = sums(&orders, settings.comparison, on(as_of));
        let found = detect(&settings, &periods, &season, &sums);
        let Some((first, _)) = sums.ordered else { return Ok(()) };
        let number = |amount: Decimal| f64::try_from(amount).unwrap();
        let index = |range: DateRange| {
            let days: Vec<f64> = range.first().iter_days().take_while(|day| *day <= range.last())
                .map(|day| if settings.comparison.season() { number(season.of_day(day)) } else { 1.0 })
                .collect();
            (days.len() as f64, days.iter().sum::<f64>() / days.len() as f64)
        };
        let known = DateRange::new(first.max(periods.then.first()), Some(periods.then.last()));
        let mut is_case = sums.orders >= settings.least_orders
            && sums.revenue >= settings.least_revenue && sums.then > Decimal::ZERO;
        if let Ok(known) = known {
            let ((known, index_then), (days, index_now)) = (index(known), index(periods.now));
            let expected = number(sums.then) * index_now / index_then;
            let drop = expected - number(sums.now) * known / days;
            let (least, percent) = (number(settings.least_drop), number(settings.least_drop_percent));
            let wanted = expected * percent / 100.0;
            prop_assume!((drop - least).abs() > 1e-6 && (drop - wanted).abs() > 1e-6);
            is_case &= known >= f64::from(settings.least_known_days) && drop >= least && drop >= wanted;
        } else {
            is_case = false;
        }
        prop_assert_eq!(matches!(found, Finding::Case(_)), is_case, "{:?}", found);
    }
}
