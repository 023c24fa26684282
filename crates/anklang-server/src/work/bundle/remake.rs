//! Makes files of bundles anew without the letters of somebody who is erased.
//!
//! The new file is on the list of those to be deleted while it is written; the transaction that puts it in the place
//! of the old one takes it off, and puts that on.

use anklang_store::StoreError;
use anklang_store::bundle::{self as rows, INDEX, Stale};
use anklang_store::document::{self, Letter};
use anklang_store::operation::{self, Leased};
use anklang_store::privacy::file;
use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Bundle, INDEX_NAME, LETTERS_AHEAD, Made, PIECE, Page, file_name, folder, index, progress,
    recorded,
};
use crate::documents::Writing;
use crate::grpc::documents::outbound_resource;
use crate::work::App;
use crate::work::launch::{keep_lease, store_trouble};
use crate::work::operations::Interrupted;

/// What was done of the files that an erasure has marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remade {
    /// One was made anew.
    One,
    /// The others are of bundles that are being made: this one is waited for.
    Waits(String),
    /// There are no more.
    All,
}

/// Makes the next file anew that the erasure has marked.
pub async fn remake(
    app: &App,
    held: &mut Leased,
    request: Uuid,
    stop: &CancellationToken,
) -> Result<Remade, Interrupted> {
    let tenant = held.operation.tenant();
    let mut tx = app.store.begin_work(tenant).await?;
    let Some(stale) = rows::next_stale(&mut tx, tenant, request).await? else {
        return Ok(Remade::All);
    };
    let outbound = rows::get(&tx, tenant, stale.outbound_id).await?;
    tx.commit().await?;
    let outbound = outbound.ok_or_else(|| StoreError::Missing("the outbound".into()))?;
    if stale.is_making {
        return Ok(Remade::Waits(format!(
            "{}/bundle",
            outbound_resource(&outbound)
        )));
    }
    let mut bundle = Bundle {
        app,
        held,
        stop,
        outbound,
    };
    bundle.replace(&stale, request).await?;
    Ok(Remade::One)
}

impl Bundle<'_> {
    async fn replace(&mut self, stale: &Stale, request: Uuid) -> Result<(), Interrupted> {
        let tenant = self.tenant();
        let name = match stale.file.number {
            INDEX => INDEX_NAME.to_owned(),
            number => file_name(number),
        };
        // A path of its own each time: one that was not recorded stays on the list.
        let path = format!(
            "{}/{request}-{}/{name}",
            folder(&self.outbound),
            Uuid::now_v7()
        );
        let path = Path::from(path);
        let mut tx = self.app.store.begin_work(tenant).await?;
        let listed = file::add(&mut tx, tenant, request, path.as_ref()).await?;
        tx.commit().await?;
        let made = match stale.file.number {
            INDEX => keep_lease(self.app, self.held, self.index_anew(&path)).await?,
            _ => keep_lease(self.app, self.held, self.print_file_anew(stale, &path)).await?,
        };

        let mut tx = self.app.store.begin_work(tenant).await?;
        let new = made.as_ref().map(|made| (&made.file, &made.letters[..]));
        if rows::remake(&mut tx, tenant, request, stale, new).await? {
            if new.is_some() {
                file::remove(&mut tx, tenant, listed).await?;
            }
            file::add(&mut tx, tenant, request, &stale.file.path).await?;
        }
        let done = self.held.operation.done + 1;
        operation::advance(&mut tx, self.held, progress("print_files", done, 0)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn index_anew(&self, path: &Path) -> Result<Option<Made>, Interrupted> {
        let (stored, lines) = index::write(self.app, self.tenant(), &self.outbound, path).await?;
        let mut file = recorded(INDEX, path, &stored, lines);
        file.standard = "CSV".into();
        Ok(Some(Made {
            file,
            letters: Vec::new(),
        }))
    }

    /// The letters that are left of a print file; `None` when there are none.
    async fn print_file_anew(
        &self,
        stale: &Stale,
        path: &Path,
    ) -> Result<Option<Made>, Interrupted> {
        let (number, phase) = (stale.file.number, self.outbound.phase());
        let mut tx = self.app.store.begin_work(self.tenant()).await?;
        let letters = document::in_print_file(&mut tx, self.tenant(), phase, number).await?;
        tx.commit().await?;
        if letters.is_empty() {
            return Ok(None);
        }
        let writing = self.app.documents.write(path).await;
        let mut writing = writing.map_err(store_trouble)?;
        let mut page = self.page(0);
        if let Err(error) = self.copy_all(&mut page, letters, &mut writing).await {
            writing.abort().await;
            return Err(error);
        }
        self.complete(number, path.clone(), page, writing)
            .await
            .map(Some)
    }

    async fn copy_all(
        &self,
        page: &mut Page,
        letters: Vec<Letter>,
        writing: &mut Writing,
    ) -> Result<(), Interrupted> {
        let mut fetched = stream::iter(letters)
            .map(|letter| self.fetch(letter))
            .buffered(LETTERS_AHEAD);
        while let Some((letter, bytes)) = fetched.try_next().await? {
            if self.stop.is_cancelled() {
                return Err(Interrupted::Stopping);
            }
            page.copy(letter, bytes).await?;
            if page.out.len() >= PIECE {
                let piece = std::mem::take(&mut page.out);
                writing.append(piece).await.map_err(store_trouble)?;
            }
        }
        Ok(())
    }
}
