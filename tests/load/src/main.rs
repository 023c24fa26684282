//! Measures Anklang with many customers against the same work by hand, in one run on one database.
//!
//! Machines are noisy: ratios count, seconds are only shown beside them. Each measurement says what
//! its baseline is.
//!
//! ```text
//! cargo run --release -p anklang-load -- --accounts 1000000
//! ```

mod calls;
mod data;
mod import;
mod launch;
mod letters;
mod messages;
mod pages;
mod planning;
mod report;
mod selection;
mod winback;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anklang_local::cluster::{Cluster, Options as ClusterOptions};
use anklang_testkit::{Client, Database, Options, TestServer};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use report::{Report, peak_memory, reset_peak_memory};

/// What to measure, and how much.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    own: Option<Own>,
    /// Customers, each with one contract, mail address and consent.
    #[arg(long, default_value_t = 100_000)]
    accounts: usize,
    /// Messages to send in the measurement of sending; at most the accounts.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Letters in the measurement of letters; at most the accounts.
    #[arg(long, default_value_t = 5_000)]
    letters: usize,
    /// Entries of contact plans in the measurement of planning; at most five times the accounts.
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Order lines in the measurement of winback, four for each order.
    #[arg(long, default_value_t = 20_000_000)]
    lines: usize,
    /// A Python that has the package lifetimes: the fit of winback's models is compared with its fit.
    #[arg(long)]
    lifetimes: Option<PathBuf>,
    /// Measurements, in this order; all by default. All others need the import.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Folder for the database, removed at the end; a temporary one by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Writes the plans of statements that take longer than so many milliseconds to
    /// load-postgres.log in the current folder.
    #[arg(long)]
    explain: Option<u64>,
}

/// What the program starts itself for.
#[derive(Subcommand)]
enum Own {
    /// Serves brands with nothing around, for the measurement of calls.
    #[command(hide = true)]
    Bare(calls::bare::Args),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Import,
    Selection,
    Pages,
    Calls,
    Launch,
    Letters,
    Messages,
    Rate,
    Planning,
    Winback,
}

/// What measurements share.
struct Bench {
    accounts: usize,
    messages: usize,
    letters: usize,
    entries: usize,
    lines: usize,
    lifetimes: Option<PathBuf>,
    server: TestServer,
    client: Client,
    /// As the owner of the database.
    db: tokio_postgres::Client,
    report: Report,
}

impl Bench {
    /// Forgets the most memory that the server had so far.
    fn forget_peak_memory(&self) -> Result<()> {
        reset_peak_memory(self.server.pid().context("the server runs")?)
    }

    /// Reports the most memory that the server had since that was forgotten.
    fn note_peak_memory(&mut self, what: &str) -> Result<()> {
        let peak = peak_memory(self.server.pid().context("the server runs")?)?;
        let what = format!("{what}, peak memory of the server");
        self.report.note(&what, format!("{peak} MiB"));
        Ok(())
    }

    /// Connections of the server to its database.
    fn connections(&self) -> Result<usize> {
        let config = std::fs::read_to_string(self.server.config_file())?;
        let line = config.lines().find_map(|l| l.strip_prefix("connections ="));
        Ok(line.context("connections")?.trim().parse()?)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Own::Bare(args)) = args.own {
        return calls::bare::serve(args).await;
    }
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    // As root, PostgreSQL runs as another user, who must get in.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let mut options = ClusterOptions::test(folder.path().join("postgresql"));
    options.durable = true;
    options.shared_buffers_mib = 2_048;
    options.settings = [
        ("max_wal_size", "16GB"),
        ("maintenance_work_mem", "256MB"),
        ("random_page_cost", "1.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let cluster = Cluster::start(options).await?;
    cluster.ensure_database("load").await?;
    let database = Database {
        name: "load".into(),
        url: cluster.url("load"),
    };
    let db = database.connect().await?;
    if let Some(milliseconds) = args.explain {
        let settings = format!(
            "ALTER DATABASE load SET session_preload_libraries = 'auto_explain';
             ALTER DATABASE load SET auto_explain.log_min_duration = {milliseconds};
             ALTER DATABASE load SET auto_explain.log_analyze = on;
             ALTER DATABASE load SET auto_explain.log_nested_statements = on;
             ALTER DATABASE load SET auto_explain.log_triggers = on"
        );
        db.batch_execute(&settings).await?;
    }
    let server = TestServer::start_on(
        database,
        Options {
            // Sending is measured apart; until then the messages stay where they are.
            no_dispatch: true,
            lease_seconds: 60,
            // All that is measured is one tenant's.
            config: "[server.limits]\nrequests_per_second = 0\nconcurrent_requests = 1000\n".into(),
            ..Options::default()
        },
    )
    .await?;
    let client = server.client(data::TENANT).await?;
    let mut bench = Bench {
        accounts: args.accounts,
        messages: args.messages.min(args.accounts),
        letters: args.letters.min(args.accounts),
        entries: args.entries.min(args.accounts * planning::PLANS),
        lines: args.lines,
        lifetimes: args.lifetimes.clone(),
        server,
        client,
        db,
        report: Report::begin(args.accounts)?,
    };
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    import::run(&mut bench, wanted(Part::Import))
        .await
        .context("import")?;
    if wanted(Part::Selection) {
        bench.forget_peak_memory()?;
        selection::run(&mut bench).await.context("selection")?;
        bench.note_peak_memory("selections")?;
    }
    if wanted(Part::Pages) {
        bench.forget_peak_memory()?;
        pages::run(&mut bench).await.context("pages")?;
        bench.note_peak_memory("pages")?;
    }
    if wanted(Part::Calls) {
        calls::run(&mut bench).await.context("calls")?;
    }
    if wanted(Part::Launch) {
        launch::run(&mut bench).await.context("launch")?;
    }
    if wanted(Part::Letters) {
        letters::run(&mut bench).await.context("letters")?;
    }
    if wanted(Part::Messages) {
        messages::run(&mut bench).await.context("messages")?;
    }
    if wanted(Part::Rate) {
        messages::rate(&mut bench).await.context("rate")?;
    }
    if wanted(Part::Planning) {
        planning::run(&mut bench).await.context("planning")?;
    }
    if wanted(Part::Winback) {
        winback::run(&mut bench).await.context("winback")?;
    }
    println!("\n{}", bench.report.markdown());
    drop(bench);
    cluster.stop().await?;
    if args.explain.is_some() {
        let log = folder.path().join("postgresql/postgres.log");
        std::fs::copy(log, "load-postgres.log")?;
    }
    Ok(())
}
