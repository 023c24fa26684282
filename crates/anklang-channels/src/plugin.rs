//! A loaded plugin library.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anklang_plugin_proto::v1::Manifest;
use jsonschema::Validator;
use serde_json::Value;

use crate::board::{Counters, Switchboard};
use crate::config::{self, ConfigViolation};
use crate::instance::{self, Instance, InstanceOptions};
use crate::library::{self, Loaded, Sha256, Table};
use crate::{LoadError, OpenError};

/// One loaded shared library. Cheap to clone.
///
/// Loading the same file twice gives two independent copies of its code and its threads.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    loaded: Loaded,
    schema: Value,
    validator: Validator,
    board: &'static Switchboard,
    /// The plugin's functions, asked for with the first open.
    table: OnceLock<Result<Table, String>>,
}

impl Plugin {
    /// Loads the library at `path` and reads its manifest. With a pin, nothing of a file with
    /// another SHA-256 is run.
    ///
    /// Blocks for as long as it takes to read and link the file.
    pub fn load(path: &Path, pin: Option<Sha256>) -> Result<Self, LoadError> {
        let loaded = library::load(path, pin)?;
        let wrong = |reason: String| LoadError::Manifest {
            path: path.to_owned(),
            reason: format!("config_json_schema: {reason}"),
        };
        let schema: Value = serde_json::from_str(&loaded.manifest.config_json_schema)
            .map_err(|e| wrong(e.to_string()))?;
        let validator = jsonschema::validator_for(&schema).map_err(|e| wrong(e.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                loaded,
                schema,
                validator,
                board: Switchboard::leak(),
                table: OnceLock::new(),
            }),
        })
    }

    /// What the plugin says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.loaded.manifest
    }

    /// The hash of the file, to be pinned.
    pub fn sha256(&self) -> Sha256 {
        self.inner.loaded.sha256
    }

    /// How often the plugin broke the rules since it was loaded.
    pub fn counters(&self) -> Counters {
        self.inner.board.counters()
    }

    /// Checks a configuration against the plugin's JSON Schema and names everything that is
    /// wrong with it.
    pub fn check_config(&self, config: &Value) -> Result<(), Vec<ConfigViolation>> {
        let found = config::violations(&self.inner.validator, config);
        if found.is_empty() { Ok(()) } else { Err(found) }
    }

    /// The configuration with its secrets hidden, fit to be logged or shown.
    pub fn redacted(&self, config: &Value) -> Value {
        config::redacted(&self.inner.schema, config)
    }

    /// Opens an instance with the default [`InstanceOptions`]; must be called on a tokio
    /// runtime, which must live as long as the instance.
    pub async fn open(&self, config: &Value) -> Result<Instance, OpenError> {
        self.open_with(config, InstanceOptions::default()).await
    }

    /// Opens an instance. Giving up the future leaves nothing behind: an instance that comes
    /// too late is closed.
    pub async fn open_with(
        &self,
        config: &Value,
        options: InstanceOptions,
    ) -> Result<Instance, OpenError> {
        self.check_config(config).map_err(OpenError::Config)?;
        let table = self.table().map_err(OpenError::Init)?;
        instance::open(self, table, config.to_string().into_bytes(), options).await
    }

    fn table(&self) -> Result<Table, String> {
        let Inner { loaded, board, .. } = &*self.inner;
        self.inner.table.get_or_init(|| loaded.init(board)).clone()
    }

    pub(crate) fn board(&self) -> &'static Switchboard {
        self.inner.board
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("id", &self.manifest().id)
            .field("version", &self.manifest().version)
            .field("sha256", &self.sha256())
            .finish_non_exhaustive()
    }
}
