//! A receiver of OTLP that counts spans and throws them away. It is in the program that calls, so that it costs what
//! one beside the server costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::task::JoinHandle;

type Count = Arc<AtomicUsize>;

/// A running one. It stops when it is dropped.
pub struct Traces {
    /// Where it listens.
    pub url: String,
    spans: Count,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Traces {
    /// Starts one.
    pub async fn start() -> Result<Traces> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let spans = Count::default();
        let router = Router::new()
            .fallback(receive)
            .with_state(Arc::clone(&spans));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Traces {
            url,
            spans,
            serving,
        })
    }

    /// Spans that have come so far.
    pub fn spans(&self) -> usize {
        self.spans.load(Ordering::Relaxed)
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(State(spans): State<Count>, uri: Uri, body: Bytes) -> StatusCode {
    if uri.path() == "/v1/traces" {
        let Ok(request) = ExportTraceServiceRequest::decode(body) else {
            return StatusCode::BAD_REQUEST;
        };
        let scopes = request.resource_spans.iter().flat_map(|r| &r.scope_spans);
        let came = scopes.map(|scope| scope.spans.len()).sum();
        spans.fetch_add(came, Ordering::Relaxed);
    }
    // An empty body is an empty protobuf response.
    StatusCode::OK
}
