//! Which mails are read, and how far the host is with them: told, acknowledged, put away.
//!
//! A mail tells of one event at most. It stays in its folder until the host has acknowledged the
//! event: after a crash, this ledger is empty and the mail is read again. Numbers of events begin
//! at the clock, so that a late acknowledgement of an earlier instance means none of this one's.
//! Memory is bounded: beyond [`MOST`] mails nothing more is read until some are put away.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Mails that are read and not yet put away.
const MOST: usize = 500;
/// A host that has acknowledged nothing for so long may have lost the event: it is told again.
const ACK_PATIENCE: Duration = Duration::from_secs(600);

/// Where a mail goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// It was understood.
    Done,
    /// It was not, and a person may want to look.
    Aside,
}

/// See the module's documentation.
pub(super) struct Ledger {
    next_event: u64,
    /// The folder's UIDVALIDITY: with another one, all numbers of mails mean others.
    validity: Option<u32>,
    /// The mail of each event that was told, and when.
    told: HashMap<u64, (u32, Instant)>,
    /// All mails of `told` and `leaving`.
    known: HashSet<u32>,
    /// Mails to be put away.
    leaving: BTreeMap<u32, Place>,
}

impl Ledger {
    pub(super) fn new(now: SystemTime) -> Self {
        let millis = now
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        Self {
            // 20 bits are a million events within the first millisecond.
            next_event: u64::try_from(millis).unwrap_or(0) << 20 | 1,
            validity: None,
            told: HashMap::new(),
            known: HashSet::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// The folder is open. What was known of it holds only with the same `validity`.
    pub(super) fn opened(&mut self, validity: Option<u32>) {
        if validity.is_none() || self.validity != validity {
            self.told.clear();
            self.known.clear();
            self.leaving.clear();
        }
        self.validity = validity;
    }

    /// Of the mails in the folder those that are to be read now, and whether there are more.
    pub(super) fn unread(&mut self, mut found: Vec<u32>, now: Instant) -> (Vec<u32>, bool) {
        self.told.retain(|_, (mail, since)| {
            let waits = now.duration_since(*since) < ACK_PATIENCE;
            if !waits {
                self.known.remove(mail);
            }
            waits
        });
        found.sort_unstable();
        found.retain(|mail| !self.known.contains(mail));
        let room = MOST.saturating_sub(self.known.len());
        let more = found.len() > room;
        found.truncate(room);
        (found, more)
    }

    /// The number of the event that a mail tells of.
    pub(super) fn tell(&mut self, mail: u32, now: Instant) -> u64 {
        let event = self.next_event;
        self.next_event += 1;
        self.told.insert(event, (mail, now));
        self.known.insert(mail);
        event
    }

    /// The mail is to be put away, without an event.
    pub(super) fn leave(&mut self, mail: u32, place: Place) {
        self.known.insert(mail);
        self.leaving.insert(mail, place);
    }

    /// The host has committed these events. Unknown ones are of mails that are gone.
    pub(super) fn acknowledge(&mut self, events: &[u64]) {
        for event in events {
            if let Some((mail, _)) = self.told.remove(event) {
                self.leaving.insert(mail, Place::Done);
            }
        }
    }

    /// The mails to be put away, each with its place.
    pub(super) fn leaving(&self, place: Place) -> Vec<u32> {
        let here = self.leaving.iter().filter(|(_, p)| **p == place);
        here.map(|(mail, _)| *mail).collect()
    }

    /// These mails are put away.
    pub(super) fn left(&mut self, mails: &[u32]) {
        for mail in mails {
            self.leaving.remove(mail);
            self.known.remove(mail);
        }
    }

    /// Events that wait for their acknowledgement.
    pub(super) fn waiting(&self) -> usize {
        self.told.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(SystemTime::now());
        ledger.opened(Some(1));
        ledger
    }

    #[test]
    fn a_mail_leaves_when_its_event_is_acknowledged() {
        let (mut ledger, now) = (ledger(), Instant::now());
        assert_eq!(ledger.unread(vec![3, 1, 2], now), (vec![1, 2, 3], false));
        let first = ledger.tell(1, now);
        let second = ledger.tell(2, now);
        ledger.leave(3, Place::Aside);
        assert_ne!(first, second);
        assert_eq!(ledger.unread(vec![1, 2, 3, 4], now).0, [4]);
        assert!(ledger.leaving(Place::Done).is_empty());
        ledger.acknowledge(&[second, 0, 4711, second]);
        assert_eq!(ledger.leaving(Place::Done), [2]);
        assert_eq!(ledger.leaving(Place::Aside), [3]);
        ledger.left(&[2, 3]);
        assert_eq!(ledger.waiting(), 1);
        // Should a move not have happened after all, the mail is read again.
        assert_eq!(ledger.unread(vec![1, 2], now).0, [2]);
    }

    #[test]
    fn an_event_that_nobody_acknowledges_is_told_again() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let lost = ledger.tell(1, now);
        let later = now + ACK_PATIENCE;
        assert_eq!(ledger.unread(vec![1], later).0, [1]);
        let again = ledger.tell(1, later);
        ledger.acknowledge(&[lost]);
        assert!(ledger.leaving(Place::Done).is_empty());
        ledger.acknowledge(&[again]);
        assert_eq!(ledger.leaving(Place::Done), [1]);
    }

    #[test]
    fn memory_is_bounded() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let most = u32::try_from(MOST).expect("is small");
        let found: Vec<u32> = (1..=most + 10).collect();
        let (read, more) = ledger.unread(found.clone(), now);
        assert_eq!((read.len(), more), (MOST, true));
        for mail in read {
            ledger.tell(mail, now);
        }
        assert_eq!(ledger.unread(found, now), (Vec::new(), true));
    }

    #[test]
    fn a_folder_made_anew_is_read_anew() {
        let (mut ledger, now) = (ledger(), Instant::now());
        let old = ledger.tell(1, now);
        ledger.opened(Some(1));
        assert!(ledger.unread(vec![1], now).0.is_empty());
        ledger.opened(Some(2));
        assert_eq!(ledger.unread(vec![1], now).0, [1]);
        ledger.acknowledge(&[old]);
        assert!(ledger.leaving(Place::Done).is_empty());
        // A server that does not say whether it is the same one.
        ledger.opened(None);
        ledger.tell(1, now);
        ledger.opened(None);
        assert_eq!(ledger.unread(vec![1], now).0, [1]);
    }

    #[test]
    fn another_instance_numbers_its_events_otherwise() {
        let early = SystemTime::now();
        let mut first = Ledger::new(early);
        let mut second = Ledger::new(early + Duration::from_millis(1));
        let now = Instant::now();
        let firsts: HashSet<u64> = (0..1000).map(|mail| first.tell(mail, now)).collect();
        assert!((0..1000).all(|mail| !firsts.contains(&second.tell(mail, now))));
    }
}
