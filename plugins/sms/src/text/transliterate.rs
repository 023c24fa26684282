//! Similar characters of the GSM alphabet for those that it lacks.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::gsm7;

/// What typesetters write, as typewriters wrote it, and letters that do not decompose.
const SIMILAR: [(char, &str); 34] = [
    ('„', "\""),
    ('“', "\""),
    ('”', "\""),
    ('‟', "\""),
    ('«', "\""),
    ('»', "\""),
    ('‚', "'"),
    ('‘', "'"),
    ('’', "'"),
    ('‹', "'"),
    ('›', "'"),
    ('`', "'"),
    ('´', "'"),
    ('‐', "-"),
    ('‑', "-"),
    ('‒', "-"),
    ('–', "-"),
    ('—', "-"),
    ('−', "-"),
    ('…', "..."),
    ('•', "*"),
    ('·', "."),
    ('×', "x"),
    ('ẞ', "SS"),
    ('\u{AD}', ""),
    ('\u{200B}', ""),
    ('\u{FEFF}', ""),
    ('ł', "l"),
    ('Ł', "L"),
    ('đ', "d"),
    ('Đ', "D"),
    ('ı', "i"),
    ('œ', "oe"),
    ('Œ', "OE"),
];

/// The text in characters of the GSM alphabet; `None` if one has nothing similar, so that a text in
/// another script or with emojis stays what it is.
pub(super) fn to_gsm7(text: &str) -> Option<String> {
    let mut similar = String::with_capacity(text.len());
    // Composed first: `ä` written as two characters is in the alphabet.
    for character in text.nfc() {
        if gsm7::septets(character).is_some() {
            similar.push(character);
        } else if let Some((_, instead)) = SIMILAR.iter().find(|(from, _)| *from == character) {
            similar.push_str(instead);
        } else {
            // Spaces of all widths become spaces, letters lose their accents.
            let plain = std::iter::once(character)
                .nfkd()
                .filter(|part| !is_combining_mark(*part));
            for part in plain {
                gsm7::septets(part)?;
                similar.push(part);
            }
        }
    }
    Some(similar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_and_accents() {
        let written = "„Grüße“ – Ihr Café…";
        assert_eq!(to_gsm7(written).as_deref(), Some("\"Grüße\" - Ihr Café..."));
        assert_eq!(to_gsm7("Łódź, Çankırı").as_deref(), Some("Lodz, Çankiri"));
        assert_eq!(to_gsm7("a\u{308}\u{A0}b").as_deref(), Some("ä b"));
    }

    #[test]
    fn what_has_nothing_similar_stays() {
        assert_eq!(to_gsm7("Привет"), None);
        assert_eq!(to_gsm7("Danke 🎉"), None);
    }
}
