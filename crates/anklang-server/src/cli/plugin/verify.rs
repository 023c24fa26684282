//! `anklang plugin verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anklang_channels::verify::{Report, Verdict, VerifyOptions, verify};
use anklang_channels::{Hosting, Isolation};
use anyhow::Context;
use serde_json::Value;

use crate::cli::EXIT_USAGE;

/// See [`super::PluginCommand::Verify`].
#[derive(clap::Args)]
pub struct VerifyArgs {
    /// The library.
    file: PathBuf,
    /// A configuration with which it opens, as JSON. Without one, only what needs no instance is
    /// tried.
    #[arg(long, value_name = "JSON")]
    config: Option<String>,
    /// Where it runs while it is tried: "process", or "none" for this process.
    #[arg(long, default_value = "process", value_parser = ["process", "none"])]
    isolation: String,
    /// Calls of the soak.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    calls: u32,
    /// Seconds that each call may take.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let config: Option<Value> = match args.config.as_deref().map(serde_json::from_str) {
        None => None,
        Some(Ok(config)) => Some(config),
        Some(Err(error)) => {
            eprintln!("anklang: --config is no JSON: {error}");
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let isolation = match &args.isolation[..] {
        "none" => Isolation::None,
        _ => Isolation::Process,
    };
    let hosting = Hosting {
        isolation,
        ..Hosting::default()
    };
    let options = VerifyOptions {
        config,
        calls: args.calls,
        patience: Duration::from_secs(args.patience),
    };
    let report = verify(&args.file, hosting, options).await;
    match args.json {
        true => {
            let text = serde_json::to_string_pretty(&report).context("the report as JSON")?;
            println!("{text}");
        }
        false => print(&report),
    }
    Ok(match report.passed() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print(report: &Report) {
    for check in &report.checks {
        match &check.verdict {
            Verdict::Ok => println!("ok              {}", check.rule),
            Verdict::Failed(why) => println!("FAILED          {}: {why}", check.rule),
            Verdict::NotApplicable(why) => println!("not applicable  {}: {why}", check.rule),
        }
    }
    let failed = |c: &&anklang_channels::verify::Check| matches!(c.verdict, Verdict::Failed(_));
    match report.checks.iter().filter(failed).count() {
        0 => println!("\nno rule is broken"),
        broken => println!("\nbroken: {broken} of {} rules", report.checks.len()),
    }
}
