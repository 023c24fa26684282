//! Short messages per second through the plugin, against the same by the npm package's own client,
//! both at the same centre with the same window, in turns:
//! `cargo bench -p anklang-channels --bench sms`.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]

#[path = "../tests/support/cargo.rs"]
mod cargo;
#[path = "../tests/support/hosting.rs"]
mod hosting;
#[expect(dead_code, reason = "is for tests as well")]
#[path = "../tests/support/sms.rs"]
mod sms;
#[expect(dead_code, reason = "is for tests as well")]
#[path = "../tests/support/smsc.rs"]
mod smsc;

use std::process::Command;
use std::time::{Duration, Instant};

use anklang_channels::Instance;
use futures::stream::{self, StreamExt};
use serde_json::json;
use sms::{accepted, open, send, sms};
use smsc::{Smsc, modules, script};

/// Messages of each turn.
const COUNT: usize = 10_000;
/// Messages that wait for their answers at the same time.
const WINDOW: usize = 100;
/// Messages of a call, and calls at the same time: as many as the plugin takes.
const BATCH: usize = 100;
const CALLS: usize = 8;
const TURNS: usize = 3;

#[tokio::main]
async fn main() {
    let Some(smsc) = Smsc::start_with(&json!({ "quiet": true })) else {
        return;
    };
    let instance = open(&json!({
        "type": "smpp", "host": "127.0.0.1", "port": smsc.port(), "tls": "none",
        "system_id": "bench", "password": "s3cret", "window": WINDOW, "receipts": false,
    }))
    .await;
    // Both warm up before they are measured.
    ours(&instance).await;
    theirs(smsc.port());
    let mut ratios = Vec::new();
    for turn in 1..=TURNS {
        let (ours, theirs) = (ours(&instance).await, theirs(smsc.port()));
        ratios.push(ours / theirs);
        println!(
            "turn {turn}: plugin {ours:.0}/s, npm client {theirs:.0}/s, ratio {:.2}",
            ours / theirs
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[TURNS / 2]);
    instance.drain(Duration::from_secs(5)).await.unwrap();
}

/// Messages per second through the plugin.
async fn ours(instance: &Instance) -> f64 {
    let begun = Instant::now();
    let batches = (0..COUNT / BATCH).map(|batch| async move {
        let numbers = (0..BATCH).map(|one| format!("+491711{:05}01", batch * BATCH + one));
        let messages = numbers
            .map(|to| sms(&to, "Ihr Angebot liegt bereit."))
            .collect();
        for outcome in send(instance, messages).await {
            accepted(&outcome);
        }
    });
    stream::iter(batches).buffer_unordered(CALLS).count().await;
    COUNT as f64 / begun.elapsed().as_secs_f64()
}

/// Messages per second of the npm client.
fn theirs(port: u16) -> f64 {
    let done = Command::new("node")
        .arg(script("client.js"))
        .args([port.to_string(), "s3cret".to_owned()])
        .args([COUNT.to_string(), WINDOW.to_string()])
        .env("NODE_PATH", modules().unwrap())
        .env("NODE_NO_WARNINGS", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let seconds: f64 = String::from_utf8(done.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    COUNT as f64 / seconds
}
