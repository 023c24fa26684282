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
mod principal;
mod signature;
mod tokens;
mod validity;

use std::sync::Arc;
use std::time::SystemTime;

use anklang_domain::Violations;
use anklang_domain::access::Permission;
use anklang_store::call::Call;
use anyhow::Context as _;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Status};

use crate::config::{AuthConfig, AuthMode, Config};
use crate::grpc::FRESH_KEY;
use crate::grpc::error::{ApiError, Denied};
use crate::limits::{Deadline, is_stream};
use crate::reload;
use crate::telemetry::meters;
use crate::telemetry::rpc::CountsAs;

use certificates::Certificates;
pub(crate) use jwks::may_fetch;
use jwt::Issuers;
pub(crate) use method::{Needs, needs};
pub use principal::{Principal, Tenants, Worker};
use tokens::Tokens;
pub use tokens::{digest, generate};
use validity::{Answer, Validity};

/// The longest token, in bytes; longer ones are not looked at.
const LONGEST_TOKEN: usize = 8 << 10;

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

/// Who calls, and how long that is so.
type Known = (Arc<Principal>, Validity);

struct Trusted {
    tokens: Tokens,
    issuers: Issuers,
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

    /// Keeps the keys of issuers and the file of tokens fresh until `stop`, each by itself: what befalls one does
    /// not end the others.
    pub fn start(&self, workers: &TaskTracker, stop: &CancellationToken) {
        let Some(trusted) = &self.0.trusted else {
            return;
        };
        let keys: Vec<_> = trusted.issuers.keys().map(Arc::clone).collect();
        if !keys.is_empty() {
            meters::issuer_keys(move || keys.iter().map(|keys| keys.age()).collect());
        }
        for keys in trusted.issuers.keys() {
            let (keys, stop) = (Arc::clone(keys), stop.clone());
            workers.spawn(async move {
                stop.run_until_cancelled(keys.keep_fresh()).await;
            });
        }
        if let Some(file) = trusted.tokens.file() {
            workers.spawn(reload::follow(file, stop.clone()));
        }
    }

    /// Who makes this call, if they may.
    async fn admit(&self, head: &Parts) -> Result<Known, ApiError> {
        let checks = &*self.0;
        let Some(trusted) = &checks.trusted else {
            return Ok((Arc::clone(&checks.anybody), Validity::default()));
        };
        let needs = needs(head.uri.path());
        let open = match needs {
            Needs::Health => checks.open_health,
            Needs::Reflection => checks.open_reflection,
            Needs::Permission(_) | Needs::Everything => false,
        };
        if open {
            return Ok((Arc::clone(&checks.nobody), Validity::default()));
        }
        let (principal, validity) = trusted.caller(head).await?;
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
            _ => Ok((principal, validity)),
        }
    }
}

impl Trusted {
    fn new(config: &AuthConfig) -> anyhow::Result<Self> {
        signature::install();
        Ok(Trusted {
            tokens: Tokens::new(&config.tokens, config.tokens_file.as_ref()),
            issuers: Issuers::new(&config.issuers)?,
            certificates: Certificates::new(&config.certificates),
        })
    }

    /// Whose call it is. Where there is a token, it decides, whatever certificate was shown.
    async fn caller(&self, head: &Parts) -> Result<Known, ApiError> {
        match bearer(&head.headers)? {
            Some(token) => self.principal(token).await,
            None => {
                let shown = head.extensions.get();
                self.certificates.principal(shown, SystemTime::now())
            }
        }
    }

    async fn principal(&self, token: &str) -> Result<Known, ApiError> {
        if tokens::is_static(token) {
            return self.tokens.principal(token, chrono::Utc::now());
        }
        self.issuers.principal(token).await
    }
}

/// That callers are not known has to be asked for where others than this machine can call.
pub fn check_anybody(config: &Config) -> Result<(), Violations> {
    let mut violations = Violations::new();
    let is_open = config.auth.mode == AuthMode::None && config.roles.api;
    let is_here = config.listen.ip().to_canonical().is_loopback();
    if is_open && !is_here && !config.auth.anybody {
        violations.add(
            "auth.anybody",
            format!(
                "must be true to let whoever reaches {}, which is not loopback, do everything for every tenant; \
                 or set auth.mode to \"token\"",
                config.listen
            ),
        );
    }
    violations.finish(())
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
/// has them send; this type they send only where the server lets them: to pages of `server.cors_origins`.
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
        Ok((principal, validity)) => {
            // It has done its work; nothing behind this shall write it anywhere.
            head.headers.remove(AUTHORIZATION);
            let call = Call {
                caller: Arc::clone(&principal.name),
                method: head.uri.path().into(),
                deadline: head.extensions.get::<Deadline>().and_then(|until| until.0),
                fresh: head
                    .headers
                    .get(FRESH_KEY)
                    .is_some_and(|value| value == "true"),
            };
            head.extensions.insert(principal);
            let streams = is_stream(head.uri.path());
            let mut over = streams.then(|| validity.over()).flatten();
            let request = Request::from_parts(head, body);
            let answered = call.clone().scope(next.run(request));
            let response = match &mut over {
                None => answered.await,
                Some(over) => tokio::select! {
                    response = answered => response,
                    error = over => return Status::from(error).into_http(),
                },
            };
            response.map(|body| Body::new(Answer::new(body, call, over)))
        }
        Err(error) => {
            // Whoever makes up a key's name has that answer, and must not seem a fault of the server's.
            let counts = matches!(error, ApiError::KeyNotYet(_));
            let counts = counts.then_some(CountsAs(Code::Unauthenticated));
            let mut response = Status::from(error).into_http();
            if let Some(counts) = counts {
                response.extensions_mut().insert(counts);
            }
            response
        }
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
    fn where_others_can_call_that_nobody_is_known_has_to_be_asked_for() {
        let check = |listen: &str, more: &str| {
            let file = format!("[server]\nlisten = '{listen}'\n{more}");
            let config = Config::read(Some(&file), []).expect("good settings");
            let checked = check_anybody(&config);
            checked.map_err(|found| {
                found
                    .into_vec()
                    .into_iter()
                    .map(|v| v.field)
                    .collect::<Vec<_>>()
            })
        };
        for loopback in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(check(loopback, ""), Ok(()), "{loopback}");
        }
        for outside in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let refused = Err(vec!["auth.anybody".to_owned()]);
            assert_eq!(check(outside, ""), refused, "{outside}");
            assert_eq!(
                check(outside, "[auth]\nanybody = true"),
                Ok(()),
                "{outside}"
            );
            let token = "[auth]\nmode = 'token'\n[auth.tokens.crm]\nsha256 = '";
            let token = format!(
                "{token}{}'\ntenants = ['*']\nroles = ['service']",
                "ab".repeat(32)
            );
            assert_eq!(check(outside, &token), Ok(()), "{outside}");
            // It answers nothing but how it is.
            assert_eq!(check(outside, "roles = ['worker']"), Ok(()), "{outside}");
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
}
