//! What one server takes of callers, so that nobody who calls much, slowly or for long keeps others from being
//! served: [`shed`] around the look at who calls, [`admit`] behind it, before the handlers. Connections have
//! their limits in [`crate::connections`].
//!
//! # Guarantees
//! - Nobody waits for a place: a call gets one or is refused at once, before anything of it is read, and is told
//!   when to try again. A refusal has changed nothing.
//! - Tenants have places of their own, and only tenants that there are: names that somebody makes up share those
//!   of one tenant, so that memory is bounded.
//! - After its deadline a call does not go on, and neither does its statement (`anklang_store::call`).
//! - Health is told however much there is to do.
//!
//! # Trade-offs
//! Places and rates are those of one server, not of all: counting over all of them would cost each call a round
//! trip. A stream holds its place until its end was taken, so that a tenant that does not read uses up its own. What
//! gives one answer gives its place back with it: the answer is in memory, and HTTP/2 may let it lie there for as
//! long as the client likes.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anklang_store::{Store, tenant};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::Clock;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep_until, timeout_at};
use tonic::Status;

use crate::auth::{Needs, Principal, needs};
use crate::config::{AtOnce, LimitsConfig};
use crate::grpc::error::{ApiError, Exhausted};
use crate::grpc::mask::POOL;
use crate::grpc::{ApiResult, TENANT_KEY};
use crate::telemetry::meters;

/// A call that is no stream and lasts all the same.
const WAIT_OPERATION: &str = "/google.longrunning.Operations/WaitOperation";

/// Of calls: when this one ends, whether it is done or not.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Option<Instant>);

/// How long calls of a method last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// They answer as soon as they can.
    Short,
    /// They wait for something, and then give one answer.
    Waiting,
    /// They are streams.
    Stream,
}

impl Length {
    /// As metrics call it.
    fn kind(self) -> &'static str {
        match self {
            Length::Short => "call",
            Length::Waiting | Length::Stream => "stream",
        }
    }
}

/// Methods that are not short, by path.
static LASTING: LazyLock<HashMap<String, Length>> = LazyLock::new(|| {
    let mut lasting = HashMap::from([(WAIT_OPERATION.to_owned(), Length::Waiting)]);
    for service in POOL.services() {
        for method in service.methods() {
            if method.is_server_streaming() || method.is_client_streaming() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                lasting.insert(path, Length::Stream);
            }
        }
    }
    lasting
});

fn length(path: &str) -> Length {
    match needs(path) {
        // Of these there are streams.
        Needs::Health | Needs::Reflection => Length::Stream,
        Needs::Permission(_) | Needs::Everything => {
            LASTING.get(path).copied().unwrap_or(Length::Short)
        }
    }
}

/// What a server takes. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    store: Store,
    longest_call: Duration,
    /// For calls of all tenants together.
    all: Places,
    of_each: AtOnce,
    /// By the tenant's slug; "" for what names none.
    rate: Option<DefaultKeyedRateLimiter<Arc<str>>>,
    /// Tenants that have called, by slug.
    tenants: Mutex<HashMap<Arc<str>, Places>>,
    /// For calls that name no tenant, or none that there is.
    nobodys: Places,
    nobody: Arc<str>,
}

impl Limits {
    /// As the settings say.
    pub fn new(config: &LimitsConfig, store: Store) -> Self {
        let rate = NonZeroU32::new(config.requests_per_second).map(|rate| {
            let burst = NonZeroU32::new(config.burst).unwrap_or(rate);
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Limits(Arc::new(Inner {
            store,
            longest_call: config.longest_call,
            all: Places::new(config.in_total),
            of_each: config.of_each,
            rate,
            tenants: Mutex::default(),
            nobodys: Places::new(config.of_each),
            nobody: "".into(),
        }))
    }
}

impl Inner {
    /// A place for a call of a tenant.
    async fn place(
        &self,
        slug: Option<Arc<str>>,
        length: Length,
    ) -> ApiResult<OwnedSemaphorePermit> {
        let known = slug.as_ref().and_then(|slug| self.known(slug));
        let places = match (known, slug) {
            (Some(places), Some(slug)) => {
                self.pace(&slug)?;
                places
            }
            // Whoever makes names up has them looked up no faster than a tenant calls.
            (_, slug) => {
                self.pace(&self.nobody)?;
                self.meet(slug).await?
            }
        };
        let exhausted = match length {
            Length::Short => Exhausted::Calls,
            Length::Waiting | Length::Stream => Exhausted::Streams,
        };
        places.take(length).ok_or(exhausted.into())
    }

    /// The places of a tenant that has called before.
    fn known(&self, slug: &Arc<str>) -> Option<Places> {
        self.tenants().get(slug).cloned()
    }

    /// The places of a tenant that has not called yet, if it is one.
    async fn meet(&self, slug: Option<Arc<str>>) -> ApiResult<Places> {
        let Some(slug) = slug else {
            return Ok(self.nobodys.clone());
        };
        if tenant::by_slug(&self.store, &slug).await?.is_none() {
            return Ok(self.nobodys.clone());
        }
        let new = || Places::new(self.of_each);
        Ok(self.tenants().entry(slug).or_insert_with(new).clone())
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Arc<str>, Places>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self, slug: &Arc<str>) -> Result<(), Exhausted> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        let now = || rate.clock().now();
        rate.check_key(slug)
            .map_err(|until| Exhausted::Rate(until.wait_time_from(now())))
    }
}

/// Places for calls that are under way at the same time.
#[derive(Clone)]
struct Places {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Places {
    fn new(of: AtOnce) -> Self {
        Places {
            calls: Arc::new(Semaphore::new(of.calls)),
            streams: Arc::new(Semaphore::new(of.streams)),
        }
    }

    /// One of them, if there is one now.
    fn take(&self, length: Length) -> Option<OwnedSemaphorePermit> {
        let places = match length {
            Length::Short => &self.calls,
            Length::Waiting | Length::Stream => &self.streams,
        };
        Arc::clone(places).try_acquire_owned().ok()
    }
}

/// A call under way, as metrics count it.
struct Running {
    kind: &'static str,
    _place: OwnedSemaphorePermit,
}

impl Running {
    fn begin(length: Length, place: OwnedSemaphorePermit) -> Self {
        let kind = length.kind();
        meters::calls_in_flight(kind, 1);
        Running {
            kind,
            _place: place,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        meters::calls_in_flight(self.kind, -1);
    }
}

/// Refuses what is more than the server takes in total, before it is looked at who calls, and ends calls at their
/// deadline: a middleware of axum.
pub async fn shed(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let length = length(path);
    let mut running = None;
    if needs(path) != Needs::Health {
        match limits.0.all.take(length) {
            Some(place) => running = Some(Running::begin(length, place)),
            None => return refuse(ApiError::Overloaded),
        }
    }
    let given = timeout(request.headers());
    let longest = (length != Length::Stream).then_some(limits.0.longest_call);
    let time = given.into_iter().chain(longest).min();
    let deadline = time.and_then(|time| Instant::now().checked_add(time));
    request.extensions_mut().insert(Deadline(deadline));
    let deadline = deadline.map(tokio::time::Instant::from_std);
    let response = match deadline {
        None => next.run(request).await,
        Some(deadline) => match timeout_at(deadline, next.run(request)).await {
            Ok(response) => response,
            Err(_) => return Status::from(ApiError::DeadlineExceeded).into_http(),
        },
    };
    // An answer that is made in time may be taken later.
    held(response, length, deadline, running)
}

/// Refuses what is more than the server takes of a tenant: a middleware of axum, behind the one that looks who
/// calls.
pub async fn admit(State(limits): State<Limits>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if matches!(needs(path), Needs::Health | Needs::Reflection) {
        return next.run(request).await;
    }
    let (length, slug) = (length(path), slug(&request));
    match limits.0.place(slug, length).await {
        Ok(place) => held(next.run(request).await, length, None, place),
        Err(error) => refuse(error),
    }
}

/// The tenant that a call names or that its caller implies, if the caller may act for it.
fn slug(request: &Request) -> Option<Arc<str>> {
    let tenants = &request.extensions().get::<Arc<Principal>>()?.tenants;
    let slug = match request.headers().get(TENANT_KEY) {
        Some(value) => value.to_str().ok()?,
        None => tenants.single()?,
    };
    tenants.has(slug).then(|| slug.into())
}

fn refuse(error: ApiError) -> Response {
    match &error {
        ApiError::Overloaded => meters::call_refused("total"),
        ApiError::Exhausted(Exhausted::Rate(_)) => meters::call_refused("rate"),
        ApiError::Exhausted(Exhausted::Calls) => meters::call_refused("calls"),
        ApiError::Exhausted(Exhausted::Streams) => meters::call_refused("streams"),
        _ => {}
    }
    Status::from(error).into_http()
}

/// How long the caller gives a call: the header `grpc-timeout`, up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The answer of a call. That of a stream keeps the call's place, and ends at its deadline.
fn held<P: Unpin + Send + 'static>(
    response: Response,
    length: Length,
    deadline: Option<tokio::time::Instant>,
    place: P,
) -> Response {
    if length != Length::Stream {
        return response;
    }
    response.map(|body| {
        Body::new(Held {
            body,
            until: deadline.map(|until| Box::pin(sleep_until(until))),
            _place: place,
        })
    })
}

/// A stream on its way, which keeps its place. At its deadline a stream ends.
struct Held<P> {
    body: Body,
    until: Option<Pin<Box<Sleep>>>,
    _place: P,
}

impl<P: Unpin> HttpBody for Held<P> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        // First of all: a stream that always has something to tell ends as well.
        if let Some(until) = &mut this.until
            && until.as_mut().poll(cx).is_ready()
        {
            this.until = None;
            this.body = Body::empty();
            let mut trailers = HeaderMap::new();
            // What is left out when it does not fit into headers is the message alone.
            let _ = Status::from(ApiError::DeadlineExceeded).add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
