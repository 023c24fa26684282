//! Bundles the documents of an outbound for the printer: print files in the order of the audience,
//! which is that of the offers' numbers, then the index.
//!
//! An operation of its own, which the last chunk of a launch asks for: sending does not wait for it,
//! and cancelling it takes no offer back.
//!
//! # Guarantees
//! - What is left to do follows from the rows: each print file goes on behind the last letter of the
//!   one before. Its row and the places of its letters are written in one transaction, once it lies
//!   in the document store. Killed in between, the file is made again, under another name: a server
//!   that comes back late cannot change what was recorded. What nobody recorded is removed at the end.
//! - Constant memory: one letter is read and copied at a time, while the next ones are fetched; a file
//!   goes to the store piece by piece. What grows with a print file is told in
//!   [`anklang_render::print_file`], and a file has a configured number of letters at most.
//! - Of the offers that are open or accepted when their file is made. Letters of those that are
//!   rejected, expired or withdrawn by then are left out of print files and index. A cancelled or
//!   failed phase ends the operation; whole files stay recorded.
//! - Nobody waits for a large bundle: between two files it lets operations go first that are due.

use std::collections::BTreeSet;

use anklang_domain::{OperationId, PhaseId, TenantId};
use anklang_render::print_file::{self, Info};
use anklang_render::{PrintFile, Standard};
use anklang_store::bundle::{self as rows, File, INDEX, Outbound};
use anklang_store::document::{self, Letter};
use anklang_store::operation::{self, End, Leased, NewOperation, Operation, Progress};
use anklang_store::{Conn, StoreError};
use chrono::Utc;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

mod index;
mod remake;

pub use index::pdf_name;
pub use remake::{Remade, remake};

use super::App;
use super::launch::{keep_lease, store_trouble};
use super::operations::Interrupted;
use crate::documents::{Stored, Writing};
use crate::grpc::documents::outbound_resource;
use crate::telemetry::meters;

/// Kind of the operation.
pub const KIND: &str = "MakeBundle";

/// Letters that are looked up at once.
const LETTERS_PER_PAGE: i64 = 500;
/// Letters that are fetched while one is copied.
const LETTERS_AHEAD: usize = 8;
/// Bytes that are gathered before they go to the store.
const PIECE: usize = 1024 * 1024;

/// What the worker needs to know; stored with the operation.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    /// The outbound.
    outbound: Uuid,
}

/// The outbound that an operation bundles, if it does.
fn outbound_of(operation: &Operation) -> Option<Uuid> {
    let plan: Plan = serde_json::from_value(operation.request.clone()).ok()?;
    (operation.kind == KIND).then_some(plan.outbound)
}

/// Asks for the bundle of a phase just launched, in the launch's transaction. `None` when it is there
/// already.
pub async fn of_phase(
    conn: &mut Conn,
    tenant: TenantId,
    phase: PhaseId,
) -> Result<Option<Uuid>, StoreError> {
    let outbound = rows::of_phase(conn, tenant, phase)
        .await?
        .ok_or_else(|| StoreError::Stored("a phase without outbound".into()))?;
    let asked = ask(conn, tenant, &outbound).await?;
    Ok(asked.map(|operation| operation.id))
}

/// Asks for the bundle of an outbound. `None` when it is being made or ready.
pub async fn ask(
    conn: &mut Conn,
    tenant: TenantId,
    outbound: &Outbound,
) -> Result<Option<Operation>, StoreError> {
    let id = OperationId::new();
    if !rows::begin(conn, tenant, outbound.id, id).await? {
        return Ok(None);
    }
    let new = NewOperation {
        id,
        kind: KIND,
        resource: outbound_resource(outbound),
        request: serde_json::json!(Plan {
            outbound: outbound.id
        }),
    };
    operation::create(conn, tenant, new).await.map(Some)
}

/// Writes down that a bundle's operation ended without it.
pub async fn ended(conn: &mut Conn, held: &Leased, end: &End) -> Result<(), StoreError> {
    let Some(outbound) = outbound_of(&held.operation) else {
        return Ok(());
    };
    let state = match end {
        End::Succeeded(_) => "ready",
        End::Cancelled => "cancelled",
        End::Failed { .. } => "failed",
    };
    let (tenant, operation) = (held.operation.tenant(), held.operation.id);
    rows::end(conn, tenant, outbound, operation, state).await
}

/// One bundle under way.
struct Bundle<'a> {
    app: &'a App,
    held: &'a mut Leased,
    stop: &'a CancellationToken,
    outbound: Outbound,
}

/// Makes what is missing of a bundle.
pub async fn run(
    app: &App,
    held: &mut Leased,
    stop: &CancellationToken,
) -> Result<(), Interrupted> {
    loop {
        let outbound = load(app, held).await?;
        if held.operation.cancel_requested || !outbound.is_wanted() {
            return Err(Interrupted::Cancelled);
        }
        if stop.is_cancelled() {
            return Err(Interrupted::Stopping);
        }
        let _measured = meters::chunk(&held.operation);
        let step = held.operation.step.clone();
        let mut bundle = Bundle {
            app,
            held,
            stop,
            outbound,
        };
        match &step[..] {
            "" | "print_files" => bundle.make_print_file().await?,
            "index" => bundle.make_index().await?,
            "clean_up" => bundle.clean_up().await?,
            "finished" => return Ok(()),
            step => {
                return Err(Interrupted::Hopeless {
                    reason: "INTERNAL",
                    message: format!("the step {step} is not known to this version"),
                });
            }
        }
    }
}

async fn load(app: &App, held: &Leased) -> Result<Outbound, Interrupted> {
    let missing = || Interrupted::Hopeless {
        reason: "INTERNAL",
        message: "the outbound is not there any more".into(),
    };
    let id = outbound_of(&held.operation).ok_or_else(missing)?;
    let tx = app.store.begin(held.operation.tenant()).await?;
    let found = rows::get(&tx, held.operation.tenant(), id).await?;
    tx.commit().await?;
    found.ok_or_else(missing)
}

/// A print file that lies in the store.
struct Made {
    file: File,
    letters: Vec<(Uuid, i32)>,
}

impl Bundle<'_> {
    fn tenant(&self) -> TenantId {
        self.held.operation.tenant()
    }

    /// Where a file lies in the store: nobody else ever writes there.
    fn path(&self, name: &str) -> Path {
        let Operation { id, attempt, .. } = &self.held.operation;
        Path::from(format!("{}/{id}-{attempt}/{name}", folder(&self.outbound)))
    }

    async fn files(&self) -> Result<Vec<File>, StoreError> {
        let mut tx = self.app.store.begin(self.tenant()).await?;
        let files = rows::files(&mut tx, self.tenant(), self.outbound.id).await?;
        tx.commit().await?;
        Ok(files)
    }

    /// Makes the next print file, or goes on to the index when no letters are left.
    async fn make_print_file(&mut self) -> Result<(), Interrupted> {
        let files = self.files().await?;
        // Cancelled after the index was made, and asked for again.
        let has_index = files.iter().any(|file| file.number == INDEX);
        let (number, after) = files
            .last()
            .map_or((1, 0), |file| (file.number + 1, file.last_seq));
        let made = match has_index {
            true => None,
            false => keep_lease(self.app, self.held, self.print_file(number, after)).await?,
        };

        let total = self.outbound.candidates;
        let mut tx = self.app.store.begin_work(self.tenant()).await?;
        let to = match &made {
            None if has_index => progress("clean_up", 0, total),
            Some(made) => {
                let (outbound, tenant) = (self.outbound.id, self.tenant());
                rows::add_file(&mut tx, tenant, outbound, &made.file, &made.letters).await?;
                progress("print_files", made.file.last_seq, total)
            }
            None => progress("index", 0, total),
        };
        operation::advance(&mut tx, self.held, to).await?;
        tx.commit().await?;
        match operation::stand_back(&self.app.store, self.held).await? {
            true => Err(Interrupted::StoodBack),
            false => Ok(()),
        }
    }

    /// Writes the print file with the letters behind a place of the audience. `None` when there are
    /// none.
    async fn print_file(&self, number: i32, after: i64) -> Result<Option<Made>, Interrupted> {
        let mut letters = self.letters(after).await?;
        if letters.is_empty() {
            return Ok(None);
        }
        let path = self.path(&file_name(number));
        let mut writing = self
            .app
            .documents
            .write(&path)
            .await
            .map_err(store_trouble)?;
        let mut page = self.page(after);
        let result = async {
            while !letters.is_empty() && !self.is_full(&page) {
                self.add(&mut page, letters, &mut writing).await?;
                letters = self.letters(page.last_seq).await?;
            }
            Ok::<(), Interrupted>(())
        };
        if let Err(error) = result.await {
            writing.abort().await;
            return Err(error);
        }
        self.complete(number, path, page, writing).await.map(Some)
    }

    /// A print file that begins.
    fn page(&self, after: i64) -> Page {
        let info = Info {
            title: format!(
                "{} – {}",
                self.outbound.campaign_name, self.outbound.phase_name
            ),
            date: self
                .outbound
                .offer_date
                .unwrap_or_else(|| Utc::now().date_naive()),
        };
        let mut out = Vec::new();
        Page {
            file: Some(PrintFile::new(info, &mut out)),
            out,
            places: Vec::new(),
            last_seq: after,
        }
    }

    fn is_full(&self, page: &Page) -> bool {
        let size = page.file.as_ref().map_or(0, PrintFile::size);
        page.places.len() >= self.app.config.documents.letters_per_print_file
            || size >= print_file::MAX_BYTES
    }

    async fn letters(&self, after: i64) -> Result<Vec<Letter>, StoreError> {
        let mut tx = self.app.store.begin_work(self.tenant()).await?;
        let phase = self.outbound.phase();
        let letters =
            document::letters(&mut tx, self.tenant(), phase, after, LETTERS_PER_PAGE).await?;
        tx.commit().await?;
        Ok(letters)
    }

    /// Copies letters into the file until it is full.
    async fn add(
        &self,
        page: &mut Page,
        letters: Vec<Letter>,
        writing: &mut Writing,
    ) -> Result<(), Interrupted> {
        let mut fetched = stream::iter(letters)
            .map(|letter| self.fetch(letter))
            .buffered(LETTERS_AHEAD);
        while !self.is_full(page) {
            if self.stop.is_cancelled() {
                return Err(Interrupted::Stopping);
            }
            let Some((letter, bytes)) = fetched.try_next().await? else {
                break;
            };
            page.copy(letter, bytes).await?;
            if page.out.len() >= PIECE {
                let piece = std::mem::take(&mut page.out);
                writing.append(piece).await.map_err(store_trouble)?;
            }
        }
        Ok(())
    }

    /// The bytes of a letter, which must be those that were recorded.
    async fn fetch(&self, letter: Letter) -> Result<(Letter, Vec<u8>), Interrupted> {
        let bytes = self.app.documents.get(&letter.sha256).await;
        let bytes = bytes.map_err(store_trouble)?;
        if Sha256::digest(&bytes)[..] != letter.sha256[..] {
            return Err(Interrupted::Other(format!(
                "document {}: other bytes lie in the document store",
                hex::encode(&letter.sha256)
            )));
        }
        Ok((letter, bytes.into()))
    }

    async fn complete(
        &self,
        number: i32,
        path: Path,
        mut page: Page,
        mut writing: Writing,
    ) -> Result<Made, Interrupted> {
        let file = page.file.take().ok_or_else(panicked)?;
        let pages = file.pages();
        let (standard, out) = tokio::task::spawn_blocking(move || {
            let mut out = page.out;
            (file.finish(&mut out), out)
        })
        .await
        .map_err(|_| panicked())?;
        writing.append(out).await.map_err(store_trouble)?;
        let stored = writing.finish().await.map_err(store_trouble)?;
        let mut file = recorded(number, &path, &stored, page.places.len());
        file.pages = pages.into();
        file.standard = standard.as_str().into();
        file.last_seq = page.last_seq;
        Ok(Made {
            file,
            letters: page.places,
        })
    }

    async fn make_index(&mut self) -> Result<(), Interrupted> {
        let path = self.path(INDEX_NAME);
        let making = index::write(self.app, self.tenant(), &self.outbound, &path);
        let (stored, letters) = keep_lease(self.app, self.held, making).await?;
        let mut file = recorded(INDEX, &path, &stored, letters);
        file.standard = "CSV".into();
        file.last_seq = self.outbound.candidates;
        let mut tx = self.app.store.begin_work(self.tenant()).await?;
        rows::add_file(&mut tx, self.tenant(), self.outbound.id, &file, &[]).await?;
        let total = self.outbound.candidates;
        operation::advance(&mut tx, self.held, progress("clean_up", 0, total)).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Removes what earlier attempts left in the store; then the bundle is ready.
    async fn clean_up(&mut self) -> Result<(), Interrupted> {
        let keep: BTreeSet<String> = self.files().await?.into_iter().map(|f| f.path).collect();
        let folder = Path::from(folder(&self.outbound));
        let removing = async {
            self.app
                .documents
                .keep_only(&folder, &keep)
                .await
                .map_err(store_trouble)
        };
        keep_lease(self.app, self.held, removing).await?;
        let total = self.outbound.candidates;
        let mut tx = self.app.store.begin(self.tenant()).await?;
        operation::advance(&mut tx, self.held, progress("finished", total, total)).await?;
        let end = End::Succeeded(serde_json::json!({}));
        ended(&mut tx, self.held, &end).await?;
        operation::finish(&mut tx, self.held, end).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// A print file being written, and what was not sent to the store yet.
struct Page {
    /// Always there but while a letter is copied.
    file: Option<PrintFile>,
    out: Vec<u8>,
    places: Vec<(Uuid, i32)>,
    last_seq: i64,
}

impl Page {
    /// Copies a letter, off the threads that serve.
    async fn copy(&mut self, letter: Letter, bytes: Vec<u8>) -> Result<(), Interrupted> {
        let mut file = self.file.take().ok_or_else(panicked)?;
        let mut out = std::mem::take(&mut self.out);
        let standard = match letter.standard == Standard::Archival.as_str() {
            true => Standard::Archival,
            false => Standard::Plain,
        };
        let (file, out, place) = tokio::task::spawn_blocking(move || {
            let place = file.add(bytes, standard, &mut out);
            (file, out, place)
        })
        .await
        .map_err(|_| panicked())?;
        (self.file, self.out) = (Some(file), out);
        // It would fail the same way the next time.
        let place = place.map_err(|e| Interrupted::Hopeless {
            reason: "INTERNAL",
            message: format!("document {}: {e}", hex::encode(&letter.sha256)),
        })?;
        let first_page = i32::try_from(place.first_page).unwrap_or(i32::MAX);
        self.places.push((letter.offer_id, first_page));
        self.last_seq = letter.seq;
        Ok(())
    }
}

/// Name of the index.
pub const INDEX_NAME: &str = "index.csv";

/// What a print file is called.
pub fn file_name(number: i32) -> String {
    format!("print-{number:05}.pdf")
}

/// Where all files of an outbound's bundle lie.
fn folder(outbound: &Outbound) -> String {
    format!("bundles/{}", outbound.id)
}

fn recorded(number: i32, path: &Path, stored: &Stored, letters: usize) -> File {
    File {
        number,
        path: path.to_string(),
        sha256: stored.sha256.to_vec(),
        size_bytes: i64::try_from(stored.size).unwrap_or(i64::MAX),
        letters: i64::try_from(letters).unwrap_or(i64::MAX),
        pages: 0,
        standard: String::new(),
        last_seq: 0,
        created_at: Utc::now(),
    }
}

fn progress(step: &str, done: i64, total: i64) -> Progress<'_> {
    Progress {
        step,
        done,
        total,
        failed: 0,
    }
}

fn panicked() -> Interrupted {
    Interrupted::Other("copying a letter panicked; see the log".into())
}
