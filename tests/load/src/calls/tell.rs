//! What was measured of calls, as lines of the report.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::hand::Way;
use super::sides::By;
use super::{Found, MANY, Slice, Work};
use crate::report::Report;

/// A figure of a slice, and how it is called.
type Figure = (&'static str, fn(&Slice) -> Duration);

const RATE: Figure = ("", |slice| slice.each);
const P50: Figure = (", p50", |slice| slice.p50);
const P99: Figure = (", p99", |slice| slice.p99);
const PROCESSOR: Figure = (", processor time of the server", |slice| slice.processor);

/// Adds a line for each figure.
fn compare(report: &mut Report, what: &str, ours: Slice, than: (&str, Slice), of: &[Figure]) {
    for (name, figure) in of {
        let baseline = (than.0, figure(&than.1));
        report.add(&format!("{what}{name}"), 1, figure(&ours), baseline);
    }
}

/// Everything but memory and spans.
pub fn all(report: &mut Report, found: &Found) -> Result<()> {
    const CALLS: [(&str, Work); 2] = [("GetBrand", Work::Read), ("UpdateBrand", Work::Write)];
    for (name, work) in CALLS {
        for callers in [1, MANY] {
            let ours = found.usual(By::Server, work, callers)?;
            let bare = found.usual(By::Bare, work, callers)?;
            let what = format!("{name}, {callers} at once");
            let of = [RATE, P50, P99, PROCESSOR];
            compare(report, &what, ours, ("the bare server", bare), &of);
        }
    }
    for (what, by) in [
        ("a static token", By::Token),
        ("a JWT (ES256)", By::Jwt),
        ("all calls traced", By::Traced),
        ("a rate for each tenant", By::Limited),
    ] {
        added(
            report,
            found,
            "GetBrand",
            what,
            (by, Work::Read),
            Work::Read,
        )?;
    }
    for (what, work) in [
        ("a request_id", Work::WriteOnce),
        ("an etag", Work::WriteSeen),
    ] {
        let with = (By::Server, work);
        added(report, found, "UpdateBrand", what, with, Work::Write)?;
    }
    for (name, work) in CALLS {
        let hand = |way| found.usual(By::Hand(way), work, 1);
        for (what, way, than, baseline) in [
            (
                "in a transaction",
                Way::Transaction,
                "the same alone",
                Way::Alone,
            ),
            (
                "under row-level security",
                Way::Secured,
                "the same in a transaction",
                Way::Transaction,
            ),
            (
                "with all settings of the server's transactions",
                Way::Begun,
                "the same under row-level security",
                Way::Secured,
            ),
        ] {
            let what = format!("the statement of {name} by hand, {what}");
            let baseline = (than, hand(baseline)?);
            compare(report, &what, hand(way)?, baseline, &[P50, P99]);
        }
    }
    for (name, work) in CALLS {
        for (than, way) in [
            ("the statement over tokio-postgres", Way::Alone),
            (
                "the statement in a transaction under row-level security",
                Way::Secured,
            ),
        ] {
            let baseline = (than, found.usual(By::Hand(way), work, 1)?);
            let ours = found.usual(By::Server, work, 1)?;
            let what = format!("{name}, 1 at once");
            compare(report, &what, ours, baseline, &[P50, P99]);
        }
    }
    Ok(())
}

/// What something adds to calls of the server.
fn added(
    report: &mut Report,
    found: &Found,
    name: &str,
    what: &str,
    (by, work): (By, Work),
    without: Work,
) -> Result<()> {
    for (callers, of) in [(1, [P50, PROCESSOR]), (MANY, [RATE, PROCESSOR])] {
        let ours = found.usual(by, work, callers)?;
        let baseline = ("without", found.usual(By::Server, without, callers)?);
        let what = format!("{name} with {what}, {callers} at once");
        compare(report, &what, ours, baseline, &of);
    }
    Ok(())
}

/// Adds how many of the spans came: what does not is dropped where a server cannot keep up.
pub fn spans(report: &mut Report, found: &Found, came: usize) -> Result<()> {
    let mut calls = 0;
    for callers in [1, MANY] {
        calls += found.usual(By::Traced, Work::Read, callers)?.calls;
    }
    ensure!(came > 0, "no span came");
    let share = 100.0 * came as f64 / calls as f64;
    report.note(
        "spans that came, of calls that were traced",
        format!("{share:.1} %"),
    );
    Ok(())
}

/// Adds the memory of the server and, where it is there, of the bare one, in MiB.
pub fn memory(report: &mut Report, what: &str, of: &[u64]) {
    for (who, mib) in ["a server", "a bare server"].into_iter().zip(of) {
        report.note(&format!("{who} {what}"), format!("{mib} MiB"));
    }
}
