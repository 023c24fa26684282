//! What is measured as it happens. docs/operating.md lists all of it; attributes have few values,
//! whatever callers do.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use anklang_domain::handover::{Next as NextDelivery, Outcome as Delivered};
use anklang_domain::message::Next;
use anklang_store::operation::Operation;
use http::{Method, StatusCode};
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};
use opentelemetry::{KeyValue, global};

use super::TARGET;

/// The instruments. Made at first use, which is after [`super::Telemetry::start`].
pub(super) struct Meters {
    pub(super) rpc: Histogram<f64>,
    chunk: Histogram<f64>,
    operations: Counter<u64>,
    sends: Histogram<f64>,
    messages: Counter<u64>,
    deliveries: Counter<u64>,
    reports: Counter<u64>,
    callbacks: Counter<u64>,
    public: Counter<u64>,
    handshakes: Counter<u64>,
    connections: UpDownCounter<i64>,
    connections_refused: Counter<u64>,
    calls: UpDownCounter<i64>,
    calls_refused: Counter<u64>,
    database: Gauge<u64>,
    files_refused: Gauge<u64>,
    certificate_expires: Gauge<u64>,
}

/// Boundaries of durations in seconds.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// What becomes of messages, of attempts to deliver, and of runs of operations.
const MESSAGES: [&str; 5] = ["sent", "failed", "ambiguous", "delayed", "lost"];
const DELIVERIES: [&str; 3] = ["taken", "failed", "dead"];
const OPERATIONS: [&str; 5] = ["succeeded", "failed", "cancelled", "retried", "given_back"];

/// Why connections and calls are refused, and the kinds of calls.
const CONNECTIONS_REFUSED: [&str; 3] = ["full", "late", "untaken"];
const CALLS_REFUSED: [&str; 5] = ["total", "rate", "calls", "streams", "answers"];
const CALLS: [&str; 2] = ["call", "stream"];

/// How recipients' pages are asked for.
const PAGES: [&str; 2] = ["GET", "POST"];

pub(super) static METERS: LazyLock<Meters> = LazyLock::new(|| {
    let meter = meter();
    Meters {
        rpc: meter
            .f64_histogram("rpc.server.duration")
            .with_description("Duration of calls, until the response's end")
            .with_unit("ms")
            .build(),
        chunk: meter
            .f64_histogram("anklang.operation.chunk.duration")
            .with_description("Duration of a chunk of an operation, from its begin to its commit")
            .with_unit("s")
            .with_boundaries(SECONDS.to_vec())
            .build(),
        operations: meter
            .u64_counter("anklang.operation.outcomes")
            .with_description("What became of runs of operations")
            .with_unit("{run}")
            .build(),
        sends: meter
            .f64_histogram("anklang.channel.send.duration")
            .with_description("Duration of handing a few messages over to a channel")
            .with_unit("s")
            .with_boundaries(SECONDS.to_vec())
            .build(),
        messages: meter
            .u64_counter("anklang.message.outcomes")
            .with_description("What became of messages that were handed to a channel")
            .with_unit("{message}")
            .build(),
        deliveries: meter
            .u64_counter("anklang.handover.attempts")
            .with_description("Attempts to deliver events to webhooks")
            .with_unit("{attempt}")
            .build(),
        reports: meter
            .u64_counter("anklang.channel.reports")
            .with_description("What channels reported of messages, and messages that came in")
            .with_unit("{report}")
            .build(),
        callbacks: meter
            .u64_counter("anklang.channel.callbacks")
            .with_description("Requests of providers")
            .with_unit("{request}")
            .build(),
        public: meter
            .u64_counter("anklang.public.requests")
            .with_description("Requests for recipients' pages")
            .with_unit("{request}")
            .build(),
        handshakes: meter
            .u64_counter("anklang.tls.handshakes")
            .with_description("What became of TLS handshakes on the server's port")
            .with_unit("{handshake}")
            .build(),
        connections: meter
            .i64_up_down_counter("anklang.connections")
            .with_description("Open connections of callers")
            .with_unit("{connection}")
            .build(),
        connections_refused: meter
            .u64_counter("anklang.connections.refused")
            .with_description("Connections that were closed: too many, or without a beginning")
            .with_unit("{connection}")
            .build(),
        calls: meter
            .i64_up_down_counter("anklang.calls.in_flight")
            .with_description("Calls under way, until their answer was taken")
            .with_unit("{call}")
            .build(),
        calls_refused: meter
            .u64_counter("anklang.calls.refused")
            .with_description("Calls that were refused because of a limit")
            .with_unit("{call}")
            .build(),
        database: meter
            .u64_gauge("anklang.database.up")
            .with_description("Whether the database answers this server")
            .build(),
        files_refused: meter
            .u64_gauge("anklang.files.refused")
            .with_description(
                "Whether files that changed do not fit, so that those from before count",
            )
            .build(),
        certificate_expires: meter
            .u64_gauge("anklang.tls.certificate.expires")
            .with_description(
                "When the certificate of the server's port runs out, since 1970-01-01T00:00:00Z",
            )
            .with_unit("s")
            .build(),
    }
});

pub(super) fn meter() -> Meter {
    global::meter("anklang")
}

/// When this process started.
pub(super) fn process() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let started = now.map_or(0, |since| since.as_secs());
    meter()
        .u64_observable_gauge("process.start_time")
        .with_description("When the process started, since 1970-01-01T00:00:00Z")
        .with_unit("s")
        .with_callback(move |observer| observer.observe(started, &[]))
        .build();
}

/// Counts from zero what alerts are about: the first of its kind is a rise then.
pub(super) fn begin<'a>(accounts: impl Iterator<Item = &'a str>, kinds: &[&'static str]) {
    for account in accounts {
        for outcome in MESSAGES {
            count_messages(account, outcome, 0);
        }
    }
    for kind in kinds {
        for outcome in OPERATIONS {
            count_operation(kind, outcome, 0);
        }
    }
    for outcome in DELIVERIES {
        count_delivery(outcome, 0);
    }
    connections(0);
    for reason in CONNECTIONS_REFUSED {
        count_connection_refused(reason, 0);
    }
    for kind in CALLS {
        calls_in_flight(kind, 0);
    }
    for reason in CALLS_REFUSED {
        count_call_refused(reason, 0);
    }
    for method in PAGES {
        count_page(method, StatusCode::SERVICE_UNAVAILABLE, 0);
    }
}

/// Whether the database answers.
pub fn database(answers: bool) {
    METERS.database.record(u64::from(answers), &[]);
}

/// Whether files that changed do not fit: those of "tls", "tokens" or "database".
pub fn files_refused(files: &'static str, refused: bool) {
    METERS
        .files_refused
        .record(u64::from(refused), &[KeyValue::new("files", files)]);
}

/// When the certificate of the server's port runs out.
pub fn certificate_expires(at: SystemTime) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    METERS.certificate_expires.record(seconds, &[]);
}

/// Measures from now on how old the keys of issuers are, each with the issuer's id.
pub fn issuer_keys(ages: impl Fn() -> Vec<(String, Duration)> + Send + Sync + 'static) {
    meter()
        .f64_observable_gauge("anklang.issuer.keys.age")
        .with_description("Since when the keys of an issuer could not be fetched")
        .with_unit("s")
        .with_callback(move |observer| {
            for (issuer, age) in ages() {
                observer.observe(age.as_secs_f64(), &[KeyValue::new("issuer", issuer)]);
            }
        })
        .build();
}

/// Counts a run of an operation by how it ended.
pub fn operation(kind: &str, outcome: &'static str) {
    count_operation(kind, outcome, 1);
}

fn count_operation(kind: &str, outcome: &'static str, count: u64) {
    let attributes = [
        KeyValue::new("kind", kind.to_owned()),
        KeyValue::new("outcome", outcome),
    ];
    METERS.operations.add(count, &attributes);
}

/// Notes how long handing messages over to a channel took.
pub fn handed_over(account: &str, begun: Instant) {
    let attribute = KeyValue::new("account", account.to_owned());
    METERS
        .sends
        .record(begun.elapsed().as_secs_f64(), &[attribute]);
}

/// Counts what became of messages.
pub fn messages<'a>(account: &str, ended: impl Iterator<Item = &'a Next>) {
    let mut counts = [0, 0, 0, 0];
    for next in ended {
        counts[match next {
            Next::Sent => 0,
            Next::Failed => 1,
            Next::Ambiguous => 2,
            Next::Queued { .. } => 3,
        }] += 1;
    }
    for (outcome, count) in MESSAGES.into_iter().zip(counts) {
        if count > 0 {
            count_messages(account, outcome, count);
        }
    }
}

/// Counts messages whose sender was lost after it had handed them over.
pub fn rescued(account: &str, unknown: usize) {
    count_messages(account, "lost", u64::try_from(unknown).unwrap_or(u64::MAX));
}

fn count_messages(account: &str, outcome: &'static str, count: u64) {
    let attributes = [
        KeyValue::new("account", account.to_owned()),
        KeyValue::new("outcome", outcome),
    ];
    METERS.messages.add(count, &attributes);
}

/// Counts an attempt to deliver an event. What was not even sent is none.
pub fn delivery(outcome: &Delivered, next: &NextDelivery) {
    let outcome = match (outcome, next) {
        (Delivered::NotSent, _) => return,
        (_, NextDelivery::Dead) => "dead",
        (Delivered::Taken, _) => "taken",
        (Delivered::Failed { .. }, _) => "failed",
    };
    count_delivery(outcome, 1);
}

fn count_delivery(outcome: &'static str, count: u64) {
    METERS
        .deliveries
        .add(count, &[KeyValue::new("outcome", outcome)]);
}

/// Counts what a channel told: reports by what came of them, and messages that came in.
pub fn reports(account: &str, counts: [(&'static str, usize); 5]) {
    for (outcome, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        let attributes = [
            KeyValue::new("account", account.to_owned()),
            KeyValue::new("outcome", outcome),
        ];
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        METERS.reports.add(count, &attributes);
    }
}

/// Counts a request of a provider by how it was answered.
pub fn callback(account: &str, status: u16) {
    let attributes = [
        KeyValue::new("account", account.to_owned()),
        KeyValue::new("http.response.status_code", i64::from(status)),
    ];
    METERS.callbacks.add(1, &attributes);
}

/// Counts a request for a recipients' page by how it was answered.
pub fn page(method: &Method, status: StatusCode) {
    let known = PAGES.into_iter().find(|known| method.as_str() == *known);
    count_page(known.unwrap_or("other"), status, 1);
}

fn count_page(method: &'static str, status: StatusCode, count: u64) {
    let attributes = [
        KeyValue::new("http.request.method", method),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
    ];
    METERS.public.add(count, &attributes);
}

/// Counts a TLS handshake by what became of it.
pub fn handshake(outcome: &'static str) {
    METERS
        .handshakes
        .add(1, &[KeyValue::new("outcome", outcome)]);
}

/// Counts connections that come, or go.
pub fn connections(change: i64) {
    METERS.connections.add(change, &[]);
}

/// Counts a connection that is closed because of a limit: "full", "late" or "untaken".
pub fn connection_refused(reason: &'static str) {
    count_connection_refused(reason, 1);
}

fn count_connection_refused(reason: &'static str, count: u64) {
    METERS
        .connections_refused
        .add(count, &[KeyValue::new("reason", reason)]);
}

/// Counts calls that begin, or end: "call" or "stream".
pub fn calls_in_flight(kind: &'static str, change: i64) {
    METERS.calls.add(change, &[KeyValue::new("kind", kind)]);
}

/// Counts a call that is refused because of a limit: "total", "rate", "calls" or "streams".
pub fn call_refused(reason: &'static str) {
    count_call_refused(reason, 1);
}

fn count_call_refused(reason: &'static str, count: u64) {
    METERS
        .calls_refused
        .add(count, &[KeyValue::new("reason", reason)]);
}

/// A chunk of an operation under way.
#[must_use = "it measures until it is dropped"]
pub struct Chunk {
    kind: String,
    step: String,
    begun: Instant,
}

/// Begins to measure a chunk. A step's first one is an event of the operation's span.
pub fn chunk(operation: &Operation) -> Chunk {
    let step = match &operation.step[..] {
        "" => "begin",
        step => step,
    };
    if operation.done == 0 {
        tracing::info!(target: TARGET, step, total = operation.total, "step");
    }
    Chunk {
        kind: operation.kind.clone(),
        step: step.to_owned(),
        begun: Instant::now(),
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let attributes = [
            KeyValue::new("kind", std::mem::take(&mut self.kind)),
            KeyValue::new("step", std::mem::take(&mut self.step)),
        ];
        METERS
            .chunk
            .record(self.begun.elapsed().as_secs_f64(), &attributes);
    }
}
