//! Versions of TLS that are too old, byte by byte: no library speaks them any more.

use std::time::Duration;

use anklang_testkit::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::certificates::{Authority, Mount};
use super::{answers, endpoint, serving};

const TLS10: [u8; 2] = [3, 1];
const TLS11: [u8; 2] = [3, 2];
const TLS12: [u8; 2] = [3, 3];

/// The curve, the points and the signature of the server's certificate.
const GROUPS: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 0x17];
const POINTS: &[u8] = &[0, 11, 0, 2, 1, 0];
const SIGNATURES: &[u8] = &[0, 13, 0, 4, 0, 2, 4, 3];
/// Clients that know of TLS 1.3 list what they speak: here TLS 1.1 alone.
const ONLY_TLS11: &[u8] = &[0, 43, 0, 3, 2, 3, 2];

// Types of records, and what is in them.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const FATAL: u8 = 2;
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

fn behind_length(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// The first that a client says, with its newest version.
fn hello(version: [u8; 2], extensions: &[&[u8]]) -> Vec<u8> {
    // ECDHE-ECDSA with AES-GCM and AES-CBC, and RSA as it was.
    let suites = behind_length(&[0xc0, 0x2b, 0xc0, 0x09, 0, 0x2f]);
    let extensions = behind_length(&extensions.concat());
    let (random, no_session, no_compression) = ([7_u8; 32], [0_u8], [1_u8, 0]);
    let body = [
        &version[..],
        &random,
        &no_session,
        &suites,
        &no_compression,
        &extensions,
    ];
    let body = behind_length(&body.concat());
    let handshake = [&[CLIENT_HELLO, 0][..], &body].concat();
    [&[HANDSHAKE, 3, 1][..], &behind_length(&handshake)].concat()
}

/// The beginning of what is answered: all of it, when it is an alert, after which the connection is closed.
async fn answer(server: &TestServer, hello: &[u8]) -> [u8; 7] {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(hello).await.unwrap();
    let mut first = [0; 7];
    stream.read_exact(&mut first).await.unwrap();
    if first[0] == ALERT {
        let mut more = Vec::new();
        let closed = timeout(Duration::from_secs(5), stream.read_to_end(&mut more)).await;
        closed.expect("it is closed").unwrap();
        assert!(more.is_empty(), "an alert is all: {more:?}");
    }
    first
}

#[tokio::test]
async fn versions_before_1_2_are_refused() {
    let authority = Authority::new();
    let mount = Mount::new(&authority.sign(), "");
    let server = serving(&mount, "").await;
    // The same with TLS 1.2 is gone on with.
    let good = hello(TLS12, &[GROUPS, POINTS, SIGNATURES]);
    let [kind, .., said, _] = answer(&server, &good).await;
    assert_eq!((kind, said), (HANDSHAKE, SERVER_HELLO));
    for (what, old, why) in [
        (
            "TLS 1.1",
            hello(TLS11, &[GROUPS, POINTS, SIGNATURES]),
            PROTOCOL_VERSION,
        ),
        (
            "TLS 1.0",
            hello(TLS10, &[GROUPS, POINTS, SIGNATURES]),
            PROTOCOL_VERSION,
        ),
        (
            "TLS 1.1 in a list",
            hello(TLS12, &[GROUPS, POINTS, SIGNATURES, ONLY_TLS11]),
            PROTOCOL_VERSION,
        ),
        // As it was spoken in its time, without the signatures that came with TLS 1.2.
        (
            "TLS 1.1 of old",
            hello(TLS11, &[GROUPS, POINTS]),
            HANDSHAKE_FAILURE,
        ),
    ] {
        let said = answer(&server, &old).await;
        assert_eq!(said, [ALERT, 3, 3, 0, 2, FATAL, why], "{what}");
    }
    assert!(answers(endpoint(server.addr, &authority, None)).await);
}
