//! From a file to a checked manifest: read → SHA-256 → pin → sealed memory file → `dlopen` →
//! manifest. The second half may happen in another process.
#![expect(unsafe_code, reason = "loads foreign code and reads its static data")]

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anklang_plugin_abi::*;
use anklang_plugin_proto::v1::Manifest;
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use prost::Message;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::Digest;

use crate::LoadError;

/// `RTLD_NODELETE` of glibc and musl, which libloading does not name: code of a plugin may run
/// at any time on its own threads, so it must stay.
const RTLD_NODELETE: i32 = 0x1000;

/// So often sealing is tried again.
const SEAL_TRIES: u32 = 40;

/// SHA-256 of a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 64 hexadecimal digits, as `sha256sum` prints them.
impl FromStr for Sha256 {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// The bytes of a file that passed its pin; nobody can change them any more, ourselves included.
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    pub(crate) sha256: Sha256,
    pub(crate) file: OwnedFd,
}

/// Reads a file, compares it with its pin and seals what was read.
pub(crate) fn read(path: &Path, pin: Option<Sha256>) -> Result<Image, LoadError> {
    let bytes = std::fs::read(path).map_err(|error| LoadError::Read {
        path: path.to_owned(),
        error,
    })?;
    let found = Sha256::of(&bytes);
    if let Some(expected) = pin.filter(|pin| *pin != found) {
        return Err(LoadError::PinMismatch {
            path: path.to_owned(),
            expected,
            found,
        });
    }
    if !bytes.starts_with(b"\x7fELF") {
        return Err(LoadError::NotALibrary {
            path: path.to_owned(),
        });
    }
    Ok(Image {
        path: path.to_owned(),
        sha256: found,
        file: sealed(path, &bytes).map_err(LoadError::Seal)?,
    })
}

fn sealed(path: &Path, bytes: &[u8]) -> io::Result<OwnedFd> {
    let name = path.file_name().unwrap_or_default();
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    let mut tries = 0;
    // The kernel refuses while it has pages of the file in its own hands, which passes.
    while let Err(error) = fcntl_add_seals(&file, seals) {
        if error != Errno::BUSY || tries == SEAL_TRIES {
            return Err(error.into());
        }
        tries += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(file.into())
}

/// Why a sealed file cannot be used, wherever that was found out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unusable {
    /// The dynamic linker refuses it.
    Link(String),
    /// It does not export this function.
    MissingSymbol(String),
    /// It speaks another version of the interface: major, minor.
    Version(u16, u16),
    /// Its manifest breaks the rules.
    Manifest(String),
}

impl Unusable {
    /// With the name of the file.
    pub(crate) fn of(self, path: &Path) -> LoadError {
        let path = path.to_owned();
        match self {
            Self::Link(reason) => LoadError::Link { path, reason },
            Self::MissingSymbol(symbol) => LoadError::MissingSymbol {
                path,
                symbol: match &symbol[..] {
                    SYMBOL_INIT => SYMBOL_INIT,
                    _ => SYMBOL_MANIFEST,
                },
            },
            Self::Version(major, minor) => LoadError::Version { path, major, minor },
            Self::Manifest(reason) => LoadError::Manifest { path, reason },
        }
    }
}

/// A library that is loaded into this process.
pub(crate) struct Loaded {
    /// Its manifest, checked, as it wrote it.
    pub(crate) manifest: &'static [u8],
    init: InitFn,
}

/// Loads a sealed file and checks the manifest. Runs the library's constructors.
pub(crate) fn load(file: OwnedFd) -> Result<Loaded, Unusable> {
    let library = link(file)?;
    let manifest_fn: ManifestFn = symbol(&library, SYMBOL_MANIFEST)?;
    let init: InitFn = symbol(&library, SYMBOL_INIT)?;
    // The handle is dropped without closing the library.
    let _ = library.into_raw();
    let manifest = manifest(manifest_fn)?;
    Ok(Loaded { manifest, init })
}

fn link(file: OwnedFd) -> Result<Library, Unusable> {
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: runs the constructors of the library. The operator has configured this very
    // file, by its hash if pinned, to be run with the rights of this process.
    let library = unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
        .map_err(|error| Unusable::Link(error.to_string()))?;
    // The linker knows libraries by name. If the number were free again, the next plugin could
    // get it, and with it this library in place of its own. So the file stays open for ever.
    std::mem::forget(file);
    Ok(library)
}

/// Looks up a function of the interface; `F` is its function pointer type.
fn symbol<F: Copy>(library: &Library, name: &'static str) -> Result<F, Unusable> {
    // SAFETY: `F` is the type that the interface gives to `name`.
    let found = unsafe { library.get::<F>(name) };
    found
        .map(|f| *f)
        .map_err(|_| Unusable::MissingSymbol(name.to_owned()))
}

fn manifest(manifest_fn: ManifestFn) -> Result<&'static [u8], Unusable> {
    let wrong = |reason: String| Unusable::Manifest(reason);
    // SAFETY: the function takes nothing, and is in a library that stays.
    let found = unsafe { manifest_fn() };
    if found.is_null() {
        return Err(wrong("there is none".to_owned()));
    }
    // SAFETY: not null; every manifest begins with its size.
    let size = unsafe { found.cast::<u32>().read() } as usize;
    if size < size_of::<AnkManifest>() {
        return Err(wrong(format!("its size of {size} bytes is too small")));
    }
    // SAFETY: static data of at least the size of the struct, by what it says itself.
    let found = unsafe { &*found };
    if found.magic != ANK_MAGIC {
        let reason = format!("wrong magic number {:#018x}", found.magic);
        return Err(wrong(reason));
    }
    if found.abi_major != ANK_ABI_MAJOR || found.abi_minor_required > ANK_ABI_MINOR {
        return Err(Unusable::Version(found.abi_major, found.abi_minor_required));
    }
    // SAFETY: static data, valid for ever by contract.
    let bytes = unsafe { found.manifest.read() }.ok_or_else(|| wrong("no bytes".to_owned()))?;
    check_manifest(bytes).map_err(wrong)?;
    Ok(bytes)
}

/// Reads a manifest and looks whether it is complete.
pub(crate) fn check_manifest(bytes: &[u8]) -> Result<Manifest, String> {
    let manifest = Manifest::decode(bytes).map_err(|e| e.to_string())?;
    let incomplete = manifest.id.is_empty()
        || manifest.channel.is_empty()
        || manifest.max_batch == 0
        || manifest.max_calls_in_flight == 0;
    if incomplete {
        return Err("id, channel, max_batch and max_calls_in_flight are required".to_owned());
    }
    Ok(manifest)
}

/// The plugin's functions, all present.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) open: OpenFn,
    pub(crate) call: CallFn,
    pub(crate) drain: DrainFn,
    pub(crate) close: CloseFn,
}

impl Loaded {
    /// The function that fills in the table.
    pub(crate) fn init_fn(&self) -> InitFn {
        self.init
    }

    /// Exchanges the function tables.
    pub(crate) fn init(&self, host: &'static AnkHost) -> Result<Table, String> {
        let size = u32::try_from(size_of::<AnkPlugin>()).expect("far smaller than 4 GiB");
        let mut table = AnkPlugin {
            size,
            abi_major: 0,
            abi_minor: 0,
            open: None,
            call: None,
            drain: None,
            close: None,
        };
        // SAFETY: both tables have their size set, and live until the function returns; the
        // host's lives for ever.
        let status = unsafe { (self.init)(host, &raw mut table) };
        if status != ANK_OK {
            return Err(format!("status {status}"));
        }
        if table.abi_major != ANK_ABI_MAJOR {
            return Err(format!("function table of ABI major {}", table.abi_major));
        }
        match (table.open, table.call, table.drain, table.close) {
            (Some(open), Some(call), Some(drain), Some(close)) => Ok(Table {
                open,
                call,
                drain,
                close,
            }),
            _ => Err("a function is missing from the table".to_owned()),
        }
    }
}
