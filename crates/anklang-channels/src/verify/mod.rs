//! The conformance suite: each rule of the plugin interface that can be tried on any library.
//!
//! What is sent has neither recipient nor content, so that no channel can send it to anybody: each
//! such message has an outcome all the same, which is what is looked at. Unless the plugin is
//! to run in this process, each process that it takes along is noted and another one made.

pub(crate) mod sizes;
mod suite;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::{Hosting, Isolation, Plugin};
use suite::Suite;

/// What came of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result", content = "detail")]
pub enum Verdict {
    /// It is kept.
    Ok,
    /// It is broken, and how.
    Failed(String),
    /// It could not be tried, and why.
    NotApplicable(String),
}

/// A rule, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The rule, in one line.
    pub rule: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What came of all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which they were tried.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether no rule is broken.
    pub fn passed(&self) -> bool {
        let failed = |check: &Check| matches!(check.verdict, Verdict::Failed(_));
        !self.checks.iter().any(failed)
    }

    fn note(&mut self, rule: &'static str, verdict: Verdict) {
        self.checks.push(Check { rule, verdict });
    }
}

/// How to verify.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// A configuration with which an instance opens; without one, only what needs no instance is
    /// tried.
    pub config: Option<Value>,
    /// Calls of the soak.
    pub calls: u32,
    /// For each call, to be answered.
    pub patience: Duration,
}

impl Default for VerifyOptions {
    /// Without a configuration; 10,000 calls; 10 seconds.
    fn default() -> Self {
        Self {
            config: None,
            calls: 10_000,
            patience: Duration::from_secs(10),
        }
    }
}

/// Why a rule about instances could not be tried.
const NO_CONFIG: &str = "needs a configuration";

/// Tries everything. Must be called on a runtime.
pub async fn verify(path: &Path, hosting: Hosting, options: VerifyOptions) -> Report {
    let mut report = Report::default();
    let plugin = match Plugin::load_with(path, None, hosting.clone()) {
        Ok(plugin) => plugin,
        Err(error) => {
            report.note("it loads", Verdict::Failed(error.to_string()));
            return report;
        }
    };
    report.note("it loads", Verdict::Ok);
    report.note(
        "its manifest is always the same",
        same_manifest(path, &plugin),
    );
    tables(&plugin, &options, &mut report).await;
    let config = match &options.config {
        None => Err(Verdict::NotApplicable(NO_CONFIG.to_owned())),
        Some(config) => plugin
            .check_config(config)
            .map(|()| config)
            .map_err(|found| {
                let found: Vec<_> = found.iter().map(ToString::to_string).collect();
                Verdict::Failed(found.join("; "))
            }),
    };
    report.note(
        "the configuration fits its schema",
        config
            .clone()
            .map_or_else(|verdict| verdict, |_| Verdict::Ok),
    );
    let config = config.ok().map(|config| config.to_string().into_bytes());
    Suite::new(plugin, config, options).run(&mut report).await;
    report
}

fn same_manifest(path: &Path, plugin: &Plugin) -> Verdict {
    match Plugin::load_with(path, None, plugin.hosting().clone()) {
        Ok(again) if again.manifest() == plugin.manifest() => Verdict::Ok,
        Ok(_) => Verdict::Failed("read again, it is another".to_owned()),
        Err(error) => Verdict::Failed(error.to_string()),
    }
}

/// Tables of other hosts.
async fn tables(plugin: &Plugin, options: &VerifyOptions, report: &mut Report) {
    let rules = [
        (
            sizes::LARGER_TABLE,
            "it fills in a larger table as far as it knows it",
        ),
        (
            sizes::SMALLER_TABLE,
            "it writes nothing beyond a smaller table",
        ),
        (
            sizes::LATER_HOST,
            "it works with a host of a later minor version",
        ),
    ];
    for (which, rule) in rules {
        let verdict = match plugin.hosting().isolation {
            Isolation::None => Verdict::NotApplicable("needs a process of its own".to_owned()),
            Isolation::Process => suite::tables(plugin, which, options.patience).await,
        };
        report.note(rule, verdict);
    }
}
