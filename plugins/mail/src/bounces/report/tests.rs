use proptest::prelude::*;

use super::*;

const ID: &str = "0197a2b4-7c1e-7d00-8000-00000000abcd";

fn addresses() -> Addresses {
    Addresses {
        return_path: Tagged::parse("bounces+{id}@stadtwerk.example").ok(),
        unsubscribe: Tagged::parse("abmelden+{id}@stadtwerk.example").ok(),
    }
}

/// 2026-11-22, 12:00 UTC.
fn received() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_348_800)
}

fn news(mail: &str) -> News {
    let mail = mail.replace("\r\n", "\n").replace('\n', "\r\n");
    read(mail.as_bytes(), received(), &addresses())
}

/// State, message, code and detail.
fn delivery(mail: &str) -> (State, String, String, String) {
    match news(mail) {
        News::Delivery(e) => (e.state(), e.message_id, e.code, e.detail),
        other => panic!("{other:?}"),
    }
}

fn answer(mail: &str) -> InboundEvent {
    match news(mail) {
        News::Inbound(event) => event,
        other => panic!("{other:?}"),
    }
}

/// As Postfix writes them.
fn report(to: &str, envelope: &str, recipients: &str, returned: &str) -> String {
    format!(
        "Return-Path: <>\nFrom: MAILER-DAEMON@mx.example (Mail Delivery System)\nTo: {to}\n\
         Subject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied\n\
         MIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=delivery-status;\n\tboundary=\"b/1\"\n\n\
         This is a MIME-encapsulated message.\n\n--b/1\nContent-Description: Notification\n\
         Content-Type: text/plain; charset=us-ascii\n\nI'm sorry.\n\n\
         --b/1\nContent-Description: Delivery report\nContent-Type: message/delivery-status\n\n\
         Reporting-MTA: dns; mx.example\nX-Postfix-Queue-ID: 4Zx\n{envelope}\
         Arrival-Date: Sun, 22 Nov 2026 11:00:00 +0000 (UTC)\n\n{recipients}\n\
         --b/1\nContent-Description: Undelivered Message Headers\n\
         Content-Type: text/rfc822-headers\n\n{returned}\n--b/1--\n"
    )
}

const FAILED: &str = "Final-Recipient: rfc822; erika@example.org\nAction: failed\nStatus: 5.1.1\n\
    Last-Attempt-Date: Sun, 22 Nov 2026 11:30:00 +0000\n\
    Diagnostic-Code: smtp; 550 5.1.1 <erika@example.org>: Recipient address\n    rejected\n";

fn plain() -> &'static str {
    "angebote@stadtwerk.example"
}

#[test]
fn a_bounce_is_known_by_each_of_its_three_marks() {
    let by_envelope = report(
        plain(),
        &format!("Original-Envelope-Id: {ID}\n"),
        FAILED,
        "Subject: x",
    );
    let tagged = format!("bounces+{}@stadtwerk.example", ID.to_ascii_uppercase());
    let by_address = report(&tagged, "", FAILED, "Subject: x");
    let returned = format!("Message-ID: <{ID}@stadtwerk.example>\nSubject: x");
    let by_header = report(plain(), "Original-Envelope-Id: other\n", FAILED, &returned);
    let whole = by_header.replace("text/rfc822-headers", "message/rfc822");
    for mail in [&by_envelope, &by_address, &by_header, &whole] {
        let (state, id, code, detail) = delivery(mail);
        assert_eq!((state, &id[..], &code[..]), (State::Bounced, ID, "5.1.1"));
        let said = "550 5.1.1 <erika@example.org>: Recipient address rejected";
        assert_eq!(detail, said);
    }
    let News::Delivery(event) = news(&by_envelope) else {
        panic!("no event");
    };
    let at = event.occurred_at.map(|at| at.seconds);
    assert_eq!(at, Some(1_795_348_800 - 1800));
}

#[test]
fn reports_tell_success_and_delay_as_well() {
    let envelope = format!("Original-Envelope-Id: {ID}\n");
    let states = [
        ("delivered", State::Delivered),
        ("Failed", State::Bounced),
        ("delayed", State::Unspecified),
        ("relayed", State::Unspecified),
        ("expanded", State::Unspecified),
    ];
    for (action, state) in states {
        let recipient = FAILED.replace("failed", action);
        let told = delivery(&report(plain(), &envelope, &recipient, "Subject: x"));
        assert_eq!((told.0, &told.1[..]), (state, ID), "{action}");
        assert_eq!(told.3.starts_with(action), state == State::Unspecified);
    }
    // Behind one address may be several: that it failed for one counts.
    let both = format!("{}\n{FAILED}", FAILED.replace("failed", "delivered"));
    let told = delivery(&report(plain(), &envelope, &both, "Subject: x"));
    assert_eq!(told.0, State::Bounced);
    // From the future, nobody believes.
    let future = FAILED.replace("2026 11:30", "2027 11:30");
    let News::Delivery(event) = news(&report(plain(), &envelope, &future, "Subject: x")) else {
        panic!("no event");
    };
    assert_eq!(event.occurred_at, Some(received().into()));
}

#[test]
fn reports_of_no_message_of_ours_are_for_a_person() {
    let foreign = report(plain(), "", FAILED, "Message-ID: <1@example.com>");
    assert!(matches!(news(&foreign), News::Unreadable(_)));
    let silent = report(
        plain(),
        &format!("Original-Envelope-Id: {ID}\n"),
        "",
        "Subject: x",
    );
    assert!(matches!(news(&silent), News::Unreadable(_)));
}

#[test]
fn a_bounce_of_exim_is_known_by_its_recipients() {
    let mail = |to: &str, more: &str| {
        format!(
            "From: Mail Delivery System <Mailer-Daemon@mx.example>\nTo: {to}\n\
             X-Failed-Recipients: erika@example.org\nAuto-Submitted: auto-replied\n{more}\
             Subject: Mail delivery failed\n\nThis message was created automatically.\n"
        )
    };
    let tagged = format!("bounces+{ID}@stadtwerk.example");
    assert_eq!(delivery(&mail(&tagged, "")).1, ID);
    let references = format!("References: <{ID}@stadtwerk.example>\n");
    let told = delivery(&mail(plain(), &references));
    assert_eq!((told.0, &told.1[..]), (State::Bounced, ID));
    assert!(matches!(news(&mail(plain(), "")), News::Unreadable(_)));
}

fn complaint(kind: &str, fields: &str, returned: &str) -> String {
    format!(
        "From: <abuse@isp.example>\nTo: {}\nSubject: FW: Ihr Angebot\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nThis is an email abuse report.\n\
         --b\nContent-Type: message/feedback-report\n\nFeedback-Type: {kind}\n\
         User-Agent: SomeGenerator/1.0\nVersion: 1\n{fields}\
         --b\nContent-Type: message/rfc822\n\nFrom: <{}>\n{returned}Subject: Ihr Angebot\n\n\
         Guten Tag\n--b--\n",
        plain(),
        plain(),
    )
}

#[test]
fn complaints_name_their_message() {
    let sender = format!("Original-Mail-From: <bounces+{ID}@stadtwerk.example>\n");
    let returned = format!("Message-ID: <{ID}@stadtwerk.example>\n");
    for mail in [
        complaint("abuse", &sender, ""),
        complaint("abuse", "", &returned),
    ] {
        let (state, id, code, detail) = delivery(&mail);
        assert_eq!(
            (state, &id[..], &code[..]),
            (State::Complained, ID, "abuse")
        );
        assert_eq!(detail, "SomeGenerator/1.0");
    }
    assert_eq!(
        delivery(&complaint("opt-out", &sender, "")).0,
        State::Unsubscribed
    );
    assert_eq!(news(&complaint("not-spam", &sender, "")), News::Nothing);
    assert!(matches!(
        news(&complaint("abuse", "", "")),
        News::Unreadable(_)
    ));
}

#[test]
fn a_mail_to_the_address_for_it_withdraws_consent() {
    let to = format!("Abmelden+{ID}@stadtwerk.example");
    for mail in [
        format!("From: erika@example.org\nTo: <{to}>\nSubject: unsubscribe\n\n"),
        format!("Delivered-To: {to}\nFrom: erika@example.org\nTo: liste@x.example\n\nweg"),
        // A mail program does it on a click.
        format!(
            "From: e@example.org\nTo: \"a, b\" <x@example.org>, {to}\nAuto-Submitted: auto-generated\n\n"
        ),
    ] {
        let (state, id, code, _) = delivery(&mail);
        assert_eq!(
            (state, &id[..], &code[..]),
            (State::Unsubscribed, ID, "mailto")
        );
    }
}

#[test]
fn answers_carry_their_text_and_what_they_answer() {
    let mail = format!(
        "From: =?utf-8?q?Erika_M=C3=BC=C3=9Fig?= <erika@example.org>\n\
         To: Stadtwerk <angebote@stadtwerk.example>\n\
         Subject: =?utf-8?q?Re:_Ihr_Angebot_f=C3=BCr_2027?=\nMessage-ID: <m1@example.org>\n\
         In-Reply-To: <unknown@example.org>\n\
         References: <{ID}@stadtwerk.example>\n <x@example.org>\n\
         Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n\
         Ja, gerne f=FCr 2 Jahre.\n"
    );
    let event = answer(&mail);
    assert_eq!(event.in_reply_to_message_id, ID);
    assert_eq!(event.subject, "Re: Ihr Angebot für 2027");
    assert_eq!(event.text.trim_end(), "Ja, gerne für 2 Jahre.");
    assert_eq!(event.provider_message_id, "m1@example.org");
    let sender = event.sender.unwrap();
    assert_eq!(
        (&sender.address[..], &sender.name[..]),
        ("erika@example.org", "Erika Müßig")
    );
    assert_eq!(event.recipient.unwrap().address, plain());
    assert_eq!(event.received_at, Some(received().into()));
}

#[test]
fn answers_of_all_shapes() {
    let html = "From: e@example.org\nContent-Type: text/html\n\n<p>Ja, <b>gerne</b></p>\n";
    let event = answer(html);
    assert_eq!(event.text.trim(), "Ja, gerne");
    assert_eq!(event.in_reply_to_message_id, "");
    // Without an id of its own it has the same name each time.
    assert!(event.provider_message_id.starts_with("sha256:"));
    assert_eq!(event.provider_message_id, answer(html).provider_message_id);
    let long = format!("From: e@example.org\n\n{}ä", "x".repeat(LONGEST_TEXT - 1));
    assert_eq!(answer(&long).text.len(), LONGEST_TEXT - 1);
    let to = format!("From: e@example.org\nTo: bounces+{ID}@stadtwerk.example\n\nJa");
    assert_eq!(answer(&to).in_reply_to_message_id, ID);
}

#[test]
fn machines_are_not_listened_to() {
    for line in [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated (vacation)",
        "Return-Path: <>",
        "Precedence: bulk",
        "X-Autoreply: yes",
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=b",
    ] {
        let mail = format!("{line}\nFrom: erika@example.org\nSubject: Abwesend\n\nBis Montag.\n");
        assert_eq!(news(&mail), News::Nothing, "{line}");
    }
    let person = "Auto-Submitted: no\nReturn-Path: <e@example.org>\nFrom: e@example.org\n\nJa";
    assert!(matches!(news(person), News::Inbound(_)));
}

#[test]
fn what_is_no_mail_is_for_a_person() {
    for bytes in [
        &b""[..],
        b"\r\n",
        b"\0\0\0",
        b"no header at all",
        b"Subject: x\r\n\r\nno sender",
    ] {
        let read = read(bytes, received(), &addresses());
        assert!(matches!(read, News::Unreadable(_)), "{bytes:?}: {read:?}");
    }
}

proptest! {
    /// Whatever arrives, and wherever it is cut off: it is read, and nothing panics.
    #[test]
    fn nothing_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        read(&bytes, received(), &addresses());
    }

    #[test]
    fn a_report_may_be_damaged_anywhere(
        end in 0_usize..1400,
        at in 0_usize..1400,
        noise in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let mail = report(plain(), &format!("Original-Envelope-Id: {ID}\n"), FAILED, "Subject: x");
        let mut bytes = mail.replace('\n', "\r\n").into_bytes();
        bytes.truncate(end.max(1));
        let at = at.min(bytes.len());
        bytes.splice(at..at, noise);
        if let News::Delivery(event) = read(&bytes, received(), &addresses()) {
            prop_assert!(is_id(&event.message_id));
        }
    }
}
