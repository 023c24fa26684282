//! The last pages of a long list against the first.

use std::time::Duration;

use anklang_proto::anklang::contracts::v1 as pb;
use anyhow::Result;

use crate::Bench;
use crate::report::{median, timed};

const PAGE: i32 = 1_000;
const TIMES: usize = 9;

/// Walks through all contracts.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let mut first = Vec::new();
    for _ in 0..TIMES {
        first.push(page(bench, "").await?.1);
    }
    let mut times = Vec::new();
    let mut token = String::new();
    loop {
        let (response, time) = page(bench, &token).await?;
        if response.contracts.len() == 1_000 {
            times.push(time);
        }
        token = response.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let deep = times.split_off(times.len().saturating_sub(TIMES));
    let what = format!("page of 1,000 contracts at depth {}", bench.accounts);
    let baseline = ("the first page", median(first));
    bench.report.add(&what, 1_000, median(deep), baseline);
    Ok(())
}

async fn page(bench: &Bench, token: &str) -> Result<(pb::ListContractsResponse, Duration)> {
    let request = pb::ListContractsRequest {
        page_size: PAGE,
        page_token: token.into(),
        ..Default::default()
    };
    let (response, time) = timed(bench.client.contracts().list_contracts(request)).await?;
    Ok((response.into_inner(), time))
}
