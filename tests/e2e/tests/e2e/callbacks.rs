//! What channels report of messages: by requests of providers, and over sessions.

use anklang_proto::anklang::handover::v1 as handover;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, MessageReportState, MessageState};
use anklang_proto::anklang::reach::v1 as reach;
use serde_json::{Value, json};

use crate::mailing::{self, TENANT, figures, until};
use crate::probe::{self, Probe, Settings, exchange, filtered, head, http, path, post};
use crate::receiver::Receiver;

/// Adds a webhook that wants everything.
async fn webhook(probe: &Probe, receiver: &Receiver) {
    let request = handover::CreateWebhookRequest {
        webhook: Some(handover::Webhook {
            display_name: "ERP".into(),
            url: receiver.url("/"),
            ..Default::default()
        }),
        ..Default::default()
    };
    probe
        .client
        .webhooks()
        .create_webhook(request)
        .await
        .unwrap();
}

const LOOPBACK: &str = "[handover]\nallow_http = true\nallow_networks = ['127.0.0.0/8']\n\
                        poll_milliseconds = 100";

async fn is_blocked(probe: &Probe, customer: usize) -> Option<String> {
    let request = reach::ExplainCustomerRequest {
        customer: format!("customers/{customer:04}"),
        ..Default::default()
    };
    let explained = probe.client.reach().explain_customer(request).await;
    let addresses = explained.unwrap().into_inner().addresses;
    let address = addresses.into_iter().find(|a| a.channel == "testing");
    let address = address.unwrap();
    address.suppressed.then_some(address.reason)
}

async fn has_consent(probe: &Probe, customer: usize) -> bool {
    let request = reach::ExplainCustomerRequest {
        customer: format!("customers/{customer:04}"),
        ..Default::default()
    };
    let explained = probe.client.reach().explain_customer(request).await;
    let consents = explained.unwrap().into_inner().consents;
    let consent = consents.into_iter().find(|c| c.channel == "testing");
    consent.unwrap().granted
}

#[tokio::test]
async fn reports_move_messages_whatever_their_order() {
    let probe = Probe::start(5, Settings::default()).await;
    let campaign = probe.launch_until("fine", MessageState::Sent).await;
    let mut ids = Vec::new();
    for customer in 0..5 {
        ids.push(probe.id(&campaign, customer).await);
    }
    let delivered = |id: &str| json!({"message_id": id, "state": "delivered", "at": 1_790_000_000});
    let bounced = |id: &str, code: &str| json!({"message_id": id, "state": "bounced", "code": code, "at": 1_790_000_100});
    let opened = |at: u64| json!({"message_id": ids[4], "state": "opened", "at": at});
    let requests = [
        // Delivered; the provider knows its own id alone.
        json!([{"provider_message_id": ids[0], "state": "delivered", "at": 1_790_000_000}]),
        // Came back for good, whatever is said later.
        json!([bounced(&ids[1], "550 5.1.1"), delivered(&ids[1])]),
        // Delivered after it had come back for now.
        json!([delivered(&ids[2]), bounced(&ids[2], "4.4.1")]),
        // Complained: it was delivered, and never again.
        json!([delivered(&ids[3]), {"message_id": ids[3], "state": "complained"}]),
        // Openings change nothing but the counts.
        json!([opened(1_790_000_001), opened(1_790_000_009), opened(1_790_000_001),
               {"message_id": ids[4], "state": "clicked", "at": 1_790_000_005}]),
    ];
    let check = async || {
        let state = async |customer| probe.message(&campaign, customer).await.state();
        assert_eq!(state(0).await, MessageState::Delivered);
        assert_eq!(state(1).await, MessageState::Bounced);
        assert_eq!(state(2).await, MessageState::Delivered);
        assert_eq!(state(3).await, MessageState::Delivered);
        assert_eq!(state(4).await, MessageState::Sent);
        let sent = "message.sent";
        assert_eq!(probe.history(0).await, ["message.delivered", sent]);
        let opened = ["message.clicked", "message.opened", sent];
        assert_eq!(probe.history(4).await, opened);
        let complained = [
            "consent.withdrawn",
            "message.complained",
            "message.delivered",
            sent,
        ];
        assert_eq!(probe.history(3).await, complained);
        let rows = probe.look("SELECT count(*) FROM message_report").await;
        assert_eq!(rows, "10");
    };
    for request in &requests {
        probe.report(request.clone()).await;
    }
    check().await;
    // A provider that got no answer comes again, in any order.
    for request in requests.iter().rev() {
        probe.report(request.clone()).await;
    }
    check().await;

    let message = probe.message(&campaign, 1).await;
    assert_eq!(message.detail, "550 5.1.1");
    assert_eq!(message.report_time.unwrap().seconds, 1_790_000_100);
    let states: Vec<MessageReportState> = message.reports.iter().map(|r| r.state()).collect();
    assert_eq!(
        states,
        [MessageReportState::Delivered, MessageReportState::Bounced]
    );
    let responses = probe.message(&campaign, 4).await.responses.unwrap();
    assert_eq!((responses.open_count, responses.click_count), (2, 1));
    assert_eq!(responses.first_open_time.unwrap().seconds, 1_790_000_001);
    assert_eq!(responses.last_open_time.unwrap().seconds, 1_790_000_009);

    // Whose address is no good, or who does not want it, is not written to any more.
    let reason = is_blocked(&probe, 1).await.unwrap();
    assert!(
        reason.starts_with("hard bounce 550 5.1.1: messages/"),
        "{reason}"
    );
    assert!(
        is_blocked(&probe, 3)
            .await
            .unwrap()
            .starts_with("complaint")
    );
    assert!(!has_consent(&probe, 3).await && has_consent(&probe, 1).await);
    for customer in [0, 2, 4] {
        assert_eq!(is_blocked(&probe, customer).await, None);
    }
    adds_up(&probe, &campaign).await;

    let again = probe.launch_until("fine", MessageState::Sent).await;
    let reached: Vec<String> = mailing::ledger(&probe.client, &again)
        .await
        .into_keys()
        .collect();
    assert_eq!(reached, [0, 2, 4].map(probe::address));
    // Lists know delivered and bounced messages, and since when.
    let filter = "state = BOUNCED AND report_time >= \"2026-09-21T00:00:00Z\"";
    assert_eq!(filtered(&probe.client, filter, "").await.len(), 1);
}

/// Infoboard and reach count each message once.
async fn adds_up(probe: &Probe, campaign: &str) {
    let counted = figures(&probe.client, campaign).await.unwrap();
    let m = counted.messages.unwrap();
    assert_eq!((m.sent, m.delivered, m.bounced, m.failed), (1, 3, 1, 0));
    assert_eq!(
        (m.opened, m.clicked, m.complained, m.unsubscribed),
        (1, 1, 1, 0)
    );
    let request = reach::GetReachRequest {
        campaign: campaign.into(),
    };
    let reach = probe.client.reach().get_reach(request).await.unwrap();
    let total = reach.into_inner().total.unwrap();
    let told: i64 = total.messages.iter().map(|m| m.count).sum();
    assert_eq!((total.members, told), (5, 5));
    let bounced = total
        .messages
        .iter()
        .find(|m| m.state() == MessageState::Bounced);
    assert_eq!(bounced.unwrap().reason, "550 5.1.1");
    let board = anklang_proto::anklang::campaigns::v1::GetInfoboardRequest {
        name: campaign.into(),
    };
    let board = probe.client.campaigns().get_infoboard(board).await.unwrap();
    let days = board.into_inner().days;
    let sum = |of: fn(&anklang_proto::anklang::campaigns::v1::DayFigures) -> i64| {
        days.iter().map(of).sum::<i64>()
    };
    assert_eq!(sum(|d| d.messages_delivered), 3);
    assert_eq!(sum(|d| d.messages_bounced), 1);
    assert_eq!(sum(|d| d.messages_sent), 5);
}

#[tokio::test]
async fn a_report_settles_what_nobody_knows() {
    let probe = Probe::start(3, Settings::default()).await;
    let campaign = probe
        .launch_until("ambiguous:who knows", MessageState::Ambiguous)
        .await;
    for (customer, state) in ["delivered", "bounced", "failed"].iter().enumerate() {
        let id = probe.id(&campaign, customer).await;
        probe
            .report(json!([{"message_id": id, "state": state}]))
            .await;
    }
    let state = async |customer| probe.message(&campaign, customer).await.state();
    assert_eq!(state(0).await, MessageState::Delivered);
    assert_eq!(state(1).await, MessageState::Bounced);
    assert_eq!(state(2).await, MessageState::Failed);
    let message = probe.message(&campaign, 0).await;
    assert_eq!(message.send_time, message.attempts[0].end_time);
    assert_eq!(probe.message(&campaign, 2).await.send_time, None);
}

#[tokio::test]
async fn a_report_may_overtake_the_outcome() {
    // A message in each call: the plugin sends those of one call one after the other.
    let settings = Settings {
        account: "batch = 1\ncalls = 2",
        ..Default::default()
    };
    let probe = Probe::start(2, settings).await;
    // Whose account is of several tenants, tells of messages of all of them.
    probe.server.client("other").await.unwrap();
    let gate = probe.hold("hold-outcomes");
    let campaign = probe.launch("report:delivered").await;
    until("the reports", async || {
        let ledger = mailing::ledger(&probe.client, &campaign).await;
        ledger.values().all(|m| m.reports.len() == 1)
    })
    .await;
    // What the sending comes to is not known yet.
    for customer in 0..2 {
        assert_eq!(
            probe.message(&campaign, customer).await.state(),
            MessageState::Sending
        );
    }
    std::fs::remove_file(gate).unwrap();
    probe.until(&campaign, MessageState::Delivered).await;
    for customer in 0..2 {
        let message = probe.message(&campaign, customer).await;
        assert_eq!(message.attempts[0].outcome(), AttemptOutcome::Accepted);
        assert!(message.send_time.is_some());
        assert_eq!(probe.history(customer).await, ["message.delivered"]);
    }

    // The provider knows its own id alone, which we do not before the outcome.
    let gate = probe.hold("hold-outcomes");
    let campaign = probe.launch("report-by-provider:bounced").await;
    let waiting = "SELECT count(*) FROM waiting_report WHERE tenant_id =
                   (SELECT id FROM tenant WHERE slug = 'stadtwerke')";
    until("reports that wait", async || {
        probe.look(waiting).await == "2"
    })
    .await;
    std::fs::remove_file(gate).unwrap();
    probe.until(&campaign, MessageState::Bounced).await;
    assert_eq!(probe.look(waiting).await, "0");
    until("the acknowledgements", async || probe.remembered() == 0).await;
}

#[tokio::test]
async fn a_sender_that_stood_still_is_believed_that_it_was_taken() {
    let probe = Probe::start(4, Settings::default()).await;
    let gate = probe.hold("hold-outcomes");
    let campaign = probe.launch("wait").await;
    until("all under way", async || {
        let submitted = "SELECT count(*) FROM message WHERE submitted_at IS NOT NULL";
        probe.look(submitted).await == "4"
    })
    .await;
    // What a rescue by another server makes of messages whose sender seems to be gone, and what may come
    // after that: another attempt that was put off, a claim that suppresses.
    let rescued = "WITH moved AS (
        UPDATE message SET lease = NULL, lease_until = NULL, submitted_at = NULL,
            state = CASE address WHEN 'probe0' THEN 'ambiguous' WHEN 'probe3' THEN 'suppressed'
                                 ELSE 'queued' END,
            attempt = CASE address WHEN 'probe2' THEN 2 ELSE attempt END,
            next_attempt_at = now() + interval '1 day'
        RETURNING id) SELECT count(*) FROM moved";
    assert_eq!(probe.look(rescued).await, "4");
    std::fs::remove_file(gate).unwrap();
    probe.until(&campaign, MessageState::Sent).await;
    for customer in 0..4 {
        let message = probe.message(&campaign, customer).await;
        assert_eq!(message.attempts[0].outcome(), AttemptOutcome::Accepted);
        assert!(message.send_time.is_some());
    }
}

#[tokio::test]
async fn a_server_that_is_killed_between_commit_and_acknowledgement_counts_once() {
    let receiver = Receiver::start().await;
    let settings = Settings {
        config: LOOPBACK.into(),
        ..Default::default()
    };
    let mut probe = Probe::start(3, settings).await;
    probe.server.client("other").await.unwrap();
    webhook(&probe, &receiver).await;
    let gate = probe.hold("hold-acknowledgements");
    let campaign = probe
        .launch_until("report:delivered", MessageState::Delivered)
        .await;
    assert_eq!(probe.remembered(), 3, "nothing is acknowledged");
    probe.server.kill();
    std::fs::remove_file(gate).unwrap();
    probe.restart().await;
    // The peer tells all of it again, and is thanked this time.
    until("the acknowledgements", async || probe.remembered() == 0).await;
    probe.until(&campaign, MessageState::Delivered).await;
    for customer in 0..3 {
        let message = probe.message(&campaign, customer).await;
        assert_eq!(message.reports.len(), 1);
        let told = probe.history(customer).await;
        let told: Vec<&String> = told.iter().filter(|k| *k == "message.delivered").collect();
        assert_eq!(told.len(), 1);
    }
    let events = "SELECT count(*) FROM handover_event WHERE type = 'anklang.message.delivered.v1'";
    assert_eq!(probe.look(events).await, "3");
    until("the webhook's calls", async || receiver.calls().len() >= 3).await;
}

#[tokio::test]
async fn what_cannot_be_committed_is_asked_for_again() {
    let receiver = Receiver::start().await;
    let settings = Settings {
        config: LOOPBACK.into(),
        ..Default::default()
    };
    let probe = Probe::start(1, settings).await;
    webhook(&probe, &receiver).await;
    let campaign = probe.launch_until("fine", MessageState::Sent).await;
    let id = probe.id(&campaign, 0).await;
    let body = json!({"deliveries": [
        {"message_id": id, "state": "bounced", "code": "5.1.1", "detail": "weg", "at": 1_790_000_000},
    ]});
    let owner = probe.server.database.connect().await.unwrap();
    let away = "ALTER TABLE suppression RENAME TO away";
    owner.batch_execute(away).await.unwrap();
    let (status, answer) = probe.post(&body).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.to_lowercase().contains("retry-after"), "{answer}");
    // All of it or nothing.
    assert_eq!(
        probe.message(&campaign, 0).await.state(),
        MessageState::Sent
    );
    assert_eq!(probe.history(0).await, ["message.sent"]);
    let back = "ALTER TABLE away RENAME TO suppression";
    owner.batch_execute(back).await.unwrap();
    assert_eq!(probe.post(&body).await.0, 200);
    assert_eq!(
        probe.message(&campaign, 0).await.state(),
        MessageState::Bounced
    );

    until("the webhook's call", async || !receiver.calls().is_empty()).await;
    let event = receiver.calls()[0].event();
    assert_eq!(event["type"], "anklang.message.bounced.v1");
    assert_eq!(event["subject"], format!("messages/{id}"));
    let data = &event["data"];
    assert_eq!(data["message"], format!("messages/{id}"));
    assert_eq!(
        (&data["report"], &data["code"]),
        (&json!("bounced"), &json!("5.1.1"))
    );
    assert_eq!(
        (&data["customer"], &data["detail"]),
        (&json!("0000"), &json!("weg"))
    );
    assert_eq!(data["channel_account"], "probe");
    assert_eq!(data["campaign"], campaign);
    assert_eq!(data["event_time"], "2026-09-21T14:13:20.000000Z");
}

#[tokio::test]
async fn only_the_provider_is_listened_to() {
    let settings = Settings {
        config: "[channel_accounts.other]\nplugin = 'testing'\ntenants = ['other']\n\
                 [channel_accounts.other.config]\naccount = 'other'"
            .into(),
        ..Default::default()
    };
    let probe = Probe::start(1, settings).await;
    probe.server.client("other").await.unwrap();
    let campaign = probe.launch_until("fine", MessageState::Sent).await;
    let id = probe.id(&campaign, 0).await;
    let addr = probe.server.addr;
    let body = json!({"deliveries": [{"message_id": id, "state": "delivered"}]});
    let text = body.to_string();

    let (status, _) = http(addr, "POST", &path(TENANT, "probe"), "", &text).await;
    assert_eq!(status, 401);
    let wrong = "x-token: wrong\r\n";
    let (status, _) = http(addr, "POST", &path(TENANT, "probe"), wrong, &text).await;
    assert_eq!(status, 401);
    // Nobody learns which of these there are.
    let mut answers = Vec::new();
    for (tenant, account) in [
        ("nobody", "probe"),
        (TENANT, "nobody"),
        (TENANT, "other"),
        // A channel without requests.
        (TENANT, "mail"),
        ("..", "probe"),
        (TENANT, "%70robe"),
    ] {
        let (status, answer) = post(addr, &path(tenant, account), &body).await;
        assert_eq!(status, 404, "{tenant}/{account}: {answer}");
        let lines = answer.lines().filter(|line| !line.starts_with("date:"));
        answers.push(lines.collect::<Vec<_>>().join("\n"));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    // The other tenant's provider cannot tell of this one's messages.
    let (status, _) = http(
        addr,
        "POST",
        &path("other", "other"),
        "x-token: other\r\n",
        &text,
    )
    .await;
    assert_eq!(status, 200);

    // Refused before any of it is sent.
    let token = "x-token: probe\r\n";
    let large = head("POST", &path(TENANT, "probe"), token, (1 << 20) + 1);
    assert_eq!(exchange(addr, &large).await.0, 413);
    assert_eq!(
        http(addr, "PUT", &path(TENANT, "probe"), token, &text)
            .await
            .0,
        405
    );
    // What the plugin says is answered, and what it says with a refusal is not believed.
    let refusal = json!({"status": 403, "deliveries": [{"message_id": id, "state": "delivered"}]});
    assert_eq!(probe.post(&refusal).await.0, 403);
    assert_eq!(probe.post(&json!({"status": 777})).await.0, 502);
    assert_eq!(probe.post(&json!({"nonsense": 1})).await.0, 400);
    let (status, answer) = probe.post(&json!({"answer": "<Response/>"})).await;
    assert!(
        status == 200 && answer.ends_with("\r\n\r\n<Response/>"),
        "{answer}"
    );
    let challenge = format!("/channels/{TENANT}/probe?challenge=4711");
    let (status, answer) = http(addr, "GET", &challenge, "", "").await;
    assert!(
        status == 200 && answer.ends_with("\r\n\r\n4711"),
        "{answer}"
    );
    assert!(
        answer.contains("content-type: text/plain; charset=utf-8"),
        "{answer}"
    );
    assert!(
        answer.contains("x-content-type-options: nosniff"),
        "{answer}"
    );

    // What belongs to nothing is taken, so that it does not come for ever.
    let unknown = uuid::Uuid::now_v7().to_string();
    probe
        .report(
            json!([{"message_id": unknown, "state": "delivered"}, {"state": "delivered"},
                        {"message_id": id, "state": "of another world"}]),
        )
        .await;
    let message = probe.message(&campaign, 0).await;
    assert_eq!(
        (message.state(), message.reports.len()),
        (MessageState::Sent, 0)
    );
    // The account is one for all tenants, and so is its provider's address: whichever they gave it.
    assert_eq!(post(addr, &path("other", "probe"), &body).await.0, 200);
    probe.until(&campaign, MessageState::Delivered).await;
    assert!(
        !probe.server.log().contains("a=1"),
        "addresses are not logged"
    );
}

#[tokio::test]
async fn a_flood_of_one_account_is_its_own() {
    let settings = Settings {
        channels: "callbacks = 1\ncallback_seconds = 300",
        config: "[channel_accounts.quiet]\nplugin = 'testing'\n\
                 [channel_accounts.quiet.config]\naccount = 'probe'"
            .into(),
        ..Default::default()
    };
    let probe = Probe::start(1, settings).await;
    let addr = probe.server.addr;
    let open = probe.gate("open");
    let held: Value = json!({"after": open});
    let first = tokio::spawn(async move { post(addr, &path(TENANT, "probe"), &held).await });
    let empty = json!({});
    until("a flood", async || {
        post(addr, &path(TENANT, "probe"), &empty).await.0 == 503
    })
    .await;
    assert_eq!(post(addr, &path(TENANT, "quiet"), &empty).await.0, 200);
    std::fs::write(open, "").unwrap();
    let (status, answer) = first.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    until("its end", async || {
        post(addr, &path(TENANT, "probe"), &empty).await.0 == 200
    })
    .await;
}
