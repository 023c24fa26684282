//! The long form: as many rounds as wanted, and a table of what came of them.

use std::collections::BTreeSet;
use std::time::Duration;

use anklang_chaos::{Case, Ended, Figures, Round, name, round};
use clap::{Parser, ValueEnum};
use futures::StreamExt;

/// Lets servers, databases, disks, peers and clocks fail while campaigns are launched and sent, and
/// checks that nothing is lost, doubled or left half-done.
#[derive(Parser)]
struct Args {
    /// Rounds of each case.
    #[arg(long, default_value_t = 10)]
    rounds: u64,
    /// Seed of the first round; the next ones count up.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cases, with commas between them; all by default.
    #[arg(long, value_delimiter = ',')]
    case: Vec<Case>,
    /// Accounts of a round's tenant, at least 40.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(40..=9_999))]
    accounts: u16,
    /// Rounds at the same time.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let cases = match &args.case[..] {
        [] => Case::value_variants(),
        some => some,
    };
    let mut lines = Vec::new();
    for case in cases {
        let seeds = futures::stream::iter(args.seed..args.seed + args.rounds);
        let rounds = seeds.map(|seed| round(*case, seed, args.accounts.into()));
        let mut ended = rounds.buffer_unordered(args.at_once.max(1));
        let mut done = Vec::new();
        while let Some(round) = ended.next().await {
            eprintln!("{} {}: {:?}", name(*case), round.seed, round.ended);
            done.push(round);
        }
        lines.push(Line::of(*case, &done));
    }
    println!("\n{HEAD}");
    for line in &lines {
        println!("{}", line.text);
    }
    u8::from(lines.iter().any(|line| line.failed)).into()
}

const HEAD: &str = "| case | rounds | passed | troubles | calls repeated | mails | in doubt | \
    arrived again | held | events | delivered again | seconds per round |\n\
    |---|---|---|---|---|---|---|---|---|---|---|---|";

struct Line {
    text: String,
    failed: bool,
}

impl Line {
    fn of(case: Case, rounds: &[Round]) -> Line {
        let (mut sum, mut passed, mut skipped) = (Figures::default(), 0, BTreeSet::new());
        let failed = rounds
            .iter()
            .any(|round| matches!(round.ended, Ended::Failed));
        for round in rounds {
            match &round.ended {
                Ended::Passed(figures) => {
                    passed += 1;
                    sum.add(figures);
                }
                Ended::Skipped(why) => {
                    skipped.insert(&why[..]);
                }
                Ended::Failed => {}
            }
        }
        let case = name(case);
        if !skipped.is_empty() && !failed {
            let why: Vec<&str> = skipped.into_iter().collect();
            return Line {
                text: format!("| {case} | skipped: {} |", why.join("; ")),
                failed: false,
            };
        }
        let took: Duration = rounds.iter().map(|round| round.took).sum();
        let each = took.as_secs_f64() / rounds.len().max(1) as f64;
        let Figures {
            troubles,
            calls,
            mails,
            doubts,
            twice,
            held,
            events,
            again,
        } = sum;
        let all = rounds.len();
        Line {
            text: format!(
                "| {case} | {all} | {passed} | {troubles} | {calls} | {mails} | {doubts} | {twice} | \
                 {held} | {events} | {again} | {each:.0} |"
            ),
            failed,
        }
    }
}
