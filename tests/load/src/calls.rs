//! Unary calls: a read and a write of the server against those of a bare one (`calls/bare.rs`); what `request_id`,
//! `etag`, authentication, tracing and limits add; what a transaction and row-level security add to the same
//! statements by hand; and the memory of both servers.
//!
//! All are there at the same time and are measured in turns, each for a slice of time, so that noise hits all alike.
//! What is told is the median over the turns. With few accounts nothing is measured, and all of it is only tried.

pub mod bare;
mod hand;
mod sides;
mod tell;
mod tokens;
mod traces;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anklang_proto::anklang::brands::v1 as pb;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::report::{median, peak_memory, quantile, reset_peak_memory, resident_memory};
use crate::{Bench, data};
use hand::Way;
use sides::{By, Side, To};

/// How often and how long each is measured.
#[derive(Clone, Copy)]
struct Pace {
    turns: usize,
    slice: Duration,
    /// Calls before that do not count: connections are opened and plans are made in them.
    warm_up: Duration,
    /// A server that has just started comes to rest within this time.
    rest: Duration,
}

const MEASURED: Pace = Pace {
    turns: 5,
    slice: Duration::from_secs(2),
    warm_up: Duration::from_millis(300),
    rest: Duration::from_secs(5),
};

/// Whether it works at all, as CI tries it.
const TRIED: Pace = Pace {
    turns: 1,
    slice: Duration::from_millis(200),
    warm_up: Duration::from_millis(50),
    rest: Duration::ZERO,
};

/// With fewer accounts it is only tried.
const FEW: usize = 1_000;

/// So many calls at once, where it is not one after the other. Each has a brand of its own.
const MANY: usize = 64;

/// So many customers are imported once more while others list some.
const AGAIN: usize = 100_000;

/// The audit log of a slice is sealed within this time.
const LONGEST_SEALING: Duration = Duration::from_secs(60);
/// The last spans come within this time.
const LAST_SPANS: Duration = Duration::from_secs(8);

/// A call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Work {
    /// `GetBrand`.
    Read,
    /// `UpdateBrand` of all fields, one of which changes.
    Write,
    /// The same with a `request_id`.
    WriteOnce,
    /// The same with the `etag` of the answer before.
    WriteSeen,
    /// `ListCustomers`, the first page.
    List,
}

/// What is measured at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Job {
    by: By,
    work: Work,
    callers: usize,
}

/// All of them; what is compared is next to each other.
fn jobs() -> Vec<Job> {
    let hand = Way::ALL.map(By::Hand);
    let servers = [By::Bare, By::Server];
    let more = [By::Token, By::Jwt, By::Traced, By::Limited];
    let of = |work, callers, by: &[By]| {
        let job = |by: &By| Job {
            by: *by,
            work,
            callers,
        };
        by.iter().map(job).collect::<Vec<_>>()
    };
    [
        of(Work::Read, 1, &hand),
        of(Work::Read, 1, &servers),
        of(Work::Read, 1, &more),
        of(Work::Read, MANY, &servers),
        of(Work::Read, MANY, &more),
        of(Work::Write, 1, &hand),
        of(Work::Write, 1, &servers),
        of(Work::WriteOnce, 1, &[By::Server]),
        of(Work::WriteSeen, 1, &[By::Server]),
        of(Work::Write, MANY, &servers),
        of(Work::WriteOnce, MANY, &[By::Server]),
        of(Work::WriteSeen, MANY, &[By::Server]),
    ]
    .concat()
}

/// What came of a slice.
#[derive(Debug, Clone, Copy)]
struct Slice {
    /// Calls, with those that do not count.
    calls: usize,
    /// How long one took, of all that were under way at once.
    each: Duration,
    p50: Duration,
    p99: Duration,
    /// Of the process that answered, for one call.
    processor: Duration,
}

/// All slices.
#[derive(Default)]
struct Found(HashMap<Job, Vec<Slice>>);

impl Found {
    fn slices(&self, by: By, work: Work, callers: usize) -> Result<&[Slice]> {
        let job = Job { by, work, callers };
        let slices = self.0.get(&job).map(Vec::as_slice);
        slices.with_context(|| format!("{job:?} was not measured"))
    }

    /// What is usual.
    fn usual(&self, by: By, work: Work, callers: usize) -> Result<Slice> {
        let slices = self.slices(by, work, callers)?;
        let usual = |of: fn(&Slice) -> Duration| median(slices.iter().map(of).collect());
        Ok(Slice {
            calls: slices.iter().map(|slice| slice.calls).sum(),
            each: usual(|slice| slice.each),
            p50: usual(|slice| slice.p50),
            p99: usual(|slice| slice.p99),
            processor: usual(|slice| slice.processor),
        })
    }
}

/// Measures all in turns, every second one the other way round.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let tenant: Uuid = bench
        .db
        .query_one("SELECT id FROM tenant", &[])
        .await?
        .get(0);
    let is_tried = bench.accounts < FEW;
    let pace = if is_tried { TRIED } else { MEASURED };
    if is_tried {
        let nothing = "only tried: what follows says nothing".to_owned();
        bench.report.note("calls", nothing);
    }
    add_brands(bench).await.context("brands")?;
    memory(bench, tenant, pace).await.context("memory")?;
    let (sides, traces) = sides::start(bench, tenant).await.context("servers")?;
    let mut found = Found::default();
    for turn in 0..pace.turns {
        let mut jobs = jobs();
        if turn % 2 == 1 {
            jobs.reverse();
        }
        for job in jobs {
            until_sealed(bench).await?;
            let side = sides.get(&job.by).context("a side")?;
            let slice = slice(side, job.work, job.callers, pace)
                .await
                .with_context(|| format!("{job:?}"))?;
            found.0.entry(job).or_default().push(slice);
        }
    }
    tell::all(&mut bench.report, &found)?;
    tokio::time::sleep(LAST_SPANS).await;
    tell::spans(&mut bench.report, &found, traces.spans())
}

/// A brand for each caller.
async fn add_brands(bench: &Bench) -> Result<()> {
    for caller in 0..MANY {
        let request = pb::UpdateBrandRequest {
            brand: Some(brand(&code(caller), 0)),
            allow_missing: true,
            ..Default::default()
        };
        bench.client.brands().update_brand(request).await?;
    }
    bench.db.batch_execute("VACUUM ANALYZE brand").await?;
    Ok(())
}

fn code(caller: usize) -> String {
    format!("calls{caller}")
}

/// A brand as there are some, and which it is of those that a caller writes one after the other.
fn brand(code: &str, number: usize) -> pb::Brand {
    pb::Brand {
        code: code.into(),
        display_name: "Stadtwerke Musterstadt".into(),
        legal_name: "Stadtwerke Musterstadt GmbH".into(),
        street: "Hauptstraße".into(),
        house_number: "12a".into(),
        postal_code: "35390".into(),
        city: "Musterstadt".into(),
        country: "DE".into(),
        phone: format!("0641 {number:07}"),
        email: "service@stadtwerke.example".into(),
        website: "https://stadtwerke.example".into(),
        register_line: "Amtsgericht Gießen HRB 4711".into(),
        vat_id: "DE123456789".into(),
        bank_line: "Sparkasse, DE02 1203 0000 0000 2020 51".into(),
        sender_name: "Stadtwerke Musterstadt".into(),
        sender_email: "post@stadtwerke.example".into(),
        reply_to: "antwort@stadtwerke.example".into(),
        ..Default::default()
    }
}

/// Waits until the audit log of the writes before is sealed, so that this falls into nobody else's slice.
async fn until_sealed(bench: &Bench) -> Result<()> {
    let begin = Instant::now();
    let open = "SELECT EXISTS (SELECT FROM audit_entry WHERE seq IS NULL)";
    while bench.db.query_one(open, &[]).await?.get(0) {
        ensure!(begin.elapsed() < LONGEST_SEALING, "nobody seals");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Calls for a while, as many at once.
async fn slice(side: &Side, work: Work, callers: usize, pace: Pace) -> Result<Slice> {
    let from = Instant::now() + pace.warm_up;
    let mut running = JoinSet::new();
    for caller in 0..callers {
        let caller = Caller {
            to: side.way(caller),
            code: code(caller),
            calls: 0,
            etag: String::new(),
        };
        running.spawn(caller.run(work, from, pace.slice));
    }
    tokio::time::sleep_until(from.into()).await;
    let before = side.processor()?;
    let (mut calls, mut each) = (0, Vec::new());
    while let Some(done) = running.join_next().await {
        let (made, times) = done??;
        calls += made;
        each.extend(times);
    }
    let all = from.elapsed();
    let processor = side.processor()?.saturating_sub(before);
    ensure!(!each.is_empty(), "no call was over in time");
    each.sort();
    let one = 1.0 / each.len() as f64;
    Ok(Slice {
        calls,
        each: all.mul_f64(one),
        p50: quantile(&each, 0.5),
        p99: quantile(&each, 0.99),
        processor: processor.mul_f64(one),
    })
}

/// Makes one call after the other.
struct Caller {
    to: To,
    code: String,
    calls: usize,
    etag: String,
}

impl Caller {
    /// For a slice from then on, and until one counts; gives how many calls it made, and how long those took that count.
    async fn run(
        mut self,
        work: Work,
        from: Instant,
        slice: Duration,
    ) -> Result<(usize, Vec<Duration>)> {
        let mut times = Vec::new();
        loop {
            let begin = Instant::now();
            if begin >= from + slice && !times.is_empty() {
                return Ok((self.calls, times));
            }
            self.call(work).await?;
            if begin >= from {
                times.push(begin.elapsed());
            }
        }
    }

    async fn call(&mut self, work: Work) -> Result<()> {
        self.calls += 1;
        match (&self.to, work) {
            (To::Hand(hand), Work::Read) => hand.read(&self.code).await,
            (To::Hand(_), Work::List) => bail!("nobody lists by hand"),
            (To::Hand(hand), _) => hand.write(&brand(&self.code, self.calls)).await,
            (To::Server(client), Work::Read) => {
                let name = format!("brands/{}", self.code);
                let request = pb::GetBrandRequest { name };
                client.brands().get_brand(request).await?;
                Ok(())
            }
            (To::Server(client), Work::List) => {
                let request = customers::ListCustomersRequest {
                    page_size: 100,
                    ..Default::default()
                };
                client.customers().list_customers(request).await?;
                Ok(())
            }
            (To::Server(client), _) => {
                let mut request = pb::UpdateBrandRequest {
                    brand: Some(brand(&self.code, self.calls)),
                    allow_missing: true,
                    ..Default::default()
                };
                match (work, &mut request.brand) {
                    (Work::WriteOnce, _) => request.request_id = Uuid::now_v7().to_string(),
                    (Work::WriteSeen, Some(brand)) => brand.etag = std::mem::take(&mut self.etag),
                    _ => {}
                }
                let saved = client.brands().update_brand(request).await?;
                self.etag = saved.into_inner().etag;
                Ok(())
            }
        }
    }
}

/// The memory of a usual server that has just started and of a bare one, at rest and when they are called; and of the
/// usual one when it lists and imports, which the bare one cannot.
async fn memory(bench: &mut Bench, tenant: Uuid, pace: Pace) -> Result<()> {
    let server = Side::usual(bench).await?;
    let bare = Side::bare(bench, tenant).await?;
    tokio::time::sleep(pace.rest).await;
    let (mut idle, mut peak) = (Vec::new(), Vec::new());
    for side in [&server, &bare] {
        let pid = side.pid().context("a process")?;
        idle.push(resident_memory(pid)?);
        reset_peak_memory(pid)?;
        slice(side, Work::Read, MANY, pace).await?;
        slice(side, Work::Write, MANY, pace).await?;
        peak.push(peak_memory(pid)?);
    }
    tell::memory(
        &mut bench.report,
        "that has just started, resident memory",
        &idle,
    );
    let called = format!("called by {MANY} at once, peak memory");
    tell::memory(&mut bench.report, &called, &peak);

    let pid = server.pid().context("a process")?;
    let To::Server(client) = server.way(0) else {
        bail!("a server is called over connections");
    };
    let files = data::files();
    let file = files
        .iter()
        .find(|file| file.entity == ImportEntity::Customers);
    let again = file
        .context("customers")?
        .send(&client, bench.accounts.min(AGAIN));
    reset_peak_memory(pid)?;
    tokio::try_join!(slice(&server, Work::List, MANY, pace), again)?;
    let listing = format!("that imports customers while {MANY} list some, peak memory");
    tell::memory(&mut bench.report, &listing, &[peak_memory(pid)?]);
    Ok(())
}
