use uuid::Uuid;

use super::*;

fn plan() -> Plan {
    let mut plan = weekly(&["tue", "thu"], range("2026-01-01", "2026-12-31"));
    plan.deliveries = Some(weekdays(&["mon"]));
    plan
}

fn check(plan: &Plan, others: &[Exception], exception: &Exception) -> Vec<String> {
    let violations = check_exception(plan, &calendar("DE-BY"), others, exception, None);
    let all = violations.iter();
    all.map(|violation| format!("{}: {}", violation.field, violation.reason))
        .collect()
}

fn moved(date: &str, delivery: Option<&str>) -> Change {
    Change::Contact {
        date: day(date),
        delivery: delivery.map(day),
    }
}

#[test]
fn a_contact_is_not_moved_to_a_day_without_work() {
    // Good Friday; the weekend and Easter Monday follow.
    assert_eq!(
        check(
            &plan(),
            &[],
            &exception("2026-04-02", moved("2026-04-03", None))
        ),
        ["contact_date: must be a workday, and is not (Karfreitag); \
          the next workdays are 2026-04-07, 2026-04-08, 2026-04-09"]
    );
    assert_eq!(
        check(
            &plan(),
            &[],
            &exception("2026-06-02", moved("2026-06-06", None))
        ),
        ["contact_date: must be a workday, and is not (Saturday); \
          the next workdays are 2026-06-08, 2026-06-09, 2026-06-10"]
    );
}

#[test]
fn what_is_right_is_accepted() {
    let none: [String; 0] = [];
    let accepted = |change| assert_eq!(check(&plan(), &[], &exception("2026-06-02", change)), none);
    accepted(moved("2026-06-03", None));
    accepted(moved("2026-06-03", Some("2026-06-15")));
    accepted(Change::Delivery {
        date: day("2026-06-15"),
    });
    accepted(Change::Plan {
        plan: Uuid::from_u128(1),
    });
    accepted(Change::Nothing);
    accepted(Change::AsPlanned);
    // What a holiday leaves out is made on another day.
    let holiday = exception("2026-06-04", moved("2026-06-05", None));
    assert_eq!(check(&plan(), &[], &holiday), none);
    // Onto a date of the plan whose contact is elsewhere, or with duplicates.
    let onto = exception("2026-06-02", moved("2026-06-09", None));
    let gone = exception("2026-06-09", Change::Nothing);
    assert_eq!(check(&plan(), &[gone], &onto), none);
    let twice = Exception {
        duplicates: true,
        ..onto
    };
    assert_eq!(check(&plan(), &[], &twice), none);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let wrong = exception("2026-06-03", moved("2027-01-02", Some("2026-12-31")));
    assert_eq!(
        check(&plan(), std::slice::from_ref(&wrong), &wrong),
        [
            "date: is no contact date of the plan; the next ones are 2026-06-04, 2026-06-09, 2026-06-11",
            "date: has another exception already",
            "contact_date: must be within the plan's validity, 2026-01-01 to 2026-12-31",
            "contact_date: must be a workday, and is not (Saturday)",
            "delivery_date: must be after the contact on 2027-01-02",
            "delivery_date: must be a delivery day of the plan, and is not (Thursday); \
             the next ones are 2027-01-04, 2027-01-11, 2027-01-18",
        ]
    );
}

#[test]
fn each_rule_has_its_reason() {
    let refused = |plan: &Plan, exception: &Exception, says: &str| {
        let found = check(plan, &[], exception);
        assert!(found.len() == 1 && found[0].contains(says), "{found:?}");
    };
    refused(
        &plan(),
        &exception("2025-12-30", Change::Nothing),
        "date: must be within",
    );
    refused(
        &plan(),
        &exception("2026-12-30", Change::Nothing),
        "the next ones are 2026-12-31",
    );
    refused(
        &plan(),
        &exception("2026-06-02", moved("2026-06-02", None)),
        "another date than",
    );
    refused(
        &plan(),
        &exception("2026-06-02", moved("2026-06-09", None)),
        "has a contact of the plan",
    );
    let delivery = |date: &str| exception("2026-06-02", Change::Delivery { date: day(date) });
    refused(
        &plan(),
        &delivery("2026-06-01"),
        "must be after the contact on 2026-06-02",
    );
    refused(
        &plan(),
        &delivery("2026-06-10"),
        "(Wednesday); the next ones are 2026-06-15,",
    );
    let mut easter = exception(
        "2026-03-31",
        Change::Delivery {
            date: day("2026-04-06"),
        },
    );
    refused(
        &plan(),
        &easter,
        "(Ostermontag); the next ones are 2026-04-13, 2026-04-20,",
    );
    easter.change = moved("2026-04-01", Some("2026-04-06"));
    refused(&plan(), &easter, "delivery_date: must be a delivery day");
    let without = Plan {
        deliveries: None,
        ..plan()
    };
    refused(&without, &delivery("2026-06-08"), "has no delivery days");
    // On a holiday there is nothing to deliver after, unless it moves the contact.
    let corpus_christi = exception(
        "2026-06-04",
        Change::Delivery {
            date: day("2026-06-15"),
        },
    );
    refused(
        &plan(),
        &corpus_christi,
        "date: has no contact to deliver after: it is no workday (Fronleichnam)",
    );
    let moves = Plan {
        on_holiday: OnHoliday::NextWorkday,
        ..plan()
    };
    assert_eq!(check(&moves, &[], &corpus_christi), Vec::<String>::new());
    refused(
        &moves,
        &exception("2026-06-05", Change::Nothing),
        "is where the contact of 2026-06-04 moves: name that date",
    );
}

#[test]
fn another_plan_must_be_able_to_have_the_contact() {
    let other = weekly(&["mon"], range("2026-06-01", "2026-06-30"));
    let check = |on: &str| {
        let change = Change::Plan {
            plan: Uuid::from_u128(1),
        };
        let there = calendar("DE-BY");
        let violations = check_exception(
            &plan(),
            &calendar("DE-BE"),
            &[],
            &exception(on, change),
            Some((&other, &there)),
        );
        violations.to_string()
    };
    assert_eq!(check("2026-06-02"), "");
    assert_eq!(
        check("2026-06-04"),
        "plan: can have no contact on 2026-06-04: it is no workday (Fronleichnam)"
    );
    assert!(check("2026-07-02").contains("outside of the plan's validity"));
}
