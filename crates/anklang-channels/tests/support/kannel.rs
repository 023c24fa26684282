//! Kannel, a real SMS gateway, between HTTP and a short message centre. On loopback only.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::smsc::PATIENCE;

/// Where Debian puts its programs; not in a normal user's PATH.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/bin"];

/// A running gateway; stopped when dropped.
pub struct Kannel {
    sendsms: u16,
    // First the one that needs the other.
    smsbox: Child,
    bearerbox: Child,
    _folder: TempDir,
}

impl Drop for Kannel {
    fn drop(&mut self) {
        for child in [&mut self.smsbox, &mut self.bearerbox] {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The programs; `None`, and a word on the standard error, if they are not there. With `CI=true`
/// they have to be.
fn programs() -> Option<[PathBuf; 2]> {
    let find = |name: &str| {
        let paths = FOLDERS.iter().map(|folder| Path::new(folder).join(name));
        paths.into_iter().find(|path| path.is_file())
    };
    if let (Some(bearerbox), Some(smsbox)) = (find("bearerbox"), find("smsbox")) {
        return Some([bearerbox, smsbox]);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "Kannel is missing"
    );
    eprintln!("skipped: Kannel is missing (scripts/setup test)");
    None
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All open at once, so that none comes twice.
    let open: Vec<_> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    std::array::from_fn(|index| open[index].local_addr().unwrap().port())
}

impl Kannel {
    /// Between the centre on port `smsc` and the callbacks at `callback`, which is a URL that goes on
    /// with parameters.
    pub async fn start(smsc: u16, callback: &str) -> Option<Self> {
        let [bearerbox, smsbox] = programs()?;
        let folder = tempfile::tempdir().unwrap();
        let [admin, box_port, sendsms] = free_ports();
        let config = folder.path().join("kannel.conf");
        std::fs::write(
            &config,
            settings(smsc, [admin, box_port, sendsms], callback),
        )
        .unwrap();
        let start = |program: &Path| {
            let log = std::fs::File::create(config.with_extension("log")).unwrap();
            Command::new(program)
                .arg(&config)
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .spawn()
                .unwrap()
        };
        let bearerbox = start(&bearerbox);
        listening(box_port).await;
        let smsbox = start(&smsbox);
        let kannel = Self {
            sendsms,
            smsbox,
            bearerbox,
            _folder: folder,
        };
        listening(sendsms).await;
        Some(kannel)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/cgi-bin/sendsms", self.sendsms)
    }
}

async fn listening(port: u16) {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        assert!(begun.elapsed() < PATIENCE, "Kannel does not listen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn settings(smsc: u16, [admin, box_port, sendsms]: [u16; 3], callback: &str) -> String {
    format!(
        r#"group = core
admin-port = {admin}
admin-interface = 127.0.0.1
admin-password = geheim
smsbox-port = {box_port}
smsbox-interface = 127.0.0.1
box-deny-ip = "*.*.*.*"
box-allow-ip = "127.0.0.1"
log-level = 2
dlr-storage = internal

group = smsc
smsc = smpp
smsc-id = centre
host = 127.0.0.1
port = {smsc}
transceiver-mode = 1
smsc-username = kannel
smsc-password = s3cret
system-type = ""
address-range = ""
reconnect-delay = 1

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = {box_port}
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
log-level = 2

group = sendsms-user
username = anklang
password = s3cret
max-messages = 6
concatenation = true

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "{callback}&from=%p&to=%P&text=%b&charset=%C&id=%I&at=%T"
"#
    )
}
