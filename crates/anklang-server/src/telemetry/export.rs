//! The HTTP client of the exporters: hyper and rustls, which the server has anyhow.
//!
//! Exporters run in threads that know no runtime, so a call is a task of the server's runtime. It
//! gives up after the timeout, and a receiver that is away is logged once, not each time. Each signal has
//! a client of its own: a receiver may take traces and no logs, and the line that says so is itself one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::outside::{client_tls, system_roots};

/// The most bytes of a response that are read.
const MAX_RESPONSE: usize = 1024 * 1024;

/// See the module's documentation. Cheap to clone; all clones share connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pooled: Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Handle,
    signal: &'static str,
    timeout: Duration,
    failing: Arc<AtomicBool>,
}

impl Client {
    /// A client of the current runtime for a signal.
    pub(super) fn new(signal: &'static str, timeout: Duration) -> anyhow::Result<Client> {
        let tls = client_tls(system_roots()).context("TLS of telemetry")?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(timeout));
        let pooled = Pooled::builder(TokioExecutor::new()).build(HttpsConnector::from((http, tls)));
        Ok(Client {
            pooled,
            runtime: Handle::current(),
            signal,
            timeout,
            failing: Arc::default(),
        })
    }

    /// Logs only that it changed: a line for each export would be no news.
    fn note(&self, error: Option<String>) {
        let failed = error.is_some();
        if self.failing.swap(failed, Ordering::Relaxed) == failed {
            return;
        }
        let signal = self.signal;
        match error {
            Some(error) => tracing::warn!(signal, error, "telemetry is not delivered"),
            None => tracing::info!(signal, "telemetry is delivered again"),
        }
    }
}

async fn call(
    pooled: Pooled<HttpsConnector<HttpConnector>, Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = pooled.request(request.map(Full::new)).await?.into_parts();
    let body = Limited::new(body, MAX_RESPONSE).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

// As `#[async_trait]` would write it.
impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let (timeout, call) = (self.timeout, call(self.pooled.clone(), request));
        // A task has the runtime's timer, which this thread has not.
        let call = async move { tokio::time::timeout(timeout, call).await };
        Box::pin(async move {
            // Aborted with the runtime, so that the process can end.
            let result = match self.runtime.spawn(call).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err("no answer in time".into()),
                Err(ended) => Err(ended.into()),
            };
            self.note(match &result {
                Ok(response) if response.status().is_success() => None,
                Ok(response) => Some(format!("HTTP {}", response.status())),
                Err(error) => Some(error.to_string()),
            });
            result
        })
    }
}
