//! What plugins tell of their work: lines for our log, with the account and the message that they are
//! about; and spans, which come finished, with the context that their call was given.
//!
//! What leaves of it is not left to them. Of a line that is the text if the plugin says that it is fixed, as the SDK
//! sees to, and the message's id; of a span a name that is one and the messages' ids. All other words – e.g. of a
//! mail server that repeats an address – are for `debug` alone.

use std::sync::Arc;
use std::time::SystemTime;

use anklang_channels::Telemetry as Told;
use anklang_channels::proto::{LogEvent, SpanEvent, log_event::Level};
use anklang_store::message::printable;
use opentelemetry::trace::{Span, SpanKind, Status, Tracer};
use opentelemetry::{KeyValue, global};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::spans::{context, is_sampled};
use crate::accounts::Account;
use crate::work::App;
use crate::work::dispatch::Group;

/// The most fields of a line.
const MAX_FIELDS: usize = 16;

/// The field and the attribute that name messages.
const MESSAGE: &str = "message_id";
const MESSAGES: &str = "message_ids";

/// What stands for a line whose words may be anybody's, and for a span's name that is none.
const SOME_LINE: &str = "a plugin's line";
const SOME_SPAN: &str = "plugin";
/// The longest name of a span.
const LONGEST_NAME: usize = 40;

/// Passes an account's lines and spans on, until its instance is closed; spans only when they are
/// exported.
pub async fn forward(app: App, account: Arc<Account>, mut telemetry: mpsc::Receiver<Told>) {
    let exports = super::endpoint(&app.config.telemetry).is_some();
    while let Some(told) = telemetry.recv().await {
        match told {
            Told::Log(line) => log(&account, &line),
            Told::Span(span) if exports => export(&account, &span),
            Told::Span(_) | Told::Metric(_) => {}
        }
    }
}

fn log(account: &Account, line: &LogEvent) {
    let (plugin, account) = (&account.plugin.manifest().id[..], &account.id[..]);
    let said = printable(&line.message);
    let text = if line.fixed { &said[..] } else { SOME_LINE };
    let message_id = line.fields.get(MESSAGE).and_then(|said| id(said));
    let fields = line.fields.iter();
    let others = fields.filter(|(name, _)| *name != MESSAGE || message_id.is_none());
    let mut fields: Vec<(String, String)> = others
        .take(MAX_FIELDS)
        .map(|(name, value)| (printable(name), printable(value)))
        .collect();
    fields.sort();
    let tells_more = !fields.is_empty() || !line.fixed;
    match line.level() {
        Level::Debug => {}
        Level::Unspecified | Level::Info => tracing::info!(plugin, account, message_id, "{text}"),
        Level::Warn => tracing::warn!(plugin, account, message_id, "{text}"),
        Level::Error => tracing::error!(plugin, account, message_id, "{text}"),
    }
    if tells_more || line.level() == Level::Debug {
        tracing::debug!(plugin, account, message_id, ?fields, "{said}");
    }
}

fn export(account: &Account, event: &SpanEvent) {
    let parent = context(Some(&event.traceparent));
    if !is_sampled(&parent) {
        return;
    }
    let plugin = &account.plugin.manifest().id;
    let mut attributes = vec![
        KeyValue::new("anklang.plugin", plugin.clone()),
        KeyValue::new("messaging.destination.name", account.id.clone()),
    ];
    let ids = event.attributes.get(MESSAGES).map(|said| ids(said));
    let ids = ids.unwrap_or_default();
    // The convention knows one message; of a batch each id is in ours.
    if let [id] = &ids[..] {
        attributes.push(KeyValue::new("messaging.message.id", id.clone()));
    }
    if !ids.is_empty() {
        attributes.push(KeyValue::new("plugin.message_ids", ids.join(",")));
    }
    let time = |at: Option<prost_types::Timestamp>| {
        at.and_then(|at| SystemTime::try_from(at).ok())
            .unwrap_or_else(SystemTime::now)
    };
    let tracer = global::tracer("anklang");
    let mut span = tracer
        .span_builder(format!("{plugin} {}", name(&event.name)))
        .with_kind(SpanKind::Internal)
        .with_start_time(time(event.started_at))
        .with_attributes(attributes)
        .start_with_context(&tracer, &parent);
    if event.failed {
        span.set_status(Status::error(""));
    }
    span.end_with_timestamp(time(event.ended_at));
}

/// The id that a text is, if it is one.
fn id(said: &str) -> Option<String> {
    Uuid::parse_str(said).ok().map(|id| id.to_string())
}

/// The ids in a list with commas.
fn ids(said: &str) -> Vec<String> {
    said.split(',').filter_map(id).take(Group::MOST).collect()
}

/// The name of some work.
fn name(said: &str) -> &str {
    let fits = |b: u8| b.is_ascii_lowercase() || b == b'_' || b == b'.';
    let is_name = (1..=LONGEST_NAME).contains(&said.len()) && said.bytes().all(fits);
    if is_name { said } else { SOME_SPAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_a_name_and_ids_and_no_other_words() {
        let longest = "a".repeat(LONGEST_NAME);
        for said in ["send", "mail.connect", "look_up", &longest] {
            assert_eq!(name(said), said);
        }
        let too_long = format!("{longest}a");
        for said in ["", "send to erika", "Erika", "0301234", "müller", &too_long] {
            assert_eq!(name(said), SOME_SPAN, "{said}");
        }
        let one = "0198c0de-0000-7000-8000-000000000001";
        let said = format!("erika@post.example,{one},0301234");
        assert_eq!(ids(&said), [one]);
        assert_eq!(ids(""), Vec::<String>::new());
        assert_eq!(ids(&vec![one; 100].join(",")).len(), Group::MOST);
    }
}
