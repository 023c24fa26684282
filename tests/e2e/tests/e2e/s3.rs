//! Documents in a bucket of S3, the real program against moto, and what happens when it is away.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anklang_testkit::{Options, TestServer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::documents::{bundled, check, outbound};
use crate::relays::venv;
use crate::utility::{Case, launched, until, until_sent, with_utility};

/// A running moto; ends when dropped.
struct Moto {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn moto() -> Option<Moto> {
    let python = venv().join("bin/python");
    let found = Command::new(&python)
        .args(["-c", "import moto.server, boto3"])
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} has no moto; scripts/setup test installs it",
            python.display()
        );
        eprintln!("skipped: {} has no moto", python.display());
        return None;
    }
    let mut child = Command::new(&python)
        .args(["-W", "ignore"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/s3.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut port)
        .unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], port.trim().parse().unwrap()));
    Some(Moto { child, addr })
}

/// A cable to a server that can be cut and mended.
struct Cable {
    addr: SocketAddr,
    whole: Arc<watch::Sender<bool>>,
}

impl Cable {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let whole = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&whole);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.subscribe();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { addr, whole }
    }

    fn cut(&self) {
        self.whole.send_replace(false);
    }

    fn mend(&self) {
        self.whole.send_replace(true);
    }
}

fn options(addr: SocketAddr, bucket: &str) -> Options {
    Options {
        documents: "store = \"s3\"\nletters_per_print_file = 20".into(),
        config: format!(
            "[documents.s3]\nendpoint = \"http://{addr}\"\nbucket = \"{bucket}\"\n\
             prefix = \"some/where\"\naccess_key_id = \"id\"\nsecret_access_key = \"secret\""
        ),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_launch_waits_for_its_bucket_and_loses_nothing() {
    const MEMBERS: usize = 45;
    let Some(moto) = moto() else { return };
    let cable = Cable::to(moto.addr).await;
    let server = TestServer::start_with(options(cable.addr, "anklang"))
        .await
        .unwrap();
    let (client, utility) = with_utility(&server, &[(Case::Plain, MEMBERS)]).await;
    // Away when the launch begins to put documents, then again while it bundles them.
    cable.cut();
    let operation = client
        .campaigns()
        .launch_campaign(utility.launch())
        .await
        .unwrap();
    let troubled = "SELECT count(*) FROM operation WHERE cardinality(last_errors) > 0";
    until("an error that is shown", async || {
        server.database.one(troubled).await.unwrap() == "1"
    })
    .await;
    cable.mend();
    let recorded = "SELECT count(*) > 0 FROM bundle_file";
    until("a print file", async || {
        server.database.one(recorded).await.unwrap() == "t"
    })
    .await;
    cable.cut();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    cable.mend();

    let done = launched(&client.finished(operation.get_ref()).await.unwrap());
    assert_eq!(
        (done.members, done.failed_documents),
        (i64::try_from(MEMBERS).unwrap(), 0)
    );
    let bundle = bundled(&client, &done).await;
    let sizes: Vec<i64> = bundle.print_files.iter().map(|f| f.letters).collect();
    assert_eq!(sizes, [20, 20, 5]);
    check(&client, &outbound(&done), &bundle).await;
    let campaign = done.campaign.unwrap().name;
    until_sent(&client, &campaign, MEMBERS).await;
    // Nothing went into a folder.
    assert!(!server.documents().exists());
}

async fn start_error(options: Options) -> String {
    match TestServer::start_with(options).await {
        Ok(_) => panic!("it must not start"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn a_bucket_that_cannot_be_used_is_told_at_the_start() {
    let Some(moto) = moto() else { return };
    let told = start_error(options(moto.addr, "elsewhere")).await;
    assert!(told.contains("there is no bucket elsewhere"), "{told}");

    let refuses = axum::Router::new().fallback(async || axum::http::StatusCode::FORBIDDEN);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async { axum::serve(listener, refuses).await });
    let told = start_error(options(addr, "anklang")).await;
    assert!(told.contains("do not allow to write"), "{told}");
}
