//! Naive models, written from RFC 5545 and from the words of the domain, day by day. They share no
//! code with what they measure but its types.

use std::collections::BTreeMap;

use chrono::{Datelike, Days, NaiveDate, Weekday};

use super::super::rule::{Frequency, Rule};
use super::*;

/// The dates of a rule in a range: all days of each period that its parts let through, then those at
/// the positions of BYSETPOS, then those from the start on.
pub fn rule_dates(
    rule: &Rule,
    start: NaiveDate,
    first: NaiveDate,
    last: NaiveDate,
) -> Vec<NaiveDate> {
    let mut periods: BTreeMap<i64, Vec<NaiveDate>> = BTreeMap::new();
    // From and to beyond any period.
    let mut day = start - Days::new(400);
    while day <= last + Days::new(400) {
        let number = period(rule, day) - period(rule, start);
        if number >= 0 && number % i64::from(rule.interval) == 0 && is_let_through(rule, start, day)
        {
            periods.entry(number).or_default().push(day);
        }
        day = day + Days::new(1);
    }
    let mut dates: Vec<NaiveDate> = Vec::new();
    for days in periods.into_values() {
        if rule.by_set_pos.is_empty() {
            dates.extend(days);
            continue;
        }
        let length = i32::try_from(days.len()).unwrap();
        for (at, day) in (1..).zip(days) {
            if rule
                .by_set_pos
                .iter()
                .any(|pos| *pos == at || *pos == at - length - 1)
            {
                dates.push(day);
            }
        }
    }
    dates.retain(|day| (first..=last).contains(day) && *day >= start);
    dates
}

fn days_since(from: NaiveDate, to: NaiveDate) -> i64 {
    (to - from).num_days()
}

/// The number of the period in which a day lies.
fn period(rule: &Rule, day: NaiveDate) -> i64 {
    let year = i64::from(day.year());
    match rule.freq {
        Frequency::Daily => days_since(NaiveDate::default(), day),
        Frequency::Weekly => {
            // The first week start there is at or before the day, in whole weeks of a fixed one.
            let mut begin = NaiveDate::from_ymd_opt(1900, 1, 1).unwrap();
            while begin.weekday() != rule.week_start {
                begin = begin + Days::new(1);
            }
            days_since(begin, day).div_euclid(7)
        }
        Frequency::Monthly => year * 12 + i64::from(day.month0()),
        Frequency::Yearly => year,
    }
}

fn days_of_month(day: NaiveDate) -> u32 {
    (28..=31)
        .rev()
        .find(|n| day.with_day(*n).is_some())
        .unwrap()
}

fn days_of_year(year: i32) -> i32 {
    if NaiveDate::from_ymd_opt(year, 2, 29).is_some() {
        366
    } else {
        365
    }
}

/// Whether a number counts a place from the beginning, or from the end if it is negative.
fn is_place(number: i32, place: i32, count: i32) -> bool {
    number == place || number == place - count - 1
}

fn is_let_through(rule: &Rule, start: NaiveDate, day: NaiveDate) -> bool {
    let no_days =
        rule.by_day.is_empty() && rule.by_month_day.is_empty() && rule.by_year_day.is_empty();
    if no_days {
        // What the rule does not say is taken from the start.
        let from_start = match rule.freq {
            Frequency::Daily => true,
            Frequency::Weekly => day.weekday() == start.weekday(),
            Frequency::Yearly if !rule.by_week_no.is_empty() => day.weekday() == start.weekday(),
            Frequency::Yearly if rule.by_month.is_empty() => {
                (day.month(), day.day()) == (start.month(), start.day())
            }
            Frequency::Monthly | Frequency::Yearly => day.day() == start.day(),
        };
        if !from_start {
            return false;
        }
    }
    let place = |n: u32| i32::try_from(n).unwrap();
    let any = |numbers: Vec<i32>, at: i32, count: i32| {
        numbers.is_empty()
            || numbers
                .into_iter()
                .any(|number| is_place(number, at, count))
    };
    let month_days = rule.by_month_day.iter().map(|n| i32::from(*n)).collect();
    let year_days = rule.by_year_day.iter().map(|n| i32::from(*n)).collect();
    let in_week = rule.by_week_no.is_empty() || {
        let (week, count) = week_of(rule.week_start, day);
        let mut weeks = rule.by_week_no.iter();
        weeks.any(|number| is_place(i32::from(*number), week, count))
    };
    (rule.by_month.is_empty()
        || rule
            .by_month
            .iter()
            .any(|month| u32::from(*month) == day.month()))
        && any(month_days, place(day.day()), place(days_of_month(day)))
        && any(year_days, place(day.ordinal()), days_of_year(day.year()))
        && in_week
        && (rule.by_day.is_empty()
            || rule.by_day.iter().any(|(nth, weekday)| {
                *weekday == day.weekday() && nth.is_none_or(|nth| is_nth(rule, nth, day))
            }))
}

/// Whether a day is the n-th of its weekday in its month, or its year when the rule is about years.
fn is_nth(rule: &Rule, nth: i16, day: NaiveDate) -> bool {
    let of_month = rule.freq == Frequency::Monthly || !rule.by_month.is_empty();
    let (at, count) = match of_month {
        true => (day.day(), days_of_month(day)),
        false => (
            day.ordinal(),
            u32::try_from(days_of_year(day.year())).unwrap(),
        ),
    };
    let from_begin = i16::try_from((at - 1) / 7 + 1).unwrap();
    let from_end = -i16::try_from((count - at) / 7 + 1).unwrap();
    nth == from_begin || nth == from_end
}

/// The number of a day's week and how many weeks its year has: a week belongs to the year in which
/// four of its days lie.
fn week_of(week_start: Weekday, day: NaiveDate) -> (i32, i32) {
    let mut begin = day;
    while begin.weekday() != week_start {
        begin = begin - Days::new(1);
    }
    let fourth = begin + Days::new(3);
    let year: Vec<NaiveDate> = NaiveDate::from_ymd_opt(fourth.year(), 1, 1)
        .unwrap()
        .iter_days()
        .take_while(|day| day.year() == fourth.year())
        .filter(|day| day.weekday() == fourth.weekday())
        .collect();
    let at = year.iter().position(|day| *day == fourth).unwrap();
    (
        i32::try_from(at).unwrap() + 1,
        i32::try_from(year.len()).unwrap(),
    )
}

/// A company's days in the model: weekdays on which it works, Monday first, but for some days.
#[derive(Debug, Clone)]
pub struct World {
    pub weekdays: [bool; 7],
    pub but: BTreeMap<NaiveDate, bool>,
    pub plan: Plan,
    pub exceptions: Vec<Exception>,
    pub periods: Vec<InactivePeriod>,
}

/// What becomes of one contact of a plan for one customer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A contact, and when goods are delivered after it.
    Contact(Option<NaiveDate>),
    /// Under another plan.
    Other,
    /// The plan has none on the date.
    None,
    /// The customer is inactive.
    Inactive,
}

impl World {
    fn works(&self, day: NaiveDate) -> bool {
        let weekday = day.weekday().num_days_from_monday() as usize;
        self.but
            .get(&day)
            .copied()
            .unwrap_or(self.weekdays[weekday])
    }

    /// Whether the plan's rhythm has a day: weeks are counted from the ISO week of the first day of
    /// validity, months from its month.
    fn recurs(&self, day: NaiveDate) -> bool {
        let start = self.plan.validity.first();
        if day < start || day > self.plan.validity.last() {
            return false;
        }
        let months = |day: NaiveDate| day.year() * 12 + i32::try_from(day.month0()).unwrap();
        let left = days_of_month(day) - day.day();
        match self.plan.recurrence.shape() {
            Shape::Weekly { every, weekdays } => {
                let mut weeks = 0;
                for between in start
                    .iter_days()
                    .skip(1)
                    .take_while(|between| *between <= day)
                {
                    weeks += u16::from(between.weekday() == Weekday::Mon);
                }
                weeks % every == 0 && weekdays.contains(day.weekday())
            }
            Shape::MonthlyByWeekday { every, on } => {
                (months(day) - months(start)) % i32::from(*every) == 0
                    && on.iter().any(|on| {
                        let nth = i32::from(on.nth);
                        let begin = i32::try_from((day.day() - 1) / 7).unwrap() + 1;
                        let end = -(i32::try_from(left / 7).unwrap() + 1);
                        on.weekday == day.weekday() && (nth == begin || nth == end)
                    })
            }
            Shape::MonthlyByDay { every, days } => {
                (months(day) - months(start)) % i32::from(*every) == 0
                    && days.iter().any(|number| {
                        let number = i64::from(*number);
                        number == i64::from(day.day()) || number == -i64::from(left) - 1
                    })
            }
            Shape::Rule(_) => unreachable!("rules have their own model"),
        }
    }

    /// Recurrence date, date, and what happens, for all contacts in the days given.
    pub fn fates(&self, first: NaiveDate, last: NaiveDate) -> Vec<(NaiveDate, NaiveDate, Fate)> {
        let validity = self.plan.validity;
        let all = validity
            .first()
            .iter_days()
            .take_while(|day| *day <= validity.last());
        let mut found: Vec<_> = all
            .filter(|day| self.recurs(*day))
            .map(|on| {
                let (date, fate) = self.fate(on);
                (on, date, fate)
            })
            .collect();
        // Of several contacts on one date, those that do not permit duplicates: one.
        let before = found.clone();
        for (on, date, fate) in &mut found {
            let rival = |(other, there, what): &(NaiveDate, NaiveDate, Fate)| {
                other != on
                    && there == date
                    && matches!(what, Fate::Contact(_))
                    && !self.duplicates(*other)
                    && self.rank(*other, *date) < self.rank(*on, *date)
            };
            if matches!(fate, Fate::Contact(_)) && !self.duplicates(*on) && before.iter().any(rival)
            {
                *fate = Fate::None;
            }
        }
        found.retain(|(_, date, _)| (first..=last).contains(date));
        for (_, date, fate) in &mut found {
            let inactive =
                |period: &InactivePeriod| self.is_inactive(period, DayType::Contact, *date);
            if matches!(fate, Fate::Contact(_)) && self.periods.iter().any(inactive) {
                *fate = Fate::Inactive;
            }
        }
        found.sort();
        found
    }

    fn exception(&self, on: NaiveDate) -> Option<&Exception> {
        self.exceptions.iter().find(|exception| exception.on == on)
    }

    fn duplicates(&self, on: NaiveDate) -> bool {
        self.exception(on)
            .is_some_and(|exception| exception.duplicates)
    }

    /// The plan's own date goes first, then one that a person has moved, then the earlier one.
    fn rank(&self, on: NaiveDate, date: NaiveDate) -> (bool, bool, NaiveDate) {
        let moved = matches!(
            self.exception(on).map(|exception| &exception.change),
            Some(Change::Contact { .. })
        );
        (on != date, !moved, on)
    }

    fn fate(&self, on: NaiveDate) -> (NaiveDate, Fate) {
        let mut date = on;
        let mut delivery = None;
        let mut moves = true;
        match self.exception(on).map(|exception| exception.change.clone()) {
            Some(Change::Nothing) => return (on, Fate::None),
            Some(Change::Plan { .. }) => return (on, Fate::Other),
            Some(Change::Contact {
                date: other,
                delivery: wanted,
            }) => {
                (date, delivery, moves) = (other, wanted, false);
            }
            Some(Change::Delivery { date: wanted }) => delivery = Some(wanted),
            Some(Change::AsPlanned) | None => {}
        }
        if moves && !self.works(date) {
            let step: fn(NaiveDate) -> NaiveDate = match self.plan.on_holiday {
                OnHoliday::Skip => return (on, Fate::None),
                OnHoliday::NextWorkday => |day| day + Days::new(1),
                OnHoliday::PreviousWorkday => |day| day - Days::new(1),
            };
            let mut steps = 0;
            while !self.works(date) {
                date = step(date);
                steps += 1;
                if steps > 60 {
                    return (on, Fate::None);
                }
            }
        }
        if !self.works(date)
            || date < self.plan.validity.first()
            || date > self.plan.validity.last()
        {
            return (date, Fate::None);
        }
        (date, Fate::Contact(self.delivery(date, delivery)))
    }

    /// The next delivery weekday after the contact, or from the exception's date on, that is a workday
    /// and not inactive, within 60 days.
    fn delivery(&self, contact: NaiveDate, wanted: Option<NaiveDate>) -> Option<NaiveDate> {
        let weekdays = self.plan.deliveries?;
        let mut day = wanted
            .filter(|day| *day > contact)
            .unwrap_or(contact + Days::new(1));
        for _ in 0..60 {
            let inactive =
                |period: &InactivePeriod| self.is_inactive(period, DayType::Delivery, day);
            if weekdays.contains(day.weekday())
                && self.works(day)
                && !self.periods.iter().any(inactive)
            {
                return Some(day);
            }
            day = day + Days::new(1);
        }
        None
    }

    fn is_inactive(&self, period: &InactivePeriod, day_type: DayType, day: NaiveDate) -> bool {
        period.day_type == day_type
            && period.days.first() <= day
            && day <= period.days.last()
            && (period.weekday.is_none() || period.weekday == Some(day.weekday()))
    }
}
