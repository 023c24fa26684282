//! The plugins in a folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Hosting, LoadError, Plugin};

const PREFIX: &str = "libanklang_";
const SUFFIX: &str = ".so";

/// The name of the file of a plugin: `libanklang_<id>.so`, with underscores for hyphens.
pub fn file_name(id: &str) -> String {
    format!("{PREFIX}{}{SUFFIX}", id.replace('-', "_"))
}

/// A file that is named as a plugin.
#[derive(Debug)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The plugin, or why it is refused.
    pub plugin: Result<Plugin, LoadError>,
}

/// The plugins of a folder by the names of their files, each asked for its manifest. Blocks.
pub fn discover(folder: &Path, hosting: &Hosting) -> io::Result<Vec<Found>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths
        .into_iter()
        .map(|path| Found {
            plugin: load(&path, hosting),
            path,
        })
        .collect())
}

/// A plugin is found by its id, so the file must be named so.
fn load(path: &Path, hosting: &Hosting) -> Result<Plugin, LoadError> {
    let plugin = Plugin::load_with(path, None, hosting.clone())?;
    let wanted = file_name(&plugin.manifest().id);
    match path.file_name().is_some_and(|name| *name == *wanted) {
        true => Ok(plugin),
        false => Err(LoadError::Manifest {
            path: path.to_owned(),
            reason: format!(
                "its id is \"{}\", so its file must be named {wanted}",
                plugin.manifest().id
            ),
        }),
    }
}
