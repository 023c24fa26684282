//! A unary call against its query over tokio-postgres.

use std::time::Duration;

use anklang_proto::anklang::brands::v1 as pb;
use anyhow::Result;

use crate::Bench;
use crate::report::{quantile, timed};

const CALLS: usize = 5_000;

/// One call after the other on one connection.
pub async fn run(bench: &mut Bench) -> Result<()> {
    let (mut ours, mut hand, mut safe) = (Vec::new(), Vec::new(), Vec::new());
    let tenant = "SELECT id::text FROM tenant";
    let tenant: String = bench.db.query_one(tenant, &[]).await?.get(0);
    let query = format!("SELECT * FROM brand WHERE tenant_id = '{tenant}' AND code = $1");
    let query = bench.db.prepare(&query).await?;
    let step_down = format!(
        "BEGIN; SELECT set_config('role', 'anklang_app', true), set_config('anklang.tenant', '{tenant}', true)"
    );
    for _ in 0..CALLS {
        let request = pb::GetBrandRequest {
            name: "brands/sw".into(),
        };
        ours.push(timed(bench.client.brands().get_brand(request)).await?.1);
        hand.push(timed(bench.db.query_one(&query, &[&"sw"])).await?.1);
        let transaction = async {
            bench.db.batch_execute(&step_down).await?;
            bench.db.query_one(&query, &[&"sw"]).await?;
            bench.db.batch_execute("COMMIT").await
        };
        safe.push(timed(transaction).await?.1);
    }
    for times in [&mut ours, &mut hand, &mut safe] {
        times.sort();
    }
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let of = |times: &[Duration]| quantile(times, share);
        let what = format!("GetBrand, {name}");
        let bare = ("the query over tokio-postgres", of(&hand));
        bench.report.add(&what, 1, of(&ours), bare);
        let safe = (
            "the query in a transaction under row-level security",
            of(&safe),
        );
        bench.report.add(&what, 1, of(&ours), safe);
    }
    Ok(())
}
