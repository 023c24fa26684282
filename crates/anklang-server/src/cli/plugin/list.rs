//! `anklang plugin list`.

use std::path::PathBuf;
use std::process::ExitCode;

use anklang_channels::{Found, Hosting, Plugin, Sha256, discover, file_name};
use anyhow::Context;

use crate::cli::{ConfigArgs, load};
use crate::config::{AccountConfig, Config};

/// See [`super::PluginCommand::List`].
#[derive(clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The folder, instead of the one of the configuration.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// The exit code tells whether everything fits.
pub(super) fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let config = match load(&args.config) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let folder = args.folder.as_ref().unwrap_or(&config.plugins);
    let found = discover(folder, &Hosting::default())
        .with_context(|| format!("the folder of plugins, {}", folder.display()))?;
    let mut fits = true;
    for Found { path, plugin } in &found {
        match plugin {
            Ok(plugin) => print(plugin),
            Err(error) => {
                fits = false;
                println!("refused: {error}");
            }
        }
        println!("  file    {}", path.display());
    }
    if found.is_empty() {
        println!("no plugin in {}", folder.display());
    }
    fits &= accounts(&config, &found);
    Ok(match fits {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print(plugin: &Plugin) {
    let manifest = plugin.manifest();
    println!("{} {}", manifest.id, manifest.version);
    println!("  channel {}", manifest.channel);
    println!("  sha256  {}", plugin.sha256());
}

/// The configured accounts against what was found; `false` if one cannot be opened so.
fn accounts(config: &Config, found: &[Found]) -> bool {
    let mut fits = true;
    for (id, account) in &config.channel_accounts {
        let reasons = reasons(account, found);
        match reasons.is_empty() {
            true => println!("account {id}: fits {}", account.plugin),
            false => {
                fits = false;
                println!("account {id}: refused");
                reasons.iter().for_each(|reason| println!("  {reason}"));
            }
        }
    }
    fits
}

fn reasons(account: &AccountConfig, found: &[Found]) -> Vec<String> {
    let wanted = file_name(&account.plugin);
    let named = |found: &&Found| found.path.file_name().is_some_and(|name| *name == *wanted);
    let plugin = match found.iter().find(named).map(|found| &found.plugin) {
        None => return vec![format!("there is no {wanted}")],
        Some(Err(_)) => return vec![format!("{wanted} is refused")],
        Some(Ok(plugin)) => plugin,
    };
    let pinned = account
        .pin
        .map(Sha256)
        .filter(|pin| *pin != plugin.sha256());
    let pinned =
        pinned.map(|pin| format!("sha256: {pin} is pinned, and it is {}", plugin.sha256()));
    let config = plugin.check_config(&account.config).err();
    let config = config.into_iter().flatten().map(|v| format!("config: {v}"));
    pinned.into_iter().chain(config).collect()
}
