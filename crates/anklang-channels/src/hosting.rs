//! Where a plugin runs and what it may use: plain settings, one set for each account.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ConfigViolation;

/// Where a plugin runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// In a process of its own, which is watched, limited and started again.
    #[default]
    Process,
    /// In the host's process: whatever it does there happens to the host.
    None,
}

/// How a plugin is hosted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hosting {
    /// Where it runs.
    pub isolation: Isolation,
    /// The rules for its process, if it has one.
    pub process: ProcessOptions,
    /// The program that becomes its process.
    #[serde(skip)]
    pub program: HostProgram,
}

impl Hosting {
    /// In the host's process.
    pub fn in_process() -> Self {
        Self {
            isolation: Isolation::None,
            ..Self::default()
        }
    }
}

/// The program that loads the plugin in its process. It has to call
/// [`plugin_host`](crate::plugin_host) and nothing before that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostProgram {
    /// The file.
    pub path: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Default for HostProgram {
    /// The running program itself, also when its file was replaced meanwhile, with the argument
    /// `plugin-host`.
    fn default() -> Self {
        Self {
            path: PathBuf::from("/proc/self/exe"),
            arguments: vec!["plugin-host".to_owned()],
        }
    }
}

/// Limits of a plugin's process, and what becomes of it when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessOptions {
    /// Memory that it may have, in MiB, 64 to 1,048,576: beyond it allocations fail.
    pub memory_mib: u64,
    /// Files and connections that it may have open, 16 to 1,048,576.
    pub open_files: u64,
    /// CPU time after which it is ended and started anew, in seconds; 0 is no limit.
    pub cpu_seconds: u64,
    /// Variables of the host's environment that it gets besides the usual ones (language, time
    /// zone, certificates, proxies).
    pub environment: Vec<String>,
    /// Time for loading it and reading its manifest, in milliseconds, 100 to 600,000.
    pub load_milliseconds: u64,
    /// Without a sign of life for so long it hangs, and is killed; in milliseconds, 100 to
    /// 600,000.
    pub hang_milliseconds: u64,
    /// Wait before it is started again after it failed, doubled each time up to the longest; in
    /// milliseconds, 1 to 600,000.
    pub restart_milliseconds: u64,
    /// The longest of these waits, in milliseconds, 1 to 600,000.
    pub longest_restart_milliseconds: u64,
    /// After so many failures within the window it is left alone (the circuit breaker opens); 1
    /// to 1,000.
    pub failures: u32,
    /// The window, in milliseconds, 1 to 86,400,000.
    pub window_milliseconds: u64,
    /// For so long it is left alone; then it is tried once, and left alone again if it fails
    /// within the window. In milliseconds, 1 to 86,400,000.
    pub pause_milliseconds: u64,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self {
            memory_mib: 1_024,
            open_files: 256,
            cpu_seconds: 0,
            environment: Vec::new(),
            load_milliseconds: 10_000,
            hang_milliseconds: 30_000,
            restart_milliseconds: 200,
            longest_restart_milliseconds: 30_000,
            failures: 5,
            window_milliseconds: 60_000,
            pause_milliseconds: 60_000,
        }
    }
}

impl ProcessOptions {
    /// Everything that is out of its range, by field.
    pub fn violations(&self) -> Vec<ConfigViolation> {
        const SIZE: std::ops::RangeInclusive<u64> = 64..=1_048_576;
        const PATIENCE: std::ops::RangeInclusive<u64> = 100..=600_000;
        const WAIT: std::ops::RangeInclusive<u64> = 1..=600_000;
        const DAY: std::ops::RangeInclusive<u64> = 1..=86_400_000;
        let fields = [
            ("memory_mib", self.memory_mib, SIZE),
            ("open_files", self.open_files, 16..=1_048_576),
            ("load_milliseconds", self.load_milliseconds, PATIENCE),
            ("hang_milliseconds", self.hang_milliseconds, PATIENCE),
            ("restart_milliseconds", self.restart_milliseconds, WAIT),
            (
                "longest_restart_milliseconds",
                self.longest_restart_milliseconds,
                WAIT,
            ),
            ("failures", self.failures.into(), 1..=1_000),
            ("window_milliseconds", self.window_milliseconds, DAY),
            ("pause_milliseconds", self.pause_milliseconds, DAY),
        ];
        let numbers = fields
            .into_iter()
            .filter(|(_, value, range)| !range.contains(value))
            .map(|(name, _, range)| ConfigViolation {
                path: format!("/{name}"),
                reason: format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            });
        let names = self.environment.iter().enumerate();
        let names = names
            .filter(|(_, name)| name.is_empty() || name.contains(['=', '\0']))
            .map(|(i, _)| ConfigViolation {
                path: format!("/environment/{i}"),
                reason: "is no name of a variable".to_owned(),
            });
        numbers.chain(names).collect()
    }

    pub(crate) fn load(&self) -> Duration {
        Duration::from_millis(self.load_milliseconds)
    }

    pub(crate) fn hang(&self) -> Duration {
        Duration::from_millis(self.hang_milliseconds)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn settings_are_plain_and_checked() {
        let read = |json: &str| serde_json::from_str::<Hosting>(json);
        assert_eq!(read("{}").unwrap(), Hosting::default());
        let none = read(r#"{ "isolation": "none" }"#).unwrap();
        assert_eq!(none, Hosting::in_process());
        assert!(read(r#"{ "isolation": "thread" }"#).is_err());
        assert!(read(r#"{ "process": { "colour": 1 } }"#).is_err());
        let some =
            read(r#"{ "process": { "memory_mib": 1, "failures": 0, "environment": ["A=B"] } }"#);
        let found = some.unwrap().process.violations();
        let paths: Vec<_> = found.iter().map(|v| v.path.as_str()).collect();
        assert_eq!(paths, ["/memory_mib", "/failures", "/environment/0"]);
        assert!(ProcessOptions::default().violations().is_empty());
    }
}
