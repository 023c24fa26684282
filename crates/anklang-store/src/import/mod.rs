//! Bulk import of master data, and the one write path of all master data.
//!
//! A chunk of rows is one transaction: the rows go by `COPY` into a temporary table (`copy.rs`),
//! and one statement per table (`load.rs`) resolves references, reports and leaves out rows with
//! unknown ones, and inserts or updates the rest by the tenant's own numbers. Rows that are here
//! already, just so, are not written anew. A single update (`single.rs`) is the same statement over
//! bound arrays, in a transaction with all else that belongs to it.
//!
//! Two chunks at once do not deadlock: rows are written in the order of their keys. After a large
//! import the statistics of its tables are gathered anew: the planner would else take a new tenant
//! for an empty one. Each chunk that is committed has an entry in the audit log, in its transaction.

mod copy;
mod load;
mod single;

use std::collections::HashMap;
use std::collections::HashSet;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use anklang_domain::master::Key;
use anklang_domain::{TenantId, Violations};
use tokio_postgres::error::SqlState;

pub use load::{Load, Loaded, Spec};
pub(crate) use load::{Reference, bytes, date, decimal, flag, int, text, text_or_null, time};
pub(crate) use single::{all, id_of, one};

use crate::audit::{self, Counts, Deed};
use crate::{Result, Store, StoreError};

/// The most rows in a chunk.
pub const CHUNK: usize = 10_000;

/// An import that writes so many rows has the statistics gathered anew.
const MANY: i64 = 10_000;

/// Chunks of one import that are written at the same time; each keeps a core of the database busy.
const AT_ONCE: usize = 2;

/// How often a chunk is tried when it runs into another transaction.
const TRIES: usize = 3;

/// A row as it was read: with all that is wrong with it, if it is wrong.
pub type Read<R> = std::result::Result<R, Violations>;

/// A row and the line on which it stands.
#[derive(Debug, Clone)]
pub struct Numbered<R> {
    /// Line in the file, from 1.
    pub line: i64,
    /// Bytes of the file before it; 0 when it comes from no file.
    pub offset: i64,
    /// The row.
    pub row: R,
}

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1.
    pub line: i64,
    /// The column; empty when the row as a whole is meant.
    pub field: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// Sums of an import since its start; `rows` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Rows whose fate is decided.
    pub rows: i64,
    /// Rows that made something new.
    pub created: i64,
    /// Rows that changed something.
    pub updated: i64,
    /// Rows that were here already, just so.
    pub unchanged: i64,
    /// Rows that were refused.
    pub failed: i64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.rows += other.rows;
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.failed += other.failed;
    }
}

/// The import of one file. Remembers the keys of its rows: about 40 MB per million.
pub struct Session<R> {
    writer: Arc<ChunkWriter<R>>,
    seen: HashMap<Key, i64>,
}

/// Writes chunks of an import, each in one transaction.
pub struct ChunkWriter<R> {
    store: Store,
    tenant: TenantId,
    given: HashSet<String>,
    validate_only: bool,
    rows: std::marker::PhantomData<fn(R)>,
}

/// Rows that are ready to be written, and those that are not.
pub struct Chunk<R> {
    good: Vec<Numbered<R>>,
    faults: Vec<Fault>,
    total: usize,
}

impl<R> Chunk<R> {
    /// How many of its rows are refused, when the database has said which it refuses.
    fn failed(&self, loaded: &Loaded) -> i64 {
        let faults = self.faults.iter().chain(&loaded.faults);
        let lines: HashSet<i64> = faults.map(|fault| fault.line).collect();
        count(lines.len())
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// What came of a chunk.
#[derive(Debug, Default)]
pub struct Written {
    /// Its sums.
    pub sums: Sums,
    /// What was wrong, by line.
    pub faults: Vec<Fault>,
}

impl<R: Load> Session<R> {
    /// An import of rows with the `given` columns: what the others hold stays as it is. With
    /// `validate_only` every chunk is rolled back.
    pub fn new(
        store: Store,
        tenant: TenantId,
        given: impl IntoIterator<Item = String>,
        validate_only: bool,
    ) -> Self {
        Session {
            writer: Arc::new(ChunkWriter {
                store,
                tenant,
                given: given.into_iter().collect(),
                validate_only,
                rows: std::marker::PhantomData,
            }),
            seen: HashMap::new(),
        }
    }

    /// How many chunks may be written at the same time: one where a row changes others than that of
    /// its key, so that the last row of the file wins.
    pub fn at_once() -> usize {
        let changes_others = R::specs().iter().any(Spec::changes_others);
        if changes_others { 1 } else { AT_ONCE }
    }

    /// What writes its chunks.
    pub fn writer(&self) -> Arc<ChunkWriter<R>> {
        Arc::clone(&self.writer)
    }

    /// Sorts out rows that are wrong in themselves. Of rows with one key the first wins, in all
    /// chunks.
    pub fn chunk(&mut self, rows: Vec<Numbered<Read<R>>>) -> Chunk<R> {
        let total = rows.len();
        let (mut good, mut faults) = (Vec::with_capacity(rows.len()), Vec::new());
        for Numbered { line, offset, row } in rows {
            let row = match row {
                Ok(row) => row,
                Err(violations) => {
                    faults.extend(violations.into_vec().into_iter().map(|v| Fault {
                        line,
                        field: v.field,
                        reason: v.reason,
                    }));
                    continue;
                }
            };
            match self.seen.entry(row.key()) {
                Entry::Vacant(free) => {
                    free.insert(line);
                    good.push(Numbered { line, offset, row });
                }
                Entry::Occupied(first) => faults.push(Fault {
                    line,
                    field: String::new(),
                    reason: format!("repeats line {}", first.get()),
                }),
            }
        }
        Chunk {
            good,
            faults,
            total,
        }
    }

    /// Ends an import that came to these sums. After a large one the statistics of its tables are
    /// gathered anew; what is committed stays, whether or not that succeeds.
    pub async fn finish(self, sums: Sums) {
        let ChunkWriter {
            store,
            validate_only,
            ..
        } = &*self.writer;
        if !validate_only && sums.created + sums.updated >= MANY {
            let tables: Vec<&str> = R::specs().iter().map(|spec| spec.table).collect();
            if let Err(error) = store.analyze(&tables).await {
                tracing::warn!(%error, ?tables, "gathering statistics");
            }
        }
    }
}

impl<R: Load> ChunkWriter<R> {
    /// Writes a chunk of at most [`CHUNK`] rows in one transaction, and what the audit log says of it.
    /// `None`, and nothing is written, when it is not `wanted` any more once there is a connection:
    /// waiting for one may take so long that somebody has begun anew.
    pub async fn write(
        &self,
        chunk: Chunk<R>,
        deed: &Deed,
        wanted: &(impl Fn() -> bool + Sync),
    ) -> Result<Option<Written>> {
        let Some(loaded) = self.load(&chunk, deed, wanted).await? else {
            return Ok(None);
        };
        let failed = chunk.failed(&loaded);
        let mut faults = chunk.faults;
        faults.extend(loaded.faults);
        faults.sort_by_key(|fault| fault.line);
        let sums = Sums {
            rows: count(chunk.total),
            created: loaded.created,
            updated: loaded.updated,
            unchanged: count(chunk.total) - failed - loaded.created - loaded.updated,
            failed,
        };
        Ok(Some(Written { sums, faults }))
    }

    async fn load(
        &self,
        chunk: &Chunk<R>,
        deed: &Deed,
        wanted: &(impl Fn() -> bool + Sync),
    ) -> Result<Option<Loaded>> {
        if chunk.good.is_empty() {
            return Ok(Some(Loaded::default()));
        }
        let mut tries = 1;
        loop {
            match self.try_load(chunk, deed, wanted).await {
                Err(error) if tries < TRIES && is_conflict(&error) => tries += 1,
                result => return result,
            }
        }
    }

    async fn try_load(
        &self,
        chunk: &Chunk<R>,
        deed: &Deed,
        wanted: &(impl Fn() -> bool + Sync),
    ) -> Result<Option<Loaded>> {
        let mut client = self.store.bulk().await?;
        if !wanted() {
            return Ok(None);
        }
        let tx = crate::pool::begin_bulk(&mut client, self.tenant).await?;
        let loaded = copy::load(&tx, self.tenant, &chunk.good, &self.given).await?;
        if self.validate_only {
            tx.rollback().await?;
        } else {
            let counts = Counts {
                written: Some(loaded.created + loaded.updated),
                refused: Some(chunk.failed(&loaded)),
            };
            audit::record_bulk(&tx, self.tenant, deed, counts).await?;
            tx.commit().await?;
        }
        Ok(Some(loaded))
    }
}

/// True when another transaction was in the way, e.g. deleted a customer that a row refers to.
fn is_conflict(error: &StoreError) -> bool {
    let StoreError::Bulk(error) = error else {
        return false;
    };
    error.code().is_some_and(|code| {
        [
            &SqlState::T_R_SERIALIZATION_FAILURE,
            &SqlState::T_R_DEADLOCK_DETECTED,
            &SqlState::FOREIGN_KEY_VIOLATION,
        ]
        .contains(&code)
    })
}
