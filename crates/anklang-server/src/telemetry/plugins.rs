//! What plugins tell of their work: lines for our log, with the account and the message that they are
//! about; and spans, which come finished, with the context that their call was given.
//!
//! A line's text is fixed. Its fields say what others said, e.g. a mail server that repeats an address, and
//! are for `debug` alone.

use std::sync::Arc;
use std::time::SystemTime;

use anklang_channels::Telemetry as Told;
use anklang_channels::proto::{LogEvent, SpanEvent, log_event::Level};
use anklang_store::message::printable;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer};
use opentelemetry::{KeyValue, global};
use tokio::sync::mpsc;

use super::spans::{context, is_sampled};
use crate::accounts::Account;
use crate::work::App;

/// The most attributes of a plugin's span or fields of its line, and the most characters of a text in
/// them: the ids of eight messages fit.
const MAX_ATTRIBUTES: usize = 16;
const MAX_TEXT: usize = 300;

/// The field and the attribute that name messages.
const MESSAGE: &str = "message_id";
const MESSAGES: &str = "message_ids";

/// Passes an account's lines and spans on, until its instance is closed; spans only when they are
/// exported.
pub async fn forward(app: App, account: Arc<Account>, mut telemetry: mpsc::Receiver<Told>) {
    let exports = super::endpoint(&app.config.telemetry).is_some();
    while let Some(told) = telemetry.recv().await {
        match told {
            Told::Log(line) => log(&account, &line),
            Told::Span(span) if exports => export(&account, span),
            Told::Span(_) | Told::Metric(_) => {}
        }
    }
}

fn log(account: &Account, line: &LogEvent) {
    let (plugin, account) = (&account.plugin.manifest().id[..], &account.id[..]);
    let text = printable(&line.message);
    let message_id = line.fields.get(MESSAGE).map(|id| printable(id));
    let others = line.fields.iter().filter(|(name, _)| *name != MESSAGE);
    let mut fields: Vec<(String, String)> = others
        .take(MAX_ATTRIBUTES)
        .map(|(name, value)| (printable(name), printable(value)))
        .collect();
    fields.sort();
    match line.level() {
        Level::Debug => {}
        Level::Unspecified | Level::Info => tracing::info!(plugin, account, message_id, "{text}"),
        Level::Warn => tracing::warn!(plugin, account, message_id, "{text}"),
        Level::Error => tracing::error!(plugin, account, message_id, "{text}"),
    }
    if !fields.is_empty() || line.level() == Level::Debug {
        tracing::debug!(plugin, account, message_id, ?fields, "{text}");
    }
}

/// A plugin says what it likes: it is cut to what fits.
fn export(account: &Account, event: SpanEvent) {
    let parent = context(Some(&event.traceparent));
    if !is_sampled(&parent) {
        return;
    }
    let plugin = &account.plugin.manifest().id;
    let cut = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
    let mut attributes = vec![
        KeyValue::new("anklang.plugin", plugin.clone()),
        KeyValue::new("messaging.destination.name", account.id.clone()),
    ];
    // The convention knows one message; of a batch each id is in ours.
    let ids = event.attributes.get(MESSAGES).map(|ids| cut(ids));
    if let Some(id) = ids.filter(|ids| !ids.is_empty() && !ids.contains(',')) {
        attributes.push(KeyValue::new("messaging.message.id", id));
    }
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
