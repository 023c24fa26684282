//! Imports in one request, for callers that cannot stream.

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1 as pb;
use anklang_testkit::{Client, TestServer, violations};
use tonic::Status;

use crate::imports::{faults, sums};

const COLUMNS: [&str; 3] = ["number", "kind", "last_name"];

fn header(columns: &[&str]) -> pb::ImportHeader {
    pb::ImportHeader {
        entity: pb::ImportEntity::Customers.into(),
        columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        ..Default::default()
    }
}

/// Customers; those of kind `robot` are none.
fn rows(rows: &[(&str, &str)]) -> Vec<pb::Row> {
    let row = |(number, kind): &(&str, &str)| pb::Row {
        values: vec![(*number).into(), (*kind).into(), "Muster".into()],
    };
    rows.iter().map(row).collect()
}

async fn import(
    client: &Client,
    header: Option<pb::ImportHeader>,
    rows: Vec<pb::Row>,
) -> Result<pb::ImportResponse, Status> {
    let request = pb::ImportRowsRequest { header, rows };
    let answer = client.imports().import_rows(request).await?;
    Ok(answer.into_inner())
}

async fn numbers(client: &Client) -> Vec<String> {
    let request = customers::ListCustomersRequest::default();
    let listed = client.customers().list_customers(request).await.unwrap();
    let listed = listed.into_inner().customers.into_iter();
    listed.map(|customer| customer.number).collect()
}

#[tokio::test]
async fn rows_in_one_request_are_imported_as_a_stream_of_them() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let first = rows(&[("K1", "person"), ("K2", "robot"), ("K3", "person")]);

    let trial = pb::ImportHeader {
        validate_only: true,
        ..header(&COLUMNS)
    };
    let tried = import(&client, Some(trial), first.clone()).await.unwrap();
    assert_eq!(sums(&tried), [2, 0, 0, 1]);
    assert_eq!(numbers(&client).await, Vec::<String>::new());

    let made = import(&client, Some(header(&COLUMNS)), first.clone()).await;
    let made = made.unwrap();
    assert_eq!(sums(&made), [2, 0, 0, 1]);
    assert_eq!(faults(&made), [(2, "kind")]);
    // Whoever has not got the answer does it again.
    let again = import(&client, Some(header(&COLUMNS)), first)
        .await
        .unwrap();
    assert_eq!(sums(&again), [0, 0, 2, 1]);

    // Rows of the next request are counted on.
    let next = pb::ImportHeader {
        resume_from: made.checkpoint,
        ..header(&COLUMNS)
    };
    let more = rows(&[("K4", "person"), ("K5", "robot")]);
    let more = import(&client, Some(next), more).await.unwrap();
    assert_eq!(sums(&more), [1, 0, 0, 1]);
    assert_eq!(faults(&more), [(5, "kind")]);
    assert_eq!(numbers(&client).await, ["K1", "K3", "K4"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_request_is_told_and_nothing_done() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("acme").await.unwrap();
    let good = || rows(&[("K1", "person")]);
    let many = vec![good()[0].clone(); 10_001];
    let unknown = pb::ImportHeader {
        entity: pb::ImportEntity::Unspecified.into(),
        ..header(&COLUMNS)
    };
    for (header, rows, fields) in [
        (None, Vec::new(), &["header", "rows"][..]),
        (Some(header(&[])), many, &["header.columns", "rows"]),
        (Some(header(&["number"])), good(), &["header.columns"]),
        (Some(unknown), good(), &["header.entity"]),
    ] {
        let status = import(&client, header, rows).await.unwrap_err();
        let told = violations(&status);
        let told: Vec<&str> = told.iter().map(|(field, _)| &field[..]).collect();
        assert_eq!(told, fields, "{status:?}");
    }
    assert_eq!(numbers(&client).await, Vec::<String>::new());
}
