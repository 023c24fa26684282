//! Reads rows out of CSV bytes or lists of values, by the columns that the header names.

use std::collections::BTreeSet;
use std::str::Utf8Error;

use anklang_domain::Violations;
use anklang_domain::master::{Entity, Row};
use anklang_proto::anklang::imports::v1 as pb;
use anklang_store::import::{Numbered, Read};
use prost::Message;
use sha2::{Digest, Sha256};

use super::csv::{Place, Record, Splitter};
use crate::grpc::{ApiError, ApiResult, form};

/// The most columns that are looked at: many times those that any entity has.
const MAX_COLUMNS: usize = 500;

/// Reads rows of one entity.
pub struct RowReader<R> {
    columns: Vec<String>,
    source: Source,
    received: Sha256,
    row: std::marker::PhantomData<fn() -> R>,
}

enum Source {
    /// CSV, whose first record names the columns.
    Csv {
        splitter: Box<Splitter>,
        named: bool,
    },
    /// Rows; so many came.
    Rows { count: i64 },
}

impl<R: Row> RowReader<R> {
    /// Of what the header announces.
    pub fn new(header: &pb::ImportHeader) -> ApiResult<Self> {
        let resumed = header.resume_from.as_ref();
        if let Some(checkpoint) = resumed {
            check_checkpoint(checkpoint, header.columns.is_empty())?;
        }
        let mut columns = header.columns.clone();
        let source = if columns.is_empty() {
            let delimiter = delimiter(&header.delimiter)?;
            let splitter = match resumed {
                None => Splitter::new(delimiter),
                Some(pb::ImportCheckpoint {
                    line,
                    offset,
                    columns: named,
                }) => {
                    check_columns(R::ENTITY, named, "header.resume_from.columns")?;
                    columns.clone_from(named);
                    let (line, offset) = (*line, *offset);
                    Splitter::resumed(delimiter, Place { line, offset })
                }
            };
            Source::Csv {
                splitter: Box::new(splitter),
                named: resumed.is_some(),
            }
        } else {
            check_columns(R::ENTITY, &columns, "header.columns")?;
            Source::Rows {
                count: resumed.map_or(0, |checkpoint| checkpoint.line - 1),
            }
        };
        Ok(RowReader {
            columns,
            source,
            received: Sha256::new(),
            row: std::marker::PhantomData,
        })
    }

    /// Where the first row begins that was not read yet.
    pub fn place(&self) -> Place {
        match &self.source {
            Source::Csv { splitter, .. } => splitter.place(),
            Source::Rows { count } => Place {
                line: count + 1,
                offset: 0,
            },
        }
    }

    /// A place for who wants to go on there.
    pub fn checkpoint(&self, at: Place) -> pb::ImportCheckpoint {
        pb::ImportCheckpoint {
            line: at.line,
            offset: at.offset,
            columns: match self.source {
                Source::Csv { .. } => self.columns.clone(),
                Source::Rows { .. } => Vec::new(),
            },
        }
    }

    /// The columns; none while they are not known.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// SHA-256 of all that was taken so far: of a whole file in CSV, that of the file.
    pub fn received(&self) -> [u8; 32] {
        self.received.clone().finalize().into()
    }

    /// Takes the next bytes of the CSV.
    pub fn csv(&mut self, bytes: &[u8]) -> ApiResult<Vec<Numbered<Read<R>>>> {
        let Source::Csv { splitter, .. } = &mut self.source else {
            return Err(ApiError::field(
                "csv",
                "the header names columns: send rows",
            ));
        };
        self.received.update(bytes);
        let mut records = Vec::new();
        let split = splitter.push(bytes, &mut records);
        let rows = self.records(&records)?;
        split.map_err(|error| ApiError::field("csv", error.to_string()))?;
        Ok(rows)
    }

    /// Takes the next rows.
    pub fn rows(&mut self, rows: &[pb::Row]) -> ApiResult<Vec<Numbered<Read<R>>>> {
        let Source::Rows { count } = &mut self.source else {
            return Err(ApiError::field(
                "rows",
                "the header names no columns: send CSV",
            ));
        };
        for row in rows {
            self.received.update(row.encode_length_delimited_to_vec());
        }
        let first = *count + 1;
        *count += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        Ok((first..)
            .zip(rows)
            .map(|(line, row)| Numbered {
                line,
                offset: 0,
                row: read_row(&self.columns, row.values.iter().map(|v| Ok(v.as_str()))),
            })
            .collect())
    }

    /// Takes the end.
    pub fn finish(&mut self) -> ApiResult<Vec<Numbered<Read<R>>>> {
        let Source::Csv { splitter, .. } = &mut self.source else {
            return Ok(Vec::new());
        };
        let mut records = Vec::new();
        splitter
            .finish(&mut records)
            .map_err(|error| ApiError::field("csv", error.to_string()))?;
        let rows = self.records(&records)?;
        if self.columns.is_empty() {
            return Err(ApiError::field(
                "csv",
                "is empty; its first line must name the columns",
            ));
        }
        Ok(rows)
    }

    fn records(&mut self, records: &[Record]) -> ApiResult<Vec<Numbered<Read<R>>>> {
        let mut records = records.iter();
        if let Source::Csv {
            named: named @ false,
            ..
        } = &mut self.source
        {
            let Some(header) = records.next() else {
                return Ok(Vec::new());
            };
            *named = true;
            let names = header
                .fields()
                .map(|name| std::str::from_utf8(name).map(|name| name.trim().to_owned()));
            self.columns = names
                .collect::<Result<_, _>>()
                .map_err(|_| ApiError::field("csv", "the header line is not UTF-8"))?;
            check_columns(R::ENTITY, &self.columns, "csv")?;
        }
        Ok(records
            .map(|record| Numbered {
                line: record.place.line,
                offset: record.place.offset,
                row: read_row(&self.columns, record.fields().map(std::str::from_utf8)),
            })
            .collect())
    }
}

/// Reads one row.
fn read_row<'v, R: Row>(
    columns: &[String],
    values: impl ExactSizeIterator<Item = Result<&'v str, Utf8Error>>,
) -> Read<R> {
    let mut violations = Violations::new();
    if values.len() != columns.len() {
        let reason = format!(
            "has {} values, but there are {} columns",
            values.len(),
            columns.len()
        );
        violations.add("", reason);
        return Err(violations);
    }
    let mut texts = Vec::with_capacity(columns.len());
    for (column, value) in columns.iter().zip(values) {
        match value {
            Ok(text) => texts.push(text),
            Err(error) => violations.add(
                column,
                format!(
                    "is not UTF-8 (at byte {} of the value); save the file as UTF-8",
                    error.valid_up_to() + 1
                ),
            ),
        }
    }
    violations.finish(())?;
    R::parse(&|name| {
        let column = columns.iter().position(|column| column == name)?;
        texts.get(column).copied()
    })
}

/// Refuses a checkpoint that no response has told.
fn check_checkpoint(checkpoint: &pb::ImportCheckpoint, csv: bool) -> ApiResult<()> {
    let mut violations = Violations::new();
    let at = |field: &str| format!("header.resume_from.{field}");
    if checkpoint.line < 1 + i64::from(csv) {
        violations.add(at("line"), "must be that of a checkpoint");
    }
    if checkpoint.offset < 0 || (checkpoint.offset == 0) == csv {
        violations.add(at("offset"), "must be that of a checkpoint");
    }
    if !csv && !checkpoint.columns.is_empty() {
        violations.add(at("columns"), "must be empty: the header names the columns");
    }
    Ok(violations.finish(())?)
}

/// Refuses columns that are missing, not known or named twice: all of them, when they are not absurdly many.
fn check_columns(entity: Entity, columns: &[String], field: &str) -> ApiResult<()> {
    let mut violations = Violations::new();
    form::at_most(&mut violations, field, columns.len(), MAX_COLUMNS);
    let mut violations = violations.finish(Violations::new())?;
    let (required, optional) = (entity.required_columns(), entity.optional_columns());
    let all = [required, optional].concat();
    let mut named = BTreeSet::new();
    for column in columns {
        let known = all.contains(&column.as_str());
        if !named.insert(column.as_str()) {
            violations.add(field, format!("the column {column:?} is there twice"));
        } else if !known && columns.len() == 1 && column.contains([',', ';', '\t', '|']) {
            let reason = "the first line is a single column; is the delimiter another one?";
            violations.add(field, reason);
        } else if !known {
            let all = all.join(", ");
            violations.add(
                field,
                format!(
                    "the column {column:?} is not known; {} have {all}",
                    entity.name()
                ),
            );
        }
    }
    for column in required {
        if !named.contains(column) {
            violations.add(field, format!("the column {column:?} is missing"));
        }
    }
    Ok(violations.finish(())?)
}

fn delimiter(delimiter: &str) -> ApiResult<u8> {
    match delimiter {
        "" | "," => Ok(b','),
        ";" => Ok(b';'),
        "\t" => Ok(b'\t'),
        "|" => Ok(b'|'),
        _ => Err(ApiError::field(
            "header.delimiter",
            "must be a comma, a semicolon, a tab or a vertical bar",
        )),
    }
}
