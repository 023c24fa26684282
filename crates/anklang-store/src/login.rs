//! How to log in to the database: its URL, and TLS to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::CacheSize;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::{SslMode, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connections::WAIT_FOR_CONNECTION;
use crate::error::said;
use crate::{Result, StoreError};

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
    tls: MakeRustlsConnect,
    pooler: Pooler,
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
        find_out(&mut config);
        let hosts = hosts(&config);
        if hosts > 1 && config.get_connect_timeout().is_none() {
            config.connect_timeout(WAIT_FOR_CONNECTION / hosts.saturating_add(1));
        }
        Login::new(config, check, RootCertStore::empty())
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
        Ok(Login::new(self.config, check, authorities)?.through(self.pooler))
    }

    fn new(config: Config, check: Check, authorities: RootCertStore) -> Result<Login> {
        let provider = Arc::new(ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::Pool(error.to_string()))?;
        let builder =
            match check {
                Check::Name => builder.with_root_certificates(authorities),
                Check::Chain | Check::Nothing => builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(AnyName {
                        authorities: (check == Check::Chain).then_some(authorities),
                        algorithms,
                    })),
            };
        let mut tls = builder.with_no_client_auth();
        if config.get_ssl_negotiation() == SslNegotiation::Direct {
            tls.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Login {
            config,
            check,
            tls: MakeRustlsConnect::new(tls),
            pooler: Pooler::None,
        })
    }

    /// Whether it never goes without TLS.
    pub fn encrypts(&self) -> bool {
        self.config.get_ssl_mode() == SslMode::Require
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
    authorities: Option<RootCertStore>,
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
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_libpq() {
        for (url, encrypts, verifies) in [
            ("postgres://a:b@db/anklang", false, false),
            ("postgres://a:b@db/anklang?sslmode=disable", false, false),
            ("postgres://a:b@db/anklang?sslmode=prefer", false, false),
            ("postgres://a:b@db/anklang?sslmode=require", true, false),
            ("postgres://a:b@db/anklang?sslmode=verify-ca", true, true),
            (
                "postgres://a:b@db/anklang?sslmode=verify-full&connect_timeout=5",
                true,
                true,
            ),
            (
                "host=db user=a sslmode = 'verify-full' dbname=x",
                true,
                true,
            ),
            // A password is one, whatever it says.
            ("host=db password=verify-full", false, false),
            ("host=db password=verify-full sslmode=require", true, false),
            ("host=db password=verify-full sslmode=verify-ca", true, true),
        ] {
            let login = Login::read(url).expect(url);
            assert_eq!(
                (login.encrypts(), login.verifies()),
                (encrypts, verifies),
                "{url}"
            );
        }
        let (config, check) =
            parse("host=db password=verify-full sslmode=verify-full").expect("good");
        assert_eq!(config.get_password(), Some(&b"verify-full"[..]));
        assert_eq!(check, Check::Name);
        for url in [
            "host=db sslmode=verify",
            "host=db colour=verify-full",
            "verify-ca",
        ] {
            assert!(Login::read(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_that_is_gone_is_found_out_soon_unless_the_url_says_when() {
        let of = |url: &str| {
            let config = Login::read(url).expect(url).config;
            (
                config.get_tcp_user_timeout().copied(),
                config.get_keepalives_idle(),
                config.get_keepalives_interval(),
                config.get_keepalives_retries(),
            )
        };
        let (interval, retries) = (Some(ASKS), Some(RETRIES));
        let ours = of("postgres://a:b@db/anklang");
        assert_eq!(ours, (Some(GONE), SILENCE, interval, retries));
        let (hour, minute) = (Duration::from_secs(3_600), Duration::from_secs(60));
        let theirs = of(
            "host=db tcp_user_timeout=60 keepalives_idle=3600 keepalives_interval=60 keepalives_retries=9",
        );
        assert_eq!(theirs, (Some(minute), hour, Some(minute), Some(9)));
    }

    #[test]
    fn of_several_hosts_the_one_that_can_be_written_to_is_taken_in_time() {
        let attributes = |url: &str| {
            let login = Login::read(url).expect(url).writing();
            let config = &login.config;
            (
                config.get_target_session_attrs(),
                config.get_connect_timeout().copied(),
            )
        };
        let any = TargetSessionAttrs::Any;
        let write = TargetSessionAttrs::ReadWrite;
        let third = WAIT_FOR_CONNECTION / 3;
        assert_eq!(attributes("postgres://a@one/anklang"), (any, None));
        assert_eq!(
            attributes("postgres://a@one/anklang?target_session_attrs=read-write"),
            (write, None)
        );
        assert_eq!(
            attributes("postgres://a@one,two/anklang"),
            (write, Some(third))
        );
        assert_eq!(
            attributes("host=one,two port=1,2 connect_timeout=1 dbname=x"),
            (write, Some(Duration::from_secs(1)))
        );
    }

    #[test]
    fn only_behind_a_pooler_a_transaction_begins_with_cleaning_up() {
        let login = Login::read("postgres://a@db/anklang").expect("a URL");
        assert_eq!(login.prologue(), "");
        let pooled = login.through(Pooler::Transaction);
        let kept = pooled.trusting(RootCertStore::empty()).expect("none");
        assert!(kept.prologue().starts_with("DEALLOCATE ALL;"));
    }

    #[test]
    fn passwords_are_not_shown() {
        let login = Login::read("postgres://anklang:geheim@db/anklang").expect("a URL");
        assert!(!format!("{login:?}").contains("geheim"), "{login:?}");
    }
}
