//! Random plans, exceptions and customers against the naive model.

use chrono::{Days, Weekday};
use proptest::prelude::*;
use uuid::Uuid;

use super::model::{Fate, World};
use super::*;

fn any_weekdays() -> impl Strategy<Value = Weekdays> {
    prop::collection::vec(0..7u8, 1..4).prop_map(|days| {
        let days = days.into_iter().map(|day| Weekday::try_from(day).unwrap());
        Weekdays::new(days).unwrap()
    })
}

fn any_recurrence() -> impl Strategy<Value = Recurrence> {
    let nth = prop_oneof![1..=5i8, -4..=-1i8];
    let on = (nth, 0..7u8).prop_map(|(nth, day)| NthWeekday {
        nth,
        weekday: Weekday::try_from(day).unwrap(),
    });
    let number = prop_oneof![1..=31i8, -31..=-1i8];
    prop_oneof![
        (1..4u16, prop_oneof![any_weekdays(), Just(Weekdays::ANY)])
            .prop_map(|(every, weekdays)| Shape::Weekly { every, weekdays }),
        (1..3u16, prop::collection::vec(on, 1..4))
            .prop_map(|(every, on)| Shape::MonthlyByWeekday { every, on }),
        (1..3u16, prop::collection::vec(number, 1..4))
            .prop_map(|(every, days)| Shape::MonthlyByDay { every, days }),
    ]
    .prop_map(|shape| Recurrence::new(shape).unwrap())
}

fn any_change() -> impl Strategy<Value = (u64, i64, u8, i64, bool)> {
    (
        0..130u64,
        -40..40i64,
        0..6u8,
        -3..12i64,
        prop::bool::weighted(0.3),
    )
}

fn shifted(day: NaiveDate, by: i64) -> NaiveDate {
    day + chrono::TimeDelta::days(by)
}

prop_compose! {
    fn any_world()(
        begin in 0..12_000u64, length in 0..130u64, recurrence in any_recurrence(),
        weekdays in prop_oneof![
            Just([true, true, true, true, true, false, false]), any::<[bool; 7]>(), Just([false; 7]),
        ],
        but in prop::collection::btree_map(-70..200i64, any::<bool>(), 0..40),
        on_holiday in prop::sample::select(vec![
            OnHoliday::Skip, OnHoliday::NextWorkday, OnHoliday::PreviousWorkday]),
        deliveries in prop::option::weighted(0.8, any_weekdays()),
        changes in prop::collection::vec(any_change(), 0..12),
        periods in prop::collection::vec((any::<bool>(), prop::option::of(0..7u8), -10..140i64, 0..60i64), 0..4),
    ) -> World {
        let first = day("1995-01-01") + Days::new(begin);
        let validity = DateRange::new(first, Some(first + Days::new(length))).unwrap();
        let dates = recurrence.dates(first, validity);
        let exceptions = changes.into_iter().map(|(on, by, kind, delivery, duplicates)| {
            // Most are about dates of the plan.
            let on = match dates.len() {
                count @ 1.. if on % 5 > 0 => dates[usize::try_from(on).unwrap() % count],
                _ => first + Days::new(on),
            };
            let date = shifted(on, by);
            let wanted = shifted(date, delivery);
            let change = match kind {
                0 => Change::Contact { date, delivery: None },
                1 => Change::Contact { date, delivery: Some(wanted) },
                2 => Change::Delivery { date: shifted(on, delivery) },
                3 => Change::Plan { plan: Uuid::from_u128(3) },
                4 => Change::Nothing,
                _ => Change::AsPlanned,
            };
            Exception { on, change, duplicates }
        });
        let periods = periods.into_iter().map(|(contact, weekday, from, length)| {
            let from = shifted(first, from);
            InactivePeriod {
                day_type: if contact { DayType::Contact } else { DayType::Delivery },
                weekday: weekday.map(|day| Weekday::try_from(day).unwrap()),
                days: DateRange::new(from, Some(shifted(from, length))).unwrap(),
            }
        });
        World {
            weekdays,
            but: but.into_iter().map(|(day, works)| (shifted(first, day), works)).collect(),
            exceptions: exceptions.collect(),
            periods: periods.collect(),
            plan: Plan { recurrence, validity, on_holiday, deliveries },
        }
    }
}

/// The calendar of a world. One has at least one workday of the week: where the world has none, all its
/// days are days of its own.
fn calendar_of(world: &World) -> Calendar {
    let own = |date: NaiveDate, works: bool| OwnDay {
        date,
        kind: if works {
            OwnDayKind::Workday
        } else {
            OwnDayKind::Holiday
        },
        name: "own".into(),
    };
    let weekdays = (0..7u8).filter(|day| world.weekdays[usize::from(*day)]);
    let weekdays = Weekdays::new(weekdays.map(|day| Weekday::try_from(day).unwrap()));
    let begin = world.plan.validity.first() - Days::new(200);
    let closed = match weekdays {
        Some(_) => Vec::new(),
        None => begin
            .iter_days()
            .take(800)
            .map(|date| own(date, false))
            .collect(),
    };
    let but = world.but.iter().map(|(date, works)| own(*date, *works));
    Calendar::new(
        weekdays.unwrap_or(Weekdays::ANY),
        None,
        closed.into_iter().chain(but),
    )
}

/// What the rules make of a world, in the words of the model.
fn fates(
    world: &World,
    calendar: &Calendar,
    range: DateRange,
) -> Vec<(NaiveDate, NaiveDate, Fate)> {
    let planned = plan_dates(&world.plan, &world.exceptions, calendar, range);
    let mut fates: Vec<_> = planned
        .iter()
        .map(|planned| {
            let fate = match &planned.outcome {
                DateOutcome::None(_) => Fate::None,
                DateOutcome::OtherPlan { .. } => Fate::Other,
                DateOutcome::Contact { delivery, .. } => {
                    match for_customer(&world.periods, planned.date, &delivery.candidates) {
                        CustomerDate::NoContact { .. } => Fate::Inactive,
                        CustomerDate::Contact { delivery, .. } => Fate::Contact(delivery),
                    }
                }
            };
            (planned.on, planned.date, fate)
        })
        .collect();
    fates.sort();
    fates
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn contacts_are_those_of_a_naive_model(
        world in any_world(), from in -50..150i64, length in 0..150i64,
    ) {
        let first = shifted(world.plan.validity.first(), from);
        let last = shifted(first, length);
        let range = DateRange::new(first, Some(last)).unwrap();
        prop_assert_eq!(fates(&world, &calendar_of(&world), range), world.fates(first, last));
    }

    #[test]
    fn a_range_in_two_parts_gives_the_same(
        world in any_world(), from in -50..150i64, length in 0..150i64, cut in 0..150i64,
    ) {
        let calendar = calendar_of(&world);
        let first = shifted(world.plan.validity.first(), from);
        let (middle, last) = (shifted(first, cut), shifted(first, cut + length));
        let dates = |first, last| {
            let range = DateRange::new(first, Some(last)).unwrap();
            plan_dates(&world.plan, &world.exceptions, &calendar, range)
        };
        let mut parts = dates(first, middle);
        if let Some(second) = middle.succ_opt().filter(|second| *second <= last) {
            parts.extend(dates(second, last));
        }
        prop_assert_eq!(&parts, &dates(first, last));
        prop_assert_eq!(dates(first, last), dates(first, last));
        // What identifies them is unique.
        let mut origins: Vec<NaiveDate> = parts.iter().map(|planned| planned.on).collect();
        origins.sort();
        origins.dedup();
        prop_assert_eq!(origins.len(), parts.len());
    }

    /// What the check lets through happens.
    #[test]
    fn an_exception_that_is_accepted_takes_place(world in any_world()) {
        let calendar = calendar_of(&world);
        let Some((last, others)) = world.exceptions.split_last() else { return Ok(()) };
        if !check_exception(&world.plan, &calendar, others, last, None).is_empty() {
            return Ok(());
        }
        let all = range("1994-01-01", "2040-12-31");
        let planned = plan_dates(&world.plan, &world.exceptions, &calendar, all);
        let planned = planned.iter().find(|planned| planned.on == last.on).unwrap();
        match (&last.change, &planned.outcome) {
            (Change::Contact { date, delivery }, DateOutcome::Contact { delivery: then, .. }) => {
                prop_assert_eq!(planned.date, *date);
                prop_assert!(delivery.is_none() || then.date() == *delivery && then.by_exception);
            }
            (Change::Delivery { date }, DateOutcome::Contact { delivery, .. }) => {
                prop_assert_eq!(delivery.date(), Some(*date));
            }
            // Another exception may have taken the date on which the plan itself puts the contact, or
            // the validity ends before.
            (Change::Delivery { .. }, DateOutcome::None(NoContact::SameDate | NoContact::OutsideValidity)) => {
                prop_assert!(planned.date != planned.on);
            }
            (Change::Plan { .. }, DateOutcome::OtherPlan { .. })
            | (Change::Nothing, DateOutcome::None(NoContact::Exception))
            | (Change::AsPlanned, _) => {}
            (change, outcome) => prop_assert!(false, "{:?} gives {:?}", change, outcome),
        }
    }
}
