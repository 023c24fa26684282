//! The sections `handover` and `keys`.

use std::time::Duration;

use anklang_domain::handover::RetryPolicy;
use anklang_domain::handover::address::Rules;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;

use super::Reader;
use crate::seal::{MAX_KEY_ID, SealingKey};

/// How events are handed over.
#[derive(Debug, Clone)]
pub struct HandoverConfig {
    /// What may be connected to.
    pub rules: Rules,
    /// Webhooks at the same time.
    pub webhooks: usize,
    /// Calls to one webhook at the same time.
    pub calls: usize,
    /// How long a call may take.
    pub timeout: Duration,
    /// How often to look for due deliveries.
    pub poll: Duration,
    /// How often and when to try again.
    pub retry: RetryPolicy,
    /// A webhook that has taken nothing for so long is shown as failing.
    pub failing_after: TimeDelta,
    /// What was delivered is kept for so long.
    pub retention: TimeDelta,
}

impl Reader {
    pub(super) fn handover(&mut self) -> Option<HandoverConfig> {
        let allow_http = self.flag("handover.allow_http");
        let allowed = self.networks("handover.allow_networks");
        let webhooks = self.whole("handover.webhooks", 1..=1_000);
        let calls = self.whole("handover.calls", 1..=64);
        let timeout = self.whole("handover.timeout_seconds", 1..=600);
        let poll = self.whole("handover.poll_milliseconds", 10..=60_000);
        let attempts = self.whole("handover.attempts", 1..=100);
        let first = self.whole("handover.first_retry_milliseconds", 10..=3_600_000);
        let longest = self.whole("handover.longest_retry_seconds", 1..=86_400);
        let failing_after = self.whole("handover.failing_after_seconds", 0..=604_800);
        let retention = self.whole("handover.retention_days", 1..=3_650);
        let signed = |n: u64| i64::try_from(n).ok();
        Some(HandoverConfig {
            rules: Rules {
                allow_http: allow_http?,
                allowed,
            },
            webhooks: usize::try_from(webhooks?).ok()?,
            calls: usize::try_from(calls?).ok()?,
            timeout: Duration::from_secs(timeout?),
            poll: Duration::from_millis(poll?),
            retry: RetryPolicy {
                attempts: i32::try_from(attempts?).ok()?,
                first: TimeDelta::milliseconds(signed(first?)?),
                longest: TimeDelta::seconds(signed(longest?)?),
            },
            failing_after: TimeDelta::seconds(signed(failing_after?)?),
            retention: TimeDelta::days(signed(retention?)?),
        })
    }

    fn networks(&mut self, path: &str) -> Vec<ipnet::IpNet> {
        let words = self.words(path);
        let read = words.into_iter().enumerate().filter_map(|(i, word)| {
            let parsed = word
                .parse()
                .map_err(|_| "must be a network, e.g. 10.1.0.0/16 or fd00::/8");
            self.violations.check(format!("{path}[{i}]"), parsed)
        });
        read.collect()
    }

    pub(super) fn sealing(&mut self) -> Vec<SealingKey> {
        let path = "keys.sealing";
        let mut keys: Vec<SealingKey> = Vec::new();
        for (i, word) in self.words(path).into_iter().enumerate() {
            let Some(key) = sealing_key(&word) else {
                self.violations.add(
                    format!("{path}[{i}]"),
                    "must be an id (1 to 32 of a–z, 0–9 and hyphens), a colon and the base64 of 32 bytes",
                );
                continue;
            };
            if key.id == DATABASE_KEY || keys.iter().any(|k| k.id == key.id) {
                self.violations
                    .add(format!("{path}[{i}]"), "has an id that is taken");
            }
            keys.push(key);
        }
        keys
    }
}

/// Id of the key that lies in the database.
pub const DATABASE_KEY: &str = "database";

fn sealing_key(word: &str) -> Option<SealingKey> {
    let (id, key) = word.split_once(':')?;
    let fits = (1..=MAX_KEY_ID).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let key: [u8; 32] = BASE64_STANDARD.decode(key.trim()).ok()?.try_into().ok()?;
    fits.then(|| SealingKey { id: id.into(), key })
}
