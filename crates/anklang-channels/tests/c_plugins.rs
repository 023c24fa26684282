//! Plugins in C: those that the host must refuse, and one that breaks every rule of completion.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/c.rs"]
mod c;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[macro_use]
#[path = "support/modes.rs"]
mod modes;
#[path = "support/texts.rs"]
mod texts;

use std::path::PathBuf;
use std::time::Duration;

use anklang_channels::proto::Manifest;
use anklang_channels::{CallError, Counters, DrainError, Isolation, LoadError, OpenError, Plugin};
use c::c_library;
use hosting::hosting;
use kinds::kinds;
use modes::until_counted;
use prost::Message;
use serde_json::json;
use texts::texts;

in_both_modes! {
    #[tokio::test]
        manifests_are_checked
        a_larger_manifest_of_a_later_minor_version_is_read
        both_functions_are_needed
        an_init_that_fails_opens_nothing
        completions_are_taken_once_and_early;
}

/// The manifest that all of them carry, as a C initialiser.
fn manifest_bytes() -> String {
    let manifest = Manifest {
        id: "c".to_owned(),
        version: "1.0.0".to_owned(),
        channel: "testing".to_owned(),
        config_json_schema: r#"{"type":"object"}"#.to_owned(),
        max_batch: 10,
        max_calls_in_flight: 1,
        ..Manifest::default()
    };
    let bytes: Vec<_> = manifest.encode_to_vec().iter().map(u8::to_string).collect();
    bytes.join(",")
}

/// Header of a source: `MANIFEST` is the initialiser of a good manifest.
fn source(rest: &str) -> String {
    format!(
        "#include \"anklang_plugin.h\"\n\
         static const uint8_t bytes[] = {{{}}};\n\
         #define MANIFEST {{sizeof(ank_manifest), ANK_ABI_MAJOR, 0, ANK_MAGIC, {{bytes, sizeof bytes}}}}\n\
         {rest}",
        manifest_bytes()
    )
}

const NO_INIT: &str = "ank_status anklang_plugin_init_v1(const ank_host *h, ank_plugin *p) \
    { (void)h; (void)p; return ANK_INTERNAL; }";

fn load(mode: Isolation, name: &str, rest: &str) -> Result<Plugin, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let library: PathBuf = c_library(dir.path(), name, &source(rest));
    Plugin::load_with(&library, None, hosting(mode))
}

fn with_manifest(mode: Isolation, name: &str, initialiser: &str) -> Result<Plugin, LoadError> {
    let rest = format!(
        "static const ank_manifest m = {initialiser};\n\
         const ank_manifest *anklang_plugin_manifest(void) {{ return &m; }}\n{NO_INIT}"
    );
    load(mode, name, &rest)
}

async fn manifests_are_checked(mode: Isolation) {
    let good = with_manifest(mode, "good", "MANIFEST").unwrap();
    assert_eq!(good.manifest().id, "c");
    let refused = [
        (
            "magic",
            "{sizeof(ank_manifest), 1, 0, 42, {bytes, sizeof bytes}}",
            "magic",
        ),
        (
            "size",
            "{8, 1, 0, ANK_MAGIC, {bytes, sizeof bytes}}",
            "too small",
        ),
        (
            "major",
            "{sizeof(ank_manifest), 2, 0, ANK_MAGIC, {bytes, sizeof bytes}}",
            "ABI 2.0",
        ),
        (
            "minor",
            "{sizeof(ank_manifest), 1, 9, ANK_MAGIC, {bytes, sizeof bytes}}",
            "ABI 1.9",
        ),
        (
            "null",
            "{sizeof(ank_manifest), 1, 0, ANK_MAGIC, {0, 7}}",
            "no bytes",
        ),
        (
            "empty",
            "{sizeof(ank_manifest), 1, 0, ANK_MAGIC, {0, 0}}",
            "required",
        ),
        (
            "cut",
            "{sizeof(ank_manifest), 1, 0, ANK_MAGIC, {bytes, 5}}",
            "manifest: ",
        ),
    ];
    for (name, initialiser, reason) in refused {
        let error = with_manifest(mode, name, initialiser)
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{name}: {error}");
    }
    let none =
        format!("const ank_manifest *anklang_plugin_manifest(void) {{ return 0; }}\n{NO_INIT}");
    assert!(
        load(mode, "none", &none)
            .unwrap_err()
            .to_string()
            .contains("there is none")
    );
}

async fn a_larger_manifest_of_a_later_minor_version_is_read(mode: Isolation) {
    let larger = "static const struct { ank_manifest m; uint64_t later; } m = \
        {{sizeof m, ANK_ABI_MAJOR, 0, ANK_MAGIC, {bytes, sizeof bytes}}, 1};\n\
        const ank_manifest *anklang_plugin_manifest(void) { return &m.m; }\n";
    let plugin = load(mode, "larger", &format!("{larger}{NO_INIT}")).unwrap();
    assert_eq!(plugin.manifest().id, "c");
}

async fn both_functions_are_needed(mode: Isolation) {
    let one = "static const ank_manifest m = MANIFEST;\n\
        const ank_manifest *anklang_plugin_manifest(void) { return &m; }";
    let error = load(mode, "one", one).unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::MissingSymbol {
                symbol: "anklang_plugin_init_v1",
                ..
            }
        ),
        "{error}"
    );
}

async fn an_init_that_fails_opens_nothing(mode: Isolation) {
    let plugin = with_manifest(mode, "noinit", "MANIFEST").unwrap();
    let error = plugin.open(&json!({})).await.unwrap_err();
    assert!(matches!(error, OpenError::Init(_)), "{error}");
}

/// Completes before it returns, repeats completions, makes some up, and never drains. What it
/// does is the operation's number.
const RUDE: &str = r#"
static const ank_manifest m = MANIFEST;
const ank_manifest *anklang_plugin_manifest(void) { return &m; }
static ank_host host;
static const ank_bytes none = {0, 0};
static void say(uint64_t call, ank_status st, ank_bytes reply) { host.complete(host.ctx, call, st, reply); }

static ank_status rude_open(const ank_host *h, uint64_t inst, uint64_t call, ank_bytes config, ank_inst **out) {
  (void)h; (void)inst; (void)config;
  *out = (ank_inst *)&host;
  say(call, ANK_OK, none);
  return ANK_OK;
}

static ank_status rude_call(ank_inst *inst, uint32_t op, uint64_t call, ank_bytes request) {
  static const uint8_t accepted[] = {0x0a, 2, 0x0a, 0}; /* SendReply{outcomes: [accepted]} */
  static const uint8_t garbage[] = {0xff, 0xff, 0xff};
  ank_bytes good = {accepted, sizeof accepted}, bad = {garbage, sizeof garbage}, no_bytes = {0, 3};
  (void)inst;
  switch (op) {
  case ANK_OP_SEND:
    switch (request.len % 5) {
    case 0: say(call, ANK_OK, good); say(call, ANK_OK, good); say(0, ANK_OK, good); return ANK_OK;
    case 1: say(call, ANK_OK, bad); return ANK_OK;
    case 2: say(call, ANK_BUSY, none); return ANK_OK;
    case 3: say(call, ANK_OK, no_bytes); return ANK_OK;
    default: return 77;
    }
  case ANK_OP_HEALTH: host.event(host.ctx, 4711, ANK_EV_LOG, none); say(call, ANK_OK, none); return ANK_OK;
  default: return ANK_UNSUPPORTED;
  }
}

static ank_status rude_drain(ank_inst *inst, uint64_t call, uint64_t deadline) {
  (void)inst; (void)call; (void)deadline;
  return ANK_OK; /* and never completes */
}

static void rude_close(ank_inst *inst) { (void)inst; __builtin_trap(); }

ank_status anklang_plugin_init_v1(const ank_host *h, ank_plugin *out) {
  host = *h;
  out->abi_major = ANK_ABI_MAJOR;
  out->open = rude_open;
  out->call = rude_call;
  out->drain = rude_drain;
  out->close = rude_close;
  return ANK_OK;
}
"#;

async fn completions_are_taken_once_and_early(mode: Isolation) {
    let plugin = load(mode, "rude", RUDE).unwrap();
    let instance = plugin.open(&json!({})).await.unwrap();
    let mut seen = std::collections::BTreeMap::new();
    // Requests whose sizes have each remainder.
    for padding in 1..=5 {
        let request = texts(&[&"x".repeat(padding)]);
        let remainder = request.encoded_len() % 5;
        seen.insert(remainder, kinds(&instance.send(request).await.unwrap()));
    }
    let expected = [
        (0, "accepted"),
        (1, "ambiguous"),
        (2, "ambiguous"),
        (3, "ambiguous"),
        (4, "ambiguous"),
    ];
    assert_eq!(seen, expected.map(|(r, kind)| (r, vec![kind])).into());
    let mut expected = Counters {
        stray_completions: 2,
        ..Counters::default()
    };
    until_counted(&plugin, expected).await;

    assert!(instance.health().await.is_ok());
    expected.refused_events = 1;
    until_counted(&plugin, expected).await;
    assert_eq!(
        instance.acknowledge(vec![1]).await,
        Err(CallError::Unsupported)
    );

    // Its close would trap: it must not be called after a drain that did not complete.
    let other = instance.clone();
    let drained = instance.drain(Duration::from_millis(50)).await;
    assert_eq!(drained, Err(DrainError::Unresponsive));
    assert_eq!(other.send(texts(&["x"])).await, Err(CallError::Closed));
}
