//! Imports that break off: they go on where they were, and nothing is sent or counted twice.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anklang_proto::anklang::imports::v1::import_request::Part;
use anklang_proto::anklang::imports::v1::{
    ImportCheckpoint, ImportEntity, ImportHeader, ImportRequest, ImportResponse, Row, Rows,
};
use anklang_testkit::{Client, TestServer, program, violations};
use tokio::net::{TcpListener, TcpStream};
use tonic::codegen::tokio_stream;
use tonic::{Code, Status};

use crate::hold::Hold;
use crate::imports_streamed::stream_of;
use crate::refused;
use crate::utility::until;

async fn send(
    client: &Client,
    header: ImportHeader,
    parts: Vec<Part>,
) -> Result<Vec<ImportResponse>, Status> {
    let parts = std::iter::once(Part::Header(header)).chain(parts);
    let requests: Vec<_> = parts.map(|p| ImportRequest { part: Some(p) }).collect();
    let call = client
        .imports()
        .import(tokio_stream::iter(requests))
        .await?;
    let mut responses = call.into_inner();
    let mut all = Vec::new();
    while let Some(response) = responses.message().await? {
        all.push(response);
    }
    Ok(all)
}

fn customers(resume_from: Option<ImportCheckpoint>) -> ImportHeader {
    ImportHeader {
        entity: ImportEntity::Customers.into(),
        resume_from,
        ..Default::default()
    }
}

fn pieces(csv: &str) -> Vec<Part> {
    let pieces = csv.as_bytes().chunks(100_000);
    pieces.map(|p| Part::Csv(p.to_vec().into())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_response_tells_where_to_go_on() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    // Lines of different lengths, some records over two lines, some bad.
    let mut csv = "\u{feff}number,kind,last_name,street\r\n".to_owned();
    for i in 1..=21_000 {
        let (kind, street) = match i % 1_000 {
            1 => ("robot", "\"Ring\r\n5\"".to_owned()),
            2 => ("person", "\"Ring\n\"".to_owned()),
            n => ("person", "x".repeat(n % 7)),
        };
        csv += &format!("{i},{kind},Müller {i},{street}\r\n");
    }
    let all = send(&client, customers(None), pieces(&csv)).await.unwrap();
    let last = all.last().unwrap();
    assert_eq!((last.rows, last.done), (21_000, true));
    let errors: Vec<_> = all.iter().flat_map(|r| r.errors.clone()).collect();
    let end = last.checkpoint.clone().unwrap();
    assert_eq!(usize::try_from(end.offset).unwrap(), csv.len());
    assert_eq!(end.columns, ["number", "kind", "last_name", "street"]);

    // From each of them another call imports exactly the rest, and knows its lines.
    let checkpoints = all.iter().filter(|r| r.checkpoint.is_some() && !r.done);
    let mut seen = 0;
    for response in checkpoints {
        let checkpoint = response.checkpoint.clone().unwrap();
        let at = usize::try_from(checkpoint.offset).unwrap();
        let header = customers(Some(checkpoint.clone()));
        let rest = send(&client, header, pieces(&csv[at..])).await.unwrap();
        let sums = rest.last().unwrap();
        assert_eq!(sums.rows, 21_000 - response.rows);
        assert_eq!((sums.created, sums.updated), (0, 0), "all was here");
        let told: Vec<_> = rest.iter().flat_map(|r| r.errors.clone()).collect();
        let after = errors.iter().filter(|e| e.line >= checkpoint.line);
        assert_eq!(told, after.cloned().collect::<Vec<_>>());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} chunks");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_on_by_their_number_and_wrong_checkpoints_are_refused() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let row = |address: &str| Row {
        values: vec!["mail".into(), address.into()],
    };
    let header = |resume_from: ImportCheckpoint| ImportHeader {
        entity: ImportEntity::Suppressions.into(),
        columns: vec!["channel".into(), "address".into()],
        resume_from: Some(resume_from),
        ..Default::default()
    };
    let rows = vec![row("a@b.example"), row("nobody")];
    let at = ImportCheckpoint {
        line: 7,
        ..Default::default()
    };
    let parts = vec![Part::Rows(Rows { rows })];
    let all = send(&client, header(at), parts).await.unwrap();
    let errors: Vec<_> = all.iter().flat_map(|r| &r.errors).collect();
    assert_eq!(errors.iter().map(|e| e.line).collect::<Vec<_>>(), [8]);
    let next = all.last().unwrap().checkpoint.clone().unwrap();
    assert_eq!((next.line, next.offset, next.columns.len()), (9, 0, 0));

    let wrong = ImportCheckpoint {
        line: 0,
        offset: 5,
        columns: vec!["channel".into()],
    };
    let fields = |status: Status| -> Vec<String> {
        violations(&status)
            .into_iter()
            .map(|(field, _)| field)
            .collect()
    };
    let refused = send(&client, header(wrong.clone()), vec![]).await;
    assert_eq!(
        fields(refused.unwrap_err()),
        [
            "header.resume_from.line",
            "header.resume_from.offset",
            "header.resume_from.columns"
        ]
    );
    let beginning = ImportCheckpoint {
        line: 1,
        offset: 0,
        ..wrong
    };
    let refused = send(&client, customers(Some(beginning)), vec![]).await;
    assert_eq!(
        fields(refused.unwrap_err()),
        ["header.resume_from.line", "header.resume_from.offset"]
    );
    let unknown = ImportCheckpoint {
        line: 2,
        offset: 9,
        columns: vec!["numbr".into()],
    };
    let refused = send(&client, customers(Some(unknown)), vec![]).await;
    let fields = fields(refused.unwrap_err());
    assert_eq!(fields[0], "header.resume_from.columns", "{fields:?}");
}

/// A port that leads to a server, wherever that is just now.
pub async fn detour(to: &Arc<Mutex<SocketAddr>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let to = Arc::clone(to);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = *to.lock().unwrap();
            tokio::spawn(async move {
                if let Ok(mut server) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_goes_on_when_the_server_was_killed() {
    let mut server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("customers.csv");
    let rows: String = (1..=25_000)
        .map(|i| format!("{i:05},person,Name {i}\n"))
        .collect();
    std::fs::write(&file, format!("number,kind,last_name\n{rows}")).unwrap();
    // In the second chunk; the first is committed.
    let hold = Hold::inserts(&server, "customer", "NEW.number = '15000'").await;
    let to = Arc::new(Mutex::new(server.addr));
    let addr = detour(&to).await;
    let importing = tokio::process::Command::new(&program().anklang)
        .args(["import", "--server", &format!("http://{addr}")])
        .args(["--tenant", "acme", "customers"])
        .arg(&file)
        .output();
    let importing = tokio::spawn(importing);
    hold.reached().await;
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();
    *to.lock().unwrap() = server.addr;

    let output = importing.await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}{told}");
    // Were the first chunk sent again, it would be as before, 10,000 rows; the last one may be, which is
    // written beside the one that is held.
    let sums = [
        "25000 rows: 25000 new, 0 changed, 0 as before, 0 refused",
        "25000 rows: 20000 new, 0 changed, 5000 as before, 0 refused",
    ];
    assert!(sums.iter().any(|sums| said.contains(sums)), "{said}{told}");
    let count = "SELECT count(*) FROM customer";
    assert_eq!(server.database.one(count).await.unwrap(), "25000");
    drop(client);
}

/// Waits until a server that was told to stop takes no more connections.
pub async fn until_stopping(server: &TestServer) {
    until("the server takes no more", async || {
        TcpStream::connect(server.addr).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_server_stops_is_told_so_and_goes_on_at_the_next_one() {
    let mut server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let csv = "number,kind,last_name\n1,person,One\n2,person,Two\n3,person,Three\n4,person,Four\n";
    // In the middle of the third row; two are written while the client pauses.
    let begin = csv.find("Three").unwrap() + 2;
    let hold = Hold::inserts(&server, "customer", "NEW.number = '2'").await;
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let first = Part::Csv(csv.as_bytes()[..begin].to_vec().into());
    for part in [Part::Header(customers(None)), first] {
        let part = ImportRequest { part: Some(part) };
        requests.send(part).await.unwrap();
    }
    let call = client.imports().import(stream_of(receiver)).await;
    let mut responses = call.unwrap().into_inner();
    hold.reached().await;
    server.signal("TERM").unwrap();
    until_stopping(&server).await;
    hold.release().await;
    // What was being written is told, and then why there comes no more.
    let told = responses.message().await.unwrap().unwrap();
    assert_eq!((told.rows, told.created, told.done), (2, 2, false));
    let status = responses.message().await.unwrap_err();
    refused::is(&status, Code::Unavailable, "UNAVAILABLE");
    assert_eq!(server.terminate().await.unwrap().code(), Some(0));
    assert!(!server.log().contains("closing them"), "{}", server.log());

    server.restart().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let checkpoint = told.checkpoint.unwrap();
    let at = usize::try_from(checkpoint.offset).unwrap();
    let rest = send(&client, customers(Some(checkpoint)), pieces(&csv[at..])).await;
    let rest = rest.unwrap().pop().unwrap();
    assert_eq!((rest.rows, rest.created, rest.done), (2, 2, true));
    let count = "SELECT count(*) FROM customer";
    assert_eq!(server.database.one(count).await.unwrap(), "4");
}
