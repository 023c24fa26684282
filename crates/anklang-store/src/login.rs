//! How to log in to the database: its URL, and TLS to it.

mod certificate;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::CacheSize;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::{Host, SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connections::WAIT_FOR_CONNECTION;
use crate::error::said;
use crate::{Result, StoreError};

pub use certificate::{CertificateFault, ClientCertificate};

/// What a transaction behind a pooler does before all else, in one message with BEGIN. Its server was another
/// client's a moment ago: whatever that has left prepared goes, as names are counted in each process from 0 on,
/// and the time zone is that which connections without a pooler have.
const CLEAN: &str = "DEALLOCATE ALL; SELECT set_config('TimeZone', 'UTC', true);";

/// Values of `sslmode` that tokio-postgres does not know: for it they are `require`.
const VERIFYING: [(&str, Check); 2] = [("verify-ca", Check::Chain), ("verify-full", Check::Name)];

/// So long what was sent may be without an answer of the database's host.
const GONE: Duration = Duration::from_secs(30);

/// After so long a silence the host is asked whether it is there, so often, and so many times.
const SILENCE: Duration = Duration::from_secs(15);
const ASKS: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// What is between server and database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pooler {
    /// Nothing, or a pooler that knows prepared statements: a connection keeps what was prepared on it.
    #[default]
    None,
    /// A pooler that gives a connection another server with each transaction: nothing is kept from one to the next.
    Transaction,
}

/// What is looked at of the database's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Nothing: what is sent is encrypted for whoever answers.
    Nothing,
    /// That an authority has signed it, for whatever host.
    Chain,
    /// That an authority has signed it, for the host that the URL names.
    Name,
}

/// A URL of the database, with its password, and whom to trust there. `sslmode` means what it does for
/// libpq: `disable`, `prefer` (the default), `require`, `verify-ca`, `verify-full`. But authorities are
/// not named by the URL, and with `prefer` TLS that fails is not tried again without.
#[derive(Clone)]
pub struct Login {
    config: Config,
    check: Check,
    authorities: Arc<RootCertStore>,
    shown: Option<Arc<ClientCertificate>>,
    tls: MakeRustlsConnect,
    pooler: Pooler,
    maybe_plain: bool,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        self.config.fmt(f)
    }
}

impl Login {
    /// Reads a URL (`postgres://…`) or `key=value` pairs. When its `sslmode` verifies, nobody is trusted
    /// yet: see [`Login::trusting`]. Of several hosts one that does not answer leaves time for the others.
    pub fn read(url: &str) -> Result<Login> {
        let (mut config, check) = parse(url)?;
        let maybe_plain = !names_mode(url) && leaves_this_machine(&config);
        find_out(&mut config);
        let hosts = hosts(&config);
        if hosts > 1 && config.get_connect_timeout().is_none() {
            config.connect_timeout(WAIT_FOR_CONNECTION / hosts.saturating_add(1));
        }
        let (authorities, shown) = (Arc::new(RootCertStore::empty()), None);
        let tls = tls(&config, check, &authorities, shown.as_ref())?;
        Ok(Login {
            config,
            check,
            authorities,
            shown,
            tls,
            pooler: Pooler::None,
            maybe_plain,
        })
    }

    /// What it leads through.
    #[must_use]
    pub fn through(self, pooler: Pooler) -> Login {
        Login { pooler, ..self }
    }

    /// Takes only a server that can be written to, when several are named: as with
    /// `target_session_attrs=read-write`, whatever the URL says of that.
    #[must_use]
    pub(crate) fn writing(mut self) -> Login {
        if hosts(&self.config) > 1 {
            self.config
                .target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        self
    }

    /// Whether one server stays at the other end of a connection, from one transaction to the next.
    pub(crate) fn keeps_server(&self) -> bool {
        self.pooler == Pooler::None
    }

    /// What follows BEGIN in its message, before anything else.
    pub(crate) fn prologue(&self) -> &'static str {
        match self.pooler {
            Pooler::None => "",
            Pooler::Transaction => CLEAN,
        }
    }

    /// Trusts certificates of these authorities alone. `require` is as `verify-ca` then, as for libpq.
    pub fn trusting(self, authorities: RootCertStore) -> Result<Login> {
        let check = match self.check {
            Check::Nothing => Check::Chain,
            check => check,
        };
        let authorities = Arc::new(authorities);
        let tls = tls(&self.config, check, &authorities, self.shown.as_ref())?;
        Ok(Login {
            check,
            authorities,
            tls,
            ..self
        })
    }

    /// Shows this certificate to a database that asks for one.
    pub fn showing(self, shown: Arc<ClientCertificate>) -> Result<Login> {
        let tls = tls(&self.config, self.check, &self.authorities, Some(&shown))?;
        Ok(Login {
            shown: Some(shown),
            tls,
            ..self
        })
    }

    /// Whether it never goes without TLS.
    pub fn encrypts(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
    }

    /// Whether what it sends may go to other machines in plain text, as the database likes, though the URL does not
    /// say so.
    pub fn maybe_plain(&self) -> bool {
        self.maybe_plain
    }

    /// Whether it looks at the database's certificate.
    pub fn verifies(&self) -> bool {
        self.check != Check::Nothing
    }

    /// Opens a connection, which has to be driven.
    pub(crate) async fn connect(
        &self,
    ) -> std::result::Result<(Client, Connection<Socket, TlsStream>), tokio_postgres::Error> {
        self.config.connect(self.tls.clone()).await
    }

    /// Has the database end the statement that a connection runs, if it runs one when this arrives.
    pub(crate) async fn cancel(
        &self,
        running: &CancelToken,
    ) -> std::result::Result<(), tokio_postgres::Error> {
        running.cancel_query(self.tls.clone()).await
    }

    /// Opens a connection for diesel.
    ///
    /// Behind a pooler it keeps nothing prepared: diesel then has each statement prepared, run and closed, one after
    /// the other on one server, as long as all of it is inside of one transaction. So is what diesel itself sets on
    /// each connection, which is undone: the server goes on to others.
    pub(crate) async fn establish(&self) -> ConnectionResult<AsyncPgConnection> {
        let bad = |error: tokio_postgres::Error| ConnectionError::BadConnection(said(&error));
        let (client, mut connection) = self.connect().await.map_err(bad)?;
        if self.keeps_server() {
            return AsyncPgConnection::try_from_client_and_connection(client, connection).await;
        }
        let begin = format!("BEGIN; {CLEAN}");
        tokio::select! {
            begun = client.batch_execute(&begin) => begun.map_err(bad)?,
            ended = &mut connection => {
                let why = ended.err().map_or_else(|| "it was closed".to_owned(), |e| said(&e));
                return Err(ConnectionError::BadConnection(why));
            }
        }
        let mut conn =
            AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        let undone = conn.batch_execute("ROLLBACK").await;
        undone.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }
}

/// TLS to the database, where there is any.
fn tls(
    config: &Config,
    check: Check,
    authorities: &Arc<RootCertStore>,
    shown: Option<&Arc<ClientCertificate>>,
) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Pool(error.to_string()))?;
    let authorities = Arc::clone(authorities);
    let builder = match check {
        Check::Name => builder.with_root_certificates(authorities),
        Check::Chain | Check::Nothing => {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName {
                    authorities: (check == Check::Chain).then_some(authorities),
                    algorithms,
                }))
        }
    };
    let mut tls = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::<ClientCertificate>::clone(shown);
            let mut tls = builder.with_client_cert_resolver(shown);
            // A session that is resumed would go on with the certificate from before.
            tls.resumption = Resumption::disabled();
            tls
        }
    };
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(MakeRustlsConnect::new(tls))
}

/// Has the system find out within half a minute that the database's host is gone without a word, unless the URL says
/// when. By itself it tries for a quarter of an hour to send something, and asks after two hours of silence.
fn find_out(config: &mut Config) {
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(GONE);
    }
    if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
        config.keepalives_idle(SILENCE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(ASKS);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(RETRIES);
    }
}

/// Whether a URL says how connections are encrypted; a password may have the word as well.
fn names_mode(url: &str) -> bool {
    url.replace("sslmode", "colour").parse::<Config>().is_err()
}

/// Whether a URL names other machines than this one.
fn leaves_this_machine(config: &Config) -> bool {
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => match name.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_loopback(),
            Err(_) => name == "localhost",
        },
        Host::Unix(_) => true,
    };
    match config.get_hostaddrs() {
        [] => !config.get_hosts().iter().all(is_here),
        addresses => !addresses.iter().all(|a| a.to_canonical().is_loopback()),
    }
}

/// How many hosts a URL names; a name may still have several addresses.
fn hosts(config: &Config) -> u32 {
    let hosts = config.get_hosts().len().max(config.get_hostaddrs().len());
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

/// Reads what tokio-postgres knows, and the values of `sslmode` that it does not.
fn parse(url: &str) -> std::result::Result<(Config, Check), tokio_postgres::Error> {
    let unknown = match url.parse() {
        Ok(config) => return Ok((config, Check::Nothing)),
        Err(error) => error,
    };
    for (mode, check) in VERIFYING {
        for (at, _) in url.match_indices(mode) {
            let mut known = url.to_owned();
            known.replace_range(at..at + mode.len(), "require");
            // Elsewhere than at `sslmode` it would not help.
            if let Ok(config) = known.parse() {
                return Ok((config, check));
            }
        }
    }
    Err(unknown)
}

/// Takes a certificate whatever host it is for: of these authorities, or of anybody.
#[derive(Debug)]
struct AnyName {
    authorities: Option<Arc<RootCertStore>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        if let Some(authorities) = &self.authorities {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                authorities,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
