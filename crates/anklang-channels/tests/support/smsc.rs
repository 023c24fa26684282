//! A short message centre: the npm package smpp, run by `plugins/sms/tests/smsc/smsc.js`, whose head
//! says what it does.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long to wait for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where `scripts/setup test` puts the package; `None`, and a word on the standard error, if it is
/// not there. With `CI=true` it has to be.
pub fn modules() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/anklang"));
    let cache = std::env::var_os("ANKLANG_CACHE").map(PathBuf::from);
    let modules = cache.or_else(home)?.join("npm/sms/node_modules");
    let node = Command::new("node").arg("--version").output();
    if modules.join("smpp").is_dir() && node.is_ok_and(|node| node.status.success()) {
        return Some(modules);
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "node or the npm package smpp is missing"
    );
    eprintln!("skipped: node or the npm package smpp is missing (scripts/setup test)");
    None
}

/// A script beside the centre's.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../plugins/sms/tests/smsc")
        .join(name)
}

/// A running centre; stopped when dropped.
pub struct Smsc {
    child: Child,
    port: u16,
    /// With the number of lines that were written to it.
    stdin: Mutex<(ChildStdin, usize)>,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Drop for Smsc {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Smsc {
    /// `None` if it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&json!({}))
    }

    pub fn start_with(options: &Value) -> Option<Self> {
        let mut child = Command::new("node")
            .arg(script("smsc.js"))
            .arg(options.to_string())
            .env("NODE_PATH", modules()?)
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let port = first["port"].as_u64().unwrap().try_into().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap();
                shared.lock().unwrap().push(event);
            }
        });
        let stdin = Mutex::new((child.stdin.take().unwrap(), 0));
        Some(Self {
            child,
            port,
            stdin,
            told,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was told under this name so far: all that the centre did before the last answer that it
    /// gave.
    pub async fn told(&self, event: &str) -> Vec<Value> {
        let asked = {
            let mut stdin = self.stdin.lock().unwrap();
            stdin.0.write_all(b"\n").unwrap();
            stdin.1 += 1;
            stdin.1
        };
        self.until("synchronised", asked).await;
        self.read(event)
    }

    /// What was told under this name, when there are so many.
    pub async fn until(&self, event: &str, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let told = self.read(event);
            if told.len() >= count {
                return told;
            }
            assert!(begun.elapsed() < PATIENCE, "{event}: {told:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn read(&self, event: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter(|one| one["event"] == event)
            .cloned()
            .collect()
    }
}
