//! What a server's refusal says.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Whether the server or the way to it is gone, for now: another try may be better.
pub fn is_lost(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled => true,
        // A connection that breaks has these codes, and what broke it as its source.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

/// How long to wait at least before another try, when one may be better: the way there is gone, or the server wants
/// to be asked again.
pub fn again_after(status: &Status) -> Option<Duration> {
    let told = status.get_details_retry_info();
    let told = told.and_then(|info| info.retry_delay);
    match status.code() {
        Code::ResourceExhausted => told,
        _ => is_lost(status).then(|| told.unwrap_or_default()),
    }
}

/// The fields that are wrong, each with what would be right.
pub fn faults(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request();
    let fields = violations.map(|b| b.field_violations).unwrap_or_default();
    let fields = fields.into_iter();
    fields
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect()
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn who_is_told_when_to_come_again_does() {
        let told = |code, delay: Option<Duration>| {
            let mut details = ErrorDetails::new();
            if delay.is_some() {
                details.set_retry_info(delay);
            }
            again_after(&Status::with_error_details(code, "not now", details))
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(told(Code::ResourceExhausted, second), second);
        assert_eq!(told(Code::ResourceExhausted, None), None, "e.g. too large");
        assert_eq!(told(Code::Unavailable, second), second);
        assert_eq!(told(Code::Unavailable, None), Some(Duration::ZERO));
        assert_eq!(told(Code::InvalidArgument, second), None);
    }
}
