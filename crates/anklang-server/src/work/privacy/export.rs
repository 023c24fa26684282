//! Gathers what there is about a person into a file.
//!
//! All rows are of one moment; they are read into memory, which is bounded by what there can be of one customer, and
//! written when the transaction is over. The file is on the list of those to be deleted until the transaction that
//! records it; killed in between, it is made again under another name.

use anklang_domain::name;
use anklang_store::operation::{self, End, Leased};
use anklang_store::privacy::export::{self, Letter, Told};
use anklang_store::privacy::request::{self, File};
use anklang_store::privacy::{self, Counts, Subject, file};
use chrono::{SecondsFormat, TimeDelta, Utc};
use object_store::path::Path;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{request_of, subject_of};
use crate::documents::Stored;
use crate::telemetry::meters;
use crate::work::App;
use crate::work::bundle::pdf_name;
use crate::work::launch::{keep_lease, progress, store_trouble};
use crate::work::operations::Interrupted;

/// Kind of the operation.
pub const KIND: &str = "ExportPersonalData";

/// How long the file can be downloaded.
const KEPT: TimeDelta = TimeDelta::days(7);
/// Bytes that go to the document store at once.
const PIECE: usize = 1024 * 1024;

/// Runs an export to its end.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    if held.operation.cancel_requested {
        return Err(Interrupted::Cancelled);
    }
    if stop.is_cancelled() {
        return Err(Interrupted::Stopping);
    }
    let _measured = meters::chunk(&held.operation);
    let subject = subject_of(app, held).await?;
    must_be_there(&subject)?;
    let (tenant, id) = (subject.tenant, request_of(&held.operation));
    let path = format!("exports/{id}-{}.json", held.operation.attempt);
    let mut tx = app.store.begin(tenant).await?;
    let listed = file::add(&mut tx, tenant, id, &path).await?;
    tx.commit().await?;

    let (stored, counts) = keep_lease(app, held, write(app, &subject, &path)).await?;

    let mut tx = app.store.begin(tenant).await?;
    // Held: an erasure that comes now finds the file.
    let subject = privacy::hold_subject(&mut tx, &subject).await?;
    must_be_there(&subject)?;
    let made = File {
        path,
        sha256: stored.sha256,
        size_bytes: i64::try_from(stored.size).unwrap_or(i64::MAX),
        kept: KEPT,
    };
    file::remove(&mut tx, tenant, listed).await?;
    request::set_file(&mut tx, tenant, id, &made).await?;
    request::add_counts(&mut tx, tenant, id, &counts).await?;
    request::end(&mut tx, tenant, id, "done").await?;
    operation::advance(&mut tx, held, progress("finished", 1, 1, 0)).await?;
    operation::finish(&mut tx, held, End::Succeeded(json!({}))).await?;
    tx.commit().await?;
    Ok(())
}

fn must_be_there(subject: &Subject) -> Result<(), Interrupted> {
    match subject.erased_at {
        None => Ok(()),
        Some(_) => Err(Interrupted::Hopeless {
            reason: "PRECONDITION",
            message: "the customer was erased".into(),
        }),
    }
}

async fn write(app: &App, subject: &Subject, path: &str) -> Result<(Stored, Counts), Interrupted> {
    let mut tx = app.store.begin_snapshot(subject.tenant).await?;
    let told = export::rows(&mut tx, subject).await?;
    let letters = export::letters(&mut tx, subject).await?;
    tx.commit().await?;
    let count = |told: &Told| {
        let n = i64::try_from(told.rows.len()).unwrap_or(i64::MAX);
        (told.table.to_owned(), n)
    };
    let counts = told.iter().map(count).collect();
    let text = serde_json::to_vec_pretty(&document(subject, told, &letters))
        .map_err(|e| Interrupted::Other(e.to_string()))?;
    let writing = app.documents.write(&Path::from(path)).await;
    let mut writing = writing.map_err(store_trouble)?;
    for piece in text.chunks(PIECE) {
        let appended = writing.append(piece.to_vec()).await;
        appended.map_err(store_trouble)?;
    }
    let stored = writing.finish().await.map_err(store_trouble)?;
    Ok((stored, counts))
}

fn document(subject: &Subject, told: Vec<Told>, letters: &[Letter]) -> Value {
    let tables: Map<String, Value> = told
        .into_iter()
        .map(|told| (told.table.to_owned(), Value::Array(told.rows)))
        .collect();
    let files: Vec<Value> = letters
        .iter()
        .map(|letter| {
            json!({
                "name": format!("{}/document", name::format(&[("offers", &letter.offer_number)])),
                "file_name": pdf_name(&letter.offer_number),
                "sha256": hex::encode(&letter.sha256),
                "size_bytes": letter.size_bytes,
            })
        })
        .collect();
    json!({
        "customer": subject.resource(),
        "create_time": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
        "tables": tables,
        "files": files,
    })
}
