//! When calls end, and that nothing of them goes on.

use std::time::{Duration, Instant};

use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::TestServer;
use tonic::Code;
use tonic::metadata::MetadataValue;

use super::{Hold, list, serving, until_waiting, waiting};
use crate::refused;
use crate::server::{grpc_web, sleeping_operation};

/// Long before calls would end by themselves.
const SOON: Duration = Duration::from_secs(20);

/// The trailers of a call that reads brands, over a client without a clock of its own, and how long it took.
async fn listed(server: &TestServer, headers: &str) -> (String, Duration) {
    let path = "anklang.brands.v1.BrandService/ListBrands";
    let headers = format!("anklang-tenant: linden\r\n{headers}");
    let begun = Instant::now();
    let (_, trailers) = grpc_web(server, path, &headers, &[]).await;
    (trailers.replace(": ", ":"), begun.elapsed())
}

#[tokio::test]
async fn a_call_ends_at_its_callers_deadline_and_its_statement_with_it() {
    let server = serving("").await;
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    let hold = Hold::brands(&server).await;
    let (trailers, took) = listed(&server, "grpc-timeout: 700m\r\n").await;
    let exceeded = format!("grpc-status:{}", Code::DeadlineExceeded as i32);
    assert!(trailers.contains(&exceeded), "{trailers}");
    assert!(trailers.contains("grpc-status-details-bin"), "{trailers}");
    assert!(
        took >= Duration::from_millis(700) && took < SOON,
        "{took:?}"
    );
    let begun = Instant::now();
    until_waiting(&server, 0).await;
    assert!(begun.elapsed() < SOON);
    hold.let_go().await;
    list(&client).await.unwrap();
}

#[tokio::test]
async fn a_call_without_a_deadline_gets_one() {
    let server = serving("longest_call_seconds = 1").await;
    server.add_tenant("linden").await.unwrap();
    let hold = Hold::brands(&server).await;
    let exceeded = format!("grpc-status:{}", Code::DeadlineExceeded as i32);
    // Whoever wants more than there is gets what there is.
    for headers in ["", "grpc-timeout: 1H\r\n", "grpc-timeout: soon\r\n"] {
        let (trailers, took) = listed(&server, headers).await;
        assert!(trailers.contains(&exceeded), "{headers}: {trailers}");
        assert!(took >= Duration::from_secs(1) && took < SOON, "{took:?}");
    }
    until_waiting(&server, 0).await;
    hold.let_go().await;
    let (trailers, _) = listed(&server, "").await;
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn whoever_goes_away_leaves_no_statement_behind() {
    let server = serving("longest_call_seconds = 600").await;
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    let hold = Hold::brands(&server).await;
    // As many as a tenant's calls have connections to the database, and more than there are in all: they are free again
    // afterwards.
    for _ in 0..3 {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { list(&client).await })
            })
            .collect();
        until_waiting(&server, 4).await;
        calls.iter().for_each(|call| call.abort());
        until_waiting(&server, 0).await;
    }
    hold.let_go().await;
    list(&client).await.unwrap();
    assert_eq!(waiting(&server).await, 0);
}

#[tokio::test]
async fn a_call_that_waits_answers_before_it_would_be_ended() {
    let server = serving("longest_call_seconds = 3").await;
    let client = server.client("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let wait = lro::WaitOperationRequest {
        name: operation.name.clone(),
        timeout: Some(Duration::from_secs(60).try_into().unwrap()),
    };
    let begun = Instant::now();
    let answer = client.operations().wait_operation(wait).await.unwrap();
    assert!(!answer.get_ref().done);
    assert!(begun.elapsed() >= Duration::from_secs(1), "it did not wait");
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn a_stream_lasts_longer_than_calls_may_unless_its_caller_says_until_when() {
    let server = serving("longest_call_seconds = 1").await;
    let client = server.client("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let request = operations::WatchOperationRequest {
        name: operation.name.clone(),
    };
    let stream = client.progress().watch_operation(request.clone()).await;
    let mut stream = stream.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    // It is told at least every ten seconds how it stands.
    stream.message().await.unwrap().unwrap();

    let mut short = tonic::Request::new(request);
    let timeout = MetadataValue::from_static("1500m");
    short.metadata_mut().insert("grpc-timeout", timeout);
    let mut short = client
        .progress()
        .watch_operation(short)
        .await
        .unwrap()
        .into_inner();
    short.message().await.unwrap().unwrap();
    let status = short.message().await.unwrap_err();
    refused::is(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}
