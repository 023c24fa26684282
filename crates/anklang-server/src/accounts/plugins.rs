//! The plugins in the folder, each loaded once for all accounts of tenants.
//!
//! A library stays in memory until the process ends, so one that is loaded is kept until its file
//! changes; accounts that are opened afterwards get the new one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anklang_channels::{Plugin, file_name};
use anklang_domain::account::is_id;

/// Why there is no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlugin {
    /// There is no file for it.
    #[error("there is no plugin {0}")]
    Missing(String),
    /// The file is refused.
    #[error("the plugin is refused: {0}")]
    Refused(String),
}

/// What tells that a file is another one.
type Stamp = (u64, Option<SystemTime>);

/// What came of loading a file.
type Loaded = (Stamp, Result<Plugin, NoPlugin>);

/// The plugins in a folder. Cheap to clone.
#[derive(Clone, Default)]
pub struct Plugins {
    folder: PathBuf,
    loaded: Arc<Mutex<HashMap<String, Loaded>>>,
}

impl Plugins {
    /// Those of a folder; none is loaded yet.
    pub fn new(folder: &Path) -> Self {
        Plugins {
            folder: folder.to_owned(),
            loaded: Arc::default(),
        }
    }

    /// A plugin by its id.
    pub async fn get(&self, id: &str) -> Result<Plugin, NoPlugin> {
        let (this, id) = (self.clone(), id.to_owned());
        let missing = NoPlugin::Missing(id.clone());
        // Loading reads and links the file.
        let loading = tokio::task::spawn_blocking(move || this.load(&id));
        loading.await.unwrap_or(Err(missing))
    }

    /// The ids of all files that could be plugins, in order.
    pub async fn ids(&self) -> Vec<String> {
        let folder = self.folder.clone();
        let listing = tokio::task::spawn_blocking(move || {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            let names = files.filter_map(|file| file.file_name().into_string().ok());
            let ids = names.filter_map(|name| {
                let id = name.strip_prefix("libanklang_")?.strip_suffix(".so")?;
                Some(id.replace('_', "-")).filter(|id| is_id(id))
            });
            let mut ids: Vec<String> = ids.collect();
            ids.sort_unstable();
            ids
        });
        listing.await.unwrap_or_default()
    }

    fn load(&self, id: &str) -> Result<Plugin, NoPlugin> {
        let path = self.folder.join(file_name(id));
        let Ok(file) = std::fs::metadata(&path) else {
            return Err(NoPlugin::Missing(id.to_owned()));
        };
        let stamp = (file.len(), file.modified().ok());
        // Held while loading, so that no library is loaded twice.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, plugin)) = loaded.get(id)
            && *known == stamp
        {
            return plugin.clone();
        }
        let plugin = match Plugin::load(&path, None) {
            Ok(plugin) if plugin.manifest().id == id => Ok(plugin),
            Ok(plugin) => Err(format!("it calls itself {:?}", plugin.manifest().id)),
            // Where plugins lie is the operator's.
            Err(error) => Err(error
                .to_string()
                .trim_start_matches(&format!("{}: ", path.display()))
                .to_owned()),
        };
        let plugin = plugin.map_err(NoPlugin::Refused);
        loaded.insert(id.to_owned(), (stamp, plugin.clone()));
        plugin
    }
}
