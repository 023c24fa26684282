//! What was measured, as a table.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How Linux tells a process's times to programs (`USER_HZ`).
const TICKS_PER_SECOND: u32 = 100;

/// Collects lines.
pub struct Report {
    head: String,
    lines: Vec<[String; 5]>,
}

impl Report {
    /// Describes the machine.
    pub fn begin(accounts: usize) -> Result<Self> {
        let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
        let model = cpu
            .lines()
            .find_map(|l| l.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let memory = memory.split_whitespace().nth(1).unwrap_or("0");
        let memory = memory.parse::<u64>().unwrap_or(0) / (1 << 20);
        let cores = std::thread::available_parallelism()?;
        let profile = if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        };
        Ok(Report {
            head: format!(
                "{} accounts; {model}, {cores} cores, {memory} GiB; {profile} build",
                grouped(accounts as f64)
            ),
            lines: Vec::new(),
        })
    }

    /// Adds a line: the work, how long ours took for so many rows, and the baseline.
    pub fn add(&mut self, what: &str, rows: usize, ours: Duration, baseline: (&str, Duration)) {
        let ratio = ours.as_secs_f64() / baseline.1.as_secs_f64();
        let rate = rows as f64 / ours.as_secs_f64();
        self.line([
            what.to_owned(),
            format!("{ratio:.2}"),
            baseline.0.to_owned(),
            format!("{} against {}", time(ours), time(baseline.1)),
            format!("{}/s", grouped(rate)),
        ]);
    }

    /// Adds a line that is no ratio.
    pub fn note(&mut self, what: &str, value: String) {
        self.line([
            what.to_owned(),
            String::new(),
            String::new(),
            value,
            String::new(),
        ]);
    }

    fn line(&mut self, line: [String; 5]) {
        println!("{}", line.join(" | "));
        self.lines.push(line);
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\n| work | ratio | baseline | times | rate |\n|---|---|---|---|---|\n",
            self.head
        );
        for line in &self.lines {
            let _ = writeln!(text, "| {} |", line.join(" | "));
        }
        text
    }
}

/// How long something takes.
pub async fn timed<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<(T, Duration), E> {
    let begin = Instant::now();
    let done = work.await?;
    Ok((done, begin.elapsed()))
}

/// The value that a share of the sorted ones lie below; `share` from 0 to 1.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[place]
}

/// The one in the middle.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The most memory that a process ever had resident, in MiB.
pub fn peak_memory(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM:")
}

/// The memory that a process has resident now, in MiB.
pub fn resident_memory(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: u32, line: &'static str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|l| l.strip_prefix(line));
    let kib = found.and_then(|l| l.split_whitespace().next());
    let kib: u64 = kib.context(line)?.parse()?;
    Ok(kib / 1_024)
}

/// Forgets the peak so far.
pub fn reset_peak_memory(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// The time that processors have spent on a process so far, all its threads together.
pub fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // pid (name) state … utime stime …, where the name may hold anything.
    let (_, rest) = stat.rsplit_once(')').context("stat")?;
    let times = rest.split_whitespace().skip(11).take(2);
    let ticks = times.map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(Duration::from_secs(1) * ticks / TICKS_PER_SECOND)
}

fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.1} s"),
        s => format!("{:.2} ms", s * 1_000.0),
    }
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
