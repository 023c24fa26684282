//! The public keys of an issuer, as it publishes them: fetched, kept, and fetched again.
//!
//! They are fetched anew every `refresh_seconds`, and when a token names a key that is not known: by one
//! call, which others wait for, and for that reason every ten seconds at most. That the issuer has no such key
//! says only what was fetched since the call came; till then nobody can tell. While the issuer does not answer,
//! those that are known stay good for a day. A key that is fetched again is the same [`Key`] as before, so that tokens
//! and streams stay good with it; one that is not among them any more is withdrawn.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pooled;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, timeout};
use url::{Host, Url};

use super::key::Key;
use crate::config::IssuerConfig;
use crate::grpc::error::ApiError;
use crate::outside::{client_tls, system_roots};

/// How long fetching may take altogether.
const TIME: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MAX_BODY: usize = 1 << 20;
/// Between two fetches because of keys that are not known, and after one that failed in the background.
const PAUSE: Duration = Duration::from_secs(10);
/// Between two fetches while there is no key at all.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// So long keys are good when they cannot be fetched again.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

type Client = Pooled<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// What is known of an issuer's keys.
struct Known {
    keys: Vec<Arc<Key>>,
    since: Instant,
}

impl Known {
    fn has(&self, key: &Arc<Key>) -> bool {
        self.keys.iter().any(|own| Arc::ptr_eq(own, key))
    }
}

/// Fetches so far.
#[derive(Default)]
struct Fetches {
    last: Option<Instant>,
    failed: bool,
    /// When the last one began that did not fail.
    good: Option<Instant>,
    /// The last one because of a key that was not known.
    for_unknown: Option<Instant>,
}

impl Fetches {
    /// Whether keys were fetched after that moment.
    fn is_good_since(&self, moment: Instant) -> bool {
        self.good.is_some_and(|begun| begun >= moment)
    }
}

/// What is left of the pause after that; nothing when it is over.
fn left(after: Option<Instant>, pause: Duration) -> Option<Duration> {
    let left = pause.checked_sub(after?.elapsed())?;
    (!left.is_zero()).then_some(left)
}

/// What a token's head finds.
enum Found {
    /// Keys that may have signed it; none when its key signs in another way.
    Keys(Vec<Arc<Key>>),
    /// The issuer has no such key, as far as is known.
    Unknown,
    /// No keys are known.
    Nothing,
}

/// The keys of one issuer.
pub struct Jwks {
    config: IssuerConfig,
    client: Client,
    opened: Instant,
    known: watch::Sender<Option<Known>>,
    /// Held while fetching.
    fetches: Mutex<Fetches>,
}

impl Jwks {
    /// None yet.
    pub fn new(config: IssuerConfig) -> anyhow::Result<Self> {
        let mut roots = system_roots();
        if let Some(authorities) = &config.authorities {
            roots.extend(authorities.roots.iter().cloned());
        }
        let tls = client_tls(roots).context("TLS")?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(TIME));
        let client = Pooled::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(HttpsConnector::from((http, tls)));
        Ok(Jwks {
            config,
            client,
            opened: Instant::now(),
            known: watch::Sender::new(None),
            fetches: Mutex::default(),
        })
    }

    /// The issuer's id, and how long ago its keys were fetched last: or, when they never were, since when they
    /// could have been.
    pub fn age(&self) -> (String, Duration) {
        let known = self.known.borrow();
        let since = known.as_ref().map_or(self.opened, |known| known.since);
        (self.config.id.clone(), since.elapsed())
    }

    /// Keys that may have signed a token with this head.
    pub async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<Key>>, ApiError> {
        if let Found::Keys(keys) = self.look(id, algorithm) {
            return Ok(keys);
        }
        // In a task of its own: whoever hangs up must not break off what others wait for.
        let (this, id, came) = (Arc::clone(self), id.map(str::to_owned), Instant::now());
        let found = async move { this.find_anew(id.as_deref(), algorithm, came).await };
        tokio::spawn(found)
            .await
            .unwrap_or_else(|error| Err(ApiError::Internal(format!("fetching keys: {error}"))))
    }

    /// The same for a call that came then, and fetches them first if they may be others by now.
    async fn find_anew(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        came: Instant,
    ) -> Result<Vec<Arc<Key>>, ApiError> {
        // One call fetches; the others wait, and then find what it found.
        let mut fetches = self.fetches.lock().await;
        match self.look(id, algorithm) {
            Found::Keys(keys) => return Ok(keys),
            Found::Nothing if left(fetches.last, SHORT_PAUSE).is_none() => {
                self.fetch(&mut fetches).await;
            }
            Found::Unknown
                if !fetches.is_good_since(came) && left(fetches.for_unknown, PAUSE).is_none() =>
            {
                fetches.for_unknown = Some(Instant::now());
                self.fetch(&mut fetches).await;
            }
            Found::Nothing | Found::Unknown => {}
        }
        let (asked, pause) = match self.look(id, algorithm) {
            Found::Keys(keys) => return Ok(keys),
            Found::Unknown if fetches.is_good_since(came) => {
                return Err(ApiError::Unauthenticated(
                    "the token is signed with a key that its issuer does not have".into(),
                ));
            }
            Found::Unknown => (fetches.for_unknown, PAUSE),
            Found::Nothing => (fetches.last, SHORT_PAUSE),
        };
        // It may be good.
        let again = left(asked, pause).unwrap_or(SHORT_PAUSE);
        Err(match fetches.failed {
            true => ApiError::IssuerAway(again),
            false => ApiError::KeyNotYet(again),
        })
    }

    fn look(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let known = self.known.borrow();
        let Some(known) = known.as_ref().filter(|k| k.since.elapsed() < LONGEST) else {
            return Found::Nothing;
        };
        if !known.keys.iter().any(|key| key.is(id)) {
            return Found::Unknown;
        }
        let fitting = known.keys.iter().filter(|key| key.fits(id, algorithm));
        Found::Keys(fitting.cloned().collect())
    }

    /// Whether this key is still among those that are known.
    pub fn has(&self, key: &Arc<Key>) -> bool {
        let known = self.known.borrow();
        let known = known.as_ref();
        known.is_some_and(|known| known.since.elapsed() < LONGEST && known.has(key))
    }

    /// Waits until keys were fetched among which this one is not. That the issuer does not answer withdraws nothing.
    pub async fn withdrawn(&self, key: &Arc<Key>) {
        let is_gone = |known: &Option<Known>| known.as_ref().is_some_and(|known| !known.has(key));
        // It is never closed: this holds the other end.
        let _ = self.known.subscribe().wait_for(is_gone).await;
    }

    /// Fetches them again and again.
    pub async fn keep_fresh(&self) {
        loop {
            let failed = {
                let mut fetches = self.fetches.lock().await;
                self.fetch(&mut fetches).await;
                fetches.failed
            };
            let pause = match failed {
                true => self.config.refresh.min(PAUSE),
                false => self.config.refresh,
            };
            sleep(pause).await;
        }
    }

    async fn fetch(&self, fetches: &mut Fetches) {
        let begun = Instant::now();
        let fetched = timeout(TIME, self.published()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in time")));
        fetches.last = Some(Instant::now());
        let failed = fetched.is_err();
        // Only that it changed: a line for each call would be no news.
        if failed != fetches.failed {
            let issuer = &self.config.id;
            match &fetched {
                Err(error) => tracing::warn!(issuer, "its keys cannot be fetched: {error:#}"),
                Ok(_) => tracing::info!(issuer, "its keys are fetched again"),
            }
        }
        fetches.failed = failed;
        if let Ok(mut keys) = fetched {
            fetches.good = Some(begun);
            let since = Instant::now();
            self.known.send_modify(|known| {
                let before = known.take().map_or_else(Vec::new, |known| known.keys);
                for key in &mut keys {
                    if let Some(same) = before.iter().find(|own| own.is_same(key)) {
                        *key = Arc::clone(same);
                    }
                }
                *known = Some(Known { keys, since });
            });
        }
    }

    /// The keys as the issuer publishes them now.
    async fn published(&self) -> anyhow::Result<Vec<Arc<Key>>> {
        let url = match &self.config.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: Set = self.get(&url).await?;
        let keys = set.keys.into_iter();
        // Each by itself: what one has that is not known here is no fault of the others.
        let keys = keys.filter_map(|key| Key::read(&serde_json::from_value(key).ok()?));
        let keys: Vec<_> = keys.map(Arc::new).collect();
        ensure!(!keys.is_empty(), "{url}: no key that signs tokens");
        Ok(keys)
    }

    /// Where the keys are, as OpenID Connect Discovery has it.
    async fn discover(&self) -> anyhow::Result<Url> {
        let issuer = &self.config.issuer;
        let base = issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/.well-known/openid-configuration"))?;
        let found: Discovery = self.get(&url).await?;
        ensure!(
            found.issuer == *issuer,
            "{url}: is about another issuer than {issuer}"
        );
        let keys = Url::parse(&found.jwks_uri).with_context(|| format!("{url}: jwks_uri"))?;
        ensure!(
            may_fetch(&keys, self.config.allow_http),
            "{url}: jwks_uri must be https"
        );
        Ok(keys)
    }

    async fn get<T: DeserializeOwned>(&self, url: &Url) -> anyhow::Result<T> {
        self.ask(url).await.with_context(|| url.to_string())
    }

    async fn ask<T: DeserializeOwned>(&self, url: &Url) -> anyhow::Result<T> {
        let uri: http::Uri = url.as_str().parse()?;
        let (head, body) = self.client.get(uri).await?.into_parts();
        ensure!(head.status.is_success(), "HTTP {}", head.status);
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Whether what is there may be trusted to come from there: by https, or from this machine.
pub fn may_fetch(url: &Url, allow_http: bool) -> bool {
    let is_here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match url.scheme() {
        "https" => url.has_host(),
        "http" => is_here || (allow_http && url.has_host()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_by_https_or_from_this_machine() {
        let may = |url: &str, allow| may_fetch(&Url::parse(url).expect("a URL"), allow);
        for url in [
            "https://id.example.com/keys",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            assert!(may(url, false), "{url}");
        }
        for url in ["http://id.example.com/keys", "http://10.0.0.1/keys"] {
            assert!(!may(url, false) && may(url, true), "{url}");
        }
        for url in ["file:///etc/passwd", "ftp://localhost/keys"] {
            assert!(!may(url, true), "{url}");
        }
    }
}
