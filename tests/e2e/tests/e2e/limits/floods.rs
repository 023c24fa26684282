//! Requests of a few MiB that have millions of something, or become far larger on the way.

use anklang_proto::anklang::brands::v1 as brands;
use anklang_proto::anklang::brands::v1::brand_service_client::BrandServiceClient;
use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::imports::v1::import_request::Part;
use anklang_proto::anklang::imports::v1::{
    ImportCheckpoint, ImportEntity, ImportHeader, ImportRequest,
};
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, TestServer, violations};
use tonic::codec::CompressionEncoding;
use tonic::codegen::tokio_stream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::{list, serving, soon};
use crate::probe::http;
use crate::refused;

/// As many empty texts as fit into a request.
const TEXTS: usize = 2_000_000;
/// As many small numbers.
const NUMBERS: usize = 4_000_000;
/// As many columns with names of their own.
const COLUMNS: usize = 500_000;
/// So much the server may grow by all of them, in KiB: a fraction of what words about each would take.
const GROWTH: usize = 400 * 1_024;

/// The most that the server ever had in memory, in KiB.
fn peak(server: &TestServer) -> usize {
    let status = format!("/proc/{}/status", server.pid().unwrap());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.unwrap().parse().unwrap()
}

/// Checks that a list is refused for its length.
#[track_caller]
fn too_long(status: &Status, field: &str, length: usize, most: usize) {
    refused::is(status, Code::InvalidArgument, "INVALID_ARGUMENT");
    let reason = format!("has {length} entries; at most {most} are allowed");
    let found = violations(status);
    assert!(found.contains(&(field.to_owned(), reason)), "{found:?}");
}

#[tokio::test]
async fn lists_of_millions_are_refused_for_their_length_and_cost_no_words_for_each() {
    let server = serving("").await;
    let client = server.client("linden").await.unwrap();
    list(&client).await.unwrap();
    let before = peak(&server);
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            event_types: vec![String::new(); TEXTS],
            ..Default::default()
        }),
        ..Default::default()
    };
    let created = client.webhooks().create_webhook(request).await;
    let most = anklang_domain::handover::EVENT_TYPES.len();
    too_long(&created.unwrap_err(), "webhook.event_types", TEXTS, most);

    let request = offers::ListOffersRequest {
        reject_reason_codes: vec![99; NUMBERS],
        ..Default::default()
    };
    let listed = client.offers().list_offers(request).await;
    too_long(&listed.unwrap_err(), "reject_reason_codes", NUMBERS, 9);

    let request = handover::ListDeliveriesRequest {
        parent: "webhooks/-".into(),
        states: vec![99; NUMBERS],
        ..Default::default()
    };
    let listed = client.deliveries().list_deliveries(request).await;
    refused::is(
        &listed.unwrap_err(),
        Code::InvalidArgument,
        "INVALID_ARGUMENT",
    );
    let grown = peak(&server).saturating_sub(before);
    assert!(grown < GROWTH, "by {grown} KiB");
}

/// The end of an import with that header.
async fn imported(client: &Client, header: ImportHeader) -> Status {
    let part = ImportRequest {
        part: Some(Part::Header(header)),
    };
    let answers = client.imports().import(tokio_stream::iter([part])).await;
    let mut answers = answers.unwrap().into_inner();
    soon(answers.message()).await.unwrap_err()
}

#[tokio::test]
async fn an_import_with_half_a_million_columns_is_refused_for_that() {
    let server = serving("").await;
    let client = server.client("linden").await.unwrap();
    let columns: Vec<String> = (0..COLUMNS).map(|i| format!("{i:x}")).collect();
    let header = ImportHeader {
        entity: ImportEntity::Suppressions.into(),
        columns: columns.clone(),
        ..Default::default()
    };
    let status = imported(&client, header).await;
    too_long(&status, "header.columns", COLUMNS, 500);
    refused::names(&status, &["header.columns"]);
    let header = ImportHeader {
        entity: ImportEntity::Suppressions.into(),
        resume_from: Some(ImportCheckpoint {
            line: 2,
            offset: 20,
            columns,
        }),
        ..Default::default()
    };
    let status = imported(&client, header).await;
    too_long(&status, "header.resume_from.columns", COLUMNS, 500);
}

#[tokio::test]
async fn what_is_too_large_when_it_is_decompressed_is_refused_and_so_is_what_does_not_decompress() {
    let server = serving("").await;
    let client = server.client("linden").await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut compressed =
        BrandServiceClient::new(channel).send_compressed(CompressionEncoding::Gzip);
    let listed = |filter: String| {
        let mut request = tonic::Request::new(brands::ListBrandsRequest {
            filter,
            ..Default::default()
        });
        let tenant = "linden".parse().unwrap();
        request.metadata_mut().insert("anklang-tenant", tenant);
        request
    };
    let good = compressed.list_brands(listed(String::new())).await;
    good.unwrap();
    let bomb = compressed.list_brands(listed(" ".repeat(64 << 20))).await;
    refused::is(&bomb.unwrap_err(), Code::OutOfRange, "TOO_LARGE");
    let plain = brands::ListBrandsRequest {
        filter: " ".repeat(5 << 20),
        ..Default::default()
    };
    let large = client.brands().list_brands(plain).await;
    refused::is(&large.unwrap_err(), Code::OutOfRange, "TOO_LARGE");

    // Four bytes that say they are compressed.
    let path = "/anklang.brands.v1.BrandService/ListBrands";
    let headers = "Content-Type: application/grpc-web+proto\r\nanklang-tenant: linden\r\n\
                   grpc-encoding: gzip\r\n";
    let body = "\u{1}\0\0\0\u{4}\u{1}\u{2}\u{3}\u{4}";
    let (_, answer) = http(server.addr, "POST", path, headers, body).await;
    let answer = answer.to_lowercase().replace(": ", ":");
    let code = format!("grpc-status:{}", Code::InvalidArgument as i32);
    assert!(answer.contains(&code), "{answer}");
    assert!(answer.contains("grpc-status-details-bin"), "{answer}");
    list(&client).await.unwrap();
}

#[tokio::test]
async fn how_large_requests_may_be_is_a_setting() {
    let server = serving("message_bytes = 16777216").await;
    let client = server.client("linden").await.unwrap();
    let request = brands::ListBrandsRequest {
        filter: " ".repeat(5 << 20),
        ..Default::default()
    };
    let listed = client.brands().list_brands(request).await;
    // It is read: what is said about it comes from the call itself.
    assert!(
        listed
            .err()
            .is_none_or(|s| s.code() == Code::InvalidArgument)
    );
}
