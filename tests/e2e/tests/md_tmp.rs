#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]
#[path = "e2e/imports.rs"]
mod imports;
#[path = "e2e/master_data.rs"]
mod master_data;
#[tokio::test(flavor = "multi_thread")]
async fn perf() -> anyhow::Result<()> {
    use anklang_proto::anklang::imports::v1::ImportEntity as E;
    let server = anklang_testkit::TestServer::start().await?;
    let client = server.client("acme").await?;
    let mut a = "number,kind,last_name,street,house_number,postal_code,city,customer_group\n".to_owned();
    let mut b = "customer_number,channel,address\n".to_owned();
    for i in 0..200_000 {
        a += &format!("{i},person,Name {i},Street {i},{i},35390,City,group\n");
        b += &format!("{i},mobile,0171 3920{:06}\n", i);
    }
    for (entity, csv) in [(E::Customers, &a), (E::Customers, &a), (E::ContactPoints, &b), (E::ContactPoints, &b)] {
        let start = std::time::Instant::now();
        let mut r = client.import(entity, csv.clone()).await?;
        r.errors.truncate(2);
        println!("PERF {entity:?} {:.1}s {:.0} rows/s {r:?}", start.elapsed().as_secs_f64(), 200_000.0 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
