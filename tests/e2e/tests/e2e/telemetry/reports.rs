//! One trace from the call that launches a campaign to what the channel reports of its messages, and on to
//! whom that is told.

use std::collections::BTreeSet;

use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::messages::v1::MessageState;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use super::{CALLER, TRACE, config, has, named, traced};
use crate::collector::{Collector, texts};
use crate::mailing::{self, until};
use crate::probe::{self, Probe, Settings};
use crate::receiver::Receiver;

const CUSTOMERS: usize = 3;

/// How many messages spans of a name are about.
fn messages(spans: &[Span], name: &str) -> usize {
    let counts = named(spans, name).into_iter().map(|span| {
        let texts = texts(&span.attributes);
        let count = texts
            .iter()
            .find_map(|text| text.strip_prefix("messaging.batch.message_count="));
        count.unwrap().parse::<usize>().unwrap()
    });
    counts.sum()
}

#[tokio::test]
async fn one_trace_goes_from_the_call_to_the_delivery_report() {
    let collector = Collector::start().await;
    let receiver = Receiver::start().await;
    let settings = Settings {
        config: config(&collector.url()),
        ..Default::default()
    };
    let probe = Probe::start(CUSTOMERS, settings).await;
    let webhook = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "ERP".into(),
            url: receiver.url("/"),
            event_types: vec!["anklang.message.delivered.v1".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    probe
        .client
        .webhooks()
        .create_webhook(webhook)
        .await
        .unwrap();
    probe::tell_channel(&probe.client, "fine").await;
    let request = traced(probe::wanted(), TRACE, "01");
    let begun = probe.client.campaigns().launch_campaign(request).await;
    let over = mailing::over(&probe.client, &begun.unwrap().into_inner().name).await;
    let campaign = mailing::launched(&over).campaign.unwrap().name;
    probe.until(&campaign, MessageState::Sent).await;
    let mut delivered = Vec::new();
    for customer in 0..CUSTOMERS {
        let id = probe.id(&campaign, customer).await;
        delivered.push(json!({"message_id": id, "state": "delivered", "at": 1_790_000_000}));
    }
    probe.report(json!(delivered)).await;
    // What is known already makes no span.
    probe.report(json!(delivered)).await;
    until("the webhook's calls", async || {
        receiver.calls().len() == CUSTOMERS
    })
    .await;
    until("all spans", async || {
        let spans = collector.trace(TRACE);
        named(&spans, "POST").len() == CUSTOMERS
            && !named(&spans, "report probe").is_empty()
            && !named(&spans, "operation LaunchCampaign").is_empty()
            && messages(&spans, "process probe") == CUSTOMERS
    })
    .await;

    let spans = collector.trace(TRACE);
    let known: BTreeSet<&[u8]> = spans.iter().map(|span| &span.span_id[..]).collect();
    let strangers: Vec<&Span> = spans
        .iter()
        .filter(|span| !known.contains(&span.parent_span_id[..]))
        .collect();
    let call = "anklang.campaigns.v1.CampaignService/LaunchCampaign";
    let [begins] = strangers[..] else {
        panic!("not connected: {strangers:#?}")
    };
    assert_eq!(
        (&begins.name[..], hex::encode(&begins.parent_span_id)),
        (call, CALLER.to_owned())
    );
    for name in ["send probe", "testing send"] {
        assert!(!named(&spans, name).is_empty(), "{name} in {spans:#?}");
    }
    assert_eq!(messages(&spans, "report probe"), CUSTOMERS);
    let [operation] = named(&spans, "operation LaunchCampaign")[..] else {
        panic!("not one operation: {spans:#?}")
    };
    for report in named(&spans, "report probe") {
        assert_eq!(report.parent_span_id, operation.span_id);
        assert!(has(report, "messaging.operation.type=settle"), "{report:?}");
    }
    for call in receiver.calls() {
        assert!(call.header("traceparent").contains(TRACE), "{call:?}");
    }
}
