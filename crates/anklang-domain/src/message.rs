//! Messages: what becomes of one after an attempt to send it.

use chrono::TimeDelta;

/// After so many attempts that failed for now or left doubt, a message is given up: about a day.
/// Attempts that never reached the channel, or that it put off, do not count.
pub const MAX_FAILURES: i32 = 12;

/// First wait after an attempt that failed for now.
const FIRST_BACKOFF: TimeDelta = TimeDelta::seconds(30);
/// Longest wait between two attempts.
const LONGEST_BACKOFF: TimeDelta = TimeDelta::hours(4);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The other side took the message.
    Accepted { provider_message_id: String },
    /// Refused for good.
    Permanent,
    /// Failed for now.
    Transient,
    /// The channel asked to wait so long, for this message or for the whole account.
    Throttled {
        retry_after: TimeDelta,
        whole_account: bool,
    },
    /// Nobody knows whether the other side took it.
    Ambiguous,
    /// Given up before it was handed to the channel.
    NotSubmitted,
}

impl Outcome {
    /// The word of the ledger.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Permanent => "permanent",
            Outcome::Transient => "transient",
            Outcome::Throttled { .. } => "throttled",
            Outcome::Ambiguous => "ambiguous",
            Outcome::NotSubmitted => "not_submitted",
        }
    }
}

/// What becomes of a message of which nobody knows whether the other side took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmbiguousPolicy {
    /// It is sent again, with the same idempotency key.
    Resend,
    /// It waits for a person.
    Hold,
}

/// The state of a message after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Taken by the other side.
    Sent,
    /// Refused for good, or given up.
    Failed,
    /// Waits for a person.
    Ambiguous,
    /// Is tried again, not before so long. A span and no time: only the database's clock is the same for
    /// all servers.
    Queued { wait: TimeDelta },
}

/// Decides what becomes of a message whose attempt has ended, after `failures` attempts before it
/// that failed for now or left doubt.
///
/// `jitter` in 0..1 spreads the waits, so that what failed together does not come back together.
pub fn after_attempt(
    outcome: &Outcome,
    failures: i32,
    policy: AmbiguousPolicy,
    jitter: f64,
) -> Next {
    let given_up = failures + 1 >= MAX_FAILURES;
    match outcome {
        Outcome::Accepted { .. } => Next::Sent,
        Outcome::Permanent => Next::Failed,
        Outcome::Transient if given_up => Next::Failed,
        Outcome::Transient => Next::Queued {
            wait: backoff(failures, jitter),
        },
        Outcome::Throttled { retry_after, .. } => Next::Queued {
            wait: (*retry_after).max(TimeDelta::seconds(1)),
        },
        Outcome::NotSubmitted => Next::Queued {
            wait: TimeDelta::zero(),
        },
        Outcome::Ambiguous if policy == AmbiguousPolicy::Resend && !given_up => Next::Queued {
            wait: backoff(failures, jitter),
        },
        Outcome::Ambiguous => Next::Ambiguous,
    }
}

/// Longest wait between two lookups.
const LONGEST_LOOKUP_WAIT: TimeDelta = TimeDelta::hours(6);

/// The waits before the lookups of an ambiguous message: the first, then each twice as long up to six
/// hours. So many and no more: then the account's policy counts.
pub fn lookup_waits(first: TimeDelta, lookups: usize) -> Vec<TimeDelta> {
    let wait = |wait: &TimeDelta| Some((*wait * 2).min(LONGEST_LOOKUP_WAIT));
    std::iter::successors(Some(first.min(LONGEST_LOOKUP_WAIT)), wait)
        .take(lookups)
        .collect()
}

/// What a channel knows of an ambiguous message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// This became of it.
    Outcome(Outcome),
    /// It certainly never came there.
    Never,
}

/// What becomes of an ambiguous message of which its channel knows this, after `failures` attempts
/// that failed for now or left doubt; `None` when it stays ambiguous.
///
/// What was certainly not taken is sent again, also by an account whose policy is to hold: there is no
/// doubt any more.
pub fn after_lookup(known: &Known, failures: i32) -> Option<Next> {
    let wait = match known {
        Known::Outcome(Outcome::Accepted { .. }) => return Some(Next::Sent),
        Known::Outcome(Outcome::Permanent) => return Some(Next::Failed),
        Known::Outcome(Outcome::Ambiguous) => return None,
        Known::Outcome(Outcome::Throttled { retry_after, .. }) => *retry_after,
        Known::Outcome(Outcome::Transient | Outcome::NotSubmitted) | Known::Never => {
            TimeDelta::zero()
        }
    };
    if failures >= MAX_FAILURES {
        return Some(Next::Failed);
    }
    Some(Next::Queued {
        wait: wait.max(TimeDelta::zero()),
    })
}

impl Outcome {
    /// Whether an attempt that ended so counts towards [`MAX_FAILURES`].
    pub fn is_failure(&self) -> bool {
        matches!(self, Outcome::Transient | Outcome::Ambiguous)
    }
}

/// Doubles from 30 seconds with each failure before up to four hours; the last half of it by chance.
fn backoff(failures: i32, jitter: f64) -> TimeDelta {
    let doublings = failures.clamp(0, 11);
    let whole = (FIRST_BACKOFF * 2_i32.pow(doublings.unsigned_abs())).min(LONGEST_BACKOFF);
    let millis = whole.num_milliseconds();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "at most four hours in milliseconds"
    )]
    let by_chance = (millis as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
    TimeDelta::milliseconds(millis / 2 + by_chance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outcomes() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Accepted {
                provider_message_id: String::new()
            }),
            Just(Outcome::Permanent),
            Just(Outcome::Transient),
            (0i64..10_000).prop_map(|s| Outcome::Throttled {
                retry_after: TimeDelta::seconds(s),
                whole_account: s % 2 == 0,
            }),
            Just(Outcome::Ambiguous),
            Just(Outcome::NotSubmitted),
        ]
    }

    proptest! {
        /// Whatever a channel answers, a message ends after the last failure, is never tried
        /// again after it was taken or refused, and an ambiguous one only by the policy.
        #[test]
        fn every_message_comes_to_an_end(
            outcome in outcomes(), failures in 0..30i32, jitter in 0.0..1.0f64, resend: bool,
        ) {
            let policy = if resend { AmbiguousPolicy::Resend } else { AmbiguousPolicy::Hold };
            let next = after_attempt(&outcome, failures, policy, jitter);
            if let Next::Queued { wait } = next {
                prop_assert!(failures + 1 < MAX_FAILURES || !outcome.is_failure());
                prop_assert!(wait >= TimeDelta::zero());
                let settled = matches!(outcome, Outcome::Accepted { .. } | Outcome::Permanent);
                prop_assert!(!settled);
                prop_assert!(outcome != Outcome::Ambiguous || resend);
            }
        }
    }

    proptest! {
        /// A lookup never has a message sent again that may have been taken, nor without end.
        #[test]
        fn lookups_settle_what_is_known(outcome in outcomes(), failures in 0..30i32, never: bool) {
            let known = if never { Known::Never } else { Known::Outcome(outcome.clone()) };
            match after_lookup(&known, failures) {
                None => prop_assert!(!never && outcome == Outcome::Ambiguous),
                Some(Next::Sent) => {
                    let accepted = matches!(outcome, Outcome::Accepted { .. });
                    prop_assert!(!never && accepted);
                }
                Some(Next::Queued { wait }) => {
                    prop_assert!(failures < MAX_FAILURES && wait >= TimeDelta::zero());
                    let taken = matches!(outcome, Outcome::Accepted { .. } | Outcome::Permanent
                        | Outcome::Ambiguous);
                    prop_assert!(never || !taken);
                }
                Some(Next::Failed) => {
                    prop_assert!(failures >= MAX_FAILURES || outcome == Outcome::Permanent);
                }
                Some(Next::Ambiguous) => prop_assert!(false, "that is None"),
            }
        }
    }

    #[test]
    fn waits_for_lookups_grow() {
        let waits = lookup_waits(TimeDelta::seconds(30), 12);
        let seconds: Vec<i64> = waits.iter().map(TimeDelta::num_seconds).collect();
        assert_eq!(seconds[..4], [30, 60, 120, 240]);
        assert_eq!((seconds[11], seconds.len()), (6 * 3600, 12));
        assert_eq!(lookup_waits(TimeDelta::seconds(30), 0), []);
    }

    #[test]
    fn waits_double_up_to_four_hours() {
        let waits: Vec<i64> = (0..MAX_FAILURES)
            .map(|failures| backoff(failures, 1.0).num_seconds())
            .collect();
        assert_eq!(waits[..4], [30, 60, 120, 240]);
        assert_eq!(waits[11], 4 * 3600);
    }
}
