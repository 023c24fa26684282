//! How networks count the characters of a text.

use icu_normalizer::ComposingNormalizerBorrowed;
use unicode_segmentation::UnicodeSegmentation;

/// What an address counts on X, however long it is.
const URL_ON_X: usize = 23;

/// A piece of a text.
enum Piece<'t> {
    /// An address that begins with `http://` or `https://`.
    Url,
    Text(&'t str),
}

/// The weighted length on X, as twitter-text counts it (its configuration 3): composed (NFC);
/// addresses count 23; emoji, however composed, 2; a character of a range of [`weight`] 1, any other
/// 2. At most 280 are possible.
///
/// Trade-off: addresses without `http://` or `https://`, which X finds by its list of top-level
/// domains, are counted letter by letter. X itself refuses what is too long then.
pub(crate) fn weighted(text: &str) -> usize {
    let text = ComposingNormalizerBorrowed::new_nfc().normalize(text);
    pieces(&text)
        .map(|piece| match piece {
            Piece::Url => URL_ON_X,
            Piece::Text(text) => text.graphemes(true).map(cluster).sum(),
        })
        .sum()
}

/// The length on Mastodon: user-perceived characters; addresses count `per_url`.
pub(crate) fn graphemes(text: &str, per_url: usize) -> usize {
    pieces(text)
        .map(|piece| match piece {
            Piece::Url => per_url,
            Piece::Text(text) => text.graphemes(true).count(),
        })
        .sum()
}

/// The weight of what a reader sees as one character.
fn cluster(cluster: &str) -> usize {
    let mut chars = cluster.chars();
    let is_emoji = match (chars.next(), chars.next()) {
        (Some(_), None) | (None, _) => false,
        (Some(first), Some(_)) => may_begin_emoji(first) || cluster.ends_with('\u{20e3}'),
    };
    match is_emoji {
        true => 2,
        false => cluster.chars().map(weight).sum(),
    }
}

fn weight(c: char) -> usize {
    match u32::from(c) {
        0..=4351 | 8192..=8205 | 8208..=8223 | 8242..=8247 => 1,
        _ => 2,
    }
}

/// Whether an emoji of several code points may begin so.
fn may_begin_emoji(c: char) -> bool {
    matches!(u32::from(c),
        0xa9 | 0xae | 0x203c | 0x2049 | 0x2122 | 0x2139 | 0x2190..=0x2bff | 0x3030 | 0x303d
        | 0x3297 | 0x3299 | 0x1f000..=0x1faff)
}

/// Cuts a text into addresses and what is between them.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    let mut url = 0;
    std::iter::from_fn(move || {
        if url > 0 {
            rest = &rest[url..];
            url = 0;
            return Some(Piece::Url);
        }
        if rest.is_empty() {
            return None;
        }
        let (begin, length) = find_url(rest).unwrap_or((rest.len(), 0));
        let (before, after) = rest.split_at(begin);
        rest = after;
        url = length;
        Some(Piece::Text(before))
    })
}

/// Where the first address begins, and how long it is.
fn find_url(text: &str) -> Option<(usize, usize)> {
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(found) = lower[from..].find("http") {
        let begin = from + found;
        let scheme = ["https://", "http://"]
            .into_iter()
            .find(|scheme| lower[begin..].starts_with(scheme));
        let free = !text[..begin].ends_with(|c: char| c.is_alphanumeric() || "@#$".contains(c));
        if let Some(scheme) = scheme.filter(|_| free) {
            let end = text[begin..]
                .find(|c: char| c.is_whitespace() || c.is_control() || "<>\"".contains(c))
                .map_or(text.len(), |length| begin + length);
            // Marks at the end belong to the sentence.
            let url = text[begin..end].trim_end_matches([
                '.', ',', ':', ';', '!', '?', '\'', ')', ']', '}', '…', '“', '”', '»',
            ]);
            if url.len() > scheme.len() && url[scheme.len()..].contains('.') {
                return Some((begin, url.len()));
            }
        }
        from = begin + "http".len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of <https://docs.x.com/resources/fundamentals/counting-characters> and of validate.yml of
    /// twitter-text.
    #[test]
    fn x_counts_weights() {
        for (text, expected) in [
            ("", 0),
            ("a", 1),
            ("á", 1),
            // Decomposed: counted as composed.
            ("a\u{301}", 1),
            ("Ä Ö Ü ß €", 10),
            ("私", 2),
            ("한국어", 6),
            ("🙋🏽", 2),
            ("👨‍🎤", 2),
            ("👨‍👩‍👧‍👦", 2),
            ("🇩🇪", 2),
            ("1️⃣", 2),
            ("–“”…", 5),
            ("http://test.example", 23),
            ("HTTPS://a.de/x?y=z", 23),
            (
                "https://test.example/a/very/long/path?with=a&query=in#it and",
                27,
            ),
            ("Siehe https://a.de/x.", 30),
            ("(https://a.de)", 25),
            ("xhttps://a.de", 13),
            ("https://", 8),
            ("http http://a.de", 28),
        ] {
            assert_eq!(weighted(text), expected, "{text}");
        }
        assert_eq!(weighted(&"ü".repeat(280)), 280);
        assert_eq!(weighted(&"字".repeat(140)), 280);
    }

    #[test]
    fn mastodon_counts_what_readers_see() {
        assert_eq!(graphemes("a\u{301}👨‍👩‍👧‍👦 字", 23), 4);
        assert_eq!(
            graphemes("https://example.org/abcdefghijklmnopqrstuvwxyz x", 23),
            25
        );
        assert_eq!(graphemes("https://a.de", 23), 23);
    }
}
