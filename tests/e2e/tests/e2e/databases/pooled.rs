//! Behind PgBouncer in transaction mode, told to know no prepared statements; and told to look after them, where the
//! installed one can.

use std::time::{Duration, Instant};

use anklang_local::cluster::{Cluster, Options as ClusterOptions, Pooler};
use anklang_proto::anklang::customers::v1 as customers;
use anklang_testkit::{Client, Options, TestServer};
use futures::future::join_all;
use tonic::{Code, Request};

use super::{NAME, database, room};
use crate::mailing::{TENANT, until};
use crate::story;

/// Connections of the pooler to the database; servers have more to the pooler.
const CONNECTIONS: u16 = 4;

/// Behind a pooler, which is theirs alone.
struct World {
    server: TestServer,
    cluster: Cluster,
    _pooler: Pooler,
    _room: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::behind(false).await.unwrap()
    }

    /// Behind one that looks after prepared statements, or not. None where the installed one cannot.
    async fn behind(keeps_statements: bool) -> Option<Self> {
        let room = room();
        let cluster = ClusterOptions::test(room.path().join("postgresql"));
        let cluster = Cluster::start(cluster).await.unwrap();
        cluster.ensure_database(NAME).await.unwrap();
        let folder = room.path().join("pooler");
        let (pooler, setting) = if keeps_statements {
            let pooler = Pooler::start_keeping(folder, &cluster, NAME, CONNECTIONS).await;
            (pooler.unwrap()?, "none")
        } else {
            let pooler = Pooler::start(folder, &cluster, NAME, CONNECTIONS).await;
            (pooler.unwrap(), "transaction")
        };
        let options = Options {
            database_settings: format!(
                "pooler = '{setting}'\ndirect_url = \"{}\"",
                cluster.url(NAME)
            ),
            connections: 16,
            ..Default::default()
        };
        let server = TestServer::start_on(database(pooler.url()), options)
            .await
            .unwrap();
        Some(World {
            server,
            cluster,
            _pooler: pooler,
            _room: room,
        })
    }

    /// The first column of the first row, past the pooler.
    async fn one(&self, sql: &str) -> String {
        database(self.cluster.url(NAME)).one(sql).await.unwrap()
    }
}

#[tokio::test]
async fn the_story_of_two_servers_goes_through_a_pooler() {
    story_of_two_servers(&World::start().await).await;
}

#[tokio::test]
async fn the_story_of_two_servers_goes_through_a_pooler_that_keeps_statements() {
    match World::behind(true).await {
        Some(world) => story_of_two_servers(&world).await,
        None => eprintln!("not tried: this PgBouncer cannot"),
    }
}

async fn story_of_two_servers(world: &World) {
    let further = world.server.further().await.unwrap();
    story::told_by(&world.server).await;

    // Both at once, over the few connections that there are.
    let first = world.server.client(TENANT).await.unwrap();
    let second = Client::connect(further.addr, TENANT).await.unwrap();
    let calls = (0..120).map(|i| {
        let client = if i % 2 == 0 { &first } else { &second };
        async move {
            let request = customers::ListCustomersRequest {
                page_size: 1 + i % 7,
                ..Default::default()
            };
            client.customers().list_customers(request).await.unwrap();
        }
    });
    join_all(calls).await;
    // Besides the pooler's only this look itself.
    let connections = "SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND datname = current_database()";
    let connections: u16 = world.one(connections).await.parse().unwrap();
    assert!(
        (1..=CONNECTIONS + 1).contains(&connections),
        "{connections}"
    );
    let log = world.server.log();
    assert!(!log.contains("prepared statement"), "{log}");
}

#[tokio::test]
async fn a_call_that_is_over_leaves_its_connection_to_others() {
    let world = World::start().await;
    let client = world.server.client(TENANT).await.unwrap();
    // Whoever reads customers waits: as many as the pooler has connections for the lock, the others for the pooler.
    let owner = database(world.cluster.url(NAME)).connect().await.unwrap();
    owner
        .batch_execute("BEGIN; LOCK TABLE customer IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let waiting = (0..2 * CONNECTIONS).map(|_| async {
        let mut request = Request::new(customers::ListCustomersRequest::default());
        request.set_timeout(Duration::from_millis(700));
        client.customers().list_customers(request).await
    });
    for answer in join_all(waiting).await {
        let code = answer.unwrap_err().code();
        let is_told = matches!(code, Code::DeadlineExceeded | Code::Cancelled);
        assert!(is_told, "{code:?}");
    }
    // None of the pooler's few connections still waits for the lock, or is in a transaction that nobody is in; these
    // would be ended after ten seconds.
    let over = Instant::now();
    until("no transaction", async || {
        let held = "SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND query NOT LIKE '%LOCK TABLE%'
                AND (wait_event_type = 'Lock' OR state LIKE 'idle in transaction%')";
        world.one(held).await == "0"
    })
    .await;
    let took = over.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    owner.batch_execute("ROLLBACK").await.unwrap();
    let calls = (0..50).map(|_| async {
        let list = customers::ListCustomersRequest::default();
        client.customers().list_customers(list).await
    });
    for answer in join_all(calls).await {
        answer.unwrap();
    }
}
