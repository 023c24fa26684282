//! The messages that host and plugins exchange: `anklang.plugin.v1`, as Rust types, and short
//! ways to make outcomes.
//!
//! The types are generated from `proto/anklang/plugin/v1/plugin.proto`, whose comments are
//! their documentation.

/// Generated from `anklang/plugin/v1/plugin.proto`.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/anklang.plugin.v1.rs"));
}

use prost_types::Timestamp;
use std::time::{Duration, SystemTime};
use v1::outcome::Kind;
use v1::permanent::Reason;

impl v1::Outcome {
    /// The other side took the message at `at`; `provider_message_id` may be empty.
    pub fn accepted(
        provider_message_id: impl Into<String>,
        at: SystemTime,
        detail: impl Into<String>,
    ) -> Self {
        Kind::Accepted(v1::Accepted {
            provider_message_id: provider_message_id.into(),
            accepted_at: Some(Timestamp::from(at)),
            detail: detail.into(),
            parts: 0,
        })
        .into()
    }

    /// The message was refused for good.
    pub fn permanent(reason: Reason, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Kind::Permanent(v1::Permanent {
            reason: reason.into(),
            code: code.into(),
            detail: detail.into(),
        })
        .into()
    }

    /// The message was certainly not taken; another attempt may succeed.
    pub fn transient(code: impl Into<String>, detail: impl Into<String>) -> Self {
        Kind::Transient(v1::Transient {
            code: code.into(),
            detail: detail.into(),
        })
        .into()
    }

    /// The message was certainly not taken, because of a limit on `scope`.
    ///
    /// A `retry_after` beyond the protobuf range is cut to zero, meaning "unknown".
    pub fn throttled(retry_after: Duration, scope: impl Into<String>) -> Self {
        Kind::Throttled(v1::Throttled {
            retry_after: Some(retry_after.try_into().unwrap_or_default()),
            scope: scope.into(),
        })
        .into()
    }

    /// Whether the whole account is to rest: no other message of the call need be tried.
    pub fn rests_account(&self) -> bool {
        matches!(&self.kind, Some(Kind::Throttled(throttled)) if throttled.scope == "account")
    }

    /// Nobody can say whether the message was taken.
    pub fn ambiguous(detail: impl Into<String>) -> Self {
        Kind::Ambiguous(v1::Ambiguous {
            detail: detail.into(),
        })
        .into()
    }
}

impl From<Kind> for v1::Outcome {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}
