//! How often a mail was answered with 421: "not now, for none of your mails".
//!
//! Such an answer lets the whole account rest. A mail that gets it again and again may be to blame
//! itself, and must not hold up the others for ever. Counted is what the server said to this mail,
//! not how often it was tried: attempts that never reached the server say nothing of the mail.
//! Memory is bounded: of many mails the one whose answer is longest ago is forgotten.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// With this answer and later ones the mail itself is to blame.
const BLAMED_AFTER: u32 = 5;
/// Mails that are remembered.
const REMEMBERED: usize = 1024;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Busy {
    /// By the time of the last answer, the latest at the end.
    counts: Mutex<VecDeque<(String, u32)>>,
}

impl Busy {
    /// The mail was answered with 421; whether it is to blame itself.
    pub(crate) fn blames(&self, id: &str) -> bool {
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
