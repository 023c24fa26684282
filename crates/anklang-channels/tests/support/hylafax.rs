//! HylaFAX itself (hfaxd and faxq) on loopback, with a spool folder of its own. Needs root: hfaxd
//! changes its root and its user.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user of the tests and his password.
pub const USER: &str = "fax";
pub const PASSWORD: &str = "geheim";
/// "geheim", by crypt.
const HASHED: &str = "$1$anklang$.F5H9zBrIflwGz9JSEDtH/";

/// Why HylaFAX cannot be run here; with `CI=true` as root, that is a failure.
pub fn cannot_run() -> Option<&'static str> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return Some("HylaFAX needs root");
    }
    let missing = [
        "/usr/sbin/hfaxd",
        "/usr/sbin/faxq",
        "/usr/bin/gs",
        "/usr/bin/tiffinfo",
    ]
    .iter()
    .any(|program| !Path::new(program).exists());
    let why = missing.then_some("hylafax-server, ghostscript or libtiff-tools is not installed");
    assert!(
        why.is_none() || std::env::var("CI").as_deref() != Ok("true"),
        "{why:?}: scripts/setup test"
    );
    why
}

pub struct Hylafax {
    folder: tempfile::TempDir,
    port: u16,
    hfaxd: Child,
    faxq: Option<Child>,
}

impl Drop for Hylafax {
    fn drop(&mut self) {
        self.stop_faxq();
        stop(&mut self.hfaxd);
    }
}

impl Hylafax {
    /// Starts both, without modems: jobs wait.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Another user has to get in.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let spool = folder.path().join("spool");
        make_spool(&spool);
        let port = free_port();
        let faxq = Some(start_faxq(&spool));
        let hfaxd = Command::new("/usr/sbin/hfaxd")
            .args(["-d", "-l", "127.0.0.1", "-i", &port.to_string(), "-q"])
            .arg(&spool)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            folder,
            port,
            hfaxd,
            faxq,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "hfaxd does not answer"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// The scheduler is gone.
    pub fn stop_faxq(&mut self) {
        if let Some(mut faxq) = self.faxq.take() {
            stop(&mut faxq);
        }
    }

    pub fn start_faxq(&mut self) {
        self.faxq = Some(start_faxq(&self.spool()));
    }

    /// The scheduler stands still (`STOP`), or goes on (`CONT`).
    pub fn signal_faxq(&self, signal: &str) {
        let pid = self.faxq.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Says commands as somebody with a client; each has to succeed.
    pub fn client(&self, commands: &[&str]) {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        let mut stream = BufReader::new(stream);
        let login = [format!("USER {USER}"), format!("PASS {PASSWORD}")];
        let commands = commands.iter().map(|command| (*command).to_owned());
        let mut line = String::new();
        while !line.starts_with("220 ") {
            line.clear();
            assert!(stream.read_line(&mut line).unwrap() > 0);
        }
        for command in login.into_iter().chain(commands) {
            write!(stream.get_mut(), "{command}\r\n").unwrap();
            line.clear();
            stream.read_line(&mut line).unwrap();
            assert!(line.starts_with(['2', '3']), "{command}: {line}");
        }
    }

    /// The files of a queue whose names begin so.
    pub fn files(&self, queue: &str, begin: &str) -> Vec<PathBuf> {
        let mut files: Vec<_> = std::fs::read_dir(self.spool().join(queue))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(begin)
            })
            .collect();
        files.sort();
        files
    }

    /// What the file of a waiting job says under `key`.
    pub fn says(&self, job: &str, key: &str) -> String {
        let file = std::fs::read_to_string(self.spool().join("sendq").join(format!("q{job}")));
        let file = file.unwrap();
        let mut lines = file.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(k, _)| *k == key).unwrap().1.to_owned()
    }
}

/// Width and length in dots, and lines per inch, of each page of a file.
pub fn tiff_pages(file: &Path) -> Vec<(u32, u32, f64)> {
    let told = Command::new("/usr/bin/tiffinfo")
        .arg(file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let after = |text: &str, mark: &str| {
        let rest = text
            .split_once(mark)
            .unwrap_or_else(|| panic!("{mark}: {text}"))
            .1;
        rest.trim_start()
            .split([' ', ',', '\n'])
            .next()
            .unwrap()
            .to_owned()
    };
    told.split("TIFF Directory at")
        .skip(1)
        .map(|page| {
            let lines = after(page, "Resolution:").parse::<f64>().unwrap();
            assert!((203.0..206.0).contains(&lines), "{page}");
            (
                after(page, "Image Width:").parse().unwrap(),
                after(page, "Image Length:").parse().unwrap(),
                after(page, "Resolution: 204,").parse().unwrap(),
            )
        })
        .collect()
}

/// A spool folder as the package has it, with one user.
pub fn make_spool(spool: &Path) {
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).status().unwrap();
        assert!(done.success(), "{program} {arguments:?}");
    };
    let folders = [
        "archive", "client", "dev", "docq", "doneq", "etc", "info", "log", "pollq", "recvq",
        "sendq", "status", "tmp",
    ];
    for folder in folders {
        std::fs::create_dir_all(spool.join(folder)).unwrap();
    }
    let path = spool.to_str().unwrap();
    run(
        "cp",
        &[
            "-a",
            "/var/spool/hylafax/bin",
            "/var/spool/hylafax/config",
            path,
        ],
    );
    run("cp", &["-a", "/etc/hylafax/.", &format!("{path}/etc")]);
    let users = spool.join("etc/hosts.hfaxd");
    std::fs::write(
        &users,
        format!("^{USER}@(localhost|127\\.0\\.0\\.1)$:21:{HASHED}\n"),
    )
    .unwrap();
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o600)).unwrap();
    run("chown", &["-R", "uucp:uucp", path]);
    // The scheduler's ear.
    run("mkfifo", &["-m", "600", &format!("{path}/FIFO")]);
    run("chown", &["uucp:uucp", &format!("{path}/FIFO")]);
}

fn start_faxq(spool: &Path) -> Child {
    let faxq = Command::new("/usr/sbin/faxq")
        .args(["-D", "-q"])
        .arg(spool)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let ear = spool.join("FIFO");
    let begun = Instant::now();
    // Opens only while somebody reads it.
    while !listened(&ear) {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "faxq does not listen"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    faxq
}

fn listened(fifo: &Path) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    const O_NONBLOCK: i32 = 0o4000;
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(fifo)
        .is_ok()
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn stop(child: &mut Child) {
    // It may be over.
    let _ = child.kill();
    let _ = child.wait();
}
