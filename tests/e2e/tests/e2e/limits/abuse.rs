//! What nobody should send, and what nobody should leave unread.

use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_testkit::{Client, TestServer};
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use super::{list, serving};
use crate::mailing::seeded;
use crate::probe::http;
use crate::winback::desk;

/// How HTTP/2 begins, and its settings when there are none.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Customers with a case each; an export of all is many times what is buffered on the way.
const CUSTOMERS: usize = 20_000;
/// So many read it slowly.
const READERS: usize = 60;
/// So much the server may grow by that, in KiB: less than two thirds of what they have not read.
const GROWTH: usize = 80 * 1_024;

/// Sends bytes and reads what comes until the other side ends the connection.
async fn told(server: &TestServer, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    // It may have heard enough before the end.
    let _ = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut said)).await;
    let _ = ended.expect("the connection is ended");
    said
}

/// The server is as before.
async fn is_well(server: &TestServer, client: &Client) {
    list(client).await.unwrap();
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn messages_and_headers_that_are_too_large_are_refused() {
    let server = serving("header_bytes = 8192").await;
    let client = server.client("linden").await.unwrap();
    // A message of five MiB is announced.
    let path = "/anklang.brands.v1.BrandService/ListBrands";
    let headers = "Content-Type: application/grpc-web+proto\r\nanklang-tenant: linden\r\n";
    let (status, answer) = http(server.addr, "POST", path, headers, "\0\0P\0\0begun").await;
    assert_eq!(status, 200, "{answer}");
    let answer = answer.to_lowercase().replace(": ", ":");
    let code = format!("grpc-status:{}", Code::OutOfRange as i32);
    assert!(answer.contains(&code), "{answer}");
    assert!(
        answer.contains("too%20large") || answer.contains("too large"),
        "{answer}"
    );

    let mut request =
        tonic::Request::new(anklang_proto::anklang::brands::v1::ListBrandsRequest::default());
    let long = "x".repeat(12_000).parse().unwrap();
    request.metadata_mut().insert("x-long", long);
    let status = client.brands().list_brands(request).await.unwrap_err();
    assert!(status.message().contains("431"), "{status:?}");
    let long = format!(
        "GET /u/nonsense HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n",
        "x".repeat(12_000)
    );
    let said = told(&server, long.as_bytes()).await;
    assert!(
        said.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&said)
    );
    is_well(&server, &client).await;
}

/// The types of the frames of HTTP/2 in an answer.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, rest @ ..] = bytes {
        types.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        // Flags and the stream's number, then what it holds.
        bytes = rest.get(5 + length..).unwrap_or_default();
    }
    types
}

#[tokio::test]
async fn frames_that_are_none_end_their_connection_alone() {
    const GOAWAY: u8 = 7;
    let server = serving("header_seconds = 2").await;
    let client = server.client("linden").await.unwrap();
    let begun = |frame: &[u8]| [PREFACE, SETTINGS, frame].concat();
    for (what, bytes) in [
        // HEADERS of no stream.
        ("of no stream", begun(&[0, 0, 1, 1, 4, 0, 0, 0, 0, 0x82])),
        // DATA of a stream that nobody has begun.
        (
            "of a strange stream",
            begun(&[0, 0, 1, 0, 0, 0, 0, 0, 9, 0]),
        ),
        // Longer than any may be.
        ("too long", begun(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1])),
        // CONTINUATION of nothing.
        ("out of order", begun(&[0, 0, 1, 9, 4, 0, 0, 0, 1, 0x82])),
        // HEADERS that no decoder of HPACK reads.
        (
            "not compressed",
            begun(&[0, 0, 4, 1, 5, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]),
        ),
    ] {
        let said = told(&server, &bytes).await;
        assert!(frames(&said).contains(&GOAWAY), "{what}: {said:?}");
        is_well(&server, &client).await;
    }
}

#[tokio::test]
async fn noise_is_not_answered_for_long() {
    let server =
        serving("header_seconds = 2\nkeepalive_seconds = 1\nkeepalive_timeout_seconds = 1").await;
    let client = server.client("linden").await.unwrap();
    let mut random = seeded();
    for i in 0..40 {
        let mut noise = vec![0_u8; random.random_range(1..4_096)];
        random.fill(&mut noise[..]);
        // Some of it behind a good beginning.
        let noise = match i % 2 {
            0 => noise,
            _ => [PREFACE, SETTINGS, &noise].concat(),
        };
        told(&server, &noise).await;
    }
    is_well(&server, &client).await;
}

/// What the server has in memory, in KiB.
pub fn resident(server: &TestServer) -> usize {
    let status = format!("/proc/{}/status", server.pid().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.unwrap().parse().unwrap()
}

async fn export(client: &Client) -> Result<Streaming<winback::ExportWinbackCasesResponse>, Status> {
    let request = winback::ExportWinbackCasesRequest::default();
    let stream = client.winback_cases().export_winback_cases(request).await?;
    Ok(stream.into_inner())
}

fn lines(part: &winback::ExportWinbackCasesResponse) -> usize {
    part.csv.iter().filter(|byte| **byte == b'\n').count()
}

/// Bytes and lines of what is left of an export.
async fn rest(mut stream: Streaming<winback::ExportWinbackCasesResponse>) -> (usize, usize) {
    let mut sums = (0, 0);
    while let Some(part) = stream.message().await.unwrap() {
        sums.0 += part.csv.len();
        sums.1 += lines(&part);
    }
    sums
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_that_nobody_reads_fill_nobodys_memory() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let rows = (0..CUSTOMERS).map(|i| format!("K{i},person,Karla,Kunde\n"));
    let csv = format!(
        "number,kind,first_name,last_name\n{}",
        rows.collect::<String>()
    );
    let sums = client.import(ImportEntity::Customers, csv).await.unwrap();
    assert_eq!(sums.errors, []);
    desk::detected(&server).await;
    desk::open_for_all(&server).await;
    // The headings, and a line each.
    let (bytes, all) = rest(export(&client).await.unwrap()).await;
    assert_eq!(all, CUSTOMERS + 1);
    let unread = bytes * READERS;
    assert!(
        unread > GROWTH * 1_024 * 3 / 2,
        "{unread} bytes are too few"
    );

    let before = resident(&server);
    let mut reading = Vec::new();
    let mut read = 0;
    for _ in 0..READERS {
        // They take little at a time, so that what they have not asked for is with the server.
        let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
        let endpoint = endpoint
            .initial_stream_window_size(65_535)
            .initial_connection_window_size(65_535);
        let channel = endpoint.connect().await.unwrap();
        let slow = Client::over(channel, Some("linden"), None).unwrap();
        let mut stream = export(&slow).await.unwrap();
        read = lines(&stream.message().await.unwrap().unwrap());
        reading.push(stream);
    }
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        list(&client).await.unwrap();
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < GROWTH, "by {grown} KiB");
    // Whoever goes on reading gets all of it.
    let (_, left) = rest(reading.remove(0)).await;
    assert_eq!(read + left, all);
}
