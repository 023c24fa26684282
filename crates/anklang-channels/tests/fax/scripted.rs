//! Against a server that breaks off where it is told to.

use anklang_channels::OpenError;
use anklang_channels::proto::{delivery_event::State, health_reply};
use serde_json::{Value, json};

use super::*;
use crate::hfaxd_peer::{HfaxdPeer, Then};

fn config(peer: &HfaxdPeer) -> Value {
    json!({
        "type": "hylafax",
        "host": "127.0.0.1",
        "port": peer.port(),
        "username": "fax",
        "password": "ge heim\"",
        "timeout_seconds": 2,
        "poll_seconds": 1,
        "unsure_seconds": 0,
        "dial": { "own_country": "49", "international_prefix": "00", "outside_line": "0," },
    })
}

async fn open(peer: &HfaxdPeer) -> Instance {
    plugin().open(&config(peer)).await.unwrap()
}

#[tokio::test]
async fn a_job_carries_number_document_and_message() {
    let peer = HfaxdPeer::start().await;
    let mut config = config(&peer);
    config["admin_password"] = "chef".into();
    config["modem"] = "ttyS0".into();
    config["notify_address"] = "fax@stadtwerk.example".into();
    config["give_up_after_minutes"] = 1530.into();
    let instance = plugin().open(&config).await.unwrap();
    let message = tiff_fax("+495619960");
    let id = message.message_id.clone();
    let outcomes = send(&instance, vec![message]).await;
    assert_eq!(accepted(&outcomes[0]), ("1".to_owned(), 2));
    let jobs = peer.submitted();
    assert_eq!(jobs.len(), 1);
    let tag = format!("anklang:{id}");
    for (name, value) in [
        ("DIALSTRING", "0,05619960"),
        ("EXTERNAL", "+495619960"),
        ("FROMUSER", "Stadtwerk \"Lindenau\""),
        ("TSI", "+4956112345"),
        ("JOBINFO", &tag[..]),
        ("REGARDING", "Ihr Angebot  JKILL 1"),
        ("VRES", "196"),
        ("LASTTIME", "010130"),
        ("MODEM", "ttyS0"),
        ("NOTIFY", "DONE"),
        ("NOTIFYADDR", "fax@stadtwerk.example"),
        ("MAXDIALS", "6"),
        ("MAXTRIES", "3"),
    ] {
        assert_eq!(jobs[0].parameter(name), value, "{name}");
    }
    assert_eq!(jobs[0].document, documents::tiff(2));
    assert_eq!(peer.faults(), [""; 0]);
}

#[tokio::test]
async fn connections_are_reused_and_bounded() {
    let peer = HfaxdPeer::start().await;
    let mut config = config(&peer);
    // Nobody looks at finished jobs meanwhile.
    config["poll_seconds"] = 600.into();
    let instance = plugin().open(&config).await.unwrap();
    for _ in 0..3 {
        let batch = (0..6).map(|_| tiff_fax("+495619960")).collect();
        assert_eq!(kinds(&send(&instance, batch).await), ["accepted"; 6]);
    }
    assert!(peer.connections() <= 2, "{}", peer.connections());
    assert!(peer.at_once() <= 2);
    assert_eq!(peer.submitted().len(), 18);
    instance.drain(Duration::from_secs(5)).await.unwrap();
    assert_eq!(peer.faults(), [""; 0]);
}

/// Every step before the submission.
const STEPS: &[&str] = &[
    "greeting",
    "USER",
    "PASS",
    "TZONE",
    "TYPE",
    "MODE",
    "FORM",
    "PASV",
    "STOT",
    "data",
    "stored",
    "JNEW",
    "JPARM FROMUSER",
    "JPARM DIALSTRING",
    "JPARM JOBINFO",
    "JPARM DOCUMENT",
];

#[tokio::test]
async fn what_breaks_before_the_submission_is_transient() {
    let peer = HfaxdPeer::start().await;
    let instance = open(&peer).await;
    for step in STEPS {
        peer.fail_at(step, Then::Close);
        let outcomes = send(&instance, vec![tiff_fax("+495619960")]).await;
        assert_eq!(
            failure(&outcomes[0]),
            ("TRANSIENT", "CONNECT".to_owned()),
            "{step}"
        );
    }
    // Silence is the same; one step for all, each costs the whole patience.
    peer.fail_at("JPARM DOCUMENT", Then::Hang);
    let outcomes = send(&instance, vec![tiff_fax("+495619960")]).await;
    assert_eq!(failure(&outcomes[0]), ("TRANSIENT", "CONNECT".to_owned()));
    assert!(peer.submitted().is_empty());
    peer.work_again();
    let outcomes = send(&instance, vec![tiff_fax("+495619960")]).await;
    assert_eq!(kinds(&outcomes), ["accepted"]);
    assert_eq!(peer.faults(), [""; 0]);
}

#[tokio::test]
async fn a_submission_without_an_answer_is_ambiguous_and_can_be_looked_up() {
    let peer = HfaxdPeer::start().await;
    let instance = open(&peer).await;
    for (then, submitted, looked_up) in [
        (Then::Close, 1, "accepted"),
        (Then::Hang, 1, "accepted"),
        (Then::Die, 0, "not found"),
    ] {
        let before = peer.submitted().len();
        peer.fail_at("JSUBM", then);
        let message = tiff_fax("+495619960");
        let id = message.message_id.clone();
        let outcomes = send(&instance, vec![message]).await;
        assert_eq!(failure(&outcomes[0]).0, "AMBIGUOUS", "{then:?}");
        assert_eq!(peer.submitted().len() - before, submitted);
        peer.work_again();
        let results = lookup(&instance, &[&id]).await;
        assert_eq!(found(&results[0]), looked_up, "{then:?}");
    }
    assert_eq!(peer.faults(), [""; 0]);
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let peer = HfaxdPeer::start().await;
    let instance = open(&peer).await;
    let config = ("TRANSIENT", "CONFIG");
    let rests = ("THROTTLED", "account");
    for (step, said, expected) in [
        (
            "greeting",
            "420 peer server cannot initialize: no FIFO",
            rests,
        ),
        ("TZONE", "221 Server shutting down.  Goodbye.", rests),
        ("PASS", "530 Login incorrect.", config),
        (
            "STOT",
            "553 /tmp/doc1.tif: No space left on device.",
            ("TRANSIENT", "553"),
        ),
        (
            "stored",
            "452 Error writing output file: No space left.",
            ("TRANSIENT", "452"),
        ),
        ("JNEW", "503 Cannot create job.", ("TRANSIENT", "503")),
        ("JPARM MAXDIALS", "503 Permission denied.", config),
        ("JSUBM", "450 Cannot write.", ("TRANSIENT", "450")),
        (
            "JSUBM",
            "460 Failed to submit job 1: Unable to open scheduler FIFO: x.",
            ("TRANSIENT", "460"),
        ),
        ("JSUBM", "460 Failed to submit job 1: .", ("AMBIGUOUS", "")),
        (
            "JSUBM",
            "421 Timeout (900 seconds): closing control connection.",
            ("AMBIGUOUS", ""),
        ),
        (
            "JSUBM",
            "504 Cannot submit job 1; null or missing MODEM parameter.",
            config,
        ),
    ] {
        peer.fail_at(step, Then::Say(said));
        let outcomes = send(&instance, vec![tiff_fax("+495619960")]).await;
        let (kind, code) = failure(&outcomes[0]);
        assert_eq!((kind, &code[..]), expected, "{said}");
    }
    assert!(peer.submitted().is_empty());
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_for_each_connection_of_a_batch() {
    let peer = HfaxdPeer::start().await;
    let mut config = config(&peer);
    config["password"] = "wrong".into();
    config["connections"] = 1.into();
    config["poll_seconds"] = 600.into();
    let instance = plugin().open(&config).await.unwrap();
    let batch = (0..5).map(|_| tiff_fax("+495619960")).collect();
    for outcome in send(&instance, batch).await {
        assert_eq!(failure(&outcome), ("TRANSIENT", "CONFIG".to_owned()));
    }
    assert_eq!(peer.logins(), 1);
    let health = instance.health().await.unwrap();
    assert_eq!(health.status(), health_reply::Status::NotServing);
}

#[tokio::test]
async fn a_connection_that_died_is_replaced_without_anybody_noticing() {
    let peer = HfaxdPeer::start().await;
    let instance = open(&peer).await;
    assert_eq!(
        kinds(&send(&instance, vec![tiff_fax("+495619960")]).await),
        ["accepted"]
    );
    // What comes first on a reused one.
    peer.fail_at(
        "JOB",
        Then::Say("421 Timeout (900 seconds): closing control connection."),
    );
    assert_eq!(
        kinds(&send(&instance, vec![tiff_fax("+495619960")]).await),
        ["accepted"]
    );
    assert_eq!(peer.submitted().len(), 2);
}

#[tokio::test]
async fn events_tell_what_became_of_jobs_until_they_are_committed() {
    let peer = HfaxdPeer::start().await;
    let instance = open(&peer).await;
    let mut events = instance.events().unwrap();
    let messages: Vec<_> = (0..3).map(|_| tiff_fax("+495619960")).collect();
    let ids: Vec<_> = messages.iter().map(|m| m.message_id.clone()).collect();
    let jobs: Vec<u32> = send(&instance, messages)
        .await
        .iter()
        .map(|outcome| accepted(outcome).0.parse().unwrap())
        .collect();
    for (index, says, state, code, detail) in [
        (
            0,
            "state:7\nnpages:2\ntotpages:2\nsignalrate:14400 bit/s\ncsi:+49 561 000000",
            State::Delivered,
            "",
            "2 of 2 pages, 14400 bit/s",
        ),
        (
            1,
            "state:8\nnpages:0\ntotpages:2\nstatuscode:333\nstatus:Busy signal detected; too many attempts to dial",
            State::Failed,
            "BUSY",
            "Busy signal detected; too many attempts to dial",
        ),
        (
            2,
            "state:8\nnpages:1\ntotpages:2\nstatuscode:2\nstatus:No carrier detected",
            State::Failed,
            "PARTIAL",
            "1 of 2 pages; No carrier detected",
        ),
    ] {
        peer.finish(jobs[index], says);
        let told = event(&mut events).await;
        assert_eq!(told.message_id, ids[index]);
        assert_eq!(told.provider_message_id, jobs[index].to_string());
        assert_eq!(
            (told.state(), &told.code[..], &told.detail[..]),
            (state, code, detail)
        );
        assert!(told.event_id > 0 && told.occurred_at.is_some());
        instance.acknowledge(vec![told.event_id]).await.unwrap();
    }
    // A lookup finds finished jobs as well, and a restart tells them once more.
    assert_eq!(found(&lookup(&instance, &[&ids[1]]).await[0]), "accepted");
    instance.drain(Duration::from_secs(5)).await.unwrap();
    let again = open(&peer).await;
    let mut events = again.events().unwrap();
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(event(&mut events).await.message_id);
    }
    told.sort();
    let mut expected = ids.clone();
    expected.sort();
    assert_eq!(told, expected);
    // Gone, it may have been done long ago or never have been: too old to be sure, nobody knows.
    peer.remove_finished();
    let old = "01890000-0000-7000-8000-000000000000";
    let unversioned = "01890000-0000-4000-8000-000000000000";
    let results = lookup(&again, &[old, unversioned]).await;
    assert_eq!(
        results.iter().map(found).collect::<Vec<_>>(),
        ["ambiguous"; 2]
    );
    assert_eq!(peer.faults(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_sure_right_after_something_broke_off() {
    let peer = HfaxdPeer::start().await;
    let mut config = config(&peer);
    config["unsure_seconds"] = 3600.into();
    let instance = plugin().open(&config).await.unwrap();
    let id = tiff_fax("+495619960").message_id;
    assert_eq!(found(&lookup(&instance, &[&id]).await[0]), "ambiguous");
    // Nor when the server cannot be asked.
    peer.fail_at("LIST", Then::Close);
    assert_eq!(found(&lookup(&instance, &[&id]).await[0]), "ambiguous");
}

#[tokio::test]
async fn unusable_messages_do_not_hold_up_the_others() {
    let peer = HfaxdPeer::start().await;
    let instance = open(&peer).await;
    let mut without = tiff_fax("+495619960");
    without.content = None;
    let batch = vec![
        tiff_fax("05619960"),
        without,
        fax("+495619960", "image/tiff", documents::tiff(21)),
        fax("+495619960", "image/tiff", b"II*\0 not".to_vec()),
        fax("+495619960", "application/msword", b"x".to_vec()),
        fax(
            "+495619960",
            "application/pdf",
            b"%!PS (/etc/passwd) run".to_vec(),
        ),
        tiff_fax("+43123456789"),
    ];
    let outcomes = send(&instance, batch).await;
    let expected = [
        ("REASON_RECIPIENT", "ADDRESS_INVALID"),
        ("REASON_CONTENT", "NOT_A_DOCUMENT"),
        ("REASON_CONTENT", "TOO_MANY_PAGES"),
        ("REASON_CONTENT", "UNREADABLE"),
        ("REASON_CONTENT", "MEDIA_TYPE_INVALID"),
        ("REASON_CONTENT", "UNREADABLE"),
    ];
    for (outcome, (reason, code)) in outcomes.iter().zip(expected) {
        assert_eq!(failure(outcome), (reason, code.to_owned()));
    }
    assert_eq!(accepted(&outcomes[6]).1, 2);
    assert_eq!(
        peer.submitted()[0].parameter("DIALSTRING"),
        "0,0043123456789"
    );
}

#[tokio::test]
async fn a_ghostscript_that_is_missing_or_broken_burns_nobody() {
    let peer = HfaxdPeer::start().await;
    for (program, expected) in [
        ("/nonexistent/gs", ("TRANSIENT", "CONFIG")),
        ("/bin/false", ("REASON_CONTENT", "UNREADABLE")),
    ] {
        let mut config = config(&peer);
        config["convert"] = json!({ "program": program });
        let instance = plugin().open(&config).await.unwrap();
        let message = fax("+495619960", "application/pdf", documents::pdf(1));
        let outcomes = send(&instance, vec![message]).await;
        let (kind, code) = failure(&outcomes[0]);
        assert_eq!((kind, &code[..]), expected);
        let health = instance.health().await.unwrap();
        assert_eq!(health.status(), health_reply::Status::NotServing);
        assert!(health.detail.contains("Ghostscript"), "{}", health.detail);
    }
    assert!(peer.submitted().is_empty());
}

#[tokio::test]
async fn a_ghostscript_that_does_not_end_is_stopped() {
    let peer = HfaxdPeer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("gs");
    std::fs::write(&program, "#!/bin/sh\nexec sleep 3600\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, executable).unwrap();
    let mut config = config(&peer);
    config["convert"] = json!({ "program": program, "seconds": 1 });
    let instance = plugin().open(&config).await.unwrap();
    let message = fax("+495619960", "application/pdf", documents::pdf(1));
    let outcomes = send(&instance, vec![message]).await;
    assert_eq!(failure(&outcomes[0]), ("TRANSIENT", "CONVERT".to_owned()));
}

#[tokio::test]
async fn configurations_are_checked() {
    let plugin = plugin();
    let wrong = json!({ "type": "hylafax", "port": 0, "connections": 0, "pasword": "x" });
    let violations = plugin.check_config(&wrong).unwrap_err();
    let paths: Vec<_> = violations.iter().map(|v| v.path.as_str()).collect();
    assert_eq!(
        paths,
        ["/connections", "/host", "/pasword", "/port", "/username"]
    );
    let violations = plugin
        .check_config(&json!({ "type": "pigeon" }))
        .unwrap_err();
    assert_eq!(
        violations[0].to_string(),
        "/type: is none of \"hylafax\", \"mail-gateway\""
    );
    let remote = json!({ "type": "hylafax", "host": "fax.example.org", "username": "fax" });
    let half = json!({
        "type": "hylafax", "host": "localhost", "username": "fax", "dial": { "own_country": "49" },
    });
    for (config, option) in [(remote, "host: "), (half, "dial: ")] {
        match plugin.open(&config).await {
            Err(OpenError::Refused(reason)) => assert!(reason.starts_with(option), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    let shown = plugin.redacted(&json!({
        "type": "hylafax", "host": "h", "password": "geheim", "admin_password": "geheim",
    }));
    assert!(!shown.to_string().contains("geheim"), "{shown}");
    let shown = plugin.redacted(&json!({
        "type": "mail-gateway", "password": "geheim", "pin": "geheim",
    }));
    assert!(!shown.to_string().contains("geheim"), "{shown}");
}
