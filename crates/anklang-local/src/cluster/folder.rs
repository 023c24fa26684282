//! The data folder: what lies where, who owns it, and who may use it now.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::account::Account;

/// Folder of the cluster itself, inside the data folder.
pub(super) const DATA: &str = "data";

/// Only part of the socket's name: there is no TCP port.
pub(super) const PORT: u16 = 5432;

/// Lock, and mark of a folder that is ours.
const LOCK: &str = "anklang-cluster.lock";

/// `sun_path` holds 108 bytes on Linux and 104 elsewhere, with the NUL at the end.
const SOCKET_PATH_MAX: usize = 103;

/// A log larger than this is put aside at the next start, so that it cannot grow forever.
const LOG_MAX_BYTES: u64 = 16 << 20;

/// How much of the log an error shows.
const LOG_TAIL_BYTES: u64 = 4 << 10;
const LOG_TAIL_LINES: usize = 20;

/// A data folder, locked for this process.
#[derive(Debug)]
pub(super) struct Folder {
    /// The data folder, absolute and free of links.
    pub(super) root: PathBuf,
    /// Folder of the socket.
    pub(super) socket: PathBuf,
    /// The lock lives as long as this file is open.
    _lock: File,
}

impl Folder {
    /// Makes, checks and locks the folder.
    ///
    /// # Errors
    /// It holds other things; another program uses it; the account cannot reach it.
    pub(super) fn open(path: &Path, account: &Account) -> Result<Self> {
        fs::create_dir_all(path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
        let root = path
            .canonicalize()
            .with_context(|| format!("cannot open the folder {}", path.display()))?;
        if root.to_str().is_none() {
            bail!("the path {} is not UTF-8", root.display());
        }
        let parent = root.parent().unwrap_or(&root);
        account.check_reach(parent)?;
        check_ours(&root)?;
        let lock = lock(&root)?;
        account.own(&root)?;
        fs::set_permissions(&root, Permissions::from_mode(0o700))
            .with_context(|| format!("cannot close {} to others", root.display()))?;
        let socket = socket_folder(&root, account.uid());
        private_folder(&socket, account)?;
        Ok(Self {
            root,
            socket,
            _lock: lock,
        })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(super) fn is_initialised(&self) -> bool {
        self.data().join("PG_VERSION").exists()
    }

    /// Major version of the server that made the cluster, if there is one.
    pub(super) fn made_by(&self) -> Result<Option<u32>> {
        let path = self.data().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().parse().with_context(|| {
                format!("{} holds no version: {text}", path.display())
            })?)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Where to make a new cluster; what an interrupted attempt left is removed.
    pub(super) fn fresh_data(&self) -> Result<PathBuf> {
        let fresh = self.root.join("data.new");
        match fs::remove_dir_all(&fresh) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                Err(e).with_context(|| format!("cannot remove {}", fresh.display()))
            }
            _ => Ok(fresh),
        }
    }

    /// Puts the new cluster in its place.
    pub(super) fn adopt_fresh_data(&self) -> Result<()> {
        fs::rename(self.root.join("data.new"), self.data())
            .with_context(|| format!("cannot rename the new cluster to {}", self.data().display()))
    }

    /// The log, open for appending.
    pub(super) fn open_log(&self) -> Result<File> {
        let log = self.log();
        if fs::metadata(&log).is_ok_and(|file| file.len() > LOG_MAX_BYTES) {
            fs::rename(&log, log.with_extension("log.1"))
                .with_context(|| format!("cannot put {} aside", log.display()))?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .custom_flags(no_link())
            .open(&log)
            .with_context(|| format!("cannot open {}", log.display()))
    }

    /// The last lines of the log; empty if there is none.
    pub(super) fn log_tail(&self) -> String {
        let Ok(mut file) = File::open(self.log()) else {
            return String::new();
        };
        let length = file.metadata().map_or(0, |file| file.len());
        let mut bytes = Vec::new();
        let start = SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES));
        if file.seek(start).is_err() || file.read_to_end(&mut bytes).is_err() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// As root we are about to give the folder away and close it to others: that must never
/// happen to `/tmp` or to somebody's home because of a mistyped path.
fn check_ours(root: &Path) -> Result<()> {
    let mut entries =
        fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    if entries.next().is_some() && !root.join(LOCK).exists() {
        bail!(
            "{} is not empty and holds no Anklang database; name a new or empty folder",
            root.display()
        );
    }
    Ok(())
}

/// Root writes here into a folder of somebody else, who must not be able to lead it to
/// another file by a link.
fn no_link() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).expect("the flag is a low bit")
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .custom_flags(no_link())
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "the database folder {} is in use by another running program; stop that one or use \
             another folder",
            root.display()
        ),
        Err(TryLockError::Error(e)) => {
            Err(e).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Inside the data folder if the path is short and plain enough, else a folder under
/// `/tmp` that is the same at every start.
fn socket_folder(root: &Path, uid: u32) -> PathBuf {
    let inside = root.join("run");
    let longest = format!("{}/.s.PGSQL.{PORT}", inside.display());
    // The server reads a comma-separated list with its own quoting: keep out of that.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if longest.len() <= SOCKET_PATH_MAX && longest.chars().all(plain) {
        return inside;
    }
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    let name = hex::encode(&digest[..8]);
    PathBuf::from(format!("/tmp/anklang-{uid}-{name}"))
}

/// Makes a folder that only the account may enter, or checks that it is one: under `/tmp`
/// anybody could have put something else in its place.
fn private_folder(path: &Path, account: &Account) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return account.own(path),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(e).with_context(|| format!("cannot create {}", path.display())),
    }
    let found =
        fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    // Root's own: made by us and killed before it was handed over.
    let owner = [account.uid(), rustix::process::geteuid().as_raw()].contains(&found.uid());
    if !found.is_dir() || !owner || found.mode() & 0o077 != 0 {
        bail!(
            "{} should be a private folder of this program but is not; remove it",
            path.display()
        );
    }
    account.own(path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_socket_path_always_fits() {
        assert_eq!(
            socket_folder(Path::new("/srv/anklang"), 7),
            Path::new("/srv/anklang/run")
        );
        for root in [
            format!("/srv/{}", "x".repeat(90)),
            "/srv/a,b".to_owned(),
            "/srv/größe".to_owned(),
        ] {
            let folder = socket_folder(Path::new(&root), 7);
            assert_eq!(folder, socket_folder(Path::new(&root), 7));
            assert!(folder.starts_with("/tmp"), "{folder:?}");
            assert!(folder.as_os_str().len() < 60, "{folder:?}");
        }
        let one = socket_folder(Path::new("/srv/a,b"), 7);
        assert_ne!(one, socket_folder(Path::new("/srv/a,c"), 7));
    }

    #[test]
    fn a_foreign_folder_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("letter.txt"), "mine").unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let error = check_ours(folder.path()).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        let mode = fs::metadata(folder.path()).unwrap().mode();
        assert_eq!(mode & 0o777, 0o755);
    }
}
