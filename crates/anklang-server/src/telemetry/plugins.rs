//! Spans that plugins tell of: they come finished, with the context that their call was given.

use anklang_channels::proto::SpanEvent;
use anklang_channels::{Events, Telemetry as Told};
use opentelemetry::trace::{Span, SpanKind, Status, Tracer};
use opentelemetry::{KeyValue, global};
use std::time::SystemTime;

use super::spans::{context, is_sampled};
use crate::accounts::Account;
use crate::work::App;

/// The most attributes of a plugin's span, and the most characters of a text in it.
const MAX_ATTRIBUTES: usize = 16;
const MAX_TEXT: usize = 100;

/// Passes the spans of an account on, until its instance is closed; nothing to do when nothing is
/// exported.
pub fn forward(app: &App, account: &Account) {
    if super::endpoint(&app.config.telemetry).is_none() {
        return;
    }
    let Some(events) = account.instance.events() else {
        return;
    };
    let (plugin, id) = (account.plugin.manifest().id.clone(), account.id.clone());
    tokio::spawn(async move {
        // Held, so that a plugin is told to wait with its events and not that nobody is there.
        let Events {
            deliveries: _held,
            mut telemetry,
        } = events;
        while let Some(told) = telemetry.recv().await {
            if let Told::Span(span) = told {
                export(&plugin, &id, span);
            }
        }
    });
}

/// A plugin says what it likes: it is cut to what fits.
fn export(plugin: &str, account: &str, event: SpanEvent) {
    let parent = context(Some(&event.traceparent));
    if !is_sampled(&parent) {
        return;
    }
    let cut = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
    let mut attributes = vec![
        KeyValue::new("anklang.plugin", plugin.to_owned()),
        KeyValue::new("messaging.destination.name", account.to_owned()),
    ];
    let told = event.attributes.iter().take(MAX_ATTRIBUTES);
    attributes.extend(told.map(|(k, v)| KeyValue::new(format!("plugin.{}", cut(k)), cut(v))));
    let time = |at: Option<prost_types::Timestamp>| {
        at.and_then(|at| SystemTime::try_from(at).ok())
            .unwrap_or_else(SystemTime::now)
    };
    let tracer = global::tracer("anklang");
    let mut span = tracer
        .span_builder(format!("{plugin} {}", cut(&event.name)))
        .with_kind(SpanKind::Internal)
        .with_start_time(time(event.started_at))
        .with_attributes(attributes)
        .start_with_context(&tracer, &parent);
    if event.failed {
        span.set_status(Status::error(""));
    }
    span.end_with_timestamp(time(event.ended_at));
}
