//! The recording mail server, seen by a client that speaks raw SMTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anklang_local::smtp::{Fault, Faults, Matching, Reply, Sink, SinkOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const MAIL: &str = "Message-ID: <1@test.example>\r\nSubject: x\r\n\r\nHello\r\n";
const SHORT: Duration = Duration::from_millis(150);
/// More than any of this takes.
const LONG: Duration = Duration::from_secs(120);

struct Client(BufReader<TcpStream>);

impl Client {
    /// Connects and says hello.
    async fn new(sink: &Sink) -> Self {
        let mut client = Self::silent(sink).await;
        assert_eq!(client.say("EHLO test").await, 250);
        client
    }

    async fn silent(sink: &Sink) -> Self {
        let stream = TcpStream::connect(sink.addr()).await.unwrap();
        let mut client = Self(BufReader::new(stream));
        assert_eq!(client.reply().await.0, 220);
        client
    }

    async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Code and text of the next reply; code 0 if the server has hung up.
    async fn reply(&mut self) -> (u16, String) {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                return (0, all);
            }
            all.push_str(&line);
            if line.as_bytes()[3] == b' ' {
                return (line[..3].parse().unwrap(), all);
            }
        }
    }

    async fn say(&mut self, command: &str) -> u16 {
        self.write(format!("{command}\r\n")).await;
        self.reply().await.0
    }

    /// Up to and including DATA; the reply of the first command that is not accepted.
    async fn envelope(&mut self, to: &str) -> u16 {
        for command in ["MAIL FROM:<from@test.example>", &format!("RCPT TO:<{to}>")] {
            let code = self.say(command).await;
            if code != 250 {
                return code;
            }
        }
        self.say("DATA").await
    }

    /// A whole mail; the last reply.
    async fn send(&mut self, to: &str) -> u16 {
        let code = self.envelope(to).await;
        if code != 354 {
            return code;
        }
        self.write(format!("{MAIL}.\r\n")).await;
        self.reply().await.0
    }
}

async fn sink() -> Sink {
    Sink::start(SinkOptions::default()).await.unwrap()
}

async fn faulty(faults: Faults) -> Sink {
    let options = SinkOptions {
        faults,
        ..SinkOptions::default()
    };
    Sink::start(options).await.unwrap()
}

#[tokio::test]
async fn records_exactly_what_was_meant() {
    let sink = sink().await;
    let mut client = Client::silent(&sink).await;
    client.write("EHLO test\r\n").await;
    let (_, hello) = client.reply().await;
    for word in [
        "PIPELINING",
        "8BITMIME",
        "SIZE 33554432",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    ] {
        assert!(hello.contains(word), "{hello}");
    }
    assert_eq!(
        client.say("MAIL FROM:<a@test.example> BODY=8BITMIME").await,
        250
    );
    assert_eq!(client.say("RCPT TO:<b@test.example>").await, 250);
    assert_eq!(client.say("RCPT TO:<c@test.example>").await, 250);
    assert_eq!(client.say("DATA").await, 354);
    client
        .write(b"message-id:\r\n\t<7@x>\r\n\r\n..\r\n...two\r\n.x\r\n\xc3\xa4\xff\r\n.\r\n")
        .await;
    assert_eq!(client.reply().await.0, 250);
    // A second one over the same connection; a bounce has no sender.
    assert_eq!(client.say("MAIL FROM:<>").await, 250);
    assert_eq!(client.say("RCPT TO:<d@test.example>").await, 250);
    assert_eq!(client.say("DATA").await, 354);
    client.write(".\r\n").await;
    assert_eq!(client.reply().await.0, 250);
    assert_eq!(client.say("QUIT").await, 221);
    assert_eq!(client.reply().await.0, 0);

    sink.wait_for(2, LONG).await.unwrap();
    let mails = sink.received();
    assert_eq!(
        mails[0].data,
        b"message-id:\r\n\t<7@x>\r\n\r\n.\r\n..two\r\nx\r\n\xc3\xa4\xff\r\n"
    );
    assert_eq!(mails[0].message_id.as_deref(), Some("<7@x>"));
    assert_eq!(mails[0].mail_from, "a@test.example");
    assert_eq!(mails[0].rcpt_to, ["b@test.example", "c@test.example"]);
    assert_eq!(mails[0].connection, 1);
    assert_eq!(mails[1].mail_from, "");
    assert_eq!(mails[1].data, b"");
    assert_eq!((sink.count(), sink.connections()), (2, 1));
    let error = sink.wait_for(3, SHORT).await.unwrap_err();
    assert!(format!("{error:#}").contains("2 of 3"), "{error:#}");
}

#[tokio::test]
async fn pipelining() {
    let sink = sink().await;
    let mut client = Client::new(&sink).await;
    let one = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n";
    client.write(one).await;
    for code in [250, 250, 354] {
        assert_eq!(client.reply().await.0, code);
    }
    client.write(format!("{MAIL}.\r\n{one}")).await;
    for code in [250, 250, 250, 354] {
        assert_eq!(client.reply().await.0, code);
    }
    client.write(format!("{MAIL}.\r\nQUIT\r\n")).await;
    for code in [250, 221, 0] {
        assert_eq!(client.reply().await.0, code);
    }
    assert_eq!(sink.count(), 2);
}

#[tokio::test]
async fn no_mail_can_be_smuggled_in() {
    let sink = sink().await;
    let mut client = Client::new(&sink).await;
    for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r\r\n"] {
        assert_eq!(client.envelope("b@x.example").await, 354);
        client
            .write(format!("Hello{end}MAIL FROM:<evil@x.example>\r\n.\r\n"))
            .await;
        assert_eq!(client.reply().await.0, 550, "{end:?}");
        assert_eq!(client.say("NOOP").await, 250, "in step after {end:?}");
    }
    client.write("NOOP\nNOOP\r\n").await;
    assert_eq!(client.reply().await.0, 500);
    assert_eq!(client.send("b@x.example").await, 250);
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn limits_and_order() {
    let options = SinkOptions {
        max_bytes: 100,
        ..SinkOptions::default()
    };
    let sink = Sink::start(options).await.unwrap();
    let mut client = Client::silent(&sink).await;
    assert_eq!(client.say("MAIL FROM:<a@x.example>").await, 503);
    assert_eq!(client.say("EHLO test").await, 250);
    assert_eq!(client.say("RCPT TO:<b@x.example>").await, 503);
    assert_eq!(client.say("DATA").await, 503);
    assert_eq!(client.say("MAIL FROM:<a@x.example> SIZE=101").await, 552);
    assert_eq!(client.say("MAIL FROM:<a@x.example> FOO=1").await, 555);
    assert_eq!(client.say("MAIL FROM:<ä@x.example>").await, 553);
    assert_eq!(client.say("MAIL FROM:a@x.example").await, 501);
    assert_eq!(client.say("STARTTLS").await, 502);
    assert_eq!(client.say(&"X".repeat(9999)).await, 500);
    assert_eq!(
        client
            .say("MAIL FROM:<ä@x.example> SMTPUTF8 SIZE=100")
            .await,
        250
    );
    assert_eq!(client.say("DATA").await, 554);
    assert_eq!(client.say("RCPT TO:<>").await, 501);
    assert_eq!(client.say("RSET").await, 250);
    for (body, code) in [
        ("x".repeat(99), 552),
        (format!("{0}\r\n{0}", "x".repeat(60)), 552),
        ("x".repeat(98), 250),
    ] {
        assert_eq!(client.envelope("b@x.example").await, 354);
        client.write(format!("{body}\r\n.\r\n")).await;
        assert_eq!(client.reply().await.0, code);
    }
    assert_eq!(sink.received()[0].data.len(), 100);
    assert_eq!(sink.count(), 1);
}

#[tokio::test]
async fn a_folder_takes_the_mails() {
    let room = tempfile::tempdir().unwrap();
    let folder = room.path().join("mails");
    for run in 1..=2_usize {
        let options = SinkOptions {
            folder: Some(folder.clone()),
            ..SinkOptions::default()
        };
        let sink = Sink::start(options).await.unwrap();
        let mut client = Client::new(&sink).await;
        assert_eq!(client.send("b@x.example").await, 250);
        let mail = &sink.received()[0];
        let path = mail.path.clone().unwrap();
        assert_eq!(path, folder.join(format!("{run:08}.eml")));
        assert!(mail.data.is_empty(), "not in memory");
        assert_eq!(mail.message_id.as_deref(), Some("<1@test.example>"));
        assert_eq!(std::fs::read_to_string(path).unwrap(), MAIL);
        sink.stop().await;
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
}

#[tokio::test]
async fn refusals() {
    let faults = Faults::none()
        .with(
            Matching::Recipient("UNKNOWN".into()),
            Fault::RejectRecipient(Reply::new(550, "5.1.1 unknown\r\n250 fine")),
        )
        .with_times(
            Matching::Recipient("grey".into()),
            Fault::RejectRecipient(Reply::new(451, "4.7.1 later")),
            1,
        )
        .with(
            Matching::Recipient("spam".into()),
            Fault::RejectMail(Reply::new(554, "5.7.1 no")),
        );
    let sink = faulty(faults).await;
    let mut client = Client::new(&sink).await;
    assert_eq!(client.say("MAIL FROM:<a@x.example>").await, 250);
    client.write("RCPT TO:<unknown@x.example>\r\n").await;
    let expected = "550 5.1.1 unknown  250 fine\r\n".to_owned();
    assert_eq!(client.reply().await, (550, expected));
    assert_eq!(client.say("RCPT TO:<grey@x.example>").await, 451);
    assert_eq!(client.say("DATA").await, 554);
    assert_eq!(client.say("RCPT TO:<grey@x.example>").await, 250);
    assert_eq!(client.say("DATA").await, 354);
    client.write(".\r\n").await;
    assert_eq!(client.reply().await.0, 250);
    assert_eq!(client.send("spam@x.example").await, 554);
    assert_eq!(client.send("fine@x.example").await, 250);
    let to: Vec<_> = sink
        .received()
        .into_iter()
        .flat_map(|m| m.rcpt_to)
        .collect();
    assert_eq!(to, ["grey@x.example", "fine@x.example"]);

    sink.set_faults(Faults::none());
    assert_eq!(client.send("spam@x.example").await, 250);
}

#[tokio::test]
async fn the_nth_mail() {
    let reply = Reply::new(452, "4.3.1 full");
    let sink = faulty(Faults::none().with(Matching::Mail(2), Fault::RejectMail(reply))).await;
    for code in [250, 452, 250] {
        assert_eq!(Client::new(&sink).await.send("b@x.example").await, code);
    }
    assert_eq!((sink.count(), sink.connections()), (2, 3));
}

#[tokio::test]
async fn hanging() {
    for (fault, at_least) in [
        (Fault::HangBeforeData(SHORT), SHORT),
        (Fault::Slow(SHORT), SHORT),
        (Fault::HangAfterDot(SHORT), SHORT),
        // These end when the faults are replaced.
        (Fault::HangBeforeData(LONG), Duration::ZERO),
        (Fault::Slow(LONG), Duration::ZERO),
        (Fault::HangAfterDot(LONG), Duration::ZERO),
    ] {
        let sink = faulty(Faults::none().with(Matching::All, fault.clone())).await;
        let mut client = Client::new(&sink).await;
        let start = Instant::now();
        let dialogue = async {
            assert_eq!(client.envelope("b@x.example").await, 354);
            client.write(format!("{MAIL}.\r\n")).await;
            assert_eq!(client.reply().await.0, 250);
        };
        if at_least.is_zero() {
            tokio::pin!(dialogue);
            let waited = tokio::time::timeout(SHORT, &mut dialogue).await;
            assert!(waited.is_err(), "it hangs");
            if let Fault::HangAfterDot(_) = fault {
                tokio::select! {
                    () = &mut dialogue => panic!("it hangs"),
                    recorded = sink.wait_for(1, LONG) => recorded.unwrap(),
                }
            } else {
                assert_eq!(sink.count(), 0);
            }
            sink.set_faults(Faults::none());
            dialogue.await;
        } else {
            dialogue.await;
            assert!(start.elapsed() >= at_least);
        }
        assert_eq!(sink.count(), 1);
    }
}

#[tokio::test]
async fn hanging_up() {
    for (fault, kept) in [
        (Fault::CloseInData, 0),
        (Fault::CloseAfterDot { keep: false }, 0),
        (Fault::CloseAfterDot { keep: true }, 1),
    ] {
        let sink = faulty(Faults::none().with_times(Matching::All, fault, 1)).await;
        let mut client = Client::new(&sink).await;
        assert_eq!(client.send("b@x.example").await, 0);
        assert_eq!(sink.count(), kept);
        let mut client = Client::new(&sink).await;
        assert_eq!(
            client.send("b@x.example").await,
            250,
            "the fault is used up"
        );
        assert_eq!(sink.count(), kept + 1);
    }
}

#[tokio::test]
async fn down_for_a_while() {
    let sink = sink().await;
    let mut open = Client::new(&sink).await;
    let down = sink.refuse_connections().await.unwrap();
    let error = TcpStream::connect(sink.addr()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(open.say("NOOP").await, 250, "open connections stay");
    down.end().await.unwrap();
    assert_eq!(Client::new(&sink).await.send("b@x.example").await, 250);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_and_stop() {
    let sink = Arc::new(sink().await);
    let addr = sink.addr();
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let sink = Arc::clone(&sink);
        clients.spawn(async move {
            let mut client = Client::new(&sink).await;
            for _ in 0..10 {
                assert_eq!(client.send("b@x.example").await, 250);
            }
            client
        });
    }
    sink.wait_for(200, Duration::from_secs(10)).await.unwrap();
    let open = clients.join_all().await;
    assert_eq!((sink.count(), sink.connections()), (200, 20));
    Arc::into_inner(sink).unwrap().stop().await;
    for mut client in open {
        let read = client.0.read(&mut [0]).await.unwrap_or(0);
        assert_eq!(read, 0, "closed");
    }
    assert!(TcpStream::connect(addr).await.is_err());
}
