//! The same plugin in this process and in one of its own: messages per second.
//!
//! `cargo bench -p anklang-channels` prints both for batches of 1, 10 and 100, and how the one in
//! its own process does against the other. Both run in turns, so that a busy machine slows both
//! alike; the share is the median over turns. It fails if isolation costs more than a tenth of
//! the texts per second at batches of 100; what large mails cost on top, whose bytes cross a socket,
//! is printed only. A share of a few percent is noise: run it on a machine that does nothing else.
//!
//! The plugin is the one for tests, which takes everything at once and talks to nobody: what a
//! real channel does comes on top for both, and makes the difference smaller.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anklang_channels::proto::{
    Attachment, MailContent, Message, Party, SendRequest, TextContent, message,
};
use anklang_channels::{CallError, HostProgram, Hosting, Instance, Isolation, Plugin};
use serde_json::json;

const TURNS: usize = 9;
/// Time for one turn of one of the two.
const TURN: Duration = Duration::from_millis(400);
/// Calls at the same time, as an account's `calls`.
const CALLS: usize = 4;
/// What isolation must leave at batches of 100.
const ENOUGH: f64 = 0.9;
/// The content of which that is asked.
const TEXT: &str = "text";

fn main() -> ExitCode {
    // `cargo test --benches` only looks whether it runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(compare(quick))
}

async fn compare(quick: bool) -> ExitCode {
    let library = library(quick);
    let here = open(&library, Isolation::None).await;
    let process = open(&library, Isolation::Process).await;
    let (turns, turn) = match quick {
        true => (1, Duration::from_millis(20)),
        false => (TURNS, TURN),
    };
    println!("| content | batch | in process | isolated | share |\n|---|---|---|---|---|");
    let mut enough = true;
    for (name, content) in [(TEXT, text()), ("mail of 60 KiB", mail())] {
        for batch in [1, 10, 100] {
            let request = SendRequest {
                messages: vec![message_with(&content); batch],
                traceparent: String::new(),
            };
            let mut rates: Vec<(f64, f64)> = Vec::new();
            // One turn to warm up.
            for _ in 0..=turns {
                let here = rate(&here, &request, turn).await;
                let process = rate(&process, &request, turn).await;
                rates.push((here, process));
            }
            rates.remove(0);
            let share = median(rates.iter().map(|(here, process)| process / here));
            let (here, process) = (
                median(rates.iter().map(|r| r.0)),
                median(rates.iter().map(|r| r.1)),
            );
            println!("| {name} | {batch} | {here:.0}/s | {process:.0}/s | {share:.2} |");
            enough &= name != TEXT || batch < 100 || share >= ENOUGH;
        }
    }
    for instance in [here, process] {
        let drained = instance.drain(Duration::from_secs(5)).await;
        drained.expect("nothing is in flight");
    }
    match quick || enough {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The plugin, built as this is.
fn library(quick: bool) -> PathBuf {
    let bench = std::env::current_exe().expect("a process has a program");
    // <target>/<profile>/deps/<bench>
    let folder = bench.ancestors().nth(2).expect("a profile has a folder");
    let target = folder.parent().expect("it lies in the target folder");
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "-p", "anklang-plugin-testing"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !quick {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo runs");
    assert!(built.success(), "the plugin does not build");
    folder.join("libanklang_testing.so")
}

async fn open(library: &std::path::Path, isolation: Isolation) -> Instance {
    let hosting = Hosting {
        isolation,
        program: HostProgram {
            path: env!("CARGO_BIN_EXE_anklang-plugin-host").into(),
            arguments: Vec::new(),
        },
        ..Hosting::default()
    };
    let plugin = Plugin::load_with(library, None, hosting).expect("it is a plugin");
    let opened = plugin.open(&json!({ "account": "bench" })).await;
    opened.expect("the configuration is right")
}

/// Messages per second.
async fn rate(instance: &Instance, request: &SendRequest, time: Duration) -> f64 {
    let begun = Instant::now();
    let senders: Vec<_> = (0..CALLS)
        .map(|_| {
            let (instance, request) = (instance.clone(), request.clone());
            tokio::spawn(async move {
                let mut sent = 0;
                while begun.elapsed() < time {
                    match instance.send(request.clone()).await {
                        Ok(outcomes) => sent += outcomes.len(),
                        Err(CallError::Busy) => tokio::task::yield_now().await,
                        Err(error) => panic!("{error}"),
                    }
                }
                sent
            })
        })
        .collect();
    let mut sent = 0;
    for sender in senders {
        sent += sender.await.expect("senders do not panic");
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let sent = sent as f64;
    sent / begun.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn message_with(content: &message::Content) -> Message {
    Message {
        message_id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
        attempt: 1,
        recipient: Some(Party {
            address: "kunde@post.example".to_owned(),
            name: "Erika Muster".to_owned(),
        }),
        content: Some(content.clone()),
        ..Message::default()
    }
}

fn text() -> message::Content {
    message::Content::Text(TextContent {
        text: "Guten Tag, Ihr Angebot liegt bereit.".to_owned(),
    })
}

/// With a letter, as campaigns send them.
fn mail() -> message::Content {
    message::Content::Mail(MailContent {
        subject: "Ihr Angebot".to_owned(),
        text: "Guten Tag".repeat(100),
        html: "<p>Guten Tag</p>".repeat(500),
        attachments: vec![Attachment {
            filename: "Angebot.pdf".to_owned(),
            media_type: "application/pdf".to_owned(),
            content: vec![0x25; 50_000],
        }],
        ..MailContent::default()
    })
}
