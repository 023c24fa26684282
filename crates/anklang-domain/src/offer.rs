//! Offers: states, answers and the price.

use chrono::NaiveDate;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// State of an offer. Nothing leaves a final state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfferState {
    /// Being made: its document is not there yet.
    Draft,
    /// Can be answered.
    Open,
    /// Accepted. Final.
    Accepted,
    /// Rejected. Final.
    Rejected,
    /// Its validity ended without an answer. Final.
    Expired,
    /// Taken back. Final.
    Withdrawn,
}

impl OfferState {
    const WORDS: [(OfferState, &'static str); 6] = [
        (OfferState::Draft, "draft"),
        (OfferState::Open, "open"),
        (OfferState::Accepted, "accepted"),
        (OfferState::Rejected, "rejected"),
        (OfferState::Expired, "expired"),
        (OfferState::Withdrawn, "withdrawn"),
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
}

/// A customer's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Accept,
    /// No.
    Reject,
}

impl Answer {
    /// The state that it leads to.
    pub fn state(self) -> OfferState {
        match self {
            Answer::Accept => OfferState::Accepted,
            Answer::Reject => OfferState::Rejected,
        }
    }
}

/// What an answer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// It moves the offer to the answer's state.
    Changes,
    /// The offer was answered just so before: nothing changes.
    AlreadySo,
}

/// Why an answer was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The offer is in a state that takes no such answer.
    #[error("the offer is {}", .0.as_str())]
    Illegal(OfferState),
    /// The last day of its validity is over.
    #[error("the offer was valid until {0}")]
    Expired(NaiveDate),
}

/// Decides what an answer on `today` (in the tenant's time zone) does to an offer.
pub fn answer(
    state: OfferState,
    valid_until: NaiveDate,
    answer: Answer,
    today: NaiveDate,
) -> Result<Answered, AnswerError> {
    match state {
        s if s == answer.state() => Ok(Answered::AlreadySo),
        OfferState::Open if today > valid_until => Err(AnswerError::Expired(valid_until)),
        OfferState::Open => Ok(Answered::Changes),
        OfferState::Expired => Err(AnswerError::Expired(valid_until)),
        other => Err(AnswerError::Illegal(other)),
    }
}

/// Decides what withdrawing an offer on `today` does to it: what nobody has answered can be taken
/// back.
pub fn withdraw(
    state: OfferState,
    valid_until: NaiveDate,
    today: NaiveDate,
) -> Result<Answered, AnswerError> {
    match state {
        OfferState::Withdrawn => Ok(Answered::AlreadySo),
        OfferState::Open if today > valid_until => Err(AnswerError::Expired(valid_until)),
        OfferState::Draft | OfferState::Open => Ok(Answered::Changes),
        OfferState::Expired => Err(AnswerError::Expired(valid_until)),
        other => Err(AnswerError::Illegal(other)),
    }
}

/// Why an offer was rejected, of a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Too expensive.
    Price,
    /// The term or notice period does not suit.
    Term,
    /// Not content with the service.
    Service,
    /// Goes to a competitor.
    Competitor,
    /// Is content with what there is.
    Satisfied,
    /// Gives the site up.
    Moving,
    /// Wants no offers of this kind.
    NotInterested,
    /// Anything else.
    Other,
}

impl RejectReason {
    /// All of them, with the words of the ledger.
    pub const WORDS: [(RejectReason, &'static str); 8] = [
        (RejectReason::Price, "price"),
        (RejectReason::Term, "term"),
        (RejectReason::Service, "service"),
        (RejectReason::Competitor, "competitor"),
        (RejectReason::Satisfied, "satisfied"),
        (RejectReason::Moving, "moving"),
        (RejectReason::NotInterested, "not_interested"),
        (RejectReason::Other, "other"),
    ];

    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize].1
    }

    /// Reads the word of the ledger; the empty one is "not told".
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS
            .into_iter()
            .find_map(|(reason, w)| (w == word).then_some(reason))
    }
}

/// What a new offer does about open ones for the same contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpenOffers {
    /// Several may be open.
    #[default]
    Allow,
    /// There is no new one while one is open.
    Block,
    /// The new one takes the place of the others once it is open.
    Supersede,
}

impl OpenOffers {
    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            OpenOffers::Allow => "allow",
            OpenOffers::Block => "block",
            OpenOffers::Supersede => "supersede",
        }
    }

    /// Reads the word of the ledger.
    pub fn parse(word: &str) -> Option<Self> {
        [OpenOffers::Allow, OpenOffers::Block, OpenOffers::Supersede]
            .into_iter()
            .find(|p| p.as_str() == word)
    }
}

/// The greatest number that an offer can have.
pub const MAX_OFFER_NUMBER: i64 = 999_999_999_999;

/// Whether numbers of offers can begin so: at most 16 of A–Z, 0–9 and `./_-`, and no digit at the
/// end, so that prefix and number can be told apart and no two pairs of them look the same.
pub fn is_number_prefix(prefix: &str) -> bool {
    let fits = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"./_-".contains(&b);
    prefix.len() <= 16
        && prefix.bytes().all(fits)
        && !prefix.ends_with(|c: char| c.is_ascii_digit())
}

/// Cost of a year: base price + unit price × quantity, rounded to two decimals, half away from
/// zero. The store computes the same in SQL (`round(numeric, 2)`); a test compares both.
pub fn annual_amount(base_price: Decimal, unit_price: Decimal, quantity: Decimal) -> Decimal {
    (base_price + unit_price * quantity)
        .round_dp_with_strategy(2, RoundingStrategy::MidpointAwayFromZero)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_open_and_valid_offers_take_an_answer() {
        use OfferState::*;
        let day = |d| NaiveDate::from_ymd_opt(2026, 3, d).expect("a day of March");
        for state in [Draft, Open, Accepted, Rejected, Expired, Withdrawn] {
            assert_eq!(OfferState::parse(state.as_str()), Some(state));
            for reply in [Answer::Accept, Answer::Reject] {
                let expected = match state {
                    Open => Ok(Answered::Changes),
                    Expired => Err(AnswerError::Expired(day(31))),
                    s if s == reply.state() => Ok(Answered::AlreadySo),
                    s => Err(AnswerError::Illegal(s)),
                };
                assert_eq!(answer(state, day(31), reply, day(31)), expected);
            }
        }
        // The last day counts; the day after does not, but what was accepted stays so.
        assert_eq!(
            answer(Open, day(30), Answer::Accept, day(31)),
            Err(AnswerError::Expired(day(30)))
        );
        assert_eq!(
            answer(Accepted, day(30), Answer::Accept, day(31)),
            Ok(Answered::AlreadySo)
        );
    }

    #[test]
    fn only_what_is_not_answered_is_withdrawn() {
        use OfferState::*;
        let day = |d| NaiveDate::from_ymd_opt(2026, 3, d).expect("a day of March");
        for (state, expected) in [
            (Draft, Ok(Answered::Changes)),
            (Open, Ok(Answered::Changes)),
            (Accepted, Err(AnswerError::Illegal(Accepted))),
            (Rejected, Err(AnswerError::Illegal(Rejected))),
            (Expired, Err(AnswerError::Expired(day(31)))),
            (Withdrawn, Ok(Answered::AlreadySo)),
        ] {
            assert_eq!(withdraw(state, day(31), day(31)), expected);
        }
        assert_eq!(
            withdraw(Open, day(30), day(31)),
            Err(AnswerError::Expired(day(30)))
        );
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for (reason, word) in RejectReason::WORDS {
            assert_eq!(
                (reason.as_str(), RejectReason::parse(word)),
                (word, Some(reason))
            );
        }
        assert_eq!(RejectReason::parse(""), None);
        for policy in [OpenOffers::Allow, OpenOffers::Block, OpenOffers::Supersede] {
            assert_eq!(OpenOffers::parse(policy.as_str()), Some(policy));
        }
    }

    #[test]
    fn prefixes_end_before_the_number() {
        for good in ["", "A-", "2026/", "ANG.", "X", "ABCDEFGHIJKLMNO-"] {
            assert!(is_number_prefix(good), "{good}");
        }
        for bad in ["a-", "A1", "A ", "Ä-", "A-\n", "ABCDEFGHIJKLMNOP-"] {
            assert!(!is_number_prefix(bad), "{bad}");
        }
    }

    #[test]
    fn prices_are_exact() {
        let d = |s: &str| s.parse::<Decimal>().expect("a decimal");
        assert_eq!(
            annual_amount(d("120.00"), d("0.3249"), d("3500")),
            d("1257.15")
        );
        assert_eq!(annual_amount(d("0"), d("0.005"), d("1")), d("0.01"));
    }
}
