//! What a refusal must say.

use anklang_testkit::{reason, violations};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Checks code and reason.
#[track_caller]
pub fn is(status: &Status, code: Code, wanted: &str) {
    assert_eq!(
        (status.code(), &reason(status)[..]),
        (code, wanted),
        "{status:?}"
    );
}

/// Checks that exactly these fields are named, each once for each time it is given.
#[track_caller]
pub fn names(status: &Status, fields: &[&str]) {
    is(status, Code::InvalidArgument, "INVALID_ARGUMENT");
    let mut found: Vec<String> = violations(status)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    let mut wanted: Vec<&str> = fields.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{:#?}", violations(status));
    let words = violations(status);
    assert!(
        words.iter().all(|(_, reason)| !reason.is_empty()),
        "{words:?}"
    );
}

/// Checks that a state is in the way, and gives subject and description of what is.
#[track_caller]
pub fn precondition(status: &Status, wanted: &str) -> (String, String) {
    is(status, Code::FailedPrecondition, wanted);
    let details = status.get_error_details();
    let failure = details
        .precondition_failure()
        .expect("says what is in the way");
    let [violation] = &failure.violations[..] else {
        panic!("one violation: {failure:?}");
    };
    assert_eq!(violation.r#type, wanted);
    (violation.subject.clone(), violation.description.clone())
}

/// Checks that something was not found.
#[track_caller]
pub fn not_found(status: &Status) {
    is(status, Code::NotFound, "NOT_FOUND");
}
