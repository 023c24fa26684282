//! What people see who look at a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use anklang_testkit::TestServer;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::time::timeout;

use super::command;
use crate::utility::{FEW, launch, with_utility};

/// A terminal of 80 columns: the side of who looks, and that of a program.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let looks = openpt(flags).unwrap();
    grantpt(&looks).unwrap();
    unlockpt(&looks).unwrap();
    let size = Winsize {
        ws_row: 24,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&looks, size).unwrap();
    let name = ptsname(&looks, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let program = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    (looks.into(), program)
}

/// All that a command writes to a terminal.
async fn seen(server: &TestServer, line: &str) -> (ExitStatus, String) {
    let (mut looks, program) = terminal();
    let mut child = {
        let mut command = command(&server.addr.to_string(), line);
        command
            .env("TERM", "xterm")
            .stdout(program.try_clone().unwrap())
            .stderr(program);
        command.spawn().unwrap()
    };
    let reading = tokio::task::spawn_blocking(move || {
        let (mut all, mut some) = (Vec::new(), [0; 4_096]);
        // It fails when no program has it open any more.
        while let Ok(read @ 1..) = looks.read(&mut some) {
            all.extend(&some[..read]);
        }
        all
    });
    // It is killed otherwise.
    let ended = timeout(Duration::from_secs(60), child.wait()).await;
    let status = ended.expect("an end").unwrap();
    let seen = String::from_utf8(reading.await.unwrap()).unwrap();
    (status, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_sees_a_bar_until_it_is_over() {
    let server = TestServer::start().await.unwrap();
    let (client, utility) = with_utility(&server, FEW).await;
    let launched = launch(&client, utility.launch()).await;
    let operation = launched.phase.unwrap().operation;
    let (status, seen) = seen(&server, &format!("operations watch {operation}")).await;
    assert!(status.success(), "{seen}");
    // What is redrawn begins with its phase; at the end the bar is full.
    let drawn = seen.split(['\r', '\n']);
    let mut bar = drawn.filter(|line| line.contains("finished") && line.contains('█'));
    let bar = bar
        .next_back()
        .unwrap_or_else(|| panic!("no bar: {seen:?}"));
    assert!(!bar.contains('░'), "{bar:?}");
    // Then it is cleared away, and what came of it is told.
    let (_, after) = seen.rsplit_once("\u{1b}[2K").expect("it is cleared");
    assert!(!after.contains(['█', '░']), "{after:?}");
    let members = utility.members().len().to_string();
    let told = after.lines().find(|line| line.starts_with("members"));
    assert!(told.unwrap().trim_end().ends_with(&members), "{after:?}");
}
