//! Whole connections: HTTP/2 whose frames are bent, out of order, missing or very many, and noise.

use std::time::Duration;

use anklang_testkit::{Options, TestServer};
use prost_reflect::MethodDescriptor;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Series, is_well, scramble};
use crate::raw::{self, Raw};

/// Connections in the short series.
const FEW: usize = 400;
/// The server lets go of a connection within this time, once its client says no more, or only nonsense.
const END: Duration = Duration::from_secs(30);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// Types of frames, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, holds: &[u8]) -> Vec<u8> {
    let length = u32::try_from(holds.len()).unwrap().to_be_bytes();
    let stream = stream.to_be_bytes();
    [&length[1..], &[kind, flags], &stream, holds].concat()
}

/// A header as HPACK writes it without any packing.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let (name_length, value_length) = (length(name), length(value));
    assert!(name_length < 127 && value_length < 127);
    [
        &[0, name_length][..],
        name.as_bytes(),
        &[value_length],
        value.as_bytes(),
    ]
    .concat()
}

/// The frames of some calls, all in order.
fn calls(methods: &[MethodDescriptor], rng: &mut ChaCha8Rng) -> Vec<Vec<u8>> {
    let mut frames = vec![frame(SETTINGS, 0, 0, &[])];
    for call in 0..rng.random_range(1..4) {
        let stream = 2 * call + 1;
        let path = format!("/{}", raw::path(methods.choose(rng).unwrap()));
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path[..]),
            (":authority", "post.sw.example"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("anklang-tenant", "linden"),
        ];
        let block = headers.map(|(name, value)| literal(name, value)).concat();
        frames.push(frame(HEADERS, END_HEADERS, stream, &block));
        frames.push(frame(DATA, END_STREAM, stream, &[0; 5]));
    }
    frames
}

/// A frame of any kind, of any stream.
fn any(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let kind = match rng.random_range(0..5) {
        0 => rng.random(),
        _ => rng.random_range(0..10),
    };
    let stream = match rng.random_range(0..4) {
        0 => rng.random(),
        _ => rng.random_range(0..8),
    };
    let mut holds = vec![0; rng.random_range(0..100)];
    rng.fill(&mut holds[..]);
    // As long as frames of most kinds are.
    if rng.random_bool(0.5) {
        holds.truncate([0, 4, 5, 6, 8].choose(rng).copied().unwrap_or(0));
    }
    frame(kind, rng.random(), stream, &holds)
}

fn bend(frames: &mut Vec<Vec<u8>>, rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..frames.len());
    match rng.random_range(0..8) {
        0 => frames.swap(0, at),
        // Some is missing, and never none.
        1 => frames.truncate(at + 1),
        2 => scramble(&mut frames[at], rng),
        // Another length than it has.
        3 => {
            if let [high, middle, low, ..] = &mut frames[at][..] {
                (*high, *middle, *low) = (0, rng.random_range(0..2), rng.random());
            }
        }
        // Very many of one.
        4 => {
            let one = frames[at].clone();
            frames.extend(vec![one; rng.random_range(1..500)]);
        }
        _ => frames.insert(at, any(rng)),
    }
}

/// What is sent over a connection, and whether it is left open then: nobody who talks nonsense need hang up.
fn said(methods: &[MethodDescriptor], rng: &mut ChaCha8Rng) -> (Vec<u8>, bool) {
    if rng.random_range(0..6) == 0 {
        let mut noise = vec![0; rng.random_range(1..4_096)];
        rng.fill(&mut noise[..]);
        let stays = noise.len().is_multiple_of(2);
        // Some of it behind a good beginning.
        let noise = match rng.random_bool(0.5) {
            true => noise,
            false => [PREFACE, &frame(SETTINGS, 0, 0, &[]), &noise].concat(),
        };
        return (noise, stays);
    }
    let mut frames = calls(methods, rng);
    for _ in 0..rng.random_range(1..5) {
        bend(&mut frames, rng);
    }
    let mut bytes = [PREFACE, &frames.concat()].concat();
    if rng.random_range(0..10) == 0 {
        scramble(&mut bytes, rng);
    }
    (bytes, false)
}

/// Sends bytes and says no more; whether the other side ends the connection in time.
async fn is_ended(server: &TestServer, bytes: &[u8], stays: bool) -> bool {
    let ended = async {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        // It may have heard enough before the end.
        let _ = stream.write_all(bytes).await;
        if !stays {
            let _ = stream.shutdown().await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    timeout(END, ended).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_whatever_is_said_over_them() {
    let server = TestServer::start_with(Options {
        config: "[server.limits]\nheader_seconds = 2\nkeepalive_seconds = 1\n\
                 keepalive_timeout_seconds = 1\n"
            .into(),
        ..Default::default()
    })
    .await
    .unwrap();
    server.add_tenant("linden").await.unwrap();
    // Somebody else's connection is there all the time.
    let raw = Raw::connect(server.addr).await;
    let methods: Vec<MethodDescriptor> = raw::methods().collect();
    let mut faults = Vec::new();
    let mut series = Series::of(FEW);
    let mut stayed = 0;
    for n in 0.. {
        if !series.has(n) {
            break;
        }
        let (bytes, stays) = said(&methods, &mut series.rng);
        if !is_ended(&server, &bytes, stays).await {
            let shown = hex::encode(&bytes[..bytes.len().min(2_000)]);
            faults.push(format!("{n}: not ended within {END:?}: {shown}"));
        }
        stayed += usize::from(stays);
        if n % 50 == 0 {
            is_well(&server, &raw, &faults).await;
        }
    }
    series.had("left open", stayed);
    is_well(&server, &raw, &faults).await;
}
