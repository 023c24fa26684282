//! Logs to standard error, and the export of spans and lines beside them.
//!
//! Spans of [`TARGET`] are for traces and not logged. A line in JSON carries the ids of the trace and span
//! that it was written in, and so does its log record. Exported are lines of ours alone ([`is_exported`]):
//! what exporters and their connections say of themselves would make more to export.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::IsTerminal;

use opentelemetry::trace::TraceContextExt;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::{TARGET, Telemetry};

/// Target of the line that something panicked, which every filter lets through.
const PANICS: &str = "anklang::panic";

/// The filter that is wanted, which does not hide panics.
fn filtered(wanted: &str) -> EnvFilter {
    // A filter that says nothing is one for errors.
    let wanted = if wanted.is_empty() { "error" } else { wanted };
    EnvFilter::new(format!("{PANICS}=error,{wanted}"))
}

/// Whether a line is exported: it is one of our crates, and of a level that holds nothing personal.
fn is_exported(line: &Metadata<'_>) -> bool {
    let target = line.target();
    target.starts_with("anklang") && target != TARGET && *line.level() <= Level::INFO
}

/// Logs go to standard error, and as records to telemetry if that wants them; spans go to telemetry.
pub fn init(filter: &str, json: bool, telemetry: &Telemetry) {
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let logged = filtered(filter).and(filter_fn(|meta| meta.target() != TARGET));
    let lines = match json {
        true => lines.json().map_event_format(Traced).boxed(),
        false => lines.boxed(),
    };
    let spans = telemetry.tracer().map(|tracer| {
        let exported = filter_fn(|meta| meta.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_filter(exported.with_max_level_hint(LevelFilter::INFO))
    });
    let records = telemetry.lines().map(|provider| {
        let exported = filter_fn(is_exported).with_max_level_hint(LevelFilter::INFO);
        OpenTelemetryTracingBridge::new(provider).with_filter(filtered(filter).and(exported))
    });
    // A second call (a test) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(spans)
        .with(records)
        .with(lines.with_filter(logged))
        .try_init();
}

/// Panics are lines from now on, which say where. Their words may show what they stumbled over, and are for `debug`.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let is_there = backtrace.status() == BacktraceStatus::Captured;
        let backtrace = is_there.then(|| backtrace.to_string());
        let words = panic.payload_as_str().unwrap_or_default();
        tell_panic(at, backtrace, words);
    }));
}

fn tell_panic(at: Option<String>, backtrace: Option<String>, words: &str) {
    tracing::error!(target: PANICS, at, backtrace, "panicked");
    tracing::debug!(at, "panicked: {words}");
}

/// A JSON line with the trace's ids before the rest.
struct Traced<F>(F);

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let current = opentelemetry::Context::current();
        let span = current.span();
        let context = span.span_context();
        if !context.is_valid() {
            return self.0.format_event(ctx, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        let (trace, span) = (context.trace_id(), context.span_id());
        match line.strip_prefix('{') {
            Some(rest) => write!(
                writer,
                "{{\"trace_id\":\"{trace}\",\"span_id\":\"{span}\",{rest}"
            ),
            None => writer.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};

    use super::*;

    /// Notes which lines are exported.
    struct Noting(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Noting {
        fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            if is_exported(event.metadata()) {
                let line = format!("{} {}", event.metadata().level(), event.metadata().target());
                self.0.lock().expect("not poisoned").push(line);
            }
        }
    }

    /// Notes all that lines say.
    struct Saying(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Saying {
        fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            struct All(String);
            impl Visit for All {
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    self.0 += &format!(" {field}={value:?}");
                }
            }
            let mut all = All(event.metadata().level().to_string());
            event.record(&mut all);
            self.0.lock().expect("not poisoned").push(all.0);
        }
    }

    #[test]
    fn panics_say_where_whatever_is_filtered_and_their_words_to_who_debugs() {
        for (filter, debugs) in [
            ("info", false),
            ("off", false),
            ("", false),
            ("anklang_store=info", false),
            ("anklang=off,anklang_server=off", false),
            ("info,anklang_server=debug", true),
        ] {
            let found = Arc::<Mutex<Vec<String>>>::default();
            let saying = Saying(Arc::clone(&found)).with_filter(filtered(filter));
            tracing::subscriber::with_default(tracing_subscriber::registry().with(saying), || {
                let at = Some("birth.rs:7:3".to_owned());
                tell_panic(at, None, "a date: OutOfRange(1980-02-30)");
            });
            let found = found.lock().expect("not poisoned");
            let (first, rest) = found.split_first().expect("it is told");
            assert!(first.starts_with("ERROR"), "{filter}: {first}");
            assert!(first.contains("birth.rs:7:3"), "{filter}: {first}");
            assert!(!first.contains("1980"), "{filter}: {first}");
            let is_told = rest.iter().any(|line| line.contains("1980-02-30"));
            assert_eq!(
                (is_told, rest.len()),
                (debugs, usize::from(debugs)),
                "{filter}"
            );
        }
    }

    #[test]
    fn only_our_own_lines_are_exported_and_nothing_below_info() {
        let found = Arc::<Mutex<Vec<String>>>::default();
        let noting = tracing_subscriber::registry().with(Noting(Arc::clone(&found)));
        tracing::subscriber::with_default(noting, || {
            tracing::error!(target: "anklang_channels::supervisor", "x");
            tracing::info!(target: "anklang_server::serve", "x");
            tracing::debug!(target: "anklang_server::serve", "x");
            tracing::info!(target: TARGET, "x");
            tracing::warn!(target: "opentelemetry_sdk", "x");
            tracing::warn!(target: "hyper_util::client", "x");
        });
        let found = found.lock().expect("not poisoned");
        let expected = [
            "ERROR anklang_channels::supervisor",
            "INFO anklang_server::serve",
        ];
        assert_eq!(*found, expected);
    }
}
