//! A standby for what reads much: how old its answers may be, and when it is not asked.

use std::net::SocketAddr;

use anklang_proto::anklang::audit::v1 as audit;
use anklang_proto::anklang::campaigns::v1 as campaigns;
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_proto::anklang::planning::v1 as planning;
use anklang_proto::anklang::reach::v1 as reach;
use anklang_proto::anklang::selections::v1 as selections;
use anklang_proto::anklang::winback::v1 as winback;
use anklang_proto::google::r#type::Date;
use anklang_testkit::{Client, Options, TestServer};
use tonic::{Request, Status};

use super::{NAME, Pair, database};
use crate::mailing::{self, SLIP, until};
use crate::prometheus::{metrics_of, scrape};

const CUSTOMERS: usize = 5;

/// What the log says when it begins, and begins again, to read from the standby.
const USED: &str = "the replica is used for what reads much";

/// A server that reads from a standby, and where it is scraped.
async fn server(pair: &Pair, max_lag: u32) -> (TestServer, SocketAddr) {
    let replica = pair.standby.url(NAME);
    let options = Options {
        database_settings: format!(
            "replica_url = \"{replica}\"\nreplica_max_lag_seconds = {max_lag}"
        ),
        config: "[telemetry]\nprometheus_listen = '127.0.0.1:0'\nexport_interval_seconds = 1\n\
                 [log]\nformat = 'json'\n"
            .into(),
        ..Default::default()
    };
    let database = database(pair.primary.url(NAME));
    let server = TestServer::start_on(database, options).await.unwrap();
    let metrics = metrics_of(&server);
    (server, metrics)
}

async fn until_used(server: &TestServer, times: usize) {
    until("the standby is used", async || {
        server.log().matches(USED).count() >= times
    })
    .await;
}

/// All contracts of the tenant.
fn criteria() -> selections::AdHocCriteria {
    use campaigns::launch_campaign_request::Audience;
    match mailing::request("").audience {
        Some(Audience::Criteria(criteria)) => criteria,
        other => panic!("{other:?}"),
    }
}

/// How many contracts a selection counts.
async fn count(client: &Client, fresh: bool) -> Result<i64, Status> {
    use selections::preview_selection_request::Source;
    let mut request = Request::new(selections::PreviewSelectionRequest {
        source: Some(Source::Criteria(criteria())),
        sample_size: 3,
        ..Default::default()
    });
    if fresh {
        let yes = "true".parse().unwrap();
        request.metadata_mut().insert("anklang-fresh", yes);
    }
    let preview = client.selections().preview_selection(request).await?;
    Ok(preview.into_inner().count)
}

/// One more customer with a contract.
async fn one_more(client: &Client) {
    let customer = "number,kind,last_name\nNEU,person,Neu\n";
    mailing::import(client, ImportEntity::Customers, customer).await;
    let contract = "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
                    product_number,product_version_code\nV-NEU,NEU,sw,electricity,AU,3000,P,OLD\n";
    mailing::import(client, ImportEntity::Contracts, contract).await;
}

/// Has the standby take in nothing more, or go on.
async fn replay(pair: &Pair, goes_on: bool) {
    let what = if goes_on { "resume" } else { "pause" };
    let standby = database(pair.standby.url(NAME)).connect().await.unwrap();
    let sql = format!("SELECT pg_wal_replay_{what}()");
    standby.batch_execute(&sql).await.unwrap();
    until("replay", async || {
        let state = "SELECT pg_get_wal_replay_pause_state() IN ('not paused', 'paused')";
        let row = standby.query_one(state, &[]).await.unwrap();
        row.get::<_, bool>(0)
    })
    .await;
}

#[tokio::test]
async fn counts_are_as_old_as_allowed_and_no_older() {
    const MAX_LAG: u32 = 20;
    let pair = Pair::start().await;
    let (server, metrics) = server(&pair, MAX_LAG).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    until_used(&server, 1).await;
    let all = i64::try_from(CUSTOMERS).unwrap();
    until("the standby has them", async || {
        count(&client, false).await.unwrap() == all
    })
    .await;
    let lag = scrape(metrics)
        .await
        .value("anklang_replica_lag_seconds", &[]);
    assert!(lag.is_some_and(|lag| (0.0..5.0).contains(&lag)), "{lag:?}");

    let behind = format!("more than {MAX_LAG} s behind: all is read from the primary");
    let told = || server.log().matches(&behind).count();
    // It may have been so at the start.
    let before = told();

    // What the standby does not have yet is not counted, unless the caller asks for it.
    replay(&pair, false).await;
    one_more(&client).await;
    assert_eq!(count(&client, false).await.unwrap(), all);
    assert_eq!(count(&client, true).await.unwrap(), all + 1);
    // Other calls see what was committed before.
    let get = customers::GetCustomerRequest {
        name: "customers/NEU".into(),
    };
    client.customers().get_customer(get).await.unwrap();
    // It is behind for too long: the primary counts.
    until("the bound", async || {
        count(&client, false).await.unwrap() == all + 1
    })
    .await;
    until("the log says so", async || told() > before).await;

    let used = server.log().matches(USED).count();
    replay(&pair, true).await;
    until_used(&server, used + 1).await;
    assert_eq!(count(&client, false).await.unwrap(), all + 1);

    // It is gone, and no call fails of it.
    pair.standby.stop().await.unwrap();
    let waits = "ALTER SYSTEM RESET synchronous_standby_names";
    let primary = database(pair.primary.url(NAME)).connect().await.unwrap();
    primary.batch_execute(waits).await.unwrap();
    primary
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    for _ in 0..20 {
        assert_eq!(count(&client, false).await.unwrap(), all + 1);
    }
    until("the log says so", async || {
        server.log().contains("the replica does not answer as one")
    })
    .await;
    assert_eq!(count(&client, false).await.unwrap(), all + 1);
}

/// How many transactions were read there.
async fn reads(metrics: SocketAddr, server: &str) -> f64 {
    let scrape = scrape(metrics).await;
    let found = scrape.value("anklang_replica_reads_total", &[("server", server)]);
    found.unwrap()
}

#[tokio::test]
async fn all_that_reads_much_can_be_read_from_a_standby() {
    let pair = Pair::start().await;
    let (server, metrics) = server(&pair, 600).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    let campaign = mailing::launch(&client, SLIP).await;
    mailing::until_over(&client, &campaign).await;
    until_used(&server, 1).await;
    let all = i64::try_from(CUSTOMERS).unwrap();
    until("the standby has it all", async || {
        let figures = mailing::figures(&client, &campaign).await;
        figures
            .and_then(|f| f.messages)
            .is_some_and(|m| m.sent == all)
    })
    .await;

    let on_primary = reads(metrics, "primary").await;
    let before = reads(metrics, "replica").await;
    assert_eq!(count(&client, false).await.unwrap(), all);
    let days = |month| Date {
        year: 2026,
        month,
        day: 1,
    };
    let explain = selections::ExplainSelectionRequest {
        source: Some(selections::explain_selection_request::Source::Criteria(
            criteria(),
        )),
        member: "contracts/V0001".into(),
    };
    let explained = client.selections().explain_selection(explain).await;
    assert!(explained.unwrap().into_inner().selected);
    let cockpit = client
        .offers()
        .get_cockpit(offers::GetCockpitRequest::default())
        .await;
    assert_eq!(cockpit.unwrap().into_inner().rows[0].count, all);
    let get = reach::GetReachRequest {
        campaign: campaign.clone(),
    };
    client.reach().get_reach(get).await.unwrap();
    let explain = reach::ExplainCustomerRequest {
        customer: "customers/0001".into(),
        campaign: campaign.clone(),
    };
    client.reach().explain_customer(explain).await.unwrap();
    let export = reach::ExportReachRequest {
        campaign,
        ..Default::default()
    };
    let mut lines = client
        .reach()
        .export_reach(export)
        .await
        .unwrap()
        .into_inner();
    let part = lines.message().await.unwrap().unwrap();
    let csv = String::from_utf8(part.csv.to_vec()).unwrap();
    assert_eq!(csv.lines().count(), CUSTOMERS + 1, "{csv}");
    let analyse = planning::AnalyseContactsRequest {
        first_date: Some(days(1)),
        last_date: Some(days(6)),
        ..Default::default()
    };
    client.work_list().analyse_contacts(analyse).await.unwrap();
    let analyse = winback::AnalyseWinbackRequest {
        first_date: Some(days(1)),
        last_date: Some(days(6)),
        ..Default::default()
    };
    client
        .winback_cases()
        .analyse_winback(analyse)
        .await
        .unwrap();
    let tiles = winback::GetWinbackTilesRequest::default();
    client
        .winback_cases()
        .get_winback_tiles(tiles)
        .await
        .unwrap();
    let export = winback::ExportWinbackCasesRequest::default();
    let cases = client.winback_cases().export_winback_cases(export).await;
    cases
        .unwrap()
        .into_inner()
        .message()
        .await
        .unwrap()
        .unwrap();
    let export = audit::ExportAuditEntriesRequest::default();
    let entries = client.audit().export_audit_entries(export).await;
    entries.unwrap().into_inner().message().await.unwrap();
    // Each of these eleven, and of ExportReach the look for the campaign.
    assert!(reads(metrics, "replica").await >= before + 12.0);
    // Who asks for the newest state is no sign of a replica that is not used.
    assert_eq!(count(&client, true).await.unwrap(), all);
    assert_eq!(reads(metrics, "primary").await, on_primary);
}

/// How many statements wait for what somebody else holds.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'";

#[tokio::test]
async fn slow_calls_of_one_tenant_leave_the_standby_to_others() {
    let pair = Pair::start().await;
    let (server, metrics) = server(&pair, 600).await;
    let eager = mailing::tenant(&server, CUSTOMERS).await;
    until_used(&server, 1).await;

    // Whoever counts contracts waits, on the standby as well, as soon as the next commit has come there.
    let owner = database(pair.primary.url(NAME)).connect().await.unwrap();
    let lock = "BEGIN; LOCK TABLE contract IN ACCESS EXCLUSIVE MODE";
    owner.batch_execute(lock).await.unwrap();
    let other = server.client("linden").await.unwrap();
    let standby = database(pair.standby.url(NAME));
    until("the lock", async || {
        let locks = "SELECT count(*) FROM pg_locks
            WHERE relation = 'contract'::regclass AND mode = 'AccessExclusiveLock'";
        standby.one(locks).await.unwrap() == "1"
    })
    .await;

    // More than there are connections: four of the eight may be this tenant's.
    let counting: Vec<_> = (0..10)
        .map(|_| {
            let eager = eager.clone();
            tokio::spawn(async move { count(&eager, false).await })
        })
        .collect();
    until("they wait", async || {
        standby.one(WAITING).await.unwrap() == "4"
    })
    .await;
    let before = reads(metrics, "replica").await;
    let export = audit::ExportAuditEntriesRequest::default();
    let entries = other.audit().export_audit_entries(export).await;
    entries.unwrap().into_inner().message().await.unwrap();
    assert_eq!(reads(metrics, "replica").await, before + 1.0);
    assert_eq!(standby.one(WAITING).await.unwrap(), "4");

    owner.batch_execute("COMMIT").await.unwrap();
    let all = i64::try_from(CUSTOMERS).unwrap();
    for call in counting {
        assert_eq!(call.await.unwrap().unwrap(), all);
    }
}
