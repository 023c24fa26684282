//! The document store: a folder, or a bucket of S3. Documents lie there under their SHA-256, so that
//! putting one twice changes nothing; bundles' files under the operation and attempt that made them.
//!
//! # Guarantees
//! A file is there whole or not at all, under either kind, whatever breaks meanwhile: in a folder it
//! is written beside, synchronised and renamed; S3 shows an object once it is complete. Memory is
//! bounded by 16 MiB and a part for each file that is written.
//!
//! # Trade-offs
//! Upload by parts to S3 that was broken off by a crash leaves parts that cost money until the bucket
//! removes them (a rule for incomplete uploads, see docs/documents.md).

mod s3;

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt, WriteMultipart};
use sha2::{Digest, Sha256};

use crate::config::StoreConfig;

/// Bytes of a part of a file that is written piece by piece; S3 wants at least 5 MiB and takes 10,000
/// parts: 80 GB.
const PART: usize = 8 * 1024 * 1024;
/// Parts on their way at the same time.
const PARTS_UNDER_WAY: usize = 2;

/// A store of documents. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    store: Arc<dyn ObjectStore>,
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Folder(PathBuf),
    Bucket,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The document is not there.
    #[error("{0} is not in the document store")]
    Missing(String),
    /// The store does not answer, or refuses.
    #[error("document store: {0}")]
    Store(#[from] object_store::Error),
    /// The folder.
    #[error("document store: {0}")]
    Folder(#[from] std::io::Error),
}

/// A file as it lies in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its size.
    pub size: u64,
}

impl Documents {
    /// Opens the store, and looks whether it can be written to.
    pub async fn open(config: &StoreConfig) -> anyhow::Result<Self> {
        match config {
            StoreConfig::Folder(folder) => Self::folder(folder)
                .with_context(|| format!("documents.folder {}", folder.display())),
            StoreConfig::S3(config) => {
                let bucket = s3::open(config)?;
                let store = PrefixStore::new(bucket, Path::parse(&config.prefix)?);
                let documents = Self {
                    store: Arc::new(store),
                    kind: Kind::Bucket,
                };
                s3::check(&documents, config).await?;
                Ok(documents)
            }
        }
    }

    /// A store in a local folder, which is made when it is missing.
    fn folder(folder: &FilePath) -> Result<Self, DocumentError> {
        std::fs::create_dir_all(folder)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
            kind: Kind::Folder(folder.to_owned()),
        })
    }

    /// Puts a document; when it returns, the bytes are there under their hash.
    pub async fn put(&self, sha256: &[u8], bytes: Vec<u8>) -> Result<(), DocumentError> {
        let path = path(sha256);
        // Looking is cheaper than writing to a disk, and dearer than sending it again.
        if let Kind::Folder(_) = self.kind {
            match self.store.head(&path).await {
                Ok(there) if there.size == bytes.len() as u64 => return Ok(()),
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.store.put(&path, Bytes::from(bytes).into()).await?;
        Ok(())
    }

    /// The bytes of a document.
    pub async fn get(&self, sha256: &[u8]) -> Result<Bytes, DocumentError> {
        let path = path(sha256);
        match self.store.get(&path).await {
            Ok(found) => Ok(found.bytes().await?),
            Err(error) => Err(missing(error, &path)),
        }
    }

    /// The bytes of a file from an offset on, piece by piece. The offset must be before its end.
    pub async fn read(
        &self,
        path: &Path,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, DocumentError>>, DocumentError> {
        let options = GetOptions {
            range: (offset > 0).then_some(GetRange::Offset(offset)),
            ..Default::default()
        };
        match self.store.get_opts(path, options).await {
            Ok(found) => Ok(found.into_stream().map_err(DocumentError::from).boxed()),
            Err(error) => Err(missing(error, path)),
        }
    }

    /// Begins a file that is written piece by piece. It is there when [`Writing::finish`] returns.
    pub async fn write(&self, path: &Path) -> Result<Writing, DocumentError> {
        let upload = self.store.put_multipart(path).await?;
        Ok(Writing {
            upload: WriteMultipart::new_with_chunk_size(upload, PART),
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Removes a file, and what crashes have left of writing it; one that is not there is as good as removed.
    pub async fn delete(&self, path: &Path) -> Result<(), DocumentError> {
        if let Kind::Folder(folder) = &self.kind {
            let file = folder.join(path.as_ref());
            tokio::task::spawn_blocking(move || remove_begun(&file))
                .await
                .map_err(std::io::Error::other)??;
        }
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes all files under a prefix but these, and what crashes left of others.
    pub async fn keep_only(
        &self,
        prefix: &Path,
        keep: &BTreeSet<String>,
    ) -> Result<(), DocumentError> {
        if let Kind::Folder(folder) = &self.kind {
            let (root, under, keep) = (folder.clone(), prefix.to_string(), keep.clone());
            return tokio::task::spawn_blocking(move || sweep(&root, &under, &keep))
                .await
                .map_err(std::io::Error::other)?
                .map_err(Into::into);
        }
        let mut found = self.store.list(Some(prefix));
        while let Some(file) = found.try_next().await? {
            if !keep.contains(file.location.as_ref()) {
                self.delete(&file.location).await?;
            }
        }
        Ok(())
    }
}

/// A file being written.
pub struct Writing {
    upload: WriteMultipart,
    hash: Sha256,
    size: u64,
}

impl Writing {
    /// Appends bytes; waits while too many are on their way.
    pub async fn append(&mut self, bytes: Vec<u8>) -> Result<(), DocumentError> {
        self.upload.wait_for_capacity(PARTS_UNDER_WAY).await?;
        self.hash.update(&bytes);
        self.size += bytes.len() as u64;
        self.upload.put(bytes.into());
        Ok(())
    }

    /// Completes the file.
    pub async fn finish(self) -> Result<Stored, DocumentError> {
        self.upload.finish().await?;
        Ok(Stored {
            sha256: self.hash.finalize().into(),
            size: self.size,
        })
    }

    /// Gives the file up, and what was written of it back.
    pub async fn abort(self) {
        if let Err(error) = self.upload.abort().await {
            tracing::warn!(%error, "what was written of a file stays in the document store");
        }
    }
}

/// `documents/ab/abcd….pdf`.
pub fn path(sha256: &[u8]) -> Path {
    let hash = hex::encode(sha256);
    Path::from(format!(
        "documents/{}/{hash}.pdf",
        &hash[..2.min(hash.len())]
    ))
}

fn missing(error: object_store::Error, path: &Path) -> DocumentError {
    match error {
        object_store::Error::NotFound { .. } => DocumentError::Missing(path.to_string()),
        other => other.into(),
    }
}

/// Removes what was begun of a file: it is written beside, as `{name}#{number}`.
fn remove_begun(file: &FilePath) -> std::io::Result<()> {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
        return Ok(());
    };
    let begun = format!("{}#", name.to_string_lossy());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&begun) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes files of a folder but those to keep. Names are relative to the root, with slashes.
fn sweep(root: &FilePath, under: &str, keep: &BTreeSet<String>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(root.join(under)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{under}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            sweep(root, &name, keep)?;
            // Only an empty one can be removed.
            let _ = std::fs::remove_dir(entry.path());
        } else if !keep.contains(&name) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
