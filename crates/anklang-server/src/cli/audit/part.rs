//! The part of a chain that is checked: all of it, or from an entry on.

use anklang_domain::audit::{Check, Entry, Head};
use chrono::{DateTime, Utc};

/// The first entry that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// That with this number.
    Seq(i64),
    /// The first in the chain that was written at this time or later.
    Time(DateTime<Utc>),
}

/// Reads a number or a time.
pub fn since(text: &str) -> Result<Since, String> {
    let seq = text.parse().ok().filter(|seq: &i64| *seq > 0);
    let time = || {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .map(|at| at.to_utc())
    };
    seq.map(Since::Seq)
        .or_else(|| time().map(Since::Time))
        .ok_or_else(|| {
            "must be a number from 1 on, or a time as 2027-01-31T10:00:00+01:00".to_owned()
        })
}

/// What was looked at.
pub struct Part {
    check: Check,
    noted: Option<Head>,
    /// From which entry on, until it has come.
    since: Option<Since>,
    /// The number of the entry before those that are checked; 0 when it is the beginning.
    before: i64,
}

impl Part {
    /// From an entry on, or all; somebody may have noted a head.
    pub fn new(since: Option<Since>, noted: Option<Head>) -> Self {
        Part {
            check: Check::new(noted),
            noted,
            since,
            before: 0,
        }
    }

    /// Looks at the next entry; the error says which is broken, and why.
    pub fn look(&mut self, read: Result<(Entry, Head), String>) -> Result<(), String> {
        let next = self.check.head().seq.saturating_add(1);
        let (entry, sealed) = read.map_err(|why| format!("entry {next}: changed: {why}"))?;
        let is_reached = match self.since {
            None => true,
            Some(Since::Seq(seq)) => sealed.seq >= seq,
            Some(Since::Time(at)) => entry.at >= at,
        };
        if !is_reached {
            self.check = Check::behind(sealed, self.noted);
            self.before = sealed.seq;
            return Ok(());
        }
        self.since = None;
        self.check
            .add(&entry, sealed)
            .map_err(|broken| broken.to_string())
    }

    /// The check, and behind which entry it began.
    pub fn checked(self) -> (Check, i64) {
        (self.check, self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_with_a_number_or_a_time() {
        assert_eq!(since("17"), Ok(Since::Seq(17)));
        let time = since("1970-01-01T01:00:01+01:00").expect("a time");
        assert_eq!(
            time,
            Since::Time(DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(1))
        );
        for wrong in ["", "0", "-1", "x", "2027-01-31"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
