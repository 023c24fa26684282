use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::super::config::MessageIds;
use super::super::parts::Meaning;
use super::*;

/// The other side of a session, and what runs ours.
struct Centre {
    stream: DuplexStream,
    running: JoinHandle<Ended>,
}

const PATIENCE: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(600);

fn session(window: usize) -> (Arc<Session>, Arc<Book>, Centre) {
    // Room for two small PDUs: what is not read stays unwritten.
    let (ours, stream) = duplex(32);
    let book = Arc::new(Book::new(MessageIds::Same));
    let (inbox, _) = Inbox::channel();
    let times = (LONG, PATIENCE);
    let (session, driver) = Session::new(ours, window, times, Arc::clone(&book), inbox);
    let running = tokio::spawn(driver.run());
    (session, book, Centre { stream, running })
}

impl Centre {
    /// The command and the number of the next PDU.
    async fn read(&mut self) -> (u32, u32) {
        let mut header = [0; pdu::HEADER];
        self.stream
            .read_exact(&mut header)
            .await
            .expect("a PDU comes");
        let at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four"));
        let mut rest = vec![0; at(0) as usize - pdu::HEADER];
        self.stream.read_exact(&mut rest).await.expect("all of it");
        (at(4), at(12))
    }

    /// Answers a submit_sm.
    async fn take(&mut self, sequence: u32, id: &str) {
        let length = u32::try_from(pdu::HEADER + id.len() + 1).expect("short");
        let header = [length, 0x8000_0004, 0, sequence];
        let mut frame: Vec<u8> = header.iter().flat_map(|one| one.to_be_bytes()).collect();
        frame.extend(id.bytes().chain([0]));
        self.stream.write_all(&frame).await.expect("is read");
    }
}

fn submit(session: &Arc<Session>, ticket: Option<Ticket>) -> JoinHandle<Settled> {
    let session = Arc::clone(session);
    tokio::spawn(async move { session.request(pdu::enquire_link, ticket, PATIENCE).await })
}

fn lost(settled: Settled) -> bool {
    match settled {
        Err(Failure::Unanswered(_)) => true,
        Err(Failure::NotSent(_)) => false,
        Ok(answer) => panic!("{answer:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_was_written_is_in_doubt() {
    let (session, _, centre) = session(10);
    let requests: Vec<_> = (0..3).map(|_| submit(&session, None)).collect();
    // Their PDUs are written as soon as there is room: the first lot at once.
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let late = submit(&session, None);
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(centre.stream);
    for request in requests {
        assert!(lost(request.await.expect("ends")));
    }
    // It never left the queue, because the lot before it did not fit.
    assert!(!lost(late.await.expect("ends")));
    let ended = centre.running.await.expect("ends");
    assert_eq!(ended.unanswered, 3);
    assert!(!session.is_open());
    assert!(!lost(
        session.request(pdu::enquire_link, None, PATIENCE).await
    ));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_before_it_is_written_never_is() {
    let (session, _, mut centre) = session(10);
    let first: Vec<_> = (0..3).map(|_| submit(&session, None)).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let late = submit(&session, None);
    for request in first {
        assert!(lost(request.await.expect("ends")), "no answer in time");
    }
    assert!(!lost(late.await.expect("ends")));
    let newest = submit(&session, None);
    let mut numbers = Vec::new();
    for _ in 0..4 {
        numbers.push(centre.read().await.1);
    }
    assert_eq!(numbers, [1, 2, 3, 5]);
    centre.take(5, "").await;
    assert!(newest.await.expect("ends").is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_still_names_the_message() {
    let (session, book, mut centre) = session(10);
    let ticket = book.open("ours", 1);
    let request = submit(&session, Some(ticket));
    let (_, sequence) = centre.read().await;
    assert!(lost(request.await.expect("ends")));
    centre.take(sequence, "m-1").await;
    let asked = submit(&session, None);
    let (_, sequence) = centre.read().await;
    centre.take(sequence, "").await;
    assert!(asked.await.expect("ends").is_ok());
    let state = anklang_plugin_sdk::delivery_event::State::Delivered;
    let expected = Meaning::Tell {
        message_id: "ours".to_owned(),
        provider_message_id: "m-1".to_owned(),
    };
    assert_eq!(book.ended("m-1", state), expected);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_left_when_the_answer_is_there() {
    let (session, _, _centre) = session(1);
    let deadline = Instant::now() + PATIENCE;
    let place = session.place(deadline).await.expect("open");
    assert!(place.is_some());
    assert!(session.place(deadline).await.expect("open").is_none());
    drop(place);
    assert!(session.place(deadline).await.expect("open").is_some());
    session.close();
    assert!(session.place(deadline).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_understood_is_answered_and_what_is_no_smpp_ends_the_session() {
    let (_session, _, mut centre) = session(1);
    let unknown = [0, 0, 0, 16, 0, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 9];
    centre.stream.write_all(&unknown).await.expect("is read");
    assert_eq!(centre.read().await, (0x8000_0000, 9));
    let enquiry = [0, 0, 0, 16, 0, 0, 0, 0x15, 0, 0, 0, 0, 0, 0, 0, 10];
    centre.stream.write_all(&enquiry).await.expect("is read");
    assert_eq!(centre.read().await, (0x8000_0015, 10));
    centre
        .stream
        .write_all(b"HTTP/1.1 400 Bad Request")
        .await
        .expect("is read");
    let ended = centre.running.await.expect("ends");
    assert!(!ended.why.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_centre_that_takes_leave_is_answered() {
    let (session, _, mut centre) = session(1);
    let unbind = [0, 0, 0, 16, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 3];
    centre.stream.write_all(&unbind).await.expect("is read");
    assert_eq!(centre.read().await, (0x8000_0006, 3));
    drop(centre.stream);
    let ended = centre.running.await.expect("ends");
    assert_eq!(ended.why, "the centre took its leave");
    assert!(!session.is_open());
}
