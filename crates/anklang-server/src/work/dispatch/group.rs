//! How many messages of a call are handed over together: of these nobody knows after a crash.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// So many always are: each group costs a transaction.
const LEAST: usize = 8;
/// So many at most.
const MOST: usize = 64;
/// Otherwise as many as the channel takes in this time.
const TIME: Duration = Duration::from_millis(50);

/// How many messages of an account are handed over together: few where the channel is slow, so that a crash leaves few
/// in doubt, and more where it is fast, so that the ledger keeps up. At least 8, at most 64, and between these as many
/// as the channel took in 50 ms when it was last asked to.
pub struct Group(AtomicUsize);

impl Default for Group {
    fn default() -> Self {
        Group(AtomicUsize::new(LEAST))
    }
}

impl Group {
    /// So many now.
    pub fn size(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Learns how long the channel took for so many.
    pub fn took(&self, messages: usize, time: Duration) {
        self.0.store(after(self.size(), messages, time), Relaxed);
    }
}

/// What a group of `size` becomes. It at most doubles, and after a full one alone: of few messages most of the time is
/// the way there and back.
fn after(size: usize, messages: usize, time: Duration) -> usize {
    let fits = messages as u128 * TIME.as_micros() / time.as_micros().max(1);
    let most = match messages < size {
        true => size,
        false => (2 * size).min(MOST),
    };
    usize::try_from(fits).unwrap_or(most).clamp(LEAST, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_fast_channel_gets_more_and_more_at_once_up_to_the_most() {
        let group = Group::default();
        let mut sizes = Vec::new();
        for _ in 0..5 {
            sizes.push(group.size());
            group.took(group.size(), 5 * MS);
        }
        assert_eq!(sizes, [8, 16, 32, 64, 64]);
    }

    #[test]
    fn what_takes_long_comes_in_small_groups_at_once() {
        let group = Group::default();
        for _ in 0..3 {
            group.took(group.size(), Duration::ZERO);
        }
        assert_eq!(group.size(), 64);
        group.took(64, 100 * MS);
        assert_eq!(group.size(), 32);
        group.took(1, 2_000 * MS);
        assert_eq!(group.size(), 8);
    }

    #[test]
    fn the_last_few_of_a_queue_do_not_make_it_larger() {
        assert_eq!(after(8, 3, MS), 8);
        assert_eq!(after(32, 31, MS), 32);
        // Those are not shrunk by, either, unless they were slow.
        assert_eq!(after(32, 31, 40 * MS), 32);
        assert_eq!(after(32, 2, 10 * MS), 10);
    }
}
