//! The metrics for Prometheus: `GET /metrics` on a port of its own, and nothing else there.
//!
//! Plain text, and nobody is asked who they are: nothing personal is in it, and the port is for scrapers
//! inside of the cluster. Whoever else reaches it takes no more than a few connections, for a short time.
//! Names are those of OpenTelemetry as Prometheus writes them: underscores, the unit and `_total` behind
//! (helm/metrics.txt has them all).

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::config::ConnectionsConfig;
use crate::connections;

/// One scrape after the other: each reads all that there is.
type Scraping = Arc<Mutex<Registry>>;

/// Answers scrapes, until it is dropped.
pub(super) struct Endpoint {
    pub(super) addr: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Listens, in the current runtime; gives what reads the metrics for it.
pub(super) fn start(
    listen: SocketAddr,
    incoming: ConnectionsConfig,
) -> anyhow::Result<(PrometheusExporter, Endpoint)> {
    let at = || format!("telemetry.prometheus_listen: listening on {listen}");
    let registry = Registry::new();
    let exporter = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        // All instruments are of one scope.
        .scope_info_enabled(false)
        .build()
        .context("telemetry")?;
    let listener = TcpListener::bind(listen).with_context(at)?;
    listener.set_nonblocking(true).with_context(at)?;
    let listener = tokio::net::TcpListener::from_std(listener).with_context(at)?;
    let addr = listener.local_addr().with_context(at)?;
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(Arc::new(Mutex::new(registry)));
    let serving = tokio::spawn(connections::serve_metrics(listener, router, incoming));
    Ok((exporter, Endpoint { addr, serving }))
}

async fn scrape(State(scraping): State<Scraping>) -> Response {
    let registry = scraping.lock_owned().await;
    let read = move || TextEncoder::new().encode_to_string(&registry.gather());
    let read = tokio::task::spawn_blocking(read).await;
    match read.map_err(anyhow::Error::from) {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Ok(Err(error)) => failed(&error.into()),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> Response {
    tracing::warn!(%error, "reading metrics");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
