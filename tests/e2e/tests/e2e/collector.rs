//! A receiver of OTLP over HTTP: records what it gets and decodes it with OpenTelemetry's own
//! protos.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// An export as it came.
#[derive(Debug, Clone)]
pub struct Export {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A measurement: attributes as `key=value`, sorted, and the value; of a histogram its count.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub attributes: Vec<String>,
    pub value: f64,
}

impl Point {
    pub fn has(&self, wanted: &[&str]) -> bool {
        wanted
            .iter()
            .all(|w| self.attributes.iter().any(|have| have == w))
    }
}

/// A line of the log, as a record, and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub target: String,
    pub record: LogRecord,
}

impl Line {
    pub fn text(&self) -> &str {
        let body = self.record.body.as_ref();
        match body.and_then(|body| body.value.as_ref()) {
            Some(Value::StringValue(text)) => text,
            other => panic!("no text: {other:?}"),
        }
    }
}

/// What has come, and what is refused.
#[derive(Debug, Clone, Default)]
struct Desk {
    exports: Arc<Mutex<Vec<Export>>>,
    refused: &'static str,
}

/// A running receiver. It stops when it is dropped.
pub struct Collector {
    addr: SocketAddr,
    desk: Desk,
    serving: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::refusing("").await
    }

    /// One that has nothing at this path.
    pub async fn refusing(path: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let desk = Desk {
            refused: path,
            ..Default::default()
        };
        let router = Router::new().fallback(receive).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Collector {
            addr,
            desk,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn exports(&self) -> Vec<Export> {
        self.desk.exports.lock().unwrap().clone()
    }

    /// What came to a path.
    pub fn of(&self, path: &str) -> Vec<Export> {
        let mut exports = self.exports();
        exports.retain(|e| e.path == path);
        exports
    }

    fn traces(&self) -> Vec<ExportTraceServiceRequest> {
        let exports = self.of("/v1/traces").into_iter();
        exports
            .map(|e| ExportTraceServiceRequest::decode(e.body).unwrap())
            .collect()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let resources = self.traces().into_iter().flat_map(|t| t.resource_spans);
        let scopes = resources.flat_map(|r| r.scope_spans);
        scopes.flat_map(|s| s.spans).collect()
    }

    /// Who has sent spans.
    pub fn resources(&self) -> Vec<Resource> {
        let resources = self.traces().into_iter().flat_map(|t| t.resource_spans);
        resources.filter_map(|r| r.resource).collect()
    }

    /// All lines of the log so far.
    pub fn lines(&self) -> Vec<Line> {
        let exports = self.of("/v1/logs").into_iter();
        let requests = exports.map(|e| ExportLogsServiceRequest::decode(e.body).unwrap());
        let scopes = requests
            .flat_map(|request| request.resource_logs)
            .flat_map(|resource| resource.scope_logs);
        scopes
            .flat_map(|scope| {
                let target = scope.scope.unwrap_or_default().name;
                let records = scope.log_records.into_iter();
                records.map(move |record| Line {
                    target: target.clone(),
                    record,
                })
            })
            .collect()
    }

    /// The spans of a trace.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|s| hex::encode(&s.trace_id) == id);
        spans
    }

    /// The newest measurements of an instrument.
    pub fn points(&self, name: &str) -> Vec<Point> {
        let exports = self.of("/v1/metrics").into_iter().rev();
        for export in exports {
            let request = ExportMetricsServiceRequest::decode(export.body).unwrap();
            let scopes = request
                .resource_metrics
                .into_iter()
                .flat_map(|r| r.scope_metrics);
            let found = scopes
                .flat_map(|s| s.metrics)
                .filter(|metric| metric.name == name)
                .filter_map(|metric| metric.data);
            let points: Vec<Point> = found.flat_map(points_of).collect();
            if !points.is_empty() {
                return points;
            }
        }
        Vec::new()
    }

    /// The newest measurement with these attributes.
    pub fn value(&self, name: &str, attributes: &[&str]) -> Option<f64> {
        let points = self.points(name);
        let found: Vec<&Point> = points.iter().filter(|p| p.has(attributes)).collect();
        assert!(
            found.len() <= 1,
            "{name} {attributes:?} is not one: {found:?}"
        );
        found.first().map(|p| p.value)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(
    State(desk): State<Desk>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    desk.exports.lock().unwrap().push(Export {
        path: uri.path().to_owned(),
        headers,
        body,
    });
    // An empty body is an empty protobuf response.
    match uri.path() == desk.refused {
        true => StatusCode::NOT_FOUND,
        false => StatusCode::OK,
    }
}

fn points_of(data: Data) -> Vec<Point> {
    let numbers = |points: Vec<opentelemetry_proto::tonic::metrics::v1::NumberDataPoint>| {
        let points = points.into_iter().map(|p| Point {
            attributes: texts(&p.attributes),
            value: match p.value {
                Some(Number::AsDouble(value)) => value,
                Some(Number::AsInt(value)) => value as f64,
                None => panic!("a point without value"),
            },
        });
        points.collect()
    };
    match data {
        Data::Gauge(gauge) => numbers(gauge.data_points),
        Data::Sum(sum) => numbers(sum.data_points),
        Data::Histogram(histogram) => {
            let points = histogram.data_points.into_iter();
            points
                .map(|p| Point {
                    attributes: texts(&p.attributes),
                    value: p.count as f64,
                })
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Attributes as `key=value`, sorted.
pub fn texts(attributes: &[KeyValue]) -> Vec<String> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.as_ref().and_then(|v| v.value.as_ref());
        let value = match value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(n)) => n.to_string(),
            Some(Value::BoolValue(b)) => b.to_string(),
            Some(Value::DoubleValue(n)) => n.to_string(),
            other => format!("{other:?}"),
        };
        format!("{}={value}", attribute.key)
    };
    let mut texts: Vec<String> = attributes.iter().map(text).collect();
    texts.sort();
    texts
}
