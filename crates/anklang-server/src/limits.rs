//! What one server takes of callers, so that nobody who calls much, slowly or for long keeps others from being
//! served: [`shed`] around the look at who calls, [`admit`] behind it, before the handlers. Connections have
//! their limits in [`crate::connections`].
//!
//! # Guarantees
//! - Nobody waits for a place: a call gets one or is refused at once, before anything of it is read, and is told
//!   when to try again. A refusal has changed nothing.
//! - Tenants have places of their own, and only tenants that there are: names that somebody makes up share those
//!   of one tenant, so that memory is bounded. Reflection is among them.
//! - A call's place of all tenants and that of its own are free at the same time.
//! - Answers that nobody takes are counted in bytes, wherever they wait (`limits/untaken.rs`), and do not wait for ever.
//! - After its deadline a call does not go on, and neither does its statement (`anklang_store::call`).
//! - Health is told however much there is to do: it has places of its own.
//!
//! # Trade-offs
//! Places and rates are those of one server, not of all: counting over all of them would cost each call a round
//! trip. A stream holds its place until its end was taken, so that a tenant that does not read uses up its own. What
//! gives one answer gives its place back with it: the answer is in memory, where it may lie until it is late, and as
//! long as a tenant's answers are too many there its calls are refused before they begin. What is under way then is
//! answered, so that of a tenant no more lies there than that and what so many calls give (`docs/limits.md`).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anklang_store::{Store, tenant};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::Clock;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use tonic::Status;

use crate::auth::{Needs, Principal, needs};
use crate::config::{AtOnce, LimitsConfig};
use crate::connections::Line;
use crate::grpc::error::{self, ApiError, Exhausted};
use crate::grpc::mask::POOL;
use crate::grpc::{ApiResult, TENANT_KEY};
use crate::public;
use crate::telemetry::meters;
use crate::telemetry::rpc::CallSpan;
use held::{Way, held, whole};
use places::Places;
use timeout::timeout;
use untaken::Untaken;

/// So many ask at the same time how the server is, and so many are told when that changes.
const HEALTH: AtOnce = AtOnce {
    calls: 100,
    streams: 1_000,
};

/// How long it may take to ask how the server is: nothing is looked up for it.
const HEALTH_CALL: Duration = Duration::from_secs(5);

/// How long a stream of reflection lasts.
const REFLECTION_STREAM: Duration = Duration::from_secs(60);

/// So many tenants are looked up at the same time, so that made-up names leave connections to the database.
const LOOKED_UP: usize = 2;

/// A call that is no stream and lasts all the same.
const WAIT_OPERATION: &str = "/google.longrunning.Operations/WaitOperation";

/// The stream of health.
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";

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

/// Whether calls of a method are streams.
pub fn is_stream(path: &str) -> bool {
    length(path) == Length::Stream
}

fn length(path: &str) -> Length {
    match needs(path) {
        Needs::Health if path != WATCH_HEALTH => Length::Short,
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
    health: Places,
    of_each: AtOnce,
    untaken_of_each: usize,
    /// By the tenant's slug; "" for what names none.
    rate: Option<DefaultKeyedRateLimiter<Arc<str>>>,
    /// Tenants that have called, by slug.
    tenants: Mutex<HashMap<Arc<str>, Places>>,
    /// For looking up those that have not.
    looked_up: Semaphore,
    /// For calls that name no tenant, or none that there is.
    nobodys: Places,
    nobody: Arc<str>,
}

impl Limits {
    /// As the settings say.
    pub fn new(config: &LimitsConfig, store: Store) -> Self {
        let untaken = Untaken::new(config.untaken_in_total, None);
        let of_one = Untaken::new(config.untaken_of_each, Some(&untaken));
        let rate = NonZeroU32::new(config.requests_per_second).map(|rate| {
            let burst = NonZeroU32::new(config.burst).unwrap_or(rate);
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Limits(Arc::new(Inner {
            store,
            longest_call: config.longest_call,
            all: Places::new(config.in_total, untaken),
            // Its answers are small, and not refused.
            health: Places::new(HEALTH, Untaken::new(usize::MAX, None)),
            of_each: config.of_each,
            untaken_of_each: config.untaken_of_each,
            rate,
            tenants: Mutex::default(),
            looked_up: Semaphore::new(LOOKED_UP),
            nobodys: Places::new(config.of_each, of_one),
            nobody: "".into(),
        }))
    }
}

impl Inner {
    /// A place for a call of a tenant, and where its answer is counted.
    async fn place(
        &self,
        slug: Option<Arc<str>>,
        length: Length,
        span: Option<&CallSpan>,
    ) -> ApiResult<(OwnedSemaphorePermit, Arc<Untaken>)> {
        let of_one = match slug {
            Some(slug) => self.of(&slug).await?.map(|places| (slug, places)),
            None => None,
        };
        // Whoever makes names up takes nothing from a tenant that is new here.
        let (payer, places) = match &of_one {
            Some((slug, places)) => (slug, places),
            None => (&self.nobody, &self.nobodys),
        };
        // Also of one that is refused.
        if let Some(((slug, _), span)) = of_one.as_ref().zip(span) {
            span.is_for(slug);
        }
        self.pace(payer)?;
        if places.untaken.is_full() {
            return Err(Exhausted::Answers.into());
        }
        if self.all.untaken.is_full() {
            return Err(ApiError::Overloaded);
        }
        let exhausted = match length {
            Length::Short => Exhausted::Calls,
            Length::Waiting | Length::Stream => Exhausted::Streams,
        };
        let place = places.take(length).ok_or(exhausted)?;
        Ok((place, Arc::clone(&places.untaken)))
    }

    /// The places of a tenant, if it is one.
    async fn of(&self, slug: &Arc<str>) -> ApiResult<Option<Places>> {
        if let Some(known) = self.known(slug) {
            return Ok(Some(known));
        }
        // It is never closed.
        let _one = self.looked_up.acquire().await;
        if tenant::by_slug(&self.store, slug).await?.is_none() {
            return Ok(None);
        }
        let untaken = || Untaken::new(self.untaken_of_each, Some(&self.all.untaken));
        let new = || Places::new(self.of_each, untaken());
        let mut tenants = self.tenants();
        Ok(Some(
            tenants.entry(Arc::clone(slug)).or_insert_with(new).clone(),
        ))
    }

    /// Those of one that has called before.
    fn known(&self, slug: &Arc<str>) -> Option<Places> {
        self.tenants().get(slug).cloned()
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

/// A call under way, as metrics count it.
struct Running {
    kind: &'static str,
}

impl Running {
    fn begin(length: Length) -> Self {
        let kind = length.kind();
        meters::calls_in_flight(kind, 1);
        Running { kind }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        meters::calls_in_flight(self.kind, -1);
    }
}

/// A call's place among those of all, for whoever lets go of it last.
#[derive(Clone)]
struct InTotal {
    _running: Arc<Option<Running>>,
    _place: Arc<OwnedSemaphorePermit>,
}

/// Refuses what is more than the server takes in total, before it is looked at who calls, and ends calls at their
/// deadline: a middleware of axum.
pub async fn shed(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (needs, length) = (needs(path), length(path));
    let places = match needs {
        Needs::Health => &limits.0.health,
        _ => &limits.0.all,
    };
    let Some(place) = places.take(length) else {
        return refuse(ApiError::Overloaded);
    };
    let running = (needs != Needs::Health).then(|| Running::begin(length));
    let in_total = InTotal {
        _running: Arc::new(running),
        _place: Arc::new(place),
    };
    request.extensions_mut().insert(in_total.clone());
    let given = timeout(request.headers());
    let longest = match (needs, length) {
        (Needs::Reflection, _) => Some(REFLECTION_STREAM),
        (_, Length::Stream) => None,
        (Needs::Health, _) => Some(HEALTH_CALL),
        _ => Some(limits.0.longest_call),
    };
    let time = given.into_iter().chain(longest).min();
    let deadline = time.and_then(|time| Instant::now().checked_add(time));
    request.extensions_mut().insert(Deadline(deadline));
    let response = match deadline {
        None => next.run(request).await,
        Some(deadline) => match timeout_at(deadline.into(), next.run(request)).await {
            Ok(response) => response,
            Err(_) => Status::from(ApiError::DeadlineExceeded).into_http(),
        },
    };
    // A stream has it as well, and keeps it.
    drop(in_total);
    response
}

/// Refuses what is more than the server takes of a tenant: a middleware of axum, behind the one that looks who
/// calls. What it lets in has an answer that is counted, and that ends.
pub async fn admit(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let in_total = request.extensions_mut().remove::<InTotal>();
    let deadline = request.extensions().get::<Deadline>().copied();
    let path = request.uri().path();
    let (needs, length) = (needs(path), length(path));
    let slug = match needs {
        // They are of no tenant, whichever they name.
        Needs::Health | Needs::Reflection => None,
        _ => slug(&request),
    };
    let (place, untaken) = match needs {
        Needs::Health => (None, Arc::clone(&limits.0.health.untaken)),
        _ => match limits
            .0
            .place(slug, length, request.extensions().get())
            .await
        {
            Ok((place, untaken)) => (Some(place), untaken),
            Err(error) => return refuse(error),
        },
    };
    let line = request.extensions().get::<Line>().cloned();
    let mut response = next.run(request).await;
    error::complete(response.headers_mut());
    let way = |until| Way {
        untaken: &untaken,
        line: line.unwrap_or_default(),
        until,
        patience: limits.0.longest_call,
    };
    match length {
        Length::Stream => {
            let until = deadline.and_then(|deadline| deadline.0);
            held(response, (in_total, place), way(until))
        }
        // An answer that is made in time may be taken later, if not at any time.
        Length::Short | Length::Waiting => {
            let until = Instant::now().checked_add(limits.0.longest_call);
            whole(response, way(until)).await
        }
    }
}

/// Tells how the server is, and shows recipients their pages: a middleware of axum for connections that are too many.
/// Whoever wants anything but the first makes room for others.
pub async fn health_alone(request: Request, next: Next) -> Response {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let needs = needs(request.uri().path());
    let line = request.extensions().get::<Line>();
    if let Some(line) = line.filter(|_| needs != Needs::Health) {
        line.close();
    }
    match needs {
        Needs::Health => next.run(request).await,
        // They have places of their own, and few.
        _ if request.uri().path().starts_with(public::PATH) => next.run(request).await,
        _ if kind == "application/grpc" || kind.starts_with("application/grpc+") => {
            refuse(ApiError::Overloaded)
        }
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
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
        ApiError::Exhausted(Exhausted::Answers) => meters::call_refused("answers"),
        _ => {}
    }
    Status::from(error).into_http()
}

mod held;
mod places;
#[cfg(test)]
mod tests;
mod timeout;
mod untaken;
