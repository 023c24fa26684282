//! `anklang plugin new`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::EXIT_USAGE;

const CARGO: &str = include_str!("skeleton/Cargo.toml.txt");
const LIB: &str = include_str!("skeleton/lib.rs.txt");
const README: &str = include_str!("skeleton/README.md.txt");

/// See [`super::PluginCommand::New`].
#[derive(clap::Args)]
pub struct NewArgs {
    /// Its id: a–z, 0–9 and hyphens, beginning with a letter.
    name: String,
    /// The folder of the new crate; by default one of that name here.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// The channel that it serves: "sms", "email", "fax", …; by default the id.
    #[arg(long)]
    channel: Option<String>,
    /// The folder `plugins/sdk` of a checkout of Anklang.
    #[arg(long, value_name = "FOLDER", conflicts_with = "git")]
    sdk: Option<PathBuf>,
    /// A repository of Anklang, to take the SDK from.
    #[arg(long, value_name = "URL", required_unless_present = "sdk")]
    git: Option<String>,
}

fn is_word(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.bytes().all(fits)
}

pub(super) fn run(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let channel = args.channel.as_deref().unwrap_or(&args.name);
    for (what, text) in [("name", &args.name[..]), ("channel", channel)] {
        if !is_word(text) {
            eprintln!(
                "anklang: a {what} is 1 to 63 of a–z, 0–9 and hyphens, and begins with a letter"
            );
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    }
    let folder = args
        .folder
        .clone()
        .unwrap_or_else(|| PathBuf::from(&args.name));
    // Never over something that is there.
    std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    std::fs::create_dir(folder.join("src"))?;
    let library = format!("anklang_{}", args.name.replace('-', "_"));
    let filled = |text: &str, sdk: &str| {
        text.replace("@ID@", &args.name)
            .replace("@CHANNEL@", channel)
            .replace("@LIBRARY@", &library)
            .replace("@SDK@", sdk)
    };
    let sdk = sdk(args)?;
    for (name, text) in [
        ("Cargo.toml", CARGO),
        ("src/lib.rs", LIB),
        ("README.md", README),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, filled(text, &sdk))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    println!("{} begins in {}", args.name, folder.display());
    println!("next: cd {} && cargo build --release", folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Where the SDK comes from, as TOML.
fn sdk(args: &NewArgs) -> anyhow::Result<String> {
    let quoted = |text: &str| toml_text(text);
    match (&args.sdk, &args.git) {
        (Some(folder), _) => {
            let known = folder.join("Cargo.toml");
            let text = std::fs::read_to_string(&known)
                .with_context(|| format!("--sdk: {}", known.display()))?;
            anyhow::ensure!(
                text.contains("name = \"anklang-plugin-sdk\""),
                "--sdk: {} is not the SDK",
                folder.display()
            );
            let folder = std::path::absolute(folder)?;
            Ok(format!("path = {}", quoted(&text_of(&folder)?)))
        }
        (None, Some(url)) => Ok(format!("git = {}", quoted(url))),
        (None, None) => anyhow::bail!("either --sdk or --git is needed"),
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().context("--sdk: a path in UTF-8 is needed")?;
    Ok(text.to_owned())
}

/// A text as TOML writes it, whatever is in it.
fn toml_text(text: &str) -> String {
    // JSON's escapes are TOML's, for all that is no control character beyond the usual.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_become_crates_files_and_ids() {
        for good in ["sms", "my-sms-2", "x"] {
            assert!(is_word(good), "{good}");
        }
        let long = "x".repeat(64);
        for bad in [
            "", "2sms", "-sms", "sms-", "SMS", "s ms", "../x", "s_ms", &long,
        ] {
            assert!(!is_word(bad), "{bad}");
        }
    }
}
