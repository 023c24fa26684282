//! A mail server of others: postfix takes mails, dovecot keeps them and is read by IMAP.
//!
//! It has the accounts `outreach@send.test`, to which `outreach+…@send.test` goes as well,
//! `alice@recv.test`, and `carl@recv.test`, whose mails postfix delivers itself, so that it can report
//! that. A mail to anybody else in these domains is taken, and bounces.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// The password of `outreach@send.test`; not ASCII, so that logins have to care.
pub const PASSWORD: &str = "Gänse füßchen";
/// For how long is waited for what must come.
const PATIENCE: Duration = Duration::from_secs(120);
/// Debian's user for mails, and the number of user and group.
const OWNER: &str = "mail";
const OWNER_ID: &str = "8";

pub struct World {
    folder: TempDir,
    servers: Vec<Child>,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    /// From other servers: no TLS, no login.
    mx: u16,
    /// From clients, with STARTTLS and login.
    submission: u16,
    /// From clients, with TLS from the first byte and login.
    smtps: u16,
    /// With STARTTLS.
    imap: u16,
    imaps: u16,
}

impl Drop for World {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Their own children end with a signal that they can act on.
            let pid = server.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = server.wait();
        }
    }
}

impl World {
    /// Starts both; `None` where they are not installed, or this is not root.
    pub fn start() -> Option<Self> {
        let missing = [
            "/usr/sbin/postfix",
            "/usr/sbin/dovecot",
            "/usr/lib/dovecot/lmtp",
        ]
        .into_iter()
        .find(|program| !Path::new(program).is_file());
        if let Some(missing) = missing {
            return skip(&format!("there is no {missing}: scripts/setup test"));
        }
        if !is_root() {
            return skip("postfix runs for root alone");
        }
        let folder = tempfile::tempdir().unwrap();
        open_to_all(folder.path());
        let port = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let mut world = Self {
            ports: Ports {
                mx: port(),
                submission: port(),
                smtps: port(),
                imap: port(),
                imaps: port(),
            },
            folder,
            servers: Vec::new(),
        };
        world.certificates();
        world.start_dovecot();
        world.start_postfix();
        for port in [world.ports.mx, world.ports.submission, world.ports.imaps] {
            until(&format!("port {port}"), || {
                TcpStream::connect(("127.0.0.1", port)).ok()
            });
        }
        Some(world)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The authority of its certificate, which is for `localhost`.
    pub fn authority(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    pub fn submission(&self) -> u16 {
        self.ports.submission
    }

    pub fn smtps(&self) -> u16 {
        self.ports.smtps
    }

    pub fn imap(&self) -> u16 {
        self.ports.imap
    }

    pub fn imaps(&self) -> u16 {
        self.ports.imaps
    }

    /// The mails in a folder of a user, the INBOX being "".
    pub fn mails(&self, user: &str, folder: &str) -> Vec<String> {
        let mailbox = self.path("mails").join(user);
        let mailbox = match folder {
            "" => mailbox,
            folder => mailbox.join(format!(".{folder}")),
        };
        let files = ["new", "cur"].into_iter().filter_map(|part| {
            let files = std::fs::read_dir(mailbox.join(part)).ok()?;
            Some(files.filter_map(|file| std::fs::read(file.ok()?.path()).ok()))
        });
        files
            .flatten()
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect()
    }

    /// Waits until a folder holds so many mails.
    pub fn mails_when(&self, user: &str, folder: &str, count: usize) -> Vec<String> {
        until(&format!("{count} mails in {folder:?} of {user}"), || {
            let mails = self.mails(user, folder);
            (mails.len() == count).then_some(mails)
        })
    }

    /// Hands a mail in, as another server does.
    pub fn deliver(&self, from: &str, to: &str, mail: &str) {
        let stream = TcpStream::connect(("127.0.0.1", self.ports.mx)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let body = mail
            .replace("\r\n", "\n")
            .replace('\n', "\r\n")
            .replace("\r\n.", "\r\n..");
        let commands = [
            (String::new(), "220"),
            ("HELO other.test\r\n".to_owned(), "250"),
            (format!("MAIL FROM:<{from}>\r\n"), "250"),
            (format!("RCPT TO:<{to}>\r\n"), "250"),
            ("DATA\r\n".to_owned(), "354"),
            (format!("{body}\r\n.\r\n"), "250"),
            ("QUIT\r\n".to_owned(), "221"),
        ];
        for (command, expected) in commands {
            stream.write_all(command.as_bytes()).unwrap();
            let mut answer = String::new();
            while answer.len() < 4 || answer.as_bytes()[3] == b'-' {
                answer.clear();
                assert!(
                    answers.read_line(&mut answer).unwrap() > 0,
                    "after {command}"
                );
            }
            assert!(answer.starts_with(expected), "{command}: {answer}");
        }
    }

    /// Lays any bytes into the INBOX of `outreach@send.test`.
    pub fn lay(&self, name: &str, bytes: &[u8]) {
        let inbox = self.path("mails/outreach@send.test");
        let file = inbox.join("tmp").join(name);
        std::fs::write(&file, bytes).unwrap();
        chown(OWNER, &file);
        std::fs::rename(&file, inbox.join("new").join(name)).unwrap();
    }

    fn certificates(&self) {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(self.path("ca.pem"), authority.pem()).unwrap();
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    fn start_dovecot(&mut self) {
        std::fs::create_dir(self.path("mails")).unwrap();
        chown(OWNER, &self.path("mails"));
        let passwords =
            format!("outreach@send.test:{{PLAIN}}{PASSWORD}\nalice@recv.test:{{PLAIN}}a\n");
        std::fs::write(self.path("passwd"), passwords).unwrap();
        self.write("dovecot.conf", include_str!("dovecot.conf"));
        let conf = self.path("dovecot.conf");
        self.spawn(
            "/usr/sbin/dovecot",
            &["-F", "-c", conf.to_str().unwrap()],
            "dovecot.log",
        );
        until("dovecot", || self.path("run/lmtp").exists().then_some(()));
    }

    fn start_postfix(&mut self) {
        for name in ["postfix", "postfix/spool", "postfix/data"] {
            std::fs::create_dir(self.path(name)).unwrap();
        }
        chown("postfix", &self.path("postfix/data"));
        self.write("postfix/main.cf", include_str!("postfix-main.cf"));
        self.write("postfix/master.cf", include_str!("postfix-master.cf"));
        let conf = self.path("postfix");
        self.spawn(
            "/usr/sbin/postfix",
            &["-c", conf.to_str().unwrap(), "start-fg"],
            "postfix.log",
        );
    }

    fn write(&self, name: &str, template: &str) {
        let Ports {
            mx,
            submission,
            smtps,
            imap,
            imaps,
        } = self.ports;
        let text = template
            .replace("@DIR@", self.folder.path().to_str().unwrap())
            .replace("@OWNER@", OWNER)
            .replace("@UID@", OWNER_ID)
            .replace("@MX@", &mx.to_string())
            .replace("@SUBMISSION@", &submission.to_string())
            .replace("@SMTPS@", &smtps.to_string())
            .replace("@IMAP@", &imap.to_string())
            .replace("@IMAPS@", &imaps.to_string());
        std::fs::write(self.path(name), text).unwrap();
    }

    fn spawn(&mut self, program: &str, arguments: &[&str], log: &str) {
        let log = std::fs::File::create(self.path(log)).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.servers.push(child);
    }
}

/// Waits for what must come.
pub fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// With `CI=true` nothing may be missing.
pub fn skip<T>(reason: &str) -> Option<T> {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{reason}"
    );
    eprintln!("skipped: {reason}");
    None
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn chown(user: &str, path: &Path) {
    let changed = Command::new("chown").arg(user).arg(path).status().unwrap();
    assert!(changed.success(), "chown {user}");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}
