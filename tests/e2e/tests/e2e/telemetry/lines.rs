//! Lines of the log as records: those that are ours, with their trace, and no more because of it.

use std::process::Command;

use anklang_testkit::program;
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use serde_json::Value;

use super::{CUSTOMERS, TRACE, config, launch, server};
use crate::collector::{Collector, Line, texts};
use crate::mailing::{self, until};
use crate::server::refused;

fn has(line: &Line, attribute: &str) -> bool {
    texts(&line.record.attributes)
        .iter()
        .any(|a| a == attribute)
}

#[tokio::test]
async fn lines_leave_as_records_of_their_trace() {
    let collector = Collector::start().await;
    let mut server = server(&collector.url(), false).await;
    let client = mailing::tenant(&server, CUSTOMERS).await;
    let campaign = launch(&client, TRACE, "01").await;
    mailing::until_over(&client, &campaign).await;
    assert!(server.terminate().await.unwrap().success());
    let lines = collector.lines();
    let line = lines.iter().find(|l| l.text() == "operation succeeded");
    let line = line.unwrap_or_else(|| panic!("nothing succeeded: {lines:?}"));
    assert_eq!(hex::encode(&line.record.trace_id), TRACE);
    let spans = collector.trace(TRACE);
    let operation = spans.iter().find(|s| s.name == "operation LaunchCampaign");
    assert_eq!(line.record.span_id, operation.unwrap().span_id);
    assert_eq!(line.target, "anklang_server::work::operations");
    assert_eq!(line.record.severity_number(), SeverityNumber::Info);
    assert_eq!(line.record.severity_text, "INFO");
    assert!(has(line, "kind=LaunchCampaign"), "{line:?}");
    // The first and the last: nothing is left when the server ends.
    for text in ["serving", "stopped"] {
        let line = lines.iter().find(|l| l.text() == text).unwrap();
        assert_eq!(line.record.trace_id, b"", "{line:?}");
    }
    for line in &lines {
        assert!(line.target.starts_with("anklang"), "{line:?}");
        assert!(
            line.record.severity_number() >= SeverityNumber::Info,
            "{line:?}"
        );
    }
}

#[tokio::test]
async fn a_receiver_without_logs_is_told_of_once() {
    let collector = Collector::refusing("/v1/logs").await;
    let server = server(&collector.url(), false).await;
    let client = mailing::tenant(&server, 1).await;
    until("three times in vain", async || {
        mailing::launch(&client, "").await;
        collector.of("/v1/logs").len() >= 3
    })
    .await;
    let log = server.log();
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("telemetry is"))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains("\"signal\":\"logs\""), "{told:#?}");
    until("the traces", async || !collector.spans().is_empty()).await;
}

/// The line in JSON that says something, and that it is an error's; why.
fn told(said: &str, what: &str) -> String {
    let mut lines = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = lines.find(|line| line["fields"]["message"] == what);
    let line = line.unwrap_or_else(|| panic!("not {what}: {said}"));
    assert_eq!(line["level"], "ERROR", "{line}");
    line["fields"]["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn why_a_server_does_not_start_is_told_where_all_else_is() {
    let collector = Collector::start().await;
    let config = config(&collector.url());
    let started = tokio::task::spawn_blocking(move || refused(&config, &[]));
    let (code, said) = started.await.unwrap();
    assert_eq!(code, 1, "{said}");
    let why = told(&said, "did not start");
    assert!(why.starts_with("migrations: "), "{why}");
    let lines = collector.lines();
    let line = lines.iter().find(|l| l.text() == "did not start");
    let line = line.unwrap_or_else(|| panic!("nothing of it: {lines:?}"));
    assert_eq!(line.record.severity_number(), SeverityNumber::Error);
    assert!(has(line, &format!("error={why}")), "{line:?}");
}

#[test]
fn why_migrations_do_not_run_is_a_line_of_the_log() {
    let output = Command::new(&program().anklang)
        .arg("migrate")
        .env("ANKLANG_DATABASE__URL", "postgres://127.0.0.1:1/none")
        .env("ANKLANG_LOG__FORMAT", "json")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = told(
        &String::from_utf8(output.stderr).unwrap(),
        "did not migrate",
    );
    assert!(!why.is_empty());
}
