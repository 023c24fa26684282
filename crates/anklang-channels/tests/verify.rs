//! The conformance suite: passed by plugins that keep the rules, and not by others.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/c.rs"]
mod c;
#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anklang_channels::Isolation;
use anklang_channels::proto::Manifest;
use anklang_channels::verify::{Report, Verdict, VerifyOptions, verify};
use c::c_library;
use cargo::cdylib;
use prost::Message;
use serde_json::{Value, json};

async fn verified(mode: Isolation, library: &Path, config: Option<Value>) -> Report {
    let options = VerifyOptions {
        config,
        calls: 2_000,
        patience: Duration::from_secs(30),
    };
    verify(library, hosting::hosting(mode), options).await
}

/// Rules that failed, with why.
fn broken(report: &Report) -> BTreeMap<&str, &str> {
    let checks = report.checks.iter();
    checks
        .filter_map(|check| match &check.verdict {
            Verdict::Failed(why) => Some((check.rule, &why[..])),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn plugins_of_the_sdk_keep_all_rules() {
    let config = json!({ "host": "127.0.0.1", "port": 1, "tls": "none" });
    for (package, config) in [
        ("anklang-plugin-testing", json!({ "account": "a" })),
        ("anklang-plugin-mail", config),
    ] {
        let library = cdylib(package);
        for mode in [Isolation::Process, Isolation::None] {
            let report = verified(mode, &library, Some(config.clone())).await;
            assert_eq!(broken(&report), BTreeMap::new(), "{package}, {mode:?}");
            assert!(report.passed());
            let ok = |c: &&anklang_channels::verify::Check| c.verdict == Verdict::Ok;
            assert!(report.checks.iter().filter(ok).count() > 12, "{report:?}");
        }
        // Without a configuration, there is less to try.
        let report = verified(Isolation::Process, &library, None).await;
        assert!(report.passed(), "{report:?}");
    }
}

/// Fills its table whatever its size, opens anything, completes everything twice, gives no
/// outcomes, never drains, and traps when it is asked for its health.
const RUDE: &str = r#"
static ank_host host;
static const ank_bytes none = {0, 0};
static void twice(uint64_t call) {
  host.complete(host.ctx, call, ANK_OK, none);
  host.complete(host.ctx, call, ANK_OK, none);
}
static ank_status rude_open(const ank_host *h, uint64_t inst, uint64_t call, ank_bytes config, ank_inst **out) {
  (void)h; (void)inst; (void)config;
  *out = (ank_inst *)&host;
  twice(call);
  return ANK_OK;
}
static ank_status rude_call(ank_inst *inst, uint32_t op, uint64_t call, ank_bytes request) {
  (void)inst; (void)request;
  if (op == ANK_OP_HEALTH) __builtin_trap();
  twice(call);
  return ANK_OK;
}
static ank_status rude_drain(ank_inst *inst, uint64_t call, uint64_t deadline) {
  (void)inst; (void)call; (void)deadline;
  return ANK_OK;
}
static void rude_close(ank_inst *inst) { (void)inst; }
const ank_manifest *anklang_plugin_manifest(void) { return &m; }
ank_status anklang_plugin_init_v1(const ank_host *h, ank_plugin *out) {
  host = *h;
  out->abi_major = ANK_ABI_MAJOR;
  out->open = rude_open; out->call = rude_call; out->drain = rude_drain; out->close = rude_close;
  return ANK_OK;
}
"#;

/// A library of the rude plugin, with its two calls in flight at most.
fn rude(dir: &Path, name: &str, source: &str) -> PathBuf {
    let manifest = Manifest {
        id: "rude".to_owned(),
        channel: "testing".to_owned(),
        config_json_schema: r#"{"type":"object"}"#.to_owned(),
        max_batch: 10,
        max_calls_in_flight: 2,
        ..Manifest::default()
    };
    let bytes: Vec<_> = manifest.encode_to_vec().iter().map(u8::to_string).collect();
    let source = format!(
        "#include \"anklang_plugin.h\"\nstatic const uint8_t bytes[] = {{{}}};\n\
         static const ank_manifest m = {{sizeof(ank_manifest), ANK_ABI_MAJOR, 0, ANK_MAGIC, \
         {{bytes, sizeof bytes}}}};\n{source}",
        bytes.join(",")
    );
    c_library(dir, name, &source)
}

#[tokio::test]
async fn calls_beyond_the_bound_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let holding = RUDE.replace(
        "if (op == ANK_OP_HEALTH) __builtin_trap();",
        "if (op == ANK_OP_SEND) return ANK_OK;",
    );
    let options = VerifyOptions {
        config: Some(json!({})),
        calls: 1,
        patience: Duration::from_millis(500),
    };
    let library = rude(dir.path(), "holding", &holding);
    let report = verify(&library, hosting::hosting(Isolation::Process), options).await;
    // Ten of this rule, and those that it holds from before.
    let why = broken(&report).remove("it bounds its calls in flight");
    let is_told = why.is_some_and(|why| why.ends_with(" at once, and it names 2"));
    assert!(is_told, "{report:?}");
}

#[tokio::test]
async fn each_rule_that_is_broken_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let library = rude(dir.path(), "rude", RUDE);
    let options = VerifyOptions {
        config: Some(json!({})),
        calls: 100,
        patience: Duration::from_secs(2),
    };
    let report = verify(&library, hosting::hosting(Isolation::Process), options).await;
    let broken = broken(&report);
    for (rule, why) in [
        ("it writes nothing beyond a smaller table", "beyond"),
        ("it refuses configurations that it cannot read", "it opens"),
        ("it says how it is", "signal"),
        ("it refuses operations that it does not know", "it takes it"),
        ("it refuses requests that it cannot read", "it takes it"),
        ("it gives one outcome for each message", "0 outcomes for 3"),
        ("it lasts for many calls", "outcomes for"),
        ("it completes each call once", ""),
        (
            "it ends its calls with a drain, and takes no more",
            "it does not say",
        ),
    ] {
        let found = broken.get(rule);
        assert!(found.is_some_and(|f| f.contains(why)), "{rule}: {found:?}");
    }
    assert!(!report.passed());
    assert!(!broken.contains_key("it loads"));

    let text = dir.path().join("text.so");
    std::fs::write(&text, "text").unwrap();
    let report = verified(Isolation::Process, &text, None).await;
    assert_eq!(report.checks.len(), 1);
    assert!(!report.passed());
}
