//! Imports as streams of rows and parts, and by the program.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::import_request::Part;
use anklang_proto::anklang::imports::v1::{
    ImportEntity, ImportHeader, ImportRequest, ImportResponse, Row, Rows,
};
use anklang_testkit::{TestServer, program, violations};
use anyhow::Result;
use tonic::codegen::tokio_stream;

use crate::imports::{FILES, faults, sums};

fn part(part: Part) -> ImportRequest {
    ImportRequest { part: Some(part) }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_without_csv_and_parts_in_order() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let header = |columns: &[&str]| {
        part(Part::Header(ImportHeader {
            entity: ImportEntity::Suppressions.into(),
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
            ..Default::default()
        }))
    };
    let row = |values: &[&str]| Row {
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    let rows = |rows: Vec<Row>| part(Part::Rows(Rows { rows }));
    let send = |requests: Vec<ImportRequest>| {
        let mut imports = client.imports();
        async move {
            let call = imports.import(tokio_stream::iter(requests)).await?;
            let mut responses = call.into_inner();
            let (mut last, mut errors) = (ImportResponse::default(), Vec::new());
            while let Some(response) = responses.message().await? {
                errors.extend(response.errors.clone());
                last = response;
            }
            Ok::<_, tonic::Status>(ImportResponse { errors, ..last })
        }
    };
    let response = send(vec![
        header(&["address", "channel"]),
        rows(vec![row(&["a@b.de", "mail"]), row(&["a@b.de"])]),
        rows(vec![row(&["A@B.de", "mail"]), row(&["a@B.de", "mail"])]),
    ])
    .await?;
    assert_eq!(sums(&response), [2, 0, 0, 2]);
    assert_eq!(
        faults(&response),
        [(2, ""), (4, "")],
        "the domain has no case, the rest may"
    );

    let csv = || part(Part::Csv("x".into()));
    let columns = ["address", "channel"];
    for (requests, field) in [
        (vec![csv()], "part"),
        (vec![header(&columns), header(&columns)], "part"),
        (vec![header(&columns), csv()], "csv"),
        (vec![header(&[]), rows(vec![])], "rows"),
        (vec![header(&["address"])], "header.columns"),
        (vec![header(&columns), ImportRequest { part: None }], "part"),
        (
            vec![header(&columns), rows(vec![Row::default(); 10_001])],
            "rows",
        ),
    ] {
        let status = send(requests).await.unwrap_err();
        assert_eq!(violations(&status)[0].0, field, "{status:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_pauses_gets_its_rows_committed() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    let header = ImportHeader {
        entity: ImportEntity::Suppressions.into(),
        ..Default::default()
    };
    requests.send(part(Part::Header(header))).await?;
    requests
        .send(part(Part::Csv("channel,address\nmail,a@b.de\nma".into())))
        .await?;
    let stream = stream_of(receiver);
    let mut responses = client.imports().import(stream).await?.into_inner();
    let waiting = tokio::time::timeout(Duration::from_secs(120), responses.message());
    let response = waiting.await??.unwrap();
    assert_eq!(
        (response.rows, response.created, response.done),
        (1, 1, false)
    );
    requests.send(part(Part::Csv("il,b@b.d".into()))).await?;
    // The client goes away in the middle of a row (its stream is cancelled, not ended): what was
    // committed stays, and the server lives on.
    drop(responses);
    assert_eq!(
        server
            .database
            .one("SELECT count(*) FROM suppression")
            .await?,
        "1"
    );
    let response = client
        .import(ImportEntity::Suppressions, "channel,address\nmail,a@b.de\n")
        .await?;
    assert_eq!(sums(&response), [0, 0, 1, 0]);
    Ok(())
}

/// A stream of what comes out of a channel.
pub fn stream_of(
    receiver: tokio::sync::mpsc::Receiver<ImportRequest>,
) -> impl tokio_stream::Stream<Item = ImportRequest> + Send {
    struct Of(tokio::sync::mpsc::Receiver<ImportRequest>);
    impl tokio_stream::Stream for Of {
        type Item = ImportRequest;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<ImportRequest>> {
            self.0.poll_recv(cx)
        }
    }
    Of(receiver)
}

async fn anklang(server: &TestServer, args: &[&str]) -> Result<(i32, Output)> {
    let output = tokio::process::Command::new(&program().anklang)
        .arg("import")
        .args([
            "--server",
            &format!("http://{}", server.addr),
            "--tenant",
            "acme",
        ])
        .args(args)
        .output()
        .await?;
    Ok((output.status.code().unwrap(), output))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_imports_files_and_folders() -> Result<()> {
    let server = TestServer::start().await?;
    let client = server.client("acme").await?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (entity, csv) in FILES {
        let name = entity
            .as_str_name()
            .trim_start_matches("IMPORT_ENTITY_")
            .to_lowercase();
        std::fs::write(path(&format!("{name}.csv")), csv)?;
    }
    let dir = folder.path().display().to_string();
    let (code, output) =
        anklang(&server, &["--validate-only", "brands", &path("brands.csv")]).await?;
    assert_eq!(code, 0, "{output:?}");
    assert_eq!(
        server.database.one("SELECT count(*) FROM brand").await?,
        "0"
    );
    let (code, output) = anklang(&server, &["--folder", &dir]).await?;
    let said = String::from_utf8(output.stdout)?;
    assert_eq!((code, said.lines().count()), (0, 12), "{said}");
    assert!(
        said.contains("customers.csv: 2 rows: 2 new, 0 changed, 0 as before, 0 refused"),
        "{said}"
    );
    assert_eq!(
        client
            .customers()
            .list_customers(customers::ListCustomersRequest::default())
            .await?
            .into_inner()
            .customers
            .len(),
        2
    );

    std::fs::write(
        path("bad.csv"),
        "number;kind;last_name\n9;person;Good\n1;robot;\n1;person;\n",
    )?;
    let (code, output) = anklang(
        &server,
        &[
            "--delimiter",
            ";",
            "--errors",
            &path("errors.csv"),
            "customers",
            &path("bad.csv"),
        ],
    )
    .await?;
    assert_eq!(code, 1, "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    assert!(
        said.contains("bad.csv:3: kind: must be one of person, company"),
        "{said}"
    );
    let errors = std::fs::read_to_string(path("errors.csv"))?;
    assert_eq!(errors.lines().count(), 3, "{errors}");

    for (args, expected) in [
        (&["customers", &path("none.csv")][..], 2),
        (&["products", &path("customers.csv")], 2),
        (&["--folder", &path("none")], 2),
        (&["people", &path("customers.csv")], 64),
        (
            &["--delimiter", "x", "customers", &path("customers.csv")],
            64,
        ),
        (&["customers"], 64),
        (&[], 64),
    ] {
        let (code, output) = anklang(&server, args).await?;
        assert_eq!(code, expected, "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    Ok(())
}

/// Country names of the Northwind sample and their codes.
const COUNTRIES: [(&str, &str); 21] = [
    ("Germany", "DE"),
    ("Mexico", "MX"),
    ("UK", "GB"),
    ("Sweden", "SE"),
    ("France", "FR"),
    ("Spain", "ES"),
    ("Canada", "CA"),
    ("Argentina", "AR"),
    ("Switzerland", "CH"),
    ("Brazil", "BR"),
    ("Austria", "AT"),
    ("Italy", "IT"),
    ("Portugal", "PT"),
    ("USA", "US"),
    ("Venezuela", "VE"),
    ("Ireland", "IE"),
    ("Belgium", "BE"),
    ("Norway", "NO"),
    ("Denmark", "DK"),
    ("Finland", "FI"),
    ("Poland", "PL"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_northwind_customers_come_in_with_phones_and_faxes() -> Result<()> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/northwind/customers.csv");
    let Ok(mut reader) = csv::Reader::from_path(&file) else {
        eprintln!("skipped: the Northwind sample is not there");
        return Ok(());
    };
    let (mut people, mut points) = (
        csv::Writer::from_writer(vec![]),
        csv::Writer::from_writer(vec![]),
    );
    people.write_record([
        "number",
        "kind",
        "company_name",
        "street",
        "city",
        "postal_code",
        "country",
    ])?;
    points.write_record(["customer_number", "channel", "address", "country"])?;
    let (mut companies, mut numbers) = (0, 0);
    for record in reader.records() {
        let record = record?;
        let country = COUNTRIES
            .iter()
            .find(|(name, _)| *name == &record[8])
            .unwrap()
            .1;
        people.write_record([
            &record[0], "company", &record[1], &record[4], &record[5], &record[7], country,
        ])?;
        companies += 1;
        for (channel, number) in [("phone", &record[9]), ("fax", &record[10])] {
            if !number.is_empty() {
                points.write_record([&record[0], channel, number, country])?;
                numbers += 1;
            }
        }
    }
    let server = TestServer::start().await?;
    let client = server.client("northwind").await?;
    let response = client
        .import(ImportEntity::Customers, people.into_inner()?)
        .await?;
    assert_eq!((sums(&response), companies), ([91, 0, 0, 0], 91));
    let response = client
        .import(ImportEntity::ContactPoints, points.into_inner()?)
        .await?;
    assert_eq!(response.errors, []);
    assert_eq!(sums(&response), [numbers, 0, 0, 0]);
    let get = customers::GetCustomerRequest {
        name: "customers/ALFKI".into(),
    };
    let customer = client.customers().get_customer(get).await?.into_inner();
    let addresses: Vec<_> = customer
        .contact_points
        .iter()
        .map(|p| (&*p.channel, &*p.address))
        .collect();
    assert_eq!(
        addresses,
        [("fax", "+49300076545"), ("phone", "+49300074321")]
    );
    Ok(())
}
