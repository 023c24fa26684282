//! Reports: what a channel says of a message after it took it – delivered, come back, opened, …
//!
//! Reports come late, twice and in any order, also before the outcome of the sending that they are
//! about, and providers contradict themselves. So what becomes of a message does not depend on when
//! they come: of all that is told the strongest [`Verdict`] counts, and it counts over what sending
//! alone would have made of the message.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReportState {
    /// It reached the recipient's device or mailbox.
    Delivered,
    /// It came back.
    Bounced,
    /// It could not be delivered, without coming back.
    Failed,
    /// It was opened or read.
    Opened,
    /// A link in it was followed.
    Clicked,
    /// It was reported as unwanted.
    Complained,
    /// The recipient wants no more.
    Unsubscribed,
}

/// All of them.
pub const REPORT_STATES: [ReportState; 7] = [
    ReportState::Delivered,
    ReportState::Bounced,
    ReportState::Failed,
    ReportState::Opened,
    ReportState::Clicked,
    ReportState::Complained,
    ReportState::Unsubscribed,
];

impl ReportState {
    /// The word of the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            ReportState::Delivered => "delivered",
            ReportState::Bounced => "bounced",
            ReportState::Failed => "failed",
            ReportState::Opened => "opened",
            ReportState::Clicked => "clicked",
            ReportState::Complained => "complained",
            ReportState::Unsubscribed => "unsubscribed",
        }
    }

    /// The state that a word of the ledger stands for.
    pub fn parse(word: &str) -> Option<Self> {
        REPORT_STATES.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether the recipient asked, in this or that way, for no more messages.
    pub fn is_objection(self) -> bool {
        matches!(self, ReportState::Complained | ReportState::Unsubscribed)
    }
}

/// What reports make of a message; the later ones here are the stronger.
///
/// A mail that came back for now may be delivered after all; one that was delivered may come back for
/// good, because the recipient's own server finds out late. Nothing undoes that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It could not be delivered.
    Failed,
    /// It came back, but perhaps not for good.
    Returned,
    /// It was delivered.
    Delivered,
    /// It came back for good.
    Bounced,
}

/// All of them, weakest first: the ledger keeps their place in here, from 1.
pub const VERDICTS: [Verdict; 4] = [
    Verdict::Failed,
    Verdict::Returned,
    Verdict::Delivered,
    Verdict::Bounced,
];

impl Verdict {
    /// What a report says of the message's state; `None` when it says nothing about that.
    pub fn of(state: ReportState, code: &str) -> Option<Verdict> {
        match state {
            ReportState::Delivered => Some(Verdict::Delivered),
            ReportState::Bounced if Code::read(code).is_for_now() => Some(Verdict::Returned),
            ReportState::Bounced => Some(Verdict::Bounced),
            ReportState::Failed => Some(Verdict::Failed),
            _ => None,
        }
    }

    /// The state of a message of which this is told.
    pub fn state(self) -> &'static str {
        match self {
            Verdict::Failed => "failed",
            Verdict::Returned | Verdict::Bounced => "bounced",
            Verdict::Delivered => "delivered",
        }
    }

    /// How the ledger keeps it: 1 to 4.
    pub fn rank(self) -> i16 {
        match self {
            Verdict::Failed => 1,
            Verdict::Returned => 2,
            Verdict::Delivered => 3,
            Verdict::Bounced => 4,
        }
    }

    /// What the ledger kept; 0 is none.
    pub fn from_rank(rank: i16) -> Option<Verdict> {
        VERDICTS.into_iter().find(|v| v.rank() == rank)
    }
}

/// Where a message stands when a report of it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was never handed to its channel: nothing can be true of it.
    Untried,
    /// It is in the hands of its channel, and the outcome of that is not recorded yet. Whoever
    /// records it goes by the verdict.
    HandedOver,
    /// Anything else.
    Settled,
}

/// The state of a message that stands so, as far as reports decide on it; `None` to leave it.
pub fn becomes(standing: Standing, verdict: Option<Verdict>) -> Option<&'static str> {
    match standing {
        Standing::Settled => verdict.map(Verdict::state),
        Standing::Untried | Standing::HandedOver => None,
    }
}

/// Why an address is blocked after a report, in the words of the suppression; `None` when it is not.
pub fn blocks(state: ReportState, code: &str) -> Option<&'static str> {
    match state {
        ReportState::Bounced | ReportState::Failed if Code::read(code).is_of_address() => {
            Some("hard bounce")
        }
        ReportState::Complained => Some("complaint"),
        ReportState::Unsubscribed => Some("unsubscribed"),
        _ => None,
    }
}

/// A provider's code as far as it is one of SMTP: a reply (RFC 5321), an enhanced status (RFC 3463),
/// or both, e.g. "550 5.1.1".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Code {
    reply: Option<u16>,
    enhanced: Option<(u16, u16, u16)>,
}

impl Code {
    fn read(text: &str) -> Code {
        let mut code = Code::default();
        let starts = text.trim_start();
        let starts = starts.strip_prefix("smtp;").unwrap_or(starts).trim_start();
        let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
        for word in words.map(|w| w.trim_matches('.')).filter(|w| w.len() <= 9) {
            let parts: Vec<Option<u16>> = word.split('.').map(|p| p.parse().ok()).collect();
            match parts[..] {
                [Some(class @ (2 | 4 | 5)), Some(subject), Some(detail)] => {
                    code.enhanced.get_or_insert((class, subject, detail));
                }
                // An error that a network numbers in its own way is none: "UNDELIV 551".
                [Some(reply @ 200..=599)] if word.len() == 3 && starts.starts_with(word) => {
                    code.reply.get_or_insert(reply);
                }
                _ => {}
            }
        }
        code
    }

    /// A persistent transient failure: another attempt may be taken.
    fn is_for_now(self) -> bool {
        match self.enhanced {
            Some((class, ..)) => class == 4,
            None => matches!(self.reply, Some(400..=499)),
        }
    }

    /// The address itself is the trouble, for good: bad destination (5.1.0–5.1.6, 5.1.9, 5.1.10),
    /// mailbox disabled (5.2.1). Full mailboxes, policies and the sender's own faults are not. A
    /// reply without a status counts when it is about mailboxes: 550, 551, 553.
    fn is_of_address(self) -> bool {
        match self.enhanced {
            Some((5, 1, detail)) => matches!(detail, 0..=6 | 9 | 10),
            Some(enhanced) => enhanced == (5, 2, 1),
            None => matches!(self.reply, Some(550 | 551 | 553)),
        }
    }
}

/// What makes two reports of one message the same: 128 bits of a hash. Only what the provider said
/// counts, so that a repetition is one whenever it comes.
pub fn key(state: ReportState, code: &str, occurred_at: Option<DateTime<Utc>>) -> [u8; 16] {
    let time = occurred_at.map_or(i64::MIN, |at| at.timestamp_micros());
    let hash = Sha256::new()
        .chain_update(state.as_str())
        .chain_update([0])
        .chain_update(code)
        .chain_update([0])
        .chain_update(time.to_be_bytes())
        .finalize();
    let mut key = [0; 16];
    key.copy_from_slice(&hash[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{AmbiguousPolicy, Next, Outcome, after_attempt};
    use chrono::TimeDelta;
    use proptest::prelude::*;

    fn reports() -> impl Strategy<Value = (ReportState, &'static str)> {
        let codes = ["", "550 5.1.1", "4.4.1", "452", "5.7.1", "DELIVRD", "000"];
        (
            proptest::sample::select(REPORT_STATES.to_vec()),
            proptest::sample::select(codes.to_vec()),
        )
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Accepted {
                provider_message_id: String::new()
            }),
            Just(Outcome::Permanent),
            Just(Outcome::Transient),
            Just(Outcome::Ambiguous),
        ]
    }

    /// A message as the ledger moves it: by attempts and by reports.
    struct Ledger {
        state: &'static str,
        attempts: i32,
        verdict: Option<Verdict>,
    }

    impl Ledger {
        fn new() -> Self {
            Ledger {
                state: "queued",
                attempts: 0,
                verdict: None,
            }
        }

        /// Hands it over, unless reports or an outcome have settled it.
        fn begin(&mut self) {
            if self.state == "queued" {
                self.state = "sending";
                self.attempts += 1;
            }
        }

        fn end(&mut self, outcome: &Outcome) {
            if self.state == "sending" {
                let next = after_attempt(outcome, self.attempts, AmbiguousPolicy::Resend, 0.0);
                self.state = match (self.verdict, next) {
                    (Some(verdict), _) => verdict.state(),
                    (None, Next::Sent) => "sent",
                    (None, Next::Failed) => "failed",
                    (None, Next::Ambiguous) => "ambiguous",
                    (None, Next::Queued { .. }) => "queued",
                };
            }
        }

        fn report(&mut self, (state, code): (ReportState, &str)) {
            self.verdict = self.verdict.max(Verdict::of(state, code));
            let standing = match (self.state, self.attempts) {
                (_, 0) => Standing::Untried,
                ("sending", _) => Standing::HandedOver,
                _ => Standing::Settled,
            };
            if let Some(state) = becomes(standing, self.verdict) {
                self.state = state;
            }
        }
    }

    proptest! {
        /// In whatever order reports come, however often, and whenever the outcome of the sending is
        /// recorded between them: the message ends in the same state.
        #[test]
        fn the_order_of_reports_does_not_matter(
            all in proptest::collection::vec(reports(), 0..6),
            order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
            outcome in outcomes(), overtakes in 0..7usize,
        ) {
            let mut plain = Ledger::new();
            plain.begin();
            plain.end(&outcome);
            all.iter().for_each(|r| plain.report(*r));

            let mut mixed = Ledger::new();
            mixed.begin();
            // Each twice, shuffled; the outcome comes somewhere between.
            let twice = order.iter().filter(|i| *i % 6 < all.len());
            for (n, i) in twice.enumerate() {
                if n == overtakes {
                    mixed.end(&outcome);
                }
                mixed.report(all[i % 6]);
            }
            mixed.end(&outcome);
            prop_assert_eq!(mixed.state, plain.state);
            prop_assert_eq!(mixed.verdict, plain.verdict);
        }

        /// What was delivered or came back is never handed over again.
        #[test]
        fn what_is_told_is_not_sent_again(
            all in proptest::collection::vec(reports(), 1..6), outcome in outcomes(),
        ) {
            let mut ledger = Ledger::new();
            ledger.begin();
            all.iter().for_each(|r| ledger.report(*r));
            ledger.end(&outcome);
            let before = ledger.attempts;
            let told = ledger.verdict.is_some();
            ledger.begin();
            prop_assert!(!told || ledger.attempts == before);
        }

        #[test]
        fn codes_of_any_text_are_read(text in ".{0,40}") {
            let code = Code::read(&text);
            prop_assert!(!(code.is_for_now() && code.is_of_address()));
        }
    }

    #[test]
    fn delivered_counts_but_for_a_bounce_for_good() {
        let after = |all: &[(ReportState, &str)]| {
            all.iter()
                .filter_map(|(s, c)| Verdict::of(*s, c))
                .max()
                .map(Verdict::state)
        };
        let delivered = (ReportState::Delivered, "");
        assert_eq!(
            after(&[delivered, (ReportState::Bounced, "550 5.1.1")]),
            Some("bounced")
        );
        assert_eq!(
            after(&[(ReportState::Bounced, "4.4.1"), delivered]),
            Some("delivered")
        );
        assert_eq!(
            after(&[(ReportState::Failed, ""), delivered]),
            Some("delivered")
        );
        assert_eq!(after(&[(ReportState::Opened, "")]), None);
    }

    #[test]
    fn only_what_is_of_the_address_blocks_it() {
        let hard = [
            "550 5.1.1",
            "5.1.10",
            "5.2.1",
            "550",
            "smtp;551 no",
            "553",
            "#5.1.2",
        ];
        let soft = [
            "",
            "550 5.7.1",
            "5.2.2",
            "4.1.1",
            "450",
            "5.1.8",
            "552",
            "5.1.1.1",
            "UNDELIV",
            "UNDELIV 551",
            "5500",
        ];
        for code in hard {
            assert_eq!(
                blocks(ReportState::Bounced, code),
                Some("hard bounce"),
                "{code}"
            );
            assert_eq!(blocks(ReportState::Delivered, code), None, "{code}");
        }
        for code in soft {
            assert_eq!(blocks(ReportState::Bounced, code), None, "{code}");
        }
        assert_eq!(blocks(ReportState::Complained, ""), Some("complaint"));
        assert_eq!(blocks(ReportState::Unsubscribed, ""), Some("unsubscribed"));
        assert_eq!(blocks(ReportState::Opened, "5.1.1"), None);
    }

    #[test]
    fn the_ledger_keeps_words_and_ranks() {
        for state in REPORT_STATES {
            assert_eq!(ReportState::parse(state.as_str()), Some(state));
        }
        for verdict in VERDICTS {
            assert_eq!(Verdict::from_rank(verdict.rank()), Some(verdict));
        }
        assert_eq!(Verdict::from_rank(0), None);
        assert!(VERDICTS.is_sorted());
        assert!(VERDICTS.is_sorted_by_key(|v| v.rank()));
    }

    #[test]
    fn the_same_report_is_the_same_whenever_it_comes() {
        let at = DateTime::from_timestamp(1_790_000_000, 5_000);
        let same = key(ReportState::Opened, "", at);
        assert_eq!(key(ReportState::Opened, "", at), same);
        assert_ne!(key(ReportState::Clicked, "", at), same);
        assert_ne!(key(ReportState::Opened, "", None), same);
        let later = at.map(|at| at + TimeDelta::seconds(1));
        assert_ne!(key(ReportState::Opened, "", later), same);
    }
}
