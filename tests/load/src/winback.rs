//! Winback: looking for customers who drift away, against the same rows by `INSERT … SELECT` into the same
//! tables, in the same run.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anklang_proto::anklang::operations::v1::OperationMetadata;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_proto::google::longrunning as lro;
use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Bench;
use crate::report::timed;

/// Lines of an order.
const LINES: usize = 4;
/// Days of the order history.
const DAYS: u16 = 1_095;
/// Days of a period.
const PERIOD: i32 = 182;

const POLL: Duration = Duration::from_millis(20);

/// Detects, once with all cases to be opened and once with nothing to change; then by hand.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let lines = fill(bench).await.context("orders")?;
    let settings = pb::WinbackSettings {
        currency_code: "EUR".into(),
        least_orders: 2,
        comparison: Some(pb::WinbackComparison {
            kind: pb::WinbackComparisonKind::Preceding.into(),
            days: PERIOD,
            season: false,
        }),
        least_drop_percent: 50.0,
        least_known_days: PERIOD,
        reminder_days: 10,
        win_window_days: 90,
        ..Default::default()
    };
    let request = pb::UpdateWinbackSettingsRequest {
        winback_settings: Some(settings),
        ..Default::default()
    };
    bench
        .client
        .winback()
        .update_winback_settings(request)
        .await?;
    bench.forget_peak_memory()?;
    let first = detect(bench).await.context("the first")?;
    bench.note_peak_memory("detection")?;
    bench
        .db
        .batch_execute("VACUUM ANALYZE winback_case")
        .await?;
    let again = detect(bench).await.context("the second")?;
    ensure!(
        again.found.opened_cases == 0 && again.found.unchanged_cases == first.found.opened_cases,
        "{:?}",
        again.found
    );
    // Figures of detections that are over are forgotten; the comparisons need them.
    let hold = "UPDATE operation SET state = 'queued', run_at = '2999-01-01'
                WHERE id IN (SELECT id FROM winback_detection)";
    bench.db.batch_execute(hold).await?;
    let python = match &bench.lifetimes {
        Some(python) => Some(by_lifetimes(bench, python, &again.found).await?),
        None => None,
    };
    let (sums, cases) = by_hand(bench, &first.found).await.context("by hand")?;

    let what = format!("sums of {} customers", first.customers);
    let of = ("the same rows by INSERT … SELECT into the same table", sums);
    bench.report.add(&what, lines, first.sums, of);
    let what = format!("detection, {} cases", first.found.opened_cases);
    let of = (
        "sums, and cases by the rule alone, by INSERT … SELECT",
        sums + cases,
    );
    bench.report.add(&what, lines, first.all, of);
    let what = "the same again, with nothing to change";
    bench.report.add(what, lines, again.all, of);
    let fit = format!(
        "{:.2} s, {} ",
        first.model.as_secs_f64(),
        models(&first.found)
    );
    bench
        .report
        .note("BG/NBD and Gamma-Gamma, reading included", fit);
    if let Some((fitted, seconds)) = python {
        bench.report.note("lifetimes fitted", fitted);
        let of = ("Python's lifetimes, without reading", seconds);
        let rows = usize::try_from(first.customers)?;
        bench.report.add(
            "fit of both models, reading included",
            rows,
            first.model,
            of,
        );
    }
    let judged = format!("{:.1} s", first.judge.as_secs_f64());
    bench.report.note("judging, lost groups and cases", judged);
    Ok(())
}

/// Orders of the customers as the models have them, so that both fits have something to find: a customer
/// comes at any time of three years, buys with a rate of their own (exponential) and after each repeat drops
/// out with a chance of their own (Beta 1, 3); the [`LINES`] lines of an order have the prices of a customer
/// (Gamma-Gamma with p 8, q 4, γ 15). Gives how many lines there are: about those that are wanted.
async fn fill(bench: &Bench) -> Result<usize> {
    // With five orders for each customer, eight purchases a year are the rate; found by trying.
    let orders = bench.lines as f64 / (LINES * bench.accounts) as f64;
    let rate = 8.0 * orders / 5.0;
    let years = f64::from(DAYS) / 365.0;
    // Keys hold by the way the rows are made; looking each up takes longer than all else.
    let sql = format!(
        "SET session_replication_role = replica;
         SET work_mem = '256MB';
         SELECT setseed(0.5);
         CREATE TEMP TABLE buyer AS
         SELECT *, 1 + ln(1 - random()) / ln(1 - drops) AS repeats FROM (
             SELECT tenant_id, id, row_number() OVER (ORDER BY number) - 1 AS place,
                    random() * {years} AS lasts, -ln(1 - random()) * {rate} AS rate,
                    greatest(1 - (1 - random()) ^ (1 / 3.0), 1e-9) AS drops,
                    -ln((1 - random()) * (1 - random()) * (1 - random()) * (1 - random())) / 15 AS value
             FROM customer) c;
         INSERT INTO sales_order (tenant_id, id, number, customer_id, ordered_at, currency)
         SELECT tenant_id, anklang_uuid7(), 'W' || place || '-' || n, id,
                now() - make_interval(secs => (lasts - at) * 365 * 86400), 'EUR'
         FROM (
             SELECT b.*, n, sum(CASE n WHEN 0 THEN 0 ELSE -ln(1 - random()) / greatest(rate, 1e-9) END)
                        OVER (PARTITION BY place ORDER BY n) AS at
             FROM buyer b
             CROSS JOIN LATERAL generate_series(0, least(repeats,
                 rate * lasts + 6 * sqrt(rate * lasts) + 6)::integer) n) purchase
         WHERE at < lasts"
    );
    bench.db.batch_execute(&sql).await?;
    let lines = format!(
        "INSERT INTO order_line (tenant_id, order_id, line, product_group, quantity, unit_price)
         SELECT o.tenant_id, o.id, l, 'Gruppe ' || (b.place + l * l) % 40, 1,
                round((0.01 - ln((1 - random()) * (1 - random())) / b.value)::numeric, 2)
         FROM sales_order o JOIN buyer b ON b.id = o.customer_id
         CROSS JOIN generate_series(1, {LINES}) l"
    );
    let lines = bench.db.execute(&lines, &[]).await?;
    let rest = "DROP TABLE buyer; SET session_replication_role = DEFAULT; RESET work_mem";
    bench.db.batch_execute(rest).await?;
    bench.db.batch_execute("VACUUM ANALYZE").await?;
    Ok(usize::try_from(lines)?)
}

/// A detection, and how long its steps took.
struct Detected {
    found: pb::WinbackDetection,
    customers: i64,
    sums: Duration,
    model: Duration,
    judge: Duration,
    all: Duration,
}

async fn detect(bench: &Bench) -> Result<Detected> {
    let mut service = bench.client.winback();
    let begin = Instant::now();
    let request = pb::DetectWinbackRequest::default();
    let mut operation = service.detect_winback(request).await?.into_inner();
    // When each step was first seen.
    let (mut model, mut judge) = (None, None);
    while !operation.done {
        tokio::time::sleep(POLL).await;
        let name = operation.name.clone();
        let request = lro::GetOperationRequest { name };
        let mut operations = bench.client.operations();
        operation = operations.get_operation(request).await?.into_inner();
        let packed = operation.metadata.as_ref().context("metadata")?;
        let phase = OperationMetadata::decode(&packed.value[..])?.phase;
        if phase == "model" || phase == "judge" {
            model.get_or_insert(begin.elapsed());
        }
        if phase == "judge" {
            judge.get_or_insert(begin.elapsed());
        }
    }
    let all = begin.elapsed();
    let found = match operation.result {
        Some(lro::operation::Result::Response(any)) => {
            pb::WinbackDetection::decode(&any.value[..])?
        }
        other => bail!("the detection did not succeed: {other:?}"),
    };
    let (model, judge) = (model.context("a model")?, judge.context("a judge")?);
    Ok(Detected {
        customers: found.model.as_ref().map_or(0, |model| model.customers),
        found,
        sums: model,
        model: judge - model,
        judge: all - judge,
        all,
    })
}

/// The same fit by Python's lifetimes: what it fitted, and how long it took.
async fn by_lifetimes(
    bench: &Bench,
    python: &Path,
    found: &pb::WinbackDetection,
) -> Result<(String, Duration)> {
    let day = date(found)?;
    let customers = format!(
        "COPY (SELECT repeats AS purchases, (last_order - first_order) / 7.0 AS recency,
                      ({day} - first_order) / 7.0 AS age, mean_repeat AS value
               FROM winback_figure) TO STDOUT (FORMAT csv, HEADER)"
    );
    let mut rows = Box::pin(bench.db.copy_out(&customers).await?);
    let mut fit = Command::new(python)
        .args(["-c", include_str!("../lifetimes_fit.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("lifetimes")?;
    let mut input = fit.stdin.take().context("its input")?;
    while let Some(part) = rows.next().await {
        input.write_all(&part?).await?;
    }
    drop(input);
    let output = fit.wait_with_output().await?;
    ensure!(output.status.success(), "lifetimes: {}", output.status);
    let fitted: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |at: &str| fitted.pointer(at).and_then(serde_json::Value::as_f64);
    let seconds = ["/frequency_seconds", "/value_seconds"].map(number);
    let seconds: Option<f64> = seconds.into_iter().sum();
    let words = format!(
        "{}; {}",
        fitted["frequency"].to_string().replace('"', ""),
        fitted["value"].to_string().replace('"', "")
    );
    Ok((
        words,
        Duration::from_secs_f64(seconds.context("its seconds")?),
    ))
}

/// The day of a detection, in SQL.
fn date(found: &pb::WinbackDetection) -> Result<String> {
    let day = found.as_of_date.context("a day")?;
    Ok(format!(
        "date '{:04}-{:02}-{:02}'",
        day.year, day.month, day.day
    ))
}

/// What was fitted, in a few words.
fn models(found: &pb::WinbackDetection) -> String {
    let Some(model) = &found.model else {
        return "none".into();
    };
    let often = match &model.frequency {
        Some(often) => format!(
            "r {:.3}, α {:.3}, a {:.3}, b {:.3}",
            often.r, often.alpha, often.a, often.b
        ),
        None => model.no_frequency.clone(),
    };
    let value = match &model.value {
        Some(value) => format!("p {:.2}, q {:.2}, γ {:.2}", value.p, value.q, value.gamma),
        None => model.no_value.clone(),
    };
    format!("{often}; {value}")
}

/// The sums and then the cases by the rule alone: without models, season and lost groups, and with
/// nothing that could be there already. Says how long each took.
async fn by_hand(bench: &Bench, found: &pb::WinbackDetection) -> Result<(Duration, Duration)> {
    // Not truncated: messages and orders refer to them, so that these would be truncated too.
    for sql in [
        "DELETE FROM winback_case_event",
        "DELETE FROM winback_case",
        "TRUNCATE winback_figure",
        "VACUUM FULL winback_case, winback_case_event",
        "SET work_mem = '128MB'",
    ] {
        bench.db.batch_execute(sql).await.context(sql)?;
    }
    let detection = "(SELECT min(id::text)::uuid FROM winback_detection)";
    let day = date(found)?;
    let sums = format!(
        "INSERT INTO winback_figure (tenant_id, detection_id, customer_id, first_order, last_order,
             orders, revenue, revenue_then, revenue_now, repeats, mean_repeat)
         SELECT (SELECT id FROM tenant), {detection}, customer_id, min(day), max(day), sum(orders),
                round(sum(revenue), 2),
                round(coalesce(sum(revenue) FILTER (
                    WHERE day BETWEEN {day} - 2 * {PERIOD} + 1 AND {day} - {PERIOD}), 0), 2),
                round(coalesce(sum(revenue) FILTER (WHERE day > {day} - {PERIOD}), 0), 2),
                count(*) - 1,
                coalesce((sum(revenue) - (min(ARRAY[(day - date '2000-01-01')::numeric, revenue]))[2])
                         / nullif(count(*) - 1, 0), 0)
         FROM (SELECT o.customer_id, o.day, count(*) AS orders, sum(l.revenue) AS revenue
               FROM (SELECT id, customer_id, (ordered_at AT TIME ZONE 'Europe/Berlin')::date AS day
                     FROM sales_order) o
               JOIN (SELECT order_id, sum(quantity * unit_price) AS revenue
                     FROM order_line GROUP BY order_id) l ON l.order_id = o.id
               WHERE o.day <= {day}
               GROUP BY o.customer_id, o.day) days
         GROUP BY customer_id"
    );
    let (rows, summing) = timed(bench.db.execute(&sums, &[])).await?;
    let customers = found.model.as_ref().map_or(0, |model| model.customers);
    ensure!(i64::try_from(rows)? == customers, "{rows} customers");
    bench.db.batch_execute("ANALYZE winback_figure").await?;
    let cases = format!(
        "WITH opened AS (
             INSERT INTO winback_case (tenant_id, id, customer_id, opened_on, opened_by, seen_by,
                 revenue_then, revenue_now, known_days, season, expected, actual, drop_amount,
                 drop_percent, last_order, currency)
             SELECT f.tenant_id, anklang_uuid7(), f.customer_id, {day}, {detection}, {detection},
                 revenue_then, revenue_now, {PERIOD}, 1, revenue_then, revenue_now,
                 revenue_then - revenue_now,
                 round((revenue_then - revenue_now) * 100 / revenue_then, 2), last_order, 'EUR'
             FROM winback_figure f JOIN customer c ON c.tenant_id = f.tenant_id AND c.id = f.customer_id
             WHERE orders >= 2 AND revenue_then > 0 AND first_order <= {day} - 2 * {PERIOD} + 1
               AND (revenue_then - revenue_now) * 100 >= revenue_then * 50
             RETURNING tenant_id, id)
         INSERT INTO winback_case_event (tenant_id, id, case_id, kind, to_state)
         SELECT tenant_id, anklang_uuid7(), id, 'opened', 'declining' FROM opened"
    );
    let (rows, opening) = timed(bench.db.execute(&cases, &[])).await?;
    ensure!(
        i64::try_from(rows)? == found.opened_cases,
        "{rows} cases instead of {}",
        found.opened_cases
    );
    Ok((summing, opening))
}
