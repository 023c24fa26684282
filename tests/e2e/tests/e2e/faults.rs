//! Mail servers that misbehave, stores that are gone, consents that are withdrawn: what becomes of
//! each message, and that the books balance all the same.

use std::time::Duration;

use anklang_local::smtp::{Fault, Faults, Matching, Reply};
use anklang_proto::anklang::imports::v1::ImportEntity;
use anklang_proto::anklang::messages::v1::{AttemptOutcome, Message, MessageState};
use anklang_proto::anklang::operations::v1::OperationMetadata;
use anklang_proto::google::longrunning as lro;
use anklang_testkit::{Options, TestServer};
use prost::Message as _;

use crate::mailing::{
    SLIP, address, balanced, begin, import, launch, launched, make_due, over, tenant, until,
    until_figures, until_over, until_tried,
};

/// Longer than the plugin waits in these tests.
const HANG: Duration = Duration::from_secs(6);

async fn impatient(ambiguous: &'static str) -> TestServer {
    TestServer::start_with(Options {
        ambiguous,
        mail: "timeout_seconds = 2".into(),
        ..Default::default()
    })
    .await
    .unwrap()
}

fn reply(code: u16, text: &str) -> Reply {
    Reply::new(code, text)
}

/// Faults that each hit one customer: the first from 0 on.
fn each(faults: Vec<(Fault, Option<u64>)>) -> Faults {
    let rules = faults.into_iter().enumerate();
    rules.fold(Faults::none(), |rules, (customer, (fault, times))| {
        let matching = Matching::Recipient(address(customer));
        match times {
            Some(times) => rules.with_times(matching, fault, times),
            None => rules.with(matching, fault),
        }
    })
}

fn outcomes(message: &Message) -> Vec<AttemptOutcome> {
    message.attempts.iter().map(|a| a.outcome()).collect()
}

/// Next attempt is later than the end of the last one.
fn waits(message: &Message) -> bool {
    let seconds = |time: &Option<prost_types::Timestamp>| time.as_ref().unwrap().seconds;
    let last = message.attempts.last().unwrap();
    seconds(&message.next_attempt_time) > seconds(&last.end_time) + 10
}

#[tokio::test]
async fn each_answer_of_a_mail_server_has_its_outcome() {
    use AttemptOutcome as Outcome;
    let server = impatient("hold").await;
    server.sink.set_faults(each(vec![
        (
            Fault::RejectRecipient(reply(450, "4.2.0 come back")),
            Some(1),
        ),
        (Fault::RejectMail(reply(451, "4.3.0 come back")), Some(1)),
        (Fault::HangBeforeData(HANG), Some(1)),
        (
            Fault::RejectRecipient(reply(550, "5.1.1 User unknown")),
            None,
        ),
        (Fault::RejectMail(reply(554, "5.6.0 No such content")), None),
        (Fault::HangAfterDot(HANG), Some(1)),
        (Fault::CloseAfterDot { keep: true }, Some(1)),
        (Fault::CloseAfterDot { keep: false }, Some(1)),
        (Fault::CloseInData, Some(1)),
        (Fault::Slow(Duration::from_millis(300)), None),
    ]));
    let client = tenant(&server, 12).await;
    let campaign = launch(&client, SLIP).await;
    until_tried(&client, &campaign, 3).await;

    let books = balanced(&server, &client, &campaign, 12).await;
    for later in 0..3 {
        let message = books.message(later);
        assert_eq!(message.state(), MessageState::Queued, "{message:?}");
        assert_eq!(outcomes(message), [Outcome::Transient]);
        assert!(waits(message), "{message:?}");
        assert_eq!(books.arrivals(later), 0);
    }
    assert_eq!(books.message(0).detail, "450 4.2.0 come back");
    assert_eq!(books.message(1).detail, "451 4.3.0 come back");
    assert!(
        books.message(2).detail.starts_with("CONNECT "),
        "{:?}",
        books.message(2)
    );
    for (failed, words) in [
        (3, "550 5.1.1 User unknown"),
        (4, "554 5.6.0 No such content"),
    ] {
        let message = books.message(failed);
        assert_eq!(message.state(), MessageState::Failed, "{message:?}");
        assert_eq!(message.detail, words);
        assert_eq!(message.attempts[0].detail, words);
        assert_eq!(books.arrivals(failed), 0);
    }
    for (unknown, arrived) in [(5, 1), (6, 1), (7, 0), (8, 0)] {
        let message = books.message(unknown);
        assert_eq!(message.state(), MessageState::Ambiguous, "{message:?}");
        assert_eq!(books.arrivals(unknown), arrived, "{message:?}");
    }
    for sent in 9..12 {
        assert_eq!(books.message(sent).state(), MessageState::Sent);
        assert_eq!(books.arrivals(sent), 1);
    }

    // The faults are over. What waits is sent, what is not known stays so.
    make_due(&server).await;
    until_over(&client, &campaign).await;
    let later = balanced(&server, &client, &campaign, 12).await;
    for sent in 0..3 {
        assert_eq!(
            outcomes(later.message(sent)),
            [Outcome::Transient, Outcome::Accepted]
        );
    }
    for unchanged in 3..12 {
        assert_eq!(later.message(unchanged), books.message(unchanged));
        assert_eq!(later.arrivals(unchanged), books.arrivals(unchanged));
    }
}

#[tokio::test]
async fn what_is_not_known_is_sent_again_where_that_is_the_policy() {
    use AttemptOutcome as Outcome;
    let server = impatient("resend").await;
    server.sink.set_faults(each(vec![
        (Fault::HangAfterDot(HANG), Some(1)),
        (Fault::CloseAfterDot { keep: true }, Some(1)),
        (Fault::CloseAfterDot { keep: false }, Some(1)),
        (Fault::CloseInData, Some(1)),
    ]));
    let client = tenant(&server, 5).await;
    let campaign = launch(&client, SLIP).await;
    until_tried(&client, &campaign, 4).await;
    let books = balanced(&server, &client, &campaign, 5).await;
    for again in 0..4 {
        let message = books.message(again);
        assert_eq!(outcomes(message), [Outcome::Ambiguous], "{message:?}");
        assert!(waits(message), "{message:?}");
    }

    make_due(&server).await;
    until_over(&client, &campaign).await;
    // `balanced` sees to it that all mails of a message have one Message-ID.
    let books = balanced(&server, &client, &campaign, 5).await;
    for (again, arrived) in [(0, 2), (1, 2), (2, 1), (3, 1)] {
        let message = books.message(again);
        assert_eq!(outcomes(message), [Outcome::Ambiguous, Outcome::Accepted]);
        assert_eq!(books.arrivals(again), arrived, "{message:?}");
    }
    assert_eq!(books.arrivals(4), 1);
}

#[tokio::test]
async fn a_mail_server_that_is_down_is_tried_again() {
    let server = impatient("hold").await;
    let client = tenant(&server, 4).await;
    let down = server.sink.refuse_connections().await.unwrap();
    let campaign = launch(&client, SLIP).await;
    until_tried(&client, &campaign, 4).await;
    let books = balanced(&server, &client, &campaign, 4).await;
    for message in books.ledger.values() {
        assert_eq!(outcomes(message), [AttemptOutcome::Transient]);
        assert!(message.detail.starts_with("CONNECT "), "{message:?}");
        assert!(waits(message), "{message:?}");
    }

    down.end().await.unwrap();
    make_due(&server).await;
    until_figures(&client, &campaign, |m| m.sent == 4).await;
    let books = balanced(&server, &client, &campaign, 4).await;
    assert!((0..4).all(|customer| books.arrivals(customer) == 1));
}

#[tokio::test]
async fn who_withdraws_or_is_blocked_before_sending_gets_nothing() {
    let server = impatient("hold").await;
    let later = Fault::RejectRecipient(reply(450, "4.2.0 come back"));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, later));
    let client = tenant(&server, 4).await;
    let campaign = launch(&client, SLIP).await;
    until_tried(&client, &campaign, 4).await;

    let withdrawn = "customer_number,channel,purpose,state,recorded_at\n\
                     0000,mail,marketing,withdrawn,2026-01-01T10:00:00Z\n";
    import(&client, ImportEntity::Consents, withdrawn).await;
    let blocked = format!("channel,address,reason\nmail,{},complaint\n", address(1));
    import(&client, ImportEntity::Suppressions, blocked).await;
    server.sink.set_faults(Faults::none());
    make_due(&server).await;
    until_over(&client, &campaign).await;

    let books = balanced(&server, &client, &campaign, 4).await;
    for (customer, words) in [(0, "no consent any more"), (1, "the address is blocked")] {
        let message = books.message(customer);
        assert_eq!(message.state(), MessageState::Suppressed, "{message:?}");
        assert_eq!(message.detail, words);
        assert_eq!(message.attempt_count, 1);
        assert_eq!(books.arrivals(customer), 0);
    }
    assert_eq!((books.arrivals(2), books.arrivals(3)), (1, 1));
}

/// All messages are claimed together and handed over eight at a time.
#[tokio::test]
async fn who_withdraws_while_a_batch_is_sent_gets_nothing_more() {
    const MEMBERS: usize = 24;
    let server = TestServer::start_with(Options {
        mail: "timeout_seconds = 600".into(),
        ..Default::default()
    })
    .await
    .unwrap();
    // Until the withdrawals are in.
    let slow = Fault::HangAfterDot(Duration::from_secs(600));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, slow));
    let client = tenant(&server, MEMBERS).await;
    let campaign = launch(&client, SLIP).await;
    until("the first are handed over", async || {
        server.sink.count() > 0
    })
    .await;

    let mut withdrawn = "customer_number,channel,purpose,state,recorded_at\n".to_owned();
    for customer in 0..MEMBERS {
        withdrawn += &format!("{customer:04},mail,marketing,withdrawn,2026-01-01T10:00:00Z\n");
    }
    import(&client, ImportEntity::Consents, withdrawn).await;
    let before = server.sink.count();
    server.sink.set_faults(Faults::none());
    until_over(&client, &campaign).await;

    let books = balanced(&server, &client, &campaign, MEMBERS).await;
    let sent = books.in_state(MessageState::Sent).len();
    let suppressed = books.in_state(MessageState::Suppressed);
    assert_eq!(sent + suppressed.len(), MEMBERS);
    // What was on its way when the withdrawals came in: at most eight of a call, for one call.
    assert!(
        sent <= usize::try_from(before).unwrap() + 8,
        "{sent} after {before}"
    );
    assert!(suppressed.len() >= MEMBERS - 16, "{suppressed:?}");
}

#[tokio::test]
async fn what_comes_back_after_its_launch_was_given_up_is_cancelled() {
    let server = impatient("hold").await;
    let later = Fault::RejectRecipient(reply(450, "4.2.0 come back"));
    server
        .sink
        .set_faults(Faults::none().with(Matching::All, later));
    let client = tenant(&server, 2).await;
    let campaign = launch(&client, SLIP).await;
    until_tried(&client, &campaign, 2).await;
    // As if the launch had been cancelled while these were with the mail server.
    let sql = "UPDATE phase SET state = 'cancelled'; UPDATE offer SET state = 'withdrawn'";
    server
        .database
        .connect()
        .await
        .unwrap()
        .batch_execute(sql)
        .await
        .unwrap();
    server.sink.set_faults(Faults::none());
    make_due(&server).await;
    until_over(&client, &campaign).await;
    let books = balanced(&server, &client, &campaign, 2).await;
    assert_eq!(books.in_state(MessageState::Cancelled).len(), 2);
    assert_eq!(books.arrived.len(), 0);
}

#[tokio::test]
async fn a_launch_waits_for_its_document_store() {
    let server = TestServer::start().await.unwrap();
    let client = tenant(&server, 20).await;
    let (folder, away) = (
        server.documents(),
        server.documents().with_extension("away"),
    );
    std::fs::rename(&folder, &away).unwrap();
    std::fs::write(&folder, "a file where the folder was").unwrap();

    let operation = begin(&client, SLIP).await;
    until("an error that is shown", async || {
        let request = lro::GetOperationRequest {
            name: operation.name.clone(),
        };
        let found = client
            .operations()
            .get_operation(request)
            .await
            .unwrap()
            .into_inner();
        assert!(!found.done, "{found:?}");
        let metadata = OperationMetadata::decode(&found.metadata.unwrap().value[..]).unwrap();
        metadata.phase == "documents"
            && metadata
                .last_errors
                .iter()
                .any(|error| error.contains("document store"))
    })
    .await;
    std::fs::remove_file(&folder).unwrap();
    std::fs::rename(&away, &folder).unwrap();

    let response = launched(&over(&client, &operation.name).await);
    assert_eq!((response.candidates, response.members), (20, 20));
    let campaign = response.campaign.unwrap().name;
    until_figures(&client, &campaign, |m| m.sent == 20).await;
    let books = balanced(&server, &client, &campaign, 20).await;
    assert!((0..20).all(|customer| books.arrivals(customer) == 1));
}
