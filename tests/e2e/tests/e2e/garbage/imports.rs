//! Files to import: bent, cut into parts anywhere, and said to be something else.

use anklang_proto::anklang::imports::v1::{self as pb, ImportResponse};
use anklang_testkit::{Client, TestServer};
use pb::import_request::Part;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::timeout;
use tonic::Status;

use super::{ANSWER, Series, Words, fault, is_well, number, scramble};
use crate::imports::{FILES, sums};
use crate::raw::Raw;
use crate::refused;

/// Imports in the short series.
const FEW: usize = 150;
/// Bytes of a row that is there very many times, all together.
const MANY: usize = 1 << 20;
/// Pieces of a file, at most.
const PIECES: usize = 20;

/// Puts something else into one field of a line.
fn bend_field(line: &mut String, words: &Words, rng: &mut ChaCha8Rng) {
    let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
    let at = rng.random_range(0..fields.len());
    fields[at] = match rng.random_range(0..4) {
        0 => format!("\"{}\"", words.any(rng).replace('"', "\"\"")),
        1 => number(rng).to_string(),
        _ => words.any(rng),
    };
    *line = fields.join(",");
}

/// The lines of a file, some of which are wrong.
fn bent(csv: &str, words: &Words, rng: &mut ChaCha8Rng) -> Vec<String> {
    let mut lines: Vec<String> = csv.lines().map(str::to_owned).collect();
    for _ in 0..rng.random_range(0..5) {
        let at = rng.random_range(0..lines.len());
        match rng.random_range(0..8) {
            0 => {
                let again = lines[at].clone();
                lines.insert(at, again);
            }
            1 => lines.swap(0, at),
            2 => lines[at].insert(0, '"'),
            3 => {
                let other = *[";", "\t", "\"", ",,", ""].choose(rng).unwrap();
                lines[at] = lines[at].replace(',', other);
            }
            // Very many fields, or rows.
            4 => lines[at] += &",x".repeat(rng.random_range(1..2_000)),
            5 => {
                let again = lines[at].clone();
                // Now and then thousands.
                let most = *[50, 50, 50, 3_000].choose(rng).unwrap();
                let most = (MANY / (again.len() + 1)).clamp(1, most);
                lines.extend(vec![again; rng.random_range(1..=most)]);
            }
            _ => bend_field(&mut lines[at], words, rng),
        }
    }
    lines
}

/// A file in pieces, cut anywhere.
fn pieces(lines: &[String], rng: &mut ChaCha8Rng) -> Vec<Part> {
    let end = *["\n", "\n", "\r\n", "\r", "\n\n"].choose(rng).unwrap();
    let mut bytes = (lines.join(end) + end).into_bytes();
    match rng.random_range(0..6) {
        0 => scramble(&mut bytes, rng),
        1 => bytes.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        // Half a UTF-8 character at the end.
        2 => bytes.push(0xc3),
        _ => {}
    }
    let mut parts = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let least = rest.len().min(bytes.len() / PIECES + 1);
        let (piece, more) = rest.split_at(rng.random_range(least..=rest.len()));
        parts.push(Part::Csv(piece.to_vec().into()));
        rest = more;
    }
    if rng.random_range(0..8) == 0 {
        parts.push(Part::Csv(Vec::new().into()));
    }
    parts
}

/// A file as rows of values, and the columns that they have.
fn rows(lines: &[String]) -> (Vec<String>, Part) {
    let values = |line: &String| -> Vec<String> { line.split(',').map(str::to_owned).collect() };
    let rows = lines.iter().skip(1);
    let rows = rows.map(|line| pb::Row {
        values: values(line),
    });
    let columns = lines.first().map(values).unwrap_or_default();
    let rows = rows.collect();
    (columns, Part::Rows(pb::Rows { rows }))
}

/// All that is sent of an import.
fn import(words: &Words, rng: &mut ChaCha8Rng) -> Vec<Part> {
    let (entity, csv) = *FILES.choose(rng).unwrap();
    let lines = bent(csv, words, rng);
    let mut header = pb::ImportHeader {
        entity: match rng.random_range(0..10) {
            0 => rng.random_range(-1..20),
            _ => entity.into(),
        },
        delimiter: match rng.random_range(0..6) {
            0 => [";", "\t", "ab", "\0", "\"", "\n", "ß"]
                .choose(rng)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            _ => String::new(),
        },
        validate_only: rng.random_bool(0.2),
        ..Default::default()
    };
    if rng.random_range(0..8) == 0 {
        header.resume_from = Some(pb::ImportCheckpoint {
            line: number(rng),
            offset: number(rng),
            columns: rows(&lines).0,
        });
    }
    let mut parts = match rng.random_range(0..4) {
        0 => {
            let (columns, rows) = rows(&lines);
            header.columns = columns;
            vec![rows]
        }
        _ => pieces(&lines, rng),
    };
    match rng.random_range(0..25) {
        0 => parts.push(Part::Header(header)),
        1 => parts.extend([Part::Header(header.clone()), Part::Header(header)]),
        2 => {
            parts.push(rows(&lines).1);
            parts.insert(0, Part::Header(header));
            parts.shuffle(rng);
        }
        _ => parts.insert(0, Part::Header(header)),
    }
    parts
}

/// Sends an import; gives what was said last.
async fn send(client: &Client, parts: Vec<Part>) -> Result<Option<ImportResponse>, Status> {
    let requests = parts
        .into_iter()
        .map(|part| pb::ImportRequest { part: Some(part) });
    let requests: Vec<_> = requests.collect();
    let requests = tonic::codegen::tokio_stream::iter(requests);
    let mut responses = client.imports().import(requests).await?.into_inner();
    let mut last = None;
    while let Some(response) = responses.message().await? {
        for error in &response.errors {
            assert!(error.line >= 1 && !error.reason.is_empty(), "{error:?}");
        }
        last = Some(response);
    }
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_imported_is_counted_or_refused() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    for (entity, csv) in FILES {
        let response = client.import(entity, csv).await.unwrap();
        assert_eq!(response.errors, [], "{entity:?}");
    }
    let files = FILES.map(|(_, csv)| csv);
    let fields = files.iter().flat_map(|csv| csv.split([',', '\n']));
    let words = Words {
        seen: fields.map(str::to_owned).collect(),
    };
    let mut faults = Vec::new();
    let mut series = Series::of(FEW);
    let (mut counted, mut refused) = (0, 0);
    for n in 0.. {
        if !series.has(n) {
            break;
        }
        let parts = import(&words, &mut series.rng);
        let fault = match timeout(ANSWER, send(&client, parts.clone())).await {
            Err(_) => Some(format!("no answer within {ANSWER:?}")),
            Ok(Err(status)) => {
                refused += 1;
                fault(&status)
            }
            Ok(Ok(None)) => Some("ended without a word".to_owned()),
            Ok(Ok(Some(last))) => {
                // Every row is told as something.
                sums(&last);
                counted += 1;
                None
            }
        };
        if let Some(fault) = fault {
            let mut shown = format!("{parts:?}");
            shown.truncate(shown.floor_char_boundary(2_000));
            faults.push(format!("{n}: {shown}\n  {fault}"));
        }
    }
    series.had("counted", counted);
    series.had("refused", refused);
    is_well(&server, &Raw::connect(server.addr).await, &faults).await;
}

#[tokio::test]
async fn a_place_that_no_file_has_is_no_checkpoint() {
    let server = TestServer::start().await.unwrap();
    let client = server.client("linden").await.unwrap();
    let columns: Vec<String> = ["code", "name", "sender_email"].map(str::to_owned).to_vec();
    for (line, offset, field) in [(i64::MAX, 9, "line"), (3, i64::MAX, "offset")] {
        let header = pb::ImportHeader {
            entity: pb::ImportEntity::Brands.into(),
            resume_from: Some(pb::ImportCheckpoint {
                line,
                offset,
                columns: columns.clone(),
            }),
            ..Default::default()
        };
        let refused = client.import_with(header, "a,A,a@b.example\n").await;
        let field = format!("header.resume_from.{field}");
        refused::names(&refused.unwrap_err(), &[&field]);
    }
    // The same of rows.
    let header = pb::ImportHeader {
        entity: pb::ImportEntity::Brands.into(),
        columns: columns.clone(),
        resume_from: Some(pb::ImportCheckpoint {
            line: i64::MAX,
            ..Default::default()
        }),
        ..Default::default()
    };
    let values = columns;
    let rows = pb::Rows {
        rows: vec![pb::Row { values }],
    };
    let refused = send(&client, vec![Part::Header(header), Part::Rows(rows)]).await;
    refused::names(&refused.unwrap_err(), &["header.resume_from.line"]);
}
