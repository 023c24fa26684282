//! One exhaustive conversion of errors to `google.rpc.Status` with rich details.

use std::collections::HashMap;
use std::time::Duration;

use anklang_domain::Violations;
use anklang_domain::access::Permission;
use anklang_domain::approval::Unfit;
use anklang_proto::anklang::common::v1::ErrorReason;
use anklang_store::StoreError;
use anklang_store::telemetry::without_values;
use http::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

/// Domain of every `ErrorInfo`.
const DOMAIN: &str = "anklang";
/// When a caller may try again after UNAVAILABLE.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The most violations that are sent: a status travels in HTTP headers, which clients limit to
/// 8 KiB or more. The message says how many there are.
const MAX_VIOLATIONS: usize = 40;

/// The most bytes of fields and reasons of violations together, for the same cause.
const MAX_VIOLATION_BYTES: usize = 5_000;
/// The most bytes of a name, a path or a reason: callers may send long ones.
const LONGEST_TEXT: usize = 300;

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The request breaks rules: all of them.
    #[error("{0}")]
    Invalid(#[from] Violations),
    /// No such resource; holds its name.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A resource with that name exists.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// The state of a resource does not allow it.
    #[error("{resource}: {description}")]
    Precondition {
        /// Which of the documented reasons.
        reason: ErrorReason,
        /// Name of the resource.
        resource: String,
        /// What is in the way.
        description: String,
    },
    /// The tenant is missing or not known.
    #[error("{0}")]
    TenantRequired(&'static str),
    /// The caller is not known: no token, or none that is trusted.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller is known, and may not do that.
    #[error("{0}")]
    PermissionDenied(#[from] Denied),
    /// The `request_id` came before with another request.
    #[error("this request_id came before with another request")]
    RequestIdReused,
    /// A resource is not as the caller has seen it; holds its name.
    #[error("{0} has changed since")]
    Stale(String),
    /// The call's deadline has come.
    #[error("the call's deadline has come")]
    DeadlineExceeded,
    /// The tenant asks for more than one server gives it.
    #[error("{0}")]
    Exhausted(#[from] Exhausted),
    /// A message of the request is larger than the server takes; holds what gRPC says about it.
    #[error("{0}")]
    TooLarge(String),
    /// A message of the request is none; holds what gRPC says about it.
    #[error("{0}")]
    Malformed(String),
    /// The server has as much to do as it takes.
    #[error("the server has as many calls under way as it takes")]
    Overloaded,
    /// Something outside does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The caller's issuer does not answer; holds how long until it is asked again.
    #[error("the token's issuer does not answer, so that it cannot be checked")]
    IssuerAway(Duration),
    /// The caller's issuer answers, and had no such key a moment ago; holds how long until it is asked again.
    #[error("the token's key is not known yet; its issuer has been asked for keys just now")]
    KeyNotYet(Duration),
    /// Our own fault.
    #[error("{0}")]
    Internal(String),
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a caller may not do.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Make this call.
    #[error("{caller} has no permission {permission}")]
    Permission {
        /// Who it is.
        caller: String,
        /// The permission that is missing.
        permission: &'static str,
    },
    /// Make this call, as nobody has said who may.
    #[error("the method declares no permission")]
    Undeclared,
    /// Act for this tenant, whether there is one or not.
    #[error("anklang-tenant names no tenant for which you may act")]
    Tenant,
    /// Work in this name; holds what it must be.
    #[error("worker: {0}")]
    Worker(String),
    /// Make this call, or what it asks for, as one who is bound to org units.
    #[error("{0} is not for callers who are bound to org units")]
    Bound(&'static str),
    /// Do anything, as one who is to be bound to org units and names none.
    #[error("your token or certificate names no org unit")]
    NoUnit,
    /// Change a selection by which winback excludes customers; holds the exclusion's name.
    #[error(
        "the exclusion {0:?} of winback goes by this selection: changing it needs the permission winback.manage"
    )]
    Exclusion(String),
    /// Decide about what they have launched or changed themselves.
    #[error("{0}")]
    Own(Unfit),
}

/// What a tenant has used up of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Calls in a time; holds how long until there is one more.
    #[error("the tenant makes more calls in a second than this server takes of one")]
    Rate(Duration),
    /// Places for calls.
    #[error("the tenant has as many calls under way as this server takes of one")]
    Calls,
    /// Places for streams and calls that wait.
    #[error("the tenant has as many streams open as this server takes of one")]
    Streams,
    /// Memory for answers that are on their way.
    #[error(
        "the tenant's clients do not take their answers: as many wait as this server keeps of one"
    )]
    Answers,
}

impl ApiError {
    /// Refuses because of one field.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut violations = Violations::new();
        violations.add(field, reason);
        ApiError::Invalid(violations)
    }

    /// What ends a stream with it.
    pub fn trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        // What is left out when it does not fit into headers is the message alone.
        let _ = Status::from(self).add_header(&mut trailers);
        trailers
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Invalid(violations) | ApiError::Store(StoreError::Invalid(violations)) => {
                invalid(violations)
            }
            ApiError::NotFound(name) | ApiError::Store(StoreError::Missing(name)) => {
                let name = short(name);
                let mut details = info(ErrorReason::NotFound, []);
                details.set_resource_info("", &name, "", "does not exist in this tenant");
                Status::with_error_details(
                    Code::NotFound,
                    format!("{name} does not exist"),
                    details,
                )
            }
            ApiError::AlreadyExists(name) => Status::with_error_details(
                Code::AlreadyExists,
                format!("{} exists already", short(name)),
                info(ErrorReason::AlreadyExists, []),
            ),
            ApiError::Precondition {
                reason,
                resource,
                description,
            } => precondition(reason, resource, description),
            ApiError::Store(StoreError::Refused { resource, reason }) => {
                precondition(ErrorReason::Precondition, resource, reason)
            }
            ApiError::TenantRequired(message) => Status::with_error_details(
                Code::Unauthenticated,
                message,
                info(ErrorReason::TenantRequired, []),
            ),
            ApiError::Unauthenticated(message) => Status::with_error_details(
                Code::Unauthenticated,
                message,
                info(ErrorReason::Unauthenticated, []),
            ),
            ApiError::PermissionDenied(denied) => permission_denied(denied),
            ApiError::RequestIdReused => {
                let mut details = info(ErrorReason::RequestIdReused, []);
                details.add_bad_request_violation("request_id", "came before with another request");
                Status::with_error_details(
                    Code::InvalidArgument,
                    "request_id: came before with another request",
                    details,
                )
            }
            ApiError::Stale(name) => {
                let name = short(name);
                let mut details = info(ErrorReason::EtagMismatch, []);
                let what = "has changed since; read it again";
                details.set_resource_info("", &name, "", what);
                Status::with_error_details(Code::Aborted, format!("{name} {what}"), details)
            }
            ApiError::DeadlineExceeded => Status::with_error_details(
                Code::DeadlineExceeded,
                "the call's deadline has come",
                info(ErrorReason::DeadlineExceeded, []),
            ),
            ApiError::Exhausted(what) => {
                let (reason, again) = match what {
                    Exhausted::Rate(again) => (ErrorReason::RateLimited, again),
                    Exhausted::Calls | Exhausted::Streams | Exhausted::Answers => {
                        (ErrorReason::TooManyCalls, RETRY_AFTER)
                    }
                };
                again_after(Code::ResourceExhausted, reason, what.to_string(), again)
            }
            ApiError::TooLarge(why) => Status::with_error_details(
                Code::OutOfRange,
                format!("the request is too large: {}", short(why)),
                info(ErrorReason::TooLarge, []),
            ),
            ApiError::Malformed(why) => Status::with_error_details(
                Code::InvalidArgument,
                format!("the request is none: {}", short(why)),
                info(ErrorReason::InvalidArgument, []),
            ),
            ApiError::Overloaded => {
                let message = "the server has as many calls under way as it takes".to_owned();
                let reason = ErrorReason::Overloaded;
                again_after(Code::Unavailable, reason, message, RETRY_AFTER)
            }
            ApiError::Unavailable(message) => unavailable(message),
            ApiError::IssuerAway(again) | ApiError::KeyNotYet(again) => {
                let (code, reason) = (Code::Unavailable, ErrorReason::Unavailable);
                again_after(code, reason, error.to_string(), again)
            }
            ApiError::Store(error) if error.is_late() => ApiError::DeadlineExceeded.into(),
            ApiError::Store(error) if error.is_transient() => {
                tracing::warn!(%error, "store");
                unavailable("the database does not answer".into())
            }
            ApiError::Store(error) => internal(&error),
            ApiError::Internal(message) => internal(&message),
        }
    }
}

/// Says in our words what gRPC itself has refused, which is a message that it cannot read, or one that it cannot send:
/// what handlers refuse has details. Of an answer's headers or trailers.
pub fn complete(headers: &mut HeaderMap) {
    // What it says of an answer that it cannot send: no caller is at fault.
    const OURS: [&str; 3] = ["Error encoding", "Error compressing", "Error, encoded"];
    let code = headers.get("grpc-status");
    let make: fn(String) -> ApiError = match code.map(|code| Code::from_bytes(code.as_bytes())) {
        // The second is about what comes out of a compressed one.
        Some(Code::OutOfRange | Code::ResourceExhausted) => ApiError::TooLarge,
        Some(Code::Internal) => ApiError::Malformed,
        _ => return,
    };
    if !headers.contains_key("grpc-status-details-bin")
        && let Some(status) = Status::from_header_map(headers)
    {
        let message = status.message().to_owned();
        let is_ours = OURS.iter().any(|ours| message.starts_with(ours));
        let error = if is_ours {
            ApiError::Internal(message)
        } else {
            make(message)
        };
        headers.extend(error.trailers());
    }
}

fn permission_denied(denied: Denied) -> Status {
    let reason = ErrorReason::PermissionDenied;
    let message = short(denied.to_string());
    let metadata = |key: &str, value: &str| info(reason, [(key.to_owned(), value.to_owned())]);
    let details = match denied {
        Denied::Permission { permission, .. } => metadata("permission", permission),
        Denied::Exclusion(_) => metadata("permission", Permission::WinbackManage.as_str()),
        Denied::Worker(must) => {
            let mut details = metadata("field", "worker");
            details.add_bad_request_violation("worker", short(must));
            details
        }
        Denied::Undeclared
        | Denied::Tenant
        | Denied::Bound(_)
        | Denied::NoUnit
        | Denied::Own(_) => info(reason, []),
    };
    Status::with_error_details(Code::PermissionDenied, message, details)
}

fn invalid(violations: Violations) -> Status {
    let count = violations.count();
    let all = violations.into_vec();
    let mut message: String = match &all[..] {
        [one] => format!("{}: {}", one.field, one.reason),
        _ => format!("{count} fields are wrong"),
    };
    message.truncate(message.floor_char_boundary(500));
    let mut details = info(ErrorReason::InvalidArgument, []);
    let mut bytes = 0;
    let told = all
        .into_iter()
        .take(MAX_VIOLATIONS)
        .map(|v| FieldViolation {
            field: short(v.field),
            description: short(v.reason),
            ..Default::default()
        });
    let fits = |v: &FieldViolation| {
        bytes += v.field.len() + v.description.len();
        bytes <= MAX_VIOLATION_BYTES
    };
    details.set_bad_request(told.take_while(fits).collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// A text that fits into a header, whatever callers have sent.
fn short(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
        text.push('…');
    }
    text
}

fn precondition(reason: ErrorReason, resource: String, description: String) -> Status {
    let mut details = info(reason, []);
    let (resource, description) = (short(resource), short(description));
    let message = format!("{resource}: {description}");
    details.set_precondition_failure(vec![PreconditionViolation {
        r#type: reason_name(reason),
        subject: resource,
        description,
    }]);
    Status::with_error_details(Code::FailedPrecondition, message, details)
}

fn unavailable(message: String) -> Status {
    let reason = ErrorReason::Unavailable;
    again_after(Code::Unavailable, reason, message, RETRY_AFTER)
}

/// Tells when to try again.
fn again_after(code: Code, reason: ErrorReason, message: String, again: Duration) -> Status {
    let mut details = info(reason, []);
    details.set_retry_info(Some(again));
    Status::with_error_details(code, message, details)
}

/// Logs the cause under a number, and shows the number alone.
fn internal(cause: &dyn std::fmt::Display) -> Status {
    let incident = uuid::Uuid::now_v7().to_string();
    let told = without_values(&cause.to_string());
    tracing::error!(%incident, cause = told, "internal error");
    tracing::debug!(%incident, %cause, "internal error");
    Status::with_error_details(
        Code::Internal,
        format!("internal error, incident {incident}"),
        info(ErrorReason::Internal, [("incident".to_owned(), incident)]),
    )
}

fn info<const N: usize>(reason: ErrorReason, metadata: [(String, String); N]) -> ErrorDetails {
    ErrorDetails::with_error_info(reason_name(reason), DOMAIN, HashMap::from(metadata))
}

fn reason_name(reason: ErrorReason) -> String {
    reason
        .as_str_name()
        .trim_start_matches("ERROR_REASON_")
        .to_owned()
}
