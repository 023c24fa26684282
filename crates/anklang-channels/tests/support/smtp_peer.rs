//! A mail server that behaves as the recipient's local part says: `rcpt550`, `bodyhang`, …

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// How a peer protects its connections; with TLS its certificate is for `localhost`.
#[derive(Clone)]
pub enum Tls {
    None,
    Starttls(TlsAcceptor),
    Implicit(TlsAcceptor),
}

/// A self-signed certificate for `localhost`: the server's side, and the PEM to trust.
pub fn certificate() -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

#[derive(Default)]
struct Seen {
    connections: usize,
    open: usize,
    most_open: usize,
    quits: usize,
    mails: Vec<String>,
}

pub struct Peer {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    serving: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Peer {
    pub async fn start() -> Self {
        Self::start_with(Tls::None).await
    }

    pub async fn start_with(tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            let mut sessions = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, tls) = (Arc::clone(&shared), tls.clone());
                sessions.spawn(async move {
                    {
                        let mut seen = seen.lock().unwrap();
                        seen.connections += 1;
                        seen.open += 1;
                        seen.most_open = seen.most_open.max(seen.open);
                    }
                    // An error is a client that is gone.
                    let _ = serve(stream, tls, &seen).await;
                    seen.lock().unwrap().open -= 1;
                });
            }
        });
        Self {
            port,
            seen,
            serving,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Most connections at the same time.
    pub fn at_once(&self) -> usize {
        self.seen.lock().unwrap().most_open
    }

    pub fn quits(&self) -> usize {
        self.seen.lock().unwrap().quits
    }

    /// The mails that were accepted.
    pub fn mails(&self) -> Vec<String> {
        self.seen.lock().unwrap().mails.clone()
    }
}

/// An answer, or the end of the connection.
enum Then {
    Say(&'static str),
    Hang,
    Close,
}

fn to_rcpt(local: &str) -> Then {
    match local {
        "rcpt450" => Then::Say("450 4.2.1 mailbox busy"),
        "rcpt550" => Then::Say("550 5.1.1 user unknown"),
        "rcpt554" => Then::Say("554 5.7.1 relay access denied"),
        "rcpt530" => Then::Say("530 5.7.0 authentication required"),
        "rcpthang" => Then::Hang,
        "rcptclose" => Then::Close,
        _ => Then::Say("250 2.1.5 Ok"),
    }
}

fn to_data(local: &str) -> Then {
    match local {
        "data554" => Then::Say("554 5.6.0 no valid recipients"),
        "data452" => Then::Say("452 4.3.1 insufficient storage"),
        "datahang" => Then::Hang,
        _ => Then::Say("354 go ahead"),
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

async fn serve(stream: TcpStream, tls: Tls, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let greeting = b"220 peer ESMTP\r\n";
    match tls {
        Tls::None => {
            let mut stream = BufReader::new(stream);
            stream.write_all(greeting).await?;
            session(&mut stream, false, seen).await
        }
        Tls::Implicit(acceptor) => {
            let mut stream = BufReader::new(acceptor.accept(stream).await?);
            stream.write_all(greeting).await?;
            session(&mut stream, false, seen).await
        }
        Tls::Starttls(acceptor) => {
            let mut stream = BufReader::new(stream);
            stream.write_all(greeting).await?;
            session(&mut stream, true, seen).await?;
            let mut stream = BufReader::new(acceptor.accept(stream.into_inner()).await?);
            session(&mut stream, false, seen).await
        }
    }
}

/// One dialogue, after the greeting; with `starttls` it ends where TLS begins.
async fn session<S: Stream>(
    stream: &mut BufReader<S>,
    starttls: bool,
    seen: &Mutex<Seen>,
) -> std::io::Result<()> {
    let (mut local, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        if local == "last421" && line.starts_with("MAIL") {
            return stream.write_all(b"421 4.4.2 idle for too long\r\n").await;
        }
        if starttls && line.starts_with("STARTTLS") {
            return stream.write_all(b"220 2.0.0 go ahead\r\n").await;
        }
        let then = match line.split([' ', '\r']).next().unwrap_or_default() {
            "EHLO" if starttls => Then::Say("250-peer\r\n250 STARTTLS"),
            "EHLO" => Then::Say("250-peer\r\n250-AUTH PLAIN\r\n250 8BITMIME"),
            "MAIL" | "AUTH" if starttls => Then::Say("530 5.7.0 STARTTLS first"),
            // base64 of \0u\0right
            "AUTH" if line.trim_end().ends_with("AHUAcmlnaHQ=") => Then::Say("235 2.7.0 Ok"),
            "AUTH" => Then::Say("535 5.7.8 authentication failed"),
            "MAIL" if line.contains("<mail550@") => Then::Say("550 5.1.8 bad sender"),
            "RCPT" => {
                let address = line.split_once('<').map_or("", |(_, rest)| rest);
                local = address.split('@').next().unwrap_or_default().to_owned();
                to_rcpt(&local)
            }
            "DATA" => to_data(&local),
            "QUIT" => {
                seen.lock().unwrap().quits += 1;
                return stream.write_all(b"221 2.0.0 Bye\r\n").await;
            }
            _ => Then::Say("250 2.0.0 Ok"),
        };
        let is_data = matches!(then, Then::Say(answer) if answer.starts_with("354"));
        say(stream, then).await?;
        if is_data {
            let then = body(stream, &local, seen).await?;
            say(stream, then).await?;
            if local == "last" {
                return Ok(());
            }
        }
    }
}

async fn say<S: Stream>(stream: &mut BufReader<S>, then: Then) -> std::io::Result<()> {
    match then {
        Then::Say(answer) => stream.write_all(format!("{answer}\r\n").as_bytes()).await,
        Then::Hang => std::future::pending().await,
        Then::Close => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn body<S: Stream>(
    stream: &mut BufReader<S>,
    local: &str,
    seen: &Mutex<Seen>,
) -> std::io::Result<Then> {
    let (mut mail, mut line) = (String::new(), String::new());
    while line != ".\r\n" {
        mail.push_str(&line);
        line.clear();
        stream.read_line(&mut line).await?;
        if local == "midclose" && mail.len() > 1000 {
            return Ok(Then::Close);
        }
    }
    match local {
        "body554" => return Ok(Then::Say("554 5.6.0 looks like spam")),
        "body451" => return Ok(Then::Say("451 4.3.0 try later")),
        "bodyhang" => return Ok(Then::Hang),
        "bodyclose" => return Ok(Then::Close),
        "slow" => tokio::time::sleep(Duration::from_millis(200)).await,
        _ => {}
    }
    seen.lock().unwrap().mails.push(mail);
    Ok(Then::Say("250 2.0.0 Ok: queued as Q1"))
}
