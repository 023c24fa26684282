use proptest::prelude::*;

use super::*;
use crate::text::{Alphabet, segmented};

fn deliver(class: u8, coding: u8, message: Vec<u8>) -> Deliver {
    Deliver {
        source: "491711234567".to_owned(),
        destination: "80888".to_owned(),
        esm_class: class,
        data_coding: coding,
        message,
        ..Deliver::default()
    }
}

fn part(reference: u8, total: u8, number: u8, text: &[u8]) -> Deliver {
    deliver(
        0x40,
        0,
        [&[5, 0, 3, reference, total, number], text].concat(),
    )
}

fn reassembly() -> Reassembly<u32> {
    Reassembly::new(DefaultAlphabet::Gsm7)
}

fn text(coding: u8, octets: &[u8]) -> String {
    decoded(octets, coding, DefaultAlphabet::Gsm7)
}

#[test]
fn alphabets() {
    assert_eq!(text(0, &[0x47, 0x72, 0x7E, 0x1E, 0x65]), "Grüße");
    assert_eq!(text(8, &[0x04, 0x1F, 0xD8, 0x3C, 0xDF, 0x89]), "П🎉");
    assert_eq!(text(3, &[0x47, 0xFC]), "Gü");
    assert_eq!(text(1, b"[a]"), "[a]");
    assert_eq!(text(0x10, &[0x00]), "@");
    assert_eq!(text(0x18, &[0x04, 0x1F]), "П");
    assert_eq!(text(0xF1, &[0x00]), "@");
    assert_eq!(text(4, &[1, 2, 3]), "");
    assert_eq!(text(0xF5, &[1, 2, 3]), "");
    assert_eq!(decoded(&[0xFC], 0, DefaultAlphabet::Latin1), "ü");
}

#[test]
fn a_single_message_is_complete() {
    let done = reassembly().take(deliver(0, 0, b"Stopp".to_vec()), 1, Instant::now());
    assert_eq!(
        (done[0].text.as_str(), &done[0].unanswered[..]),
        ("Stopp", &[1][..])
    );
}

#[test]
fn segments_come_in_any_order_and_more_than_once() {
    let (mut all, now) = (reassembly(), Instant::now());
    assert_eq!(all.take(part(7, 3, 3, b"c"), 1, now), []);
    assert_eq!(all.take(part(7, 3, 1, b"a"), 2, now), []);
    assert_eq!(all.take(part(8, 3, 2, b"x"), 9, now), [], "another text");
    assert_eq!(all.take(part(7, 3, 1, b"a"), 3, now), []);
    let done = all.take(part(7, 3, 2, b"b"), 4, now);
    assert_eq!(done.len(), 1);
    assert_eq!(
        (done[0].text.as_str(), &done[0].unanswered[..]),
        ("abc", &[1, 2, 3, 4][..])
    );
}

#[test]
fn headers_and_parameters_of_all_sorts() {
    let (mut all, now) = (reassembly(), Instant::now());
    // A port first, then a reference of two octets.
    let wide = |number: u8, text: u8| {
        let header = [12, 5, 4, 0, 1, 0, 2, 8, 4, 1, 2, 2, number, text];
        deliver(0x40, 0, header.to_vec())
    };
    assert_eq!(all.take(wide(1, b'a'), 1, now), []);
    assert_eq!(all.take(wide(2, b'b'), 2, now)[0].text, "ab");
    let by_parameter = |number: u8, text: &[u8]| {
        let mut deliver = deliver(0, 0, text.to_vec());
        deliver.segment = (Some(300), Some(2), Some(number));
        deliver
    };
    assert_eq!(all.take(by_parameter(2, b"d"), 3, now), []);
    assert_eq!(all.take(by_parameter(1, b"c"), 4, now)[0].text, "cd");
    // What cannot be is a message of its own.
    for (total, number) in [(0, 0), (1, 1), (3, 4), (3, 0)] {
        assert_eq!(all.take(part(1, total, number, b"e"), 5, now)[0].text, "e");
    }
    assert_eq!(all.take(deliver(0x40, 0, vec![200, 1]), 6, now).len(), 1);
}

#[test]
fn the_centre_does_not_wait_for_ever() {
    let (mut all, now) = (reassembly(), Instant::now());
    all.take(part(7, 2, 1, b"a"), 1, now);
    assert!(all.held_too_long(now).is_empty());
    assert_eq!(all.held_too_long(now + HOLD), [1]);
    assert!(all.held_too_long(now + HOLD).is_empty(), "once");
    assert_eq!(
        all.take(part(7, 2, 2, b"b"), 2, now + HOLD)[0].unanswered,
        [2]
    );
}

#[test]
fn what_never_becomes_complete_is_handed_over_as_it_is() {
    let (mut all, now) = (reassembly(), Instant::now());
    all.take(part(7, 3, 1, b"a"), 1, now);
    all.take(part(7, 3, 3, b"c"), 2, now);
    assert_eq!(all.overdue(now), []);
    assert_eq!(all.overdue(now + PATIENCE)[0].text, "a […] c");
    assert_eq!(all.overdue(now + PATIENCE), []);
}

#[test]
fn memory_is_bounded() {
    let (mut all, now) = (reassembly(), Instant::now());
    let mut given_up = 0;
    for number in 0..3_000_u32 {
        let mut segment = part(7, 2, 1, &[b'a'; 100]);
        segment.source = number.to_string();
        let at = now + Duration::from_millis(number.into());
        given_up += all.take(segment, number, at).len();
        assert!(all.waiting.len() <= MOST_MESSAGES);
    }
    assert_eq!(given_up, 2_000);
    let mut all = reassembly();
    for number in 0..900_u32 {
        let mut segment = part(7, 2, 1, &[b'a'; 60_000]);
        segment.source = number.to_string();
        all.take(segment, number, now);
        assert!(all.octets() <= MOST_OCTETS);
    }
}

proptest! {
    #[test]
    fn what_is_divided_for_sending_is_put_together(
        written in "[a-z äöü€🎉Жя]{1,600}".prop_filter("not blank", |text| !text.trim().is_empty()),
        reversed in any::<bool>(),
    ) {
        let sent = segmented(&written, false, 255).expect("short enough");
        let total = u8::try_from(sent.segments.len()).expect("short enough");
        let coding = if sent.alphabet == Alphabet::Gsm7 { 0 } else { 8 };
        let mut parts: Vec<Deliver> = (1_u8..).zip(&sent.segments).map(|(number, octets)| {
            let mut part = part(9, total, number, octets);
            part.data_coding = coding;
            part
        }).collect();
        if reversed {
            parts.reverse();
        }
        let mut all = reassembly();
        let done: Vec<_> = parts
            .into_iter()
            .flat_map(|part| all.take(part, 0, Instant::now()))
            .collect();
        prop_assert_eq!(done.len(), 1);
        prop_assert_eq!(&done[0].text, &written);
    }
}
