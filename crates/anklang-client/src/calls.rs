//! What all calls go through: it says who calls, and until when, and makes calls again that may be.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;
use tower::{Service, ServiceExt};

use crate::builder::causes;
use crate::method::Method;
use crate::{Retries, error, method, timeout};

/// Any error.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What stands before a message: a flag, and its length in four bytes.
const HEAD: usize = 5;
const TENANT: &str = "anklang-tenant";

/// What calls go through: a service for generated clients. A clone shares the connection.
#[derive(Clone)]
pub struct Calls {
    channel: Channel,
    settings: Arc<Settings>,
}

/// How calls are made.
#[derive(Clone)]
pub(crate) struct Settings {
    pub tenant: Option<HeaderValue>,
    pub token: Token,
    pub deadline: Option<Duration>,
    pub max_answer_bytes: usize,
    pub retries: Retries,
}

/// Gives a token.
pub(crate) type Ask = dyn Fn() -> BoxFuture<'static, Result<String, BoxError>> + Send + Sync;

/// Who calls.
#[derive(Clone)]
pub(crate) enum Token {
    /// Nobody says.
    None,
    /// The same in all calls.
    Fixed(HeaderValue),
    /// Asked for before each call.
    Asked(Arc<Ask>),
}

/// A token as it goes into a call; `None` when it cannot.
pub(crate) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

impl Token {
    async fn value(&self) -> Result<Option<HeaderValue>, Status> {
        match self {
            Token::None => Ok(None),
            Token::Fixed(value) => Ok(Some(value.clone())),
            Token::Asked(ask) => {
                let token = ask().await;
                let token = token.map_err(|error| {
                    Status::unauthenticated(format!("there is no token: {error}"))
                })?;
                let value = bearer(&token);
                let strange = || Status::unauthenticated("the token is not of visible ASCII");
                value.map(Some).ok_or_else(strange)
            }
        }
    }
}

impl Settings {
    /// Says who calls; what the call says itself stays.
    async fn identify(&self, headers: &mut HeaderMap) -> Result<(), Status> {
        if let Some(tenant) = &self.tenant
            && !headers.contains_key(TENANT)
        {
            headers.insert(TENANT, tenant.clone());
        }
        if !headers.contains_key(AUTHORIZATION)
            && let Some(token) = self.token.value().await?
        {
            headers.insert(AUTHORIZATION, token);
        }
        Ok(())
    }
}

/// An answer, and how the server refuses in it, if it does.
type Answer = (Response<Body>, Option<Status>);

impl Calls {
    pub(crate) fn new(channel: Channel, settings: Settings) -> Self {
        Calls {
            channel,
            settings: Arc::new(settings),
        }
    }

    /// The same for another tenant.
    pub(crate) fn of(&self, tenant: Option<HeaderValue>) -> Self {
        let settings = Settings {
            tenant,
            ..Settings::clone(&self.settings)
        };
        Calls::new(self.channel.clone(), settings)
    }

    pub(crate) fn retries(&self) -> &Retries {
        &self.settings.retries
    }

    /// Whether each call asks for its token, so that the next may have another one.
    pub(crate) fn asks_for_tokens(&self) -> bool {
        matches!(self.settings.token, Token::Asked(_))
    }

    pub(crate) fn max_answer_bytes(&self) -> usize {
        self.settings.max_answer_bytes
    }

    async fn run(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        match method::of(request.uri().path()) {
            Some(method) if !method.takes_stream => self.repeat(method, request).await,
            // What is streamed to the server is not kept, and of strange methods nothing is known.
            _ => self.send(request).await,
        }
    }

    /// Makes a call, again if need be.
    async fn repeat(
        &self,
        method: &Method,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let deadline = self.deadline(method, &parts.headers);
        let message = body.collect().await?.to_bytes();
        let retries = &self.settings.retries;
        let (message, safe) = match retries.any() {
            true => method.repeatable(message),
            false => (message, false),
        };
        let (mut attempt, mut in_doubt) = (1, false);
        loop {
            let answer = self.attempt(method, &parts, &message, deadline).await;
            let refusal = match &answer {
                Ok((_, refusal)) => refusal.as_ref(),
                Err(status) => Some(status),
            };
            in_doubt = refusal.is_some_and(|refusal| may_be_done(refusal, in_doubt));
            let wait = refusal
                .filter(|_| safe)
                .and_then(|refusal| retries.after(attempt, refusal));
            let in_time = |wait: &Duration| deadline.is_none_or(|end| Instant::now() + *wait < end);
            let Some(wait) = wait.filter(in_time) else {
                let id = in_doubt.then(|| method.request_id(&message)).flatten();
                return match (answer, id) {
                    (Ok((_, Some(status))) | Err(status), Some(id)) => {
                        Err(error::with_id(status, &id))
                    }
                    (answer, _) => answer.map(|(response, _)| response),
                };
            };
            sleep(wait).await;
            attempt += 1;
        }
    }

    fn deadline(&self, method: &Method, headers: &HeaderMap) -> Option<Instant> {
        let usual = self.settings.deadline.filter(|_| !method.gives_stream);
        Instant::now().checked_add(timeout::read(headers).or(usual)?)
    }

    /// One try.
    async fn attempt(
        &self,
        method: &Method,
        parts: &Parts,
        message: &Bytes,
        deadline: Option<Instant>,
    ) -> Result<Answer, Status> {
        let body = Body::new(Full::new(message.clone()));
        let mut request = Request::from_parts(parts.clone(), body);
        let Some(deadline) = deadline else {
            return self.answer(method, request).await;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        timeout::write(request.headers_mut(), left);
        let answer = timeout_at(deadline, self.answer(method, request)).await;
        answer.unwrap_or_else(|_| Err(too_late()))
    }

    /// The answer to a request: of a stream its beginning, else all of it, as only its end tells how it went.
    async fn answer(&self, method: &Method, request: Request<Body>) -> Result<Answer, Status> {
        let response = self.send(request).await?;
        if method.gives_stream {
            let refusal = refusal(response.status(), response.headers(), None);
            return Ok((response, refusal));
        }
        let (parts, body) = response.into_parts();
        let largest = self.settings.max_answer_bytes;
        let body = Limited::new(body, largest.saturating_add(HEAD)).collect();
        let body = body
            .await
            .map_err(|broken| match broken.is::<LengthLimitError>() {
                true => Status::out_of_range(format!("the answer is larger than {largest} bytes")),
                false => lost(broken),
            })?;
        let refusal = refusal(parts.status, &parts.headers, body.trailers());
        Ok((Response::from_parts(parts, Body::new(body)), refusal))
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        self.settings.identify(request.headers_mut()).await?;
        let sent = self.channel.clone().oneshot(request).await;
        sent.map_err(|error| lost(error.into()))
    }
}

impl Service<Request<Body>> for Calls {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    /// A call waits by itself until the connection is there.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let calls = self.clone();
        Box::pin(async move { calls.run(request).await })
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// How a server refuses, or who stands before it.
fn refusal(code: StatusCode, headers: &HeaderMap, trailers: Option<&HeaderMap>) -> Option<Status> {
    let mut places = [Some(headers), trailers].into_iter().flatten();
    match places.find_map(Status::from_header_map) {
        Some(status) => (status.code() != Code::Ok).then_some(status),
        // A proxy that reaches no server.
        None if matches!(code.as_u16(), 429 | 502..=504) => {
            Some(Status::unavailable(format!("HTTP status {code}")))
        }
        None => None,
    }
}

/// A call of which nobody knows what came of it, as its connection was lost or was never there.
fn lost(error: BoxError) -> Status {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*error);
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return too_late();
        }
        cause = error.source();
    }
    let mut status = Status::unavailable(causes(&*error));
    status.set_source(Arc::from(error));
    status
}

/// Whether a change may have been done that was refused so; `before` is whether one of its tries may have done it.
fn may_be_done(refusal: &Status, before: bool) -> bool {
    // What a server of ours refuses says why. Anybody else only knows that there was no answer.
    let is_told = refusal.get_details_error_info().is_some();
    match refusal.code() {
        Code::DeadlineExceeded => true,
        Code::Unavailable | Code::OutOfRange if !is_told => true,
        // Refused before it was looked whether the change is done already.
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::Unauthenticated
        | Code::PermissionDenied => before,
        _ => false,
    }
}

fn too_late() -> Status {
    Status::deadline_exceeded("the call's deadline has come")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|&(name, value)| {
                let name = http::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn refusals_are_found_wherever_they_are() {
        let none = headers(&[]);
        let code = |status: u16, headers: &HeaderMap, trailers: &HeaderMap| {
            let status = StatusCode::from_u16(status).expect("a status");
            refusal(status, headers, Some(trailers)).map(|status| status.code())
        };
        let busy = headers(&[("grpc-status", "14"), ("grpc-message", "busy")]);
        assert_eq!(code(200, &busy, &none), Some(Code::Unavailable));
        assert_eq!(code(200, &none, &busy), Some(Code::Unavailable));
        let fine = headers(&[("grpc-status", "0")]);
        assert_eq!(code(200, &none, &fine), None);
        assert_eq!(code(200, &none, &none), None);
        assert_eq!(code(503, &none, &none), Some(Code::Unavailable));
        assert_eq!(code(404, &none, &none), None);
    }

    #[test]
    fn lost_calls_may_be_made_again_and_late_ones_not() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let status = lost(broken.into());
        assert_eq!(status.code(), Code::Unavailable);
        assert!(std::error::Error::source(&status).is_some());
        assert_eq!(
            lost(TimeoutExpired(()).into()).code(),
            Code::DeadlineExceeded
        );
    }

    #[test]
    fn who_has_no_answer_knows_nothing() {
        let told = |code| {
            let details =
                tonic_types::ErrorDetails::with_error_info("X", "anklang", HashMap::new());
            Status::with_error_details(code, "no", details)
        };
        assert!(may_be_done(&too_late(), false));
        assert!(may_be_done(&Status::unavailable("lost"), false));
        assert!(may_be_done(&Status::out_of_range("too large"), false));
        for code in [
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::Unauthenticated,
        ] {
            assert!(!may_be_done(&told(code), false), "{code:?}");
            assert!(may_be_done(&told(code), true), "{code:?}");
        }
        assert!(
            !may_be_done(&told(Code::NotFound), true),
            "else it were done"
        );
    }

    #[tokio::test]
    async fn what_a_call_says_itself_stays() {
        let settings = Settings {
            tenant: Some(HeaderValue::from_static("linden")),
            token: Token::Fixed(bearer("abc").expect("ASCII")),
            deadline: None,
            max_answer_bytes: 100,
            retries: Retries::none(),
        };
        let mut said = HeaderMap::new();
        settings.identify(&mut said).await.expect("a token");
        assert_eq!(said["anklang-tenant"], "linden");
        assert_eq!(said["authorization"], "Bearer abc");
        assert!(said["authorization"].is_sensitive());

        let mut own = headers(&[("anklang-tenant", "other"), ("authorization", "Bearer x")]);
        settings.identify(&mut own).await.expect("a token");
        assert_eq!(own["anklang-tenant"], "other");
        assert_eq!(own["authorization"], "Bearer x");
    }
}
