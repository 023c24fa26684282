//! Routes: how messages are shared out among accounts of one channel, and when an account stands in
//! for another.
//!
//! A message goes to one of the accounts of the lowest priority that can send, by their shares. Which
//! one follows from the message's id alone, so that every server and every repetition says the same.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use uuid::Uuid;

use crate::Violations;

/// The most accounts of a route.
pub const MAX_ENTRIES: usize = 20;
/// The highest number of a priority, from 1.
pub const MAX_PRIORITY: i32 = 100;
/// The largest share, from 1.
pub const MAX_SHARE: i32 = 1_000;
/// So long an account may fail or be held before others stand in for it, when nobody says otherwise.
pub const FAILOVER_AFTER: TimeDelta = TimeDelta::minutes(5);
/// The longest that somebody can say.
pub const LONGEST_FAILOVER_AFTER: TimeDelta = TimeDelta::days(1);

/// An account in a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub account: String,
    /// Those with the lowest number come first; 1 to [`MAX_PRIORITY`].
    pub priority: i32,
    /// Its share among those with the same priority; 1 to [`MAX_SHARE`].
    pub share: i32,
}

/// Checks the entries of a route, which stand at `field`.
pub fn check(entries: &[Entry], field: &str, violations: &mut Violations) {
    if !(1..=MAX_ENTRIES).contains(&entries.len()) {
        violations.add(field, format!("must be 1 to {MAX_ENTRIES}"));
    }
    let mut seen = BTreeSet::new();
    for (i, entry) in entries.iter().take(MAX_ENTRIES).enumerate() {
        let at = |name: &str| format!("{field}[{i}].{name}");
        if !seen.insert(&entry.account) {
            violations.add(at("channel_account"), "is given twice");
        }
        if !(1..=MAX_PRIORITY).contains(&entry.priority) {
            violations.add(at("priority"), format!("must be 1 to {MAX_PRIORITY}"));
        }
        if !(1..=MAX_SHARE).contains(&entry.share) {
            violations.add(at("share"), format!("must be 1 to {MAX_SHARE}"));
        }
    }
}

/// How an account stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// It is there: not deleted, not taken out of the configuration.
    pub exists: bool,
    /// A person has paused it.
    pub paused: bool,
    /// For so long it could not send.
    pub failing_for: Option<TimeDelta>,
    /// For so long its channel has wanted to be left alone, and still does.
    pub held_for: Option<TimeDelta>,
}

impl Standing {
    /// Whether messages go to it: what a person decides counts at once, trouble when it has lasted for
    /// `failover_after`.
    pub fn can_send(&self, failover_after: TimeDelta) -> bool {
        let lasts = |span: Option<TimeDelta>| span.is_some_and(|span| span >= failover_after);
        self.exists && !self.paused && !lasts(self.failing_for) && !lasts(self.held_for)
    }
}

/// Which messages go to which account: by their [`place`] modulo `total`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// One after the other, without gaps, from 0 to `total`.
    pub ranges: Vec<Range>,
    /// Sum of the shares, at least 1.
    pub total: i64,
}

/// The places of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The account.
    pub account: String,
    /// The first place.
    pub from: i64,
    /// The one after the last.
    pub until: i64,
}

/// Shares messages out among the accounts of the lowest priority of which one can send; `None` when
/// none can.
pub fn split(entries: &[Entry], can_send: impl Fn(&Entry) -> bool) -> Option<Split> {
    let able: Vec<&Entry> = entries.iter().filter(|e| can_send(e)).collect();
    let first = able.iter().map(|e| e.priority).min()?;
    let mut total = 0;
    let ranges = able
        .into_iter()
        .filter(|e| e.priority == first)
        .map(|e| {
            let from = total;
            total += i64::from(e.share.max(1));
            Range {
                account: e.account.clone(),
                from,
                until: total,
            }
        })
        .collect();
    Some(Split { ranges, total })
}

/// The place of a message: the last four bytes of its id, which are random, as a number. The database
/// computes the same (`PLACE` in the store).
pub fn place(message: Uuid) -> i64 {
    let bytes = message.as_bytes();
    i64::from(u32::from_be_bytes([
        bytes[12], bytes[13], bytes[14], bytes[15],
    ]))
}

impl Split {
    /// The account of a message.
    pub fn account(&self, message: Uuid) -> &str {
        let place = place(message) % self.total;
        let range = self.ranges.iter().find(|range| place < range.until);
        range.map_or("", |range| &range.account)
    }

    /// The part of all messages that an account gets, from 0 to 1, by account.
    pub fn parts(&self) -> impl Iterator<Item = (&str, f64)> {
        #[expect(clippy::cast_precision_loss, reason = "at most some thousand")]
        let part = |range: &Range| (range.until - range.from) as f64 / self.total as f64;
        self.ranges
            .iter()
            .map(move |range| (&range.account[..], part(range)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(account: &str, priority: i32, share: i32) -> Entry {
        Entry {
            account: account.into(),
            priority,
            share,
        }
    }

    #[test]
    fn messages_are_shared_out_by_share_within_the_first_priority_that_can() {
        let entries = [
            entry("a", 1, 3),
            entry("b", 1, 1),
            entry("c", 2, 1),
            entry("d", 2, 1),
        ];
        let count = |can_send: &dyn Fn(&Entry) -> bool| {
            let split = split(&entries, can_send)?;
            let mut counts = BTreeMap::new();
            for _ in 0..4_000 {
                // Random, as those of messages are in these bytes.
                let id = Uuid::now_v7();
                *counts.entry(split.account(id).to_owned()).or_insert(0) += 1;
            }
            Some(counts)
        };
        let all = count(&|_| true).unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!((2_700..3_300).contains(&all["a"]), "{all:?}");
        let without_a = count(&|e| e.account != "a").unwrap();
        assert_eq!(without_a, BTreeMap::from([("b".to_owned(), 4_000)]));
        let second = count(&|e| e.priority == 2).unwrap();
        assert!((1_800..2_200).contains(&second["c"]), "{second:?}");
        assert_eq!(count(&|_| false), None);
    }

    #[test]
    fn what_a_person_decides_counts_at_once_and_trouble_when_it_lasts() {
        let bound = TimeDelta::seconds(60);
        let good = Standing {
            exists: true,
            ..Default::default()
        };
        assert!(good.can_send(bound));
        assert!(!Standing::default().can_send(bound));
        let paused = Standing {
            paused: true,
            ..good
        };
        assert!(!paused.can_send(bound));
        for (seconds, can) in [(0, true), (59, true), (60, false), (3_600, false)] {
            let span = Some(TimeDelta::seconds(seconds));
            let failing = Standing {
                failing_for: span,
                ..good
            };
            let held = Standing {
                held_for: span,
                ..good
            };
            assert_eq!((failing.can_send(bound), held.can_send(bound)), (can, can));
        }
    }

    #[test]
    fn all_that_is_wrong_with_entries_is_told() {
        let mut violations = Violations::new();
        let wrong = [entry("a", 0, 1), entry("a", 101, 0), entry("b", 1, 1_001)];
        check(&wrong, "e", &mut violations);
        check(&[], "none", &mut violations);
        let fields: Vec<String> = violations.into_vec().into_iter().map(|v| v.field).collect();
        assert_eq!(
            fields,
            [
                "e[0].priority",
                "e[1].channel_account",
                "e[1].priority",
                "e[1].share",
                "e[2].share",
                "none",
            ]
        );
    }

    proptest! {
        /// Each message has exactly one account: one that can send, of the lowest priority.
        #[test]
        fn every_message_has_one_account(
            shape in prop::collection::vec((1..4i32, 1..50i32, any::<bool>()), 1..10), id: u128,
        ) {
            let id = Uuid::from_u128(id);
            let entries: Vec<Entry> = shape.iter().enumerate()
                .map(|(i, (priority, share, _))| entry(&i.to_string(), *priority, *share))
                .collect();
            let able = |e: &Entry| shape[e.account.parse::<usize>().unwrap()].2;
            let Some(split) = split(&entries, able) else {
                prop_assert!(shape.iter().all(|s| !s.2));
                return Ok(());
            };
            let found = entries.iter().find(|e| e.account == split.account(id)).unwrap();
            let lowest = entries.iter().filter(|e| able(e)).map(|e| e.priority).min();
            prop_assert!(able(found) && Some(found.priority) == lowest);
            let holds = |r: &&Range| (r.from..r.until).contains(&(place(id) % split.total));
            prop_assert_eq!(split.ranges.iter().filter(holds).count(), 1);
            let parts: f64 = split.parts().map(|(_, part)| part).sum();
            prop_assert!((parts - 1.0).abs() < 1e-9);
        }
    }
}
