//! What can go wrong, in terms of what the caller can do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anklang_plugin_abi::*;

use crate::{ConfigViolation, Sha256};

/// Why a library is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file could not be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not an ELF shared library.
    #[error("{path}: not a shared library (no ELF header)", path = path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
    },
    /// The file is not the one that was pinned.
    #[error("{path}: its SHA-256 is {found}, but {expected} is pinned", path = path.display())]
    PinMismatch {
        /// The file.
        path: PathBuf,
        /// From the configuration.
        expected: Sha256,
        /// Of the file.
        found: Sha256,
    },
    /// The system could not provide the sealed copy.
    #[error("sealed copy in memory: {0}")]
    Seal(io::Error),
    /// The dynamic linker refuses the file.
    #[error("{path}: {reason}", path = path.display())]
    Link {
        /// The file.
        path: PathBuf,
        /// The linker's words.
        reason: String,
    },
    /// The library does not export a function of the plugin interface.
    #[error("{path}: does not export {symbol}: not a channel plugin", path = path.display())]
    MissingSymbol {
        /// The file.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// The library speaks another version of the interface.
    #[error("{path}: needs plugin ABI {major}.{minor}, this host offers {ANK_ABI_MAJOR}.{ANK_ABI_MINOR}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Major version of the plugin.
        major: u16,
        /// Minor version that the plugin requires.
        minor: u16,
    },
    /// The manifest breaks the rules of the interface.
    #[error("{path}: manifest: {reason}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its process could not be started.
    #[error("{path}: no process for it: {error}", path = path.display())]
    NoProcess {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its process ended while it was loaded or its manifest read.
    #[error("{path}: while it was loaded: {reason}", path = path.display())]
    Crashed {
        /// The file.
        path: PathBuf,
        /// How the process ended.
        reason: String,
    },
    /// Loading it or reading its manifest took too long.
    #[error("{path}: was not loaded within {within:?}", path = path.display())]
    Hung {
        /// The file.
        path: PathBuf,
        /// The time that it had.
        within: Duration,
    },
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration breaks the plugin's JSON Schema.
    #[error("configuration: {}", listed(.0))]
    Config(Vec<ConfigViolation>),
    /// The plugin itself refuses the configuration.
    #[error("configuration refused: {0}")]
    Refused(String),
    /// The plugin failed; trying again may help.
    #[error("the plugin failed to open: {0}")]
    Failed(String),
    /// The plugin's function table breaks the rules of the interface.
    #[error("the plugin's initialisation failed: {0}")]
    Init(String),
    /// The plugin did not say within the time that was given to it.
    #[error("the plugin did not open within {0:?}")]
    Timeout(Duration),
}

impl OpenError {
    /// What may be logged: without the plugin's words, which may repeat what it was given.
    pub fn kind(&self) -> &'static str {
        match self {
            OpenError::Config(_) => "its configuration breaks its schema",
            OpenError::Refused(_) => "the plugin refuses its configuration",
            OpenError::Failed(_) => "the plugin failed to open",
            OpenError::Init(_) => "the plugin's initialisation failed",
            OpenError::Timeout(_) => "the plugin did not open in time",
        }
    }
}

fn listed(violations: &[ConfigViolation]) -> String {
    let texts: Vec<_> = violations.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Why a call has no answer. But for [`CallError::Lost`], nothing was handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// As many calls as the plugin takes are in flight: try again when one has ended.
    #[error("the plugin is busy")]
    Busy,
    /// The instance drains or is closed.
    #[error("the instance is closed")]
    Closed,
    /// The plugin's process is not there, or was gone before it had the call: try again later.
    #[error("{0}")]
    Down(String),
    /// The request breaks a limit, or the plugin cannot read it.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The plugin has no such operation.
    #[error("the plugin does not support this operation")]
    Unsupported,
    /// The call was handed over, and its answer was lost; `Instance::send` never returns
    /// this, but ambiguous outcomes.
    #[error("the call was lost: {0}")]
    Lost(String),
}

impl CallError {
    /// What may be logged: without the plugin's words, which may repeat what it was given.
    pub fn kind(&self) -> &'static str {
        match self {
            CallError::Busy => "the plugin is busy",
            CallError::Closed => "the instance is closed",
            CallError::Down(_) => "the plugin's process is not there",
            CallError::Invalid(_) => "the request is invalid",
            CallError::Unsupported => "the plugin does not support this operation",
            CallError::Lost(_) => "the call was lost",
        }
    }
}

/// How a drain ended other than by completing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// Somebody else drains or has drained the instance.
    #[error("the instance is drained already")]
    Drained,
    /// The plugin did not complete the drain. The instance is left as it is, and never called
    /// again.
    #[error("the plugin did not complete the drain")]
    Unresponsive,
}
