//! How a client is made.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::Uri;
use http::header::HeaderValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::calls::{BoxError, Calls, Settings, Token, bearer};
use crate::{Client, Retries};

/// Until a connection must be there.
const CONNECT: Duration = Duration::from_secs(10);
/// Until a call that is answered once must be.
const DEADLINE: Duration = Duration::from_secs(30);
/// The largest answer that is taken.
const LARGEST: usize = 16 * 1024 * 1024;
/// How often a connection on which calls wait is tried, and how long it may take to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING: Duration = Duration::from_secs(10);

/// Makes a [`Client`].
#[must_use = "it makes nothing until it connects"]
#[derive(Clone)]
pub struct Builder {
    address: String,
    tenant: Option<String>,
    token: Given,
    tls: Tls,
    connect_timeout: Duration,
    deadline: Option<Duration>,
    max_answer_bytes: usize,
    retries: Retries,
}

/// A token as it was given.
#[derive(Clone)]
enum Given {
    None,
    Text(String),
    Token(Token),
}

#[derive(Clone, Default)]
struct Tls {
    authorities: Option<Certificate>,
    identity: Option<Identity>,
    server_name: Option<String>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address is none of a server; holds it.
    #[error("address: {0:?} must be http://host:port or https://host:port")]
    Address(String),
    /// What goes into each call cannot; holds the setting's name.
    #[error("{0}: must be of visible ASCII characters")]
    Text(&'static str),
    /// Settings of TLS came with an address without it.
    #[error("ca, identity, server_name: the address must begin with https://")]
    PlainText,
    /// The authorities, the certificate or its key cannot be used.
    #[error("ca, identity: {}", causes(.0))]
    Tls(tonic::transport::Error),
    /// No server answers.
    #[error("no server answers: {}", causes(.0))]
    Connect(tonic::transport::Error),
}

/// An error with what caused it.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

impl Builder {
    pub(crate) fn new(address: String) -> Self {
        Builder {
            address,
            tenant: None,
            token: Given::None,
            tls: Tls::default(),
            connect_timeout: CONNECT,
            deadline: Some(DEADLINE),
            max_answer_bytes: LARGEST,
            retries: Retries::default(),
        }
    }

    /// The tenant of all calls; a token for one tenant alone need not name it.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The bearer token of all calls.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Given::Text(token.into());
        self
    }

    /// Asks for the bearer token before each try of a call, for tokens that expire: whoever gives it keeps it as
    /// long as it lasts. An error of the provider is the call's, with `UNAUTHENTICATED`.
    pub fn token_from<P, F, E>(mut self, provider: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let ask = move || {
            let token = provider();
            token
                .map(|token| token.map_err(Into::<BoxError>::into))
                .boxed()
        };
        self.token = Given::Token(Token::Asked(Arc::new(ask)));
        self
    }

    /// The authorities that sign the server's certificate, in PEM; else those of the system.
    pub fn ca(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.tls.authorities = Some(Certificate::from_pem(pem));
        self
    }

    /// A certificate to show to the server, and its key, in PEM.
    pub fn identity(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.tls.identity = Some(Identity::from_pem(certificate, key));
        self
    }

    /// The name in the server's certificate, when the address has another one.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.tls.server_name = Some(name.into());
        self
    }

    /// How long connecting may take; 10 seconds, unless this says otherwise.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take, all tries together; 30 seconds, unless this says otherwise, for ever with
    /// `None`. Of a single call: [`tonic::Request::set_timeout`]. Responses that are streams have no deadline but
    /// that one.
    pub fn deadline(mut self, deadline: impl Into<Option<Duration>>) -> Self {
        self.deadline = deadline.into();
        self
    }

    /// The largest message that is taken from a server, so that none fills the memory; 16 MiB, unless this says
    /// otherwise. A larger one is `OUT_OF_RANGE`: of a list ask for smaller pages.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_answer_bytes = bytes;
        self
    }

    /// When calls that failed are made again.
    pub fn retries(mut self, retries: Retries) -> Self {
        self.retries = retries;
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// When a setting is wrong, or no server answers.
    pub async fn connect(self) -> Result<Client, BuildError> {
        let channel = self.endpoint()?.connect().await;
        self.over(channel.map_err(BuildError::Connect)?)
    }

    /// Connects with the first call: for a server that may come later. To be called within a runtime of Tokio.
    ///
    /// # Errors
    /// When a setting is wrong.
    pub fn lazy(self) -> Result<Client, BuildError> {
        let channel = self.endpoint()?.connect_lazy();
        self.over(channel)
    }

    /// Over a connection of the caller's own, for which address and TLS of this builder say nothing.
    ///
    /// # Errors
    /// When tenant or token are not of visible ASCII.
    pub fn over(self, channel: Channel) -> Result<Client, BuildError> {
        let tenant = self.tenant.as_deref().map(HeaderValue::from_str);
        let token = match self.token {
            Given::None => Token::None,
            Given::Text(token) => Token::Fixed(bearer(&token).ok_or(BuildError::Text("token"))?),
            Given::Token(token) => token,
        };
        let settings = Settings {
            tenant: tenant.transpose().map_err(|_| BuildError::Text("tenant"))?,
            token,
            deadline: self.deadline,
            max_answer_bytes: self.max_answer_bytes,
            retries: self.retries,
        };
        Ok(Client {
            calls: Calls::new(channel, settings),
        })
    }

    fn endpoint(&self) -> Result<Endpoint, BuildError> {
        let wrong = || BuildError::Address(self.address.clone());
        let uri: Uri = self.address.parse().map_err(|_| wrong())?;
        let endpoint = Endpoint::from(uri.clone())
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING);
        match uri.scheme_str() {
            Some("https") => endpoint
                .tls_config(self.tls.config(self.connect_timeout))
                .map_err(BuildError::Tls),
            Some("http") if self.tls.is_asked_for() => Err(BuildError::PlainText),
            Some("http") => Ok(endpoint),
            _ => Err(wrong()),
        }
    }
}

impl Tls {
    fn is_asked_for(&self) -> bool {
        self.authorities.is_some() || self.identity.is_some() || self.server_name.is_some()
    }

    fn config(&self, timeout: Duration) -> ClientTlsConfig {
        let tls = ClientTlsConfig::new().timeout(timeout);
        let mut tls = match &self.authorities {
            Some(authorities) => tls.ca_certificate(authorities.clone()),
            None => tls.with_native_roots(),
        };
        if let Some(identity) = &self.identity {
            tls = tls.identity(identity.clone());
        }
        if let Some(name) = &self.server_name {
            tls = tls.domain_name(name);
        }
        tls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(builder: Builder) -> String {
        builder.lazy().expect_err("it is wrong").to_string()
    }

    #[tokio::test]
    async fn wrong_settings_are_named() {
        let here = || Client::builder("http://127.0.0.1:50051");
        assert!(here().tenant("linden").token("abc").lazy().is_ok());
        for address in [
            "",
            "127.0.0.1:50051",
            "ftp://127.0.0.1",
            "http://",
            "unix:/run/a",
        ] {
            let said = wrong(Client::builder(address));
            assert!(said.starts_with("address: "), "{address}: {said}");
        }
        assert!(wrong(here().tenant("Grün\n")).starts_with("tenant: "));
        assert!(wrong(here().token("a\nb")).starts_with("token: "));
        for tls in [
            here().ca("pem"),
            here().identity("pem", "pem"),
            here().server_name("anklang.example"),
        ] {
            assert!(wrong(tls).contains("https://"));
        }
        let said = wrong(Client::builder("https://127.0.0.1:50051").identity("no", "pem"));
        assert!(said.starts_with("ca, identity: "), "{said}");
    }
}
