//! Cases: every action in every state, holds, reminders, orders.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::planning::{Calendar, Region, Weekdays};
use crate::winback::*;

const ANNA: &str = "users/anna";
const BEN: &str = "users/ben";

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-11-23T09:00:00Z".parse().unwrap()
}

/// A Monday.
fn today() -> NaiveDate {
    day("2026-11-23")
}

fn rules() -> CaseRules<'static> {
    CaseRules {
        reminder_days: REMINDER_DAYS,
        calendar: None,
        has_standard: true,
        has_voucher: true,
    }
}

fn open() -> Case {
    Case::open(day("2026-11-20"))
}

fn in_state(state: CaseState) -> Case {
    Case {
        state,
        due_on: (state == CaseState::Reminder).then(today),
        no_interest: (state == CaseState::NoInterest).then_some(NoInterestReason::Price),
        ..open()
    }
}

fn actions() -> [(Action, CaseState); 5] {
    let note = || "20 % auf Äpfel".to_owned();
    [
        (
            Action::NoInterest(NoInterestReason::NoNeed),
            CaseState::NoInterest,
        ),
        (
            Action::RequestOffer { note: note() },
            CaseState::OfferRequested,
        ),
        (Action::Mail(MailTemplate::Standard), CaseState::Mailed),
        (Action::Mail(MailTemplate::Voucher), CaseState::Mailed),
        (Action::Remind(Remind::Default), CaseState::Reminder),
    ]
}

fn by_anna(case: &Case, action: &Action) -> Result<Acted, ActError> {
    act(case, Actor::Person(ANNA), action, &rules(), now(), today())
}

fn becomes(acted: Result<Acted, ActError>) -> Case {
    match acted {
        Ok(Acted::Becomes(case)) => case,
        other => panic!("a changed case and not {other:?}"),
    }
}

#[test]
fn open_cases_take_every_action_and_closed_ones_none() {
    for (state, word) in CaseState::WORDS {
        assert_eq!(
            (state.as_str(), CaseState::parse(word)),
            (word, Some(state))
        );
        for (action, next) in actions() {
            let acted = by_anna(&in_state(state), &action);
            if state.is_final() {
                assert_eq!(acted, Err(ActError::Closed(state)), "{action:?}");
            } else {
                let case = becomes(acted);
                assert_eq!(case.state, next);
                assert_eq!(case.due_on.is_some(), next == CaseState::Reminder);
                assert_eq!(case.no_interest.is_some(), next == CaseState::NoInterest);
            }
        }
        let remark = Action::Remark {
            text: "ruft zurück".into(),
        };
        let case = in_state(state);
        assert_eq!(by_anna(&case, &remark), Ok(Acted::Becomes(case.clone())));
    }
    for (reason, word) in NoInterestReason::WORDS {
        assert_eq!(
            (reason.as_str(), NoInterestReason::parse(word)),
            (word, Some(reason))
        );
    }
    assert_eq!(CaseState::parse("gone"), None);
}

#[test]
fn no_interest_said_twice_is_no_error() {
    let closed = becomes(by_anna(&open(), &actions()[0].0));
    assert_eq!(by_anna(&closed, &actions()[0].0), Ok(Acted::AlreadySo));
    assert_eq!(
        by_anna(&closed, &Action::NoInterest(NoInterestReason::Price)),
        Err(ActError::Closed(CaseState::NoInterest))
    );
}

#[test]
fn a_template_goes_out_once() {
    let standard = Action::Mail(MailTemplate::Standard);
    let case = becomes(by_anna(&open(), &standard));
    assert_eq!(
        (case.standard_on, case.voucher_on, case.contacted_on),
        (Some(today()), None, Some(today()))
    );
    let put_off = becomes(by_anna(&case, &Action::Remind(Remind::InDays(3))));
    let refused = Err(ActError::MailedBefore(today()));
    assert_eq!(by_anna(&put_off, &standard), refused.clone());
    let campaign =
        |case: &Case, action: &Action| act(case, Actor::Campaign, action, &rules(), now(), today());
    assert_eq!(campaign(&put_off, &standard), refused);
    let voucher = Action::Mail(MailTemplate::Voucher);
    let both = becomes(campaign(&put_off, &voucher));
    assert_eq!(both.voucher_on, Some(today()));
    // A promise survives what campaigns send, and not what people do.
    assert_eq!(
        (both.state, both.due_on),
        (CaseState::Reminder, put_off.due_on)
    );
    let by_hand = becomes(by_anna(&put_off, &voucher));
    assert_eq!((by_hand.state, by_hand.due_on), (CaseState::Mailed, None));
    for (state, then) in [
        (CaseState::Declining, CaseState::Mailed),
        (CaseState::Mailed, CaseState::Mailed),
        (CaseState::OfferRequested, CaseState::OfferRequested),
        (CaseState::Reminder, CaseState::Reminder),
    ] {
        let before = in_state(state);
        let mailed = becomes(campaign(&before, &standard));
        assert_eq!((mailed.state, mailed.due_on), (then, before.due_on));
        assert_eq!(
            (mailed.standard_on, mailed.contacted_on),
            (Some(today()), Some(today()))
        );
    }
    assert_eq!(
        campaign(&open(), &Action::Remind(Remind::Default)),
        Err(ActError::OnlyMail)
    );
    let without = CaseRules {
        has_voucher: false,
        ..rules()
    };
    let anna = Actor::Person(ANNA);
    assert_eq!(
        act(&open(), anna, &voucher, &without, now(), today()),
        Err(ActError::NoTemplate(MailTemplate::Voucher))
    );
}

#[test]
fn nobody_steps_on_another() {
    let lasts = TimeDelta::minutes(15);
    let hold = claim(&open(), ANNA, now(), lasts).unwrap();
    assert_eq!(hold.until, now() + lasts);
    let case = Case {
        hold: Some(hold.clone()),
        ..open()
    };
    let held = ActError::Held(hold.clone());
    assert_eq!(
        held.to_string(),
        "users/anna works on the case until 2026-11-23T09:15:00Z"
    );
    assert_eq!(claim(&case, BEN, now(), lasts), Err(held.clone()));
    let later = now() + TimeDelta::minutes(5);
    assert_eq!(
        claim(&case, ANNA, later, lasts).unwrap().until,
        later + lasts
    );
    let mail = Action::Mail(MailTemplate::Standard);
    for other in [Actor::Person(BEN), Actor::Campaign] {
        let acted = act(&case, other, &mail, &rules(), now(), today());
        assert_eq!(acted, Err(held.clone()));
        // Its end is not included.
        let acted = act(&case, other, &mail, &rules(), hold.until, today());
        assert_eq!(becomes(acted).state, CaseState::Mailed);
    }
    // Whoever holds it keeps it while working, and gives it up by closing.
    assert_eq!(becomes(by_anna(&case, &mail)).hold, Some(hold));
    let closed = becomes(by_anna(&case, &actions()[0].0));
    assert_eq!(closed.hold, None);
    assert_eq!(
        claim(&closed, BEN, now(), lasts),
        Err(ActError::Closed(CaseState::NoInterest))
    );
}

#[test]
fn reminders_move_to_workdays_unless_somebody_names_the_day() {
    let calendar = Calendar::new(Weekdays::MONDAY_TO_FRIDAY, Region::parse("DE-BY").ok(), []);
    let due = |remind, calendar| {
        let rules = CaseRules {
            calendar,
            ..rules()
        };
        let action = Action::Remind(remind);
        let anna = Actor::Person(ANNA);
        act(&open(), anna, &action, &rules, now(), today()).map(|acted| match acted {
            Acted::Becomes(case) => case.due_on.unwrap(),
            Acted::AlreadySo => panic!("a reminder always changes"),
        })
    };
    let workdays = Some(&calendar);
    assert_eq!(due(Remind::Default, workdays), Ok(day("2026-12-03")));
    // A Saturday.
    assert_eq!(due(Remind::InDays(5), workdays), Ok(day("2026-11-30")));
    assert_eq!(due(Remind::InDays(5), None), Ok(day("2026-11-28")));
    assert_eq!(
        due(Remind::On(day("2026-11-28")), workdays),
        Ok(day("2026-11-28"))
    );
    // Christmas on a Friday: the next workday is the Monday after.
    assert_eq!(due(Remind::InDays(32), workdays), Ok(day("2026-12-28")));
    let bad = [
        Remind::InDays(0),
        Remind::InDays(367),
        Remind::On(today()),
        Remind::On(day("2026-11-22")),
        Remind::On(day("2028-01-01")),
        Remind::On(NaiveDate::MIN),
    ];
    for remind in bad {
        assert_eq!(
            due(remind, workdays),
            Err(ActError::BadReminder),
            "{remind:?}"
        );
    }
    assert_eq!(due(Remind::InDays(366), None), Ok(day("2027-11-24")));
}

#[test]
fn cases_lie_on_six_tiles_and_wait_on_none() {
    let tiles = [
        Tile::Declining,
        Tile::ReminderDue,
        Tile::OfferRequested,
        Tile::Mailed,
        Tile::NoInterest,
        Tile::WonBack,
    ];
    for ((state, _), tile) in CaseState::WORDS.into_iter().zip(tiles) {
        assert_eq!(in_state(state).tile(today()), Some(tile));
    }
    let waits = in_state(CaseState::Reminder);
    assert_eq!(waits.tile(today().pred_opt().unwrap()), None);
    assert_eq!(
        waits.tile(today().succ_opt().unwrap()),
        Some(Tile::ReminderDue)
    );
}

#[test]
fn texts_are_neither_empty_nor_endless() {
    let long = "ä".repeat(MOST_NOTE + 1);
    for text in ["", " \n", long.as_str()] {
        let text = text.to_owned();
        let note = text.clone();
        for action in [Action::Remark { text }, Action::RequestOffer { note }] {
            assert_eq!(by_anna(&open(), &action), Err(ActError::BadText));
        }
    }
    let text = "ä".repeat(MOST_NOTE);
    assert!(by_anna(&open(), &Action::Remark { text }).is_ok());
}

#[test]
fn who_buys_again_is_back_and_within_the_window_by_the_contact() {
    let case = open();
    assert_eq!(on_order(&case, &[], day("2026-11-20"), 30), OnOrder::Before);
    let OnOrder::WonBack {
        case: won,
        after_contact,
    } = on_order(&case, &[], day("2027-12-20"), 30)
    else {
        panic!("any later order closes the case");
    };
    assert_eq!((won.state, after_contact), (CaseState::WonBack, false));
    assert_eq!(on_order(&won, &[], day("2026-12-20"), 30), OnOrder::Closed);
    // An order from before the contact is not due to it, and none that comes long after.
    let mailed = becomes(by_anna(&case, &Action::Mail(MailTemplate::Standard)));
    let after = |contacts: &[NaiveDate], on: &str| match on_order(&mailed, contacts, day(on), 30) {
        OnOrder::WonBack { after_contact, .. } => Some(after_contact),
        _ => None,
    };
    let contact = |on: &str| after(&[today()], on);
    assert_eq!(contact("2026-12-23"), Some(true));
    assert_eq!(contact("2026-12-24"), Some(false));
    assert_eq!(contact("2026-11-23"), Some(true));
    assert_eq!(contact("2026-11-22"), Some(false));
    // Another contact takes nothing from an earlier one.
    let both = [today(), day("2026-12-20")];
    assert_eq!(after(&both, "2026-12-01"), Some(true));
    assert_eq!(after(&both, "2027-01-10"), Some(true));
    assert_eq!(after(&both, "2027-01-20"), Some(false));
    let lost = in_state(CaseState::NoInterest);
    assert_eq!(on_order(&lost, &[], day("2026-11-25"), 30), OnOrder::Closed);
}
