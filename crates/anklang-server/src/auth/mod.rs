//! Who calls, and what they may do.
//!
//! A layer before the handlers turns the bearer token of a call, or without one the certificate of its
//! connection, into a [`Principal`], checks that it has the permission that the method declares, and puts it
//! into the request; `grpc::caller` and
//! `grpc::check_worker` ask it. A request without one is answered by no handler, so that nothing is open by
//! mistake: with `auth.mode = "none"` it is somebody who may do everything.

mod certificates;
mod jwks;
mod jwt;
mod key;
mod method;
mod signature;
mod tokens;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anklang_domain::access::{Permission, Rights, Role};
use anklang_domain::approval::ANYBODY;
use anklang_store::call::Call;
use anyhow::Context as _;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::config::{AuthConfig, AuthMode};
use crate::grpc::error::{ApiError, Denied};

use certificates::Certificates;
pub(crate) use jwks::may_fetch;
use jwt::Issuer;
use method::Needs;
use tokens::Tokens;
pub use tokens::{digest, generate};

/// The longest token, in bytes; longer ones are not looked at.
const LONGEST_TOKEN: usize = 8 << 10;

/// Who calls.
#[derive(Debug, Clone)]
pub struct Principal {
    /// What it is called when something is refused to it: `tokens/{id}`, `certificates/{id}`, or the issuer and
    /// its subject.
    pub name: Arc<str>,
    /// In whose name it may work.
    pub worker: Worker,
    /// For whom it may act.
    pub tenants: Tenants,
    /// What it may do for each of them.
    pub rights: Rights,
}

impl Principal {
    /// One with these roles. `worker` is the user that the token or certificate names, if it
    /// does.
    fn new(name: String, roles: &[Role], tenants: Tenants, worker: Option<String>) -> Self {
        let worker = match worker {
            _ if roles.iter().any(|role| role.names_any_worker()) => Worker::Anybody,
            Some(user) => Worker::Own(user),
            None => Worker::Nobody,
        };
        Principal {
            name: name.into(),
            worker,
            tenants,
            rights: Rights::of(roles),
        }
    }

    /// Whoever calls, when nobody is asked who they are.
    fn anybody() -> Self {
        Principal {
            name: ANYBODY.into(),
            worker: Worker::Anybody,
            tenants: Tenants::All,
            rights: Rights::all(),
        }
    }

    /// Whoever calls what is open to all.
    fn nobody() -> Self {
        Principal::new("nobody".into(), &[], Tenants::Only(BTreeSet::new()), None)
    }
}

/// In whose name a principal may work: what it may write into fields called `worker`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Worker {
    /// In anybody's.
    Anybody,
    /// In its own alone: the id of a user.
    Own(String),
    /// In nobody's: it should work in its own, but its token or certificate names none.
    Nobody,
}

/// Tenants for which a principal may act, by their slugs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tenants {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Tenants {
    /// As settings name them, where none are all.
    fn of(slugs: &[String]) -> Self {
        match slugs {
            [] => Tenants::All,
            slugs => Tenants::Only(slugs.iter().cloned().collect()),
        }
    }

    /// Whether that is one of them.
    pub fn has(&self, slug: &str) -> bool {
        match self {
            Tenants::All => true,
            Tenants::Only(slugs) => slugs.contains(slug),
        }
    }

    /// The one, when it is but one.
    pub fn single(&self) -> Option<&str> {
        match self {
            Tenants::Only(slugs) if slugs.len() == 1 => slugs.first().map(String::as_str),
            _ => None,
        }
    }
}

/// What callers are checked against. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Checks>);

struct Checks {
    open_health: bool,
    open_reflection: bool,
    /// Whose tokens and certificates count; without it nobody is asked for one.
    trusted: Option<Trusted>,
    anybody: Arc<Principal>,
    nobody: Arc<Principal>,
}

struct Trusted {
    tokens: Tokens,
    issuers: Vec<Issuer>,
    certificates: Certificates,
}

impl Auth {
    /// As the settings say. Nothing is fetched yet.
    pub fn open(config: &AuthConfig) -> anyhow::Result<Auth> {
        let trusted = match config.mode {
            AuthMode::None => None,
            AuthMode::Token => Some(Trusted::new(config).context("auth.issuers")?),
        };
        Ok(Auth(Arc::new(Checks {
            open_health: config.open_health,
            open_reflection: config.open_reflection,
            trusted,
            anybody: Arc::new(Principal::anybody()),
            nobody: Arc::new(Principal::nobody()),
        })))
    }

    /// Keeps the keys of issuers fresh until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let issuers = self.0.trusted.iter().flat_map(|t| &t.issuers);
        let fresh = join_all(issuers.map(|issuer| issuer.keys.keep_fresh()));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = fresh => {}
        }
    }

    /// Who makes this call, if they may.
    async fn admit(&self, head: &Parts) -> Result<Arc<Principal>, ApiError> {
        let checks = &*self.0;
        let Some(trusted) = &checks.trusted else {
            return Ok(Arc::clone(&checks.anybody));
        };
        let needs = method::needs(head.uri.path());
        let open = match needs {
            Needs::Health => checks.open_health,
            Needs::Reflection => checks.open_reflection,
            Needs::Permission(_) | Needs::Everything => false,
        };
        if open {
            return Ok(Arc::clone(&checks.nobody));
        }
        let principal = trusted.caller(head).await?;
        let rights = &principal.rights;
        match needs {
            Needs::Permission(permission) if !rights.allows(permission) => {
                Err(Denied::Permission {
                    caller: principal.name.to_string(),
                    permission: permission.as_str(),
                }
                .into())
            }
            Needs::Everything if !Permission::ALL.iter().all(|p| rights.allows(*p)) => {
                Err(Denied::Undeclared.into())
            }
            _ => Ok(principal),
        }
    }
}

impl Trusted {
    fn new(config: &AuthConfig) -> anyhow::Result<Self> {
        signature::install();
        let issuers = config.issuers.iter().cloned().map(Issuer::new);
        Ok(Trusted {
            tokens: Tokens::new(&config.tokens),
            issuers: issuers.collect::<Result<_, _>>()?,
            certificates: Certificates::new(&config.certificates),
        })
    }

    /// Whose call it is. Where there is a token, it decides, whatever certificate was shown.
    async fn caller(&self, head: &Parts) -> Result<Arc<Principal>, ApiError> {
        match bearer(&head.headers)? {
            Some(token) => self.principal(token).await,
            None => self.certificates.principal(head.extensions.get()),
        }
    }

    async fn principal(&self, token: &str) -> Result<Arc<Principal>, ApiError> {
        if tokens::is_static(token) {
            return self.tokens.principal(token, chrono::Utc::now());
        }
        jwt::principal(&self.issuers, token).await.map(Arc::new)
    }
}

/// The token of a call, if it has one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let refused = |why: &str| Err(ApiError::Unauthenticated(why.to_owned()));
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (value, more) = (given.next(), given.next());
    let Some(value) = value else {
        return Ok(None);
    };
    if more.is_some() {
        return refused("the metadata key authorization came twice");
    }
    if value.len() > LONGEST_TOKEN + "Bearer ".len() {
        return refused("the token is longer than 8 KiB");
    }
    let words = value.to_str().ok().and_then(|text| text.split_once(' '));
    match words {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => {
            Ok(Some(token))
        }
        _ => refused("authorization must be Bearer, a space and a token"),
    }
}

/// Whether it is a call of gRPC. Browsers show certificates of their own accord, and send what a page of anybody
/// has them send; this type they send only where the server lets them, which it does nowhere.
fn is_call(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Lets a call through, with its principal, or answers it: a middleware of axum.
pub async fn check(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    if !is_call(&head.headers) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    match auth.admit(&head).await {
        Ok(principal) => {
            // It has done its work; nothing behind this shall write it anywhere.
            head.headers.remove(AUTHORIZATION);
            let call = Call {
                caller: Arc::clone(&principal.name),
                method: head.uri.path().into(),
            };
            head.extensions.insert(principal);
            let request = Request::from_parts(head, body);
            let response = call.clone().scope(next.run(request)).await;
            response.map(|body| Body::new(Answer { body, call }))
        }
        Err(error) => Status::from(error).into_http(),
    }
}

/// A response's body on its way: what a stream does while it is read is work for its call.
struct Answer {
    body: Body,
    call: Call,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Answer { body, call } = &mut *self;
        call.sync_scope(|| Pin::new(body).poll_frame(cx))
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
    use http::HeaderValue;

    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_str(value).expect("a header");
            headers.append(AUTHORIZATION, value);
        }
        match bearer(&headers) {
            Ok(token) => Ok(token.map(str::to_owned)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_token_comes_once_and_as_bearer() {
        assert_eq!(read(&["Bearer abc.def"]), Ok(Some("abc.def".into())));
        assert_eq!(read(&["bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(read(&[]), Ok(None));
        let longest = "a".repeat(LONGEST_TOKEN);
        let (fits, too_long) = (format!("Bearer {longest}"), format!("Bearer {longest}a"));
        assert_eq!(read(&[&fits[..]]), Ok(Some(longest)));
        for (values, why) in [
            (vec!["Bearer a", "Bearer a"], "twice"),
            (vec!["abc"], "must be Bearer"),
            (vec!["Bearer "], "must be Bearer"),
            (vec!["Basic YTpi"], "must be Bearer"),
            (vec![&too_long[..]], "longer than 8 KiB"),
        ] {
            let refused = read(&values).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn tenants_are_all_one_or_some() {
        let of = |slugs: &[&str]| {
            let slugs: Vec<String> = slugs.iter().map(|s| (*s).to_owned()).collect();
            Tenants::of(&slugs)
        };
        let (all, one, two) = (of(&[]), of(&["acme"]), of(&["acme", "lindenau"]));
        assert!(all.has("acme") && one.has("acme") && two.has("lindenau"));
        assert!(!one.has("lindenau") && !two.has("") && !one.has("ACME"));
        assert_eq!(
            (all.single(), one.single(), two.single()),
            (None, Some("acme"), None)
        );
    }

    #[test]
    fn who_may_name_any_worker_is_not_bound() {
        let worker = |roles: &[Role], user: Option<&str>| {
            let tenants = Tenants::All;
            Principal::new("x".into(), roles, tenants, user.map(str::to_owned)).worker
        };
        let anna = Some("anna");
        assert_eq!(worker(&[Role::Clerk], anna), Worker::Own("anna".into()));
        assert_eq!(
            worker(&[Role::Clerk, Role::Auditor], anna),
            Worker::Own("anna".into())
        );
        assert_eq!(worker(&[Role::Clerk], None), Worker::Nobody);
        assert_eq!(worker(&[Role::Clerk, Role::Central], anna), Worker::Anybody);
        assert_eq!(worker(&[Role::Service], None), Worker::Anybody);
    }
}
