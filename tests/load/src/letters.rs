//! Launches with a letter for each member, and their bundles: one launch, and one of ten times as many.

use std::time::Duration;

use anklang_proto::google::longrunning as lro;
use anyhow::{Context, Result, ensure};

use crate::Bench;
use crate::launch::{launch, request};
use crate::report::timed;

/// Launches to a tenth, then to as many as asked for.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let few = bench.letters / 10;
    ensure!(few > 0, "letters are measured with ten or more");
    let (tenth, tenth_bundle) = letters(bench, "V3", few).await?;
    let (all, bundle) = letters(bench, "V4", bench.letters).await?;
    let what = "letters of a launch, PDF/A";
    let times = ("a tenth of them, times ten", tenth * 10);
    bench.report.add(what, bench.letters, all, times);
    let times = ("a tenth of them, times ten", tenth_bundle * 10);
    let what = "bundle of letters: print file and index";
    bench.report.add(what, bench.letters, bundle, times);
    Ok(())
}

/// How long the letters took, and their bundle.
async fn letters(bench: &mut Bench, target: &str, count: usize) -> Result<(Duration, Duration)> {
    let mut request = request(target, count);
    let outbound = request.outbound.as_mut().context("an outbound")?;
    outbound.without_document = false;
    bench.forget_peak_memory()?;
    let launched = launch(bench, request, count).await?;
    let name = launched.response.bundle_operation;
    let (bundle, bundling) = timed(over(bench, name)).await?;
    ensure!(
        matches!(bundle.result, Some(lro::operation::Result::Response(_))),
        "{bundle:?}"
    );
    bench.note_peak_memory(&format!("{count} letters and their bundle"))?;
    let documents = launched
        .steps
        .iter()
        .filter(|(step, _)| step == "documents");
    let making = documents.map(|(_, time)| *time).sum();
    Ok((making, bundling))
}

/// An operation, once it is over.
async fn over(bench: &Bench, name: String) -> Result<lro::Operation> {
    loop {
        let request = lro::WaitOperationRequest {
            name: name.clone(),
            timeout: None,
        };
        let waited = bench.client.operations().wait_operation(request).await?;
        let operation = waited.into_inner();
        if operation.done {
            return Ok(operation);
        }
    }
}
