//! Starts the process of a plugin: the socket is its standard input, the sealed library its
//! standard output, and it has nothing else of the host's, neither files nor environment.
#![expect(unsafe_code, reason = "hands a file over to be waited for")]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::hosting::{HostProgram, ProcessOptions};
use crate::library::Image;

/// Variables that a plugin and its libraries go by: language, time zone, where things are, whom
/// to trust, how to get out.
const ENVIRONMENT: [&str; 19] = [
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "NO_PROXY",
    "PATH",
    "RUST_BACKTRACE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "http_proxy",
    "https_proxy",
];
/// A process whose socket is at its end is gone, or just about to be.
const MOMENT: Duration = Duration::from_secs(2);

/// A process of a plugin. It is killed when this is dropped.
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    status: Option<ExitStatus>,
}

/// Starts one whose standard error is read.
pub(crate) fn start(
    program: &HostProgram,
    image: &Image,
    options: &ProcessOptions,
) -> io::Result<(Process, UnixStream, Option<ChildStderr>)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut process = spawn(command(program, image, options, theirs)?, Stdio::piped())?;
    let stderr = process.child.stderr.take();
    Ok((process, ours, stderr))
}

/// Starts one whose standard error goes nowhere.
pub(crate) fn quietly(
    program: &HostProgram,
    image: &Image,
    options: &ProcessOptions,
) -> io::Result<(Process, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let process = spawn(command(program, image, options, theirs)?, Stdio::null())?;
    Ok((process, ours))
}

fn command(
    program: &HostProgram,
    image: &Image,
    options: &ProcessOptions,
    socket: UnixStream,
) -> io::Result<Command> {
    let further = options.environment.iter().map(String::as_str);
    let kept = ENVIRONMENT
        .into_iter()
        .chain(further)
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(&program.path);
    command
        .args(&program.arguments)
        .env_clear()
        .envs(kept)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::from(image.file.try_clone()?))
        // Ctrl-C is for the host, which lets it finish. What it starts itself is of this group, and ends
        // with it.
        .process_group(0);
    Ok(command)
}

/// A process dies with the *thread* that started it, as it asks for. So that is one that lives as
/// long as the host.
fn spawn(mut command: Command, stderr: Stdio) -> io::Result<Process> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static STARTER: LazyLock<io::Result<mpsc::Sender<Order>>> = LazyLock::new(|| {
        let (orders, taken) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("plugin-starter".to_owned())
            .spawn(move || {
                for (mut command, answer) in taken {
                    // Who asked may have given up; then it is dropped and ends.
                    let _ = answer.send(command.spawn());
                }
            })?;
        Ok(orders)
    });
    command.stderr(stderr);
    let gone = || io::Error::other("the thread that starts processes is gone");
    let orders = STARTER.as_ref().map_err(|e| io::Error::from(e.kind()))?;
    let (answer, answered) = mpsc::sync_channel(1);
    orders.send((command, answer)).map_err(|_| gone())?;
    let child = answered.recv().map_err(|_| gone())??;
    let pid = Pid::from_child(&child);
    Ok(Process {
        child,
        pid,
        status: None,
    })
}

impl Process {
    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and what it has started.
    pub(crate) fn kill(&mut self) {
        if self.status.is_none() {
            // An error says that it is gone.
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.kill();
        }
    }

    /// Waits for its end.
    pub(crate) async fn exited(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status()? {
            return Ok(status);
        }
        let pidfd = pidfd_open(self.pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: an open file that nobody else has; it is closed when `watch` is dropped.
        let watch = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        loop {
            if let Some(status) = self.status()? {
                return Ok(status);
            }
            watch.readable().await?.clear_ready();
        }
    }

    /// How it ended, if it ends within a moment. Blocks.
    pub(crate) fn wait_a_moment(&mut self) -> Option<String> {
        let until = Instant::now() + MOMENT;
        while Instant::now() < until {
            if let Some(status) = self.status().ok()? {
                return Some(described(status));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        // Once it was waited for, its number may be another's.
        if self.status.is_none() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            if waitid(WaitId::Pid(self.pid), options)?.is_some() {
                // However it ended: what it has started ends as well. An error says that nothing is left.
                let _ = kill_process_group(self.pid, Signal::KILL);
            }
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.status(), Ok(None)) {
            self.kill();
            // Killed, so this takes no time.
            let _ = self.child.wait();
        }
    }
}

/// How a process ended, for people.
pub(crate) fn described(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        let code = status.code().unwrap_or_default();
        return format!("its process ended with code {code}");
    };
    let name = match signal {
        libc::SIGABRT => "SIGABRT: it gave up",
        libc::SIGBUS => "SIGBUS: memory that is not there",
        libc::SIGFPE => "SIGFPE: arithmetic",
        libc::SIGILL => "SIGILL: no instruction",
        libc::SIGKILL => "SIGKILL: from outside",
        libc::SIGSEGV => "SIGSEGV: memory that is not its own",
        libc::SIGTRAP => "SIGTRAP: a trap",
        libc::SIGXCPU => "SIGXCPU: its CPU time is used up",
        _ => return format!("its process was ended by signal {signal}"),
    };
    format!("its process was ended by signal {signal} ({name})")
}
