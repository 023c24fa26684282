use proptest::prelude::*;

use super::*;

const ID: &str = "0199a3b2-7c00-7000-8000-000000000001";

#[test]
fn only_our_jobs_are_listed() {
    let line = format!("12\tD\t1763800000\t2\tfax\tanklang:{ID}\r");
    let ours = listed(&line, "fax").unwrap();
    let expected = Listed {
        id: 12,
        message_id: ID.to_owned(),
        state: 'D',
        at: UNIX_EPOCH + Duration::from_secs(1_763_800_000),
        pages: 2,
    };
    assert_eq!(ours, expected);
    assert!(ours.is_over());
    // Of somebody else, without a tag, with one of somebody else, with more in it, cut.
    assert_eq!(listed(&line, "other"), None);
    for other in [
        "12\tD\t1763800000\t2\tfax\t",
        "12\tD\t1763800000\t2\tfax\tInvoice 5",
        "12\tD\t1763800000\t2\tfax\tanklang:",
        "12\tD\t1763800000\t2\tfax\tanklang:a b",
        "12\tD\t1763800000\t2\tfax\tanklang:a\tb",
        "12\tD\t1763800000\t2\tfax",
        "x\tD\t1763800000\t2\tfax\tanklang:a",
        "",
    ] {
        assert_eq!(listed(other, "fax"), None, "{other:?}");
    }
}

#[test]
fn ids_tell_when_their_message_was_made() {
    let made = made_at("0199a3b2-7c00-7000-8000-000000000001").unwrap();
    assert_eq!(made, UNIX_EPOCH + Duration::from_millis(0x0199_a3b2_7c00));
    for without in [
        "0199a3b2-7c00-4000-8000-000000000001",
        "0199a3b2",
        "",
        "é99a3b27c007000800000000000001",
    ] {
        assert_eq!(made_at(without), None, "{without}");
    }
}

/// A finished job, from its file.
fn judged(file: &str) -> Verdict {
    verdict(&finished(file)).unwrap()
}

#[test]
fn what_was_sent_is_delivered() {
    let file = "tts:1763800000\nstate:7\nnpages:2\ntotpages:2\nsignalrate:14400 bit/s\ncsi:+49 561 999999\nstatus:\nstatuscode:0\n";
    let expected = Verdict {
        state: State::Delivered,
        code: "",
        detail: "2 of 2 pages, 14400 bit/s".to_owned(),
    };
    assert_eq!(judged(file), expected);
    assert_eq!(
        judged("state:7\nnpages:1\ntotpages:1\nsignalrate:9600").detail,
        "1 of 1 pages, 9600 bit/s"
    );
    assert_eq!(
        judged("state:7\nnpages:1\ntotpages:1").detail,
        "1 of 1 pages"
    );
}

#[test]
fn failures_say_why() {
    for (code, status, expected) in [
        (
            "333",
            "Busy signal detected; too many attempts to dial",
            "BUSY",
        ),
        (
            "333",
            "No answer from remote; too many attempts to dial",
            "NO_ANSWER",
        ),
        ("003", "No answer from remote", "NO_ANSWER"),
        (
            "333",
            "No carrier detected; too many attempts to dial",
            "NO_CARRIER",
        ),
        ("4", "No local dialtone", "NO_DIALTONE"),
        (
            "403",
            "Document was encoded with 2DMMR, but client does not support this data format",
            "INCOMPATIBLE",
        ),
        (
            "334",
            "Data connection established (wanted fax); too many attempts to send",
            "INCOMPATIBLE",
        ),
        ("126", "No receiver protocol (T.30 T1 timeout)", "PROTOCOL"),
        ("325", "Kill time expired", "TIMED_OUT"),
        ("345", "Job aborted by request", "KILLED"),
        ("314", "Document preparation failed: x", "DOCUMENT"),
        (
            "328",
            "REJECT: Requested modem x is not registered",
            "REJECTED",
        ),
        (
            "333",
            "REJECT: Too many attempts to dial: 3, max 3",
            "REJECTED",
        ),
        // HylaFAX+ has no numbers of its own here.
        ("", "Busy signal detected {E001}", "BUSY"),
        ("", "", "FAILED"),
    ] {
        let file = format!("state:8\nnpages:0\ntotpages:2\nstatuscode:{code}\nstatus:{status}\n");
        let verdict = judged(&file);
        assert_eq!(
            (verdict.state, verdict.code),
            (State::Failed, expected),
            "{status}"
        );
        assert!(status.is_empty() || verdict.detail == status, "{verdict:?}");
    }
}

#[test]
fn part_of_the_pages_is_a_failure_that_says_so() {
    let file = "state:8\nnpages:1\ntotpages:2\nstatuscode:334\nstatus:No carrier detected; too many attempts to send\n";
    let expected = Verdict {
        state: State::Failed,
        code: "PARTIAL",
        detail: "1 of 2 pages; No carrier detected; too many attempts to send".to_owned(),
    };
    assert_eq!(judged(file), expected);
}

#[test]
fn a_status_of_several_lines_says_nothing_else() {
    let file = "state:8\nnpages:0\ntotpages:2\nstatus:Document preparation failed:\\\nstate:7 0561123456\nstatuscode:314\n";
    let verdict = judged(file);
    assert_eq!((verdict.state, verdict.code), (State::Failed, "DOCUMENT"));
    assert_eq!(verdict.detail, "Document preparation failed: state:7 …");
}

#[test]
fn what_goes_on_has_no_verdict() {
    for file in ["state:6\nnpages:2\n", "state:1\n", ""] {
        assert_eq!(verdict(&finished(file)), None);
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in "(?s).{0,80}") {
        let _ = verdict(&finished(&text));
        let _ = (listed(&text, "fax"), made_at(&text));
    }
}
