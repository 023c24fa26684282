//! What comes back by mail, through a real mail server: postfix takes mails and bounces them,
//! dovecot keeps them and is read by IMAP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/cargo.rs"]
mod cargo;
#[path = "support/hosting.rs"]
mod hosting;
#[path = "support/kinds.rs"]
mod kinds;
#[path = "support/mail_world.rs"]
mod mail_world;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anklang_channels::proto::delivery_event::State;
use anklang_channels::proto::{
    DeliveryEvent, Header, InboundEvent, MailContent, Message, Party, SendRequest, message,
};
use anklang_channels::{Events, Instance, Isolation, Plugin, PluginEvent};
use kinds::kinds;
use mail_world::{PASSWORD, World, until};
use serde_json::{Value, json};

const OUTREACH: &str = "outreach@send.test";
const PATIENCE: Duration = Duration::from_secs(120);

fn plugin() -> Plugin {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let library = BUILT.get_or_init(|| cargo::cdylib("anklang-plugin-mail"));
    Plugin::load_with(library, None, hosting::hosting(Isolation::Process)).unwrap()
}

/// An account that sends with STARTTLS and reads its mailbox with TLS, each with a login.
fn config(world: &World) -> Value {
    json!({
        "host": "localhost", "port": world.submission(), "ca_file": world.authority(),
        "username": OUTREACH, "password": PASSWORD, "connections": 1,
        "return_path": "outreach+{id}@send.test",
        "notify": ["success", "failure"],
        "bounces": {
            "host": "localhost", "port": world.imaps(), "ca_file": world.authority(),
            "username": OUTREACH, "password": PASSWORD,
            "unsubscribe": "outreach+off-{id}@send.test",
        },
    })
}

async fn open(config: &Value) -> (Instance, Events) {
    let instance = plugin().open(config).await.unwrap();
    let events = instance.events().unwrap();
    (instance, events)
}

fn mail(to: &str) -> Message {
    let party = |address: &str| {
        Some(Party {
            address: address.to_owned(),
            name: String::new(),
        })
    };
    Message {
        message_id: uuid::Uuid::now_v7().to_string(),
        attempt: 1,
        recipient: party(to),
        sender: party(OUTREACH),
        reply_to: String::new(),
        content: Some(message::Content::Mail(MailContent {
            subject: "Ihr Angebot".to_owned(),
            text: "Guten Tag".to_owned(),
            headers: vec![Header {
                name: "List-Unsubscribe".to_owned(),
                value: "<https://anklang.example/u>".to_owned(),
            }],
            ..MailContent::default()
        })),
    }
}

/// Sends a mail that is taken, and returns its id.
async fn sent(instance: &Instance, to: &str) -> String {
    let message = mail(to);
    let id = message.message_id.clone();
    let request = SendRequest {
        messages: vec![message],
        traceparent: String::new(),
    };
    let outcomes = instance.send(request).await.unwrap();
    assert_eq!(kinds(&outcomes), ["accepted"], "{outcomes:?}");
    id
}

async fn next(events: &mut Events) -> PluginEvent {
    let next = tokio::time::timeout(PATIENCE, events.deliveries.recv()).await;
    next.expect("an event comes").expect("the instance is open")
}

async fn delivery(events: &mut Events) -> DeliveryEvent {
    match next(events).await {
        PluginEvent::Delivery(event) => event,
        PluginEvent::Inbound(event) => panic!("{event:?}"),
    }
}

async fn inbound(events: &mut Events) -> InboundEvent {
    match next(events).await {
        PluginEvent::Inbound(event) => event,
        PluginEvent::Delivery(event) => panic!("{event:?}"),
    }
}

async fn close(instance: Instance) {
    instance.drain(Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_is_told_until_it_is_acknowledged() {
    let Some(world) = World::start() else { return };
    let config = config(&world);
    let (instance, mut events) = open(&config).await;
    let id = sent(&instance, "nobody@recv.test").await;
    let told = delivery(&mut events).await;
    assert_eq!((told.state(), &told.message_id), (State::Bounced, &id));
    assert_eq!(told.code, "5.1.1");
    assert!(told.detail.contains("5.1.1"), "{}", told.detail);
    assert_ne!(told.event_id, 0);

    // The host dies before it acknowledges: the mail is where it was, and told again.
    close(instance).await;
    drop(events);
    assert_eq!(world.mails(OUTREACH, "").len(), 1);
    let (instance, mut events) = open(&config).await;
    let again = delivery(&mut events).await;
    assert_eq!((again.state(), &again.message_id), (State::Bounced, &id));
    assert_ne!(again.event_id, told.event_id);
    // That it had acknowledged the first one says nothing of the second.
    instance.acknowledge(vec![told.event_id]).await.unwrap();
    assert_eq!(world.mails(OUTREACH, "").len(), 1);
    instance.acknowledge(vec![again.event_id]).await.unwrap();
    let done = world.mails_when(OUTREACH, "Anklang-Done", 1);
    assert!(
        done[0].contains(&format!("Original-Envelope-Id: {id}")),
        "{}",
        done[0]
    );
    world.mails_when(OUTREACH, "", 0);
    close(instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_put_away_before_the_account_closes() {
    let Some(world) = World::start() else { return };
    let (instance, mut events) = open(&config(&world)).await;
    for _ in 0..3 {
        sent(&instance, "nobody@recv.test").await;
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(delivery(&mut events).await.event_id);
    }
    instance.acknowledge(ids).await.unwrap();
    close(instance).await;
    assert_eq!(world.mails(OUTREACH, "Anklang-Done").len(), 3);
    assert!(world.mails(OUTREACH, "").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_comes_back_is_told_apart() {
    let Some(world) = World::start() else { return };
    // TLS from the first byte to send, STARTTLS to read.
    let mut config = config(&world);
    config["tls"] = "implicit".into();
    config["port"] = world.smtps().into();
    config["bounces"]["tls"] = "starttls".into();
    config["bounces"]["port"] = world.imap().into();
    let (instance, mut events) = open(&config).await;

    let id = sent(&instance, "alice@recv.test").await;
    // Behind dovecot nobody reports: it was passed on, and more is not known.
    let told = delivery(&mut events).await;
    let unknown = (State::Unspecified, &id);
    assert_eq!((told.state(), &told.message_id), unknown);
    assert!(told.detail.starts_with("relayed: "), "{}", told.detail);
    let arrived = world.mails_when("alice@recv.test", "", 1).remove(0);
    assert!(
        arrived.starts_with(&format!("Return-Path: <outreach+{id}@send.test>")),
        "{arrived}"
    );
    let unfolded = arrived.replace("\r\n", "\n").replace("\n ", " ");
    let by_mail = format!("<mailto:outreach+off-{id}@send.test?subject=unsubscribe>");
    assert!(unfolded.contains(&by_mail), "{arrived}");

    let to_carl = sent(&instance, "carl@recv.test").await;
    let delivered = delivery(&mut events).await;
    let expected = (State::Delivered, &to_carl);
    assert_eq!((delivered.state(), &delivered.message_id), expected);

    // She answers, her machine does so as well, and then she wants no more.
    let machine =
        "From: alice@recv.test\nAuto-Submitted: auto-replied\nSubject: Abwesend\n\nBis Montag.\n";
    world.deliver("alice@recv.test", OUTREACH, machine);
    let answer = format!(
        "From: Alice <alice@recv.test>\nTo: {OUTREACH}\nSubject: Re: Ihr Angebot\n\
         Message-ID: <answer@recv.test>\nIn-Reply-To: <{id}@send.test>\n\
         Content-Type: text/plain; charset=utf-8\n\nGerne, für 2 Jahre.\n.\n"
    );
    world.deliver("alice@recv.test", OUTREACH, &answer);
    let told_answer = inbound(&mut events).await;
    assert_eq!(told_answer.in_reply_to_message_id, id);
    assert_eq!(told_answer.subject, "Re: Ihr Angebot");
    assert_eq!(
        told_answer.text.replace("\r\n", "\n").trim_end(),
        "Gerne, für 2 Jahre.\n."
    );
    assert_eq!(told_answer.sender.unwrap().address, "alice@recv.test");
    assert_eq!(told_answer.provider_message_id, "answer@recv.test");
    let off = format!("outreach+off-{id}@send.test");
    let withdrawal = format!("From: alice@recv.test\nTo: {off}\nSubject: unsubscribe\n\n");
    world.deliver("alice@recv.test", &off, &withdrawal);
    let told_off = delivery(&mut events).await;
    assert_eq!(
        (told_off.state(), &told_off.message_id),
        (State::Unsubscribed, &id)
    );

    let complaint = format!(
        "From: <abuse@isp.test>\nTo: {OUTREACH}\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nAn abuse report.\n\
         --b\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\
         Original-Mail-From: <outreach+{id}@send.test>\n\n--b--\n"
    );
    world.deliver("abuse@isp.test", OUTREACH, &complaint);
    let told_complaint = delivery(&mut events).await;
    assert_eq!(
        (told_complaint.state(), &told_complaint.message_id),
        (State::Complained, &id)
    );

    // The machine's mail needed nobody's acknowledgement.
    let done = world.mails_when(OUTREACH, "Anklang-Done", 1);
    assert!(done[0].contains("Bis Montag."));
    let acknowledged = [
        told.event_id,
        delivered.event_id,
        told_answer.event_id,
        told_off.event_id,
        told_complaint.event_id,
    ];
    instance.acknowledge(acknowledged.to_vec()).await.unwrap();
    world.mails_when(OUTREACH, "Anklang-Done", 6);
    assert!(world.mails(OUTREACH, "Anklang-Aside").is_empty());
    close(instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_moved_aside_and_holds_nobody_up() {
    let Some(world) = World::start() else { return };
    let (instance, mut events) = open(&config(&world)).await;
    let id = sent(&instance, "nobody@recv.test").await;
    let first = delivery(&mut events).await;
    assert_eq!(first.message_id, id);

    let foreign = "From: <>\nMIME-Version: 1.0\n\
        Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
        --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx\n\n\
        Final-Recipient: rfc822; x@example.org\nAction: failed\nStatus: 5.0.0\n\n--b--\n";
    let large = [b"Subject: \r\n\r\n".to_vec(), vec![b'x'; 3_000_000]].concat();
    let laid: [(&str, &[u8]); 6] = [
        ("1.empty", b""),
        ("2.noise", &[0, 255, 13, 10, 128, 0]),
        ("3.lines", b"\r\n\r\n\r\n"),
        ("4.foreign", foreign.as_bytes()),
        (
            "5.broken",
            b"Content-Type: multipart/report; boundary=\r\n\r\n--\r\n",
        ),
        ("6.large", &large),
    ];
    for (name, bytes) in laid {
        world.lay(name, bytes);
    }
    // Behind all of them.
    let second = sent(&instance, "nobody@recv.test").await;
    let told = delivery(&mut events).await;
    assert_eq!((told.state(), told.message_id), (State::Bounced, second));
    until("six mails that nobody waits for", || {
        let aside = world.mails(OUTREACH, "Anklang-Aside").len();
        let done = world.mails(OUTREACH, "Anklang-Done").len();
        (aside + done == 6 && aside >= 4).then_some(())
    });
    instance
        .acknowledge(vec![first.event_id, told.event_id])
        .await
        .unwrap();
    world.mails_when(OUTREACH, "", 0);
    close(instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_that_cannot_be_read_keeps_nobody_from_sending() {
    let Some(world) = World::start() else { return };
    let mut config = config(&world);
    // Its certificate is for another name.
    config["bounces"]["host"] = "127.0.0.1".into();
    let (instance, events) = open(&config).await;
    sent(&instance, "alice@recv.test").await;
    world.mails_when("alice@recv.test", "", 1);
    let mut detail = String::new();
    for _ in 0..1200 {
        detail = instance.health().await.unwrap().detail;
        if detail.contains("TLS") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(detail.contains("mailbox: TLS"), "{detail}");
    close(instance).await;
    drop(events);
}
