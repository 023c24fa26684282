//! `anklang plugin`: for those who write channel plugins, and those who run them.

mod list;
mod new;
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

/// What to do with plugins.
#[derive(Subcommand)]
pub enum PluginCommand {
    /// Try every rule of the plugin interface on a library. Nothing is sent to anybody, but the
    /// plugin runs: with a configuration, it may connect to its provider.
    Verify(verify::VerifyArgs),
    /// List the plugins of a folder with their SHA-256, and why one is refused.
    List(list::ListArgs),
    /// Begin a plugin in Rust: a crate that builds and passes `verify`.
    New(new::NewArgs),
}

pub(super) async fn run(command: PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::Verify(args) => verify::run(args).await,
        PluginCommand::List(args) => list::run(args),
        PluginCommand::New(args) => new::run(&args),
    }
}
