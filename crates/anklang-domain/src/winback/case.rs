//! A winback case: its states, what people do with it, and how it ends.
//!
//! ```text
//! declining ─┬─ remind ────────▶ reminder         ┐
//!            ├─ request an offer ▶ offer_requested ├─ each of these again, in any order
//!            ├─ mail ──────────▶ mailed           ┘
//!            ├─ no further interest ▶ no_interest    final
//!            └─ an order arrives ─▶ won_back         final
//! ```
//!
//! Of the seven things that people do with a case five change it ([`Action`]); the other two, looking
//! at its status and going to the next one, read. Nothing leaves a final state; a remark can be
//! added to any case, at any time.
//!
//! Each case lies on one [`Tile`], but for those that wait for their reminder, which lie on none
//! until it is due.
//!
//! # Who may
//! A person holds the case that they work on ([`claim`]) for a time; until it ends nobody else may act on
//! it, also no campaign. On a case that nobody holds any person of the tenant may act.
//! Campaigns mail and do nothing else. What a person has promised survives their mails: a reminder keeps its
//! day, and an offer that was asked for is still to be made. A template goes out once for each case, whoever
//! sends it.

use chrono::{DateTime, Days, NaiveDate, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::planning::Calendar;

/// Days of a reminder unless somebody says otherwise.
pub const REMINDER_DAYS: u32 = 10;
/// The furthest reminder, in days from today.
pub const MOST_REMINDER_DAYS: u32 = 366;
/// Longest note or remark, in characters.
pub const MOST_NOTE: usize = 4_000;

/// State of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaseState {
    /// Found, and nobody has done anything yet.
    Declining,
    /// Put off to a day.
    Reminder,
    /// Somebody asked for an offer to be made.
    OfferRequested,
    /// A mail was sent.
    Mailed,
    /// The customer does not want to buy any more. Final.
    NoInterest,
    /// The customer has bought again. Final.
    WonBack,
}

impl CaseState {
    /// All of them, with the words of the ledger.
    pub const WORDS: [(CaseState, &'static str); 6] = [
        (CaseState::Declining, "declining"),
        (CaseState::Reminder, "reminder"),
        (CaseState::OfferRequested, "offer_requested"),
        (CaseState::Mailed, "mailed"),
        (CaseState::NoInterest, "no_interest"),
        (CaseState::WonBack, "won_back"),
    ];

    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .into_iter()
            .find_map(|(state, w)| (w == word).then_some(state))
    }

    /// Whether nothing leaves it.
    pub fn is_final(self) -> bool {
        matches!(self, CaseState::NoInterest | CaseState::WonBack)
    }
}

/// One of the six tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    /// Customers with a decline, whom nobody has worked on.
    Declining,
    /// Reminders that are due today or were before.
    ReminderDue,
    /// Offers to be made.
    OfferRequested,
    /// Mailed, and no answer yet.
    Mailed,
    /// Closed without success.
    NoInterest,
    /// Closed with an order.
    WonBack,
}

impl Tile {
    /// All of them, with the words of the ledger.
    pub const WORDS: [(Tile, &'static str); 6] = [
        (Tile::Declining, "declining"),
        (Tile::ReminderDue, "reminder_due"),
        (Tile::OfferRequested, "offer_requested"),
        (Tile::Mailed, "mailed"),
        (Tile::NoInterest, "no_interest"),
        (Tile::WonBack, "won_back"),
    ];

    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .into_iter()
            .find_map(|(tile, w)| (w == word).then_some(tile))
    }
}

/// A template of a brand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTemplate {
    /// The standard template.
    Standard,
    /// The one with a voucher.
    Voucher,
}

/// Why a customer does not want to buy any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoInterestReason {
    /// Too expensive.
    Price,
    /// Buys from a competitor.
    Competitor,
    /// Not content with goods.
    Quality,
    /// Not content with delivery or service.
    Service,
    /// Does not need such things any more.
    NoNeed,
    /// Has gone out of business, or died.
    Gone,
    /// Wants not to be contacted.
    NoContact,
    /// Anything else.
    Other,
}

impl NoInterestReason {
    /// All of them, with the words of the ledger.
    pub const WORDS: [(NoInterestReason, &'static str); 8] = [
        (NoInterestReason::Price, "price"),
        (NoInterestReason::Competitor, "competitor"),
        (NoInterestReason::Quality, "quality"),
        (NoInterestReason::Service, "service"),
        (NoInterestReason::NoNeed, "no_need"),
        (NoInterestReason::Gone, "gone"),
        (NoInterestReason::NoContact, "no_contact"),
        (NoInterestReason::Other, "other"),
    ];

    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .into_iter()
            .find_map(|(reason, w)| (w == word).then_some(reason))
    }
}

/// When to come back to a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remind {
    /// After the tenant's usual days.
    Default,
    /// After so many days, 1 to [`MOST_REMINDER_DAYS`].
    InDays(u32),
    /// On a day after today, at most [`MOST_REMINDER_DAYS`] ahead. It is kept also when it is no workday.
    On(NaiveDate),
}

/// What is done with a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The customer has no further interest.
    NoInterest(NoInterestReason),
    /// An offer is to be made; the note goes by mail to the user, with number and name of the customer.
    RequestOffer {
        /// What to offer, 1 to [`MOST_NOTE`] characters.
        note: String,
    },
    /// A mail from a template of the brand of the last order.
    Mail(MailTemplate),
    /// Put off.
    Remind(Remind),
    /// A remark, which changes nothing else.
    Remark {
        /// 1 to [`MOST_NOTE`] characters.
        text: String,
    },
}

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// A person, by the name that callers give: `users/…`.
    Person(&'a str),
    /// A winback campaign.
    Campaign,
}

/// Somebody works on a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Who: `users/…`.
    pub by: String,
    /// Until this moment, that not included.
    pub until: DateTime<Utc>,
}

/// A case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// State.
    pub state: CaseState,
    /// The day as of which it was found.
    pub opened_on: NaiveDate,
    /// The day to come back to it: exactly in the state [`CaseState::Reminder`].
    pub due_on: Option<NaiveDate>,
    /// The day on which the standard template was sent.
    pub standard_on: Option<NaiveDate>,
    /// The day on which the voucher template was sent.
    pub voucher_on: Option<NaiveDate>,
    /// The last day on which a mail was sent or an offer requested.
    pub contacted_on: Option<NaiveDate>,
    /// Why not, exactly in the state [`CaseState::NoInterest`].
    pub no_interest: Option<NoInterestReason>,
    /// Who works on it; a hold that is over counts as none.
    pub hold: Option<Hold>,
}

/// What the tenant has set, as far as actions depend on it.
#[derive(Debug, Clone, Copy)]
pub struct CaseRules<'a> {
    /// Days of [`Remind::Default`], 1 to [`MOST_REMINDER_DAYS`]; usually [`REMINDER_DAYS`].
    pub reminder_days: u32,
    /// Where reminders after days move to the next workday; without it they stay on weekends.
    pub calendar: Option<&'a Calendar>,
    /// Whether the brand has a standard template.
    pub has_standard: bool,
    /// Whether the brand has a voucher template.
    pub has_voucher: bool,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// The case becomes so. For a remark it stays as it is.
    Becomes(Case),
    /// It was so before: nothing changes.
    AlreadySo,
}

/// Why an action is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The case is closed.
    #[error("the case is closed: {}", .0.as_str())]
    Closed(CaseState),
    /// Somebody else works on it.
    #[error("{} works on the case until {}", .0.by, .0.until.to_rfc3339_opts(SecondsFormat::Secs, true))]
    Held(Hold),
    /// Campaigns only mail.
    #[error("a campaign can only mail")]
    OnlyMail,
    /// The template was sent in this case before.
    #[error("this template was sent on {0}")]
    MailedBefore(NaiveDate),
    /// The brand has no such template.
    #[error("the brand has no such template")]
    NoTemplate(MailTemplate),
    /// The day of the reminder is not after today, or too far.
    #[error("the reminder must be 1 to {MOST_REMINDER_DAYS} days ahead")]
    BadReminder,
    /// A note or remark is empty or too long.
    #[error("the text must have 1 to {MOST_NOTE} characters")]
    BadText,
}

impl Case {
    /// A case as detection opens it.
    pub fn open(on: NaiveDate) -> Case {
        Case {
            state: CaseState::Declining,
            opened_on: on,
            due_on: None,
            standard_on: None,
            voucher_on: None,
            contacted_on: None,
            no_interest: None,
            hold: None,
        }
    }

    /// The tile on which it lies on a day; none while it waits for its reminder.
    pub fn tile(&self, today: NaiveDate) -> Option<Tile> {
        tile_of(self.state, self.due_on, today)
    }

    /// Who works on it at a moment.
    pub fn held(&self, now: DateTime<Utc>) -> Option<&Hold> {
        self.hold.as_ref().filter(|hold| hold.until > now)
    }

    fn moved(&self, state: CaseState) -> Case {
        Case {
            state,
            due_on: None,
            ..self.clone()
        }
    }

    fn sent_on(&self, template: MailTemplate) -> Option<NaiveDate> {
        match template {
            MailTemplate::Standard => self.standard_on,
            MailTemplate::Voucher => self.voucher_on,
        }
    }
}

/// The tile on which a case in a state lies on a day, with the day to come back to it; none while it waits
/// for its reminder.
pub fn tile_of(state: CaseState, due_on: Option<NaiveDate>, today: NaiveDate) -> Option<Tile> {
    match state {
        CaseState::Declining => Some(Tile::Declining),
        CaseState::Reminder => {
            let is_due = due_on.is_none_or(|due| due <= today);
            is_due.then_some(Tile::ReminderDue)
        }
        CaseState::OfferRequested => Some(Tile::OfferRequested),
        CaseState::Mailed => Some(Tile::Mailed),
        CaseState::NoInterest => Some(Tile::NoInterest),
        CaseState::WonBack => Some(Tile::WonBack),
    }
}

/// Decides whether a person gets a case to work on, for a time from `now` on. Whoever has it gets it for
/// longer.
///
/// # Errors
/// The case is closed, or somebody else works on it.
pub fn claim(
    case: &Case,
    person: &str,
    now: DateTime<Utc>,
    lasts: TimeDelta,
) -> Result<Hold, ActError> {
    if case.state.is_final() {
        return Err(ActError::Closed(case.state));
    }
    match case.held(now) {
        Some(hold) if hold.by != person => Err(ActError::Held(hold.clone())),
        _ => Ok(Hold {
            by: person.to_owned(),
            until: now + lasts,
        }),
    }
}

/// Decides what an action does to a case; `today` is the day of `now` in the tenant's time zone.
///
/// # Errors
/// Why it is refused; nothing changes then.
pub fn act(
    case: &Case,
    actor: Actor<'_>,
    action: &Action,
    rules: &CaseRules<'_>,
    now: DateTime<Utc>,
    today: NaiveDate,
) -> Result<Acted, ActError> {
    if actor == Actor::Campaign && !matches!(action, Action::Mail(_)) {
        return Err(ActError::OnlyMail);
    }
    if let Action::Remark { text } = action {
        check_text(text)?;
        return Ok(Acted::Becomes(case.clone()));
    }
    if let Action::NoInterest(reason) = action
        && case.no_interest == Some(*reason)
    {
        return Ok(Acted::AlreadySo);
    }
    if case.state.is_final() {
        return Err(ActError::Closed(case.state));
    }
    if let Some(hold) = case.held(now)
        && actor != Actor::Person(&hold.by)
    {
        return Err(ActError::Held(hold.clone()));
    }
    let next = match action {
        Action::NoInterest(reason) => Case {
            no_interest: Some(*reason),
            hold: None,
            ..case.moved(CaseState::NoInterest)
        },
        Action::RequestOffer { note } => {
            check_text(note)?;
            Case {
                contacted_on: Some(today),
                ..case.moved(CaseState::OfferRequested)
            }
        }
        Action::Mail(template) => mailed(case, actor, *template, rules, today)?,
        Action::Remind(remind) => Case {
            due_on: Some(reminder(*remind, rules, today)?),
            ..case.moved(CaseState::Reminder)
        },
        Action::Remark { .. } => case.clone(),
    };
    Ok(Acted::Becomes(next))
}

fn check_text(text: &str) -> Result<(), ActError> {
    let is_sound = !text.trim().is_empty() && text.chars().count() <= MOST_NOTE;
    is_sound.then_some(()).ok_or(ActError::BadText)
}

fn mailed(
    case: &Case,
    actor: Actor<'_>,
    template: MailTemplate,
    rules: &CaseRules<'_>,
    today: NaiveDate,
) -> Result<Case, ActError> {
    if let Some(on) = case.sent_on(template) {
        return Err(ActError::MailedBefore(on));
    }
    let is_promised = matches!(case.state, CaseState::Reminder | CaseState::OfferRequested);
    let moved = match actor {
        Actor::Campaign if is_promised => case.clone(),
        _ => case.moved(CaseState::Mailed),
    };
    let mut next = Case {
        contacted_on: Some(today),
        ..moved
    };
    let (has, sent_on) = match template {
        MailTemplate::Standard => (rules.has_standard, &mut next.standard_on),
        MailTemplate::Voucher => (rules.has_voucher, &mut next.voucher_on),
    };
    *sent_on = Some(today);
    has.then_some(next).ok_or(ActError::NoTemplate(template))
}

/// The day of a reminder. After days it is the next workday of the calendar, where there is one within
/// its reach; a day that somebody names is kept.
fn reminder(
    remind: Remind,
    rules: &CaseRules<'_>,
    today: NaiveDate,
) -> Result<NaiveDate, ActError> {
    let days = match remind {
        Remind::Default => i64::from(rules.reminder_days),
        Remind::InDays(days) => i64::from(days),
        Remind::On(day) => (day - today).num_days(),
    };
    if !(1..=i64::from(MOST_REMINDER_DAYS)).contains(&days) {
        return Err(ActError::BadReminder);
    }
    let day = today.checked_add_days(Days::new(days.unsigned_abs()));
    let day = day.ok_or(ActError::BadReminder)?;
    let calendar = rules.calendar.filter(|_| !matches!(remind, Remind::On(_)));
    Ok(match calendar {
        Some(calendar) if !calendar.is_workday(day) => {
            calendar.workdays_after(day).next().unwrap_or(day)
        }
        _ => day,
    })
}

/// What an order of the customer does to a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnOrder {
    /// It closes the case.
    WonBack {
        /// The case, closed.
        case: Case,
        /// Whether the customer was contacted before: on the day of the order at the latest, and at most
        /// `window_days` earlier. Without, they came back by themselves, and the case counts for nobody.
        after_contact: bool,
    },
    /// The case was closed before.
    Closed,
    /// The order is of the day of finding or older: it was known then.
    Before,
}

/// Decides what an order does to a case: who buys after the case was found is back, and the case over;
/// within `window_days` of a contact it counts as won by that. `contacts` are the days on which an offer was
/// asked for or a mail queued that did not come to nothing and waits no more. Orders may arrive late and in
/// any order; their day counts. The model of the statement in the store.
pub fn on_order(
    case: &Case,
    contacts: &[NaiveDate],
    ordered_on: NaiveDate,
    window_days: u32,
) -> OnOrder {
    if case.state.is_final() {
        return OnOrder::Closed;
    }
    if ordered_on <= case.opened_on {
        return OnOrder::Before;
    }
    let is_within = |day: &NaiveDate| {
        let days = (ordered_on - *day).num_days();
        (0..=i64::from(window_days)).contains(&days)
    };
    OnOrder::WonBack {
        case: Case {
            hold: None,
            ..case.moved(CaseState::WonBack)
        },
        after_contact: contacts.iter().any(is_within),
    }
}
