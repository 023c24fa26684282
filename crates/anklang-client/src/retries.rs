//! When a call that failed is made again.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// How often and when a call is made again that was refused with `UNAVAILABLE` or with the time after which to try
/// again (`google.rpc.RetryInfo`), or whose connection was lost. Only calls that may be repeated are: they read, or
/// carry a `request_id`. Never beyond a call's deadline.
///
/// One that is told a time waits at least as long; else the wait doubles from try to try. Part of each wait is left
/// to chance, so that those who failed together do not come back together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often a call is made at most, the first time included.
    pub attempts: u32,
    /// The longest wait before the second try, when no time was told.
    pub first_wait: Duration,
    /// The longest wait before any other.
    pub longest_wait: Duration,
}

impl Default for Retries {
    /// 8 tries, within about 16 seconds: a server that is started again is back by then.
    fn default() -> Self {
        Retries {
            attempts: 8,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(5),
        }
    }
}

impl Retries {
    /// Every call is made once, and requests are left as they are.
    pub fn none() -> Self {
        Retries {
            attempts: 1,
            ..Retries::default()
        }
    }

    pub(crate) fn any(&self) -> bool {
        self.attempts > 1
    }

    /// How long to wait after the try of that number was refused; `None` when it was the last.
    pub(crate) fn after(&self, attempt: u32, refusal: &Status) -> Option<Duration> {
        let told = refusal.get_details_retry_info();
        let may_succeed = refusal.code() == Code::Unavailable || told.is_some();
        if attempt >= self.attempts || !may_succeed {
            return None;
        }
        let told = told.and_then(|info| info.retry_delay).unwrap_or_default();
        Some(self.wait(attempt, told, rand::random()))
    }

    /// The wait, by a random number from 0 to 1.
    fn wait(&self, attempt: u32, told: Duration, luck: f64) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
        let longest = self.first_wait.saturating_mul(doubled);
        let half = longest.min(self.longest_wait) / 2;
        told.max(half).saturating_add(half.mul_f64(luck))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn refused(code: Code, told: Option<Duration>) -> Status {
        let mut details = ErrorDetails::new();
        if told.is_some() {
            details.set_retry_info(told);
        }
        Status::with_error_details(code, "not now", details)
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let retries = Retries::default();
        let waits = |luck| {
            let wait = |attempt| retries.wait(attempt, Duration::ZERO, luck).as_millis();
            [1, 2, 3, 4, 5, 6, 7, u32::MAX].map(wait)
        };
        let shortest = [100, 200, 400, 800, 1_600, 2_500, 2_500, 2_500];
        assert_eq!(waits(0.0), shortest);
        assert_eq!(waits(1.0), shortest.map(|wait| 2 * wait));
    }

    #[test]
    fn a_time_that_is_told_is_waited_for() {
        let retries = Retries::default();
        let told = Duration::from_secs(3);
        assert_eq!(retries.wait(1, told, 0.0), told);
        assert_eq!(retries.wait(1, told, 1.0), told + 100 * MILLI);
        let wait = retries.after(1, &refused(Code::ResourceExhausted, Some(told)));
        assert!(wait.is_some_and(|wait| (told..=told + 100 * MILLI).contains(&wait)));
    }

    #[test]
    fn what_cannot_succeed_is_not_tried_again() {
        let retries = Retries::default();
        let unavailable = refused(Code::Unavailable, None);
        assert!(retries.after(7, &unavailable).is_some());
        assert_eq!(retries.after(8, &unavailable), None);
        assert_eq!(Retries::none().after(1, &unavailable), None);
        for code in [
            Code::InvalidArgument,
            Code::Aborted,
            Code::Internal,
            Code::DeadlineExceeded,
        ] {
            assert_eq!(retries.after(1, &refused(code, None)), None, "{code:?}");
        }
    }
}
