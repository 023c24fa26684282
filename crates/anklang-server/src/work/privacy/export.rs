//! Gathers what there is about a person into a file.
//!
//! All rows are of one moment, of a transaction that only reads: row by row they go into a temporary file without a
//! name, and from there into the document store when the transaction is over, so that memory is bounded by a row and a
//! piece of the file, and a slow store holds no transaction open. The file is on the list of those to be deleted until
//! the transaction that records it; killed in between, it is made again under another name.

use anklang_domain::name;
use anklang_store::operation::{self, End, Leased};
use anklang_store::privacy::export::{self, Letter};
use anklang_store::privacy::request;
use anklang_store::privacy::{self, Counts, Subject, file};
use chrono::{SecondsFormat, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::{request_of, subject_of};
use crate::documents::{Stored, Writing};
use crate::telemetry::meters;
use crate::work::App;
use crate::work::bundle::pdf_name;
use crate::work::launch::{keep_lease, progress, store_trouble};
use crate::work::operations::Interrupted;

/// Kind of the operation.
pub const KIND: &str = "ExportPersonalData";

/// How long the file can be downloaded.
const KEPT: TimeDelta = TimeDelta::days(7);
/// Bytes that are written at once.
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
    let made = request::File {
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
    let mut out = Out {
        file: File::from_std(tempfile::tempfile().map_err(disk_trouble)?),
        text: Vec::new(),
    };
    let counts = tell(app, subject, &mut out).await?;
    let file = out.finish().await?;
    let writing = app.documents.write(&Path::from(path)).await;
    let mut writing = writing.map_err(store_trouble)?;
    match send(file, &mut writing).await {
        Ok(()) => Ok((writing.finish().await.map_err(store_trouble)?, counts)),
        Err(error) => {
            writing.abort().await;
            Err(error)
        }
    }
}

/// Sends a file to the document store, piece by piece.
async fn send(file: File, writing: &mut Writing) -> Result<(), Interrupted> {
    let mut pieces = ReaderStream::with_capacity(file, PIECE);
    while let Some(piece) = pieces.try_next().await.map_err(disk_trouble)? {
        writing.append(piece.into()).await.map_err(store_trouble)?;
    }
    Ok(())
}

/// It may be full.
fn disk_trouble(error: std::io::Error) -> Interrupted {
    Interrupted::Other(format!("a temporary file: {error}"))
}

/// Writes the object, a row to a line.
async fn tell(app: &App, subject: &Subject, out: &mut Out) -> Result<Counts, Interrupted> {
    let mut counts = Counts::new();
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    out.add("{\n\"customer\": ", &subject.resource()).await?;
    out.add(",\n\"create_time\": ", &now).await?;
    out.text.extend_from_slice(b",\n\"tables\": {");
    let mut tx = app.store.begin_snapshot(subject.tenant).await?;
    for table in export::told() {
        let mut n = 0;
        let mut rows = export::rows(&mut tx, subject, table).await?;
        while let Some(row) = rows.try_next().await? {
            if n == 0 {
                let comma = if counts.is_empty() { "\n" } else { ",\n" };
                out.add(comma, table.name).await?;
            }
            out.add(if n == 0 { ": [\n" } else { ",\n" }, &row).await?;
            n += 1;
        }
        if n > 0 {
            out.text.push(b']');
            counts.insert(table.name.to_owned(), n);
        }
    }
    let letters = export::letters(&mut tx, subject).await?;
    tx.commit().await?;
    let files: Vec<Value> = letters.iter().map(told_file).collect();
    out.add("\n},\n\"files\": ", &files).await?;
    out.text.extend_from_slice(b"\n}\n");
    Ok(counts)
}

fn told_file(letter: &Letter) -> Value {
    json!({
        "name": format!("{}/document", name::format(&[("offers", &letter.offer_number)])),
        "file_name": pdf_name(&letter.offer_number),
        "sha256": hex::encode(&letter.sha256),
        "size_bytes": letter.size_bytes,
    })
}

/// The temporary file, and what of its text is not in it yet.
struct Out {
    file: File,
    text: Vec<u8>,
}

impl Out {
    /// Adds a text and a value.
    async fn add(
        &mut self,
        text: &str,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), Interrupted> {
        self.text.extend_from_slice(text.as_bytes());
        serde_json::to_writer(&mut self.text, value)
            .map_err(|e| Interrupted::Other(e.to_string()))?;
        if self.text.len() >= PIECE {
            self.file
                .write_all(&self.text)
                .await
                .map_err(disk_trouble)?;
            self.text.clear();
        }
        Ok(())
    }

    /// The file, to be read from its beginning.
    async fn finish(mut self) -> Result<File, Interrupted> {
        let whole = async {
            self.file.write_all(&self.text).await?;
            self.file.flush().await?;
            self.file.rewind().await
        };
        whole.await.map_err(disk_trouble)?;
        Ok(self.file)
    }
}
