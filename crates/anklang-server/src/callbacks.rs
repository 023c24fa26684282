//! Where providers report: `/channels/{tenant}/{account}/…`, handed to the account's plugin, which
//! knows the provider's secrets and words.
//!
//! # Guarantees
//! What a request tells is committed before it is answered with 2xx; when that is not possible the
//! answer is 503, and the provider comes again, which changes nothing. A request that the plugin
//! does not take for its provider's leaves nothing behind. Size, time and the number of requests at the same time
//! are bounded for each account, before anything of a request is read.
//!
//! # Trade-offs
//! Whoever may not know it learns nothing: an unknown tenant, one that may not use the account, and an
//! account whose plugin takes no requests are the same 404. Addresses are not logged: some providers
//! have secrets in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anklang_channels::CallError;
use anklang_channels::proto::{self, Capability};
use anklang_domain::TenantId;
use anklang_store::tenant::{self, Tenant};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::accounts::Account;
use crate::telemetry::meters;
use crate::work::{App, reports};

/// The largest body of a request.
const LARGEST_BODY: usize = 1 << 20;
/// The largest body of an answer.
const LARGEST_ANSWER: usize = 64 << 10;
/// Tenants that are looked up at the same time: whoever makes names up does not use the database up.
const LOOKUPS: usize = 4;
/// How long to wait for a place, in place of a provider that would have to come again.
const PATIENCE: Duration = Duration::from_secs(2);
/// When a provider is asked to come again, in seconds.
const AGAIN: &str = "5";

/// An answer is shown to nobody; should it be, it does nothing.
const HEADERS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; sandbox",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

type Places = HashMap<(TenantId, String), Arc<Semaphore>>;

#[derive(Clone)]
struct Callbacks {
    app: App,
    lookups: Arc<Semaphore>,
    /// By account and tenant; only of those that there are.
    places: Arc<Mutex<Places>>,
}

/// The routes.
pub fn router(app: App) -> Router {
    let callbacks = Callbacks {
        app,
        lookups: Arc::new(Semaphore::new(LOOKUPS)),
        places: Arc::default(),
    };
    let both = || get(answer).post(answer);
    Router::new()
        .route("/channels/{tenant}/{account}", both())
        .route("/channels/{tenant}/{account}/{*rest}", both())
        .with_state(callbacks)
}

async fn answer(State(callbacks): State<Callbacks>, request: Request) -> Response {
    let limit = callbacks.app.config.channels.callback_time;
    let (status, content) = tokio::time::timeout(limit, callbacks.take(request))
        .await
        .unwrap_or(Err(StatusCode::SERVICE_UNAVAILABLE))
        .unwrap_or_else(|status| (status, None));
    let mut response = (status, HEADERS).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let again = HeaderValue::from_static(AGAIN);
        response.headers_mut().insert(header::RETRY_AFTER, again);
    }
    if let Some((content_type, body)) = content {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type);
        *response.body_mut() = Body::from(body);
    }
    response
}

type Content = Option<(HeaderValue, Vec<u8>)>;
type Answer = Result<(StatusCode, Content), StatusCode>;

impl Callbacks {
    async fn take(&self, request: Request) -> Answer {
        let path = request.uri().path().to_owned();
        let mut parts = path.split('/').skip(2);
        let (slug, id) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let tenant = self.tenant(slug).await?;
        let account = self.app.accounts.get(&tenant, id);
        let account = account
            .filter(|account| account.can(Capability::Callback))
            .ok_or(StatusCode::NOT_FOUND)?;
        let place = self.place(tenant.id, &account.id).await?;
        let answer = self.hand_over(&tenant, &account, request).await;
        drop(place);
        let status = answer.as_ref().map_or_else(|status| *status, |a| a.0);
        meters::callback(&account.id, status.as_u16());
        answer
    }

    async fn tenant(&self, slug: &str) -> Result<Tenant, StatusCode> {
        let place = within_patience(Arc::clone(&self.lookups)).await?;
        let found = tenant::by_slug(&self.app.store, slug).await;
        drop(place);
        found
            .map_err(|error| {
                tracing::warn!(%error, "a provider's request");
                StatusCode::SERVICE_UNAVAILABLE
            })?
            .ok_or(StatusCode::NOT_FOUND)
    }

    async fn place(&self, tenant: TenantId, id: &str) -> Result<OwnedSemaphorePermit, StatusCode> {
        let places = {
            let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Semaphore::new(self.app.config.channels.callbacks));
            Arc::clone(all.entry((tenant, id.to_owned())).or_insert_with(new))
        };
        within_patience(places).await
    }

    /// Asks the plugin and commits what the request tells.
    async fn hand_over(&self, tenant: &Tenant, account: &Account, request: Request) -> Answer {
        let request = read(request).await?;
        let reply = account.instance.callback(request).await.map_err(|error| {
            let (account, tenant, why) = (&account.id[..], &tenant.slug[..], error.kind());
            tracing::warn!(account, tenant, error = why, "a provider's request");
            tracing::debug!(account, tenant, %error, "a provider's request");
            refused(&error)
        })?;
        let status = status(reply.http_status);
        if !status.is_success() {
            tracing::info!(
                account = account.id,
                tenant = tenant.slug,
                status = status.as_u16(),
                "the plugin refuses a request"
            );
            return Ok((status, content(reply)));
        }
        let words = &self.app.config.channels.stop_words;
        let news = reports::read(account, &reply.deliveries, &reply.inbound, words);
        // Of an account that several tenants share, the provider has one address, and reports there of
        // the messages of all of them.
        let recorded = async {
            let tenants = reports::tenants(&self.app, account).await?;
            reports::record(&self.app, account, &tenants, &[tenant.id], &news).await
        };
        if let Err(error) = recorded.await {
            tracing::warn!(account = account.id, tenant = tenant.slug, %error, "recording events");
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok((status, content(reply)))
    }
}

/// A place, when there is one soon.
pub(crate) async fn within_patience(
    places: Arc<Semaphore>,
) -> Result<OwnedSemaphorePermit, StatusCode> {
    let place = tokio::time::timeout(PATIENCE, places.acquire_owned()).await;
    match place {
        Ok(Ok(place)) => Ok(place),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// A request as the plugin is given it: as it came.
async fn read(request: Request) -> Result<proto::CallbackRequest, StatusCode> {
    let (parts, body) = request.into_parts();
    let told = parts.headers.get(header::CONTENT_LENGTH);
    let told = told.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|length| length > LARGEST_BODY) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    // Longer than the limit, or the client went away; nobody reads the second answer.
    let body = to_bytes(body, LARGEST_BODY)
        .await
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    let uri = parts.uri.path_and_query();
    let headers = parts.headers.iter().map(|(name, value)| proto::Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    Ok(proto::CallbackRequest {
        method: parts.method.as_str().to_owned(),
        uri: uri.map_or_else(String::new, ToString::to_string),
        headers: headers.collect(),
        body: body.to_vec(),
    })
}

fn refused(error: &CallError) -> StatusCode {
    match error {
        CallError::Unsupported => StatusCode::NOT_FOUND,
        CallError::Invalid(_) => StatusCode::BAD_REQUEST,
        CallError::Busy | CallError::Closed | CallError::Down(_) | CallError::Lost(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// A plugin may say anything; what is no status of an answer is our fault.
fn status(told: u32) -> StatusCode {
    let told = match told {
        0 => Some(StatusCode::OK),
        told => u16::try_from(told)
            .ok()
            .and_then(|told| StatusCode::from_u16(told).ok()),
    };
    told.filter(|status| (200..600).contains(&status.as_u16()))
        .unwrap_or(StatusCode::BAD_GATEWAY)
}

fn content(reply: proto::CallbackReply) -> Content {
    if reply.body.is_empty() || reply.body.len() > LARGEST_ANSWER {
        return None;
    }
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let told = match &reply.content_type[..] {
        "" => Ok(plain.clone()),
        told => HeaderValue::from_str(told),
    };
    Some((told.unwrap_or(plain), reply.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_may_say_anything() {
        assert_eq!(status(0), StatusCode::OK);
        assert_eq!(status(401), StatusCode::UNAUTHORIZED);
        for nonsense in [1, 100, 199, 600, 999, 1_000, u32::MAX] {
            assert_eq!(status(nonsense), StatusCode::BAD_GATEWAY);
        }
        let reply = |content_type: &str, body: &[u8]| {
            content(proto::CallbackReply {
                content_type: content_type.into(),
                body: body.to_vec(),
                ..Default::default()
            })
        };
        assert_eq!(reply("text/xml", b""), None);
        assert_eq!(reply("", &vec![0; LARGEST_ANSWER + 1]), None);
        let (kind, body) = reply("text/xml\r\nx: y", b"ok").expect("a body");
        assert_eq!(kind, "text/plain; charset=utf-8");
        assert_eq!(body, b"ok");
    }
}
