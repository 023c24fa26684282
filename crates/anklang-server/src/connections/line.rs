//! What calls have to say to the connection that they came over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// So often it is looked for answers that should be gone.
const LOOK: Duration = Duration::from_secs(10);

/// A connection, for its calls. Cheap to clone.
#[derive(Clone, Default)]
pub struct Line(Arc<Inner>);

#[derive(Default)]
struct Inner {
    closing: CancellationToken,
    unread: Mutex<Unread>,
}

/// When answers must be gone, by number.
#[derive(Default)]
struct Unread {
    next: u64,
    by: HashMap<u64, Instant>,
}

impl Line {
    /// Has it take no more calls, and end with those that are under way.
    pub fn close(&self) {
        self.0.closing.cancel();
    }

    /// When it is to take no more calls.
    pub(super) async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    /// When something lies in it for longer than it may.
    pub async fn overdue(&self) {
        loop {
            sleep(LOOK).await;
            let now = Instant::now();
            if self.unread().by.values().any(|by| *by <= now) {
                return;
            }
        }
    }

    /// For an answer over it.
    pub fn answer(&self) -> Arc<Answer> {
        let mut unread = self.unread();
        unread.next += 1;
        Arc::new(Answer {
            line: self.clone(),
            number: unread.next,
        })
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.0.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer, and each piece of it that the network has not taken, as long as there is one.
pub struct Answer {
    line: Line,
    number: u64,
}

impl Answer {
    /// When something of it is still there then, its connection ends: nobody else can take that back.
    pub fn must_be_gone(&self, by: Instant) {
        let mut unread = self.line.unread();
        let first = unread.by.entry(self.number).or_insert(by);
        *first = by.min(*first);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.line.unread().by.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_an_answer_ends_its_connection() {
        let line = Line::default();
        let soon = || Instant::now() + Duration::from_secs(60);
        let taken = line.answer();
        taken.must_be_gone(soon());
        drop(taken);
        let ends = timeout(Duration::from_secs(3_600), line.overdue()).await;
        ends.expect_err("nothing is left");
        let answer = line.answer();
        let piece = Arc::clone(&answer);
        answer.must_be_gone(soon() + Duration::from_secs(3_600));
        answer.must_be_gone(soon());
        drop(answer);
        let ends = timeout(Duration::from_secs(30), line.overdue()).await;
        ends.expect_err("it has a while");
        let ends = timeout(Duration::from_secs(60), line.overdue()).await;
        ends.expect("a piece is left");
        drop(piece);
        assert!(line.unread().by.is_empty());
    }
}
