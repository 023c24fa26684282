//! What a refusal says.

use tonic::Status;
use tonic_types::StatusExt;

/// The fields that a refusal names, with their reasons, in order.
pub fn violations(status: &Status) -> Vec<(String, String)> {
    let details = status.get_error_details();
    details
        .bad_request()
        .map(|bad| {
            bad.field_violations
                .iter()
                .map(|v| (v.field.clone(), v.description.clone()))
                .collect()
        })
        .unwrap_or_default()
}

/// The reason that a refusal gives.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|i| i.reason.clone())
        .unwrap_or_default()
}
