//! Messages that somebody sent: which alphabet, and long ones from their segments.
//!
//! Segments wait for the others, each with what it takes to answer the centre for it (`T`). Memory
//! is bounded by number, size and time; what is given up is handed over as far as it came, with a
//! mark where something is missing: half an answer of a customer is better than none.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::config::DefaultAlphabet;
use super::pdu::{Deliver, HAS_HEADER};
use crate::text::{from_latin1, from_ucs2, gsm7};

/// How long segments wait for the others.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the centre waits for the answer to a segment whose others are to come. Longer than they
/// take where the centre sends several at once, and shorter than the patience of one that sends the
/// next only after it.
const HOLD: Duration = Duration::from_secs(2);
/// Most messages that wait for segments.
const MOST_MESSAGES: usize = 1_000;
/// Most octets of text that wait.
const MOST_OCTETS: usize = 1024 * 1024;
/// Stands where a segment is missing.
const GAP: &str = " […] ";

/// A message, whole or as far as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message<T> {
    pub(crate) source_ton: u8,
    pub(crate) source: String,
    pub(crate) destination_ton: u8,
    pub(crate) destination: String,
    pub(crate) text: String,
    /// Those that were not answered before.
    pub(crate) unanswered: Vec<T>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    source: String,
    destination: String,
    reference: u16,
    total: u8,
}

struct Waiting<T> {
    since: Instant,
    source_ton: u8,
    destination_ton: u8,
    texts: Vec<Option<String>>,
    /// Those that the centre waits for.
    unanswered: Vec<(Instant, T)>,
}

/// See the module's documentation.
pub(crate) struct Reassembly<T> {
    alphabet: DefaultAlphabet,
    waiting: HashMap<Key, Waiting<T>>,
}

impl<T> Reassembly<T> {
    pub(crate) fn new(alphabet: DefaultAlphabet) -> Self {
        Self {
            alphabet,
            waiting: HashMap::new(),
        }
    }

    /// Takes a message or a segment. Returns what is complete by it, and what has to be given up
    /// to stay within the bounds.
    pub(crate) fn take(&mut self, deliver: Deliver, token: T, now: Instant) -> Vec<Message<T>> {
        let (part, octets) = part_of(&deliver);
        let text = decoded(octets, deliver.data_coding, self.alphabet);
        let Some((reference, total, number)) = part else {
            return vec![Message {
                source_ton: deliver.source_ton,
                source: deliver.source,
                destination_ton: deliver.destination_ton,
                destination: deliver.destination,
                text,
                unanswered: vec![token],
            }];
        };
        let key = Key {
            source: deliver.source,
            destination: deliver.destination,
            reference,
            total,
        };
        let waiting = self.waiting.entry(key.clone()).or_insert_with(|| Waiting {
            since: now,
            source_ton: deliver.source_ton,
            destination_ton: deliver.destination_ton,
            texts: vec![None; total.into()],
            unanswered: Vec::new(),
        });
        waiting.texts[usize::from(number) - 1] = Some(text);
        waiting.unanswered.push((now, token));
        let mut done = Vec::new();
        if waiting.texts.iter().all(Option::is_some) {
            done.extend(self.finish(&key));
        }
        while self.waiting.len() > MOST_MESSAGES || self.octets() > MOST_OCTETS {
            let oldest = self.waiting.iter().min_by_key(|(_, waiting)| waiting.since);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            done.extend(self.finish(&key));
        }
        done
    }

    /// What has waited too long, as far as it came.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Message<T>> {
        let late = |waiting: &Waiting<T>| now.duration_since(waiting.since) >= PATIENCE;
        let keys = self.waiting.iter().filter(|(_, waiting)| late(waiting));
        let keys: Vec<Key> = keys.map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.finish(key)).collect()
    }

    /// The segments for which the centre should not wait any longer, see [`HOLD`].
    pub(crate) fn held_too_long(&mut self, now: Instant) -> Vec<T> {
        let mut answer = Vec::new();
        for waiting in self.waiting.values_mut() {
            let held = |(since, _): &mut (Instant, T)| now.duration_since(*since) >= HOLD;
            answer.extend(
                waiting
                    .unanswered
                    .extract_if(.., held)
                    .map(|(_, token)| token),
            );
        }
        answer
    }

    fn octets(&self) -> usize {
        let texts = self.waiting.values().flat_map(|waiting| &waiting.texts);
        texts.flatten().map(String::len).sum()
    }

    fn finish(&mut self, key: &Key) -> Option<Message<T>> {
        let waiting = self.waiting.remove(key)?;
        let texts = waiting.texts.into_iter();
        Some(Message {
            source_ton: waiting.source_ton,
            source: key.source.clone(),
            destination_ton: waiting.destination_ton,
            destination: key.destination.clone(),
            text: texts
                .map(|text| text.unwrap_or_else(|| GAP.to_owned()))
                .collect(),
            unanswered: waiting
                .unanswered
                .into_iter()
                .map(|(_, token)| token)
                .collect(),
        })
    }
}

/// Reference, total and number of a segment, and the octets of its text; by the header of the
/// message or else by the optional parameters. Numbers that cannot be make it a message of its own.
fn part_of(deliver: &Deliver) -> (Option<(u16, u8, u8)>, &[u8]) {
    let mut part = None;
    let mut octets = &deliver.message[..];
    if deliver.esm_class & HAS_HEADER != 0
        && let Some((length, rest)) = octets.split_first()
        && let Some((header, text)) = rest.split_at_checked((*length).into())
    {
        octets = text;
        part = concatenation(header);
    }
    if let (Some(reference), Some(total), Some(number)) = deliver.segment {
        part = part.or(Some((reference, total, number)));
    }
    let possible = |(_, total, number): &(u16, u8, u8)| *total > 1 && (1..=*total).contains(number);
    (part.filter(possible), octets)
}

/// The element of a user data header (3GPP TS 23.040, 9.2.3.24) that says which part this is.
fn concatenation(mut header: &[u8]) -> Option<(u16, u8, u8)> {
    while let [id, length, rest @ ..] = header {
        let (value, rest) = rest.split_at_checked((*length).into())?;
        match (id, value) {
            (0x00, [reference, total, number]) => {
                return Some(((*reference).into(), *total, *number));
            }
            (0x08, [high, low, total, number]) => {
                return Some((u16::from_be_bytes([*high, *low]), *total, *number));
            }
            _ => header = rest,
        }
    }
    None
}

/// The text of a message by its data coding (SMPP 3.4, 5.2.19, and 3GPP TS 23.038, 4); that of
/// binary messages is empty.
fn decoded(octets: &[u8], coding: u8, default: DefaultAlphabet) -> String {
    let by_default = || match default {
        DefaultAlphabet::Gsm7 => gsm7::decode(octets),
        DefaultAlphabet::Latin1 => from_latin1(octets),
    };
    match coding {
        0x00 => by_default(),
        0x01 | 0x03 => from_latin1(octets),
        0x08 => from_ucs2(octets),
        0x02 | 0x04 => String::new(),
        // With a class, uncompressed: bits 2 and 3 are the alphabet.
        0x10..=0x1F => match coding & 0x0C {
            0x00 => by_default(),
            0x08 => from_ucs2(octets),
            _ => String::new(),
        },
        0xF0..=0xFF if coding & 0x04 != 0 => String::new(),
        _ => by_default(),
    }
}

#[cfg(test)]
mod tests;
