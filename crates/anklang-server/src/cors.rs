//! Pages of other origins that may call by gRPC-Web (CORS): those of `server.cors_origins`, and no others.
//!
//! Browsers ask before they send a call, as its content type is none of a form's. Whoever they are with shows it by
//! a token in a header that the page sets: cookies and certificates are not sent along (no
//! `access-control-allow-credentials`).

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use tower_http::cors::CorsLayer;

/// Headers that pages may send with calls.
const ASKED: [&str; 11] = [
    "anklang-fresh",
    "anklang-tenant",
    "authorization",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-timeout",
    "traceparent",
    "tracestate",
    "x-grpc-web",
    "x-user-agent",
];

/// Headers of answers that pages may read: an error without a message has its status there.
const TOLD: [&str; 4] = [
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
];

/// Browsers may remember for so long that pages may call.
const ASK_AGAIN: Duration = Duration::from_secs(3_600);

/// What answers browsers who ask; `None` without any origin, so that they let no page call.
pub fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(origins.to_vec())
        .allow_methods([Method::POST])
        .allow_headers(ASKED.map(HeaderName::from_static))
        .expose_headers(TOLD.map(HeaderName::from_static))
        .max_age(ASK_AGAIN);
    Some(layer)
}
