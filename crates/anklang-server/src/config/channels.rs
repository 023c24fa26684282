//! The section `channels`.

use std::time::Duration;

use anklang_domain::inbound::StopWords;
use anklang_domain::message::lookup_waits;
use chrono::TimeDelta;

use super::Reader;

/// What comes back from channels.
#[derive(Debug, Clone)]
pub struct ChannelsConfig {
    /// Requests of providers that are worked on at the same time for one account.
    pub callbacks: usize,
    /// How long one of them may take.
    pub callback_time: Duration,
    /// Reports that belong to no message are kept for so long.
    pub unmatched: TimeDelta,
    /// The waits before lookups of an ambiguous message; at least one.
    pub lookup_waits: Vec<TimeDelta>,
    /// Texts that ask for no more messages.
    pub stop_words: StopWords,
}

impl Reader {
    pub(super) fn channels(&mut self) -> Option<ChannelsConfig> {
        let callbacks = self.whole("channels.callbacks", 1..=1_000);
        let callback_time = self.whole("channels.callback_seconds", 1..=300);
        let unmatched = self.whole("channels.unmatched_hours", 1..=8_760);
        let first = self.whole("channels.first_lookup_milliseconds", 10..=86_400_000);
        let lookups = self.whole("channels.lookups", 1..=50);
        let words = self.words("channels.stop_words");
        let stop_words = match StopWords::new(words.iter().map(|word| &word[..])) {
            Ok(words) => Some(words),
            Err(wrong) => {
                for (i, why) in wrong {
                    self.violations
                        .add(format!("channels.stop_words[{i}]"), why.to_string());
                }
                None
            }
        };
        let first = TimeDelta::milliseconds(i64::try_from(first?).ok()?);
        Some(ChannelsConfig {
            callbacks: usize::try_from(callbacks?).ok()?,
            callback_time: Duration::from_secs(callback_time?),
            unmatched: TimeDelta::hours(i64::try_from(unmatched?).ok()?),
            lookup_waits: lookup_waits(first, usize::try_from(lookups?).ok()?),
            stop_words: stop_words?,
        })
    }
}
