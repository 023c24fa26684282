//! How plans repeat, and what follows from outcomes, between the wire and the rules.

use anklang_domain::planning::{
    FollowUp, FollowUpChannel, NthWeekday, OutcomeRules, Recurrence, RetryRule, Shape, Weekdays,
};
use anklang_domain::{Violations, name};
use anklang_proto::anklang::planning::v1 as pb;
use pb::recurrence::Rule;
use pb::retry_rule::Then;

use super::{LONGEST_PERSON, is_person};

/// Reads a recurrence at `field`.
pub fn read(
    field: &str,
    given: Option<&pb::Recurrence>,
    violations: &mut Violations,
) -> Option<Recurrence> {
    let Some(rule) = given.and_then(|given| given.rule.as_ref()) else {
        violations.add(field, "is required: one of its rules");
        return None;
    };
    let before = violations.iter().count();
    let shape = match rule {
        Rule::Weekly(weekly) => Shape::Weekly {
            every: every(
                &format!("{field}.weekly.every_weeks"),
                weekly.every_weeks,
                violations,
            ),
            weekdays: violations
                .check(
                    format!("{field}.weekly.weekdays"),
                    Weekdays::parse(&weekly.weekdays),
                )
                .unwrap_or(Weekdays::ANY),
        },
        Rule::MonthlyByDay(monthly) => Shape::MonthlyByDay {
            every: every(
                &format!("{field}.monthly_by_day.every_months"),
                monthly.every_months,
                violations,
            ),
            days: small(
                &format!("{field}.monthly_by_day.days"),
                &monthly.days,
                violations,
            ),
        },
        Rule::MonthlyByWeekday(monthly) => Shape::MonthlyByWeekday {
            every: every(
                &format!("{field}.monthly_by_weekday.every_months"),
                monthly.every_months,
                violations,
            ),
            on: on(
                &format!("{field}.monthly_by_weekday.on"),
                &monthly.on,
                violations,
            ),
        },
        Rule::Rrule(text) => Shape::Rule(text.clone()),
    };
    if violations.iter().count() > before {
        return None;
    }
    violations.check(field, Recurrence::new(shape))
}

fn every(field: &str, number: i32, violations: &mut Violations) -> u16 {
    if !(0..=1_000).contains(&number) {
        violations.add(field, "must be 1 to 1,000, or 0 for 1");
    }
    u16::try_from(number).unwrap_or(1).max(1)
}

fn small(field: &str, numbers: &[i32], violations: &mut Violations) -> Vec<i8> {
    if numbers.is_empty() || numbers.len() > 62 {
        violations.add(field, "must be 1 to 62 days");
    }
    let read = |number: &i32| i8::try_from(*number).ok();
    let read: Option<Vec<i8>> = numbers.iter().map(read).collect();
    violations
        .check(field, read.ok_or("must be 1 to 31 or -1 to -31"))
        .unwrap_or_default()
}

fn on(field: &str, given: &[pb::NthWeekday], violations: &mut Violations) -> Vec<NthWeekday> {
    if given.is_empty() || given.len() > 63 {
        violations.add(field, "must be 1 to 63 weekdays");
    }
    let mut all = Vec::new();
    for (i, on) in given.iter().take(63).enumerate() {
        let weekday = Weekdays::parse(&[&on.weekday]).map(|days| days.iter().next());
        let weekday = violations.check(format!("{field}[{i}].weekday"), weekday);
        let nth = i8::try_from(on.nth).ok();
        let nth = nth.filter(|nth| *nth != 0 && (-4..=5).contains(nth));
        let nth = nth.ok_or("must be 1 to 5 or -1 to -4");
        let nth = violations.check(format!("{field}[{i}].nth"), nth);
        if let (Some(Some(weekday)), Some(nth)) = (weekday, nth) {
            all.push(NthWeekday { nth, weekday });
        }
    }
    all
}

/// A recurrence on the wire.
pub fn to_wire(recurrence: &Recurrence) -> pb::Recurrence {
    let words = |days: Weekdays| days.words().into_iter().map(str::to_owned).collect();
    let rule = match recurrence.shape() {
        Shape::Weekly { every, weekdays } => Rule::Weekly(pb::WeeklyRecurrence {
            weekdays: words(*weekdays),
            every_weeks: (*every).into(),
        }),
        Shape::MonthlyByDay { every, days } => Rule::MonthlyByDay(pb::MonthlyByDayRecurrence {
            days: days.iter().map(|day| (*day).into()).collect(),
            every_months: (*every).into(),
        }),
        Shape::MonthlyByWeekday { every, on } => {
            let on = on.iter().map(|on| pb::NthWeekday {
                nth: on.nth.into(),
                weekday: Weekdays::new([on.weekday])
                    .and_then(|day| day.words().first().map(|word| (*word).to_owned()))
                    .unwrap_or_default(),
            });
            Rule::MonthlyByWeekday(pb::MonthlyByWeekdayRecurrence {
                on: on.collect(),
                every_months: (*every).into(),
            })
        }
        Shape::Rule(text) => Rule::Rrule(text.clone()),
    };
    pb::Recurrence { rule: Some(rule) }
}

/// Reads what follows from outcomes; what is not given is by default.
pub fn read_rules(
    field: &str,
    given: Option<&pb::OutcomeRules>,
    violations: &mut Violations,
) -> OutcomeRules {
    let mut rules = OutcomeRules::default();
    let Some(given) = given else {
        return rules;
    };
    for (name, given, rule) in [
        ("not_reached", &given.not_reached, &mut rules.not_reached),
        ("busy", &given.busy, &mut rules.busy),
        ("call_later", &given.call_later, &mut rules.call_later),
    ] {
        let field = format!("{field}.{name}");
        if let Some(read) = given.as_ref().and_then(|g| retry(&field, g, violations)) {
            *rule = read;
        }
    }
    rules
}

fn retry(field: &str, given: &pb::RetryRule, violations: &mut Violations) -> Option<RetryRule> {
    let or = |number: i32, default: u32| match number {
        0 => default,
        // What is below 0 is refused as too small.
        number => u32::try_from(number).unwrap_or(0),
    };
    let first = or(given.first_minutes, 0);
    let then = match &given.then {
        None => FollowUp::Close,
        Some(Then::FollowUpChannel(channel)) => match pb::FollowUpChannel::try_from(*channel) {
            Ok(pb::FollowUpChannel::Sms) => FollowUp::Channel(FollowUpChannel::Sms),
            Ok(pb::FollowUpChannel::Mail) => FollowUp::Channel(FollowUpChannel::Mail),
            _ => {
                violations.add(format!("{field}.follow_up_channel"), "must be SMS or MAIL");
                return None;
            }
        },
        Some(Then::EscalateTo(role)) => {
            let field = format!("{field}.escalate_to");
            let [role] = violations.check(&field[..], name::parse(role, ["roles"]))?;
            // Nobody could ask for the contacts of another.
            if !is_person(&role) {
                let rule = format!("must be roles/{{role}}, of 1 to {LONGEST_PERSON} characters");
                violations.add(field, rule);
                return None;
            }
            FollowUp::Escalate { role }
        }
    };
    let made = RetryRule::new(
        first,
        or(given.factor_percent, 100),
        or(given.longest_minutes, first),
        or(given.max_attempts, 0),
        then,
    );
    match made {
        Ok(rule) => Some(rule),
        Err(found) => {
            for violation in found.into_vec() {
                let name = match &violation.field[..] {
                    "then.role" => "escalate_to",
                    name => name,
                };
                violations.add(format!("{field}.{name}"), violation.reason);
            }
            None
        }
    }
}

/// What follows from outcomes, on the wire.
pub fn rules_to_wire(rules: &OutcomeRules) -> pb::OutcomeRules {
    let minutes = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let retry = |rule: &RetryRule| pb::RetryRule {
        first_minutes: minutes(rule.first_minutes()),
        factor_percent: minutes(rule.factor_percent()),
        longest_minutes: minutes(rule.longest_minutes()),
        max_attempts: minutes(rule.max_attempts()),
        then: match rule.then() {
            FollowUp::Close => None,
            FollowUp::Channel(channel) => Some(Then::FollowUpChannel(
                match channel {
                    FollowUpChannel::Sms => pb::FollowUpChannel::Sms,
                    FollowUpChannel::Mail => pb::FollowUpChannel::Mail,
                }
                .into(),
            )),
            FollowUp::Escalate { role } => Some(Then::EscalateTo(name::format(&[("roles", role)]))),
        },
    };
    pb::OutcomeRules {
        not_reached: Some(retry(&rules.not_reached)),
        busy: Some(retry(&rules.busy)),
        call_later: Some(retry(&rules.call_later)),
    }
}
