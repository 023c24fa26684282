//! The inbox of messages of which nobody knows whether they arrived, over all campaigns and accounts:
//! listed, looked up, settled many at once.

use anklang_proto::anklang::messages::v1::{
    self as messages, AttemptOutcome, Message, MessageResolution, MessageState,
};
use anklang_testkit::{Client, violations};
use tonic::{Code, Status};

use crate::mailing::{attempts, ledger, until};
use crate::probe::{Probe, Settings, filtered, tell_channel};
use crate::refused;

async fn look_up(
    client: &Client,
    names: Vec<String>,
) -> Result<messages::LookupMessagesResponse, Status> {
    let request = messages::LookupMessagesRequest { names };
    let looked = client.messages().lookup_messages(request).await?;
    Ok(looked.into_inner())
}

async fn settle(
    client: &Client,
    names: &[&str],
    resolution: MessageResolution,
) -> Result<Vec<Message>, Status> {
    let request = messages::BatchResolveMessagesRequest {
        names: names.iter().map(|&name| name.into()).collect(),
        resolution: resolution.into(),
        note: "nachgefragt".into(),
        ..Default::default()
    };
    let settled = client.messages().batch_resolve_messages(request).await?;
    Ok(settled.into_inner().messages)
}

#[tokio::test]
async fn a_channel_that_knows_is_asked_by_itself() {
    let settings = Settings {
        channels: "first_lookup_milliseconds = 50",
        plugin: "knows = 'accepted'",
        ..Default::default()
    };
    let probe = Probe::start(3, settings).await;
    let campaign = probe
        .launch_until("ambiguous:silence", MessageState::Sent)
        .await;
    for customer in 0..3 {
        let message = probe.message(&campaign, customer).await;
        assert_eq!(message.attempt_count, 1, "{message:?}");
        assert_eq!(attempts(&message, AttemptOutcome::Ambiguous), 1);
        assert_eq!(message.send_time, message.attempts[0].end_time);
        let id = message.name.strip_prefix("messages/").unwrap();
        assert_eq!(message.provider_message_id, id);
        assert_eq!(message.detail, "looked up: taken");
        let told = ["message.ambiguous", "message.sent"];
        assert_eq!(probe.history(customer).await, told);
    }
}

#[tokio::test]
async fn what_its_channel_never_got_is_sent_again_when_a_person_asks() {
    let settings = Settings {
        plugin: "knows = 'never'",
        ..Default::default()
    };
    let probe = Probe::start(3, settings).await;
    let campaign = probe
        .launch_until("ambiguous:silence", MessageState::Ambiguous)
        .await;
    tell_channel(&probe.client, "fine").await;
    let names: Vec<String> = {
        let ledger = ledger(&probe.client, &campaign).await;
        ledger.into_values().map(|m| m.name).collect()
    };
    let looked = look_up(&probe.client, names.clone()).await.unwrap();
    assert_eq!(looked.settled_count, 3);
    let order: Vec<String> = looked.messages.into_iter().map(|m| m.name).collect();
    assert_eq!(order, names);
    probe.until(&campaign, MessageState::Sent).await;
    for customer in 0..3 {
        let message = probe.message(&campaign, customer).await;
        let outcomes: Vec<AttemptOutcome> = message.attempts.iter().map(|a| a.outcome()).collect();
        assert_eq!(
            outcomes,
            [AttemptOutcome::Ambiguous, AttemptOutcome::Accepted]
        );
    }
    // Asked again there is nothing to be settled.
    let looked = look_up(&probe.client, names.clone()).await.unwrap();
    assert_eq!(looked.settled_count, 0);
    let audited = "SELECT sum(written) || ' ' || bool_and(resources @> (
                       SELECT array_agg('messages/' || id) FROM message))
                   FROM audit_entry WHERE method LIKE '%/LookupMessages'";
    let audited = probe.server.database.one(audited).await.unwrap();
    assert_eq!(audited, "3 true");
    assert!(
        looked
            .messages
            .iter()
            .all(|m| m.state() == MessageState::Sent)
    );

    let nobody = format!("messages/{}", uuid::Uuid::now_v7());
    let status = look_up(&probe.client, vec![names[0].clone(), nobody])
        .await
        .unwrap_err();
    refused::is(&status, Code::NotFound, "NOT_FOUND");
    for wrong in [
        vec![],
        vec!["x".into()],
        vec![names[0].clone(), names[0].clone()],
    ] {
        let status = look_up(&probe.client, wrong).await.unwrap_err();
        assert_eq!(violations(&status).len(), 1, "{status:?}");
    }
}

#[tokio::test]
async fn what_its_channel_cannot_say_goes_by_the_policy() {
    let settings = Settings {
        channels: "lookups = 2",
        account: "ambiguous = 'resend'",
        plugin: "knows = 'nothing'",
        config: "[channel_accounts.held]\nplugin = 'testing'\nambiguous = 'hold'\n\
                 [channel_accounts.held.config]\naccount = 'held'\nknows = 'nothing'"
            .into(),
    };
    let probe = Probe::start(2, settings).await;
    let campaign = probe
        .launch_until("ambiguous:silence", MessageState::Ambiguous)
        .await;
    tell_channel(&probe.client, "fine").await;
    both_lookups(&probe, &campaign).await;
    // Once more its time has come: it is sent again.
    pass_time(&probe).await;
    probe.until(&campaign, MessageState::Sent).await;
    for message in ledger(&probe.client, &campaign).await.values() {
        let outcomes: Vec<AttemptOutcome> = message.attempts.iter().map(|a| a.outcome()).collect();
        assert_eq!(
            outcomes,
            [AttemptOutcome::Ambiguous, AttemptOutcome::Accepted]
        );
    }

    // One that is held is asked about as often, and then left to a person.
    let sql = "UPDATE message SET account = 'held', state = 'ambiguous', lookups = 0";
    let owner = probe.server.database.connect().await.unwrap();
    owner.batch_execute(sql).await.unwrap();
    both_lookups(&probe, &campaign).await;
    let held = ledger(&probe.client, &campaign).await;
    assert!(
        held.values().all(|m| m.state() == MessageState::Ambiguous),
        "{held:?}"
    );
}

/// Lets the time for the next lookup of ambiguous messages come.
async fn pass_time(probe: &Probe) {
    let sql = "UPDATE message SET next_attempt_at = now(), updated_at = now() - interval '2 days'
               WHERE state = 'ambiguous'";
    let owner = probe.server.database.connect().await.unwrap();
    owner.batch_execute(sql).await.unwrap();
}

async fn both_lookups(probe: &Probe, campaign: &str) {
    for lookup in 1..=2 {
        pass_time(probe).await;
        until("a lookup", async || {
            let ledger = ledger(&probe.client, campaign).await;
            ledger.values().all(|m| m.lookup_count == lookup)
        })
        .await;
    }
}

#[tokio::test]
async fn the_inbox_is_over_all_campaigns_and_settled_at_once() {
    let probe = Probe::start(2, Settings::default()).await;
    let first = probe
        .launch_until("ambiguous:silence", MessageState::Ambiguous)
        .await;
    let second = probe
        .launch_until("ambiguous:silence", MessageState::Ambiguous)
        .await;
    let sql = "UPDATE message SET updated_at = now() - interval '3 hours' WHERE campaign_id = ";
    let sql = format!("{sql}'{}'", first.strip_prefix("campaigns/").unwrap());
    let owner = probe.server.database.connect().await.unwrap();
    owner.batch_execute(&sql).await.unwrap();
    let doubt = "state = AMBIGUOUS AND channel_account = \"channelAccounts/probe\"";
    let all = filtered(&probe.client, doubt, "update_time").await;
    let names: Vec<&str> = all.iter().map(|m| &m.name[..]).collect();
    assert_eq!(names.len(), 4);
    let hours = chrono::Utc::now() - chrono::TimeDelta::hours(2);
    let old = format!("{doubt} AND update_time < \"{}\"", hours.to_rfc3339());
    let old = filtered(&probe.client, &old, "update_time").await;
    assert_eq!(old.len(), 2);
    assert!(
        old.iter().all(|m| m.outbound.starts_with(&first)),
        "{old:?}"
    );
    let newer = all.iter().filter(|m| m.outbound.starts_with(&second));
    assert_eq!(newer.count(), 2);
    let mail = "state = AMBIGUOUS AND channel_account = \"channelAccounts/mail\"";
    assert_eq!(filtered(&probe.client, mail, "").await, []);

    // All or none.
    let sent = settle(&probe.client, &names[..1], MessageResolution::Sent)
        .await
        .unwrap();
    assert_eq!(sent[0].state(), MessageState::Sent);
    let mixed = settle(&probe.client, &names, MessageResolution::Cancel)
        .await
        .unwrap_err();
    refused::is(&mixed, Code::FailedPrecondition, "PRECONDITION");
    let nobody = format!("messages/{}", uuid::Uuid::now_v7());
    let missing = [names[1], &nobody];
    let missing = settle(&probe.client, &missing, MessageResolution::Cancel)
        .await
        .unwrap_err();
    refused::is(&missing, Code::NotFound, "NOT_FOUND");
    assert_eq!(filtered(&probe.client, doubt, "").await.len(), 3);
    let cancelled = settle(&probe.client, &names[1..], MessageResolution::Cancel)
        .await
        .unwrap();
    let told: Vec<&str> = cancelled.iter().map(|m| &m.name[..]).collect();
    assert_eq!(told, names[1..]);
    assert!(
        cancelled
            .iter()
            .all(|m| m.state() == MessageState::Cancelled)
    );
    assert!(
        cancelled[0].detail.ends_with("left alone (nachgefragt)"),
        "{cancelled:?}"
    );
    // The same way again changes nothing.
    let again = settle(&probe.client, &names[1..], MessageResolution::Cancel)
        .await
        .unwrap();
    assert_eq!(again, cancelled);

    let request = messages::BatchResolveMessagesRequest {
        names: vec!["x".into(), names[0].into(), names[0].into()],
        note: "x".repeat(501),
        request_id: "x".into(),
        ..Default::default()
    };
    let wrong = probe
        .client
        .messages()
        .batch_resolve_messages(request)
        .await
        .unwrap_err();
    refused::names(
        &wrong,
        &["names[0]", "names[2]", "note", "request_id", "resolution"],
    );
}
