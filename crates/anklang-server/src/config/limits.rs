//! The section `server.limits`, and `server.cors_origins`.

use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::Reader;

/// Connections of callers.
#[derive(Debug, Clone)]
pub struct ConnectionsConfig {
    /// So many at the same time.
    pub connections: usize,
    /// Calls at the same time on one.
    pub streams: u32,
    /// The most bytes of the headers of a call.
    pub header_bytes: u32,
    /// How long a handshake, and then the head of a request, may take.
    pub header_time: Duration,
    /// How often to look whether the other side is still there.
    pub ping: Option<Duration>,
    /// How long it may take to say so.
    pub pong: Duration,
    /// How long one takes calls.
    pub age: Option<Duration>,
}

/// So many at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce {
    /// Calls that answer as soon as they can.
    pub calls: usize,
    /// Streams, and calls that wait.
    pub streams: usize,
}

/// What is taken of callers.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Calls of a tenant in a second; 0 for no limit.
    pub requests_per_second: u32,
    /// So many of them at once after a pause.
    pub burst: u32,
    /// Of each tenant.
    pub of_each: AtOnce,
    /// Of all tenants together.
    pub in_total: AtOnce,
    /// Bytes of answers that lie in memory because nobody has taken them: of each tenant.
    pub untaken_of_each: usize,
    /// The same of all tenants together.
    pub untaken_in_total: usize,
    /// The most bytes of a message of a request.
    pub message_bytes: usize,
    /// How long a call may take that is no stream.
    pub longest_call: Duration,
}

impl Reader {
    pub(super) fn limits(&mut self) -> Option<(ConnectionsConfig, LimitsConfig)> {
        let mut whole = |key: &str, range| self.whole(&path(key), range);
        let connections = whole("connections", 1..=1_000_000);
        let streams_per_connection = whole("streams_per_connection", 1..=10_000);
        let header_bytes = whole("header_bytes", 8_192..=1_048_576);
        let header_time = whole("header_seconds", 1..=600);
        let ping = whole("keepalive_seconds", 0..=86_400);
        let pong = whole("keepalive_timeout_seconds", 1..=600);
        let age = whole("connection_age_seconds", 0..=604_800);
        let rate = whole("requests_per_second", 0..=1_000_000);
        let burst = whole("burst", 1..=1_000_000);
        let calls = whole("concurrent_requests", 1..=1_000_000);
        let streams = whole("streams", 1..=1_000_000);
        let all_calls = whole("total_concurrent_requests", 1..=1_000_000);
        let all_streams = whole("total_streams", 1..=1_000_000);
        let untaken = whole("untaken_bytes", 1 << 20..=1 << 40);
        let all_untaken = whole("total_untaken_bytes", 1 << 20..=1 << 40);
        // A part of an import has a MiB and what is around it.
        let message_bytes = whole("message_bytes", 2 << 20..=64 << 20);
        let longest_call = whole("longest_call_seconds", 1..=86_400);
        let mut fits = true;
        for (one, all, key) in [
            (calls, all_calls, "concurrent_requests"),
            (streams, all_streams, "streams"),
            (untaken, all_untaken, "untaken_bytes"),
        ] {
            if one.zip(all).is_some_and(|(one, all)| one > all) {
                let why = format!("of one tenant must not be more than total_{key}");
                self.violations.add(path(key), why);
                fits = false;
            }
        }
        let number = |n: u64| u32::try_from(n).ok();
        let size = |n: u64| usize::try_from(n).ok();
        let seconds = |n: u64| (n > 0).then(|| Duration::from_secs(n));
        let connections = ConnectionsConfig {
            connections: size(connections?)?,
            streams: number(streams_per_connection?)?,
            header_bytes: number(header_bytes?)?,
            header_time: Duration::from_secs(header_time?),
            ping: seconds(ping?),
            pong: Duration::from_secs(pong?),
            age: seconds(age?),
        };
        let limits = LimitsConfig {
            requests_per_second: number(rate?)?,
            burst: number(burst?)?,
            of_each: AtOnce {
                calls: size(calls?)?,
                streams: size(streams?)?,
            },
            in_total: AtOnce {
                calls: size(all_calls?)?,
                streams: size(all_streams?)?,
            },
            untaken_of_each: size(untaken?)?,
            untaken_in_total: size(all_untaken?)?,
            message_bytes: size(message_bytes?)?,
            longest_call: Duration::from_secs(longest_call?),
        };
        fits.then_some((connections, limits))
    }

    /// Origins as browsers write them.
    pub(super) fn cors_origins(&mut self) -> Vec<HeaderValue> {
        let path = "server.cors_origins";
        let words = self.words(path).into_iter().enumerate();
        let mut origins = Vec::new();
        for (i, word) in words {
            match origin(&word) {
                Some(origin) => origins.push(origin),
                None => self.violations.add(
                    format!("{path}[{i}]"),
                    "must be an origin as browsers send it: https://app.example.com, with the port if it is \
                     another, and without a path",
                ),
            }
        }
        origins
    }
}

fn path(key: &str) -> String {
    format!("server.limits.{key}")
}

fn origin(text: &str) -> Option<HeaderValue> {
    let url = Url::parse(text).ok()?;
    let is_one =
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text;
    is_one.then(|| HeaderValue::from_str(text).ok()).flatten()
}
