//! The server process: ours, or one that a killed program left behind.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::Options;
use super::account::Account;
use super::binaries::Binaries;
use super::folder::{Folder, PORT};

/// How long an orderly stop may take: it writes all dirty pages.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How long the immediate stop may take.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// How long a server found running may take to answer or to go.
const FOUND_PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// A server process that is stopped when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    pid: Pid,
    process: Process,
    stopped: bool,
}

#[derive(Debug)]
enum Process {
    /// Started by us; the flag tells when it has ended.
    Child(Arc<Ended>),
    /// Started by somebody before us, who is dead.
    Adopted(PidFile),
}

impl Server {
    /// Starts the server.
    ///
    /// # Errors
    /// The program cannot be run. That the server comes up is for the caller to see.
    pub(super) fn spawn(
        folder: &Folder,
        account: &Account,
        binaries: &Binaries,
        arguments: &[OsString],
        options: &Options,
    ) -> Result<Self> {
        let log = folder.open_log()?;
        let mut command = if options.die_with_parent && setpriv_works() {
            // SIGINT asks for an orderly stop. It has to be set after the change of user,
            // which would clear it, hence by a program in between.
            let mut command = account.command("setpriv");
            command.args(["--pdeathsig", "INT"]).arg(&binaries.postgres);
            command
        } else {
            account.command(&binaries.postgres)
        };
        if let Some(language) = &options.language {
            command.env("LANGUAGE", language);
        }
        command
            .args(arguments)
            // Ctrl-C in the terminal is for us; we stop the server in our own time.
            .process_group(0)
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log);
        let (pid, ended) = run(command)
            .with_context(|| format!("cannot start {}", binaries.postgres.display()))?;
        Ok(Self {
            pid,
            process: Process::Child(ended),
            stopped: false,
        })
    }

    /// Looks for a server that still runs on the folder. Returns it if it answers and runs
    /// with exactly these arguments (and may be adopted at all); stops any other one, and
    /// clears away what a dead one left.
    ///
    /// # Errors
    /// It runs but neither answers nor stops.
    pub(super) fn left_behind(
        folder: &Folder,
        binaries: &Binaries,
        arguments: &[OsString],
        adoptable: bool,
    ) -> Result<Option<Self>> {
        let deadline = Instant::now() + FOUND_PATIENCE;
        let socket = folder.socket.join(format!(".s.PGSQL.{PORT}"));
        while let Some(file) = PidFile::read(folder)? {
            if !file.is_running() {
                file.clear(folder)?;
                return Ok(None);
            }
            if !adoptable || !started_like_this(folder, binaries, arguments) {
                tracing::info!(pid = file.pid.as_raw_pid(), "stopping an earlier server");
                Self::adopted(file).stop()?;
                continue;
            }
            if UnixStream::connect(&socket).is_ok() {
                tracing::info!(pid = file.pid.as_raw_pid(), "adopting a running server");
                return Ok(Some(Self::adopted(file)));
            }
            if Instant::now() > deadline {
                bail!(
                    "process {} runs the database in {} but does not answer; stop it first",
                    file.pid,
                    folder.root.display()
                );
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    fn adopted(file: PidFile) -> Self {
        Self {
            pid: file.pid,
            process: Process::Adopted(file),
            stopped: false,
        }
    }

    pub(super) fn is_adopted(&self) -> bool {
        matches!(self.process, Process::Adopted(_))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_pid().unsigned_abs()
    }

    pub(super) fn is_running(&self) -> bool {
        match &self.process {
            Process::Child(ended) => !ended.get(),
            Process::Adopted(file) => file.is_running(),
        }
    }

    /// Stops the server and waits; once stopped it does nothing. Blocking.
    ///
    /// # Errors
    /// It had to be killed.
    pub(super) fn stop(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.stopped, true) || self.stop_by(Signal::INT, STOP_PATIENCE) {
            return Ok(());
        }
        let pid = self.pid;
        if !self.stop_by(Signal::QUIT, KILL_PATIENCE) && !self.stop_by(Signal::KILL, KILL_PATIENCE)
        {
            bail!("the database server (process {pid}) cannot be stopped");
        }
        bail!("the database server (process {pid}) did not stop in order and was killed")
    }

    /// Kills the server and waits until it is gone. Blocking.
    ///
    /// # Errors
    /// It is still there.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.stopped = true;
        if !self.stop_by(Signal::KILL, KILL_PATIENCE) {
            bail!(
                "the database server (process {}) cannot be killed",
                self.pid
            );
        }
        Ok(())
    }

    fn stop_by(&self, signal: Signal, patience: Duration) -> bool {
        // A process that has just ended by itself cannot be signalled; that is no error.
        if self.is_running() {
            let _ = kill_process(self.pid, signal);
        }
        match &self.process {
            Process::Child(ended) => ended.wait(patience),
            Process::Adopted(file) => {
                // The pid file goes a little before the process does.
                let deadline = Instant::now() + patience;
                while !has_ended(file.pid) {
                    if Instant::now() > deadline {
                        return false;
                    }
                    thread::sleep(POLL);
                }
                true
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            tracing::error!("{e:#}");
        }
    }
}

/// Spawns the command on a thread of its own that waits for its end.
///
/// The kernel's parent-death signal goes by the *thread* that spawned, so that one must not
/// be a worker of somebody's short-lived async runtime.
pub(super) fn run(mut command: Command) -> Result<(Pid, Arc<Ended>)> {
    let ended = Arc::new(Ended::default());
    let flag = Arc::clone(&ended);
    let (tell, told) = mpsc::channel();
    thread::Builder::new()
        .name("postgres".to_owned())
        .spawn(move || {
            let mut child = match command.spawn() {
                Ok(child) => child,
                Err(e) => {
                    let _ = tell.send(Err(e));
                    return;
                }
            };
            let _ = tell.send(Ok(Pid::from_child(&child)));
            if let Err(e) = child.wait() {
                tracing::error!("cannot wait for the database server: {e}");
            }
            flag.set();
        })
        .context("cannot start a thread")?;
    let pid = told.recv().context("the thread ended early")??;
    Ok((pid, ended))
}

/// Whether the kernel can be told to end the server with us.
pub(super) fn setpriv_works() -> bool {
    let works = Command::new("setpriv")
        .args(["--pdeathsig", "INT", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        tracing::warn!("no setpriv here: the database server may outlive a killed program");
    }
    works
}

/// The server writes its command line into `postmaster.opts`, each argument in double
/// quotes, the program without.
fn started_like_this(folder: &Folder, binaries: &Binaries, arguments: &[OsString]) -> bool {
    let mut expected = binaries.postgres.display().to_string();
    for argument in arguments {
        expected.push_str(&format!(" \"{}\"", argument.display()));
    }
    fs::read_to_string(folder.data().join("postmaster.opts"))
        .is_ok_and(|actual| actual.trim_end() == expected)
}

/// What `postmaster.pid` says.
#[derive(Debug)]
struct PidFile {
    pid: Pid,
    path: std::path::PathBuf,
}

impl PidFile {
    /// `None` if there is no such file or it is not written yet.
    fn read(folder: &Folder) -> Result<Option<Self>> {
        let path = folder.data().join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(first_pid(&text).map(|pid| Self { pid, path })),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Whether that server still runs. The file alone proves nothing after a crash, and the
    /// number may belong to another process by now (in containers that is common).
    fn is_running(&self) -> bool {
        let same =
            fs::read_to_string(&self.path).is_ok_and(|text| first_pid(&text) == Some(self.pid));
        same && is_server(self.pid)
    }

    /// Removes what a dead server left, lest a recycled process id block the new one.
    fn clear(&self, folder: &Folder) -> Result<()> {
        let socket_lock = folder.socket.join(format!(".s.PGSQL.{PORT}.lock"));
        for path in [&self.path, &socket_lock] {
            match fs::remove_file(path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn first_pid(text: &str) -> Option<Pid> {
    // A server in single-user mode writes a negative number; it is not ours.
    let number: u32 = text.lines().next()?.trim().parse().ok()?;
    Pid::from_raw(i32::try_from(number).ok()?)
}

/// Whether a process of that number exists and is a PostgreSQL server.
fn is_server(pid: Pid) -> bool {
    // The command line is empty for a dead process that nobody has waited for. Without /proc
    // any process counts as a server, as PostgreSQL itself would have it.
    test_kill_process(pid).is_ok()
        && fs::read(format!("/proc/{pid}/cmdline")).map_or(true, |line| is_postgres(&line))
}

/// Whether a process has let go of everything, also if nobody has waited for it, as is usual
/// for orphans in containers.
fn has_ended(pid: Pid) -> bool {
    // The state follows the program's name, which is in brackets and may contain some.
    let zombie = |stat: String| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
    };
    test_kill_process(pid).is_err()
        || fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(zombie)
}

/// Whether a command line, arguments ended by NUL, is that of a PostgreSQL server.
fn is_postgres(line: &[u8]) -> bool {
    let program = line.split(|&b| b == 0).next().unwrap_or_default();
    let name = program.rsplit(|&b| b == b'/').next().unwrap_or_default();
    name.starts_with(b"postgres") || name.starts_with(b"postmaster")
}

/// A flag that can be waited for with a time limit.
#[derive(Debug, Default)]
pub(super) struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, bool> {
        // A bool cannot be left half-changed.
        self.flag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    pub(super) fn get(&self) -> bool {
        *self.lock()
    }

    /// Whether it was set within `patience`.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let (flag, _) = self
            .changed
            .wait_timeout_while(self.lock(), patience, |ended| !*ended)
            .unwrap_or_else(PoisonError::into_inner);
        *flag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_server_by_its_command_line() {
        assert!(is_postgres(
            b"/usr/lib/postgresql/15/bin/postgres\0-D\0/x\0"
        ));
        assert!(is_postgres(b"postgres: checkpointer \0"));
        assert!(!is_postgres(b"/usr/bin/python3\0postgres\0"));
        assert!(!is_postgres(b""), "a dead process not yet waited for");
    }

    #[test]
    fn reads_pid_files() {
        let pid = |text| first_pid(text).map(Pid::as_raw_pid);
        assert_eq!(pid("4711\n/srv/data\n17\n"), Some(4711));
        assert_eq!(pid(""), None);
        assert_eq!(pid("0\n"), None);
        assert_eq!(pid("-4711\n"), None);
    }
}
