//! Real counterparts, when they are installed. With `CI` set they must be.
//!
//! Each lives as long as the test process: it ends when its standard input does.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Where the set-up puts its tools.
fn cache() -> PathBuf {
    match std::env::var_os("ANKLANG_CACHE") {
        Some(cache) => cache.into(),
        None => Path::new(&std::env::var_os("HOME").unwrap()).join(".cache/anklang"),
    }
}

fn here(file: &str) -> PathBuf {
    // Also from the end-to-end tests, which have these counterparts too.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../crates/anklang-channels/tests/social")
        .join(file)
}

/// Whether a program is there; without it the test is skipped, or fails with `CI` set.
fn found(what: &str, probe: &mut Command) -> bool {
    let probed = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = probed.is_ok_and(|status| status.success());
    if !found {
        assert!(
            std::env::var_os("CI").is_none(),
            "{what} is missing; scripts/setup test installs it"
        );
        eprintln!("skipped: {what} is missing; scripts/setup test installs it");
    }
    found
}

/// Starts a program that prints its port, and its child with a standard input that ends with us.
fn start(program: &mut Command) -> (SocketAddr, Child) {
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let port = port.trim().parse().expect("the program prints its port");
    (SocketAddr::from(([127, 0, 0, 1], port)), child)
}

/// A Matrix homeserver whose name is `anklang.test`, at which everybody may register.
pub fn synapse() -> Option<SocketAddr> {
    static RUNNING: OnceLock<Option<(SocketAddr, Child)>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| {
        let venv = std::env::var_os("ANKLANG_VENV").map(PathBuf::from);
        let python = venv
            .unwrap_or_else(|| cache().join("venv"))
            .join("bin/python");
        let installed = "import synapse.app.homeserver";
        let installed = found("Synapse", Command::new(&python).args(["-c", installed]));
        installed.then(|| start(Command::new(&python).arg(here("synapse.py"))))
    });
    running.as_ref().map(|(addr, _)| *addr)
}

/// An emulation of the Bot API of Telegram.
pub fn telegram() -> Option<SocketAddr> {
    static RUNNING: OnceLock<Option<(SocketAddr, Child)>> = OnceLock::new();
    let running = RUNNING.get_or_init(|| {
        let peers = std::env::var_os("ANKLANG_TEST_PEERS").map(PathBuf::from);
        let modules = peers
            .unwrap_or_else(|| cache().join("npm/peers"))
            .join("node_modules");
        let node = || {
            let mut node = Command::new("node");
            node.env("NODE_PATH", &modules);
            node
        };
        let installed = "require('telegram-test-api')";
        let installed = found("telegram-test-api", node().args(["-e", installed]));
        installed.then(|| start(node().arg(here("telegram.js"))))
    });
    running.as_ref().map(|(addr, _)| *addr)
}
