//! A plugin: a library whose manifest is known.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anklang_plugin_abi::AnkHost;
use anklang_plugin_proto::v1::Manifest;
use jsonschema::Validator;
use serde_json::Value;

use crate::board::{Counters, Switchboard};
use crate::config::{self, ConfigViolation};
use crate::hosting::{Hosting, Isolation};
use crate::instance::{Instance, InstanceOptions};
use crate::library::{self, Image, Loaded, Sha256, Table};
use crate::table::host_table;
use crate::{LoadError, OpenError, isolation};

/// One shared library. Cheap to clone.
///
/// Loading the same file twice gives two that know nothing of each other.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    image: Image,
    hosting: Hosting,
    place: Place,
    manifest: Manifest,
    schema: Value,
    validator: Validator,
    board: Arc<Switchboard>,
}

/// Where its code is.
pub(crate) enum Place {
    /// In this process, one copy for all instances.
    Here(Here),
    /// In a process for each instance.
    Process,
}

/// A library in this process.
pub(crate) struct Here {
    pub(crate) host: &'static AnkHost,
    loaded: Loaded,
    /// The plugin's functions, asked for with the first open.
    table: OnceLock<Result<Table, String>>,
}

impl Here {
    pub(crate) fn table(&self) -> Result<Table, String> {
        let table = self.table.get_or_init(|| self.loaded.init(self.host));
        table.clone()
    }
}

impl Plugin {
    /// Loads the library at `path` to be run in processes of its own, with the default
    /// [`Hosting`]: see [`Plugin::load_with`].
    pub fn load(path: &Path, pin: Option<Sha256>) -> Result<Self, LoadError> {
        Self::load_with(path, pin, Hosting::default())
    }

    /// Reads the library at `path` and its manifest. With a pin, nothing of a file with another
    /// SHA-256 is run.
    ///
    /// Unless it is to run in this process, its manifest is read in another one, whose end or
    /// silence is an error here. Blocks for as long as that takes.
    pub fn load_with(
        path: &Path,
        pin: Option<Sha256>,
        hosting: Hosting,
    ) -> Result<Self, LoadError> {
        let image = library::read(path, pin)?;
        let board = Arc::<Switchboard>::default();
        let (bytes, place) = match hosting.isolation {
            Isolation::None => {
                let file = image.file.try_clone().map_err(LoadError::Seal)?;
                let loaded = library::load(file).map_err(|unusable| unusable.of(path))?;
                let here = Here {
                    host: host_table(Arc::clone(&board)),
                    loaded,
                    table: OnceLock::new(),
                };
                (here.loaded.manifest.to_vec(), Place::Here(here))
            }
            Isolation::Process => (isolation::manifest(&image, &hosting)?, Place::Process),
        };
        let wrong = |reason: String| LoadError::Manifest {
            path: path.to_owned(),
            reason,
        };
        let of_schema = |reason: String| wrong(format!("config_json_schema: {reason}"));
        let manifest = library::check_manifest(&bytes).map_err(wrong)?;
        let schema: Value = serde_json::from_str(&manifest.config_json_schema)
            .map_err(|e| of_schema(e.to_string()))?;
        let validator = jsonschema::validator_for(&schema).map_err(|e| of_schema(e.to_string()))?;
        Ok(Self {
            inner: Arc::new(Inner {
                image,
                hosting,
                place,
                manifest,
                schema,
                validator,
                board,
            }),
        })
    }

    /// What the plugin says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inner.manifest
    }

    /// The hash of the file, to be pinned.
    pub fn sha256(&self) -> Sha256 {
        self.inner.image.sha256
    }

    /// How it is hosted.
    pub fn hosting(&self) -> &Hosting {
        &self.inner.hosting
    }

    /// How often the plugin broke the rules since it was loaded, in all its processes.
    pub fn counters(&self) -> Counters {
        self.inner.board.counts.now()
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
        Instance::open(self, config.to_string().into_bytes(), options).await
    }

    /// What the plugin says of a configuration, without its secrets.
    pub(crate) fn without_secrets(&self, config: &[u8], text: String) -> String {
        config::without_secrets(&self.inner.schema, config, text)
    }

    pub(crate) fn board(&self) -> &Arc<Switchboard> {
        &self.inner.board
    }

    pub(crate) fn place(&self) -> &Place {
        &self.inner.place
    }

    pub(crate) fn image(&self) -> &Image {
        &self.inner.image
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
