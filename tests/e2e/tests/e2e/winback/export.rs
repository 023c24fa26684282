//! Cases as a file of a spreadsheet.

use std::collections::BTreeMap;
use std::time::Duration;

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::winback::v1::{
    self as pb, CsvEncoding, CsvLanguage, CsvSeparator, WinbackTile as Tile,
};
use anklang_testkit::{Client, TestServer};
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::desk::{open, open_in, shop, sql};
use crate::imports_resumed::until_stopping;
use crate::refused;

/// The parts of an export, at most so many.
async fn parts(
    client: &Client,
    request: pb::ExportWinbackCasesRequest,
    most: usize,
) -> Result<Vec<pb::ExportWinbackCasesResponse>, Status> {
    let stream = client.winback_cases().export_winback_cases(request).await?;
    let mut stream = stream.into_inner();
    let mut parts = Vec::new();
    while parts.len() < most {
        match stream.message().await? {
            Some(part) => parts.push(part),
            None => break,
        }
    }
    Ok(parts)
}

async fn bytes(client: &Client, request: pb::ExportWinbackCasesRequest) -> Vec<u8> {
    let parts = parts(client, request, usize::MAX).await.unwrap();
    assert_eq!(parts.last().unwrap().cursor, "");
    parts.into_iter().flat_map(|part| part.csv).collect()
}

/// Lines by their headings.
fn rows(text: &str, separator: u8) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

/// Customers with names that spreadsheets stumble over.
const NAMES: [&str; 7] = [
    "=1+1",
    "Müller; \"Söhne\"",
    "+49 30 123",
    "-2",
    "@SUMME(A1)",
    "Zwei\nZeilen",
    "Łukasz, € & Co",
];

async fn awkward(server: &TestServer) -> Client {
    let client = shop(server).await;
    let mut customers = csv::Writer::from_writer(Vec::new());
    let header = ["number", "kind", "company_name", "customer_group"];
    customers.write_record(header).unwrap();
    for (i, name) in NAMES.iter().enumerate() {
        // The line break comes in by another way.
        let name = name.replace('\n', " ");
        let record = [&format!("E{i}"), "company", &name, "=cmd|' /C calc'!A0"];
        customers.write_record(record).unwrap();
    }
    let customers = customers.into_inner().unwrap();
    let sums = client.import(ImportEntity::Customers, customers).await;
    assert_eq!(sums.unwrap().errors, []);
    sql(
        server,
        "UPDATE customer SET company_name = E'Zwei\\nZeilen' WHERE number = 'E5'",
    )
    .await;
    for i in 0..NAMES.len() {
        let stake = format!("{i}.5");
        let columns = [
            ("at_stake", &stake[..]),
            ("revenue_now", "-12.30"),
            ("opened_on", "'2026-11-03'"),
            ("alive", "0.123456"),
            ("lost_groups", "'{-Obst,Brot}'"),
        ];
        open(server, &format!("E{i}"), &columns).await;
    }
    client
}

#[tokio::test]
async fn what_comes_out_is_what_went_in() {
    let server = TestServer::start().await.unwrap();
    let client = awkward(&server).await;
    open_in(&server, "K1", "no_interest").await;
    let request = pb::ExportWinbackCasesRequest {
        tile: Tile::Declining.into(),
        order_by: "customer".into(),
        ..Default::default()
    };
    let german = String::from_utf8(bytes(&client, request.clone()).await).unwrap();
    let text = german.strip_prefix('\u{feff}').expect("a byte order mark");
    assert!(
        text.starts_with("Kundennummer;Name;Kundengruppe;Status;"),
        "{text}"
    );
    assert!(text.ends_with("\r\n"));
    let lines = rows(text, b';');
    let names: Vec<&str> = lines.iter().map(|row| &row["Name"][..]).collect();
    let quoted = [
        "'=1+1",
        NAMES[1],
        "'+49 30 123",
        "'-2",
        "'@SUMME(A1)",
        NAMES[5],
        NAMES[6],
    ];
    assert_eq!(names, quoted);
    for row in &lines {
        assert_eq!(row["Kundengruppe"], "'=cmd|' /C calc'!A0");
        assert_eq!(
            (&row["Status"][..], &row["Gefunden am"][..]),
            ("Umsatzrückgang", "03.11.2026")
        );
        // A number is one, also below zero.
        assert_eq!(
            (&row["Umsatz jetzt"][..], &row["Umsatz vorher"][..]),
            ("-12,30", "200,00")
        );
        assert_eq!(row["Wahrscheinlichkeit noch Kunde"], "0,1235");
        assert_eq!(row["Wiedervorlage am"], "");
    }
    assert_eq!(lines[3]["Umsatz in Gefahr"], "3,50");

    let plain = pb::ExportWinbackCasesRequest {
        language: CsvLanguage::Plain.into(),
        separator: CsvSeparator::Comma.into(),
        encoding: CsvEncoding::Utf8Bom.into(),
        order_by: "customer desc".into(),
        filter: "at_stake > 1".into(),
        ..Default::default()
    };
    let plain = String::from_utf8(bytes(&client, plain).await).unwrap();
    let lines = rows(plain.strip_prefix('\u{feff}').unwrap(), b',');
    let numbers: Vec<&str> = lines
        .iter()
        .map(|row| &row["customer_number"][..])
        .collect();
    assert_eq!(numbers, ["K1", "E6", "E5", "E4", "E3", "E2", "E1"]);
    assert_eq!(
        (&lines[0]["state"][..], &lines[0]["no_interest_reason"][..]),
        ("NO_INTEREST", "PRICE")
    );
    assert_eq!(
        (&lines[1]["revenue_now"][..], &lines[1]["open_date"][..]),
        ("-12.30", "2026-11-03")
    );
    assert_eq!(lines[1]["customer_name"], NAMES[6]);
    assert_eq!(
        (
            &lines[0]["last_order_number"][..],
            &lines[0]["last_order_brand"][..]
        ),
        ("B1", "garten")
    );

    let windows = pb::ExportWinbackCasesRequest {
        encoding: CsvEncoding::Windows1252.into(),
        ..request
    };
    let windows = bytes(&client, windows).await;
    let has = |part: &[u8]| windows.windows(part.len()).any(|w| w == part);
    assert!(windows.starts_with(b"Kundennummer;"), "no mark");
    assert!(has(b"\"M\xfcller; \"\"S\xf6hne\"\"\""));
    // A letter that it does not have, and one that Latin-1 does not have.
    assert!(has(b";?ukasz, \x80 & Co;"));

    let wrong = pb::ExportWinbackCasesRequest {
        tile: 9,
        filter: "x".into(),
        order_by: "colour".into(),
        separator: 9,
        encoding: 9,
        language: 9,
        ..Default::default()
    };
    let status = parts(&client, wrong, 1).await.unwrap_err();
    let fields = [
        "tile",
        "filter",
        "order_by",
        "separator",
        "encoding",
        "language",
    ];
    refused::names(&status, &fields);
}

/// Makes so many cases.
async fn many(server: &TestServer, count: usize) {
    let make = format!(
        "INSERT INTO customer (tenant_id, id, number, kind, last_name)
         SELECT id, anklang_uuid7(), 'V' || lpad(n::text, 5, '0'), 'person', 'Viele'
         FROM tenant, generate_series(1, {count}) n WHERE slug = 'linden';
         INSERT INTO winback_case (tenant_id, id, customer_id, opened_on, opened_by, seen_by,
             revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
             drop_percent, last_order, currency, at_stake)
         SELECT tenant_id, gen_random_uuid(), id, '2026-01-01', id, id, 1, 1, 1, 1, 1, 1, 1, 1,
                '2026-01-01', 'EUR', nullif(substr(number, 2)::int % 10, 0)
         FROM customer WHERE number LIKE 'V%'"
    );
    sql(server, &make).await;
}

#[tokio::test]
async fn an_export_that_broke_off_goes_on() {
    const CASES: usize = 2_500;
    let server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    let empty = pb::ExportWinbackCasesRequest::default();
    let only = parts(&client, empty.clone(), 9).await.unwrap();
    assert_eq!(only.len(), 1, "the headings alone");
    many(&server, CASES).await;
    for order_by in [
        "",
        "customer",
        "at_stake desc, customer_group",
        "last_order_brand",
    ] {
        let request = pb::ExportWinbackCasesRequest {
            order_by: order_by.into(),
            ..Default::default()
        };
        let whole = parts(&client, request.clone(), 99).await.unwrap();
        assert!(whole.len() >= 3, "{}", whole.len());
        let mut walked = parts(&client, request.clone(), 1).await.unwrap();
        while !walked.last().unwrap().cursor.is_empty() {
            let resumed = pb::ExportWinbackCasesRequest {
                cursor: walked.last().unwrap().cursor.clone(),
                ..request.clone()
            };
            walked.extend(parts(&client, resumed, 1).await.unwrap());
        }
        let text = |parts: &[pb::ExportWinbackCasesResponse]| {
            let bytes: Vec<u8> = parts.iter().flat_map(|p| p.csv.to_vec()).collect();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(text(&walked), text(&whole));
        let lines = rows(text(&whole).trim_start_matches('\u{feff}'), b';');
        let mut numbers: Vec<&String> = lines.iter().map(|row| &row["Kundennummer"]).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!((lines.len(), numbers.len()), (CASES, CASES));

        // A cursor is of one export alone.
        let cursor = whole[0].cursor.clone();
        let others = [
            pb::ExportWinbackCasesRequest {
                tile: Tile::Mailed.into(),
                ..request.clone()
            },
            pb::ExportWinbackCasesRequest {
                separator: CsvSeparator::Comma.into(),
                ..request.clone()
            },
            pb::ExportWinbackCasesRequest {
                filter: "at_stake > 0".into(),
                ..request.clone()
            },
        ];
        for other in others {
            let other = pb::ExportWinbackCasesRequest {
                cursor: cursor.clone(),
                ..other
            };
            refused::names(&parts(&client, other, 1).await.unwrap_err(), &["cursor"]);
        }
    }
}

#[tokio::test]
async fn an_export_whose_server_stops_is_told_so_and_goes_on_at_the_next_one() {
    let mut server = TestServer::start().await.unwrap();
    let client = shop(&server).await;
    many(&server, 5_500).await;
    let request = pb::ExportWinbackCasesRequest::default();
    let whole = parts(&client, request.clone(), 99).await.unwrap();
    assert!(whole.len() >= 5, "{}", whole.len());
    // Who takes little at a time has the server wait with what comes next.
    let slow = Endpoint::try_from(format!("http://{}", server.addr)).unwrap();
    let slow = slow.initial_stream_window_size(1_024).connect().await;
    let slow = Client::over(slow.unwrap(), Some("linden"), None).unwrap();
    let mut winback = slow.winback_cases();
    let stream = winback.export_winback_cases(request.clone()).await;
    let mut stream = stream.unwrap().into_inner();
    let mut walked = vec![stream.message().await.unwrap().unwrap()];
    server.signal("TERM").unwrap();
    until_stopping(&server).await;
    // What is left then goes on for five seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let status = loop {
        match stream.message().await {
            Ok(part) => walked.push(part.expect("it is not over")),
            Err(status) => break status,
        }
    };
    refused::is(&status, Code::Unavailable, "UNAVAILABLE");
    assert!(walked.len() < whole.len(), "{}", walked.len());
    assert_eq!(server.terminate().await.unwrap().code(), Some(0));
    assert!(!server.log().contains("closing them"), "{}", server.log());

    server.restart().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let resumed = pb::ExportWinbackCasesRequest {
        cursor: walked.last().unwrap().cursor.clone(),
        ..request
    };
    walked.extend(parts(&client, resumed, 99).await.unwrap());
    let text = |parts: &[pb::ExportWinbackCasesResponse]| -> Vec<u8> {
        parts.iter().flat_map(|part| part.csv.to_vec()).collect()
    };
    assert_eq!(text(&walked), text(&whole));
}
