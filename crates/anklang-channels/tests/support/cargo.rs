//! Plugins of this workspace, built by cargo.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The plugins: built together, so that all tests share one build of their dependencies.
const PLUGINS: [&str; 5] = [
    "anklang-plugin-fax",
    "anklang-plugin-mail",
    "anklang-plugin-sms",
    "anklang-plugin-social",
    "anklang-plugin-testing",
];

/// Builds the plugins of this workspace and returns the path of this one's `cdylib`. Uses the target
/// directory and the profile of the running program, so that nothing is built twice.
pub fn cdylib(package: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    // Build scripts (ring's) run again when these change: without them it is as from a shell.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    let (target, profile) = built_in();
    let built = cargo
        .args([
            "build",
            "--message-format=json-render-diagnostics",
            "--profile",
            &profile,
        ])
        .args(PLUGINS.iter().flat_map(|plugin| ["-p", plugin]))
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "plugins do not build: {said}");
    let library = package.replace("-plugin-", "_");
    String::from_utf8(built.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|m| m["reason"] == "compiler-artifact" && m["target"]["kind"][0] == "cdylib")
        .filter(|m| m["target"]["name"] == library)
        .filter_map(|m| m["filenames"][0].as_str().map(PathBuf::from))
        .next_back()
        .unwrap_or_else(|| panic!("cargo names no library {library}"))
}

/// The target folder and the profile that the running program was built in.
fn built_in() -> (PathBuf, String) {
    // <target>/<profile>/deps/<test>
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    (folder.parent().unwrap().to_path_buf(), profile.to_owned())
}
