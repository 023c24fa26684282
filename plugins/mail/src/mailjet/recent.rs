//! Messages of which nobody knows yet whether they were taken, for a while.
//!
//! Memory is bounded. An account that was just opened knows nothing of what was handed over before,
//! so for the same while it takes every message for a recent one; and so it does while it had to
//! forget one for want of room.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Messages that are remembered.
const REMEMBERED: usize = 10_000;

/// See the module's documentation.
pub(super) struct Recent {
    span: Duration,
    state: Mutex<State>,
}

struct State {
    /// Up to when any message may be a recent one.
    blind_until: Instant,
    noted: HashMap<String, Instant>,
}

impl Recent {
    pub(super) fn new(span: Duration) -> Self {
        let state = State {
            blind_until: Instant::now() + span,
            noted: HashMap::new(),
        };
        Self {
            span,
            state: Mutex::new(state),
        }
    }

    /// The message was handed over just now.
    pub(super) fn note(&self, id: &str) {
        self.note_at(id, Instant::now());
    }

    /// Whether it may have been handed over within the span.
    pub(super) fn is_recent(&self, id: &str) -> bool {
        self.is_recent_at(id, Instant::now())
    }

    fn note_at(&self, id: &str, now: Instant) {
        // No code that can panic runs under the lock.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.noted.len() >= REMEMBERED {
            let span = self.span;
            state.noted.retain(|_, at| now.duration_since(*at) < span);
        }
        if state.noted.len() >= REMEMBERED {
            state.blind_until = now + self.span;
            state.noted.clear();
        }
        state.noted.insert(id.to_owned(), now);
    }

    fn is_recent_at(&self, id: &str, now: Instant) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = state.noted.get(id);
        now < state.blind_until || noted.is_some_and(|at| now.duration_since(*at) < self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_recent_for_the_span() {
        let span = Duration::from_secs(100);
        let recent = Recent::new(span);
        let opened = Instant::now();
        assert!(recent.is_recent_at("unknown", opened));
        let later = opened + span;
        assert!(!recent.is_recent_at("unknown", later));
        recent.note_at("a", later);
        assert!(recent.is_recent_at("a", later + span / 2));
        assert!(!recent.is_recent_at("a", later + span));
    }

    #[test]
    fn what_had_to_be_forgotten_may_be_recent() {
        let span = Duration::from_secs(100);
        let recent = Recent::new(span);
        let later = Instant::now() + span;
        for id in 0..=REMEMBERED {
            recent.note_at(&id.to_string(), later);
        }
        let state = recent.state.lock().map(|state| state.noted.len());
        assert_eq!(state.ok(), Some(1));
        assert!(recent.is_recent_at("0", later + span / 2));
        assert!(!recent.is_recent_at("0", later + span));
    }
}
