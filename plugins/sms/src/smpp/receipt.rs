//! Delivery receipts: what the centre says of a message that it took.
//!
//! SMPP leaves their form to the centre; nearly all write the text of its appendix B, many the
//! optional parameters as well, some only these.

use std::time::{Duration, SystemTime};

use anklang_plugin_sdk::delivery_event::State;
use chrono::{NaiveDateTime, TimeDelta};

use super::pdu::Deliver;
use crate::text::from_latin1;

/// Type of message: a receipt.
const RECEIPT: u8 = 0x04;
/// Type of message: news of a message that is still on its way.
const INTERMEDIATE: u8 = 0x20;
/// The bits of the class that are the type of message.
const TYPE: u8 = 0x3C;
/// How far ahead of our clock a receipt may be before its date is not believed.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);

/// The names of the parts of a receipt's text.
const KEYS: [&str; 8] = [
    "id:",
    "sub:",
    "dlvrd:",
    "submit date:",
    "done date:",
    "stat:",
    "err:",
    "text:",
];

/// What a receipt says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The centre's id of the message, as it stands in the receipt.
    pub(crate) id: String,
    /// What became of it; `None` while it is on its way.
    pub(crate) state: Option<State>,
    /// The state and the error as the centre writes them: `UNDELIV 011`.
    pub(crate) code: String,
    /// When it happened, if that can be read.
    pub(crate) at: Option<SystemTime>,
}

/// What a deliver_sm is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A message from somebody.
    Message,
    /// A receipt.
    Receipt(Receipt),
    /// A receipt from which neither id nor state can be read.
    Unreadable,
}

/// Finds out what a deliver_sm is. `offset` is the minutes that the centre's clock is ahead of UTC.
pub(crate) fn sort(deliver: &Deliver, offset: i32) -> Sort {
    let by_parameters = deliver.receipted_message_id.is_some() && deliver.message_state.is_some();
    match deliver.esm_class & TYPE {
        RECEIPT | INTERMEDIATE => {}
        // Some centres leave the class at 0.
        0 if by_parameters => {}
        _ => return Sort::Message,
    }
    let text = from_latin1(&deliver.message);
    let id = deliver.receipted_message_id.clone();
    let id = id
        .or_else(|| value(&text, "id:"))
        .filter(|id| !id.is_empty());
    let word = deliver
        .message_state
        .and_then(word_of)
        .map(str::to_owned)
        .or_else(|| value(&text, "stat:").map(|word| word.to_ascii_uppercase()));
    let (Some(id), Some(word)) = (id, word) else {
        return Sort::Unreadable;
    };
    let error = value(&text, "err:").filter(|error| error.bytes().any(|octet| octet != b'0'));
    let state = if deliver.esm_class & TYPE == INTERMEDIATE {
        None
    } else {
        state_of(&word)
    };
    Sort::Receipt(Receipt {
        id,
        state,
        code: error.map_or(word.clone(), |error| format!("{word} {error}")),
        at: value(&text, "done date:").and_then(|date| time(&date, offset)),
    })
}

/// The value behind `key` in a receipt's text; keys may be in any case and order.
fn value(text: &str, key: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let from = place(&lower, key)? + key.len();
    // It ends where the next key begins: dates of some centres have blanks.
    let rest = &text[from..];
    let next = KEYS
        .iter()
        .filter_map(|key| place(&lower[from..], key))
        .min();
    let value = rest[..next.unwrap_or(rest.len())].trim();
    let value = if key == "done date:" {
        value
    } else {
        value.split_whitespace().next().unwrap_or_default()
    };
    // Others than the first 64 characters are nothing that a centre means.
    Some(value.chars().take(64).collect())
}

/// Where `key` begins a word of `lower`.
fn place(lower: &str, key: &str) -> Option<usize> {
    lower
        .match_indices(key)
        .map(|(at, _)| at)
        .find(|at| *at == 0 || lower.as_bytes()[at - 1].is_ascii_whitespace())
}

/// The word for the number of a state.
fn word_of(state: u8) -> Option<&'static str> {
    Some(match state {
        0 => "SCHEDULED",
        1 => "ENROUTE",
        2 => "DELIVRD",
        3 => "EXPIRED",
        4 => "DELETED",
        5 => "UNDELIV",
        6 => "ACCEPTD",
        7 => "UNKNOWN",
        8 => "REJECTD",
        9 => "SKIPPED",
        _ => return None,
    })
}

/// What became of the message. Whatever is not an end is on its way, `UNKNOWN` above all, which
/// proves nothing.
fn state_of(word: &str) -> Option<State> {
    match word {
        "DELIVRD" | "DELIVERED" => Some(State::Delivered),
        "EXPIRED" | "DELETED" | "UNDELIV" | "REJECTD" | "SKIPPED" | "UNDELIVERABLE"
        | "REJECTED" | "FAILED" => Some(State::Failed),
        _ => None,
    }
}

/// `YYMMDDhhmm` or `YYMMDDhhmmss`, the latter also with the whole year.
fn time(date: &str, offset: i32) -> Option<SystemTime> {
    let digits: String = date.chars().filter(char::is_ascii_digit).collect();
    let format = match digits.len() {
        10 => "%y%m%d%H%M",
        12 => "%y%m%d%H%M%S",
        14 => "%Y%m%d%H%M%S",
        _ => return None,
    };
    let local = NaiveDateTime::parse_from_str(&digits, format).ok()?;
    let utc = local
        .checked_sub_signed(TimeDelta::minutes(offset.into()))?
        .and_utc();
    let at = SystemTime::from(utc);
    (at <= SystemTime::now() + CLOCKS_DIFFER).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "id:m-17 sub:001 dlvrd:001 submit date:2611211200 done date:2611211201 \
                        stat:DELIVRD err:000 text:Ihr Angebot id:9";

    fn deliver(class: u8, text: &str) -> Deliver {
        Deliver {
            esm_class: class,
            message: text.as_bytes().to_vec(),
            ..Deliver::default()
        }
    }

    fn receipt(deliver: &Deliver) -> Receipt {
        match sort(deliver, 60) {
            Sort::Receipt(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    }

    fn at(text: &str) -> Option<SystemTime> {
        let at = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").expect("a time");
        Some(at.and_utc().into())
    }

    #[test]
    fn the_text_of_the_standard() {
        let found = receipt(&deliver(4, TEXT));
        assert_eq!(found.id, "m-17");
        assert_eq!(found.state, Some(State::Delivered));
        assert_eq!(found.code, "DELIVRD");
        assert_eq!(
            found.at,
            at("2026-11-21 11:01:00").filter(|at| *at <= SystemTime::now())
        );
    }

    #[test]
    fn texts_as_others_write_them() {
        let found = receipt(&deliver(
            4,
            "ID:AB STAT:UNDELIV ERR:011 Done Date:26-01-02 03:04:05 ",
        ));
        assert_eq!(
            (found.id.as_str(), found.code.as_str()),
            ("AB", "UNDELIV 011")
        );
        assert_eq!(found.state, Some(State::Failed));
        assert_eq!(found.at, at("2026-01-02 02:04:05"));
        let found = receipt(&deliver(4, "id:1 stat:rejectd err:0"));
        assert_eq!(
            (found.state, found.code.as_str(), found.at),
            (Some(State::Failed), "REJECTD", None)
        );
        let found = receipt(&deliver(
            4,
            "id:1 done date:20260102030405 stat:EXPIRED err:",
        ));
        assert_eq!(
            (found.state, found.at),
            (Some(State::Failed), at("2026-01-02 02:04:05"))
        );
    }

    #[test]
    fn parameters_count_more_than_text() {
        let mut deliver = deliver(0, TEXT);
        assert_eq!(sort(&deliver, 0), Sort::Message);
        deliver.receipted_message_id = Some("other".to_owned());
        deliver.message_state = Some(5);
        let found = receipt(&deliver);
        assert_eq!(
            (found.id.as_str(), found.state),
            ("other", Some(State::Failed))
        );
    }

    #[test]
    fn what_is_on_its_way_has_not_ended() {
        for word in ["ENROUTE", "ACCEPTD", "UNKNOWN", "BUFFRED"] {
            assert_eq!(
                receipt(&deliver(4, &format!("id:1 stat:{word}"))).state,
                None
            );
        }
        assert_eq!(receipt(&deliver(0x20, TEXT)).state, None);
    }

    #[test]
    fn what_is_no_receipt_is_said_to_be_none() {
        assert_eq!(sort(&deliver(4, "zugestellt"), 0), Sort::Unreadable);
        assert_eq!(sort(&deliver(4, "id: stat:DELIVRD"), 0), Sort::Unreadable);
        assert_eq!(sort(&deliver(0, "Stopp"), 0), Sort::Message);
        assert_eq!(sort(&deliver(0x40, "Stopp"), 0), Sort::Message);
    }

    #[test]
    fn dates_of_the_future_are_not_believed() {
        assert_eq!(
            time("9901010000", 0).is_some(),
            time("9901010000", 0) <= Some(SystemTime::now())
        );
        assert_eq!(time("20991231235959", 0), None);
        assert_eq!(time("2613011200", 0), None);
        assert_eq!(time("heute", 0), None);
    }
}
