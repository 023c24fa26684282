//! The spans of work in the background, and how they go on with the trace in which the work was
//! asked for. Names and attributes are those of OpenTelemetry's semantic conventions.

use std::collections::BTreeMap;

use anklang_domain::handover::Outcome;
use anklang_store::handover::delivery::Event;
use anklang_store::message::Claimed;
use anklang_store::operation::Operation;
use anklang_store::telemetry::traceparent_of;
use http::StatusCode;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry::{Context, SpanId};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use uuid::Uuid;

use super::TARGET;
use crate::accounts::Account;

/// The most links of a span.
const MAX_LINKS: usize = 32;

/// Goes on with a trace. A span that is not recorded has no parent to be given.
pub(super) fn set_parent(span: &Span, parent: Context) {
    if parent.span().span_context().is_valid() && !span.is_disabled() {
        // Refused only when the span has begun: none has.
        let _ = span.set_parent(parent);
    }
}

/// Reads a W3C `traceparent`; an empty context when there is none, or it is none.
pub(super) fn context(traceparent: Option<&str>) -> Context {
    struct One<'a>(Option<&'a str>);
    impl Extractor for One<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            self.0.filter(|_| key == "traceparent")
        }
        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &One(traceparent))
}

/// The `traceparent` for whoever is called inside of a span; empty when it is not recorded.
pub fn traceparent(span: &Span) -> String {
    if span.is_disabled() {
        return String::new();
    }
    traceparent_of(span.context().span().span_context()).unwrap_or_default()
}

/// An operation in the hands of a worker, from its claim until it is over or given back.
pub fn operation(operation: &Operation) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "operation",
        otel.name = format!("operation {}", operation.kind),
        otel.kind = "consumer",
        otel.status_code = Empty,
        anklang.operation.id = %operation.id,
        anklang.operation.kind = operation.kind,
        anklang.operation.attempt = operation.attempt,
        anklang.operation.outcome = Empty,
    );
    set_parent(&span, context(operation.traceparent.as_deref()));
    span
}

/// Notes how a worker's hold on an operation ended. That one is given back is no error.
pub fn operation_ended(outcome: &'static str, failed: bool) {
    let span = Span::current();
    span.record("anklang.operation.outcome", outcome);
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// A batch of messages of an account. It goes on with the messages' trace if all have the same one,
/// as those of a launch do; else it is linked to (some of) theirs.
pub fn batch(account: &Account, messages: &[Claimed]) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "dispatch",
        otel.name = format!("process {}", account.id),
        otel.kind = "consumer",
        messaging.system = account.channel(),
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = account.id,
        messaging.batch.message_count = messages.len(),
    );
    if span.is_disabled() {
        return span;
    }
    let mut traceparents: Vec<&str> = messages
        .iter()
        .filter_map(|m| m.traceparent.as_deref())
        .collect();
    traceparents.sort_unstable();
    traceparents.dedup();
    let contexts: Vec<Context> = traceparents.iter().map(|t| context(Some(t))).collect();
    let mut traces: Vec<_> = contexts
        .iter()
        .map(|c| c.span().span_context().trace_id())
        .collect();
    traces.dedup();
    let mut links = contexts.into_iter();
    if traces.len() == 1
        && let Some(first) = links.next()
    {
        set_parent(&span, first);
    }
    for linked in links.take(MAX_LINKS) {
        span.add_link(linked.span().span_context().clone());
    }
    span
}

/// Messages that are handed to the channel together.
pub fn hand_over(account: &Account, messages: usize) -> Span {
    tracing::info_span!(
        target: TARGET,
        "send",
        otel.name = format!("send {}", account.id),
        otel.kind = "producer",
        otel.status_code = Empty,
        messaging.system = account.channel(),
        messaging.operation.name = "send",
        "messaging.operation.type" = "send",
        messaging.destination.name = account.id,
        messaging.batch.message_count = messages,
    )
}

/// Ambiguous messages that their channel is asked about together.
pub fn look_up(account: &Account, messages: usize) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "lookup",
        otel.name = format!("lookup {}", account.id),
        otel.kind = "client",
        messaging.system = account.channel(),
        messaging.operation.name = "lookup",
        messaging.destination.name = account.id,
        messaging.batch.message_count = messages,
    )
}

/// Reports of a channel that were recorded, so many of the messages of each trace: they go on with it.
pub fn reported(account: &Account, traces: &BTreeMap<String, usize>) {
    for (traceparent, count) in traces {
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "report",
            otel.name = format!("report {}", account.id),
            otel.kind = "consumer",
            messaging.system = account.channel(),
            messaging.operation.name = "report",
            "messaging.operation.type" = "settle",
            messaging.destination.name = account.id,
            messaging.batch.message_count = *count,
        );
        set_parent(&span, context(Some(traceparent)));
    }
}

/// The delivery of an event to a webhook; it goes on with the trace in which the event happened.
pub fn delivery(webhook: Uuid, event: &Event, attempt: i32) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "delivery",
        otel.name = "POST",
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = "POST",
        http.request.resend_count = (attempt > 1).then_some(attempt - 1),
        http.response.status_code = Empty,
        cloudevents.event_id = %event.event_id,
        cloudevents.event_type = event.event_type,
        anklang.webhook.id = %webhook,
    );
    set_parent(&span, context(event.traceparent.as_deref()));
    span
}

/// Notes what a delivery came to.
pub fn delivered(span: &Span, outcome: &Outcome, status: Option<StatusCode>) {
    if let Some(status) = status {
        span.record("http.response.status_code", status.as_u16());
    }
    if matches!(outcome, Outcome::Failed { .. }) {
        span.record("otel.status_code", "ERROR");
    }
}

/// Whether a context is that of a span which is recorded.
pub(super) fn is_sampled(context: &Context) -> bool {
    let span = context.span();
    let context = span.span_context();
    context.is_sampled() && context.span_id() != SpanId::INVALID
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_is_one() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = context(Some(good));
        assert_eq!(
            traceparent_of(read.span().span_context()).as_deref(),
            Some(good)
        );
        assert!(is_sampled(&read));
        for bad in [
            "",
            "x",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        ] {
            let read = context(Some(bad));
            assert!(!read.span().span_context().is_valid(), "{bad}");
        }
        assert!(!context(None).span().span_context().is_valid());
    }
}
