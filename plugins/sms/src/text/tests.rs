use proptest::prelude::*;

use super::*;

/// Octets of a message on the air.
const ON_AIR: usize = 140;
/// Octets of the header of a segment.
const HEADER: usize = 6;

/// Septets packed as they go on the air, behind `header` octets (3GPP TS 23.038, 6.1.2.1).
fn packed(septets: &[u8], header: usize) -> Vec<u8> {
    let fill = (7 - header * 8 % 7) % 7;
    let bits = header * 8 + fill + septets.len() * 7;
    let mut octets = vec![0_u8; bits.div_ceil(8)];
    for (index, septet) in septets.iter().enumerate() {
        for bit in 0..7 {
            let at = header * 8 + fill + index * 7 + bit;
            octets[at / 8] |= (septet >> bit & 1) << (at % 8);
        }
    }
    octets
}

fn unpacked(octets: &[u8], header: usize, count: usize) -> Vec<u8> {
    let fill = (7 - header * 8 % 7) % 7;
    let bit = |at: usize| octets[at / 8] >> (at % 8) & 1;
    (0..count)
        .map(|index| {
            (0..7).fold(0, |sum, b| {
                sum | bit(header * 8 + fill + index * 7 + b) << b
            })
        })
        .collect()
}

fn read(alphabet: Alphabet, octets: &[u8]) -> String {
    match alphabet {
        Alphabet::Gsm7 => gsm7::decode(octets),
        Alphabet::Ucs2 => from_ucs2(octets),
    }
}

/// What holds for every text, whatever is in it.
fn holds(text: &str) {
    let found = segmented(text, false, MOST_SEGMENTS).expect("short enough");
    let Segmented { alphabet, segments } = found;
    let header = if segments.len() > 1 { HEADER } else { 0 };
    let mut whole = String::new();
    for segment in &segments {
        let octets = match alphabet {
            Alphabet::Gsm7 => {
                let on_air = packed(segment, header);
                assert_eq!(unpacked(&on_air, header, segment.len()), *segment);
                on_air.len()
            }
            Alphabet::Ucs2 => header + segment.len(),
        };
        assert!(octets <= ON_AIR, "{octets} octets");
        // Read alone: a torn pair would show here as U+FFFD, a torn escape as a space and a letter.
        whole.push_str(&read(alphabet, segment));
    }
    assert_eq!(whole, tidied(text));
    // No segment more than needed: what is in one and the first character of the next do not fit.
    for pair in segments.windows(2) {
        let next = match alphabet {
            Alphabet::Gsm7 => 1 + usize::from(pair[1][0] == 0x1B),
            Alphabet::Ucs2 => 2 + 2 * usize::from((0xD8..0xDC).contains(&pair[1][0])),
        };
        let limit = if alphabet == Alphabet::Gsm7 {
            SEPTETS.1
        } else {
            UNITS.1 * 2
        };
        assert!(pair[0].len() + next > limit);
    }
}

fn gsm_text() -> impl Strategy<Value = String> {
    let characters = "[a-zA-Z0-9äöüÄÖÜß€\\[\\]{}~^|@£\n .,!?]{1,900}";
    characters.prop_filter("not blank", |text| !text.trim().is_empty())
}

fn any_text() -> impl Strategy<Value = String> {
    let characters = "[a-zäöü€🎉👍🏽Жя漢„“ \r\n\t]{1,400}";
    characters.prop_filter("not blank", |text| !tidied(text).trim().is_empty())
}

proptest! {
    #[test]
    fn gsm_texts_are_divided_well(text in gsm_text()) {
        prop_assert_eq!(segmented(&text, false, 255).map(|s| s.alphabet), Ok(Alphabet::Gsm7));
        holds(&text);
    }

    #[test]
    fn other_texts_are_divided_well(text in any_text()) {
        holds(&text);
    }

    #[test]
    fn transliteration_gives_texts_of_the_alphabet_or_leaves_them_alone(text in any_text()) {
        let found = segmented(&text, true, 255).expect("short enough");
        if found.alphabet == Alphabet::Ucs2 {
            prop_assert_eq!(found, segmented(&text, false, 255).expect("short enough"));
        }
    }

    #[test]
    fn anything_can_be_read(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        gsm7::decode(&octets);
        from_ucs2(&octets);
        prop_assert_eq!(from_latin1(&octets).chars().count(), octets.len());
    }
}

fn count(text: &str) -> usize {
    segmented(text, false, 255)
        .expect("short enough")
        .segments
        .len()
}

#[test]
fn the_limits_of_the_standard() {
    for (text, segments) in [
        ("a".repeat(160), 1),
        ("a".repeat(161), 2),
        ("a".repeat(306), 2),
        ("a".repeat(307), 3),
        ("€".repeat(80), 1),
        ("€".repeat(81), 2),
        ("я".repeat(70), 1),
        ("я".repeat(71), 2),
        ("я".repeat(134), 2),
        ("я".repeat(135), 3),
        ("🎉".repeat(35), 1),
        ("🎉".repeat(36), 2),
        // 153 is odd: the escape of the 77th goes with it.
        ("€".repeat(153), 3),
        // And so is 67: 33 pairs in each.
        ("🎉".repeat(67), 3),
    ] {
        assert_eq!(count(&text), segments, "{} × …", text.chars().count());
    }
}

#[test]
fn what_cannot_be_sent() {
    assert_eq!(segmented(" \r\n\t", false, 9), Err(Unsendable::Empty));
    assert_eq!(segmented("", true, 9), Err(Unsendable::Empty));
    assert_eq!(
        segmented(&"a".repeat(307), false, 2),
        Err(Unsendable::TooLong(3))
    );
    assert_eq!(
        segmented(&"a".repeat(50_000), false, 999),
        Err(Unsendable::TooLong(327))
    );
}

#[test]
fn transliteration_saves_segments() {
    let text = format!("„{}“", "a".repeat(100));
    assert_eq!(count(&text), 2);
    let plain = segmented(&text, true, 9).expect("short enough");
    assert_eq!((plain.alphabet, plain.segments.len()), (Alphabet::Gsm7, 1));
}
