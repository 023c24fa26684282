//! What is served with which files, and who waits for whom.

use std::future::pending;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::HandshakeKind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// A certificate for `localhost` and its key, of an authority: all in PEM.
struct Made {
    authority: String,
    certificate: String,
    key: String,
}

fn made() -> Made {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    Made {
        authority,
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn settings(require_client_certificate: bool) -> TlsConfig {
    TlsConfig {
        certificate: PathBuf::new(),
        key: PathBuf::new(),
        client_ca: None,
        require_client_certificate,
        reload: Duration::from_secs(1),
    }
}

fn tls(made: &Made) -> Tls {
    let files = Files {
        certificate: made.certificate.clone().into(),
        key: made.key.clone().into(),
        client_ca: None,
    };
    let (current, verifier) = files.server_config(&settings(false)).expect("they fit");
    Tls {
        settings: Arc::new(settings(false)),
        files: Arc::new(files),
        current: watch::Sender::new(Arc::new(current)),
        verifier: watch::Sender::new(verifier),
    }
}

fn faults(certificate: &str, key: &str, client_ca: Option<&str>) -> Vec<(String, String)> {
    let files = Files {
        certificate: certificate.into(),
        key: key.into(),
        client_ca: client_ca.map(Into::into),
    };
    match files.server_config(&settings(client_ca.is_some())) {
        Ok(_) => Vec::new(),
        Err(found) => {
            let found = found.into_vec().into_iter();
            found.map(|v| (v.field, v.reason)).collect()
        }
    }
}

#[test]
fn files_that_do_not_fit_are_named() {
    let (mine, other) = (made(), made());
    assert_eq!(faults(&mine.certificate, &mine.key, None), []);
    assert_eq!(
        faults(&mine.certificate, &mine.key, Some(&other.authority)),
        []
    );
    let chain = format!("{}{}", mine.certificate, mine.authority);
    assert_eq!(faults(&chain, &mine.key, None), []);
    // The authority comes last.
    let chain = format!("{}{}", mine.authority, mine.certificate);
    for certificate in [&other.certificate, &chain] {
        let found = faults(certificate, &mine.key, None);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "server.tls.key");
        assert!(found[0].1.contains("is not the key of"), "{found:?}");
    }
    // Files that were taken for one another, and one that is empty.
    let found = faults(&mine.key, &mine.certificate, Some(""));
    let fields: Vec<&str> = found.iter().map(|(field, _)| &field[..]).collect();
    assert_eq!(
        fields,
        [
            "server.tls.certificate",
            "server.tls.key",
            "server.tls.client_ca"
        ]
    );
    let broken = mine.certificate.replace("-----END", "-----ENDE");
    assert_eq!(faults(&broken, &mine.key, None).len(), 1);
}

#[test]
fn plain_text_elsewhere_than_on_loopback_has_to_be_asked_for() {
    let open = |listen: &str, plain_text: &str| {
        let file = format!("[server]\nlisten = '{listen}'\nplain_text = {plain_text}");
        Tls::open(&Config::read(Some(&file), []).expect("good settings"))
    };
    for loopback in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        assert!(
            open(loopback, "false").is_ok_and(|tls| tls.is_none()),
            "{loopback}"
        );
    }
    for outside in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        let refused = open(outside, "false").err().expect(outside);
        let fields: Vec<&str> = refused.iter().map(|v| &v.field[..]).collect();
        assert_eq!(fields, ["server.plain_text"], "{outside}");
        assert!(
            open(outside, "true").is_ok_and(|tls| tls.is_none()),
            "{outside}"
        );
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let file = "
        [server.tls]
        certificate = '/nonexistent/server.pem'
        key = '/nonexistent/server.key'
        client_ca = '/nonexistent/callers.pem'";
    let config = Config::read(Some(file), []).expect("the settings are good");
    let found = Tls::open(&config).err().expect("no file is there");
    let found: Vec<_> = found
        .iter()
        .map(|v| (&v.field[..], &v.reason[..]))
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    for ((field, reason), file) in
        found
            .into_iter()
            .zip(["server.pem", "server.key", "callers.pem"])
    {
        assert!(field.starts_with("server.tls."), "{field}");
        assert!(reason.contains(file), "{field}: {reason}");
    }
}

/// Connections that a test makes.
struct Callers(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Callers {
    type Io = DuplexStream;
    type Addr = &'static str;

    async fn accept(&mut self) -> (DuplexStream, &'static str) {
        match self.0.recv().await {
            Some(stream) => (stream, "a caller"),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<&'static str> {
        Ok("here")
    }
}

#[tokio::test]
async fn more_silent_callers_than_there_are_places_keep_nobody_waiting() {
    let made = made();
    let (tls, authority) = (tls(&made), made.authority);
    let (callers, arrive) = mpsc::unbounded_channel();
    let mut listener = tls.listen(Callers(arrive), Duration::from_secs(10), 1_024);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await;
            stream.write_all(b"hello").await.expect("a caller reads");
            stream.shutdown().await.expect("a caller reads");
        }
    });
    let call = || {
        let (ours, theirs) = duplex(64 * 1024);
        callers.send(theirs).expect("somebody listens");
        ours
    };
    let silent: Vec<DuplexStream> = (0..3_000).map(|_| call()).collect();

    let authorities = authorities(authority.as_bytes()).expect("an authority");
    let client = crate::outside::client_tls(authorities).expect("a client");
    let greeted = async {
        let name = ServerName::try_from("localhost").expect("a name");
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(name, call()).await.expect("a handshake");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("a greeting");
        text
    };
    let greeted = timeout(Duration::from_secs(5), greeted).await;
    assert_eq!(greeted.expect("nobody is waited for"), "hello");
    drop(silent);
}

/// So many who call at once and say nothing.
struct Silent {
    left: usize,
    accepted: Arc<AtomicUsize>,
    callers: Vec<DuplexStream>,
}

impl Listener for Silent {
    type Io = DuplexStream;
    type Addr = &'static str;

    async fn accept(&mut self) -> (DuplexStream, &'static str) {
        if self.left == 0 {
            return pending().await;
        }
        self.left -= 1;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let (ours, theirs) = duplex(1_024);
        self.callers.push(ours);
        (theirs, "a caller")
    }

    fn local_addr(&self) -> std::io::Result<&'static str> {
        Ok("here")
    }
}

#[tokio::test]
async fn no_more_shake_hands_than_may_while_those_who_are_given_up_are_not_gone() {
    const AT_ONCE: usize = 8;
    let tls = tls(&made());
    let accepted = Arc::<AtomicUsize>::default();
    let silent = Silent {
        left: 50,
        accepted: Arc::clone(&accepted),
        callers: Vec::new(),
    };
    let mut listener = tls.listen(silent, Duration::from_secs(10), AT_ONCE);
    // No task has run yet that could close one.
    assert!(listener.accept().now_or_never().is_none());
    assert_eq!(accepted.load(Ordering::Relaxed), AT_ONCE + 1);
    for _ in 0..1_000 {
        assert!(listener.accept().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 50, "all have their turn");
}

#[tokio::test]
async fn where_certificates_are_asked_for_no_session_is_resumed() {
    let mine = made();
    let authority = mine.authority.clone();
    for (client_ca, second) in [
        (None, HandshakeKind::Resumed),
        (Some(authority.into_bytes()), HandshakeKind::Full),
    ] {
        let files = Files {
            certificate: mine.certificate.clone().into(),
            key: mine.key.clone().into(),
            client_ca,
        };
        let (config, _) = files.server_config(&settings(false)).expect("they fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let trusted = authorities(mine.authority.as_bytes()).expect("an authority");
        let client = crate::outside::client_tls(trusted).expect("a client");
        let connector = TlsConnector::from(Arc::new(client));
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let (ours, theirs) = duplex(64 * 1024);
            let acceptor = acceptor.clone();
            let answering = tokio::spawn(async move {
                let mut stream = acceptor.accept(theirs).await.expect("a handshake");
                stream.write_all(b"hello").await.expect("a caller reads");
                stream.shutdown().await.expect("a caller reads");
            });
            let name = ServerName::try_from("localhost").expect("a name");
            let mut stream = connector.connect(name, ours).await.expect("a handshake");
            let mut text = String::new();
            stream.read_to_string(&mut text).await.expect("a greeting");
            answering.await.expect("it answers");
            kinds.push(stream.get_ref().1.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(second)]);
    }
}
