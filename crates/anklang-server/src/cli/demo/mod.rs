//! `anklang demo`: the whole job on one machine. A private PostgreSQL, the server, a made-up
//! utility, an SMTP sink; then, as a client over gRPC: selection, preview, launch, mails, answers,
//! infoboard.

mod client;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anklang_channels::Hosting;
use anklang_local::cluster::{Cluster, Options};
use anklang_local::smtp::{Sink, SinkOptions};
use anklang_local::utility::{Manifest, Size, Utility};
use anklang_proto::anklang::campaigns::v1::{Infoboard, OfferFigures};
use anklang_store::Login;
use anyhow::Context;
use chrono::{Datelike, Local, NaiveDate};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{AccountConfig, Config, StoreConfig};
use crate::serve::{self, Server, StartError};
use client::Client;

/// Database and tenant of the demo.
const NAME: &str = "anklang_demo";
const TENANT: &str = "lindenau";

/// Options of `anklang demo`.
#[derive(clap::Args)]
pub struct DemoArgs {
    /// Customers of the made-up utility; it has a fifth more supply accounts.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..=5_000_000))]
    customers: u64,
    /// Seed of the utility and of the answers: the same seed makes the same.
    #[arg(long, default_value_t = 2026)]
    seed: u64,
    /// Where everything is kept; as root below /var/lib/anklang, else below ~/.local/share/anklang.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Where the server listens; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// End after the story, with exit code 0, instead of serving until Ctrl-C.
    #[arg(long)]
    exit: bool,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = args
        .folder
        .clone()
        .unwrap_or_else(|| super::data_folder().join("demo"));
    std::fs::create_dir_all(&folder).with_context(|| format!("folder {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    super::log_to_stderr(
        &std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into()),
        false,
    );

    heading("A private PostgreSQL");
    let cluster = Cluster::start(Options::demo(folder.join("postgresql"))).await?;
    cluster.ensure_database(NAME).await?;
    say(&format!("in {}", cluster.data_dir().display()));

    let outcome = tokio::select! {
        outcome = with_cluster(&args, &folder, &cluster) => outcome,
        () = super::signalled() => {
            println!("\nstopped");
            Ok(())
        }
    };
    cluster.stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn with_cluster(args: &DemoArgs, folder: &Path, cluster: &Cluster) -> anyhow::Result<()> {
    heading("A mail server that keeps what it gets");
    let mails = folder.join("mails");
    // Each run has its mails for itself.
    if mails.exists() {
        std::fs::remove_dir_all(&mails)?;
    }
    let sink = Sink::start(SinkOptions {
        folder: Some(mails.clone()),
        ..SinkOptions::default()
    })
    .await?;
    say(&format!(
        "smtp://{}, mails in {}",
        sink.addr(),
        mails.display()
    ));

    heading("The server");
    let app = match serve::open(config(args, folder, cluster, sink.addr())?).await {
        Ok(app) => app,
        Err(StartError::Config(violations)) => {
            anyhow::bail!(
                "{violations}\nThe mail plugin is built by `cargo build -p anklang-plugin-mail`."
            )
        }
        Err(StartError::Other(error)) => return Err(error),
    };
    let berlin = chrono_tz::Europe::Berlin;
    anklang_store::tenant::upsert(&app.store, TENANT, "Stadtwerke Lindenau", berlin).await?;
    let server = Server::start(app).await?;
    let addr = server.addr;
    say(&format!("grpc://{addr}, tenant {TENANT}"));

    story(args, folder, addr, &sink).await?;
    try_next(addr, folder, &mails);
    if args.exit {
        return server.stop().await;
    }
    println!("\nThe server keeps running; Ctrl-C ends it.");
    server.until(super::signalled()).await
}

fn config(
    args: &DemoArgs,
    folder: &Path,
    cluster: &Cluster,
    sink: SocketAddr,
) -> anyhow::Result<Config> {
    let mut config = Config::read(None, [])?;
    config.listen = args.listen;
    // Its people are made up, and who names another address than loopback has asked for it.
    config.plain_text = true;
    config.auth.anybody = true;
    config.database = Login::read(&cluster.url(NAME))?;
    config.documents.store = StoreConfig::Folder(folder.join("documents"));
    config.log_filter = "error".into();
    let account = AccountConfig {
        plugin: "mail".into(),
        pin: None,
        hosting: Hosting::default(),
        ambiguous: None,
        batch: anklang_domain::account::USUAL_BATCH.into(),
        calls: 4,
        rate: None,
        window: None,
        cost: None,
        tenants: Vec::new(),
        config: serde_json::json!({
            "host": sink.ip().to_string(), "port": sink.port(), "tls": "none", "connections": 8,
        }),
    };
    config.channel_accounts = BTreeMap::from([("mail".to_owned(), account)]);
    Ok(config)
}

async fn story(
    args: &DemoArgs,
    folder: &Path,
    addr: SocketAddr,
    sink: &Sink,
) -> anyhow::Result<()> {
    let today = Local::now().date_naive();
    let mut client = Client::connect(addr, TENANT).await?;

    heading("1. The utility imports its customers and supply accounts");
    let utility = generate(args, folder, today).await?;
    for file in &utility.files {
        let bar = bar(file.name, file.rows);
        let sums = client
            .import(file.name, &file.path, |rows| bar.set_position(rows))
            .await?;
        bar.finish_and_clear();
        say(&format!(
            "{:<18} {:>8} rows: {} new, {} changed, {} as before, {} refused",
            file.name, sums.rows, sums.created, sums.updated, sums.unchanged, sums.failed
        ));
    }

    heading("2. It selects the accounts on old tariffs");
    let selection = client.save_selection(today.year()).await?;
    let preview = client.preview(&selection).await?;
    say(&format!(
        "{selection}: {} supply accounts of {} customers",
        preview.count, preview.customers
    ));
    for row in &preview.sample {
        say(&format!(
            "  {:<24} {:<28} {}",
            row.contract, row.display_name, row.place
        ));
    }

    heading("3. It launches the campaign");
    let launched = launch(&mut client, &selection, today).await?;
    let campaign = launched.campaign.context("a campaign")?.name;
    say(&format!(
        "{campaign}: {} candidates, {} members, {} left out",
        launched.candidates, launched.members, launched.excluded
    ));
    for (reason, count) in client.exclusions(&campaign).await? {
        say(&format!("  left out, {reason:<18} {count}"));
    }

    heading("4. The offers go out by mail");
    send(&mut client, &campaign, launched.members, sink).await?;

    heading("5. Customers accept, reject and keep silent");
    let bar = bar("answers", u64::try_from(launched.members).unwrap_or(0));
    let (accepted, rejected) = client
        .answer(&campaign, args.seed, |n| bar.set_position(n))
        .await?;
    bar.finish_and_clear();
    say(&format!("{accepted} accepted, {rejected} rejected"));

    heading("6. The infoboard");
    print_infoboard(&client.infoboard(&campaign).await?);
    if let Some((customer, events)) = client.history_of_one(&campaign).await? {
        heading(&format!("7. The history of {customer}"));
        for line in events {
            say(&line);
        }
    }
    Ok(())
}

async fn generate(args: &DemoArgs, folder: &Path, today: NaiveDate) -> anyhow::Result<Manifest> {
    let size = Size {
        customers: args.customers,
        contracts: args.customers + args.customers / 5,
    };
    let (seed, folder) = (args.seed, folder.join("import"));
    // The first of the month, so that runs of one month are alike.
    let as_of = today.with_day(1).unwrap_or(today);
    say(&format!("made-up files in {}", folder.display()));
    tokio::task::spawn_blocking(move || Utility::generate(size, seed, as_of, &folder)).await?
}

/// Launches and shows each step until the operation is over.
async fn launch(
    client: &mut Client,
    selection: &str,
    today: NaiveDate,
) -> anyhow::Result<anklang_proto::anklang::campaigns::v1::LaunchCampaignResponse> {
    let mut operation = client.launch(selection, today).await?;
    let mut shown: Option<(String, ProgressBar)> = None;
    while !operation.done {
        let metadata = client::metadata(&operation)?;
        if shown
            .as_ref()
            .is_none_or(|(phase, _)| *phase != metadata.phase)
        {
            finish(shown.take());
            let total = u64::try_from(metadata.total).unwrap_or(0);
            shown = Some((metadata.phase.clone(), bar(&metadata.phase, total)));
        }
        if let Some((_, bar)) = &shown {
            bar.set_position(u64::try_from(metadata.done).unwrap_or(0));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        operation = client.operation(&operation.name).await?;
    }
    finish(shown);
    client::launched(operation)
}

fn finish(shown: Option<(String, ProgressBar)>) {
    if let Some((phase, bar)) = shown {
        let seconds = bar.elapsed().as_secs_f64();
        bar.finish_and_clear();
        if !phase.is_empty() && phase != "finished" {
            say(&format!("{phase:<18} {seconds:6.1} s"));
        }
    }
}

/// Waits until no message is under way any more.
async fn send(
    client: &mut Client,
    campaign: &str,
    members: i64,
    sink: &Sink,
) -> anyhow::Result<()> {
    let bar = bar("mails", u64::try_from(members).unwrap_or(0));
    loop {
        bar.set_position(sink.count());
        let board = client.infoboard(campaign).await?;
        let figures = board.total.unwrap_or_default();
        let messages = figures.messages.unwrap_or_default();
        if messages.queued + messages.sending == 0 {
            bar.finish_and_clear();
            say(&format!(
                "{} sent, {} failed, {} ambiguous; the mail server has {} mails over {} connections",
                messages.sent,
                messages.failed,
                messages.ambiguous,
                sink.count(),
                sink.connections()
            ));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn print_infoboard(board: &Infoboard) {
    let total = board.total.clone().unwrap_or_default();
    let offers = total.offers.unwrap_or_default();
    let OfferFigures {
        made,
        outstanding,
        accepted,
        rejected,
        expired,
        withdrawn,
    } = offers;
    for (label, n) in [
        ("offers made", made),
        ("outstanding", outstanding),
        ("accepted", accepted),
        ("rejected", rejected),
        ("expired", expired),
        ("withdrawn", withdrawn),
    ] {
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let share = n as f64 / made.max(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of forty blocks"
        )]
        let blocks = "█".repeat((share * 40.0).round() as usize);
        say(&format!(
            "{label:<14} {n:>8} {:>5.1} % {blocks}",
            share * 100.0
        ));
    }
}

fn try_next(addr: SocketAddr, folder: &Path, mails: &Path) {
    heading("Look around");
    say(&format!("PDFs:   {}", folder.join("documents").display()));
    say(&format!("mails:  {}", mails.display()));
    say("calls:");
    println!(
        "  grpcurl -plaintext -H 'anklang-tenant: {TENANT}' {addr} anklang.campaigns.v1.CampaignService/ListCampaigns"
    );
    println!(
        "  buf curl --protocol grpc --http2-prior-knowledge -H 'anklang-tenant: {TENANT}' \\\n    http://{addr}/anklang.offers.v1.OfferService/ListOffers -d '{{\"page_size\": 3}}'"
    );
}

fn heading(text: &str) {
    println!("\n{text}");
}

fn say(text: &str) {
    println!("  {text}");
}

fn bar(name: &str, total: u64) -> ProgressBar {
    let bar = if std::io::stderr().is_terminal() {
        ProgressBar::new(total)
    } else {
        ProgressBar::hidden()
    };
    bar.set_length(total);
    let style = ProgressStyle::with_template("  {msg:18} {bar:40} {pos}/{len} {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar.set_message(name.to_owned());
    bar
}
