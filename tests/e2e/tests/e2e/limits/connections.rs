//! Connections: how many, how slow, how old; and how a server leaves under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::imports::v1 as imports;
use anklang_proto::anklang::imports::v1::import_request::Part;
use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tonic::codegen::tokio_stream;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;

use super::abuse::{PREFACE, SETTINGS};
use super::{again, list, serving, soon};
use crate::probe::http;
use crate::refused;
use crate::roles::health;
use crate::server::sleeping_operation;
use crate::utility::until;

/// Whether the other side ends a connection within some time.
pub async fn is_ended(stream: &mut TcpStream, within: Duration) -> bool {
    let mut said = Vec::new();
    timeout(within, stream.read_to_end(&mut said)).await.is_ok()
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_told_how_the_server_is_and_closed() {
    let server = serving("connections = 4\nheader_seconds = 600").await;
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        assert!(!is_ended(&mut stream, Duration::from_millis(200)).await);
        others.push(stream);
    }
    // Probes do not find it dead, and nobody else is served.
    assert_eq!(health(server.addr, "live").await, ServingStatus::Serving);
    assert_eq!(health(server.addr, "").await, ServingStatus::Serving);
    let late = Client::connect_as(server.addr, Some("linden"), None).await;
    let late = late.unwrap();
    again(
        &list(&late).await.unwrap_err(),
        Code::Unavailable,
        "OVERLOADED",
    );
    let (status, _) = http(server.addr, "POST", "/callbacks/nonsense", "", "").await;
    assert_eq!(status, 503);
    // Recipients have their pages.
    let (status, _) = http(server.addr, "GET", "/u/nonsense", "", "").await;
    assert_eq!(status, 404);
    // Of those that say nothing as well, a few are kept for a while, and then closed.
    let mut more = TcpStream::connect(server.addr).await.unwrap();
    assert!(is_ended(&mut more, Duration::from_secs(20)).await);
    list(&client).await.unwrap();
    others.pop();
    until("there is a place", async || {
        let next = Client::connect_as(server.addr, Some("linden"), None).await;
        list(&next.unwrap()).await.is_ok()
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

/// A way to a server for one connection: who has lost it finds nobody, and does not come anew while the server stops.
async fn once(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        drop(listener);
        let mut far = TcpStream::connect(to).await.unwrap();
        let ((mut asks, mut told), (mut answers, mut asked)) = (near.split(), far.split());
        // What was answered arrives, also when nobody takes what is asked any more.
        let there = async {
            let _ = copy(&mut asks, &mut asked).await;
            let _ = asked.shutdown().await;
        };
        let back = async {
            let _ = copy(&mut answers, &mut told).await;
            let _ = told.shutdown().await;
        };
        tokio::join!(there, back);
    });
    addr
}

/// Whether a call was not taken: refused by the server or by HTTP/2 (`REFUSED_STREAM`), or nobody was there. What has
/// never left the client, as its connection took no more, is cancelled by HTTP/2's own code.
fn is_turned_away(status: &Status) -> bool {
    let has_stayed = status.message().starts_with("operation was canceled");
    status.code() == Code::Unavailable || (status.code() == Code::Cancelled && has_stayed)
}

async fn write(client: &Client, code: String) -> Result<(), Status> {
    let brand = brands::Brand {
        display_name: code.clone(),
        code,
        sender_email: "post@sw.example".into(),
        ..Default::default()
    };
    let request = brands::UpdateBrandRequest {
        brand: Some(brand),
        allow_missing: true,
        ..Default::default()
    };
    client.brands().update_brand(request).await.map(drop)
}

/// Imports without end; gives what was told last, and how it ended.
async fn import(client: Client, under_way: Arc<AtomicUsize>) -> (imports::ImportResponse, Status) {
    let header = Part::Header(imports::ImportHeader {
        entity: imports::ImportEntity::Suppressions.into(),
        ..Default::default()
    });
    let rows = (0..).map(|part| {
        let rows = (0..500).map(|row| format!("mail,{part}-{row}@b.example\n"));
        Part::Csv(rows.collect::<String>().into())
    });
    let names = Part::Csv("channel,address\n".into());
    let parts = [header, names].into_iter().chain(rows);
    let requests = parts.map(|part| imports::ImportRequest { part: Some(part) });
    let call = client.imports().import(tokio_stream::iter(requests)).await;
    let mut responses = call.unwrap().into_inner();
    let mut last = responses.message().await.unwrap().unwrap();
    under_way.fetch_add(1, Ordering::SeqCst);
    loop {
        match responses.message().await {
            Ok(response) => last = response.expect("it has no end"),
            Err(status) => return (last, status),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_stopped_under_load_refuses_nothing_that_it_took() {
    const CALLERS: usize = 8;
    let mut server = serving("requests_per_second = 0").await;
    server.add_tenant("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let (stopped, under_way) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut connections = Vec::new();
    for _ in 0..CALLERS + 2 {
        let client = Client::connect(once(server.addr).await, "linden").await;
        connections.push(client.unwrap());
    }
    let (importer, watcher) = (connections.pop().unwrap(), connections.pop().unwrap());
    let mut callers = Vec::new();
    for (caller, client) in connections.into_iter().enumerate() {
        let (stopped, under_way) = (Arc::clone(&stopped), Arc::clone(&under_way));
        callers.push(tokio::spawn(async move {
            let writes = caller % 2 == 0;
            let mut done = 0;
            loop {
                let answer = match writes {
                    true => write(&client, format!("b{caller}-{done}")).await,
                    false => list(&client).await,
                };
                if let Err(status) = answer {
                    return (writes, done, stopped.load(Ordering::SeqCst), status);
                }
                done += 1;
                under_way.fetch_add(usize::from(done == 1), Ordering::SeqCst);
            }
        }));
    }
    let importing = tokio::spawn(import(importer, Arc::clone(&under_way)));
    let request = operations::WatchOperationRequest {
        name: operation.name.clone(),
    };
    let watching = watcher.progress().watch_operation(request).await;
    let mut watching = watching.unwrap().into_inner();
    soon(watching.message()).await.unwrap().unwrap();
    until("all are under way", async || {
        under_way.load(Ordering::SeqCst) == CALLERS + 1
    })
    .await;

    stopped.store(true, Ordering::SeqCst);
    let status = server.terminate().await.unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(!server.log().contains("closing them"), "{}", server.log());
    let mut written = 0;
    for caller in callers {
        let (writes, done, after, status) = soon(caller).await.unwrap();
        assert!(after, "refused before it was told to stop: {status:?}");
        assert!(is_turned_away(&status), "{status:?}");
        written += usize::from(writes) * done;
    }
    let left = soon(async {
        loop {
            // It may tell once more how the operation stands.
            if let Err(status) = watching.message().await.map(Option::unwrap) {
                break status;
            }
        }
    })
    .await;
    refused::is(&left, Code::Unavailable, "UNAVAILABLE");
    let (told, left) = soon(importing).await.unwrap();
    refused::is(&left, Code::Unavailable, "UNAVAILABLE");

    // What was acknowledged is there, and nothing that was turned away.
    let count = async |of: &str| {
        let count = format!("SELECT count(*) FROM {of}");
        server.database.one(&count).await.unwrap()
    };
    assert_eq!(count("brand").await, written.to_string());
    assert_eq!(count("suppression").await, told.rows.to_string());
}
