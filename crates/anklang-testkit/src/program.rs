//! The program and the plugins under test, freshly built.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Where the built files are.
#[derive(Debug, Clone)]
pub struct Program {
    /// The `anklang` binary.
    pub anklang: PathBuf,
    /// The folder of the plugins.
    pub plugins: PathBuf,
}

impl Program {
    /// The version before the one under test: `ANKLANG_TEST_PREVIOUS`, with its plugins beside it. Without that
    /// variable it is the one under test as well.
    pub fn previous() -> Result<Self> {
        let Some(anklang) = std::env::var_os("ANKLANG_TEST_PREVIOUS") else {
            return Ok(program().clone());
        };
        let anklang = PathBuf::from(anklang);
        let folder = anklang.parent().context("ANKLANG_TEST_PREVIOUS: a file")?;
        let plugins = folder.to_path_buf();
        Ok(Program { anklang, plugins })
    }

    /// Runs one of its commands and gives what it prints.
    pub async fn run(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        let mut command = tokio::process::Command::new(&self.anklang);
        let output = command.args(words).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// Builds the program and the plugins, once in a process; cargo knows when nothing changed.
pub fn program() -> &'static Program {
    static PROGRAM: OnceLock<Program> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // Build scripts (ring's) run again when these change: without them it is as from a shell.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        let (target, profile) = built_in();
        // Cargo's own words are kept for when it fails. Not by a macro: tests keep back what those print.
        let _ = writeln!(
            std::io::stderr(),
            "building the server and its plugins, profile {profile}; this may take minutes"
        );
        let built = cargo
            .args([
                "build",
                "--message-format=json-render-diagnostics",
                "--profile",
                &profile,
            ])
            .args(["-p", "anklang-server", "-p", "anklang-plugin-testing"])
            .args(["-p", "anklang-plugin-mail", "-p", "anklang-plugin-sms"])
            .args(["-p", "anklang-plugin-fax", "-p", "anklang-plugin-social"])
            .arg("--target-dir")
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "the program does not build: {said}");
        let messages: Vec<Value> = String::from_utf8_lossy(&built.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let anklang = messages
            .iter()
            .filter(|m| m["target"]["name"] == "anklang")
            .find_map(|m| m["executable"].as_str())
            .expect("cargo names the program");
        let plugin = messages
            .iter()
            .filter(|m| m["target"]["name"] == "anklang_mail")
            .find_map(|m| m["filenames"][0].as_str())
            .expect("cargo names the plugin");
        let plugins = PathBuf::from(plugin)
            .parent()
            .expect("a file has a folder")
            .to_path_buf();
        Program {
            anklang: anklang.into(),
            plugins,
        }
    })
}

/// The target folder and the profile that the running program was built in, so that nothing is
/// built twice.
fn built_in() -> (PathBuf, String) {
    // <target>/<profile>/deps/<test> or <target>/<profile>/<program>
    let program = std::env::current_exe().expect("a process has a program");
    let mut folders = program.ancestors().skip(1);
    let mut folder = folders.next().expect("a file has a folder");
    if folder.ends_with("deps") {
        folder = folders.next().expect("deps has a folder");
    }
    let profile = folder.file_name().expect("it has a name").to_string_lossy();
    let target = folder.parent().expect("a profile has a folder");
    let profile = match &profile[..] {
        "debug" => "dev",
        other => other,
    };
    (target.to_path_buf(), profile.to_owned())
}
