//! Messages that come in: which of them ask for no more, and what makes two of them the same.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

/// The longest text that can be a request to stop, in characters; what is longer says more than that.
const LONGEST: usize = 64;

/// Texts that ask for no more messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StopWords(BTreeSet<String>);

/// Why a text can be no such word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopWordError {
    /// Nothing is left of it.
    #[error("must have a letter or digit")]
    Empty,
    /// It is longer than any text that is looked at.
    #[error("must be at most {LONGEST} characters")]
    TooLong,
}

impl StopWords {
    /// Words, or several of them with spaces between.
    ///
    /// # Errors
    /// The place of each that can be none, and why.
    pub fn new<'a>(
        words: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Vec<(usize, StopWordError)>> {
        let (mut all, mut wrong) = (BTreeSet::new(), Vec::new());
        for (i, word) in words.into_iter().enumerate() {
            match folded(word) {
                Some(folded) if folded.is_empty() => wrong.push((i, StopWordError::Empty)),
                Some(folded) => {
                    all.insert(folded);
                }
                None => wrong.push((i, StopWordError::TooLong)),
            }
        }
        if wrong.is_empty() {
            Ok(StopWords(all))
        } else {
            Err(wrong)
        }
    }

    /// Whether a text is one of them and nothing else: case, spaces and what is around it that is no
    /// letter or digit do not matter. A text with more words is for people to read: "stop by
    /// tomorrow" asks for something else.
    pub fn ask_to_stop(&self, text: &str) -> bool {
        folded(text).is_some_and(|folded| self.0.contains(&folded))
    }
}

/// The text in lower case, its words with one space between, without what is around it; `None` when
/// it is too long to be looked at.
fn folded(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| !c.is_alphanumeric());
    if text.chars().nth(LONGEST).is_some() {
        return None;
    }
    let lower = text.to_lowercase();
    Some(lower.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// What makes two messages of one account the same: the provider's id, else all that it says.
pub fn key(
    provider_message_id: &str,
    parts: [&str; 4],
    received_at: Option<DateTime<Utc>>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    if !provider_message_id.is_empty() {
        return hash
            .chain_update([1])
            .chain_update(provider_message_id)
            .finalize()
            .into();
    }
    hash.update([0]);
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    let time = received_at.map_or(i64::MIN, |at| at.timestamp_micros());
    hash.chain_update(time.to_be_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORDS: [&str; 5] = ["STOP", "STOPP", "Abmelden", "bitte abbestellen", "END"];

    fn words() -> StopWords {
        StopWords::new(WORDS).expect("good words")
    }

    proptest! {
        #[test]
        fn a_word_alone_stops_however_it_is_written(
            word in proptest::sample::select(WORDS.to_vec()),
            before in r#"[ \t\n.!?"'»(*-]{0,5}"#, after in r#"[ \t\r\n.!?"'«)*😡-]{0,5}"#, upper: bool,
        ) {
            let word = if upper { word.to_uppercase() } else { word.to_lowercase() };
            let wide = word.replace(' ', " \n ");
            let text = format!("{before}{word}{after}");
            let spread = format!("{before}{wide}{after}");
            prop_assert!(words().ask_to_stop(&text), "{text:?}");
            prop_assert!(words().ask_to_stop(&spread), "{spread:?}");
        }

        #[test]
        fn a_word_among_others_does_not(
            word in proptest::sample::select(WORDS.to_vec()), more in "[a-z0-9]{1,9}", first: bool,
        ) {
            let text = if first { format!("{more} {word}") } else { format!("{word} {more}") };
            prop_assert!(!words().ask_to_stop(&text), "{text:?}");
        }

        #[test]
        fn any_text_can_be_asked_about(text in ".{0,200}") {
            let _ = words().ask_to_stop(&text);
        }
    }

    #[test]
    fn words_that_are_none_are_named() {
        let long = "x".repeat(65);
        assert_eq!(
            StopWords::new(["STOP", " ! ", &long]),
            Err(vec![(1, StopWordError::Empty), (2, StopWordError::TooLong)])
        );
        assert!(!StopWords::default().ask_to_stop("STOP"));
        assert!(!words().ask_to_stop(""));
    }

    #[test]
    fn repetitions_are_recognised() {
        let at = DateTime::from_timestamp(1_790_000_000, 0);
        let one = key("", ["a", "b", "c", "d"], at);
        assert_eq!(key("", ["a", "b", "c", "d"], at), one);
        assert_ne!(key("", ["ab", "", "c", "d"], at), one);
        assert_ne!(key("", ["a", "b", "c", "d"], None), one);
        let named = key("x", ["a", "b", "c", "d"], at);
        assert_eq!(key("x", ["", "", "", ""], None), named);
        assert_ne!(named, one);
    }
}
