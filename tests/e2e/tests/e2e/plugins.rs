//! Channel plugins that crash, hang or lie: the server lives on, each message has one true state,
//! and other accounts go on. And the commands for those who write plugins.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::channels::v1 as channels;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, Message, MessageState};
use anklang_testkit::{Client, Options, TestServer, program};
use rand::RngExt;
use serde_json::Value;
use tempfile::TempDir;

use crate::mailing::{
    SLIP, TENANT, attempts, balanced, check_rows, import, launch, launched, ledger, make_due, over,
    request, seeded, tenant, until, until_figures, until_over,
};
use crate::probe::tell_channel;

const MEMBERS: usize = 24;

/// A server with an account of the plugin that misbehaves on command, besides its mail.
struct World {
    server: TestServer,
    client: Client,
    folder: TempDir,
}

impl World {
    async fn new(process: &str, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str| folder.path().join(name).display().to_string();
        let probe = format!(
            "[channel_accounts.probe]\nplugin = 'testing'\nbatch = 12\ncalls = 2\n\
             [channel_accounts.probe.process]\nrestart_milliseconds = 1\n{process}\n\
             [channel_accounts.probe.config]\naccount = 'probe'\nrecord = '{}'\nspoiled = '{}'\n\
             {config}\n",
            of("record"),
            of("spoiled"),
        );
        let server = TestServer::start_with(Options {
            config: probe,
            ..Default::default()
        })
        .await
        .unwrap();
        let client = tenant(&server, MEMBERS).await;
        let rows = |row: &dyn Fn(usize) -> String| (0..MEMBERS).map(row).collect::<String>();
        let points = rows(&|i| format!("{i:04},testing,probe{i}\n"));
        let points = format!("customer_number,channel,address\n{points}");
        import(&client, ImportEntity::ContactPoints, points).await;
        let consents =
            rows(&|i| format!("{i:04},testing,marketing,granted,2025-05-01T10:00:00Z\n"));
        let consents = format!("customer_number,channel,purpose,state,recorded_at\n{consents}");
        import(&client, ImportEntity::Consents, consents).await;
        World {
            server,
            client,
            folder,
        }
    }

    /// What the text of a message says, the plugin does.
    async fn tell(&self, text: &str) {
        tell_channel(&self.client, text).await;
    }

    /// Launches to all customers through the account.
    async fn launch(&self) -> String {
        let mut request = request("");
        let outbound = request.outbound.as_mut().unwrap();
        outbound.channel_account = "channelAccounts/probe".into();
        outbound.message_template = "order".into();
        outbound.without_document = true;
        let operation = self
            .client
            .campaigns()
            .launch_campaign(request)
            .await
            .unwrap();
        let operation = over(&self.client, &operation.get_ref().name).await;
        launched(&operation).campaign.unwrap().name
    }

    async fn account(&self) -> channels::ChannelAccount {
        let request = channels::GetChannelAccountRequest {
            name: "channelAccounts/probe".into(),
        };
        let account = self.client.channels().get_channel_account(request).await;
        account.unwrap().into_inner()
    }

    async fn is_open(&self) -> bool {
        self.account().await.state() == channels::ChannelAccountState::Open
    }

    /// How often the peer got each message.
    fn got(&self) -> HashMap<String, usize> {
        let record = std::fs::read_to_string(self.folder.path().join("record"));
        let mut got = HashMap::new();
        for line in record.unwrap_or_default().lines() {
            *got.entry(format!("messages/{line}")).or_default() += 1;
        }
        got
    }

    /// Each message has one state, and what the peer got fits it. Gives those in doubt.
    fn balance<'a>(&self, ledger: &'a BTreeMap<String, Message>) -> Vec<&'a Message> {
        let got = self.got();
        assert_eq!(ledger.len(), MEMBERS);
        for message in ledger.values() {
            let got = got.get(&message.name).copied().unwrap_or_default();
            let doubts = attempts(message, AttemptOutcome::Ambiguous);
            match message.state() {
                MessageState::Sent => assert_eq!((got, doubts), (1, 0), "{message:?}"),
                MessageState::Ambiguous => {
                    assert!(got <= 1 && doubts == 1, "{got} times: {message:?}");
                }
                _ => panic!("{message:?}"),
            }
        }
        let doubtful = ledger.values();
        doubtful
            .filter(|m| m.state() == MessageState::Ambiguous)
            .collect()
    }
}

/// One message says something else than the others, which take so long that no more than eight are handed over
/// together.
fn to_one(command: &str) -> String {
    format!("{{% if customer.number == '0007' %}}{command}{{% else %}}delay:60{{% endif %}}")
}

/// The message that does.
fn told(ledger: &BTreeMap<String, Message>) -> &Message {
    &ledger["probe7"]
}

// ---- what a plugin does to its process ---------------------------------------------------

#[tokio::test]
async fn a_server_starts_without_a_plugin_that_fails() {
    let spoiled = tempfile::NamedTempFile::new().unwrap();
    let path = spoiled.path().display();
    let server = TestServer::start_with(Options {
        config: format!(
            "[channel_accounts.probe]\nplugin = 'testing'\n\
             [channel_accounts.probe.process]\nrestart_milliseconds = 1\npause_milliseconds = 100\n\
             [channel_accounts.probe.config]\naccount = 'probe'\nopening = 'spoil'\n\
             spoiled = '{path}'\n"
        ),
        ..Default::default()
    })
    .await
    .unwrap();
    // The others serve meanwhile.
    let client = tenant(&server, 2).await;
    launch(&client, SLIP).await;
    let account = async || {
        let request = channels::GetChannelAccountRequest {
            name: "channelAccounts/probe".into(),
        };
        let account = client.channels().get_channel_account(request).await;
        account.unwrap().into_inner()
    };
    let closed = account().await;
    assert_eq!(closed.state(), channels::ChannelAccountState::Closed);
    assert!(closed.state_detail.contains("SIGABRT"), "{closed:?}");
    drop(spoiled);
    until("the account is open", async || {
        account().await.state() == channels::ChannelAccountState::Open
    })
    .await;
}

#[tokio::test]
async fn a_plugin_that_fails_costs_what_it_had_and_nothing_else() {
    use MessageState::{Ambiguous, Sent};
    let world = World::new("failures = 100\nmemory_mib = 256", "").await;
    let pid = world.server.pid();
    let faults = [
        ("segfault", Ambiguous, "SIGSEGV"),
        ("abort", Ambiguous, "SIGABRT"),
        ("leak", Ambiguous, "SIGABRT"),
        ("panic", Ambiguous, "as told"),
        ("garbage", Ambiguous, "unreadable reply"),
        ("nothing", Ambiguous, "no outcome"),
        ("flood", Sent, ""),
        ("x", Sent, ""),
    ];
    for (fault, state, detail) in faults {
        std::fs::write(world.folder.path().join("record"), "").unwrap();
        world.tell(&to_one(fault)).await;
        let campaign = world.launch().await;
        // Another account goes on meanwhile.
        let mails = launch(&world.client, SLIP).await;
        until_over(&world.client, &campaign).await;
        until_figures(&world.client, &mails, |m| m.sent == 24).await;

        let ledger = ledger(&world.client, &campaign).await;
        let doubtful = world.balance(&ledger);
        let told = told(&ledger);
        assert_eq!(told.state(), state, "{fault}: {told:?}");
        assert!(told.detail.contains(detail), "{fault}: {told:?}");
        // At most what two calls had in hand.
        assert!(doubtful.len() <= 16, "{fault}: {doubtful:?}");
        until("an open account", async || world.is_open().await).await;
        assert_eq!(world.server.pid(), pid);
    }
    assert!(world.server.log().contains("a plugin failed"));
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_and_started_again() {
    for fault in ["stuck", "spin"] {
        let world = World::new("failures = 100\nhang_milliseconds = 3000", "").await;
        world.tell(&to_one(fault)).await;
        let campaign = world.launch().await;
        let mails = launch(&world.client, SLIP).await;
        until_over(&world.client, &campaign).await;
        until_figures(&world.client, &mails, |m| m.sent == 24).await;
        let ledger = ledger(&world.client, &campaign).await;
        world.balance(&ledger);
        let told = told(&ledger);
        assert_eq!(told.state(), MessageState::Ambiguous, "{told:?}");
        assert!(told.detail.contains("does not answer"), "{told:?}");
        until("an open account", async || world.is_open().await).await;
    }
}

#[tokio::test]
async fn one_that_fails_too_often_is_left_alone_and_says_so() {
    let world = World::new(
        "failures = 3\nwindow_milliseconds = 600000\npause_milliseconds = 500",
        "opening = 'spoil'",
    )
    .await;
    let spoiled = world.folder.path().join("spoiled");
    std::fs::write(&spoiled, "").unwrap();
    world.tell(&to_one("spoil:abort")).await;
    let campaign = world.launch().await;
    until("the breaker", async || {
        let account = world.account().await;
        let says = |words: &str| account.state_detail.contains(words);
        account.state() == channels::ChannelAccountState::Closed
            && says("circuit breaker")
            && says("SIGABRT")
    })
    .await;
    // Nothing is tried in vain, and nothing is lost: what was not handed over waits.
    let before = ledger(&world.client, &campaign).await;
    let failed = |m: &Message| attempts(m, AttemptOutcome::Transient);
    assert_eq!(before.values().map(failed).sum::<usize>(), 0, "{before:?}");
    // The mails go on.
    let mails = launch(&world.client, SLIP).await;
    until_figures(&world.client, &mails, |m| m.sent == 24).await;

    std::fs::remove_file(&spoiled).unwrap();
    until("an open account", async || world.is_open().await).await;
    until_over(&world.client, &campaign).await;
    let ledger = ledger(&world.client, &campaign).await;
    world.balance(&ledger);
    assert_eq!(told(&ledger).state(), MessageState::Ambiguous);
}

#[tokio::test]
async fn without_isolation_there_is_no_process() {
    let server = TestServer::start_with(Options {
        account: "isolation = 'none'".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    assert_eq!(server.plugin_processes(), Vec::<u32>::new());
    let client = tenant(&server, 3).await;
    let campaign = launch(&client, SLIP).await;
    until_figures(&client, &campaign, |m| m.sent == 3).await;
}

// ---- what happens to its process ---------------------------------------------------------

fn signal(process: u32, name: &str) {
    // An error says that it is gone.
    let _ = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .output()
        .unwrap();
}

fn is_there(process: u32) -> bool {
    Path::new(&format!("/proc/{process}/exe")).exists()
}

/// Kills the server, the plugin's process or both while mails are sent, and balances the books.
async fn kill_at_random(ambiguous: &'static str) {
    const MEMBERS: usize = 300;
    let mut random = seeded();
    let mut server = TestServer::start_with(Options {
        ambiguous,
        lease_seconds: 1,
        account: "calls = 2\nbatch = 16\n[channel_accounts.mail.process]\n\
                  restart_milliseconds = 1\nfailures = 1000"
            .into(),
        ..Default::default()
    })
    .await
    .unwrap();
    let slow = Fault::Slow(Duration::from_millis(10));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    let first = tenant(&server, MEMBERS).await;
    let campaign = launch(&first, SLIP).await;
    let mut gone = Vec::new();
    for round in 0..8 {
        let sent = server.sink.count() + random.random_range(1..15);
        let reached = server.sink.wait_for(sent, Duration::from_secs(120));
        reached.await.unwrap();
        let plugins = server.plugin_processes();
        gone.extend(&plugins);
        // Its plugins end with a server.
        if round % 3 == 2 {
            server.restart().await.unwrap();
        } else {
            plugins.iter().for_each(|process| signal(*process, "KILL"));
        }
        make_due(&server).await;
    }
    until("the end of all that were killed", async || {
        !gone.iter().any(|process| is_there(*process))
    })
    .await;
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until("the end of all", async || {
        make_due(&server).await;
        let figures = crate::mailing::figures(&client, &campaign).await;
        let messages = figures.and_then(|f| f.messages);
        messages.is_some_and(|m| m.queued == 0 && m.sending == 0)
    })
    .await;
    // Those that the mail server was still busy with.
    tokio::time::sleep(Duration::from_millis(200)).await;
    check_rows(&server, MEMBERS).await;
    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    let mut doubts = 0;
    for message in books.ledger.values() {
        let arrived = books.arrived.get(&message.address).map_or(0, Vec::len);
        let in_doubt = attempts(message, AttemptOutcome::Ambiguous);
        doubts += in_doubt;
        match message.state() {
            // Sent again only where nobody knew; the peer sees one and the same mail.
            MessageState::Sent if ambiguous == "resend" => {
                assert!((1..=1 + in_doubt).contains(&arrived), "{message:?}");
            }
            MessageState::Sent => assert_eq!((arrived, in_doubt), (1, 0), "{message:?}"),
            MessageState::Ambiguous => {
                assert_eq!(ambiguous, "hold");
                assert!(arrived <= 1 && in_doubt == 1, "{message:?}");
            }
            _ => panic!("{message:?}"),
        }
    }
    assert!(doubts > 0, "no kill hit a call");
}

#[tokio::test]
async fn killed_at_any_moment_nothing_is_lost_and_nothing_sent_twice() {
    kill_at_random("hold").await;
}

#[tokio::test]
async fn killed_at_any_moment_only_what_is_in_doubt_is_sent_again() {
    kill_at_random("resend").await;
}

#[tokio::test]
async fn a_server_that_is_told_to_stop_lets_its_plugins_finish() {
    let mut server = TestServer::start_with(Options {
        ambiguous: "hold",
        ..Default::default()
    })
    .await
    .unwrap();
    let slow = Fault::HangAfterDot(Duration::from_secs(2));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    let client = tenant(&server, 20).await;
    let campaign = launch(&client, SLIP).await;
    server
        .sink
        .wait_for(1, Duration::from_secs(120))
        .await
        .unwrap();
    let plugins = server.plugin_processes();
    assert_eq!(plugins.len(), 1);
    // To all, as a terminal and a service manager do.
    plugins.iter().for_each(|process| signal(*process, "TERM"));
    plugins.iter().for_each(|process| signal(*process, "INT"));
    server.sink.set_faults(Faults::none());
    assert!(server.terminate().await.unwrap().success());
    assert!(!plugins.iter().any(|process| is_there(*process)));

    server.restart().await.unwrap();
    let client = Client::connect(server.addr, TENANT).await.unwrap();
    until_figures(&client, &campaign, |m| m.sent == 20).await;
    let books = balanced(&server, &client, &campaign, 20).await;
    assert!((0..20).all(|customer| books.arrivals(customer) == 1));
}

// ---- for those who write plugins ---------------------------------------------------------

fn anklang(words: &[&str]) -> Output {
    Command::new(&program().anklang)
        .arg("plugin")
        .args(words)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn library(name: &str) -> String {
    let path = program().plugins.join(name);
    path.display().to_string()
}

#[test]
fn a_plugin_is_verified() {
    let library = library("libanklang_testing.so");
    let config = r#"{"account": "a"}"#;
    let calls = ["--calls", "1000"];
    let output = anklang(&[&["verify", &library, "--config", config][..], &calls].concat());
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("ok              it opens"), "{text}");
    assert!(text.contains("no rule is broken"), "{text}");

    let words = [
        "verify",
        &library,
        "--config",
        config,
        "--json",
        "--isolation",
        "none",
    ];
    let output = anklang(&[&words[..], &calls].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["result"] != "failed"));
    assert!(
        checks
            .iter()
            .any(|check| check["result"] == "not_applicable")
    );

    // A configuration that does not fit is a failure, and so is a file that is no plugin.
    let output = anklang(&["verify", &library, "--config", "{}", "--calls", "10"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("/account: is required"));
    let output = anklang(&["verify", "/etc/hostname"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("FAILED          it loads"));
    let output = anklang(&["verify", &library, "--config", "{"]);
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
}

#[test]
fn plugins_are_listed_with_the_reason_why_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let put = |from: &str, to: &str| {
        std::fs::copy(library(from), folder.path().join(to)).unwrap();
    };
    put("libanklang_mail.so", "libanklang_mail.so");
    put("libanklang_testing.so", "libanklang_other.so");
    std::fs::write(folder.path().join("libanklang_text.so"), "text").unwrap();
    std::fs::write(folder.path().join("README"), "not looked at").unwrap();
    let config = folder.path().join("anklang.toml");
    let pin = "0".repeat(64);
    let accounts = format!(
        "[channel_accounts.good]\nplugin = 'mail'\n[channel_accounts.good.config]\nhost = 'h'\n\
         [channel_accounts.pinned]\nplugin = 'mail'\nsha256 = '{pin}'\n\
         [channel_accounts.gone]\nplugin = 'fax'\n"
    );
    std::fs::write(&config, accounts).unwrap();
    let words = ["list", "--folder", folder.path().to_str().unwrap()];
    let output = anklang(&[&words[..], &["--config", config.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    let bytes = std::fs::read(library("libanklang_mail.so")).unwrap();
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes));
    for line in [
        "mail 0.1.0",
        "  channel mail",
        &format!("  sha256  {hash}"),
        "its id is \"testing\", so its file must be named libanklang_testing.so",
        "libanklang_text.so: not a shared library (no ELF header)",
        "account good: fits mail",
        "account pinned: refused",
        &format!("  sha256: {pin} is pinned, and it is {hash}"),
        "  config: /host: is required",
        "  there is no libanklang_fax.so",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("README"));
}

#[test]
fn a_new_plugin_builds_and_keeps_the_rules() {
    let folder = tempfile::tempdir().unwrap();
    let (crate_folder, root) = (folder.path().join("pigeon"), root());
    let sdk = root.join("plugins/sdk");
    let words = ["new", "carrier-pigeon", "--channel", "post", "--sdk"];
    let there = ["--folder", crate_folder.to_str().unwrap()];
    let new = || anklang(&[&words[..], &[sdk.to_str().unwrap()], &there].concat());
    let output = new();
    assert!(output.status.success(), "{}", said(&output));
    // Nothing that is there is written over.
    let again = new();
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    let wrong = anklang(&["new", "../pigeon", "--git", "https://example.com/anklang"]);
    assert_eq!(wrong.status.code(), Some(64), "{}", said(&wrong));

    // With the versions that are here already.
    std::fs::copy(root.join("Cargo.lock"), crate_folder.join("Cargo.lock")).unwrap();
    let target = program().plugins.parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--target-dir"])
        .arg(target)
        .current_dir(&crate_folder)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", said(&built));
    let library = target.join("debug/libanklang_carrier_pigeon.so");
    let words = ["verify", library.to_str().unwrap(), "--calls", "1000"];
    let config = r#"{"endpoint": "https://example.com"}"#;
    let output = anklang(&[&words[..], &["--config", config]].concat());
    assert!(output.status.success(), "{}", said(&output));
    std::fs::remove_file(library).unwrap();
}

/// The workspace's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_path_buf()
}
