//! Files that the process may open.

use anklang_testkit::{Options, TestServer};
use tokio::net::TcpStream;

use super::soon;
use crate::tls::certificates::{Authority, Mount};
use crate::tls::{answers, endpoint};

/// So many files the server may have open.
const FILES: usize = 256;
/// So many connect and say nothing.
const SILENT: usize = 300;

#[tokio::test]
async fn whoever_connects_by_tls_and_says_nothing_leaves_files_for_all_else() {
    let authority = Authority::new();
    let mount = Mount::new(&authority.sign(), "");
    let limited = format!("ulimit -n {FILES} && exec \"$0\" \"$@\"");
    let server = TestServer::start_with(Options {
        config: mount.settings("[server.limits]\nheader_seconds = 600"),
        roles: vec!["api"],
        wrapper: ["sh", "-c", &limited].map(str::to_owned).into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(server.addr).await.unwrap());
    }
    // Whoever comes behind them is served.
    assert!(soon(answers(endpoint(server.addr, &authority, None))).await);
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid().unwrap()));
    let open = open.unwrap().count();
    assert!(open <= FILES * 3 / 4, "{open} files are open");
    assert!(
        !server.log().contains("Too many open files"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_server_may_open_as_many_files_as_it_may_let_itself() {
    let server = TestServer::start_with(Options {
        roles: vec!["api"],
        wrapper: ["sh", "-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]
            .map(str::to_owned)
            .into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid().unwrap()));
    let limits = limits.unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.unwrap().split_whitespace().skip(3);
    assert_eq!(words.next(), words.next(), "{limits}");
}
