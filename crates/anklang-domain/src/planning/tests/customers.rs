use chrono::Weekday;

use super::*;

fn period(day_type: DayType, weekday: Option<Weekday>, first: &str, last: &str) -> InactivePeriod {
    InactivePeriod {
        day_type,
        weekday,
        days: range(first, last),
    }
}

/// The example of the product's description: a plan for Tuesdays, and a customer who is not contacted
/// in March.
#[test]
fn no_contact_in_march_1999() {
    let mut plan = weekly(&["tue"], range("1999-02-01", "1999-04-30"));
    plan.deliveries = Some(weekdays(&["thu"]));
    let march = [period(DayType::Contact, None, "1999-03-01", "1999-03-31")];
    let calendar = plain();
    let planned = plan_dates(&plan, &[], &calendar, plan.validity);
    let (mut made, mut left_out) = (Vec::new(), Vec::new());
    for planned in &planned {
        let DateOutcome::Contact { delivery, .. } = &planned.outcome else {
            panic!("{planned:?}");
        };
        match for_customer(&march, planned.date, &delivery.candidates) {
            CustomerDate::Contact { delivery, moved } => {
                assert_eq!(delivery, Some(planned.date + chrono::Days::new(2)));
                assert_eq!(moved, None);
                made.push(planned.date);
            }
            CustomerDate::NoContact { because } => {
                assert_eq!(because.to_string(), "no contact 1999-03-01 to 1999-03-31");
                left_out.push(planned.date);
            }
        }
    }
    assert_eq!(
        left_out,
        days(&[
            "1999-03-02",
            "1999-03-09",
            "1999-03-16",
            "1999-03-23",
            "1999-03-30"
        ])
    );
    assert_eq!(
        made,
        days(&[
            "1999-02-02",
            "1999-02-09",
            "1999-02-16",
            "1999-02-23",
            "1999-04-06",
            "1999-04-13",
            "1999-04-20",
            "1999-04-27"
        ])
    );
}

#[test]
fn no_delivery_in_march_1999() {
    let mut plan = weekly(&["tue"], range("1999-02-01", "1999-04-30"));
    plan.deliveries = Some(weekdays(&["thu"]));
    let march = [period(DayType::Delivery, None, "1999-03-01", "1999-03-31")];
    let planned = plan_dates(&plan, &[], &plain(), plan.validity);
    assert_eq!(planned.len(), 13);
    for planned in &planned {
        let DateOutcome::Contact { delivery, .. } = &planned.outcome else {
            panic!("{planned:?}");
        };
        let after = planned.date + chrono::Days::new(2);
        let CustomerDate::Contact { delivery, moved } =
            for_customer(&march, planned.date, &delivery.candidates)
        else {
            panic!("the contact stays");
        };
        if march[0].days.contains(after) {
            assert_eq!(delivery, Some(day("1999-04-01")));
            let moved = moved.unwrap();
            assert_eq!(moved.from, after);
            assert_eq!(
                moved.because.to_string(),
                "no delivery 1999-03-01 to 1999-03-31"
            );
        } else {
            assert_eq!((delivery, moved), (Some(after), None));
        }
    }
}

#[test]
fn weekdays_ends_and_several_periods() {
    let periods = [
        period(
            DayType::Delivery,
            Some(Weekday::Thu),
            "2026-06-04",
            "2026-06-11",
        ),
        period(
            DayType::Contact,
            Some(Weekday::Fri),
            "2026-06-05",
            "2026-06-05",
        ),
        period(DayType::Delivery, None, "2026-06-11", "2026-06-18"),
    ];
    let candidates = days(&["2026-06-04", "2026-06-11", "2026-06-18", "2026-06-25"]);
    let check = |date: &str| for_customer(&periods, day(date), &candidates);
    let CustomerDate::Contact {
        delivery,
        moved: Some(moved),
    } = check("2026-06-02")
    else {
        panic!("a contact");
    };
    assert_eq!(delivery, Some(day("2026-06-25")));
    assert_eq!(moved.from, day("2026-06-04"));
    assert_eq!(
        moved.because.to_string(),
        "no delivery on a Thursday 2026-06-04 to 2026-06-11"
    );
    assert!(
        matches!(check("2026-06-05"), CustomerDate::NoContact { because } if *because == periods[1])
    );
    for active in ["2026-06-04", "2026-06-06", "2026-06-12"] {
        assert!(
            matches!(check(active), CustomerDate::Contact { .. }),
            "{active}"
        );
    }
    // Nothing left to deliver on, and nothing to deliver at all.
    let none = for_customer(&periods, day("2026-06-02"), &candidates[..3]);
    assert!(matches!(
        none,
        CustomerDate::Contact {
            delivery: None,
            moved: Some(_)
        }
    ));
    let none = for_customer(&periods, day("2026-06-02"), &[]);
    assert_eq!(
        none,
        CustomerDate::Contact {
            delivery: None,
            moved: None
        }
    );
}

/// Exceptions go first: it is the date to which they move a contact that is checked.
#[test]
fn where_an_exception_moves_a_contact_the_customer_may_be_inactive() {
    let plan = weekly(&["tue"], range("2026-06-01", "2026-06-30"));
    let to = |date: &str| Change::Contact {
        date: day(date),
        delivery: None,
    };
    let exceptions = [
        exception("2026-06-02", to("2026-06-03")),
        exception("2026-06-09", to("2026-06-11")),
    ];
    let periods = [
        period(DayType::Contact, None, "2026-06-03", "2026-06-03"),
        period(DayType::Contact, None, "2026-06-09", "2026-06-09"),
    ];
    let made: Vec<NaiveDate> = plan_dates(&plan, &exceptions, &plain(), plan.validity)
        .into_iter()
        .map(|planned| planned.date)
        .filter(|date| {
            matches!(
                for_customer(&periods, *date, &[]),
                CustomerDate::Contact { .. }
            )
        })
        .collect();
    assert_eq!(
        made,
        days(&["2026-06-11", "2026-06-16", "2026-06-23", "2026-06-30"])
    );
}
