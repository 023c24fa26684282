//! What a server's refusal says.

use std::error::Error as _;

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

/// The fields that are wrong, each with what would be right.
pub fn faults(status: &Status) -> Vec<String> {
    let violations = status.get_details_bad_request();
    let fields = violations.map(|b| b.field_violations).unwrap_or_default();
    let fields = fields.into_iter();
    fields
        .map(|v| format!("{}: {}", v.field, v.description))
        .collect()
}
