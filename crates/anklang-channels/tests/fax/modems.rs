//! The whole way: HylaFAX dials over one software modem, another answers, and what it received is
//! looked at. Two iaxmodems call each other over loopback, in a network of their own, because they
//! listen on every address.
//!
//! Takes some minutes, so it only runs with `ANKLANG_TEST_FAX_LOOP=1`, as root, with the packages
//! hylafax-server, iaxmodem, ghostscript and libtiff-tools.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anklang_channels::proto::delivery_event::State;
use serde_json::json;

use super::*;
use crate::hylafax::{PASSWORD, USER, cannot_run, make_spool, tiff_pages};

const SWITCH: &str = "ANKLANG_TEST_FAX_LOOP";
const FOLDER: &str = "ANKLANG_TEST_FAX_FOLDER";
const MODEMS: [&str; 3] = ["ttyIAX0", "ttyIAX1", "ttyIAX2"];
const NAME: &str = "modems::pages_arrive_and_failures_are_told";

#[tokio::test]
async fn pages_arrive_and_failures_are_told() {
    match std::env::var(SWITCH).as_deref() {
        Ok("inside") => whole_way(Path::new(&std::env::var(FOLDER).unwrap())).await,
        Ok("1") if cannot_run().is_none() => {
            // Built out here, where there is a network.
            library();
            // Out here as well, to be removed when all processes in there are gone.
            let folder = tempfile::tempdir().unwrap();
            let script = "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture";
            let apart = [
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ];
            let run = Command::new("unshare")
                .args(apart)
                .args(["sh", "-c", script])
                .arg(std::env::current_exe().unwrap())
                .arg(NAME)
                .env(SWITCH, "inside")
                .env(FOLDER, folder.path())
                .status()
                .unwrap();
            assert!(run.success(), "{run}");
        }
        Ok("1") => panic!("{:?}", cannot_run()),
        _ => eprintln!("skipped: {SWITCH}=1 runs it, as root, for some minutes"),
    }
}

/// Processes that end with the test.
struct Running(Vec<(String, Child)>);

impl Running {
    fn start(&mut self, name: &str, program: &str, arguments: &[&str]) {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.0.push((name.to_owned(), child));
    }

    fn stop(&mut self, name: &str) {
        for (_, child) in self.0.iter_mut().filter(|(n, _)| n == name) {
            // It may be over.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.0.retain(|(n, _)| n != name);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
        for modem in MODEMS {
            let _ = std::fs::remove_file(Path::new("/dev").join(modem));
        }
    }
}

fn bind(from: &Path, to: &str) {
    std::fs::create_dir_all(to).unwrap();
    let done = Command::new("mount")
        .arg("--bind")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(done.success());
}

/// The first sends, the second receives.
fn make_modems(folder: &Path, spool: &Path) {
    let modems = folder.join("iaxmodem");
    std::fs::create_dir(&modems).unwrap();
    let prototype = std::fs::read_to_string(spool.join("config/iaxmodem")).unwrap();
    // The third calls the second as well.
    for (modem, port, other, rings) in [
        ("ttyIAX0", 4570, 4571, 0),
        ("ttyIAX1", 4571, 4570, 1),
        ("ttyIAX2", 4572, 4571, 0),
    ] {
        let line = format!(
            "device /dev/{modem}\nowner uucp:uucp\nmode 660\nport {port}\nrefresh 0\n\
             server 127.0.0.1:{other}\npeername {modem}\nsecret secret\ncodec slinear\nnodaemon\n"
        );
        std::fs::write(modems.join(modem), line).unwrap();
        let config = format!(
            "CountryCode: 49\nAreaCode: 561\nFAXNumber: +49561{port}\nLongDistancePrefix: 0\n\
             InternationalPrefix: 00\nDialStringRules: etc/dialrules\nServerTracing: 1\n\
             SessionTracing: 11\nRecvFileMode: 0600\nLogFileMode: 0600\nDeviceMode: 0600\n\
             RingsBeforeAnswer: {rings}\nSpeakerVolume: off\n\
             LocalIdentifier: \"Modem {port}\"\nMaxRecvPages: 25\nUseJobTSI: yes\n{prototype}"
        );
        let file = spool.join("etc").join(format!("config.{modem}"));
        std::fs::write(&file, config).unwrap();
    }
    let owned = Command::new("chown")
        .args(["-R", "uucp:uucp"])
        .arg(spool)
        .status()
        .unwrap();
    assert!(owned.success());
    bind(&modems, "/etc/iaxmodem");
    // A lock of a process that ended looks like that of another one of the same number in here.
    let locks = folder.join("lock");
    std::fs::create_dir(&locks).unwrap();
    std::fs::set_permissions(&locks, PermissionsExt::from_mode(0o1777)).unwrap();
    bind(&locks, "/var/lock");
    // The programs that faxq starts know no other spool folder.
    bind(spool, "/var/spool/hylafax");
}

async fn received(spool: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(spool.join("recvq"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "tif"))
        .collect();
    files.sort();
    files
}

async fn whole_way(folder: &Path) {
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
    let spool = folder.join("spool");
    make_spool(&spool);
    make_modems(folder, &spool);
    let mut running = Running(Vec::new());
    for modem in MODEMS {
        running.start(modem, "/usr/bin/iaxmodem", &[modem]);
        patiently("the modem is there", async || {
            Path::new("/dev").join(modem).exists()
        })
        .await;
    }
    running.start("faxq", "/usr/sbin/faxq", &["-D"]);
    running.start(
        "hfaxd",
        "/usr/sbin/hfaxd",
        &["-d", "-l", "127.0.0.1", "-i", "4559"],
    );
    for modem in MODEMS {
        running.start(&format!("{modem} getty"), "/usr/sbin/faxgetty", &[modem]);
        let status = spool.join("status").join(modem);
        patiently("the modem is idle", async || {
            let told = std::fs::read_to_string(&status).unwrap_or_default();
            told.contains("Running and idle")
        })
        .await;
    }
    let config = json!({
        "type": "hylafax",
        "host": "127.0.0.1",
        "username": USER,
        "password": PASSWORD,
        "modem": "ttyIAX0",
        "max_dials": 1,
        "max_tries": 1,
        "poll_seconds": 1,
        "dial": { "own_country": "49", "international_prefix": "00" },
    });
    let instance = plugin().open(&config).await.unwrap();
    let mut events = instance.events().unwrap();
    let submit = async |pages: usize| {
        let message = fax("+495615550001", "application/pdf", documents::pdf(pages));
        let id = message.message_id.clone();
        let outcomes = send(&instance, vec![message]).await;
        assert_eq!(accepted(&outcomes[0]).1, u32::try_from(pages).unwrap());
        (id, accepted(&outcomes[0]).0)
    };

    let (id, _) = submit(2).await;
    let told = patient_event(&mut events).await;
    eprintln!("two pages: {told:?}");
    assert_eq!((told.state(), &told.message_id), (State::Delivered, &id));
    assert!(told.detail.starts_with("2 of 2 pages, "), "{}", told.detail);
    patiently("the file is complete", async || {
        received(&spool).await.len() == 1
    })
    .await;
    let arrived = received(&spool).await;
    let pages = tiff_pages(&arrived[0]);
    eprintln!("received: {pages:?}");
    assert_eq!(pages.len(), 2);
    assert!(
        pages
            .iter()
            .all(|(width, length, lines)| { *width == 1728 && *length > 2000 && *lines == 196.0 })
    );

    // While the line is busy, somebody else calls.
    let (id, job) = submit(14).await;
    patiently("the line is busy", async || {
        let told = std::fs::read_to_string(spool.join("status/ttyIAX1")).unwrap_or_default();
        told.contains("Receiving")
    })
    .await;
    let mut other = config.clone();
    other["modem"] = "ttyIAX2".into();
    let other = plugin().open(&other).await.unwrap();
    // Another number, or HylaFAX itself would let it wait; the modem takes any.
    let message = fax("+495615550002", "application/pdf", documents::pdf(1));
    let busy = message.message_id.clone();
    assert_eq!(kinds(&send(&other, vec![message]).await), ["accepted"]);
    let told = patient_event(&mut events).await;
    eprintln!("busy: {told:?}");
    assert_eq!((told.state(), &told.message_id), (State::Failed, &busy));
    // What iaxmodem makes of a call that the other side rejects.
    assert!(
        ["BUSY", "NO_DIALTONE"].contains(&told.code.as_str()),
        "{told:?}"
    );
    other.drain(Duration::from_secs(5)).await.unwrap();

    // The line is cut once the first page is through.
    let sent = spool.join("sendq").join(format!("q{job}"));
    patiently("the first page is sent", async || {
        let told = std::fs::read_to_string(&sent).unwrap_or_default();
        told.lines()
            .any(|line| line.starts_with("npages:") && line != "npages:0")
    })
    .await;
    running.stop("ttyIAX1");
    let told = patient_event(&mut events).await;
    eprintln!("cut: {told:?}");
    assert_eq!((told.state(), &told.message_id), (State::Failed, &id));
    assert_eq!(told.code, "PARTIAL");
    assert!(told.detail.contains(" of 14 pages; "), "{}", told.detail);

    // Nobody is there any more.
    let (id, _) = submit(1).await;
    let told = patient_event(&mut events).await;
    eprintln!("nobody: {told:?}");
    assert_eq!((told.state(), &told.message_id), (State::Failed, &id));
    assert_eq!(told.code, "NO_ANSWER");
}

/// Waits for something that has to come. Software modems need the processor in time; on a busy machine
/// they begin anew, again and again.
async fn patiently(what: &str, mut come: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !come().await {
        assert!(
            begun.elapsed() < Duration::from_secs(600),
            "not within ten minutes: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A modem takes its time to give up.
async fn patient_event(events: &mut Events) -> DeliveryEvent {
    match tokio::time::timeout(Duration::from_secs(600), events.deliveries.recv()).await {
        Ok(Some(PluginEvent::Delivery(event))) => event,
        other => panic!("{other:?}"),
    }
}
