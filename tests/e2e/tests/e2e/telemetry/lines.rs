//! Lines of the log as records: those that are ours, with their trace, and no more because of it.

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;

use super::{CUSTOMERS, TRACE, launch, server};
use crate::collector::{Collector, Line, texts};
use crate::mailing::{self, until};

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
