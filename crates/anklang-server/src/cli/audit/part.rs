//! The part of a chain that is checked: all of it, or from an entry on.

use anklang_domain::TenantId;
use anklang_domain::audit::{Check, Entry, Head, Known, Removed};
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
    known: Known,
    /// From which entry on, until it has come.
    since: Option<Since>,
    /// The number of the entry before those that are checked; 0 when it is the beginning.
    before: i64,
    /// The number of the first entry that was read, checked or not.
    first: Option<i64>,
}

impl Part {
    /// From an entry on, or all.
    pub fn new(since: Option<Since>, known: Known) -> Self {
        Part {
            check: Check::new(known.clone()),
            known,
            since,
            before: 0,
            first: None,
        }
    }

    /// Looks at the next entry; the error says which is broken, and why.
    pub fn look(&mut self, read: Result<(Entry, Head), String>) -> Result<(), String> {
        let next = self.check.head().seq.saturating_add(1);
        let (entry, sealed) = read.map_err(|why| format!("entry {next}: changed: {why}"))?;
        self.first.get_or_insert(sealed.seq);
        let is_reached = match self.since {
            None => true,
            Some(Since::Seq(seq)) => sealed.seq >= seq,
            Some(Since::Time(at)) => entry.at >= at,
        };
        if !is_reached {
            self.check =
                Check::behind(sealed, self.known.clone()).map_err(|broken| broken.to_string())?;
            self.before = sealed.seq;
            return Ok(());
        }
        self.since = None;
        self.check
            .add(&entry, sealed)
            .map_err(|broken| broken.to_string())
    }

    /// What came of it, when all was looked at or something was found.
    pub fn finish(self, found: Result<(), String>) -> Looked {
        let check = self.check;
        Looked {
            first: self.first,
            before: self.before,
            tenant: check.tenant(),
            removed: check.removed(),
            is_compared: check.is_compared(),
            head: found.and_then(|()| check.finish().map_err(|broken| broken.to_string())),
        }
    }
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The number of the first entry that was read.
    pub first: Option<i64>,
    /// The number of the entry before those that were checked; 0 when it is the beginning.
    pub before: i64,
    /// Whose the chain is, if it has entries.
    pub tenant: Option<TenantId>,
    /// What went as it was old.
    pub removed: Option<Removed>,
    /// One of the heads that were given was found.
    pub is_compared: bool,
    /// The end of the chain, or what is wrong with it.
    pub head: Result<Head, String>,
}

#[cfg(test)]
mod tests {
    use anklang_domain::audit::BEGINNING;
    use uuid::Uuid;

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

    #[test]
    fn a_head_of_the_entry_before_the_part_is_compared() {
        let entry = Entry {
            tenant: TenantId(Uuid::from_u128(1)),
            id: Uuid::from_u128(2),
            at: DateTime::UNIX_EPOCH,
            caller: "tokens/crm".into(),
            method: "/x/Y".into(),
            resources: Vec::new(),
            request_id: None,
            request_hash: vec![0; 32],
            trace_id: None,
            written: None,
            refused: None,
        };
        let first = BEGINNING.followed_by(&entry);
        let second = first.followed_by(&entry);
        let third = second.followed_by(&entry);
        let look = |heads: &[Head]| -> Result<bool, String> {
            let known = Known {
                heads: heads.to_vec(),
                ..Known::default()
            };
            let mut part = Part::new(Some(Since::Seq(3)), known);
            for sealed in [first, second, third] {
                part.look(Ok((entry.clone(), sealed)))?;
            }
            let looked = part.finish(Ok(()));
            assert_eq!((looked.first, looked.before), (Some(1), 2));
            looked.head.map(|_| looked.is_compared)
        };
        assert_eq!(look(&[]), Ok(false));
        assert_eq!(look(&[second]), Ok(true));
        assert_eq!(look(&[third]), Ok(true));
        // One further before is not led to by the part, and yet not another's.
        assert_eq!(look(&[first]), Ok(false));
        for mut other in [first, second] {
            other.hash[0] ^= 1;
            let differs = look(&[other]);
            let why = differs.expect_err("another hash");
            assert!(why.contains("the head differs"), "{why}");
        }
    }
}
