//! The document store: PDFs under their SHA-256, so that putting one twice changes nothing.

use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

/// A store of documents. Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    store: Arc<dyn ObjectStore>,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The document is not there.
    #[error("document {0} is not in the store")]
    Missing(String),
    /// The store does not answer, or refuses.
    #[error("document store: {0}")]
    Store(#[from] object_store::Error),
    /// The folder cannot be made.
    #[error("document folder: {0}")]
    Folder(#[from] std::io::Error),
}

impl Documents {
    /// A store in a local folder, which is made when it is missing.
    pub fn local(folder: &FilePath) -> Result<Self, DocumentError> {
        std::fs::create_dir_all(folder)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self {
            store: Arc::new(store),
        })
    }

    /// Puts a document; when it returns, the bytes are there under their hash.
    pub async fn put(&self, sha256: &[u8], bytes: Vec<u8>) -> Result<(), DocumentError> {
        let path = path(sha256);
        match self.store.head(&path).await {
            Ok(there) if there.size == bytes.len() as u64 => return Ok(()),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        self.store.put(&path, Bytes::from(bytes).into()).await?;
        Ok(())
    }

    /// The bytes of a document.
    pub async fn get(&self, sha256: &[u8]) -> Result<Bytes, DocumentError> {
        match self.store.get(&path(sha256)).await {
            Ok(found) => Ok(found.bytes().await?),
            Err(object_store::Error::NotFound { .. }) => {
                Err(DocumentError::Missing(hex::encode(sha256)))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// `documents/ab/abcd….pdf`.
fn path(sha256: &[u8]) -> Path {
    let hash = hex::encode(sha256);
    Path::from(format!(
        "documents/{}/{hash}.pdf",
        &hash[..2.min(hash.len())]
    ))
}
