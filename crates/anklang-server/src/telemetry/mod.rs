//! Telemetry: one trace from the call through the operation and the dispatcher into the plugin, and
//! metrics; both leave by OTLP (HTTP with protobuf), metrics also for Prometheus to scrape. What nobody
//! wants is not gathered.
//!
//! `tracing` stays the API: spans of the target [`TARGET`] are exported, and only they. Log lines
//! are not: they may quote what a mail server said, and so an address. Nothing that is exported
//! holds personal data: names of methods, kinds, accounts, tenants, random ids, numbers.
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

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{
    MetricExporter, Protocol, SpanExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};
use secrecy::ExposeSecret;
use url::Url;
use uuid::Uuid;

pub use logs::init as init_logs;

use self::prometheus::Endpoint;
use crate::config::TelemetryConfig;

/// Target of the spans and events that are exported, and not logged.
pub const TARGET: &str = "anklang::telemetry";

/// The standard variable for the endpoint.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// At the end, what is left is sent for at most so long, and not longer than the grace.
const LONGEST_FLUSH: Duration = Duration::from_secs(5);
/// Finished spans wait for at most so long.
const LONGEST_SPAN_DELAY: Duration = Duration::from_secs(5);

/// What exports; or nothing does.
#[derive(Default)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
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
    /// Begins to export where that is wanted. Before anything is measured or traced.
    pub fn start(config: &TelemetryConfig) -> anyhow::Result<Telemetry> {
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
        let mut traces = None;
        if let Some(endpoint) = endpoint {
            let (provider, reader) = otlp(config, &endpoint, resource)?;
            metrics = metrics.with_reader(reader);
            global::set_tracer_provider(provider.clone());
            traces = Some(provider);
        }
        let mut scraped = None;
        if let Some(listen) = config.prometheus_listen {
            let (reader, endpoint) = prometheus::start(listen)?;
            metrics = metrics.with_reader(reader);
            scraped = Some(endpoint);
        }
        let metrics = metrics.build();
        global::set_meter_provider(metrics.clone());
        meters::process();
        Ok(Telemetry {
            traces,
            metrics: Some(metrics),
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

    /// Sends what is left, for at most `grace` and at most five seconds.
    pub async fn shutdown(self, grace: Duration) {
        drop(self.scraped);
        let (Some(traces), Some(metrics)) = (self.traces, self.metrics) else {
            // Nothing is sent.
            return;
        };
        let limit = grace.min(LONGEST_FLUSH);
        // Threads of their own: nothing waits for one whose receiver hangs.
        let (traced, measured) = tokio::join!(
            in_thread(limit, move || traces.shutdown_with_timeout(limit).is_ok()),
            in_thread(limit, move || metrics.shutdown().is_ok()),
        );
        if !(traced && measured) {
            tracing::warn!("the last telemetry was not delivered");
        }
    }
}

/// What sends spans, and what reads metrics and sends them, by OTLP.
fn otlp(
    config: &TelemetryConfig,
    endpoint: &Url,
    resource: Resource,
) -> anyhow::Result<(SdkTracerProvider, PeriodicReader<MetricExporter>)> {
    let client = export::Client::new(config.timeout)?;
    let headers = || {
        let headers = config.headers.iter();
        headers
            .map(|(k, v)| (k.clone(), v.expose_secret().to_owned()))
            .collect()
    };
    let spans = SpanExporter::builder()
        .with_http()
        .with_http_client(client.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(at(endpoint, "v1/traces"))
        .with_headers(headers())
        .with_timeout(config.timeout)
        .build()
        .context("telemetry")?;
    let metrics = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(at(endpoint, "v1/metrics"))
        .with_headers(headers())
        .with_timeout(config.timeout)
        .build()
        .context("telemetry")?;
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(config.interval.min(LONGEST_SPAN_DELAY))
        .build();
    let processor = BatchSpanProcessor::builder(spans)
        .with_batch_config(batches)
        .build();
    let sampler = Sampler::TraceIdRatioBased(config.sampling_ratio);
    let traces = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource)
        .build();
    let reader = PeriodicReader::builder(metrics)
        .with_interval(config.interval)
        .build();
    Ok((traces, reader))
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
