//! Sending through the mail plugin against `smtp-source` on the same sink, and against the claims
//! and outcomes alone.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::data;
use crate::launch::{launch, request};
use crate::report::timed;

const POLL: Duration = Duration::from_millis(20);

/// Sends to as many as asked for.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let count = bench.messages;
    bench.db.batch_execute("TRUNCATE message CASCADE").await?;
    launch(bench, request("V8", count), count).await?;
    let ((), ledger) = timed(by_hand(bench)).await?;

    launch(bench, request("V5", count), count).await?;
    let config = bench.server.config_file();
    let text = std::fs::read_to_string(&config)?;
    std::fs::write(&config, text.replace("enabled = false", "enabled = true"))?;
    bench.server.restart().await?;
    bench.forget_peak_memory()?;
    let before = bench.server.sink.count();
    while bench.server.sink.count() == before {
        tokio::time::sleep(POLL).await;
    }
    let begin = Instant::now();
    let sent = "SELECT count(*) FROM message WHERE state <> 'sent'";
    while bench.server.sink.count() < before + count as u64 {
        tokio::time::sleep(POLL).await;
    }
    while bench.db.query_one(sent, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(POLL).await;
    }
    let ours = begin.elapsed();
    bench.note_peak_memory("sending")?;

    let mails = bench.server.sink.received();
    let size = mails.last().context("a mail")?.data.len();
    drop(mails);
    let source = smtp_source(bench, size).await?;
    let what = format!("mails of {size} bytes");
    bench
        .report
        .add(&what, count, ours, ("smtp-source, 8 sessions", source));
    let hand = (
        "claims and outcomes alone, by hand, one after the other",
        ledger,
    );
    bench.report.add(&what, count, ours, hand);
    Ok(())
}

/// Messages a second of the account in [`rate`].
const RATE: usize = 100;

/// Sends through an account with a rate: how far from it the ledger's beginnings of attempts are.
pub async fn rate(bench: &mut Bench) -> Result<()> {
    let count = bench.messages.min(6_000);
    bench.db.batch_execute("TRUNCATE message CASCADE").await?;
    let config = bench.server.config_file();
    let usual = std::fs::read_to_string(&config)?;
    std::fs::write(&config, usual.replace("enabled = true", "enabled = false"))?;
    bench.server.restart().await?;
    bench.client = bench.server.client(data::TENANT).await?;
    launch(bench, request("V9", count), count).await?;
    let account = "[channel_accounts.mail]\n";
    let limited = format!("{account}rate = '{RATE}/second'\n");
    let config_text = usual
        .replace("enabled = false", "enabled = true")
        .replace(account, &limited);
    std::fs::write(&config, config_text)?;
    bench.server.restart().await?;
    let left = "SELECT count(*) FROM message WHERE state <> 'sent'";
    while bench.db.query_one(left, &[]).await?.get::<_, i64>(0) > 0 {
        tokio::time::sleep(POLL).await;
    }
    let row = bench
        .db
        .query_one(
            "SELECT count(*), extract(epoch FROM max(started_at) - min(started_at))::float8
             FROM message_attempt",
            &[],
        )
        .await?;
    ensure!(
        row.get::<_, i64>(0) == i64::try_from(count)?,
        "one attempt each"
    );
    let ours = Duration::from_secs_f64(row.get(1));
    // A second's worth may come at once, in the beginning.
    let due = Duration::from_secs_f64((count - RATE) as f64 / RATE as f64);
    let what = format!("messages at a rate of {RATE} a second");
    bench
        .report
        .add(&what, count, ours, ("the time that the rate takes", due));
    std::fs::write(&config, usual)?;
    Ok(())
}

/// The ledger's statements without sending.
async fn by_hand(bench: &Bench) -> Result<()> {
    let tenant: String = bench
        .db
        .query_one("SELECT id::text FROM tenant", &[])
        .await?
        .get(0);
    loop {
        let claimed = bench
            .db
            .execute(
                &format!(
                    "WITH due AS (SELECT id FROM message WHERE tenant_id = '{tenant}' AND account = 'mail'
                         AND state = 'queued' AND next_attempt_at <= now()
                         ORDER BY next_attempt_at LIMIT 200 FOR UPDATE SKIP LOCKED),
                     moved AS (UPDATE message m SET state = 'sending', attempt = attempt + 1,
                         lease = '{tenant}', lease_until = now() + interval '1 minute'
                         FROM due WHERE m.tenant_id = '{tenant}' AND m.id = due.id RETURNING m.id, m.attempt)
                     INSERT INTO message_attempt (tenant_id, message_id, attempt, started_at)
                     SELECT '{tenant}', id, attempt, now() FROM moved"
                ),
                &[],
            )
            .await?;
        if claimed == 0 {
            return Ok(());
        }
        let done = bench
            .db
            .execute(
                &format!(
                    "WITH moved AS (UPDATE message SET state = 'sent', sent_at = now(), lease = NULL,
                         lease_until = NULL WHERE tenant_id = '{tenant}' AND state = 'sending'
                         RETURNING id, attempt, customer_id, campaign_id),
                     noted AS (UPDATE message_attempt a SET ended_at = now(), outcome = 'accepted' FROM moved
                         WHERE a.tenant_id = '{tenant}' AND a.message_id = moved.id AND a.attempt = moved.attempt)
                     INSERT INTO customer_event (tenant_id, customer_id, kind, resource, campaign_id)
                     SELECT '{tenant}', customer_id, 'message.sent', 'messages/' || id, campaign_id FROM moved"
                ),
                &[],
            )
            .await?;
        ensure!(done == claimed, "{done} of {claimed}");
    }
}

/// As many mails of the same size by Postfix's load generator.
async fn smtp_source(bench: &Bench, size: usize) -> Result<Duration> {
    let to = bench.server.sink.addr();
    let mut command = Command::new("smtp-source");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin"));
    command.args([
        "-d",
        "-s",
        "8",
        "-f",
        "info@sw.example",
        "-t",
        "kunde@post.example",
    ]);
    command.args(["-l", &size.to_string(), "-m", &bench.messages.to_string()]);
    command.arg(to.to_string());
    let begin = Instant::now();
    let status = tokio::task::spawn_blocking(move || command.status()).await?;
    let status = status.context("smtp-source (of the package postfix)")?;
    ensure!(status.success(), "smtp-source: {status}");
    Ok(begin.elapsed())
}
