//! What a refusal says.

use std::fmt;
use std::time::Duration;

use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_proto::google::rpc;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorInfo, StatusExt};

/// Where a status has the id of a change; no server says it.
const REQUEST_ID: &str = "anklang-client-request-id";

/// Why a call was refused, or an operation failed. Decide by [`Error::reason`] or [`Error::code`], not by the
/// message.
#[derive(Debug, Clone)]
pub struct Error {
    status: Status,
}

/// One field of a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, e.g. `customer.contact_points[0].address`.
    pub field: String,
    /// What would be right.
    pub description: String,
}

impl Error {
    /// The code of the status.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// The message, for people.
    pub fn message(&self) -> &str {
        self.status.message()
    }

    /// The reason; `Unspecified` when the error is none of the server's, or the server knows more reasons than
    /// this client.
    pub fn reason(&self) -> ErrorReason {
        let info = self.info();
        let reason = info
            .and_then(|info| ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason)));
        reason.unwrap_or_default()
    }

    /// All fields of the request that are wrong.
    pub fn violations(&self) -> Vec<Violation> {
        let bad = self.status.get_details_bad_request();
        let fields = bad.into_iter().flat_map(|bad| bad.field_violations);
        fields
            .map(|v| Violation {
                field: v.field,
                description: v.description,
            })
            .collect()
    }

    /// The resource whose state does not allow the call, with the reason.
    pub fn precondition(&self) -> Option<Violation> {
        let failure = self.status.get_details_precondition_failure()?;
        let violation = failure.violations.into_iter().next()?;
        Some(Violation {
            field: violation.subject,
            description: violation.description,
        })
    }

    /// The time after which the call may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        self.status.get_details_retry_info()?.retry_delay
    }

    /// The `request_id` of a change of which nobody knows whether it was done, as no answer came: keep it, and make
    /// the same request with it again. `None` where it is known, or nothing was to be changed.
    pub fn request_id(&self) -> Option<&str> {
        self.status.metadata().get(REQUEST_ID)?.to_str().ok()
    }

    /// The number under which the server has logged its own fault.
    pub fn incident(&self) -> Option<String> {
        self.info()?.metadata.remove("incident")
    }

    /// The permission that the caller lacks.
    pub fn permission(&self) -> Option<String> {
        self.info()?.metadata.remove("permission")
    }

    /// The status as it came.
    pub fn status(&self) -> &Status {
        &self.status
    }

    fn info(&self) -> Option<ErrorInfo> {
        let info = self.status.get_details_error_info();
        info.filter(|info| info.domain == "anklang")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.code(), self.message())?;
        let violations = self.violations();
        // The message names a single one itself.
        if violations.len() > 1 {
            for violation in violations {
                write!(f, "; {}: {}", violation.field, violation.description)?;
            }
        }
        Ok(())
    }
}

/// A status that tells the id of a change.
pub(crate) fn with_id(mut status: Status, id: &str) -> Status {
    if let Ok(id) = id.parse() {
        status.metadata_mut().insert(REQUEST_ID, id);
    }
    status
}

// Of a lost connection the message tells the causes.
impl std::error::Error for Error {}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Error { status }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        error.status
    }
}

/// The error of an operation.
impl From<rpc::Status> for Error {
    fn from(error: rpc::Status) -> Self {
        let details = error.encode_to_vec().into();
        Status::with_details(Code::from(error.code), error.message, details).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation};

    use super::*;

    fn error(code: Code, details: ErrorDetails) -> Error {
        Status::with_error_details(code, "2 fields are wrong", details).into()
    }

    fn info(reason: &str, key: &str, value: &str) -> ErrorDetails {
        let metadata = HashMap::from([(key.to_owned(), value.to_owned())]);
        ErrorDetails::with_error_info(reason, "anklang", metadata)
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let mut details = info("INVALID_ARGUMENT", "", "");
        details.set_bad_request(vec![
            FieldViolation::new("brand.code", "must not be empty"),
            FieldViolation::new("brand.sender_email", "must be an address"),
        ]);
        let error = error(Code::InvalidArgument, details);
        assert_eq!(error.reason(), ErrorReason::InvalidArgument);
        let fields: Vec<String> = error.violations().into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["brand.code", "brand.sender_email"]);
        assert_eq!(
            error.to_string(),
            "InvalidArgument: 2 fields are wrong; brand.code: must not be empty; \
             brand.sender_email: must be an address"
        );
    }

    #[test]
    fn what_belongs_to_a_reason_is_told() {
        let lacking = error(
            Code::PermissionDenied,
            info("PERMISSION_DENIED", "permission", "offers.write"),
        );
        assert_eq!(lacking.permission().as_deref(), Some("offers.write"));
        assert_eq!(lacking.incident(), None);
        let fault = error(Code::Internal, info("INTERNAL", "incident", "4711"));
        assert_eq!(fault.incident().as_deref(), Some("4711"));

        let mut details = info("UNAVAILABLE", "", "");
        details.set_retry_info(Some(Duration::from_secs(1)));
        let busy = error(Code::Unavailable, details);
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(1)));

        let mut details = info("OFFER_EXPIRED", "", "");
        details.set_precondition_failure(vec![PreconditionViolation::new(
            "OFFER_EXPIRED",
            "offers/A-1",
            "its last day has passed",
        )]);
        let expired = error(Code::FailedPrecondition, details);
        assert_eq!(expired.reason(), ErrorReason::OfferExpired);
        assert_eq!(
            expired.precondition().map(|violation| violation.field),
            Some("offers/A-1".into())
        );
    }

    #[test]
    fn a_change_in_doubt_has_its_id() {
        let lost = Status::unavailable("lost");
        assert_eq!(Error::from(lost.clone()).request_id(), None);
        let error = Error::from(with_id(lost, "0191f3a0"));
        assert_eq!(error.request_id(), Some("0191f3a0"));
        assert_eq!(error.to_string(), "Unavailable: lost");
    }

    #[test]
    fn errors_of_others_have_no_reason_of_ours() {
        let strange = ErrorDetails::with_error_info("NOT_FOUND", "elsewhere", HashMap::new());
        let unknown = info("HEARD_OF_NEXT_YEAR", "", "");
        for details in [ErrorDetails::new(), strange, unknown] {
            let error = error(Code::NotFound, details);
            assert_eq!(error.reason(), ErrorReason::Unspecified);
            assert!(error.violations().is_empty());
        }
    }
}
