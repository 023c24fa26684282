//! Traces, metrics and log lines: what a receiver of OTLP gets, and that none is needed.

mod held_back;
mod lines;
mod nobody;
mod reports;
mod tenants;

use std::time::Duration;

use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::offers::v1 as offers;
use anklang_testkit::{Client, Options, TestServer};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde_json::Value;
use tonic::Request;

use crate::collector::{Collector, texts};
use crate::hold::Hold;
use crate::mailing::{self, TENANT, until};
use crate::probe::{Probe, Settings};
use crate::receiver::Receiver;
use crate::utility::offers_of;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const OTHER_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CUSTOMERS: usize = 20;

fn config(endpoint: &str) -> String {
    format!(
        "[telemetry]\nendpoint = '{endpoint}'\nlogs = true\nexport_interval_seconds = 1\n\
         service_name = 'anklang-test'\nresource = ['deployment.environment.name=e2e']\n\
         headers = ['authorization=Bearer geheim']\ntimeout_seconds = 300\n\
         [log]\nformat = 'json'\n\
         [handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
         poll_milliseconds = 50\n"
    )
}

async fn server(endpoint: &str, no_dispatch: bool) -> TestServer {
    let options = Options {
        config: config(endpoint),
        no_dispatch,
        ..Default::default()
    };
    TestServer::start_with(options).await.unwrap()
}

fn traced<T>(message: T, trace: &str, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    let traceparent = format!("00-{trace}-{CALLER}-{flags}");
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    request
}

/// Launches to all customers as a part of a trace; gives the campaign's name.
async fn launch(client: &Client, trace: &str, flags: &str) -> String {
    let request = traced(mailing::request(""), trace, flags);
    let begun = client.campaigns().launch_campaign(request).await;
    let over = mailing::over(client, &begun.unwrap().into_inner().name).await;
    mailing::launched(&over).campaign.unwrap().name
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|s| s.name == name).collect()
}

fn has(span: &Span, attribute: &str) -> bool {
    texts(&span.attributes).iter().any(|a| a == attribute)
}

/// Nothing that was exported says whom a tenant writes to.
fn nothing_personal(collector: &Collector) {
    let exports = collector.exports();
    assert!(!exports.is_empty());
    for export in exports {
        let body = String::from_utf8_lossy(&export.body).to_lowercase();
        // Addresses, their domain, and the customers' last name.
        for personal in ["kunde", "post.example", "muster", "sw.example"] {
            assert!(!body.contains(personal), "{personal} in {}", export.path);
        }
        assert_eq!(export.headers["authorization"], "Bearer geheim");
        assert_eq!(export.headers["content-type"], "application/x-protobuf");
    }
}

#[tokio::test]
async fn one_trace_goes_from_the_call_into_the_plugin() {
    let collector = Collector::start().await;
    let server = server(&collector.url(), false).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    let campaign = launch(&client, TRACE, "01").await;
    mailing::until_over(&client, &campaign).await;
    assert_eq!(server.sink.count(), CUSTOMERS as u64);
    let audited = "SELECT trace_id FROM audit_entry WHERE method LIKE '%/LaunchCampaign'";
    assert_eq!(server.database.one(audited).await.unwrap(), TRACE);
    until("all messages' spans", async || {
        let spans = collector.trace(TRACE);
        let sends = named(&spans, "mail send").len();
        sends > 0 && named(&spans, "send mail").len() == sends && told(&spans) == CUSTOMERS
    })
    .await;

    let spans = collector.trace(TRACE);
    let call = "anklang.campaigns.v1.CampaignService/LaunchCampaign";
    let [call] = named(&spans, call)[..] else {
        panic!("not one call: {spans:?}")
    };
    assert_eq!(hex::encode(&call.parent_span_id), CALLER);
    assert_eq!(call.kind(), SpanKind::Server);
    for attribute in [
        "rpc.system=grpc",
        "rpc.service=anklang.campaigns.v1.CampaignService",
        "rpc.method=LaunchCampaign",
        "rpc.grpc.status_code=0",
        &format!("anklang.tenant={TENANT}"),
    ] {
        assert!(has(call, attribute), "{attribute}: {call:?}");
    }

    let [operation] = named(&spans, "operation LaunchCampaign")[..] else {
        panic!("not one operation: {spans:?}")
    };
    assert_eq!(operation.parent_span_id, call.span_id);
    assert!(has(operation, "anklang.operation.outcome=succeeded"));
    let steps: Vec<String> = operation
        .events
        .iter()
        .flat_map(|event| texts(&event.attributes))
        .filter(|text| text.starts_with("step="))
        .collect();
    for step in [
        "step=begin",
        "step=offers",
        "step=documents",
        "step=messages",
    ] {
        assert!(steps.iter().any(|s| s == step), "{step} in {steps:?}");
    }

    for batch in named(&spans, "process mail") {
        assert_eq!(batch.parent_span_id, operation.span_id);
        assert!(has(batch, "messaging.operation.type=process"), "{batch:?}");
    }
    let mut named_messages = Vec::new();
    for send in named(&spans, "mail send") {
        let parent = spans.iter().find(|s| s.span_id == send.parent_span_id);
        assert_eq!(parent.unwrap().name, "send mail");
        assert!(has(send, "anklang.plugin=mail"));
        named_messages.extend(message_ids(send));
    }
    let ledger = mailing::ledger(&client, &campaign).await;
    let mut ids: Vec<&str> = ledger
        .values()
        .map(|m| &m.name["messages/".len()..])
        .collect();
    ids.sort_unstable();
    named_messages.sort_unstable();
    assert_eq!(named_messages, ids);
    for resource in collector.resources() {
        let texts = texts(&resource.attributes);
        assert!(texts.contains(&"service.name=anklang-test".to_owned()));
        assert!(texts.contains(&"deployment.environment.name=e2e".to_owned()));
    }
    until("the counters", async || {
        let sent = ["account=mail", "outcome=sent"];
        collector.value("anklang.message.outcomes", &sent) == Some(CUSTOMERS as f64)
    })
    .await;
    logged(&server);
    nothing_personal(&collector);
}

/// The messages that a plugin's span names.
fn message_ids(span: &Span) -> Vec<String> {
    let texts = texts(&span.attributes);
    let ids = texts
        .iter()
        .find_map(|t| t.strip_prefix("plugin.message_ids="));
    ids.unwrap().split(',').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_plugins_lines_name_account_and_message() {
    use anklang_proto::anklang::messages::v1::MessageState;
    let filter = "info,anklang_server::telemetry::plugins=debug";
    let settings = Settings {
        config: format!("[log]\nformat = 'json'\nfilter = '{filter}'"),
        ..Default::default()
    };
    let probe = Probe::start(1, settings).await;
    let campaign = probe.launch_until("log:hallo", MessageState::Sent).await;
    let id = probe.id(&campaign, 0).await;
    // What differs from line to line may be anything, and is for who debugs.
    for (level, tells) in [("WARN", false), ("DEBUG", true)] {
        until(level, async || {
            let log = probe.server.log();
            let mut lines = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.any(|line| {
                let fields = &line["fields"];
                line["level"] == level
                    && fields["message"] == "as told"
                    && fields["account"] == "probe"
                    && fields["plugin"] == "testing"
                    && fields["message_id"] == id
                    && line.to_string().contains("hallo") == tells
            })
        })
        .await;
    }
}

/// Messages of which the plugin's spans tell.
fn told(spans: &[Span]) -> usize {
    let sends = named(spans, "mail send").into_iter();
    sends.map(|span| message_ids(span).len()).sum()
}

/// The lines of the traced operation name their trace.
fn logged(server: &TestServer) {
    let log = server.log();
    let lines: Vec<Value> = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let line = lines
        .iter()
        .find(|line| line["fields"]["message"] == "operation succeeded");
    let line = line.unwrap_or_else(|| panic!("nothing succeeded: {log}"));
    assert_eq!(line["trace_id"], TRACE, "{line}");
    assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
    let serving = lines.iter().find(|l| l["fields"]["message"] == "serving");
    assert_eq!(serving.unwrap().get("trace_id"), None);
}

#[tokio::test]
async fn an_answers_trace_goes_on_at_the_webhook() {
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let server = server(&collector.url(), false).await;
    let client = mailing::tenant(&server, 2).await;
    let webhook = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "ERP".into(),
            url: receiver.url("/"),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.webhooks().create_webhook(webhook).await.unwrap();
    // Whose trace is not recorded is not recorded here either.
    let campaign = launch(&client, TRACE, "00").await;
    let found = offers_of(&client, &campaign).await;
    let accept = offers::AcceptOfferRequest {
        name: found.values().next().unwrap().name.clone(),
        source: "web".into(),
        ..Default::default()
    };
    let mut answering = client.offers();
    let request = traced(accept, OTHER_TRACE, "01");
    answering.accept_offer(request).await.unwrap();
    until("the delivery", async || receiver.calls().len() == 1).await;
    until("its span", async || {
        !named(&collector.trace(OTHER_TRACE), "POST").is_empty()
    })
    .await;

    let spans = collector.trace(OTHER_TRACE);
    let [answer] = named(&spans, "anklang.offers.v1.OfferService/AcceptOffer")[..] else {
        panic!("not one answer: {spans:?}")
    };
    let [delivery] = named(&spans, "POST")[..] else {
        panic!("not one delivery: {spans:?}")
    };
    assert_eq!(delivery.parent_span_id, answer.span_id);
    assert!(has(delivery, "http.response.status_code=204"));
    let id = |span: &Span| format!("00-{OTHER_TRACE}-{}-01", hex::encode(&span.span_id));
    let call = &receiver.calls()[0];
    assert_eq!(call.header("traceparent"), id(delivery));
    assert_eq!(call.event()["traceparent"], id(answer));
    assert_eq!(collector.trace(TRACE), Vec::new());

    until("the attempt's count", async || {
        let taken = collector.value("anklang.handover.attempts", &["outcome=taken"]);
        taken == Some(1.0)
    })
    .await;

    let nobodys = offers::AcceptOfferRequest {
        name: "offers/none".into(),
        source: "web".into(),
        ..Default::default()
    };
    answering.accept_offer(nobodys).await.unwrap_err();
    until("the refusal's span", async || {
        let spans = collector.spans();
        let answers = named(&spans, "anklang.offers.v1.OfferService/AcceptOffer");
        answers.iter().any(|s| has(s, "rpc.grpc.status_code=5"))
    })
    .await;
    // A caller's mistake is no error of the server.
    let errors = collector.spans().into_iter();
    let errors: Vec<Span> = errors
        .filter(|s| {
            s.status
                .as_ref()
                .is_some_and(|s| s.code() == StatusCode::Error)
        })
        .collect();
    assert_eq!(errors, Vec::new());
    nothing_personal(&collector);
}

#[tokio::test]
async fn an_operation_whose_server_died_goes_on_with_its_trace() {
    let collector = Collector::start().await;
    let mut server = server(&collector.url(), false).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    let hold = Hold::inserts(&server, "offer", "true").await;
    let request = traced(mailing::request(""), TRACE, "01");
    let begun = client.campaigns().launch_campaign(request).await;
    let begun = begun.unwrap().into_inner();
    hold.reached().await;
    until("the call's span", async || {
        !collector.trace(TRACE).is_empty()
    })
    .await;
    server.kill();
    hold.release().await;
    server.restart().await.unwrap();
    let client = server.client(TENANT).await.unwrap();
    let over = mailing::over(&client, &begun.name).await;
    mailing::launched(&over);
    until("the second span", async || {
        let spans = collector.trace(TRACE);
        let operations = named(&spans, "operation LaunchCampaign");
        operations
            .iter()
            .any(|s| has(s, "anklang.operation.attempt=2"))
    })
    .await;
    // What the first server did after the call died with it.
    let spans = collector.trace(TRACE);
    let call = "anklang.campaigns.v1.CampaignService/LaunchCampaign";
    let [call] = named(&spans, call)[..] else {
        panic!("not one call: {spans:?}")
    };
    let [operation] = named(&spans, "operation LaunchCampaign")[..] else {
        panic!("not one operation: {spans:?}")
    };
    assert_eq!(operation.parent_span_id, call.span_id);
}

#[tokio::test]
async fn measurements_say_what_waits() {
    let collector = Collector::start().await;
    let server = server(&collector.url(), true).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    launch(&client, TRACE, "01").await;
    let waiting = ["account=mail", "state=due"];
    until("the due messages", async || {
        collector.value("anklang.messages", &waiting) == Some(CUSTOMERS as f64)
    })
    .await;
    until("their age", async || {
        let age = collector.value("anklang.messages.oldest_due_age", &["account=mail"]);
        age.is_some_and(|age| age > 0.5 && age < 600.0)
    })
    .await;
    let zero = [
        ("anklang.messages", vec!["account=mail", "state=sending"]),
        ("anklang.handover.deliveries", vec!["state=pending"]),
        ("anklang.handover.deliveries", vec!["state=dead"]),
        ("anklang.handover.oldest_pending_age", vec![]),
        (
            "db.client.connection.pending_requests",
            vec!["db.client.connection.pool.name=bulk"],
        ),
    ];
    for (name, attributes) in zero {
        assert_eq!(collector.value(name, &attributes), Some(0.0), "{name}");
    }
    let pool = "db.client.connection.pool.name=main";
    assert_eq!(
        collector.value("db.client.connection.max", &[pool]),
        Some(8.0)
    );
    let open: f64 = ["used", "idle"]
        .iter()
        .map(|state| format!("db.client.connection.state={state}"))
        .map(|state| {
            collector
                .value("db.client.connection.count", &[pool, &state])
                .unwrap()
        })
        .sum();
    assert!((1.0..=8.0).contains(&open), "{open}");
    let calls = ["rpc.method=LaunchCampaign", "rpc.grpc.status_code=0"];
    assert_eq!(collector.value("rpc.server.duration", &calls), Some(1.0));
    for step in ["begin", "offers", "documents", "messages"] {
        let attributes = ["kind=LaunchCampaign", &format!("step={step}")];
        until(step, async || {
            let chunks = collector.value("anklang.operation.chunk.duration", &attributes);
            chunks.is_some_and(|n| n >= 1.0)
        })
        .await;
    }
    let started = collector.value("process.start_time", &[]).unwrap();
    assert!((1.7e9..1e10).contains(&started), "{started}");

    // An operation that waits for its turn.
    let owner = server.database.connect().await.unwrap();
    let sql = "INSERT INTO operation (tenant_id, id, kind, resource, request, run_at)
               SELECT id, gen_random_uuid(), 'Later', 'x', '{}', now() + interval '1 hour' FROM tenant";
    owner.batch_execute(sql).await.unwrap();
    let later = ["kind=Later", "state=queued"];
    until("the operation", async || {
        collector.value("anklang.operations", &later) == Some(1.0)
    })
    .await;
    owner
        .batch_execute("DELETE FROM operation WHERE kind = 'Later'")
        .await
        .unwrap();
    until("the operation's end", async || {
        collector.value("anklang.operations", &later) == Some(0.0)
    })
    .await;

    // An entry of the audit log that nobody seals, as another has the turn.
    let turn = "hashtextextended('audit' || id::text, 0)";
    let sql = format!(
        "SELECT pg_advisory_lock({turn}) FROM tenant;
         INSERT INTO audit_entry (tenant_id, caller, method, resources, request_hash)
         SELECT id, 'x', '/x/Y', '{{}}', decode(repeat('00', 32), 'hex') FROM tenant"
    );
    owner.batch_execute(&sql).await.unwrap();
    until("its age", async || {
        let age = collector.value("anklang.audit.unsealed.age", &[]);
        age.is_some_and(|age| age > 0.5 && age < 600.0)
    })
    .await;
    let sql = format!("SELECT pg_advisory_unlock({turn}) FROM tenant");
    owner.batch_execute(&sql).await.unwrap();
    until("it is sealed", async || {
        collector.value("anklang.audit.unsealed.age", &[]) == Some(0.0)
    })
    .await;
    nothing_personal(&collector);
}

#[tokio::test]
async fn what_is_left_is_sent_at_the_end() {
    let collector = Collector::start().await;
    let mut server = server(&collector.url(), true).await;
    let client = mailing::tenant(&server, 1).await;
    launch(&client, TRACE, "01").await;
    assert!(server.terminate().await.unwrap().success());
    let spans = collector.trace(TRACE);
    assert_eq!(named(&spans, "operation LaunchCampaign").len(), 1);
}

#[tokio::test]
async fn nobody_waits_for_a_receiver_that_hangs_or_is_away() {
    // Takes connections and never answers.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs = format!("http://{}", hanging.local_addr().unwrap());
    let away = {
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", gone.local_addr().unwrap())
    };
    for endpoint in [hangs, away] {
        let mut server = server(&endpoint, false).await;
        let client = mailing::tenant(&server, CUSTOMERS).await;
        let campaign = launch(&client, TRACE, "01").await;
        mailing::until_over(&client, &campaign).await;
        assert_eq!(server.sink.count(), CUSTOMERS as u64);
        // A call may take five minutes; the kit gives the server one to end.
        assert!(server.terminate().await.unwrap().success());
        until("the warning", async || {
            server.log().contains("telemetry is not delivered")
                || server
                    .log()
                    .contains("the last telemetry was not delivered")
        })
        .await;
    }
    let (taken, _) = tokio::time::timeout(Duration::from_secs(120), hanging.accept())
        .await
        .unwrap()
        .unwrap();
    drop(taken);
}
