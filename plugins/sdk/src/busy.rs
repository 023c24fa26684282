//! How often a message was told "not now, for none of your messages".
//!
//! Such an answer lets the whole account rest. A message that gets it again and again may be to blame
//! itself, and must not hold up the others for ever. Counted is what the other side said to this message,
//! not how often it was tried: attempts that never reached it say nothing of the message.
//! Memory is bounded: of many messages the one whose answer is longest ago is forgotten.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// With this answer and later ones the message itself is to blame.
const BLAMED_AFTER: u32 = 5;
/// Messages that are remembered.
const REMEMBERED: usize = 1024;

/// Counts how often each message was told that the account is to rest, and says when the message itself is to blame:
/// at the fifth time. Of 1,024 messages at most.
#[derive(Debug, Default)]
pub struct Busy {
    /// By the time of the last answer, the latest at the end.
    counts: Mutex<VecDeque<(String, u32)>>,
}

impl Busy {
    /// The message was told so once more; whether it is to blame itself.
    pub fn blames(&self, id: &str) -> bool {
        // No code that can panic runs under the lock.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.iter().position(|(known, _)| known == id);
        let before = known.and_then(|at| counts.remove(at));
        let count = before.map_or(1, |(_, count)| count.saturating_add(1));
        if counts.len() >= REMEMBERED {
            counts.pop_front();
        }
        counts.push_back((id.to_owned(), count));
        count >= BLAMED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_answer_to_the_same_mail_blames_it() {
        let busy = Busy::default();
        for _ in 1..BLAMED_AFTER {
            assert!(!busy.blames("a"));
            assert!(!busy.blames("b"));
        }
        assert!(busy.blames("a"));
        assert!(busy.blames("a"));
        assert!(!busy.blames("c"));
    }

    #[test]
    fn the_one_answered_longest_ago_is_forgotten() {
        let busy = Busy::default();
        for _ in 1..BLAMED_AFTER {
            busy.blames("old");
            busy.blames("kept");
        }
        for other in 0..REMEMBERED - 1 {
            busy.blames(&other.to_string());
        }
        assert_eq!(busy.counts.lock().map(|c| c.len()).ok(), Some(REMEMBERED));
        assert!(busy.blames("kept"));
        assert!(!busy.blames("old"));
    }
}
