//! Metrics for Prometheus: what a scrape gets, and that its numbers are those of what was done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use anklang_domain::{MessageId, TenantId, unsubscribe};
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_testkit::{Options, TestServer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::collector::Collector;
use crate::exposition::Scrape;
use crate::mailing::{self, TENANT, until};

/// All names with their types; dashboards and alerts ask for these alone (`helm/check.py`).
const LISTED: &str = include_str!("../../../../helm/metrics.txt");
/// Those that are only there when it happened.
const ON_OCCASION: [&str; 7] = [
    "anklang_channel_callbacks_total",
    "anklang_channel_reports_total",
    "anklang_files_refused",
    "anklang_issuer_keys_age_seconds",
    "anklang_replica_lag_seconds",
    "anklang_tls_certificate_expires_seconds",
    "anklang_tls_handshakes_total",
];
const CUSTOMERS: usize = 24;

/// What a server answers to HTTP: its head and its body.
async fn http(addr: SocketAddr, method: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

pub async fn text(addr: SocketAddr) -> String {
    let (head, body) = http(addr, "GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    body
}

pub async fn scrape(addr: SocketAddr) -> Scrape {
    Scrape::read(&text(addr).await)
}

/// A server that is scraped, and where; `more` are other settings of telemetry.
async fn server(more: &str) -> (TestServer, SocketAddr) {
    server_of(Vec::new(), more).await
}

/// One of these roles; all without any.
async fn server_of(roles: Vec<&'static str>, more: &str) -> (TestServer, SocketAddr) {
    let options = Options {
        roles,
        config: format!(
            "[telemetry]\nprometheus_listen = '127.0.0.1:0'\nexport_interval_seconds = 1\n\
             resource = ['deployment.environment.name=\"e2e\" \\']\n{more}\n[log]\nformat = 'json'\n"
        ),
        ..Default::default()
    };
    let server = TestServer::start_with(options).await.unwrap();
    let addr = metrics_of(&server);
    (server, addr)
}

/// Where a server that logs JSON is scraped.
pub fn metrics_of(server: &TestServer) -> SocketAddr {
    let log = server.log();
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.find(|line| line["fields"]["message"] == "metrics for Prometheus");
    let addr = line.unwrap()["fields"]["addr"].as_str().unwrap().to_owned();
    addr.parse().unwrap()
}

/// A customer whose data nobody can take for something else.
async fn with_marked(client: &anklang_testkit::Client) {
    let files = [
        (
            ImportEntity::Customers,
            "number,kind,last_name\nGEHEIM-4711,person,Markiert\n",
        ),
        (
            ImportEntity::ContactPoints,
            "customer_number,channel,address\nGEHEIM-4711,mail,marke@verborgen.example\n",
        ),
        (
            ImportEntity::Consents,
            "customer_number,channel,purpose,state,recorded_at\n\
             GEHEIM-4711,mail,marketing,granted,2025-05-01T10:00:00Z\n",
        ),
        (
            ImportEntity::Contracts,
            "number,customer_number,brand_code,division,supply_status,annual_quantity_kwh,\
             product_number,product_version_code\nGV-4711,GEHEIM-4711,sw,electricity,AU,3000,P,OLD\n",
        ),
    ];
    for (entity, csv) in files {
        mailing::import(client, entity, csv).await;
    }
}

#[tokio::test]
async fn a_scrape_tells_what_was_done_and_of_nobody() {
    let collector = Collector::start().await;
    let (server, metrics) = server(&format!("endpoint = '{}'", collector.url())).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    with_marked(&client).await;
    let begun = client
        .campaigns()
        .launch_campaign(mailing::request(""))
        .await;
    let over = mailing::over(&client, &begun.unwrap().into_inner().name).await;
    let campaign = mailing::launched(&over).campaign.unwrap().name;
    mailing::until_over(&client, &campaign).await;
    let all = CUSTOMERS + 1;
    assert_eq!(server.sink.count(), all as u64);

    let sent = [("account", "mail"), ("outcome", "sent")];
    until("the messages", async || {
        scrape(metrics)
            .await
            .value("anklang_message_outcomes_total", &sent)
            == Some(all as f64)
    })
    .await;
    let done = [("kind", "LaunchCampaign"), ("outcome", "succeeded")];
    until("the operation", async || {
        scrape(metrics)
            .await
            .value("anklang_operation_outcomes_total", &done)
            == Some(1.0)
    })
    .await;
    // The gauges were looked up once more since.
    let nothing_due = [("account", "mail"), ("state", "due")];
    until("nothing that is due", async || {
        let found = scrape(metrics).await;
        found.value("anklang_messages", &nothing_due) == Some(0.0)
            && found
                .value("anklang_handover_deliveries", &[("state", "dead")])
                .is_some()
    })
    .await;

    let found = scrape(metrics).await;
    let launches = [
        ("rpc_method", "LaunchCampaign"),
        ("rpc_grpc_status_code", "0"),
    ];
    let launch = |part: &str| format!("rpc_server_duration_milliseconds_{part}");
    assert_eq!(found.value(&launch("count"), &launches), Some(1.0));
    assert!(found.value(&launch("sum"), &launches).unwrap() > 0.0);
    // At most eight messages are handed over at once at first, then at most twice as many, and one is left.
    let handed_over = "anklang_channel_send_duration_seconds_count";
    let handed_over = found.value(handed_over, &[("account", "mail")]).unwrap();
    assert!((3.0..=all as f64).contains(&handed_over), "{handed_over}");
    for (name, labels, value) in [
        (
            "anklang_message_outcomes_total",
            vec![("account", "mail"), ("outcome", "failed")],
            0.0,
        ),
        (
            "anklang_operation_outcomes_total",
            vec![("kind", "LaunchCampaign"), ("outcome", "failed")],
            0.0,
        ),
        (
            "anklang_handover_attempts_total",
            vec![("outcome", "dead")],
            0.0,
        ),
        (
            "anklang_plugin_instances",
            vec![("account", "mail"), ("state", "up")],
            1.0,
        ),
        (
            "anklang_plugin_instances",
            vec![("account", "mail"), ("state", "left_alone")],
            0.0,
        ),
        (
            "anklang_plugin_failures_total",
            vec![("account", "mail")],
            0.0,
        ),
        ("anklang_database_up", vec![], 1.0),
        (
            "db_client_connection_max",
            vec![("db_client_connection_pool_name", "main")],
            8.0,
        ),
        (
            "target_info",
            vec![("deployment_environment_name", "\"e2e\" \\")],
            1.0,
        ),
    ] {
        assert_eq!(found.value(name, &labels), Some(value), "{name} {labels:?}");
    }
    // The same goes out by OTLP.
    until("the export", async || {
        let sent = ["account=mail", "outcome=sent"];
        collector.value("anklang.message.outcomes", &sent) == Some(all as f64)
    })
    .await;
    is_as_listed(&found);
    // Nobody has asked for logs.
    let exports = collector.exports();
    assert!(exports.iter().all(|export| export.path != "/v1/logs"));

    let body = text(metrics).await.to_lowercase();
    for personal in [
        "kunde",
        "post.example",
        "muster",
        "geheim",
        "markiert",
        "verborgen",
        "gv-4711",
        "sw.example",
        TENANT,
    ] {
        assert!(!body.contains(personal), "{personal} in {body}");
    }
}

/// What is exposed is in the list, with its type, and what is in the list is exposed.
fn is_as_listed(found: &Scrape) {
    let lines = LISTED.lines().filter(|line| !line.starts_with('#'));
    let listed: BTreeMap<String, String> = lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let there = |(name, _): &(&String, &String)| {
        !ON_OCCASION.contains(&&name[..]) || found.types.contains_key(*name)
    };
    let expected: BTreeMap<_, _> = listed.iter().filter(there).collect();
    let exposed: BTreeMap<_, _> = found.types.iter().collect();
    assert_eq!(exposed, expected);
}

#[tokio::test]
async fn nothing_but_metrics_is_there_and_they_are_nowhere_else() {
    let (server, metrics) = server("").await;
    for (method, path, status) in [
        ("GET", "/", "404"),
        ("GET", "/metrics/", "404"),
        ("GET", "/u/x", "404"),
        ("POST", "/metrics", "405"),
        ("POST", "/grpc.health.v1.Health/Check", "404"),
    ] {
        let (head, body) = http(metrics, method, path).await;
        assert!(
            head.starts_with(&format!("http/1.1 {status}")),
            "{path}: {head}"
        );
        assert_eq!(body, "", "{path}");
    }
    let (_, body) = http(server.addr, "GET", "/metrics").await;
    assert!(!body.contains("# TYPE"), "{body}");
}

#[tokio::test]
async fn requests_for_recipients_pages_are_counted_also_those_that_find_no_place() {
    let (server, metrics) = server("").await;
    server.add_tenant(TENANT).await.unwrap();
    let count = async |method: &str, status: &str| {
        let labels = [
            ("http_request_method", method),
            ("http_response_status_code", status),
        ];
        let found = scrape(metrics).await;
        found.value("anklang_public_requests_total", &labels)
    };
    // What an alert is about begins at zero.
    until("it is counted", async || {
        count("GET", "503").await == Some(0.0)
    })
    .await;
    for (method, counted, status) in [("GET", "GET", "404"), ("DELETE", "other", "405")] {
        let (head, _) = http(server.addr, method, "/u/x").await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert_eq!(count(counted, status).await, Some(1.0), "{method}");
    }

    // Eight are looked at, until somebody lets go of what they need.
    let tenant = server.database.one("SELECT id FROM tenant").await.unwrap();
    let tenant = TenantId(tenant.parse().unwrap());
    let path = unsubscribe::seal(&[0; 32], tenant, MessageId(uuid::Uuid::nil()));
    let path = format!("/u/{path}");
    let owner = server.database.connect().await.unwrap();
    let lock = "BEGIN; LOCK TABLE tenant IN ACCESS EXCLUSIVE MODE";
    owner.batch_execute(lock).await.unwrap();
    let ask = |_| {
        let (addr, path) = (server.addr, path.clone());
        tokio::spawn(async move { http(addr, "POST", &path).await.0 })
    };
    let asked: Vec<_> = (0..12).map(ask).collect();
    until("four find no place", async || {
        count("POST", "503").await >= Some(4.0)
    })
    .await;
    owner.batch_execute("COMMIT").await.unwrap();
    let mut busy = 0.0;
    for answer in asked {
        if answer.await.unwrap().starts_with("http/1.1 503") {
            busy += 1.0;
        }
    }
    assert_eq!(count("POST", "503").await, Some(busy));
}

#[tokio::test]
async fn a_plugin_that_dies_is_counted_and_up_again() {
    let (server, metrics) = server("").await;
    let [plugin] = server.plugin_processes()[..] else {
        panic!("not one plugin: {:?}", server.plugin_processes())
    };
    let killed = Command::new("kill")
        .args(["-KILL", &plugin.to_string()])
        .status();
    assert!(killed.unwrap().success());
    until("its failure", async || {
        let failures = scrape(metrics)
            .await
            .value("anklang_plugin_failures_total", &[("account", "mail")]);
        failures.is_some_and(|count| count >= 1.0)
    })
    .await;
    until("it is up", async || {
        let up = [("account", "mail"), ("state", "up")];
        scrape(metrics).await.value("anklang_plugin_instances", &up) == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn accounts_that_do_not_send_are_counted_by_why() {
    let (server, metrics) = server("").await;
    for tenant in [TENANT, "nachbar"] {
        server.add_tenant(tenant).await.unwrap();
    }
    let owner = server.database.connect().await.unwrap();
    let held = "INSERT INTO account_pace (tenant_id, account, held_until, held_since)
                SELECT id, 'mail', now() + interval '1 hour', now() FROM tenant";
    owner.batch_execute(held).await.unwrap();
    let failing = format!(
        "UPDATE account_pace SET failing_since = now()
         WHERE tenant_id = (SELECT id FROM tenant WHERE slug = '{TENANT}')"
    );
    owner.batch_execute(&failing).await.unwrap();
    // One that nobody has any more, and one that its tenant has paused.
    let others = format!(
        "INSERT INTO channel_account (tenant_id, id, display_name, plugin, channel, config, paused,
                                      ambiguous, batch, calls)
         SELECT id, 'own', 'Own', 'mail', 'mail', '{{}}', true, 'resend', 50, 4
         FROM tenant WHERE slug = '{TENANT}';
         INSERT INTO account_pace (tenant_id, account, failing_since)
         SELECT id, unnest(ARRAY['gone', 'own']), now() FROM tenant WHERE slug = '{TENANT}'"
    );
    owner.batch_execute(&others).await.unwrap();
    let is = async |state: &str, account: &str, count: f64| {
        let labels = [("account", account), ("state", state)];
        scrape(metrics).await.value("anklang_accounts", &labels) == Some(count)
    };
    until("both held", async || is("held", "mail", 2.0).await).await;
    until("one fails", async || is("failing", "mail", 1.0).await).await;
    until("one is paused", async || is("paused", "tenants", 1.0).await).await;
    assert!(is("failing", "tenants", 0.0).await);
    let gone = [("account", "gone")];
    assert_eq!(scrape(metrics).await.value("anklang_accounts", &gone), None);
    let over = "UPDATE account_pace SET held_until = now(), failing_since = NULL";
    owner.batch_execute(over).await.unwrap();
    until("none held", async || is("held", "mail", 0.0).await).await;
    until("none fails", async || is("failing", "mail", 0.0).await).await;
}

#[tokio::test]
async fn only_deliveries_that_could_be_made_are_late() {
    // Nobody makes them.
    let (server, metrics) = server_of(vec!["api"], "").await;
    server.add_tenant(TENANT).await.unwrap();
    let owner = server.database.connect().await.unwrap();
    let late = "WITH hook AS (
                    INSERT INTO webhook (tenant_id, id, display_name, url)
                    SELECT id, gen_random_uuid(), 'ERP', 'http://127.0.0.1:9/' FROM tenant
                    RETURNING tenant_id, id),
                event AS (
                    INSERT INTO handover_event (tenant_id, type, subject, data)
                    SELECT id, 'test', 'test', '{}' FROM tenant RETURNING id, seq)
                INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq, next_attempt_at)
                SELECT hook.tenant_id, hook.id, event.id, event.seq, now() - interval '1 hour'
                FROM hook, event";
    owner.batch_execute(late).await.unwrap();
    let name = "anklang_handover_oldest_pending_age_seconds";
    let age = async || scrape(metrics).await.value(name, &[]);
    let is_late = async || age().await.is_some_and(|age| age >= 3_600.0);
    until("a late one", async || is_late().await).await;
    for (why, over) in [
        ("paused = true", "paused = false"),
        ("failing_since = now()", "failing_since = NULL"),
        (
            "held_until = now() + interval '1 hour'",
            "held_until = NULL",
        ),
    ] {
        let hook = async |set: &str| {
            let set = format!("UPDATE webhook SET {set}");
            owner.batch_execute(&set).await.unwrap();
        };
        hook(why).await;
        until(why, async || age().await == Some(0.0)).await;
        hook(over).await;
        until(over, async || is_late().await).await;
    }
    // One before it, of the same offer, is to be tried again later.
    let before = "WITH event AS (
                      INSERT INTO handover_event (tenant_id, type, subject, data)
                      SELECT id, 'test', 'test', '{}' FROM tenant RETURNING id)
                  INSERT INTO handover_delivery (tenant_id, webhook_id, event_id, seq, next_attempt_at)
                  SELECT w.tenant_id, w.id, event.id, 0, now() + interval '1 hour'
                  FROM webhook w, event;
                  UPDATE handover_delivery SET offer_id = tenant_id";
    owner.batch_execute(before).await.unwrap();
    until("it waits", async || age().await == Some(0.0)).await;
    let found = scrape(metrics).await;
    let pending = found.value("anklang_handover_deliveries", &[("state", "pending")]);
    assert_eq!(pending, Some(2.0));
}

#[tokio::test]
async fn a_server_whose_port_for_metrics_is_taken_does_not_start() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = taken.local_addr().unwrap();
    let options = Options {
        config: format!("[telemetry]\nprometheus_listen = '{addr}'\n"),
        ..Default::default()
    };
    let error = TestServer::start_with(options).await.err().unwrap();
    let error = error.to_string();
    assert!(error.contains("telemetry.prometheus_listen"), "{error}");
    assert!(error.contains(&addr.to_string()), "{error}");
}
