//! How many messages of a call are handed over together: of these nobody knows after a crash.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anklang_domain::message::Outcome;

/// So many always are: each group costs a transaction.
const LEAST: usize = 8;
/// More than the least only as many as the channel takes in this time.
const TIME: Duration = Duration::from_millis(50);
/// One more than the least only behind fewer bytes.
const LARGEST: usize = 8 << 20;

/// How many messages of an account are handed over together: few where the channel is slow or in trouble, so that a
/// crash leaves few in doubt, and more where it is fast, so that the ledger keeps up. At least 8, at most 64, and
/// between these as many as the channel takes in 50 ms at the speed that it had last, and no further one behind 8 MiB.
pub struct Group(AtomicUsize);

impl Default for Group {
    fn default() -> Self {
        Group(AtomicUsize::new(LEAST))
    }
}

impl Group {
    /// So many at most.
    pub const MOST: usize = 64;

    /// Whether one more goes with so many messages of so many bytes.
    pub fn takes(&self, messages: usize, bytes: usize) -> bool {
        messages < LEAST || (messages < self.0.load(Relaxed) && bytes < LARGEST)
    }

    /// Learns how long the channel took for so many; `None` when it did not do well.
    pub fn learn(&self, messages: usize, time: Option<Duration>) {
        let size = self.0.load(Relaxed);
        let next = time.map_or(LEAST, |time| after(size, messages, time));
        self.0.store(next, Relaxed);
    }
}

/// What a size becomes. It at most doubles. Fewer messages than that change it only when they took too long by
/// themselves: for a few most of the time is the way there and back.
fn after(size: usize, messages: usize, time: Duration) -> usize {
    if messages < size && time <= TIME {
        return size;
    }
    let fits = messages as u128 * TIME.as_micros() / time.as_micros().max(1);
    let most = (2 * size).min(Group::MOST);
    usize::try_from(fits).unwrap_or(most).clamp(LEAST, most)
}

/// Whether the channel does well: it knew what became of each message, asked for no rest, and took or refused one.
/// What a recipient's side refuses for now says nothing of it.
pub fn is_well(outcomes: &[(Outcome, String)]) -> bool {
    let troubled = |(outcome, _): &_| {
        matches!(
            outcome,
            Outcome::Ambiguous | Outcome::Throttled { .. } | Outcome::NotSubmitted
        )
    };
    let failed = |(outcome, _): &_| matches!(outcome, Outcome::Transient);
    !outcomes.iter().any(troubled) && !outcomes.iter().all(failed)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn size(group: &Group) -> usize {
        (0..).find(|n| !group.takes(*n, 0)).expect("an end")
    }

    fn grown() -> Group {
        let group = Group::default();
        for _ in 0..3 {
            group.learn(size(&group), Some(Duration::ZERO));
        }
        assert_eq!(size(&group), Group::MOST);
        group
    }

    #[test]
    fn a_fast_channel_gets_more_and_more_at_once_up_to_the_most() {
        let group = Group::default();
        let mut sizes = Vec::new();
        for _ in 0..5 {
            sizes.push(size(&group));
            group.learn(size(&group), Some(5 * MS));
        }
        assert_eq!(sizes, [8, 16, 32, 64, 64]);
    }

    #[test]
    fn what_takes_long_or_fails_comes_in_small_groups_at_once() {
        let group = grown();
        group.learn(64, Some(100 * MS));
        assert_eq!(size(&group), 32);
        group.learn(1, Some(2_000 * MS));
        assert_eq!(size(&group), 8);
        let group = grown();
        group.learn(64, None);
        assert_eq!(size(&group), 8);
    }

    #[test]
    fn what_single_recipients_are_refused_for_now_is_no_trouble() {
        let all = |outcomes: &[Outcome]| {
            let outcomes: Vec<_> = outcomes
                .iter()
                .map(|o| (o.clone(), String::new()))
                .collect();
            is_well(&outcomes)
        };
        let accepted = Outcome::Accepted {
            provider_message_id: String::new(),
        };
        let throttled = Outcome::Throttled {
            retry_after: TimeDelta::seconds(1),
            whole_account: false,
        };
        assert!(all(&[accepted.clone(), Outcome::Permanent]));
        assert!(all(&[accepted.clone(), Outcome::Transient]));
        assert!(!all(&[Outcome::Transient, Outcome::Transient]));
        for trouble in [Outcome::Ambiguous, throttled, Outcome::NotSubmitted] {
            assert!(!all(&[accepted.clone(), trouble]));
        }
    }

    #[test]
    fn the_last_few_of_a_queue_do_not_change_it() {
        assert_eq!(after(8, 3, MS), 8);
        assert_eq!(after(32, 31, MS), 32);
        assert_eq!(after(32, 2, 10 * MS), 32);
    }

    #[test]
    fn of_large_messages_there_are_always_the_least_and_no_more() {
        let group = grown();
        assert!(group.takes(LEAST - 1, 100 * LARGEST));
        assert!(!group.takes(LEAST, LARGEST));
        assert!(group.takes(LEAST, LARGEST - 1));
    }
}
