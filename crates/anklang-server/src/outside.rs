//! HTTP to addresses that tenants name.
//!
//! Guarantees: https unless the operator allows http; connections only to addresses that
//! [`Rules`] allow; a name is looked up here, and the connection goes to an address of that very
//! answer; no redirect is followed and no proxy of the environment used; an answer counts by its
//! status, its body is read up to [`MAX_BODY`] and thrown away; nothing lasts longer than the
//! timeout. An idle connection is kept for ten seconds, so that a name is looked up again at least so
//! often.

use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anklang_domain::handover::address::{Refused, Rules};
use bytes::Bytes;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

/// The most bytes of a response's body that are read.
pub const MAX_BODY: usize = 16 * 1024;
/// How long to read it: it is of no interest, but read to its end the connection can be used again.
pub const BODY_TIME: Duration = Duration::from_secs(1);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(10);
/// How long a lookup may take when a URL is checked.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// The most characters of a URL.
const MAX_URL: usize = 2_048;
/// The most bytes of a response's head.
const MAX_HEAD: usize = 64 * 1024;
const AGENT: HeaderValue = HeaderValue::from_static(concat!("anklang/", env!("CARGO_PKG_VERSION")));

/// Why nothing was sent, or no answer came.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The URL is not one that may be called.
    #[error("{0}")]
    Url(String),
    /// The address may not be connected to.
    #[error(transparent)]
    Address(#[from] Refused),
    /// The name does not resolve, or to no address that may be connected to: callers are not told
    /// which, else they could ask for the names of the operator's network. The log says it.
    #[error("its host is no name of an address that may be called")]
    Name,
    /// The other side, or what lies between.
    #[error("{0}")]
    Call(String),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: http::StatusCode,
    /// The header `Retry-After`.
    pub retry_after: Option<String>,
}

/// The certificate authorities of this system, or those in the file that the variable
/// `SSL_CERT_FILE` names.
pub(crate) fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "certificate authorities of this system");
    }
    roots.add_parsable_certificates(found.certs);
    roots
}

/// TLS of a client that trusts these.
pub(crate) fn client_tls(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    rules: Arc<Rules>,
    timeout: Duration,
    client: Client<HttpsConnector<HttpConnector<Guard>>, Full<Bytes>>,
}

impl Outside {
    /// A client that trusts the certificate authorities of this system (or those in the file that
    /// the variable `SSL_CERT_FILE` names). A call takes at most `timeout`.
    pub fn open(rules: Rules, timeout: Duration) -> anyhow::Result<Outside> {
        let roots = system_roots();
        if roots.is_empty() {
            tracing::warn!(
                "this system has no certificate authorities: no webhook can be reached by https"
            );
        }
        Self::with_roots(rules, timeout, roots)
    }

    fn with_roots(
        rules: Rules,
        timeout: Duration,
        roots: RootCertStore,
    ) -> anyhow::Result<Outside> {
        let tls = client_tls(roots)?;
        let rules = Arc::new(rules);
        let mut http = HttpConnector::new_with_resolver(Guard(Arc::clone(&rules)));
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(timeout));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(MAX_HEAD)
            .build(HttpsConnector::from((http, tls)));
        Ok(Outside {
            rules,
            timeout,
            client,
        })
    }

    /// Checks all that can be said about a URL without calling it: its form, and that its host
    /// resolves to an address that may be connected to.
    pub async fn check(&self, url: &str) -> Result<(), OutsideError> {
        let url = self.read(url)?;
        if let Some(Host::Domain(host)) = url.host() {
            let found = tokio::time::timeout(LOOKUP_TIME, lookup(&self.rules, host)).await;
            found.unwrap_or_else(|_| Err(no_name(host, &"no answer in time")))?;
        }
        Ok(())
    }

    /// Posts `body` to `url`.
    pub async fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, OutsideError> {
        let uri: Uri = self
            .read(url)?
            .as_str()
            .parse()
            .map_err(|e| OutsideError::Url(format!("{e}")))?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(USER_AGENT, AGENT);
        let response = tokio::time::timeout(self.timeout, self.client.request(request))
            .await
            .map_err(|_| OutsideError::Call("no answer in time".into()))?
            .map_err(|e| OutsideError::Call(causes(&e)))?;
        let (head, body) = response.into_parts();
        let rest = Limited::new(body, MAX_BODY).collect();
        // Whatever comes of it: the status says all.
        let _ = tokio::time::timeout(BODY_TIME, rest).await;
        let retry_after = head.headers.get(RETRY_AFTER);
        Ok(Answer {
            status: head.status,
            retry_after: retry_after.and_then(|v| v.to_str().ok()).map(str::to_owned),
        })
    }

    /// Reads a URL. An address in place of a name is checked here: nothing looks it up later.
    fn read(&self, text: &str) -> Result<Url, OutsideError> {
        let wrong = |why: &str| Err(OutsideError::Url(why.into()));
        if text.chars().count() > MAX_URL {
            return Err(OutsideError::Url(format!(
                "must have at most {MAX_URL} characters"
            )));
        }
        let url = Url::parse(text).map_err(|e| {
            OutsideError::Url(format!("must be a URL, e.g. https://example.com/hook: {e}"))
        })?;
        match url.scheme() {
            "https" => {}
            "http" if self.rules.allow_http => {}
            _ if self.rules.allow_http => return wrong("must be https or http"),
            _ => return wrong("must be https"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("must not have a user or password");
        }
        if url.fragment().is_some() {
            return wrong("must not have a fragment");
        }
        if url.port() == Some(0) {
            return wrong("must not have port 0");
        }
        let address = match url.host() {
            None => return wrong("must have a host"),
            Some(Host::Domain(_)) => None,
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        };
        if let Some(address) = address {
            self.rules.check(address)?;
        }
        Ok(url)
    }
}

/// The addresses of a name that may be connected to; refused when there is none.
async fn lookup(rules: &Rules, host: &str) -> Result<Vec<SocketAddr>, OutsideError> {
    let found = tokio::net::lookup_host((host, 0)).await;
    let (mut refused, mut allowed) = (None, Vec::new());
    for address in found.map_err(|error| no_name(host, &error))? {
        match rules.check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(refused) => Err(no_name(host, &refused)),
        None => Err(no_name(host, &"it has no address")),
    }
}

/// Logs why a name leads nowhere, and tells only that it does.
fn no_name(host: &str, why: &dyn Display) -> OutsideError {
    tracing::info!(host, %why, "a webhook's host");
    OutsideError::Name
}

/// The resolver of the client: connections go to the addresses that it gives, and no others.
#[derive(Clone)]
struct Guard(Arc<Rules>);

impl tower::Service<Name> for Guard {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = OutsideError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let rules = Arc::clone(&self.0);
        Box::pin(async move { Ok(lookup(&rules, name.as_str()).await?.into_iter()) })
    }
}

/// An error with what caused it, outermost first.
fn causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some repeat their cause in their own words.
        if !words.ends_with(&next) {
            words.push_str(": ");
            words.push_str(&next);
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside(allow_http: bool, allowed: &[&str]) -> Outside {
        let rules = Rules {
            allow_http,
            allowed: allowed
                .iter()
                .map(|n| n.parse().expect("a network"))
                .collect(),
        };
        Outside::with_roots(rules, Duration::from_secs(5), RootCertStore::empty())
            .expect("no settings that could be wrong")
    }

    #[tokio::test]
    async fn urls_that_lead_inside_are_refused() {
        let outside = outside(false, &[]);
        for (url, why) in [
            ("", "must be a URL"),
            ("hook", "must be a URL"),
            ("http://1.1.1.1/", "must be https"),
            ("ftp://1.1.1.1/", "must be https"),
            ("file:///etc/passwd", "must be https"),
            ("https://user@1.1.1.1/", "user"),
            ("https://:secret@1.1.1.1/", "user"),
            ("https://1.1.1.1/#here", "fragment"),
            ("https://1.1.1.1:0/", "port 0"),
            ("https://127.0.0.1/", "this machine"),
            // Other spellings of the same.
            ("https://127.1/", "this machine"),
            ("https://0x7f000001/", "this machine"),
            ("https://2130706433/", "this machine"),
            ("https://0177.0.0.1/", "this machine"),
            ("https://127。0。0。1/", "this machine"),
            ("https://10.0.0.1:8443/", "private"),
            ("https://169.254.169.254/latest/meta-data", "link-local"),
            ("https://[::1]/", "public internet"),
            ("https://[::ffff:127.0.0.1]/", "public internet"),
            ("https://[64:ff9b::7f00:1]/", "public internet"),
            ("https://[fd00::1]/", "public internet"),
            ("https://localhost/", "no name of an address"),
            ("https://localhost./", "no name of an address"),
            ("https://no-such-name.invalid/", "no name of an address"),
        ] {
            let refused = outside.check(url).await.expect_err(url).to_string();
            assert!(refused.contains(why), "{url}: {refused}");
            let refused = outside.post(url, HeaderMap::new(), Bytes::new()).await;
            refused.expect_err(url);
        }
        let long = format!("https://1.1.1.1/{}", "a".repeat(MAX_URL));
        outside.check(&long).await.expect_err("too long");
        outside
            .check("https://1.1.1.1:8443/a?b=c")
            .await
            .expect("a good one");
    }

    #[tokio::test]
    async fn names_are_looked_up_by_the_guard() {
        let refused = outside(true, &[])
            .post("http://localhost:1/", HeaderMap::new(), Bytes::new())
            .await
            .expect_err("localhost is inside")
            .to_string();
        assert!(refused.contains("no name of an address"), "{refused}");
        let allowed = outside(true, &["127.0.0.0/8", "::1/128"])
            .post("http://localhost:1/", HeaderMap::new(), Bytes::new())
            .await
            .expect_err("nobody listens there")
            .to_string();
        assert!(allowed.contains("refused"), "{allowed}");
    }

    /// Answers one call by TLS with 204, under a certificate of its own for `localhost`.
    async fn tls_receiver() -> (u16, RootCertStore) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
        let certificate = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .expect("they belong together");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who does not trust us hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut seen = Vec::new();
                while !seen.ends_with(b"the body") && stream.read_buf(&mut seen).await.is_ok() {}
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                stream.write_all(answer).await.expect("it listens");
            }
        });
        (port, roots)
    }

    #[tokio::test]
    async fn https_is_for_those_whose_certificate_is_trusted() {
        let (port, roots) = tls_receiver().await;
        let rules = Rules {
            allow_http: false,
            allowed: vec!["127.0.0.0/8".parse().expect("a network")],
        };
        let post = async |roots, host: &str| {
            Outside::with_roots(rules.clone(), Duration::from_secs(20), roots)
                .expect("no settings that could be wrong")
                .post(
                    &format!("https://{host}:{port}/"),
                    HeaderMap::new(),
                    Bytes::from_static(b"the body"),
                )
                .await
        };
        let taken = post(roots.clone(), "localhost")
            .await
            .expect("it is trusted");
        assert_eq!(taken.status, http::StatusCode::NO_CONTENT);
        for (roots, host) in [(RootCertStore::empty(), "localhost"), (roots, "127.0.0.1")] {
            let refused = post(roots, host).await.expect_err(host).to_string();
            assert!(refused.contains("certificate"), "{refused}");
        }
    }
}
