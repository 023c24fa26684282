//! Plugins that would take the host along: in processes of their own they do not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/c.rs"]
mod c;
#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/texts.rs"]
mod texts;

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anklang_channels::proto::{Manifest, Outcome, outcome};
use anklang_channels::{
    CallError, Hosting, Instance, InstanceOptions, InstanceState, Isolation, LoadError, OpenError,
    Plugin, ProcessOptions,
};
use c::c_library;
use cargo::cdylib;
use kinds::kinds;
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use texts::texts;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
/// Never within a test.
const NEVER: u64 = 600_000;

fn library() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| cdylib("anklang-plugin-testing"))
}

/// Hosted in a process that is started again at once.
fn hosted(change: impl FnOnce(&mut ProcessOptions)) -> Hosting {
    let mut hosting = hosting::hosting(Isolation::Process);
    hosting.process.restart_milliseconds = 1;
    hosting.process.failures = 1_000;
    change(&mut hosting.process);
    hosting
}

fn plugin(hosting: Hosting) -> Plugin {
    Plugin::load_with(library(), None, hosting).unwrap()
}

fn config() -> Value {
    json!({ "account": "a" })
}

async fn open(hosting: Hosting) -> Instance {
    plugin(hosting).open(&config()).await.unwrap()
}

/// Calls have so many milliseconds.
fn within(milliseconds: u64) -> InstanceOptions {
    InstanceOptions {
        call_deadline: Duration::from_millis(milliseconds),
        ..InstanceOptions::default()
    }
}

/// Looks until something is so, for at most two minutes.
async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    for _ in 0..12_000 {
        if look().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("not within two minutes: {what}");
}

async fn until_up(instance: &Instance) {
    until("a process", async || instance.is_up()).await;
}

/// Sends one message, as often as it takes to be handed over.
async fn send(instance: &Instance, text: &str) -> Outcome {
    loop {
        match instance.send(texts(&[text])).await {
            Ok(mut outcomes) => return outcomes.remove(0),
            Err(CallError::Down(_)) => until_up(instance).await,
            Err(error) => panic!("{error}"),
        }
    }
}

fn kind(outcome: &Outcome) -> &'static str {
    kinds(std::slice::from_ref(outcome))[0]
}

/// Why nobody knows.
fn doubt(outcome: &Outcome) -> &str {
    match &outcome.kind {
        Some(outcome::Kind::Ambiguous(ambiguous)) => &ambiguous.detail,
        other => panic!("{other:?}"),
    }
}

fn down(instance: &Instance) -> String {
    match instance.state() {
        InstanceState::Down(reason) => reason,
        _ => String::new(),
    }
}

fn kill(process: u32) {
    let pid = Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    // It may be gone already.
    let _ = kill_process(pid, Signal::KILL);
}

// ---- crashes ----------------------------------------------------------------------------

#[tokio::test]
async fn what_ends_its_process_costs_the_calls_in_flight_and_nothing_else() {
    let faults = [
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("leak", "SIGABRT"),
    ];
    for (fault, signal) in faults {
        let hosting = hosted(|process| process.memory_mib = 256);
        let (instance, other) = (open(hosting.clone()).await, open(hosting).await);
        let first = instance.process().unwrap();
        let in_flight = {
            let instance = instance.clone();
            tokio::spawn(async move { instance.send(texts(&["hang"])).await.unwrap() })
        };
        let other_flight = {
            let other = other.clone();
            tokio::spawn(async move { other.send(texts(&["delay:500"])).await.unwrap() })
        };
        // On this one thread, others run first: the calls go out.
        tokio::task::yield_now().await;
        let outcomes = instance.send(texts(&["x", fault, "x"])).await.unwrap();
        assert_eq!(kinds(&outcomes), ["ambiguous"; 3], "{fault}");
        assert!(
            doubt(&outcomes[0]).contains(signal),
            "{}",
            doubt(&outcomes[0])
        );
        assert_eq!(kinds(&in_flight.await.unwrap()), ["ambiguous"], "{fault}");

        until_up(&instance).await;
        assert_eq!(kind(&send(&instance, "x").await), "accepted");
        assert_ne!(instance.process().unwrap(), first);
        assert_eq!(kinds(&other_flight.await.unwrap()), ["accepted"]);
        assert_eq!(kind(&send(&other, "x").await), "accepted");
        instance.drain(10 * SECOND).await.unwrap();
    }
}

#[tokio::test]
async fn what_a_plugin_has_started_ends_with_it_also_when_it_crashes() {
    let instance = open(hosted(|_| {})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let outcome = send(&instance, &format!("orphan:{}", file.display())).await;
    assert_eq!(kind(&outcome), "ambiguous");
    let pid = std::fs::read_to_string(&file).unwrap();
    assert_ne!(pid, "0");
    // One that ended and that nobody has waited for yet is a zombie.
    let state = format!("/proc/{pid}/stat");
    until("the end of what it has started", async || {
        std::fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
    until_up(&instance).await;
    assert_eq!(kind(&send(&instance, "x").await), "accepted");
}

#[tokio::test]
async fn nothing_is_handed_over_while_there_is_no_process() {
    let instance = open(hosted(|process| {
        process.restart_milliseconds = NEVER;
        process.longest_restart_milliseconds = NEVER;
    }))
    .await;
    assert_eq!(kind(&send(&instance, "abort").await), "ambiguous");
    until("the end", async || !instance.is_up()).await;
    let refused = instance.send(texts(&["x"])).await.unwrap_err();
    assert!(
        matches!(&refused, CallError::Down(reason) if reason.contains("SIGABRT")),
        "{refused}"
    );
    assert!(down(&instance).contains("it is started again in"));
    // There is nothing to wait for.
    instance.clone().drain(SECOND).await.unwrap();
    assert_eq!(instance.state(), InstanceState::Closed);
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_left_alone() {
    let instance = open(hosted(|process| {
        process.failures = 3;
        process.window_milliseconds = NEVER;
        process.pause_milliseconds = NEVER;
    }))
    .await;
    for _ in 0..3 {
        assert_eq!(kind(&send(&instance, "abort").await), "ambiguous");
    }
    until("the breaker", async || {
        down(&instance).contains("circuit breaker")
    })
    .await;
    assert!(down(&instance).contains("SIGABRT"), "{}", down(&instance));
}

#[tokio::test]
async fn one_that_was_left_alone_is_tried_until_it_opens() {
    let dir = tempfile::tempdir().unwrap();
    let spoiled = dir.path().join("spoiled");
    let plugin = plugin(hosted(|process| {
        process.failures = 2;
        process.pause_milliseconds = 100;
    }));
    let config = json!({ "account": "a", "opening": "spoil", "spoiled": spoiled });
    let instance = plugin.open(&config).await.unwrap();
    std::fs::write(&spoiled, "").unwrap();
    assert_eq!(kind(&send(&instance, "spoil:abort").await), "ambiguous");
    until("the breaker", async || {
        let why = down(&instance);
        why.contains("circuit breaker") && why.contains("it did not open")
    })
    .await;
    std::fs::remove_file(&spoiled).unwrap();
    assert_eq!(kind(&send(&instance, "x").await), "accepted");
}

#[tokio::test]
async fn one_that_fails_to_open_says_why_without_its_secrets() {
    let plugin = plugin(hosted(|_| {}));
    let config = json!({ "account": "a", "opening": "blab", "token": "geheim" });
    let options = InstanceOptions {
        retry_open: true,
        ..Default::default()
    };
    let instance = plugin.open_with(&config, options).await.unwrap();
    // The first time, and whenever it is tried again.
    for again in 0..2 {
        until("a try", async || instance.failures() > again).await;
        let why = down(&instance);
        assert!(why.contains("nobody logs in with ****"), "{why}");
        assert!(!why.contains("geheim"), "{why}");
    }
}

/// Kills at any moment, against a peer that remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_each_message_has_one_true_outcome() {
    const SENDERS: usize = 4;
    const EACH: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let record = dir.path().join("record");
    let plugin = plugin(hosted(|_| {}));
    let config = json!({ "account": "a", "record": record });
    let instance = plugin.open(&config).await.unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let instance = instance.clone();
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for _ in 0..EACH {
                    let request = texts(&["delay:1"]);
                    let id = request.messages[0].message_id.clone();
                    let outcome = loop {
                        match instance.send(request.clone()).await {
                            Ok(outcomes) => break kinds(&outcomes)[0],
                            Err(CallError::Down(_)) => until_up(&instance).await,
                            Err(error) => panic!("{error}"),
                        }
                    };
                    outcomes.push((id, outcome));
                }
                outcomes
            })
        })
        .collect();
    let killer = {
        let instance = instance.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                until_up(&instance).await;
                sleep(Duration::from_millis(7)).await;
                if let Some(process) = instance.process() {
                    kill(process);
                }
            }
        })
    };
    let mut outcomes = Vec::new();
    for sender in senders {
        outcomes.extend(sender.await.unwrap());
    }
    killer.await.unwrap();
    let mut got: HashMap<String, usize> = HashMap::new();
    for line in std::fs::read_to_string(&record).unwrap().lines() {
        *got.entry(line.to_owned()).or_default() += 1;
    }
    let mut doubts = 0;
    for (id, outcome) in &outcomes {
        let got = got.get(id).copied().unwrap_or_default();
        match *outcome {
            "accepted" => assert_eq!(got, 1, "{id}"),
            "ambiguous" => {
                assert!(got <= 1, "{id}");
                doubts += 1;
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(outcomes.len(), SENDERS * EACH);
    assert!(doubts > 0, "no kill hit a call");
}

// ---- what hangs -------------------------------------------------------------------------

#[tokio::test]
async fn one_whose_threads_are_all_taken_is_killed_and_started_again() {
    for fault in ["stuck", "spin"] {
        let instance = open(hosted(|process| process.hang_milliseconds = 500)).await;
        let first = instance.process().unwrap();
        // The SDK's runtime has two threads.
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let instance = instance.clone();
                tokio::spawn(async move { instance.send(texts(&[fault])).await.unwrap() })
            })
            .collect();
        for call in calls {
            assert_eq!(kinds(&call.await.unwrap()), ["ambiguous"], "{fault}");
        }
        until("another process", async || {
            instance.process().is_some_and(|process| process != first)
        })
        .await;
        assert_eq!(kind(&send(&instance, "x").await), "accepted");
    }
}

#[tokio::test]
async fn a_call_that_ends_after_all_is_no_reason_to_kill() {
    let plugin = plugin(hosted(|process| process.hang_milliseconds = 10_000));
    let instance = plugin.open_with(&config(), within(100)).await.unwrap();
    let first = instance.process();
    for _ in 0..3 {
        assert_eq!(kind(&send(&instance, "hang").await), "ambiguous");
    }
    assert_eq!(kind(&send(&instance, "x").await), "accepted");
    assert_eq!(instance.process(), first);
}

// ---- what is not written with the SDK ---------------------------------------------------

fn manifest_bytes() -> String {
    let manifest = Manifest {
        id: "c".to_owned(),
        version: "1.0.0".to_owned(),
        channel: "testing".to_owned(),
        config_json_schema: r#"{"type":"object"}"#.to_owned(),
        max_batch: 10,
        max_calls_in_flight: 4,
        ..Manifest::default()
    };
    let bytes: Vec<_> = manifest.encode_to_vec().iter().map(u8::to_string).collect();
    bytes.join(",")
}

/// A plugin in C; `SEND` and what is outside of the functions are given.
fn c_plugin(dir: &Path, name: &str, outside: &str, manifest: &str, send: &str) -> PathBuf {
    let source = format!(
        r#"#include "anklang_plugin.h"
#include <sys/socket.h>
#include <unistd.h>
static const uint8_t bytes[] = {{{bytes}}};
static const ank_manifest m = {{sizeof(ank_manifest), ANK_ABI_MAJOR, 0, ANK_MAGIC, {{bytes, sizeof bytes}}}};
{outside}
const ank_manifest *anklang_plugin_manifest(void) {{ {manifest} return &m; }}
static ank_host host;
static ank_status c_open(const ank_host *h, uint64_t inst, uint64_t call, ank_bytes config, ank_inst **out) {{
  ank_bytes none = {{0, 0}};
  (void)h; (void)inst; (void)config;
  *out = (ank_inst *)&host;
  host.complete(host.ctx, call, ANK_OK, none);
  return ANK_OK;
}}
static ank_status c_call(ank_inst *inst, uint32_t op, uint64_t call, ank_bytes request) {{
  (void)inst; (void)call; (void)request;
  if (op == ANK_OP_SEND) {{ {send} }}
  return ANK_UNSUPPORTED;
}}
static ank_status c_drain(ank_inst *inst, uint64_t call, uint64_t deadline) {{
  ank_bytes none = {{0, 0}};
  (void)inst; (void)deadline;
  host.complete(host.ctx, call, ANK_OK, none);
  return ANK_OK;
}}
static void c_close(ank_inst *inst) {{ (void)inst; }}
ank_status anklang_plugin_init_v1(const ank_host *h, ank_plugin *out) {{
  host = *h;
  out->abi_major = ANK_ABI_MAJOR;
  out->open = c_open; out->call = c_call; out->drain = c_drain; out->close = c_close;
  return ANK_OK;
}}
"#,
        bytes = manifest_bytes()
    );
    c_library(dir, name, &source)
}

#[tokio::test]
async fn a_library_is_loaded_where_it_can_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str, outside: &str, manifest: &str| {
        let library = c_plugin(dir.path(), name, outside, manifest, "");
        let hosting = hosted(|process| process.load_milliseconds = 2_000);
        Plugin::load_with(&library, None, hosting)
    };
    let trap = "__attribute__((constructor)) static void trap(void) { __builtin_trap(); }";
    for (name, outside, manifest) in [
        ("constructor", trap, ""),
        ("manifest", "", "__builtin_trap();"),
    ] {
        let error = load(name, outside, manifest).unwrap_err();
        assert!(matches!(error, LoadError::Crashed { .. }), "{error}");
        assert!(error.to_string().contains("signal"), "{error}");
    }
    let hang = "__attribute__((constructor)) static void hang(void) { for (;;) pause(); }";
    for (name, outside, manifest) in [("hangs", hang, ""), ("waits", "", "for (;;) pause();")] {
        let error = load(name, outside, manifest).unwrap_err();
        assert!(matches!(error, LoadError::Hung { .. }), "{error}");
    }
    let exit = "__attribute__((constructor)) static void leave(void) { _exit(3); }";
    let error = load("leaves", exit, "").unwrap_err();
    assert!(error.to_string().contains("ended with code 3"), "{error}");
    load("good", "", "").unwrap();
}

/// What each of them does in SEND, and why its process is ended.
#[tokio::test]
async fn what_answers_wrongly_or_never_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    let faults = [
        // The host's socket is the first file of the process.
        (
            "garbage",
            "uint8_t no[64]; for (int i = 0; i < 64; i++) no[i] = 0xff; \
             if (write(3, no, 64) != 64) _exit(9); return ANK_OK;",
            "no frame",
        ),
        (
            "events",
            // An event that nobody asked for: length 0, kind 11, code 1, id 0.
            "uint8_t no[20] = {0,0,0,0, 11,0,0,0, 1,0,0,0}; \
             for (int i = 0; i < 100; i++) if (write(3, no, 20) != 20) _exit(9); return ANK_OK;",
            "more events than allowed",
        ),
        (
            "closes",
            "shutdown(3, SHUT_RDWR); for (;;) pause();",
            "closed its connection",
        ),
        ("waits", "for (;;) pause();", "no sign of life"),
        ("forgets", "return ANK_OK;", "does not give it up"),
        ("exits", "_exit(0);", "ended with code 0"),
    ];
    for (name, send, reason) in faults {
        let library = c_plugin(dir.path(), name, "", "", send);
        let hosting = hosted(|process| {
            process.hang_milliseconds = 300;
            process.restart_milliseconds = NEVER;
            process.longest_restart_milliseconds = NEVER;
        });
        let plugin = Plugin::load_with(&library, None, hosting).unwrap();
        let options = InstanceOptions {
            // So that nothing takes the events that it sends.
            event_capacity: 8,
            ..within(if name == "forgets" { 500 } else { 60_000 })
        };
        let instance = plugin.open_with(&json!({}), options).await.unwrap();
        let outcomes = instance.send(texts(&["x"])).await.unwrap();
        assert_eq!(kinds(&outcomes), ["ambiguous"], "{name}");
        until(name, async || !instance.is_up()).await;
        assert!(
            down(&instance).contains(reason),
            "{name}: {}",
            down(&instance)
        );
    }
}

#[tokio::test]
async fn what_is_behind_a_call_that_blocks_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let library = c_plugin(dir.path(), "blocks", "", "", "for (;;) pause();");
    let hosting = hosted(|process| {
        process.hang_milliseconds = 500;
        process.restart_milliseconds = NEVER;
        process.longest_restart_milliseconds = NEVER;
    });
    let plugin = Plugin::load_with(&library, None, hosting).unwrap();
    let instance = plugin.open(&json!({})).await.unwrap();
    // More than the socket takes: what is behind stays here.
    let large = "x".repeat(1 << 20);
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (instance, large) = (instance.clone(), large.clone());
            tokio::spawn(async move { instance.send(texts(&[&large])).await })
        })
        .collect();
    let (mut doubtful, mut not_taken) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(outcomes) => {
                assert_eq!(kinds(&outcomes), ["ambiguous"]);
                doubtful += 1;
            }
            Err(CallError::Down(_)) => not_taken += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((doubtful, not_taken), (1, 3));
}

// ---- what a process has ------------------------------------------------------------------

#[tokio::test]
async fn a_process_has_nothing_of_its_hosts() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    let file = std::fs::File::create(&secret).unwrap();
    // Left open for every program that is started.
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let instance = open(hosted(|process| {
        process.memory_mib = 512;
        process.open_files = 77;
        process.cpu_seconds = 1_000;
        process.environment = vec!["CARGO_PKG_NAME".to_owned()];
    }))
    .await;
    let of = |what: &str| format!("/proc/{}/{what}", instance.process().unwrap());
    let environment = std::fs::read_to_string(of("environ")).unwrap();
    let cargo: Vec<_> = environment
        .split('\0')
        .filter(|variable| variable.starts_with("CARGO"))
        .collect();
    assert_eq!(cargo, ["CARGO_PKG_NAME=anklang-channels"]);
    for entry in std::fs::read_dir(of("fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert_ne!(target, secret);
    }
    let limits = std::fs::read_to_string(of("limits")).unwrap();
    for (limit, value) in [
        ("Max core file size", "0"),
        ("Max open files", "77"),
        ("Max data size", "536870912"),
        ("Max cpu time", "1000"),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit));
        let words: Vec<_> = line.unwrap().split_whitespace().take(2).collect();
        assert_eq!(words, [value; 2], "{limit}");
    }
}

#[tokio::test]
async fn a_flood_of_logs_drowns_nobody() {
    let instance = open(hosted(|_| {})).await;
    let mut events = instance.events().unwrap();
    let flood = {
        let instance = instance.clone();
        tokio::spawn(async move { instance.send(texts(&["flood"])).await.unwrap() })
    };
    let batch = instance.send(texts(&["deliver", "x"])).await.unwrap();
    assert_eq!(kinds(&batch), ["accepted"; 2]);
    assert!(events.deliveries.recv().await.is_some());
    assert_eq!(kinds(&flood.await.unwrap()), ["accepted"]);
    assert!(events.telemetry.recv().await.is_some());
}

#[tokio::test]
async fn a_program_that_hosts_nothing_is_told_apart() {
    let mut hosting = hosted(|process| process.load_milliseconds = 5_000);
    hosting.program.path = "/bin/true".into();
    let error = Plugin::load_with(library(), None, hosting.clone()).unwrap_err();
    assert!(matches!(error, LoadError::Crashed { .. }), "{error}");
    hosting.program.path = "/no/such/program".into();
    let error = Plugin::load_with(library(), None, hosting).unwrap_err();
    assert!(matches!(error, LoadError::NoProcess { .. }), "{error}");
}

#[tokio::test]
async fn one_that_fails_to_open_may_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let spoiled = folder.path().join("spoiled");
    std::fs::write(&spoiled, "").unwrap();
    let plugin = plugin(hosted(|_| {}));
    let options = InstanceOptions {
        retry_open: true,
        ..InstanceOptions::default()
    };
    let config = json!({ "account": "a", "opening": "spoil", "spoiled": spoiled });
    let instance = plugin.open_with(&config, options).await.unwrap();
    let down = |state: InstanceState| match state {
        InstanceState::Down(reason) => Some(reason),
        _ => None,
    };
    let reason = down(instance.state()).unwrap();
    assert!(reason.contains("SIGABRT"), "{reason}");
    std::fs::remove_file(&spoiled).unwrap();
    let begun = Instant::now();
    while down(instance.state()).is_some() {
        assert!(begun.elapsed() < Duration::from_secs(120));
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(instance.state(), InstanceState::Up);
    instance.drain(Duration::from_secs(60)).await.unwrap();
    // What is refused is not tried again.
    let refused = json!({ "account": "a", "opening": "refuse" });
    let refused = plugin.open_with(&refused, options).await;
    assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn one_that_crashes_while_it_opens_is_told_so() {
    let plugin = plugin(hosted(|_| {}));
    for (opening, signal) in [("abort", "SIGABRT"), ("segfault", "SIGSEGV")] {
        let config = json!({ "account": "a", "opening": opening });
        match plugin.open(&config).await {
            Err(OpenError::Failed(reason)) => assert!(reason.contains(signal), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}
