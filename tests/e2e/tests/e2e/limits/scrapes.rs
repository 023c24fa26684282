//! Connections for metrics, on their port: few, and not for long.

use std::net::SocketAddr;
use std::time::Duration;

use anklang_testkit::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connections::is_ended;
use super::{SOON, list, serving_with};
use crate::prometheus::metrics_of;
use crate::utility::until;

/// So many are kept at the same time.
const SCRAPERS: usize = 64;

/// A server that is scraped, and where.
async fn scraped(limits: &str) -> (TestServer, SocketAddr) {
    let more = "[telemetry]\nprometheus_listen = '127.0.0.1:0'\n[log]\nformat = 'json'";
    let server = serving_with(limits, more).await;
    let metrics = metrics_of(&server);
    (server, metrics)
}

/// Whether somebody who scrapes gets metrics.
async fn answers(metrics: SocketAddr) -> bool {
    let mut stream = TcpStream::connect(metrics).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    // It may be closed before.
    let _ = stream.write_all(request).await;
    let _ = stream.read_to_end(&mut answer).await;
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn only_a_few_connections_are_kept_for_metrics() {
    let (server, metrics) = scraped("header_seconds = 600").await;
    let client = server.client("linden").await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..SCRAPERS {
        silent.push(TcpStream::connect(metrics).await.unwrap());
    }
    for _ in 0..SCRAPERS {
        let mut more = TcpStream::connect(metrics).await.unwrap();
        assert!(is_ended(&mut more, SOON).await);
    }
    for stream in &mut silent {
        assert!(!is_ended(stream, Duration::from_millis(10)).await);
    }
    // Callers have connections of their own.
    list(&client).await.unwrap();
    silent.clear();
    until("there is a place", async || answers(metrics).await).await;
}

#[tokio::test]
async fn whoever_asks_for_no_metrics_is_sent_away() {
    let (_server, metrics) = scraped("header_seconds = 1").await;
    let half = b"GET /metrics HTTP/1.1\r\nHost: a.example\r\nX-Slow: ";
    let mut silent = Vec::new();
    for i in 0..SCRAPERS {
        let mut stream = TcpStream::connect(metrics).await.unwrap();
        if i % 2 == 0 {
            stream.write_all(half).await.unwrap();
        }
        silent.push(stream);
    }
    for stream in &mut silent {
        assert!(is_ended(stream, SOON).await);
    }
    assert!(answers(metrics).await);
}
