//! Calls: a span that goes on with the caller's trace, and how long each took.
//!
//! A call lasts until its response has ended, which is where gRPC has its status. Services and
//! methods are those that the server has, anything else is "other": a caller cannot make up new
//! series of measurements.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use anklang_proto::DESCRIPTORS;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::TARGET;
use super::meters::METERS;
use super::spans::set_parent;

/// The span of a call, among what its request carries.
#[derive(Clone)]
pub struct CallSpan(Span);

impl CallSpan {
    /// Notes for which tenant the call is: one that there is, and for which its caller may act.
    pub fn is_for(&self, tenant: &str) {
        self.0.record("anklang.tenant", tenant);
    }
}

/// What a call is measured as, among what its response carries, when that is another status than its caller is told.
#[derive(Clone, Copy)]
pub struct CountsAs(pub Code);

#[derive(Clone)]
struct Method {
    service: Arc<str>,
    method: Arc<str>,
    /// Calls of health and reflection come all the time and say nothing.
    traced: bool,
}

/// By path.
static METHODS: LazyLock<HashMap<String, Method>> = LazyLock::new(|| {
    let mut methods = HashMap::new();
    for descriptors in [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET] {
        let files = FileDescriptorSet::decode(descriptors).unwrap_or_default();
        for file in files.file {
            for service in &file.service {
                let name: Arc<str> = format!("{}.{}", file.package(), service.name()).into();
                for method in &service.method {
                    let path = format!("/{name}/{}", method.name());
                    let method = Method {
                        service: Arc::clone(&name),
                        method: method.name().into(),
                        traced: file.package() != "grpc.health.v1",
                    };
                    methods.insert(path, method);
                }
            }
        }
    }
    methods
});

fn method_of(path: &str) -> Method {
    METHODS.get(path).cloned().unwrap_or_else(|| Method {
        service: "other".into(),
        method: "other".into(),
        traced: false,
    })
}

/// Wraps each call: a middleware of axum.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let method = method_of(request.uri().path());
    let span = if method.traced {
        span(&method, request.headers())
    } else {
        Span::none()
    };
    let mut call = Call {
        method,
        span: span.clone(),
        begun: Instant::now(),
        status: None,
    };
    request.extensions_mut().insert(CallSpan(span.clone()));
    let response = next.run(request).instrument(span).await;
    if response.status() != StatusCode::OK {
        call.status = Some(Code::Unknown);
    }
    call.read(response.headers());
    if let Some(CountsAs(status)) = response.extensions().get::<CountsAs>() {
        call.status = Some(*status);
    }
    response.map(|body| Body::new(Observed { body, call }))
}

fn span(method: &Method, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "rpc",
        otel.name = format!("{}/{}", method.service, method.method),
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = &*method.service,
        rpc.method = &*method.method,
        rpc.grpc.status_code = Empty,
        anklang.tenant = Empty,
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new()
            .extract_with_context(&opentelemetry::Context::new(), &HeaderExtractor(headers));
        set_parent(&span, parent);
    }
    span
}

/// A call under way; it is over when this is dropped.
struct Call {
    method: Method,
    span: Span,
    begun: Instant,
    status: Option<Code>,
}

impl Call {
    /// Takes the status out of headers or trailers, if it is there.
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.status = Some(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Nobody waited for the end.
        let status = self.status.unwrap_or(Code::Cancelled);
        let code = i64::from(i32::from(status));
        self.span.record("rpc.grpc.status_code", code);
        if is_fault(status) {
            self.span.record("otel.status_code", "ERROR");
        }
        let attributes = [
            KeyValue::new("rpc.system", "grpc"),
            KeyValue::new("rpc.service", Arc::clone(&self.method.service)),
            KeyValue::new("rpc.method", Arc::clone(&self.method.method)),
            KeyValue::new("rpc.grpc.status_code", code),
        ];
        let milliseconds = self.begun.elapsed().as_secs_f64() * 1_000.0;
        METERS.rpc.record(milliseconds, &attributes);
    }
}

/// What is the server's fault, as the semantic conventions have it.
fn is_fault(status: Code) -> bool {
    matches!(
        status,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A response's body on its way.
struct Observed {
    body: Body,
    call: Call,
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let span = this.call.span.clone();
        // Streams work while they are read.
        let inside = span.enter();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        drop(inside);
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.call.read(trailers);
                }
            }
            Some(Err(_)) | None => {
                this.call.status.get_or_insert(Code::Unknown);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_methods_of_the_server_have_names() {
        let launch = method_of("/anklang.campaigns.v1.CampaignService/LaunchCampaign");
        assert_eq!(&*launch.service, "anklang.campaigns.v1.CampaignService");
        assert_eq!((&*launch.method, launch.traced), ("LaunchCampaign", true));
        let health = method_of("/grpc.health.v1.Health/Check");
        assert_eq!((&*health.method, health.traced), ("Check", false));
        for path in ["/", "/x/y", "/anklang.campaigns.v1.CampaignService/Guess"] {
            assert_eq!(&*method_of(path).method, "other");
        }
    }
}
