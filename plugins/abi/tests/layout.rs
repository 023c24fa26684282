//! The header and its Rust mirror describe the same bytes: the header is compiled with the
//! system's C compiler and prints every size, offset and constant.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use anklang_plugin_abi::*;

/// One line per fact: the C expression and what Rust says it is.
macro_rules! facts {
    ($($c:literal => $rust:expr),* $(,)?) => { vec![$(($c, $rust as u64)),*] };
}

#[rustfmt::skip] // a table
fn facts() -> Vec<(&'static str, u64)> {
    facts! {
        "ANK_MAGIC" => ANK_MAGIC, "ANK_ABI_MAJOR" => ANK_ABI_MAJOR, "ANK_ABI_MINOR" => ANK_ABI_MINOR,
        "ANK_OK" => ANK_OK, "ANK_BUSY" => ANK_BUSY, "ANK_CLOSED" => ANK_CLOSED,
        "ANK_INVALID" => ANK_INVALID, "ANK_UNSUPPORTED" => ANK_UNSUPPORTED, "ANK_INTERNAL" => ANK_INTERNAL,
        "ANK_OP_SEND" => ANK_OP_SEND, "ANK_OP_LOOKUP" => ANK_OP_LOOKUP, "ANK_OP_CANCEL" => ANK_OP_CANCEL,
        "ANK_OP_CALLBACK" => ANK_OP_CALLBACK, "ANK_OP_HEALTH" => ANK_OP_HEALTH,
        "ANK_OP_ACK_EVENTS" => ANK_OP_ACK_EVENTS,
        "ANK_EV_DELIVERY" => ANK_EV_DELIVERY, "ANK_EV_INBOUND" => ANK_EV_INBOUND, "ANK_EV_LOG" => ANK_EV_LOG,
        "ANK_EV_SPAN" => ANK_EV_SPAN, "ANK_EV_METRIC" => ANK_EV_METRIC,
        "sizeof(ank_status)" => size_of::<AnkStatus>(),
        "sizeof(ank_bytes)" => size_of::<AnkBytes>(),
        "offsetof(ank_bytes, ptr)" => offset_of!(AnkBytes, ptr),
        "offsetof(ank_bytes, len)" => offset_of!(AnkBytes, len),
        "sizeof(ank_manifest)" => size_of::<AnkManifest>(),
        "offsetof(ank_manifest, size)" => offset_of!(AnkManifest, size),
        "offsetof(ank_manifest, abi_major)" => offset_of!(AnkManifest, abi_major),
        "offsetof(ank_manifest, abi_minor_required)" => offset_of!(AnkManifest, abi_minor_required),
        "offsetof(ank_manifest, magic)" => offset_of!(AnkManifest, magic),
        "offsetof(ank_manifest, manifest)" => offset_of!(AnkManifest, manifest),
        "sizeof(ank_host)" => size_of::<AnkHost>(),
        "offsetof(ank_host, size)" => offset_of!(AnkHost, size),
        "offsetof(ank_host, abi_major)" => offset_of!(AnkHost, abi_major),
        "offsetof(ank_host, abi_minor)" => offset_of!(AnkHost, abi_minor),
        "offsetof(ank_host, ctx)" => offset_of!(AnkHost, ctx),
        "offsetof(ank_host, complete)" => offset_of!(AnkHost, complete),
        "offsetof(ank_host, event)" => offset_of!(AnkHost, event),
        "sizeof(ank_plugin)" => size_of::<AnkPlugin>(),
        "offsetof(ank_plugin, size)" => offset_of!(AnkPlugin, size),
        "offsetof(ank_plugin, abi_major)" => offset_of!(AnkPlugin, abi_major),
        "offsetof(ank_plugin, abi_minor)" => offset_of!(AnkPlugin, abi_minor),
        "offsetof(ank_plugin, open)" => offset_of!(AnkPlugin, open),
        "offsetof(ank_plugin, call)" => offset_of!(AnkPlugin, call),
        "offsetof(ank_plugin, drain)" => offset_of!(AnkPlugin, drain),
        "offsetof(ank_plugin, close)" => offset_of!(AnkPlugin, close),
    }
}

/// What C says of the same expressions.
fn compiled(expressions: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (dir.join("layout.c"), dir.join("layout"));
    let lines: String = expressions
        .iter()
        .map(|(e, _)| format!("  printf(\"%llu %s\\n\", (unsigned long long)({e}), \"{e}\");\n"))
        .collect();
    std::fs::write(
        &source,
        format!("#include <stdio.h>\n#include \"anklang_plugin.h\"\nint main(void) {{\n{lines}  return 0;\n}}\n"),
    )
    .unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include");
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(include)
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .status()
        .expect("a C compiler is installed as `cc`");
    assert!(built.success(), "the header does not compile");
    let printed = Command::new(&program).output().unwrap();
    String::from_utf8(printed.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let (value, name) = line.split_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn header_and_mirror_agree() {
    let facts = facts();
    let c = compiled(&facts);
    assert_eq!(c.len(), facts.len());
    for (name, rust) in facts {
        assert_eq!(c[name], rust, "{name}: C left, Rust right");
    }
}

#[test]
fn magic_spells_the_name() {
    assert_eq!(&ANK_MAGIC.to_le_bytes(), b"ANKLANG1");
}
