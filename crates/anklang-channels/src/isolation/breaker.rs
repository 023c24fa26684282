//! When a plugin's process is started again after it failed: a pure rule, time is passed in.
//!
//! Each failure doubles the wait before the next start. After so many failures within a window
//! the circuit breaker opens: nothing is tried for a pause. Then one start is tried; if that one
//! fails within the window, the breaker opens again at once, else all is as before.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::hosting::ProcessOptions;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Breaker {
    first: Duration,
    longest: Duration,
    most: usize,
    window: Duration,
    pause: Duration,
    failures: VecDeque<Instant>,
    /// Without having been up for the window in between.
    in_a_row: u32,
    opened_at: Option<Instant>,
    /// The next start is the one that is tried.
    half_open: bool,
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start again after so long.
    StartIn(Duration),
    /// The breaker is open; try once after so long.
    TryIn(Duration),
}

impl Next {
    pub(crate) fn wait(self) -> Duration {
        match self {
            Next::StartIn(wait) | Next::TryIn(wait) => wait,
        }
    }
}

impl Breaker {
    pub(crate) fn new(options: &ProcessOptions) -> Self {
        let longest = Duration::from_millis(options.longest_restart_milliseconds);
        Self {
            first: Duration::from_millis(options.restart_milliseconds).min(longest),
            longest,
            most: usize::try_from(options.failures).unwrap_or(usize::MAX),
            window: Duration::from_millis(options.window_milliseconds),
            pause: Duration::from_millis(options.pause_milliseconds),
            failures: VecDeque::new(),
            in_a_row: 0,
            opened_at: None,
            half_open: false,
        }
    }

    /// The plugin is open.
    pub(crate) fn up(&mut self, now: Instant) {
        self.opened_at = Some(now);
    }

    /// The plugin failed, or did not open.
    pub(crate) fn failed(&mut self, now: Instant) -> Next {
        let up = self.opened_at.take();
        if up.is_some_and(|since| now.duration_since(since) >= self.window) {
            self.in_a_row = 0;
            self.half_open = false;
        }
        self.failures.push_back(now);
        let window = self.window;
        let old = |at: &Instant| now.duration_since(*at) > window;
        while self.failures.front().is_some_and(old) {
            self.failures.pop_front();
        }
        if self.half_open || self.failures.len() >= self.most {
            self.failures.clear();
            self.half_open = true;
            return Next::TryIn(self.pause);
        }
        let doubled = 2_u32.saturating_pow(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Next::StartIn(self.first.saturating_mul(doubled).min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        let options = ProcessOptions {
            restart_milliseconds: 100,
            longest_restart_milliseconds: 300,
            failures: 5,
            window_milliseconds: 10_000,
            pause_milliseconds: 60_000,
            ..ProcessOptions::default()
        };
        (Breaker::new(&options), Instant::now())
    }

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn waits_double_up_to_the_longest_and_then_the_breaker_opens() {
        let (mut breaker, now) = breaker();
        let waits: Vec<_> = (0..5).map(|i| breaker.failed(now + MS(i))).collect();
        let expected = [
            Next::StartIn(MS(100)),
            Next::StartIn(MS(200)),
            Next::StartIn(MS(300)),
            Next::StartIn(MS(300)),
            Next::TryIn(MS(60_000)),
        ];
        assert_eq!(waits, expected);
    }

    #[test]
    fn a_try_that_fails_opens_it_again_and_one_that_lasts_closes_it() {
        let (mut breaker, now) = breaker();
        for i in 0..5 {
            breaker.failed(now + MS(i));
        }
        let tried = now + MS(60_000);
        breaker.up(tried);
        assert_eq!(breaker.failed(tried + MS(9_999)), Next::TryIn(MS(60_000)));
        // A try that does not even open.
        let again = tried + MS(80_000);
        assert_eq!(breaker.failed(again), Next::TryIn(MS(60_000)));
        breaker.up(again + MS(60_000));
        let later = again + MS(60_000) + MS(10_000);
        assert_eq!(breaker.failed(later), Next::StartIn(MS(100)));
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (mut breaker, now) = breaker();
        for i in 0..50 {
            breaker.up(now + MS(i * 11_000));
            let failed = breaker.failed(now + MS(i * 11_000 + 10_500));
            assert_eq!(failed, Next::StartIn(MS(100)));
        }
    }
}
