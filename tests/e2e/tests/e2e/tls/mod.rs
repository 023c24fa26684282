//! TLS on the server's port: who is let in, what is spoken, and how certificates are exchanged.

pub mod certificates;
mod database;
mod exchange;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anklang_proto::anklang::brands::v1 as brands;
use anklang_testkit::{Client, Options, TestServer, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::server::{USAGE, names, refused};
use certificates::{Authority, Mount, Signed};

async fn serving(mount: &Mount, more: &str) -> TestServer {
    TestServer::start_with(Options {
        config: mount.settings(more),
        ..Default::default()
    })
    .await
    .unwrap()
}

/// Where callers go who trust an authority, and may show a certificate.
pub fn endpoint(addr: SocketAddr, trusted: &Authority, shown: Option<&Signed>) -> Endpoint {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&trusted.pem));
    if let Some(shown) = shown {
        tls = tls.identity(Identity::from_pem(&shown.certificate, &shown.key));
    }
    let endpoint = Endpoint::try_from(format!("https://{addr}")).unwrap();
    endpoint.tls_config(tls).unwrap()
}

/// Whether a call over a connection of its own is answered.
pub async fn answers(endpoint: Endpoint) -> bool {
    let Ok(channel) = endpoint.connect().await else {
        return false;
    };
    let request = HealthCheckRequest::default();
    let answer = HealthClient::new(channel).check(request).await;
    answer.is_ok_and(|answer| answer.get_ref().status() == ServingStatus::Serving)
}

/// A connection for HTTP/1.1.
async fn browser(
    addr: SocketAddr,
    trusted: &Authority,
    version: &'static SupportedProtocolVersion,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(trusted.pem.as_bytes()).unwrap();
    roots.add(authority).unwrap();
    let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(tls));
    connector.connect(name, stream).await.unwrap()
}

/// The certificate that a new connection is shown.
async fn shown(addr: SocketAddr, trusted: &Authority) -> Vec<u8> {
    let stream = browser(addr, trusted, &TLS13).await;
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

/// Asks for a page that there is not; the connection stays open.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let request = "GET /u/nonsense HTTP/1.1\r\nHost: post.sw.example\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !String::from_utf8_lossy(&answer).contains("</html>") {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "it ended");
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn those_who_speak_tls_are_served_and_those_who_do_not_are_not() {
    let authority = Authority::new();
    let mount = Mount::new(&authority.sign(), "");
    let server = serving(&mount, "").await;
    server.add_tenant("linden").await.unwrap();
    let channel = endpoint(server.addr, &authority, None).connect().await;
    let client = Client::over(channel.unwrap(), Some("linden"), None).unwrap();
    let request = brands::ListBrandsRequest::default();
    client.brands().list_brands(request).await.unwrap();

    // Recipients' pages are HTTP/1.1, and old versions of TLS are not too old.
    for (version, spoken) in [
        (&TLS12, ProtocolVersion::TLSv1_2),
        (&TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut stream = browser(server.addr, &authority, version).await;
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(spoken));
        assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
        let page = ask(&mut stream).await;
        assert!(page.starts_with("HTTP/1.1 404"), "{page}");
    }

    let plain = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    assert!(!answers(plain).await);
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let request = "GET /u/nonsense HTTP/1.1\r\nHost: post.sw.example\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Whoever trusts others does not take it for this server.
    assert!(!answers(endpoint(server.addr, &Authority::new(), None)).await);
    assert!(answers(endpoint(server.addr, &authority, None)).await);
}

#[tokio::test]
async fn callers_show_certificates_of_the_authority_that_is_named() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let mount = Mount::new(&authority.sign(), &callers.pem);
    let client_ca = format!("client_ca = '{}'", mount.file("ca.crt").display());
    let (good, strange) = (callers.sign(), authority.sign());
    for (required, nobody) in [("true", false), ("false", true)] {
        let more = format!("{client_ca}\nrequire_client_certificate = {required}");
        let server = serving(&mount, &more).await;
        let as_caller = |shown| answers(endpoint(server.addr, &authority, shown));
        assert!(as_caller(Some(&good)).await, "required: {required}");
        assert!(!as_caller(Some(&strange)).await, "required: {required}");
        assert_eq!(as_caller(None).await, nobody, "required: {required}");
    }
}

#[tokio::test]
async fn callers_who_say_nothing_keep_nobody_waiting() {
    let authority = Authority::new();
    let mount = Mount::new(&authority.sign(), "");
    let server = serving(&mount, "").await;
    let mut silent = Vec::new();
    for i in 0..50 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        if i % 2 == 0 {
            // The beginning of a greeting that does not go on.
            stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
        }
        silent.push(stream);
    }
    let begun = Instant::now();
    assert!(answers(endpoint(server.addr, &authority, None)).await);
    assert!(begun.elapsed() < Duration::from_secs(5));
    // They are sent away after ten seconds.
    for mut stream in silent {
        let mut said = Vec::new();
        let ended = timeout(Duration::from_secs(20), stream.read_to_end(&mut said)).await;
        let _ = ended.expect("nobody is waited for so long");
    }
}

/// What `anklang health` says, with more arguments.
fn health(server: &str, more: &[&str]) -> Output {
    Command::new(&program().anklang)
        .args(["health", "--server", server])
        .args(more)
        .output()
        .unwrap()
}

#[tokio::test]
async fn commands_speak_tls() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let signed = authority.sign_for(&["anklang.example", "localhost"]);
    let mount = Mount::new(&signed, &callers.pem);
    let client_ca = format!(
        "client_ca = '{}'\nrequire_client_certificate = true",
        mount.file("ca.crt").display()
    );
    let open = serving(&mount, "").await;
    let closed = serving(&mount, &client_ca).await;
    let mine = callers.sign();
    let beside = |name, text: &str| mount.beside(name, text).display().to_string();
    let ca = beside("trusted.pem", &authority.pem);
    let others = beside("others.pem", &callers.pem);
    let certificate = beside("caller.pem", &mine.certificate);
    let key = beside("caller.key", &mine.key);
    let empty = beside("empty.pem", "");
    let by_tls = |server: &TestServer| format!("https://localhost:{}", server.addr.port());
    let by_number = format!("https://{}", open.addr);
    let plain = format!("http://{}", open.addr);
    let name = "--server-name";
    for (server, more, code) in [
        (&by_tls(&open), &["--ca", &ca][..], 0),
        (&by_tls(&open), &["--ca", &ca, "--service", "live"], 0),
        (&by_tls(&open), &["--ca", &ca, name, "elsewhere.example"], 1),
        (&by_tls(&open), &["--ca", &others], 1),
        (&by_tls(&open), &["--ca", &empty], 1),
        (&by_tls(&open), &["--ca", "/nonexistent.pem"], 1),
        // The system's authorities have not signed it.
        (&by_tls(&open), &[], 1),
        (&by_number, &["--ca", &ca, name, "anklang.example"], 0),
        (&by_number, &["--ca", &ca], 1),
        (&plain, &[], 1),
        (
            &by_tls(&closed),
            &["--ca", &ca, "--certificate", &certificate, "--key", &key],
            0,
        ),
        (&by_tls(&closed), &["--ca", &ca], 1),
        (
            &by_tls(&closed),
            &["--ca", &ca, "--certificate", &certificate],
            USAGE,
        ),
    ] {
        let output = health(server, more);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            &said[..],
            if code == 0 { "SERVING\n" } else { "" },
            "{more:?}"
        );
    }

    closed.add_tenant("linden").await.unwrap();
    let file = beside(
        "brands.csv",
        "code,name,sender_email\nSW,Stadtwerk,post@sw.example\n",
    );
    for (ca, code) in [(&ca, 0), (&others, 2)] {
        let output = Command::new(&program().anklang)
            .args(["import", "--server", &by_tls(&closed), "--ca", ca])
            .args(["--certificate", &certificate, "--key", &key])
            .args(["--tenant", "linden", "brands", &file])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}

#[tokio::test]
async fn plain_text_beyond_this_machine_has_to_be_asked_for() {
    let everywhere = ("ANKLANG_SERVER__LISTEN", "0.0.0.0:0");
    let (code, said) = refused("[auth]\nanybody = true", &[everywhere]);
    assert_eq!(code, USAGE, "{said}");
    names(&said, &["server.plain_text: "]);

    let asked = [
        "env",
        "ANKLANG_SERVER__LISTEN=0.0.0.0:0",
        "ANKLANG_AUTH__ANYBODY=true",
        "ANKLANG_SERVER__PLAIN_TEXT=true",
    ];
    let server = TestServer::start_with(Options {
        wrapper: asked.map(str::to_owned).to_vec(),
        ..Default::default()
    })
    .await
    .unwrap();
    let here = format!("http://127.0.0.1:{}", server.addr.port());
    assert!(answers(Endpoint::try_from(here).unwrap()).await);

    // With TLS nobody has to ask.
    let authority = Authority::new();
    let mount = Mount::new(&authority.sign(), "");
    let server = TestServer::start_with(Options {
        config: mount.settings(""),
        wrapper: asked[..3].iter().map(|word| (*word).to_owned()).collect(),
        ..Default::default()
    })
    .await
    .unwrap();
    let here = SocketAddr::from(([127, 0, 0, 1], server.addr.port()));
    assert!(answers(endpoint(here, &authority, None)).await);
}

#[test]
fn what_does_not_fit_is_named_all_at_once() {
    let (code, said) = refused(
        "[server]\nplain_text = 'yes'\n[server.tls]\nkey = 'server.key'\nclient_ca = 'callers.pem'\n\
         reload_seconds = 0\n[database]\ntls_ca = 'authorities.pem'\n",
        &[("ANKLANG_SERVER__TLS__COLOUR", "blue")],
    );
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "server.plain_text: ",
            "server.tls.certificate: ",
            "server.tls.client_ca: ",
            "server.tls.reload_seconds: ",
            "server.tls.colour: ",
            "database.tls_ca: ",
        ],
    );
    // What only the files say, together with what only the plugins say.
    let (authority, other) = (Authority::new(), Authority::new());
    let mut mount = Mount::new(&authority.sign(), "");
    mount.swap(&authority.sign().certificate, &other.sign().key, "");
    let more = "[channel_accounts.dove]\nplugin = 'dove'";
    let (code, said) = refused(&mount.settings(more), &[]);
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &["server.tls.key: ", "channel_accounts.dove.plugin: "],
    );
    assert!(said.contains("is not the key of"), "{said}");
}
