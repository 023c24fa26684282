//! Texts as short messages: which alphabet, how many segments, what is in each.
//!
//! A short message has 140 octets on the air: 160 septets of the GSM alphabet or 70 units of UCS-2.
//! Longer texts go as several, each with 6 octets of header by which the handset puts them together
//! again: 153 septets or 67 units. Neither an escape of the GSM alphabet and its character nor the
//! two halves of a surrogate pair (an emoji) are ever torn apart.

pub(crate) mod gsm7;
mod transliterate;

#[cfg(test)]
mod tests;

/// Septets of a single message, and of a segment next to its header.
const SEPTETS: (usize, usize) = (160, 153);
/// UTF-16 units of a single message, and of a segment next to its header.
const UNITS: (usize, usize) = (70, 67);
/// The most segments there are: their number has one octet.
pub(crate) const MOST_SEGMENTS: usize = 255;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// GSM 7-bit, unpacked: an octet for each septet.
    Gsm7,
    /// UTF-16, big endian. The standard says UCS-2; handsets read surrogate pairs.
    Ucs2,
}

/// A text, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segmented {
    pub(crate) alphabet: Alphabet,
    /// One to [`MOST_SEGMENTS`]; without headers.
    pub(crate) segments: Vec<Vec<u8>>,
}

impl Segmented {
    /// The text as it is sent: tidied, and transliterated if that was asked for.
    pub(crate) fn as_text(&self) -> String {
        let read = match self.alphabet {
            Alphabet::Gsm7 => gsm7::decode,
            Alphabet::Ucs2 => from_ucs2,
        };
        self.segments.iter().map(|octets| read(octets)).collect()
    }
}

/// Why a text is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsendable {
    /// There is nothing in it.
    Empty,
    /// It needs this many segments, which are too many.
    TooLong(usize),
}

/// The segments of a text, at most `most`. With `transliterate`, characters that the GSM alphabet
/// lacks are replaced by similar ones where that saves the text from UCS-2.
pub(crate) fn segmented(
    text: &str,
    transliterate: bool,
    most: usize,
) -> Result<Segmented, Unsendable> {
    let text = tidied(text);
    if text.trim().is_empty() {
        return Err(Unsendable::Empty);
    }
    let similar = || transliterate::to_gsm7(&text);
    let septets = characters(&text, Alphabet::Gsm7).or_else(|| {
        let similar = transliterate.then(similar).flatten()?;
        characters(&similar, Alphabet::Gsm7)
    });
    let (alphabet, characters, (single, each)) = match septets {
        Some(characters) => (Alphabet::Gsm7, characters, SEPTETS),
        None => {
            let octets = characters(&text, Alphabet::Ucs2).unwrap_or_default();
            (Alphabet::Ucs2, octets, (UNITS.0 * 2, UNITS.1 * 2))
        }
    };
    let total: usize = characters.iter().map(Vec::len).sum();
    let segments = divided(characters, if total <= single { single } else { each });
    if segments.len() > most.min(MOST_SEGMENTS) {
        return Err(Unsendable::TooLong(segments.len()));
    }
    Ok(Segmented { alphabet, segments })
}

/// Without control characters, which would force UCS-2 and show as boxes: line breaks stay, others
/// become spaces.
fn tidied(text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let tidy = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
    text.chars().map(tidy).collect()
}

/// The octets of each character, which belong together; `None` if the alphabet lacks one.
fn characters(text: &str, alphabet: Alphabet) -> Option<Vec<Vec<u8>>> {
    let octets = |character: char| match alphabet {
        Alphabet::Gsm7 => gsm7::septets(character).map(|septets| septets.as_slice().to_vec()),
        Alphabet::Ucs2 => {
            let mut units = [0; 2];
            let units = character.encode_utf16(&mut units).iter();
            Some(units.flat_map(|unit| unit.to_be_bytes()).collect())
        }
    };
    text.chars().map(octets).collect()
}

/// As few pieces of at most `limit` octets as possible, in order.
fn divided(characters: Vec<Vec<u8>>, limit: usize) -> Vec<Vec<u8>> {
    let mut pieces = vec![Vec::with_capacity(limit)];
    for octets in characters {
        let full = pieces
            .last()
            .is_none_or(|piece| piece.len() + octets.len() > limit);
        if full {
            pieces.push(Vec::with_capacity(limit));
        }
        if let Some(piece) = pieces.last_mut() {
            piece.extend(octets);
        }
    }
    pieces
}

/// The text of UTF-16, big endian; what is broken shows as U+FFFD.
pub(crate) fn from_ucs2(octets: &[u8]) -> String {
    let units = octets
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// The text of ISO 8859-1, each octet of which is the character of that number.
pub(crate) fn from_latin1(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}
