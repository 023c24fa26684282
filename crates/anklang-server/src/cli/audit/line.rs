//! Entries of the audit log as lines of a file.

use anklang_domain::TenantId;
use anklang_domain::audit::{Entry, Head};
use anklang_proto::anklang::audit::v1 as pb;
use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::grpc::wire;

/// A sealed entry in JSON: a line of an exported file, its fields named as in the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    seq: i64,
    hash: String,
    name: String,
    tenant_uid: String,
    create_time: String,
    caller: String,
    method: String,
    resources: Vec<String>,
    request_id: String,
    request_sha256: String,
    trace_id: String,
    written_count: Option<i64>,
    refused_count: Option<i64>,
}

impl Line {
    /// The line of an entry.
    pub fn of(entry: pb::AuditEntry) -> anyhow::Result<Self> {
        let at = entry.create_time.as_ref().map(wire::date_time);
        let at = at.and_then(Result::ok);
        let at = at.with_context(|| format!("{} has no time", entry.name))?;
        Ok(Line {
            seq: entry.seq,
            hash: entry.hash,
            name: entry.name,
            tenant_uid: entry.tenant_uid,
            create_time: at.to_rfc3339_opts(SecondsFormat::Micros, true),
            caller: entry.caller,
            method: entry.method,
            resources: entry.resources,
            request_id: entry.request_id,
            request_sha256: entry.request_sha256,
            trace_id: entry.trace_id,
            written_count: entry.written_count,
            refused_count: entry.refused_count,
        })
    }

    /// Reads a line, or says why it is none.
    pub fn parse(text: &str) -> Result<(Entry, Head), String> {
        let line: Line = serde_json::from_str(text).map_err(|e| format!("no entry: {e}"))?;
        line.read()
    }

    /// The entry, and what it is said to be sealed as.
    pub fn read(self) -> Result<(Entry, Head), String> {
        let id = self.name.strip_prefix("auditEntries/").unwrap_or_default();
        let request_id = match &self.request_id[..] {
            "" => None,
            id => Some(uuid(id, "request_id")?),
        };
        let entry = Entry {
            tenant: TenantId(uuid(&self.tenant_uid, "tenant_uid")?),
            id: uuid(id, "name")?,
            at: time(&self.create_time)?,
            request_id,
            request_hash: digest(&self.request_sha256)
                .map_err(|why| format!("request_sha256 {why}"))?
                .to_vec(),
            trace_id: Some(self.trace_id).filter(|id| !id.is_empty()),
            caller: self.caller,
            method: self.method,
            resources: self.resources,
            written: self.written_count,
            refused: self.refused_count,
        };
        let hash = digest(&self.hash).map_err(|why| format!("hash {why}"))?;
        let seq = self.seq;
        Ok((entry, Head { seq, hash }))
    }
}

fn uuid(text: &str, field: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| format!("{field} holds no UUID"))
}

/// A time to the microsecond: of more the hash would know nothing.
fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text).ok();
    time.map(|time| time.to_utc())
        .filter(|time| time.timestamp_subsec_nanos() % 1_000 == 0)
        .ok_or_else(|| "create_time is no time to the microsecond".to_owned())
}

/// A hash in hexadecimal digits.
pub fn digest(text: &str) -> Result<[u8; 32], &'static str> {
    let bytes = hex::decode(text).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or("is not 64 hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use anklang_domain::audit::{BEGINNING, Known};

    use super::super::part::Part;
    use super::*;
    use crate::cli::client::text::{clean, clean_json};

    fn sealed() -> pb::AuditEntry {
        let mut wired = pb::AuditEntry {
            name: "auditEntries/01930000-0000-7000-8000-000000000002".into(),
            tenant_uid: "01930000-0000-7000-8000-000000000001".into(),
            create_time: Some(prost_types::Timestamp {
                seconds: 1_795_000_000,
                nanos: 123_456_000,
            }),
            caller: "tokens/crm".into(),
            method: "/anklang.customers.v1.CustomerService/UpdateCustomer".into(),
            resources: vec!["customers/4711".into()],
            request_sha256: "07".repeat(32),
            written_count: Some(0),
            seq: 1,
            hash: "00".repeat(32),
            ..Default::default()
        };
        let read = Line::of(wired.clone()).expect("a time").read();
        let (entry, _) = read.expect("an entry");
        wired.hash = hex::encode(BEGINNING.followed_by(&entry).hash);
        wired
    }

    fn json(entry: pb::AuditEntry) -> String {
        serde_json::to_string(&Line::of(entry).expect("a time")).expect("JSON")
    }

    #[test]
    fn a_line_says_all_that_is_sealed() {
        let text = json(sealed());
        let (entry, head) = Line::parse(&text).expect("an entry");
        assert_eq!(BEGINNING.followed_by(&entry), head);
        assert_eq!((entry.request_id, entry.trace_id), (None, None));
        assert_eq!((entry.written, entry.refused), (Some(0), None));
        assert!(
            text.contains("\"create_time\":\"2026-11-18T11:06:40.123456Z\""),
            "{text}"
        );
        assert!(!text.contains('\n'));
    }

    #[test]
    fn whatever_is_changed_in_a_line_is_found() {
        let text = json(sealed());
        let found = |text: &str| Part::new(None, Known::default()).look(Line::parse(text));
        assert_eq!(found(&text), Ok(()));
        for (old, new) in [
            ("crm", "erp"),
            ("4711", "4712"),
            (".123456Z", ".123457Z"),
            (".123456Z", ".1234561Z"),
            (
                "\"request_id\":\"\"",
                "\"request_id\":\"01930000-0000-7000-8000-000000000003\"",
            ),
            ("\"request_id\":\"\"", "\"request_id\":\"x\""),
            ("\"trace_id\":\"\"", "\"trace_id\":\" \""),
            ("\"written_count\":0", "\"written_count\":1"),
            ("\"written_count\":0", "\"written_count\":null"),
            ("\"refused_count\":null", "\"refused_count\":0"),
            ("0707", "0708"),
            ("{", "{\"more\":1,"),
            ("{", ""),
        ] {
            assert!(text.contains(old), "{old}: {text}");
            let why = found(&text.replacen(old, new, 1)).expect_err(new);
            assert!(why.starts_with("entry 1: changed"), "{why}");
        }
    }

    #[test]
    fn what_a_file_says_does_nothing_to_a_terminal() {
        let of = pb::AuditEntry {
            caller: "a\u{9b}2J\u{202e}".into(),
            ..sealed()
        };
        let text = clean_json(&json(of.clone()));
        assert!(text.contains("\"a\\u009b2J\\u202e\""), "{text}");
        let read = serde_json::from_str::<Line>(&text).expect("a line");
        assert_eq!(read, Line::of(of).expect("a time"));

        // A key of the file's own.
        let odd = text.replacen('{', "{\"\u{9b}2J\":1,", 1);
        let why = Part::new(None, Known::default())
            .look(Line::parse(&odd))
            .expect_err("changed");
        assert!(!clean(&why).contains('\u{9b}'), "{why}");
        assert!(why.contains('\u{9b}'), "it is told: {why}");
    }
}
