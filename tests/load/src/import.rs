//! Bulk import against COPY of the same rows into tables of the same shape.

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use futures::{SinkExt, StreamExt, TryStreamExt};

use crate::Bench;
use crate::data;
use crate::report::timed;

/// Imports all; compares when asked to.
pub async fn run(bench: &mut Bench, compare: bool) -> Result<()> {
    bench.forget_peak_memory()?;
    let (mut all, mut all_bare, mut all_heap) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut rows = 0;
    for file in data::files() {
        let send = file.send(&bench.client, bench.accounts);
        let ((), ours) = timed(send).await?;
        if !compare || !file.large {
            continue;
        }
        let (mut bare, mut heap) = (Duration::ZERO, Duration::ZERO);
        for table in file.tables {
            bare += copy(&bench.db, table, "INCLUDING ALL").await?;
            heap += copy(&bench.db, table, "").await?;
        }
        let what = format!("import of {}", file.tables[0]);
        let baseline = ("COPY into the same table with its indexes", bare);
        bench.report.add(&what, bench.accounts, ours, baseline);
        all += ours;
        all_bare += bare;
        all_heap += heap;
        rows += bench.accounts;
    }
    if compare {
        let with = ("COPY into the same tables with their indexes", all_bare);
        bench.report.add("import, all", rows, all, with);
        let without = ("COPY into bare heaps: no index, no key", all_heap);
        bench.report.add("import, all", rows, all, without);
        bench.note_peak_memory("import")?;
    }
    bench.db.batch_execute("VACUUM ANALYZE").await?;
    Ok(())
}

/// Copies a table out, and times copying it into an empty one like it.
async fn copy(db: &tokio_postgres::Client, table: &str, like: &str) -> Result<Duration> {
    let out = format!("COPY {table} TO STDOUT (FORMAT binary)");
    let rows: Vec<_> = db.copy_out(&out).await?.try_collect().await?;
    db.batch_execute(&format!("CREATE TABLE bare (LIKE {table} {like})"))
        .await?;
    let (_, time) = timed(async {
        let sink = db.copy_in("COPY bare FROM STDIN (FORMAT binary)").await?;
        let mut sink = pin!(sink);
        let mut rows = futures::stream::iter(rows).map(Ok);
        sink.send_all(&mut rows).await?;
        sink.as_mut().finish().await
    })
    .await?;
    db.batch_execute("DROP TABLE bare").await?;
    Ok(time)
}
