//! Rates and places: of a tenant, and of all.

use std::net::SocketAddr;
use std::time::Duration;

use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::Client;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::{Hold, again, list, list_operations, serving, serving_with, until_waiting};
use crate::collector::Collector;
use crate::raw::Raw;
use crate::refused;
use crate::roles::health;
use crate::server::{USAGE, names, refused as does_not_start, sleeping_operation};
use crate::utility::until;

/// Calls until one is refused.
async fn until_refused(client: &Client) -> Status {
    for _ in 0..30 {
        if let Err(status) = list(client).await {
            return status;
        }
    }
    panic!("thirty calls, and none was too many");
}

#[tokio::test]
async fn a_tenant_that_calls_too_often_is_told_when_to_come_again_and_others_are_served() {
    let server = serving("requests_per_second = 1\nburst = 5").await;
    let eager = server.client("acme").await.unwrap();
    let other = server.client("linden").await.unwrap();
    let status = until_refused(&eager).await;
    let delay = again(&status, Code::ResourceExhausted, "RATE_LIMITED");
    for _ in 0..3 {
        list(&other).await.unwrap();
    }
    // Nobody is called too often by asking how the server is.
    for _ in 0..20 {
        assert_eq!(health(server.addr, "").await, ServingStatus::Serving);
    }
    tokio::time::sleep(delay).await;
    until("there is another call", async || list(&eager).await.is_ok()).await;
}

#[tokio::test]
async fn names_that_somebody_makes_up_are_together_as_one_tenant() {
    let server = serving("requests_per_second = 1\nburst = 10").await;
    let known = server.client("acme").await.unwrap();
    let new = server.client("linden").await.unwrap();
    list(&known).await.unwrap();
    let method = "anklang.brands.v1.BrandService/ListBrands";
    let raw = Raw::connect(server.addr).await;
    let mut codes = Vec::new();
    for i in 0..20 {
        let tenant = format!("made-up-{i}");
        let status = raw
            .call(Some(&tenant), method, &serde_json::json!({}))
            .await;
        codes.push(status.unwrap_err().code());
    }
    assert_eq!(codes[0], Code::Unauthenticated, "{codes:?}");
    assert!(codes.contains(&Code::ResourceExhausted), "{codes:?}");
    // Whoever is known is not held up by that, and neither is a tenant that calls for the first time.
    list(&known).await.unwrap();
    list(&new).await.unwrap();
}

#[tokio::test]
async fn more_calls_at_the_same_time_are_refused_at_once_of_a_tenant_and_of_all() {
    let server = serving("concurrent_requests = 2\ntotal_concurrent_requests = 3").await;
    let acme = server.client("acme").await.unwrap();
    let linden = server.client("linden").await.unwrap();
    list(&linden).await.unwrap();
    let hold = Hold::brands(&server).await;
    let calling = |client: &Client| {
        let client = client.clone();
        tokio::spawn(async move { list(&client).await })
    };
    let mut under_way = vec![calling(&acme), calling(&acme)];
    until_waiting(&server, 2).await;
    let status = list(&acme).await.unwrap_err();
    again(&status, Code::ResourceExhausted, "TOO_MANY_CALLS");
    until("another tenant is served", async || {
        list_operations(&linden).await.is_ok()
    })
    .await;
    // A place is free a moment after the answer.
    tokio::time::sleep(Duration::from_millis(200)).await;

    // One more of anybody, and the server takes no more of anybody; but it tells how it is.
    under_way.push(calling(&linden));
    until_waiting(&server, 3).await;
    for client in [&acme, &linden] {
        let status = list_operations(client).await.unwrap_err();
        again(&status, Code::Unavailable, "OVERLOADED");
    }
    assert_eq!(health(server.addr, "").await, ServingStatus::Serving);

    // Nothing that was let in is lost by it.
    hold.let_go().await;
    for call in under_way {
        call.await.unwrap().unwrap();
    }
    until("places are free", async || list(&acme).await.is_ok()).await;
}

#[tokio::test]
async fn whoever_does_not_take_answers_keeps_no_place_by_that() {
    let server = serving("concurrent_requests = 2\ntotal_concurrent_requests = 3").await;
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    // Nothing of an answer but its headers may be sent to it.
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(0);
    let channel = endpoint.connect().await.unwrap();
    let shut = Client::over(channel, Some("linden"), None).unwrap();
    let mut unread = Vec::new();
    for _ in 0..4 {
        let shut = shut.clone();
        unread.push(tokio::spawn(async move { list(&shut).await }));
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for _ in 0..3 {
        list(&client).await.unwrap();
    }
    for call in unread {
        assert!(!call.is_finished(), "it waits for its answer");
        call.abort();
    }
}

#[tokio::test]
async fn answers_that_a_tenant_does_not_take_are_bounded_and_others_are_served() {
    let server = serving("untaken_bytes = 1048576").await;
    let client = server.client("linden").await.unwrap();
    let other = server.client("acme").await.unwrap();
    list(&client).await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(0);
    let shut = Client::over(endpoint.connect().await.unwrap(), Some("linden"), None).unwrap();
    let unread: Vec<_> = (0..200)
        .map(|_| {
            let shut = shut.clone();
            tokio::spawn(async move { list(&shut).await })
        })
        .collect();
    until("no more lies there", async || list(&client).await.is_err()).await;
    let status = list(&client).await.unwrap_err();
    again(&status, Code::ResourceExhausted, "TOO_MANY_CALLS");
    list(&other).await.unwrap();
    unread.iter().for_each(|call| call.abort());
    until("they are gone", async || list(&client).await.is_ok()).await;
}

#[tokio::test]
async fn whoever_never_takes_an_answer_loses_the_connection() {
    let server = serving("longest_call_seconds = 3").await;
    server.add_tenant("linden").await.unwrap();
    // It answers pings, and has its answers left where they are.
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let endpoint = endpoint.initial_stream_window_size(0);
    let shut = Client::over(endpoint.connect().await.unwrap(), Some("linden"), None).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), list(&shut)).await;
    let status = ended.expect("it is not kept for ever").unwrap_err();
    assert_ne!(status.code(), Code::DeadlineExceeded, "an answer was left");
    let client = server.client("linden").await.unwrap();
    until("others are served", async || list(&client).await.is_ok()).await;
}

async fn watch(
    client: &Client,
    operation: &lro::Operation,
) -> Result<Streaming<operations::WatchOperationResponse>, Status> {
    let request = operations::WatchOperationRequest {
        name: operation.name.clone(),
    };
    let mut stream = client
        .progress()
        .watch_operation(request)
        .await?
        .into_inner();
    stream.message().await?.expect("how it stands");
    Ok(stream)
}

#[tokio::test]
async fn streams_and_calls_that_wait_have_places_of_their_own() {
    let server = serving("streams = 2\nconcurrent_requests = 1").await;
    let client = server.client("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let first = watch(&client, &operation).await.unwrap();
    let wait = lro::WaitOperationRequest {
        name: operation.name.clone(),
        timeout: Some(Duration::from_secs(60).try_into().unwrap()),
    };
    let waiter = client.clone();
    let waits = tokio::spawn(async move { waiter.operations().wait_operation(wait).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    let status = watch(&client, &operation).await.unwrap_err();
    again(&status, Code::ResourceExhausted, "TOO_MANY_CALLS");
    // Calls that answer at once do not wait for them.
    list(&client).await.unwrap();

    drop(first);
    until("a place is free", async || {
        watch(&client, &operation).await.is_ok()
    })
    .await;
    waits.abort();
}

/// A stream of reflection that is left open, both ways.
struct Reflecting {
    _asks: mpsc::Sender<ServerReflectionRequest>,
    _answers: Streaming<ServerReflectionResponse>,
}

async fn reflecting(addr: SocketAddr) -> Result<Reflecting, Status> {
    let asks = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let endpoint = Endpoint::try_from(format!("http://{addr}")).unwrap();
    let mut client = ServerReflectionClient::new(endpoint.connect().await.unwrap());
    let (sender, asked) = mpsc::channel(1);
    sender.send(asks).await.unwrap();
    let stream = client.server_reflection_info(ReceiverStream::new(asked));
    let mut answers = stream.await?.into_inner();
    answers.message().await?.expect("an answer");
    Ok(Reflecting {
        _asks: sender,
        _answers: answers,
    })
}

#[tokio::test]
async fn reflection_takes_no_tenants_places() {
    let server = serving("streams = 1\ntotal_streams = 10").await;
    let client = server.client("linden").await.unwrap();
    let operation = sleeping_operation(&server).await;
    let open = reflecting(server.addr).await.unwrap();
    let status = reflecting(server.addr).await.err().unwrap();
    again(&status, Code::ResourceExhausted, "TOO_MANY_CALLS");
    watch(&client, &operation).await.unwrap();
    assert_eq!(health(server.addr, "").await, ServingStatus::Serving);
    drop(open);
    until("a place is free", async || {
        reflecting(server.addr).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_is_counted() {
    let collector = Collector::start().await;
    let telemetry = format!(
        "[telemetry]\nendpoint = '{}'\nexport_interval_seconds = 1",
        collector.url()
    );
    let server = serving_with("requests_per_second = 1\nburst = 2", &telemetry).await;
    let client = server.client("acme").await.unwrap();
    let status = until_refused(&client).await;
    refused::is(&status, Code::ResourceExhausted, "RATE_LIMITED");
    until("the refusal", async || {
        let refused = collector.value("anklang.calls.refused", &["reason=rate"]);
        refused.is_some_and(|count| count >= 1.0)
    })
    .await;
    until("the connection", async || {
        let open = collector.value("anklang.connections", &[]);
        open.is_some_and(|count| count >= 1.0)
    })
    .await;
    let shed = collector.value("anklang.calls.refused", &["reason=total"]);
    assert_eq!(shed, Some(0.0), "counted from the beginning");
    until("no call is under way", async || {
        collector.value("anklang.calls.in_flight", &["kind=call"]) == Some(0.0)
    })
    .await;
    // Refused calls are calls.
    let code = format!("rpc.grpc.status_code={}", Code::ResourceExhausted as i32);
    let calls = ["rpc.method=ListBrands", &code];
    let counted = collector.value("rpc.server.duration", &calls);
    assert!(counted.is_some_and(|count| count >= 1.0), "{counted:?}");
}

#[test]
fn limits_that_make_no_sense_are_named_all_at_once() {
    let config = "[server]
        cors_origins = ['*']
        [server.limits]
        connections = 0
        header_bytes = 1
        streams = 5000
        longest_call_seconds = 0";
    let (code, said) = does_not_start(config, &[]);
    assert_eq!(code, USAGE, "{said}");
    names(
        &said,
        &[
            "server.cors_origins[0]: ",
            "server.limits.connections: ",
            "server.limits.header_bytes: ",
            "server.limits.streams: ",
            "server.limits.longest_call_seconds: ",
        ],
    );
}
