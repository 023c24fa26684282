//! The chain of the audit log. The hash of each entry covers all of the entry, its place in the chain and the hash
//! before it: whoever has noted one hash finds out whether anything up to it was changed, taken out, put in or
//! moved.

use std::fmt;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::TenantId;

/// What each encoding begins with; another encoding has another one.
const ENCODING: &str = "anklang.audit.1";

/// Stands for a value that is not there, where the length of one that is would stand.
const NOTHING: [u8; 8] = [0xff; 8];

/// Who did what when to what: a call that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose data.
    pub tenant: TenantId,
    /// Its id.
    pub id: Uuid,
    /// When it was written, by the database's clock, to the microsecond.
    pub at: DateTime<Utc>,
    /// Who called.
    pub caller: String,
    /// The path of the call.
    pub method: String,
    /// Names of resources that request and response name, a few.
    pub resources: Vec<String>,
    /// The caller's id of the call.
    pub request_id: Option<Uuid>,
    /// SHA-256 of the request.
    pub request_hash: Vec<u8>,
    /// The trace that the call belongs to.
    pub trace_id: Option<String>,
    /// How many things were written, where the call tells it.
    pub written: Option<i64>,
    /// How many were refused, where the call tells it.
    pub refused: Option<i64>,
}

/// Who writes the entries that tell of the retention; no call is named so.
const RETENTION: &str = "anklang";

/// What they name as their method.
const REMOVE: &str = "/anklang.audit.v1.AuditService/RemoveOldEntries";

/// The fewest days for which entries are kept, where they are not kept for ever. The database holds to it as well.
pub const LEAST_DAYS: u32 = 30;

impl Entry {
    /// What an entry says that tells which entries before it went, as they were old.
    pub fn removes(&self) -> Option<Removed> {
        let of_retention =
            self.caller == RETENTION && self.method == REMOVE && self.refused.is_none();
        let (seq, hash) = (self.written?, self.request_hash.as_slice().try_into().ok()?);
        let before = self
            .resources
            .iter()
            .find_map(|name| name.strip_prefix("before/"))?;
        let before = DateTime::parse_from_rfc3339(before).ok()?.to_utc();
        of_retention.then_some(Removed {
            until: Head { seq, hash },
            before,
            at: self.at,
        })
    }

    /// The entry as bytes. Two entries that differ have different ones: each value stands behind its length, and
    /// none can be taken for a part of another.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder(Vec::with_capacity(512));
        out.put(ENCODING);
        out.put(self.tenant.0);
        out.put(self.id);
        out.put(self.at.timestamp_micros().to_be_bytes());
        out.put(&self.caller);
        out.put(&self.method);
        out.length(self.resources.len());
        for resource in &self.resources {
            out.put(resource);
        }
        out.put_any(self.request_id);
        out.put(&self.request_hash);
        out.put_any(self.trace_id.as_deref());
        out.put_any(self.written.map(i64::to_be_bytes));
        out.put_any(self.refused.map(i64::to_be_bytes));
        out.0
    }
}

/// Values one after the other, each behind its length in eight bytes.
struct Encoder(Vec<u8>);

impl Encoder {
    fn length(&mut self, length: usize) {
        self.0.extend((length as u64).to_be_bytes());
    }

    fn put(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.length(value.len());
        self.0.extend(value);
    }

    fn put_any(&mut self, value: Option<impl AsRef<[u8]>>) {
        match value {
            Some(value) => self.put(value),
            None => self.0.extend(NOTHING),
        }
    }
}

/// A place in a chain, and the hash there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the entry, from 1.
    pub seq: i64,
    /// Its hash, and so that of all before it.
    pub hash: [u8; 32],
}

/// Before the first entry of any chain.
pub const BEGINNING: Head = Head {
    seq: 0,
    hash: [0; 32],
};

impl Head {
    /// The next entry's place and hash: SHA-256 of the hash before it, the entry and its number.
    #[must_use]
    pub fn followed_by(&self, entry: &Entry) -> Head {
        let seq = self.seq.saturating_add(1);
        let hash = Sha256::new()
            .chain_update(self.hash)
            .chain_update(entry.encode())
            .chain_update(seq.to_be_bytes())
            .finalize();
        Head {
            seq,
            hash: hash.into(),
        }
    }
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It, or its hash, is not what was sealed.
    Changed,
    /// It is not there.
    Missing,
    /// It stands at another place.
    OutOfOrder,
    /// It is of another tenant than those before it.
    OtherTenant,
    /// Up to it all fits together, but another hash was noted of it.
    HeadDiffers,
    /// It tells that entries went which were younger than entries that may go.
    TooSoon,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Changed => "changed: the entry and its hash do not fit together",
            Fault::Missing => "missing",
            Fault::OutOfOrder => "out of order",
            Fault::OtherTenant => "of another tenant than those before it",
            Fault::HeadDiffers => "the head differs: its hash is not the one that was noted",
            Fault::TooSoon => {
                "removed too soon: it tells that entries went before their days were over"
            }
        })
    }
}

/// The first entry at which a chain is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {fault}")]
pub struct Broken {
    /// Its number.
    pub seq: i64,
    /// What is wrong.
    pub fault: Fault,
}

/// Entries that went as they were old, as an entry that stayed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// The last of them.
    pub until: Head,
    /// Before which time all of them were written.
    pub before: DateTime<Utc>,
    /// When it was said.
    pub at: DateTime<Utc>,
}

/// What whoever checks a chain knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Heads that were noted.
    pub heads: Vec<Head>,
    /// For how many days entries are kept at least.
    pub keep_days: u32,
}

impl Default for Known {
    fn default() -> Self {
        Known {
            heads: Vec::new(),
            keep_days: LEAST_DAYS,
        }
    }
}

/// A chain that is checked from its beginning on, entry by entry. It may begin behind entries that went as they were
/// old: then an entry further on says so, with the hash from which the chain goes on.
#[derive(Debug)]
pub struct Check {
    head: Head,
    /// The first entry, when others were before it and none has said yet that they went.
    first: Option<(Entry, Head)>,
    removed: Option<Removed>,
    known: Known,
    /// One of the heads that were noted was found.
    is_compared: bool,
    /// Whose the chain is, since its first entry.
    tenant: Option<TenantId>,
    /// The next entry did not come where it belongs: it is missing, unless it comes further on.
    gap: bool,
}

impl Check {
    /// Of a whole chain.
    pub fn new(known: Known) -> Self {
        Check {
            head: BEGINNING,
            first: None,
            removed: None,
            known,
            is_compared: false,
            tenant: None,
            gap: false,
        }
    }

    /// Of the part of a chain behind a place whose hash is taken for granted, unless it was noted.
    ///
    /// # Errors
    /// Another hash was noted of the place.
    pub fn behind(head: Head, known: Known) -> Result<Self, Broken> {
        let mut check = Check {
            head,
            ..Check::new(known)
        };
        check.compare(head)?;
        Ok(check)
    }

    /// Looks at the next entry, with what it is said to be sealed as.
    ///
    /// # Errors
    /// The chain is broken; nothing more needs to be looked at.
    pub fn add(&mut self, entry: &Entry, sealed: Head) -> Result<(), Broken> {
        let next = self.head.followed_by(entry);
        let is_first = self.tenant.is_none() && self.head == BEGINNING;
        if *self.tenant.get_or_insert(entry.tenant) != entry.tenant {
            return Err(Fault::OtherTenant.at(next.seq));
        }
        if sealed.seq < next.seq || (self.gap && sealed.seq == next.seq) {
            return Err(Fault::OutOfOrder.at(sealed.seq));
        }
        if sealed.seq > next.seq && !is_first {
            self.gap = true;
            return Ok(());
        }
        if sealed.seq > next.seq {
            self.first = Some((entry.clone(), sealed));
        } else if sealed != next {
            return Err(Fault::Changed.at(next.seq));
        } else if is_first {
            self.compare(BEGINNING)?;
        }
        self.head = sealed;
        self.explain(entry)?;
        self.compare(sealed)
    }

    /// Whether an entry says what became of those before the first one, and that fits.
    fn explain(&mut self, entry: &Entry) -> Result<(), Broken> {
        let Some(removed) = entry.removes() else {
            return Ok(());
        };
        let age = removed.at.signed_duration_since(removed.before);
        if age.num_days() < i64::from(self.known.keep_days) {
            return Err(Fault::TooSoon.at(self.head.seq));
        }
        let until = removed.until;
        let is_before = |(_, sealed): &mut (Entry, Head)| until.seq.saturating_add(1) == sealed.seq;
        let Some((first, sealed)) = self.first.take_if(is_before) else {
            return Ok(());
        };
        if until.followed_by(&first) != sealed {
            return Err(Fault::Changed.at(sealed.seq));
        }
        self.removed = Some(removed);
        self.compare(until)
    }

    /// What went as it was old, as far as that was told.
    pub fn removed(&self) -> Option<Removed> {
        self.removed
    }

    /// Whether one of the heads that were noted was found, and so all up to it is as it was then.
    pub fn is_compared(&self) -> bool {
        self.is_compared
    }

    /// Whose the chain is, once an entry was looked at.
    pub fn tenant(&self) -> Option<TenantId> {
        self.tenant
    }

    /// How far the chain is whole.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The end of the chain, when it is whole.
    ///
    /// # Errors
    /// The chain is broken.
    pub fn finish(mut self) -> Result<Head, Broken> {
        if self.first.is_some() {
            return Err(Fault::Missing.at(1));
        }
        self.compare(self.head)?;
        let mut heads = self.known.heads.iter();
        let is_short = heads.any(|noted| noted.seq > self.head.seq);
        match self.gap || is_short {
            true => Err(Fault::Missing.at(self.head.seq.saturating_add(1))),
            false => Ok(self.head),
        }
    }

    /// Whether a place is as it was noted, if it was.
    fn compare(&mut self, place: Head) -> Result<(), Broken> {
        for noted in self.known.heads.iter().filter(|n| n.seq == place.seq) {
            if *noted != place {
                return Err(Fault::HeadDiffers.at(place.seq));
            }
            self.is_compared = true;
        }
        Ok(())
    }
}

impl Fault {
    fn at(self, seq: i64) -> Broken {
        Broken { seq, fault: self }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test ends where it fails")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uuid(text: &str) -> Uuid {
        text.parse().unwrap()
    }

    fn hex(hash: [u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn full() -> Entry {
        Entry {
            tenant: TenantId(uuid("01930000-0000-7000-8000-000000000001")),
            id: uuid("01930000-0000-7000-8000-000000000002"),
            at: DateTime::from_timestamp_micros(1_795_000_000_123_456).unwrap(),
            caller: "tokens/crm".into(),
            method: "/anklang.customers.v1.CustomerService/UpdateCustomer".into(),
            resources: vec!["customers/4711".into(), "brands/gr%C3%BCn".into()],
            request_id: Some(uuid("01930000-0000-7000-8000-000000000003")),
            request_hash: vec![7; 32],
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
            written: Some(9_990),
            refused: Some(10),
        }
    }

    fn least() -> Entry {
        Entry {
            caller: "anybody".into(),
            resources: Vec::new(),
            request_id: None,
            request_hash: vec![0; 32],
            trace_id: None,
            written: None,
            refused: None,
            ..full()
        }
    }

    /// Made with Python's hashlib, from the words of docs/audit.md.
    #[test]
    fn hashes_are_those_that_others_make() {
        let first = BEGINNING.followed_by(&full());
        let second = first.followed_by(&least());
        assert_eq!((first.seq, second.seq), (1, 2));
        assert_eq!(
            hex(first.hash),
            "15a1cc03e4579a05634c86ba71bb9f7933f0ad9594ae92eb6fcc133ce0ef860a"
        );
        assert_eq!(
            hex(second.hash),
            "fc8b32f919438352abeb2c326fa5342de7c9c3714b705c8551370c172c2d0653"
        );
    }

    #[test]
    fn values_do_not_run_into_each_other() {
        let alike = [
            full(),
            Entry {
                caller: "tokens/crm/".into(),
                method: full().method[1..].into(),
                ..full()
            },
            Entry {
                resources: vec!["customers/4711brands/gr%C3%BCn".into()],
                ..full()
            },
            Entry {
                resources: vec!["brands/gr%C3%BCn".into(), "customers/4711".into()],
                ..full()
            },
            Entry {
                resources: Vec::new(),
                ..full()
            },
            Entry {
                resources: vec![String::new()],
                ..full()
            },
            Entry {
                trace_id: None,
                ..full()
            },
            Entry {
                trace_id: Some(String::new()),
                ..full()
            },
            Entry {
                written: Some(10),
                refused: Some(9_990),
                ..full()
            },
            Entry {
                written: None,
                ..full()
            },
            Entry {
                refused: None,
                ..full()
            },
        ];
        for (i, one) in alike.iter().enumerate() {
            for other in &alike[..i] {
                assert_ne!(one.encode(), other.encode(), "{one:?}");
            }
        }
    }

    /// A chain as it was sealed.
    fn sealed(entries: Vec<Entry>) -> Vec<(Entry, Head)> {
        let mut head = BEGINNING;
        let next = |entry: Entry| {
            head = head.followed_by(&entry);
            (entry, head)
        };
        entries.into_iter().map(next).collect()
    }

    fn noted(heads: impl IntoIterator<Item = Head>) -> Known {
        Known {
            heads: heads.into_iter().collect(),
            ..Known::default()
        }
    }

    fn check(chain: &[(Entry, Head)], head: Option<Head>) -> Result<Head, Broken> {
        let mut check = Check::new(noted(head));
        for (entry, sealed) in chain {
            check.add(entry, *sealed)?;
        }
        check.finish()
    }

    /// An entry of the retention, of entries that were older than so many days.
    fn telling(until: Head, days: i64) -> Entry {
        let before = least().at - chrono::TimeDelta::days(days);
        let before = before.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        Entry {
            caller: RETENTION.into(),
            method: REMOVE.into(),
            resources: vec!["auditEntries/x".into(), format!("before/{before}")],
            request_hash: until.hash.to_vec(),
            written: Some(until.seq),
            ..least()
        }
    }

    #[test]
    fn a_chain_says_where_it_is_broken_and_why() {
        let whole = sealed(vec![full(), least(), full(), least()]);
        let last = whole[3].1;
        let broken = |seq, fault: Fault| Err(fault.at(seq));
        assert_eq!(check(&[], None), Ok(BEGINNING));
        assert_eq!(check(&[], Some(BEGINNING)), Ok(BEGINNING));
        assert_eq!(check(&whole, None), Ok(last));
        for (_, noted) in &whole {
            assert_eq!(check(&whole, Some(*noted)), Ok(last));
        }
        // What comes after a head that was noted, nobody has noted.
        assert_eq!(check(&whole[..3], Some(whole[1].1)), Ok(whole[2].1));

        let without_second = [&whole[..1], &whole[2..]].concat();
        assert_eq!(check(&without_second, None), broken(2, Fault::Missing));
        assert_eq!(check(&whole[1..], None), broken(1, Fault::Missing));
        assert_eq!(check(&whole[..3], Some(last)), broken(4, Fault::Missing));
        let mut moved = whole.clone();
        moved.swap(1, 2);
        assert_eq!(check(&moved, None), broken(2, Fault::OutOfOrder));
        let twice = [&whole[..2], &whole[1..]].concat();
        assert_eq!(check(&twice, None), broken(2, Fault::OutOfOrder));
        let mut exchanged = whole.clone();
        exchanged[1].0 = full();
        exchanged[2].0 = least();
        assert_eq!(check(&exchanged, None), broken(2, Fault::Changed));

        // Made anew from some place on, it fits together, and not to what was noted.
        let anew = sealed(vec![full(), full(), full(), least()]);
        assert_eq!(check(&anew, None), Ok(anew[3].1));
        assert_eq!(check(&anew, Some(last)), broken(4, Fault::HeadDiffers));
        assert_eq!(
            check(&anew, Some(whole[1].1)),
            broken(2, Fault::HeadDiffers)
        );
        assert_eq!(check(&anew, Some(whole[0].1)), Ok(anew[3].1));
    }

    #[test]
    fn what_went_as_it_was_old_is_told_by_the_chain_itself() {
        let mut chain = sealed(vec![full(), least(), full(), least()]);
        let (second, last) = (chain[1].1, chain[3].1);
        for until in [second, chain[2].1] {
            let said = telling(until, 30);
            let head = chain[chain.len() - 1].1.followed_by(&said);
            chain.push((said, head));
        }
        let end = chain[5].1;
        assert_eq!(check(&chain, Some(end)), Ok(end), "before anything goes");
        for noted in [None, Some(second), Some(last), Some(end)] {
            assert_eq!(check(&chain[2..], noted), Ok(end), "{noted:?}");
            assert_eq!(check(&chain[3..], noted), Ok(end), "{noted:?}");
        }
        let mut looked = Check::new(Known::default());
        for (entry, sealed) in &chain[2..] {
            looked.add(entry, *sealed).unwrap();
        }
        assert_eq!(looked.removed().map(|removed| removed.until), Some(second));

        // Fewer or more went than was told, or others than the first ones.
        let broken = |seq, fault: Fault| Err(fault.at(seq));
        assert_eq!(check(&chain[1..], None), broken(1, Fault::Missing));
        assert_eq!(check(&chain[4..], None), broken(1, Fault::Missing));
        assert_eq!(check(&chain[2..4], None), broken(1, Fault::Missing));
        let middle = [&chain[..1], &chain[2..]].concat();
        assert_eq!(check(&middle, None), broken(2, Fault::Missing));
        // The first that stayed was changed, or its hash, or what was told of those before it.
        let mut changed = chain[2..].to_vec();
        changed[0].0.caller = "tokens/other".into();
        assert_eq!(check(&changed, None), broken(3, Fault::Changed));
        let mut other = second;
        other.hash[0] ^= 1;
        assert_eq!(
            check(&chain[2..], Some(other)),
            broken(2, Fault::HeadDiffers)
        );
        let mut forged = chain[2..4].to_vec();
        let said = telling(other, 30);
        let head = last.followed_by(&said);
        forged.push((said, head));
        assert_eq!(check(&forged, None), broken(3, Fault::Changed));
    }

    #[test]
    fn only_entries_of_the_retention_explain_what_is_missing_and_none_went_too_soon() {
        let chain = sealed(vec![full(), least(), full()]);
        let (second, end) = (chain[1].1, chain[2].1);
        let with = |said: Entry, keep_days: u32| {
            let mut check = Check::new(Known {
                keep_days,
                ..Known::default()
            });
            let head = end.followed_by(&said);
            for (entry, sealed) in [chain[2].clone(), (said, head)] {
                check.add(&entry, sealed)?;
            }
            check.finish()
        };
        let broken = |seq, fault: Fault| Err(fault.at(seq));
        let said = telling(second, 40);
        assert_eq!(with(said.clone(), 40), Ok(end.followed_by(&said)));
        assert_eq!(with(said.clone(), 41), broken(4, Fault::TooSoon));
        for days in [29, 0, -1] {
            let said = telling(second, days);
            assert_eq!(with(said, LEAST_DAYS), broken(4, Fault::TooSoon), "{days}");
        }

        // Not what anybody else has done, and not without the time.
        let others = [
            Entry {
                caller: "tokens/crm".into(),
                ..said.clone()
            },
            Entry {
                method: full().method,
                ..said.clone()
            },
            Entry {
                resources: Vec::new(),
                ..said.clone()
            },
            Entry {
                resources: vec!["before/the flood".into()],
                ..said.clone()
            },
            Entry {
                refused: Some(0),
                ..said
            },
        ];
        for other in others {
            let found = with(other.clone(), LEAST_DAYS);
            assert_eq!(found, broken(1, Fault::Missing), "{other:?}");
        }
    }

    #[test]
    fn whether_a_noted_head_was_found_is_known() {
        let mut chain = sealed(vec![full(), least(), full(), least()]);
        let heads: Vec<Head> = chain.iter().map(|(_, head)| *head).collect();
        let said = telling(heads[1], 30);
        let head = heads[3].followed_by(&said);
        chain.push((said, head));
        let look = |from: usize, heads: &[Head]| {
            let mut check = Check::new(noted(heads.iter().copied()));
            for (entry, sealed) in &chain[from..] {
                check.add(entry, *sealed)?;
            }
            let is_compared = check.is_compared();
            check.finish().map(|_| is_compared)
        };
        assert_eq!(look(0, &[]), Ok(false));
        assert_eq!(look(0, &[BEGINNING]), Ok(true));
        assert_eq!(look(0, &heads), Ok(true));
        // Of those that went only the very last one is told; a later one that stands is as good.
        assert_eq!(look(2, &[BEGINNING]), Ok(false));
        assert_eq!(look(2, &heads[..1]), Ok(false));
        assert_eq!(look(2, &heads[..2]), Ok(true));
        assert_eq!(look(2, &[heads[0], heads[3]]), Ok(true));
        let mut other = heads[3];
        other.hash[0] ^= 1;
        let differs = Err(Fault::HeadDiffers.at(4));
        assert_eq!(look(2, &[heads[1], other]), differs);
        assert_eq!(look(0, &[other, heads[0]]), differs);
    }

    #[test]
    fn a_part_of_a_chain_is_checked_from_a_place_on() {
        let chain = sealed(vec![full(), least(), full(), least()]);
        let part = |head: Head, entries: &[(Entry, Head)]| {
            let mut check = Check::behind(head, Known::default())?;
            for (entry, sealed) in entries {
                check.add(entry, *sealed)?;
            }
            check.finish()
        };
        let (second, last) = (chain[1].1, chain[3].1);
        assert_eq!(part(second, &chain[2..]), Ok(last));
        assert_eq!(part(second, &[]), Ok(second));
        assert_eq!(part(second, &chain[3..]), Err(Fault::Missing.at(3)));
        let mut other = second;
        other.hash[0] ^= 1;
        assert_eq!(part(other, &chain[2..]), Err(Fault::Changed.at(3)));

        // The place itself may have been noted.
        let looked = Check::behind(second, noted([second])).unwrap();
        assert!(looked.is_compared());
        let looked = Check::behind(second, noted([other]));
        assert_eq!(looked.unwrap_err(), Fault::HeadDiffers.at(2));
        let looked = Check::behind(second, noted([chain[0].1])).unwrap();
        assert!(!looked.is_compared());
    }

    #[test]
    fn a_chain_is_of_one_tenant() {
        let other = Entry {
            tenant: TenantId(uuid("01930000-0000-7000-8000-000000000009")),
            ..least()
        };
        let mixed = sealed(vec![full(), other, full()]);
        assert_eq!(check(&mixed, None), Err(Fault::OtherTenant.at(2)));
        let mut looked = Check::new(Known::default());
        assert_eq!(looked.tenant(), None);
        assert_eq!(looked.add(&mixed[0].0, mixed[0].1), Ok(()));
        assert_eq!(looked.tenant(), Some(full().tenant));
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let texts = ("[a-z/]{0,4}", "[a-z/]{0,4}");
        let resources = prop::collection::vec("[a-z/]{0,4}", 0..4);
        let maybe = (any::<Option<u128>>(), any::<Option<u8>>());
        let counts = (any::<Option<i64>>(), any::<Option<i64>>());
        let ids = (0..3u128, any::<u128>(), any::<i32>());
        (ids, texts, resources, maybe, counts).prop_map(
            |(
                (tenant, id, at),
                (caller, method),
                resources,
                (request, trace),
                (written, refused),
            )| Entry {
                tenant: TenantId(Uuid::from_u128(tenant)),
                id: Uuid::from_u128(id),
                at: DateTime::from_timestamp_micros(at.into()).unwrap(),
                caller,
                method,
                resources,
                request_id: request.map(Uuid::from_u128),
                request_hash: id.to_be_bytes().to_vec(),
                trace_id: trace.map(|n| n.to_string()),
                written,
                refused,
            },
        )
    }

    /// Something done to a chain behind its back; the second value says to what else.
    fn tampered(
        chain: &[(Entry, Head)],
        what: usize,
        at: usize,
        other: &Entry,
    ) -> Vec<(Entry, Head)> {
        let mut chain = chain.to_vec();
        let entry = &mut chain[at].0;
        match what {
            0 => entry.tenant = other.tenant,
            1 => entry.id = other.id,
            2 => entry.at = other.at,
            3 => entry.caller.clone_from(&other.caller),
            4 => entry.method.clone_from(&other.method),
            5 => entry.resources.clone_from(&other.resources),
            6 => entry.request_id = other.request_id,
            7 => entry.request_hash.clone_from(&other.request_hash),
            8 => entry.trace_id.clone_from(&other.trace_id),
            9 => entry.written = other.written,
            10 => entry.refused = other.refused,
            11 => chain[at].1.hash[at % 32] ^= 1,
            12 => chain[at].1.seq = other.written.unwrap_or(-1),
            13 => drop(chain.remove(at)),
            14 => {
                let head = chain[at].1;
                chain.insert(at, (other.clone(), head));
            }
            _ => {
                let to = (at + 1) % chain.len();
                chain.swap(at, to);
            }
        }
        chain
    }

    proptest! {
        #[test]
        fn any_single_change_is_found(
            mut some in prop::collection::vec(entries(), 1..8),
            other in entries(),
            what in 0..16usize,
            at in any::<prop::sample::Index>(),
        ) {
            let tenant = some[0].tenant;
            some.iter_mut().for_each(|entry| entry.tenant = tenant);
            let chain = sealed(some);
            let end = chain[chain.len() - 1].1;
            prop_assert_eq!(check(&chain, Some(end)), Ok(end));
            let changed = tampered(&chain, what, at.index(chain.len()), &other);
            let found = check(&changed, Some(end));
            prop_assert_eq!(found.is_ok(), changed == chain, "{:?}", found);
        }

        #[test]
        fn entries_that_differ_are_encoded_differently(one in entries(), other in entries()) {
            prop_assert_eq!(one == other, one.encode() == other.encode());
        }
    }
}
