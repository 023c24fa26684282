//! Chaos: servers, databases, disks, peers and clocks fail at random moments while a campaign is
//! launched, sent and answered; afterwards the books must balance.
//!
//! A **round** makes a world of its own (database, servers, mail server, receiver of webhooks) and a
//! tenant with some hundred accounts, launches to all of them, has some answer meanwhile, and lets a
//! **case** cause its trouble. When the trouble is over the work must come to its end by itself, and
//! `check` looks whether anything was lost, doubled or left half-done.
//!
//! A round's seed decides when and how trouble is caused. What the machine makes of it differs from
//! run to run, so the same seed is the same trouble, not the same interleaving: checks hold for all
//! of them, and of what a round happens to hit only that it hit something.
//!
//! The short form (`cargo test -p anklang-chaos`) runs a round of each case, the long form as many
//! as wanted: `cargo run -p anklang-chaos -- --rounds 50 --seed 7`.

#![expect(clippy::unwrap_used, reason = "a round ends where it fails")]

mod cases;
mod check;
mod job;
mod own;
mod weather;
mod world;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures::FutureExt;

pub use check::Figures;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The server is killed (SIGKILL) and started again.
    Kills,
    /// The processes of its plugins are killed or frozen, and the server now and then as well.
    Plugins,
    /// PostgreSQL is stopped (fast shutdown) and started again.
    DatabaseStops,
    /// PostgreSQL is stopped without warning (SIGQUIT, or SIGKILL of its first process) and recovers.
    DatabaseKills,
    /// Connections to the database are ended (`pg_terminate_backend`).
    Backends,
    /// The database has no connection left, and the server few of its own.
    Connections,
    /// The document store is full.
    Disk,
    /// Mail server and webhook are slow, silent, refuse, hang up, reset connections.
    Peers,
    /// The server's wall clock jumps.
    Clock,
    /// Two or three servers, of which one is frozen (SIGSTOP) past its leases and thawed.
    Servers,
}

/// How a round ended.
#[derive(Debug)]
pub enum Ended {
    /// The books balance.
    Passed(Figures),
    /// This machine cannot do it, for this reason.
    Skipped(String),
    /// They do not; what panicked said so on standard error.
    Failed,
}

/// A round that ran.
#[derive(Debug)]
pub struct Round {
    /// Its seed.
    pub seed: u64,
    /// How it ended.
    pub ended: Ended,
    /// How long it took.
    pub took: Duration,
}

/// Runs a round. A failure is reported with what repeats it.
pub async fn round(case: Case, seed: u64, accounts: usize) -> Round {
    let begun = Instant::now();
    // The world is dropped with the panic: nothing of it is seen again.
    let ended = AssertUnwindSafe(cases::run(case, seed, accounts)).catch_unwind();
    let ended = ended.await.unwrap_or(Ended::Failed);
    if matches!(ended, Ended::Failed) {
        eprintln!(
            "FAILED; again: cargo run -p anklang-chaos -- --case {} --rounds 1 --seed {seed} \
             --accounts {accounts}",
            name(case)
        );
    }
    Round {
        seed,
        ended,
        took: begun.elapsed(),
    }
}

/// The name of a case on the command line.
pub fn name(case: Case) -> String {
    let value = case.to_possible_value().expect("no case is hidden");
    value.get_name().to_owned()
}
