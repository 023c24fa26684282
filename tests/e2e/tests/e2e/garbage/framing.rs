//! Messages as gRPC frames them on the wire: wrong lengths and flags, none or several of them, packed well and badly.

use std::future::poll_fn;
use std::io::Write;

use anklang_testkit::TestServer;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Full};
use prost::Message;
use prost::bytes::Bytes;
use prost_reflect::MethodDescriptor;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::{ANSWER, SILENCE, Series, Words, fault, is_well, message, scramble};
use crate::raw::{self, Raw};

/// Calls in the short series.
const FEW: usize = 500;
/// What is longer than this is left out: an answer may come before all of it is taken.
const LONGEST: usize = 10_000;

/// A message behind a flag and a length, whether that is its own or not.
fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [&[flag][..], &length[..], message].concat()
}

fn packed(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

/// What is sent as the messages of a call.
fn messages(method: &MethodDescriptor, words: &Words, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.random_range(0..4) {
        let mut one = message(&method.input(), 2, words, rng).encode_to_vec();
        if one.len() > LONGEST {
            one.clear();
        }
        let length = one.len();
        bytes.extend(match rng.random_range(0..10) {
            0..=2 => framed(0, length, &one),
            3 => framed(0, rng.random_range(0..2 * length + 2), &one),
            4 => framed(0, rng.random::<u32>() as usize, &one),
            5 => framed(rng.random(), length, &one),
            6 => one,
            7 => {
                let packed = packed(&one);
                framed(1, packed.len(), &packed)
            }
            8 => {
                let mut packed = packed(&one);
                scramble(&mut packed, rng);
                framed(1, packed.len(), &packed)
            }
            // Very much of nothing, packed into little.
            _ => {
                let packed = packed(&vec![0; 1_usize << rng.random_range(8_u32..24)]);
                framed(1, packed.len(), &packed)
            }
        });
    }
    bytes
}

/// Whether what was sent did not get as far as the method: it is no message, or too large, or packed as nobody knows.
fn is_unreadable(status: &Status) -> bool {
    status.message().starts_with("the request is none")
        || matches!(status.code(), Code::OutOfRange | Code::Unimplemented)
}

/// Makes a call of these bytes; gives its status, or what else became of it.
async fn call(
    mut channel: Channel,
    method: &MethodDescriptor,
    encoding: &str,
    bytes: Vec<u8>,
) -> Result<Status, String> {
    let ready = poll_fn(|context| channel.poll_ready(context)).await;
    ready.map_err(|error| format!("{error:?}"))?;
    let mut request = http::Request::post(format!("/{}", raw::path(method)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("anklang-tenant", "linden");
    if !encoding.is_empty() {
        request = request.header("grpc-encoding", encoding);
    }
    let body = Body::new(Full::new(Bytes::from(bytes)));
    let answer = channel.call(request.body(body).unwrap()).await;
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return Ok(status);
    }
    let read = answer.into_body().collect().await;
    let read = read.map_err(|error| format!("{error:?}"))?;
    let status = read.trailers().and_then(Status::from_header_map);
    status.ok_or_else(|| "no status".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_answered_however_they_are_framed() {
    let server = TestServer::start().await.unwrap();
    server.add_tenant("linden").await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let methods: Vec<MethodDescriptor> = raw::methods().collect();
    let words = Words { seen: Vec::new() };
    let mut faults = Vec::new();
    let mut series = Series::of(FEW);
    let (mut read, mut unreadable) = (0, 0);
    for n in 0.. {
        if !series.has(n) {
            break;
        }
        let rng = &mut series.rng;
        let method = methods.choose(rng).unwrap();
        let encodings = ["gzip", "gzip", "gzip", "identity", "snappy", ""];
        let encoding = encodings.choose(rng).unwrap();
        let bytes = messages(method, &words, rng);
        let shown = hex::encode(&bytes[..bytes.len().min(1_000)]);
        let streams = method.is_server_streaming();
        let answer = call(channel.clone(), method, encoding, bytes);
        let fault = match timeout(if streams { SILENCE } else { ANSWER }, answer).await {
            Ok(Ok(status)) => {
                match is_unreadable(&status) {
                    true => unreadable += 1,
                    false => read += 1,
                }
                fault(&status)
            }
            Ok(Err(why)) => Some(why),
            Err(_) if streams => None,
            Err(_) => Some(format!("no answer within {ANSWER:?}")),
        };
        faults.extend(fault.map(|why| format!("{n}: {} {shown}\n  {why}", raw::path(method))));
    }
    series.had("read", read);
    series.had("unreadable", unreadable);
    is_well(&server, &Raw::connect(server.addr).await, &faults).await;
}
