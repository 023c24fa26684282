//! The trait that a plugin author implements.

use std::future::Future;

use anklang_plugin_proto::v1::{
    AmbiguousPolicy, CallbackReply, CallbackRequest, Capability, HealthReply, LookupResult,
    Message, Outcome, health_reply::Status,
};

use crate::Host;

/// Why an instance could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The configuration cannot work as it is written. The text names what and why, for the
    /// operator, without secrets.
    Invalid(String),
    /// Something else failed, and trying again later may help.
    Failed(String),
}

/// One channel: mail, SMS, fax, …; a value of it is one opened configuration.
///
/// All methods run on the plugin's own runtime and may run at the same time.
pub trait Channel: Send + Sync + Sized + 'static {
    /// The configuration. Its JSON Schema goes into the manifest; mark secrets in it with
    /// `#[schemars(extend("writeOnly" = true))]`.
    type Config: serde::de::DeserializeOwned + schemars::JsonSchema + Send;

    /// Stable identifier of the plugin, lower case.
    const ID: &'static str;
    /// The channel it serves: `email`, `sms`, `fax`, …
    const CHANNEL: &'static str;
    /// Semantic version, usually `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// What it can do beyond sending. Without `Lookup` and `Callback` in here the host never
    /// gets through to [`Channel::lookup`] and [`Channel::callback`].
    const CAPABILITIES: &'static [Capability] = &[];
    /// What to do with ambiguous messages where the tenant has not decided.
    const AMBIGUOUS_POLICY: AmbiguousPolicy = AmbiguousPolicy::Hold;
    /// Most messages per batch; at least 1.
    const MAX_BATCH: u32 = 100;
    /// Most calls in flight per instance; at least 1. Beyond it the host is told to wait.
    const MAX_CALLS_IN_FLIGHT: u32 = 8;

    /// Opens an instance. The configuration has passed the JSON Schema and serde.
    fn open(
        config: Self::Config,
        host: Host,
    ) -> impl Future<Output = Result<Self, OpenError>> + Send;

    /// Sends a batch: exactly one outcome per message, in the same order.
    ///
    /// The future is dropped when the host gives the call up; the messages are ambiguous then.
    fn send(&self, batch: Vec<Message>) -> impl Future<Output = Vec<Outcome>> + Send;

    /// Whether this account can look messages up, of a plugin with `Lookup`. Of one that cannot the host
    /// never gets through to [`Channel::lookup`], and the policy for ambiguous messages counts at once.
    fn looks_up(&self) -> bool {
        true
    }

    /// Settles ambiguous messages by their idempotency keys: one result per key, in order.
    fn lookup(&self, message_ids: Vec<String>) -> impl Future<Output = Vec<LookupResult>> + Send {
        let _ = message_ids;
        async { Vec::new() }
    }

    /// Whether this account has a provider that calls, of a plugin with `Callback`. Of one that has not the
    /// host never gets through to [`Channel::callback`].
    fn is_called_back(&self) -> bool {
        true
    }

    /// Authenticates and translates an HTTP request of the provider.
    fn callback(&self, request: CallbackRequest) -> impl Future<Output = CallbackReply> + Send {
        let _ = request;
        async { CallbackReply::default() }
    }

    /// Says whether the channel can send. The default says yes.
    fn health(&self) -> impl Future<Output = HealthReply> + Send {
        async {
            HealthReply {
                status: Status::Serving.into(),
                detail: String::new(),
            }
        }
    }

    /// The host has committed these events: acknowledge them to the peer.
    fn acknowledge(&self, event_ids: Vec<u64>) -> impl Future<Output = ()> + Send {
        let _ = event_ids;
        async {}
    }

    /// Says goodbye to the peer, after the last call and before the deadline of the drain.
    fn shut_down(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}
