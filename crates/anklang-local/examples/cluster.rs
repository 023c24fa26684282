//! Runs a private PostgreSQL server until standard input ends:
//! `cluster FOLDER [--throw-away]`.
//!
//! Prints one line with the server's process id, whether it was adopted, and how to connect.

use std::io::Read;

use anklang_local::cluster::{Cluster, Options};
use anyhow::{Context, Result};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().context("which folder?")?;
    let options = match arguments.next() {
        Some(flag) if flag == "--throw-away" => Options::test(folder),
        Some(flag) => anyhow::bail!("{} is not known", flag.display()),
        None => Options::demo(folder),
    };
    let cluster = Cluster::start(options).await?;
    cluster.ensure_database("example").await?;
    println!(
        "{} {} {}",
        cluster.pid(),
        cluster.was_adopted(),
        cluster.url("example")
    );
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    cluster.stop().await
}
