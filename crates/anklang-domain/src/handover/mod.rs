//! Hand-over: events for the tenant's own systems, and what becomes of a delivery after an attempt.

pub mod address;

use chrono::{DateTime, TimeDelta, Utc};

/// Types of the events that a webhook can ask for; the last word but one is the state that an offer
/// or a message came into, or what was reported of it.
pub const EVENT_TYPES: [&str; 17] = [
    "anklang.offer.accepted.v1",
    "anklang.offer.rejected.v1",
    "anklang.offer.expired.v1",
    "anklang.offer.withdrawn.v1",
    "anklang.message.delivered.v1",
    "anklang.message.bounced.v1",
    "anklang.message.failed.v1",
    "anklang.message.complained.v1",
    "anklang.message.unsubscribed.v1",
    "anklang.inbound.received.v1",
    "anklang.contact.follow_up.v1",
    "anklang.order.taken.v1",
    "anklang.order.lines_added.v1",
    "anklang.order.rejected.v1",
    "anklang.winback.offer_requested.v1",
    "anklang.launch.awaiting_approval.v1",
    CUSTOMER_ERASED_EVENT_TYPE,
];

/// Type of the event that tells that a customer's data is forgotten.
pub const CUSTOMER_ERASED_EVENT_TYPE: &str = "anklang.customer.erased.v1";

/// Type of the event that tries a webhook out; goes to the one that it was asked for, whatever types
/// that one wants.
pub const TEST_EVENT_TYPE: &str = "anklang.webhook.test.v1";

/// The longest time for which `Retry-After` is honoured.
pub const LONGEST_RETRY_AFTER: TimeDelta = TimeDelta::hours(24);

/// How often and when a delivery is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After so many failed attempts a delivery is dead; at least 1.
    pub attempts: i32,
    /// Wait after the first failed attempt; doubles with each.
    pub first: TimeDelta,
    /// Longest wait.
    pub longest: TimeDelta,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with 2xx.
    Taken,
    /// It answered otherwise or not at all; it may have asked to be left alone for so long.
    Failed {
        /// From `Retry-After`.
        retry_after: Option<TimeDelta>,
    },
    /// Given up before anything was sent, for a reason of our own.
    NotSent,
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is over.
    Delivered,
    /// Given up: a dead letter, until it is replayed.
    Dead,
    /// It is tried again. A span and no time: only the database's clock is the same for all servers.
    Pending {
        /// Not before so long.
        wait: TimeDelta,
    },
}

/// Decides what becomes of a delivery whose attempt has ended, after `failures` failed ones before it. `jitter` in 0..1 spreads the waits, so that what failed together does not come back
/// together.
pub fn after_attempt(outcome: Outcome, failures: i32, policy: &RetryPolicy, jitter: f64) -> Next {
    match outcome {
        Outcome::Taken => Next::Delivered,
        Outcome::NotSent => Next::Pending { wait: policy.first },
        Outcome::Failed { .. } if failures + 1 >= policy.attempts => Next::Dead,
        Outcome::Failed { retry_after } => {
            let asked = retry_after
                .unwrap_or_default()
                .clamp(TimeDelta::zero(), LONGEST_RETRY_AFTER);
            Next::Pending {
                wait: backoff(policy, failures, jitter).max(asked),
            }
        }
    }
}

/// Doubles with each failure before up to the longest; the last half of it by chance.
fn backoff(policy: &RetryPolicy, failures: i32, jitter: f64) -> TimeDelta {
    let doublings = failures.clamp(0, 30).unsigned_abs();
    let millis = policy
        .first
        .num_milliseconds()
        .saturating_mul(1 << doublings)
        .min(policy.longest.num_milliseconds());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "at most some days in milliseconds"
    )]
    let by_chance = (millis as f64 / 2.0 * jitter.clamp(0.0, 1.0)) as i64;
    TimeDelta::milliseconds(millis / 2 + by_chance)
}

/// The value of a `Retry-After` header at `now`: seconds, or a date of HTTP. `None` when it is
/// neither.
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<TimeDelta> {
    let value = value.trim();
    let wait = match value.parse::<u32>() {
        Ok(seconds) => TimeDelta::seconds(seconds.into()),
        Err(_) => DateTime::parse_from_rfc2822(value).ok()?.to_utc() - now,
    };
    Some(wait.clamp(TimeDelta::zero(), LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            attempts: 20,
            first: TimeDelta::seconds(5),
            longest: TimeDelta::hours(12),
        }
    }

    proptest! {
        /// Whatever a receiver answers, a delivery ends after the last attempt, and is never tried
        /// again before it asked for.
        #[test]
        fn every_delivery_comes_to_an_end(
            asked in proptest::option::of(-10i64..200_000), failures in 0..40i32, jitter in 0.0..1.0f64,
        ) {
            let asked = asked.map(TimeDelta::seconds);
            match after_attempt(Outcome::Failed { retry_after: asked }, failures, &policy(), jitter) {
                Next::Dead => prop_assert!(failures + 1 >= 20),
                Next::Pending { wait } => {
                    prop_assert!(failures + 1 < 20);
                    prop_assert!(wait >= asked.unwrap_or_default().min(LONGEST_RETRY_AFTER));
                    prop_assert!(wait > TimeDelta::zero() && wait <= LONGEST_RETRY_AFTER);
                }
                Next::Delivered => prop_assert!(false, "nobody took it"),
            }
        }
    }

    #[test]
    fn waits_double_and_last_about_three_days() {
        let waits: Vec<i64> = (0..19)
            .map(|failures| backoff(&policy(), failures, 1.0).num_seconds())
            .collect();
        assert_eq!(waits[..4], [5, 10, 20, 40]);
        assert_eq!(waits[18], 12 * 3600);
        assert_eq!(waits.iter().sum::<i64>() / 86_400, 3);
        assert_eq!(backoff(&policy(), 0, 0.0), TimeDelta::milliseconds(2_500));
    }

    #[test]
    fn what_was_not_sent_is_no_failure() {
        let next = after_attempt(Outcome::NotSent, 100, &policy(), 0.5);
        assert!(matches!(next, Next::Pending { .. }));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-22T10:00:00Z").expect("a time");
        let read = |value| retry_after(value, now.to_utc()).map(|d| d.num_seconds());
        assert_eq!(read("120"), Some(120));
        assert_eq!(read(" 0 "), Some(0));
        assert_eq!(read("Sun, 22 Nov 2026 10:01:00 GMT"), Some(60));
        assert_eq!(read("Sun, 22 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(read("4000000000"), Some(24 * 3600));
        assert_eq!(read("-1"), None);
        assert_eq!(read("soon"), None);
    }
}
