//! Rules of RFC 5545, for days alone: the one place that uses the crate `rrule`.
//!
//! Texts are read here and not by the crate, which panics on some that are not ASCII, takes `XYMO` for
//! `MO`, and knows no days without times. What it expands are rules that were checked here, from noon in
//! UTC, so that no clock is ever put forward or back. Where the crate departs from the RFC:
//! - weekdays with and without a number in one BYDAY give nothing: refused here;
//! - BYSETPOS counts in the first week from DTSTART on: a weekly rule begins with the week's first day,
//!   and what comes before `start` is left out;
//! - BYWEEKNO loses days of the first and the last week of some years, and without other days means all
//!   days of the week: it is not given to the crate, but what comes out is filtered by it, and the
//!   weekday of DTSTART is given instead. BYSETPOS and INTERVAL along with it are refused;
//! - it looks for dates of a rule that has none until the year 10,000: such rules are refused, and it
//!   gives up after 100,000 periods.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc, Weekday};
use rrule::{NWeekday, RRule, Tz, Unvalidated};

use super::{DateRange, LAST_DAY};

/// The largest number of periods between two repetitions.
pub(super) const MOST_EVERY: u16 = 1_000;
/// No text of a rule is longer, in bytes.
const LONGEST: usize = 500;

/// Where a cycle of leap years begins.
const CYCLE: NaiveDate = NaiveDate::from_ymd_opt(2000, 1, 1).expect("there is this day");

/// How often: the periods that a rule speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Frequency {
    Yearly,
    Monthly,
    Weekly,
    Daily,
}

impl Frequency {
    const WORDS: [(Frequency, &'static str); 4] = [
        (Frequency::Yearly, "YEARLY"),
        (Frequency::Monthly, "MONTHLY"),
        (Frequency::Weekly, "WEEKLY"),
        (Frequency::Daily, "DAILY"),
    ];
}

const WEEKDAYS: [(Weekday, &str); 7] = [
    (Weekday::Mon, "MO"),
    (Weekday::Tue, "TU"),
    (Weekday::Wed, "WE"),
    (Weekday::Thu, "TH"),
    (Weekday::Fri, "FR"),
    (Weekday::Sat, "SA"),
    (Weekday::Sun, "SU"),
];

/// A rule without times, COUNT and UNTIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) freq: Frequency,
    pub(super) interval: u16,
    pub(super) week_start: Weekday,
    pub(super) by_day: Vec<(Option<i16>, Weekday)>,
    pub(super) by_month: Vec<u8>,
    pub(super) by_month_day: Vec<i8>,
    pub(super) by_year_day: Vec<i16>,
    pub(super) by_week_no: Vec<i8>,
    pub(super) by_set_pos: Vec<i32>,
}

impl Rule {
    pub(super) fn every(freq: Frequency, interval: u16) -> Rule {
        Rule {
            freq,
            interval,
            week_start: Weekday::Mon,
            by_day: Vec::new(),
            by_month: Vec::new(),
            by_month_day: Vec::new(),
            by_year_day: Vec::new(),
            by_week_no: Vec::new(),
            by_set_pos: Vec::new(),
        }
    }

    /// Reads a text such as `FREQ=WEEKLY;BYDAY=TU,TH`. What it says is checked by `check`.
    pub(super) fn parse(text: &str) -> Result<Rule, String> {
        if text.len() > LONGEST {
            return Err(format!("must have at most {LONGEST} bytes"));
        }
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_prefix("RRULE:").unwrap_or(&text);
        let mut rule = Rule::every(Frequency::Yearly, 1);
        let mut seen = Vec::new();
        for part in text.split(';') {
            let (name, value) = part
                .split_once('=')
                .ok_or("must be a rule of RFC 5545, as in FREQ=WEEKLY;BYDAY=TU,TH")?;
            if seen.contains(&name) {
                return Err(format!("must not have {name} twice"));
            }
            seen.push(name);
            rule.read_part(name, value)?;
        }
        if !seen.contains(&"FREQ") {
            return Err("must have FREQ, one of DAILY, WEEKLY, MONTHLY, YEARLY".into());
        }
        Ok(rule)
    }

    fn read_part(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "FREQ" => {
                let mut words = Frequency::WORDS.into_iter();
                let found = words.find(|(_, word)| *word == value);
                self.freq = found.map(|(freq, _)| freq).ok_or(
                    "must have a FREQ of DAILY, WEEKLY, MONTHLY or YEARLY: \
                     a plan has at most one contact a day",
                )?;
            }
            "INTERVAL" => {
                self.interval = value
                    .parse()
                    .map_err(|_| format!("must have an INTERVAL of 1 to {MOST_EVERY}"))?;
            }
            "WKST" => {
                self.week_start = read_weekday(value).ok_or("must have a WKST of MO to SU")?
            }
            "BYDAY" => self.by_day = read_all(name, value, read_by_day)?,
            "BYMONTH" => self.by_month = read_all(name, value, |text| text.parse().ok())?,
            "BYMONTHDAY" => self.by_month_day = read_all(name, value, |text| text.parse().ok())?,
            "BYYEARDAY" => self.by_year_day = read_all(name, value, |text| text.parse().ok())?,
            "BYWEEKNO" => self.by_week_no = read_all(name, value, |text| text.parse().ok())?,
            "BYSETPOS" => self.by_set_pos = read_all(name, value, |text| text.parse().ok())?,
            "COUNT" | "UNTIL" => {
                return Err(format!(
                    "must not have {name}: the plan's validity says when it ends"
                ));
            }
            "BYHOUR" | "BYMINUTE" | "BYSECOND" => {
                return Err(format!(
                    "must not have {name}: the time is that of each customer's entry"
                ));
            }
            _ => {
                return Err(format!(
                    "must not have {name:?}, which RFC 5545 does not know"
                ));
            }
        }
        Ok(())
    }

    /// Checks what RFC 5545 and the crate ask for, and that the rule can have a date at all.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=MOST_EVERY).contains(&self.interval) {
            return Err(format!("must have an INTERVAL of 1 to {MOST_EVERY}"));
        }
        self.check_numbers()?;
        self.check_parts()?;
        // Whatever its interval and start, it comes in a whole cycle of leap years.
        let mut some = Rule {
            interval: 1,
            ..self.clone()
        };
        if some.takes_weekday_from_start() {
            some.by_day = WEEKDAYS.map(|(day, _)| (None, day)).to_vec();
        }
        let first = some
            .expand(CYCLE, LAST_DAY)
            .map_err(|error| format!("must be a rule of RFC 5545: {error}"))?
            .next();
        match first {
            Some(_) => Ok(()),
            None => Err("must have a date at all".into()),
        }
    }

    fn check_numbers(&self) -> Result<(), String> {
        let within = |name: &str, numbers: Vec<i32>, most: i32, least: i32| {
            let good = |number: &i32| (least..=most).contains(number) && *number != 0;
            match numbers.iter().all(good) {
                true => Ok(()),
                false if least > 0 => Err(format!("must have numbers of 1 to {most} in {name}")),
                false => Err(format!(
                    "must have numbers of 1 to {most} or -1 to {least} in {name}"
                )),
            }
        };
        let (by_day, by_set) = match self.freq {
            Frequency::Monthly => ((5, -4), 31),
            Frequency::Weekly => ((53, -52), 7),
            _ => ((53, -52), 366),
        };
        let nth = self.by_day.iter().filter_map(|(nth, _)| *nth);
        within("BYDAY", nth.map(i32::from).collect(), by_day.0, by_day.1)?;
        within(
            "BYMONTH",
            self.by_month.iter().map(|n| (*n).into()).collect(),
            12,
            1,
        )?;
        let days = self.by_month_day.iter().map(|n| (*n).into()).collect();
        within("BYMONTHDAY", days, 31, -31)?;
        let days = self.by_year_day.iter().map(|n| (*n).into()).collect();
        within("BYYEARDAY", days, 366, -366)?;
        let weeks = self.by_week_no.iter().map(|n| (*n).into()).collect();
        within("BYWEEKNO", weeks, 53, -53)?;
        within("BYSETPOS", self.by_set_pos.clone(), by_set, -by_set)
    }

    fn check_parts(&self) -> Result<(), String> {
        use Frequency::{Daily, Monthly, Weekly, Yearly};
        let numbered = self.by_day.iter().filter(|(nth, _)| nth.is_some()).count();
        let others = [
            self.by_day.is_empty(),
            self.by_month.is_empty(),
            self.by_month_day.is_empty(),
            self.by_year_day.is_empty(),
            self.by_week_no.is_empty(),
        ];
        let refuse = if numbered > 0 && matches!(self.freq, Weekly | Daily) {
            "must not have weekdays with numbers unless FREQ is MONTHLY or YEARLY"
        } else if numbered > 0 && !self.by_week_no.is_empty() {
            "must not have BYWEEKNO along with weekdays with numbers"
        } else if numbered > 0 && numbered < self.by_day.len() {
            "must have either a number with each weekday in BYDAY or none with any"
        } else if !self.by_month_day.is_empty() && self.freq == Weekly {
            "must not have BYMONTHDAY when FREQ is WEEKLY"
        } else if !self.by_year_day.is_empty() && matches!(self.freq, Daily | Weekly | Monthly) {
            "must not have BYYEARDAY unless FREQ is YEARLY"
        } else if !self.by_week_no.is_empty() && self.freq != Yearly {
            "must not have BYWEEKNO unless FREQ is YEARLY"
        } else if !self.by_week_no.is_empty() && !self.by_set_pos.is_empty() {
            "must not have BYSETPOS along with BYWEEKNO"
        } else if !self.by_week_no.is_empty() && self.interval != 1 {
            "must not have an INTERVAL along with BYWEEKNO: weeks can lie in two years"
        } else if !self.by_set_pos.is_empty() && others == [true; 5] {
            "must not have BYSETPOS without another BY part"
        } else {
            return Ok(());
        };
        Err(refuse.into())
    }

    /// The dates in a range, ascending, of a rule that begins on `start`.
    pub(super) fn dates(&self, start: NaiveDate, range: DateRange) -> Vec<NaiveDate> {
        if range.last() < start {
            return Vec::new();
        }
        let first = range.first().max(start);
        let Ok(dates) = self.expand(start, range.last()) else {
            // Unreachable: `check` has expanded it, and nothing that can fail depends on the dates.
            return Vec::new();
        };
        dates.skip_while(|date| *date < first).collect()
    }

    /// The dates from `start`, or a little before it, to `until`, ascending.
    fn expand(
        &self,
        start: NaiveDate,
        until: NaiveDate,
    ) -> Result<impl Iterator<Item = NaiveDate>, rrule::RRuleError> {
        let begin = match self.freq {
            Frequency::Weekly => start.week(self.week_start).first_day(),
            _ => start,
        };
        let rule = self.for_crate(start).until(noon(until));
        let set = rule.build(noon(begin))?.limit();
        let mut dates = set.into_iter();
        let all = std::iter::from_fn(move || dates.next().map(|time| time.date_naive()));
        Ok(all.filter(|date| self.is_in_weeks(*date)))
    }

    /// Whether a date is in one of the weeks of BYWEEKNO. A week belongs to the year in which four of
    /// its days lie.
    fn is_in_weeks(&self, date: NaiveDate) -> bool {
        if self.by_week_no.is_empty() {
            return true;
        }
        let fourth = date.week(self.week_start).first_day() + Days::new(3);
        let days = if fourth.leap_year() { 366 } else { 365 };
        let week = fourth.ordinal0() / 7 + 1;
        let weeks = (days - 1 - fourth.ordinal0() % 7) / 7 + 1;
        let mut numbers = self.by_week_no.iter().map(|number| i64::from(*number));
        numbers.any(|number| {
            number == i64::from(week) || number == i64::from(week) - i64::from(weeks) - 1
        })
    }

    fn takes_weekday_from_start(&self) -> bool {
        let no_days =
            self.by_day.is_empty() && self.by_month_day.is_empty() && self.by_year_day.is_empty();
        no_days && (self.freq == Frequency::Weekly || !self.by_week_no.is_empty())
    }

    fn for_crate(&self, start: NaiveDate) -> RRule<Unvalidated> {
        let freq = match self.freq {
            Frequency::Yearly => rrule::Frequency::Yearly,
            Frequency::Monthly => rrule::Frequency::Monthly,
            Frequency::Weekly => rrule::Frequency::Weekly,
            Frequency::Daily => rrule::Frequency::Daily,
        };
        let mut by_day: Vec<NWeekday> = self
            .by_day
            .iter()
            .map(|(nth, day)| NWeekday::new(*nth, *day))
            .collect();
        if self.takes_weekday_from_start() {
            by_day.push(NWeekday::Every(start.weekday()));
        }
        let months = self.by_month.iter();
        let months: Vec<chrono::Month> = months.filter_map(|n| (*n).try_into().ok()).collect();
        RRule::new(freq)
            .interval(self.interval)
            .week_start(self.week_start)
            .by_weekday(by_day)
            .by_month(&months)
            .by_month_day(self.by_month_day.clone())
            .by_year_day(self.by_year_day.clone())
            .by_set_pos(self.by_set_pos.clone())
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = Frequency::WORDS.iter();
        let freq = words.filter(|(freq, _)| *freq == self.freq);
        freq.map(|(_, word)| word)
            .try_for_each(|word| write!(f, "FREQ={word}"))?;
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        if self.week_start != Weekday::Mon {
            write!(f, ";WKST={}", weekday_word(self.week_start))?;
        }
        let days = self.by_day.iter().map(|(nth, day)| {
            let nth = nth.map(|nth| nth.to_string()).unwrap_or_default();
            nth + weekday_word(*day)
        });
        write_all(f, "BYDAY", days)?;
        write_all(f, "BYMONTH", self.by_month.iter())?;
        write_all(f, "BYMONTHDAY", self.by_month_day.iter())?;
        write_all(f, "BYYEARDAY", self.by_year_day.iter())?;
        write_all(f, "BYWEEKNO", self.by_week_no.iter())?;
        write_all(f, "BYSETPOS", self.by_set_pos.iter())
    }
}

fn write_all<T: std::fmt::Display>(
    f: &mut std::fmt::Formatter<'_>,
    name: &str,
    values: impl Iterator<Item = T>,
) -> std::fmt::Result {
    for (i, value) in values.enumerate() {
        match i {
            0 => write!(f, ";{name}={value}")?,
            _ => write!(f, ",{value}")?,
        }
    }
    Ok(())
}

fn noon(date: NaiveDate) -> DateTime<Tz> {
    const NOON: NaiveTime = NaiveTime::from_hms_opt(12, 0, 0).expect("there is a noon");
    let noon: DateTime<Utc> = date.and_time(NOON).and_utc();
    noon.with_timezone(&Tz::UTC)
}

fn read_all<T>(
    name: &str,
    value: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, String> {
    let values: Option<Vec<T>> = value.split(',').map(read).collect();
    values.ok_or_else(|| match name {
        "BYDAY" => {
            "must have weekdays MO to SU in BYDAY, with numbers as in 2TU or -1FR or without".into()
        }
        _ => format!("must have whole numbers in {name}"),
    })
}

fn read_by_day(text: &str) -> Option<(Option<i16>, Weekday)> {
    let (number, day) = text.split_at_checked(text.len().checked_sub(2)?)?;
    let number = match number {
        "" => None,
        number => Some(number.parse().ok()?),
    };
    Some((number, read_weekday(day)?))
}

fn read_weekday(word: &str) -> Option<Weekday> {
    let mut words = WEEKDAYS.into_iter();
    words.find_map(|(day, known)| (known == word).then_some(day))
}

fn weekday_word(day: Weekday) -> &'static str {
    let mut words = WEEKDAYS.into_iter();
    words
        .find_map(|(known, word)| (known == day).then_some(word))
        .unwrap_or("")
}
