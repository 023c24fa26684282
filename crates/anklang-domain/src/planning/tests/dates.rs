use chrono::{Datelike, Weekday};
use uuid::Uuid;

use super::*;

/// The plan of the product's description: Tuesday and Thursday, with Bavaria's holidays.
#[test]
fn tuesdays_and_thursdays_of_2026_in_bavaria() {
    let plan = weekly(&["tue", "thu"], range("2026-01-01", "2026-12-31"));
    let calendar = calendar("DE-BY");
    let planned = plan_dates(&plan, &[], &calendar, plan.validity);
    // 52 Tuesdays and 53 Thursdays, but for the holidays below.
    let left_out: Vec<(NaiveDate, &DateOutcome)> = planned
        .iter()
        .filter(|planned| !planned.is_contact())
        .map(|planned| (planned.date, &planned.outcome))
        .collect();
    let holiday = |name: &str| DateOutcome::None(NoContact::NotWorkday(name.into()));
    assert_eq!(
        left_out,
        [
            (day("2026-01-01"), &holiday("Neujahr")),
            (day("2026-01-06"), &holiday("Heilige Drei Könige")),
            (day("2026-05-14"), &holiday("Christi Himmelfahrt")),
            (day("2026-06-04"), &holiday("Fronleichnam")),
        ]
    );
    let dates = contacts(&planned);
    assert_eq!(dates.len(), 52 + 53 - 4);
    let expected: Vec<NaiveDate> = plan
        .validity
        .first()
        .iter_days()
        .take(365)
        .filter(|day| matches!(day.weekday(), Weekday::Tue | Weekday::Thu))
        .filter(|date| {
            !days(&["2026-01-01", "2026-01-06", "2026-05-14", "2026-06-04"]).contains(date)
        })
        .collect();
    assert_eq!(dates, expected);
}

#[test]
fn exceptions_of_that_plan() {
    let mut plan = weekly(&["tue", "thu"], range("2026-01-01", "2026-12-31"));
    plan.deliveries = Some(weekdays(&["fri"]));
    let calendar = calendar("DE-BY");
    let other = Uuid::from_u128(7);
    let moved = |date: &str, delivery: Option<&str>| Change::Contact {
        date: day(date),
        delivery: delivery.map(day),
    };
    let exceptions = [
        exception("2026-06-04", moved("2026-06-03", Some("2026-06-12"))),
        exception("2026-06-09", Change::Nothing),
        exception("2026-06-11", Change::Plan { plan: other }),
        exception(
            "2026-06-16",
            Change::Delivery {
                date: day("2026-06-26"),
            },
        ),
        // Entered before the day became a holiday, say.
        exception("2026-06-18", moved("2026-06-20", None)),
        exception("2026-06-23", moved("2027-01-05", None)),
        // No date of the plan: no effect.
        exception("2026-06-24", moved("2026-06-26", None)),
    ];
    let june = range("2026-06-01", "2026-06-30");
    let planned = plan_dates(&plan, &exceptions, &calendar, june);
    let of = |on: &str| {
        let mut found = planned.iter().filter(|planned| planned.on == day(on));
        let one = found
            .next()
            .map(|planned| (planned.date, planned.outcome.clone()));
        assert_eq!(found.next(), None);
        one
    };
    let contact = |moved, candidates: &[&str], by_exception| DateOutcome::Contact {
        moved,
        delivery: Delivery {
            candidates: days(candidates),
            skipped: Vec::new(),
            by_exception,
        },
    };
    let first_of = |outcome: Option<(NaiveDate, DateOutcome)>| match outcome {
        Some((
            date,
            DateOutcome::Contact {
                moved,
                mut delivery,
            },
        )) => {
            delivery.candidates.truncate(2);
            Some((date, DateOutcome::Contact { moved, delivery }))
        }
        other => other,
    };
    assert_eq!(
        first_of(of("2026-06-02")),
        Some((
            day("2026-06-02"),
            contact(None, &["2026-06-05", "2026-06-12"], false)
        ))
    );
    let wednesday = contact(Some(Moved::Exception), &["2026-06-12", "2026-06-19"], true);
    assert_eq!(
        first_of(of("2026-06-04")),
        Some((day("2026-06-03"), wednesday))
    );
    let none = |why| DateOutcome::None(why);
    assert_eq!(
        of("2026-06-09"),
        Some((day("2026-06-09"), none(NoContact::Exception)))
    );
    assert_eq!(
        of("2026-06-11"),
        Some((day("2026-06-11"), DateOutcome::OtherPlan { plan: other }))
    );
    let later = contact(None, &["2026-06-26", "2026-07-03"], true);
    assert_eq!(first_of(of("2026-06-16")), Some((day("2026-06-16"), later)));
    let saturday = NoContact::NotWorkday("Saturday".into());
    assert_eq!(of("2026-06-18"), Some((day("2026-06-20"), none(saturday))));
    assert_eq!(of("2026-06-23"), None);
    assert_eq!(of("2026-06-24"), None);
    let next_year = plan_dates(
        &plan,
        &exceptions,
        &calendar,
        range("2027-01-01", "2027-01-31"),
    );
    assert_eq!(next_year.len(), 1);
    assert_eq!(next_year[0].outcome, none(NoContact::OutsideValidity));
}

#[test]
fn holidays_can_move_contacts() {
    let calendar = calendar("DE-BY");
    let mut plan = weekly(&["fri"], range("2026-04-01", "2026-05-31"));
    let all = |plan: &Plan| contacts(&plan_dates(plan, &[], &calendar, plan.validity));
    // Good Friday and the first of May are Fridays.
    assert!(!all(&plan).contains(&day("2026-04-03")));
    plan.on_holiday = OnHoliday::NextWorkday;
    assert_eq!(all(&plan)[..2], days(&["2026-04-07", "2026-04-10"]));
    assert!(all(&plan).contains(&day("2026-05-04")));
    plan.on_holiday = OnHoliday::PreviousWorkday;
    assert_eq!(all(&plan)[0], day("2026-04-02"));
    assert!(all(&plan).contains(&day("2026-04-30")));
    // Not beyond the validity.
    plan.validity = range("2026-04-03", "2026-05-31");
    let first = &plan_dates(&plan, &[], &calendar, range("2026-04-01", "2026-04-09"))[0];
    assert_eq!(
        (first.on, first.date),
        (day("2026-04-03"), day("2026-04-02"))
    );
    assert_eq!(first.outcome, DateOutcome::None(NoContact::OutsideValidity));
    // Any day, moved to the next workday: one contact on each workday.
    plan.recurrence = weekly(&[], plan.validity).recurrence;
    plan.on_holiday = OnHoliday::NextWorkday;
    assert_eq!(
        contacts(&plan_dates(
            &plan,
            &[],
            &calendar,
            range("2026-04-03", "2026-04-13")
        )),
        days(&[
            "2026-04-07",
            "2026-04-08",
            "2026-04-09",
            "2026-04-10",
            "2026-04-13"
        ])
    );
}

#[test]
fn one_contact_on_a_date_unless_duplicates_are_permitted() {
    let plan = weekly(&["tue", "thu"], range("2026-02-01", "2026-02-28"));
    let to = |date: &str| Change::Contact {
        date: day(date),
        delivery: None,
    };
    let on_tuesday = |duplicates| {
        let exceptions = [
            Exception {
                duplicates,
                ..exception("2026-02-05", to("2026-02-10"))
            },
            exception("2026-02-12", to("2026-02-10")),
        ];
        let there = range("2026-02-10", "2026-02-10");
        let planned = plan_dates(&plan, &exceptions, &plain(), there);
        let made = planned.iter().filter(|planned| planned.is_contact());
        (
            made.map(|planned| planned.on).collect::<Vec<_>>(),
            planned.len(),
        )
    };
    assert_eq!(on_tuesday(false), (days(&["2026-02-10"]), 3));
    assert_eq!(on_tuesday(true), (days(&["2026-02-10", "2026-02-05"]), 3));
    // A person's will goes before a holiday's move.
    let mut plan = weekly(&["sat", "sun"], range("2026-02-01", "2026-02-28"));
    plan.on_holiday = OnHoliday::NextWorkday;
    let exceptions = [exception("2026-02-14", to("2026-02-09"))];
    let monday = plan_dates(
        &plan,
        &exceptions,
        &plain(),
        range("2026-02-09", "2026-02-09"),
    );
    let made: Vec<_> = monday
        .iter()
        .filter(|planned| planned.is_contact())
        .map(|p| p.on)
        .collect();
    assert_eq!((made, monday.len()), (days(&["2026-02-14"]), 3));
}

#[test]
fn deliveries_skip_what_is_no_workday_and_say_why() {
    let calendar = calendar("DE-BY");
    let thursdays = Some(weekdays(&["thu"]));
    let delivery = deliveries(thursdays, &calendar, day("2026-05-12"), None);
    assert_eq!(
        delivery.candidates[..2],
        days(&["2026-05-21", "2026-05-28"])
    );
    let skipped = SkippedDay {
        date: day("2026-05-14"),
        why: "Christi Himmelfahrt".into(),
    };
    assert_eq!(delivery.skipped, [skipped]);
    assert!(!delivery.candidates.contains(&day("2026-06-04")));
    assert_eq!(delivery.candidates.last(), Some(&day("2026-07-09")));
    // Not on the contact date itself.
    assert_eq!(
        deliveries(thursdays, &calendar, day("2026-05-21"), None).date(),
        Some(day("2026-05-28"))
    );
    for too_early in ["2026-05-14", "2026-05-21"] {
        let wanted = deliveries(
            thursdays,
            &calendar,
            day("2026-05-21"),
            Some(day(too_early)),
        );
        assert_eq!(
            (wanted.date(), wanted.by_exception),
            (Some(day("2026-05-28")), false)
        );
    }
    // An exception's date that has become a holiday: the next delivery day.
    let wanted = deliveries(
        thursdays,
        &calendar,
        day("2026-05-12"),
        Some(day("2026-06-04")),
    );
    assert_eq!(
        (wanted.date(), wanted.by_exception),
        (Some(day("2026-06-11")), false)
    );
    let wanted = deliveries(
        thursdays,
        &calendar,
        day("2026-05-12"),
        Some(day("2026-05-28")),
    );
    assert_eq!(
        (wanted.date(), wanted.by_exception),
        (Some(day("2026-05-28")), true)
    );
    // No deliveries, and none possible.
    assert_eq!(
        deliveries(None, &calendar, day("2026-05-12"), None),
        Delivery::default()
    );
    let sundays = deliveries(Some(weekdays(&["sun"])), &calendar, day("2026-05-12"), None);
    assert_eq!((sundays.date(), sundays.skipped.len()), (None, 8));
}

#[test]
fn under_another_plan_its_own_days_count() {
    let mut other = weekly(&["mon"], range("2026-06-01", "2026-06-30"));
    other.deliveries = Some(weekdays(&["sat"]));
    let calendar = Calendar::new(Weekdays::ANY, None, []);
    let DateOutcome::Contact { delivery, .. } = under_plan(&other, &calendar, day("2026-06-11"))
    else {
        panic!("no contact");
    };
    assert_eq!(delivery.date(), Some(day("2026-06-13")));
    let none = |date: &str| under_plan(&other, &super::calendar("DE-BY"), day(date));
    assert_eq!(
        none("2026-06-04"),
        DateOutcome::None(NoContact::NotWorkday("Fronleichnam".into()))
    );
    assert_eq!(
        none("2026-07-01"),
        DateOutcome::None(NoContact::OutsideValidity)
    );
}

#[test]
fn leap_days_and_the_ends_of_years() {
    let monthly = |days: Vec<i8>, validity: DateRange| Plan {
        recurrence: Recurrence::new(Shape::MonthlyByDay { every: 1, days }).unwrap(),
        ..weekly(&[], validity)
    };
    let every_day = Calendar::new(Weekdays::ANY, None, []);
    let dates = |plan: &Plan| contacts(&plan_dates(plan, &[], &every_day, plan.validity));
    let plan = monthly(vec![29], range("2027-01-01", "2028-03-31"));
    assert!(
        !dates(&plan)
            .iter()
            .any(|date| (date.year(), date.month()) == (2027, 2))
    );
    assert!(dates(&plan).contains(&day("2028-02-29")));
    let plan = monthly(vec![-1], range("2027-12-01", "2028-02-29"));
    assert_eq!(
        dates(&plan),
        days(&["2027-12-31", "2028-01-31", "2028-02-29"])
    );
    // Every second week across the years: 2026 has 53 ISO weeks.
    let every = |every| Plan {
        recurrence: Recurrence::new(Shape::Weekly {
            every,
            weekdays: weekdays(&["wed"]),
        })
        .unwrap(),
        ..weekly(&[], range("2026-12-12", "2027-01-31"))
    };
    // The week of the first day has no Wednesday left, and counts all the same.
    assert_eq!(
        dates(&every(2)),
        days(&["2026-12-23", "2027-01-06", "2027-01-20"])
    );
    assert_eq!(dates(&every(3)), days(&["2026-12-30", "2027-01-20"]));
}

#[test]
fn ranges_of_days() {
    let new = |first: &str, last: Option<&str>| DateRange::new(day(first), last.map(day));
    assert!(new("2026-01-02", Some("2026-01-01")).is_err());
    assert!(new("1899-12-31", None).is_err());
    assert!(new("2026-01-01", Some("2200-01-01")).is_err());
    let open = new("2026-01-01", None).unwrap();
    assert_eq!(
        (open.last(), open.to_string()),
        (LAST_DAY, "from 2026-01-01 on".into())
    );
    assert_eq!(
        range("2026-01-01", "2026-01-01").to_string(),
        "2026-01-01 to 2026-01-01"
    );
    // To the ends of what is known.
    let plan = Plan {
        on_holiday: OnHoliday::NextWorkday,
        ..weekly(&[], new("1900-01-01", None).unwrap())
    };
    let end = range("2199-12-25", "2199-12-31");
    assert_eq!(contacts(&plan_dates(&plan, &[], &plain(), end)).len(), 5);
    assert_eq!(
        contacts(&plan_dates(
            &plan,
            &[],
            &plain(),
            range("1900-01-01", "1900-01-07")
        ))
        .len(),
        5
    );
}

#[test]
fn plans_are_stored_as_json() {
    let json = r#"{"recurrence":{"weekly":{"every":1,"weekdays":["tue"]}},"validity":{"first":"1999-02-01","last":"1999-04-30"},"on_holiday":"next_workday","deliveries":["thu"]}"#;
    let plan: Plan = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&plan).unwrap(), json);
    for wrong in [
        json.replace("[\"thu\"]", "[]"),
        json.replace("1999-04-30", "1999-01-30"),
        json.replace("1999-02-01", "1799-02-01"),
    ] {
        assert!(serde_json::from_str::<Plan>(&wrong).is_err(), "{wrong}");
    }
    for change in [
        Change::Contact {
            date: day("2026-01-02"),
            delivery: None,
        },
        Change::Plan {
            plan: Uuid::from_u128(1),
        },
        Change::Nothing,
    ] {
        let one = exception("2026-01-01", change);
        let text = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Exception>(&text).unwrap(), one);
    }
}
