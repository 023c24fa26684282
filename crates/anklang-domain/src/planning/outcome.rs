//! What follows when somebody has tried to reach a customer.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{Calendar, EntryTimes};
use crate::Violations;
use crate::window::changes;

/// How a contact, or an attempt at it, went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeClass {
    /// It took place.
    Done,
    /// It took place, with an order.
    OrderTaken,
    /// Nobody answered.
    NotReached,
    /// The line was busy.
    Busy,
    /// The customer asked to be called later.
    CallLater,
    /// It is not to take place any more.
    Cancelled,
}

impl OutcomeClass {
    /// All of them, with their words.
    pub const WORDS: [(OutcomeClass, &'static str); 6] = [
        (OutcomeClass::Done, "done"),
        (OutcomeClass::OrderTaken, "order_taken"),
        (OutcomeClass::NotReached, "not_reached"),
        (OutcomeClass::Busy, "busy"),
        (OutcomeClass::CallLater, "call_later"),
        (OutcomeClass::Cancelled, "cancelled"),
    ];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// Reads its word.
    pub fn parse(word: &str) -> Option<Self> {
        let mut words = Self::WORDS.into_iter();
        words.find_map(|(class, known)| (known == word).then_some(class))
    }

    /// Whether the contact is over for good: it cannot be reopened.
    pub fn is_final(self) -> bool {
        use OutcomeClass::{Cancelled, Done, OrderTaken};
        matches!(self, Done | OrderTaken | Cancelled)
    }
}

/// When to try again after one kind of outcome, and what comes when that has been enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRule", into = "RawRule")]
pub struct RetryRule(RawRule);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    first_minutes: u32,
    factor_percent: u32,
    longest_minutes: u32,
    max_attempts: u32,
    then: FollowUp,
}

/// What follows when a contact has been tried as often as it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FollowUp {
    /// Nothing: it is closed as not reached.
    Close,
    /// The customer is written to.
    Channel(FollowUpChannel),
    /// Somebody else takes over.
    Escalate {
        /// The role that does; not empty, at most 100 characters.
        role: String,
    },
}

/// How a customer is written to who was not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FollowUpChannel {
    /// By SMS.
    Sms,
    /// By mail.
    Mail,
}

impl FollowUpChannel {
    /// The word of the ledger and of consents.
    pub fn as_str(self) -> &'static str {
        match self {
            FollowUpChannel::Sms => "sms",
            FollowUpChannel::Mail => "mail",
        }
    }
}

/// The message by which a plan writes to customers on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUpMessage {
    /// The channel.
    pub channel: FollowUpChannel,
    /// Id of the channel account.
    pub account: String,
    /// Code of the brand whose template it is.
    pub brand: String,
    /// Key of the template.
    pub template: String,
    /// Purpose of the consent that is needed.
    pub purpose: String,
}

/// The longest delay, in minutes: 90 days.
const LONGEST_MINUTES: u32 = 90 * 24 * 60;
const MOST_ATTEMPTS: u32 = 100;
const MOST_PERCENT: u32 = 1_000;

impl RetryRule {
    /// Waits `first_minutes` (1 to 129,600, which is 90 days) before the second attempt, and before each
    /// further one `factor_percent` (100 to 1,000) of the wait before, but at most `longest_minutes`
    /// (from `first_minutes` to 129,600); 100 percent is always the same wait. After `max_attempts` (1
    /// to 100) attempts comes `then`.
    ///
    /// # Errors
    /// All that is wrong, for the fields of the names of the arguments; `then.role` for a role.
    pub fn new(
        first_minutes: u32,
        factor_percent: u32,
        longest_minutes: u32,
        max_attempts: u32,
        then: FollowUp,
    ) -> Result<RetryRule, Violations> {
        let mut violations = Violations::new();
        let mut within = |field, value, least, most| {
            if !(least..=most).contains(&value) {
                violations.add(field, format!("must be {least} to {most}"));
            }
        };
        within("first_minutes", first_minutes, 1, LONGEST_MINUTES);
        within("factor_percent", factor_percent, 100, MOST_PERCENT);
        let least = first_minutes.clamp(1, LONGEST_MINUTES);
        within("longest_minutes", longest_minutes, least, LONGEST_MINUTES);
        within("max_attempts", max_attempts, 1, MOST_ATTEMPTS);
        if let FollowUp::Escalate { role } = &then
            && (role.trim().is_empty() || role.chars().count() > 100)
        {
            violations.add("then.role", "must be a role of 1 to 100 characters");
        }
        violations.finish(RetryRule(RawRule {
            first_minutes,
            factor_percent,
            longest_minutes,
            max_attempts,
            then,
        }))
    }

    /// The wait after so many attempts, at least 1.
    pub fn delay(&self, attempts: u32) -> TimeDelta {
        let longest = u64::from(self.0.longest_minutes);
        let mut minutes = u64::from(self.0.first_minutes);
        for _ in 1..attempts.min(MOST_ATTEMPTS) {
            minutes = (minutes * u64::from(self.0.factor_percent) / 100).min(longest);
        }
        TimeDelta::minutes(minutes.try_into().unwrap_or_default())
    }

    /// At most so many attempts.
    pub fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// What follows after them.
    pub fn then(&self) -> &FollowUp {
        &self.0.then
    }

    /// Wait before the second attempt, in minutes.
    pub fn first_minutes(&self) -> u32 {
        self.0.first_minutes
    }

    /// Each wait in percent of the one before.
    pub fn factor_percent(&self) -> u32 {
        self.0.factor_percent
    }

    /// The longest wait, in minutes.
    pub fn longest_minutes(&self) -> u32 {
        self.0.longest_minutes
    }
}

impl TryFrom<RawRule> for RetryRule {
    type Error = Violations;

    fn try_from(raw: RawRule) -> Result<Self, Self::Error> {
        RetryRule::new(
            raw.first_minutes,
            raw.factor_percent,
            raw.longest_minutes,
            raw.max_attempts,
            raw.then,
        )
    }
}

impl From<RetryRule> for RawRule {
    fn from(rule: RetryRule) -> Self {
        rule.0
    }
}

/// A plan's rules for the outcomes that are not final. Stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeRules {
    /// Nobody answered.
    pub not_reached: RetryRule,
    /// The line was busy.
    pub busy: RetryRule,
    /// The customer asked to be called later, without saying when.
    pub call_later: RetryRule,
}

impl Default for OutcomeRules {
    /// Not reached: after 2 hours, doubled up to a day, 5 attempts. Busy: every 15 minutes, 8 attempts.
    /// Call later: after 4 hours, 5 attempts. Then it is closed.
    fn default() -> Self {
        let rule = |first, percent, longest, attempts| {
            RetryRule::new(first, percent, longest, attempts, FollowUp::Close)
                .expect("they are within the limits")
        };
        OutcomeRules {
            not_reached: rule(120, 200, 24 * 60, 5),
            busy: rule(15, 100, 15, 8),
            call_later: rule(240, 100, 240, 5),
        }
    }
}

impl OutcomeRules {
    /// The rule for an outcome; `None` for final ones.
    pub fn of(&self, class: OutcomeClass) -> Option<&RetryRule> {
        match class {
            OutcomeClass::NotReached => Some(&self.not_reached),
            OutcomeClass::Busy => Some(&self.busy),
            OutcomeClass::CallLater => Some(&self.call_later),
            OutcomeClass::Done | OutcomeClass::OrderTaken | OutcomeClass::Cancelled => None,
        }
    }
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the contact is over, and stays so.
    Final,
    /// Another attempt.
    Again {
        /// When.
        at: DateTime<Utc>,
        /// Whether that is outside of the customer's hours or no workday, as the customer wished: for a
        /// warning.
        outside: bool,
    },
    /// It has been tried often enough.
    FollowUp(FollowUp),
}

/// What follows an outcome. `rule` is the one of the outcome ([`OutcomeRules::of`]; `None`: it is
/// final), `attempts` counts those made, this one included, and `wish` is when the customer asked to be
/// called back.
///
/// A wish after `now` holds as it is, also outside of the hours and after the last attempt; one that
/// is over counts as none. Otherwise the wait of the rule is taken, and if that ends outside of the
/// hours or on no workday the next moment within them: the earliest time of that day or of the next
/// workday. Without a workday in [`super::SEARCH_DAYS`] it is as after the last attempt.
pub fn after_outcome(
    rule: Option<&RetryRule>,
    attempts: u32,
    now: DateTime<Utc>,
    wish: Option<DateTime<Utc>>,
    times: &EntryTimes,
    calendar: &Calendar,
    zone: Tz,
) -> Next {
    let Some(rule) = rule else {
        return Next::Final;
    };
    if let Some(at) = wish.filter(|wish| *wish > now) {
        let outside = !is_open(at, times, calendar, zone);
        return Next::Again { at, outside };
    }
    let again = (attempts < rule.max_attempts())
        .then(|| now + rule.delay(attempts))
        .and_then(|time| within_hours(time, times, calendar, zone));
    match again {
        Some(at) => Next::Again { at, outside: false },
        None => Next::FollowUp(rule.then().clone()),
    }
}

fn local_date(time: DateTime<Utc>, zone: Tz) -> NaiveDate {
    time.with_timezone(&zone).date_naive()
}

fn is_open(time: DateTime<Utc>, times: &EntryTimes, calendar: &Calendar, zone: Tz) -> bool {
    times.is_within(time, zone) && calendar.is_workday(local_date(time, zone))
}

/// The first moment from `time` on that is within the hours of a workday, or the beginning of the
/// hours of a later one.
fn within_hours(
    time: DateTime<Utc>,
    times: &EntryTimes,
    calendar: &Calendar,
    zone: Tz,
) -> Option<DateTime<Utc>> {
    if is_open(time, times, calendar, zone) {
        return Some(time);
    }
    let today = local_date(time, zone);
    let days = std::iter::once(today).chain(calendar.workdays_after(today));
    let opens = days.flat_map(|day| changes(day.and_time(times.earliest()), zone));
    // Where clocks leave out all of the hours, they are not within them when they jump.
    opens
        .flatten()
        .find(|at| *at > time && is_open(*at, times, calendar, zone))
}
