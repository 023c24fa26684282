//! Under which account the server runs.
//!
//! A normal user runs it as himself. Root may not run PostgreSQL at all, so root lends it
//! to an unprivileged account: the owner of an existing cluster, else `postgres`, else
//! `nobody`. No account is ever created.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The account of the server and its tools.
#[derive(Debug)]
pub(super) struct Account {
    /// User and group to become; `None` when not root.
    lent: Option<(u32, u32)>,
    /// For messages.
    name: String,
}

impl Account {
    /// Decides for the cluster in `data_dir`, which need not exist.
    pub(super) fn choose(data_dir: &Path) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self {
                lent: None,
                name: "this user".to_owned(),
            });
        }
        // PostgreSQL insists on being the owner: a cluster made by somebody stays his.
        if let Ok(data) = fs::metadata(data_dir.join(super::folder::DATA))
            && data.uid() != 0
        {
            return Ok(Self {
                lent: Some((data.uid(), data.gid())),
                name: format!("user {}", data.uid()),
            });
        }
        let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| {
                find_user(&users, name).map(|ids| Self {
                    lent: Some(ids),
                    name: format!("user {name}"),
                })
            })
            .context(
                "PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor \
                 'nobody' to run it as; run this program as a normal user",
            )
    }

    /// The id that owns the server's files.
    pub(super) fn uid(&self) -> u32 {
        self.lent
            .map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid)
    }

    /// Hands a file or folder to the account; of a link, the link itself.
    pub(super) fn own(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.lent {
            lchown(path, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} to {}", path.display(), self.name))?;
        }
        Ok(())
    }

    /// A command that runs as the account, from a folder everybody can read, and with an
    /// environment in which no `PG…` variable of the caller changes what it does.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").stdin(Stdio::null()).env_clear();
        for name in ["PATH", "LD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("LC_ALL", "C");
        if let Some((uid, gid)) = self.lent {
            // With root's rights, `uid` also clears the supplementary groups.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Checks that the account can enter `folder`.
    ///
    /// # Errors
    /// Names the first folder on the way that it cannot enter, and what to do.
    pub(super) fn check_reach(&self, folder: &Path) -> Result<()> {
        if self.lent.is_none() || self.can_enter(folder)? {
            return Ok(());
        }
        let mut way: Vec<&Path> = folder.ancestors().collect();
        way.reverse();
        for step in way {
            if !self.can_enter(step)? {
                bail!(
                    "the database server runs as {}, which may not enter {}; use a data folder \
                     elsewhere, for example under /var/lib or /tmp, or allow it with \
                     `chmod o+x {}`",
                    self.name,
                    step.display(),
                    step.display()
                );
            }
        }
        Ok(())
    }

    /// Tries it rather than reading permission bits: access lists count as well.
    fn can_enter(&self, folder: &Path) -> Result<bool> {
        let status = self
            .command("/bin/sh")
            .args(["-c", "cd -- \"$1\"", "sh"])
            .arg(folder)
            .stderr(Stdio::null())
            .status()
            .context("cannot run /bin/sh")?;
        Ok(status.success())
    }
}

/// User and group id of `name` in the text of a passwd file; never root.
fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        (uid != 0).then_some((uid, gid))
    })
}

#[cfg(test)]
mod tests {
    use super::find_user;

    #[test]
    fn finds_users_and_never_root() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\
                      postgres2:x:7:8::/:/bin/sh\n\
                      postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n\
                      toor:x:0:0::/:/bin/sh\nbroken:x\n";
        assert_eq!(find_user(passwd, "postgres"), Some((101, 104)));
        assert_eq!(find_user(passwd, "toor"), None);
        assert_eq!(find_user(passwd, "broken"), None);
        assert_eq!(find_user(passwd, "nobody"), None);
    }
}
