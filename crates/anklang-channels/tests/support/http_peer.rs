//! A small HTTP server: answers each request as it is told, and shows what came.

use std::future::Future;
use std::sync::{Arc, Mutex};

use anklang_channels::proto::{CallbackRequest, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// An answer.
pub enum Then {
    /// Status, header lines (each with its end) and text.
    Say(u16, &'static str, String),
    /// Nothing, ever.
    Hang,
    /// The end of the connection.
    Close,
}

pub struct HttpPeer {
    port: u16,
    seen: Arc<Mutex<Vec<CallbackRequest>>>,
    serving: JoinHandle<()>,
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl HttpPeer {
    /// Answers each request by `answer`.
    pub async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(CallbackRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Then> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (shared, answer) = (Arc::clone(&seen), Arc::new(answer));
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (seen, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                tokio::spawn(async move {
                    // One request for each connection; an error is a client that is gone.
                    if let Some(request) = read(&mut stream).await {
                        seen.lock().unwrap().push(request.clone());
                        let _ = say(&mut stream, answer(request).await).await;
                    }
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

    /// The requests so far.
    pub fn seen(&self) -> Vec<CallbackRequest> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> Option<CallbackRequest> {
    let mut octets = Vec::new();
    let (head, length) = loop {
        if let Some(end) = octets.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&octets[..end]).into_owned();
            break (head, end + 4);
        }
        if stream.read_buf(&mut octets).await.ok()? == 0 {
            return None;
        }
    };
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, uri) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| Header {
            name: name.to_owned(),
            value: value.trim().to_owned(),
        })
        .collect();
    let expected = headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |header| header.value.parse().unwrap());
    let mut body = octets.split_off(length);
    while body.len() < expected {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(CallbackRequest {
        method,
        uri,
        headers,
        body,
    })
}

async fn say(stream: &mut TcpStream, then: Then) -> std::io::Result<()> {
    match then {
        Then::Close => Ok(()),
        Then::Hang => std::future::pending().await,
        Then::Say(status, headers, text) => {
            let length = text.len();
            let head = format!("HTTP/1.1 {status} Told\r\n{headers}Connection: close\r\n");
            let answer = format!("{head}Content-Length: {length}\r\n\r\n{text}");
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        }
    }
}
