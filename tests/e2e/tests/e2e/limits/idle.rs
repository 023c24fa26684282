//! Many who only wait: what they cost, and that nobody else waits for them.
//!
//! As many as wanted, each over a connection of its own, of which there may be fewer than files that may be open
//! (`ulimit -n`): `ANKLANG_TEST_IDLE=10000 cargo test -p anklang-e2e -- many_who_are_idle`

use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::operations::v1 as operations;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_testkit::Client;

use super::abuse::resident;
use super::{list, serving, soon};
use crate::cli::plan_contact;
use crate::server::sleeping_operation;

/// Connections, of which most say nothing, and streams that wait, beside those who work.
const IDLE: usize = 300;
const WATCHING: usize = 1_000;
/// Streams of one connection.
const WATCHING_TOGETHER: usize = 500;
/// What they watch: operations, and the work list in some ways.
const OPERATIONS: usize = 20;
const FILTERS: [&str; 2] = ["", "state = OPEN"];
/// So much of the server's memory each of them may take, streams and connections, in KiB: several times what a stream
/// does.
const KIB_EACH: usize = 128;

#[tokio::test(flavor = "multi_thread")]
async fn many_who_are_idle_keep_nobody_from_working() {
    let wanted = std::env::var("ANKLANG_TEST_IDLE").ok();
    let together = wanted.as_ref().map_or(WATCHING_TOGETHER, |_| 1);
    let streams = wanted.map_or(WATCHING, |text| text.parse().unwrap());
    let connections = IDLE.max(streams.div_ceil(together));
    let limits = format!(
        "streams = {streams}\ntotal_streams = {streams}\nconnections = {}\nrequests_per_second = 0",
        connections + IDLE
    );
    let server = serving(&limits).await;
    let client = server.client("linden").await.unwrap();
    let customer = "number,kind,last_name\nK1,person,Kunde\n";
    let sums = client.import(ImportEntity::Customers, customer).await;
    assert_eq!(sums.unwrap().errors, []);
    plan_contact(&client).await;
    let mut sleeping = Vec::new();
    for _ in 0..OPERATIONS {
        sleeping.push(sleeping_operation(&server).await.name);
    }

    let before = resident(&server);
    let mut idle = Vec::new();
    for _ in 0..connections {
        let client = Client::connect(server.addr, "linden").await.unwrap();
        list(&client).await.unwrap();
        idle.push(client);
    }
    let (mut operations, mut work_lists) = (Vec::new(), Vec::new());
    for i in 0..streams {
        let watcher = &idle[i / together];
        if i % 2 == 0 {
            let request = operations::WatchOperationRequest {
                name: sleeping[i / 2 % OPERATIONS].clone(),
            };
            let stream = watcher.progress().watch_operation(request).await;
            let mut stream = stream.unwrap().into_inner();
            soon(stream.message()).await.unwrap().unwrap();
            operations.push(stream);
        } else {
            let request = planning::WatchWorkListRequest {
                filter: FILTERS[i / 2 % FILTERS.len()].into(),
                ..Default::default()
            };
            let stream = watcher.work_list().watch_work_list(request).await;
            let mut stream = stream.unwrap().into_inner();
            soon(async { while !stream.message().await.unwrap().unwrap().caught_up {} }).await;
            work_lists.push(stream);
        }
    }
    // Others are answered meanwhile, each soon, on their own connections and on those of the streams.
    for caller in idle.iter().chain([&client]) {
        soon(list(caller)).await.unwrap();
    }
    let grown = resident(&server).saturating_sub(before);
    let most = KIB_EACH * (streams + connections);
    assert!(
        grown < most,
        "{grown} KiB for {streams} streams over {connections} connections"
    );

    // All of them are still there: what happens is told, and where nothing does, that it does not.
    plan_contact(&client).await;
    for stream in &mut work_lists {
        soon(async { while stream.message().await.unwrap().unwrap().changes.is_empty() {} }).await;
    }
    for stream in &mut operations {
        soon(stream.message()).await.unwrap().unwrap();
    }
}
