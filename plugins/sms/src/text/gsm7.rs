//! The GSM 7-bit default alphabet and its extension table (3GPP TS 23.038, 6.2.1).
//!
//! SMPP carries it unpacked: one septet in each octet. On the air seven octets carry eight of them,
//! which is what the limits of [`super`] are about.

/// What announces a character of the extension table.
const ESCAPE: u8 = 0x1B;

/// The alphabet by septet. At the place of the escape stands what handsets show that do not know
/// the character behind it.
#[rustfmt::skip]
const ALPHABET: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å',
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', ' ', 'Æ', 'æ', 'ß', 'É',
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/',
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?',
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O',
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§',
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// The extension table: what follows the escape, and its character.
const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\u{0C}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// The one or two septets of a character; `None` if the alphabet lacks it.
pub(super) fn septets(character: char) -> Option<Septets> {
    if let Some((code, _)) = EXTENSION.iter().find(|(_, c)| *c == character) {
        return Some(Septets {
            codes: [ESCAPE, *code],
            count: 2,
        });
    }
    let code = match character {
        // Most of ASCII is at its own place.
        'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' => u8::try_from(character).ok()?,
        _ => {
            let place = ALPHABET.iter().position(|c| *c == character)?;
            u8::try_from(place).ok()?
        }
    };
    Some(Septets {
        codes: [code, 0],
        count: 1,
    })
}

/// The septets of one character.
pub(super) struct Septets {
    codes: [u8; 2],
    count: usize,
}

impl Septets {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.codes[..self.count]
    }
}

/// The text of unpacked septets. A character of the extension table that is not known is shown as
/// the one of the alphabet, as the standard asks; an escape at the end is a space.
pub(crate) fn decode(septets: &[u8]) -> String {
    let mut text = String::with_capacity(septets.len());
    let mut octets = septets.iter().map(|octet| octet & 0x7F);
    while let Some(code) = octets.next() {
        if code != ESCAPE {
            text.push(ALPHABET[usize::from(code)]);
            continue;
        }
        let Some(code) = octets.next() else {
            text.push(' ');
            break;
        };
        let known = EXTENSION.iter().find(|(extended, _)| *extended == code);
        text.push(known.map_or(ALPHABET[usize::from(code)], |(_, character)| *character));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        for character in text.chars() {
            all.extend_from_slice(septets(character)?.as_slice());
        }
        Some(all)
    }

    #[test]
    fn the_standard_s_examples() {
        assert_eq!(encode("@£Δ"), Some(vec![0, 1, 0x10]));
        assert_eq!(encode("€ß"), Some(vec![0x1B, 0x65, 0x1E]));
        assert_eq!(
            encode("[ab]"),
            Some(vec![0x1B, 0x3C, 0x61, 0x62, 0x1B, 0x3E])
        );
        assert_eq!(encode("„"), None);
        assert_eq!(encode("ç"), None, "only the capital is in the alphabet");
        assert_eq!(encode("\t"), None);
    }

    #[test]
    fn every_character_comes_back() {
        for character in ALPHABET.iter().chain(EXTENSION.iter().map(|(_, c)| c)) {
            let text = character.to_string();
            let there = encode(&text).unwrap_or_default();
            assert_eq!(decode(&there), text, "{there:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_shown_as_well_as_can_be() {
        assert_eq!(decode(&[0x1B, 0x41]), "A");
        assert_eq!(decode(&[0x41, 0x1B]), "A ");
        assert_eq!(decode(&[0xC1]), "A", "the eighth bit carries nothing");
    }
}
