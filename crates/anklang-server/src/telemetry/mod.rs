//! Telemetry: one trace from the call through the operation and the dispatcher into the plugin, metrics,
//! and log lines; all leave by OTLP (HTTP with protobuf), metrics also for Prometheus to scrape. What
//! nobody wants is not gathered.
//!
//! `tracing` stays the API: spans of the target [`TARGET`] are exported as spans, and only they; our own
//! lines from `info` on as log records, and only they (`logs.rs`). Nothing that is exported holds personal
//! data: names of methods, kinds, accounts, tenants, random ids, numbers. Whoever writes a line keeps to
//! this: what others said in their own words – plugins, providers, mail servers, callers – and what a
//! database or a template quotes of a customer goes to `debug` alone, which is never exported.
//!
//! Exporting happens in threads of its own with bounded queues: a receiver that is slow or down
//! costs spans and measurements, never work. [`Telemetry::shutdown`] sends what is left, for a
//! bounded time.

pub mod backlog;
mod export;
mod instances;
mod logs;
pub mod meters;
pub mod plugins;
mod prometheus;
pub mod rpc;
pub mod spans;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{
    LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use secrecy::ExposeSecret;
use url::Url;
use uuid::Uuid;

pub use logs::{init as init_logs, log_panics};

use self::prometheus::Endpoint;
use crate::config::{ConnectionsConfig, TelemetryConfig};

/// Target of the spans and events that are exported, and not logged.
pub const TARGET: &str = "anklang::telemetry";

/// The standard variable for the endpoint.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// At the end, what is left is sent for at most so long, and not longer than the grace.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);
/// Finished spans and lines wait for at most so long.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// What exports; or nothing does.
#[derive(Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    logs: Option<SdkLoggerProvider>,
    scraped: Option<Endpoint>,
}

/// Where to: the setting, else the standard variable.
pub fn endpoint(config: &TelemetryConfig) -> Option<Url> {
    let variable = || std::env::var(ENDPOINT_VARIABLE).ok();
    let given = config.endpoint.clone();
    given.or_else(|| variable().and_then(|text| Url::parse(&text).ok()))
}

/// Whether anybody wants metrics.
fn is_measured(config: &TelemetryConfig) -> bool {
    endpoint(config).is_some() || config.prometheus_listen.is_some()
}

impl Telemetry {
    /// Begins to export where that is wanted. Before anything is measured or traced. Scrapers' connections begin as
    /// `incoming` says.
    pub fn start(
        config: &TelemetryConfig,
        incoming: &ConnectionsConfig,
    ) -> anyhow::Result<Telemetry> {
        let endpoint = endpoint(config);
        let given = std::env::var(ENDPOINT_VARIABLE).is_ok_and(|text| !text.is_empty());
        if endpoint.is_none() && given {
            return Err(anyhow!("{ENDPOINT_VARIABLE} is no URL"));
        }
        if !is_measured(config) {
            return Ok(Telemetry::default());
        }
        let resource = resource(config);
        let mut metrics = SdkMeterProvider::builder().with_resource(resource.clone());
        let (mut traces, mut logs) = (None, None);
        if let Some(endpoint) = endpoint {
            let otlp = Otlp { config, endpoint };
            metrics = metrics.with_reader(otlp.metrics()?);
            let provider = otlp.traces(resource.clone())?;
            global::set_tracer_provider(provider.clone());
            traces = Some(provider);
            if config.logs {
                logs = Some(otlp.logs(resource)?);
            }
        }
        let mut scraped = None;
        if let Some(listen) = config.prometheus_listen {
            let (reader, endpoint) = prometheus::start(listen, incoming.clone())?;
            metrics = metrics.with_reader(reader);
            scraped = Some(endpoint);
        }
        let metrics = metrics.build();
        global::set_meter_provider(metrics.clone());
        meters::process();
        Ok(Telemetry {
            traces,
            metrics: Some(metrics),
            logs,
            scraped,
        })
    }

    /// Where Prometheus scrapes.
    pub fn scraped(&self) -> Option<SocketAddr> {
        self.scraped.as_ref().map(|endpoint| endpoint.addr)
    }

    /// What makes spans.
    fn tracer(&self) -> Option<SdkTracer> {
        let traces = self.traces.as_ref()?;
        Some(traces.tracer("anklang"))
    }

    /// What takes lines.
    fn lines(&self) -> Option<&SdkLoggerProvider> {
        self.logs.as_ref()
    }

    /// Sends what is left, for at most `grace` and at most five seconds.
    pub async fn shutdown(self, grace: Duration) {
        drop(self.scraped);
        let (Some(traces), Some(metrics)) = (self.traces, self.metrics) else {
            // Nothing is sent.
            return;
        };
        let (limit, logs) = (grace.min(LONGEST_FLUSH), self.logs);
        // Threads of their own: nothing waits for one whose receiver hangs.
        let (traced, measured, logged) = tokio::join!(
            in_thread(limit, move || traces.shutdown_with_timeout(limit).is_ok()),
            in_thread(limit, move || metrics.shutdown().is_ok()),
            in_thread(limit, move || logs
                .is_none_or(|logs| { logs.shutdown_with_timeout(limit).is_ok() })),
        );
        if !(traced && measured && logged) {
            tracing::warn!("the last telemetry was not delivered");
        }
    }
}

/// What sends by OTLP; each signal with a client of its own, which says when it is not delivered.
struct Otlp<'a> {
    config: &'a TelemetryConfig,
    endpoint: Url,
}

impl Otlp<'_> {
    fn client(&self, signal: &'static str) -> anyhow::Result<export::Client> {
        export::Client::new(signal, self.config.timeout)
    }

    fn headers(&self) -> HashMap<String, String> {
        let headers = self.config.headers.iter();
        headers
            .map(|(k, v)| (k.clone(), v.expose_secret().to_owned()))
            .collect()
    }

    fn delay(&self) -> Duration {
        self.config.interval.min(LONGEST_DELAY)
    }

    fn traces(&self, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
        let spans = SpanExporter::builder()
            .with_http()
            .with_http_client(self.client("traces")?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(at(&self.endpoint, "v1/traces"))
            .with_headers(self.headers())
            .with_timeout(self.config.timeout)
            .build()
            .context("telemetry")?;
        let batches = BatchConfigBuilder::default()
            .with_scheduled_delay(self.delay())
            .build();
        let processor = BatchSpanProcessor::builder(spans)
            .with_batch_config(batches)
            .build();
        let sampler = Sampler::TraceIdRatioBased(self.config.sampling_ratio);
        Ok(SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(sampler)))
            .with_resource(resource)
            .build())
    }

    /// What reads metrics and sends them.
    fn metrics(&self) -> anyhow::Result<PeriodicReader<MetricExporter>> {
        let metrics = MetricExporter::builder()
            .with_http()
            .with_http_client(self.client("metrics")?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(at(&self.endpoint, "v1/metrics"))
            .with_headers(self.headers())
            .with_timeout(self.config.timeout)
            .build()
            .context("telemetry")?;
        Ok(PeriodicReader::builder(metrics)
            .with_interval(self.config.interval)
            .build())
    }

    fn logs(&self, resource: Resource) -> anyhow::Result<SdkLoggerProvider> {
        let lines = LogExporter::builder()
            .with_http()
            .with_http_client(self.client("logs")?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(at(&self.endpoint, "v1/logs"))
            .with_headers(self.headers())
            .with_timeout(self.config.timeout)
            .build()
            .context("telemetry")?;
        let batches = opentelemetry_sdk::logs::BatchConfigBuilder::default()
            .with_scheduled_delay(self.delay())
            .build();
        let processor = BatchLogProcessor::builder(lines)
            .with_batch_config(batches)
            .build();
        Ok(SdkLoggerProvider::builder()
            .with_log_processor(processor)
            .with_resource(resource)
            .build())
    }
}

async fn in_thread(limit: Duration, work: impl FnOnce() -> bool + Send + 'static) -> bool {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(work()));
    matches!(tokio::time::timeout(limit, result).await, Ok(Ok(true)))
}

/// The path of a signal below the endpoint.
fn at(endpoint: &Url, path: &str) -> String {
    format!("{}/{path}", endpoint.as_str().trim_end_matches('/'))
}

/// What everything exported says of its sender; the standard variables add to it.
fn resource(config: &TelemetryConfig) -> Resource {
    let own = config.resource.iter();
    let own = own.map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let mut resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(KeyValue::new(
            "service.instance.id",
            Uuid::now_v7().to_string(),
        ))
        .with_attributes(own);
    let attributes = std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let named = std::env::var("OTEL_SERVICE_NAME").is_ok_and(|name| !name.is_empty())
        || attributes.contains("service.name=");
    match &config.service_name[..] {
        "" if named => {}
        "" => resource = resource.with_service_name("anklang"),
        name => resource = resource.with_service_name(name.to_owned()),
    }
    resource.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_their_paths_below_the_endpoint() {
        for (endpoint, path) in [
            ("http://host:4318", "http://host:4318/v1/traces"),
            ("http://host:4318/", "http://host:4318/v1/traces"),
            ("https://host/otlp", "https://host/otlp/v1/traces"),
            ("https://host/otlp/", "https://host/otlp/v1/traces"),
        ] {
            let endpoint = Url::parse(endpoint).expect("a URL");
            assert_eq!(at(&endpoint, "v1/traces"), path);
        }
    }
}
