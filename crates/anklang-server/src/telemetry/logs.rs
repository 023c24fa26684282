//! Logs to standard error, and the export of spans beside them.
//!
//! Spans of [`TARGET`] are for traces and not logged; what is logged is not exported. A line in
//! JSON carries the ids of the trace and span that it was written in.

use std::fmt;
use std::io::IsTerminal;

use opentelemetry::trace::TraceContextExt;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::{TARGET, Telemetry};

/// Logs go to standard error, spans to telemetry.
pub fn init(filter: &str, json: bool, telemetry: &Telemetry) {
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let logged = EnvFilter::new(filter).and(filter_fn(|meta| meta.target() != TARGET));
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
    // A second call (a test) keeps the first.
    let _ = tracing_subscriber::registry()
        .with(spans)
        .with(lines.with_filter(logged))
        .try_init();
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
