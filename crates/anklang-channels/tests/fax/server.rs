//! Against HylaFAX itself, without modems: jobs wait, and all but the call is real.

use anklang_channels::proto::{delivery_event::State, health_reply};
use serde_json::{Value, json};

use super::*;
use crate::hylafax::{Hylafax, PASSWORD, USER, cannot_run, tiff_pages};

/// Whether HylaFAX is here; says on stderr if not.
fn can_run() -> bool {
    if let Some(why) = cannot_run() {
        eprintln!("skipped: {why}");
        return false;
    }
    true
}

fn config(server: &Hylafax) -> Value {
    json!({
        "type": "hylafax",
        "host": "127.0.0.1",
        "port": server.port(),
        "username": USER,
        "password": PASSWORD,
        "timeout_seconds": 30,
        "poll_seconds": 1,
        "unsure_seconds": 0,
        "done_kept_minutes": 60,
        "dial": { "own_country": "49", "international_prefix": "00" },
    })
}

fn pdf_fax(pages: usize) -> Message {
    fax("+495619960", "application/pdf", documents::pdf(pages))
}

#[tokio::test]
async fn a_job_waits_is_found_and_killed() {
    if !can_run() {
        return;
    }
    let server = Hylafax::start();
    let instance = plugin().open(&config(&server)).await.unwrap();
    let mut events = instance.events().unwrap();
    let health = instance.health().await.unwrap();
    assert_eq!(
        health.status(),
        health_reply::Status::Serving,
        "{}",
        health.detail
    );

    let (first, second) = (pdf_fax(2), tiff_fax("+43123456789"));
    let ids = [first.message_id.clone(), second.message_id.clone()];
    let outcomes = send(&instance, vec![first, second]).await;
    let (job, pages) = accepted(&outcomes[0]);
    assert_eq!(pages, 2);
    assert_eq!(accepted(&outcomes[1]).1, 2);
    for (key, value) in [
        ("number", "05619960"),
        ("external", "+495619960"),
        ("jobtag", &format!("anklang:{}", ids[0])[..]),
        ("sender", "Stadtwerk \"Lindenau\""),
        ("tsi", "+4956112345"),
        ("owner", USER),
        ("resolution", "196"),
        ("regarding", "Ihr Angebot  JKILL 1"),
    ] {
        assert_eq!(server.says(&job, key), value, "{key}");
    }
    let documents = server.files("docq", "doc");
    let drawn = documents
        .iter()
        .find(|path| path.to_str().unwrap().ends_with(&format!(".{job}")));
    assert_eq!(tiff_pages(drawn.unwrap()), [(1728, 2292, 196.0); 2]);

    let never = pdf_fax(1).message_id;
    let results = lookup(&instance, &[&ids[0], &never, &ids[1]]).await;
    let results: Vec<_> = results.iter().map(found).collect();
    assert_eq!(results, ["accepted", "not found", "accepted"]);

    // Somebody at the fax server does it.
    server.client(&[&format!("JKILL {job}")]);
    let told = event(&mut events).await;
    assert_eq!(
        (&told.message_id, &told.provider_message_id),
        (&ids[0], &job)
    );
    assert_eq!((told.state(), &told.code[..]), (State::Failed, "KILLED"));
    instance.acknowledge(vec![told.event_id]).await.unwrap();
    assert_eq!(found(&lookup(&instance, &[&ids[0]]).await[0]), "accepted");
    instance.drain(Duration::from_secs(10)).await.unwrap();

    // The second one as well, and both are told after a restart.
    let again = plugin().open(&config(&server)).await.unwrap();
    let mut events = again.events().unwrap();
    assert_eq!(event(&mut events).await.message_id, ids[0]);
    let second = accepted(&outcomes[1]).0;
    server.client(&[&format!("JKILL {second}")]);
    assert_eq!(event(&mut events).await.message_id, ids[1]);
}

#[tokio::test]
async fn a_wrong_password_or_modem_is_the_accounts_fault() {
    if !can_run() {
        return;
    }
    let server = Hylafax::start();
    let mut wrong = config(&server);
    wrong["password"] = "falsch".into();
    let instance = plugin().open(&wrong).await.unwrap();
    let outcomes = send(&instance, vec![tiff_fax("+495619960")]).await;
    assert_eq!(failure(&outcomes[0]), ("TRANSIENT", "CONFIG".to_owned()));
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);

    // The scheduler itself rejects the job.
    let mut wrong = config(&server);
    wrong["modem"] = "ttyNone".into();
    let instance = plugin().open(&wrong).await.unwrap();
    let outcomes = send(&instance, vec![tiff_fax("+495619960")]).await;
    assert_eq!(
        failure(&outcomes[0]),
        ("REASON_CONFIG", "REJECTED".to_owned()),
        "{outcomes:?}"
    );
    assert!(server.files("sendq", "q").is_empty());
}

#[tokio::test]
async fn without_the_scheduler_nothing_is_submitted() {
    if !can_run() {
        return;
    }
    let mut server = Hylafax::start();
    let instance = plugin().open(&config(&server)).await.unwrap();
    server.stop_faxq();
    let message = tiff_fax("+495619960");
    let id = message.message_id.clone();
    let outcomes = send(&instance, vec![message.clone()]).await;
    assert_eq!(
        failure(&outcomes[0]),
        ("TRANSIENT", "460".to_owned()),
        "{outcomes:?}"
    );
    until("hfaxd removes the job", async || {
        server.files("sendq", "q").is_empty()
    })
    .await;
    assert_eq!(found(&lookup(&instance, &[&id]).await[0]), "not found");
    server.start_faxq();
    assert_eq!(kinds(&send(&instance, vec![message]).await), ["accepted"]);
    assert_eq!(found(&lookup(&instance, &[&id]).await[0]), "accepted");
}

#[tokio::test]
async fn a_scheduler_that_stands_still_makes_a_doubt_that_can_be_settled() {
    if !can_run() {
        return;
    }
    let server = Hylafax::start();
    let mut config = config(&server);
    config["timeout_seconds"] = 2.into();
    let instance = plugin().open(&config).await.unwrap();
    server.signal_faxq("STOP");
    let message = tiff_fax("+495619960");
    let id = message.message_id.clone();
    let outcomes = send(&instance, vec![message.clone()]).await;
    assert_eq!(failure(&outcomes[0]).0, "AMBIGUOUS", "{outcomes:?}");
    // hfaxd sees that its client is gone, and takes the job back before the scheduler has it.
    until("the doubt is settled", async || {
        found(&lookup(&instance, &[&id]).await[0]) == "not found"
    })
    .await;
    server.signal_faxq("CONT");
    assert_eq!(kinds(&send(&instance, vec![message]).await), ["accepted"]);
    assert_eq!(server.files("sendq", "q").len(), 1);
}
