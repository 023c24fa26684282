//! Connections: how many, how slow, how old; and how a server leaves under load.
//!
//! So many streams that wait as wanted: `ANKLANG_TEST_IDLE=10000 cargo test -p anklang-e2e -- many_who_are_idle`

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tonic::Code;

use super::abuse::{PREFACE, SETTINGS, resident};
use super::{list, serving};
use crate::server::sleeping_operation;
use crate::utility::until;

/// Connections that say nothing, and streams that wait, beside those who work.
const IDLE: usize = 300;
const WATCHING: usize = 1_000;
/// Streams of one connection.
const WATCHING_TOGETHER: usize = 500;
/// What they watch: operations, and the work list in some ways.
const OPERATIONS: usize = 20;
const FILTERS: [&str; 2] = ["", "state = OPEN"];
/// So much of the server's memory a stream that waits may take, in KiB: several times what it does.
const KIB_PER_STREAM: usize = 128;

/// Whether the other side ends a connection within some time.
async fn is_ended(stream: &mut TcpStream, within: Duration) -> bool {
    let mut said = Vec::new();
    timeout(within, stream.read_to_end(&mut said)).await.is_ok()
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_closed_and_those_that_are_there_go_on() {
    let server = serving("connections = 4\nheader_seconds = 600").await;
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        assert!(!is_ended(&mut stream, Duration::from_millis(200)).await);
        others.push(stream);
    }
    let mut more = TcpStream::connect(server.addr).await.unwrap();
    assert!(is_ended(&mut more, Duration::from_secs(10)).await);
    list(&client).await.unwrap();
    others.pop();
    until("there is a place", async || {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        !is_ended(&mut stream, Duration::from_millis(500)).await
    })
    .await;
}

#[tokio::test]
async fn whoever_says_little_and_slowly_is_sent_away() {
    let limits = "header_seconds = 1\nkeepalive_seconds = 1\nkeepalive_timeout_seconds = 1";
    let server = serving(limits).await;
    let client = server.client("linden").await.unwrap();
    let settled = [PREFACE, SETTINGS].concat();
    let long = b"GET /u/nonsense HTTP/1.1\r\nHost: post.sw.example\r\nX-Slow: ".to_vec();
    for (what, first, trickles) in [
        ("nothing", Vec::new(), false),
        ("half of a beginning", PREFACE[..10].to_vec(), false),
        ("a head that never ends", long, true),
        ("no answer to pings", settled, false),
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(&first).await.unwrap();
        let (mut read, mut write) = stream.split();
        let trickle = async {
            while trickles && write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut said = Vec::new();
        let ended = async {
            let _ = read.read_to_end(&mut said).await;
        };
        tokio::select! {
            () = ended => {}
            () = trickle => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{what} is waited for"),
        }
    }
    // Who answers pings may be idle.
    list(&client).await.unwrap();
}

#[tokio::test]
async fn proxies_may_keep_connections_between_requests() {
    let server = serving("header_seconds = 1").await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    for _ in 0..2 {
        let request = b"GET /u/nonsense HTTP/1.1\r\nHost: post.sw.example\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(Duration::from_millis(2_500), async {
            while stream.read_buf(&mut answer).await.unwrap() > 0 {}
        });
        assert!(ended.await.is_err(), "it is kept");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_are_idle_keep_nobody_from_working() {
    let wanted = std::env::var("ANKLANG_TEST_IDLE").ok();
    let streams = wanted.map_or(WATCHING, |text| text.parse().unwrap());
    let limits = format!("streams = {streams}\ntotal_streams = {streams}\nrequests_per_second = 0");
    let server = serving(&limits).await;
    let client = server.client("linden").await.unwrap();
    let customer = "number,kind,last_name\nK1,person,Kunde\n";
    let sums = client.import(ImportEntity::Customers, customer).await;
    assert_eq!(sums.unwrap().errors, []);
    plan_contact(&client).await;
    let mut sleeping = Vec::new();
    for _ in 0..OPERATIONS {
        sleeping.push(sleeping_operation(&server).await.name);
    }
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let client = Client::connect(server.addr, "linden").await.unwrap();
        list(&client).await.unwrap();
        idle.push(client);
    }

    let before = resident(&server);
    let (mut operations, mut work_lists) = (Vec::new(), Vec::new());
    for i in 0..streams {
        let watcher = &idle[i / WATCHING_TOGETHER];
        if i % 2 == 0 {
            let request = operations::WatchOperationRequest {
                name: sleeping[i / 2 % OPERATIONS].clone(),
            };
            let stream = watcher.progress().watch_operation(request).await;
            let mut stream = stream.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();
            operations.push(stream);
        } else {
            let request = planning::WatchWorkListRequest {
                filter: FILTERS[i / 2 % FILTERS.len()].into(),
                ..Default::default()
            };
            let stream = watcher.work_list().watch_work_list(request).await;
            let mut stream = stream.unwrap().into_inner();
            while !stream.message().await.unwrap().unwrap().caught_up {}
            work_lists.push(stream);
        }
    }
    // Others are answered meanwhile, each soon, on their own connections and on those of the streams.
    for caller in idle.iter().chain([&client]) {
        let answer = timeout(Duration::from_secs(5), list(caller)).await;
        answer.expect("soon").unwrap();
    }
    let grown = resident(&server).saturating_sub(before);
    let most = KIB_PER_STREAM * streams;
    assert!(grown < most, "{grown} KiB for {streams} streams");

    // All of them are still there: what happens is told, and where nothing does, that it does not.
    plan_contact(&client).await;
    for stream in &mut work_lists {
        while stream.message().await.unwrap().unwrap().changes.is_empty() {}
    }
    for stream in &mut operations {
        stream.message().await.unwrap().unwrap();
    }
}

/// Plans a contact with the customer K1.
async fn plan_contact(client: &Client) {
    let contact = planning::NewPlannedContact {
        customer: "customers/K1".into(),
        contact_time: Some(prost_types::Timestamp {
            seconds: chrono::Utc::now().timestamp(),
            nanos: 0,
        }),
        ..Default::default()
    };
    let request = planning::CreatePlannedContactRequest {
        planned_contact: Some(contact),
        ..Default::default()
    };
    let made = client.work_list().create_planned_contact(request).await;
    made.unwrap();
}

/// Passes connections on, and counts them.
async fn counted(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, count) = (
        listener.local_addr().unwrap(),
        Arc::<AtomicUsize>::default(),
    );
    let counting = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            counting.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let _ = copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (addr, count)
}

#[tokio::test]
async fn an_old_connection_ends_with_its_last_call_and_others_take_its_place() {
    let server = serving("connection_age_seconds = 1").await;
    server.add_tenant("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let (addr, connections) = counted(server.addr).await;
    let client = Client::connect(addr, "linden").await.unwrap();
    let wait = lro::WaitOperationRequest {
        name: operation.name.clone(),
        timeout: Some(Duration::from_secs(5).try_into().unwrap()),
    };
    let waiter = client.clone();
    let waits = tokio::spawn(async move { waiter.operations().wait_operation(wait).await });
    // Meanwhile others call over the same channel.
    while !waits.is_finished() {
        // One that meets the end of the connection was not taken, and says so.
        if let Err(status) = list(&client).await {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = waits.await.unwrap().unwrap().into_inner();
    assert_eq!((answer.name, answer.done), (operation.name, false));
    let connections = connections.load(Ordering::Relaxed);
    assert!((3..20).contains(&connections), "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_under_load_refuses_nothing_that_it_took() {
    let mut server = serving("").await;
    let stopped = Arc::<AtomicBool>::default();
    let mut callers = Vec::new();
    for _ in 0..8 {
        let client = server.client("linden").await.unwrap();
        let stopped = Arc::clone(&stopped);
        callers.push(tokio::spawn(async move {
            let mut done = 0;
            loop {
                match list(&client).await {
                    Ok(()) => done += 1,
                    Err(status) => return (done, stopped.load(Ordering::SeqCst), status),
                }
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stopped.store(true, Ordering::SeqCst);
    let status = server.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    for caller in callers {
        let (done, after, status) = caller.await.unwrap();
        assert!(done > 0);
        assert!(after, "refused before it was told to stop: {status:?}");
        // What the client says itself, as the connection is gone, has what broke it as its source.
        let gone = status.source().is_some();
        assert!(gone || status.code() == Code::Unavailable, "{status:?}");
    }
    assert!(!server.log().contains("closing them"), "{}", server.log());
}
