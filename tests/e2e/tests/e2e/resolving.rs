//! Messages of which nobody knows whether they arrived: what a person decides.

use anklang_local::smtp::{Fault, Faults, Matching};
use anklang_proto::anklang::customers::v1 as customers;
use anklang_proto::anklang::messages::v1::{
    self as messages, Message, MessageResolution, MessageState,
};
use anklang_testkit::{Client, Options, TestServer};

use crate::mailing::{SLIP, address, launch, ledger, tenant, until, until_figures};
use crate::refused;

/// A campaign with so many messages, all ambiguous; they did not arrive.
async fn in_doubt(members: usize) -> (TestServer, Client, String) {
    let server = TestServer::start_with(Options {
        ambiguous: "hold",
        ..Default::default()
    })
    .await
    .unwrap();
    let closes = Fault::CloseAfterDot { keep: false };
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, closes));
    let client = tenant(&server, members).await;
    let campaign = launch(&client, SLIP).await;
    let all = i64::try_from(members).unwrap();
    until_figures(&client, &campaign, |m| m.ambiguous == all).await;
    server.sink.set_faults(Faults::none());
    (server, client, campaign)
}

async fn name_of(client: &Client, campaign: &str, customer: usize) -> String {
    ledger(client, campaign).await[&address(customer)]
        .name
        .clone()
}

async fn resolve(
    client: &Client,
    name: &str,
    resolution: MessageResolution,
    request_id: &str,
) -> Result<Message, tonic::Status> {
    let request = messages::ResolveMessageRequest {
        name: name.into(),
        resolution: resolution.into(),
        note: "Kunde hat angerufen".into(),
        request_id: request_id.into(),
        ..Default::default()
    };
    let resolved = client.messages().resolve_message(request).await?;
    Ok(resolved.into_inner())
}

async fn history(client: &Client, customer: usize) -> Vec<String> {
    let request = customers::ListCustomerEventsRequest {
        parent: format!("customers/{customer:04}"),
        page_size: 100,
        ..Default::default()
    };
    let listed = client.customers().list_customer_events(request).await;
    let events = listed.unwrap().into_inner().customer_events;
    let kinds = events.into_iter().map(|e| e.kind);
    let mut kinds: Vec<String> = kinds.filter(|k| k.starts_with("message.")).collect();
    kinds.reverse();
    kinds
}

#[tokio::test]
async fn a_person_settles_what_nobody_knows() {
    use MessageResolution::{Cancel, Resend, Sent};
    let (server, client, campaign) = in_doubt(4).await;
    let mut names = Vec::new();
    for customer in 0..4 {
        names.push(name_of(&client, &campaign, customer).await);
    }
    for _ in 0..2 {
        let sent = resolve(&client, &names[0], Sent, "").await.unwrap();
        assert_eq!(sent.state(), MessageState::Sent);
        assert_eq!(
            sent.detail,
            "settled by a person: it arrived (Kunde hat angerufen)"
        );
        assert_eq!(sent.send_time, sent.attempts[0].end_time);
        let cancelled = resolve(&client, &names[1], Cancel, "").await.unwrap();
        assert_eq!(cancelled.state(), MessageState::Cancelled);
    }
    // The same call twice, as after a lost answer: sent once.
    let id = uuid::Uuid::now_v7().to_string();
    let queued = resolve(&client, &names[2], Resend, &id).await.unwrap();
    assert_eq!(queued.state(), MessageState::Queued);
    assert_eq!(
        resolve(&client, &names[2], Resend, &id).await.unwrap(),
        queued
    );
    until_figures(&client, &campaign, |m| {
        (m.sent, m.cancelled, m.ambiguous) == (2, 1, 1)
    })
    .await;
    assert_eq!(server.sink.count(), 1);
    assert_eq!(server.sink.received()[0].rcpt_to, [address(2)]);
    // Sent again, it is no more than that.
    resolve(&client, &names[2], Resend, "").await.unwrap();
    assert_eq!(server.sink.count(), 1);

    assert_eq!(
        history(&client, 0).await,
        ["message.ambiguous", "message.resolved"]
    );
    assert_eq!(
        history(&client, 1).await,
        ["message.ambiguous", "message.resolved"]
    );
    let again = ["message.ambiguous", "message.resolved", "message.sent"];
    assert_eq!(history(&client, 2).await, again);
    assert_eq!(history(&client, 3).await, ["message.ambiguous"]);

    for (name, resolution) in [(&names[0], Cancel), (&names[1], Resend), (&names[2], Sent)] {
        let status = resolve(&client, name, resolution, "").await.unwrap_err();
        refused::is(&status, tonic::Code::FailedPrecondition, "PRECONDITION");
    }
}

#[tokio::test]
async fn what_is_sent_again_is_looked_at_again() {
    let (server, client, campaign) = in_doubt(1).await;
    let csv = "customer_number,channel,purpose,state,recorded_at\n\
               0000,mail,marketing,withdrawn,2026-01-01T10:00:00Z\n";
    crate::mailing::import(
        &client,
        anklang_proto::anklang::imports::v1::ImportEntity::Consents,
        csv,
    )
    .await;
    let name = name_of(&client, &campaign, 0).await;
    resolve(&client, &name, MessageResolution::Resend, "")
        .await
        .unwrap();
    until("a decision", async || {
        ledger(&client, &campaign).await[&address(0)].state() == MessageState::Suppressed
    })
    .await;
    assert_eq!(server.sink.count(), 0);
}

#[tokio::test]
async fn a_resolution_that_is_none_is_refused() {
    let (_server, client, campaign) = in_doubt(1).await;
    let name = name_of(&client, &campaign, 0).await;
    let request = messages::ResolveMessageRequest {
        name: "message".into(),
        note: "x".repeat(501),
        request_id: "x".into(),
        ..Default::default()
    };
    let status = client
        .messages()
        .resolve_message(request)
        .await
        .unwrap_err();
    assert_eq!(anklang_testkit::violations(&status).len(), 4, "{status:?}");
    let nobody = format!("messages/{}", uuid::Uuid::now_v7());
    let status = resolve(&client, &nobody, MessageResolution::Sent, "")
        .await
        .unwrap_err();
    refused::is(&status, tonic::Code::NotFound, "NOT_FOUND");
    // It is still in the inbox.
    let request = messages::ListMessagesRequest {
        states: vec![MessageState::Ambiguous.into()],
        ..Default::default()
    };
    let inbox = client.messages().list_messages(request).await.unwrap();
    let inbox = inbox.into_inner().messages;
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].name, name);
}
