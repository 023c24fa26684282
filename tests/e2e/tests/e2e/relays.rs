//! Mail servers of others, as relays for the mail plugin.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A mail as it arrived.
pub struct Mail {
    /// Recipients of its envelope.
    pub recipients: Vec<String>,
    /// Headers and body.
    pub bytes: Vec<u8>,
}

/// A running mail server that keeps each mail in a file; ends when dropped.
pub struct Relay {
    child: Child,
    folder: TempDir,
    settings: String,
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Relay {
    /// Settings of an account that uses it, as TOML lines.
    pub fn settings(&self) -> String {
        self.settings.clone()
    }

    /// The mails so far. Both servers write the envelope as header lines before the mail.
    pub fn mails(&self) -> Vec<Mail> {
        let files = std::fs::read_dir(self.folder.path().join("mails")).unwrap();
        let read = |path: PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let recipients = text
                .lines()
                .take_while(|line| !line.is_empty())
                .filter_map(|line| line.strip_prefix("X-Rcpt-Args: <"))
                .map(|rest| rest.split('>').next().unwrap().to_owned())
                .collect();
            Mail { recipients, bytes }
        };
        files.map(|file| read(file.unwrap().path())).collect()
    }
}

/// A folder that other users can write to: as root, `smtp-sink` runs as nobody.
fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(folder.path(), 0o755);
    std::fs::create_dir(folder.path().join("mails")).unwrap();
    open(&folder.path().join("mails"), 0o777);
    folder
}

/// The `smtp-sink` of postfix, when it is installed.
pub fn postfix_sink() -> Option<Relay> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let Some(program) = folders.find_map(|f| Some(f.join("smtp-sink")).filter(|p| p.is_file()))
    else {
        eprintln!("skipped: there is no smtp-sink; install the package postfix");
        return None;
    };
    let folder = folder();
    // It cannot choose a port itself.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = Command::new(program);
    if is_root() {
        command.args(["-u", "nobody"]);
    }
    let child = command
        .arg("-d")
        .arg(folder.path().join("mails/%Y%m%d%H%M%S."))
        .arg(format!("127.0.0.1:{port}"))
        .arg("100")
        .spawn()
        .unwrap();
    let settings = format!("host = \"127.0.0.1\"\nport = {port}\ntls = \"none\"");
    let relay = Relay {
        child,
        folder,
        settings,
    };
    let connects = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    let up = (0..100).any(|_| {
        connects() || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            false
        }
    });
    assert!(up, "smtp-sink does not listen");
    Some(relay)
}

/// aiosmtpd, demanding STARTTLS and a login, when Python has it.
pub fn aiosmtpd() -> Option<Relay> {
    let python = venv().join("bin/python");
    let found = Command::new(&python)
        .args(["-c", "import aiosmtpd"])
        .output();
    if !found.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: {} has no aiosmtpd", python.display());
        return None;
    }
    let folder = folder();
    certificates(folder.path());
    let mut child = Command::new(&python)
        .args(["-W", "ignore"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/relay.py"))
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let settings = format!(
        "host = \"localhost\"\nport = {}\ntls = \"starttls\"\nca_file = '{}'\n\
         username = \"anklang\"\npassword = \"Gänse füßchen\"",
        port.trim(),
        folder.path().join("ca.pem").display(),
    );
    Some(Relay {
        child,
        folder,
        settings,
    })
}

/// `$ANKLANG_VENV`, else where the set-up puts it.
pub fn venv() -> PathBuf {
    match std::env::var_os("ANKLANG_VENV") {
        Some(venv) => venv.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/anklang/venv"),
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// An authority of its own, and a certificate of it for localhost.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("chain.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}
