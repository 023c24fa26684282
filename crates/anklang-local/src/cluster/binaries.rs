//! Finds the machine's PostgreSQL.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Oldest major version that will do.
const OLDEST: u32 = 15;

/// Where Debian and its relatives keep one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Names a folder of binaries and switches the search off.
const OVERRIDE: &str = "ANKLANG_PG_BIN";

/// One installed PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Binaries {
    pub(super) postgres: PathBuf,
    pub(super) initdb: PathBuf,
    pub(super) major: u32,
}

impl Binaries {
    /// The newest installed PostgreSQL, or the one of version `made_by` if a cluster of that
    /// version exists already: a server reads no other version's files.
    ///
    /// Looks at `ANKLANG_PG_BIN` alone if set, else at the Debian folders, `pg_config
    /// --bindir` and `PATH`.
    ///
    /// # Errors
    /// Nothing is found, or only what is too old, or not the version needed; the message
    /// names the package to install.
    pub(super) fn find(made_by: Option<u32>) -> Result<Self> {
        let found = match env::var_os(OVERRIDE) {
            Some(folder) => {
                let folder = PathBuf::from(folder);
                vec![Self::in_folder(&folder).with_context(|| {
                    format!("{OVERRIDE} names {}, which is of no use", folder.display())
                })?]
            }
            None => folders()
                .iter()
                .filter_map(|folder| Self::in_folder(folder).ok())
                .collect(),
        };
        choose(found, made_by)
    }

    /// The PostgreSQL in `folder`, asked for its version.
    fn in_folder(folder: &Path) -> Result<Self> {
        let postgres = folder.join("postgres");
        let initdb = folder.join("initdb");
        if !initdb.is_file() {
            bail!("{} does not exist", initdb.display());
        }
        let output = Command::new(&postgres)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot run {}", postgres.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let major = major(&text)
            .with_context(|| format!("{} tells no version: {text}", postgres.display()))?;
        Ok(Self {
            postgres,
            initdb,
            major,
        })
    }
}

/// Folders that may hold PostgreSQL, best first.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(String::from_utf8_lossy(&output.stdout).trim().into());
    }
    if let Some(path) = env::var_os("PATH") {
        folders.extend(env::split_paths(&path).filter(|folder| folder.is_absolute()));
    }
    folders
}

fn choose(found: Vec<Binaries>, made_by: Option<u32>) -> Result<Binaries> {
    if let Some(version) = made_by {
        return found
            .into_iter()
            .find(|binaries| binaries.major == version)
            .with_context(|| {
                format!(
                    "the data folder was made by PostgreSQL {version}, which is not installed \
                     any more; `apt install postgresql-{version}`, or use another data folder"
                )
            });
    }
    let newest = found
        .into_iter()
        // The first of equals: `max_by_key` would take the last.
        .reduce(|best, next| if next.major > best.major { next } else { best });
    match newest {
        Some(binaries) if binaries.major >= OLDEST => Ok(binaries),
        Some(binaries) => bail!(
            "PostgreSQL {} ({}) is too old, {OLDEST} or newer is needed; \
             `apt install postgresql`, or name a folder of binaries in {OVERRIDE}",
            binaries.major,
            binaries.postgres.display()
        ),
        None => bail!(
            "no PostgreSQL server is installed; `apt install postgresql` (version {OLDEST} or \
             newer), or name the folder of its binaries in {OVERRIDE}"
        ),
    }
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` → 15; also `17beta1`.
fn major(text: &str) -> Option<u32> {
    let version = text.split("(PostgreSQL)").nth(1)?.trim_start();
    let end = version.find(|c: char| !c.is_ascii_digit());
    version[..end.unwrap_or(version.len())].parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn installed(major: u32, folder: &str) -> Binaries {
        Binaries {
            postgres: format!("{folder}/postgres").into(),
            initdb: format!("{folder}/initdb").into(),
            major,
        }
    }

    #[test]
    fn reads_versions() {
        let debian = "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n";
        assert_eq!(major(debian), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18\n"), Some(18));
        assert_eq!(major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(major("mysqld 8.0"), None);
    }

    #[test]
    fn takes_the_newest_and_the_first_of_equals() {
        let found = vec![
            installed(15, "a"),
            installed(17, "b"),
            installed(17, "c"),
            installed(9, "d"),
        ];
        assert_eq!(choose(found, None).unwrap(), installed(17, "b"));
    }

    #[test]
    fn an_existing_cluster_decides_the_version() {
        let found = vec![installed(15, "a"), installed(17, "b")];
        assert_eq!(choose(found.clone(), Some(15)).unwrap(), installed(15, "a"));
        let error = choose(found, Some(16)).unwrap_err().to_string();
        assert!(error.contains("postgresql-16"), "{error}");
    }

    #[test]
    fn missing_and_too_old_name_the_package() {
        for found in [vec![], vec![installed(14, "a")]] {
            let error = choose(found, None).unwrap_err().to_string();
            assert!(error.contains("apt install postgresql"), "{error}");
        }
    }
}
